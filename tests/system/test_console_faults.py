"""Console clients that are slow, silent, flooding or very many: rows W01 to W04, W08 and W09.

They come from other addresses of loopback; the operators and the officers whom they must not cost
anything are counted. Each test ends in the join of the four records.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.crowd import at_the_door, inside
from tests.system.daemon import Daemon, until
from tests.system.ledgers import Console
from tests.system.watch import asking
from tests.system.world import MQTT, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PICTURES, ANSWERS = 30, 3
"""So much is had by an operator, and by each officer, while it lasts."""
CROWDED = 900
"""Connections; the server has 1,000 places."""
PICTURE_S = 0.5
"""What an operator may wait for a picture (W03). Median and worst are printed; the median has five
times that, for machines on which much else runs."""
LASTS_MOST_S = 60.0
GROWS_MOST_KIB = 64 * 1024
CONSOLES = 200
OPEN_FILES = 4096
"""As in the unit; the daemon inherits it from us."""


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= OPEN_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, OPEN_FILES), hard))
    world = World(tmp_path, mosquitto.port)
    yield world
    await world.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@contextlib.asynccontextmanager
async def at_work(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Operator:
    """Takes a new picture again and again, each over a connection of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self.served = self.refused = 0
        self.took_s: list[float] = []
        self.why: list[str] = []
        """What was not served, in a word each."""
        self._daemon = daemon

    async def run(self) -> None:
        while True:
            began_s = time.monotonic()
            try:
                seat = await self._daemon.log_in()
                url = self._daemon.url + "/api/v1/snapshot"
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http,
                    http.get(url, headers=seat) as answer,
                ):
                    await answer.read()
                    served = answer.status == 200
                    self.why += [] if served else [str(answer.status)]
            except (aiohttp.ClientError, TimeoutError) as error:
                served = False
                self.why.append(type(error).__name__)
            self.served += served
            self.refused += not served
            self.took_s.append(time.monotonic() - began_s)
            await asyncio.sleep(0.1)


async def test_hostile_clients_cost_neither_operators_nor_officers(world: World) -> None:
    """2,000 half requests from 40 addresses, slow readers, and floods, all at once: every picture
    an operator asks for comes, a console misses nothing, officers on both bearers are answered, and
    the daemon does not grow."""
    await world.open()
    daemon, console = world.daemon, world.console
    assert daemon is not None
    assert console is not None
    port, operator = daemon.port, Operator(daemon)
    before_kib = rss_kib(daemon.pid)
    most_kib = 0
    officers = [*world.lines.values(), *(world.radios[issi] for issi in MQTT)]
    async with at_the_door(port, (await daemon.log_in("op-2"))["Cookie"]):
        await until(lambda: inside(port) > CROWDED, 20)
        async with asking(*officers) as busy, at_work(operator.run):
            async with asyncio.timeout(LASTS_MOST_S):
                while operator.served < PICTURES or min(each.answered for each in busy) < ANSWERS:
                    await asyncio.sleep(0.2)
                    most_kib = max(most_kib, rss_kib(daemon.pid))
            answered = [each.answered for each in busy]
    median_s, worst_s = statistics.median(operator.took_s), max(operator.took_s)
    print(
        f"hostile: {operator.served} pictures, {operator.refused} refused, median {median_s:.3f} s,"
        f" worst {worst_s:.3f} s; answers {answered}; RSS +{(most_kib - before_kib) // 1024} MiB"
    )
    assert operator.why == []
    assert median_s < 5 * PICTURE_S
    assert most_kib - before_kib < GROWS_MOST_KIB
    assert console.resets.total() == 0
    status, _ = await daemon.get("/healthz")
    assert status == 200
    assert world.verdict() == []


async def test_two_hundred_consoles_come_back_after_a_restart(world: World) -> None:
    """W08: killed under them, all of them have the whole picture again; W09: none resumes with a
    hole, each is told by the new epoch to begin anew."""
    await world.open()
    daemon = world.daemon
    assert daemon is not None
    # One session for all: two hundred log-ins at once are busy, as they should be.
    seat = await daemon.log_in()
    places = [f"127.0.3.{n % 20 + 1}" for n in range(CONSOLES)]
    consoles = [Console(daemon.url, address=place, seat=seat) for place in places]
    async with at_work(*(console.run for console in consoles)):
        await until(lambda: all(each.connected.is_set() for each in consoles), 30)
        radio = world.radios["5001002"]
        ref = await radio.ask(kind="vehicle", vrm="TE99STV", reason="1")
        await radio.until(lambda: radio.result(ref), 20)
        await until(lambda: all(each.of("check.done") for each in consoles), 20)
        await daemon.kill()
        await until(lambda: not any(each.connected.is_set() for each in consoles), 20)
        await daemon.start()
        began_s = time.monotonic()
        back_s: list[float] = []
        async with asyncio.timeout(30):
            while len(back_s) < CONSOLES:
                there = sum(each.connected.is_set() for each in consoles)
                back_s += [time.monotonic() - began_s] * (there - len(back_s))
                await asyncio.sleep(0.02)
        print(f"{CONSOLES} consoles: p95 {sorted(back_s)[int(CONSOLES * 0.95)]:.2f} s after ready")
        ref = await radio.ask(kind="vehicle", vrm="TE99STV", reason="1")
        await radio.until(lambda: radio.result(ref), 20)
        await until(lambda: all(len(each.of("check.done")) >= 2 for each in consoles), 20)
    assert [each.holes for each in consoles] == [0] * CONSOLES
    assert world.verdict() == []
