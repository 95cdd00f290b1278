"""The records are synthetic by construction: what might be somebody is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pnc import marks, records, reserved
from gateway.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "config" / "pnc"
LOADED = records.load(FOLDER)
WANTED_TAGS = {f"TP{n:02}" for n in range(2, 32)} - {"TP15", "TP28"}
CANNED = (
    *("AAB", "ABC", "ABD", "ABE", "STV", "ACT", "REA", "BLK", "KWN", "DDR", "NNS", "MNS", "MTX"),
    *("SRN", "NTX", "CLN", "EXP", "SCR", "SZD", "FND", "PTL", "REP", "CAR"),
)


def test_every_canned_record_of_the_reference_is_there() -> None:
    assert {person.tag for person in LOADED.persons} >= WANTED_TAGS
    assert {vehicle.vrm for vehicle in LOADED.vehicles} == {f"TE99{each}" for each in CANNED}
    assert {item.serial for item in LOADED.items} >= {"TSTBIKE001", "TSTBIKE002", "TSTFAC0001"}
    assert LOADED.drivers


def test_no_two_records_share_an_identity() -> None:
    for found in (
        [each.pncid for each in LOADED.persons],
        [each.vrm for each in LOADED.vehicles],
        [each.vin for each in LOADED.vehicles],
        [each.driver_no for each in LOADED.drivers],
    ):
        assert len(set(found)) == len(found)


def with_person(**changes: object) -> records.Records:
    person = msgspec.structs.replace(LOADED.persons[0], **changes)
    return msgspec.structs.replace(LOADED, persons=(person,))


def with_vehicle(**changes: object) -> records.Records:
    vehicle = msgspec.structs.replace(LOADED.vehicles[0], **changes)
    return msgspec.structs.replace(LOADED, vehicles=(vehicle,))


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ -'", min_size=1, max_size=20))
def test_a_surname_outside_the_reserved_ones_is_refused(surname: str) -> None:
    refused = records.outside_the_ranges(with_person(surname=surname))
    assert bool(refused) == (surname not in reserved.SURNAMES)
    assert all(surname not in finding for finding in refused if len(surname) > 3)


@given(st.from_regex(r"[A-Z]{2}[0-9]{2}[A-Z]{3}", fullmatch=True))
def test_a_mark_that_may_be_issued_is_refused(mark: str) -> None:
    """Only age identifiers 99 and 49, and the DVLA's own test marks, may bear a record."""
    accepted = not records.outside_the_ranges(with_vehicle(vrm=mark))
    allowed = mark[2:4] in ("99", "49") and marks.classify(mark) == "current"
    assert accepted == (allowed or mark in reserved.DVLA_TEST_MARKS or mark.startswith("ER19"))


@given(st.integers(1950, 2098), st.integers(1, 9_999_999))
def test_a_pncid_of_an_issued_year_is_refused(year: int, serial: int) -> None:
    from adapters.pnc.identifiers import pncid

    assert records.outside_the_ranges(with_person(pncid=pncid(year, serial)))


@pytest.mark.parametrize(
    "bad",
    [
        with_person(address="1 HIGH STREET, PETERBOROUGH, PE1 1AA"),
        with_person(pncid="2099/0000002A"),
        with_vehicle(vin="WVWZZZ00000000001"),
        with_vehicle(keeper="SMITH JOHN"),
        with_vehicle(keeper_address="10 DOWNING STREET"),
    ],
)
def test_anything_else_outside_is_refused(bad: records.Records) -> None:
    assert len(records.outside_the_ranges(bad)) == 1


def test_findings_name_file_and_place_and_never_quote(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    persons = tmp_path / "persons.toml"
    persons.write_text(persons.read_text("utf-8").replace('"TESTER"', '"JONES"', 1), "utf-8")
    with pytest.raises(ConfigError) as caught:
        records.load(tmp_path)
    assert "persons.toml: persons[0] (TP02).surname" in str(caught.value)
    assert "JONES" not in str(caught.value)
    persons.unlink()
    with pytest.raises(ConfigError, match=r"persons\.toml: cannot be read"):
        records.load(tmp_path)
