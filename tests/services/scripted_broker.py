"""A broker that says what a test wants it to: what no real one can be made to say.

MQTT 5 or 3.1.1 as far as a client needs it to connect and subscribe; the rest is the test's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = (
    *(0x10, 0x20, 0x30, 0x40, 0x80, 0x90, 0xC0, 0xE0),
)


class ScriptedBroker:
    """accepts: answer a CONNECT. packets: (type, body) of all that came, in order."""

    def __init__(self, *, five: bool = True, accepts: bool = True) -> None:
        self.port = 0
        self.packets: list[tuple[int, bytes]] = []
        self.ended = asyncio.Event()
        """A client's connection came to its end."""
        self.reads = asyncio.Event()
        self.reads.set()
        self.greets: Callable[[bytes], None] = lambda _connect: None
        """Called with a CONNECT's body right behind its CONNACK: what it sends goes with that."""
        self._five = five
        self._accepts = accepts
        self._writer: asyncio.StreamWriter | None = None

    def of(self, kind: int) -> list[bytes]:
        return [body for each, body in self.packets if each == kind]

    def mids_acknowledged(self) -> list[int]:
        return [int.from_bytes(body[:2], "big") for body in self.of(PUBACK)]

    def mids_published(self) -> list[int]:
        """Of the QoS 1 publications that came."""
        found = []
        for body in self.of(PUBLISH | 2):
            length = int.from_bytes(body[:2], "big")
            found.append(int.from_bytes(body[2 + length : 4 + length], "big"))
        return found

    def publish(self, topic: bytes, payload: bytes, *, mid: int) -> None:
        """To whoever is connected, with QoS 1."""
        body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big")
        self.send(PUBLISH | 2, body + (b"\0" if self._five else b"") + payload)

    def acknowledge(self, mid: int) -> None:
        self.send(PUBACK, mid.to_bytes(2, "big"))

    def send(self, kind: int, body: bytes) -> None:
        assert self._writer is not None
        self._writer.write(bytes([kind]) + _length(len(body)) + body)

    async def until(self, ready: Callable[[], object], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not ready():  # noqa: ASYNC110 - bytes come from a socket, without an event
                await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            while True:
                await self.reads.wait()
                kind, body = await _packet(reader)
                self.packets.append((kind, body))
                if kind == CONNECT:
                    if not self._accepts:
                        break
                    self.send(CONNACK, b"\0\0\0" if self._five else b"\0\0")
                    self.greets(body)
                elif kind == SUBSCRIBE | 2:
                    self.send(SUBACK, body[:2] + (b"\0" if self._five else b"") + b"\1" * 6)
                elif kind == PINGREQ:
                    self.send(0xD0, b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            writer.close()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return kind, await reader.readexactly(length)


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, byte = divmod(value, 128)
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


@contextlib.asynccontextmanager
async def scripted(*, five: bool = True, accepts: bool = True) -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker(five=five, accepts=accepts)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0, limit=2**16)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        broker.reads.set()
        server.close()
