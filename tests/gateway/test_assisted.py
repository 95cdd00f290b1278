"""Checks that an operator keys for an officer, through the real core (house.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.errors import LedgerUnavailable
from gateway.messages import (
    Actor,
    AssistedCheck,
    CheckOpened,
    CheckRequest,
    Outcome,
    Result,
    VehicleKey,
)
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config, unbooked
from tests.gateway.test_below_l3 import COUNCIL, Heard, in_slots
from tests.gateway.test_checks import with_policy, with_rule

ANN = Actor(id="ann", name="Ann", roles=frozenset({"operator"}))
BEN = Actor(id="ben", name="Ben", roles=frozenset({"operator"}))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


async def asks(
    house: House,
    requester: str = ISSI,
    *,
    actor: Actor = ANN,
    mark: str = "TE99STV",
    to_radio: bool = True,
    key: str = "k1",
    **changes: str,
) -> AssistedCheck:
    reason = "8" if requester == COUNCIL else "1"
    request = CheckRequest(key=VehicleKey(vrm=mark), reason=reason, justification="NO LIGHTS")
    request = msgspec.structs.replace(request, **changes)
    asked = await house.core.assisted.ask(actor, requester, request, to_radio=to_radio, key=key)
    await settle()
    return asked


async def test_one_consultation_two_disclosures_and_both_persons_on_record(house: House) -> None:
    """The PNC is asked once; the radio is told at its officer's level, the operator at theirs."""
    asked = await asks(house)
    assert (asked.terminal, asked.to_radio, asked.refused) == (ISSI, True, "")
    assert len(house.pnc.asked) == 1
    answer = await house.core.assisted.read(asked.short, ANN)
    assert len(house.on_record("asked")) == 1
    (told,) = house.on_record("disclosed")
    (shown,) = house.on_record("shown")
    assert (told.recipient, shown.recipient) == (f"police:1001@{ISSI}", "operator:ann")
    assert shown.content == msgspec.json.encode(answer)
    assert "STOLEN" in answer.pages[0]
    assert (answer.outcome, answer.level) == (Outcome.ANSWERED, "L4")
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    for record in house.disk.records:
        if record.check == asked.check:
            assert (record.officer, record.operator) == ("1001", "ann"), record.event
    opened = [event for event in house.events if isinstance(event, CheckOpened)]
    assert [event.operator for event in opened] == ["ann"]


async def test_each_reads_at_their_own_level(house: House) -> None:
    """A council officer's radio gets its flags, the operator the whole."""
    asked = await asks(house, COUNCIL)
    (result,) = house.heard(Result, COUNCIL)
    answer = await house.core.assisted.read(asked.check, ANN)
    assert (result.level, answer.level) == ("L2", "L4")
    assert "FIESTA" not in str(result)
    assert "FIESTA" in str(answer)


async def test_below_l3_the_radio_keeps_its_slot() -> None:
    async with House(in_slots(config())) as house:
        heard = Heard(house)
        asked = await asks(house, COUNCIL)
        await house.core.assisted.read(asked.check, ANN)
        await house.passes(6)
        assert heard.of("Result")[0] == 4.0


@pytest.mark.parametrize("requester", [ISSI, "1001"])
async def test_without_the_radio_nothing_is_heard_there(house: House, requester: str) -> None:
    """Not a receipt, not a result, nor anything later; no disclosure but the operator's."""
    asked = await asks(house, requester, to_radio=False)
    answer = await house.core.assisted.read(asked.check, ANN)
    assert "STOLEN" in answer.pages[0]
    await house.passes(700)
    await house.restart()
    await house.passes(200)
    assert house.link.sent == []
    assert house.on_record("disclosed") == []
    assert house.core.alarms.open() == ()
    assert house.disk.of(asked.check) == ["opened", "asked", "answered", "shown"]


async def test_an_officer_without_a_radio_is_named_by_their_collar_number() -> None:
    """Booked nowhere: the operator alone is answered, at any rate."""
    async with House(unbooked(config())) as house:
        with pytest.raises(ValueError, match="NOT BOOKED"):
            await asks(house, ISSI)
        asked = await asks(house, "1001")
        assert (asked.terminal, asked.to_radio) == ("", False)
        answer = await house.core.assisted.read(asked.check, ANN)
        assert answer.outcome is Outcome.ANSWERED
        assert house.link.sent == []
        (opened,) = house.on_record("opened")
        assert (opened.officer, opened.operator, opened.terminal) == ("1001", "ann", "")
        with pytest.raises(KeyError):
            await asks(house, "0000")


async def test_what_the_officer_may_not_ask_an_operator_may_not_ask_for_them(house: House) -> None:
    asked = await asks(house, to_radio=False, reason="77")
    assert asked.refused == "REASON NOT ON LIST"
    assert house.pnc.asked == []
    answer = await house.core.assisted.read(asked.check, ANN)
    assert (answer.outcome, answer.why) == (Outcome.REFUSED, "REASON NOT ON LIST")


async def test_whose_role_reads_nothing_asks_nothing(house: House) -> None:
    ops = Actor(id="ops", roles=frozenset({"ops"}))
    with pytest.raises(ValueError, match="NOT YOUR ROLE"):
        await asks(house, actor=ops)
    own = Actor(id="1001", roles=frozenset({"operator"}))
    with pytest.raises(ValueError, match="NOT FOR YOURSELF"):
        await asks(house, actor=own)
    other = Actor(id="eve", roles=frozenset({"operator"}), agency="fire")
    with pytest.raises(KeyError):
        await asks(house, actor=other)
    assert house.on_record("opened") == []


async def test_it_is_told_though_memory_lets_go_of_it_at_once() -> None:
    async with House(config(settled_memory=0)) as house:
        asked = await asks(house, to_radio=False, reason="77")
        assert asked.refused == "REASON NOT ON LIST"
        assert (await house.core.assisted.read(asked.check, ANN)).outcome is Outcome.REFUSED


async def test_nobody_else_reads_it(house: House) -> None:
    asked = await asks(house)
    with pytest.raises(KeyError):
        await house.core.assisted.read(asked.check, BEN)
    assert house.on_record("shown") == []


async def test_it_is_read_on_record_or_not_at_all(house: House) -> None:
    asked = await asks(house)
    house.ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await house.core.assisted.read(asked.check, ANN)
    with pytest.raises(LedgerUnavailable):
        await asks(house, key="k2")
    assert len(house.pnc.asked) == 1


async def test_the_same_act_twice_is_one_check(house: House) -> None:
    """By its key, over a restart, too; another operator's key is another."""
    first = await asks(house, to_radio=False)
    again = await asks(house, to_radio=False)
    await house.restart()
    later = await asks(house, to_radio=False)
    assert first.check == again.check == later.check
    assert len(house.pnc.asked) == 1
    other = await asks(house, to_radio=False, actor=BEN)
    assert other.check != first.check


async def test_before_its_outcome_is_durable_there_is_nothing_to_read(house: House) -> None:
    hang = house.pnc.hang()
    asked = await asks(house)
    with pytest.raises(ValueError, match="NOT ANSWERED YET"):
        await house.core.assisted.read(asked.check, ANN)
    house.ledger.gate.clear()
    hang.answer()
    await settle()
    with pytest.raises(ValueError, match="NOT ANSWERED YET"):
        await house.core.assisted.read(asked.check, ANN)
    house.ledger.gate.set()
    await settle()
    assert (await house.core.assisted.read(asked.check, ANN)).outcome is Outcome.ANSWERED


async def test_over_a_restart_it_is_still_there_and_not_for_ever(house: House) -> None:
    asked = await asks(house)
    await house.restart()
    assert "STOLEN" in (await house.core.assisted.read(asked.check, ANN)).pages[0]
    await house.passes(602)
    with pytest.raises(KeyError):
        await house.core.assisted.read(asked.check, ANN)
    assert [row.kind for row in house.disk.kept.values() if row.kind == "assisted"] == []


async def test_an_operator_reads_by_the_policy_of_now(house: House) -> None:
    asked = await asks(house)
    rules = tuple(r for r in house.config.policy.rules if r.role != "operator")
    house.core.apply(with_policy(house.config, rules=rules))
    with pytest.raises(ValueError, match="NOT YOUR ROLE"):
        await house.core.assisted.read(asked.check, ANN)
    assert house.on_record("shown") == []


async def test_the_radios_copy_is_held_and_prompted_as_any() -> None:
    async with House(with_rule(config(), hold=True, prompt=True)) as house:
        asked = await asks(house)
        assert [notice.kind for notice in house.notices] == ["held"]
        assert "STOLEN" in (await house.core.assisted.read(asked.check, ANN)).pages[0]
        await house.core.releases.rule(asked.check, BEN, "release")
        await settle()
        assert [notice.kind for notice in house.notices] == ["held", "waiting"]


async def test_a_failure_is_told_as_one(house: House) -> None:
    house.pnc.hang()
    asked = await asks(house, to_radio=False)
    await house.passes(17)
    answer = await house.core.assisted.read(asked.check, ANN)
    assert (answer.outcome, answer.why) == (Outcome.EXPIRED, "PNC NO REPLY")
    assert "NO ANSWER" in answer.pages[0]


async def test_a_kill_under_way_loses_nothing(house: House) -> None:
    """Asked, and the process dies before the answer: it is asked on, and read then."""
    house.pnc.hang()
    waiting = asyncio.ensure_future(asks(house, to_radio=False))
    await settle()
    await house.restart()
    waiting.cancel()
    await settle(60)
    check = house.newest()
    assert (await house.core.assisted.read(check, ANN)).outcome is Outcome.ANSWERED
    assert house.link.sent == []
