"""Real services for tests: each starts on loopback, in a folder of its own, and is reaped."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import socket
from pathlib import Path
from typing import NoReturn

import pytest

DEBIAN_PACKAGES = {
    "mosquitto": "mosquitto",
    "initdb": "postgresql",
    "chromium": "chromium",
    "strace": "strace",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "faketime": "faketime",
    "glewlwyd": "glewlwyd",
    "gpsd": "gpsd",
    "gpsfake": "gpsd-clients",
    "gpspipe": "gpsd-clients",
}
EXTRA_FOLDERS = ("/usr/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin")


def require(program: str) -> str:
    """The program's path. Missing: a visible skip on a desk, a failure in CI."""
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(EXTRA_FOLDERS))
    if path is None:
        _missing(program, DEBIAN_PACKAGES.get(program, program))
    return path


def _missing(what: str, package: str) -> NoReturn:
    says = f"{what} is missing: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(says)
    pytest.skip(says)


def require_chromium() -> str:
    """Chromium's path, and what the driver that Playwright brings (a node) is linked to."""
    path = require("chromium")
    try:
        ctypes.CDLL("libatomic.so.1")
    except OSError:
        _missing("libatomic.so.1", "libatomic1")
    return path


OUR_PORTS = (16_000, 32_000)
"""Below what the system hands out by itself (/proc/sys/net/ipv4/ip_local_port_range)."""


def require_faketime() -> str:
    """The library that gives a process another wall clock."""
    require("faketime")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "faketime without its library"
    return str(found[0])


def free_port() -> int:
    """A TCP port that was free a moment ago, and that no outgoing connection is given: one whose
    server is away for a while (a restart) would be taken by somebody's connection meanwhile."""
    chance = random.SystemRandom()  # a test may have seeded the other one
    while True:
        port = chance.randrange(*OUR_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
