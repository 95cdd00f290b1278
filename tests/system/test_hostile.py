"""Hostile input at the real daemon: what is counted, what an officer reads, and what others notice.

Each test ends in the join of the four records: nothing is lost for anybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import aiomqtt
import pytest

from tests.fuzz import grammar
from tests.services.mosquitto import Mosquitto
from tests.system import force
from tests.system.daemon import Daemon, until
from tests.system.ledgers import audit
from tests.system.officers import LineOfficer, MqttOfficer, now_text
from tests.system.world import World

WITHIN_S = 10.0
ASKER, FORGER, VICTIM = "5001002", "5001003", "5001006"
STRANGER = "5999999"
LINE = "5001001"
GOOD_NMEA = b"$GPRMC,101559.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A*76\r\n"


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open()
        yield world
    finally:
        await world.close()


async def counted(daemon: Daemon, name: str = "frames_rejected_total") -> dict[str, float]:
    """The counter's children by their labels, without those at 0."""
    _, body = await daemon.get("/metrics")
    found = re.findall(rf"^gateway_{name}\{{(.*?)\}} (\S+)$", body.decode(), re.MULTILINE)
    return {labels: float(n) for labels, n in found if float(n)}


async def _until_counted(daemon: Daemon, name: str, wanted: dict[str, float]) -> dict[str, float]:
    """The counter when it is as wanted, or when time is up: for a comparison that tells."""
    until_s = time.monotonic() + WITHIN_S
    while (found := await counted(daemon, name)) != wanted and time.monotonic() < until_s:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.05)
    return found


def rejected(link: str, reason: str) -> str:
    return f'link="{link}",reason="{reason}"'


def said(daemon: Daemon, event: str, **fields: object) -> list[dict[str, Any]]:
    return [
        line
        for line in daemon.journal()
        if line["event"] == event and all(line.get(name) == each for name, each in fields.items())
    ]


async def answered(radio: MqttOfficer, mark: str = "TE99STV") -> dict[str, Any]:
    """A question of somebody else, asked in the midst of it all."""
    ref = await radio.ask(kind="vehicle", vrm=mark, reason="1")
    found: dict[str, Any] = await radio.until(lambda: radio.result(ref), WITHIN_S)
    assert found["outcome"] == "answered"
    return found


# --------------------------------------------------------------------------- over a broker

DEEP = b"[" * 8_000
CHECK = {"ref": "h1", "t": "", "kind": "vehicle", "vrm": "TE99STV", "reason": "1"}


def check(**changes: object) -> bytes:
    return json.dumps({**CHECK, "t": now_text(), **changes}).encode()


def payloads() -> list[tuple[str, str, bytes, str]]:
    """Terminal, topic below `up/`, payload, and the reason it is counted under."""
    return [
        (FORGER, "check", check(issi=VICTIM), "identity"),
        (FORGER, "status", b'{"code": 0, "issi": "5001006"}', "identity"),
        (FORGER, "fix", b'{"lat": 52.5, "lon": -0.2, "issi": "5001006"}', "identity"),
        (FORGER, "check", check(fix={"lat": 52.5, "lon": -0.2, "issi": VICTIM}), "identity"),
        (STRANGER, "check", check(), "unknown_terminal"),
        (STRANGER, "status", b'{"code": 0}', "unknown_terminal"),
        ("x1", "check", check(), "identity"),
        ("500100111", "check", check(), "identity"),
        ("$SYS", "check", check(), "identity"),
        (" 5001003", "check", check(), "identity"),
        ("5001003\u202e", "check", check(), "identity"),
        ("５001003", "check", check(), "identity"),
        ("5" * 300, "check", check(), "identity"),
        (FORGER, "check", b"A" * 20_000, "length"),
        (FORGER, "check", b"9" * 900_000, "length"),
        (FORGER, "check", DEEP, "decode"),
        (FORGER, "check", b'{"a":' * 2_700 + b"1" + b"}" * 2_700, "decode"),
        (FORGER, "check", b"[" * 100_000, "length"),
        (FORGER, "check", b'{"ref": 1e999}', "decode"),
        (FORGER, "check", b'{"ref": NaN}', "decode"),
        (FORGER, "check", b"\x00" * 100, "decode"),
        (FORGER, "check", b"\xff\xfe{\x00}\x00", "decode"),
        (FORGER, "status", b'{"code": 1e999}', "decode"),
        (FORGER, "status", b'{"code": ' + b"9" * 16_000 + b"}", "decode"),
        (FORGER, "status", b'{"code": -0.5}', "decode"),
        (FORGER, "ack", b'{"check": "C7F3", "part": 1e9, "state": "read"}', "decode"),
    ]


async def test_what_a_broker_may_bring(world: World, mosquitto: Mosquitto) -> None:
    """M08 to M12: every hostile payload under its own reason, nothing asked, nobody impersonated;
    10 MB never come; the link stays, and the next question is answered."""
    daemon, asker = world.daemon, world.radios[ASKER]
    assert daemon is not None
    before = len(world.pnc.queries)
    tried = payloads()
    async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="attacker") as attacker:
        for issi, channel, payload, _ in tried:
            await attacker.publish(f"radio/{issi}/up/{channel}", payload, qos=1)
        for size in (10_000_000, 2_000_000):
            await attacker.publish(f"radio/{FORGER}/up/check", b'{"a":"' + b"9" * size, qos=1)
        await answered(asker)
        expected: dict[str, float] = {}
        for _, _, _, reason in tried:
            key = rejected("mqtt", reason)
            expected[key] = expected.get(key, 0.0) + 1.0
        found = await _until_counted(daemon, "frames_rejected_total", expected)
    assert found == expected
    assert len(world.pnc.queries) == before + 1, "something of it was asked"
    assert not said(daemon, "link.down"), "it cost the link"
    assert not [event for event in world.console.of("alarm") if event["rule"] == "EMG"]  # type: ignore[union-attr]
    assert not world.radios[VICTIM].heard, "the victim heard of it"
    assert len(said(daemon, "security")) < 30
    assert world.verdict() == []


async def test_retained_repeated_and_doubled_questions(world: World, mosquitto: Mosquitto) -> None:
    """M04, M08, M12: a repeat gets the same answer and asks nothing; a member that stands twice is
    refused in words; neither costs another officer anything."""
    daemon, radio = world.daemon, world.radios[FORGER]
    assert daemon is not None
    body = check(ref="r1")
    for _ in range(10):
        await radio.say("check", body)
    await radio.until(lambda: radio.result("r1"), WITHIN_S)
    await radio.say(
        "check", body.replace(b'"reason"', b'"vrm": "TE99ABC", "reason"').replace(b"r1", b"r2")
    )
    twice = await radio.until(lambda: radio.receipt("r2"), WITHIN_S)
    assert (twice["accepted"], twice["why"]) == (False, "MEMBER GIVEN TWICE")
    await answered(world.radios[ASKER])
    asked = [query["key_text"] for query in world.queries()]
    assert len(asked) == 2, "one for all repeats, one of the other officer"
    assert world.verdict() == []


async def test_a_fix_from_tomorrow_moves_nothing(world: World) -> None:
    """S11: counted as `future`; the position of before stands; impossible figures likewise."""
    daemon, radio = world.daemon, world.radios[FORGER]
    assert daemon is not None
    await radio.say("fix", {"lat": 52.5725, "lon": -0.2431, "t": now_text()})
    await until(lambda: _positions(world))
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    hostile: list[tuple[bytes, str]] = [
        (
            json.dumps({"lat": 1.0, "lon": 1.0, "t": tomorrow.replace("+00:00", "Z")}).encode(),
            "future",
        ),
        (b'{"lat": 91, "lon": 1.0}', "range"),
        (b'{"lat": 1e999, "lon": 1.0}', "range"),
        (b'{"lat": 0, "lon": 0}', "null"),
        (b'{"lat": null, "lon": 1.0}', "void"),
        (b'{"lat": 1.0, "lon": 1.0, "t": "1980-01-06T00:00:00Z"}', "date"),
        (b'{"lat": 1.0, "lon": 1.0, "t": "9999-12-31T23:59:59.9999Z"}', "date"),
    ]
    for payload, _ in hostile:
        await radio.say("fix", payload)
    await answered(world.radios[ASKER])
    wanted: dict[str, float] = {}
    for _, reason in hostile:
        wanted[f'reason="{reason}"'] = wanted.get(f'reason="{reason}"', 0.0) + 1.0
    assert await _until_counted(daemon, "fixes_rejected_total", wanted) == wanted
    assert _positions(world) == {(52572500, -243100)}
    await asyncio.sleep(0.3)  # one that was taken before is shared for 0.2 s
    snapshot = await daemon.snapshot()
    at = {row[6] for row in snapshot["units"]["rows"] if row[6] is not None}
    assert at == {52572500}
    assert world.verdict() == []


def _positions(world: World) -> set[tuple[int, int]]:
    assert world.console is not None
    return {(row[1], row[2]) for event in world.console.of("unit.batch") for row in event["u"]}


# --------------------------------------------------------------------------- what the officer reads

BAD_VRM = "BAD VRM. 2-8 OF A-Z 0-9"
BAD_CHARACTER = "BAD CHARACTER. USE A-Z 0-9"
TYPED: list[tuple[str, str]] = [
    # As it is typed, and the mark that is asked; or else what the officer reads.
    ("v te99stv r1", "=TE99STV"),
    ("V TE99 STV R1", "=TE99STV"),
    ("V  te99-stv   R1", "=TE99STV"),
    ("V TE.99.STV R1", "=TE99STV"),
    ("V TE99ST0 R1", "=TE99ST0"),
    ("V TE99STО R1", BAD_VRM),  # a Cyrillic O
    ("V ТЕ99STV R1", BAD_VRM),  # Cyrillic T and E
    ("V TE99\u0405TV R1", BAD_VRM),
    ("V ＴＥ99ＳＴＶ R1", BAD_VRM),
    ("V TE９９STV R1", BAD_VRM),
    ("V TE99ſTV R1", BAD_VRM),  # a long s, which becomes S in capitals
    ("V TE99STV\tR1", BAD_CHARACTER),
    ("V TE99STV\x00 R1", BAD_CHARACTER),
    ("V TE99STV\u202e R1", BAD_CHARACTER),
    ("V TE99\u200bSTV R1", BAD_CHARACTER),
    ("V TE99STV\u00ad R1", BAD_CHARACTER),
    ("N " + "A" * 300 + "/B R1", "TOO LONG. MAX 79"),
    ("N TЕSTER/NORA R1", "BAD NAME. SURNAME/FORENAME"),
    ("N TESTER\u202e/NORA R1", BAD_CHARACTER),
    ("N TEST3R/NORA R1", "BAD NAME. SURNAME/FORENAME"),
    ("N <B>TESTER/NORA R1", "BAD NAME. SURNAME/FORENAME"),
]


async def test_what_an_officer_reads_who_typed_a_look_alike(world: World) -> None:
    """Blanks and lower case are the same mark; a look-alike of another script is never asked as
    what it looks like, and the officer is told what to do. O and 0, I and 1 are different marks,
    and the answer names the one that was asked."""
    radio = world.radios[ASKER]
    marks = []
    for n, (text, expected) in enumerate(TYPED):
        await radio.say("text", f"{text} Q{n}".encode())
        shown = (await radio.until(lambda k=n: _results(radio)[k:], WITHIN_S))[0]
        if expected.startswith("="):
            marks.append(f"VRM:{expected[1:]}")
            assert shown["outcome"] == "answered", text
            assert expected[1:] in "".join(shown["pages"]), text
        else:
            assert (shown["outcome"], shown["why"]) == ("refused", expected), text
            assert expected.split(".")[0] in "".join(shown["pages"]), text
    assert [query["key_text"] for query in world.queries()] == marks
    assert world.verdict() == []


def _results(radio: MqttOfficer) -> list[dict[str, Any]]:
    """By the order in which they came: what cannot be read has no client reference either."""
    found = {h.body["check"]: h.body for h in radio.heard if h.channel == "result"}
    return list(found.values())


NAMES: list[tuple[dict[str, str], str]] = [
    ({"surname": "A" * 300, "forenames": "B"}, "BAD NAME"),
    ({"surname": "A" * 301, "forenames": "B"}, "BAD SURNAME"),
    ({"surname": "TESTER\x00", "forenames": "NORA"}, "BAD NAME"),
    ({"surname": "TESTER\u202e", "forenames": "NORA"}, "BAD NAME"),
    ({"surname": "TE\u2066STER", "forenames": "NORA"}, "BAD NAME"),
    ({"surname": "TЕSTER", "forenames": "NORA"}, "BAD NAME"),
    ({"surname": "ＴＥＳＴＥＲ", "forenames": "NORA"}, "BAD NAME"),
    ({"surname": "שלום", "forenames": "נורה"}, "PNC: NOT VALID"),
    ({"surname": "محمد", "forenames": "نورا"}, "PNC: NOT VALID"),
    ({"surname": "A" * 54, "forenames": "B" * 54}, ""),
]


async def test_names_of_every_length_and_direction(world: World) -> None:
    """300 characters, right to left, NUL: told, or asked as they are (the PNC has Latin names
    alone, and says so); what comes onto a screen has no byte that turns or ends a line."""
    radio = world.radios[VICTIM]
    for key, why in NAMES:
        ref = await radio.ask(kind="person", reason="1", **key)
        result = await radio.until(lambda r=ref: radio.result(r), WITHIN_S)
        found = (result["outcome"], result.get("why", ""))
        assert found == ("refused" if why else "answered", why), key
        screens = "".join(result["pages"])
        assert re.fullmatch(r"[ -~\n]*", screens), "a screen shows plain letters"
    asked = [why for _, why in NAMES if not why or why.startswith("PNC")]
    assert len({query["check"] for query in world.queries()}) == len(asked)
    assert world.verdict() == []


# --------------------------------------------------------------------------- on a line


async def test_a_line_at_the_wrong_baud(world: World) -> None:
    """What a UART makes of another speed: counted, nothing asked, nobody answered, nothing on
    record; then the line is found again, with an emergency."""
    daemon, officer = world.daemon, world.lines[LINE]
    assert daemon is not None
    r = Random(9)
    on_record = len(audit(daemon.state))
    sent = 0
    for _ in range(40):
        noise = grammar.wrong_baud(r, b"V TE99STV R1\r\n" + GOOD_NMEA)
        # Only as text could it be an officer; of each line some byte is none.
        noise = b"".join(b"\x01" + piece + b"\n" for piece in re.split(rb"[\r\n]", noise))
        sent += os.write(officer._master, noise)
        await asyncio.sleep(0.02)
    os.write(officer._master, b"\xff" * 300 + b"\x00" * 300 + b"\r\n")
    await answered(world.radios[ASKER])
    found = await counted(daemon)
    assert sum(found.values()) >= 40
    assert {key.split(",")[0] for key in found} == {'link="serial-e"'}
    checks = {leaf["check"] for leaf in audit(daemon.state)[on_record:] if leaf["check"]}
    assert len(checks) == 1, "noise was put on record as somebody's question"
    assert not [heard for heard in officer.heard if heard.channel != "notice"]
    officer.say("#S 0")
    assert world.console is not None
    console = world.console
    await until(lambda: console.of("unit.emergency"))
    assert world.verdict() == []


class Babbler:
    """Whoever writes to a line as fast as it takes it, from a thread of its own."""

    def __init__(self, officer: LineOfficer, unit: bytes) -> None:
        self._fd = os.dup(officer._master)
        self._data = unit * (4096 // len(unit))
        self._stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Babbler:
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.sent += os.write(self._fd, self._data)
            except BlockingIOError:
                time.sleep(0.002)

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(5)
        os.close(self._fd)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


OTHERS = [f"50010{n:02d}" for n in range(30, 50)]
PHASE_S = 2.5


async def _round_trips(officers: list[LineOfficer], seconds: float) -> list[float]:
    """Each says a word four times a second and waits for it: every one comes back."""
    took: list[float] = []
    until_s = time.monotonic() + seconds

    async def talk(officer: LineOfficer, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        n = 0
        while time.monotonic() < until_s:
            n += 1
            start_s, heard = time.monotonic(), len(officer.heard)
            officer.say(f"E {n}")
            await officer.until(lambda k=heard: len(officer.heard) > k, 30.0)
            took.append(time.monotonic() - start_s)
            await asyncio.sleep(0.25)

    await asyncio.gather(*(talk(each, n / 80) for n, each in enumerate(officers)))
    return sorted(took)


BAD = b"$GPGLL,5234.350,N,00014.586,W,101502,A*00\r\n"
UNITS = {"bad frames": BAD, "no end": b"A", "noise": b"\xff\x00\x80\x01$*", "lines": b"A\n"}


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
async def test_one_line_that_babbles_and_twenty_others(tmp_path: Path, unit: bytes) -> None:
    """S04, S05, R0: one port says as much as it can; twenty others keep their latency, nothing of
    theirs is lost, memory stays, a quarter of a core at most; told once, and once that it is over.
    """
    officers = [LineOfficer(issi, tmp_path / issi, ack=False) for issi in [LINE, *OTHERS]]
    force.write(tmp_path, [LINE, *OTHERS], callsign="Z", collar=1001)
    for officer in officers:
        officer.plug()
    lines = {f"line-{n}": (str(each.link), each.issi) for n, each in enumerate(officers)}
    daemon = Daemon(tmp_path, lines=lines, sections={"limits": {}})  # those of every day
    try:
        await daemon.start()
        await _round_trips(officers[1:], 1.0)
        spent, at_s = cpu_s(daemon.pid), time.monotonic()
        calm = await _round_trips(officers[1:], PHASE_S)
        calm_share = (cpu_s(daemon.pid) - spent) / (time.monotonic() - at_s)
        held = rss(daemon.pid)
        with Babbler(officers[0], unit) as babbler:
            await asyncio.sleep(0.5)
            spent, at_s = cpu_s(daemon.pid), time.monotonic()
            loud = await _round_trips(officers[1:], PHASE_S)
            loud_share = (cpu_s(daemon.pid) - spent) / (time.monotonic() - at_s)
        grew = rss(daemon.pid) - held
        middle = [each[len(each) // 2] * 1000 for each in (calm, loud)]
        most = [each[len(each) * 95 // 100] * 1000 for each in (calm, loud)]
        print(
            f"{unit[:8]!r}: {babbler.sent} bytes; p50 {middle[0]:.1f} -> {middle[1]:.1f} ms, p95 "
            f"{most[0]:.1f} -> {most[1]:.1f} ms; core {calm_share:.2f} -> {loud_share:.2f}; "
            f"memory +{grew / 1e6:.1f} MB"
        )
        assert middle[1] < 5 * middle[0] + 10
        assert loud_share - calm_share < 0.25
        assert grew < 16_000_000
        await until(lambda: said(daemon, "link.state", state="calm"), 20)
        assert len(said(daemon, "link.state", state="flooding")) == 1
        assert len(said(daemon, "link.state", state="calm")) == 1
        others = {f'link="line-{n}"' for n in range(1, 21)}
        assert not {key.split(",")[0] for key in await counted(daemon)} & others
        with contextlib.suppress(BlockingIOError):
            os.write(officers[0]._master, b"\r\n")
        heard = len(officers[0].heard)
        officers[0].say("E BACK")
        await officers[0].until(lambda: officers[0].heard[heard:], 30)
        assert b"BACK" in officers[0].heard[-1].raw
    finally:
        await daemon.close()
        for officer in officers:
            officer.unplug()
