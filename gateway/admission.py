"""Whether this officer may ask this now: the one place that says yes (pure).

Asked before the question goes out, and again, under the rules of that moment, before anything of
the answer is shown. policy.py says what agency, role and reason allow; here stands the rest.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import msgspec

from gateway import policy
from gateway.messages import Asker, CheckRequest, Level
from gateway.policy import Decision
from gateway.roster import Roster
from gateway.rulebook import Policy, Warnings

NOT_BOOKED = "NOT BOOKED"
TRAINING_EXPIRED = "TRAINING EXPIRED"


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
        return _denied(NOT_BOOKED)
    if asker.accredited_until and _day(now_ms, rules.zone) > asker.accredited_until:
        return _denied(TRAINING_EXPIRED)
    decision = policy.may_ask(rules.policy, asker, request)
    if decision.prompt and asker.device_class not in rules.prompting:
        decision = msgspec.structs.replace(decision, prompt=False)
    return Admission(decision, decision.why)


def _denied(why: str) -> Admission:
    return Admission(Decision(False, Level.L0, why=why), why)


def _day(now_ms: int, zone: str) -> str:
    return datetime.datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone)).date().isoformat()
