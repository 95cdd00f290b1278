"""Reaching the database as its only writer: engine, pragmas, deadlines, and the lock.

SQLite: a lock file that goes with the process, whatever ends it. PostgreSQL: a session-level
advisory lock; it goes with the connection, so a writer that reconnects takes it again, and one that
was overtaken meanwhile finds a higher fence.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from adapters.ledger.readers import begin_sessions_with, text_of
from adapters.ledger.statements import PREPARED_MOST, run_directly
from gateway.errors import LedgerUnavailable

PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "busy_timeout=2000",
    "wal_autocheckpoint=0",
)
"""Reference settings: reliability-security, section 9. FULL: NORMAL lost acknowledged commits in
787 of 1,000 simulated power cuts, FULL in none. Checkpoints are the writer's, between groups."""
SESSION = (
    "SET statement_timeout = '10s'",
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'",
)
"""Every wait has a deadline; what is acknowledged is on disk, whatever the server's default."""
CONNECT: dict[str, object] = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "radio-gateway",
}
PATIENCE_S = 2.0
"""A daemon that was killed takes its ledger's process along, but not before a sync has ended."""
RETRY_S = 0.01
WRITER_LOCK = 0x7261676C
"""One writer a database: open checks and the outbox are not kept by instance."""


class LockHeld(LedgerUnavailable):
    """Somebody else writes this ledger, or a connection of ours that the server still holds."""


class Access:
    """How this ledger is reached. Holds SQLite's lock from the first moment to `release`."""

    def __init__(self, url: str, path: Path | None, *, patient: bool = False) -> None:
        """patient: wait PATIENCE_S for one whose end is under way."""
        self.path = path
        self._unlock: Callable[[], None] = lambda: None
        if path is not None:
            self._unlock = _lock_file(path, PATIENCE_S if patient else 0.0)
        try:
            self.engine = _sqlite(url) if path else _postgresql(url)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            self._unlock()
            raise LedgerUnavailable(
                f"[ledger] url: cannot be used: {type(error).__name__}; "
                "postgresql+psycopg://user@host/database, or leave it empty"
            ) from error

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def connect(self) -> Connection:
        """A connection that may write. Raises DBAPIError, LockHeld."""
        db = self.engine.connect()
        if self.path is not None:
            return db
        try:
            held = db.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": WRITER_LOCK})
            if not held.scalar():
                raise LockHeld("another daemon writes this database: stop it, or use another")
            db.commit()
        except BaseException:
            db.close()
            raise
        return db

    @contextlib.contextmanager
    def unhurried(self, db: Connection) -> Iterator[None]:
        """PostgreSQL: without the deadline for a statement, for a migration may take its time."""
        if self.path is not None:
            yield
            return
        db.execute(text("SET statement_timeout = 0"))
        db.commit()
        yield
        db.execute(text(SESSION[0]))
        db.commit()

    def release(self) -> None:
        self.engine.dispose()
        self._unlock()


def _sqlite(url: str) -> Engine:
    engine = create_engine(
        url, connect_args={"check_same_thread": False, "cached_statements": PREPARED_MOST}
    )

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _record: Any) -> None:
        # The driver's own transactions would begin late and commit around DDL: we say BEGIN.
        dbapi.isolation_level = None
        dbapi.text_factory = text_of
        cursor = dbapi.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        run_directly(connection, "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: str) -> Engine:
    engine = create_engine(
        url, isolation_level="READ COMMITTED", pool_pre_ping=False, connect_args=CONNECT
    )
    begin_sessions_with(engine, SESSION)
    return engine


def is_written(url: str) -> bool:
    """Whether a process of this machine has this ledger open for writing. Makes nothing.

    A database server cannot be asked without a session of one's own: then False.
    """
    if not url.startswith("sqlite:///"):
        return False
    path = Path(url.removeprefix("sqlite:///"))
    try:
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _lock_file(path: Path, patience_s: float) -> Callable[[], None]:
    """One writer for life: the lock goes with the process, whatever ends it."""
    lock = path.with_name(path.name + ".lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < until_s:
                select.select([], [], [], RETRY_S)
                continue
            os.close(handle)
            raise LockHeld(
                f"another daemon writes {path.name}: stop it, or give this one its own state_dir"
            ) from error
        break

    def release() -> None:
        with contextlib.suppress(OSError):
            os.close(handle)

    return release
