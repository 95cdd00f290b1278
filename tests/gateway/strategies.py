"""Answers of every shape for property tests, from the reserved ranges, and the shipped tables."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import strategies as st

from gateway.alarm_rules import AlarmRules
from gateway.messages import (
    Asker,
    Bail,
    Block,
    CheckRequest,
    Circulation,
    Disqualification,
    DriverKey,
    DriverRecord,
    Issi,
    Key,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
    WarningSignal,
    search_key,
)
from gateway.roster import Roster
from gateway.rulebook import Areas, Fleet, People, Policy, Standing, Warnings

CONFIG = Path(__file__).parents[2] / "config"
WARNINGS = msgspec.toml.decode((CONFIG / "warnings.toml").read_bytes(), type=Warnings)
POLICY = msgspec.toml.decode((CONFIG / "policy.toml").read_bytes(), type=Policy)
RULES = msgspec.toml.decode((CONFIG / "alarms.toml").read_bytes(), type=AlarmRules)
FLEET = msgspec.toml.decode((CONFIG / "fleet.toml").read_bytes(), type=Fleet)
PEOPLE = msgspec.toml.decode((CONFIG / "people.toml").read_bytes(), type=People)
AREAS = msgspec.toml.decode((CONFIG / "areas.toml").read_bytes(), type=Areas)

AS_OF_MS = 1_795_325_040_000
"""2026-11-22 05:24 UTC, and in London."""

COVERT = Circulation(kind="OBSERVE_DO_NOT_ALERT", owner="35NB", covert=True)
BLOCK = VehicleReport(kind="BLOCK", text="NOT FOR RADIO", block=True, occupant_warnings=("FI",))


def roster(fleet: Fleet = FLEET, people: People = PEOPLE, areas: Areas = AREAS) -> Roster:
    return Roster(fleet, people, areas)


def askers() -> tuple[Asker, ...]:
    """Everybody who holds a radio of the shipped fleet, in its order."""
    held = roster()
    found = (held.asker(each.issi) for each in FLEET.terminals)
    return tuple(each for each in found if each is not None)


def asker(role: str) -> Asker:
    """The first officer of this role who holds a radio of the shipped fleet."""
    return next(each for each in askers() if each.role == role)


def held_by(people: People, issi: Issi, collar: str = "", **changes: object) -> People:
    """The radio's holder is another or became another; with no collar and no change, nobody."""
    was = next(each.officer for each in people.standing if each.terminal == issi)
    officer = next(each for each in people.officers if each.collar == was)
    standing = [each for each in people.standing if each.terminal != issi]
    if collar or changes:
        officer = msgspec.structs.replace(officer, collar=collar or was, **changes)
        standing.append(Standing(terminal=issi, officer=officer.collar))
    officers = [each for each in people.officers if each.collar != officer.collar]
    return msgspec.structs.replace(people, officers=(*officers, officer), standing=tuple(standing))


def ask(key: Key, *, reason: str = "1", full: bool = False) -> CheckRequest:
    return CheckRequest(key=key, reason=reason, full=full)


def answer(*records: object, **more: object) -> PncAnswer:
    """An answer to nobody in particular, as of AS_OF_MS."""
    base = PncAnswer(check="C1", attempt=1, key_text="K", records=(), blocks=(), as_of_ms=AS_OF_MS)
    return msgspec.structs.replace(base, records=records, **more)


def person(forenames: str = "NORA", **more: object) -> PersonRecord:
    base = PersonRecord(
        pncid="2099/0000001G",
        surname="TESTER",
        forenames=forenames,
        dob="1970-01-01",
        sex="F",
        score=100,
    )
    return msgspec.structs.replace(base, **more)


def signals(*codes: str) -> tuple[WarningSignal, ...]:
    return tuple(WarningSignal(code, set_on="2019-03-04", force="35") for code in codes)


NAMES = st.one_of(
    st.sampled_from(["TESTER", "SYNTHA", "O'TESTER", "AL-SAMPLE", "MC TESTER", "VAN DEMO"]),
    st.text(max_size=30),
)
CODES = st.sampled_from([*WARNINGS.codes, "ZZ", "Q9", ""])
WARNING_SIGNALS = st.builds(
    WarningSignal,
    code=CODES,
    set_on=st.sampled_from(["", "2019-03-04", "nonsense"]),
    force=st.sampled_from(["", "35"]),
    qualifier=st.text(max_size=30),
)
CIRCULATIONS = st.builds(
    Circulation,
    kind=st.sampled_from([*WARNINGS.circulations, "OBSERVE_DO_NOT_ALERT", "SOMETHING_NEW"]),
    owner=st.sampled_from(["", "35NB"]),
    offence=st.text(max_size=20),
    instructions=st.text(max_size=40),
    covert=st.booleans(),
)
REPORTS = st.builds(
    VehicleReport,
    kind=st.sampled_from(
        [*(kind for kind in WARNINGS.reports if "_" not in kind), "BLOCK", "SOMETHING_NEW"]
    ),
    confirmed=st.booleans(),
    reported_at=st.sampled_from(["", "2026-11-21T22:00:00Z", "2020-01-01", "nonsense"]),
    text=st.text(max_size=60),
    action=st.sampled_from(["", "STOP", "ARREST_DRIVER", "INTEL_ONLY", "DANCE"]),
    occupant_warnings=st.lists(CODES, max_size=4).map(tuple),
    block=st.booleans(),
)
PERSONS = st.builds(
    PersonRecord,
    pncid=st.just("2099/0000001G"),
    surname=NAMES,
    forenames=NAMES,
    dob=st.sampled_from(["1986-04-12", "1970-01-01", ""]),
    sex=st.sampled_from(["M", "F", "U", ""]),
    score=st.integers(45, 100),
    aliases=st.lists(NAMES, max_size=3).map(tuple),
    height_cm=st.none() | st.integers(120, 210),
    hair=st.text(max_size=12),
    marks=st.lists(st.text(max_size=30), max_size=3).map(tuple),
    warnings=st.lists(WARNING_SIGNALS, max_size=5).map(tuple),
    markers=st.lists(st.text(max_size=25), max_size=2).map(tuple),
    circulations=st.lists(CIRCULATIONS, max_size=3).map(tuple),
    orders=st.lists(st.text(max_size=60), max_size=2).map(tuple),
    bail=st.none()
    | st.builds(Bail, conditions=st.lists(st.text(max_size=60), max_size=2).map(tuple)),
    disqualification=st.none() | st.builds(Disqualification, until_test=st.booleans()),
    offences=st.lists(st.text(max_size=30), max_size=3).map(tuple),
    deceased=st.booleans(),
    restricted=st.booleans(),
)
YES_NO = st.sampled_from(["Y", "N", ""])
VEHICLES = st.builds(
    VehicleRecord,
    vrm=st.sampled_from(["TE99ABC", "TE99STV"]),
    vin=st.just("TSTZZZ00000000001"),
    make=st.text(max_size=15),
    model=st.text(max_size=15),
    tax=YES_NO,
    mot=YES_NO,
    insured=YES_NO,
    sorn=st.booleans(),
    keeper=NAMES,
    reports=st.lists(REPORTS, max_size=4).map(tuple),
    keeper_record=st.none() | PERSONS,
)
DRIVERS = st.builds(
    DriverRecord,
    driver_no=st.just("TESTE804150T99AB"),
    surname=NAMES,
    forenames=NAMES,
    dob=st.just("1986-04-12"),
    disqualification=st.none() | st.builds(Disqualification),
    endorsements=st.none() | st.integers(0, 5),
)
PROPERTY = st.builds(
    PropertyRecord,
    type=st.just("PEDAL CYCLE"),
    serial=st.just("TSTBIKE001"),
    status=st.sampled_from(["", "LOST", "STOLEN", "FOUND", "SEIZED", "MELTED"]),
)


def _answers(key: Key, records: st.SearchStrategy[object]) -> st.SearchStrategy[PncAnswer]:
    return st.builds(
        PncAnswer,
        check=st.just("C1"),
        attempt=st.just(1),
        key_text=st.just(search_key(key)),
        records=st.lists(records, max_size=4).map(tuple),
        blocks=st.lists(
            st.builds(
                Block,
                source=st.sampled_from(["NAMES", "INSURANCE", "DVLA"]),
                as_of_ms=st.just(AS_OF_MS),
                state=st.sampled_from(["OK", "OK", "UNAVAILABLE", "STALE"]),
            ),
            max_size=2,
        ).map(tuple),
        as_of_ms=st.just(AS_OF_MS),
        too_many=st.sampled_from([False, False, False, True]),
        not_checked=st.sampled_from([(), (), ("INSURANCE",), ("NAMES", "MOT")]),
    )


_KEYS: tuple[tuple[Key, st.SearchStrategy[object]], ...] = (
    (PersonKey("TESTER", "TED", "1986-04-12", sex="M"), PERSONS),
    (PersonKey("TESTER-LONGLONGLONGNAME", "BARTHOLOMEW", sex="M"), PERSONS),
    (VehicleKey(vrm="TE99STV"), VEHICLES),
    (DriverKey(surname="TESTER", forenames="TED", dob="1986-04-12"), DRIVERS),
    (PropertyKey("PEDAL CYCLE", "TSTBIKE001"), PROPERTY),
)
QUESTIONS: st.SearchStrategy[tuple[Key, PncAnswer]] = st.sampled_from(_KEYS).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), _answers(*pair))
)
"""A key, and an answer to it."""
