"""Each alarm by its real cause, in the whole core: raised when it lasts, gone with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from gateway.errors import PncDown
from gateway.messages import (
    AckState,
    AlarmChanged,
    Bearer,
    DeliveryAck,
    LinkState,
    LocationFix,
    Noticed,
    PncAnswer,
    PncQuery,
    StatusReport,
    Suspicion,
)
from gateway.settings import BrokerSection, Settings
from tests.fake_pnc import Hang, vehicle_answer
from tests.gateway.house import ISSI, OTHER, House
from tests.gateway.strategies import RULES

ARMED = "TE99STV"
"""The PNC says that its occupant is violent."""


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def alarms(house: House, rule: str) -> list[AlarmChanged]:
    return [each for each in house.core.alarms.open() if each.rule == rule]


async def acknowledged(house: House, alarm: AlarmChanged) -> None:
    await house.core.alarms.acknowledge(alarm.id, "op-1")


# --------------------------------------------------------------------------- the table

Do = Callable[[House], Awaitable[None]]


async def _line_down(house: House) -> None:
    house.core.link_seen("serial-east", "serial", LinkState.DOWN, "cut")


async def _line_up(house: House) -> None:
    house.core.link_seen("serial-east", "serial", LinkState.UP, "")


async def _nobody_speaks(house: House) -> None:
    section = house.config.settings
    broker = BrokerSection(name="air", silent_s=120.0)
    settings = Settings(gateway=section.gateway, checks=section.checks, mqtt=(broker,))
    house.core.config = msgspec.structs.replace(house.core.config, settings=settings)
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    await house.passes(121)


async def _somebody_speaks(house: House) -> None:
    house.say(StatusReport(code=2))
    await house.passes(2)


async def _pnc_gone(house: House) -> None:
    """Five failures open the circuit; the probes fail, too."""
    house.pnc.always = PncDown("refused")
    for _ in range(3):
        await house.ask()
        await house.passes(1)


async def _pnc_back(house: House) -> None:
    house.pnc.always = None
    for _ in range(2):
        await house.passes(6)
        await house.ask()


async def _disk_full(house: House) -> None:
    house.ledger.down = True
    await house.ask()


async def _disk_freed(house: House) -> None:
    house.ledger.down = False
    await house.passes(2)


async def _strangers(house: House) -> None:
    house.core.security.seen(Suspicion.FLOOD, "air")


async def _quiet(house: House) -> None:
    await house.passes(61)


async def _not_delivered(house: House) -> None:
    house.link.up = False
    await house.ask(ARMED)


async def _delivered(house: House) -> None:
    house.link.up = True
    house.say(StatusReport(code=2))
    await house.passes(1)
    await house.status(2)
    house.say(DeliveryAck(check=house.newest(), part=1, state=AckState.DELIVERED))
    await house.passes(0.1)


async def _not_read(house: House) -> None:
    await house.ask(ARMED)
    house.say(DeliveryAck(check=house.newest(), part=1, state=AckState.DELIVERED))
    await house.passes(0.1)


async def _read(house: House) -> None:
    await house.read(house.newest())


async def _hit_not_read(house: House) -> None:
    """A hit without danger words: no tax, and nobody reads it."""

    def untaxed(query: PncQuery) -> PncAnswer:
        answer = vehicle_answer(query)
        (car,) = answer.records
        return msgspec.structs.replace(answer, records=(msgspec.structs.replace(car, tax="N"),))

    house.pnc.always = untaxed
    await house.ask()
    await house.passes(59)
    assert alarms(house, "HNR") == []


async def _pnc_is_slow(house: House) -> None:
    house.pnc.always = Hang()
    await house.ask()


async def _pnc_answers(house: House) -> None:
    assert isinstance(house.pnc.always, Hang)
    house.pnc.always.answer()
    await house.passes(0.1)


async def _lost_in_need(house: House) -> None:
    """A unit calls for help, and its position is two minutes old when the grace is over."""
    now_ms = house.clock.wall_ms()
    house.say(LocationFix(52.57, -0.24, fixed_at_ms=now_ms))
    await house.passes(121)
    await house.status(0)
    await house.passes(1)


async def _found(house: House) -> None:
    house.say(LocationFix(52.57, -0.24, fixed_at_ms=house.clock.wall_ms()))
    await house.passes(1)


async def _clock_fast(house: House) -> None:
    await house.ask(sent_at_ms=house.clock.wall_ms() + 45_000)


async def _clock_right(house: House) -> None:
    await house.passes(6)
    for _ in range(2):
        await house.ask()
        await house.passes(6)


async def _does_not_verify(house: House) -> None:
    house.core.causes.chain_verifies(False)


async def _verifies(house: House) -> None:
    house.core.causes.chain_verifies(True)


async def _looked_at_much(house: House) -> None:
    for _ in range(11):
        house.core.causes.revealed("op-1")


async def _looked_at_no_more(house: House) -> None:
    await house.passes(600)


async def _not_heard_of(house: House) -> None:
    house.say(StatusReport(code=2))
    await house.passes(900)


TABLE: list[tuple[str, Do, Do]] = [
    ("LNK", _line_down, _line_up),
    ("SIL", _nobody_speaks, _somebody_speaks),
    ("PNC", _pnc_gone, _pnc_back),
    ("AUD", _disk_full, _disk_freed),
    ("REJ", _strangers, _quiet),
    ("DNR", _not_delivered, _delivered),
    ("DUR", _not_read, _read),
    ("HNR", _hit_not_read, _read),
    ("CHO", _pnc_is_slow, _pnc_answers),
    ("SEM", _lost_in_need, _found),
    ("SKW", _clock_fast, _clock_right),
    ("AUP", _does_not_verify, _verifies),
    ("WEL", _not_heard_of, _somebody_speaks),
    ("RVL", _looked_at_much, _looked_at_no_more),
]
ELSEWHERE = {"EMG", "CHX", "COV"}
"""Without an end of their own: in tests of their own."""


def test_every_rule_stands_in_the_table() -> None:
    told = {rule for rule, _, _ in TABLE} | ELSEWHERE
    assert told == set(RULES.by_id)


@pytest.mark.parametrize(("rule", "begin", "end"), TABLE, ids=[row[0] for row in TABLE])
async def test_raised_and_cleared_by_its_cause(house: House, rule: str, begin: Do, end: Do) -> None:
    """Not before its delay, once, with what the operator is to do; gone with its cause: what
    nobody need acknowledge at once, else when somebody has."""
    told = RULES.by_id[rule]
    await begin(house)
    if told.on_delay_s >= 5:
        assert alarms(house, rule) == [], "before its delay"
    await house.passes(told.on_delay_s + 1)
    (alarm,) = alarms(house, rule)
    assert (alarm.priority, alarm.response, alarm.state) == (
        told.priority,
        told.response,
        "unack-active",
    )
    await end(house)
    await house.passes(told.off_delay_s + 2)
    left = alarms(house, rule)
    assert [each.state for each in left] == (["unack-cleared"] if told.ack else [])
    for each in left:
        await acknowledged(house, each)
    assert alarms(house, rule) == []
    assert not [put for put in house.disk.alarms.values() if put.rule == rule]


# --------------------------------------------------------------------------- checks


async def test_danger_that_is_seen_in_time_is_no_alarm(house: House) -> None:
    """Delivered and read; and an answer without danger is none at all."""
    await house.ask(ARMED)
    await house.read(house.newest())
    house.link.up = False
    await house.ask("TE99AAB")
    await house.passes(60)
    assert house.core.alarms.open() == ()


async def test_danger_that_is_never_delivered_stands(house: House) -> None:
    """It goes stale; that nobody read it to the officer is still to be acknowledged."""
    house.link.up = False
    await house.ask(ARMED)
    await house.passes(610)
    (alarm,) = alarms(house, "DNR")
    assert (alarm.terminal, alarm.state) == (ISSI, "unack-cleared")
    assert alarm.check == house.newest()


async def test_danger_is_there_with_the_first_part(house: House) -> None:
    """All danger words are in it; the rest may take long over the air. Any other part says nothing,
    and that it was read is still to be seen."""
    house.link.bearer = Bearer.TETRA
    for part, rules in ((2, {"DNR"}), (1, {"DUR"})):
        before = len(alarms(house, "DNR"))
        await house.ask(ARMED, full=True)
        house.say(DeliveryAck(check=house.newest(), part=part, state=AckState.DELIVERED))
        await house.passes(6)
        assert (len(alarms(house, "DNR")) > before) == ("DNR" in rules)
        await house.passes(10)
        assert any(each.check == house.newest() for each in alarms(house, "DUR")) == (
            "DUR" in rules
        )


async def test_danger_waiting_over_a_restart_is_told_of(house: House) -> None:
    """Killed before its five seconds were over: they begin anew, and it is raised."""
    house.link.up = False
    await house.ask(ARMED)
    await house.passes(3)
    assert alarms(house, "DNR") == []
    await house.restart()
    await house.passes(6)
    (alarm,) = alarms(house, "DNR")
    assert alarm.check == house.newest()
    await house.passes(400)
    await house.restart()
    assert [each.id for each in alarms(house, "DNR")] == [alarm.id]


async def test_an_officer_without_an_answer_is_one_alarm(house: House) -> None:
    """However often they try; another officer is another. A refusal is an answer."""
    house.pnc.always = Hang()
    for issi in (ISSI, ISSI, OTHER):
        await house.ask(issi=issi)
    await house.ask(reason="77", issi="5003001")
    await house.passes(16)
    told = {each.terminal: (each.priority, each.count) for each in alarms(house, "CHX")}
    assert told == {ISSI: (2, 2), OTHER: (2, 1)}
    await house.passes(6)
    assert {each.state for each in alarms(house, "CHX")} == {"unack-cleared"}


async def test_a_pnc_that_is_down_is_one_alarm(house: House) -> None:
    """Every check of every officer fails; the control room sees one alarm with their number."""
    await _pnc_gone(house)
    for _ in range(5):
        for each in house.config.fleet.terminals:
            await house.ask(issi=each.issi)
        await house.passes(4)
    (alarm,) = house.core.alarms.open()
    assert alarm.rule == "PNC"
    assert alarm.count > 15


# --------------------------------------------------------------------------- positions, clocks


async def test_a_call_for_help_without_any_position(house: House) -> None:
    """It is missed as much as an old one; of a unit that only asks it is not."""
    house.pnc.always = Hang()
    await house.passes(31)
    await house.status(0)
    await house.ask(issi=OTHER)
    await house.passes(7)
    assert [each.terminal for each in alarms(house, "SEM")] == [ISSI]


async def test_a_check_from_somewhere(house: House) -> None:
    """A check under way from a unit whose position is old; it ends with the check."""
    house.say(LocationFix(52.57, -0.24, fixed_at_ms=house.clock.wall_ms()))
    await house.passes(140)
    house.pnc.always = Hang()
    await house.ask()
    await house.passes(7)
    assert len(alarms(house, "SEM")) == 1
    await house.passes(20)
    assert alarms(house, "SEM")[0].state == "unack-cleared"


async def test_a_flood_is_told_and_measured(house: House) -> None:
    """Eleven clocks are wrong in one area: grouped, and one emergency stands alone."""
    fleet = [each for each in house.config.fleet.terminals if each.area == "Northern"]
    for number in range(11):
        issi = fleet[number % len(fleet)].issi
        await house.ask(sent_at_ms=house.clock.wall_ms() + 45_000, issi=issi)
        house.core.causes.clock_is_off(issi, 0.0)
        await house.passes(7)
    house.core.causes.clock_is_off(fleet[0].issi, 99.0)
    await house.status(0, issi=fleet[0].issi)
    await house.passes(1)
    assert [each.kind for each in house.events if isinstance(each, Noticed)] == ["flood"]
    assert house.meter.gauges["alarm_flood", ()] == 1.0
    groups = {each.rule: each.group for each in house.core.alarms.open()}
    assert groups == {"SKW": "SKW", "EMG": ""}


async def test_an_audit_that_does_not_verify(house: House) -> None:
    """Told by the proof, beside an audit that cannot be written; over with the next that holds.
    Checks go on, and so supervisors hear of it, in other words."""
    house.core.causes.chain_verifies(False)
    await _disk_full(house)
    await house.passes(1)
    assert {each.link for each in alarms(house, "AUD")} == {"ledger"}
    [unproved] = alarms(house, "AUP")
    assert (unproved.link, unproved.audience) == ("chain", "supervisor")
    house.core.causes.chain_verifies(True)
    await _disk_freed(house)
    await house.passes(6)
    for rule in ("AUD", "AUP"):
        assert {each.state for each in alarms(house, rule)} == {"unack-cleared"}


async def test_a_store_that_lacks_records_is_so_for_this_life(house: House) -> None:
    """The next one goes on behind the gap: what nobody acknowledged stands until they do."""
    house.core.causes.records_are_missing()
    await house.passes(1)
    [alarm] = alarms(house, "AUP")
    assert (alarm.link, alarm.audience, alarm.state) == ("store", "supervisor", "unack-active")
    assert [record.operation for record in house.on_record("alarm")] == ["AUP"]
    await house.restart()
    await house.passes(60)
    assert alarms(house, "AUP")[-1].state == "unack-cleared"
    assert [each.rule for each in house.core.alarms.open()] == ["AUP"]


async def test_an_anchor_that_is_left_behind(house: House) -> None:
    """Each by its name; over with the first head that it takes."""
    for name in ("file", "syslog"):
        house.core.causes.anchor_is_behind(name, True)
    house.core.causes.anchor_is_behind("file", False)
    await house.passes(10)
    states = {each.link: each.state for each in house.core.alarms.open()}
    assert states == {"anchor file": "unack-cleared", "anchor syslog": "unack-active"}


# --------------------------------------------------------------------------- kill -9


async def test_one_in_each_state_over_a_kill(house: House) -> None:
    """The same occurrences in the same states, acknowledged by whom they were, aside until when
    they were; the clock of an escalation goes on where it was."""
    for name in ("a", "b", "c", "d"):
        house.core.link_seen(name, "serial", LinkState.DOWN, "cut")
    await house.passes(6)
    by_link = {each.link: each for each in house.core.alarms.open()}
    await acknowledged(house, by_link["b"])
    house.core.link_seen("c", "serial", LinkState.UP, "")
    await house.core.alarms.shelve(by_link["d"].id, "op-1", 10, "known fault")
    await house.passes(6)
    await house.status(0)
    await house.status(0, issi=OTHER)
    first = next(each for each in alarms(house, "EMG") if each.terminal == ISSI)
    await acknowledged(house, first)
    await house.core.alarms.mistake(first.id, "op-1")
    await house.passes(9)
    before = house.core.alarms.open()
    assert {each.state for each in before} == {"unack-active", "ack-active", "unack-cleared"}
    assert [each.link for each in before if each.shelved_until_ms] == ["d"]
    await house.restart()
    assert house.core.alarms.open() == before
    await house.passes(7)
    escalated = {each.terminal: each.audience for each in alarms(house, "EMG")}
    assert escalated == {ISSI: "operator", OTHER: "everybody"}
    with pytest.raises(ValueError, match="SECOND PERSON"):
        await house.core.alarms.close(first.id, "op-1")
    assert (await house.core.alarms.close(first.id, "op-2")).why == "PRESSED BY MISTAKE"
    await house.passes(600)
    aside = next(each for each in alarms(house, "LNK") if each.link == "d")
    assert (aside.shelved_until_ms, aside.state) == (None, "unack-active")


async def test_shelving_is_on_record_with_its_reason(house: House) -> None:
    """For minutes and reasons of the rules' lists; refused for what may not be put aside."""
    house.core.link_seen("a", "serial", LinkState.DOWN, "cut")
    await house.status(0)
    await house.passes(6)
    (line,) = alarms(house, "LNK")
    for minutes, why in ((7, "test"), (60, "test"), (5, "because"), (5, "")):
        with pytest.raises(ValueError, match="ONE OF"):
            await house.core.alarms.shelve(line.id, "op-1", minutes, why)
    with pytest.raises(ValueError, match="CANNOT BE SHELVED"):
        await house.core.alarms.shelve(alarms(house, "EMG")[0].id, "op-1", 5, "test")
    await house.core.alarms.shelve(line.id, "op-1", 5, "test")
    await house.passes(1)
    assert house.meter.gauges["alarms_shelved", ()] == 1.0
    await house.core.alarms.unshelve(line.id, "op-2")
    said = [(r.operator, r.detail) for r in house.on_record("alarm") if r.operation == "LNK"]
    assert said[1:] == [
        ("op-1", f"{line.id} shelved x1 (test)"),
        ("op-2", f"{line.id} unshelved x1"),
    ]


async def test_other_rules_by_a_reload(house: House) -> None:
    """A new file counts from the next second on; no alarm is lost by it."""
    house.core.link_seen("a", "serial", LinkState.DOWN, "cut")
    await house.passes(6)
    rules = tuple(
        msgspec.structs.replace(rule, priority=3, response="Wait.") if rule.id == "LNK" else rule
        for rule in RULES.rules
    )
    changed = msgspec.structs.replace(RULES, version="2", rules=rules)
    house.core.apply(msgspec.structs.replace(house.config, alarms=changed))
    house.core.link_seen("b", "serial", LinkState.DOWN, "cut")
    await house.passes(6)
    told = {each.link: (each.priority, each.response) for each in alarms(house, "LNK")}
    assert told == {"a": (2, RULES.by_id["LNK"].response), "b": (3, "Wait.")}
