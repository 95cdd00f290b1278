"""The migrations make what the schema says, on both databases, from an empty one."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from adapters.ledger import url_of
from adapters.ledger.schema import metadata
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
    assert len(script.get_heads()) == 1
    assert [len(each._all_down_revisions) for each in script.walk_revisions()].count(0) == 1


async def test_migrating_again_changes_nothing(section: LedgerSection, tmp_path: Path) -> None:
    """A restart of the same version finds everything as it is (I19)."""
    await (await opened(tmp_path, section)).close()
    before = _schema(section, tmp_path)
    await (await opened(tmp_path, section)).close()
    assert _schema(section, tmp_path) == before


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
