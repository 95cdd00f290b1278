"""Loop lag: what is late is measured, what is very late is said."""

from __future__ import annotations

import asyncio

import pytest

from adapters.observers.loop_lag import COUNT_EVERY, PERIOD_S, LoopLag
from tests.fakes import FakeJournal, FakeMeter, settle


async def test_lateness_is_what_the_loop_took_more_than_it_was_asked() -> None:
    """Three rounds: punctual, a little late, blocked; only the last is worth a line."""
    now_s, late = [0.0], iter([0.0, 0.02, 0.4])
    meter, journal = FakeMeter(), FakeJournal()

    async def sleep(seconds: float) -> None:
        try:
            now_s[0] += seconds + next(late)
        except StopIteration:
            raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        await LoopLag(meter, journal, now_s=lambda: now_s[0], sleep=sleep).run()
    lags = [seconds for name, seconds, _ in meter.observed if name == "event_loop_lag_seconds"]
    assert lags == pytest.approx([0.0, 0.02, 0.4])
    assert journal.lines == [("loop.blocked", {"lag_ms": 400})]


async def test_tasks_that_do_not_end_are_counted() -> None:
    """Each second, of all owners: one that is forgotten shows as a number that only grows."""
    meter, rounds = FakeMeter(), iter(range(2 * COUNT_EVERY))
    counted: list[float] = []
    forgotten: list[asyncio.Task[object]] = []

    async def sleep(_seconds: float) -> None:
        counted.append(meter.gauges["tasks", ()])
        forgotten.append(asyncio.create_task(asyncio.Event().wait()))
        if next(rounds, None) is None:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await LoopLag(meter, FakeJournal(), now_s=lambda: 0.0, sleep=sleep).run()
    first = counted[0]
    assert counted[:COUNT_EVERY] == [first] * COUNT_EVERY
    assert counted[COUNT_EVERY] == first + COUNT_EVERY
    for task in forgotten:
        task.cancel()


async def test_a_blocked_loop_is_seen_on_the_real_clock() -> None:
    """Without anything injected, blocking the loop for longer than a period shows."""
    import time

    meter, journal = FakeMeter(), FakeJournal()
    task = asyncio.create_task(LoopLag(meter, journal).run())
    await asyncio.sleep(0)
    time.sleep(PERIOD_S + 0.3)  # noqa: ASYNC251 - the offence this is about
    async with asyncio.timeout(5):
        while not meter.observed:
            await settle(1)
    task.cancel()
    assert meter.observed[0][1] >= 0.2
