"""Who may ask what for which reason: the whole sample matrix, and the whole way of one question.

The table is written from the design matrix (pnc-domain reference, 14), not from the policy file.
"""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import admission, coach
from gateway.admission import Rules, admit
from gateway.errors import PncDown
from gateway.messages import (
    DriverKey,
    Issi,
    Key,
    Kind,
    Level,
    LocationFix,
    Noticed,
    Outcome,
    PersonKey,
    PropertyKey,
    VehicleKey,
)
from gateway.rulebook import Reason, Rule, Standing
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config
from tests.gateway.strategies import (
    FLEET,
    PEOPLE,
    POLICY,
    WARNINGS,
    ask,
    asker,
    askers,
    held_by,
    roster,
)

NOON_MS = 1_795_348_800_000
RULES = Rules(policy=POLICY, warnings=WARNINGS, roster=roster(), budgets={}, zone="Europe/London")
KEYS: dict[Kind, Key] = {
    Kind.PERSON: PersonKey("TESTER", "NORA", "1970-01-01", sex="F"),
    Kind.VEHICLE: VehicleKey(vrm="TE99AAB"),
    Kind.DRIVER: DriverKey(surname="TESTER", forenames="NORA", dob="1970-01-01"),
    Kind.PROPERTY: PropertyKey("BIKE", "TSTBIKE001"),
}
WHY = "SEEN TRYING CAR DOORS IN A ROW"
POLICE = "123456" + "9"
MATRIX: dict[tuple[str, str], dict[Kind, tuple[str, str]]] = {
    # (agency, role): kind -> (level, level of the full answer), and below its reasons
    ("police", "constable"): {
        Kind.PERSON: ("L3", "L4"),
        Kind.VEHICLE: ("L4", "L4"),
        Kind.DRIVER: ("L3", "L3"),
        Kind.PROPERTY: ("L3", "L3"),
    },
    ("police", "sergeant"): dict.fromkeys(Kind, ("L4", "L4")),
    ("police", "pcso"): {
        Kind.PERSON: ("L3", "L3"),
        Kind.VEHICLE: ("L3", "L3"),
        Kind.DRIVER: ("L2", "L2"),
        Kind.PROPERTY: ("L3", "L3"),
    },
    ("council", "pe_officer"): {
        Kind.PERSON: ("L1", "L1"),
        Kind.VEHICLE: ("L2", "L2"),
        Kind.PROPERTY: ("L2", "L2"),
    },
    ("council", "parking"): {Kind.VEHICLE: ("L2", "L2")},
    ("council", "environment"): {
        Kind.PERSON: ("L1", "L1"),
        Kind.VEHICLE: ("L2", "L2"),
        Kind.PROPERTY: ("L2", "L2"),
    },
    ("fire", "fire_safety"): {Kind.PERSON: ("L1", "L1"), Kind.VEHICLE: ("L2", "L2")},
    ("prison", "prison_officer"): {Kind.PERSON: ("L1", "L1")},
    ("housing", "housing_officer"): {},
}
REASONS = {
    "constable": POLICE,
    "sergeant": "123456789",
    "pcso": "1256",
}
"""Everybody else asks on behalf of their agency: 8."""
ALL_REASONS = (*"0123456789", "77", "", "1 ", "R1")
AGENCIES = (*FLEET.agencies, "police ", "")
ROLES = (*(role for _, role in MATRIX), "auditor", "")


def test_the_sample_matrix_cell_by_cell() -> None:
    """Agency x role x kind x reason x full answer or not: every cell, and what stands in no cell
    of the design is denied with the word for why."""
    walked = admitted = 0
    for agency, role, kind, reason, full in itertools.product(
        AGENCIES, ROLES, Kind, ALL_REASONS, (False, True)
    ):
        who = msgspec.structs.replace(asker("constable"), agency=agency, role=role)
        question = msgspec.structs.replace(
            ask(KEYS[kind], reason=reason, full=full), justification=WHY
        )
        found = admit(RULES, who, question, now_ms=NOON_MS)
        cell = MATRIX.get((agency, role), {}).get(kind)
        listed = reason in POLICY.reasons
        may = cell is not None and reason in REASONS.get(role, "8") and listed
        where = (agency, role, kind, reason, full)
        assert found.decision.allowed is may, where
        if cell is not None and may:
            assert (found.cause, found.decision.level) == ("", cell[full]), where
            admitted += 1
        else:
            cause = (
                "REASON NOT ON LIST"
                if not listed
                else "NOT YOUR ROLE"
                if cell is None
                else "REASON NOT FOR YOU"
            )
            assert (found.cause, found.decision.level) == (cause, Level.L0), where
            assert found.decision.fields == frozenset()
            assert admission.is_denial(found.cause)
        walked += 1
    assert walked == len(AGENCIES) * len(ROLES) * len(Kind) * len(ALL_REASONS) * 2
    assert admitted == 2 * (4 * 7 + 4 * 9 + 4 * 4 + 3 + 1 + 3 + 2 + 1)


names = st.sampled_from(["police", "council", "x", ""])
codes = st.sampled_from(["1", "5", "8", "9"])
RULE = st.builds(
    Rule,
    agency=names,
    role=names,
    kinds=st.lists(st.sampled_from(list(Kind)), max_size=3).map(tuple),
    level=st.sampled_from(list(Level)),
    reasons=st.lists(codes, max_size=3).map(tuple),
    on_request=st.booleans(),
)


@given(
    st.lists(RULE, max_size=6),
    st.sets(codes),
    names,
    names,
    st.sampled_from(list(Kind)),
    codes,
    st.booleans(),
)
def test_nothing_but_a_rule_for_just_this_admits(
    rules: list[Rule], active: set[str], agency: str, role: str, kind: Kind, reason: str, full: bool
) -> None:
    """Default deny over made-up policies: another agency's, role's, kind's or reason's rule admits
    nobody, an inactive reason nothing, and no level above that of a rule that fits."""
    policy = msgspec.structs.replace(
        POLICY,
        rules=tuple(rules),
        reasons={code: Reason(label=code, active=code in active) for code in "1589"},
    )
    who = msgspec.structs.replace(asker("constable"), agency=agency, role=role)
    found = admit(
        msgspec.structs.replace(RULES, policy=policy),
        who,
        ask(KEYS[kind], reason=reason, full=full),
        now_ms=NOON_MS,
    )
    fits = [
        rule.level
        for rule in rules
        if (rule.agency, rule.role) == (agency, role)
        and kind in rule.kinds
        and reason in rule.reasons
        and rule.level is not Level.L0
        and (full or not rule.on_request)
    ]
    assert found.decision.allowed is (bool(fits) and reason in active)
    if found.decision.allowed:
        assert found.decision.level in fits


@pytest.mark.parametrize(
    ("reason", "text", "cause"),
    [
        ("5", WHY, ""),
        ("5", "", "SAY WHY: 5 LETTERS"),
        ("5", "ROUTINE CHECK", "SAY WHAT YOU SAW"),
        ("5", "X" * 251, "WHY IS TOO LONG"),
        ("1", "", ""),
        ("1", "X", ""),
    ],
)
def test_a_justification_where_the_policy_asks_for_one(reason: str, text: str, cause: str) -> None:
    question = msgspec.structs.replace(ask(KEYS[Kind.PERSON], reason=reason), justification=text)
    found = admit(RULES, asker("constable"), question, now_ms=NOON_MS)
    assert (found.cause, found.decision.allowed) == (cause, not cause)


def test_who_asks_is_named_or_nothing_is_asked() -> None:
    """An operator of an agency that we ask for, without an officer; a surname that is none."""
    for who in (
        msgspec.structs.replace(asker("pe_officer"), officer="", surname="", operator="op1"),
        msgspec.structs.replace(asker("pe_officer"), surname="\u200b"),
    ):
        found = admit(RULES, who, ask(KEYS[Kind.VEHICLE], reason="8"), now_ms=NOON_MS)
        assert (found.cause, found.decision.allowed) == ("NO REQUESTER", False)


def test_each_denial_fits_the_screen_and_says_what_to_do() -> None:
    causes = [
        *admission._TO_DO,
        coach.SAY_WHAT,
        coach.TOO_LONG,
        *(coach._SAY_WHY.format(least) for least in (3, 20, 250)),
    ]
    for cause in causes:
        assert 0 < len(cause) <= 20
        assert 0 < len(admission.to_do(cause)) <= 20
        assert admission.is_denial(cause)
    assert not admission.is_denial("BUSY RETRY")
    assert not admission.is_denial("")


# --------------------------------------------------------------------------- in the core


async def test_each_denial_is_one_record_and_asks_the_pnc_nothing() -> None:
    """Every holder of the fleet, every kind, every reason that is not theirs (I8)."""
    async with House() as house:
        denied = 0
        for who, kind, reason in itertools.product(askers(), Kind, ("0", "7", "8", "77")):
            cell = MATRIX[who.agency, who.role].get(kind)
            if cell is not None and reason in REASONS.get(who.role, "8"):
                continue
            await house.ask(key=KEYS[kind], reason=reason, justification=WHY, issi=who.issi)
            denied += 1
            record = house.disk.records[-1]
            assert (record.event, record.outcome, record.officer, record.reason) == (
                "denied",
                "refused",
                who.officer,
                reason,
            )
            assert record.detail in {"REASON NOT ON LIST", "NOT YOUR ROLE", "REASON NOT FOR YOU"}
        assert len(house.on_record("denied")) == len(house.on_record("opened")) == denied > 150
        assert house.pnc.asked == []
        assert house.on_record("asked") == []
        assert house.all_settled()


async def test_the_coach_is_heard_and_the_second_try_is_asked() -> None:
    async with House() as house:
        await house.ask("TE99ABC", reason="5", justification="ROUTINE CHECK")
        assert house.pnc.asked == []
        assert (house.receipts[-1].accepted, house.receipts[-1].why) == (False, "SAY WHAT YOU SAW")
        (told,) = house.results
        assert told.pages[0].split("\n")[:3] == [
            "XXREFUSED",
            "SAY WHAT YOU SAW",
            "ASK AGAIN: J AND WHY",
        ]
        assert "ROUTINE" not in str(told)
        await house.ask("TE99ABC", reason="5", justification=WHY)
        (query,) = house.pnc.asked
        assert query.justification == WHY
        assert [r.outcome for r in house.results][1:] == [Outcome.ANSWERED]
        (denied,) = house.on_record("denied")
        assert denied.detail == "SAY WHAT YOU SAW"


async def test_a_coach_that_asks_for_more_takes_back_no_answer() -> None:
    """It counts when the question is asked, not when it is answered or asked for again."""
    async with House() as house:
        house.link.failing = True
        await house.ask("TE99ABC")
        reasons = {
            code: msgspec.structs.replace(reason, text_min=250)
            for code, reason in POLICY.reasons.items()
        }
        stricter = msgspec.structs.replace(house.config.policy, reasons=reasons)
        house.core.apply(msgspec.structs.replace(house.config, policy=stricter))
        house.link.failing = False
        await house.passes(30.0)
        assert {r.outcome for r in house.results} == {Outcome.ANSWERED}


async def test_what_is_on_record_is_what_was_sent() -> None:
    """Originator, justification, place and agency: the record of the attempt has the query's own
    words, whoever asks and however much they wrote."""
    async with House() as house:
        for who, text, place in (
            (ISSI, "NO LIGHTS", "BRIDGE ST"),
            (ISSI, "", ""),
            (ISSI, "DRIVER ASLEEP AT THE WHEEL OF A LORRY IN THE BUS LANE", "TOWN BRIDGE, NORTH"),
            ("5001008", "Müll abgeladen", "ROW 7"),
        ):
            reason = "8" if who == "5001008" else "1"
            await house.ask(reason=reason, justification=text, location=place, issi=who)
            query, of_check = house.pnc.asked[-1], house.on_record("asked", house.newest())
            (asked,) = [record for record in of_check if record.source == "PNC"]
            assert asked.content is not None
            content = msgspec.json.decode(asked.content)
            assert content["originator"] == query.originator
            assert len(query.originator) <= 53
            assert content.get("justification", "") == query.justification
            assert content.get("location", "") == query.location == place
            about = [r for r in house.disk.records if r.check == asked.check]
            assert {r.on_behalf for r in about} == {query.on_behalf_of}
            assert query.on_behalf_of == ("council" if reason == "8" else "")
        assert house.pnc.asked[0].originator == "PC1001 TESTER/1 NO LIGHTS/BRIDGE ST"
        assert house.pnc.asked[1].originator == "PC1001 TESTER/1 STOP CHECK"
        assert house.pnc.asked[1].justification == "STOP CHECK"


async def test_a_collar_that_was_typed_names_nobody() -> None:
    """KeySDS O is put on record and believed by nobody: the holder of the radio asks."""
    async with House() as house:
        await house.ask(collar="1002")
        assert house.pnc.asked[0].originator.startswith("PC1001 TESTER/")
        assert {r.officer for r in house.disk.records if r.check} == {"1001"}
        (opened,) = house.on_record("opened")
        assert opened.content is not None
        assert msgspec.json.decode(opened.content)["collar"] == "1002"


# --------------------------------------------------------------------------- where from


HERE = LocationFix(lat=52.5725, lon=-0.2431)
PLACE = "52.5725N 000.2431W"


@pytest.mark.parametrize(
    ("typed", "along", "before_s", "place"),
    [
        ("BRIDGE ST", HERE, 1.0, "BRIDGE ST"),
        ("", HERE, None, PLACE),
        ("", None, 1.0, PLACE),
        ("", None, 590.0, PLACE),
        ("", None, 601.0, ""),
        ("", LocationFix(lat=0.0, lon=0.0), 1.0, PLACE),
        ("", LocationFix(lat=0.0, lon=0.0), None, ""),
        ("", None, None, ""),
    ],
)
async def test_where_from(
    typed: str, along: LocationFix | None, before_s: float | None, place: str
) -> None:
    """As typed; else by the fix that came along, if it can be true; else by the last one, while it
    is not lost (a handheld: 20 x 30 s). Nobody knows: asked all the same, and control is told."""
    async with House() as house:
        if before_s is not None:
            house.say(HERE)
            await house.passes(before_s)
        await house.ask(location=typed, fix=along)
        (query,) = house.pnc.asked
        assert query.location == place
        assert query.originator == "PC1001 TESTER/1 NO LIGHTS" + (f"/{place}" if place else "")
        missed = [e for e in house.events if isinstance(e, Noticed) and e.kind == "no_place"]
        assert [e.check for e in missed] == ([] if place else [query.check])
        (opened,) = house.on_record("opened")
        assert opened.content is not None
        said = msgspec.json.decode(opened.content)
        assert said.get("location", "") == typed
        assert said.get("fix", "") == ("" if typed else place)


async def test_the_place_of_a_question_stays_what_it_was() -> None:
    """A second attempt after a restart says where the officer was when they asked."""
    async with House(config(retry_base_s=1.0)) as house:
        house.say(HERE)
        house.pnc.always = PncDown("refused")
        await house.ask(location="")
        await house.restart()
        house.say(LocationFix(lat=51.0, lon=0.0))
        house.pnc.always = None
        await house.passes(10.0)
        assert len(house.pnc.asked) > 1
        assert {query.location for query in house.pnc.asked} == {PLACE}


async def test_where_the_reason_needs_no_place_nobody_is_told() -> None:
    async with House() as house:
        await house.ask(reason="4", location="")
        assert [e for e in house.events if isinstance(e, Noticed)] == []
        await house.ask(reason="77", location="")
        assert [e for e in house.events if isinstance(e, Noticed)] == []


# --------------------------------------------------------------------------- how much


def _two_radios(house: House, issi: Issi = OTHER) -> None:
    """The holder of ISSI holds this radio, too."""
    people = held_by(PEOPLE, issi)
    standing = (*people.standing, Standing(terminal=issi, officer="1001"))
    people = msgspec.structs.replace(people, standing=standing)
    house.core.apply(msgspec.structs.replace(house.config, people=people))


async def test_two_radios_of_one_officer_share_a_limit() -> None:
    """20 at once over both, 2 a minute from then on; refused and on record, never asked. Another
    officer notices nothing, and the red button always goes through."""
    limits = msgspec.structs.replace(
        config().settings.limits, officer_per_hour=120.0, officer_burst=20
    )
    async with House(config(limits=limits)) as house:
        _two_radios(house)
        for n in range(15):
            for issi in (ISSI, OTHER):
                await house.ask(f"TE99A{n:02}", issi=issi)
        assert len(house.pnc.asked) == 20
        refused = house.on_record("denied")
        assert [(r.detail, r.officer) for r in refused] == [("TOO MANY CHECKS", "1001")] * 10
        assert house.results[-1].pages[0].split("\n")[1:3] == [
            "TOO MANY CHECKS",
            "WAIT, OR USE VOICE",
        ]
        await house.ask("TE99AAB", issi="5001003")
        assert len(house.pnc.asked) == 21
        await house.status(0)
        assert house.core.alarms.emergency_open(ISSI)
        await house.passes(31.0)
        for n in range(3):
            await house.ask(f"TE99B{n:02}")
        assert len(house.pnc.asked) == 22
        assert house.all_settled()
        counted = house.meter.total("rate_limited_total", type="question", scope="officer")
        assert counted == 12


async def test_a_repeat_and_a_refusal_cost_nothing_of_the_limit() -> None:
    limits = msgspec.structs.replace(config().settings.limits, officer_per_hour=1, officer_burst=2)
    async with House(config(limits=limits)) as house:
        question = house.question("TE99ABC")
        for _ in range(5):
            house.say(question)
            await settle()
        for _ in range(5):
            await house.ask(reason="77")
        await house.ask("TE99ABD")
        assert len(house.pnc.asked) == 2
