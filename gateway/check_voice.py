"""What a terminal hears of a check, and when: receipt, answer, notices.

Below L3 everything that is heard of a question that was asked has its slot (slots.py). What is
said here is on record already, or holds nothing that must be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway import rendering, slots
from gateway.check_rows import Check
from gateway.check_states import ENDED, Stage
from gateway.check_views import below_l3
from gateway.messages import AckState, Issi, Notice, Outcome, Receipt, Result
from gateway.parcels import Parcel
from gateway.ports import Clock
from gateway.settings import SlotsSection

RECEIPT_EXPIRES_S = 60.0


class Posts(Protocol):
    """What the desk needs of the Courier; desks never import each other's doings."""

    def post(self, parcel: Parcel) -> None: ...

    def tell(
        self,
        terminal: Issi,
        message: Receipt | Notice | Result,
        *,
        expires_in_s: float,
        holder: str = "",
        not_before_s: float = 0.0,
    ) -> None: ...

    def waiting(self, check: str) -> bool: ...

    def again(self, check: str) -> None: ...

    def find(self, terminal: Issi, ref: str) -> str | None: ...

    def took(self, check: str, part: int, state: AckState) -> AckState | None: ...

    def done(self, check: str) -> None: ...


class CheckVoice:
    """Says it through the Courier. stale_s: how long what waits for its officer is worth saying."""

    def __init__(
        self, *, clock: Clock, courier: Posts, slots: SlotsSection, stale_s: float
    ) -> None:
        self._clock = clock
        self._courier = courier
        self._slots = slots
        self._stale_s = stale_s
        self.in_slot: Callable[[Issi, str, str, int], None] = lambda _issi, _check, _short, _ms: (
            None
        )
        """Told of each answer that waits for its slot, and when that begins."""

    # ----------------------------------------------------------------- when

    def in_slots(self, check: Check) -> bool:
        """Whether its terminal hears of its outcome at fixed moments: its answer must not show in
        when it comes, nor must what came in place of an answer."""
        return bool(self._slots.below_l3_s) and below_l3(check) and check.state.attempts > 0

    def hushed(self, check: Check) -> bool:
        """Whether its terminal may not yet hear, or find out, that it has an outcome."""
        if not self.in_slots(check) or check.state.stage in ENDED:
            return False
        return check.slot_s is None or self._clock.monotonic_s() < check.slot_s

    def slot_s(self, check: Check) -> float:
        """When its terminal may hear what is to be said now; 0.0 at once."""
        if check.state.outcome is None or not self.in_slots(check):
            return 0.0
        held = check.state.outcome is Outcome.ANSWERED and check.state.hold
        if held and check.state.stage is not Stage.HELD:
            age_s = self._clock.monotonic_s() - check.accepted_at_s
            every_s = self._slots.release_s
            return check.accepted_at_s + slots.release_slot_s(every_s, age_s=age_s)
        return self.answer_slot_s(check)

    def answer_slot_s(self, check: Check) -> float:
        """When anybody may hear that it has an outcome, of those who may not know the class."""
        age_s = self._clock.monotonic_s() - check.accepted_at_s
        deadline_s = (check.deadline_ms - check.opened_at_ms) / 1000
        given_s = self._slots.below_l3_s
        slot_s = slots.answer_slot_s(given_s, deadline_s=deadline_s, age_s=age_s)
        return check.accepted_at_s + slot_s

    def tell_slot(self, check: Check) -> None:
        """If it waits for its slot, whoever minds how long it takes is told so."""
        now_s = self._clock.monotonic_s()
        if check.slot_s is not None and check.slot_s > now_s:
            begins_ms = self._clock.wall_ms() + round((check.slot_s - now_s) * 1000)
            self.in_slot(check.terminal, check.id, check.short, begins_ms)

    # ----------------------------------------------------------------- what

    def hand_over(self, check: Check, stale_in_s: float) -> None:
        """The answer, to be delivered until it is read or stale."""
        assert check.result is not None
        now_s = self._clock.monotonic_s()
        check.slot_s = self.slot_s(check)
        self.tell_slot(check)
        self._courier.post(
            Parcel(
                id=check.id,
                check=check.id,
                short=check.short,
                terminal=check.terminal,
                holder=check.holder,
                message=check.result,
                stale_at_s=max(now_s, check.slot_s) + stale_in_s,
                priority=0 if check.danger else 1,
                accepted_at_s=None if check.restored else check.accepted_at_s,
                not_before_s=check.slot_s,
            )
        )

    def receipt(self, check: Check, *, accepted: bool, why: str) -> None:
        if check.state.quiet:
            return
        receipt = Receipt(
            ref=check.ref,
            check=check.id,
            short=check.short,
            accepted=accepted,
            why=why,
            client_ref=check.client_ref,
        )
        self._courier.tell(check.terminal, receipt, expires_in_s=RECEIPT_EXPIRES_S)

    def late(self, check: Check) -> None:
        self._say(check, "late", rendering.late_text(check.short), expires_in_s=self._stale_s)

    def unrecorded(self, check: Check) -> None:
        """NO ANSWER, without content: the record cannot be written."""
        text = rendering.unrecorded_text(check.short)
        self._say(check, "unrecorded", text, expires_in_s=RECEIPT_EXPIRES_S)

    def prompt(self, check: Check, *, again_in_s: float) -> None:
        """FREE TO SPEAK?, behind all danger words. A broker keeps it no longer than until it is
        said again: they are its officer's alone."""
        self._courier.tell(
            check.terminal,
            _prompt(check),
            expires_in_s=again_in_s,
            holder=check.holder,
        )

    def prompt_bytes(self, check: Check) -> bytes:
        """What the prompt tells, for the record that goes before it."""
        return msgspec.json.encode(_prompt(check))

    def held(self, check: Check) -> None:
        """An operator must let it go first."""
        check.slot_s = self.slot_s(check)
        self._say(check, "held", rendering.held_text(check.short), expires_in_s=self._stale_s)

    def withheld(self, check: Check) -> None:
        """An operator refused it."""
        check.slot_s = self.slot_s(check)
        text = rendering.withheld_text(check.short)
        self._say(check, "withheld", text, expires_in_s=self._stale_s)

    def _say(self, check: Check, kind: str, text: str, *, expires_in_s: float) -> None:
        if check.state.quiet:
            return
        notice = Notice(kind=kind, text=text, check=check.id, short=check.short)
        self._courier.tell(
            check.terminal,
            notice,
            expires_in_s=expires_in_s,
            not_before_s=self.slot_s(check),
        )


def _prompt(check: Check) -> Notice:
    assert check.result is not None
    return Notice(
        kind="waiting",
        text=check.waiting or rendering.waiting_text(check.short),
        check=check.id,
        short=check.short,
        danger=check.result.danger if check.waiting else (),
    )
