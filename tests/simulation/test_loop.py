"""The simulation's own ground: virtual time, seeded order, deadlock, the private names it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.simulation.loop import Deadlock, SimLoop, run


async def _story(order: list[int]) -> float:
    async def worker(number: int) -> None:
        await asyncio.sleep(number % 3)
        order.append(number)

    await asyncio.gather(*(worker(number) for number in range(12)))
    await asyncio.sleep(3600)
    return asyncio.get_running_loop().time()


def test_an_hour_passes_at_once_and_the_seed_decides_the_order() -> None:
    """Same seed, same order and trace; another seed, another order."""
    results = []
    for seed in (1, 1, 2):
        order: list[int] = []
        end_s, loop = run(seed, _story(order))
        assert end_s == pytest.approx(3602)
        results.append((order, loop.trace))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_waiting_for_nothing_is_a_deadlock() -> None:
    """A future that nobody will ever set is found at once."""

    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(0, stuck())


def test_the_private_names_exist() -> None:
    """A new Python that renames them must fail here, not silently lose the seeded order."""
    loop = SimLoop(0)
    try:
        for name in ("_ready", "_scheduled", "_stopping"):
            assert hasattr(loop, name)
        assert callable(loop._run_once)
        handle = loop.call_later(1.0, print)
        for name in ("_when", "_cancelled", "_scheduled", "_callback", "_run"):
            assert hasattr(handle, name)
    finally:
        loop.close()


def test_the_trace_knows_who_ran_and_in_which_order() -> None:
    """The same work at the same moments under other names, or in another order, is another
    trace: not only how much was ready is digested."""

    async def one() -> None:
        await asyncio.sleep(1)

    async def two() -> None:
        await asyncio.sleep(1)

    async def both(*works: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*(work() for work in works))

    traces = {run(0, both(*pair))[1].trace for pair in ((one, two), (two, one), (one, one))}
    assert len(traces) == 3


def test_who_stood_still_finds_everything_due_at_once() -> None:
    """After a jump all timers of the meantime run in one moment, in an order of the seed's."""

    async def story() -> list[int]:
        order: list[int] = []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        for second in range(1, 9):
            loop.call_later(second, order.append, second)
        loop.jump(30)
        await asyncio.sleep(0)
        assert loop.now_s == 30
        return order

    first, _ = run(1, story())
    assert sorted(first) == [*range(1, 9)]
    assert first != sorted(first)
    assert first == run(1, story())[0] != run(2, story())[0]
