"""A TAK server that takes connections and reads nothing costs no radio anything.

The real daemon, with radios over both bearers. The test ends in the join of the four records.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.relays.cot_schema import checked
from tests.services.mosquitto import Mosquitto
from tests.services.pki import Pki
from tests.services.tak_server import TakServer, mutual
from tests.system.daemon import Daemon, until
from tests.system.watch import asking, go_on
from tests.system.world import MQTT, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

WITHIN_S = 60.0
LAT6, LON6 = 52_572_500, -243_100


@pytest.fixture
async def server() -> AsyncIterator[TakServer]:
    server = TakServer()
    await server.open()
    yield server
    await server.shut()


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    world = World(tmp_path, mosquitto.port)
    yield world
    await world.close()


async def lost(world: World, reason: str) -> float:
    assert world.daemon is not None
    _, body = await world.daemon.get("/metrics")
    name = rf'gateway_queue_dropped_total{{queue="fix",reason="{reason}"}} ([0-9.e+]+)'
    found = re.search(name, body.decode())
    assert found is not None
    return float(found[1])


def told(server: TakServer, type_: str, issi: str, lat6: int | None = None) -> bool:
    """Whether it heard that of this unit (and there)."""
    for event in server.events:
        root = checked(event)
        point = root.find("point")
        assert point is not None
        here = lat6 is None or round(float(point.attrib["lat"]) * 1e6) == lat6
        if root.attrib["type"] == type_ and f"RADIO-{issi}" in root.attrib["uid"] and here:
            return True
    return False


async def test_a_tak_server_that_does_not_read_costs_no_radio_anything(
    world: World, server: TakServer
) -> None:
    """Checks are answered and positions shown as before, the loss is counted; once it reads, it is
    told where everybody is and who calls for help."""
    tak = {"name": "tak", "port": server.port, "min_interval_s": 0.0, "write_deadline_s": 0.5}
    await world.open(sections={"[cot]": tak})
    daemon, radios = world.daemon, [world.radios[issi] for issi in MQTT]
    assert daemon is not None
    await radios[0].fix(LAT6, LON6)
    await until(lambda: told(server, "a-f-G-U-C", MQTT[0], LAT6), WITHIN_S)
    server.stall()
    async with asking(*world.lines.values(), world.radios[MQTT[0]]) as spared:
        lat6 = LAT6
        async with asyncio.timeout(WITHIN_S):
            while not await lost(world, "slow"):
                for _ in range(20):
                    lat6 += 1
                    for radio in radios:
                        await radio.fix(lat6, LON6)
        await radios[1].emergency()
        # As the page has it: everybody's newest position, and the call for help.
        async with asyncio.timeout(WITHIN_S):
            while True:
                picture = await daemon.snapshot()
                place = picture["units"]["cols"].index("lat6")
                newest = [row[place] for row in picture["units"]["rows"]].count(lat6)
                if newest == len(radios) and any(a["rule"] == "EMG" for a in picture["alarms"]):
                    break
                await asyncio.sleep(0.05)
        await go_on(spared)
        assert not told(server, "b-a-o-tbl", MQTT[1])
    print(f"positions lost to TAK: {await lost(world, 'slow'):.0f} given up, {lat6 - LAT6} each")
    server.go_on()
    await until(lambda: told(server, "b-a-o-tbl", MQTT[1]), WITHIN_S)
    for issi in MQTT:
        await until(lambda issi=issi: told(server, "a-f-G-U-C", issi, lat6), WITHIN_S)
    assert world.verdict() == []


async def test_a_renewed_certificate_is_taken_up_by_a_reload(tmp_path: Path) -> None:
    """The connection by the old one is closed and opened anew; when each runs out is a figure."""
    pki = Pki(tmp_path / "pki")
    for name in ("server", "gateway"):
        pki.issue(name)
    server = TakServer(mutual(pki))
    await server.open()
    tak = {"name": "tak", "transport": "tls", "port": server.port}
    tak |= {"ca_file": pki.path("ca.crt"), "cert_file": pki.path("gateway.crt")}
    daemon = Daemon(tmp_path, sections={"[cot]": {**tak, "key_file": pki.path("gateway.key")}})
    await daemon.start()
    try:
        await until(lambda: server.connections == 1, WITHIN_S)
        _, figures = await daemon.get("/metrics")
        for cert in ("tak", "tak-ca"):
            expiry = rf'gateway_cert_expiry_timestamp_seconds{{cert="{cert}"}} 1\.'
            assert re.search(expiry, figures.decode()), cert
        pki.issue("gateway")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: server.connections == 2, WITHIN_S)
        await until(lambda: server.clients == 1, WITHIN_S)
        # One that nothing of was changed is left alone.
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: loaded(daemon) == 2, WITHIN_S)
        assert (server.connections, await daemon.stop()) == (2, 0)
    finally:
        await daemon.close()
        await server.shut()


def loaded(daemon: Daemon) -> int:
    return sum(line["event"] == "config.loaded" for line in daemon.journal())
