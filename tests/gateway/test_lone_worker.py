"""Lone workers and silence: warned, overdue, an alarm, cleared by a word; over a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from gateway.messages import (
    AckState,
    Actor,
    AlarmChanged,
    BookOff,
    BookOn,
    DeliveryAck,
    EchoTest,
    Heartbeat,
    LocationFix,
    Notice,
    Secret,
    StatusReport,
    UnitMeta,
    Uplink,
)
from gateway.settings import BookSection, Config, LoneSection
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder, unbooked
from tests.gateway.strategies import RULES
from tests.gateway.test_bookings import pool

INTERVAL_S, WARN_S = 180, 30
"""Shorter than the sample's, so that nobody waits for virtual quarters of an hour."""
ALONE, TOGETHER, WELL = StatusReport(code=20), StatusReport(code=21), StatusReport(code=22)
FIX = LocationFix(52.57, -0.24)


def lone(base: Config, issi: str = ISSI) -> Config:
    """The officer who holds this terminal works alone, by the people's file."""
    (collar,) = [each.officer for each in base.people.standing if each.terminal == issi]
    officers = tuple(
        msgspec.structs.replace(each, lone=each.collar == collar) for each in base.people.officers
    )
    section = LoneSection(interval_s=INTERVAL_S, warn_s=WARN_S)
    return msgspec.structs.replace(
        base,
        people=msgspec.structs.replace(base.people, officers=officers),
        settings=msgspec.structs.replace(base.settings, lone=section),
    )


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """One lone worker; the start's grace is over."""
    async with House(lone(config())) as house:
        await house.passes(31)
        yield house


def overdue(house: House, issi: str = ISSI) -> list[AlarmChanged]:
    return [a for a in house.core.alarms.open() if (a.rule, a.terminal) == ("WEL", issi)]


def asked(house: House, issi: str = ISSI) -> list[str]:
    return [each.text for each in house.heard(Notice, issi) if each.kind == "welfare"]


async def says(house: House, message: Uplink, issi: str = ISSI) -> None:
    house.say(message, issi=issi)
    await settle()


# --------------------------------------------------------------------------- the timer


async def test_asked_a_minute_before_then_an_alarm_until_they_say_something(house: House) -> None:
    await says(house, WELL)
    await house.passes(INTERVAL_S - WARN_S - 2)
    assert asked(house) == []
    await house.passes(3)
    assert asked(house) == ["WELFARE CHECK. SEND ANY STATUS IN 30 S"]
    await house.passes(WARN_S - 3)
    assert overdue(house) == []
    await house.passes(3)
    (alarm,) = overdue(house)
    assert (alarm.state, alarm.response) == (
        "unack-active",
        "Welfare check: call the officer, then their supervisor.",
    )
    await house.passes(100)
    assert len(asked(house)) == 1
    await says(house, WELL)
    await house.passes(6)
    assert [each.state for each in overdue(house)] == ["unack-cleared"]
    await house.core.alarms.acknowledge(alarm.id, "op-1")
    assert overdue(house) == []


@pytest.mark.parametrize(
    ("message", "extends"),
    [
        (WELL, True),
        (StatusReport(code=2), True),
        (EchoTest(), True),
        (DeliveryAck(check="C001", part=1, state=AckState.READ), True),
        (DeliveryAck(check="C001", part=1, state=AckState.DELIVERED), False),
        (FIX, False),
        (Heartbeat(), False),
    ],
    ids=repr,
)
async def test_what_they_do_extends_it_and_what_the_radio_does_not(
    house: House, message: Uplink, extends: bool
) -> None:
    await says(house, WELL)
    await house.passes(INTERVAL_S - 20)
    await says(house, message)
    await house.passes(25)
    assert bool(overdue(house)) is not extends
    await house.passes(INTERVAL_S - 30)
    assert bool(overdue(house)) is not extends
    await house.passes(10)
    assert overdue(house)


async def test_where_the_settings_say_so_a_position_counts_too() -> None:
    made = lone(config())
    section = LoneSection(interval_s=INTERVAL_S, warn_s=WARN_S, positions=True)
    settings = msgspec.structs.replace(made.settings, lone=section)
    async with House(msgspec.structs.replace(made, settings=settings)) as house:
        await says(house, WELL)
        for _ in range(3):
            await house.passes(INTERVAL_S - WARN_S - 10)
            await says(house, FIX)
        assert asked(house) == []
        assert overdue(house) == []


async def test_a_message_of_the_control_room_is_no_word_of_the_officer(house: House) -> None:
    """Their radio says by itself that it has it."""
    await says(house, WELL)
    await house.passes(INTERVAL_S - 30)
    message = await house.core.board.send_message(ISSI, "All well?", Actor(id="op-1"))
    await settle()
    await says(house, DeliveryAck(check=message.id, part=1, state=AckState.DELIVERED))
    await house.passes(35)
    assert overdue(house)
    await says(house, DeliveryAck(check=message.id, part=1, state=AckState.READ))
    await house.passes(6)
    assert [each.state for each in overdue(house)] == ["unack-cleared"]


async def test_by_their_own_status_anybody_is_alone_or_is_not(house: House) -> None:
    await says(house, ALONE, OTHER)
    await says(house, TOGETHER)
    metas = {e.terminal: e.lone for e in house.events if isinstance(e, UnitMeta)}
    assert (metas[OTHER], metas[ISSI]) == (True, False)
    for _ in range(2):
        await house.passes(INTERVAL_S / 2 + 2)
        await says(house, FIX)
        await says(house, FIX, OTHER)
    assert overdue(house) == []
    assert len(overdue(house, OTHER)) == 1


# --------------------------------------------------------------------------- silence


async def test_on_duty_and_not_heard_of_is_an_alarm_too(house: House) -> None:
    """Of who was heard since they took the radio, and is not off: with anything at all."""
    await says(house, FIX, OTHER)
    assert RULES.by_id["WEL"].limit == 900
    await house.passes(899)
    assert overdue(house, OTHER) == []
    await house.passes(3)
    assert len(overdue(house, OTHER)) == 1
    assert overdue(house) == [], "was never heard"
    await says(house, FIX, OTHER)
    await house.passes(6)
    assert overdue(house, OTHER)[0].state == "unack-cleared"
    await says(house, StatusReport(code=11), OTHER)
    await house.core.alarms.acknowledge(overdue(house, OTHER)[0].id, "op-1")
    await house.passes(20)
    await house.restart()
    await house.passes(910)
    assert overdue(house, OTHER) == [], "still off duty"


@pytest.mark.parametrize("change", [unbooked, other_holder])
async def test_who_left_the_radio_is_not_waited_for(
    house: House, change: Callable[[Config], Config]
) -> None:
    await says(house, WELL)
    await house.passes(INTERVAL_S + 2)
    assert overdue(house)[0].state == "unack-active"
    house.core.apply(change(house.config))
    await house.passes(6)
    assert overdue(house)[0].state == "unack-cleared"
    await house.passes(20)
    assert not [row for row in house.disk.kept.values() if row.kind == "timer"]


async def test_from_the_booking_on_and_never_for_two_aboard() -> None:
    """Who books a radio and is not heard again is missed; a lone worker with company is not alone,
    and is again when they leave."""
    made = msgspec.structs.replace(lone(config()).settings, book=BookSection(hours=2.0))
    people = msgspec.structs.replace(
        pool().people,
        officers=tuple(
            msgspec.structs.replace(each, lone=each.collar in ("1001", "1002"))
            for each in pool().people.officers
        ),
    )
    async with House(msgspec.structs.replace(pool(), settings=made, people=people)) as house:
        await house.passes(31)
        for issi, who in ((ISSI, "1001"), (OTHER, "1002"), (OTHER, "1003")):
            second = who == "1003"
            await says(house, BookOn(officer=who, factor=Secret("4711"), second=second), issi)
        await house.passes(INTERVAL_S + 2)
        assert (len(overdue(house)), len(overdue(house, OTHER))) == (1, 0)
        assert overdue(house)[0].state == "unack-active"
        await says(house, BookOff(officer="1003"), OTHER)
        await house.passes(INTERVAL_S + 2)
        assert len(overdue(house, OTHER)) == 1
        await says(house, BookOff(), ISSI)
        await house.passes(6)
        assert overdue(house)[0].state == "unack-cleared"


# --------------------------------------------------------------------------- over a restart


@pytest.mark.parametrize("set_back_s", [0, 600])
async def test_a_timer_goes_on_over_a_kill(house: House, set_back_s: int) -> None:
    """It comes when it would have come, or up to 70 s before; a clock set back changes nothing."""
    await says(house, WELL)
    await house.passes(INTERVAL_S - WARN_S - 10)
    house.clock.step_wall(-set_back_s * 1000)
    await house.restart()
    assert asked(house) == []
    await house.passes(12)
    assert len(asked(house)) == 1
    await house.passes(WARN_S)
    assert len(overdue(house)) == 1


async def test_no_restart_extends_it(house: House) -> None:
    """Killed every minute, and the officer says nothing all the while."""
    await says(house, WELL)
    for _ in range(4):
        await house.passes(INTERVAL_S / 4)
        await house.restart()
    await house.passes(31)  # the start's grace
    assert len(overdue(house)) == 1


async def test_overdue_before_and_after_a_kill_is_one_alarm(house: House) -> None:
    await says(house, WELL)
    await house.passes(INTERVAL_S + 5)
    (before,) = overdue(house)
    await house.restart()
    await house.passes(60)
    assert [(a.id, a.state) for a in overdue(house)] == [(before.id, "unack-active")]
    await says(house, WELL)
    await house.passes(6)
    assert [(a.id, a.state) for a in overdue(house)] == [(before.id, "unack-cleared")]


@pytest.mark.parametrize("change", [unbooked, other_holder])
async def test_a_timer_of_somebody_who_left_meanwhile_is_let_go(
    house: House, change: Callable[[Config], Config]
) -> None:
    await says(house, WELL)
    await house.passes(INTERVAL_S + 5)
    await house.restart(change(house.config))
    await house.passes(20)
    assert [a.state for a in overdue(house)] == ["unack-cleared"]
    assert not [row for row in house.disk.kept.values() if row.kind == "timer"]


async def test_a_row_that_cannot_be_read_costs_itself(house: House) -> None:
    for issi in (ISSI, OTHER):
        await says(house, ALONE, issi)
    await house.passes(20)
    row = house.disk.kept["timer", ISSI]
    house.disk.kept["timer", ISSI] = msgspec.structs.replace(row, body=b"{")
    await house.restart()
    await house.passes(INTERVAL_S)
    assert (len(overdue(house)), len(overdue(house, OTHER))) == (0, 1)


async def test_so_much_is_written_and_no_more(house: House) -> None:
    """A radio that speaks each second costs a row a minute."""
    writes = []
    commit = house.core.lone._ledger.commit

    async def counted(records: object, changes: object = ()) -> None:
        writes.append(changes)
        await commit(records, changes)  # type: ignore[arg-type]

    house.core.lone._ledger.commit = counted  # type: ignore[method-assign, assignment]
    for _ in range(200):
        await says(house, FIX)
        await house.passes(1)
    rows = [change for changes in writes for change in changes]  # type: ignore[attr-defined]
    assert 3 <= len(rows) <= 5


async def test_without_the_ledger_the_timer_runs_all_the_same(house: House) -> None:
    await says(house, WELL)
    house.ledger.down = True
    await house.passes(INTERVAL_S + 5)
    assert len(overdue(house)) == 1
