"""One alarm's life: refusals change nothing, and an emergency ends only by two persons' hands."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import alarm_life as life
from gateway.alarm_life import About, Refuse, Show, Write, step
from gateway.alarm_rules import EMERGENCY, EVERYBODY
from gateway.messages import AlarmChanged
from tests.gateway.strategies import RULES

ISSI = "5001001"
STATES = {"unack-active", "ack-active", "unack-cleared", "cleared"}
WHO = st.sampled_from(["", "op-1", "op-2"])
ABOUT = About(terminal=ISSI)
EVENTS = st.one_of(
    st.builds(life.Raised, id=st.uuids().map(str), about=st.just(ABOUT)),
    st.builds(life.Acknowledged, by=WHO),
    st.builds(life.Closed, by=WHO),
    st.builds(life.Mistaken, by=WHO),
    st.builds(life.Shelved, by=WHO, until_ms=st.just(10**9), why=st.just("test")),
    st.builds(life.Unshelved, by=WHO),
    st.builds(life.Chattered, raisings=st.integers(0, 9)),
    st.builds(life.Grouped, group=st.sampled_from(["", "LNK"])),
    st.sampled_from(
        [life.Ceased(), life.Returned(), life.Escalated(), life.Folded(), life.Counted()]
    ),
)


@given(st.lists(EVENTS, max_size=30), st.sampled_from(RULES.rules))
def test_any_life(events: list[life.LifeEvent], rule: life.AlarmRule) -> None:
    """Refusals change nothing, an emergency ends only by another's hand, occurrences never mix,
    what is on record is shown, and priority 1 is never put aside or grouped."""
    alarm: AlarmChanged | None = None
    lives: list[AlarmChanged] = []
    for now_ms, event in enumerate(events):
        after, effects = step(alarm, event, rule, now_ms)
        assert effects
        if any(isinstance(effect, Refuse) for effect in effects):
            assert after == alarm
            continue
        assert after is not None
        assert after.state in STATES
        assert after.t_ms == now_ms
        assert any(isinstance(effect, Show) for effect in effects)
        recorded = any(isinstance(effect, Write) for effect in effects)
        if alarm is None or after.state != alarm.state or after.ack_by != alarm.ack_by:
            assert recorded, "a state that a restart would lose"
        if isinstance(event, life.Act):
            assert effects[0] == Write(effects[0].what, event.by), "an act is written first"
        if alarm is not None and alarm.state != "cleared":
            assert after.id == alarm.id
        if after.state == "cleared" and rule.id == EMERGENCY:
            assert isinstance(event, life.Closed)
            assert not event.by or event.by != after.ack_by
        if rule.priority == 1:
            assert (after.shelved_until_ms, after.group) == (None, "")
        alarm = after
        lives.append(after)
    for one, two in pairwise(lives):
        assert two.id == one.id or (one.state == "cleared" and two.state == "unack-active")
        assert two.count >= one.count or two.id != one.id


def raised(rule: str) -> AlarmChanged:
    alarm, _ = step(None, life.Raised("A1", ABOUT), RULES.by_id[rule], 0)
    assert alarm is not None
    return alarm


def test_pressed_by_mistake_is_noted_and_changes_nothing_else() -> None:
    """It may be said under duress: it still needs an acknowledgement and a second person."""
    rule = RULES.by_id[EMERGENCY]
    noted, effects = step(raised(EMERGENCY), life.Mistaken("op-1"), rule, 1)
    assert noted is not None
    assert effects == (Write("mistake", "op-1"), Show())
    assert (noted.why, noted.state, noted.audience) == (life.MISTAKE, "unack-active", "operator")
    assert step(noted, life.Closed("op-2"), rule, 2)[1] == (Refuse("ACKNOWLEDGE FIRST"),)
    seen, _ = step(noted, life.Acknowledged("op-1"), rule, 3)
    alone = step(seen, life.Closed("op-1"), rule, 4)[1]
    assert alone == (Refuse("A SECOND PERSON MUST CLOSE IT"),)
    closed, _ = step(seen, life.Closed("op-2"), rule, 5)
    assert closed is not None
    assert (closed.state, closed.why) == ("cleared", life.MISTAKE)
    assert step(raised("LNK"), life.Mistaken("op-1"), RULES.by_id["LNK"], 1)[1] == (
        Refuse("NOT AN EMERGENCY"),
    )


@pytest.mark.parametrize("rule", [rule for rule in RULES.rules if not rule.shelve])
def test_what_is_not_for_the_shelf_stays_off_it(rule: life.AlarmRule) -> None:
    alarm = raised(rule.id)
    aside = life.Shelved("op-1", 900_000, "test")
    assert step(alarm, aside, rule, 1) == (alarm, (Refuse("CANNOT BE SHELVED"),))


def test_an_emergency_is_not_shelved_whatever_the_rule_says() -> None:
    """The file's check refuses such a rule; should one come through, it changes nothing."""
    alarm = raised(EMERGENCY)
    loose = life.msgspec.structs.replace(RULES.by_id[EMERGENCY], shelve=True, ack=False)
    for event in (life.Shelved("op-1", 900_000, "test"), life.Ceased(), life.Folded()):
        after, effects = step(alarm, event, loose, 1)
        assert after == alarm
        assert isinstance(effects[0], Refuse)


def test_escalated_is_everybodys_and_not_taken_from_operators() -> None:
    alarm, effects = step(raised(EMERGENCY), life.Escalated(), RULES.by_id[EMERGENCY], 15_000)
    assert alarm is not None
    assert alarm.audience == EVERYBODY
    assert effects == (Show(), Write("escalated"))


def test_what_is_the_supervisors_alone_stays_theirs() -> None:
    """That a covert record was found would be told to every operator by waiting."""
    alarm = raised("COV")
    assert alarm.audience == "supervisor"
    loose = life.msgspec.structs.replace(RULES.by_id["COV"], escalate_s=9.0)
    assert step(alarm, life.Escalated(), loose, 9_000) == (alarm, (Refuse("NOT OVERDUE"),))
