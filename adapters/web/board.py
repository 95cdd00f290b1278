"""What the web page asks of the core: one small board of facts and acts."""

from __future__ import annotations

from typing import Protocol

from gateway.alarm_rules import AlarmRules
from gateway.bus import Encode, Subscription
from gateway.messages import (
    Actor,
    AlarmChanged,
    AssistedCheck,
    ChallengeChanged,
    CheckNow,
    CheckRequest,
    ControlAnswer,
    HeldAnswer,
    MessageChanged,
    ReleaseChanged,
    Snapshot,
    ToReview,
    Viewer,
)


class Board(Protocol):
    """The control room's view of the core. Everything it returns is projected for the viewer."""

    epoch: str
    """Names this run of the process: numbers of another epoch mean nothing."""

    def snapshot(self, viewer: Viewer) -> Snapshot:
        """The whole picture now, and the number after which the stream goes on."""

    def subscribe(
        self, viewer: Viewer, *, after: int | None = None, encode: Encode | None = None
    ) -> Subscription:
        """A place in the stream (EventBus.subscribe)."""

    def check_view(self, viewer: Viewer, ref: str) -> CheckNow | None:
        """By short form (the newest) or whole id; None when there is none he may see."""

    def waiting(self, viewer: Viewer) -> tuple[ReleaseChanged, ...]:
        """The answers that an operator must release, the oldest first."""

    async def read_held(self, viewer: Viewer, ref: str, actor: Actor) -> HeldAnswer:
        """What a held answer says, on record before it is shown. Raises KeyError (there is none
        that they may see), ValueError (says why not), LedgerUnavailable."""

    async def rule_release(
        self, viewer: Viewer, ref: str, actor: Actor, act: str, level: str, why: str
    ) -> ReleaseChanged:
        """Release, amend or refuse it; on record, then done. Raises as read_held."""

    def to_review(self, viewer: Viewer) -> tuple[ToReview, ...]:
        """The challenged checks that wait for a supervisor, the oldest first."""

    async def review(
        self, viewer: Viewer, ref: str, actor: Actor, enough: bool, note: str
    ) -> ChallengeChanged:
        """Look at one; on record, then off the list. Raises KeyError (there is none that they may
        see), ValueError (says why not), LedgerUnavailable."""

    async def ask_for(
        self, actor: Actor, requester: str, request: CheckRequest, to_radio: bool, key: str
    ) -> AssistedCheck:
        """Ask for the officer at this radio, or of this collar number; returns once that is on
        record. key: a copy of the act has the same. Raises KeyError (no such officer), ValueError
        (says why not), LedgerUnavailable."""

    async def read_answer(self, ref: str, actor: Actor) -> ControlAnswer:
        """What came of it, for who asked, on record before it is shown. Raises as ask_for."""

    async def acknowledge(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        """Record it, then show it. Raises KeyError (no such alarm), ValueError (says why not;
        text free of personal data), LedgerUnavailable."""

    async def close_alarm(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        """As acknowledge."""

    async def shelve_alarm(
        self, alarm_id: str, actor: Actor, minutes: int, why: str
    ) -> AlarmChanged:
        """As acknowledge: put it aside for so long; both from the rules' lists."""

    async def unshelve_alarm(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        """As acknowledge."""

    async def mark_mistake(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        """As acknowledge: the officer says that the emergency was pressed by mistake."""

    def alarm_rules(self) -> AlarmRules:
        """What alarms mean and ask for, now."""

    async def record_export(self, purpose: str, actor: Actor, receipt: str = "") -> str:
        """Put an export of the audit on record, or of what one receipt proves; the instance whose
        log it is. Raises LedgerUnavailable."""

    async def prove_receipt(self, receipt: str, purpose: str, actor: Actor) -> bytes | None:
        """What this receipt proves, as JSON, once the look at it is on record; None when no record
        has it. Raises LedgerUnavailable, ChainBroken."""

    async def send_message(self, unit: str, text: str, actor: Actor) -> MessageChanged:
        """As acknowledge: write to whoever holds this radio (ISSI or call-sign) now. KeyError: no
        such unit."""

    async def locate(self, unit: str, actor: Actor) -> tuple[str, int]:
        """As acknowledge: ask this unit's radio (ISSI or call-sign) where it is; which radio that
        is, and when. KeyError: no such unit."""

    def health(self) -> bool:
        """Whether the process turns."""

    def ready(self) -> tuple[bool, list[dict[str, str]]]:
        """Whether checks can be answered now, and what is up or down: what, state, why."""
