"""What waits for a relay: alarms before the rest, each lane bounded, every loss counted.

Rules
1. The bus is read at once, whatever the far side does: `take` never waits.
2. Alarms: the newest state of each, emergencies first. They are given up last.
3. Events: in order; the oldest are given up when too many wait.
4. Fixes: the newest of each terminal; the fleet bounds them.
5. An alarm or event leaves its lane when the far side has it, so what a broken connection
   swallowed goes again: at least once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from operator import itemgetter

from gateway.bus import Batch
from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    UnitFix,
    UnitMeta,
)
from gateway.ports import Journal, Meter, Present

ALARMS_MOST = 4096
EVENTS_MOST = 10_000
EMERGENCY = "EMG"

CheckEvent = CheckOpened | CheckStaged | CheckDone | CheckDelivery


class Lanes:
    """One relay's three lanes. alarm_news, event_news, fix_news: set while something waits."""

    def __init__(
        self,
        *,
        link: str,
        meter: Meter,
        journal: Journal,
        alarms_most: int = ALARMS_MOST,
        events_most: int = EVENTS_MOST,
    ) -> None:
        self._link = link
        self._meter = meter
        self._journal = journal
        self._alarms_most = alarms_most
        self._events_most = events_most
        self._alarms: dict[str, AlarmChanged] = {}
        self._events: deque[CheckEvent] = deque()
        self._fixes: dict[str, UnitFix] = {}
        self.alarm_news = asyncio.Event()
        self.event_news = asyncio.Event()
        self.fix_news = asyncio.Event()

    def take(self, batch: Batch) -> None:
        """Sort in what the bus handed over."""
        if batch.reset is not None:  # how many went is not known
            self.lost("console", "slow")
            self._journal.warn("relay.shed", link=self._link, reason=batch.reset)
        if batch.conflated:
            self.lost("fix", "conflated", batch.conflated)
        # The bus hands urgent ones over first, so a later state of an alarm may stand before an
        # earlier one; what goes first is decided here, by lane.
        for _, event in sorted(batch.events, key=itemgetter(0)):
            match event:
                case AlarmChanged():
                    self._take_alarm(event)
                case CheckOpened() | CheckStaged() | CheckDone() | CheckDelivery():
                    self._take_event(event)
                case UnitMeta(gone=True):
                    self._fixes.pop(event.terminal, None)
                case _:
                    pass
        for fix in batch.fixes:
            if self._fixes.pop(fix.terminal, None) is not None:
                self.lost("fix", "conflated")
            self._fixes[fix.terminal] = fix
            self.fix_news.set()

    def again(self, present: Present) -> None:
        """Everything that is so now: the far side may have lost it."""
        for alarm in present.alarms():
            self._take_alarm(alarm)
        for terminal in present.terminals():
            fix = present.fix(terminal)
            if fix is not None:
                self._fixes[terminal] = fix
                self.fix_news.set()

    def lost(self, queue: str, reason: str, n: float = 1) -> None:
        self._meter.count("queue_dropped_total", n, queue=queue, reason=reason)

    # ----------------------------------------------------------------- alarms

    def _take_alarm(self, alarm: AlarmChanged) -> None:
        self._alarms.pop(alarm.id, None)
        self._alarms[alarm.id] = alarm
        if len(self._alarms) > self._alarms_most:
            rest = (each for each in self._alarms.values() if each.rule != EMERGENCY)
            gone = next(rest, None) or next(iter(self._alarms.values()))
            del self._alarms[gone.id]
            self.lost("emergency" if gone.rule == EMERGENCY else "console", "full")
        self.alarm_news.set()

    def first_alarm(self) -> AlarmChanged | None:
        """The one to say next: the oldest emergency, else the oldest."""
        waiting = self._alarms.values()
        emergency = next((each for each in waiting if each.rule == EMERGENCY), None)
        found = emergency or next(iter(waiting), None)
        if found is None:
            self.alarm_news.clear()
        return found

    def said(self, alarm: AlarmChanged) -> None:
        """It is out; unless it changed meanwhile, it is done."""
        if self._alarms.get(alarm.id) is alarm:
            del self._alarms[alarm.id]

    # ----------------------------------------------------------------- events

    def _take_event(self, event: CheckEvent) -> None:
        if len(self._events) >= self._events_most:
            self._events.popleft()
            self.lost("console", "full")
        self._events.append(event)
        self.event_news.set()

    def first_events(self, most: int) -> list[CheckEvent]:
        found = list(islice(self._events, most))
        if not found:
            self.event_news.clear()
        return found

    def out(self, event: CheckEvent) -> None:
        """The oldest is out (unless it was given up meanwhile, to make room)."""
        if self._events and self._events[0] is event:
            self._events.popleft()

    # ----------------------------------------------------------------- fixes

    def next_fixes(self, most: int) -> list[UnitFix]:
        """Taken out at once: a fix that gets lost is soon followed by a better one."""
        found = list(islice(self._fixes.values(), most))
        for fix in found:
            del self._fixes[fix.terminal]
        if not found:
            self.fix_news.clear()
        return found
