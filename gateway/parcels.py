"""What is on its way to a screen: an answer, or a message of the control room (pure)."""

from __future__ import annotations

import msgspec

from gateway.messages import AckState, Issi, Notice, Result


class Parcel(msgspec.Struct, kw_only=True):
    """An answer or message under way. Times are monotonic. priority: 0 hit, 1 other answer,
    2 message.

    tried_at_s: when the last attempt began; sent_at_s: when a bearer last took it, None before.
    parts: how many the terminal must acknowledge; got: what it said of each. not_before_s: nothing
    moves the first attempt before this moment, so that when it comes tells nothing. kind: answer,
    or message; then `check` is the message's id.
    """

    id: str
    check: str
    short: str
    terminal: Issi
    holder: str
    message: Result | Notice
    stale_at_s: float
    priority: int
    accepted_at_s: float | None
    attempts: int = 0
    next_at_s: float = 0.0
    failed: bool = False
    tried_at_s: float = 0.0
    sent_at_s: float | None = None
    heard_since: bool = True
    parts: int = 1
    got: dict[int, AckState] = {}
    not_before_s: float = 0.0
    kind: str = "answer"


def taken(parcel: Parcel, part: int, state: AckState) -> AckState | None:
    """The terminal acknowledged a part (0: all of it). What that makes of the whole; None while
    parts are missing."""
    if part == 0:
        return state
    if parcel.got.get(part) is not AckState.READ:
        parcel.got[min(part, parcel.parts)] = state
    if len(parcel.got) < parcel.parts:
        return None
    read = all(got is AckState.READ for got in parcel.got.values())
    return AckState.READ if read else AckState.DELIVERED
