"""What every PNC adapter promises: the mock in process, HTTP against a real server, and the fake.

`pnc` runs a test on the two that hold the records; `any_pnc` on the fake that the core's tests
use, too, as far as it goes (vehicles). Delays are of the injected clock, moved by hand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from adapters.pnc import create, records
from adapters.pnc.mock import FAULTS, HANG_S, LATE_S, SLOW_S
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
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
)
from gateway.ports import Pnc
from gateway.results import missing
from gateway.settings import PncSection
from simulators.pnc_server import PncServer
from tests.adapters.pnc.replies import RECORDS, ROOT
from tests.adapters.pnc.replies import question as query
from tests.fake_pnc import FakePnc
from tests.fakes import FakeClock, FakeIds
from tests.system.daemon import until

WITHIN_S = 10.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server(clock: FakeClock) -> AsyncIterator[PncServer]:
    server = PncServer(RECORDS, clock=clock)
    await server.start()
    yield server
    await server.stop()


def made(adapter: str, server: PncServer, clock: FakeClock) -> Pnc:
    """As the composition root makes it."""
    return create(
        adapter,
        settings=PncSection(adapter=adapter, records=str(RECORDS), url=server.url),
        config_path=ROOT / "config" / "gateway.toml",
        clock=clock,
        ids=FakeIds(),
    )


@pytest.fixture(params=["mock", "http"])
async def pnc(
    request: pytest.FixtureRequest, server: PncServer, clock: FakeClock
) -> AsyncIterator[Pnc]:
    adapter = made(request.param, server, clock)
    yield adapter
    await adapter.close()


@pytest.fixture(params=["mock", "http", "fake"])
async def any_pnc(
    request: pytest.FixtureRequest, server: PncServer, clock: FakeClock
) -> AsyncIterator[Pnc]:
    adapter = FakePnc() if request.param == "fake" else made(request.param, server, clock)
    yield adapter
    await adapter.close()


async def ask(pnc: Pnc, key: Key) -> PncAnswer:
    async with asyncio.timeout(WITHIN_S):
        return await pnc.query(query(key))


def person(forenames: str, dob: str = "", sex: str = "", surname: str = "TESTER") -> PersonKey:
    return PersonKey(surname=surname, forenames=forenames, dob=dob, sex=sex)


async def vehicle_of(pnc: Pnc, mark: str) -> VehicleRecord:
    (record,) = (await ask(pnc, VehicleKey(vrm=mark))).records
    assert isinstance(record, VehicleRecord)
    return record


async def person_of(pnc: Pnc, key: PersonKey) -> PersonRecord:
    (record,) = (await ask(pnc, key)).records
    assert isinstance(record, PersonRecord)
    return record


# --------------------------------------------------------------------------- the echo


@pytest.mark.parametrize("mark", ["TE99AAB", "TE99AAA"])
@pytest.mark.parametrize("attempt", [1, 3])
async def test_it_echoes_the_question(any_pnc: Pnc, mark: str, attempt: int) -> None:
    """Check, attempt and key; and every answer names its sources."""
    asked = query(VehicleKey(vrm=mark), check="01TESTC777", attempt=attempt)
    async with asyncio.timeout(WITHIN_S):
        answer = await any_pnc.query(asked)
    assert (answer.check, answer.attempt, answer.key_text) == ("01TESTC777", attempt, f"VRM:{mark}")
    assert "PNC" in {block.source for block in answer.blocks}
    assert answer.as_of_ms > 0


async def test_two_questions_never_share_an_answer(any_pnc: Pnc) -> None:
    """The same mark, asked for another check: that check's own answer."""
    first = await ask(any_pnc, VehicleKey(vrm="TE99AAB"))
    async with asyncio.timeout(WITHIN_S):
        second = await any_pnc.query(query(VehicleKey(vrm="TE99AAB"), check="OTHER"))
    assert (first.check, second.check) == ("01TESTC001", "OTHER")


async def test_many_at_once_get_their_own(any_pnc: Pnc) -> None:
    """Each answer belongs to its question, whatever the order."""
    marks = ["TE99AAB", "TE99ABC", "TE99STV", "TE99NNS"] * 10
    asked = [query(VehicleKey(vrm=m), check=f"C{n}") for n, m in enumerate(marks)]
    async with asyncio.timeout(2 * WITHIN_S):
        answers = await asyncio.gather(*(any_pnc.query(each) for each in asked))
    for question, answer in zip(asked, answers, strict=True):
        record = answer.records[0]
        assert isinstance(record, VehicleRecord)
        assert (answer.check, answer.key_text) == (question.check, question.key_text)
        assert f"VRM:{record.vrm}" == question.key_text


# --------------------------------------------------------------------------- vehicles


async def test_what_every_implementation_knows(any_pnc: Pnc) -> None:
    """The fake says what the mock says of the marks that the core's tests use."""
    assert (await ask(any_pnc, VehicleKey(vrm="TE99AAA"))).records == ()
    clean = await vehicle_of(any_pnc, "TE99AAB")
    stolen = await vehicle_of(any_pnc, "TE99ABC")
    armed = await vehicle_of(any_pnc, "TE99STV")
    assert clean.reports == ()
    assert (clean.tax, clean.mot, clean.insured) == ("Y", "Y", "Y")
    assert (stolen.reports[0].kind, stolen.reports[0].confirmed) == ("LOS", True)
    assert armed.reports[0].occupant_warnings == ("VI",)


async def test_a_vehicle_as_it_is_on_record(pnc: Pnc) -> None:
    record = await vehicle_of(pnc, "TE99AAB")
    assert (record.make, record.model, record.colour, record.year) == (
        *("FORD", "FIESTA", "BLUE"),
        2020,
    )
    assert record.vin == "TSTZZZ00000000001"
    assert record.keeper == "TESTER CLEAN"
    answer = await ask(pnc, VehicleKey(vrm="TE99AAB"))
    assert [block.source for block in answer.blocks] == ["PNC", "DVLA", "INSURANCE"]
    assert all(block.as_of_ms <= answer.as_of_ms for block in answer.blocks)


@pytest.mark.parametrize("vin", ["TSTZZZ00000000002", "00000002", "0000002", "000002", "00002"])
async def test_a_vehicle_by_its_chassis(pnc: Pnc, vin: str) -> None:
    """17 characters, or the last 5 to 8."""
    (record,) = (await ask(pnc, VehicleKey(vin=vin))).records
    assert isinstance(record, VehicleRecord)
    assert record.vrm == "TE99ABC"


@pytest.mark.parametrize(
    ("mark", "kind", "more"),
    [
        ("TE99ABC", "LOS", {"confirmed": True, "owner": "35NB"}),
        ("TE99ABD", "LOS", {"confirmed": False, "reported_at": "2026-11-20T22:24:07Z"}),
        ("TE99ABE", "LOS", {"confirmed": False}),
        ("TE99STV", "LOS", {"occupant_warnings": ("VI",)}),
        ("TE99ACT", "ACTION", {"action": "STOP", "text": "STOP AND SEARCH FOR TOOLS"}),
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
    report = (await vehicle_of(pnc, mark)).reports[0]
    assert report.kind == kind
    assert {name: getattr(report, name) for name in more} == more


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
    assert getattr(await vehicle_of(pnc, mark), member) == value


async def test_keepers_with_records_of_their_own(pnc: Pnc) -> None:
    wanted = (await vehicle_of(pnc, "TE99KWN")).keeper_record
    banned = (await vehicle_of(pnc, "TE99DDR")).keeper_record
    assert wanted is not None
    assert wanted.circulations[0].kind == "WANTED_ARREST"
    assert banned is not None
    assert banned.disqualification is not None
    assert banned.disqualification.until_test


async def test_a_source_that_did_not_reply_is_named(pnc: Pnc) -> None:
    answer = await ask(pnc, VehicleKey(vrm="TE99MNS"))
    assert answer.not_checked == ("INSURANCE",)
    states = {block.source: block.state for block in answer.blocks}
    assert states == {"PNC": "OK", "DVLA": "OK", "INSURANCE": "UNAVAILABLE"}
    record = answer.records[0]
    assert isinstance(record, VehicleRecord)
    assert record.insured == "", "unknown is neither Y nor N"


# --------------------------------------------------------------------------- nothing found


@pytest.mark.parametrize(
    "key",
    [
        VehicleKey(vrm="TE99AAA"),
        VehicleKey(vrm="ER99NFD"),
        VehicleKey(vrm="ER19NFD"),
        VehicleKey(vrm="K123ABC"),
        VehicleKey(vin="TSTZZZ99999999999"),
        person("NORA", "1970-01-01", "F"),
        person("NFD", surname="ERROR"),
        PropertyKey(type="BIKE", serial="TSTBIKE999"),
        PropertyKey(type="ERROR", serial="NFD"),
        DriverKey(surname="TESTER", forenames="NORA", dob="1970-01-01"),
    ],
)
async def test_nothing_on_record_is_said_as_such(pnc: Pnc, key: Key) -> None:
    """And every source replied: else it would be no NO TRACE."""
    answer = await ask(pnc, key)
    assert answer.records == ()
    assert not answer.too_many
    assert missing(answer) == ()


async def test_nothing_found_where_a_source_was_silent_is_not_nothing(pnc: Pnc) -> None:
    answer = await ask(pnc, PropertyKey(type="ERROR", serial="PAR"))
    assert answer.records == ()
    assert missing(answer) == ("PROPERTY",)


@pytest.mark.parametrize(
    "key",
    [
        VehicleKey(vin="0002"),
        PersonKey(surname="TESTER", sex="U"),
        PersonKey(surname="李", forenames="NA", sex="F"),
        DriverKey(surname="TESTER"),
    ],
)
async def test_what_cannot_be_looked_for_is_invalid(pnc: Pnc, key: Key) -> None:
    """A name that the PNC cannot hold is refused: NO TRACE would be a lie."""
    with pytest.raises(PncInvalid):
        await ask(pnc, key)


# --------------------------------------------------------------------------- people


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
        (person("Seán", "1994-09-21", "M", "O’Tester"), ["2099/0000025H"]),
        (person("NADIA", "2000-10-22", "F", "SAMPLE"), ["2099/0000026J"]),
        (person("MORAG", "1969-03-30", "F", "MACTESTER"), ["2099/0000033R"]),
    ],
)
async def test_people_by_name(pnc: Pnc, key: PersonKey, pncids: list[str]) -> None:
    """One, several, by alias, transposed dates, folded and phonetic names; best first."""
    answer = await ask(pnc, key)
    found = [each.pncid for each in answer.records if isinstance(each, PersonRecord)]
    assert found == pncids


async def test_an_alias_is_shown_as_it_was_asked_with_the_filed_name_beside(pnc: Pnc) -> None:
    record = await person_of(pnc, person("ALEX", "1987-02-14", "M"))
    assert (record.surname, record.forenames) == ("TESTER", "ALEX")
    assert record.filed_name == "SYNTHA/ALEXANDER"
    assert record.aliases == ("TESTER/ALEX",)


async def test_weak_and_strong_are_told_apart(pnc: Pnc) -> None:
    """85 and more is strong; a transposed date is not."""
    strong = await person_of(pnc, person("CLEAN", "1980-02-02", "M"))
    weak = await person_of(pnc, person("JON", "1990-05-01", "M"))
    assert (strong.score, weak.score) == (100, 84)


async def test_an_age_instead_of_a_date(pnc: Pnc) -> None:
    key = PersonKey(surname="TESTER", forenames="WANDA", age_years=38, sex="F")
    assert (await person_of(pnc, key)).pncid == "2099/0000006M"


@pytest.mark.parametrize("sex", ["M", "F"])
async def test_too_many_is_not_none(pnc: Pnc, sex: str) -> None:
    answer = await ask(pnc, PersonKey(surname="TESTER", sex=sex))
    assert answer.too_many
    assert answer.records == ()


async def test_signals_circulations_and_conditions_come_whole(pnc: Pnc) -> None:
    """Covert circulations, too, with their flag."""
    ted = await person_of(pnc, person("TED", "1986-04-12", "M"))
    assert {signal.code for signal in ted.warnings} == {"WE", "VI"}
    assert ted.warnings[0].set_on == "2026-07-25"
    assert ted.warnings[0].qualifier == "CARRIES A KNIFE"
    assert ted.circulations[0].kind == "WANTED_ARREST"
    assert ted.circulations[0].power == "PACE S.24"
    assert ted.marks == ("SCAR LEFT CHEEK",)
    assert ted.height_cm == 180
    covert = await person_of(pnc, person("COVERT", "1980-07-19", "M"))
    assert covert.circulations[0].covert is True
    bailed = await person_of(pnc, person("BAILEY", "1999-12-12", "M"))
    assert bailed.bail is not None
    assert len(bailed.bail.conditions) == 2
    assert bailed.bail.next_date == "2027-01-06"
    ordered = await person_of(pnc, person("ORDER", "1993-01-13", "M"))
    assert len(ordered.orders) == 2
    young = await person_of(pnc, person("JUVE", "2012-01-25", "M"))
    assert young.markers == ("CHILD/VULNERABLE",)
    restricted = await person_of(pnc, person("RESTRICT", "1975-08-20", "F"))
    assert restricted.restricted
    dead = await person_of(pnc, person("DEAD", "1960-12-24", "M"))
    assert dead.deceased


async def test_property_and_drivers(pnc: Pnc) -> None:
    (bike,) = (await ask(pnc, PropertyKey(type="BIKE", serial="TSTBIKE001"))).records
    assert isinstance(bike, PropertyRecord)
    assert (bike.type, bike.status, bike.owner) == ("PEDAL CYCLE", "STOLEN", "35NB")
    (clean,) = (await ask(pnc, PropertyKey(type="BIKE", serial="TSTBIKE003"))).records
    assert isinstance(clean, PropertyRecord)
    assert clean.status == ""
    (by_name,) = (await ask(pnc, DriverKey(surname="TESTER", dob="1982-11-11"))).records
    assert isinstance(by_name, DriverRecord)
    assert by_name.disqualification is not None
    assert by_name.disqualification.until_test
    assert by_name.endorsements == 0
    (by_number,) = (await ask(pnc, DriverKey(driver_no=by_name.driver_no))).records
    assert by_number == by_name


async def test_both_say_the_same_of_every_record(server: PncServer, clock: FakeClock) -> None:
    """Member by member, for all that is on record: what crosses the wire is what was there."""
    mock, http = made("mock", server, clock), made("http", server, clock)
    loaded = records.load(RECORDS)
    keys: list[Key] = [VehicleKey(vrm=row.vrm) for row in loaded.vehicles]
    keys += [VehicleKey(vin=row.vin) for row in loaded.vehicles]
    keys += [person(r.forenames, r.dob, r.sex, r.surname) for r in loaded.persons]
    keys += [PropertyKey(type=row.type, serial=row.serial) for row in loaded.items]
    keys += [DriverKey(driver_no=row.driver_no) for row in loaded.drivers]
    try:
        for key in keys:
            ours, theirs = await ask(mock, key), await ask(http, key)
            assert ours.records
            assert ours == theirs
    finally:
        await http.close()


# --------------------------------------------------------------------------- faults

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
REASONS = {
    "ECH": {"echo"},
    "ORD": {"echo"},
    "GBG": {"malformed", "charset"},
    "TRN": {"truncated"},
    "VST": {"oversize"},
}
PATIENT = {"TMT": HANG_S, "SLW": SLOW_S, "LAT": 15.0 + LATE_S}
"""Seconds until something comes, of a question with a deadline of 15 s."""
FORMS: dict[str, Callable[[str], Key]] = {
    "vehicle": lambda code: VehicleKey(vrm=f"ER99{code}"),
    "person": lambda code: PersonKey(surname="ERROR", forenames=code),
    "driver": lambda code: DriverKey(surname="ERROR", forenames=code, dob="1980-01-01"),
    "property": lambda code: PropertyKey(type="ERROR", serial=code),
}


def test_every_trigger_of_the_reference_is_covered() -> None:
    """The list is copied from pnc-domain 15.5, not from the code."""
    reference = (
        "BAD NFD THR ERR MNT TMT SLW LAT RST ECH UNK DRP GBG DUP ORD LCK AUT FRB PAR TRN VST"
    )
    assert set(FAULTS) == set(reference.split())
    assert set(FAULTS) == set(EXPECTED) | set(PATIENT) | {"NFD", "DUP", "PAR", "UNK"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", sorted(EXPECTED))
async def test_a_fault_is_told_by_its_remedy(pnc: Pnc, fault: str, form: str) -> None:
    """Each trigger raises; none of them is ever an answer, least of all `no trace`."""
    key = FORMS[form](fault)
    with pytest.raises(EXPECTED[fault]) as caught:
        await ask(pnc, key)
    assert type(caught.value) is EXPECTED[fault]
    assert query(key).key_text not in f"{caught.value!r} {caught.value.__cause__!r}"
    if isinstance(caught.value, PncGarbled):
        assert caught.value.reason in REASONS[fault]


@pytest.mark.parametrize(
    ("mark", "error"),
    [("BAD", PncInvalid), ("THR", PncDown), ("ERR", PncDown), ("MNT", PncDown)],
)
async def test_the_dvlas_own_test_marks(pnc: Pnc, mark: str, error: type[PncError]) -> None:
    with pytest.raises(error):
        await ask(pnc, VehicleKey(vrm=f"ER19{mark}"))


@pytest.mark.parametrize("fault", ["DUP", "PAR"])
async def test_a_fault_that_still_answers(pnc: Pnc, fault: str) -> None:
    answer = await ask(pnc, VehicleKey(vrm=f"ER99{fault}"))
    assert len(answer.records) == 1
    assert answer.not_checked == (("INSURANCE",) if fault == "PAR" else ())
    after = await ask(pnc, VehicleKey(vrm="TE99AAB"))
    assert after.key_text == "VRM:TE99AAB", "a second reply was taken for the next one"


@pytest.mark.parametrize("key", [VehicleKey(vrm="ER99UNK"), person("UNK", surname="ERROR")])
async def test_an_unknown_warning_code_survives(pnc: Pnc, key: Key) -> None:
    """P08: what no table knows must reach the screen as UNKNOWN MARKER: it must arrive."""
    record = (await ask(pnc, key)).records[0]
    if isinstance(record, VehicleRecord):
        assert record.reports[0].occupant_warnings == ("QZ",)
    else:
        assert isinstance(record, PersonRecord)
        assert record.warnings[0].code == "QZ"


# --------------------------------------------------------------------------- time


def sleeping(clock: FakeClock) -> bool:
    return any(not future.done() for _, _, future in clock._sleepers)


@pytest.mark.parametrize("fault", sorted(PATIENT))
async def test_a_delay_is_as_long_as_it_says(pnc: Pnc, clock: FakeClock, fault: str) -> None:
    """Nothing comes before; then the answer, late or not, or for a hang the cut connection."""
    asking = asyncio.ensure_future(pnc.query(query(VehicleKey(vrm=f"ER99{fault}"))))
    await until(lambda: sleeping(clock))
    await clock.advance(PATIENT[fault] - 0.5)
    assert sleeping(clock)
    assert not asking.done()
    await clock.advance(0.6)
    async with asyncio.timeout(WITHIN_S):
        if fault == "TMT":
            with pytest.raises(PncDown):
                await asking
        else:
            assert len((await asking).records) == 1


def sockets() -> int:
    """How many sockets this process has open."""
    return sum(
        os.path.realpath(f"/proc/self/fd/{fd}").rpartition("/")[2].startswith("socket:")
        for fd in os.listdir("/proc/self/fd")
    )


@pytest.mark.parametrize("fault", sorted(PATIENT))
async def test_whoever_asks_may_stop_waiting(pnc: Pnc, clock: FakeClock, fault: str) -> None:
    """The caller owns the deadline: cancelled, the adapter lets go at once, sockets and tasks."""
    await ask(pnc, VehicleKey(vrm="TE99AAB"))
    await until(lambda: not sleeping(clock))
    open_before, tasks_before = sockets(), asyncio.all_tasks()
    asking = asyncio.ensure_future(pnc.query(query(VehicleKey(vrm=f"ER99{fault}"))))
    await until(lambda: sleeping(clock))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: sockets() <= open_before)
    # The server of this test lives in this process, and its handler waits on: let it end.
    await clock.advance(60)
    await until(lambda: asyncio.all_tasks() <= tasks_before)


async def test_a_deadline_around_a_question_holds(any_pnc: Pnc) -> None:
    """`asyncio.timeout` is enough: nothing in an adapter shields itself."""
    if isinstance(any_pnc, FakePnc):
        any_pnc.hang()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await any_pnc.query(query(VehicleKey(vrm="ER99TMT")))
    after = await ask(any_pnc, VehicleKey(vrm="TE99AAB"))
    assert len(after.records) == 1


async def test_a_hundred_abandoned_questions_leave_room_for_the_next(
    pnc: Pnc, clock: FakeClock
) -> None:
    """A PNC that hangs on some questions does not keep others from being asked."""
    asking = [
        asyncio.ensure_future(pnc.query(query(VehicleKey(vrm="ER99TMT"), check=f"C{n}")))
        for n in range(100)
    ]
    await until(lambda: sum(not each.done() for _, _, each in clock._sleepers) == 100)
    assert len((await ask(pnc, VehicleKey(vrm="TE99AAB"))).records) == 1
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert all(each.cancelled() for each in asking)


# --------------------------------------------------------------------------- the end


async def test_a_closed_adapter_can_be_closed_again(any_pnc: Pnc) -> None:
    await any_pnc.close()
    await any_pnc.close()


def test_an_unknown_adapter_is_a_key_error(tmp_path: Path, clock: FakeClock) -> None:
    """The composition root names the known ones; nothing falls back to the mock."""
    with pytest.raises(KeyError):
        create(
            "leds",
            settings=PncSection(adapter="leds"),
            config_path=tmp_path,
            clock=clock,
            ids=FakeIds(),
        )


def test_every_failure_is_of_one_family_and_says_whether_to_retry() -> None:
    """Only what may pass by itself is retried."""
    family = (PncDown, PncTimeout, PncGarbled, PncInvalid, PncUnauthorised)
    assert all(issubclass(each, PncError) for each in family)
    assert [each.retryable for each in family] == [True, False, False, False, False]


# --------------------------------------------------------------------------- which sources reply


async def test_the_sources_that_reply(any_pnc: Pnc) -> None:
    async with asyncio.timeout(WITHIN_S):
        assert await any_pnc.sources() == {"PNC", "DVLA", "INSURANCE"}


async def test_a_source_that_is_away_is_not_named_and_its_part_is_unknown(
    server: PncServer, clock: FakeClock
) -> None:
    """Looking for sources names no subject: no line in the PNC's log."""
    pnc = made("http", server, clock)
    try:
        server.silent = frozenset({"INSURANCE", "DVLA"})
        assert await pnc.sources() == {"PNC"}
        assert not server.queries
        answer = await ask(pnc, VehicleKey(vrm="TE99NTX"))
        (record,) = answer.records
        assert isinstance(record, VehicleRecord)
        assert (record.tax, record.insured) == ("", "")
        assert set(missing(answer)) == {"DVLA", "INSURANCE"}
        server.fault = "down"
        with pytest.raises(PncDown):
            await pnc.sources()
    finally:
        await pnc.close()
    with pytest.raises(PncDown):
        await pnc.sources()
