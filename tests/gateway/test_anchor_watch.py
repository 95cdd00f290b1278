"""Heads leave this host: the newest wins, one that is away is tried again and said once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.anchor_watch import AnchorWatch
from gateway.errors import AnchorFailed
from tests.fakes import FakeClock, FakeIds, FakeJournal, FakeMeter, settle


class FakeAnchor:
    """Takes heads while `up`; hangs while `hangs`."""

    def __init__(self, name: str = "file") -> None:
        self.name = name
        self.up, self.hangs = True, False
        self.kept: list[bytes] = []
        self.tried: list[bytes] = []

    async def put(self, head: bytes) -> None:
        self.tried.append(head)
        if self.hangs:
            await asyncio.Event().wait()
        if not self.up:
            raise AnchorFailed("ClientConnectorError")
        self.kept.append(head)

    async def newest(self) -> bytes | None:
        if not self.up:
            raise AnchorFailed("ClientConnectorError")
        return self.kept[-1] if self.kept else None


class Watch:
    def __init__(self) -> None:
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.one, self.two = FakeAnchor(), FakeAnchor("http")
        self.watch = AnchorWatch(
            [self.one, self.two],
            clock=self.clock,
            ids=FakeIds(),
            meter=self.meter,
            journal=self.journal,
            alarm_after_s=180,
        )
        self.told: list[tuple[str, bool]] = []
        self.watch.told = lambda *told: self.told.append(told)

    def said(self) -> list[tuple[object, object]]:
        return [(fields["link"], fields["state"]) for _, fields in self.journal.lines]


@pytest.fixture
async def made() -> AsyncIterator[Watch]:
    made = Watch()
    task = asyncio.create_task(made.watch.run())
    await settle()
    yield made
    task.cancel()


async def test_each_head_goes_to_each_anchor(made: Watch) -> None:
    for head in (b"1", b"2"):
        made.watch.offer(head)
        await settle()
    assert made.one.kept == made.two.kept == [b"1", b"2"]
    key = ("audit_anchored_timestamp_seconds", (("anchor", "http"),))
    assert made.meter.gauges[key] == made.clock.wall_ms() / 1000


async def test_one_that_is_away_costs_the_other_nothing_and_gets_the_newest(made: Watch) -> None:
    """What it missed is not made up for: the newest head says all that those before it said."""
    made.one.up = False
    for n in range(10):
        made.watch.offer(b"%d" % n)
        await made.clock.advance(10)
    assert made.two.kept == [b"%d" % n for n in range(10)]
    assert 4 <= len(made.one.tried) <= 12
    made.one.up = True
    await made.clock.advance(60)
    assert made.one.kept == [b"9"]
    assert made.said() == made.told == []


async def test_one_that_is_away_for_too_long_is_said_once_and_when_it_is_back(made: Watch) -> None:
    """Three minutes, whatever comes meanwhile (reference, 65)."""
    made.one.up = False
    for n in range(17):
        made.watch.offer(b"%d" % n)
        await made.clock.advance(10)
    assert made.said() == []
    await made.clock.advance(120)
    assert made.said() == [("file", "down")]
    await made.clock.advance(600)
    made.one.up = True
    await made.clock.advance(60)
    assert made.said() == [("file", "down"), ("file", "up")]
    assert made.told == [("file", True), ("file", False)]


async def test_without_new_heads_nobody_is_missed(made: Watch) -> None:
    await made.clock.advance(3600)
    assert made.said() == []
    assert made.one.tried == []


async def test_a_defect_of_one_anchor_ends_nothing(made: Watch) -> None:
    async def broken(_head: bytes) -> None:
        raise RuntimeError("unforeseen")

    made.one.put = broken  # type: ignore[method-assign]
    made.watch.offer(b"1")
    await made.clock.advance(300)
    assert made.two.kept == [b"1"]
    assert made.said() == [("file", "down")]


async def test_at_the_start_they_are_asked_and_what_they_have_is_not_put_again() -> None:
    made = Watch()
    made.one.kept, made.two.up = [b"7"], False
    assert await made.watch.newest() == {"file": b"7"}
    assert made.said() == [("http", "unread")]
    made.two.up = True
    made.watch.offer(b"7")
    await made.watch.close()
    assert (made.one.tried, made.two.kept) == ([], [b"7"])


async def test_at_the_stop_the_last_head_goes_out_and_one_that_hangs_keeps_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.anchor_watch.CLOSE_S", 0.05)
    made = Watch()
    made.one.hangs = True
    asyncio.get_running_loop().call_soon(made.watch.offer, b"9")
    async with asyncio.timeout(10):
        await made.watch.close()
    assert (made.one.tried, made.two.kept) == ([b"9"], [b"9"])
