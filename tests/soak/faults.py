"""Something is always broken: one fault after the other, each healed before the next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.house import House

NOISE = b"\xff\xfe\x00$GPRMC,\x80\x81*00\r\n\x7f\x7f"


class Faults:
    """`run` breaks and heals until cancelled; what it broke is counted. heal: all is well again."""

    def __init__(self, house: House, chance: random.Random, pause_s: float) -> None:
        self.done: Counter[str] = Counter()
        self._house = house
        self._chance = chance
        self._pause_s = pause_s
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "PNC down": lambda: self._pnc("down"),
            "PNC slow": lambda: self._pnc("slow"),
            "PNC hangs": lambda: self._pnc("hang"),
            "broker killed": self._broker_killed,
            "broker stopped": self._broker_stopped,
            "radios unplugged": self._unplugged,
            "noise on a line": self._noise,
            "terminals dropped": self._dropped,
            "console that does not read": self._deaf_console,
            "reload": self._reload,
        }

    async def run(self) -> None:
        """In a new order each round, so that each kind comes equally often."""
        while True:
            for name in self._chance.sample(list(self._kinds), len(self._kinds)):
                await asyncio.sleep(self._pause_s * self._chance.uniform(0.5, 1.5))
                await self._kinds[name]()
                self.done[name] += 1

    def _for_s(self, most_s: float) -> float:
        """How long a fault lasts: never longer than the pause between them allows."""
        return min(most_s, self._pause_s) * self._chance.uniform(0.3, 1.0)

    async def _pnc(self, fault: str) -> None:
        pnc = self._house.pnc
        pnc.fault = fault  # type: ignore[assignment]
        try:
            await asyncio.sleep(self._for_s(20))
        finally:
            pnc.fault = None

    async def _broker_killed(self) -> None:
        broker = self._house.broker
        broker.kill()
        try:
            await asyncio.sleep(self._for_s(5))
        finally:
            broker.start()

    async def _broker_stopped(self) -> None:
        """It takes connections and says nothing: the daemon must find out by itself."""
        broker = self._house.broker
        broker.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._for_s(15))
        finally:
            broker.send(signal.SIGCONT)

    async def _unplugged(self) -> None:
        lines = self._chance.sample(self._house.lines, max(1, len(self._house.lines) // 4))
        for line in lines:
            line.unplug()
        try:
            await asyncio.sleep(self._for_s(10))
        finally:
            for line in lines:
                line.plug()

    async def _noise(self) -> None:
        line = self._chance.choice(self._house.lines)
        for _ in range(50):
            line.noise(NOISE)
            await asyncio.sleep(self._for_s(10) / 50)

    async def _dropped(self) -> None:
        terminals = self._house.fleet.terminals
        for terminal in self._chance.sample(terminals, max(1, len(terminals) // 5)):
            terminal.drop()
        await asyncio.sleep(self._for_s(5))

    async def _deaf_console(self) -> None:
        seat = await self._house.daemon.log_in()
        async with _stream(self._house.port, seat["Cookie"]):
            await asyncio.sleep(self._for_s(40))

    async def _reload(self) -> None:
        assert self._house.daemon.process is not None
        os.kill(self._house.daemon.pid, signal.SIGHUP)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _stream(port: int, cookie: str) -> AsyncIterator[None]:
    """A console that asks for the stream and never reads: its small window fills at once."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        head = f"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
        await loop.sock_sendall(sock, head.encode())
        yield
