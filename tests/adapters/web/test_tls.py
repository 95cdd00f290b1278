"""The page over TLS: 1.3 unless said otherwise, and a certificate that can be renewed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from adapters.server_tls import Certificate
from adapters.web import WebServer
from gateway.settings import HttpSection
from tests.adapters.web.board import FakeBoard, opened
from tests.adapters.web.seats import as_seen, headers, token, web_server
from tests.fakes import FakeClock, settle
from tests.services.pki import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    pki = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("page", "renewed"):
        pki.issue(name)
    return pki


@asynccontextmanager
async def serving(
    pki: Pki, *, least: str = "1.3", heartbeat_s: float = 1.0, **settings: float
) -> AsyncIterator[tuple[WebServer, FakeBoard, str]]:
    board = FakeBoard(FakeClock())
    page = Certificate(Path(pki.path("page.crt")), Path(pki.path("page.key")), least=least)
    http = HttpSection(port=0, names=("gateway.example",), **settings)  # type: ignore[arg-type]
    server = web_server(
        board, http=http, certificate=page, heartbeat_s=heartbeat_s, write_deadline_s=0.3
    )
    url = await server.start()
    assert url.startswith("https://")
    try:
        yield server, board, url
    finally:
        await server.stop()


def trusting(pki: Pki, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    context.maximum_version = newest
    return context


async def test_pages_and_streams_come_over_tls_and_browsers_are_told_to_stay(pki: Pki) -> None:
    async with (
        serving(pki) as (server, board, url),
        aiohttp.ClientSession(url, headers=headers(token(server))) as http,
    ):
        here = trusting(pki)
        async with http.get("/login", ssl=here) as answer:
            assert answer.status == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        async with http.get("/api/v1/stream", ssl=here) as stream:
            assert b'"hb"' in await stream.content.readuntil(b"\n\n")
            board.bus.publish(opened("C801"))
            assert b"C801" in await stream.content.readuntil(b"\n\n")
        origin = {"Origin": url.rstrip("/"), "Idempotency-Key": "k"}
        async with http.post("/api/v1/logout", json={}, headers=origin, ssl=here) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("least", "passes"), [("1.3", False), ("1.2", True)])
async def test_what_is_old_is_refused_unless_it_is_said(pki: Pki, least: str, passes: bool) -> None:
    async with serving(pki, least=least) as (_, _, url), aiohttp.ClientSession(url) as http:
        old = trusting(pki, ssl.TLSVersion.TLSv1_2)
        if passes:
            async with http.get("/healthz", ssl=old) as answer:
                assert answer.status == 200
        else:
            with pytest.raises(aiohttp.ClientError):
                await http.get("/healthz", ssl=old)


async def test_nothing_is_said_in_clear(pki: Pki) -> None:
    """Plain HTTP to the port gets no HTTP back."""
    async with serving(pki) as (server, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"HTTP" not in await reader.read()
        writer.close()


async def test_a_renewed_certificate_is_shown_to_who_comes_next(pki: Pki, tmp_path: Path) -> None:
    """No restart, and whoever is connected goes on; a torn file changes nothing."""
    own = Pki(tmp_path / "own")
    for name in ("page", "renewed"):
        own.issue(name)

    async def shown(server: WebServer) -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(own))
        names = dict(each[0] for each in writer.get_extra_info("peercert")["subject"])
        writer.close()
        return str(names["commonName"])

    def put(name: str, text: bytes) -> None:
        Path(own.path(name)).write_bytes(text)

    renewed = {k: Path(own.path(f"renewed.{k}")).read_bytes() for k in ("crt", "key")}  # noqa: ASYNC240
    async with serving(own) as (server, _, url):
        seen = headers(token(server))
        http = aiohttp.ClientSession(url, headers=seen)
        async with http, http.get("/api/v1/stream", ssl=trusting(own)) as stream:
            assert b'"hb"' in await stream.content.readuntil(b"\n\n")
            assert await shown(server) == "page"
            for kind, text in renewed.items():
                put(f"page.{kind}", text)
            server.renew()
            assert await shown(server) == "renewed"
            put("page.crt", b"torn")
            with pytest.raises(OSError):
                server.renew()
            assert await shown(server) == "renewed"
            assert b'"hb"' in await stream.content.readuntil(b"\n\n")


@pytest.mark.parametrize(
    ("name", "status"),
    [("gateway.example", 200), ("127.0.0.1", 200), ("evil.example", 421), ("example", 421)],
)
async def test_it_answers_to_its_names_alone(pki: Pki, name: str, status: int) -> None:
    async with serving(pki) as (server, _, url), aiohttp.ClientSession(url) as http:
        host = {"Host": f"{name}:{server.port}"}
        async with http.get("/healthz", headers=host, ssl=trusting(pki)) as answer:
            assert answer.status == status


async def test_a_reader_that_stops_is_cut_over_tls_too(pki: Pki) -> None:
    """What TLS holds back for it is bounded as well: its stream ends, the publisher goes on."""
    async with serving(pki, heartbeat_s=0.05) as (server, board, _):
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stuck, ("127.0.0.1", server.port))
        _, writer = await asyncio.open_connection(
            sock=stuck, ssl=trusting(pki), server_hostname="127.0.0.1", limit=4096
        )
        asked = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        writer.write(as_seen(server, asked))
        async with asyncio.timeout(10):
            while not board.bus.subscribers:
                await settle(1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            while board.bus.subscribers:
                for _ in range(200):
                    board.bus.publish(opened())
                await settle(2)
        writer.transport.abort()


async def test_handshakes_under_way_are_bounded(pki: Pki) -> None:
    """A crowd that says nothing holds no more of the process's files than it may, and those no
    longer than a header may take; whoever comes then is served."""
    async with (
        serving(pki, max_connections=3, header_deadline_s=0.5) as (server, _, url),
        aiohttp.ClientSession(url) as http,
    ):
        crowd = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        async with asyncio.timeout(10):
            while len(server._doors._greeted) < 3:
                await settle(1)
            reader, _ = await asyncio.open_connection("127.0.0.1", server.port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            for reader, _ in crowd:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        for _ in range(4):
            once = {"Connection": "close"}
            async with http.get("/healthz", headers=once, ssl=trusting(pki)) as answer:
                assert answer.status == 200


def test_a_certificate_that_cannot_be_used_says_so(tmp_path: Path, pki: Pki) -> None:
    for cert, key in (("none.crt", "page.key"), ("page.crt", "renewed.key")):
        with pytest.raises(OSError):
            Certificate(Path(pki.path(cert)), Path(pki.path(key)), least="1.3")
