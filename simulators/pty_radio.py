"""A mobile data terminal on a serial line: NMEA and KeySDS out, text lines in, over a real PTY."""

from __future__ import annotations

import asyncio

import msgspec

from adapters import codecs
from gateway.messages import CheckRequest, Uplink
from simulators.clock import Clock
from simulators.line_end import LineEnd
from simulators.lines import Line
from simulators.patrol import Patrol
from simulators.radio import Radio

OUT_MOST = 8192
"""Bytes that may wait for a gateway that does not read; more is lost and counted."""


class PtyRadio(Radio):
    """A radio behind one line. The line is opened by `plug`, or by `run` when it is not yet."""

    bearer = "serial"

    def __init__(
        self,
        *,
        issi: str,
        callsign: str,
        line: Line,
        clock: Clock,
        patrol: Patrol | None = None,
        fix_every_s: float = 1.0,
        think_s: float = 2.0,
        resends: bool = False,
    ) -> None:
        """resends: repeat a typed question (same text, same `Q`) until its receipt."""
        super().__init__(
            issi=issi,
            callsign=callsign,
            clock=clock,
            patrol=patrol,
            resends=resends,
            fix_every_s=fix_every_s,
            think_s=think_s,
        )
        self.line = line
        self._end = LineEnd(line, take=self._hears, most=OUT_MOST, gone=self.changed.set)
        self._codec = codecs.create("line_terminal", side="terminal")

    @property
    def plugged(self) -> bool:
        return self._end.plugged

    def plug(self) -> None:
        """Open the line (a new PTY behind the same link). Raises OSError."""
        if self.plugged:
            return
        # What was half heard or half said belongs to the line that is gone.
        self._codec = codecs.create("line_terminal", side="terminal")
        self._end.plug()

    def unplug(self) -> None:
        """Pull the cable: the gateway sees a hang-up."""
        self._end.unplug()

    def question(self, request: CheckRequest) -> CheckRequest:
        """With a client reference (`Q`), by which the answer is known again."""
        if request.client_ref:
            return request
        number = self.next_reference()
        return msgspec.structs.replace(
            request, typed=f"{request.typed} Q{number}", client_ref=number
        )

    def say(self, message: Uplink) -> bool:
        said = self._end.say(b"".join(frame.data for frame in self._codec.encode(message)))
        self.lost += not said
        return said

    async def run(self) -> None:
        self.plug()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.beat(), name=f"beat {self.callsign}")
                group.create_task(self.walk(), name=f"walk {self.callsign}")
        finally:
            self.unplug()

    def _hears(self, data: bytes) -> None:
        self.heard(self._codec.feed(data, received_at_ms=self._clock.wall_ms()))
