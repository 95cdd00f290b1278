"""An anchor that is a syslog: a line as in RFC 5424 over UDP, TCP, TLS or a local socket.

It cannot be read back from here, and over UDP nobody knows whether it came: whoever verifies takes
the heads out of what the log server kept. Over TCP and TLS lines are framed by their length (RFC
6587, RFC 5425).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import AnchorFailed

PRIORITY = 10 * 8 + 5
"""Facility authpriv, severity notice."""
LOCAL = "unix://"


class SyslogAnchor:
    """gateway.ports.Anchor. Each head has a connection of its own: one in a minute."""

    def __init__(self, name: str, address: str, *, instance: str, ca_file: Path | None) -> None:
        self.name = name
        self._address = address
        self._instance = instance
        self._ca_file = ca_file

    async def put(self, head: bytes) -> None:
        line = self._line(head)
        try:
            if self._address.startswith(LOCAL):
                await self._datagram(line, self._address.removeprefix(LOCAL), None)
                return
            kind, host, port = _parts(self._address)
            if kind == "udp":
                await self._datagram(line, host, port)
            else:
                await self._stream(b"%d %s" % (len(line), line), kind, host, port)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise AnchorFailed(type(error).__name__) from error

    async def newest(self) -> bytes | None:
        return None

    def _line(self, head: bytes) -> bytes:
        now = datetime.now(tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        host = re.sub(r"[^!-~]", "-", socket.gethostname())[:255] or "-"
        words = f"<{PRIORITY}>1 {now} {host} radio-gateway {os.getpid()} audit-head - "
        return f"{words}{self._instance} ".encode() + head

    async def _datagram(self, line: bytes, host: str, port: int | None) -> None:
        loop = asyncio.get_running_loop()
        if port is None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(host)
                await loop.sock_sendall(sock, line)
            return
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol) as sock:
            sock.setblocking(False)
            sock.connect(address)
            await loop.sock_sendall(sock, line)

    async def _stream(self, framed: bytes, kind: str, host: str, port: int) -> None:
        context = None
        if kind == "tls":
            context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            writer.write(framed)
            await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()


def _parts(address: str) -> tuple[str, str, int]:
    """`tls://host:6514` -> its parts; raises ValueError."""
    kind, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    return kind, host.strip("[]"), int(port)
