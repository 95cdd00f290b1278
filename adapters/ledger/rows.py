"""The core's words as rows: what a change does to the tables, and what may be written at all.

Statements are built once for each dialect: building one takes longer than running it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from adapters.ledger.schema import alarms, bookings, checks, outbox
from gateway.messages import AlarmChanged
from gateway.ports import (
    BookingRow,
    Change,
    CheckRow,
    DropOutbox,
    OutboxRow,
    PutAlarm,
    PutBooking,
    PutCheck,
    PutOutbox,
    Record,
)

DEDUPE_MS = 24 * 3600 * 1000
TEXT_MOST = 2048
"""Characters of any text in a record that the schema does not hold shorter."""
FIELDS_MOST = 256
CONTENT_MOST = 256 * 1024
"""Bytes of personal content, state, result or payload."""
_BOUNDS: dict[type, tuple[tuple[str, int], ...]] = {
    Record: (
        *(("event", 16), ("check", 64), ("receipt", 16), ("content", CONTENT_MOST)),
        *((name, TEXT_MOST) for name in ("terminal", "officer", "agency", "role", "operator")),
        *((name, TEXT_MOST) for name in ("reason", "operation", "outcome", "recipient")),
        *(("fields", FIELDS_MOST), ("level", TEXT_MOST), ("policy", TEXT_MOST)),
        ("detail", TEXT_MOST),
    ),
    CheckRow: (
        *(("id", 64), ("short", 8), ("receipt", 16), ("terminal", 8), ("dedupe", 80)),
        *(("outcome", 16), ("state", CONTENT_MOST), ("result", CONTENT_MOST)),
    ),
    OutboxRow: (
        *(("id", 64), ("check", 64), ("terminal", 8), ("holder", 80)),
        ("payload", CONTENT_MOST),
    ),
    AlarmChanged: (("id", 64),),
    BookingRow: (("terminal", 8), ("holder", 80)),
}


def too_large(records: Iterable[Record], changes: Iterable[Change]) -> str:
    """The member that is longer than its place, as `Record.detail`; "" when everything fits.

    PostgreSQL would refuse it, SQLite would take anything: so both refuse it here.
    """
    for each in (*records, *(_inner(change) for change in changes)):
        for name, most in _BOUNDS.get(type(each), ()):
            value = getattr(each, name)
            if value is not None and len(value) > most:
                return f"{type(each).__name__}.{name}"
        if isinstance(each, Record) and any(len(field) > TEXT_MOST for field in each.fields):
            return "Record.fields"
    return ""


def _inner(change: Change) -> object:
    return change.alarm if isinstance(change, PutAlarm) else getattr(change, "row", change)


class Changes:
    """Makes changes on a connection, inside the caller's transaction. fence: the writer's epoch."""

    def __init__(self, dialect: str, fence: int) -> None:
        self._fence = fence
        insert: Callable[[Table], Any] = sqlite.insert if dialect == "sqlite" else postgresql.insert
        self._put_check = _upsert(insert, checks, keep=("id", "dedupe"))
        self._put_outbox = _upsert(insert, outbox)
        self._put_alarm = _upsert(insert, alarms)
        self._put_booking = _upsert(insert, bookings, key="terminal")
        self._drop_outbox = delete(outbox).where(outbox.c.id == bindparam("gone"))
        self._drop_alarm = delete(alarms).where(alarms.c.id == bindparam("gone"))
        self._same = select(checks.c.id, checks.c.opened_at_ms).where(
            checks.c.dedupe == bindparam("key"), checks.c.id != bindparam("mine")
        )
        self._known = select(checks.c.id).where(checks.c.id == bindparam("mine"))
        self._forget = update(checks).where(checks.c.id == bindparam("old")).values(dedupe=None)

    def twin(self, db: Connection, changes: Sequence[Change]) -> str | None:
        """The id of another check, younger than 24 h, that asked what a new one of these asks."""
        for change in changes:
            if not isinstance(change, PutCheck) or not change.row.dedupe:
                continue
            row = change.row
            found = db.execute(self._same, {"key": row.dedupe, "mine": row.id}).first()
            if found is None or db.execute(self._known, {"mine": row.id}).first() is not None:
                continue
            if row.opened_at_ms - found.opened_at_ms < DEDUPE_MS:
                return str(found.id)
            db.execute(self._forget, {"old": found.id})
        return None

    def make(self, db: Connection, change: Change) -> None:
        match change:
            case PutCheck(row):
                values = msgspec.structs.asdict(row)
                db.execute(self._put_check, values | {"dedupe": row.dedupe or None})
            case PutOutbox(waiting):
                values = msgspec.structs.asdict(waiting) | {"fence": self._fence}
                values["check_id"] = values.pop("check")
                db.execute(self._put_outbox, values)
            case DropOutbox(id_):
                db.execute(self._drop_outbox, {"gone": id_})
            case PutAlarm(alarm, True):
                body = msgspec.json.encode(alarm)
                db.execute(self._put_alarm, {"id": alarm.id, "open": True, "record": body})
            case PutAlarm(alarm, _):
                # What is over stands in the audit; nobody asks this table for it again.
                db.execute(self._drop_alarm, {"gone": alarm.id})
            case PutBooking(booking):
                db.execute(self._put_booking, msgspec.structs.asdict(booking))


def _upsert(
    insert: Callable[[Table], Any], table: Table, *, key: str = "id", keep: tuple[str, ...] = ()
) -> Any:
    """Insert, or replace by `key`; members in `keep` stay as they were first written."""
    names = [column.name for column in table.columns]
    statement = insert(table).values({name: bindparam(name) for name in names})
    changed = {name: statement.excluded[name] for name in names if name != key and name not in keep}
    return statement.on_conflict_do_update(index_elements=[key], set_=changed)


def check_row(row: Any) -> CheckRow:
    values = dict(row._mapping)
    return CheckRow(**(values | {"dedupe": values["dedupe"] or ""}))


def outbox_row(row: Any) -> OutboxRow:
    values = dict(row._mapping)
    values["check"] = values.pop("check_id")
    return OutboxRow(**values)


def booking_row(row: Any) -> BookingRow:
    return BookingRow(**row._mapping)
