"""Disks that are full or failing, and kills: the writer in a process of its own, from outside.

What was acknowledged is there; what was refused is not; the chain verifies (I1, I9, D01, D02, H01).
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.ledger import remedy
from adapters.ledger.ballast import Ballast
from tests.adapters.ledger.books import ROOT, WriterProcess
from tests.chain import Leaf, audit, chain_faults, contents
from tests.services import postgresql, require


def stands(leaves: list[Leaf], acknowledged: set[tuple[str, str]]) -> list[str]:
    """Every acknowledged record is there, once; and the chain verifies."""
    found = [(leaf["check"], leaf["event"]) for leaf in leaves]
    faults = chain_faults(leaves)
    faults += [f"lost: {each}" for each in sorted(acknowledged - set(found))]
    if len(found) != len(set(found)):
        faults.append("something was written twice")
    return faults


# --------------------------------------------------------------------------- full disks


class Tmpfs:
    """A small disk in a mount namespace of its own, in which a writer runs."""

    def __init__(self, folder: Path, kib: int, filler_kib: int) -> None:
        self._folder = folder
        script = (
            f"set -e; mount -t tmpfs -o size={kib}k tmpfs {folder};"
            f"dd if=/dev/zero of={folder}/filler bs=1k count={filler_kib} 2>/dev/null;"
            f"mkdir -m 700 {folder}/state;"
            'exec "$@"'
        )
        self.wrapper = [require("unshare"), "-rm", "sh", "-c", script, "sh"]
        self.state = folder / "state"

    def inside(self, writer: WriterProcess, name: str) -> Path:
        return Path(f"/proc/{writer.process.pid}/root{self._folder}/{name}")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_on_a_full_disk_what_is_under_way_is_finished_and_nothing_new_begun(
    tmp_path: Path,
) -> None:
    """D01: with the ballast spent every open check is still answered, new ones are refused, and
    the service comes back by itself within 5 s of the disk having room."""
    disk = Tmpfs(tmp_path, 6144, 1500)
    writer = WriterProcess(disk.state, wrapper=disk.wrapper, ballast_bytes=1024 * 1024)
    try:
        writer.read_until("said ledger.unavailable disk full")
        first_full = len(writer.lines)
        writer.read_until("refused opened", 40)
        during = writer.lines[first_full:]
        assert not [line for line in during if line.startswith("refused answered")]
        assert [line for line in during if line.startswith("ok answered")]
        before = writer.acknowledged
        unanswered = {check for check, event in before if event == "opened"}
        unanswered -= {check for check, event in before if event == "answered"}
        assert not unanswered, "in flight, and never finished"
        os.unlink(disk.inside(writer, "filler"))
        freed_s = time.monotonic()
        writer.read_until("said ledger.recovered")
        writer.read_until("ok opened", 5)
        assert time.monotonic() - freed_s < 5
        os.kill(writer.process.pid, signal.SIGSTOP)  # its mount would be gone with it
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(disk.inside(writer, "state") / name, tmp_path)
        assert stands(audit(tmp_path), writer.acknowledged) == []
    finally:
        writer.kill()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_disk_that_stays_full_refuses_everything_and_kills_nothing(tmp_path: Path) -> None:
    """D01: no ballast to spend: every commit is refused at once, for as long as it takes."""
    disk = Tmpfs(tmp_path, 2048, 1200)
    writer = WriterProcess(disk.state, wrapper=disk.wrapper, ballast_bytes=4 * 1024 * 1024)
    try:
        writer.read_until("said ledger.unavailable disk full")
        writer.read_until("refused opened", 50)
        assert writer.process.poll() is None
        assert writer.acknowledged == set()
    finally:
        writer.kill()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_limit_of_the_files_size_is_a_full_disk_and_no_broken_one(tmp_path: Path) -> None:
    """D01: RLIMIT_FSIZE shows as SQLITE_IOERR_WRITE, as EIO does; the one passes, the other not."""
    prlimit = require("prlimit")
    writer = WriterProcess(tmp_path, wrapper=[prlimit, "--fsize=600000:unlimited"])
    try:
        writer.read_until("refused", 20)
        assert any("disk full" in line for line in writer.lines)
        subprocess.run([prlimit, "--pid", str(writer.process.pid), "--fsize=unlimited"], check=True)
        writer.read_until("ok opened", 20)
        os.kill(writer.process.pid, signal.SIGSTOP)
        assert stands(audit(tmp_path), writer.acknowledged) == []
    finally:
        writer.kill()


# --------------------------------------------------------------------------- failing disks


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_disk_that_fails_ends_the_writer(tmp_path: Path, call: str) -> None:
    """D02: EIO is fatal: nothing is acknowledged after it, nothing is retried."""
    strace = [require("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    writer = WriterProcess(tmp_path, wrapper=[*strace, "-e", f"inject={call}:error=EIO:when=200+"])
    writer.finish()
    assert any("LedgerFatal" in line for line in writer.lines), writer.lines[-20:]
    assert writer.acknowledged
    assert stands(audit(tmp_path), writer.acknowledged) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_killed_in_the_middle_of_a_sync(tmp_path: Path) -> None:
    """P10: SIGKILL at exact fdatasync calls, of migration, commit and checkpoint; what was in
    doubt is absent or whole."""
    acknowledged: set[tuple[str, str]] = set()
    for run, when in enumerate((3, 11, 50, 51, 52, 97, 150)):
        strace = [require("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
        writer = WriterProcess(
            tmp_path,
            f"r{run}",
            wrapper=[*strace, "-e", f"inject=fdatasync:signal=SIGKILL:when={when}"],
        )
        writer.finish()
        acknowledged |= writer.acknowledged
        if acknowledged:
            assert stands(audit(tmp_path), acknowledged) == []
    assert len(acknowledged) > 50


# --------------------------------------------------------------------------- kills


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_killed_at_random_nothing_acknowledged_is_lost(tmp_path: Path, engine: str) -> None:
    """H01: twenty times SIGKILL; each acknowledged record stands, once, and the chain verifies."""
    chance = random.Random(5)
    acknowledged: set[tuple[str, str]] = set()

    def twenty(url: str) -> None:
        for run in range(20):
            writer = WriterProcess(tmp_path, f"r{run}", url=url)
            writer.read_until("ok", chance.randint(5, 200))
            writer.kill()
            acknowledged.update(writer.acknowledged)

    if engine == "sqlite":
        twenty("")
        leaves = audit(tmp_path)
        assert chain_faults(leaves, contents=contents(tmp_path)) == []
    else:
        with postgresql.running() as url:
            twenty(url)
            leaves = _audit_of(url)
    assert len(acknowledged) > 500
    assert stands(leaves, acknowledged) == []


def _audit_of(url: str) -> list[Leaf]:
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.connect() as db:
        rows = db.execute(text("SELECT log, seq, record, hash FROM audit_leaf ORDER BY seq"))
        leaves = [Leaf(row.log, row.seq, bytes(row.record), row.hash) for row in rows]
    engine.dispose()
    return leaves


PURGER = """
import asyncio, sys
from pathlib import Path
from tests.adapters.ledger.books import opened, record
import adapters.ledger.purging as purging
purging.STEP = 20

async def main():
    store = await opened(Path(sys.argv[1]))
    await store.commit([record(n) for n in range(2000)])
    print("purging", flush=True)
    print("purged", await store.purge(100_000), flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_killed_in_a_purge(tmp_path: Path) -> None:
    """P12, D08: finished or undone by steps, each on record with as much as it destroyed."""
    chance = random.Random(3)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", PURGER, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "purging\n"
        time.sleep(chance.uniform(0, 0.3))  # where the kill lands, not what is waited for
        process.kill()
        process.communicate()
        leaves, kept = audit(tmp_path), contents(tmp_path)
        assert chain_faults(leaves, contents=kept) == []
        promised = [leaf for leaf in leaves if leaf["commitment"]]
        destroyed = sum(
            int(leaf["detail"].split()[1]) for leaf in leaves if leaf["event"] == "purged"
        )
        assert len(promised) - len(kept) == destroyed


# --------------------------------------------------------------------------- small parts


def test_the_ballast_is_real_room_and_is_given_back(tmp_path: Path) -> None:
    """Allocated, not sparse; spent once; not taken while the disk could not spare it."""
    path = tmp_path / "ballast"
    ballast = Ballast(path, 100_000)
    assert ballast.keep()
    assert path.stat().st_blocks * 512 >= 100_000
    assert path.stat().st_mode & 0o077 == 0
    assert ballast.spend()
    assert not path.exists()
    assert not ballast.spend()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    greedy = Ballast(path, free)
    assert not greedy.keep()
    assert not path.exists()


def test_a_write_that_failed_is_told_apart_by_the_systems_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says IOERR_WRITE for quota, limit and a dying disk alike: the probe asks again."""
    ledger = tmp_path / "ledger.db"
    ledger.touch()
    for code, lacks_room in (
        (errno.EDQUOT, True),
        (errno.EFBIG, True),
        (errno.ENOSPC, True),
        (errno.EIO, False),
    ):

        def fail(*_: object, code: int = code) -> int:
            raise OSError(code, "")

        monkeypatch.setattr(os, "pwrite", fail)
        assert remedy._no_room(ledger) is lacks_room
        assert list(tmp_path.iterdir()) == [ledger]
