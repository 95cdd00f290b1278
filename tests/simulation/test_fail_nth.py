"""The nth call of a port fails, once or from then on, for every n: SQLite's method (reference,
5.13). A small story in which nothing else is left to chance; the invariants hold each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from gateway.messages import CancelRequest, CheckRequest, StatusReport, VehicleKey
from tests.simulation import oracles
from tests.simulation.faults import Faults, small_config
from tests.simulation.loop import SimLoop, run
from tests.simulation.parties import Said
from tests.simulation.story import CALM_S, HEAL_S, on_disk
from tests.simulation.world import World

MODES = ("once", "for ever")
HEALED_S = 30.0
"""For ever, as far as this story goes."""
CALLS_MOST = 200
"""No story is so long; a loop that never ends is found."""


async def story(fails: Callable[[str], bool]) -> World:
    """Questions over both bearers, one twice, one refused, one taken back, an emergency, a crash
    with a question under way; then all heals."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    config = small_config(loop.random)
    rules = tuple(msgspec.structs.replace(rule, prompt=False) for rule in config.policy.rules)
    policy = msgspec.structs.replace(config.policy, rules=rules)
    world = World(loop, msgspec.structs.replace(config, policy=policy), Faults(crash=1e-9))
    world.nth_fails = lambda port: loop.now_s < HEALED_S and fails(port)
    on_line, *_, on_broker, other = world.terminals.values()
    await world.start()
    asking = [loop.create_task(each.ask()) for each in (on_line, on_broker, other)]
    await world.clock.sleep(1.0)
    world.say(on_broker.issi, StatusReport(code=0))
    again = next(iter(on_broker.sent.values()))
    world.say(on_broker.issi, again)
    denied = CheckRequest(
        key=VehicleKey(vrm="TE99AAA"), reason="77", ref="denied", sent_at_ms=world.clock.true_ms()
    )
    other.sent["denied"] = denied
    other.said["denied"] = Said(loop.now_s, world.clock.true_ms())
    world.say(other.issi, denied)
    await world.clock.sleep(3.0)
    asking.append(loop.create_task(other.ask()))
    world.say(other.issi, CancelRequest())
    await world.clock.sleep(0.02)
    await world.crash()
    await world.start()
    await world.clock.sleep(max(0.0, HEALED_S - loop.now_s))
    world.healed = True
    await asyncio.gather(*asking)
    await world.clock.sleep(HEAL_S + CALM_S)
    world.judge(oracles.joined)
    before = on_disk(world)
    await world.stop()
    await world.start()
    await world.clock.sleep(5)
    if on_disk(world) != before:
        world.broken.append("I19: a restart without traffic changed something")
    await world.stop()
    return world


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("port", ["ledger", "link"])
def test_the_nth_call_fails(port: str, mode: str) -> None:
    """For n = 1, 2, 3 ... until the story never comes to its nth call: I1 to I22 hold."""
    for n in range(1, CALLS_MOST):
        calls = 0

        def fails(called: str, n: int = n) -> bool:
            nonlocal calls
            if called != port:
                return False
            calls += 1
            return calls == n if mode == "once" else calls >= n

        world, _ = run(0, story(fails))
        assert world.broken == [], f"{port} call {n} {mode}"
        if calls < n:
            assert n > 10, "the story calls hardly anything"
            return
    raise AssertionError("the story never ends")
