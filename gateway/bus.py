"""Fan-out: what happened goes to whoever may watch, and no watcher can hold up a radio.

`publish` appends to one ring; nothing else happens on the publisher's time but the inline
observers. A subscriber pulls: its group (viewers equal in all but their id) then projects what is
new, under the policy of that moment, and encodes it once for all of them.

Two lanes. Events are numbered (`seq`, rising, only they advance it) and kept for `keep_s`.
Fixes conflate: the newest per terminal is kept, in constant space.

Each event carries `prev`, the number of the one before it that this group was due, so that a
client can tell a hole from something that was not for it (console design, 15.2 and 15.3).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.messages import AlarmChanged, Event, UnitEmergency, UnitFix, UnitMeta, Viewer
from gateway.ports import Clock, Meter
from gateway.projection import visible

Project = Callable[[Viewer, Event], Event | None]
"""What of this event the viewer is due now; None when nothing."""

Encode = Callable[[Event, int, int | None], bytes]
"""(event, seq, prev) -> bytes. prev None: a copy sent ahead of its turn; seq is then the number
the subscriber already holds, and the numbered original still follows."""

Observer = Callable[[Event], None]

BATCH_EVENTS = 500
"""Events handed over at once: what one write must carry within its deadline stays small."""

MAX_GROUPS = 64


def is_urgent(event: Event) -> bool:
    """Whether this goes to the head of what waits for a subscriber."""
    match event:
        case UnitEmergency():
            return True
        case AlarmChanged(rule="EMG"):
            return True
        case _:
            return False


class Batch(msgspec.Struct, frozen=True):
    """What one `next` brought.

    events: (seq, event), each once, urgent ones first. wire: the same as encoded, in the order
    of seq with copies of urgent ones ahead; empty without an encoder. fixes: newest per terminal.
    held: the number of the last event this subscriber was due up to here. behind: events that
    still wait. conflated: fixes that a newer one replaced before they could be handed over.
    reset: None, or `gap`, `overflow`, `policy`: events were lost to this subscriber, it must take
    a snapshot; the subscription then stands at the present and goes on.
    closed: nothing more will come.
    """

    events: list[tuple[int, Event]]
    wire: list[bytes]
    fixes: list[UnitFix]
    held: int
    behind: int = 0
    conflated: int = 0
    reset: str | None = None
    closed: bool = False


class _Kept(NamedTuple):
    seq: int
    at_s: float
    event: Event


class _Due:
    """An event as a group is due it; encoded at most once."""

    __slots__ = ("data", "encode", "event", "prev", "seq")

    def __init__(self, seq: int, prev: int, event: Event) -> None:
        self.seq = seq
        self.prev = prev
        self.event = event
        self.encode: Encode | None = None
        self.data = b""


class Group:
    """Viewers equal in all but their id: one projection, one encoding.

    last_due: number of the newest event this group was due; what a snapshot must carry as `seq`.
    """

    def __init__(self, bus: EventBus, viewer: Viewer) -> None:
        self._bus = bus
        self._viewer = viewer
        self._due: list[_Due] = []
        self._first = 0  # ordinal of _due[0]: positions survive trimming
        self._bytes = 0
        self._seen = bus.oldest - 1  # newest number that was looked at
        self.floor = self._seen  # whoever holds less than this has lost something
        self.last_due = self._seen
        self.subscriptions: set[Subscription] = set()
        self._fixes: tuple[int, int, list[UnitFix], int] = (0, 0, [], 0)

    def catch_up(self) -> None:
        """Project what was published since the last look; forget what is no longer kept."""
        bus = self._bus
        oldest = bus.oldest
        if self._seen < oldest - 1:  # nobody looked for so long that the ring went past us
            self._drop(len(self._due))
            self._seen = self.floor = self.last_due = oldest - 1
        for kept in bus.newer_than(self._seen):
            shown = bus.projected(self._viewer, kept.event)
            if shown is not None:
                self._due.append(_Due(kept.seq, self.last_due, shown))
                self.last_due = kept.seq
        self._seen = bus.seq
        stale = self.place_after(oldest - 1) - self._first
        if stale >= 256 or stale == len(self._due):  # in strides, so that trimming costs nothing
            self._drop(stale)

    def _drop(self, count: int) -> None:
        if not count:
            return
        self.floor = max(self.floor, self._due[count - 1].seq)
        self._bytes -= sum(len(due.data) for due in self._due[:count])
        del self._due[:count]
        self._first += count

    def place_after(self, seq: int) -> int:
        """The ordinal of the first event newer than seq."""
        return self._first + bisect_right(self._due, seq, key=lambda due: due.seq)

    @property
    def end(self) -> int:
        return self._first + len(self._due)

    def slice(self, start: int, stop: int) -> list[_Due]:
        return self._due[max(0, start - self._first) : max(0, stop - self._first)]

    def encoded(self, due: _Due, encode: Encode, held: int) -> bytes:
        """Once per group; apart only for one that came in between (its snapshot's number)."""
        if due.prev != held:
            return encode(due.event, due.seq, held)
        if due.encode is not encode:
            self._bytes -= len(due.data)
            due.encode, due.data = encode, encode(due.event, due.seq, due.prev)
            self._bytes += len(due.data)
            while self._bytes > self._bus.keep_bytes and len(self._due) > 1:
                self._drop(1)
        return due.data

    def fixes_since(self, start: int, end: int) -> tuple[list[UnitFix], int]:
        """Visible newest fixes (one list for all at this place), and how many were conflated."""
        if self._fixes[:2] == (start, end):
            return self._fixes[2:]
        newest = self._bus.fixes_after(start)
        found = []
        for fix in newest:
            shown = self._bus.projected(self._viewer, fix)
            if isinstance(shown, UnitFix):
                found.append(shown)
        # Who comes from a snapshot (place 0) has had nothing replaced under his eyes.
        conflated = end - start - len(newest) if found and start else 0
        self._fixes = (start, end, found, conflated)
        return found, conflated

    def forget(self) -> None:
        """The policy changed: nothing that was projected before may be sent any more."""
        self._drop(len(self._due))
        self._fixes = (0, 0, [], 0)
        self._seen = self.floor = self.last_due = self._bus.seq


class Subscription:
    """One viewer's place in the stream. `next` by one task at a time; `close` from anywhere.

    Cancelling a waiting `next` loses nothing: the place moves only when a batch is returned.
    """

    def __init__(
        self, bus: EventBus, group: Group, viewer: Viewer, after: int | None, encode: Encode | None
    ) -> None:
        self.viewer = viewer
        self.closed = False
        self._bus = bus
        self._group = group
        self._encode = encode
        self._reset: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ahead: set[int] = set()  # urgent ones that went ahead of their turn
        self._scanned = 0
        self._more = False
        """The last batch left some behind."""
        if after is None:
            self._stand(group.last_due)
            self._fix_place = bus.fix_number
        else:
            self._stand(after)
            self._fix_place = 0
            if not group.floor <= after <= bus.seq:
                self._reset = "gap"

    def _stand(self, held: int) -> None:
        self.held = held
        self._place = self._scanned = self._group.place_after(held)
        self._ahead.clear()

    def reset(self, reason: str) -> None:
        """Say on the next turn that what this viewer holds is no longer whole."""
        self._reset = reason
        self.wake()

    @property
    def behind(self) -> int:
        """Events that wait, as far as they have been projected."""
        return max(0, self._group.end - self._place)

    def close(self) -> None:
        """No more is wanted; a waiting `next` returns a closed batch."""
        if not self.closed:
            self.closed = True
            self._bus.left(self, self._group)
            self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, timeout_s: float | None = None, *, fixes: bool = True) -> Batch:
        """Whatever is due now, else the first thing due within timeout_s, else an empty batch.

        fixes False leaves the fixes for a later turn (the caller paces them).
        """
        if self._waiter is not None:
            raise RuntimeError("one task at a time may wait on a subscription")
        if self._more:
            # Whoever is behind catches up batch by batch, and the loop has its turn in between.
            self._more = False
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        end_s = None if timeout_s is None else loop.time() + timeout_s
        while True:
            batch = self._take(fixes)
            if batch is not None:
                return batch
            left_s = None if end_s is None else end_s - loop.time()
            if left_s is not None and left_s <= 0:
                return Batch([], [], [], self.held)
            self._waiter = loop.create_future()
            self._bus.waits(self, fixes)
            timer = None if left_s is None else loop.call_later(left_s, self.wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._bus.waits_no_more(self)
                if timer is not None:
                    timer.cancel()

    def _take(self, want_fixes: bool) -> Batch | None:
        if self.closed:
            return Batch([], [], [], self.held, closed=True)
        group = self._group
        group.catch_up()
        if self._reset is None and self.held < group.floor:
            self._reset = "overflow"
        if self._reset is not None:
            reason, self._reset = self._reset, None
            self._stand(group.last_due)
            self._fix_place = 0
            return Batch([], [], [], self.held, reset=reason)
        events, wire = self._take_events()
        found, conflated = self._take_fixes() if want_fixes else ([], 0)
        if not events and not wire and not found:
            return None
        self._more = self.behind > 0
        return Batch(events, wire, found, self.held, self.behind, conflated)

    def _take_events(self) -> tuple[list[tuple[int, Event]], list[bytes]]:
        group = self._group
        stop = min(group.end, self._place + BATCH_EVENTS)
        ahead: list[_Due] = []
        for offset, due in enumerate(group.slice(self._scanned, group.end), self._scanned):
            if is_urgent(due.event) and offset > self._place:
                ahead.append(due)
                self._ahead.add(due.seq)
        self._scanned = group.end
        events = [(due.seq, due.event) for due in ahead]
        wire: list[bytes] = []
        if self._encode is not None:
            wire = [self._encode(due.event, self.held, None) for due in ahead]
        turn = group.slice(self._place, stop)
        self._place = stop
        for due in turn:
            if due.seq in self._ahead:
                self._ahead.discard(due.seq)
            else:
                events.append((due.seq, due.event))
            if self._encode is not None:
                wire.append(group.encoded(due, self._encode, self.held))
            self.held = due.seq
        return events, wire

    def _take_fixes(self) -> tuple[list[UnitFix], int]:
        bus = self._bus
        start, end = self._fix_place, bus.fix_number
        if start == end:
            return [], 0
        self._fix_place = end
        return self._group.fixes_since(start, end)


class EventBus:
    """Publishes to all who watch. One loop, no thread.

    keep_s, keep_events, keep_bytes: how far back a subscriber may be (or come back to), in time,
    in events, and in encoded bytes of its group; further behind is a reset, never a wait.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        keep_s: float = 120.0,
        keep_events: int = 10_000,
        keep_bytes: int = 64 * 1024 * 1024,
        project: Project = visible,
        meter: Meter | None = None,
    ) -> None:
        self.seq = 0
        self.fix_number = 0
        self.keep_bytes = keep_bytes
        self._clock = clock
        self._keep_s = keep_s
        self._keep_events = keep_events
        self._project = project
        self._meter = meter
        self._ring: deque[_Kept] = deque()
        self._fixes: dict[str, tuple[int, UnitFix]] = {}
        self._observers: list[Observer] = []
        self._groups: dict[Viewer, Group] = {}
        self._waiting: dict[Subscription, bool] = {}  # -> whether a fix is news to it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False
        self._event_came = False

    # ------------------------------------------------------------------ publishing

    def publish(self, event: Event) -> None:
        """Say what happened. Constant time; never raises, never waits."""
        if isinstance(event, UnitFix):
            self.fix_number += 1
            self._fixes.pop(event.terminal, None)  # re-inserted: the dict stays in order of age
            self._fixes[event.terminal] = (self.fix_number, event)
        else:
            self.seq += 1
            now_s = self._clock.monotonic_s()
            self._ring.append(_Kept(self.seq, now_s, event))
            self._evict(now_s)
            if isinstance(event, UnitMeta) and event.gone:
                self._fixes.pop(event.terminal, None)
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - an observer must never stop what it observes
                self._count_failure()
        if self._waiting and self._loop is not None:
            self._event_came = self._event_came or not isinstance(event, UnitFix)
            if not self._waking:  # one callback wakes all: the publisher pays for one
                self._waking = True
                self._loop.call_soon(self._wake)

    def _evict(self, now_s: float) -> None:
        """At most two leave for each that comes: the work of one publish stays constant."""
        oldest_s, ring = now_s - self._keep_s, self._ring
        for _ in range(2):
            if not ring or (len(ring) <= self._keep_events and ring[0].at_s >= oldest_s):
                return
            ring.popleft()

    def _count_failure(self) -> None:
        if self._meter is not None:
            self._meter.count("task_restarts_total", task="observer")

    def tap(self, observer: Observer, viewer: Viewer | None = None) -> None:
        """An inline observer of every event, both lanes, as this viewer is due it; without one,
        unprojected. It must be O(1)."""
        if viewer is None:
            self._observers.append(observer)
            return

        def shown(event: Event) -> None:
            due = self.projected(viewer, event)
            if due is not None:
                observer(due)

        self._observers.append(shown)

    # ------------------------------------------------------------------ watching

    def subscribe(
        self, viewer: Viewer, *, after: int | None = None, encode: Encode | None = None
    ) -> Subscription:
        """A place in the stream: from now on, or after the number that the viewer holds.

        With `after`, what was missed comes first and all present positions are due again; if it
        is no longer kept, the first batch says reset `gap`. The caller checks the epoch.
        """
        group = self._group(viewer)
        subscription = Subscription(self, group, viewer, after, encode)
        group.subscriptions.add(subscription)
        return subscription

    def position(self, viewer: Viewer) -> int:
        """The `seq` of a snapshot that is taken now for this viewer: the last one it was due."""
        return self._group(viewer).last_due

    def policy_changed(self) -> None:
        """What was projected under the old policy is dropped; every subscriber is told `policy`."""
        for group in self._groups.values():
            group.forget()
            for subscription in group.subscriptions:
                subscription.reset("policy")

    def close(self) -> None:
        """End every subscription."""
        for group in self._groups.values():
            for subscription in tuple(group.subscriptions):
                subscription.close()

    @property
    def subscribers(self) -> int:
        return sum(len(group.subscriptions) for group in self._groups.values())

    def _group(self, viewer: Viewer) -> Group:
        key = msgspec.structs.replace(viewer, id="")
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                idle = [k for k, g in self._groups.items() if not g.subscriptions]
                for old in idle[:1]:
                    del self._groups[old]
            group = self._groups[key] = Group(self, viewer)
        group.catch_up()
        return group

    # ------------------------------------------------------------------ for groups

    @property
    def oldest(self) -> int:
        """The oldest number that is still kept; one past the newest when nothing is."""
        return self._ring[0].seq if self._ring else self.seq + 1

    def newer_than(self, seq: int) -> list[_Kept]:
        """Kept events after seq, oldest first; costs as many steps as there are."""
        found = []
        for kept in reversed(self._ring):
            if kept.seq <= seq:
                break
            found.append(kept)
        found.reverse()
        return found

    def fixes_after(self, number: int) -> list[UnitFix]:
        """Newest fix of each terminal heard after `number`, oldest first."""
        found = []
        for when, fix in reversed(self._fixes.values()):
            if when <= number:
                break
            found.append(fix)
        found.reverse()
        return found

    def project_by(self, project: Project) -> None:
        """From now on this decides; for before anybody watches."""
        self._project = project

    def projected(self, viewer: Viewer, event: Event) -> Event | None:
        """Default deny: what the policy cannot judge is not shown, and counted."""
        try:
            return self._project(viewer, event)
        except Exception:  # noqa: BLE001 - a faulty policy must not stop the stream of the rest
            self._count_failure()
            return None

    def waits(self, subscription: Subscription, fixes: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting[subscription] = fixes

    def waits_no_more(self, subscription: Subscription) -> None:
        self._waiting.pop(subscription, None)

    def left(self, subscription: Subscription, group: Group) -> None:
        group.subscriptions.discard(subscription)

    def _wake(self) -> None:
        for_all, self._waking, self._event_came = self._event_came, False, False
        for subscription, fixes in tuple(self._waiting.items()):
            if for_all or fixes:
                subscription.wake()
