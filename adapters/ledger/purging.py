"""Destroying what is personal at the end of its time, a step a transaction (D08).

Content goes with its salt: what is left in the chain, H(salt || content), tells nothing. A check
keeps its row, as its outcome is no personal matter, and loses what was asked and answered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, or_, select, update

from adapters.ledger.jobs import Work
from adapters.ledger.schema import audit_content, checks, outbox
from gateway.errors import LedgerFatal
from gateway.ports import Record

STEP = 500
"""Rows of a table in one transaction: a few milliseconds, between two checks."""


class Purged(msgspec.Struct, frozen=True):
    """contents: how many are gone. more: whether another step is due."""

    contents: int
    more: bool


def batch(before_ms: int, at_ms: int) -> Work:
    """One step, of what is older than before_ms."""
    old = and_(
        checks.c.opened_at_ms < before_ms,
        checks.c.open.is_(False),
        or_(
            checks.c.state.is_not(None), checks.c.result.is_not(None), checks.c.dedupe.is_not(None)
        ),
    )

    def work(db: Connection) -> tuple[Sequence[Record], Purged]:
        contents = _delete(db, audit_content, audit_content.c.at_ms < before_ms)
        # What waited so long was never sent, and is stale long since.
        waiting = _delete(db, outbox, outbox.c.stale_at_ms < before_ms)
        ids = [row.id for row in db.execute(select(checks.c.id).where(old).limit(STEP))]
        if ids:
            emptied = update(checks).where(checks.c.id.in_(ids))
            db.execute(emptied.values(state=None, result=None, dedupe=None))
        counts = (contents, len(ids), waiting)
        if not any(counts):
            return (), Purged(0, more=False)
        detail = f"content: {contents} items, {len(ids)} checks, {waiting} messages"
        record = Record(event="purged", at_ms=at_ms, detail=detail)
        return (record,), Purged(contents, more=STEP in counts)

    return work


def _delete(db: Connection, table: Table, old: ColumnElement[bool]) -> int:
    keys = list(table.primary_key.columns)
    found = [tuple(row) for row in db.execute(select(*keys).where(old).limit(STEP))]
    for key in found:
        gone = and_(*(column == value for column, value in zip(keys, key, strict=True)))
        db.execute(delete(table).where(gone))
    return len(found)


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
