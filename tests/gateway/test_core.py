"""The core as a whole: emergencies, the audit's own state, a changed configuration, figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import LedgerFatal, LedgerUnavailable, PncDown, PncGarbled
from gateway.messages import (
    AckState,
    AlarmChanged,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    EchoTest,
    HelpRequest,
    LinkChanged,
    LinkState,
    LocationFix,
    MalformedCheck,
    Notice,
    Outcome,
    StatusReport,
    UnitEmergency,
    UnitFix,
    UnitMeta,
)
from gateway.ports import Change, Record
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


# --------------------------------------------------------------------------- emergencies


async def test_an_emergency_passes_a_stalled_ledger_and_a_full_queue() -> None:
    """Decision 6: on the feed before `handle` returns, whatever waits; recorded second."""
    async with House(config(concurrency=1, queue=1)) as house:
        house.ledger.gate.clear()
        for _ in range(40):
            house.say(house.question())
        said = house.say(StatusReport(code=0))
        assert [type(e).__name__ for e in house.events[-2:]] == ["UnitEmergency", "AlarmChanged"]
        assert said.settled == 0
        house.ledger.gate.set()
        await settle(100)
        assert said.settled == 1
        assert len(house.on_record("emergency")) == 1


async def test_an_emergency_does_not_wait_behind_its_own_kind_on_a_stalled_disk(
    house: House,
) -> None:
    """Twenty unacknowledged ones would stop the broker: each is let go within two seconds, and
    still comes on record when the disk is back."""
    house.ledger.gate.clear()
    for terminal in house.config.fleet.terminals:
        house.say(StatusReport(code=0), issi=terminal.issi)
    await house.passes(2.1)
    assert house.all_settled()
    house.ledger.gate.set()
    await house.passes(8)
    raised = {record.terminal for record in house.on_record("emergency")}
    assert raised == {terminal.issi for terminal in house.config.fleet.terminals}


async def test_an_emergency_in_a_long_outage_is_recorded_afterwards(house: House) -> None:
    """Longer than any one attempt goes on, and with nothing else that happens."""
    house.ledger.down = True
    said = await house.status(0)
    await house.passes(300)
    assert said.settled == 1
    house.ledger.down = False
    await house.passes(5)
    assert len(house.on_record("emergency")) == 1
    assert list(house.disk.alarms)


async def test_an_open_emergency_is_raised_again_after_a_restart(house: House) -> None:
    """The same occurrence, on every console; a closed one is not."""
    await house.status(0)
    await house.status(0, issi=OTHER)
    mine = next(a for a in house.core.alarms.open() if a.terminal == ISSI)
    await house.core.alarms.acknowledge(mine.id, "op1")
    await house.core.alarms.close(mine.id, "op2")
    house.events.clear()
    await house.restart()
    again = [event for event in house.events if isinstance(event, AlarmChanged)]
    assert [(alarm.terminal, alarm.state) for alarm in again] == [(OTHER, "unack-active")]
    assert [e.on for e in house.events if isinstance(e, UnitEmergency)] == [True]


async def test_a_flood_of_emergencies_is_bounded_and_none_is_lost(house: House) -> None:
    """Presses of one terminal are one alarm with a count; tasks do not grow without end."""
    house.ledger.gate.clear()
    for _ in range(600):
        house.say(StatusReport(code=0))
    assert len(house.core._crew) <= 256
    await house.passes(3)
    assert house.all_settled()
    (alarm,) = house.core.alarms.open()
    assert alarm.count == 600


async def test_a_ledger_that_may_have_lied_stops_us_in_an_emergency_too(house: House) -> None:
    """It was relayed; it is not settled as if it were on record."""
    house.ledger.broken = True
    said = await house.status(0)
    assert any(isinstance(event, UnitEmergency) for event in house.events)
    assert (len(house.fatal), said.settled) == (1, 0)
    assert not house.core.ready_now()[0]


# --------------------------------------------------------------------------- the audit's state


async def test_an_audit_that_cannot_be_written_is_seen_once_and_its_gap_is_on_record(
    house: House,
) -> None:
    """R0, D01: one line, one event for its begin and its end, though every question fails; ready
    again within seconds though nobody asks; the audit says how long it was blind (D2)."""
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    assert house.core.ready_now()[0]
    house.ledger.down = True
    for _ in range(5):
        await house.ask()
    ready, reasons = house.core.ready_now()
    assert not ready
    assert {"what": "ledger", "state": "down", "why": ""} in reasons
    await house.passes(37)
    house.ledger.down = False
    await house.passes(2.1)
    assert house.core.ready_now()[0]
    words = [line for line, _ in house.journal.lines if line.startswith("ledger")]
    assert words == ["ledger.unavailable", "ledger.recovered"]
    seen = [e.state for e in house.events if isinstance(e, LinkChanged) and e.kind == "audit"]
    assert seen == [LinkState.DOWN, LinkState.UP]
    (gap,) = [r for r in house.on_record("alarm") if "could not be written" in r.detail]
    assert gap.operation == "AUD"
    assert "for 3" in gap.detail


async def test_a_ledger_that_is_gone_is_found_though_nobody_asks(house: House) -> None:
    """D05: its file was deleted; the process ends before an officer's question finds it."""

    async def gone(_id: str) -> None:
        raise LedgerFatal("gone")

    house.ledger.check = gone  # type: ignore[assignment]
    await house.passes(6.1)
    assert len(house.fatal) == 1
    assert not house.core.ready_now()[0]


async def test_an_audit_that_takes_nothing_new_is_not_up(house: House) -> None:
    """D01: on a full disk what is under way is still written; it must not pass for a recovery, and
    be lost and found again once a message (R0)."""
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    write = house.ledger.commit

    async def full(records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        if not {record.event for record in records} & {"answered", "disclosed"}:
            raise LedgerUnavailable("disk full")
        await write(records, changes)

    house.ledger.commit = full  # type: ignore[method-assign]
    await house.ask("TE99STV")
    hang.answer()
    await house.passes(3)
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    assert not house.core.ready_now()[0]
    house.ledger.commit = write  # type: ignore[method-assign]
    await house.passes(2)
    assert house.core.ready_now()[0]
    seen = [e.state for e in house.events if isinstance(e, LinkChanged) and e.kind == "audit"]
    assert seen == [LinkState.DOWN, LinkState.UP]


async def test_location_goes_on_while_the_audit_is_down(house: House) -> None:
    """Decision 2: fixes are relayed; only checks fail closed."""
    house.ledger.down = True
    said = house.say(LocationFix(lat=52.5725, lon=-0.2431, fixed_at_ms=house.clock.wall_ms()))
    assert any(isinstance(event, UnitFix) for event in house.events)
    assert said.settled == 1


async def test_a_clock_that_is_set_back_makes_no_position_fresh(house: House) -> None:
    """H08: whoever is silent since is shown so, not as fresh until the clock is where it was."""
    house.clock.step_wall(3_600_000)
    await house.passes(2)
    house.say(LocationFix(52.5725, -0.2431))
    house.clock.step_wall(-3_600_000)
    await house.passes(100)
    age_s = house.core.tracker.age(ISSI, house.clock.wall_ms())
    assert age_s == pytest.approx(100, abs=2)


async def test_a_link_alarm_comes_on_record_by_itself(house: House) -> None:
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    house.core.link_seen("air", "mqtt", LinkState.DOWN, "cut")
    await house.passes(8)
    assert [r.operation for r in house.on_record("alarm")] == ["LNK"]


# --------------------------------------------------------------------------- reload


async def test_a_fleet_that_changes_is_told_and_a_terminal_that_left_is_deaf(house: House) -> None:
    terminals = tuple(t for t in house.config.fleet.terminals if t.issi != ISSI)
    fleet = msgspec.structs.replace(house.config.fleet, terminals=terminals)
    house.events.clear()
    house.say(LocationFix(52.5725, -0.2431))
    assert house.core.tracker.newest_of(ISSI) is not None
    assert house.core.apply(msgspec.structs.replace(house.config, fleet=fleet)) == []
    assert house.core.tracker.newest_of(ISSI) is None
    gone = [e for e in house.events if isinstance(e, UnitMeta) and e.gone]
    assert [each.terminal for each in gone] == [ISSI]
    said = await house.ask()
    assert (said.settled, house.link.sent) == (1, [])


async def test_what_needs_a_restart_is_named(house: House) -> None:
    changed = msgspec.structs.replace(
        house.config.settings,
        checks=msgspec.structs.replace(house.config.settings.checks, deadline_s=3.0),
    )
    new = msgspec.structs.replace(house.config, settings=changed)
    assert house.core.apply(new) == ["checks"]
    house.pnc.hang()
    await house.ask()
    await house.passes(4)
    assert house.results == [], "the old deadline holds until then"


# --------------------------------------------------------------------------- small talk


async def test_help_and_echo_prove_the_way_there_and_back(house: House) -> None:
    house.say(HelpRequest())
    house.say(EchoTest(text="ABC"))
    await settle()
    assert [n.text for n in house.heard(Notice)][1] == "ECHO ABC"
    assert house.all_settled()


async def test_a_minded_desk_is_called_and_its_records_are_written(house: House) -> None:
    """Once a second; while one writing runs no second one is begun; a fatal end is told on."""
    gate = asyncio.Event()

    class Desk:
        ticks = 0
        begun = 0
        unrecorded = 0

        def tick(self, now_s: float, now_ms: int, /) -> None:
            assert (now_s, now_ms) == (house.clock.monotonic_s(), house.clock.wall_ms())
            self.ticks += 1
            self.unrecorded = int(self.ticks >= 2)

        async def record(self) -> None:
            self.begun += 1
            await gate.wait()
            raise LedgerFatal("planted")

    desk = Desk()
    house.core.minded.append(desk)
    await house.passes(5)
    assert (desk.ticks, desk.begun) == (5, 1)
    gate.set()
    await settle()
    assert [type(error) for error in house.fatal] == [LedgerFatal]


# --------------------------------------------------------------------------- any history

ACTIONS = st.sampled_from(
    [
        "ask", "again", "typed", "denied", "old", "malformed", "cancel", "read", "15", "0",
        "down", "up", "stall", "go", "pnc down", "pnc garbled", "pnc hang", "pnc well",
        "link down", "link up", "1 s", "20 s", "restart",
    ]
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ACTIONS, max_size=40))
async def test_any_history_settles_every_message_once_and_ends_every_check_once(
    actions: list[str],
) -> None:
    """Random histories of officers, PNC, disk, link and restarts; then all is well again.

    A message that the process forgot in a crash is the bearer's to bring again: it was not
    settled, and nothing of it may be half on record. Every other one is settled exactly once.
    """
    small = config(concurrency=2, queue=2, per_terminal_open=3, settled_memory=2, deadline_s=6.0)
    async with House(small) as house:
        last: CheckRequest | None = None
        for action in actions:
            match action:
                case "ask":
                    last = house.question("TE99ABC")
                    house.say(last)
                case "again" if last is not None:
                    house.say(last)
                case "typed":
                    house.say(house.typed())
                case "denied":
                    house.say(house.question(reason="77"))
                case "old":
                    house.say(house.question(sent_at_ms=house.clock.wall_ms() - 60_000))
                case "malformed":
                    house.say(MalformedCheck(why="BAD VRM"))
                case "cancel":
                    house.say(CancelRequest())
                case "read" if house.results:
                    check = house.results[-1].check
                    house.say(DeliveryAck(check=check, part=1, state=AckState.READ))
                case "15" | "0":
                    house.say(StatusReport(code=int(action)))
                case "down" | "up":
                    house.ledger.down = action == "down"
                case "stall":
                    house.ledger.gate.clear()
                case "go":
                    house.ledger.gate.set()
                case "pnc down":
                    house.pnc.always = PncDown("x")
                case "pnc garbled":
                    house.pnc.always = PncGarbled("echo")
                case "pnc hang":
                    house.pnc.hang()
                case "pnc well":
                    house.pnc.always = None
                case "link down" | "link up":
                    house.link.up = action == "link up"
                case "1 s" | "20 s":
                    await house.passes(float(action.split()[0]))
                case "restart":
                    house.said = [said for said in house.said if said.settled]
                    await house.restart()
                case _:
                    pass
            await settle(8)
        house.ledger.down, house.pnc.always, house.link.up = False, None, True
        house.ledger.gate.set()
        house.pnc.script.clear()
        await house.passes(45)
        assert house.all_settled(), "settled never, or only by a crash"
        opened = [record.check for record in house.on_record("opened")]
        ends = [
            record.check
            for event in ("answered", "refused", "denied", "cancelled")
            for record in house.on_record(event)
        ]
        assert len(opened) == len(set(opened))
        assert sorted(opened) == sorted(ends), "I1: exactly one outcome each"
        assert house.core.checks.in_flight() == 0
        asked = {(query.check, query.attempt) for query in house.pnc.asked}
        noted = {(record.check, record.attempt) for record in house.on_record("asked")}
        assert asked <= noted, "I6: asked without a record"
        assert len(asked) == len(house.pnc.asked), "no attempt was made twice"
        for check in {result.check for result in house.results}:
            same = {msgspec.json.encode(r) for r in house.results if r.check == check}
            assert len(same) == 1, "I2"
