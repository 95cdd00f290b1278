"""Loop lag: what is late is measured, what is very late is said."""

from __future__ import annotations

import asyncio

import pytest

from adapters.observers.loop_lag import PERIOD_S, LoopLag
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
