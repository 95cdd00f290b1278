"""Units and calls for help as Cursor on Target, XML, version 2.0 (pure: no clock, no socket).

Rules
1. Unknown is 9999999.0 in hae, ce and le, and no element elsewhere; never 0, never made up.
2. Coordinates leave as they came, to the last digit, and never with an exponent (xs:decimal).
3. A unit without a position is no marker. A call for help without one is said all the same: the
   form demands a point, so that is 0/0 with an error of 9999999.0, and remarks say NO POSITION.
4. how is m-r: relayed. start is when the position was taken, so that its age can be seen.
5. No name of a person and nothing of a check is ever in it.
6. Nothing stands behind `</event>`: receivers cut the stream there.
Sources: MITRE, CoT base event schema 2.0 (public release); reference radio-protocols.md, 5.5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from xml.sax.saxutils import escape

import msgspec

from gateway.messages import FixSource, Issi, UnitFix, UnitMeta

UNKNOWN = "9999999.0"
HEADER = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
HOW = "m-r"
HELP, HELP_OVER = "b-a-o-tbl", "b-a-o-can"
DELETE, PING, PONG = "t-x-d-d", "t-x-c-t", "t-x-c-t-r"
HELP_SUFFIX = "-9-1-1"
"""Behind a unit's uid: its call for help, of which there is one."""
HELP_STALE_MS = 10_000
CONTROL_STALE_MS = 20_000
_POINT = f'<point lat="0.0" lon="0.0" hae="{UNKNOWN}" ce="{UNKNOWN}" le="{UNKNOWN}"/>'
"""Of what has no place."""
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SOURCES = {FixSource.GNSS: "GPS"}


class Style(msgspec.Struct, frozen=True):
    """How this gateway's units look. uid_prefix: before the ISSI. team: of an area that teams does
    not name. exercise: nothing of it is real."""

    uid_prefix: str
    type: str
    team: str
    role: str
    teams: Mapping[str, str] = {}
    exercise: bool = False


def uid_of(style: Style, terminal: Issi) -> str:
    """The same for a radio for ever, whoever carries it."""
    return style.uid_prefix + terminal


def unit(style: Style, meta: UnitMeta, fix: UnitFix, *, now_ms: int, stale_s: float) -> bytes:
    """One unit as a team mate on the map. stale_s: so old its position is no longer to be trusted;
    counted from when it was taken, so that an old one is said as what it is."""
    name = meta.callsign or uid_of(style, meta.terminal)
    detail = [
        # Without an endpoint: nobody is to write to a radio by a way that does not reach it.
        f"<contact callsign={_quoted(name)}/>",
        f"<uid Droid={_quoted(name)}/>",
        f"<__group name={_quoted(style.teams.get(meta.area, style.team))}"
        f" role={_quoted(style.role)}/>",
        f'<precisionlocation geopointsrc="{_SOURCES.get(fix.source, "???")}" altsrc="???"/>',
    ]
    if _is(fix.course_deg) and _is(fix.speed_mps):
        course, speed = _number(fix.course_deg), _number(fix.speed_mps)
        detail.append(f'<track course="{course}" speed="{speed}"/>')
    said = ", ".join(word for word in (meta.status, meta.device_class) if word)
    detail.append(f"<remarks>{_text(said)}</remarks>")
    return _event(
        style,
        uid=uid_of(style, meta.terminal),
        type_=style.type,
        times=(now_ms, fix.fixed_at_ms, fix.fixed_at_ms + round(stale_s * 1000)),
        point=_point(fix),
        detail="".join(detail),
    )


def call_for_help(
    style: Style, terminal: Issi, callsign: str, fix: UnitFix | None, *, now_ms: int
) -> bytes:
    """An emergency that stands. It goes stale within seconds: whoever says it says it again."""
    name = callsign or uid_of(style, terminal)
    remarks = "NO POSITION"
    if fix is not None:
        # Not in `start`: the call is of now, though where it comes from may be an hour old.
        remarks = f"POSITION {max(0, now_ms - fix.fixed_at_ms) // 1000} S OLD"
    return _event(
        style,
        uid=uid_of(style, terminal) + HELP_SUFFIX,
        type_=HELP,
        times=(now_ms, now_ms, now_ms + HELP_STALE_MS),
        point=_POINT if fix is None else _point(fix),
        detail=_whose(style, terminal, name)
        + f'<emergency type="911 Alert">{_text(name)}</emergency><remarks>{remarks}</remarks>',
    )


def help_over(
    style: Style, terminal: Issi, callsign: str, fix: UnitFix | None, *, now_ms: int
) -> bytes:
    """It was closed."""
    name = callsign or uid_of(style, terminal)
    return _event(
        style,
        uid=uid_of(style, terminal) + HELP_SUFFIX,
        type_=HELP_OVER,
        times=(now_ms, now_ms, now_ms + HELP_STALE_MS),
        point=_POINT if fix is None else _point(fix),
        detail=_whose(style, terminal, name)
        + f'<emergency cancel="true">{_text(name)}</emergency>',
    )


def gone(style: Style, terminal: Issi, *, now_ms: int) -> bytes:
    """Take its marker off the map."""
    uid = uid_of(style, terminal)
    return _event(
        style,
        uid=f"{uid}-gone",
        type_=DELETE,
        times=(now_ms, now_ms, now_ms + CONTROL_STALE_MS),
        point=_POINT,
        detail=f'<link uid={_quoted(uid)} type="none" relation="none"/><__forcedelete/>',
    )


def ping(style: Style, name: str, *, now_ms: int) -> bytes:
    """Is anybody there? name: of this gateway."""
    return _control(style, f"{name}-ping", PING, now_ms)


def pong(style: Style, *, now_ms: int) -> bytes:
    """Yes."""
    return _control(style, "takPong", PONG, now_ms)


def _control(style: Style, uid: str, type_: str, now_ms: int) -> bytes:
    times = (now_ms, now_ms, now_ms + CONTROL_STALE_MS)
    return _event(style, uid=uid, type_=type_, times=times, point=_POINT, detail="")


def _whose(style: Style, terminal: Issi, name: str) -> str:
    uid, type_ = _quoted(uid_of(style, terminal)), _quoted(style.type)
    contact = f"<contact callsign={_quoted(f'{name}-Alert')}/>"
    return f'<link uid={uid} type={type_} relation="p-p"/>{contact}'


def _event(
    style: Style, *, uid: str, type_: str, times: tuple[int, int, int], point: str, detail: str
) -> bytes:
    time, start, stale = (_moment(each) for each in times)
    opex = ' opex="e"' if style.exercise else ""
    return (
        f'{HEADER}<event version="2.0" uid={_quoted(uid)} type={_quoted(type_)} how="{HOW}"'
        f' time="{time}" start="{start}" stale="{stale}"{opex}>'
        f"{point}<detail>{detail}</detail></event>"
    ).encode()


def _point(fix: UnitFix) -> str:
    # An accuracy of 0 is a receiver that does not know it.
    known = _is(fix.accuracy_m) and fix.accuracy_m
    error = _number(fix.accuracy_m) if known else UNKNOWN
    return (
        f'<point lat="{_number(fix.lat)}" lon="{_number(fix.lon)}" hae="{UNKNOWN}"'
        f' ce="{error}" le="{UNKNOWN}"/>'
    )


def _is(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value >= 0


def _number(value: float | None) -> str:
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text


def _moment(ms: int) -> str:
    at = datetime.fromtimestamp(ms // 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _text(words: str) -> str:
    return escape(_NO_XML.sub("?", words))


def _quoted(words: str) -> str:
    marks = {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
    return f'"{escape(_NO_XML.sub("?", words), marks)}"'
