"""What a group of callers changes is made in their order, however it is put together."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from adapters.ledger.rows import Changes, too_large
from adapters.ledger.schema import checks, kept, metadata, outbox
from gateway.ports import (
    Change,
    CheckRow,
    DropKept,
    DropOutbox,
    KeptRow,
    OutboxRow,
    PutCheck,
    PutKept,
    PutOutbox,
    Record,
)


@pytest.fixture(scope="module")
def db() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def put(name: str, holder: str) -> PutOutbox:
    return PutOutbox(
        OutboxRow(
            id=name,
            check=name,
            terminal="5001001",
            holder=holder,
            payload=b"x",
            queued_at_ms=1,
            stale_at_ms=2,
            priority=1,
        )
    )


def row(name: str, *, dedupe: str, outcome: str = "") -> PutCheck:
    return PutCheck(
        CheckRow(
            id=name,
            short=name,
            receipt=f"R-{name}",
            terminal="5001001",
            dedupe=dedupe,
            opened_at_ms=1,
            state=b"{}",
            open=not outcome,
            outcome=outcome,
            result=None,
        )
    )


STEPS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["one", "two", ""])), max_size=12
)


def test_what_is_put_after_it_was_dropped_is_there(db: Connection) -> None:
    made(db, [("A", "one"), ("B", "one"), ("B", ""), ("B", "two"), ("A", "")])


@given(STEPS)
def test_the_outbox_stands_as_if_each_had_been_made_alone(
    db: Connection, steps: list[tuple[str, str]]
) -> None:
    made(db, steps)


def made(db: Connection, steps: list[tuple[str, str]]) -> None:
    changes = Changes(db.dialect, fence=1)
    changes.begin()
    expected: dict[str, str] = {}
    for name, holder in steps:
        change: Change = put(name, holder) if holder else DropOutbox(name)
        changes.take(change)
        expected.pop(name, None)
        if holder:
            expected[name] = holder
    changes.flush(db)
    found = {each.id: each.holder for each in db.execute(select(outbox))}
    db.rollback()
    assert found == expected


KINDS = st.sampled_from(["timer", "booking", "outbox"])


@given(
    st.lists(
        st.tuples(KINDS, st.sampled_from("AB"), st.sampled_from(["one", "two", ""])), max_size=12
    )
)
def test_kept_rows_and_the_outbox_do_not_meet(
    db: Connection, steps: list[tuple[str, str, str]]
) -> None:
    """Equal ids of other kinds and tables: each stands as if it had been made alone."""
    changes = Changes(db.dialect, fence=1)
    changes.begin()
    expected: dict[tuple[str, str], str] = {}
    for kind, name, body in steps:
        changes.take(step_of(kind, name, body))
        expected.pop((kind, name), None)
        if body:
            expected[kind, name] = body
    changes.flush(db)
    found = {(each.kind, each.id): each.body.decode() for each in db.execute(select(kept))}
    found |= {("outbox", each.id): each.holder for each in db.execute(select(outbox))}
    db.rollback()
    assert found == expected


def step_of(kind: str, name: str, body: str) -> Change:
    if kind == "outbox":
        return put(name, body) if body else DropOutbox(name)
    if not body:
        return DropKept(kind, name)
    return PutKept(KeptRow(kind=kind, id=name, at_ms=1, body=body.encode()))


TEXTS = sorted(field.name for field in msgspec.structs.fields(Record) if field.type is str)


@pytest.mark.parametrize("name", TEXTS)
def test_each_text_of_a_record_has_its_bound(name: str) -> None:
    values = {"event": "asked"} | {name: "x" * 2049}
    assert too_large([Record(at_ms=1, **values)], []) == f"Record.{name}"


@pytest.mark.parametrize(
    ("name", "value"), [("kind", "x" * 17), ("id", "x" * 65), ("body", bytes(256 * 1024 + 1))]
)
def test_what_is_kept_has_its_bounds(name: str, value: object) -> None:
    row = KeptRow(kind="timer", id="1", at_ms=1, body=b"")
    assert too_large([], [PutKept(row)]) == ""
    long = msgspec.structs.replace(row, **{name: value})
    assert too_large([], [PutKept(long)]) == f"KeptRow.{name}"


def test_a_twin_is_found_in_the_same_group_and_after_it(db: Connection) -> None:
    changes = Changes(db.dialect, fence=1)
    changes.begin()
    first, second = row("C1", dedupe="same"), row("C2", dedupe="same")
    assert changes.twin(db, [first]) is None
    changes.take(first)
    assert changes.twin(db, [second]) == "C1"
    changes.flush(db)
    changes.made()
    again = row("C1", dedupe="same", outcome="answered")
    assert changes.twin(db, [again]) is None
    changes.take(again)
    changes.flush(db)
    assert changes.twin(db, [second]) == "C1"
    assert [each.outcome for each in db.execute(select(checks))] == ["answered"]
    db.rollback()


def test_what_a_failed_transaction_had_taken_is_not_made_by_the_next(db: Connection) -> None:
    changes = Changes(db.dialect, fence=1)
    changes.begin()
    changes.take(put("A", "one"))
    changes.take(row("C1", dedupe="same"))
    changes.begin()
    changes.take(put("B", "one"))
    changes.flush(db)
    assert [each.id for each in db.execute(select(outbox))] == ["B"]
    assert db.execute(select(checks)).first() is None
    changes.made()
    db.rollback()
    changes.begin()
    changes.make(db, row("C0", dedupe="same"))
    assert changes.twin(db, [row("C1", dedupe="same")]) == "C0"  # C1 was never made
    db.rollback()
