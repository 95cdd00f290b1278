"""A PostgreSQL that loses the connection: nothing is guessed, nothing is written twice, and a
writer that was overtaken meanwhile stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text

from adapters.ledger import verify_chain
from adapters.ledger.access import WRITER_LOCK
from adapters.ledger.store import Store
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.ports import PutCheck, PutOutbox
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import check_row, opened, outbox_row, record


@pytest.fixture(autouse=True)
def no_connection_is_left(database: str) -> Iterator[None]:
    """Whatever happened, a closed ledger holds none. The server takes a moment to hear of it."""
    yield
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'radio-gateway'"
    until_s = time.monotonic() + 10
    while ask(database, query):
        assert time.monotonic() < until_s, "a connection is left"
        time.sleep(0.05)


@pytest.fixture
async def store(database: str, tmp_path: Path) -> AsyncIterator[Store]:
    store = await opened(tmp_path, LedgerSection(url=database))
    await store.commit([record(1)])
    yield store
    await store.close()


def ask(database: str, statement: str) -> Any:
    engine = create_engine(database, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as db:
            return db.execute(text(statement)).scalar()
    finally:
        engine.dispose()


def terminate(database: str, *, but: str = "") -> None:
    """End every connection of a daemon, as an administrator or a failover does."""
    ask(
        database,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE application_name = 'radio-gateway' AND pid::text != '{but}'",
    )


def at_commit(store: Store, act: Callable[[Any], None]) -> None:
    """Once, in the moment between the last statement and COMMIT, on the driver's connection."""
    acted = False

    @event.listens_for(store._writer._access.engine, "commit")
    def committing(connection: Any) -> None:
        nonlocal acted
        if not acted:
            acted = True
            act(connection.connection.dbapi_connection)


def numbers(database: str, folder: Path) -> str:
    return next(verify_chain(LedgerSection(url=database), state_dir=folder))


async def until_it_writes(store: Store, n: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await store.commit([record(n)])
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_lost_connection_is_made_again(store: Store, database: str, tmp_path: Path) -> None:
    """D10: what could not be written was not; the lock is taken again with the connection."""
    terminate(database)
    with pytest.raises(LedgerUnavailable):
        await store.commit([record(2)])
    await until_it_writes(store, 3)
    assert numbers(database, tmp_path).startswith("gw1: 2 records verify")
    with pytest.raises(LedgerUnavailable, match="another daemon"):
        await opened(tmp_path / "other", LedgerSection(url=database))


async def test_a_lost_connection_costs_a_reader_nothing_but_a_try(
    store: Store, database: str
) -> None:
    terminate(database)
    with pytest.raises(LedgerUnavailable):
        await store.open_checks()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await store.open_checks() == []
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
            else:
                break


async def test_a_commit_whose_answer_was_lost_is_found_written(
    store: Store, database: str, tmp_path: Path
) -> None:
    """D10: committed, and the connection gone before the answer: it counts, once."""

    def commit_and_die(dbapi: Any) -> None:
        dbapi.commit()
        dbapi.execute("SELECT 1")
        terminate(database)

    at_commit(store, commit_and_die)
    await store.commit([record(2)], [PutCheck(check_row("C0002"))])
    await store.commit([record(3)])
    assert numbers(database, tmp_path).startswith("gw1: 3 records verify")
    assert await store.check("C0002") is not None


async def test_a_commit_that_never_arrived_is_found_missing(
    store: Store, database: str, tmp_path: Path
) -> None:
    """D10: the connection gone before COMMIT: told as not written, and the next goes on."""
    at_commit(store, lambda _dbapi: terminate(database))
    with pytest.raises(LedgerUnavailable):
        await store.commit([record(2)], [PutCheck(check_row("C0002"))])
    assert await store.check("C0002") is None
    await store.commit([record(3)])
    assert numbers(database, tmp_path).startswith("gw1: 2 records verify")


async def test_what_cannot_be_known_ends_the_process(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stays away in the middle of a COMMIT: never tell a caller what is not known."""
    monkeypatch.setattr("adapters.ledger.writer.IN_DOUBT_S", 0.3)

    def die_and_stay_away(_dbapi: Any) -> None:
        terminate(database)

        def away() -> None:
            raise LedgerUnavailable("away")

        monkeypatch.setattr(store._writer._access, "connect", away)

    at_commit(store, die_and_stay_away)
    with pytest.raises(LedgerFatal, match="cannot be known"):
        await store.commit([record(2)])
    with pytest.raises(LedgerFatal):
        await store.commit([record(3)])


async def test_whoever_was_overtaken_stops(store: Store, database: str, tmp_path: Path) -> None:
    """H12: our connection was lost, another daemon took the lock: no record and no outbox row."""
    terminate(database)
    other = await opened(tmp_path / "other", LedgerSection(url=database))
    assert other.fence == store.fence + 1
    with pytest.raises(LedgerUnavailable):
        await store.commit([record(2)], [PutOutbox(outbox_row("O1"))])
    with pytest.raises(LedgerFatal, match="taken over"):
        await until_it_writes(store, 2)
    assert await other.outbox() == []
    await other.commit([record(5)], [PutOutbox(outbox_row("O2"))])
    assert [row.fence for row in await other.outbox()] == [other.fence]
    await other.close()


async def test_a_lock_that_our_lost_connection_still_holds_is_waited_for(
    store: Store, database: str
) -> None:
    """The server has not noticed yet: not an overtaking; refused until it has."""
    holder = create_engine(database)
    with holder.connect() as ghost:
        terminate(database)
        with pytest.raises(LedgerUnavailable):
            await store.commit([record(2)])
        assert ghost.execute(text(f"SELECT pg_try_advisory_lock({WRITER_LOCK})")).scalar()
        await asyncio.sleep(0.6)
        with pytest.raises(LedgerUnavailable, match="another daemon writes"):
            await store.commit([record(2)])
    holder.dispose()
    await until_it_writes(store, 3)


async def test_a_statement_has_a_deadline(store: Store, database: str) -> None:
    """A table locked by somebody else: refused in seconds, and the connection is good after it."""
    holder = create_engine(database)
    await store._read(lambda db: db.exec_driver_sql("SET lock_timeout = '200ms'") and db.commit())
    with holder.connect() as other:
        other.execute(text("LOCK TABLE audit_leaf IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(LedgerUnavailable, match="LockNotAvailable"):
            await store.commit([record(2)])
        other.rollback()
    holder.dispose()
    await store.commit([record(3)])
    settings = await store._read(
        lambda db: [
            db.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]
    )
    assert settings == ["10s", "30s"]
