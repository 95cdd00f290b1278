"""The listener for trackers: who opens, who is meant, what is answered, and what nobody can do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from adapters import codecs, http_doors, links
from adapters.links.osmand_http import BODY_MAX, BURST_S, WAIT_MOST_S, OsmandLink, Pace, Tokens
from gateway.app import SystemClock
from gateway.errors import LinkDown
from gateway.messages import Issi, LocationFix, StatusReport, Suspicion
from gateway.settings import OsmandSection
from tests.contracts.test_links import ISSI, WITHIN_S, Ends
from tests.fakes import FakeJournal
from tests.services.pki import Pki

TOKEN = "sesame-sesame-sesame"
OWN = "nobody-else-has-this-one"
FIX = "id=TRK1&lat=52.5725&lon=-0.2431"
NAMES = {"TRK1": ISSI, "TRK2": "5001002", "GONE": "5001999"}


class Rig(Ends):
    """One listener, and whoever comes to it."""

    def __init__(self, folder: Path, **section: Any) -> None:
        super().__init__()
        self.suspected: list[tuple[Suspicion, Issi]] = []
        (folder / "tokens").write_text(f"# opens for all\n{TOKEN}\nTRK2 {OWN}\n", "utf-8")
        section = {"token_file": "tokens", "port": 0} | section
        link = links.create(
            OsmandSection(name="line", **section),
            instance="gwt",
            config_path=folder / "gateway.toml",
            clock=SystemClock(),
            meter=self.meter,
            journal=FakeJournal(),
            known=lambda issi: issi in (ISSI, "5001002"),
            named=lambda protocol, name: NAMES.get(name, "") if protocol == "osmand" else "",
            codecs=codecs.create,
            suspect=lambda cause, _link, issi: self.suspected.append((cause, issi)),
            tap=lambda channel, data: self.tapped.append((channel, data)),
        )
        assert isinstance(link, OsmandLink)
        self.link = self.listener = link

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}/"

    async def get(self, query: str, **headers: str) -> int:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}?{query}", headers=headers) as answer,
        ):
            said = await answer.read()
            assert answer.status == 503 or said == b"", "it says no more than its status"
            return answer.status

    async def post(self, body: object, query: str = "", **more: Any) -> int:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}?{query}", **({"json": body} | more)) as answer,
        ):
            return answer.status

    def rejected(self, reason: str) -> float:
        return self.meter.total("frames_rejected_total", link="line", reason=reason)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    each = Rig(tmp_path)
    await each.opened()
    yield each
    await each.close()


# --------------------------------------------------------------------------- what is taken


async def test_a_query_is_a_position_of_its_terminal(rig: Rig) -> None:
    assert await rig.get(f"token={TOKEN}&{FIX}&speed=10&bearing=90") == 200
    (envelope,) = rig.envelopes
    assert envelope.terminal == ISSI
    fix = envelope.message
    assert isinstance(fix, LocationFix)
    assert (fix.lat, fix.lon, fix.course_deg) == (52.5725, -0.2431, 90.0)
    assert fix.speed_mps == pytest.approx(5.14444)
    assert envelope.reference_ms == envelope.received_at_ms


@pytest.mark.parametrize("how", ["json", "form", "posted query"])
async def test_a_body_is_one_as_well(rig: Rig, how: str) -> None:
    coords = {"latitude": 52.5725, "longitude": -0.2431}
    match how:
        case "json":
            body = {"device_id": "TRK1", "location": {"coords": coords}}
            assert await rig.post(body, f"token={TOKEN}") == 200
        case "form":
            form = {"token": TOKEN, "id": "TRK1", "lat": "52.5725", "lon": "-0.2431"}
            assert await rig.post(None, json=None, data=form) == 200
        case _:
            assert await rig.post(None, f"token={TOKEN}&{FIX}", json=None) == 200
    (envelope,) = rig.envelopes
    assert envelope.terminal == ISSI
    assert isinstance(envelope.message, LocationFix)


async def test_the_token_may_be_a_bearer_token(rig: Rig) -> None:
    assert await rig.get(FIX, Authorization=f"Bearer {TOKEN}") == 200


async def test_200_waits_until_it_is_taken(rig: Rig) -> None:
    """Not before the core has settled it: an emergency is on record by then."""
    rig.auto = False
    asking = asyncio.ensure_future(rig.get(f"token={TOKEN}&{FIX}&alarm=sos"))
    await rig.until(lambda: len(rig.envelopes) == 2)
    assert [type(each.message) for each in rig.envelopes] == [StatusReport, LocationFix]
    rig.envelopes[0].settle()
    await asyncio.sleep(0)
    assert not asking.done()
    rig.envelopes[1].settle()
    assert await asking == 200


async def test_what_is_not_taken_in_time_comes_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.links.osmand_http.TAKEN_WITHIN_S", 0.05)
    rig.auto = False
    assert await rig.get(f"token={TOKEN}&{FIX}") == 503


async def test_void_is_never_a_position_and_holds_nobody_up(rig: Rig) -> None:
    """204: read, and none in it; a client that is refused would send it for ever."""
    assert await rig.get(f"token={TOKEN}&{FIX}&valid=false") == 204
    assert await rig.get(f"token={TOKEN}&id=TRK1&lat=0&lon=0") == 204
    assert rig.envelopes == []
    assert rig.meter.total("fixes_rejected_total", reason="void") == 1
    assert rig.meter.total("fixes_rejected_total", reason="null") == 1


async def test_an_emergency_is_one_whatever_else_is_wrong(rig: Rig) -> None:
    """Without a place, of a place that is none, and beside what cannot be read."""
    for rest in ("", "&valid=false&lat=52.5&lon=0.1", "&lat=x&lon=y"):
        rig.envelopes.clear()
        assert await rig.get(f"token={TOKEN}&id=TRK1&alarm=sos{rest}") == 200
        assert [each.message for each in rig.envelopes] == [StatusReport(code=0)]
        assert rig.envelopes[0].terminal == ISSI


# --------------------------------------------------------------------------- who opens


async def test_without_the_token_nothing_is_taken(rig: Rig) -> None:
    """One answer to whoever has none, whatever they ask: who is in the fleet is not told. That they
    spoke for somebody who is in it, is."""
    for query in (FIX, "id=NOBODY&lat=1&lon=1", "", "id=TRK1", f"{FIX}&alarm=sos"):
        for token in ("", "token=&", "token=wrong-wrong-wrong-wrong&", f"token={TOKEN[:-1]}&"):
            assert await rig.get(token + query) == 401
    assert await rig.get(f"token={TOKEN}&token={TOKEN}&{FIX}") == 401
    assert await rig.get(f"{FIX}&token=%C3%A9%C3%A9{TOKEN}") == 401
    assert await rig.get(FIX, Authorization=f"Basic {TOKEN}") == 401
    assert rig.envelopes == []
    assert rig.rejected("auth") == 23
    assert rig.suspected == [(Suspicion.IDENTITY, ISSI)] * 15
    assert rig.listener.heard_at_s is None


async def test_a_name_with_a_token_of_its_own_is_opened_by_no_other(rig: Rig) -> None:
    """And its token opens no other name."""
    other = FIX.replace("TRK1", "TRK2")
    assert await rig.get(f"token={TOKEN}&{other}") == 401
    assert await rig.get(f"token={OWN}&{FIX}") == 401
    assert rig.envelopes == []
    assert await rig.get(f"token={OWN}&{other}") == 200
    assert rig.envelopes[0].terminal == "5001002"


async def test_a_stranger_is_not_found(rig: Rig) -> None:
    """With the token: in no fleet, or in it and revoked, is the same."""
    for name in ("NOBODY", "trk1", "GONE"):
        assert await rig.get(f"token={TOKEN}&{FIX.replace('TRK1', name)}") == 404
    assert rig.envelopes == []
    assert rig.rejected("unknown_terminal") == 3
    assert rig.suspected == [(Suspicion.UNKNOWN_TERMINAL, "")] * 3


async def test_who_does_not_say_who_it_is(rig: Rig) -> None:
    assert await rig.get(f"token={TOKEN}&lat=52.5725&lon=-0.2431") == 400
    assert rig.rejected("identity") == 1


async def test_what_cannot_be_read(rig: Rig) -> None:
    assert await rig.get(f"token={TOKEN}&{FIX}&lat=52") == 400
    assert await rig.post(None, f"token={TOKEN}", json=None, data=b'{"device_id":') == 400
    assert rig.rejected("decode") == 2
    assert rig.envelopes == []


async def test_the_token_is_recorded_nowhere(rig: Rig) -> None:
    """A tap hears what was sent, but for that; however it was spelt."""
    await rig.get(f"token={TOKEN}&{FIX}")
    await rig.get(f"{FIX}&%74oken={TOKEN}")
    await rig.get(f"{FIX}&TOKEN=wrong-wrong-wrong")
    await rig.post(None, json=None, data={"token": TOKEN, "id": "TRK1"})
    said = b"".join(data for _, data in rig.tapped)
    assert len(rig.tapped) == 4
    assert b"oken" not in said.lower()
    assert TOKEN.encode() not in said
    assert said.count(FIX.encode()) == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "TRK1 short\n", "\xe9" * 20, None])
async def test_no_token_is_no_door(tmp_path: Path, text: str | None) -> None:
    """Fails closed: a file that is empty, wrong or gone opens nothing, and is tried seldom."""
    rig = Rig(tmp_path)
    path = tmp_path / "tokens"
    path.unlink() if text is None else path.write_text(text, "utf-8")
    with pytest.raises(LinkDown) as caught:
        await rig.opened()
    assert caught.value.refused
    assert "token" in caught.value.reason


async def test_on_loopback_it_may_do_without(tmp_path: Path) -> None:
    rig = Rig(tmp_path, token_file="")
    await rig.opened()
    assert await rig.get(FIX) == 200
    assert await rig.get("id=NOBODY&lat=1&lon=1") == 404
    await rig.close()


def test_tokens_are_compared_whole() -> None:
    tokens = Tokens(f"{TOKEN}\nTRK2 {OWN}\n")
    assert tokens.open("TRK1", TOKEN)
    assert tokens.open("TRK2", OWN)
    for device, given in (("TRK1", ""), ("TRK1", TOKEN[:-1]), ("TRK1", TOKEN + "x"), ("TRK2", "")):
        assert not tokens.open(device, given)


# --------------------------------------------------------------------------- its walls


async def test_browsers_and_other_methods_are_not_served(rig: Rig) -> None:
    """A page elsewhere that knows our port, say: it could not have the token, and on loopback there
    may be none."""
    query = f"token={TOKEN}&{FIX}"
    assert await rig.get(query, Origin="https://elsewhere.example") == 403
    assert await rig.get(query, **{"Sec-Fetch-Site": "cross-site"}) == 403
    async with aiohttp.ClientSession() as http:
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "HEAD"):
            async with http.request(method, f"{rig.url}?{query}") as answer:
                assert answer.status == 405
                assert answer.headers["Server"] == "gateway"
    assert rig.envelopes == []


async def test_a_body_is_bounded(rig: Rig) -> None:
    """Told of its length, and told nothing."""

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(BODY_MAX // 1024 + 2):
            yield b"A" * 1024

    for body in (b"A" * (BODY_MAX + 1), drip()):
        with contextlib.suppress(aiohttp.ClientError):  # it may be cut while it still sends
            assert await rig.post(None, f"token={TOKEN}", json=None, data=body) == 413
    assert rig.envelopes == []
    assert await rig.get(f"token={TOKEN}&{FIX}") == 200


async def raw(rig: Rig, sent: bytes, *, lines: int = 0) -> bytes:
    """What comes until the far side closes, or so many lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.listener.port)
    writer.write(sent)
    try:
        async with asyncio.timeout(WITHIN_S):
            if lines:
                return b"".join([await reader.readline() for _ in range(lines)])
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_half_requests_are_cut(tmp_path: Path) -> None:
    """F13: a silent one, a half header, a body that does not come; whoever is whole is served."""
    rig = Rig(tmp_path, header_deadline_s=1.0, body_deadline_s=1.0)
    await rig.opened()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    silent, half, waiting = await asyncio.gather(
        raw(rig, b""), raw(rig, head[:20]), raw(rig, head + b"\r\nid=", lines=1)
    )
    assert (silent, half) == (b"", b"")
    assert waiting.startswith(b"HTTP/1.1 408 ")
    assert await rig.get(f"token={TOKEN}&{FIX}") == 200  # within a second: its loop is ours
    await rig.close()


async def test_an_address_has_so_many_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is turned away, or the longest silent gives way to who comes."""
    rig = Rig(tmp_path, max_per_address=3, header_deadline_s=30.0)
    await rig.opened()
    crowd = []
    for _ in range(3):  # each is in when it was answered, and stays
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.listener.port)
        writer.write(f"GET /?token={TOKEN}&{FIX} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        crowd.append(writer)
    monkeypatch.setattr(http_doors, "PATIENCE_S", 60.0)
    assert await rig.get(f"token={TOKEN}&{FIX}") == 503
    monkeypatch.setattr(http_doors, "PATIENCE_S", 0.0)
    assert await rig.get(f"token={TOKEN}&{FIX}") == 200
    assert len(rig.envelopes) == 4
    for writer in crowd:
        writer.close()
    await rig.close()


def test_who_asks_too_often_waits_and_is_never_refused() -> None:
    """Twice its pace at once, then at its pace; an end to the wait whatever hung up before."""
    pace = Pace(10.0)
    at_once = [pace.wait_s("a", 0.0) for _ in range(round(BURST_S * 10) + 1)]
    assert max(at_once) < 1e-9
    assert pace.wait_s("a", 0.0) == pytest.approx(0.1)
    assert pace.wait_s("b", 0.0) == 0.0, "another address waits for nobody"
    for _ in range(10_000):
        assert pace.wait_s("a", 0.0) <= WAIT_MOST_S
    assert pace.wait_s("a", BURST_S + WAIT_MOST_S) == 0.0
    for n in range(10_000):
        pace.wait_s(f"address {n}", 1.0)
    assert len(pace._due_s) <= 4096


# --------------------------------------------------------------------------- life


async def test_a_port_that_somebody_has(rig: Rig, tmp_path: Path) -> None:
    second = Rig(tmp_path, port=rig.listener.port)
    with pytest.raises(LinkDown) as caught:
        await second.opened()
    assert 0 < len(caught.value.reason) <= 60
    assert not caught.value.refused


async def test_cancelled_it_listens_no_more(rig: Rig) -> None:
    """Also with a connection that stands."""
    port = rig.listener.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await rig.close()
    async with asyncio.timeout(WITHIN_S):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_over_tls(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    pki.issue("tracker-door")
    rig = Rig(
        tmp_path, cert_file=pki.path("tracker-door.crt"), key_file=pki.path("tracker-door.key")
    )
    await rig.opened()
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as http:
        url = f"https://127.0.0.1:{rig.listener.port}/?token={TOKEN}&{FIX}"
        async with http.get(url) as answer:
            assert answer.status == 200
    assert await raw(rig, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b"", "in clear"
    await rig.close()


async def test_a_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("-----BEGIN NOTHING-----\n", "ascii")
    rig = Rig(tmp_path, cert_file="cert.pem", key_file="key.pem")
    with pytest.raises(LinkDown) as caught:
        await rig.opened()
    assert caught.value.refused
    assert "certificate" in caught.value.reason
