"""An event shows what its viewer's rights name, field by field, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from gateway import projection
from gateway.messages import (
    RIGHTS,
    AlarmChanged,
    CheckDone,
    Event,
    Kind,
    LinkChanged,
    LinkState,
    Outcome,
    Viewer,
)
from gateway.projection import EVENT_FIELDS, visible

ALL = Viewer("v", "v", frozenset(RIGHTS))


def done() -> CheckDone:
    return CheckDone(
        short="C7F3",
        check="01X",
        terminal="4001",
        kind=Kind.VEHICLE,
        outcome=Outcome.ANSWERED,
        result_class="HIT_STOLEN",
        danger=("STOLEN",),
        parts=1,
        not_checked=(),
        level="L4",
        t_ms=1,
        elapsed_s=0.1,
        overhead_s=0.01,
    )


def test_every_event_and_field_has_an_entry_and_no_entry_is_of_nothing() -> None:
    assert set(EVENT_FIELDS) == set(Event.__args__)
    for of, shown in EVENT_FIELDS.items():
        named = shown.free.union(*shown.by_right.values())
        assert named == set(of.__struct_fields__), of.__name__
        assert shown.due | shown.by_right.keys() <= set(RIGHTS)


def test_whoever_has_every_right_gets_the_event_itself() -> None:
    event = done()
    assert visible(ALL, event) is event


def test_a_field_that_is_added_is_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody said to whom it may be shown."""

    class Tomorrow(LinkChanged, frozen=True):
        secret: str = ""

    monkeypatch.setitem(EVENT_FIELDS, Tomorrow, EVENT_FIELDS[LinkChanged])
    told = Tomorrow("mqtt", "mqtt", LinkState.UP, 1, "", "TE99STV")
    shown = visible(ALL, told)
    assert isinstance(shown, Tomorrow)
    assert (shown.id, shown.secret) == ("mqtt", "")


def test_an_alarm_of_an_added_rule_about_one_question_takes_the_class() -> None:
    alarm = AlarmChanged("A1", "NEW", 3, "unack-active", 1, 1, terminal="4001")
    blind = Viewer("v", "v", frozenset(RIGHTS) - {"class"})
    assert visible(blind, alarm) == alarm
    for changes in ({"check": "01X"}, {"short": "C7F3"}):
        about = msgspec.structs.replace(alarm, **changes)
        assert visible(blind, about) is None
        assert visible(ALL, about) == about


def test_an_event_that_is_added_is_shown_to_nobody() -> None:
    class Another(LinkChanged, frozen=True):
        pass

    assert visible(ALL, Another("mqtt", "mqtt", LinkState.UP, 1)) is None


def test_a_field_for_which_nothing_can_stand_hides_the_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EVENT_FIELDS[CheckDone]
    poorer = msgspec.structs.replace(entry, free=entry.free - {"outcome"})
    monkeypatch.setitem(EVENT_FIELDS, CheckDone, poorer)
    projection._hidden.cache_clear()
    with pytest.raises(KeyError):
        visible(ALL, done())
    projection._hidden.cache_clear()
