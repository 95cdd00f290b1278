"""A question that ends the process each time it is brought (M13): counted on disk, then put away.

Dying is a commit that never returns, and a restart on what is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from gateway.messages import CheckRequest, Outcome
from gateway.ports import Change, PutCheck, Record
from gateway.trials import MARK_MS, TRIALS_MOST, TURN_S, Trial
from tests.fake_ledger import FakeLedger
from tests.fakes import settle
from tests.gateway.house import House, Said

DEADLY = "TE99DIE"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whoever writes a question about DEADLY never returns; one entry each time."""
    died: list[str] = []
    write = FakeLedger._commit

    async def commit(
        self: FakeLedger, records: Sequence[Record], changes: Sequence[Change]
    ) -> None:
        if any(DEADLY.encode() in (record.content or b"") for record in records):
            died.append(DEADLY)
            await asyncio.Event().wait()
        await write(self, records, changes)

    monkeypatch.setattr(FakeLedger, "_commit", commit)
    return died


async def brought(house: House, *questions: CheckRequest, again: bool = True) -> list[Said]:
    """What the broker still holds, in order, as it comes with a new connection."""
    said = [house.say(question, redelivered=again) for question in questions]
    await settle(60)
    return said


def trials(house: House) -> list[int]:
    rows = [row for row in house.disk.checks.values() if row.id.startswith("trial:")]
    return [msgspec.json.decode(row.state, type=Trial).lives for row in rows]


@pytest.mark.parametrize("typed", [False, True], ids=["json", "typed"])
async def test_a_question_that_ends_us_each_time_is_put_away(
    house: House, deaths: list[str], typed: bool
) -> None:
    """After three deaths it is not tried again: a failure on record, its officer told, the bearer
    rid of it, and everybody else is served."""
    poison = house.typed(DEADLY) if typed else house.question(DEADLY)
    await brought(house, poison, again=False)
    for _ in range(TRIALS_MOST):
        await house.restart()
        await brought(house, poison)
    assert len(deaths) == 3
    await house.restart()
    (said,) = await brought(house, poison)
    assert len(deaths) == 3, "never tried again"
    assert said.settled == 1
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.FAILED, "GATEWAY ERROR")]
    assert house.disk.of(house.results[0].check)[:2] == ["opened", "answered"]
    assert house.meter.total("queue_dropped_total", queue="check", reason="poison") == 1
    assert "check.put_away" in [event for event, _ in house.journal.lines]
    # A copy that its terminal sends anew was never delivered before: the same word, untried.
    (copy,) = await brought(house, poison, again=False)
    assert (len(deaths), copy.settled) == (3, 1)
    await house.ask("TE99AAB")
    assert house.results[-1].outcome is Outcome.ANSWERED
    assert all(DEADLY.encode() not in (record.content or b"") for record in house.disk.records)


async def test_who_comes_along_with_it_is_not_blamed(house: House, deaths: list[str]) -> None:
    """The mark falls on the one whose turn it is; the others are answered once it is put away."""
    poison, innocent = house.question(DEADLY), house.question("TE99AAB")
    for life in range(TRIALS_MOST + 1):
        await brought(house, poison, innocent, again=life > 0)
        await house.restart()
    assert trials(house) == [TRIALS_MOST]
    said = await brought(house, poison, innocent)
    assert [each.settled for each in said] == [1, 1]
    assert {r.outcome for r in house.results} == {Outcome.FAILED, Outcome.ANSWERED}
    assert len(house.pnc.asked) == 1


async def test_a_connection_that_breaks_is_no_death(house: House) -> None:
    """However often a broker brings it in one life: it is tried, and asked once."""
    question = house.question()
    for _ in range(TRIALS_MOST + 3):
        await brought(house, question)
    assert (len(house.pnc.asked), trials(house)) == (1, [0])
    assert {r.outcome for r in house.results} == {Outcome.ANSWERED}
    assert house.all_settled()


@pytest.mark.parametrize("typed", [False, True], ids=["json", "typed"])
async def test_lives_that_got_through_with_it_do_not_count(house: House, typed: bool) -> None:
    """Acknowledgements that were lost, restarts for other reasons, the same text another day."""
    question = house.typed() if typed else house.question()
    for _ in range(TRIALS_MOST + 2):
        await brought(house, question)
        await house.restart()
        await house.passes(70)
    assert {r.outcome for r in house.results} == {Outcome.ANSWERED}
    assert house.all_settled()


@pytest.mark.parametrize("typed", [False, True], ids=["json", "typed"])
async def test_what_has_its_answer_is_never_put_away(house: House, typed: bool) -> None:
    """We died while copies of it came, for whatever reason: the stored answer, and no second."""
    question = house.typed() if typed else house.question()
    await brought(house, question, again=False)
    for _ in range(TRIALS_MOST + 1):
        await house.restart()
        house.say(question, redelivered=True)
        await settle(6)
    await house.restart()
    await brought(house, question)
    assert trials(house) == [TRIALS_MOST], "else this proves nothing"
    assert {r.outcome for r in house.results} == {Outcome.ANSWERED}
    assert len(house.pnc.asked) == 1


async def test_old_deaths_do_not_count(house: House, deaths: list[str]) -> None:
    """The broker lost it after two; the same text an hour later is another question."""
    poison = house.typed(DEADLY)
    for _ in range(TRIALS_MOST):
        await brought(house, poison)
        await house.restart()
    await house.passes(MARK_MS / 1000 + 1)
    await brought(house, poison)
    assert (len(deaths), house.results) == (TRIALS_MOST + 1, [])


async def test_what_comes_once_costs_nothing(house: House) -> None:
    """No mark, no read: the way of every question is as it was."""
    await house.ask()
    assert trials(house) == []
    assert house.core.checks._trials._last is None


async def test_a_mark_that_cannot_be_read_or_written_holds_nobody_up(house: House) -> None:
    """Not counted: better tried once more than put away by mistake."""
    first, second = house.question(), house.question()
    await brought(house, first)
    for id_, row in list(house.disk.checks.items()):
        if id_.startswith("trial:"):
            house.disk.checks[id_] = msgspec.structs.replace(row, state=b"garbage")
    await brought(house, first)
    house.ledger.reads_down = True
    await brought(house, second)
    assert len(house.pnc.asked) == 2
    assert house.all_settled()
    assert house.fatal == []


async def test_a_disk_that_hangs_is_not_silence_for_those_who_wait_their_turn(
    house: House,
) -> None:
    """Nobody waits for a mark longer than a moment: then it is tried without, and told in time."""
    house.ledger.gate.clear()
    await brought(house, *(house.question() for _ in range(3)))
    await house.passes(3 * TURN_S)
    await house.passes(house.config.settings.ledger.stall_s + 2)
    assert [n.kind for n in house.notices] == ["unrecorded"] * 3
    house.ledger.gate.set()
    await house.passes(2)
    assert house.all_settled()


async def test_a_mark_is_no_check(house: House) -> None:
    """Nothing that looks for checks finds it, whatever it looks for."""
    await brought(house, house.question())
    await house.read(house.newest())
    assert await house.ledger.open_checks() == []
    assert [row.terminal for row in house.disk.checks.values() if not row.short] == [""]
    marks = [PutCheck(row) for row in house.disk.checks.values() if not row.short]
    await house.ledger.commit([], marks)
    await house.restart()
    assert len(house.results) == 1
