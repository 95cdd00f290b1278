"""One post: the real daemon, an officer at a serial line, a PNC over HTTP, and a console.

The smallest world in which a fault of disk or host can be told from silence. Whatever a test does
with it ends in `verdict()`: the join of the four records.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulators.pnc_server import PncServer
from tests.chain import heads_of
from tests.services import require
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import Console, audit, chain_faults, join
from tests.system.officers import LineOfficer

ISSI = "5001001"
"""Constable E-101 of config/fleet.toml."""
WITHIN_S = 40.0
"""Far beyond what anything here takes: the machine may be busy."""


class Post:
    """Use `async with post(folder) as here`. `daemon` may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pnc = PncServer(ROOT / "config" / "pnc", "127.0.0.1", 0)
        self.officer = LineOfficer(ISSI, folder / "serial-e")
        self.daemon: Daemon
        self.console: Console
        self._watching: asyncio.Task[None] | None = None

    async def answered(self, text: str = "V TE99STV R1") -> str:
        """Ask, and hear the whole answer; its short reference."""
        number = self.officer.ask(text)
        parts = await self.officer.until(lambda: self.officer.parts(number), WITHIN_S)
        return str(parts[0]["short"])

    async def told(self, words: str, number: str | None = None) -> None:
        """Until the officer reads these words in a notice (about that question)."""
        begins = "" if number is None else f"Q{number} "

        def heard() -> bool:
            said = [h.body["text"] for h in self.officer.heard if h.channel == "notice"]
            return any(text.startswith(begins) and words in text for text in said)

        await self.officer.until(heard, WITHIN_S)

    async def logged(self, event: str, **fields: object) -> dict[str, Any]:
        """Until the journal has such a line; the first of them."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines(event) if fields.items() <= line.items()]

        await until(found, WITHIN_S)
        return found()[0]

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.daemon.journal() if line["event"] == event]

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        status, body = await self.daemon.get("/metrics")
        assert status == 200
        found = re.findall(rf"^gateway_{name}(?:\{{.*\}})? (\S+)$", body.decode(), re.MULTILINE)
        assert found, name
        return sum(map(float, found))

    async def ended(self) -> int:
        """Its exit code, when it ends by itself."""
        assert self.daemon.process is not None
        async with asyncio.timeout(WITHIN_S):
            return await self.daemon.process.wait()

    async def settled(self) -> None:
        """Until every check on record has its outcome."""

        def done() -> bool:
            leaves = audit(self.daemon.state)
            opened = {leaf["check"] for leaf in leaves if leaf["event"] == "opened"}
            ends = {"answered", "refused", "denied", "cancelled"}
            return opened <= {leaf["check"] for leaf in leaves if leaf["event"] in ends}

        await until(done, WITHIN_S)

    def verdict(self, state: Path | None = None) -> list[str]:
        """Every invariant that the join finds violated. state: where the files can be read, when
        the daemon has them on a disk of its own."""
        queries = [
            {"check": each.check, "attempt": each.attempt, "key_text": each.key_text}
            for each in self.pnc.queries
        ]
        leaves = audit(state or self.daemon.state)
        faults = join([self.officer], queries, leaves, self.console)
        heads = (state or self.daemon.state) / "heads.jsonl"
        if heads.exists():
            faults += chain_faults(leaves, known=heads_of(heads, "gwt"))
        return faults


@contextlib.asynccontextmanager
async def post(
    folder: Path,
    *,
    checks: Mapping[str, Any] | None = None,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
) -> AsyncIterator[Post]:
    here = Post(folder)
    await here.pnc.start()
    here.officer.plug()
    here.daemon = Daemon(
        folder,
        lines={"serial-e": (str(here.officer.link), ISSI)},
        pnc_url=here.pnc.url,
        checks={"deadline_s": 6.0, "resend_s": 1.0, **(checks or {})},
        sections=sections,
        environ=environ,
        wrapper=wrapper,
    )
    here.console = Console(here.daemon.url)
    try:
        await here.daemon.start()
        watching = asyncio.create_task(here.console.run(), name="console")
        async with asyncio.timeout(WITHIN_S):
            await here.console.connected.wait()
        yield here
        watching.cancel()
    finally:
        with contextlib.suppress(UnboundLocalError):
            watching.cancel()
        here.officer.unplug()
        await here.daemon.close()
        with contextlib.suppress(OSError):
            await here.pnc.stop()


class Strace:
    """What strace does to a running process until `end`: calls that fail, or take their time.

    threads: to all of its threads; else to its first one alone, which runs the event loop.
    """

    def __init__(self, pid: int, inject: str, *, threads: bool = True) -> None:
        call = inject.split(":")[0]
        options = ["-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]
        self._process = subprocess.Popen(
            [require("strace"), *(["-f"] if threads else []), *options, "-p", str(pid)],
            stderr=subprocess.DEVNULL,
        )
        self._pid = pid
        self._threads = threads

    async def attached(self) -> None:
        """Until it holds every thread that it is meant for."""

        def traced() -> bool:
            assert self._process.poll() is None, "strace ended"
            threads = os.listdir(f"/proc/{self._pid}/task") if self._threads else [str(self._pid)]
            said = [Path(f"/proc/{self._pid}/task/{n}/status").read_text() for n in threads]
            return not any("TracerPid:\t0\n" in each for each in said)

        await until(traced, WITHIN_S)

    def end(self) -> None:
        """Let go of the process; what was held goes on."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:  # it waits for a thread that it holds itself
            self._process.kill()
            self._process.wait(10)


@contextlib.asynccontextmanager
async def strace(pid: int, inject: str, *, threads: bool = True) -> AsyncIterator[Strace]:
    tracer = Strace(pid, inject, threads=threads)
    try:
        await tracer.attached()
        yield tracer
    finally:
        tracer.end()


def limit(pid: int, what: str) -> None:
    """`prlimit` on a running process: `--nofile=20`."""
    subprocess.run([require("prlimit"), "--pid", str(pid), what], check=True, timeout=10)


def send(daemon: Daemon, number: signal.Signals) -> None:
    os.kill(daemon.pid, number)
