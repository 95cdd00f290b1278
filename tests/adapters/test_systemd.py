"""systemd: the right words on a real socket, the watchdog fed only by a loop that is well, and a
unit that its own tool finds tight."""

from __future__ import annotations

import asyncio
import configparser
import re
import secrets
import socket
import subprocess
import time
from pathlib import Path

import pytest

from adapters.systemd import Notifier
from tests.fakes import FakeClock, settle
from tests.services import require

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd/radio-gateway.service"
SERIAL = ROOT / "systemd/radio-gateway-serial.conf"


def listener(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind("\0" + address[1:] if address.startswith("@") else address)
    sock.settimeout(5)
    return sock


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "path":
        return str(tmp_path / "notify")
    return f"@radio-gateway-test-{secrets.token_hex(6)}"


def test_the_words_of_a_life(address: str) -> None:
    """READY, RELOADING with the monotonic time, STATUS in one line, STOPPING; on both kinds of
    socket address."""
    with listener(address) as sock:
        notifier = Notifier({"NOTIFY_SOCKET": address})
        assert notifier.ready("up\nand well")
        assert sock.recv(4096) == b"READY=1\nSTATUS=up and well"
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert notifier.reloading()
        said = sock.recv(4096).decode()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        match = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", said)
        assert match is not None
        assert before <= int(match.group(1)) <= after
        assert notifier.status("2 links")
        assert sock.recv(4096) == b"STATUS=2 links"
        assert notifier.stopping()
        assert sock.recv(4096) == b"STOPPING=1"


def test_without_systemd_every_word_is_for_nobody(tmp_path: Path) -> None:
    """No socket, or one that nobody reads: False, no error."""
    assert Notifier({}).ready() is False
    assert Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready() is False


def test_a_full_socket_does_not_wait(address: str) -> None:
    """When systemd does not read, the word is lost, not the loop."""
    with listener(address):
        notifier = Notifier({"NOTIFY_SOCKET": address})
        began_s = time.monotonic()
        said = [notifier.status("x" * 1000) for _ in range(3000)]
        assert said[0] is True
        assert said[-1] is False
        assert time.monotonic() - began_s < 5


async def test_the_watchdog_is_fed_while_the_self_check_holds(address: str) -> None:
    """Thrice in the time allowed; a failed self-check is silence, and recovery speaks again."""
    with listener(address) as sock:
        sock.setblocking(False)
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "9000000"}
        clock, well = FakeClock(), [True]
        task = asyncio.create_task(Notifier(environ).watchdog(lambda: well[0], clock))
        await settle()

        def heard() -> int:
            count = 0
            try:
                while sock.recv(4096) == b"WATCHDOG=1":
                    count += 1
            except BlockingIOError:
                return count
            raise AssertionError("another word")

        assert heard() == 1
        await clock.advance(9.0)
        assert heard() == 3
        well[0] = False
        await clock.advance(30.0)
        assert heard() == 0
        well[0] = True
        await clock.advance(3.0)
        assert heard() == 1
        task.cancel()


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}]
)
async def test_no_watchdog_no_task(environ: dict[str, str]) -> None:
    """Not asked for, not understood, or meant for another process: it ends at once."""
    notifier = Notifier(environ)
    async with asyncio.timeout(5):
        await notifier.watchdog(lambda: True, FakeClock())
    assert notifier.watchdog_s == 0


# --------------------------------------------------------------------------- the unit


def settings_of(path: Path) -> dict[str, str]:
    """The unit's settings, last one of a name (enough for single-valued ones)."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


def test_the_unit_says_what_the_daemon_counts_on() -> None:
    """Notify, watchdog, exit 78 not restarted, the deadline of the drain."""
    said = settings_of(UNIT)
    assert said["Type"] == "notify"
    assert said["RestartPreventExitStatus"] == "78"
    assert said["TimeoutStopSec"] == "10"
    assert said["ExecReload"] == "/bin/sh -c 'kill -HUP $MAINPID'"
    assert said["ExecStart"] == (
        "/opt/radio-gateway/.venv/bin/radio-gateway run --config /etc/radio-gateway/gateway.toml"
    )
    assert int(said["WatchdogSec"]) >= 5


def exposure(folder: Path, threshold: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            require("systemd-analyze"),
            "security",
            "--offline=true",
            "--no-pager",
            f"--threshold={threshold}",
            str(folder / UNIT.name),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("drop_in", "threshold"), [(False, 10), (True, 15)])
def test_the_unit_is_as_tight_as_promised(tmp_path: Path, drop_in: bool, threshold: int) -> None:
    """systemd's own judgement: exposure at most 1.0, with serial ports at most 1.5."""
    text = UNIT.read_text()
    if drop_in:  # --offline does not read drop-in folders: their text goes last, as in systemd
        text += "\n" + SERIAL.read_text()
    (tmp_path / UNIT.name).write_text(text)
    run = exposure(tmp_path, threshold)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr


def test_a_loose_unit_would_be_noticed(tmp_path: Path) -> None:
    """The gate can fail: without its hardening the same unit is far over the threshold."""
    text = re.sub(r"(?m)^(Protect|Private|Restrict|SystemCall|Capability).*$", "", UNIT.read_text())
    (tmp_path / UNIT.name).write_text(text)
    assert exposure(tmp_path, 15).returncode != 0


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no unknown setting and no bad value."""
    program = require("systemd-analyze")
    text = UNIT.read_text() + "\n" + SERIAL.read_text()
    text = re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", text)
    (tmp_path / UNIT.name).write_text(text)
    run = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    complaints = [line for line in run.stderr.splitlines() if UNIT.name in line]
    assert complaints == []
