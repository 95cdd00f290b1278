"""OwnTracks: what a phone says about where it is, one MQTT message at a time.

Source: OwnTracks booklet, docs/tech/json.md @8a5a150 (radio-protocols reference, 5.1).

1. Only `location` is a position. A last will tells when the phone connected, not when it was lost:
   it says nothing of anybody. The rest (regions, cards, commands ...) is not for us.
2. `tst` is when the position was taken, and without it nothing can be judged. A ping stamps an old
   position with the time of sending (owntracks/ios, issue 197), and so does a tracker that has lost
   its fix: they say that somebody is there, and not where.
3. acc, vel and cog are left out when they are zero, and when they are not known: they count as
   unknown. One that cannot be costs itself, never the position; a negative acc says that there is
   no position.
4. Who has a key speaks encrypted: in plain words anybody could have said it.
5. A payload may repeat its topic; one that names another is refused.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from adapters.codecs.terminal_json import YEARS, too_deep
from gateway.messages import (
    BadFrame,
    Decoded,
    FixSource,
    Frame,
    Heartbeat,
    Ignored,
    LocationFix,
    Message,
)

KMH_MPS = 1 / 3.6
SPEED_MOST_MPS = 400.0
ACCURACY_MOST_M = 1e7
KEY_BYTES = 32
NONCE_BYTES = 24
OLD = frozenset(("p", "l", "L"))
"""Triggers of a position that is older than its `tst`: ping, last known before the fix was lost,
last known before it was switched off."""
NOT_FOR_US = frozenset(
    (
        "beacon",
        "card",
        "cmd",
        "configuration",
        "dump",
        "lwt",
        "request",
        "status",
        "steps",
        "transition",
        "waypoint",
        "waypoints",
    )
)
OTHER, CLEARED = "other", "cleared"
PLAIN = frozenset(("lwt",))
"""What the broker says for a phone, which had no chance to encrypt it anew."""
_YEAR_S = 31_556_952
_TST = (0, (YEARS[1] - YEARS[0]) * _YEAR_S)
_BEYOND = ("Expected `float` >=", "Expected `float` <=", "Number out of range")


class _Said(msgspec.Struct):
    """Of any payload what we look at; whatever else stands in it is nobody's business here."""

    _type: str
    lat: Annotated[float, Meta(ge=-90, le=90)] | UnsetType = UNSET
    lon: Annotated[float, Meta(ge=-180, le=180)] | UnsetType = UNSET
    tst: float | UnsetType = UNSET
    acc: Any = None
    vel: Any = None
    cog: Any = None
    t: Any = None
    topic: Any = None
    data: Any = None


class _What(msgspec.Struct):
    _type: str


_said = msgspec.json.Decoder(_Said)
_what = msgspec.json.Decoder(_What)


class OwnTracks:
    """gateway.ports.Codec, for one message. identity: `user/device`, as the topic says it.

    passphrase: at most 32 bytes of UTF-8; empty for a phone that does not encrypt.
    """

    def __init__(
        self,
        *,
        side: str = "gateway",
        identity: str = "",
        passphrase: str = "",
        max_payload: int = 16384,
    ) -> None:
        self._side = side
        self._identity = identity
        # As OwnTracks makes a key of it: filled with zeros.
        self._key = passphrase.encode("utf-8").ljust(KEY_BYTES, b"\0") if passphrase else None
        self._max_payload = max_payload

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """One payload. Never raises on content."""
        del received_at_ms, channel
        if len(data) > self._max_payload:
            return (BadFrame("length"),)
        if self._side == "terminal":
            return (Ignored("cmd"),)  # a phone is asked for nothing
        if not data:
            return (Ignored(CLEARED),)  # what lay retained is gone
        return (self._read(data, sealed=False),)

    def encode(self, message: Message) -> Sequence[Frame]:
        """A phone's position, as its application says it; nothing goes to a phone."""
        if self._side != "terminal" or not isinstance(message, LocationFix):
            return ()
        body: dict[str, object] = {"_type": "location", "lat": message.lat, "lon": message.lon}
        if message.fixed_at_ms is not None:
            body["tst"] = message.fixed_at_ms // 1000
        for name, value in (
            ("acc", message.accuracy_m),
            ("vel", None if message.speed_mps is None else message.speed_mps / KMH_MPS),
            ("cog", message.course_deg),
        ):
            if value:  # zero is left out, as phones do
                body[name] = value
        return (Frame(data=msgspec.json.encode(body)),)

    # ----------------------------------------------------------------- in

    def _read(self, data: bytes, *, sealed: bool) -> Decoded:
        if too_deep(data):
            return BadFrame("decode")
        try:
            data.decode("utf-8")  # also where the reader below does not look
            said = _said.decode(data)
        except msgspec.ValidationError as error:
            return self._misfit(data, error, sealed=sealed)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return BadFrame("decode")
        kind = said._type
        if kind == "encrypted" and not sealed:
            return self._open(said.data)
        if self._key is not None and not sealed and kind not in PLAIN:
            return BadFrame("auth")
        if not self._own(said.topic):
            return BadFrame("identity")
        if kind == "location":
            return _location(said)
        return Ignored(kind if kind in NOT_FOR_US else OTHER)

    def _misfit(self, data: bytes, error: msgspec.ValidationError, *, sealed: bool) -> Decoded:
        """Of another type a member may be anything; of a position it decides what is wrong."""
        try:
            kind = _what.decode(data)._type
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return BadFrame("decode")
        if kind in NOT_FOR_US:
            return Ignored(kind)
        if kind != "location" or (self._key is not None and not sealed):
            return BadFrame("auth" if self._key is not None and not sealed else "decode")
        text = str(error)
        if "got `null`" in text:
            return BadFrame("void")
        return BadFrame("range" if text.startswith(_BEYOND) else "decode")

    def _own(self, topic: object) -> bool:
        """Prefixes differ from broker to broker; who is meant does not."""
        if topic is None:
            return True
        return isinstance(topic, str) and topic.split("/")[-2:] == self._identity.split("/")

    def _open(self, data: object) -> Decoded:
        """What was encrypted: libsodium's secretbox behind its nonce, in base64."""
        if self._key is None or not isinstance(data, str):
            return BadFrame("auth")
        from nacl.exceptions import CryptoError  # loaded only where a phone has a key
        from nacl.secret import SecretBox

        try:
            box = binascii.a2b_base64(data, strict_mode=True)
            plain = SecretBox(self._key).decrypt(box[NONCE_BYTES:], box[:NONCE_BYTES])
        except (CryptoError, ValueError):  # binascii.Error is one
            return BadFrame("auth")
        return self._read(plain, sealed=True)


def _location(said: _Said) -> Decoded:
    if isinstance(said.lat, UnsetType) or isinstance(said.lon, UnsetType):
        return BadFrame("void")
    if isinstance(said.tst, UnsetType) or not _TST[0] < said.tst < _TST[1]:
        return BadFrame("date")
    accuracy_m = _figure(said.acc)
    if accuracy_m is not None and accuracy_m < 0:
        return BadFrame("void")
    if isinstance(said.t, str) and said.t in OLD:
        return Heartbeat()
    vel_kmh, course_deg = _figure(said.vel), _figure(said.cog)
    speed_mps = None if vel_kmh is None else vel_kmh * KMH_MPS
    return LocationFix(
        lat=said.lat,
        lon=said.lon,
        fixed_at_ms=round(said.tst * 1000),
        speed_mps=speed_mps if speed_mps is not None and 0 <= speed_mps <= SPEED_MOST_MPS else None,
        course_deg=course_deg % 360 if course_deg is not None and 0 <= course_deg <= 360 else None,
        accuracy_m=accuracy_m if accuracy_m and accuracy_m <= ACCURACY_MOST_M else None,
        source=FixSource.PHONE,
    )


def _figure(value: object) -> float | None:
    """A number, whole or not; None for whatever else stands there."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        figure = float(value)
    except OverflowError:
        return None
    return figure if math.isfinite(figure) else None
