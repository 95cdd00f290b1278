"""How the event loop bears up: how late it runs what is due, and how many tasks it carries."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from gateway.ports import Journal, Meter

PERIOD_S = 0.1
BLOCKED_S = 0.25
"""So late is worth a line in the journal."""
COUNT_EVERY = 10
"""Rounds. To count tasks the library walks over all of them: 0.4 ms for 1,500."""


class LoopLag:
    """Sleeps and looks how much longer it slept. It measures the real loop, hence its own clock.

    `run` is a task for its owner to keep and cancel.
    """

    def __init__(
        self,
        meter: Meter,
        journal: Journal,
        *,
        now_s: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._meter = meter
        self._journal = journal
        self._now_s = now_s
        self._sleep = sleep

    async def run(self) -> None:
        """For ever: `event_loop_lag_seconds`, `loop.blocked` when it was long, and `tasks`."""
        now_s = self._now_s or asyncio.get_running_loop().time
        for round_ in itertools.count():
            if round_ % COUNT_EVERY == 0:
                self._meter.gauge("tasks", len(asyncio.all_tasks()))
            due_s = now_s() + PERIOD_S
            await self._sleep(PERIOD_S)
            lag_s = max(0.0, now_s() - due_s)
            self._meter.observe("event_loop_lag_seconds", lag_s)
            if lag_s >= BLOCKED_S:
                self._journal.warn("loop.blocked", lag_ms=round(lag_s * 1000))
