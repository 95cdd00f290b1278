"""Questions that a broker brings again: how often we died with each in our hands, counted on disk.

What makes our code fail costs one check; what ends the process comes again with the next life, and
would for ever. So whatever was delivered before is marked before it is tried, one after the other,
that the mark may fall on whom it belongs to. Nothing of this is done for what comes once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway.errors import LedgerUnavailable
from gateway.ports import CheckRow, Clock, Ids, Ledger, PutCheck
from gateway.supervise import Crew

TRIALS_MOST = 2
"""Lives that ended so, besides that of its first delivery: it is not tried again (M13)."""
MARK_MS = 3_600_000
"""A mark that is older says nothing: the same text is typed again."""
TURN_S = 1.0
"""For its turn, and again for its mark: a disk that hangs must not be silence."""


class Trial(msgspec.Struct, frozen=True):
    """In the state column of a row that is no check: lives in a row that did not get through with
    it, and the last that tried."""

    lives: int
    life: str


class Trials:
    def __init__(
        self, *, ledger: Ledger, clock: Clock, ids: Ids, crew: Crew, fatal: Callable[..., None]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._ids = ids
        self._crew = crew
        self._fatal = fatal
        self._life = ""
        self._last: asyncio.Event | None = None

    async def begin(self, key: str) -> tuple[int, Callable[[], None]]:
        """Its turn has come and it is marked: how many lives ended with it, and what to call when
        it is through (the count begins anew). Unmarked, as the ledger is away, it counts none."""
        before, mine = self._last, asyncio.Event()
        self._last = mine
        if before is not None:
            await self._at_most(before.wait())
        lives: list[int] = []
        marked = asyncio.Event()

        async def mark() -> None:
            try:
                lives.append(await self._mark(key))
            except (LedgerUnavailable, msgspec.DecodeError):
                pass  # not counted: better tried once more than put away by mistake
            finally:
                marked.set()

        self._crew.start(mark(), fault=self._fatal)
        await self._at_most(marked.wait())
        died = lives[0] if lives else 0

        def through() -> None:
            mine.set()
            if lives and died < TRIALS_MOST:
                self._crew.start(self._unmark(key), fault=self._fatal)

        return died, through

    async def _mark(self, key: str) -> int:
        row = await self._ledger.check(trial_id(key))
        last = Trial(0, "")
        now_ms = self._clock.wall_ms()
        if row is not None and row.state and abs(now_ms - row.opened_at_ms) < MARK_MS:
            last = msgspec.json.decode(row.state, type=Trial)
        self._life = self._life or self._ids.occurrence()
        marked = last.lives > 0 and last.life == self._life
        died = last.lives - marked
        if died < TRIALS_MOST and not marked:
            await self._ledger.commit([], [PutCheck(self._row(key, died + 1))])
        return died

    async def _unmark(self, key: str) -> None:
        with contextlib.suppress(LedgerUnavailable):
            await self._ledger.commit([], [PutCheck(self._row(key, 0))])

    def _row(self, key: str, lives: int) -> CheckRow:
        """Of no terminal, so that nobody takes it for a check; purged as one."""
        return CheckRow(
            id=trial_id(key),
            short="",
            receipt=key[:16],
            terminal="",
            dedupe=f"trial:{key}",
            opened_at_ms=self._clock.wall_ms(),
            state=msgspec.json.encode(Trial(lives, self._life)),
            open=False,
        )

    async def _at_most(self, work: Coroutine[Any, Any, object]) -> None:
        waits = [asyncio.ensure_future(work), asyncio.ensure_future(self._clock.sleep(TURN_S))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def trial_id(key: str) -> str:
    return f"trial:{key[:48]}"
