"""A TAK server as far as clients see it: what one client says, all others hear.

A stream in, cut behind `</event>`; no negotiation, so XML stays XML. It can stop reading, and end.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from tests.services import free_port
from tests.services.pki import Pki

END = b"</event>"


def mutual(pki: Pki, name: str = "server") -> ssl.SSLContext:
    """As its 8089 is: who has no certificate of the CA is refused."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.path("ca.crt"))
    context.load_cert_chain(pki.path(f"{name}.crt"), pki.path(f"{name}.key"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class TakServer:
    """`open` may be called again after `shut`; the port stays the same. events: all that it was
    told, each as it came."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.events: list[bytes] = []
        self.connections = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._reads = asyncio.Event()
        self._reads.set()

    @property
    def clients(self) -> int:
        return len(self._writers)

    async def open(self) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Little fits: whoever writes to one that does not read finds out soon.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(
            self._serve, sock=sock, ssl=self._context, limit=4096
        )

    async def shut(self) -> None:
        self._reads.set()
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def stall(self) -> None:
        """It goes on to listen, and reads nothing more."""
        self._reads.clear()

    def go_on(self) -> None:
        self._reads.set()

    def say(self, event: bytes) -> None:
        """To all clients."""
        for writer in self._writers:
            writer.write(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        rest = b""
        try:
            while await self._reads.wait() and (data := await reader.read(4096)):
                *events, rest = (rest + data).split(END)
                for event in events:
                    self._take(event + END, writer)
        except OSError:
            pass  # cut
        finally:
            self._writers.discard(writer)
            writer.close()

    def _take(self, event: bytes, by: asyncio.StreamWriter) -> None:
        self.events.append(event)
        for writer in self._writers - {by}:
            writer.write(event)
