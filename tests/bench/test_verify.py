"""What it takes to prove the audit: records, tree, heads and one content in ten; SQLite.

A million, and by that ten; `RECORDS=10000000` measures them (7 GB, and twenty minutes to write).
Processor time is the figure: the machine does other things.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from adapters.ledger import verify_chain
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import opened
from tests.bench import rig

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

RECORDS = int(os.environ.get("RECORDS", "1000000"))
GROUP = 1000
EVENTS = ("opened", "asked", "answered", "disclosed", "delivered", "read")


def record(n: int) -> Record:
    """As the records of a police check are, the answer's content aside but for one in ten."""
    check, place = divmod(n, len(EVENTS))
    return Record(
        event=EVENTS[place],
        at_ms=1_795_000_000_000 + 400 * n,
        check=f"01KB2Q4ZJ8{check:012X}C{check % 4096:03X}",
        terminal="5001001",
        officer="1001",
        agency="police",
        role="constable",
        reason="5",
        operation="vehicle",
        outcome="answered" if place in (2, 3) else "",
        recipient="police:1001@5001001" if place > 2 else "",
        fields=("make", "colour", "reports", "stolen") if place == 3 else (),
        level="L4" if place == 3 else "",
        policy="2026-11-27",
        receipt=f"{check % 0x100000:05X}",
        latency_ms=place,
        mono_ms=n,
        build="0.1.0",
        config="0123456789abcdef",
        content=b"x" * 400 if n % 10 == 0 else None,
    )


async def written(folder: Path, many: int) -> None:
    store = await opened(folder, LedgerSection(group_rows=4 * GROUP))
    for first in range(0, many, 2 * GROUP):
        groups = [range(at, at + GROUP) for at in (first, first + GROUP)]
        await asyncio.gather(*(store.commit([record(n) for n in group]) for group in groups))
    await store.close()


def test_verify(tmp_path: Path) -> None:
    asyncio.run(written(tmp_path, RECORDS))
    cpu_s, wall_s = time.process_time(), time.monotonic()
    [said] = verify_chain(LedgerSection(), state_dir=tmp_path, own=True)
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    assert f"{RECORDS} records verify against the heads" in said
    rig.table(
        "Proving the audit: one core, SQLite, one content in ten",
        ("records", "s of processor", "s by the clock", "s of processor for 10 million"),
        [(RECORDS, cpu_s, wall_s, cpu_s * 10_000_000 / RECORDS)],
    )
