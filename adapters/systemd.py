"""The words that systemd understands (sd_notify), in a few lines of our own.

Source: sd_notify(3), systemd.service(5) `Type=notify`, `WatchdogSec=`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

from gateway.ports import Clock


class Notifier:
    """Speaks to the socket in NOTIFY_SOCKET; without one every word is quietly for nobody."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        micros = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(micros) / 1e6 if mine and micros.isdigit() else 0.0
        """How long systemd waits for a sign of life; 0: it does not watch."""

    def ready(self, status: str = "") -> bool:
        """Questions can be taken; also ends a reload."""
        return self._say("READY=1" + (f"\nSTATUS={_line(status)}" if status else ""))

    def reloading(self) -> bool:
        """A reload has begun; `ready` must follow."""
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._say(f"RELOADING=1\nMONOTONIC_USEC={micros}")

    def stopping(self) -> bool:
        return self._say("STOPPING=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`, without personal data."""
        return self._say(f"STATUS={_line(text)}")

    async def watchdog(self, self_check: Callable[[], bool], clock: Clock | None = None) -> None:
        """A sign of life from the loop, thrice in the time allowed, while the self-check holds.

        Whoever fails the check says nothing, and systemd starts us anew. It is the loop's own time
        that counts (clock: only for tests).
        """
        sleep = clock.sleep if clock is not None else asyncio.sleep
        while self.watchdog_s:
            if self_check():
                self._say("WATCHDOG=1")
            await sleep(self.watchdog_s / 3)

    def _say(self, words: str) -> bool:
        """Whether it was handed over. Never waits: a full socket loses the word, not the loop."""
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(words.encode(), self._address)
            except OSError:
                return False
        return True


def _line(text: str) -> str:
    return " ".join(text.split())
