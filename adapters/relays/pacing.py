"""Which units a relay is to say, and when: each on change, but not again before its time.

A unit is in one of three places: nothing to say; ready; or later, when its time has come. What is
to be said is looked up when it is said, so that news of one that waits already replaces what it
would have said: constant space, bounded by the fleet.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice
from typing import Literal

from gateway.messages import Issi

Replaced = Literal["", "conflated", "shed"]


class Pacing:
    """apart_s: between two words of one unit. Times are monotonic seconds."""

    def __init__(self, apart_s: float) -> None:
        self._apart_s = apart_s
        self._ready: dict[Issi, None] = {}
        self._later: list[tuple[float, Issi]] = []
        self._waiting: set[Issi] = set()
        """Those in `_later`."""
        self._said_at_s: dict[Issi, float] = {}

    def news(self, terminal: Issi, now_s: float) -> Replaced:
        """There is something new of it. What that replaced: `conflated` in the queue of what is
        ready, `shed` while it was not its time; empty when nothing."""
        if terminal in self._ready:
            return "conflated"
        if terminal in self._waiting:
            return "shed"
        due_s = self._said_at_s.get(terminal, now_s - self._apart_s) + self._apart_s
        if due_s <= now_s:
            self._ready[terminal] = None
        else:
            heapq.heappush(self._later, (due_s, terminal))
            self._waiting.add(terminal)
        return ""

    def at_once(self, terminals: Iterable[Issi]) -> None:
        """All of these now, whatever their time."""
        for terminal in terminals:
            self._ready[terminal] = None
        if self._waiting & self._ready.keys():
            self._later = [each for each in self._later if each[1] not in self._ready]
            heapq.heapify(self._later)
            self._waiting = {terminal for _, terminal in self._later}

    def due(self, now_s: float, most: int) -> list[Issi]:
        """Take out whose time it is, those that waited longest first."""
        while self._later and self._later[0][0] <= now_s:
            _, terminal = heapq.heappop(self._later)
            self._waiting.discard(terminal)
            self._ready[terminal] = None
        found = list(islice(self._ready, most))
        for terminal in found:
            del self._ready[terminal]
            self._said_at_s[terminal] = now_s
        return found

    def next_s(self) -> float | None:
        """When the first of those that wait is due; None when none does."""
        return self._later[0][0] if self._later else None

    def forget(self, terminal: Issi) -> None:
        """It is no longer there."""
        self._said_at_s.pop(terminal, None)

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)
