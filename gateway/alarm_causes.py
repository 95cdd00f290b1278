"""What happens in the gateway that is a cause of an alarm: seen on the bus, or true by time alone.

It says what is there and what is gone, never what is made of it: that is the rules' (alarm_rules).
A check that got no answer is a cause of its terminal, not of the check: the operator calls an
officer once, however often they tried.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Protocol

from gateway.alarm_life import About
from gateway.alarm_rules import EMERGENCY
from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    Issi,
    LinkChanged,
    Outcome,
)
from gateway.ports import Clock

MOST_CHECKS = 4096
"""Checks under way that are remembered; more than any gateway has open."""
LOOKS_MOST = 1024
OPERATORS_MOST = 1000
OPERATOR_AT = "operator "
DEADBAND = 0.75
"""What is a figure above its limit is so until it is below this part of it."""


class Alarms(Protocol):
    """The alarm desk, as far as causes go."""

    def cause(self, cause: str, about: About, *, on: bool) -> None: ...

    def happened(self, cause: str, about: About) -> None: ...

    def is_on(self, cause: str, subject: str) -> bool: ...

    def causes_on(self, cause: str) -> tuple[About, ...]: ...

    def limit_s(self, cause: str) -> float | None: ...

    def often(self, cause: str) -> tuple[int, float]: ...

    def link_changed(self, event: LinkChanged) -> None: ...

    def open(self) -> tuple[AlarmChanged, ...]: ...


class Ages(Protocol):
    """How old a terminal's position is; None when there is none."""

    def age(self, terminal: Issi, now_ms: int) -> float | None: ...


class AlarmCauses:
    """A tap on the bus, and a look once a second."""

    def __init__(self, alarms: Alarms, ages: Ages, clock: Clock) -> None:
        self._alarms = alarms
        self._ages = ages
        self._clock = clock
        self._looks: dict[str, deque[float]] = {}
        self._under_way: OrderedDict[str, Issi] = OrderedDict()
        self._dangers: OrderedDict[str, None] = OrderedDict()
        """Answers with danger words that are not delivered."""
        self._in_slot: OrderedDict[str, tuple[About, int]] = OrderedDict()

    def seen(self, event: Event) -> None:
        match event:
            case LinkChanged():
                self._alarms.link_changed(event)
            case CheckOpened(check=check, terminal=terminal):
                self._under_way[check] = terminal
                if len(self._under_way) > MOST_CHECKS:
                    self._under_way.popitem(last=False)
                self._alarms.cause("slow", _of(event), on=True)
            case CheckDone():
                self._done(event)
            case CheckStaged(stage="held" | "control"):
                # No delivery has begun: whoever must let it go, or read it, sees that elsewhere.
                self._alarms.cause("undelivered", _of(event), on=False)
            case CheckStaged(stage="prompted"):
                # Its danger words are on the air with the question: unread until that is answered.
                self._alarms.cause("undelivered", _of(event), on=False)
                if event.check in self._dangers:
                    self._alarms.cause("unread", _of(event), on=True)
            case CheckStaged(stage="not_free"):
                self._alarms.cause("unread", _of(event), on=False)
            case CheckStaged(stage="delivering"):
                # Let go by its officer or an operator: now the rest must arrive.
                self._alarms.cause("unread", _of(event), on=False)
                if event.check in self._dangers:
                    self._alarms.cause("undelivered", _of(event), on=True)
            case CheckDelivery():
                self._delivery(event)
            case _:
                pass

    def _done(self, event: CheckDone) -> None:
        if event.told != "early":
            self._under_way.pop(event.check, None)
        if event.told == "slot":
            return  # the same outcome, for those who were not told early
        self._alarms.cause("slow", _of(event), on=False)
        if event.outcome in (Outcome.EXPIRED, Outcome.FAILED):
            about = About(terminal=event.terminal, short=event.short)
            self._alarms.happened("unanswered", about)
        elif event.outcome is Outcome.ANSWERED and event.danger:
            self._dangers[event.check] = None
            if len(self._dangers) > MOST_CHECKS:
                self._dangers.popitem(last=False)
            self._alarms.cause("undelivered", _of(event), on=True)

    def _delivery(self, event: CheckDelivery) -> None:
        about = _of(event)
        if event.state == "delivered" and self._alarms.is_on("undelivered", event.check):
            self._alarms.cause("unread", about, on=True)
        if event.state in ("read", "stale"):
            self._alarms.cause("unread", about, on=False)
        if event.state in ("delivered", "read", "stale"):
            self._in_slot.pop(event.check, None)
            self._dangers.pop(event.check, None)
            self._alarms.cause("undelivered", about, on=False)

    def danger_arrived(self, terminal: Issi, check: str, short: str) -> None:
        """The first part is there, and every danger word is in it (console, 18.1 rule 3); the rest
        may take an air interface long. Whether it is read is another question."""
        if self._alarms.is_on("undelivered", check):
            about = About(terminal=terminal, check=check, short=short)
            self._alarms.cause("undelivered", about, on=False)
            self._alarms.cause("unread", about, on=True)

    def awaits(self, terminal: Issi, check: str, short: str) -> None:
        """After a restart: this answer with danger words is not delivered yet."""
        about = About(terminal=terminal, check=check, short=short)
        self._alarms.cause("undelivered", about, on=True)

    def in_slot(self, terminal: Issi, check: str, short: str, at_ms: int) -> None:
        """This answer is not sent before then, and so it is undelivered from then on only."""
        about = About(terminal=terminal, check=check, short=short)
        if not self._alarms.is_on("undelivered", check):
            return
        self._alarms.cause("undelivered", about, on=False)
        self._in_slot[check] = (about, at_ms)
        if len(self._in_slot) > MOST_CHECKS:
            about, _ = self._in_slot.popitem(last=False)[1]
            self._alarms.cause("undelivered", about, on=True)

    def chain_verifies(self, verifies: bool) -> None:
        """What the proof of the whole audit said: a break is looked into while it is young."""
        self._alarms.cause("audit_unproved", About(link="chain"), on=not verifies)

    def records_are_missing(self) -> None:
        """Found at the start: the store is behind what an anchor or the heads know, or was broken
        and set aside. True for this life; the gap itself is on record."""
        self._alarms.cause("audit_unproved", About(link="store"), on=True)

    def anchor_is_behind(self, anchor: str, behind: bool) -> None:
        """Whether no head has left this host by this way for too long."""
        self._alarms.cause("audit_unproved", About(link=f"anchor {anchor}"), on=behind)

    def revealed(self, operator: str) -> None:
        """This operator looked at the content of an answer: that is on record; how often, too, is
        looked at."""
        if len(self._looks) >= OPERATORS_MOST and operator not in self._looks:
            return
        self._looks.setdefault(operator, deque(maxlen=LOOKS_MOST)).append(self._clock.monotonic_s())
        self._tick_looks()

    def _tick_looks(self) -> None:
        often, within_s = self._alarms.often("reveals")
        now_s = self._clock.monotonic_s()
        for operator, times in tuple(self._looks.items()):
            while times and now_s - times[0] > within_s:
                times.popleft()
            if not times:
                del self._looks[operator]
            # Who it is about stands where a link would: an alarm has no person.
            about = About(link=f"{OPERATOR_AT}{operator}")
            self._alarms.cause("reveals", about, on=bool(often) and len(times) > often)

    def clock_is_off(self, terminal: Issi, skew_s: float) -> None:
        """So far is the clock of this terminal from ours, by the message that just came."""
        limit_s = self._alarms.limit_s("clock_off")
        if limit_s is not None:
            on = self._alarms.is_on("clock_off", terminal)
            off = abs(skew_s) > limit_s * (DEADBAND if on else 1)
            self._alarms.cause("clock_off", About(terminal=terminal), on=off)

    def tick(self, now_ms: int) -> None:
        """Once a second: whose slot has begun, and whose position is too old to help by."""
        for check, (about, at_ms) in tuple(self._in_slot.items()):
            if now_ms >= at_ms:
                del self._in_slot[check]
                self._alarms.cause("undelivered", about, on=True)
        self._tick_looks()
        self._tick_positions(now_ms)

    def _tick_positions(self, now_ms: int) -> None:
        limit_s = self._alarms.limit_s("position_old")
        if limit_s is None:
            return
        called = {each.terminal for each in self._alarms.open() if each.rule == EMERGENCY}
        wanted = called | set(self._under_way.values())
        known = {about.terminal for about in self._alarms.causes_on("position_old")}
        for terminal in known | wanted:
            age_s = self._ages.age(terminal, now_ms)
            if terminal not in wanted:
                old = False
            elif age_s is None:
                # Many radios have no receiver; that of an officer who calls for help is missed.
                old = terminal in called
            else:
                old = age_s > limit_s * (DEADBAND if terminal in known else 1)
            self._alarms.cause("position_old", About(terminal=terminal), on=old)


def _of(event: CheckOpened | CheckDone | CheckStaged | CheckDelivery) -> About:
    return About(terminal=event.terminal, check=event.check, short=event.short)
