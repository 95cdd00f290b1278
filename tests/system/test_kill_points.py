"""Killed at one exact system call, at every point of a check's life (reliability-security, 3.1).

The real daemon is killed on entry to a call: of the line, the broker, the PNC's connection, the
page's stream; or its ledger's process, on one of the write-ahead log or the file. Which point that
was is read from what stood on record and what had been heard when it was dead, so that a count that
is one off proves its own point, and the test says which points were hit. Afterwards: no second
check, one outcome, as many attempts as there may be, the same bytes, and the join.

P0 read, not parsed; P1 not committed; P2 committed, no receipt; P3 receipted, not asked; P4 asked;
P5 answered, not committed; P6 committed, not sent; P7 sent, not acknowledged; P8 acknowledged, not
committed; P9 the page's stream; P10 checkpoint; P11 head of the chain (a line of
heads.jsonl, signed, and of an anchor); P12 purge (of the ledger alone: the daemon's own begins half
a minute after its start).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chain import Leaf, audit, chain_faults, contents, heads_said, tables
from tests.services import mosquitto as mosquittos
from tests.services import require
from tests.services.mosquitto import Mosquitto
from tests.system.bounds import unfinished
from tests.system.daemon import ROOT, Daemon
from tests.system.evidence import CONCLUDING
from tests.system.ledgers import promises
from tests.system.officers import Heard, LineOfficer, MqttOfficer
from tests.system.strace import Strace, sockets
from tests.system.test_tools import command
from tests.system.world import World

DEAD_WITHIN_S = 8.0
EXIT_FAILED = 1
FILES = {"log": "ledger.db-wal", "file": "ledger.db", "heads": "heads.jsonl"}
SETTLE_WITHIN_S = 30.0
BY_LINE, BY_BROKER = "5001001", "5001003"
POINTS = tuple(f"P{number}" for number in range(9))
OPENED: dict[str, Any] = {
    "mqtt": (BY_BROKER,),
    "checks": {"deadline_s": 20.0, "resend_s": 5.0},
}
"""Nothing may expire or come again by time alone in what is looked at here."""


@dataclass(frozen=True)
class Blow:
    """Where to strike: the when-th `call` on `place`. into: 0 or the number of the commit within
    which `when` counts. hangs: the PNC does not answer the first attempt. silent: the terminal does
    not acknowledge what it hears before the restart."""

    call: str
    place: str
    when: int
    into: int = 0
    hangs: bool = False
    silent: bool = False

    def __str__(self) -> str:
        commit = f" of commit {self.into}" * bool(self.into)
        return f"{self.call}#{self.when}{commit} on {self.place}"


COMMON = (
    Blow("pwrite64", "log", 1, into=1),
    Blow("pwrite64", "log", 8, into=1),
    Blow("fdatasync", "log", 1),
    Blow("fdatasync", "log", 2),
    Blow("connect", "anywhere", 1),
    Blow("sendto", "page", 1),
    Blow("sendto", "page", 2),
    Blow("sendto", "page", 3),
    Blow("sendto", "page", 2, hangs=True),
    Blow("epoll_wait", "loop", 60, hangs=True),
    Blow("sendto", "page", 3, silent=True),
    Blow("sendto", "page", 4, silent=True),
    Blow("pwrite64", "log", 8, into=2),
    Blow("fdatasync", "log", 3),
    Blow("pwrite64", "log", 4, into=3),
    Blow("pwrite64", "log", 9, into=3),
    Blow("fdatasync", "log", 4),
    Blow("pwrite64", "file", 1),
    Blow("pwrite64", "file", 4),
    Blow("fdatasync", "file", 1),
)
BLOWS = {
    BY_LINE: (
        Blow("read", "terminal", 1),
        Blow("write", "terminal", 1),
        Blow("write", "terminal", 2),
        Blow("read", "terminal", 2),
        *COMMON,
    ),
    BY_BROKER: (
        *(Blow("recvfrom", "terminal", when) for when in (1, 4, 6, 9, 12, 15, 18)),
        *(Blow("sendto", "terminal", when) for when in range(1, 9)),
        *COMMON,
    ),
}


class Trial:
    """One world, one terminal, one blow after the other."""

    def __init__(self, world: World, issi: str) -> None:
        self.world = world
        self.issi = issi
        self.officer: LineOfficer | MqttOfficer = world.lines.get(issi) or world.radios[issi]
        self.hit: dict[str, list[str]] = {}
        self.missed: list[str] = []
        self._commits: list[int] = []

    @property
    def daemon(self) -> Daemon:
        assert self.world.daemon is not None
        return self.world.daemon

    async def ask(self) -> str:
        if isinstance(self.officer, LineOfficer):
            return self.officer.ask("V TE99STV R1")
        return await self.officer.ask(kind="vehicle", vrm="TE99STV", reason="1")

    def _paths(self, place: str) -> list[str]:
        pid = self.daemon.pid
        if place == "terminal" and isinstance(self.officer, LineOfficer):
            return [str(self.officer.link.resolve())]
        if place == "terminal":
            return sockets(pid, port=self.world.broker)
        if place == "page":
            return sockets(pid, port=self.daemon.port, local=True)
        if place in FILES:
            return [str(self.daemon.state / FILES[place])]
        return ["anon_inode:[eventpoll]"] if place == "loop" else []

    def _pid(self, place: str) -> int:
        """Whose calls strike there: the ledger's process has its files, the daemon all else."""
        return self.daemon.writer_pid if place in FILES else self.daemon.pid

    async def measure(self) -> None:
        """How many writes each commit of a check makes, from a run that nobody disturbs."""
        await self.ask()  # the first one makes pages that later ones find
        await self.settled()
        log = self.world.folder / "calls"
        watch = Strace(self._pid("log"), "pwrite64,fdatasync", self._paths("log"), log=log)
        await watch.attach()
        await self.ask()
        await self.settled()
        await watch.let_go()
        counts, n = [], 0
        for line in (await asyncio.to_thread(log.read_text)).splitlines():
            n += "pwrite64(" in line
            if "fdatasync(" in line and n > 1:  # one alone is the log's own new header
                counts.append(n)
                n = 0
        assert len(counts) >= 3, "opened, answered, delivered"
        self._commits = counts

    async def strike(self, blow: Blow) -> None:
        """Ask, die there, start again, let it end; assert what must hold."""
        when = blow.when + sum(self._commits[: blow.into - 1] if blow.into else [])
        seq = audit(self.daemon.state)[-1].seq
        heard, queries = len(self.officer.heard), len(self.world.queries())
        self.world.pnc.fault = "hang" if blow.hangs else None
        self.officer.acknowledges = not blow.silent
        paths = self._paths(blow.place)
        assert paths or blow.place == "anywhere", f"nothing to strike: {blow}"
        blade = Strace(self._pid(blow.place), blow.call, paths, when)
        await blade.attach()
        ref = await self.ask()
        dead = await self._dies(blow.place)
        await blade.let_go()
        if not dead:
            self.missed.append(str(blow))
            await self.daemon.kill()
        await asyncio.sleep(0.15)  # what it had sent is still on its way to the others
        self.world.pnc.fault = None
        self.officer.acknowledges = True
        before = audit(self.daemon.state, after=seq)
        assert promises(self.world.evidence(self.daemon.state, audit(self.daemon.state))) == []
        # A word that is half heard is none, and comes again whole.
        known = list(self.officer.heard)
        point = self._point(blow, ref, before, self.officer.heard[heard:], queries)
        if dead:
            self.hit.setdefault(point, []).append(str(blow))
            if blow.place == "page":
                self.hit.setdefault("P9", []).append(str(blow))
            if blow.place == "file":
                self.hit.setdefault("P10", []).append(str(blow))
        asked_then = len(self.world.queries())
        await self.daemon.start()
        await self.settled()
        after = audit(self.daemon.state, after=seq)
        label = f"{blow}, at {point}"
        events = [leaf["event"] for leaf in after]
        assert events.count("opened") == 1, f"{label}: {events}"
        assert sum(event in CONCLUDING for event in events) == 1, f"{label}: {events}"
        again = len(self.world.queries()) - asked_then
        concluded = any(leaf["event"] in CONCLUDING for leaf in before)
        assert again == (0 if concluded else 1), f"{label}: asked {again} times after the restart"
        attempts = [leaf["attempt"] for leaf in after if leaf["event"] == "asked"]
        begun = sum(leaf["event"] == "asked" for leaf in before)
        assert len(attempts) == begun + (not concluded), f"{label}: attempts {attempts}"
        assert {leaf["outcome"] for leaf in after if leaf["event"] in CONCLUDING} == {"answered"}
        if concluded:
            self._same_bytes(label, known, heard)

    async def _dies(self, place: str) -> bool:
        """A daemon whose ledger's process was killed ends by itself, and says that it failed."""
        assert self.daemon.process is not None
        code = EXIT_FAILED if place in FILES else -signal.SIGKILL
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEAD_WITHIN_S):
                return await self.daemon.process.wait() == code
        return False

    def _point(
        self, blow: Blow, ref: str, before: list[Leaf], heard: list[Heard], queries: int
    ) -> str:
        """Where it was when it died, by what the others know."""
        events = [leaf["event"] for leaf in before]
        mine = [each for each in heard if each.body.get("ref") == ref]
        parts = {each.body.get("part", 1) for each in mine if each.channel == "result"}
        most = max(
            (each.body.get("parts", 1) for each in mine if each.channel == "result"), default=0
        )
        if "opened" not in events:
            return "P0" if blow.call in {"read", "recvfrom"} else "P1"
        if "delivered" in events:
            return "end"
        if any(event in CONCLUDING for event in events):
            return "P6" if not parts else "P7" if len(parts) < most or blow.silent else "P8"
        if len(self.world.queries()) > queries:
            replied = {(each.check, each.attempt) for each in self.world.pnc.replies}
            last = self.world.queries()[-1]
            return "P5" if (last["check"], last["attempt"]) in replied else "P4"
        return "P3" if any(each.channel == "receipt" for each in mine) else "P2"

    def _same_bytes(self, label: str, known: list[Heard], since: int) -> None:
        """What was sent again after the outcome was on record is what was sent before; and once
        more at most for each part."""
        copies: dict[tuple[str, int], list[bytes]] = {}
        for each in self.officer.heard[since:]:
            if each.channel == "result":
                key = (each.body["short"], each.body.get("part", 1))
                copies.setdefault(key, []).append(each.raw)
        for (short, part), raws in copies.items():
            assert len(set(raws)) == 1, f"{label}: {short}/{part} has other bytes: {raws}"
            old = sum(_is(each, short, part) for each in known[since:])
            assert len(raws) - old <= 1, f"{label}: {short}/{part} came {len(raws) - old} times"

    async def settled(self) -> None:
        left: list[str] = ["not looked at"]
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                while left or len(self.officer.answered) < len(self.officer.questions()):
                    await asyncio.sleep(0.05)
                    state = self.daemon.state
                    e = self.world.evidence(state, audit(state))
                    left = unfinished(e, tables=tables(state))
        except TimeoutError:
            raise AssertionError(f"{left}; hit {self.hit}") from None


def _is(heard: Heard, short: str, part: int) -> bool:
    return (
        heard.channel == "result"
        and heard.body["short"] == short
        and heard.body.get("part", 1) == part
    )


async def _all_blows(folder: Path, issi: str) -> Trial:
    with mosquittos.running(folder / "broker", persistent=True) as broker:
        world = World(folder, broker.port)
        try:
            await world.open(**OPENED)
            trial = Trial(world, issi)
            await trial.measure()
            assert world.console is not None
            for blow in BLOWS[issi]:
                async with asyncio.timeout(SETTLE_WITHIN_S):
                    await world.console.connected.wait()
                    for radio in world.radios.values():
                        await radio.connected.wait()
                await trial.strike(blow)
            assert world.verdict() == []
            return trial
        finally:
            await world.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_killed_at_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P0 to P10: each blow falls where it must, and what follows is as section 3.1 has it. One
    world with a line and one with a broker, side by side."""
    require("strace")
    async with asyncio.TaskGroup() as group:
        tasks = []
        for issi in BLOWS:
            folder = tmp_path / issi
            await asyncio.to_thread(folder.mkdir)
            tasks.append(group.create_task(_all_blows(folder, issi)))
    for trial in (task.result() for task in tasks):
        with capsys.disabled():
            for point in sorted(trial.hit, key=lambda name: (len(name), name)):
                print(f"\n{trial.issi} {point}: {', '.join(trial.hit[point])}", end="")
            print(f"\nnot killed: {trial.missed}")
        assert {*POINTS, "P9", "P10"} <= trial.hit.keys()
        assert len(trial.missed) <= 2, trial.missed


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    require("strace")
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open(**OPENED)
        yield world
    finally:
        await world.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("where", "call"),
    [("heads", "write"), ("heads", "fsync"), ("anchor", "write"), ("anchor", "fsync")],
)
async def test_killed_while_a_head_is_published(
    world: World, where: str, call: str, tmp_path: Path
) -> None:
    """P11: at the stop a head is written behind the last commit, and leaves the host. Whether it
    came to be or not, no second one of that size has another hash, the chain goes on from it, and
    the anchor has the newest one after the next stop."""
    trial = Trial(world, BY_LINE)
    daemon = trial.daemon
    anchor = tmp_path / "mount" / "heads.jsonl"
    anchor.parent.mkdir()
    with daemon.config.open("a") as file:
        file.write(f'[[audit.anchors]]\nkind = "file"\npath = "{anchor}"\n')
    assert await daemon.stop() == 0  # so that the file is there
    await daemon.start()
    await trial.ask()
    await trial.settled()
    paths = [str(anchor)] if where == "anchor" else trial._paths("heads")
    blade = Strace(trial._pid(where), call, paths, 1)
    await blade.attach()
    os.kill(daemon.pid, signal.SIGTERM)
    assert await trial._dies(where), "it was not killed there"
    await blade.let_go()
    there = heads_said(daemon.state / "heads.jsonl", "gwt")
    last = audit(daemon.state)[-1]
    assert (last.seq in there) == ((where, call) != ("heads", "write"))
    outside = heads_said(anchor, "gwt")
    assert (last.seq in outside) == ((where, call) == ("anchor", "fsync"))
    await daemon.start()
    assert await daemon.stop() == 0
    now = heads_said(daemon.state / "heads.jsonl", "gwt")
    assert {seq: now[seq] for seq in there} == there
    assert len(now) > len(there)
    kept = heads_said(anchor, "gwt")
    assert kept.items() <= now.items(), "the anchor has what we have, and no other"
    assert max(kept) == max(now)
    assert outside.items() <= kept.items()
    code, said, errors = await command("audit", "verify", "--config", str(daemon.config))
    assert code == 0, said + errors
    assert world.verdict() == []
    known = {seq: hashes[0] for seq, hashes in now.items()}
    assert chain_faults(audit(daemon.state), known=known) == []


PURGER = """
import asyncio, sys
from pathlib import Path
from adapters.ledger import open_ledger
from gateway.app import SystemClock
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.fakes import FakeJournal, FakeMeter

async def main():
    store = await open_ledger(LedgerSection(), state_dir=Path(sys.argv[1]), instance="gwt",
        meter=FakeMeter(), journal=FakeJournal(), clock=SystemClock())
    if sys.argv[2] == "fill":
        records = [Record(event="opened", at_ms=1, content=b"TE99KWN" * 40)] * 100
        for _ in range(40):
            await store.commit(records)
    else:
        print(await store.purge(2), flush=True)
    await store.close()

asyncio.run(main())
"""
"""The ledger's writer in a process of its own: what the daemon's retention job calls."""


def _purger(folder: Path, what: str, *wrapper: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wrapper, sys.executable, "-c", PURGER, str(folder), what],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_in_a_purge(tmp_path: Path) -> None:
    """P12: each step is finished or undone, the chain verifies, and the next purge ends it: then
    nothing of the content is left in any file's bytes."""
    strace = require("strace")
    assert _purger(tmp_path, "fill").returncode == 0
    log = str(tmp_path / "ledger.db-wal")
    left = [len(contents(tmp_path))]
    for call, when in (
        ("pwrite64", 1),
        ("fdatasync", 1),
        ("pwrite64", 60),
        ("fdatasync", 3),
        ("fdatasync", 4),
    ):
        done = _purger(
            tmp_path, "purge", strace, "-f", "-qq", "-o", "/dev/null", "-P", log, "-e",
            f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}",
        )  # fmt: skip
        assert done.returncode != 0, f"{call} {when}: not killed: {done.stdout}"
        kept = contents(tmp_path)
        leaves = audit(tmp_path)
        assert chain_faults(leaves, contents=kept) == []
        gone = sum(
            int(found[1])
            for leaf in leaves
            if leaf["event"] == "purged" and (found := re.search(r"(\d+) items", leaf["detail"]))
        )
        assert left[0] - len(kept) == gone, "what is gone is on record, and what is not is there"
        left.append(len(kept))
    assert left[0] == 4000
    assert 0 < left[-1] < left[0], left
    done = _purger(tmp_path, "purge")
    assert (done.returncode, done.stdout.strip()) == (0, str(left[-1])), done.stderr
    assert chain_faults(audit(tmp_path), contents=contents(tmp_path)) == []
    for path in tmp_path.iterdir():
        assert b"TE99KWN" not in path.read_bytes(), path.name
