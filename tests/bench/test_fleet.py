"""W4 and W5: what a fleet costs that only says where it is, and what its size adds to the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench import rig
from tests.services import mosquitto as mosquittos

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

EVERY_S = 10.0
SECONDS = 20.0
BRIEF_S = 6.0
ACTIVE = 100
"""Terminals that ask and move in W5, however many are known."""
CHECKS_PER_S, FIXES_PER_S = 100.0, 500.0


async def test_w4(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = []
    with mosquittos.running(tmp_path / "broker") as broker:
        for terminals in (1_000, 10_000):
            async with rig.daemon(
                tmp_path / str(terminals), broker, terminals=terminals, feed=True
            ) as daemon:
                await asyncio.sleep(1)
                began_s = rig.cpu_s(daemon.pid)
                await asyncio.sleep(4)
                silent = (rig.cpu_s(daemon.pid) - began_s) / 4
                began_s = rig.cpu_s(daemon.pid)
                rate = terminals / EVERY_S
                seen = await rig.load(
                    rig.split("fix", broker, rate=rate, seconds=SECONDS, terminals=terminals)
                )
                share = (rig.cpu_s(daemon.pid) - began_s) / (SECONDS + rig.LEAD_S)
                rss = rig.rss_mb(daemon.pid)
                fixes = await rig.metric(daemon, "gateway_fixes_received_total")
            rows.append((terminals, round(rss), 100 * silent, 100 * share, seen.sent, round(fixes)))
    rig.table(
        "W4: an idle fleet, one fix per terminal each 10 s, feed on",
        ("terminals", "RSS MB", "% of a core, silent", "% of a core", "fixes sent", "taken"),
        rows,
    )


async def test_w5(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = []
    with mosquittos.running(tmp_path / "broker") as broker:
        for terminals in (100, 1_000, 10_000):
            async with rig.daemon(tmp_path / str(terminals), broker, terminals=terminals) as daemon:

                async def cost_us(role: str, rate: float) -> float:
                    began_s = rig.cpu_s(daemon.pid)
                    seen = await rig.load(
                        rig.split(role, broker, rate=rate, seconds=BRIEF_S, terminals=ACTIVE)
                    )
                    return (rig.cpu_s(daemon.pid) - began_s) / seen.sent * 1e6

                await cost_us("check", 20)
                fix_us = min([await cost_us("fix", FIXES_PER_S) for _ in range(2)])
                check_us = min([await cost_us("check", CHECKS_PER_S) for _ in range(2)])
            rows.append((terminals, check_us, fix_us))
    rig.table(
        "W5: processor time of one, by how many terminals are known",
        ("terminals", "us a check", "us a fix"),
        rows,
    )
