"""Which fields of an event a viewer is shown: an allow-list by right; default deny (pure).

A kind of event that has no entry is shown to nobody, and a field that has none is shown to nobody
either: what is added to an event tomorrow is not shown before somebody says to whom.

Rights come with a role, by the policy's console rules, and hold for the areas (and, if the rule
says so, the agency) of the viewer. Both are looked up when an event is shown, never when it came.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from gateway.messages import (
    RIGHTS,
    Actor,
    AlarmChanged,
    Asker,
    ChallengeChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    Issi,
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
from gateway.rulebook import ConsoleRule, Policy, Terminal


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
# That a question was asked, and how far it is, is for those who see which units there are: to all
# others figures say enough.
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
        "short check terminal kind opened_ms deadline_ms parent operator", "identity"
    ),
    CheckStaged: _shown("short check terminal stage t_ms parent operator told", "identity"),
    CheckDone: _shown(
        "short check terminal kind outcome t_ms elapsed_s overhead_s cause parent operator told",
        "identity",
        **{"class": "result_class danger not_checked parts level"},
    ),
    CheckDelivery: _shown("short check terminal part state t_ms", "identity"),
    AlarmChanged: _shown(
        "id rule priority state raised_ms t_ms check short link ack_by closed_by count response"
        " audience shelved_until_ms chatter group why",
        identity=_LINK_TO_UNIT,
    ),
    LinkChanged: _shown("id kind state since_ms detail"),
    # When the PNC replied after all may show what it replied.
    Noticed: _shown("kind t_ms short check", "class", identity=_LINK_TO_UNIT),
    ReleaseChanged: _shown(
        "short check level proposed state since_ms t_ms by", "release", identity=_LINK_TO_UNIT
    ),
    MessageChanged: _shown("id short state t_ms by", "message", identity=_LINK_TO_UNIT),
    ChallengeChanged: _shown("short check state due_ms t_ms", "supervise", identity=_LINK_TO_UNIT),
    PolicyChanged: _shown("version t_ms"),
}
_DOT: dict[type, frozenset[str]] = {
    UnitFix: frozenset(
        ("terminal", "lat", "lon", "fixed_at_ms", "received_at_ms", "accuracy_m", "source")
    ),
    UnitMeta: frozenset(("terminal", "area", "device_class", "t_ms", "gone")),
}
"""What is left of a unit of another area where that is a grey dot: that one is there, and where."""
_BLANKS: dict[str, Any] = {
    "terminal": "",
    "callsign": "",
    "agency": "",
    "status": "",
    "course_deg": None,
    "speed_mps": None,
    "result_class": "",
    "danger": (),
    "not_checked": (),
    "parts": 0,
    "level": "",
}
"""What stands for a field that is not shown, where the event names no default."""
_ALARM_RIGHTS = {
    "EMG": "emergency",
    "DNR": "class",
    "DUR": "class",
    "CHX": "class",  # that a question failed, and when: so much sooner than its terminal knows
    "CHO": "class",  # ends when the PNC replies
    "HNR": "class",
    "COV": "covert",
}
"""Alarms that tell what only this right may know."""

_ALL_BUT_COVERT = frozenset(RIGHTS) - {"covert"}
HISTORY = Viewer(id="history", kind="history", rights=_ALL_BUT_COVERT)
METRICS = Viewer(id="metrics", kind="metrics", rights=_ALL_BUT_COVERT)
"""That something was withheld from a radio is neither kept nor counted: the audit has it."""


def visible(viewer: Viewer, event: Event) -> Event | None:
    """What of this event the viewer is due by rights of their own: the event itself when that is
    all of it; None when nothing. Raises KeyError when a field that may not be shown has nothing to
    stand for it."""
    return _by_rights(viewer.rights, event, dot=False)


def _by_rights(rights: frozenset[str], event: Event, *, dot: bool) -> Event | None:
    shown = EVENT_FIELDS.get(type(event))
    if shown is None or not shown.due <= rights or (dot and type(event) not in _DOT):
        return None
    if isinstance(event, AlarmChanged):
        if event.audience == "supervisor" and "supervise" not in rights:
            return None
        # A rule that a force adds: what names one question may tell what became of it.
        other = "class" if event.check or event.short else ""
        if not {_ALARM_RIGHTS.get(event.rule, other)} <= rights | {""}:
            return None
    if (
        isinstance(event, CheckDone | CheckStaged)
        and event.told
        and (event.told == "early") != ("class" in rights)
    ):
        return None
    hidden = _hidden(type(event), rights, dot)
    return msgspec.structs.replace(event, **hidden) if hidden else event


@lru_cache(maxsize=1024)
def _hidden(of: type, rights: frozenset[str], dot: bool) -> dict[str, Any]:
    """Each field that these rights do not show, and what stands for it."""
    shown = EVENT_FIELDS[of]
    allowed = shown.free.union(*(shown.by_right[r] for r in rights & shown.by_right.keys()))
    if dot:
        allowed &= _DOT[of]
    return {
        field.name: _BLANKS[field.name] if field.default is msgspec.NODEFAULT else field.default
        for field in msgspec.structs.fields(of)
        if field.name not in allowed
    }


def viewer_of(actor: Actor, *, kind: str = "console") -> Viewer:
    """What this person may see is what their roles may, at each moment."""
    return Viewer(id=actor.id, kind=kind, agency=actor.agency, areas=actor.areas, roles=actor.roles)


class Units(Protocol):
    """What the roster knows of a unit now: its radio, and who holds it."""

    def terminal(self, issi: Issi) -> Terminal | None: ...

    def asker(self, issi: Issi) -> Asker | None: ...


class Projection:
    """gateway.bus.Project, with the roster and the policy of the moment of showing."""

    def __init__(self, roster: Units, policy: Callable[[], Policy]) -> None:
        self._roster = roster
        self._policy = policy
        self._rules: list[tuple[ConsoleRule, frozenset[str]]] = []
        self._of: Policy | None = None

    def __call__(self, viewer: Viewer, event: Event) -> Event | None:
        in_area, in_agency = self._place(viewer, event)
        if viewer.bound and not (in_area and in_agency):
            return None
        rights: frozenset[str] = viewer.rights if in_area and in_agency else frozenset()
        dot: frozenset[str] = frozenset()
        if viewer.roles:
            for rule, theirs in self._console():
                if rule.role not in viewer.roles:
                    continue
                if _whole(rule, in_area, in_agency):
                    rights |= theirs
                elif rule.other_areas == "dot":
                    dot |= theirs
        shown = _by_rights(rights, event, dot=False)
        return _by_rights(dot, event, dot=True) if shown is None and dot else shown

    def counts(self, viewer: Viewer, meta: UnitMeta) -> bool:
        """Whether this unit is among the figures that the viewer is told of its area."""
        in_area, in_agency = self._place(viewer, meta)
        return self(viewer, meta) is not None or any(
            rule.role in viewer.roles
            and (_whole(rule, in_area, in_agency) or rule.other_areas != "none")
            for rule, _ in self._console()
        )

    def _console(self) -> list[tuple[ConsoleRule, frozenset[str]]]:
        policy = self._policy()
        if policy is not self._of:
            self._of = policy
            self._rules = [(rule, frozenset(rule.rights)) for rule in policy.console]
        return self._rules

    def _place(self, viewer: Viewer, event: Event) -> tuple[bool, bool]:
        """Whether it is of an area, and of an agency, of the viewer's. What belongs to no unit is
        everybody's, and so is that a unit left. A call for help has an agency, and no area."""
        terminal: Issi = getattr(event, "terminal", "")
        if not terminal or not (viewer.areas or viewer.agency):
            return True, True
        if isinstance(event, UnitMeta) and event.gone:
            return True, True
        radio, asker = self._roster.terminal(terminal), self._roster.asker(terminal)
        if radio is None:
            return False, False
        agency = asker.agency if asker is not None else radio.agency
        return (
            not viewer.areas or radio.area in viewer.areas or _is_emergency(event),
            not viewer.agency or agency == viewer.agency,
        )


def _whole(rule: ConsoleRule, in_area: bool, in_agency: bool) -> bool:
    """Whether the rule's rights hold there unreduced."""
    ours = in_area and (in_agency or not rule.own_agency)
    return ours or rule.other_areas == "full"


def _is_emergency(event: Event) -> bool:
    return isinstance(event, UnitEmergency) or (
        isinstance(event, AlarmChanged) and event.rule == "EMG"
    )
