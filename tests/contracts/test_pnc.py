"""What every PNC adapter promises: the mock in process, and HTTP against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.pnc import create
from adapters.pnc.mock import FAULTS
from gateway.app import SystemClock
from gateway.errors import (
    PncDown,
    PncError,
    PncGarbled,
    PncInvalid,
    PncTimeout,
    PncUnauthorised,
)
from gateway.messages import (
    DriverKey,
    DriverRecord,
    Key,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PncQuery,
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
    search_key,
)
from gateway.ports import Pnc
from gateway.settings import PncSection
from simulators.pnc_server import PncServer
from tests.fakes import FakeIds

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "config" / "pnc"


@pytest.fixture
async def server() -> AsyncIterator[PncServer]:
    server = PncServer(RECORDS)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=["mock", "http"])
async def pnc(request: pytest.FixtureRequest, server: PncServer) -> AsyncIterator[Pnc]:
    section = PncSection(adapter=request.param, records=str(RECORDS), url=server.url)
    adapter = create(
        request.param,
        settings=section,
        config_path=ROOT / "config" / "gateway.toml",
        clock=SystemClock(),
        ids=FakeIds(),
    )
    yield adapter
    await adapter.close()


def query(key: Key, *, check: str = "01TESTC001", attempt: int = 1) -> PncQuery:
    return PncQuery(
        check=check,
        attempt=attempt,
        key=key,
        key_text=search_key(key),
        reason="1",
        justification="NO LIGHTS",
        originator="PC1001 TESTER/1/BRIDGE ST",
        location="BRIDGE ST",
        on_behalf_of="",
        asked_at_ms=1_795_325_047_120,
        deadline_s=15.0,
    )


async def ask(pnc: Pnc, key: Key) -> PncAnswer:
    async with asyncio.timeout(10):
        return await pnc.query(query(key))


def person(forenames: str, dob: str = "", sex: str = "", surname: str = "TESTER") -> PersonKey:
    return PersonKey(surname=surname, forenames=forenames, dob=dob, sex=sex)


async def test_it_echoes_the_question(pnc: Pnc) -> None:
    answer = await ask(pnc, VehicleKey(vrm="TE99AAB"))
    asked = query(VehicleKey(vrm="TE99AAB"))
    assert (answer.check, answer.attempt, answer.key_text) == (
        asked.check,
        asked.attempt,
        asked.key_text,
    )
    assert {block.source for block in answer.blocks} >= {"PNC", "DVLA", "INSURANCE"}
    assert answer.as_of_ms > 0


async def test_a_vehicle_as_it_is_on_record(pnc: Pnc) -> None:
    record = (await ask(pnc, VehicleKey(vrm="TE99AAB"))).records[0]
    assert isinstance(record, VehicleRecord)
    assert (record.make, record.model, record.colour) == ("FORD", "FIESTA", "BLUE")
    assert (record.tax, record.mot, record.insured) == ("Y", "Y", "Y")
    assert record.reports == ()


@pytest.mark.parametrize("vin", ["TSTZZZ00000000002", "00000002"])
async def test_a_vehicle_by_its_chassis(pnc: Pnc, vin: str) -> None:
    """17 characters, or its last."""
    record = (await ask(pnc, VehicleKey(vin=vin))).records[0]
    assert isinstance(record, VehicleRecord)
    assert record.vrm == "TE99ABC"


@pytest.mark.parametrize(
    ("mark", "kind", "more"),
    [
        ("TE99ABC", "LOS", {"confirmed": True}),
        ("TE99ABD", "LOS", {"confirmed": False}),
        ("TE99STV", "LOS", {"occupant_warnings": ("VI",)}),
        ("TE99ACT", "ACTION", {"action": "STOP"}),
        ("TE99REA", "REACTION", {}),
        ("TE99BLK", "BLOCK", {"block": True}),
        ("TE99CLN", "CLONE", {}),
        ("TE99SZD", "SEIZED", {}),
        ("TE99FND", "FOUND", {}),
        ("TE99PTL", "POLICE_VEHICLE", {}),
        ("TE99REP", "REPOSSESSED", {}),
    ],
)
async def test_reports_come_whole(pnc: Pnc, mark: str, kind: str, more: dict[str, object]) -> None:
    """BLOCK, too: it is the policy's to hide it, not the adapter's."""
    record = (await ask(pnc, VehicleKey(vrm=mark))).records[0]
    assert isinstance(record, VehicleRecord)
    report = record.reports[0]
    assert report.kind == kind
    for name, value in more.items():
        assert getattr(report, name) == value


@pytest.mark.parametrize(
    ("mark", "member", "value"),
    [
        ("TE99NNS", "insured", "N"),
        ("TE99MTX", "mot", "N"),
        ("TE99NTX", "tax", "N"),
        ("TE99SRN", "sorn", True),
        ("TE99EXP", "exported", True),
        ("TE99SCR", "scrapped", True),
        ("TE99CAR", "previous_keepers", 4),
    ],
)
async def test_status_of_a_vehicle(pnc: Pnc, mark: str, member: str, value: object) -> None:
    record = (await ask(pnc, VehicleKey(vrm=mark))).records[0]
    assert getattr(record, member) == value


async def test_keepers_with_records_of_their_own(pnc: Pnc) -> None:
    wanted = (await ask(pnc, VehicleKey(vrm="TE99KWN"))).records[0]
    banned = (await ask(pnc, VehicleKey(vrm="TE99DDR"))).records[0]
    assert isinstance(wanted, VehicleRecord)
    assert isinstance(banned, VehicleRecord)
    assert wanted.keeper_record is not None
    assert wanted.keeper_record.circulations[0].kind == "WANTED_ARREST"
    assert banned.keeper_record is not None
    assert banned.keeper_record.disqualification is not None
    assert banned.keeper_record.disqualification.until_test


async def test_a_source_that_did_not_reply_is_named(pnc: Pnc) -> None:
    answer = await ask(pnc, VehicleKey(vrm="TE99MNS"))
    assert answer.not_checked == ("INSURANCE",)
    record = answer.records[0]
    assert isinstance(record, VehicleRecord)
    assert record.insured == "", "unknown is neither Y nor N"


@pytest.mark.parametrize(
    "key",
    [
        VehicleKey(vrm="TE99AAA"),
        VehicleKey(vrm="ER99NFD"),
        VehicleKey(vrm="K123ABC"),
        VehicleKey(vin="TSTZZZ99999999999"),
        PersonKey(surname="TESTER", forenames="NORA", dob="1970-01-01", sex="F"),
        PropertyKey(type="BIKE", serial="TSTBIKE999"),
        DriverKey(surname="TESTER", forenames="NORA", dob="1970-01-01"),
    ],
)
async def test_nothing_on_record_is_said_as_such(pnc: Pnc, key: Key) -> None:
    answer = await ask(pnc, key)
    assert answer.records == ()
    assert not answer.too_many
    assert answer.not_checked == ()


@pytest.mark.parametrize(
    ("key", "pncids"),
    [
        (person("CLEAN", "1980-02-02", "M"), ["2099/0000002H"]),
        (person("ALEX", "1987-02-14", "M"), ["2099/0000014W"]),
        (person("ALEXANDER", "1987-02-14", "M", "SYNTHA"), ["2099/0000014W"]),
        (
            person("JON", "1990-03-15", "M"),
            ["2099/0000016Y", "2099/0000041A", "2099/0000042B"],
        ),
        (person("JON", "1990-05-01", "M"), ["2099/0000017Z"]),
        (person("TWIN", "1998-06-01", "M"), ["2099/0000018A", "2099/0000019B"]),
        (person("SEAN", "1994-09-21", "M", "OTESTER"), ["2099/0000025H"]),
        (person("NADIA", "2000-10-22", "F", "SAMPLE"), ["2099/0000026J"]),
        (person("MORAG", "1969-03-30", "F", "MACTESTER"), ["2099/0000033R"]),
    ],
)
async def test_people_by_name(pnc: Pnc, key: PersonKey, pncids: list[str]) -> None:
    """One, several, by alias, transposed dates, folded and phonetic names; best first."""
    answer = await ask(pnc, key)
    found = [each.pncid for each in answer.records if isinstance(each, PersonRecord)]
    assert found == pncids


async def test_too_many_is_not_none(pnc: Pnc) -> None:
    answer = await ask(pnc, PersonKey(surname="TESTER", sex="M"))
    assert answer.too_many
    assert answer.records == ()


async def test_signals_circulations_and_conditions_come_whole(pnc: Pnc) -> None:
    """Covert circulations, too, with their flag."""
    ted = (await ask(pnc, person("TED", "1986-04-12", "M"))).records[0]
    covert = (await ask(pnc, person("COVERT", "1980-07-19", "M"))).records[0]
    bailed = (await ask(pnc, person("BAILEY", "1999-12-12", "M"))).records[0]
    assert isinstance(ted, PersonRecord)
    assert isinstance(covert, PersonRecord)
    assert isinstance(bailed, PersonRecord)
    assert {signal.code for signal in ted.warnings} == {"WE", "VI"}
    assert all(len(signal.set_on) == 10 for signal in ted.warnings)
    assert ted.circulations[0].kind == "WANTED_ARREST"
    assert covert.circulations[0].covert is True
    assert bailed.bail is not None
    assert len(bailed.bail.conditions) == 2
    restricted = (await ask(pnc, person("RESTRICT", "1975-08-20", "F"))).records[0]
    dead = (await ask(pnc, person("DEAD", "1960-12-24", "M"))).records[0]
    assert isinstance(restricted, PersonRecord)
    assert isinstance(dead, PersonRecord)
    assert restricted.restricted
    assert dead.deceased


async def test_property_and_drivers(pnc: Pnc) -> None:
    bike = (await ask(pnc, PropertyKey(type="BIKE", serial="TSTBIKE001"))).records[0]
    assert isinstance(bike, PropertyRecord)
    assert (bike.type, bike.status) == ("PEDAL CYCLE", "STOLEN")
    by_name = (await ask(pnc, DriverKey(surname="TESTER", dob="1982-11-11"))).records[0]
    assert isinstance(by_name, DriverRecord)
    assert by_name.disqualification is not None
    by_number = (await ask(pnc, DriverKey(driver_no=by_name.driver_no))).records[0]
    assert by_number == by_name


@pytest.mark.parametrize("key", [VehicleKey(vrm="ER99UNK"), person("UNK", surname="ERROR")])
async def test_an_unknown_warning_code_survives(pnc: Pnc, key: Key) -> None:
    """P08: what no table knows must reach the screen as UNKNOWN MARKER: it must arrive."""
    record = (await ask(pnc, key)).records[0]
    if isinstance(record, VehicleRecord):
        assert record.reports[0].occupant_warnings == ("QZ",)
    else:
        assert isinstance(record, PersonRecord)
        assert record.warnings[0].code == "QZ"


EXPECTED: dict[str, type[PncError]] = {
    "BAD": PncInvalid,
    "THR": PncDown,
    "ERR": PncDown,
    "MNT": PncDown,
    "RST": PncDown,
    "DRP": PncDown,
    "LCK": PncDown,
    "ECH": PncGarbled,
    "ORD": PncGarbled,
    "GBG": PncGarbled,
    "TRN": PncGarbled,
    "VST": PncGarbled,
    "AUT": PncUnauthorised,
    "FRB": PncUnauthorised,
}
PATIENT = {"TMT", "SLW", "LAT"}


@pytest.mark.parametrize("fault", sorted(EXPECTED))
async def test_a_fault_is_told_by_its_remedy(pnc: Pnc, fault: str) -> None:
    """Each trigger raises; none of them is ever an answer, least of all `no trace`."""
    with pytest.raises(EXPECTED[fault]):
        await ask(pnc, VehicleKey(vrm=f"ER99{fault}"))


@pytest.mark.parametrize("fault", ["DUP", "PAR"])
async def test_a_fault_that_still_answers(pnc: Pnc, fault: str) -> None:
    answer = await ask(pnc, VehicleKey(vrm=f"ER99{fault}"))
    assert len(answer.records) == 1
    assert answer.not_checked == (("INSURANCE",) if fault == "PAR" else ())
    after = await ask(pnc, VehicleKey(vrm="TE99AAB"))
    assert after.key_text == "VRM:TE99AAB", "a second reply was taken for the next one"


def test_every_trigger_of_the_reference_is_covered() -> None:
    assert set(FAULTS) == set(EXPECTED) | PATIENT | {"NFD", "DUP", "PAR", "UNK"}


@pytest.mark.parametrize("fault", sorted(PATIENT))
async def test_whoever_asks_may_stop_waiting(pnc: Pnc, fault: str) -> None:
    """The caller owns the deadline: cancelled, the adapter lets go at once."""
    asking = asyncio.ensure_future(pnc.query(query(VehicleKey(vrm=f"ER99{fault}"))))
    done, _ = await asyncio.wait({asking}, timeout=0.2)
    assert not done
    asking.cancel()
    async with asyncio.timeout(2):
        await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()


async def test_many_at_once_get_their_own(pnc: Pnc) -> None:
    """Each answer belongs to its question, whatever the order."""
    marks = ["TE99AAB", "TE99ABC", "TE99STV", "TE99NNS"] * 10
    asked = [query(VehicleKey(vrm=m), check=f"C{n}") for n, m in enumerate(marks)]
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(pnc.query(each) for each in asked))
    for question, answer in zip(asked, answers, strict=True):
        record = answer.records[0]
        assert isinstance(record, VehicleRecord)
        assert (answer.check, answer.key_text) == (question.check, question.key_text)
        assert f"VRM:{record.vrm}" == question.key_text


async def test_a_closed_adapter_can_be_closed_again(pnc: Pnc) -> None:
    await pnc.close()
    await pnc.close()


def test_timeouts_are_an_error_of_the_family() -> None:
    assert issubclass(PncTimeout, PncError)
