"""The PNC behind HTTP, as docs/pnc-http.md has it, with every fault on demand.

It reads and writes that document by itself (pnc_wire.py), not with the gateway's own types of the
wire. `queries` and `replies` are its own record of what it was asked and what it said.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path

from aiohttp import web

from adapters.pnc.mock import (
    HANG_S,
    LATE_S,
    SLOW_S,
    InvalidKey,
    Latency,
    Register,
    fault_of,
)
from simulators import pnc_wire
from simulators.clock import Clock
from simulators.http_server import error_reply, hang_up, json_reply
from simulators.lookup_server import LookupServer, drop
from simulators.pnc_wire import NotAsDocumented, Question

READ_WITHIN_S = 10.0
"""For the body of a question; aiohttp bounds the head itself, but not a body that drips."""
HUGE_BYTES = 50 * 1024 * 1024
SWAP_WITHIN_S = 0.3
GARBAGE = b"<CXE01><GMH>073ENQR000687R\xff\xfe</GMH>"
ERRORS = {
    "BAD": (400, "I0001", "ELEMENT CONTAINS INVALID DATA"),
    "THR": (429, "THROTTLED", "TOO MANY REQUESTS"),
    "ERR": (500, "I1036", "ERROR ENCOUNTERED PROCESSING ENQUIRY"),
    "MNT": (503, "PNCAM", "MAINTENANCE"),
    "LCK": (423, "I6001", "RECORD LOCK"),
    "AUT": (401, "TOKEN", "EXPIRED TOKEN"),
    "FRB": (403, "FORBIDDEN", "PAYLOAD NOT PERMITTED"),
}
BROKEN = frozenset({"RST", "DRP", "GBG", "TRN", "VST", "ECH", "ORD", "DUP"})


class PncServer(LookupServer):
    """One server on host:port; port 0 takes any, and `url` says which after `start`."""

    def __init__(
        self,
        records: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str = "",
        clock: Clock | None = None,
        latency: Latency | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__(host, port, token=token, clock=clock, latency=latency, log=log)
        self._register = Register(records)
        self._waiting: tuple[asyncio.Future[bytes], bytes] | None = None

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/query", self._query)
        app.router.add_get("/v1/sources", self._sources)

    async def _sources(self, request: web.Request) -> web.StreamResponse:
        """Which sources reply now: names no subject, so it is in no log."""
        if self._stranger(request):
            return error_reply(401, "TOKEN", "NOT AUTHORISED")
        if self.fault == "hang":
            await self.pause(HANG_S)
            return hang_up(request)
        if self.fault == "down":
            return error_reply(503, "PNCAM", "COMMUNICATION ERROR")
        return json_reply(pnc_wire.sources(self.silent))

    # ----------------------------------------------------------------- one question

    async def _query(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                question = pnc_wire.read_question(await request.read())
        except TimeoutError:
            return hang_up(request)
        except NotAsDocumented:
            return error_reply(400, "I0001", "THE QUERY IS NOT AS DOCUMENTED")
        self._log.query(
            check=question.check,
            attempt=question.attempt,
            key_text=question.key_text,
            originator=question.originator,
        )
        if self._stranger(request):
            return self._refuse(question, "token", 401, "TOKEN", "NOT AUTHORISED")
        if self.fault == "down":
            return self._refuse(question, "down", 503, "PNCAM", "COMMUNICATION ERROR")
        fault = fault_of(question.key)
        if self.fault == "hang" or fault == "TMT":
            await self.pause(HANG_S)
            self._note(question, "none", fault or "hang", 0)
            return hang_up(request)
        if self._latency is not None:
            await self.pause(self._latency.draw_s())
        if self.fault == "slow" or fault == "SLW":
            await self.pause(SLOW_S)
        if fault == "LAT":
            await self.pause(question.deadline_s + LATE_S)
        if fault in ERRORS:
            return self._refuse(question, fault, *ERRORS[fault])
        return await self._answer(request, question, fault)

    async def _answer(
        self, request: web.Request, question: Question, fault: str
    ) -> web.StreamResponse:
        try:
            answer = self._register.answer(
                question.key,
                check=question.check,
                attempt=question.attempt,
                key_text=question.key_text,
                now_ms=self._clock.wall_ms(),
                silent=self.silent,
            )
        except InvalidKey:
            return self._refuse(question, "", 400, "I0001", "ELEMENT CONTAINS INVALID DATA")
        body = pnc_wire.reply(answer)
        self._log.reply(
            check=question.check,
            attempt=question.attempt,
            key_text=question.key_text,
            kind="broken" if fault in BROKEN else pnc_wire.result_of(answer),
            fault=fault or self.fault or "",
            warnings=tuple(pnc_wire.warnings_of(answer)),
        )
        return await self._send(request, fault, body)

    async def _send(self, request: web.Request, fault: str, body: bytes) -> web.StreamResponse:
        """The answer, or what a fault on the wire makes of it."""
        match fault:
            case "RST":
                return _reset(request)
            case "DRP":
                return await drop(request, body)
            case "GBG":
                return json_reply(GARBAGE)
            case "TRN":
                return json_reply(body[: len(body) * 2 // 3])
            case "VST":
                return await _huge(request, body)
            case "ECH":
                return json_reply(pnc_wire.of_another_key(body))
            case "ORD":
                return json_reply(await self._swapped(body))
            case "DUP":
                return await _twice(request, body)
            case _:
                return json_reply(body)

    async def _swapped(self, body: bytes) -> bytes:
        """Two who ask at the same time get each other's reply; one alone gets a stranger's."""
        if self._waiting is not None:
            other, others_body = self._waiting
            self._waiting = None
            if not other.done():
                other.set_result(body)
                return others_body
        mine: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting = (mine, body)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(mine, SWAP_WITHIN_S)
        self._waiting = None
        return pnc_wire.of_another_key(body)


# --------------------------------------------------------------------------- broken on the wire


def _reset(request: web.Request) -> web.Response:
    """RST instead of FIN: linger 0 before the close."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=502)


async def _huge(request: web.Request, body: bytes) -> web.StreamResponse:
    """A right reply behind 50 MB of blanks."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    blanks = b" " * 65536
    with contextlib.suppress(ConnectionError):
        for _ in range(HUGE_BYTES // len(blanks)):
            await response.write(blanks)
        await response.write(body)
    return response


async def _twice(request: web.Request, body: bytes) -> web.StreamResponse:
    """The same reply again on the same connection, as a stuttering front end sends it."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    if request.transport is not None:
        request.transport.write((head.encode() + body) * 2)
        request.transport.close()
    return web.Response(status=200)
