"""A check as the desk holds it, and how it is written down: its row, its records, its outbox row.

What must survive a restart is in `Stored`; what the audit says of a check is made here and nowhere
else, so that every record of one check names the same officer, receipt and policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway import originator, results
from gateway.admission import Rules
from gateway.check_states import ENDED, CheckState, Stage
from gateway.messages import (
    Actor,
    Asker,
    CheckRequest,
    Issi,
    Kind,
    Outcome,
    PncAnswer,
    PncQuery,
    RegisterAnswer,
    Result,
    search_key,
)
from gateway.policy import Decision
from gateway.ports import Change, CheckRow, Clock, Ids, OutboxRow, PutCheck, PutOutbox, Record
from gateway.rulebook import JUSTIFICATION, Policy
from gateway.sources import PNC, REGISTER, Plan
from gateway.timers import Timer

PNC_ALONE = Plan()
WITH_THE_PROMPT = "with the prompt"
"""Detail of the first phase of a disclosure."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What of a check lies in the ledger's state column: enough to go on after a restart."""

    state: CheckState
    request: CheckRequest | None
    ref: str
    client_ref: str
    typed: str
    asker: Asker
    holder: str
    kind: Kind | None
    opened_at_ms: int
    deadline_ms: int
    danger: bool = False
    settled_at_ms: int | None = None
    released: tuple[str, ...] = ()
    counter: str = ""
    accepted_at_s: float | None = None
    settled_at_s: float | None = None
    """Monotonic, by that counter: the wall clock may be set back before this is read (H08)."""
    parent: str = ""
    level: str = ""
    place: str = ""
    waiting: str = ""
    """What its officer is asked before they get it: danger words, FREE TO SPEAK?"""
    danger_fields: tuple[str, ...] = ()
    answer: PncAnswer | None = None
    """While it is held, for less of it may be released; without covert parts."""


class Ruling(msgspec.Struct, kw_only=True):
    """What an operator decides of a held answer. by, role: who. act: released, amended, withheld.
    level: at which; was: what was proposed; why: of a refusal. over: told once it is written, or
    was not."""

    by: str
    role: str
    act: str
    level: str = ""
    was: str = ""
    why: str = ""
    over: Callable[[], None]


def role_of(actor: Actor) -> str:
    """How the record names in what capacity an operator acts."""
    return "+".join(sorted(actor.roles))


@dataclass(slots=True, eq=False, kw_only=True)
class Check:
    """One check in memory. Wall times end in `_ms`, monotonic ones in `_s`.

    settle: lets the bearer's acknowledgement of the question go; None once it went.
    """

    id: str
    receipt: str
    asker: Asker
    holder: str
    request: CheckRequest | None
    kind: Kind | None
    opened_at_ms: int
    accepted_at_s: float
    deadline_ms: int
    ref: str
    client_ref: str
    typed: str
    dedupe: str
    state: CheckState
    settle: Callable[[], None] | None = None
    parent: str = ""
    """The check whose partial answer this one completes."""
    recorded: bool = False
    """Its question is durable."""
    restored: bool = False
    """Taken up after a restart: what was counted then is not counted again."""
    decision: Decision | None = None
    level: str = ""
    """At which it was last decided; over a restart, too. Empty: it is not even a question."""
    plan: Plan = PNC_ALONE
    """Which sources it asks."""
    beside: bool = False
    """This attempt asks the register, too, and its record says so."""
    status: RegisterAnswer | None = None
    """What the register said to an earlier attempt."""
    combined: bool = False
    """Its answer is of both."""
    answer: PncAnswer | None = None
    hidden: bool = False
    """A record was withheld from the radio (covert, BLOCK)."""
    refused_reply: bytes = b""
    """Fingerprint of a reply that was no answer."""
    misdirected: bool = False
    """A reply to another question came in place of its own."""
    danger: bool = False
    shown_class: str = ""
    """Class and danger words for those who may know them; without covert records."""
    shown_danger: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    """The field groups that the result holds."""
    waiting: str = ""
    """The prompt that goes before the result, with all its danger words."""
    danger_fields: tuple[str, ...] = ()
    """The field groups that those are of."""
    result: Result | None = None
    result_bytes: bytes | None = None
    settled_at_s: float | None = None
    settled_at_ms: int | None = None
    """When its outcome was decided; durable a moment later."""
    decided_at_s: float | None = None
    """The same moment, monotonic."""
    counter: str = ""
    """By which its monotonic times count."""
    slot_s: float | None = None
    """When its terminal may first hear of its outcome; monotonic. None until that is ready."""
    untold: bool = False
    """It has an outcome, and its terminal may not find out before its slot."""
    set_back_s: float = 0.0
    """By so much at least the wall clock was set back since its outcome, or since it was asked."""
    outcome_stands: Callable[[], None] | None = None
    """To be called once its outcome is durable."""
    ruling: Ruling | None = None
    """What an operator decided of it, held: newest, written or being written."""
    opening_stands: Callable[[], None] | None = None
    """To be called once its question is durable."""
    acked: Callable[[], None] | None = None
    """Lets the acknowledgement of the terminal's own acknowledgement go."""
    timer: Timer | None = None
    waiter: asyncio.Task[None] | None = None
    asking: asyncio.Task[None] | None = None
    place: str = ""
    """Where it was asked by the last fix, if the officer did not say; as the line has it."""
    place_age_s: float = 0.0
    placed: bool = False
    queued_at_s: float = 0.0
    pnc_s: float = 0.0
    pnc_since_s: float | None = None
    written: asyncio.Event | None = None
    """Set once the newest write has ended: the next one waits for it. None while there is none."""
    writing_since_s: float | None = None
    """Since when there was always something of it being written; None while there is nothing."""
    unrecorded_said: bool = False
    originated: tuple[Policy, str] | None = None
    """The originator line, and the policy that it was made under."""

    @property
    def short(self) -> str:
        return self.id[-4:]

    @property
    def terminal(self) -> Issi:
        return self.asker.issi

    def settle_once(self) -> None:
        """Let the bearer's acknowledgement go: what it carried need not come again."""
        settle, self.settle = self.settle, None
        if settle is not None:
            settle()

    def settle_too(self, settle: Callable[[], None]) -> None:
        """Another copy of the question waits for the same commit."""
        first = self.settle

        def both() -> None:
            if first is not None:
                first()
            settle()

        self.settle = both


# --------------------------------------------------------------------------- rows


def row_of(check: Check, stage: Stage | None = None) -> CheckRow:
    """The check as it is now, or as it will stand at `stage` once this row is durable."""
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
        settled_at_ms=check.settled_at_ms,
        released=check.released,
        counter=check.counter,
        accepted_at_s=check.accepted_at_s,
        settled_at_s=check.decided_at_s,
        parent=check.parent,
        level=check.level,
        waiting=check.waiting if state.prompt and state.stage not in ENDED else "",
        danger_fields=check.danger_fields,
        answer=_kept_answer(check) if state.stage is Stage.HELD else None,
        place=check.place,
    )
    return CheckRow(
        id=check.id,
        short=check.short,
        receipt=check.receipt,
        terminal=check.terminal,
        dedupe=check.dedupe,
        opened_at_ms=check.opened_at_ms,
        state=msgspec.json.encode(stored),
        open=state.stage not in ENDED,
        outcome=state.outcome.value if state.outcome else "",
        result=check.result_bytes if state.outcome is not None else None,
    )


def _kept_answer(check: Check) -> PncAnswer | None:
    return results.without_known(check.answer) if check.answer is not None else None


def read_row(row: CheckRow, clock: Clock) -> Check:
    """A check as the ledger keeps it. Raises msgspec.DecodeError when the row cannot be read."""
    stored = msgspec.json.decode(row.state, type=Stored)
    result = msgspec.json.decode(row.result, type=Result) if row.result else None
    now_s, now_ms = clock.monotonic_s(), clock.wall_ms()
    ours = bool(stored.counter) and stored.counter == clock.counter

    def set_back_s(then_ms: int, then_s: float | None) -> float:
        # A machine that was started anew counts from zero: what it counts is never more than has
        # passed, so this is never more than the clock was set back.
        if not ours or then_s is None:
            return 0.0
        return max(0.0, (now_s - then_s) - (now_ms - then_ms) / 1000)

    back_s = set_back_s(stored.opened_at_ms, stored.accepted_at_s)
    accepted_at_s = now_s - max(0.0, (now_ms - stored.opened_at_ms) / 1000 + back_s)
    settled_at_s: float | None = None
    if stored.settled_at_ms is not None:
        back_s = set_back_s(stored.settled_at_ms, stored.settled_at_s)
        settled_at_s = now_s - max(0.0, (now_ms - stored.settled_at_ms) / 1000 + back_s)
    return Check(
        id=row.id,
        receipt=row.receipt,
        asker=stored.asker,
        holder=stored.holder,
        request=stored.request,
        kind=stored.kind,
        opened_at_ms=stored.opened_at_ms,
        accepted_at_s=accepted_at_s,
        deadline_ms=stored.deadline_ms,
        ref=stored.ref,
        client_ref=stored.client_ref,
        typed=stored.typed,
        dedupe=row.dedupe,
        state=stored.state,
        recorded=True,
        restored=True,
        danger=stored.danger,
        released=stored.released,
        result=result,
        result_bytes=row.result,
        settled_at_s=settled_at_s,
        settled_at_ms=stored.settled_at_ms,
        decided_at_s=settled_at_s,
        counter=clock.counter,
        set_back_s=back_s,
        parent=stored.parent,
        level=stored.level,
        waiting=stored.waiting,
        danger_fields=stored.danger_fields,
        answer=stored.answer,
        place=stored.place,
    )


def outbox_row_of(check: Check, *, now_ms: int, stale_s: float) -> OutboxRow:
    return OutboxRow(
        id=check.id,
        check=check.id,
        terminal=check.terminal,
        holder=check.holder,
        payload=check.result_bytes or b"",
        queued_at_ms=now_ms,
        stale_at_ms=now_ms + round(stale_s * 1000),
        priority=0 if check.danger else 1,
    )


def draw_again(check: Check, ids: Ids) -> None:
    """Another receipt, for a check that nobody was told of: its own was given before."""
    check.receipt = ids.receipt()
    if check.result is not None:
        check.result = msgspec.structs.replace(check.result, receipt=check.receipt)
        check.result_bytes = msgspec.json.encode(check.result)


def under_its_receipt(
    check: Check, records: list[Record], changes: list[Change]
) -> tuple[list[Record], list[Change]]:
    """What was made to be written, with the receipt that the check has now."""
    old = {each.receipt for each in records if each.check == check.id} - {"", check.receipt}
    if not old:
        return records, changes
    return (
        [_renamed_record(each, check) if each.receipt in old else each for each in records],
        [_renamed_change(each, check) for each in changes],
    )


def _renamed_record(record: Record, check: Check) -> Record:
    whole = record.event == "disclosed" and record.detail != WITH_THE_PROMPT
    shown = check.result_bytes if whole else record.content
    return msgspec.structs.replace(record, receipt=check.receipt, content=shown)


def _renamed_change(change: Change, check: Check) -> Change:
    shown = check.result_bytes
    if isinstance(change, PutCheck) and change.row.id == check.id:
        result = shown if change.row.result is not None else None
        return PutCheck(msgspec.structs.replace(change.row, receipt=check.receipt, result=result))
    if isinstance(change, PutOutbox) and change.row.id == check.id:
        return PutOutbox(msgspec.structs.replace(change.row, payload=shown or b""))
    return change


# --------------------------------------------------------------------------- records


class Scribe:
    """Makes the audit's records of a check under the rules of the moment."""

    def __init__(self, *, clock: Clock, rules: Callable[[], Rules]) -> None:
        self._clock = clock
        self._rules = rules

    def record(
        self,
        check: Check,
        event: str,
        *,
        outcome: Outcome | None = None,
        recipient: str = "",
        fields: tuple[str, ...] = (),
        level: str = "",
        attempt: int = 0,
        detail: str = "",
        content: bytes | None = None,
        source: str = "",
        operator: str = "",
        operator_role: str = "",
    ) -> Record:
        """event: one of AUDIT_EVENTS. content: personal data, purgeable. operator: who acted; left
        out, who keyed the question."""
        rules = self._rules().policy
        return Record(
            event=event,
            at_ms=self._clock.wall_ms(),
            latency_ms=max(0, round((self._clock.monotonic_s() - check.accepted_at_s) * 1000)),
            check=check.id,
            terminal=check.terminal,
            officer=check.asker.officer,
            agency=check.asker.agency,
            role=check.asker.role,
            operator=operator or check.asker.operator,
            operator_role=operator_role,
            booking=check.asker.booking,
            reason=check.request.reason if check.request else "",
            operation=check.kind.value if check.kind else "",
            outcome=outcome.value if outcome else "",
            recipient=recipient,
            fields=fields,
            level=level,
            policy=rules.version,
            on_behalf=_on_behalf(check, rules),
            attempt=attempt,
            receipt=check.receipt,
            detail=detail,
            content=content,
            parent=check.parent,
            source=source,
        )

    def prompted(self, check: Check, notice: bytes) -> Record:
        """The first phase of a disclosure: its officer is asked, and told the danger words. There
        is one whatever the answer is."""
        assert check.result is not None
        return self.record(
            check,
            "disclosed",
            outcome=Outcome.ANSWERED,
            recipient=check.holder,
            fields=check.danger_fields,
            level=check.result.level,
            detail=WITH_THE_PROMPT,
            content=notice,
        )

    def ruled(self, check: Check, ruling: Ruling) -> Record:
        """Which operator released, amended or refused what was held. Why is their own words."""
        assert check.result is not None
        refused = ruling.act == "withheld"
        return self.record(
            check,
            ruling.act,
            recipient=check.holder,
            fields=() if refused else check.released,
            level="" if refused else check.result.level,
            detail=f"proposed {ruling.was}" if ruling.act == "amended" else "",
            content=_content(why=ruling.why) if ruling.why else None,
            operator=ruling.by,
            operator_role=ruling.role,
        )

    def opened(self, check: Check) -> Record:
        """The question, word for word, and where the radio was."""
        request = check.request
        if request is None:
            return self.record(check, "opened")
        return self.record(
            check,
            "opened",
            content=_content(
                key=search_key(request.key),
                justification=request.justification,
                location=request.location,
                collar=request.collar,
                fix=check.place,
                fix_age_s=f"{check.place_age_s:.0f}" if check.place else "",
            ),
        )

    def asked(self, check: Check, attempt: int) -> list[Record]:
        """An attempt, before it is made, exactly as it is sent: one for the PNC, one for the
        register, as it is planned. Raises NoRequester."""
        records: list[Record] = []
        if check.plan.pnc:
            content = _content(
                originator=self.originator(check),
                justification=_justification(check, self._rules().policy),
                location=_location(check),
            )
            records.append(
                self.record(check, "asked", attempt=attempt, content=content, source=PNC)
            )
        if check.beside or not check.plan.pnc:
            records.append(self.record(check, "asked", attempt=attempt, source=REGISTER))
        return records

    def disclosed(self, check: Check) -> Record:
        """Who is about to be shown what, before the first send."""
        assert check.result is not None
        return self.record(
            check,
            "disclosed",
            outcome=Outcome.ANSWERED,
            recipient=check.holder,
            fields=check.released,
            level=check.result.level,
            content=check.result_bytes,
        )

    def originator(self, check: Check) -> str:
        """Made once for the record and the question, unless the policy changed between them."""
        policy = self._rules().policy
        if check.originated is not None and check.originated[0] is policy:
            return check.originated[1]
        assert check.request is not None
        line = originator.line(
            check.asker,
            reason=check.request.reason,
            free=_justification(check, policy),
            location=_location(check),
            most=policy.originator_max,
        )
        check.originated = (policy, line)
        return line

    def query(self, check: Check, attempt: int) -> PncQuery:
        """One attempt at the PNC, as its record said it would be. Raises NoRequester."""
        assert check.request is not None
        rules, request = self._rules().policy, check.request
        return PncQuery(
            check=check.id,
            attempt=attempt,
            key=request.key,
            key_text=search_key(request.key),
            reason=request.reason,
            justification=_justification(check, rules),
            originator=self.originator(check) if check.plan.pnc else "",
            location=_location(check),
            on_behalf_of=_on_behalf(check, rules),
            asked_at_ms=self._clock.wall_ms(),
            deadline_s=max(0.0, check.state.deadline_s - self._clock.monotonic_s()),
        )


def _justification(check: Check, policy: Policy) -> str:
    """Why, as the PNC is told: the officer's own words; where none were asked for and none given
    that would do, the policy's for this reason."""
    assert check.request is not None
    own = check.request.justification
    reason = policy.reasons.get(check.request.reason)
    if len(own) >= JUSTIFICATION[0] or reason is None:
        return own
    return f"{reason.default_text} {own}".strip()


def _location(check: Check) -> str:
    """Where, as the officer said, else by the last fix."""
    assert check.request is not None
    return check.request.location or check.place


def _on_behalf(check: Check, policy: Policy) -> str:
    """The agency that the police ask for; empty when they ask for themselves."""
    agency = check.asker.agency
    return agency if agency in policy.on_behalf_agencies else ""


def _content(**parts: str) -> bytes:
    """Personal content of a record: canonical JSON, purgeable, in the chain only as a hash."""
    return msgspec.json.encode({key: value for key, value in sorted(parts.items()) if value})
