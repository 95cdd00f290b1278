"""W1: a check from a terminal to its answer, over a real broker with QoS 1, and its floors.

Ledger on, synchronous=FULL, history and journal on as shipped, the mock PNC in process at 0 ms; so
many may be asked at once that the PNC's places are not what is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.bench import rig
from tests.services import mosquitto as mosquittos
from tests.services.mosquitto import Mosquitto

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

TERMINALS = 1000
SECONDS = 6.0
TRY_S, TRY_DRAIN_S = 3.0, 1.5
PLACES = {"concurrency": 128, "queue": 1024, "resend_s": 300.0}
"""resend_s: what is not acknowledged would be sent again 10 s later, into the next measurement."""
HEAD = ("what", "rate /s", "p50 ms", "p99 ms", "max ms", "sent", "lost", "refused")


def row(name: str, rate: float, seen: rig.Seen | None) -> tuple[object, ...]:
    if seen is None:
        return (name, "none held", *[""] * 6)
    ms = seen.results
    return (
        *(name, round(rate), rig.at(ms, 0.5), rig.at(ms, 0.99), rig.at(ms, 1.0)),
        *(seen.sent, seen.lost, seen.refused),
    )


async def ask(
    broker: Mosquitto, rate: float, seconds: float, role: str = "check", **more: Any
) -> rig.Seen:
    specs = rig.split(role, broker, rate=rate, seconds=seconds, terminals=TERMINALS, **more)
    return await rig.load(specs)


async def test_w1(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = []
    tops: dict[str, float] = {}
    with mosquittos.running(tmp_path / "broker") as broker:

        async def bare(rate: float) -> rig.Seen:
            return await ask(broker, rate, TRY_S, "echo", back="up/check", drain_s=TRY_DRAIN_S)

        async def echoed(rate: float) -> rig.Seen:
            return await ask(broker, rate, TRY_S, "echo", drain_s=TRY_DRAIN_S)

        async def checked(rate: float) -> rig.Seen:
            return await ask(broker, rate, TRY_S, drain_s=TRY_DRAIN_S)

        rows.append(row("floor: the broker alone", 500, await bare(500)))
        name = "the broker alone: the load's own ceiling"
        tops[name], seen = await rig.ceiling(bare, first=6000)
        rows.append(row("the same, sustained", tops[name], seen))
        async with rig.echo(broker, "check"):
            rows.append(row("floor: bare aiomqtt echo", 500, await echoed(500)))
            tops["bare aiomqtt echo"], seen = await rig.ceiling(echoed, first=1000)
            rows.append(row("the same, sustained", tops["bare aiomqtt echo"], seen))
        for feed, name in ((False, "W1"), (True, "W1, feed relay on")):
            folder = tmp_path / f"feed-{feed}"
            async with rig.daemon(
                folder, broker, terminals=TERMINALS, feed=feed, checks=PLACES
            ) as daemon:
                await checked(50)  # what is made once is made
                for rate in (500,) if feed else (100, 500, 1000):
                    began_s = rig.cpu_s(daemon.pid)
                    seen = await ask(broker, rate, SECONDS)
                    spent_us = (rig.cpu_s(daemon.pid) - began_s) / seen.sent * 1e6
                    rows.append(row(f"{name}, {spent_us:.0f} us of processor each", rate, seen))
                    receipts = msgspec.structs.replace(seen, results=seen.receipts)
                    rows.append(row(f"{name}: its receipt", rate, receipts))
                if not feed:
                    read = await ask(broker, 500, SECONDS, acks=True)
                    rows.append(row(f"{name}, each answer read and said so", 500, read))
        # A daemon of its own: the last one may still have much to do.
        folder = tmp_path / "sustained"
        async with rig.daemon(folder, broker, terminals=TERMINALS, checks=PLACES):
            await checked(50)
            tops["W1"], seen = await rig.ceiling(checked, first=300)
            rows.append(row("W1, sustained", tops["W1"], seen))
    rig.table("W1: check to answer", HEAD, rows)
    echo = tops["bare aiomqtt echo"]
    rig.table(
        "Highest rate sustained without loss",
        ("what", "per second", "against the bare echo"),
        [(name, round(top), top / echo) for name, top in tops.items()],
    )
    assert tops["W1"] > 0
