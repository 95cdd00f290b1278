"""Room set aside for the day the disk is full: deleting it lets checks in flight come to an end.

On a full disk even DELETE fails (SQLite must log it first), so a purge rescues nothing; a file
that was allocated beforehand does. While it is spent no new check is taken on (D01).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

BALLAST_BYTES = 8 * 1024 * 1024
"""The write-ahead log stays near 4 MiB, and what is in flight adds less than one to the file."""
AGAIN_EVERY_S = 1.0


class Ballast:
    """A file beside the ledger. held: whether the room is set aside now."""

    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size = size
        self._tried_at_s = -AGAIN_EVERY_S
        self.held = False

    def spend(self) -> bool:
        """Give the room to whoever writes next; False when it was spent before."""
        if not self.held:
            return False
        self.held = False
        self._tried_at_s = time.monotonic()
        self._path.unlink(missing_ok=True)
        return True

    def keep(self) -> bool:
        """Set the room aside; whether it is. Asks the disk once a second at most.

        Half as much again must be free: taking the last bytes would fill the disk that we wait
        for.
        """
        now_s = time.monotonic()
        if self.held or now_s - self._tried_at_s < AGAIN_EVERY_S:
            return self.held
        self._tried_at_s = now_s
        try:
            self.held = self._allocate()
        except OSError:
            self.held = False
        if not self.held:
            self._path.unlink(missing_ok=True)
        return self.held

    def _allocate(self) -> bool:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            kept = os.fstat(handle).st_blocks * 512
            disk = os.fstatvfs(handle)
            if disk.f_bavail * disk.f_frsize + kept < self._size * 3 // 2:
                return False
            os.posix_fallocate(handle, 0, self._size)
            os.fsync(handle)
        finally:
            os.close(handle)
        return True
