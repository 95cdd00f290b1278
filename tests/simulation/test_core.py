"""The whole core in virtual time: seeded worlds, calm and hostile, judged by the oracles."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation import oracles
from tests.simulation.faults import POINTS, Faults, small_config, swarm
from tests.simulation.loop import SimLoop, run
from tests.simulation.world import World

SEEDS = 250
"""Worlds a day, about a minute of one core; more with `--seeds N`."""
CHAOS_S = 120.0
HEAL_S = 240.0
"""Deadline, late grace, longest stall and staleness of the simulated configuration all fit in."""

CALM_S = 130.0
"""Until what nobody acknowledged is stale."""

MET: Counter[str] = Counter()
"""What happened in the worlds that were played in this run."""


async def play(seed: int, faults: Faults | None = None) -> World:
    """Chaos, heal, calm; then an orderly end and one more start without traffic (I19)."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    chance = random.Random(seed)
    config = small_config(chance)
    world = World(loop, config, faults if faults is not None else swarm(chance))
    await world.start()
    await asyncio.gather(world.officers(CHAOS_S, every_s=1.0), world.mischief(CHAOS_S))
    await world.heal()
    await world.clock.sleep(HEAL_S)
    await world.everybody_asks_once_more()
    world.judge(oracles.answered_again)
    await world.clock.sleep(CALM_S)
    world.judge(oracles.joined)
    before = state(world)
    await world.stop()
    await world.start()
    await world.clock.sleep(5)
    if state(world) != before:
        world.broken.append("I19: a restart without traffic changed something")
    await world.stop()
    MET.update(world.happened)
    return world


def state(world: World) -> tuple[object, ...]:
    """What is on disk, without the records of the process's own life."""
    disk = world.disk
    records = [record for record in disk.records if record.event not in ("started", "stopped")]
    return (records, dict(disk.checks), dict(disk.outbox), dict(disk.alarms))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds") or SEEDS))


def test_hostile_worlds_keep_every_invariant(seed: int) -> None:
    """Random faults, crashes and restarts, then heal: the oracles hold, and something happened."""
    world, _ = run(seed, play(seed))
    assert world.broken == []
    assert sum(len(terminal.sent) for terminal in world.terminals.values()) > 50


EVERYTHING = Faults(
    pnc_down=0.1,
    pnc_hang=0.1,
    pnc_echo=0.1,
    pnc_garbled=0.05,
    pnc_refused=0.05,
    pnc_slow_s=1.0,
    link_loss=0.1,
    link_cut=0.1,
    duplicate=0.3,
    disk_full=0.1,
    disk_slow_s=0.05,
    crash=0.1,
    kill=0.005,
    reload=0.15,
)
BEHIND_A_SOUND_AIR = Faults(
    pnc_hang=0.2, pnc_slow_s=1.0, duplicate=0.3, disk_stall=0.03, disk_slow_s=0.05
)


def test_everything_at_once() -> None:
    """A few worlds with every fault in them, and a few where only disk and PNC fail, so that the
    officers' waiting is judged: what tests/mutants plants must be found here."""
    for seed in range(8):
        for faults in (EVERYTHING, BEHIND_A_SOUND_AIR):
            world, _ = run(seed, play(seed, faults))
            assert world.broken == [], (seed, faults)


def test_calm_worlds_answer_everybody_in_time() -> None:
    """Without faults every question that was not typed twice is heard of, and no fault is seen."""
    for seed in range(3):
        world, _ = run(seed, play(seed, Faults()))
        assert world.broken == []
        for terminal in world.terminals.values():
            asked = {name for name, request in terminal.sent.items() if request.ref}
            assert asked <= set(terminal.word_at_s), "I4: an officer heard nothing"
        assert world.meter.total("task_restarts_total") == 0


def test_no_defect_of_ours_hides_behind_the_guards() -> None:
    """What the desk catches for safety's sake must not happen at all in a hostile world."""
    for seed in range(1000, 1010):
        world, _ = run(seed, play(seed))
        assert world.meter.total("task_restarts_total") == 0, seed
        assert world.meter.total("queue_dropped_total", reason="unreadable") == 0


def test_the_worlds_are_hostile() -> None:
    """A simulation that meets no fault must not pass: each kind, and a kill at each point."""
    for seed in range(2000, 2030):
        if {*POINTS} <= {name.removeprefix("kill ") for name in MET}:
            break
        run(seed, play(seed))
    for name in Faults.__struct_fields__:
        if not name.endswith("_s"):
            assert MET[name], f"no world met {name}"
    for point in POINTS:
        assert MET[f"kill {point}"], f"no kill fell {point}"


def trace_of(seed: int) -> str:
    """The whole trace of one world, line by line."""
    _, loop = run(seed, play(seed), keep=True)
    assert loop.lines is not None
    return "\n".join(loop.lines)


def test_same_seed_same_trace() -> None:
    """A seed is a world: every callback and every event, byte for byte; another seed differs."""
    first, again, other = trace_of(3), trace_of(3), trace_of(4)
    assert len(first) > 100_000
    assert first == again
    assert first != other


def test_same_seed_same_trace_in_another_process(tmp_path: Path) -> None:
    """Whatever the hash seed: nothing depends on the order of a set or on an address."""
    program = (
        "import sys; from tests.simulation.test_core import trace_of;"
        "open(sys.argv[1], 'w').write(trace_of(int(sys.argv[2])))"
    )
    root = Path(__file__).resolve().parents[2]
    for seed in (5, 6):
        traces = []
        for hash_seed in ("1", "2"):
            out = tmp_path / f"{seed}-{hash_seed}"
            subprocess.run(
                [sys.executable, "-c", program, str(out), str(seed)],
                cwd=root,
                env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
                check=True,
                timeout=60,
            )
            traces.append(out.read_bytes())
        assert traces[0] == traces[1]
