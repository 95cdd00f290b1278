"""An anchor that is a file on another mount: heads are appended, each synced.

A mount that hangs holds whoever touches it, for as long as it likes: so it is touched in a thread
of its own that nobody waits for at the end, and while that hangs nothing more is tried.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gateway.errors import AnchorFailed

TAIL_BYTES = 64 * 1024

T = TypeVar("T")


class FileAnchor:
    """gateway.ports.Anchor."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._at_work = False

    async def put(self, head: bytes) -> None:
        await self._apart(lambda: _append(self._path, head))

    async def newest(self) -> bytes | None:
        return await self._apart(lambda: _last(self._path))

    async def _apart(self, work: Callable[[], T]) -> T:
        if self._at_work:
            raise AnchorFailed("hangs")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: OSError | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(AnchorFailed(error.strerror or "cannot be used"))
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result, failed = None, None
            try:
                result = work()
            except OSError as error:
                failed = error
            self._at_work = False
            try:
                loop.call_soon_threadsafe(tell, result, failed)
            except RuntimeError:
                return  # The loop is closed: it hung for so long that nobody waits any more.

        self._at_work = True
        threading.Thread(target=run, name="anchor", daemon=True).start()
        return await done


def _append(path: Path, head: bytes) -> None:
    """A line that was torn is closed first, so that it costs itself."""
    if _last(path) == head:
        return
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (b"\n" if torn else b"") + head + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


def _last(path: Path) -> bytes | None:
    """The last line that is whole."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    return next((line for line in reversed(lines) if line.endswith(b"}")), None)
