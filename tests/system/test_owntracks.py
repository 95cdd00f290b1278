"""Phones at a real broker, the real daemon, and what its page shows of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simulators.clock import RealClock
from simulators.patrol import Patrol
from simulators.phone import Phone
from tests.services.mosquitto import Mosquitto
from tests.system.daemon import Daemon, until

ISSI, CALLSIGN, PHONE = "5001016", "E-105", "e105/phone"
WITHIN_S = 30.0
SECRET = "s3cr3t of a phone"


@pytest.fixture
async def daemon(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[Daemon]:
    (tmp_path / "keys").write_text(f"e105-phone {SECRET}\n", "utf-8")
    daemon = Daemon(tmp_path)
    with daemon.config.open("a", encoding="utf-8") as config:
        config.write(
            f'\n[[owntracks]]\nname = "phones"\nport = {mosquitto.port}\nkeys_file = "keys"\n'
        )
    yield daemon
    await daemon.close()


def phone_at(broker: Mosquitto, passphrase: str = SECRET) -> Phone:
    return Phone(
        issi=ISSI,
        callsign=CALLSIGN,
        phone=PHONE,
        host="127.0.0.1",
        port=broker.port,
        clock=RealClock(),
        passphrase=passphrase,
        patrol=Patrol("phone", "Eastern"),
        fix_every_s=0.5,
    )


async def row(daemon: Daemon) -> dict[str, Any]:
    """Its line of the page."""
    units = (await daemon.snapshot())["units"]
    return next(
        dict(zip(units["cols"], each, strict=True)) for each in units["rows"] if CALLSIGN in each
    )


async def shown(daemon: Daemon, **wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN_S):
        while True:
            now = await row(daemon)
            if all(now[name] == value for name, value in wanted.items()):
                return now
            await asyncio.sleep(0.1)


async def refused(daemon: Daemon) -> float:
    """How much was not believed for want of its key."""
    _, metrics = await daemon.get("/metrics")
    name = r'^gateway_frames_rejected_total\{link="phones",reason="auth"\} (\S+)$'
    found = re.search(name, metrics.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def links(daemon: Daemon) -> list[tuple[str, str]]:
    return [
        (line["event"], line.get("state", ""))
        for line in daemon.journal()
        if line.get("link") == "phones"
    ]


@pytest.mark.slow
async def test_a_phone_on_the_page(daemon: Daemon, mosquitto: Mosquitto) -> None:
    """Encrypted, it is a unit that is there now. Lost, its last will marks nothing wrong; after a
    restart what lies at the broker is shown as old as it is, and nobody was heard; a phone that
    speaks in plain words in its place is not believed."""
    await daemon.start()
    phone = phone_at(mosquitto)
    running = asyncio.ensure_future(phone.run())
    try:
        there = await shown(daemon, band="live")
        assert there["contact_ms"] is not None
        assert abs(there["fix_ms"] - time.time() * 1000) < 60_000
        phone.unplug()
        await until(lambda: not phone.connected, within_s=WITHIN_S)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    snapshot = await daemon.snapshot()
    assert snapshot["alarms"] == []
    assert links(daemon) == [("link.up", "up")]
    assert await daemon.stop() == 0

    # What it said last lies there no more: its last will does. So a position is laid there.
    other = phone_at(mosquitto)
    running = asyncio.ensure_future(other.run())
    await until(lambda: other.connected and other.fixes_sent > 1, within_s=WITHIN_S)
    await until(lambda: not other._out, within_s=WITHIN_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await daemon.start()
    lay = await shown(daemon, band="aging")
    assert lay["contact_ms"] is None, "nobody was heard"
    assert time.time() * 1000 - lay["fix_ms"] > 120_000, "never as if it were there now"

    liar = phone_at(mosquitto, passphrase="")
    running = asyncio.ensure_future(liar.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await refused(daemon):  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.1)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (await row(daemon))["contact_ms"] is None
