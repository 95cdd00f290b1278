"""Who may hold a connection, and for how long without saying what he wants.

aiohttp by itself bounds neither the number of connections of an address nor the time of a body or
of a reader that does not read (libraries reference, 6). One clock per connection does both here:
it is wound for the header, for the request, and for the way out; a stream keeps its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

from aiohttp import web

from gateway.settings import HttpSection

SEND_BUFFER = 64 * 1024
"""Kernel bytes per connection: more would hide minutes of events from a reader that stopped."""
DEAD_PEER_MS = 20_000
"""Unacknowledged bytes for so long: the far side is gone without a word."""
WAY_OUT_S = 20.0
"""What is left for writing an answer that has been made."""
LINGER_S = 2.0

_FULL = b'{"type":"about:blank","title":"too many connections","status":503}\n'
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\nRetry-After: 2\r\nConnection: close\r\n\r\n%b" % (len(_FULL), _FULL)
)


class Doors:
    """Counts who is in, and makes a Doorway for each who comes."""

    def __init__(self, settings: HttpSection) -> None:
        self.settings = settings
        self.inside: Counter[str] = Counter()

    def open(self, server: web.Server) -> Doorway:
        """A protocol for one new connection (factory of loop.create_server)."""
        return Doorway(self, server)

    def enter(self, address: str) -> bool:
        """Whether there is room for one more from there."""
        full = self.inside.total() >= self.settings.max_connections
        if full or self.inside[address] >= self.settings.max_per_address:
            return False
        self.inside[address] += 1
        return True

    def leave(self, address: str) -> None:
        self.inside[address] -= 1
        if not self.inside[address]:
            del self.inside[address]


class Doorway(web.RequestHandler):
    """One connection: aiohttp's protocol with a deadline on everything."""

    __slots__ = ("_address", "_alarm", "_doors", "_flowing")

    def __init__(self, doors: Doors, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=doors.settings.header_deadline_s,
            access_log=None,  # type: ignore[arg-type] # None is how it is turned off
            lingering_time=LINGER_S,
        )
        self._doors = doors
        self._address: str | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    # ------------------------------------------------------------------ the deadline

    def within(self, seconds: float | None) -> None:
        """From now on the connection has so long for what comes next; None: it keeps itself."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if seconds is not None:
            self._alarm = asyncio.get_running_loop().call_later(seconds, self.abort)

    def abort(self) -> None:
        """Cut it without a word: whoever does not read would not read that either."""
        if self.transport is not None:
            self.transport.abort()

    async def flowing(self) -> None:
        """Wait until the kernel has taken what was written."""
        await self._flowing.wait()

    # ------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self._doors.enter(address):
            transport.write(BUSY)
            transport.close()
            return
        self._address = address
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError, AttributeError):  # not every system has the option
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
        super().connection_made(transport)
        self.within(self._doors.settings.header_deadline_s)

    def data_received(self, data: bytes) -> None:
        if self._address is not None:  # whoever was turned away is not listened to
            super().data_received(data)

    def eof_received(self) -> None:
        if self._address is not None:
            super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.within(None)
        self._flowing.set()
        if self._address is not None:
            self._doors.leave(self._address)
            self._address = None
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._flowing.clear()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._flowing.set()
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is not HTTP gets a plain answer: no version, no echo of what was sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        answer = web.Response(
            status=status,
            body=b'{"title":"bad request"}\n' if status < 500 else b'{"title":"error"}\n',
            content_type="application/problem+json",
            headers={"Server": "gateway"},
        )
        answer.force_close()
        return answer
