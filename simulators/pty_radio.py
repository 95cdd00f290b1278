"""A mobile data terminal on a serial line: NMEA and KeySDS out, text lines in, over a real PTY."""

from __future__ import annotations

import asyncio
from os import read as read_some
from os import write as write_some

import msgspec

from adapters import codecs
from gateway.messages import CheckRequest, Uplink
from simulators.clock import Clock
from simulators.lines import Line
from simulators.patrol import Patrol
from simulators.radio import Radio

CHUNK = 4096
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
        self._descriptor = -1
        self._out = bytearray()
        self._codec = codecs.create("line_terminal", side="terminal")

    @property
    def plugged(self) -> bool:
        return self._descriptor >= 0

    def plug(self) -> None:
        """Open the line (a new PTY behind the same link). Raises OSError."""
        if self.plugged:
            return
        self._descriptor = self.line.open()
        # What was half heard or half said belongs to the line that is gone.
        self._codec = codecs.create("line_terminal", side="terminal")
        self._out.clear()
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def unplug(self) -> None:
        """Pull the cable: the gateway sees a hang-up."""
        if not self.plugged:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        loop.remove_writer(self._descriptor)
        self._descriptor = -1
        self.line.close()
        self.changed.set()

    def question(self, request: CheckRequest) -> CheckRequest:
        """With a client reference (`Q`), by which the answer is known again."""
        if request.client_ref:
            return request
        number = self.next_reference()
        return msgspec.structs.replace(
            request, typed=f"{request.typed} Q{number}", client_ref=number
        )

    def say(self, message: Uplink) -> bool:
        data = b"".join(frame.data for frame in self._codec.encode(message))
        if not self.plugged or len(self._out) + len(data) > OUT_MOST:
            self.lost += 1
            return False
        self._out += data
        self._flush()
        return True

    async def run(self) -> None:
        self.plug()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.beat(), name=f"beat {self.callsign}")
                group.create_task(self.walk(), name=f"walk {self.callsign}")
        finally:
            self.unplug()

    # ----------------------------------------------------------------- the line

    def _readable(self) -> None:
        try:
            data = read_some(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # EIO: a device's far end hung up. Out like a pulled cable; `plug` brings it back.
            self.unplug()
            return
        if not data:
            self.unplug()
            return
        self.heard(self._codec.feed(data, received_at_ms=self._clock.wall_ms()))

    def _flush(self) -> None:
        """Write what the line takes now; the rest when it takes more."""
        if not self.plugged:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._out:
                del self._out[: write_some(self._descriptor, self._out)]
        except BlockingIOError:
            loop.add_writer(self._descriptor, self._flush)
        except OSError:
            self.unplug()
        else:
            loop.remove_writer(self._descriptor)
