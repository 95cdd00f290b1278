"""What is shown of a check: the one stored result, and what the control room sees of its progress.

The result is made once, from one view under one policy; the officer gets those bytes, and so does
whoever asks the same again. The control room never gets the subject, only class and danger words
without covert records (the bus takes them out for those who may not know).
"""

from __future__ import annotations

import msgspec

from gateway import policy, rendering, results, sources
from gateway.admission import Rules, decide, to_do
from gateway.check_rows import Check
from gateway.check_states import Cause, Stage, class_of
from gateway.messages import (
    CheckDone,
    CheckOpened,
    CheckStaged,
    Kind,
    Level,
    Outcome,
    PncAnswer,
    Result,
    SourceSaid,
)
from gateway.policy import View

DEFAULT_BUDGET = 140
NOT_FREE = "not_free"
"""Shown as a stage: the officer answered the prompt, not now."""
_CAUSES = frozenset(Cause)


def below_l3(check: Check) -> bool:
    """Whether nothing about the answer may show in what the terminal hears, or in when."""
    return bool(check.level) and check.level < Level.L3.value


def make_result(check: Check, outcome: Outcome, cause: str, rules: Rules, now_ms: int) -> None:
    """Put the Result, as it will be stored and sent, into the check."""
    view, as_of_ms = _view(check, outcome, cause, rules, now_ms)
    if below_l3(check):
        # How long the PNC took would tell a trace from none.
        as_of_ms = check.opened_at_ms
    answer = _open_answer(check, rules) if outcome is Outcome.ANSWERED else None
    said: tuple[SourceSaid, ...] = ()
    if answer is not None and check.decision is not None:
        said = sources.said(
            answer,
            vehicle=check.kind is Kind.VEHICLE,
            level=view.level,
            groups=check.decision.fields,
            opened_at_ms=check.opened_at_ms,
        )
        if check.plan.register:
            view = msgspec.structs.replace(view, sources=said, asked_at_ms=check.opened_at_ms)
    if check.parent:
        view = msgspec.structs.replace(view, adds_to=check.parent[-4:])
    clock_text = rendering.clock_text(as_of_ms, rules.zone)
    check.shown_class = _class_shown(check, answer, outcome, cause, rules)
    check.shown_danger = results.danger_words(answer, rules.warnings) if answer else ()
    check.released = view.released
    check.danger = bool(view.danger)
    budget = rules.budgets.get(check.asker.device_class, DEFAULT_BUDGET)
    check.waiting, check.danger_fields = "", ()
    if answer is not None and check.decision is not None and check.decision.prompt:
        check.waiting = rendering.waiting_text(check.short, view, budget=budget)
        check.danger_fields = _danger_fields(view, answer, rules)
    pages, texts = rendering.laid_out(
        view,
        short=check.short,
        budget=budget,
        client_ref=check.client_ref,
        clock_text=clock_text,
    )
    check.result = Result(
        ref=check.ref,
        check=check.id,
        short=check.short,
        outcome=outcome,
        result_class=view.result_class,
        danger=view.danger,
        pages=pages,
        texts=texts,
        fields=dict(view.fields),
        not_checked=view.not_checked,
        as_of_ms=as_of_ms,
        level=view.level,
        receipt=check.receipt,
        client_ref=check.client_ref,
        why=cause if outcome is not Outcome.ANSWERED else "",
        parent=check.parent,
        sources=said,
    )
    check.result_bytes = msgspec.json.encode(check.result)


def _class_shown(
    check: Check, answer: PncAnswer | None, outcome: Outcome, cause: str, rules: Rules
) -> str:
    """The class for those who may know it."""
    if answer is None:
        return class_of(outcome, cause).value
    if not check.plan.pnc and not check.plan.lost:
        return results.status_class(answer).value
    return results.classify(answer, rules.warnings).value


def make_plain_failure(check: Check, now_ms: int) -> None:
    """NO ANSWER without anything that may have failed us: no answer, policy or layout (M13)."""
    check.answer = None
    check.hidden = check.danger = False
    check.released, check.shown_danger = (), ()
    check.waiting, check.danger_fields = "", ()
    check.shown_class = class_of(Outcome.FAILED, Cause.FAULT).value
    lines = ("??NO ANSWER", "TREAT AS UNKNOWN", "USE VOICE", f"{check.short} CONTROL TOLD")
    check.result = Result(
        ref=check.ref,
        check=check.id,
        short=check.short,
        outcome=Outcome.FAILED,
        result_class="",
        danger=(),
        pages=("\n".join(lines),),
        texts=(f"{check.short} 1/1 ??NO ANSWER. TREAT AS UNKNOWN. USE VOICE. CONTROL TOLD",),
        fields={},
        not_checked=(),
        as_of_ms=check.opened_at_ms if below_l3(check) else now_ms,
        level="",
        receipt=check.receipt,
        client_ref=check.client_ref,
        why=str(Cause.FAULT),
        parent=check.parent,
    )
    check.result_bytes = msgspec.json.encode(check.result)


def _view(
    check: Check, outcome: Outcome, cause: str, rules: Rules, now_ms: int
) -> tuple[View, int]:
    if outcome is not Outcome.ANSWERED:
        decision = check.decision
        if decision is None and check.request is not None:
            decision = decide(rules, check.asker, check.request, now_ms=check.opened_at_ms).decision
        level = decision.level if decision is not None else None
        view = policy.without_answer(
            outcome, class_of(outcome, cause), cause, check.request, level, to_do(cause)
        )
        return view, now_ms
    assert check.answer is not None
    assert check.decision is not None
    assert check.request is not None
    check.hidden = results.without_covert(check.answer, rules.policy).hidden
    view = policy.project(rules.policy, check.decision, check.request, check.answer, rules.warnings)
    return view, check.answer.as_of_ms


def _danger_fields(view: View, answer: PncAnswer, rules: Rules) -> tuple[str, ...]:
    """The field groups that the view's danger words are of: its own, and the tier's."""
    words, _ = results.shown_words(answer, rules.warnings)
    of = {word.text: word.group for word in words if word.danger}
    return tuple(dict.fromkeys(of.get(text, "safety") for text in view.danger))


def _open_answer(check: Check, rules: Rules) -> PncAnswer | None:
    if check.answer is None:
        return None
    return results.without_covert(check.answer, rules.policy).answer


def may_still_see(check: Check, rules: Rules) -> bool:
    """Policy of this moment: what was released once may not be released any more."""
    if check.state.outcome is not Outcome.ANSWERED or check.result is None:
        return True
    asker = rules.roster.asker(check.terminal)
    if asker is None or check.request is None:
        return False
    decision = decide(rules, asker, check.request, now_ms=check.opened_at_ms).decision
    lowered = check.result.level < decision.level.value  # by an operator, within what was granted
    kept = lowered or set(check.released) - {"safety"} <= decision.fields
    return decision.allowed and decision.level.value >= check.result.level and kept


# --------------------------------------------------------------------------- the control room


def opened_event(check: Check) -> CheckOpened | None:
    """None for what was not even a question of a known kind."""
    if check.kind is None:
        return None
    return CheckOpened(
        short=check.short,
        check=check.id,
        terminal=check.terminal,
        kind=check.kind,
        opened_ms=check.opened_at_ms,
        deadline_ms=check.deadline_ms,
        parent=check.parent,
        operator=check.asker.operator,
    )


def staged_event(check: Check, now_ms: int, told: str) -> CheckStaged:
    waits = check.state.not_free and check.state.stage is Stage.PROMPTED
    return CheckStaged(
        short=check.short,
        check=check.id,
        terminal=check.terminal,
        stage=NOT_FREE if waits else check.state.stage.value,
        t_ms=now_ms,
        parent=check.parent,
        operator=check.asker.operator,
        told=told,
    )


def done_event(check: Check, *, now_ms: int, now_s: float) -> CheckDone | None:
    """The outcome; None for what was not even a question of a known kind."""
    outcome, result = check.state.outcome, check.result
    if check.kind is None or outcome is None or result is None:
        return None
    elapsed_s = now_s - check.accepted_at_s
    return CheckDone(
        short=check.short,
        check=check.id,
        terminal=check.terminal,
        kind=check.kind,
        outcome=outcome,
        result_class=check.shown_class,
        danger=check.shown_danger,
        parts=len(result.pages),
        not_checked=result.not_checked,
        level=result.level,
        t_ms=now_ms,
        elapsed_s=elapsed_s,
        overhead_s=max(0.0, elapsed_s - check.pnc_s),
        cause=check.state.cause if check.state.cause in _CAUSES else "",
        parent=check.parent,
        operator=check.asker.operator,
    )
