"""The ledger's own process: what it is sent, what comes back, and who ends with whom."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from adapters.ledger import open_ledger
from adapters.ledger.calls import FRAME_MOST, LENGTH_BYTES, Ask, Call, Commit, Frames, Outgoing
from adapters.ledger.process import LedgerProcess, start
from adapters.ledger.remote import RemoteStore, open_remote
from gateway.app import SystemClock
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.ports import PutAlarm, PutCheck, Record
from gateway.settings import AuditSection, LedgerSection
from tests.adapters.ledger.books import check_row
from tests.fakes import FakeJournal, FakeMeter
from tests.system.daemon import until

WITHIN_S = 10.0
RECORD = Record(event="started", at_ms=1, content=b"x")
CALLS = (Ask(1, "last_check", ("5001001", "C001")), Commit(2, (RECORD,), ()), Ask(3, "head", ()))


def hiding(_folder: Path) -> Callable[[str], str]:
    return lambda digest: f"k:{digest}"


class _Transport(asyncio.WriteTransport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


async def _bytes() -> bytes:
    transport = _Transport()
    out = Outgoing(asyncio.get_running_loop(), transport)
    for call in CALLS:
        out.put(call)
    await asyncio.sleep(0)
    assert len(transport.writes) == 1, "one turn of the loop, one write"
    return transport.writes[0]


async def test_frames_are_the_same_whole_and_one_byte_at_a_time() -> None:
    """Whole, byte by byte, and with the beginning of more behind: the same messages."""
    data = await _bytes()
    assert Frames(Call).feed(data) == list(CALLS)
    frames = Frames(Call)
    assert [each for byte in data for each in frames.feed(bytes([byte]))] == list(CALLS)
    frames = Frames(Call)
    assert frames.feed(data + data[:7]) == list(CALLS)
    assert frames.feed(data[7:]) == list(CALLS)


@pytest.mark.parametrize(
    "data",
    [
        (FRAME_MOST + 1).to_bytes(LENGTH_BYTES, "big"),
        (3).to_bytes(LENGTH_BYTES, "big") + b"\xc1\xc1\xc1",
    ],
)
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    """A length that no message has, or bytes that are none: the connection is given up."""
    with pytest.raises(ValueError, match=r"too long|MessagePack|truncated|invalid"):
        Frames(Call).feed(data)


class Apart:
    """A ledger in a process of its own, and what the daemon's side got of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.heads: list[bytes] = []
        self.process: LedgerProcess
        self.store: RemoteStore

    async def fork(self) -> None:
        # From a thread: a fork from within a loop would believe that it runs it.
        self.process = await asyncio.to_thread(start, SystemClock(), hiding)

    async def open(self, section: LedgerSection) -> None:
        self.store = await open_remote(
            self.process,
            section,
            state_dir=self.folder,
            instance="apart",
            meter=self.meter,
            journal=self.journal,
            clock=SystemClock(),
            audit=AuditSection(heads_every=2),
            anchored={},
            headed=self.heads.append,
        )


Open = Callable[..., Awaitable[Apart]]


@pytest.fixture
async def opening(tmp_path: Path) -> AsyncIterator[Open]:
    opened: list[Apart] = []

    async def open_(section: LedgerSection = LedgerSection()) -> Apart:  # noqa: B008 - frozen
        apart = Apart(tmp_path)
        opened.append(apart)
        await apart.fork()
        await apart.open(section)
        return apart

    yield open_
    for apart in opened:
        apart.process.end()
        assert await asyncio.to_thread(apart.process.wait, WITHIN_S)


async def test_heads_gauges_and_lines_come_back(opening: Open) -> None:
    """What the writer's thread tells the daemon it still tells it."""
    apart = await opening()
    for _ in range(3):
        await apart.store.commit([RECORD])
    await until(lambda: bool(apart.heads), WITHIN_S)
    sequence = ("audit_head_sequence", ())
    await until(lambda: apart.meter.gauges.get(sequence) == 3, WITHIN_S)
    assert apart.meter.counts["audit_records_total", (("action", "started"),)] == 3
    assert (await apart.store.head())[0] == 3
    await apart.store.close()
    assert apart.process.gone()


async def test_a_ledger_that_is_in_use_is_refused_in_its_own_words(
    opening: Open, tmp_path: Path
) -> None:
    """A second daemon on the same folder hears what to do."""
    await opening()
    with pytest.raises(LedgerUnavailable, match=r"another daemon writes ledger\.db"):
        await opening()


async def test_a_lock_that_is_about_to_be_freed_is_waited_for(tmp_path: Path) -> None:
    """The process of a daemon that was killed may still stand in a sync."""
    apart = Apart(tmp_path)
    await apart.fork()
    before = await open_ledger(
        LedgerSection(),
        state_dir=tmp_path,
        instance="apart",
        meter=FakeMeter(),
        journal=FakeJournal(),
        clock=SystemClock(),
    )
    opening = asyncio.ensure_future(apart.open(LedgerSection()))
    await asyncio.sleep(0)
    await before.close()
    await opening
    await apart.store.commit([RECORD])
    await apart.store.close()


async def test_whoever_waits_hears_that_the_process_is_gone(opening: Open) -> None:
    """Killed in the middle: what was under way, and what comes after, is LedgerFatal."""
    apart = await opening()
    os.kill(apart.process.pid, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(apart.store.commit([RECORD])) for _ in range(3)]
    await asyncio.sleep(0)
    os.kill(apart.process.pid, signal.SIGKILL)
    async with asyncio.timeout(WITHIN_S):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in ends] == [LedgerFatal] * 3
    with pytest.raises(LedgerFatal):
        await apart.store.commit([RECORD])
    await apart.store.close()


async def test_signals_of_the_daemon_do_not_end_it(opening: Open) -> None:
    """Ctrl-C and systemd's SIGTERM reach the whole group; the ledger serves the drain."""
    apart = await opening()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(apart.process.pid, number)
    await apart.store.commit([RECORD])
    assert (await apart.store.head())[0] == 1


async def test_it_ends_when_it_is_hung_up_on(opening: Open) -> None:
    """A daemon that ends without a word leaves no writer behind, also where no signal comes."""
    apart = await opening()
    apart.store._transport.abort()
    assert await asyncio.to_thread(apart.process.wait, WITHIN_S)


async def test_what_cannot_be_written_down_costs_its_own_caller(opening: Open) -> None:
    """A lone surrogate, a number that is too large: refused, and the next one is served."""
    apart = await opening()
    for bad in (
        Record(event="started", at_ms=2**70),
        Record(event="started", at_ms=1, detail="\ud800"),
    ):
        with pytest.raises(LedgerUnavailable, match="refused"):
            await apart.store.commit([bad])
    await apart.store.commit([RECORD])


async def test_digests_are_hidden_with_the_key_that_the_process_reads(opening: Open) -> None:
    """A function does not travel: how a digest is keyed is known there since the fork."""
    apart = await opening()
    plain = "ab" * 32
    row = check_row("C1", dedupe=plain, opened_at_ms=SystemClock().wall_ms())
    await apart.store.commit([], [PutCheck(row)])
    await apart.store.hide_questions(lambda _digest: "not this one")
    assert [each.dedupe for each in await apart.store.open_checks()] == [f"k:{plain}"]


async def test_not_more_calls_wait_than_may(opening: Open) -> None:
    """Twice the ledger's queue; the next is refused at once, and counted."""
    apart = await opening(LedgerSection(queue=4))
    os.kill(apart.process.pid, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(apart.store.head()) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable, match="queue full"):
        await apart.store.commit([RECORD])
    os.kill(apart.process.pid, signal.SIGCONT)
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*waiting, return_exceptions=True)
    dropped = ("queue_dropped_total", (("queue", "audit"), ("reason", "full")))
    assert apart.meter.counts[dropped] >= 1
    await apart.store.commit([RECORD])


async def test_a_caller_that_gave_up_is_taken_out_of_the_queue(opening: Open) -> None:
    """Cancelled before the writer took it: never written."""
    apart = await opening()
    os.kill(apart.process.pid, signal.SIGSTOP)
    first = asyncio.ensure_future(apart.store.commit([RECORD]))
    given_up = asyncio.ensure_future(apart.store.commit([RECORD, RECORD]))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    os.kill(apart.process.pid, signal.SIGCONT)
    await first
    assert (await apart.store.head())[0] == 1


def test_every_change_has_a_name_of_its_own() -> None:
    """Changes are told apart by their tag on the way."""
    assert PutAlarm.__struct_config__.tag == "PutAlarm"
