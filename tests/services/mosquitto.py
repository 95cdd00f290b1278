"""A real mosquitto on loopback: its own folder, its own port, started and reaped by the test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.services import free_port, require

UP_WITHIN_S = 10.0


class Mosquitto:
    """One broker. `start` may be called again after `kill`; the port stays the same.

    lines: more lines of its configuration. persistent: sessions survive SIGKILL (autosave on each
    change); otherwise they are lost with it, as with the defaults (reference, F2).
    """

    def __init__(
        self, folder: Path, *, lines: tuple[str, ...] = (), persistent: bool = False
    ) -> None:
        self.port = free_port()
        self.folder = folder
        self._program = require("mosquitto")
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        text = [
            f"listener {self.port} 127.0.0.1",
            "max_queued_messages 10000",
            "user root",
            "set_tcp_nodelay true",
            *(lines or ("allow_anonymous true",)),
        ]
        if persistent:
            text += [
                "persistence true",
                f"persistence_location {folder}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        self.config = folder / "mosquitto.conf"
        self.config.write_text("\n".join(text) + "\n", "utf-8")

    def start(self) -> None:
        """Return when it takes connections."""
        log = (self.folder / "mosquitto.log").open("ab")
        self._process = subprocess.Popen(
            [self._program, "-c", str(self.config)], stdout=log, stderr=log
        )
        log.close()
        until_s = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < until_s:
            assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        raise AssertionError("mosquitto does not listen")

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end; harmless when it does not run."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running(
    folder: Path, *, lines: tuple[str, ...] = (), persistent: bool = False
) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, lines=lines, persistent=persistent)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
