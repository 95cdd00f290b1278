"""The other parties of a simulated world: a disk that survives, a PNC that errs, officers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway.check_memory import dedupe_key
from gateway.errors import (
    DuplicateCheck,
    DuplicateReceipt,
    LedgerUnavailable,
    PncDown,
    PncGarbled,
    PncInvalid,
)
from gateway.messages import (
    AckState,
    Bearer,
    Block,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    Downlink,
    Issi,
    LocationFix,
    Notice,
    PncAnswer,
    PncQuery,
    PncRecord,
    Receipt,
    RegisterAnswer,
    RegisterQuery,
    Result,
    StatusRecord,
    StatusReport,
    Uplink,
    VehicleKey,
    VehicleRecord,
)
from gateway.ports import Also, Change, PutCheck, Record, nothing_more
from tests.fake_ledger import Disk, FakeLedger
from tests.fake_pnc import vehicle_answer
from tests.fakes import FakeKeyed
from tests.simulation.faults import DISK_EVENTS

if TYPE_CHECKING:
    from tests.simulation.world import World

MARKS = ("TE99AAA", "TE99AAB", "TE99ABC", "TE99STV")
NOT_ON_THE_LIST = "77"
STATUS_SHARE = 0.08
"""Of questions: tax, MOT and insurance alone."""
UNKNOWN_CODE = "QQ"
"""A warning that no table knows."""
RAMP_S = 20.0
FLOOD = 20
METRE_DEG = 1 / 111_320
HOME = (52.5725, -0.2431)


class SimDisk(Disk):
    """A Disk that finds the records of one check without reading them all."""

    def __init__(self) -> None:
        super().__init__()
        self.by_check: dict[str, list[Record]] = defaultdict(list)

    def write(self, records: Sequence[Record], changes: Sequence[Change]) -> None:
        super().write(records, changes)
        for record in records:
            if record.check:
                self.by_check[record.check].append(record)

    def opened(self, check: str) -> Record:
        return next(r for r in self.by_check[check] if r.event == "opened")


class _Job:
    """One caller's commit."""

    __slots__ = ("at_s", "changes", "done", "records")

    def __init__(self, records: Sequence[Record], changes: Sequence[Change], at_s: float) -> None:
        self.records, self.changes, self.at_s = records, changes, at_s
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception | None = None) -> None:
        if self.done.done():
            return  # whoever waited is gone; what was written stays written
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class SimLedger(FakeLedger):
    """gateway.ports.Ledger over a Disk: one writer that commits in groups, as the real one does.
    A crash leaves what was written and nothing else."""

    def __init__(self, world: World) -> None:
        super().__init__(world.disk)
        self._world = world
        self._jobs: list[_Job] = []
        self._writing: list[_Job] = []
        self._idle = True
        world.disk_waits_s = self.waits_s

    def waits_s(self) -> float:
        """How long the oldest commit has waited; 0 when none does."""
        oldest_s = min((job.at_s for job in (*self._writing, *self._jobs)), default=None)
        return 0.0 if oldest_s is None else self._world.loop.now_s - oldest_s

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        job = _Job(records, changes, self._world.loop.now_s)
        if self._world.call("ledger"):
            error = self._put(job, full=True)
            assert error is not None
            raise error
        self._jobs.append(job)
        if self._idle:
            self._idle = False
            self._world.own(self._write())
        await job.done

    async def _read(self) -> None:
        if self._world.call("ledger"):
            raise LedgerUnavailable("nth call")
        await super()._read()

    async def _write(self) -> None:
        """What waits while one group is being synced goes into the next one together."""
        world = self._world
        while self._jobs:
            self._writing = group = self._jobs
            self._jobs = []
            events = {record.event for job in group for record in job.records}
            if "opened" in events:
                await world.point("P1 before the question's commit")
            if events & {"delivered", "read"}:
                await world.point("P8 before an acknowledgement's commit")
            await world.clock.sleep(world.random.expovariate(1 / world.faults.disk_slow_s))
            if world.chance("disk_stall", *(each for each in DISK_EVENTS if each in events)):
                await world.clock.sleep(world.random.uniform(2, 30))
            await world.point("P10 in a commit")
            if any(world.dies_of(job.records, job.changes) for job in group):
                await world.point("P10 in a commit")
            full = world.chance("disk_full", *(each for each in DISK_EVENTS if each in events))
            errors = [self._put(job, full) for job in group]
            # Durable, but the word of it takes its own time: a crash may fall in between.
            if "opened" in events:
                await world.point("P2 after the question's commit")
            await world.clock.sleep(world.random.expovariate(1 / 0.0005))
            for job, error in zip(group, errors, strict=True):
                job.end(error)
            self._writing = []
        self._idle = True

    def _put(self, job: _Job, full: bool) -> Exception | None:
        if full:
            rows = [change.row for change in job.changes if isinstance(change, PutCheck)]
            self._world.refused |= {row.dedupe for row in rows}
            return LedgerUnavailable("full")
        try:
            self.disk.write(job.records, job.changes)
        except (DuplicateCheck, DuplicateReceipt) as error:
            return error
        self._world.loop.note("disk", *(record.event for record in job.records))
        return None


class SimRegister:
    """gateway.ports.VehicleRegister: tax, MOT and insurance, late or not at all."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def look_up(self, query: RegisterQuery) -> RegisterAnswer:
        world = self._world
        world.asks_register(query)
        await world.clock.sleep(world.apart.expovariate(10))
        if not world.healed and world.apart.random() < 0.1:
            raise PncDown("simulated")
        gone = "UNAVAILABLE" if not world.healed and world.apart.random() < 0.1 else "OK"
        now_ms = world.clock.wall_ms()
        return RegisterAnswer(
            check=query.check,
            attempt=query.attempt,
            key_text=query.key_text,
            record=StatusRecord(vrm=query.vrm, tax="Y", mot="Y", insured="N"),
            blocks=(Block("DVLA", now_ms), Block("MID", now_ms, gone)),
            as_of_ms=now_ms,
        )

    async def sources(self) -> frozenset[str]:
        await self._world.clock.sleep(0.01)
        return frozenset({"DVLA", "MID"})

    async def close(self) -> None:
        """Nothing is open."""


class SimPnc:
    """gateway.ports.Pnc that answers vehicles, late, wrongly or not at all. Keeps what it heard."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._slow_until_s = 0.0
        self._last: PncAnswer | None = None
        """The answer that was made last, whoever asked: what a swapped reply brings."""
        self._of_check: dict[str, PncAnswer] = {}

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        world = self._world
        world.asks(query)
        attempt = "first" if query.attempt == 1 else "later"
        await world.point("P4 at the question")
        answer = self._answer(query)
        earlier = self._of_check.get(query.check)
        self._of_check[query.check] = answer
        await self._think(attempt)
        if world.chance("pnc_down", attempt):
            raise PncDown("simulated")
        if world.chance("pnc_garbled", attempt):
            raise PncGarbled("malformed")
        if world.chance("pnc_refused"):
            raise PncInvalid("simulated")
        await world.point("P5 at the reply")
        if world.chance("pnc_second"):
            self._say_more(query, also)
        others, self._last = self._last, answer
        anothers = others is not None and others.check != query.check
        if others is not None and anothers and world.chance("pnc_swapped", attempt):
            return others
        if earlier is not None and world.chance("pnc_double"):
            return earlier
        if world.chance("pnc_echo"):
            return msgspec.structs.replace(answer, key_text="VRM:TE99XXX")
        return answer

    async def sources(self) -> frozenset[str]:
        await self._think("sources")
        return frozenset({"PNC", "DVLA", "INSURANCE"})

    def _say_more(self, query: PncQuery, also: Also) -> None:
        """Within the time for which a connection is listened to, if we live as long."""
        world, life = self._world, self._world.life

        def say() -> None:
            if world.life == life and not world.dead:
                world.said_more.append((query.check, query.attempt))
                also("second", b"{}")

        world.loop.call_later(world.random.uniform(0.0, 2.0), say)

    async def _think(self, attempt: str) -> None:
        world = self._world
        slow_s = 0.05 if world.healed else world.faults.pnc_slow_s
        await world.clock.sleep(world.random.expovariate(1 / slow_s))
        if world.chance("pnc_ramp", attempt):
            self._slow_until_s = world.loop.now_s + RAMP_S
        if world.loop.now_s < self._slow_until_s and not world.healed:
            await world.clock.sleep(world.random.uniform(3, 20))
        if world.chance("pnc_hang", attempt):
            await world.clock.sleep(world.random.uniform(5, 60))
        if world.chance("pnc_late", attempt):
            deadline_s = world.config.settings.checks.deadline_s
            await world.clock.sleep(deadline_s + world.random.uniform(0.1, 20))

    def _answer(self, query: PncQuery) -> PncAnswer:
        world = self._world
        answer = vehicle_answer(query, world.clock.wall_ms())
        records: tuple[PncRecord, ...] = answer.records
        if records and world.chance("pnc_unknown"):
            vehicle = records[0]
            assert isinstance(vehicle, VehicleRecord)
            reports = tuple(
                msgspec.structs.replace(
                    report, occupant_warnings=(*report.occupant_warnings, UNKNOWN_CODE)
                )
                for report in vehicle.reports
            )
            if reports:
                world.unknown.add(query.check)
            records = (msgspec.structs.replace(vehicle, reports=reports),)
        if records and world.chance("pnc_poison"):
            records = (msgspec.structs.replace(records[0], reports=7),)
        return msgspec.structs.replace(answer, records=records)

    async def close(self) -> None:
        return None


class Said(NamedTuple):
    """When a question was first transmitted: by the loop's time, and by the true wall clock."""

    at_s: float
    true_ms: int


class Deadly(msgspec.Struct):
    """A question that ends the process: how often it did, and how often a copy of it came that had
    not been delivered before."""

    deaths: int = 0
    fresh: int = 0


class SimTerminal:
    """An officer's terminal. JSON questions are repeated, the same bytes, until their receipt;
    typed ones by the officer, who hears no SENT. What is heard is acknowledged and read."""

    def __init__(self, world: World, issi: Issi, bearer: Bearer) -> None:
        self.issi = issi
        self._world = world
        self.bearer = bearer
        self._n = 0
        self.skew_ms = 0
        if world.chance("clock_skew"):
            self.skew_ms = world.random.randint(-600_000, 600_000)
        self.sent: dict[str, CheckRequest] = {}
        """By reference; typed ones under a name of ours."""
        self.poison: set[str] = set()
        """References of questions that break our code."""
        self.said: dict[str, Said] = {}
        self.delays_s: list[float] = [0.0, 0.0]
        """How long each question, and each fix that has a time, was under way."""
        self._in_hand: dict[tuple[int, str], float] = {}
        self.given_at_s: dict[str, float] = {}
        """When the gateway first had it, by reference."""
        self.word_at_s: dict[str, float] = {}
        """When the officer first heard how it ended, or that it cannot be recorded."""
        self.checks: dict[str, str] = {}
        """Check id -> reference, as receipts, results and notices say."""
        self.receipts: list[Receipt] = []
        self.results: dict[str, list[Result]] = {}
        self.notices: list[Notice] = []
        self._at = (HOME[0] + METRE_DEG * int(issi[-2:]), HOME[1])
        self.places: set[tuple[float, float]] = {self._at}
        """Where it ever said that it was, in words that mean a place."""

    # ----------------------------------------------------------------- asking

    def _compose(self, dated: bool = False) -> str:
        """A question; dated: one that says when it was sent, if this terminal can."""
        world = self._world
        self._n += 1
        mark = world.random.choice(MARKS)
        if self.bearer is Bearer.SERIAL or (not dated and world.random.random() < 0.2):
            name = f"typed {self._n}"
            status = world.apart.random() < STATUS_SHARE
            self.sent[name] = CheckRequest(
                key=VehicleKey(vrm=mark),
                reason="1",
                typed=f"{'T' if status else 'V'} {mark} R1",
                scope="status" if status else "",
            )
            return name
        name = f"r{self._n}"
        denied = world.random.random() < 0.05
        key = VehicleKey(vrm=mark)
        if world.chance("poison"):
            key = None  # type: ignore[assignment]
            self.poison.add(name)
        self.sent[name] = CheckRequest(
            key=key,
            reason=NOT_ON_THE_LIST if denied else "1",
            ref=name,
            sent_at_ms=world.clock.true_ms() + self.skew_ms,
            justification="NO LIGHTS",
            location="BRIDGE ST",
            scope="status" if key is not None and world.apart.random() < STATUS_SHARE else "",
        )
        if key is not None and world.chance("deadly"):
            world.deadly[dedupe_key(FakeKeyed(), self.issi, self.sent[name], 0)] = Deadly()
        return name

    async def ask(self, *, dated: bool = False) -> None:
        """One question until it is receipted, or the officer turns to the voice channel."""
        world, name = self._world, self._compose(dated)
        request, heard = self.sent[name], len(self.receipts)
        self.said[name] = Said(world.loop.now_s, world.clock.true_ms())
        if request.ref and world.chance("early_cancel"):
            world.say(self.issi, CancelRequest(check=name.upper()))
        if world.chance("flood"):
            for _ in range(FLOOD):
                self._flood()
        for attempt in range(8 if request.ref else 2):
            if any(receipt.ref == request.ref for receipt in self.receipts[heard:]):
                break
            world.say(self.issi, request)
            await world.clock.sleep(2.0 + attempt if request.ref else 5.0)
        if world.random.random() < 0.03:
            world.say(self.issi, CancelRequest())

    def _flood(self) -> None:
        """One of many questions at once, each said once."""
        world, name = self._world, self._compose()
        self.said[name] = Said(world.loop.now_s, world.clock.true_ms())
        world.say(self.issi, self.sent[name])

    def given(self, request: CheckRequest) -> float:
        """The gateway has it in its hands now; since when it has had it, in this life of its."""
        now_s = self._world.loop.now_s
        name = request.ref or request.typed
        if request.ref:
            self.given_at_s.setdefault(name, now_s)
            self.delays_s.append(now_s - self.said[name].at_s)
        return self._in_hand.setdefault((self._world.life, name), now_s)

    def in_hand_since_s(self, name: str) -> float:
        """Since when the gateway has had this question, in this life of its."""
        return self._in_hand.get((self._world.life, name), self._world.loop.now_s)

    # ----------------------------------------------------------------- being somewhere

    def report(self) -> None:
        """A position: a step further, or one that is not to be believed as it stands."""
        world = self._world
        now_ms = world.clock.true_ms()
        lat, lon = self._at
        if not world.chance("bad_fix"):
            north, east = (world.random.uniform(-20, 20) * METRE_DEG for _ in range(2))
            lat, lon = self._at = (lat + north, lon + east)
            self.places.add(self._at)
            own_time = world.random.random() < 0.7
            fix = LocationFix(lat, lon, fixed_at_ms=now_ms if own_time else None)
        else:
            # Far away may be true: it is the first of a life, or the third in a row.
            elsewhere = (lat + world.random.uniform(2, 20), lon)
            self.places.add(elsewhere)
            fix = world.random.choice(
                [
                    LocationFix(float("nan"), float("nan"), fixed_at_ms=now_ms),
                    LocationFix(0.0, 0.0, fixed_at_ms=now_ms),
                    LocationFix(91.0, lon, fixed_at_ms=now_ms),
                    LocationFix(lat, lon, fixed_at_ms=now_ms + 3_600_000),
                    LocationFix(lat, lon, fixed_at_ms=315_964_800_000),
                    LocationFix(lat, lon, fixed_at_ms=now_ms - 7_200_000),
                    LocationFix(*elsewhere, fixed_at_ms=now_ms),
                ]
            )
        world.say(self.issi, fix)

    # ----------------------------------------------------------------- hearing

    def hear(self, message: Downlink) -> None:
        now_s = self._world.loop.now_s
        match message:
            case Receipt():
                self.receipts.append(message)
                self.checks[message.check] = message.ref
                if not message.accepted:
                    self.word_at_s.setdefault(message.ref, now_s)
            case Result():
                self._world.shown(self.issi, message)
                self.results.setdefault(message.check, []).append(message)
                self.checks[message.check] = message.ref
                self.word_at_s.setdefault(message.ref, now_s)
                self._acknowledge(message)
            case Notice():
                self.notices.append(message)
                ref = self.checks.get(message.check)
                if message.kind in ("unrecorded", "held"):
                    self.word_at_s.setdefault(ref if ref is not None else message.check, now_s)
                if message.kind == "waiting":
                    self._later(2.0, StatusReport(code=15))
                if message.kind == "message":
                    self._acknowledge_message(message)
            case _:
                pass

    def _acknowledge(self, result: Result) -> None:
        """Each text of a line is acknowledged by itself; over MQTT the answer is one message."""
        parts = len(result.texts) if self.bearer is Bearer.SERIAL else 1
        think_s = self._world.random.uniform(0.1, 4.0)
        for part in range(1, parts + 1):
            name = result.short if self.bearer is Bearer.SERIAL else result.check
            self._later(0.05 * part, DeliveryAck(name, part, AckState.DELIVERED))
            self._later(think_s + part, DeliveryAck(name, part, AckState.READ))

    def _acknowledge_message(self, notice: Notice) -> None:
        parts = len(notice.texts) if self.bearer is Bearer.SERIAL else 1
        name = notice.short if self.bearer is Bearer.SERIAL else notice.id
        for part in range(1, parts + 1):
            self._later(0.05 * part, DeliveryAck(name, part, AckState.DELIVERED))
            self._later(3.0 + part, DeliveryAck(name, part, AckState.READ))

    def _later(self, seconds: float, message: Uplink) -> None:
        self._world.loop.call_later(seconds, self._world.say, self.issi, message)
