"""A challenge over real bearers: asked, killed, explained over serial and MQTT, reviewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT, Daemon, unchallenged
from tests.system.ledgers import audit
from tests.system.world import World

WITHIN_S = 10.0
WHY = "SAW THE DRIVER SWERVE TWICE ON BRIDGE ST"


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    """Every check is challenged."""
    policy = unchallenged((ROOT / "config" / "policy.toml").read_text("utf-8"))
    assert "\nrate = 0.0\n" in policy
    for was, now in (("rate = 0.0", "rate = 1.0"), ("hold = true", "hold = false")):
        policy = policy.replace(was, now)
    policy = policy.replace("prompt = true", "prompt = false")
    (tmp_path / "policy.toml").write_text(policy, "utf-8")
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open()
        yield world
    finally:
        await world.close()


async def waiting(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """What a supervisor sees, by short form."""
    status, body = await daemon.get("/api/v1/challenges", "sup-1")
    assert status == 200
    return {each["ref"]: each for each in json.loads(body)["challenges"]}


@pytest.mark.slow
async def test_asked_killed_explained_and_reviewed(world: World) -> None:
    officer, radio, daemon = world.lines["5001001"], world.radios["5001003"], world.daemon
    assert daemon is not None
    number = officer.ask("V TE99ABC R1 LBRIDGE.ST")
    ref = await radio.ask(kind="vehicle", vrm="TE99AAB", reason="1", location="BRIDGE ST")
    line = (await officer.until(lambda: officer.receipt(number), WITHIN_S))["short"]
    mqtt = (await radio.until(lambda: radio.receipt(ref), WITHIN_S))["short"]
    await officer.until(lambda: officer.parts(number), WITHIN_S)
    await radio.until(lambda: radio.result(ref), WITHIN_S)
    assert {short: each["state"] for short, each in (await waiting(daemon)).items()} == {
        line: "open",
        mqtt: "open",
    }
    await daemon.kill()
    await daemon.start()
    for short, where in ((line, "serial"), (mqtt, "mqtt")):
        said = f"J {short} {WHY} {where.upper()}"
        for _ in range(10):  # the bearers come back in their own time
            if where == "serial":
                officer.say(said)
            else:
                await radio.say("text", said.encode())
            if await _answered(daemon, short):
                break
        assert (await waiting(daemon))[short]["text"] == f"{WHY} {where.upper()}"
    status, _ = await daemon.post(
        f"/api/v1/challenges/{line}/review", {"enough": True}, "k1", "op-1"
    )
    assert status == 403
    status, seen = await daemon.post(
        f"/api/v1/challenges/{line}/review", {"enough": True}, "k2", "sup-1"
    )
    assert (status, seen["state"]) == (200, "reviewed")
    await daemon.kill()
    await daemon.start()
    assert set(await waiting(daemon)) == {mqtt}
    leaves = [leaf for leaf in audit(daemon.state) if leaf["check"].endswith(line)]
    told = [leaf["event"] for leaf in leaves if leaf["event"] in ("challenged", "reviewed")]
    assert told[0] == "challenged"
    assert told.count("reviewed") == 1
    (reviewed,) = [leaf for leaf in leaves if leaf["event"] == "reviewed"]
    assert (reviewed["operator"], reviewed["verb"]) == ("sup-1", "alteration")
    assert WHY not in "".join(str(line) for line in daemon.journal())


async def _answered(daemon: Daemon, short: str) -> bool:
    """Within a moment."""
    for _ in range(10):
        if (await waiting(daemon))[short]["state"] == "answered":
            return True
        await asyncio.sleep(0.1)
    return False
