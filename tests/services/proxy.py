"""A TCP proxy that breaks what passes through it: the network between two real programs.

It lives in the test's own loop. What it does to a connection is told by `mode`, which may change at
any moment; `heal` is PASS again. What each mode leaves of a connection is what a network would:
bytes that were lost stay lost, so such a connection is never whole again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from enum import Enum, auto

CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


class Mode(Enum):
    PASS = auto()
    HOLD = auto()
    """Nothing is read, nothing is lost: all of it goes on when healed. New connections likewise."""
    BLACK_HOLE = auto()
    """Bytes are taken, acknowledged, and gone. Such a connection stays black when healed."""
    VANISH = auto()
    """No packet is answered, as of a host without power: nothing is acknowledged, and new
    connections meet silence. When healed, TCP repeats what it still holds."""
    RESET = auto()
    """Every connection is reset at once; new ones as soon as they are made."""
    DELAY = auto()
    """Each piece comes `delay_s` later, in order."""
    TRUNCATE = auto()
    """After `most` more bytes towards the client it is closed in order, in the middle of a word."""
    FLIP = auto()
    """The lowest bit of each `every`-th byte towards the client is turned over."""


class Proxy:
    """Listens on `port`, connects to `target` on loopback for each who comes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.mode = Mode.PASS
        self.delay_s = 0.1
        self.most = 0
        self.every = 100
        self.connections = 0
        """How many were ever made."""
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._flows.set()
        if self._server is not None:
            self._server.close()
        pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()
        for pair in pairs:
            await asyncio.gather(*pair.pumps, return_exceptions=True)

    def become(self, mode: Mode) -> None:
        """From now on, and for what is open already."""
        before, self.mode = self.mode, mode
        if mode is Mode.HOLD:
            self._flows.clear()
        else:
            self._flows.set()
        if mode is Mode.RESET:
            for pair in tuple(self._pairs):
                pair.reset()
        if Mode.VANISH in (before, mode):
            assert self._server is not None
            socks = [self._server.sockets[0], *(s for pair in self._pairs for s in pair.sockets)]
            for sock in socks:
                _deafen(sock, mode is Mode.VANISH)

    def heal(self) -> None:
        self.become(Mode.PASS)

    # ----------------------------------------------------------------- one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.mode is Mode.RESET:
            _reset(writer)
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(writer, back)
        self._pairs.add(pair)
        pair.pumps = (
            asyncio.create_task(self._pump(pair, reader, back, down=False)),
            asyncio.create_task(self._pump(pair, there, writer, down=True)),
        )
        await asyncio.wait(pair.pumps)
        self._pairs.discard(pair)
        for each in (writer, back):
            each.close()

    async def _pump(
        self,
        pair: _Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        down: bool,
    ) -> None:
        """down: towards the client, who came to us."""
        try:
            while True:
                await self._flows.wait()
                data = await reader.read(CHUNK)
                await self._flows.wait()  # it became HOLD while we waited for these bytes
                if not data:
                    break
                if self.mode is Mode.BLACK_HOLE:
                    pair.black = True
                if pair.black:
                    continue
                if self.mode is Mode.DELAY:
                    await asyncio.sleep(self.delay_s)
                if self.mode is Mode.FLIP and down:
                    data = bytes(
                        byte ^ (n % self.every == self.every - 1) for n, byte in enumerate(data)
                    )
                if self.mode is Mode.TRUNCATE and down:
                    data = data[: self.most]
                    self.most -= len(data)
                    if not self.most:
                        writer.write(data)
                        break
                writer.write(data)
                await writer.drain()
            if pair.black:
                return  # not even that it ended is told
            with contextlib.suppress(OSError):
                writer.write_eof()
        except OSError:
            pair.reset()


class _Pair:
    """The two sockets of one connection."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.black = False
        self.pumps: tuple[asyncio.Task[None], ...] = ()
        self._writers = (near, far)

    @property
    def sockets(self) -> list[socket.socket]:
        found = (writer.get_extra_info("socket") for writer in self._writers)
        return [sock for sock in found if sock is not None and sock.fileno() >= 0]

    def reset(self) -> None:
        for writer in self._writers:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def _deafen(sock: socket.socket, deaf: bool) -> None:
    """A filter that takes no packet: the kernel throws away what comes before it looks at it."""
    if not deaf:
        with contextlib.suppress(OSError):  # one that came later never had it
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0
    head = struct.pack("HL", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


@contextlib.asynccontextmanager
async def between(target: int) -> AsyncIterator[Proxy]:
    """A proxy in front of this port of loopback."""
    proxy = Proxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
