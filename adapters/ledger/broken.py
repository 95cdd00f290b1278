"""A ledger that is not what was written: found at the start, moved aside, and outlived.

The look is bounded, so that the service is up in seconds: SQLite's own check for as long as
QUICK_CHECK_S allows, and the newest records of the chain. What lies deeper is found by
`audit verify`. From a broken file is carried over, row by row, what can still be read of what must
survive a restart; the audit stays where it is, for whoever looks into it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Table, func, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from adapters.ledger import remedy
from adapters.ledger.heads import Head
from adapters.ledger.readers import leaves, reading
from adapters.ledger.rows import DEDUPE_MS, Changes, check_row, kept_row, outbox_row
from adapters.ledger.schema import alarms, audit_leaf, checks, kept, outbox
from adapters.ledger.verify import Place, verify_log
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.messages import AlarmChanged
from gateway.ports import Change, PutAlarm, PutCheck, PutKept, PutOutbox

NEWEST = 1000
"""Records that are verified at the start; a head is written at least as often."""
QUICK_CHECK_S = 3.0
_STEPS = 100_000
"""SQLite's virtual machine instructions between two looks at the clock."""


class Broken(msgspec.Struct, frozen=True):
    """A file that was moved aside. seq: the highest number that could be read in it, else 0."""

    path: Path
    reason: str
    seq: int
    at_ms: int


def what_is_wrong(url: str, path: Path | None, log: str, known: Head | None) -> str:
    """ "" when what is there may be appended to. Raises LedgerUnavailable, DBAPIError."""
    if path is not None and not (path.is_file() and path.stat().st_size):
        return ""
    try:
        with reading(url) as db:
            if path is not None:
                said = _quick_check(db)
                if said:
                    return said
            if not inspect(db).has_table("audit_leaf"):
                return ""
            return _newest_verify(db, log, known)
    except LedgerUnavailable as error:
        cause = error.__cause__
        if path is not None and isinstance(cause, DBAPIError) and remedy.is_corrupt(cause):
            return remedy.name_of(cause)
        raise
    except UnicodeDecodeError:
        # SQLite names what is damaged, and the name is damaged, too.
        return "unreadable"


def _quick_check(db: Connection) -> str:
    """What SQLite finds wrong with its file, "" when nothing or when the time was not enough."""
    raw: Any = db.connection.dbapi_connection
    until_s = time.monotonic() + QUICK_CHECK_S
    raw.set_progress_handler(lambda: int(time.monotonic() > until_s), _STEPS)
    try:
        said = [row[0] for row in raw.execute("PRAGMA quick_check(1)")]
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return ""
        return remedy.name_of(error)
    finally:
        raw.set_progress_handler(None, 0)
    return "" if said == ["ok"] else "quick_check"


def _newest_verify(db: Connection, log: str, known: Head | None) -> str:
    newest = db.execute(select(func.max(audit_leaf.c.seq)).where(audit_leaf.c.log == log)).scalar()
    db.rollback()
    if newest is None:
        return ""
    first = max(0, newest - NEWEST)
    # Where the look begins is taken on trust, as the first record of all would be.
    start = next(iter(leaves(db, log, after=first - 1, until=first)), None)
    place = Place(first, start.hash) if start is not None else None
    heads = {known.seq: {known.hash}} if known is not None and known.seq <= newest else {}
    try:
        verify_log(log, leaves(db, log, after=first), heads, start=place)
        if known is not None and known.seq <= first:
            found = next(iter(leaves(db, log, after=known.seq - 1, until=known.seq)), None)
            if found is None or found.hash != known.hash:
                return f"{log}:{known.seq}: not the record that the heads file knows"
    except ChainBroken as error:
        return str(error)
    return ""


def set_aside(path: Path, log: str, reason: str, at_ms: int) -> Broken:
    """Move the file and its write-ahead log out of the way, untouched. Raises OSError."""
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.broken-{at}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.broken-{at}-{number}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return Broken(aside, reason, _highest(aside, log), at_ms)


def _highest(path: Path, log: str) -> int:
    try:
        with reading(f"sqlite:///{path}") as db:
            query = select(func.max(audit_leaf.c.seq)).where(audit_leaf.c.log == log)
            value = db.execute(query).scalar()
    except (LedgerUnavailable, ValueError):
        return 0
    return value if isinstance(value, int) else 0


def carry_over(broken: Broken, db: Connection, fence: int) -> list[str]:
    """Into the caller's transaction: open checks and those of a day, the outbox, open alarms,
    what desks keep. Returns the tables of which not everything could be read."""
    lost: list[str] = []
    changes = Changes(db.dialect, fence)
    for table, change_of in _CARRIED.items():
        rows, whole = _read_all(broken.path, table)
        for row in rows:
            try:
                change = change_of(row, broken.at_ms)
                if change is not None:
                    with db.begin_nested():
                        changes.make(db, change)
            except (msgspec.MsgspecError, TypeError, SQLAlchemyError):
                whole = False
        if not whole:
            lost.append(table.name)
    return lost


def _read_all(path: Path, table: Table) -> tuple[list[Any], bool]:
    """The rows that can be read, and whether those are all: of a damaged tree, what comes before
    the damage. A file of an older version lacks columns, or a table: nothing is lost by that."""
    found: list[Any] = []
    try:
        with reading(f"sqlite:///{path}") as db:
            known = inspect(db)
            if not known.has_table(table.name):
                return [], True
            there = {column["name"] for column in known.get_columns(table.name)}
            found.extend(db.execute(select(*(each for each in table.c if each.name in there))))
    except (LedgerUnavailable, SQLAlchemyError, ValueError, TypeError):
        return found, False
    return found, True


def _check(row: Any, at_ms: int) -> Change | None:
    """Open ones, and those against which a repeat is told apart."""
    if row.state is None or not (row.open or at_ms - row.opened_at_ms < DEDUPE_MS):
        return None
    return PutCheck(_valid(check_row(row)))


def _outbox(row: Any, _at_ms: int) -> Change:
    return PutOutbox(_valid(outbox_row(row)))


def _alarm(row: Any, _at_ms: int) -> Change | None:
    if not row.open:
        return None
    return PutAlarm(msgspec.json.decode(row.record, type=AlarmChanged), open=True)


def _kept(row: Any, _at_ms: int) -> Change:
    return PutKept(_valid(kept_row(row)))


_CARRIED: dict[Table, Callable[[Any, int], Change | None]] = {
    checks: _check,
    outbox: _outbox,
    alarms: _alarm,
    kept: _kept,
}
R = TypeVar("R", bound=msgspec.Struct)


def _valid(row: R) -> R:
    """SQLite keeps what it is given: a damaged row may hold anything. Raises ValidationError."""
    return msgspec.convert(msgspec.structs.asdict(row), type(row))
