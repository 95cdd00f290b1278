"""Who owns a task: a link is opened again, a broken one gives up, and a crew is bounded in time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from itertools import pairwise

import pytest

from gateway.errors import LinkDown
from gateway.messages import LinkState
from gateway.supervise import BACKOFF_CAP_S, CRASHES, REFUSED_S, Crew, keep
from tests.fakes import FakeClock, FakeIds, FakeJournal, FakeMeter, settle


class Highest(FakeIds):
    """Chance that always takes the ceiling, so that back-off can be measured."""

    def uniform(self, low: float, high: float) -> float:
        return high


class Line:
    """A link whose runs end as the script says: `up_s` seconds open, then this error."""

    def __init__(self, *script: tuple[float | None, Exception | None]) -> None:
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.script = list(script)
        self.opened_at_s: list[float] = []
        self.seen: list[tuple[LinkState, str]] = []
        self.answers_after_s = 0.0
        self.returned: Callable[[], bool] | None = None
        self.again = asyncio.Event()
        self.closed = 0

    async def run(self, up: Callable[[], None]) -> None:
        self.opened_at_s.append(self.clock.monotonic_s())
        up_s, error = self.script.pop(0) if self.script else (None, LinkDown("gone"))
        if self.answers_after_s:
            await self.clock.sleep(self.answers_after_s)
        if up_s is not None:
            up()
            try:
                await self.clock.sleep(up_s)
            finally:
                self.closed += 1
        if error is not None:
            raise error

    def start(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(
            keep(
                self.run,
                name="line",
                clock=self.clock,
                ids=Highest(),
                journal=self.journal,
                meter=self.meter,
                seen=lambda state, reason: self.seen.append((state, reason)),
                returned=self.returned,
                again=self.again,
            )
        )

    def gaps(self) -> list[float]:
        return [round(later - earlier, 3) for earlier, later in pairwise(self.opened_at_s)]


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_link_that_goes_down_is_opened_again_ever_more_rarely() -> None:
    """0.2 s doubling to the cap; never given up."""
    line = Line()
    task = line.start()
    await line.clock.advance(60)
    gaps = line.gaps()
    assert gaps[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF_CAP_S]
    assert set(gaps[5:]) == {BACKOFF_CAP_S}
    assert not task.done()
    await stop(task)


async def test_an_attempt_that_waited_is_not_followed_by_as_long_a_pause() -> None:
    """M02: a broker that is stopped takes connections and is silent. Five seconds in vain are the
    pause: when it goes on, we are asking."""
    line = Line()
    line.answers_after_s = 5.0
    task = line.start()
    await line.clock.advance(60)
    assert set(line.gaps()[6:]) == {5.05}
    await stop(task)


async def test_what_has_returned_is_opened_at_once() -> None:
    """S01: not at the end of a back-off, and the back-off begins anew; for a refusal that is the
    same as no return."""
    line, back = Line(), False

    def returned() -> bool:
        nonlocal back
        there, back = back, False
        return there

    line.returned = returned
    task = line.start()
    await line.clock.advance(30)
    assert line.gaps()[-1] == BACKOFF_CAP_S
    pauses, back = len(line.opened_at_s), True
    await line.clock.advance(0.5)
    assert len(line.opened_at_s) > pauses
    await line.clock.advance(1.0)
    assert line.gaps()[pauses : pauses + 2] == [0.2, 0.4]
    await stop(task)
    refused = Line((None, LinkDown("refused", refused=True)))
    refused.returned = lambda: True
    task = refused.start()
    await refused.clock.advance(REFUSED_S - 1)
    assert len(refused.opened_at_s) == 1
    await stop(task)


@pytest.mark.parametrize(("healthy_s", "expected"), [(59.0, 0.8), (61.0, 0.2)])
async def test_only_a_healthy_while_resets_the_back_off(healthy_s: float, expected: float) -> None:
    """A link that flaps once a second must not be hammered as if each time were the first."""
    down = LinkDown("gone")
    line = Line((None, down), (None, down), (healthy_s, down))
    task = line.start()
    await line.clock.advance(healthy_s + 3)
    assert line.gaps()[2] - healthy_s == pytest.approx(expected)
    await stop(task)


async def test_refused_credentials_are_not_hammered() -> None:
    """M17: half a minute, however early it was."""
    line = Line((None, LinkDown("refused", refused=True)))
    task = line.start()
    await line.clock.advance(REFUSED_S + 1)
    assert line.gaps()[0] == REFUSED_S
    assert line.meter.total("link_refused_total", link="line") == 1
    await stop(task)


async def test_renewed_credentials_open_it_anew_at_once_and_in_order() -> None:
    """M15, M17: what is open is closed by its own clean-up first; what waits out its half minute
    waits no longer; and it happens once for each time that it is asked for."""
    line = Line((1e6, None), (None, LinkDown("refused", refused=True)), (1e6, None))
    task = line.start()
    await line.clock.advance(10)
    line.again.set()
    await line.clock.advance(1)
    assert line.closed == 1
    assert len(line.opened_at_s) == 2
    assert line.seen[1] == (LinkState.DOWN, "opened anew")
    await line.clock.advance(3)
    assert len(line.opened_at_s) == 2, "refused: not hammered"
    line.again.set()
    await line.clock.advance(0.1)
    assert len(line.opened_at_s) == 3
    await line.clock.advance(1000)
    assert (len(line.opened_at_s), line.closed) == (3, 1)
    await stop(task)
    assert line.closed == 2, "cancelled, it is closed in order too"


async def test_up_and_down_are_told_with_their_reason() -> None:
    line = Line((1.0, LinkDown("cut")), (1.0, None))
    task = line.start()
    await line.clock.advance(2.5)
    assert line.seen[:4] == [
        (LinkState.UP, ""),
        (LinkState.DOWN, "cut"),
        (LinkState.UP, ""),
        (LinkState.DOWN, "ended"),
    ]
    await stop(task)


async def test_three_crashes_within_a_minute_give_up() -> None:
    """Decision 5: the fault is ours then; the crash itself is raised for whoever owns the link."""
    line = Line(*[(None, RuntimeError("planted"))] * CRASHES)
    task = line.start()
    await line.clock.advance(30)
    assert isinstance(task.exception(), RuntimeError)
    assert line.meter.total("task_restarts_total", task="link") == CRASHES
    assert "planted" not in str(line.journal.lines)


async def test_crashes_far_apart_only_restart_it() -> None:
    crash = RuntimeError("planted")
    line = Line(*[(40.0, crash)] * 6)
    task = line.start()
    await line.clock.advance(260)
    assert not task.done()
    assert line.meter.total("task_restarts_total", task="link") == 6
    await stop(task)


async def test_cancelled_it_ends() -> None:
    line = Line((100.0, None))
    task = line.start()
    await settle()
    await stop(task)
    assert task.cancelled()


# --------------------------------------------------------------------------- crews


def crew(most: int = 4) -> tuple[Crew, FakeMeter, FakeJournal]:
    meter, journal = FakeMeter(), FakeJournal()
    return Crew(name="check", most=most, journal=journal, meter=meter), meter, journal


async def test_a_crew_says_when_it_is_full_and_forgets_who_ended() -> None:
    made, _, _ = crew(2)
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    made.start(work())
    assert not made.full
    made.start(work())
    assert made.full
    gate.set()
    await settle()
    assert (len(made), made.full) == (0, False)


async def test_a_defect_is_counted_and_its_owner_told() -> None:
    """Nothing is fire-and-forget; the log has the kind of error and none of its words."""
    made, meter, journal = crew()
    told: list[BaseException] = []

    async def broken() -> None:
        raise ValueError("TE99ABC")

    made.start(broken(), fault=told.append)
    await settle()
    assert [type(error) for error in told] == [ValueError]
    assert meter.total("task_restarts_total", task="check") == 1
    assert journal.lines == [("task.restarted", {"task": "check", "error": "ValueError"})]


async def test_a_cancelled_task_is_no_defect() -> None:
    made, meter, _ = crew()
    task = made.start(asyncio.sleep(100))
    await settle()
    task.cancel()
    await settle()
    assert len(made) == 0
    assert meter.total("task_restarts_total") == 0


async def test_draining_waits_for_what_follows_from_what_runs() -> None:
    """A write that ends starts the next step: that belongs to the drain, too."""
    made, _, _ = crew()
    done: list[str] = []

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")

    async def first() -> None:
        await asyncio.sleep(0)
        done.append("first")
        made.start(second())

    made.start(first())
    await made.drain(5.0)
    assert done == ["first", "second"]


async def test_draining_cuts_off_what_does_not_end() -> None:
    made, _, _ = crew()
    task = made.start(asyncio.sleep(3600))
    await made.drain(0.01)
    assert task.cancelled()
    await made.drain(0.01)


async def test_a_link_that_is_down_for_long_leaves_nothing_to_the_collector() -> None:
    """H07: it fails every few seconds for days, and a full collection may be as far away."""

    class Broke(LinkDown):
        pass

    async def run(_up: Callable[[], None]) -> None:
        raise Broke("gone")

    line = Line()
    line.run = run  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    try:
        task = line.start()
        await line.clock.advance(120)
        failed = line.seen.count((LinkState.DOWN, "gone"))
        assert failed > 20
        assert sum(isinstance(each, Broke) for each in gc.get_objects()) <= 1
    finally:
        gc.enable()
        await stop(task)
