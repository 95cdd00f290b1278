"""The chain's heads in a file of their own: log, sequence and hash, a line now and then.

A plain chain verifies after its tail is cut off. Whoever copies this file off the host can prove
later that nothing was; and at the start it shows that an old copy of the ledger was put back.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from gateway.errors import LedgerUnavailable

TAIL_BYTES = 256 * 1024
"""Of the file that is read at the start: some 2,000 lines, a day of heads."""


class Head(msgspec.Struct, frozen=True):
    """The newest record of a log at one moment."""

    log: str
    seq: int
    hash: str


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
                head = msgspec.json.decode(line, type=Head)
                if head.log == self._log and (found is None or head.seq >= found.seq):
                    found = head
        return found

    def append(self, seq: int, hash_: str) -> None:
        """Raises OSError. A line that a power cut tore is closed first, so that it costs itself."""
        line = msgspec.json.encode(Head(self._log, seq, hash_)) + b"\n"
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)


def read_heads(path: Path) -> dict[str, dict[int, set[str]]]:
    """log -> sequence -> every hash that was ever said of it: two are a contradiction.

    Raises LedgerUnavailable naming file and line. A torn line (a power cut) is passed over.
    """
    heads: dict[str, dict[int, set[str]]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise LedgerUnavailable(f"{path.name}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or _torn(line):
            continue
        try:
            head = msgspec.json.decode(line, type=Head)
        except msgspec.DecodeError as error:
            raise LedgerUnavailable(f"{path.name}:{number}: not a head") from error
        heads.setdefault(head.log, {}).setdefault(head.seq, set()).add(head.hash)
    return heads


def _torn(line: bytes) -> bool:
    """The beginning of a head, and no more."""
    begins = b'{"log":"'
    return line[: len(begins)] == begins[: len(line)] and not line.endswith(b"}")
