"""What each parser promises, said over any bytes: a target is a generator and a judge.

A judge raises on whatever is not declared and returns what came of the bytes in short: inputs that
bring something new are worth changing further. Whatever it draws by lot it draws from the bytes, so
that the same bytes are judged alike everywhere.
"""

from __future__ import annotations

import atexit
import base64
import itertools
import json
import re
import sys
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
from nacl.secret import SecretBox

from adapters import codecs
from adapters.codecs import keysds, lip, owntracks, sds, sds_parts
from adapters.codecs.hush import hushed_sds
from adapters.codecs.lines import LineSplitter, TooLong
from adapters.codecs.osmand import Osmand
from adapters.codecs.sds import Sds
from adapters.links import tetra_pei
from adapters.links.intake import Intake
from adapters.links.mqtt_broker import MqttLink
from adapters.links.pei_dialects import DIALECTS
from adapters.links.pei_session import Part, PeiSession
from adapters.mqtt_client import Received
from adapters.pnc import wire
from adapters.relays.cot_transports import Events
from adapters.web import asking, requests
from gateway import settings
from gateway.errors import ConfigError, PncGarbled
from gateway.messages import (
    FIX_REASONS,
    FRAME_REASONS,
    BadFrame,
    Bearer,
    BookOn,
    CheckRequest,
    Decoded,
    Envelope,
    Heartbeat,
    Ignored,
    Locate,
    LocationFix,
    MalformedCheck,
    Message,
    Notice,
    PersonKey,
    PncQuery,
    Receipt,
    Result,
    StatusReport,
    TextPart,
    VehicleKey,
    search_key,
)
from gateway.settings import BrokerSection
from tests.corpus import cases, heard_of
from tests.fakes import FakeClock, FakeJournal, FakeMeter
from tests.fuzz import grammar
from tests.fuzz.http import Front

ISSI = "5001001"
OTHER = "5001002"
NOW_MS = 1_795_342_510_000
"""2026-11-22T10:15:10Z."""
GOOD = b"$GPRMC,101559.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A*76\r\n"
GOODS = {
    "gpsd_json": b'{"class":"TPV","mode":3,"time":"2026-11-22T10:15:59.000Z",'
    b'"lat":52.5725,"lon":-0.2431}\r\n'
}
"""A frame that each stream reads as a fix; the sentence where nothing else is said."""
REASONS = {*FRAME_REASONS, *FIX_REASONS}
DOWN = (Receipt, Result, Notice, TextPart, Locate)
IGNORED = {
    *(*lip.OTHERS.values(), lip.RESERVED, lip.REPORT),
    *(*owntracks.NOT_FOR_US, owntracks.OTHER, owntracks.CLEARED),
}
CONFIG = Path(__file__).resolve().parents[2] / "config"
BLANK = b"\r\n\x00\xff \t"
"""What says nothing in a line of sentences."""
WORK_BASE = 20_000
"""Lines of Python that any input may cost, and ..."""
WORK_PER_BYTE = 200
"""... so many more for each byte of it."""
WEIGHED = 251
"""One input of so many is weighed: tracing makes it thirty times slower. Files of ours, and
what aiohttp does, are not."""


class Target(NamedTuple):
    """made: an input. judge: what came of it; raises for what may not."""

    name: str
    made: grammar.Made
    judge: Callable[[bytes], Hashable]

    def try_(self, data: bytes, *, weigh: bool = False) -> Hashable:
        """Judge one input; now and then, or when told, its work as well."""
        counts = self.name != "http" and not self.name.startswith("config-")
        if counts and (weigh or zlib.crc32(data) % WEIGHED == 0):
            found, lines = weighed(lambda: self.judge(data))
            allowed = WORK_BASE + WORK_PER_BYTE * len(data)
            assert lines <= allowed, f"{lines} lines of Python for {len(data)} bytes"
            return found
        return self.judge(data)


def weighed(work: Callable[[], Hashable]) -> tuple[Hashable, int]:
    """What it returns, and how many lines of Python of ours ran: a count, whatever else runs."""
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        if "/tests/" in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = work()
    finally:
        sys.settrace(before)
    return found, count


def lots(data: bytes) -> Random:
    return Random(zlib.crc32(data))


def declared(found: Iterable[Decoded], *, down: bool = False) -> Hashable:
    """Only words of the closed lists, nothing for the other side, and all of it can be written."""
    short = []
    for each in found:
        told: Hashable = ""
        match each:
            case BadFrame(reason=reason):
                assert reason in REASONS, "a reason that nobody knows"
                told = reason
            case Ignored(type=type_):
                assert len(type_) <= 4 or type_ in IGNORED
            case MalformedCheck(why=why, ref=ref):
                assert re.fullmatch(r"[ -~]{1,60}", why), "an answer that no screen shows"
                assert re.fullmatch(r"[!-~]{0,32}", ref)
                told = why
            case CheckRequest():
                _sound(each)
                told = each.key.__struct_config__.tag, each.fix is None
            case LocationFix():
                assert -90 <= each.lat <= 90
                assert -180 <= each.lon <= 180
                assert each.course_deg is None or 0 <= each.course_deg < 360
                assert each.speed_mps is None or 0 <= each.speed_mps <= 400
        assert isinstance(each, (*DOWN, BadFrame, Ignored)) if down else not isinstance(each, DOWN)
        if isinstance(each, BookOn):
            assert "***" in repr(each), "a factor that shows"
        else:
            msgspec.json.encode(each)
        short.append((type(each).__name__, told))
    return tuple(dict.fromkeys(short))[:6]


def _sound(check: CheckRequest) -> None:
    """What would be asked reads the same on every screen, and goes on record as one line."""
    assert check.reason
    for text in (check.typed, check.ref, check.location, check.justification, check.collar):
        assert not any(unicodedata.category(each) in keysds.FORBIDDEN for each in text)
    match check.key:
        case VehicleKey(vrm=vrm, vin=vin):
            assert re.fullmatch(r"[A-Z0-9]{1,17}", vrm or vin)
        case PersonKey(surname=surname, forenames=forenames):
            for name in filter(None, (surname, forenames)):
                assert len(name) <= keysds.NAME_MAX
                assert unicodedata.normalize("NFKC", name) == name
                assert all(
                    each.isalpha()
                    or each in " '’.-"
                    or unicodedata.combining(each)
                    or unicodedata.category(each)[0] in "LM"
                    for each in name
                )
    assert "\n" not in search_key(check.key)


# --------------------------------------------------------------------------- streams


def stream(name: str, side: str = "gateway") -> Callable[[bytes], Hashable]:
    def made() -> Any:
        return codecs.create(name, side=side)

    def judge(data: bytes) -> Hashable:
        data += b"\r\n"
        whole = list(made().feed(data, received_at_ms=NOW_MS))
        short = declared(whole, down=side == "terminal")
        _split_alike(made, data, whole)
        if side == "gateway":
            (_no_place_from_nowhere if name == "gpsd_json" else _no_fix_from_nowhere)(data, whole)
            _finds_back(made, data, GOODS.get(name, GOOD))
        _said_again(name, side, whole)
        return short

    return judge


def _split_alike(made: Callable[[], Any], data: bytes, whole: list[Decoded]) -> None:
    """The same frames however the bytes come: at some places, and each by itself."""
    r = lots(data)
    cuts = sorted({0, len(data), *(r.randrange(len(data) + 1) for _ in range(r.randrange(1, 6)))})
    ways = [cuts, list(range(len(data) + 1))] if r.randrange(8) == 0 else [cuts]
    for ends in ways:
        codec, out = made(), list[Decoded]()
        for start, end in itertools.pairwise(ends):
            out += codec.feed(data[start:end], received_at_ms=NOW_MS)
        assert out == whole, "it depends on where the bytes were cut"


def _finds_back(made: Callable[[], Any], data: bytes, good: bytes) -> None:
    """The next good frame is read whatever came before it."""
    codec = made()
    codec.feed(data, received_at_ms=NOW_MS)
    found = codec.feed(good, received_at_ms=NOW_MS)
    assert len(found) == 1, "it did not find its way back"
    again = (BadFrame("duplicate"), Ignored("TPV"))
    assert isinstance(found[0], LocationFix) or found[0] in again


def _no_fix_from_nowhere(data: bytes, found: Sequence[Decoded]) -> None:
    """S03, by another road: no more fixes than pieces of the bytes that a checksum vouches for."""
    vouched = 0
    for piece in re.split(rb"[\r\n$]", data):
        body, star, tail = piece.partition(b"*")
        told = re.match(rb" *([0-9A-Fa-f]{2})", tail)
        if star and told:
            sums = {grammar.checksum(body), grammar.checksum(body.rstrip(b" "))}
            vouched += int(told[1], 16) in sums
    assert sum(isinstance(each, LocationFix) for each in found) <= vouched


def _no_place_from_nowhere(data: bytes, found: Sequence[Decoded]) -> None:
    """No more fixes than lines that another reader takes for a report with a mode and a place."""
    vouched = 0
    for line in re.split(rb"[\r\n]", data):
        try:
            said = json.loads(line)
        except RecursionError:
            continue
        except ValueError as error:
            vouched += "integer string conversion" in str(error)  # that reader's own limit
            continue
        if isinstance(said, dict) and said.get("class") == "TPV" and said.get("mode") in (2, 3):
            place = (said.get("lat"), said.get("lon"))
            vouched += all(isinstance(each, int | float) for each in place) and any(place)
    assert sum(isinstance(each, LocationFix) for each in found) <= vouched


def _said_again(name: str, side: str, found: Sequence[Message | Any]) -> None:
    """What was read, said by its own side and read again, is the same (sentences round)."""
    writer, reader = (
        codecs.create(name, side=each)
        for each in ("terminal" if side == "gateway" else "gateway", side)
    )
    for each in found:
        if isinstance(each, BadFrame | Ignored | MalformedCheck):
            continue
        if name == "line_terminal" and not _is_ascii(each):
            continue  # heard in UTF-8, said in ASCII
        data = b"".join(frame.data for frame in writer.encode(each))
        if not data:
            continue
        again = list(reader.feed(data, received_at_ms=NOW_MS))
        assert len(again) == 1, "said again it is not one message"
        if isinstance(each, LocationFix):
            _near(each, again[0])
        elif side == "gateway":
            assert again[0] == each, "said again it means something else"


def _is_ascii(message: Message | Any) -> bool:
    return isinstance(message, BookOn) or msgspec.json.encode(message).isascii()


def _near(one: LocationFix, two: Any) -> None:
    if two == BadFrame("duplicate") or (one.estimated and two == BadFrame("mode")):
        return
    if isinstance(two, BadFrame):
        # What rounds to null island, or lies beyond what a two-digit year can say.
        year = 1970 + (one.fixed_at_ms or 0) / 31_556_952_000
        assert two.reason == "null" or not 1969 <= year < 2069 or (one.speed_mps or 0) > 200
        return
    assert abs(one.lat - two.lat) < 1e-5
    assert abs(one.lon - two.lon) < 1e-5


def tracker(channel: str) -> Callable[[bytes], Hashable]:
    """A request to the listener: one place at most, an emergency first, and said again the same."""

    def judge(data: bytes) -> Hashable:
        codec, writer = Osmand(), Osmand(side="terminal")
        said = codec.read(data, received_at_ms=NOW_MS, channel=channel)
        short = declared(said.decoded)
        assert 1 <= len(said.decoded) <= 2
        assert len(said.device) <= 64
        if len(said.decoded) == 2:
            assert said.decoded[0] == StatusReport(code=0)
            assert b"sos" in data.lower() or b"%" in data or b"\\u" in data
        fix = said.decoded[-1]
        if isinstance(fix, LocationFix):
            assert (fix.lat, fix.lon) != (0.0, 0.0)
            for frame in writer.encode(fix):
                (again,) = codec.feed(frame.data, received_at_ms=NOW_MS, channel=frame.channel)
                assert isinstance(again, LocationFix)
                assert (again.lat, again.lon) == (fix.lat, fix.lon)
                assert again.fixed_at_ms == fix.fixed_at_ms
        return bool(said.device), short

    return judge


def splitter(data: bytes) -> Hashable:
    """Against the plain definition: lines by either end, empty ones left out, long ones told of."""
    limit = 1024
    found: list[bytes | str] = []
    *ended, rest = re.split(rb"[\r\n]", data)
    for line in ended:
        found += ["long"] if len(line) > limit else [line] if line else []
    found += ["long"] if len(rest) > limit else []
    r = lots(data)
    for cuts in (
        [0, len(data)],
        sorted({0, len(data), *(r.randrange(len(data) + 1) for _ in range(5))}),
    ):
        lines, out = LineSplitter(limit), list[bytes | str]()
        for start, end in itertools.pairwise(cuts):
            out += [
                "long" if isinstance(each, TooLong) else each
                for each in lines.feed(data[start:end])
            ]
            assert len(lines) <= limit
        assert out == found
    return len(found), "long" in found


def tak(data: bytes) -> Hashable:
    """What a TAK server says: alike however it is cut, and as many pings as there are events at
    most."""
    r = lots(data)
    heard: list[int] = []
    for cuts in (
        [0, len(data)],
        sorted({0, len(data), *(r.randrange(len(data) + 1) for _ in "ab")}),
    ):
        pings: list[bool] = []
        events = Events(lambda pings=pings: pings.append(True))  # type: ignore[misc]
        for start, end in itertools.pairwise(cuts):
            events.feed(data[start:end])
        heard.append(len(pings))
    assert len(set(heard)) == 1
    assert heard[0] <= data.count(b"</event>")
    return min(heard[0], 3)


# --------------------------------------------------------------------------- what is typed


def typed(data: bytes) -> Hashable:
    text = data.decode("utf-8", "surrogatepass") if _is_text(data) else data.decode("latin-1")
    found = keysds.parse(text)
    short = declared([found])
    if isinstance(found, CheckRequest):
        _as_typed(text, found)
    again = keysds.parse(keysds.written(found) or "")
    if not isinstance(found, MalformedCheck):
        assert again == found, "said again it means something else"
    return short


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _as_typed(text: str, check: CheckRequest) -> None:
    """A mark is what stands there: from the first word on, ASCII letters and figures, in order."""
    rest = text.split(maxsplit=1)[1]
    if isinstance(check.key, VehicleKey):
        mark = check.key.vrm or check.key.vin
        shown = re.sub(r"[\s.\-]", "", rest)
        assert shown[: len(mark)].isascii(), "a look-alike was asked as what it looks like"
        assert shown.upper().startswith(mark), "not what was typed"


# --------------------------------------------------------------------------- phones


def phone(data: bytes) -> Hashable:
    """By another reader: no fix that nobody said, none of another phone, and with a key none that
    was not encrypted."""
    wrapped, body = data[:1] == b"E", data[1:] if data[:1] == b"E" else data
    key = "s3cr3t".ljust(32, "\0").encode()
    said = body
    if wrapped:
        box = SecretBox(key).encrypt(body, zlib.crc32(body).to_bytes(24, "big"))
        text = base64.b64encode(bytes(box)).decode()
        said = json.dumps({"_type": "encrypted", "data": text}).encode()
    shorts = []
    for passphrase in ("", "s3cr3t"):
        codec = codecs.create("owntracks", identity="nora/phone", passphrase=passphrase)
        found = list(codec.feed(said, received_at_ms=NOW_MS))
        assert len(found) == 1, "one message, one word"
        shorts.append(declared(found, down=False))
        if not isinstance(found[0], LocationFix | Heartbeat):
            continue
        assert wrapped == bool(passphrase), "believed though it was not encrypted, or not for us"
        read = json.loads(body, parse_int=float)
        assert read["_type"] == "location"
        assert str(read.get("topic") or "nora/phone").endswith("nora/phone"), "of another phone"
        if isinstance(found[0], Heartbeat):
            assert read["t"] in ("p", "l", "L")
            continue
        assert read.get("t") not in ("p", "l", "L"), "where somebody was is not where they are"
        assert (found[0].lat, found[0].lon) == (float(read["lat"]), float(read["lon"]))
        assert abs(found[0].lat) <= 90
        assert abs(found[0].lon) <= 180
        assert found[0].fixed_at_ms == round(read["tst"] * 1000), "another time"
        speed_mps, kmh = found[0].speed_mps, read.get("vel")
        assert speed_mps is None or abs(speed_mps * 3.6 - kmh) < 1e-6 * abs(kmh) + 1e-9
        assert found[0].accuracy_m is None or found[0].accuracy_m > 0
    return tuple(shorts)


# --------------------------------------------------------------------------- location reports


def location(side: str) -> Callable[[bytes], Hashable]:
    """By another road, on the text of the bits: no fix from nowhere, and no emergency."""

    def judge(data: bytes) -> Hashable:
        found = list(codecs.create("lip", side=side).feed(data, received_at_ms=NOW_MS))
        assert found, "silence"
        short = declared(found, down=side == "terminal")
        text = "".join(f"{octet:08b}" for octet in data[1:])
        for each in found:
            if isinstance(each, LocationFix):
                place = _place_of(text)
                assert place.strip("0"), "null island"
                assert round(each.lon * 2**25 / 360) % 2**25 == int(place[:25], 2)
                assert round(each.lat * 2**24 / 180) % 2**24 == int(place[25:], 2)
                again = codecs.create("lip", side="terminal").encode(each)[0].data
                (same,) = codecs.create("lip").feed(again, received_at_ms=NOW_MS)
                if (each.accuracy_m or 0) > 150_000:
                    continue  # rounded up to what is no position any more
                assert isinstance(same, LocationFix), "said again it means something else"
                assert (same.lat, same.lon, same.fixed_at_ms) == (
                    max(each.lat, -90 + 180 / 2**24),
                    each.lon,
                    None if each.fixed_at_ms is None else each.fixed_at_ms // 1000 * 1000,
                )
            if isinstance(each, StatusReport):
                assert each.code == 0
                assert f"{2:08b}" in text, "an emergency that nobody sent"
        return short

    return judge


def pei(data: bytes) -> Hashable:
    """A radio's own line: read alike however it is cut; whose a message is stands in the header in
    front of it; and the dialogue goes on whatever comes, with each message ended once."""
    found = _pei_read([data])
    lot = lots(data)
    cuts = sorted(lot.randrange(len(data) + 1) for _ in range(4))
    parts = [data[start:end] for start, end in itertools.pairwise([0, *cuts, len(data)])]
    assert _pei_read(parts) == found, "cut otherwise, read otherwise"
    clean = "".join(chr(c) for c in data if c in (10, 13) or (c >= 32 and c != 127)).upper()
    short = []
    for each in found:
        short.append(type(each).__name__)
        if isinstance(each, tetra_pei.Sds):
            assert len(each.digits) == -(-each.length_bits // 4), "longer or shorter than was said"
            place = clean.find(each.digits)
            assert place > 0, "a payload that nobody said"
            heads = re.findall(r"\+CTSDSR\s*:((?:(?!CM[ES] ERROR)[^\r\n+])*)", clean)
            assert any(_pei_names(head, each) for head in heads), "a party that nobody named"
        if isinstance(each, tetra_pei.Unreadable):
            assert each.reason in REASONS, "a reason that nobody knows"
    return tuple(dict.fromkeys(short))[:6], _pei_talk(data)


def _pei_read(parts: Iterable[bytes]) -> list[tetra_pei.Event]:
    reader = tetra_pei.TetraPei()
    reader.expect("AT+CMGS=5001001,32", "82040001")
    found = [each for part in parts for each in reader.feed(part, 0.0)]
    return [each for each in found if not isinstance(each, tetra_pei.Prompt)]


def _pei_names(head: str, sds: tetra_pei.Sds) -> bool:
    fields = [field.strip() for field in head.split(",")]
    return sds.length_bits in [
        int(each) for each in fields if re.fullmatch("[0-9]{1,6}", each)
    ] and (sds.calling == fields[1] if len(fields) > 5 else not sds.calling)


def _pei_talk(data: bytes) -> str:
    session, now_s = PeiSession(DIALECTS["plain"]), 1000.0
    session.start(now_s)
    for token in range(3):
        session.submit(
            Part(
                token=token,
                called=ISSI,
                service=12,
                length_bits=32,
                digits="82040001",
                urgency=token,
                until_s=now_s + 100,
            ),
            now_s,
        )
    for start in range(0, len(data), 64):
        session.feed(data[start : start + 64], now_s)
        assert session.next_at_s < now_s + 400, "it waits for ever"
        session.take()
        now_s += 0.5
    session.close("link down")
    assert sorted(each.token for each in session.ended) == [0, 1, 2], "ended twice, or never"
    return session.stage.value


def _place_of(text: str) -> str:
    if text.startswith("00"):
        return text[4:53]
    assert text.startswith("010011")
    after = 8 + {"00": 0, "01": 2, "10": 22}[text[6:8]] + 4
    return text[after : after + 49]


# --------------------------------------------------------------------------- short data


def short_data(data: bytes) -> Hashable:
    """Of one terminal: only declared words, only reports of what it asked to have reported, never
    more held than the bounds say, and no factor in what may be kept of it."""
    codec, found, now_ms = Sds(), list[Decoded](), NOW_MS
    octets: set[int] = set()
    while len(data) > 3:
        channel, length, seconds = ("status", "sds4", "sds1")[data[0] % 3], data[1], data[2]
        pdu, data = data[3 : 3 + length], data[3 + length :]
        now_ms += 1000 * seconds
        said = list(codec.feed(pdu, received_at_ms=now_ms, channel=channel))
        found += said
        if channel == "sds4":
            _no_factor_in(pdu, said)
        octets |= set(pdu)
        for reply in codec.replies():
            assert len(reply.data) == 4
            assert {reply.data[0], reply.data[3]} <= octets, "a report of nothing"
        assert len(codec._copies) <= sds.COPIES_MOST
        messages = codec._parts._messages.values()
        assert len(messages) <= sds_parts.MESSAGES_MOST
        for message in messages:
            assert sum(len(part.data) for part in message.parts.values()) <= sds_parts.BYTES_MOST
    found += codec.lapse(now_ms + sds_parts.WITHIN_MS)
    assert codec.lapses_at_ms is None
    return declared(found)


def _no_factor_in(pdu: bytes, said: list[Decoded]) -> None:
    kept = hushed_sds(pdu)
    assert len(kept) == len(pdu)
    for each in said:
        if isinstance(each, BookOn) and len(each.factor.reveal()) > 3:
            factor = each.factor.reveal()
            if factor.strip("0Z") and factor not in each.officer + each.callsign:
                assert factor.encode() not in kept, "a factor is kept"


# --------------------------------------------------------------------------- MQTT bodies


def payload(channel: str, side: str = "gateway") -> Callable[[bytes], Hashable]:
    def made(which: str) -> Any:
        return codecs.create("terminal_json", side=which, identity=ISSI)

    def judge(data: bytes) -> Hashable:
        found = list(made(side).feed(data, received_at_ms=NOW_MS, channel=channel))
        short = declared(found, down=side == "terminal")
        assert found or (channel == "up/nmea" and not data.strip(BLANK)), "silence"
        if channel == "up/check":
            _as_written(data, found)
        for each in found:
            if isinstance(each, CheckRequest | LocationFix) or side == "terminal":
                _again(each)
        if (
            len(data) <= 16384
            and side == "gateway"
            and channel != "up/nmea"
            and channel != "up/text"
        ):
            _no_other_identity(data, found)
        return short

    def _again(each: Any) -> None:
        if isinstance(each, BadFrame):
            return
        writer = made("terminal" if side == "gateway" else "gateway")
        frames = writer.encode(each)
        for frame in frames:
            if frame.channel == channel:
                again = made(side).feed(frame.data, received_at_ms=NOW_MS, channel=channel)
                assert list(again) == [each], "said again it means something else"

    return judge


def _as_written(data: bytes, found: Sequence[Decoded]) -> None:
    """By another reader: what would be asked is what stands there, once."""
    if not isinstance(found[0], CheckRequest):
        return
    pairs: list[tuple[str, Any]] = []

    def keep(members: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in members}) == len(members), "asked though it stands twice"
        pairs[:] = members
        return dict(members)

    body = json.loads(data, object_pairs_hook=keep)
    key = found[0].key
    if isinstance(key, VehicleKey):
        written = str(body.get("vrm") or body.get("vin"))
        assert written.isascii(), "a look-alike was asked as what it looks like"
        assert re.sub(r"[ .\-]", "", written).upper() == (key.vrm or key.vin)
    assert found[0].ref == body["ref"]


def _no_other_identity(data: bytes, found: Sequence[Decoded]) -> None:
    """M09: whoever names another is not heard."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict) and body.get("issi") not in (None, ISSI):
        assert all(isinstance(each, BadFrame) for each in found), "a forged identity was heard"


# --------------------------------------------------------------------------- a broker's message


def broker() -> Callable[[bytes], Hashable]:
    """The link's own judgement: settled exactly once, counted, never for another terminal."""
    link = MqttLink(
        BrokerSection(name="mqtt"),
        instance="gwt",
        config_path=Path("/x/gateway.toml"),
        clock=FakeClock(NOW_MS),
        meter=FakeMeter(),
        journal=FakeJournal(),
        known=lambda issi: issi in (ISSI, OTHER),
        codecs=codecs.create,
    )

    def judge(data: bytes) -> Hashable:
        head, _, body = data.partition(b"\n")
        retain, name = head[:1] == b"R", head[1:]
        topic = name.decode("utf-8", "replace")
        meter, journal = FakeMeter(), FakeJournal()
        heard: list[Envelope] = []
        settled: list[int] = []
        intake = Intake(
            link="mqtt",
            bearer=Bearer.MQTT,
            clock=FakeClock(NOW_MS),
            meter=meter,
            handle=heard.append,
        )
        received = Received(topic=topic, payload=body, qos=1, retain=retain, mid=1)
        link.receive(received, intake, lambda: settled.append(1))
        assert len(settled) <= 1
        assert not settled or not heard, "acknowledged before it is on record"
        for envelope in heard:
            assert topic.split("/")[:3] == ["radio", envelope.terminal, "up"]
            assert envelope.terminal in (ISSI, OTHER)
            assert not retain
            envelope.settle()
        assert len(settled) == 1, "never acknowledged: it would come for ever"
        assert not any(name == "frame.rejected" for name, _ in journal.lines), "it raised"
        refused = [
            (key, labels)
            for (key, labels) in meter.counts
            if key in ("frames_rejected_total", "fixes_rejected_total")
        ]
        told = tuple(sorted(dict(labels)["reason"] for _, labels in refused))
        said = heard or told or meter.total("frames_received_total")
        assert said or not body.strip(BLANK), "lost without a count"
        assert set(told) <= REASONS
        return told, len(heard), topic.rsplit("/", 1)[-1][:6]

    return judge


# --------------------------------------------------------------------------- HTTP and the PNC


def act(type_: type[msgspec.Struct]) -> Callable[[bytes], Hashable]:
    def judge(data: bytes) -> Hashable:
        try:
            body = requests.body(data, type_)
        except requests.Unclear as unclear:
            return str(unclear)
        assert json.loads(data).items() <= msgspec.to_builtins(body).items()
        return "done"

    return judge


def place(data: bytes) -> Hashable:
    header, _, rest = data.decode("utf-8", "replace").partition("\n")
    epoch, _, after = rest.partition("\n")
    try:
        found, number = requests.place(header, epoch, after or None)
    except requests.Unclear as unclear:
        return str(unclear)
    assert number is None or 0 <= number < 10**15
    assert found is None or "\n" not in found
    return number is None, bool(header)


ASKED = PncQuery(
    check="01TESTC001",
    attempt=1,
    key=VehicleKey(vrm="TE99AAA"),
    key_text="VRM:TE99AAA",
    reason="1",
    justification="",
    originator="PC1001 TESTER/1/BRIDGE ST",
    location="",
    on_behalf_of="",
    asked_at_ms=NOW_MS,
    deadline_s=15.0,
)
GARBLED = {"malformed", "truncated", "charset", "echo", "oversize"}


def pnc(data: bytes) -> Hashable:
    """An answer is whole, about this very question, and says each thing once."""
    try:
        answer = wire.read(data, ASKED)
    except PncGarbled as error:
        why = str(error)
        if why not in GARBLED:
            raise AssertionError("a reason that nobody knows") from error
        return why
    pairs: list[int] = []

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in members}) == len(members), "believed though it stands twice"
        pairs.append(1)
        return dict(members)

    body = json.loads(data, object_pairs_hook=once)
    assert (body["check"], body["attempt"], body["key_text"]) == ("01TESTC001", 1, "VRM:TE99AAA")
    assert (body["result"] == "no_trace") <= (answer.records == ())
    for record in body["records"]:
        assert re.sub(r"[^A-Z0-9]", "", str(record["vrm"]).upper()) == "TE99AAA"
    msgspec.json.encode(answer)
    return len(answer.records), answer.too_many


def export(data: bytes) -> Hashable:
    for status in (200, 503):
        why = asking.refusal(status, data, "gwt")
        assert why.isprintable()
        assert len(why) <= 200
        if not why:
            assert status == 200
            assert json.loads(data)["instance"] == "gwt"
    return why if why.startswith(("status", "what", "another")) else bool(why)


@cache
def _front() -> Front:
    front = Front()
    atexit.register(front.close)
    return front


def http(data: bytes) -> Hashable:
    return _front().judge(data)


# --------------------------------------------------------------------------- configuration


@cache
def _folder() -> Path:
    held = tempfile.TemporaryDirectory(prefix="fuzz-config-")
    atexit.register(held.cleanup)
    folder = Path(held.name)
    for name in (
        "alarms.toml",
        "fleet.toml",
        "people.toml",
        "areas.toml",
        "policy.toml",
        "warnings.toml",
        "gateway.toml",
    ):
        (folder / name).write_bytes((CONFIG / name).read_bytes())
    return folder


def config(name: str) -> Callable[[bytes], Hashable]:
    """One file of the configuration: taken, or ConfigError with findings of one line each."""

    def judge(data: bytes) -> Hashable:
        path = _folder() / name
        good = path.read_bytes()
        path.write_bytes(data)
        try:
            settings.load(_folder() / "gateway.toml")
        except ConfigError as error:
            told = str(error)
            assert told
            return re.sub(r"[0-9]+", "", told)[:60]
        finally:
            path.write_bytes(good)
        return "taken"

    return judge


# --------------------------------------------------------------------------- all of them


def _json(name: str, made: grammar.Made) -> Target:
    return Target(f"json-{name}", made, payload(f"up/{name}"))


def _line_of(codec: str) -> grammar.Made:
    """Lines of its corpus among sentences, each with what a bad line does to it."""
    known = [
        line
        for case in cases(codec)
        for data in heard_of(case)
        for line in data.splitlines(keepends=True)
    ]

    def made(r: Random) -> bytes:
        lines = [grammar.some(r, known) for _ in range(r.randrange(1, 4))]
        noisy = (grammar.noisy(r, line, 40) for line in lines)
        return b"".join(noisy) + (grammar.nmea_stream(r) if grammar.often(r, 30) else b"")

    return made


def _reads_sentences(name: str) -> bool:
    found = codecs.create(name, side="gateway").feed(GOOD, received_at_ms=NOW_MS)
    return [isinstance(each, LocationFix) for each in found] == [True]


OTHER_LINES = [
    name
    for name in sorted(codecs.REGISTRY)
    if codecs.takes_lines(name)
    and name not in {"nmea0183", "line_terminal"}
    and _reads_sentences(name)
]

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("nmea0183", grammar.nmea_stream, stream("nmea0183")),
        Target("gpsd", grammar.gpsd_stream, stream("gpsd_json")),
        *(Target(name, _line_of(name), stream(name)) for name in OTHER_LINES),
        Target("osmand-query", grammar.tracker_query, tracker("query")),
        Target("osmand-json", grammar.tracker_body, tracker("json")),
        Target("lines", grammar.splitter_stream, splitter),
        Target("line-up", grammar.lines_of(grammar.line_up), stream("line_terminal")),
        Target(
            "line-down", grammar.lines_of(grammar.line_down), stream("line_terminal", "terminal")
        ),
        Target("owntracks", grammar.owntracks_body, phone),
        Target("lip", grammar.lip_pdu, location("gateway")),
        Target("lip-down", grammar.lip_pdu, location("terminal")),
        Target("sds", grammar.sds_story, short_data),
        Target("pei", grammar.lines_of(grammar.pei_line), pei),
        Target("keysds", lambda r: grammar.utf8(grammar.keysds_text(r)), typed),
        *(_json(name, made) for name, made in grammar.BODIES.items()),
        *(
            Target(f"json-{name}", grammar.down_body, payload(f"down/{name}", "terminal"))
            for name in ("receipt", "result", "notice")
        ),
        Target("mqtt", grammar.received, broker()),
        Target("http-act", grammar.act_body, act(requests.Act)),
        Target("http-export", grammar.act_body, act(requests.ExportAct)),
        Target("http-place", grammar.place_lines, place),
        Target("http", grammar.http_request, http),
        Target("pnc", grammar.pnc_reply, pnc),
        Target("export-reply", grammar.export_reply, export),
        Target("tak", grammar.tak_stream, tak),
        *(
            Target(
                f"config-{name}",
                grammar.toml((CONFIG / f"{name}.toml").read_text("utf-8")),
                config(f"{name}.toml"),
            )
            for name in ("gateway", "alarms", "fleet", "people", "areas", "policy", "warnings")
        ),
    )
}
