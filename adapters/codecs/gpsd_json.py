"""What gpsd says to who watches it: JSON reports, one a line, of which TPV is where it is.

Initial conditions of the problem. `mode` is a word of its own: 2 or 3 may come with no position
(a sentence that told the mode alone); a position may come with no time (a GGA before any date was
heard: taken for one of now, it would hold off the right ones); one moment is told in several
reports, each with what had come by then; what is not known is left out; a line that is longer than
gpsd's own limit is cut off. So: only a report with mode 2 or 3 and both degrees is a position, the
first one of its moment; without a time only while none has come with one; the rest says nothing.
gpsd passes on what a receiver made up (status 8) or guessed (5), and never repairs a week
roll-over: judged here as in nmea0183. Source: gpsd_json(5); reference radio-protocols, 5.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from adapters.codecs import positions
from adapters.codecs.lines import LineSplitter, TooLong
from adapters.codecs.positions import Rejected
from gateway.messages import (
    BadFrame,
    Decoded,
    FixSource,
    Frame,
    Ignored,
    LocationFix,
    Message,
)

LINE_MAX = 10_240
"""Of a report with its line end; gpsd cuts off what is longer."""
NO_FIX = (0, 1)
FIX_2D, FIX_3D = 2, 3
DEAD_RECKONING = 5
MEASURED = frozenset({0, 1, 2, 3, 4, 6, 9})
"""Statuses of a position that a receiver measured. Not 5 (dead reckoning alone), 7 (a surveyed
place that it was told) or 8 (simulated), nor what a later gpsd may mean by another."""
OF_DEVICE = frozenset({"TPV", "SKY", "ATT", "IMU", "GST"})
"""What gpsd says of one receiver, and names it."""
OTHER = "OTH"
"""What another receiver said: of that one nobody asked, and this one may be dead."""
_SHORT = {
    "ERROR": "ERR",
    "VERSION": "VER",
    "WATCH": "WCH",
    "DEVICES": "DEV",
    "DEVICE": "DEV",
    **{each: each for each in ("SKY", "ATT", "IMU", "TOFF", "PPS", "OSC", "GST", "AIS", "POLL")},
}


class _Head(msgspec.Struct):
    class_: str = msgspec.field(name="class")
    device: str = ""


class _Tpv(msgspec.Struct):
    mode: int | None = None
    status: int | None = None
    time: str | None = None
    lat: float | None = None
    lon: float | None = None
    speed: float | None = None
    track: float | None = None
    eph: float | None = None
    epx: float | None = None
    epy: float | None = None


_HEAD = msgspec.json.Decoder(_Head)
_TPV = msgspec.json.Decoder(_Tpv)


class GpsdJson:
    """A stream of reports (gateway.ports.Codec): fixes in; on the terminal side, fixes out.

    accept_estimated: let dead reckoning (status 5) through, flagged. device: only what this
    receiver of gpsd's says; empty: whatever it has. Ignored names what it was in short.
    """

    STREAM = True

    def __init__(
        self, *, side: str = "gateway", accept_estimated: bool = False, device: str = ""
    ) -> None:
        self._side = side
        self._accept_estimated = accept_estimated
        self._device = device
        self._lines = LineSplitter(LINE_MAX)
        self._told_ms: int | None = None
        """The moment of the newest position."""

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """Take any slice of the stream; return what is now complete. Never raises on content."""
        out: list[Decoded] = []
        for line in self._lines.feed(data):
            if isinstance(line, TooLong):
                out.append(BadFrame("length"))
            else:
                out.append(self._report(line, received_at_ms))
        return out

    def encode(self, message: Message) -> Sequence[Frame]:
        """A fix as one TPV; other messages have no word here."""
        if self._side != "terminal" or not isinstance(message, LocationFix):
            return ()
        return (Frame(data=tpv(message) + b"\r\n"),)

    def _report(self, line: bytes, received_at_ms: int) -> Decoded:
        try:
            line.decode()  # msgspec looks at no member that it does not want
            head = _HEAD.decode(line)
            name = head.class_
            if self._device and name in OF_DEVICE and head.device != self._device:
                return Ignored(OTHER)
            if name != "TPV":
                return Ignored(_SHORT.get(name, "?"))
            return self._fix(_TPV.decode(line), received_at_ms)
        except Rejected as rejected:
            return BadFrame(rejected.reason)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return BadFrame("decode")

    def _fix(self, said: _Tpv, received_at_ms: int) -> Decoded:
        if said.mode is None or said.mode in NO_FIX:
            raise Rejected("void")
        if said.mode not in (FIX_2D, FIX_3D):
            raise Rejected("mode")
        if said.lat is None and said.lon is None:
            return Ignored("TPV")  # the mode of a moment whose place another report tells
        estimated = self._estimated(said.status)
        lat, lon = positions.place(said.lat, said.lon)
        error_m = said.eph
        if error_m is None and said.epx is not None and said.epy is not None:
            error_m = max(said.epx, said.epy)
        fixed_at_ms, repaired = None, False
        if said.time is None and self._told_ms is not None:
            return Ignored("TPV")  # of a moment that is not said, among others that are
        if said.time is not None:
            fixed_at_ms, repaired = positions.moment_ms(said.time, received_at_ms)
        fix = LocationFix(
            lat=lat,
            lon=lon,
            fixed_at_ms=fixed_at_ms,
            speed_mps=positions.speed(said.speed),
            course_deg=positions.course(said.track),
            accuracy_m=positions.accuracy(error_m),
            source=FixSource.GNSS,
            repaired=repaired,
            estimated=estimated,
        )
        if fixed_at_ms is not None:
            if fixed_at_ms == self._told_ms:
                return Ignored("TPV")
            self._told_ms = fixed_at_ms
        return fix

    def _estimated(self, status: int | None) -> bool:
        """Whether it is dead reckoning; raises for what was not measured here and now."""
        if status is None or status in MEASURED:
            return False
        if status == DEAD_RECKONING and self._accept_estimated:
            return True
        raise Rejected("mode")


def tpv(fix: LocationFix) -> bytes:
    """One report without line end. Terminal side; never a source of test corpora."""
    said: dict[str, object] = {"class": "TPV", "mode": FIX_2D}
    if fix.estimated:
        said["status"] = DEAD_RECKONING
    if fix.fixed_at_ms is not None:
        at = datetime.fromtimestamp(fix.fixed_at_ms / 1000, tz=UTC)
        said["time"] = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    said |= {"lat": fix.lat, "lon": fix.lon}
    for name, value in (
        ("speed", fix.speed_mps),
        ("track", fix.course_deg),
        ("eph", fix.accuracy_m),
    ):
        if value is not None:
            said[name] = value
    return msgspec.json.encode(said)
