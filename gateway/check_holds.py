"""An answer that is on record and waits for a person: an operator, to let it go; its officer, to be
free.

Nothing of it is disclosed before that is on record: the danger words go with the prompt, on record
as a disclosure of their own. So is what an operator decided. Every wait is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.admission import Rules, decide
from gateway.amending import lowered
from gateway.check_rows import Check, Ruling, Scribe, row_of
from gateway.check_states import (
    AWAITING,
    CheckEvent,
    Released,
    Stage,
    WentStale,
    Withheld,
    Write,
)
from gateway.check_views import make_result, may_still_see
from gateway.check_voice import CheckVoice
from gateway.messages import Level, Outcome, Result
from gateway.policy import Decision
from gateway.ports import Change, Clock, PutCheck, PutOutbox, Record
from gateway.roster import holder_of
from gateway.settings import ChecksSection
from gateway.supervise import Crew

REMIND_MOST_S = 120.0


RELEASED, AMENDED, WITHHELD = "released", "amended", "withheld"
"""What an operator does, as the record names it."""


class _Made(msgspec.Struct, frozen=True):
    """What of a check is made from its answer, at one level."""

    decision: Decision | None
    level: str
    result: Result | None
    result_bytes: bytes | None
    released: tuple[str, ...]
    waiting: str
    danger_fields: tuple[str, ...]
    danger: bool

    @classmethod
    def of(cls, check: Check) -> _Made:
        return cls(*(getattr(check, name) for name in cls.__struct_fields__))

    def back(self, check: Check) -> None:
        for name in self.__struct_fields__:
            setattr(check, name, getattr(self, name))


class Commit(Protocol):
    def __call__(
        self, check: Check, what: Write, records: list[Record], changes: list[Change], /
    ) -> None: ...


class CheckHolds:
    """feed: the one way on of a check. commit: writes in order. outbox: the row that goes with a
    disclosure."""

    def __init__(
        self,
        settings: ChecksSection,
        *,
        clock: Clock,
        crew: Crew,
        voice: CheckVoice,
        scribe: Scribe,
        rules: Callable[[], Rules],
        feed: Callable[[Check, CheckEvent], None],
        commit: Commit,
        outbox: Callable[[Check], PutOutbox],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._crew = crew
        self._voice = voice
        self._scribe = scribe
        self._rules = rules
        self._feed = feed
        self._commit = commit
        self._outbox = outbox
        self._before: dict[str, _Made] = {}
        """Of each check that is being ruled on: what was proposed."""

    # ----------------------------------------------------------------- waiting

    def held(self, check: Check) -> None:
        """Its officer hears that it is with control, the same whatever it is."""
        self._voice.held(check)
        self._wait(check)

    def prompt(self, check: Check) -> None:
        """After a release its officer has as long as if it had just come."""
        self._voice.prompt(check, again_in_s=self._settings.resend_s)
        self._wait(check, anew=check.state.hold)

    def prompt_later(self, check: Check) -> None:
        """Not free: they have heard it, and are reminded less often."""
        self._wait(check)

    def _wait(self, check: Check, *, anew: bool = False) -> None:
        if check.waiter is not None:
            check.waiter.cancel()
        since_s = check.settled_at_s
        if anew or since_s is None:
            since_s = self._clock.monotonic_s()
        check.waiter = self._crew.start(self._until_free(check, since_s))

    async def _until_free(self, check: Check, since_s: float) -> None:
        """What is held or prompted goes stale as an answer does; a prompt may be lost on the air,
        so it is said again, ever more rarely."""
        stale_at_s = since_s + self._settings.stale_s
        pause_s = self._settings.resend_s
        while check.state.stage in AWAITING - {Stage.DELIVERING}:
            left_s = stale_at_s - self._clock.monotonic_s()
            if left_s <= 0:
                self._feed(check, WentStale())
                return
            if check.state.not_free:
                pause_s = self._settings.not_free_remind_s
            await self._clock.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, REMIND_MOST_S)
            if check.state.stage is Stage.PROMPTED and self._clock.monotonic_s() < stale_at_s:
                self._voice.prompt(check, again_in_s=pause_s)

    # ----------------------------------------------------------------- an operator decides

    def proposed(self, check: Check) -> Decision | None:
        """What of a held answer its officer may see by the rules of now; None when nothing, or
        less than they let through when it came."""
        rules = self._rules()
        asker = rules.roster.asker(check.terminal)
        if asker is None or check.request is None or holder_of(asker) != check.holder:
            return None
        decision = decide(rules, asker, check.request, now_ms=check.opened_at_ms).decision
        return decision if may_still_see(check, rules) else None

    def rule(self, check: Check, ruling: Ruling) -> None:
        """Of a check that is held; `ruling.over` is told once that is written, or was not. Raises
        ValueError: why it may not be so."""
        if ruling.act == WITHHELD:
            check.ruling = ruling
            self._feed(check, Withheld())
            return
        decision = self.proposed(check)
        if decision is None:
            raise ValueError("MAY NOT BE SHOWN ANY MORE: REFUSE IT")
        before, ruling.was = _Made.of(check), check.level
        if ruling.act == AMENDED:
            check.decision = lowered(self._rules().policy, decision, Level(ruling.level))
            check.level = check.decision.level.value
            make_result(check, Outcome.ANSWERED, "", self._rules(), self._clock.wall_ms())
        check.ruling = ruling
        self._before[check.id] = before
        self._feed(check, Released(prompt=bool(check.waiting)))

    def ruled(self, check: Check) -> None:
        """It is written, or was not: whoever decided hears of it. What was not is as before."""
        before = self._before.pop(check.id, None)
        if before is not None and check.state.stage is Stage.HELD:
            before.back(check)
        if check.ruling is not None:
            over, check.ruling.over = check.ruling.over, _nothing
            over()

    # ----------------------------------------------------------------- writing

    def write_release(self, check: Check) -> None:
        """Who released it, and with it the disclosure: all of it, or the danger words of its
        prompt. Policy is asked once more: it may have changed since."""
        assert check.ruling is not None
        if not may_still_see(check, self._rules()):
            self._feed(check, WentStale())
            return
        ruled = self._scribe.ruled(check, check.ruling)
        if check.state.prompt:
            told, changes = self.prompted(check), self._row(check, Stage.PROMPTED)
        else:
            told, changes = self._scribe.disclosed(check), self._row(check, Stage.DELIVERING)
            changes.append(self._outbox(check))
        self._commit(check, Write.RELEASE, [ruled, told], changes)

    def write_withholding(self, check: Check) -> None:
        assert check.ruling is not None
        ruled = self._scribe.ruled(check, check.ruling)
        self._commit(check, Write.WITHHOLDING, [ruled], self._row(check, Stage.WITHHELD))

    def write_disclosure(self, check: Check) -> None:
        """After a prompt. Policy is asked once more, too."""
        if not may_still_see(check, self._rules()):
            self._feed(check, WentStale())
            return
        changes = [*self._row(check, Stage.DELIVERING), self._outbox(check)]
        self._commit(check, Write.DISCLOSURE, [self._scribe.disclosed(check)], changes)

    def prompted(self, check: Check) -> Record:
        """The record that goes before the prompt."""
        return self._scribe.prompted(check, self._voice.prompt_bytes(check))

    def _row(self, check: Check, stage: Stage) -> list[Change]:
        return [PutCheck(row_of(check, stage))]


def _nothing() -> None:
    """For whoever was told already."""
