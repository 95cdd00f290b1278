"""The question and the reply as docs/pnc-http.md has them: bytes in, an answer or PncGarbled out.

Rules: nothing but a whole, well-formed reply that echoes this very question is an answer; "not
found" counts only when the reply says `no_trace` in so many words; a record must be of the kind
and the subject that was asked for; a member that stands there twice says nothing. Pure.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from adapters.pnc import marks
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
NESTING_MAX = 12
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
YEARS = (1970, 2100)
"""When a source can have said something: an hour that no screen can show is no answer either."""
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")


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
            "asked_at": _moment_text(query.asked_at_ms),
            "deadline_s": query.deadline_s,
        }
    )


def _members(key: Key) -> dict[str, Any]:
    """The key without what is empty: a member that is there was asked for."""
    values = {name: getattr(key, name) for name in key.__struct_fields__}
    return {name: value for name, value in values.items() if value not in ("", None)}


def read(body: bytes, query: PncQuery) -> PncAnswer:
    """The answer in these bytes, or PncGarbled: nothing in between."""
    if _too_deep(body):
        _garbled()
    try:
        reply = msgspec.json.decode(body, type=WireReply)
    except UnicodeDecodeError as error:
        raise PncGarbled("charset") from error
    except (msgspec.DecodeError, RecursionError) as error:
        text = str(error)
        reason = "truncated" if "truncated" in text else "malformed"
        raise PncGarbled("charset" if "UTF-8" in text else reason) from error
    _each_member_once(body)
    if reply.protocol != PROTOCOL:
        _garbled()
    if (reply.check, reply.attempt, reply.key_text) != (
        query.check,
        query.attempt,
        query.key_text,
    ):
        raise PncGarbled("echo")
    records = tuple(_record(each, query.key) for each in reply.records)
    says_found = {"trace": True, "no_trace": False, "too_many": False}.get(reply.result)
    if says_found is None or says_found != bool(records):
        _garbled()
    return PncAnswer(
        check=reply.check,
        attempt=reply.attempt,
        key_text=reply.key_text,
        records=records,
        blocks=tuple(
            Block(source=each.source, as_of_ms=_moment_ms(each.as_of), state=each.state)
            for each in reply.blocks
        ),
        as_of_ms=_moment_ms(reply.as_of),
        too_many=reply.result == "too_many",
        not_checked=tuple(reply.not_checked),
    )


def _record(raw: dict[str, Any], key: Key) -> PncRecord:
    """One record: member `record` says which kind; the rest is that kind's members."""
    kind = kind_of(key).value
    if raw.get("record") != kind:
        _garbled()
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


def _each_member_once(body: bytes) -> None:
    """`"warnings": ["FI"], ..., "warnings": []`: readers differ on which one counts."""

    def names(members: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in members}) != len(members):
            _garbled()

    try:
        json.loads(body, object_pairs_hook=names)
    except (ValueError, RecursionError) as error:
        raise PncGarbled("malformed") from error


def _too_deep(body: bytes) -> bool:
    """Whether brackets could nest deeper than NESTING_MAX; brackets in texts count, too."""
    depth = deepest = 0
    for byte in re.findall(rb"[\[\]{}]", body):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest > NESTING_MAX


def _moment_ms(text: str) -> int:
    if not _MOMENT.fullmatch(text):
        _garbled()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        _garbled()
    if not YEARS[0] <= at.year <= YEARS[1]:
        _garbled()
    return round(at.timestamp() * 1000)


def _garbled() -> NoReturn:
    raise PncGarbled("malformed")


def _moment_text(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
