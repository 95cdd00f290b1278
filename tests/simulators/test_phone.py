"""The simulated phone says what the booklet says an OwnTracks phone says, and is lost as one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiomqtt
import pytest
from nacl.secret import SecretBox

from gateway.messages import LocationFix, StatusReport
from simulators.clock import RealClock
from simulators.phone import KEEPS, Phone, location, sealed
from simulators.radio import BadEnquiry
from tests.fakes import FakeClock
from tests.services.mosquitto import Mosquitto

WITHIN_S = 10.0
FIX = LocationFix(
    lat=52.5725,
    lon=-0.2431,
    fixed_at_ms=1_795_342_502_114,
    speed_mps=10.0,
    course_deg=268.4,
    accuracy_m=8.0,
)


def test_a_position_is_said_in_whole_numbers_and_km_h() -> None:
    """Zero is left out, as what is not known."""
    assert location(FIX, tracker="ne", trigger="u") == {
        "_type": "location",
        "lat": 52.5725,
        "lon": -0.2431,
        "acc": 8,
        "vel": 36,
        "cog": 268,
        "tst": 1795342502,
        "conn": "m",
        "batt": 80,
        "tid": "ne",
        "t": "u",
    }
    still = LocationFix(lat=52.0, lon=0.0, fixed_at_ms=1_795_342_502_000, speed_mps=0.1)
    assert set(location(still)) == {"_type", "lat", "lon", "tst", "conn", "batt"}


def test_what_it_encrypts_opens_with_its_passphrase_alone() -> None:
    body = json.loads(sealed(b"secret", "s3cr3t"))
    assert set(body) == {"_type", "data"}
    assert body["_type"] == "encrypted"
    box = base64.b64decode(body["data"])
    assert SecretBox(b"s3cr3t".ljust(32, b"\0")).decrypt(box) == b"secret"
    assert json.loads(sealed(b"secret", "s3cr3t")) != body, "a nonce is used once"


def made(port: int, **more: Any) -> Phone:
    return Phone(
        issi="5001016",
        callsign="E-105",
        phone="e105/phone",
        host="127.0.0.1",
        port=port,
        **{"clock": RealClock(), **more},
    )


def test_it_asks_nothing_and_keeps_so_much() -> None:
    """What it could not send waits; beyond that the oldest goes, and is counted."""
    phone = made(1, clock=FakeClock())
    assert not phone.asks
    with pytest.raises(BadEnquiry):
        phone.ask("V TE99ABC R1")
    assert not phone.say(StatusReport(code=0))
    assert phone.lost == 1
    for _ in range(KEEPS + 2):
        assert phone.say(FIX)
    assert phone.lost == 3


@pytest.fixture
async def heard(mosquitto: Mosquitto) -> AsyncIterator[list[aiomqtt.Message]]:
    """What anybody hears of it at a real broker."""
    messages: list[aiomqtt.Message] = []
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.subscribe("owntracks/#", qos=1)

        async def listen() -> None:
            async for message in client.messages:
                messages.append(message)

        listening = asyncio.ensure_future(listen())
        yield messages
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not ready():  # noqa: ASYNC110 - it comes from a broker, without an event
            await asyncio.sleep(0.01)


async def test_it_is_lost_without_a_word_and_brings_what_it_kept(
    mosquitto: Mosquitto, heard: list[aiomqtt.Message]
) -> None:
    """The broker says its last will; what it could not send comes later, with its own time; and its
    newest position lies there for whoever asks."""
    phone = made(mosquitto.port, ping_every_s=0.2)
    running = asyncio.ensure_future(phone.run())
    try:
        phone.say(FIX)
        await until(lambda: heard)
        assert str(heard[0].topic) == "owntracks/e105/phone"
        assert json.loads(bytes(heard[0].payload))["tst"] == 1795342502
        await until(lambda: len(heard) > 1)
        ping = json.loads(bytes(heard[1].payload))
        assert (ping["t"], ping["lat"]) == ("p", 52.5725)
        assert ping["tst"] > 1795342502, "of now, with an old position"
        phone.unplug()
        await until(lambda: b'"lwt"' in bytes(heard[-1].payload))
        await until(lambda: not phone.connected)
        before = len(heard)
        phone.say(FIX)
        await asyncio.sleep(0.05)
        assert len(heard) == before
        phone.plug()
        await until(lambda: len(heard) > before)
        assert json.loads(bytes(heard[before].payload))["tst"] == 1795342502
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as later:
        await later.subscribe("owntracks/+/+")
        async with asyncio.timeout(WITHIN_S):
            message = await anext(aiter(later.messages))
    assert message.retain
