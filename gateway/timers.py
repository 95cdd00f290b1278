"""What is due at a moment, on the injected clock, with one task for all.

A task that sleeps for each check and each question costs more than what it guards: nearly all of
them are called off before they are due (docs/performance.md). Here that is a place in a heap.

Rule: a defect in what is due costs what it was for; the others are still called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from gateway.ports import Clock
from gateway.supervise import Crew, Fault

LEAN = 64
"""So many that were called off may lie in the heap, or as many as there are live ones."""


class Timer:
    """One moment. `cancel` as often as one likes; nothing is called after it."""

    __slots__ = ("_due", "_fault", "_of")

    def __init__(self, of: Timers, due: Callable[[], None], fault: Fault | None) -> None:
        self._of = of
        self._due: Callable[[], None] | None = due
        self._fault = fault

    @property
    def live(self) -> bool:
        return self._due is not None

    def cancel(self) -> None:
        if self._due is not None:
            self._due = self._fault = None
            self._of.called_off()

    def ring(self) -> tuple[Callable[[], None] | None, Fault | None]:
        """What is to be called, once."""
        due, fault = self._due, self._fault
        self._due = self._fault = None
        return due, fault


class Timers:
    """Belongs to one crew, whose end is its end. The task lives while anything is to come."""

    def __init__(self, clock: Clock, crew: Crew) -> None:
        self._clock = clock
        self._crew = crew
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._live = 0
        self._task: asyncio.Task[None] | None = None
        self._until_s = 0.0
        """When the task wakes."""

    def __len__(self) -> int:
        return self._live

    def at(self, moment_s: float, due: Callable[[], None], fault: Fault | None = None) -> Timer:
        """Call `due` at this monotonic moment, or at once if that is over. fault: told of a defect
        in it, as by `Crew.start`."""
        timer = Timer(self, due, fault)
        heappush(self._heap, (moment_s, next(self._numbers), timer))
        self._live += 1
        if self._task is None or moment_s < self._until_s:
            self._begin(moment_s)
        return timer

    def called_off(self) -> None:
        self._live -= 1
        if not self._live:
            self.stop()
        elif len(self._heap) > 2 * self._live + LEAN:
            self._heap = [each for each in self._heap if each[2].live]
            heapify(self._heap)

    def stop(self) -> None:
        """Nothing is called any more."""
        self._heap.clear()
        self._live = 0
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _begin(self, until_s: float) -> None:
        if self._task is not None:
            self._task.cancel()
        self._until_s = until_s
        self._task = self._crew.start(self._run())

    async def _run(self) -> None:
        try:
            while self._heap:
                self._until_s = self._heap[0][0]
                await self._clock.sleep(self._until_s - self._clock.monotonic_s())
                self._ring(self._clock.monotonic_s())
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    def _ring(self, now_s: float) -> None:
        while self._heap and (self._heap[0][0] <= now_s or not self._heap[0][2].live):
            due, fault = heappop(self._heap)[2].ring()
            if due is None:
                continue
            self._live -= 1
            try:
                due()
            except Exception as error:  # noqa: BLE001 - the rule of this module
                self._crew.failed(error, fault)
