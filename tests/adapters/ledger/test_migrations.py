"""The migrations make what the schema says, on both databases, from an empty one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from adapters.ledger import url_of
from adapters.ledger.schema import REVISION, metadata
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import opened


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
