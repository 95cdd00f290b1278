"""The one writer: a thread that owns the only read-write connection and commits in groups.

What waits while one transaction is being synced goes into the next one together, so a lone record
costs one sync and a burst costs few. A commit that returns has been synced (SQLite WAL with
`synchronous=FULL`; PostgreSQL `synchronous_commit=on`). Errors are told apart by remedy: what a
fuller disk or a freed lock mends is LedgerUnavailable; what may have broken the promise that
written is durable (EIO, a file deleted under us) is LedgerFatal, and the process must end.

The chain's head (sequence and hash) lives in this thread only; it moves when a transaction is
durable and at no other time.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from adapters.ledger import canonical
from adapters.ledger.schema import (
    alarms,
    audit_content,
    audit_leaf,
    bookings,
    checks,
    meta,
    outbox,
)
from gateway.errors import DuplicateCheck, LedgerError, LedgerFatal, LedgerUnavailable
from gateway.messages import AlarmChanged, Issi
from gateway.ports import (
    BookingRow,
    Change,
    CheckRow,
    Clock,
    DropOutbox,
    Journal,
    Meter,
    OutboxRow,
    PutAlarm,
    PutBooking,
    PutCheck,
    PutOutbox,
    Record,
)

DEDUPE_MS = 24 * 3600 * 1000
INODE_EVERY_S = 5.0
HEADS_EVERY = 1000
CHECKPOINT_PAGES = 1000
CLOSE_S = 10.0
RECENT_MOST = 64
DISK_FULL = ("full", "readonly", "read-only", "locked", "busy", "unable to open")
"""Words of SQLite's messages whose cause may pass by itself."""

T = TypeVar("T")


class _Job:
    """One caller's commit, or one read, and where its end is told."""

    __slots__ = ("changes", "future", "loop", "read", "records")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        records: Sequence[Record] = (),
        changes: Sequence[Change] = (),
        read: Callable[[Connection], Any] | None = None,
    ) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.records = records
        self.changes = changes
        self.read = read

    def done(self, result: Any = None, error: BaseException | None = None) -> None:
        """From the writer thread: tell the caller, if it still waits and its loop still runs."""

        def tell() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)

        try:
            self.loop.call_soon_threadsafe(tell)
        except RuntimeError:
            # The loop is closed: nobody waits any more; what was written stays written.
            return


class Store:
    """gateway.ports.Ledger. Made by `open_ledger`; every method belongs to the event loop."""

    def __init__(
        self,
        engine: Engine,
        connection: Connection,
        *,
        log: str,
        fence: int,
        head: tuple[int, str],
        path: Path | None,
        heads: Path | None,
        queue: int,
        group_rows: int,
        meter: Meter,
        journal: Journal,
        clock: Clock,
        release: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._connection: Connection | None = connection
        self._dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        self.log = log
        self.fence = fence
        self._seq, self._prev = head
        self._path = path
        self._inode = path.stat().st_ino if path else 0
        self._inode_at_s = 0.0
        self._heads = heads
        self._headed = self._seq
        self._limit = queue
        self._group_rows = group_rows
        self._meter = meter
        self._journal = journal
        self._clock = clock
        self._release = release
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._dead: LedgerError | None = None
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    # ----------------------------------------------------------------- the loop's side

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        """Append all records and make all changes, or none. Durable on return."""
        started_s = self._clock.monotonic_s()
        await self._submit(_Job(asyncio.get_running_loop(), tuple(records), tuple(changes)))
        self._meter.observe("audit_write_duration_seconds", self._clock.monotonic_s() - started_s)
        for record in records:
            self._meter.count("audit_records_total", action=record.event)

    async def _submit(self, job: _Job) -> Any:
        with self._wake:
            if self._dead is not None:
                raise self._dead
            if self._closing or len(self._jobs) >= self._limit:
                self._meter.count("queue_dropped_total", queue="audit", reason="full")
                raise LedgerUnavailable("closing" if self._closing else "queue full")
            self._jobs.append(job)
            self._wake.notify()
        try:
            return await job.future
        except LedgerError as error:
            if not isinstance(error, DuplicateCheck):
                self._meter.count("audit_write_failures_total")
            raise

    async def _read(self, read: Callable[[Connection], T]) -> T:
        result: T = await self._submit(_Job(asyncio.get_running_loop(), read=read))
        return result

    async def open_checks(self) -> list[CheckRow]:
        query = select(checks).where(checks.c.open, checks.c.state.is_not(None))
        return await self._read(
            lambda db: [
                _check_row(row) for row in db.execute(query.order_by(checks.c.opened_at_ms))
            ]
        )

    async def outbox(self) -> list[OutboxRow]:
        def read(db: Connection) -> list[OutboxRow]:
            found = db.execute(select(outbox).order_by(outbox.c.queued_at_ms))
            return [_outbox_row(row) for row in found]

        return await self._read(read)

    async def open_alarms(self) -> list[AlarmChanged]:
        def read(db: Connection) -> list[AlarmChanged]:
            found = db.execute(select(alarms.c.record).where(alarms.c.open).order_by(alarms.c.id))
            return [msgspec.json.decode(row.record, type=AlarmChanged) for row in found]

        return await self._read(read)

    async def bookings(self) -> list[BookingRow]:
        def read(db: Connection) -> list[BookingRow]:
            found = db.execute(select(bookings).order_by(bookings.c.terminal))
            return [BookingRow(**row._mapping) for row in found]

        return await self._read(read)

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
        return await self._read(lambda db: [_check_row(row) for row in db.execute(query)])

    async def head(self) -> tuple[int, str]:
        """Sequence and hash of the newest durable record."""
        return await self._read(lambda _db: (self._seq, self._prev))

    async def purge(self, before_ms: int) -> int:
        """Destroy personal content older than this; put the purge on record. Returns how many.

        The chain still verifies: it never held more than H(salt || content). The content is
        overwritten in the file (`secure_delete`) and the write-ahead log is truncated.
        """

        def purge(db: Connection) -> int:
            with db.begin():
                gone = db.execute(
                    delete(audit_content).where(audit_content.c.at_ms < before_ms)
                ).rowcount
                db.execute(
                    update(checks)
                    .where(checks.c.opened_at_ms < before_ms, checks.c.open.is_(False))
                    .values(state=None, result=None, dedupe=None)
                )
            self._checkpoint(db, "TRUNCATE")
            return int(gone)

        count = await self._read(purge)
        self._meter.count("purged_items_total", count, kind="content")
        await self.commit(
            [Record(event="purged", at_ms=self._clock.wall_ms(), detail=f"content: {count} items")]
        )
        return count

    async def close(self) -> None:
        """Write what was accepted, then let go of the file and the lock."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    # ----------------------------------------------------------------- the writer's side

    def _work(self) -> None:
        try:
            while True:
                with self._wake:
                    while not self._jobs and not self._closing:
                        self._wake.wait()
                    if not self._jobs:
                        break
                    group = self._next_group()
                self._serve(group)
        finally:
            self._let_go()

    def _next_group(self) -> list[_Job]:
        """A read alone, or the commits in front of the next read, up to the group's size."""
        group = [self._jobs.popleft()]
        if group[0].read is not None:
            return group
        rows = len(group[0].records)
        while self._jobs and self._jobs[0].read is None and rows < self._group_rows:
            rows += len(self._jobs[0].records)
            group.append(self._jobs.popleft())
        return group

    def _serve(self, group: list[_Job]) -> None:
        try:
            if group[0].read is not None:
                group[0].done(self._look(group[0].read))
                return
            self._commit_group(group)
        except IntegrityError as error:
            if len(group) == 1:
                group[0].done(error=LedgerUnavailable(f"refused: {type(error.orig).__name__}"))
                return
            # One caller's row is refused by a constraint: it must not cost the others theirs.
            for job in group:
                self._serve([job])
        except DBAPIError as error:
            self._failed(group, error)
        except OSError as error:
            self._die(group, f"{error.strerror}")
        except LedgerFatal as error:
            self._die(group, str(error))
        # A defect of ours in the one thread that all wait for: whoever waits must hear of it, and
        # nothing more may be written by a writer that does not know what it did.
        except Exception as error:  # noqa: BLE001
            self._die(group, type(error).__name__)

    def _look(self, read: Callable[[Connection], Any]) -> Any:
        """A read in a transaction of its own: one left open would pin the write-ahead log."""
        db = self._db()
        try:
            return read(db)
        finally:
            if db.in_transaction():
                db.rollback()

    def _db(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._engine.connect()
        return self._connection

    def _commit_group(self, group: list[_Job]) -> None:
        self._check_file()
        db = self._db()
        seq, prev = self._seq, self._prev
        kept: list[_Job] = []
        duplicates: list[tuple[_Job, str]] = []
        leaves: list[dict[str, Any]] = []
        contents: list[dict[str, Any]] = []
        transaction = db.begin()
        try:
            for job in group:
                twin = self._twin(db, job)
                if twin is not None:
                    duplicates.append((job, twin))
                    continue
                for record in job.records:
                    seq += 1
                    leaf, content = self._leaf(record, seq, prev)
                    prev = leaf["hash"]
                    leaves.append(leaf)
                    if content is not None:
                        contents.append(content)
                for change in job.changes:
                    self._apply(db, change)
                kept.append(job)
            if leaves:
                db.execute(insert(audit_leaf), leaves)
            if contents:
                db.execute(insert(audit_content), contents)
        except BaseException:
            transaction.rollback()
            raise
        self._end(transaction, seq)
        self._seq, self._prev = seq, prev
        self._meter.gauge("audit_head_sequence", seq)
        for job in kept:
            job.done()
        for job, twin in duplicates:
            job.done(error=DuplicateCheck(twin))
        self._after_commit(db)

    def _end(self, transaction: Any, seq: int) -> None:
        """Commit. On PostgreSQL a connection lost now leaves us not knowing: look, do not guess."""
        try:
            transaction.commit()
        except OperationalError:
            if self._engine.dialect.name == "sqlite":
                if transaction.is_active:
                    transaction.rollback()
                raise
            self._connection = None
            if self._stored_seq() != seq:
                raise

    def _stored_seq(self) -> int:
        found = self._db().execute(
            select(func.max(audit_leaf.c.seq)).where(audit_leaf.c.log == self.log)
        )
        value = found.scalar()
        self._db().rollback()
        return int(value or 0)

    def _leaf(
        self, record: Record, seq: int, prev: str
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        content: dict[str, Any] | None = None
        commitment = ""
        if record.content is not None:
            salt = secrets.token_bytes(16)
            commitment = canonical.commitment(salt, record.content)
            content = {
                "log": self.log,
                "seq": seq,
                "at_ms": record.at_ms,
                "salt": salt,
                "content": record.content,
            }
        body = canonical.encode(record, log=self.log, seq=seq, prev=prev, commitment_=commitment)
        leaf = {
            "log": self.log,
            "seq": seq,
            "at_ms": record.at_ms,
            "event": record.event,
            "check_id": record.check,
            "receipt": record.receipt,
            "record": body,
            "hash": canonical.digest(body),
        }
        return leaf, content

    def _twin(self, db: Connection, job: _Job) -> str | None:
        """The id of another check with the same dedupe key, younger than 24 h."""
        for change in job.changes:
            if not isinstance(change, PutCheck):
                continue
            row = change.row
            found = db.execute(
                select(checks.c.id, checks.c.opened_at_ms).where(
                    checks.c.dedupe == row.dedupe, checks.c.id != row.id
                )
            ).first()
            if found is None:
                continue
            if row.opened_at_ms - found.opened_at_ms < DEDUPE_MS:
                return str(found.id)
            db.execute(update(checks).where(checks.c.id == found.id).values(dedupe=None))
        return None

    def _apply(self, db: Connection, change: Change) -> None:
        match change:
            case PutCheck(row):
                self._upsert(db, checks, msgspec.structs.asdict(row))
            case PutOutbox(row):
                values = msgspec.structs.asdict(row) | {"fence": self.fence}
                values["check_id"] = values.pop("check")
                self._upsert(db, outbox, values)
            case DropOutbox(id_):
                db.execute(delete(outbox).where(outbox.c.id == id_))
            case PutAlarm(alarm, still_open):
                body = msgspec.json.encode(alarm)
                self._upsert(db, alarms, {"id": alarm.id, "open": still_open, "record": body})
            case PutBooking(booking):
                self._upsert(db, bookings, msgspec.structs.asdict(booking), key="terminal")

    def _upsert(self, db: Connection, table: Any, values: dict[str, Any], key: str = "id") -> None:
        statement = self._dialect.insert(table).values(values)
        changed = {name: statement.excluded[name] for name in values if name != key}
        db.execute(statement.on_conflict_do_update(index_elements=[key], set_=changed))

    def _after_commit(self, db: Connection) -> None:
        if self._seq - self._headed >= HEADS_EVERY:
            self._write_head()
        if self._path is not None and not self._jobs:
            wal = self._path.with_name(self._path.name + "-wal")
            if wal.exists() and wal.stat().st_size > CHECKPOINT_PAGES * 4096:
                self._checkpoint(db, "PASSIVE")

    def _checkpoint(self, db: Connection, how: str) -> None:
        if self._engine.dialect.name == "sqlite":
            # On the driver's own connection: SQLAlchemy would begin a transaction first, and a
            # checkpoint inside one is refused ("database table is locked").
            cursor = db.connection.cursor()
            cursor.execute(f"PRAGMA wal_checkpoint({how})")
            cursor.fetchall()
            cursor.close()

    def _write_head(self) -> None:
        """What an anchor off this host would be given: proves later that nothing was cut off."""
        if self._heads is None or self._seq == self._headed:
            return
        line = msgspec.json.encode({"log": self.log, "seq": self._seq, "hash": self._prev})
        handle = os.open(self._heads, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._headed = self._seq

    def _check_file(self) -> None:
        """A file that was deleted or replaced under us takes what we write with it (D05)."""
        now_s = time.monotonic()
        if self._path is None or now_s - self._inode_at_s < INODE_EVERY_S:
            return
        self._inode_at_s = now_s
        try:
            same = self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            raise LedgerFatal("the ledger's file is not where it was")

    def _failed(self, group: list[_Job], error: DBAPIError) -> None:
        words = str(error.orig).lower()
        if self._connection is not None and not self._connection.closed:
            try:
                self._connection.rollback()
            except DBAPIError:
                self._connection = None
        passing = any(word in words for word in DISK_FULL)
        if self._engine.dialect.name == "sqlite" and not passing:
            self._die(group, type(error.orig).__name__)
            return
        if error.connection_invalidated:
            self._connection = None
        for job in group:
            job.done(error=LedgerUnavailable(type(error.orig).__name__))

    def _die(self, group: list[_Job], why: str) -> None:
        """Never write again, and never say that it may be tried again."""
        fatal = LedgerFatal(why)
        with self._wake:
            self._dead = fatal
            group = [*group, *self._jobs]
            self._jobs.clear()
        for job in group:
            job.done(error=fatal)

    def _let_go(self) -> None:
        try:
            if self._dead is None:
                self._write_head()
            if self._connection is not None:
                self._checkpoint(self._connection, "TRUNCATE")
                self._connection.close()
            self._engine.dispose()
        except (DBAPIError, OSError):
            self._journal.warn("ledger.unavailable", stage="close")
        finally:
            self._release()


def _one(row: Any) -> CheckRow | None:
    return None if row is None or row.state is None else _check_row(row)


def _check_row(row: Any) -> CheckRow:
    values = dict(row._mapping)
    return CheckRow(**(values | {"dedupe": values["dedupe"] or ""}))


def _outbox_row(row: Any) -> OutboxRow:
    values = dict(row._mapping)
    values["check"] = values.pop("check_id")
    return OutboxRow(**values)


def next_fence(db: Connection, log: str) -> int:
    """The writer's epoch: one more than the last writer's, so that an old one can be told apart."""
    key = f"fence:{log}"
    found = db.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
    fence = int(found or 0) + 1
    if found is None:
        db.execute(insert(meta).values(key=key, value=str(fence)))
    else:
        db.execute(update(meta).where(meta.c.key == key).values(value=str(fence)))
    return fence


def head_of(db: Connection, log: str) -> tuple[int, str]:
    """Sequence and hash of a log's newest record; (0, genesis) for an empty one."""
    newest = db.execute(
        select(audit_leaf.c.seq, audit_leaf.c.hash)
        .where(audit_leaf.c.log == log)
        .order_by(audit_leaf.c.seq.desc())
        .limit(1)
    ).first()
    return (int(newest.seq), str(newest.hash)) if newest else (0, canonical.GENESIS)
