"""Certificates that run out: a gauge always, one warning a mark, none for a fresh one."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cert_watch import DAY_MS, CertWatch, Life, state
from tests.fakes import FakeClock, FakeJournal, FakeMeter, settle


class Watch:
    def __init__(self) -> None:
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.lives: dict[str, Life | None] = {}
        self.watch = CertWatch(self._read, clock=self.clock, meter=self.meter, journal=self.journal)

    async def _read(self) -> dict[str, Life | None]:
        return self.lives

    def certificate(self, days: float, *, gone: float = 0.0) -> Life:
        since_ms = self.clock.wall_ms() - round(gone * DAY_MS)
        return Life(since_ms - 300_000, since_ms + round(days * DAY_MS))

    def said(self) -> list[tuple[object, object]]:
        return [(fields["cert"], fields["state"]) for _, fields in self.journal.lines]


@pytest.mark.parametrize(
    ("days", "states"),
    [
        (365, ["30 d", "7 d", "1 d", "expired"]),
        (30, ["7 d", "1 d", "expired"]),
        (7, ["1 d", "expired"]),
        (1, ["last third", "expired"]),
    ],
)
async def test_warned_once_a_mark_in_time(days: int, states: list[str]) -> None:
    """M15: 30, 7 and 1 days ahead, as far as the life is longer; nothing while it is fresh."""
    made = Watch()
    made.lives["mqtt"] = made.certificate(days)
    await made.watch.look()
    assert made.said() == []
    for _ in range(days * 8 + 1):
        await made.clock.advance(3 * 3600)
        await made.watch.look()
    assert made.said() == [("mqtt", each) for each in states]
    ends_s = made.lives["mqtt"].not_after_ms / 1000  # type: ignore[union-attr]
    assert made.meter.gauges["cert_expiry_timestamp_seconds", (("cert", "mqtt"),)] == ends_s


async def test_a_renewed_one_is_good_again_and_warned_of_anew() -> None:
    made = Watch()
    made.lives["mqtt"] = made.certificate(30, gone=29.5)
    await made.watch.look()
    made.lives["mqtt"] = made.certificate(30)
    await made.watch.look()
    await made.watch.look()
    made.lives["mqtt"] = made.certificate(30, gone=29.5)
    await made.watch.look()
    assert made.said() == [("mqtt", "1 d"), ("mqtt", "good"), ("mqtt", "1 d")]


async def test_one_that_cannot_be_read_or_is_not_yet_valid_is_said() -> None:
    made = Watch()
    made.lives = {"mqtt-ca": None, "mqtt": made.certificate(30, gone=-1)}
    await made.watch.look()
    await made.watch.look()
    assert made.said() == [("mqtt-ca", "unreadable"), ("mqtt", "not yet valid")]


async def test_it_looks_each_hour_by_itself() -> None:
    made = Watch()
    made.lives["mqtt"] = made.certificate(30, gone=22.9)
    running = asyncio.ensure_future(made.watch.run())
    await settle()
    assert made.said() == []
    await made.clock.advance(3 * 3600)
    assert made.said() == [("mqtt", "7 d")]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@given(st.integers(0, 400 * DAY_MS), st.integers(1, 400 * DAY_MS))
def test_what_has_run_out_is_never_called_good(now_ms: int, whole_ms: int) -> None:
    said = state(Life(0, whole_ms), now_ms)
    if now_ms >= whole_ms:
        assert said == "expired"
    elif whole_ms - now_ms <= min(DAY_MS, whole_ms // 3):
        assert said != "good"
