"""Figures for docs/performance.md: ratios against a floor that is measured in the same run.

`./run bench` prints them; they are figures, not verdicts.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from adapters import codecs
from adapters.codecs import keysds
from adapters.ledger import open_ledger
from gateway.messages import BadFrame, CheckRequest, Decoded, LocationFix
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.codecs.sentences import sentence
from tests.fakes import FakeClock, FakeJournal, FakeMeter

pytestmark = pytest.mark.bench

NOW_MS = 1_795_342_510_000
LINE = b"$GPRMC,101502.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A*78\r\n"
FIX = (
    b'{"t":"2026-11-22T10:15:02.114Z","lat":52.5725,"lon":-0.2431,"speed_mps":1.2,"course_deg":90}'
)
RMC = "GPRMC,10{:02}{:02},A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A"
TYPED = "V TE99 ABC R3 LBRIDGE.ST Q12"
CHECK = (
    b'{"ref":"a1","t":"2026-11-22T10:15:02.114Z","kind":"vehicle","vrm":"TE99ABC",'
    b'"reason":"1","justification":"NO LIGHTS","location":"BRIDGE ST"}'
)


def per_call_us(call: Callable[[], object], n: int = 20_000) -> float:
    """Median of five runs, microseconds a call."""
    runs = []
    for _ in range(5):
        start_s = time.perf_counter()
        for _ in range(n):
            call()
        runs.append((time.perf_counter() - start_s) / n * 1e6)
    return statistics.median(runs)


def say(name: str, value: float, floor: float, unit: str = "us") -> None:
    print(f"| {name} | {value:.1f} {unit} | {floor:.1f} {unit} | {value / floor:.1f} |")


def test_codecs() -> None:
    """Floor: the checksum and a split; msgspec into a bare dict.

    Fixes and checks come on a fresh object each (a datagram) and on one that lives (a line).
    """

    def floor() -> list[bytes]:
        value = 0
        for byte in LINE[1:-5]:
            value ^= byte
        return LINE.split(b",")

    base = per_call_us(floor)
    seconds = itertools.cycle(
        f"{sentence(RMC.format(n // 60, n % 60))}\r\n".encode() for n in range(600)
    )
    line = codecs.create("nmea0183")
    found = line.feed(LINE, received_at_ms=NOW_MS)
    assert isinstance(found[0], LocationFix)
    say(
        "an RMC to a fix, on a line; floor: checksum and split",
        per_call_us(lambda: line.feed(next(seconds), received_at_ms=NOW_MS)),
        base,
    )
    bad = LINE.replace(b"5234", b"5235")
    assert line.feed(bad, received_at_ms=NOW_MS) == [BadFrame("crc")]
    say(
        "a sentence with a bad checksum, refused; same floor",
        per_call_us(lambda: line.feed(bad, received_at_ms=NOW_MS)),
        base,
    )

    def check() -> Sequence[Decoded]:
        codec = codecs.create("terminal_json", identity="5001001")
        return codec.feed(CHECK, received_at_ms=NOW_MS, channel="up/check")

    assert isinstance(check()[0], CheckRequest)
    say(
        "a JSON check to a message; floor: msgspec to a dict",
        per_call_us(check),
        per_call_us(lambda: msgspec.json.decode(CHECK)),
    )

    def fix() -> Sequence[Decoded]:
        codec = codecs.create("terminal_json", identity="5001001")
        return codec.feed(FIX, received_at_ms=NOW_MS, channel="up/fix")

    assert isinstance(fix()[0], LocationFix)
    say(
        "a JSON fix to a message; floor: msgspec to a dict",
        per_call_us(fix),
        per_call_us(lambda: msgspec.json.decode(FIX)),
    )
    assert isinstance(keysds.parse(TYPED), CheckRequest)
    say(
        "a typed enquiry to a message; floor: upper case and split",
        per_call_us(lambda: keysds.parse(TYPED)),
        per_call_us(lambda: TYPED.upper().split()),
    )


async def test_ledger(tmp_path: Path) -> None:
    """Floor: write and fdatasync of as many bytes in a bare file."""
    store = await open_ledger(
        LedgerSection(),
        state_dir=tmp_path,
        instance="b",
        meter=FakeMeter(),
        journal=FakeJournal(),
        clock=FakeClock(),
    )
    record = Record(event="opened", at_ms=1, content=b"x" * 400)
    lone, bare = [], []
    with (tmp_path / "floor").open("wb", buffering=0) as file:
        for _ in range(300):
            start_s = time.perf_counter()
            await store.commit([record])
            lone.append(time.perf_counter() - start_s)
            start_s = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            bare.append(time.perf_counter() - start_s)
    floor_ms = statistics.median(bare) * 1e3
    say("a lone commit, floor: 4 KiB and fdatasync", statistics.median(lone) * 1e3, floor_ms, "ms")
    start_s = time.perf_counter()
    await asyncio.gather(*(store.commit([record]) for _ in range(4000)))
    each_ms = (time.perf_counter() - start_s) / 4000 * 1e3
    say("a commit in a burst of 4,000, same floor", each_ms, floor_ms, "ms")
    await store.close()
