"""Which fields of an event a viewer is shown: an allow-list by right; default deny (pure).

A kind of event that has no entry is shown to nobody, and a field that has none is shown to nobody
either: what is added to an event tomorrow is not shown before somebody says to whom.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from gateway.messages import (
    AlarmChanged,
    ChallengeChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    LinkChanged,
    MessageChanged,
    Noticed,
    PolicyChanged,
    ReleaseChanged,
    UnitEmergency,
    UnitFix,
    UnitMeta,
    Viewer,
)


class Shown(msgspec.Struct, frozen=True):
    """due: the rights without which the event is not shown at all. free: fields for whoever it is
    due to. by_right: right -> the fields that it shows."""

    due: frozenset[str]
    free: frozenset[str]
    by_right: dict[str, tuple[str, ...]] = {}


def _shown(free: str, *due: str, **by_right: str) -> Shown:
    fields = {right: tuple(names.split()) for right, names in by_right.items()}
    return Shown(frozenset(due), frozenset(free.split()), fields)


_LINK_TO_UNIT = "terminal"
EVENT_FIELDS: dict[type, Shown] = {
    UnitFix: _shown(
        "terminal lat lon fixed_at_ms received_at_ms accuracy_m course_deg speed_mps source flags",
        "position",
        "identity",
    ),
    UnitMeta: _shown(
        "terminal agency area device_class status t_ms gone booked lone",
        "identity",
        callsign="callsign",
    ),
    UnitEmergency: _shown(
        "terminal occurrence on t_ms", "emergency", "identity", position="lat lon fix_age_s"
    ),
    CheckOpened: _shown(
        "short check kind opened_ms deadline_ms parent operator", identity=_LINK_TO_UNIT
    ),
    CheckStaged: _shown("short check stage t_ms parent operator", identity=_LINK_TO_UNIT),
    CheckDone: _shown(
        "short check kind outcome t_ms elapsed_s overhead_s cause parent operator",
        identity=_LINK_TO_UNIT,
        **{"class": "result_class danger not_checked parts level"},
    ),
    CheckDelivery: _shown("short check part state t_ms", identity=_LINK_TO_UNIT),
    AlarmChanged: _shown(
        "id rule priority state raised_ms t_ms check short link ack_by closed_by count response"
        " audience shelved_until_ms chatter group why",
        identity=_LINK_TO_UNIT,
    ),
    LinkChanged: _shown("id kind state since_ms detail"),
    Noticed: _shown("kind t_ms short check", identity=_LINK_TO_UNIT),
    ReleaseChanged: _shown(
        "short check level proposed state since_ms t_ms by", "release", identity=_LINK_TO_UNIT
    ),
    MessageChanged: _shown("id short state t_ms by", "message", identity=_LINK_TO_UNIT),
    ChallengeChanged: _shown("short check state due_ms t_ms", "supervise", identity=_LINK_TO_UNIT),
    PolicyChanged: _shown("version t_ms"),
}
_BLANKS: dict[str, Any] = {
    "terminal": "",
    "callsign": "",
    "result_class": "",
    "danger": (),
    "not_checked": (),
    "parts": 0,
    "level": "",
}
"""What stands for a field that is not shown, where the event names no default."""
_ALARM_RIGHTS = {"EMG": "emergency", "DNR": "class", "DUR": "class", "COV": "covert"}
"""Alarms that tell what only this right may know."""


def visible(viewer: Viewer, event: Event) -> Event | None:
    """What of this event the viewer is due: the event itself when that is all of it; None when
    nothing. Raises KeyError when a field that may not be shown has nothing to stand for it."""
    rights = viewer.rights
    shown = EVENT_FIELDS.get(type(event))
    if shown is None or not shown.due <= rights:
        return None
    if isinstance(event, AlarmChanged):
        if event.audience == "supervisor" and "supervise" not in rights:
            return None
        if not {_ALARM_RIGHTS.get(event.rule, "")} <= rights | {""}:
            return None
    hidden = _hidden(type(event), rights)
    return msgspec.structs.replace(event, **hidden) if hidden else event


@lru_cache(maxsize=1024)
def _hidden(of: type, rights: frozenset[str]) -> dict[str, Any]:
    """Each field that these rights do not show, and what stands for it."""
    shown = EVENT_FIELDS[of]
    allowed = shown.free.union(*(shown.by_right[r] for r in rights & shown.by_right.keys()))
    return {
        field.name: _BLANKS[field.name] if field.default is msgspec.NODEFAULT else field.default
        for field in msgspec.structs.fields(of)
        if field.name not in allowed
    }
