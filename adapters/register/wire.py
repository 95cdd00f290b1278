"""The question to the vehicle register and its reply, as docs/pnc-http.md has them. Pure.

Rules as at the PNC: nothing but a whole reply that echoes this very question is an answer. Of a
record only the members of a status are read: a keeper that stands there is nowhere kept.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from adapters.strict_json import decoded, garbled, moment_ms, moment_text
from gateway.errors import PncGarbled
from gateway.messages import Block, RegisterAnswer, RegisterQuery, StatusRecord

PROTOCOL = 1

Text = Annotated[str, Meta(max_length=80)]
YesNo = Literal["Y", "N"]


class WireBlock(msgspec.Struct):
    """A source behind the answer. state: OK, STALE or UNAVAILABLE; any other reads as STALE."""

    source: Annotated[str, Meta(min_length=1, max_length=40)]
    as_of: str
    state: str


class WireStatus(msgspec.Struct):
    """What is not known is left out: never null, and never an empty word for Y or N."""

    vrm: Annotated[str, Meta(min_length=1, max_length=20)]
    tax: YesNo | msgspec.UnsetType = msgspec.UNSET
    tax_due: Text = ""
    mot: YesNo | msgspec.UnsetType = msgspec.UNSET
    mot_expiry: Text = ""
    insured: YesNo | msgspec.UnsetType = msgspec.UNSET
    insurer: Text = ""
    sorn: bool = False
    exported: bool = False
    make: Text = ""
    colour: Text = ""


class WireReply(msgspec.Struct):
    protocol: int
    check: str
    attempt: int
    key_text: str
    result: Literal["found", "not_found"]
    as_of: str
    blocks: Annotated[list[WireBlock], Meta(min_length=1, max_length=8)]
    record: WireStatus | msgspec.UnsetType = msgspec.UNSET


def request(query: RegisterQuery) -> bytes:
    """The body that asks this question: the mark, and not who asks or why."""
    return msgspec.json.encode(
        {
            "protocol": PROTOCOL,
            "check": query.check,
            "attempt": query.attempt,
            "key_text": query.key_text,
            "vrm": query.vrm,
            "asked_at": moment_text(query.asked_at_ms),
            "deadline_s": query.deadline_s,
        }
    )


def read(body: bytes, query: RegisterQuery) -> RegisterAnswer:
    """The answer in these bytes, or PncGarbled: nothing in between."""
    reply = decoded(body, WireReply)
    if reply.protocol != PROTOCOL:
        garbled()
    if (reply.check, reply.attempt, reply.key_text) != (query.check, query.attempt, query.key_text):
        raise PncGarbled("echo")
    record: StatusRecord | None = None
    if (reply.result == "found") != isinstance(reply.record, WireStatus):
        garbled()
    if isinstance(reply.record, WireStatus):
        if _plain(reply.record.vrm) != query.vrm:
            # Another vehicle's, however right the echo.
            raise PncGarbled("echo")
        record = _record(reply.record)
    return RegisterAnswer(
        check=reply.check,
        attempt=reply.attempt,
        key_text=reply.key_text,
        record=record,
        blocks=tuple(
            Block(source=each.source, as_of_ms=moment_ms(each.as_of), state=each.state)
            for each in reply.blocks
        ),
        as_of_ms=moment_ms(reply.as_of),
    )


def _record(status: WireStatus) -> StatusRecord:
    return StatusRecord(
        vrm=_plain(status.vrm),
        tax=status.tax or "",
        tax_due=status.tax_due,
        mot=status.mot or "",
        mot_expiry=status.mot_expiry,
        insured=status.insured or "",
        insurer=status.insurer,
        sorn=status.sorn,
        make=status.make,
        colour=status.colour,
        exported=status.exported,
    )


def _plain(mark: str) -> str:
    return re.sub(r"[\s-]", "", mark).upper()
