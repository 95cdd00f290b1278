"""A position in plain numbers, judged member by member: degrees, metres, seconds.

For feeds that say `lat`, `lon`, `speed` themselves (gpsd, OsmAnd). Rules
1. A number is on its scale or the position is refused; nothing is clipped.
2. What is not said is None, never 0.
3. An error so wide that it names no place is none: the Tracker's slack for jumps grows with it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from adapters.codecs.nmea0183 import SPEED_MAX_MPS, mended

ACCURACY_MAX_M = 10_000.0
"""A circle wider than a town says nothing of where somebody is."""
NULL_DEG = 1e-6
YEARS = (1970, 2100)
"""From the first to before the last: no receiver means another."""
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:)([0-9]{2})"
    r"(?:[.,]([0-9]{1,9}))?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


class Rejected(Exception):
    """Why this is no position: one of FIX_REASONS, or `decode`. Never leaves a codec."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def place(lat: float | None, lon: float | None) -> tuple[float, float]:
    """Missing is void, 0/0 is null island, beyond the globe is range."""
    if lat is None or lon is None:
        raise Rejected("void")
    if not (abs(lat) <= 90 and abs(lon) <= 180):  # also what is no number
        raise Rejected("range")
    if abs(lat) < NULL_DEG and abs(lon) < NULL_DEG:
        raise Rejected("null")
    return lat, lon


def speed(speed_mps: float | None) -> float | None:
    if speed_mps is not None and not 0 <= speed_mps <= SPEED_MAX_MPS:
        raise Rejected("range")
    return speed_mps


def course(course_deg: float | None) -> float | None:
    """360 is 0."""
    if course_deg is None:
        return None
    if not 0 <= course_deg <= 360:
        raise Rejected("range")
    return course_deg % 360


def accuracy(accuracy_m: float | None) -> float | None:
    """0 and less is what is written where it is not known."""
    if accuracy_m is None or accuracy_m <= 0:
        return None
    if not accuracy_m < ACCURACY_MAX_M:
        raise Rejected("range")
    return accuracy_m


def moment_ms(text: str, received_at_ms: int) -> tuple[int, bool]:
    """ISO 8601, UTC unless it names an offset; and whether a GPS week roll-over was repaired."""
    found = _ISO.fullmatch(text)
    if found is None:
        raise Rejected("date")
    day, clock, second, fraction, zone = found.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    if (clock, second) == ("23:59:", "60"):
        # A leap second: the last moment of the day that there is.
        second, micro = "59", 999_999
    offset = "+00:00" if zone in (None, "Z") else zone
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{second}{offset}")
        at = (at + timedelta(microseconds=micro)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Rejected("date") from None
    return _settled(at, received_at_ms)


def epoch_ms(since_ms: float, received_at_ms: int) -> tuple[int, bool]:
    """Milliseconds since the epoch, likewise."""
    if not 0 < since_ms < 2**42:  # also what is no number; in 2109 it ends
        raise Rejected("date")
    return _settled(datetime.fromtimestamp(since_ms / 1000, tz=UTC), received_at_ms)


def _settled(at: datetime, received_at_ms: int) -> tuple[int, bool]:
    if not YEARS[0] <= at.year < YEARS[1]:
        raise Rejected("date")
    at, repaired = mended(at, datetime.fromtimestamp(received_at_ms / 1000, tz=UTC))
    return round(at.timestamp() * 1000), repaired
