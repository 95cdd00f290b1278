"""Personal data in no output: planted words are searched in everything the daemon says to ops."""

from __future__ import annotations

import os
import re
from pathlib import Path

import aiohttp
import pytest

from tests.services import require
from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import audit, canaries
from tests.system.seats import PASSWORD
from tests.system.world import World

WITHIN_S = 10.0
PIN = "cAn4ry-of-a-PIN-7319"
PLANTED = (
    "TE99KWN",
    "TE99STV",
    "TE99DFT",
    "WANDA",
    "SYNTHA",
    "1988-06-06",
    "06061988",
    "52.5725",
    "52572500",
)
ISSIS = ("5001001", "5001002", "5001003", "5001006", "5001010")


DEFECT = """
import asyncio, threading
import gateway.policy as policy

real = policy.project

def fails(request):
    raise LookupError(f"cannot show {request}")

def project(rules, decision, request, answer, warnings):
    if "TE99DFT" in str(request):
        threading.Thread(target=fails, args=(request,), name=str(request)).start()
        asyncio.get_running_loop().call_soon(fails, request)
        fails(request)
    return real(rules, decision, request, answer, warnings)

policy.project = project
"""
"""sitecustomize.py of a daemon with a defect of its own, whose text holds what was asked: in a
task, in a callback of the loop, in a thread."""


async def error_pages(daemon: Daemon, word: str) -> dict[int, bytes]:
    """What is answered, by status, to requests that are wrong in some way and hold this word."""
    seat = await daemon.log_in("op-1")
    as_json = {**seat, "Content-Type": "application/json"}
    key = {"Idempotency-Key": word}
    act = "/api/v1/alarms/x/ack"
    asked: list[tuple[str, str, dict[str, str], bytes]] = [
        ("GET", f"/{word}", seat, b""),
        ("GET", f"/api/v1/checks/{word}", seat, b""),
        ("GET", f"/api/v1/checks/{word}", {}, b""),
        ("GET", f"/api/v1/stream?epoch={word}&after={word}", seat, b""),
        ("DELETE", f"/api/v1/checks/{word}", seat, b""),
        ("POST", f"/api/v1/alarms/{word}/ack", {**as_json, **key}, b"{}"),
        ("POST", act, {**as_json, "Idempotency-Key": f"{word} "}, word.encode()),
        ("POST", act, {**seat, **key, "Content-Type": f"text/{word}"}, word.encode()),
        ("POST", act, {**as_json, **key}, word.encode() * 40_000),
        ("POST", act, {**as_json, **key, "X-CSRF-Token": word}, b"{}"),
        ("POST", act, {**as_json, **key, "Origin": f"http://{word}.test"}, b"{}"),
        ("POST", "/api/v1/login", {"Content-Type": "application/json"}, word.encode()),
        ("GET", "/metrics", {"Host": f"{word}.test"}, b""),
        ("GET", "/healthz", {"Expect": word}, b""),
    ]
    said: dict[int, bytes] = {}
    async with aiohttp.ClientSession() as http:
        for method, path, headers, body in asked:
            async with http.request(
                method, daemon.url + path, headers=headers, data=body or None
            ) as answer:
                text = await answer.read() + str(answer.headers).encode()
                said[answer.status] = said.get(answer.status, b"") + text
    return said


def processes(pid: int) -> dict[str, bytes]:
    """Title, name and environment of the daemon and of what it has started."""
    found: dict[str, bytes] = {}
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for each in pids:
        for name in ("cmdline", "comm", "environ"):
            found[f"{name} of {each}"] = Path(f"/proc/{each}/{name}").read_bytes()
        # No image of the memory is ever written, and nobody of the same user reads it.
        limits = Path(f"/proc/{each}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
    return found


async def test_no_name_mark_birth_date_issi_or_place_in_any_output(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """Journal, stderr (of defects, too), /metrics, error pages, what /proc shows of each process,
    and every file but the ledger and the history: not one canary.

    The audit's records hold identities of terminals, on purpose, but no subject.
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEFECT)
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open(environ={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"})
        daemon = world.daemon
        assert daemon is not None
        seat = await daemon.log_in("op-1")
        session = re.sub(r".*=", "", seat["Cookie"])
        radio = world.radios["5001006"]
        officer = world.lines["5001001"]
        await radio.say("fix", {"lat": 52.5725, "lon": -0.2431}, qos=1)
        refs = [
            await radio.ask(
                kind="person", surname="TESTER", forenames="WANDA", dob="1988-06-06", reason="1"
            ),
            await radio.ask(kind="vehicle", vrm="TE99KWN", reason="1"),
            await radio.ask(kind="person", surname="SYNTHA", forenames="", reason="1"),
            await radio.ask(kind="vehicle", vrm="TE99DFT", reason="1"),
        ]
        number = officer.ask("V TE99STV R1")
        for ref in refs:
            await radio.until(lambda r=ref: radio.result(r), WITHIN_S)
        assert radio.result(refs[-1])["outcome"] == "failed"
        await officer.until(lambda: officer.parts(number), WITHIN_S)
        await radio.say("check", b'{"ref": "x", "kind": "vehicle", "vrm": "TE99KWN", "issi": "1"}')
        await radio.say("check", b'{"ref": "y", "vrm": "TE99KWN", "reason": ["WANDA"]}')
        officer.say("V TE99STV WANDA")
        officer.say(f"B 1001 {PIN}")
        await until(lambda: len(audit(daemon.state)) > 20)
        outputs: dict[str, bytes] = {}
        for path in ("/metrics", "/healthz", "/readyz"):
            _, outputs[path] = await daemon.get(path)
        pages = await error_pages(daemon, "TE99KWN")
        assert {400, 401, 403, 404, 405, 413, 415, 417, 421} <= set(pages), sorted(pages)
        outputs |= {f"page {status}": said for status, said in pages.items()}
        outputs |= processes(daemon.pid)
        assert await daemon.stop() == 0
        outputs["journal"] = daemon.output.read_bytes()
        outputs["stderr"] = daemon.errors.read_bytes()
        assert len(outputs["journal"].splitlines()) > 10
        # The defect was seen, in each of its ways.
        assert outputs["journal"].count(b"LookupError") >= 2
        assert b"in a thread: LookupError at " in outputs["stderr"]
        for file in daemon.state.rglob("*"):
            if file.is_file() and not file.name.startswith(("ledger", "history")):
                outputs[str(file.relative_to(daemon.state))] = file.read_bytes()
    finally:
        await world.close()
    words = canaries([*PLANTED, *ISSIS, PIN, PASSWORD, session, seat["X-CSRF-Token"]])
    assert len(words) > 100
    for name, said in outputs.items():
        found = [word for word in words if word in said]
        assert found == [], f"{name} holds {found}"
    subjects = canaries([*PLANTED, PIN, PASSWORD, session])
    for leaf in audit(daemon.state):
        found = [word for word in subjects if word in leaf.raw]
        assert found == [], f"record {leaf.seq} ({leaf['event']}) holds a subject"


@pytest.mark.slow
async def test_nothing_is_written_but_below_the_state_folder(tmp_path: Path) -> None:
    """No temporary file, no cache, no file without a name in memory: of every call that makes or
    opens a file to write, the path is below the state folder, a device, or the journal."""
    require("strace")
    calls = tmp_path / "calls"
    trace = ("-e", "trace=openat,open,creat,memfd_create", "-o", str(calls))
    daemon = Daemon(tmp_path, wrapper=("strace", "-D", "-f", "-qq", *trace))
    try:
        await daemon.start()
        await error_pages(daemon, "TE99KWN")
        assert await daemon.stop() == 0
    finally:
        await daemon.close()
    written, seen = [], 0
    for line in calls.read_text(errors="replace").splitlines():
        if " = -1 " in line:
            continue
        seen += 1
        path = re.search(r'"([^"]*)"', line)
        if "memfd_create" in line:
            written.append(line)
        elif re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE|creat\(", line):
            assert path is not None
            at = path[1]
            if not (at.startswith((str(daemon.state), "/dev/", "/proc/self/"))):
                written.append(line)
    assert seen > 100, "the trace saw the start"
    assert written == []


@pytest.mark.parametrize("word", ["TE99KWN", "5001001"])
def test_the_search_finds_what_is_hidden(word: str) -> None:
    """The test above could fail: each disguise is found."""
    import base64

    raw = word.encode()
    hidden = [
        b"x" + raw + b"y",
        b"x" + raw.hex().encode(),
        base64.b64encode(os.urandom(3) + raw + b"zz"),
        base64.b64encode(os.urandom(4) + raw + b"zz"),
        word.encode("utf-16-le"),
        word.encode("utf-16-be"),
        b"".join(b"%%%02X" % byte for byte in raw),
    ]
    for each in hidden:
        assert any(canary in each for canary in canaries([word])), each
