"""A gpsd of bytes for tests: says hello, lets itself be watched or not, and then what it is told.

Written from gpsd_json(5), not from our link.
"""

from __future__ import annotations

import asyncio
from typing import Self

HELLO = b'{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}\r\n'
DEVICES = b'{"class":"DEVICES","devices":[{"class":"DEVICE","path":"/dev/ttyACM0"}]}\r\n'
WATCHED = b'{"class":"WATCH","enable":true,"json":true,"nmea":false,"raw":0}\r\n'
REFUSED = b'{"class":"ERROR","message":"Unrecognized request"}\r\n'


class ScriptedGpsd:
    """Listens on `port` of loopback. hello, watched: its answers; b"" for none."""

    def __init__(self, *, hello: bytes = HELLO, watched: bytes = DEVICES + WATCHED) -> None:
        self.hello = hello
        self.watched = watched
        self.alive = True
        """Whether requests are answered at all."""
        self.heard = bytearray()
        """Every byte that any client sent."""
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self.clients: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def say(self, line: bytes) -> None:
        """A line to every client."""
        for client in self.clients:
            client.write(line + b"\r\n")

    def cut(self) -> None:
        for client in self.clients:
            client.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.clients.add(writer)
        writer.write(self.hello)
        try:
            while request := await reader.readline():
                self.heard += request
                if not request.strip():
                    self.alive = False  # as gpsd 3.22 (measured): what comes with it is dropped
                if self.alive and request.startswith(b"?WATCH"):
                    writer.write(self.watched)
        except ConnectionError:
            pass
        finally:
            self.clients.discard(writer)
            writer.close()
