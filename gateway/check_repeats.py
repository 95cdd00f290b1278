"""What a terminal is given again: to a copy of its question, and of a hit that it has not read.

The same bytes, to the same holder, on record as a disclosure of their own; never a second query.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.admission import Rules
from gateway.check_memory import CheckMemory
from gateway.check_rows import Check, Scribe, read_row
from gateway.check_states import Cause, CheckEvent, KnownAlready, Stage
from gateway.check_views import may_still_see
from gateway.check_voice import RECEIPT_EXPIRES_S, CheckVoice, Posts
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.messages import Outcome
from gateway.ports import Clock, Journal, Ledger

USE_VOICE = "USE VOICE"


class CheckRepeats:
    """feed: the one way on of a check. same_holder: whether whoever asked still holds the radio."""

    def __init__(
        self,
        *,
        clock: Clock,
        memory: CheckMemory,
        ledger: Ledger,
        journal: Journal,
        scribe: Scribe,
        voice: CheckVoice,
        courier: Posts,
        rules: Callable[[], Rules],
        same_holder: Callable[[Check], bool],
        feed: Callable[[Check, CheckEvent], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._ledger = ledger
        self._journal = journal
        self._scribe = scribe
        self._voice = voice
        self._courier = courier
        self._rules = rules
        self._same_holder = same_holder
        self._feed = feed
        self._fatal = fatal

    def known(self, check: Check) -> Check:
        """The check as memory has it, else this one, from now on."""
        known = self._memory.find(check.id)
        if known is None:
            self._memory.know(check, self._clock.monotonic_s())
        return known or check

    async def answer_again(self, check: Check, settle: Callable[[], None]) -> None:
        """Receipt, and the stored answer if it was released: to the same holder, on record."""
        if not self._same_holder(check):
            why = "ASKED BY OTHER OFFICER" if check.holder else check.state.cause
            self._voice.receipt(check, accepted=False, why=why)
        elif not self._voice.hushed(check) and not may_still_see(check, self._rules()):
            self._voice.receipt(check, accepted=False, why=Cause.NOT_YOUR_ROLE)
        else:
            refused = check.state.outcome is Outcome.REFUSED and not self._voice.hushed(check)
            self._voice.receipt(
                check, accepted=not refused, why=check.state.cause if refused else ""
            )
            if _was_released(check) and not await self.show_again(check):
                return
            if check.state.stage is Stage.HELD and not self._voice.hushed(check):
                self._voice.held(check)
            elif check.state.stage is Stage.WITHHELD:
                self._voice.withheld(check)
        settle()

    async def recall(self, check: Check, settle: Callable[[], None]) -> None:
        """Its officer asks for the answer, not anew: no receipt of it where it can be shown."""
        if not _was_released(check) or not may_still_see(check, self._rules()):
            await self.answer_again(check, settle)
        elif await self.show_again(check):
            settle()

    async def show_again(self, check: Check) -> bool:
        """Give the same bytes again. False when the process must stop."""
        assert check.result is not None
        record = self._scribe.record(
            check,
            "duplicate",
            outcome=check.state.outcome,
            recipient=check.holder,
            fields=check.released,
            level=check.result.level,
        )
        try:
            await self._ledger.commit([record])
        except LedgerUnavailable:
            self._voice.unrecorded(check)
        except LedgerFatal as error:
            self._fatal(error)
            return False
        else:
            if self._courier.waiting(check.id):
                self._courier.again(check.id)
            elif may_still_see(check, self._rules()):  # the rules may have changed while we wrote
                self._courier.tell(
                    check.terminal,
                    check.result,
                    expires_in_s=RECEIPT_EXPIRES_S,
                    holder=check.holder,
                    not_before_s=check.slot_s or 0.0,
                )
        return True

    async def asked_before(self, check: Check, original: str) -> None:
        """The ledger knows this question from before; ours never existed."""
        settle, check.settle = check.settle or _nothing, None
        self._feed(check, KnownAlready())
        why = Cause.FAULT
        known: Check | None = self._memory.find(original)
        try:
            if known is None:
                row = await self._ledger.check(original)
                if row is not None:
                    known = self.known(read_row(row, self._clock))
        except LedgerUnavailable:
            why = Cause.NOT_RECORDED
        except msgspec.DecodeError:
            self._journal.warn("check.unreadable", check=original)
        if known is None:
            self._voice.receipt(check, accepted=False, why=f"{why}. {USE_VOICE}")
            settle()
            return
        await self.answer_again(known, settle)

    async def remind(self, check_id: str) -> None:
        """Of what was delivered; after a restart memory does not know it."""
        check = self._memory.find(check_id)
        try:
            if check is None and (row := await self._ledger.check(check_id)) is not None:
                check = self.known(read_row(row, self._clock))
        except (LedgerUnavailable, msgspec.DecodeError):
            return
        if check is None or check.state.stage is not Stage.DELIVERED or not is_hit(check):
            return
        if self._same_holder(check) and may_still_see(check, self._rules()):
            await self.show_again(check)


def _was_released(check: Check) -> bool:
    """Whether its result was on its way to the officer: a disclosure is on record, if it needs
    one. What was held or prompted and then went stale never was."""
    if check.result is None:
        return False
    if check.state.stage is Stage.STALE:
        kept = check.state.hold or check.state.prompt
        return check.state.outcome is not Outcome.ANSWERED or not kept
    return check.state.stage in {Stage.DELIVERED, Stage.SEEN, Stage.DELIVERING}


def is_hit(check: Check) -> bool:
    """As its terminal knows it."""
    told = check.result.result_class if check.result is not None else ""
    return check.danger or told.startswith("HIT")


def _nothing() -> None:
    """For what no bearer waits for."""
