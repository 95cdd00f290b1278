"""The migrations make what the schema says, on both databases, from an empty one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from adapters.ledger import canonical, url_of, verify_chain
from adapters.ledger.schema import REVISION, metadata
from gateway.ports import OutboxRow, Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import opened, record, tamper
from tests.fakes import FakeClock, FakeJournal


async def test_the_migrated_schema_is_the_model(section: LedgerSection, tmp_path: Path) -> None:
    """Tables, columns, types, indexes and constraints: alembic finds nothing to change."""
    await (await opened(tmp_path, section)).close()
    engine = create_engine(url_of(section, tmp_path))
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        names = set(inspect(db).get_table_names())
    engine.dispose()
    assert names == {*metadata.tables, "alembic_version"}


def test_revisions_are_one_line_without_branches() -> None:
    script = ScriptDirectory("adapters/ledger/migrations")
    assert script.get_heads() == [REVISION], "schema.REVISION is the newest one"
    assert [len(each._all_down_revisions) for each in script.walk_revisions()].count(0) == 1


async def test_migrating_again_changes_nothing(section: LedgerSection, tmp_path: Path) -> None:
    """A restart of the same version finds everything as it is (I19)."""
    await (await opened(tmp_path, section)).close()
    before = _schema(section, tmp_path)
    await (await opened(tmp_path, section)).close()
    assert _schema(section, tmp_path) == before


NOW_MS = FakeClock().wall_ms()
WAITING = OutboxRow(
    id="C1",
    check="C1",
    terminal="5001001",
    holder="police:1001@5001001",
    payload=b"x",
    queued_at_ms=NOW_MS,
    stale_at_ms=NOW_MS + 1000,
    priority=0,
    fence=3,
)


def _make_first(db: Connection) -> None:
    """A ledger as its first version left it, with two records, a check and its answer."""
    config = Config()
    config.set_main_option("script_location", "adapters.ledger:migrations")
    config.attributes["connection"] = db
    command.upgrade(config, "r0001")
    prev = canonical.GENESIS
    for seq, event in ((1, "opened"), (2, "disclosed")):
        one = Record(event=event, at_ms=seq, check="C1", level="L3", fields=("vrm",))
        body = canonical.encode(one, log="gw1", seq=seq, prev=prev, commitment_="")
        assert b"verb" not in body, "the first version knew none"
        prev = canonical.digest(body)
        db.execute(
            text(
                "INSERT INTO audit_leaf VALUES ('gw1', :seq, 1, :event, 'C1', 'R1', :body, :hash)"
            ),
            {"seq": seq, "event": event, "body": body, "hash": prev},
        )
    db.execute(
        text(
            "INSERT INTO checks VALUES"
            " ('C1', 'C1', 'R1', '5001001', 'd', :now, :body, true, 'answered', NULL)"
        ),
        {"now": NOW_MS, "body": b"{}"},
    )
    db.execute(
        text(
            "INSERT INTO outbox VALUES ('C1', 'C1', '5001001', 'police:1001@5001001', :body,"
            " :now, :stale, 0, 3)"
        ),
        {"body": b"x", "now": NOW_MS, "stale": NOW_MS + 1000},
    )
    db.commit()


async def test_a_store_of_the_first_version_goes_on(section: LedgerSection, tmp_path: Path) -> None:
    """Its records keep their hashes, what waits is found, and new records follow in one chain."""
    engine = create_engine(url_of(section, tmp_path))
    with engine.connect() as db:
        _make_first(db)
    engine.dispose()
    store = await opened(tmp_path, section)
    assert [row.id for row in await store.open_checks()] == ["C1"]
    assert await store.outbox() == [WAITING]
    assert await store.kept("booking") == []
    await store.commit([record(3, "asked")])
    assert (await store.head())[0] == 3
    await store.close()
    said = next(verify_chain(section, state_dir=tmp_path))
    assert said.startswith("gw1: 3 records verify")


async def test_from_a_broken_store_of_the_first_version_all_is_carried_over(tmp_path: Path) -> None:
    """It lacks a column and a table that there are now: nothing is lost by that."""
    section = LedgerSection()
    engine = create_engine(url_of(section, tmp_path))
    with engine.connect() as db:
        _make_first(db)
    engine.dispose()
    tamper(section, tmp_path, "UPDATE audit_leaf SET record = X'7B7D' WHERE seq = 2")
    journal = FakeJournal()
    store = await opened(tmp_path, section, journal=journal)
    assert [row.id for row in await store.open_checks()] == ["C1"]
    assert [(row.id, row.kind) for row in await store.outbox()] == [("C1", "answer")]
    await store.close()
    said = [fields.get("reason") for name, fields in journal.lines if name == "ledger.broken"]
    assert len(said) == 1, "that it is broken, and of no table that it could not be read"


def test_a_restart_does_not_load_what_only_a_migration_needs(tmp_path: Path) -> None:
    """Alembic, its templates and another database's dialect: a third of all that a start loads."""
    looks = f"import {__name__} as here; here.opens_and_tells({str(tmp_path)!r})"
    said = [
        subprocess.run(
            [sys.executable, "-c", looks], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["True", "False"]


def opens_and_tells(folder: str) -> None:
    """In a process of its own: open the ledger there, and print whether alembic was loaded.

    What this module itself imported for the tests does not count.
    """
    ours = [name for name in sys.modules if name.split(".")[0] == "alembic"]
    for name in ours:
        del sys.modules[name]

    async def once() -> None:
        await (await opened(Path(folder), LedgerSection())).close()

    asyncio.run(once())
    sys.stdout.write(f"{'alembic' in sys.modules}\n")


def _schema(section: LedgerSection, folder: Path) -> list[object]:
    engine = create_engine(url_of(section, folder))
    with engine.connect() as db:
        query = (
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, 2"
            if section.url
            else "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"
        )
        found: list[object] = [tuple(row) for row in db.exec_driver_sql(query)]
    engine.dispose()
    return found
