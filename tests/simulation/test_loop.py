"""The simulation's own ground: virtual time, seeded order, deadlock, the private names it needs."""

from __future__ import annotations

import asyncio

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
        assert hasattr(loop, "_ready")
        assert callable(loop._run_once)
    finally:
        loop.close()
