"""The daemon and all that stands around it for a soak: broker, PNC, radios on lines, terminals,
consoles, and an operator who sees to alarms."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from pathlib import Path
from typing import Any

import aiohttp

from simulators.pnc_server import PncServer
from tests.services.mosquitto import Mosquitto
from tests.soak.fleet import VEHICLES, Fleet
from tests.system import force
from tests.system.daemon import ROOT, Daemon
from tests.system.ledgers import Console
from tests.system.officers import LineOfficer

CONSOLES = 4
OPERATOR_S = 20.0
EMERGENCY_S = 120.0
LINE_OPEN_MOST = 3
FIRST_ISSI = 6_000_000


class Line(LineOfficer):
    """A terminal on a PTY that forgets what it said, as the join does not ask for it."""

    def say(self, line: str) -> None:
        if self._master >= 0:
            super().say(line)
            self.sent.clear()

    def noise(self, raw: bytes) -> None:
        if self._master >= 0:
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(self._master, raw)

    @property
    def unreceipted(self) -> int:
        return len(self._open)


class Outcomes(list[dict[str, Any]]):
    """Of a console's events those that the join asks for; the rest were months of positions."""

    def append(self, event: dict[str, Any]) -> None:
        if event["type"] == "check.done":
            super().append({name: event[name] for name in ("type", "id", "ref", "outcome")})


class House:
    """Everything in one folder; `open`, then `close` whatever came of it."""

    def __init__(
        self, folder: Path, terminals: int, lines: int, per_minute: float, chance: random.Random
    ) -> None:
        self.folder = folder
        self.asking = True
        self._chance = chance
        self._per_minute = per_minute
        self._tasks: list[asyncio.Task[None]] = []
        issis = [str(FIRST_ISSI + place) for place in range(1, terminals + 1)]
        on_lines = {f"serial-{place}": issi for place, issi in enumerate(issis[:lines], 1)}
        self.broker = Mosquitto(folder / "broker", persistent=True)
        self.queries = folder / "queries.jsonl"
        self.pnc = PncServer(ROOT / "config" / "pnc", "127.0.0.1", 0, log=self.queries)
        self.lines = [Line(issi, folder / name) for name, issi in on_lines.items()]
        self.fleet = Fleet(issis[lines:], self.broker.port, per_minute, chance)
        force.write(folder, issis, callsign="E", collar=2001)

    async def open(self) -> None:
        """Returns when every terminal is connected."""
        self.broker.start()
        await self.pnc.start()
        for line in self.lines:
            line.plug()
        self.daemon = Daemon(
            self.folder,
            lines={line.link.name: (str(line.link), line.issi) for line in self.lines},
            broker=self.broker.port,
            pnc_url=self.pnc.url,
        )
        self.port = self.daemon.port
        await self.daemon.start()
        self.console = Console(self.daemon.url)
        self.console.events = Outcomes()
        self._begin(self.console.run(), "console")
        for _ in range(CONSOLES - 1):
            other = Console(self.daemon.url)
            other.events = Outcomes()
            self._begin(other.run(), "console")
        self._begin(self.fleet.run(), "fleet")
        self._begin(self._type(), "typing")
        self._begin(self._operate(), "operator")
        self._begin(self._emergencies(), "emergencies")
        async with asyncio.timeout(60):
            while self.fleet.up < len(self.fleet.terminals):  # noqa: ASYNC110 - a real network
                await asyncio.sleep(0.1)

    def _begin(self, coroutine: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    def check_tasks(self) -> None:
        """Raises what ended a part of the house that must not end."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_name()} ended")

    async def rest(self, within_s: float) -> int:
        """Nobody asks any more; returns how many questions have no end after that time."""
        self.asking = self.fleet.asking = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._waiting():  # noqa: ASYNC110 - a real network
                    await asyncio.sleep(0.2)
        return self._waiting()

    def _waiting(self) -> int:
        return self.fleet.waiting + sum(line.unreceipted for line in self.lines)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self.lines:
            line.unplug()
        if hasattr(self, "daemon"):
            await self.daemon.close()
        with contextlib.suppress(OSError):
            await self.pnc.stop()
        self.broker.kill()

    # ----------------------------------------------------------------- who acts in it

    async def _type(self) -> None:
        """The officers on lines ask as often as the others."""
        while True:
            every_s = 60.0 / self._per_minute / max(1, len(self.lines))
            await asyncio.sleep(every_s * self._chance.uniform(0.5, 1.5))
            if self.lines and self.asking:
                line = self._chance.choice(self.lines)
                if line.unreceipted < LINE_OPEN_MOST:
                    line.ask(f"V {self._chance.choice(VEHICLES)} R{self._chance.randint(1, 6)}")

    async def _emergencies(self) -> None:
        while True:
            await asyncio.sleep(EMERGENCY_S * self._chance.uniform(0.5, 1.5))
            self._chance.choice(self.fleet.terminals).emergency()

    async def _operate(self) -> None:
        """Acknowledge and close what stands there, as a control room does: an emergency is closed
        by a second person."""
        for number in itertools.count():
            await asyncio.sleep(OPERATOR_S)
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                for place, alarm in enumerate((await self.daemon.snapshot())["alarms"]):
                    for act, who in (("ack", "op-1"), ("close", "op-2")):
                        path = f"/api/v1/alarms/{alarm['id']}/{act}"
                        await self.daemon.post(path, {}, f"{number}-{place}-{act}", who)
