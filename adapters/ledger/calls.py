"""What the daemon and its ledger's process say to each other: calls there, replies back, as frames.

A frame is four bytes of length, big-endian, and one message in MessagePack; both ends run the same
code, for one of them is a fork of the other. What is sent in one turn of a loop leaves in one
write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.errors import (
    DuplicateCheck,
    DuplicateReceipt,
    LedgerError,
    LedgerFatal,
    LedgerUnavailable,
)
from gateway.log_words import LogEvent, LogFields
from gateway.ports import Change, Record
from gateway.settings import AuditSection, LedgerSection

LENGTH_BYTES = 4
FRAME_MOST = 64 * 1024 * 1024
"""All open checks of a full table are some megabytes; more is no message of ours."""


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """The first call. state_dir: a path. anchored: what anchors have, by their name."""

    section: LedgerSection
    audit: AuditSection
    state_dir: str
    instance: str
    anchored: dict[str, bytes]


class Commit(msgspec.Struct, frozen=True, array_like=True, tag="commit"):
    id: int
    records: tuple[Record, ...]
    changes: tuple[Change, ...]


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """A method of the store by its name, with plain arguments."""

    id: int
    method: str
    arguments: tuple[str | int, ...]


class Withdraw(msgspec.Struct, frozen=True, array_like=True, tag="withdraw"):
    """Its caller gave up: what has not been taken yet is not written."""

    id: int


Call = Open | Commit | Ask | Withdraw


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """gap: it goes on behind records that are missing."""

    log: str
    fence: int
    gap: bool


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    id: int


class Told(msgspec.Struct, frozen=True, array_like=True, tag="told"):
    """value: MessagePack of what the method returned."""

    id: int
    value: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """id 0: it could not be opened. kind: a name of ERRORS."""

    id: int
    kind: str
    words: str


class Gauge(msgspec.Struct, frozen=True, array_like=True, tag="gauge"):
    """One of the writer's own."""

    name: str
    value: float


class Line(msgspec.Struct, frozen=True, array_like=True, tag="line"):
    """One for the journal."""

    warn: bool
    event: LogEvent
    fields: LogFields


class Headed(msgspec.Struct, frozen=True, array_like=True, tag="headed"):
    """A signed head, for the anchors."""

    head: bytes


Reply = Opened | Done | Told | Failed | Gauge | Line | Headed

ERRORS: dict[str, Callable[[str], LedgerError]] = {
    "duplicate": DuplicateCheck,
    "receipt": DuplicateReceipt,
    "unavailable": LedgerUnavailable,
    "fatal": LedgerFatal,
}


def failed(id_: int, error: LedgerError) -> Failed:
    """What the other end raises again."""
    match error:
        case DuplicateCheck():
            return Failed(id_, "duplicate", error.check)
        case DuplicateReceipt():
            return Failed(id_, "receipt", str(error))
        case LedgerFatal():
            return Failed(id_, "fatal", str(error))
        case _:
            return Failed(id_, "unavailable", str(error))


class Frames:
    """Bytes of a stream to messages. `kind`: Call or Reply. Raises ValueError for what is none."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages that are whole by now, in order."""
        buffer = self._buffer
        buffer += data
        found: list[Any] = []
        at = 0
        while len(buffer) - at >= LENGTH_BYTES:
            start = at + LENGTH_BYTES
            length = int.from_bytes(buffer[at:start], "big")
            if length > FRAME_MOST:
                raise ValueError("frame is too long")
            if len(buffer) - start < length:
                break
            at = start + length
            found.append(self._decoder.decode(bytes(buffer[start:at])))
        del buffer[:at]
        return found


_ENCODER = msgspec.msgpack.Encoder()


class Outgoing:
    """Messages to the other end, those of one turn of the loop in one write."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        self._loop = loop
        self._transport = transport
        self._waiting: list[bytes] = []

    def put(self, message: Call | Reply) -> None:
        """Raises OverflowError, TypeError, UnicodeEncodeError for what cannot be written down."""
        body = _ENCODER.encode(message)
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting += (len(body).to_bytes(LENGTH_BYTES, "big"), body)

    def flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if data and not self._transport.is_closing():
            self._transport.write(data)
