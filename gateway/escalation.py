"""How a hit that nobody acknowledges climbs: again to its officer, then to the operator (pure).

The figures count from when its officer could first have it: from its slot, its release or its
prompt. To the terminal goes nothing but what it was sent before; to the control room, that a hit
is unread. The supervisor hears of it by the alarm's own escalation.
"""

from __future__ import annotations

import msgspec

from gateway.messages import CheckDelivery, CheckDone, CheckStaged, Event, Issi, Outcome


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """A hit that is not read. since_ms: when its officer could have it; None: it is held yet."""

    check: str
    short: str
    terminal: Issi
    since_ms: int | None
    again: bool = False
    """It was sent again."""
    raised: bool = False
    """The operator was told."""


class Due(msgspec.Struct, frozen=True):
    """What is due now. again: to its officer. operator: to the control room."""

    again: bool = False
    operator: bool = False


def begun(event: CheckDone) -> Unread | None:
    """A hit, as the control room knows it; None for anything else."""
    hit = bool(event.danger) or event.result_class.startswith("HIT")
    if event.outcome is not Outcome.ANSWERED or not hit:
        return None
    return Unread(
        check=event.check, short=event.short, terminal=event.terminal, since_ms=event.t_ms
    )


def step(unread: Unread, event: Event) -> Unread | None:
    """What this event makes of it; None: it climbs no more."""
    match event:
        case CheckDelivery(state="read" | "stale") | CheckStaged(stage="withheld" | "control"):
            return None
        case CheckStaged(stage="held"):
            return msgspec.structs.replace(unread, since_ms=None)
        case CheckStaged(stage="prompted" | "delivering", t_ms=t_ms) if unread.since_ms is None:
            return msgspec.structs.replace(unread, since_ms=t_ms)
        case _:
            return unread


def put_off(unread: Unread, until_ms: int) -> Unread:
    """Its officer cannot have it before then."""
    return msgspec.structs.replace(unread, since_ms=until_ms)


def due(
    unread: Unread, now_ms: int, *, again_s: float, operator_s: float | None
) -> tuple[Unread, Due]:
    """What time has made due. operator_s: None when no alarm is made of it."""
    if unread.since_ms is None:
        return unread, Due()
    age_s = (now_ms - unread.since_ms) / 1000
    again = not unread.again and age_s >= again_s
    operator = not unread.raised and operator_s is not None and age_s >= operator_s
    after = msgspec.structs.replace(
        unread, again=unread.again or again, raised=unread.raised or operator
    )
    return after, Due(again=again, operator=operator)
