"""The link to one terminal on a serial port, or behind a device server (`socket://host:port`).

The problem: a line may hang up at any moment (USB pulled, PTY closed), may not read, may babble
at any speed. The answer: every end of it is LinkDown; what waits to be written is bounded in bytes
and in time; what comes is judged in the turn that reads it, so a line that floods waits in the
kernel.
Source: reference libraries, 3; reliability-security, F12 and rows S01 to S06.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path

from adapters.links.intake import Intake, nameless, nobody, word_of
from adapters.links.line import Line
from adapters.links.port_opening import Door, PortSettings, serve
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Bearer, Downlink, Issi, Notice, Suspicion
from gateway.ports import (
    OPENED,
    SEND_S,
    Clock,
    Codec,
    Handle,
    Journal,
    Meter,
    Named,
    Suspect,
    Tap,
    untapped,
)
from gateway.settings import SerialSection

CLOSE_WITHIN_S = 0.5
DAY_MS = 86_400_000


class SerialLink:
    """gateway.ports.Link. The line is one terminal's: section.terminal."""

    kind = "serial"
    bearer = Bearer.SERIAL
    send_s = SEND_S

    def __init__(
        self,
        section: SerialSection,
        *,
        instance: str,
        config_path: Path,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        known: Callable[[Issi], bool],
        codecs: Callable[..., Codec],
        suspect: Suspect = nobody,
        tap: Tap = untapped,
        named: Named = nameless,
    ) -> None:
        del instance, config_path, named
        self._suspect = suspect
        self._tap = tap
        self.name = section.name
        self._section = section
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._day = _replayed(section.reference_date)
        self._door = Door(_settings(section), write_buffer=section.write_buffer)
        self._line: Line | None = None
        self._codec = codecs(section.codec, side="gateway")
        # A bare receiver has no screen: an answer sent there would count as sent, and nobody reads.
        self._has_screen = bool(self._codec.encode(Notice(kind="text", text="-")))
        self._turn = asyncio.Lock()
        self._pledged = 0
        self.heard_at_s: float | None = None
        """When something came last that can be read; None before that since the line came up."""

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Open, then serve until the line is gone. Raises LinkDown."""
        intake = self._intake(handle)
        opened = await self._door.open()
        self._codec = codec = self._fresh()
        line = Line(opened, lambda data: self._take(data, codec, intake), self._flooding)
        serve(line)
        try:
            self.heard_at_s = None
            self._tap(OPENED, b"")
            self._line = line
            up()
            await asyncio.wait({line.lost})
            raise LinkDown(line.lost.result())
        finally:
            self._line = None
            await line.close(CLOSE_WITHIN_S)

    def played(self, handle: Handle) -> Tap:
        """gateway.ports.Plays."""
        intake, codec = self._intake(handle), self._fresh()

        def hear(channel: str, data: bytes) -> None:
            nonlocal codec
            if channel == OPENED:
                codec = self._fresh()
            else:
                self._take(data, codec, intake)

        return hear

    def _intake(self, handle: Handle) -> Intake:
        return Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            handle=handle,
            reference_ms=self._reference_ms,
        )

    def _fresh(self) -> Codec:
        """A codec of its own each time: half a sentence from before a hang-up is nobody's."""
        section = self._section
        return self._codecs(
            section.codec, side="gateway", accept_estimated=section.accept_estimated
        )

    def returned(self) -> bool:
        """gateway.ports.Returns."""
        return self._door.returned()

    # ----------------------------------------------------------------- in

    def _take(self, data: bytes, codec: Codec, intake: Intake) -> int:
        """Judge one slice, in one turn of the loop; returns how many frames were complete."""
        received_at_ms = self._clock.wall_ms()
        self._tap("", data)
        intake.heard(len(data))
        # To the codec an old log's day is at noon: the day that is nearest to any time of day.
        today_ms = received_at_ms if self._day is None else self._day + DAY_MS // 2
        try:
            decoded = codec.feed(data, received_at_ms=today_ms)
            if intake.readable(decoded):
                self.heard_at_s = self._clock.monotonic_s()
            if decoded and not self._known(self._section.terminal):
                intake.reject("unknown_terminal")
            else:
                intake.take(decoded, self._section.terminal, received_at_ms, _nothing)
        # Neither a codec nor a desk may raise; should one, this slice is given up, and the line
        # goes on: the next may be an emergency.
        except Exception as error:  # noqa: BLE001
            self._journal.warn("frame.rejected", link=self.name, error=type(error).__name__)
            intake.reject("decode")
            return 1
        return len(decoded)

    def _reference_ms(self, received_at_ms: int) -> int:
        """What fix times are judged against: their receipt, or the end of an old log's day."""
        return received_at_ms if self._day is None else self._day + DAY_MS - 1

    def _flooding(self, more: bool) -> None:
        say = self._journal.warn if more else self._journal.note
        state = "flooding" if more else "calm"
        say("link.state", link=self.name, kind=self.kind, state=state)
        if more:
            self._suspect(Suspicion.FLOOD, self.name, self._section.terminal)

    # ----------------------------------------------------------------- out

    def reaches(self, terminal: Issi) -> bool:
        up = self._line is not None and not self._line.lost.done()
        return up and self._has_screen and terminal == self._section.terminal

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        """The port has taken it within the deadline, or SendFailed, and then it never does.
        expires_in_s has no word on a line: what the port took is on the air."""
        del expires_in_s
        section, line = self._section, self._line
        if line is None or terminal != section.terminal:
            raise SendFailed("link down")
        data = b"".join(frame.data for frame in self._codec.encode(message))
        if not data:
            return  # this protocol has no word for it
        if self._pledged + len(data) > section.write_buffer:
            self._meter.count("queue_dropped_total", queue="outbox", reason="full")
            raise SendFailed("line does not take it: buffer full")
        self._pledged += len(data)
        try:
            async with asyncio.timeout(min(deadline_s, section.write_deadline_s)), self._turn:
                await line.write(data)
        except TimeoutError as error:
            raise SendFailed("line does not take it in time") from error
        finally:
            self._pledged -= len(data)
        self._meter.count("link_send_bytes_total", len(data), link=self.name)
        self._meter.count("frames_sent_total", link=self.name, type=word_of(message))


def _nothing() -> None:
    """A line waits for no acknowledgement."""


def _replayed(reference_date: str) -> int | None:
    """Midnight, in ms, of the day that an old log is judged against; None for a live line."""
    if not reference_date:
        return None
    day = datetime.date.fromisoformat(reference_date)
    midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    return round(midnight.timestamp() * 1000)


def _settings(section: SerialSection) -> PortSettings:
    return PortSettings(
        port=section.port,
        baud=section.baud,
        bits=section.bits,
        parity=section.parity,
        stop=section.stop,
        rtscts=section.rtscts,
        xonxoff=section.xonxoff,
    )
