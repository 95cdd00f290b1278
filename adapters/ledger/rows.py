"""The core's words as rows: what a change does to the tables, and what may be written at all."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Dialect, Table, bindparam, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from adapters.ledger.schema import alarms, audit_leaf, checks, kept, outbox
from adapters.ledger.statements import Query, Statement
from gateway.messages import AlarmChanged
from gateway.ports import (
    Change,
    CheckRow,
    DropKept,
    DropOutbox,
    KeptRow,
    OutboxRow,
    PutAlarm,
    PutCheck,
    PutKept,
    PutOutbox,
    Record,
)

DEDUPE_MS = 24 * 3600 * 1000
TEXT_MOST = 2048
"""Characters of any text in a record that the schema does not hold shorter."""
FIELDS_MOST = 256
CONTENT_MOST = 256 * 1024
"""Bytes of personal content, state, result or payload."""
MINE_MOST = 10_000
"""Checks that the writer remembers to have on record."""
_DROP_KEPT = "DELETE FROM kept WHERE (kind, id) IN (VALUES (:kind, :id))"
_Key = tuple[str, ...]
"""Table and primary key of a row."""
_BOUNDS: dict[type, tuple[tuple[str, int], ...]] = {
    Record: (
        *(("event", 16), ("check", 64), ("receipt", 16), ("content", CONTENT_MOST)),
        *((name, TEXT_MOST) for name in ("terminal", "officer", "agency", "role", "operator")),
        *((name, TEXT_MOST) for name in ("reason", "operation", "outcome", "recipient")),
        *(("fields", FIELDS_MOST), ("level", TEXT_MOST), ("policy", TEXT_MOST)),
        *((name, TEXT_MOST) for name in ("detail", "booking", "on_behalf", "parent", "source")),
        *((name, TEXT_MOST) for name in ("operator_role", "build", "config")),
    ),
    CheckRow: (
        *(("id", 64), ("short", 8), ("receipt", 16), ("terminal", 8), ("dedupe", 80)),
        *(("outcome", 16), ("state", CONTENT_MOST), ("result", CONTENT_MOST)),
    ),
    OutboxRow: (
        *(("id", 64), ("check", 64), ("terminal", 8), ("holder", 80)),
        *(("payload", CONTENT_MOST), ("kind", 16)),
    ),
    AlarmChanged: (("id", 64),),
    KeptRow: (("kind", 16), ("id", 64), ("body", CONTENT_MOST)),
}


def _picker(names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    pick = operator.attrgetter(*names)
    return pick if len(names) > 1 else lambda each: (pick(each),)


_PICKED = {
    kind: (
        _picker([name for name, _ in bounds]),
        [most for _, most in bounds],
        [name for name, _ in bounds],
    )
    for kind, bounds in _BOUNDS.items()
}
_UNBOUNDED: tuple[Callable[[object], tuple[Any, ...]], list[int], list[str]]
_UNBOUNDED = (lambda _each: (), [], [])


def too_large(records: Iterable[Record], changes: Iterable[Change]) -> str:
    """The member that is longer than its place, as `Record.detail`; "" when everything fits.

    PostgreSQL would refuse it, SQLite would take anything: so both refuse it here.
    """
    for each in (*records, *(_inner(change) for change in changes)):
        values, mosts, names = _PICKED.get(type(each), _UNBOUNDED)
        for value, most, name in zip(values(each), mosts, names, strict=True):
            if value is not None and len(value) > most:
                return f"{type(each).__name__}.{name}"
        if isinstance(each, Record) and any(len(field) > TEXT_MOST for field in each.fields):
            return "Record.fields"
    return ""


def _inner(change: Change) -> object:
    return change.alarm if isinstance(change, PutAlarm) else getattr(change, "row", change)


class Changes:
    """Makes changes on a connection, inside the caller's transaction. fence: the writer's epoch.

    `take` collects what the callers of one group change, `flush` makes it: each table's rows in
    one statement. Within a table the order of the calls stands; across tables there is none to
    keep, for no table refers to another.
    """

    def __init__(self, dialect: Dialect, fence: int) -> None:
        self._fence = fence
        insert: Callable[[Table], Any]
        insert = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
        self._put_check = Statement(_upsert(insert, checks, keep=("id", "dedupe")), dialect)
        self._put_outbox = Statement(_upsert(insert, outbox), dialect)
        self._put_alarm = Statement(_upsert(insert, alarms), dialect)
        self._put_kept = Statement(_upsert(insert, kept, key=("kind", "id")), dialect)
        self._drop_outbox = Statement(delete(outbox).where(outbox.c.id == bindparam("id")), dialect)
        self._drop_alarm = Statement(delete(alarms).where(alarms.c.id == bindparam("id")), dialect)
        self._drop_kept = Statement(text(_DROP_KEPT), dialect)
        same = select(checks.c.dedupe, checks.c.id, checks.c.opened_at_ms)
        self._same = Query(same.where(checks.c.dedupe == bindparam("key")), dialect)
        self._known = select(checks.c.id).where(checks.c.id == bindparam("mine"))
        had = select(audit_leaf.c.check_id.label("id")).where(
            audit_leaf.c.receipt == bindparam("receipt")
        )
        has = select(checks.c.id).where(checks.c.receipt == bindparam("receipt"))
        self._holders = had.union(has)
        self._forget = update(checks).where(checks.c.id == bindparam("old")).values(dedupe=None)
        self._checks: list[dict[str, Any]] = []
        self._askers: dict[str, tuple[str, int] | None] = {}
        """Who asked each question that was looked for: id and time; None: nobody."""
        self._rest: list[tuple[Statement, _Key, dict[str, Any]]] = []
        self._new: list[str] = []
        self._mine: OrderedDict[str, None] = OrderedDict()
        """Rows that this writer has made: a row that is there needs no look for its twin."""

    def begin(self) -> None:
        """A new transaction: what was collected for one that failed is not made."""
        for each in (self._checks, self._rest, self._new, self._askers):
            each.clear()

    def made(self) -> None:
        """The transaction is durable."""
        self._mine.update(dict.fromkeys(self._new))
        while len(self._mine) > MINE_MOST:
            self._mine.popitem(last=False)

    def look(self, db: Connection, changes: Iterable[Change]) -> None:
        """Who asked before what these ask: for all of a group at once. Raises DBAPIError."""
        keys = [row.dedupe for row in self._questions(changes) if row.dedupe not in self._askers]
        self._askers.update(dict.fromkeys(keys))
        for key, id_, opened_at_ms in self._same.rows(db, list(dict.fromkeys(keys))):
            self._askers[str(key)] = (str(id_), int(opened_at_ms))

    def _questions(self, changes: Iterable[Change]) -> Iterable[CheckRow]:
        """Rows that may have a twin: one that this writer has made has none."""
        for change in changes:
            if not isinstance(change, PutCheck):
                continue
            if change.row.dedupe and change.row.id not in self._mine:
                yield change.row

    def twin(self, db: Connection, changes: Sequence[Change]) -> str | None:
        """The id of another check, younger than 24 h, that asked what a new one of these asks."""
        self.look(db, changes)
        for row in self._questions(changes):
            found = self._askers[row.dedupe]
            if found is None or found[0] == row.id or row.id in self._new:
                continue
            if db.execute(self._known, {"mine": row.id}).first() is not None:
                continue
            if row.opened_at_ms - found[1] < DEDUPE_MS:
                return found[0]
            self.flush(db)  # the old one may be of this very group
            db.execute(self._forget, {"old": found[0]})
            self._askers[row.dedupe] = None
        return None

    def make(self, db: Connection, change: Change) -> None:
        """This one alone, at once. Raises DBAPIError."""
        self.begin()
        self.take(change)
        self.flush(db)

    def taken(self, db: Connection, changes: Iterable[Change]) -> bool:
        """Whether one of these has the receipt of another check, be that purged. Raises DBAPIError,
        ValueError."""
        for change in changes:
            if isinstance(change, PutCheck):
                holders = db.execute(self._holders, {"receipt": change.row.receipt})
                if any(holder.id != change.row.id for holder in holders):
                    return True
        return False

    def take(self, change: Change) -> None:
        """Make this one with the next `flush`."""
        match change:
            case PutCheck(row):
                values = msgspec.structs.asdict(row)
                values["dedupe"] = row.dedupe or None
                self._checks.append(values)
                self._new.append(row.id)
                if self._askers.get(row.dedupe, "") is None:
                    self._askers[row.dedupe] = (row.id, row.opened_at_ms)
            case PutOutbox(waiting):
                values = msgspec.structs.asdict(waiting) | {"fence": self._fence}
                values["check_id"] = values.pop("check")
                self._later(self._put_outbox, ("outbox", waiting.id), values)
            case DropOutbox(id_):
                self._later(self._drop_outbox, ("outbox", id_), {"id": id_})
            case PutAlarm(alarm, True):
                body = msgspec.json.encode(alarm)
                values = {"id": alarm.id, "open": True, "record": body}
                self._later(self._put_alarm, ("alarms", alarm.id), values)
            case PutAlarm(alarm, _):
                # What is over stands in the audit; nobody asks this table for it again.
                self._later(self._drop_alarm, ("alarms", alarm.id), {"id": alarm.id})
            case PutKept(each):
                values = msgspec.structs.asdict(each)
                self._later(self._put_kept, ("kept", each.kind, each.id), values)
            case DropKept(kind, id_):
                self._later(self._drop_kept, ("kept", kind, id_), {"kind": kind, "id": id_})

    def _later(self, statement: Statement, key: _Key, values: dict[str, Any]) -> None:
        self._rest.append((statement, key, values))

    def flush(self, db: Connection) -> None:
        """Make what was taken. Raises DBAPIError."""
        if self._checks:
            self._put_check.run(db, self._checks)
        for statement, rows in _runs(self._rest):
            statement.run(db, rows)
        self._checks.clear()
        self._rest.clear()


def _runs(
    rest: Iterable[tuple[Statement, _Key, dict[str, Any]]],
) -> Iterable[tuple[Statement, list[dict[str, Any]]]]:
    """Rows of one statement together. One whose row another statement has waiting begins anew, so
    that what was put and then dropped is gone, and what was dropped and then put is there."""
    runs: dict[Statement, list[dict[str, Any]]] = {}
    keys: dict[_Key, Statement] = {}
    for statement, key, row in rest:
        if keys.setdefault(key, statement) is not statement:
            yield from runs.items()
            runs, keys = {}, {key: statement}
        runs.setdefault(statement, []).append(row)
    yield from runs.items()


def _upsert(
    insert: Callable[[Table], Any],
    table: Table,
    *,
    key: tuple[str, ...] = ("id",),
    keep: tuple[str, ...] = (),
) -> Any:
    """Insert, or replace by `key`; members in `keep` stay as they were first written."""
    names = [column.name for column in table.columns]
    statement = insert(table).values({name: bindparam(name) for name in names})
    stays = {*key, *keep}
    changed = {name: statement.excluded[name] for name in names if name not in stays}
    return statement.on_conflict_do_update(index_elements=[*key], set_=changed)


def check_row(row: Any) -> CheckRow:
    values = dict(row._mapping)
    return CheckRow(**(values | {"dedupe": values["dedupe"] or ""}))


def outbox_row(row: Any) -> OutboxRow:
    values = dict(row._mapping)
    values["check"] = values.pop("check_id")
    return OutboxRow(**values)


def kept_row(row: Any) -> KeptRow:
    return KeptRow(**row._mapping)
