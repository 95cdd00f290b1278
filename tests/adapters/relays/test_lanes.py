"""What waits for a relay: emergencies first, the newest of what may be replaced, losses counted."""

from __future__ import annotations

import pytest

from adapters.relays.lanes import Lanes
from gateway.bus import Batch
from gateway.messages import AlarmChanged, CheckStaged, Event, FixSource, UnitFix, UnitMeta
from tests.fakes import FakeJournal, FakeMeter


def alarm(id_: str, rule: str = "SIL", state: str = "unack-active") -> AlarmChanged:
    return AlarmChanged(id=id_, rule=rule, priority=1, state=state, raised_ms=0, t_ms=0)


def stage(n: int) -> CheckStaged:
    return CheckStaged(short=f"C{n:03X}", check=str(n), terminal="5001001", stage="pnc", t_ms=n)


def fix(terminal: str, t_ms: int) -> UnitFix:
    return UnitFix(
        terminal=terminal,
        lat=52.5725,
        lon=-0.2431,
        fixed_at_ms=t_ms,
        received_at_ms=t_ms,
        accuracy_m=None,
        course_deg=None,
        speed_mps=None,
        source=FixSource.GNSS,
    )


def batch(*events: Event, **more: object) -> Batch:
    fixes = [each for each in events if isinstance(each, UnitFix)]
    rest = [(n, each) for n, each in enumerate(events, 1) if not isinstance(each, UnitFix)]
    return Batch(events=rest, wire=[], fixes=fixes, held=0, **more)  # type: ignore[arg-type]


@pytest.fixture
def meter() -> FakeMeter:
    return FakeMeter()


def lanes(meter: FakeMeter, **limits: int) -> Lanes:
    return Lanes(link="mqtt-feed", meter=meter, journal=FakeJournal(), **limits)


def said(lanes: Lanes) -> list[str]:
    found = []
    while (first := lanes.first_alarm()) is not None:
        found.append(f"{first.id} {first.state}")
        lanes.said(first)
    return found


def test_emergencies_first_and_each_alarm_as_it_now_stands(meter: FakeMeter) -> None:
    """However many others came before; a change while one is being said is said after it."""
    waits = lanes(meter)
    waits.take(batch(alarm("A1"), alarm("A2"), alarm("E1", "EMG"), alarm("A1", state="cleared")))
    saying = waits.first_alarm()
    assert saying is not None
    assert saying.id == "E1"
    waits.take(batch(alarm("E1", "EMG", "ack-active")))
    waits.said(saying)
    assert said(waits) == ["E1 ack-active", "A2 unack-active", "A1 cleared"]
    assert not waits.alarm_news.is_set()


def test_a_later_state_that_went_ahead_is_not_undone_by_the_earlier(meter: FakeMeter) -> None:
    """The bus hands urgent ones over first: acknowledged may stand before raised."""
    waits = lanes(meter)
    raised, acknowledged = alarm("E1", "EMG"), alarm("E1", "EMG", "ack-active")
    waits.take(Batch(events=[(2, acknowledged), (1, raised)], wire=[], fixes=[], held=2))
    assert said(waits) == ["E1 ack-active"]


def test_too_many_alarms_cost_the_oldest_that_is_no_emergency(meter: FakeMeter) -> None:
    waits = lanes(meter, alarms_most=2)
    waits.take(batch(alarm("E1", "EMG"), alarm("A1"), alarm("A2")))
    assert said(waits) == ["E1 unack-active", "A2 unack-active"]
    assert meter.total("queue_dropped_total", queue="console", reason="full") == 1
    waits.take(batch(*(alarm(f"E{n}", "EMG") for n in range(3))))
    assert said(waits) == ["E1 unack-active", "E2 unack-active"]
    assert meter.total("queue_dropped_total", queue="emergency", reason="full") == 1


def test_events_keep_their_order_and_the_oldest_are_given_up(meter: FakeMeter) -> None:
    """Also while a turn of them is on its way: what was given up then is not taken for sent."""
    waits = lanes(meter, events_most=4)
    waits.take(batch(*(stage(n) for n in range(4))))
    turn = waits.first_events(3)
    waits.take(batch(stage(4), stage(5)))
    for event in turn:
        waits.out(event)
    assert [event.check for event in waits.first_events(9)] == ["3", "4", "5"]
    assert meter.total("queue_dropped_total", queue="console", reason="full") == 2
    for event in waits.first_events(9):
        waits.out(event)
    assert waits.first_events(9) == []
    assert not waits.event_news.is_set()


def test_the_newest_fix_of_each_terminal_and_none_of_one_that_is_gone(meter: FakeMeter) -> None:
    waits = lanes(meter)
    waits.take(batch(fix("1", 1), fix("2", 1), fix("3", 1)))
    gone = UnitMeta("3", "C-3", "police", "Eastern", "handheld", "", t_ms=2, gone=True)
    waits.take(batch(fix("1", 2), gone))
    assert [(each.terminal, each.fixed_at_ms) for each in waits.next_fixes(9)] == [
        ("2", 1),
        ("1", 2),
    ]
    assert waits.next_fixes(9) == []
    assert not waits.fix_news.is_set()
    assert meter.total("queue_dropped_total", queue="fix", reason="conflated") == 1


def test_what_the_bus_lost_for_us_is_counted_and_said(meter: FakeMeter) -> None:
    journal = FakeJournal()
    waits = Lanes(link="mqtt-feed", meter=meter, journal=journal)
    waits.take(batch(reset="overflow"))
    waits.take(batch(fix("1", 1), conflated=7))
    assert meter.total("queue_dropped_total", queue="console", reason="slow") == 1
    assert meter.total("queue_dropped_total", queue="fix", reason="conflated") == 7
    assert journal.lines == [("relay.shed", {"link": "mqtt-feed", "reason": "overflow"})]
