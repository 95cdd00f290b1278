"""A ledger in memory: all or nothing, refuses twins, and can be full, slow, stalled or broken.

It passes the contract suite of the real ones (tests/contracts/test_ledger.py). What it holds lies
in a `Disk`, apart from it, so that a test can throw the process away and start another on the same
disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.errors import DuplicateCheck, DuplicateReceipt, LedgerFatal, LedgerUnavailable
from gateway.messages import AlarmChanged, Issi
from gateway.ports import (
    Change,
    CheckRow,
    DropKept,
    DropOutbox,
    KeptRow,
    OutboxRow,
    PutAlarm,
    PutCheck,
    PutKept,
    PutOutbox,
    Record,
)

DAY_MS = 86_400_000


class Disk:
    """What survives a crash: exactly what was committed, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.checks: dict[str, CheckRow] = {}
        self.outbox: dict[str, OutboxRow] = {}
        self.alarms: dict[str, AlarmChanged] = {}
        self.kept: dict[tuple[str, str], KeptRow] = {}
        self._given: dict[str, str] = {}
        """Receipt -> check, also of those that are gone."""

    def of(self, check: str) -> list[str]:
        """The events on record of one check, in order."""
        return [record.event for record in self.records if record.check == check]

    def write(self, records: Sequence[Record], changes: Sequence[Change]) -> None:
        """All of it, or DuplicateCheck or DuplicateReceipt and none of it."""
        for change in changes:
            if isinstance(change, PutCheck):
                self._refuse_twin(change.row)
        given = dict(self._given)
        for change in changes:
            if isinstance(change, PutCheck):
                new = change.row.id not in self.checks
                if given.setdefault(change.row.receipt, change.row.id) != change.row.id and new:
                    raise DuplicateReceipt
        self._given = given
        for record in records:
            if record.receipt and record.check:
                self._given.setdefault(record.receipt, record.check)
        self.records += records
        for change in changes:
            match change:
                case PutCheck(row):
                    self.checks[row.id] = row
                case PutOutbox(row):
                    self.outbox[row.id] = row
                case DropOutbox(id_):
                    self.outbox.pop(id_, None)
                case PutAlarm(alarm, True):
                    self.alarms[alarm.id] = alarm
                case PutAlarm(alarm, False):
                    self.alarms.pop(alarm.id, None)
                case PutKept(each):
                    self.kept[each.kind, each.id] = each
                case DropKept(kind, id_):
                    self.kept.pop((kind, id_), None)

    def _refuse_twin(self, new: CheckRow) -> None:
        if new.id in self.checks:
            return
        for row in self.checks.values():
            young = new.opened_at_ms - row.opened_at_ms < DAY_MS
            if row.id != new.id and row.dedupe == new.dedupe and young:
                raise DuplicateCheck(row.id)


class FakeLedger:
    """gateway.ports.Ledger over a Disk.

    down: every commit (and read) is LedgerUnavailable. broken: every commit is LedgerFatal.
    gate: while cleared, commits wait before they write. reads_down: reads alone are refused.
    fail_next: so many commits are refused, then it works again. wrote: told after each commit.
    """

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk if disk is not None else Disk()
        self.down = False
        self.reads_down = False
        self.broken = False
        self.fail_next = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.wrote: Callable[[Sequence[Record]], None] = lambda _records: None
        self.closed = False
        self._turn = asyncio.Lock()

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        """One writer: in the order of the calls."""
        async with self._turn:
            await self._commit(records, changes)

    async def _commit(self, records: Sequence[Record], changes: Sequence[Change]) -> None:
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.broken:
            raise LedgerFatal("broken")
        if self.down:
            raise LedgerUnavailable("down")
        if self.fail_next > 0:
            self.fail_next -= 1
            raise LedgerUnavailable("once")
        self.disk.write(records, changes)
        self.wrote(records)

    async def _read(self) -> None:
        await asyncio.sleep(0)
        if self.down or self.reads_down:
            raise LedgerUnavailable("down")

    async def open_checks(self) -> list[CheckRow]:
        await self._read()
        return [row for row in self.disk.checks.values() if row.open]

    async def outbox(self) -> list[OutboxRow]:
        await self._read()
        return list(self.disk.outbox.values())

    async def open_alarms(self) -> list[AlarmChanged]:
        await self._read()
        return list(self.disk.alarms.values())

    async def kept(self, kind: str) -> list[KeptRow]:
        await self._read()
        rows = [row for row in self.disk.kept.values() if row.kind == kind]
        return sorted(rows, key=lambda row: (row.at_ms, row.id))

    async def check(self, id_: str) -> CheckRow | None:
        await self._read()
        return self.disk.checks.get(id_)

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        await self._read()
        rows = [row for row in self.disk.checks.values() if row.terminal == terminal]
        rows = [row for row in rows if not short or row.short == short]
        return max(rows, key=lambda row: row.opened_at_ms, default=None)

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        await self._read()
        rows = [
            row
            for row in self.disk.checks.values()
            if row.terminal == terminal and row.opened_at_ms >= since_ms
        ]
        return sorted(rows, key=lambda row: row.opened_at_ms, reverse=True)[:64]

    async def close(self) -> None:
        self.closed = True
