"""The alarm desk: carries out what the engine asks for, on the bus, on record, for operators.

Rule 1: an emergency is on the bus before anything is written; its record is tried until it stands.
Rule 2: what an operator does is on record before any console shows it; it is one act, with a name,
on one occurrence, and every console shows it.
When a cause is an alarm is the engine's to say (alarm_engine.py), and what becomes of the alarm is
its own (alarm_life.py). Source: console design, 7; architecture, decisions 6 and 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

import msgspec

from gateway import alarm_engine as engine
from gateway import alarm_life as life
from gateway.alarm_engine import Acted, Answer, Change, Engine, Flooded, Happened, Off, On
from gateway.alarm_life import CLEARED, About, Effect, Refuse, Show, Write
from gateway.alarm_rules import COVERT, EMERGENCY, EMERGENCY_CAUSE, AlarmRules
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    AlarmChanged,
    Event,
    Issi,
    LinkChanged,
    LinkState,
    Noticed,
    UnitEmergency,
    UnitFix,
)
from gateway.ports import Clock, Ids, Journal, Ledger, Meter, PutAlarm, Record

CAUSE_OF_KIND = {
    "audit": "audit_lost",
    "pnc": "pnc_down",
    "serial": "link_down",
    "mqtt": "link_down",
    "tetra": "link_down",
}
"""Kinds of links whose end is an alarm; a bearer's silence is one, too."""

RECORD_DEADLINE_S = 30.0
"""How long one attempt to record goes on; what is left is taken up with the next alarm or turn."""
RETRY_S = (0.2, 0.5, 1.0, 2.0)
COMMIT_DEADLINE_S = 5.0
"""A ledger that does not answer for so long is unavailable: operators are told, presses go on."""
PENDING_MOST = 4096
"""Records that wait for the ledger: 16 a terminal for the largest fleet that one daemon serves."""


class LedgerInDoubt(LedgerUnavailable):
    """No answer in time: what was to be written may yet be written, or never."""


Prepared = tuple[list[Record], list[PutAlarm], Callable[[], None]]
"""Records and rows for a transaction, and what is to be called once that is durable."""


# --------------------------------------------------------------------------- the desk


class Whereabouts(Protocol):
    """What an alarm needs to know of positions; desks never import each other."""

    def newest_of(self, terminal: Issi) -> UnitFix | None: ...

    def age(self, terminal: Issi, now_ms: int) -> float | None: ...


def _nowhere(_terminal: Issi) -> str:
    return ""


class AlarmDesk:
    """Holds the engine, and so what is open; the ledger holds that over a restart.

    grace_s: how long after the start rules with `grace` raise nothing. area_of: of a terminal.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        publish: Callable[[Event], None],
        tracker: Whereabouts,
        rules: AlarmRules,
        grace_s: float = 0.0,
        area_of: Callable[[Issi], str] = _nowhere,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._publish = publish
        self._tracker = tracker
        self._area_of = area_of
        self._engine = Engine(rules=rules, began_s=clock.monotonic_s(), grace_s=grace_s)
        self._pending: dict[tuple[str, str], tuple[Record, AlarmChanged]] = {}
        self._writing = asyncio.Lock()

    # ------------------------------------------------------------------ emergency

    def emergency(
        self, terminal: Issi, now_ms: int, received_at_s: float | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Relay it now; return the coroutine that records it, for the caller to own and await.

        On return the emergency is on the bus. The coroutine retries until RECORD_DEADLINE_S and
        gives whether all is on record; if not, it is tried again with whatever is recorded next.
        """
        self._meter.count("emergencies_total", stage="received")
        about = self._placed(About(terminal=terminal))
        self._feed(On(EMERGENCY_CAUSE, about, self._ids.occurrence()), now_ms)
        self._meter.count("emergencies_total", stage="relayed")
        if received_at_s is not None:
            took_s = max(0.0, self._clock.monotonic_s() - received_at_s)
            self._meter.observe("emergency_relay_latency_seconds", took_s)
        return self.record()

    def presented(self, alarm_id: str) -> None:
        """A console drew it: counted once per occurrence and report."""
        if alarm_id in self._engine.open:
            self._meter.count("emergencies_total", stage="presented")

    # ------------------------------------------------------------------ causes

    def cause(self, cause: str, about: About, *, on: bool) -> None:
        """This cause is there, or gone; said again it changes nothing. `record` as for `tick`."""
        if self._engine.is_on(cause, about.subject) is on:
            return
        now_ms = self._clock.wall_ms()
        if not on:
            self._feed(Off(cause, about), now_ms)
            return
        self._feed(On(cause, self._placed(about), self._ids.occurrence()), now_ms)

    def _placed(self, about: About) -> About:
        """With the area of its terminal."""
        area = about.area or (self._area_of(about.terminal) if about.terminal else "")
        return msgspec.structs.replace(about, area=area)

    def happened(self, cause: str, about: About) -> None:
        """As `cause`, for what has no duration: each time counts."""
        if self._engine.full:
            self._meter.count("queue_dropped_total", queue="console", reason="full")
        about = self._placed(about)
        self._feed(Happened(cause, about, self._ids.occurrence()), self._clock.wall_ms())

    def worse(self, cause: str, subject: str) -> None:
        """Of this cause, which is there, there is much."""
        self._feed(engine.Worse(cause, subject), self._clock.wall_ms())

    def prepared(self, cause: str, about: About) -> Prepared:
        """As `happened`, for what goes on record with something else: nothing is shown before
        `adopt` says that its records and rows are durable."""
        about, now_ms = self._placed(about), self._clock.wall_ms()
        _, answers = self._step(Happened(cause, about, self._ids.occurrence()), now_ms)
        records: list[Record] = []
        alarms: list[AlarmChanged] = []
        for answer in answers:
            if isinstance(answer, Change):
                writes = [effect for effect in answer.effects if isinstance(effect, Write)]
                records += [_record(effect, answer.alarm) for effect in writes]
                alarms += [answer.alarm] if writes else []
        if not alarms:
            self._meter.count("queue_dropped_total", queue="console", reason="full")
        rows = [PutAlarm(alarm, open=alarm.state != CLEARED) for alarm in alarms]
        return records, rows, lambda: self.restore(alarms)

    def is_on(self, cause: str, subject: str) -> bool:
        """Whether this cause is there, as it was said last."""
        return self._engine.is_on(cause, subject)

    def causes_on(self, cause: str) -> tuple[About, ...]:
        """What this cause is there for, as it was said."""
        return self._engine.subjects_on(cause)

    def often(self, cause: str) -> tuple[int, float]:
        """More than how many within how many seconds are much; (0, 0.0) when the rules do not
        say."""
        rule = self._engine.rules.by_cause.get(cause)
        if rule is None or not rule.often or rule.limit is None:
            return 0, 0.0
        return rule.often, rule.limit

    def limit_s(self, cause: str) -> float | None:
        """Above which figure this cause is there; None when the rules name none."""
        rule = self._engine.rules.by_cause.get(cause)
        return rule.limit if rule is not None else None

    def link_changed(self, event: LinkChanged) -> None:
        """A link, the PNC or the audit went down, silent or came back."""
        cause = CAUSE_OF_KIND.get(event.kind)
        if cause is None:
            return
        about = About(link=event.id)
        self.cause(cause, about, on=event.state is LinkState.DOWN)
        if cause == "link_down":
            self.cause("link_silent", about, on=event.state is LinkState.SILENT)

    def suspicion(self, link: str, *, on: bool) -> None:
        """Somebody misbehaves at this link, or no longer does. Whose terminal it is stands in the
        audit."""
        self.cause("refused", About(link=link), on=on)

    def suspicions(self, link: str) -> None:
        """At this link there are many."""
        self.worse("refused", link)

    def emergency_open(self, terminal: Issi) -> bool:
        """Whether an emergency of this terminal stands, acknowledged or not."""
        return (EMERGENCY, terminal) in self._engine.by_cause

    def tick(self, _now_s: float, now_ms: int) -> None:
        """Once a second: raise, clear, escalate and give back what time has made due; figures.

        What it changed waits in `record` (see `unrecorded`).
        """
        self._feed(engine.Tick(), now_ms)
        waiting = [
            now_ms - alarm.raised_ms
            for alarm in self._engine.open.values()
            if alarm.rule == EMERGENCY and alarm.state == "unack-active"
        ]
        oldest_s = max(waiting, default=0) / 1000
        self._meter.gauge("emergency_oldest_unacked_age_seconds", oldest_s)
        aside = [each for each in self._engine.open.values() if each.shelved_until_ms is not None]
        self._meter.gauge("alarms_shelved", float(len(aside)))
        self._meter.gauge("alarm_flood", float(bool(self._engine.flooded)))

    def rules_changed(self, rules: AlarmRules) -> None:
        """Another file of rules, now; what is open keeps the words it was raised with."""
        self._feed(engine.Ruled(rules), self._clock.wall_ms())

    # ------------------------------------------------------------------ operators

    async def acknowledge(self, alarm_id: str, by: str) -> AlarmChanged:
        """On record, then on all consoles. by: who; an emergency is nobody's without a name.

        Raises KeyError (no such open alarm), ValueError (why not), LedgerUnavailable (not done).
        """
        done = await self._act(alarm_id, life.Acknowledged(by))
        if done.rule == EMERGENCY:
            self._meter.count("emergencies_total", stage="acknowledged")
        return done

    async def close(self, alarm_id: str, by: str) -> AlarmChanged:
        """As acknowledge. An emergency is closed by another person than its acknowledger."""
        return await self._act(alarm_id, life.Closed(by))

    async def mistake(self, alarm_id: str, by: str) -> AlarmChanged:
        """As acknowledge: the officer says that the emergency was pressed by mistake. It may be
        said under duress, so the alarm goes on as it was."""
        return await self._act(alarm_id, life.Mistaken(by))

    async def shelve(self, alarm_id: str, by: str, minutes: int, why: str) -> AlarmChanged:
        """As acknowledge: put it aside for so long, for one of the reasons that the rules list."""
        rules = self._engine.rules
        if minutes not in rules.shelve_minutes:
            raise ValueError(f"MINUTES: ONE OF {', '.join(map(str, rules.shelve_minutes))}")
        if why not in rules.shelve_reasons:
            raise ValueError(f"WHY: ONE OF {', '.join(rules.shelve_reasons)}")
        until_ms = self._clock.wall_ms() + minutes * 60_000
        return await self._act(alarm_id, life.Shelved(by, until_ms, why))

    async def unshelve(self, alarm_id: str, by: str) -> AlarmChanged:
        """As acknowledge: back before its time."""
        return await self._act(alarm_id, life.Unshelved(by))

    async def _act(self, alarm_id: str, event: life.Act) -> AlarmChanged:
        async with self._writing:
            after, effects = self._agreed(alarm_id, event)
            writes = [effect for effect in effects if isinstance(effect, Write)]
            try:
                await self._commit([(_record(effect, after), after) for effect in writes])
            except LedgerInDoubt:
                self._stands(alarm_id, event.by)
                raise
            if alarm_id not in self._engine.open:
                return after
            # The world went on while this was written (pressed again, link back): what was done
            # is done to the alarm of now, and that goes on record too if it is another.
            now_ms = self._clock.wall_ms()
            moved, effects = self._would(alarm_id, event, now_ms)
            if msgspec.structs.replace(moved, t_ms=after.t_ms) == after:
                moved, now_ms = after, after.t_ms
                effects = tuple(effect for effect in effects if isinstance(effect, Show))
            self._engine, _ = self._step(Acted(alarm_id, event), now_ms)
            self._carry_out(moved, effects)
            return moved

    def _stands(self, alarm_id: str, by: str) -> None:
        """The operator hears "not done", but a commit that is only late may still be made. What
        everybody sees goes on record after it, else a restart would take an emergency off every
        screen that somebody was told is not closed."""
        alarm = self._engine.open.get(alarm_id)
        if alarm is not None:
            self._wait(alarm, Write("stands", by))

    def _agreed(self, alarm_id: str, event: life.Act) -> tuple[AlarmChanged, tuple[Effect, ...]]:
        after, effects = self._would(alarm_id, event, self._clock.wall_ms())
        why = next((effect.why for effect in effects if isinstance(effect, Refuse)), "")
        if why:
            raise ValueError(why)
        return after, effects

    def _would(
        self, alarm_id: str, event: life.Act, now_ms: int
    ) -> tuple[AlarmChanged, tuple[Effect, ...]]:
        """What this act would do."""
        _, answers = self._step(Acted(alarm_id, event), now_ms)
        (change,) = answers
        assert isinstance(change, Change)
        return change.alarm, change.effects

    # ------------------------------------------------------------------ what is open

    @property
    def rules(self) -> AlarmRules:
        return self._engine.rules

    def open(self) -> tuple[AlarmChanged, ...]:
        """Every alarm that is not cleared, the gravest first, then the oldest."""
        alarms = self._engine.open.values()
        return tuple(sorted(alarms, key=lambda a: (a.priority, a.raised_ms, a.id)))

    def restore(self, alarms: Iterable[AlarmChanged]) -> None:
        """After a restart: what was open is raised again, the same occurrence, on every console."""
        for alarm in alarms:
            area = self._area_of(alarm.terminal) if alarm.terminal else ""
            self._feed(engine.Restored(alarm, area), self._clock.wall_ms())

    # ------------------------------------------------------------------ on record

    @property
    def unrecorded(self) -> int:
        """Records that wait for the ledger."""
        return len(self._pending)

    async def record(self, deadline_s: float = RECORD_DEADLINE_S) -> bool:
        """Write what waits, trying again until the deadline. Whether nothing waits any more.

        Raises LedgerFatal. At least once: an attempt that was cut off is repeated.
        """
        until_s = self._clock.monotonic_s() + deadline_s
        attempt = 0
        while self._pending:
            try:
                async with self._writing:
                    await self._commit([])
            except LedgerUnavailable:
                wait_s = RETRY_S[min(attempt, len(RETRY_S) - 1)]
                attempt += 1
                if self._clock.monotonic_s() + wait_s > until_s:
                    self._journal.warn("alarm.unrecorded", count=len(self._pending))
                    return False
                await self._clock.sleep(wait_s)
        return True

    async def _commit(self, more: list[tuple[Record, AlarmChanged]]) -> None:
        """All that waits, then `more`, in one transaction; the caller holds the lock."""
        waiting = dict(self._pending)
        rows = [*waiting.values(), *more]
        if not rows:
            return
        # An alarm goes with its state of now, so that an older one never overwrites a newer.
        newest = {alarm.id: self._engine.open.get(alarm.id, alarm) for _, alarm in waiting.values()}
        newest |= {alarm.id: alarm for _, alarm in more}
        try:
            async with asyncio.timeout(COMMIT_DEADLINE_S):
                await self._ledger.commit(
                    [record for record, _ in rows],
                    [PutAlarm(alarm, open=alarm.state != CLEARED) for alarm in newest.values()],
                )
        except TimeoutError:
            raise LedgerInDoubt("no answer in time") from None
        for key, row in waiting.items():
            if self._pending.get(key) is row:
                del self._pending[key]

    # ------------------------------------------------------------------ effects

    def _step(self, event: engine.Event, now_ms: int) -> tuple[Engine, tuple[Answer, ...]]:
        return engine.step(self._engine, event, self._clock.monotonic_s(), now_ms)

    def _feed(self, event: engine.Event, now_ms: int) -> None:
        self._engine, answers = self._step(event, now_ms)
        for answer in answers:
            match answer:
                case Change(alarm=alarm, effects=effects):
                    self._carry_out(alarm, effects)
                case Flooded(count=count, on=on):
                    state = "flood" if on else "over"
                    self._journal.warn("alarm.flood", count=count, state=state)
                    kind = "flood" if on else "flood_over"
                    self._publish(Noticed(kind=kind, t_ms=now_ms))

    def _carry_out(self, alarm: AlarmChanged, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Show():
                    self._show(alarm, effect)
                case Write():
                    self._wait(alarm, effect)
                case Refuse():
                    return

    def _show(self, alarm: AlarmChanged, effect: Show) -> None:
        if effect.emergency is not None:
            fix = self._tracker.newest_of(alarm.terminal)
            self._publish(
                UnitEmergency(
                    terminal=alarm.terminal,
                    occurrence=alarm.id,
                    on=effect.emergency,
                    t_ms=alarm.t_ms,
                    lat=fix.lat if fix else None,
                    lon=fix.lon if fix else None,
                    fix_age_s=self._tracker.age(alarm.terminal, alarm.t_ms),
                )
            )
        self._publish(alarm)
        if alarm.rule == COVERT:
            # Beside what became of the check, a line of the log would say of which.
            return
        self._journal.note(
            "alarm.changed",
            alarm=alarm.id,
            rule=alarm.rule,
            priority=alarm.priority,
            state=alarm.state,
            count=alarm.count,
        )

    def _wait(self, alarm: AlarmChanged, effect: Write) -> None:
        key = (alarm.id, effect.what)
        # Repeats of one occurrence wait as one record with the count, so presses cannot fill it.
        self._pending.pop(key, None)
        self._pending[key] = (_record(effect, alarm), alarm)
        if len(self._pending) > PENDING_MOST:
            # An emergency is given up last.
            rest = (key for key, (_, each) in self._pending.items() if each.rule != EMERGENCY)
            del self._pending[next(rest, next(iter(self._pending)))]
            self._meter.count("queue_dropped_total", queue="emergency", reason="full")


def _record(effect: Write, alarm: AlarmChanged) -> Record:
    emergency = alarm.rule == EMERGENCY and effect.what in {"raised", "repeated"}
    # Not in `check`: what happens to an alarm is no part of what became of the question.
    of = f" of {alarm.check}" if alarm.check else ""
    why = f" ({alarm.why})" if effect.what == "shelved" else ""
    return Record(
        event="emergency" if emergency else "alarm",
        at_ms=alarm.t_ms,
        terminal=alarm.terminal,
        operator=effect.by,
        operation=alarm.rule,
        detail=f"{alarm.id} {effect.what} x{alarm.count}{of}{why}",
    )
