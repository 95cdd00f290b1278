"""One opened line: slices in, bounded bytes out, and exactly one end.

The problem: pyserial 3.5 and pyserial-asyncio-fast 0.16 go wrong exactly where a line goes wrong
(all measured). What corrects them is what the transport is given; nothing in it is patched.

(1) A write of which the line takes nothing is tried for ever, and the loop stands still
    (pyserial#280): `Port.write` tries once.
(2) A read asks `select`, which knows no descriptor above 1023; then every turn of the loop is one
    more error: `Port.read` reads.
(3) When what was buffered is out, the transport goes on asking to write: 42,000 errors in half a
    second (pyserial-asyncio-fast#36): `Line.resume_writing` ends that.
(4) What fails to be written, or comes too late to be, counts as written: `Line.write` knows.
(5) A hang-up is not told while something waits to be written, and closing waits for whoever should
    read it: `Port` tells the end itself, and `Line.close` aborts.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.errors import SendFailed

WINDOW_S = 0.1
ROUNDING_S = 1e-9
FRAMES_MOST = 200
"""Frames of one line in a window. A receiver of 10 Hz makes 10; 115,200 baud hold 30 fixes."""
BYTES_MOST = 16 * 1024
CALM_S = 1.0
"""So long without a pause, and a line that flooded is calm again."""
LINE_END = b"\r\n"
DRAIN_WITHIN_S = 0.3
"""At closing, for the last word to leave; what is left then is thrown away."""
DRAIN_EVERY_S = 0.01

NO_PORT = "no such port"
_REASONS = {
    errno.ENOENT: NO_PORT,
    errno.ENOTDIR: NO_PORT,
    errno.ELOOP: NO_PORT,
    errno.ENODEV: NO_PORT,
    errno.ENXIO: NO_PORT,
    errno.EACCES: "no permission: put the user into group dialout",
    errno.EPERM: "no permission: put the user into group dialout",
    errno.EBUSY: "in use: stop the other program that has it open",
    errno.EAGAIN: "in use: stop the other program that has it open",
    errno.ENOTTY: "not a serial port",
    errno.EISDIR: "not a serial port",
    errno.EINVAL: "settings that this port does not know",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ETIMEDOUT: "does not answer",
    errno.EIO: "hung up",
    errno.EPIPE: "hung up",
    errno.ECONNRESET: "hung up",
}


class Opened(msgspec.Struct, frozen=True):
    """A descriptor that reads and writes without waiting, and what only its kind knows.

    discard: throw away what the kernel has not sent; False when this kind cannot.
    close: let go of it, within a moment whatever the far side does. May block: not in the loop.
    """

    descriptor: int
    discard: Callable[[], bool]
    close: Callable[[], None]


def why(error: BaseException, otherwise: str) -> str:
    """A few words without the path. pyserial's own errors often hide the system's behind them."""
    seen: BaseException | None = error
    while seen is not None:
        # termios.error is no OSError and has its number in its arguments alone.
        number = seen.args[0] if isinstance(seen, termios.error) and seen.args else None
        number = getattr(seen, "errno", None) or number
        if number in _REASONS:
            return _REASONS[number]
        if isinstance(seen, TimeoutError):
            return _REASONS[errno.ETIMEDOUT]
        seen = seen.__cause__ or seen.__context__
    return otherwise


def drained(descriptor: int) -> bool:
    """Wait until the kernel has sent what it holds, or for DRAIN_WITHIN_S: whether it has. Blocks.

    A port that is gone has nothing more to send.
    """
    until_s = time.monotonic() + DRAIN_WITHIN_S
    while (waiting := _unsent(descriptor)) and time.monotonic() < until_s:
        time.sleep(DRAIN_EVERY_S)
    return not waiting


def _unsent(descriptor: int) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0


class Port:
    """What the transport asks of a port, on the bare descriptor. Nothing here raises or waits."""

    def __init__(self, opened: Opened, gone: Callable[[str], None]) -> None:
        self.timeout = self.write_timeout = 0  # the transport sets them
        self._opened = opened
        self._gone = gone

    def fileno(self) -> int:
        return self._opened.descriptor

    def read(self, size: int) -> bytes:
        try:
            data = os.read(self._opened.descriptor, size)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            self._gone(why(error, "hung up"))
            return b""
        if not data:
            # A hung-up PTY reads as empty for ever, and is readable for ever (F12).
            self._gone("hung up")
        return data

    def write(self, data: bytes) -> int:
        """How many bytes were taken; of a line that is gone, all: the sender is told by `gone`."""
        try:
            return os.write(self._opened.descriptor, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._gone(why(error, "hung up"))
            return len(data)

    def flush(self) -> None:
        """Nothing: it would wait for a peer that may never read."""

    def close(self) -> None:
        self._opened.close()


class Pace:
    """How much of one line is read in a window, so that one that floods leaves the others their
    turn (S04). What is not read waits in the kernel. Pure: the caller passes the time."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self._frames = 0
        self._bytes = 0

    def spend(self, now_s: float, frames: int, size: int) -> float:
        """Note one slice; returns how many seconds to read nothing now, mostly 0."""
        # Whoever waited as long as we said is in the next window, whatever the rounding of sums.
        if now_s - self._since_s >= WINDOW_S - ROUNDING_S:
            self._since_s, self._frames, self._bytes = now_s, 0, 0
        self._frames += frames
        self._bytes += size
        if self._frames < FRAMES_MOST and self._bytes < BYTES_MOST:
            return 0.0
        return max(0.0, self._since_s + WINDOW_S - now_s)


class Line(asyncio.Protocol):
    """The transport's other half.

    take: judges one slice of at most 1,024 bytes (the transport reads no more in one turn of the
    loop); returns how many frames it held. flooding: told True when the line says more than is
    read of it, False when it is calm again. torn: whether the first word begins with a line end,
    because half a line of somebody before us may lie there; a connection of our own begins whole.
    lost: why it ended; nothing is taken after that.
    """

    def __init__(
        self,
        opened: Opened,
        take: Callable[[bytes], int],
        flooding: Callable[[bool], None],
        *,
        torn: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.port = Port(opened, self.gone)
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._discard = opened.discard
        self._take = take
        self._flooding = flooding
        self._pace = Pace()
        self._transport: Any = None
        self._out = asyncio.Event()
        self._out.set()
        self._torn = torn
        self._resume: asyncio.TimerHandle | None = None
        self._calm: asyncio.TimerHandle | None = None

    def serve(self, transport: Any) -> None:
        """The transport over `port`. From now on slices come in."""
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # "resume" then means: all is out

    def gone(self, reason: str) -> None:
        """The one end: nothing is read any more, and whoever writes is told."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._out.set()
        if self._transport is not None:
            self._transport.pause_reading()

    async def close(self, within_s: float) -> None:
        """Let go, whatever the far side does; returns when the port is free, or after within_s."""
        self.gone("closed")
        for timer in (self._resume, self._calm):
            if timer is not None:
                timer.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        await asyncio.wait({self._closed}, timeout=within_s)

    # ----------------------------------------------------------------- in

    def data_received(self, data: bytes) -> None:
        if self.lost.done():
            return
        frames = self._take(data)
        pause_s = self._pace.spend(self._loop.time(), frames, len(data))
        if pause_s > 0 and not self.lost.done():
            self._transport.pause_reading()
            self._resume = self._loop.call_later(pause_s, self._read_on)
            if self._calm is None:
                self._flooding(True)
            else:
                self._calm.cancel()
            self._calm = self._loop.call_later(CALM_S, self._calmed)

    def _read_on(self) -> None:
        if not self.lost.done():
            self._transport.resume_reading()

    def _calmed(self) -> None:
        self._calm = None
        self._flooding(False)

    # ----------------------------------------------------------------- out

    async def write(self, data: bytes) -> None:
        """The port has taken all of it, or SendFailed. One caller at a time.

        Cancelled (the deadline), nothing more of it goes out: not later either, when the line takes
        bytes again and somebody else may hold the radio.
        """
        if self.lost.done():
            raise SendFailed("link down")
        if self._torn:
            # Half a line of before would be read as the beginning of this one.
            data, self._torn = LINE_END + data, False
        self._transport.write(data)
        waiting = self._transport.get_write_buffer_size()
        try:
            await self._out.wait()
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise
        if self.lost.done():
            raise SendFailed("link down")

    def _give_up(self, waited: int) -> None:
        left = self._transport.get_write_buffer_size()
        if self.lost.done() or not left:
            return
        self._torn = True
        self._transport.flush()  # its word for: forget what waits
        if left == waited and not self._discard():
            # It took nothing at all, and the kernel may hold much more for it.
            self.gone("does not take what is sent")

    def pause_writing(self) -> None:
        self._out.clear()

    def resume_writing(self) -> None:
        self._transport.flush()  # (3): there is nothing left in it, but its writer
        self._out.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """After our own abort: the port is closed."""
        self.gone("closed")
        if not self._closed.done():
            self._closed.set_result(None)
