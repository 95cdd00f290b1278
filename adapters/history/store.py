"""The history's file: one writer thread behind a bounded queue, on a database of its own.

Rule: `keep` never waits. What does not fit, or cannot be written, is shed and counted; the audit
and the radios do not notice. `synchronous=NORMAL`: the last moments may go with the power, the
file stays whole. Positions are personal data: mode 0600, purged after `keep_days`, in steps between
the rows that come. A file that is damaged is moved aside, kept for as long, and begun anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from gateway.alarm_rules import COVERT
from gateway.messages import AlarmChanged, Event, UnitFix
from gateway.ports import Meter
from gateway.settings import HistorySection

GROUP = 512
"""Rows a transaction."""
GATHER_S = 0.2
"""How long the writer lets rows gather: nobody waits for them."""
PURGE_EVERY_S = 3600.0
PURGE_STEP = 2000
"""Rows a transaction of a purge: what comes meanwhile is written between two steps."""
REOPEN_S = 5.0
"""What could not be written is tried again after so long; until then events are shed at once."""
CLOSE_S = 5.0
DAY_MS = 86_400_000
ASIDE = ".broken"
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "busy_timeout=2000")

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("type", String(20), nullable=False),
    Column("terminal", String(8), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("ix_events_at", "at_ms"),
    Index("ix_events_terminal", "terminal", "at_ms"),
)


def moment_of(each: Event) -> int:
    """When it happened, ms: receipt for a fix, its own moment for the rest."""
    for name in ("received_at_ms", "t_ms", "opened_ms", "since_ms"):
        at_ms = getattr(each, name, None)
        if at_ms is not None:
            return int(at_ms)
    raise TypeError(type(each).__name__)


class HistoryStore:
    """gateway.ports.History. `keep` belongs to the event loop."""

    def __init__(
        self,
        section: HistorySection,
        *,
        path: Path,
        meter: Meter,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path = path
        self._limit = section.queue
        self._keep_ms = section.keep_days * DAY_MS
        self._meter = meter
        self._wall_ms = wall_ms
        self._waiting: deque[Event] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._engine: Engine | None = None
        self._purging = False
        self._truncate_due = False
        self._purge_at_s = 0.0
        self._reopen_at_s = 0.0
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    # ----------------------------------------------------------------- the loop's side

    def keep(self, event: Event) -> None:
        """Never waits; sheds and counts what does not fit. That something was withheld from a
        radio is not kept: it is for supervisors, and the audit has it."""
        if isinstance(event, AlarmChanged) and event.rule == COVERT:
            return
        if self._closing or len(self._waiting) >= self._limit:
            self._meter.count("queue_dropped_total", queue="history", reason="full")
            return
        self._waiting.append(event)
        if len(self._waiting) >= GROUP:
            self._wake.set()

    async def close(self) -> None:
        """Write what waits, then let go."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    # ----------------------------------------------------------------- the writer's side

    def _work(self) -> None:
        connection: Connection | None = None
        while True:
            closing = self._closing
            connection = self._write(connection)
            connection = self._purge_when_due(connection)
            if closing and not self._waiting:
                break
            if not closing:
                self._wake.wait(0 if self._purging else GATHER_S)
                self._wake.clear()
        if connection is not None:
            connection.close()
        if self._engine is not None:
            self._engine.dispose()

    def _write(self, connection: Connection | None) -> Connection | None:
        """Everything that waits, in groups; None when the file cannot be written now."""
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            rows = self._rows(group)
            if not rows:
                continue
            try:
                connection = connection or self._open()
                with connection.begin():
                    connection.execute(insert(events), rows)
            except (DBAPIError, OSError) as error:
                self._meter.count(
                    "queue_dropped_total", len(rows), queue="history", reason="unavailable"
                )
                self._give_up(connection, error)
                connection = None
        return connection

    def _rows(self, group: list[Event]) -> list[dict[str, Any]]:
        """One that cannot be written down costs itself, not the others and not this thread."""
        rows = []
        for each in group:
            try:
                rows.append(_row(each))
            except (TypeError, ValueError, msgspec.MsgspecError):
                self._meter.count("queue_dropped_total", queue="history", reason="unreadable")
        return rows

    def _open(self) -> Connection:
        """Raises OSError, DBAPIError."""
        if time.monotonic() < self._reopen_at_s:
            raise OSError("not yet")
        if self._engine is None:
            self._engine = _engine(self._path)
        # Before SQLite does: its companions (-wal, -shm) take over the mode of the file.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)
        connection = self._engine.connect()
        try:
            metadata.create_all(connection)
            connection.commit()
        except DBAPIError:
            connection.close()
            raise
        return connection

    def _give_up(self, connection: Connection | None, error: Exception) -> None:
        """Let go of the file for a while; one that is damaged is moved out of the way."""
        now_s = time.monotonic()
        if now_s >= self._reopen_at_s:
            self._reopen_at_s = now_s + REOPEN_S
        if connection is not None:
            connection.invalidate()
            connection.close()
        if isinstance(error, DBAPIError) and _is_damaged(error):
            if self._engine is not None:
                self._engine.dispose()
            for end in ("-wal", "-shm", ""):
                with contextlib.suppress(OSError):
                    os.replace(f"{self._path}{end}", f"{self._path}{ASIDE}{end}")
            self._reopen_at_s = 0.0

    def _purge_when_due(self, connection: Connection | None) -> Connection | None:
        """A step of what is due; None when the file cannot be written now."""
        now_s = time.monotonic()
        if not self._purging and now_s < self._purge_at_s:
            return connection
        if connection is None and not self._path.exists():
            return None
        self._purge_at_s = now_s + PURGE_EVERY_S
        # What would grow too old before the next purge goes in this one.
        old_ms = self._wall_ms() - self._keep_ms + round(PURGE_EVERY_S * 1000)
        self._purge_aside(old_ms)
        try:
            connection = connection or self._open()
            with connection.begin():
                old = select(events.c.seq).where(events.c.at_ms < old_ms).limit(PURGE_STEP)
                these = events.c.seq.in_(old)
                # Emptied where they lie: SQLite overwrites what it deletes, but not the places
                # from which it moved a row to another page while it closed the gaps.
                blank = func.zeroblob(func.length(events.c.body))
                connection.execute(update(events).where(these).values(body=blank))
                gone = connection.execute(delete(events).where(these)).rowcount
            more = gone == PURGE_STEP
            self._truncate_due = self._truncate_due or gone > 0
            if self._truncate_due and not more:
                self._truncate_due = not self._truncate(connection)
                if self._truncate_due:
                    self._purge_at_s = now_s + REOPEN_S
        except (DBAPIError, OSError) as error:
            self._purging = False
            self._purge_at_s = now_s + REOPEN_S
            self._give_up(connection, error)
            return None
        self._purging = more
        self._meter.count("purged_items_total", gone, kind="location")
        return connection

    def _truncate(self, connection: Connection) -> bool:
        """No copy of what was purged may stay in the write-ahead log, nor come back with it after a
        power cut: SQLite does not sync its length. False: a reader is in the way."""
        said = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.rollback()
        if said is None or said[0]:
            return False
        handle = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return True

    def _purge_aside(self, old_ms: int) -> None:
        """A damaged file cannot be purged by row: it goes as a whole when its time is over."""
        for end in ("-wal", "-shm", ""):
            aside = Path(f"{self._path}{ASIDE}{end}")
            with contextlib.suppress(OSError):
                if aside.stat().st_mtime * 1000 < old_ms:
                    aside.unlink()


def _is_damaged(error: DBAPIError) -> bool:
    name = getattr(error.orig, "sqlite_errorname", None) or ""
    return name.startswith(DAMAGED)


def _row(each: Event) -> dict[str, Any]:
    type_ = "unit.fix" if isinstance(each, UnitFix) else str(each.__struct_config__.tag)
    return {
        "at_ms": moment_of(each),
        "type": type_,
        "terminal": getattr(each, "terminal", ""),
        "body": msgspec.json.encode(each),
    }


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _record: Any) -> None:
        cursor = dbapi.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def open_store(section: HistorySection, *, state_dir: Path, meter: Meter) -> HistoryStore:
    """The file is opened by the writer, with the first event."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return HistoryStore(section, path=state_dir / "history.db", meter=meter)
