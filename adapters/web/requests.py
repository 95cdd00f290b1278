"""What a request says, as bytes and text in, values or an Unclear out. Pure.

Rule: a member that stands twice says nothing: readers differ on which one counts, and what was done
is put on record.
"""

from __future__ import annotations

import json
import re
from typing import Literal, NoReturn, TypeVar, get_args

import msgspec

from gateway.receipts import read_receipt

B = TypeVar("B", bound=msgspec.Struct)
Purpose = Literal["lawfulness", "self-monitoring", "integrity-security", "criminal-proceedings"]
"""The four of DPA 2018, s.62(4)."""

BY_MOST = 40
WHY_MOST = 200
_EVENT_ID = re.compile(r"([^:\s]{1,64}):([0-9]{1,15})")


class Unclear(ValueError):
    """It cannot be read; the words say what is expected, and quote nothing."""


class Act(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a change of which nothing more is said: who acts is known."""


class LogInAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a log-in."""

    id: str
    password: str

    def __repr__(self) -> str:
        return "LogInAct(***)"


class ShelveAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a shelving. minutes, why: of those that the snapshot's `dict.shelve` lists."""

    minutes: int
    why: str


class MessageAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a message to one unit."""

    text: str


class CheckAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a check for an officer. requester: ISSI, call-sign or collar number. text: the
    enquiry, as an officer types it."""

    requester: str
    text: str
    to_radio: bool = True


class ReleaseAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a decision on a held answer. level: for `amend`. why: for `refuse`."""

    act: Literal["release", "amend", "refuse"]
    level: str = ""
    why: str = ""


class ReviewAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a review. enough: whether what was said explains the check."""

    enough: bool
    note: str = ""


class ExportAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of an export's record. receipt: when it is of one check alone."""

    purpose: Purpose
    receipt: str = ""


LIKE: dict[type[msgspec.Struct], str] = {
    Act: "body: {}",
    LogInAct: 'body: {"id": "...", "password": "..."}',
    ShelveAct: 'body: {"minutes": 5, "why": "test"}',
    MessageAct: 'body: {"text": "RETURN TO STATION"}',
    CheckAct: 'body: {"requester": "1001", "text": "V TE99ABC R1"}',
    ReleaseAct: 'body: {"act": "release"}, amend with level, refuse with why',
    ReviewAct: 'body: {"enough": true}, and a note if there is one to make',
    ExportAct: 'body: {"purpose": "..."}',
}


def body(raw: bytes, type_: type[B]) -> B:
    """The body of a change."""
    try:
        act = msgspec.json.decode(raw, type=type_)
        # Only what the first reader took as flat and typed comes to the second.
        json.loads(raw, object_pairs_hook=_each_once)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise Unclear(LIKE[type_]) from None
    return act


def _each_once(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise ValueError("twice")


def why(text: str) -> str:
    """Why an operator refuses: their own words, on record as content."""
    text = text.strip()
    if not 3 <= len(text) <= WHY_MOST or not text.isprintable():
        raise Unclear(f"why: 3 to {WHY_MOST} printable characters")
    return text


def who(by: str) -> str:
    """Who sits at the command line, as it goes on record."""
    by = by.strip()
    if not 1 <= len(by) <= BY_MOST or not by.isprintable():
        raise Unclear(f"Gateway-By: who acts, 1 to {BY_MOST} printable characters")
    return by


def purpose(text: str) -> str:
    """What for, as it goes on record."""
    if text not in get_args(Purpose):
        raise Unclear(f"purpose: one of {', '.join(get_args(Purpose))}")
    return text


def receipt(text: str) -> str:
    """As `4F2A-91KQ`, however it was written down."""
    found = read_receipt(text)
    if not found:
        raise Unclear("receipt: 8 letters and digits, as 4F2A-91KQ")
    return found


def place(
    last_event_id: str, epoch: str | None, after: str | None
) -> tuple[str | None, int | None]:
    """Where a client stands: Last-Event-ID, else the query. Nothing at all: from now on."""
    if last_event_id:
        found = _EVENT_ID.fullmatch(last_event_id)
        return (
            (found.group(1), int(found.group(2))) if found else _no("Last-Event-ID: epoch:number")
        )
    if after is None:
        return epoch, None
    if not (after.isascii() and after.isdigit() and len(after) <= 15):
        _no("after: a number")
    return epoch, int(after)


def _no(words: str) -> NoReturn:
    raise Unclear(words)
