"""NMEA 0183 sentences to fixes: a framer of our own, pynmea2 behind one validating parse.

Initial conditions of the problem. Receivers splice sentences, start in the middle of one, put an
identity before the `$`, repeat the same second once per constellation, and say "valid" of dead
reckoning and simulation. pynmea2 1.19 reads a void position as 0.0, 0.0, takes 99.99 degrees and a
missing checksum, and leaks conversion errors from its lazy attributes. So: frame on every `$`,
verify the checksum here, hand one clean sentence over, read every attribute inside one `try`, and
judge each number ourselves. Source: reference radio-protocols, 4.1-4.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import pynmea2

from adapters.codecs.lines import LineSplitter, TooLong
from gateway.messages import BadFrame, Decoded, FixSource, Frame, Ignored, LocationFix, Message

KNOT_MPS = 0.514444
SENTENCE_MAX = 120
"""The standard says 82; real receivers send a little more."""
LINE_MAX = 1024
SPEED_MAX_MPS = 400 * KNOT_MPS
ROLLOVER = timedelta(weeks=1024)
ROLLOVER_BEFORE = timedelta(weeks=512)
DAY = timedelta(days=1)
FUTURE_SLACK = timedelta(days=1)
RMC_MEMORY = 30
"""Sentences for which GGA and GLL make no fix after an RMC was heard: it says the same and more."""
SEEN_MOST = 8
TIMED_TYPES = {"RMC", "GGA", "GLL", "ZDA"}


class Nmea0183:
    """A line of sentences (gateway.ports.Codec): fixes in; on the terminal side, fixes out.

    accept_estimated: let dead reckoning (mode E, quality 6) through, flagged. received_at_ms is the
    reference date: what a two-digit year and a week roll-over are judged against.
    """

    def __init__(self, *, side: str = "gateway", accept_estimated: bool = False) -> None:
        self._side = side
        self._accept_estimated = accept_estimated
        self._lines = LineSplitter(LINE_MAX)
        self._date: date | None = None
        self._last: datetime | None = None
        self._since_rmc = RMC_MEMORY
        self._seen: list[tuple[str, str, float, float]] = []

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """Take any slice of the stream; return what is now complete. Never raises on content."""
        out: list[Decoded] = []
        for line in self._lines.feed(data):
            if isinstance(line, TooLong):
                out.append(BadFrame("length"))
            else:
                out += self.line(line, received_at_ms=received_at_ms)
        return out

    def encode(self, message: Message) -> Sequence[Frame]:
        """A fix as one RMC sentence; other messages have no word here."""
        if not isinstance(message, LocationFix):
            return ()
        return (Frame(data=rmc(message) + b"\r\n"),)

    def line(self, line: bytes, *, received_at_ms: int) -> list[Decoded]:
        """All sentences of one line; resynchronises on every `$`."""
        out: list[Decoded] = []
        chunks = line.strip(b"\x00\xff \t").split(b"$")
        for place, chunk in enumerate(chunks):
            if place == 0:
                # An identity before the first `$` is no error; a line without any `$` is.
                if len(chunks) == 1 and chunk and not chunk.startswith(b"!"):
                    out.append(BadFrame("decode"))
                elif len(chunks) == 1 and chunk:
                    out.append(Ignored("AIS"))
                continue
            out.append(self._sentence(b"$" + chunk, received_at_ms))
        return out

    def _sentence(self, raw: bytes, received_at_ms: int) -> Decoded:
        if len(raw) > SENTENCE_MAX:
            return BadFrame("length")
        if b"*" not in raw:
            return BadFrame("no_checksum")
        body, _, tail = raw[1:].partition(b"*")
        digits = re.match(rb" *([0-9A-Fa-f]{2})(?![0-9A-Fa-f])", tail.ljust(3))
        if digits is None:
            # One digit, or more than two: some devices append characters after the checksum.
            digits = re.match(rb" *([0-9A-Fa-f]{2})", tail)
            if digits is None:
                return BadFrame("crc")
        want = int(digits.group(1), 16)
        if checksum(body) != want:
            # Blanks before the star are not always counted by those who write them.
            body = body.rstrip(b" ")
            if checksum(body) != want:
                return BadFrame("crc")
        try:
            text = body.decode("ascii")
        except UnicodeDecodeError:
            return BadFrame("decode")
        return self._parse(text, received_at_ms)

    def _parse(self, text: str, received_at_ms: int) -> Decoded:
        kind = text.split(",", 1)[0]
        kind = kind[2:5] if not kind.startswith("P") else kind[:4]
        self._since_rmc = min(RMC_MEMORY, self._since_rmc + 1)
        if kind not in TIMED_TYPES:
            return Ignored(kind or "?")
        now = datetime.fromtimestamp(received_at_ms / 1000, tz=UTC)
        try:
            sentence = pynmea2.parse(f"${text}*{checksum(text.encode()):02X}", check=True)
            match kind:
                case "RMC":
                    return self._rmc(sentence, now)
                case "ZDA":
                    self._date = date(
                        int(sentence.data[3]), int(sentence.data[2]), int(sentence.data[1])
                    )
                    return Ignored(kind)
                case "GGA":
                    return self._gga(sentence, now)
                case _:
                    return self._gll(sentence, now)
        except _Rejected as rejected:
            return BadFrame(rejected.reason)
        except pynmea2.ParseError:
            return BadFrame("decode")
        except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
            # pynmea2's lazy attributes leak these (measured); the sentence cannot be read.
            return BadFrame("decode")

    def _rmc(self, sentence: pynmea2.NMEASentence, now: datetime) -> Decoded:
        fields = _padded(sentence.data, 12)
        if fields[1] != "A":
            raise _Rejected("void")
        # Old receivers put the mode where E/W of the magnetic variation stands.
        mode = fields[11][:1] or (
            fields[10] if fields[10] in {"A", "D", "N", "E", "S", "M"} else ""
        )
        estimated = self._mode(mode)
        lat, lon = _position(fields[2:6])
        moment, repaired = self._dated(_time(fields[0]), _ddmmyy(fields[8]), now)
        self._date = moment.date()
        self._since_rmc = 0
        self._once("RMC", fields[0], lat, lon)
        return LocationFix(
            lat=lat,
            lon=lon,
            fixed_at_ms=round(moment.timestamp() * 1000),
            speed_mps=_speed(fields[6]),
            course_deg=_course(fields[7]),
            source=FixSource.GNSS,
            repaired=repaired,
            estimated=estimated,
        )

    def _gga(self, sentence: pynmea2.NMEASentence, now: datetime) -> Decoded:
        fields = _padded(sentence.data, 9)
        quality = fields[5]
        if quality in ("", "0"):
            raise _Rejected("void")
        if quality not in {"1", "2", "3", "4", "5", "6"}:
            raise _Rejected("mode")
        estimated = self._mode("E" if quality == "6" else "A")
        lat, lon = _position(fields[1:5])
        if self._since_rmc < RMC_MEMORY:
            return Ignored("GGA")
        hdop = _number(fields[7])
        return self._undated("GGA", fields[0], lat, lon, now, estimated, hdop)

    def _gll(self, sentence: pynmea2.NMEASentence, now: datetime) -> Decoded:
        fields = _padded(sentence.data, 7)
        if fields[5] != "A":
            raise _Rejected("void")
        estimated = self._mode(fields[6][:1])
        lat, lon = _position(fields[0:4])
        if self._since_rmc < RMC_MEMORY:
            return Ignored("GLL")
        return self._undated("GLL", fields[4], lat, lon, now, estimated, None)

    def _undated(
        self,
        kind: str,
        clock: str,
        lat: float,
        lon: float,
        now: datetime,
        estimated: bool,
        hdop: float | None,
    ) -> Decoded:
        """GGA and GLL carry no date: that of the last RMC or ZDA, midnight minded; else today."""
        at = _time(clock)
        day = self._date
        if day is None or abs(now.date() - day) > DAY:
            # Nearest to now: shortly after midnight a fix may still be of yesterday.
            moment = min(
                (datetime.combine(now.date() + shift * DAY, at, UTC) for shift in (-1, 0, 1)),
                key=lambda candidate: abs(candidate - now),
            )
        else:
            moment = datetime.combine(day, at, UTC)
            if self._last is not None and self._last - moment > DAY / 2:
                moment += DAY
                self._date = moment.date()
        self._last = moment
        self._once(kind, clock, lat, lon)
        return LocationFix(
            lat=lat,
            lon=lon,
            fixed_at_ms=round(moment.timestamp() * 1000),
            accuracy_m=hdop * 5.0 if hdop is not None else None,
            source=FixSource.GNSS,
            estimated=estimated,
        )

    def _mode(self, mode: str) -> bool:
        """Whether the fix is estimated; raises for what is no fix of this moment and place."""
        if mode == "N":
            raise _Rejected("void")
        if mode == "E" and self._accept_estimated:
            return True
        if mode in {"E", "S", "M"}:
            raise _Rejected("mode")
        return False

    def _dated(self, at: time, day: date, now: datetime) -> tuple[datetime, bool]:
        """The moment, with a GPS week roll-over repaired when that lands not in the future."""
        moment = datetime.combine(day, at, UTC)
        repaired = False
        if moment < now - ROLLOVER_BEFORE:
            mended = moment + ROLLOVER
            if mended <= now + FUTURE_SLACK:
                moment, repaired = mended, True
        self._last = moment
        return moment, repaired

    def _once(self, kind: str, clock: str, lat: float, lon: float) -> None:
        """One fix a moment, though each constellation tells it: same type, time and place."""
        key = (kind, clock, round(lat, 5), round(lon, 5))
        if key in self._seen:
            raise _Rejected("duplicate")
        self._seen.append(key)
        del self._seen[:-SEEN_MOST]


class _Rejected(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def checksum(body: bytes) -> int:
    """XOR of everything between `$` and `*`."""
    value = 0
    for byte in body:
        value ^= byte
    return value


def _padded(fields: Sequence[str], length: int) -> list[str]:
    return [field.strip() for field in fields] + [""] * (length - len(fields))


def _number(text: str) -> float | None:
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{0,12})?|-?\.[0-9]{1,12}", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _angle(text: str, degrees: int) -> float:
    """(d)ddmm.mmmm; some devices put a sixth degree digit in front (seen in captures)."""
    found = re.fullmatch(r"0*?([0-9]{1,%d}?)([0-9]{2})(\.[0-9]*)?" % degrees, text)  # noqa: UP031
    if found is None:
        raise _Rejected("range")
    minutes = float(found.group(2) + (found.group(3) or ""))
    if minutes >= 60:
        raise _Rejected("range")
    return int(found.group(1)) + minutes / 60


def _position(fields: Sequence[str]) -> tuple[float, float]:
    """lat, N/S, lon, E/W. Empty is void, 0/0 is null island, beyond the globe is range."""
    lat_text, north, lon_text, east = fields
    if not (lat_text and lon_text and north and east):
        raise _Rejected("void")
    if north not in {"N", "S"} or east not in {"E", "W"}:
        raise _Rejected("range")
    lat, lon = _angle(lat_text, 3), _angle(lon_text, 4)
    if lat > 90 or lon > 180:
        raise _Rejected("range")
    if lat < 1e-6 and lon < 1e-6:
        raise _Rejected("null")
    return (-lat if north == "S" else lat), (-lon if east == "W" else lon)


def _time(text: str) -> time:
    found = re.fullmatch(r"([0-9]{2})([0-9]{2})([0-9]{2})(?:\.([0-9]{0,9}))?", text)
    if found is None:
        raise _Rejected("date")
    hour, minute, second = (int(found.group(n)) for n in (1, 2, 3))
    micro = int((found.group(4) or "0").ljust(6, "0")[:6])
    if second == 60:
        # A leap second: the last moment of the minute that there is.
        second, micro = 59, 999_999
    if hour > 23 or minute > 59 or second > 59:
        raise _Rejected("date")
    return time(hour, minute, second, micro)


def _ddmmyy(text: str) -> date:
    if not re.fullmatch(r"[0-9]{6}", text):
        raise _Rejected("date")
    day, month, year = int(text[:2]), int(text[2:4]), int(text[4:])
    try:
        # gpsd's rule: below 69 is this century.
        return date(2000 + year if year < 69 else 1900 + year, month, day)
    except ValueError:
        raise _Rejected("date") from None


def _speed(text: str) -> float | None:
    knots = _number(text)
    if knots is None:
        return None
    speed_mps = knots * KNOT_MPS
    if not 0 <= speed_mps <= SPEED_MAX_MPS:
        raise _Rejected("range")
    return speed_mps


def _course(text: str) -> float | None:
    """Empty when standing still: unknown, not north. 360 is 0."""
    course = _number(text)
    if course is None:
        return None
    if not 0 <= course <= 360:
        raise _Rejected("range")
    return course % 360


def rmc(fix: LocationFix) -> bytes:
    """One RMC sentence without line end (terminal side; never a source of test corpora)."""
    moment = datetime.fromtimestamp((fix.fixed_at_ms or 0) / 1000, tz=UTC)
    speed = "" if fix.speed_mps is None else f"{fix.speed_mps / KNOT_MPS:.2f}"
    course = "" if fix.course_deg is None else f"{fix.course_deg:.1f}"
    body = (
        f"GPRMC,{moment:%H%M%S}.{moment.microsecond // 1000:03d},A,"
        f"{_degrees(fix.lat, 2)},{'S' if fix.lat < 0 else 'N'},"
        f"{_degrees(fix.lon, 3)},{'W' if fix.lon < 0 else 'E'},"
        f"{speed},{course},{moment:%d%m%y},,,A"
    ).encode()
    return b"$%s*%02X" % (body, checksum(body))


def _degrees(value: float, width: int) -> str:
    ten_thousandths = round(abs(value) * 600_000)
    degrees, rest = divmod(ten_thousandths, 600_000)
    return f"{degrees:0{width}d}{rest / 10_000:07.4f}"
