"""Destroying what is personal at the end of its time, a step a transaction (D08).

Content goes with its salt: what is left in the chain, H(salt || content), tells nothing. A check
that is over goes as a whole; how it ended stands in the chain.

SQLite overwrites what it deletes (`secure_delete`), but not where a row was before it was moved to
another page: such copies stay in the free room of the page until that is given up. So a row is
emptied where it lies before it is deleted (closing the gaps moves rows), and rows are deleted
rather than emptied (what stays keeps its page): otherwise of one check in a hundred something could
still be read in the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, select, tuple_, update

from adapters.ledger.jobs import Work
from adapters.ledger.schema import audit_content, checks, kept, outbox
from gateway.errors import LedgerFatal
from gateway.ports import Record

STEP = 500
"""Rows of a table in one transaction: some ten milliseconds, between two checks."""
_PERSONAL = {
    audit_content: (audit_content.c.salt, audit_content.c.content),
    checks: (checks.c.state, checks.c.result),
    outbox: (outbox.c.payload,),
    kept: (kept.c.body,),
}


class Purged(msgspec.Struct, frozen=True):
    """contents: how many are gone. more: whether another step is due."""

    contents: int
    more: bool


def batch(before_ms: int, at_ms: int) -> Work:
    """One step, of what is older than before_ms."""

    def work(db: Connection) -> tuple[Sequence[Record], Purged]:
        contents = _destroy(db, audit_content, audit_content.c.at_ms < before_ms)
        # What waited so long was never sent, and is stale long since.
        waiting = _destroy(db, outbox, outbox.c.stale_at_ms < before_ms)
        over = and_(checks.c.opened_at_ms < before_ms, checks.c.open.is_(False))
        ended = _destroy(db, checks, over)
        ended_ms = func.coalesce(kept.c.until_ms, kept.c.at_ms)
        others = _destroy(db, kept, and_(kept.c.personal, ended_ms < before_ms))
        counts = (contents, ended, waiting, others)
        if not any(counts):
            return (), Purged(0, more=False)
        detail = f"content: {contents} items, {ended} checks, {waiting} messages"
        if others:
            detail += f", {others} others"
        record = Record(event="purged", at_ms=at_ms, detail=detail)
        return (record,), Purged(contents, more=STEP in counts)

    return work


def _destroy(db: Connection, table: Table, old: ColumnElement[bool]) -> int:
    """Of one step's rows: how many there were."""
    key = tuple_(*table.primary_key.columns)
    step = select(*table.primary_key.columns).where(old).limit(STEP)
    if db.dialect.name == "sqlite":
        blank = {each: func.zeroblob(func.length(each)) for each in _PERSONAL[table]}
        db.execute(update(table).where(key.in_(step)).values(blank))
    return db.execute(delete(table).where(key.in_(step))).rowcount


def sync_length(log: Path) -> None:
    """Make it durable that a write-ahead log was cut to nothing: SQLite does not, and after a power
    cut the log comes back, whole and valid, with what was purged. Raises LedgerFatal."""
    try:
        handle = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LedgerFatal(f"{error.strerror}") from error
