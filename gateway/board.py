"""The picture that a control room sees, and what it may do from there.

It keeps what the stream said last about each check and link, so that whoever opens a console now
sees what whoever watched all along sees. Nothing here is a second truth: it is a tap on the bus.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from gateway.alarm_rules import AlarmRules
from gateway.alarms import AlarmDesk
from gateway.assisted import AssistedChecks
from gateway.bus import Encode, EventBus, Subscription
from gateway.challenges import ChallengeDesk
from gateway.errors import LedgerUnavailable
from gateway.locating import Locating
from gateway.messages import (
    Actor,
    AlarmChanged,
    AssistedCheck,
    ChallengeChanged,
    CheckDelivery,
    CheckDone,
    CheckNow,
    CheckOpened,
    CheckRequest,
    CheckStaged,
    ControlAnswer,
    Event,
    HeldAnswer,
    Issi,
    LinkChanged,
    LinkState,
    MessageChanged,
    ReleaseChanged,
    Snapshot,
    ToReview,
    UnitFix,
    UnitMeta,
    UnitNow,
    Viewer,
)
from gateway.ports import Clock
from gateway.releases import Releases
from gateway.roster import Roster
from gateway.tracking import Tracker
from gateway.unit_messages import UnitMessages


class _Known(msgspec.Struct, frozen=True):
    """What is known of one check. done, last: the newest outcome, and the newest step or outcome;
    for those who may know early and, `slot_done` and `slot_last`, for all the others."""

    opened: CheckOpened
    done: CheckDone | None = None
    slot_done: CheckDone | None = None
    last: CheckStaged | CheckDone | None = None
    slot_last: CheckStaged | CheckDone | None = None
    delivery: str = ""


CHECKS_KEPT = 200
"""Checks on the board: all open ones (bounded by the desk's queue) and the newest that ended."""
MESSAGES_KEPT = 50


async def _unproved(_receipt: str) -> bytes | None:
    raise LedgerUnavailable("no proofs are made here")


class ControlRoom:
    """adapters.web's Board. `ready_now` and `healthy` come from the composition root."""

    def __init__(
        self,
        *,
        epoch: str,
        clock: Clock,
        bus: EventBus,
        roster: Callable[[], Roster],
        counted: Callable[[Viewer, UnitMeta], bool],
        tracker: Tracker,
        alarms: AlarmDesk,
        messages: UnitMessages,
        locating: Locating,
        releases: Releases,
        assisted: AssistedChecks,
        challenges: ChallengeDesk,
        healthy: Callable[[], bool],
        ready_now: Callable[[], tuple[bool, list[dict[str, str]]]],
        record_export: Callable[[str, Actor, str], Awaitable[str]],
        revealed: Callable[[str], None] = lambda _operator: None,
    ) -> None:
        self.epoch = epoch
        self._clock = clock
        self._bus = bus
        self._roster = roster
        self._counted = counted
        self._tracker = tracker
        self._alarms = alarms
        self._desk = messages
        self._locating = locating
        self._releases = releases
        self._assisted = assisted
        self._challenges = challenges
        self._healthy = healthy
        self._ready_now = ready_now
        self._record_export = record_export
        self._revealed = revealed
        self.prove: Callable[[str], Awaitable[bytes | None]] = _unproved
        """What a receipt proves, as JSON. Given by the composition root, which knows the store."""
        self._proving = asyncio.Lock()
        self._checks: OrderedDict[str, _Known] = OrderedDict()
        self._links: dict[str, LinkChanged] = {}
        self._messages: OrderedDict[str, MessageChanged] = OrderedDict()
        bus.tap(self._seen)

    # ----------------------------------------------------------------- keeping the picture

    def _seen(self, event: Event) -> None:
        match event:
            case CheckOpened():
                self._checks[event.check] = _Known(opened=event)
                self._trim()
            case CheckStaged():
                if event.told != "slot":
                    self._change(event.check, last=event)
                if event.told != "early":
                    self._change(event.check, slot_last=event)
            case CheckDone():
                if event.told != "slot":
                    self._change(event.check, last=event, done=event)
                if event.told != "early":
                    self._change(event.check, slot_last=event, slot_done=event)
            case CheckDelivery():
                self._change(event.check, delivery=event.state)
            case LinkChanged():
                self._links[event.id] = event
            case MessageChanged():
                self._messages[event.id] = event
                if len(self._messages) > MESSAGES_KEPT:
                    self._messages.popitem(last=False)
            case _:
                pass

    def _change(self, check: str, **changes: object) -> None:
        now = self._checks.get(check)
        if now is not None:
            self._checks[check] = msgspec.structs.replace(now, **changes)

    def _trim(self) -> None:
        """Amortised: one leaves for each that comes, the oldest that has ended."""
        if len(self._checks) <= CHECKS_KEPT:
            return
        ended = next((id_ for id_, now in self._checks.items() if now.done is not None), None)
        if ended is not None:
            del self._checks[ended]

    # ----------------------------------------------------------------- what consoles ask

    def snapshot(self, viewer: Viewer) -> Snapshot:
        seq = self._bus.position(viewer)
        now_ms = self._clock.wall_ms()
        metas = self._roster().metas(now_ms)
        units = tuple(self._units(viewer, metas, now_ms))
        return Snapshot(
            seq=seq,
            t_ms=now_ms,
            units=units,
            checks=tuple(self._visible_checks(viewer)),
            alarms=tuple(
                shown
                for alarm in self._alarms.open()
                if isinstance(shown := self._bus.projected(viewer, alarm), AlarmChanged)
            ),
            links=tuple(
                shown
                for link in self._links.values()
                if isinstance(shown := self._bus.projected(viewer, link), LinkChanged)
            ),
            releases=self.waiting(viewer),
            counts=self._counts(viewer, metas, now_ms),
            messages=tuple(
                shown
                for message in self._messages.values()
                if isinstance(shown := self._bus.projected(viewer, message), MessageChanged)
            ),
        )

    def _units(self, viewer: Viewer, metas: tuple[UnitMeta, ...], now_ms: int) -> list[UnitNow]:
        newest = self._tracker.newest()
        raised = {
            alarm.terminal
            for alarm in self._alarms.open()
            if alarm.rule == "EMG" and self._bus.projected(viewer, alarm) is not None
        }
        units = []
        for meta in metas:
            shown = self._bus.projected(viewer, meta)
            if not isinstance(shown, UnitMeta):
                continue
            at = newest.get(meta.terminal)
            fix = self._bus.projected(viewer, at) if at is not None else None
            units.append(
                UnitNow(
                    meta=shown,
                    fix=fix if isinstance(fix, UnitFix) else None,
                    band=self._tracker.band(meta.terminal, now_ms),
                    # Of a grey dot is told where it is, and no more.
                    contact_ms=self._contact_ms(meta.terminal, now_ms) if shown.status else None,
                    emergency=meta.terminal in raised,
                )
            )
        return units

    def _contact_ms(self, terminal: Issi, now_ms: int) -> int | None:
        heard_s = self._roster().heard_at_s(terminal)
        if heard_s is None:
            return None
        return now_ms - round((self._clock.monotonic_s() - heard_s) * 1000)

    def _visible_checks(self, viewer: Viewer) -> list[CheckNow]:
        return [shown for now in self._checks.values() if (shown := self._shown(viewer, now))]

    def _shown(self, viewer: Viewer, now: _Known) -> CheckNow | None:
        """The same projection as the stream's, field by field."""
        opened = self._bus.projected(viewer, now.opened)
        if not isinstance(opened, CheckOpened):
            return None
        done = self._first_due(viewer, now.done, now.slot_done)
        last = self._first_due(viewer, now.last, now.slot_last)
        stage = last.stage if isinstance(last, CheckStaged) else "done" if last else "opening"
        return CheckNow(
            opened=opened,
            stage=stage,
            done=done if isinstance(done, CheckDone) else None,
            delivery=now.delivery,
        )

    def _first_due(
        self, viewer: Viewer, *events: CheckStaged | CheckDone | None
    ) -> CheckStaged | CheckDone | None:
        """The first that the viewer is due, as they are due it."""
        for event in events:
            shown = self._bus.projected(viewer, event) if event is not None else None
            if isinstance(shown, CheckStaged | CheckDone):
                return shown
        return None

    def _counts(
        self, viewer: Viewer, metas: tuple[UnitMeta, ...], now_ms: int
    ) -> dict[str, dict[str, int]]:
        on_duty: dict[str, int] = {}
        stale: dict[str, int] = {}
        for meta in metas:
            if self._counted(viewer, meta):
                on_duty[meta.area] = on_duty.get(meta.area, 0) + 1
                behind = self._tracker.band(meta.terminal, now_ms) in {"stale", "lost"}
                stale[meta.area] = stale.get(meta.area, 0) + behind
        return {"on_duty": on_duty, "stale": stale}

    def subscribe(
        self, viewer: Viewer, *, after: int | None = None, encode: Encode | None = None
    ) -> Subscription:
        return self._bus.subscribe(viewer, after=after, encode=encode)

    def check_view(self, viewer: Viewer, ref: str) -> CheckNow | None:
        for now in reversed(self._checks.values()):
            if ref in (now.opened.short, now.opened.check):
                return self._shown(viewer, now)
        return None

    def waiting(self, viewer: Viewer) -> tuple[ReleaseChanged, ...]:
        """What waits for release, the oldest first, as far as this viewer may see it."""
        return tuple(
            shown
            for each in self._releases.queue()
            if isinstance(shown := self._bus.projected(viewer, each), ReleaseChanged)
        )

    async def read_held(self, viewer: Viewer, ref: str, actor: Actor) -> HeldAnswer:
        self._visible_release(viewer, ref)
        held = await self._releases.read(ref, actor)
        self._revealed(actor.id)
        return msgspec.structs.replace(held, release=self._shown_release(viewer, held.release))

    async def rule_release(
        self, viewer: Viewer, ref: str, actor: Actor, act: str, level: str, why: str
    ) -> ReleaseChanged:
        self._visible_release(viewer, ref)
        done = await self._releases.rule(ref, actor, act, level=level, why=why)
        return self._shown_release(viewer, done)

    def _visible_release(self, viewer: Viewer, ref: str) -> None:
        """Raises KeyError: there is none that this viewer may see."""
        known = self._releases.known(ref)
        if known is None:
            raise KeyError(ref)
        self._shown_release(viewer, known)

    def _shown_release(self, viewer: Viewer, release: ReleaseChanged) -> ReleaseChanged:
        shown = self._bus.projected(viewer, release)
        if not isinstance(shown, ReleaseChanged):
            raise KeyError(release.check)
        return shown

    def to_review(self, viewer: Viewer) -> tuple[ToReview, ...]:
        """The challenged checks that are not reviewed, the oldest first, for who may see them."""
        return tuple(
            ToReview(
                challenge=shown,
                officer=each.officer,
                kind=each.operation,
                reason=each.reason,
                cause=each.cause,
                text=each.text,
            )
            for each in self._challenges.waiting()
            if isinstance(shown := self._bus.projected(viewer, each.changed()), ChallengeChanged)
        )

    async def review(
        self, viewer: Viewer, ref: str, actor: Actor, enough: bool, note: str
    ) -> ChallengeChanged:
        known = (each.challenge for each in self.to_review(viewer))
        if not any(ref in (each.check, each.short) for each in known):
            raise KeyError(ref)
        return await self._challenges.review(ref, actor, enough=enough, note=note)

    async def ask_for(
        self, actor: Actor, requester: str, request: CheckRequest, to_radio: bool, key: str
    ) -> AssistedCheck:
        return await self._assisted.ask(actor, requester, request, to_radio=to_radio, key=key)

    async def read_answer(self, ref: str, actor: Actor) -> ControlAnswer:
        return await self._assisted.read(ref, actor)

    async def acknowledge(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        return await self._alarms.acknowledge(alarm_id, actor.id)

    async def close_alarm(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        return await self._alarms.close(alarm_id, actor.id)

    async def shelve_alarm(
        self, alarm_id: str, actor: Actor, minutes: int, why: str
    ) -> AlarmChanged:
        return await self._alarms.shelve(alarm_id, actor.id, minutes, why)

    async def unshelve_alarm(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        return await self._alarms.unshelve(alarm_id, actor.id)

    async def mark_mistake(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        return await self._alarms.mistake(alarm_id, actor.id)

    def alarm_rules(self) -> AlarmRules:
        return self._alarms.rules

    async def send_message(self, unit: str, text: str, actor: Actor) -> MessageChanged:
        """unit: the ISSI, or a call-sign that one radio has. Raises KeyError (no such one)."""
        return await self._desk.send(self._roster().named(unit), text, actor)

    async def locate(self, unit: str, actor: Actor) -> tuple[Issi, int]:
        """Which radio was asked, and when. unit: as of send_message."""
        terminal = self._roster().named(unit)
        return terminal, await self._locating.ask(terminal, actor)

    async def record_export(self, purpose: str, actor: Actor, receipt: str = "") -> str:
        return await self._record_export(purpose, actor, receipt)

    async def prove_receipt(self, receipt: str, purpose: str, actor: Actor) -> bytes | None:
        # One at a time: whoever waits for a proof keeps no radio waiting.
        async with self._proving:
            await self._record_export(purpose, actor, receipt)
            self._revealed(actor.id)
            return await self.prove(receipt)

    def health(self) -> bool:
        return self._healthy()

    def ready(self) -> tuple[bool, list[dict[str, str]]]:
        return self._ready_now()

    def links(self) -> list[LinkChanged]:
        return list(self._links.values())

    def down(self, kind: str) -> bool:
        """Whether every link of this kind is down (none known: False)."""
        states = [link.state for link in self._links.values() if link.kind == kind]
        return bool(states) and all(state is LinkState.DOWN for state in states)
