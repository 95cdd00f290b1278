"""What the PNC server was asked and what it replied: the record that tests join with the others.

Written by the server's side alone, with its own clock, and never taken from the gateway. Bounded
in memory and on disk; what does not fit is counted. Synthetic data only: it holds search keys.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from simulators.clock import Clock

ENTRIES_MOST = 20_000
FILE_MOST = 64 * 1024 * 1024
"""Bytes; half a million lines. A file that is full takes no more."""


class Query(msgspec.Struct, frozen=True):
    """One question as it was read from the wire. at_s: monotonic; at_ms: wall clock."""

    at_s: float
    at_ms: int
    check: str
    attempt: int
    key_text: str
    originator: str


class Reply(msgspec.Struct, frozen=True):
    """What became of a question.

    kind: `trace`, `no_trace`, `too_many`, `error` (a status), `broken` (on the wire), or `none`
    (hung up without a word). fault: the trigger or the server's own fault, or empty. status: as
    sent, 0 for none. warnings: the codes that the answer carried.
    """

    at_s: float
    at_ms: int
    check: str
    attempt: int
    key_text: str
    kind: str
    fault: str = ""
    status: int = 200
    warnings: tuple[str, ...] = ()


class PncLog:
    """The last ENTRIES_MOST queries and replies; each also as a JSON line when there is a file."""

    def __init__(self, clock: Clock, file: Path | None = None) -> None:
        self.queries: deque[Query] = deque(maxlen=ENTRIES_MOST)
        self.replies: deque[Reply] = deque(maxlen=ENTRIES_MOST)
        self.unwritten = 0
        """Lines that the file did not take: it is full, or cannot be written."""
        self._clock = clock
        self._file = file
        self._fd = -1
        self._left = 0

    def open(self) -> None:
        """Open the file, if there is one, to append. Raises OSError."""
        if self._file is None or self._fd >= 0:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._file, flags, 0o600)
        self._left = FILE_MOST - os.fstat(self._fd).st_size

    def close(self) -> None:
        """Let go of the file; harmless when there is none."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def query(self, *, check: str, attempt: int, key_text: str, originator: str) -> None:
        """Note a question as it was received."""
        entry = Query(
            at_s=self._clock.monotonic_s(),
            at_ms=self._clock.wall_ms(),
            check=check,
            attempt=attempt,
            key_text=key_text,
            originator=originator,
        )
        self.queries.append(entry)
        self._write("query", entry)

    def reply(
        self,
        *,
        check: str,
        attempt: int,
        key_text: str,
        kind: str,
        fault: str = "",
        status: int = 200,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Note what is about to be sent, or that nothing is."""
        entry = Reply(
            at_s=self._clock.monotonic_s(),
            at_ms=self._clock.wall_ms(),
            check=check,
            attempt=attempt,
            key_text=key_text,
            kind=kind,
            fault=fault,
            status=status,
            warnings=warnings,
        )
        self.replies.append(entry)
        self._write("reply", entry)

    def _write(self, what: str, entry: Query | Reply) -> None:
        if self._file is None:
            return
        members: dict[str, Any] = {"what": what, **msgspec.to_builtins(entry)}
        line = json.dumps(members, ensure_ascii=False).encode() + b"\n"
        if self._fd < 0 or len(line) > self._left:
            self.unwritten += 1
            return
        written = 0
        with contextlib.suppress(OSError):
            written = os.write(self._fd, line)
        self._left -= written
        if written < len(line):
            # Half a line would make the next one unreadable, too: nothing more is written.
            self._left = 0
            self.unwritten += 1
