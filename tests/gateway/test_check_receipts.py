"""A receipt proves one check and no other: one that was given before is drawn anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from gateway import __version__
from gateway.check_states import Cause
from gateway.checks import RECEIPTS_MOST
from gateway.messages import Outcome, Result
from tests.fakes import settle
from tests.gateway.house import House

TAKEN = "TAKE-0001"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def drawing(house: House, *receipts: str) -> None:
    """These come next; then as always."""
    left: Iterator[str] = iter(receipts)
    usual = house.ids.receipt
    house.ids.receipt = lambda: next(left, None) or usual()  # type: ignore[method-assign]


async def one_that_took(house: House, receipt: str) -> None:
    drawing(house, receipt)
    house.say(house.question("TE99ABC"))
    await settle()
    await house.read(house.newest())


def receipts_of(house: House, check: str) -> set[str]:
    """Wherever one stands that belongs to this check."""
    row = house.disk.checks[check]
    found = {record.receipt for record in house.disk.records if record.check == check}
    found |= {row.receipt} | {each.receipt for each in house.results if each.check == check}
    stored = [row.result] + [
        each.content
        for each in house.disk.records
        if each.check == check and each.event == "disclosed"
    ]
    for body in stored:
        if body is not None:
            found.add(msgspec.json.decode(body, type=Result).receipt)
    return found


async def test_a_receipt_that_was_given_is_drawn_anew(house: House) -> None:
    await one_that_took(house, TAKEN)
    first = house.newest()
    drawing(house, TAKEN, TAKEN, "FRES-0001")
    house.say(house.question("TE99STV"))
    await settle()
    answer = house.results[-1]
    assert answer.check != first
    assert answer.outcome is Outcome.ANSWERED
    assert receipts_of(house, answer.check) == {"FRES-0001"}
    assert receipts_of(house, first) == {TAKEN}
    assert house.disk.of(answer.check) == ["opened", "asked", "answered", "disclosed"]


async def test_also_when_all_of_it_is_written_at_once(house: House) -> None:
    """A refusal: opening, outcome and answer in one commit."""
    await one_that_took(house, TAKEN)
    drawing(house, TAKEN, "FRES-0001")
    house.say(house.question("TE99STV", reason="99"))
    await settle()
    answer = house.results[-1]
    assert answer.outcome is Outcome.REFUSED
    assert receipts_of(house, answer.check) == {"FRES-0001"}
    [waiting] = house.disk.outbox.values()
    assert msgspec.json.decode(waiting.payload, type=Result).receipt == "FRES-0001"


async def test_also_while_the_disk_is_slow(house: House) -> None:
    """Its officer waits for one receipt, and hears of no other."""
    await one_that_took(house, TAKEN)
    drawing(house, TAKEN, "FRES-0001")
    house.ledger.gate.clear()
    house.say(house.question("TE99STV"))
    await house.passes(2.0)
    house.ledger.gate.set()
    await settle()
    answer = house.results[-1]
    assert answer.outcome is Outcome.ANSWERED
    assert receipts_of(house, answer.check) == {"FRES-0001"}


async def test_that_none_is_free_is_no_reason_to_give_one_twice(house: House) -> None:
    """Then it cannot be recorded, and its officer hears so; nothing was asked."""
    await one_that_took(house, TAKEN)
    asked = len(house.pnc.asked)
    drawing(house, *[TAKEN] * RECEIPTS_MOST)
    house.say(house.question("TE99STV"))
    await settle()
    assert len(house.pnc.asked) == asked
    said = house.receipts[-1]
    assert (said.accepted, said.why) == (False, f"{Cause.NOT_RECORDED}. USE VOICE")
    assert [row.receipt for row in house.disk.checks.values()] == [TAKEN]
    assert house.all_settled()


async def test_every_record_of_a_check_says_how_long_after_its_question_it_was(
    house: House,
) -> None:
    """By the monotonic clock, whatever the wall clock does; and which program and configuration."""
    await house.ask("TE99STV")
    await house.passes(2.5)
    house.clock.step_wall(-3_600_000)
    await house.read(house.newest())
    records = [each for each in house.disk.records if each.check]
    assert [each.event for each in records] == ["opened", "asked", "answered", "disclosed", "read"]
    assert [each.latency_ms for each in records] == [0, 0, 0, 0, 2500]
    assert {each.config for each in house.disk.records} == {house.config.digest}
    assert {each.build for each in house.disk.records} == {__version__}
    assert all(each.mono_ms for each in house.disk.records)
