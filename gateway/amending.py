"""What an operator may make of a held answer: less of it, never more (pure).

The safety tier is in every level, so that no amending takes it away: policy.project sees to that.
"""

from __future__ import annotations

import msgspec

from gateway.messages import Level
from gateway.policy import FIELD_GROUPS, Decision
from gateway.rulebook import Policy
from gateway.sources import STATUS_GROUP

_MADE_OF: dict[str, frozenset[str]] = {
    "police_interest": frozenset({"wanted", "reports"}),
    "missing_flag": frozenset({"missing"}),
    "stolen_flag": frozenset({"stolen"}),
    "disqualified_flag": frozenset({"disqualified"}),
}
"""A flag tells one thing of these groups: it may be told where all of them may."""


def lower_levels(policy: Policy, decision: Decision) -> tuple[Level, ...]:
    """What it may be amended to, the highest first. A status alone has no safety word, so that of
    it only a level that grants the status says anything."""
    below = [each for each in Level if Level.L0.value < each.value < decision.level.value]
    if decision.status_alone:
        below = [
            each
            for each in below
            if each is not Level.L1 and STATUS_GROUP in policy.levels.get(each.value, ())
        ]
    return tuple(sorted(below, key=lambda each: each.value, reverse=True))


def lowered(policy: Policy, decision: Decision, level: Level) -> Decision:
    """The same decision at a lower level. Raises ValueError when it is not lower, or nothing."""
    if level not in lower_levels(policy, decision):
        raise ValueError("LEVEL: ONLY BELOW THE PROPOSED ONE")
    named = frozenset(policy.levels.get(level.value, ())) & FIELD_GROUPS
    fields = frozenset(group for group in named if _granted(group, decision.fields))
    prompt = decision.prompt and level.value >= Level.L3.value
    if not decision.status_alone:
        fields |= {"safety"}
    return msgspec.structs.replace(decision, level=level, fields=fields, prompt=prompt)


def _granted(group: str, fields: frozenset[str]) -> bool:
    parts = _MADE_OF.get(group)
    return group in fields or (parts is not None and parts <= fields)
