"""The question and the reply as docs/pnc-http.md has them: bytes in, an answer or PncGarbled out.

Rules: nothing but a whole, well-formed reply that echoes this very question is an answer; "not
found" counts only when the reply says `no_trace` in so many words; a record must be of the kind
and the subject that was asked for; a member that stands there twice says nothing. Pure.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from adapters.pnc import marks
from adapters.strict_json import decoded, garbled, moment_ms, moment_text
from gateway.errors import PncGarbled
from gateway.messages import (
    Block,
    DriverKey,
    DriverRecord,
    Key,
    PncAnswer,
    PncQuery,
    PncRecord,
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
    kind_of,
)

PROTOCOL = 1
RECORDS_MAX = 12
VIN_END = 5
"""A chassis number may be shown by its end; so many characters at least."""
UNKNOWN: dict[str, dict[str, str]] = {
    "vehicle": {"vrm": ""},
    "person": dict.fromkeys(("pncid", "surname", "forenames", "dob", "sex"), ""),
    "driver": dict.fromkeys(("driver_no", "surname", "forenames", "dob"), ""),
    "property": {"type": "", "serial": ""},
}
"""What a member that was left out because it is not known stands for, where a record needs it."""


class WireBlock(msgspec.Struct):
    """A source behind the answer. state: OK, STALE or UNAVAILABLE; any other reads as STALE."""

    source: Annotated[str, Meta(min_length=1, max_length=40)]
    as_of: str
    state: str


class WireReply(msgspec.Struct):
    """The reply. Members that are not known are ignored; those that are must be right."""

    protocol: int
    check: str
    attempt: int
    key_text: str
    result: str
    as_of: str
    records: Annotated[list[dict[str, Any]], Meta(max_length=RECORDS_MAX)]
    blocks: Annotated[list[WireBlock], Meta(min_length=1, max_length=20)]
    not_checked: Annotated[list[str], Meta(max_length=20)]


def request(query: PncQuery) -> bytes:
    """The body that asks this question."""
    return msgspec.json.encode(
        {
            "protocol": PROTOCOL,
            "check": query.check,
            "attempt": query.attempt,
            "key_text": query.key_text,
            "operation": kind_of(query.key).value,
            "key": _members(query.key),
            "reason": query.reason,
            "justification": query.justification,
            "originator": query.originator,
            "location": query.location,
            "on_behalf_of": query.on_behalf_of,
            "asked_at": moment_text(query.asked_at_ms),
            "deadline_s": query.deadline_s,
        }
    )


def _members(key: Key) -> dict[str, Any]:
    """The key without what is empty: a member that is there was asked for."""
    values = {name: getattr(key, name) for name in key.__struct_fields__}
    return {name: value for name, value in values.items() if value not in ("", None)}


def read(body: bytes, query: PncQuery) -> PncAnswer:
    """The answer in these bytes, or PncGarbled: nothing in between."""
    reply = decoded(body, WireReply)
    if reply.protocol != PROTOCOL:
        garbled()
    if (reply.check, reply.attempt, reply.key_text) != (
        query.check,
        query.attempt,
        query.key_text,
    ):
        raise PncGarbled("echo")
    records = tuple(_record(each, query.key) for each in reply.records)
    says_found = {"trace": True, "no_trace": False, "too_many": False}.get(reply.result)
    if says_found is None or says_found != bool(records):
        garbled()
    return PncAnswer(
        check=reply.check,
        attempt=reply.attempt,
        key_text=reply.key_text,
        records=records,
        blocks=tuple(
            Block(source=each.source, as_of_ms=moment_ms(each.as_of), state=each.state)
            for each in reply.blocks
        ),
        as_of_ms=moment_ms(reply.as_of),
        too_many=reply.result == "too_many",
        not_checked=tuple(reply.not_checked),
    )


def _record(raw: dict[str, Any], key: Key) -> PncRecord:
    """One record: member `record` says which kind; the rest is that kind's members."""
    kind = kind_of(key).value
    if raw.get("record") != kind:
        garbled()
    try:
        record: PncRecord = msgspec.convert(_tagged(raw), PncRecord)
    except msgspec.ValidationError as error:
        raise PncGarbled("malformed") from error
    if not _is_about(record, key):
        raise PncGarbled("echo")
    return record


def _tagged(raw: dict[str, Any]) -> dict[str, Any]:
    """As msgspec takes it: the kind as tag, the unknown as such; a keeper's record likewise."""
    kind = raw.get("record")
    values = UNKNOWN.get(kind, {}) | raw if isinstance(kind, str) else dict(raw)
    values["@"] = values.pop("record", None)
    keeper = values.get("keeper_record")
    if isinstance(keeper, dict):
        values["keeper_record"] = _tagged(keeper)
    return values


def _is_about(record: PncRecord, key: Key) -> bool:
    """Whether this record is of the subject that was asked for, as far as a key names one.

    A reply that echoes the question may still carry another one's record (reliability, P05).
    """
    match key, record:
        case VehicleKey(vrm=asked), VehicleRecord(vrm=told) if asked:
            return marks.normalise(told) == marks.normalise(asked)
        case VehicleKey(vin=asked), VehicleRecord(vin=told):
            short, long = sorted((marks.normalise(asked), marks.normalise(told)), key=len)
            return len(short) >= VIN_END and long.endswith(short)
        case PropertyKey(serial=asked), PropertyRecord(serial=told):
            return marks.normalise(told) == marks.normalise(asked)
        case DriverKey(driver_no=asked), DriverRecord(driver_no=told) if asked:
            return marks.normalise(told) == marks.normalise(asked)
        case _:
            return True
