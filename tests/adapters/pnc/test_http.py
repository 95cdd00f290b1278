"""The HTTP adapter against hostile replies: nothing but a whole, right reply is an answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.pnc.http import HttpPnc, read
from gateway.errors import PncDown, PncError, PncGarbled, PncUnauthorised
from gateway.messages import VehicleKey
from gateway.settings import PncSection
from simulators.pnc_server import PncServer
from tests.contracts.test_pnc import RECORDS, query

ASKED = query(VehicleKey(vrm="TE99AAA"))


def right(**changes: object) -> dict[str, object]:
    body: dict[str, object] = {
        "protocol": 1,
        "check": ASKED.check,
        "attempt": ASKED.attempt,
        "key_text": ASKED.key_text,
        "result": "no_trace",
        "as_of": "2026-11-22T10:15:02.114Z",
        "records": [],
        "blocks": [{"source": "PNC", "as_of": "2026-11-22T10:15:02Z", "state": "OK"}],
        "not_checked": [],
    }
    return body | changes


def encoded(**changes: object) -> bytes:
    return json.dumps(right(**changes)).encode()


def test_the_right_reply_is_an_answer() -> None:
    """And a member that we do not know is ignored."""
    answer = read(encoded(tomorrow={"secret": "x"}), ASKED)
    assert answer.records == ()
    assert answer.as_of_ms == 1_795_342_502_114


CAR = {"record": "vehicle", "vrm": "TE99AAA"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"check": "another"}, "echo"),
        ({"attempt": 2}, "echo"),
        ({"key_text": "VRM:TE99AAB"}, "echo"),
        ({"protocol": 2}, "malformed"),
        ({"result": "trace"}, "malformed"),
        ({"result": "none"}, "malformed"),
        ({"result": ""}, "malformed"),
        ({"result": None}, "malformed"),
        ({"records": [CAR]}, "malformed"),
        ({"records": None}, "malformed"),
        ({"records": [{"record": "spaceship"}], "result": "trace"}, "malformed"),
        ({"records": [{"vrm": "TE99AAA"}], "result": "trace"}, "malformed"),
        ({"records": [CAR] * 13, "result": "trace"}, "malformed"),
        ({"records": [CAR | {"tax": 5}], "result": "trace"}, "malformed"),
        ({"as_of": "yesterday"}, "malformed"),
        ({"as_of": "2026-13-45T99:99:99Z"}, "malformed"),
        ({"not_checked": "INSURANCE"}, "malformed"),
        ({"blocks": [{}]}, "malformed"),
    ],
)
def test_whatever_is_not_right_is_no_answer(change: dict[str, object], reason: str) -> None:
    with pytest.raises(PncGarbled) as caught:
        read(encoded(**change), ASKED)
    assert caught.value.reason == reason


@pytest.mark.parametrize("member", sorted(right()))
def test_every_member_is_needed(member: str) -> None:
    """An empty or half reply can never be `no trace`."""
    body = right()
    del body[member]
    with pytest.raises(PncGarbled):
        read(json.dumps(body).encode(), ASKED)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"no_trace"',
        b"NO TRACE",
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"\xff\xfe" + encoded(),
        encoded()[:-1],
        encoded() + b"x",
        encoded().replace(b'"attempt": 1', b'"attempt": NaN'),
        encoded().replace(b'"attempt": 1', b'"attempt": 1e999'),
        encoded().replace(b"TE99AAA", b"\xed\xa0\x80"),
    ],
)
def test_garbage_is_garbled(body: bytes) -> None:
    with pytest.raises(PncGarbled):
        read(body, ASKED)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(sorted(right())), inner, max_size=9),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_answer_is_never_taken_for_no_trace(body: bytes) -> None:
    """Whatever comes: only a reply that says no_trace, whole and for us, is one."""
    try:
        answer = read(body, ASKED)
    except PncGarbled:
        return
    assert json.loads(body)["result"] == "no_trace"
    assert answer.check == ASKED.check


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(encoded()) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_never_a_wrong_answer(place: int, byte: int) -> None:
    body = bytearray(encoded())
    body[place] = byte
    try:
        answer = read(bytes(body), ASKED)
    except PncGarbled:
        return
    assert (answer.records, answer.key_text) == ((), ASKED.key_text)
    assert json.loads(bytes(body))["result"] == "no_trace"


# --------------------------------------------------------------------------- over real HTTP

Reply = Callable[[web.Request], "asyncio.Future[web.StreamResponse] | web.StreamResponse"]


@pytest.fixture
async def front() -> AsyncIterator[tuple[dict[str, object], HttpPnc]]:
    """A front end whose reply each test chooses: {"reply": callable}."""
    chosen: dict[str, object] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        chosen["headers"] = dict(request.headers)
        chosen["body"] = await request.json()
        made = chosen["reply"](request)  # type: ignore[operator]
        return await made if asyncio.iscoroutine(made) else made  # type: ignore[no-any-return]

    app = web.Application()
    app.router.add_post("/v1/query", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{port}"
    pnc = HttpPnc(PncSection(adapter="http", url=url), config_path=Path("x"))
    yield chosen, pnc
    await pnc.close()
    await runner.cleanup()


async def test_a_compressed_reply_is_refused_unread(
    front: tuple[dict[str, object], HttpPnc],
) -> None:
    """A gzip bomb is never unpacked."""
    chosen, pnc = front
    bomb = gzip.compress(b" " * 50_000_000 + encoded())
    chosen["reply"] = lambda _r: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(PncGarbled):
        await pnc.query(ASKED)


async def test_an_endless_reply_is_cut_off(front: tuple[dict[str, object], HttpPnc]) -> None:
    """P04: bounded memory, whatever length is announced."""
    chosen, pnc = front

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except ConnectionError:
            return response

    chosen["reply"] = flood
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PncGarbled) as caught:
        await pnc.query(ASKED)
    assert caught.value.reason == "oversize"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("status", [301, 302, 404, 410, 204, 201])
async def test_other_statuses_are_errors(
    front: tuple[dict[str, object], HttpPnc], status: int
) -> None:
    """A redirect is not followed; a 404 is never `no trace`."""
    chosen, pnc = front
    headers = {"Location": "http://127.0.0.1:1/"} if status in (301, 302) else {}
    chosen["reply"] = lambda _r: web.Response(status=status, headers=headers, body=encoded())
    with pytest.raises(PncError):
        await pnc.query(ASKED)


async def test_the_request_is_as_documented(front: tuple[dict[str, object], HttpPnc]) -> None:
    chosen, pnc = front
    chosen["reply"] = lambda _r: web.Response(body=encoded(), content_type="application/json")
    await pnc.query(ASKED)
    assert chosen["body"] == {
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


async def test_nobody_there_is_down() -> None:
    pnc = HttpPnc(PncSection(adapter="http", url="http://127.0.0.1:9"), config_path=Path("x"))
    with pytest.raises(PncDown):
        await pnc.query(ASKED)
    await pnc.close()


async def test_the_token_is_read_for_each_question(tmp_path: Path) -> None:
    """A renewed token is used at once; an expired or missing one is PncUnauthorised."""
    server = PncServer(RECORDS, token="first-token")
    await server.start()
    token = tmp_path / "token"
    token.write_text("first-token\n", "utf-8")
    section = PncSection(adapter="http", url=server.url, token_file="token")
    pnc = HttpPnc(section, config_path=tmp_path / "gateway.toml")
    try:
        await pnc.query(ASKED)
        token.write_text("old", "utf-8")
        with pytest.raises(PncUnauthorised) as caught:
            await pnc.query(ASKED)
        assert "old" not in str(caught.value)
        token.unlink()
        with pytest.raises(PncUnauthorised):
            await pnc.query(ASKED)
    finally:
        await pnc.close()
        await server.stop()


async def test_swapped_replies_are_shown_to_nobody() -> None:
    """P05: two questions at once get each other's reply: both fail, none is believed."""
    server = PncServer(RECORDS)
    await server.start()
    pnc = HttpPnc(PncSection(adapter="http", url=server.url), config_path=Path("x"))
    try:
        both = [query(VehicleKey(vrm="ER99ORD"), check=f"C{n}") for n in range(2)]
        ends = await asyncio.gather(*(pnc.query(each) for each in both), return_exceptions=True)
        assert [getattr(end, "reason", None) for end in ends] == ["echo", "echo"]
        assert [each.replied for each in server.queries] == ["ORD", "ORD"]
    finally:
        await pnc.close()
        await server.stop()
