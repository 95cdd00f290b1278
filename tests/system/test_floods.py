"""Lines that babble as fast as they can take nothing from the others: counted, not timed.

S04 over every kind of line. A damaged frame costs its own line a place in its window; what is too
much for that waits in the kernel. So between a question and its answer elsewhere only so many
frames of the flood are judged as their windows have places, however many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiomqtt
import pytest

from adapters.links.line import FRAMES_MOST, WINDOW_S
from gateway.app import Gateway, load
from gateway.messages import Event, LinkChanged, LinkState, UnitEmergency
from tests.fakes import FakeJournal
from tests.services.mosquitto import Mosquitto
from tests.system.daemon import Daemon

CALM, BABBLER, PHONED = "5001001", "5001010", "5001002"
WITHIN_S = 30.0
QUESTIONS = 12
FLOOD_S = 2.0
SLICE_FRAMES = 50
"""No more of these fit into the 1,024 bytes that are read at once."""
FLOODS = {
    "serial": b"$GPGLL,5234.350,N,00014.586,W,101502,A*00\r\n",
    "tetra": b"+CTSDSR: 12,5001003,0,5000001,0,104\r\n82040A01GARBLED\r\n",
}
"""Each frame is damaged, and answered by nobody."""
POUR = """
import os, sys
handle, frame = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
block = frame * (4096 // len(frame))
said = 0
while True:
    said += os.write(handle, block)
    os.write(2, b"%d\\n" % (said // len(frame)))
"""
"""As fast as the line takes them, in a process of its own: it must not share our interpreter."""


class Pty:
    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.name = os.ttyname(slave)
        self._slave = slave

    def close(self) -> None:
        for each in (self.master, self._slave):
            with contextlib.suppress(OSError):
                os.close(each)


class Calm:
    """An officer at a line of their own: says a line, and waits for what is shown."""

    def __init__(self, pty: Pty) -> None:
        self._pty = pty
        self._heard = bytearray()
        os.set_blocking(pty.master, False)
        asyncio.get_running_loop().add_reader(pty.master, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._heard += os.read(self._pty.master, 4096)

    async def ask(self, text: str) -> float:
        """How long it took until the echo of it was shown."""
        del self._heard[:]
        began_s = time.monotonic()
        os.write(self._pty.master, f"{text}\r\n".encode())
        await until(lambda: text[2:].encode() in self._heard)
        return time.monotonic() - began_s


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not ready():  # noqa: ASYNC110 - bytes come from the kernel, without an event
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def pouring(pty: Pty, frame: bytes) -> Iterator[None]:
    command = [sys.executable, "-c", POUR, str(pty.master), frame.hex()]
    with subprocess.Popen(command, pass_fds=[pty.master], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
async def lines() -> AsyncIterator[dict[str, Pty]]:
    made = {name: Pty() for name in ("calm", "serial", "tetra")}
    yield made
    for each in made.values():
        each.close()


@pytest.mark.slow
async def test_babbling_lines_take_nothing_from_the_others(
    tmp_path: Path, mosquitto: Mosquitto, lines: dict[str, Pty]
) -> None:
    """One TETRA radio and one serial line at once; officers on a line and behind a broker go on
    being heard, answered and rescued."""
    files = Daemon(
        tmp_path,
        lines={"calm": (lines["calm"].name, CALM), "serial": (lines["serial"].name, BABBLER)},
        broker=mosquitto.port,
    )
    with files.config.open("a", encoding="utf-8") as config:
        config.write(f'[[tetra]]\nname = "tetra"\nport = "{lines["tetra"].name}"\n')
    gateway = Gateway(load(files.config), journal=FakeJournal())
    seen: list[Event] = []
    gateway.bus.tap(seen.append)
    running = asyncio.ensure_future(gateway.run())

    def judged(link: str) -> float:
        text = gateway.meter.render().decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith(f'gateway_frames_rejected_total{{link="{link}"')
        )

    try:
        up = {"calm", "serial", "mqtt"}
        await until(
            lambda: (
                running.done()
                or up
                <= {e.id for e in seen if isinstance(e, LinkChanged) and e.state is LinkState.UP}
            )
        )
        assert not running.done(), running
        officer = Calm(lines["calm"])
        before_s = [await officer.ask(f"E BEFORE {n}") for n in range(QUESTIONS)]
        with pouring(lines["serial"], FLOODS["serial"]), pouring(lines["tetra"], FLOODS["tetra"]):
            for link in FLOODS:
                await until(lambda link=link: judged(link) > FRAMES_MOST)
            had = {link: judged(link) for link in FLOODS}
            began_s = time.monotonic()
            during_s: list[float] = []
            while len(during_s) < QUESTIONS or time.monotonic() < began_s + FLOOD_S:
                during_s.append(await officer.ask(f"E DURING {len(during_s)}"))
            # The window in which it began, those in between, and the one in which it ended; the
            # slice that fills a window may hold more frames than it had places left.
            windows = (time.monotonic() - began_s) / WINDOW_S + 2
            rates = {}
            for link in FLOODS:
                rates[link] = judged(link) - had[link]
                assert rates[link] <= windows * (FRAMES_MOST + SLICE_FRAMES), link
            async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="far") as client:
                await client.publish(f"radio/{PHONED}/up/status", b'{"code": 0}', qos=1)
                await until(
                    lambda: any(isinstance(e, UnitEmergency) and e.terminal == PHONED for e in seen)
                )
            poured = {link: judged(link) for link in FLOODS}
    finally:
        gateway.stop()
        async with asyncio.timeout(WITHIN_S):
            await running
    assert all(n > FRAMES_MOST for n in poured.values())
    calm_s, flood_s = statistics.median(before_s), statistics.median(during_s)
    print(
        f"answered in {calm_s * 1e3:.1f} ms, under two floods in {flood_s * 1e3:.1f} ms; {poured}"
    )
    assert flood_s < 20 * calm_s + 1.0
