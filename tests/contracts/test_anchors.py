"""Contract of the port Anchor, on each of them against a real other side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from adapters import anchors
from adapters.anchors.file import FileAnchor
from gateway.errors import AnchorFailed
from gateway.ports import Anchor
from gateway.settings import AnchorSection
from tests.services import free_port
from tests.services.pki import Pki

HEAD = b'{"log":"gw1","seq":10,"hash":"aa"}'
NEXT = b'{"log":"gw1","seq":20,"hash":"bb"}'
WITHIN_S = 20.0
KINDS = ("file", "http", "https", "udp", "tcp", "tls", "local")
READABLE = ("file", "http", "https")


class Far:
    """The other side: `open` it, `shut` it; `got` is what it was given."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.port = kind, folder, free_port()
        self.lines: list[bytes] = []
        self._shut: Callable[[], Awaitable[None]] | None = None
        self.pki = Pki(folder / "pki") if kind in ("https", "tls") else None
        if self.pki is not None:
            self.pki.issue("far")
        (folder / "token").write_text("t0ken\n")

    def anchor(self) -> Anchor:
        ca_file = self.pki.path("ca.crt") if self.pki else ""
        place = f"127.0.0.1:{self.port}"
        section = {
            "file": AnchorSection(kind="file", path="mount/heads.jsonl"),
            "http": AnchorSection(kind="http", url=f"http://{place}/gw1", token_file="token"),
            "https": AnchorSection(kind="http", url=f"https://{place}/gw1", ca_file=ca_file),
            "udp": AnchorSection(kind="syslog", address=f"udp://{place}"),
            "tcp": AnchorSection(kind="syslog", address=f"tcp://{place}"),
            "tls": AnchorSection(kind="syslog", address=f"tls://{place}", ca_file=ca_file),
            "local": AnchorSection(kind="syslog", address=f"unix://{self.folder}/log"),
        }[self.kind]
        path = self.folder / "gateway.toml"
        (anchor,) = anchors.create([section], config_path=path, instance="gw1")
        return anchor

    def context(self) -> ssl.SSLContext | None:
        if self.pki is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.pki.path("far.crt"), self.pki.path("far.key"))
        return context

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        if self.kind == "file":
            (self.folder / "mount").mkdir()
        elif self.kind in ("http", "https"):
            await self._open_web()
        elif self.kind in ("tcp", "tls"):
            server = await asyncio.start_server(
                self._take, "127.0.0.1", self.port, ssl=self.context()
            )

            async def shut() -> None:
                server.close()

            self._shut = shut
        else:
            sock = socket.socket(
                socket.AF_UNIX if self.kind == "local" else socket.AF_INET, socket.SOCK_DGRAM
            )
            sock.setblocking(False)
            sock.bind(
                str(self.folder / "log") if self.kind == "local" else ("127.0.0.1", self.port)
            )
            loop.add_reader(sock, lambda: self.lines.append(sock.recv(65536)))

            async def shut() -> None:
                loop.remove_reader(sock)
                sock.close()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.folder / "log")

            self._shut = shut

    async def _open_web(self) -> None:
        async def put(request: web.Request) -> web.Response:
            if self.kind == "http":
                assert request.headers["Authorization"] == "Bearer t0ken"
            self.lines.append(await request.read())
            return web.Response(status=201)

        async def get(request: web.Request) -> web.Response:
            if not self.lines:
                raise web.HTTPNotFound
            return web.Response(body=self.lines[-1])

        app = web.Application()
        app.add_routes([web.put("/gw1", put), web.get("/gw1", get)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.context()).start()
        self._shut = runner.cleanup

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        length, _, line = data.partition(b" ")
        assert int(length) == len(line)
        self.lines.append(line)
        writer.close()

    async def shut(self) -> None:
        if self._shut is not None:
            await self._shut()
            self._shut = None
        if self.kind == "file" and (self.folder / "mount").exists():
            self.lines = self.got()
            os.rename(self.folder / "mount", self.folder / "away")

    def got(self) -> list[bytes]:
        path = self.folder / "mount" / "heads.jsonl"
        if self.kind == "file" and path.exists():
            return path.read_bytes().splitlines()
        return [line[line.index(b"{") :] for line in self.lines]


@pytest.fixture(params=KINDS)
async def far(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Far]:
    far = Far(request.param, tmp_path)
    yield far
    await far.shut()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not there():  # noqa: ASYNC110 - another thread, process or socket
            await asyncio.sleep(0.01)


async def test_what_is_put_is_there_and_is_the_newest(far: Far) -> None:
    await far.open()
    anchor = far.anchor()
    assert await anchor.newest() is None
    for head in (HEAD, NEXT):
        await anchor.put(head)
    await until(lambda: len(far.got()) == 2)
    assert set(far.got()) == {HEAD, NEXT}
    assert await anchor.newest() == (NEXT if far.kind in READABLE else None)


async def test_one_that_is_away_fails_in_words_and_takes_the_next(far: Far) -> None:
    """AnchorFailed and nothing else; UDP cannot know, and says nothing."""
    anchor = far.anchor()
    if far.kind != "udp":
        with pytest.raises(AnchorFailed) as caught:
            await anchor.put(HEAD)
        assert "gw1" not in str(caught.value)
    if far.kind in ("http", "https"):
        with pytest.raises(AnchorFailed):
            await anchor.newest()
    await far.open()
    await anchor.put(NEXT)
    await until(lambda: NEXT in far.got())


async def test_the_same_again_does_no_harm(far: Far) -> None:
    await far.open()
    anchor = far.anchor()
    await anchor.put(HEAD)
    await anchor.put(HEAD)
    await until(lambda: HEAD in far.got())
    assert set(far.got()) == {HEAD}
    if far.kind == "file":
        assert far.got() == [HEAD]


@pytest.mark.parametrize("kind", ["https", "tls"])
async def test_a_stranger_is_not_spoken_to(kind: str, tmp_path: Path) -> None:
    far = Far(kind, tmp_path)
    await far.open()
    assert far.pki is not None
    far.pki.authority("stranger")
    anchor = far.anchor()
    os.replace(far.pki.path("stranger.crt"), far.pki.path("ca.crt"))
    with pytest.raises(AnchorFailed):
        await anchor.put(HEAD)
    assert far.got() == []
    await far.shut()


@pytest.mark.parametrize("status", [301, 401, 500])
async def test_what_is_not_taken_is_not_anchored(status: int, tmp_path: Path) -> None:
    async def put(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"})

    app = web.Application()
    app.add_routes([web.put("/gw1", put)])
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    section = AnchorSection(kind="http", url=f"http://127.0.0.1:{port}/gw1")
    (anchor,) = anchors.create([section], config_path=tmp_path / "x", instance="gw1")
    with pytest.raises(AnchorFailed, match=str(status)):
        await anchor.put(HEAD)
    await runner.cleanup()


async def test_a_mount_that_hangs_holds_one_thread_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is refused at once, and when it comes back it takes heads again."""
    import threading

    gate, real = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (gate.wait(WITHIN_S), real(handle)))
    anchor = FileAnchor("file", tmp_path / "heads.jsonl")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anchor.put(HEAD)
    for _ in range(3):
        with pytest.raises(AnchorFailed, match="hangs"):
            await anchor.put(NEXT)
    assert sum(each.name == "anchor" for each in threading.enumerate()) == 1
    gate.set()
    await until(lambda: all(each.name != "anchor" for each in threading.enumerate()))
    await anchor.put(NEXT)
    assert await anchor.newest() == NEXT


async def test_a_torn_line_of_the_file_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    path.write_bytes(HEAD + b'\n{"log":"gw1","se')
    anchor = FileAnchor("file", path)
    assert await anchor.newest() == HEAD
    await anchor.put(NEXT)
    assert await anchor.newest() == NEXT
    assert path.read_bytes().splitlines()[0] == HEAD
    assert path.stat().st_mode & 0o777 == 0o644 or path.stat().st_mode & 0o077 == 0


def test_a_file_beside_the_ledger_is_on_its_disk(tmp_path: Path) -> None:
    """/dev/shm is another file system; a path that is not there yet is judged by its folder."""
    assert anchors.on_this_disk(tmp_path / "not" / "yet" / "x", tmp_path / "var")
    assert not anchors.on_this_disk(Path("/dev/shm/not/yet/x"), tmp_path / "var")
