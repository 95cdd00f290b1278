"""A Debian with a systemd of its own as PID 1, in systemd-nspawn: built, booted and reaped here.

Needs root, and cgroup2 and BPF in the kernel; no systemd on the machine itself. Root file system,
mounts, cgroups and network are the container's own: nothing is left when the test process ends,
even by SIGKILL (an empty cgroup at most).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import require

ROOT = Path(__file__).resolve().parents[2]
MIRROR = "http://deb.debian.org/debian"
# minbase is what every Debian has; the rest: PID 1, what ./run asks for, and `ip` for the tests.
PACKAGES = "systemd-sysv,python3-venv,iproute2"
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
NOT_OURS = shutil.ignore_patterns(".git", ".venv", ".uv", ".*_cache", ".hypothesis", "__pycache__")
BUILD_S = 300.0
INSTALL_S = 180.0
BOOT_S = 90.0
CALL_S = 60.0
END_S = 20.0

# Everything that follows runs in the mount and PID namespaces that this opens, and ends with it.
# A cgroup2 alone at the usual place, also where the machine mounts its controllers the old way:
# systemd applies address and device rules (BPF) only there. A file system in memory: dpkg syncs.
HOLD = """
set -eu
mount -t tmpfs -o size=2g,mode=0755 tmpfs "$1"
umount -l /sys/fs/cgroup || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mkdir "/sys/fs/cgroup$2"
echo ready
exec sleep infinity
"""
# nspawn makes cgroups beside its own, so it gets one of its own first.
SPAWN = 'echo 0 >"/sys/fs/cgroup$1/cgroup.procs"; shift; exec "$@"'


class Machine:
    """One container. `build`, then `boot`; `close` whatever came of them."""

    def __init__(self, folder: Path) -> None:
        for program in ("mmdebstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare"):
            require(program)
        if os.geteuid() != 0:
            says = "systemd-nspawn needs root"
            if os.environ.get("CI"):
                pytest.fail(says)
            pytest.skip(says)
        self.root = folder / "root"
        """Where the container's files are, inside the namespace that `_inside` enters."""
        self._folder = folder
        self._log = folder / "console.log"
        name = f"rg-{uuid.uuid4().hex[:12]}"
        self._name = name
        self._cgroup = f"{_own_cgroup()}/{name}"
        self._spawned: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.root.mkdir(parents=True)
        hold = ["sh", "-c", HOLD, "hold", str(self.root), self._cgroup]
        self._holder = subprocess.Popen(
            # If this process dies, so does unshare, and with it the whole PID namespace.
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"),
                *("--kill-child=KILL", "--mount-proc", "--propagation", "private", *hold),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            said = self._holder.communicate(timeout=END_S)[1].decode(errors="replace")
            raise AssertionError(f"no namespaces or no cgroup2 here: {said}")

    # ----------------------------------------------------------------- building

    def build(self) -> None:
        """A minimal Debian, and this source in /opt/radio-gateway, root's, with its .venv."""
        without = [f"--dpkgopt=path-exclude={each}" for each in LEFT_OUT]
        self._inside(
            [
                *(
                    "mmdebstrap",
                    "--variant=minbase",
                    "--mode=root",
                    "--format=directory",
                    "--quiet",
                ),
                *("--skip=check/qemu", "--skip=check/empty", f"--include={PACKAGES}", *without),
                *("--aptopt=Acquire::Retries 3", "bookworm", str(self.root), MIRROR),
            ],
            BUILD_S,
        )
        source = self._folder / "source"
        shutil.copytree(ROOT, source, ignore=NOT_OURS)
        self.copy(source, "/opt/radio-gateway")
        # What this machine trusts, for PyPI: behind a proxy it is signed by its certificate.
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if bundle.exists():
            self.copy(bundle, str(bundle))
        self._spawn_and_wait(["/opt/radio-gateway/run", "check-config", "config/gateway.toml"])

    def copy(self, source: Path, target: str) -> None:
        """A file or folder into the container before or after boot; root owns it."""
        to = str(self.root) + target
        self._inside(["mkdir", "-p", str(Path(to).parent)], CALL_S)
        self._inside(["cp", "-r", "--no-preserve=ownership", str(source), to], CALL_S)

    def _spawn_and_wait(self, words: list[str]) -> None:
        """One command in the container before it boots, with this machine's network."""
        self._inside(
            self._nspawn("--pipe", "--chdir=/opt/radio-gateway", "--resolv-conf=copy-host", *words),
            INSTALL_S,
        )

    # ----------------------------------------------------------------- running

    def boot(self) -> None:
        """systemd as PID 1, with a network of its own that holds loopback alone."""
        with self._log.open("wb") as log:
            self._spawned = subprocess.Popen(
                self._entered(
                    self._nspawn(
                        "--boot",
                        "--private-network",
                        "--console=pipe",
                        # What a PID 1 on a machine may do and the rules of the unit need: BPF for
                        # IPAddressDeny and DeviceAllow, keyrings for KeyringMode.
                        "--system-call-filter=bpf @keyring",
                        "--capability=CAP_BPF,CAP_PERFMON,CAP_SYS_RESOURCE",
                    )
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(self._up, BOOT_S)

    def _up(self) -> bool:
        assert self._spawned is not None
        if self._spawned.poll() is not None:
            raise AssertionError(f"nspawn ended: {self._log.read_text(errors='replace')[-3000:]}")
        # nsenter forks for the PID namespace, nspawn for the container.
        for nspawn in _children(self._spawned.pid):
            for leader in _children(nspawn):
                self._leader = leader
                said = self.call("systemctl", "is-system-running", check=False).strip()
                return said in ("running", "degraded")
        return False

    def until(self, ready: Callable[[], object], within_s: float) -> None:
        """Poll what happens in the container; an AssertionError with its journal when it does not
        come about in time."""
        until_s = time.monotonic() + within_s
        while not ready():
            if time.monotonic() > until_s:
                console = self._log.read_text(errors="replace")[-1500:]
                told = self.call("journalctl", "--no-pager", "-n60", check=False)
                raise AssertionError(f"not within {within_s:g} s:\n{console}\n{told}")
            time.sleep(0.1)

    def words(self, *words: str) -> list[str]:
        """The command line, outside, of a command in the running container."""
        return ["nsenter", "--target", str(self._leader), "--all", "--", *words]

    def call(self, *words: str, check: bool = True, said: str = "") -> str:
        """What a command in the running container printed; `said` is its input."""
        run = subprocess.run(
            self.words(*words), input=said, capture_output=True, text=True, timeout=CALL_S
        )
        assert run.returncode == 0 or not check, (words, run.stdout[-3000:], run.stderr[-3000:])
        return run.stdout

    def beside(self, *words: str) -> list[str]:
        """The command line of one of this machine's programs in the container's network."""
        return ["nsenter", f"--net=/proc/{self._leader}/ns/net", "--", *words]

    def http(self, path: str, cookie: str = "") -> tuple[int, bytes]:
        """GET from the daemon's own port; status 0 while nobody answers."""
        run = subprocess.run(
            self.beside(sys.executable, "-c", GET, f"http://127.0.0.1:8080{path}", cookie),
            capture_output=True,
            timeout=CALL_S,
        )
        head, _, body = run.stdout.partition(b"\n")
        return int(head or b"0"), body

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of root's in the running container."""
        self.call(
            "sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"', "w", path,
            f"{mode:o}", said=text,
        )  # fmt: skip

    # ----------------------------------------------------------------- one unit

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit as systemd has them."""
        said = self.call("systemctl", "show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def journal(self, unit: str, *options: str) -> list[dict[str, Any]]:
        """Its entries, and systemd's about it: MESSAGE, _PID, PRIORITY ..."""
        said = self.call("journalctl", "--no-pager", "-o", "json", "-u", unit, *options)
        return [json.loads(line) for line in said.splitlines()]

    def close(self) -> None:
        """End everything in it, and the namespaces with their mounts."""
        if self._leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)  # PID 1 of the container: all end with it
        if self._spawned is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._spawned.wait(END_S)
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            tree = f"/sys/fs/cgroup{self._cgroup}"
            self._inside(["find", tree, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], END_S)
        self._holder.kill()
        self._holder.communicate()

    # ----------------------------------------------------------------- namespaces

    def _nspawn(self, *words: str) -> list[str]:
        return [
            *("sh", "-c", SPAWN, "spawn", self._cgroup, "systemd-nspawn", "--quiet"),
            *(f"--directory={self.root}", f"--machine={self._name}"),
            # There may be no systemd outside to tell of it.
            *("--register=no", "--keep-unit", "--private-users=no", *words),
        ]

    def _entered(self, words: list[str]) -> list[str]:
        of = f"/proc/{self._holder.pid}/ns"
        return ["nsenter", f"--mount={of}/mnt", f"--pid={of}/pid_for_children", "--", *words]

    def _inside(self, words: list[str], within_s: float) -> None:
        run = subprocess.run(
            self._entered(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
        )
        assert run.returncode == 0, f"{words[:6]}: {run.stdout[-3000:]}"


GET = """
import sys, urllib.error, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Cookie": sys.argv[2]})
try:
    with urllib.request.urlopen(asked, timeout=10) as answer:
        status, body = answer.status, answer.read()
except urllib.error.HTTPError as error:
    status, body = error.code, error.read()
except OSError:
    status, body = 0, b""
sys.stdout.buffer.write(str(status).encode() + b"\\n" + body)
"""


def _own_cgroup() -> str:
    """Where this process is in the cgroup2 tree; empty for its top."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:].rstrip("/")
    return ""


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Machine]:
    """Built and booted; ended whatever happens."""
    machine = Machine(folder)
    try:
        machine.build()
        machine.boot()
        yield machine
    finally:
        machine.close()
