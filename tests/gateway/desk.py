"""The whole core between fakes: a clock moved by hand, a ledger that can be stalled, a PNC that
answers when it is told to, one link that keeps what it was given."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gateway.bus import EventBus
from gateway.core import Core
from gateway.errors import DuplicateCheck, LedgerUnavailable, SendFailed
from gateway.messages import (
    AlarmChanged,
    Bearer,
    Block,
    CheckRequest,
    Downlink,
    Envelope,
    Event,
    Issi,
    Notice,
    PncAnswer,
    PncQuery,
    Receipt,
    Result,
    Uplink,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
)
from gateway.ports import (
    BookingRow,
    Change,
    CheckRow,
    DropOutbox,
    OutboxRow,
    PutAlarm,
    PutCheck,
    PutOutbox,
    Record,
)
from gateway.settings import Config, Settings, load
from tests.fakes import FakeClock, FakeIds, FakeJournal, FakeMeter, settle

ROOT = Path(__file__).resolve().parents[2]
ISSI = "5001001"
OTHER = "5001003"
COUNCIL = "5001008"
DAY_MS = 86_400_000


class FakeLedger:
    """In memory; `stalled` holds commits back, `broken` refuses them. `log`: what happened when."""

    def __init__(self, log: list[str]) -> None:
        self.records: list[Record] = []
        self.checks: dict[str, CheckRow] = {}
        self.boxes: dict[str, OutboxRow] = {}
        self.alarms: dict[str, AlarmChanged] = {}
        self.stalled = asyncio.Event()
        self.stalled.set()
        self.broken = False
        self._log = log
        self._turn = asyncio.Lock()

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        async with self._turn:
            await self.stalled.wait()
            if self.broken:
                raise LedgerUnavailable("full")
            for change in changes:
                if isinstance(change, PutCheck) and change.row.id not in self.checks:
                    for row in self.checks.values():
                        if row.dedupe == change.row.dedupe:
                            raise DuplicateCheck(row.id)
            self.records += records
            self._log += [f"record {record.event}" for record in records]
            for change in changes:
                match change:
                    case PutCheck(row):
                        self.checks[row.id] = row
                    case PutOutbox(box):
                        self.boxes[box.id] = box
                    case DropOutbox(id_):
                        self.boxes.pop(id_, None)
                    case PutAlarm(alarm, still_open) if still_open:
                        self.alarms[alarm.id] = alarm
                    case PutAlarm(alarm):
                        self.alarms.pop(alarm.id, None)
                    case _:
                        pass

    async def open_checks(self) -> list[CheckRow]:
        return [row for row in self.checks.values() if row.open]

    async def outbox(self) -> list[OutboxRow]:
        return list(self.boxes.values())

    async def open_alarms(self) -> list[AlarmChanged]:
        return list(self.alarms.values())

    async def bookings(self) -> list[BookingRow]:
        return []

    async def check(self, id_: str) -> CheckRow | None:
        return self.checks.get(id_)

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        found = [row for row in self.checks.values() if row.terminal == terminal]
        found = [row for row in found if not short or row.short == short]
        return max(found, key=lambda row: row.opened_at_ms, default=None)

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        found = [row for row in self.checks.values() if row.terminal == terminal]
        found = [row for row in found if row.opened_at_ms >= since_ms]
        return sorted(found, key=lambda row: row.opened_at_ms, reverse=True)

    async def close(self) -> None:
        return None

    def events(self) -> list[str]:
        return [record.event for record in self.records if record.check]


class FakePnc:
    """Answers at once, or as `reply` says: an exception, an answer, or a future to wait for."""

    def __init__(self, log: list[str]) -> None:
        self.asked: list[PncQuery] = []
        self.reply: Callable[[PncQuery], object] = answer
        self._log = log

    async def query(self, query: PncQuery) -> PncAnswer:
        self.asked.append(query)
        self._log.append(f"asked {query.attempt}")
        made = self.reply(query)
        if isinstance(made, asyncio.Future):
            made = await made
        if isinstance(made, BaseException):
            raise made
        assert isinstance(made, PncAnswer)
        return made

    async def close(self) -> None:
        return None


def answer(query: PncQuery) -> PncAnswer:
    """TE99AAA no trace; TE99AB* stolen; anything else a clean car."""
    assert isinstance(query.key, VehicleKey)
    mark = query.key.vrm
    reports = (VehicleReport(kind="LOS", owner="35NB"),) if mark == "TE99ABC" else ()
    record = VehicleRecord(
        vrm=mark, make="FORD", model="FIESTA", tax="Y", mot="Y", insured="Y", reports=reports
    )
    return PncAnswer(
        check=query.check,
        attempt=query.attempt,
        key_text=query.key_text,
        records=() if mark == "TE99AAA" else (record,),
        blocks=(Block(source="PNC", as_of_ms=query.asked_at_ms),),
        as_of_ms=query.asked_at_ms,
    )


class FakeLink:
    """Reaches everybody while it is up; keeps what it was given, in order."""

    name = "line"
    kind = "mqtt"
    bearer = Bearer.MQTT

    def __init__(self, log: list[str]) -> None:
        self.heard_at_s: float | None = None
        self.up = True
        self.sent: list[tuple[Issi, Downlink]] = []
        self._log = log

    async def run(self, handle: object, up: object) -> None:
        raise NotImplementedError("the tests hand envelopes over themselves")

    def reaches(self, terminal: Issi) -> bool:
        return self.up

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        if not self.up:
            raise SendFailed("down")
        self.sent.append((terminal, message))
        self._log.append(f"sent {type(message).__name__}")

    def of(self, type_: type, terminal: Issi = "") -> list[object]:
        return [
            message
            for to, message in self.sent
            if isinstance(message, type_) and (not terminal or to == terminal)
        ]


def config(**checks: object) -> Config:
    base = load(ROOT / "config" / "gateway.toml")
    section = msgspec.structs.replace(base.settings.checks, **checks)
    settings = Settings(
        gateway=base.settings.gateway, checks=section, tracking=base.settings.tracking
    )
    return msgspec.structs.replace(base, settings=settings)


class Rig:
    """`restart` drops the core as a crash does and begins another on the same ledger."""

    def __init__(self, **checks: object) -> None:
        self.config = config(**checks)
        self.clock, self.ids = FakeClock(), FakeIds()
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.log: list[str] = []
        self.ledger = FakeLedger(self.log)
        self.pnc = FakePnc(self.log)
        self.link = FakeLink(self.log)
        self.events: list[Event] = []
        self.settled: list[str] = []
        self.fatal: list[BaseException] = []
        self._refs = itertools.count(1)
        self._tending: asyncio.Task[None] | None = None
        self.core: Core

    async def begin(self) -> None:
        bus = EventBus(self.clock, meter=self.meter)
        bus.tap(self.events.append)
        self.core = Core(
            self.config,
            clock=self.clock,
            ids=self.ids,
            meter=self.meter,
            journal=self.journal,
            bus=bus,
            ledger=self.ledger,
            pnc=self.pnc,
            fatal=self.fatal.append,
        )
        self.core.links["line"] = self.link
        await self.core.begin()
        self._tending = asyncio.ensure_future(self.core.courier.tend())
        await settle()

    async def end(self) -> None:
        """As a crash: nothing is finished, nothing is written."""
        if self._tending is not None:
            self._tending.cancel()
        await self.core.drain(0.0)
        await settle()

    async def restart(self) -> None:
        await self.end()
        await self.begin()

    def say(self, message: Uplink, terminal: Issi = ISSI, name: str = "") -> None:
        """Hand one message over as a link does; `settled` gets its name when it is settled."""
        self.core.switchboard.handle(
            Envelope(
                message=message,
                terminal=terminal,
                link="line",
                bearer=Bearer.MQTT,
                received_at_ms=self.clock.wall_ms(),
                received_at_s=self.clock.monotonic_s(),
                reference_ms=self.clock.wall_ms(),
                settle=lambda: self.settled.append(name),
            )
        )

    def request(self, vrm: str = "TE99ABC", **changes: object) -> CheckRequest:
        values: dict[str, object] = {
            "key": VehicleKey(vrm=vrm),
            "reason": "1",
            "ref": f"r{next(self._refs)}",
            "sent_at_ms": self.clock.wall_ms(),
        }
        return CheckRequest(**(values | changes))  # type: ignore[arg-type]

    async def ask(
        self, vrm: str = "TE99ABC", *, terminal: Issi = ISSI, **changes: object
    ) -> CheckRequest:
        request = self.request(vrm, **changes)
        self.say(request, terminal, name=request.ref)
        await settle(60)
        return request

    def results(self, terminal: Issi = "") -> list[Result]:
        return [each for each in self.link.of(Result, terminal) if isinstance(each, Result)]

    def receipts(self, terminal: Issi = "") -> list[Receipt]:
        return [each for each in self.link.of(Receipt, terminal) if isinstance(each, Receipt)]

    def notices(self, terminal: Issi = "") -> list[Notice]:
        return [each for each in self.link.of(Notice, terminal) if isinstance(each, Notice)]
