"""A hit that nobody acknowledges climbs: 30 s again, 60 s operator, 120 s supervisor.

5 s and 15 s, of answers with danger words: DNR and DUR (test_alarm_causes.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import escalation
from gateway.escalation import Unread
from gateway.messages import (
    AckState,
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckStaged,
    DeliveryAck,
    Event,
    Kind,
    Outcome,
    PncAnswer,
    PncQuery,
    Privacy,
    VehicleRecord,
)
from tests.fake_pnc import vehicle_answer
from tests.fakes import settle
from tests.gateway.house import House, config, other_holder
from tests.gateway.test_checks import with_rule
from tests.gateway.test_releases import ANN


def untaxed(query: PncQuery) -> PncAnswer:
    """A hit without danger words."""
    answer = vehicle_answer(query)
    cars = [msgspec.structs.replace(car, tax="N") for car in answer.records]
    assert all(isinstance(car, VehicleRecord) for car in cars)
    return msgspec.structs.replace(answer, records=tuple(cars))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        house.pnc.always = untaxed
        yield house


def open_alarms(house: House) -> list[AlarmChanged]:
    """Of hits: other desks have theirs."""
    return [each for each in house.core.alarms.open() if each.rule in ("HNR", "DNR", "DUR")]


def watched(house: House) -> list[str]:
    return [id_ for kind, id_ in house.disk.kept if kind == "hit"]


async def delivered(house: House) -> None:
    house.say(DeliveryAck(check=house.newest(), part=1, state=AckState.DELIVERED))
    await settle()


async def test_delivered_and_unread_is_sent_again_after_30_s(house: House) -> None:
    """The same bytes, once, to its officer; on record as a disclosure."""
    await house.ask()
    await delivered(house)
    await house.passes(29)
    assert len(house.results) == 1
    await house.passes(2)
    assert len(house.results) == 2
    assert house.results[0] == house.results[1]
    assert [r.recipient for r in house.on_record("duplicate")] == ["police:1001@5001001"]
    await house.passes(100)
    assert len(house.results) == 2


async def test_60_s_operator_120_s_supervisor(house: House) -> None:
    await house.ask()
    await delivered(house)
    await house.passes(59)
    assert open_alarms(house) == []
    await house.passes(2)
    (alarm,) = open_alarms(house)
    assert (alarm.rule, alarm.audience, alarm.check) == ("HNR", "operator", house.newest())
    await house.passes(60)
    assert [each.audience for each in open_alarms(house)] == ["everybody"]
    await house.read(house.newest())
    await house.passes(6)
    assert [each.state for each in open_alarms(house)] == ["unack-cleared"]


async def test_read_in_time_climbs_nowhere(house: House) -> None:
    await house.ask()
    await house.passes(29)
    await house.read(house.newest())
    sent = len(house.results)
    await house.passes(300)
    assert len(house.results) == sent
    assert open_alarms(house) == []
    assert watched(house) == []


async def test_clear_answers_do_not_climb() -> None:
    async with House() as house:
        await house.ask("TE99AAB")
        await delivered(house)
        await house.passes(200)
        assert len(house.results) == 1
        assert open_alarms(house) == []


async def test_not_to_the_next_officer(house: House) -> None:
    await house.ask()
    await delivered(house)
    house.core.apply(other_holder(house.config))
    await house.passes(100)
    assert len(house.results) == 1


@pytest.mark.parametrize("at_s", [10.0, 45.0, 90.0])
async def test_it_goes_on_over_a_restart(house: House, at_s: float) -> None:
    """Delivered, and so no open check any more: still sent again, raised and escalated in time."""
    await house.ask()
    await delivered(house)
    await house.passes(at_s)
    await house.restart()
    await house.passes(62 - at_s if at_s < 60 else 0)
    (alarm,) = open_alarms(house)
    assert (alarm.rule, alarm.state) == ("HNR", "unack-active")
    assert len(house.results) == 2
    await house.passes(121 - max(at_s, 62))
    assert [each.audience for each in open_alarms(house)] == ["everybody"]
    await house.passes(600)
    assert watched(house) == [], "and not for ever"


@pytest.mark.parametrize("at_s", [10.0, 70.0])
async def test_read_after_a_restart_is_read(house: House, at_s: float) -> None:
    """Memory no longer has the check; whoever watches hears of it all the same."""
    await house.ask()
    await delivered(house)
    await house.passes(at_s)
    await house.restart()
    await house.read(house.newest())
    await house.passes(100)
    assert [each.state for each in open_alarms(house)] == ["unack-cleared"] * (at_s > 60)
    assert watched(house) == []
    assert house.disk.of(house.newest())[-1] == "read"


async def test_danger_has_its_own_alarms_and_no_second_one() -> None:
    """Delivered, not read: DUR after 15 s; HNR would say the same."""
    async with House() as house:
        await house.ask("TE99STV")
        await delivered(house)
        await house.passes(200)
        assert [each.rule for each in open_alarms(house)] == ["DUR"]


async def test_a_prompt_that_nobody_answers_climbs_too() -> None:
    """Its danger words are on the air: DUR after 15 s; not free: the officer has heard."""
    async with House(with_rule(config(), prompt=True)) as house:
        await house.ask("TE99STV")
        await house.passes(17)
        assert [each.rule for each in open_alarms(house)] == ["DUR"]
        house.say(Privacy(free=False))
        await house.passes(10)
        assert [each.state for each in open_alarms(house)] == ["unack-cleared"]
        await house.passes(40)
        assert "HNR" in [each.rule for each in open_alarms(house)]
        house.link.up = False
        house.say(Privacy(free=True))
        await house.passes(7)
        assert "DNR" in [each.rule for each in open_alarms(house)], "the rest must arrive"


async def test_what_is_held_climbs_from_its_release_on() -> None:
    async with House(with_rule(config(), hold=True)) as house:
        house.pnc.always = untaxed
        await house.ask()
        await house.passes(200)
        assert open_alarms(house) == []
        await house.core.releases.rule(house.newest(), ANN, "release")
        await delivered(house)
        await house.passes(59)
        assert open_alarms(house) == []
        await house.passes(3)
        assert [each.rule for each in open_alarms(house)] == ["HNR"]


# --------------------------------------------------------------------------- the rule alone

DONE = CheckDone(
    short="C001",
    check="01C001",
    terminal="5001001",
    kind=Kind.VEHICLE,
    outcome=Outcome.ANSWERED,
    result_class="HIT_STATUS",
    danger=(),
    parts=1,
    not_checked=(),
    level="L4",
    t_ms=0,
    elapsed_s=0.1,
    overhead_s=None,
)


def staged(stage: str, t_ms: int) -> Event:
    return CheckStaged("C001", "01C001", "5001001", stage, t_ms)


def delivery(state: str, t_ms: int) -> Event:
    return CheckDelivery("C001", "01C001", "5001001", 1, state, t_ms)


STAGES = ["held", "prompted", "not_free", "delivering", "withheld"]
STATES = ["sent", "delivered", "failed", "read", "stale"]


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(STAGES + STATES), st.integers(1, 200)),
        max_size=30,
    )
)
def test_every_unread_hit_climbs_once_and_what_is_over_does_not(
    history: list[tuple[bool, str, int]],
) -> None:
    """Whatever happens in whatever order: again and operator once each, never before their time,
    and always by it while it can be read."""
    unread: Unread | None = escalation.begun(DONE)
    now_ms, again, operator, could_ms = 0, 0, 0, 0
    held = False
    for look, word, seconds in history:
        now_ms += seconds * 1000
        if not look and unread is not None:
            event = staged(word, now_ms) if word in STAGES else delivery(word, now_ms)
            if word == "held":
                held = True
            elif held and word in ("prompted", "delivering"):
                held, could_ms = False, now_ms
            unread = escalation.step(unread, event)
            assert (unread is None) == (word in ("read", "stale", "withheld"))
        if unread is None:
            break
        unread, due = escalation.due(unread, now_ms, again_s=30.0, operator_s=60.0)
        again, operator = again + due.again, operator + due.operator
        assert again <= 1
        assert operator <= 1
        if due.again or due.operator:
            assert not held
            assert now_ms - could_ms >= (60_000 if due.operator else 30_000)
        if not held and now_ms - could_ms >= 60_000:
            assert (again, operator) == (1, 1)


def test_only_hits_climb() -> None:
    for changes in ({"result_class": "TRACE_CLEAR"}, {"outcome": Outcome.EXPIRED}):
        assert escalation.begun(msgspec.structs.replace(DONE, **changes)) is None
    danger = msgspec.structs.replace(DONE, result_class="", danger=("CAUTION",))
    assert escalation.begun(danger) is not None
