"""`./run soak`: hundreds of terminals and faults for hours; what grows, and by how much a day.

Prints a table for docs/performance.md and ends with 1 when an invariant was broken or a question
has no answer. What it measured stays in the folder that it names.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.soak.faults import Faults
from tests.soak.house import House
from tests.soak.slopes import Slope, slope
from tests.system.ledgers import audit, join

FIGURES = {
    "rss_mib": "resident memory, MiB",
    "fds": "descriptors",
    "threads": "threads",
    "tasks": "tasks of the event loop",
    "queued": "what waits in queues",
    "cpu_percent": "CPU, % of a core",
}
REST_S = 120.0
WARM_UP_S = 900.0
"""Until what the daemon keeps for ten minutes and what it needs once is there."""
JOIN_MOST = 150_000
"""Checks; the join holds every record of them in memory, some 10 kB each."""
_SAMPLE = re.compile(r"^gateway_(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


class Result(NamedTuple):
    """samples: seconds and figures. waiting: questions without an end. faults: of the join."""

    samples: list[dict[str, float]]
    asked: int
    outcomes: dict[str, int]
    done: dict[str, int]
    waiting: int
    broken: list[str]
    joined: int
    load_cores: float
    seconds: float


class Sampler:
    """Reads the daemon from outside: /proc and /metrics."""

    def __init__(self, house: House) -> None:
        self.samples: list[dict[str, float]] = []
        self._house = house
        self._began_s = time.monotonic()
        self._last = (self._began_s, self._ticks())

    def _family(self) -> list[Path]:
        """The daemon and its ledger's process."""
        daemon = self._house.daemon
        return [Path(f"/proc/{pid}") for pid in (daemon.pid, daemon.writer_pid)]

    def _ticks(self) -> int:
        stats = [(each / "stat").read_text().rpartition(")")[2].split() for each in self._family()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats)

    async def run(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self._house.check_tasks()
            try:
                self.samples.append(await self._sample())
            except (OSError, TimeoutError) as error:
                print(f"soak: a sample is missing: {type(error).__name__}", file=sys.stderr)

    async def _sample(self) -> dict[str, float]:
        family = self._family()
        now_s, ticks = time.monotonic(), self._ticks()
        (before_s, before), self._last = self._last, (now_s, ticks)
        status, body = await self._house.daemon.get("/metrics")
        assert status == 200
        metrics: dict[str, float] = {}
        for name, value in _SAMPLE.findall(body.decode()):
            metrics[name] = metrics.get(name, 0.0) + float(value)
        pages = sum(int((each / "statm").read_text().split()[1]) for each in family)
        threads = [
            re.search(r"(?m)^Threads:\s+(\d+)$", (each / "status").read_text()) for each in family
        ]
        return {
            "at_s": now_s - self._began_s,
            "rss_mib": pages * resource.getpagesize() / 2**20,
            "fds": sum(len(list((each / "fd").iterdir())) for each in family),
            "threads": sum(int(found[1]) for found in threads if found is not None),
            "tasks": metrics["tasks"],
            "queued": metrics["queue_depth"],
            "cpu_percent": 100 * (ticks - before) / os.sysconf("SC_CLK_TCK") / (now_s - before_s),
        }


async def soak(
    folder: Path, *, seconds: float, terminals: int, lines: int, per_minute: float, seed: int
) -> Result:
    """The whole of it, in that folder. Raises when the daemon or a part of the house ends."""
    chance = random.Random(seed)
    house = House(folder, terminals, lines, per_minute, chance)
    try:
        await house.open()
        print(f"soak: {terminals} terminals up, {seconds / 60:g} min", file=sys.stderr)
        faults, sampler = Faults(house, chance, min(30.0, seconds / 15)), Sampler(house)
        used = time.process_time()
        began_s = time.monotonic()
        breaking = asyncio.create_task(faults.run(), name="faults")
        sampling = asyncio.create_task(sampler.run(min(5.0, seconds / 60)), name="sampler")
        try:
            await _until_any(seconds, breaking, sampling)
        finally:
            breaking.cancel()
            sampling.cancel()
            await asyncio.gather(breaking, sampling, return_exceptions=True)
        took_s = time.monotonic() - began_s
        load = (time.process_time() - used) / took_s
        waiting = await house.rest(REST_S)
        assert house.daemon.process is not None
        assert house.daemon.process.returncode is None, house.daemon.said()
        leaves = audit(house.daemon.state)
        checks = sum(leaf["event"] == "opened" for leaf in leaves)
        broken, joined = [], 0
        if checks <= JOIN_MOST:
            officers = [*house.lines, *house.fleet.terminals]
            broken, joined = join(officers, _queries(house), leaves, house.console), checks
        outcomes: dict[str, int] = {}
        for terminal in house.fleet.terminals:
            for name, number in terminal.outcomes.items():
                outcomes[name] = outcomes.get(name, 0) + number
        return Result(
            sampler.samples,
            checks,
            outcomes,
            dict(faults.done),
            waiting,
            broken,
            joined,
            load,
            took_s,
        )
    finally:
        await house.close()


async def _until_any(seconds: float, *tasks: asyncio.Task[None]) -> None:
    """That long, or until one of these ends, which none may."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _queries(house: House) -> list[dict[str, Any]]:
    """Q, from the PNC's own file: in memory it keeps the last of them alone."""
    with house.queries.open(encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    names = ("check", "attempt", "key_text")
    return [{name: each[name] for name in names} for each in entries if each["what"] == "query"]


def table(result: Result, warm_up_s: float) -> str:
    """Markdown: each figure after the warm-up, its slopes a day with twice their standard error.

    What a process first takes (caches, threads) and then keeps rises once: a leak is what still
    rises in the second half.
    """
    lines = [
        "| figure | first tenth | last tenth | slope a day | slope a day, second half |",
        "|---|---|---|---|---|",
    ]
    half_s = (warm_up_s + result.seconds) / 2
    block_s = max(1.0, min(60.0, (result.seconds - warm_up_s) / 20))
    for name, says in FIGURES.items():
        whole, half = (
            slope(
                [(each["at_s"], each[name]) for each in result.samples if each["at_s"] >= from_s],
                block_s,
            )
            for from_s in (warm_up_s, half_s)
        )
        ends = f"{whole.first:.1f} | {whole.last:.1f}"
        lines.append(f"| {says} | {ends} | {_rise(whole)} | {_rise(half)} |")
    return "\n".join(lines)


def _rise(found: Slope) -> str:
    if found.per_day is None or found.doubt is None:
        return "-"
    return f"{found.per_day:+.1f} +- {found.doubt:.1f}"


def report(result: Result, warm_up_s: float) -> str:
    said = ", ".join(f"{number} {name}" for name, number in sorted(result.outcomes.items()))
    broke = ", ".join(f"{number} x {name}" for name, number in sorted(result.done.items()))
    joined = f"{result.joined} checks joined, {len(result.broken)} invariants broken"
    if not result.joined:
        joined = f"not joined: more than {JOIN_MOST} checks"
    return (
        f"{result.seconds / 3600:.2f} h, the first {warm_up_s / 60:.1f} min left out as warm-up; "
        f"{result.asked} checks on record (over MQTT: {said}); {result.waiting} without an end; "
        f"{joined}; the load's side took {result.load_cores:.2f} of a core.\n"
        f"Faults: {broke}.\n\n{table(result, warm_up_s)}\n"
    )


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run soak", description=__doc__)
    length = options.add_mutually_exclusive_group(required=True)
    length.add_argument("--hours", type=float)
    length.add_argument("--minutes", type=float)
    options.add_argument("--terminals", type=int, default=500)
    options.add_argument(
        "--lines", type=int, default=20, help="how many of them are on serial lines"
    )
    options.add_argument("--per-minute", type=float, default=0.5, help="checks of each terminal")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--folder", type=Path, help="where everything is kept; must be new")
    return options


def main() -> int:
    options = parser()
    given = options.parse_args()
    seconds = given.minutes * 60 if given.minutes else given.hours * 3600
    if not seconds > 0 or not 0 < given.lines < given.terminals or not given.per_minute > 0:
        options.error("more than nothing, and fewer lines than terminals")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="radio-gateway-soak-"))
    folder.mkdir(parents=True, exist_ok=given.folder is None)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    result = asyncio.run(
        soak(
            folder,
            seconds=seconds,
            terminals=given.terminals,
            lines=given.lines,
            per_minute=given.per_minute,
            seed=given.seed,
        )
    )
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["at_s", *FIGURES])
        writer.writeheader()
        writer.writerows(result.samples)
    print(report(result, min(WARM_UP_S, 0.2 * result.seconds)))
    for fault in result.broken[:20]:
        print(fault, file=sys.stderr)
    print(f"soak: all of it is in {folder}", file=sys.stderr)
    return 1 if result.broken or result.waiting else 0


if __name__ == "__main__":
    sys.exit(main())
