"""Who may hold a connection, and for how long without saying what he wants.

aiohttp by itself bounds neither the number of connections of an address nor the time of a body or
of a reader that does not read (libraries reference, 6). One clock per connection does both here:
it is wound for the header, for the request, and for the way out; a stream keeps its own. Where all
places are taken, whoever has held one for a while without saying what he wants gives it up to who
comes: a crowd of half requests keeps no operator out (W03).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter, deque
from typing import Protocol

from aiohttp import web

SEND_BUFFER = 64 * 1024
"""Kernel bytes per connection: more would hide minutes of events from a reader that stopped."""
DEAD_PEER_MS = 20_000
"""Unacknowledged bytes for so long: the far side is gone without a word."""
WAY_OUT_S = 20.0
"""What is left for writing an answer that has been made."""
LINGER_S = 2.0
PATIENCE_S = 0.5
"""So long nobody has to give way: a header is on its way for a while."""
AT_ONCE = 32
"""So many are let in in one turn of the loop: it is the radios' loop as well."""
BACKLOG = 1024
"""Who finds this full comes again after one second, two, four: an operator in a crowd (W03)."""

_FULL = b'{"type":"about:blank","title":"too many connections","status":503}\n'
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\nRetry-After: 2\r\nConnection: close\r\n\r\n%b" % (len(_FULL), _FULL)
)


class Bounds(Protocol):
    """What a section of the configuration says of its listener."""

    @property
    def max_connections(self) -> int: ...

    @property
    def max_per_address(self) -> int: ...

    @property
    def header_deadline_s(self) -> float: ...


class Doors:
    """Counts who is in, and makes a Doorway for each who comes."""

    def __init__(self, settings: Bounds) -> None:
        self.settings = settings
        self.inside: Counter[str] = Counter()
        self._silent: dict[str, dict[Doorway, float]] = {}
        """By address: who has a place and has not said what for, the longest first; since when."""
        self._greeted: deque[float] = deque()
        """When each TLS handshake began that may still be under way."""

    def open(self, server: web.Server, *, tls: bool = False) -> Doorway:
        """A protocol for one new connection (factory of loop.create_server).

        tls: the loop calls back only after the handshake, so those under way are counted here: a
        crowd that says nothing must not use up the process's files, which radios need. Raises
        ConnectionRefusedError, which closes the connection.
        """
        if tls:
            now_s, greeted = asyncio.get_running_loop().time(), self._greeted
            while greeted and now_s - greeted[0] >= self.settings.header_deadline_s:
                greeted.popleft()  # by then it has been cut
            if len(greeted) >= self.settings.max_connections:
                raise ConnectionRefusedError
            greeted.append(now_s)
        return Doorway(self, server)

    async def listen(
        self, server: web.Server, host: str, port: int, context: ssl.SSLContext | None
    ) -> asyncio.Server:
        """Bind, and let in. Raises OSError when the port cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        tls = context is not None
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # inherited
            sock.bind((host, port))
            listening = await asyncio.get_running_loop().create_server(
                lambda: self.open(server, tls=tls),
                sock=sock,
                backlog=AT_ONCE,
                ssl=context,
                ssl_handshake_timeout=self.settings.header_deadline_s if tls else None,
            )
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return listening

    def came(self) -> None:
        """One is through with its handshake."""
        if self._greeted:
            self._greeted.popleft()

    def enter(self, address: str) -> bool:
        """Whether there is room for one more from there; another may have to give way."""
        inside = self.inside
        if inside[address] >= self.settings.max_per_address and not self._yielded(address, True):
            return False
        if inside.total() >= self.settings.max_connections and not self._yielded(address, False):
            return False
        inside[address] += 1
        return True

    def _yielded(self, address: str, same: bool) -> bool:
        """Whether one who says nothing had to give its place to who comes from this address.

        same: it must be of this address. Else it is one of the largest crowd, and if that is larger
        than who comes brings, at once: however fast a crowd returns, it takes no more than its
        share. The longest silent goes first. One look at each address, not at each connection.
        """
        now_s, inside = asyncio.get_running_loop().time(), self.inside
        share = inside[address] + 1
        crowds = [address] if same else self._silent
        able = [
            crowd
            for crowd in crowds
            if (silent := self._silent.get(crowd))
            and (
                now_s - next(iter(silent.values())) >= PATIENCE_S
                or (not same and inside[crowd] > share)
            )
        ]
        if not able:
            return False
        largest = max(able, key=lambda crowd: inside[crowd])
        next(iter(self._silent[largest])).give_way()
        return True

    def silent(self, doorway: Doorway, silent: bool) -> None:
        """Whether this connection owes us a header."""
        crowd = self._silent.setdefault(doorway.address, {})
        crowd.pop(doorway, None)
        if silent:
            crowd[doorway] = asyncio.get_running_loop().time()
        if not crowd:
            del self._silent[doorway.address]

    def leave(self, address: str) -> None:
        self.inside[address] -= 1
        if not self.inside[address]:
            del self.inside[address]


class Doorway(web.RequestHandler):
    """One connection: aiohttp's protocol with a deadline on everything."""

    __slots__ = ("_alarm", "_doors", "_flowing", "_let_in", "address")

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
        self.address = ""
        """Where from; empty without a place."""
        self._let_in = False
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

    def give_way(self) -> None:
        """Leave at once, and with it the place."""
        self._leave()
        self.abort()

    def asked(self) -> None:
        """It has said what it wants, body and all: its place is its own until that is answered."""
        self._doors.silent(self, False)

    def answered(self) -> None:
        """From here on the next header is due."""
        if self.address:
            self._doors.silent(self, True)

    async def flowing(self) -> None:
        """Wait until the kernel has taken what was written."""
        await self._flowing.wait()

    # ------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._doors.came()
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else "?"
        if not self._doors.enter(address):
            transport.write(BUSY)
            transport.close()
            return
        self.address = address
        self._let_in = True
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError, AttributeError):  # not every system has the option
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
        super().connection_made(transport)
        self._doors.silent(self, True)
        self.within(self._doors.settings.header_deadline_s)

    def data_received(self, data: bytes) -> None:
        if self.address:  # whoever was turned away is not listened to
            super().data_received(data)

    def eof_received(self) -> None:
        if self.address:
            super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.within(None)
        self._flowing.set()
        let_in, self._let_in = self._let_in, False
        self._leave()
        if let_in:
            super().connection_lost(exc)

    def _leave(self) -> None:
        self._doors.silent(self, False)
        if self.address:
            self._doors.leave(self.address)
            self.address = ""

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
