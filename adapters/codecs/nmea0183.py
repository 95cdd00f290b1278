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
from functools import reduce
from operator import xor

import pynmea2

from adapters.codecs.lines import LineSplitter, TooLong
from gateway.messages import BadFrame, Decoded, FixSource, Frame, Ignored, LocationFix, Message

KNOT_MPS = 0.514444
SENTENCE_MAX = 120
"""The standard says 82; real receivers send a little more."""
LINE_MAX = 1024
SPEED_MAX_MPS = 400 * KNOT_MPS
HDOP_UNKNOWN = 50.0
"""From here a dilution of precision says that there is none: receivers write 99 or 99.99."""
ACCURACY_PER_HDOP_M = 5.0
ROLLOVER = timedelta(weeks=1024)
ROLLOVER_BEFORE = timedelta(weeks=512)
DAY = timedelta(days=1)
FUTURE_SLACK = timedelta(days=1)
"""The reference may be a date alone, at any time of that day."""
LEADS = {"GGA": ("RMC",), "GLL": ("RMC", "GGA")}
"""Which sentences say the same and more: beside one of them this one makes no fix of its own."""
LED_FOR = timedelta(seconds=10)
SEEN_MOST = 8
TIMED_TYPES = {"RMC", "GGA", "GLL", "ZDA"}


class Nmea0183:
    """A line of sentences (gateway.ports.Codec): fixes in; on the terminal side, fixes out.

    accept_estimated: let dead reckoning (mode E, quality 6) through, flagged. received_at_ms is the
    reference date: what a two-digit year and a week roll-over are judged against.
    """

    STREAM = True

    def __init__(self, *, side: str = "gateway", accept_estimated: bool = False) -> None:
        self._side = side
        self._accept_estimated = accept_estimated
        self._lines = LineSplitter(LINE_MAX)
        self._last: datetime | None = None
        """The newest moment with a date to it, and when it was heard."""
        self._last_heard: datetime | None = None
        self._fixed: dict[str, datetime] = {}
        self._seen: list[tuple[str, datetime, str, float, float]] = []

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
        """A fix as one RMC sentence; other messages, and a fix without time, have no word here."""
        sentence = rmc(message) if isinstance(message, LocationFix) else None
        return () if sentence is None else (Frame(data=sentence + b"\r\n"),)

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
        # What follows is not looked at: some devices append characters after the checksum.
        digits = re.match(rb" *([0-9A-Fa-f]{2})", tail)
        if digits is None:
            return BadFrame("crc")
        want = int(digits.group(1), 16)
        if checksum(body) != want:
            # Blanks before the star are not always counted by those who write them. Only then a
            # second look: noise must be cheap to refuse (S04).
            bare = body.rstrip(b" ")
            if bare == body or checksum(bare) != want:
                return BadFrame("crc")
            body = bare
        try:
            text = body.decode("ascii")
        except UnicodeDecodeError:
            return BadFrame("decode")
        return self._parse(text, received_at_ms)

    def _parse(self, text: str, received_at_ms: int) -> Decoded:
        name = text.split(",", 1)[0]
        talker, kind = ("", name[:4]) if name.startswith("P") else (name[:2], name[2:5])
        if kind not in TIMED_TYPES:
            return Ignored(kind or "?")
        now = datetime.fromtimestamp(received_at_ms / 1000, tz=UTC)
        try:
            sentence = pynmea2.parse(f"${text}*{checksum(text.encode()):02X}", check=True)
            match kind:
                case "RMC":
                    return self._rmc(talker, sentence, now)
                case "ZDA":
                    self._zda(sentence, now)
                    return Ignored(kind)
                case "GGA":
                    return self._gga(talker, sentence, now)
                case _:
                    return self._gll(talker, sentence, now)
        except _Rejected as rejected:
            return BadFrame(rejected.reason)
        except pynmea2.ParseError:
            return BadFrame("decode")
        except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
            # pynmea2's lazy attributes leak these (measured); the sentence cannot be read.
            return BadFrame("decode")

    def _rmc(self, talker: str, sentence: pynmea2.NMEASentence, now: datetime) -> Decoded:
        fields = _padded(sentence.data, 12)
        if fields[1] != "A":
            raise _Rejected("void")
        estimated = self._mode(fields[11][:1] or _mode_before_2_3(fields[9], fields[10]))
        lat, lon = _position(fields[2:6])
        speed_mps, course_deg = _speed(fields[6]), _course(fields[7])
        moment, repaired = _dated(_time(fields[0]), _ddmmyy(fields[8]), now)
        self._remember(moment, now)
        self._once("RMC", talker, moment, lat, lon)
        return LocationFix(
            lat=lat,
            lon=lon,
            fixed_at_ms=round(moment.timestamp() * 1000),
            speed_mps=speed_mps,
            course_deg=course_deg,
            source=FixSource.GNSS,
            repaired=repaired,
            estimated=estimated,
        )

    def _zda(self, sentence: pynmea2.NMEASentence, now: datetime) -> None:
        """A moment with a four-digit year; empty before the receiver knows it."""
        clock, day, month, year = _padded(sentence.data, 4)[:4]
        if not (clock and day and month and year):
            return
        if not re.fullmatch(r"[0-9]{2},[0-9]{2},[0-9]{4}", f"{day},{month},{year}"):
            raise _Rejected("date")
        self._remember(
            datetime.combine(_date(int(year), int(month), int(day)), _time(clock), UTC), now
        )

    def _gga(self, talker: str, sentence: pynmea2.NMEASentence, now: datetime) -> Decoded:
        fields = _padded(sentence.data, 9)
        quality = fields[5]
        if quality in ("", "0"):
            raise _Rejected("void")
        if quality not in {"1", "2", "3", "4", "5", "6"}:
            raise _Rejected("mode")
        estimated = self._mode("E" if quality == "6" else "A")
        return self._undated("GGA", talker, fields[0], fields[1:5], now, estimated, fields[7])

    def _gll(self, talker: str, sentence: pynmea2.NMEASentence, now: datetime) -> Decoded:
        fields = _padded(sentence.data, 7)
        if fields[5] != "A":
            raise _Rejected("void")
        estimated = self._mode(fields[6][:1])
        return self._undated("GLL", talker, fields[4], fields[0:4], now, estimated, "")

    def _undated(
        self,
        kind: str,
        talker: str,
        clock: str,
        position: Sequence[str],
        now: datetime,
        estimated: bool,
        dilution: str,
    ) -> Decoded:
        """GGA and GLL carry no date: that of the last RMC or ZDA, midnight minded; else today."""
        lat, lon = _position(position)
        accuracy_m = _accuracy(dilution)
        moment = _nearest(self._dated_by(now), _time(clock))
        if any(
            abs(moment - self._fixed.get(lead, moment - DAY)) <= LED_FOR for lead in LEADS[kind]
        ):
            return Ignored(kind)
        self._remember(moment, now)
        self._once(kind, talker, moment, lat, lon)
        return LocationFix(
            lat=lat,
            lon=lon,
            fixed_at_ms=round(moment.timestamp() * 1000),
            accuracy_m=accuracy_m,
            source=FixSource.GNSS,
            estimated=estimated,
        )

    def _remember(self, moment: datetime, now: datetime) -> None:
        self._last, self._last_heard = moment, now

    def _dated_by(self, now: datetime) -> datetime:
        """Near which moment a time of day without a date is meant.

        The last dated one, so that a log is dated by itself. After half a day of silence it cannot
        tell one day from the next, and a receiver without a date of its own may say any: then now.
        """
        last, heard = self._last, self._last_heard
        if last is None or heard is None or now - heard > DAY / 2:
            return now
        return now if abs(now.date() - last.date()) > DAY else last

    def _mode(self, mode: str) -> bool:
        """Whether the fix is estimated; raises for what is no fix of this moment and place."""
        if mode == "N":
            raise _Rejected("void")
        if mode == "E" and self._accept_estimated:
            return True
        if mode in {"E", "S", "M"}:
            raise _Rejected("mode")
        return False

    def _once(self, kind: str, talker: str, moment: datetime, lat: float, lon: float) -> None:
        """One fix a moment, though each constellation tells it: the first one's. One that tells the
        same moment at another place means to: it is faster than its clock."""
        lat, lon = round(lat, 5), round(lon, 5)
        for seen in self._seen:
            other = seen[2] != talker or seen[3:] == (lat, lon)
            if seen[:2] == (kind, moment) and other:
                raise _Rejected("duplicate")
        self._seen.append((kind, moment, talker, lat, lon))
        del self._seen[:-SEEN_MOST]
        self._fixed[kind] = moment


class _Rejected(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def checksum(body: bytes) -> int:
    """XOR of everything between `$` and `*`."""
    return reduce(xor, body, 0)


def _padded(fields: Sequence[str], length: int) -> list[str]:
    return [field.strip() for field in fields] + [""] * (length - len(fields))


def _number(text: str) -> float | None:
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{0,12})?|-?\.[0-9]{1,12}", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _mode_before_2_3(variation: str, direction: str) -> str:
    """The mode of an RMC that ends with the magnetic variation; empty when it has none.

    Some receivers put the mode where E/W of the variation stands (seen in captures: `0,A`). An E
    behind a figure is East, not "estimated": taken for that, an old receiver would have no fixes.
    Behind a bare 0, or nothing, it is taken for the worse.
    """
    if direction == "E" and variation not in {"", "0"}:
        return ""
    return direction if direction in {"A", "D", "N", "E", "S", "M"} else ""


def _accuracy(dilution: str) -> float | None:
    """Metres, from the horizontal dilution of precision; refused where that says it has none."""
    hdop = _number(dilution)
    if hdop is None or hdop <= 0:
        return None
    if hdop >= HDOP_UNKNOWN:
        raise _Rejected("range")
    return hdop * ACCURACY_PER_HDOP_M


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
    if (hour, minute, second) == (23, 59, 60):
        # A leap second: the last moment of the day that there is.
        second, micro = 59, 999_999
    if hour > 23 or minute > 59 or second > 59:
        raise _Rejected("date")
    return time(hour, minute, second, micro)


def _ddmmyy(text: str) -> date:
    if not re.fullmatch(r"[0-9]{6}", text):
        raise _Rejected("date")
    day, month, year = int(text[:2]), int(text[2:4]), int(text[4:])
    # gpsd's rule: below 69 is this century.
    return _date(2000 + year if year < 69 else 1900 + year, month, day)


def _date(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise _Rejected("date") from None


def _dated(at: time, day: date, now: datetime) -> tuple[datetime, bool]:
    return mended(datetime.combine(day, at, UTC), now)


def mended(moment: datetime, now: datetime) -> tuple[datetime, bool]:
    """The moment, with a GPS week roll-over repaired when that lands not in the future."""
    if moment >= now - ROLLOVER_BEFORE:
        return moment, False
    later = moment + ROLLOVER
    if now - ROLLOVER_BEFORE <= later <= now + FUTURE_SLACK:
        return later, True
    return moment, False


def _nearest(anchor: datetime, at: time) -> datetime:
    """The moment at this time of day that is nearest to the anchor: a day before or after it when
    midnight lies between."""
    same_day = datetime.combine(anchor.date(), at, UTC)
    return min((same_day - DAY, same_day, same_day + DAY), key=lambda each: abs(each - anchor))


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


def rmc(fix: LocationFix) -> bytes | None:
    """One RMC sentence without line end; None for a fix without time, which it cannot say.

    Terminal side; never a source of test corpora.
    """
    if fix.fixed_at_ms is None:
        return None
    moment = datetime.fromtimestamp(fix.fixed_at_ms / 1000, tz=UTC)
    speed = "" if fix.speed_mps is None else f"{fix.speed_mps / KNOT_MPS:.2f}"
    course = "" if fix.course_deg is None else f"{fix.course_deg:.1f}"
    body = (
        f"GPRMC,{moment:%H%M%S}.{moment.microsecond // 1000:03d},A,"
        f"{_degrees(fix.lat, 2)},{'S' if fix.lat < 0 else 'N'},"
        f"{_degrees(fix.lon, 3)},{'W' if fix.lon < 0 else 'E'},"
        f"{speed},{course},{moment:%d%m%y},,,{'E' if fix.estimated else 'A'}"
    ).encode()
    return b"$%s*%02X" % (body, checksum(body))


def _degrees(value: float, width: int) -> str:
    ten_thousandths = round(abs(value) * 600_000)
    degrees, rest = divmod(ten_thousandths, 600_000)
    return f"{degrees:0{width}d}{rest / 10_000:07.4f}"
