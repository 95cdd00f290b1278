"""What of the bytes that a link hears may be kept: all of it but second factors (pure).

By the codecs' own words: what is read as a booking keeps its form with noughts for the factor, so
that it is a booking when it is played again. What cannot be read might have been meant as one:
there letters become Z (no verb of KeySDS) and digits 0, and whatever is wrong with it stays wrong.
An enquiry, a status, a sentence of a receiver hold no factor and stay as they came.

Rule: what is not surely free of a factor is blotted out, not what surely is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from adapters.codecs import keysds, sds_pdu, sds_text
from adapters.codecs.line_terminal import LINE_MAX
from adapters.codecs.sds_parts import PARTS_MOST
from adapters.codecs.terminal_json import TerminalJson
from gateway.messages import BookOff, BookOn, CheckRequest, Secret
from gateway.ports import OPENED, Hush

_ENQUIRIES = frozenset({"?", "X", "A", "E", "J", "V", "T", "VIN", "N", "P"})
_LONE_FIGURE = re.compile(r"(?<!\S)[0-9]{4,}(?!\S)")
_HARMLESS = frozenset({"issi", "t", "code", "book", "second", "privacy", "check"})
"""Members of a status; one that is read and has no others holds no factor."""
_BOOKING = frozenset({"issi", "t", "book", "second", "officer", "callsign"})
_SENTENCE_HEAD = 6
"""`$GPRMC`: what stays of a sentence in which something else stands, too."""
_BLOTS = bytes(
    0x30 if 0x30 <= each <= 0x39 else 0x5A if each < 0x80 and chr(each).isalpha() else each
    for each in range(256)
)


def blotted(data: bytes) -> bytes:
    """Its form alone: figures are noughts, letters Z, whatever is no ASCII as it came. Signs may be
    part of a factor, but none without its letters and figures is one."""
    return data.translate(_BLOTS)


def hushed_text(text: str) -> str:
    """Of what an officer typed."""
    words = text.split()
    if not words:
        return text
    parsed = keysds.parse(text)
    if isinstance(parsed, BookOn):
        secret = words[1] if words[0].upper() == "PIN" else words[2]
        at = text.rindex(secret) if words[0].upper() == "PIN" else _third(text)
        return f"{text[:at]}{'0' * len(secret)}{text[at + len(secret) :]}"
    if isinstance(parsed, BookOff | CheckRequest):
        return text
    if words[0].upper() in _ENQUIRIES:
        # A figure that stands alone: `P 4711` was meant to be `PIN 4711`.
        return _LONE_FIGURE.sub(lambda found: "0" * len(found.group()), text)
    return blotted(text.encode("utf-8", "replace")).decode("utf-8")


def _third(text: str) -> int:
    """Where the third word of a text begins."""
    found = re.match(r"\s*\S+\s+\S+\s+", text)
    assert found is not None
    return found.end()


class LineHush:
    """Of a line_terminal: line by line, each with its end, when its end has come. most, judge: so
    long a line may be, and what may be kept of one."""

    most = LINE_MAX

    @staticmethod
    def judge(line: bytes) -> bytes:
        return hushed_line(line)

    def __init__(self) -> None:
        self._held = bytearray()
        self._broken = False
        """What is held belongs to a line that was too long, and is blotted out."""

    def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
        del at_ms
        if channel == OPENED:
            return (*self.rest(), (OPENED, b""))
        self._held += data
        kept = bytearray()
        while (end := _line_end(self._held)) is not None:
            line, sign = bytes(self._held[:end]), bytes(self._held[end : end + 1])
            too_long = self._broken or len(line) > self.most
            kept += (blotted(line) if too_long else self.judge(line)) + sign
            self._broken = False
            del self._held[: end + 1]
        if len(self._held) > self.most:
            kept += blotted(bytes(self._held))
            self._held.clear()
            self._broken = True
        return ((channel, bytes(kept)),) if kept else ()

    def rest(self) -> Sequence[tuple[str, bytes]]:
        held = blotted(bytes(self._held))
        self._held.clear()
        self._broken = False
        return (("", held),) if held else ()


def _line_end(data: bytearray) -> int | None:
    found = [at for at in (data.find(b"\r"), data.find(b"\n")) if at >= 0]
    return min(found) if found else None


def hushed_line(line: bytes) -> bytes:
    """Of a line of a line_terminal, without its end."""
    if b"$" in line or line.lstrip(b"\x00\xff").startswith(b"!"):
        before, dollar, sentence = line.partition(b"$")
        if not dollar:
            before, sentence = b"", line
        if b" " in sentence.strip():
            # No sentence has a blank, and no factor comes without one before it: here are two
            # lines that lost what was between them.
            head = sentence[: _SENTENCE_HEAD - 1]
            sentence = head + blotted(sentence[_SENTENCE_HEAD - 1 :])
        return blotted(before) + dollar + sentence
    try:
        text = line.strip(b"\x00\xff").decode("utf-8")
    except UnicodeDecodeError:
        return blotted(line)
    if any(each < " " and each != "\t" for each in text):
        return blotted(line)
    if text.lstrip().startswith("#"):
        fine = re.fullmatch(r"\s*#(?:S [0-9]{1,5}|A [0-9A-Z]{4} [1-9] [DR])\s*", text, re.I)
        return line if fine else blotted(line)
    kept = hushed_text(text).encode("utf-8")
    at = line.find(text.encode("utf-8"))
    return line[:at] + kept + line[at + len(text.encode("utf-8")) :]


class JsonHush:
    """Of a broker: datagram by datagram; the channel is `flags:prefix/issi/up/what`."""

    def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
        what = "/".join(channel.rsplit("/", 2)[1:])
        match what:
            case "up/text":
                kept = _hushed_datagram(data)
            case "up/check" | "up/fix" | "up/nmea" | "up/ack":
                kept = data
            case _:
                kept = _hushed_status(data, at_ms)
        return ((channel, kept),)

    def rest(self) -> Sequence[tuple[str, bytes]]:
        return ()


def _hushed_datagram(data: bytes) -> bytes:
    try:
        return hushed_text(data.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return blotted(data)


def _hushed_status(data: bytes, at_ms: int) -> bytes:
    identity = ""
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return blotted(data)
    if not isinstance(raw, dict):
        return blotted(data)
    if isinstance(raw.get("issi"), str):
        identity = raw["issi"]
    codec = TerminalJson(identity=identity, max_payload=len(data))

    def read(what: bytes) -> list[tuple[str, str]]:
        decoded = codec.feed(what, received_at_ms=at_ms, channel="up/status")
        return [(type(each).__name__, getattr(each, "reason", "")) for each in decoded]

    found = read(data)
    if set(raw) <= _HARMLESS and "BadFrame" not in {name for name, _ in found}:
        return data
    kept = msgspec.json.encode(
        {
            name if name.isidentifier() and name.islower() else "z": _kept_value(name, value)
            for name, value in raw.items()
        }
    )
    # A booking that is none (its factor given twice) must not become one.
    return kept if read(kept) == found else blotted(data)


def _kept_value(name: str, value: object) -> object:
    if name == "factor":
        return "0" * len(str(value))
    return value if name in _BOOKING else _blotted_value(value)


def _blotted_value(value: object) -> object:
    match value:
        case str():
            return blotted(value.encode("utf-8", "replace")).decode("utf-8")
        case bool() | None:
            return value
        case int() | float():
            return 0
        case list():
            return [_blotted_value(each) for each in value]
        case dict():
            return {name: _blotted_value(each) for name, each in value.items()}
    return None


class SdsHush:
    """Of a TETRA terminal: SDS by SDS, the channel (or the end of it) is the SDS type."""

    def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
        del at_ms
        kept = data if channel.rsplit("/", 1)[-1] == "status" else hushed_sds(data)
        return ((channel, kept),)

    def rest(self) -> Sequence[tuple[str, bytes]]:
        return ()


_TEXTS = frozenset({0x82, 0x89})
_HEADERS = {b"\x05\x00\x03": 6, b"\x06\x08\x04": 7}
"""How the user data header of a part begins, and how long it is."""


def hushed_sds(data: bytes) -> bytes:
    """One SDS, as long as it came. Of a text in parts, or of what nobody reads, the form alone:
    which part a factor stands in cannot be known from one of them."""
    if not data or data[0] == 0x0A:
        return data
    if data[0] == 0x03:
        return data[:1] + _hushed_location(data[1:])
    if data[0] in (0x02, 0x09):
        return data[:1] + _hushed_coded(data[1:])
    if data[0] < 0x80:
        return data[:1] + bytes(len(data) - 1)
    try:
        pdu = sds_pdu.read(data)
    except sds_pdu.Wrong:
        return data[:1] + bytes(len(data) - 1)
    if isinstance(pdu, sds_pdu.Report | sds_pdu.Ack) and len(data) == 4:
        return data
    if not isinstance(pdu, sds_pdu.Transfer):
        return data[:2] + bytes(len(data) - 2)
    head = data[: len(data) - len(pdu.data)]
    if pdu.pid in _TEXTS:
        return head + _hushed_coded(pdu.data)
    if pdu.pid == 0x83:
        return head + _hushed_location(pdu.data)
    if pdu.pid in (0x8A, 0x8C):
        return head + _hushed_part(pdu.pid, pdu.data)
    return head + bytes(len(pdu.data))


def _hushed_location(data: bytes) -> bytes:
    """Sentences as on a line, and the eight octets of a position: what else stands there may be a
    text whose PID lost one bit."""
    if data[:1] == b"\x00" and b"$" in data:
        return data[:1] + re.sub(rb"[^\r\n]+", lambda each: hushed_line(each.group()), data[1:])
    whole = data[:1] == b"\x80" and len(data) == 9
    return data if whole else data[:1] + b"Z" * len(data[1:])


def _hushed_part(pid: int, data: bytes) -> bytes:
    """The octets that say which part of which message it is stay, if that is what they say."""
    if pid == 0x8C:
        keep = 4 if data[:1] and data[0] & 0x10 else 3
    else:
        start = 1 + (3 if data[:1] and data[0] & 0x80 else 0)
        keep = start + _HEADERS.get(data[start : start + 3], 0)
    total = data[keep - 2] if len(data) >= keep else 0
    keep = keep if 0 < total <= PARTS_MOST else 0
    return data[:keep] + b"Z" * (len(data) - keep)


def _hushed_coded(data: bytes) -> bytes:
    """Coding, timestamp, text."""
    start = 1 + (3 if data[:1] and data[0] & 0x80 else 0)
    coding, octets = data[:1], data[start:]
    if not octets:
        return data
    bare = sds_text.undecorated(sds_text.decoded(coding[0] & 0x7F, octets))
    kept = hushed_text(bare)
    if not bare.isascii() and not isinstance(keysds.parse(bare), CheckRequest):
        return data[:start] + b"Z" * len(octets)  # its letters may be others, an octet further on
    if kept == bare:
        return data
    again = sds_text.encoded(kept, (coding[0] & 0x7F,))[1] if coding[0] & 0x7F < 28 else b""
    same = len(again) == len(octets)
    return data[:start] + (again if same else b"Z" * len(octets))


class PeiHush:
    """Of a TETRA radio's PEI: line by line. What stands behind a `+CTSDSR` is one SDS in hex; what
    else might be a part of one has noughts for its digits."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._broken = False
        self._service = ""
        """AI service of the header that was heard last, for the payload that follows it."""

    def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
        del at_ms
        if channel == OPENED:
            return (*self.rest(), (OPENED, b""))
        self._held += data
        kept = bytearray()
        while (end := _line_end(self._held)) is not None:
            line, sign = bytes(self._held[:end]), bytes(self._held[end : end + 1])
            kept += (_noughts(line) if self._broken else self._hushed(line)) + sign
            self._broken = False
            del self._held[: end + 1]
        if len(self._held) > LINE_MAX:
            kept += _noughts(bytes(self._held))
            self._held.clear()
            self._broken = True
        return ((channel, bytes(kept)),) if kept else ()

    def rest(self) -> Sequence[tuple[str, bytes]]:
        held = _noughts(bytes(self._held))
        self._held.clear()
        self._broken, self._service = False, ""
        return (("", held),) if held else ()

    def _hushed(self, line: bytes) -> bytes:
        if not line.strip():
            return line
        if _PAYLOAD.fullmatch(line):
            service, self._service = self._service, ""
            return _hushed_digits(line, service)
        header = _HEADER.search(line)
        if header is None:
            self._service = ""
            return _blanked(line, _LONG if _IDENTITIES.fullmatch(line) else _RUN)
        self._service = header.group(1).decode()
        head = _blanked(line[: header.start()]) + line[header.start() : header.end(1)]
        *fields, last = line[header.end(1) :].split(b",")
        kept = [
            field if at in _WHO and _FIGURES.fullmatch(field) else _blanked(field)
            for at, field in enumerate(fields)
        ]
        before = fields[-1].strip() if fields else b""
        if _PAYLOAD.fullmatch(last) and (
            len(fields) >= _FIELDS or not last.strip().isdigit() or _as_long(last.strip(), before)
        ):
            # On the same line: as long as the field before it says, or like no identity.
            last = _hushed_digits(last, self._service)
            self._service = ""
        elif len(fields) not in _WHO or not _FIGURES.fullmatch(last):
            last = _blanked(last)
        return head + b",".join((*kept, last))


_HEADER = re.compile(rb"\+CTSDSR *: *([0-9]{1,2}) *(?=,)", re.IGNORECASE)
_FIELDS = 7
_WHO = (1, 3)
"""Fields of a header that are identities (the first is empty: it is what stands before a comma)."""
_PAYLOAD = re.compile(rb"[ \x00]*[0-9A-Fa-f]{4,}[ \x00]*")
_FIGURES = re.compile(rb" *[0-9]{0,17} *")
_IDENTITIES = re.compile(
    rb"\+(?:CNUM[FSD]|CTGS|CTICN|CTCC|CTXG): *[ -~]{0,60}|[0-9], *[0-9]{1,17} *(?:,[ -~]{0,40})?"
    rb"|\+CMGS: \([-()0-9, ]{0,120}",
    re.IGNORECASE,
)
"""Lines in which long figures are who somebody is."""
_RUN = re.compile(rb"[0-9A-Fa-f]{6,}")
_LONG = re.compile(rb"[0-9A-Fa-f]{18,}|(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{5,}")
"""Longer than any identity, or with a digit that none has."""
_HEX = bytes(
    0x30 if chr(each) in "0123456789abcdefABCDEF" and each < 0x80 else each for each in range(256)
)


def _noughts(data: bytes) -> bytes:
    return data.translate(_HEX)


def _blanked(line: bytes, runs: re.Pattern[bytes] = _RUN) -> bytes:
    """Noughts for whatever may be a piece of a payload."""
    return runs.sub(lambda run: _noughts(run.group()), line)


def _as_long(digits: bytes, bits: bytes) -> bool:
    return bits.isdigit() and len(digits) in {-(-int(bits) // 4), -(-int(bits) // 8) * 2}


def _hushed_digits(line: bytes, service: str) -> bytes:
    """One payload as it stands on a line; an odd digit at its end belongs to it."""
    digits = line.strip(b" \x00")
    match service:
        case "13" if len(digits) == 4:
            return line
        case "12" | "":
            octets = hushed_sds(bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode()))
            kept = octets.hex().upper().encode()[: len(digits)]
        case _:
            kept = _noughts(digits)
    return line.replace(digits, kept)


class NothingToHush:
    """Of what carries no factor: a receiver, a tracker. As it came."""

    def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
        del at_ms
        return ((channel, data),)

    def rest(self) -> Sequence[tuple[str, bytes]]:
        return ()


HUSHES: dict[str, Callable[[], Hush]] = {
    "line_terminal": LineHush,
    "terminal_json": JsonHush,
    "sds": SdsHush,
    "tetra": PeiHush,
}
"""Codecs, and what a TETRA radio's line is called, in which a booking can be said
(tests/adapters/codecs/test_hush.py asks each codec of the registry)."""


def hush_of(codec: str) -> Callable[[], Hush]:
    """For a link that runs this codec. KeyError for a name that is neither in HUSHES nor a codec in
    which nobody can book: what is not known to hold no factor is not recorded."""
    if codec in HUSHES:
        return HUSHES[codec]
    from adapters.codecs import create  # each codec is there only after this module is

    terminal = create(codec, side="terminal")
    booking = BookOn(officer="1", factor=Secret("0000"))
    sent = msgspec.structs.replace(booking, sent_at_ms=0)
    if terminal.encode(booking) or terminal.encode(sent):
        raise KeyError(codec)
    return NothingToHush
