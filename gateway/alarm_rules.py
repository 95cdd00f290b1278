"""The alarm rules: what each asks of people, and when, as config/alarms.toml says it.

The code knows causes; which alarm a cause makes, how urgent it is and what is to be done about it
is data with a version. Of the data's ids the code knows one: EMG, an officer's call for help, which
no file can delay, silence, shelve or fold into another. Source: console design, 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import msgspec

EMERGENCY = "EMG"

EMERGENCY_CAUSE = "emergency"
COVERT = "COV"
COVERT_CAUSE = "covert"
AGAIN = frozenset(
    {
        *("link_down", "link_silent", "pnc_down", "undelivered", "unread", "hit_unread", "slow"),
        "no_contact",
    }
)
"""Causes that the world tells of anew after a restart; an alarm of another cause, restored, ends
by itself unless its cause is seen again."""
CAUSES: Mapping[str, str] = {
    EMERGENCY_CAUSE: "a terminal sent its emergency",
    "undelivered": "an answer with danger words has not reached its terminal",
    "unread": "an answer with danger words was delivered, and its officer has not read it",
    "hit_unread": "a hit is unread for long, and no other alarm tells of it",
    "unanswered": "a check expired or failed",
    "slow": "a check waits",
    "pnc_down": "the PNC's circuit is open",
    "link_down": "a line or broker is down",
    "link_silent": "a line or broker is up, and nothing is heard over it",
    "position_old": "a unit in emergency or with a check under way has an old position",
    "no_contact": "an officer on duty or a lone worker is overdue",
    "audit_lost": "the audit cannot be written",
    "audit_unproved": "the audit does not verify, lacks records, or does not leave this host",
    "refused": "frames of strangers, floods and the like (gateway/security.py); often: priority 2",
    "reveals": "one operator looks at the content of more than `often` answers",
    "clock_off": "a terminal's clock is off",
    "covert": "an answer held what a radio never sees",
}

REVEALS = "reveals"
COUNTED = ("refused", REVEALS)
"""Causes of which it matters how often they come."""

OPERATOR, SUPERVISOR = AUDIENCES = ("operator", "supervisor")
SOUNDS = ("none", "single", "double", "two-tone")
EVERYBODY = "everybody"
"""The audience of an alarm that nobody acknowledged in time: operators keep it."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. A misspelt key is an error, not a default."""


class AlarmRule(_Table, frozen=True, kw_only=True):
    id: str
    cause: str
    priority: int
    """1 someone may be hurt now, 2 act, 3 know."""
    says: str
    """The alarm in a few words, upper-case."""
    response: str
    """What the operator does; shown with the alarm."""
    on_delay_s: float = 0.0
    """The cause must last so long."""
    off_delay_s: float = 5.0
    """It must be gone so long."""
    ack: bool = True
    """Whether somebody must acknowledge it; if not it goes with its cause."""
    sound: str = "none"
    audience: str = "operator"
    escalate_s: float = 0.0
    """Unacknowledged for so long it is the supervisors', too; 0: never."""
    shelve: bool = False
    collapses: tuple[str, ...] = ()
    """Rules that only raise this alarm's count while its cause lasts."""
    grace: bool = False
    """Not raised in the first seconds of a life, when little is known yet."""
    limit: float | None = None
    """For a cause that is a figure: seconds above which it is there."""
    often: int = 0
    """For a cause that is counted: more than so many within `limit` seconds are much (0: never)."""


class Chatter(_Table, frozen=True, kw_only=True):
    """An alarm that comes and goes."""

    raisings: int = 3
    within_s: float = 60.0


class Flood(_Table, frozen=True, kw_only=True):
    """More alarms than a person can take in (EEMUA 191)."""

    more_than: int = 10
    within_s: float = 600.0
    fewer_than: int = 5


class AlarmRules(_Table, frozen=True, kw_only=True, dict=True):
    version: str
    rules: tuple[AlarmRule, ...]
    shelve_minutes: tuple[int, ...] = (5, 10, 15)
    shelve_reasons: tuple[str, ...]
    """A closed list: what an operator types would stand in the audit for ever."""
    standing_h: float = 24.0
    """An alarm as old as this is put on record as standing, to be reviewed."""
    chatter: Chatter = Chatter()
    flood: Flood = Flood()

    @cached_property
    def by_id(self) -> dict[str, AlarmRule]:
        return {rule.id: rule for rule in self.rules}

    @cached_property
    def by_cause(self) -> dict[str, AlarmRule]:
        return {rule.cause: rule for rule in self.rules}


_ID = re.compile(r"[A-Z]{3}\Z")
_SAYS = re.compile(r"[A-Z0-9 ]{1,24}\Z")
_RESPONSE = re.compile(r"[ -~]{1,160}\Z")
_REASON = re.compile(r"[a-z ]{1,40}\Z")
_LONGEST_S = 3600.0


def check(rules: AlarmRules) -> list[str]:
    """What is wrong with the file, as `place: reason`."""
    found: list[str] = []
    if not rules.version.strip():
        found.append("version: missing")
    ids = [rule.id for rule in rules.rules]
    causes = [rule.cause for rule in rules.rules]
    for place, rule in enumerate(rules.rules):
        where = f"rules[{place}]"
        if ids.count(rule.id) > 1:
            found.append(f"{where}.id: stands twice")
        if rule.cause in CAUSES and causes.count(rule.cause) > 1:
            found.append(f"{where}.cause: stands twice")
        found += [f"{where}.{text}" for text in _check_rule(rule, rules)]
    missing = [cause for cause in CAUSES if cause not in causes]
    if missing:
        found.append(f"rules: no rule for the cause {', '.join(missing)}")
    if not rules.shelve_minutes or not all(1 <= each <= 15 for each in rules.shelve_minutes):
        found.append("shelve_minutes: 1 to 15 each")
    if not rules.shelve_reasons or not all(_REASON.match(each) for each in rules.shelve_reasons):
        found.append("shelve_reasons: words in lower case, at most 40 characters each")
    if not 1 <= rules.standing_h <= 168:
        found.append("standing_h: between 1 and 168")
    if not (2 <= rules.chatter.raisings <= 100 and 10 <= rules.chatter.within_s <= 600):
        found.append("chatter: raisings between 2 and 100, within_s between 10 and 600")
    flood = rules.flood
    if not (0 < flood.fewer_than <= flood.more_than <= 1000 and 60 <= flood.within_s <= 3600):
        found.append("flood: 0 < fewer_than <= more_than <= 1000, within_s between 60 and 3600")
    return found


def _check_rule(rule: AlarmRule, rules: AlarmRules) -> list[str]:
    found: list[str] = []
    if not _ID.match(rule.id):
        found.append("id: three letters A-Z")
    if rule.cause not in CAUSES:
        found.append(f"cause: one of {', '.join(CAUSES)}")
    if rule.priority not in {1, 2, 3}:
        found.append("priority: 1, 2 or 3")
    if not _SAYS.match(rule.says):
        found.append("says: upper-case letters and digits, at most 24")
    if not _RESPONSE.match(rule.response):
        found.append("response: one line of ASCII, at most 160; an alarm without one is noise")
    for key in ("on_delay_s", "off_delay_s", "escalate_s"):
        if not 0 <= getattr(rule, key) <= _LONGEST_S:
            found.append(f"{key}: between 0 and {_LONGEST_S:.0f}")
    if rule.sound not in SOUNDS:
        found.append(f"sound: one of {', '.join(SOUNDS)}")
    if rule.audience not in AUDIENCES:
        found.append(f"audience: one of {', '.join(AUDIENCES)}")
    if rule.limit is not None and not 1 <= rule.limit <= 86400:
        found.append("limit: between 1 and 86400 seconds")
    counted = rule.cause in COUNTED
    if counted and not (1 <= rule.often <= 1000 and rule.limit is not None):
        found.append("often: how many within limit seconds are much, 1 to 1000")
    if rule.often and not counted:
        found.append(f"often: for the causes {', '.join(COUNTED)}")
    if rule.escalate_s and (not rule.ack or rule.audience != OPERATOR):
        found.append("escalate_s: only where an operator must acknowledge")
    if rule.priority == 1:
        if rule.shelve or rule.grace or rule.audience != "operator":
            found.append("priority: what is 1 is never shelved, put off or kept from operators")
        if not rule.ack:
            found.append("ack: what is priority 1 must be acknowledged")
    for other in rule.collapses:
        folded = rules.by_id.get(other)
        if folded is None or other == rule.id:
            found.append(f"collapses: {other} is no other rule")
        elif folded.priority < max(2, rule.priority):
            found.append(f"collapses: {other} is priority 1, or graver than this")
        elif folded.collapses:
            found.append(f"collapses: {other} collapses others itself")
    return found + _check_emergency(rule)


def _check_emergency(rule: AlarmRule) -> list[str]:
    if (rule.id == EMERGENCY) is not (rule.cause == EMERGENCY_CAUSE):
        return [f"id: {EMERGENCY} is the cause {EMERGENCY_CAUSE}, and nothing else is"]
    if (rule.id == COVERT) is not (rule.cause == COVERT_CAUSE):
        return [f"id: {COVERT} is the cause {COVERT_CAUSE}, and nothing else is"]
    if rule.cause == REVEALS and rule.audience != SUPERVISOR:
        return ["audience: of what an operator did supervisors alone"]
    if rule.id == COVERT and rule.audience != SUPERVISOR:
        return [f"audience: of {COVERT} supervisors alone"]
    if rule.id != EMERGENCY:
        return []
    found = []
    if rule.priority != 1 or rule.on_delay_s or rule.collapses:
        found.append("priority: an emergency is 1, without delay, and collapses nothing")
    if not 0 < rule.escalate_s <= 60:
        found.append("escalate_s: an emergency goes to supervisors within 60 s")
    return found
