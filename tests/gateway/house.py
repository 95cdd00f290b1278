"""The whole core in a house of fakes: the test moves the clock, speaks for terminals and the PNC.

`story` is what happened in the order in which it happened, across all parties: what went on
record, what the PNC was asked, what was sent, what was settled. Tests of order read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.bus import EventBus
from gateway.check_rows import Ruling
from gateway.core import Core
from gateway.messages import (
    AckState,
    CheckRequest,
    DeliveryAck,
    Downlink,
    Envelope,
    Event,
    Issi,
    Key,
    Notice,
    PncQuery,
    Receipt,
    Result,
    StatusRecord,
    StatusReport,
    Uplink,
    VehicleKey,
)
from gateway.ports import Record
from gateway.rulebook import Challenges
from gateway.settings import ChecksSection, Config, LimitsSection, Settings, load
from tests.fake_ledger import Disk, FakeLedger
from tests.fake_link import FakeLink
from tests.fake_pnc import FakePnc, FakeRegister
from tests.fakes import (
    FakeClock,
    FakeFactors,
    FakeIds,
    FakeJournal,
    FakeKeyed,
    FakeMeter,
    FakeSeals,
    settle,
)
from tests.gateway.strategies import held_by

CONFIG = load(Path(__file__).parents[2] / "config" / "gateway.toml")
ISSI = "5001001"
"""A constable of the sample fleet; OTHER is a sergeant."""
OTHER = "5001002"
SILENT_ROLE = "role-without-rule"

T = TypeVar("T", bound=Downlink)


class Said:
    """One message that a terminal sent, and how often it was settled."""

    def __init__(self, message: Uplink) -> None:
        self.message = message
        self.settled = 0


UNLIMITED = LimitsSection(
    per_s=1e6,
    burst=1_000_000,
    officer_per_hour=1e9,
    officer_burst=1_000_000,
    fixes_per_s=1e6,
    fixes_burst=1_000_000,
    all_per_s=1e6,
    all_burst=1_000_000,
    all_fixes_per_s=1e6,
    all_fixes_burst=1_000_000,
)
"""Here a test says as much as it wants; tests/gateway/test_security.py has the limits."""


def config(*, limits: LimitsSection = UNLIMITED, **checks: object) -> Config:
    """The sample configuration with these settings of [checks]."""
    section = msgspec.structs.replace(ChecksSection(), **checks)
    settings = Settings(gateway=CONFIG.settings.gateway, checks=section, limits=limits)
    return unasked(msgspec.structs.replace(CONFIG, settings=settings))


def unasked(base: Config) -> Config:
    """Nobody is asked FREE TO SPEAK? or why they asked, nothing is held, and whoever approved the
    policy is not looked at: for what is not about that."""
    rules = tuple(
        msgspec.structs.replace(rule, hold=False, prompt=False) for rule in base.policy.rules
    )
    policy = msgspec.structs.replace(
        base.policy, rules=rules, challenge=Challenges(rate=0.0, always=())
    )
    return msgspec.structs.replace(base, policy=policy, policy_bytes=b"")


def other_holder(base: Config, issi: str = ISSI) -> Config:
    """Somebody else holds this terminal."""
    return msgspec.structs.replace(base, people=held_by(base.people, issi, "9999"))


def unbooked(base: Config, issi: str = ISSI) -> Config:
    """Nobody holds this terminal."""
    return msgspec.structs.replace(base, people=held_by(base.people, issi))


class House:
    """Use `async with House(...) as house`; `restart` is a `kill -9` and a new start."""

    def __init__(
        self,
        config_: Config | None = None,
        *,
        disk: Disk | None = None,
        has_register: bool = True,
    ) -> None:
        self.has_register = has_register
        self.config = config_ if config_ is not None else config()
        self.clock = FakeClock()
        self.ids = FakeIds()
        self.meter = FakeMeter()
        self.journal = FakeJournal()
        self.disk = disk if disk is not None else Disk()
        self.ledger = FakeLedger(self.disk)
        self.pnc = FakePnc()
        self.register = FakeRegister()
        """Knows every vehicle as the PNC does: taxed, tested, insured."""
        self.register.every = StatusRecord(
            vrm="", tax="Y", mot="Y", insured="Y", make="FORD", colour="BLUE"
        )
        self.link = FakeLink()
        self.factors = FakeFactors()
        self.events: list[Event] = []
        self.story: list[str] = []
        self.said: list[Said] = []
        self.fatal: list[BaseException] = []
        self.core: Core
        self._tasks: list[asyncio.Task[None]] = []
        self._refs = 0

    async def __aenter__(self) -> House:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.kill()

    # ----------------------------------------------------------------- life

    async def start(self) -> None:
        bus = EventBus(self.clock)
        bus.tap(self.events.append)
        self.ledger.wrote = self._wrote
        self.pnc.heard = self._asked
        self.register.heard = lambda _query: self.story.append("register")
        self.link.took = self._took
        self.core = Core(
            self.config,
            clock=self.clock,
            ids=self.ids,
            meter=self.meter,
            journal=self.journal,
            bus=bus,
            ledger=self.ledger,
            pnc=self.pnc,
            keyed=FakeKeyed(),
            seals=FakeSeals(),
            factors=self.factors,
            register=self.register if self.has_register else None,
            fatal=self.fatal.append,
        )
        self.core.links["air"] = self.link
        await self.core.begin()
        self._tasks = [
            asyncio.ensure_future(self.core.courier.tend()),
            asyncio.ensure_future(self.core.mind()),
        ]
        await settle()

    async def kill(self) -> None:
        """Every task of the daemon is gone at once; the disk stays as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.core.abandon()

    async def restart(self, config_: Config | None = None) -> None:
        """kill -9, and a new process on the same disk."""
        await self.kill()
        self.config = config_ if config_ is not None else self.config
        self.story.append("restart")
        self.ledger = FakeLedger(self.disk)
        await self.start()

    def _wrote(self, records: Sequence[Record]) -> None:
        if records:
            self.story.append("+".join(record.event for record in records))

    def _asked(self, query: PncQuery) -> None:
        self.story.append(f"question {query.attempt}")

    def _took(self, terminal: Issi, message: Downlink) -> None:
        del terminal
        self.story.append(f"sent {type(message).__name__.lower()}")

    # ----------------------------------------------------------------- what terminals do

    def say(self, message: Uplink, *, issi: Issi = ISSI, redelivered: bool = False) -> Said:
        """Hand a message over as a link does, now."""
        said = Said(message)
        self.said.append(said)

        def settled() -> None:
            said.settled += 1
            assert said.settled == 1, "settled twice"
            self.story.append("settled")

        self.core.switchboard.handle(
            Envelope(
                message=message,
                terminal=issi,
                link=self.link.name,
                bearer=self.link.bearer,
                received_at_ms=self.clock.wall_ms(),
                received_at_s=self.clock.monotonic_s(),
                reference_ms=self.clock.wall_ms(),
                settle=settled,
                redelivered=redelivered,
            )
        )
        return said

    def question(self, mark: str = "TE99AAB", **changes: object) -> CheckRequest:
        """A JSON check as a terminal makes it, with a reference of its own and the time of now."""
        self._refs += 1
        key: Key = VehicleKey(vrm=mark)
        request = CheckRequest(
            key=key,
            reason="1",
            ref=f"r{self._refs}",
            sent_at_ms=self.clock.wall_ms(),
            justification="NO LIGHTS",
            location="BRIDGE ST",
        )
        return msgspec.structs.replace(request, **changes)

    def typed(self, mark: str = "TE99AAB") -> CheckRequest:
        """The same as an officer types it: no reference, no time."""
        return CheckRequest(key=VehicleKey(vrm=mark), reason="1", typed=f"V {mark} R1")

    async def ask(self, mark: str = "TE99AAB", *, issi: Issi = ISSI, **changes: object) -> Said:
        said = self.say(self.question(mark, **changes), issi=issi)
        await settle()
        return said

    async def read(self, check: str, *, issi: Issi = ISSI, part: int = 1) -> Said:
        said = self.say(DeliveryAck(check=check, part=part, state=AckState.READ), issi=issi)
        await settle()
        return said

    async def status(self, code: int, *, issi: Issi = ISSI) -> Said:
        said = self.say(StatusReport(code=code), issi=issi)
        await settle()
        return said

    def rules_on(self, check: str, act: str = "released", **changes: str) -> list[str]:
        """An operator decides on a held answer; `over` stands in the list once that is written."""
        over: list[str] = []
        ruling = Ruling(by="op1", role="operator", act=act, over=lambda: over.append("over"))
        ruling = msgspec.structs.replace(ruling, **changes)
        self.core.checks.rule(check, ruling)
        return over

    async def passes(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    # ----------------------------------------------------------------- what is seen

    def heard(self, kind: type[T], issi: Issi = ISSI) -> list[T]:
        """What reached this terminal, oldest first."""
        return [
            sent.message
            for sent in self.link.sent
            if sent.terminal == issi and isinstance(sent.message, kind)
        ]

    @property
    def receipts(self) -> list[Receipt]:
        return self.heard(Receipt)

    @property
    def results(self) -> list[Result]:
        return self.heard(Result)

    @property
    def notices(self) -> list[Notice]:
        return self.heard(Notice)

    def newest(self) -> str:
        """Id of the check that came on record last."""
        return next(r.check for r in reversed(self.disk.records) if r.event == "opened")

    def on_record(self, event: str, check: str | None = None) -> list[Record]:
        return [
            record
            for record in self.disk.records
            if record.event == event and (check is None or record.check == check)
        ]

    def all_settled(self) -> bool:
        return all(said.settled == 1 for said in self.said)
