"""Less of a held answer, never more of it, and never without the safety tier."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import policy, results
from gateway.amending import lower_levels, lowered
from gateway.messages import (
    Key,
    Kind,
    Level,
    Outcome,
    PersonKey,
    PncAnswer,
    VehicleKey,
    VehicleRecord,
)
from gateway.policy import FIELD_GROUPS, Decision, project
from gateway.sources import STATUS
from tests.gateway.strategies import (
    POLICY,
    QUESTIONS,
    WARNINGS,
    answer,
    ask,
    asker,
    person,
    signals,
)

QUESTION = ask(PersonKey(surname="TESTER", sex="M"))
DECISIONS = st.builds(
    Decision,
    allowed=st.just(True),
    level=st.sampled_from([Level.L1, Level.L2, Level.L3, Level.L4]),
    fields=st.frozensets(st.sampled_from(sorted(FIELD_GROUPS - {"restricted"}))),
    hold=st.just(True),
    prompt=st.booleans(),
)
PARTS = {
    "police_interest": {"wanted", "reports"},
    "missing_flag": {"missing"},
    "stolen_flag": {"stolen"},
    "disqualified_flag": {"disqualified"},
    "safety": set(),
}


@given(decision=DECISIONS, level=st.sampled_from(Level))
def test_never_more_than_was_proposed(decision: Decision, level: Level) -> None:
    """A lower level alone; each group in it was granted, or is one flag of groups that were."""
    if level not in lower_levels(POLICY, decision):
        with pytest.raises(ValueError, match="ONLY BELOW"):
            lowered(POLICY, decision, level)
        return
    lower = lowered(POLICY, decision, level)
    assert Level.L0.value < lower.level.value < decision.level.value
    for group in lower.fields:
        assert group in decision.fields or PARTS[group] <= decision.fields
    assert not lower.prompt or (decision.prompt and lower.level.value >= "L3")


@given(decision=DECISIONS, asked=QUESTIONS)
def test_the_safety_tier_is_in_every_level(
    decision: Decision, asked: tuple[Key, PncAnswer]
) -> None:
    """I22, invariant 1: what is dangerous is never amended into silence."""
    key, found = asked
    answer, question = results.without_covert(found, POLICY).answer, ask(key)
    tier = results.tier(answer, WARNINGS)
    words = [w for each in results.shown_words(answer, WARNINGS) for w in each]
    for level in lower_levels(POLICY, decision):
        view = project(POLICY, lowered(POLICY, decision, level), question, answer, WARNINGS)
        assert view.tier == tier.name
        if tier.name != results.CLEAR and any(word.danger for word in words):
            assert view.dangers, level
        if level.value < "L3" and tier.name != results.CLEAR:
            assert tier.name in view.danger


def test_what_may_not_be_named_still_warns() -> None:
    """No group for the warning, and the level without a tier of its own: SAFETY stands there."""
    armed = answer(person(warnings=signals("FI")))
    nameless = Decision(True, Level.L4, fields=frozenset({"trace", "bail"}))
    lower = lowered(POLICY, nameless, Level.L3)
    assert "warnings" not in lower.fields
    view = project(POLICY, lower, QUESTION, armed, WARNINGS)
    assert view.dangers


def test_a_lower_level_is_what_it_would_have_been() -> None:
    """L4 amended to L1 is the L1 of everybody."""
    wanted = answer(person(warnings=signals("VI")))
    full = Decision(True, Level.L4, fields=frozenset(POLICY.levels["L4"]))
    l1 = Decision(True, Level.L1, fields=frozenset(POLICY.levels["L1"]))
    amended = project(POLICY, lowered(POLICY, full, Level.L1), QUESTION, wanted, WARNINGS)
    assert amended == project(POLICY, l1, QUESTION, wanted, WARNINGS)


def test_a_status_alone_has_no_safety_word_to_be_amended_to() -> None:
    """The PNC was not asked: at L1 there would be a safety word of nothing. Lower levels that grant
    the status show it and no word of police records; no other level is offered or shown."""
    question = msgspec.structs.replace(ask(VehicleKey(vrm="TE99STV")), scope=STATUS)
    found = answer(VehicleRecord(vrm="TE99STV", tax="Y", mot="N", insured="Y"))
    whole = policy.may_ask(POLICY, asker("constable"), question)
    assert (whole.level, whole.status_alone) == (Level.L4, True)
    assert lower_levels(POLICY, whole) == (Level.L3, Level.L2)
    for level in lower_levels(POLICY, whole):
        lower = lowered(POLICY, whole, level)
        view = project(POLICY, lower, question, found, WARNINGS)
        assert (view.tier, view.outcome, view.fields["mot"]) == ("", Outcome.ANSWERED, "N")
        assert "safety" not in lower.fields
    with pytest.raises(ValueError, match="ONLY BELOW"):
        lowered(POLICY, whole, Level.L1)
    hidden = msgspec.structs.replace(POLICY, levels={**POLICY.levels, "L2": ("safety",)})
    assert lower_levels(hidden, whole) == (Level.L3,)


@pytest.mark.parametrize(
    "decision",
    [
        Decision(True, Level.L1, fields=frozenset({"safety", "vehicle_status"})),
        Decision(True, Level.L2, fields=frozenset({"safety"})),
    ],
)
def test_a_status_that_is_not_granted_is_refused_in_words(decision: Decision) -> None:
    """Whoever decided so: neither a status nor a blank where a safety word belongs."""
    question = msgspec.structs.replace(ask(VehicleKey(vrm="TE99STV")), scope=STATUS)
    found = answer(VehicleRecord(vrm="TE99STV", tax="Y"))
    view = project(POLICY, decision, question, found, WARNINGS)
    assert (view.outcome, view.why, view.fields) == (Outcome.REFUSED, policy.NOT_YOUR_ROLE, {})
    rule = msgspec.structs.replace(
        POLICY.rules[0], kinds=(Kind.VEHICLE,), level=Level.L1, fields=("safety", "vehicle_status")
    )
    l1 = msgspec.structs.replace(POLICY, rules=(rule,))
    assert not policy.may_ask(l1, asker("constable"), question).allowed


def test_what_the_control_room_may_read_is_the_highest_of_its_roles() -> None:
    """By role, and by agency where they are of one; default deny."""
    rule = POLICY.rules[0]
    rules = (
        msgspec.structs.replace(rule, role="operator", level=Level.L3),
        msgspec.structs.replace(rule, role="supervisor", level=Level.L4),
    )
    given_ = msgspec.structs.replace(POLICY, rules=rules)

    def read(*roles: str, agency: str = "") -> str:
        decision = policy.may_read(given_, frozenset(roles), agency, QUESTION)
        return decision.level.value if decision is not None else ""

    assert read("operator") == "L3"
    assert read("operator", "supervisor") == read("supervisor", agency="police") == "L4"
    assert read("auditor") == read() == read("supervisor", agency="council") == ""
