"""The PNC behind HTTP, as docs/pnc-http.md has it, with every fault on demand.

It writes its replies from that document, not with the gateway's own types of the wire, so that a
misreading on one side is seen on the other. `queries` is its own record of what it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiohttp import web

from adapters.pnc.mock import HANG_S, LATE_S, SLOW_S, Register, fault_of
from gateway.messages import (
    DriverKey,
    Key,
    PersonKey,
    PncAnswer,
    PropertyKey,
    VehicleKey,
)
from simulators.clock import Clock, RealClock

KEYS: dict[str, type[Any]] = {
    "vehicle": VehicleKey,
    "person": PersonKey,
    "driver": DriverKey,
    "property": PropertyKey,
}
QUERIES_MOST = 20_000
BODY_MOST = 65536
HUGE_BYTES = 50 * 1024 * 1024
SWAP_WITHIN_S = 1.0
STOP_WITHIN_S = 1.0
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

Fault = Literal["hang", "down", "slow"]


class Query(msgspec.Struct, frozen=True):
    """One question as it was read from the wire. replied: the result sent, or the fault done."""

    at_s: float
    check: str
    attempt: int
    key_text: str
    originator: str
    replied: str


class PncServer:
    """One server on host:port; port 0 takes any, and `url` says which after `start`.

    fault: what all questions meet until it is None again. token: what must stand in
    Authorization; empty: anybody may ask.
    """

    def __init__(
        self,
        records: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.fault: Fault | None = None
        self.queries: deque[Query] = deque(maxlen=QUERIES_MOST)
        self._register = Register(records)
        self._host, self._port = host, port
        self._token = token
        self._clock = clock or RealClock()
        self._runner: web.AppRunner | None = None
        self._waiting: tuple[asyncio.Future[bytes], bytes] | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application(client_max_size=BODY_MOST)
        app.router.add_post("/v1/query", self._query)
        runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=STOP_WITHIN_S
        )
        await runner.setup()
        self._runner = runner
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, self._port))
            self._port = int(sock.getsockname()[1])
            await web.SockSite(runner, sock).start()
        except OSError:
            sock.close()
            await runner.cleanup()
            raise

    async def stop(self) -> None:
        """Hang up on everybody; harmless when it never started."""
        self._stopping.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    # ----------------------------------------------------------------- one question

    async def _query(self, request: web.Request) -> web.StreamResponse:
        if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            return _error(401, "TOKEN", "NOT AUTHORISED")
        if self.fault == "down":
            return _error(503, "PNCAM", "COMMUNICATION ERROR")
        try:
            asked = json.loads(await request.read())
            key = _key(asked)
            check, attempt = str(asked["check"]), int(asked["attempt"])
            key_text, originator = str(asked["key_text"]), str(asked["originator"])
            deadline_s = float(asked["deadline_s"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return _error(400, "I0001", "THE QUERY IS NOT AS DOCUMENTED")
        fault = fault_of(key)
        self.queries.append(
            Query(
                at_s=self._clock.monotonic_s(),
                check=check,
                attempt=attempt,
                key_text=key_text,
                originator=originator,
                replied=self.fault or fault or "answer",
            )
        )
        if self.fault == "hang" or fault == "TMT":
            await self._pause(HANG_S)
            return _hang_up(request)
        if self.fault == "slow" or fault == "SLW":
            await self._pause(SLOW_S)
        if fault == "LAT":
            await self._pause(deadline_s + LATE_S)
        if fault in ERRORS:
            return _error(*ERRORS[fault])
        now_ms = self._clock.wall_ms()
        answer = self._register.answer(
            key, check=check, attempt=attempt, key_text=key_text, now_ms=now_ms
        )
        return await self._reply(request, fault, _body(answer))

    async def _reply(self, request: web.Request, fault: str, body: bytes) -> web.StreamResponse:
        """The answer, or what a fault on the wire makes of it."""
        match fault:
            case "RST":
                return _reset(request)
            case "DRP":
                return await _drop(request, body)
            case "GBG":
                return _json(GARBAGE)
            case "TRN":
                return _json(body[: len(body) * 2 // 3])
            case "VST":
                return await _huge(request, body)
            case "ECH":
                return _json(_other_key(body))
            case "ORD":
                return _json(await self._swapped(body))
            case "DUP":
                return await _twice(request, body)
            case _:
                return _json(body)

    async def _pause(self, seconds: float) -> None:
        """Until then, or until the server stops."""
        stop = asyncio.ensure_future(self._stopping.wait())
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({stop, nap}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            nap.cancel()

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
        return _other_key(body)


# --------------------------------------------------------------------------- the wire


def _key(asked: dict[str, Any]) -> Key:
    members = dict(asked["key"])
    key: Key = msgspec.convert(members, KEYS[str(asked["operation"])])
    return key


def _body(answer: PncAnswer) -> bytes:
    """The reply of docs/pnc-http.md."""
    result = "too_many" if answer.too_many else "trace" if answer.records else "no_trace"
    return json.dumps(
        {
            "protocol": 1,
            "check": answer.check,
            "attempt": answer.attempt,
            "key_text": answer.key_text,
            "result": result,
            "as_of": _moment(answer.as_of_ms),
            "records": [_record(record) for record in answer.records],
            "blocks": [
                {"source": each.source, "as_of": _moment(each.as_of_ms), "state": each.state}
                for each in answer.blocks
            ],
            "not_checked": list(answer.not_checked),
            "synthetic": True,
        }
    ).encode()


def _record(record: Any) -> Any:
    """A record's members by their names; its kind as `record`; what is unknown is left out."""
    if isinstance(record, msgspec.Struct):
        members = {name: getattr(record, name) for name in record.__struct_fields__}
        shown = {
            name: _record(value) for name, value in members.items() if value not in (None, "", ())
        }
        kinds = {"PersonRecord", "VehicleRecord", "PropertyRecord", "DriverRecord"}
        name = type(record).__name__
        return {"record": name.removesuffix("Record").lower(), **shown} if name in kinds else shown
    if isinstance(record, tuple | list):
        return [_record(each) for each in record]
    return record


def _moment(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


def _other_key(body: bytes) -> bytes:
    reply = json.loads(body)
    reply["key_text"] = "VRM:TE99ZZZ"
    return json.dumps(reply).encode()


# --------------------------------------------------------------------------- broken on the wire


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=504)


def _reset(request: web.Request) -> web.Response:
    """RST instead of FIN: linger 0 before the close."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=502)


async def _drop(request: web.Request, body: bytes) -> web.StreamResponse:
    """Whole length announced, half of it sent."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


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
