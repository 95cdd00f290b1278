"""Replies that nobody is shown (P04, P06): on record as a fingerprint, counted, on no screen."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.errors import PncGarbled
from gateway.messages import Outcome
from tests.fakes import settle
from tests.gateway.house import House

MARK = b'{"bytes":7,"reason":"second","sha256":"ab"}'


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def told(house: House) -> int:
    """How much has reached anybody: terminals and consoles."""
    return len(house.link.sent) + len(house.events)


@pytest.mark.parametrize("read", [False, True], ids=["while it waits", "when it was read"])
async def test_a_second_reply_is_on_record_and_on_no_screen(house: House, read: bool) -> None:
    """P06: with its attempt and a fingerprint, and the first stands as it was."""
    await house.ask("TE99ABC")
    check = house.newest()
    if read:
        await house.read(check)
    before, row = told(house), house.disk.checks[check]
    house.pnc.also[-1]("second", MARK)
    await settle()
    (record,) = house.on_record("security", check)
    assert (record.attempt, record.content) == (1, MARK)
    assert record.detail == "second reply, shown to nobody"
    assert (told(house), house.disk.checks[check]) == (before, row)
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    assert house.meter.total("pnc_unusable_replies_total", reason="second") == 1
    reasons = [fields.get("reason") for line, fields in house.journal.lines if line == "security"]
    assert reasons == ["second reply"]


async def test_of_a_reply_that_is_refused_only_a_fingerprint_is_on_record(house: House) -> None:
    """P04: with the outcome; nothing of what it said."""
    house.pnc.script.append(PncGarbled("oversize", MARK))
    await house.ask("TE99ABC")
    (ended,) = house.on_record("answered")
    assert (ended.outcome, ended.attempt, ended.content) == ("failed", 1, MARK)
    assert house.meter.total("pnc_unusable_replies_total", reason="oversize") == 1


async def test_refused_when_it_was_too_late_it_is_on_record_all_the_same(house: House) -> None:
    """After the outcome: by itself; there is nothing to ask again for, so nobody is told."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    await house.passes(16)
    before = told(house)
    hang.answer(PncGarbled("truncated", MARK))
    await settle()
    (record,) = house.on_record("security")
    assert (record.attempt, record.content) == (1, MARK)
    assert house.on_record("answered")[0].content is None
    assert told(house) == before


async def test_a_ledger_that_is_away_costs_the_record_and_nothing_else(house: House) -> None:
    await house.ask("TE99ABC")
    house.ledger.down = True
    house.pnc.also[-1]("stray", MARK)
    await settle()
    assert house.on_record("security") == []
    assert house.meter.total("queue_dropped_total", queue="audit", reason="unavailable") == 1
    house.ledger.down = False
    await house.ask("TE99AAB")
    assert house.results[-1].outcome is Outcome.ANSWERED
    assert house.fatal == []
