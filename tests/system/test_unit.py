"""The shipped unit under a real systemd: installed as the documents say, in a Debian of its own.

The tests stand in the order of a life and share one machine; each leaves the daemon running.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import marked
from tests.services import nspawn, require
from tests.services.nspawn import ROOT, Machine
from tests.system import walls

# The first test waits while the machine is built.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UNIT = "radio-gateway.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
CONFIG = "/etc/radio-gateway/gateway.toml"
GATEWAY = "/opt/radio-gateway/.venv/bin/radio-gateway"
SERIAL = ROOT / "systemd/radio-gateway-serial.conf"
PASSWORDS: dict[Machine, str] = {}
"""Of the account that was made as documented."""
UP_S = 60.0
"""READY takes 2 s on an idle machine; what is to be shown is that it comes."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Installed and started by the very lines of docs/operations.md."""
    with nspawn.running(tmp_path_factory.mktemp("machine")) as machine:
        (steps,) = marked(ROOT / "docs/operations.md", "install")
        machine.call("sh", "-eu", said=steps)
        (account,) = marked(ROOT / "docs/operations.md", "account")
        told = machine.call("sh", "-eu", said=account.replace("./run", "/opt/radio-gateway/run"))
        PASSWORDS[machine] = told.split()[-1]
        (start,) = marked(ROOT / "docs/operations.md", "start")
        machine.call("sh", "-eux", said=start.replace("./run", "/opt/radio-gateway/run"))
        yield machine


def state(machine: Machine) -> str:
    return machine.show(UNIT, "ActiveState")["ActiveState"]


def pid(machine: Machine) -> int:
    return int(machine.show(UNIT, "MainPID")["MainPID"])


def restarts(machine: Machine) -> int:
    return int(machine.show(UNIT, "NRestarts")["NRestarts"])


def events(machine: Machine, of: int) -> list[dict[str, Any]]:
    """What the process with that PID logged."""
    said = [line["MESSAGE"] for line in machine.journal(UNIT, f"_PID={of}")]
    return [json.loads(line) for line in said if line.startswith("{")]


def systemd_says(machine: Machine) -> list[str]:
    return [line["MESSAGE"] for line in machine.journal(UNIT) if line.get("_PID") == "1"]


def up(machine: Machine, link: str) -> bool:
    said = machine.http("/metrics")[1].decode()
    return re.search(rf'(?m)^gateway_link_up{{[^}}]*link="{link}"[^}}]*}} 1', said) is not None


LOG_IN = """
import json, sys, urllib.request
body = json.dumps({"id": "ann", "password": sys.argv[2]}).encode()
asked = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(asked, timeout=10).headers["Set-Cookie"].partition(";")[0])
"""


def cookie(machine: Machine) -> str:
    """Of a new session."""
    url = "http://127.0.0.1:8080/api/v1/login"
    words = machine.beside(sys.executable, "-c", LOG_IN, url, PASSWORDS[machine])
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def callsigns(machine: Machine) -> set[str]:
    status, body = machine.http("/api/v1/snapshot", cookie(machine))
    assert status == 200
    return {row[1] for row in json.loads(body)["units"]["rows"]}


@contextlib.contextmanager
def restarted(machine: Machine) -> Iterator[None]:
    """Whatever is changed within, the daemon runs as shipped afterwards."""
    try:
        yield
    finally:
        machine.call("systemctl", "daemon-reload")
        machine.call("systemctl", "restart", UNIT)


@contextlib.contextmanager
def drop_in(machine: Machine, text: str) -> Iterator[None]:
    """More lines for the unit, restarted with them."""
    path = f"{DROP_INS}/test.conf"
    machine.write(path, text)
    machine.call("systemctl", "daemon-reload")
    try:
        machine.call("systemctl", "restart", UNIT)
        yield
    finally:
        machine.call("rm", path)


@contextlib.contextmanager
def changed(machine: Machine, path: str, old: str, new: str) -> Iterator[None]:
    """A file in which the first `old` reads `new`; put back afterwards."""
    text = machine.call("cat", path)
    assert old in text
    machine.call("sh", "-c", 'cat >"$0"', path, said=text.replace(old, new, 1))
    try:
        yield
    finally:
        machine.call("sh", "-c", 'cat >"$0"', path, said=text)


def serial_port() -> str:
    """The port that the drop-in names."""
    (port,) = re.findall(r"(?m)^DeviceAllow=(\S+) rw$", SERIAL.read_text("utf-8"))
    return str(port)


def exposure_at_most(machine: Machine, threshold: int) -> None:
    """systemd's judgement of the unit as it is loaded, drop-ins and all, in tenths."""
    machine.call("systemd-analyze", "security", "--no-pager", f"--threshold={threshold}", UNIT)


# --------------------------------------------------------------------------- start


def test_installed_as_documented_it_becomes_ready(machine: Machine) -> None:
    """READY=1 makes it active, not the start of the process; not root; its code is root's and
    its state nobody else's; systemd had nothing to say against a directory or a line."""
    shown = machine.show(UNIT, "Type", "ActiveState", "SubState", "NRestarts", "UnitFileState")
    assert shown == {
        "Type": "notify",
        "ActiveState": "active",
        "SubState": "running",
        "NRestarts": "0",
        "UnitFileState": "enabled",
    }
    # Nobody has sealed the sample's policy, which is said first.
    assert [line["event"] for line in events(machine, pid(machine))][:4][-1] == "ready"
    status = machine.call("cat", f"/proc/{pid(machine)}/status")
    uids = re.search(r"(?m)^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$", status)
    assert uids is not None
    assert uids.groups() == (machine.call("id", "-u", "radio-gateway").strip(),) * 4
    assert re.search(r"(?m)^CapBnd:\s+0+$", status)
    assert re.search(r"(?m)^NoNewPrivs:\s+1$", status)
    # uv's own lock file holds nothing, and anybody may take it.
    loose = ["(", "!", "-user", "root", "-o", "-perm", "/022", ")", "!", "-type", "l"]
    found = machine.call("find", "/opt/radio-gateway", *loose).split()
    assert found == ["/opt/radio-gateway/.venv/.lock"]
    assert machine.call("stat", "-c%U %a", "/var/lib/radio-gateway") == "radio-gateway 700\n"
    files = machine.call("find", "/var/lib/radio-gateway", "-type", "f", "-printf", "%u %m\\n")
    assert set(files.splitlines()) == {"radio-gateway 600"}
    told = [line["MESSAGE"] for line in machine.journal(UNIT)]
    assert [line for line in told if "mode is different" in line or "ignoring" in line] == []
    exposure_at_most(machine, 10)


WALLS = "/usr/local/lib/walls.py"


@contextlib.contextmanager
def prepared(machine: Machine) -> Iterator[None]:
    """What `walls` tries to reach is there to be reached."""
    machine.write(WALLS, Path(walls.__file__).read_text("utf-8"))
    # Two devices that systemd gives to nobody by itself, open to all by their mode.
    making = "touch /tmp/of-root; mknod -m 666 /dev/of-root c 10 229; "
    making += "mknod -m 666 /dev/of-root-2 c 10 237; ip address add $0/32 dev lo"
    machine.call("sh", "-c", making, walls.ELSEWHERE[0])
    listen = f"import socket,time; s=socket.create_server({walls.ELSEWHERE}); time.sleep(600)"
    with subprocess.Popen(machine.words("python3", "-c", listen)) as server:
        try:
            machine.until(lambda: f"{walls.ELSEWHERE[0]}:" in machine.call("ss", "-ltn"), UP_S)
            yield
        finally:
            server.kill()
            machine.call("rm", "/dev/of-root", "/dev/of-root-2")


LIMITS = (("memory", "MemoryMax", "memory.max", 512 << 20), ("pids", "TasksMax", "pids.max", 64))


def test_limits_are_set_and_hold_where_the_controllers_are(machine: Machine) -> None:
    """As systemd has them; and as the kernel has them, unless it mounts the controllers in the old
    way, where a container's systemd has none (docs/systemd.md)."""
    there = machine.call("cat", "/sys/fs/cgroup/cgroup.controllers").split()
    for controller, name, file, limit in LIMITS:
        assert machine.show(UNIT, name) == {name: str(limit)}
        if controller in there:
            path = f"/sys/fs/cgroup/system.slice/{UNIT}/{file}"
            assert machine.call("cat", path) == f"{limit}\n"


def tried(machine: Machine, name: str, more: str = "") -> dict[str, Any]:
    """What `walls` could and could not do as a unit that differs from ours in what it starts."""
    text = machine.call("cat", f"/etc/systemd/system/{UNIT}") + more
    for old, new in {
        r"(?m)^Type=notify$": "Type=oneshot",
        r"(?m)^ExecStart=.*$": f"ExecStart=/usr/bin/python3 {WALLS}",
        r"(?m)^(WatchdogSec|Restart|NotifyAccess|ExecReload)=.*\n": "",
    }.items():
        text, found = re.subn(old, new, text)
        assert found, old
    machine.write(f"/etc/systemd/system/{name}.service", text)
    machine.call("systemctl", "daemon-reload")
    machine.call("systemctl", "start", name)
    lines = [line["MESSAGE"] for line in machine.journal(name)]
    (told,) = [line for line in lines if line.startswith("{")]
    # Where a rule cannot be applied systemd says so and goes on.
    lines.remove(told)
    assert [line for line in lines if "not support" in line or "ignoring" in line] == []
    return dict(json.loads(told))


def test_what_the_unit_forbids_cannot_be_done(machine: Machine) -> None:
    """The same program in the daemon's place, and as root beside it: what root can, the unit
    cannot; what the daemon needs, it can. No directive is on paper alone."""
    with prepared(machine):
        root = json.loads(machine.call("python3", WALLS))
        held = tried(machine, "walls")
        named = SERIAL.read_text("utf-8").replace(serial_port(), "/dev/of-root")
        serial = tried(machine, "walls-serial", named)
    assert {what: why for what, why in root["forbidden"].items() if why} == {}
    assert [what for what, why in held["forbidden"].items() if not why] == []
    assert {what: why for what, why in held["needed"].items() if why} == {}
    # With the drop-in, devices are seen, and the one it names opens: its neighbour does not.
    opened = [what for what, why in serial["forbidden"].items() if not why]
    assert opened == ["see devices", "open a device"]
    assert root["uid"] == 0
    for unit in (held, serial):
        assert str(unit["uid"]) == machine.call("id", "-u", "radio-gateway").strip()
        for kind in walls.NAMESPACES:
            assert root["namespaces"][kind] != unit["namespaces"][kind], kind


# --------------------------------------------------------------------------- an officer


@contextlib.contextmanager
def broker(machine: Machine, folder: Path, password: str) -> Iterator[None]:
    """mosquitto beside the daemon, on the port that the sample names; nobody without a password."""
    folder.chmod(0o755)
    users, config = folder / "users", folder / "mosquitto.conf"
    for each in ("radio-gateway", "5001002"):
        new = ["-c"] if not users.exists() else []
        making = [require("mosquitto_passwd"), *new, "-b", str(users), each, password]
        subprocess.run(making, check=True, capture_output=True)
    config.write_text(
        "listener 1883 127.0.0.1\nuser root\nset_tcp_nodelay true\nallow_anonymous false\n"
        f"password_file {users}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            machine.beside(require("mosquitto"), "-c", str(config)), stdout=log, stderr=log
        )
    try:
        machine.until(lambda: ":1883 " in machine.call("ss", "-ltn"), UP_S)
        yield
    finally:
        process.kill()
        process.wait()


def test_an_officer_is_answered_and_the_password_came_as_a_credential(
    machine: Machine, tmp_path: Path
) -> None:
    """In all its walls the daemon logs in with what LoadCredential= handed it, and answers a check
    over MQTT. The password's own file is root's; it stands in no environment and no argument."""
    secret = "s3cr3t-of-the-broker"
    source = "/etc/radio-gateway/secrets/mqtt.password"
    machine.write(source, secret, 0o600)
    handed = f"/run/credentials/{UNIT}/mqtt.password"
    # The unit's own line, which stands there as a comment.
    (load,) = re.findall(
        r"(?m)^#(LoadCredential=.*)$", machine.call("cat", f"/etc/systemd/system/{UNIT}")
    )
    assert load == f"LoadCredential=mqtt.password:{source}"
    machine.write("/root/password", secret, 0o600)
    names = f'username = "radio-gateway"\npassword_file = "{handed}"'
    with (
        restarted(machine),
        broker(machine, tmp_path, secret),
        changed(machine, CONFIG, 'username = ""\npassword_file = ""', names),
        drop_in(machine, f"[Service]\n{load}\n"),
    ):
        machine.until(lambda: up(machine, "mqtt"), UP_S)
        said = machine.call(
            *(GATEWAY, "terminal", "--issi", "5001002", "--password-file", "/root/password"),
            *("--once", "V TE99STV R1", "--wait"),
        )
        assert "STOLEN" in said
        of = f"/proc/{pid(machine)}"
        shown = machine.call("cat", f"{of}/environ", f"{of}/cmdline")
        assert "CREDENTIALS_DIRECTORY=" in shown
        assert secret not in shown
        assert machine.call("stat", "-c%U %a", source) == "root 600\n"
        as_daemon = ("setpriv", "--reuid=radio-gateway", "--clear-groups", "cat")
        assert machine.call(*as_daemon, source, check=False) == ""
        exposure_at_most(machine, 10)
    assert secret not in json.dumps(machine.journal(UNIT))


RADIO = """
import grp, os, pty, select, sys, time, tty
ours, theirs = pty.openpty()
tty.setraw(theirs)
port = os.ttyname(theirs)
os.chown(port, 0, grp.getgrnam("dialout").gr_gid)
os.chmod(port, 0o660)
os.makedirs("/dev/serial/by-id", exist_ok=True)
os.symlink(port, sys.argv[1])
print("plugged in", flush=True)
sys.stdin.readline()
os.write(ours, b"V TE99STV R1\\r\\n")
heard, until = b"", time.monotonic() + 30
while b"STOLEN" not in heard and time.monotonic() < until:
    if select.select([ours], [], [], 1)[0]:
        heard += os.read(ours, 4096)
print(heard, flush=True)
"""


def test_a_radio_on_a_serial_port_with_the_drop_in(machine: Machine) -> None:
    """With radio-gateway-serial.conf as shipped an officer is answered over the port it names, by
    its group alone; PrivateUsers stays on, other devices stay shut, and exposure at most 1.5."""
    text = SERIAL.read_text("utf-8")
    port = serial_port()
    with subprocess.Popen(
        machine.words("python3", "-c", RADIO, port),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as radio:
        assert radio.stdin is not None
        assert radio.stdout is not None
        try:
            assert radio.stdout.readline() == "plugged in\n"
            sample = re.search(r'(?m)^port = "(/dev/serial.*)"$', machine.call("cat", CONFIG))
            assert sample is not None
            with (
                restarted(machine),
                changed(machine, CONFIG, sample[1], port),
                drop_in(machine, text),
            ):
                machine.until(lambda: up(machine, "serial-east"), UP_S)
                print("ask", file=radio.stdin, flush=True)
                assert "STOLEN" in radio.stdout.readline()
                assert machine.show(UNIT, "PrivateUsers")["PrivateUsers"] == "yes"
                exposure_at_most(machine, 15)
        finally:
            radio.kill()


# --------------------------------------------------------------------------- its life


def test_a_hang_is_killed_and_started_anew(machine: Machine) -> None:
    """SIGSTOP: no sign of life for WatchdogSec, as shipped. Killed, started, ready; its ledger
    was not closed, and what it recorded is there."""
    before, count = pid(machine), restarts(machine)
    machine.call("sh", "-c", f"kill -STOP {before}")
    machine.until(lambda: restarts(machine) == count + 1 and state(machine) == "active", UP_S)
    assert pid(machine) != before
    assert any("Watchdog timeout (limit 10s)" in line for line in systemd_says(machine))
    assert machine.http("/healthz")[0] == 200


def test_a_crash_is_started_anew(machine: Machine) -> None:
    """`kill -9`: again after a second."""
    before, count = pid(machine), restarts(machine)
    machine.call("sh", "-c", f"kill -KILL {before}")
    machine.until(lambda: restarts(machine) == count + 1 and state(machine) == "active", UP_S)
    assert pid(machine) != before
    assert machine.http("/healthz")[0] == 200


def test_reload_good_then_bad(machine: Machine) -> None:
    """`systemctl reload`: good people are taken over without a restart; faulty ones change
    nothing, and the journal says file and key."""
    fleet, same = "/etc/radio-gateway/fleet.toml", pid(machine)
    with changed(machine, fleet, 'callsign = "E-101"', 'callsign = "E-199"'):
        machine.call("systemctl", "reload", UNIT)
        machine.until(lambda: "E-199" in callsigns(machine), UP_S)
        assert "E-101" not in callsigns(machine)
        with changed(machine, fleet, 'area = "Eastern"', 'area = "Atlantis"'):
            machine.call("systemctl", "reload", UNIT)

            def refused() -> list[str]:
                told = events(machine, same)
                return [line["finding"] for line in told if line["event"] == "config.refused"]

            machine.until(refused, UP_S)
            assert re.search(r"fleet\.toml.*area", refused()[0])
            assert "E-199" in callsigns(machine)
            assert state(machine) == "active"
    machine.call("systemctl", "reload", UNIT)
    machine.until(lambda: "E-101" in callsigns(machine), UP_S)
    assert pid(machine) == same


LISTENING = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Cookie": sys.argv[2]})
stream = urllib.request.urlopen(asked)
print(stream.status, flush=True)
while stream.read(1):
    pass
"""


def test_stops_within_5_s(machine: Machine) -> None:
    """SIGTERM with a console listening: exit 0, by itself, in systemd's own time."""
    url = "http://127.0.0.1:8080/api/v1/stream"
    stream = machine.beside(sys.executable, "-c", LISTENING, url, cookie(machine))
    with subprocess.Popen(stream, stdout=subprocess.PIPE) as console:
        try:
            assert console.stdout is not None
            assert console.stdout.readline() == b"200\n"
            was = pid(machine)
            machine.call("systemctl", "stop", UNIT)
        finally:
            console.kill()
    names = ("ActiveState", "Result", "ExecMainCode", "ExecMainStatus")
    left, ended = "ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"
    shown = machine.show(UNIT, *names, left, ended)
    # ExecMainCode 1 is CLD_EXITED: it ended itself.
    assert [shown[name] for name in names] == ["inactive", "success", "1", "0"]
    assert int(shown[ended]) - int(shown[left]) < 5_000_000
    assert events(machine, was)[-1]["event"] == "stopped"
    machine.call("systemctl", "start", UNIT)


def test_a_bad_configuration_is_exit_78_and_not_tried_again(machine: Machine) -> None:
    """Exit 78 stays failed, with the reason in the journal; put right, it starts."""
    with changed(machine, CONFIG, 'timezone = "', 'timezone = "Atlantis/'):
        machine.call("systemctl", "restart", UNIT, check=False)
        machine.until(lambda: state(machine) == "failed", UP_S)
        time.sleep(3)  # thrice RestartSec
        shown = machine.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
        assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
        told = [line["MESSAGE"] for line in machine.journal(UNIT, "-n20")]
        assert any("gateway.toml: gateway.timezone" in line for line in told)
    machine.call("systemctl", "start", UNIT)
    assert state(machine) == "active"
