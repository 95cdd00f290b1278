"""Reading a ledger that another process writes: read-only, in short transactions.

SQLite: the file is opened `mode=ro`, so that a reader can neither write nor checkpoint (the
WAL-reset bug of SQLite before 3.51.3 needs two that write). A page of rows is one transaction: a
reader that stays in one would pin the write-ahead log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.exc import DBAPIError

from adapters.ledger.schema import audit_content, audit_leaf
from gateway.errors import LedgerUnavailable

PAGE = 2000


class Leaf(msgspec.Struct, frozen=True):
    """One record as it is kept. record: the canonical bytes that were hashed."""

    log: str
    seq: int
    at_ms: int
    record: bytes
    hash: str
    salt: bytes | None = None
    content: bytes | None = None


@contextlib.contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A read-only connection to this ledger. Raises LedgerUnavailable, which says what to do."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.is_file():
            raise LedgerUnavailable(f"{path.name}: no such ledger; has the daemon ever run here?")
        engine = create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true")
    else:
        engine = create_engine(url, execution_options={"postgresql_readonly": True})
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        why = getattr(error, "orig", error)
        raise LedgerUnavailable(f"cannot be read: {type(why).__name__}: {why}") from error
    finally:
        engine.dispose()


def logs(db: Connection) -> list[str]:
    """The names of the logs in it, one an instance."""
    names = db.execute(select(audit_leaf.c.log).distinct().order_by(audit_leaf.c.log))
    found = [str(row.log) for row in names]
    db.rollback()
    return found


def leaves(db: Connection, log: str) -> Iterator[Leaf]:
    """Every record of a log in order, with its personal content where that was not purged."""
    after = 0
    joined = audit_leaf.outerjoin(
        audit_content,
        (audit_leaf.c.log == audit_content.c.log) & (audit_leaf.c.seq == audit_content.c.seq),
    )
    columns = (
        audit_leaf.c.log,
        audit_leaf.c.seq,
        audit_leaf.c.at_ms,
        audit_leaf.c.record,
        audit_leaf.c.hash,
        audit_content.c.salt,
        audit_content.c.content,
    )
    while True:
        query = (
            select(*columns)
            .select_from(joined)
            .where(audit_leaf.c.log == log, audit_leaf.c.seq > after)
            .order_by(audit_leaf.c.seq)
            .limit(PAGE)
        )
        page = [_leaf(row) for row in db.execute(query)]
        db.rollback()
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].seq


def _leaf(row: Any) -> Leaf:
    """SQLite keeps what it is given: a record that somebody made text must not stop a verifier."""
    record = row.record if isinstance(row.record, bytes) else str(row.record).encode()
    return Leaf(row.log, row.seq, row.at_ms, record, row.hash, row.salt, row.content)
