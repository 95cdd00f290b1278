"""Result classes, danger words and tiers: what an answer amounts to."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings

from gateway import results
from gateway.messages import (
    Bail,
    Block,
    Circulation,
    Disqualification,
    DriverRecord,
    PncAnswer,
    PropertyRecord,
    ResultClass,
    VehicleRecord,
    VehicleReport,
)
from tests.gateway.strategies import (
    BLOCK,
    COVERT,
    POLICY,
    QUESTIONS,
    WARNINGS,
    answer,
    person,
    signals,
)

C = ResultClass


def car(*reports: VehicleReport, **more: object) -> VehicleRecord:
    return VehicleRecord(vrm="TE99AAB", tax="Y", mot="Y", insured="Y", reports=reports, **more)


WANTED = Circulation(kind="WANTED_ARREST", owner="35NB")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((), C.NO_TRACE),
        ((person(),), C.TRACE_CLEAR),
        ((person(warnings=signals("VI")),), C.HIT_CRITICAL),
        ((person(warnings=signals("FI")),), C.HIT_CRITICAL),
        ((person(circulations=(WANTED,)),), C.HIT_WANTED),
        ((person(circulations=(WANTED,), warnings=signals("WE", "VI")),), C.HIT_WANTED),
        ((person(circulations=(Circulation(kind="MISSING"),)),), C.HIT_WELFARE),
        ((person(warnings=signals("SU", "SH")),), C.HIT_WELFARE),
        ((person(warnings=signals("SH", "VI")),), C.HIT_CRITICAL),
        ((person(warnings=signals("CO", "DR")),), C.HIT_CAUTION),
        ((person(warnings=signals("AG")),), C.HIT_CAUTION),
        ((person(warnings=signals("ES")),), C.HIT_CAUTION),
        ((person(warnings=signals("??")),), C.HIT_CAUTION),
        ((person(disqualification=Disqualification(until_test=True)),), C.HIT_STATUS),
        ((person(bail=Bail(status="remanded-on-bail")),), C.HIT_STATUS),
        ((person(offences=("THEFT",)),), C.TRACE_INFO),
        ((person(deceased=True),), C.TRACE_INFO),
        ((person(restricted=True),), C.RESTRICTED),
        ((car(),), C.TRACE_CLEAR),
        ((car(VehicleReport(kind="LOS")),), C.HIT_STOLEN),
        ((car(VehicleReport(kind="LOS", confirmed=False)),), C.HIT_STOLEN),
        ((car(VehicleReport(kind="LOS", occupant_warnings=("VI",))),), C.HIT_CRITICAL),
        ((car(VehicleReport(kind="ACTION", action="ARREST_DRIVER")),), C.HIT_WANTED),
        ((car(VehicleReport(kind="SEEN")),), C.TRACE_INFO),
        ((car(VehicleReport(kind="A_NEW_KIND")),), C.HIT_CAUTION),
        ((car(keeper_record=person(circulations=(WANTED,))),), C.HIT_WANTED),
        ((car(keeper_record=person(disqualification=Disqualification())),), C.HIT_STATUS),
        ((VehicleRecord(vrm="TE99NNS", insured="N"),), C.HIT_STATUS),
        ((VehicleRecord(vrm="TE99AAC"),), C.TRACE_CLEAR),
        ((PropertyRecord("PEDAL CYCLE", "TSTBIKE001", status="STOLEN"),), C.HIT_STOLEN),
        ((PropertyRecord("PEDAL CYCLE", "TSTBIKE002", status="FOUND"),), C.TRACE_INFO),
        ((PropertyRecord("PEDAL CYCLE", "TSTBIKE003"),), C.TRACE_CLEAR),
        ((PropertyRecord("PEDAL CYCLE", "TSTBIKE004", status="MELTED"),), C.HIT_CAUTION),
        (
            (DriverRecord("X", "TESTER", "DISQ", "", disqualification=Disqualification()),),
            C.HIT_STATUS,
        ),
    ],
)
def test_the_most_severe_class_wins(records: tuple[object, ...], expected: ResultClass) -> None:
    """Each kind of record gives the class of pnc-domain 8, whatever else stands beside it."""
    assert results.classify(answer(*records), WARNINGS) is expected


def test_a_restricted_record_counts_as_itself_for_who_may_see_it() -> None:
    """RESTRICTED is for those below supervisor; the bureau's reader sees the hit."""
    said = answer(person(restricted=True, circulations=(WANTED,)))
    assert results.classify(said, WARNINGS) is C.RESTRICTED
    assert results.classify(said, WARNINGS, see_restricted=True) is C.HIT_WANTED


def test_several_candidates() -> None:
    """One strong candidate is the answer, two strong or none are MULTIPLE; danger is never lost."""
    strong = person("JON")
    weak = person("JOHN", score=60, warnings=signals("VI"))
    two = answer(strong, person("JONN", score=85))
    assert results.classify(answer(strong, weak), WARNINGS) is C.TRACE_CLEAR
    assert results.danger_words(answer(strong, weak), WARNINGS) == ()
    _, others = results.shown_words(answer(strong, weak), WARNINGS)
    assert [word.text for word in others] == ["VIOLENT"]
    assert results.classify(two, WARNINGS) is C.MULTIPLE
    both_weak = answer(person(score=84), weak)
    assert results.classify(both_weak, WARNINGS) is C.MULTIPLE
    assert results.danger_words(both_weak, WARNINGS) == ("VIOLENT",)
    cars = answer(car(), car())
    assert results.classify(cars, WARNINGS) is C.MULTIPLE
    assert results.classify(answer(too_many=True), WARNINGS) is C.TOO_MANY


def test_a_source_that_did_not_reply() -> None:
    """PARTIAL instead of clear or no trace; a hit stays the hit; an unavailable block counts."""
    assert results.classify(answer(not_checked=("NAMES",)), WARNINGS) is C.PARTIAL
    assert results.classify(answer(car(), not_checked=("INSURANCE",)), WARNINGS) is C.PARTIAL
    stolen = answer(car(VehicleReport(kind="LOS")), not_checked=("INSURANCE",))
    assert results.classify(stolen, WARNINGS) is C.HIT_STOLEN
    blind = answer(car(), blocks=(Block("insurance", 0, "UNAVAILABLE"), Block("DVLA", 0)))
    assert results.missing(blind) == ("INSURANCE",)
    assert results.classify(blind, WARNINGS) is C.PARTIAL


def test_danger_words_are_in_the_order_of_the_screen() -> None:
    """Can hurt you, then must act, then can be hurt; own words before occupants' and keepers'."""
    said = person(
        warnings=signals("SU", "VI", "WE", "CO", "FI", "XX", "VI"),
        circulations=(WANTED, Circulation(kind="MISSING")),
    )
    assert results.danger_words(answer(said), WARNINGS) == (
        "WEAPONS",
        "FIREARMS",
        "VIOLENT",
        "UNKNOWN MARKER",
        "WANTED - ARREST",
        "MISSING",
        "SUICIDAL",
    )
    vehicle = car(
        VehicleReport(kind="LOS", occupant_warnings=("VI", "EX")),
        keeper_record=person(circulations=(WANTED,)),
    )
    assert results.danger_words(answer(vehicle), WARNINGS) == (
        "STOLEN",
        "EXPLOSIVE OCCUPANT",
        "VIOLENT OCCUPANT",
        "KEEPER WANTED",
    )


@pytest.mark.parametrize(
    ("codes", "expected", "advice"),
    [
        ((), "CLEAR", ("USUAL CARE",)),
        (("IS",), "CLEAR", ("USUAL CARE",)),
        (("VI",), "CAUTION+", ("TWO OFFICERS", "CALL CONTROL")),
        (("VI", "WE"), "WITHDRAW", ("CALL CONTROL", "DO NOT APPROACH")),
        (("SH",), "WELFARE", ("STAY WITH PERSON", "CALL CONTROL")),
        (("SH", "DR"), "WELFARE", ("STAY, TAKE CARE", "CALL CONTROL")),
        (("CO",), "CAUTION", ("USE PPE",)),
        (("CO", "AG"), "CAUTION", ("USE PPE", "BODY VIDEO ON")),
        (("ES", "AG"), "CAUTION", ("KEEP DISTANCE", "BODY VIDEO ON")),
        (("Q9",), "CAUTION", ("KEEP DISTANCE",)),
    ],
)
def test_the_tier_follows_the_table(
    codes: tuple[str, ...], expected: str, advice: tuple[str, ...]
) -> None:
    """The most severe tier wins and its advice variant is one that has been measured."""
    tier = results.tier(answer(person(warnings=signals(*codes))), WARNINGS)
    assert (tier.name, tier.advice) == (expected, advice)
    assert tier in results.tiers()


@pytest.mark.parametrize("said", [answer(too_many=True), answer(not_checked=("NAMES",))])
def test_what_was_not_looked_at_is_never_clear(said: PncAnswer) -> None:
    """Too many candidates or a silent source is no CLEAR: no answer is not no trace."""
    assert results.tier(said, WARNINGS).name == "CAUTION"


def test_covert_parts_go_and_are_told_of() -> None:
    """Covert circulations and BLOCK reports vanish, keepers' too, and `hidden` says so."""
    bare = results.without_covert(answer(person()), POLICY)
    assert not bare.hidden
    covert = results.without_covert(answer(person(circulations=(COVERT,))), POLICY)
    assert covert.hidden
    assert covert.answer == bare.answer
    unflagged = Circulation(kind="observe_do_not_alert")
    assert (
        results.without_covert(answer(person(circulations=(unflagged,))), POLICY).answer
        == bare.answer
    )
    blocked = results.without_covert(
        answer(car(BLOCK, keeper_record=person(circulations=(COVERT,)))), POLICY
    )
    assert blocked.hidden
    assert blocked.answer == answer(car(keeper_record=person()))


def test_a_policy_may_hide_more_and_never_less() -> None:
    """What its file names goes as the rest goes, however it is written; what the code knows goes
    whatever the file says."""
    more = msgspec.structs.replace(
        POLICY, covert_circulations=("wanted arrest",), block_reports=(" los ",)
    )
    wanted = answer(person(circulations=(WANTED,)))
    stolen = answer(car(VehicleReport(kind="LOS")))
    for said, bare in ((wanted, answer(person())), (stolen, answer(car()))):
        assert not results.without_covert(said, POLICY).hidden
        assert results.without_covert(said, more).hidden
        assert results.without_covert(said, more).answer == bare
    for kind in ("OBSERVE_DO_NOT_ALERT", " observe do-not alert "):
        for policy in (POLICY, more):
            said = answer(person(circulations=(Circulation(kind=kind),)))
            assert results.without_covert(said, policy).answer == answer(person())
    for policy in (POLICY, more):
        for report in (BLOCK, VehicleReport(kind="BLOCK")):
            assert results.without_covert(answer(car(report)), policy).answer == answer(car())


@settings(max_examples=80)
@given(QUESTIONS)
def test_nothing_depends_on_covert_parts(question: tuple[object, PncAnswer]) -> None:
    """Class, words and tier are those of the answer without them; twice out is once out."""
    _, said = question
    cleared = results.without_covert(said, POLICY)
    assert not results.without_covert(cleared.answer, POLICY).hidden
    assert results.classify(said, WARNINGS) is results.classify(cleared.answer, WARNINGS)
    assert results.danger_words(said, WARNINGS) == results.danger_words(cleared.answer, WARNINGS)
    assert results.tier(said, WARNINGS) == results.tier(cleared.answer, WARNINGS)


@settings(max_examples=80)
@given(QUESTIONS)
def test_every_tier_that_occurs_has_been_measured(question: tuple[object, PncAnswer]) -> None:
    """The one length of L1 texts is taken over all tiers that any answer can have."""
    assert results.tier(question[1], WARNINGS) in results.tiers()
