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
        self._ready: dict[Issi, bool] = {}
        """-> whether a position is among what is to be said."""
        self._later: list[tuple[float, Issi]] = []
        self._waiting: dict[Issi, bool] = {}
        """Those in `_later`, likewise."""
        self._said_at_s: dict[Issi, float] = {}

    def news(self, terminal: Issi, now_s: float, *, position: bool) -> Replaced:
        """There is something new of it. Which position that replaced: one that was ready
        (`conflated`), one whose time it was not (`shed`), or none."""
        if terminal in self._ready:
            return "conflated" if _replaces(self._ready, terminal, position) else ""
        if terminal in self._waiting:
            return "shed" if _replaces(self._waiting, terminal, position) else ""
        due_s = self._said_at_s.get(terminal, now_s - self._apart_s) + self._apart_s
        if due_s <= now_s:
            self._ready[terminal] = position
        else:
            heapq.heappush(self._later, (due_s, terminal))
            self._waiting[terminal] = position
        return ""

    def at_once(self, terminals: Iterable[Issi]) -> None:
        """All of these now, whatever their time."""
        for terminal in terminals:
            self._ready[terminal] = self._ready.get(terminal, False) or self._waiting.pop(
                terminal, False
            )
        self._later = [each for each in self._later if each[1] in self._waiting]
        heapq.heapify(self._later)

    def due(self, now_s: float, most: int) -> list[Issi]:
        """Take out whose time it is, those that waited longest first."""
        while self._later and self._later[0][0] <= now_s:
            _, terminal = heapq.heappop(self._later)
            self._ready[terminal] = self._waiting.pop(terminal)
        found = list(islice(self._ready, most))
        for terminal in found:
            del self._ready[terminal]
            self._said_at_s[terminal] = now_s
        return found

    def next_s(self) -> float | None:
        """When the first of those that wait is due; None when none does."""
        return self._later[0][0] if self._later else None

    @property
    def ready(self) -> int:
        """How many are to be said now."""
        return len(self._ready)

    def forget(self, terminal: Issi) -> None:
        """It is no longer there, or nothing was to be said of it."""
        self._said_at_s.pop(terminal, None)

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)


def _replaces(waits: dict[Issi, bool], terminal: Issi, position: bool) -> bool:
    had = waits[terminal]
    waits[terminal] = had or position
    return had and position
