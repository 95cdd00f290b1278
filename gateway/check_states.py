"""The pure state machine of a check: what happened, what follows, exactly one outcome.

`step(state, event, now_s)` never waits, never looks at a clock and never fails. The desk
(checks.py) carries out each effect and feeds back what came of it; a restart loads the state
from the ledger and feeds `Restarted` through the same function.

Rules of this module
1. An outcome is set once, and what is on record or on a screen is never changed (decision D1: a
   late answer is a notice). Only what nobody knows yet may still become a failure: an answer that
   cannot be written is not given.
2. Nothing is asked before `Recorded` says the attempt is on record; nothing is posted before
   `Recorded` says the outcome (and, for an answer, the disclosure) is on record.
3. Every stage before the outcome reacts to `DeadlinePassed`, so every check ends; and an officer
   whose record is stuck is told so (`WriteOverdue`), because silence is no answer either.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from gateway.messages import AckState, Outcome, ResultClass


class Stage(StrEnum):
    """Where a check stands. The words before the dash are what the control room may see."""

    OPENING = "opening"
    """The question is being written; nothing has been asked."""
    QUEUED = "queued"
    """On record; waits for a place at the PNC."""
    NOTING = "noting"
    """An attempt is being written before it is made."""
    ASKING = "pnc"
    """An attempt is at the PNC."""
    PAUSING = "retry"
    """Between two attempts."""
    CONCLUDING = "concluding"
    """The outcome is decided and is being written."""
    HELD = "held"
    """On record; an operator must release it."""
    PROMPTED = "prompted"
    """On record; the officer was asked whether they are free to receive it."""
    RELEASING = "releasing"
    """An operator let it go, and that is being written."""
    WITHHOLDING = "withholding"
    """An operator refused it, and that is being written."""
    DISCLOSING = "disclosing"
    """The disclosure is being written (the officer is free to receive)."""
    DELIVERING = "delivering"
    """Handed to the Courier."""
    DELIVERED = "delivered"
    """The terminal has it; whether it was read is not known."""
    SEEN = "seen"
    STALE = "stale"
    """Its officer did not get it in time, or no longer holds the terminal. Never delivered."""
    CONTROL = "control"
    """Its outcome is for the operator who asked, and for no radio."""
    WITHHELD = "withheld"
    """An operator refused it; its officer is told so. Never delivered."""
    DROPPED = "dropped"
    """Never came on record (ledger down, or the same check is there already)."""


BEFORE_OUTCOME = frozenset({Stage.OPENING, Stage.QUEUED, Stage.NOTING, Stage.ASKING, Stage.PAUSING})
RULING = frozenset({Stage.RELEASING, Stage.WITHHOLDING})
AWAITING = RULING | {Stage.HELD, Stage.PROMPTED, Stage.DISCLOSING, Stage.DELIVERING}
"""On record and not yet with its officer: what may still go stale."""
ENDED = frozenset(
    {Stage.DELIVERED, Stage.SEEN, Stage.STALE, Stage.CONTROL, Stage.WITHHELD, Stage.DROPPED}
)


class Cause(StrEnum):
    """Why there is no answer, in the words of a four-line screen."""

    NONE = ""
    NO_REPLY = "PNC NO REPLY"
    LINK_DOWN = "PNC LINK DOWN"
    PNC_ERROR = "PNC ERROR"
    PNC_INVALID = "PNC: NOT VALID"
    NOT_RECORDED = "CANNOT RECORD"
    TOO_OLD = "SENT TOO LONG AGO"
    INTERRUPTED = "INTERRUPTED"
    BUSY = "BUSY RETRY"
    NOT_YOUR_ROLE = "NOT YOUR ROLE"
    CANCELLED = "CANCELLED"
    FAULT = "GATEWAY ERROR"
    NO_REGISTER = "NO REGISTER HERE"
    REGISTER_NO_REPLY = "DVLA NO REPLY"
    REGISTER_DOWN = "DVLA LINK DOWN"
    REGISTER_ERROR = "DVLA ERROR"
    REGISTER_INVALID = "DVLA: NOT VALID"


_CLASS = {
    Cause.NO_REPLY: ResultClass.TIMEOUT,
    Cause.TOO_OLD: ResultClass.TIMEOUT,
    Cause.LINK_DOWN: ResultClass.UNAVAILABLE,
    Cause.PNC_ERROR: ResultClass.HOST_ERROR,
    Cause.NOT_RECORDED: ResultClass.HOST_ERROR,
    Cause.INTERRUPTED: ResultClass.HOST_ERROR,
    Cause.FAULT: ResultClass.HOST_ERROR,
    Cause.PNC_INVALID: ResultClass.INVALID,
    Cause.REGISTER_NO_REPLY: ResultClass.TIMEOUT,
    Cause.REGISTER_DOWN: ResultClass.UNAVAILABLE,
    Cause.REGISTER_ERROR: ResultClass.HOST_ERROR,
    Cause.REGISTER_INVALID: ResultClass.INVALID,
}
_AT_REGISTER: dict[str, Cause] = {
    Cause.NO_REPLY: Cause.REGISTER_NO_REPLY,
    Cause.LINK_DOWN: Cause.REGISTER_DOWN,
    Cause.PNC_ERROR: Cause.REGISTER_ERROR,
    Cause.PNC_INVALID: Cause.REGISTER_INVALID,
}
"""What the same is called where the PNC was not asked."""


def class_of(outcome: Outcome, cause: str) -> ResultClass:
    """The result class of a non-answer (pnc-domain, 8). An answer's class is not made here."""
    if outcome is Outcome.REFUSED:
        not_valid = cause in (Cause.PNC_INVALID, Cause.REGISTER_INVALID)
        return ResultClass.INVALID if not_valid else ResultClass.DENIED
    if outcome is Outcome.EXPIRED:
        return ResultClass.TIMEOUT
    return _CLASS.get(Cause(cause) if cause in set(Cause) else Cause.FAULT, ResultClass.HOST_ERROR)


class CheckState(msgspec.Struct, frozen=True, kw_only=True):
    """What of a check decides its future. Stored with it, so a restart goes on from here.

    deadline_s: monotonic moment of the deadline, rebased by Restarted. attempts: made so far.
    """

    stage: Stage
    deadline_s: float
    attempts: int = 0
    attempts_max: int = 3
    outcome: Outcome | None = None
    cause: str = ""
    hold: bool = False
    prompt: bool = False
    receipted: bool = False
    withdrawn: bool = False
    """The officer took it back while it was still being written."""
    quiet: bool = False
    """Nothing of it goes to a radio: an operator asked, and alone is answered."""
    not_free: bool = False
    """The officer answered the prompt: not now."""
    register: bool = False
    """The vehicle register alone is asked."""


# --------------------------------------------------------------------------- events


class CheckEvent(msgspec.Struct, frozen=True):
    """Something that happened to one check."""


class Write(StrEnum):
    """What is being written: an event about one write must not be taken for another's."""

    OPENING = "opening"
    ATTEMPT = "attempt"
    OUTCOME = "outcome"
    RELEASE = "release"
    WITHHOLDING = "withholding"
    DISCLOSURE = "disclosure"


_AWAITED = {
    Stage.OPENING: Write.OPENING,
    Stage.NOTING: Write.ATTEMPT,
    Stage.CONCLUDING: Write.OUTCOME,
    Stage.RELEASING: Write.RELEASE,
    Stage.WITHHOLDING: Write.WITHHOLDING,
    Stage.DISCLOSING: Write.DISCLOSURE,
}


class Recorded(CheckEvent, frozen=True):
    """What was to be written is durable."""

    what: Write


class RecordFailed(CheckEvent, frozen=True):
    """It could not be written; nothing of it stands. defect: our own code failed on it, so that
    trying the same again is no use."""

    what: Write
    defect: bool = False


class KnownAlready(CheckEvent, frozen=True):
    """The ledger has the same question from before: this one never existed."""


class WriteOverdue(CheckEvent, frozen=True):
    """The officer should have heard by now, and the record still is not durable."""


class PlaceGranted(CheckEvent, frozen=True):
    """A place at the PNC is free for this check."""


class Answered(CheckEvent, frozen=True):
    """The PNC answered, and the answer is for this check. denied: why the policy of now forbids
    it; hold, prompt: what the policy of now asks for before it may be shown."""

    denied: str = ""
    hold: bool = False
    prompt: bool = False


class AttemptFailed(CheckEvent, frozen=True):
    """The attempt gave no usable answer."""

    cause: Cause
    retryable: bool


class CircuitOpen(CheckEvent, frozen=True):
    """The PNC is known to be down: the attempt is not made, and not put on record either."""


class RetryDue(CheckEvent, frozen=True):
    pass


class DeadlinePassed(CheckEvent, frozen=True):
    pass


class LateAnswer(CheckEvent, frozen=True):
    """A reply after the outcome: kept from everybody, but its coming is told."""


class Cancelled(CheckEvent, frozen=True):
    """The officer took it back."""


class Faulted(CheckEvent, frozen=True):
    """Our own code failed on this check: it costs this check, not the service."""


class Released(CheckEvent, frozen=True):
    """An operator lets go what was held, all of it or less. prompt: whether its officer is asked
    before they get that."""

    prompt: bool = False


class Withheld(CheckEvent, frozen=True):
    """An operator refuses what was held."""


class FreeToReceive(CheckEvent, frozen=True):
    """The officer answered the prompt: now."""


class NotFree(CheckEvent, frozen=True):
    """The officer answered the prompt: not now."""


class Acknowledged(CheckEvent, frozen=True):
    state: AckState


class WentStale(CheckEvent, frozen=True):
    """Its time is over, or its officer no longer holds the terminal."""


class Restarted(CheckEvent, frozen=True):
    """The process began anew. remaining_s: what is left of the deadline by the wall clock.

    holder_same: the officer who asked still holds the terminal. may_see: policy still allows what
    was released and not yet seen.
    """

    remaining_s: float
    holder_same: bool
    may_see: bool = True


# --------------------------------------------------------------------------- effects


class Effect(msgspec.Struct, frozen=True):
    """Something the desk must do; each is one action."""


class WriteOpening(Effect, frozen=True):
    """Record the question; with `attempt`, also that it is about to be asked."""

    attempt: int


class WriteAttempt(Effect, frozen=True):
    attempt: int


class WriteOutcome(Effect, frozen=True):
    """Record the outcome, and in the same transaction the disclosure and the outbox row, unless
    it is held or prompted first."""

    outcome: Outcome
    cause: str
    disclose: bool


class WriteRelease(Effect, frozen=True):
    """Record who released it, and in the same transaction what follows: the disclosure of all of
    it with the outbox row, or that of the danger words that go with the prompt."""


class WriteWithholding(Effect, frozen=True):
    """Record who refused it."""


class WriteDisclosure(Effect, frozen=True):
    pass


class WriteLate(Effect, frozen=True):
    """Record that a reply came after the outcome; tell the officer, without content, unless the
    officer had taken the question back."""

    tell: bool


class GiveReceipt(Effect, frozen=True):
    accepted: bool
    why: str = ""


class Enqueue(Effect, frozen=True):
    pass


class LeavePlace(Effect, frozen=True):
    """Give the place or the queue position back."""


class Ask(Effect, frozen=True):
    attempt: int


class Pause(Effect, frozen=True):
    """Wait before the next attempt (jittered, growing with the number of attempts)."""

    attempts: int


class Show(Effect, frozen=True):
    """Tell the control room the stage."""


class ShowOutcome(Effect, frozen=True):
    pass


class Post(Effect, frozen=True):
    """Hand the result to the Courier."""


class AwaitRelease(Effect, frozen=True):
    """Held: its officer is told so, and it goes stale if no operator releases it in time."""


class SayWithheld(Effect, frozen=True):
    pass


class PromptOfficer(Effect, frozen=True):
    """Say the danger words and FREE TO SPEAK?, again and again, until the officer is free or it
    goes stale."""


class PromptLater(Effect, frozen=True):
    """The officer is not free: remind them in a while, and only that often."""


class SayUnrecorded(Effect, frozen=True):
    """Tell the officer NO ANSWER now, without a record: there is none to be had."""


class Rewrite(Effect, frozen=True):
    """Try to write the outcome again in a while."""


class WriteEnd(Effect, frozen=True):
    """Record how the delivery ended: read, delivered or stale."""

    how: str


class Forget(Effect, frozen=True):
    """The desk may let go of this check."""


Step = tuple[CheckState, tuple[Effect, ...]]


# --------------------------------------------------------------------------- transitions


def open_check(
    *,
    deadline_s: float,
    attempts_max: int,
    hold: bool,
    prompt: bool,
    place: bool,
    register: bool = False,
) -> Step:
    """A question that may be asked. place: one is free at once, so the attempt is written too.
    register: the vehicle register alone is asked."""
    state = CheckState(
        stage=Stage.OPENING,
        deadline_s=deadline_s,
        attempts=1 if place else 0,
        attempts_max=attempts_max,
        hold=hold,
        prompt=prompt,
        register=register,
    )
    return state, (WriteOpening(state.attempts),)


def close_at_once(outcome: Outcome, cause: str) -> Step:
    """A question that ends as it begins: refused, or too old to be asked."""
    state = CheckState(stage=Stage.CONCLUDING, deadline_s=0.0, outcome=outcome, cause=cause)
    return state, (WriteOutcome(outcome, cause, disclose=True),)


def step(state: CheckState, event: CheckEvent, now_s: float) -> Step:
    """What follows from `event`. Unknown combinations change nothing: they are late echoes."""
    match event:
        case Restarted():
            return _restarted(state, event, now_s)
        case DeadlinePassed() if state.stage in BEFORE_OUTCOME:
            if state.stage is Stage.OPENING:
                # Not yet on record: once it is, the record says at once that it expired.
                return state, ()
            return _expired(state)
        case KnownAlready() if state.stage in {Stage.OPENING, Stage.CONCLUDING}:
            return _put(state, stage=Stage.DROPPED), (LeavePlace(), Forget())
        case WriteOverdue() if state.stage in _AWAITED:
            return state, (SayUnrecorded(),)
        case Cancelled() if state.stage is Stage.OPENING:
            return _put(state, withdrawn=True), ()
        case Cancelled() if state.stage in BEFORE_OUTCOME:
            return _conclude(state, Outcome.REFUSED, Cause.CANCELLED)
        case CircuitOpen() if state.stage is Stage.NOTING:
            unmade = _put(state, attempts=state.attempts - 1)
            return _conclude(unmade, Outcome.FAILED, Cause.LINK_DOWN)
        case Faulted() if state.stage in BEFORE_OUTCOME - {Stage.OPENING}:
            return _conclude(state, Outcome.FAILED, Cause.FAULT)
        case LateAnswer() | Answered() if state.outcome is not None:
            return state, (WriteLate(tell=state.outcome is not Outcome.REFUSED),)
        case Answered() | AttemptFailed() if state.stage is Stage.ASKING:
            return _attempt_ended(state, event, now_s)
        case Recorded() | RecordFailed() if event.what is _AWAITED.get(state.stage):
            return _written(state, event, now_s)
        case PlaceGranted() if state.stage is Stage.QUEUED:
            return _note_attempt(state, now_s)
        case RetryDue() if state.stage is Stage.PAUSING:
            return _note_attempt(state, now_s)
        case Released() if state.stage is Stage.HELD:
            return _put(state, stage=Stage.RELEASING, prompt=event.prompt), (WriteRelease(),)
        case Withheld() if state.stage is Stage.HELD:
            return _put(state, stage=Stage.WITHHOLDING), (WriteWithholding(),)
        case FreeToReceive() if state.stage is Stage.PROMPTED:
            return _put(state, stage=Stage.DISCLOSING, not_free=False), (WriteDisclosure(),)
        case NotFree() if state.stage is Stage.PROMPTED:
            return _put(state, not_free=True), (PromptLater(), Show())
        case Acknowledged(state=AckState.READ) if state.stage in {
            Stage.DELIVERING,
            Stage.DELIVERED,
        }:
            return _put(state, stage=Stage.SEEN), (WriteEnd("read"), Forget())
        case Acknowledged() if state.stage is Stage.DELIVERING:
            return _put(state, stage=Stage.DELIVERED), (WriteEnd("delivered"), Forget())
        case WentStale() if state.stage in AWAITING:
            return _put(state, stage=Stage.STALE), (WriteEnd("stale"), Forget())
        case _:
            return state, ()


def _put(state: CheckState, **changes: object) -> CheckState:
    return msgspec.structs.replace(state, **changes)


def _conclude(state: CheckState, outcome: Outcome, cause: str) -> Step:
    """The one door to an outcome."""
    assert state.outcome is None, "an outcome is set once"
    disclose = outcome is not Outcome.ANSWERED or not (state.hold or state.prompt)
    disclose = disclose and not state.quiet
    if state.register:
        cause = _AT_REGISTER.get(cause, cause)
    concluded = _put(state, stage=Stage.CONCLUDING, outcome=outcome, cause=str(cause))
    return concluded, (LeavePlace(), WriteOutcome(outcome, str(cause), disclose))


def _expired(state: CheckState) -> Step:
    return _conclude(
        state, Outcome.EXPIRED, Cause.BUSY if state.stage is Stage.QUEUED else Cause.NO_REPLY
    )


def _note_attempt(state: CheckState, now_s: float) -> Step:
    # The clock decides, not whether the deadline's timer has run: a process that was stopped finds
    # everything due at once, in any order (H03).
    if now_s >= state.deadline_s:
        return _expired(state)
    attempt = state.attempts + 1
    return _put(state, stage=Stage.NOTING, attempts=attempt), (WriteAttempt(attempt),)


def _attempt_ended(state: CheckState, event: CheckEvent, now_s: float) -> Step:
    match event:
        case Answered(denied=why) if why:
            return _conclude(state, Outcome.REFUSED, why)
        case Answered():
            now = _put(state, hold=event.hold, prompt=event.prompt)
            return _conclude(now, Outcome.ANSWERED, Cause.NONE)
        case AttemptFailed(cause=Cause.PNC_INVALID):
            return _conclude(state, Outcome.REFUSED, Cause.PNC_INVALID)
        case AttemptFailed(retryable=True) if (
            state.attempts < state.attempts_max and now_s < state.deadline_s
        ):
            return _put(state, stage=Stage.PAUSING), (Pause(state.attempts), Show())
        case AttemptFailed():
            return _conclude(state, Outcome.FAILED, event.cause)
        case _:
            return state, ()


def _written(state: CheckState, event: CheckEvent, now_s: float) -> Step:
    done = isinstance(event, Recorded)
    defect = isinstance(event, RecordFailed) and event.defect
    match state.stage:
        case Stage.OPENING if not done:
            why = f"{Cause.FAULT if defect else Cause.NOT_RECORDED}. USE VOICE"
            return _put(state, stage=Stage.DROPPED), (
                LeavePlace(),
                # First out of memory: what the receipt lets go may bring the same question again.
                Forget(),
                GiveReceipt(accepted=False, why=why),
            )
        case Stage.OPENING if now_s >= state.deadline_s:
            receipted = _put(state, receipted=True)
            concluded, effects = _conclude(receipted, Outcome.EXPIRED, Cause.NOT_RECORDED)
            return concluded, (GiveReceipt(accepted=True), *effects)
        case Stage.OPENING if state.withdrawn:
            receipted = _put(state, receipted=True)
            concluded, effects = _conclude(receipted, Outcome.REFUSED, Cause.CANCELLED)
            return concluded, (GiveReceipt(accepted=True), *effects)
        case Stage.OPENING if state.attempts:
            asking = _put(state, stage=Stage.ASKING, receipted=True)
            return asking, (GiveReceipt(accepted=True), Ask(state.attempts), Show())
        case Stage.OPENING:
            queued = _put(state, stage=Stage.QUEUED, receipted=True)
            return queued, (GiveReceipt(accepted=True), Enqueue(), Show())
        case Stage.NOTING if done and now_s >= state.deadline_s:
            return _expired(state)
        case Stage.NOTING if done:
            return _put(state, stage=Stage.ASKING), (Ask(state.attempts), Show())
        case Stage.NOTING:
            cause = Cause.FAULT if defect else Cause.NOT_RECORDED
            return _conclude(state, Outcome.FAILED, cause)
        case Stage.CONCLUDING if done:
            return _concluded(state)
        case Stage.CONCLUDING if defect and state.cause != Cause.FAULT:
            # What made this outcome unwritable is left out of the next try (M13).
            plain = _put(state, outcome=Outcome.FAILED, cause=str(Cause.FAULT))
            return plain, (
                WriteOutcome(Outcome.FAILED, str(Cause.FAULT), disclose=not state.quiet),
            )
        case Stage.CONCLUDING:
            # Nothing was shown, so the outcome that nobody knows may still be replaced: an answer
            # that cannot be put on record is not given.
            worse = state
            if state.outcome is Outcome.ANSWERED:
                worse = _put(state, outcome=Outcome.FAILED, cause=str(Cause.NOT_RECORDED))
            return worse, (SayUnrecorded(), Rewrite())
        case Stage.RELEASING if done and state.prompt:
            return _put(state, stage=Stage.PROMPTED), (PromptOfficer(), Show())
        case Stage.RELEASING | Stage.DISCLOSING if done:
            return _put(state, stage=Stage.DELIVERING), (Post(), Show())
        case Stage.WITHHOLDING if done:
            return _put(state, stage=Stage.WITHHELD), (SayWithheld(), Show(), Forget())
        case Stage.RELEASING | Stage.WITHHOLDING:
            # The operator is told, and may try again; its officer waits as before.
            return _put(state, stage=Stage.HELD), ()
        case Stage.DISCLOSING:
            return _put(state, stage=Stage.PROMPTED), (SayUnrecorded(),)
        case _:
            return state, ()


def _concluded(state: CheckState) -> Step:
    receipt: tuple[Effect, ...] = ()
    if not state.receipted:
        accepted = state.outcome is not Outcome.REFUSED
        receipt = (GiveReceipt(accepted=accepted, why="" if accepted else state.cause),)
        state = _put(state, receipted=True)
    if state.quiet:
        return _put(state, stage=Stage.CONTROL), (*receipt, ShowOutcome(), Show(), Forget())
    if state.outcome is Outcome.ANSWERED and state.hold:
        return _put(state, stage=Stage.HELD), (*receipt, ShowOutcome(), AwaitRelease(), Show())
    if state.outcome is Outcome.ANSWERED and state.prompt:
        return _put(state, stage=Stage.PROMPTED), (
            *receipt,
            ShowOutcome(),
            PromptOfficer(),
            Show(),
        )
    return _put(state, stage=Stage.DELIVERING), (*receipt, ShowOutcome(), Post())


def stored_stage(state: CheckState, disclose: bool) -> Stage:
    """The stage to store with the outcome: where the check stands once the write is durable."""
    if state.quiet:
        return Stage.CONTROL
    if state.outcome is Outcome.ANSWERED and not disclose:
        return Stage.HELD if state.hold else Stage.PROMPTED
    return Stage.DELIVERING


def _restarted(state: CheckState, event: Restarted, now_s: float) -> Step:
    """Go on from what is on record (kill points P2-P8)."""
    rebased = _put(state, deadline_s=now_s + event.remaining_s)
    if state.stage in ENDED:
        return rebased, (Forget(),)
    if state.outcome is not None:
        if not (event.holder_same and event.may_see):
            return _put(rebased, stage=Stage.STALE), (WriteEnd("stale"), Forget())
        if state.stage is Stage.PROMPTED:
            return rebased, (PromptOfficer(), Show())
        if state.stage is Stage.HELD:
            return rebased, (AwaitRelease(), Show())
        return rebased, (Show(),)
    if event.remaining_s <= 0:
        concluded, effects = _conclude(rebased, Outcome.EXPIRED, Cause.INTERRUPTED)
        return _put(concluded, receipted=False), effects
    if state.attempts >= state.attempts_max:
        concluded, effects = _conclude(rebased, Outcome.FAILED, Cause.INTERRUPTED)
        return _put(concluded, receipted=False), effects
    queued = _put(rebased, stage=Stage.QUEUED, receipted=True)
    return queued, (GiveReceipt(accepted=True), Enqueue(), Show())
