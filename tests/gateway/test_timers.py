"""Timers: each is called at its moment, once, unless it was called off; nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.supervise import Crew
from gateway.timers import LEAN, Timers
from tests.fakes import FakeClock, FakeJournal, FakeMeter, settle


class Bench:
    def __init__(self) -> None:
        self.clock, self.meter = FakeClock(), FakeMeter()
        self.crew = Crew(name="check", most=10, journal=FakeJournal(), meter=self.meter)
        self.timers = Timers(self.clock, self.crew)
        self.heard: list[tuple[str, float]] = []
        self.began_s = self.clock.monotonic_s()

    def say(self, word: str) -> None:
        self.heard.append((word, round(self.clock.monotonic_s() - self.began_s, 3)))

    def at(self, after_s: float, word: str) -> None:
        self.timers.at(self.began_s + after_s, lambda: self.say(word))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.timers.stop()
    await settle()
    assert len(made.crew) == 0, "a task that stays"


async def test_each_is_called_at_its_moment_whatever_was_asked_for_first(bench: Bench) -> None:
    for after_s, word in ((5.0, "c"), (1.0, "a"), (3.0, "b"), (5.0, "d"), (-1.0, "now")):
        bench.at(after_s, word)
    await settle()
    assert len(bench.crew) == 1
    await bench.clock.advance(10.0)
    assert bench.heard == [("now", 0.0), ("a", 1.0), ("b", 3.0), ("c", 5.0), ("d", 5.0)]
    assert len(bench.crew) == 0
    bench.at(12.0, "again")
    await bench.clock.advance(10.0)
    assert bench.heard[-1] == ("again", 12.0)


async def test_one_that_was_called_off_is_not_called_and_the_last_one_ends_the_task(
    bench: Bench,
) -> None:
    first = bench.timers.at(bench.began_s + 1.0, lambda: bench.say("first"))
    second = bench.timers.at(bench.began_s + 2.0, lambda: bench.say("second"))
    first.cancel()
    first.cancel()
    assert (first.live, second.live, len(bench.timers)) == (False, True, 1)
    second.cancel()
    await settle()
    assert len(bench.crew) == 0
    await bench.clock.advance(5.0)
    assert not bench.heard


async def test_one_may_set_and_call_off_others(bench: Bench) -> None:
    off = bench.timers.at(bench.began_s + 2.0, lambda: bench.say("off"))

    def first() -> None:
        bench.say("first")
        off.cancel()
        bench.at(1.5, "next")

    bench.timers.at(bench.began_s + 1.0, first)
    await bench.clock.advance(5.0)
    assert bench.heard == [("first", 1.0), ("next", 1.5)]


async def test_a_defect_costs_what_it_was_for_and_is_counted(bench: Bench) -> None:
    told: list[BaseException] = []

    def faulty() -> None:
        raise ZeroDivisionError

    bench.timers.at(bench.began_s + 1.0, faulty, told.append)
    bench.at(1.0, "next")
    await bench.clock.advance(2.0)
    assert bench.heard == [("next", 1.0)]
    assert [type(error) for error in told] == [ZeroDivisionError]
    assert bench.meter.total("task_restarts_total", task="check") == 1


async def test_what_was_called_off_does_not_pile_up(bench: Bench) -> None:
    bench.at(100.0, "last")
    for _ in range(10 * LEAN):
        bench.timers.at(bench.began_s + 50.0, lambda: bench.say("off")).cancel()
    assert len(bench.timers._heap) <= 2 + LEAN + 1
    await bench.clock.advance(200.0)
    assert bench.heard == [("last", 100.0)]


async def test_a_crew_that_is_cancelled_takes_its_timers_along(bench: Bench) -> None:
    bench.at(1.0, "never")
    await bench.crew.cancel()
    await bench.clock.advance(2.0)
    assert not bench.heard
    assert asyncio.all_tasks() == {asyncio.current_task()}
