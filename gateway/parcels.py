"""An answer on its way to a screen: what the CheckDesk hands to the Courier."""

from __future__ import annotations

import msgspec

from gateway.messages import AckState, Issi, Result


class Parcel(msgspec.Struct, kw_only=True):
    """An answer under way. Times are monotonic. priority: 0 hit, 1 other answer, 2 notice.

    tried_at_s: when the last attempt began; sent_at_s: when a bearer last took it, None before.
    parts: how many the terminal must acknowledge; got: what it said of each. not_before_s: nothing
    moves the first attempt before this moment, so that when it comes tells nothing.
    """

    id: str
    check: str
    short: str
    terminal: Issi
    holder: str
    message: Result
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
