"""What every codec of the registry promises, whatever bytes come: no I/O, no raise, no growth."""

from __future__ import annotations

import ast
import itertools
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import codecs
from gateway.messages import (
    FIX_REASONS,
    FRAME_REASONS,
    AckState,
    BadFrame,
    DeliveryAck,
    Ignored,
    LocationFix,
    Notice,
    Receipt,
    StatusReport,
)
from tests.corpus import cases, ms

NOW_MS = ms("2026-11-22T10:15:10Z")
SOURCE = Path(codecs.__file__).parent
STREAMS = ("line_terminal", "nmea0183")
CHANNELS = ("up/check", "up/fix", "up/status", "up/ack", "up/text", "up/nmea", "down/result")
SEEDS: list[bytes] = [
    *("\r\n".join(case["lines"]).encode() + b"\r\n" for case in cases("nmea0183")),
    *(case["data"].encode() for case in cases("line_terminal")),
    *(case["payload"].encode("utf-8", "surrogatepass") for case in cases("terminal_json")),
]


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Nothing at all like a frame, or a good one with bytes changed, cut, doubled or spliced."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=600))
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[place] = draw(st.integers(0, 255))
            case 1:
                del data[place : place + draw(st.integers(1, 20))]
            case 2:
                data[place:place] = draw(st.sampled_from(SEEDS))[:80]
            case _:
                data[place:place] = draw(st.binary(max_size=8))
    return bytes(data)


def made(name: str, **options: Any) -> Any:
    if name == "terminal_json":
        options.setdefault("identity", "5001001")
    return codecs.create(name, **options)


def fed(name: str, data: bytes, side: str = "gateway") -> list[Any]:
    codec = made(name, side=side)
    if name in STREAMS:
        return list(codec.feed(data, received_at_ms=NOW_MS))
    return [
        each
        for channel in CHANNELS
        for each in codec.feed(data, received_at_ms=NOW_MS, channel=channel)
    ]


@pytest.mark.parametrize("name", sorted(codecs.REGISTRY))
@pytest.mark.parametrize("side", ["gateway", "terminal"])
@settings(max_examples=250, deadline=None)
@given(data=hostile())
def test_no_bytes_make_it_raise(name: str, side: str, data: bytes) -> None:
    """Only declared outcomes, and a bad frame says nothing of what was in it."""
    for each in fed(name, data, side):
        if isinstance(each, BadFrame):
            assert each.reason in {*FRAME_REASONS, *FIX_REASONS}
        elif isinstance(each, Ignored):
            assert len(each.type) <= 40


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=150, deadline=None)
@given(data=hostile(), cuts=st.lists(st.integers(0, 600), max_size=6))
def test_however_it_is_split_it_is_the_same(name: str, data: bytes, cuts: list[int]) -> None:
    data += b"\r\n"
    whole = made(name).feed(data, received_at_ms=NOW_MS)
    codec, out = made(name), []
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in itertools.pairwise(places):
        out += codec.feed(data[start:end], received_at_ms=NOW_MS)
    assert out == list(whole)


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=100, deadline=None)
@given(data=hostile())
def test_it_finds_the_next_frame_after_any_garbage(name: str, data: bytes) -> None:
    codec = made(name)
    codec.feed(data + b"\r\n", received_at_ms=NOW_MS)
    body = b"GPRMC,101559.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A"
    check = 0
    for byte in body:
        check ^= byte
    found = codec.feed(b"$%s*%02X\r\n" % (body, check), received_at_ms=NOW_MS)
    assert len(found) == 1
    assert isinstance(found[0], LocationFix) or found == [BadFrame("duplicate")]


@pytest.mark.parametrize("name", STREAMS)
def test_an_endless_line_is_bounded(name: str) -> None:
    """S05: 10 MB without an end hold no more than one line, and cost one bad frame."""
    codec = made(name)
    bad = 0
    for _ in range(160):
        bad += len(codec.feed(b"A" * 65536, received_at_ms=NOW_MS))
    held = sum(
        sys.getsizeof(value)
        for part in (codec, getattr(codec, "_lines", None))
        for value in vars(part).values()
        if isinstance(value, bytes | bytearray)
    )
    assert held < 8192
    assert bad <= 2


@pytest.mark.parametrize("name", sorted(codecs.REGISTRY))
def test_work_grows_no_faster_than_the_input(name: str) -> None:
    """Counted, not timed: lines of Python run for n and for 4 n of the same hostile bytes."""

    def lines_run(data: bytes) -> int:
        count = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            fed(name, data)
        finally:
            sys.settrace(before)
        return count

    chance = random.Random(7)
    for unit in (
        b"$GPRMC,",
        b"[",
        b'{"a":',
        b"!!" * 4,
        bytes(chance.randbytes(40)),
        b"\r\n",
        b"A ",
    ):
        small, large = lines_run(unit * 400), lines_run(unit * 1600)
        assert large < 6 * small + 2000, unit


@pytest.mark.parametrize("name", sorted(codecs.REGISTRY))
@pytest.mark.parametrize(
    "message",
    [
        StatusReport(code=0),
        DeliveryAck(check="01TESTC7F3", part=1, state=AckState.READ),
        LocationFix(lat=52.5725, lon=-0.2431, fixed_at_ms=NOW_MS - 8000, speed_mps=1.0),
    ],
    ids=["status", "ack", "fix"],
)
def test_what_a_terminal_says_the_gateway_reads(name: str, message: Any) -> None:
    """Symmetrical, as far as this protocol has the word."""
    for frame in made(name, side="terminal").encode(message):
        codec = made(name, side="gateway")
        found = codec.feed(frame.data, received_at_ms=NOW_MS, channel=frame.channel)
        assert len(found) == 1
        assert type(found[0]) is type(message)


@pytest.mark.parametrize("name", sorted(codecs.REGISTRY))
@pytest.mark.parametrize(
    "message",
    [
        Receipt(ref="a1", check="01TESTC7F3", short="C7F3", accepted=True),
        Notice(kind="late", text="C7F3 LATE REPLY", check="01TESTC7F3", short="C7F3"),
    ],
    ids=["receipt", "notice"],
)
def test_what_the_gateway_says_a_terminal_reads(name: str, message: Any) -> None:
    for frame in made(name, side="gateway").encode(message):
        codec = made(name, side="terminal")
        found = codec.feed(frame.data, received_at_ms=NOW_MS, channel=frame.channel)
        assert len(found) == 1
        assert type(found[0]) is type(message)
        assert found[0].short == "C7F3"


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_nothing_that_is_shown_can_command_a_radio(text: str) -> None:
    """S12: CR, LF, 0x1A and ESC from an answer never reach a line; one message is one line."""
    frames = made("line_terminal").encode(Notice(kind="operator", text=text))
    for frame in frames:
        assert frame.data.endswith(b"\r\n")
        assert all(0x20 <= byte <= 0x7E for byte in frame.data[:-2])


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*.py")), ids=lambda path: path.name)
def test_codecs_are_sans_io(path: Path) -> None:
    """No loop, socket, clock, system or log; and no `datetime.now`."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & {
            *("asyncio", "socket", "time", "os", "logging", "threading", "random"),
        }
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today"}
