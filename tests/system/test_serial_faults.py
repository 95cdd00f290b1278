"""A serial line fails while officers on others ask: rows S01, S02, S06, and R0 for each.

The test ends in the join of the four records.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.watch import Watch, asking, go_on
from tests.system.world import MQTT, World

WITHIN_S = 15.0
AWAY_S = 6.0
"""Long enough that the back-off is at its longest."""


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    world = World(tmp_path, mosquitto.port)
    yield world
    await world.close()


@pytest.mark.slow
async def test_a_radio_that_does_not_read_and_is_then_pulled_out_costs_itself_alone(
    world: World,
) -> None:
    """S06: the line takes nothing, its officer is still heard, his answer comes when it is read
    again. S01: pulled out in the middle of a sentence and plugged in under another name (S02), it
    serves again at once, and what was asked before is answered."""
    await world.open(checks={"deadline_s": 8.0})
    officer, other = world.lines["5001010"], world.lines["5001001"]
    assert world.daemon is not None
    async with asking(other, *(world.radios[issi] for issi in MQTT)) as spared:
        asyncio.get_running_loop().remove_reader(officer._master)
        _fill(officer.link)
        number = officer.ask("V TE99STV R1")
        await officer.until(lambda: any(q["key_text"] == "VRM:TE99STV" for q in world.queries()), 9)
        await asyncio.sleep(3.0)  # longer than a write may wait
        await go_on(spared)
        assert not officer.parts(number)
        asyncio.get_running_loop().add_reader(officer._master, officer._readable)
        assert await officer.until(lambda: officer.parts(number), WITHIN_S)

        watch = await Watch.begin(world, "serial-s")
        number = officer.ask("V ER99SLW R2")
        await officer.until(lambda: officer.receipt(number), WITHIN_S)
        os.write(officer._master, b"$GPRMC,12")
        await asyncio.sleep(0.1)
        officer.unplug()
        await watch.until("down", WITHIN_S)
        await asyncio.sleep(AWAY_S)
        await go_on(spared)
        began_s = time.monotonic()
        officer.plug()
        await watch.until("up", WITHIN_S)
        print(f"plugged in again: up after {time.monotonic() - began_s:.2f} s")
        assert await officer.until(lambda: officer.parts(number), WITHIN_S)
        await watch.once()
    assert world.verdict() == []


def _fill(path: Path) -> None:
    """Until the line towards the radio takes not one byte more, also a moment later."""
    line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        for size in (64, 1):
            for _ in range(4):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        os.write(line, b"\n" * size)
                time.sleep(0.002)
    finally:
        os.close(line)
