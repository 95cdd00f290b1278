"""Whoever is alone, and whoever is not heard of: overdue is an alarm, until they say something.

Rules of this module
1. A lone worker's timer runs from what they last did: asked, reported, read. Positions and what a
   radio says by itself (delivered) do not extend it, unless the settings say so: a radio goes on
   sending them beside somebody who lies on the ground.
2. Nothing but a message extends it: no restart, no clock that is set, no other file.
3. On duty is who holds a radio, was heard since, and is not off by their own status.
The alarm itself (delays, who hears of it, what is to be done) is the rules': cause `no_contact`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.alarm_life import About
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    AckState,
    DeliveryAck,
    Envelope,
    Heartbeat,
    Issi,
    LocationFix,
    Notice,
    StatusReport,
)
from gateway.ports import Change, Clock, DropKept, KeptRow, Ledger, Meter, PutKept
from gateway.roster import Roster
from gateway.rulebook import StatusWord
from gateway.settings import LoneSection

CAUSE = "no_contact"
KIND = "timer"
"""Of its rows."""
NOTICE = "welfare"
ON, OFF, WELFARE = "lone_on", "lone_off", "welfare"
"""Effects of a status (fleet file)."""
SAVE_EVERY_S = 10.0
SAVED_FOR_S = 60.0
"""What is on disk is no older than this: after a restart an alarm comes earlier by as much."""
AT_ONCE = 512
KEPT_MS = 12 * 3600 * 1000
NEVER_S = float("inf")
_OFF_DUTY = "OFF"


class Alarms(Protocol):
    """The alarm desk, as far as this goes; desks never import each other."""

    def cause(self, cause: str, about: About, *, on: bool) -> None: ...

    def causes_on(self, cause: str) -> tuple[About, ...]: ...

    def limit_s(self, cause: str) -> float | None: ...


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What of a watch lies in the ledger. Monotonic times by `counter`. said: what the officer said
    of being alone; None: nothing. off: off duty, by their status."""

    holder: str
    heard_ms: int
    heard_s: float
    acted_ms: int
    acted_s: float
    counter: str
    said: bool | None = None
    off: bool = False


class _Watch:
    """Of one radio and holder. Times are monotonic; look_s: before then nothing is due."""

    __slots__ = (
        *("acted_s", "heard_s", "holder", "look_s", "off", "overdue", "said", "saved_s"),
        "warned",
    )

    def __init__(self, holder: str, now_s: float) -> None:
        self.holder = holder
        self.heard_s = self.acted_s = now_s
        self.look_s = now_s
        self.said: bool | None = None
        self.off = self.warned = self.overdue = False
        self.saved_s = -NEVER_S


class LoneWorkers:
    """Told of every message of a terminal; asked once a second what is due."""

    def __init__(
        self,
        *,
        settings: LoneSection,
        clock: Clock,
        meter: Meter,
        ledger: Ledger,
        roster: Roster,
        alarms: Alarms,
        tell: Callable[[Issi, Notice, str], None],
        changed: Callable[[Issi], None],
    ) -> None:
        """tell: says a notice to a terminal, while this holder has it. changed: told whose being
        alone is another."""
        self._settings = settings
        self._clock = clock
        self._meter = meter
        self._ledger = ledger
        self._roster = roster
        self._alarms = alarms
        self._tell = tell
        self._changed = changed
        self._watches: dict[Issi, _Watch] = {}
        self._due: dict[Issi, Change] = {}
        self._dirty: dict[Issi, None] = {}
        self._saved_at_s = clock.monotonic_s()

    # ----------------------------------------------------------------- what is heard

    def heard(self, envelope: Envelope) -> None:
        """A message came. Constant work."""
        terminal, message = envelope.terminal, envelope.message
        holder = self._roster.holder(terminal)
        watch = self._watches.get(terminal)
        now_s = self._clock.monotonic_s()
        if watch is not None and watch.holder != holder:
            self._drop(terminal)
            watch = None
        if not holder:
            return
        if watch is None:
            watch = self._watches[terminal] = _Watch(holder, now_s)
        watch.heard_s = now_s
        if self._is_act(envelope):
            watch.acted_s, watch.warned = now_s, False
        if isinstance(message, StatusReport):
            self._said(terminal, watch, self._roster.word(message.code))
            watch.look_s = 0.0
        self._dirty[terminal] = None
        if watch.overdue or watch.look_s <= now_s:
            self._look(terminal, watch, now_s)

    def _is_act(self, envelope: Envelope) -> bool:
        """Whether somebody did this, and not the radio by itself."""
        match envelope.message:
            case LocationFix():
                return self._settings.positions
            case Heartbeat():
                return False
            case DeliveryAck(state=state):
                return state is AckState.READ
            case _:
                return True

    def _said(self, terminal: Issi, watch: _Watch, word: StatusWord) -> None:
        before = watch.said, watch.off
        watch.said = {ON: True, OFF: False}.get(word.effect, watch.said)
        if word.shown:
            watch.off = word.shown == _OFF_DUTY
        if before != (watch.said, watch.off):
            watch.saved_s = -NEVER_S  # this much is on disk within seconds
            self._changed(terminal)

    def begin(self, terminal: Issi) -> None:
        """Somebody took this radio just now, came aboard or left it."""
        watch, holder = self._watches.get(terminal), self._roster.holder(terminal)
        if watch is not None and watch.holder != holder:
            self._drop(terminal)
            watch = None
        if watch is None and holder:
            self._watches[terminal] = _Watch(holder, self._clock.monotonic_s())
            self._dirty[terminal] = None
        elif watch is not None:
            watch.look_s = 0.0  # somebody came aboard, or left

    def is_alone(self, terminal: Issi) -> bool:
        """Whether a timer runs: as the officer said last, else as the people's file says of one
        who has nobody with them."""
        watch = self._watches.get(terminal)
        asker = self._roster.asker(terminal)
        if asker is None:
            return False
        ours = watch is not None and watch.holder == self._roster.holder(terminal)
        if ours and watch is not None and watch.said is not None:
            return watch.said
        officer = self._roster.officer(asker.officer)
        return officer is not None and officer.lone and not asker.crew

    # ----------------------------------------------------------------- what is due

    def tick(self, now_s: float, _now_ms: int) -> None:
        """Once a second: whose time is over, or nearly."""
        for terminal, watch in list(self._watches.items()):
            if now_s >= watch.look_s:
                self._look(terminal, watch, now_s)
        if now_s - self._saved_at_s >= SAVE_EVERY_S:
            self._saved_at_s = now_s
            self._save(now_s)

    def _look(self, terminal: Issi, watch: _Watch, now_s: float) -> None:
        """What is so of this one now, and when to look again."""
        if self._roster.holder(terminal) != watch.holder:
            self._drop(terminal)
            return
        silence_s = self._alarms.limit_s(CAUSE)
        silent_s = NEVER_S if silence_s is None else watch.heard_s + silence_s
        due_s = warn_s = NEVER_S
        if watch.off:
            silent_s = NEVER_S
        elif self.is_alone(terminal):
            due_s = watch.acted_s + self._settings.interval_s
            warn_s = due_s - self._settings.warn_s
        if now_s >= warn_s and not watch.warned:
            watch.warned = True
            notice = Notice(kind=NOTICE, text=warning(max(0.0, due_s - now_s)))
            self._tell(terminal, notice, watch.holder)
        overdue = now_s >= due_s or now_s >= silent_s
        if overdue is not watch.overdue:
            watch.overdue = overdue
            self._alarms.cause(CAUSE, About(terminal=terminal), on=overdue)
        later = (warn_s if not watch.warned else NEVER_S, due_s, silent_s)
        # What is overdue is looked at each second: its radio may be another's by then.
        watch.look_s = now_s if overdue else min(later)

    def holders_changed(self) -> None:
        """Who is no longer on duty is not waited for."""
        for terminal, watch in list(self._watches.items()):
            if self._roster.holder(terminal) != watch.holder:
                self._drop(terminal)
            else:
                watch.look_s = 0.0

    def _drop(self, terminal: Issi) -> None:
        watch = self._watches.pop(terminal)
        self._dirty.pop(terminal, None)
        self._due[terminal] = DropKept(KIND, terminal)
        if watch.overdue:
            self._alarms.cause(CAUSE, About(terminal=terminal), on=False)

    # ----------------------------------------------------------------- over a restart

    def _save(self, now_s: float) -> None:
        """Of each that was heard, once a minute at most."""
        for terminal in list(self._dirty):
            watch = self._watches[terminal]
            if now_s - watch.saved_s < SAVED_FOR_S:
                continue
            del self._dirty[terminal]
            watch.saved_s = now_s
            self._due[terminal] = PutKept(self._row(terminal, watch, now_s))
            if len(self._due) >= AT_ONCE:
                return

    def _row(self, terminal: Issi, watch: _Watch, now_s: float) -> KeptRow:
        now_ms = self._clock.wall_ms()
        stored = Stored(
            holder=watch.holder,
            heard_ms=now_ms - round((now_s - watch.heard_s) * 1000),
            heard_s=watch.heard_s,
            acted_ms=now_ms - round((now_s - watch.acted_s) * 1000),
            acted_s=watch.acted_s,
            counter=self._clock.counter,
            said=watch.said,
            off=watch.off,
        )
        return KeptRow(
            kind=KIND,
            id=terminal,
            at_ms=stored.heard_ms,
            body=msgspec.json.encode(stored),
            until_ms=stored.heard_ms + KEPT_MS,
            personal=True,
        )

    @property
    def unrecorded(self) -> int:
        """Rows that wait for the ledger."""
        return len(self._due)

    async def record(self) -> None:
        """Write what waits; what cannot be written now waits on. Raises LedgerFatal."""
        due = dict(self._due)
        if not due:
            return
        try:
            await self._ledger.commit([], list(due.values()))
        except LedgerUnavailable:
            return
        for terminal, change in due.items():
            if self._due.get(terminal) is change:
                del self._due[terminal]

    async def restore(self) -> int:
        """Go on with the timers of those who still hold their radio; returns how many. They ran
        on meanwhile. A bad row costs itself."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        for row in await self._ledger.kept(KIND):
            try:
                stored = msgspec.json.decode(row.body, type=Stored)
            except msgspec.DecodeError:
                self._meter.count("queue_dropped_total", queue="status", reason="unreadable")
                self._due[row.id] = DropKept(KIND, row.id)
                continue
            if self._roster.holder(row.id) != stored.holder:
                self._due[row.id] = DropKept(KIND, row.id)
                continue
            watch = self._watches[row.id] = _Watch(stored.holder, now_s)
            ours = stored.counter == self._clock.counter != ""

            def ago_s(then_ms: int, then_s: float, *, ours: bool = ours) -> float:
                # A wall clock that was set back in between makes nobody younger.
                by_wall_s = (now_ms - then_ms) / 1000
                return max(0.0, by_wall_s, now_s - then_s if ours else 0.0)

            watch.heard_s = now_s - ago_s(stored.heard_ms, stored.heard_s)
            watch.acted_s = now_s - ago_s(stored.acted_ms, stored.acted_s)
            watch.said, watch.off = stored.said, stored.off
            watch.saved_s = now_s
        for about in self._alarms.causes_on(CAUSE):
            watch_of = self._watches.get(about.terminal)
            if watch_of is None:
                # Whoever it was about left their radio meanwhile.
                self._alarms.cause(CAUSE, about, on=False)
            else:
                watch_of.overdue = True
        return len(self._watches)


def warning(left_s: float) -> str:
    """What the officer reads before the control room is told."""
    return f"WELFARE CHECK. SEND ANY STATUS IN {left_s:.0f} S"
