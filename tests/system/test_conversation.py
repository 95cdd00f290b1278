"""The main job over real things: real broker, real PTYs, real HTTP, the daemon as a process.

Each test ends in the join of the four records (ledgers.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.bounds import unheard
from tests.system.console import Console
from tests.system.daemon import Daemon, until
from tests.system.ledgers import audit
from tests.system.officers import LineOfficer, MqttOfficer
from tests.system.on_record import REVOKED_WITHIN_S
from tests.system.shown import faults_seen
from tests.system.test_tools import command
from tests.system.world import COUNCIL, World

WITHIN_S = 10.0


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open()
        yield world
    finally:
        await world.close()


async def test_a_stolen_vehicle_over_a_serial_line(world: World) -> None:
    """SENT, then danger first, on the radio; stage and outcome on the feed; all of it on record."""
    officer = world.lines["5001001"]
    number = officer.ask("V TE99STV R1 LBRIDGE.ST")
    receipt = await officer.until(lambda: officer.receipt(number), WITHIN_S)
    parts = await officer.until(lambda: officer.parts(number), WITHIN_S)
    assert parts[0]["text"].startswith("!!STOLEN")
    assert "VIOLENT" in parts[0]["text"]
    assert parts[0]["short"] == receipt["short"]
    assert all(len(part["text"]) <= 140 for part in parts)
    assert world.daemon is not None
    assert world.console is not None
    console, state = world.console, world.daemon.state
    await until(lambda: any(e["ref"] == receipt["short"] for e in console.of("check.done")))
    await until(lambda: [e for e in console.of("check.delivery") if e["state"] == "delivered"])
    await until(lambda: "delivered" in [leaf["event"] for leaf in audit(state)])
    events = [leaf["event"] for leaf in audit(state) if leaf["check"]]
    assert events == ["opened", "asked", "answered", "disclosed", "delivered"]
    assert world.verdict() == []

    # And what its receipt proves, to whoever asks for it later.
    [given] = {leaf["receipt"] for leaf in audit(state) if leaf["receipt"]}
    assert await world.daemon.stop() == 0
    show = ("audit", "show", given.lower(), "--config", str(world.daemon.config))
    code, out, errors = await command(*show, "--purpose", "lawfulness", "--by", "auditor-1")
    assert code == 0, errors
    says, proof = out.split("\n\n", 1)
    proved = json.loads(proof)
    assert says == proved["says"]
    assert proved["question"]["said"]["key"] == "VRM:TE99STV"
    texts = zip(proved["shown"][0]["texts"], parts, strict=True)
    assert all(shown.endswith(part["text"]) for shown, part in texts)
    assert [step["event"] for step in proved["records"]] == events
    assert all(step["head"] for step in proved["records"])
    looked = audit(state)[-1]
    assert (looked["event"], looked["operator"]) == ("export", "cli:auditor-1")
    assert looked["detail"] == f"lawfulness: receipt {given}"


async def test_a_wanted_person_over_mqtt_and_no_trace(world: World) -> None:
    """JSON in, receipt and result out; NO TRACE is an answer and says NOT PROOF OF ID."""
    radio = world.radios["5001006"]
    wanted = await radio.ask(
        kind="person", surname="TESTER", forenames="WANDA", dob="1988-06-06", sex="F", reason="1"
    )
    nobody = await radio.ask(
        kind="person", surname="TESTER", forenames="NORA", dob="1970-01-01", sex="F", reason="6"
    )
    hit = await radio.until(lambda: radio.result(wanted), WITHIN_S)
    assert hit["outcome"] == "answered"
    assert hit["class"] == "HIT_WANTED"
    assert hit["pages"][0].startswith("!!WANTED")
    clear = await radio.until(lambda: radio.result(nobody), WITHIN_S)
    assert clear["class"] == "NO_TRACE"
    assert clear["pages"][0].splitlines()[0] == "NO TRACE"
    assert "NOT PROOF OF ID" in clear["pages"][0]
    receipt = radio.receipt(wanted)
    assert receipt is not None
    assert receipt["accepted"] is True
    assert receipt["check"] == hit["check"]
    assert world.verdict() == []


async def test_no_answer_is_never_no_trace(world: World) -> None:
    """A PNC that hangs is `expired`, one that errs is `failed`; both read NO ANSWER."""
    radio = world.radios["5001002"]
    silent = await radio.ask(kind="vehicle", vrm="ER99TMT", reason="1")
    broken = await radio.ask(kind="vehicle", vrm="ER99GBG", reason="1")
    failed = await radio.until(lambda: radio.result(broken), WITHIN_S)
    expired = await radio.until(lambda: radio.result(silent), WITHIN_S)
    assert failed["outcome"] == "failed"
    assert expired["outcome"] == "expired"
    for result in (failed, expired):
        shown = "\n".join(result["pages"])
        assert shown.startswith("??NO ANSWER")
        assert "TREAT AS UNKNOWN" in shown
        assert "NO TRACE" not in shown
        assert result.get("danger") == []
    assert world.verdict() == []


async def test_another_questions_reply_is_shown_to_nobody(world: World) -> None:
    """The echo of another key: `failed`, and a security record or journal line."""
    radio = world.radios["5001002"]
    ref = await radio.ask(kind="vehicle", vrm="ER99ECH", reason="1")
    result = await radio.until(lambda: radio.result(ref), WITHIN_S)
    assert result["outcome"] == "failed"
    assert world.verdict() == []


async def test_council_sees_a_tier_and_no_existence(world: World) -> None:
    """L1: a wanted person and an unknown one differ in the tier alone; no class, no identity."""
    radio = world.radios[COUNCIL]
    nobody = await radio.ask(
        kind="person", surname="TESTER", forenames="NORA", dob="1970-01-01", sex="F", reason="8"
    )
    clean = await radio.ask(
        kind="person", surname="TESTER", forenames="CLEAN", dob="1980-02-02", sex="M", reason="8"
    )
    first = await radio.until(lambda: radio.result(nobody), WITHIN_S)
    second = await radio.until(lambda: radio.result(clean), WITHIN_S)
    for result in (first, second):
        assert result["level"] == "L1"
        assert "class" not in result
        assert result["pages"][0].startswith("SAFETY: CLEAR")
    shown = [result["pages"][0].splitlines()[:3] for result in (first, second)]
    assert shown[0] == shown[1]
    assert world.verdict() == []


async def test_a_refusal_is_spoken_recorded_and_never_asked(world: World) -> None:
    """Without a reason no enquiry is made; the officer reads what to do; it is on record."""
    officer = world.lines["5001001"]
    officer.say("V TE99ABC Q77")
    parts = await officer.until(lambda: officer.parts("77"), WITHIN_S)
    assert parts[0]["text"].startswith("XXREFUSED")
    assert "GIVE REASON" in parts[0]["text"]
    assert world.queries() == []
    assert world.daemon is not None
    state = world.daemon.state
    await until(lambda: "refused" in [leaf["event"] for leaf in audit(state)])
    assert world.verdict() == []


async def test_a_duplicate_gets_the_stored_answer_and_asks_nothing(world: World) -> None:
    """Same (issi, ref, t) and content: the same check; the PNC is asked once."""
    radio = world.radios["5001003"]
    t = "2026-11-22T10:15:02.114Z"
    body = {"kind": "vehicle", "vrm": "TE99ABC", "reason": "1", "ref": "dup-1"}
    first = await radio.ask(**body)
    result = await radio.until(lambda: radio.result(first), WITHIN_S)
    raw = next(raw for _, channel, raw in radio.sent if channel == "check")
    for _ in range(3):
        await radio.say("check", raw)
    await radio.until(lambda: sum(h.channel == "result" for h in radio.heard) >= 4, WITHIN_S)
    assert len([q for q in world.queries() if q["check"] == result["check"]]) == 1
    old = await radio.ask(**{**body, "ref": "old-1", "t": t})
    expired = await radio.until(lambda: radio.result(old), WITHIN_S)
    assert expired["outcome"] == "expired"
    assert all(q["check"] != expired["check"] for q in world.queries())
    assert world.verdict() == []


async def test_emergency_is_on_the_feed_and_is_acknowledged_and_closed(world: World) -> None:
    """Status 0: `unit.emergency` and an alarm on the page's stream; ack and close over the API."""
    assert world.console is not None
    assert world.daemon is not None
    console, daemon = world.console, world.daemon
    await world.radios["5001003"].say("status", {"code": 0})
    await until(lambda: console.of("unit.emergency"))
    assert console.of("unit.emergency")[0]["on"] is True
    await until(lambda: any(e["rule"] == "EMG" for e in console.of("alarm")))
    alarm = next(e for e in console.of("alarm") if e["rule"] == "EMG")
    status, body = await daemon.post(f"/api/v1/alarms/{alarm['id']}/ack", {}, "k1", "op-1")
    assert (status, body["state"]) == (200, "ack-active")
    # It is raised again after a crash, as it stood.
    await daemon.kill()
    await daemon.start()
    alarms = (await daemon.snapshot())["alarms"]
    assert [(a["id"], a["state"]) for a in alarms if a["rule"] == "EMG"] == [
        (alarm["id"], "ack-active")
    ]
    status, body = await daemon.post(f"/api/v1/alarms/{alarm['id']}/close", {}, "k2", "op-2")
    assert (status, body["state"]) == (200, "cleared")
    assert [a for a in (await daemon.snapshot())["alarms"] if a["rule"] == "EMG"] == []
    assert world.verdict() == []


async def test_a_radio_unplugged_and_back(world: World) -> None:
    """Link down is an event; the check in flight ends; its answer waits and is delivered."""
    assert world.console is not None
    officer, console = world.lines["5001010"], world.console
    number = officer.ask("V ER99SLW R2")
    await officer.until(lambda: officer.receipt(number), WITHIN_S)
    officer.unplug()
    await until(lambda: any(e["state"] == "down" for e in console.of("link")))
    await until(lambda: console.of("check.done"), WITHIN_S)
    officer.plug()
    await until(lambda: [e["state"] for e in console.of("link")][-1] == "up", WITHIN_S)
    assert await officer.until(lambda: officer.parts(number), WITHIN_S)
    assert faults_seen(console, ["serial-s"]) == []
    assert world.verdict() == []


async def test_fixes_move_markers_and_bad_ones_do_not(world: World) -> None:
    """A good fix stands on the page; null island and the future move nothing."""
    assert world.daemon is not None
    radio, daemon = world.radios["5001003"], world.daemon
    await radio.say("fix", {"lat": 52.5725, "lon": -0.2431, "accuracy_m": 8}, qos=1)

    async def row() -> list[object]:
        rows = (await daemon.snapshot())["units"]["rows"]
        return next(list(row) for row in rows if row[1] == "E-103")

    async with asyncio.timeout(WITHIN_S):
        while (await row())[6] is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert (await row())[6:8] == [52572500, -243100]
    await radio.say("fix", {"lat": 0.0, "lon": 0.0}, qos=1)
    await radio.say("fix", {"lat": 52.6, "lon": -0.2, "t": "2099-01-01T00:00:00Z"}, qos=1)
    await radio.ask(kind="vehicle", vrm="TE99AAB", reason="1", ref="after")
    await radio.until(lambda: radio.result("after"), WITHIN_S)
    assert (await row())[6:8] == [52572500, -243100]
    _, metrics = await daemon.get("/metrics")
    assert b'gateway_fixes_rejected_total{reason="null"} 1.0' in metrics
    assert b'gateway_fixes_rejected_total{reason="future"} 1.0' in metrics


async def test_nothing_reaches_another_terminal(world: World) -> None:
    """Many officers ask at once over both bearers; each hears their own answers, and only those."""
    marks = ["TE99AAB", "TE99ABC", "TE99STV", "TE99NNS", "TE99KWN"]
    asked: list[tuple[MqttOfficer | LineOfficer, str]] = []
    for round_ in range(4):
        for place, radio in enumerate(world.radios.values()):
            mark = marks[(place + round_) % len(marks)]
            reason = "8" if radio.issi == COUNCIL else "1"
            asked.append((radio, await radio.ask(kind="vehicle", vrm=mark, reason=reason)))
        for place, officer in enumerate(world.lines.values()):
            mark = marks[(place + round_) % len(marks)]
            asked.append((officer, officer.ask(f"V {mark} R{place + round_ + 1}")))
        for officer_, ref in asked:
            if isinstance(officer_, LineOfficer):
                await officer_.until(lambda o=officer_, r=ref: o.parts(r), WITHIN_S)
            else:
                await officer_.until(lambda o=officer_, r=ref: o.result(r), WITHIN_S)
    assert world.verdict() == []
    # What the terminals' own clocks say, within bounds that only a stall can break here.
    assert world.daemon is not None
    e = world.evidence(world.daemon.state)
    assert unheard(e, receipt_s=5.0, outcome_s=WITHIN_S) == []


async def test_who_is_struck_off_hears_no_answer_any_more(world: World) -> None:
    """I18, as built: the terminal leaves the fleet by a reload. What it asks afterwards is neither
    asked nor answered; the others go on."""
    assert world.daemon is not None
    radio, other, daemon = world.radios["5001002"], world.radios["5001003"], world.daemon
    first = await radio.ask(kind="vehicle", vrm="TE99ABC", reason="1")
    await radio.until(lambda: radio.result(first), WITHIN_S)
    fleet = daemon.folder / "fleet.toml"
    head, *terminals = fleet.read_text("utf-8").split("[[terminals]]")
    kept = [each for each in terminals if '"5001002"' not in each]
    assert len(kept) == len(terminals) - 1
    callsigns = world.callsigns()
    fleet.write_text("[[terminals]]".join([head, *kept]), "utf-8")
    os.kill(daemon.pid, signal.SIGHUP)
    await until(lambda: any(line["event"] == "config.loaded" for line in daemon.journal()))
    radio.revoked_at_s = time.monotonic() - REVOKED_WITHIN_S  # at once is what is built
    await radio.ask(kind="vehicle", vrm="TE99STV", reason="1")
    ref = await other.ask(kind="vehicle", vrm="TE99AAB", reason="1")
    await other.until(lambda: other.result(ref), WITHIN_S)
    assert [query["key_text"] for query in world.queries()] == ["VRM:TE99ABC", "VRM:TE99AAB"]
    assert callsigns["5001002"] not in world.callsigns().values()
    assert world.verdict() == []


@pytest.mark.slow
async def test_alarms_stand_over_a_kill_as_every_console_saw_them(world: World) -> None:
    """One operator acknowledges and puts aside; a second console sees it; kill -9; the same
    occurrences in the same states, and the line that was put aside is still."""
    assert world.daemon is not None
    assert world.console is not None
    daemon = world.daemon
    other = Console(daemon.url)
    watching = asyncio.create_task(other.run(), name="second console")
    try:
        for line in world.lines.values():
            line.unplug()
        await until(
            lambda: len({e["id"] for e in world.console.of("alarm") if e["rule"] == "LNK"}) == 2, 30
        )
        await world.radios["5001003"].say("status", {"code": 0})
        alarms = {a["subj"].get("link", "EMG"): a for a in await standing(daemon)}
        emergency, *lines = alarms.pop("EMG"), *alarms.values()
        assert emergency["response"].startswith("Call the officer by voice")
        path = "/api/v1/alarms/{}/{}"
        for one, verb, body in (
            (emergency, "ack", {}),
            (emergency, "mistake", {}),
            (lines[0], "ack", {}),
            (lines[1], "shelve", {"minutes": 5, "why": "being mended"}),
        ):
            status, said = await daemon.post(path.format(one["id"], verb), body, verb + one["id"])
            assert status == 200, said
        seen = {emergency["id"], lines[0]["id"]}
        await until(
            lambda: seen <= {e["id"] for e in other.of("alarm") if e["state"] == "ack-active"}
        )
        before = await standing(daemon)
        await daemon.kill()
        await daemon.start()
        after = await standing(daemon)
        same = ("id", "rule", "state", "ack_by", "why", "shelved_until", "response", "raised")
        assert [[a.get(k) for k in same] for a in after] == [
            [a.get(k) for k in same] for a in before
        ]
        assert {a["state"] for a in after} == {"ack-active", "unack-active"}
        assert sum("shelved_until" in a for a in after) == 1
        close = path.format(emergency["id"], "close")
        assert (await daemon.post(close, {}, "c1", "op-1"))[0] == 409
        assert (await daemon.post(close, {}, "c2", "op-2"))[0] == 200
        assert world.verdict() == []
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.slow
async def test_what_the_control_room_writes_is_read_on_both_bearers_and_over_a_kill(
    world: World,
) -> None:
    """On record, on the screen, delivered, read; a second console sees where it stands; what was
    not delivered when the daemon was killed comes from the next one, once."""
    assert world.daemon is not None
    assert world.console is not None
    daemon, line, radio = world.daemon, world.lines["5001001"], world.radios["5001003"]
    names = world.callsigns()

    async def write(issi: str, text: str) -> str:
        path = f"/api/v1/units/{names[issi]}/message"
        status, said = await daemon.post(path, {"text": text}, f"m{len(text)}")
        assert (status, said["state"]) == (200, "queued"), said
        return str(said["id"])

    long = "Return to station at once " + "and bring the keys " * 8
    first, second = await write("5001001", long), await write("5001003", "Call me")
    parts = await line.until(
        lambda: [h.body["parts"] for h in line.heard if h.channel == "message"][1:], WITHIN_S
    )
    (notice,) = await radio.until(
        lambda: [h.body for h in radio.heard if h.body.get("kind") == "message"], WITHIN_S
    )
    assert (notice["text"], notice["id"]) == ("MSG: CALL ME", second)
    line.say("#S 15")
    await radio.say("ack", {"check": notice["short"], "part": 1, "state": "read"})
    await until(
        lambda: (
            {first, second}
            <= {e["id"] for e in world.console.of("message") if e["state"] == "read"}
        )
    )
    line.unplug()
    third = await write("5001001", "Where are you")
    await daemon.kill()
    line.plug()
    await daemon.start()
    await line.until(lambda: [h for h in line.heard if "WHERE ARE YOU" in h.raw.decode()], WITHIN_S)
    line.say(f"#A {third[-4:]} 1 R")

    def events(of: str) -> list[str]:
        return [leaf["event"] for leaf in audit(daemon.state) if leaf["detail"] == of]

    await until(lambda: "read" in events(third))
    assert events(first) == events(second) == events(third) == ["message", "delivered", "read"]
    assert set(parts) == {2}
    async with asyncio.timeout(WITHIN_S):
        while True:  # a picture may be some moments old
            states = {m["id"]: m["state"] for m in (await daemon.snapshot())["messages"]}
            if states == {third: "read"}:
                break
    assert world.verdict() == []


async def standing(daemon: Daemon) -> list[dict[str, Any]]:
    """The emergencies and the links that are down, as a console that opens now sees them."""
    alarms = (await daemon.snapshot())["alarms"]
    return [a for a in alarms if a["rule"] in {"EMG", "LNK"}]
