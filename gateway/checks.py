"""The CheckDesk: carries out what a check's `step` asks for.

Every check is one `Check` (check_rows.py) with a pure state (check_states.py). The desk feeds
events in, and starts one owned task for each effect that must wait (a write, a question to the
PNC, a pause); what comes of it is fed back. There is no other path to an outcome.

Rules of this module
1. A defect of ours costs one effect of one check: it is counted, the check ends as a failure, its
   officer is told, and the next message is taken (M13, H13).
2. `settle` of a message is called once: after the commit that makes it durable, or when the
   officer was told that it will not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway import admission, originator, rendering, sources
from gateway.admission import Admission, Rules, admit, decide
from gateway.asking import Asking, AtRegister, Beside
from gateway.breaker import Circuit
from gateway.check_holds import CheckHolds
from gateway.check_memory import CheckMemory, dedupe_key, is_called, own_names
from gateway.check_repeats import CheckRepeats, is_hit
from gateway.check_rows import (
    Check,
    Ruling,
    Scribe,
    draw_again,
    outbox_row_of,
    read_row,
    row_of,
    under_its_receipt,
)
from gateway.check_states import (
    AWAITING,
    ENDED,
    RULING,
    Acknowledged,
    Answered,
    Ask,
    AwaitRelease,
    Cancelled,
    Cause,
    CheckEvent,
    CheckState,
    CircuitOpen,
    DeadlinePassed,
    Effect,
    Enqueue,
    Faulted,
    Forget,
    FreeToReceive,
    GiveReceipt,
    LeavePlace,
    NotFree,
    Pause,
    Post,
    PromptLater,
    PromptOfficer,
    Recorded,
    RecordFailed,
    Restarted,
    Rewrite,
    SayUnrecorded,
    SayWithheld,
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
    WriteOverdue,
    WriteRelease,
    WriteWithholding,
    close_at_once,
    open_check,
    step,
    stored_stage,
)
from gateway.check_views import (
    below_l3,
    done_event,
    make_plain_failure,
    make_result,
    may_still_see,
    opened_event,
    staged_event,
)
from gateway.check_voice import RECEIPT_EXPIRES_S, CheckVoice, Posts
from gateway.clocks import TerminalClocks
from gateway.early_cancels import WINDOW_S, EarlyCancels
from gateway.errors import DuplicateCheck, DuplicateReceipt, LedgerFatal, LedgerUnavailable
from gateway.messages import (
    AckState,
    Asker,
    CheckDelivery,
    CheckRequest,
    Envelope,
    Event,
    Issi,
    Kind,
    LocationFix,
    MalformedCheck,
    Notice,
    Noticed,
    Outcome,
    PncAnswer,
    kind_of,
)
from gateway.policy import Decision
from gateway.ports import (
    Change,
    CheckRow,
    Clock,
    DropKept,
    DropOutbox,
    Ids,
    Journal,
    Keyed,
    Ledger,
    Meter,
    OutboxRow,
    Pnc,
    PutAlarm,
    PutCheck,
    PutOutbox,
    Record,
    VehicleRegister,
)
from gateway.roster import holder_of
from gateway.settings import ChecksSection, SlotsSection
from gateway.sources import Plan
from gateway.supervise import Crew
from gateway.timers import Timer, Timers
from gateway.trials import TRIALS_MOST, Trials

NOTHING_TO_SHOW = "NOTHING TO SHOW. ASK AGAIN"
RECEIPTS_MOST = 4
"""Receipts drawn for one check: that three are taken by chance, nobody lives to see."""
REWRITE_S = 1.0
"""Between two tries to write what must be written."""
OVERDUE_S = 1.0
"""So long after the deadline an outcome may still be on its way to the disk (I4)."""
LOOK_BACK_S = 3600.0
"""How long before its outcome a question may have been asked: past every deadline, for a ledger
that was away keeps outcomes waiting."""
TASKS_PER_CHECK = 4
RESTORED_AT_ONCE = 32
"""Checks that are taken up in one turn of the loop: each sets writes, questions and sends going,
and with thousands open all of them would fall into one."""
RESTORE_WAITS_S = 5.0
"""So long in all the taking up may wait for the ledger to write what follows from it."""
RESTORE_LOOKS_S = 0.02

_WRITES: dict[type[Effect], Write] = {
    WriteOpening: Write.OPENING,
    WriteAttempt: Write.ATTEMPT,
    WriteOutcome: Write.OUTCOME,
    WriteRelease: Write.RELEASE,
    WriteWithholding: Write.WITHHOLDING,
    WriteDisclosure: Write.DISCLOSURE,
}
_CAUSES = frozenset(Cause)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a question came. parent: the check that it supplements. dedupe: what tells a copy of it,
    when not its own words do."""

    settle: Callable[[], None]
    received_at_ms: int
    received_at_s: float
    parent: str = ""
    dedupe: str = ""
    quiet: bool = False
    """Nothing of it goes to a radio."""
    redelivered: bool = False

    @classmethod
    def by_radio(cls, envelope: Envelope) -> Asked:
        return cls(
            settle=envelope.settle,
            received_at_ms=envelope.received_at_ms,
            received_at_s=envelope.received_at_s,
            redelivered=envelope.redelivered,
        )


Challenged = tuple[list[Record], list[Change], Callable[[], None]]
Told = tuple[list[Record], list[PutAlarm], Callable[[], None]]
"""What goes on record with an outcome, and is shown to others once that is durable."""

_Begin = Callable[[Asked, Asker, CheckRequest, str], None]


class CheckDesk:
    """Takes questions, owns them until their one outcome is on the officer's screen.

    fatal: told when the ledger says that what it wrote may not be durable.
    """

    def __init__(
        self,
        *,
        settings: ChecksSection,
        slots: SlotsSection,
        rules: Rules,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        pnc: Pnc,
        keyed: Keyed,
        register: VehicleRegister | None,
        courier: Posts,
        publish: Callable[[Event], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._keyed = keyed
        self._courier = courier
        self._publish = publish
        self._fatal = fatal
        most = TASKS_PER_CHECK * (settings.queue + 4 * settings.concurrency + 64)
        self.crew = Crew(name="check", most=most, journal=journal, meter=meter)
        self._timers = Timers(clock, self.crew)
        self._memory = CheckMemory(
            settled=settings.settled_memory,
            typed_repeat_s=settings.typed_repeat_s,
            since_s=clock.monotonic_s(),
        )
        self.voice = CheckVoice(clock=clock, courier=courier, slots=slots, stale_s=settings.stale_s)
        self._early = EarlyCancels(meter)
        self._scribe = Scribe(clock=clock, rules=lambda: self._rules)
        self._clocks = TerminalClocks()
        self._untold: dict[str, Timer] = {}
        """Of each check with an outcome of which its terminal may not know yet: until when."""
        self._trials = Trials(ledger=ledger, clock=clock, ids=ids, crew=self.crew, fatal=fatal)
        self.clock_seen: Callable[[Issi, float], None] = lambda _terminal, _skew_s: None
        """Told how far a terminal's clock is off, with each check that says when it was sent."""
        self.danger_arrived: Callable[[Issi, str, str], None] = lambda _terminal, _id, _short: None
        """Told of the first part of an answer with danger words, while others are under way."""
        self.lacks: Callable[[Check], tuple[list[Change], Callable[[], None]]] = lambda _check: (
            [],
            _nothing,
        )
        """Of an answer that may be partial: what waits for the rest of it, written with it; and
        called once that is durable."""
        self.control_copy: Callable[[Check], list[Change]] = lambda _check: []
        """What goes on record with an outcome for an operator who asked."""
        self.hold_seen: Callable[[Check], None] = lambda _check: None
        """Told each time that a check goes on whose answer is held first."""
        self.covert: Callable[[Check], Told] = lambda _check: ([], [], _nothing)
        """Of an answer of which something was withheld from the radio: who is told."""
        self.within_limit: Callable[[str], bool] = lambda _officer: True
        """Whether this officer may ask one more question."""
        self.challenge: Callable[[Check], Challenged] = lambda _check: ([], [], _nothing)
        """Of a question that is about to be asked: what goes on record with it if it must be
        explained, and who is told once that is durable."""
        self.place_of: Callable[[Issi, LocationFix | None], tuple[float, float, float] | None] = (
            lambda _issi, _along: None
        )
        """Where a terminal is, and how many seconds old that is; given what came along."""
        self._repeats = CheckRepeats(
            clock=clock,
            memory=self._memory,
            ledger=ledger,
            journal=journal,
            scribe=self._scribe,
            voice=self.voice,
            courier=courier,
            rules=lambda: self._rules,
            same_holder=self._same_holder,
            feed=self._feed,
            fatal=fatal,
        )
        self._holds = CheckHolds(
            settings,
            clock=clock,
            crew=self.crew,
            voice=self.voice,
            scribe=self._scribe,
            rules=lambda: self._rules,
            feed=self._feed,
            commit=self._commit,
            outbox=self._outbox,
        )
        self._register: Asking | None = None
        """The way to the vehicle register; None where there is none."""
        if register is not None:
            self._register = self._way_to("register", AtRegister(register), None)
        beside = self._register.look_up if self._register is not None else None
        self._asking = self._way_to("pnc", pnc, beside)

    def _way_to(self, of: str, source: Pnc, beside: Beside | None) -> Asking:
        return Asking(
            self._settings,
            of=of,
            beside=beside,
            clock=self._clock,
            ids=self._ids,
            meter=self._meter,
            journal=self._journal,
            pnc=source,
            crew=self.crew,
            timers=self._timers,
            publish=self._publish,
            feed=self._feed,
            fault=self._fault,
            find=self._memory.find_open,
            query=self._scribe.query,
            judge=self._judge,
            unused=self._reply_unused,
        )

    def _at(self, check: Check) -> Asking:
        """Who is asked for this check."""
        if check.plan.pnc or self._register is None:
            return self._asking
        return self._register

    # ----------------------------------------------------------------- what comes in

    def submit(self, envelope: Envelope, request: CheckRequest) -> None:
        """A question has come. Synchronous up to the first write; `settle` follows the commit."""
        asker = self._asker(envelope)
        if asker is None:
            return
        how = Asked.by_radio(envelope)
        if envelope.redelivered and not self.crew.full:
            self._own(self._try_again(how, asker, request), how.settle)
            return
        self.take(asker, request, how)

    def take(self, asker: Asker, request: CheckRequest, how: Asked) -> None:
        """A question, whoever brought it: a radio, or somebody for its officer."""
        self._try(how, asker, request, self._begin)

    def ask_for(
        self,
        asker: Asker,
        request: CheckRequest,
        settle: Callable[[], None],
        *,
        dedupe: str,
        quiet: bool,
    ) -> None:
        """An operator asks for an officer. quiet: no radio is answered."""
        how = Asked(
            settle=settle,
            received_at_ms=self._clock.wall_ms(),
            received_at_s=self._clock.monotonic_s(),
            dedupe=dedupe,
            quiet=quiet,
        )
        self.take(asker, request, how)

    def supplement(
        self,
        asker: Asker,
        request: CheckRequest,
        settle: Callable[[], None],
        *,
        parent: str,
        dedupe: str,
    ) -> None:
        """What a partial answer lacked: asked for its officer, who gave no word for it."""
        how = Asked(
            settle=settle,
            received_at_ms=self._clock.wall_ms(),
            received_at_s=self._clock.monotonic_s(),
            parent=parent,
            dedupe=dedupe,
        )
        self.take(asker, request, how)

    def takes(self, *, register: bool) -> int:
        """How many questions this source may be asked now: while its circuit is half open one, to
        try; none while it is open."""
        at = self._register if register else self._asking
        circuit = at.circuit if at is not None else Circuit.OPEN
        return {Circuit.OPEN: 0, Circuit.HALF_OPEN: 1}.get(circuit, self._settings.concurrency)

    def supplementing(self) -> int:
        """Supplements without an outcome."""
        return sum(1 for check in self._memory if check.parent and check.state.outcome is None)

    def asked(self, dedupe: str) -> Check | None:
        """The check that was made of this question."""
        return self._memory.same(dedupe)

    def _try(self, how: Asked, asker: Asker, request: CheckRequest, begin: _Begin) -> None:
        try:
            self._take(how, asker, request, begin)
        # A question that our own code cannot take is a failure of this one check, said aloud.
        except Exception as error:  # noqa: BLE001
            self._poisoned(how, asker, request, error)

    def refuse_malformed(self, envelope: Envelope, message: MalformedCheck) -> None:
        """Somebody asked, but not so that it can be asked on: on record as refused, and told."""
        asker = self._asker(envelope)
        if asker is not None:
            how = Asked.by_radio(envelope)
            self._end_at_once(how, asker, message, Outcome.REFUSED, message.why)

    def cancel(self, terminal: Issi, ref: str, settle: Callable[[], None]) -> str | None:
        """Take back the newest open question of this terminal (or the one meant by `ref`, even if
        it is still on its way).

        Returns what was taken back; None when there is none, and then `settle` is left to the
        caller. What was asked and must not show whether it is answered is not taken back: its
        officer hears the outcome in its slot, and that is all.
        """
        found = self._memory.newest_open(terminal, ref, self.voice.hushed)
        if found is None:
            return self._cancel_early(terminal, ref.upper(), settle) if ref else None
        if found.state.stage is not Stage.OPENING and self.voice.hushed(found):
            settle()
            return found.short
        found.settle_too(settle)
        self._feed(found, Cancelled())
        return found.short

    def _cancel_early(self, terminal: Issi, ref: str, settle: Callable[[], None]) -> str | None:
        now_s = self._clock.monotonic_s()
        asker = self._rules.roster.asker(terminal)
        if asker is None or self._memory.came_since(terminal, ref, now_s - WINDOW_S):
            return None
        self._early.lay(terminal, holder_of(asker), ref, now_s)
        notice = Notice(kind="cancelled", text=rendering.EARLY_CANCEL)
        self._courier.tell(terminal, notice, expires_in_s=RECEIPT_EXPIRES_S)
        settle()
        return ref

    def recall(self, terminal: Issi, ref: str, settle: Callable[[], None]) -> None:
        """Show an answer again: the newest (or the one meant by `ref`) of whoever asked for it,
        while it is not older than an answer may be when it is delivered. Never a second query."""
        if self.crew.full:
            self._meter.count("queue_dropped_total", queue="check", reason="full")
            settle()
            return
        self._own(self._recall(terminal, ref.upper(), settle), settle)

    async def _recall(self, terminal: Issi, ref: str, settle: Callable[[], None]) -> None:
        check = await self._newest_told(terminal, ref)
        if check is not None:
            await self._repeats.recall(check, settle)
            return
        notice = Notice(kind="recall", text=NOTHING_TO_SHOW)
        self._courier.tell(terminal, notice, expires_in_s=RECEIPT_EXPIRES_S)
        settle()

    async def _newest_told(self, terminal: Issi, ref: str) -> Check | None:
        """The ledger says which: memory may hold an old one that is unread, and not the newest."""
        oldest_ms = self._clock.wall_ms() - round(1000 * (self._settings.stale_s + LOOK_BACK_S))
        try:
            rows = await self._ledger.recent_checks(terminal, oldest_ms)
        except LedgerUnavailable:
            self._journal.warn("ledger.unavailable", stage="recall")
            return None
        for row in rows:
            check = self._memory.find(row.id)
            try:
                check = check or read_row(row, self._clock)
            except msgspec.DecodeError:
                continue
            if (not ref or is_called(check, ref)) and self._may_recall(check):
                return self._repeats.known(check)
        return None

    def _may_recall(self, check: Check) -> bool:
        """Whether its officer was told how it ended, on this radio, and not too long ago. Of what
        was refused nothing was told but why."""
        if check.result is None or check.state.outcome in (None, Outcome.REFUSED):
            return False
        if check.state.quiet or self.voice.hushed(check) or not self._same_holder(check):
            return False
        if check.settled_at_s is None or (check.settled_at_ms or 0) > self._clock.wall_ms():
            return False  # our clock was set back: nobody can tell how old it is
        heard_at_s = max(check.settled_at_s, check.slot_s or 0.0)
        return self._clock.monotonic_s() - heard_at_s <= self._settings.stale_s

    def acknowledge(
        self, terminal: Issi, ref: str, part: int, state: AckState, settle: Callable[[], None]
    ) -> None:
        """A part was delivered or read (0: all of it). `ref`: whole id, short form, or empty for
        what was sent last."""
        under_way = self._courier.find(terminal, ref)
        if under_way is not None:
            check = self._memory.find(under_way)
            whole = self._courier.took(under_way, part, state)
        else:
            check, whole = self._memory.newest_of(terminal, ref), state
        if check is None and ref and not self.crew.full:
            self._own(self._acknowledge_old(terminal, ref, state, settle), settle)
            return
        ended = check is not None and check.state.stage in ENDED
        if check is None or whole is None or (under_way is None and not ended):
            # A part is missing, or it was never sent: then it cannot have been read.
            if check is not None and under_way is not None and part == 1 and check.danger:
                self.danger_arrived(check.terminal, check.id, check.short)
            settle()
            return
        check.acked = settle
        self._feed(check, Acknowledged(whole))
        if check.acked is not None:
            # It changed nothing, so nothing is written for it.
            check.acked = None
            settle()

    def knows(self, terminal: Issi, ref: str) -> bool:
        """Whether `ref` names a check of this terminal that memory holds."""
        return (
            self._courier.find(terminal, ref) is not None
            or self._memory.newest_of(terminal, ref) is not None
        )

    def delivery_stale(self, check_id: str) -> None:
        """The Courier gave up: too old, or its officer no longer holds the terminal."""
        check = self._memory.find(check_id)
        if check is not None:
            self._feed(check, WentStale())

    def free_to_receive(self, terminal: Issi, ref: str = "") -> bool:
        """The officer answered the prompt: what waited for that may come, or the one check that is
        meant; whether anything did."""
        found = self._prompted(terminal, ref)
        for check in found:
            self._feed(check, FreeToReceive())
        return bool(found)

    def not_free(self, terminal: Issi, ref: str = "") -> bool:
        """The officer answered the prompt, not now: what waits for that waits on."""
        found = self._prompted(terminal, ref)
        for check in found:
            self._feed(check, NotFree())
        return bool(found)

    def remind(self, check_id: str) -> None:
        """A hit is unread: what its officer was sent goes to them once more, on record where it
        was delivered before."""
        check = self._memory.find(check_id)
        if check is not None and check.state.stage is Stage.DELIVERING:
            if is_hit(check):
                self._courier.again(check.id)
        elif not self.crew.full:
            self._own(self._repeats.remind(check_id), _nothing)

    def held(self) -> tuple[str, ...]:
        """The checks that an operator has not let go yet."""
        return tuple(each.id for each in self._memory if each.state.stage is Stage.HELD)

    @property
    def rules(self) -> Rules:
        """Those of now."""
        return self._rules

    def find_held(self, ref: str) -> Check | None:
        """The newest check of this short form or whole id that is held, or was."""
        return self._memory.held(ref)

    def proposed(self, check: Check) -> Decision | None:
        """What of a held answer its officer may see by the rules of now; None: nothing."""
        return self._holds.proposed(check)

    def rule(self, check_id: str, ruling: Ruling) -> None:
        """An operator decides what becomes of a held answer; `ruling.over` is told once that is on
        record, or could not be. Raises KeyError (none such), ValueError (why it may not be)."""
        check = self._memory.find(check_id)
        if check is None:
            raise KeyError(check_id)
        if check.state.stage is not Stage.HELD:
            raise ValueError(_not_held(check))
        self._holds.rule(check, ruling)

    def _prompted(self, terminal: Issi, ref: str) -> list[Check]:
        return [
            check
            for check in self._memory
            if check.terminal == terminal
            and check.state.stage is Stage.PROMPTED
            and self._same_holder(check)
            and (not ref or ref in (check.short, check.id))
        ]

    def note_time(self, terminal: Issi, sent_ms: int, envelope: Envelope) -> None:
        """A live fix carries a time, too: it teaches how far the terminal's clock is off."""
        if envelope.reference_ms == envelope.received_at_ms:
            self._clocks.note(terminal, sent_ms, envelope.received_at_s, of="fix")

    def rules_changed(self, rules: Rules) -> None:
        """People, policy or words were replaced: what may no longer be shown goes stale now."""
        self._rules = rules
        for check in self._memory:
            self._look_again(check)

    def holder_changed(self, terminal: Issi) -> None:
        """Somebody took or left this radio, or came aboard: likewise."""
        for check in self._memory:
            if check.terminal == terminal:
                self._look_again(check)

    def _look_again(self, check: Check) -> None:
        if check.state.stage in AWAITING and not (
            self._same_holder(check) and may_still_see(check, self._rules)
        ):
            self._feed(check, WentStale())

    def tell_stalled(self, stall_s: float) -> None:
        """The disk hangs: whoever waits for it so long is told NO ANSWER now. Whether it was
        written is not known, so the check stays as it is and goes on once that is."""
        now_s = self._clock.monotonic_s()
        for check in self._memory:
            since_s = check.writing_since_s
            if since_s is not None and now_s - since_s >= stall_s:
                self._feed(check, WriteOverdue())

    # ----------------------------------------------------------------- looking in

    def oldest_age_s(self) -> float | None:
        """Age of the oldest check without an outcome; None when there is none."""
        started = [check.accepted_at_s for check in self._memory if check.state.outcome is None]
        return self._clock.monotonic_s() - min(started) if started else None

    def oldest_hit_age_s(self) -> float | None:
        """How long the oldest hit has waited to be read; None when there is none."""
        settled = [check.settled_at_s for check in self._memory if check.danger]
        waiting = [at_s for at_s in settled if at_s is not None]
        return self._clock.monotonic_s() - min(waiting) if waiting else None

    def danger_awaiting(self) -> tuple[Check, ...]:
        """Answers with danger words that are on record and have not reached their terminal."""
        return tuple(
            check
            for check in self._memory
            if check.danger and check.state.stage is Stage.DELIVERING
        )

    def in_flight(self) -> int:
        """Checks without an outcome."""
        return self._memory.waiting

    @property
    def circuit(self) -> Circuit:
        return self._asking.circuit

    def see_circuit(self) -> None:
        """Show how the circuit stands now: it opens to half by time alone."""
        self._asking.see_circuit()
        if self._register is not None:
            self._register.see_circuit()

    # ----------------------------------------------------------------- life

    async def restore(self) -> int:
        """Load what was open and feed `Restarted`; returns how many. A bad row costs itself."""
        parcels = {row.check: row for row in await self._ledger.outbox()}
        restored = 0
        rows = await self._ledger.open_checks()
        until_s = self._clock.monotonic_s() + RESTORE_WAITS_S
        for row in rows:
            try:
                check = read_row(row, self._clock)
                restarted = self._restarted(check)
            # One row that we cannot read or judge must not keep the service from starting (H13).
            except Exception as error:  # noqa: BLE001
                await self._quarantine(row, error)
                continue
            self._take_up(check, restarted, parcels.get(row.id))
            restored += 1
            if restored % RESTORED_AT_ONCE == 0:
                await asyncio.sleep(0)
                await self._room(until_s)
        return restored

    async def _room(self, until_s: float) -> None:
        """Until the crew has room, or until that moment: thousands of ends at once would fill the
        ledger's queue, and a ledger that refuses is an outage, said aloud. One that hangs keeps
        the service from starting no longer than this."""
        while self.crew.full and self._clock.monotonic_s() < until_s:
            await self._clock.sleep(RESTORE_LOOKS_S)

    def _restarted(self, check: Check) -> Restarted:
        remaining_s = (check.deadline_ms - self._clock.wall_ms()) / 1000 - check.set_back_s
        return Restarted(
            remaining_s=min(remaining_s, self._longest_deadline_s()),
            holder_same=self._same_holder(check),
            may_see=may_still_see(check, self._rules),
        )

    def _take_up(self, check: Check, restarted: Restarted, outbox: OutboxRow | None) -> None:
        if check.request is not None:
            now = decide(
                self._rules, check.asker, check.request, now_ms=check.opened_at_ms
            ).decision
            check.plan = self._plan(check.request, now)
        now_ms = self._clock.wall_ms()
        self._memory.open(check, self._clock.monotonic_s())
        self._journal.note("check.restarted", check=check.id, stage=check.state.stage.value)
        opened = opened_event(check)
        if check.state.outcome is None and opened is not None:
            self._publish(opened)
        self._feed(check, restarted)
        if not check.state.outcome or check.state.stage is Stage.CONCLUDING:
            self._watch_deadline(check, check.state.deadline_s)
        if check.state.stage is Stage.DELIVERING:
            left_s = 0.0
            if outbox is not None:
                left_s = (outbox.stale_at_ms - now_ms) / 1000 - check.set_back_s
            if left_s <= 0 or check.result is None:
                self._feed(check, WentStale())
            else:
                self.voice.hand_over(check, min(left_s, self._settings.stale_s))
                if check.slot_s is not None and check.slot_s > self._clock.monotonic_s():
                    self._keep_until(check, check.slot_s, _nothing)

    async def _quarantine(self, row: CheckRow, error: Exception) -> None:
        """Close a row that we cannot go on with: a failure on record, never a silent loss."""
        if not isinstance(error, msgspec.DecodeError):
            self._defect(error)
        self._meter.count("queue_dropped_total", queue="check", reason="unreadable")
        self._journal.warn("check.unreadable", check=row.id)
        ended = Record(
            event="stale" if row.outcome else "answered",
            at_ms=self._clock.wall_ms(),
            check=row.id,
            terminal=row.terminal,
            outcome="" if row.outcome else Outcome.FAILED.value,
            receipt=row.receipt,
            policy=self._rules.policy.version,
            detail=str(Cause.FAULT),
        )
        closed = msgspec.structs.replace(
            row, open=False, outcome=row.outcome or Outcome.FAILED.value
        )
        try:
            await self._ledger.commit([ended], [PutCheck(closed), DropOutbox(row.id)])
        except LedgerUnavailable:
            self._journal.warn("ledger.unavailable", check=row.id, stage="quarantine")

    async def stop(self, deadline_s: float) -> None:
        """Finish the writes under way; what is not finished goes on after the next start."""
        for untold in self._untold.values():
            untold.cancel()
        for check in self._memory:
            if check.timer is not None:
                check.timer.cancel()
            if check.waiter is not None:
                check.waiter.cancel()
        await self.crew.drain(deadline_s)

    # ----------------------------------------------------------------- beginning

    def _asker(self, envelope: Envelope) -> Asker | None:
        """Whoever holds the radio, or nobody; None when it is none of ours."""
        roster = self._rules.roster
        asker = roster.asker(envelope.terminal) or roster.nobody(envelope.terminal)
        if asker is None:
            self._meter.count(
                "frames_rejected_total", link=envelope.link, reason="unknown_terminal"
            )
            envelope.settle()
        return asker

    def _take(self, how: Asked, asker: Asker, request: CheckRequest, begin: _Begin) -> None:
        """A new question, or one that is known already."""
        now_s = how.received_at_s  # it may have waited since, for its turn
        dedupe = how.dedupe or dedupe_key(self._keyed, asker.issi, request, how.received_at_ms)
        same = self._memory.same(dedupe)
        if same is None and request.typed:
            same = self._memory.same_typed(asker.issi, request.typed, now_s)
            if same is not None and _is_nobodys(same, asker, how):
                begin(how, asker, request, dedupe)
                return
        if same is not None:
            self._repeat(same, how.settle)
        elif request.typed and self._memory.typed_may_be_on_record(now_s) and not self.crew.full:
            self._own(self._typed_from_ledger(how, asker, request, begin), how.settle)
        else:
            begin(how, asker, request, dedupe)

    def _begin(self, how: Asked, asker: Asker, request: CheckRequest, dedupe: str) -> None:
        started_s = self._clock.monotonic_s()
        kind = kind_of(request.key)
        deadline_s = self._settings.deadlines_s.get(kind.value, self._settings.deadline_s)
        check = self._new(how, asker, kind, deadline_s)
        check.request, check.dedupe = request, dedupe
        check.ref, check.client_ref, check.typed = request.ref, request.client_ref, request.typed
        self._meter.count(
            "checks_received_total", kind=kind.value, agency=asker.agency, area=asker.area
        )
        decision = self._admitted(check, request).decision
        check.decision, check.level = decision, decision.level.value
        check.plan = self._plan(request, decision)
        self._meter.count(
            "policy_decisions_total",
            level=decision.level.value,
            decision="allowed" if decision.allowed else "denied",
        )
        self._asking.took("authorise", started_s)
        age_s = self._age_s(how, asker.issi, request)
        withdrawn = len(self._early) > 0 and self._early.took(
            asker.issi, check.holder, own_names(request), started_s
        )
        if not decision.allowed:
            self._start(check, close_at_once(Outcome.REFUSED, decision.why))
        elif withdrawn:
            self._start(check, close_at_once(Outcome.REFUSED, Cause.CANCELLED))
        elif age_s > deadline_s:
            self._start(check, close_at_once(Outcome.EXPIRED, Cause.TOO_OLD))
        elif not check.plan.pnc and self._register is None:
            self._start(check, close_at_once(Outcome.REFUSED, Cause.NO_REGISTER))
        elif self._busy(asker.issi):
            self._start(check, close_at_once(Outcome.REFUSED, Cause.BUSY))
        else:
            opening = open_check(
                deadline_s=check.accepted_at_s + deadline_s,
                attempts_max=1 + self._settings.retries,
                hold=decision.hold,
                prompt=decision.prompt,
                place=self._at(check).reserve(check),
                register=not check.plan.pnc,
            )
            self._start(check, opening)

    def _admitted(self, check: Check, request: CheckRequest) -> Admission:
        """Whether this may be asked, and from where it is."""
        asker = check.asker
        found = admit(self._rules, asker, request, now_ms=check.opened_at_ms)
        if found.cause:
            return found
        if not check.parent and not self.within_limit(asker.officer):
            self._meter.count("rate_limited_total", type="question", scope="officer")
            return admission.too_many()
        if not request.location:
            place = self.place_of(asker.issi, request.fix)
            if place is not None:
                lat, lon, check.place_age_s = place
                check.place = originator.position(lat, lon)
        return found

    def _end_at_once(
        self,
        how: Asked,
        asker: Asker,
        message: MalformedCheck,
        outcome: Outcome,
        cause: str,
    ) -> None:
        """For what was asked but cannot be a question: one record, one outcome."""
        check = self._new(how, asker, message.kind, self._settings.deadline_s)
        check.ref, check.client_ref = message.ref, message.client_ref
        self._start(check, close_at_once(outcome, cause))

    def _new(self, how: Asked, asker: Asker, kind: Kind | None, deadline_s: float) -> Check:
        id_ = self._ids.check()
        return Check(
            id=id_,
            receipt=self._ids.receipt(),
            asker=asker,
            holder=holder_of(asker),
            request=None,
            kind=kind,
            opened_at_ms=how.received_at_ms,
            accepted_at_s=how.received_at_s,
            deadline_ms=how.received_at_ms + round(deadline_s * 1000),
            ref="",
            client_ref="",
            typed="",
            dedupe=f"id:{id_}",
            state=CheckState(stage=Stage.OPENING, deadline_s=0.0, quiet=how.quiet),
            settle=how.settle,
            parent=how.parent,
            counter=self._clock.counter,
        )

    def _start(self, check: Check, opening: tuple[CheckState, tuple[Effect, ...]]) -> None:
        state, effects = opening
        if check.state.quiet:
            state = msgspec.structs.replace(state, quiet=True, hold=False, prompt=False)
        check.state = state
        self._memory.open(check, self._clock.monotonic_s())
        self._tally(check)
        self._watch_deadline(
            check, check.accepted_at_s + (check.deadline_ms - check.opened_at_ms) / 1000
        )
        self._carry_out(check, effects)

    def _watch_deadline(self, check: Check, deadline_s: float) -> None:
        """At the deadline the check ends; a moment later its officer has heard so, whatever the
        disk does. On the monotonic clock: a step of the wall clock moves nothing (H08)."""

        def overdue() -> None:
            self._feed(check, WriteOverdue())

        def passed() -> None:
            moment_s = self._clock.monotonic_s() + OVERDUE_S
            check.timer = self._timers.at(moment_s, overdue, self._fault(check))
            self._feed(check, DeadlinePassed())

        check.timer = self._timers.at(deadline_s, passed, self._fault(check))

    def _busy(self, terminal: Issi) -> bool:
        if self._memory.unfinished_at(terminal) >= self._settings.per_terminal_open:
            self._meter.count("queue_dropped_total", queue="check", reason="terminal_limit")
            return True
        most = self._settings.queue + self._settings.concurrency
        if self._memory.waiting >= most or self.crew.full:
            self._meter.count("queue_dropped_total", queue="check", reason="full")
            return True
        return False

    def _age_s(self, how: Asked, terminal: Issi, request: CheckRequest) -> float:
        """How long the question was under way; and tell a terminal whose clock is off."""
        if request.sent_at_ms is None:
            return 0.0
        at = (how.received_at_ms, how.received_at_s)
        self._clocks.note(terminal, request.sent_at_ms, how.received_at_s)
        skew_s = self._clocks.skew_s(terminal, request.sent_at_ms, *at)
        self.clock_seen(terminal, skew_s)
        if abs(skew_s) > self._settings.clock_skew_s:
            way = "SLOW" if skew_s > 0 else "FAST"
            text = f"RADIO CLOCK {abs(round(skew_s))}S {way}. TELL CONTROL"
            notice = Notice(kind="clock", text=text)
            self._courier.tell(terminal, notice, expires_in_s=RECEIPT_EXPIRES_S)
        return self._clocks.age_s(terminal, request.sent_at_ms, *at)

    def _longest_deadline_s(self) -> float:
        return max([self._settings.deadline_s, *self._settings.deadlines_s.values()])

    def _same_holder(self, check: Check) -> bool:
        return self._rules.roster.holder(check.terminal) == check.holder

    def _poisoned(self, how: Asked, asker: Asker, request: CheckRequest, error: Exception) -> None:
        """Rule 1, for a question that did not even become a check."""
        self._defect(error)
        message = MalformedCheck(why="", ref=request.ref, client_ref=request.client_ref)
        self._end_at_once(how, asker, message, Outcome.FAILED, Cause.FAULT)

    async def _try_again(self, how: Asked, asker: Asker, request: CheckRequest) -> None:
        """It was delivered before, perhaps to a life that it ended: after the third, never again,
        and its officer is told (M13)."""
        try:
            key = dedupe_key(self._keyed, asker.issi, request, 0)
            died, through = await self._trials.begin(key)
        except Exception as error:  # noqa: BLE001 - as in submit
            self._poisoned(how, asker, request, error)
            return

        def settle() -> None:
            through()
            how.settle()

        tried = msgspec.structs.replace(how, settle=settle)
        begin = self._begin if died < TRIALS_MOST else self._put_away
        self._try(tried, asker, request, begin)

    def _put_away(self, how: Asked, asker: Asker, request: CheckRequest, dedupe: str) -> None:
        """In place of `_begin`: without a word of it. Its copies are known by it."""
        self._meter.count("queue_dropped_total", queue="check", reason="poison")
        check = self._new(how, asker, None, self._settings.deadline_s)
        check.ref, check.client_ref, check.typed = request.ref, request.client_ref, request.typed
        check.dedupe = dedupe
        self._journal.warn("check.put_away", check=check.id)
        self._start(check, close_at_once(Outcome.FAILED, Cause.FAULT))

    # ----------------------------------------------------------------- repeats

    async def _typed_from_ledger(
        self, how: Asked, asker: Asker, request: CheckRequest, begin: _Begin
    ) -> None:
        """Memory does not reach back far enough: was this text answered a moment ago?"""
        since_ms = how.received_at_ms - round(LOOK_BACK_S * 1000)
        rows: list[CheckRow] = []
        try:
            rows = await self._ledger.recent_checks(asker.issi, since_ms)
        except LedgerUnavailable:
            self._journal.warn("ledger.unavailable", stage="repeat")
        now_ms = self._clock.wall_ms()
        # While we looked, another copy may have come.
        same = self._memory.same_typed(asker.issi, request.typed, how.received_at_s)
        for row in rows:
            if same is not None:
                break
            try:
                check = read_row(row, self._clock)
            except msgspec.DecodeError:
                continue
            # Settled in the future: our clock was set back, its age cannot be told. A fresh answer
            # is the safe one.
            dated = check.settled_at_ms is None or check.settled_at_ms <= now_ms
            same_text = dated and check.typed == request.typed
            if same_text and self._memory.typed_repeats(check, how.received_at_s):
                same = self._repeats.known(check)
        if same is not None and not _is_nobodys(same, asker, how):
            self._repeat(same, how.settle)
            return
        try:
            dedupe = how.dedupe or dedupe_key(self._keyed, asker.issi, request, how.received_at_ms)
            begin(how, asker, request, dedupe)
        except Exception as error:  # noqa: BLE001 - as in submit
            self._poisoned(how, asker, request, error)

    def _repeat(self, check: Check, settle: Callable[[], None]) -> None:
        """The same question again: the same answer, never a second query."""
        if not check.recorded:
            # Its first copy is still being written; that one's receipt answers both.
            check.settle_too(settle)
            return
        self._journal.note("check.duplicate", check=check.id)
        if self.crew.full:
            self._meter.count("queue_dropped_total", queue="check", reason="full")
            settle()
            return
        self._own(self._repeats.answer_again(check, settle), settle)

    # ----------------------------------------------------------------- the engine

    def _feed(self, check: Check, event: CheckEvent) -> None:
        """The one way on: step, then carry out each effect. Never raises."""
        check.state, effects = step(check.state, event, self._clock.monotonic_s())
        self._tally(check)
        self._carry_out(check, effects)
        if check.state.stage not in RULING:
            self._holds.ruled(check)
        if check.state.hold:
            self.hold_seen(check)

    def _carry_out(self, check: Check, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            try:
                self._carry(check, effect)
            # Rule 1: the other effects of this check, and every other check, go on.
            except Exception as error:  # noqa: BLE001
                self._defect(error)
                what = _WRITES.get(type(effect))
                if what is not None:
                    self._feed(check, RecordFailed(what, defect=True))
                elif not isinstance(effect, Show | ShowOutcome | Post):
                    self._feed(check, Faulted())

    def _carry(self, check: Check, effect: Effect) -> None:
        match effect:
            case WriteOpening():
                self._write_opening(check, effect.attempt)
            case WriteAttempt():
                self._write_attempt(check, effect.attempt)
            case WriteOutcome():
                self._write_outcome(check, effect.outcome, effect.cause, effect.disclose)
            case WriteRelease():
                self._holds.write_release(check)
            case WriteWithholding():
                self._holds.write_withholding(check)
            case WriteDisclosure():
                self._holds.write_disclosure(check)
            case WriteLate():
                self.crew.start(self._say_late(check, effect.tell))
            case WriteEnd():
                self._write_end(check, effect.how)
            case GiveReceipt():
                # In this order the bearer's acknowledgement leaves with the receipt, in one write.
                try:
                    if not check.parent:  # its officer gave nothing that a receipt could be for
                        self.voice.receipt(check, accepted=effect.accepted, why=effect.why)
                finally:
                    check.settle_once()
            case Enqueue():
                self._at(check).enqueue(check)
            case LeavePlace():
                self._at(check).leave(check)
            case Ask():
                self._at(check).ask(check, effect.attempt)
            case Pause():
                self._at(check).pause(check, effect.attempts)
            case Show():
                told = "early" if self._shows_early(check) else ""
                self._publish(staged_event(check, self._clock.wall_ms(), told))
            case ShowOutcome():
                self._show_outcome(check)
            case Post():
                self.voice.hand_over(check, self._settings.stale_s)
                self._count_answer(check)
            case AwaitRelease():
                self._holds.held(check)
            case SayWithheld():
                self.voice.withheld(check)
            case PromptOfficer():
                self._holds.prompt(check)
            case PromptLater():
                self._holds.prompt_later(check)
            case SayUnrecorded():
                self._say_unrecorded(check)
            case Rewrite():
                self.crew.start(self._rewrite(check), fault=self._fault(check))
            case Forget():
                self._forget(check)

    def _fault(self, check: Check) -> Callable[[BaseException], None]:
        """Our own defect costs this check its answer, not the service its life."""

        def tell(_error: BaseException) -> None:
            if self._memory.find_open(check.id) is check:
                self._feed(check, Faulted())

        return tell

    def _defect(self, error: BaseException) -> None:
        self._meter.count("task_restarts_total", task="check")
        self._journal.warn("task.restarted", task="check", error=type(error).__name__)

    def _own(self, work: Coroutine[Any, Any, None], settle: Callable[[], None]) -> None:
        """Work on one message; a defect in it still settles that message."""
        self.crew.start(work, fault=lambda _error: settle())

    def _tally(self, check: Check) -> None:
        self._memory.tally(check)
        if check.kind is not None:
            number = self._memory.flying(check.kind)
            self._meter.gauge("checks_in_flight", number, kind=check.kind.value)

    def _judge(self, check: Check, answer: PncAnswer) -> CheckEvent:
        """Policy is asked again, with the rules of now, before anything is shown."""
        roster, quiet = self._rules.roster, check.state.quiet
        asker = roster.asker(check.terminal)
        if quiet:
            # Named by their collar number; whether they hold a radio now does not matter.
            asker = check.asker if roster.officer(check.asker.officer) is not None else None
        if asker is None or check.request is None:
            return Answered(denied=Cause.NOT_YOUR_ROLE)
        decision = decide(self._rules, asker, check.request, now_ms=check.opened_at_ms).decision
        if not decision.allowed:
            return Answered(denied=decision.why or Cause.NOT_YOUR_ROLE)
        check.decision, check.level = decision, decision.level.value
        check.answer = sources.police_lost(answer) if check.plan.lost else answer
        if quiet:
            return Answered()
        return Answered(hold=decision.hold, prompt=decision.prompt)

    # ----------------------------------------------------------------- writing

    def _write_opening(self, check: Check, attempt: int) -> None:
        records = [self._scribe.opened(check)]
        if attempt:
            records += self._asked(check, attempt)
        challenged: list[Record] = []
        kept: list[Change] = []
        if not check.parent:  # a supplement is nobody's asking again
            challenged, kept, check.opening_stands = self.challenge(check)
        changes: list[Change] = [PutCheck(row_of(check)), *kept, *_asked_now(check)]
        self._commit(check, Write.OPENING, records + challenged, changes)

    def _write_attempt(self, check: Check, attempt: int) -> None:
        allowed = self._at(check).allowed()
        if not allowed and check.plan.both and self._register is not None:
            # The register's part can still be told: there, in place of the PNC.
            self._asking.leave(check)
            check.plan = sources.without_pnc(check.plan)
            self._register.take_place(check)
            allowed = self._register.allowed()
        if not allowed:
            # No question, no record of one, and the officer hears at once.
            self._feed(check, CircuitOpen())
            return
        asked = self._asked(check, attempt)
        self._commit(check, Write.ATTEMPT, asked, [PutCheck(row_of(check))])

    def _asked(self, check: Check, attempt: int) -> list[Record]:
        """The records of an attempt, which ask the register only where it may be asked now."""
        wanted = check.plan.both and check.status is None
        check.beside = wanted and self._register is not None and self._register.allowed()
        return self._scribe.asked(check, attempt)

    def _plan(self, request: CheckRequest, decision: Decision) -> Plan:
        return sources.plan(
            request,
            decision.fields,
            decision.status_from,
            register=self._register is not None,
        )

    def _write_outcome(self, check: Check, outcome: Outcome, cause: str, disclose: bool) -> None:
        started_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        disclose = disclose and not check.state.quiet
        if cause == Cause.FAULT:
            make_plain_failure(check, now_ms)
        else:
            make_result(check, outcome, cause, self._rules, now_ms)
        check.settled_at_ms, check.decided_at_s = now_ms, started_s
        self._asking.took("format", started_s)
        records = [] if check.recorded else [self._scribe.opened(check)]
        alarms: list[PutAlarm] = []
        denied = outcome is Outcome.REFUSED and admission.is_denial(cause)
        records.append(
            self._scribe.record(
                check,
                _event_of(outcome, cause, denied=denied),
                outcome=outcome,
                detail=cause if denied or cause in _CAUSES else "MALFORMED",
                attempt=check.state.attempts,
                content=msgspec.json.encode(check.answer)
                if check.answer
                else check.refused_reply or None,
            )
        )
        if check.combined and check.answer is not None:
            both = f"{sources.PNC}, {sources.REGISTER}"
            records.append(self._scribe.record(check, "combined", source=both))
        if check.hidden:
            withheld = "record withheld from the radio"
            records.append(self._scribe.record(check, "security", detail=withheld))
            told, alarms, check.outcome_stands = self.covert(check)
            records += told
        if check.misdirected:
            swapped = "reply to another question, shown to nobody"
            records.append(self._scribe.record(check, "security", detail=swapped))
        stage = stored_stage(check.state, disclose)
        changes: list[Change] = [PutCheck(row_of(check, stage)), *alarms]
        changes += self.control_copy(check)
        changes += [] if check.recorded else _asked_now(check)
        waits, stand = self.lacks(check)
        changes += waits
        check.outcome_stands = _both(check.outcome_stands, stand)
        if disclose:
            if outcome is Outcome.ANSWERED:
                records.append(self._scribe.disclosed(check))
            changes.append(self._outbox(check))
        elif stage is Stage.PROMPTED:
            records.append(self._holds.prompted(check))
        self._commit(check, Write.OUTCOME, records, changes)

    def _outbox(self, check: Check) -> PutOutbox:
        now_ms = self._clock.wall_ms()
        return PutOutbox(outbox_row_of(check, now_ms=now_ms, stale_s=self._settings.stale_s))

    def _commit(
        self, check: Check, what: Write, records: list[Record], changes: list[Change]
    ) -> None:
        # An error that the ledger's port does not know leaves us not knowing what was written:
        # the one thing that we may not guess. The process stops and begins from what is durable.
        before, after = check.written, asyncio.Event()
        check.written = after
        if check.writing_since_s is None:
            check.writing_since_s = self._clock.monotonic_s()

        async def write() -> None:
            # What was decided later is written later, whoever the loop runs first.
            if before is not None:
                await before.wait()
            try:
                await self._write(check, what, records, changes)
            finally:
                after.set()
                if check.written is after:
                    check.written, check.writing_since_s = None, None

        self.crew.start(write(), fault=self._fatal)

    async def _write(
        self, check: Check, what: Write, records: list[Record], changes: list[Change]
    ) -> None:
        started_s = self._clock.monotonic_s()
        try:
            await self._commit_as_new(check, records, changes)
        except DuplicateCheck as error:
            await self._repeats.asked_before(check, error.check)
            return
        except (LedgerUnavailable, DuplicateReceipt):
            self._feed(check, RecordFailed(what))
            return
        except LedgerFatal as error:
            self._fatal(error)
            return
        self._asking.took("audit", started_s)
        if not check.recorded:
            check.recorded = True
            opened = opened_event(check)
            if opened is not None:
                self._publish(opened)
            self._miss_place(check)
            stands, check.opening_stands = check.opening_stands, None
            if stands is not None and what is Write.OPENING:
                stands()
        if what is Write.OUTCOME:
            check.settled_at_s = self._clock.monotonic_s()
            _let_go(check)
            check.settle_once()
            stands, check.outcome_stands = check.outcome_stands, None
            if stands is not None:
                stands()
        self._feed(check, Recorded(what))

    async def _commit_as_new(
        self, check: Check, records: list[Record], changes: list[Change]
    ) -> None:
        """A check that is on record keeps its receipt; nobody was told of one that is not."""
        for drawn in range(1, RECEIPTS_MOST + 1):
            try:
                await self._ledger.commit(*under_its_receipt(check, records, changes))
            except DuplicateReceipt:
                if check.recorded or drawn == RECEIPTS_MOST:
                    raise
                draw_again(check, self._ids)
            else:
                return

    def _miss_place(self, check: Check) -> None:
        """It is being asked, and nobody knows where its officer is: the control room is told."""
        request = check.request
        if request is None or request.location or check.place or check.state.outcome is not None:
            return
        reason = self._rules.policy.reasons.get(request.reason)
        if reason is not None and reason.location:
            self._publish(
                Noticed(
                    kind="no_place",
                    t_ms=self._clock.wall_ms(),
                    short=check.short,
                    check=check.id,
                    terminal=check.terminal,
                )
            )

    async def _rewrite(self, check: Check) -> None:
        await self._clock.sleep(REWRITE_S)
        state = check.state
        if state.stage is Stage.CONCLUDING and state.outcome is not None:
            self._carry_out(check, (WriteOutcome(state.outcome, state.cause, disclose=True),))

    def _write_end(self, check: Check, how: str) -> None:
        settle, check.acked = check.acked or _nothing, None
        self._courier.done(check.id)
        settled_s = check.settled_at_s or check.accepted_at_s
        if how in ("read", "delivered"):
            self._asking.took("read" if how == "read" else "deliver", settled_s)
        self._meter.count("result_parts_total", state=how)
        if check.danger:
            self._meter.count("danger_results_total", state="late" if how == "stale" else how)
            if how == "read":
                waited_s = max(0.0, self._clock.monotonic_s() - settled_s)
                self._meter.observe("hit_ack_latency_seconds", waited_s)
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
        record = self._scribe.record(check, how, recipient=check.holder)
        self._own(self._record_end(check, record, settle), settle)

    async def _record_end(self, check: Check, record: Record, settle: Callable[[], None]) -> None:
        """Put on record how it ended, as soon as the ledger can; until then its row stays open, so
        that after a restart the answer would be sent once more (P8)."""
        if check.written is not None:
            await check.written.wait()
        while True:
            try:
                await self._ledger.commit([record], [PutCheck(row_of(check)), DropOutbox(check.id)])
            except LedgerUnavailable:
                await self._clock.sleep(REWRITE_S)
            except LedgerFatal as error:
                self._fatal(error)
                return
            else:
                settle()
                return

    async def _acknowledge_old(
        self, terminal: Issi, ref: str, state: AckState, settle: Callable[[], None]
    ) -> None:
        """An acknowledgement of an answer that memory no longer holds: still put on record."""
        try:
            row = await self._ledger.last_check(terminal, ref[-4:])
            if row is not None and ref in (row.id, row.short):
                record = Record(
                    event=state.value,
                    at_ms=self._clock.wall_ms(),
                    check=row.id,
                    terminal=terminal,
                    receipt=row.receipt,
                    recipient=self._rules.roster.holder(terminal),
                )
                await self._ledger.commit([record])
                # Whoever watches what is unread does so over a restart, too.
                self._publish(
                    CheckDelivery(
                        short=row.short,
                        check=row.id,
                        terminal=terminal,
                        part=1,
                        state=state.value,
                        t_ms=self._clock.wall_ms(),
                    )
                )
        except LedgerUnavailable:
            self._meter.count("queue_dropped_total", queue="audit", reason="unavailable")
        except LedgerFatal as error:
            self._fatal(error)
            return
        settle()

    async def _say_late(self, check: Check, tell: bool) -> None:
        """On record, then told: that a reply came late, and nothing of it (decision D1). Below L3
        the terminal is not told: when the PNC replied may show what it replied."""
        record = self._scribe.record(check, "late_answer", detail="after the outcome")
        if not await self._on_record(record):
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
        if tell and self._same_holder(check) and not below_l3(check):
            self.voice.late(check)

    def _reply_unused(self, check: Check, attempt: int, reason: str, fingerprint: bytes) -> None:
        """A reply that no outcome mentions (P06, or P04 come late): on record, on no screen."""
        self._journal.warn("security", reason=f"{reason} reply", check=check.id)
        if self.crew.full:
            self._meter.count("queue_dropped_total", queue="audit", reason="full")
            return
        detail = f"{reason} reply, shown to nobody"
        record = self._scribe.record(
            check, "security", attempt=attempt, detail=detail, content=fingerprint or None
        )

        async def write() -> None:
            await self._on_record(record)

        self.crew.start(write())

    async def _on_record(self, record: Record) -> bool:
        """Write what no row changes with; dropped and counted while the ledger is away."""
        try:
            await self._ledger.commit([record])
        except LedgerUnavailable:
            self._meter.count("queue_dropped_total", queue="audit", reason="unavailable")
        except LedgerFatal as error:
            self._fatal(error)
        else:
            return True
        return False

    # ----------------------------------------------------------------- what is said

    def _count_answer(self, check: Check) -> None:
        if check.danger:
            self._meter.count("danger_results_total", state="answered")
        if check.kind is not None:
            answer_s = self._clock.monotonic_s() - check.accepted_at_s
            overhead_s = max(0.0, answer_s - check.pnc_s)
            kind = check.kind.value
            self._meter.observe("check_answer_latency_seconds", answer_s, kind=kind)
            self._meter.observe("check_overhead_seconds", overhead_s, kind=kind)

    def _show_outcome(self, check: Check) -> None:
        now_s = self._clock.monotonic_s()
        done = done_event(check, now_ms=self._clock.wall_ms(), now_s=now_s)
        if done is None:
            return
        if done.outcome is Outcome.ANSWERED and done.result_class.startswith("HIT"):
            self._meter.count("hits_total", 1, **{"class": done.result_class})
        self._journal.note(
            "check.done",
            check=check.id,
            kind=done.kind.value,
            outcome=done.outcome.value,
            elapsed_ms=round(done.elapsed_s * 1000),
            attempt=check.state.attempts,
        )
        if not self.voice.in_slots(check):
            self._publish(done)
            return
        # Those who may know what was answered may know when; all others, when the terminal hears.
        self._publish(msgspec.structs.replace(done, told="early"))
        slot_s = self.voice.answer_slot_s(check)
        heard = msgspec.structs.replace(
            done,
            told="slot",
            t_ms=done.t_ms + round((slot_s - now_s) * 1000),
            elapsed_s=round(slot_s - check.accepted_at_s, 3),
            overhead_s=None,
        )
        self._keep_until(check, slot_s, lambda: self._publish(heard))

    def _shows_early(self, check: Check) -> bool:
        """Whether the step that it now takes tells how long the PNC took."""
        first = check.state.stage is Stage.ASKING and check.state.attempts == 1
        return self.voice.in_slots(check) and not first

    def _keep_until(self, check: Check, slot_s: float, then: Callable[[], None]) -> None:
        """Nobody finds out before then that it has an outcome: neither who listens, nor its
        terminal by asking for more than it may."""
        check.untold = True
        self._tally(check)

        def begins() -> None:
            self._untold.pop(check.id, None)
            check.untold = False
            self._tally(check)
            then()

        self._untold[check.id] = self._timers.at(slot_s, begins)

    def _say_unrecorded(self, check: Check) -> None:
        """The record cannot be written: the officer hears NO ANSWER, once, without content."""
        if not check.unrecorded_said:
            check.unrecorded_said = True
            check.settle_once()
            self.voice.unrecorded(check)

    def _forget(self, check: Check) -> None:
        """It needs no more work; memory keeps it a while for repeats."""
        if not self._memory.close(check, self._clock.monotonic_s()):
            return
        _let_go(check)
        # A task that ended holds its frames, and those the check: kept, every check in memory
        # would keep two of them, in a ring that only the collector opens.
        check.waiter = check.asking = None
        if check.state.stage is Stage.DROPPED:
            self._memory.drop(check)
        # The answer itself is not kept in memory longer than its delivery needs it.
        check.answer = None
        self._tally(check)


def _is_nobodys(known: Check, asker: Asker, how: Asked) -> bool:
    """Whether it was refused because nobody held the radio, and now somebody does: typed again, it
    is a question of theirs. A copy of the old words is not."""
    return not known.holder and asker.officer != "" and not how.redelivered


def _not_held(check: Check) -> str:
    """Why an operator has nothing to decide here: somebody did, or it is over."""
    if check.ruling is not None and check.state.stage is not Stage.STALE:
        return f"{check.ruling.act} BY {check.ruling.by}".upper()
    return "NOT HELD ANY MORE" if check.state.hold else "NOT HELD"


def _event_of(outcome: Outcome, cause: str, *, denied: bool) -> str:
    """The word of the record of an outcome."""
    if cause == Cause.CANCELLED:
        return "cancelled"
    if outcome is Outcome.REFUSED:
        return "denied" if denied else "refused"
    return "answered"


def _let_go(check: Check) -> None:
    """Its deadline is past caring about."""
    timer, check.timer = check.timer, None
    if timer is not None:
        timer.cancel()


def _nothing() -> None:
    """For what no bearer waits for."""


def _asked_now(check: Check) -> list[Change]:
    """A supplement that is on record waits no more: with its question, so that it is asked once."""
    return [DropKept("supplement", check.parent)] if check.parent else []


def _both(first: Callable[[], None] | None, second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        if first is not None:
            first()
        second()

    return both
