"""Opening a line: a port in a thread of its own, exclusively; closing it without waiting.

A port may take as long to open as it likes, may be another program's, and may be pulled while it is
being set up: each of these is LinkDown. One that opens late is closed.
Source: reference libraries, 3; reliability-security, rows S01, S06, S09.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from contextlib import suppress
from typing import Any

import msgspec
import serial
import serial_asyncio_fast

from adapters.dialling import Lookup, in_own_thread
from adapters.links.device_server import SCHEME, open_socket
from adapters.links.line import NO_PORT, Line, Opened, drained, why
from gateway.errors import LinkDown

OPEN_WITHIN_S = 5.0
PTYS = "/dev/pts/"


class PortSettings(msgspec.Struct, frozen=True, kw_only=True):
    """port: a path that is followed anew each time, or `socket://host:port`."""

    port: str
    baud: int
    bits: int = 8
    parity: str = "N"
    stop: float = 1
    rtscts: bool = False
    xonxoff: bool = False


class Door:
    """One port of this machine or of a device server, opened again and again."""

    def __init__(self, settings: PortSettings, *, write_buffer: int) -> None:
        self._settings = settings
        self._write_buffer = write_buffer
        self._lookup = Lookup()
        self._remote = settings.port.startswith(SCHEME)
        self._missing = False

    async def open(self) -> Opened:
        """Raises LinkDown."""
        port = self._settings.port
        if self._remote:
            return await open_socket(port, self._lookup, write_buffer=self._write_buffer)
        try:
            opened = await _open_port(self._settings)
        except LinkDown as error:
            self._missing = error.reason == NO_PORT
            raise
        self._missing = False
        return opened

    def returned(self) -> bool:
        """gateway.ports.Returns: whether the port's path is there again (S01: plugged in, it is
        opened at once, not at the end of a back-off)."""
        if self._remote:
            return False
        missing, self._missing = self._missing, not os.path.exists(self._settings.port)
        return missing and not self._missing


def serve(line: Line) -> None:
    """Slices come in from now on."""
    line.serve(serial_asyncio_fast.SerialTransport(asyncio.get_running_loop(), line, line.port))


async def _open_port(settings: PortSettings) -> Opened:
    """The port, opened in a thread of its own. Raises LinkDown; one that opens late is closed."""
    opening = in_own_thread(lambda: _claimed(settings))
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


def _claimed(settings: PortSettings) -> Any:
    """Opened and locked; whatever else was found, nothing of it stays open."""
    port = serial.Serial(
        settings.port,
        baudrate=settings.baud,
        bytesize=settings.bits,
        parity=settings.parity,
        stopbits=settings.stop,
        rtscts=settings.rtscts,
        xonxoff=settings.xonxoff,
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
