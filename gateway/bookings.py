"""Who takes a radio and who leaves it: booked on with a second factor, off by a word or by time.

Rules of this module
1. Nobody is served by a radio before their booking is on record. Leaving is the other way round:
   it holds at once, is recorded as soon as that can be, and is confirmed once it is.
2. Whatever was wrong (the officer, the factor, too many tries), the radio is told the same words
   after the same work.
3. A booking ends at its time on the wall clock or on the monotonic one, whichever comes first.
4. What was left stays left: neither a copy of the word that booked it nor a restart brings the
   officer back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from gateway.errors import FactorsBusy, LedgerFatal, LedgerUnavailable
from gateway.lockout import Lockout
from gateway.log_words import LogEvent
from gateway.messages import BookOff, BookOn, Envelope, Issi, Notice, Suspicion
from gateway.ports import (
    Change,
    Clock,
    DropKept,
    Factors,
    Ids,
    Journal,
    KeptRow,
    Ledger,
    Meter,
    PutKept,
    Record,
    Suspect,
)
from gateway.rendering import clock_text
from gateway.roster import Booking, Roster
from gateway.rulebook import CALLSIGN
from gateway.settings import BookSection
from gateway.supervise import Crew

KIND = "booking"
ABOARD_MOST = 4
EACH_MOST = 2
"""Words of one radio that are being checked or wait for it; one more is told to come again."""
ALL_MOST = 64
WARN_S = 900.0
"""So long before a booking ends by itself, whoever is aboard hears of it."""
NOTICE_EXPIRES_S = 60.0
NOT_BOOKED = "XX NOT BOOKED. CALL CONTROL"
TRY_AGAIN = "XX NOT BOOKED. TRY AGAIN"
NOT_RECORDED = "XX NOT BOOKED. NO RECORD. USE VOICE"
BOOKED_OFF = "BOOKED OFF"
NOBODY_ABOARD = "NOBODY BOOKED"
NOT_ABOARD = "XX NOT ABOARD"
NOW_PIN = "NOW PIN AND YOUR NUMBER"


class BookingDesk:
    """changed: told of each radio whose holder may be another now, or whose crew is.
    told: says a notice. policy, zone: of this moment."""

    def __init__(
        self,
        *,
        settings: BookSection,
        roster: Roster,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        factors: Factors,
        tell: Callable[[Issi, Notice], None],
        suspect: Suspect,
        changed: Callable[[Issi], None],
        policy: Callable[[], str],
        zone: str,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._factors = factors
        self._tell = tell
        self._suspect = suspect
        self._changed = changed
        self._policy = policy
        self._zone = zone
        self._fatal = fatal
        self.crew = Crew(name="booking", most=ALL_MOST, journal=journal, meter=meter)
        self._lockout = Lockout(attempts=settings.attempts, lock_s=settings.lock_s)
        self._turns: dict[Issi, asyncio.Lock] = {}
        self._under_way = Counter[Issi]()
        self._ends = Counter[Issi]()
        """How often a radio was left while a word of it was under way: that books nobody then."""
        self._windows: dict[Issi, float] = {}
        self._warned: dict[Issi, str] = {}
        self._pending: deque[tuple[list[Record], list[Change], Callable[[], None]]] = deque()
        """What holds already and waits for the ledger: at most one end a booking."""
        self._writing = asyncio.Lock()

    # ----------------------------------------------------------------- what comes in

    def book_on(self, envelope: Envelope, message: BookOn) -> None:
        """Synchronous up to the check of the factor; `settle` follows the commit or the refusal."""
        terminal = envelope.terminal
        if self._roster.terminal(terminal) is None:
            self._meter.count(
                "frames_rejected_total", link=envelope.link, reason="unknown_terminal"
            )
            envelope.settle()
            return
        if self.crew.full or self._under_way[terminal] >= EACH_MOST:
            self._refuse(envelope, "busy", TRY_AGAIN)
            return
        self._under_way[terminal] += 1
        ends = self._ends[terminal]

        async def book() -> None:
            try:
                async with self._turns.setdefault(terminal, asyncio.Lock()):
                    await self._book(envelope, message, ends)
            finally:
                self._under_way[terminal] -= 1
                if not self._under_way[terminal]:
                    for each in (self._under_way, self._turns, self._ends):
                        each.pop(terminal, None)

        self.crew.start(book(), fault=lambda _error: self._refuse(envelope, "fault", NOT_BOOKED))

    def book_off(self, envelope: Envelope, message: BookOff, *, cause: str = "message") -> None:
        """Who leaves is gone at once; told, and the word settled, when that is on record."""
        terminal, settle = envelope.terminal, envelope.settle
        aboard = self._roster.aboard(terminal)
        if message.officer and message.officer not in aboard:
            self._say(terminal, NOT_ABOARD if aboard else NOBODY_ABOARD)
            settle()
            return
        # Even of a radio that nobody holds.
        self._overtake(terminal)
        if not aboard:
            if cause == "message":
                self._say(terminal, NOBODY_ABOARD)
            settle()
            return
        leaving = (message.officer,) if message.officer else aboard

        def recorded() -> None:
            self._say_left(terminal)
            settle()

        self._leave(terminal, leaving, cause, recorded)

    def _overtake(self, terminal: Issi) -> None:
        if self._under_way[terminal]:
            self._ends[terminal] += 1

    def by_status(self, terminal: Issi) -> None:
        """The status that books on: the factor may follow, for a while."""
        self._windows[terminal] = self._clock.monotonic_s() + self._settings.window_s
        self._say(terminal, NOW_PIN)

    # ----------------------------------------------------------------- booking on

    async def _book(self, envelope: Envelope, message: BookOn, ends: int) -> None:
        terminal = envelope.terminal
        if self._is_copy(envelope, message):
            if message.officer and message.officer in self._roster.aboard(terminal):
                self._say_booked(terminal)
                envelope.settle()
            else:
                self._refuse(envelope, "copy", TRY_AGAIN)
            return
        collar = message.officer or self._expected(terminal)
        if not await self._is_right(envelope, message, collar):
            return
        async with self._writing:
            # Much may have changed while the factor was checked.
            made = self._made(message, terminal, collar)
            if made is None or self._ends[terminal] != ends:
                self._refuse(envelope, "overtaken", NOT_BOOKED)
                return
            booking, records, changes, moved = made
            try:
                await self._write_pending()
                await self._ledger.commit(records, changes)
            except LedgerUnavailable:
                self._refuse(envelope, "unrecorded", NOT_RECORDED)
                return
            except LedgerFatal as error:
                self._fatal(error)
                return
            self._windows.pop(terminal, None)
            self._roster.book(booking, terminal)
            for each in moved:
                self._roster.book(each, each.terminal)
        self._count("second" if message.second else "on", envelope.link)
        self._changed(terminal)
        for each in moved:
            self._changed(each.terminal)
            self._count("moved", "")
            self._say_left(each.terminal)
        if self._ends[terminal] != ends:
            # Left while it was being written: on record it stands behind what ended it.
            self._leave(terminal, booking.officers, "overtaken", lambda: self._say_left(terminal))
        self.people_changed()
        self._say_booked(terminal)
        envelope.settle()

    def _is_copy(self, envelope: Envelope, message: BookOn) -> bool:
        """Whether this word was said before. Only a radio that says when can be told for sure; of
        the others nothing is believed that the bearer hands over for the second time."""
        if message.sent_at_ms is None:
            return envelope.redelivered
        newest = self._roster.last_booking(envelope.terminal)
        if newest is None or newest.sent_at_ms is None:
            return False
        if envelope.redelivered:
            return message.sent_at_ms <= newest.sent_at_ms
        return message.sent_at_ms == newest.sent_at_ms

    def _expected(self, terminal: Issi) -> str:
        """Who booked on by status: whoever held this radio last; empty for nobody."""
        if self._windows.get(terminal, 0.0) <= self._clock.monotonic_s():
            return ""
        newest = self._roster.last_booking(terminal)
        if newest is None:
            return self._roster.standing(terminal)
        return newest.lead or newest.last

    async def _is_right(self, envelope: Envelope, message: BookOn, collar: str) -> bool:
        """Whether the factor is this officer's; says so when it is not. The same work for all."""
        terminal = envelope.terminal
        officer = self._roster.officer(collar)
        keys = [f"radio {terminal}"] + ([f"officer {collar}"] if officer is not None else [])
        open_ = [self._lockout.begin(key, self._clock.monotonic_s()) for key in keys]
        stored = officer.factor if officer is not None and all(open_) else ""
        try:
            right = await self._factors.matches(stored, message.factor)
        except FactorsBusy:
            for key in keys:
                self._lockout.unjudged(key)
            self._refuse(envelope, "busy", TRY_AGAIN)
            return False
        if right:
            for key in keys:
                self._lockout.right(key)
            return True
        now_s = self._clock.monotonic_s()
        locked = [self._lockout.wrong(key, now_s) for key in keys]
        if any(locked) or not all(open_):
            self._suspect(Suspicion.BOOKING, envelope.link, terminal)
        self._refuse(envelope, "locked" if not all(open_) else "wrong", NOT_BOOKED)
        return False

    def _made(
        self, message: BookOn, terminal: Issi, collar: str
    ) -> tuple[Booking, list[Record], list[Change], list[Booking]] | None:
        """The booking as it will stand, what goes on record with it, and the radios that it ends;
        None when it cannot be any more."""
        officer, radio = self._roster.officer(collar), self._roster.terminal(terminal)
        aboard = self._roster.aboard(terminal)
        if officer is None or radio is None:
            return None
        if message.second and (not aboard or collar in aboard or len(aboard) >= ABOARD_MOST):
            return None
        if message.callsign and not CALLSIGN.fullmatch(message.callsign):
            return None
        now_ms, now_s = self._clock.wall_ms(), self._clock.monotonic_s()
        newest = self._roster.last_booking(terminal)
        booking = Booking(
            id=self._ids.occurrence(),
            terminal=terminal,
            officers=(collar,),
            since_ms=now_ms,
            until_ms=now_ms + round(self._settings.hours * 3_600_000),
            until_s=now_s + self._settings.hours * 3600,
            counter=self._clock.counter,
            callsign=message.callsign or officer.callsign,
            sent_at_ms=message.sent_at_ms,
            last=collar,
        )
        records: list[Record] = []
        if message.second:
            # What was booked for longer stays no longer: the time is the lead's.
            booking = msgspec.structs.replace(
                booking if newest is None else newest,
                officers=(*aboard, collar),
                sent_at_ms=message.sent_at_ms or (newest.sent_at_ms if newest else None),
                last=aboard[0],
            )
            if newest is None:
                callsign = self._roster.callsign(terminal)
                booking = msgspec.structs.replace(booking, callsign=callsign)
        elif aboard:
            why = "again" if aboard[0] == collar else "replaced"
            records += self._gone(terminal, aboard, why, now_ms)
        # One radio of a kind for each officer: one that they forgot to leave serves nobody.
        moved: list[Booking] = []
        for other in self._roster.radios_of(collar):
            known = self._roster.terminal(other)
            if other == terminal or known is None or known.device_class != radio.device_class:
                continue
            ended, gone = self._without(other, (collar,), "moved", now_ms)
            moved.append(ended)
            records += gone
        detail = f"{'second' if message.second else 'lead'} until {_moment(booking.until_ms)}"
        records.append(self._record("booked", booking, collar, now_ms, detail))
        changes: list[Change] = [PutKept(_row(each)) for each in (booking, *moved)]
        return booking, records, changes, moved

    # ----------------------------------------------------------------- leaving

    def _leave(
        self,
        terminal: Issi,
        leaving: Sequence[str],
        cause: str,
        recorded: Callable[[], None] | None = None,
    ) -> None:
        """They are gone from here on; it waits for the ledger."""
        booking, records = self._without(terminal, leaving, cause, self._clock.wall_ms())
        self._overtake(terminal)
        self._pending.append((records, [PutKept(_row(booking))], recorded or _nothing))
        self._roster.book(booking, terminal)
        self._count(cause if cause in _CAUSES else "off", "")
        self._changed(terminal)
        self._soon()

    def _soon(self) -> None:
        """Write what waits now, and not only with the next tick."""
        if not self.crew.full:
            self.crew.start(self.record())

    def _without(
        self, terminal: Issi, leaving: Sequence[str], cause: str, now_ms: int
    ) -> tuple[Booking, list[Record]]:
        """The booking without them, and what that puts on record."""
        was = self._roster.last_booking(terminal)
        aboard = was.officers if was is not None else self._roster.aboard(terminal)
        left_s = self._settings.hours * 3600
        now_s = self._clock.monotonic_s()
        nobody = Booking(
            id=self._ids.occurrence(),
            terminal=terminal,
            officers=(),
            since_ms=now_ms,
            until_ms=now_ms + round(left_s * 1000),
            until_s=now_s + left_s,
            counter=self._clock.counter,
            sent_at_ms=was.sent_at_ms if was is not None else None,
            last=aboard[0] if aboard else "",
        )
        staying = tuple(each for each in aboard if each not in leaving)
        if not staying or was is None:
            booking = nobody
        else:
            booking = msgspec.structs.replace(
                was,
                id=was.id if staying[0] == was.lead else nobody.id,
                officers=staying,
                last=staying[0],
            )
        return booking, self._gone(terminal, [e for e in aboard if e in leaving], cause, now_ms)

    def _gone(
        self, terminal: Issi, leaving: Sequence[str], cause: str, now_ms: int
    ) -> list[Record]:
        was = self._roster.last_booking(terminal)
        id_ = was.id if was is not None else self._roster.booking(terminal)
        booking = Booking(
            id=id_, terminal=terminal, officers=(), since_ms=0, until_ms=0, until_s=0.0
        )
        return [self._record("booked_off", booking, each, now_ms, cause) for each in leaving]

    # ----------------------------------------------------------------- by time alone

    def tick(self, now_s: float, now_ms: int) -> None:
        """Once a second: what is over, ends; what will soon be over is said."""
        self._lockout.sweep(now_s)
        for terminal in [each for each, until_s in self._windows.items() if until_s <= now_s]:
            del self._windows[terminal]
        held = 0
        for booking in self._roster.booked():
            held += bool(booking.officers)
            left_s = min((booking.until_ms - now_ms) / 1000, booking.until_s - now_s)
            if left_s <= 0:
                self._over(booking)
            elif booking.officers and left_s <= WARN_S:
                self._warn(booking)
        self._meter.gauge("radios_booked", held)

    def _over(self, booking: Booking) -> None:
        terminal = booking.terminal
        self._warned.pop(terminal, None)
        if booking.officers:
            self._leave(
                terminal,
                booking.officers,
                "expired",
                lambda: self._say(terminal, f"{BOOKED_OFF}. TIME OVER. BOOK AGAIN"),
            )
            return
        if self._under_way[terminal]:
            return
        # It was left long ago: its file speaks again.
        self._pending.append(([], [DropKept(KIND, terminal)], _nothing))
        self._roster.book(None, terminal)
        self._changed(terminal)

    def _warn(self, booking: Booking) -> None:
        if self._warned.get(booking.terminal) == booking.id:
            return
        self._warned[booking.terminal] = booking.id
        until = clock_text(booking.until_ms, self._zone)
        self._say(booking.terminal, f"BOOKING ENDS {until}. BOOK AGAIN")

    def people_changed(self) -> None:
        """Other files hold: whoever of a booking may carry no radio any more ends it for all who
        are aboard, for they share the screen."""
        for booking in self._roster.booked():
            terminal = booking.terminal
            if self._roster.terminal(terminal) is None:
                # Should it come back, it is nobody's.
                gone = self._gone(terminal, booking.officers, "revoked", self._clock.wall_ms())
                self._pending.append((gone, [DropKept(KIND, terminal)], _nothing))
                self._overtake(terminal)
                self._roster.book(None, terminal)
                self._soon()
            elif booking.officers and not self._roster.aboard(terminal):
                self._leave(terminal, booking.officers, "revoked")

    # ----------------------------------------------------------------- on record

    @property
    def unrecorded(self) -> int:
        """Ends that wait for the ledger."""
        return len(self._pending)

    async def record(self) -> None:
        """Write what waits; what cannot be written now waits on."""
        async with self._writing:
            try:
                await self._write_pending()
            except LedgerUnavailable:
                return
            except LedgerFatal as error:
                self._fatal(error)

    async def _write_pending(self) -> None:
        while self._pending:
            records, changes, recorded = self._pending[0]
            await self._ledger.commit(records, changes)
            self._pending.popleft()
            recorded()

    async def restore(self) -> int:
        """Who held a radio before the restart holds it again; returns how many."""
        now_ms, now_s = self._clock.wall_ms(), self._clock.monotonic_s()
        held = 0
        for row in await self._ledger.kept(KIND):
            try:
                booking = msgspec.json.decode(row.body, type=Booking)
            except msgspec.DecodeError:
                # Nobody is booked by what cannot be read.
                self._journal.warn("booking.unreadable")
                self._pending.append(([], [DropKept(KIND, row.id)], _nothing))
                continue
            if not self._clock.counter or booking.counter != self._clock.counter:
                left_s = min((booking.until_ms - now_ms) / 1000, self._settings.hours * 3600)
                booking = msgspec.structs.replace(
                    booking, until_s=now_s + left_s, counter=self._clock.counter
                )
            if self._roster.terminal(booking.terminal) is None:
                gone = [
                    self._record("booked_off", booking, each, now_ms, "revoked")
                    for each in booking.officers
                ]
                self._pending.append((gone, [DropKept(KIND, row.id)], _nothing))
                continue
            self._roster.book(booking, booking.terminal)
            held += bool(booking.officers)
        self.people_changed()
        self.tick(now_s, now_ms)
        await self.record()
        return held

    async def stop(self, deadline_s: float) -> None:
        await self.crew.drain(deadline_s)
        await self.record()

    def _record(
        self, event: str, booking: Booking, collar: str, now_ms: int, detail: str
    ) -> Record:
        officer = self._roster.officer(collar)
        return Record(
            event=event,
            at_ms=now_ms,
            terminal=booking.terminal,
            officer=collar,
            agency=officer.agency if officer is not None else "",
            role=officer.role if officer is not None else "",
            booking=booking.id,
            policy=self._policy(),
            detail=detail,
        )

    # ----------------------------------------------------------------- words

    def _refuse(self, envelope: Envelope, why: str, text: str) -> None:
        self._meter.count("bookings_total", result=why)
        self._journal.note("booking.refused", link=envelope.link, reason=why)
        self._say(envelope.terminal, text)
        envelope.settle()

    def _count(self, result: str, link: str) -> None:
        self._meter.count("bookings_total", result=result)
        word: LogEvent = "booking.on" if result in ("on", "second") else "booking.off"
        self._journal.note(word, link=link, reason=result)

    def _say_left(self, terminal: Issi) -> None:
        """Who is aboard still, or that nobody is."""
        if self._roster.aboard(terminal):
            self._say_booked(terminal)
        else:
            self._say(terminal, BOOKED_OFF)

    def _say_booked(self, terminal: Issi) -> None:
        aboard = self._roster.aboard(terminal)
        booking = self._roster.last_booking(terminal)
        if not aboard:
            return
        more = f" +{len(aboard) - 1}" if len(aboard) > 1 else ""
        until = f" UNTIL {clock_text(booking.until_ms, self._zone)}" if booking is not None else ""
        self._say(terminal, f"BOOKED {self._roster.callsign(terminal)}{more}{until}")

    def _say(self, terminal: Issi, text: str) -> None:
        self._tell(terminal, Notice(kind="booking", text=text))


_CAUSES = ("expired", "revoked", "overtaken")


def _row(booking: Booking) -> KeptRow:
    """One for each radio: whoever booked it last, or left it."""
    return KeptRow(
        kind=KIND,
        id=booking.terminal,
        at_ms=booking.since_ms,
        body=msgspec.json.encode(booking),
        until_ms=booking.until_ms,
        personal=True,
    )


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _nothing() -> None:
    """Nobody waits for it."""
