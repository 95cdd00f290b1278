"""The PNC server by plain HTTP, without the gateway's adapter: what it takes, says and keeps."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from adapters.pnc.mock import FAULTS, HANG_S, LATE_S, SLOW_S, Latency
from gateway.messages import Circulation, PersonRecord, PncAnswer, VehicleRecord, WarningSignal
from simulators import pnc_log, pnc_wire
from simulators.http_server import BODY_MOST
from simulators.pnc_server import HUGE_BYTES, PncServer
from tests.fakes import FakeClock
from tests.system.daemon import until

RECORDS = Path(__file__).resolve().parents[2] / "config" / "pnc"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server(clock: FakeClock) -> AsyncIterator[PncServer]:
    server = PncServer(RECORDS, clock=clock)
    await server.start()
    yield server
    await server.stop()


def asked(mark: str, check: str = "C1", **changes: Any) -> dict[str, Any]:
    """A question from docs/pnc-http.md, by hand."""
    body = {
        "protocol": 1,
        "check": check,
        "attempt": 1,
        "key_text": f"VRM:{mark}",
        "operation": "vehicle",
        "key": {"vrm": mark},
        "reason": "1",
        "justification": "",
        "originator": "PC1001 TESTER/1",
        "location": "",
        "on_behalf_of": "",
        "asked_at": "2026-11-22T05:24:07.120Z",
        "deadline_s": 4.0,
    }
    return body | changes


async def post(
    server: PncServer, body: Any, *, token: str = "", within_s: float = 10.0
) -> tuple[int, bytes]:
    """(status, body); raises what the connection raises."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    timeout = aiohttp.ClientTimeout(total=within_s)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{server.url}/v1/query", data=data, headers=headers) as reply,
    ):
        return reply.status, await reply.read()


async def told(server: PncServer, mark: str) -> dict[str, Any]:
    status, body = await post(server, asked(mark))
    assert status == 200
    return dict(json.loads(body))


# --------------------------------------------------------------------------- answers


async def test_a_question_is_answered_as_the_document_says(server: PncServer) -> None:
    reply = await told(server, "TE99STV")
    assert {name: reply[name] for name in ("protocol", "check", "attempt", "key_text")} == {
        "protocol": 1,
        "check": "C1",
        "attempt": 1,
        "key_text": "VRM:TE99STV",
    }
    assert reply["result"] == "trace"
    (record,) = reply["records"]
    assert (record["record"], record["vrm"]) == ("vehicle", "TE99STV")
    assert record["reports"][0]["kind"] == "LOS"
    assert record["reports"][0]["occupant_warnings"] == ["VI"]
    assert reply["as_of"] == "2026-11-22T05:24:07.120Z"
    assert reply["not_checked"] == []
    assert {block["source"] for block in reply["blocks"]} == {"PNC", "DVLA", "INSURANCE"}


async def test_nothing_found_is_said_in_so_many_words(server: PncServer) -> None:
    reply = await told(server, "TE99AAA")
    assert (reply["result"], reply["records"]) == ("no_trace", [])


async def test_too_many_is_said_and_none_sent(server: PncServer) -> None:
    body = asked("X", operation="person", key={"surname": "TESTER", "sex": "F"}, key_text="N")
    _, said = await post(server, body)
    reply = json.loads(said)
    assert (reply["result"], reply["records"]) == ("too_many", [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 60_000,
        {},
        asked("TE99AAA", protocol=2),
        asked("TE99AAA", check=""),
        asked("TE99AAA") | {"check": 7},
        asked("TE99AAA", attempt=0),
        asked("TE99AAA", attempt="1"),
        asked("TE99AAA", attempt=True),
        asked("TE99AAA", operation="spaceship"),
        asked("TE99AAA", key={"vrm": 5}),
        asked("TE99AAA", key={"vrm": "TE99AAA", "colour": "RED"}),
        asked("TE99AAA", key=[]),
        asked("TE99AAA", key={}),
        asked("TE99AAA", key={"age_years": 5}),
        asked("TE99AAA", operation="person", key={"surname": "TESTER", "age_years": "5"}),
        asked("TE99AAA", operation="person", key={"surname": "TESTER"}),
        asked("TE99AAA", deadline_s="soon"),
        asked("TE99AAA", originator=""),
        asked("TE99AAA", reason=None),
        {name: value for name, value in asked("TE99AAA").items() if name != "asked_at"},
    ],
    ids=lambda body: str(body)[:30],
)
async def test_what_is_not_as_documented_is_400(server: PncServer, body: Any) -> None:
    """A gateway that strays from the document is told, and never gets an answer by luck."""
    status, said = await post(server, body)
    assert status == 400
    assert json.loads(said)["code"] == "I0001"


async def test_a_body_beyond_the_bound_is_refused(server: PncServer) -> None:
    status, _ = await post(server, asked("TE99AAA", location="X" * BODY_MOST))
    assert status == 413


@pytest.mark.parametrize(("token", "status"), [("", 401), ("wrong", 401), ("right", 200)])
async def test_the_token_is_asked_for(token: str, status: int) -> None:
    server = PncServer(RECORDS, token="right")
    await server.start()
    try:
        assert (await post(server, asked("TE99AAA"), token=token))[0] == status
    finally:
        await server.stop()


# --------------------------------------------------------------------------- triggers

STATUS = {"BAD": 400, "THR": 429, "ERR": 500, "MNT": 503, "LCK": 423, "AUT": 401, "FRB": 403}
ANSWERED = {"NFD": "no_trace", "PAR": "trace", "UNK": "trace", "DUP": "trace"}
CUT = {"RST", "DRP"}
SPOILT = {"GBG", "TRN", "ECH", "ORD", "VST"}
SLOW = {"TMT", "SLW", "LAT"}


def test_every_trigger_is_tested_here() -> None:
    assert set(FAULTS) == set(STATUS) | set(ANSWERED) | CUT | SPOILT | SLOW


@pytest.mark.parametrize(("fault", "status"), STATUS.items())
async def test_a_trigger_with_a_status(server: PncServer, fault: str, status: int) -> None:
    said = await post(server, asked(f"ER99{fault}"))
    assert said[0] == status
    assert b"ER99" not in said[1], "an error does not quote the subject"
    assert server.replies[-1].status == status
    assert (server.replies[-1].kind, server.replies[-1].fault) == ("error", fault)


@pytest.mark.parametrize(("fault", "result"), ANSWERED.items())
async def test_a_trigger_that_answers(server: PncServer, fault: str, result: str) -> None:
    assert (await told(server, f"ER99{fault}"))["result"] == result


async def test_an_unknown_code_and_a_silent_source(server: PncServer) -> None:
    odd = await told(server, "ER99UNK")
    assert odd["records"][0]["reports"][0]["occupant_warnings"] == ["QZ"]
    assert server.replies[-1].warnings == ("QZ",)
    partial = await told(server, "ER99PAR")
    assert partial["not_checked"] == ["INSURANCE"]
    assert "insured" not in partial["records"][0], "unknown is left out"


@pytest.mark.parametrize("fault", sorted(CUT))
async def test_a_trigger_that_cuts_the_connection(server: PncServer, fault: str) -> None:
    """RST before a word, DRP in the middle of the body whose whole length was announced."""
    wanted: type[Exception] = (
        aiohttp.ClientPayloadError if fault == "DRP" else aiohttp.ClientConnectionError
    )
    with pytest.raises(wanted):
        await post(server, asked(f"ER99{fault}"))


async def test_a_reset_is_a_reset_on_the_wire(server: PncServer) -> None:
    """RST, not FIN: the reader gets ECONNRESET."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(asked("ER99RST")).encode()
    writer.write(b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_bytes_that_are_no_reply(server: PncServer) -> None:
    """GBG is no UTF-8 and no JSON; TRN is JSON cut short, with a length that says it is whole."""
    _, garbage = await post(server, asked("ER99GBG"))
    with pytest.raises(ValueError, match="decode"):
        garbage.decode()
    status, cut = await post(server, asked("ER99TRN"))
    assert status == 200
    assert cut.startswith(b'{"protocol": 1')
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(cut)


async def test_a_reply_to_another_question(server: PncServer) -> None:
    """ECH echoes another key; one ORD alone gets a stranger's; two get each other's."""
    assert (await told(server, "ER99ECH"))["key_text"] != "VRM:ER99ECH"
    assert (await told(server, "ER99ORD"))["key_text"] != "VRM:ER99ORD"
    both = await asyncio.gather(
        post(server, asked("ER99ORD", "FIRST")), post(server, asked("ER99ORD", "SECOND"))
    )
    assert [json.loads(body)["check"] for _, body in both] == ["SECOND", "FIRST"]


async def test_a_reply_of_fifty_megabytes(server: PncServer) -> None:
    """VST: behind the blanks stands a right reply, so that only a bound helps."""
    _, body = await post(server, asked("ER99VST"))
    assert len(body) > HUGE_BYTES
    assert json.loads(body)["key_text"] == "VRM:ER99VST"


async def test_a_stutter(server: PncServer) -> None:
    """DUP: the same whole reply twice on one connection."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(asked("ER99DUP")).encode()
    writer.write(b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body)
    heard = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert heard.count(b"HTTP/1.1 200 OK") == 2
    assert heard[: len(heard) // 2] == heard[len(heard) // 2 :]


@pytest.mark.parametrize(
    ("fault", "seconds"), [("TMT", HANG_S), ("SLW", SLOW_S), ("LAT", 4.0 + LATE_S)]
)
async def test_a_trigger_that_takes_its_time(
    server: PncServer, clock: FakeClock, fault: str, seconds: float
) -> None:
    """By the injected clock: nothing before, then the answer, or the cut connection of a hang."""
    asking = asyncio.ensure_future(post(server, asked(f"ER99{fault}")))
    await until(lambda: clock._sleepers)
    await clock.advance(seconds - 0.1)
    assert not asking.done()
    assert len(server.queries) == 1
    assert not server.replies
    await clock.advance(0.2)
    if fault == "TMT":
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking
        assert (server.replies[0].kind, server.replies[0].status) == ("none", 0)
    else:
        assert (await asking)[0] == 200
    assert server.replies[0].at_s - server.queries[0].at_s == pytest.approx(seconds)


# --------------------------------------------------------------------------- faults for everybody


async def test_down_is_503_until_it_is_over(server: PncServer) -> None:
    server.fault = "down"
    assert (await post(server, asked("TE99AAB")))[0] == 503
    server.fault = None
    assert (await post(server, asked("TE99AAB")))[0] == 200
    assert [(reply.kind, reply.fault) for reply in server.replies] == [
        ("error", "down"),
        ("trace", ""),
    ]


async def test_slow_and_hanging_for_everybody(server: PncServer, clock: FakeClock) -> None:
    for fault, seconds in (("slow", SLOW_S), ("hang", HANG_S)):
        server.fault = fault  # type: ignore[assignment]
        asking = asyncio.ensure_future(post(server, asked("TE99AAB")))
        await until(lambda: any(not each[2].done() for each in clock._sleepers))
        await clock.advance(seconds + 0.1)
        if fault == "slow":
            assert (await asking)[0] == 200
        else:
            with pytest.raises(aiohttp.ClientConnectionError):
                await asking
        assert server.replies[-1].fault == fault


async def test_the_host_takes_its_time_when_told_to(clock: FakeClock) -> None:
    """The same seed, the same delays; without a latency there is none."""
    server = PncServer(RECORDS, clock=clock, latency=Latency(5))
    delay_s = Latency(5).draw_s()
    await server.start()
    try:
        asking = asyncio.ensure_future(post(server, asked("TE99AAB")))
        await until(lambda: clock._sleepers)
        await clock.advance(delay_s * 0.9)
        assert not asking.done()
        await clock.advance(delay_s * 0.2)
        assert (await asking)[0] == 200
    finally:
        await server.stop()


# --------------------------------------------------------------------------- its own record


async def test_every_query_and_reply_is_kept(server: PncServer) -> None:
    """As it was read from the wire, in order; warnings with the reply that carried them."""
    await post(server, asked("TE99STV", "C1"))
    await post(server, asked("TE99AAA", "C2", attempt=2))
    assert [(q.check, q.attempt, q.key_text, q.originator) for q in server.queries] == [
        ("C1", 1, "VRM:TE99STV", "PC1001 TESTER/1"),
        ("C2", 2, "VRM:TE99AAA", "PC1001 TESTER/1"),
    ]
    assert [(r.check, r.attempt, r.kind, r.warnings) for r in server.replies] == [
        ("C1", 1, "trace", ("VI",)),
        ("C2", 2, "no_trace", ()),
    ]
    assert server.queries[0].at_ms == 1_795_325_047_120


async def test_a_keepers_warnings_are_kept_too() -> None:
    answer = PncAnswer(
        check="C",
        attempt=1,
        key_text="K",
        records=(
            VehicleRecord(
                vrm="TE99ABC",
                keeper_record=PersonRecord(
                    pncid="",
                    surname="TESTER",
                    forenames="",
                    dob="",
                    sex="",
                    warnings=(WarningSignal(code="FI"),),
                    circulations=(Circulation(kind="MISSING"),),
                ),
            ),
        ),
        blocks=(),
        as_of_ms=0,
    )
    assert pnc_wire.warnings_of(answer) == ["FI"]


async def test_the_record_goes_to_a_file(tmp_path: Path, clock: FakeClock) -> None:
    """JSON lines, appended, readable by its owner alone; written before the reply leaves."""
    file = tmp_path / "q.jsonl"
    for _ in range(2):
        server = PncServer(RECORDS, clock=clock, log=file)
        await server.start()
        await post(server, asked("TE99STV"))
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        await server.stop()
    assert [line["what"] for line in lines] == ["query", "reply"] * 2
    assert lines[0] == {
        "what": "query",
        "at_s": 1000.0,
        "at_ms": 1_795_325_047_120,
        "check": "C1",
        "attempt": 1,
        "key_text": "VRM:TE99STV",
        "originator": "PC1001 TESTER/1",
    }
    assert lines[1]["kind"] == "trace"
    assert lines[1]["warnings"] == ["VI"]
    assert file.stat().st_mode & 0o777 == 0o600


def note(log: pnc_log.PncLog, check: str) -> None:
    log.query(check=check, attempt=1, key_text="K", originator="O")
    log.reply(check=check, attempt=1, key_text="K", kind="trace")


def test_the_record_is_bounded_in_memory(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pnc_log, "ENTRIES_MOST", 3)
    log = pnc_log.PncLog(clock)
    for number in range(5):
        note(log, f"C{number}")
    assert [query.check for query in log.queries] == ["C2", "C3", "C4"]
    assert [reply.check for reply in log.replies] == ["C2", "C3", "C4"]
    assert log.unwritten == 0


def test_the_record_is_bounded_on_disk(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full file takes no more, holds whole lines only, and says how many it did not take."""
    monkeypatch.setattr(pnc_log, "FILE_MOST", 400)
    log = pnc_log.PncLog(clock, tmp_path / "q.jsonl")
    log.open()
    for number in range(5):
        note(log, f"C{number}")
    log.close()
    text = (tmp_path / "q.jsonl").read_text("utf-8")
    assert len(text) <= 400
    assert len([json.loads(line) for line in text.splitlines()]) + log.unwritten == 10
    assert log.unwritten > 0


def test_a_full_disk_is_counted(clock: FakeClock) -> None:
    """The server goes on answering; what is missing from its record is known."""
    log = pnc_log.PncLog(clock, Path("/dev/full"))
    log.open()
    note(log, "C1")
    log.close()
    assert log.unwritten == 2
    assert len(log.queries) == 1


# --------------------------------------------------------------------------- start and stop


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing(server: PncServer) -> None:
    port = int(server.url.rpartition(":")[2])
    second = PncServer(RECORDS, "127.0.0.1", port)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await second.stop()
    assert (await post(server, asked("TE99AAB")))[0] == 200


async def test_it_stops_while_it_hangs_and_can_start_again(server: PncServer) -> None:
    """On the same port; nobody waits for the hang's end, and a later hang hangs again."""
    url = server.url
    asking = asyncio.ensure_future(post(server, asked("ER99TMT")))
    await until(lambda: server.queries)
    async with asyncio.timeout(5):
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking
    await server.stop()
    await server.start()
    assert server.url == url
    assert (await post(server, asked("TE99AAB")))[0] == 200
    with pytest.raises(TimeoutError):
        await post(server, asked("ER99TMT"), within_s=0.3)


async def test_stopping_leaves_no_task_and_no_socket(clock: FakeClock) -> None:
    tasks_before = asyncio.all_tasks()
    server = PncServer(RECORDS, clock=clock)
    await server.start()
    await post(server, asked("TE99AAB"))
    await server.stop()
    port = int(server.url.rpartition(":")[2])
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0
    await until(lambda: asyncio.all_tasks() <= tasks_before)
