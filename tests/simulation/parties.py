"""The other parties of a simulated world: a disk that survives, a PNC that errs, officers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import DuplicateCheck, LedgerUnavailable, PncDown, PncGarbled, PncInvalid
from gateway.messages import (
    AckState,
    Bearer,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    Downlink,
    Issi,
    Notice,
    PncAnswer,
    PncQuery,
    Receipt,
    Result,
    StatusReport,
    VehicleKey,
)
from gateway.ports import Change, PutCheck, Record
from tests.fake_ledger import FakeLedger
from tests.fake_pnc import vehicle_answer

if TYPE_CHECKING:
    from tests.simulation.world import World

MARKS = ("TE99AAA", "TE99AAB", "TE99ABC", "TE99STV")
NOT_ON_THE_LIST = "77"


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
        self._jobs.append(job)
        if self._idle:
            self._idle = False
            self._world.own(self._write())
        await job.done

    async def _write(self) -> None:
        """What waits while one group is being synced goes into the next one together."""
        world = self._world
        while self._jobs:
            self._writing = group = self._jobs
            self._jobs = []
            await world.point("before commit")
            await world.clock.sleep(world.random.expovariate(1 / world.faults.disk_slow_s))
            if world.chance("disk_stall"):
                await world.clock.sleep(world.random.uniform(2, 30))
            full = world.chance("disk_full")
            errors = [self._put(job, full) for job in group]
            # Durable, but the word of it takes its own time: a crash may fall in between.
            await world.point("after commit")
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
        except DuplicateCheck as error:
            return error
        self._world.loop.note("disk", *(record.event for record in job.records))
        return None


class SimPnc:
    """gateway.ports.Pnc that answers vehicles, late, wrongly or not at all. Keeps what it heard."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def query(self, query: PncQuery) -> PncAnswer:
        world = self._world
        world.asks(query)
        await world.point("at the question")
        slow_s = 0.05 if world.healed else world.faults.pnc_slow_s
        await world.clock.sleep(world.random.expovariate(1 / slow_s))
        if world.chance("pnc_hang"):
            await world.clock.sleep(world.random.uniform(5, 60))
        if world.chance("pnc_down"):
            raise PncDown("simulated")
        if world.chance("pnc_garbled"):
            raise PncGarbled("malformed")
        if world.chance("pnc_refused"):
            raise PncInvalid("simulated")
        await world.point("at the reply")
        answer = vehicle_answer(query, world.clock.wall_ms())
        if world.chance("pnc_echo"):
            return msgspec.structs.replace(answer, key_text="VRM:TE99XXX")
        return answer

    async def close(self) -> None:
        return None


class SimTerminal:
    """An officer's terminal. JSON questions are repeated, the same bytes, until their receipt;
    typed ones by the officer, who hears no SENT. What is heard is acknowledged and read."""

    def __init__(self, world: World, issi: Issi, bearer: Bearer) -> None:
        self.issi = issi
        self._world = world
        self._bearer = bearer
        self._n = 0
        self.sent: dict[str, CheckRequest] = {}
        """By reference; typed ones under a name of ours."""
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

    # ----------------------------------------------------------------- asking

    def _compose(self) -> str:
        world = self._world
        self._n += 1
        mark = world.random.choice(MARKS)
        if self._bearer is Bearer.SERIAL or world.random.random() < 0.2:
            name = f"typed {self._n}"
            self.sent[name] = CheckRequest(
                key=VehicleKey(vrm=mark), reason="1", typed=f"V {mark} R1"
            )
            return name
        name = f"r{self._n}"
        denied = world.random.random() < 0.05
        self.sent[name] = CheckRequest(
            key=VehicleKey(vrm=mark),
            reason=NOT_ON_THE_LIST if denied else "1",
            ref=name,
            sent_at_ms=world.clock.wall_ms(),
            justification="NO LIGHTS",
            location="BRIDGE ST",
        )
        return name

    async def ask(self) -> None:
        """One question until it is receipted, or the officer turns to the voice channel."""
        world, name = self._world, self._compose()
        request, heard = self.sent[name], len(self.receipts)
        for attempt in range(8 if request.ref else 2):
            if any(receipt.ref == request.ref for receipt in self.receipts[heard:]):
                break
            world.say(self.issi, request)
            await world.clock.sleep(2.0 + attempt if request.ref else 5.0)
        if world.random.random() < 0.03:
            world.say(self.issi, CancelRequest())

    def given(self, request: CheckRequest) -> float:
        """The gateway has it in its hands now; since when it has had it, in this life of its."""
        now_s = self._world.loop.now_s
        name = request.ref or request.typed
        if request.ref:
            self.given_at_s.setdefault(name, now_s)
        return self._in_hand.setdefault((self._world.life, name), now_s)

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
                if message.kind == "unrecorded":
                    self.word_at_s.setdefault(ref if ref is not None else message.check, now_s)
                if message.kind == "waiting":
                    self._later(2.0, StatusReport(code=15))
            case _:
                pass

    def _acknowledge(self, result: Result) -> None:
        """Each text of a line is acknowledged by itself; over MQTT the answer is one message."""
        parts = len(result.texts) if self._bearer is Bearer.SERIAL else 1
        think_s = self._world.random.uniform(0.1, 4.0)
        for part in range(1, parts + 1):
            name = result.short if self._bearer is Bearer.SERIAL else result.check
            self._later(0.05 * part, DeliveryAck(name, part, AckState.DELIVERED))
            self._later(think_s + part, DeliveryAck(name, part, AckState.READ))

    def _later(self, seconds: float, message: DeliveryAck | StatusReport) -> None:
        self._world.loop.call_later(seconds, self._world.say, self.issi, message)
