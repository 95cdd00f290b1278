"""Replies as JSON that is taken at its word or not at all (docs/pnc-http.md). Pure.

What may be read two ways says nothing: a member that stands twice, a moment of no calendar, text
that is not UTF-8, nesting without an end. Each is PncGarbled, and none is quoted.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from gateway.errors import PncGarbled

NESTING_MAX = 12
YEARS = (1970, 2100)
"""When a source can have said something: an hour that no screen can show is no answer either."""
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")

PROTOCOL = 1
"""Of the list of sources, which the PNC and the vehicle register give alike."""

T = TypeVar("T", bound=msgspec.Struct)


def decoded(body: bytes, type_: type[T]) -> T:
    """The whole body as this type, or PncGarbled: nothing in between."""
    if _too_deep(body):
        garbled()
    try:
        reply = msgspec.json.decode(body, type=type_)
    except UnicodeDecodeError as error:
        raise PncGarbled("charset") from error
    except (msgspec.DecodeError, RecursionError) as error:
        text = str(error)
        reason = "truncated" if "truncated" in text else "malformed"
        raise PncGarbled("charset" if "UTF-8" in text else reason) from error
    _each_member_once(body)
    return reply


class WireSource(msgspec.Struct):
    source: Annotated[str, Meta(min_length=1, max_length=40)]
    state: str


class WireSources(msgspec.Struct):
    protocol: int
    sources: Annotated[list[WireSource], Meta(max_length=20)]


def read_sources(body: bytes) -> frozenset[str]:
    """Which sources reply now; one whose state is no plain OK does not."""
    reply = decoded(body, WireSources)
    if reply.protocol != PROTOCOL:
        garbled()
    return frozenset(each.source for each in reply.sources if each.state == "OK")


def _each_member_once(body: bytes) -> None:
    """`"warnings": ["FI"], ..., "warnings": []`: readers differ on which one counts."""

    def names(members: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in members}) != len(members):
            garbled()

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


def moment_ms(text: str) -> int:
    """ISO 8601, UTC, ending in `Z`, to ms since the epoch."""
    if not _MOMENT.fullmatch(text):
        garbled()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        garbled()
    if not YEARS[0] <= at.year <= YEARS[1]:
        garbled()
    return round(at.timestamp() * 1000)


def moment_text(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def garbled() -> NoReturn:
    raise PncGarbled("malformed")
