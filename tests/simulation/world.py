"""A simulated world around the real core: terminals, bearers, a PNC, a disk, all in virtual time.

What each party saw is kept apart (T: terminals, Q: PNC, A: the disk's records), so that the
oracles in oracles.py can join them. The daemon's own counters are never evidence.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway.bus import EventBus
from gateway.core import Core
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    Bearer,
    CheckRequest,
    Downlink,
    Envelope,
    Event,
    Issi,
    PncQuery,
    Result,
    StatusReport,
    Uplink,
)
from gateway.ports import Handle
from gateway.settings import Config
from gateway.supervise import keep
from tests.fake_ledger import Disk
from tests.fakes import FakeIds, FakeJournal, FakeMeter
from tests.simulation import oracles
from tests.simulation.bearers import SimBearer, SimBroker, SimLine
from tests.simulation.faults import Faults
from tests.simulation.loop import SimClock, SimLoop
from tests.simulation.parties import SimLedger, SimPnc, SimTerminal

__all__ = ["Disk", "Faults", "SimLedger", "SimPnc", "World"]


class Given:
    """One message in the core's hands, and how often it was settled."""

    __slots__ = ("life", "settled")

    def __init__(self, life: int) -> None:
        self.life, self.settled = life, 0


class World:
    """One seeded world. `start` brings the core up, `crash` drops it, `heal` ends all faults."""

    def __init__(self, loop: SimLoop, config: Config, faults: Faults) -> None:
        self.loop = loop
        self.random: random.Random = loop.random
        self.clock = SimClock(loop)
        self.faults = faults
        self.base = self.config = config
        self.disk = Disk()
        self.ids = FakeIds(loop.random.randrange(1 << 30))
        self.meter = FakeMeter()
        self.journal = FakeJournal()
        self.asked: list[PncQuery] = []
        self.events: list[Event] = []
        self.emergencies: list[Issi] = []
        self.refused: set[str] = set()
        """Keys of the questions whose record the disk refused."""
        self.disk_waits_s: Callable[[], float] = lambda: 0.0
        """How long the disk has kept its oldest commit waiting."""
        self.happened: Counter[str] = Counter()
        self.healed = False
        self.life = 0
        self.broken: list[str] = []
        """What the oracles found at the moment it happened."""
        self.last_words: dict[Issi, str] = {}
        """The question that each terminal asked after the heal."""
        self.core: Core | None = None
        issis = [each.issi for each in config.fleet.terminals]
        on_lines, on_broker = issis[:2], issis[2:]
        self.bearers: list[SimLine | SimBroker] = [
            *(SimLine(self, f"line{n}", Bearer.SERIAL, [i]) for n, i in enumerate(on_lines)),
            SimBroker(self, "broker", Bearer.MQTT, on_broker),
        ]
        self._way = {issi: self.bearers[min(n, 2)] for n, issi in enumerate(issis)}
        self.terminals = {
            issi: SimTerminal(self, issi, way.bearer) for issi, way in self._way.items()
        }
        self._given: list[Given] = []
        self._officers: list[asyncio.Task[None]] = []
        self._own: list[asyncio.Task[None]] = []
        self._killed = asyncio.Event()

    # ----------------------------------------------------------------- chance

    def chance(self, fault: str) -> bool:
        """Whether this fault happens now; never after the heal."""
        rate = getattr(self.faults, fault)
        if self.healed or rate <= 0 or self.random.random() >= rate:
            return False
        self.met(fault)
        return True

    def met(self, fault: str) -> None:
        self.happened[fault] += 1

    async def point(self, name: str) -> None:
        """A place where `kill -9` may fall: who passes here then never goes on."""
        if self.chance("kill"):
            self.met(f"kill {name}")
            self.loop.note("kill", name)
            self._killed.set()
            await asyncio.get_running_loop().create_future()

    # ----------------------------------------------------------------- the daemon's life

    async def start(self) -> None:
        bus = EventBus(self.clock)
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
            fatal=self._fatal,
        )
        for bearer in self.bearers:
            core.links[bearer.name] = bearer
        self.core = core
        beginning = asyncio.ensure_future(self._begin(core))
        killed = asyncio.ensure_future(self._killed.wait())
        await asyncio.wait([beginning, killed], return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if not beginning.done():
            beginning.cancel()  # killed while it started: whoever restarts us sees to it
            await asyncio.gather(beginning, return_exceptions=True)
            return
        beginning.result()
        for bearer in self.bearers:
            self.own(self._keep(core, bearer))
        self.own(core.courier.tend())
        self.own(core.mind())

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        """A task of the daemon's own: it ends with the process."""
        self._own.append(self.loop.create_task(work))

    async def _begin(self, core: Core) -> None:
        while True:
            try:
                await core.begin()
                return
            except LedgerUnavailable:
                await self.clock.sleep(0.5)

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
        own, self._own = self._own, []
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
        self.events.append(event)
        self.loop.note("event", type(event).__name__)

    # ----------------------------------------------------------------- the air

    def say(self, terminal: Issi, message: Uplink) -> None:
        """A terminal transmits over the bearer it has."""
        self._way[terminal].say(terminal, message)

    def given(self, envelope: Envelope, handle: Handle) -> None:
        """The core takes one message; an emergency is on the feed before it returns."""
        message = envelope.message
        seen = len(self.events)
        handle(envelope)
        if isinstance(message, StatusReport) and message.code == 0:
            self.emergencies.append(envelope.terminal)
            self.judge(oracles.emergency_relayed, envelope.terminal, self.events[seen:])

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

    def about_to_send(self, terminal: Issi, message: Downlink) -> None:
        if isinstance(message, Result):
            self.judge(oracles.sending_allowed, terminal, message)

    def shown(self, terminal: Issi, result: Result) -> None:
        self.judge(oracles.result_allowed, terminal, result)

    def judge(self, oracle: Callable[..., None], *what: object) -> None:
        """Ask an oracle now; what it finds is kept for the verdict, the world goes on."""
        try:
            oracle(self, *what)
        except AssertionError as error:
            self.broken.append(f"{self.loop.now_s:.3f} {str(error).splitlines()[0]}")

    # ----------------------------------------------------------------- the story

    async def officers(self, until_s: float, every_s: float) -> None:
        """Officers ask at random moments until the time is over."""
        while self.loop.now_s < until_s:
            await self.clock.sleep(self.random.expovariate(1 / every_s))
            terminal = self.random.choice(list(self.terminals.values()))
            if self.random.random() < 0.02:
                self.say(terminal.issi, StatusReport(code=0))
                continue
            self._officers.append(self.loop.create_task(terminal.ask()))

    async def mischief(self, until_s: float) -> None:
        """Crashes, cuts, clock steps and reloads at random moments; kills where they fell."""
        while self.loop.now_s < until_s:
            pause = asyncio.ensure_future(self.clock.sleep(self.random.uniform(0.5, 10.0)))
            killed = asyncio.ensure_future(self._killed.wait())
            await asyncio.wait([pause, killed], return_when=asyncio.FIRST_COMPLETED)
            died = killed.done()
            pause.cancel()
            killed.cancel()
            if died or self.chance("crash"):
                await self.restart()
            elif self.chance("link_cut"):
                self.random.choice(self.bearers).cut()
            elif self.chance("wall_step"):
                self.clock.step_wall(self.random.choice([-3_600_000, 3_600_000]))
            elif self.chance("reload") and self.core is not None:
                self.config = self._other_config()
                self.core.apply(self.config)

    async def restart(self) -> None:
        await self.crash()
        await self.clock.sleep(self.random.uniform(0.2, 3.0))
        await self.start()

    def _other_config(self) -> Config:
        """Another holder, a terminal taken away, nobody may ask; or all as it was."""
        base = self.base
        terminals = list(base.fleet.terminals)
        which = self.random.randrange(len(terminals))
        policy = base.policy
        match self.random.choice(["holder", "revoked", "denied", "as it was"]):
            case "holder":
                terminals[which] = msgspec.structs.replace(terminals[which], officer="9999")
            case "revoked":
                del terminals[which]
            case "denied":
                policy = msgspec.structs.replace(policy, rules=(), version="denied")
            case _:
                pass
        fleet = msgspec.structs.replace(base.fleet, terminals=tuple(terminals))
        return msgspec.structs.replace(base, fleet=fleet, policy=policy)

    async def heal(self) -> None:
        """All faults end; whoever is down comes back."""
        self.healed = True
        if self._killed.is_set() or self.core is None:
            await self.restart()
        self.config = self.base
        assert self.core is not None
        self.core.apply(self.base)
        await asyncio.gather(*self._officers)

    async def everybody_asks_once_more(self) -> None:
        """After the heal: one question each, one after the other, as on a calm day."""
        self.last_words = {}
        for issi, terminal in self.terminals.items():
            await terminal.ask()
            await self.clock.sleep(8.0)
            self.last_words[issi] = list(terminal.sent)[-1]

    def held_by_the_broker(self) -> int:
        return sum(each.held() for each in self.bearers if isinstance(each, SimBroker))
