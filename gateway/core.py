"""The core, wired: which desk hears of what, without any adapter.

app.py gives it the world (links, ledger, PNC, clock); the tests give it a simulated one. Direct
calls for the conversation, the bus only for fan-out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec

from gateway import __version__
from gateway.admission import Rules
from gateway.alarm_causes import AlarmCauses
from gateway.alarm_life import About
from gateway.alarm_rules import COVERT_CAUSE
from gateway.alarms import AlarmDesk
from gateway.alterations import alterations
from gateway.assisted import AssistedChecks
from gateway.audit_watch import WatchedLedger
from gateway.board import ControlRoom
from gateway.bookings import BookingDesk
from gateway.breaker import Circuit
from gateway.bus import EventBus
from gateway.challenges import ChallengeDesk
from gateway.checks import CheckDesk
from gateway.delivery import Courier
from gateway.errors import TAKEN_OVER, ConfigError, LedgerFatal, LedgerUnavailable
from gateway.hit_watch import HitWatch
from gateway.limits import Limits
from gateway.locating import Locating
from gateway.log_words import LogEvent
from gateway.lone_worker import LoneWorkers
from gateway.messages import (
    AckState,
    Actor,
    BookOff,
    Envelope,
    Issi,
    LinkChanged,
    LinkState,
    LocationFix,
    Privacy,
    Suspicion,
)
from gateway.operators import Operators
from gateway.policy_seal import SAME, UNSEALED, InForce, hash_of, judge
from gateway.ports import (
    Clock,
    Factors,
    Ids,
    Journal,
    KeptRow,
    Keyed,
    Ledger,
    Link,
    Meter,
    Minded,
    Pnc,
    PutKept,
    Record,
    Seals,
    VehicleRegister,
)
from gateway.present import PresentState
from gateway.projection import Projection
from gateway.receipts import export_detail
from gateway.releases import Releases
from gateway.rendering import LEAST_BUDGET
from gateway.roster import Roster
from gateway.security import SecurityWatch
from gateway.settings import Config
from gateway.supervise import Crew
from gateway.supplements import Supplements
from gateway.switchboard import NOTICE_EXPIRES_S, Desks, Switchboard
from gateway.tracking import Tracker
from gateway.unit_messages import UnitMessages

EMERGENCIES_MOST = 256
"""Emergencies whose record is being written at once; each is on the feed already."""
LOOK_EVERY_S = 5.0
"""When nobody asks anything: whether the ledger can still be read (its file may be gone)."""
STEP_S = 0.5
"""The wall clock moved so much against the monotonic one: it was set, not merely adjusted."""


_OPEN = (LinkState.UP, LinkState.SILENT)
"""A silent link is open: it would take what is sent. Nobody speaks, and that is shown."""


class Core:
    """Everything that knows and decides. `links` is filled by whoever owns the world.

    fatal: told when the process must stop because what was written may not be durable.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        bus: EventBus,
        ledger: Ledger,
        pnc: Pnc,
        keyed: Keyed,
        factors: Factors,
        seals: Seals,
        register: VehicleRegister | None,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.config = config
        self.keyed = keyed
        self._seals = seals
        self._in_force: InForce | None = None
        """What may say who approves the next policy; known from `begin` on."""
        self.clock = clock
        self.meter = meter
        self.journal = journal
        self.bus = bus
        self.ledger = WatchedLedger(
            ledger,
            self._audit_lost,
            clock,
            config.settings.ledger.stall_s,
            stamp=lambda: (__version__, self.config.digest),
        )
        self.links: dict[str, Link] = {}
        self.states: dict[str, LinkState] = {}
        self._up_at_s: dict[str, float] = {}
        self.ledger_ok = True
        """False once what was written may not be durable: the process must stop."""
        self._gap_since_s: float | None = None
        """When the audit was first found unwritable; None when that is over and on record."""
        self._audit_up = True
        self._looked_at_s = clock.monotonic_s()
        self._minding: dict[str, asyncio.Task[None]] = {}
        self._offset_ms = clock.wall_ms() - clock.monotonic_s() * 1000
        self.started = False
        self._fatal_told = fatal
        section, publish = config.settings, bus.publish
        self.roster = Roster(config.fleet, config.people, config.areas)
        self.projection = Projection(self.roster, lambda: self.config.policy)
        bus.project_by(self.projection)
        self.operators = Operators(config.people)
        self.tracker = Tracker(section.tracking, self.roster, meter, publish)
        self.alarms = AlarmDesk(
            clock=clock,
            ids=ids,
            meter=meter,
            journal=journal,
            ledger=self.ledger,
            publish=publish,
            tracker=self.tracker,
            rules=config.alarms,
            grace_s=section.alarms.grace_s,
            area_of=self._area_of,
        )
        self.causes = AlarmCauses(self.alarms, self.tracker, clock)
        bus.tap(self.causes.seen)
        self.courier = Courier(
            clock=clock,
            meter=meter,
            journal=journal,
            publish=publish,
            link_for=self.link_for,
            holder_of=self.roster.holder,
            resend_s=section.checks.resend_s,
            broker_holds_s=section.book.broker_holds_s,
        )
        self.checks = CheckDesk(
            settings=section.checks,
            slots=section.slots,
            rules=self._rules(config),
            clock=clock,
            ids=ids,
            meter=meter,
            journal=journal,
            ledger=self.ledger,
            pnc=pnc,
            keyed=keyed,
            register=register,
            courier=self.courier,
            publish=publish,
            fatal=self._fatal,
        )
        self.messages = UnitMessages(
            settings=section.messages,
            clock=clock,
            ids=ids,
            meter=meter,
            journal=journal,
            ledger=self.ledger,
            courier=self.courier,
            roster=self.roster,
            budget_of=self._budget_of,
            publish=publish,
            fatal=self._fatal,
        )
        self.locating = Locating(
            clock=clock,
            ledger=self.ledger,
            roster=self.roster,
            courier=self.courier,
            link_for=self.link_for,
            fatal=self._fatal,
        )
        self.courier.stale = self._undelivered
        self.courier.message_sent = self.messages.sent
        self.releases = Releases(
            checks=self.checks,
            rules=lambda: self.checks.rules,
            clock=clock,
            ledger=self.ledger,
            meter=meter,
            publish=publish,
        )
        self.checks.hold_seen = self.releases.seen
        self.assisted = AssistedChecks(
            checks=self.checks,
            rules=lambda: self.checks.rules,
            clock=clock,
            ledger=self.ledger,
            journal=journal,
            stale_s=section.checks.stale_s,
        )
        self.checks.control_copy = self.assisted.copy
        bus.tap(self.assisted.seen)
        self.checks.clock_seen = self.causes.clock_is_off
        self.checks.danger_arrived = self.causes.danger_arrived
        self.hits = HitWatch(
            alarms=self.alarms,
            ledger=self.ledger,
            journal=journal,
            again=self.checks.remind,
            again_s=section.checks.hit_again_s,
            stale_s=section.checks.stale_s,
        )
        bus.tap(self.hits.seen)
        self.checks.voice.in_slot = self._in_slot
        self.challenges = ChallengeDesk(
            clock=clock,
            keyed=keyed,
            meter=meter,
            journal=journal,
            ledger=self.ledger,
            rules=self._rules(config),
            tell=self.courier.tell,
            publish=publish,
            fatal=self._fatal,
        )
        self.checks.challenge = self.challenges.drawn
        self.checks.within_limit = lambda officer: self.limits.officer_may(
            officer, clock.monotonic_s()
        )
        self.checks.place_of = lambda terminal, along: self.tracker.place(
            terminal, clock.wall_ms(), along
        )
        self.checks.covert = lambda check: self.alarms.prepared(
            COVERT_CAUSE, About(terminal=check.terminal, check=check.id, short=check.short)
        )
        self.board = ControlRoom(
            epoch=ids.occurrence(),
            clock=clock,
            bus=bus,
            roster=lambda: self.roster,
            counted=self.projection.counts,
            tracker=self.tracker,
            alarms=self.alarms,
            messages=self.messages,
            locating=self.locating,
            releases=self.releases,
            assisted=self.assisted,
            challenges=self.challenges,
            healthy=lambda: True,
            ready_now=self.ready_now,
            record_export=self._record_export,
            revealed=self.causes.revealed,
        )
        self.present = PresentState(
            clock=clock, roster=lambda: self.roster, tracker=self.tracker, alarms=self.alarms
        )
        self.security = SecurityWatch(
            clock=clock,
            meter=meter,
            journal=journal,
            ledger=self.ledger,
            known=lambda terminal: self.roster.terminal(terminal) is not None,
            begun=lambda link: self.alarms.suspicion(link, on=True),
            over=lambda link: self.alarms.suspicion(link, on=False),
            often=lambda: self.alarms.often("refused"),
            many=self.alarms.suspicions,
        )
        self.limits = Limits(section.limits, clock.monotonic_s())
        self.bookings = BookingDesk(
            settings=section.book,
            roster=self.roster,
            clock=clock,
            ids=ids,
            meter=meter,
            journal=journal,
            ledger=self.ledger,
            factors=factors,
            tell=lambda terminal, notice: self.courier.tell(
                terminal, notice, expires_in_s=NOTICE_EXPIRES_S
            ),
            suspect=self.security.seen,
            changed=self._holder_changed,
            policy=lambda: self.config.policy.version,
            zone=section.gateway.timezone,
            fatal=self._fatal,
        )
        self.lone = LoneWorkers(
            settings=section.lone,
            clock=clock,
            meter=meter,
            ledger=self.ledger,
            roster=self.roster,
            alarms=self.alarms,
            tell=lambda terminal, notice, holder: self.courier.tell(
                terminal, notice, expires_in_s=NOTICE_EXPIRES_S, holder=holder
            ),
            changed=self._show_unit,
        )
        self.roster.lone = self.lone.is_alone
        self.supplements = Supplements(
            checks=self.checks,
            roster=self.roster,
            clock=clock,
            ledger=self.ledger,
            pnc=pnc.sources,
            register=register.sources if register is not None else None,
            start=lambda work: self._mind("supplements", work),
            policy=lambda: self.config.policy.version,
            within_s=section.register.supplement_s,
            at_once=section.register.supplements_at_once,
        )
        self.checks.lacks = self.supplements.kept
        self.minded: list[Minded] = [
            self.security,
            self.alarms,
            self.bookings,
            self.messages,
            self.releases,
            self.hits,
            self.assisted,
            self.lone,
            self.challenges,
            self.supplements,
        ]
        self.switchboard = Switchboard(
            desks=self._desks(),
            roster=lambda: self.roster,
            limits=self.limits,
            suspect=self.security.seen,
            clock=clock,
            meter=meter,
            journal=journal,
        )
        self._crew = Crew(name="emergency", most=EMERGENCIES_MOST, journal=journal, meter=meter)

    def _desks(self) -> Desks:
        desks = Desks()
        desks.submit = self.checks.submit
        desks.refuse_malformed = self.checks.refuse_malformed
        desks.cancel = self.checks.cancel
        desks.recall = self.checks.recall
        desks.free_to_receive = self.checks.free_to_receive
        desks.acknowledge = self._acknowledge
        desks.note_time = self.checks.note_time
        desks.fix = self._fix
        desks.emergency = self._emergency
        desks.emergency_open = self.alarms.emergency_open
        desks.status = self._status
        desks.book_on = self.bookings.book_on
        desks.book_off = self.bookings.book_off
        desks.book_by_status = self._book_by_status
        desks.privacy = self._privacy
        desks.reasoning = self.challenges.explain
        desks.heard = self._heard
        desks.alive = self.lone.heard
        desks.tell = lambda terminal, message, expires_in_s: self.courier.tell(
            terminal, message, expires_in_s=expires_in_s
        )
        return desks

    # ----------------------------------------------------------------- life

    async def begin(self) -> int:
        """Put the start on record, raise what was open, go on with what was under way.

        Returns how many checks were taken up. Raises LedgerError: no record, no service; and then
        nothing of it is left running.
        """
        try:
            return await self._begin()
        except BaseException:
            await self.abandon()
            raise

    async def _begin(self) -> int:
        await self.ledger.commit([self.life_record("started")])
        for row in await self.ledger.kept("policy"):
            self._in_force = msgspec.json.decode(row.body, type=InForce)
        await self.take_policy(self.config)
        await self.bookings.restore()
        for meta in self.roster.metas(self.clock.wall_ms()):
            self.bus.publish(meta)
        self.alarms.restore(await self.ledger.open_alarms())
        await self.lone.restore()
        await self.supplements.restore()
        restored = await self.checks.restore()
        await self.hits.restore(self.checks.held())
        await self.assisted.restore()
        await self.messages.restore()
        await self.challenges.restore()
        for check in self.checks.danger_awaiting():
            self.causes.awaits(check.terminal, check.id, check.short)
            self.checks.voice.tell_slot(check)
        self.started = True
        self.journal.note("started", version=__version__, restored=restored)
        return restored

    async def drain(self, deadline_s: float) -> None:
        """Finish what is being written and sent, within the deadline; the rest is on record."""
        self.started = False
        await self.bookings.stop(deadline_s / 8)
        await self.checks.stop(deadline_s / 2)
        await self.courier.stop(deadline_s / 4)
        await self.messages.stop(deadline_s / 8)
        await self.challenges.crew.drain(deadline_s / 16)
        await self._crew.drain(deadline_s / 16)
        await self._record_of(self.security)

    async def abandon(self) -> None:
        """Drop every task where it stands, as a kill would; what is on record stays there."""
        for crew in (
            self.bookings.crew,
            self.checks.crew,
            self.messages.crew,
            self.courier.crew,
            self.challenges.crew,
            self._crew,
        ):
            await crew.cancel()

    async def mind(self) -> None:
        """Owned by the composition root; never returns. Once a second: what is due by time alone,
        what still waits for the ledger, and gauges that age."""
        while True:
            await self.clock.sleep(1.0)
            now_s = self.clock.monotonic_s()
            self.switchboard.sweep(now_s)
            if self.ledger.stalled():
                self.checks.tell_stalled(self.config.settings.ledger.stall_s)
            self.limits.sweep(now_s)
            self.causes.tick(self.clock.wall_ms())
            for desk in self.minded:
                desk.tick(now_s, self.clock.wall_ms())
                if desk.unrecorded:
                    self._mind(type(desk).__name__, partial(self._record_of, desk))
            if self._gap_since_s is not None:
                self._mind("gap", self._record_gap)
            if now_s - self._looked_at_s >= LOOK_EVERY_S:
                self._looked_at_s = now_s
                self._mind("look", self._look_at_ledger)
            self._mind_the_clock(now_s)
            self.checks.see_circuit()
            self._age_gauges()
            self._count_units()
            self._mind_silence(now_s)

    def _mind(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One at a time of each."""
        running = self._minding.get(name)
        if running is None or running.done():
            self._minding[name] = self._crew.start(work())

    async def _record_of(self, desk: Minded) -> None:
        """What this desk could not put on record at once."""
        try:
            await desk.record()
        except LedgerFatal as error:
            self._fatal(error)

    async def _look_at_ledger(self) -> None:
        """A ledger that was deleted under us is found before an officer's question finds it (D05).
        Whether it can be written is for commits to say."""
        try:
            await self.ledger.check("")
        except LedgerUnavailable:
            return
        except LedgerFatal as error:
            self._fatal(error)

    def _mind_the_clock(self, now_s: float) -> None:
        offset_ms = self.clock.wall_ms() - now_s * 1000
        before_ms, self._offset_ms = self._offset_ms, offset_ms
        step_s = abs(offset_ms - before_ms) / 1000
        if step_s > STEP_S:
            self.meter.count("clock_step_seconds_total", step_s)
            self.journal.warn("clock.step", step_ms=round(offset_ms - before_ms))
            if offset_ms < before_ms:
                self.tracker.set_back(round(before_ms - offset_ms), self.clock.wall_ms())

    def _age_gauges(self) -> None:
        self.meter.gauge("check_oldest_in_flight_age_seconds", self.checks.oldest_age_s() or 0.0)
        self.meter.gauge("hit_oldest_unacked_age_seconds", self.checks.oldest_hit_age_s() or 0.0)
        self.meter.gauge("audit_lag_seconds", self.ledger.lag_s())

    def _mind_silence(self, now_s: float) -> None:
        """A link that is open but over which nothing was heard for so long is shown as silent.

        Heard is more than messages: a receiver that says each second that it has no fix is alive.
        """
        for each in self.config.settings.links:
            state = self.states.get(each.name)
            link = self.links.get(each.name)
            if link is None or state not in _OPEN:
                continue
            heard_s = max(
                self.roster.link_heard_at_s(each.name) or 0.0,
                link.heard_at_s or 0.0,
                self._up_at_s[each.name],
            )
            silent = now_s - heard_s >= each.silent_s
            if silent != (state is LinkState.SILENT):
                now = LinkState.SILENT if silent else LinkState.UP
                self.link_seen(each.name, link.kind, now, "nothing heard" if silent else "")

    def _fatal(self, error: BaseException) -> None:
        self.ledger_ok = False
        self.journal.warn("ledger.fatal", error=type(error).__name__)
        self._fatal_told(error)

    def _audit_lost(self) -> None:
        """A commit could not be made: told on once, however many follow."""
        if self._gap_since_s is None:
            self._gap_since_s = self.clock.monotonic_s()
            self.journal.warn("ledger.unavailable")
            self._show_audit(up=False)

    def _show_audit(self, *, up: bool) -> None:
        self._audit_up = up
        self.bus.publish(
            LinkChanged(
                id="ledger",
                kind="audit",
                state=LinkState.UP if up else LinkState.DOWN,
                since_ms=self.clock.wall_ms(),
            )
        )

    async def _record_gap(self) -> None:
        """How long the audit could not be written, as soon as it can. This alone finds out that it
        can: on a full disk what is under way is still written, and nothing new is (D01)."""
        since_s = self._gap_since_s
        if since_s is None:
            return
        gap_s = self.clock.monotonic_s() - since_s
        detail = f"audit could not be written for {gap_s:.0f} s"
        record = msgspec.structs.replace(self.life_record("alarm", detail), operation="AUD")
        try:
            await self.ledger.commit([record])
        except LedgerUnavailable:
            return
        except LedgerFatal as error:
            self._fatal(error)
            return
        self._gap_since_s = None
        self.journal.note("ledger.recovered")
        self._show_audit(up=True)

    def life_record(self, event: str, detail: str = "") -> Record:
        return Record(
            event=event,
            at_ms=self.clock.wall_ms(),
            policy=self.config.policy.version,
            detail=detail or f"radio-gateway {__version__}",
        )

    async def _record_export(self, purpose: str, actor: Actor, receipt: str = "") -> str:
        """An export is itself on record before a line of it is read; so is a look at one check."""
        record = self.life_record("export", detail=export_detail(purpose, receipt))
        await self.ledger.commit([msgspec.structs.replace(record, operator=actor.id)])
        return self.config.settings.gateway.instance

    # ----------------------------------------------------------------- links

    def link_seen(self, name: str, kind: str, state: LinkState, reason: str) -> None:
        if reason == TAKEN_OVER:
            # Said once more though it was down already: taken over before it was up (M06).
            self.security.seen(Suspicion.TAKEOVER, name)
        if self.states.get(name) is state:
            return
        if state is LinkState.UP and self.states.get(name) is not LinkState.SILENT:
            self._up_at_s[name] = self.clock.monotonic_s()
            self.courier.link_up()
        self.states[name] = state
        up = state in _OPEN
        self.meter.gauge("link_up", float(up), link=name, kind=kind)
        self.meter.count("link_transitions_total", link=name, kind=kind, to=state.value)
        word: LogEvent = "link.up" if up else "link.down"
        if state is LinkState.SILENT:
            word = "link.state"
        self.journal.note(word, link=name, kind=kind, state=state.value, reason=reason)
        event = LinkChanged(
            id=name, kind=kind, state=state, since_ms=self.clock.wall_ms(), detail=reason
        )
        self.bus.publish(event)

    def _heard(self, terminal: Issi) -> None:
        """What waits for it may be tried again, if what it was heard over can bear it anything. A
        receiver, a tracker, a phone say each second that they live, and nothing of its radio: what
        failed there would be tried on the air as often."""
        link = self.links.get(self.roster.link_of(terminal))
        if link is None or link.reaches(terminal):
            self.courier.heard(terminal)

    def link_for(self, terminal: Issi) -> Link | None:
        """Where the terminal was heard last, else its own line or the link that the fleet says,
        else any that may reach it.

        A terminal with a line or link of its own, or known by the name of a phone or a tracker, is
        not looked for elsewhere unless it was heard there: a broker would take its answer for
        nobody, and it would count as sent.
        """
        held = self.roster.terminal(terminal)
        if held is None:
            return None  # a link may know one that is revoked: it is heard, never answered
        for name in self.roster.links_of(terminal):
            link = self.links.get(name)
            if link is not None and link.reaches(terminal):
                return link
        own = {each.name for each in self.config.settings.serial if each.terminal == terminal}
        own = own or {held.link} - {""}
        if held.names and not own:
            return None
        found = (self.links[name] for name in own or self.links if name in self.links)
        return next((link for link in found if link.reaches(terminal)), None)

    # ----------------------------------------------------------------- small desks

    def _in_slot(self, terminal: Issi, check: str, short: str, begins_ms: int) -> None:
        self.causes.in_slot(terminal, check, short, begins_ms)
        self.hits.in_slot(check, begins_ms)

    def _fix(self, terminal: Issi, fix: LocationFix, envelope: Envelope) -> None:
        self.tracker.fix(
            terminal,
            fix,
            envelope.received_at_ms,
            envelope.reference_ms,
            envelope.received_at_s,
            stored=envelope.stored,
        )

    def _emergency(self, envelope: Envelope) -> None:
        """Relayed first, recorded second; it passes every queue."""
        writing = self.alarms.emergency(
            envelope.terminal, self.clock.wall_ms(), envelope.received_at_s
        )

        async def record() -> None:
            try:
                await writing
            except LedgerFatal as error:
                self._fatal(error)
                return
            envelope.settle()

        if self._crew.full:
            # Its record waits with the others' and goes with them.
            writing.close()
            envelope.settle()
            return
        self._crew.start(record(), fault=lambda _error: envelope.settle())

    def _acknowledge(
        self, terminal: Issi, ref: str, part: int, state: AckState, settle: Callable[[], None]
    ) -> None:
        """Of an answer, or of a message. Named, it is looked for among the answers first; without
        a name it is what a bearer took last."""
        named = self.messages.find(terminal, ref or self.courier.newest(terminal))
        if named and not (ref and self.checks.knows(terminal, ref)):
            self.messages.acknowledge(named, part, state, settle)
        else:
            self.checks.acknowledge(terminal, ref, part, state, settle)

    def _undelivered(self, id_: str) -> None:
        """The Courier gave it up."""
        if not self.messages.stale(id_):
            self.checks.delivery_stale(id_)

    def _privacy(self, envelope: Envelope, privacy: Privacy) -> None:
        """Free: what waited for that comes. Not free: it waits on, and is mentioned less often."""
        if privacy.free:
            self.checks.free_to_receive(envelope.terminal, privacy.check)
        else:
            self.checks.not_free(envelope.terminal, privacy.check)
        envelope.settle()

    def _budget_of(self, terminal: Issi) -> int:
        known = self.roster.terminal(terminal)
        device = self.config.fleet.device_classes.get(known.device_class) if known else None
        return device.budget if device is not None else LEAST_BUDGET

    def _book_by_status(self, envelope: Envelope, effect: str) -> None:
        if effect == "book_off":
            self.bookings.book_off(envelope, BookOff(), cause="status")
            return
        self.bookings.by_status(envelope.terminal)
        envelope.settle()

    def _holder_changed(self, terminal: Issi) -> None:
        """What waited for whoever held it goes stale, before anybody else is served."""
        self.checks.holder_changed(terminal)
        self.courier.holder_changed(terminal)
        self.lone.begin(terminal)
        meta = self.roster.meta(terminal, self.clock.wall_ms())
        if meta is not None:
            self.bus.publish(meta)

    def _area_of(self, terminal: Issi) -> str:
        known = self.roster.terminal(terminal) or self.roster.revoked(terminal)
        return known.area if known is not None else ""

    def _status(self, terminal: Issi, code: int) -> None:
        self.roster.status(terminal, code)
        self._show_unit(terminal)

    def _show_unit(self, terminal: Issi) -> None:
        meta = self.roster.meta(terminal, self.clock.wall_ms())
        if meta is not None:
            self.bus.publish(meta)

    # ----------------------------------------------------------------- looking after itself

    def _count_units(self) -> None:
        for (area, band), units in self.tracker.bands(self.clock.wall_ms()).items():
            self.meter.gauge("units", units, area=area, band=band)

    def ready_now(self) -> tuple[bool, list[dict[str, str]]]:
        """Ready to take questions: the ledger writes and at least one bearer is up."""
        writes = self.ledger_ok and self._audit_up
        reasons = [
            {"what": "ledger", "state": "up" if writes else "down", "why": ""},
            {
                "what": "pnc",
                "state": "up" if self.checks.circuit is Circuit.CLOSED else "down",
                "why": f"circuit {self.checks.circuit.value}",
            },
        ]
        for name in self.links:
            state = self.states.get(name, LinkState.DOWN)
            reasons.append({"what": name, "state": state.value, "why": ""})
        bearers = not self.links or any(self.states.get(name) in _OPEN for name in self.links)
        return self.started and writes and bearers, reasons

    # ----------------------------------------------------------------- rules

    async def take_policy(self, config: Config, records: Sequence[Record] = ()) -> None:
        """Put these on record, and with them by whom its policy was approved. Raises ConfigError
        when it needs two persons and was not approved by them; then nothing is on record."""
        verdict = judge(
            config.policy_bytes,
            config.policy_seal,
            config.policy.approvers,
            self._in_force,
            self._seals,
            production=config.settings.gateway.profile == "production",
        )
        if verdict.finding:
            raise ConfigError([f"{config.settings.gateway.policy}: {verdict.finding}"])
        if verdict.operation == SAME or not config.policy_bytes:
            if records:
                await self.ledger.commit(records)
            return
        if verdict.operation == UNSEALED:
            self.journal.warn("policy.unsealed", version=config.policy.version)
        now = InForce(
            version=config.policy.version,
            hash=hash_of(config.policy_bytes),
            approvers=config.policy.approvers,
        )
        detail = f"{config.policy.version} approved by {' and '.join(verdict.by) or 'nobody'}"
        record = msgspec.structs.replace(
            self.life_record("alteration", detail),
            operation=verdict.operation,
            operator="+".join(verdict.by),
            policy=config.policy.version,
        )
        row = KeptRow(
            kind="policy", id="in-force", at_ms=self.clock.wall_ms(), body=msgspec.json.encode(now)
        )
        await self.ledger.commit([*records, record], [PutKept(row)])
        self._in_force = now

    def alterations(self, config: Config) -> list[Record]:
        """What taking over this one puts on record, before it holds: one of each change."""
        found = alterations(self.config, config)
        whole = self.life_record("alteration", f"configuration: {len(found)} changes")
        return [
            msgspec.structs.replace(whole, operation="configuration"),
            *(
                msgspec.structs.replace(
                    whole,
                    operation=each.operation,
                    operator=each.by,
                    policy=config.policy.version,
                    detail=f"{each.subject}: {each.detail}",
                    terminal=each.subject if each.operation.startswith("terminal.") else "",
                )
                for each in found
            ),
        ]

    def apply(self, config: Config) -> list[str]:
        """Take over people, policy and words of a checked configuration, now.

        Returns the sections that differ and need a restart (links, ledger, HTTP ...).
        """
        fixed = [
            field
            for field in config.settings.__struct_fields__
            if getattr(config.settings, field) != getattr(self.config.settings, field)
        ]
        self.config = msgspec.structs.replace(config, settings=self.config.settings)
        now_ms = self.clock.wall_ms()
        self.operators = Operators(config.people)
        changes = self.roster.replace(config.fleet, config.people, config.areas)
        for gone in changes.removed:
            # Should it come back, it is somebody else's: the marker begins anew.
            self.tracker.forget(gone)
            self.bus.publish(self.roster.gone(gone, now_ms))
        self.bookings.people_changed()
        rules = self._rules(config)
        self.checks.rules_changed(rules)
        self.challenges.rules_changed(rules)
        self.alarms.rules_changed(config.alarms)
        for meta in self.roster.metas(now_ms):
            self.bus.publish(meta)
        self.courier.holders_changed()
        self.lone.holders_changed()
        self.bus.policy_changed()
        return fixed

    def _rules(self, config: Config) -> Rules:
        return Rules(
            policy=config.policy,
            warnings=config.warnings,
            roster=self.roster,
            budgets={name: each.budget for name, each in config.fleet.device_classes.items()},
            zone=config.settings.gateway.timezone,
            prompting=frozenset(
                name for name, each in config.fleet.device_classes.items() if each.privacy_prompt
            ),
        )
