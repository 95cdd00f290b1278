"""Who may ask, who may see: the invariants of pnc-domain 14 over any answer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import policy, results
from gateway.messages import (
    CheckRequest,
    Circulation,
    Disqualification,
    DriverKey,
    Key,
    Kind,
    Level,
    Outcome,
    PersonKey,
    PncAnswer,
    PropertyKey,
    ResultClass,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
    kind_of,
)
from gateway.policy import Decision, View
from tests.gateway.strategies import (
    BLOCK,
    COVERT,
    PEOPLE,
    POLICY,
    QUESTIONS,
    WARNINGS,
    answer,
    ask,
    asker,
    person,
    signals,
)

NORA = PersonKey("TESTER", "NORA", "1970-01-01", sex="F")
CAR = VehicleKey(vrm="TE99AAB")
KEYS: dict[Kind, Key] = {
    Kind.PERSON: NORA,
    Kind.VEHICLE: CAR,
    Kind.DRIVER: DriverKey(driver_no="TESTE804150T99AB"),
    Kind.PROPERTY: PropertyKey("PEDAL CYCLE", "TSTBIKE001"),
}
WANTED = Circulation(kind="WANTED_ARREST", owner="35NB")


def decision(level: Level, *fields: str) -> Decision:
    return Decision(True, level, frozenset(fields or POLICY.levels[level.value]))


def view(level: Level, said: PncAnswer, key: Key = NORA) -> View:
    return policy.project(POLICY, decision(level), ask(key), said, WARNINGS)


# --------------------------------------------------------------------------- may ask


def test_the_file_names_only_groups_that_exist() -> None:
    """A misspelt field group would silently release nothing, so the shipped file has none."""
    named = {group for groups in POLICY.levels.values() for group in groups}
    named |= {group for rule in POLICY.rules for group in rule.fields}
    assert named <= policy.FIELD_GROUPS
    assert {rule.role for rule in POLICY.rules} >= {each.role for each in PEOPLE.officers}


@pytest.mark.parametrize(
    ("role", "levels"),
    [
        ("constable", {"person": "L3", "vehicle": "L4", "driver": "L3", "property": "L3"}),
        ("sergeant", {"person": "L4", "vehicle": "L4", "driver": "L4", "property": "L4"}),
        ("pcso", {"person": "L3", "vehicle": "L3", "driver": "L2", "property": "L3"}),
        ("pe_officer", {"person": "L1", "vehicle": "L2", "driver": "", "property": "L2"}),
        ("parking", {"person": "", "vehicle": "L2", "driver": "", "property": ""}),
        ("fire_safety", {"person": "L1", "vehicle": "L2", "driver": "", "property": ""}),
        ("prison_officer", {"person": "L1", "vehicle": "", "driver": "", "property": ""}),
        ("housing_officer", {"person": "", "vehicle": "", "driver": "", "property": ""}),
    ],
)
def test_the_matrix(role: str, levels: dict[str, str]) -> None:
    """The shipped file is the matrix of pnc-domain 14; what is not in it is denied."""
    holder = asker(role)
    reason = "1" if holder.agency == "police" else "8"
    for kind, key in KEYS.items():
        decided = policy.may_ask(POLICY, holder, ask(key, reason=reason))
        assert decided.allowed is bool(levels[kind.value])
        assert decided.level.value == (levels[kind.value] or "L0")
        assert decided.why == ("" if decided.allowed else "NOT YOUR ROLE")
        person = decided.allowed and kind is Kind.PERSON
        assert decided.hold is (person and holder.agency == "council")
        assert decided.prompt is (person and holder.agency == "police")


def test_the_full_record_is_given_on_request() -> None:
    """A constable sees a person at L3, at L4 when they ask for the full answer (option F)."""
    decided = policy.may_ask(POLICY, asker("constable"), ask(NORA, full=True))
    assert decided.level is Level.L4
    assert "offences" in decided.fields


@pytest.mark.parametrize(
    ("role", "reason", "why"),
    [
        ("constable", "77", "REASON NOT ON LIST"),
        ("constable", "", "REASON NOT ON LIST"),
        ("constable", "0", "REASON NOT FOR YOU"),
        ("pe_officer", "1", "REASON NOT FOR YOU"),
    ],
)
def test_a_reason_must_be_on_the_list_and_the_roles_own(role: str, reason: str, why: str) -> None:
    """An unknown reason and one of another role are refused, with words for a small screen."""
    decided = policy.may_ask(POLICY, asker(role), ask(NORA, reason=reason))
    assert (decided.allowed, decided.level, decided.why) == (False, Level.L0, why)
    assert len(why) <= 20


@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from(list(KEYS.values())))
def test_default_deny(agency: str, role: str, key: Key) -> None:
    """An agency or role that stands in no rule may ask nothing, for any reason."""
    holder = msgspec.structs.replace(asker("constable"), agency=agency, role=role)
    for reason in POLICY.reasons:
        decided = policy.may_ask(POLICY, holder, ask(key, reason=reason))
        known = any((r.agency, r.role) == (agency, role) for r in POLICY.rules)
        assert known or not decided.allowed


def test_a_denied_decision_shows_nothing() -> None:
    """Should an answer meet a denial, the view is the refusal."""
    said = answer(person(warnings=signals("VI")))
    shown = policy.project(POLICY, Decision(False, Level.L0, why="X"), ask(NORA), said, WARNINGS)
    assert shown.outcome is Outcome.REFUSED
    assert (shown.danger, shown.fields, shown.released) == ((), {}, ())


def test_no_answer_takes_no_word_from_the_pnc() -> None:
    """Outcome, cause and echo; below L3 without the class."""
    request = ask(NORA)
    shown = policy.without_answer(Outcome.FAILED, ResultClass.UNAVAILABLE, "PNC ERROR", request)
    assert (shown.result_class, shown.why) == ("UNAVAILABLE", "PNC ERROR")
    low = policy.without_answer(
        Outcome.FAILED, ResultClass.UNAVAILABLE, "PNC ERROR", request, Level.L1
    )
    assert low.result_class == ""
    assert low.released == ()


# --------------------------------------------------------------------------- invariant 1


ALL_DECISIONS = [
    *(decision(level) for level in (Level.L1, Level.L2, Level.L3, Level.L4)),
    decision(Level.L4, *POLICY.levels["L4"], "restricted"),
    decision(Level.L2, "stolen_flag"),
    decision(Level.L3, "identity"),
    decision(Level.L4, "vehicle"),
    *(
        Decision(True, rule.level, frozenset(rule.fields or POLICY.levels[rule.level.value]))
        for rule in POLICY.rules
        if rule.level is not Level.L0
    ),
]


@settings(max_examples=120)
@given(QUESTIONS, st.sampled_from(ALL_DECISIONS))
def test_safety_beats_silence(question: tuple[Key, PncAnswer], decided: Decision) -> None:
    """A critical signal or arrest circulation shows on every screen, even of a bad policy."""
    key, said = question
    shown = policy.project(POLICY, decided, ask(key), said, WARNINGS)
    open_part = results.without_covert(said, POLICY).answer
    words = [w for record in open_part.records for w in results.words_of(record, WARNINGS)]
    grave = [w for w in words if w.severity == "critical" or w.hit is ResultClass.HIT_WANTED]
    if grave:
        assert shown.tier not in {"", "CLEAR"}
        assert shown.dangers or shown.others


@settings(max_examples=120)
@given(QUESTIONS, st.sampled_from([Level.L3, Level.L4]))
def test_no_marker_is_ever_dropped(question: tuple[Key, PncAnswer], level: Level) -> None:
    """Every word on record stands among dangers, cautions or those of weaker candidates (I22)."""
    key, said = question
    shown = view(level, said, key)
    have = {word.text for word in (*shown.dangers, *shown.cautions, *shown.others)}
    open_part = results.without_covert(said, POLICY).answer
    for record in open_part.records:
        for word in results.words_of(record, WARNINGS):
            assert word.text in have or word.group not in POLICY.levels[level.value]


# --------------------------------------------------------------------------- invariants 2 and 8


@settings(max_examples=120)
@given(QUESTIONS)
def test_l1_is_a_function_of_the_tier(question: tuple[Key, PncAnswer]) -> None:
    """Answers of one tier and advice give one L1 view: no name, score, count or source."""
    key, said = question
    shown = view(Level.L1, said, key)
    tier = results.tier(said, WARNINGS)
    stand_in = {
        "CLEAR": answer(),
        "CAUTION+": answer(person(warnings=signals("VI"))),
        "WITHDRAW": answer(person(warnings=signals("FI"))),
    }.get(tier.name)
    if stand_in is not None:
        assert shown == view(Level.L1, stand_in, key)
    assert shown.result_class == ""
    assert shown.not_checked == ()
    assert shown.released == ("safety",)
    assert set(shown.fields) == {"safety", "advice"}


def test_l1_violent_and_wanted_are_one() -> None:
    """Both are CAUTION+, in every member of the view."""
    violent = view(Level.L1, answer(person(warnings=signals("VI"))))
    wanted = view(Level.L1, answer(person("NORMA", circulations=(WANTED,), score=60)))
    assert violent == wanted
    assert violent.danger == ("CAUTION+",)


@settings(max_examples=80)
@given(QUESTIONS, st.sampled_from([Level.L1, Level.L2]))
def test_below_l3_a_record_without_relevance_is_no_record(
    question: tuple[Key, PncAnswer], level: Level
) -> None:
    """Persons on record with nothing relevant read as persons not on record."""
    key, said = question
    if not isinstance(key, PersonKey) or not said.records:
        return
    plain = msgspec.structs.replace(
        said,
        records=tuple(
            msgspec.structs.replace(
                record, warnings=(), circulations=(COVERT,), disqualification=None
            )
            for record in said.records
        ),
    )
    nobody = msgspec.structs.replace(said, records=())
    assert view(level, plain, key) == view(level, nobody, key)


def test_l2_flags() -> None:
    """A council officer reads y/n and the tier, no identity; unknown is never no."""
    stolen = VehicleRecord(
        vrm="TE99AAB",
        make="FORD",
        keeper="TESTER",
        tax="Y",
        insured="N",
        mot_expiry="2026-12-01",
        reports=(VehicleReport(kind="LOS"),),
    )
    shown = view(Level.L2, answer(stolen), CAR)
    assert shown.flags == {"STOLEN": "Y", "INTEREST": "N", "TAX": "Y", "MOT": "?", "INS": "N"}
    assert shown.danger == ("CAUTION", "STOLEN")
    assert "FORD" not in str(shown)
    assert "TESTER" not in str(shown)
    assert shown.details == ("MOT EXPIRES 01/12/26",)
    blind = view(Level.L2, answer(not_checked=("NAMES",)), NORA)
    assert set(blind.flags.values()) == {"?"}
    banned = view(Level.L2, answer(person(disqualification=Disqualification())), NORA)
    assert banned.flags["DISQ"] == "Y"


# --------------------------------------------------------------------------- invariant 3


def test_an_unknown_code_is_shown() -> None:
    """UNKNOWN MARKER, a danger word at L3, CAUTION at L1; never dropped."""
    said = answer(person(warnings=signals("ZQ")))
    assert view(Level.L3, said).danger == ("UNKNOWN MARKER",)
    assert view(Level.L1, said).danger == ("CAUTION",)


def test_a_field_of_tomorrow_leaks_to_nobody() -> None:
    """Every member of a record that is shown is named here; a new one must be given a group."""
    everything = person(
        filed_name="LEAK-filed",
        aliases=("LEAK-alias",),
        height_cm=199,
        build="LEAK-build",
        hair="LEAK-hair",
        eyes="LEAK-eyes",
        marks=("LEAK-mark",),
        ethnic_appearance="LEAK-ic",
        address="LEAK-address",
        place_of_birth="LEAK-place",
        markers=("LEAK-marker",),
        orders=("LEAK-order",),
        offences=("LEAK-offence",),
    )
    shown = str(msgspec.to_builtins(view(Level.L4, answer(everything))))
    assert "LEAK-filed" not in shown
    assert "LEAK-offence" in shown
    low = str(msgspec.to_builtins(view(Level.L3, answer(everything))))
    for hidden in ("alias", "address", "place", "offence", "filed"):
        assert f"LEAK-{hidden}" not in low
    assert "2099/0000001G" not in low
    for level in (Level.L1, Level.L2):
        assert "LEAK" not in str(msgspec.to_builtins(view(level, answer(everything))))
    none = policy.project(POLICY, Decision(True, Level.L4), ask(NORA), answer(everything), WARNINGS)
    assert "LEAK" not in str(msgspec.to_builtins(none))
    assert none.released == ()


@settings(max_examples=80)
@given(QUESTIONS, st.sets(st.sampled_from(sorted(policy.FIELD_GROUPS))))
def test_what_was_released_was_allowed(question: tuple[Key, PncAnswer], groups: set[str]) -> None:
    """The disclosure record names only groups of the decision, and the safety tier."""
    key, said = question
    decided = Decision(True, Level.L3, frozenset(groups))
    shown = policy.project(POLICY, decided, ask(key), said, WARNINGS)
    assert set(shown.released) <= groups | {"safety"}


# --------------------------------------------------------------------------- invariant 5


@settings(max_examples=120)
@given(QUESTIONS, st.sampled_from(ALL_DECISIONS))
def test_covert_parts_leave_no_sign(question: tuple[Key, PncAnswer], decided: Decision) -> None:
    """At every level the view is that of the same answer without the covert parts."""
    key, said = question
    covert = []
    for record in results.without_covert(said, POLICY).answer.records:
        if isinstance(record, VehicleRecord):
            record = msgspec.structs.replace(record, reports=(BLOCK, *record.reports))
        elif hasattr(record, "circulations"):
            record = msgspec.structs.replace(record, circulations=(COVERT, *record.circulations))
        covert.append(record)
    with_covert = msgspec.structs.replace(said, records=tuple(covert))
    without = results.without_covert(with_covert, POLICY).answer
    request = ask(key)
    assert policy.project(POLICY, decided, request, with_covert, WARNINGS) == policy.project(
        POLICY, decided, request, without, WARNINGS
    )


# --------------------------------------------------------------------------- L3 and L4


def test_a_restricted_record_is_for_the_bureau() -> None:
    """L3 reads RESTRICTED and the danger words; content only for the role that may see it."""
    said = answer(person(restricted=True, warnings=signals("WE"), hair="LEAK"))
    low = view(Level.L3, said)
    assert (low.result_class, low.danger) == ("RESTRICTED", ("WEAPONS",))
    assert "LEAK" not in str(low)
    sergeant = policy.may_ask(POLICY, asker("sergeant"), ask(NORA))
    high = policy.project(POLICY, sergeant, ask(NORA), said, WARNINGS)
    assert high.result_class == "HIT_CRITICAL"
    assert "LEAK" in str(high)
    assert "restricted" in high.released


@pytest.mark.parametrize(
    ("key", "record", "match"),
    [
        (NORA, person("NORA ANN"), "FULL"),
        (PersonKey("TESTER", "SEAN", "1994-09-21"), person("SEÁN", dob="1994-09-21"), "FULL"),
        (NORA, person("NORA", dob="1971-01-01", score=88), "GOOD"),
        (PersonKey("TESTER", "NORA"), person(score=90), "GOOD"),
        (NORA, person(score=84), "WEAK"),
    ],
)
def test_how_sure_the_match_is(key: PersonKey, record: object, match: str) -> None:
    """FULL is name and date of birth as filed; a strong score else is GOOD, below 85 WEAK."""
    assert view(Level.L3, answer(record), key).match == match


def test_reports_show_their_age() -> None:
    """Hours while confirmation is due, then the day; a report without date says so."""
    as_of = answer().as_of_ms
    fresh = VehicleReport(kind="LOS", confirmed=False, reported_at="2026-11-20T22:00:00Z")
    old = VehicleReport(kind="LOS", owner="35NB", reported_at="2026-11-12T08:00:00Z")
    assert policy.report_line(fresh, "STOLEN UNCONFIRMED", as_of) == "STOLEN UNCONFIRMED 31H AGO"
    assert policy.report_line(old, "STOLEN", as_of) == "STOLEN CONFIRMED 35NB 12/11/26"
    undated = VehicleReport(kind="SEEN")
    assert policy.report_line(undated, "SEEN", as_of) == "SEEN CONFIRMED DATE NOT KNOWN"


@pytest.mark.parametrize("key", [*KEYS.values(), VehicleKey(vin="0000001"), PersonKey("TESTER")])
def test_the_asker_reads_what_they_asked(key: Key) -> None:
    """The echo is never empty, and the same whatever the answer."""
    request = CheckRequest(key=key, reason="1")
    assert policy.subject_of(key)
    shown = policy.project(POLICY, decision(Level.L3), request, answer(), WARNINGS)
    assert shown.subject == policy.subject_of(key)
    assert shown.kind is kind_of(key)
