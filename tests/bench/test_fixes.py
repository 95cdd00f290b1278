"""W2 and W3: a position from a terminal to whoever watches, and sentences from a line."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.bench import rig
from tests.bench.load import Spec
from tests.services import mosquitto as mosquittos
from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT, Daemon

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

TERMINALS = 1000
SECONDS = 4.0
FRESH_MS = 500.0
SENTENCES, LINES = 8_000, 20
"""On each line."""


class Relayed(msgspec.Struct):
    """What became of so many positions: how old they were when they came, and to the consoles."""

    sent: int
    ages: list[float]
    batches: list[float]
    rows: int
    late_ms: float

    @property
    def sustained(self) -> bool:
        """Each came, and the last ones as fresh as the first."""
        return len(self.ages) == self.sent and rig.at(self.ages, 0.99) <= FRESH_MS


async def relay(broker: Mosquitto, rate: float, *, web: Daemon | None, consoles: int) -> Relayed:
    """Two processes send, one listens to the feed, one is so many consoles."""
    at = {"start_s": 0.0, "seconds": SECONDS, "drain_s": 1.0}
    specs = rig.split("fix", broker, rate=rate, seconds=SECONDS, terminals=TERMINALS, drain_s=1.0)
    specs.append(Spec(role="listen", port=broker.port, name="ear", back="feed/fix/+", **at))
    if web is not None:
        cookie = (await web.log_in())["Cookie"]
        specs.append(
            Spec(
                role="stream", port=web.port, name="eye", connections=consoles, cookie=cookie, **at
            )
        )
    seen = await rig.load(specs)
    ear, eye = seen.more[2], seen.more[3] if web is not None else {"rows": [], "ages": []}
    return Relayed(
        sent=seen.sent,
        ages=sorted(s * 1e3 for s in ear["ages"]),
        batches=sorted(s * 1e3 for s in eye["ages"]),
        rows=sum(eye["rows"]),
        late_ms=seen.late_ms,
    )


async def test_w2(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = []

    def say(name: str, rate: float, seen: Relayed | None) -> None:
        if seen is None:
            rows.append((name, "none held", *[""] * 6))
            return
        rows.append(
            (
                *(name, round(rate), rig.at(seen.ages, 0.5), rig.at(seen.ages, 0.99)),
                *(seen.sent, seen.sent - len(seen.ages), seen.rows, rig.at(seen.batches, 0.99)),
            )
        )

    with mosquittos.running(tmp_path / "broker") as broker:
        async with rig.echo(broker, "fix"):

            async def echoed(rate: float) -> Relayed:
                return await relay(broker, rate, web=None, consoles=0)

            say("floor: bare aiomqtt echo, QoS 0", 500, await echoed(500))
            floor, seen = await rig.ceiling(echoed, first=1500)
            say("the same, sustained", floor, seen)
        tops = {}
        async with rig.daemon(
            tmp_path / "gateway",
            broker,
            terminals=TERMINALS,
            feed=True,
            sections={"http": {"max_per_address": 100}},
        ) as daemon:
            for consoles in (1, 50):

                async def relayed(rate: float, consoles: int = consoles) -> Relayed:
                    return await relay(broker, rate, web=daemon, consoles=consoles)

                say(f"W2, {consoles} console(s)", 500, await relayed(500))
                if consoles == 1:
                    tops[consoles], seen = await rig.ceiling(relayed, first=1000)
                    say(f"W2, {consoles} console(s), sustained", tops[consoles], seen)
    rig.table(
        "W2: position to the feed, and to consoles",
        (
            *("what", "rate /s", "p50 ms", "p99 ms", "sent", "lost"),
            *("rows to consoles", "their p99 on the way ms"),
        ),
        rows,
    )
    rig.table(
        "Highest rate relayed without loss",
        ("what", "per second", "against the bare echo"),
        [
            ("bare aiomqtt echo, QoS 0", round(floor), 1.0),
            *((f"W2, {n} console(s)", round(top), top / floor) for n, top in tops.items()),
        ],
    )
    assert tops[1] > 0


async def test_w3(tmp_path: Path) -> None:
    """On so many lines at once, for what is read of one line is limited (S04). Sentences a second
    of one core: by the daemon's own processor time, whatever else runs."""
    rows = []
    for what in ("mixed", "rmc"):
        sender = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.line", what, str(SENTENCES), str(LINES)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert sender.stdout is not None
        assert sender.stdin is not None
        try:
            serial = [
                {
                    "name": f"gps{n}",
                    "port": (await sender.stdout.readline()).decode().strip(),
                    "terminal": str(rig.FIRST + n),
                    "codec": "nmea0183",
                    "reference_date": "2026-11-22",
                }
                for n in range(LINES)
            ]
            async with rig.daemon(tmp_path / what, None, terminals=LINES, serial=serial) as daemon:
                rows.append((what, LINES, *await _said(daemon, sender)))
        finally:
            sender.kill()
            await sender.wait()
    rig.table(
        "W3: NMEA over PTYs",
        (
            *("stream", "lines", "sentences", "rejected", "per second"),
            *("% of a core", "us of processor each", "/s of one core"),
        ),
        rows,
    )


async def _said(daemon: Daemon, sender: asyncio.subprocess.Process) -> tuple[float, ...]:
    assert sender.stdout is not None
    assert sender.stdin is not None
    total = SENTENCES * LINES
    began_s, cpu_s = time.monotonic(), rig.cpu_s(daemon.pid)
    sender.stdin.write(b"\n")
    await sender.stdout.readline()
    taken = 0.0
    while taken < total:
        assert time.monotonic() - began_s < 120
        taken = await rig.metric(daemon, "gateway_frames_received_total")
        await asyncio.sleep(0.05)
    took_s, spent_s = time.monotonic() - began_s, rig.cpu_s(daemon.pid) - cpu_s
    bad = await rig.metric(daemon, "gateway_frames_rejected_total")
    bad += await rig.metric(daemon, "gateway_fixes_rejected_total")
    share = 100 * spent_s / took_s
    return total, bad, total / took_s, share, spent_s / total * 1e6, total / spent_s
