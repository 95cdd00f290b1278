"""A cancellation that overtakes its question (M05): not asked, told, on record; within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.early_cancels import MOST, PER_TERMINAL, WINDOW_S, EarlyCancels
from gateway.messages import CancelRequest, CheckRequest, Notice, Outcome, VehicleKey
from gateway.rendering import EARLY_CANCEL
from tests.fakes import FakeMeter, settle
from tests.gateway.house import OTHER, House, other_holder
from tests.gateway.test_checks import with_policy


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def typed(number: str, mark: str = "TE99ABC") -> CheckRequest:
    """As an officer types it with a reference of their own: `V TE99ABC R1 Q12`."""
    text = f"V {mark} R1 Q{number}"
    return CheckRequest(key=VehicleKey(vrm=mark), reason="1", typed=text, client_ref=number)


async def say(house: House, *messages: CheckRequest | CancelRequest) -> None:
    for message in messages:
        house.say(message)
        await settle()


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("Q12", typed("12")),
        ("A1", CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref="a1")),
    ],
    ids=["typed", "json"],
)
async def test_a_question_that_its_cancellation_overtook_is_not_asked(
    house: House, name: str, question: CheckRequest
) -> None:
    """One clear answer, on record as cancelled; its copies get the same; other questions pass."""
    if question.ref:
        question = house.question("TE99ABC", ref=question.ref)
    await say(house, CancelRequest(check=name))
    assert [(n.kind, n.text) for n in house.notices] == [("cancelled", EARLY_CANCEL)]
    await say(house, question, question, house.question("TE99AAB"))
    assert [query.key for query in house.pnc.asked] == [VehicleKey(vrm="TE99AAB")]
    told = [(r.outcome, r.why) for r in house.results if r.outcome is Outcome.REFUSED]
    assert set(told) == {(Outcome.REFUSED, "CANCELLED")}
    assert len(house.on_record("cancelled")) == 1
    check = house.on_record("cancelled")[0].check
    assert house.disk.of(check)[:2] == ["opened", "cancelled"]
    assert house.all_settled()


async def test_it_serves_once_and_in_time(house: House) -> None:
    """References come again: what follows under the same one is asked."""
    await say(house, CancelRequest(check="Q1"), typed("1"), typed("1", "TE99AAB"))
    assert len(house.pnc.asked) == 1
    await say(house, CancelRequest(check="Q2"))
    await house.passes(WINDOW_S + 1)
    await say(house, typed("2"))
    assert len(house.pnc.asked) == 2
    assert house.meter.total("queue_dropped_total", queue="cancel", reason="expired") == 1


async def test_what_has_come_and_ended_is_no_question_to_come(house: House) -> None:
    """Too late: nothing to cancel, and nothing lies in wait for the next of that name."""
    await say(house, typed("3"), CancelRequest(check="Q3"))
    assert [n.text for n in house.notices] == ["NOTHING TO CANCEL"]
    await say(house, typed("3", "TE99AAB"))
    assert len(house.pnc.asked) == 2


async def test_one_that_is_open_is_taken_back_by_its_own_name(house: House) -> None:
    """Not the newest, when another is named."""
    house.pnc.hang()
    await say(house, typed("4"))
    house.pnc.hang()
    await say(house, typed("5", "TE99AAB"), CancelRequest(check="Q4"))
    assert [(r.client_ref, r.why) for r in house.results] == [("4", "CANCELLED")]


async def test_it_is_the_officers_own(house: House) -> None:
    """Another terminal's question of that name is asked, and so is the next holder's; an X that
    names nothing lies in wait for nothing, nor does a stranger's."""
    await say(house, CancelRequest(check="Q6"))
    house.say(typed("6"), issi=OTHER)
    await settle()
    assert len(house.pnc.asked) == 1
    house.core.apply(other_holder(house.config))
    await say(house, typed("6"))
    assert len(house.pnc.asked) == 2
    await say(house, CancelRequest(), typed("7"))
    assert len(house.pnc.asked) == 3
    house.say(CancelRequest(check="Q8"), issi="9999999")
    await settle()
    assert not house.core.checks._early
    assert [n.text for n in house.heard(Notice, "9999999")] in ([], ["NOTHING TO CANCEL"])


async def test_policy_speaks_first(house: House) -> None:
    """Who may not ask is refused as such, though it was taken back."""
    house.core.apply(with_policy(house.config, rules=()))
    await say(house, CancelRequest(check="Q9"), typed("9"))
    assert len(house.on_record("denied")) == 1
    assert house.pnc.asked == []


def test_one_terminal_cannot_push_out_the_others() -> None:
    """Its own oldest gives way; in all the oldest; each is counted."""
    meter = FakeMeter()
    early = EarlyCancels(meter)
    early.lay("1", "a", "Q1", 0.0)
    for n in range(PER_TERMINAL + 3):
        early.lay("2", "b", f"Q{n}", 1.0)
    assert len(early) == 1 + PER_TERMINAL
    assert meter.total("queue_dropped_total", queue="cancel", reason="terminal_limit") == 3
    assert not early.took("2", "b", ("Q2",), 2.0)
    assert early.took("2", "b", ("Q3",), 2.0)
    for n in range(MOST):
        early.lay(str(n + 10), "c", "Q1", 3.0)
    assert len(early) == MOST
    assert meter.total("queue_dropped_total", queue="cancel", reason="full") == PER_TERMINAL
    assert not early.took("1", "a", ("Q1",), 4.0)


def test_laid_twice_it_is_one_and_counts_from_the_last() -> None:
    early = EarlyCancels(FakeMeter())
    early.lay("1", "a", "Q1", 0.0)
    early.lay("1", "a", "Q1", 50.0)
    assert len(early) == 1
    assert early.took("1", "a", ("R1", "Q1"), 100.0)
    assert not early.took("1", "a", ("R1", "Q1"), 100.0)
