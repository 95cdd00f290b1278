"""A line behind a device server (`socket://host:port`): a serial port at the end of a connection.

A connection may end without a word (the server loses power, a cable is pulled): keep-alive and the
user time-out find that. Little may wait in the kernel: it cannot be taken back.
"""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

from adapters.dialling import Lookup, NameNotFound, connected
from adapters.links.line import Opened, drained, why
from gateway.errors import LinkDown

SCHEME = "socket://"
LOOKUP_WITHIN_S = 2.0
CONNECT_WITHIN_S = 3.0
PROBE_AFTER_S = 10
PROBE_EVERY_S = 5
PROBES = 3
USER_TIMEOUT_MS = 15_000
_RESET = struct.pack("ii", 1, 0)


async def open_socket(url: str, lookup: Lookup, *, write_buffer: int) -> Opened:
    """Connected, not waiting on reads or writes. Raises LinkDown."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    try:
        addresses = await lookup.find(host, port, within_s=LOOKUP_WITHIN_S)
    except NameNotFound as error:
        raise LinkDown(str(error)) from error
    try:
        sock = await connected(
            addresses,
            within_s=CONNECT_WITHIN_S,
            options=(
                (socket.SOL_SOCKET, socket.SO_SNDBUF, write_buffer),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            ),
        )
    except OSError as error:
        raise LinkDown(why(error, "unreachable")) from error
    return _opened(sock)


def _opened(sock: socket.socket) -> Opened:
    sock.setblocking(False)

    def close() -> None:
        if not drained(sock.fileno()):
            # Reset, not finish: nobody is to read later what was meant for now.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()

    return Opened(descriptor=sock.fileno(), discard=lambda: False, close=close)
