"""A bearer to every terminal: up or down, slow or deaf, and it keeps what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from gateway.errors import LinkDown, SendFailed
from gateway.messages import Bearer, Downlink, Issi
from gateway.ports import SEND_S, Handle


class Sent(msgspec.Struct, frozen=True):
    terminal: Issi
    message: Downlink
    expires_in_s: float


class FakeLink:
    """gateway.ports.Link. failing: every send is SendFailed. gate: sends wait while it is cleared.

    error: raised by every send as it is (a defect of a link). took: told what it was given.
    """

    def __init__(self, name: str = "air", *, bearer: Bearer = Bearer.MQTT) -> None:
        self.name = name
        self.kind = bearer.value
        self.bearer = bearer
        self.send_s = SEND_S
        self.sent: list[Sent] = []
        self.heard_at_s: float | None = None
        self.up = True
        self.failing = False
        self.tries = 0
        self.error: Exception | None = None
        self.unreached: set[Issi] = set()
        self.located: set[Issi] = set()
        """Who may be asked where they are."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.took: Callable[[Issi, Downlink], None] = lambda _terminal, _message: None
        self._cut = asyncio.Event()

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        del handle  # the test says things by itself
        self._cut.clear()
        self.up = True
        up()
        try:
            await self._cut.wait()
        finally:
            self.up = False
        raise LinkDown("cut")

    def cut(self) -> None:
        self._cut.set()
        self.up = False

    def locates(self, terminal: Issi) -> bool:
        return terminal in self.located

    def reaches(self, terminal: Issi) -> bool:
        return self.up and terminal not in self.unreached

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        del deadline_s  # the fake clock decides how long anything takes
        self.tries += 1
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if self.failing or not self.reaches(terminal):
            raise SendFailed("down")
        self.sent.append(Sent(terminal, message, expires_in_s))
        self.took(terminal, message)
