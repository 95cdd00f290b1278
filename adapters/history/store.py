"""The history's file: one writer thread behind a bounded queue, on a database of its own.

Rule: `keep` never waits. What does not fit, or cannot be written, is shed and counted; the audit
and the radios do not notice. `synchronous=NORMAL`: the last moments may go with the power, the
file stays whole. Positions are personal data: mode 0600, purged after `keep_days`.
"""

from __future__ import annotations

import asyncio
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
    insert,
)
from sqlalchemy.exc import DBAPIError

from gateway.messages import Event, UnitFix
from gateway.ports import Meter
from gateway.settings import HistorySection

GROUP = 512
"""Rows a transaction."""
GATHER_S = 0.2
"""How long the writer lets rows gather: nobody waits for them."""
PURGE_EVERY_S = 3600.0
REOPEN_S = 5.0
CLOSE_S = 5.0
DAY_MS = 86_400_000
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
        self._purged_at_s: float | None = None
        self._reopen_at_s = 0.0
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    # ----------------------------------------------------------------- the loop's side

    def keep(self, event: Event) -> None:
        """Never waits; sheds and counts what does not fit."""
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
            if connection is not None:
                self._purge_when_due(connection)
            if closing and not self._waiting:
                break
            if not closing:
                self._wake.wait(GATHER_S)
                self._wake.clear()
        if connection is not None:
            connection.close()
        if self._engine is not None:
            self._engine.dispose()

    def _write(self, connection: Connection | None) -> Connection | None:
        """Everything that waits, in groups; None when the file cannot be written now."""
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            try:
                connection = connection or self._open()
                with connection.begin():
                    connection.execute(insert(events), [_row(each) for each in group])
            except (DBAPIError, OSError):
                self._meter.count(
                    "queue_dropped_total", len(group), queue="history", reason="unavailable"
                )
                if connection is not None:
                    connection.invalidate()
                    connection.close()
                connection = None
        return connection

    def _open(self) -> Connection:
        now_s = time.monotonic()
        if now_s < self._reopen_at_s:
            raise OSError("not yet")
        self._reopen_at_s = now_s + REOPEN_S
        if self._engine is None:
            self._engine = _engine(self._path)
        connection = self._engine.connect()
        metadata.create_all(connection)
        connection.commit()
        self._path.chmod(0o600)
        self._reopen_at_s = 0.0
        return connection

    def _purge_when_due(self, connection: Connection) -> None:
        now_s = time.monotonic()
        if self._purged_at_s is not None and now_s - self._purged_at_s < PURGE_EVERY_S:
            return
        self._purged_at_s = now_s
        try:
            with connection.begin():
                old = self._wall_ms() - self._keep_ms
                gone = connection.execute(delete(events).where(events.c.at_ms < old)).rowcount
            if gone:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.rollback()
        except DBAPIError:
            return
        self._meter.count("purged_items_total", gone, kind="location")


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
