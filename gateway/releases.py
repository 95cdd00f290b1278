"""The desk of answers that an operator must let go: what waits, what it says, who decided.

Rule 1: what an operator reads, and what they decide, is on record before it is shown or sent.
Rule 2: nobody decides on their own question.
Rule 3: two operators at once: one decides, the other reads who.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway import policy, rendering, results
from gateway.admission import Rules
from gateway.amending import lower_levels, lowered
from gateway.check_rows import Check, Ruling, Scribe, role_of
from gateway.check_states import RULING, Stage
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    Actor,
    Event,
    HeldAnswer,
    Level,
    PncAnswer,
    ReleaseChanged,
)
from gateway.policy import Decision
from gateway.ports import Clock, Ledger, Meter

RELEASE, AMEND, REFUSE = "release", "amend", "refuse"
ACTS = {RELEASE: "released", AMEND: "amended", REFUSE: "withheld"}
"""What an operator does -> how the record names it."""
WHY_MOST = 200


class Checks(Protocol):
    """The CheckDesk, as far as this goes."""

    def find_held(self, ref: str) -> Check | None: ...

    def proposed(self, check: Check) -> Decision | None: ...

    def rule(self, check_id: str, ruling: Ruling) -> None: ...


class Releases:
    """The queue, oldest first. Minded: figures that age."""

    def __init__(
        self,
        *,
        checks: Checks,
        rules: Callable[[], Rules],
        clock: Clock,
        ledger: Ledger,
        meter: Meter,
        publish: Callable[[Event], None],
    ) -> None:
        self._checks = checks
        self._rules = rules
        self._clock = clock
        self._ledger = ledger
        self._meter = meter
        self._publish = publish
        self._scribe = Scribe(clock=clock, rules=rules)
        self._open: dict[str, ReleaseChanged] = {}

    # ----------------------------------------------------------------- what waits

    def seen(self, check: Check) -> None:
        """A check that is held, or was, went on."""
        stage = check.state.stage
        known = self._open.get(check.id)
        if stage is Stage.HELD and known is None:
            self._open[check.id] = held = self._held(check)
            self._count(check, "held")
            self._publish(held)
        elif known is not None and stage is not Stage.HELD and stage not in RULING:
            del self._open[check.id]
            over = self._over(check, known)
            if over.state in ("released", "amended"):
                self._count(check, "released")
            self._publish(over)

    def _held(self, check: Check) -> ReleaseChanged:
        result = check.result
        assert result is not None
        now_ms = self._clock.wall_ms()
        # No more than any console has of it; the whole is read on record.
        words = [result.result_class, *result.danger]
        if tier := result.fields.get("safety"):
            words = [f"SAFETY: {tier}"]
        return ReleaseChanged(
            short=check.short,
            check=check.id,
            terminal=check.terminal,
            level=result.level,
            proposed=", ".join(filter(None, words)),
            state="held",
            since_ms=check.settled_at_ms or now_ms,
            t_ms=now_ms,
        )

    def _over(self, check: Check, known: ReleaseChanged) -> ReleaseChanged:
        stage, ruling = check.state.stage, check.ruling
        state = "stale"
        if stage is Stage.WITHHELD:
            state = "refused"
        elif stage is not Stage.STALE and ruling is not None:
            state = ruling.act
        return msgspec.structs.replace(
            known,
            state=state,
            t_ms=self._clock.wall_ms(),
            level=check.result.level if check.result is not None else known.level,
            by=ruling.by if ruling is not None and state != "stale" else "",
        )

    def _count(self, check: Check, decision: str) -> None:
        level = check.result.level if check.result is not None else ""
        self._meter.count("policy_decisions_total", level=level, decision=decision)

    def queue(self) -> tuple[ReleaseChanged, ...]:
        """What waits, the oldest first."""
        return tuple(sorted(self._open.values(), key=lambda each: each.since_ms))

    def known(self, ref: str) -> ReleaseChanged | None:
        """By short form or whole id; also one that is over, while memory has it."""
        check = self._checks.find_held(ref)
        if check is None or check.result is None:
            return None
        waits = self._open.get(check.id)
        return waits or self._over(check, self._held(check))

    def tick(self, _now_s: float, now_ms: int) -> None:
        since_ms = min((each.since_ms for each in self._open.values()), default=now_ms)
        self._meter.gauge("releases_pending", float(len(self._open)))
        self._meter.gauge("release_oldest_age_seconds", max(0.0, (now_ms - since_ms) / 1000))

    unrecorded = 0

    async def record(self) -> None:
        """Nothing of this desk waits for the ledger."""

    # ----------------------------------------------------------------- what it says

    async def read(self, ref: str, actor: Actor) -> HeldAnswer:
        """What the officer would read at each level, and the whole as this operator may see it:
        on record first. Raises KeyError (no such), ValueError (why not), LedgerUnavailable."""
        check, waits = self._waiting(ref)
        decision = self._checks.proposed(check)
        if decision is None or check.result is None or check.answer is None:
            raise ValueError("MAY NOT BE SHOWN ANY MORE: REFUSE IT")
        own = self._own(check, actor)
        answer = results.without_covert(check.answer, self._rules().policy).answer
        levels = {check.result.level: check.result.pages}
        for level in lower_levels(self._rules().policy, decision):
            lower = lowered(self._rules().policy, decision, level)
            levels[level.value], _ = self._pages(check, answer, lower)
        whole: tuple[str, ...] = ()
        fields: tuple[str, ...] = ()
        if own is not None:
            whole, fields = self._pages(check, answer, own)
        held = HeldAnswer(
            release=waits,
            levels=levels,
            whole=whole,
            whole_level=own.level.value if own is not None else "",
        )
        record = self._scribe.record(
            check,
            "shown",
            recipient=f"operator:{actor.id}",
            fields=tuple(dict.fromkeys((*check.released, *fields))),
            level=held.whole_level or check.result.level,
            content=msgspec.json.encode(held),
            operator=actor.id,
            operator_role=role_of(actor),
        )
        await self._ledger.commit([record])
        return held

    def _own(self, check: Check, actor: Actor) -> Decision | None:
        """What this operator may see of it, by the policy's rules for their roles."""
        assert check.request is not None
        return policy.may_read(self._rules().policy, actor.roles, actor.agency, check.request)

    def _pages(
        self, check: Check, answer: PncAnswer, decision: Decision
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        rules = self._rules()
        assert check.request is not None
        view = policy.project(rules.policy, decision, check.request, answer, rules.warnings)
        clock = rendering.clock_text(answer.as_of_ms, rules.zone)
        return rendering.screens(view, short=check.short, clock_text=clock), view.released

    # ----------------------------------------------------------------- what becomes of it

    async def rule(
        self, ref: str, actor: Actor, act: str, *, level: str = "", why: str = ""
    ) -> ReleaseChanged:
        """Release it, less of it, or nothing; returns once that is on record, and then it is
        done. Raises KeyError, ValueError (why not), LedgerUnavailable (not done)."""
        check = self._checks.find_held(ref)
        if check is None:
            raise KeyError(ref)
        if actor.id in {check.asker.officer, *check.asker.crew}:
            raise ValueError("NOT ON YOUR OWN QUESTION")
        done = self._done_before(check, actor, act, level)
        if done is not None:
            return done
        if act == AMEND and level not in set(Level):
            raise ValueError("LEVEL: ONLY BELOW THE PROPOSED ONE")
        over = asyncio.Event()
        ruling = Ruling(
            by=actor.id,
            role=role_of(actor),
            act=ACTS[act],
            level=level if act == AMEND else "",
            why=why[:WHY_MOST] if act == REFUSE else "",
            over=over.set,
        )
        self._checks.rule(check.id, ruling)
        await over.wait()
        if check.state.stage is Stage.HELD:
            raise LedgerUnavailable("the decision could not be put on record")
        if check.state.stage is Stage.STALE:
            raise ValueError("NOT HELD ANY MORE")
        # Not looked up anew: memory may have let go of it by now.
        return self._open.get(check.id) or self._over(check, self._held(check))

    def _done_before(
        self, check: Check, actor: Actor, act: str, level: str
    ) -> ReleaseChanged | None:
        """The same act of the same person, done already: they may not have heard so."""
        was = check.ruling
        if was is None or check.state.stage in (Stage.HELD, Stage.STALE, *RULING):
            return None
        same = (was.by, was.act) == (actor.id, ACTS[act])
        if not same or (act == AMEND and was.level != level):
            return None
        return self.known(check.id)

    def _waiting(self, ref: str) -> tuple[Check, ReleaseChanged]:
        check = self._checks.find_held(ref)
        if check is None:
            raise KeyError(ref)
        waits = self._open.get(check.id)
        if waits is None:
            raise ValueError("NOT HELD ANY MORE")
        return check, waits
