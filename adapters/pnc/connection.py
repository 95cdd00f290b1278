"""One question's connection: what comes after its reply is heard, and never read as one.

aiohttp closes as soon as a reply is whole, and takes what stands right behind it for a fault of
that reply. Here a reply that says its length ends there, and the connection stays a moment longer,
so that a second one (P06) is known of: how long it was, and its hash.
What is private of aiohttp is used here on purpose: the pin in pyproject.toml stands for it.
"""

from __future__ import annotations

import asyncio
import re
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from adapters.pnc.fingerprint import fingerprint
from gateway.ports import Also

LISTEN_S = 2.0
"""After a reply. Whoever does as it was told (`Connection: close`) hangs up before that."""
AFTER_MOST = 65536
"""Bytes after a reply; more is not read."""
CAME_MOST = 65536
"""Of what came: a head, and of what is no reply its fingerprint."""
LISTENING_MOST = 64
"""Connections at once; one more is closed with its reply, as all would be without this."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)

LINES: ContextVar[list[Line]] = ContextVar("lines")
"""Where the task that asks finds the connections that were made for it."""


class Connector(aiohttp.TCPConnector):
    """Makes a Line of each connection, one for each question."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit, force_close=True)
        self.listening: set[Line] = set()
        loop = asyncio.get_running_loop()
        self._factory: Any = lambda: Line(loop, self.listening)

    def hang_up(self) -> None:
        """On everybody whose reply is whole."""
        for line in list(self.listening):
            line.hang_up()


class Line(ResponseHandler):
    """listening: those of the same connector that stay after their reply; it puts itself there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listening: set[Line]) -> None:
        super().__init__(loop)
        self._listening = listening
        self._until: asyncio.TimerHandle | None = None
        self._came = bytearray()
        """The first of what came, in case that it is no reply."""
        self._size = 0
        self._end_at: int | None = None
        """Where the reply ends; None while that is not known, -1 when only aiohttp can tell."""
        self._after = bytearray()
        self._heard: Also | None = None
        self._found: tuple[str, bytes] | None = None
        if (lines := LINES.get(None)) is not None:
            lines.append(self)

    def on_more(self, heard: Also) -> None:
        """Told once of what came after the reply, if anything did: perhaps at once."""
        if self._found is not None:
            heard(*self._found)
        else:
            self._heard = heard

    def so_far(self, reason: str) -> bytes:
        """Fingerprint of what came, as it came, for what is no reply."""
        return fingerprint(reason, bytes(self._came), whole=len(self._came) < CAME_MOST)

    # ----------------------------------------------------------------- asyncio's and aiohttp's

    def data_received(self, data: bytes) -> None:
        if not data or self._parser is None:  # goes on with what it has, or keeps it for later
            super().data_received(data)
            return
        if len(self._came) < CAME_MOST:
            self._came += data[: CAME_MOST - len(self._came)]
        if self._end_at is None:
            self._end_at = _reply_end(self._came)
        mine = data
        if self._end_at is not None and self._end_at >= 0:
            left = max(0, self._end_at - self._size)
            mine = data[:left]
            self._after += data[left : left + AFTER_MOST - len(self._after)]
        self._size += len(data)
        if mine:
            super().data_received(mine)
        if len(self._after) >= AFTER_MOST and self._until is not None:
            self.hang_up()

    def close(self) -> None:
        """The connector lets go: at the end of the reply, or because nobody wants it any more."""
        if self._until is not None:
            return
        whole = self._payload is not None and (self._payload.is_eof() or bool(self._buffer))
        if whole and self.transport is not None and len(self._listening) < LISTENING_MOST:
            self._end_at = 0
            self._listening.add(self)
            self._until = self._loop.call_later(LISTEN_S, self.hang_up)
            return
        if whole:
            self._end()
        super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._until is not None:
            self._end()
        super().connection_lost(exc)

    # ----------------------------------------------------------------- the end

    def hang_up(self) -> None:
        self._end()
        super().close()

    def _end(self) -> None:
        if self._until is not None:
            self._until.cancel()
        self._listening.discard(self)
        if self._found is None:
            self._found = self._more()
            if self._found is not None and self._heard is not None:
                self._heard(*self._found)

    def _more(self) -> tuple[str, bytes] | None:
        """A second reply, of which its body counts; or bytes, but for the ends of lines that some
        servers add."""
        if self._buffer:
            # Right behind one that did not say its length: aiohttp has read it, for nobody.
            (_, body), _ = self._buffer[0]
            cut_off = body.exception() is not None
            data = b"" if cut_off else body.read_nowait()
            return "second", fingerprint("second", data, whole=body.is_eof() and not cut_off)
        whole = len(self._after) < AFTER_MOST
        stray = bytes(self._after)
        if not stray.strip(b"\r\n"):
            return None
        if stray.startswith(b"HTTP/"):
            return "second", fingerprint("second", stray.partition(b"\r\n\r\n")[2], whole=whole)
        return "stray", fingerprint("stray", stray, whole=whole)


def _reply_end(came: bytes | bytearray) -> int | None:
    """Bytes of the reply that begins so, head and body; None while its head is not all there, -1
    when only aiohttp can tell."""
    end = came.find(b"\r\n\r\n")
    if end < 0:
        return None if len(came) < CAME_MOST else -1
    head = bytes(came[: end + 2])
    lengths = _LENGTH.findall(head)
    if not head.startswith(b"HTTP/1.1 200 ") or len(lengths) != 1 or _CODED.search(head):
        return -1
    return end + 4 + int(lengths[0])
