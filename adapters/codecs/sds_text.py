"""Text in an SDS: its codings, its timestamp, and what networks put around it. Pure.

A coding that nobody knows is read as ISO-8859-1: better a wrong letter in the echo than no answer.
The timestamp has no year: it is the one that puts it nearest to when it was received.
Source: reference radio-protocols, 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

GSM7 = 0
LATIN1 = 1
UTF16 = 26
VISCII = 27

NAMES = dict(
    enumerate(
        (
            *(f"iso8859_{n}" for n in (*range(1, 11), 13, 14, 15)),
            *(f"cp{n}" for n in (437, 737, 850, 852, 855, 857, 860, 861, 863, 865, 866, 869)),
            "utf_16_be",
        ),
        start=1,
    )
)
"""The codings that Python has a codec for."""

ESCAPE = 0x1B
_GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_MORE = dict(
    zip(
        (0x0A, 0x14, 0x28, 0x29, 0x2F, 0x3C, 0x3D, 0x3E, 0x40, 0x65),
        "\f^{}\\[~]|€",
        strict=True,
    )
)
"""Behind an escape."""
_SEPTETS = {
    **{letter: (n,) for n, letter in enumerate(_GSM) if n != ESCAPE},
    **{letter: (ESCAPE, n) for n, letter in _GSM_MORE.items()},
}
_CR = 0x0D
"""What fills a last octet that would else read as one more `@`."""

_VISCII_LOW = {2: "Ẳ", 5: "Ẵ", 6: "Ẫ", 20: "Ỷ", 25: "Ỹ", 30: "Ỵ"}
_VISCII_HIGH = (
    "ẠẮẰẶẤẦẨẬẼẸẾỀỂỄỆỐỒỔỖỘỢỚỜỞỊỎỌỈỦŨỤỲÕắằặấầẩậẽẹếềểễệốồổỗỠƠộờởịỰỨỪỬơớƯ"
    "ÀÁÂÃẢĂẳẵÈÉÊẺÌÍĨỳĐứÒÓÔạỷừửÙÚỹỵÝỡưàáâãảăữẫèéêẻìíĩỉđựòóôõỏọụùúũủýợỮ"
)
_VISCII = "".join(
    _VISCII_HIGH[n - 128] if n >= 128 else _VISCII_LOW.get(n, chr(n)) for n in range(256)
)
_VISCII_OCTET = {letter: n for n, letter in enumerate(_VISCII)}

_OPTA = re.compile(r"[A-Za-z ]+#[0-9]{16}")
"""Put in front by German networks: who calls."""
_ITSI = re.compile(r"(?:\x1a\x00|\r\r)[0-9]{16}\Z")
"""... and behind it."""
_TRIM = "\x00 \r\n\t"


# --------------------------------------------------------------------------- codings


def decoded(coding: int, data: bytes) -> str:
    """The text, whatever the octets are: one that means nothing becomes U+FFFD."""
    match coding:
        case 0:
            return _unpacked(data)
        case 27:
            return "".join(_VISCII[octet] for octet in data)
        case _:
            return data.decode(NAMES.get(coding, "latin_1"), "replace")


def encoded(text: str, codings: Sequence[int]) -> tuple[int, bytes]:
    """In the first of these codings that has every letter; in the last with `?` for the others."""
    for coding in codings:
        data = _exactly(text, coding)
        if data is not None:
            return coding, data
    coding = codings[-1]
    if coding in NAMES:
        return coding, text.encode(NAMES[coding], "replace")
    table = _SEPTETS if coding == GSM7 else _VISCII_OCTET
    data = _exactly("".join(each if each in table else "?" for each in text), coding)
    return coding, data or b""


def _exactly(text: str, coding: int) -> bytes | None:
    if coding == GSM7:
        return _packed(text)
    if coding == VISCII:
        octets = [_VISCII_OCTET.get(letter) for letter in text]
        return None if None in octets else bytes(octet for octet in octets if octet is not None)
    try:
        return text.encode(NAMES[coding])
    except UnicodeEncodeError:
        return None


def _unpacked(data: bytes) -> str:
    """Septets, least significant bit first; of seven bits left over or eight, none is a letter."""
    bits = int.from_bytes(data, "little")
    septets = [bits >> 7 * n & 0x7F for n in range(len(data) * 8 // 7)]
    if septets and len(data) * 8 % 7 == 0 and septets[-1] in (0, _CR):
        septets.pop()  # the seven bits that no letter needed
    out: list[str] = []
    escaped = False
    for septet in septets:
        if escaped:
            out.append(_GSM_MORE.get(septet, _GSM[septet] if septet != ESCAPE else " "))
            escaped = False
        elif septet == ESCAPE:
            escaped = True
        else:
            out.append(_GSM[septet])
    return "".join(out)


def _packed(text: str) -> bytes | None:
    septets: list[int] = []
    for letter in text:
        found = _SEPTETS.get(letter)
        if found is None:
            return None
        septets += found
    if len(septets) % 8 == 7:
        septets.append(_CR)
    bits = sum(septet << 7 * n for n, septet in enumerate(septets))
    return bits.to_bytes((len(septets) * 7 + 7) // 8, "little")


# --------------------------------------------------------------------------- decorations


def undecorated(text: str) -> str:
    """Without filler, and without who sent it (a subscriber's identity in front or behind).

    What would leave nothing is no decoration: it is what was sent.
    """
    bare = _ITSI.sub("", text)
    bare = bare.strip(_TRIM)
    found = _OPTA.match(bare)
    rest = bare[found.end() :].strip(_TRIM) if found is not None else ""
    return rest or bare


# --------------------------------------------------------------------------- timestamps


class Stamp(msgspec.Struct, frozen=True):
    """24 bits of the sender's clock. frame: 0 its local time, 1 UTC, else not known."""

    frame: int
    month: int
    day: int
    hour: int
    minute: int


def stamp(octets: bytes) -> Stamp:
    """frame 2, reserved 2, month 4, day 5, hour 5, minute 6."""
    bits = int.from_bytes(octets[:3], "big")
    return Stamp(
        frame=bits >> 22,
        month=bits >> 16 & 0xF,
        day=bits >> 11 & 0x1F,
        hour=bits >> 6 & 0x1F,
        minute=bits & 0x3F,
    )


def moment(sent: Stamp, received_at_ms: int) -> int | None:
    """When that was, ms since the epoch; None for a clock that is not UTC, or for no such time."""
    if sent.frame != 1:
        return None
    received = datetime.fromtimestamp(received_at_ms / 1000, tz=UTC)
    found: list[datetime] = []
    for year in range(received.year - 4, received.year + 5):
        # Four years each way, for a 29th of February.
        try:
            found.append(datetime(year, sent.month, sent.day, sent.hour, sent.minute, tzinfo=UTC))
        except ValueError:
            continue

    def apart(each: datetime) -> timedelta:
        return abs(each - received)

    return round(min(found, key=apart).timestamp() * 1000) if found else None
