"""The daemon's life as an ops person sees it: start, stop, reload, refusal, a second one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chain import tables
from tests.system.bounds import changes
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import audit, chain_faults


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon without links: enough to live and to be looked at."""
    daemon = Daemon(tmp_path)
    yield daemon
    await daemon.close()


async def test_starts_answers_and_stops_in_time(daemon: Daemon) -> None:
    """SIGTERM ends it with 0 within 5 s; start and stop are on record, and the chain verifies."""
    await daemon.start()
    assert (await daemon.get("/healthz"))[0] == 200
    status, body = await daemon.get("/metrics")
    assert status == 200
    assert b"gateway_build_info" in body
    async with asyncio.timeout(5):
        assert await daemon.stop() == 0
    leaves = audit(daemon.state)
    # Between them: which policy it took, and that nobody approved it.
    assert [leaf["event"] for leaf in leaves] == ["started", "alteration", "stopped"]
    assert chain_faults(leaves) == []
    assert [line["event"] for line in daemon.journal()][-1] == "stopped"


async def test_files_are_for_its_user_alone(daemon: Daemon) -> None:
    """The state folder and every file in it: no bit for group or others."""
    await daemon.start()
    await daemon.stop()
    for path in (daemon.state, *daemon.state.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path.name


async def test_restart_without_traffic_adds_life_records_only(daemon: Daemon) -> None:
    """I19: stop and start change nothing else."""
    await daemon.start()
    assert await daemon.stop() == 0
    before = tables(daemon.state)
    await daemon.start()
    assert await daemon.stop() == 0
    assert changes(before, tables(daemon.state)) == []
    events = [leaf["event"] for leaf in audit(daemon.state)]
    assert events == ["started", "alteration", "stopped", "started", "stopped"]


async def test_kill_is_no_end(daemon: Daemon) -> None:
    """After SIGKILL, which takes the ledger's process along, the next start opens the same ledger
    and goes on with the same chain."""
    await daemon.start()
    writer = Path(f"/proc/{daemon.writer_pid}")
    await daemon.kill()
    await until(lambda: not writer.exists(), 10)
    await daemon.start()
    await daemon.stop()
    leaves = audit(daemon.state)
    assert [leaf["event"] for leaf in leaves] == [
        *("started", "alteration", "started", "stopped"),
    ]
    assert chain_faults(leaves) == []


async def test_a_daemon_without_its_ledger_ends(daemon: Daemon) -> None:
    """What was acknowledged cannot be known any more: it fails, and systemd starts it anew."""
    await daemon.start()
    os.kill(daemon.writer_pid, signal.SIGKILL)
    assert daemon.process is not None
    async with asyncio.timeout(10):
        assert await daemon.process.wait() == 1
    await daemon.start()
    assert await daemon.stop() == 0
    assert chain_faults(audit(daemon.state)) == []


async def test_second_daemon_on_the_same_ledger_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    """H12: one writer; the second says what to do, and ends."""
    await daemon.start()
    other = tmp_path / "second"
    other.mkdir()
    second = Daemon(other)
    text = second.config.read_text("utf-8").replace(str(second.state), str(daemon.state))
    second.config.write_text(text, "utf-8")
    try:
        await second.start(wait=False)
        assert second.process is not None
        async with asyncio.timeout(20):
            assert await second.process.wait() == 1
        said = second.errors.read_text("utf-8")
        assert "another daemon writes" in said
        assert "Traceback" not in said
    finally:
        await second.close()
    assert (await daemon.get("/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("port = ", 'host = "0.0.0.0"\nport = ', "http.host: other than loopback"),
        (
            'instance = "gwt"',
            'instnace = "gwt"',
            "gateway.toml: gateway.instnace: unknown; did you mean instance?",
        ),
        (
            'adapter = "mock"',
            'adapter = "mokc"',
            "gateway.toml: pnc.adapter: one of http, mock (line",
        ),
        (
            'instance = "gwt"',
            'instance = "gwt"\nprofile = "production"',
            "audit.anchors: profile production needs one",
        ),
    ],
)
async def test_bad_configuration_is_exit_78_and_starts_nothing(
    daemon: Daemon, old: str, new: str, says: str
) -> None:
    """A clear message with file, key and reason; no traceback; no state folder."""
    text = daemon.config.read_text("utf-8")
    assert old in text
    daemon.config.write_text(text.replace(old, new, 1), "utf-8")
    await daemon.start(wait=False)
    assert daemon.process is not None
    async with asyncio.timeout(20):
        assert await daemon.process.wait() == 78
    said = daemon.errors.read_text("utf-8")
    assert says in said
    assert "Traceback" not in said
    assert not daemon.state.exists()


async def test_reload_good_then_bad(daemon: Daemon) -> None:
    """SIGHUP: a good file is taken over and on record; a bad one changes nothing and says why."""
    await daemon.start()
    before = await daemon.snapshot()
    assert len(before["units"]["rows"]) == 15
    fleet = daemon.folder / "fleet.toml"
    text = fleet.read_text("utf-8")
    fleet.write_text(text.replace('callsign = "E-101"', 'callsign = "E-199"'), "utf-8")
    os.kill(daemon.pid, signal.SIGHUP)
    await until(lambda: any(line["event"] == "config.loaded" for line in daemon.journal()))
    async with asyncio.timeout(5):  # a snapshot may be 0.2 s old
        while "E-199" not in (names := await _callsigns(daemon)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert "E-101" not in names

    fleet.write_text(text.replace('area = "Eastern"', 'area = "Atlantis"', 1), "utf-8")
    os.kill(daemon.pid, signal.SIGHUP)
    await until(lambda: any(line["event"] == "config.refused" for line in daemon.journal()))
    refused = next(line for line in daemon.journal() if line["event"] == "config.refused")
    assert "fleet.toml" in refused["finding"]
    assert "area" in refused["finding"]
    assert "E-199" in await _callsigns(daemon)
    assert await daemon.stop() == 0
    assert "alteration" in [leaf["event"] for leaf in audit(daemon.state)]


async def _callsigns(daemon: Daemon) -> set[str]:
    return {row[1] for row in (await daemon.snapshot())["units"]["rows"]}


async def test_speaks_to_systemd(tmp_path: Path) -> None:
    """READY after it can take questions, WATCHDOG from the loop, RELOADING, STOPPING."""
    said: list[str] = []
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        asyncio.get_running_loop().add_reader(
            notify, lambda: said.extend(notify.recv(4096).decode().splitlines())
        )
        daemon = Daemon(tmp_path, environ={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"})
        try:
            await daemon.start()
            await until(lambda: said.count("WATCHDOG=1") >= 2)
            os.kill(daemon.pid, signal.SIGHUP)
            await until(lambda: "RELOADING=1" in said)
            assert await daemon.stop() == 0
        finally:
            await daemon.close()
            asyncio.get_running_loop().remove_reader(notify)
        assert said[0] == "READY=1"
        assert "STOPPING=1" in said


def test_command_line_errors_are_64() -> None:
    """A wrong command line says how it is right; nothing is started."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 64
    assert "--config" in done.stderr


def test_the_daemon_does_not_load_the_simulators() -> None:
    """Neither `run` nor `audit` waits for what only `simulate` and `terminal` need."""
    tells = (
        "import sys; from gateway import cli; cli._parser({!r}); print('simulators' in sys.modules)"
    )
    for command, loaded in (("run", "False"), ("audit", "False"), ("simulate", "True")):
        done = subprocess.run(
            [sys.executable, "-c", tells.format(command)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout.strip() == loaded, command
