"""W3 beside the sentences: what one message costs in each codec, against a floor of the same run.

The floor is the least that any codec does: take bytes, and make one frozen message of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from adapters import codecs
from gateway.messages import Decoded, LocationFix
from gateway.ports import Codec
from tests.bench import rig

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

NOW_MS = 1_795_342_510_000
MESSAGES, ROUNDS = 20_000, 5
AT_MOST_US = 60.0
"""Issue 5, statement 12."""


class Case(NamedTuple):
    """data: one message, or one line of a stream. fresh: a new codec for each, as for a datagram
    of a peer; else one for the line."""

    what: str
    made: Callable[[], Codec]
    data: bytes
    channel: str = ""
    fresh: bool = False


def lip(what: str, digits: str) -> Case:
    return Case(f"LIP, {what}", lambda: codecs.create("lip"), bytes.fromhex(digits))


RMC = b"$GPRMC,101559.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A*76\r\n"

CASES = [
    Case("NMEA, RMC (told as a copy of the one before)", lambda: codecs.create("nmea0183"), RMC),
    lip("short report", "0A0FFE639A49F7914A4810"),
    lip("short report, emergency", "0A0FE6741A607A0AFFE020"),
    lip("long report: time, circle, altitude, velocity", "0A4E0DFBED7FA0AFAA28F25F8005FE010100"),
    lip("heartbeat", "0A4C00408000"),
    lip("no location report", "0A6C00408000"),
]


def floor(data: bytes) -> tuple[Decoded, ...]:
    value = int.from_bytes(data, "big")
    return (LocationFix(lat=52.5, lon=-0.25, fixed_at_ms=NOW_MS - (value & 7)),)


def each_us(work: Callable[[], object]) -> float:
    """Processor time of this process alone; the best of some rounds."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        start_s = time.process_time()
        for _ in range(MESSAGES):
            work()
        best_s = min(best_s, time.process_time() - start_s)
    return best_s / MESSAGES * 1e6


def one(case: Case) -> Callable[[], object]:
    if case.fresh:
        return lambda: case.made().feed(case.data, received_at_ms=NOW_MS, channel=case.channel)
    codec = case.made()
    return lambda: codec.feed(case.data, received_at_ms=NOW_MS, channel=case.channel)


def test_w3_codecs() -> None:
    floor_us = each_us(lambda: floor(RMC))
    rows: list[tuple[object, ...]] = [
        ("floor: bytes to one message", floor_us, 1e6 / floor_us, 1.0)
    ]
    for case in CASES:
        us = each_us(one(case))
        rows.append((case.what, us, round(1e6 / us), us / floor_us))
    rig.table("W3: one message in each codec", ("what", "us each", "per second", "x floor"), rows)
    slow = [row[0] for row in rows if float(str(row[1])) > AT_MOST_US]
    assert not slow, f"more than {AT_MOST_US} us: {slow}"
