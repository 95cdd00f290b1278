"""Whether this officer may ask this now: the one place that says yes (pure).

`admit` before the question goes out; `decide` again, under the rules of that moment, before
anything of the answer is shown. policy.py says what agency, role and reason allow; here stands the
rest. Whatever is refused here is on record as denied, and the PNC is not asked.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import msgspec

from gateway import coach, originator, policy
from gateway.messages import Asker, CheckRequest, Level
from gateway.policy import Decision
from gateway.roster import Roster
from gateway.rulebook import Policy, Warnings

NOT_BOOKED = "NOT BOOKED"
TRAINING_EXPIRED = "TRAINING EXPIRED"
NO_REQUESTER = "NO REQUESTER"
TOO_MANY = "TOO MANY CHECKS"
"""More than one officer may ask, over all radios."""
CREW_MAY_NOT = "CREW MAY NOT SEE IT"
ASKED_EARLIER = "ASKED BEFORE BOOKING"
OVERTAKEN_MS = 60_000
"""So long after a booking a question of the former officer may still be on its way. Not longer: a
radio's clock may be set back, and its officer must not be refused for that."""
LOWEST = "lowest"

ASK_CONTROL = "ASK CONTROL"
_TO_DO = {
    NOT_BOOKED: "BOOK ON, THEN ASK",
    TRAINING_EXPIRED: ASK_CONTROL,
    NO_REQUESTER: "SAY FOR WHOM YOU ASK",
    policy.REASON_UNKNOWN: "R: SEE THE CARD",
    policy.REASON_NOT_ALLOWED: ASK_CONTROL,
    policy.NOT_YOUR_ROLE: ASK_CONTROL,
    TOO_MANY: "WAIT, OR USE VOICE",
    CREW_MAY_NOT: "ASK CONTROL BY VOICE",
    ASKED_EARLIER: "ASK AGAIN",
}
"""Each denial but those of the coach, and what the officer can do about it."""
_SAY_MORE = "ASK AGAIN: J AND WHY"


class Rules(msgspec.Struct, frozen=True):
    """What a reload may replace, always together."""

    policy: Policy
    warnings: Warnings
    roster: Roster
    budgets: dict[str, int]
    zone: str
    prompting: frozenset[str] = frozenset()
    """The device classes whose officers are asked FREE TO SPEAK? first."""


class Admission(msgspec.Struct, frozen=True):
    """decision: what may be seen. cause: why not, at most 20 characters; empty when admitted."""

    decision: Decision
    cause: str = ""


def decide(rules: Rules, asker: Asker, request: CheckRequest, *, now_ms: int) -> Admission:
    """Booked, trained, then what the policy says. now_ms: of the question, not of the answer: it
    is not lost for a midnight that passes while it is under way."""
    if not asker.officer:
        return _denied(NO_REQUESTER if asker.operator else NOT_BOOKED)
    if asker.accredited_until and _day(now_ms, rules.zone) > asker.accredited_until:
        return _denied(TRAINING_EXPIRED)
    decision = policy.may_ask(rules.policy, asker, request)
    if decision.allowed and rules.policy.crew == LOWEST:
        for collar in asker.crew:
            decision = _no_more_than(rules, decision, collar, asker, request, now_ms)
    if decision.prompt and asker.device_class not in rules.prompting:
        decision = msgspec.structs.replace(decision, prompt=False)
    return Admission(decision, decision.why)


def _no_more_than(
    rules: Rules, decision: Decision, collar: str, asker: Asker, request: CheckRequest, now_ms: int
) -> Decision:
    """The screen is shared: nothing on it that one of those who are aboard may not see."""
    other = rules.roster.officer(collar)
    if other is None or not decision.allowed:
        return Decision(False, Level.L0, why=CREW_MAY_NOT)
    them = msgspec.structs.replace(
        asker,
        officer=other.collar,
        surname=other.surname,
        rank=other.rank,
        agency=other.agency,
        role=other.role,
        accredited_until=other.accredited_until,
        crew=(),
        operator="",
    )
    theirs = decide(rules, them, request, now_ms=now_ms).decision
    if not theirs.allowed:
        return Decision(False, Level.L0, why=CREW_MAY_NOT)
    return msgspec.structs.replace(
        decision,
        level=min(decision.level, theirs.level, key=lambda level: level.value),
        fields=decision.fields & theirs.fields,
        hold=decision.hold or theirs.hold,
        prompt=decision.prompt or theirs.prompt,
    )


def admit(rules: Rules, asker: Asker, request: CheckRequest, *, now_ms: int) -> Admission:
    """`decide`, and what counts only once, when the question is asked: that the line can name who
    asks, and that they say why. What was asked is not lost for a coach that asks for more later."""
    found = decide(rules, asker, request, now_ms=now_ms)
    if found.cause:
        return found
    if _of_a_former_holder(rules, asker, request, now_ms):
        return _denied(ASKED_EARLIER)
    try:
        originator.line(asker, reason="", most=rules.policy.originator_max)
    except originator.NoRequester:
        return _denied(NO_REQUESTER)
    reason = rules.policy.reasons[request.reason]
    missing = coach.judge(request.justification, reason, rules.policy.coach)
    return _denied(missing) if missing else found


def _of_a_former_holder(rules: Rules, asker: Asker, request: CheckRequest, now_ms: int) -> bool:
    """Whether the radio sent this before its officer took it, both by the radio's own clock: it
    overtook nothing, it was overtaken, and would be asked in the name of another."""
    booking = rules.roster.last_booking(asker.issi)
    if booking is None or booking.id != asker.booking or len(booking.officers) != 1:
        return False
    if booking.sent_at_ms is None or request.sent_at_ms is None:
        return False
    fresh = 0 <= now_ms - booking.since_ms < OVERTAKEN_MS
    return fresh and request.sent_at_ms < booking.sent_at_ms


def too_many() -> Admission:
    """Refused for how much this officer asked before."""
    return _denied(TOO_MANY)


def is_denial(cause: str) -> bool:
    """Whether these are words of a refusal made here."""
    return cause in _TO_DO or coach.known(cause)


def to_do(cause: str) -> str:
    """What the officer can do about a refusal, at most 20 characters."""
    return _SAY_MORE if coach.known(cause) else _TO_DO.get(cause, ASK_CONTROL)


def _denied(why: str) -> Admission:
    return Admission(Decision(False, Level.L0, why=why), why)


def _day(now_ms: int, zone: str) -> str:
    return datetime.datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone)).date().isoformat()
