"""Whether the audit can be written, seen from every commit that passes.

No check can be asked while it cannot, so the control room must see it at once and ops must see it
once, not once a message; and afterwards the audit itself says how long the gap was (D01, D2).

A disk that hangs fails nothing: what it has may be durable in the end or not, and is waited for.
But what it does not have yet is kept from it: "not written" is then the plain truth (D09).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from gateway.errors import LedgerUnavailable
from gateway.messages import AlarmChanged, Issi
from gateway.ports import Change, CheckRow, Clock, KeptRow, Ledger, OutboxRow, Record

T = TypeVar("T")


class WatchedLedger:
    """gateway.ports.Ledger: the same ledger; `lost` is told of each commit that could not be made.
    Each record says when it was handed over by the clock that nobody sets, and which program and
    configuration it is of (`stamp`).
    A commit that still runs says nothing, but its age shows in `lag_s`; one that is as old as
    `stall_s` makes the ledger stalled, and whatever comes is refused until it is back."""

    def __init__(
        self,
        ledger: Ledger,
        lost: Callable[[], None],
        clock: Clock,
        stall_s: float,
        stamp: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        """stamp: version of the program, digest of the configuration."""
        self._ledger = ledger
        self._lost = lost
        self._clock = clock
        self._stall_s = stall_s
        self._stamp = stamp
        self._running: dict[object, float] = {}

    def lag_s(self) -> float:
        """Age of the oldest commit that waits to be durable; 0 when none does. A disk that hangs
        fails no commit: this is what tells of it."""
        oldest_s = next(iter(self._running.values()), None)
        return 0.0 if oldest_s is None else self._clock.monotonic_s() - oldest_s

    def stalled(self) -> bool:
        """Whether the oldest commit waits for so long that the disk must be taken to hang; then
        that is seen, too. To be asked now and then: a disk that hangs calls nobody."""
        if self.lag_s() < self._stall_s:
            return False
        self._lost()
        return True

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        if self.stalled():
            raise LedgerUnavailable("does not answer")
        running = object()
        self._running[running] = self._clock.monotonic_s()
        try:
            await self._ledger.commit(self._stamped(records), changes)
        except LedgerUnavailable:
            self._lost()
            raise
        finally:
            del self._running[running]

    def _stamped(self, records: Sequence[Record]) -> list[Record]:
        (build, config), mono_ms = self._stamp(), round(self._clock.monotonic_s() * 1000)
        return [
            msgspec.structs.replace(each, mono_ms=mono_ms, build=build, config=config)
            for each in records
        ]

    async def open_checks(self) -> list[CheckRow]:
        return await self._ledger.open_checks()

    async def outbox(self) -> list[OutboxRow]:
        return await self._ledger.outbox()

    async def open_alarms(self) -> list[AlarmChanged]:
        return await self._ledger.open_alarms()

    async def kept(self, kind: str) -> list[KeptRow]:
        return await self._ledger.kept(kind)

    async def check(self, id_: str) -> CheckRow | None:
        return await self._in_time(self._ledger.check(id_))

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        return await self._in_time(self._ledger.last_check(terminal, short))

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        return await self._in_time(self._ledger.recent_checks(terminal, since_ms))

    async def _in_time(self, read: Awaitable[T]) -> T:
        """An officer waits behind this read: nothing is in doubt when it is given up."""
        try:
            async with asyncio.timeout(self._stall_s):
                return await read
        except TimeoutError:
            raise LedgerUnavailable("does not answer") from None

    async def close(self) -> None:
        await self._ledger.close()
