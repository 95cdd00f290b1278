"""The one writer under load and under fault: groups, bounds, full disks, lost files, crashes."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from adapters.ledger import open_ledger
from adapters.ledger.store import Store
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter
from tests.services import require
from tests.system.ledgers import audit, chain_faults

ROOT = Path(__file__).resolve().parents[3]


async def opened(folder: Path, meter: FakeMeter | None = None, **options: int) -> Store:
    store = await open_ledger(
        LedgerSection(**options),
        state_dir=folder,
        instance="gw1",
        meter=meter or FakeMeter(),
        journal=FakeJournal(),
        clock=FakeClock(),
    )
    assert isinstance(store, Store)
    return store


def record(n: int = 0) -> Record:
    return Record(event="opened", at_ms=n, check=f"C{n}", content=b"x" * 200)


async def test_a_burst_shares_transactions(tmp_path: Path) -> None:
    """200 commits at once cost far fewer syncs than 200, and none more than the group allows."""
    store = await opened(tmp_path)
    commits = 0

    @event.listens_for(store._engine, "commit")
    def committed(_connection: object) -> None:
        nonlocal commits
        commits += 1

    await asyncio.gather(*(store.commit([record(n)]) for n in range(200)))
    await store.close()
    assert 200 / 64 <= commits < 100
    assert chain_faults(audit(tmp_path)) == []


async def test_a_lone_commit_waits_for_nobody(tmp_path: Path) -> None:
    """No delay on purpose: it is durable as soon as it is synced."""
    store = await opened(tmp_path)
    await store.commit([record()])
    assert len(audit(tmp_path)) == 1
    await store.close()


async def test_the_queue_is_bounded_and_says_so(tmp_path: Path) -> None:
    """One more than fits is refused at once and counted; what was taken is written."""
    meter = FakeMeter()
    store = await opened(tmp_path, meter, queue=10)
    gate, begun = threading.Event(), threading.Event()

    def block(_db: object) -> None:
        begun.set()
        gate.wait(10)

    blocking = asyncio.ensure_future(store._read(block))
    await asyncio.to_thread(begun.wait, 10)
    taken = [asyncio.ensure_future(store.commit([record(n)])) for n in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable, match="queue full"):
        await store.commit([record(99)])
    gate.set()
    await asyncio.gather(blocking, *taken)
    await store.close()
    assert len(audit(tmp_path)) == 10
    assert meter.total("queue_dropped_total", queue="audit", reason="full") == 1


async def test_a_file_that_is_deleted_under_us_is_fatal(tmp_path: Path) -> None:
    """D05: what would be written into it is gone with it; the process must end, not retry."""
    store = await opened(tmp_path)
    await store.commit([record()])
    os.unlink(tmp_path / "ledger.db")
    store._inode_at_s = -1e9
    with pytest.raises(LedgerFatal):
        await store.commit([record()])
    with pytest.raises(LedgerFatal):
        await store.commit([record()])
    await store.close()


async def test_a_defect_in_the_writer_is_told_to_all_who_wait(tmp_path: Path) -> None:
    """A thread that died silently would leave every check waiting for ever."""
    store = await opened(tmp_path)

    def broken(_db: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(LedgerFatal, match="ZeroDivisionError"):
        await store._read(broken)
    with pytest.raises(LedgerFatal):
        await store.commit([record()])
    await store.close()


async def test_a_closed_ledger_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    writing = [asyncio.ensure_future(store.commit([record(n)])) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writing)
    with pytest.raises(LedgerUnavailable, match="closing"):
        await store.commit([record()])
    assert len(audit(tmp_path)) == 50


async def test_an_old_copy_put_back_is_said_aloud(tmp_path: Path) -> None:
    """D12: the heads file knows of more than the database holds."""
    store = await opened(tmp_path)
    await store.commit([record(1)])
    await store.close()
    old = (tmp_path / "ledger.db").read_bytes()
    store = await opened(tmp_path)
    await store.commit([record(2)])
    await store.close()
    (tmp_path / "ledger.db").write_bytes(old)
    journal = FakeJournal()
    again = await open_ledger(
        LedgerSection(),
        state_dir=tmp_path,
        instance="gw1",
        meter=FakeMeter(),
        journal=journal,
        clock=FakeClock(),
    )
    await again.close()
    assert "ledger.behind" in [line[0] for line in journal.lines]


WRITER = """
import asyncio, sys
from pathlib import Path
from adapters.ledger import open_ledger
from gateway.errors import LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter

async def main():
    store = await open_ledger(LedgerSection(), state_dir=Path(sys.argv[1]), instance="gw1",
        meter=FakeMeter(), journal=FakeJournal(), clock=FakeClock())
    async def one(lane):
        n = 0
        while True:
            n += 1
            name = f"{sys.argv[2]}-{lane}-{n}"
            try:
                record = Record(event="opened", at_ms=1, check=name, content=b"x" * 300)
                await store.commit([record])
            except LedgerUnavailable as error:
                print("refused", str(error), flush=True)
                await asyncio.sleep(0.01)
                continue
            print("ok", name, flush=True)
    await asyncio.gather(*(one(lane) for lane in range(8)))

asyncio.run(main())
"""


def writer(folder: Path, run: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), run],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,  # type: ignore[call-overload]
    )


def read_lines(process: subprocess.Popen[str], n: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(n)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_at_random_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Twenty times SIGKILL; each acknowledged record stands, and the chain verifies."""
    chance = random.Random(5)
    acknowledged: set[str] = set()
    for run in range(20):
        process = writer(tmp_path, f"r{run}")
        lines = read_lines(process, chance.randint(5, 200))
        process.kill()
        assert process.stdout is not None
        lines += process.stdout.read().splitlines()
        process.wait()
        acknowledged |= {line.split()[1] for line in lines if line.startswith("ok ")}
    leaves = audit(tmp_path)
    assert len(acknowledged) > 500
    assert acknowledged <= {leaf["check"] for leaf in leaves}
    assert chain_faults(leaves) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_full_disk_is_refused_and_service_comes_back(tmp_path: Path) -> None:
    """D01: LedgerUnavailable while the tmpfs is full, then commits again once there is room."""
    require("unshare")
    script = f"""
set -e
mount -t tmpfs -o size=3m tmpfs {tmp_path}
dd if=/dev/zero of={tmp_path}/filler bs=1k count=1200 2>/dev/null
exec {sys.executable} -c "$WRITER" {tmp_path} r0
"""
    process = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WRITER": WRITER},
    )
    try:
        assert process.stdout is not None
        seen: list[str] = []
        while not any(line.startswith("refused") for line in seen):
            line = process.stdout.readline()
            assert line, "\n".join(seen[-20:])
            seen.append(line)
        assert any(line.startswith("ok") for line in seen)
        inside = f"/proc/{process.pid}/root{tmp_path}/filler"
        os.unlink(inside)
        after: list[str] = []
        while sum(line.startswith("ok") for line in after) < 20:
            line = process.stdout.readline()
            assert line, "\n".join(after[-20:])
            after.append(line)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_sync_that_fails_ends_the_writer(tmp_path: Path) -> None:
    """D02: EIO from fdatasync is fatal: nothing is acknowledged after it, nothing is retried."""
    strace = require("strace")
    process = subprocess.Popen(
        [
            *(strace, "-f", "-qq", "-o", "/dev/null"),
            *("-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=20+"),
            *(sys.executable, "-c", WRITER, str(tmp_path), "r0"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    out, _ = process.communicate(timeout=50)
    acknowledged = {line.split()[1] for line in out.splitlines() if line.startswith("ok ")}
    assert "LedgerFatal" in out
    assert acknowledged
    assert acknowledged <= {leaf["check"] for leaf in audit(tmp_path)}
