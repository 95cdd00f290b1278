"""A simulated world around the real core: terminals, links, a PNC, a disk, all in virtual time.

What each party saw is kept apart (T: terminals, Q: PNC, A: the disk's records), so that the
oracles in oracles.py can join them. The daemon's own counters are never evidence.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec

from gateway.bus import EventBus
from gateway.core import Core
from gateway.errors import (
    LedgerUnavailable,
    LinkDown,
    PncDown,
    PncGarbled,
    SendFailed,
)
from gateway.messages import (
    AckState,
    Bearer,
    Block,
    CheckRequest,
    DeliveryAck,
    Downlink,
    Envelope,
    Event,
    Issi,
    Notice,
    PncAnswer,
    PncQuery,
    Receipt,
    Result,
    StatusReport,
    Uplink,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
)
from gateway.ports import Change, Handle, Record
from gateway.settings import (
    ChecksSection,
    Config,
    Settings,
    load,
)
from gateway.supervise import keep
from tests.fake_ledger import Disk, FakeLedger
from tests.fakes import FakeIds, FakeJournal, FakeMeter
from tests.simulation.loop import SimClock, SimLoop

MARKS = ("TE99AAA", "TE99AAB", "TE99ABC", "TE99STV")


class Faults(msgspec.Struct, kw_only=True):
    """How bad the world is: chances per happening. All zero is a calm day."""

    pnc_down: float = 0.0
    pnc_hang: float = 0.0
    pnc_echo: float = 0.0
    pnc_garbled: float = 0.0
    pnc_slow_s: float = 0.1
    link_loss: float = 0.0
    link_cut: float = 0.0
    duplicate: float = 0.0
    disk_full: float = 0.0
    disk_slow_s: float = 0.002
    crash: float = 0.0
    wall_step: float = 0.0


class SimLedger(FakeLedger):
    """gateway.ports.Ledger over a Disk; a crash leaves what was committed and nothing else."""

    def __init__(self, world: World) -> None:
        super().__init__(world.disk)
        self._world = world
        self._life = world.life

    def _alive(self) -> None:
        if self._world.life != self._life:
            raise asyncio.CancelledError

    async def _commit(self, records: Sequence[Record], changes: Sequence[Change]) -> None:
        world = self._world
        await world.clock.sleep(world.random.expovariate(1 / world.faults.disk_slow_s))
        self._alive()
        if world.chance(world.faults.disk_full) and not world.healed:
            raise LedgerUnavailable("full")
        self.disk.write(records, changes)
        # Durable, but the answer to the caller takes its own time: a crash may fall in between.
        await world.clock.sleep(world.random.expovariate(1 / 0.0005))
        self._alive()


class SimPnc:
    """gateway.ports.Pnc that answers vehicles, late, wrongly or not at all. Keeps what it heard."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def query(self, query: PncQuery) -> PncAnswer:
        world, faults = self._world, self._world.faults
        world.asked.append((world.clock.wall_ms(), query))
        await world.clock.sleep(world.random.expovariate(1 / faults.pnc_slow_s))
        if not world.healed:
            if world.chance(faults.pnc_hang):
                await world.clock.sleep(world.random.uniform(5, 60))
            if world.chance(faults.pnc_down):
                raise PncDown("simulated")
            if world.chance(faults.pnc_garbled):
                raise PncGarbled("malformed")
        answer = answer_for(query, world.clock.wall_ms())
        if world.chance(faults.pnc_echo) and not world.healed:
            return msgspec.structs.replace(answer, key_text="VRM:TE99XXX")
        return answer

    async def close(self) -> None:
        return None


def answer_for(query: PncQuery, now_ms: int) -> PncAnswer:
    """Deterministic by mark: AAA no trace, AAB clean, ABC stolen, STV stolen with occupant."""
    assert isinstance(query.key, VehicleKey)
    mark = query.key.vrm
    reports: tuple[VehicleReport, ...] = ()
    if mark in ("TE99ABC", "TE99STV"):
        occupants = ("VI",) if mark == "TE99STV" else ()
        reports = (VehicleReport(kind="LOS", owner="35NB", occupant_warnings=occupants),)
    record = VehicleRecord(
        vrm=mark,
        make="FORD",
        model="FIESTA",
        colour="BLUE",
        tax="Y",
        mot="Y",
        insured="Y",
        reports=reports,
    )
    return PncAnswer(
        check=query.check,
        attempt=query.attempt,
        key_text=query.key_text,
        records=() if mark == "TE99AAA" else (record,),
        blocks=(Block(source="PNC", as_of_ms=now_ms),),
        as_of_ms=now_ms,
    )


class SimLink:
    """A bearer to all terminals: may be cut, may lose what it carries either way."""

    kind = "mqtt"
    bearer = Bearer.MQTT

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.heard_at_s: float | None = None
        self._world = world
        self._up = False
        self._cut: asyncio.Event | None = None
        self.handle: Handle | None = None

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        self._cut = asyncio.Event()
        self.handle = handle
        self._up = True
        up()
        await self._cut.wait()
        self._up = False
        self.handle = None
        raise LinkDown("cut")

    def cut(self) -> None:
        if self._cut is not None:
            self._cut.set()

    def reaches(self, terminal: Issi) -> bool:
        return self._up

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        world = self._world
        await world.clock.sleep(world.random.expovariate(1 / 0.005))
        if not self._up:
            raise SendFailed("down")
        if world.chance(world.faults.link_loss) and not world.healed:
            return  # taken by the bearer, lost on the air
        world.loop.note("down", terminal, type(message).__name__)
        world.terminals[terminal].hear(message)


class SimTerminal:
    """An officer's terminal: repeats a question until its receipt, acknowledges what it reads."""

    def __init__(self, world: World, issi: Issi) -> None:
        self.issi = issi
        self._world = world
        self._n = 0
        self.sent: dict[str, CheckRequest] = {}
        self.sent_at_s: dict[str, float] = {}
        self.receipts: dict[str, list[Receipt]] = {}
        self.results: dict[str, list[Result]] = {}
        self.result_at_s: dict[str, float] = {}
        self.notices: list[Notice] = []
        self.settled = 0

    def ask(self) -> str:
        self._n += 1
        ref = f"r{self._n}"
        request = CheckRequest(
            key=VehicleKey(vrm=self._world.random.choice(MARKS)),
            reason="1",
            ref=ref,
            sent_at_ms=self._world.clock.wall_ms(),
            justification="NO LIGHTS",
            location="BRIDGE ST",
        )
        self.sent[ref] = request
        self.sent_at_s[ref] = self._world.clock.monotonic_s()
        return ref

    async def hold_until_receipt(self, ref: str) -> None:
        """Application-level receipt, not the broker's: repeat the same bytes until it comes."""
        world = self._world
        for attempt in range(8):
            if ref in self.receipts:
                return
            copies = 2 if world.chance(world.faults.duplicate) else 1
            for _ in range(copies):
                world.deliver(self.issi, self.sent[ref])
            await world.clock.sleep(2.0 + attempt)

    def hear(self, message: Downlink) -> None:
        now_s = self._world.clock.monotonic_s()
        match message:
            case Receipt():
                self.receipts.setdefault(message.ref, []).append(message)
            case Result():
                self.results.setdefault(message.check, []).append(message)
                self.result_at_s.setdefault(message.ref, now_s)
                ack = DeliveryAck(check=message.check, part=1, state=AckState.READ)
                self._world.later(self._world.random.uniform(0.1, 4.0), self.issi, ack)
            case Notice():
                self.notices.append(message)
            case _:
                pass


class World:
    """One seeded world. `start` brings the core up, `crash` drops it, `healed` ends all faults."""

    def __init__(self, loop: SimLoop, config: Config, faults: Faults) -> None:
        self.loop = loop
        self.random: random.Random = loop.random
        self.clock = SimClock(loop)
        self.faults = faults
        self.config = config
        self.disk = Disk()
        self.ids = FakeIds(loop.random.randrange(1 << 30))
        self.meter = FakeMeter()
        self.journal = FakeJournal()
        self.asked: list[tuple[int, PncQuery]] = []
        self.events: list[Event] = []
        self.healed = False
        self.life = 0
        self.broken: list[str] = []
        self.core: Core | None = None
        self.terminals = {
            each.issi: SimTerminal(self, each.issi) for each in config.fleet.terminals
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: set[asyncio.Task[None]] = set()

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

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
            fatal=lambda _error: None,
        )
        link = SimLink(self, "air")
        core.links["air"] = link
        self.core = core
        while True:
            try:
                await core.begin()
                break
            except LedgerUnavailable:
                await self.clock.sleep(0.5)

        async def run(up: Callable[[], None]) -> None:
            await link.run(core.switchboard.handle, up)

        def seen(state: object, reason: str) -> None:
            core.link_seen("air", "mqtt", state, reason)  # type: ignore[arg-type]

        self._own_task(
            keep(
                run,
                name="air",
                clock=self.clock,
                ids=self.ids,
                journal=self.journal,
                meter=self.meter,
                seen=seen,
            )
        )
        self._own_task(core.courier.tend())
        self._own_task(core.mind())

    def _own_task(self, work: object) -> None:
        self._own.add(self.loop.create_task(work))  # type: ignore[arg-type]

    async def crash(self) -> None:
        """kill -9: every task of the daemon is gone, the disk is as it was."""
        self.life += 1
        self.loop.note("crash")
        core, self.core = self.core, None
        for task in self._own:
            task.cancel()
        await asyncio.gather(*self._own, return_exceptions=True)
        self._own.clear()
        if core is not None:
            await core.abandon()

    def _saw(self, event: Event) -> None:
        self.events.append(event)
        self.loop.note("event", type(event).__name__)

    # ----------------------------------------------------------------- the air

    def deliver(self, terminal: Issi, message: Uplink) -> None:
        """A terminal transmits; it may be lost, or nobody may be listening."""
        core = self.core
        if core is None or (self.chance(self.faults.link_loss) and not self.healed):
            return
        link = core.links["air"]
        assert isinstance(link, SimLink)
        if link.handle is None:
            return
        settles = 0

        def settle() -> None:
            nonlocal settles
            settles += 1
            assert settles == 1, "settled twice"
            self.terminals[terminal].settled += 1

        link.handle(
            Envelope(
                message=message,
                terminal=terminal,
                link="air",
                bearer=Bearer.MQTT,
                received_at_ms=self.clock.wall_ms(),
                received_at_s=self.clock.monotonic_s(),
                reference_ms=self.clock.wall_ms(),
                settle=settle,
            )
        )

    def later(self, seconds: float, terminal: Issi, message: Uplink) -> None:
        self.loop.call_later(seconds, self.deliver, terminal, message)

    # ----------------------------------------------------------------- the story

    async def officers(self, until_s: float, every_s: float) -> None:
        """Officers ask at random moments until the time is over."""
        while self.loop.now_s < until_s:
            await self.clock.sleep(self.random.expovariate(1 / every_s))
            terminal = self.random.choice(list(self.terminals.values()))
            if self.chance(0.02):
                self.deliver(terminal.issi, StatusReport(code=0))
                continue
            ref = terminal.ask()
            task = self.loop.create_task(terminal.hold_until_receipt(ref))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def mischief(self, until_s: float) -> None:
        """Crashes, cuts and clock steps at random moments."""
        faults = self.faults
        while self.loop.now_s < until_s:
            await self.clock.sleep(self.random.uniform(0.5, 10.0))
            if self.chance(faults.crash):
                await self.crash()
                await self.clock.sleep(self.random.uniform(0.2, 3.0))
                await self.start()
            elif self.chance(faults.link_cut) and self.core is not None:
                link = self.core.links["air"]
                assert isinstance(link, SimLink)
                link.cut()
            elif self.chance(faults.wall_step):
                self.clock.step_wall(self.random.choice([-3_600_000, 3_600_000]))

    async def finish(self) -> None:
        """Wait for the terminals' own tasks."""
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def sim_config(random_: random.Random, folder: str = "config") -> Config:
    """The sample fleet and policy with small random limits: small knobs find more bugs."""
    from pathlib import Path

    base = load(Path(folder) / "gateway.toml")
    checks = ChecksSection(
        deadline_s=random_.choice([5.0, 15.0]),
        concurrency=random_.randint(1, 4),
        queue=random_.randint(1, 8),
        resend_s=random_.choice([1.0, 10.0]),
        stale_s=120.0,
        breaker_failures=random_.randint(2, 6),
        settled_memory=random_.randint(1, 50),
        per_terminal_open=random_.randint(1, 4),
    )
    settings = Settings(
        gateway=base.settings.gateway, checks=checks, tracking=base.settings.tracking
    )
    fleet = base.fleet
    police = tuple(t for t in fleet.terminals if t.agency == "police")
    return msgspec.structs.replace(
        base, settings=settings, fleet=msgspec.structs.replace(fleet, terminals=police)
    )
