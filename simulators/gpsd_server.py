"""A vehicle whose receiver stands behind a gpsd of its own: what gpsd says to whoever watches.

Written from gpsd_json(5) and from what gpsd 3.22 does (tests/corpus/recorded/patrol.gpsd), not from
our codec: a moment is told in two reports, the mode before the place; a position without a time
comes before any with one; in a tunnel there is none; satellites are told of now and then; a request
with an empty line before it is dropped without a word. Nobody sits in it who could ask anything.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from gateway.messages import CheckRequest, LocationFix, Uplink
from simulators.clock import Clock
from simulators.patrol import Patrol
from simulators.radio import Radio

DEVICE = "/dev/ttyACM0"
REQUEST_MAX = 80
CLIENTS_MOST = 8
OUT_MOST = 64 * 1024
"""Bytes that a watcher may leave unread; then it is let go, as gpsd does."""
COLD_EPOCHS = 2
"""Moments after the ignition without a fix."""
TUNNEL_EVERY, TUNNEL_EPOCHS = 45, 4
SKY_EVERY = 10
VERSION = {"class": "VERSION", "release": "3.22", "rev": "3.22", "proto_major": 3}
_WATCH = re.compile(rb"\?WATCH=(\{.*\});?")


class GpsdVehicle(Radio):
    """Listens on `port` of loopback while it is plugged in (its ignition is on)."""

    bearer = "gpsd"
    asks = False

    def __init__(
        self,
        *,
        issi: str,
        callsign: str,
        clock: Clock,
        patrol: Patrol | None = None,
        fix_every_s: float = 1.0,
        port: int = 0,
    ) -> None:
        """port 0: one that is free, the same one ever after."""
        super().__init__(
            issi=issi,
            callsign=callsign,
            clock=clock,
            patrol=patrol,
            resends=False,
            fix_every_s=fix_every_s,
        )
        self.port = port
        self.watchers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._epoch = 0

    @property
    def plugged(self) -> bool:
        return self._listening is not None

    def plug(self) -> None:
        """Turn the ignition on. Raises OSError."""
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listening.getsockname()[1]
            self._epoch = 0
            self.changed.set()

    def unplug(self) -> None:
        """Turn it off: connections end without a word of gpsd's."""
        if self._listening is None:
            return
        if self._server is not None:
            self._server.close()
            self._server = None
        self._listening.close()
        self._listening = None
        for client in tuple(self._clients):
            client.transport.abort()
        self.changed.set()

    def question(self, request: CheckRequest) -> CheckRequest:
        return request

    def say(self, message: Uplink) -> bool:
        """A position to whoever watches; nothing else can be said here."""
        if not isinstance(message, LocationFix) or not self.plugged:
            self.lost += 1
            return False
        self._epoch += 1
        n = self._epoch
        if n <= COLD_EPOCHS:
            return self._tell({"class": "TPV", "device": DEVICE, "mode": 1}, False)
        time = _text(message.fixed_at_ms or self._clock.wall_ms())
        place = {"lat": message.lat, "lon": message.lon}
        if n == COLD_EPOCHS + 1:
            # The date is not known yet.
            self._tell({"class": "TPV", "device": DEVICE, "mode": 2, **place}, True)
        if n % TUNNEL_EVERY < TUNNEL_EPOCHS:
            return self._tell({"class": "TPV", "device": DEVICE, "mode": 1, "time": time}, False)
        self._tell({"class": "TPV", "device": DEVICE, "mode": 3, "epv": 9.6, "eph": 8.0}, True)
        if n % SKY_EVERY == 0:
            seen = [
                {"PRN": prn, "el": 40, "az": 83, "ss": 40, "used": True} for prn in range(4, 12)
            ]
            self._tell({"class": "SKY", "device": DEVICE, "hdop": 0.9, "satellites": seen}, True)
        report = {"class": "TPV", "device": DEVICE, "mode": 3, "time": time, "ept": 0.005, **place}
        report |= {"altHAE": 59.0, "epx": 3.1, "epy": 4.2, "epv": 9.6, "eph": message.accuracy_m}
        report |= {"track": message.course_deg, "speed": message.speed_mps, "climb": 0.0}
        told = self._tell({name: each for name, each in report.items() if each is not None}, True)
        self._tell({**report, "sep": 12.4}, True)  # once more, with what came later
        return told

    def _tell(self, report: dict[str, object], fix: bool) -> bool:
        """Whether anybody got a position of it."""
        line = json.dumps(report, separators=(",", ":")).encode() + b"\r\n"
        for watcher in tuple(self.watchers):
            if watcher.transport.get_write_buffer_size() > OUT_MOST:
                watcher.transport.abort()
            else:
                watcher.write(line)
        return fix and bool(self.watchers)

    async def run(self) -> None:
        self.plug()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.walk(), name=f"walk {self.callsign}")
                group.create_task(self._serve(), name=f"gpsd {self.callsign}")
        finally:
            self.unplug()

    # ----------------------------------------------------------------- gpsd

    async def _serve(self) -> None:
        """Take clients whenever it is plugged in."""
        while True:
            self.changed.clear()
            if self._listening is not None and self._server is None:
                self._server = await asyncio.start_server(
                    self._client, sock=self._listening, limit=1024
                )
            await self.changed.wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_MOST:
            writer.close()
            return
        self._clients.add(writer)
        writer.write(_line(VERSION | {"proto_minor": 14}))
        deaf = False
        try:
            while request := await reader.readline():
                deaf = deaf or not request.strip()
                if not deaf:
                    self._answer(request.strip(), writer)
        except (ConnectionError, ValueError):  # a request without an end is a ValueError
            pass
        finally:
            self._clients.discard(writer)
            self.watchers.discard(writer)
            writer.close()

    def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        devices = {"class": "DEVICES", "devices": [{"class": "DEVICE", "path": DEVICE}]}
        asked = _WATCH.fullmatch(request)
        if len(request) > REQUEST_MAX:
            writer.write(_error("Request too long"))
        elif asked is not None:
            try:
                policy = json.loads(asked[1])
            except ValueError:
                writer.write(_error("Invalid WATCH"))
                return
            on = bool(policy.get("enable", True)) and bool(policy.get("json", False))
            (self.watchers.add if on else self.watchers.discard)(writer)
            writer.write(_line(devices) + self._policy(writer))
        elif request == b"?WATCH;":
            writer.write(_line(devices) + self._policy(writer))
        elif request == b"?DEVICES;":
            writer.write(_line(devices))
        elif request == b"?VERSION;":
            writer.write(_line(VERSION | {"proto_minor": 14}))
        else:
            writer.write(_error("Unrecognized request"))

    def _policy(self, writer: asyncio.StreamWriter) -> bytes:
        on = writer in self.watchers
        return _line({"class": "WATCH", "enable": on, "json": on, "nmea": False, "raw": 0})


def _line(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\r\n"


def _error(message: str) -> bytes:
    return _line({"class": "ERROR", "message": message})


def _text(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
