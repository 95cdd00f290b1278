"""The Courier: answers and messages onto screens, at least once, until seen or stale.

An answer reaches the Courier only after its outcome, its disclosure and its outbox row are on
record. What waits belongs to the officer who asked: if somebody else holds the terminal by then it
is never sent (architecture, decision 13), and a broker may keep it only for a moment
(book.broker_holds_s). Receipts and notices are said once and not kept: the terminal asks again when
it hears no receipt.

What has a slot (`not_before_s`) is sent when that begins and not before: neither a word of the
terminal nor a repeat nor a link that comes back may show when the answer was there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial

from gateway.errors import SendFailed
from gateway.log_words import LogEvent
from gateway.messages import (
    AckState,
    Bearer,
    CheckDelivery,
    Downlink,
    Event,
    Issi,
    Locate,
    Notice,
    Receipt,
    Result,
)
from gateway.parcels import Parcel, taken
from gateway.ports import Clock, Journal, Link, Meter
from gateway.supervise import Crew
from gateway.timers import Timers

TELL_MOST = 2_000
"""Receipts and notices under way at once; more are dropped and counted."""
IN_SLOTS_MOST = 8_000
"""So many answers may wait for their slots when a notice is to wait for its own. Each answer has a
row in the outbox and is never turned away."""
RESEND_MOST_S = 120.0
TURN_S = 0.25
"""Between two looks at what is due to come again."""
AT_ONCE = 32
"""Answers that are given up, and terminals that are served anew, in one turn of the loop: after an
outage thousands are due together, and everybody else waits for the loop meanwhile."""
WAITING_MOST = 64
"""Answers that wait for one terminal. One more, and the least of them goes stale: a terminal that
acknowledges nothing must not fill the memory."""


class Courier:
    """Holds what waits, newest attempt per terminal one at a time, most urgent first.

    link_for: the link over which the terminal is reached now, or None. holder_of: who holds the
    terminal now; empty when nobody does. `stale` is told the check whose answer is given up.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        publish: Callable[[Event], None],
        link_for: Callable[[Issi], Link | None],
        holder_of: Callable[[Issi], str],
        resend_s: float,
        broker_holds_s: float,
    ) -> None:
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._publish = publish
        self._link_for = link_for
        self._holder_of = holder_of
        self._resend_s = resend_s
        self._broker_holds_s = broker_holds_s
        self.crew = Crew(name="courier", most=TELL_MOST, journal=journal, meter=meter)
        self._parcels: dict[str, Parcel] = {}
        self._any_waits = asyncio.Event()
        self._waiting: dict[Issi, OrderedDict[str, Parcel]] = {}
        self._busy: set[Issi] = set()
        self._under_way: dict[Issi, list[tuple[str, asyncio.Timeout]]] = {}
        """With a bearer right now: whose it is, and what ends that."""
        self._slots = Timers(clock, self.crew)
        """What waits for its slot, in one task for all: a stop does not wait for it."""
        self._newest: dict[Issi, tuple[str, str]] = {}
        """For whom, and what: nobody reads what another one was sent."""
        self.stale: Callable[[str], None] = lambda _check: None
        """Told the check whose answer, or the message that, will not be delivered any more."""
        self.message_sent: Callable[[str], None] = lambda _id: None
        """Told of each message that a bearer took."""

    # ----------------------------------------------------------------- what is kept

    def post(self, parcel: Parcel) -> None:
        """Take charge of an answer that is on record; the first attempt starts at once, or when
        its slot begins."""
        self._parcels[parcel.check] = parcel
        self._any_waits.set()
        waiting = self._waiting.setdefault(parcel.terminal, OrderedDict())
        waiting[parcel.id] = parcel
        if len(waiting) > WAITING_MOST:
            self._meter.count("queue_dropped_total", queue="outbox", reason="terminal_limit")
            self._go_stale(min(waiting.values(), key=_worth))
        self._gauge()
        if parcel.not_before_s > self._clock.monotonic_s():
            self._slots.at(parcel.not_before_s, partial(self._pump, parcel.terminal))
        else:
            self._pump(parcel.terminal)

    def waiting(self, check: str) -> bool:
        return check in self._parcels

    def again(self, check: str) -> None:
        """The terminal asked again: send now what is still under way."""
        parcel = self._parcels.get(check)
        if parcel is not None:
            parcel.next_at_s = 0.0
            self._pump(parcel.terminal)

    def heard(self, terminal: Issi) -> None:
        """The terminal lives: what failed to reach it is tried again now, and so is what was sent
        while it may have been out of reach, if this is its first word since (O(1) when none
        waits)."""
        waiting = self._waiting.get(terminal)
        if not waiting:
            return
        now_s = self._clock.monotonic_s()
        due = False
        for parcel in waiting.values():
            first_word, parcel.heard_since = not parcel.heard_since, True
            was_away = first_word and now_s - parcel.tried_at_s >= self._resend_s
            if parcel.failed or was_away:
                parcel.next_at_s, due = 0.0, True
        if due:
            self._pump(terminal)

    def link_up(self) -> None:
        """A link is up again: what failed while it was down does not wait out its back-off, which
        may be two minutes by then. `tend` sends it."""
        for parcel in self._parcels.values():
            if parcel.failed:
                parcel.next_at_s = 0.0

    def find(self, terminal: Issi, ref: str) -> str | None:
        """The check that `ref` (short form or whole id) means among what was sent to this terminal
        and is not yet acknowledged; empty: what a bearer took last. What was never tried cannot
        have been read: it is not found. Messages are not looked for."""
        newest: Parcel | None = None
        for parcel in self._waiting.get(terminal, {}).values():
            if parcel.kind != "answer":
                continue
            if ref:
                if parcel.attempts and ref in (parcel.short, parcel.check):
                    newest = parcel
            elif parcel.sent_at_s is not None and (
                newest is None or parcel.sent_at_s >= (newest.sent_at_s or 0.0)
            ):
                newest = parcel
        return newest.check if newest is not None else None

    def newest(self, terminal: Issi) -> str:
        """What a bearer took last for this terminal, answer or message; empty: nothing yet."""
        holder, id_ = self._newest.get(terminal, ("", ""))
        return id_ if holder == self._holder_of(terminal) else ""

    def took(self, check: str, part: int, state: AckState) -> AckState | None:
        """As `taken`, of an answer; what is no longer under way is taken at its word."""
        parcel = self._parcels.get(check)
        return state if parcel is None else taken(parcel, part, state)

    def done(self, check: str) -> None:
        """Seen, or gone stale: let go."""
        parcel = self._parcels.pop(check, None)
        if parcel is None:
            return
        if not self._parcels:
            self._any_waits.clear()
        waiting = self._waiting.get(parcel.terminal)
        if waiting is not None:
            waiting.pop(parcel.id, None)
            if not waiting:
                del self._waiting[parcel.terminal]
        self._gauge()

    def holder_changed(self, terminal: Issi) -> None:
        """Somebody took or left this radio: what belongs to a former holder goes stale now, and
        what a slow bearer has not sent yet of it never is."""
        self._stop_sending(terminal)
        for parcel in list(self._waiting.get(terminal, {}).values()):
            if self._holder_of(terminal) != parcel.holder:
                self._go_stale(parcel)

    def holders_changed(self) -> None:
        """The fleet was replaced: what belongs to a former holder goes stale now."""
        self._newest = {issi: id_ for issi, id_ in self._newest.items() if self._holder_of(issi)}
        for terminal in list(self._under_way):
            self._stop_sending(terminal)
        for parcel in list(self._parcels.values()):
            if self._holder_of(parcel.terminal) != parcel.holder:
                self._go_stale(parcel)

    async def tend(self) -> None:
        """Owned by the composition root: resend what is due, drop what is stale. Never returns,
        and sleeps while nothing waits."""
        while True:
            await self._any_waits.wait()
            # On a grid of its own: turns that counted from when an answer was posted would show, by
            # when it comes again, when it was there.
            await self._clock.sleep(TURN_S - self._clock.monotonic_s() % TURN_S)
            now_s = self._clock.monotonic_s()
            # A dict, not a set: terminals are served in an order that a seed repeats.
            due: dict[Issi, None] = {}
            given_up = 0
            for parcel in list(self._parcels.values()):
                if self._parcels.get(parcel.check) is not parcel:
                    continue  # done with while the loop had its turn
                if now_s >= parcel.stale_at_s:
                    self._go_stale(parcel)
                    given_up += 1
                    if given_up % AT_ONCE == 0:
                        await asyncio.sleep(0)
                elif now_s >= max(parcel.next_at_s, parcel.not_before_s):
                    due[parcel.terminal] = None
            for served, terminal in enumerate(due, 1):
                self._pump(terminal)
                if served % AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def stop(self, deadline_s: float) -> None:
        self._slots.stop()
        await self.crew.drain(deadline_s)

    # ----------------------------------------------------------------- what is said once

    def tell(
        self,
        terminal: Issi,
        message: Receipt | Notice | Result | Locate,
        *,
        expires_in_s: float,
        holder: str = "",
        not_before_s: float = 0.0,
    ) -> None:
        """Say it now, or when its slot begins, or not at all. A drop is counted; the terminal
        repeats what it must know.

        holder: whose it is; it is not said when somebody else holds the terminal by then.
        """
        waits = not_before_s > self._clock.monotonic_s()
        if self.crew.full or (waits and len(self._slots) >= IN_SLOTS_MOST):
            self._meter.count("queue_dropped_total", queue="outbox", reason="full")
        elif waits:
            again = partial(self.tell, terminal, message, expires_in_s=expires_in_s, holder=holder)
            self._slots.at(not_before_s, again)
        else:
            self.crew.start(self._say(terminal, message, expires_in_s, holder))

    async def _say(
        self, terminal: Issi, message: Downlink, expires_in_s: float, holder: str
    ) -> None:
        if holder and self._holder_of(terminal) != holder:
            self._meter.count("queue_dropped_total", queue="outbox", reason="stale")
        elif not await self._send(terminal, message, expires_in_s, holder):
            self._meter.count("queue_dropped_total", queue="outbox", reason="unreachable")

    # ----------------------------------------------------------------- the sending

    def _pump(self, terminal: Issi) -> None:
        if terminal in self._busy or terminal not in self._waiting:
            return
        self._busy.add(terminal)
        self.crew.start(self._deliver(terminal), fault=lambda _error: self._busy.discard(terminal))

    async def _deliver(self, terminal: Issi) -> None:
        """Send what is due to one terminal, most urgent first, one at a time."""
        try:
            while (parcel := self._next_due(terminal)) is not None:
                if self._holder_of(terminal) != parcel.holder:
                    self._go_stale(parcel)
                    continue
                now_s = self._clock.monotonic_s()
                left_s = parcel.stale_at_s - now_s
                if left_s <= 0:
                    self._go_stale(parcel)
                    continue
                parcel.attempts += 1
                backoff_s = min(RESEND_MOST_S, self._resend_s * 2 ** min(parcel.attempts - 1, 16))
                parcel.next_at_s = now_s + backoff_s
                parcel.tried_at_s, parcel.heard_since = now_s, False
                parcel.parts = self._parts(parcel)
                sent = await self._send(terminal, parcel.message, left_s, parcel.holder)
                parcel.failed = not sent
                if sent:
                    # Over the air that took a while: the wait for its acknowledgement begins now.
                    parcel.next_at_s = self._clock.monotonic_s() + backoff_s
                if self._parcels.get(parcel.check) is parcel:
                    self._sent(parcel, sent)
        finally:
            self._busy.discard(terminal)

    def _parts(self, parcel: Parcel) -> int:
        """A line and the air get the texts one by one, and the terminal acknowledges each; over
        MQTT the answer is one message."""
        link = self._link_for(parcel.terminal)
        if link is None or link.bearer not in (Bearer.SERIAL, Bearer.TETRA):
            return 1
        return max(1, len(parcel.message.texts))

    def _next_due(self, terminal: Issi) -> Parcel | None:
        now_s = self._clock.monotonic_s()
        due = [
            parcel
            for parcel in self._waiting.get(terminal, {}).values()
            if max(parcel.next_at_s, parcel.not_before_s) <= now_s
        ]
        return min(due, key=_turn) if due else None

    async def _send(
        self, terminal: Issi, message: Downlink, expires_in_s: float, holder: str
    ) -> bool:
        link = self._link_for(terminal)
        if link is None:
            return False
        deadline_s = min(link.send_s, expires_in_s)
        if _says_of_somebody(message):
            # Whoever books the radio next must not get it from a broker. It comes again anyhow.
            expires_in_s = min(expires_in_s, self._broker_holds_s)
        started_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(None) as limit, self._stopped_by(terminal, holder, limit):
                await link.send(terminal, message, expires_in_s=expires_in_s, deadline_s=deadline_s)
        except (SendFailed, TimeoutError):
            return False
        self._meter.observe(
            "check_stage_duration_seconds", self._clock.monotonic_s() - started_s, stage="send"
        )
        return True

    @contextlib.asynccontextmanager
    async def _stopped_by(
        self, terminal: Issi, holder: str, limit: asyncio.Timeout
    ) -> AsyncIterator[None]:
        """Meanwhile `_stop_sending` ends it, should it be another's by then."""
        mine = holder, limit
        self._under_way.setdefault(terminal, []).append(mine)
        try:
            yield
        finally:
            self._under_way[terminal].remove(mine)
            if not self._under_way[terminal]:
                del self._under_way[terminal]

    def _stop_sending(self, terminal: Issi) -> None:
        now_holds = self._holder_of(terminal)
        for holder, limit in self._under_way.get(terminal, ()):
            if holder and holder != now_holds and limit.when() is None:
                limit.reschedule(0.0)  # long over: now

    def _sent(self, parcel: Parcel, sent: bool) -> None:
        now_ms = self._clock.wall_ms()
        state = "sent" if sent else "failed"
        self._meter.count("result_parts_total", state=state)
        link = self._link_for(parcel.terminal)
        if parcel.attempts > 1 and link is not None:
            self._meter.count("result_retries_total", bearer=link.bearer.value)
        if sent:
            parcel.sent_at_s = self._clock.monotonic_s()
            self._newest[parcel.terminal] = (parcel.holder, parcel.check)
        if sent and parcel.accepted_at_s is not None:
            self._meter.observe(
                "result_delivery_latency_seconds", self._clock.monotonic_s() - parcel.accepted_at_s
            )
            parcel.accepted_at_s = None
        word: LogEvent = "delivery.sent" if sent else "delivery.failed"
        self._journal.note(word, check=parcel.check, attempt=parcel.attempts)
        if parcel.kind != "answer":
            if sent:
                self.message_sent(parcel.check)
            return
        self._publish(
            CheckDelivery(
                short=parcel.short,
                check=parcel.check,
                terminal=parcel.terminal,
                part=1,
                state=state,
                t_ms=now_ms,
            )
        )

    def _go_stale(self, parcel: Parcel) -> None:
        self.done(parcel.check)
        self._journal.note("delivery.stale", check=parcel.check, attempt=parcel.attempts)
        self.stale(parcel.check)

    def _gauge(self) -> None:
        self._meter.gauge("queue_depth", len(self._parcels), queue="outbox")


def _turn(parcel: Parcel) -> tuple[int, str]:
    """The least is sent first. What has a slot comes in the order of the questions: that of the
    answers would tell which was there first."""
    return parcel.priority, parcel.id if parcel.not_before_s else ""


def _says_of_somebody(message: Downlink) -> bool:
    """Whether it is for its officer's eyes alone: an answer, a danger word, a message to them."""
    match message:
        case Notice(kind=kind, danger=danger):
            return bool(danger) or kind == "message"
        case Receipt() | Locate():
            return False
        case _:
            return True


def _worth(parcel: Parcel) -> tuple[int, bool, float]:
    """The least goes first: a message before an answer, no hit before a hit, one that was sent
    before one that never was."""
    return -parcel.priority, parcel.sent_at_s is None, parcel.stale_at_s
