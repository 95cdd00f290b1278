"""What every codec of the registry promises, whatever bytes come: no I/O, no raise, no growth.

One suite over `adapters.codecs.REGISTRY`: a new protocol is proved by its line there. Hostile bytes
are noise, and the cases of tests/corpus with bytes changed, cut, doubled and spliced.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from operator import xor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import codecs
from adapters.codecs import lip, owntracks
from gateway.messages import (
    FIX_REASONS,
    FRAME_REASONS,
    AckState,
    BadFrame,
    BookOff,
    BookOn,
    CancelRequest,
    CheckRequest,
    Decoded,
    DeliveryAck,
    DriverKey,
    EchoTest,
    Heartbeat,
    HelpRequest,
    Ignored,
    Locate,
    LocationFix,
    MalformedCheck,
    Message,
    Notice,
    Outcome,
    PersonKey,
    Privacy,
    PropertyKey,
    RecallRequest,
    Receipt,
    Result,
    Secret,
    StatusReport,
    TextPart,
    VehicleKey,
)
from gateway.ports import Codec
from tests.corpus import cases, heard_of, ms

ISSI = "5001001"
NOW_MS = ms("2026-11-22T10:15:10Z")
SOURCE = Path(codecs.__file__).parent
NAMES = sorted(codecs.REGISTRY)
STREAMS = [name for name in NAMES if codecs.takes_lines(name)]
SIDES = ("gateway", "terminal")
UP = ("up/check", "up/fix", "up/status", "up/ack", "up/text", "up/nmea")
DOWN = ("down/receipt", "down/result", "down/notice")
CHANNELS = (*UP, *DOWN, "up/strange", "", "sds4", "status", "sds1", "query", "json")
REASONS = {*FRAME_REASONS, *FIX_REASONS}
DOWNLINKS = (Receipt, Result, Notice, TextPart, Locate)
IGNORED = {
    *(*lip.OTHERS.values(), lip.RESERVED, lip.REPORT),
    *(*owntracks.NOT_FOR_US, owntracks.OTHER, owntracks.CLEARED),
}
"""Words for what is ignored; else it is the type of a sentence, and no longer than that."""
GOOD = b"$GPRMC,101559.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A*76\r\n"
TPV = (
    b'{"class":"TPV","device":"/dev/ttyACM0","mode":3,"time":"2026-11-22T10:15:59.000Z",'
    b'"lat":52.5725,"lon":-0.2431,"speed":1.2,"track":90.0}\r\n'
)
GOODS = {"gpsd_json": TPV}
"""A frame that each stream reads as a fix; sentences where nothing else is said."""
RECEIVERS = ("nmea0183", "gpsd_json")
"""They hear nothing: both sides read positions."""
SEEDS: list[bytes] = [
    data
    for folder in ("keysds", *NAMES)
    for case in cases(folder)
    for data in heard_of(case)
    if len(data) < 2000
]
"""Of every protocol's corpus; which one a codec is fed is nobody's business."""


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Nothing at all like a frame, or a good one with bytes changed, cut, doubled or spliced."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=600))
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 4)):
            case 0 if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[place : place + draw(st.integers(1, 20))]
            case 2:
                data[place:place] = draw(st.sampled_from(SEEDS))[:80]
            case 3:
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
            case _:
                data[place:place] = draw(st.binary(max_size=8))
    return bytes(data)


def made(name: str, side: str = "gateway") -> Codec:
    options = {"identity": ISSI} if name == "terminal_json" else {}
    return codecs.create(name, side=side, **options)


def fed(name: str, data: bytes, side: str = "gateway") -> list[Decoded]:
    """A stream takes it once, a datagram codec on every channel."""
    if name in STREAMS:
        return list(made(name, side).feed(data, received_at_ms=NOW_MS))
    return [
        each
        for channel in CHANNELS
        for each in made(name, side).feed(data, received_at_ms=NOW_MS, channel=channel)
    ]


# --------------------------------------------------------------------------- hostile bytes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", SIDES)
@settings(max_examples=250, deadline=None)
@given(data=hostile())
def test_no_bytes_make_it_raise(name: str, side: str, data: bytes) -> None:
    """Only declared outcomes, and a bad frame is a word of the closed list: it quotes nothing."""
    for each in fed(name, data, side):
        match each:
            case BadFrame(reason=reason):
                assert reason in REASONS
                assert each.__struct_fields__ == ("reason",)
            case Ignored(type=type_):
                assert len(type_) <= 4 or type_ in IGNORED
            case MalformedCheck(why=why):
                assert re.fullmatch(r"[ -~]{1,60}", why)
            case BookOn():
                with pytest.raises(TypeError):
                    msgspec.json.encode(each)
                continue
        # What comes out can be written again: no half characters, no infinities.
        msgspec.json.encode(each)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(data=hostile())
def test_each_side_reads_only_what_is_for_it(name: str, data: bytes) -> None:
    """An answer never comes up, a question never comes down."""
    assert not [each for each in fed(name, data, "gateway") if isinstance(each, DOWNLINKS)]
    if name not in RECEIVERS:
        down = (*DOWNLINKS, BadFrame, Ignored)
        assert all(isinstance(each, down) for each in fed(name, data, "terminal"))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(secret=st.from_regex(r"[A-Z]{5}[0-9]{4}[A-Z]{5}", fullmatch=True), data=hostile())
def test_what_is_refused_is_not_quoted(name: str, secret: str, data: bytes) -> None:
    """A word planted anywhere comes back in no bad frame and in no reason given."""
    for place in {0, len(data) // 2, len(data)}:
        planted = data[:place] + secret.encode() + data[place:] + b"\r\n"
        for each in fed(name, planted):
            if isinstance(each, BadFrame | MalformedCheck):
                told = each.reason if isinstance(each, BadFrame) else each.why
                assert secret not in told


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("side", SIDES)
@settings(max_examples=150, deadline=None)
@given(data=hostile(), cuts=st.lists(st.integers(0, 600), max_size=6))
def test_however_it_is_split_it_is_the_same(
    name: str, side: str, data: bytes, cuts: list[int]
) -> None:
    """Whole, in random slices, one byte at a time, and with more behind."""
    data += b"\r\n"
    whole = list(made(name, side).feed(data, received_at_ms=NOW_MS))
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for ends in (places, list(range(len(data) + 1))):
        codec, out = made(name, side), list[Decoded]()
        for start, end in itertools.pairwise(ends):
            out += codec.feed(data[start:end], received_at_ms=NOW_MS)
        assert out == whole
    good = GOODS.get(name, GOOD)
    more = list(made(name, side).feed(data + good[:30], received_at_ms=NOW_MS))
    assert more == whole


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=100, deadline=None)
@given(data=hostile())
def test_it_finds_the_next_frame_after_any_garbage(name: str, data: bytes) -> None:
    """S03: whatever came before the line end, the next good frame is read, and nothing else."""
    codec = made(name)
    codec.feed(data + b"\r\n", received_at_ms=NOW_MS)
    found = codec.feed(GOODS.get(name, GOOD), received_at_ms=NOW_MS)
    assert len(found) == 1
    again = [BadFrame("duplicate"), Ignored("TPV")]
    assert isinstance(found[0], LocationFix) or found[0] in again


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200).filter(lambda data: b"*" not in data))
def test_a_sentence_is_found_in_the_midst_of_noise(data: bytes) -> None:
    """Also without a line end between: framed on every `$`."""
    found = made("nmea0183").feed(data + GOOD, received_at_ms=NOW_MS)
    assert [each for each in found if isinstance(each, LocationFix)]


@settings(max_examples=300, deadline=None)
@given(bit=st.integers(0, 8 * (len(GOOD) - 2) - 1))
def test_no_sentence_with_one_bit_flipped_is_a_fix(bit: int) -> None:
    """S03: the checksum finds every single flip (one of its own digits may become lower case)."""
    assert isinstance(fed("nmea0183", GOOD)[0], LocationFix)
    data = bytearray(GOOD)
    data[bit // 8] ^= 1 << bit % 8
    found = made("nmea0183").feed(bytes(data), received_at_ms=NOW_MS)
    assert not [each for each in found if isinstance(each, LocationFix)]


# --------------------------------------------------------------------------- memory and work

TRIES = 3
"""What is counted is the whole process: another thread of the test's runner may take some memory
meanwhile, but not each time. A codec that grows does so each time."""


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("unit", [b"A", b"\x00", b"$", b"\xff"], ids=["A", "NUL", "$", "0xFF"])
def test_an_endless_line_is_bounded(name: str, side: str, unit: bytes) -> None:
    """S05: 10 MB without an end hold no more than one line, and cost one bad frame."""
    codec = made(name, side)
    chunk = unit * 4096
    for _ in range(4):  # longer than any line that is taken
        codec.feed(chunk, received_at_ms=NOW_MS)
    for _ in range(TRIES):
        bad, grown, most = 0, 0, 0
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(2560):
                bad += len(codec.feed(chunk, received_at_ms=NOW_MS))
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        grown, most = after - before, peak - before
        if grown < 8192 and most < 65536:
            break
    assert grown < 8192
    assert most < 65536
    assert bad == 0  # the first ones told of it
    found = codec.feed(b"\r\n" + GOODS.get(name, GOOD), received_at_ms=NOW_MS)
    assert len(found) == 1, "it did not find its way back"


@pytest.mark.parametrize("name", STREAMS)
def test_a_hundred_megabytes_without_an_end(name: str) -> None:
    """S05, to the size of the catalogue: one bad frame, then the next line is read."""
    codec, chunk = made(name), b"A" * 4096
    told = [each for _ in range(25_600) for each in codec.feed(chunk, received_at_ms=NOW_MS)]
    assert told == [BadFrame("length")]
    assert len(codec.feed(b"\r\n" + GOODS.get(name, GOOD), received_at_ms=NOW_MS)) == 1


@cache
def lived(name: str, start: int, n: int) -> list[bytes]:
    """A life of n seconds in its own words: each a fix, and a damaged one."""
    lines: list[bytes] = []
    for at in range(start, start + n):
        hour, minute, second = at // 3600 % 24, at // 60 % 60, at % 60
        if name in GOODS:
            clock = b"%02d:%02d:%02d" % (hour, minute, second)
            lines += [
                GOODS[name].replace(b"10:15:59", clock),
                GOODS[name][: 20 + at % 60] + b"\r\n",
            ]
            continue
        clock = b"%02d%02d%02d" % (hour, minute, second)
        body = b"GPRMC,%s,A,5234.%04d,N,00014.5860,W,,,221126,,,A" % (clock, at % 10000)
        check = reduce(xor, body)
        lines += [b"$%s*%02X\r\n" % (body, sum_) for sum_ in (check, check ^ 1)]
    return lines


@pytest.mark.parametrize("name", STREAMS)
def test_a_long_life_holds_no_more_than_a_short_one(name: str) -> None:
    """20,000 different fixes and rejections: what is remembered of them does not grow."""
    youth, age = lived(name, 0, 200), lived(name, 200, 10_000)

    def grown() -> int:
        codec = made(name)

        def live(lines: Sequence[bytes]) -> int:
            for line in lines:
                codec.feed(line, received_at_ms=NOW_MS)
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            short = live(youth)
            return live(age) - short
        finally:
            tracemalloc.stop()

    assert any(grown() < 16384 for _ in range(TRIES))


UNITS = (
    b"$GPRMC,",
    b"$",
    b"[",
    b'{"a":',
    b'"\\',
    b"!!!!",
    random.Random(7).randbytes(40),
    b"\r\n",
    b"A ",
    b"R1 ",
    b"LA ",
    b"N A/",
    b"#S ",
    b"0",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", SIDES)
def test_work_grows_no_faster_than_the_input(name: str, side: str) -> None:
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
            fed(name, data, side)
        finally:
            sys.settrace(before)
        return count

    for unit in UNITS:
        small, large = lines_run(unit * 400), lines_run(unit * 1600)
        assert large < 6 * small + 2000, unit


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", SIDES)
def test_what_is_not_python_grows_no_faster_either(name: str, side: str) -> None:
    """Regular expressions and the JSON reader: sixteen times the bytes cost sixteen times a floor
    (a copy and a count of the same bytes, in the same run), and some slack; squared it would be
    256. The best of five, so that what else runs here does not decide."""

    def best_s(work: Callable[[], object]) -> float:
        runs = []
        for _ in range(5):
            start_s = time.perf_counter()
            work()
            runs.append(time.perf_counter() - start_s)
        return min(runs)

    for unit in UNITS:
        small, large = unit * (960 // len(unit)), unit * (16 * 960 // len(unit))
        floor = best_s(partial(list, large)) / best_s(partial(list, small))
        grew = best_s(partial(fed, name, large, side)) / best_s(partial(fed, name, small, side))
        assert grew < 6 * floor, unit


# --------------------------------------------------------------------------- both sides


def key_cases() -> list[Any]:
    return [
        VehicleKey(vrm="TE99ABC"),
        VehicleKey(vin="TSTZZZ00000000001"),
        PersonKey(surname="TESTER", forenames="NORA", dob="1970-01-01", sex="F"),
        PersonKey(surname="TESTER", age_years=30),
        DriverKey(driver_no="TESTE802020C99AA"),
        DriverKey(surname="TESTER", forenames="NORA", dob="1970-01-01"),
        PropertyKey(type="PEDAL CYCLE", serial="TSTBIKE001"),
    ]


FIX = LocationFix(
    lat=52.5725,
    lon=-0.2431,
    fixed_at_ms=NOW_MS - 8000,
    speed_mps=1.0,
    course_deg=90.0,
)
UPLINKS: list[Message] = [
    StatusReport(code=0),
    StatusReport(code=65535),
    DeliveryAck(check="C7F3", part=1, state=AckState.READ),
    DeliveryAck(check="C7F3", part=4, state=AckState.DELIVERED),
    FIX,
    Heartbeat(),
    CancelRequest(check="C7F3"),
    CancelRequest(),
    HelpRequest(),
    EchoTest(text="HELLO"),
    EchoTest(),
    RecallRequest(),
    RecallRequest(check="C7F3"),
    BookOn(officer="1001", factor=Secret("4711"), callsign="E-101"),
    BookOn(officer="1002", factor=Secret("a*B#c"), second=True),
    BookOn(officer="", factor=Secret("4711")),
    BookOn(officer="1001", factor=Secret("4711"), callsign="E-1", second=True, sent_at_ms=NOW_MS),
    BookOff(),
    BookOff(officer="1002"),
    Privacy(free=True),
    Privacy(free=False, check="C7F3"),
    CheckRequest(
        key=VehicleKey(vrm="TE99ABC"), reason="1", typed="V TE99ABC R1 Q7", client_ref="7"
    ),
    *(
        CheckRequest(
            key=key,
            reason="1",
            ref="a1",
            sent_at_ms=NOW_MS,
            justification="NO LIGHTS",
            location="BRIDGE ST",
            fix=FIX,
            full=True,
        )
        for key in key_cases()
    ),
]
WORDS_UP = {
    "gpsd_json": 1,
    "nmea0183": 1,
    "osmand": 1,
    "line_terminal": 18,
    "terminal_json": 28,
    "lip": 1,
    "sds": 16,
    "owntracks": 1,
}
"""How many of UPLINKS each has a word for: an encode that says nothing would pass for symmetry."""


def heard(name: str, side: str, message: Message) -> list[Decoded]:
    """What the other side reads of what this side writes."""
    other = "gateway" if side == "terminal" else "terminal"
    return [
        each
        for frame in made(name, side).encode(message)
        for each in made(name, other).feed(frame.data, received_at_ms=NOW_MS, channel=frame.channel)
    ]


def same(name: str, found: Any, sent: Any) -> bool:
    """Equal, but for what a sentence rounds (0.2 m, 0.01 kn), what a location report does (1.2 m,
    1 km/h), and what JSON does not carry."""
    if isinstance(sent, LocationFix):
        step_deg, step_mps = (1.1e-5, 0.28) if name == "lip" else (2e-6, 0.01)
        return (
            isinstance(found, LocationFix)
            and abs(found.lat - sent.lat) < step_deg
            and abs(found.lon - sent.lon) < step_deg
            and found.fixed_at_ms == sent.fixed_at_ms
            and found.speed_mps is not None
            and abs(found.speed_mps - (sent.speed_mps or 0)) < step_mps
            and found.course_deg == sent.course_deg
        )
    return bool(found == sent)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_terminal_says_the_gateway_reads(name: str) -> None:
    """Symmetrical, member by member, as far as this protocol has the word."""
    said = 0
    for message in UPLINKS:
        found = heard(name, "terminal", message)
        if found:
            said += 1
            assert len(found) == 1, message
            assert same(name, found[0], message), (message, found[0])
    assert said == WORDS_UP.get(name, said)


RESULT = Result(
    ref="a1",
    check="01JD6Q8ZK7M2V9X4T0C7F3",
    short="C7F3",
    outcome=Outcome.ANSWERED,
    result_class="HIT_STOLEN",
    danger=("STOLEN", "VIOLENT"),
    pages=("!!STOLEN  TE99STV\n!!VIOLENT OCCUPANT\nWAIT FOR BACKUP\nC7F3 1/2    OK=MORE", "FORD"),
    texts=("Q7 C7F3 1/2 !!STOLEN !!VIOLENT TE99STV. OK=MORE", "Q7 C7F3 2/2 FORD. AS AT 05:24"),
    fields={"vrm": "TE99STV"},
    not_checked=("INSURANCE",),
    as_of_ms=NOW_MS,
    level="L3",
    receipt="4F2A-91KQ",
    client_ref="7",
)
RECEIPT = Receipt(ref="a1", check="01JD6Q8ZK7M2V9X4T0C7F3", short="C7F3", accepted=True)
REFUSED = msgspec.structs.replace(RECEIPT, accepted=False, why="R? GIVE REASON", client_ref="7")
LATE = Notice(kind="late", text="C7F3 LATE REPLY. REPEAT CHECK", check=RESULT.check, short="C7F3")

WRITTEN = Notice(
    kind="message",
    text="MSG: RETURN TO STATION",
    short="C8A1",
    id="01JD6Q8ZK7M2V9X4T0C8A1",
    texts=("C8A1 1/2 MSG: RETURN TO", "C8A1 2/2 STATION"),
)


def members(messages: Sequence[Any], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(each, name) for name in names) for each in messages]


def test_over_json_a_terminal_reads_every_member_of_an_answer() -> None:
    """But `texts`, which are for lines."""
    assert heard("terminal_json", "gateway", RESULT) == [
        msgspec.structs.replace(RESULT, texts=()),
    ]
    for message in (RECEIPT, REFUSED, LATE, Notice(kind="help", text="V MARK R1")):
        assert heard("terminal_json", "gateway", message) == [message]
    for outcome in Outcome:
        answer = msgspec.structs.replace(RESULT, outcome=outcome, texts=(), result_class="")
        assert heard("terminal_json", "gateway", answer) == [answer]


def test_over_a_line_a_terminal_reads_the_words_of_an_answer() -> None:
    """Every part with its number, the refusal with its reason, the client reference each time."""
    parts = heard("line_terminal", "gateway", RESULT)
    assert all(isinstance(part, TextPart) for part in parts)
    assert members(parts, "short", "part", "parts", "text", "client_ref") == [
        ("C7F3", 1, 2, "!!STOLEN !!VIOLENT TE99STV. OK=MORE", "7"),
        ("C7F3", 2, 2, "FORD. AS AT 05:24", "7"),
    ]
    accepted = msgspec.structs.replace(RECEIPT, client_ref="12")
    assert members(
        heard("line_terminal", "gateway", accepted), "short", "accepted", "client_ref"
    ) == [("C7F3", True, "12")]
    assert members(heard("line_terminal", "gateway", REFUSED), "accepted", "why", "client_ref") == [
        (False, "R? GIVE REASON", "7")
    ]
    assert members(heard("line_terminal", "gateway", LATE), "short", "text") == [
        ("C7F3", "LATE REPLY. REPEAT CHECK")
    ]


def test_what_the_control_room_writes_can_be_acknowledged_as_an_answer_can() -> None:
    """By its id, or part by part."""
    assert heard("terminal_json", "gateway", WRITTEN) == [
        msgspec.structs.replace(WRITTEN, texts=())
    ]
    parts = heard("line_terminal", "gateway", WRITTEN)
    assert members(parts, "short", "part", "parts", "text") == [
        ("C8A1", 1, 2, "MSG: RETURN TO"),
        ("C8A1", 2, 2, "STATION"),
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("message", [*UPLINKS, RESULT, RECEIPT, REFUSED, LATE, WRITTEN], ids=repr)
def test_each_side_writes_only_its_own_words(name: str, message: Message) -> None:
    """A gateway asks nothing, a terminal answers nothing; what has no word is () and no error."""
    down = isinstance(message, DOWNLINKS)
    if name != "nmea0183":  # of which one side is like the other
        side = "terminal" if down else "gateway"
        assert tuple(made(name, side).encode(message)) == ()
    elif down:
        assert tuple(made(name).encode(message)) == ()


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_nothing_that_is_shown_can_command_a_radio(text: str) -> None:
    """S12: CR, LF, 0x1A and ESC from an answer never reach a line; one message is one line."""
    said: list[Message] = [
        Notice(kind="operator", text=text),
        msgspec.structs.replace(REFUSED, why=text),
        msgspec.structs.replace(RECEIPT, short=text, client_ref=text),
        msgspec.structs.replace(RESULT, texts=(text, text)),
        TextPart(short="C7F3", part=1, parts=1, text=text),
    ]
    asked: list[Message] = [
        EchoTest(text=text),
        CancelRequest(check=text),
        CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", typed=text),
    ]
    for side, messages in (("gateway", said), ("terminal", asked)):
        for message in messages:
            for frame in made("line_terminal", side).encode(message):
                assert frame.data.endswith(b"\r\n")
                assert all(0x20 <= byte <= 0x7E for byte in frame.data[:-2])


# --------------------------------------------------------------------------- what it stands on


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*.py")), ids=lambda path: path.name)
def test_codecs_are_sans_io(path: Path) -> None:
    """No loop, socket, clock, system or log; no `datetime.now`, no `open`, no `print`."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & {
            *("asyncio", "socket", "time", "os", "logging", "threading", "random", "subprocess"),
            *("pathlib", "structlog", "serial", "aiomqtt"),
        }
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "eval", "exec", "__import__"}
