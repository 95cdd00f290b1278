"""The least-privileged source over real things: the register behind HTTP, and the PNC's own log.

Ends in the join of the records, as test_conversation.py; the register's log is one more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.register_server import RegisterServer
from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT, until
from tests.system.ledgers import audit
from tests.system.world import World

WITHIN_S = 10.0
PARKING = "5001012"


@pytest.fixture
async def register() -> AsyncIterator[RegisterServer]:
    server = RegisterServer(ROOT / "config" / "pnc")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def world(
    tmp_path: Path, mosquitto: Mosquitto, register: RegisterServer
) -> AsyncIterator[World]:
    world = World(tmp_path, mosquitto.port)
    world.register = register
    section = {"adapter": "http", "url": register.url}
    try:
        await world.open(mqtt=(PARKING,), sections={"register": section})
        yield world
    finally:
        await world.close()


@pytest.mark.slow
async def test_a_status_leaves_no_line_at_the_pnc(world: World, register: RegisterServer) -> None:
    """Over serial and MQTT. Then the whole question of a parking officer, the PNC being down: its
    part follows when it is back."""
    constable, parking = world.lines["5001001"], world.radios[PARKING]
    number = constable.ask("T TE99NTX R1")
    parts = await constable.until(lambda: constable.parts(number), WITHIN_S)
    assert parts[0]["text"].startswith("POLICE: NOT ASKED")
    assert "TAX N MOT Y INS Y" in parts[0]["text"]
    ref = await parking.ask(kind="vehicle", vrm="TE99STV", reason="8", scope="status")
    status = await parking.until(lambda: parking.result(ref), WITHIN_S)
    said = {each["source"]: each["state"] for each in status["sources"]}
    assert said == {"DVLA": "asked", "MID": "asked", "PNC": "not_asked"}
    assert list(world.pnc.queries) == []
    assert [query.key_text for query in register.queries] == ["VRM:TE99NTX", "VRM:TE99STV"]
    assert world.daemon is not None
    state = world.daemon.state
    asked = [leaf for leaf in audit(state) if leaf["event"] == "asked"]
    assert [leaf["source"] for leaf in asked] == ["DVLA/MID", "DVLA/MID"]

    world.pnc.fault = "down"
    other = await parking.ask(kind="vehicle", vrm="TE99STV", reason="8")
    whole = await parking.until(lambda: parking.result(other), WITHIN_S)
    assert whole["fields"]["stolen"] == "?"
    assert whole["not_checked"] == ["PNC"]
    assert "??PART NOT CHECKED" in "\n".join(whole["pages"])
    world.pnc.fault = None
    await until(lambda: any(reply.kind == "trace" for reply in world.pnc.replies), 2 * WITHIN_S)

    def second() -> bool:
        return any(leaf["event"] == "disclosed" and leaf["parent"] for leaf in audit(state))

    await until(second, WITHIN_S)
    assert world.verdict() == []
