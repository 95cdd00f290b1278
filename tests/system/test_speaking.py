"""Are you free to speak, and who lets it go: over a real line, a real broker and the real API, with
the policy as it is shipped.

Each test ends in the join of the four records (ledgers.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT, until
from tests.system.ledgers import audit
from tests.system.officers import Officer
from tests.system.world import COUNCIL, World

WITHIN_S = 10.0
TETRA = "5001005"
"""N-201 of the fleet file: 73 bytes a message."""
TED = "N TESTER/TED/12041986/M R1"
PERSON = {"surname": "TESTER", "forenames": "WANDA", "dob": "1988-06-06", "sex": "F"}


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    """As shipped: persons at L3 are prompted for, the council's persons are held."""
    (tmp_path / "policy.toml").write_text((ROOT / "config" / "policy.toml").read_text("utf-8"))
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open(mqtt=(TETRA, COUNCIL))
        yield world
    finally:
        await world.close()


def notice(officer: Officer, kind: str, words: str) -> dict[str, Any] | None:
    """A notice of this kind, or of this text where the bearer has no kinds."""
    return next(
        (
            each.body
            for each in officer.heard
            if each.channel == "notice"
            and each.body.get("kind", kind) == kind
            and words in each.body["text"]
        ),
        None,
    )


def of(world: World, event: str) -> list[Any]:
    assert world.daemon is not None
    return [leaf for leaf in audit(world.daemon.state) if leaf["event"] == event]


@pytest.mark.slow
async def test_danger_words_at_once_and_the_rest_when_free(world: World) -> None:
    """On a line and over MQTT, to a device of 73 bytes; killed before the officer is free."""
    line, tetra = world.lines["5001001"], world.radios[TETRA]
    number = line.ask(TED)
    asked = await line.until(lambda: notice(line, "waiting", "ACK 15"), WITHIN_S)
    assert "!!WEAPONS" in asked["text"]
    assert "VIOLENT" in asked["text"]
    ref = await tetra.ask(kind="person", **PERSON, reason="1")
    asked = await tetra.until(lambda: notice(tetra, "waiting", "ACK 15"), WITHIN_S)
    assert asked["danger"]
    assert all(word.split()[0] in asked["text"] for word in asked["danger"])
    assert len(asked["text"].encode()) <= 73
    assert (line.parts(number), tetra.result(ref)) == ([], None)
    await until(lambda: len(of(world, "disclosed")) == 2)
    assert {leaf["detail"] for leaf in of(world, "disclosed")} == {"with the prompt"}

    assert world.daemon is not None
    await world.daemon.kill()
    await world.daemon.start()
    line.say("#S 15")
    parts = await line.until(lambda: line.parts(number), 3 * WITHIN_S)
    assert parts[0]["text"].startswith("!!WEAPONS")
    await until(lambda: tetra.connected.is_set())
    await tetra.say("status", {"code": 15})
    result = await tetra.until(lambda: tetra.result(ref), 3 * WITHIN_S)
    assert result["level"] == "L3"
    assert len(of(world, "disclosed")) == 4
    assert world.verdict() == []


@pytest.mark.slow
async def test_what_is_held_is_read_and_released_over_the_api(world: World) -> None:
    """Read, then killed, then released: the council officer gets the tier, on record with who."""
    council = world.radios[COUNCIL]
    ref = await council.ask(kind="person", **PERSON, reason="8", justification="FLY TIPPING SEEN")
    await council.until(lambda: notice(council, "held", "WITH CONTROL"), WITHIN_S)
    daemon = world.daemon
    assert daemon is not None
    status, body = await daemon.get("/api/v1/releases")
    assert status == 200
    (waits,) = json.loads(body)["releases"]
    assert (waits["level"], waits["state"]) == ("L1", "held")
    path = f"/api/v1/releases/{waits['id']}"
    status, body = await daemon.get(path)
    read = json.loads(body)
    assert status == 200
    assert "SAFETY: CAUTION+" in read["levels"]["L1"][0]
    assert "WANTED" in str(read["whole"])
    assert len(of(world, "shown")) == 1

    await daemon.kill()
    await daemon.start()
    status, said = await daemon.post(path, {"act": "amend", "level": "L2"}, "k1")
    assert (status, council.result(ref)) == (409, None)
    status, said = await daemon.post(path, {"act": "release"}, "k2")
    assert (status, said["state"], said["by"]) == (200, "released", "op-1")
    result = await council.until(lambda: council.result(ref), 3 * WITHIN_S)
    assert result["pages"][0].startswith("SAFETY: CAUTION+")
    (released,) = of(world, "released")
    assert (released["operator"], released["level"]) == ("op-1", "L1")
    late = {"act": "refuse", "why": "LATE"}
    status, said = await daemon.post(path, late, "k3", who="sup-1")
    assert (status, said["title"]) == (409, "RELEASED BY OP-1")
    assert world.verdict() == []


@pytest.mark.slow
async def test_an_operator_asks_for_an_officer_over_the_api(world: World) -> None:
    """One consultation; the line gets its officer's answer, the operator theirs."""
    daemon, line = world.daemon, world.lines["5001001"]
    assert daemon is not None
    body = {"requester": "5001001", "text": "V TE99STV R1"}
    for _ in range(2):
        status, made = await daemon.post("/api/v1/checks", body, "k1")
        assert (status, made["refused"]) == (200, "")
    await line.until(lambda: [h for h in line.heard if h.channel == "result"], WITHIN_S)
    status, raw = await daemon.get(f"/api/v1/checks/{made['ref']}/answer")
    assert status == 200
    assert "STOLEN" in json.loads(raw)["pages"][0]
    assert len(of(world, "asked")) == 1
    assert {leaf["operator"] for leaf in audit(daemon.state) if leaf["check"]} == {"op-1"}
    assert [leaf["recipient"] for leaf in of(world, "shown")] == ["operator:op-1"]
    assert len(of(world, "disclosed")) == 1
