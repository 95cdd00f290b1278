"""`kill -9` under load, again and again: nothing receipted is lost, nothing has two answers."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.daemon import until
from tests.system.ledgers import CONCLUDING, audit
from tests.system.world import COUNCIL, World

KILLS = 20
SEED = 20261127
VEHICLES = ("TE99AAB", "TE99ABC", "TE99STV", "TE99AAA", "TE99NNS", "ER99ERR", "ER99SLW")
SETTLE_WITHIN_S = 30.0
OPEN_MOST = 12


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_twenty_kills_under_load_leave_every_invariant_standing(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """At random moments, over serial and MQTT; afterwards the four records are joined."""
    chance = random.Random(SEED)
    world = World(tmp_path, mosquitto.port)
    stop = asyncio.Event()
    asked: dict[str, list[str]] = defaultdict(list)

    def patient(issi: str, answered: Callable[[str], object]) -> bool:
        """Nobody has more than so many questions open: beyond, answers may be given up."""
        asked[issi] = [ref for ref in asked[issi] if not answered(ref)]
        return len(asked[issi]) < OPEN_MOST

    async def load() -> None:
        while not stop.is_set():
            for issi, officer in world.lines.items():
                if patient(issi, officer.parts):
                    text = f"V {chance.choice(VEHICLES)} R{chance.randint(1, 6)}"
                    asked[issi].append(officer.ask(text))
            for issi, radio in world.radios.items():
                if patient(issi, radio.result):
                    reason = "8" if issi == COUNCIL else str(chance.randint(1, 6))
                    vrm = chance.choice(VEHICLES)
                    ref = await radio.ask(kind="vehicle", vrm=vrm, reason=reason)
                    asked[issi].append(ref)
            await asyncio.sleep(chance.uniform(0.05, 0.3))

    try:
        await world.open(checks={"deadline_s": 8.0, "per_terminal_open": 64})
        daemon = world.daemon
        assert daemon is not None
        loading = asyncio.create_task(load(), name="load")
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            await daemon.kill()
            await daemon.start()
        stop.set()
        await loading
        await until(lambda: _all_ended(world), SETTLE_WITHIN_S)
        await asyncio.sleep(2.0)  # whatever would still come late must have its chance to
        faults = world.verdict()
        assert faults == [], "\n".join(faults[:20])
        leaves = audit(daemon.state)
        assert sum(leaf["event"] == "started" for leaf in leaves) == KILLS + 1
        checks = {leaf["check"] for leaf in leaves if leaf["event"] == "opened"}
        assert len(checks) > 5 * KILLS, "too little load to prove anything"
        heard = sum(h.channel == "result" for officer in world.officers for h in officer.heard)
        assert heard > 2 * KILLS
        assert await daemon.stop() == 0
    finally:
        stop.set()
        await world.close()


def _all_ended(world: World) -> bool:
    """Every check on record has its outcome, and every receipted one was heard of at the end."""
    assert world.daemon is not None
    leaves = audit(world.daemon.state)
    opened = {leaf["check"] for leaf in leaves if leaf["event"] == "opened"}
    ended = {leaf["check"] for leaf in leaves if leaf["event"] in CONCLUDING}
    if opened - ended:
        return False
    for officer in world.officers:
        receipted = {h.body["short"] for h in officer.heard if h.channel == "receipt"}
        answered = {h.body["short"] for h in officer.heard if h.channel == "result"}
        if receipted - answered - {""}:
            return False
    return True
