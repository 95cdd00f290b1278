"""The chain's heads in a file of their own: what stood at one moment, signed, a line now and then.

A plain chain verifies after its tail is cut off. Whoever copies this file off the host can prove
later that nothing was; and at the start it shows that an old copy of the ledger was put back. Lines
of before heads were signed (log, seq, hash) stay readable.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.errors import LedgerUnavailable

TAIL_BYTES = 256 * 1024
"""Of the file that is read at the start: some 500 lines, eight hours of heads."""
VERSION = 1


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest record of a log at one moment. What is signed: all members but the signatures, as
    JSON with its members sorted, no blanks, empty ones left out; behind a byte 0x02.

    first: number of the record with which the tree begins (1, or the record behind a gap); size and
    root: of the tree from there to `seq`. prev: digest of the signed head before this one.
    rotates: the key that was current until now, which signs here, too (old_sig). lost: one that
    cannot.
    """

    log: str
    seq: int
    hash: str
    v: int = 0
    first: int = 0
    size: int = 0
    root: str = ""
    at_ms: int = 0
    key: str = ""
    prev: str = ""
    rotates: str = ""
    lost: str = ""
    sig: str = ""
    old_sig: str = ""

    def message(self) -> bytes:
        return _SORTED.encode(msgspec.structs.replace(self, sig="", old_sig=""))

    def digest(self) -> str:
        return hashlib.sha256(b"\x02" + self.message()).hexdigest()

    def line(self) -> bytes:
        return _ENCODER.encode(self)


_SORTED = msgspec.json.Encoder(order="sorted")
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Head)

Known = dict[str, dict[int, set[str]]]
"""log -> sequence -> every hash that was ever said of it: two are a contradiction."""


class HeadsFile:
    """Appends heads of one log; each is synced. Belongs to the writer's thread."""

    def __init__(self, path: Path, log: str) -> None:
        self._path = path
        self._log = log

    def newest(self) -> Head | None:
        """The one with the highest sequence among the last lines. Raises OSError."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return None
        found: Head | None = None
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                head = _DECODER.decode(line)
                if head.log == self._log and (found is None or head.seq >= found.seq):
                    found = head
        return found

    def append(self, head: Head) -> None:
        """Raises OSError. A line that a power cut tore is closed first, so that it costs itself."""
        line = head.line() + b"\n"
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)


def decode(line: bytes) -> Head | None:
    """A head as somebody else kept it; None when it is none."""
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError:
        return None


def all_heads(path: Path) -> list[Head]:
    """In the order of the file. Raises LedgerUnavailable naming file and line. A torn line (a power
    cut) is passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise LedgerUnavailable(f"{path.name}: cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or _torn(line):
            continue
        head = decode(line)
        if head is None:
            raise LedgerUnavailable(f"{path.name}:{number}: not a head")
        found.append(head)
    return found


def known_of(heads: Iterable[Head]) -> Known:
    known: Known = {}
    for head in heads:
        known.setdefault(head.log, {}).setdefault(head.seq, set()).add(head.hash)
    return known


def read_heads(path: Path) -> Known:
    """What a file says of every log. Raises LedgerUnavailable."""
    return known_of(all_heads(path))


def _torn(line: bytes) -> bool:
    """The beginning of a head, and no more."""
    begins = b'{"log":"'
    return line[: len(begins)] == begins[: len(line)] and not line.endswith(b"}")
