"""What shows of an answer to whoever watches the real thing: its bytes, its moment, who is told.

Exact and for every pair, in virtual time: tests/gateway/test_disclosure_pairs.py. Here the daemon
is a process, the broker a broker, and the clock runs.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.console import Console
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import canaries
from tests.system.officers import MqttOfficer
from tests.system.world import COUNCIL, World

WITHIN_S = 10.0

# --------------------------------------------------------------------------- covert

HIDDEN = (
    "OBSERVE_DO_NOT_ALERT",
    "DO NOT ALERT",
    "35NB/O/0022",
    "BLOCK",
    "35NB/B/0001",
    "OWNER OF THIS REPORT",
)
"""What is on record of TP22 and TE99BLK and may reach nobody but the audit."""


async def follow_feed(port: int, heard: list[bytes], ready: asyncio.Event) -> None:
    async with aiomqtt.Client("127.0.0.1", port, identifier="control-system") as client:
        await client.subscribe("feed/#", qos=1)
        ready.set()
        async for message in client.messages:
            heard.append(f"{message.topic} ".encode() + bytes(message.payload))


@pytest.mark.slow
async def test_what_is_covert_reaches_the_supervisor_and_nobody_else(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """A person to observe and a report not to be passed over the air: nothing at the terminal, the
    operator's console, the feed, the journal, the metrics and the history; and at the console of a
    supervisor an alarm that names the check, within a second of its answer."""
    world = World(tmp_path, mosquitto.port)
    feed: list[bytes] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        await world.open()
        daemon, operator = world.daemon, world.console
        assert daemon is not None
        assert operator is not None
        supervisor, ready = Console(daemon.url, who="sup-1"), asyncio.Event()
        tasks = [
            asyncio.create_task(supervisor.run(), name="supervisor"),
            asyncio.create_task(follow_feed(mosquitto.port, feed, ready), name="feed"),
        ]
        async with asyncio.timeout(WITHIN_S):
            await supervisor.connected.wait()
            await ready.wait()
        radio = world.radios["5001006"]
        person = {"surname": "TESTER", "forenames": "COVERT", "dob": "1980-07-19"}
        refs = [
            await radio.ask(kind="person", reason="1", **person),
            await radio.ask(kind="vehicle", reason="1", vrm="TE99BLK"),
        ]
        shorts = []
        for ref in refs:
            result = await radio.until(lambda r=ref: radio.result(r), WITHIN_S)
            assert result["outcome"] == "answered"
            shorts.append(result["short"])
        # Counted in the stream's own heartbeats rather than in seconds of a loaded machine.
        for short in shorts:
            await until(
                lambda s=short: any(
                    each["rule"] == "COV" and each["subj"].get("ref") == s
                    for each in supervisor.of("alarm")
                )
            )
            await until(lambda s=short: any(e["ref"] == s for e in operator.of("check.done")))
        told = [each for each in supervisor.of("alarm") if each["rule"] == "COV"]
        done = {each["ref"]: each["t"] for each in supervisor.of("check.done")}
        for alarm in told:
            assert alarm["t"] - done[alarm["subj"]["ref"]] < 1.0
        metrics = (await daemon.get("/metrics", "ops-1"))[1]
        picture = await daemon.snapshot()
        assert await daemon.stop() == 0
        outputs = {
            "the terminal": b"\n".join(each.raw for each in radio.heard),
            "the operator": json.dumps(operator.events).encode(),
            "the snapshot": json.dumps(picture["checks"] + picture["alarms"]).encode(),
            "the feed": b"\n".join(feed),
            "the journal": daemon.output.read_bytes(),
            "metrics": metrics,
            "history": b"".join(each.read_bytes() for each in daemon.state.glob("history*")),
        }
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await world.close()
    assert b"check.done" in outputs["history"]
    assert b'"done"' in outputs["the feed"]
    # Every rule has a row from the start: this one's stays at nothing.
    assert re.findall(rb'rule="COV"[^\n]*} [^0\n]', outputs.pop("metrics")) == []
    words = [*canaries(HIDDEN), b'"COV"']
    for name, said in outputs.items():
        found = [word for word in words if word in said]
        assert found == [], f"{name}: {found}"
    assert canaries(HIDDEN)[0] not in json.dumps(supervisor.events).encode()


# --------------------------------------------------------------------------- told apart

ALPHA = 1e-4
BATCHES = 3
PERMUTATIONS = 20_000
"""As many as it takes to say 1e-4."""
EACH_S = 0.03
TRACE_S = 0.08
"""So much longer the PNC takes over somebody who is on record."""
SEEN_S = 0.4
"""For the test that the test sees, on a machine that is busy with other things, too."""
SLOWER = """
import asyncio
from adapters.pnc.mock import MockPnc

real = MockPnc.query

async def query(self, query, *also):
    self._latency = None
    answer = await real(self, query, *also)
    await asyncio.sleep(TRACE_S if answer.records else 0)
    return answer

MockPnc.query = query
"""
NOT_ON_RECORD = {"surname": "TESTER", "forenames": "NOBODY", "dob": "1971-01-01"}
ON_RECORD = {"surname": "TESTER", "forenames": "CLEAN", "dob": "1980-02-02"}


def permuted_p(one: list[float], other: list[float], chance: random.Random) -> float:
    """How often chance alone puts the means so far apart."""
    every, size = one + other, len(one)
    total = sum(every)

    def apart(part: float) -> float:
        return abs(part / size - (total - part) / (len(every) - size))

    seen = apart(sum(one))
    reached = sum(
        apart(sum(chance.sample(every, size))) >= seen - 1e-12 for _ in range(PERMUTATIONS)
    )
    return (reached + 1) / (PERMUTATIONS + 1)


def kolmogorov_p(one: list[float], other: list[float]) -> float:
    """Two samples, asymptotically."""
    ours, theirs = sorted(one), sorted(other)
    gap, i, j = 0.0, 0, 0
    while i < len(ours) and j < len(theirs):
        at = min(ours[i], theirs[j])
        while i < len(ours) and ours[i] <= at:
            i += 1
        while j < len(theirs) and theirs[j] <= at:
            j += 1
        gap = max(gap, abs(i / len(ours) - j / len(theirs)))
    root = math.sqrt(len(ours) * len(theirs) / (len(ours) + len(theirs)))
    way = (root + 0.12 + 0.11 / root) * gap
    if way < 0.2:
        return 1.0
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * way) ** 2) for k in range(1, 101)))


def tells(batches: list[tuple[list[float], list[float]]]) -> int:
    """In how many batches the two sides are told apart by either test."""
    chance = random.Random(5)
    return sum(
        min(permuted_p(one, other, chance), kolmogorov_p(one, other)) < ALPHA
        for one, other in batches
    )


def _unmarked(raw: bytes, body: dict[str, Any]) -> bytes:
    """An answer without what names the one question or its moment."""
    for name in ("ref", "check", "short", "receipt", "as_of"):
        raw = raw.replace(str(body[name]).encode(), b"*")
    return re.sub(rb"[0-9]{4}Z|[0-9]{2}:[0-9]{2}", b"AT", raw)


async def asked_at_random(
    folder: Path, port: int, slots_s: list[float], each: int, trace_s: float
) -> tuple[list[tuple[list[float], list[float]]], list[set[bytes]]]:
    """Seconds to the answer of each question, by side, in batches; and what was answered."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(f"TRACE_S = {trace_s}\n{SLOWER}")
    daemon = Daemon(
        folder,
        broker=port,
        checks={"deadline_s": 6.0, "per_terminal_open": 64, "concurrency": 64},
        sections={"slots": {"below_l3_s": slots_s}},
        environ={"PYTHONPATH": f"{folder / 'site'}:{ROOT}"},
    )
    radio = MqttOfficer(COUNCIL, port)
    running = asyncio.create_task(radio.run(), name="officer")
    chance = random.Random(11)
    batches: list[tuple[list[float], list[float]]] = []
    bytes_of: list[set[bytes]] = [set(), set()]
    try:
        await daemon.start()
        async with asyncio.timeout(WITHIN_S):
            await radio.connected.wait()
        await asyncio.sleep(0.5)
        for _ in range(BATCHES):
            sides = [0] * each + [1] * each
            chance.shuffle(sides)
            refs = []
            for side in sides:
                said = ON_RECORD if side else NOT_ON_RECORD
                refs.append(await radio.ask(kind="person", reason="8", **said))
                await asyncio.sleep(EACH_S)
            await radio.until(lambda r=refs: radio.answered.issuperset(r), 3 * WITHIN_S)
            asked_s = radio.asked_at_s()
            heard = {h.body["ref"]: h for h in reversed(radio.heard) if h.channel == "result"}
            batch: tuple[list[float], list[float]] = ([], [])
            for ref, side in zip(refs, sides, strict=True):
                batch[side].append(heard[ref].at_s - asked_s[ref])
                bytes_of[side].add(_unmarked(heard[ref].raw, heard[ref].body))
            batches.append(batch)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await daemon.close()
    return batches, bytes_of


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nobody_can_tell_who_is_on_record(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A council officer's radio: somebody on record, of whom nothing matters, and nobody. The bytes
    are the same, and neither the means nor the distributions of the times are told apart in two of
    three batches."""
    slots_s = [round(0.8 + 0.4 * number, 1) for number in range(12)]
    batches, said = await asked_at_random(tmp_path, mosquitto.port, slots_s, 60, TRACE_S)
    assert said[0] == said[1]
    assert len(said[0]) == 1
    assert tells(batches) < 2, batches


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_without_slots_it_is_told(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The test above can see: the same questions without slots are told apart in every batch."""
    batches, _ = await asked_at_random(tmp_path, mosquitto.port, [], 20, SEEN_S)
    assert tells(batches) == BATCHES


def test_the_tests_of_the_test() -> None:
    """Two of the same are not told apart; two that differ are, by their means or their shape."""
    chance = random.Random(3)
    same = ([chance.gauss(1, 0.02) for _ in range(80)], [chance.gauss(1, 0.02) for _ in range(80)])
    later = (same[0], [each + 0.02 for each in same[1]])
    wider = (same[0], [1 + (each - 1) * 8 for each in same[1]])
    assert kolmogorov_p(*same) > ALPHA
    assert kolmogorov_p(*later) < ALPHA
    assert kolmogorov_p(*wider) < ALPHA
    few = random.Random(4)
    assert permuted_p(same[0][:40], same[1][:40], few) > ALPHA
    assert permuted_p(later[0][:40], later[1][:40], few) < ALPHA
