"""The records files: complete, unambiguous, and refused with every finding when they are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.pnc import answers, records
from gateway.errors import ConfigError
from tests.adapters.pnc.replies import RECORDS

LOADED = records.load(RECORDS)
WANTED_TAGS = {f"TP{n:02}" for n in range(2, 32)} - {"TP15", "TP28"}
CANNED = (
    *("AAB", "ABC", "ABD", "ABE", "STV", "ACT", "REA", "BLK", "KWN", "DDR", "NNS", "MNS", "MTX"),
    *("SRN", "NTX", "CLN", "EXP", "SCR", "SZD", "FND", "PTL", "REP", "CAR"),
)
NOW_MS = 1_795_325_047_120
"""2026-11-22T05:24:07Z"""
DAY_MS = 86_400_000


def test_every_canned_record_of_the_reference_is_there() -> None:
    assert {person.tag for person in LOADED.persons} >= WANTED_TAGS
    assert {vehicle.vrm for vehicle in LOADED.vehicles} == {f"TE99{each}" for each in CANNED}
    assert {item.serial for item in LOADED.items} == {
        *("TSTBIKE001", "TSTBIKE002", "TSTBIKE003", "TSTFAC0001")
    }
    assert LOADED.types["BIKE"] == "PEDAL CYCLE"
    assert LOADED.drivers


@pytest.mark.parametrize(
    ("tag", "pncid"),
    [
        ("TP02", "2099/0000002H"),
        ("TP09", "2099/0000009Q"),
        ("TP14", "2099/0000014W"),
        ("TP17", "2099/0000017Z"),
        ("TP18", "2099/0000018A"),
        ("TP18B", "2099/0000019B"),
        ("TP19", "2099/0000020C"),
        ("TP24", "2099/0000025H"),
        ("TP31", "2099/0000031P"),
    ],
)
def test_identities_are_those_of_the_reference(tag: str, pncid: str) -> None:
    assert {person.tag: person.pncid for person in LOADED.persons}[tag] == pncid


def test_nobody_has_a_cro_number() -> None:
    """A two-digit year may be a real person's: fixtures have none (pnc-domain, 15.1)."""
    assert not any("cro" in name for name in LOADED.persons[0].__struct_fields__)


# --------------------------------------------------------------------------- refused files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "pnc"
    shutil.copytree(RECORDS, copy)
    return copy


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text("utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), "utf-8")


def findings(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        records.load(folder)
    return caught.value.findings


def test_findings_name_file_and_place_and_never_quote(folder: Path) -> None:
    change(folder, "persons.toml", '"TESTER"', '"JONES"')
    change(folder, "vehicles.toml", '"TE99AAB"', '"AB12CDE"')
    found = findings(folder)
    assert any("persons.toml: persons[0] (TP02).surname" in each for each in found)
    assert any("vehicles.toml: vehicles[0].vrm" in each for each in found)
    assert not any("JONES" in each or "AB12CDE" in each for each in found)


@pytest.mark.parametrize("name", ["persons.toml", "vehicles.toml", "property.toml", "drivers.toml"])
def test_a_file_that_is_missing_or_broken_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("[[", "utf-8")
    assert any(each.startswith(f"{name}: ") for each in findings(folder))
    (folder / name).unlink()
    assert any(each.startswith(f"{name}: cannot be read") for each in findings(folder))


@pytest.mark.parametrize(
    ("name", "old", "new", "finding"),
    [
        ("vehicles.toml", '"TE99ABC"', '"TE99AAB"', "vehicles.toml: vrm: entry 1"),
        ("vehicles.toml", "00000000002", "00000000001", "vehicles.toml: vin: entry 1"),
        ("persons.toml", "2099/0000003J", "2099/0000002H", "persons.toml: pncid: entry 1"),
        ("property.toml", "TSTBIKE002", "TSTBIKE001", "property.toml: type and serial: entry 1"),
        ("vehicles.toml", "2099/0000006M", "2099/0009999Q", "keeper_pncid"),
        ("persons.toml", '"1980-02-02"', '"1980-02-30"', "persons[0] (TP02).dob"),
        ("persons.toml", '"1980-02-02"', '"19800202"', "persons[0] (TP02).dob"),
        ("persons.toml", 'sex = "M"', 'sex = "X"', "sex"),
        ("persons.toml", "hair =", "hare =", "unknown field"),
        ("vehicles.toml", 'insured = "N"', 'insured = "NO"', "insured"),
        ("drivers.toml", "TESTE802020C99AA", "TESTE802030C99AA", "drivers[0].driver_no"),
        ("drivers.toml", '"1980-02-02"', '"SOON"', "drivers[0].dob"),
    ],
)
def test_what_would_make_an_answer_depend_on_chance_is_refused(
    folder: Path, name: str, old: str, new: str, finding: str
) -> None:
    """A clean record of the same mark would hide the stolen one; a lost keeper a wanted one."""
    change(folder, name, old, new)
    assert any(finding in each for each in findings(folder))


# --------------------------------------------------------------------------- ages


def vehicle(mark: str, *, days_on: float = 0) -> Any:
    row = next(each for each in LOADED.vehicles if each.vrm == mark)
    now_ms = NOW_MS + round(days_on * DAY_MS)
    return answers.vehicle(row, since_ms=NOW_MS, now_ms=now_ms, keeper=None)


def test_ages_are_counted_back_from_the_first_question() -> None:
    """31 h ago is 31 h ago whenever the mock is started, and the same moment an hour later."""
    first = vehicle("TE99ABD")
    assert first.reports[0].reported_at == "2026-11-20T22:24:07Z"
    assert vehicle("TE99ABD", days_on=1) == first


@pytest.mark.parametrize(
    ("mark", "days_on", "reports"),
    [("TE99ABE", 0, 1), ("TE99ABE", 0.99, 1), ("TE99ABE", 1, 0), ("TE99ABC", 400, 1)],
)
def test_what_nobody_confirmed_is_gone_on_day_42(mark: str, days_on: float, reports: int) -> None:
    """TE99ABE is of day 41; a confirmed one stays."""
    assert len(vehicle(mark, days_on=days_on).reports) == reports


def test_dates_of_a_person_are_relative_too() -> None:
    row = next(each for each in LOADED.persons if each.tag == "TP12")
    person = answers.person(row, since_ms=NOW_MS)
    assert person.bail is not None
    assert person.bail.next_date == "2027-01-06"
    row = next(each for each in LOADED.persons if each.tag == "TP05")
    assert answers.person(row, since_ms=NOW_MS).warnings[0].set_on == "2026-08-24"
    without = msgspec.structs.replace(LOADED.persons[0], bail=None)
    assert answers.person(without, since_ms=NOW_MS).bail is None
