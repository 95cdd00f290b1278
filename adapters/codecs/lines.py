"""A bounded splitter of bytes into lines: CR, LF or CR LF, never more than it may hold.

A device on the wrong baud rate sends a line without an end; a device on a noisy one sends NUL and
0xFF. Neither may grow memory or cost more than one look at each byte.
"""

from __future__ import annotations


class TooLong:
    """A line that went past the limit; what follows up to the next line end belongs to it."""


TOO_LONG = TooLong()


class LineSplitter:
    """Feed any slices; get whole lines without their ends. Holds at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skipping = False

    def __len__(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """Every line that is now complete, oldest first. Empty lines are left out.

        Linear: `replace` and `split` look at each byte once, and what is held is bounded.
        """
        out: list[bytes | TooLong] = []
        *ended, rest = data.replace(b"\r", b"\n").split(b"\n")
        for piece in ended:
            self._take(piece, out)
            if self._skipping:
                self._skipping = False
            elif self._held:
                out.append(bytes(self._held))
            self._held.clear()
        self._take(rest, out)
        return out

    def _take(self, piece: bytes, out: list[bytes | TooLong]) -> None:
        if self._skipping:
            return
        if len(self._held) + len(piece) > self._limit:
            self._held.clear()
            self._skipping = True
            out.append(TOO_LONG)
            return
        self._held += piece
