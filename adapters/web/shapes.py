"""Core facts as the JSON of the snapshot and the stream (console design, 15.1 and 15.2).

Units travel as small numbers: an index that is given at first sight and holds for one epoch. The
ISSI itself never leaves the gateway this way. Members that a viewer may not have are absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.alarm_rules import AlarmRules
from gateway.messages import (
    AlarmChanged,
    AssistedCheck,
    ChallengeChanged,
    CheckDelivery,
    CheckDone,
    CheckNow,
    CheckOpened,
    CheckStaged,
    ControlAnswer,
    Event,
    FixSource,
    HeldAnswer,
    Issi,
    LinkChanged,
    MessageChanged,
    Noticed,
    PolicyChanged,
    ReleaseChanged,
    Snapshot,
    ToReview,
    UnitEmergency,
    UnitFix,
    UnitMeta,
    UnitNow,
)

Json = dict[str, Any]

VERSION = 1
COLUMNS = (
    "i",
    "cs",
    "ag",
    "ar",
    "cls",
    "st",
    "lat6",
    "lon6",
    "acc",
    "hd",
    "sp",
    "fix_ms",
    "rx_ms",
    "src",
    "fl",
    "contact_ms",
    "band",
)
SOURCES = {FixSource.GNSS: "g", FixSource.PHONE: "p", FixSource.OTHER: "o"}
EMERGENCY_FLAG = 1


class Units:
    """Terminal -> index, given at first sight, for the life of the process."""

    def __init__(self) -> None:
        self._index: dict[Issi, int] = {}

    def index(self, terminal: Issi) -> int | None:
        """None for no terminal at all."""
        if not terminal:
            return None
        return self._index.setdefault(terminal, len(self._index))

    def __len__(self) -> int:
        return len(self._index)


def _s(ms: int) -> float:
    return ms / 1000


def _six(degrees: float) -> int:
    return round(degrees * 1e6)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


# --------------------------------------------------------------------------- events


_TYPES: Mapping[type, str] = {
    UnitMeta: "unit.meta",
    UnitEmergency: "unit.emergency",
    CheckOpened: "check.open",
    CheckStaged: "check.stage",
    CheckDone: "check.done",
    CheckDelivery: "check.delivery",
    AlarmChanged: "alarm",
    LinkChanged: "link",
    Noticed: "notice",
    ReleaseChanged: "release",
    MessageChanged: "message",
    ChallengeChanged: "challenge",
    PolicyChanged: "policy.change",
}


def event_type(event: Event) -> str:
    """The `type` of an event-lane message."""
    if isinstance(event, UnitMeta) and event.gone:
        return "unit.gone"
    return _TYPES[type(event)]


def event_body(event: Event, units: Units) -> Json:
    """An event-lane event without its numbers. A fix has no body here: fixes go in batches."""
    match event:
        case UnitMeta(gone=True):
            return {"type": "unit.gone", "i": units.index(event.terminal), "t": _s(event.t_ms)}
        case UnitMeta():
            return {
                "type": "unit.meta",
                "i": units.index(event.terminal),
                "cs": event.callsign,
                "ag": event.agency,
                "ar": event.area,
                "cls": event.device_class,
                "st": event.status,
                "t": _s(event.t_ms),
            }
        case UnitEmergency():
            known = event.lat is not None and event.lon is not None
            return {
                "type": "unit.emergency",
                "i": units.index(event.terminal),
                "occ": event.occurrence,
                "on": event.on,
                "pos": [_six(event.lat or 0.0), _six(event.lon or 0.0), _whole(event.fix_age_s)]
                if known
                else None,
                "t": _s(event.t_ms),
            }
        case CheckOpened():
            return {"type": "check.open", **_opened(event, units), "stage": "opening"}
        case CheckStaged():
            return {
                "type": "check.stage",
                "ref": event.short,
                "id": event.check,
                "stage": event.stage,
                "t": _s(event.t_ms),
            }
        case CheckDone():
            return {"type": "check.done", "ref": event.short, "id": event.check, **_done(event)}
        case CheckDelivery():
            return {
                "type": "check.delivery",
                "ref": event.short,
                "id": event.check,
                "part": event.part,
                "state": event.state,
                "t": _s(event.t_ms),
            }
        case AlarmChanged():
            return {"type": "alarm", **alarm_body(event, units)}
        case LinkChanged():
            return {"type": "link", **_link(event)}
        case Noticed():
            return {
                "type": "notice",
                "kind": event.kind,
                "ref": event.short,
                "u": units.index(event.terminal),
                "t": _s(event.t_ms),
            }
        case ReleaseChanged():
            return {"type": "release", **release_body(event, units)}
        case MessageChanged():
            return {"type": "message", **message_body(event, units)}
        case ChallengeChanged():
            return {"type": "challenge", **challenge_body(event, units)}
        case PolicyChanged():
            return {"type": "policy.change", "version": event.version, "t": _s(event.t_ms)}
        case UnitFix():
            raise TypeError("a fix travels in unit.batch")


def fix_row(fix: UnitFix, units: Units, now_ms: int) -> list[int | None]:
    """`[i, lat6, lon6, acc, hd, sp, age_ds, fl]`: metres, degrees, m/s, tenths of a second."""
    age_ds = max(0, round((now_ms - fix.fixed_at_ms) / 100))
    return [
        units.index(fix.terminal),
        _six(fix.lat),
        _six(fix.lon),
        _whole(fix.accuracy_m),
        _whole(fix.course_deg),
        _whole(fix.speed_mps),
        age_ds,
        fix.flags,
    ]


def rules_body(rules: AlarmRules) -> Json:
    """What each alarm means and asks for."""
    return {
        rule.id: {
            "pri": rule.priority,
            "says": rule.says,
            "response": rule.response,
            "sound": rule.sound,
            "ack": rule.ack,
            "shelve": rule.shelve,
        }
        for rule in rules.rules
    }


def alarm_body(alarm: AlarmChanged, units: Units) -> Json:
    """The full record; replace by id. Members of what is not so are absent."""
    body: Json = {
        "id": alarm.id,
        "rule": alarm.rule,
        "pri": alarm.priority,
        "state": alarm.state,
        "raised": _s(alarm.raised_ms),
        "t": _s(alarm.t_ms),
        "count": alarm.count,
        "response": alarm.response,
        "subj": {
            key: value
            for key, value in (
                ("u", units.index(alarm.terminal)),
                ("ref", alarm.short or None),
                ("link", alarm.link or None),
            )
            if value is not None
        },
    }
    if alarm.audience != "operator":
        body["audience"] = alarm.audience
    if alarm.shelved_until_ms is not None:
        body["shelved_until"] = _s(alarm.shelved_until_ms)
    for name in ("ack_by", "closed_by", "chatter", "group", "why"):
        if value := getattr(alarm, name):
            body[name] = value
    return body


def message_body(message: MessageChanged, units: Units) -> Json:
    """Where it stands, never what it says: that is on record, and on the unit's screen."""
    return {
        "ref": message.short,
        "id": message.id,
        "u": units.index(message.terminal),
        "state": message.state,
        "by": message.by,
        "t": _s(message.t_ms),
    }


def located_body(terminal: Issi, t_ms: int, units: Units) -> Json:
    """Who was asked where they are, and when; never where they are."""
    return {"u": units.index(terminal), "t": _s(t_ms)}


def release_body(event: ReleaseChanged, units: Units) -> Json:
    """A held answer, or what became of it; replace by id."""
    return {
        "ref": event.short,
        "id": event.check,
        "u": units.index(event.terminal),
        "level": event.level,
        "proposed": event.proposed,
        "state": event.state,
        "since": _s(event.since_ms),
        "by": event.by,
        "t": _s(event.t_ms),
    }


def held_body(held: HeldAnswer, units: Units) -> Json:
    """What an operator reads of it before they decide."""
    return {
        **release_body(held.release, units),
        "levels": {level: list(pages) for level, pages in held.levels.items()},
        "whole": list(held.whole),
        "whole_level": held.whole_level,
    }


def challenge_body(event: ChallengeChanged, units: Units) -> Json:
    """A challenged check, without what its officer wrote."""
    return {
        "ref": event.short,
        "id": event.check,
        "u": units.index(event.terminal),
        "state": event.state,
        "due": _s(event.due_ms),
        "t": _s(event.t_ms),
    }


def review_body(waits: ToReview, units: Units) -> Json:
    """The same as a supervisor looks at it."""
    return {
        **challenge_body(waits.challenge, units),
        "officer": waits.officer,
        "kind": waits.kind,
        "reason": waits.reason,
        "cause": waits.cause,
        "text": waits.text,
    }


def assisted_body(asked: AssistedCheck, units: Units) -> Json:
    """A question that an operator keyed is on record."""
    return {
        "ref": asked.short,
        "id": asked.check,
        "u": units.index(asked.terminal),
        "to_radio": asked.to_radio,
        "refused": asked.refused,
    }


def answer_body(answer: ControlAnswer) -> Json:
    """What came of it, for the operator who asked."""
    return {
        "ref": answer.short,
        "id": answer.check,
        "outcome": answer.outcome.value,
        "class": answer.result_class,
        "danger": list(answer.danger),
        "pages": list(answer.pages),
        "level": answer.level,
        "why": answer.why,
    }


def _opened(event: CheckOpened, units: Units) -> Json:
    return {
        "ref": event.short,
        "id": event.check,
        "u": units.index(event.terminal),
        "kind": event.kind.value,
        "opened": _s(event.opened_ms),
        "deadline": _s(event.deadline_ms),
    }


def _done(event: CheckDone) -> Json:
    body: Json = {
        "outcome": event.outcome.value,
        "parts": event.parts,
        "not_checked": list(event.not_checked),
        "cause": event.cause,
        "elapsed_ms": round(event.elapsed_s * 1000),
        "t": _s(event.t_ms),
    }
    if event.result_class:  # absent, not empty, for whoever may not know
        body["class"] = event.result_class
        body["danger"] = list(event.danger)
    return body


def _link(event: LinkChanged) -> Json:
    return {
        "id": event.id,
        "kind": event.kind,
        "state": event.state.value,
        "since": _s(event.since_ms),
        "detail": event.detail,
    }


# --------------------------------------------------------------------------- snapshot


class _Words:
    """Values of a column as indexes into a list."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __call__(self, word: str) -> int:
        return self.index.setdefault(word, len(self.index))


PRIVACY = frozenset({"prompted", "not_free"})
"""Stages in which it waits for its officer's word."""


def check_body(now: CheckNow, units: Units) -> Json:
    """A check as it stands; `done` when it has ended. The subject is never here."""
    body = {
        **_opened(now.opened, units),
        "stage": now.stage,
        "privacy": now.stage if now.stage in PRIVACY else None,
        "delivery": now.delivery,
    }
    if now.done is not None:
        body["done"] = _done(now.done)
    return body


def snapshot_body(
    snapshot: Snapshot,
    units: Units,
    *,
    epoch: str,
    intervals: Mapping[str, float],
    me: Json,
    rules: AlarmRules,
) -> Json:
    """The whole picture, units as columns. intervals: device class -> seconds between fixes."""
    areas, agencies, statuses = _Words(), _Words(), _Words()
    rows = [_unit_row(unit, units, areas, agencies, statuses) for unit in snapshot.units]
    return {
        "v": VERSION,
        "epoch": epoch,
        "seq": snapshot.seq,
        "t": _s(snapshot.t_ms),
        "me": me,
        "dict": {
            "areas": list(areas.index),
            "agencies": list(agencies.index),
            "status": list(statuses.index),
            "bands": {name: {"T": seconds} for name, seconds in intervals.items()},
            "alarm_rules": rules_body(rules),
            "shelve": {"minutes": rules.shelve_minutes, "reasons": rules.shelve_reasons},
        },
        "units": {"cols": COLUMNS, "rows": rows},
        "checks": [check_body(check, units) for check in snapshot.checks],
        "releases": [release_body(each, units) for each in snapshot.releases],
        "alarms": [alarm_body(alarm, units) for alarm in snapshot.alarms],
        "messages": [message_body(message, units) for message in snapshot.messages],
        "links": [_link(link) for link in snapshot.links],
        "kpi": {**snapshot.counts, "errors": list(snapshot.errors)},
    }


def _unit_row(
    unit: UnitNow, units: Units, areas: _Words, agencies: _Words, statuses: _Words
) -> list[Any]:
    meta, fix = unit.meta, unit.fix
    flags = (fix.flags if fix is not None else 0) & ~EMERGENCY_FLAG
    position: list[Any] = [None] * 8
    if fix is not None:
        position = [
            _six(fix.lat),
            _six(fix.lon),
            _whole(fix.accuracy_m),
            _whole(fix.course_deg),
            _whole(fix.speed_mps),
            fix.fixed_at_ms,
            fix.received_at_ms,
            SOURCES[fix.source],
        ]
    return [
        units.index(meta.terminal),
        meta.callsign,
        agencies(meta.agency),
        areas(meta.area),
        meta.device_class,
        statuses(meta.status),
        *position,
        flags | (EMERGENCY_FLAG if unit.emergency else 0),
        unit.contact_ms,
        unit.band,
    ]


encode = msgspec.json.Encoder().encode
