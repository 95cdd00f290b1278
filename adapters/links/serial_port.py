"""The link to one terminal on a serial port, or behind a device server (`socket://host:port`).

The problem: a line may hang up at any moment (USB pulled, PTY closed), may not read, may babble
at any speed. The answer: opened in a thread and exclusively, by a path that is followed anew each
time; every end of it is LinkDown; what waits to be written is bounded in bytes and in time; what
comes is judged in the turn that reads it, so a line that floods waits in the kernel.
Source: reference libraries, 3; reliability-security, F12 and rows S01 to S06, S09.
"""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import os
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import serial
import serial_asyncio_fast

from adapters.dialling import Lookup, in_own_thread
from adapters.links.device_server import SCHEME, open_socket
from adapters.links.intake import Intake, nameless, nobody, word_of
from adapters.links.line import NO_PORT, Line, Opened, drained, why
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Bearer, Downlink, Issi, Notice, Suspicion
from gateway.ports import (
    OPENED,
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

OPEN_WITHIN_S = 5.0
CLOSE_WITHIN_S = 0.5
PTYS = "/dev/pts/"
DAY_MS = 86_400_000


class SerialLink:
    """gateway.ports.Link. The line is one terminal's: section.terminal."""

    kind = "serial"
    bearer = Bearer.SERIAL

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
        self._lookup = Lookup()
        self._line: Line | None = None
        self._codec = codecs(section.codec, side="gateway")
        # A bare receiver has no screen: an answer sent there would count as sent, and nobody reads.
        self._has_screen = bool(self._codec.encode(Notice(kind="text", text="-")))
        self._turn = asyncio.Lock()
        self._pledged = 0
        self.heard_at_s: float | None = None
        """When something came last that can be read; None before that since the line came up."""
        self._missing = False

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Open, then serve until the line is gone. Raises LinkDown."""
        section = self._section
        intake = Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            handle=handle,
            reference_ms=self._reference_ms,
        )
        if section.port.startswith(SCHEME):
            opened = await open_socket(
                section.port, self._lookup, write_buffer=section.write_buffer
            )
        else:
            try:
                opened = await _open_port(section)
            except LinkDown as error:
                self._missing = error.reason == NO_PORT
                raise
            self._missing = False
        # A fresh codec each time: half a sentence from before a hang-up is nobody's.
        self._codec = codec = self._codecs(
            section.codec, side="gateway", accept_estimated=section.accept_estimated
        )
        line = Line(opened, lambda data: self._take(data, codec, intake), self._flooding)
        loop = asyncio.get_running_loop()
        line.serve(serial_asyncio_fast.SerialTransport(loop, line, line.port))
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

    def returned(self) -> bool:
        """gateway.ports.Returns: whether the port's path is there again (S01: plugged in, it is
        opened at once, not at the end of a back-off)."""
        if self._section.port.startswith(SCHEME):
            return False
        missing, self._missing = self._missing, not os.path.exists(self._section.port)
        return missing and not self._missing

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


# --------------------------------------------------------------------------- opening and closing


async def _open_port(section: SerialSection) -> Opened:
    """The port, opened in a thread of its own. Raises LinkDown; one that opens late is closed."""
    opening = in_own_thread(lambda: _claimed(section))
    try:
        await asyncio.wait({opening}, timeout=OPEN_WITHIN_S)
    finally:
        if not opening.done():
            opening.add_done_callback(_let_go)
    if not opening.done():
        raise LinkDown("does not open")
    try:
        port = opening.result()
    except ValueError as error:
        raise LinkDown("settings that this port does not know", refused=True) from error
    # termios.error is not an OSError, and a port pulled while it is being set up raises it.
    except (OSError, serial.SerialException, termios.error) as error:
        raise LinkDown(why(error, "cannot be opened")) from error
    return Opened(
        descriptor=port.fileno(),
        discard=lambda: _discard(port.fileno()),
        close=lambda: _close(port),
    )


def _claimed(section: SerialSection) -> Any:
    """Opened and locked; whatever else was found, nothing of it stays open."""
    port = serial.Serial(
        section.port,
        baudrate=section.baud,
        bytesize=section.bits,
        parity=section.parity,
        stopbits=section.stop,
        rtscts=section.rtscts,
        xonxoff=section.xonxoff,
        timeout=0,
        write_timeout=0,
        exclusive=True,
    )
    try:
        if _is_ours_alone(port.fileno()):
            fcntl.ioctl(port.fileno(), termios.TIOCEXCL)
    except BaseException:
        port.close()
        raise
    return port


def _is_ours_alone(descriptor: int) -> bool:
    """Whether TIOCEXCL, which also keeps out programs that ask for no lock, may be set. On a PTY it
    would outlive us, because whoever made it has our side open as well: nobody would get in."""
    return not os.ttyname(descriptor).startswith(PTYS)


def _let_go(opened: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


def _discard(descriptor: int) -> bool:
    """Throw away what the kernel holds for a radio that does not take it."""
    with suppress(OSError, termios.error):
        termios.tcflush(descriptor, termios.TCOFLUSH)
    return True


def _close(port: Any) -> None:
    """Without the discarding, the kernel waits up to 30 s for a radio that holds us off."""
    descriptor = port.fileno()
    if not drained(descriptor):
        _discard(descriptor)
    with suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCNXCL)
    with suppress(OSError, termios.error):
        port.close()
