"""All alarms together: when a cause becomes an alarm, and how many at once a person is shown.

`step(engine, event, now_s, now_ms)` never waits and never looks at a clock: the desk (alarms.py)
carries out what it answers. Engines are values, so what an act would do can be looked at first.

Rules of this module
1. A cause that lasts for its on-delay has exactly one open occurrence, until it was gone for its
   off-delay or somebody closed it. Shelf, flood, chatter and restart change how it is shown, never
   whether it is there; only a rule that collapses others takes their new alarms into its count.
2. An emergency is raised at once, whatever else holds, and nothing here ends or alters it.
3. Delays run by the monotonic clock: a wall clock that is set neither hides nor hurries an alarm.
   What ran before a restart is taken from the wall clock, once.
Source: console design, 7.
"""

from __future__ import annotations

import msgspec

from gateway import alarm_life as life
from gateway.alarm_life import CLEARED, About, Effect
from gateway.alarm_rules import AGAIN, EMERGENCY, OPERATOR, AlarmRule, AlarmRules
from gateway.messages import AlarmChanged

MOST_REMEMBERED = 200
"""Raisings in one area that a flood is counted from; more only makes it more of a flood."""
MOST_EDGES = 16
MOST_OPEN = 2048
"""When nobody acknowledges for days. Beyond it a cause waits for a place; an emergency does not."""

Cause = tuple[str, str]
"""Rule and subject: of each there is one open occurrence at most."""


# --------------------------------------------------------------------------- events


class On(msgspec.Struct, frozen=True):
    """The cause is there. id: of the occurrence, should it make a new one."""

    cause: str
    about: About
    id: str


class Off(msgspec.Struct, frozen=True):
    """The cause is gone."""

    cause: str
    about: About


class Happened(msgspec.Struct, frozen=True):
    """The cause came and went: each time counts. id: as of On."""

    cause: str
    about: About
    id: str


class Acted(msgspec.Struct, frozen=True):
    """An operator did something to an open alarm."""

    alarm: str
    act: life.Act


class Worse(msgspec.Struct, frozen=True):
    """Of this cause there is much: its alarm is priority 2 from now on."""

    cause: str
    subject: str


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class Restored(msgspec.Struct, frozen=True):
    """An alarm that was open when the last life ended. area: of its terminal."""

    alarm: AlarmChanged
    area: str = ""


class Ruled(msgspec.Struct, frozen=True):
    """Another file of rules. What is open keeps the words it was raised with."""

    rules: AlarmRules


Event = On | Off | Happened | Worse | Acted | Tick | Restored | Ruled


# --------------------------------------------------------------------------- answers


class Change(msgspec.Struct, frozen=True):
    """An alarm as it is now, and what is to be done about it."""

    alarm: AlarmChanged
    effects: tuple[Effect, ...]


class Flooded(msgspec.Struct, frozen=True):
    """More alarms in this area than a person can take in; on False: no longer."""

    area: str
    count: int
    on: bool


Answer = Change | Flooded


# --------------------------------------------------------------------------- what is held


class Condition(msgspec.Struct, frozen=True):
    """A cause with its delays. since_s: of its last change. raised: what its alarm follows.
    edges: when it was raised lately. chatter: how often so far, while it chatters. folded: it is in
    another alarm's count."""

    about: About
    id: str
    on: bool
    since_s: float
    raised: bool = False
    edges: tuple[float, ...] = ()
    chatter: int = 0
    folded: bool = False


class Timing(msgspec.Struct, frozen=True):
    """Of an open alarm, by the monotonic clock."""

    raised_s: float
    area: str = ""
    shelf_s: float | None = None
    stood: bool = False


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    rules: AlarmRules
    began_s: float
    grace_s: float = 0.0
    open: dict[str, AlarmChanged] = {}
    by_cause: dict[Cause, str] = {}
    conditions: dict[Cause, Condition] = {}
    timings: dict[str, Timing] = {}
    raisings: dict[str, tuple[float, ...]] = {}
    """By area: when alarms were raised lately. None of these is ever changed in place."""
    flooded: frozenset[str] = frozenset()

    @property
    def full(self) -> bool:
        return len(self.open) >= MOST_OPEN

    def is_on(self, cause: str, subject: str) -> bool:
        """Whether this cause is there, as it was last said."""
        rule = self.rules.by_cause.get(cause)
        condition = self.conditions.get((rule.id, subject)) if rule is not None else None
        return condition is not None and condition.on

    def subjects_on(self, cause: str) -> tuple[About, ...]:
        """What this cause is there for."""
        rule = self.rules.by_cause.get(cause)
        id_ = rule.id if rule is not None else ""
        return tuple(
            condition.about
            for (of, _), condition in self.conditions.items()
            if of == id_ and condition.on
        )


def cause_of(alarm: AlarmChanged) -> Cause:
    return alarm.rule, alarm.check or alarm.terminal or alarm.link


def step(
    engine: Engine, event: Event, now_s: float, now_ms: int
) -> tuple[Engine, tuple[Answer, ...]]:
    """The engine after this event, and what is to be done, in this order. Raises KeyError for an
    act on an alarm that is not open."""
    if isinstance(event, Tick) and not _due(engine, now_s):
        return engine, ()
    draft = _Draft(engine, now_s, now_ms)
    match event:
        case On():
            draft.on(event)
        case Off():
            draft.off(event)
        case Happened():
            draft.happened(event)
        case Worse():
            draft.worse(event)
        case Acted(alarm=alarm, act=act):
            draft.live(engine.open[alarm], act)
        case Tick():
            draft.tick()
        case Restored():
            draft.restored(event)
        case Ruled(rules=rules):
            draft.rules = rules
    return draft.done(), tuple(draft.answers)


# --------------------------------------------------------------------------- the work


class _Draft:
    """The next engine in the making."""

    def __init__(self, engine: Engine, now_s: float, now_ms: int) -> None:
        self.engine = engine
        self.now_s = now_s
        self.now_ms = now_ms
        self.rules = engine.rules
        self.conditions = dict(engine.conditions)
        self.open, self.by_cause = engine.open, engine.by_cause
        self.timings, self.raisings = engine.timings, engine.raisings
        self._own = False
        self.flooded = engine.flooded
        self.answers: list[Answer] = []

    def _alarms(self) -> None:
        """Before anything is done to an alarm. Most causes come and go, and none becomes one."""
        if not self._own:
            self._own = True
            self.open, self.by_cause = dict(self.open), dict(self.by_cause)
            self.timings, self.raisings = dict(self.timings), dict(self.raisings)

    def done(self) -> Engine:
        return Engine(
            rules=self.rules,
            began_s=self.engine.began_s,
            grace_s=self.engine.grace_s,
            open=self.open,
            by_cause=self.by_cause,
            conditions=self.conditions,
            timings=self.timings,
            raisings=self.raisings,
            flooded=self.flooded,
        )

    # ------------------------------------------------------------------ events

    def on(self, event: On) -> None:
        rule = self.rules.by_cause.get(event.cause)
        if rule is None:
            return
        cause = (rule.id, event.about.subject)
        if rule.id == EMERGENCY:
            self._raise(rule, cause, event.about, event.id)
            return
        known = self.conditions.get(cause)
        if known is None:
            # One that ceased and waits for a hand does not follow its cause any more.
            alarm = self.open.get(self.by_cause.get(cause, ""))
            raised = alarm is not None and alarm.state.endswith("-active")
            self.conditions[cause] = Condition(event.about, event.id, True, self.now_s, raised)
        elif not known.on:
            self.conditions[cause] = msgspec.structs.replace(
                known, about=event.about, id=event.id, on=True, since_s=self.now_s
            )
        else:
            return
        self._settle(cause)

    def off(self, event: Off) -> None:
        rule = self.rules.by_cause.get(event.cause)
        if rule is None or rule.id == EMERGENCY:
            return
        cause = (rule.id, event.about.subject)
        known = self.conditions.get(cause)
        if known is None or not known.on:
            return
        self.conditions[cause] = msgspec.structs.replace(known, on=False, since_s=self.now_s)
        self._settle(cause)

    def happened(self, event: Happened) -> None:
        rule = self.rules.by_cause.get(event.cause)
        if rule is None or rule.id == EMERGENCY or self._too_early(rule):
            return
        cause = (rule.id, event.about.subject)
        if cause not in self.by_cause:
            over = self._collapsing(rule)
            if over is not None:
                self.live(over, life.Counted())
            if over is not None or len(self.open) >= MOST_OPEN:
                return
        self._raise(rule, cause, event.about, event.id)
        self.conditions[cause] = Condition(
            event.about, event.id, on=False, since_s=self.now_s, raised=True
        )

    def worse(self, event: Worse) -> None:
        rule = self.rules.by_cause.get(event.cause)
        alarm = self.open.get(self.by_cause.get((rule.id if rule else "", event.subject), ""))
        if alarm is not None:
            self.live(alarm, life.Worsened(2))

    def tick(self) -> None:
        self._alarms()
        for cause in tuple(self.conditions):
            self._settle(cause)
        for alarm in tuple(self.open.values()):
            self._age(alarm)
        for area in tuple(self.raisings):
            self._count_raisings(area)

    def restored(self, event: Restored) -> None:
        alarm = event.alarm
        if alarm.state == CLEARED or alarm.id in self.open:
            return
        self._alarms()
        emergency = True if alarm.rule == EMERGENCY else None
        # Whether it floods is found anew below; a group of one would be silent for nothing.
        alarm = msgspec.structs.replace(
            alarm, response=alarm.response or self._rule_of(alarm).response, group=""
        )
        self.open[alarm.id] = alarm
        cause = cause_of(alarm)
        self.by_cause[cause] = alarm.id
        # A wall clock that was set back meanwhile makes it young, never of the future.
        aged_s = max(0.0, (self.now_ms - alarm.raised_ms) / 1000)
        shelf_s = None
        if alarm.shelved_until_ms is not None:
            longest_s = 60.0 * max(self.rules.shelve_minutes)
            left_s = (alarm.shelved_until_ms - self.now_ms) / 1000
            shelf_s = self.now_s + min(max(0.0, left_s), longest_s)
        self.timings[alarm.id] = Timing(self.now_s - aged_s, event.area, shelf_s)
        self.answers.append(Change(alarm, (life.Show(emergency),)))
        if alarm.state.endswith("-active") and alarm.rule != EMERGENCY:
            about = About(alarm.terminal, alarm.link, alarm.check, alarm.short, event.area)
            self.conditions[cause] = Condition(
                about,
                alarm.id,
                # Still there until the world says otherwise, where it will say so.
                self._rule_of(alarm).cause in AGAIN,
                self.now_s,
                raised=True,
                edges=(self.now_s,) if alarm.chatter else (),
                chatter=alarm.chatter,
            )
        known = self.raisings.get(event.area, ())
        self.raisings[event.area] = tuple(sorted((*known, self.now_s - aged_s)))
        self._count_raisings(event.area)

    # ------------------------------------------------------------------ a cause

    def _settle(self, cause: Cause) -> None:
        """What its delays have made true."""
        condition = self.conditions[cause]
        rule = self.rules.by_id.get(cause[0])
        if rule is None:  # the rules were replaced, and this one is no more
            self._cease(cause)
            del self.conditions[cause]
            return
        held_s = self.now_s - condition.since_s
        if condition.on and not condition.raised:
            if held_s >= rule.on_delay_s and not self._too_early(rule):
                condition = self._begin(rule, cause, condition)
        elif not condition.on and condition.raised and held_s >= rule.off_delay_s:
            condition = msgspec.structs.replace(condition, raised=False)
            if not condition.chatter:
                self._cease(cause)
        condition = self._calm(cause, condition)
        if condition.on or condition.raised or condition.chatter or condition.edges:
            self.conditions[cause] = condition
        else:
            del self.conditions[cause]

    def _too_early(self, rule: AlarmRule) -> bool:
        return rule.grace and self.now_s - self.engine.began_s < self.engine.grace_s

    def _begin(self, rule: AlarmRule, cause: Cause, condition: Condition) -> Condition:
        over = self._collapsing(rule)
        if over is not None and cause not in self.by_cause:
            if not condition.folded:
                self.live(over, life.Counted())
            return msgspec.structs.replace(condition, folded=True)
        if len(self.open) >= MOST_OPEN and cause not in self.by_cause:
            return condition
        condition = self._edge(condition)
        self._raise(rule, cause, condition.about, condition.id)
        self._show_chatter(cause, condition)
        return msgspec.structs.replace(condition, folded=False)

    def _collapsing(self, rule: AlarmRule) -> AlarmChanged | None:
        """The alarm that stands for this rule's alarms now."""
        if rule.priority == 1:
            return None
        return next(
            (
                alarm
                for alarm in self.open.values()
                if rule.id in self._rule_of(alarm).collapses
                and alarm.state.endswith("-active")
                and alarm.shelved_until_ms is None
            ),
            None,
        )

    def _edge(self, condition: Condition) -> Condition:
        """It is raised; too often lately, and it chatters."""
        chatter = self.rules.chatter
        recent = [at for at in condition.edges if self.now_s - at < chatter.within_s]
        edges = (*recent, self.now_s)[-MOST_EDGES:]
        count = condition.chatter
        if count:
            count += 1
        elif len(edges) >= chatter.raisings:
            count = len(edges)
        return msgspec.structs.replace(condition, raised=True, edges=edges, chatter=count)

    def _calm(self, cause: Cause, condition: Condition) -> Condition:
        """Old raisings are forgotten; a chattering alarm that was calm for so long is over."""
        within_s = self.rules.chatter.within_s
        edges = tuple(at for at in condition.edges if self.now_s - at < within_s)
        if edges == condition.edges:
            return condition
        calm = msgspec.structs.replace(condition, edges=edges)
        if edges or not condition.chatter:
            return calm
        calm = msgspec.structs.replace(calm, chatter=0)
        self._show_chatter(cause, calm)
        if not calm.raised:
            self._cease(cause)
        return calm

    def _show_chatter(self, cause: Cause, condition: Condition) -> None:
        alarm = self.open.get(self.by_cause.get(cause, ""))
        if alarm is not None and alarm.chatter != condition.chatter:
            self.live(alarm, life.Chattered(condition.chatter))

    def _cease(self, cause: Cause) -> None:
        alarm = self.open.get(self.by_cause.get(cause, ""))
        if alarm is not None:
            self.live(alarm, life.Ceased())

    # ------------------------------------------------------------------ an alarm

    def _raise(self, rule: AlarmRule, cause: Cause, about: About, id_: str) -> None:
        self._alarms()
        before = self.open.get(self.by_cause.get(cause, ""))
        new, quiet = before is None, rule.priority == 3
        if new:
            self.timings[id_] = Timing(self.now_s, about.area)
            if quiet:  # it may be the one too many: then it makes no sound
                self._count_raisings(about.area, new=True)
        group = rule.id if quiet and about.area in self.flooded else ""
        self._keep(*life.step(before, life.Raised(id_, about, group), rule, self.now_ms))
        if new and not quiet:
            self._count_raisings(about.area, new=True)
        if new and rule.collapses:
            self._fold(rule, id_)

    def _fold(self, rule: AlarmRule, id_: str) -> None:
        """What it stands for, and nobody has looked at yet, goes into its count."""
        for alarm in tuple(self.open.values()):
            if alarm.rule not in rule.collapses or not alarm.state.startswith("unack"):
                continue
            if not self.live(alarm, life.Folded()):
                continue
            cause = cause_of(alarm)
            condition = self.conditions.get(cause)
            if condition is not None:
                self.conditions[cause] = msgspec.structs.replace(
                    condition, raised=False, folded=condition.on
                )
            self.live(self.open[id_], life.Counted())

    def live(self, alarm: AlarmChanged, event: life.LifeEvent) -> bool:
        """Let this happen to an open alarm. Whether it did."""
        after, effects = life.step(alarm, event, self._rule_of(alarm), self.now_ms)
        self._keep(after, effects)
        return not any(isinstance(effect, life.Refuse) for effect in effects)

    def _keep(self, alarm: AlarmChanged | None, effects: tuple[Effect, ...]) -> None:
        assert alarm is not None
        self._alarms()
        self.answers.append(Change(alarm, effects))
        if alarm.state == CLEARED:
            self.open.pop(alarm.id, None)
            self.by_cause.pop(cause_of(alarm), None)
            self.timings.pop(alarm.id, None)
            return
        self.open[alarm.id] = alarm
        self.by_cause[cause_of(alarm)] = alarm.id
        timing = self.timings[alarm.id]
        if alarm.shelved_until_ms is None:
            shelf_s = None
        elif timing.shelf_s is None:
            shelf_s = self.now_s + (alarm.shelved_until_ms - self.now_ms) / 1000
        else:
            shelf_s = timing.shelf_s
        if shelf_s != timing.shelf_s:
            self.timings[alarm.id] = msgspec.structs.replace(timing, shelf_s=shelf_s)

    def _rule_of(self, alarm: AlarmChanged) -> AlarmRule:
        """Its rule, or one that asks for a hand when the file no longer knows it."""
        known = self.rules.by_id.get(alarm.rule)
        if known is not None:
            return known
        return AlarmRule(
            id=alarm.rule, cause="", priority=alarm.priority, says=alarm.rule, response=""
        )

    def _age(self, alarm: AlarmChanged) -> None:
        """What time alone does to it."""
        timing = self.timings.get(alarm.id)
        now = self.open.get(alarm.id)
        if timing is None or now is None:
            return
        if timing.shelf_s is not None and self.now_s >= timing.shelf_s:
            self.live(now, life.Returned())
            now = self.open[alarm.id]
        if _overdue(now, timing, self._rule_of(now), self.now_s):
            self.live(now, life.Escalated())
            now = self.open[alarm.id]
        if _stands(timing, self.rules, self.now_s):
            self.live(now, life.Stood())
            timing = msgspec.structs.replace(self.timings[alarm.id], stood=True)
            self.timings[alarm.id] = timing

    # ------------------------------------------------------------------ floods

    def _count_raisings(self, area: str, *, new: bool = False) -> None:
        flood = self.rules.flood
        known = self.raisings.get(area, ())
        recent = tuple(at for at in known if self.now_s - at < flood.within_s)
        if new:
            recent = (*recent, self.now_s)[-MOST_REMEMBERED:]
        if recent:
            self.raisings[area] = recent
        else:
            self.raisings.pop(area, None)
        count = len(recent)
        if count > flood.more_than and area not in self.flooded:
            self.flooded |= {area}
            self._flooded(area, count, on=True)
        elif count < flood.fewer_than and area in self.flooded:
            self.flooded -= {area}
            self._flooded(area, count, on=False)

    def _flooded(self, area: str, count: int, *, on: bool) -> None:
        """What is priority 3 stands together by its rule, the first in front; or alone again."""
        self.answers.append(Flooded(area, count, on))
        for alarm in tuple(self.open.values()):
            if alarm.priority == 3 and self.timings[alarm.id].area == area:
                self.live(alarm, life.Grouped(alarm.rule if on else ""))


# --------------------------------------------------------------------------- is anything due


def _overdue(alarm: AlarmChanged, timing: Timing, rule: AlarmRule, now_s: float) -> bool:
    return (
        rule.escalate_s > 0
        and alarm.state == "unack-active"
        and alarm.audience == OPERATOR
        and alarm.shelved_until_ms is None
        and now_s - timing.raised_s >= rule.escalate_s
    )


def _stands(timing: Timing, rules: AlarmRules, now_s: float) -> bool:
    return not timing.stood and now_s - timing.raised_s >= rules.standing_h * 3600


def _due(engine: Engine, now_s: float) -> bool:
    """Whether a tick would do anything; most do nothing."""
    rules = engine.rules
    for (id_, _), condition in engine.conditions.items():
        if condition.edges or condition.on is not condition.raised:
            return True
        if id_ not in rules.by_id:
            return True
    if engine.raisings:
        return True
    for id_, alarm in engine.open.items():
        timing = engine.timings[id_]
        rule = rules.by_id.get(alarm.rule)
        if timing.shelf_s is not None and now_s >= timing.shelf_s:
            return True
        if rule is not None and _overdue(alarm, timing, rule, now_s):
            return True
        if _stands(timing, rules, now_s):
            return True
    return False
