"""The web server behind a transport of our own: raw bytes in, what it said out, no socket."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Hashable

from aiohttp import web

from adapters.http_doors import Doors
from adapters.observers.prometheus import PrometheusMeter
from adapters.web import walls
from gateway.messages import Actor, CheckNow
from gateway.settings import HttpSection
from tests.adapters.web.board import FakeBoard, alarm, done, link, opened, unit
from tests.adapters.web.seats import headers, token, web_server
from tests.fakes import FakeClock

TURNS = 60
"""Of the loop, for a request to be judged; a stream goes on, and is cut."""


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.said = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def writelines(self, list_of_data: object) -> None:
        for each in list_of_data:  # type: ignore[attr-defined]
            self.write(each)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_reading(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class _Board(FakeBoard):
    async def record_export(self, purpose: str, actor: Actor) -> str:
        self.acts.append(("export", purpose, actor.id))
        return "gwt"


class Front:
    """A server that lives as long as the fuzzing. Each input is a connection of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._open())

    async def _open(self) -> None:
        self._board = _Board(FakeClock())
        self._board.units = [unit()]
        self._board.checks = [CheckNow(opened(), "done", done())]
        self._board.links = [link()]
        settings = HttpSection(port=0)
        meter = PrometheusMeter(links={"south": "serial"}, areas=("S",), agencies=("po",))
        server = web_server(self._board, http=settings, meter=meter)
        seat = headers(token(server)).items()
        self._head = "".join(f"{name}: {value}\r\n" for name, value in seat).encode()
        self._app = web.AppRunner(server.application(), access_log=None)
        await self._app.setup()
        assert self._app.server is not None
        self._app.server.request_handler = walls.gated(self._app.server.request_handler)
        self._doors = Doors(settings)

    def judge(self, data: bytes) -> Hashable:
        """Answered, or cut; never with an error of ours, never with a word about us."""
        return self._runner.run(self._judge(data))

    async def _judge(self, data: bytes) -> Hashable:
        self._board.alarms = {"A1": alarm()}
        self._board.acts.clear()
        assert self._app.server is not None
        doorway, transport = self._doors.open(self._app.server), _Transport()
        doorway.connection_made(transport)
        # Half of them come from somebody who is logged in: else little is read beyond the head.
        if zlib.crc32(data) % 2:
            first, mark, rest = data.partition(b"\r\n")
            data = b"".join((first, mark, self._head if mark else b"", rest))
        half = len(data) // 2 if data[:1] < b"P" else len(data)
        doorway.data_received(data[:half])
        if half < len(data) and not transport.closed:
            doorway.data_received(data[half:])
        for _ in range(TURNS):
            if transport.closed:
                break
            await asyncio.sleep(0)
        doorway.connection_lost(None)
        await asyncio.sleep(0)
        assert not self._doors.inside
        said = bytes(transport.said)
        statuses = re.findall(rb"HTTP/[01]\.[0-9] ([0-9]{3}) ", said)
        assert not said or said.startswith(b"HTTP/"), "no HTTP came back"
        assert not [each for each in statuses if each == b"500"], "an error of ours"
        low = said.lower()
        assert b"aiohttp" not in low
        assert b"traceback" not in low
        for _, _, by in self._board.acts:
            assert by.isprintable()
            assert 1 <= len(by) <= 40
        return tuple(statuses[:2]), bool(self._board.acts)

    def close(self) -> None:
        self._runner.run(self._app.cleanup())
        self._runner.close()
