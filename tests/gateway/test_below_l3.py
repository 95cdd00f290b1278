"""Below L3 nothing about an answer shows in when it was so, or in when it came.

What the answer's words may say at each level: test_policy.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from gateway.errors import PncGarbled
from gateway.messages import Noticed, Outcome, Result
from tests.fake_pnc import Reply, vehicle_answer
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config

COUNCIL = "5001008"
"""A council officer: vehicles at L2, persons at L1."""


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


# --------------------------------------------------------------------------- as of


def unreadable() -> BaseException:
    return PncGarbled("oversize")


async def result_after(house: House, took_s: float, reply: Callable[[], Reply]) -> Result:
    hang = house.pnc.hang()
    await house.ask("TE99ABC", issi=COUNCIL, reason="8")
    await house.passes(took_s)
    hang.answer(reply())
    await settle(60)
    return house.heard(Result, COUNCIL)[-1]


@pytest.mark.parametrize("reply", [lambda: vehicle_answer, unreadable])
async def test_an_answer_is_as_of_its_question(house: House, reply: Callable[[], Reply]) -> None:
    """The PNC's own time would show how long it looked; so would ours, of a failure."""
    for took_s in (0.1, 7.0):
        asked_ms = house.clock.wall_ms()
        result = await result_after(house, took_s, reply)
        assert result.as_of_ms == asked_ms


async def test_at_l3_it_is_as_of_when_the_pnc_said_so(house: House) -> None:
    await house.ask("TE99ABC", issi=ISSI)
    (result,) = house.results
    assert result.as_of_ms != house.disk.checks[result.check].opened_at_ms


async def test_a_restart_does_not_forget_the_level() -> None:
    """What goes on after a kill is as of its question, too, though it fails without an answer."""
    async with House(config(retries=0)) as house:
        house.pnc.hang()
        await house.ask("TE99ABC", issi=COUNCIL, reason="8")
        await house.passes(3)
        await house.restart()
        await settle(60)
        (result,) = house.heard(Result, COUNCIL)
        assert result.outcome is Outcome.FAILED
        assert result.as_of_ms == house.disk.checks[result.check].opened_at_ms


# --------------------------------------------------------------------------- late


async def test_of_a_late_reply_the_terminal_hears_nothing(house: House) -> None:
    """On record and told to the control room; when it came would show what it was."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC", issi=COUNCIL, reason="8")
    await house.passes(20)
    before = len(house.link.sent)
    hang.answer()
    await settle()
    assert len(house.link.sent) == before
    assert [each.kind for each in house.events if isinstance(each, Noticed)] == ["late"]
    assert len(house.on_record("late_answer")) == 1
