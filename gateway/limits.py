"""How much one terminal, one officer, and all of them together, may say: token buckets.

Rules of this module
1. Who says too much costs nobody else: a terminal's own bucket is asked first, and what that
   refuses takes nothing from the bucket of all.
2. Questions, reports (statuses, acknowledgements) and positions have buckets of their own: a
   receiver that reports too often never costs its officer a question.
3. An emergency is never refused for the sake of others, nor before its alarm stands: beyond its
   cap only presses are dropped that would have added a count to it.
4. A refusal is the first of an episode, or it is not: only the first is spoken. An episode is over
   when nothing was refused for QUIET_S.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from gateway.messages import Issi
from gateway.settings import LimitsSection

QUIET_S = 30.0
SLOW_DOWN = "SLOW DOWN"
"""What the officer reads, once an episode."""


class Traffic(StrEnum):
    """What a message counts as (metric label `type`)."""

    QUESTION = "question"
    REPORT = "report"
    FIX = "fix"
    EMERGENCY = "emergency"


class Scope(StrEnum):
    """Whose bucket was empty (metric label `scope`)."""

    TERMINAL = "terminal"
    OFFICER = "officer"
    """One officer's, over all radios: judged with the question, for only that says who asks."""
    ALL = "all"


class Refusal(NamedTuple):
    """first: of this episode, so that it is to be spoken."""

    scope: Scope
    first: bool


class Bucket(msgspec.Struct):
    """Holds at most `burst` tokens and gains `per_s` a second; each message takes one."""

    per_s: float
    burst: float
    tokens: float
    at_s: float

    def take(self, now_s: float) -> bool:
        """Whether there was a token. A clock that goes back gives none."""
        if now_s > self.at_s:
            self.tokens = min(self.burst, self.tokens + (now_s - self.at_s) * self.per_s)
            self.at_s = now_s
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def full(self, now_s: float) -> bool:
        return self.tokens + max(0.0, now_s - self.at_s) * self.per_s >= self.burst


class Limits:
    """Every bucket there is. Only terminals that spoke lately have one: a full one says nothing
    and is forgotten (`sweep`)."""

    def __init__(self, section: LimitsSection, now_s: float) -> None:
        self._section = section
        self._own: dict[tuple[Issi, Traffic], Bucket] = {}
        self._all = {
            Traffic.QUESTION: _full(section.all_per_s, section.all_burst, now_s),
            Traffic.REPORT: _full(section.all_per_s, section.all_burst, now_s),
            Traffic.FIX: _full(section.all_fixes_per_s, section.all_fixes_burst, now_s),
        }
        self._officers: dict[str, Bucket] = {}
        self._refused_at_s: dict[tuple[Issi, bool], float] = {}

    def __len__(self) -> int:
        return len(self._own) + len(self._officers) + len(self._refused_at_s)

    def refusal(
        self, terminal: Issi, traffic: Traffic, now_s: float, *, alarm_open: bool = False
    ) -> Refusal | None:
        """None: take it. alarm_open: whether the emergency of this terminal stands already."""
        took = self._bucket(terminal, traffic, now_s).take(now_s)
        if traffic is Traffic.EMERGENCY:
            return None if took or not alarm_open else self._refused(terminal, traffic, now_s)
        if not took:
            return self._refused(terminal, traffic, now_s)
        if not self._all[traffic].take(now_s):
            return self._refused(terminal, traffic, now_s, Scope.ALL)
        return None

    def officer_may(self, officer: str, now_s: float) -> bool:
        """Whether this officer may ask one more question, whatever radio it comes from. officer: a
        collar number, or empty for a radio that nobody holds: that one asks nothing anyway."""
        bucket = self._officers.get(officer)
        if bucket is None:
            per_s = self._section.officer_per_hour / 3600
            bucket = self._officers[officer] = _full(per_s, self._section.officer_burst, now_s)
        return bucket.take(now_s)

    def sweep(self, now_s: float) -> None:
        """Once a second: forget who is within their limits again."""
        for key in [key for key, bucket in self._own.items() if bucket.full(now_s)]:
            del self._own[key]
        for officer in [each for each, bucket in self._officers.items() if bucket.full(now_s)]:
            del self._officers[officer]
        for who in [who for who, at_s in self._refused_at_s.items() if now_s - at_s >= QUIET_S]:
            del self._refused_at_s[who]

    def _bucket(self, terminal: Issi, traffic: Traffic, now_s: float) -> Bucket:
        bucket = self._own.get((terminal, traffic))
        if bucket is None:
            section = self._section
            fix = traffic is Traffic.FIX
            per_s = section.fixes_per_s if fix else section.per_s
            burst = section.fixes_burst if fix else section.burst
            bucket = self._own[terminal, traffic] = _full(per_s, burst, now_s)
        return bucket

    def _refused(
        self, terminal: Issi, traffic: Traffic, now_s: float, scope: Scope = Scope.TERMINAL
    ) -> Refusal:
        who = (terminal, traffic is Traffic.FIX)
        before_s = self._refused_at_s.get(who)
        self._refused_at_s[who] = now_s
        return Refusal(scope, first=before_s is None or now_s - before_s >= QUIET_S)


def _full(per_s: float, burst: int, now_s: float) -> Bucket:
    return Bucket(per_s=per_s, burst=float(burst), tokens=float(burst), at_s=now_s)
