"""C: a console of our own, which follows the stream as docs/interfaces.md says and keeps it all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import aiohttp

from tests.system.seats import log_in


class Console:
    """Follows /api/v1/stream across restarts, checking `prev` as a console must.

    positions: what each callsign's marker was moved to, in order: the number of the epoch, and
    millionths of a degree. A snapshot moves it, too, but for where it stood already. emergencies:
    the callsigns that were ever shown to call for help.
    """

    def __init__(
        self,
        url: str,
        *,
        address: str = "127.0.0.1",
        who: str = "op-1",
        seat: dict[str, str] | None = None,
    ) -> None:
        """address: of loopback, where it comes from. who: logs in (tests.system.seats). seat: of a
        session that stands already."""
        self._url = url
        self._who = who
        self._seat = seat or {}
        self.logged_in = 0
        """How often: a session outlives a restart of the daemon."""
        self._address = address
        self.events: list[dict[str, Any]] = []
        self.epochs: list[str] = []
        self.holes = 0
        self.resets: Counter[str] = Counter()
        self.connected = asyncio.Event()
        self.positions: dict[str, list[tuple[int, int, int]]] = {}
        self.emergencies: set[str] = set()
        self._callsigns: dict[int, str] = {}

    async def run(self) -> None:
        """Until cancelled. After a reset or a lost connection it begins anew with a snapshot."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                if not self._seat:
                    self._seat = await log_in(self._url, self._who)
                    self.logged_in += 1
                here = aiohttp.TCPConnector(local_addr=(self._address, 0))
                async with aiohttp.ClientSession(connector=here, headers=self._seat) as http:
                    async with http.get(f"{self._url}/api/v1/snapshot") as answer:
                        if answer.status == 401:
                            self._seat = {}
                        picture = await answer.json()
                    self.begin(picture)
                    await self._follow(http, picture["epoch"], picture["seq"])
            self.connected.clear()
            await asyncio.sleep(0.05)

    def begin(self, picture: dict[str, Any]) -> None:
        """Take a snapshot for the whole picture: indices hold for its epoch alone."""
        if picture["epoch"] not in self.epochs:
            self.epochs.append(picture["epoch"])
        cols = picture["units"]["cols"]
        self._callsigns = {}
        for row in picture["units"]["rows"]:
            unit = dict(zip(cols, row, strict=True))
            self._callsigns[unit["i"]] = unit["cs"]
            if unit["lat6"] is not None:
                self._moved(unit["cs"], unit["lat6"], unit["lon6"])
        for alarm in picture.get("alarms", ()):
            if alarm["rule"] == "EMG":
                self.emergencies.add(self._callsigns[alarm["subj"]["u"]])

    async def _follow(self, http: aiohttp.ClientSession, epoch: str, seq: int) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=5)
        held = seq
        async with http.get(
            f"{self._url}/api/v1/stream?epoch={epoch}&after={seq}", timeout=timeout
        ) as stream:
            self.connected.set()
            async for line in stream.content:
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                if event["type"] == "reset":
                    self.resets[event["reason"]] += 1
                    return
                if "prev" in event:
                    self.holes += event["prev"] != held
                    held = event["seq"]
                self.take(event)

    def take(self, event: dict[str, Any]) -> None:
        """Keep an event; what it says of a unit is kept under its callsign."""
        if event["type"] == "unit.meta":
            self._callsigns[event["i"]] = event["cs"]
        elif event["type"] == "unit.batch":
            for index, lat6, lon6, *_ in event["u"]:
                self._moved(self._callsigns[index], lat6, lon6)
        elif event["type"] == "unit.emergency" and event["on"]:
            self.emergencies.add(self._callsigns[event["i"]])
        self.events.append(event)

    def _moved(self, callsign: str, lat6: int, lon6: int) -> None:
        path = self.positions.setdefault(callsign, [])
        here = (len(self.epochs), lat6, lon6)
        if not path or path[-1] != here:
            path.append(here)

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type_]
