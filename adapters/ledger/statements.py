"""Statements of the writer's turn: built once, and run with few steps.

Building a statement takes longer than running it. And on SQLite each step of a statement gives the
interpreter's lock away and waits to have it back from a busy event loop: that waiting, not the
disk, is most of a turn. So all rows of a table go in with one statement, on the driver's own
connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError

ROWS_MOST = 16
"""Rows in one statement. Each number has a text of its own, and each text is kept prepared."""
PREPARED_MOST = 256
"""What the driver keeps prepared: the texts of the ledger's statements, and some."""


class Statement:
    """One that changes rows. SQLite: `VALUES (?, ...)` or `... = ?` once, repeated as needed."""

    def __init__(self, made: Any, dialect: Dialect) -> None:
        compiled = made.compile(dialect=dialect)
        self._text = str(compiled)
        self._places: list[str] | None = compiled.positiontup
        self._texts: dict[int, str] = {}

    def run(self, db: Connection, rows: list[dict[str, Any]]) -> None:
        """Raises DBAPIError."""
        places = self._places
        if places is None:
            db.exec_driver_sql(self._text, rows)
            return
        for some in _slices(rows):
            values = [row[name] for row in some for name in places]
            # "many" of one: the driver would else ask for the last row's number, a step more.
            run_directly(db, self._of(len(some)), values, many=True)

    def _of(self, rows: int) -> str:
        if rows not in self._texts:
            self._texts[rows] = repeated(self._text, len(self._places or ()), rows)
        return self._texts[rows]


class Query:
    """One that reads rows by one column's value: for all values at once on SQLite."""

    def __init__(self, made: Any, dialect: Dialect) -> None:
        """made: a select with one parameter, compared with `=`."""
        compiled = made.compile(dialect=dialect)
        self._text = str(compiled)
        self._direct = compiled.positiontup is not None
        self._name = next(iter(compiled.params))
        self._texts: dict[int, str] = {}

    def rows(self, db: Connection, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Raises DBAPIError."""
        for some in _slices(values):
            if self._direct:
                if len(some) not in self._texts:
                    self._texts[len(some)] = repeated(self._text, 1, len(some))
                yield from run_directly(db, self._texts[len(some)], list(some))
            else:
                for value in some:
                    yield from map(tuple, db.exec_driver_sql(self._text, {self._name: value}))


def repeated(text: str, places: int, rows: int) -> str:
    """The same statement for so many rows. Raises ValueError for one that is not of this shape."""
    marks = ", ".join("?" * places)
    values, one = f"VALUES ({marks})", "= ?"
    if text.count(values) == 1:
        return text.replace(values, "VALUES " + ", ".join([f"({marks})"] * rows))
    if places == 1 and text.count(one) == 1 and text.count("?") == 1:
        return text.replace(one, "IN (" + ", ".join("?" * rows) + ")")
    raise ValueError(f"not one row's statement: {text}")


def run_directly(
    db: Connection, text: str, values: Sequence[Any] = (), *, many: bool = False
) -> list[tuple[Any, ...]]:
    """On SQLite's own connection, within the transaction that SQLAlchemy began. Raises DBAPIError,
    as SQLAlchemy would, and without the values."""
    driver: Any = db.connection.driver_connection
    cursor = driver.cursor()
    try:
        if many:
            cursor.executemany(text, (values,))
        else:
            cursor.execute(text, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    except sqlite3.Error as error:
        raised = DBAPIError.instance(
            text, None, error, sqlite3.Error, hide_parameters=True, dialect=db.dialect
        )
        raise raised from error
    else:
        return rows
    finally:
        cursor.close()


def _slices(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(rows), ROWS_MOST):
        yield rows[first : first + ROWS_MOST]
