"""Trackers of the T55 kind on a line: NMEA 0183, with their identity and a sentence of their own.

In front of a sentence, or on a line alone, stands who they say they are: an IMEI, a number of
their maker. It is not looked at: who speaks is the line (docs/interfaces.md). Their own sentence is
`$TRCCR,<yyyymmddhhmmss.sss>,<A|V>,<lat>,<lon>,<knots>,<course>,<m>,<battery %>,*hh` in degrees,
judged as a sentence of NMEA is; all others are NMEA.
Source: reference radio-protocols, 4.1-4.3; the table of odd lines beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from adapters.codecs.lines import LineSplitter, TooLong
from adapters.codecs.nmea0183 import KNOT_MPS, SENTENCE_MAX, SPEED_MAX_MPS, Nmea0183, checksum
from gateway.messages import BadFrame, Decoded, FixSource, Frame, Ignored, LocationFix, Message

LINE_MAX = 1024
_IDENTITY = re.compile(rb"(?:IMEI ?)?[0-9A-Fa-f]{8,20}")
_OWN = re.compile(
    r"TRCCR,([0-9]{14})(?:\.([0-9]{1,3}))?,([AV]),"
    r"(-?[0-9]{1,3}\.[0-9]{1,9}),(-?[0-9]{1,3}\.[0-9]{1,9}),"
    r"([0-9]{1,4}(?:\.[0-9]{1,3})?),([0-9]{1,3}(?:\.[0-9]{1,3})?),"
    r"[^,]{0,10},[^,]{0,5},"
)


class T55:
    """gateway.ports.Codec; a tracker hears nothing. accept_estimated: as for Nmea0183."""

    STREAM = True

    def __init__(self, *, side: str = "gateway", accept_estimated: bool = False) -> None:
        self._side = side
        self._lines = LineSplitter(LINE_MAX)
        self._nmea = Nmea0183(side=side, accept_estimated=accept_estimated)

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """Take any slice of the stream; return what is now complete. Never raises on content."""
        out: list[Decoded] = []
        for line in self._lines.feed(data):
            if isinstance(line, TooLong):
                out.append(BadFrame("length"))
            elif self._side == "terminal":
                out.append(Ignored("down"))
            else:
                out += self._line(line, received_at_ms)
        return out

    def encode(self, message: Message) -> Sequence[Frame]:
        """As Nmea0183: on the terminal side a fix, else nothing."""
        return self._nmea.encode(message) if self._side == "terminal" else ()

    def _line(self, line: bytes, received_at_ms: int) -> list[Decoded]:
        line = line.strip(b"\x00\xff \t")
        if _IDENTITY.fullmatch(line):
            return [Ignored("id")]
        if b"$TRCCR," not in line:
            return self._nmea.line(line, received_at_ms=received_at_ms)
        out: list[Decoded] = []
        for sentence in line.split(b"$")[1:]:
            if sentence.startswith(b"TRCCR,"):
                out.append(_own(sentence))
            else:
                out += self._nmea.line(b"$" + sentence, received_at_ms=received_at_ms)
        return out


def _own(sentence: bytes) -> Decoded:
    if len(sentence) > SENTENCE_MAX:
        return BadFrame("length")
    body, star, tail = sentence.partition(b"*")
    if not star:
        return BadFrame("no_checksum")
    told = re.match(rb"[0-9A-Fa-f]{2}", tail)
    if told is None or int(told[0], 16) != checksum(body):
        return BadFrame("crc")
    found = _OWN.fullmatch(body.decode("latin-1"))
    if found is None:
        return BadFrame("decode")
    clock, fraction, valid, lat_text, lon_text, knots, course = found.groups()
    if valid != "A":
        return BadFrame("void")
    lat, lon, speed_mps = float(lat_text), float(lon_text), float(knots) * KNOT_MPS
    if abs(lat) > 90 or abs(lon) > 180 or speed_mps > SPEED_MAX_MPS or float(course) > 360:
        return BadFrame("range")
    if abs(lat) < 1e-6 and abs(lon) < 1e-6:
        return BadFrame("null")
    try:
        moment = datetime.strptime(clock, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return BadFrame("date")
    return LocationFix(
        lat=lat,
        lon=lon,
        fixed_at_ms=round(moment.timestamp()) * 1000 + int((fraction or "").ljust(3, "0")),
        speed_mps=speed_mps,
        course_deg=float(course) % 360,
        source=FixSource.GNSS,
    )
