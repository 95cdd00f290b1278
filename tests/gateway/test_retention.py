"""Purging by the day: when, of what, not by a clock that was just set, and again when it failed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from adapters.ledger import moved_aside
from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.retention import AGAIN_S, DAY_MS, EVERY_S, FIRST_S, Retention
from gateway.settings import LedgerSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter, settle

HOUR_MS = 3_600_000


class Kept:
    """A ledger that is told what to purge. ends: of each purge, what it raises."""

    def __init__(self, *ends: Exception | None, aside: int = 0) -> None:
        self.ends = list(ends)
        self.purged: list[int] = []
        self.fatal: list[BaseException] = []
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.aside = aside
        self.retention = Retention(
            self._purge,
            self._overdue,
            keep_days=31,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            fatal=self.fatal.append,
        )

    async def _purge(self, before_ms: int) -> int:
        self.purged.append(before_ms)
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end
        return 7

    async def _overdue(self, _before_ms: int) -> int:
        return self.aside

    def reasons(self) -> list[object]:
        return [fields.get("reason") for event, fields in self.journal.lines]


async def test_soon_after_the_start_then_each_day_sooner_when_it_could_not_be_done() -> None:
    kept = Kept(LedgerUnavailable("disk full"), None, None)
    running = asyncio.ensure_future(kept.retention.run())
    for n, wait_s in enumerate((FIRST_S, AGAIN_S, EVERY_S)):
        await settle()
        await kept.clock.advance(wait_s - 1)
        assert len(kept.purged) == n
        await kept.clock.advance(1)
        assert len(kept.purged) == n + 1
    running.cancel()
    assert kept.reasons() == ["not done", None, None]
    assert kept.journal.lines[0][1]["error"] == "LedgerUnavailable"
    assert kept.journal.lines[1][1]["count"] == 7
    said = kept.meter.gauges["last_purge_timestamp_seconds", ()]
    assert said == kept.clock.wall_ms() / 1000


async def test_nothing_is_kept_longer_than_was_said() -> None:
    """What would be 31 days old before the next round goes in this one; what would not, stays."""
    kept = Kept()
    now_ms = kept.clock.wall_ms()
    wait_s = await kept.retention.look()
    assert kept.purged == [now_ms - 31 * DAY_MS + wait_s * 1000]


@pytest.mark.parametrize("by_ms", [40 * DAY_MS, -40 * DAY_MS, HOUR_MS])
async def test_a_clock_that_was_set_destroys_nothing_for_a_day(by_ms: int) -> None:
    kept = Kept()
    await kept.retention.look()
    await kept.clock.advance(EVERY_S)
    kept.clock.step_wall(by_ms)
    assert await kept.retention.look() == EVERY_S
    assert len(kept.purged) == 1
    assert kept.reasons()[-1] == "clock was set"
    await kept.clock.advance(EVERY_S)
    await kept.retention.look()
    assert len(kept.purged) == 2, "it has stood as it is for a day: so it was meant"


async def test_a_clock_that_was_set_right_again_is_trusted_at_once() -> None:
    kept = Kept()
    kept.clock.step_wall(40 * DAY_MS)
    await kept.retention.look()
    kept.clock.step_wall(-40 * DAY_MS)
    await kept.retention.look()
    assert len(kept.purged) == 1
    assert kept.purged[0] < kept.clock.wall_ms() - 29 * DAY_MS


async def test_a_clock_that_is_set_again_and_again_is_not_trusted() -> None:
    kept = Kept()
    for _ in range(3):
        kept.clock.step_wall(10 * DAY_MS)
        await kept.retention.look()
    assert kept.purged == []


async def test_a_ledger_that_is_broken_ends_the_process() -> None:
    kept = Kept(LedgerFatal("EIO"))
    await kept.retention.look()
    assert [type(error) for error in kept.fatal] == [LedgerFatal]


async def test_a_disk_that_hangs_is_given_up_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.retention.DEADLINE_S", 0.01)
    kept = Kept()
    kept.retention._purge = lambda _before_ms: asyncio.get_running_loop().create_future()
    assert await kept.retention.look() == AGAIN_S
    assert kept.reasons() == ["not done"]


async def test_what_no_purge_reaches_is_said_each_day() -> None:
    kept = Kept(aside=2)
    await kept.retention.look()
    assert kept.reasons() == [None, "moved aside and still here"]
    assert kept.journal.lines[1][1]["count"] == 2


def test_a_broken_ledger_that_was_moved_aside_is_counted_when_its_time_is_over(
    tmp_path: Path,
) -> None:
    for name, age_s in (("ledger.db", 900), ("ledger.db.broken-20261001T000000Z", 900)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age_s, age_s))
    (tmp_path / "ledger.db.broken-20261101T000000Z").touch()
    assert moved_aside(LedgerSection(), state_dir=tmp_path, before_ms=901_000) == 1
    assert moved_aside(LedgerSection(), state_dir=tmp_path, before_ms=899_000) == 0
    away = LedgerSection(url="postgresql+psycopg://x@host/db")
    assert moved_aside(away, state_dir=tmp_path, before_ms=901_000) == 0
