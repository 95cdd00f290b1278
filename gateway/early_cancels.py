"""Cancellations that overtook their question: what was taken back before it came is not asked.

They lie in memory alone. After a crash such a question is asked, as if its cancellation had been
lost on the air: its officer gets an answer that is no longer wanted, and nobody else does.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from gateway.messages import Issi
from gateway.ports import Meter

WINDOW_S = 60.0
"""So long after its cancellation a question is still the one that was meant: references come again.
Longer than any deadline, past which a question that says when it was sent is not asked anyway."""
PER_TERMINAL = 8
MOST = 1024


class EarlyCancels:
    """At most PER_TERMINAL of each terminal and MOST in all; the oldest gives way, and is counted.
    Each takes back one question, of the officer who sent it."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._laid: OrderedDict[tuple[Issi, str], tuple[float, str]] = OrderedDict()
        """When, and who held the terminal; the oldest first."""
        self._of: Counter[Issi] = Counter()

    def lay(self, terminal: Issi, holder: str, ref: str, now_s: float) -> None:
        """A question that nobody knows yet was taken back."""
        self._expire(now_s)
        self._drop((terminal, ref))
        if self._of[terminal] >= PER_TERMINAL:
            self._give_up(next(key for key in self._laid if key[0] == terminal), "terminal_limit")
        elif len(self._laid) >= MOST:
            self._give_up(next(iter(self._laid)), "full")
        self._laid[terminal, ref] = (now_s, holder)
        self._of[terminal] += 1

    def took(self, terminal: Issi, holder: str, names: Iterable[str], now_s: float) -> bool:
        """Whether the question of these names was taken back; a cancellation serves once."""
        if not self._laid:
            return False
        self._expire(now_s)
        for name in names:
            _, whose = self._laid.get((terminal, name), (0.0, None))
            if whose is not None:
                self._drop((terminal, name))
                return whose == holder
        return False

    def __len__(self) -> int:
        return len(self._laid)

    def _expire(self, now_s: float) -> None:
        while self._laid:
            key, (laid_s, _) = next(iter(self._laid.items()))
            if now_s - laid_s <= WINDOW_S:
                return
            self._give_up(key, "expired")

    def _give_up(self, key: tuple[Issi, str], reason: str) -> None:
        self._meter.count("queue_dropped_total", queue="cancel", reason=reason)
        self._drop(key)

    def _drop(self, key: tuple[Issi, str]) -> None:
        if self._laid.pop(key, None) is not None:
            self._of[key[0]] -= 1
            if not self._of[key[0]]:
                del self._of[key[0]]
