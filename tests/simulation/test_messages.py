"""The control room writes to units in hostile worlds: on record first, to its holder, over once.

A story of its own, so that the other worlds stay as they are.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import msgspec
import pytest

from gateway.messages import Actor
from gateway.settings import MessagesSection
from tests.simulation.faults import all_busy, knobs, small_config, swarm
from tests.simulation.loop import SimLoop, run
from tests.simulation.story import Story, tried
from tests.simulation.world import World

STALE_S = 60.0
SECONDS = 200.0
OPERATOR = Actor("A", roles=frozenset({"operator"}))
ENDS = Counter[str]()


class Writing(Story):
    """Operators write as often as officers ask."""

    async def _operate(self) -> None:
        await asyncio.gather(super()._operate(), self._write())

    async def _write(self) -> None:
        world, number = self.world, 0
        while await self._turn(self._pace.busy_s):
            core = world.core
            if core is None or world.dead or not core.started:
                continue  # nobody can reach it
            number += 1
            issi = world.random.choice(list(world.terminals))
            long = " AND MORE" * world.random.choice([0, 0, 20])
            world.own(tried(core.board.send_message(issi, f"NO {number}{long}", OPERATOR)))


async def play(seed: int) -> World:
    chance = random.Random(seed)
    config, faults, limits = small_config(chance), swarm(chance), knobs(chance)
    section = MessagesSection(per_minute=600, stale_s=STALE_S)
    settings = msgspec.structs.replace(config.settings, messages=section)
    config = msgspec.structs.replace(config, settings=settings)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return await Writing(loop, config, faults, all_busy(SECONDS), limits).play()


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 9))]
)
def test_in_hostile_worlds_a_message_is_recorded_first_theirs_alone_and_ends_once(
    seed: int,
) -> None:
    world, _ = run(seed, play(seed))
    assert world.broken == []
    of: dict[str, list[str]] = {}
    for record in world.disk.records:
        if record.operation == "message":
            of.setdefault(record.detail, []).append(record.event)
    assert len(of) >= 3
    for events in of.values():
        assert events[0] == "message"
        assert events.count("message") == 1
        assert events.count("read") + events.count("stale") <= 1, events
        assert len(events) > 1, "neither delivered nor stale"
        ENDS.update(events)


def test_every_end_was_met() -> None:
    # That one goes stale is chance in so few worlds: test_unit_messages.py sees to it.
    assert {"delivered", "read"} <= set(ENDS), ENDS
