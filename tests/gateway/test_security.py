"""What looks like an attack: whoever does it a thousand times costs us one line and one record."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import TAKEN_OVER
from gateway.messages import AlarmChanged, LinkState, Result, StatusReport, Suspicion
from gateway.security import EPISODES_MOST, PENDING_MOST, QUIET_S, SecurityWatch
from gateway.settings import LimitsSection
from tests.fake_ledger import FakeLedger
from tests.fakes import FakeClock, FakeJournal, FakeMeter
from tests.gateway.house import ISSI, OTHER, House, config


class Watch:
    """The watch between fakes; every ISSI below 2000 is one of ours."""

    def __init__(self) -> None:
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.ledger = FakeLedger()
        self.alarms: list[tuple[str, bool]] = []
        self.watch = SecurityWatch(
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            ledger=self.ledger,
            known=lambda issi: issi.isdigit() and int(issi) < 2000,
            begun=lambda link: self.alarms.append((link, True)),
            over=lambda link: self.alarms.append((link, False)),
        )

    def records(self) -> list[tuple[str, str]]:
        return [(record.detail, record.terminal) for record in self.ledger.disk.records]


@pytest.mark.parametrize("cause", list(Suspicion))
async def test_one_line_one_record_one_alarm_for_a_thousand(cause: Suspicion) -> None:
    """And when it is over one line with the count; then it is a new episode."""
    made = Watch()
    for _ in range(2):
        made.ledger.disk.records.clear()
        made.journal.lines.clear()
        made.alarms.clear()
        for _ in range(1000):
            made.watch.seen(cause, "mqtt", "17")
        await made.watch.record()
        assert made.records() == [(f"{cause.value} on mqtt", "17")]
        assert made.alarms == [("mqtt", True)]
        made.watch.tick(made.clock.monotonic_s() + QUIET_S - 0.1, 0)
        assert made.alarms == [("mqtt", True)]
        made.watch.tick(made.clock.monotonic_s() + QUIET_S, 0)
        begun = {"reason": cause.value, "link": "mqtt"}
        over = {**begun, "state": "over", "count": 1000}
        assert made.journal.lines == [("security", begun), ("security", over)]
        assert made.alarms[1:] == [("mqtt", False)]
    assert made.meter.total("security_events_total", link="mqtt", reason=cause.value) == 2000


async def test_strangers_are_one_episode_however_many_names_they_take() -> None:
    """Names are free: 100,000 of them are one record, with the first that was claimed."""
    made = Watch()
    for n in range(100_000):
        made.watch.seen(Suspicion.UNKNOWN_TERMINAL, "mqtt", str(70_000_000 + n))
    made.watch.seen(Suspicion.IDENTITY, "mqtt", "TESTER+#/" * 30)
    await made.watch.record()
    assert made.records() == [("unknown_terminal on mqtt", "70000000"), ("identity on mqtt", "")]
    assert "7000" not in str(made.journal.lines)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Suspicion)),
            st.sampled_from(["a", "b"]),
            st.integers(0, 3000).map(str),
            st.floats(0, 90),
        ),
        max_size=60,
    )
)
async def test_every_alarm_that_begins_ends_and_nothing_is_counted_twice(
    moves: list[tuple[Suspicion, str, str, float]],
) -> None:
    made = Watch()
    for cause, link, terminal, gap_s in moves:
        await made.clock.advance(gap_s)
        made.watch.tick(made.clock.monotonic_s(), 0)
        made.watch.seen(cause, link, terminal)
    made.watch.tick(made.clock.monotonic_s() + QUIET_S + 1, 0)
    over = [fields for _, fields in made.journal.lines if fields.get("state") == "over"]
    assert sum(int(str(fields["count"])) for fields in over) == len(moves)
    await made.watch.record()
    assert len(made.records()) == len(over)
    for link in {link for link, _ in made.alarms}:
        assert [on for name, on in made.alarms if name == link][-1] is False


async def test_too_many_at_once_are_counted_under_their_link() -> None:
    made = Watch()
    for n in range(EPISODES_MOST + 500):
        made.watch.seen(Suspicion.FLOOD, "mqtt", str(n))
    assert len(made.watch._open) == EPISODES_MOST + 1
    await made.watch.record()
    assert len(made.records()) == EPISODES_MOST


async def test_a_ledger_that_is_away_keeps_them_waiting_not_growing() -> None:
    made = Watch()
    made.ledger.down = True
    for n in range(PENDING_MOST + 5):
        made.watch.seen(Suspicion.FLOOD, f"link{n}")
    await made.watch.record()
    assert made.watch.unrecorded == PENDING_MOST
    made.ledger.down = False
    await made.watch.record()
    assert (made.watch.unrecorded, len(made.records())) == (0, PENDING_MOST)


# --------------------------------------------------------------------------- in the core


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """With the limits that the gateway ships with."""
    async with House(config(limits=LimitsSection())) as house:
        yield house


async def test_a_flood_of_one_terminal_is_on_record_once_and_others_are_answered(
    house: House,
) -> None:
    """M11, whole core: 1,000 questions at once; the flooder hears SLOW DOWN once, no more than the
    burst is asked, the other officer's question is answered, ops, control room and audit see it."""
    for _ in range(1000):
        house.say(house.question())
    await house.ask(issi=OTHER)
    await house.passes(2)
    assert len(house.on_record("opened")) == 20 + 1
    assert [r.why for r in house.receipts if not r.check] == ["SLOW DOWN"]
    assert [r.outcome.value for r in house.heard(Result, OTHER)] == ["answered"]
    assert house.all_settled()
    said = house.on_record("security")
    assert [(r.detail, r.terminal) for r in said] == [("flood on air", ISSI)]
    assert house.meter.total("security_events_total", reason="flood") == 980
    alarms = [e for e in house.events if isinstance(e, AlarmChanged)]
    assert [(a.rule, a.priority, a.link, a.state) for a in alarms] == [
        ("REJ", 3, "air", "unack-active")
    ]
    await house.passes(QUIET_S + 2)
    alarms = [e for e in house.events if isinstance(e, AlarmChanged)]
    assert alarms[-1].state == "cleared", "nobody need acknowledge it"


async def test_many_strangers_are_urgent_and_a_flood_of_ones_own_is_not(house: House) -> None:
    """More than five names that are none of ours in a minute; told once, the same occurrence."""
    for n in range(5):
        house.core.security.seen(Suspicion.UNKNOWN_TERMINAL, "air", str(n))
    for _ in range(1000):
        house.say(house.question())
    await house.passes(1)
    (alarm,) = house.core.alarms.open()
    assert (alarm.rule, alarm.priority) == ("REJ", 3)
    for n in range(500):
        house.core.security.seen(Suspicion.IDENTITY, "air", str(n))
    await house.passes(1)
    (worse,) = house.core.alarms.open()
    assert (worse.id, worse.priority, worse.state) == (alarm.id, 2, "unack-active")
    told = [r.detail for r in house.on_record("alarm") if "worsened" in r.detail]
    assert told == [f"{alarm.id} worsened x1"]
    await house.restart()
    assert [a.priority for a in house.core.alarms.open()] == [2]
    await house.passes(QUIET_S + 2)
    assert house.core.alarms.open() == ()
    house.core.security.seen(Suspicion.IDENTITY, "air", "1")
    assert [a.priority for a in house.core.alarms.open()] == [3]


async def test_five_in_more_than_a_minute_are_not_many(house: House) -> None:
    for n in range(30):
        house.core.security.seen(Suspicion.UNKNOWN_TERMINAL, "air", str(n))
        await house.passes(12.5)
    assert [a.priority for a in house.core.alarms.open()] == [3]


async def test_a_flood_of_presses_is_one_emergency_and_stops_counting(house: House) -> None:
    """Exempt but capped: the first is on the feed at once, and behind it come no more than 20; one
    of another terminal is as fast as ever; one that was closed is raised again by the next."""
    for _ in range(5000):
        house.say(StatusReport(code=0))
    house.say(StatusReport(code=0), issi=OTHER)
    await house.passes(2)
    pressed = {a.terminal: a.count for a in house.core.alarms.open() if a.rule == "EMG"}
    assert pressed == {ISSI: 20, OTHER: 1}
    assert house.all_settled()
    assert house.meter.total("rate_limited_total", type="emergency") == 4980
    alarm = next(a for a in house.core.alarms.open() if a.terminal == ISSI)
    await house.core.alarms.acknowledge(alarm.id, "op1")
    await house.core.alarms.close(alarm.id, "op2")
    for _ in range(500):
        house.say(StatusReport(code=0))
    assert any(a.terminal == ISSI for a in house.core.alarms.open())


async def test_a_session_taken_over_is_an_event_whichever_way_it_is_noticed(house: House) -> None:
    """M06: also before the link was up again, and on the feed's connection."""
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    house.core.link_seen("air", "mqtt", LinkState.DOWN, TAKEN_OVER)
    house.core.link_seen("air", "mqtt", LinkState.DOWN, TAKEN_OVER)
    house.core.link_seen("air-feed", "relay", LinkState.DOWN, TAKEN_OVER)
    house.core.link_seen("air", "mqtt", LinkState.DOWN, "broker silent")
    await house.passes(2)
    assert house.meter.total("security_events_total", reason="takeover", link="air") == 2
    details = [r.detail for r in house.on_record("security")]
    assert details == ["takeover on air", "takeover on air-feed"]


async def test_what_was_seen_last_is_on_record_before_the_end(house: House) -> None:
    house.core.security.seen(Suspicion.RETAINED, "air", ISSI)
    await house.core.drain(1.0)
    assert [r.detail for r in house.on_record("security")] == ["retained on air"]
