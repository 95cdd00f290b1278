"""docs/interfaces.md is true: its examples are what the program reads and writes."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from adapters.codecs import keysds
from adapters.codecs.owntracks import OwnTracks
from adapters.codecs.sds import Sds
from adapters.codecs.terminal_json import TerminalJson
from adapters.relays import mqtt_feed
from adapters.web import openapi
from gateway import __version__
from gateway.messages import (
    AckState,
    AlarmChanged,
    BookOff,
    BookOn,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckRequest,
    CheckStaged,
    DeliveryAck,
    FixSource,
    Kind,
    LocationFix,
    MalformedCheck,
    Notice,
    Outcome,
    Privacy,
    Receipt,
    Result,
    StatusReport,
    UnitFix,
)
from tests.docs.pages import ROOT, marked

PAGE = ROOT / "docs" / "interfaces.md"
ISSI = "5001001"
NOW_MS = 1_795_325_702_114

UP: dict[str, type[Any]] = {
    "up/check": CheckRequest,
    "up/fix": LocationFix,
    "up/status": StatusReport,
    "up/ack": DeliveryAck,
}
BOOKING = (BookOn, BookOn, BookOff, Privacy)
CLEAR = Result(
    ref="",
    check="01JD6Q8ZK7M2V9X4T0C7F4",
    short="C7F4",
    outcome=Outcome.ANSWERED,
    result_class="",
    danger=(),
    pages=(),
    texts=("C7F4 1/1 NO REPORTS TE99AAA. AS AT 05:24",),
    fields={},
    not_checked=(),
    as_of_ms=NOW_MS,
    level="L3",
    receipt="",
)
DANGER = msgspec.structs.replace(
    CLEAR,
    check="01JD6Q8ZK7M2V9X4T0C8A1",
    danger=("WEAPONS", "VIOLENT"),
    texts=(
        "C8A1 1/2 !!WEAPONS !!VIOLENT TESTER TED 12/04/86",
        "C8A1 2/2 SCAR L CHEEK. AS AT 05:24",
    ),
)
DOWN: dict[str, type[Any]] = {"down/receipt": Receipt, "down/result": Result, "down/notice": Notice}


def test_what_a_tetra_radio_sends_is_understood() -> None:
    (text,) = marked(PAGE, "example: sds up")
    codec = Sds(first_reference=0x2A)
    codec.encode(DANGER)
    found, owed = list[object](), list[str]()
    for line in text.splitlines():
        channel, hex_ = line.split()[:2]
        found += codec.feed(bytes.fromhex(hex_), received_at_ms=NOW_MS, channel=channel)
        owed += [frame.data.hex().upper() for frame in codec.replies()]
    question = keysds.parse("V TE99ABC R1")
    part = DeliveryAck(check=DANGER.check, part=1, state=AckState.DELIVERED)
    assert found == [StatusReport(0), StatusReport(0x800F), question, question, part]
    assert owed == ["82100007"]


def test_what_a_tetra_radio_is_sent_is_as_the_page_says() -> None:
    (text,) = marked(PAGE, "example: sds down")
    sent = Receipt(ref="", check=CLEAR.check, short="C7F4", accepted=True)
    frames = [frame.data for each in (CLEAR, DANGER, sent) for frame in Sds().encode(each)]
    for line, data in zip(text.splitlines(), frames, strict=True):
        assert line.startswith(f"{data[:2].hex().upper()}..{data[3]:02X} {data[4:].decode()} ")


@pytest.mark.parametrize("channel", UP)
def test_what_a_terminal_says_is_understood(channel: str) -> None:
    for text in marked(PAGE, f"example: {channel}"):
        codec = TerminalJson(identity=ISSI)
        (message,) = codec.feed(text.encode(), received_at_ms=NOW_MS, channel=channel)
        assert isinstance(message, UP[channel]), text


def test_each_booking_is_understood() -> None:
    texts = marked(PAGE, "example: booking")
    assert len(texts) == len(BOOKING)
    for text, type_ in zip(texts, BOOKING, strict=True):
        codec = TerminalJson(identity=ISSI)
        (message,) = codec.feed(text.encode(), received_at_ms=NOW_MS, channel="up/status")
        assert isinstance(message, type_), text


@pytest.mark.parametrize("channel", DOWN)
def test_what_the_gateway_says_is_written_so(channel: str) -> None:
    """Read as a terminal reads it, and written again, it has the same members and values."""
    for text in marked(PAGE, f"example: {channel}"):
        (message,) = TerminalJson(side="terminal").feed(
            text.encode(), received_at_ms=NOW_MS, channel=channel
        )
        assert isinstance(message, DOWN[channel]), text
        (frame,) = TerminalJson().encode(message)
        assert frame.channel == channel
        assert json.loads(frame.data) == json.loads(text)


def test_every_typed_example_is_understood() -> None:
    (text,) = marked(PAGE, "example: keysds")
    lines = text.splitlines()
    assert len(lines) >= 6
    for line in lines:
        assert not isinstance(keysds.parse(line), MalformedCheck), line


def test_what_a_phone_says_is_understood() -> None:
    (text,) = marked(PAGE, "example: owntracks")
    (fix,) = OwnTracks(identity="ne/phone").feed(text.encode(), received_at_ms=NOW_MS)
    assert isinstance(fix, LocationFix)
    assert (fix.lat, fix.speed_mps, fix.accuracy_m) == (52.5725, 5.0, 12.0)


def members(topic: str) -> set[str]:
    """The names between backquotes in the second cell of a row of a table."""
    (cell,) = re.findall(rf"^\| `{re.escape(topic)}` \| (.*) \|$", PAGE.read_text("utf-8"), re.M)
    return set(re.findall(r"`(\w+)`", cell))


def test_the_feed_has_the_members_that_are_listed() -> None:
    """Every one that is written is listed, and every one that is listed is written."""
    fix = UnitFix(
        terminal=ISSI,
        lat=52.5725,
        lon=-0.2431,
        fixed_at_ms=NOW_MS,
        received_at_ms=NOW_MS,
        accuracy_m=8.0,
        course_deg=90.0,
        speed_mps=1.2,
        source=FixSource.GNSS,
    )
    said = mqtt_feed.message_of(fix)
    assert said is not None
    assert said[0] == f"feed/fix/{ISSI}"
    assert set(json.loads(said[1])) == members("feed/fix/{issi}")

    named = {"short": "C7F3", "check": "01C7F3", "terminal": ISSI}
    events = (
        CheckOpened(**named, kind=Kind.VEHICLE, opened_ms=NOW_MS, deadline_ms=NOW_MS),
        CheckStaged(**named, stage="pnc", t_ms=NOW_MS),
        CheckDone(
            **named,
            kind=Kind.VEHICLE,
            outcome=Outcome.ANSWERED,
            result_class="HIT_STOLEN",
            danger=("STOLEN",),
            parts=1,
            not_checked=("INSURANCE",),
            level="L3",
            t_ms=NOW_MS,
            elapsed_s=0.2,
            overhead_s=0.01,
        ),
        CheckDelivery(**named, part=1, state="read", t_ms=NOW_MS),
    )
    written: set[str] = set()
    for event in events:
        said = mqtt_feed.message_of(event)
        assert said is not None
        assert said[0] == f"feed/check/{ISSI}"
        body = json.loads(said[1])
        written |= set(body) | {body["event"]}
        assert "STOLEN" not in said[1].decode(), "no danger word or class on a broker"
    assert written == members("feed/check/{issi}")

    alarm = AlarmChanged(
        id="a1",
        rule="EMG",
        priority=1,
        state="unack-active",
        raised_ms=NOW_MS,
        t_ms=NOW_MS,
        terminal=ISSI,
        short="C7F3",
        link="mqtt",
        response="Call.",
        chatter=3,
        group="LNK",
        shelved_until_ms=NOW_MS,
    )
    said = mqtt_feed.message_of(alarm)
    assert said is not None
    assert said[0] == "feed/alarm/a1"
    assert set(json.loads(said[1])) == members("feed/alarm/{id}") - {"EMG"}


def test_every_path_of_the_api_is_listed_and_no_other() -> None:
    text = PAGE.read_text("utf-8")
    table = text[text.index("## HTTP") : text.index("**Snapshot.**")]
    listed = {
        path.partition("?")[0]
        for row in re.findall(r"^\| (`/.*?) \|", table, re.M)
        for path in re.findall(r"`([^`]+)`", row)
    }
    served = set(openapi.document(__version__)["paths"]) - {"/page.js", "/desk.js", "/page.css"}
    assert listed | {"/api/openapi.json"} == served
