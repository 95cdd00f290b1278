"""Many rows in one statement are the same rows; and a turn of the writer takes few steps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, bindparam, create_engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from adapters.ledger.schema import checks, meta, metadata
from adapters.ledger.statements import PREPARED_MOST, ROWS_MOST, Query, Statement, repeated
from gateway.ports import PutCheck, PutOutbox
from tests.adapters.ledger.books import check_row, opened, outbox_row, record, stalled


@pytest.fixture(scope="module")
def db() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


ROWS = st.dictionaries(
    st.text("abcdefgh", min_size=1), st.text(max_size=20), max_size=3 * ROWS_MOST
)


@given(ROWS, ROWS)
def test_rows_at_once_are_the_rows(
    db: Connection, rows: dict[str, str], gone: dict[str, str]
) -> None:
    add = Statement(insert(meta), db.dialect)
    drop = Statement(delete(meta).where(meta.c.key == bindparam("key")), db.dialect)
    find = Query(select(meta.c.key, meta.c.value).where(meta.c.key == bindparam("key")), db.dialect)
    add.run(db, [{"key": key, "value": value} for key, value in rows.items()])
    assert {(row.key, row.value) for row in db.execute(select(meta))} == set(rows.items())
    asked = [*[*rows][::2], *gone]
    expected = {(key, value) for key, value in rows.items() if key in asked}
    assert set(find.rows(db, asked)) == expected
    drop.run(db, [{"key": key} for key in gone])
    assert {row.key for row in db.execute(select(meta))} == rows.keys() - gone.keys()
    db.rollback()


def test_an_error_is_sqlalchemys_and_holds_no_value(db: Connection) -> None:
    add = Statement(insert(meta), db.dialect)
    row = {"key": "canary-key", "value": "canary-value"}
    with pytest.raises(IntegrityError) as raised:
        add.run(db, [row, row])
    assert raised.value.orig is not None
    assert raised.value.orig.sqlite_errorname == "SQLITE_CONSTRAINT_PRIMARYKEY"  # type: ignore[attr-defined]
    assert "canary" not in str(raised.value)
    db.rollback()


def test_a_statement_of_another_shape_is_not_guessed_at(db: Connection) -> None:
    text = "DELETE FROM checks WHERE checks.id = ? AND checks.open = ?"
    with pytest.raises(ValueError, match="not one row's"):
        repeated(text, 2, 3)
    made = insert(checks).values(id=bindparam("id"), short="A", open=True).compile()
    with pytest.raises(ValueError, match="not one row's"):
        repeated(str(made), 1, 2)


async def test_a_turn_takes_a_statement_a_table(tmp_path: Path) -> None:
    """Each step gives the interpreter's lock away: they must not grow with the rows."""
    store = await opened(tmp_path)
    texts: list[str] = []

    def trace(text: str) -> None:
        # With its values. A trigger that a row sets off is told as the same statement again.
        if texts[-1:] != [text]:
            texts.append(text)

    connection = store._writer._connection
    assert connection is not None
    driver = connection.connection.driver_connection
    assert driver is not None
    async with stalled(store):
        writing = [
            asyncio.ensure_future(
                store.commit(
                    [record(n), record(n, "asked")],
                    [PutCheck(check_row(f"C{n}")), PutOutbox(outbox_row(f"C{n}"))],
                )
            )
            for n in range(8)
        ]
        await asyncio.sleep(0)
        driver.set_trace_callback(trace)
    await asyncio.gather(*writing)
    driver.set_trace_callback(None)
    await store.close()
    steps = [text.split(" ", 1)[0] for text in texts]
    assert steps == ["BEGIN", "SELECT", "SELECT", *["INSERT"] * 4, "COMMIT"]


def test_what_is_prepared_stays_prepared() -> None:
    """Writing statements of six tables, each for 1 to 16 rows, deletes and queries."""
    assert PREPARED_MOST >= 11 * ROWS_MOST
