"""The HTTP adapter against hostile front ends, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from adapters.pnc import connection, http
from adapters.pnc.connection import AFTER_MOST
from adapters.pnc.http import HttpPnc
from gateway.errors import (
    PncDown,
    PncError,
    PncGarbled,
    PncInvalid,
    PncTimeout,
    PncUnauthorised,
)
from gateway.messages import VehicleKey
from gateway.settings import PncSection
from simulators.pnc_server import PncServer
from tests.adapters.pnc.replies import ASKED, RECORDS, encoded, question
from tests.system.daemon import until

JSON = {"Content-Type": "application/json"}
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def adapter(url: str, **changes: Any) -> HttpPnc:
    section = PncSection(adapter="http", url=url, **changes)
    return HttpPnc(section, config_path=Path("x"))


class Front:
    """A front end whose reply each test chooses; keeps the request it was sent."""

    def __init__(self) -> None:
        self.reply: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._right
        self.headers: dict[str, str] = {}
        self.body: Any = None
        self.asked = 0
        self.url = ""

    async def _right(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=encoded(), headers=JSON)

    def say(self, body: bytes = b"", *, status: int = 200, **headers: str) -> None:
        """Reply so to everything. A header's name with `_` for `-`."""
        named = JSON | {name.replace("_", "-"): value for name, value in headers.items()}

        async def reply(_request: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=named)

        self.reply = reply

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.headers = dict(request.headers)
        self.body = await request.json()
        return await self.reply(request)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    app = web.Application()
    app.router.add_post("/v1/query", front.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    front.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    await web.SockSite(runner, sock).start()
    yield front
    await runner.cleanup()


@pytest.fixture
async def pnc(front: Front) -> AsyncIterator[HttpPnc]:
    pnc = adapter(front.url)
    yield pnc
    await pnc.close()


@pytest.fixture
async def raw() -> AsyncIterator[Callable[[Speak], Awaitable[HttpPnc]]]:
    """A front end that writes its own bytes: `await raw(speak)` is an adapter that asks it."""
    kept: list[tuple[asyncio.Server, HttpPnc]] = []

    async def start(speak: Speak) -> HttpPnc:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await speak(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        kept.append((server, adapter(f"http://127.0.0.1:{port}")))
        return kept[-1][1]

    yield start
    for server, pnc in kept:
        await pnc.close()
        server.close()


async def reason_of(pnc: HttpPnc) -> str:
    async with asyncio.timeout(10):
        with pytest.raises(PncGarbled) as caught:
            await pnc.query(ASKED)
    return caught.value.reason


# --------------------------------------------------------------------------- size and shape


async def test_a_compressed_reply_is_refused_unread(front: Front, pnc: HttpPnc) -> None:
    """A gzip bomb is never unpacked, whatever it is called."""
    bomb = gzip.compress(b" " * 50_000_000 + encoded())
    tracemalloc.start()
    front.say(bomb, Content_Encoding="gzip")
    assert await reason_of(pnc) == "malformed"
    front.say(zlib.compress(encoded()), Content_Encoding="deflate")
    assert await reason_of(pnc) == "malformed"
    front.say(bomb)
    assert await reason_of(pnc) in {"malformed", "charset"}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
    assert front.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("announced", [True, False])
async def test_an_endless_reply_is_cut_off(
    raw: Callable[[Speak], Awaitable[HttpPnc]], announced: bool
) -> None:
    """P04: 50 MB, announced or in chunks without end: bounded memory, and the socket is let go."""
    sent = 0
    ended = asyncio.Event()

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        length = b"Content-Length: 52428800" if announced else b"Transfer-Encoding: chunked"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + length + b"\r\n\r\n"
        blanks = b" " * 65536
        chunk = blanks if announced else b"10000\r\n" + blanks + b"\r\n"
        writer.write(head)
        try:
            for _ in range(800):
                writer.write(chunk)
                await writer.drain()
                sent += len(blanks)
        finally:
            ended.set()

    pnc = await raw(flood)
    tracemalloc.start()
    assert await reason_of(pnc) == "oversize"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    async with asyncio.timeout(5):
        await ended.wait()
    assert sent < 20_000_000, "what the kernel holds, and no more"
    assert peak < 4_000_000


async def test_the_largest_reply_that_is_allowed_is_read(front: Front) -> None:
    """Exactly max_reply bytes are taken; one more is not."""
    body = encoded()
    front.say(body + b" " * (4096 - len(body)))
    pnc = adapter(front.url, max_reply=4096)
    assert (await pnc.query(ASKED)).records == ()
    front.say(body + b" " * (4097 - len(body)))
    assert await reason_of(pnc) == "oversize"
    await pnc.close()


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("text/html", "malformed"),
        ("text/plain; charset=utf-8", "malformed"),
        ("application/octet-stream", "malformed"),
        ("application/problem+json", "malformed"),
        ("application/json; charset=iso-8859-1", "charset"),
        ("application/json; charset=utf-16", "charset"),
        ("nonsense", "malformed"),
    ],
)
async def test_another_content_type_is_no_reply(
    front: Front, pnc: HttpPnc, type_: str, reason: str
) -> None:
    """A proxy's page is never parsed, however right it looks inside."""
    front.say(encoded(), Content_Type=type_)
    assert await reason_of(pnc) == reason


@pytest.mark.parametrize("type_", ["application/json; charset=UTF-8", "application/JSON"])
async def test_json_is_json_however_it_is_written(front: Front, pnc: HttpPnc, type_: str) -> None:
    front.say(encoded(), Content_Type=type_)
    assert (await pnc.query(ASKED)).records == ()


# --------------------------------------------------------------------------- statuses


@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 302, 303, 307, 308, 404, 410, 418])
async def test_other_statuses_are_errors(front: Front, pnc: HttpPnc, status: int) -> None:
    """A redirect is not followed, not even to ourselves; a 404 is never `no trace`."""
    front.say(encoded() if status != 204 else b"", status=status, Location="/v1/query")
    with pytest.raises(PncError) as caught:
        await pnc.query(ASKED)
    assert type(caught.value) is PncError
    assert front.asked == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, PncInvalid),
        (422, PncInvalid),
        (401, PncUnauthorised),
        (403, PncUnauthorised),
        (408, PncDown),
        (423, PncDown),
        (429, PncDown),
        (500, PncDown),
        (502, PncDown),
        (503, PncDown),
        (599, PncDown),
    ],
)
async def test_a_status_is_told_by_its_remedy(
    front: Front, pnc: HttpPnc, status: int, error: type[PncError]
) -> None:
    """Whatever stands in the body, a right no-trace reply included."""
    front.say(encoded(), status=status)
    with pytest.raises(error) as caught:
        await pnc.query(ASKED)
    assert type(caught.value) is error
    assert "TE99" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"zz\r\nNONSENSE",
        b"HTTP/1.1 200 OK\r\nX: " + b"A" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"
        + encoded(),
    ],
    ids=["nothing", "ssh", "negative", "smuggled", "chunk", "header", "status", "short"],
)
async def test_what_is_no_http_is_an_error_of_the_family(
    raw: Callable[[Speak], Awaitable[HttpPnc]], said: bytes
) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    pnc = await raw(speak)
    async with asyncio.timeout(10):
        with pytest.raises(PncError):
            await pnc.query(ASKED)


async def test_a_whole_reply_on_a_cut_connection_is_still_only_whole(
    raw: Callable[[Speak], Awaitable[HttpPnc]],
) -> None:
    """Without a length the end of the connection ends the body: what came is judged as it is."""

    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        writer.write(head + encoded()[:-1])
        await writer.drain()

    assert await reason_of(await raw(speak)) == "truncated"


async def test_a_second_reply_is_not_the_answer_to_the_next_question(
    raw: Callable[[Speak], Awaitable[HttpPnc]],
) -> None:
    """P06: each question has a connection of its own, so a stutter goes nowhere."""
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        check = "C1" if connections == 1 else "C2"
        asked = question(VehicleKey(vrm="TE99AAA"), check=check)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        body = encoded(asked)
        writer.write((head % len(body) + body) * 2)
        await writer.drain()
        await reader.read(65536)

    pnc = await raw(speak)
    for check in ("C1", "C2"):
        answer = await pnc.query(question(VehicleKey(vrm="TE99AAA"), check=check))
        assert answer.check == check
    assert connections == 2


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
OTHER_BODY = b'{"another": "answer"}'


def whole(body: bytes, *, close: bool = False, chunked: bool = False) -> bytes:
    """A reply, as it stands on the wire."""
    head = HEAD + (b"Connection: close\r\n" if close else b"")
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def kept(reason: str, data: bytes, **more: bool) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"bytes": len(data), "reason": reason, "sha256": digest, **more}


class More:
    """What was said to come after a reply."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def __call__(self, reason: str, fingerprint: bytes) -> None:
        assert b"answer" not in fingerprint, "nothing of what it said"
        self.told.append(json.loads(fingerprint))
        assert self.told[-1]["reason"] == reason


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_second_reply_is_known_of_and_the_first_does_not_wait_for_it(
    raw: Callable[[Speak], Awaitable[HttpPnc]], close: bool, at_once: bool
) -> None:
    """P06: in the same write, even behind a `Connection: close`, or once the first was read."""
    read = asyncio.Event()

    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, second = whole(encoded(), close=close), whole(OTHER_BODY, close=close)
        writer.write(first + (second if at_once else b""))
        await writer.drain()
        await read.wait()
        writer.write(b"" if at_once else second)
        await writer.drain()

    more = More()
    answer = await (await raw(speak)).query(ASKED, more)
    assert (answer.check, more.told) == (ASKED.check, [])
    read.set()
    await until(lambda: more.told)
    assert more.told == [kept("second", OTHER_BODY)]


async def test_behind_a_reply_that_does_not_say_its_length(
    raw: Callable[[Speak], Awaitable[HttpPnc]],
) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(encoded(), chunked=True) + whole(OTHER_BODY, chunked=True))
        await writer.drain()

    more = More()
    assert (await (await raw(speak)).query(ASKED, more)).check == ASKED.check
    await until(lambda: more.told)
    assert more.told == [kept("second", OTHER_BODY)]


async def test_in_however_many_pieces_it_comes(
    raw: Callable[[Speak], Awaitable[HttpPnc]],
) -> None:
    """Heads and bodies cut anywhere: the same answer, the same fingerprint."""
    stream = whole(encoded()) + whole(OTHER_BODY)
    sizes = [1, 7, len(whole(encoded())) - 1, len(whole(encoded())) + 1]
    left = iter(sizes)

    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = next(left)
        for at in range(0, len(stream), size):
            writer.write(stream[at : at + size])
            await asyncio.sleep(0)
        await writer.drain()

    pnc = await raw(speak)
    for _ in sizes:
        more = More()
        assert (await pnc.query(ASKED, more)).check == ASKED.check
        await until(lambda more=more: more.told)
        assert more.told == [kept("second", OTHER_BODY)]


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (b"SSH-2.0", [kept("stray", b"SSH-2.0")]),
        (b"\r\n", []),
        (b"", []),
        (b"x" * 200_000, [kept("stray", b"x" * AFTER_MOST, whole=False)]),
    ],
    ids=["stray", "end of a line", "nothing", "without end"],
)
async def test_what_comes_after_is_bounded_and_need_not_be_a_reply(
    raw: Callable[[Speak], Awaitable[HttpPnc]], after: bytes, told: list[dict[str, Any]]
) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(encoded()) + after)
        await writer.drain()

    more, pnc = More(), await raw(speak)
    assert (await pnc.query(ASKED, more)).check == ASKED.check
    assert pnc._connector is not None
    await until(lambda: not pnc._connector.listening)  # type: ignore[union-attr]
    await until(lambda: len(more.told) == len(told))
    assert more.told == told


async def test_nobody_is_listened_to_for_long_nor_too_many_at_once(
    raw: Callable[[Speak], Awaitable[HttpPnc]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A front end that never hangs up costs a connection for a moment, and of so many at most."""
    monkeypatch.setattr(connection, "LISTENING_MOST", 3)
    monkeypatch.setattr(connection, "LISTEN_S", 0.3)
    gone = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal gone
        writer.write(whole(encoded()))
        await writer.drain()
        assert await reader.read() != b""  # the body of the question, until we hang up
        gone += 1

    pnc = await raw(speak)
    for _ in range(8):
        await pnc.query(ASKED)
    assert pnc._connector is not None
    assert len(pnc._connector.listening) == 3
    await until(lambda: gone == 8)
    assert pnc._connector.listening == set()
    await pnc.query(ASKED)
    await pnc.close()
    assert pnc._connector.listening == set()


@pytest.mark.parametrize(
    ("said", "reason", "data", "more"),
    [
        (whole(b"<html>"), "malformed", b"<html>", {}),
        (whole(encoded()[:-1]), "truncated", encoded()[:-1], {}),
        (whole(encoded(check="C9")), "echo", encoded(check="C9"), {}),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nabcde",
            "malformed",
            b"abcde",
            {},
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nabcde",
            "malformed",
            b"abcde",
            {"whole": False},
        ),
        (whole(b"x" * 5000), "oversize", b"x" * 4096, {"whole": False}),
        (whole(b"x" * 5000, chunked=True), "oversize", b"x" * 4096, {"whole": False}),
        (b"HTTP/1.1 999999 OK\r\n\r\n", "malformed", b"HTTP/1.1 999999 OK\r\n\r\n", {}),
    ],
    ids=["garbage", "cut", "echo", "type", "type, hangs", "announced", "endless", "no http"],
)
async def test_of_a_reply_that_is_refused_a_hash_and_its_length_are_kept(
    raw: Callable[[Speak], Awaitable[HttpPnc]],
    said: bytes,
    reason: str,
    data: bytes,
    more: dict[str, bool],
) -> None:
    """P04: of as much as was read, and nothing of it."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        await reader.read()

    plain = await raw(speak)
    pnc = adapter(plain._section.url, max_reply=4096)
    with pytest.raises(PncGarbled) as caught:
        await pnc.query(ASKED)
    await pnc.close()
    assert caught.value.reason == reason
    assert json.loads(caught.value.fingerprint) == kept(reason, data, **more)


# --------------------------------------------------------------------------- time and sockets


async def test_nobody_there_is_down() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        pnc = adapter(f"http://127.0.0.1:{sock.getsockname()[1]}")
    with pytest.raises(PncDown):
        await pnc.query(ASKED)
    await pnc.close()


async def test_who_never_lets_us_in_is_down_within_the_connect_timeout() -> None:
    """A host that drops our packets: a listener whose queue is full never completes the connect."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        address = sock.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        pnc = adapter(f"http://127.0.0.1:{address[1]}", connect_timeout_s=0.3)
        async with asyncio.timeout(5):
            with pytest.raises(PncDown, match="cannot be reached"):
                await pnc.query(ASKED)
        await pnc.close()
        for filler in fillers:
            filler.close()


async def test_the_adapter_gives_up_by_itself(
    raw: Callable[[Speak], Awaitable[HttpPnc]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who forgets to cancel waits for the deadline and the backstop, and no longer."""

    async def speak(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await reader.read(65536)

    monkeypatch.setattr(http, "BACKSTOP_S", -14.8)
    pnc = await raw(speak)
    async with asyncio.timeout(5):
        with pytest.raises(PncTimeout):
            await pnc.query(ASKED)


async def test_connections_are_bounded_and_the_wait_for_one_is_too(
    raw: Callable[[Speak], Awaitable[HttpPnc]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PNC that hangs holds CONNECTIONS sockets at most; whoever finds none free is told soon."""
    open_now, most = 0, 0

    async def speak(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            while await reader.read(65536):
                pass
        finally:
            open_now -= 1

    monkeypatch.setattr(http, "CONNECTIONS", 3)
    started = await raw(speak)
    pnc = adapter(started._url.removesuffix("/v1/query"), connect_timeout_s=0.3)
    asking = [asyncio.ensure_future(pnc.query(ASKED)) for _ in range(8)]
    await until(lambda: sum(each.done() for each in asking) >= 5)
    assert most == 3
    told = [each.exception() for each in asking if each.done()]
    assert all(isinstance(each, PncDown) for each in told)
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await until(lambda: not open_now)
    await pnc.close()


async def test_a_closed_adapter_asks_nobody(front: Front, pnc: HttpPnc) -> None:
    await pnc.close()
    with pytest.raises(PncDown):
        await pnc.query(ASKED)
    assert front.asked == 0


# --------------------------------------------------------------------------- what is sent


async def test_the_request_is_as_documented(front: Front, pnc: HttpPnc) -> None:
    await pnc.query(ASKED)
    assert front.body == {
        "protocol": 1,
        "check": ASKED.check,
        "attempt": 1,
        "key_text": "VRM:TE99AAA",
        "operation": "vehicle",
        "key": {"vrm": "TE99AAA"},
        "reason": "1",
        "justification": "NO LIGHTS",
        "originator": "PC1001 TESTER/1/BRIDGE ST",
        "location": "BRIDGE ST",
        "on_behalf_of": "",
        "asked_at": "2026-11-22T05:24:07.120Z",
        "deadline_s": 15.0,
    }
    assert front.headers["Content-Type"] == "application/json"
    assert "Authorization" not in front.headers
    assert "TE99AAA" not in json.dumps(front.headers), "no subject in a header: proxies log those"


async def test_cookies_are_not_kept(front: Front, pnc: HttpPnc) -> None:
    """Nothing of one question travels with the next."""
    front.say(encoded(), Set_Cookie="session=1")
    await pnc.query(ASKED)
    await pnc.query(ASKED)
    assert "Cookie" not in front.headers


async def test_a_proxy_in_the_environment_is_not_asked(
    front: Front, pnc: HttpPnc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    assert (await pnc.query(ASKED)).records == ()


# --------------------------------------------------------------------------- the token

SECRET = "S3CRET-t0ken"


async def test_the_token_is_read_for_each_question(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewed token is used at once; a bad or missing one is PncUnauthorised; none is told."""
    caplog.set_level(logging.DEBUG)
    server = PncServer(RECORDS, token=SECRET)
    await server.start()
    token = tmp_path / "token"
    token.write_text(SECRET + "\n", "utf-8")
    section = PncSection(adapter="http", url=server.url, token_file="token")
    pnc = HttpPnc(section, config_path=tmp_path / "gateway.toml")
    errors = []
    try:
        await pnc.query(ASKED)
        for bad in (SECRET + "x", "", f"{SECRET}\r\nX-Evil: 1", f"{SECRET}é", SECRET * 1000):
            token.write_text(bad, "utf-8")
            with pytest.raises(PncUnauthorised) as caught:
                await pnc.query(ASKED)
            errors.append(caught.value)
        token.unlink()
        with pytest.raises(PncUnauthorised) as caught:
            await pnc.query(ASKED)
        errors.append(caught.value)
        token.write_text(SECRET, "utf-8")
        await pnc.query(ASKED)
    finally:
        await pnc.close()
        await server.stop()
    assert [reply.fault for reply in server.replies] == ["", "token", ""], "the rest never left"
    for error in errors:
        assert SECRET not in f"{error!r} {error.__cause__!r}"
    assert SECRET not in caplog.text


# --------------------------------------------------------------------------- against the server


async def test_swapped_replies_are_shown_to_nobody() -> None:
    """P05: two questions at once get each other's reply: both fail, none is believed."""
    server = PncServer(RECORDS)
    await server.start()
    pnc = adapter(server.url)
    try:
        both = [question(VehicleKey(vrm="ER99ORD"), check=f"C{n}") for n in range(2)]
        ends = await asyncio.gather(*(pnc.query(each) for each in both), return_exceptions=True)
        assert [getattr(end, "reason", None) for end in ends] == ["echo", "echo"]
        assert [each.fault for each in server.replies] == ["ORD", "ORD"]
    finally:
        await pnc.close()
        await server.stop()


async def test_a_pnc_that_restarts_is_asked_again() -> None:
    """The same adapter goes on when the PNC is back: nothing of the dead connection is kept."""
    server = PncServer(RECORDS)
    await server.start()
    pnc = adapter(server.url)
    try:
        await pnc.query(ASKED)
        await server.stop()
        with pytest.raises(PncDown):
            await pnc.query(ASKED)
        await server.start()
        assert (await pnc.query(ASKED)).records == ()
    finally:
        await pnc.close()
        await server.stop()
