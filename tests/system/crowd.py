"""Clients that do harm, as a process: `python -m tests.system.crowd PORT COOKIE`, until killed.

The cookie is of a session: what only an insider can do harm with is done, too.

Apart from whoever measures what they cost others, and at low priority: on a machine with few cores
a crowd in the measuring process would measure itself. All come from other addresses of loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HALVES = 2000
ADDRESSES = 40
AGAIN_S = 0.2
"""So soon who was cut is back."""
NICENESS = 10
IP_BIND_ADDRESS_NO_PORT = 24
"""<linux/in.h>: the port is chosen when it is known whereto, so that 2,000 find one at once."""

SNAPSHOT = b"GET /api/v1/snapshot HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: %b\r\n\r\n"
HUGE_BODY = (
    b"POST /api/v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 104857600\r\n\r\n" + b" " * 65536
)


@contextlib.asynccontextmanager
async def connected(port: int, address: str, *, window: int = 0) -> AsyncIterator[socket.socket]:
    """window: of receiving, in bytes; 0: the kernel's."""
    sock = socket.socket()
    try:
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.setblocking(False)
        sock.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield sock
    finally:
        sock.close()


async def half_request(port: int, place: int) -> None:
    """W03: half a header, and again as soon as it is cut."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError):
            async with connected(port, f"127.0.1.{place % ADDRESSES + 1}") as sock:
                await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: ")
                while await loop.sock_recv(sock, 1000):
                    pass
        await asyncio.sleep(AGAIN_S)


async def slow_reader(port: int, cookie: bytes) -> None:
    """W01: a stream read at 1 kB/s; W02: a small window makes its silence felt."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError):
            async with connected(port, "127.0.2.1", window=4096) as sock:
                head = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: %b\r\n\r\n"
                await loop.sock_sendall(sock, head % cookie)
                while await loop.sock_recv(sock, 1000):  # noqa: ASYNC110 - so slowly is the point
                    await asyncio.sleep(1.0)
        await asyncio.sleep(AGAIN_S)


async def flood(port: int, said: bytes) -> None:
    """W04: requests without end, whose answers are never read."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with connected(port, "127.0.2.2") as sock, asyncio.timeout(2.0):
                while True:
                    await loop.sock_sendall(sock, said)
        await asyncio.sleep(AGAIN_S)


async def main(port: int, cookie: bytes) -> None:
    async with asyncio.TaskGroup() as group:
        for place in range(HALVES):
            group.create_task(half_request(port, place))
        for _ in range(3):
            group.create_task(slow_reader(port, cookie))
        for said in (SNAPSHOT % cookie * 20, HUGE_BODY):
            group.create_task(flood(port, said))


@contextlib.asynccontextmanager
async def at_the_door(port: int, cookie: str) -> AsyncIterator[None]:
    """For the test: all of them, while it lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.system.crowd", str(port), cookie),
        cwd=ROOT,
    )
    try:
        yield
        assert process.returncode is None, "the crowd has gone"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def inside(port: int) -> int:
    """How many connections this port of loopback holds, by the kernel's own list."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:])
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "01" for row in rows)


if __name__ == "__main__":
    os.nice(NICENESS)
    asyncio.run(main(int(sys.argv[1]), sys.argv[2].encode()))
