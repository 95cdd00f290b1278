"""Positions as OsmAnd and Traccar's clients send them over HTTP: a query, or a JSON body.

Initial conditions of the problem. There is no standard: each client spells a time, a speed and "I
do not know" (-1, a dash, nothing) in its own way, and calls the device what it likes. So: what
names the device is handed over beside the message, and decides nothing here; a member that stands
twice may be read two ways, and says nothing; a client that says itself that a place is not valid,
or made up, is believed. Somebody who presses the client's SOS (`alarm=sos`) is in an emergency
whether or not it knows where. Source: reference radio-protocols, 5.3; traccar's documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import Meta

from adapters.codecs import positions
from adapters.codecs.nmea0183 import ACCURACY_PER_HDOP_M, HDOP_UNKNOWN, KNOT_MPS
from adapters.codecs.positions import Rejected
from gateway.messages import (
    BadFrame,
    Decoded,
    FixSource,
    Frame,
    LocationFix,
    Message,
    StatusReport,
)

QUERY, JSON = "query", "json"
"""Channels: what stood in the address or in a form, and a body."""
QUERY_MAX = 4096
BODY_MAX = 16 * 1024
FIELDS_MAX = 64
DEPTH_MAX = 8
NAME_MAX = 64
EMERGENCY = 0
SPEED_UNITS = {"kn": KNOT_MPS, "kmh": 1 / 3.6, "mps": 1.0}
SOS = "sos"
NOT_KNOWN = ("", "-", "-1", "-1.0")
"""How clients write that they do not know."""
SECONDS_BELOW = 2**31
"""From here on a time is in milliseconds."""
_NUMBER = re.compile(r"[+-]?([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15})([eE][+-]?[0-9]{1,2})?")
_TRUE = frozenset({"true", "1"})
_OURS = frozenset(
    {
        *("id", "deviceid", "device_id", "lat", "lon", "location", "timestamp", "speed"),
        *("bearing", "heading", "accuracy", "hdop", "valid", "alarm", "mock"),
    }
)


class Said(NamedTuple):
    """device: what the client calls itself; empty when it does not say."""

    device: str
    decoded: tuple[Decoded, ...]


class _Coords(msgspec.Struct):
    latitude: float | None = None
    longitude: float | None = None
    accuracy: float | None = None
    speed: float | None = None
    heading: float | None = None


class _Extras(msgspec.Struct):
    alarm: str | None = None


class _Location(msgspec.Struct):
    timestamp: str | int | float | None = None
    coords: _Coords | None = None
    mock: bool = False
    extras: _Extras | None = None


class _Body(msgspec.Struct):
    device_id: Annotated[str, Meta(max_length=NAME_MAX)] | Annotated[int, Meta(ge=0, le=2**53)] = ""
    location: _Location | None = None
    alarm: str | None = None


_BODY = msgspec.json.Decoder(_Body)


class Osmand:
    """One request (gateway.ports.Codec). channel: `query` or `json`.

    speed_unit: of a query's `speed`, kn, kmh or mps; a body's is in metres a second. On the
    terminal side it writes queries, without the device: that is the address's.
    """

    def __init__(self, *, side: str = "gateway", speed_unit: str = "kn") -> None:
        self._side = side
        self._speed_mps = SPEED_UNITS[speed_unit]

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """What the request says, whoever sent it. Never raises on content."""
        return self.read(data, received_at_ms=received_at_ms, channel=channel).decoded

    def encode(self, message: Message) -> Sequence[Frame]:
        """A fix as a query; other messages have no word here."""
        if self._side != "terminal" or not isinstance(message, LocationFix):
            return ()
        return (Frame(data=query(message, self._speed_mps), channel=QUERY),)

    def read(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Said:
        """The same, and who it says that it is."""
        if self._side != "gateway":
            return Said("", ())
        if len(data) > (BODY_MAX if channel == JSON else QUERY_MAX):
            return Said("", (BadFrame("length"),))
        try:
            if channel == JSON:
                return self._body(data, received_at_ms)
            return self._query(data, received_at_ms)
        except Rejected as rejected:
            return Said("", (BadFrame(rejected.reason),))

    # ----------------------------------------------------------------- a query

    def _query(self, data: bytes, received_at_ms: int) -> Said:
        try:
            pairs = parse_qsl(
                data.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=FIELDS_MAX,
            )
        except ValueError:
            raise Rejected("decode") from None
        said: dict[str, str] = {}
        for name, value in pairs:
            if name not in _OURS:
                continue
            if name in said:
                raise Rejected("decode")
            said[name] = value.strip()
        device = _one(said, "id", "deviceid", "device_id")
        if len(device) > NAME_MAX:
            raise Rejected("length")
        alarm = said.get("alarm", "").lower() == SOS
        try:
            found: Decoded = self._fix_of(said, received_at_ms)
        except Rejected as rejected:
            found = BadFrame(rejected.reason)
        return Said(device, _in_order(found, alarm=alarm))

    def _fix_of(self, said: dict[str, str], received_at_ms: int) -> LocationFix:
        if "valid" in said and said["valid"].lower() not in _TRUE:
            raise Rejected("void")
        if said.get("mock", "").lower() in _TRUE:
            raise Rejected("mode")
        lat, lon = said.get("lat", ""), said.get("lon", "")
        if "location" in said:
            if lat or lon:
                raise Rejected("decode")  # two places
            lat, comma, lon = said["location"].partition(",")
            if not comma:
                raise Rejected("decode")
        accuracy_m = _number(said.get("accuracy", ""))
        hdop = _number(said.get("hdop", ""))
        if hdop is not None and hdop >= HDOP_UNKNOWN:
            raise Rejected("range")
        if accuracy_m is None and hdop is not None:
            accuracy_m = hdop * ACCURACY_PER_HDOP_M
        speed = _number(said.get("speed", ""))
        return _fix(
            _degrees(lat),
            _degrees(lon),
            moment=_moment(said.get("timestamp", ""), received_at_ms),
            speed_mps=None if speed is None else speed * self._speed_mps,
            course_deg=_number(_one(said, "bearing", "heading")),
            accuracy_m=accuracy_m,
        )

    # ----------------------------------------------------------------- a body

    def _body(self, data: bytes, received_at_ms: int) -> Said:
        if _too_deep(data):
            raise Rejected("decode")
        try:
            said = _BODY.decode(data)
            json.loads(data, object_pairs_hook=_once)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Rejected("decode") from None
        location = said.location or _Location()
        extras = location.extras or _Extras()
        alarm = SOS in ((said.alarm or "").lower(), (extras.alarm or "").lower())
        try:
            found: Decoded = _fix_of_body(location, received_at_ms)
        except Rejected as rejected:
            found = BadFrame(rejected.reason)
        return Said(str(said.device_id).strip(), _in_order(found, alarm=alarm))


def _fix_of_body(location: _Location, received_at_ms: int) -> LocationFix:
    if location.mock:
        raise Rejected("mode")
    coords = location.coords or _Coords()
    stamp = location.timestamp
    return _fix(
        coords.latitude,
        coords.longitude,
        moment=_moment("" if stamp is None else str(stamp), received_at_ms),
        speed_mps=_known(coords.speed),
        course_deg=_known(coords.heading),
        accuracy_m=_known(coords.accuracy),
    )


def _fix(
    lat: float | None,
    lon: float | None,
    *,
    moment: tuple[int | None, bool],
    speed_mps: float | None,
    course_deg: float | None,
    accuracy_m: float | None,
) -> LocationFix:
    at = positions.place(lat, lon)
    return LocationFix(
        lat=at[0],
        lon=at[1],
        fixed_at_ms=moment[0],
        speed_mps=positions.speed(speed_mps),
        course_deg=positions.course(course_deg),
        accuracy_m=positions.accuracy(accuracy_m),
        source=FixSource.PHONE,
        repaired=moment[1],
    )


def _in_order(found: Decoded, *, alarm: bool) -> tuple[Decoded, ...]:
    """An emergency before everything else, and whatever else is wrong."""
    return (StatusReport(code=EMERGENCY), found) if alarm else (found,)


def _one(said: dict[str, str], *names: str) -> str:
    """What stands under one of these names; under two of them it may be read two ways."""
    found = {said[name] for name in names if said.get(name)}
    if len(found) > 1:
        raise Rejected("decode")
    return next(iter(found), "")


def _number(text: str) -> float | None:
    """None for what the client does not know."""
    if text in NOT_KNOWN:
        return None
    if not _NUMBER.fullmatch(text):
        raise Rejected("decode")
    return float(text)


def _degrees(text: str) -> float | None:
    """As a number, but that -1 is a place like any other."""
    text = text.strip()
    if text in ("", "-"):
        return None
    if not _NUMBER.fullmatch(text):
        raise Rejected("decode")
    return float(text)


def _known(value: float | None) -> float | None:
    return None if value == -1 else value


def _moment(text: str, received_at_ms: int) -> tuple[int | None, bool]:
    """Seconds or milliseconds since the epoch, or ISO 8601 (UTC where it names no offset)."""
    if not text or text == "-":
        return None, False
    if _NUMBER.fullmatch(text):
        value = float(text)
        return positions.epoch_ms(value * 1000 if value < SECONDS_BELOW else value, received_at_ms)
    # A `+` that was not escaped arrives as a blank.
    return positions.moment_ms(re.sub(r" ([0-9]{2}:?[0-9]{2})$", r"+\1", text), received_at_ms)


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("twice")
    return found


def _too_deep(body: bytes) -> bool:
    """Whether brackets could nest deeper than DEPTH_MAX; brackets in texts count, too."""
    depth = deepest = 0
    for byte in re.findall(rb"[\[\]{}]", body):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest > DEPTH_MAX


def query(fix: LocationFix, speed_mps: float = KNOT_MPS) -> bytes:
    """A fix as a query. Terminal side; never a source of test corpora."""
    said: dict[str, object] = {"lat": repr(fix.lat), "lon": repr(fix.lon)}
    if fix.fixed_at_ms is not None:
        at_s = fix.fixed_at_ms / 1000
        said["timestamp"] = f"{at_s:.3f}" if at_s < SECONDS_BELOW else fix.fixed_at_ms
    if fix.speed_mps is not None:
        said["speed"] = f"{fix.speed_mps / speed_mps:.4f}"
    if fix.course_deg is not None:
        said["bearing"] = f"{fix.course_deg:.2f}"
    if fix.accuracy_m is not None:
        said["accuracy"] = f"{fix.accuracy_m:.2f}"
    return urlencode(said).encode()
