"""Messages of the control room to one unit: on record, then sent, until read or stale.

Rules of this module
1. What is said, by whom and to whom is on record before a bearer gets it.
2. A message belongs to whoever held the radio when it was taken. The next holder never sees it, nor
   can acknowledge it.
3. Each begins with MSG: so that no text can be taken for an answer, and it is shown as it stands
   on record: what a radio cannot show is refused, not replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.limits import Bucket
from gateway.messages import AckState, Actor, Event, Issi, MessageChanged, Notice
from gateway.parcels import Parcel, taken
from gateway.ports import (
    Change,
    Clock,
    DropOutbox,
    Ids,
    Journal,
    Ledger,
    Meter,
    OutboxRow,
    PutOutbox,
    Record,
)
from gateway.roster import Roster
from gateway.settings import MessagesSection
from gateway.supervise import Crew
from gateway.transliteration import transliterate

KIND = "message"
"""Of its outbox row, its parcel, its notice, its records."""
FRONT = "MSG:"
PRIORITY = 2
MOST = 1_000
"""Messages that wait, of all units; one more is refused."""
MOST_A_UNIT = 8
"""As many wait for one unit: they must not push its answers out of the Courier."""
REWRITE_S = 1.0
NOT_ON_A_RADIO = frozenset('[]{}\\^~|`@$_"*;<>')
"""Another character would stand for each: `<5` would be read as `.5`."""

NOBODY = "NOBODY HOLDS THIS RADIO: CALL BY VOICE"
TOO_OFTEN = "TOO MANY MESSAGES IN A MINUTE: CALL BY VOICE"
TOO_MANY = "TOO MANY MESSAGES WAIT: CALL BY VOICE"
CANNOT_SHOW = "A RADIO CANNOT SHOW THIS: USE LETTERS, DIGITS AND . , : ? ! ' ( ) / + - # % & ="
LONG_WORD = "A WORD IS TOO LONG FOR THIS RADIO"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as its outbox row holds it. holder: whose it is; by: who said it.

    at_s: monotonic, by `counter`: the wall clock may be set back before this is read.
    """

    id: str
    terminal: Issi
    holder: str
    officer: str
    agency: str
    role: str
    booking: str
    by: str
    text: str
    texts: tuple[str, ...]
    at_ms: int
    at_s: float
    counter: str
    stale_at_ms: int
    delivered: bool = False

    @property
    def short(self) -> str:
        return self.id[-4:]


class Posts(Protocol):
    """What the desk needs of the Courier; desks never import each other."""

    def post(self, parcel: Parcel) -> None: ...

    def done(self, check: str) -> None: ...


class _Open:
    """A message that is not read and not stale. due: records that wait for the ledger, and what
    is to be let go after each."""

    def __init__(self, stored: Stored, parcel: Parcel) -> None:
        self.stored = stored
        self.parcel = parcel
        self.ended = False
        self.due: list[tuple[Record | None, Callable[[], None]]] = []
        self.writing = False


class UnitMessages:
    """budget_of: bytes of one message to this radio. fatal: told when the ledger says that what it
    wrote may not be durable."""

    def __init__(
        self,
        *,
        settings: MessagesSection,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        courier: Posts,
        roster: Roster,
        budget_of: Callable[[Issi], int],
        publish: Callable[[Event], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._courier = courier
        self._roster = roster
        self._budget_of = budget_of
        self._publish = publish
        self._fatal = fatal
        self.crew = Crew(name="message", most=2 * MOST, journal=journal, meter=meter)
        self._open: dict[str, _Open] = {}
        self._under_way: dict[tuple[str, Issi, str], asyncio.Future[MessageChanged]] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}

    # ----------------------------------------------------------------- from the control room

    async def send(self, terminal: Issi, text: str, actor: Actor) -> MessageChanged:
        """Put it on record, then on its way. The same again while the first is being written is
        that one.

        Raises KeyError (no such radio), ValueError (why not, and what to do), LedgerUnavailable.
        """
        if self._roster.terminal(terminal) is None:
            raise KeyError(terminal)
        shown = shown_text(text, self._settings.length)
        key = actor.id, terminal, shown
        done = self._under_way.get(key)
        if done is None:
            done = self._taken(terminal, shown, actor)
            self._under_way[key] = done
            done.add_done_callback(lambda _done: self._under_way.pop(key, None))
        # Whoever gives up waiting does not take it back: it may be on record by now.
        return await asyncio.shield(done)

    def _taken(self, terminal: Issi, text: str, actor: Actor) -> asyncio.Future[MessageChanged]:
        asker = self._roster.asker(terminal)
        if asker is None:
            raise ValueError(NOBODY)
        waiting = [each for each in self._open.values() if each.stored.terminal == terminal]
        under_way = sum(1 for _, issi, _ in self._under_way if issi == terminal)
        if (
            len(waiting) + under_way >= MOST_A_UNIT
            or len(self._open) + len(self._under_way) >= MOST
            or self.crew.full
        ):
            raise ValueError(TOO_MANY)
        id_ = self._ids.check()
        texts = parts(id_[-4:], text, self._budget_of(terminal))
        if not (self._within("by", actor.id) and self._within("to", terminal)):
            raise ValueError(TOO_OFTEN)
        now_ms = self._clock.wall_ms()
        stored = Stored(
            id=id_,
            terminal=terminal,
            holder=self._roster.holder(terminal),
            officer=asker.officer,
            agency=asker.agency,
            role=asker.role,
            booking=asker.booking,
            by=actor.id,
            text=text,
            texts=texts,
            at_ms=now_ms,
            at_s=self._clock.monotonic_s(),
            counter=self._clock.counter,
            stale_at_ms=now_ms + round(self._settings.stale_s * 1000),
        )
        done: asyncio.Future[MessageChanged] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda each: each.cancelled() or each.exception())  # nobody waits
        writing = self.crew.start(self._write(stored, actor, done))
        writing.add_done_callback(lambda _task: _given_up(done))
        return done

    def _within(self, whose: str, id_: str) -> bool:
        """Whether this operator, or to this radio, one more may be sent in this minute."""
        now_s, most = self._clock.monotonic_s(), float(self._settings.per_minute)
        bucket = self._buckets.get((whose, id_))
        if bucket is None:
            bucket = Bucket(per_s=most / 60, burst=most, tokens=most, at_s=now_s)
            self._buckets[whose, id_] = bucket
        return bucket.take(now_s)

    async def _write(
        self, stored: Stored, actor: Actor, done: asyncio.Future[MessageChanged]
    ) -> None:
        record = self._record(stored, "message")
        record = msgspec.structs.replace(
            record,
            content=msgspec.json.encode({"text": stored.text}),
            operator_role=",".join(sorted(actor.roles)),
        )
        try:
            await self._ledger.commit([record], [self._row(stored)])
        except LedgerUnavailable as error:
            done.set_exception(error)
        except LedgerFatal as error:
            done.set_exception(LedgerUnavailable("the record may not be durable"))
            self._fatal(error)
        else:
            done.set_result(self._post(stored, self._settings.stale_s))

    # ----------------------------------------------------------------- on its way

    def _post(self, stored: Stored, left_s: float) -> MessageChanged:
        now_s = self._clock.monotonic_s()
        parcel = Parcel(
            id=stored.id,
            check=stored.id,
            short=stored.short,
            terminal=stored.terminal,
            holder=stored.holder,
            message=Notice(
                kind=KIND,
                text=f"{FRONT} {stored.text}",
                short=stored.short,
                id=stored.id,
                texts=stored.texts,
            ),
            stale_at_s=now_s + left_s,
            priority=PRIORITY,
            accepted_at_s=None,
            kind=KIND,
        )
        self._open[stored.id] = _Open(stored, parcel)
        shown = self._shown(stored, "delivered" if stored.delivered else "queued")
        self._publish(shown)
        if not stored.delivered:
            self._courier.post(parcel)
        return shown

    def sent(self, id_: str) -> None:
        """A bearer took it (again)."""
        open_ = self._open.get(id_)
        if open_ is not None:
            self._publish(self._shown(open_.stored, "sent"))

    def find(self, terminal: Issi, ref: str) -> str | None:
        """The message that `ref` (short form or whole id) means, of those that were sent to this
        terminal and are not read. What was never tried cannot have been read."""
        for id_, open_ in self._open.items():
            if open_.stored.terminal == terminal and ref in (id_, open_.stored.short):
                return id_ if open_.parcel.attempts or open_.stored.delivered else None
        return None

    def acknowledge(self, id_: str, part: int, state: AckState, settle: Callable[[], None]) -> None:
        """The terminal has a part, or its officer read it (0: all of it)."""
        open_ = self._open.get(id_)
        if open_ is None or self._roster.holder(open_.stored.terminal) != open_.stored.holder:
            settle()
            return
        whole = taken(open_.parcel, part, state)
        if whole is AckState.READ:
            self._end(open_, "read", settle)
        elif whole is AckState.DELIVERED and not open_.stored.delivered:
            open_.stored = msgspec.structs.replace(open_.stored, delivered=True)
            self._courier.done(id_)
            self._publish(self._shown(open_.stored, "delivered"))
            self._put(open_, self._record(open_.stored, "delivered"), settle)
        else:
            settle()

    def stale(self, id_: str) -> bool:
        """The Courier gave it up: too old, or its officer no longer holds the radio. Whether it
        was a message."""
        open_ = self._open.get(id_)
        if open_ is not None:
            self._end(open_, "stale", _nothing)
        return open_ is not None

    def _end(self, open_: _Open, how: str, settle: Callable[[], None]) -> None:
        del self._open[open_.stored.id]
        open_.ended = True
        self._courier.done(open_.stored.id)
        self._publish(self._shown(open_.stored, how))
        self._put(open_, self._record(open_.stored, how), settle)

    # ----------------------------------------------------------------- on record

    def _put(self, open_: _Open, record: Record | None, settle: Callable[[], None]) -> None:
        """On record as soon as the ledger can, in the order in which it happened."""
        open_.due.append((record, settle))
        if open_.writing:
            return
        if self.crew.full:
            # Its row stands as it was: after a restart it is sent once more.
            self._meter.count("queue_dropped_total", queue="audit", reason="full")
            settle()
            return
        open_.writing = True
        self.crew.start(self._written(open_))

    async def _written(self, open_: _Open) -> None:
        while due := tuple(open_.due):
            row = DropOutbox(open_.stored.id) if open_.ended else self._row(open_.stored)
            records = [record for record, _ in due if record is not None]
            try:
                await self._ledger.commit(records, [row])
            except LedgerUnavailable:
                await self._clock.sleep(REWRITE_S)
                continue
            except LedgerFatal as error:
                self._fatal(error)
                return
            del open_.due[: len(due)]
            for _, settle in due:
                settle()
        open_.writing = False

    def _record(self, stored: Stored, event: str) -> Record:
        return Record(
            event=event,
            at_ms=self._clock.wall_ms(),
            # Not in `check`: it answers no question.
            detail=stored.id,
            terminal=stored.terminal,
            officer=stored.officer,
            agency=stored.agency,
            role=stored.role,
            booking=stored.booking,
            operator=stored.by,
            operation=KIND,
            recipient=stored.holder,
        )

    def _row(self, stored: Stored) -> Change:
        return PutOutbox(
            OutboxRow(
                id=stored.id,
                check=stored.id,
                terminal=stored.terminal,
                holder=stored.holder,
                payload=msgspec.json.encode(stored),
                queued_at_ms=stored.at_ms,
                stale_at_ms=stored.stale_at_ms,
                priority=PRIORITY,
                kind=KIND,
            )
        )

    def _shown(self, stored: Stored, state: str) -> MessageChanged:
        return MessageChanged(
            id=stored.id,
            short=stored.short,
            terminal=stored.terminal,
            state=state,
            t_ms=self._clock.wall_ms(),
            by=stored.by,
        )

    # ----------------------------------------------------------------- life

    async def restore(self) -> None:
        """Go on with what was not read and not stale. A bad row costs itself."""
        for row in await self._ledger.outbox():
            if row.kind != KIND:
                continue
            try:
                stored = msgspec.json.decode(row.payload, type=Stored)
            except msgspec.DecodeError:
                self._meter.count("queue_dropped_total", queue="outbox", reason="unreadable")
                self.crew.start(self._dropped(row.id))
                continue
            left_s = self._left_s(stored)
            self._post(stored, max(0.0, left_s))
            if left_s <= 0:
                self.over(stored.id)

    def _left_s(self, stored: Stored) -> float:
        """Never more than it had, however the wall clock was set."""
        left_s = min((stored.stale_at_ms - self._clock.wall_ms()) / 1000, self._settings.stale_s)
        if stored.counter and stored.counter == self._clock.counter:
            passed_s = self._clock.monotonic_s() - stored.at_s
            left_s = min(left_s, (stored.stale_at_ms - stored.at_ms) / 1000 - passed_s)
        return left_s

    async def _dropped(self, id_: str) -> None:
        try:
            await self._ledger.commit([], [DropOutbox(id_)])
        except LedgerUnavailable:
            self._journal.warn("ledger.unavailable", check=id_)
        except LedgerFatal as error:
            self._fatal(error)

    def tick(self, now_s: float, _now_ms: int) -> None:
        """Once a second: let go of what was delivered and never read."""
        for id_, open_ in list(self._open.items()):
            if open_.stored.delivered and now_s >= open_.parcel.stale_at_s:
                self.over(id_)
        for key in [key for key, bucket in self._buckets.items() if bucket.full(now_s)]:
            del self._buckets[key]

    def over(self, id_: str) -> None:
        """Its time is over. What the terminal has is not stale: it was delivered, and that is on
        record."""
        open_ = self._open[id_]
        if not open_.stored.delivered:
            self._end(open_, "stale", _nothing)
            return
        del self._open[id_]
        open_.ended = True
        self._put(open_, None, _nothing)

    @property
    def unrecorded(self) -> int:
        """What waits for the ledger is written by tasks of its own."""
        return 0

    def record(self) -> Coroutine[Any, Any, None]:
        return _no_more()

    async def stop(self, deadline_s: float) -> None:
        """Finish the writes under way; the rest goes on after the next start."""
        await self.crew.drain(deadline_s)


def _given_up(done: asyncio.Future[MessageChanged]) -> None:
    if not done.done():
        done.set_exception(LedgerUnavailable("the message was not written"))


async def _no_more() -> None:
    """Nothing waits."""


def _nothing() -> None:
    """Nobody waits for it."""


def shown_text(text: str, most: int) -> str:
    """As a radio shows it and as it goes on record (pure). Raises ValueError: what to do."""
    shown = transliterate(text)
    if NOT_ON_A_RADIO & set(text) or shown.count("?") > text.count("?"):
        raise ValueError(CANNOT_SHOW)
    if not 1 <= len(shown) <= most:
        raise ValueError(f"1 TO {most} CHARACTERS")
    return shown


def parts(short: str, text: str, budget: int) -> tuple[str, ...]:
    """`C7F3 1/2 MSG: ...`: messages of at most `budget` bytes, no word split. Raises ValueError."""
    room = budget - len(f"{short} 1/1 ")
    lines = [FRONT]
    for word in text.split():
        if len(word) > room:
            raise ValueError(LONG_WORD)
        longer = f"{lines[-1]} {word}"
        if len(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 9:
        raise ValueError(LONG_WORD)
    return tuple(f"{short} {n}/{len(lines)} {line}" for n, line in enumerate(lines, 1))
