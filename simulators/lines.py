"""The far end of a serial line: a pseudo-terminal of our own, or a device that exists.

A PTY is published by a symbolic link, so that its path stays the same when the radio is pulled
out and put back (as /dev/serial/by-id does for a real adapter). Our own descriptor of the slave
stays open: without it a master reads EIO whenever the gateway closes its side.
"""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from pathlib import Path
from typing import Protocol

_BAUDS = {
    1200: termios.B1200,
    2400: termios.B2400,
    4800: termios.B4800,
    9600: termios.B9600,
    19200: termios.B19200,
    38400: termios.B38400,
    57600: termios.B57600,
    115200: termios.B115200,
}


class Line(Protocol):
    """Something with a file descriptor that can be opened, and closed again."""

    @property
    def path(self) -> str:
        """Where the gateway finds the other end."""

    def open(self) -> int:
        """The non-blocking descriptor to read and write. Raises OSError."""

    def close(self) -> None:
        """Let go; harmless when closed."""


class PtyLine:
    """A new pseudo-terminal at each `open`, always behind the same link."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._master = -1
        self._slave = -1

    @property
    def path(self) -> str:
        return str(self._link)

    def open(self) -> int:
        self.close()
        self._master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self._publish(os.ttyname(self._slave))
        except OSError:
            self.close()
            raise
        return self._master

    def _publish(self, slave: str) -> None:
        """Swap the link in one step: who opens it finds the old line or the new, never none."""
        new = self._link.with_name(f".{self._link.name}.new")
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        new.symlink_to(slave)
        new.replace(self._link)

    def close(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._master >= 0:
                self._link.unlink()
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1


class DeviceLine:
    """A device node: the far end of a null-modem cable, or of somebody else's PTY pair."""

    def __init__(self, path: Path, baud: int = 9600) -> None:
        """Raises ValueError for a speed that the line discipline has no word for."""
        if baud not in _BAUDS:
            raise ValueError(f"baud: one of {', '.join(map(str, _BAUDS))}")
        self._path = path
        self._baud = baud
        self._descriptor = -1

    @property
    def path(self) -> str:
        return str(self._path)

    def open(self) -> int:
        self.close()
        descriptor = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(descriptor)
            settings = termios.tcgetattr(descriptor)
            settings[4] = settings[5] = _BAUDS[self._baud]
            settings[2] |= termios.CLOCAL | termios.CREAD
            termios.tcsetattr(descriptor, termios.TCSANOW, settings)
        except (OSError, termios.error) as error:
            os.close(descriptor)
            raise OSError(f"{self._path}: not a serial line") from error
        self._descriptor = descriptor
        return descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
