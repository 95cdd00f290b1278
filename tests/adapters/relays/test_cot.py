"""The relay to TAK: who is said to whom, when, and what becomes of what it could not say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import msgspec
import pytest

from adapters import relays
from adapters.relays import cot
from gateway.bus import EventBus
from gateway.errors import LinkDown
from gateway.messages import AlarmChanged, FixSource, Issi, UnitFix, UnitMeta
from gateway.projection import Projection
from gateway.roster import Roster
from gateway.rulebook import Policy
from gateway.settings import CotSection, load
from tests.adapters.relays.cot_schema import checked
from tests.fakes import FakeClock, FakeJournal, FakeMeter, FakePresent, settle

CONFIG = load(Path(__file__).parents[3] / "config" / "gateway.toml")
EAST, NORTH, COUNCIL = "5001001", "5001005", "5001008"
"""Police in Eastern and in Northern; the council in Northern."""
PLACE = UnitFix(EAST, 52.5, -0.24, 1, 1, 8.0, 90.0, 1.0, FixSource.GNSS)
UNIT, HELP, OVER, GONE = "a-f-G-U-C", "b-a-o-tbl", "b-a-o-can", "t-x-d-d"


class FakeLine:
    """A far side without a network. said: (type, uid) of each event. gate: what is put waits."""

    def __init__(self, *, stream: bool = True) -> None:
        self.stream = stream
        self.events: list[Xml.Element] = []
        self.writes: list[int] = []
        self.fault: LinkDown | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.gone = asyncio.Event()
        self.pinged: Callable[[], None] = lambda: None

    async def put(self, events: Sequence[bytes]) -> None:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.writes.append(len(events))
        self.events += [checked(event) for event in events]

    async def broken(self) -> str:
        await self.gone.wait()
        return "closed by the server"

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(event.attrib["type"], event.attrib["uid"]) for event in self.events]

    def take(self) -> list[tuple[str, str]]:
        """What came since it was taken last."""
        said = self.said
        self.events.clear()
        return said

    def of(self, type_: str) -> list[Xml.Element]:
        return [event for event in self.events if event.attrib["type"] == type_]


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **section: Any) -> None:
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.policy: Policy = CONFIG.policy
        self.bus = EventBus(self.clock, meter=self.meter)
        self.roster = Roster(CONFIG.fleet, CONFIG.people, CONFIG.areas)
        self.bus.project_by(Projection(self.roster, lambda: self.policy))
        self.present = FakePresent()
        self.present.metas = {m.terminal: m for m in self.roster.metas(self.clock.wall_ms())}
        self.line = FakeLine()

        @contextlib.asynccontextmanager
        async def opened(_section: object, **how: Any) -> AsyncIterator[FakeLine]:
            self.line.pinged = how["pinged"]
            yield self.line

        monkeypatch.setattr(cot, "opened", opened)
        self.relay = relays.create(
            CotSection(name="tak", **section),
            instance="gwt",
            exercise=False,
            config_path=Path("/x/gateway.toml"),
            bus=self.bus,
            present=self.present,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
        )
        self.task: asyncio.Task[None] | None = None

    async def open(self, *, stream: bool = True) -> FakeLine:
        self.line = FakeLine(stream=stream)
        self.task = asyncio.ensure_future(self.relay.run(lambda: None))
        await settle()
        return self.line

    async def close(self) -> None:
        if self.task is not None:
            self.line.gone.set()
            with contextlib.suppress(LinkDown):
                await asyncio.wait_for(self.task, 10)
            self.task = None

    async def fix(self, terminal: Issi, lat: float = 52.5) -> None:
        """As the tracker does: kept, then published."""
        at_ms = self.clock.wall_ms()
        fix = UnitFix(terminal, lat, -0.24, at_ms, at_ms, 8.0, 90.0, 1.0, FixSource.GNSS)
        self.present.fixes[terminal] = fix
        self.bus.publish(fix)
        await settle()

    async def meta(self, terminal: Issi, **changes: Any) -> None:
        meta = msgspec.structs.replace(self.present.metas[terminal], **changes)
        self.present.metas[terminal] = meta
        self.bus.publish(meta)
        await settle()

    async def help(self, terminal: Issi, *, over: bool = False) -> None:
        alarm = AlarmChanged(
            id=f"A{terminal}",
            rule="EMG",
            priority=1,
            state="cleared" if over else "unack-active",
            raised_ms=1,
            t_ms=1,
            terminal=terminal,
        )
        if over:
            del self.present.open[alarm.id]
        else:
            self.present.open[alarm.id] = alarm
        self.bus.publish(alarm)
        await settle()

    def rights(self, *rights: str) -> None:
        """From now on relays have these, and nobody is told."""
        console = tuple(
            msgspec.structs.replace(rule, rights=rights) if rule.role == "relay" else rule
            for rule in CONFIG.policy.console
        )
        self.policy = msgspec.structs.replace(CONFIG.policy, console=console)

    def move(self, terminal: Issi, area: str) -> None:
        """It is another area's from now on, and nobody is told."""
        fleet = msgspec.structs.replace(
            CONFIG.fleet,
            terminals=tuple(
                msgspec.structs.replace(each, area=area) if each.issi == terminal else each
                for each in CONFIG.fleet.terminals
            ),
        )
        self.roster.replace(fleet, CONFIG.people, CONFIG.areas)

    def lost(self, queue: str, reason: str) -> float:
        return self.meter.total("queue_dropped_total", queue=queue, reason=reason)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    rig = Rig(monkeypatch)
    yield rig
    await rig.close()


# --------------------------------------------------------------------------- units


async def test_a_unit_is_said_on_change_and_not_before_its_time(rig: Rig) -> None:
    """The newest of what came meanwhile; what it replaced is counted."""
    line = await rig.open()
    await rig.fix(EAST, 52.1)
    assert line.take() == [(UNIT, "RADIO-5001001")]
    await rig.clock.advance(1)
    await rig.fix(EAST, 52.2)
    await rig.fix(EAST, 52.3)
    assert line.take() == []
    assert rig.lost("fix", "shed") == 1
    await rig.clock.advance(4)
    (event,) = line.of(UNIT)
    point = event.find("point")
    assert point is not None
    assert point.attrib["lat"] == "52.3"
    line.take()
    await rig.clock.advance(60)
    assert UNIT not in {type_ for type_, _ in line.take()}, "nothing changed"


async def test_positions_whose_time_it_is_not_wake_nobody(rig: Rig) -> None:
    """A fleet that reports each second to a server that is told each five costs that much less."""
    line = await rig.open()
    await rig.fix(EAST)
    await rig.fix(EAST)
    sleeps = rig.clock._n
    for _ in range(50):
        await rig.fix(EAST, 52.6)
    assert rig.clock._n == sleeps
    line.take()
    await rig.clock.advance(5)
    assert line.take() == [(UNIT, "RADIO-5001001")]


async def test_another_status_or_call_sign_is_a_change(rig: Rig) -> None:
    line = await rig.open()
    await rig.fix(EAST)
    line.take()
    await rig.clock.advance(5)
    await rig.meta(EAST, callsign="E-999", status="BSY")
    (event,) = line.of(UNIT)
    assert event.find("detail/contact").attrib == {"callsign": "E-999"}  # type: ignore[union-attr]


async def test_without_a_position_there_is_no_marker(rig: Rig) -> None:
    """All of the fleet is there, and only one was ever located: nobody stands at 0/0."""
    await rig.fix(EAST)
    line = await rig.open()
    assert line.take() == [(UNIT, "RADIO-5001001")]


async def test_who_goes_is_taken_off_the_map_once(rig: Rig) -> None:
    """Off duty, or out of the fleet; who comes back is there at once."""
    line = await rig.open()
    await rig.fix(EAST)
    await rig.fix(NORTH)
    line.take()
    await rig.clock.advance(6)
    await rig.meta(EAST, status="OFF")
    assert line.take() == [(GONE, "RADIO-5001001-gone")]
    rig.bus.publish(UnitMeta(NORTH, "", "", "", "", "OFF", 1, gone=True))
    del rig.present.metas[NORTH]
    del rig.present.fixes[NORTH]
    await settle()
    assert line.take() == [(GONE, "RADIO-5001005-gone")]
    await rig.clock.advance(12)
    await rig.fix(EAST)
    assert line.take() == [], "off duty"
    await rig.meta(EAST, status="AVL")
    assert line.take() == [(UNIT, "RADIO-5001001")]


async def test_many_units_do_not_hold_the_loop(rig: Rig) -> None:
    """Said in turns, also where the line never makes anybody wait."""
    for n in range(1000):
        terminal = str(6_000_000 + n)
        rig.present.metas[terminal] = msgspec.structs.replace(
            rig.present.metas[EAST], terminal=terminal
        )
        rig.present.fixes[terminal] = msgspec.structs.replace(PLACE, terminal=terminal)
    line = rig.line = FakeLine()

    async def turns() -> int:
        found = 0
        while len(line.events) < 1000:
            found += 1
            await asyncio.sleep(0)
        return found

    counting = asyncio.ensure_future(turns())
    rig.task = asyncio.ensure_future(rig.relay.run(lambda: None))
    assert await counting >= 1000 / cot.AT_ONCE


async def test_one_that_cannot_be_said_costs_itself_alone(rig: Rig) -> None:
    def stale_s(terminal: Issi) -> float:
        if terminal == EAST:
            raise ValueError("a defect")
        return 60.0

    rig.present.stale_s = stale_s  # type: ignore[method-assign]
    line = await rig.open()
    await rig.fix(EAST)
    await rig.fix(NORTH)
    assert line.take() == [(UNIT, "RADIO-5001005")]
    assert rig.lost("fix", "poison") == 1


# --------------------------------------------------------------------------- who may see whom


async def test_its_own_areas_bind_whatever_the_policy_shows_relays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sample's policy shows a relay everything; a call for help has no area."""
    rig = Rig(monkeypatch, areas=("Eastern",))
    line = await rig.open()
    await rig.fix(EAST)
    await rig.fix(NORTH)
    assert line.take() == [(UNIT, "RADIO-5001001")]
    await rig.help(NORTH)
    (event,) = line.of(HELP)
    point = event.find("point")
    assert point is not None
    assert (point.attrib["lat"], point.attrib["ce"]) == ("52.5", "9999999.0")
    rig.rights("identity", "emergency")
    line.take()
    await rig.clock.advance(6)
    (event,) = line.of(HELP)
    assert event.findtext("detail/remarks") == "NO POSITION", "without the right there is none"
    await rig.close()


async def test_its_own_agency_binds_calls_for_help_too(monkeypatch: pytest.MonkeyPatch) -> None:
    agency = next(t.agency for t in CONFIG.fleet.terminals if t.issi == EAST)
    rig = Rig(monkeypatch, agency=agency)
    line = await rig.open()
    await rig.fix(COUNCIL)
    await rig.help(COUNCIL)
    await rig.help(NORTH)
    assert [uid for _, uid in line.take()] == ["RADIO-5001005-9-1-1"]
    await rig.close()


async def test_what_may_no_longer_be_seen_is_taken_off_though_nobody_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another area's from now on: what happens to it is no longer said to us, not even that."""
    rig = Rig(monkeypatch, areas=("Eastern",))
    line = await rig.open()
    await rig.fix(EAST)
    line.take()
    rig.move(EAST, "Northern")
    await rig.clock.advance(cot.LOOK_EVERY_S)
    assert line.take() == [(GONE, "RADIO-5001001-gone")]
    await rig.close()


async def test_a_right_taken_away_holds_for_what_waits(rig: Rig) -> None:
    """While the far side does not read, the policy changes; what goes out is by the new one."""
    line = await rig.open()
    line.gate.clear()
    await rig.fix(EAST)
    await rig.fix(NORTH)
    rig.rights("identity", "emergency")
    line.gate.set()
    await settle()
    assert line.take() == [(UNIT, "RADIO-5001001")], "was on its way"


async def test_without_the_right_there_is_no_call_sign(rig: Rig) -> None:
    rig.rights("identity", "position")
    line = await rig.open()
    await rig.fix(EAST)
    await rig.help(EAST)
    (event,) = line.events
    assert event.find("detail/contact").attrib == {"callsign": "RADIO-5001001"}  # type: ignore[union-attr]


async def test_a_new_policy_is_looked_at_for_all(rig: Rig) -> None:
    rig.rights("identity")
    line = await rig.open()
    await rig.fix(EAST)
    assert line.take() == []
    rig.policy = CONFIG.policy
    rig.bus.policy_changed()
    await settle()
    assert line.take() == [(UNIT, "RADIO-5001001")]
    assert rig.meter.total("queue_dropped_total") == 0


# --------------------------------------------------------------------------- calls for help


async def test_a_call_for_help_is_said_again_until_it_is_closed(rig: Rig) -> None:
    """Every 5 s, where the unit is then; that it is over once."""
    line = await rig.open()
    await rig.fix(EAST, 52.1)
    await rig.help(EAST)
    line.take()
    await rig.fix(EAST, 52.2)
    await rig.clock.advance(11)
    points = [event.find("point") for event in line.of(HELP)]
    assert [point.attrib["lat"] for point in points if point is not None] == ["52.2", "52.2"]
    line.take()
    await rig.help(EAST, over=True)
    assert line.take() == [(OVER, "RADIO-5001001-9-1-1")]
    await rig.clock.advance(30)
    assert not {HELP, OVER} & {type_ for type_, _ in line.take()}


async def test_a_call_comes_before_all_units_that_wait(rig: Rig) -> None:
    """In the next write, whatever waits."""
    for n in range(400):
        terminal = str(6_000_000 + n)
        meta = msgspec.structs.replace(rig.present.metas[EAST], terminal=terminal)
        rig.present.metas[terminal] = meta
    line = await rig.open()
    line.gate.clear()
    for n in range(400):
        await rig.fix(str(6_000_000 + n))
    await rig.help(EAST)
    line.gate.set()
    await settle(100)
    place = next(n for n, (type_, _) in enumerate(line.said) if type_ == HELP)
    assert place <= cot.AT_ONCE
    assert len(line.of(UNIT)) == 400
    assert max(line.writes) <= cot.AT_ONCE


async def test_a_right_taken_away_is_no_all_clear(rig: Rig) -> None:
    """The call stands: it is no longer repeated, and its marker goes stale by itself."""
    line = await rig.open()
    await rig.help(EAST)
    line.take()
    rig.rights("identity", "position")
    await rig.clock.advance(30)
    assert not {HELP, OVER} & {type_ for type_, _ in line.take()}


async def test_a_call_that_cannot_be_said_costs_itself_alone(rig: Rig) -> None:
    """And neither does it end the relay, when it is looked at again."""
    line = await rig.open()
    await rig.fix(EAST)
    line.take()

    def fix(terminal: Issi) -> UnitFix | None:
        if terminal == EAST:
            raise ValueError("a defect")
        return None

    rig.present.fix = fix  # type: ignore[method-assign]
    await rig.help(EAST)
    await rig.help(NORTH)
    assert (HELP, "RADIO-5001005-9-1-1") in line.take()
    assert rig.lost("emergency", "poison") == 2
    await rig.clock.advance(cot.LOOK_EVERY_S)
    assert (HELP, "RADIO-5001005-9-1-1") in line.take()


async def test_a_call_without_a_position_is_said(rig: Rig) -> None:
    line = await rig.open()
    await rig.help(EAST)
    (event,) = line.of(HELP)
    assert event.findtext("detail/remarks") == "NO POSITION"


# --------------------------------------------------------------------------- lost and found


async def test_after_a_reconnect_all_is_said_again(rig: Rig) -> None:
    """Units, calls, and what ended while nobody was there to hear it."""
    line = await rig.open()
    await rig.fix(EAST)
    await rig.fix(NORTH)
    await rig.help(EAST)
    await rig.help(NORTH)
    await rig.meta(COUNCIL, status="AVL")
    await rig.fix(COUNCIL)
    assert len(line.take()) >= 5
    await rig.close()
    del rig.present.open[f"A{NORTH}"]
    rig.present.metas[COUNCIL] = msgspec.structs.replace(rig.present.metas[COUNCIL], status="OFF")
    line = await rig.open()
    assert sorted(line.take()) == sorted(
        [
            (UNIT, "RADIO-5001001"),
            (UNIT, "RADIO-5001005"),
            (OVER, "RADIO-5001005-9-1-1"),
            (HELP, "RADIO-5001001-9-1-1"),
            (GONE, "RADIO-5001008-gone"),
        ]
    )
    # It may not have heard that either: a call that is over stays one for TAK until it does.
    await rig.close()
    line = await rig.open()
    assert {(OVER, "RADIO-5001005-9-1-1"), (GONE, "RADIO-5001008-gone")} <= set(line.take())
    await rig.close()
    await rig.clock.advance(cot.ENDED_KEPT_S + 1)
    line = await rig.open()
    assert not {OVER, GONE} & {type_ for type_, _ in line.take()}


@pytest.mark.parametrize(
    ("fault", "reason"), [("does not read", "slow"), ("connection lost", "unreachable")]
)
async def test_what_was_not_taken_is_counted_by_reason(rig: Rig, fault: str, reason: str) -> None:
    line = await rig.open()
    line.fault = LinkDown(fault)
    await rig.fix(EAST)
    assert rig.task is not None
    with pytest.raises(LinkDown, match=fault):
        await rig.task
    assert rig.lost("fix", reason) == 1
    rig.task = None
    line = await rig.open()
    assert line.take() == [(UNIT, "RADIO-5001001")]


async def test_what_waits_behind_a_slow_one_is_the_newest_alone(rig: Rig) -> None:
    line = await rig.open()
    line.gate.clear()
    await rig.fix(EAST)
    await rig.fix(NORTH, 52.1)
    await rig.fix(NORTH, 52.2)
    assert rig.lost("fix", "conflated") == 1
    line.gate.set()
    await settle()
    points = [event.find("point") for event in line.of(UNIT)]
    assert [point.attrib["lat"] for point in points if point is not None] == ["52.5", "52.2"]


async def test_a_ping_is_answered_and_a_silence_is_ended_by_one(rig: Rig) -> None:
    line = await rig.open()
    line.pinged()
    line.pinged()
    await settle()
    assert line.take() == [("t-x-c-t-r", "takPong")]
    await rig.clock.advance(cot.PING_EVERY_S + 0.5)
    assert line.take() == [("t-x-c-t", "gwt-ping")]


async def test_a_group_is_not_pinged(rig: Rig) -> None:
    line = await rig.open(stream=False)
    await rig.clock.advance(60)
    assert line.take() == []
