"""The whole core in virtual time: seeded worlds, calm and hostile, judged by the oracles."""

from __future__ import annotations

import random

import pytest

from tests.simulation import oracles
from tests.simulation.loop import SimLoop, run
from tests.simulation.world import Faults, SimPnc, SimTerminal, World, sim_config

SEEDS = 60
"""Worlds a day; more with `--seeds N`."""
CHAOS_S = 120.0
HEAL_S = 200.0
"""Deadline, late grace and staleness of the simulated configuration all fit into it."""


def _faults(random_: random.Random) -> Faults:
    """Swarm: each seed enables a random half of the fault kinds at random rates."""
    rates = {
        "pnc_down": 0.4,
        "pnc_hang": 0.3,
        "pnc_echo": 0.2,
        "pnc_garbled": 0.2,
        "link_loss": 0.3,
        "link_cut": 0.3,
        "duplicate": 0.5,
        "disk_full": 0.3,
        "crash": 0.4,
        "wall_step": 0.1,
    }
    chosen = {
        name: random_.uniform(0.02, most) for name, most in rates.items() if random_.random() < 0.5
    }
    return Faults(
        pnc_slow_s=random_.choice([0.05, 1.0, 6.0]),
        disk_slow_s=random_.choice([0.001, 0.3]),
        **chosen,
    )


async def _play(seed: int, monkeypatch: pytest.MonkeyPatch, faults: Faults | None) -> World:
    import asyncio

    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    chance = random.Random(seed)
    world = World(loop, sim_config(chance), faults or _faults(chance))
    query, hear = SimPnc.query, SimTerminal.hear

    async def watched_query(self: SimPnc, asked: object) -> object:
        oracles.question_allowed(world, asked)  # type: ignore[arg-type]
        return await query(self, asked)  # type: ignore[arg-type]

    def watched_hear(self: SimTerminal, message: object) -> None:
        if type(message).__name__ == "Result":
            try:
                oracles.result_allowed(world, self.issi, message)  # type: ignore[arg-type]
            except AssertionError as error:
                world.broken.append(str(error))
        hear(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(SimPnc, "query", watched_query)
    monkeypatch.setattr(SimTerminal, "hear", watched_hear)
    await world.start()
    story = [
        asyncio.ensure_future(world.officers(CHAOS_S, every_s=1.0)),
        asyncio.ensure_future(world.mischief(CHAOS_S)),
    ]
    await asyncio.gather(*story)
    world.healed = True
    if world.core is None:
        await world.start()
    await world.finish()
    await world.clock.sleep(HEAL_S)
    await world.crash()
    return world


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds") or SEEDS))


def test_hostile_worlds_keep_every_invariant(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random faults, crashes and restarts, then heal: the oracles hold, and something happened."""
    world, _ = run(seed, _play(seed, monkeypatch, None))
    assert world.broken == []
    oracles.joined(world)
    assert sum(len(t.sent) for t in world.terminals.values()) > 50


def test_calm_world_answers_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without faults every question is answered or refused for room, heard once it is known."""
    world, _ = run(7, _play(7, monkeypatch, Faults()))
    assert world.broken == []
    oracles.joined(world)
    for terminal in world.terminals.values():
        assert set(terminal.sent) == set(terminal.result_at_s), "I4: an officer heard nothing"


def test_same_seed_same_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed is a world: order and events repeat to the last callback, another seed differs."""
    traces = []
    for seed in (3, 3, 4):
        with monkeypatch.context() as patch:
            _, loop = run(seed, _play(seed, patch, None))
        traces.append(loop.trace)
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]
