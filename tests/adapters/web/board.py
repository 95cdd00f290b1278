"""A board for tests: a real bus, and a picture made by hand."""

from __future__ import annotations

import msgspec

from gateway.alarm_rules import AlarmRules
from gateway.bus import Encode, EventBus, Subscription
from gateway.messages import (
    Actor,
    AlarmChanged,
    AssistedCheck,
    ChallengeChanged,
    CheckDone,
    CheckNow,
    CheckOpened,
    CheckRequest,
    ControlAnswer,
    Event,
    FixSource,
    HeldAnswer,
    Kind,
    LinkChanged,
    LinkState,
    MessageChanged,
    Outcome,
    ReleaseChanged,
    Snapshot,
    ToReview,
    UnitFix,
    UnitMeta,
    UnitNow,
    Viewer,
    search_key,
)
from gateway.ports import Clock
from gateway.projection import visible
from tests.gateway.strategies import POLICY, RULES

NOW_MS = 1_795_325_047_120


def unit(terminal: str = "4001", callsign: str = "S-214", *, age_s: float | None = 5.0) -> UnitNow:
    meta = UnitMeta(terminal, callsign, "po", "S", "handheld", "AVL", NOW_MS)
    if age_s is None:
        return UnitNow(meta)
    return UnitNow(meta, fix=fix(terminal, age_s=age_s), band="live", contact_ms=NOW_MS)


def fix(terminal: str = "4001", *, age_s: float = 0.0, now_ms: int = NOW_MS) -> UnitFix:
    at_ms = now_ms - round(age_s * 1000)
    return UnitFix(terminal, 52.572510, -0.243120, at_ms, at_ms, 8.0, 270.0, 12.0, FixSource.GNSS)


def opened(short: str = "C7F3", terminal: str = "4001", *, now_ms: int = NOW_MS) -> CheckOpened:
    return CheckOpened(short, f"01TEST{short}", terminal, Kind.VEHICLE, now_ms, now_ms + 15_000)


def done(short: str = "C7F3", **changes: object) -> CheckDone:
    event = CheckDone(
        short=short,
        check=f"01TEST{short}",
        terminal="4001",
        kind=Kind.VEHICLE,
        outcome=Outcome.ANSWERED,
        result_class="HIT_CRITICAL",
        danger=("WEAPONS",),
        parts=2,
        not_checked=(),
        level="L3",
        t_ms=NOW_MS,
        elapsed_s=0.412,
        overhead_s=0.01,
    )
    return msgspec.structs.replace(event, **changes)


def alarm(id_: str = "A1", state: str = "unack-active", rule: str = "EMG") -> AlarmChanged:
    return AlarmChanged(id_, rule, 1, state, NOW_MS, NOW_MS, terminal="4001")


def held(short: str = "C8B2") -> HeldAnswer:
    release = ReleaseChanged(
        short, f"01TEST{short}", "4001", "L1", "SAFETY: CAUTION+", "held", NOW_MS, NOW_MS
    )
    return HeldAnswer(
        release=release, levels={"L1": ("SAFETY: CAUTION+",)}, whole=("!!STOLEN",), whole_level="L4"
    )


def challenged(short: str = "C8B2") -> ToReview:
    challenge = ChallengeChanged(short, f"01TEST{short}", "4001", "answered", NOW_MS, NOW_MS)
    return ToReview(challenge, "1001", "vehicle", "1", "random", "SAW IT SWERVE")


def link(name: str = "serial-south", state: LinkState = LinkState.UP) -> LinkChanged:
    return LinkChanged(name, "serial", state, NOW_MS)


def by_roles(viewer: Viewer, event: Event) -> Event | None:
    """gateway.projection.Projection without areas: a picture made by hand has no roster."""
    rules = [rule for rule in POLICY.console if rule.role in viewer.roles]
    rights = viewer.rights.union(*(rule.rights for rule in rules))
    return visible(msgspec.structs.replace(viewer, rights=rights), event)


class FakeBoard:
    """adapters.web.board.Board over a real bus; `units`, `checks`, ... are what a snapshot has."""

    def __init__(self, clock: Clock) -> None:
        self.epoch = "01TESTEPOCH"
        self.bus = EventBus(clock)
        self.bus.project_by(by_roles)
        self.clock = clock
        self.units: list[UnitNow] = []
        self.checks: list[CheckNow] = []
        self.alarms: dict[str, AlarmChanged] = {}
        self.links: list[LinkChanged] = []
        self.acts: list[tuple[str, str, str]] = []
        self.refuse: Exception | None = None
        self.held: dict[str, HeldAnswer] = {}
        self.challenged: dict[str, ToReview] = {}
        self.proofs: dict[str, bytes] = {}
        self.alive = True
        self.is_ready = True
        self.snapshots = 0

    def snapshot(self, viewer: Viewer) -> Snapshot:
        self.snapshots += 1
        return Snapshot(
            seq=self.bus.position(viewer),
            t_ms=self.clock.wall_ms(),
            units=tuple(self.units),
            checks=tuple(self.checks),
            alarms=tuple(self.alarms.values()),
            links=tuple(self.links),
            releases=self.waiting(viewer),
            counts={"on_duty": {"S": len(self.units)}},
            errors=("stale",),
        )

    def subscribe(
        self, viewer: Viewer, *, after: int | None = None, encode: Encode | None = None
    ) -> Subscription:
        return self.bus.subscribe(viewer, after=after, encode=encode)

    def check_view(self, viewer: Viewer, ref: str) -> CheckNow | None:
        return next((c for c in self.checks if ref in (c.opened.short, c.opened.check)), None)

    async def acknowledge(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        return self._act("ack", alarm_id, actor.id, state="ack-active", ack_by=actor.id)

    async def close_alarm(self, alarm_id: str, actor: Actor) -> AlarmChanged:
        return self._act("close", alarm_id, actor.id, state="cleared", closed_by=actor.id)

    async def shelve_alarm(self, alarm_id: str, by: str, minutes: int, why: str) -> AlarmChanged:
        until_ms = NOW_MS + minutes * 60_000
        return self._act("shelve", alarm_id, by, shelved_until_ms=until_ms, why=why)

    async def unshelve_alarm(self, alarm_id: str, by: str) -> AlarmChanged:
        return self._act("unshelve", alarm_id, by, shelved_until_ms=None, why="")

    async def mark_mistake(self, alarm_id: str, by: str) -> AlarmChanged:
        return self._act("mistake", alarm_id, by, why="PRESSED BY MISTAKE")

    def waiting(self, viewer: Viewer) -> tuple[ReleaseChanged, ...]:
        return tuple(each.release for each in self.held.values())

    async def read_held(self, viewer: Viewer, ref: str, actor: Actor) -> HeldAnswer:
        if self.refuse is not None:
            raise self.refuse
        self.acts.append(("read", ref, actor.id))
        return self.held[ref]

    def to_review(self, viewer: Viewer) -> tuple[ToReview, ...]:
        return tuple(self.challenged.values())

    async def review(
        self, viewer: Viewer, ref: str, actor: Actor, enough: bool, note: str
    ) -> ChallengeChanged:
        if self.refuse is not None:
            raise self.refuse
        waits = self.challenged.pop(ref)
        self.acts.append((f"review {enough} {note}".strip(), ref, actor.id))
        return msgspec.structs.replace(waits.challenge, state="reviewed")

    async def rule_release(
        self, viewer: Viewer, ref: str, actor: Actor, act: str, level: str, why: str
    ) -> ReleaseChanged:
        if self.refuse is not None:
            raise self.refuse
        before = self.held[ref].release
        self.acts.append((f"{act} {level}{why}".strip(), ref, actor.id))
        after = msgspec.structs.replace(before, state=act, by=actor.id)
        self.bus.publish(after)
        return after

    async def ask_for(
        self, actor: Actor, requester: str, request: CheckRequest, to_radio: bool, key: str
    ) -> AssistedCheck:
        if self.refuse is not None:
            raise self.refuse
        self.acts.append((f"ask {search_key(request.key)} {to_radio} {key}", requester, actor.id))
        return AssistedCheck("01TESTC7F3", "C7F3", "4001", to_radio)

    async def read_answer(self, ref: str, actor: Actor) -> ControlAnswer:
        if self.refuse is not None:
            raise self.refuse
        self.acts.append(("read", ref, actor.id))
        return ControlAnswer(
            check="01TESTC7F3",
            short="C7F3",
            outcome=Outcome.ANSWERED,
            result_class="HIT_STOLEN",
            danger=("STOLEN",),
            pages=("!!STOLEN",),
            level="L4",
            fields=("stolen",),
        )

    def alarm_rules(self) -> AlarmRules:
        return RULES

    async def send_message(self, unit: str, text: str, actor: Actor) -> MessageChanged:
        if self.refuse is not None:
            raise self.refuse
        self.acts.append((text, unit, actor.id))
        message = MessageChanged("01M7F3C", "7F3C", "4001", "queued", NOW_MS, actor.id)
        self.bus.publish(message)
        return message

    async def locate(self, unit: str, actor: Actor) -> tuple[str, int]:
        if self.refuse is not None:
            raise self.refuse
        self.acts.append(("locate", unit, actor.id))
        return "4001", NOW_MS

    def _act(self, verb: str, alarm_id: str, by: str, **changes: object) -> AlarmChanged:
        if self.refuse is not None:
            raise self.refuse
        before = self.alarms[alarm_id]
        self.acts.append((verb, alarm_id, by))
        after = msgspec.structs.replace(before, **changes)
        self.alarms[alarm_id] = after
        self.bus.publish(after)
        return after

    async def record_export(self, purpose: str, actor: Actor, receipt: str = "") -> str:
        self.acts.append(("export", f"{purpose} {receipt}".strip(), actor.id))
        return "gw1"

    async def prove_receipt(self, receipt: str, purpose: str, actor: Actor) -> bytes | None:
        await self.record_export(purpose, actor, receipt)
        if self.refuse is not None:
            raise self.refuse
        return self.proofs.get(receipt)

    def health(self) -> bool:
        return self.alive

    def ready(self) -> tuple[bool, list[dict[str, str]]]:
        state = "up" if self.is_ready else "down"
        return self.is_ready, [{"what": "ledger", "state": state, "why": ""}]
