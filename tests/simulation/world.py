"""A simulated world around the real core: terminals, bearers, a PNC, a disk, consoles, all in
virtual time.

What each party saw is kept apart (T: terminals, Q: PNC, A: the disk's records, C: consoles), so
that the oracles in oracles.py can join them. The daemon's own counters are never evidence. What
happens in a world, and when, is story.py's.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from gateway.bus import EventBus
from gateway.check_memory import dedupe_key
from gateway.core import Core
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    Bearer,
    CancelRequest,
    CheckRequest,
    Downlink,
    Envelope,
    Event,
    Issi,
    LocationFix,
    Notice,
    PncQuery,
    RegisterQuery,
    Result,
    StatusReport,
    UnitFix,
    Uplink,
)
from gateway.ports import Change, Handle, PutCheck, Record
from gateway.settings import Config
from gateway.supervise import keep
from tests.fakes import (
    FakeFactors,
    FakeIds,
    FakeKeyed,
    FakeMeter,
    FakeSeals,
)
from tests.simulation import oracles
from tests.simulation.bearers import SimBearer, SimBroker, SimLine
from tests.simulation.consoles import ALL_RIGHTS, Console, control_room
from tests.simulation.faults import Faults, Knobs
from tests.simulation.loop import SimClock, SimLoop
from tests.simulation.parties import Deadly, SimDisk, SimLedger, SimPnc, SimRegister, SimTerminal

ON_LINES = 2
"""So many of the fleet's terminals are at a line of their own, the others at the broker."""


class Given:
    """One message in the core's hands, and how often it was settled."""

    __slots__ = ("life", "settled")

    def __init__(self, life: int) -> None:
        self.life, self.settled = life, 0


class TakenBack(NamedTuple):
    """A cancellation that the core took: in which life of its, when, and who held the terminal."""

    life: int
    at_s: float
    officer: str | None


class SimMeter(FakeMeter):
    """Counters alone: the rest would cost an hour's worth of memory and is no evidence."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        pass

    def gauge(self, name: str, value: float, **labels: str) -> None:
        pass


class SimJournal:
    """Nobody reads it."""

    def note(self, event: str, **fields: str | int | float | bool | None) -> None:
        pass

    warn = note


class World:
    """One seeded world. `start` brings the core up, `crash` drops it, `heal` ends all faults.

    nth_fails: asked before each call of a port ("ledger", "link") whether it must fail.
    """

    def __init__(
        self, loop: SimLoop, config: Config, faults: Faults, knobs: Knobs | None = None
    ) -> None:
        self.loop = loop
        self.random: random.Random = loop.random
        self.clock = SimClock(loop)
        self.faults = faults
        self.knobs = knobs if knobs is not None else Knobs()
        self.base = self.config = config
        self.disk = SimDisk()
        self.ids = FakeIds(loop.random.randrange(1 << 30))
        self.meter = SimMeter()
        self.journal = SimJournal()
        self.nth_fails: Callable[[str], bool] = lambda _port: False
        self.asked: list[PncQuery] = []
        self.registered: list[RegisterQuery] = []
        """A ledger of its own: what the vehicle register was asked."""
        self.apart = random.Random(f"register {loop.seed}")
        """Chance of what came later than the seeds of the planted faults: it draws from none."""
        self.unknown: set[str] = set()
        """Checks that were once answered with a warning which no table knows."""
        self.feed: list[tuple[float, Event]] = []
        """What was published in this life on the numbered lane, and when."""
        self._published: list[Event] = []
        self.emergencies: list[Issi] = []
        self.refused: set[str] = set()
        """Keys of the questions whose record the disk refused."""
        self.disk_waits_s: Callable[[], float] = lambda: 0.0
        """How long the disk has kept its oldest commit waiting."""
        self.happened: Counter[str] = Counter()
        self.healed = False
        self.life = 0
        self.still_until_s = 0.0
        """When the process last stood still, until when."""
        self.broken: list[str] = []
        """What the oracles found at the moment it happened."""
        self.said_more: list[tuple[str, int]] = []
        """Check and attempt of each reply after which something more came."""
        self.deadly: dict[str, Deadly] = {}
        """By the key of the question."""
        self.taken_back: dict[tuple[Issi, str], TakenBack] = {}
        """By terminal and reference: questions that were taken back by name."""
        self.last_words: dict[Issi, str] = {}
        """The question that each terminal asked after the heal."""
        self.core: Core | None = None
        self.bus: EventBus | None = None
        issis = [each.issi for each in config.fleet.terminals]
        self.lines = [
            SimLine(self, f"line{n}", Bearer.SERIAL, [issi])
            for n, issi in enumerate(issis[:ON_LINES])
        ]
        self.broker = SimBroker(self, "broker", Bearer.MQTT, issis[ON_LINES:])
        self.bearers: list[SimLine | SimBroker] = [*self.lines, self.broker]
        self._way = {issi: self.bearers[min(n, ON_LINES)] for n, issi in enumerate(issis)}
        self.terminals = {
            issi: SimTerminal(self, issi, way.bearer) for issi, way in self._way.items()
        }
        self.consoles = control_room(self)
        self._dead_console = Console(self, "dead", ALL_RIGHTS, (0.0, 0.0))
        self._given: list[Given] = []
        self._own: dict[asyncio.Task[None], None] = {}
        self._killed = asyncio.Event()
        self.aim: tuple[str, Callable[[str], bool]] | None = None
        """A point, and what strikes when it is next passed (True: it killed the process)."""

    # ----------------------------------------------------------------- chance

    def chance(self, fault: str, *where: str) -> bool:
        """Whether this fault happens now; never after the heal. where: what it then has met."""
        rate = getattr(self.faults, fault)
        if self.healed or rate <= 0 or self.random.random() >= rate:
            return False
        self.met(fault)
        for each in where:
            self.met(f"{fault} @ {each}")
        return True

    def met(self, fault: str) -> None:
        self.happened[fault] += 1

    def call(self, port: str) -> bool:
        """Whether this very call of a port fails."""
        return self.nth_fails(port)

    async def point(self, name: str) -> None:
        """A place where anything may strike: whoever is killed here never goes on."""
        if self.dead or self.dies_at(name):
            await asyncio.get_running_loop().create_future()

    def dies_at(self, name: str) -> bool:
        """Whether `kill -9` falls here; other strikes that were aimed at this point fall, too."""
        if self.aim is not None and self.aim[0] == name and not self.healed:
            (_, strike), self.aim = self.aim, None
            if strike(name):
                return True
        if not self.chance("kill", name):
            return False
        self.kill(name)
        return True

    def dies_of(self, records: Sequence[Record], changes: Sequence[Change]) -> bool:
        """Whether what is about to be written is a question that ends the process."""
        if self.healed or not any(each.event == "opened" and each.content for each in records):
            return False
        keys = [change.row.dedupe for change in changes if isinstance(change, PutCheck)]
        found = [self.deadly[key] for key in keys if key in self.deadly]
        for deadly in found:
            deadly.deaths += 1
            self.kill("deadly")
        return bool(found)

    def kill(self, where: str) -> None:
        self.loop.note("kill", where)
        self._killed.set()

    @property
    def dead(self) -> bool:
        """Killed, and not yet started again."""
        return self._killed.is_set()

    async def death(self) -> None:
        await self._killed.wait()

    def stand_still(self, seconds: float) -> None:
        """SIGSTOP and SIGCONT: the process finds that time has passed."""
        self.loop.jump(seconds)
        self.still_until_s = self.loop.now_s

    # ----------------------------------------------------------------- the daemon's life

    def _made(self) -> Core:
        """A process, begun anew."""
        self.feed = []
        bus = self.bus = EventBus(
            self.clock, keep_events=self.knobs.keep_events, keep_s=self.knobs.keep_s
        )
        bus.tap(self._saw)
        core = Core(
            self.config,
            clock=self.clock,
            ids=self.ids,
            meter=self.meter,
            journal=self.journal,
            bus=bus,
            ledger=SimLedger(self),
            pnc=SimPnc(self),
            keyed=FakeKeyed(),
            seals=FakeSeals(),
            factors=FakeFactors(),
            register=SimRegister(self),
            fatal=self._fatal,
        )
        for bearer in self.bearers:
            core.links[bearer.name] = bearer
        self.core = core
        return core

    async def start(self) -> None:
        beginning = asyncio.ensure_future(self._begin())
        killed = asyncio.ensure_future(self._killed.wait())
        await asyncio.wait([beginning, killed], return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if not beginning.done():
            beginning.cancel()  # killed while it started: whoever restarts us sees to it
            await asyncio.gather(beginning, return_exceptions=True)
            return
        core = beginning.result()
        for bearer in self.bearers:
            self.own(self._keep(core, bearer))
        for console in self.consoles:
            self.own(console.watch(core))
        self.own(self._dead_console.sit_there(core))
        self.own(core.courier.tend())
        self.own(core.mind())

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        """A task of the daemon's own: it ends with the process. A defect in it is a finding."""
        task = self.loop.create_task(work)
        self._own[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._own.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken.append(f"a task of the daemon's own ended: {error!r}")

    async def _begin(self) -> Core:
        """A start that fails ends the process, and whoever restarts us does."""
        while True:
            core = self._made()
            try:
                await core.begin()
            except LedgerUnavailable:
                await self.clock.sleep(0.5)
            else:
                return core

    async def _keep(self, core: Core, bearer: SimBearer) -> None:
        async def run(up: Callable[[], None]) -> None:
            await bearer.run(core.switchboard.handle, up)

        await keep(
            run,
            name=bearer.name,
            clock=self.clock,
            ids=self.ids,
            journal=self.journal,
            meter=self.meter,
            seen=lambda state, reason: core.link_seen(bearer.name, bearer.kind, state, reason),
        )

    async def crash(self) -> None:
        """kill -9: every task of the daemon is gone, the disk is as it was."""
        self.life += 1
        self._killed.clear()
        self.loop.note("crash")
        core, self.core = self.core, None
        own = list(self._own)
        self._own.clear()
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        if core is not None:
            await core.abandon()

    async def stop(self) -> None:
        """An orderly end, as SIGTERM makes it."""
        assert self.core is not None
        await self.core.drain(4.0)
        await self.crash()

    def _fatal(self, error: BaseException) -> None:
        self.broken.append(f"the process would stop: {type(error).__name__}")

    def _saw(self, event: Event) -> None:
        self._published.append(event)
        if not isinstance(event, UnitFix):
            self.feed.append((self.loop.now_s, event))
        self.loop.note("event", type(event).__name__)

    def feed_at_s(self, seq: int) -> float:
        """When this number was published in this life."""
        return self.feed[seq - 1][0]

    # ----------------------------------------------------------------- the air

    def say(self, terminal: Issi, message: Uplink) -> None:
        """A terminal transmits over the bearer it has."""
        self._way[terminal].say(terminal, message)

    def given(self, envelope: Envelope, handle: Handle) -> None:
        """The core takes one message; an emergency is on the feed before it returns."""
        message, terminal = envelope.message, envelope.terminal
        if isinstance(message, LocationFix) and message.fixed_at_ms is not None:
            late_ms = self.clock.true_ms() - message.fixed_at_ms
            self.terminals[terminal].delays_s.append(late_ms / 1000)
        if isinstance(message, CancelRequest) and message.check:
            back = TakenBack(self.life, self.loop.now_s, self.officer(terminal))
            self.taken_back[terminal, message.check.lower()] = back
        if self.deadly and isinstance(message, CheckRequest) and not envelope.redelivered:
            deadly = self.deadly.get(dedupe_key(FakeKeyed(), terminal, message, 0))
            if deadly is not None:
                deadly.fresh += 1
        self._published = []
        handle(envelope)
        if isinstance(message, StatusReport) and message.code == 0:
            self.emergencies.append(terminal)
            self.judge(oracles.emergency_relayed, terminal, self._published)
        if isinstance(message, LocationFix):
            self.judge(oracles.fix_relayed, terminal, message, self._published)

    def officer(self, terminal: Issi) -> str | None:
        """Who holds this terminal now; None when it was taken away, or nobody booked it."""
        known = any(each.issi == terminal for each in self.config.fleet.terminals)
        booked = (each.officer for each in self.config.people.standing if each.terminal == terminal)
        return next(booked, None) if known else None

    def settling(
        self, terminal: Issi, message: Uplink, acknowledge: Callable[[], None]
    ) -> Callable[[], None]:
        given = Given(self.life)
        self._given.append(given)
        asked = isinstance(message, CheckRequest)
        since_s = self.terminals[terminal].given(message) if asked else 0.0

        def settle() -> None:
            given.settled += 1
            if given.settled > 1:
                self.broken.append("settled twice")
            if isinstance(message, CheckRequest) and given.life == self.life:
                self.judge(oracles.acknowledgement_allowed, terminal, message, since_s)
            acknowledge()

        return settle

    def unsettled(self) -> int:
        """Messages of this life that nobody acknowledged."""
        return sum(1 for each in self._given if each.life == self.life and not each.settled)

    def asks(self, query: PncQuery) -> None:
        self.asked.append(query)
        self.loop.note("question", query.check, query.attempt)
        self.judge(oracles.question_allowed, query)

    def asks_register(self, query: RegisterQuery) -> None:
        self.registered.append(query)
        self.loop.note("register", query.check, query.attempt)
        self.judge(oracles.register_allowed, query)

    def about_to_send(self, terminal: Issi, message: Downlink) -> None:
        asks = isinstance(message, Notice) and message.kind == "waiting"
        if isinstance(message, Result) or asks:
            self.judge(oracles.sending_allowed, terminal, message)
        if asks:
            self.judge(oracles.prompt_allowed, terminal, message)
        if isinstance(message, Notice) and message.kind == "message":
            self.judge(oracles.message_allowed, terminal, message)

    def shown(self, terminal: Issi, result: Result) -> None:
        self.judge(oracles.result_allowed, terminal, result)

    def judge(self, oracle: Callable[..., None], *what: object) -> None:
        """Ask an oracle now; what it finds is kept for the verdict, the world goes on."""
        try:
            oracle(self, *what)
        except AssertionError as error:
            self.broken.append(f"{self.loop.now_s:.3f} {str(error).splitlines()[0]}")

    def held_by_the_broker(self) -> int:
        return self.broker.held()
