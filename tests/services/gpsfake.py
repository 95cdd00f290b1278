"""The real gpsd on loopback, fed with a log by its own gpsfake over a PTY, over and over."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.services import free_port, require

UP_WITHIN_S = 20.0
LINE_EVERY_S = 0.02


class Gpsfake:
    """One gpsd and what feeds it; `start` may be called again after `kill`, on the same port."""

    def __init__(self, folder: Path, log: Path) -> None:
        require("gpsd")
        self._program = require("gpsfake")
        self.port = free_port()
        self._folder = folder
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Return when gpsd takes connections."""
        said = (self._folder / "gpsfake.log").open("ab")
        self._process = subprocess.Popen(
            [
                *(self._program, "--quiet", "--port", str(self.port)),
                *("--cycle", str(LINE_EVERY_S), str(self._log)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # gpsd is its child: both are ended together
        )
        said.close()
        until_s = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < until_s:
            assert self._process.poll() is None, (self._folder / "gpsfake.log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("gpsd does not take connections")

    def kill(self) -> None:
        """gpsd and gpsfake, as a vehicle that is switched off."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
