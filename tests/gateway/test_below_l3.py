"""Below L3 nothing about an answer shows in when it was so, or in when it came.

What the answer's words may say at each level: test_policy.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from gateway.errors import PncGarbled, PncInvalid
from gateway.messages import (
    AlarmChanged,
    CancelRequest,
    CheckDone,
    CheckRequest,
    Event,
    LocationFix,
    Notice,
    Noticed,
    Outcome,
    Receipt,
    Result,
    StatusReport,
    Viewer,
)
from gateway.settings import Config, SlotsSection
from tests.fake_pnc import Reply, vehicle_answer
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config
from tests.gateway.test_checks import with_rule

COUNCIL = "5001008"
"""A council officer: vehicles at L2, persons at L1."""


def in_slots(base: Config | None = None) -> Config:
    base = base if base is not None else config()
    section = SlotsSection(below_l3_s=(4.0, 9.0), release_s=10.0)
    settings = msgspec.structs.replace(base.settings, slots=section)
    return msgspec.structs.replace(base, settings=settings)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


@pytest.fixture
async def slotted() -> AsyncIterator[House]:
    async with House(in_slots()) as house:
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


# --------------------------------------------------------------------------- in its slot


class Heard:
    """When this terminal was sent what, in seconds from its question."""

    def __init__(self, house: House, issi: str = COUNCIL) -> None:
        self.house, self.issi = house, issi
        self.asked_s = house.clock.monotonic_s()
        self.at: list[tuple[str, float]] = []
        self.listen()

    def listen(self) -> None:
        """From now on; anew after a restart."""
        self.house.link.took = self._took

    def _took(self, terminal: str, message: object) -> None:
        if terminal == self.issi:
            at_s = self.house.clock.monotonic_s() - self.asked_s
            self.at.append((type(message).__name__, round(at_s, 3)))

    def of(self, name: str) -> list[float]:
        return [at_s for what, at_s in self.at if what == name]


async def answered_after(house: House, took_s: float, reply: Reply = vehicle_answer) -> Heard:
    """A council officer asks, the PNC replies after so long, and half a minute passes."""
    heard = Heard(house)
    hang = house.pnc.hang()
    await house.ask("TE99ABC", issi=COUNCIL, reason="8")
    await house.passes(took_s)
    hang.answer(reply)
    await settle(60)
    await house.passes(30 - took_s)
    return heard


@pytest.mark.parametrize(
    ("took_s", "slot_s"),
    [(0.05, 4.0), (3.9, 4.0), (4.1, 9.0), (8.9, 9.0), (9.1, 15.5), (14.9, 15.5), (20.0, 15.5)],
)
async def test_what_became_of_it_is_heard_in_its_slot(
    slotted: House, took_s: float, slot_s: float
) -> None:
    """The first moment that is not over when the outcome is on record; the last is the deadline's.
    The receipt comes at once."""
    heard = await answered_after(slotted, took_s)
    assert heard.of("Result")[0] == slot_s
    assert heard.of("Receipt") == [0.0]


@pytest.mark.parametrize("reply", [PncGarbled("oversize"), PncInvalid("400")])
async def test_a_failure_is_heard_in_its_slot(slotted: House, reply: BaseException) -> None:
    """It may come of what is on record: of a reply that is too large, say."""
    heard = await answered_after(slotted, 0.3, reply)
    assert heard.of("Result")[0] == 4.0


async def test_an_answer_that_cannot_be_written_is_said_in_its_slot(slotted: House) -> None:
    """When the record failed is when the answer came."""
    heard = Heard(slotted)
    hang = slotted.pnc.hang()
    await slotted.ask("TE99ABC", issi=COUNCIL, reason="8")
    slotted.ledger.down = True
    await slotted.passes(0.3)
    hang.answer()
    await slotted.passes(5.7)
    assert heard.of("Notice") == [4.0]


async def test_what_was_never_asked_is_refused_at_once(slotted: House) -> None:
    """Not asked, so it says nothing of any record."""
    heard = Heard(slotted)
    await slotted.ask("TE99ABC", issi=COUNCIL, reason="99")
    assert heard.of("Result") == [0.0]
    assert slotted.pnc.asked == []


async def test_at_l3_an_answer_comes_at_once(slotted: House) -> None:
    heard = Heard(slotted, ISSI)
    await slotted.ask("TE99ABC", issi=ISSI)
    assert heard.of("Result") == [0.0]


async def test_after_a_restart_the_slots_are_those_of_its_question(slotted: House) -> None:
    """What was ready waits for its slot; killed after it, it comes in the next one."""
    for dead_s, slot_s in ((1.0, 4.0), (5.0, 9.0)):
        heard = Heard(slotted)
        await slotted.ask("TE99ABC", issi=COUNCIL, reason="8")
        await slotted.passes(0.5)
        await slotted.kill()
        await slotted.clock.advance(dead_s)
        await slotted.restart()
        heard.listen()
        await slotted.passes(10)
        assert heard.of("Result")[0] == slot_s
        await slotted.read(slotted.newest(), issi=COUNCIL)


# --------------------------------------------------------------------------- who listens


LISTENER = Viewer("relay", "relay", roles=frozenset({"relay"}))
OPERATOR = Viewer("op", "console", roles=frozenset({"operator"}))


async def listened_to(
    took_s: float, viewer: Viewer, reply: Reply = vehicle_answer, *, old_fix: bool = False
) -> list[tuple[float, Event]]:
    """All that a viewer is shown of one question of a council officer, and when. old_fix: whose
    position is too old to help by."""
    async with House(in_slots()) as house:
        found: list[tuple[float, Event]] = []
        if old_fix:
            at = LocationFix(lat=52.57, lon=-0.24, fixed_at_ms=house.clock.wall_ms())
            house.say(at, issi=COUNCIL)
            await house.passes(130.37)  # not at the very moment of what looks once a second
        begun_s = house.clock.monotonic_s()

        def heard(event: Event) -> None:
            found.append((round(house.clock.monotonic_s() - begun_s, 3), event))

        house.core.bus.tap(heard, viewer)
        hang = house.pnc.hang()
        await house.ask("TE99ABC", issi=COUNCIL, reason="8")
        await house.passes(took_s)
        hang.answer(reply)
        await settle(60)
        await house.passes(30 - took_s)
    return found


def _of_the_first(told: list[tuple[float, Event]]) -> list[tuple[float, Event]]:
    """Without a supplement, which what did not come in time has."""
    first = getattr(told[0][1], "check", "")
    return [(at_s, event) for at_s, event in told if getattr(event, "check", "") == first]


@pytest.mark.parametrize("reply", [vehicle_answer, PncGarbled("oversize")])
async def test_who_listens_to_the_feed_learns_no_sooner_than_the_terminal(reply: Reply) -> None:
    """The same events with the same figures at the same moments, whatever the PNC took: opened,
    asked, done in the slot. Not a word of a step between, nor of a reply that came too late."""
    quick, slow = [await listened_to(took_s, LISTENER, reply) for took_s in (0.1, 3.7)]
    assert quick == slow
    done_at_s, done = next((at_s, each) for at_s, each in quick if isinstance(each, CheckDone))
    assert done_at_s == 4.0
    assert (done.elapsed_s, done.overhead_s, done.told) == (4.0, None, "slot")
    late, quick = [
        _of_the_first(each) for each in (await listened_to(20.0, LISTENER, reply), quick)
    ]
    # Done and sent are of one moment; which of the two comes first then is nobody's news.
    kinds = [sorted(type(each).__name__ for _, each in told) for told in (late, quick)]
    assert kinds[0] == kinds[1]
    assert [at_s for at_s, each in late if isinstance(each, CheckDone)] == [15.5]


async def test_an_alarm_about_the_radio_does_not_end_with_the_answer() -> None:
    """POSITION OLD stands while a question is under way: for all others until its slot."""
    quick, slow = [await listened_to(took_s, LISTENER, old_fix=True) for took_s in (4.1, 8.9)]
    assert "SEM" in [each.rule for _, each in slow if isinstance(each, AlarmChanged)]
    assert quick == slow


async def test_who_may_know_the_class_is_told_when_it_is_there() -> None:
    """Once: the control room does not wait for a slot, and hears of no outcome twice."""
    for took_s in (0.1, 3.7):
        heard = await listened_to(took_s, OPERATOR)
        ((at_s, done),) = [(s, each) for s, each in heard if isinstance(each, CheckDone)]
        assert (at_s, done.told) == (took_s, "early")
        assert done.elapsed_s == pytest.approx(took_s)


async def test_the_picture_is_no_sooner_than_the_stream(slotted: House) -> None:
    """A snapshot between the answer and its slot."""
    board = slotted.core.board
    await slotted.ask("TE99ABC", issi=COUNCIL, reason="8")
    for passed_s, listener, operator in ((1.0, "pnc", "done"), (4.0, "done", "done")):
        await slotted.passes(passed_s)
        for viewer, stage in ((LISTENER, listener), (OPERATOR, operator)):
            (now,) = board.snapshot(viewer).checks
            assert now.stage == stage
            assert (now.done is not None) == (stage == "done")


async def test_at_l3_everybody_is_told_at_once(slotted: House) -> None:
    await slotted.ask("TE99ABC", issi=ISSI)
    (now,) = slotted.core.board.snapshot(LISTENER).checks
    assert now.done is not None
    assert now.done.told == ""


async def busy_after(took_s: float) -> list[str]:
    """What a terminal hears that asks more than it may, before the slots of what it asked first."""
    async with House(in_slots(config(per_terminal_open=2))) as house:
        hangs = [house.pnc.hang() for _ in range(2)]
        for number in range(2):
            await house.ask(f"TE99AB{number}", issi=COUNCIL, reason="8")
        await house.passes(took_s)
        for hang in hangs:
            hang.answer()
        await house.passes(2.0 - took_s)
        await house.ask("TE99ABC", issi=COUNCIL, reason="8")
        await house.passes(1.0)
        receipts = [f"{each.accepted} {each.why}" for each in house.heard(Receipt, COUNCIL)]
        await house.passes(4.5)
        await house.ask("TE99ABD", issi=COUNCIL, reason="8")
        return [*receipts, str(house.heard(Receipt, COUNCIL)[-1].accepted)]


async def test_how_many_it_may_ask_tells_nothing_of_an_answer() -> None:
    """Until its slot an answer counts as none: else BUSY, or not, would say that it is there."""
    assert await busy_after(0.1) == await busy_after(1.9)
    assert await busy_after(0.1) == ["True ", "True ", "False BUSY RETRY", "True"]


# --------------------------------------------------------------------------- asked for it


async def heard_of(
    said: Callable[[House, CheckRequest], object], took_s: float, reply: Reply = vehicle_answer
) -> tuple[list[tuple[str, float]], list[str]]:
    """What the terminal hears, and when, if it says this a second after its question."""
    async with House(in_slots()) as house:
        heard = Heard(house)
        hang = house.pnc.hang()
        question = house.question("TE99ABC", reason="8")
        house.say(question, issi=COUNCIL)
        for at_s in sorted((took_s, 1.0)):
            await house.passes(at_s - (house.clock.monotonic_s() - heard.asked_s))
            if at_s == took_s:
                hang.answer(reply)
            else:
                said(house, question)
            await settle(60)
        await house.passes(3.9 - max(took_s, 1.0))
        texts = [str(m.text) for m in house.heard(Notice, COUNCIL)]
        texts += [f"{m.accepted} {m.why}" for m in house.heard(Receipt, COUNCIL)]
        return heard.at, texts


def again(house: House, question: CheckRequest) -> None:
    house.say(question, issi=COUNCIL)


def take_back(house: House, question: CheckRequest) -> None:
    house.say(CancelRequest(check=question.ref), issi=COUNCIL)


def take_back_whichever(house: House, _question: CheckRequest) -> None:
    house.say(CancelRequest(), issi=COUNCIL)


@pytest.mark.parametrize("said", [again, take_back, take_back_whichever])
async def test_a_terminal_cannot_find_out_whether_it_is_answered(
    said: Callable[[House, CheckRequest], object],
) -> None:
    """Ready or not, refused by the PNC or not: until its slot a repeat and a cancellation are
    heard alike, and neither brings it on."""
    waiting, words = await heard_of(said, 2.0)
    assert (waiting, words) == await heard_of(said, 0.1)
    assert (waiting, words) == await heard_of(said, 0.1, PncInvalid("400"))
    assert "Result" not in [what for what, _ in waiting]


async def test_below_l3_nobody_is_asked_whether_they_are_free() -> None:
    """That a prompt appears would tell of a record: whatever the rule says, the answer comes in its
    slot, and 15 before it is 15 for nothing."""
    heard = {}
    for took_s in (0.1, 2.0):
        async with House(in_slots(with_rule(config(), prompt=True))) as house:
            heard[took_s] = Heard(house)
            hang = house.pnc.hang()
            await house.ask("TE99ABC", issi=COUNCIL, reason="8")
            await house.passes(took_s)
            hang.answer()
            await house.passes(2.5 - took_s)
            house.say(StatusReport(code=15), issi=COUNCIL)
            await house.passes(10)
    assert heard[0.1].at == heard[2.0].at
    assert heard[0.1].of("Notice") == []
    assert heard[0.1].of("Result")[0] == 4.0


@pytest.mark.parametrize("act", ["released", "withheld"])
async def test_what_is_held_is_heard_of_in_its_slot_and_then_on_the_grid(act: str) -> None:
    """WITH CONTROL as any outcome would come; what control says later, on its own grid; the same
    words for every answer."""
    heard = []
    for mark, took_s, looked_s in (("TE99AAB", 0.1, 12.5), ("TE99STV", 2.0, 17.0)):
        async with House(in_slots(with_rule(config(), hold=True))) as house:
            listens = Heard(house)
            hang = house.pnc.hang()
            await house.ask(mark, issi=COUNCIL, reason="8")
            await house.passes(took_s)
            hang.answer()
            await house.passes(looked_s - took_s)
            house.rules_on(house.newest(), act)
            await house.passes(20 - looked_s)
            words = [(n.kind, n.text[4:]) for n in house.heard(Notice, COUNCIL)]
            heard.append((listens.at, words))
    assert heard[0] == heard[1]
    at, words = heard[0]
    assert words[0] == ("held", " WITH CONTROL. WAIT")
    assert at[-1][1] == 20.0


async def test_what_an_operator_releases_comes_on_a_grid_of_its_own() -> None:
    """How long an operator looked at it tells of it, too."""
    async with House(in_slots(with_rule(config(), hold=True))) as house:
        heard = Heard(house)
        await house.ask("TE99ABC", issi=COUNCIL, reason="8")
        await house.passes(12.5)
        house.rules_on(house.newest())
        await house.passes(10)
        assert heard.of("Result")[0] == 20.0


@pytest.mark.parametrize("killed", [False, True])
async def test_danger_is_undelivered_from_its_slot_on(slotted: House, killed: bool) -> None:
    """DNR: five seconds that the terminal had, not five that we made it wait."""
    slotted.pnc.hang().answer()
    await slotted.ask("TE99STV", issi=COUNCIL, reason="8")
    if killed:
        await slotted.restart()
    await slotted.passes(8.5)
    assert len(slotted.heard(Result, COUNCIL)) == 1
    assert slotted.core.alarms.open() == ()
    await slotted.passes(2)
    assert [alarm.rule for alarm in slotted.core.alarms.open()] == ["DNR"]


async def test_what_is_delivered_in_its_slot_raises_nothing(slotted: House) -> None:
    await slotted.ask("TE99STV", issi=COUNCIL, reason="8")
    await slotted.passes(4.5)
    await slotted.read(slotted.newest(), issi=COUNCIL)
    await slotted.passes(20)
    assert slotted.core.alarms.open() == ()
