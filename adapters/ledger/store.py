"""The ledger as the core knows it: every call is put into the writer's queue and waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, select

from adapters.ledger import rekeying
from adapters.ledger.jobs import Job, Waiting
from adapters.ledger.purging import batch
from adapters.ledger.rows import check_row, kept_row, outbox_row, too_large
from adapters.ledger.schema import alarms, checks, kept, outbox
from adapters.ledger.writer import Writer
from gateway.errors import DuplicateCheck, DuplicateReceipt, LedgerError, LedgerUnavailable
from gateway.messages import AlarmChanged, Issi
from gateway.ports import Change, CheckRow, Clock, Journal, KeptRow, Meter, OutboxRow, Record

CLOSE_S = 5.0
RECENT_MOST = 64

T = TypeVar("T")


class Store:
    """gateway.ports.Ledger. Made by `open_ledger`; every method belongs to the event loop."""

    def __init__(
        self,
        writer: Writer,
        waiting: Waiting,
        *,
        log: str,
        fence: int,
        meter: Meter,
        journal: Journal,
        clock: Clock,
        gap: bool = False,
    ) -> None:
        self.log = log
        self.gap = gap
        """Whether it was opened behind records that are not there (docs/adr/0011)."""
        self.fence = fence
        self._writer = writer
        self._waiting = waiting
        self._meter = meter
        self._journal = journal
        self._clock = clock
        self._thread = threading.Thread(target=writer.run, name="ledger", daemon=True)
        self._thread.start()

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        """Append all records and make all changes, or none. Durable on return."""
        started_s = self._clock.monotonic_s()
        large = too_large(records, changes)
        if large:
            raise LedgerUnavailable(f"{large} is too long")
        await self._submit(Job(tuple(records), tuple(changes)))
        self._meter.observe("audit_write_duration_seconds", self._clock.monotonic_s() - started_s)
        for record in records:
            self._meter.count("audit_records_total", action=record.event)

    async def _submit(self, job: Job) -> Any:
        try:
            self._waiting.put(job)
        except LedgerUnavailable:
            self._meter.count("queue_dropped_total", queue="audit", reason="full")
            raise
        try:
            return await job.future
        except asyncio.CancelledError:
            self._waiting.withdraw(job)
            raise
        except LedgerError as error:
            if not isinstance(error, DuplicateCheck | DuplicateReceipt):
                self._meter.count("audit_write_failures_total")
            raise

    async def _read(self, read: Callable[[Connection], T]) -> T:
        result: T = await self._submit(Job(read=read))
        return result

    async def open_checks(self) -> list[CheckRow]:
        query = select(checks).where(checks.c.open, checks.c.state.is_not(None))
        query = query.order_by(checks.c.opened_at_ms, checks.c.id)
        return await self._read(lambda db: [check_row(row) for row in db.execute(query)])

    async def outbox(self) -> list[OutboxRow]:
        query = select(outbox).order_by(outbox.c.queued_at_ms, outbox.c.id)
        return await self._read(lambda db: [outbox_row(row) for row in db.execute(query)])

    async def open_alarms(self) -> list[AlarmChanged]:
        """One that cannot be read costs itself, loudly: the others must be raised (H13)."""
        query = select(alarms.c.id, alarms.c.record).where(alarms.c.open).order_by(alarms.c.id)
        rows = await self._read(lambda db: [row.record for row in db.execute(query)])
        found = []
        for row in rows:
            try:
                found.append(msgspec.json.decode(row, type=AlarmChanged))
            except msgspec.DecodeError as error:
                self._journal.warn("alarm.unrecorded", error=type(error).__name__)
        return found

    async def kept(self, kind: str) -> list[KeptRow]:
        query = select(kept).where(kept.c.kind == kind).order_by(kept.c.at_ms, kept.c.id)
        return await self._read(lambda db: [kept_row(row) for row in db.execute(query)])

    async def check(self, id_: str) -> CheckRow | None:
        query = select(checks).where(checks.c.id == id_)
        return await self._read(lambda db: _one(db.execute(query).first()))

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        query = select(checks).where(checks.c.terminal == terminal)
        if short:
            query = query.where(checks.c.short == short)
        query = query.order_by(checks.c.opened_at_ms.desc(), checks.c.id.desc()).limit(1)
        return await self._read(lambda db: _one(db.execute(query).first()))

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        query = (
            select(checks)
            .where(checks.c.terminal == terminal, checks.c.opened_at_ms >= since_ms)
            .where(checks.c.state.is_not(None))
            .order_by(checks.c.opened_at_ms.desc(), checks.c.id.desc())
            .limit(RECENT_MOST)
        )
        return await self._read(lambda db: [check_row(row) for row in db.execute(query)])

    async def head(self) -> tuple[int, str]:
        """Sequence and hash of the newest durable record."""
        return await self._read(lambda _db: self._writer.head)

    async def hide_questions(self, keyed: Callable[[str], str]) -> None:
        """Make digests that were written plainly into what `keyed` gives."""
        while await self._submit(Job(work=rekeying.batch(keyed, self._clock.wall_ms()))):
            pass

    async def purge(self, before_ms: int) -> int:
        """Destroy personal content older than this; each step of it is on record with what it
        destroyed, in one transaction. Returns how many contents.

        The chain still verifies: it never held more than H(salt || content). The content is
        overwritten in the file (`secure_delete`) and the write-ahead log is truncated, durably, as
        soon as no reader is in the way. Checks are served between the steps; a purge that was cut
        off goes on with the next one.
        """
        total, more = 0, True
        while more:
            purged = await self._submit(Job(work=batch(before_ms, self._clock.wall_ms())))
            total, more = total + purged.contents, purged.more
        if not await self._read(lambda _db: self._writer.truncate()):
            self._journal.note("ledger.purge", reason="a reader stays: its log is cut off later")
        self._meter.count("purged_items_total", total, kind="content")
        return total

    async def close(self) -> None:
        """Write what was accepted, then let go of the file and the lock."""
        self._waiting.close()
        await asyncio.to_thread(self._thread.join, CLOSE_S)


def _one(row: Any) -> CheckRow | None:
    return None if row is None or row.state is None else check_row(row)
