"""Personal content is destroyed at the end of its time: soon after the start, and then each day.

What would grow too old before the next round goes in this one, so that nothing is kept longer than
was said. It cannot be undone: after the wall clock was set, nothing is destroyed for a day, in
which somebody who set it wrongly can set it right. Where it cannot be done (a full disk, a database
that is away) that is said, and it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.ports import Clock, Journal, Meter

FIRST_S = 30.0
"""After the start, when what was left over from before has been dealt with."""
EVERY_S = 24 * 3600.0
AGAIN_S = 600.0
"""When it could not be done."""
DEADLINE_S = 3600.0
"""A million pieces of content take minutes; a disk that hangs takes for ever."""
SET_MS = 60_000
"""What the wall clock is ahead of or behind where it should be when it must have been set."""
DAY_MS = 86_400_000

Purge = Callable[[int], Awaitable[int]]
"""Destroy what is older than this (ms since the epoch), in steps between which others are served;
how many contents there were. Raises LedgerUnavailable, LedgerFatal."""
Overdue = Callable[[int], Awaitable[int]]
"""How many files hold content older than this that no purge reaches."""


class Retention:
    """Purges on and on. fatal: told of an error after which nothing may be written any more."""

    def __init__(
        self,
        purge: Purge,
        overdue: Overdue,
        *,
        keep_days: int,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._purge = purge
        self._overdue = overdue
        self._keep_ms = keep_days * DAY_MS
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._fatal = fatal
        self._trusted_ms = self._seen_ms = self._offset_ms()

    async def run(self) -> None:
        wait_s = FIRST_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = await self.look()

    async def look(self) -> float:
        """One round; how long until the next, s."""
        if not self._clock_stands():
            self._journal.warn("ledger.purge", reason="clock was set")
            return EVERY_S
        before_ms = self._clock.wall_ms() - self._keep_ms + round(EVERY_S * 1000)
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(DEADLINE_S):
                count = await self._purge(before_ms)
                left = await self._overdue(before_ms)
        except (LedgerUnavailable, TimeoutError) as error:
            self._journal.warn("ledger.purge", reason="not done", error=type(error).__name__)
            return AGAIN_S
        except LedgerFatal as error:
            self._journal.warn("ledger.fatal", error=type(error).__name__)
            self._fatal(error)
            return AGAIN_S
        elapsed_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        self._journal.note("ledger.purge", count=count, elapsed_ms=elapsed_ms)
        self._meter.gauge("last_purge_timestamp_seconds", self._clock.wall_ms() / 1000)
        if left:
            self._journal.warn("ledger.purge", reason="moved aside and still here", count=left)
        return EVERY_S

    def _offset_ms(self) -> float:
        return self._clock.wall_ms() - self._clock.monotonic_s() * 1000

    def _clock_stands(self) -> bool:
        """Whether the wall clock goes on as when it was last trusted, or has done so for a round
        since it was set."""
        now_ms, seen_ms = self._offset_ms(), self._seen_ms
        self._seen_ms = now_ms
        if min(abs(now_ms - self._trusted_ms), abs(now_ms - seen_ms)) > SET_MS:
            return False
        self._trusted_ms = now_ms
        return True
