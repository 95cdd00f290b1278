"""The JSON payloads of the MQTT topics, as they stand on the wire (docs/interfaces.md).

Strict in type, tolerant of members we do not know. The JSON Schemas of docs/schemas are generated
from these classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from adapters.codecs import keysds
from gateway.messages import AckState, Kind, Outcome, Secret

Lat = Annotated[float, Meta(ge=-90, le=90)]
Lon = Annotated[float, Meta(ge=-180, le=180)]
Ref = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[!-~]+$")]
Moment = Annotated[str, Meta(max_length=40, description="ISO 8601, UTC, ends in Z")]
SentAt = Annotated[
    str, Meta(max_length=40, description="when it was sent: ISO 8601, UTC, ends in Z")
]
Identity = Annotated[str, Meta(description="may repeat the topic's ISSI; another one is refused")]


def _one_of(words: Iterable[str]) -> Meta:
    """For readers of the schema. The codec judges the word itself, to answer with what is wrong."""
    return Meta(extra_json_schema={"enum": list(words)})


class Wire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A payload."""


class Fix(Wire, kw_only=True, omit_defaults=True):
    """`up/fix`, and `fix` inside a check."""

    lat: Lat
    lon: Lon
    t: Moment | None = None
    speed_mps: Annotated[float, Meta(ge=0, le=400)] | None = None
    course_deg: Annotated[float, Meta(ge=0, le=360)] | None = None
    accuracy_m: Annotated[float, Meta(ge=0, le=1e7)] | None = None
    issi: Identity | None = None


class Check(Wire, kw_only=True, omit_defaults=True):
    """`up/check`. Which members a kind needs: docs/interfaces.md."""

    ref: Ref
    t: SentAt
    kind: Annotated[str, _one_of(Kind)]
    reason: Annotated[str, Meta(min_length=1, max_length=16)]
    vrm: Annotated[str, Meta(max_length=24)] | None = None
    vin: Annotated[str, Meta(max_length=24)] | None = None
    surname: Annotated[str, Meta(max_length=300)] | None = None
    forenames: Annotated[str, Meta(max_length=300)] | None = None
    dob: Annotated[str, Meta(max_length=10)] | None = None
    age: Annotated[int, Meta(ge=0, le=120)] | None = None
    sex: Annotated[str, Meta(max_length=1)] | None = None
    driver_no: Annotated[str, Meta(max_length=24)] | None = None
    type: Annotated[str, Meta(max_length=40)] | None = None
    serial: Annotated[str, Meta(max_length=60)] | None = None
    justification: Annotated[str, Meta(max_length=250)] = ""
    location: Annotated[str, Meta(max_length=40)] = ""
    full: bool = False
    scope: Annotated[str, _one_of(("status",))] | None = None
    fix: Fix | None = None
    issi: Identity | None = None


class Status(Wire, kw_only=True, omit_defaults=True):
    """`up/status`. 0 is an emergency."""

    code: Annotated[int, Meta(ge=0, le=65535)]
    issi: Identity | None = None


class Book(Wire, kw_only=True, omit_defaults=True):
    """`up/status`: an officer takes the radio (`on`) or leaves it (`off`). Without `officer`:
    whoever held it last, after the status that books on; or everybody aboard."""

    book: Annotated[str, _one_of(("on", "off"))]
    officer: Annotated[str, Meta(max_length=10, pattern=r"^[A-Z0-9]*$")] = ""
    factor: Secret | None = None
    callsign: Annotated[str, Meta(max_length=12, pattern=r"^([A-Z0-9][A-Z0-9/-]*)?$")] = ""
    second: bool = False
    t: SentAt | None = None
    issi: Identity | None = None


class FreeToSpeak(Wire, kw_only=True, omit_defaults=True):
    """`up/status`: whether the officer can read without anybody else reading. `check`: of which
    answer; left out for whatever waits."""

    privacy: Annotated[str, _one_of(("free", "not_free"))]
    check: Annotated[str, Meta(max_length=40, pattern=r"^[0-9A-Z]*$")] = ""
    issi: Identity | None = None


class WhichStatus(Wire, kw_only=True, omit_defaults=True):
    """What an `up/status` is about, whatever stands in it."""

    code: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    book: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    privacy: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Ack(Wire, kw_only=True, omit_defaults=True):
    """`up/ack`."""

    check: Annotated[str, Meta(min_length=4, max_length=40, pattern=r"^[0-9A-Z]+$")]
    part: Annotated[int, Meta(ge=1, le=99)]
    state: Annotated[str, _one_of(AckState)]
    issi: Identity | None = None


class DownReceipt(Wire, kw_only=True, omit_defaults=True):
    """`down/receipt`. client_ref: the `Q` of a typed enquiry."""

    ref: str
    check: str
    short: str
    accepted: bool
    why: str
    client_ref: str = ""


class DownSource(Wire, kw_only=True, omit_defaults=True):
    """One source of an answer; as_of is left out of one that was not asked."""

    source: str
    state: Annotated[str, _one_of(("asked", "unavailable", "not_asked"))]
    as_of: str = ""


class DownResult(Wire, kw_only=True, omit_defaults=True):
    """`down/result`. client_ref: the `Q` of a typed enquiry."""

    ref: str
    check: str
    short: str
    outcome: Annotated[str, _one_of(Outcome)]
    cls: str = msgspec.field(name="class", default="")
    danger: list[str]
    pages: list[str]
    fields: dict[str, str]
    not_checked: list[str]
    as_of: str
    level: str = ""
    marking: str
    synthetic: bool
    receipt: str
    why: str = ""
    client_ref: str = ""
    parent: str = ""
    sources: list[DownSource] = []


class DownNotice(Wire, kw_only=True, omit_defaults=True):
    """`down/notice`. id: of a message, to be acknowledged (`up/ack`) as an answer is."""

    kind: Annotated[
        str,
        _one_of(
            (
                "late",
                "waiting",
                "unrecorded",
                "help",
                "echo",
                "clock",
                "cancelled",
                "slow",
                "operator",
                "held",
                "withheld",
                "message",
                "booking",
                "welfare",
                "challenge",
            )
        ),
    ]
    text: str
    check: str = ""
    short: str = ""
    danger: list[str] = []
    id: str = ""


PAYLOADS: dict[str, type[msgspec.Struct]] = {
    "up/check": Check,
    "up/fix": Fix,
    "up/status": Status,
    "up/ack": Ack,
    "down/receipt": DownReceipt,
    "down/result": DownResult,
    "down/notice": DownNotice,
}
ALSO: dict[str, tuple[type[msgspec.Struct], ...]] = {"up/status": (Book, FreeToSpeak)}
"""What else a channel may carry."""


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of each payload, by topic rest, for docs/schemas."""
    found = {}
    for channel, type_ in PAYLOADS.items():
        types = (type_, *ALSO.get(channel, ()))
        schemas, parts = msgspec.json.schema_components(
            types, schema_hook=_schema_of, ref_template="#/$defs/{name}"
        )
        what: dict[str, Any] = schemas[0] if len(types) == 1 else {"oneOf": list(schemas)}
        found[channel] = {**what, "$defs": parts}
    return found


def secret(type_: type, raw: object) -> Secret:
    """The hook by which a factor is a Secret from its first moment on."""
    if type_ is Secret and isinstance(raw, str) and keysds.FACTOR.fullmatch(raw):
        return Secret(raw)
    raise ValueError("no factor")


def _schema_of(type_: type) -> dict[str, Any]:
    if type_ is not Secret:
        raise NotImplementedError
    return {"type": "string", "pattern": f"^{keysds.FACTOR.pattern}$", "writeOnly": True}
