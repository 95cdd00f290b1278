"""Real input: a recorded log goes through a PTY into the whole gateway, and the fixes are right.

tests/corpus/recorded/patrol.nmea is in the form of a 1 Hz receiver's log: a cold start, a fix lost
and regained, a bit flipped, a sentence cut off. It was written from the standard's field lists, and
patrol.fixes.jsonl from the same degrees and minutes by exact fractions: none of it by our codecs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway, load
from gateway.messages import Event, LinkChanged, LinkState, UnitFix
from tests.corpus import ms
from tests.fakes import FakeJournal
from tests.system.daemon import Daemon

ISSI = "5001001"
DAY = "2026-11-22"
RECORDED = Path(__file__).resolve().parents[1] / "corpus" / "recorded"
WITHIN_S = 20.0
NEAR_DEG = 1e-6
NEAR_MPS = 1e-3
SLICES = (1, 7, 64, 1000)
"""However the bytes are cut on their way."""


def expected() -> list[dict[str, Any]]:
    text = (RECORDED / "patrol.fixes.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not ready():  # noqa: ASYNC110 - bytes come from the kernel, without an event
            await asyncio.sleep(0.01)


async def play(master: int, data: bytes) -> None:
    """Into the line, in slices of every size in turn, as fast as it takes them."""
    os.set_blocking(master, False)
    left = memoryview(data)
    turn = 0
    async with asyncio.timeout(WITHIN_S):
        while left:
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(master, left[: SLICES[turn % len(SLICES)]]) :]
            turn += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("codec", ["line_terminal", "nmea0183"])
async def test_a_recorded_log_through_a_pty(tmp_path: Path, codec: str) -> None:
    """Every fix and no other, in order, each at its moment; what was refused, by reason."""
    master, slave = os.openpty()
    tty.setraw(slave)
    files = Daemon(tmp_path, lines={"line": (os.ttyname(slave), ISSI)})
    with files.config.open("a", encoding="utf-8") as config:
        config.write(f'codec = "{codec}"\nreference_date = "{DAY}"\n')
    gateway = Gateway(load(files.config), journal=FakeJournal())
    seen: list[Event] = []
    gateway.bus.tap(seen.append)
    running = asyncio.ensure_future(gateway.run())
    try:
        await until(
            lambda: (
                running.done()
                or any(isinstance(e, LinkChanged) and e.state is LinkState.UP for e in seen)
            )
        )
        assert not running.done(), running
        await play(master, (RECORDED / "patrol.nmea").read_bytes())
        wanted = expected()
        await until(lambda: sum(isinstance(e, UnitFix) for e in seen) >= len(wanted))
        text = gateway.meter.render().decode()
    finally:
        gateway.stop()
        async with asyncio.timeout(WITHIN_S):
            code = await running
        os.close(master)
        os.close(slave)
    assert code == 0
    fixes = [event for event in seen if isinstance(event, UnitFix)]
    assert len(fixes) == len(wanted)
    for fix, want in zip(fixes, wanted, strict=True):
        assert fix.terminal == ISSI
        assert fix.fixed_at_ms == ms(want["t"])
        assert abs(fix.lat - want["lat"]) < NEAR_DEG, want
        assert abs(fix.lon - want["lon"]) < NEAR_DEG, want
        assert fix.speed_mps is not None
        assert abs(fix.speed_mps - want["speed_mps"]) < NEAR_MPS, want
    assert 'gateway_frames_rejected_total{link="line",reason="crc"} 1.0' in text
    assert 'gateway_frames_rejected_total{link="line",reason="no_checksum"} 1.0' in text
