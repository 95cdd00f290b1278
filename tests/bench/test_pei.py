"""W1 over a TETRA radio on its PEI: a check from a handset to the last part of its answer.

The radio is simulated in this process, on a PTY, with a network that takes no time: what is left of
its own (bytes to commands, and back) is in the floor too, which does the same dialogue on the same
radio and nothing else. So the ratio is the gateway's, and the difference its time.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

import pytest

from simulators.clock import RealClock
from simulators.lines import PtyLine
from simulators.tetra_air import Sdu
from simulators.tetra_mobile import Mobile
from simulators.tetra_pei import PLAIN
from simulators.tetra_radio import TetraRadio
from tests.bench import rig
from tests.system.daemon import ROOT

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

MANY, EACH = 8, 100
"""Handsets beside each other; questions of each, one after the other."""
WITHIN_S = 30.0
ENQUIRY = "N TESTER/NORA/01011970/F R6"
ANSWER = "C000 1/1 NO TRACE TESTER NORA 01/01/70. NOT PROOF OF ID. AS AT 09:15"
"""One message, as the receipt before it: as long as what the gateway says."""
_PART = re.compile(r"Q(\d+) [0-9A-Z]{4} (\d)/(\d) ")
_SENT = re.compile(r"Q(\d+) SENT ")


class Handset:
    """Asks, one question after the other; keeps how long receipt and whole answer took, ms."""

    def __init__(self, ssi: int, base: TetraRadio) -> None:
        self.receipts: list[float] = []
        self.answers: list[float] = []
        self._ssi, self._base = ssi, base
        self._mobile = Mobile()
        self._asked_s = 0.0
        self._number = 0
        self._parts: set[str] = set()
        self._done = asyncio.Event()
        base.attach(ssi, self._hear)

    async def run(self, questions: int) -> None:
        for _ in range(questions):
            self._number += 1
            self._parts.clear()
            self._done.clear()
            self._asked_s = time.perf_counter()
            for sdu in self._mobile.text(f"{ENQUIRY} Q{self._number}"):
                self._base.transmit(self._ssi, sdu)
            async with asyncio.timeout(WITHIN_S):
                await self._done.wait()

    def _hear(self, sdu: Sdu) -> None:
        took_ms = (time.perf_counter() - self._asked_s) * 1e3
        came = self._mobile.hear(sdu)
        for text in came.texts:
            if (found := _SENT.match(text.text)) and int(found[1]) == self._number:
                self.receipts.append(took_ms)
            elif (found := _PART.match(text.text)) and int(found[1]) == self._number:
                self._parts.add(found[2])
                if len(self._parts) == int(found[3]):
                    self.answers.append(took_ms)
                    self._done.set()
        for reply in came.replies:
            self._base.transmit(self._ssi, reply)


async def measured(base: TetraRadio, handsets: int) -> tuple[list[float], list[float], float]:
    """Receipts and answers, sorted, and questions a second."""
    asking = [Handset(rig.FIRST + n, base) for n in range(handsets)]
    await asking[0].run(5)  # what is made once is made
    asking[0].receipts.clear()
    asking[0].answers.clear()
    began_s = time.perf_counter()
    await asyncio.gather(*(each.run(EACH) for each in asking))
    took_s = time.perf_counter() - began_s
    receipts = sorted(ms for each in asking for ms in each.receipts)
    answers = sorted(ms for each in asking for ms in each.answers)
    assert len(answers) == handsets * EACH
    return receipts, answers, len(answers) / took_s


async def floor(base: TetraRadio, handsets: int) -> tuple[list[float], list[float], float]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.pei_echo", base.line.path, ANSWER),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"ready\n"
        return await measured(base, handsets)
    finally:
        process.kill()
        await process.wait()


async def test_w1_over_pei(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = []
    ratios: list[tuple[object, ...]] = []
    for handsets in (1, MANY):
        p50: dict[str, float] = {}
        rates: dict[str, float] = {}
        for name in ("floor", "W1"):
            folder = tmp_path / f"{name}-{handsets}"
            folder.mkdir()
            line = PtyLine(folder / "tetra")
            base = TetraRadio(name="tetra", line=line, clock=RealClock(), habits=PLAIN)
            base.plug()
            try:
                if name == "floor":
                    receipts, answers, rate = await floor(base, handsets)
                else:
                    section = {"port": line.path, "rtscts": False}
                    async with rig.daemon(
                        folder, None, terminals=MANY, tetra={"tetra": section}
                    ) as daemon:
                        while not base.pei.registered:  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
                        await asyncio.sleep(1.0)
                        began_s = rig.cpu_s(daemon.pid)
                        receipts, answers, rate = await measured(base, handsets)
                        spent_ms = (rig.cpu_s(daemon.pid) - began_s) / len(answers) * 1e3
            finally:
                base.close()
            assert base.pei.counts["overlapping"] == 0
            each = base.pei.counts["accepted"] / (len(answers) + 5)
            p50[name], rates[name] = rig.at(answers, 0.5), rate
            said = "" if name == "floor" else f", {spent_ms:.1f} ms of processor each"
            for what, ms in (("receipt", receipts), ("answer", answers)):
                rows.append(
                    (
                        f"{name}, {handsets} at once: {what}{said}",
                        round(rate),
                        *(rig.at(ms, q) for q in (0.5, 0.99, 1.0)),
                        round(each, 2),
                    )
                )
        ratios.append(
            (
                f"{handsets} at once",
                p50["W1"] - p50["floor"],
                p50["W1"] / p50["floor"],
                rates["W1"] / rates["floor"],
            )
        )
    rig.table(
        "W1 over PEI: check to answer, the radio's own delay none",
        ("what", "rate /s", "p50 ms", "p99 ms", "max ms", "messages out, each"),
        rows,
    )
    rig.table(
        "W1 over PEI, the radio's own time taken out",
        ("handsets", "ms more than the floor, p50", "times the floor", "of its rate"),
        ratios,
    )
