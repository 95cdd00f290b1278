"""`kill -9` under load, again and again: nothing receipted is lost, nothing has two answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import aiomqtt
import pytest

from tests.chain import Leaf, tables
from tests.services import mosquitto
from tests.system.bounds import Sampler, changes, spilled, unfinished
from tests.system.daemon import Daemon
from tests.system.ledgers import Evidence, audit, promises
from tests.system.officers import LineOfficer, MqttOfficer
from tests.system.shown import lives
from tests.system.world import COUNCIL, SERIAL, World

WORLDS = 2
"""Side by side: a start keeps one core busy, and there are two."""
KILLS = 102
"""In each of them."""
IN_THE_START = 0.35
"""How many of the kills fall into a start, before it can serve."""
ALL_UP = 0.5
"""Before how many of the others every link is up."""
ALL_UP_WITHIN_S = 30.0
BARE_EVERY = 12
"""A daemon without a past is started so often, to know what this machine needs for that now."""
SEED = 20261127
VEHICLES = ("TE99AAB", "TE99ABC", "TE99STV", "TE99AAA", "TE99NNS", "TE99KWN", "ER99ERR", "ER99SLW")
PERSONS = (("TESTER", "WANDA", "1988-06-06", "F"), ("TESTER", "NORA", "1970-01-01", "F"))
SETTLE_WITHIN_S = 60.0
OPEN_MOST = 6
RESEND_S = 4.0
"""On a busy machine a start takes as long; what is said again meanwhile waits in the broker too."""
RATIO_MOST = 4.0
"""Ready again with a past and links, against a bare start on this machine in these minutes."""
CPU_MOST_S = 2.0
"""A start that needs more than this of a core cannot be ready in 2 s on any machine like this."""
CAPS = {"rss_mib": 250.0, "descriptors": 80.0, "threads": 24.0}


class Storm:
    """One world under mixed load whose daemon is killed again and again."""

    def __init__(self, folder: Path, broker: int, seed: int) -> None:
        self.folder = folder
        self.world = World(folder, broker)
        self.ready_s: list[float] = []
        self.ready_cpu_s: list[float] = []
        self.bare_s: list[float] = []
        self.started = self.served = self.stopped = 0
        self.said_early: list[str] = []
        self.sampler = Sampler(self._pid)
        self._chance = random.Random(seed)
        self._asked: dict[str, set[str]] = defaultdict(set)
        self._place = 52_500_000
        self._leaves: list[Leaf] = []

    @property
    def daemon(self) -> Daemon:
        assert self.world.daemon is not None
        return self.world.daemon

    def _pid(self) -> int:
        process = self.daemon.process
        return process.pid if process is not None and process.returncode is None else 0

    # ----------------------------------------------------------------- load

    async def load(self) -> None:
        """Until cancelled: checks, repeats, fixes, calls for help, over both bearers."""
        while True:
            for line in self.world.lines.values():
                self._line(line)
            for radio in self.world.radios.values():
                with contextlib.suppress(aiomqtt.MqttError):
                    await self._radio(radio)
            await asyncio.sleep(self._chance.uniform(0.05, 0.2))

    def _line(self, officer: LineOfficer) -> None:
        chance = self._chance
        if self._patient(officer.issi, officer.answered):
            text = f"V {chance.choice(VEHICLES)} R{chance.randint(1, 6)}"
            self._asked[officer.issi].add(officer.ask(text))
        if chance.random() < 0.1:  # the same text once more: not heard, or not believed
            questions = [raw for _, _, raw in officer.sent[-8:] if raw.startswith(b"V ")]
            if questions:
                officer.say(chance.choice(questions).decode().strip())
        if chance.random() < 0.3:
            officer.fix(self._step(), -243_100)
        if chance.random() < 0.02:
            officer.say("#S 0")

    async def _radio(self, radio: MqttOfficer) -> None:
        chance = self._chance
        if self._patient(radio.issi, radio.answered):
            reason = "8" if radio.issi == COUNCIL else str(chance.randint(1, 6))
            if chance.random() < 0.2:
                surname, forenames, dob, sex = chance.choice(PERSONS)
                names = {"surname": surname, "forenames": forenames, "dob": dob, "sex": sex}
                ref = await radio.ask(kind="person", reason=reason, **names)
            else:
                vrm = chance.choice(VEHICLES)
                ref = await radio.ask(kind="vehicle", vrm=vrm, reason=reason)
            self._asked[radio.issi].add(ref)
        if chance.random() < 0.1:
            questions = [raw for _, channel, raw in radio.sent[-12:] if channel == "check"]
            if questions:
                await radio.say("check", chance.choice(questions))
        if chance.random() < 0.3:
            await radio.fix(self._step(), -243_100)
        if chance.random() < 0.01:
            await radio.emergency()
        if chance.random() < 0.1 and (
            done := [h for h in radio.heard[-4:] if h.channel == "result"]
        ):
            await radio.say("ack", {"check": done[0].body["check"], "part": 1, "state": "read"})

    def _patient(self, issi: str, answered: set[str]) -> bool:
        """Nobody has more than so many questions open: beyond, answers may be given up."""
        self._asked[issi] -= answered
        return len(self._asked[issi]) < OPEN_MOST

    def _step(self) -> int:
        self._place += 10
        return self._place

    # ----------------------------------------------------------------- kills

    async def kills(self) -> None:
        for number in range(KILLS):
            if number % BARE_EVERY == 0 and number:
                await self._bare()
            await self._start()
            if number and self._chance.random() < IN_THE_START:
                usual_s = statistics.median(self.ready_s[-9:])
                await asyncio.sleep(self._chance.uniform(0.0, usual_s))
            else:
                await self._ready()
                if self._chance.random() < ALL_UP:
                    await self._all_up()
                await asyncio.sleep(self._chance.uniform(0.0, 0.3))
            await self.daemon.kill()
            self._look()
        await self._start()
        await self._ready()

    async def _start(self) -> None:
        self.started += 1
        self._at_s = time.monotonic()
        await self.daemon.start(wait=False)

    async def _ready(self) -> None:
        await self.daemon.ready()
        self.ready_s.append(time.monotonic() - self._at_s)
        self.ready_cpu_s.append(_cpu_s(self.daemon.pid))
        self.served += 1

    async def _all_up(self) -> None:
        """It serves as soon as one link is up; the broker's takes a moment more."""
        async with asyncio.timeout(ALL_UP_WITHIN_S):
            while True:
                with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                    if all(link["state"] == "up" for link in await self._links()):
                        return
                await asyncio.sleep(0.05)

    async def _links(self) -> list[dict[str, Any]]:
        """The bearers. One that has not said anything yet is in no snapshot; and the PNC's circuit,
        which is, closes again with the next question only."""
        told = {link["id"]: link for link in (await self.daemon.snapshot())["links"]}
        return [told.get(name, {"id": name, "state": "silent"}) for name in (*SERIAL, "mqtt")]

    async def _bare(self) -> None:
        folder = self.folder / f"bare-{len(self.bare_s)}"
        await asyncio.to_thread(folder.mkdir)
        bare = Daemon(folder)
        try:
            at_s = time.monotonic()
            await bare.start()
            self.bare_s.append(time.monotonic() - at_s)
        finally:
            await bare.close()

    def _look(self) -> None:
        """In the moment of death: nothing was said or asked that is not in the file as it lies."""
        after = self._leaves[-1].seq if self._leaves else 0
        self._leaves += audit(self.daemon.state, after=after)
        e = self.world.evidence(self.daemon.state, self._leaves)
        self.said_early += promises(e)

    # ----------------------------------------------------------------- afterwards

    def evidence(self) -> Evidence:
        return self.world.evidence(self.daemon.state)

    async def settle(self) -> None:
        """Everything ends: each check, each answer that waits, each link (I14)."""
        left: list[str] = ["not looked at"]
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                while left:
                    await asyncio.sleep(0.5)
                    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                        links = await self._links()
                        left = unfinished(
                            self.evidence(), tables=tables(self.daemon.state), links=links
                        )
        except TimeoutError:
            raise AssertionError(f"after {SETTLE_WITHIN_S:g} s: {left[:20]}") from None
        for line in self.world.lines.values():
            line.fix(self._step(), -243_100)
        for radio in self.world.radios.values():
            await radio.fix(self._step(), -243_100)
        await asyncio.sleep(2.0)  # whatever would still come late must have its chance to

    async def end(self) -> list[str]:
        """Stop, start and stop without traffic; what that changed (I19)."""
        assert await self.daemon.stop() == 0
        before = tables(self.daemon.state)
        self.started, self.served = self.started + 1, self.served + 1
        await self.daemon.start()
        assert await self.daemon.stop() == 0
        self.stopped += 2
        return changes(before, tables(self.daemon.state))

    def spilled(self) -> list[str]:
        """Marks, names and identities in what ops can read (I12)."""
        words = [*VEHICLES, "WANDA", "NORA", *self.world.lines, *self.world.radios]
        outputs = {
            "journal": self.daemon.output.read_bytes(),
            "stderr": self.daemon.errors.read_bytes(),
        }
        return spilled(outputs, words)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_kills_under_load_leave_every_invariant_standing(
    tmp_path: Path, record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    """At random moments, of a start as well, over serial and MQTT; the four records are joined, at
    each death (nothing was said before its record) and at the end (everything)."""
    async with asyncio.TaskGroup() as group:
        storms = [
            group.create_task(_one(tmp_path / str(number), SEED + number))
            for number in range(WORLDS)
        ]
    done = [task.result() for task in storms]
    ready_s = sorted(value for storm in done for value in storm.ready_s)
    cpu_s = sorted(value for storm in done for value in storm.ready_cpu_s)
    bare_s = sorted(value for storm in done for value in storm.bare_s)
    figures = {
        "kills": WORLDS * KILLS,
        "ready again s, p50": round(statistics.median(ready_s), 2),
        "ready again s, p99": round(ready_s[len(ready_s) * 99 // 100], 2),
        "of a core s, p50": round(statistics.median(cpu_s), 2),
        "of a core s, p99": round(cpu_s[len(cpu_s) * 99 // 100], 2),
        "bare start s, p50": round(statistics.median(bare_s), 2),
        "checks": sum(len(storm.evidence().by_check) for storm in done),
        "queries": sum(len(storm.world.pnc.queries) for storm in done),
        "heard": sum(len(officer.heard) for storm in done for officer in storm.world.officers),
        "rss MiB at most": round(max(storm.sampler.peaks["rss_mib"] for storm in done)),
        "descriptors at most": round(max(storm.sampler.peaks["descriptors"] for storm in done)),
    }
    for name, value in figures.items():
        record_property(name, value)
    with capsys.disabled():
        print(f"\nkilled: {figures}")
    assert len(ready_s) > WORLDS * KILLS / 2
    # The target is 2 s at the 99th percentile. A machine that is busy otherwise misses it also
    # without a past, so the verdict is against that, and on what a start needs of a core.
    assert statistics.median(ready_s) < RATIO_MOST * statistics.median(bare_s)
    assert statistics.median(cpu_s) < CPU_MOST_S


def _cpu_s(pid: int) -> float:
    """What a process has had of a core: its start, whatever else the machine was doing."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def _one(folder: Path, seed: int) -> Storm:
    await asyncio.to_thread(folder.mkdir)
    # It is not killed, so it need not save: with `autosave_on_changes` a broker writes everything
    # that waits for the gateway at each change, and is soon the slowest of all.
    with mosquitto.running(folder / "broker") as broker:
        storm = Storm(folder, broker.port, seed)
        world = storm.world
        try:
            await world.open(checks={"deadline_s": 8.0, "per_terminal_open": 64})
            storm.started = storm.served = 1
            for officer in world.officers:
                officer.resend_s = RESEND_S
            sampling = asyncio.create_task(storm.sampler.run(), name="sampler")
            loading = asyncio.create_task(storm.load(), name="load")
            try:
                await asyncio.sleep(0.5)
                await storm.daemon.kill()
                await storm.kills()
            finally:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
            await storm.settle()
            sampling.cancel()
            assert storm.said_early == [], "\n".join(storm.said_early[:20])
            faults = [*world.verdict(), *storm.sampler.faults(**CAPS), *storm.spilled()]
            assert faults == [], "\n".join(faults[:20])
            assert await storm.end() == []
            e = storm.evidence()
            assert lives(e, started=storm.started, ready=storm.served, stopped=2) == []
            assert len(e.by_check) > 2 * KILLS, "too little load to prove anything"
            assert len(e.queries) > 2 * KILLS
            assert sum(leaf["event"] == "emergency" for leaf in e.leaves) > 0
            assert sum(leaf["event"] == "duplicate" for leaf in e.leaves) > 0
            return storm
        finally:
            await world.close()
