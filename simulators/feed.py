"""What happens, one line each, for somebody who watches a terminal: no subject data, 80 columns.

The formatting is pure (`format_event`); `Feed` keeps what it needs to name a check and writes.
"""

from __future__ import annotations

import datetime
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TextIO

import msgspec

from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    Kind,
    LinkChanged,
    LinkState,
    Noticed,
    Outcome,
    UnitEmergency,
)

WIDTH = 80
SCREEN = 64
"""Columns for what stands on a radio, behind its call-sign."""
COUNTER_EVERY_S = 10.0
KINDS_MOST = 1000
SILENT_STAGES = frozenset({"queued", "disclosing", "delivering"})
"""They last for milliseconds; the page shows them."""
_SHORT_KINDS = {"vehicle": "VEH", "person": "PER", "driver": "DRV", "property": "PRP", "-": "-  "}
LEGEND = "time, call-sign, kind, reference, what; how long in all +added by us"
SILENT_DELIVERIES = frozenset({"sent", "delivered"})
DELIVERY_WORDS = {"failed": "not delivered", "stale": "never delivered (too old)"}
"""As on the page; `failed` alone would read as the outcome of that name."""


class Line(msgspec.Struct, frozen=True):
    """One line of the feed. tone: plain, good, danger, doubt, caption or dim."""

    text: str
    tone: str = "plain"


def format_event(
    event: Event, *, callsigns: Mapping[str, str], kinds: Mapping[str, Kind], zone: datetime.tzinfo
) -> Line | None:
    """An event as one line of at most 80 columns, or None for what the feed leaves out. Pure.

    callsigns: by terminal. kinds: of the checks that are known, by whole id.
    """
    match event:
        case CheckOpened():
            return Line(_row(event.opened_ms, event, callsigns, str(event.kind), "asked", zone))
        case CheckStaged() if event.stage not in SILENT_STAGES:
            kind = str(kinds.get(event.check, "-"))
            stage = "at the PNC" if event.stage == "pnc" else event.stage
            return Line(_row(event.t_ms, event, callsigns, kind, stage, zone), "dim")
        case CheckDone():
            return _done(event, callsigns, zone)
        case CheckDelivery() if event.state not in SILENT_DELIVERIES:
            kind = str(kinds.get(event.check, "-"))
            state = DELIVERY_WORDS.get(event.state, event.state)
            return Line(_row(event.t_ms, event, callsigns, kind, state, zone), "dim")
        case UnitEmergency():
            word = "EMERGENCY" if event.on else "emergency over"
            callsign = callsigns.get(event.terminal, "?")
            return Line(f"{_at(event.t_ms, zone)} {callsign:<6} {word}", "danger")
        case AlarmChanged():
            subject = callsigns.get(event.terminal, "") or event.link
            text = f"{_at(event.t_ms, zone)} {subject:<6.13} alarm {event.rule} {event.state}"
            return Line(_cut(text), "doubt")
        case LinkChanged():
            good = event.state is LinkState.UP
            text = f"{_at(event.since_ms, zone)} {'link':<6} {event.id} {event.state}"
            return Line(_cut(text), "dim" if good else "doubt")
        case Noticed():
            callsign = callsigns.get(event.terminal, "")
            text = f"{_at(event.t_ms, zone)} {callsign:<6} notice {event.kind} {event.short}"
            return Line(_cut(text.rstrip()), "dim")
        case _:
            return None


def _row(
    t_ms: int,
    event: CheckOpened | CheckStaged | CheckDone | CheckDelivery,
    callsigns: Mapping[str, str],
    kind: str,
    what: str,
    zone: datetime.tzinfo,
) -> str:
    callsign = callsigns.get(event.terminal, "?")
    return f"{_at(t_ms, zone)} {callsign:<6} {_SHORT_KINDS.get(kind, kind)} {event.short:<4} {what}"


def _done(event: CheckDone, callsigns: Mapping[str, str], zone: datetime.tzinfo) -> Line:
    took = f"{event.elapsed_s:.3f}s"
    if event.overhead_s is not None:
        took += f" +{event.overhead_s * 1000:.1f}ms"
    outcome = event.outcome.value.upper()
    text = _row(event.t_ms, event, callsigns, str(event.kind), f"{outcome:<8}", zone)
    room = WIDTH - len(took) - 2
    words = [event.result_class, *event.danger]
    if event.outcome in (Outcome.EXPIRED, Outcome.FAILED):
        words = ["NO ANSWER", event.result_class]
    for word in filter(None, words):
        # Whole words or none: half a danger word may be another word.
        if len(text) + 1 + len(word) > room - 2:
            text += " +"
            break
        text += f" {word}"
    text = f"{text:<{room}}  {took}"
    if event.outcome is Outcome.ANSWERED:
        return Line(text, "danger" if event.danger else "good")
    return Line(text, "doubt")


def _at(t_ms: int, zone: datetime.tzinfo) -> str:
    return datetime.datetime.fromtimestamp(t_ms / 1000, zone).strftime("%H:%M:%S")


def _cut(text: str) -> str:
    return text[:WIDTH]


class Count:
    """What the feed has seen, for the summary. Fixes are counted as this viewer got them."""

    def __init__(self) -> None:
        self.asked = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.fixes = 0
        self.overheads_s: list[float] = []

    def take(self, event: Event) -> None:
        match event:
            case CheckOpened():
                self.asked += 1
            case CheckDone():
                self.outcomes[event.outcome] += 1
                if event.overhead_s is not None:
                    self.overheads_s.append(event.overhead_s)
            case _:
                pass

    @property
    def open(self) -> int:
        return max(0, self.asked - self.outcomes.total())

    def summary(self) -> str:
        """The last lines of the demo."""
        times = sorted(self.overheads_s)
        outcomes = "  ".join(f"{outcome.value} {self.outcomes[outcome]}" for outcome in Outcome)
        lines = [f"checks   asked {self.asked}  {outcomes}  open {self.open}"]
        lines.append(f"fixes    {self.fixes}")
        if times:
            p50_ms, p99_ms = (percentile(times, part) * 1000 for part in (0.50, 0.99))
            lines.append(
                f"gateway  added p50 {p50_ms:.1f} ms  p99 {p99_ms:.1f} ms  ({len(times)} checks)"
            )
        else:
            lines.append("gateway  added time unknown: no check got that far")
        return "\n".join(lines)


def percentile(ordered: Sequence[float], part: float) -> float:
    """The nearest-rank percentile of values in rising order; never one that was not measured."""
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


_COLOURS = {"good": "32", "danger": "1;31", "doubt": "33", "caption": "1;36", "dim": "2"}


class Feed:
    """Writes lines to a terminal or a pipe; colour and a running counter only on a terminal."""

    def __init__(
        self, out: TextIO, *, callsigns: Mapping[str, str], zone: datetime.tzinfo, colour: bool
    ) -> None:
        self.count = Count()
        self._out = out
        self._callsigns = callsigns
        self._zone = zone
        self._colour = colour
        self._kinds: dict[str, Kind] = {}
        self._live = out.isatty()
        self._dangling = False
        self._counted_at_s = -math.inf

    def event(self, event: Event) -> None:
        self.count.take(event)
        if isinstance(event, CheckOpened):
            self._kinds[event.check] = event.kind
        line = format_event(event, callsigns=self._callsigns, kinds=self._kinds, zone=self._zone)
        if line is not None:
            self.line(line)
        if isinstance(event, CheckOpened | CheckDone) and len(self._kinds) > KINDS_MOST:
            del self._kinds[next(iter(self._kinds))]

    def caption(self, text: str) -> None:
        for piece in textwrap.wrap(text, WIDTH - 3):
            self.line(Line(f"== {piece}", "caption"))

    def screen(self, callsign: str, parts: Sequence[str]) -> None:
        """What stands on a simulated radio, part by part, as its officer reads it."""
        for number, part in enumerate(parts or ["(nothing yet)"], start=1):
            rows = [textwrap.wrap(row, SCREEN) for row in part.splitlines()]
            for place, row in enumerate(piece for pieces in rows for piece in pieces):
                head = f"{callsign} {number}" if place == 0 else ""
                self.line(Line(f"   {head:<9}| {row}", "caption"))

    def line(self, line: Line) -> None:
        self._clear()
        code = _COLOURS.get(line.tone, "") if self._colour else ""
        self._out.write(f"\x1b[{code}m{line.text}\x1b[0m\n" if code else f"{line.text}\n")
        self._out.flush()

    def counter(self, now_s: float) -> None:
        """Say how many fixes came: each turn on a terminal, every ten seconds in a pipe."""
        text = (
            f"fixes {self.count.fixes}  checks {self.count.asked}  "
            f"answered {self.count.outcomes[Outcome.ANSWERED]}  open {self.count.open}"
        )
        if self._live:
            self._clear()
            self._out.write(f"   {text}")
            self._dangling = True
            self._out.flush()
        elif now_s - self._counted_at_s >= COUNTER_EVERY_S:
            self._counted_at_s = now_s
            self.line(Line(f"-- {text}", "dim"))

    def end(self) -> None:
        self._clear()
        self._out.flush()

    def _clear(self) -> None:
        if self._dangling:
            self._out.write("\r\x1b[K")
            self._dangling = False
