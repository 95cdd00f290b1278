"""What goes over the air between handset and gateway's radio: SDS, SDS-TL and LIP, bit by bit.

Written from the protocol reference (sections 1.5, 2 and 3) and from nothing of the gateway's
codecs, which an import contract holds: what both sides misread in the same way would pass every
test that asks only whether they agree. The handset's half: it says text, status, reports and
positions, and reads text, status, reports and the request for a position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

SDS_1, SDS_2, SDS_3, SDS_4, STATUS = 9, 10, 11, 12, 13
"""AI services of the PEI."""
TEXT, SIMPLE_TEXT = 0x82, 0x02
IMMEDIATE, SIMPLE_IMMEDIATE = 0x89, 0x09
UDH, PARTED = 0x8A, 0x8C
LIP = 0x0A
LOCATION, SIMPLE_LOCATION = 0x83, 0x03
TEXTS = {TEXT, SIMPLE_TEXT, IMMEDIATE, SIMPLE_IMMEDIATE, UDH, PARTED}
RECEIVED, CONSUMED = 0x00, 0x02
"""Delivery statuses."""
ASK_RECEIVED, ASK_CONSUMED, ASK_BOTH = 1, 2, 3
"""Delivery-report requests."""
GSM_7BIT, LATIN_1, UTF_16 = 0, 1, 26
EMERGENCY = 0
SHORT_REPORTS = range(0x7C00, 0x8000)
SHORT_RECEIVED, SHORT_CONSUMED = 2, 3
ON_DEMAND, BY_INTERVAL, EMERGENCY_REASON = 32, 129, 2
"""Why a position is sent."""
PDU_BITS = 668
TL_HEADER, UDH_HEADER = 4, 10
"""Octets before the text: with a coding and no time stamp; with an 8-bit reference, too."""


class Sdu(msgspec.Struct, frozen=True):
    """User bits of one short data message: as many as `bits` says, padded to octets with zeros."""

    service: int
    data: bytes
    bits: int


def whole(service: int, data: bytes) -> Sdu:
    return Sdu(service, data, 8 * len(data))


class Text(msgspec.Struct, frozen=True):
    """A text, or one part of one. mr: None where no SDS-TL says one. request: 0 to 3. ref: what
    all parts of one text have in common."""

    pid: int
    text: str
    mr: int | None = None
    request: int = 0
    ref: bytes = b""
    part: int = 1
    parts: int = 1


class Parted(msgspec.Struct, frozen=True):
    """One part of a message that was cut as it stood (0x8C): its octets mean something only when
    all are there."""

    mr: int
    request: int
    ref: int
    part: int
    parts: int
    data: bytes


class Report(msgspec.Struct, frozen=True):
    """What became of a message of ours. short: said as a status."""

    status: int
    mr: int
    pid: int = 0
    short: bool = False


class Status(msgspec.Struct, frozen=True):
    value: int


class Locate(msgspec.Struct, frozen=True):
    """Say where you are, now. report: which kind is wanted (3 short)."""

    report: int


class Strange(msgspec.Struct, frozen=True):
    """Nothing that a handset knows. why: for the test that finds it."""

    why: str


Heard = Text | Parted | Report | Status | Locate | Strange


# --------------------------------------------------------------------------- bits


class _Bits:
    """Most significant first, field after field."""

    def __init__(self) -> None:
        self._value = 0
        self.length = 0

    def put(self, value: int, width: int) -> _Bits:
        self._value = self._value << width | value & (1 << width) - 1
        self.length += width
        return self

    def sdu(self) -> Sdu:
        octets = -(-self.length // 8)
        padded = self._value << 8 * octets - self.length
        return Sdu(SDS_4, padded.to_bytes(octets, "big"), self.length)


# --------------------------------------------------------------------------- what is said


def status(value: int) -> Sdu:
    return whole(STATUS, value.to_bytes(2, "big"))


def short_report(kind: int, mr: int) -> Sdu:
    """bits 15-10 = 011111, then 2 bits of kind and 8 of reference."""
    return status(0b011111 << 10 | kind << 8 | mr)


def report(pid: int, delivery: int, mr: int) -> Sdu:
    """An SDS-REPORT that wants no acknowledgement."""
    return whole(SDS_4, bytes([pid, 0x10, delivery, mr]))


def simple_text(text: str, *, pid: int = SIMPLE_TEXT, coding: int = LATIN_1) -> Sdu:
    return whole(SDS_4, bytes([pid, coding]) + written(text, coding))


def text(
    text: str, mr: int, *, pid: int = TEXT, request: int = 0, coding: int = LATIN_1, bit: int = 1
) -> Sdu:
    """An SDS-TRANSFER with a text, neither stored nor stamped. bit: service selection."""
    head = bytes([pid, request << 2 | bit << 1, mr, coding])
    return whole(SDS_4, head + written(text, coding))


def parts(
    text: str, mr: int, *, pdu_bits: int = PDU_BITS, coding: int = LATIN_1, request: int = 0
) -> list[Sdu]:
    """A text too long for one message, behind user-data headers with an 8-bit reference; the
    message reference goes on from part to part."""
    room = pdu_bits // 8 - UDH_HEADER
    data = written(text, coding)
    cuts = [data[at : at + room] for at in range(0, len(data), room)] or [b""]
    return [
        whole(
            SDS_4,
            bytes([UDH, request << 2 | 2, (mr + at) % 256, coding, 5, 0, 3, mr, len(cuts), at + 1])
            + cut,
        )
        for at, cut in enumerate(cuts)
    ]


def short_position(
    lat: float,
    lon: float,
    *,
    speed_mps: float | None = None,
    course_deg: float | None = None,
    reason: int = BY_INTERVAL,
    elapsed: int = 0,
    error: int = 1,
) -> Sdu:
    """A short location report: 84 bits with its PID."""
    bits = _Bits().put(LIP, 8).put(0b00, 2).put(elapsed, 2)
    _place(bits, lat, lon).put(error, 3).put(velocity(speed_mps), 7)
    heading = 15 if course_deg is None else int((course_deg + 11.25) / 22.5) % 16
    return bits.put(heading, 4).put(0, 1).put(reason, 8).sdu()


def long_position(
    place: tuple[float, float] | None,
    *,
    at: tuple[int, int, int, int] | None = None,
    accuracy_m: float | None = None,
    reason: int = BY_INTERVAL,
) -> Sdu:
    """A long one: a circle where an accuracy is known, else a point; no place: a heartbeat.
    at: day, hour, minute, second of the position, UTC."""
    bits = _Bits().put(LIP, 8).put(0b01, 2).put(0b0011, 4)
    if at is None:
        bits.put(0, 2)
    else:
        day, hour, minute, second = at
        bits.put(2, 2).put(day, 5).put(hour, 5).put(minute, 6).put(second, 6)
    if place is None:
        bits.put(0, 4)
    elif accuracy_m is None:
        _place(bits.put(1, 4), *place)
    else:
        _place(bits.put(2, 4), *place).put(_uncertainty(accuracy_m), 6)
    return bits.put(0, 3).put(0, 1).put(0, 1).put(reason, 8).sdu()


def nmea(sentence: str, mr: int | None = None) -> Sdu:
    """A receiver's sentence in the location system's message, coding 0. mr: with SDS-TL."""
    head = bytes([SIMPLE_LOCATION] if mr is None else [LOCATION, 0, mr])
    return whole(SDS_4, head + b"\x00" + sentence.encode("ascii"))


def _place(bits: _Bits, lat: float, lon: float) -> _Bits:
    bits.put(round(lon * 2**25 / 360), 25)
    top = 2**23 - 1
    return bits.put(max(-top, min(top, round(lat * 2**24 / 180))), 24)


def velocity(speed_mps: float | None) -> int:
    """7 bits: km/h up to 28, then by 3.8 % a step; 127 unknown."""
    if speed_mps is None:
        return 127
    kmh = speed_mps * 3.6
    if round(kmh) <= 28:
        return round(kmh)
    return min(126, round(13 + math.log(kmh / 16) / math.log(1.038)))


def _uncertainty(metres: float) -> int:
    """6 bits: the least circle of 2 x 1.2^(K+5) - 4 m that holds it; 63 best effort."""
    return next((k for k in range(63) if 2 * 1.2 ** (k + 5) - 4 >= metres), 63)


# --------------------------------------------------------------------------- characters


def written(text: str, coding: int) -> bytes:
    """Raises UnicodeEncodeError for what the coding has no letter for."""
    match coding:
        case 0:
            return _packed(text)
        case 26:
            return text.encode("utf-16-be")
        case _:
            return text.encode(_charset(coding))


def spelt(data: bytes, coding: int) -> str:
    """What stands there; a coding that is not known reads as Latin-1."""
    match coding:
        case 0:
            return _unpacked(data)
        case 26:
            return data.decode("utf-16-be", "replace")
        case _:
            return data.decode(_charset(coding), "replace")


def _charset(coding: int) -> str:
    return f"iso8859_{coding}" if 1 <= coding <= 10 else "latin-1"


_SAME = frozenset(
    " !\"#%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\r\n"
)
"""Of the GSM 7-bit alphabet what has ASCII's numbers: all that a keypad and an answer need."""


def _packed(text: str) -> bytes:
    """Seven bits a character, the least significant first (GSM 03.38)."""
    value = 0
    for at, each in enumerate(text):
        if each not in _SAME:
            raise UnicodeEncodeError("gsm", text, at, at + 1, "not in this half of the alphabet")
        value |= ord(each) << 7 * at
    return value.to_bytes(-(-7 * len(text) // 8), "little")


def _unpacked(data: bytes) -> str:
    value = int.from_bytes(data, "little")
    septets = [value >> 7 * at & 0x7F for at in range(8 * len(data) // 7)]
    if septets and len(septets) % 8 == 0 and septets[-1] == 0:
        septets.pop()  # seven bits of padding look like one more character
    return "".join(chr(each) if chr(each) in _SAME else "?" for each in septets)


# --------------------------------------------------------------------------- what is heard


def read(sdu: Sdu) -> Heard:
    """What the network handed to a handset."""
    if sdu.service == STATUS:
        return _status(int.from_bytes(sdu.data[:2], "big")) if sdu.bits == 16 else Strange("status")
    if sdu.service != SDS_4 or not sdu.data:
        return Strange("service")
    pid = sdu.data[0]
    if pid == LIP:
        return _lip(sdu)
    if pid < 0x80:
        if pid in {SIMPLE_TEXT, SIMPLE_IMMEDIATE} and len(sdu.data) >= 2:
            return Text(pid, spelt(sdu.data[2:], sdu.data[1] & 0x7F))
        return Strange("pid")
    return _transport(sdu.data)


def _status(value: int) -> Heard:
    if value in SHORT_REPORTS:
        return Report(_LONG[value >> 8 & 3], value & 0xFF, short=True)
    return Status(value)


_LONG = {0: 0x50, 1: 0x52, SHORT_RECEIVED: RECEIVED, SHORT_CONSUMED: CONSUMED}
"""Kind of a short report -> the delivery status that says the same."""


def _transport(data: bytes) -> Heard:
    if len(data) < 3:
        return Strange("short")
    pid, kind = data[0], data[1] >> 4
    if kind == 1:
        return Report(data[2], data[3], pid) if len(data) >= 4 else Strange("short")
    if kind != 0:
        return Strange("type")
    request, stored, mr = data[1] >> 2 & 3, data[1] & 1, data[2]
    rest = data[3:]
    if stored:
        return Strange("storage")  # the gateway has no reason to ask for it
    if pid == PARTED:
        if len(rest) < 3 or rest[0] >> 5 or rest[0] & 0x10:
            return Strange("parts")
        return Parted(mr, request, rest[0] & 0x0F, rest[2], rest[1], rest[3:])
    if pid not in TEXTS or not rest:
        return Strange("pid")
    coding, rest = rest[0] & 0x7F, rest[4 if rest[0] & 0x80 else 1 :]
    if pid != UDH:
        return Text(pid, spelt(rest, coding), mr, request)
    if len(rest) < 6 or rest[1] not in {0, 8} or rest[0] + 1 > len(rest):
        return Strange("header")
    ref = rest[3 : 3 + rest[2] - 2]
    total, part = rest[rest[0] - 1], rest[rest[0]]
    return Text(pid, spelt(rest[rest[0] + 1 :], coding), mr, request, ref, part, total)


def _lip(sdu: Sdu) -> Heard:
    """01 0001, request, 2 bits of report type: the only thing that one asks of a handset here."""
    value = int.from_bytes(sdu.data[1:3].ljust(2, b"\x00"), "big")
    if sdu.bits < 17 or value >> 10 != 0b010001:
        return Strange("lip")
    return Locate(value >> 7 & 3)


def joined(heard: Sequence[Text]) -> Text | None:
    """All parts of one text as one; None while one is missing. The first part's words stand for
    the whole: its PID and what report it asks for."""
    by_part = {each.part: each for each in heard}
    first = by_part.get(1)
    if first is None or set(by_part) != set(range(1, first.parts + 1)):
        return None
    return msgspec.structs.replace(
        first, text="".join(by_part[n].text for n in sorted(by_part)), part=1, parts=1
    )
