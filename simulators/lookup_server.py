"""What every server that is asked about a subject has: faults, a token, a latency, its own log."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Literal, Protocol

from aiohttp import web

from adapters.pnc.mock import Latency
from simulators.clock import Clock, RealClock
from simulators.http_server import HttpServer, error_reply
from simulators.pnc_log import PncLog, Query, Reply

Fault = Literal["hang", "down", "slow"]


class Asked(Protocol):
    """What of a question stands in the log."""

    @property
    def check(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def key_text(self) -> str: ...


class LookupServer(HttpServer):
    """fault: what all questions meet until it is None again. silent: sources that do not reply now.
    token: what must stand in Authorization; empty: anybody may ask. latency: what an answer takes
    besides; None: nothing. log: a file for every query and reply, as JSON lines.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        clock: Clock | None,
        latency: Latency | None,
        log: Path | None,
    ) -> None:
        super().__init__(host, port, clock=clock or RealClock())
        self.fault: Fault | None = None
        self.silent: frozenset[str] = frozenset()
        self._token = token
        self._latency = latency
        self._log = PncLog(self._clock, log)

    @property
    def queries(self) -> deque[Query]:
        """The questions as they were read, oldest first; the last 20 000."""
        return self._log.queries

    @property
    def replies(self) -> deque[Reply]:
        """What became of them, in the order in which it was sent; the last 20 000."""
        return self._log.replies

    async def start(self) -> None:
        """Listen. Raises OSError when the port or the log's file cannot be had."""
        self._log.open()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        self._log.close()

    def _stranger(self, request: web.Request) -> bool:
        return bool(self._token) and request.headers.get("Authorization") != f"Bearer {self._token}"

    def _refuse(
        self, question: Asked, fault: str, status: int, code: str, message: str
    ) -> web.Response:
        self._note(question, "error", fault, status)
        return error_reply(status, code, message)

    def _note(self, question: Asked, kind: str, fault: str, status: int) -> None:
        self._log.reply(
            check=question.check,
            attempt=question.attempt,
            key_text=question.key_text,
            kind=kind,
            fault=fault,
            status=status,
        )


async def drop(request: web.Request, body: bytes) -> web.StreamResponse:
    """Whole length announced, half of it sent."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
