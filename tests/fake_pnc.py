"""A PNC that says what the test tells it to, and keeps every question it heard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from gateway.messages import (
    Block,
    PncAnswer,
    PncQuery,
    PncRecord,
    RegisterAnswer,
    RegisterQuery,
    StatusRecord,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
)
from gateway.ports import Also, nothing_more

AS_OF_MS = 1_795_325_040_000
REGISTER_AS_OF_MS = 1_795_320_720_000
STOLEN, ARMED = ("TE99ABC", "TE99STV"), ("TE99STV",)
NOBODY = "TE99AAA"
"""The mark that nothing is on record about: the only one whose answer is "no trace"."""


def vehicle_answer(query: PncQuery, as_of_ms: int = AS_OF_MS) -> PncAnswer:
    """By mark: TE99AAA no trace; TE99ABC stolen; TE99STV stolen, violent occupant; else clear."""
    assert isinstance(query.key, VehicleKey)
    mark = query.key.vrm
    reports: tuple[VehicleReport, ...] = ()
    if mark in STOLEN:
        occupants = ("VI",) if mark in ARMED else ()
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
    records: tuple[PncRecord, ...] = () if mark == NOBODY else (record,)
    return PncAnswer(
        check=query.check,
        attempt=query.attempt,
        key_text=query.key_text,
        records=records,
        blocks=(Block(source="PNC", as_of_ms=as_of_ms),),
        as_of_ms=as_of_ms,
    )


Reply = PncAnswer | BaseException | Callable[[PncQuery], PncAnswer]


class Hang:
    """A question that is not answered until the test says so."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answer(self, reply: Reply = vehicle_answer) -> None:
        if not self._answer.done():
            self._answer.set_result(reply)

    async def wait(self) -> Reply:
        # Several may wait, and one that gives up does not answer for the others.
        return await asyncio.shield(self._answer)


class FakePnc:
    """gateway.ports.Pnc. `script` is used up one reply a question; then every one is answered."""

    def __init__(self) -> None:
        self.asked: list[PncQuery] = []
        self.also: list[Also] = []
        """Of each question, what is to be told of a second reply."""
        self.script: deque[Reply | Hang] = deque()
        self.always: Reply | Hang | None = None
        self.cancelled = 0
        self.silent: frozenset[str] = frozenset()
        """Sources that `sources` does not name; down: what it raises."""
        self.down: BaseException | None = None
        self.looks = 0
        """How often `sources` was asked."""
        self.heard: Callable[[PncQuery], None] = lambda _query: None

    def hang(self) -> Hang:
        """The next question hangs."""
        hang = Hang()
        self.script.append(hang)
        return hang

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        self.asked.append(query)
        self.also.append(also)
        self.heard(query)
        await asyncio.sleep(0)
        reply: Reply | Hang = self.always or vehicle_answer
        if self.script:
            reply = self.script.popleft()
        if isinstance(reply, Hang):
            try:
                reply = await reply.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(reply, BaseException):
            try:
                raise reply
            finally:
                del reply  # its frames hold it, and it them
        return reply if isinstance(reply, PncAnswer) else reply(query)

    async def sources(self) -> frozenset[str]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        return frozenset({"PNC", "DVLA", "INSURANCE"}) - self.silent

    async def close(self) -> None:
        """Nothing is open."""


class FakeRegister:
    """gateway.ports.VehicleRegister. down: what `look_up` and `sources` raise; silent: sources that
    are away; every: what is on record of any mark that has no record of its own."""

    def __init__(self) -> None:
        self.asked: list[RegisterQuery] = []
        self.records: dict[str, StatusRecord] = {}
        self.every: StatusRecord | None = None
        self.down: BaseException | None = None
        self.silent: frozenset[str] = frozenset()
        self.waits: asyncio.Future[None] | None = None
        """Until it is done, `look_up` hangs."""
        self.heard: Callable[[RegisterQuery], None] = lambda _query: None
        self.looks = 0
        """How often `sources` was asked."""
        self.closed = False

    async def look_up(self, query: RegisterQuery) -> RegisterAnswer:
        self.asked.append(query)
        self.heard(query)
        await asyncio.sleep(0)
        if self.waits is not None:
            await asyncio.shield(self.waits)
        if self.down is not None:
            raise self.down
        record = self.records.get(query.vrm)
        if record is None and self.every is not None:
            record = msgspec.structs.replace(self.every, vrm=query.vrm)
        return RegisterAnswer(
            check=query.check,
            attempt=query.attempt,
            key_text=query.key_text,
            record=record,
            blocks=tuple(
                Block(source, REGISTER_AS_OF_MS, "UNAVAILABLE" if source in self.silent else "OK")
                for source in ("DVLA", "MID")
            ),
            as_of_ms=REGISTER_AS_OF_MS,
        )

    async def sources(self) -> frozenset[str]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        return frozenset({"DVLA", "MID"}) - self.silent

    async def close(self) -> None:
        self.closed = True
