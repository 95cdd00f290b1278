"""`./run fuzz [--minutes M] [--seed S] [TARGET ...]`: long, seeded, one process.

Each target gets its share of the time. Inputs are made from the grammar, or are earlier ones of
this run that brought something new, changed further. Says executions per second; a failure is made
shorter, put into tests/corpus/fuzz and told with the command that replays it; exit 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from tests.fuzz import findings, grammar
from tests.fuzz.targets import TARGETS, Target

POOL_MOST = 2000
TURN = 64
"""Executions between two looks at the clock."""
FAILURES_MOST = 5
"""Of one target, before it is left: one defect fails in many ways."""


def main(arguments: list[str]) -> int:
    said = _arguments(arguments)
    if said.input is not None or said.replay:
        return _again(said)
    seed = said.seed if said.seed is not None else time.time_ns() % 10**9
    names = said.targets or list(TARGETS)
    share_s = said.minutes * 60 / len(names)
    print(f"seed {seed}, {share_s:.1f} s for each of {len(names)} targets", flush=True)
    results = [_hunt(TARGETS[name], seed, share_s, said.executions) for name in names]
    total = sum(done for done, _ in results)
    failed = sum(failures for _, failures in results)
    print(f"{total} executions, {failed} failures", flush=True)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=5.0, help="for all targets together (5)")
    parser.add_argument("--executions", type=int, default=None, help="stop a target after so many")
    parser.add_argument("--seed", type=int, default=None, help="the same inputs again")
    parser.add_argument("--input", metavar="HEX", default=None, help="judge this one input")
    parser.add_argument("--replay", action="store_true", help="judge the findings that are kept")
    return parser


def _arguments(arguments: list[str]) -> argparse.Namespace:
    options = parser()
    said = options.parse_args(arguments)
    for name in said.targets:
        if name not in TARGETS:
            options.error(f"no target {name}; there are {', '.join(TARGETS)}")
    if said.input is not None and len(said.targets) != 1:
        options.error("--input: for one target")
    return said


def _again(said: argparse.Namespace) -> int:
    """The errors themselves, with their traces: whoever replays wants to see where."""
    if said.input is not None:
        name = said.targets[0]
        print(TARGETS[name].try_(bytes.fromhex(said.input), weigh=True))
        return 0
    for name in said.targets or TARGETS:
        for case, data in findings.kept(name):
            print(name, case, TARGETS[name].try_(data, weigh=True))
    return 0


def _hunt(target: Target, seed: int, seconds: float, most: int | None) -> tuple[int, int]:
    """How many executions, and how many failures."""
    r = Random(f"{seed} {target.name}")
    pool: list[bytes] = []
    seen: set[object] = set()
    done = failures = 0
    start_s = time.perf_counter()
    until_s = start_s + seconds
    while time.perf_counter() < until_s and failures < FAILURES_MOST:
        for _ in range(TURN):
            data = target.made(r)
            if pool and r.randrange(3) == 0:
                data = _changed(r, pool, data)
            done += 1
            try:
                found = target.try_(data)
            except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
                failures += 1
                _tell(target, data, error)
                break
            if found not in seen and len(pool) < POOL_MOST:
                seen.add(found)
                pool.append(data)
        if most is not None and done >= most:
            break
    took_s = time.perf_counter() - start_s
    print(
        f"{target.name:16} {done:9} executions {done / took_s:8.0f}/s "
        f"{len(seen):5} outcomes {failures} failures",
        flush=True,
    )
    return done, failures


def _changed(r: Random, pool: list[bytes], other: bytes) -> bytes:
    """An earlier input with noise on it, or its beginning before another's end."""
    data = grammar.some(r, pool)
    if grammar.often(r, 30):
        return data[: r.randrange(len(data) + 1)] + other[r.randrange(len(other) + 1) :]
    return grammar.noisy(r, data, 100)


def _tell(target: Target, data: bytes, error: Exception) -> None:
    def fails(less: bytes) -> bool:
        try:
            target.try_(less, weigh=True)
        except Exception as other:  # noqa: BLE001 - compared by kind
            return type(other) is type(error)
        return False

    small = findings.shrunk(data, fails) if fails(data) else data
    why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    name = findings.keep(target.name, small, f"fuzz: {why}")
    print(f"FAILED {target.name} {name}: {why}\n  {small[:300]!r}", flush=True)
    print(f"  replay: ./run fuzz {target.name} --input {small.hex()}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
