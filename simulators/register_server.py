"""The vehicle register behind HTTP, as docs/pnc-http.md has it, with every fault on demand.

Beside the PNC, on a port and path of its own, with a log of its own: whoever asks it for tax, MOT
and insurance leaves no line in the PNC's. It writes that document by itself, every member by its
name on the wire.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from adapters.pnc.mock import Latency
from adapters.register.mock import (
    HANG_S,
    SLOW_S,
    SOURCES,
    InvalidMark,
    StatusRecords,
    fault_of,
    silent_of,
)
from gateway.messages import RegisterAnswer, StatusRecord
from simulators.clock import Clock
from simulators.http_server import error_reply, hang_up, json_reply
from simulators.lookup_server import LookupServer, drop

PROTOCOL = 1
READ_WITHIN_S = 10.0
HUGE_BYTES = 1024 * 1024
GARBAGE = b"<html>VEHICLE ENQUIRY</html>"
ERRORS = {
    "BAD": (400, "ENQ103", "INVALID FORMAT FOR FIELD"),
    "THR": (429, "ENQ429", "TOO MANY REQUESTS"),
    "ERR": (500, "ENQ500", "SYSTEM ERROR"),
    "MNT": (503, "ENQ503", "SERVICE UNAVAILABLE"),
    "AUT": (401, "ENQ401", "NOT AUTHORISED"),
}


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """As it stood on the wire; a member too many is no question of the document's."""

    protocol: int
    check: str
    attempt: int
    key_text: str
    vrm: str
    asked_at: str
    deadline_s: float


class RegisterServer(LookupServer):
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
        self._records = StatusRecords(records)

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/register/v1/vehicles", self._look_up)
        app.router.add_get("/register/v1/sources", self._sources)

    # ----------------------------------------------------------------- one question

    async def _look_up(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                question = _read(await request.read())
        except TimeoutError:
            return hang_up(request)
        except ValueError:
            return error_reply(400, "ENQ103", "THE QUERY IS NOT AS DOCUMENTED")
        self._log.query(
            check=question.check,
            attempt=question.attempt,
            key_text=question.key_text,
            originator="",
        )
        if self._stranger(request):
            return self._refuse(question, "token", *ERRORS["AUT"])
        if self.fault == "down":
            return self._refuse(question, "down", *ERRORS["MNT"])
        fault = fault_of(question.vrm)
        if self.fault == "hang" or fault == "TMT":
            await self.pause(HANG_S)
            self._note(question, "none", fault or "hang", 0)
            return hang_up(request)
        if self._latency is not None:
            await self.pause(self._latency.draw_s())
        if self.fault == "slow" or fault == "SLW":
            await self.pause(SLOW_S)
        if fault in ERRORS:
            return self._refuse(question, fault, *ERRORS[fault])
        return await self._answer(request, question, fault)

    async def _answer(
        self, request: web.Request, question: Question, fault: str
    ) -> web.StreamResponse:
        try:
            answer = self._records.answer(
                question.vrm,
                check=question.check,
                attempt=question.attempt,
                key_text=question.key_text,
                now_ms=self._clock.wall_ms(),
                silent=self.silent | silent_of(fault),
            )
        except InvalidMark:
            return self._refuse(question, "", *ERRORS["BAD"])
        body = _reply(answer)
        broken = fault in {"GBG", "TRN", "VST", "ECH", "DRP"}
        found = "trace" if answer.record is not None else "no_trace"
        self._note(question, "broken" if broken else found, fault or self.fault or "", 200)
        match fault:
            case "GBG":
                return json_reply(GARBAGE)
            case "TRN":
                return json_reply(body[: len(body) * 2 // 3])
            case "VST":
                return json_reply(b" " * HUGE_BYTES + body)
            case "ECH":
                return json_reply(
                    json.dumps(json.loads(body) | {"key_text": "VRM:TE99ZZZ"}).encode()
                )
            case "DRP":
                return await drop(request, body)
            case _:
                return json_reply(body)

    async def _sources(self, request: web.Request) -> web.StreamResponse:
        """Which sources reply now: names no vehicle, so it is in no log."""
        if self._stranger(request):
            return error_reply(*ERRORS["AUT"])
        if self.fault == "hang":
            await self.pause(HANG_S)
            return hang_up(request)
        if self.fault == "down":
            return error_reply(*ERRORS["MNT"])
        states = [
            {"source": name, "state": "UNAVAILABLE" if name in self.silent else "OK"}
            for name in SOURCES
        ]
        return json_reply(json.dumps({"protocol": PROTOCOL, "sources": states}).encode())


# --------------------------------------------------------------------------- the wire


def _read(body: bytes) -> Question:
    """Raises ValueError for what is none of the document's questions."""
    question = msgspec.json.decode(body, type=Question)
    if question.protocol != PROTOCOL:
        raise ValueError("not as documented")
    return question


def _reply(answer: RegisterAnswer) -> bytes:
    record = answer.record
    members: dict[str, Any] = {
        "protocol": PROTOCOL,
        "check": answer.check,
        "attempt": answer.attempt,
        "key_text": answer.key_text,
        "result": "found" if record is not None else "not_found",
        "as_of": _moment(answer.as_of_ms),
        "blocks": [
            {"source": each.source, "as_of": _moment(each.as_of_ms), "state": each.state}
            for each in answer.blocks
        ],
        "synthetic": True,
    }
    if record is not None:
        members["record"] = _status(record)
    return json.dumps(members).encode()


def _status(record: StatusRecord) -> dict[str, Any]:
    """Without what is not known: a member is left out, never null or empty."""
    members = {
        "vrm": record.vrm,
        "tax": record.tax,
        "tax_due": record.tax_due,
        "mot": record.mot,
        "mot_expiry": record.mot_expiry,
        "insured": record.insured,
        "insurer": record.insurer,
        "sorn": record.sorn,
        "exported": record.exported,
        "make": record.make,
        "colour": record.colour,
    }
    return {name: value for name, value in members.items() if value != ""}


def _moment(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
