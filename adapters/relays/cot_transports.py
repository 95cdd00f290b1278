"""How Cursor on Target leaves: a TCP or TLS stream to a TAK server, or datagrams to a group.

Rules
1. What the far side did not take within the deadline means that it does not read: the line is given
   up, and nothing piles up here. Little may wait in the kernel, where it cannot be taken back.
2. What it says is read, bounded, for its pings alone; the rest of it is nobody's.
3. TLS verifies chain and name, always; our certificate is read anew at each connection.
4. A multicast line is never told that nobody listens; it is down when the host cannot send.
Source: reference radio-protocols.md, 5.5 (transport).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol

from adapters import client_tls
from adapters.dialling import Lookup, NameNotFound, connected, in_own_thread
from gateway.errors import LinkDown
from gateway.settings import CotSection, resolve

LOOKUP_WITHIN_S = 2.0
CONNECT_WITHIN_S = 3.0
HANDSHAKE_WITHIN_S = 5.0
SEND_BUFFER = 65536
"""Bytes that the kernel may hold (it doubles them): about a hundred units."""
HEARD_MOST = 65536
"""Bytes without the end of an event: somebody who says no events at all."""
USER_TIMEOUT_MS = 15_000
END = b"</event>"
TAG_MOST = 1024
"""Bytes of the tag `<event ...>` that are looked at: what pings is short."""
_PING = re.compile(rb"""\stype\s*=\s*(["'])t-x-c-t\1""")


class Line(Protocol):
    """An open way out."""

    stream: bool
    """Whether there is one far side, that can be asked and can ask."""

    async def put(self, events: Sequence[bytes]) -> None:
        """Hand over all of them. Raises LinkDown."""

    async def broken(self) -> str:
        """Wait until it is gone, and say why."""


def opened(
    section: CotSection,
    *,
    config_path: Path,
    lookup: Lookup,
    pinged: Callable[[], None],
    heard: Callable[[int], None],
) -> contextlib.AbstractAsyncContextManager[Line]:
    """Open it. pinged: told of each ping; heard: of so many bytes. Raises LinkDown."""
    if section.transport == "multicast":
        return _to_group(section)
    return _to_server(section, config_path, lookup, pinged, heard)


class Events:
    """What a far side says, cut into events, of which pings alone matter."""

    def __init__(self, pinged: Callable[[], None]) -> None:
        self._pinged = pinged
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *events, rest = (self._rest + data).split(END)
        for event in events:
            if _is_ping(event):
                self._pinged()
        # Of one that is too long nothing is kept: what pings is short.
        self._rest = rest if len(rest) <= HEARD_MOST else b""


def _is_ping(event: bytes) -> bool:
    """One look at one tag: what a server says must not cost more than it is worth."""
    begin = event.find(b"<event")
    tag, closed, _ = event[begin : begin + TAG_MOST].partition(b">")
    return bool(begin >= 0 and closed and _PING.search(tag))


# --------------------------------------------------------------------------- a stream


class _Stream:
    stream = True

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        deadline_s: float,
        pinged: Callable[[], None],
        heard: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._deadline_s = deadline_s
        self._events = Events(pinged)
        self._heard = heard

    async def put(self, events: Sequence[bytes]) -> None:
        self._writer.write(b"".join(events))
        try:
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the result.
            async with asyncio.timeout(self._deadline_s):
                await self._writer.drain()
        except TimeoutError as error:
            raise LinkDown("does not read") from error
        except OSError as error:  # ssl.SSLError is one
            raise LinkDown("connection lost") from error

    async def broken(self) -> str:
        try:
            while data := await self._reader.read(4096):
                self._heard(len(data))
                self._events.feed(data)
        except ssl.SSLError:
            return "refused by the server"
        except OSError:
            return "connection lost"
        return "closed by the server"


@contextlib.asynccontextmanager
async def _to_server(
    section: CotSection,
    config_path: Path,
    lookup: Lookup,
    pinged: Callable[[], None],
    heard: Callable[[int], None],
) -> AsyncIterator[Line]:
    tls = await in_own_thread(lambda: _context(section, config_path))
    try:
        addresses = await lookup.find(section.host, section.port, within_s=LOOKUP_WITHIN_S)
        sock = await connected(
            addresses,
            within_s=CONNECT_WITHIN_S,
            options=(
                (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            ),
        )
    except NameNotFound as error:
        raise LinkDown(str(error)) from error
    except OSError as error:
        raise LinkDown("unreachable") from error
    reader, writer = await _speaking(sock, section, tls)
    # Empty when `put` returns: what was said is in the kernel, not in a list of ours. (With 0 the
    # TLS of Python 3.11 takes an empty buffer for a full one, and waits for ever.)
    writer.transport.set_write_buffer_limits(high=1, low=0)
    try:
        yield _Stream(reader, writer, section.write_deadline_s, pinged, heard)
    finally:
        # Not close: that waits for a far side that may never read.
        writer.transport.abort()


async def _speaking(
    sock: socket.socket, section: CotSection, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(HANDSHAKE_WITHIN_S):
            sock.setblocking(False)
            return await asyncio.open_connection(
                sock=sock,
                ssl=tls,
                server_hostname=(section.server_name or section.host) if tls else None,
            )
    except BaseException as error:
        # Whatever it is, nobody else closes it.
        sock.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise LinkDown("certificate of the server not trusted", refused=True) from error
        if isinstance(error, TimeoutError):
            raise LinkDown("no handshake in time") from error
        if isinstance(error, OSError):
            raise LinkDown("handshake failed") from error
        raise


def _context(section: CotSection, config_path: Path) -> ssl.SSLContext | None:
    """Blocks. Raises LinkDown(refused=True): nothing mends it but an operator."""
    if section.transport != "tls":
        return None

    def path(name: str) -> Path | None:
        return resolve(config_path, name) if name else None

    return client_tls.context(
        path(section.ca_file), path(section.cert_file), path(section.key_file)
    )


# --------------------------------------------------------------------------- a group


class _Group:
    stream = False

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self._sock = sock
        self._deadline_s = deadline_s

    async def put(self, events: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline_s):
                for event in events:
                    await loop.sock_sendall(self._sock, event)
        except TimeoutError as error:
            raise LinkDown("host does not send") from error
        except OSError as error:
            raise LinkDown("cannot be sent") from error

    async def broken(self) -> str:
        await asyncio.Event().wait()
        return ""


@contextlib.asynccontextmanager
async def _to_group(section: CotSection) -> AsyncIterator[Line]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, section.ttl)
            if section.interface:
                interface = ipaddress.IPv4Address(section.interface).packed
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            sock.connect((section.host, section.port))
        except OSError as error:
            raise LinkDown("no way to the group") from error
        yield _Group(sock, section.write_deadline_s)
