"""The CheckDesk: carries out what a check's `step` asks for.

Every check is one `_Check`: its state (pure, check_states.py) and what belongs to it. The desk
feeds events in, and starts one owned task for each effect that must wait (a write, a question to
the PNC, a pause); what comes of it is fed back. There is no other path to an outcome.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from gateway import originator, policy, rendering, results
from gateway.breaker import Breaker, Circuit
from gateway.check_states import (
    BEFORE_OUTCOME,
    Acknowledged,
    Answered,
    Ask,
    AttemptFailed,
    Cancelled,
    Cause,
    CheckEvent,
    CheckState,
    DeadlinePassed,
    Effect,
    Enqueue,
    Faulted,
    Forget,
    FreeToReceive,
    GiveReceipt,
    LateAnswer,
    LeavePlace,
    Pause,
    PlaceGranted,
    Post,
    PromptOfficer,
    Recorded,
    RecordFailed,
    Released,
    Restarted,
    RetryDue,
    Rewrite,
    SayUnrecorded,
    Show,
    ShowOutcome,
    Stage,
    WentStale,
    Write,
    WriteAttempt,
    WriteDisclosure,
    WriteEnd,
    WriteLate,
    WriteOpening,
    WriteOutcome,
    class_of,
    close_at_once,
    open_check,
    step,
    stored_stage,
)
from gateway.clocks import TerminalClocks
from gateway.errors import (
    DuplicateCheck,
    LedgerFatal,
    LedgerUnavailable,
    PncDown,
    PncError,
    PncInvalid,
)
from gateway.messages import (
    AckState,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckRequest,
    CheckStaged,
    Envelope,
    Event,
    Issi,
    Kind,
    LinkChanged,
    LinkState,
    MalformedCheck,
    Notice,
    Noticed,
    Outcome,
    PncAnswer,
    PncQuery,
    Receipt,
    Result,
    kind_of,
    search_key,
)
from gateway.parcels import Parcel
from gateway.ports import (
    Change,
    CheckRow,
    Clock,
    DropOutbox,
    Ids,
    Journal,
    Ledger,
    Meter,
    OutboxRow,
    Pnc,
    PutCheck,
    PutOutbox,
    Record,
)
from gateway.roster import Roster
from gateway.settings import ChecksSection, Policy, Terminal, Warnings
from gateway.supervise import Crew

RECEIPT_EXPIRES_S = 60.0
REWRITE_S = 1.0
TASKS_PER_CHECK = 4

_OPERATION = {
    Kind.VEHICLE: "vehicle",
    Kind.PERSON: "person",
    Kind.DRIVER: "driver",
    Kind.PROPERTY: "property",
}


class Posts(Protocol):
    """What the desk needs of the Courier; desks never import each other's doings."""

    def post(self, parcel: Parcel) -> None: ...

    def tell(
        self, terminal: Issi, message: Receipt | Notice | Result, *, expires_in_s: float
    ) -> None: ...

    def waiting(self, check: str) -> bool: ...

    def again(self, check: str) -> None: ...

    def find(self, terminal: Issi, ref: str) -> str | None: ...

    def done(self, check: str) -> None: ...


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What of a check lies in the ledger's state column: enough to go on after a restart."""

    state: CheckState
    request: CheckRequest | None
    ref: str
    client_ref: str
    typed: str
    asker: Terminal
    holder: str
    kind: Kind | None
    opened_at_ms: int
    deadline_ms: int
    danger: bool = False


class _Check:
    """One check in memory."""

    __slots__ = (
        "accepted_at_s",
        "answer",
        "asker",
        "asking",
        "client_ref",
        "danger",
        "deadline_ms",
        "decision",
        "dedupe",
        "hidden",
        "holder",
        "id",
        "kind",
        "opened_at_ms",
        "placed",
        "pnc_s",
        "pnc_since_s",
        "queued_at_s",
        "receipt",
        "recorded",
        "ref",
        "request",
        "result",
        "result_bytes",
        "settle",
        "settled_at_s",
        "short",
        "state",
        "timer",
        "typed",
        "unrecorded_said",
        "view",
    )

    def __init__(
        self,
        *,
        id_: str,
        receipt: str,
        asker: Terminal,
        holder: str,
        request: CheckRequest | None,
        kind: Kind | None,
        opened_at_ms: int,
        accepted_at_s: float,
        deadline_ms: int,
        ref: str,
        client_ref: str,
        typed: str,
        dedupe: str,
        state: CheckState,
        settle: Callable[[], None] | None,
    ) -> None:
        self.id = id_
        self.short = id_[-4:]
        self.receipt = receipt
        self.asker = asker
        self.holder = holder
        self.request = request
        self.kind = kind
        self.opened_at_ms = opened_at_ms
        self.accepted_at_s = accepted_at_s
        self.deadline_ms = deadline_ms
        self.ref = ref
        self.client_ref = client_ref
        self.typed = typed
        self.dedupe = dedupe
        self.state = state
        self.settle = settle
        self.decision: policy.Decision | None = None
        self.answer: PncAnswer | None = None
        self.view: policy.View | None = None
        self.hidden = False
        self.danger = False
        self.result: Result | None = None
        self.result_bytes: bytes | None = None
        self.timer: asyncio.Task[None] | None = None
        self.asking: asyncio.Task[None] | None = None
        self.placed = False
        self.recorded = False
        self.queued_at_s = accepted_at_s
        self.pnc_s = 0.0
        self.pnc_since_s: float | None = None
        self.settled_at_s: float | None = None
        self.unrecorded_said = False

    @property
    def terminal(self) -> Issi:
        return self.asker.issi

    def settle_once(self) -> None:
        """Let the bearer's acknowledgement go: what it carried need not come again."""
        settle, self.settle = self.settle, None
        if settle is not None:
            settle()


class Rules(msgspec.Struct, frozen=True):
    """What a reload may replace, always together."""

    policy: Policy
    warnings: Warnings
    roster: Roster
    budgets: dict[str, int]
    zone: str


class CheckDesk:
    """Takes questions, owns them until their one outcome is on the officer's screen.

    fatal: told when the ledger says that what it wrote may not be durable.
    """

    def __init__(
        self,
        *,
        settings: ChecksSection,
        rules: Rules,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        pnc: Pnc,
        courier: Posts,
        publish: Callable[[Event], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self.rules = rules
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._pnc = pnc
        self._courier = courier
        self._publish = publish
        self._fatal = fatal
        most = TASKS_PER_CHECK * (settings.queue + 4 * settings.concurrency + 64)
        self._crew = Crew(name="check", most=most, journal=journal, meter=meter)
        self._open: dict[str, _Check] = {}
        self._memory: OrderedDict[str, _Check] = OrderedDict()
        self._by_dedupe: dict[str, str] = {}
        self._by_typed: dict[tuple[Issi, str], str] = {}
        self._asked_by: dict[Issi, int] = {}
        self._queue: deque[str] = deque()
        self._placed = 0
        self._late: OrderedDict[str, asyncio.Task[None]] = OrderedDict()
        self._breaker = Breaker(failures=settings.breaker_failures, open_s=settings.breaker_open_s)
        self._circuit = Circuit.CLOSED
        self._pnc_state = LinkState.UP
        self._clocks = TerminalClocks()
        self._started_at_s = clock.monotonic_s()
        self._draining = False

    # ----------------------------------------------------------------- what comes in

    def submit(self, envelope: Envelope, request: CheckRequest) -> None:
        """A question has come. Synchronous up to the first write; `settle` follows the commit."""
        asker = self.rules.roster.terminal(envelope.terminal)
        if asker is None:
            self._meter.count(
                "frames_rejected_total", link=envelope.link, reason="unknown_terminal"
            )
            envelope.settle()
            return
        if request.typed:
            known = self._by_typed.get((asker.issi, request.typed))
            check = self._find_memory(known)
            if check is not None and self._typed_is_same(check):
                self._repeat(check, envelope.settle)
                return
            uptime_s = self._clock.monotonic_s() - self._started_at_s
            if check is None and uptime_s < self._settings.typed_repeat_s and not self._crew.full:
                self._crew.start(self._typed_after_restart(envelope, asker, request))
                return
        dedupe = _dedupe(asker.issi, request, envelope.received_at_ms)
        check = self._find_memory(self._by_dedupe.get(dedupe))
        if check is not None:
            self._repeat(check, envelope.settle)
            return
        self._begin(envelope, asker, request, dedupe)

    def refuse_malformed(self, envelope: Envelope, message: MalformedCheck) -> None:
        """Somebody asked, but not so that it can be asked on: on record as refused, and told."""
        asker = self.rules.roster.terminal(envelope.terminal)
        if asker is None:
            self._meter.count(
                "frames_rejected_total", link=envelope.link, reason="unknown_terminal"
            )
            envelope.settle()
            return
        check = self._new(
            asker,
            envelope,
            request=None,
            kind=message.kind,
            ref=message.ref,
            client_ref=message.client_ref,
            typed="",
            dedupe="",
            deadline_s=self._settings.deadline_s,
        )
        self._start(check, *close_at_once(Outcome.REFUSED, message.why))

    def cancel(self, terminal: Issi, ref: str) -> str | None:
        """Take back the newest open question of this terminal (or the one meant by `ref`)."""
        found: _Check | None = None
        for check in self._open.values():
            mine = check.terminal == terminal and check.state.stage in BEFORE_OUTCOME
            if mine and (not ref or ref in (check.short, check.id)):
                found = check
        if found is None:
            return None
        self._feed(found, Cancelled())
        return found.short

    def acknowledge(
        self, terminal: Issi, ref: str, state: AckState, settle: Callable[[], None]
    ) -> None:
        """A part was delivered or read. `ref`: whole id, short form, or empty for the newest."""
        check_id = self._courier.find(terminal, ref)
        check = self._find_memory(check_id) if check_id else self._recent(terminal, ref)
        if check is None:
            if ref and not self._crew.full:
                self._crew.start(self._acknowledge_old(terminal, ref, state, settle))
            else:
                settle()
            return
        if check.settle is not None:
            # One write at a time holds the bearer's acknowledgement; this one is only a repeat.
            settle()
        else:
            check.settle = settle
        before = check.state
        self._feed(check, Acknowledged(state))
        if check.state is before:
            check.settle_once()

    def delivery_stale(self, check_id: str) -> None:
        """The Courier gave up: too old, or its officer no longer holds the terminal."""
        check = self._find_memory(check_id)
        if check is not None:
            self._feed(check, WentStale())

    def release(self, check_id: str) -> bool:
        check = self._open.get(check_id)
        if check is None or check.state.stage is not Stage.HELD:
            return False
        self._feed(check, Released())
        return True

    def free_to_receive(self, terminal: Issi) -> bool:
        """The officer answered the prompt: every answer that waited for it may come."""
        found = [
            check
            for check in self._open.values()
            if check.terminal == terminal and check.state.stage is Stage.PROMPTED
        ]
        for check in found:
            self._feed(check, FreeToReceive())
        return bool(found)

    # ----------------------------------------------------------------- looking in

    def open_checks(self) -> list[tuple[CheckOpened, CheckStaged]]:
        """What the control room sees of the checks that have no outcome yet, oldest first."""
        seen = []
        for check in self._open.values():
            if check.state.outcome is None and check.kind is not None and check.recorded:
                seen.append((self._opened_event(check), self._staged_event(check)))
        return seen

    def oldest_age_s(self) -> float | None:
        """Age of the oldest check without an outcome; None when there is none."""
        started = [c.accepted_at_s for c in self._open.values() if c.state.outcome is None]
        return self._clock.monotonic_s() - min(started) if started else None

    def in_flight(self) -> int:
        return sum(1 for c in self._open.values() if c.state.outcome is None)

    @property
    def circuit(self) -> Circuit:
        return self._breaker.state(self._clock.monotonic_s())

    # ----------------------------------------------------------------- life

    async def restore(self) -> int:
        """Load what was open and feed `Restarted`; returns how many. A bad row costs itself."""
        parcels = {row.check: row for row in await self._ledger.outbox()}
        restored = 0
        for row in await self._ledger.open_checks():
            check = self._from_row(row)
            if check is None:
                continue
            self._take_up(check, parcels.get(row.id))
            restored += 1
        return restored

    def _take_up(self, check: _Check, outbox: OutboxRow | None) -> None:
        now_ms = self._clock.wall_ms()
        self._open[check.id] = check
        self._asked_by[check.terminal] = self._asked_by.get(check.terminal, 0) + 1
        if check.state.outcome is None and check.kind is not None:
            self._publish(self._opened_event(check))
        same = self.rules.roster.holder(check.terminal) == check.holder
        remaining_s = (check.deadline_ms - now_ms) / 1000
        longest_s = max([self._settings.deadline_s, *self._settings.deadlines_s.values()])
        self._feed(check, Restarted(remaining_s=min(remaining_s, longest_s), holder_same=same))
        if check.state.outcome is None:
            self._arm_deadline(check)
        if check.state.stage is Stage.DELIVERING and outbox is not None:
            left_s = (outbox.stale_at_ms - now_ms) / 1000
            if left_s <= 0 or check.result is None:
                self._feed(check, WentStale())
            else:
                self._hand_over(check, min(left_s, self._settings.stale_s))

    async def stop(self, deadline_s: float) -> None:
        """Finish the writes under way; what is not finished goes on after the next start."""
        self._draining = True
        for check in self._open.values():
            if check.timer is not None:
                check.timer.cancel()
        await self._crew.drain(deadline_s)

    # ----------------------------------------------------------------- beginning

    def _begin(
        self, envelope: Envelope, asker: Terminal, request: CheckRequest, dedupe: str
    ) -> None:
        started_s = self._clock.monotonic_s()
        kind = kind_of(request.key)
        deadline_s = self._settings.deadlines_s.get(kind.value, self._settings.deadline_s)
        check = self._new(
            asker,
            envelope,
            request=request,
            kind=kind,
            ref=request.ref,
            client_ref=request.client_ref,
            typed=request.typed,
            dedupe=dedupe,
            deadline_s=deadline_s,
        )
        self._meter.count(
            "checks_received_total", kind=kind.value, agency=asker.agency, area=asker.area
        )
        decision = policy.may_ask(self.rules.policy, asker, request)
        check.decision = decision
        self._meter.count(
            "policy_decisions_total",
            level=decision.level.value,
            decision="allowed" if decision.allowed else "denied",
        )
        self._stage_took("authorise", started_s)
        age_s = 0.0
        if request.sent_at_ms is not None:
            self._clocks.note(asker.issi, request.sent_at_ms, envelope.received_at_ms)
            age_s = self._clocks.age_s(asker.issi, request.sent_at_ms, envelope.received_at_ms)
            self._mind_the_clock(asker.issi, request.sent_at_ms, envelope.received_at_ms)
        if not decision.allowed:
            self._start(check, *close_at_once(Outcome.REFUSED, decision.why))
        elif age_s > deadline_s:
            self._start(check, *close_at_once(Outcome.EXPIRED, Cause.TOO_OLD))
        elif self._busy(asker.issi):
            self._start(check, *close_at_once(Outcome.REFUSED, Cause.BUSY))
        else:
            place = self._placed < self._settings.concurrency and not self._queue
            place = place and self._breaker_allows()
            if place:
                self._placed += 1
                check.placed = True
            state, effects = open_check(
                deadline_s=check.accepted_at_s + deadline_s,
                attempts_max=1 + self._settings.retries,
                hold=decision.hold,
                prompt=decision.prompt,
                place=place,
            )
            self._start(check, state, effects)
            self._arm_deadline(check)

    def note_time(self, terminal: Issi, sent_ms: int, received_ms: int) -> None:
        """Any message that carries its sending time teaches the terminal's clock offset."""
        self._clocks.note(terminal, sent_ms, received_ms)

    def _busy(self, terminal: Issi) -> bool:
        open_here = self._asked_by.get(terminal, 0)
        if open_here > self._settings.per_terminal_open:
            self._meter.count("queue_dropped_total", queue="check", reason="terminal_limit")
            return True
        waiting = sum(1 for c in self._open.values() if c.state.stage in BEFORE_OUTCOME)
        if waiting > self._settings.queue + self._settings.concurrency or self._crew.full:
            self._meter.count("queue_dropped_total", queue="check", reason="full")
            return True
        return False

    def _mind_the_clock(self, terminal: Issi, sent_ms: int, received_ms: int) -> None:
        skew_s = self._clocks.skew_s(terminal, sent_ms, received_ms)
        if abs(skew_s) > self._settings.clock_skew_s:
            way = "SLOW" if skew_s > 0 else "FAST"
            text = f"RADIO CLOCK {abs(round(skew_s))}S {way}. TELL CONTROL"
            self._courier.tell(
                terminal, Notice(kind="clock", text=text), expires_in_s=RECEIPT_EXPIRES_S
            )

    def _new(
        self,
        asker: Terminal,
        envelope: Envelope,
        *,
        request: CheckRequest | None,
        kind: Kind | None,
        ref: str,
        client_ref: str,
        typed: str,
        dedupe: str,
        deadline_s: float,
    ) -> _Check:
        id_ = self._ids.check()
        return _Check(
            id_=id_,
            receipt=self._ids.receipt(),
            asker=asker,
            holder=self.rules.roster.holder(asker.issi),
            request=request,
            kind=kind,
            opened_at_ms=envelope.received_at_ms,
            accepted_at_s=envelope.received_at_s,
            deadline_ms=envelope.received_at_ms + round(deadline_s * 1000),
            ref=ref,
            client_ref=client_ref,
            typed=typed,
            dedupe=dedupe or f"id:{id_}",
            state=CheckState(stage=Stage.OPENING, deadline_s=0.0),
            settle=envelope.settle,
        )

    def _start(self, check: _Check, state: CheckState, effects: tuple[Effect, ...]) -> None:
        check.state = state
        self._open[check.id] = check
        self._asked_by[check.terminal] = self._asked_by.get(check.terminal, 0) + 1
        self._remember(check)
        self._gauges()
        for effect in effects:
            self._carry(check, effect)

    def _arm_deadline(self, check: _Check) -> None:
        async def watch() -> None:
            await self._clock.sleep(check.state.deadline_s - self._clock.monotonic_s())
            self._feed(check, DeadlinePassed())

        check.timer = self._crew.start(watch())

    # ----------------------------------------------------------------- repeats

    def _typed_is_same(self, check: _Check) -> bool:
        if check.settled_at_s is None:
            return True
        return self._clock.monotonic_s() - check.settled_at_s <= self._settings.typed_repeat_s

    async def _typed_after_restart(
        self, envelope: Envelope, asker: Terminal, request: CheckRequest
    ) -> None:
        """Just after a start memory is empty: ask the ledger whether this text was just answered.

        The row keeps when it was asked, not when it was settled; so the window is counted from the
        asking, which is the shorter one: at worst the officer gets a fresh answer.
        """
        row = await self._ledger.last_check(asker.issi)
        limit_ms = self._settings.typed_repeat_s * 1000
        if row is not None and envelope.received_at_ms - row.opened_at_ms < limit_ms:
            try:
                stored = msgspec.json.decode(row.state, type=Stored)
            except msgspec.DecodeError:
                stored = None
            if stored is not None and stored.typed == request.typed:
                await self._answer_from_row(row, envelope.settle)
                return
        dedupe = _dedupe(asker.issi, request, envelope.received_at_ms)
        self._begin(envelope, asker, request, dedupe)

    def _repeat(self, check: _Check, settle: Callable[[], None]) -> None:
        """The same question again: the same answer, never a second query."""
        if not check.recorded:
            # Its first copy is still being written; that one's receipt answers both.
            waiting = check.settle

            def both() -> None:
                if waiting is not None:
                    waiting()
                settle()

            check.settle = both
            return
        self._journal.note("check.duplicate", check=check.id)
        self._crew.start(self._answer_again(check, settle))

    async def _answer_again(self, check: _Check, settle: Callable[[], None]) -> None:
        """Receipt, and the stored answer if there is one: to the same holder only, on record."""
        terminal = check.terminal
        if self.rules.roster.holder(terminal) != check.holder:
            self._say_receipt(check, accepted=False, why="ASKED BY OTHER OFFICER")
            settle()
            return
        refused = check.state.outcome is Outcome.REFUSED
        self._say_receipt(check, accepted=not refused, why=check.state.cause if refused else "")
        shown = check.state.stage in {Stage.DELIVERED, Stage.SEEN, Stage.DELIVERING, Stage.STALE}
        if check.result is not None and shown and self._may_still_see(check):
            record = self._record(
                check,
                "duplicate",
                outcome=check.state.outcome,
                recipient=check.holder,
                level=check.result.level,
            )
            try:
                await self._ledger.commit([record])
            except LedgerUnavailable:
                settle()
                return
            except LedgerFatal as error:
                self._fatal(error)
                return
            if self._courier.waiting(check.id):
                self._courier.again(check.id)
            else:
                self._courier.tell(terminal, check.result, expires_in_s=self._settings.stale_s)
        settle()

    def _may_still_see(self, check: _Check) -> bool:
        """Policy of this moment: what was released once may not be released any more."""
        if check.state.outcome is not Outcome.ANSWERED or check.result is None:
            return True
        asker = self.rules.roster.terminal(check.terminal)
        if asker is None or check.request is None:
            return False
        decision = policy.may_ask(self.rules.policy, asker, check.request)
        return decision.allowed and decision.level.value >= check.result.level

    async def _duplicate_on_record(self, check: _Check, original: str) -> None:
        """The ledger knows this question from before; ours never existed."""
        row = await self._ledger.check(original)
        settle = check.settle or _nothing
        check.settle = None
        self._leave(check)
        self._forget(check)
        if row is None:
            settle()
            return
        await self._answer_from_row(row, settle)

    async def _answer_from_row(self, row: CheckRow, settle: Callable[[], None]) -> None:
        """Give again what the ledger holds of a check that memory no longer knows."""
        known = self._find_memory(row.id)
        if known is None:
            known = self._from_row(row)
        if known is None:
            settle()
            return
        await self._answer_again(known, settle)

    def _from_row(self, row: CheckRow) -> _Check | None:
        """A check as the ledger keeps it; None (counted) when the row cannot be read."""
        try:
            stored = msgspec.json.decode(row.state, type=Stored)
            result = msgspec.json.decode(row.result, type=Result) if row.result else None
        except msgspec.DecodeError:
            self._meter.count("queue_dropped_total", queue="check", reason="unreadable")
            self._journal.warn("check.unreadable", check=row.id)
            return None
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        check = _Check(
            id_=row.id,
            receipt=row.receipt,
            asker=stored.asker,
            holder=stored.holder,
            request=stored.request,
            kind=stored.kind,
            opened_at_ms=stored.opened_at_ms,
            accepted_at_s=now_s - max(0, now_ms - stored.opened_at_ms) / 1000,
            deadline_ms=stored.deadline_ms,
            ref=stored.ref,
            client_ref=stored.client_ref,
            typed=stored.typed,
            dedupe=row.dedupe,
            state=stored.state,
            settle=None,
        )
        check.recorded = True
        check.result, check.result_bytes = result, row.result
        check.danger = stored.danger
        if check.state.outcome is not None:
            check.settled_at_s = now_s
        self._remember(check)
        return check

    # ----------------------------------------------------------------- the engine

    def _feed(self, check: _Check, event: CheckEvent) -> None:
        """The one way on: step, then carry out each effect."""
        check.state, effects = step(check.state, event, self._clock.monotonic_s())
        for effect in effects:
            self._carry(check, effect)

    def _carry(self, check: _Check, effect: Effect) -> None:
        match effect:
            case WriteOpening():
                self._write_opening(check, effect.attempt)
            case WriteAttempt():
                self._write_attempt(check, effect.attempt)
            case WriteOutcome():
                self._write_outcome(check, effect.outcome, effect.cause, effect.disclose)
            case WriteDisclosure():
                self._write_disclosure(check)
            case WriteLate():
                self._crew.start(self._say_late(check))
            case WriteEnd():
                self._write_end(check, effect.how)
            case GiveReceipt():
                check.settle_once()
                self._say_receipt(check, accepted=effect.accepted, why=effect.why)
            case Enqueue():
                check.queued_at_s = self._clock.monotonic_s()
                self._queue.append(check.id)
                self._grant()
            case LeavePlace():
                self._leave(check)
            case Ask():
                self._ask(check, effect.attempt)
            case Pause():
                self._crew.start(self._pause(check, effect.attempts), fault=self._fault(check))
            case Show():
                self._show(check)
            case ShowOutcome():
                self._show_outcome(check)
            case Post():
                self._hand_over(check, self._settings.stale_s)
            case PromptOfficer():
                notice = Notice(
                    kind="waiting",
                    text=rendering.waiting_text(check.short),
                    check=check.id,
                    short=check.short,
                )
                self._courier.tell(check.terminal, notice, expires_in_s=self._settings.stale_s)
            case SayUnrecorded():
                self._say_unrecorded(check)
            case Rewrite():
                self._crew.start(self._rewrite(check), fault=self._fault(check))
            case Forget():
                self._forget(check)

    def _fault(self, check: _Check) -> Callable[[BaseException], None]:
        """Our own defect costs this check its answer, not the service its life."""

        def tell(_error: BaseException) -> None:
            if check.id in self._open:
                self._feed(check, Faulted())

        return tell

    # ----------------------------------------------------------------- places at the PNC

    def _grant(self) -> None:
        while self._queue and self._placed < self._settings.concurrency:
            check = self._open.get(self._queue[0])
            if check is None or check.state.stage is not Stage.QUEUED:
                self._queue.popleft()
                continue
            self._queue.popleft()
            self._placed += 1
            check.placed = True
            self._stage_took("queue", check.queued_at_s)
            self._feed(check, PlaceGranted())
        self._meter.gauge("queue_depth", len(self._queue), queue="check")

    def _leave(self, check: _Check) -> None:
        if check.timer is not None:
            check.timer.cancel()
        if check.pnc_since_s is not None:
            # The question is still at the PNC: the place is free, a late reply is listened for.
            check.pnc_s += self._clock.monotonic_s() - check.pnc_since_s
            check.pnc_since_s = None
            self._listen_late(check)
        if check.placed:
            check.placed = False
            self._placed -= 1
            self._grant()

    async def _pause(self, check: _Check, attempts: int) -> None:
        ceiling_s = self._settings.retry_base_s * 2 ** (attempts - 1)
        await self._clock.sleep(ceiling_s / 2 + self._ids.uniform(0.0, ceiling_s / 2))
        self._meter.count("pnc_retries_total")
        self._feed(check, RetryDue())

    # ----------------------------------------------------------------- the question

    def _breaker_allows(self) -> bool:
        allowed = self._breaker.allow(self._clock.monotonic_s())
        self._circuit_seen()
        return allowed

    def _ask(self, check: _Check, attempt: int) -> None:
        check.pnc_since_s = self._clock.monotonic_s()
        check.asking = self._crew.start(
            self._put_question(check, attempt), fault=self._fault(check)
        )

    async def _put_question(self, check: _Check, attempt: int) -> None:
        """One attempt. It may outlive the deadline by a grace, only to learn that a reply came."""
        assert check.request is not None
        now_s = self._clock.monotonic_s()
        query = PncQuery(
            check=check.id,
            attempt=attempt,
            key=check.request.key,
            key_text=search_key(check.request.key),
            reason=check.request.reason,
            justification=check.request.justification,
            originator=self._originator(check),
            location=check.request.location,
            on_behalf_of=self._on_behalf(check),
            asked_at_ms=self._clock.wall_ms(),
            deadline_s=max(0.0, check.state.deadline_s - now_s),
        )
        operation = _OPERATION[kind_of(check.request.key)]
        event: CheckEvent
        verdict = "ok"
        try:
            listen_s = query.deadline_s + self._settings.late_grace_s
            answer = await self._within(self._pnc.query(query), listen_s)
            if (answer.check, answer.attempt, answer.key_text) != (
                query.check,
                query.attempt,
                query.key_text,
            ):
                # Decision 10 and I3: another question's reply is shown to nobody.
                self._journal.warn("security", reason="echo", check=check.id)
                verdict, event = "error", AttemptFailed(Cause.PNC_ERROR, retryable=False)
            else:
                event = self._judge(check, answer)
        except TimeoutError:
            verdict, event = "timeout", AttemptFailed(Cause.NO_REPLY, retryable=False)
        except PncInvalid as error:
            verdict, event = error.result, AttemptFailed(Cause.PNC_INVALID, retryable=False)
        except PncDown as error:
            verdict, event = error.result, AttemptFailed(Cause.LINK_DOWN, retryable=True)
        except PncError as error:
            verdict, event = error.result, AttemptFailed(Cause.PNC_ERROR, retryable=False)
        took_s = self._clock.monotonic_s() - now_s
        self._meter.count("pnc_requests_total", op=operation, result=verdict)
        self._meter.observe("pnc_request_duration_seconds", took_s, op=operation)
        self._late.pop(check.id, None)
        if check.state.outcome is None:
            check.pnc_s += took_s
            self._meter.observe("check_stage_duration_seconds", took_s, stage="pnc")
            if verdict in ("ok", "invalid"):
                self._breaker.succeeded()
            else:
                self._breaker.failed(self._clock.monotonic_s())
            self._circuit_seen()
            check.pnc_since_s = None
            self._feed(check, event)
        elif verdict == "ok":
            self._feed(check, LateAnswer())

    async def _within(self, question: Coroutine[Any, Any, PncAnswer], limit_s: float) -> PncAnswer:
        """Await with a limit on the injected clock, so that simulated time bounds it too."""
        asked = asyncio.ensure_future(question)
        limit = asyncio.ensure_future(self._clock.sleep(limit_s))
        try:
            await asyncio.wait({asked, limit}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise TimeoutError
            return asked.result()
        finally:
            limit.cancel()
            if not asked.done():
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)

    def _judge(self, check: _Check, answer: PncAnswer) -> CheckEvent:
        """Policy is asked again, with the rules of now, before anything is shown."""
        asker = self.rules.roster.terminal(check.terminal)
        if check.state.outcome is not None:
            return LateAnswer()
        if asker is None or check.request is None:
            return Answered(denied=True)
        decision = policy.may_ask(self.rules.policy, asker, check.request)
        if not decision.allowed:
            return Answered(denied=True)
        check.decision = decision
        check.answer = answer
        return Answered()

    def _listen_late(self, check: _Check) -> None:
        """Keep listening for what is overdue, for a bounded number of checks."""
        if check.asking is None or check.asking.done():
            return
        self._late[check.id] = check.asking
        while len(self._late) > 2 * self._settings.concurrency:
            _, oldest = self._late.popitem(last=False)
            oldest.cancel()

    def _circuit_seen(self) -> None:
        state = self._breaker.state(self._clock.monotonic_s())
        for each in Circuit:
            self._meter.gauge("pnc_circuit_state", float(each is state), state=each.value)
        if state is self._circuit:
            return
        self._circuit = state
        link_state = {
            Circuit.CLOSED: LinkState.UP,
            Circuit.OPEN: LinkState.DOWN,
            Circuit.HALF_OPEN: LinkState.DOWN,
        }[state]
        if link_state is not self._pnc_state:
            self._pnc_state = link_state
            self._journal.note("link.up" if link_state is LinkState.UP else "link.down", link="pnc")
            self._publish(
                LinkChanged(
                    id="pnc",
                    kind="pnc",
                    state=link_state,
                    since_ms=self._clock.wall_ms(),
                    detail="circuit " + state.value,
                )
            )

    # ----------------------------------------------------------------- writing

    def _write_opening(self, check: _Check, attempt: int) -> None:
        records = [
            self._record(
                check,
                "opened",
                content=_content(
                    key=search_key(check.request.key) if check.request else "",
                    justification=check.request.justification if check.request else "",
                    location=check.request.location if check.request else "",
                    collar=check.request.collar if check.request else "",
                ),
            )
        ]
        if attempt:
            records.append(self._asked_record(check, attempt))
        self._commit(check, Write.OPENING, records, [PutCheck(self._row(check))])

    def _write_attempt(self, check: _Check, attempt: int) -> None:
        if not self._breaker_allows():
            # The circuit is open: no question, no record of one, and the officer hears at once.
            self._open_circuit(check)
            return
        self._commit(
            check,
            Write.ATTEMPT,
            [self._asked_record(check, attempt)],
            [PutCheck(self._row(check))],
        )

    def _open_circuit(self, check: _Check) -> None:
        check.state = msgspec.structs.replace(
            check.state, stage=Stage.ASKING, attempts=check.state.attempts - 1
        )
        self._feed(check, AttemptFailed(Cause.LINK_DOWN, retryable=False))

    def _asked_record(self, check: _Check, attempt: int) -> Record:
        return self._record(
            check, "asked", attempt=attempt, content=_content(originator=self._originator(check))
        )

    def _write_outcome(self, check: _Check, outcome: Outcome, cause: str, disclose: bool) -> None:
        if outcome is Outcome.EXPIRED and cause == Cause.NO_REPLY and check.state.attempts:
            self._breaker.failed(self._clock.monotonic_s())
            self._circuit_seen()
        started_s = self._clock.monotonic_s()
        self._make_result(check, outcome, cause)
        self._stage_took("format", started_s)
        result = check.result
        assert result is not None
        records: list[Record] = []
        if not check.recorded:
            records.append(
                self._record(
                    check,
                    "opened",
                    content=_content(
                        key=search_key(check.request.key) if check.request else "",
                        location=check.request.location if check.request else "",
                    ),
                )
            )
        event = "refused" if outcome is Outcome.REFUSED else "answered"
        if cause == Cause.CANCELLED:
            event = "cancelled"
        records.append(
            self._record(
                check,
                event,
                outcome=outcome,
                detail=cause if cause in set(Cause) else "MALFORMED OR DENIED",
                attempt=check.state.attempts,
                content=msgspec.json.encode(check.answer) if check.answer else None,
            )
        )
        if check.hidden:
            records.append(self._record(check, "security", detail="record withheld from the radio"))
        changes: list[Change] = []
        if disclose:
            if outcome is Outcome.ANSWERED:
                records.append(self._disclosure(check, result))
            changes.append(PutOutbox(self._outbox_row(check)))
        stage = stored_stage(check.state, disclose)
        changes.insert(0, PutCheck(self._row(check, stage=stage)))
        self._commit(check, Write.OUTCOME, records, changes)

    def _write_disclosure(self, check: _Check) -> None:
        """After a hold or a prompt. Policy is asked once more: it may have changed since."""
        result = check.result
        if result is None or not self._may_still_see(check):
            self._feed(check, RecordFailed(Write.DISCLOSURE))
            return
        self._commit(
            check,
            Write.DISCLOSURE,
            [self._disclosure(check, result)],
            [
                PutCheck(self._row(check, stage=Stage.DELIVERING)),
                PutOutbox(self._outbox_row(check)),
            ],
        )

    def _disclosure(self, check: _Check, result: Result) -> Record:
        released = check.view.released if check.view is not None else tuple(result.fields)
        return self._record(
            check,
            "disclosed",
            outcome=Outcome.ANSWERED,
            recipient=check.holder,
            fields=released,
            level=result.level,
            content=check.result_bytes,
        )

    def _write_end(self, check: _Check, how: str) -> None:
        self._courier.done(check.id)
        if how == "read":
            self._stage_took("read", check.settled_at_s or check.accepted_at_s)
        elif how == "delivered":
            self._stage_took("deliver", check.settled_at_s or check.accepted_at_s)
        if check.danger:
            late = "late" if how == "stale" else how
            self._meter.count("danger_results_total", state=late)
        self._publish(
            CheckDelivery(
                short=check.short,
                check=check.id,
                terminal=check.terminal,
                part=1,
                state=how,
                t_ms=self._clock.wall_ms(),
            )
        )
        self._crew.start(self._record_end(check, how))

    async def _record_end(self, check: _Check, how: str) -> None:
        record = self._record(check, how, recipient=check.holder)
        changes: list[Change] = [
            PutCheck(self._row(check, stage=check.state.stage)),
            DropOutbox(check.id),
        ]
        settle = check.settle or _nothing
        check.settle = None
        try:
            await self._ledger.commit([record], changes)
        except LedgerUnavailable:
            # The answer was seen; what is missing is the note of it. The outbox row stands, so the
            # answer may be sent once more after a restart: at least once.
            self._meter.count("queue_dropped_total", queue="audit", reason="unavailable")
        except LedgerFatal as error:
            self._fatal(error)
            return
        settle()

    async def _acknowledge_old(
        self, terminal: Issi, ref: str, state: AckState, settle: Callable[[], None]
    ) -> None:
        """An acknowledgement of an answer that memory no longer holds: still put on record."""
        row = await self._ledger.last_check(terminal, ref[-4:])
        if row is not None:
            record = Record(
                event=state.value,
                at_ms=self._clock.wall_ms(),
                check=row.id,
                terminal=terminal,
                receipt=row.receipt,
                recipient=self.rules.roster.holder(terminal),
            )
            try:
                await self._ledger.commit([record])
            except LedgerUnavailable:
                self._meter.count("queue_dropped_total", queue="audit", reason="unavailable")
            except LedgerFatal as error:
                self._fatal(error)
                return
        settle()

    def _commit(
        self, check: _Check, what: Write, records: list[Record], changes: list[Change]
    ) -> None:
        self._crew.start(self._write(check, what, records, changes), fault=self._fault(check))

    async def _write(
        self, check: _Check, what: Write, records: list[Record], changes: list[Change]
    ) -> None:
        started_s = self._clock.monotonic_s()
        try:
            await self._ledger.commit(records, changes)
        except DuplicateCheck as error:
            await self._duplicate_on_record(check, error.check)
            return
        except LedgerUnavailable:
            self._journal.warn("ledger.unavailable", check=check.id, stage=what.value)
            self._feed(check, RecordFailed(what))
            return
        except LedgerFatal as error:
            self._fatal(error)
            return
        self._stage_took("audit", started_s)
        if not check.recorded:
            check.recorded = True
            if check.kind is not None:
                self._publish(self._opened_event(check))
        if what is Write.OUTCOME:
            check.settled_at_s = self._clock.monotonic_s()
            check.settle_once()
        self._feed(check, Recorded(what))

    async def _rewrite(self, check: _Check) -> None:
        await self._clock.sleep(REWRITE_S)
        state = check.state
        if state.stage is Stage.CONCLUDING and state.outcome is not None:
            self._write_outcome(check, state.outcome, state.cause, disclose=True)

    async def _say_late(self, check: _Check) -> None:
        """On record, then told: that a reply came late, and nothing of it (decision D1)."""
        record = self._record(check, "late_answer", detail="after the outcome")
        try:
            await self._ledger.commit([record])
        except LedgerUnavailable:
            return
        except LedgerFatal as error:
            self._fatal(error)
            return
        self._journal.note("check.late", check=check.id)
        self._publish(
            Noticed(
                kind="late",
                t_ms=self._clock.wall_ms(),
                short=check.short,
                check=check.id,
                terminal=check.terminal,
            )
        )
        if self.rules.roster.holder(check.terminal) == check.holder:
            notice = Notice(
                kind="late",
                text=rendering.late_text(check.short),
                check=check.id,
                short=check.short,
            )
            self._courier.tell(check.terminal, notice, expires_in_s=self._settings.stale_s)

    # ----------------------------------------------------------------- what is shown

    def _make_result(self, check: _Check, outcome: Outcome, cause: str) -> None:
        """The Result as it will be stored and sent: the same bytes for ever."""
        rules = self.rules
        now_ms = self._clock.wall_ms()
        if outcome is Outcome.ANSWERED:
            assert check.answer is not None
            assert check.decision is not None
            assert check.request is not None
            started_s = self._clock.monotonic_s()
            cleared = results.without_covert(check.answer)
            check.hidden = cleared.hidden
            view = policy.project(
                rules.policy, check.decision, check.request, cleared.answer, rules.warnings
            )
            self._stage_took("project", started_s)
            as_of_ms = check.answer.as_of_ms
        else:
            view = policy.without_answer(outcome, class_of(outcome, cause), cause, check.request)
            as_of_ms = now_ms
        check.view = view
        check.danger = bool(view.danger)
        clock_text = rendering.clock_text(as_of_ms, rules.zone)
        budget = rules.budgets.get(check.asker.device_class, 140)
        check.result = Result(
            ref=check.ref,
            check=check.id,
            short=check.short,
            outcome=outcome,
            result_class=view.result_class,
            danger=view.danger,
            pages=rendering.screens(view, short=check.short, clock_text=clock_text),
            texts=rendering.texts(
                view,
                short=check.short,
                budget=budget,
                client_ref=check.client_ref,
                clock_text=clock_text,
            ),
            fields=dict(view.fields),
            not_checked=view.not_checked,
            as_of_ms=as_of_ms,
            level=view.level,
            receipt=check.receipt,
            client_ref=check.client_ref,
            why=cause if outcome is not Outcome.ANSWERED else "",
        )
        check.result_bytes = msgspec.json.encode(check.result)

    def _hand_over(self, check: _Check, stale_in_s: float) -> None:
        assert check.result is not None
        now_s = self._clock.monotonic_s()
        if check.danger:
            self._meter.count("danger_results_total", state="answered")
        if check.kind is not None:
            answer_s = now_s - check.accepted_at_s
            self._meter.observe("check_answer_latency_seconds", answer_s, kind=check.kind.value)
            overhead_s = max(0.0, answer_s - check.pnc_s)
            self._meter.observe("check_overhead_seconds", overhead_s, kind=check.kind.value)
        self._courier.post(
            Parcel(
                id=check.id,
                check=check.id,
                short=check.short,
                terminal=check.terminal,
                holder=check.holder,
                message=check.result,
                stale_at_s=now_s + stale_in_s,
                priority=0 if check.danger else 1,
                accepted_at_s=check.accepted_at_s,
            )
        )

    def _say_receipt(self, check: _Check, *, accepted: bool, why: str) -> None:
        receipt = Receipt(
            ref=check.ref,
            check=check.id,
            short=check.short,
            accepted=accepted,
            why=why,
            client_ref=check.client_ref,
        )
        self._courier.tell(check.terminal, receipt, expires_in_s=RECEIPT_EXPIRES_S)

    def _say_unrecorded(self, check: _Check) -> None:
        """The record cannot be written: the officer hears NO ANSWER, once, without content."""
        if check.unrecorded_said:
            return
        check.unrecorded_said = True
        check.settle_once()
        notice = Notice(
            kind="unrecorded",
            text=rendering.unrecorded_text(check.short),
            check=check.id,
            short=check.short,
        )
        self._courier.tell(check.terminal, notice, expires_in_s=RECEIPT_EXPIRES_S)

    def _show(self, check: _Check) -> None:
        self._publish(self._staged_event(check))

    def _show_outcome(self, check: _Check) -> None:
        if check.kind is None or check.result is None or check.view is None:
            return
        now_s = self._clock.monotonic_s()
        elapsed_s = now_s - check.accepted_at_s
        overhead_s = max(0.0, elapsed_s - check.pnc_s)
        outcome = check.state.outcome
        assert outcome is not None
        shown_class = self._feed_class(check, outcome)
        if outcome is Outcome.ANSWERED and shown_class.startswith("HIT"):
            labels = {"class": shown_class}
            self._meter.count("hits_total", 1, **labels)
        self._journal.note(
            "check.done",
            check=check.id,
            kind=check.kind.value,
            outcome=outcome.value,
            elapsed_ms=round(elapsed_s * 1000),
            attempt=check.state.attempts,
        )
        self._publish(
            CheckDone(
                short=check.short,
                check=check.id,
                terminal=check.terminal,
                kind=check.kind,
                outcome=outcome,
                result_class=shown_class,
                danger=self._feed_danger(check),
                parts=len(check.result.pages),
                not_checked=check.result.not_checked,
                level=check.result.level,
                t_ms=self._clock.wall_ms(),
                elapsed_s=elapsed_s,
                overhead_s=overhead_s,
                cause=check.state.cause if check.state.cause in set(Cause) else "",
            )
        )

    def _feed_class(self, check: _Check, outcome: Outcome) -> str:
        """For those who may know (the bus strips it from others): without covert records."""
        if outcome is Outcome.ANSWERED and check.answer is not None:
            cleared = results.without_covert(check.answer)
            return results.classify(cleared.answer, self.rules.warnings).value
        return class_of(outcome, check.state.cause).value

    def _feed_danger(self, check: _Check) -> tuple[str, ...]:
        if check.answer is None or check.state.outcome is not Outcome.ANSWERED:
            return ()
        cleared = results.without_covert(check.answer)
        return results.danger_words(cleared.answer, self.rules.warnings)

    def _opened_event(self, check: _Check) -> CheckOpened:
        assert check.kind is not None
        return CheckOpened(
            short=check.short,
            check=check.id,
            terminal=check.terminal,
            kind=check.kind,
            opened_ms=check.opened_at_ms,
            deadline_ms=check.deadline_ms,
        )

    def _staged_event(self, check: _Check) -> CheckStaged:
        return CheckStaged(
            short=check.short,
            check=check.id,
            terminal=check.terminal,
            stage=check.state.stage.value,
            t_ms=self._clock.wall_ms(),
        )

    # ----------------------------------------------------------------- rows and records

    def _row(self, check: _Check, stage: Stage | None = None) -> CheckRow:
        state = check.state
        if stage is not None:
            state = msgspec.structs.replace(state, stage=stage)
        stored = Stored(
            state=state,
            request=check.request,
            ref=check.ref,
            client_ref=check.client_ref,
            typed=check.typed,
            asker=check.asker,
            holder=check.holder,
            kind=check.kind,
            opened_at_ms=check.opened_at_ms,
            deadline_ms=check.deadline_ms,
            danger=check.danger,
        )
        return CheckRow(
            id=check.id,
            short=check.short,
            receipt=check.receipt,
            terminal=check.terminal,
            dedupe=check.dedupe,
            opened_at_ms=check.opened_at_ms,
            state=msgspec.json.encode(stored),
            open=state.stage not in {Stage.DELIVERED, Stage.SEEN, Stage.STALE, Stage.DROPPED},
            outcome=state.outcome.value if state.outcome else "",
            result=check.result_bytes if state.outcome is not None else None,
        )

    def _outbox_row(self, check: _Check) -> OutboxRow:
        now_ms = self._clock.wall_ms()
        return OutboxRow(
            id=check.id,
            check=check.id,
            terminal=check.terminal,
            holder=check.holder,
            payload=check.result_bytes or b"",
            queued_at_ms=now_ms,
            stale_at_ms=now_ms + round(self._settings.stale_s * 1000),
            priority=0 if check.danger else 1,
        )

    def _record(
        self,
        check: _Check,
        event: str,
        *,
        outcome: Outcome | None = None,
        recipient: str = "",
        fields: tuple[str, ...] = (),
        level: str = "",
        attempt: int = 0,
        detail: str = "",
        content: bytes | None = None,
    ) -> Record:
        return Record(
            event=event,
            at_ms=self._clock.wall_ms(),
            check=check.id,
            terminal=check.terminal,
            officer=check.asker.officer,
            agency=check.asker.agency,
            role=check.asker.role,
            reason=check.request.reason if check.request else "",
            operation=_OPERATION[check.kind] if check.kind else "",
            outcome=outcome.value if outcome else "",
            recipient=recipient,
            fields=fields,
            level=level,
            policy=self.rules.policy.version,
            attempt=attempt,
            receipt=check.receipt,
            detail=detail,
            content=content,
        )

    def _originator(self, check: _Check) -> str:
        assert check.request is not None
        return originator.line(
            check.asker,
            reason=check.request.reason,
            free=check.request.justification,
            location=check.request.location,
            most=self.rules.policy.originator_max,
        )

    def _on_behalf(self, check: _Check) -> str:
        agency = check.asker.agency
        return agency if agency in self.rules.policy.on_behalf_agencies else ""

    # ----------------------------------------------------------------- memory

    def _remember(self, check: _Check) -> None:
        self._memory[check.id] = check
        self._memory.move_to_end(check.id)
        self._by_dedupe[check.dedupe] = check.id
        if check.typed:
            self._by_typed[(check.terminal, check.typed)] = check.id
        while len(self._memory) > self._settings.settled_memory + len(self._open):
            oldest_id = next((i for i in self._memory if i not in self._open), None)
            if oldest_id is None:
                return
            oldest = self._memory.pop(oldest_id)
            if self._by_dedupe.get(oldest.dedupe) == oldest_id:
                del self._by_dedupe[oldest.dedupe]
            if self._by_typed.get((oldest.terminal, oldest.typed)) == oldest_id:
                del self._by_typed[(oldest.terminal, oldest.typed)]

    def _find_memory(self, check_id: str | None) -> _Check | None:
        return self._memory.get(check_id) if check_id is not None else None

    def _recent(self, terminal: Issi, ref: str) -> _Check | None:
        for check in reversed(self._memory.values()):
            if check.terminal == terminal and (not ref or ref in (check.short, check.id)):
                return check if check.state.outcome is not None else None
        return None

    def _forget(self, check: _Check) -> None:
        """It needs no more work; memory keeps it a while for repeats."""
        if self._open.pop(check.id, None) is None:
            return
        if check.timer is not None:
            check.timer.cancel()
        left = self._asked_by.get(check.terminal, 0) - 1
        if left > 0:
            self._asked_by[check.terminal] = left
        else:
            self._asked_by.pop(check.terminal, None)
        if check.state.stage in {Stage.DROPPED, Stage.OPENING}:
            self._memory.pop(check.id, None)
            if self._by_dedupe.get(check.dedupe) == check.id:
                del self._by_dedupe[check.dedupe]
            if self._by_typed.get((check.terminal, check.typed)) == check.id:
                del self._by_typed[(check.terminal, check.typed)]
        # The answer itself is not kept in memory longer than its delivery needs it.
        check.answer = None
        self._gauges()

    def _gauges(self) -> None:
        flying = dict.fromkeys(_OPERATION, 0)
        for check in self._open.values():
            if check.state.outcome is None and check.kind is not None:
                flying[check.kind] += 1
        for kind, number in flying.items():
            self._meter.gauge("checks_in_flight", number, kind=kind.value)

    def _stage_took(self, stage: str, since_s: float) -> None:
        self._meter.observe(
            "check_stage_duration_seconds",
            max(0.0, self._clock.monotonic_s() - since_s),
            stage=stage,
        )


def _nothing() -> None:
    """For a check that no bearer waits for."""


def _content(**parts: str) -> bytes:
    """Personal content of a record: canonical JSON, purgeable, in the chain only as a hash."""
    return msgspec.json.encode({key: value for key, value in sorted(parts.items()) if value})


def _dedupe(terminal: Issi, request: CheckRequest, received_at_ms: int) -> str:
    """What makes two questions the same one (docs/interfaces.md): terminal, ref, sent time and
    content. Typed text has no reference and no time of its own: there the moment stands in, and
    repeats are known by the text (`typed`) instead.
    """
    moment = request.sent_at_ms if request.sent_at_ms is not None else -received_at_ms
    parts = msgspec.json.encode(
        [
            terminal,
            request.ref or request.typed,
            moment,
            search_key(request.key),
            request.reason,
            request.justification,
            request.location,
            request.full,
        ]
    )
    return hashlib.sha256(parts).hexdigest()
