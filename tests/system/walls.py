"""A program that tries what the unit forbids, and prints what it could do, as JSON.

Run by the unit itself in the daemon's place, and by root beside it: what root can and the unit
cannot is what the unit's hardening holds back. Standard library only; it is copied into a machine.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUTS = 0x04000000
ELSEWHERE = ("10.9.8.7", 7)
"""An address of this machine that is not loopback, where the test listens."""


def write(path: str) -> None:
    with open(path, "a") as file:
        file.write("")


def create(path: str) -> None:
    Path(path).write_text("")
    Path(path).unlink()


def look_into(folder: str) -> None:
    os.listdir(folder)


def listen(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind(address)  # type: ignore[arg-type]


def connect(address: tuple[str, int]) -> None:
    socket.create_connection(address, timeout=1.0).close()


def open_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def libc(name: str, *words: object) -> None:
    if getattr(LIBC, name)(*words) == -1:
        raise OSError(ctypes.get_errno(), name)


def set_user_id_bit() -> None:
    path = Path("/var/lib/radio-gateway/suid")
    path.write_text("")
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def writable_code() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def realtime() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def dump_core() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        raise OSError("no core may be written")


def open_many_files() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 4096:
        raise OSError("at most 4096")


# name of what must not be possible: the directive that holds it, and the attempt.
FORBIDDEN: dict[str, tuple[str, Callable[[], object]]] = {
    "write the code": ("ProtectSystem", lambda: create("/opt/radio-gateway/gateway/new.py")),
    "write the configuration": ("ProtectSystem", lambda: create("/etc/radio-gateway/new.toml")),
    "write the system": ("ProtectSystem", lambda: create("/usr/new")),
    "look into homes": ("ProtectHome", lambda: look_into("/root")),
    "see others' temporary files": ("PrivateTmp", lambda: os.stat("/tmp/of-root")),
    "see other processes": ("ProtectProc", lambda: os.stat("/proc/1")),
    "see the kernel's figures": ("ProcSubset", lambda: os.stat("/proc/meminfo")),
    "write control groups": (
        "ProtectControlGroups",
        lambda: write("/sys/fs/cgroup/system.slice/cgroup.procs"),
    ),
    "name the machine": ("ProtectHostname", lambda: socket.sethostname(socket.gethostname())),
    "see devices": ("PrivateDevices", lambda: os.stat("/dev/of-root")),
    "open a device": ("DevicePolicy", lambda: os.close(os.open("/dev/of-root", os.O_RDWR))),
    "open another device": ("DevicePolicy", lambda: os.close(os.open("/dev/of-root-2", os.O_RDWR))),
    "map memory to write and run": ("MemoryDenyWriteExecute", writable_code),
    "make namespaces": ("RestrictNamespaces", lambda: libc("unshare", CLONE_NEWUTS)),
    "run in real time": ("RestrictRealtime", realtime),
    "set a set-user-ID bit": ("RestrictSUIDSGID", set_user_id_bit),
    "change its personality": ("LockPersonality", lambda: libc("personality", 0x0008)),
    "open packet sockets": (
        "RestrictAddressFamilies",
        lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    ),
    "open netlink sockets": (
        "RestrictAddressFamilies",
        lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    ),
    "mount": ("SystemCallFilter", lambda: libc("mount", b"none", b"/mnt", b"tmpfs", 0, None)),
    "raise its priority": ("SystemCallFilter", lambda: os.setpriority(os.PRIO_PROCESS, 0, 0)),
    "become root": ("User", lambda: os.setresuid(0, 0, 0)),
    "take a low port": (
        "CapabilityBoundingSet",
        lambda: listen(socket.AF_INET, ("127.0.0.1", 81)),
    ),
    "reach another machine": ("IPAddressDeny", lambda: connect(ELSEWHERE)),
    "dump its memory": ("LimitCORE", dump_core),
    "open very many files": ("LimitNOFILE", open_many_files),
}
NEEDED: dict[str, Callable[[], object]] = {
    "write its state": lambda: create("/var/lib/radio-gateway/new"),
    "read the configuration": lambda: Path("/etc/radio-gateway/gateway.toml").read_text(),
    "read the code": lambda: Path("/opt/radio-gateway/gateway/core.py").read_text(),
    "listen on loopback": lambda: listen(socket.AF_INET, ("127.0.0.1", 0)),
}
NAMESPACES = ("ipc", "mnt", "user", "uts")


def could(attempt: Callable[[], object]) -> str:
    """Empty when it could; else why not."""
    try:
        attempt()
    except OSError as error:
        return str(error) or type(error).__name__
    return ""


def main() -> None:
    told = {
        "uid": os.getuid(),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES},
        "forbidden": {name: could(attempt) for name, (_, attempt) in FORBIDDEN.items()},
        "needed": {name: could(attempt) for name, attempt in NEEDED.items()},
    }
    json.dump(told, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
