"""Units and calls for help to TAK, as Cursor on Target: a viewer under the policy like any other.

Rules
1. Nothing waits here but the names of the units that have news. What is said of one is looked up
   and projected when it is said, under the policy of that moment (a far side that does not read
   finds out nothing that it may no longer know).
2. A unit is said on change, at most once in `min_interval_s`; calls for help before all of them,
   again every `emergency_repeat_s` while they are open, as ATAK does.
3. That a call is over is said only when the alarm is closed: a right that was taken away, or a
   gateway that stops, is no all-clear. Then its marker goes stale by itself.
4. Who left the fleet, is off duty, or may no longer be seen, is taken off the map.
5. After each reconnect everything is said again: nobody knows what the far side still has.
6. What is lost is counted by reason: `conflated` (a newer position came before this one could be
   said), `shed` (it came before its time), `slow` (the far side does not read), `unreachable`,
   `poison` (one that could not be put into words).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from adapters.dialling import Lookup
from adapters.relays import cot_events
from adapters.relays.cot_events import Style
from adapters.relays.cot_transports import Line, opened
from adapters.relays.lanes import EMERGENCY
from adapters.relays.pacing import Pacing
from gateway.bus import Batch, EventBus, Subscription
from gateway.errors import LinkDown
from gateway.messages import AlarmChanged, Issi, UnitEmergency, UnitFix, UnitMeta, Viewer
from gateway.ports import Clock, Journal, Meter, Present
from gateway.settings import CotSection

ROLE = "relay"
"""Whose console rule in the policy says what is carried."""
OFF_DUTY = "OFF"
AT_ONCE = 50
"""Units in one write: then calls for help are looked at again."""
LOOK_EVERY_S = 10.0
"""So often every unit on the map is looked at: whether it may still be seen there."""
PING_EVERY_S = 15.0
ENDED_MOST = 1000
ENDED_KEPT_S = 600.0
"""So long that a call is over, or a unit off the map, is said again after a reconnect."""


class Cot:
    """A relay: opened and kept like a link (gateway.supervise.keep)."""

    kind = "relay"

    def __init__(
        self,
        section: CotSection,
        *,
        instance: str,
        exercise: bool,
        config_path: Path,
        bus: EventBus,
        present: Present,
        clock: Clock,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self.name = section.name
        self._section = section
        self._instance = instance
        self._config_path = config_path
        self._bus = bus
        self._present = present
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._lookup = Lookup()
        self._style = Style(
            uid_prefix=section.uid_prefix,
            type=section.type,
            team=section.team,
            role=section.role,
            teams=section.teams,
            exercise=exercise,
        )
        # Its areas and agency bind: a policy that shows relays everything does not widen them.
        self._viewer = Viewer(
            id=section.name,
            kind="relay",
            agency=section.agency,
            areas=frozenset(section.areas),
            roles=frozenset({ROLE}),
            bound=True,
        )
        self._subscription: Subscription | None = None
        self._pacing = Pacing(section.min_interval_s)
        self._news = asyncio.Event()
        self._on_map: dict[Issi, None] = {}
        """As far as we know: what was said may not have been heard."""
        self._calls: dict[Issi, str] = {}
        """Calls for help that were said, with the call-sign that they were said by."""
        self._off_map: dict[Issi, float] = {}
        """Taken off the map lately -> when."""
        self._calls_over: dict[Issi, tuple[float, str]] = {}
        """Closed lately -> when, and the call-sign."""
        self._calls_due_s = 0.0
        self._look_due_s = 0.0
        self._ping_due_s = 0.0
        self._pong_due = False
        self._wakes_at_s = 0.0

    async def run(self, up: Callable[[], None]) -> None:
        """Open, then relay until the far side is gone. Raises LinkDown."""
        if self._subscription is None:
            self._subscription = self._bus.subscribe(self._viewer, after=0)
        # Before there is a connection: what waits on the bus grows too old there.
        reading = asyncio.ensure_future(self._read(self._subscription))
        try:
            async with opened(
                self._section,
                config_path=self._config_path,
                lookup=self._lookup,
                pinged=self._pinged,
                heard=self._heard,
            ) as line:
                up()
                self._all_again()
                await self._until_broken(line, reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _until_broken(self, line: Line, reading: asyncio.Task[None]) -> None:
        broken = asyncio.ensure_future(line.broken())
        saying = asyncio.ensure_future(self._say(line))
        tasks: list[asyncio.Task[Any]] = [saying, reading]
        try:
            await asyncio.wait({broken, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            raise LinkDown(broken.result() if broken.done() else "ended")
        finally:
            for task in (broken, saying):
                task.cancel()
            await asyncio.gather(broken, saying, return_exceptions=True)

    # ----------------------------------------------------------------- what has news

    async def _read(self, subscription: Subscription) -> None:
        """Never waits for the far side, so the bus never waits for us."""
        while True:
            batch = await subscription.next()
            if batch.closed:
                return
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        now_s = self._clock.monotonic_s()
        if batch.reset is not None:
            if batch.reset != "policy":  # how many went is not known
                self._lost("console", "slow")
                self._journal.warn("relay.shed", link=self.name, reason=batch.reset)
            self._all_again()
            return
        if batch.conflated:
            self._lost("fix", "conflated", batch.conflated)
        for _, event in batch.events:
            match event:
                case UnitEmergency():
                    self._calls_due_s = now_s
                case AlarmChanged(rule="EMG"):
                    self._calls_due_s = now_s
                case UnitMeta():
                    self._pacing.news(event.terminal, now_s, position=False)
                case _:
                    pass
        for fix in batch.fixes:
            replaced = self._pacing.news(fix.terminal, now_s, position=True)
            if replaced:
                self._lost("fix", replaced)
        # A position whose time it is not yet wakes nobody: of most of them that is so.
        next_s = self._pacing.next_s()
        if (
            self._pacing.ready
            or self._calls_due_s <= now_s
            or (next_s is not None and next_s < self._wakes_at_s)
        ):
            self._news.set()

    def _all_again(self) -> None:
        now_s = self._clock.monotonic_s()
        self._off_map = {
            terminal: at_s
            for terminal, at_s in self._off_map.items()
            if now_s - at_s <= ENDED_KEPT_S
        }
        self._on_map |= dict.fromkeys(self._off_map)  # as far as we know, there it still is
        self._pacing.at_once((*self._present.terminals(), *self._on_map))
        self._calls_over = {
            terminal: over
            for terminal, over in self._calls_over.items()
            if now_s - over[0] <= ENDED_KEPT_S
        }
        for terminal, (_, callsign) in self._calls_over.items():
            self._calls.setdefault(terminal, callsign)
        self._calls_due_s = now_s
        self._news.set()

    def _pinged(self) -> None:
        self._pong_due = True
        self._news.set()

    def _heard(self, count: int) -> None:
        self._meter.count("link_receive_bytes_total", count, link=self.name)

    # ----------------------------------------------------------------- saying it

    async def _say(self, line: Line) -> None:
        now_s = self._clock.monotonic_s()
        self._look_due_s, self._ping_due_s = now_s + LOOK_EVERY_S, now_s + PING_EVERY_S
        while True:
            self._news.clear()
            now_s = self._clock.monotonic_s()
            if now_s >= self._calls_due_s:
                await self._say_calls(line, now_s)
            await self._say_control(line, now_s)
            turn = self._pacing.due(now_s, AT_ONCE)
            if turn:
                await self._put(line, "fix", self._words(turn, now_s))
                await asyncio.sleep(0)  # it is the radios' loop as well
                continue
            if now_s >= self._look_due_s:
                await self._look()
                self._look_due_s = now_s + LOOK_EVERY_S
            await self._pause(line)

    async def _pause(self, line: Line) -> None:
        """Until there is news, or it is time for something."""
        due = [self._calls_due_s, self._look_due_s]
        if line.stream:
            due.append(self._ping_due_s)
        next_s = self._pacing.next_s()
        if next_s is not None:
            due.append(next_s)
        self._wakes_at_s = min(due)
        left_s = self._wakes_at_s - self._clock.monotonic_s()
        if left_s <= 0:
            await asyncio.sleep(0)
            return
        news = asyncio.ensure_future(self._news.wait())
        timer = asyncio.ensure_future(self._clock.sleep(left_s))
        try:
            await asyncio.wait({news, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            timer.cancel()

    async def _put(self, line: Line, queue: str, events: list[bytes]) -> None:
        if not events:
            return
        try:
            await line.put(events)
        except LinkDown as error:
            reason = "slow" if error.reason == "does not read" else "unreachable"
            self._lost(queue, reason, len(events))
            raise
        self._ping_due_s = self._clock.monotonic_s() + PING_EVERY_S
        count = sum(len(event) for event in events)
        self._meter.count("link_send_bytes_total", count, link=self.name)

    async def _say_control(self, line: Line, now_s: float) -> None:
        if self._pong_due:
            self._pong_due = False
            pong = cot_events.pong(self._style, now_ms=self._clock.wall_ms())
            await self._put(line, "console", [pong])
        elif line.stream and now_s >= self._ping_due_s:
            now_ms = self._clock.wall_ms()
            ping = cot_events.ping(self._style, self._instance, now_ms=now_ms)
            await self._put(line, "console", [ping])

    # ----------------------------------------------------------------- units

    def _spelt(self, queue: str, words: Callable[..., bytes | None], *about: Any) -> bytes | None:
        """What cannot be said costs itself alone."""
        try:
            return words(*about)
        except Exception as error:  # noqa: BLE001 - one bad unit must not keep all others off the map
            self._lost(queue, "poison")
            self._journal.warn("task.restarted", task="relay", error=type(error).__name__)
            return None

    def _words(self, turn: list[Issi], now_s: float) -> list[bytes]:
        found = []
        for terminal in turn:
            event = self._spelt("fix", self._worded, terminal, now_s)
            if event is None:
                self._pacing.forget(terminal)  # nothing was said: its next news has not to wait
            else:
                found.append(event)
        return found

    def _worded(self, terminal: Issi, now_s: float) -> bytes | None:
        """What is to be said of this unit now."""
        now_ms = self._clock.wall_ms()
        seen = self._seen(terminal)
        if seen is None:
            return self._taken_off(terminal, now_s, now_ms)
        stale_s = self._section.stale_s or self._present.stale_s(terminal)
        event = cot_events.unit(self._style, *seen, now_ms=now_ms, stale_s=stale_s)
        self._on_map[terminal] = None
        self._off_map.pop(terminal, None)
        return event

    def _seen(self, terminal: Issi) -> tuple[UnitMeta, UnitFix] | None:
        """What may be shown of it now; None when it is not to be on the map."""
        meta, fix = self._present.meta(terminal), self._present.fix(terminal)
        if meta is None or meta.gone or meta.status == OFF_DUTY or fix is None:
            return None
        shown, where = self._bus.projected(self._viewer, meta), self._where(fix)
        return (shown, where) if isinstance(shown, UnitMeta) and where is not None else None

    def _where(self, fix: UnitFix | None) -> UnitFix | None:
        shown = self._bus.projected(self._viewer, fix) if fix is not None else None
        return shown if isinstance(shown, UnitFix) else None

    def _taken_off(self, terminal: Issi, now_s: float, now_ms: int) -> bytes | None:
        if terminal not in self._on_map:
            return None
        del self._on_map[terminal]
        self._off_map.setdefault(terminal, now_s)
        while len(self._off_map) > ENDED_MOST:
            del self._off_map[next(iter(self._off_map))]
        return cot_events.gone(self._style, terminal, now_ms=now_ms)

    async def _look(self) -> None:
        """A unit that may no longer be seen brings no news of that: nobody tells us of it."""
        for place, terminal in enumerate(tuple(self._on_map)):
            if not self._still_seen(terminal):
                self._pacing.at_once((terminal,))
                self._news.set()
            if place % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _still_seen(self, terminal: Issi) -> bool:
        try:
            return self._seen(terminal) is not None
        except Exception:  # noqa: BLE001 - it is told and counted where it is to be said
            return False

    # ----------------------------------------------------------------- calls for help

    async def _say_calls(self, line: Line, now_s: float) -> None:
        self._calls_due_s = now_s + self._section.emergency_repeat_s
        alarms = [each for each in self._present.alarms() if each.rule == EMERGENCY]
        now_ms = self._clock.wall_ms()
        events = []
        for alarm in alarms:
            shown = self._bus.projected(self._viewer, alarm)
            terminal = shown.terminal if isinstance(shown, AlarmChanged) else ""
            if not terminal:
                continue
            self._calls.setdefault(terminal, "")
            self._calls_over.pop(terminal, None)
            events.append(self._spelt("emergency", self._call, terminal, now_ms))
        open_ = {alarm.terminal for alarm in alarms}
        for terminal in [each for each in self._calls if each not in open_]:
            callsign = self._calls.pop(terminal)
            self._calls_over.setdefault(terminal, (now_s, callsign))
            while len(self._calls_over) > ENDED_MOST:
                del self._calls_over[next(iter(self._calls_over))]
            events.append(self._spelt("emergency", self._over, terminal, callsign, now_ms))
        await self._put(line, "emergency", [event for event in events if event is not None])

    def _call(self, terminal: Issi, now_ms: int) -> bytes:
        fix, callsign = self._called_from(terminal, now_ms), self._callsign(terminal)
        self._calls[terminal] = callsign
        return cot_events.call_for_help(self._style, terminal, callsign, fix, now_ms=now_ms)

    def _over(self, terminal: Issi, callsign: str, now_ms: int) -> bytes:
        fix = self._called_from(terminal, now_ms)
        return cot_events.help_over(self._style, terminal, callsign, fix, now_ms=now_ms)

    def _called_from(self, terminal: Issi, now_ms: int) -> UnitFix | None:
        """Where the call comes from, as far as that may be shown: of another area's unit the place
        alone, which a call for help tells wherever it is."""
        fix = self._present.fix(terminal)
        where = self._where(fix)
        if where is not None or fix is None:
            return where
        age_s = max(0, now_ms - fix.fixed_at_ms) / 1000
        call = UnitEmergency(terminal, "", True, now_ms, fix.lat, fix.lon, age_s)
        shown = self._bus.projected(self._viewer, call)
        if not isinstance(shown, UnitEmergency) or shown.lat is None or shown.lon is None:
            return None
        return msgspec.structs.replace(fix, accuracy_m=None, lat=shown.lat, lon=shown.lon)

    def _callsign(self, terminal: Issi) -> str:
        meta = self._present.meta(terminal)
        shown = self._bus.projected(self._viewer, meta) if meta is not None else None
        return shown.callsign if isinstance(shown, UnitMeta) else ""

    def _lost(self, queue: str, reason: str, n: float = 1) -> None:
        self._meter.count("queue_dropped_total", n, queue=queue, reason=reason)
