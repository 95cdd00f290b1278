"""A car behind a gpsd: told from outside, by gpsd's own client, and by the gateway's link."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import LinkDown
from gateway.messages import LocationFix, StatusReport
from gateway.settings import GpsdSection
from simulators.clock import RealClock
from simulators.gpsd_server import COLD_EPOCHS, TUNNEL_EPOCHS, TUNNEL_EVERY, GpsdVehicle
from simulators.patrol import Pace, Patrol
from tests.contracts.test_links import ISSI, WITHIN_S, Ends, made
from tests.services import require

WATCH = b'?WATCH={"enable":true,"json":true};\n'


@pytest.fixture
async def car() -> AsyncIterator[GpsdVehicle]:
    """It drives much faster than a second a second."""
    each = GpsdVehicle(
        issi=ISSI,
        callsign="E-150",
        clock=RealClock(),
        patrol=Patrol(1, "Eastern", Pace.CAR),
        fix_every_s=0.01,
    )
    each.plug()
    running = asyncio.ensure_future(each.run())
    yield each
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            line = await self._reader.readline()
        assert line.endswith(b"\r\n"), "it is gone"
        assert len(line) <= 10240
        said: dict[str, Any] = json.loads(line)
        return said


@contextlib.asynccontextmanager
async def client(car: GpsdVehicle) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", car.port)
    yield Client(reader, writer)
    writer.close()


async def test_it_says_hello_and_is_watched(car: GpsdVehicle) -> None:
    async with client(car) as it:
        assert (await it.next())["class"] == "VERSION"
        it.writer.write(WATCH)
        assert (await it.next())["class"] == "DEVICES"
        watch = await it.next()
        assert (watch["class"], watch["enable"], watch["json"]) == ("WATCH", True, True)
        classes = {(await it.next())["class"] for _ in range(60)}
        assert classes == {"TPV", "SKY"}
        it.writer.write(b'?WATCH={"enable":false};\n')
        async with asyncio.timeout(WITHIN_S):
            while (await it.next()).get("enable") is not False:
                pass
        assert car.watchers == set()


@pytest.mark.parametrize("request_", [b"?NONSENSE;\n", b"?WATCH={x};\n", b"?" + b"A" * 90 + b"\n"])
async def test_what_it_does_not_know_is_an_error(car: GpsdVehicle, request_: bytes) -> None:
    async with client(car) as it:
        await it.next()
        it.writer.write(request_)
        assert (await it.next())["class"] == "ERROR"
        it.writer.write(b"?DEVICES;\n")
        assert (await it.next())["class"] == "DEVICES"


async def test_a_moment_without_a_fix_has_no_place(car: GpsdVehicle) -> None:
    """After the ignition, and in each tunnel; a place has two degrees, and a moment one place."""
    async with client(car) as it:
        await it.next()
        it.writer.write(WATCH)
        told = [await it.next() for _ in range(4 * TUNNEL_EVERY)]
    reports = [each for each in told if each["class"] == "TPV"]
    assert any(each["mode"] == 1 for each in reports)
    for each in reports:
        assert ("lat" in each) == ("lon" in each)
        assert each["mode"] > 1 or "lat" not in each
    places: dict[str, set[tuple[float, float]]] = {}
    for each in reports:
        if "lat" in each and "time" in each:
            places.setdefault(each["time"], set()).add((each["lat"], each["lon"]))
    assert len(places) > TUNNEL_EPOCHS
    assert all(len(each) == 1 for each in places.values())


async def test_gpsds_own_client_reads_it(car: GpsdVehicle) -> None:
    """gpspipe, of Debian: it makes of the simulator what it makes of gpsd."""
    process = await asyncio.create_subprocess_exec(
        *(require("gpspipe"), "-w", "-n", "40", f"127.0.0.1:{car.port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = [json.loads(line) for line in out.splitlines()]
    assert [each["class"] for each in said[:3]] == ["VERSION", "DEVICES", "WATCH"]
    assert any(each["class"] == "TPV" and "lat" in each for each in said)


async def test_the_gateway_has_each_moment_once(car: GpsdVehicle, tmp_path: Path) -> None:
    """Through the link; off and on again with the ignition."""
    ends = Ends()
    ends.link = made(
        GpsdSection(name="line", port=car.port, terminal=ISSI, ask_after_s=0.5), ends, tmp_path
    )
    task = await ends.opened()
    await ends.until(lambda: len(ends.envelopes) >= 30)
    car.unplug()
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown):
            await task
    fixes = [each.message for each in ends.envelopes]
    assert all(isinstance(each, LocationFix) for each in fixes)
    moments = [each.fixed_at_ms for each in fixes if isinstance(each, LocationFix)]
    timed = [each for each in moments if each is not None]
    assert timed == sorted(set(timed))
    assert len(moments) - len(timed) <= 1, "a place of no moment, among others with one"
    ends.envelopes.clear()
    ends.up.clear()
    car.plug()
    await ends.opened()
    await ends.until(lambda: len(ends.envelopes) > COLD_EPOCHS)
    await ends.close()


async def test_nobody_sits_in_it(car: GpsdVehicle) -> None:
    assert not car.asks
    assert not car.say(StatusReport(code=0))
    assert car.lost == 1
