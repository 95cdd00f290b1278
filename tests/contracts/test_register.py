"""What every vehicle register promises: the mock in process, HTTP against a real server, the fake.

`register` runs a test on the two that hold the records; `any_register` on the fake of the core's
tests, too. Delays are of the injected clock, moved by hand.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from adapters.register import create
from adapters.register.mock import FAULTS, HANG_S, SLOW_S
from gateway.errors import (
    ConfigError,
    PncDown,
    PncError,
    PncGarbled,
    PncInvalid,
    PncTimeout,
    PncUnauthorised,
)
from gateway.messages import RegisterAnswer, RegisterQuery, StatusRecord
from gateway.ports import VehicleRegister
from gateway.settings import RegisterSection
from simulators.register_server import RegisterServer
from tests.adapters.pnc.replies import RECORDS, ROOT
from tests.fake_pnc import FakeRegister
from tests.fakes import FakeClock
from tests.system.daemon import until

WITHIN_S = 10.0
FOUND = StatusRecord(
    vrm="TE99AAB",
    tax="Y",
    mot="Y",
    insured="Y",
    insurer="SYNTHA MUTUAL",
    make="FORD",
    colour="BLUE",
)


@dataclasses.dataclass
class Rig:
    register: VehicleRegister
    server: RegisterServer | None
    clock: FakeClock

    async def ask(self, vrm: str, *, attempt: int = 1) -> RegisterAnswer:
        async with asyncio.timeout(WITHIN_S):
            return await self.register.look_up(question(vrm, attempt=attempt))


def question(vrm: str, *, check: str = "01TESTC001", attempt: int = 1) -> RegisterQuery:
    return RegisterQuery(
        check=check,
        attempt=attempt,
        vrm=vrm,
        key_text=f"VRM:{vrm}",
        asked_at_ms=1_795_325_047_120,
        deadline_s=15.0,
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server(clock: FakeClock) -> AsyncIterator[RegisterServer]:
    server = RegisterServer(RECORDS, clock=clock)
    await server.start()
    yield server
    await server.stop()


def made(adapter: str, clock: FakeClock, **changes: object) -> VehicleRegister:
    """As the composition root makes it."""
    section = RegisterSection(adapter=adapter, records=str(RECORDS))
    section = msgspec.structs.replace(section, **changes)
    path = ROOT / "config" / "gateway.toml"
    register = create(adapter, settings=section, config_path=path, clock=clock)
    assert register is not None
    return register


@pytest.fixture(params=["mock", "http"])
async def rig(
    request: pytest.FixtureRequest, server: RegisterServer, clock: FakeClock
) -> AsyncIterator[Rig]:
    register = made(request.param, clock, url=server.url)
    yield Rig(register, server if request.param == "http" else None, clock)
    await register.close()


@pytest.fixture(params=["mock", "http", "fake"])
async def any_rig(
    request: pytest.FixtureRequest, server: RegisterServer, clock: FakeClock
) -> AsyncIterator[Rig]:
    register: VehicleRegister
    if request.param == "fake":
        fake = FakeRegister()
        fake.records["TE99AAB"] = FOUND
        register = fake
    else:
        register = made(request.param, clock, url=server.url)
    yield Rig(register, None, clock)
    await register.close()


# --------------------------------------------------------------------------- answers


@pytest.mark.parametrize("attempt", [1, 3])
async def test_it_echoes_the_question(any_rig: Rig, attempt: int) -> None:
    """Check, attempt and key; and every answer names its sources with their as-of times."""
    answer = await any_rig.ask("TE99AAB", attempt=attempt)
    assert (answer.check, answer.attempt, answer.key_text) == (
        *("01TESTC001", attempt),
        "VRM:TE99AAB",
    )
    assert [block.source for block in answer.blocks] == ["DVLA", "MID"]
    assert all(block.state == "OK" and block.as_of_ms > 0 for block in answer.blocks)
    assert answer.as_of_ms > 0


async def test_a_status(any_rig: Rig) -> None:
    assert (await any_rig.ask("TE99AAB")).record == FOUND


async def test_unknown_to_it_is_no_record(any_rig: Rig) -> None:
    assert (await any_rig.ask("TE99AAA")).record is None


async def test_many_at_once_get_their_own(any_rig: Rig) -> None:
    asked = [question("TE99AAB", check=f"C{n}") for n in range(40)]
    async with asyncio.timeout(2 * WITHIN_S):
        answers = await asyncio.gather(*(any_rig.register.look_up(each) for each in asked))
    assert [each.check for each in answers] == [each.check for each in asked]


@pytest.mark.parametrize(
    ("mark", "members"),
    [
        ("TE99NTX", {"tax": "N"}),
        ("TE99MTX", {"mot": "N"}),
        ("TE99NNS", {"insured": "N", "insurer": ""}),
        ("TE99SRN", {"sorn": True, "tax": "N"}),
    ],
)
async def test_what_is_not_in_order(rig: Rig, mark: str, members: dict[str, object]) -> None:
    """The status part of config/pnc/vehicles.toml, as the PNC's own copy has it."""
    record = (await rig.ask(mark)).record
    assert record is not None
    assert {name: getattr(record, name) for name in members} == members


async def test_each_source_has_its_own_as_of(rig: Rig) -> None:
    """The DVLA's copy is of the early morning; the MID's of now."""
    dvla, mid = (await rig.ask("TE99AAB")).blocks
    assert (dvla.as_of_ms, mid.as_of_ms) == (1795320720000, 1795325047120)


# --------------------------------------------------------------------------- faults


def sleepers(clock: FakeClock) -> int:
    return sum(not future.done() for _, _, future in clock._sleepers)


async def test_a_source_that_does_not_reply_says_nothing(rig: Rig) -> None:
    """Its members are unknown, never N; and the answer says which it was."""
    for mark, gone, known, unknown in (
        ("ER99DVL", "DVLA", (), ("tax", "mot")),
        ("ER99MID", "MID", (), ("insured",)),
    ):
        answer = await rig.ask(mark)
        states = {block.source: block.state for block in answer.blocks}
        assert states == {"DVLA": "OK", "MID": "OK"} | {gone: "UNAVAILABLE"}
        record = answer.record
        assert record is None or all(getattr(record, name) == "" for name in (*known, *unknown))
    answer = await rig.ask("TE99MNS")
    assert answer.record is not None
    assert (answer.record.tax, answer.record.insured, answer.record.insurer) == ("Y", "", "")
    assert answer.blocks[1].state == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        *(("BAD", PncInvalid), ("THR", PncDown), ("ERR", PncDown), ("MNT", PncDown)),
        *(("AUT", PncUnauthorised), ("GBG", PncGarbled), ("TRN", PncGarbled)),
        *(("VST", PncGarbled), ("ECH", PncGarbled), ("DRP", PncDown)),
    ],
)
@pytest.mark.parametrize("year", ["99", "19"])
async def test_each_fault_by_its_remedy(
    rig: Rig, fault: str, error: type[PncError], year: str
) -> None:
    with pytest.raises(error) as raised:
        await rig.ask(f"ER{year}{fault}")
    if fault in ("ECH", "VST"):
        assert isinstance(raised.value, PncGarbled)
        assert raised.value.reason == {"ECH": "echo", "VST": "oversize"}[fault]


async def test_it_hangs_and_it_is_slow(rig: Rig) -> None:
    """Until the caller has had enough; and an answer that takes its time is an answer."""
    hung = asyncio.ensure_future(rig.register.look_up(question("ER99TMT")))
    slow = asyncio.ensure_future(rig.register.look_up(question("ER99SLW")))
    await until(lambda: sleepers(rig.clock) == 2)
    await rig.clock.advance(SLOW_S)
    async with asyncio.timeout(WITHIN_S):
        assert (await slow).record is None
        assert not hung.done()
        await rig.clock.advance(HANG_S - SLOW_S)
        with pytest.raises(PncDown):
            await hung


async def test_not_found_needs_no_trigger_to_be_true(rig: Rig) -> None:
    assert (await rig.ask("ER99NFD")).record is None


@pytest.mark.parametrize("vrm", ["", "TE99 ABC", "TE99ABC9999", "TÉ99ABC"])
async def test_what_is_no_mark_is_not_looked_for(rig: Rig, vrm: str) -> None:
    with pytest.raises(PncInvalid):
        await rig.ask(vrm)


def test_every_fault_has_a_test() -> None:
    told = {"BAD", "THR", "ERR", "MNT", "AUT", "GBG", "TRN", "VST", "ECH", "DRP"}
    assert told | {"TMT", "SLW", "NFD", "DVL", "MID", "PAR"} == set(FAULTS)


# --------------------------------------------------------------------------- which sources reply


async def test_the_sources_that_reply(any_rig: Rig) -> None:
    assert await any_rig.register.sources() == {"DVLA", "MID"}


async def test_a_source_that_is_away_is_not_named(server: RegisterServer, clock: FakeClock) -> None:
    register = made("http", clock, url=server.url)
    try:
        server.silent = frozenset({"MID"})
        assert await register.sources() == {"DVLA"}
        server.fault = "down"
        with pytest.raises(PncDown):
            await register.sources()
    finally:
        await register.close()
    assert not server.queries  # it named no vehicle


# --------------------------------------------------------------------------- over the wire


async def test_the_token_is_read_for_each_question(
    server: RegisterServer, clock: FakeClock, tmp_path: Path
) -> None:
    await server.stop()
    guarded = RegisterServer(RECORDS, clock=clock, token="good")
    await guarded.start()
    token = tmp_path / "token"
    token.write_text("bad")
    register = made("http", clock, url=guarded.url, token_file=str(token))
    try:
        with pytest.raises(PncUnauthorised):
            await register.look_up(question("TE99AAB"))
        token.write_text("good\n")
        assert (await register.look_up(question("TE99AAB"))).record == FOUND
        assert await register.sources() == {"DVLA", "MID"}
    finally:
        await register.close()
        await guarded.stop()


async def test_nobody_there_and_nobody_any_more(server: RegisterServer, clock: FakeClock) -> None:
    register = made("http", clock, url=server.url)
    await server.stop()
    with pytest.raises(PncDown):
        await register.look_up(question("TE99AAB"))
    with pytest.raises(PncDown):
        await register.sources()
    await register.close()
    with pytest.raises(PncDown):
        await register.look_up(question("TE99AAB"))


async def test_a_server_that_hangs_does_not_hold_up_who_looks_for_sources(
    server: RegisterServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.register.http.SOURCES_S", 0.05)
    register = made("http", clock, url=server.url)
    server.fault = "hang"
    try:
        with pytest.raises(PncTimeout):
            await register.sources()
    finally:
        await register.close()


async def test_its_log_is_its_own(server: RegisterServer, clock: FakeClock) -> None:
    """What it was asked and what it said, and not who asked."""
    register = made("http", clock, url=server.url)
    try:
        await register.look_up(question("TE99AAB"))
    finally:
        await register.close()
    (query,), (reply,) = server.queries, server.replies
    assert (query.check, query.key_text, query.originator) == ("01TESTC001", "VRM:TE99AAB", "")
    assert (reply.kind, reply.status) == ("trace", 200)


# --------------------------------------------------------------------------- the registry


def test_none_is_none_and_an_unknown_one_is_a_defect(clock: FakeClock) -> None:
    path = ROOT / "config" / "gateway.toml"
    none = create("none", settings=RegisterSection(), config_path=path, clock=clock)
    assert none is None
    with pytest.raises(KeyError):
        create("ves", settings=RegisterSection(), config_path=path, clock=clock)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ('[[vehicles]]\nvrm = "AB12CDE"\n', "vehicles[0].vrm: not a reserved mark"),
        ("[[vehicles", "vehicles.toml: "),
        (None, "cannot be read"),
    ],
)
def test_records_that_are_not_good_are_refused(
    text: str | None, finding: str, clock: FakeClock, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "vehicles.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        made("mock", clock, records=str(tmp_path))
    assert finding in str(error.value)
    assert "AB12CDE" not in str(error.value)
