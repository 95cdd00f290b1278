"""The radio's end of a line in the event loop: bytes in as they come, bounded bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from os import read as read_some
from os import write as write_some

from simulators.lines import Line

CHUNK = 4096


class LineEnd:
    """take: told each slice. most: bytes that may wait for a gateway that does not read. gone: told
    when the line is out, whoever pulled it."""

    def __init__(
        self,
        line: Line,
        *,
        take: Callable[[bytes], None],
        most: int,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        self.line = line
        self._take = take
        self._most = most
        self._gone = gone
        self._descriptor = -1
        self._out = bytearray()

    @property
    def plugged(self) -> bool:
        return self._descriptor >= 0

    @property
    def waiting(self) -> int:
        """Bytes that the line did not take yet."""
        return len(self._out)

    def plug(self) -> None:
        """Open the line (a new PTY behind the same link). Raises OSError."""
        self._descriptor = self.line.open()
        self._out.clear()
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def unplug(self) -> None:
        """Pull the cable: the gateway sees a hang-up. Harmless when it is out."""
        if not self.plugged:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        loop.remove_writer(self._descriptor)
        self._descriptor = -1
        self.line.close()
        self._gone()

    def say(self, data: bytes) -> bool:
        """Whether the line takes it; what it cannot take at once waits."""
        if not self.plugged or len(self._out) + len(data) > self._most:
            return False
        self._out += data
        self._flush()
        return True

    def _readable(self) -> None:
        try:
            data = read_some(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # EIO: a device's far end hung up. Out like a pulled cable; `plug` brings it back.
            self.unplug()
            return
        if data:
            self._take(data)
        else:
            self.unplug()

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
