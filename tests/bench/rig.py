"""What every benchmark needs: a fleet of N, the real daemon, the floors, the load, and tables.

All load comes from processes of their own (`tests.bench.load`); processor time and memory are read
from /proc, so that nobody measures himself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.load import Spec
from tests.services.mosquitto import Mosquitto
from tests.system import force
from tests.system.daemon import ROOT, Daemon

FIRST = 5_000_001
PROCESSES = 2
"""Of load: the machine that this is measured on has two cores."""
LEAD_S = 1.0
"""From the start of the load's processes to the first message."""
BEHIND_S = 0.5
"""A rate is not sustained when its last answer comes so long after the last question was due."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def daemon(
    folder: Path,
    broker: Mosquitto | None,
    *,
    terminals: int,
    feed: bool = False,
    serial: Sequence[Mapping[str, str]] = (),
    **more: Any,
) -> AsyncIterator[Daemon]:
    """The real daemon as it is shipped: ledger on, synchronous=FULL, history on, the mock PNC in
    process without latency. feed: the relay to other systems."""
    issis = (str(FIRST + n) for n in range(terminals))
    force.write(folder, issis, callsign="B", collar=1)
    made = Daemon(
        folder,
        broker=broker.port if broker is not None else None,
        broker_settings={"feed": feed},
        **more,
    )
    lines = [
        "[[serial]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in each.items())
        for each in serial
    ]
    made.config.write_text(made.config.read_text("utf-8") + "".join(lines), "utf-8")
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def echo(broker: Mosquitto, what: str) -> AsyncIterator[None]:
    """The bare aiomqtt echo, subscribed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.echo", str(broker.port), what),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()


class Seen(msgspec.Struct):
    """What all processes of one load saw together. Latencies in ms, sorted."""

    sent: int
    receipts: list[float]
    results: list[float]
    ages: list[float]
    refused: int
    odd: int
    overrun_s: float
    late_ms: float
    more: list[dict[str, Any]]

    @property
    def lost(self) -> int:
        return self.sent - len(self.results)

    @property
    def sustained(self) -> bool:
        """Everything answered, nothing refused, and no queue that grew meanwhile."""
        whole = not self.lost and not self.refused and not self.odd
        return whole and self.overrun_s <= BEHIND_S


async def load(specs: Sequence[Spec]) -> Seen:
    """Run them beside each other; `start_s` is set here."""
    start_s = time.monotonic() + LEAD_S
    told = await asyncio.gather(*(_one(each, start_s) for each in specs))
    return Seen(
        sent=sum(each["sent"] for each in told),
        receipts=sorted(s * 1e3 for each in told for s in each["receipts"]),
        results=sorted(s * 1e3 for each in told for s in each["results"]),
        ages=sorted(s * 1e3 for each in told for s in each["ages"]),
        refused=sum(each["refused"] for each in told),
        odd=sum(each["odd"] for each in told),
        overrun_s=max(each["overrun_s"] for each in told),
        late_ms=max(each["late_s"] for each in told) * 1e3,
        more=list(told),
    )


async def _one(spec: Spec, start_s: float) -> dict[str, Any]:
    spec = msgspec.structs.replace(spec, start_s=start_s)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.load", msgspec.json.encode(spec).decode()),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LEAD_S + spec.seconds + spec.drain_s + 30):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"load {spec.name} ended with {process.returncode}"
    return dict(json.loads(out))


def split(
    role: str,
    broker: Mosquitto,
    *,
    rate: float,
    seconds: float,
    terminals: int,
    processes: int = PROCESSES,
    name: str = "",
    **more: Any,
) -> list[Spec]:
    """One load in several processes, each with its share of the terminals, evenly interleaved."""
    share = terminals // processes
    run = f"{name or role[0]}{time.monotonic_ns() // 1_000_000 % 10**8}"
    return [
        Spec(
            role=role,
            port=broker.port,
            name=f"{run}p{n}x",
            start_s=0.0,
            seconds=seconds,
            rate=rate / processes,
            phase=n / processes,
            terminals=(FIRST + n * share, share),
            connections=min(8, share),
            **more,
        )
        for n in range(processes)
    ]


async def ceiling(
    attempt: Any, *, first: float, most: float = 60_000, step: float = 1.5, fine: float = 1.12
) -> tuple[float, Any]:
    """The highest rate for which `attempt(rate)` gives something `sustained`, and what it gave.

    Up in steps of half as much again, then back down in fine ones: a rate counts only if it held
    itself. A rate that fails is tried once more: the machine is shared.
    """

    async def holds(rate: float) -> Any:
        for _ in range(2):
            seen = await attempt(rate)
            if seen.sustained:
                return seen
        return None

    best: tuple[float, Any] = (0.0, None)
    rate = first
    while rate <= most and (seen := await holds(rate)) is not None:
        best = (rate, seen)
        rate *= step
    if best[1] is None:
        while rate > 20 and best[1] is None:
            rate /= step
            best = (rate, await holds(rate))
        return best
    rate = best[0] * fine
    top = best[0] * step
    while rate < min(top, most) and (seen := await holds(rate)) is not None:
        best = (rate, seen)
        rate *= fine
    return best


# --------------------------------------------------------------------- looking in from outside


def family(pid: int) -> list[int]:
    """A process and its children: the daemon's ledger has one of its own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [pid, *map(int, children)]


def cpu_s(pid: int) -> float:
    """Processor time that a process and its children have used, user and system."""
    ticks = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text("utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_S


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children; what they share counts once for each."""
    total_kib = 0
    for each in family(pid):
        status = Path(f"/proc/{each}/status").read_text("utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        total_kib += int(found.group(1))
    return total_kib / 1024


async def metric(of: Daemon, name: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    _, body = await of.get("/metrics")
    total = 0.0
    for line in body.decode().splitlines():
        if re.match(rf"{re.escape(name)}(\{{| )", line) and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            total += float(line.rpartition(" ")[2])
    return total


# --------------------------------------------------------------------- saying it


def at(sorted_ms: Sequence[float], share: float) -> float:
    """The value that `share` of all lie at or below; nan for none."""
    if not sorted_ms:
        return float("nan")
    return sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Markdown, as docs/performance.md holds it."""
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{x:.2f}" if isinstance(x, float) else str(x) for x in row) + " |")
