"""Play many worlds: `./run simulate --seeds N [--from S] [--hours H]`.

Says now and then how far it is; on the first fault the seed, what was broken, and the command that
plays that world again. The end is 0 when every world kept every invariant.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.loop import run
from tests.simulation.test_core import HOURS, MET, defects, play, wanted

SAID_EVERY_S = 10.0
MISSING_SAID = 10


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def parser() -> argparse.ArgumentParser:
    """What may be asked; `run` sends here whatever begins with one of the first three."""
    made = argparse.ArgumentParser(prog="./run simulate", description=str(__doc__).splitlines()[0])
    made.add_argument("--seeds", type=positive, default=200, help="how many worlds")
    made.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    made.add_argument("--hours", type=float, default=HOURS, help="simulated, of chaos in each")
    made.add_argument("--trace", action="store_true", help="print everything that happened")
    return made


def main(arguments: list[str]) -> int:
    """0: no fault. 1: at least one; each was printed."""
    asked = parser().parse_args(arguments)
    began_s = said_s = time.monotonic()
    faults, met_before = 0, Counter(MET)
    for done, seed in enumerate(range(asked.first, asked.first + asked.seeds), start=1):
        found = broken(seed, asked.hours, trace=asked.trace)
        if found:
            faults += 1
            print(f"seed {seed}: {len(found)} violations", *found[:5], sep="\n  ")
            print(f"  again: ./run simulate --seeds 1 --from {seed} --hours {asked.hours:g}")
        now_s = time.monotonic()
        if found or now_s - said_s >= SAID_EVERY_S:
            said_s = now_s
            took_s = now_s - began_s
            print(f"{done} of {asked.seeds} worlds, {faults} with faults, {took_s:.0f} s")
            sys.stdout.flush()
    simulated_h, took_s = asked.seeds * asked.hours, time.monotonic() - began_s
    print(f"{asked.seeds} worlds, {simulated_h:g} simulated hours, {took_s:.0f} s: {faults} faulty")
    missing = sorted(wanted() - set(MET - met_before))
    if missing:
        more = f" and {len(missing) - MISSING_SAID} more" * (len(missing) > MISSING_SAID)
        print(f"never met: {', '.join(missing[:MISSING_SAID])}{more}")
    return 1 if faults else 0


def broken(seed: int, hours: float, *, trace: bool = False) -> list[str]:
    """What went wrong in the world of this seed; a crash of the simulation itself, too."""
    try:
        world, loop = run(seed, play(seed, hours), keep=trace)
    # Whatever ends a world is a finding of this seed; the next one is played all the same.
    except Exception as error:  # noqa: BLE001
        return [f"{type(error).__name__}: {error}"]
    if trace:
        assert loop.trace
        sys.stdout.writelines(loop.lines or ())
    return defects(world)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
