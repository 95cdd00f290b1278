"""The commands around a daemon that is up: simulate, terminal, audit verify and export."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT, Daemon
from tests.system.ledgers import audit


async def command(*words: str, within_s: float = 30.0) -> tuple[int, str, str]:
    """Run `radio-gateway ...`; exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(within_s):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


@pytest.fixture
async def daemon(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[Daemon]:
    (tmp_path / "lines").mkdir()
    daemon = Daemon(
        tmp_path,
        tetra={"tetra-e": {"port": str(tmp_path / "lines" / "TETRA-E"), "rtscts": False}},
        broker=mosquitto.port,
    )
    await daemon.start()
    yield daemon
    await daemon.close()


async def test_be_one_officer(daemon: Daemon, mosquitto: Mosquitto) -> None:
    """One check by hand: SENT, the screen, exit 0; without a reason it is not even sent."""
    broker = ("--issi", "5001002", "--port", str(mosquitto.port))
    code, out, errors = await command("terminal", *broker, "--once", "V TE99STV R1", "--wait")
    assert code == 0, out + errors
    assert "!!STOLEN" in out
    assert "SENT" in errors
    code, out, errors = await command("terminal", *broker, "--once", "V TE99STV", "--wait")
    assert code == 64
    assert "GIVE REASON" in errors
    code, out, errors = await command("terminal", *broker, "--once", "V ER99GBG R1", "--wait")
    assert code == 4, "a script must be able to tell NO ANSWER from an answer"
    assert "NO ANSWER" in out


async def test_an_officer_from_a_script(
    daemon: Daemon, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Several questions and an emergency; the emergency stands on the page."""
    script = tmp_path / "script"
    script.write_text("V TE99AAB R1\nwait\nemergency\nsleep 0.5\n", "utf-8")
    code, out, _ = await command(
        *("terminal", "--issi", "5001003", "--port", str(mosquitto.port)),
        *("--script", str(script)),
    )
    assert code == 0, out
    assert "NO REPORTS" in out
    assert [a["rule"] for a in (await daemon.snapshot())["alarms"]] == ["EMG"]


async def test_a_scenario_against_a_daemon_that_is_up(
    daemon: Daemon, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """The demo's radios, on PTYs and over MQTT, with a gateway that runs elsewhere."""
    code, out, errors = await command(
        *("simulate", "demo", "--broker", f"127.0.0.1:{mosquitto.port}"),
        *("--serial-folder", str(tmp_path / "lines"), "--duration", "10"),
    )
    assert code == 0, errors
    assert "stolen" in out
    answered = [leaf for leaf in audit(daemon.state) if leaf["outcome"] == "answered"]
    assert "5001006" in {leaf["terminal"] for leaf in answered}
    # The radio appears after the daemon began to look for it: what is sure to come is a position.
    rows = {row[1]: row for row in (await daemon.snapshot())["units"]["rows"]}
    assert rows["E-101"][6] is not None


def acts(lines: list[dict[str, str]]) -> list[str]:
    """The events in order, without the alarm of the line that is not there."""
    return [line["event"] for line in lines if line["event"] != "alarm"]


async def test_the_audit_beside_a_running_daemon_and_without_one(daemon: Daemon) -> None:
    """verify reads beside the writer; each export is on record before a line of it is read."""
    config = ("--config", str(daemon.config))
    code, out, _ = await command("audit", "verify", *config)
    assert code == 0
    assert re.search(r"gwt: \d+ records verify", out)
    export = ("audit", "export", *config, "--purpose", "lawfulness", "--by", "auditor-1")
    code, out, errors = await command(*export)
    assert code == 0, errors
    lines = [json.loads(line) for line in out.splitlines()]
    assert acts(lines) == ["started", "alteration", "export"]
    assert lines[-1]["operator"] == "cli:auditor-1"
    assert json.loads(errors.splitlines()[-1])["records"] == len(lines)
    code, out, errors = await command("audit", "show", "none-such", *config, "--by", "auditor-1")
    assert (code, out) == (1, "")
    assert "no record has this receipt" in errors
    code, _, errors = await command("audit", "export", *config, "--purpose", "curiosity")
    assert code == 64
    assert "lawfulness" in errors
    assert await daemon.stop() == 0
    code, out, _ = await command(*export)
    assert code == 0
    assert acts([json.loads(line) for line in out.splitlines()]) == [
        *("started", "alteration", "export", "export", "stopped", "export"),
    ]
    heads = str(daemon.state / "heads.jsonl")
    assert (await command("audit", "verify", *config, "--heads", heads))[0] == 0


async def test_a_broken_chain_is_exit_6_and_named(daemon: Daemon) -> None:
    import sqlite3

    await daemon.stop()
    with sqlite3.connect(daemon.state / "ledger.db") as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE audit_leaf SET record = X'7B7D' WHERE seq = 2")
    code, _, errors = await command("audit", "verify", "--config", str(daemon.config))
    assert code == 6
    assert "gwt:2" in errors
