"""TETRA's location protocol (LIP): one PDU to a fix, or to an emergency, and back.

Initial conditions of the problem. A PDU has no checksum and no line end: what is missing cannot be
seen but by its length, and what follows it is to be ignored. Radios send a position whose error is
unknown, a report without a position, and the zeros of a receiver that has none. An emergency may
show in nothing but the reason. So: (1) reason 2 is an emergency, said first, whatever is wrong with
the position beside it; (2) no position, or zeros, is never (0, 0); (3) unknown stays None; (4) what
is known as "at most" is taken at its worst: an age, an error.
Source: reference radio-protocols, 3 and 7 (TS 100 392-18-1 as public code has it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from adapters.codecs.nmea0183 import SPEED_MAX_MPS
from gateway.messages import (
    BadFrame,
    Decoded,
    FixSource,
    Frame,
    Heartbeat,
    Ignored,
    Locate,
    LocationFix,
    Message,
    StatusReport,
)

PID = 0x0A
CHANNEL = "sds4"
PDU_MOST = 256
"""Octets: an SDS of type 4 holds no more."""
EMERGENCY_REASON = 2
EMERGENCY_STATUS = 0
INTERVAL_REASON = 129
LON_DEG = 360 / 2**25
LAT_DEG = 180 / 2**24
LON_HALF, LAT_HALF = 2**24, 2**23
KMH_MPS = 1 / 3.6
NO_SPEED = 127
NO_DIRECTION = 15
NO_RADIUS = 63
SHORT, LONG, REQUEST = 0, 3, 1
"""Of a PDU: its type 0, or its extension."""
OTHERS = {
    REQUEST: "request",
    4: "acknowledgement",
    5: "parameters",
    6: "trigger",
    7: "trigger removed",
    8: "trigger report",
    9: "parameters report",
    10: "reporting",
    11: "control",
    12: "backlog",
}
"""Extensions that are well formed and say nothing of where a radio is now."""
RESERVED = "reserved"
REPORT = "report"
WANTS = {"long": 0, "long with age": 1, "long with time": 2, "short": 3}
"""Which report is asked for."""

ERROR_M: tuple[float | None, ...] = (2.0, 20.0, 200.0, 2_000.0, 20_000.0, 200_000.0, math.inf, None)
"""Position error by its code: less than so much; 6 is worse than any position, 7 is unknown."""
RADIUS_M = (*(2 * 1.2 ** (k + 5) - 4 for k in range(NO_RADIUS)), None)
"""Horizontal uncertainty by its code."""
SPEED_KMH = (
    *(float(k) for k in range(29)),
    *(16 * 1.038 ** (k - 13) for k in range(29, NO_SPEED)),
    None,
)
WORST_M = 200_000.0
"""From here on it is no position: the country may be another one."""
ARC_STEP_M = 5.0
"""Of an arc's radii, as the same shape has it in 3GPP: [recalled]. With a smaller step the circle
drawn would only be too large."""
OLDEST_MS = (5_000, 300_000, 1_800_000, None)
"""Time elapsed by its code: less than so much; 3 is unknown."""
MONTHS = (-2, -1, 0, 1, 2)

_RADIUS = frozenset({2, 3, 5, 6, 7})
"""Shapes that begin with a horizontal uncertainty."""
_AFTER = {1: 0, 2: 6, 3: 6 + 6 + 8 + 3, 4: 12, 5: 6 + 12, 6: 6 + 6 + 8 + 12 + 3, 7: 6 + 12 + 3}
_AFTER |= {9: 16 + 16 + 8 + 8 + 3, 10: 3}
"""Bits of each shape behind longitude and latitude."""
_ALTITUDE_BEHIND = {4: 0, 5: 6, 6: 6 + 6 + 8, 7: 6}
_VELOCITY = (0, 7, 10, 15, 21, 7 + 8, 21, 32)
"""Bits of each velocity type; where there are any, the first 7 are the horizontal velocity."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A location report as its bits say. lon, lat: None when it has no position. *_code: as sent.

    time_elapsed: code 0-3; None when it has none. at: day, hour, minute, second of the position.
    reason: None when the last octet is the user's own. heading_deg: whatever the speed is.
    accuracy_m: at most so far off; None is unknown. altitude_m: above WGS 84, as far as it says.
    """

    kind: str
    time_elapsed: int | None = None
    at: tuple[int, int, int, int] | None = None
    shape: int | None = None
    lon_raw: int | None = None
    lat_raw: int | None = None
    accuracy_m: float | None = None
    altitude_m: float | None = None
    speed_kmh: float | None = None
    heading_deg: float | None = None
    ack_request: bool = False
    reason: int | None = None
    user_data: int | None = None
    bits_used: int = 0


class Lip:
    """gateway.ports.Codec, one datagram at a time.

    has_pid: whether the payload begins with the PID, as it does over SDS. wants: which report a
    Locate asks for, a word of WANTS.
    """

    def __init__(
        self, *, side: str = "gateway", has_pid: bool = True, wants: str = "short"
    ) -> None:
        self._side = side
        self._has_pid = has_pid
        self._request = _request(WANTS[wants])

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """One PDU, padded to octets; what stands behind it is ignored. Never raises on content."""
        try:
            bits = self._opened(data)
            pdu, name = _kind(bits)
            if self._side == "terminal":
                return (_asked(bits) if pdu == REQUEST else Ignored(name),)
            if pdu not in (SHORT, LONG):
                return (Ignored(name),)
            return _told(_short(bits) if pdu == SHORT else _long(bits), received_at_ms)
        except _Rejected as rejected:
            return (BadFrame(rejected.reason),)

    def encode(self, message: Message) -> Sequence[Frame]:
        """To a radio: where are you? From one: a fix, long where its time is known (a short report
        knows only "a while ago"); () when there is no word for it here."""
        match message:
            case Locate() if self._side == "gateway":
                return (self._frame(self._request),)
            case LocationFix() if self._side == "terminal":
                return (self._frame(_report(message)),)
            case _:
                return ()

    def _opened(self, data: bytes) -> _Bits:
        if len(data) > PDU_MOST:
            raise _Rejected("length")
        if not self._has_pid:
            return _Bits(data)
        if data[:1] not in (b"", bytes((PID,))):
            raise _Rejected("decode")
        return _Bits(data, skip=8)

    def _frame(self, bits: str) -> Frame:
        padded = bits + "0" * (-len(bits) % 8)
        data = int(padded, 2).to_bytes(len(padded) // 8, "big")
        return Frame(data=bytes((PID,)) + data if self._has_pid else data, channel=CHANNEL)


def read(data: bytes, *, has_pid: bool = True) -> Report | None:
    """The report that these bits are, for who wants more of it than a fix; None when they are
    none."""
    try:
        bits = Lip(has_pid=has_pid)._opened(data)
        pdu, _ = _kind(bits)
        if pdu == SHORT:
            return _short(bits)
        return _long(bits) if pdu == LONG else None
    except _Rejected:
        return None


class _Rejected(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Bits:
    """The bits of a PDU, first one first."""

    __slots__ = ("_left", "_total", "_value")

    def __init__(self, data: bytes, *, skip: int = 0) -> None:
        self._value = int.from_bytes(data, "big")
        self._total = 8 * len(data)
        self._left = self._total - skip

    @property
    def used(self) -> int:
        return self._total - self._left

    def take(self, n: int) -> int:
        self._left -= n
        if self._left < 0:
            raise _Rejected("length")
        return self._value >> self._left & (1 << n) - 1

    def signed(self, n: int) -> int:
        value = self.take(n)
        return value - (1 << n) if value >> n - 1 else value


# --------------------------------------------------------------------------- in


def _kind(bits: _Bits) -> tuple[int, str]:
    """SHORT, LONG or another extension, and what it is called."""
    kind = bits.take(2)
    if kind == 0:
        return SHORT, REPORT
    if kind != 1:
        return -1, RESERVED
    extension = bits.take(4)
    if extension == LONG:
        return LONG, REPORT
    return extension or -1, OTHERS.get(extension, RESERVED)


def _asked(bits: _Bits) -> Decoded:
    """The same PDU is request and response."""
    return Ignored(OTHERS[REQUEST]) if bits.take(1) else Locate()


def _short(bits: _Bits) -> Report:
    elapsed = bits.take(2)
    lon_raw, lat_raw = bits.signed(25), bits.signed(24)
    accuracy_m = ERROR_M[bits.take(3)]
    speed_kmh = SPEED_KMH[bits.take(7)]
    heading_deg = bits.take(4) * 22.5
    reason, user_data = _additional(bits)
    return Report(
        kind="short",
        time_elapsed=elapsed,
        lon_raw=lon_raw,
        lat_raw=lat_raw,
        accuracy_m=accuracy_m,
        speed_kmh=speed_kmh,
        heading_deg=heading_deg,
        reason=reason,
        user_data=user_data,
        bits_used=bits.used,
    )


def _long(bits: _Bits) -> Report:
    """A shape, or a type of time, that is reserved leaves unknown where the rest stands."""
    elapsed: int | None = None
    at: tuple[int, int, int, int] | None = None
    match bits.take(2):
        case 1:
            elapsed = bits.take(2)
        case 2:
            at = bits.take(5), bits.take(5), bits.take(6), bits.take(6)
        case 3:
            raise _Rejected("decode")
    shape = bits.take(4)
    lon_raw: int | None = None
    lat_raw: int | None = None
    accuracy_m: float | None = None
    altitude_m: float | None = None
    if shape:
        if shape not in _AFTER:
            raise _Rejected("decode")
        lon_raw, lat_raw = bits.signed(25), bits.signed(24)
        accuracy_m, altitude_m = _of_shape(shape, bits.take(_AFTER[shape]))
    speed_kmh, heading_deg = _velocity(bits)
    ack_request = bits.take(1) == 1
    reason, user_data = _additional(bits)
    return Report(
        kind="long",
        time_elapsed=elapsed,
        at=at,
        shape=shape,
        lon_raw=lon_raw,
        lat_raw=lat_raw,
        accuracy_m=accuracy_m,
        altitude_m=altitude_m,
        speed_kmh=speed_kmh,
        heading_deg=heading_deg,
        ack_request=ack_request,
        reason=reason,
        user_data=user_data,
        bits_used=bits.used,
    )


def _of_shape(shape: int, data: int) -> tuple[float | None, float | None]:
    """How far off at most, and how high. Of an ellipse its larger half; of an arc all of it, for
    the point is its centre, and the radio is somewhere around."""
    size = _AFTER[shape]

    def field(start: int, length: int) -> int:
        return data >> size - start - length & (1 << length) - 1

    accuracy_m: float | None = None
    if shape in _RADIUS:
        accuracy_m = RADIUS_M[field(0, 6)]
        if shape in (3, 6):
            minor_m = RADIUS_M[field(6, 6)]
            accuracy_m = None if accuracy_m is None or minor_m is None else max(accuracy_m, minor_m)
    elif shape == 9:
        accuracy_m = max(field(0, 16), field(16, 16)) * ARC_STEP_M
    elif shape == 10:
        accuracy_m = ERROR_M[field(0, 3)]
    behind = _ALTITUDE_BEHIND.get(shape)
    return accuracy_m, None if behind is None else _altitude_m(field(behind + 1, 11))


def _altitude_m(code: int) -> float | None:
    if code == 0:
        return None
    if code <= 1201:
        return float(code - 201)
    return 1000.0 + 2 * (code - 1201) if code <= 1926 else 2450.0 + 75 * (code - 1926)


def _velocity(bits: _Bits) -> tuple[float | None, float | None]:
    """Only of type 5 is it known where its direction stands: of 6 and 7 there is none."""
    kind = bits.take(3)
    size = _VELOCITY[kind]
    if not size:
        return None, None
    data = bits.take(size)
    speed_kmh = SPEED_KMH[data >> size - 7]
    return speed_kmh, (data & 0xFF) * 360 / 256 if kind == 5 else None


def _additional(bits: _Bits) -> tuple[int | None, int | None]:
    """Why it was sent, or else what its user makes of that octet."""
    own, octet = bits.take(1), bits.take(8)
    return (None, octet) if own else (octet, None)


def _told(report: Report, received_at_ms: int) -> Sequence[Decoded]:
    """An emergency first: a fault of the position must not cost it."""
    emergency = report.reason == EMERGENCY_REASON
    first: tuple[Decoded, ...] = (StatusReport(code=EMERGENCY_STATUS),) if emergency else ()
    if report.lon_raw is None or report.lat_raw is None:
        return first or (Heartbeat(),)
    try:
        fix: Decoded = _fix(report, report.lon_raw, report.lat_raw, received_at_ms)
    except _Rejected as rejected:
        fix = BadFrame(rejected.reason)
    return (*first, fix)


def _fix(report: Report, lon_raw: int, lat_raw: int, received_at_ms: int) -> LocationFix:
    if abs(lon_raw) <= 1 and abs(lat_raw) <= 1:
        raise _Rejected("null")  # all zeros, or all ones
    if report.accuracy_m is not None and report.accuracy_m > WORST_M:
        raise _Rejected("void")
    speed_mps = None if report.speed_kmh is None else report.speed_kmh * KMH_MPS
    if speed_mps is not None and speed_mps > SPEED_MAX_MPS:
        raise _Rejected("range")
    reckoned = report.time_elapsed is not None
    if report.time_elapsed is not None:
        oldest_ms = OLDEST_MS[report.time_elapsed]
        fixed_at_ms = None if oldest_ms is None else received_at_ms - oldest_ms
    else:
        fixed_at_ms = None if report.at is None else _nearest_ms(*report.at, received_at_ms)
    return LocationFix(
        lat=lat_raw * LAT_DEG,
        lon=lon_raw * LON_DEG,
        fixed_at_ms=fixed_at_ms,
        speed_mps=speed_mps,
        # Without a speed the direction is what is left in the field: 15, or 0.
        course_deg=None if speed_mps is None else report.heading_deg,
        accuracy_m=report.accuracy_m,
        source=FixSource.GNSS,
        reckoned=reckoned and fixed_at_ms is not None,
    )


def _nearest_ms(day: int, hour: int, minute: int, second: int, received_at_ms: int) -> int:
    """The moment on such a day, of whatever month, that is nearest to the receipt."""
    now = datetime.fromtimestamp(received_at_ms / 1000, tz=UTC)
    leap_ms = 1000 if second == 60 else 0
    found: list[int] = []
    for step in MONTHS:
        year, month = divmod(now.year * 12 + now.month - 1 + step, 12)
        try:
            moment = datetime(
                year, month + 1, day, hour, minute, 59 if leap_ms else second, tzinfo=UTC
            )
        except ValueError:
            continue
        found.append(round(moment.timestamp()) * 1000 + leap_ms)
    if not found:
        raise _Rejected("date")
    return min(found, key=lambda each: abs(each - received_at_ms))


# --------------------------------------------------------------------------- out


def _request(report_type: int) -> str:
    return f"01{REQUEST:04b}0{report_type:02b}"


def _report(fix: LocationFix) -> str:
    """Terminal side; never a source of test corpora."""
    lon = (round(fix.lon / LON_DEG) + LON_HALF) % (2 * LON_HALF) - LON_HALF
    lat = max(-LAT_HALF + 1, min(LAT_HALF - 1, round(fix.lat / LAT_DEG)))
    place = f"{lon % (2 * LON_HALF):025b}{lat % (2 * LAT_HALF):024b}"
    speed = f"{_speed_code(fix.speed_mps):07b}"
    additional = f"0{INTERVAL_REASON:08b}"
    if fix.fixed_at_ms is None:
        course = NO_DIRECTION if fix.course_deg is None else int((fix.course_deg + 11.25) / 22.5)
        return f"0011{place}{_error_code(fix.accuracy_m):03b}{speed}{course % 16:04b}{additional}"
    at = datetime.fromtimestamp(fix.fixed_at_ms / 1000, tz=UTC)
    time = f"10{at.day:05b}{at.hour:05b}{at.minute:06b}{at.second:06b}"
    radius = NO_RADIUS if fix.accuracy_m is None else _radius_code(fix.accuracy_m)
    if fix.speed_mps is None or fix.course_deg is None:
        velocity = "000" if fix.speed_mps is None else f"001{speed}"
    else:
        velocity = f"101{speed}{round(fix.course_deg * 256 / 360) % 256:08b}"
    return f"01{LONG:04b}{time}0010{place}{radius:06b}{velocity}0{additional}"


def _speed_code(speed_mps: float | None) -> int:
    if speed_mps is None:
        return NO_SPEED
    kmh = speed_mps / KMH_MPS
    if kmh <= 28:
        return round(kmh)
    return min(NO_SPEED - 1, round(13 + math.log(kmh / 16) / math.log(1.038)))


def _error_code(accuracy_m: float | None) -> int:
    return _least(ERROR_M, accuracy_m) if accuracy_m is not None else len(ERROR_M) - 1


def _radius_code(accuracy_m: float) -> int:
    return _least(RADIUS_M, accuracy_m)


def _least(bounds: Sequence[float | None], value: float) -> int:
    """The first code that is not too good; past the last, that for unknown."""
    for code, bound in enumerate(bounds):
        if bound is None or bound >= value:
            return code
    raise AssertionError("the last code is for unknown")
