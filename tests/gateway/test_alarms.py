"""The life of an alarm: relayed before recorded, closed by two, open again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from gateway import alarms
from gateway.alarms import AlarmDesk
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.messages import (
    AlarmChanged,
    Event,
    LinkChanged,
    LinkState,
    LocationFix,
    UnitEmergency,
)
from gateway.ports import Change, PutAlarm, Record
from gateway.settings import TrackingSection
from gateway.tracking import Tracker
from tests.fakes import FakeClock, FakeIds, FakeJournal, FakeMeter, settle
from tests.gateway.strategies import RULES, roster

ISSI = "5001001"


class AlarmLedger:
    """Takes commits, or refuses the next `refuse` of them; waits at `gate` when it is closed."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.alarms: dict[str, PutAlarm] = {}
        self.refuse = 0
        self.fatal = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        await self.gate.wait()
        if self.fatal:
            raise LedgerFatal("EIO")
        if self.refuse:
            self.refuse -= 1
            raise LedgerUnavailable("full")
        self.records += records
        for change in changes:
            assert isinstance(change, PutAlarm)
            self.alarms[change.alarm.id] = change

    @property
    def open(self) -> list[AlarmChanged]:
        return [put.alarm for put in self.alarms.values() if put.open]


class Room:
    """An alarm desk with a fake world."""

    def __init__(self, ledger: AlarmLedger | None = None) -> None:
        self.clock, self.ids, self.meter = FakeClock(), FakeIds(), FakeMeter()
        self.ledger = ledger or AlarmLedger()
        self.events: list[Event] = []
        self.tracker = Tracker(TrackingSection(), roster(), self.meter, lambda _: None)
        self.desk = AlarmDesk(
            clock=self.clock,
            ids=self.ids,
            meter=self.meter,
            journal=FakeJournal(),
            ledger=self.ledger,  # type: ignore[arg-type]
            publish=self.events.append,
            tracker=self.tracker,
            rules=RULES,
        )

    async def press(self, terminal: str = ISSI) -> AlarmChanged:
        assert await self.desk.emergency(terminal, self.clock.wall_ms(), self.clock.monotonic_s())
        return next(alarm for alarm in self.desk.open() if alarm.terminal == terminal)

    def link(self, state: LinkState, kind: str = "serial", name: str = "serial-east") -> None:
        event = LinkChanged(name, kind, state, self.clock.wall_ms())
        self.desk.link_changed(event)

    async def pass_s(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.clock.advance(1.0)
            self.desk.tick(self.clock.monotonic_s(), self.clock.wall_ms())


@pytest.fixture
async def room() -> Room:
    return Room()


# --------------------------------------------------------------------------- emergency


async def test_relayed_before_recorded(room: Room) -> None:
    """On return it is on the bus with its position; the record comes when the coroutine runs."""
    now_ms = room.clock.wall_ms()
    room.tracker.fix(ISSI, LocationFix(52.5, -0.2, fixed_at_ms=now_ms - 4000), now_ms, now_ms)
    recording = room.desk.emergency(ISSI, now_ms, room.clock.monotonic_s())
    emergency, alarm = room.events
    assert isinstance(emergency, UnitEmergency)
    assert (emergency.on, emergency.lat, emergency.fix_age_s) == (True, 52.5, 4.0)
    assert isinstance(alarm, AlarmChanged)
    assert (alarm.rule, alarm.priority, alarm.state) == ("EMG", 1, "unack-active")
    assert emergency.occurrence == alarm.id
    assert room.ledger.records == []
    assert await recording
    assert [record.event for record in room.ledger.records] == ["emergency"]
    assert room.ledger.open == [alarm]
    for stage in ("received", "relayed"):
        assert room.meter.total("emergencies_total", stage=stage) == 1
    room.desk.presented(alarm.id)
    room.desk.presented("nothing")
    assert room.meter.total("emergencies_total", stage="presented") == 1


async def test_pressing_again_is_the_same_occurrence(room: Room) -> None:
    """It counts while open, acknowledged or not; after it is closed it is a new one."""
    first = await room.press()
    assert (await room.press()).count == 2
    await room.desk.acknowledge(first.id, "op-1")
    again = await room.press()
    assert (again.id, again.count, again.state) == (first.id, 3, "ack-active")
    await room.desk.close(first.id, "op-2")
    new = await room.press()
    assert new.id != first.id
    assert (new.count, new.state) == (1, "unack-active")
    assert [alarm.id for alarm in room.ledger.open] == [new.id]


async def test_two_terminals_two_alarms(room: Room) -> None:
    """Each radio has an alarm of its own; the open list has the oldest of the gravest first."""
    one = await room.press()
    await room.clock.advance(1)
    other = await room.press("5001002")
    assert [alarm.id for alarm in room.desk.open()] == [one.id, other.id]


async def test_the_ledger_down_does_not_hold_an_emergency_up(room: Room) -> None:
    """Relayed at once; the record is tried again until it stands."""
    room.ledger.refuse = 3
    recording = asyncio.ensure_future(room.desk.emergency(ISSI, room.clock.wall_ms()))
    assert len(room.events) == 2
    await room.clock.advance(1.0)
    assert not recording.done()
    await room.clock.advance(2.0)
    assert await recording
    assert [record.event for record in room.ledger.records] == ["emergency"]
    assert room.desk.unrecorded == 0


async def test_recording_gives_up_at_its_deadline_and_goes_on_with_the_next(room: Room) -> None:
    """After the deadline it says so; what waits is written with whatever is recorded next."""
    room.ledger.refuse = 1000
    recording = asyncio.ensure_future(room.desk.emergency(ISSI, room.clock.wall_ms()))
    for _ in range(40):
        await room.clock.advance(1.0)
    assert not await recording
    assert room.desk.unrecorded == 1
    room.ledger.refuse = 0
    alarm = room.desk.open()[0]
    await room.desk.acknowledge(alarm.id, "op-1")
    assert [record.event for record in room.ledger.records] == ["emergency", "alarm"]
    assert room.desk.unrecorded == 0


async def test_presses_cannot_fill_what_waits(room: Room) -> None:
    """A thousand presses while the ledger is down wait as two records, with the count."""
    room.ledger.refuse = 10**6
    recordings = [room.desk.emergency(ISSI, room.clock.wall_ms()) for _ in range(1000)]
    for recording in recordings:
        recording.close()
    assert room.desk.unrecorded == 2
    room.ledger.refuse = 0
    assert await room.desk.record()
    assert room.ledger.records[-1].detail.endswith("repeated x1000")
    assert room.ledger.open[0].count == 1000


async def test_a_fatal_ledger_is_not_swallowed(room: Room) -> None:
    """What may not be durable stops the process; the emergency is on the bus all the same."""
    room.ledger.fatal = True
    with pytest.raises(LedgerFatal):
        await room.desk.emergency(ISSI, room.clock.wall_ms())
    assert len(room.events) == 2


# --------------------------------------------------------------------------- operators


async def test_acknowledged_then_closed_by_another(room: Room) -> None:
    """Attributed, on record before it is shown, and the end of the emergency is told."""
    alarm = await room.press()
    room.events.clear()
    done = await room.desk.acknowledge(alarm.id, "op-1")
    assert (done.state, done.ack_by) == ("ack-active", "op-1")
    assert room.events == [done]
    with pytest.raises(ValueError, match="SECOND PERSON"):
        await room.desk.close(alarm.id, "op-1")
    closed = await room.desk.close(alarm.id, "op-2")
    assert (closed.state, closed.closed_by) == ("cleared", "op-2")
    assert isinstance(room.events[1], UnitEmergency)
    assert not room.events[1].on
    assert room.desk.open() == ()
    assert room.ledger.open == []
    assert [record.operator for record in room.ledger.records] == ["", "op-1", "op-2"]
    assert room.meter.total("emergencies_total", stage="acknowledged") == 1


async def test_what_cannot_be_done_says_why(room: Room) -> None:
    """Unknown, not acknowledged yet, acknowledged already: nothing is shown or written."""
    with pytest.raises(KeyError):
        await room.desk.acknowledge("A9999", "op-1")
    alarm = await room.press()
    with pytest.raises(ValueError, match="ACKNOWLEDGE FIRST"):
        await room.desk.close(alarm.id, "op-2")
    await room.desk.acknowledge(alarm.id, "op-1")
    before = (list(room.events), list(room.ledger.records))
    with pytest.raises(ValueError, match="ALREADY ACKNOWLEDGED"):
        await room.desk.acknowledge(alarm.id, "op-3")
    assert (room.events, room.ledger.records) == before


async def test_nobody_without_a_name_ends_an_emergency(room: Room) -> None:
    """Two who are not known may be one. What one of them did before names were known is closed by
    whoever is."""
    alarm = await room.press()
    with pytest.raises(ValueError, match="SAY WHO YOU ARE"):
        await room.desk.acknowledge(alarm.id, "")
    await room.desk.acknowledge(alarm.id, "op-1")
    with pytest.raises(ValueError, match="SAY WHO YOU ARE"):
        await room.desk.close(alarm.id, "")
    assert [each.state for each in room.desk.open()] == ["ack-active"]
    seen = msgspec.structs.replace(alarm, id="A0", terminal="4009", state="ack-active", ack_by="")
    room.desk.restore([seen])
    assert (await room.desk.close("A0", "op-1")).state == "cleared"


async def test_an_act_that_is_not_recorded_is_not_done(room: Room) -> None:
    """The ledger refuses: the operator is told, and no console shows it as acknowledged."""
    alarm = await room.press()
    room.events.clear()
    room.ledger.refuse = 1
    with pytest.raises(LedgerUnavailable):
        await room.desk.acknowledge(alarm.id, "op-1")
    assert room.events == []
    assert room.desk.open()[0].state == "unack-active"


async def test_a_ledger_that_does_not_answer_is_unavailable(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator is told within the deadline instead of waiting for ever."""
    monkeypatch.setattr(alarms, "COMMIT_DEADLINE_S", 0.01)
    alarm = await room.press()
    room.ledger.gate.clear()
    with pytest.raises(LedgerUnavailable):
        await room.desk.acknowledge(alarm.id, "op-1")
    assert room.desk.open() == (alarm,)


@pytest.mark.parametrize("act", ["acknowledge", "close"])
async def test_what_was_told_not_done_is_not_done_after_a_restart_either(
    monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """The ledger was only slow and made the commit after all: what every screen shows, and the
    operator was told, goes on record behind it."""
    late: list[tuple[Sequence[Record], Sequence[Change]]] = []

    class Slow(AlarmLedger):
        async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
            if not self.gate.is_set():
                late.append((records, changes))
            await super().commit(records, changes)

    ledger = Slow()
    room = Room(ledger)
    alarm = await room.press()
    if act == "close":
        alarm = await room.desk.acknowledge(alarm.id, "op-1")
    monkeypatch.setattr(alarms, "COMMIT_DEADLINE_S", 0.01)
    ledger.gate.clear()
    with pytest.raises(LedgerUnavailable):
        await getattr(room.desk, act)(alarm.id, "op-2")
    assert room.desk.open() == (alarm,)
    ledger.gate.set()
    for records, changes in late:
        await ledger.commit(records, changes)
    assert ledger.open != [alarm]
    assert room.desk.unrecorded, "nobody would write it"
    assert await room.desk.record()
    assert ledger.open == [alarm]
    assert "stands" in ledger.records[-1].detail
    assert ledger.records[-1].operator == "op-2"


async def test_two_operators_at_once(room: Room) -> None:
    """The second acknowledgement is refused, however close it came."""
    alarm = await room.press()
    results = await asyncio.gather(
        room.desk.acknowledge(alarm.id, "op-1"),
        room.desk.acknowledge(alarm.id, "op-2"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [AlarmChanged, ValueError]


async def test_pressed_while_the_acknowledgement_is_written(room: Room) -> None:
    """Neither is lost: acknowledged with both presses, in memory and in the ledger."""
    alarm = await room.press()
    room.ledger.gate.clear()
    acting = asyncio.ensure_future(room.desk.acknowledge(alarm.id, "op-1"))
    await settle()
    recording = asyncio.ensure_future(room.desk.emergency(ISSI, room.clock.wall_ms()))
    await settle()
    room.ledger.gate.set()
    done = await acting
    assert await recording
    assert (done.state, done.count) == ("ack-active", 2)
    assert await room.desk.record()
    assert room.desk.open() == (done,)
    assert room.ledger.open == [done]


# --------------------------------------------------------------------------- restart


async def test_open_alarms_are_raised_again_after_a_restart(room: Room) -> None:
    """The same occurrence, in its state, on the bus; closing it then closes it in the ledger."""
    alarm = await room.press()
    acknowledged = await room.desk.acknowledge(alarm.id, "op-1")
    later = Room(room.ledger)
    later.desk.restore(room.ledger.open)
    assert later.desk.open() == (acknowledged,)
    emergency, shown = later.events
    assert isinstance(emergency, UnitEmergency)
    assert emergency.occurrence == alarm.id
    assert shown == acknowledged
    assert (await later.press()).id == alarm.id
    await later.desk.close(alarm.id, "op-2")
    assert room.ledger.open == []
    last = Room(room.ledger)
    last.desk.restore(room.ledger.open)
    assert last.events == []


async def test_a_link_that_is_back_after_a_restart_clears_its_alarm(room: Room) -> None:
    """Restored as down until the link says otherwise."""
    room.link(LinkState.DOWN)
    await room.pass_s(6)
    assert await room.desk.record()
    later = Room(room.ledger)
    later.desk.restore(room.ledger.open)
    await later.pass_s(20)
    assert len(later.desk.open()) == 1
    later.link(LinkState.UP)
    await later.pass_s(6)
    assert later.desk.open()[0].state == "unack-cleared"


# --------------------------------------------------------------------------- links and the PNC


@pytest.mark.parametrize(
    ("kind", "rule", "delay_s"),
    [("serial", "LNK", 5), ("mqtt", "LNK", 5), ("pnc", "PNC", 10)],
)
async def test_a_link_that_stays_down(room: Room, kind: str, rule: str, delay_s: int) -> None:
    """Raised after its delay, once; cleared when the link was back for 5 s."""
    room.link(LinkState.DOWN, kind)
    await room.pass_s(delay_s - 1)
    assert room.desk.open() == ()
    await room.pass_s(30)
    (alarm,) = room.desk.open()
    assert (alarm.rule, alarm.priority, alarm.link, alarm.count) == (rule, 2, "serial-east", 1)
    room.link(LinkState.UP, kind)
    await room.pass_s(4)
    assert room.desk.open()[0].state == "unack-active"
    await room.pass_s(1)
    assert room.desk.open()[0].state == "unack-cleared"
    await room.desk.acknowledge(alarm.id, "op-1")
    assert room.desk.open() == ()
    assert room.ledger.open == []


async def test_a_blink_is_no_alarm(room: Room) -> None:
    """Down for less than its delay, or a relay, or switched off on purpose: nothing."""
    for _ in range(5):
        room.link(LinkState.DOWN)
        await room.pass_s(4)
        room.link(LinkState.UP)
        await room.pass_s(4)
    room.link(LinkState.DOWN, "relay", "feed")
    room.link(LinkState.DISABLED, "mqtt", "main")
    await room.pass_s(20)
    assert room.desk.open() == ()


async def test_back_and_down_again_is_the_same_until_seen(room: Room) -> None:
    """While nobody has looked it stays one occurrence; once cleared the next is another."""
    room.link(LinkState.DOWN)
    await room.pass_s(6)
    (alarm,) = room.desk.open()
    room.link(LinkState.UP)
    await room.pass_s(6)
    room.link(LinkState.DOWN)
    await room.pass_s(6)
    (again,) = room.desk.open()
    assert (again.id, again.count, again.state) == (alarm.id, 2, "unack-active")
    await room.desk.acknowledge(alarm.id, "op-1")
    room.link(LinkState.UP)
    await room.pass_s(6)
    assert room.desk.open() == ()
    room.link(LinkState.DOWN)
    await room.pass_s(6)
    assert room.desk.open()[0].id != alarm.id


async def test_the_oldest_unacknowledged_emergency_has_an_age(room: Room) -> None:
    """The gauge grows until somebody acknowledges."""
    alarm = await room.press()
    await room.pass_s(3)
    gauge = ("emergency_oldest_unacked_age_seconds", ())
    assert room.meter.gauges[gauge] == 3.0
    await room.desk.acknowledge(alarm.id, "op-1")
    await room.pass_s(1)
    assert room.meter.gauges[gauge] == 0.0
