"""The event stream over real HTTP: shapes, numbers, resume, silence, and slow readers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from adapters import http_doors
from adapters.observers.prometheus import EVENT_TYPES, PrometheusMeter
from adapters.web import WebServer, shapes
from adapters.web.stream import HEARTBEAT_S
from gateway.messages import (
    ChallengeChanged,
    CheckDelivery,
    CheckStaged,
    Event,
    LinkState,
    MessageChanged,
    Noticed,
    PolicyChanged,
    ReleaseChanged,
    UnitEmergency,
    UnitMeta,
)
from tests.adapters.web.board import NOW_MS, FakeBoard, alarm, done, fix, link, opened, unit
from tests.adapters.web.seats import as_seen, headers, seat, token, web_server
from tests.fakes import FakeClock, settle
from tests.services.proxy import Mode, between

Message = dict[str, Any]


class Console:
    """A client by the rules of the design: numbers checked as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.ids: list[str] = []
        self._lines: list[bytes] = []

    async def next(self, *, beats: bool = False) -> Message:
        """The next message (heartbeats only when asked for)."""
        async with asyncio.timeout(10):
            while True:
                block: dict[bytes, bytes] = {}
                while (line := (await self.response.content.readline())) not in (b"\n", b""):
                    name, _, value = line.rstrip(b"\n").partition(b": ")
                    block[name] = value
                if not block:
                    raise EOFError
                assert b"event" not in block, "one listener, no event: field"
                self.ids.append(block.get(b"id", b"").decode())
                message: Message = json.loads(block[b"data"])
                if beats or message["type"] != "hb":
                    return message

    async def until(self, type_: str) -> Message:
        while (message := await self.next())["type"] != type_:
            pass
        return message


class Site:
    def __init__(self, server: WebServer, board: FakeBoard, http: aiohttp.ClientSession) -> None:
        self.server, self.board, self.http = server, board, http
        self.meter = server._meter

    @asynccontextmanager
    async def console(
        self, query: str = "", headers: dict[str, str] | None = None
    ) -> AsyncIterator[Console]:
        async with self.http.get(f"/api/v1/stream{query}", headers=headers) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            console = Console(response)
            beat = await console.next(beats=True)
            if beat["type"] != "hb":  # told off at once
                console.ids.clear()
                console.first = beat  # type: ignore[attr-defined]
            yield console


@asynccontextmanager
async def site(**times: float) -> AsyncIterator[Site]:
    board = FakeBoard(FakeClock())
    meter = PrometheusMeter(links={}, areas=("S",), agencies=("po",), strict=True)
    server = web_server(board, meter=meter, **times)
    url = await server.start()
    try:
        async with seat(server, url) as http:
            yield Site(server, board, http)
    finally:
        await server.stop()


def figure(site_: Site, name: str) -> float:
    for line in site_.meter.render().decode().splitlines():
        if line.startswith(f"gateway_{name} "):
            return float(line.split()[-1])
    raise LookupError(name)


# --------------------------------------------------------------------------- shapes


async def test_events_have_the_shapes_of_the_design() -> None:
    """Every event type, with its members, its number and the number before it."""
    async with site() as here, here.console() as console:
        publish = here.board.bus.publish
        publish(unit().meta)
        publish(opened())
        publish(CheckStaged("C7F3", "01TESTC7F3", "4001", "pnc", NOW_MS))
        publish(done())
        publish(CheckDelivery("C7F3", "01TESTC7F3", "4001", 1, "delivered", NOW_MS))
        publish(alarm())
        publish(link(state=LinkState.DOWN))
        publish(Noticed("late", NOW_MS, short="C7F3", terminal="4001"))
        publish(UnitEmergency("4001", "A1", True, NOW_MS, 52.57251, -0.24312, 3.0))
        publish(UnitMeta("4001", "S-214", "po", "S", "handheld", "OFF", NOW_MS, gone=True))
        said: list[Message] = []
        while len(said) < 10:
            message = await console.next()
            if not message.get("ahead"):
                said.append(message)
    assert [m["seq"] for m in said] == list(range(1, 11))
    assert [m["prev"] for m in said] == list(range(10))
    t = NOW_MS / 1000
    for message in said:
        del message["seq"], message["prev"]
    who = {"ref": "C7F3", "id": "01TESTC7F3"}
    assert said[0] == {
        "type": "unit.meta",
        "i": 0,
        "cs": "S-214",
        "ag": "po",
        "ar": "S",
        "cls": "handheld",
        "st": "AVL",
        "t": t,
    }
    assert said[1] == {
        "type": "check.open",
        **who,
        "u": 0,
        "kind": "vehicle",
        "stage": "opening",
        "opened": t,
        "deadline": t + 15,
    }
    assert said[2] == {"type": "check.stage", **who, "stage": "pnc", "t": t}
    assert said[3] == {
        "type": "check.done",
        **who,
        "outcome": "answered",
        "class": "HIT_CRITICAL",
        "danger": ["WEAPONS"],
        "parts": 2,
        "not_checked": [],
        "cause": "",
        "elapsed_ms": 412,
        "t": t,
    }
    assert said[4] == {"type": "check.delivery", **who, "part": 1, "state": "delivered", "t": t}
    assert said[5]["subj"] == {"u": 0}
    assert (said[5]["type"], said[5]["id"], said[5]["rule"]) == ("alarm", "A1", "EMG")
    assert said[6] == {
        "type": "link",
        "id": "serial-south",
        "kind": "serial",
        "state": "down",
        "since": t,
        "detail": "",
    }
    assert said[7] == {"type": "notice", "kind": "late", "ref": "C7F3", "u": 0, "t": t}
    assert said[8] == {
        "type": "unit.emergency",
        "i": 0,
        "occ": "A1",
        "on": True,
        "pos": [52572510, -243120, 3],
        "t": t,
    }
    assert said[9] == {"type": "unit.gone", "i": 0, "t": t}


def test_each_event_of_people_and_holds_has_its_body() -> None:
    """Whoever is due one reads all that stands in it, by the unit's number and not its ISSI."""
    units = shapes.Units()
    t = NOW_MS / 1000
    held = ReleaseChanged(
        "C7F3", "01X", "4001", "L1", "SAFETY: CAUTION+", "held", NOW_MS, NOW_MS, by="op-1"
    )
    events: dict[Event, dict[str, object]] = {
        held: {"ref": "C7F3", "id": "01X", "u": 0, "level": "L1", "proposed": "SAFETY: CAUTION+"}
        | {"state": "held", "since": t, "by": "op-1", "t": t},
        MessageChanged("M1", "7F3C", "4001", "sent", NOW_MS, by="op-1"): {
            "ref": "7F3C", "id": "M1", "u": 0, "state": "sent", "by": "op-1", "t": t,
        },
        ChallengeChanged("C7F3", "01X", "4001", "open", NOW_MS + 1000, NOW_MS): {
            "ref": "C7F3", "id": "01X", "u": 0, "state": "open", "due": t + 1, "t": t,
        },
        PolicyChanged("2026-12", NOW_MS): {"version": "2026-12", "t": t},
    }  # fmt: skip
    for event, body in events.items():
        assert shapes.event_body(event, units) == {"type": shapes.event_type(event), **body}
        assert shapes.event_type(event) in EVENT_TYPES


async def test_an_unknown_position_is_null_and_no_class_is_absent() -> None:
    """What is not known is not 0; what may not be known is not there."""
    async with site() as here, here.console() as console:
        here.board.bus.publish(UnitEmergency("4001", "A1", True, NOW_MS))
        assert (await console.next())["pos"] is None
        here.board.bus.publish(done(result_class="", danger=()))
        message = await console.next()
        assert "class" not in message
        assert "danger" not in message


async def test_positions_come_in_batches_and_move_no_number() -> None:
    """A batch row is [i, lat6, lon6, acc, hd, sp, age_ds, fl]; its id repeats the number held."""
    async with site() as here, here.console() as console:
        here.board.bus.publish(link())
        assert (await console.next())["seq"] == 1
        here.board.bus.publish(fix("4001", age_s=1.5))
        message = await console.until("unit.batch")
        assert message["u"] == [[0, 52572510, -243120, 8, 270, 12, 15, 0]]
        assert "seq" not in message
        assert console.ids[-1] == "01TESTEPOCH:1"


async def test_the_heart_beats_and_names_the_number_held() -> None:
    """A heartbeat carries the time and the last number due, with nothing else to say."""
    async with site(heartbeat_s=0.02) as here, here.console() as console:
        here.board.bus.publish(link())
        await console.until("link")
        beat = await console.next(beats=True)
        assert beat == {"type": "hb", "t": NOW_MS / 1000, "seq": 1, "q": 0, "drop": 0}
        assert (await console.next(beats=True))["type"] == "hb"


# --------------------------------------------------------------------------- resume


async def test_a_stream_goes_on_after_its_snapshot() -> None:
    """What happened between the snapshot and the stream comes first; no hole in between."""
    async with site() as here:
        here.board.bus.publish(link())
        async with here.http.get("/api/v1/snapshot") as answer:
            seq = (await answer.json())["seq"]
        here.board.bus.publish(opened())
        here.board.bus.publish(fix())
        async with here.console(f"?epoch=01TESTEPOCH&after={seq}") as console:
            first = await console.next()
            assert (first["type"], first["seq"], first["prev"]) == ("check.open", 2, 1)
            assert (await console.next())["type"] == "unit.batch"


async def test_last_event_id_wins_over_the_query() -> None:
    """A browser that reconnects by itself says where it stands in the header."""
    async with site() as here:
        for _ in range(3):
            here.board.bus.publish(link())
        headers = {"Last-Event-ID": "01TESTEPOCH:2"}
        async with here.console("?epoch=01TESTEPOCH&after=0", headers) as console:
            assert (await console.next())["seq"] == 3


@pytest.mark.parametrize(
    ("place", "reason"),
    [("epoch=ANOTHER&after=0", "epoch"), ("epoch=01TESTEPOCH&after=99", "gap")],
)
async def test_a_place_that_is_gone_is_a_reset_and_the_end(place: str, reason: str) -> None:
    """Another epoch, or a number that is not kept: one reset, then the stream ends."""
    async with site() as here, here.http.get(f"/api/v1/stream?{place}") as response:
        console = Console(response)
        message = await console.until("reset")
        assert message["reason"] == reason
        with pytest.raises(EOFError):
            await console.next(beats=True)


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1e9", "after=9999999999999999"])
async def test_a_place_that_is_no_place_is_refused(query: str) -> None:
    """A malformed number is a 400 with a plain title, not a stream."""
    async with site() as here, here.http.get(f"/api/v1/stream?{query}") as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["title"] == "after: a number"


# --------------------------------------------------------------------------- ends


async def test_a_stop_says_bye_and_does_not_wait() -> None:
    """Open streams are told when to come back, and the stop takes no longer than it must."""
    async with site() as here, here.console() as first, here.console() as second:
        async with asyncio.timeout(2):
            await here.server.stop()
        for console in (first, second):
            bye = await console.until("bye")
            assert 500 <= bye["retry_ms"] <= 3000
            with pytest.raises(EOFError):
                await console.next(beats=True)
        assert figure(here, "console_streams") == 0


async def test_a_client_that_goes_is_forgotten() -> None:
    """Its subscription ends with its connection."""
    async with site(heartbeat_s=0.02) as here:
        async with here.console():
            assert here.board.bus.subscribers == 1
        async with asyncio.timeout(5):
            while here.board.bus.subscribers:
                await settle(1)
        assert figure(here, "console_streams") == 0


async def test_a_client_that_vanished_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """W02: gone without a word, as of a cable pulled: what it leaves unacknowledged for so long
    ends its stream, though the kernel goes on taking what is written."""
    assert HEARTBEAT_S + http_doors.DEAD_PEER_MS / 1000 < 30
    monkeypatch.setattr(http_doors, "DEAD_PEER_MS", 300)
    async with site(heartbeat_s=0.05) as here, between(here.server.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/api/v1/stream"
        seen = headers(token(here.server))
        async with aiohttp.ClientSession(headers=seen) as http, http.get(url) as response:
            await response.content.readline()
            assert here.board.bus.subscribers == 1
            proxy.become(Mode.VANISH)
            async with asyncio.timeout(10):
                while here.board.bus.subscribers:
                    await settle(1)
        assert figure(here, "console_streams") == 0


async def test_a_reader_that_stops_is_cut_and_the_others_go_on() -> None:
    """Whoever does not take a write within the deadline is cut and counted; the publisher never
    waits, and another console misses nothing."""
    async with site(write_deadline_s=0.2, heartbeat_s=0.05) as here, here.console() as good:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stuck, ("127.0.0.1", here.server.port))
        asked = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        await loop.sock_sendall(stuck, as_seen(here.server, asked))
        async with asyncio.timeout(5):
            while here.board.bus.subscribers < 2:
                await settle(1)
        published, seen = 0, 0
        async with asyncio.timeout(20):
            while here.board.bus.subscribers == 2:
                for _ in range(200):
                    here.board.bus.publish(opened())
                    published += 1
                while seen < published:
                    message = await good.next()
                    assert message["prev"] == seen
                    seen = message["seq"]
        assert seen == published
        text = here.meter.render().decode()
        assert 'gateway_console_resets_total{reason="slow"} 1.0' in text
        stuck.close()


async def test_a_slow_reader_never_hides_more_than_its_buffers() -> None:
    """What a stopped reader has unread in the kernel is bounded: its stream waits, not grows."""
    async with site(write_deadline_s=30, heartbeat_s=30) as here:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stuck, ("127.0.0.1", here.server.port))
        asked = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        await loop.sock_sendall(stuck, as_seen(here.server, asked))
        async with asyncio.timeout(5):
            while here.board.bus.subscribers < 1:
                await settle(1)
        subscription = next(iter(here.server._streams._open))
        before = -1
        async with asyncio.timeout(20):
            while subscription.held != before:
                before = subscription.held
                for _ in range(300):
                    here.board.bus.publish(opened())
                for _ in range(50):
                    await settle(1)
        assert subscription.held < 3000, "events that were taken as written but nobody read"
        stuck.close()


async def test_an_emergency_is_counted_as_presented_once() -> None:
    """Two consoles show it: one emergency was presented."""
    async with site() as here, here.console() as first, here.console() as second:
        here.board.bus.publish(UnitEmergency("4001", "A1", True, NOW_MS))
        await first.until("unit.emergency")
        await second.until("unit.emergency")
        text = here.meter.render().decode()
    assert 'gateway_emergencies_total{stage="presented"} 1.0' in text
    assert 'gateway_console_events_sent_total{type="unit.emergency"} 2.0' in text
