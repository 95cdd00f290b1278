"""Operator alarms and their life: raised, acknowledged, closed, and raised again after a restart.

Rule 1: an emergency is on the bus before anything is written; its record is tried until it stands.
Rule 2: one open alarm per cause (terminal or link); pressing again counts, it is not another alarm.
Rule 3: an emergency is closed by another person than the one who acknowledged it.
Source: console design, 7; architecture, decisions 6 and 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

import msgspec

from gateway.errors import LedgerUnavailable
from gateway.messages import (
    AlarmChanged,
    Event,
    Issi,
    LinkChanged,
    LinkState,
    UnitEmergency,
    UnitFix,
)
from gateway.ports import Clock, Ids, Journal, Ledger, Meter, PutAlarm, Record

EMERGENCY = "EMG"
PNC_DOWN = "PNC"
LINK_DOWN = "LNK"
SUSPICION = "REJ"
PRIORITY = {EMERGENCY: 1, PNC_DOWN: 2, LINK_DOWN: 2, SUSPICION: 3}
ON_DELAY_S = {PNC_DOWN: 10.0, LINK_DOWN: 5.0}
OFF_DELAY_S = 5.0
RULE_OF_KIND = {"pnc": PNC_DOWN, "serial": LINK_DOWN, "mqtt": LINK_DOWN}

CLEARED = "cleared"
RECORD_DEADLINE_S = 30.0
"""How long one attempt to record goes on; what is left is taken up with the next alarm or turn."""
RETRY_S = (0.2, 0.5, 1.0, 2.0)
COMMIT_DEADLINE_S = 5.0
"""A ledger that does not answer for so long is unavailable: operators are told, presses go on."""
PENDING_MOST = 4096
"""Records that wait for the ledger: 16 a terminal for the largest fleet that one daemon serves."""


class LedgerInDoubt(LedgerUnavailable):
    """No answer in time: what was to be written may yet be written, or never."""


# --------------------------------------------------------------------------- the machine


class Raised(msgspec.Struct, frozen=True):
    """The cause is there (again). id: of the new occurrence, used only if none is open."""

    id: str
    rule: str
    terminal: Issi = ""
    link: str = ""


class Acknowledged(msgspec.Struct, frozen=True):
    by: str


class Closed(msgspec.Struct, frozen=True):
    by: str


class Ceased(msgspec.Struct, frozen=True):
    """The cause is gone by itself (a link is back). An emergency never ceases by itself."""


AlarmEvent = Raised | Acknowledged | Closed | Ceased


class Show(msgspec.Struct, frozen=True):
    """Put the alarm on the bus. emergency: also tell that it begins (True) or ends (False)."""

    emergency: bool | None = None


class Write(msgspec.Struct, frozen=True):
    """Put it on record. what: raised, repeated, acknowledged, closed, ceased; stands (an act on it
    may be on record, though its operator was told that it could not be)."""

    what: str
    by: str = ""


class Refuse(msgspec.Struct, frozen=True):
    """Nothing happens. why: for the operator."""

    why: str


Effect = Show | Write | Refuse


def step(
    alarm: AlarmChanged | None, event: AlarmEvent, now_ms: int
) -> tuple[AlarmChanged | None, tuple[Effect, ...]]:
    """What the alarm is after this event, and what is to be done. Pure; every event is answered."""
    match event:
        case Raised():
            return _raised(alarm, event, now_ms)
        case _ if alarm is None or alarm.state == CLEARED:
            return alarm, (Refuse("ALREADY CLOSED"),)
        case Acknowledged(by=by):
            return _acknowledged(alarm, by, now_ms)
        case Closed(by=by):
            return _closed(alarm, by, now_ms)
        case Ceased():
            return _ceased(alarm, now_ms)


def _raised(
    alarm: AlarmChanged | None, event: Raised, now_ms: int
) -> tuple[AlarmChanged, tuple[Effect, ...]]:
    if alarm is not None and alarm.state == "unack-cleared":
        # The cause is back before anybody looked: still the same occurrence.
        again = msgspec.structs.replace(
            alarm, state="unack-active", count=alarm.count + 1, t_ms=now_ms
        )
        return again, (Show(), Write("repeated"))
    if alarm is not None and alarm.state != CLEARED:
        again = msgspec.structs.replace(alarm, count=alarm.count + 1, t_ms=now_ms)
        return again, (Show(), Write("repeated"))
    new = AlarmChanged(
        id=event.id,
        rule=event.rule,
        priority=PRIORITY[event.rule],
        state="unack-active",
        raised_ms=now_ms,
        t_ms=now_ms,
        terminal=event.terminal,
        link=event.link,
    )
    emergency = True if event.rule == EMERGENCY else None
    return new, (Show(emergency), Write("raised"))


def _acknowledged(
    alarm: AlarmChanged, by: str, now_ms: int
) -> tuple[AlarmChanged, tuple[Effect, ...]]:
    after = {"unack-active": "ack-active", "unack-cleared": CLEARED}.get(alarm.state)
    if after is None:
        return alarm, (Refuse("ALREADY ACKNOWLEDGED"),)
    acknowledged = msgspec.structs.replace(alarm, state=after, ack_by=by, t_ms=now_ms)
    return acknowledged, (Write("acknowledged", by), Show())


def _closed(alarm: AlarmChanged, by: str, now_ms: int) -> tuple[AlarmChanged, tuple[Effect, ...]]:
    if alarm.state != "ack-active":
        return alarm, (Refuse("ACKNOWLEDGE FIRST"),)
    emergency = alarm.rule == EMERGENCY
    if emergency and by and by == alarm.ack_by:
        return alarm, (Refuse("A SECOND PERSON MUST CLOSE IT"),)
    closed = msgspec.structs.replace(alarm, state=CLEARED, closed_by=by, t_ms=now_ms)
    return closed, (Write("closed", by), Show(False if emergency else None))


def _ceased(alarm: AlarmChanged, now_ms: int) -> tuple[AlarmChanged, tuple[Effect, ...]]:
    after = {"unack-active": "unack-cleared", "ack-active": CLEARED}.get(alarm.state)
    if after is None or alarm.rule == EMERGENCY:
        return alarm, (Refuse("NOTHING CEASED"),)
    return msgspec.structs.replace(alarm, state=after, t_ms=now_ms), (Show(), Write("ceased"))


# --------------------------------------------------------------------------- the desk


class _Condition(msgspec.Struct):
    """A cause with delays. since_s: monotonic moment of the last change."""

    down: bool
    since_s: float
    raised: bool = False


class Whereabouts(Protocol):
    """What an alarm needs to know of positions; desks never import each other."""

    def newest_of(self, terminal: Issi) -> UnitFix | None: ...

    def age(self, terminal: Issi, now_ms: int) -> float | None: ...


class AlarmDesk:
    """Carries out what `step` asks for. Holds what is open; the ledger holds it over a restart."""

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
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._publish = publish
        self._tracker = tracker
        self._open: dict[str, AlarmChanged] = {}
        self._by_cause: dict[tuple[str, str], str] = {}
        self._conditions: dict[tuple[str, str], _Condition] = {}
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
        self._raise(Raised(self._ids.occurrence(), EMERGENCY, terminal=terminal), now_ms)
        self._meter.count("emergencies_total", stage="relayed")
        if received_at_s is not None:
            took_s = max(0.0, self._clock.monotonic_s() - received_at_s)
            self._meter.observe("emergency_relay_latency_seconds", took_s)
        return self.record()

    def presented(self, alarm_id: str) -> None:
        """A console drew it: counted once per occurrence and report."""
        if alarm_id in self._open:
            self._meter.count("emergencies_total", stage="presented")

    # ------------------------------------------------------------------ links and the PNC

    def link_changed(self, event: LinkChanged, now_s: float) -> None:
        """Take note that a link or the PNC went down or came back; `tick` makes the alarm."""
        rule = RULE_OF_KIND.get(event.kind)
        if rule is None:
            return
        down = event.state is LinkState.DOWN
        cause = (rule, event.id)
        known = self._conditions.get(cause)
        if known is None:
            self._conditions[cause] = _Condition(down, now_s, raised=cause in self._by_cause)
        elif known.down is not down:
            known.down, known.since_s = down, now_s

    def suspicion(self, link: str, *, on: bool) -> None:
        """Somebody misbehaves at this link, or no longer does (console design, 7, rule REJ). Whose
        terminal it is stands in the audit. `record` as for `tick`."""
        now_ms = self._clock.wall_ms()
        if on:
            self._raise(Raised(self._ids.occurrence(), SUSPICION, link=link), now_ms)
        else:
            self._cease(self._by_cause.get((SUSPICION, link)), now_ms)

    def emergency_open(self, terminal: Issi) -> bool:
        """Whether an emergency of this terminal stands, acknowledged or not."""
        return (EMERGENCY, terminal) in self._by_cause

    def tick(self, now_s: float, now_ms: int) -> None:
        """Once a second: raise and clear what its delay has made true; age the oldest emergency.

        What it raised waits in `record` (see `unrecorded`).
        """
        for (rule, link), condition in self._conditions.items():
            held_s = now_s - condition.since_s
            if condition.down and not condition.raised and held_s >= ON_DELAY_S[rule]:
                condition.raised = True
                self._raise(Raised(self._ids.occurrence(), rule, link=link), now_ms)
            elif not condition.down and condition.raised and held_s >= OFF_DELAY_S:
                condition.raised = False
                self._cease(self._by_cause.get((rule, link)), now_ms)
        waiting = [
            now_ms - alarm.raised_ms
            for alarm in self._open.values()
            if alarm.rule == EMERGENCY and alarm.state == "unack-active"
        ]
        oldest_s = max(waiting, default=0) / 1000
        self._meter.gauge("emergency_oldest_unacked_age_seconds", oldest_s)

    # ------------------------------------------------------------------ operators

    async def acknowledge(self, alarm_id: str, by: str) -> AlarmChanged:
        """On record, then on all consoles. by: who; empty until log-in tells.

        Raises KeyError (no such open alarm), ValueError (why not), LedgerUnavailable (not done).
        """
        done = await self._act(alarm_id, Acknowledged(by))
        if done.rule == EMERGENCY:
            self._meter.count("emergencies_total", stage="acknowledged")
        return done

    async def close(self, alarm_id: str, by: str) -> AlarmChanged:
        """As acknowledge. An emergency is closed by another person than its acknowledger, as far
        as both are known."""
        return await self._act(alarm_id, Closed(by))

    async def _act(self, alarm_id: str, event: Acknowledged | Closed) -> AlarmChanged:
        async with self._writing:
            after, effects = self._agreed(alarm_id, event)
            writes = [effect for effect in effects if isinstance(effect, Write)]
            try:
                await self._commit([(_record(effect, after), after) for effect in writes])
            except LedgerInDoubt:
                self._stands(alarm_id, event.by)
                raise
            now = self._open.get(alarm_id)
            if now is None:
                return after
            # The world went on while this was written (pressed again, link back): what was done
            # is done to the alarm of now, and that goes on record too if it is another.
            moved, effects = step(now, event, self._clock.wall_ms())
            assert moved is not None
            if msgspec.structs.replace(moved, t_ms=after.t_ms) == after:
                moved = after
                effects = tuple(effect for effect in effects if isinstance(effect, Show))
            self._carry_out(moved, effects)
            return moved

    def _stands(self, alarm_id: str, by: str) -> None:
        """The operator hears "not done", but a commit that is only late may still be made. What
        everybody sees goes on record after it, else a restart would take an emergency off every
        screen that somebody was told is not closed."""
        alarm = self._open.get(alarm_id)
        if alarm is not None:
            self._wait(alarm, Write("stands", by))

    def _agreed(self, alarm_id: str, event: AlarmEvent) -> tuple[AlarmChanged, tuple[Effect, ...]]:
        after, effects = step(self._open[alarm_id], event, self._clock.wall_ms())
        why = next((effect.why for effect in effects if isinstance(effect, Refuse)), "")
        if why or after is None:
            raise ValueError(why)
        return after, effects

    # ------------------------------------------------------------------ what is open

    def open(self) -> tuple[AlarmChanged, ...]:
        """Every alarm that is not cleared, the gravest first, then the oldest."""
        return tuple(sorted(self._open.values(), key=lambda a: (a.priority, a.raised_ms, a.id)))

    def restore(self, alarms: Iterable[AlarmChanged]) -> None:
        """After a restart: what was open is raised again, the same occurrence, on every console."""
        for alarm in alarms:
            if alarm.state == CLEARED or alarm.id in self._open:
                continue
            emergency = True if alarm.rule == EMERGENCY else None
            self._show(alarm, Show(emergency))
            if alarm.rule in ON_DELAY_S and alarm.state.endswith("-active"):
                cause = (alarm.rule, alarm.link)
                # Down until the link says otherwise.
                self._conditions[cause] = _Condition(True, self._clock.monotonic_s(), raised=True)

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
        newest = {alarm.id: self._open.get(alarm.id, alarm) for _, alarm in waiting.values()}
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

    def _raise(self, event: Raised, now_ms: int) -> None:
        before = self._open.get(self._by_cause.get(_cause(event), ""))
        after, effects = step(before, event, now_ms)
        assert after is not None
        self._carry_out(after, effects)

    def _cease(self, alarm_id: str | None, now_ms: int) -> None:
        if alarm_id is None or alarm_id not in self._open:
            return
        after, effects = step(self._open[alarm_id], Ceased(), now_ms)
        assert after is not None
        self._carry_out(after, effects)

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
        if alarm.state == CLEARED:
            self._open.pop(alarm.id, None)
            self._by_cause.pop(_cause(alarm), None)
        else:
            self._open[alarm.id] = alarm
            self._by_cause[_cause(alarm)] = alarm.id
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
            oldest = next(iter(self._pending))
            del self._pending[oldest]
            self._meter.count("queue_dropped_total", queue="emergency", reason="full")


def _cause(of: Raised | AlarmChanged) -> tuple[str, str]:
    return of.rule, of.terminal or of.link


def _record(effect: Write, alarm: AlarmChanged) -> Record:
    emergency = alarm.rule == EMERGENCY and effect.what in {"raised", "repeated"}
    return Record(
        event="emergency" if emergency else "alarm",
        at_ms=alarm.t_ms,
        terminal=alarm.terminal,
        operator=effect.by,
        operation=alarm.rule,
        detail=f"{alarm.id} {effect.what} x{alarm.count}",
    )
