"""Challenges: one check in so many must be explained, and somebody looks at what was said.

Rules of this module
1. Whether a check is challenged hangs on its officer, the day and what was asked about, under this
   instance's key, and is decided before the PNC is asked: never on the answer, nor on how often or
   with which words the same is asked again.
2. A challenge is on record with its question, an explanation before it is noted, a review before
   anybody hears of it.
3. Only the officer who asked explains. What they write goes to supervisors, to no radio and into no
   event.
4. The terminal hears of it at a fixed time after the question, so that it covers no danger word and
   tells nothing of the answer.
"""

from __future__ import annotations

import asyncio
import datetime
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from gateway import coach
from gateway.admission import Rules
from gateway.check_rows import Check
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.messages import (
    Actor,
    ChallengeChanged,
    Envelope,
    Event,
    Issi,
    Notice,
    Reasoning,
    search_key,
)
from gateway.ports import (
    Change,
    Clock,
    DropKept,
    Journal,
    KeptRow,
    Keyed,
    Ledger,
    Meter,
    PutKept,
    Record,
)
from gateway.rulebook import REPEAT_SUBJECT, Policy, Reason
from gateway.supervise import Crew

KIND = "challenge"
"""Of its kept rows and its notice."""
SEEN = "seen:"
"""Before the id of a row that only says: this officer asked about this, that day."""
MOST = 10_000
"""Challenges that are not reviewed yet; what comes beyond is on record and on no list."""
SEEN_MOST = 200_000
WRITE_MOST = 64
NOTICE_AFTER_S = 300.0
"""From the question: its answer was read by then."""
NOTICE_EVERY_S = 3600.0
LOOK_AGAIN_S = 60.0
"""When their officer holds no radio."""
NOTICE_EXPIRES_S = 60.0
GIVE_UP_DAYS = 30
"""So long after it was due what nobody reviewed stays on the list."""
DAY_MS = 86_400_000
RANDOM = "random"

OPEN, ANSWERED, REVIEWED, OVERDUE = "open", "answered", "reviewed", "overdue"
NOTHING = "NOTHING TO EXPLAIN"
UNRECORDED = "NOT RECORDED. SEND AGAIN"


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """One check that must be explained, as its kept row holds it. cause: random, or one that is
    always challenged. text: what its officer wrote; personal."""

    check: str
    terminal: Issi
    officer: str
    agency: str
    role: str
    booking: str
    operation: str
    reason: str
    cause: str
    state: str
    asked_ms: int
    due_ms: int
    changed_ms: int
    text: str = ""

    @property
    def short(self) -> str:
        return self.check[-4:]

    def changed(self) -> ChallengeChanged:
        """As supervisors hear of it."""
        return ChallengeChanged(
            short=self.short,
            check=self.check,
            terminal=self.terminal,
            state=self.state,
            due_ms=self.due_ms,
            t_ms=self.changed_ms,
        )


class Told(Protocol):
    """What the desk needs of the Courier; desks never import each other."""

    def __call__(
        self, terminal: Issi, message: Notice, *, expires_in_s: float, holder: str = ""
    ) -> None: ...


def picked(keyed: Keyed, officer: str, day: str, subject: str, rate: float) -> bool:
    """Whether chance, as it fell for this officer, day and subject, takes this check (pure)."""
    drawn = int.from_bytes(keyed("challenge", f"{day}\n{officer}\n{subject}")[:8], "big")
    return drawn < rate * 2**64


class ChallengeDesk:
    """gateway.ports.Minded. fatal: told when what the ledger wrote may not be durable."""

    def __init__(
        self,
        *,
        clock: Clock,
        keyed: Keyed,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        rules: Rules,
        tell: Told,
        publish: Callable[[Event], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._clock = clock
        self._keyed = keyed
        self._meter = meter
        self._ledger = ledger
        self._journal = journal
        self._rules = rules
        self._tell = tell
        self._publish = publish
        self._fatal = fatal
        self.crew = Crew(name="challenge", most=256, journal=journal, meter=meter)
        self._open: OrderedDict[str, Challenge] = OrderedDict()
        self._say_at_ms: dict[str, int] = {}
        self._seen: OrderedDict[str, int] = OrderedDict()
        """Digest of officer and subject -> when they asked last, oldest first."""
        self._due: deque[tuple[Record | None, Change]] = deque()
        self._writing = asyncio.Lock()
        """One act at a time: what is written last is what stands."""

    def rules_changed(self, rules: Rules) -> None:
        self._rules = rules

    # ----------------------------------------------------------------- with a question

    def drawn(self, check: Check) -> tuple[list[Record], list[Change], Callable[[], None]]:
        """What goes on record with this question if it is challenged, and what to call once that
        is durable. Without a side effect until then."""
        rules, request = self._rules, check.request
        assert request is not None
        terms = rules.policy.challenge
        if check.parent or not (terms.rate or terms.always):
            return [], [], _nothing
        officer, subject = check.asker.officer, search_key(request.key)
        digest = SEEN + self._keyed("subject", f"{officer}\n{subject}")[:16].hex()
        day = _day(check.opened_at_ms, rules.zone)
        cause = ""
        if REPEAT_SUBJECT in terms.always and self._repeats(digest, check.opened_at_ms, rules):
            cause = REPEAT_SUBJECT
        elif picked(self._keyed, officer, day, subject, terms.rate):
            cause = RANDOM
        remember = partial(self._remember, digest, check.opened_at_ms, rules)
        if not cause:
            return [], [], remember
        challenge = Challenge(
            check=check.id,
            terminal=check.terminal,
            officer=officer,
            agency=check.asker.agency,
            role=check.asker.role,
            booking=check.asker.booking,
            operation=check.kind.value if check.kind else "",
            reason=request.reason,
            cause=cause,
            state=OPEN,
            asked_ms=check.opened_at_ms,
            due_ms=check.opened_at_ms + round(terms.within_h * 3_600_000),
            changed_ms=check.opened_at_ms,
        )
        record = self._record(challenge, "challenged", detail=cause, receipt=check.receipt)
        # Who keyed it for them stands on every record of the check.
        record = msgspec.structs.replace(record, operator=check.asker.operator)
        if len(self._open) >= MOST:
            self._meter.count("queue_dropped_total", queue="challenge", reason="full")
            return [record], [], remember

        def stands() -> None:
            remember()
            self._keep(challenge)
            self._say_at_ms[challenge.check] = challenge.asked_ms + round(NOTICE_AFTER_S * 1000)

        return [record], [PutKept(_row(challenge))], stands

    def _repeats(self, digest: str, at_ms: int, rules: Rules) -> bool:
        """Whether this officer asked about the same on another day, not too long ago."""
        before_ms = self._seen.get(digest)
        if before_ms is None or at_ms - before_ms > rules.policy.challenge.repeat_days * DAY_MS:
            return False
        return _day(before_ms, rules.zone) != _day(at_ms, rules.zone)

    def _remember(self, digest: str, at_ms: int, rules: Rules) -> None:
        if REPEAT_SUBJECT not in rules.policy.challenge.always:
            return
        before_ms = self._seen.get(digest)
        if before_ms is not None and _day(before_ms, rules.zone) == _day(at_ms, rules.zone):
            return
        self._seen[digest] = at_ms
        self._seen.move_to_end(digest)
        until_ms = at_ms + rules.policy.challenge.repeat_days * DAY_MS
        row = KeptRow(
            kind=KIND, id=digest, at_ms=at_ms, body=b"{}", until_ms=until_ms, personal=True
        )
        self._due.append((None, PutKept(row)))
        if len(self._seen) > SEEN_MOST:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        digest, _ = self._seen.popitem(last=False)
        self._due.append((None, DropKept(KIND, digest)))

    # ----------------------------------------------------------------- by time alone

    def tick(self, now_s: float, now_ms: int) -> None:
        """Once a second: who must hear of theirs, what is overdue, what need not be known more."""
        del now_s
        due = [id_ for id_, at_ms in self._say_at_ms.items() if at_ms <= now_ms]
        if due:
            held = self._radios()
            for id_ in due:
                self._say(self._open[id_], held.get(self._open[id_].officer, ""), now_ms)
        for challenge in list(self._open.values()):
            if challenge.state == OPEN and challenge.due_ms <= now_ms:
                late = msgspec.structs.replace(challenge, state=OVERDUE, changed_ms=now_ms)
                record = self._record(late, "challenged", detail=OVERDUE)
                self._due.append((record, PutKept(_row(late))))
                self._keep(late)
            elif challenge.due_ms + GIVE_UP_DAYS * DAY_MS <= now_ms:
                record = self._record(challenge, "challenged", detail="never reviewed")
                self._due.append((record, DropKept(KIND, challenge.check)))
                self._drop(challenge)
        oldest_ms = now_ms - self._rules.policy.challenge.repeat_days * DAY_MS
        while self._seen and next(iter(self._seen.values())) < oldest_ms:
            self._forget_oldest()

    def _radios(self) -> dict[str, Issi]:
        """Which radio each officer holds now."""
        roster, held = self._rules.roster, {}
        for terminal in roster.terminals():
            asker = roster.asker(terminal.issi)
            if asker is not None:
                held[asker.officer] = terminal.issi
        return held

    def _say(self, challenge: Challenge, terminal: Issi, now_ms: int) -> None:
        """To the radio that its officer holds now; later, while they hold none."""
        wait_s = LOOK_AGAIN_S
        if terminal:
            text = f"{challenge.short} WHY? SEND: J {challenge.short} AND WHY"
            notice = Notice(kind=KIND, text=text, check=challenge.check, short=challenge.short)
            holder = self._rules.roster.holder(terminal)
            self._tell(terminal, notice, expires_in_s=NOTICE_EXPIRES_S, holder=holder)
            wait_s = NOTICE_EVERY_S
        self._say_at_ms[challenge.check] = now_ms + round(wait_s * 1000)

    @property
    def unrecorded(self) -> int:
        return len(self._due)

    async def record(self) -> None:
        """Write what could wait, some at a time. Raises LedgerFatal."""
        async with self._writing:
            while self._due:
                some = list(islice(self._due, WRITE_MOST))
                records = [record for record, _ in some if record is not None]
                changes = [now for _, change in some if (now := self._now(change)) is not None]
                try:
                    await self._ledger.commit(records, changes)
                except LedgerUnavailable:
                    return
                for _ in some:
                    self._due.popleft()

    def _now(self, change: Change) -> Change | None:
        """It waited: a row as it stands now, for an act since then has written it already."""
        if not isinstance(change, PutKept) or change.row.id.startswith(SEEN):
            return change
        challenge = self._open.get(change.row.id)
        return PutKept(_row(challenge)) if challenge is not None else None

    # ----------------------------------------------------------------- from the radio

    def explain(self, envelope: Envelope, reasoning: Reasoning) -> None:
        """The officer says why. Settled once that is on record, or they heard why it is not."""
        if self.crew.full:
            self._meter.count("queue_dropped_total", queue="challenge", reason="full")
            self._answer(envelope, UNRECORDED)
            return
        self.crew.start(self._explain(envelope, reasoning), fault=lambda _error: envelope.settle())

    async def _explain(self, envelope: Envelope, reasoning: Reasoning) -> None:
        async with self._writing:
            rules = self._rules
            asker = rules.roster.asker(envelope.terminal)
            challenge = self._asked_of(asker.officer if asker else "", reasoning.check)
            if challenge is None:
                self._answer(envelope, NOTHING)
                return
            asked = Reason(label="", text_min=rules.policy.challenge.answer_min)
            missing = coach.judge(reasoning.text, asked, rules.policy.coach)
            if missing:
                self._answer(envelope, f"{challenge.short} {missing}")
                return
            now_ms = self._clock.wall_ms()
            said = msgspec.structs.replace(
                challenge, state=ANSWERED, text=reasoning.text, changed_ms=now_ms
            )
            record = self._record(said, "challenged", detail=ANSWERED, text=reasoning.text)
            record = msgspec.structs.replace(record, terminal=envelope.terminal)
            try:
                await self._ledger.commit([record], [PutKept(_row(said))])
            except LedgerUnavailable:
                self._answer(envelope, UNRECORDED)
                return
            except LedgerFatal as error:
                self._fatal(error)
                return
            self._keep(said)
            self._say_at_ms.pop(said.check, None)
            self._answer(envelope, f"{said.short} NOTED")

    def _asked_of(self, officer: str, ref: str) -> Challenge | None:
        """The newest of this officer that is called so and not reviewed."""
        for challenge in reversed(self._open.values()):
            if (
                officer
                and challenge.officer == officer
                and ref
                in (
                    challenge.short,
                    challenge.check,
                )
            ):
                return challenge
        return None

    def _answer(self, envelope: Envelope, text: str) -> None:
        notice = Notice(kind=KIND, text=text)
        self._tell(envelope.terminal, notice, expires_in_s=NOTICE_EXPIRES_S)
        envelope.settle()

    # ----------------------------------------------------------------- from the control room

    def waiting(self) -> tuple[Challenge, ...]:
        """What is not reviewed, oldest first. With what officers wrote: for supervisors alone."""
        return tuple(self._open.values())

    async def review(
        self, ref: str, actor: Actor, *, enough: bool, note: str = ""
    ) -> ChallengeChanged:
        """A supervisor looked at it: on record, and off the list.

        Raises KeyError (no such challenge), ValueError (why not now), LedgerUnavailable.
        """
        async with self._writing:
            challenge = next(
                (c for c in reversed(self._open.values()) if ref in (c.check, c.short)), None
            )
            if challenge is None:
                raise KeyError(ref)
            if challenge.state == OPEN:
                raise ValueError("NOT EXPLAINED YET")
            if actor.id == challenge.officer:
                raise ValueError("NOT BY WHOEVER ASKED")
            now_ms = self._clock.wall_ms()
            seen = msgspec.structs.replace(challenge, state=REVIEWED, changed_ms=now_ms)
            record = msgspec.structs.replace(
                self._record(
                    seen,
                    "reviewed",
                    detail=f"{challenge.state}, {'enough' if enough else 'not enough'}",
                    text=note,
                ),
                operator=actor.id,
                operator_role=",".join(sorted(actor.roles)),
            )
            await self._ledger.commit([record], [DropKept(KIND, seen.check)])
            self._drop(seen)
            self._publish(seen.changed())
            return seen.changed()

    # ----------------------------------------------------------------- life

    async def restore(self) -> int:
        """Take up what was not reviewed; returns how many. A bad row costs itself."""
        now_ms = self._clock.wall_ms()
        for row in await self._ledger.kept(KIND):
            if row.id.startswith(SEEN):
                self._seen[row.id] = row.at_ms
                continue
            try:
                challenge = msgspec.json.decode(row.body, type=Challenge)
            except msgspec.DecodeError:
                self._meter.count("queue_dropped_total", queue="challenge", reason="unreadable")
                self._journal.warn("check.unreadable", check=row.id)
                continue
            self._open[challenge.check] = challenge
            if challenge.state in (OPEN, OVERDUE):
                first_ms = challenge.asked_ms + round(NOTICE_AFTER_S * 1000)
                self._say_at_ms[challenge.check] = max(
                    first_ms, now_ms + round(LOOK_AGAIN_S * 1000)
                )
        return len(self._open)

    # ----------------------------------------------------------------- what is kept and said

    def _keep(self, challenge: Challenge) -> None:
        self._open[challenge.check] = challenge
        self._publish(challenge.changed())

    def _drop(self, challenge: Challenge) -> None:
        self._open.pop(challenge.check, None)
        self._say_at_ms.pop(challenge.check, None)

    def _record(
        self, challenge: Challenge, event: str, *, detail: str, text: str = "", receipt: str = ""
    ) -> Record:
        return Record(
            event=event,
            at_ms=self._clock.wall_ms(),
            check=challenge.check,
            terminal=challenge.terminal,
            officer=challenge.officer,
            agency=challenge.agency,
            role=challenge.role,
            booking=challenge.booking,
            reason=challenge.reason,
            operation=challenge.operation,
            policy=self._rules.policy.version,
            on_behalf=_on_behalf(challenge.agency, self._rules.policy),
            receipt=receipt,
            detail=detail,
            content=msgspec.json.encode({"text": text}) if text else None,
        )


def _on_behalf(agency: str, policy: Policy) -> str:
    return agency if agency in policy.on_behalf_agencies else ""


def _row(challenge: Challenge) -> KeptRow:
    return KeptRow(
        kind=KIND,
        id=challenge.check,
        at_ms=challenge.asked_ms,
        body=msgspec.json.encode(challenge),
        until_ms=challenge.due_ms,
        personal=True,
    )


def _nothing() -> None:
    """For a question that nothing follows from."""


def _day(ms: int, zone: str) -> str:
    """The day there, as ISO 8601 writes it."""
    return datetime.datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).date().isoformat()
