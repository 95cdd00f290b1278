"""The reserved ranges: nothing outside them may bear a record, whoever writes the file."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapters.pnc import identifiers, marks, records, reserved
from adapters.pnc.rows import Records
from tests.adapters.pnc.replies import RECORDS

LOADED = records.load(RECORDS)
PLAIN = Records(
    persons=LOADED.persons[:1],
    vehicles=LOADED.vehicles[:1],
    items=LOADED.items[:1],
    types=LOADED.types,
    drivers=LOADED.drivers[:1],
)


def with_first(table: str, **changes: Any) -> Records:
    """One record of each table, the first of this one changed."""
    row = msgspec.structs.replace(getattr(PLAIN, table)[0], **changes)
    return msgspec.structs.replace(PLAIN, **{table: (row,)})


def test_the_whole_of_config_lies_in_the_ranges() -> None:
    assert records.outside_the_ranges(LOADED) == []
    assert records.outside_the_ranges(PLAIN) == []


# --------------------------------------------------------------------------- field by field


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ -'", min_size=1, max_size=20))
def test_a_surname_outside_the_reserved_ones_is_refused(surname: str) -> None:
    for table in ("persons", "drivers"):
        refused = records.outside_the_ranges(with_first(table, surname=surname))
        assert bool(refused) == (surname not in reserved.SURNAMES)
        assert all(surname not in finding for finding in refused if len(surname) > 3)


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZÁ ", max_size=20))
def test_a_given_name_outside_the_fixed_ones_is_refused(forenames: str) -> None:
    words = forenames.split()
    fixed = bool(words) and all(word in reserved.GIVEN_NAMES for word in words)
    for table in ("persons", "drivers"):
        assert bool(records.outside_the_ranges(with_first(table, forenames=forenames))) != fixed


@given(st.from_regex(r"[A-Z]{2}[0-9]{2}[A-Z]{3}", fullmatch=True))
def test_a_mark_that_may_be_issued_is_refused(mark: str) -> None:
    """Only age identifiers 99 and 49, and the DVLA's own test marks, may bear a record."""
    accepted = not records.outside_the_ranges(with_first("vehicles", vrm=mark))
    allowed = mark[2:4] in ("99", "49") and marks.classify(mark) == "current"
    assert accepted == (allowed or mark in reserved.DVLA_TEST_MARKS or mark.startswith("ER19"))


@given(
    st.from_regex(
        r"[A-Z]{1,3}[0-9]{1,4}|[0-9]{1,4}[A-Z]{1,3}|[A-Z][0-9]{3}[A-Z]{3}", fullmatch=True
    )
)
def test_no_other_class_of_marks_may_bear_a_record(mark: str) -> None:
    """None of them has a reserved range: any well-formed one may be a real vehicle."""
    assume(marks.classify(mark) != "other")
    assume(mark not in reserved.DVLA_TEST_MARKS)
    assert not reserved.mark(mark)


@pytest.mark.parametrize("mark", ["U123TST", "TST123U", "L2WPS", "AA19PPP"])
def test_never_issued_and_test_marks_may(mark: str) -> None:
    assert reserved.mark(mark)


@given(st.integers(1950, 2098), st.integers(1, 9_999_999))
def test_a_pncid_of_an_issued_year_is_refused(year: int, serial: int) -> None:
    pncid = identifiers.pncid(year, serial)
    assert records.outside_the_ranges(with_first("persons", pncid=pncid))


@given(st.text(alphabet="ABCDEFGHJKLMNPRSTUVWXYZ0123456789", min_size=17, max_size=17))
def test_a_chassis_number_of_a_maker_is_refused(vin: str) -> None:
    ours = vin.startswith("TSTZZZ") and vin[6:].isdecimal()
    assert bool(records.outside_the_ranges(with_first("vehicles", vin=vin))) != ours


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("persons", {"address": "1 HIGH STREET, PETERBOROUGH, PE1 1AA"}),
        ("persons", {"address": "1 TEST STREET, PETERBOROUGH, PE1 1AA"}),
        ("persons", {"pncid": "2099/0000002A"}),
        ("persons", {"pncid": "99/2H"}),
        ("vehicles", {"keeper": "SMITH JOHN"}),
        ("vehicles", {"keeper": "TESTER SMITH"}),
        ("vehicles", {"keeper": "TESTER"}),
        ("vehicles", {"keeper_address": "10 DOWNING STREET"}),
        ("items", {"serial": "WBK1234567"}),
        ("items", {"serial": "TST"}),
    ],
)
def test_anything_else_outside_is_refused(table: str, changes: dict[str, Any]) -> None:
    assert records.outside_the_ranges(with_first(table, **changes))


# --------------------------------------------------------------------------- free text

STRAYS = (
    *("AB12CDE", "AB12 CDE", "PE1 1HG", "SW1A 1AA", "1981/0000034U", "81/34U", "07911 123456"),
    *("01733 123456", "+44 7911 123456", "someone@example.org", "020 7946 0018"),
)
OURS = (
    *(
        "TE99ABC",
        "TE99 ABC",
        "ZZ99 9ZZ",
        "2099/0000002H",
        "07700 900123",
        "01632 960001",
        "AA19PPP",
    ),
    *("35NB/W/0006", "CURFEW 19:00-07:00 AT HOME ADDRESS", "ROBBERY 2016", "PACE S.24", "320D"),
)


@pytest.mark.parametrize("text", STRAYS)
def test_what_may_be_somebodys_is_seen_in_free_text(text: str) -> None:
    assert reserved.stray(f"SEEN WITH {text}, LEFT")
    assert reserved.stray(text.lower())


@pytest.mark.parametrize("text", OURS)
def test_what_is_ours_or_nobodys_is_not(text: str) -> None:
    assert reserved.stray(f"SEEN WITH {text}, LEFT") == ""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where texts stand in a record, as a path into it."""
    if isinstance(value, str):
        return [path]
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    return [found for name, member in inner for found in places(member, (*path, name))]


TREE = msgspec.to_builtins(LOADED)
PLACES = [path for path in places(TREE) if path[0] != "types"]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(STRAYS))
def test_one_stray_anywhere_in_the_records_is_refused(path: tuple[Any, ...], stray: str) -> None:
    """Whichever text of whichever record somebody puts it into, the finding names the place."""
    tree = msgspec.json.decode(msgspec.json.encode(TREE))
    holder = tree
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = stray
    try:
        changed = msgspec.convert(tree, Records)
    except msgspec.ValidationError:
        return  # a closed list (sex, Y/N): refused even before
    found = records.outside_the_ranges(changed) + records.in_conflict(changed)
    assert found
    assert all(stray not in finding for finding in found)
