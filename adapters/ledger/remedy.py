"""What a database's error asks of us, told by its code and never by its words.

Which remedy is which decides whether a check is refused or the process ends, so whatever is not
known to pass by itself is fatal on SQLite, where we are the database.
"""

from __future__ import annotations

import errno
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A write that fails so may succeed once there is room: disk full, quota, RLIMIT_FSIZE."""
PROBE_BYTES = 8192


class Remedy(StrEnum):
    CALLER = "caller"
    """This row is refused; the others of its group are not to blame."""
    ROOM = "room"
    """Nothing was written: give it room and try again."""
    LATER = "later"
    """Nothing was written: it may pass by itself (a lock, a server that is away)."""
    FATAL = "fatal"
    """What was written may not be durable, or is not what we wrote."""


_SQLITE = {
    "SQLITE_FULL": Remedy.ROOM,
    "SQLITE_BUSY": Remedy.LATER,
    "SQLITE_LOCKED": Remedy.LATER,
    "SQLITE_CANTOPEN": Remedy.LATER,
    "SQLITE_NOMEM": Remedy.LATER,
    "SQLITE_READONLY": Remedy.LATER,
    "SQLITE_READONLY_DBMOVED": Remedy.FATAL,
    "SQLITE_INTERRUPT": Remedy.LATER,
    "SQLITE_CONSTRAINT": Remedy.CALLER,
    "SQLITE_TOOBIG": Remedy.CALLER,
    "SQLITE_MISMATCH": Remedy.CALLER,
}
_SPACE_OR_DISK = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMMAP")
_POSTGRESQL = {
    "22": Remedy.CALLER,  # data exception: too long, a NUL in a text
    "23": Remedy.CALLER,  # a constraint
    "58030": Remedy.FATAL,  # io_error
    "XX001": Remedy.FATAL,  # data_corrupted
    "XX002": Remedy.FATAL,  # index_corrupted
}
"""By SQLSTATE or its class (PostgreSQL manual, appendix A); the rest may pass: 08, 40, 53, 57."""


def of(error: DBAPIError, path: Path | None) -> Remedy:
    """path: SQLite's file, asked for room where SQLite does not say why a write failed."""
    if path is None:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2], Remedy.LATER)
    name = name_of(error)
    if name in _SPACE_OR_DISK:
        return Remedy.ROOM if _no_room(path) else Remedy.FATAL
    known = _SQLITE.get(name) or _SQLITE.get("_".join(name.split("_")[:2]))
    return known or Remedy.FATAL


def name_of(error: BaseException) -> str:
    """SQLite's name of the error, else the exception's own: neither holds a value."""
    orig: Any = getattr(error, "orig", None) or error
    return getattr(orig, "sqlite_errorname", None) or type(orig).__name__


def said_of(error: DBAPIError) -> str:
    """For people. A driver's own words only where no statement was run: they may quote a row."""
    words = "" if error.statement else str(error.orig).strip().split("\n")[0]
    return f"{name_of(error)}: {words}" if words else name_of(error)


def is_corrupt(error: DBAPIError) -> bool:
    return name_of(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _no_room(path: Path) -> bool:
    """SQLite keeps the system's error to itself: write where it wrote, and hear it ourselves."""
    wal = path.with_name(path.name + "-wal")
    probe = path.with_name(path.name + ".probe")
    try:
        end = max(each.stat().st_size for each in (path, wal) if each.exists())
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, bytes(PROBE_BYTES), end)
            os.fsync(handle)
        finally:
            os.close(handle)
            os.unlink(probe)
    except OSError as error:
        return error.errno in SPACE
    return False
