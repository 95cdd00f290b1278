"""Disks that fail under the real daemon: D01 to D12 of the failure modes, as an officer meets them.

Each ends in the join of the four records: whatever the disk does, nothing receipted is lost,
nothing is asked or shown without its record, and the officer hears NO rather than nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services import require
from tests.system.daemon import ROOT, until
from tests.system.ledgers import audit
from tests.system.post import WITHIN_S, Post, post, send, strace


async def fully_back(here: Post) -> None:
    """Ready, and a question goes all the way."""
    await here.daemon.ready()
    await here.answered("V TE99AAA R1")


@pytest.mark.timeout(90)
async def test_a_disk_that_hangs_is_not_silence(tmp_path: Path) -> None:
    """D09: the writer's sync never returns. NO ANSWER within `stall_s`, long before the deadline;
    what comes after is refused at once; emergencies are relayed; ops see it. When the disk is back
    the check that was in doubt goes on to its one answer."""
    sections = {"ledger": {"stall_s": 1.0}}
    async with post(tmp_path, checks={"deadline_s": 60.0}, sections=sections) as here:
        async with strace(here.daemon.writer_pid, "fdatasync:delay_enter=600000000"):
            first = here.officer.ask("V TE99STV R1")
            await here.told("CANNOT RECORD")
            assert here.officer.receipt(first) is None
            second = here.officer.ask("V TE99ABC R1")
            await here.told("CANNOT RECORD", second)
            here.officer.say("#S 0")
            await until(lambda: here.console.of("unit.emergency"), WITHIN_S)
            assert (await here.daemon.get("/healthz"))[0] == 200
            assert (await here.daemon.get("/readyz"))[0] == 503
            assert await here.metric("audit_lag_seconds") > 1
            assert not here.pnc.queries
        parts = await here.officer.until(lambda: here.officer.parts(first), WITHIN_S)
        assert "STOLEN" in parts[0]["text"]
        await here.logged("ledger.recovered")
        assert len([each for each in here.lines("ledger.unavailable") if "stage" not in each]) == 1
        await fully_back(here)
        await until(lambda: "emergency" in events(here), WITHIN_S)
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_stop_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    """H02 with D09: SIGTERM ends it, with what waits unwritten; the next start goes on."""
    async with post(tmp_path, sections={"ledger": {"stall_s": 0.5}}) as here:
        await here.answered()
        async with strace(here.daemon.writer_pid, "fdatasync:delay_enter=600000000"):
            number = here.officer.ask("V TE99ABC R1")
            await here.told("CANNOT RECORD")
            send(here.daemon, signal.SIGTERM)
            await here.logged("stopped", exit=0)
        assert await here.ended() == 0
        await here.daemon.start()
        await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        await here.settled()
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_slow_disk_delays_and_blocks_nothing(tmp_path: Path) -> None:
    """D09: 300 ms a sync. Nobody is told NO; twelve questions at once share their syncs instead of
    standing in line; the loop goes on meanwhile."""
    async with post(tmp_path, checks={"deadline_s": 60.0, "per_terminal_open": 64}) as here:
        before = await here.metric("audit_write_duration_seconds_count")
        async with strace(here.daemon.writer_pid, "fdatasync:delay_enter=300000"):
            began_s = time.monotonic()
            numbers = [here.officer.ask("V TE99AAB R1") for _ in range(12)]
            for number in numbers:
                await here.officer.until(lambda n=number: here.officer.receipt(n), WITHIN_S)
            receipts_s = [h.at_s - began_s for h in here.officer.heard if h.channel == "receipt"]
            for number in numbers:
                await here.officer.until(lambda n=number: here.officer.parts(n), 60)
            took_s = time.monotonic() - began_s
        commits = await here.metric("audit_write_duration_seconds_count") - before
        assert took_s < 0.3 * commits, f"{commits} commits, each with a sync of its own"
        print(f"300 ms a sync: last receipt after {max(receipts_s):.2f} s, all in {took_s:.1f} s")
        assert not [line for line in here.lines("loop.blocked") if line["lag_ms"] > 1500]
        assert not here.lines("ledger.unavailable")
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_full_disk_says_so_and_comes_back_by_itself(tmp_path: Path) -> None:
    """D01: what is under way is finished, new questions are refused aloud, fixes and emergencies
    are relayed; within seconds of there being room all is as before."""
    state = tmp_path / "var"
    state.mkdir()
    script = f'mount -t tmpfs -o size=14m,mode=700 tmpfs {state}; exec "$@"'
    wrapper = [require("unshare"), "-rm", "sh", "-ec", script, "sh"]
    async with post(tmp_path, wrapper=wrapper, checks={"deadline_s": 30.0}) as here:
        inside = Path(f"/proc/{here.daemon.pid}/root{state}")
        await here.answered()
        slow = here.officer.ask("V ER99SLW R1")
        await here.officer.until(lambda: here.officer.receipt(slow), WITHIN_S)
        with (inside / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

        def refused() -> bool:
            return any("CANNOT RECORD" in h.raw.decode() for h in here.officer.heard)

        for _ in range(400):  # the write-ahead log has some room of its own
            if refused():
                break
            number = here.officer.ask("V TE99AAB R1")
            await here.officer.until(lambda n=number: here.officer.parts(n) or refused(), WITHIN_S)
        assert refused()
        assert not (inside / "ledger.db.ballast").exists()
        await here.officer.until(lambda: here.officer.parts(slow), WITHIN_S)
        assert (await here.daemon.get("/readyz"))[0] == 503, "it was written; nothing new would be"
        here.officer.say("#S 0")
        await until(lambda: here.console.of("unit.emergency"), WITHIN_S)
        (inside / "filler").unlink()
        freed_s = time.monotonic()
        await here.daemon.ready()
        print(f"ready {time.monotonic() - freed_s:.2f} s after there was room")
        assert time.monotonic() - freed_s < 5 * 3
        await fully_back(here)
        assert (inside / "ledger.db.ballast").exists()
        send(here.daemon, signal.SIGSTOP)  # its mount would be gone with it
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(inside / name, copy)
        assert here.verdict(copy) == []


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_failing_disk_ends_the_daemon_and_nothing_is_receipted(tmp_path: Path) -> None:
    """D02: EIO from a sync. No receipt for what may not be durable; exit 1; after the start the
    officer's own repeat gets it. D05, the ledger deleted under it, ends in the same way."""
    async with post(tmp_path) as here:
        await here.answered()
        receipts = len([h for h in here.officer.heard if h.channel == "receipt"])
        async with strace(here.daemon.writer_pid, "fdatasync:error=EIO"):
            number = here.officer.ask("V TE99STV R1")
            assert await here.ended() == 1
        assert len([h for h in here.officer.heard if h.channel == "receipt"]) == receipts
        assert here.lines("ledger.fatal")
        assert here.lines("stopped")[-1]["exit"] == 1
        await here.daemon.start()
        await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        await here.settled()
        assert here.verdict() == []

        # D05: nobody asks, and still it is found.
        os.unlink(here.daemon.state / "ledger.db")
        assert await here.ended() == 1
        await here.daemon.start()
        assert here.lines("ledger.behind")
        await fully_back(here)


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_lock_of_another_process_is_heard_of_and_passes(tmp_path: Path) -> None:
    """D03: refused within the busy timeout; the loop goes on; taken again once it is free."""
    async with post(tmp_path, checks={"deadline_s": 30.0}) as here:
        await here.answered()
        with contextlib.closing(
            sqlite3.connect(here.daemon.state / "ledger.db", isolation_level=None)
        ) as other:
            other.execute("BEGIN EXCLUSIVE")
            number = here.officer.ask("V TE99STV R1")
            await here.told("CANNOT RECORD", number)
            assert not here.officer.parts(number)
            other.execute("ROLLBACK")
        # The lock lasts 2 s: a loop that waited for it would be late by as much.
        assert not [line for line in here.lines("loop.blocked") if line["lag_ms"] > 1500]
        await here.logged("ledger.recovered")
        await fully_back(here)
        assert "AUD" in [leaf["operation"] for leaf in audit(here.daemon.state)]
        # The check that was in doubt is taken up again beside the new one.
        await here.settled()
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_what_is_damaged_or_old_at_the_start_is_outlived(tmp_path: Path) -> None:
    """D12: an old copy was put back; D04: a page is zero. Both times up within seconds, said aloud,
    on record as a gap, and the next question is answered."""
    async with post(tmp_path) as here:
        state = here.daemon.state
        await here.answered("V TE99AAA R1")
        assert await here.daemon.stop() == 0
        shutil.copy(state / "ledger.db", tmp_path / "yesterday.db")
        await here.daemon.start()
        await here.answered("V TE99ABC R1")
        assert await here.daemon.stop() == 0
        lost = len(audit(state))

        shutil.copy(tmp_path / "yesterday.db", state / "ledger.db")
        await here.daemon.start()
        behind = await here.logged("ledger.behind")
        assert behind["reason"] == f"history missing {lost - behind['count'] + 1}..{lost}"
        await fully_back(here)
        assert await here.daemon.stop() == 0
        assert "NOT HERE, as is on record" in verified(here)

        raw = bytearray((state / "ledger.db").read_bytes())
        raw[4096 * 4 : 4096 * 5] = bytes(4096)
        (state / "ledger.db").write_bytes(raw)
        await here.daemon.start()
        await here.logged("ledger.broken")
        await fully_back(here)
        assert len(list(state.glob("ledger.db.broken-*Z"))) == 1
        assert await here.daemon.stop() == 0
        assert "NOT HERE, as is on record" in verified(here)


def verified(here: Post) -> str:
    config, heads = here.daemon.config, here.daemon.state / "heads.jsonl"
    verify = ["-m", "gateway", "audit", "verify", "--config", config, "--heads", heads]
    done = subprocess.run(
        [sys.executable, *verify],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def events(here: Post) -> list[str]:
    return [leaf["event"] for leaf in audit(here.daemon.state)]
