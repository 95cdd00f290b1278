"""Reading a ledger that another process writes: read-only, in short transactions.

SQLite: the file is opened `mode=ro`, so that a reader can neither write nor checkpoint (the
WAL-reset bug of SQLite before 3.51.3 needs two that write). A page of rows is one transaction: a
reader that stays in one would pin the write-ahead log.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Engine, Select, bindparam, create_engine, event, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from adapters.ledger import remedy
from adapters.ledger.schema import audit_content, audit_leaf
from gateway.errors import LedgerUnavailable

PAGE = 2000
_KEPT = (bytes, type(None))
_DECODE = "decode to UTF-8"
"""What sqlite3 says of a text that is none."""
READ_WITHIN_S = 5
"""A page takes milliseconds; whatever takes longer is given up rather than left open."""
SESSION = (
    "SET default_transaction_read_only = on",
    f"SET statement_timeout = '{READ_WITHIN_S}s'",
)


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
    try:
        engine = _engine(url)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise LedgerUnavailable(f"[ledger] url: cannot be used: {type(error).__name__}") from error
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise LedgerUnavailable(f"cannot be read: {remedy.said_of(error)}") from error
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.is_file():
            raise LedgerUnavailable(f"{path.name}: no such ledger; has the daemon ever run here?")
        engine = create_engine(
            f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true",
            connect_args={"timeout": READ_WITHIN_S},
        )

        @event.listens_for(engine, "connect")
        def opened(dbapi: Any, _record: Any) -> None:
            dbapi.text_factory = text_of

        return engine
    engine = create_engine(url, connect_args={"connect_timeout": READ_WITHIN_S})
    begin_sessions_with(engine, SESSION)
    return engine


def begin_sessions_with(engine: Engine, statements: Sequence[str]) -> None:
    """Run these on every new PostgreSQL connection of the engine, before anything else."""

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _record: Any) -> None:
        with dbapi.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        dbapi.commit()


def logs(db: Connection) -> list[str]:
    """The names of the logs in it, one an instance."""
    names = db.execute(select(audit_leaf.c.log).distinct().order_by(audit_leaf.c.log))
    found = [str(row.log) for row in names]
    db.rollback()
    return found


def leaves(
    db: Connection, log: str, *, after: int = 0, until: int | None = None, contents: bool = True
) -> Iterator[Leaf]:
    """The records of a log in order, those with after < seq <= until.

    contents: with the personal content, where that was not purged.
    """
    for page in _pages(db, _select(contents), log, after, until):
        for row in page:
            # Nearly all are as they were written, and are not looked at value by value.
            sound = type(row[2]) is bytes and all(type(each) in _KEPT for each in row[4:])
            yield Leaf(log, *row) if sound else _leaf(log, *row)


def hashes(
    db: Connection, log: str, after: int, until: int | None = None
) -> Iterator[tuple[int, str]]:
    """Numbers and hashes of a log's records, in order, those with after < seq <= until."""
    for page in _pages(db, select(audit_leaf.c.seq, audit_leaf.c.hash), log, after, until):
        for row in page:
            yield row[0], row[1]


def _pages(
    db: Connection, query: Select[Any], log: str, after: int, until: int | None
) -> Iterator[list[Any]]:
    """Rows by the page, each one transaction, as the driver has them: SQLAlchemy's own rows would
    be more than half of the time in which ten million are verified. The number stands first."""
    query = query.where(audit_leaf.c.log == log, audit_leaf.c.seq > bindparam("after", 0))
    if until is not None:
        query = query.where(audit_leaf.c.seq <= until)
    compiled = query.order_by(audit_leaf.c.seq).limit(PAGE).compile(dialect=db.dialect)
    places, text = compiled.positiontup, str(compiled)
    while True:
        values = compiled.construct_params({"after": after})
        given = values if places is None else tuple(values[name] for name in places)
        found = _fetched(db, text, given)
        db.rollback()
        yield found
        if len(found) < PAGE:
            return
        after = found[-1][0]


def _fetched(db: Connection, text: str, given: Any) -> list[Any]:
    """Raises DBAPIError, also for what is found to be damaged only while rows are fetched."""
    driver: Any = db.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        return _rows(db, text, given)
    # Only where a text is damaged is each asked for in Python.
    driver.text_factory = str
    try:
        return _rows(db, text, given)
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.OperationalError) or _DECODE not in str(error.orig):
            raise
        driver.text_factory = text_of
        return _rows(db, text, given)
    finally:
        driver.text_factory = text_of


def _rows(db: Connection, text: str, given: Any) -> list[Any]:
    result = db.exec_driver_sql(text, given)
    try:
        return list(result.cursor.fetchall())
    except sqlite3.Error as error:
        raise DBAPIError.instance(
            text, None, error, sqlite3.Error, hide_parameters=True, dialect=db.dialect
        ) from error
    finally:
        result.close()


def of_receipt(db: Connection, receipt: str) -> list[Leaf]:
    """Every record of the check that has this receipt, in order, in all logs."""
    if not receipt:
        return []
    named = select(audit_leaf.c.check_id).where(audit_leaf.c.receipt == receipt)
    query = (
        _select(contents=True)
        .add_columns(audit_leaf.c.log)
        .where(audit_leaf.c.check_id.in_(named), audit_leaf.c.check_id != "")
        .order_by(audit_leaf.c.log, audit_leaf.c.seq)
        .limit(PAGE)
    )
    found = [_leaf(log, *row) for *row, log in db.execute(query)]
    db.rollback()
    return found


def _select(contents: bool) -> Select[Any]:
    columns: list[Any] = [audit_leaf.c[name] for name in ("seq", "at_ms", "record", "hash")]
    if not contents:
        return select(*columns)
    same = (audit_leaf.c.log == audit_content.c.log) & (audit_leaf.c.seq == audit_content.c.seq)
    columns += [audit_content.c.salt, audit_content.c.content]
    return select(*columns).select_from(audit_leaf.outerjoin(audit_content, same))


def _leaf(log: str, seq: int, at_ms: int, record: Any, hash_: str, *content: Any) -> Leaf:
    """SQLite keeps what it is given: a record that somebody made text must not stop a verifier."""
    return Leaf(
        log, seq, at_ms, _bytes(record), hash_, *(each and _bytes(each) for each in content)
    )


def text_of(raw: bytes) -> str:
    """Damaged text must be seen and judged, not end whoever looks at it."""
    return raw.decode(errors="replace")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
