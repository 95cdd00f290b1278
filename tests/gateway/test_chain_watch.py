"""The daily proof: what it says to ops, when it comes again, and a real one of a real ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import chain_watch
from gateway.chain_watch import AGAIN_S, EVERY_S, FIRST_S, ChainWatch, Proof, prover
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import fill, tamper
from tests.fakes import FakeClock, FakeJournal, FakeMeter, settle
from tests.system.daemon import Daemon


class Watched:
    """A watch whose proofs are told beforehand."""

    def __init__(self, *said: Proof) -> None:
        self.said = list(said)
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.told: list[bool] = []
        self.watch = ChainWatch(
            self._prove,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            told=self.told.append,
        )

    async def _prove(self) -> Proof:
        return self.said.pop(0)

    def gauge(self, name: str) -> float | None:
        return self.meter.gauges.get((name, ()))


async def test_soon_after_the_start_then_each_day_sooner_when_it_was_no_verdict() -> None:
    watched = Watched(Proof.UNKNOWN, Proof.VERIFIES, Proof.BROKEN, Proof.VERIFIES)
    running = asyncio.ensure_future(watched.watch.run())
    left = []
    for wait_s in (FIRST_S, AGAIN_S, EVERY_S):
        await settle()
        await watched.clock.advance(wait_s - 1)
        before = len(watched.said)
        await watched.clock.advance(1)
        left.append((before, len(watched.said)))
    running.cancel()
    assert left == [(4, 3), (3, 2), (2, 1)]


async def test_a_verdict_moves_the_gauges_and_no_verdict_moves_none() -> None:
    watched = Watched(Proof.UNKNOWN, Proof.BROKEN, Proof.UNKNOWN, Proof.VERIFIES)
    seen = []
    for _ in range(4):
        await watched.watch.look()
        seen.append(watched.gauge("audit_chain_ok"))
    assert seen == [None, 0.0, 0.0, 1.0]
    assert watched.told == [False, True]
    assert watched.gauge("audit_last_verified_timestamp_seconds") == watched.clock.wall_ms() / 1000
    reasons = [fields["reason"] for event, fields in watched.journal.lines]
    assert reasons == ["unknown", "broken", "unknown", "verifies"]


async def test_the_real_thing_knows_a_whole_chain_from_a_broken_one(tmp_path: Path) -> None:
    from adapters.ledger import open_ledger

    files = Daemon(tmp_path)
    prove = prover(files.config)
    section, state = LedgerSection(), files.state
    store = await open_ledger(
        section,
        state_dir=state,
        instance="gw1",
        meter=FakeMeter(),
        journal=FakeJournal(),
        clock=FakeClock(),
    )
    await fill(store, range(20))
    assert await prove() is Proof.VERIFIES, "beside a writer that has it open"
    await store.close()
    tamper(section, state, "UPDATE audit_leaf SET receipt = 'x', record = x'00' WHERE seq = 7")
    assert await prove() is Proof.BROKEN
    (state / "ledger.db").unlink()
    assert await prove() is Proof.UNKNOWN


async def test_a_proof_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    second = asyncio.Event()
    begin = asyncio.create_subprocess_exec

    async def forever(*_command: str, **how: int) -> asyncio.subprocess.Process:
        started.append(await begin("sleep", "60", **how))
        if len(started) == 2:
            second.set()
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", forever)
    monkeypatch.setattr(chain_watch, "DEADLINE_S", 0.05)
    assert await prover(tmp_path)() is Proof.UNKNOWN
    monkeypatch.setattr(chain_watch, "DEADLINE_S", 60)
    running = asyncio.ensure_future(prover(tmp_path)())
    await second.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [process.returncode for process in started] == [-9, -9]
