"""Messages of the control room to one unit: recorded, sent, read; theirs alone; over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from gateway.errors import LedgerUnavailable
from gateway.messages import (
    AckState,
    Actor,
    Bearer,
    DeliveryAck,
    MessageChanged,
    Notice,
    Result,
)
from gateway.settings import Config, MessagesSection
from gateway.unit_messages import (
    CANNOT_SHOW,
    LONG_WORD,
    MOST_A_UNIT,
    NOBODY,
    TOO_MANY,
    TOO_OFTEN,
    parts,
    shown_text,
)
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder, unbooked

OPERATOR = Actor(id="op-1", roles=frozenset({"operator"}))
TEXT = "Return to station"


def house_with(**messages: object) -> House:
    made = config()
    section = msgspec.structs.replace(MessagesSection(), **messages)
    settings = msgspec.structs.replace(made.settings, messages=section)
    return House(msgspec.structs.replace(made, settings=settings))


async def send(house: House, text: str = TEXT, *, unit: str = ISSI) -> MessageChanged:
    return await house.core.board.send_message(unit, text, OPERATOR)


def on_record(house: House, message: MessageChanged) -> list[str]:
    return [record.event for record in house.disk.records if record.detail == message.id]


def states(house: House) -> list[str]:
    return [event.state for event in house.events if isinstance(event, MessageChanged)]


def on_screen(house: House, issi: str = ISSI) -> list[Notice]:
    return [each for each in house.heard(Notice, issi) if each.kind == "message"]


async def acknowledge(
    house: House, check: str, state: AckState = AckState.READ, part: int = 1
) -> None:
    house.say(DeliveryAck(check=check, part=part, state=state))
    await settle()


# --------------------------------------------------------------------------- one message


async def test_it_is_on_record_before_it_is_sent_and_says_who_whom_and_what() -> None:
    async with House() as house:
        message = await send(house)
        await settle()
        assert house.story[-2:] == ["message", "sent notice"]
        (record,) = house.on_record("message")
        assert (record.detail, record.terminal, record.operator) == (message.id, ISSI, "op-1")
        assert record.recipient == house.core.roster.holder(ISSI) != ""
        assert (record.verb, record.operator_role) == ("disclosure", "operator")
        assert record.content == b'{"text":"RETURN TO STATION"}'
        assert "RETURN" not in repr(msgspec.structs.replace(record, content=None))
        (shown,) = on_screen(house)
        assert shown.text == "MSG: RETURN TO STATION"
        assert (shown.id, shown.short) == (message.id, message.id[-4:])
        assert states(house) == ["queued", "sent"]


@pytest.mark.parametrize("named", [lambda m: m.id, lambda m: m.short])
async def test_delivered_and_read_come_back_as_for_an_answer(
    named: Callable[[MessageChanged], str],
) -> None:
    async with House() as house:
        message = await send(house)
        await settle()
        await acknowledge(house, named(message), AckState.DELIVERED)
        await acknowledge(house, named(message), AckState.DELIVERED)
        await house.passes(200)
        assert len(on_screen(house)) == 1, "sent again though it was delivered"
        await acknowledge(house, named(message))
        await acknowledge(house, named(message))
        assert states(house) == ["queued", "sent", "delivered", "read"]
        assert on_record(house, message) == ["message", "delivered", "read"]
        assert not house.disk.outbox
        assert house.all_settled()


async def test_unacknowledged_it_comes_again_and_goes_stale_after_its_time() -> None:
    async with House() as house:
        message = await send(house)
        await house.passes(25)
        assert len(on_screen(house)) == 2
        await house.passes(600)
        assert states(house)[-1] == "stale"
        assert on_record(house, message) == ["message", "stale"]
        assert not house.disk.outbox
        sent = len(on_screen(house))
        await house.passes(600)
        assert len(on_screen(house)) == sent


async def test_on_a_line_each_part_is_acknowledged() -> None:
    async with House() as house:
        house.link.bearer = Bearer.SERIAL
        message = await send(house, "WORD " * 38)
        await settle()
        (shown,) = on_screen(house)
        heads = [text[:9] for text in shown.texts]
        assert heads == [f"{message.short} 1/2 ", f"{message.short} 2/2 "]
        await acknowledge(house, message.short, part=1)
        assert states(house)[-1] == "sent", "half of it is not read"
        await acknowledge(house, message.short, part=2)
        assert states(house)[-1] == "read"


async def test_a_status_reads_what_came_last_and_nothing_else() -> None:
    """15 after a message reads the message, not the answer before it; and the other way round."""
    async with House() as house:
        await house.ask()
        (answer,) = house.results
        await acknowledge(house, answer.check, AckState.DELIVERED)
        message = await send(house)
        await settle()
        await house.status(15)
        assert on_record(house, message) == ["message", "read"]
        assert "read" not in house.disk.of(answer.check)
        second = await send(house, "CALL ME")
        await settle()
        await house.ask("TE99AAC")
        newer = house.results[-1]
        await house.status(15)
        assert "read" in house.disk.of(newer.check)
        assert on_record(house, second) == ["message"]


async def test_an_answer_comes_first_where_one_name_means_both() -> None:
    async with House() as house:
        await house.ask()
        (answer,) = house.results
        # The short forms run out at 32,768: the same four characters, long after.
        house.ids.check = lambda: f"01LATER{answer.check[-4:]}"  # type: ignore[method-assign]
        message = await send(house)
        await settle()
        await acknowledge(house, answer.check[-4:])
        assert "read" in house.disk.of(answer.check)
        assert on_record(house, message) == ["message"]


# --------------------------------------------------------------------------- whose it is


async def test_without_a_holder_it_is_refused_with_what_to_do() -> None:
    async with House(unbooked(config())) as house:
        with pytest.raises(ValueError, match=NOBODY):
            await send(house)
        await settle()
        assert not house.on_record("message")
        assert not on_screen(house)


@pytest.mark.parametrize("change", [other_holder, unbooked])
@pytest.mark.parametrize("when", ["written", "waiting", "delivered", "dead"])
async def test_the_next_holder_never_gets_it(change: Callable[[Config], Config], when: str) -> None:
    """Whatever it was doing when the radio changed hands."""
    async with House() as house:
        house.link.up = when == "delivered"
        house.link.failing = when != "delivered"
        if when == "written":
            house.ledger.gate.clear()
        sending = asyncio.ensure_future(send(house))
        await settle()
        if when == "delivered":
            await acknowledge(house, sending.result().id, AckState.DELIVERED)
        seen = len(on_screen(house))
        changed = change(house.config)
        if when == "dead":
            await house.restart(changed)
        else:
            house.core.apply(changed)
        house.ledger.gate.set()
        house.link.up, house.link.failing = True, False
        await settle()
        message = sending.result()
        await house.passes(30)
        await acknowledge(house, message.id)
        await house.status(15)
        assert len(on_screen(house)) == seen
        assert "read" not in on_record(house, message)
        assert ("stale" in on_record(house, message)) is (when != "delivered")
        await house.passes(600)
        assert not house.disk.outbox


async def test_a_unit_is_named_by_issi_or_by_a_call_sign_of_its_own() -> None:
    async with House() as house:
        by_name = house.core.roster.terminal(OTHER)
        assert by_name is not None
        message = await send(house, unit=by_name.callsign)
        assert message.terminal == OTHER
        with pytest.raises(KeyError):
            await send(house, unit="NOBODY-9")


# --------------------------------------------------------------------------- over a death


@pytest.mark.parametrize("state", ["written", "sent", "delivered", "read"])
async def test_killed_in_each_state_it_goes_on_as_it_was(state: str) -> None:
    async with House() as house:
        house.link.failing = state == "written"
        message = await send(house)
        await settle()
        if state in ("delivered", "read"):
            await acknowledge(house, message.id, AckState.DELIVERED)
        if state == "read":
            await acknowledge(house, message.id)
        before = len(on_screen(house))
        house.link.failing = False
        await house.restart()
        again = len(on_screen(house)) - before
        assert again == (1 if state in ("written", "sent") else 0)
        await acknowledge(house, message.id)
        assert on_record(house, message)[-1] == "read"
        assert on_record(house, message).count("read") == 1
        assert not house.disk.outbox
        assert house.all_settled()


async def test_over_a_restart_it_grows_no_younger() -> None:
    """Not even by a wall clock that somebody set back meanwhile."""
    async with House() as house:
        house.link.failing = True
        message = await send(house)
        await house.passes(590)
        house.clock.step_wall(-300_000)
        await house.restart()
        await house.passes(11)
        house.link.failing = False
        await house.passes(120)
        assert on_record(house, message) == ["message", "stale"]
        assert not on_screen(house)


async def test_a_row_that_cannot_be_read_costs_itself() -> None:
    async with House() as house:
        house.link.failing = True
        bad, good = await send(house), await send(house, "SECOND")
        row = house.disk.outbox[bad.id]
        house.disk.outbox[bad.id] = msgspec.structs.replace(row, payload=b"{")
        house.link.failing = False
        await house.restart()
        assert [each.id for each in on_screen(house)] == [good.id]
        assert bad.id not in house.disk.outbox


async def test_what_was_delivered_and_never_read_is_let_go_in_time() -> None:
    async with House() as house:
        message = await send(house)
        await settle()
        await acknowledge(house, message.id, AckState.DELIVERED)
        await house.passes(605)
        assert not house.disk.outbox
        assert on_record(house, message) == ["message", "delivered"]


# --------------------------------------------------------------------------- no record, no message


async def test_what_cannot_be_recorded_is_not_sent() -> None:
    async with House() as house:
        house.ledger.down = True
        with pytest.raises(LedgerUnavailable):
            await send(house)
        house.ledger.down = False
        await house.passes(30)
        assert not on_screen(house)
        assert not house.on_record("message")


async def test_whoever_asks_again_while_it_is_being_written_sends_it_once() -> None:
    """A console that gave up waiting did not take it back."""
    async with House() as house:
        house.ledger.gate.clear()
        first = asyncio.ensure_future(send(house))
        await settle()
        first.cancel()
        await settle()
        second = asyncio.ensure_future(send(house))
        await settle()
        house.ledger.gate.set()
        await settle()
        assert len(house.on_record("message")) == 1
        assert [each.id for each in on_screen(house)] == [second.result().id]


async def test_an_acknowledgement_waits_for_the_ledger_and_is_recorded_in_order() -> None:
    async with House() as house:
        message = await send(house)
        await settle()
        house.ledger.down = True
        await acknowledge(house, message.id, AckState.DELIVERED)
        await acknowledge(house, message.id)
        await house.passes(3)
        house.ledger.down = False
        await house.passes(3)
        assert on_record(house, message) == ["message", "delivered", "read"]
        assert not house.disk.outbox


# --------------------------------------------------------------------------- too much of it


async def test_so_many_a_minute_of_one_operator_and_to_one_radio() -> None:
    async with house_with(per_minute=2) as house:
        for text in ("ONE", "TWO"):
            await acknowledge(house, (await send(house, text)).id)
        with pytest.raises(ValueError, match=TOO_OFTEN):
            await send(house, "THREE", unit=OTHER)
        await house.passes(31)
        await send(house, "THREE")
        assert len(house.on_record("message")) == 3


async def test_so_many_wait_for_one_unit() -> None:
    async with house_with(per_minute=600) as house:
        house.link.failing = True
        for number in range(MOST_A_UNIT):
            await send(house, f"NUMBER {number}")
        with pytest.raises(ValueError, match=TOO_MANY):
            await send(house, "ONE MORE")
        await send(house, "TO ANOTHER", unit=OTHER)


async def test_messages_push_no_answer_out() -> None:
    """The Courier keeps 64 for one terminal: a message goes before the least of the answers."""
    async with house_with(per_minute=600) as house:
        house.link.failing = True
        message = await send(house)
        for number in range(64):
            await house.ask(f"TE99{number:03d}")
            if number % 8 == 7:
                await house.passes(1)
        assert on_record(house, message) == ["message", "stale"]
        assert not [record for record in house.on_record("stale") if record.check]
        house.link.failing = False
        await house.passes(121)
        assert len(house.heard(Result)) >= 64


# --------------------------------------------------------------------------- what it says


@pytest.mark.parametrize("text", ["SPEED <5", "a@b", "Москва", "\u6771", "50% > 40%", 'say "no"'])
def test_what_a_radio_cannot_show_is_refused_not_replaced(text: str) -> None:
    with pytest.raises(ValueError, match="A RADIO CANNOT SHOW") as refused:
        shown_text(text, 200)
    assert str(refused.value) == CANNOT_SHOW


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  Seán, 14\u00a0Bridge\nSt? ", "SEAN, 14 BRIDGE ST?"),
        ("stop!", "STOP."),
        ("a\u202eb", "AB"),
    ],
)
def test_it_is_shown_as_a_radio_can(text: str, shown: str) -> None:
    assert shown_text(text, 200) == shown


@pytest.mark.parametrize("text", ["", "   ", "\u200b", "A" * 201])
def test_an_empty_or_endless_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 TO 200"):
        shown_text(text, 200)


@pytest.mark.parametrize("budget", [73, 79, 140])
def test_parts_hold_the_whole_text_within_the_budget(budget: int) -> None:
    text = " ".join(f"WORD{number}" for number in range(28))
    made = parts("C7F3", text, budget)
    assert all(len(part) <= budget for part in made)
    assert all(part.startswith(f"C7F3 {n}/{len(made)} ") for n, part in enumerate(made, 1))
    assert " ".join(part[9:] for part in made) == f"MSG: {text}"
    with pytest.raises(ValueError, match=LONG_WORD):
        parts("C7F3", "X" * 132, budget)
