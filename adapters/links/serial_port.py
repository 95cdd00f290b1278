"""The link to one terminal on a serial line, or behind `socket://host:port`.

The problem: a line may hang up at any moment (USB pulled, PTY closed), may not read, may babble
at any speed. The answer: pyserial's transport, opened in a thread and exclusively; every end of
it is LinkDown; what waits to be written is bounded in bytes and in time; what comes is judged in
the turn that reads it, so a line that floods waits in the kernel. Source: reference libraries, 3;
reliability-security, rows S01 to S06.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serial
import serial_asyncio_fast

from adapters.links.intake import Intake, word_of
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Bearer, Downlink, Frame, Issi
from gateway.ports import Clock, Codec, Handle, Journal, Meter
from gateway.settings import SerialSection

OPEN_WITHIN_S = 5.0
CLOSE_WITHIN_S = 0.5
DRAIN_EVERY_S = 0.005
DAY_MS = 86_400_000

_REASONS = {
    errno.ENOENT: "no such port",
    errno.ENODEV: "no such port",
    errno.ENXIO: "no such port",
    errno.EACCES: "no permission: put the user into group dialout",
    errno.EPERM: "no permission: put the user into group dialout",
    errno.EBUSY: "in use by another program",
    errno.EAGAIN: "in use by another program",
    errno.EIO: "hung up",
    errno.ECONNREFUSED: "refused",
}


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
    ) -> None:
        del instance, config_path
        self.name = section.name
        self._section = section
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._writer = codecs(section.codec, side="gateway")
        self._line: _Line | None = None
        self._turn = asyncio.Lock()
        self.heard_at_s: float | None = None
        """When the line was heard last; None before its first byte since it came up."""

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Open, then serve until the line is gone. Raises LinkDown."""
        section = self._section
        reference_ms = _reference(section.reference_date)
        intake = Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            journal=self._journal,
            handle=handle,
            reference_ms=reference_ms,
        )
        # A fresh codec each time: half a sentence from before a hang-up is nobody's.
        codec = self._codecs(
            section.codec, side="gateway", accept_estimated=section.accept_estimated
        )
        port = await _open(section)
        line = _Line(lambda data: self._take(data, codec, intake, reference_ms))
        loop = asyncio.get_running_loop()
        try:
            transport = serial_asyncio_fast.SerialTransport(loop, line, port)
        except (OSError, serial.SerialException) as error:
            await asyncio.to_thread(port.close)
            raise LinkDown(_why(error)) from error
        transport.set_write_buffer_limits(high=section.write_buffer)
        try:
            await asyncio.wait({line.opened}, timeout=OPEN_WITHIN_S)
            self._line = line
            self.heard_at_s = None
            up()
            await asyncio.wait({line.lost})
            raise LinkDown(line.lost.result())
        finally:
            self._line = None
            line.abort()
            await asyncio.wait({line.lost}, timeout=CLOSE_WITHIN_S)

    def _take(
        self, data: bytes, codec: Codec, intake: Intake, reference_ms: Callable[[int], int]
    ) -> None:
        """One slice, in one turn of the loop. Dates of an old log are judged against its day."""
        self.heard_at_s = self._clock.monotonic_s()
        received_at_ms = self._clock.wall_ms()
        intake.heard(len(data))
        decoded = codec.feed(data, received_at_ms=reference_ms(received_at_ms))
        if not decoded:
            return
        if not self._known(self._section.terminal):
            intake.reject("unknown_terminal")
            return
        intake.take(decoded, self._section.terminal, received_at_ms, _nothing)

    def reaches(self, terminal: Issi) -> bool:
        return self._line is not None and terminal == self._section.terminal

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        """The port has taken it within the deadline, or SendFailed. expires_in_s has no word on
        a line: what the port took is on the air."""
        del expires_in_s
        line = self._line
        if line is None or terminal != self._section.terminal:
            raise SendFailed("link down")
        frames = self._writer.encode(message)
        size = sum(len(frame.data) for frame in frames)
        if line.waiting() + size > self._section.write_buffer:
            self._meter.count("queue_dropped_total", queue="outbox", reason="full")
            raise SendFailed("line does not take it: buffer full")
        try:
            async with asyncio.timeout(min(deadline_s, self._section.write_deadline_s)):
                async with self._turn:
                    await self._write(line, frames)
        except TimeoutError as error:
            raise SendFailed("line does not take it in time") from error
        self._meter.count("link_send_bytes_total", size, link=self.name)
        self._meter.count("frames_sent_total", link=self.name, type=word_of(message))

    async def _write(self, line: _Line, frames: tuple[Frame, ...] | Any) -> None:
        for frame in frames:
            line.write(frame.data)
        while line.waiting():
            # pyserial's transport has no word for "empty"; the deadline is the caller's.
            await asyncio.sleep(DRAIN_EVERY_S)
            if line.lost.done():
                raise SendFailed("link down")


class _Line(asyncio.Protocol):
    """The transport's other half: slices in, bounded bytes out, one end."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._take = take
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if not self.opened.done():
            self.opened.set_result(None)

    def data_received(self, data: bytes) -> None:
        """At most 1,024 bytes a turn of the loop (the transport reads no more at once), so that
        whatever one line says, the others have their turn in between (S04)."""
        if not self.lost.done():
            self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result("hung up" if exc is None else _why(exc))

    def waiting(self) -> int:
        """Bytes that the port has not taken yet."""
        return 0 if self.lost.done() else int(self._transport.get_write_buffer_size())

    def write(self, data: bytes) -> None:
        if self.lost.done():
            raise SendFailed("link down")
        self._transport.write(data)

    def abort(self) -> None:
        """Let go at once: `close` would wait for ever on a peer that does not read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()


async def _open(section: SerialSection) -> Any:
    """The port, opened in a thread. Raises LinkDown; a port that opens too late is closed."""
    given_up = threading.Event()

    def open_port() -> Any:
        options: dict[str, Any] = {
            "baudrate": section.baud,
            "bytesize": section.bits,
            "parity": section.parity,
            "stopbits": section.stop,
            "rtscts": section.rtscts,
            "xonxoff": section.xonxoff,
            "timeout": 0,
            "write_timeout": 0,
        }
        if "://" not in section.port:
            options["exclusive"] = True
        port = serial.serial_for_url(section.port, **options)
        if given_up.is_set():
            port.close()
        return port

    try:
        async with asyncio.timeout(OPEN_WITHIN_S):
            return await asyncio.to_thread(open_port)
    except TimeoutError as error:
        given_up.set()
        raise LinkDown("does not open") from error
    except (OSError, serial.SerialException) as error:
        raise LinkDown(_why(error)) from error
    except ValueError as error:
        raise LinkDown("settings that this port does not know", refused=True) from error
    except asyncio.CancelledError:
        given_up.set()
        raise


def _why(error: BaseException) -> str:
    """A few words without the path: errors of pyserial quote it, and its number may hide."""
    number = getattr(error, "errno", None)
    if number is None:
        text = str(error)
        if "Errno" in text:
            digits = text.partition("[Errno ")[2].partition("]")[0]
            number = int(digits) if digits.isdigit() else None
        elif "lock" in text:
            number = errno.EAGAIN
    return _REASONS.get(number or 0, "hung up")


def _reference(reference_date: str) -> Callable[[int], int]:
    """What fix times are judged against: now, or the named day at the same time of day."""
    if not reference_date:
        return lambda received_at_ms: received_at_ms
    day = datetime.date.fromisoformat(reference_date)
    midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    base_ms = round(midnight.timestamp() * 1000)
    return lambda received_at_ms: base_ms + received_at_ms % DAY_MS


def _nothing() -> None:
    """A line waits for no acknowledgement."""
