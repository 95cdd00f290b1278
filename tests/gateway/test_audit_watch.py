"""The watched ledger: how long the oldest commit has waited to be durable."""

from __future__ import annotations

import asyncio

import pytest

from gateway.audit_watch import WatchedLedger
from gateway.errors import LedgerUnavailable
from gateway.ports import Record
from tests.fake_ledger import Disk, FakeLedger
from tests.fakes import FakeClock, settle
from tests.gateway.house import House

RECORD = Record(event="opened", at_ms=1)


async def test_a_disk_that_hangs_shows_as_lag_of_the_oldest() -> None:
    clock, ledger = FakeClock(), FakeLedger()
    watched = WatchedLedger(ledger, lambda: None, clock, 60.0)
    assert watched.lag_s() == 0.0
    ledger.gate.clear()
    first = asyncio.ensure_future(watched.commit([RECORD]))
    await clock.advance(5)
    second = asyncio.ensure_future(watched.commit([RECORD]))
    await clock.advance(2)
    assert watched.lag_s() == 7.0
    ledger.gate.set()
    await asyncio.gather(first, second)
    assert watched.lag_s() == 0.0


async def test_a_commit_that_fails_or_is_given_up_waits_no_longer() -> None:
    clock, ledger = FakeClock(), FakeLedger()
    watched = WatchedLedger(ledger, lambda: None, clock, 60.0)
    ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await watched.commit([RECORD])
    assert watched.lag_s() == 0.0
    ledger.gate.clear()
    hangs = asyncio.ensure_future(watched.commit([RECORD]))
    await clock.advance(3)
    hangs.cancel()
    await settle()
    assert watched.lag_s() == 0.0


async def test_a_repeat_is_looked_up_no_longer_than_the_disk_may_take() -> None:
    """A read hangs as a write does: the officer behind it is served without it."""
    ledger = FakeLedger()
    watched = WatchedLedger(ledger, lambda: None, FakeClock(), 0.05)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    ledger.recent_checks = hang  # type: ignore[assignment]
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        await watched.recent_checks("5001001", 0)


async def test_ops_see_it_while_a_check_waits() -> None:
    async with House() as house:
        house.ledger.gate.clear()
        await house.ask()
        await house.passes(4)
        lag_s = house.meter.gauges["audit_lag_seconds", ()]
        assert 3.0 <= lag_s <= 4.0
        house.ledger.gate.set()
        await house.passes(2)
        assert house.meter.gauges["audit_lag_seconds", ()] == 0.0


async def test_each_record_says_when_and_by_which_program_and_configuration() -> None:
    disk, clock, config = Disk(), FakeClock(), ["c1"]
    ledger = FakeLedger(disk)
    watched = WatchedLedger(ledger, lambda: None, clock, 60.0, lambda: ("9.9", config[0]))
    await watched.commit([Record(event="opened", at_ms=1), Record(event="asked", at_ms=2)])
    config[0] = "c2"
    await clock.advance(1.5)
    await watched.commit([Record(event="answered", at_ms=3)])
    first, second, third = disk.records
    assert [(each.build, each.config) for each in disk.records] == [
        ("9.9", "c1"),
        ("9.9", "c1"),
        ("9.9", "c2"),
    ]
    assert first.mono_ms == second.mono_ms > 0
    assert third.mono_ms - first.mono_ms == 1500
