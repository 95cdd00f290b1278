"""The register: what cannot be looked for is refused, and nothing found is cut short."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters.pnc import identifiers, matching
from adapters.pnc.faults import DVLA_FAULTS, FAULTS, fault_of
from adapters.pnc.register import InvalidKey, Register
from gateway.messages import (
    DriverKey,
    DriverRecord,
    Key,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
    kind_of,
)
from tests.adapters.pnc.replies import RECORDS

NOW_MS = 1_795_325_047_120
"""2026-11-22T05:24:07Z"""
DAY_MS = 86_400_000


@pytest.fixture
def register() -> Register:
    return Register(RECORDS)


def ask(register: Register, key: Key, *, now_ms: int = NOW_MS) -> PncAnswer:
    return register.answer(key, check="C1", attempt=1, key_text="K", now_ms=now_ms)


# --------------------------------------------------------------------------- not a question


@pytest.mark.parametrize(
    "key",
    [
        VehicleKey(),
        VehicleKey(vrm="TE99ABC", vin="TSTZZZ00000000002"),
        VehicleKey(vrm="TE99?"),
        VehicleKey(vrm="TE٩٩ABC"),
        VehicleKey(vrm="A" * 11),
        VehicleKey(vin="0002"),
        VehicleKey(vin="000000002"),
        VehicleKey(vin="TSTZZZ0000000000O"),
        PersonKey(surname=""),
        PersonKey(surname="TESTER"),
        PersonKey(surname="TESTER", sex="U"),
        PersonKey(surname="TESTER", forenames=" - "),
        PersonKey(surname="李", forenames="NA", sex="F"),
        PersonKey(surname="Иванов", forenames="A", sex="M"),
        PersonKey(surname="TESTER", dob="1980-02-30"),
        PersonKey(surname="TESTER", dob="19800202"),
        PersonKey(surname="TESTER", dob="SOON"),
        PersonKey(surname="TESTER", age_years=-1),
        PersonKey(surname="TESTER", age_years=131),
        DriverKey(),
        DriverKey(surname="TESTER"),
        DriverKey(dob="1980-02-02"),
        DriverKey(surname="TESTER", dob="1980-13-02"),
        PropertyKey(type="BIKE", serial=" "),
        PropertyKey(type="", serial="TSTBIKE001"),
    ],
)
def test_what_cannot_be_looked_for_is_never_no_trace(register: Register, key: Key) -> None:
    """pnc-domain 2.2, minimum input; the reason never quotes what was asked."""
    with pytest.raises(InvalidKey) as caught:
        ask(register, key)
    assert "TESTER" not in str(caught.value)
    assert "TE99" not in str(caught.value)


# --------------------------------------------------------------------------- found


@pytest.mark.parametrize(
    "vin", ["TSTZZZ00000000009", "tstzzz 0000 0000 009", "00000009", "0000009", "000009", "00009"]
)
def test_a_vehicle_by_17_or_by_its_last_5_to_8(register: Register, vin: str) -> None:
    """With its keeper: TE99KWN's is wanted."""
    answer = ask(register, VehicleKey(vin=vin))
    (record,) = answer.records
    assert isinstance(record, VehicleRecord)
    assert record.vrm == "TE99KWN"
    assert record.keeper_record is not None
    assert record.keeper_record.circulations[0].kind == "WANTED_ARREST"


def add_vehicles(folder: Path, vins: list[str], more: str = "") -> None:
    with (folder / "vehicles.toml").open("a", encoding="utf-8") as file:
        for number, vin in enumerate(vins):
            mark = f"TE49A{chr(65 + number // 10)}{'ABCDEFGHJK'[number % 10]}"
            file.write(f'\n[[vehicles]]\nvrm = "{mark}"\nvin = "{vin}"\n{more}\n')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "pnc"
    shutil.copytree(RECORDS, copy)
    return copy


def test_several_vehicles_of_one_end_lose_neither_keeper_nor_source(folder: Path) -> None:
    more = 'keeper_pncid = "2099/0000006M"\nnot_checked = ["INSURANCE"]'
    add_vehicles(folder, ["TSTZZZ11100077777", "TSTZZZ22200077777"], more)
    answer = ask(Register(folder), VehicleKey(vin="77777"))
    assert len(answer.records) == 2
    assert answer.not_checked == ("INSURANCE",)
    for record in answer.records:
        assert isinstance(record, VehicleRecord)
        assert record.insured == ""
        assert record.keeper_record is not None
        assert record.keeper_record.circulations


def test_more_vehicles_than_fit_are_too_many(folder: Path) -> None:
    """Never the first twelve as if they were all."""
    add_vehicles(folder, [f"TSTZZZ{n:06}77777" for n in range(matching.CAP + 1)])
    register = Register(folder)
    answer = ask(register, VehicleKey(vin="77777"))
    assert answer.too_many
    assert answer.records == ()
    assert len(ask(register, VehicleKey(vin="00077777")).records) == 1


@pytest.mark.parametrize(
    ("type_", "serial", "found"),
    [
        ("BIKE", "TSTBIKE001", True),
        ("pedal  cycle", "tst-bike 001", True),
        ("PEDAL CYCLE", "TSTBIKE001", True),
        ("FAC", "TSTBIKE001", False),
        ("BIKEE", "TSTBIKE001", True),
        ("BIKE", "TSTBIKE009", False),
    ],
)
def test_property_by_type_and_serial(
    register: Register, type_: str, serial: str, found: bool
) -> None:
    """A type that nobody knows bars nothing: a misspelling must not hide a stolen thing."""
    assert bool(ask(register, PropertyKey(type=type_, serial=serial)).records) is found


@pytest.mark.parametrize(
    "key",
    [
        DriverKey(driver_no="TESTE811112D99AB"),
        DriverKey(driver_no="teste 811112 d99ab"),
        DriverKey(surname="Tester", dob="1982-11-11"),
        DriverKey(surname="TESTER", forenames="DISQ ANN", dob="1982-11-11"),
    ],
)
def test_a_driver_by_number_or_by_name_and_date(register: Register, key: DriverKey) -> None:
    (record,) = ask(register, key).records
    assert isinstance(record, DriverRecord)
    assert record.disqualification is not None


def test_a_person_by_identifier_needs_the_check_name(register: Register) -> None:
    """The wrong-record guard of pnc-domain, 3: another surname discloses nobody."""
    found = register.by_id("2099/6M", "tester", this_year=2026)
    assert found is not None
    assert found.tag == "TP06"
    assert register.by_id("2099/6M", "SYNTHA", this_year=2026) is None
    assert register.by_id("2099/6A", "TESTER", this_year=2026) is None
    assert register.by_id("2099/0009999Q", "TESTER", this_year=2026) is None


# --------------------------------------------------------------------------- sources and ages


@pytest.mark.parametrize(
    ("key", "sources"),
    [
        (VehicleKey(vrm="TE99AAB"), {"PNC", "DVLA", "INSURANCE"}),
        (VehicleKey(vrm="TE99AAA"), {"PNC", "DVLA", "INSURANCE"}),
        (PersonKey(surname="TESTER", forenames="NORA", sex="F"), {"PNC"}),
        (DriverKey(driver_no="TESTE802020C99AA"), {"PNC", "DVLA"}),
        (PropertyKey(type="BIKE", serial="TSTBIKE009"), {"PNC"}),
    ],
)
def test_each_source_has_its_own_as_of_time(
    register: Register, key: Key, sources: set[str]
) -> None:
    """The copy of the DVLA's register is of the early morning: 04:12, and never of the future."""
    answer = ask(register, key)
    times = {block.source: block.as_of_ms for block in answer.blocks}
    assert set(times) == sources
    assert {block.state for block in answer.blocks} == {"OK"}
    assert times["PNC"] == NOW_MS
    if "DVLA" in times:
        assert NOW_MS - times["DVLA"] == (1 * 3600 + 12 * 60 + 7) * 1000 + 120
        early = ask(register, key, now_ms=NOW_MS - 2 * 3_600_000)
        before = next(block.as_of_ms for block in early.blocks if block.source == "DVLA")
        assert before == times["DVLA"] - DAY_MS


def test_a_stolen_vehicle_that_nobody_confirmed_disappears(register: Register) -> None:
    """TE99ABE is on day 41 at the first question: a day later it merely looks recovered."""
    today = ask(register, VehicleKey(vrm="TE99ABE")).records[0]
    tomorrow = ask(register, VehicleKey(vrm="TE99ABE"), now_ms=NOW_MS + DAY_MS).records[0]
    assert isinstance(today, VehicleRecord)
    assert isinstance(tomorrow, VehicleRecord)
    assert [report.kind for report in today.reports] == ["LOS"]
    assert tomorrow.reports == ()


# --------------------------------------------------------------------------- triggers


def triggered(code: str) -> list[Key]:
    return [
        VehicleKey(vrm=f"ER99{code}"),
        PersonKey(surname="ERROR", forenames=code),
        DriverKey(surname="ERROR", forenames=code, dob="1980-01-01"),
        PropertyKey(type="ERROR", serial=code),
    ]


@pytest.mark.parametrize("code", FAULTS)
def test_every_trigger_works_for_every_operation(code: str) -> None:
    assert {fault_of(key) for key in triggered(code)} == {code}
    assert {fault_of(key) for key in triggered(code.lower())} == {code}


def test_other_marks_and_names_are_no_triggers() -> None:
    for mark, code in DVLA_FAULTS.items():
        assert fault_of(VehicleKey(vrm=mark)) == code
    for key in (
        *triggered("XYZ"),
        VehicleKey(vrm="TE99TMT"),
        VehicleKey(vin="ER99TMT"),
        PersonKey(surname="TESTER", forenames="TMT"),
        PropertyKey(type="BIKE", serial="TMT"),
    ):
        assert fault_of(key) == ""


ANSWERING = ("SLW", "LAT", "DUP", "UNK", "PAR")
RECORD = {
    "vehicle": VehicleRecord,
    "person": PersonRecord,
    "driver": DriverRecord,
    "property": PropertyRecord,
}


@pytest.mark.parametrize("code", ANSWERING)
def test_a_trigger_that_answers_answers_with_a_record_of_its_kind(
    register: Register, code: str
) -> None:
    for key in triggered(code):
        kind = kind_of(key).value
        answer = ask(register, key)
        if (code, kind) == ("PAR", "property"):
            continue
        assert [type(record) for record in answer.records] == [RECORD[kind]]
        assert bool(answer.not_checked) is (code == "PAR")


def test_partial_says_which_source_was_silent(register: Register) -> None:
    """Twice, as a list and as the state of a block; property with nothing found at all."""
    for key in triggered("PAR"):
        answer = ask(register, key)
        silent = {block.source for block in answer.blocks if block.state == "UNAVAILABLE"}
        assert silent == set(answer.not_checked)
        assert silent
    assert ask(register, triggered("PAR")[3]).records == ()


def test_triggers_work_with_anybodys_records(tmp_path: Path) -> None:
    """What stands behind them is not taken from the files."""
    for name, table in (
        *(("persons", "persons"), ("vehicles", "vehicles")),
        *(("property", "items"), ("drivers", "drivers")),
    ):
        (tmp_path / f"{name}.toml").write_text(f"{table} = []\n", "utf-8")
    register = Register(tmp_path)
    for code in ANSWERING:
        for key in triggered(code):
            ask(register, key)
    assert ask(register, VehicleKey(vrm="TE99ABC")).records == ()


def test_stand_ins_lie_in_the_reserved_ranges(register: Register) -> None:
    from adapters.pnc import reserved

    for key in triggered("SLW"):
        (record,) = ask(register, key).records
        match record:
            case PersonRecord():
                assert reserved.pncid(record.pncid)
                assert reserved.surname(record.surname)
            case VehicleRecord():
                assert reserved.vin(record.vin)
                assert reserved.keeper(record.keeper)
            case DriverRecord():
                assert identifiers.driver_number_fits(
                    record.driver_no, surname=record.surname, dob=record.dob, sex=record.sex
                )
            case PropertyRecord():
                assert reserved.serial(record.serial)
