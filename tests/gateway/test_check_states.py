"""The state machine of a check, alone: one outcome, set once, in whatever order things happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.check_states import (
    BEFORE_OUTCOME,
    ENDED,
    Acknowledged,
    Answered,
    Ask,
    AttemptFailed,
    AwaitRelease,
    Cancelled,
    Cause,
    CheckEvent,
    CheckState,
    CircuitOpen,
    DeadlinePassed,
    Effect,
    Faulted,
    Forget,
    FreeToReceive,
    GiveReceipt,
    KnownAlready,
    LateAnswer,
    LeavePlace,
    NotFree,
    Pause,
    PlaceGranted,
    Post,
    PromptLater,
    PromptOfficer,
    Recorded,
    RecordFailed,
    Released,
    Restarted,
    RetryDue,
    Rewrite,
    SayUnrecorded,
    SayWithheld,
    Show,
    Stage,
    WentStale,
    Withheld,
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
    class_of,
    close_at_once,
    open_check,
    step,
)
from gateway.messages import AckState, Outcome, ResultClass


def opened(**changes: object) -> CheckState:
    """A fresh check with a place, deadline at 15."""
    given_: dict[str, object] = {
        "deadline_s": 15.0,
        "attempts_max": 3,
        "hold": False,
        "prompt": False,
        "place": True,
    }
    given_.update(changes)
    state, _ = open_check(**given_)  # type: ignore[arg-type]
    return state


def run(
    state: CheckState, *events: CheckEvent, now_s: float = 1.0
) -> tuple[CheckState, list[Effect]]:
    """Feed the events; return the last state and every effect."""
    effects: list[Effect] = []
    for event in events:
        state, more = step(state, event, now_s)
        effects += more
    return state, effects


def kinds(effects: list[Effect]) -> list[type[Effect]]:
    return [type(effect) for effect in effects]


def test_plain_answer_is_written_before_it_is_posted() -> None:
    """Opening, receipt, question, outcome with disclosure, post: in this order."""
    state, first = open_check(deadline_s=15, attempts_max=3, hold=False, prompt=False, place=True)
    assert first == (WriteOpening(1),)
    state, effects = run(state, Recorded(Write.OPENING))
    assert kinds(effects)[:2] == [GiveReceipt, Ask]
    state, effects = run(state, Answered())
    assert [e for e in effects if isinstance(e, WriteOutcome)] == [
        WriteOutcome(Outcome.ANSWERED, "", disclose=True)
    ]
    assert Post not in kinds(effects)
    state, effects = run(state, Recorded(Write.OUTCOME))
    assert Post in kinds(effects)
    state, effects = run(state, Acknowledged(AckState.DELIVERED), Acknowledged(AckState.READ))
    assert [e.how for e in effects if isinstance(e, WriteEnd)] == ["delivered", "read"]
    assert state.stage is Stage.SEEN


def test_without_a_place_the_check_waits_on_record_and_each_attempt_is_noted_first() -> None:
    """A queued check asks only after its attempt is durable."""
    state, effects = run(opened(place=False), Recorded(Write.OPENING))
    assert state.stage is Stage.QUEUED
    assert Ask not in kinds(effects)
    state, effects = run(state, PlaceGranted())
    assert effects == [WriteAttempt(1)]
    state, effects = run(state, Recorded(Write.ATTEMPT))
    assert Ask(1) in effects


def test_at_most_two_retries_and_only_before_the_deadline() -> None:
    """Three attempts in all; a fourth failure, or one after the deadline, is the outcome."""
    state, _ = run(opened(), Recorded(Write.OPENING))
    down = AttemptFailed(Cause.LINK_DOWN, retryable=True)
    for attempt in (2, 3):
        state, effects = run(state, down)
        assert Pause in kinds(effects)
        state, effects = run(state, RetryDue(), Recorded(Write.ATTEMPT))
        assert Ask(attempt) in effects
    state, effects = run(state, down)
    assert state.outcome is Outcome.FAILED
    late, _ = run(opened(), Recorded(Write.OPENING))
    late, effects = run(late, down, now_s=15.0)
    assert late.outcome is Outcome.FAILED
    assert Pause not in kinds(effects)


def test_deadline_expires_and_a_late_answer_is_only_a_notice() -> None:
    """Decision D1: the outcome stays, the officer is told that a reply came, without content."""
    state, _ = run(opened(), Recorded(Write.OPENING))
    state, effects = run(state, DeadlinePassed(), now_s=15.0)
    assert state.outcome is Outcome.EXPIRED
    state, effects = run(state, Recorded(Write.OUTCOME), Answered(), LateAnswer(), now_s=16.0)
    assert state.outcome is Outcome.EXPIRED
    assert kinds(effects).count(WriteLate) == 2
    assert kinds(effects).count(Post) == 1


@pytest.mark.parametrize("waited_for", [PlaceGranted(), RetryDue(), Recorded(Write.ATTEMPT)])
def test_nothing_is_asked_after_the_deadline_though_the_timer_is_late(
    waited_for: CheckEvent,
) -> None:
    """A process that was stopped (H03) finds its deadline and what it waited for due at once, in
    any order: the check expires, it is not asked."""
    state, _ = run(opened(place=False), Recorded(Write.OPENING))
    if waited_for != PlaceGranted():
        state, _ = run(state, PlaceGranted())
    if waited_for == RetryDue():
        down = AttemptFailed(Cause.LINK_DOWN, retryable=True)
        state, _ = run(state, Recorded(Write.ATTEMPT), down)
    state, effects = run(state, waited_for, now_s=15.0)
    assert state.outcome is Outcome.EXPIRED
    assert kinds(effects) == [LeavePlace, WriteOutcome]
    assert run(state, DeadlinePassed(), now_s=15.0) == (state, [])


def test_a_write_that_comes_back_late_is_not_taken_for_another() -> None:
    """The note of an attempt, durable after the deadline, must not count as the outcome."""
    state, _ = run(opened(place=False), Recorded(Write.OPENING), PlaceGranted())
    state, _ = run(state, DeadlinePassed(), now_s=15.0)
    assert state.stage is Stage.CONCLUDING
    state, effects = run(state, Recorded(Write.ATTEMPT), now_s=15.1)
    assert state.stage is Stage.CONCLUDING
    assert effects == []


def test_deadline_while_the_question_is_being_written_expires_without_a_query() -> None:
    """A stalled ledger may not turn into a question nobody waits for any more."""
    state, effects = run(opened(), DeadlinePassed(), Recorded(Write.OPENING), now_s=15.0)
    assert (state.outcome, state.cause) == (Outcome.EXPIRED, Cause.NOT_RECORDED)
    assert Ask not in kinds(effects)
    assert GiveReceipt in kinds(effects)


def test_a_stuck_record_is_told_while_it_is_stuck() -> None:
    """I4: neither a question nor an outcome that hangs on the disk may be silence."""
    opening, effects = run(opened(), DeadlinePassed(), WriteOverdue(), now_s=16.0)
    assert kinds(effects) == [SayUnrecorded]
    assert opening.stage is Stage.OPENING, "once it is durable it still gets its outcome"
    concluding, _ = run(opened(), Recorded(Write.OPENING), Answered())
    _, effects = run(concluding, DeadlinePassed(), WriteOverdue(), now_s=16.0)
    assert kinds(effects) == [SayUnrecorded]
    on_its_way, _ = run(concluding, Recorded(Write.OUTCOME))
    assert run(on_its_way, WriteOverdue(), now_s=16.0)[1] == []


def test_taken_back_while_it_is_written_it_is_not_asked() -> None:
    """An X right behind the question is not lost because the disk is slow."""
    state, effects = run(opened(), Cancelled())
    assert effects == []
    state, effects = run(state, Recorded(Write.OPENING))
    assert (state.outcome, state.cause) == (Outcome.REFUSED, Cause.CANCELLED)
    assert Ask not in kinds(effects)
    assert GiveReceipt(accepted=True) in effects


def test_an_open_circuit_is_a_failure_without_an_attempt() -> None:
    """Nothing is asked, and nothing says that it was."""
    state, _ = run(opened(place=False), Recorded(Write.OPENING), PlaceGranted(), CircuitOpen())
    assert (state.outcome, state.cause, state.attempts) == (Outcome.FAILED, Cause.LINK_DOWN, 0)


def test_the_same_question_from_before_leaves_nothing_behind() -> None:
    for first in (opened(), close_at_once(Outcome.REFUSED, Cause.BUSY)[0]):
        state, effects = run(first, KnownAlready())
        assert state.stage is Stage.DROPPED
        assert kinds(effects) == [LeavePlace, Forget]


def test_our_own_defect_ends_the_check_as_a_failure() -> None:
    """M13: what cannot even be put into words is a plain failure; if that cannot be written
    either, the officer is told and it is tried again."""
    opening, effects = run(opened(), RecordFailed(Write.OPENING, defect=True))
    assert opening.stage is Stage.DROPPED
    assert [e.why for e in effects if isinstance(e, GiveReceipt)] == ["GATEWAY ERROR. USE VOICE"]
    noting, _ = run(opened(place=False), Recorded(Write.OPENING), PlaceGranted())
    noting, _ = run(noting, RecordFailed(Write.ATTEMPT, defect=True))
    assert (noting.outcome, noting.cause) == (Outcome.FAILED, Cause.FAULT)
    state, _ = run(opened(), Recorded(Write.OPENING), Answered())
    state, effects = run(state, RecordFailed(Write.OUTCOME, defect=True))
    assert (state.outcome, state.cause) == (Outcome.FAILED, Cause.FAULT)
    assert effects == [WriteOutcome(Outcome.FAILED, Cause.FAULT, disclose=True)]
    state, effects = run(state, RecordFailed(Write.OUTCOME, defect=True))
    assert kinds(effects) == [SayUnrecorded, Rewrite]


def test_no_record_no_query() -> None:
    """Fail closed: when the opening cannot be written the officer is told to use voice."""
    state, effects = run(opened(), RecordFailed(Write.OPENING))
    assert state.stage is Stage.DROPPED
    assert Ask not in kinds(effects)
    receipts = [e for e in effects if isinstance(e, GiveReceipt)]
    assert [r.accepted for r in receipts] == [False]
    assert "USE VOICE" in receipts[0].why


def test_an_answer_that_cannot_be_recorded_is_not_given() -> None:
    """It becomes a failure, the officer hears so now, and the write is tried again."""
    state, _ = run(opened(), Recorded(Write.OPENING), Answered())
    state, effects = run(state, RecordFailed(Write.OUTCOME))
    assert state.outcome is Outcome.FAILED
    assert kinds(effects) == [SayUnrecorded, Rewrite]
    state, effects = run(state, Recorded(Write.OUTCOME))
    assert Post in kinds(effects)


def test_held_then_prompted_then_disclosed_on_record() -> None:
    """Hold and prompt come before the disclosure record, and that before the post."""
    state, _ = run(opened(hold=True, prompt=True), Recorded(Write.OPENING))
    state, effects = run(state, Answered(hold=True, prompt=True))
    assert WriteOutcome(Outcome.ANSWERED, "", disclose=False) in effects
    state, effects = run(state, Recorded(Write.OUTCOME))
    assert state.stage is Stage.HELD
    assert AwaitRelease in kinds(effects), "else it would be held for ever"
    assert Post not in kinds(effects)
    state, effects = run(state, Released(prompt=True))
    assert effects == [WriteRelease()]
    state, effects = run(state, Recorded(Write.RELEASE))
    assert PromptOfficer in kinds(effects)
    state, effects = run(state, NotFree())
    assert (state.stage, kinds(effects)) == (Stage.PROMPTED, [PromptLater, Show])
    state, effects = run(state, FreeToReceive())
    assert effects == [WriteDisclosure()]
    state, effects = run(state, Recorded(Write.DISCLOSURE))
    assert state.stage is Stage.DELIVERING
    assert Post in kinds(effects)


def held() -> CheckState:
    state, _ = run(
        opened(hold=True), Recorded(Write.OPENING), Answered(hold=True), Recorded(Write.OUTCOME)
    )
    return state


def test_released_without_a_prompt_is_posted_once_that_is_on_record() -> None:
    state, effects = run(held(), Released())
    assert effects == [WriteRelease()]
    state, effects = run(state, Recorded(Write.RELEASE))
    assert (state.stage, kinds(effects)) == (Stage.DELIVERING, [Post, Show])


def test_refused_is_never_delivered_and_its_officer_is_told() -> None:
    state, effects = run(held(), Withheld())
    assert effects == [WriteWithholding()]
    state, effects = run(state, Recorded(Write.WITHHOLDING))
    assert (state.stage, kinds(effects)) == (Stage.WITHHELD, [SayWithheld, Show, Forget])
    assert run(state, Released(), FreeToReceive(), WentStale()) == (state, [])


@pytest.mark.parametrize(
    ("event", "what"), [(Released(), Write.RELEASE), (Withheld(), Write.WITHHOLDING)]
)
def test_a_ruling_that_cannot_be_recorded_leaves_it_held(event: CheckEvent, what: Write) -> None:
    """And whoever decides while another decision is being written decides nothing."""
    state, effects = run(held(), event, Released(), Withheld())
    assert len(effects) == 1
    state, effects = run(state, RecordFailed(what))
    assert (state.stage, effects) == (Stage.HELD, [])


def test_held_answer_goes_stale_undisclosed() -> None:
    """What nobody released in time is never delivered."""
    state, _ = run(
        opened(hold=True), Recorded(Write.OPENING), Answered(hold=True), Recorded(Write.OUTCOME)
    )
    assert state.stage is Stage.HELD
    state, effects = run(state, WentStale(), Released(), FreeToReceive())
    assert state.stage is Stage.STALE
    assert Post not in kinds(effects)


def test_a_hold_that_came_meanwhile_holds() -> None:
    """The policy of now decides whether an answer is held, not that of the question; and a hold
    that is gone holds no more."""
    state, _ = run(opened(), Recorded(Write.OPENING), Answered(hold=True), Recorded(Write.OUTCOME))
    assert state.stage is Stage.HELD
    state, _ = run(opened(hold=True), Recorded(Write.OPENING), Answered(), Recorded(Write.OUTCOME))
    assert state.stage is Stage.DELIVERING


def test_policy_that_changed_meanwhile_refuses() -> None:
    """Asked again before anything is shown: no longer allowed is a refusal, not an answer."""
    state, _ = run(opened(), Recorded(Write.OPENING), Answered(denied=Cause.NOT_YOUR_ROLE))
    assert (state.outcome, state.cause) == (Outcome.REFUSED, Cause.NOT_YOUR_ROLE)


def test_restart_asks_again_only_inside_the_deadline() -> None:
    """Kill points P3 to P5: attempt 2 with its own record, or expired; never more than allowed."""
    asking, _ = run(opened(), Recorded(Write.OPENING))
    state, effects = run(asking, Restarted(remaining_s=5, holder_same=True), now_s=100)
    assert state.stage is Stage.QUEUED
    assert state.deadline_s == 105
    state, effects = run(state, PlaceGranted(), now_s=100)
    assert effects == [WriteAttempt(2)]
    state, effects = run(asking, Restarted(remaining_s=-1, holder_same=True), now_s=100)
    assert state.outcome is Outcome.EXPIRED
    assert Ask not in kinds(effects)
    worn = opened()
    worn = CheckState(stage=Stage.ASKING, deadline_s=15, attempts=3, attempts_max=3)
    state, effects = run(worn, Restarted(remaining_s=5, holder_same=True))
    assert state.outcome is Outcome.FAILED


def test_restart_with_another_holder_goes_stale_undelivered() -> None:
    """What waits belongs to the officer who asked."""
    waiting = CheckState(stage=Stage.DELIVERING, deadline_s=15, outcome=Outcome.ANSWERED)
    for why in ({"holder_same": False}, {"holder_same": True, "may_see": False}):
        state, effects = run(waiting, Restarted(remaining_s=-9, **why))
        assert state.stage is Stage.STALE
        assert kinds(effects)[0] is WriteEnd


def test_what_waits_for_an_officer_waits_on_after_a_restart() -> None:
    """A hold is still bounded in time, a prompt is said again."""
    held = CheckState(stage=Stage.HELD, deadline_s=15, outcome=Outcome.ANSWERED, hold=True)
    assert AwaitRelease in kinds(run(held, Restarted(remaining_s=-9, holder_same=True))[1])
    asked = CheckState(stage=Stage.PROMPTED, deadline_s=15, outcome=Outcome.ANSWERED, prompt=True)
    assert PromptOfficer in kinds(run(asked, Restarted(remaining_s=-9, holder_same=True))[1])


def test_a_late_answer_to_what_was_taken_back_is_recorded_and_not_told() -> None:
    taken_back, _ = run(opened(), Recorded(Write.OPENING), Cancelled())
    assert run(taken_back, LateAnswer())[1] == [WriteLate(tell=False)]


def test_refusals_and_old_questions_are_outcomes_too() -> None:
    """Refused at the door: on record, receipted as refused, posted like any outcome."""
    state, first = close_at_once(Outcome.REFUSED, "NOT YOUR ROLE")
    assert first == (WriteOutcome(Outcome.REFUSED, "NOT YOUR ROLE", disclose=True),)
    state, effects = run(state, Recorded(Write.OUTCOME))
    assert GiveReceipt(accepted=False, why="NOT YOUR ROLE") in effects
    assert Post in kinds(effects)


def test_no_cause_of_silence_maps_to_no_trace() -> None:
    """Decision 10: every way of not answering has a class of its own, never NO_TRACE."""
    for outcome in (Outcome.EXPIRED, Outcome.FAILED, Outcome.REFUSED):
        for cause in [*Cause, "anything else"]:
            assert class_of(outcome, cause) in {
                ResultClass.TIMEOUT,
                ResultClass.UNAVAILABLE,
                ResultClass.HOST_ERROR,
                ResultClass.INVALID,
                ResultClass.DENIED,
            }


EVENTS: list[CheckEvent] = [
    *(Recorded(what) for what in Write),
    *(RecordFailed(what) for what in Write),
    *(RecordFailed(what, defect=True) for what in Write),
    WriteOverdue(),
    KnownAlready(),
    CircuitOpen(),
    PlaceGranted(),
    Answered(),
    Answered(denied=Cause.NOT_YOUR_ROLE),
    Answered(hold=True),
    Answered(prompt=True),
    Answered(hold=True, prompt=True),
    Released(prompt=True),
    Withheld(),
    NotFree(),
    AttemptFailed(Cause.LINK_DOWN, retryable=True),
    AttemptFailed(Cause.PNC_ERROR, retryable=False),
    RetryDue(),
    DeadlinePassed(),
    LateAnswer(),
    Cancelled(),
    Faulted(),
    Released(),
    FreeToReceive(),
    Acknowledged(AckState.DELIVERED),
    Acknowledged(AckState.READ),
    WentStale(),
    Restarted(remaining_s=5.0, holder_same=True),
    Restarted(remaining_s=-5.0, holder_same=True),
    Restarted(remaining_s=5.0, holder_same=True, may_see=False),
    Restarted(remaining_s=5.0, holder_same=False),
]


@given(
    events=st.lists(st.sampled_from(EVENTS), max_size=60),
    hold=st.booleans(),
    prompt=st.booleans(),
    place=st.booleans(),
)
def test_any_order_of_events_keeps_the_rules(
    events: list[CheckEvent], hold: bool, prompt: bool, place: bool
) -> None:
    """Rules 1 and 2 of the module over random histories; a known outcome changes only from an
    answer nobody was shown into a failure."""
    state = opened(hold=hold, prompt=prompt, place=place)
    noted = 1 if place else 0
    durable_outcome: Outcome | None = None
    disclosed = prompted = False
    for now_s, event in enumerate(events):
        before = state
        state, effects = step(state, event, float(now_s))
        if before.outcome is not None and state.outcome is not before.outcome:
            assert state.outcome is Outcome.FAILED, "only ever into a failure"
            assert before.stage is Stage.CONCLUDING
            assert durable_outcome is None, "what is on record or shown does not change"
        if before.stage is Stage.CONCLUDING and event == Recorded(Write.OUTCOME):
            durable_outcome = before.outcome
            kept = before.outcome is Outcome.ANSWERED and (before.hold or before.prompt)
            disclosed = disclosed or not kept
        if isinstance(event, Recorded) and before.stage is Stage.DISCLOSING:
            disclosed = disclosed or event.what is Write.DISCLOSURE
        if isinstance(event, Recorded) and before.stage is Stage.RELEASING:
            prompted = prompted or event.what is Write.RELEASE
            disclosed = disclosed or (prompted and not before.prompt)
        if event == Recorded(Write.OUTCOME) and before.stage is Stage.CONCLUDING:
            prompted = prompted or (before.prompt and not before.hold)
        assert before.stage is not Stage.WITHHELD or state.stage is Stage.WITHHELD
        for effect in effects:
            match effect:
                case WriteAttempt():
                    noted = effect.attempt
                case Ask():
                    assert effect.attempt == noted, "asked before it was on record"
                    assert effect.attempt <= state.attempts_max
                    assert state.outcome is None
                    assert now_s < state.deadline_s, "asked after the deadline"
                case Post():
                    assert durable_outcome is not None, "posted before it was on record"
                    assert disclosed, "sent before the disclosure was on record"
                case PromptOfficer() if not isinstance(event, Restarted):
                    assert prompted, "danger words before they were on record"
                    assert state.outcome is Outcome.ANSWERED, "a failure is never prompted"
                case _:
                    pass
        if state.stage in BEFORE_OUTCOME:
            assert state.outcome is None
        elif state.stage not in ENDED:
            assert state.outcome is not None


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_every_check_ends(events: list[CheckEvent]) -> None:
    """Rule 3: wherever a history left it, deadline, writes and staleness bring it to an end."""
    state = opened(hold=True, prompt=True)
    for now_s, event in enumerate(events):
        state, _ = step(state, event, float(now_s))
    end = [
        DeadlinePassed(),
        *(Recorded(what) for what in Write),
        *(Recorded(what) for what in Write),
        WentStale(),
    ]
    for event in end:
        state, _ = step(state, event, 1e6)
    assert state.stage in ENDED
