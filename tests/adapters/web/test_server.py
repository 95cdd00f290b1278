"""The API over real HTTP: shapes, walls, and what a request may cost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from adapters import http_doors
from adapters.codecs import keysds
from adapters.web import WebServer, requests
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.messages import CheckNow
from gateway.settings import HttpSection
from tests.adapters.web.board import (
    NOW_MS,
    FakeBoard,
    alarm,
    challenged,
    done,
    held,
    link,
    opened,
    unit,
)
from tests.adapters.web.seats import as_seen, seat, web_server
from tests.fakes import FakeClock


@asynccontextmanager
async def serving(
    board: FakeBoard | None = None,
    *,
    who: str = "operator",
    parse: Callable[[str], object] = lambda _text: None,
    **settings: Any,
) -> AsyncIterator[tuple[WebServer, FakeBoard, aiohttp.ClientSession]]:
    board = board or FakeBoard(FakeClock())
    http = HttpSection(**{"port": 0, "per_session_per_s": 10_000.0, **settings})
    server = web_server(board, http=http, parse=parse, version="9.9")
    url = await server.start()
    try:
        async with seat(server, url, who) as session:
            yield server, board, session
    finally:
        await server.stop()


async def raw(port: int, request: bytes, *, read: int = 65536) -> bytes:
    """What comes back until the far side closes (at most 10 s)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        said = await reader.read(read)
    writer.close()
    return said


# --------------------------------------------------------------------------- reads


async def test_the_snapshot_has_the_shape_of_the_design() -> None:
    """Columns with dictionaries, check, alarm, link, and the figure that could not be had named."""
    async with serving() as (_, board, http):
        board.units = [unit("4001", "S-214"), unit("4002", "E-107", age_s=None)]
        board.checks = [CheckNow(opened(), "pnc"), CheckNow(opened("C7F4"), "done", done("C7F4"))]
        board.alarms = {"A1": alarm()}
        board.links = [link()]
        board.bus.publish(link())
        async with http.get("/api/v1/snapshot") as answer:
            body = await answer.json()
            assert answer.headers["Content-Encoding"] == "gzip"
    assert (body["v"], body["epoch"], body["seq"], body["t"]) == (
        1,
        "01TESTEPOCH",
        1,
        1795325047.120,
    )
    columns = body["units"]["cols"]
    first, second = (dict(zip(columns, row, strict=True)) for row in body["units"]["rows"])
    assert first["cs"] == "S-214"
    assert body["dict"]["areas"][first["ar"]] == "S"
    assert body["dict"]["agencies"][first["ag"]] == "po"
    assert (first["lat6"], first["lon6"], first["src"]) == (52572510, -243120, "g")
    assert first["fix_ms"] == 1795325042120
    assert (second["lat6"], second["fix_ms"]) == (None, None), "unknown is not 0"
    assert body["dict"]["bands"] == {"handheld": {"T": 30.0}}
    assert body["checks"][0]["ref"] == "C7F3"
    assert body["checks"][0]["stage"] == "pnc"
    assert "done" not in body["checks"][0]
    assert body["checks"][1]["done"]["class"] == "HIT_CRITICAL"
    assert body["alarms"][0]["subj"] == {"u": first["i"]}
    assert body["links"][0]["state"] == "up"
    assert body["kpi"] == {"on_duty": {"S": 2}, "errors": ["stale"]}
    assert "4001" not in json.dumps(body), "the ISSI does not leave the gateway"


async def test_many_consoles_share_one_snapshot() -> None:
    """Ten at once cost the core one picture; a client without gzip gets it plain."""
    async with serving() as (_, board, http):

        async def get() -> bytes:
            async with http.get("/api/v1/snapshot") as answer:
                return await answer.read()

        bodies = await asyncio.gather(*(get() for _ in range(10)))
        assert len(set(bodies)) == 1
        assert board.snapshots == 1
        headers = {"Accept-Encoding": "identity"}
        async with http.get("/api/v1/snapshot", headers=headers) as answer:
            assert "Content-Encoding" not in answer.headers
            assert json.loads(await answer.read())["epoch"] == board.epoch


async def test_a_check_by_its_reference() -> None:
    """Short form or whole id; what is not there is a plain 404."""
    async with serving() as (_, board, http):
        board.checks = [CheckNow(opened(), "pnc")]
        for ref in ("C7F3", "01TESTC7F3"):
            async with http.get(f"/api/v1/checks/{ref}") as answer:
                assert (await answer.json())["stage"] == "pnc"
        for stage, privacy in (("pnc", None), ("prompted", "prompted"), ("not_free", "not_free")):
            board.checks = [CheckNow(opened(), stage)]
            async with http.get("/api/v1/checks/C7F3") as answer:
                assert (await answer.json())["privacy"] == privacy
        async with http.get("/api/v1/checks/NONE") as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"
            assert (await answer.json())["title"] == "no such check on the board"


async def test_time_health_readiness_and_metrics() -> None:
    """Each says what it is for; not ready and not alive are 503 with reasons."""
    async with serving() as (_, board, http):
        async with http.get("/api/v1/time") as answer:
            assert await answer.json() == {"t": 1795325047.12}
        async with http.get("/metrics") as answer:
            assert b"gateway_console_streams 0.0" in await answer.read()
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        async with http.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["ready"]) == (200, True)
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        board.is_ready = board.alive = False
        async with http.get("/readyz") as answer:
            body = await answer.json()
            assert (answer.status, body["ready"]) == (503, False)
            assert body["reasons"] == [{"what": "ledger", "state": "down", "why": ""}]
        async with http.get("/healthz") as answer:
            assert answer.status == 503


async def test_the_description_names_every_route_and_no_other() -> None:
    """openapi.json is the route table, or one of both is wrong."""
    async with serving() as (server, _, http):
        async with http.get("/api/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        described = {(verb.upper(), path) for path, entry in paths.items() for verb in entry}
        served = {
            (route.method, route.resource.canonical)
            for route in server.application().router.routes()
            if route.method != "HEAD" and route.resource is not None
        }
    assert described == served


# --------------------------------------------------------------------------- receipts


PROVED = "/api/v1/audit/receipts/4F2A-91KQ?purpose=lawfulness"


async def test_an_auditor_reads_what_a_receipt_proves() -> None:
    """However it was written down; who looked, at what and what for goes to the board."""
    async with serving(who="auditor") as (_, board, http):
        board.proofs["4F2A-91KQ"] = b'{"says":"..."}'
        for written in ("4F2A-91KQ", "4f2a-9lkq", "4F2A91KQ"):
            path = f"/api/v1/audit/receipts/{written}?purpose=lawfulness"
            async with http.get(path) as answer:
                assert answer.status == 200
                assert await answer.json() == {"says": "..."}
        assert {act[:2] for act in board.acts} == {("export", "lawfulness 4F2A-91KQ")}
        assert all(act[2] for act in board.acts)


async def test_who_is_no_auditor_reads_none_of_it() -> None:
    async with serving() as (_, board, http):
        board.proofs["4F2A-91KQ"] = b'{"says":"..."}'
        async with http.get(PROVED) as answer:
            assert answer.status == 403
            assert "says" not in await answer.text()
        assert board.acts == []


@pytest.mark.parametrize(
    ("path", "status", "title"),
    [
        (PROVED, 404, "no record has this receipt"),
        ("/api/v1/audit/receipts/4F2A?purpose=lawfulness", 400, "receipt: 8 letters"),
        ("/api/v1/audit/receipts/4F2A-91KQ", 400, "purpose: one of"),
        ("/api/v1/audit/receipts/4F2A-91KQ?purpose=curiosity", 400, "purpose: one of"),
    ],
)
async def test_what_cannot_be_proved_is_said(path: str, status: int, title: str) -> None:
    async with serving(who="auditor") as (_, _board, http), http.get(path) as answer:
        assert answer.status == status
        assert (await answer.json())["title"].startswith(title)


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (ChainBroken("gw1", 17, "bad"), 500, "gw1:17"),
        (LedgerUnavailable("away"), 503, "cannot record"),
    ],
)
async def test_a_proof_that_cannot_be_made_names_the_record(
    error: Exception, status: int, word: str
) -> None:
    async with serving(who="auditor") as (_, board, http):
        board.refuse = error
        async with http.get(PROVED) as answer:
            assert answer.status == status
            assert word in (await answer.json())["title"]


# --------------------------------------------------------------------------- changes


def key(text: str = "k1") -> dict[str, str]:
    return {"Idempotency-Key": text}


async def test_an_alarm_is_acknowledged_and_closed_over_the_api() -> None:
    """The act reaches the board with who did it; the answer is the full record."""
    async with serving() as (_, board, http):
        board.alarms = {"A1": alarm()}
        body: dict[str, str] = {}
        async with http.post("/api/v1/alarms/A1/ack", json=body, headers=key("a")) as answer:
            said = await answer.json()
            assert (answer.status, said["state"], said["ack_by"]) == (200, "ack-active", "operator")
        async with http.post("/api/v1/alarms/A1/close", json=body, headers=key("b")) as answer:
            assert (await answer.json())["state"] == "cleared"
        assert board.acts == [("ack", "A1", "operator"), ("close", "A1", "operator")]


async def test_a_held_answer_is_read_and_decided_on_over_the_api() -> None:
    """The queue, what it says, and each act with who and why; a repeat is done once."""
    async with serving() as (_, board, http):
        board.held["C8B2"] = held()
        async with http.get("/api/v1/releases") as answer:
            (waits,) = (await answer.json())["releases"]
        assert (waits["ref"], waits["level"], waits["proposed"]) == (
            "C8B2",
            "L1",
            "SAFETY: CAUTION+",
        )
        async with http.get("/api/v1/releases/C8B2") as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            read = await answer.json()
        assert (read["levels"], read["whole"]) == ({"L1": ["SAFETY: CAUTION+"]}, ["!!STOLEN"])
        for number, more in enumerate(
            (
                {"act": "release"},
                {"act": "amend", "level": "L1"},
                {"act": "refuse", "why": "WRONG CAR"},
            )
        ):
            for _ in range(2):
                body = {**more}
                path = "/api/v1/releases/C8B2"
                async with http.post(path, json=body, headers=key(f"k{number}")) as answer:
                    assert answer.status == 200
                    assert (await answer.json())["by"] == "operator"
        acts = [act[0] for act in board.acts[1:]]
        assert acts == ["release", "amend L1", "refuse WRONG CAR"]


async def test_a_challenged_check_is_reviewed_over_the_api() -> None:
    """A supervisor reads what was written, decides once, and it is off the list."""
    async with serving(who="supervisor") as (_, board, http):
        board.challenged["C8B2"] = challenged()
        async with http.get("/api/v1/challenges") as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            (waits,) = (await answer.json())["challenges"]
        assert {name: waits[name] for name in ("ref", "state", "officer", "cause", "text")} == {
            "ref": "C8B2",
            "state": "answered",
            "officer": "1001",
            "cause": "random",
            "text": "SAW IT SWERVE",
        }
        path = "/api/v1/challenges/C8B2/review"
        for body in ({}, {"enough": "yes"}, {"enough": True, "note": "x" * 201}):
            async with http.post(path, json=body, headers=key("bad")) as answer:
                assert answer.status == 400
        for _ in range(2):
            body = {"enough": False, "note": "WHICH CAR?"}
            async with http.post(path, json=body, headers=key("k")) as answer:
                assert (answer.status, (await answer.json())["state"]) == (200, "reviewed")
        assert board.acts == [("review False WHICH CAR?", "C8B2", "supervisor")]
        async with http.post(path, json={"enough": True}, headers=key("l")) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"act": "show"},
        {"act": "refuse"},
        {"act": "refuse", "why": "x" * 201},
        {"by": "ann", "act": "release"},
    ],
)
async def test_a_decision_that_says_too_little_is_none(body: dict[str, str]) -> None:
    async with serving() as (_, board, http):
        board.held["C8B2"] = held()
        path = "/api/v1/releases/C8B2"
        async with http.post(path, json=body, headers=key("k")) as answer:
            assert answer.status == 400
        assert board.acts == []


async def test_a_check_is_keyed_for_an_officer_over_the_api() -> None:
    """As an officer types it; a repeat is one act; who asked reads the answer."""
    async with serving(parse=keysds.parse) as (_, board, http):
        body = {"requester": "S-214", "text": "v te99stv r1", "to_radio": False}
        for _ in range(2):
            async with http.post("/api/v1/checks", json=body, headers=key("k1")) as answer:
                assert answer.status == 200
                made = await answer.json()
        assert (made["ref"], made["to_radio"], made["refused"]) == ("C7F3", False, "")
        assert board.acts == [("ask VRM:TE99STV False k1", "S-214", "operator")]
        async with http.get("/api/v1/checks/C7F3/answer") as answer:
            read = await answer.json()
        assert (read["class"], read["pages"], read["level"]) == ("HIT_STOLEN", ["!!STOLEN"], "L4")
        assert board.acts[1:] == [("read", "C7F3", "operator")]
        for text in ("", "X", "V TE99STV", "tell me"):
            body = {"requester": "S-214", "text": text}
            async with http.post("/api/v1/checks", json=body, headers=key(f"t{text}x")) as answer:
                assert answer.status == 400
        board.refuse = ValueError("NOT ANSWERED YET")
        async with http.get("/api/v1/checks/C7F3/answer") as answer:
            assert answer.status == 409


async def test_an_alarm_is_put_aside_and_taken_back_over_the_api() -> None:
    """For minutes and a reason that the snapshot lists; another reason under the same key is
    another act; that it was pressed by mistake is noted."""
    async with serving() as (_, board, http):
        board.alarms = {"A1": alarm(rule="LNK")}
        async with http.get("/api/v1/snapshot") as answer:
            words = (await answer.json())["dict"]
        assert words["shelve"]["minutes"] == [5, 10, 15]
        assert words["alarm_rules"]["LNK"]["response"].startswith("An area may be deaf")
        body = {"minutes": 5, "why": "test"}
        path = "/api/v1/alarms/A1"
        async with http.post(f"{path}/shelve", json=body, headers=key("a")) as answer:
            said = await answer.json()
        assert (said["shelved_until"], said["why"]) == (NOW_MS / 1000 + 300, "test")
        other = {**body, "why": "duplicate"}
        async with http.post(f"{path}/shelve", json=other, headers=key("a")) as answer:
            assert answer.status == 422
        for bad in ({}, {"by": "PC 1", **body}, {**body, "minutes": "5"}, {**body, "more": 1}):
            async with http.post(f"{path}/shelve", json=bad, headers=key("c")) as answer:
                assert answer.status == 400
        for verb in ("unshelve", "mistake"):
            async with http.post(f"{path}/{verb}", json={}, headers=key(verb)) as answer:
                said = await answer.json()
        assert ("shelved_until" in said, said["why"]) == (False, "PRESSED BY MISTAKE")
        assert [verb for verb, _, _ in board.acts] == ["shelve", "unshelve", "mistake"]


async def test_the_same_key_acts_once() -> None:
    """A repeat gets the first answer; the key for something else is refused; a failed act may be
    tried again under its key."""
    async with serving() as (_, board, http):
        board.alarms = {"A1": alarm(), "A2": alarm("A2")}

        async def ack(alarm_id: str, key_: str) -> tuple[int, dict[str, Any]]:
            path = f"/api/v1/alarms/{alarm_id}/ack"
            async with http.post(path, json={}, headers=key(key_)) as answer:
                return answer.status, await answer.json()

        replies = await asyncio.gather(*(ack("A1", "k") for _ in range(5)))
        assert all(reply == replies[0] for reply in replies)
        assert board.acts == [("ack", "A1", "operator")]
        assert (await ack("A2", "k"))[0] == 422
        board.refuse = LedgerUnavailable("full")
        assert (await ack("A2", "k2"))[0] == 503
        board.refuse = None
        assert (await ack("A2", "k2"))[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"Content-Type": "text/plain", **key()}, 415),
        (b"{", {"Content-Type": "application/json", **key()}, 400),
        (b'{"by": "x"}', {"Content-Type": "application/json", **key()}, 400),
        (b"{}", {"Content-Type": "application/json"}, 400),
        (b'{"by": "x", "by": "y"}', {"Content-Type": "application/json", **key()}, 400),
        (b'{"by": "x", "b\\u0079": "y"}', {"Content-Type": "application/json", **key()}, 400),
        (b'{"by": ' + b"[" * 60_000, {"Content-Type": "application/json", **key()}, 400),
        (b'{"by": ' + b"9" * 60_000 + b"}", {"Content-Type": "application/json", **key()}, 400),
        (b" " * 70_000, {"Content-Type": "application/json", **key()}, 413),
        (
            b"{}",
            {"Content-Type": "application/json", "Origin": "http://evil.example", **key()},
            403,
        ),
        (
            b"{}",
            {"Content-Type": "application/json", "Origin": "http://[", **key()},
            403,
        ),
        (
            b"{}",
            {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site", **key()},
            403,
        ),
        (
            b"{}",
            {"Content-Type": "application/json", "Sec-Fetch-Site": "same-site", **key()},
            403,
        ),
    ],
)
async def test_what_may_not_act_does_not(body: bytes, headers: dict[str, str], status: int) -> None:
    """Wrong type, shape, size, origin or key: refused in plain words, and nothing happened."""
    async with serving() as (_, board, http):
        board.alarms = {"A1": alarm()}
        async with http.post("/api/v1/alarms/A1/ack", data=body, headers=headers) as answer:
            said = await answer.json(content_type="application/problem+json")
            assert answer.status == said["status"] == status
        assert board.acts == []


async def test_our_own_page_may_act() -> None:
    """The headers a browser sends for our page pass the walls."""
    async with serving() as (server, board, http):
        board.alarms = {"A1": alarm()}
        headers = {
            "Origin": f"http://127.0.0.1:{server.port}",
            "Sec-Fetch-Site": "same-origin",
            **key(),
        }
        path = "/api/v1/alarms/A1/ack"
        async with http.post(path, json={}, headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (KeyError("A1"), 404, "there is no such thing"),
        (ValueError("another person must close it"), 409, "another person must close it"),
        (LedgerUnavailable("x"), 503, "cannot record this now: nothing was changed"),
        (RuntimeError("secret inside"), 500, "internal error"),
    ],
)
async def test_a_refused_act_says_why_and_nothing_more(
    error: Exception, status: int, title: str
) -> None:
    """Each failure of the core has its status and words; a surprise says nothing of itself."""
    async with serving() as (_, board, http):
        board.alarms = {"A1": alarm()}
        board.refuse = error
        path = "/api/v1/alarms/A1/ack"
        async with http.post(path, json={}, headers=key()) as answer:
            assert (answer.status, (await answer.json(content_type=None))["title"]) == (
                status,
                title,
            )


async def test_a_message_is_sent_once_and_answered_with_where_it_stands() -> None:
    """By call-sign or ISSI; its text comes back nowhere."""
    async with serving() as (_, board, http):
        path, body = "/api/v1/units/E-101/message", {"text": "CALL ME"}
        for _ in range(2):
            async with http.post(path, json=body, headers=key("m1")) as answer:
                said = await answer.json()
                assert answer.status == 200
        assert said == {
            "ref": "7F3C",
            "id": "01M7F3C",
            "u": 0,
            "state": "queued",
            "by": "operator",
            "t": NOW_MS / 1000,
        }
        assert board.acts == [("CALL ME", "E-101", "operator")]
        other = {"text": "CALL HIM"}
        async with http.post(path, json=other, headers=key("m1")) as answer:
            assert answer.status == 422
        for error, status in ((KeyError("E-9"), 404), (ValueError("NOBODY HOLDS"), 409)):
            board.refuse = error
            async with http.post(path, json=body, headers=key("m2")) as answer:
                assert answer.status == status
                assert "CALL ME" not in await answer.text()


async def test_a_radio_is_asked_where_it_is_once() -> None:
    """What comes back says who was asked, never where they are."""
    async with serving() as (_, board, http):
        path = "/api/v1/units/E-101/locate"
        for _ in range(2):
            async with http.post(path, json={}, headers=key("l1")) as answer:
                said = await answer.json()
                assert answer.status == 200
        assert said == {"u": 0, "t": NOW_MS / 1000}
        assert board.acts == [("locate", "E-101", "operator")]
        async with http.post(path, json={"lat": 1}, headers=key("l2")) as answer:
            assert answer.status == 400
        for error, status, title in (
            (KeyError("E-9"), 404, "no such unit, or more than one of that call-sign"),
            (ValueError("THIS RADIO IS OUT OF REACH"), 409, "THIS RADIO IS OUT OF REACH"),
            (LedgerUnavailable("stalled"), 503, "cannot record this now: nothing was changed"),
        ):
            board.refuse = error
            async with http.post(path, json={}, headers=key("l3")) as answer:
                told = await answer.json(content_type=None)
                assert (answer.status, told["title"]) == (status, title)


# --------------------------------------------------------------------------- walls


@pytest.mark.parametrize(
    "path", ["/", "/login", "/page.js", "/api/v1/snapshot", "/metrics", "/none"]
)
async def test_every_answer_carries_the_headers(path: str) -> None:
    """Security headers on, version headers off, on pages, data and errors alike."""
    async with serving() as (_, _, http), http.get(path) as answer:
        csp = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in csp
        assert "frame-ancestors 'none'" in csp
        assert "require-trusted-types-for 'script'" in csp
        assert "unsafe" not in csp
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "gateway"


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        ("127.0.0.1:{port}", True),
        ("localhost:{port}", True),
        ("[::1]:{port}", True),
        ("evil.example:{port}", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("", False),
    ],
)
async def test_only_loopback_names_are_answered(host: str, passes: bool) -> None:
    """A page elsewhere that rebinds its name to 127.0.0.1 gets nothing (DNS rebinding)."""
    async with serving() as (server, _, _):
        name = host.format(port=server.port).encode()
        request = b"GET /healthz HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % name
        status = int((await raw(server.port, request)).split(b" ")[1])
    assert (status == 200) == passes


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"PUT", b"DELETE", b"BREW"])
async def test_other_methods_are_refused(method: bytes) -> None:
    """TRACE echoes nothing, CONNECT opens nothing, nothing is written by other verbs."""
    async with serving() as (server, _, _):
        target = b"127.0.0.1:1" if method == b"CONNECT" else b"/"
        request = (
            b"%b %b HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Canary: abcd\r\nConnection: close\r\n\r\n"
        )
        said = await raw(server.port, request % (method, target))
    assert int(said.split(b" ")[1]) in (400, 404, 405)
    assert b"abcd" not in said


async def test_what_is_not_http_is_answered_without_a_word_about_us() -> None:
    """A malformed request is neither echoed nor told which library reads it."""
    async with serving() as (server, _, _):
        said = await raw(server.port, b"\x16\x03\x01 canary-4711\r\n\r\n")
    assert said.startswith(b"HTTP/1.")
    assert b"canary" not in said
    assert b"aiohttp" not in said
    assert b"Python" not in said


@pytest.mark.parametrize("path", [b"/healthz", b"/nowhere"])
@pytest.mark.parametrize("expect", [b"tea", b"\xe8", b"100-continue, tea"])
async def test_another_expectation_is_refused_and_not_quoted(path: bytes, expect: bytes) -> None:
    """aiohttp's own answer stands outside the walls, quotes it, and breaks on bytes."""
    async with serving() as (server, _, _):
        lines = (b"POST %b HTTP/1.1", b"Host: localhost", b"Expect: %b", b"Connection: close")
        request = b"\r\n".join(lines) % (path, expect) + b"\r\n\r\n"
        said = await raw(server.port, request)
    assert said.startswith(b"HTTP/1.1 417 ")
    assert b"Content-Security-Policy" in said
    assert b"tea" not in said


async def test_a_path_outside_the_page_is_not_served() -> None:
    """Three files, no directory: nothing else can be read."""
    async with serving() as (_, _, http):
        for path in ("/page.js/../server.py", "/%2e%2e/server.py", "/page", "/server.py"):
            async with http.get(path) as answer:
                assert answer.status == 404


# --------------------------------------------------------------------------- slow clients


async def held_open_s(port: int, first: bytes, drip: bytes = b"", every_s: float = 0.02) -> float:
    """How long the server keeps a connection that says `first`, then drips."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = time.monotonic()
    writer.write(first)
    end = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(10):
            while not end.done():
                if drip:
                    writer.write(drip)
                await asyncio.wait({end}, timeout=every_s)
    except ConnectionError:
        pass
    finally:
        end.cancel()
        await asyncio.gather(end, return_exceptions=True)
        writer.close()
    return time.monotonic() - began_s


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b""),
        (b"GET / HTTP/1.1\r\nX-A: ", b"a"),
        (b"GET /", b"a"),
    ],
    ids=["silent", "half a header", "header drips", "request line drips"],
)
async def test_a_header_has_a_deadline(first: bytes, drip: bytes) -> None:
    """Whoever does not finish his header in time is cut, however busy he looks."""
    async with serving(header_deadline_s=0.3) as (server, _, _):
        took_s = await held_open_s(server.port, first, drip)
    assert 0.25 <= took_s < 2.0


async def test_a_dripping_second_request_is_cut_too() -> None:
    """On a kept-alive connection the next header has the same deadline."""
    async with serving(header_deadline_s=0.3) as (server, _, _):
        first = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HTTP/1.1\r\nX: "
        took_s = await held_open_s(server.port, first, b"a")
    assert took_s < 2.0


async def test_a_body_has_a_deadline() -> None:
    """A body that drips gets 408 in time, and the act is not done."""
    async with serving(body_deadline_s=0.3) as (server, board, _):
        board.alarms = {"A1": alarm()}
        head = as_seen(
            server,
            b"POST /api/v1/alarms/A1/ack HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: k\r\n"
            b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n",
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head)
        said = b""
        async with asyncio.timeout(5):
            while b"408" not in said:
                writer.write(b" ")
                try:
                    async with asyncio.timeout(0.02):
                        said += await reader.read(4096)
                except TimeoutError:
                    continue
        writer.close()
        assert board.acts == []


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
STREAM = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: "
HALF_BODY = (
    b"POST /api/v1/alarms/A1/ack HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: k\r\n"
    b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
)


async def lines(
    server: WebServer, number: int, said: bytes, address: str = "127.0.0.1"
) -> list[Line]:
    """Connections from this address, of somebody who is logged in, that say this; whoever is
    answered has heard the beginning."""
    found = []
    for _ in range(number):
        line = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))
        line[1].write(as_seen(server, said))
        if said == STREAM:
            await line[0].readuntil(b"\r\n\r\n")
        found.append(line)
    return found


async def ended(line: Line, within_s: float = 5.0) -> bool:
    """Whether it is cut, within that time."""
    try:
        async with asyncio.timeout(within_s):
            return await line[0].read() == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def test_connections_of_one_address_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the cap gets 503 at once, and nobody who is being served gives way; when one
    leaves there is room again."""
    monkeypatch.setattr(http_doors, "PATIENCE_S", 0.0)
    async with serving(max_per_address=3, header_deadline_s=5) as (server, _, http):
        open_ones = await lines(server, 3, STREAM)
        said = await raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert f"Content-Length: {len(body)}".encode() in head
        assert json.loads(body)["title"] == "too many connections"
        open_ones[0][1].close()
        async with asyncio.timeout(5):
            while True:
                try:
                    async with http.get("/healthz") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
        for _, writer in open_ones:
            writer.close()


async def test_connections_are_capped_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The total has a cap of its own."""
    monkeypatch.setattr(http_doors, "PATIENCE_S", 0.0)
    async with serving(max_connections=2, header_deadline_s=5) as (server, _, _):
        open_ones = await lines(server, 2, STREAM)
        said = await raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 503")
        for _, writer in open_ones:
            writer.close()


async def test_who_has_just_come_need_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header is on its way for a while: two hundred consoles that come at once do not throw each
    other out."""
    monkeypatch.setattr(http_doors, "PATIENCE_S", 60.0)
    async with serving(max_per_address=2, header_deadline_s=5) as (server, _, _):
        crowd = await lines(server, 2, b"")
        said = await raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 503")
        for _, writer in crowd:
            writer.close()


@pytest.mark.parametrize("half", [b"", HALF, HALF_BODY], ids=["silent", "half", "half a body"])
async def test_half_requests_give_way_to_who_comes(
    half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W03: with every place of the address held by half requests, who asks is served, in place of
    the one that has been silent longest; who is being served keeps his place."""
    monkeypatch.setattr(http_doors, "PATIENCE_S", 0.0)
    async with serving(max_per_address=4, header_deadline_s=30, body_deadline_s=30) as (
        server,
        _,
        http,
    ):
        (stream,) = await lines(server, 1, STREAM)
        crowd = await lines(server, 3, half)
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        assert await ended(crowd[0])
        assert not await ended(crowd[1], 0.05)
        assert await stream[0].readuntil(b"\n\n")
        for _, writer in (stream, *crowd):
            writer.close()


async def test_the_largest_crowd_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """When all places are taken it is not the oldest in the room, but one of the many, and that at
    once: a crowd that comes back as fast as it is cut keeps nobody out."""
    monkeypatch.setattr(http_doors, "PATIENCE_S", 60.0)
    async with serving(max_connections=4, header_deadline_s=30) as (server, _, http):
        (alone,) = await lines(server, 1, HALF, "127.0.0.2")
        crowd = await lines(server, 3, HALF, "127.0.0.3")
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        assert await ended(crowd[0])
        assert not await ended(alone, 0.05)
        more = await lines(server, 1, HALF, "127.0.0.3")
        assert b"503" in await more[0][0].read(100), "no more than it has already"
        for _, writer in (alone, *crowd, *more):
            writer.close()


async def test_operators_are_served_while_a_crowd_says_nothing() -> None:
    """With the address nearly full of half requests, a snapshot still comes in time."""
    async with serving(header_deadline_s=5) as (server, _, http):
        crowd = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(45)]
        for _, writer in crowd:
            writer.write(b"GET / HTTP/1.1\r\nHost: ")
        began_s = time.monotonic()
        async with http.get("/api/v1/snapshot") as answer:
            assert answer.status == 200
        assert time.monotonic() - began_s < 0.5
        for _, writer in crowd:
            writer.close()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing() -> None:
    """start raises OSError, and the server can be thrown away."""
    async with serving() as (server, board, _):
        second = web_server(board, http=HttpSection(port=server.port))
        with pytest.raises(OSError):
            await second.start()


@pytest.mark.parametrize(
    ("raw", "type_"),
    [
        (b'{"minutes": 5, "why": "test", "minutes": 15}', requests.ShelveAct),
        (b'{"act": "refuse", "why": "no", "act": "release"}', requests.ReleaseAct),
        (b'{"text": "A", "text": "B"}', requests.MessageAct),
    ],
)
def test_what_stands_twice_says_nothing(raw: bytes, type_: type) -> None:
    """Readers differ on which one counts, and what was done is put on record."""
    with pytest.raises(requests.Unclear):
        requests.body(raw, type_)
