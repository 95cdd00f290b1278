"""A real PostgreSQL on a Unix socket: a cluster of its own in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.services import require

UP_WITHIN_S = 20.0


def _as_server_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root: then as its own user, else as who we are."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def running(*options: str) -> Iterator[str]:
    """The URL of an empty database, as gateway.toml has it. options: more words for the server."""
    initdb, postgres = require("initdb"), require("postgres")
    user = _as_server_user()
    # Not below pytest's folder: the server's user must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    environ = {"LANG": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": str(folder)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(  # type: ignore[call-overload]
            [initdb, "-D", str(data), "-U", "gateway", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            env=environ,
            **quiet,
            **user,
        )
        server = subprocess.Popen(  # type: ignore[call-overload]
            [postgres, "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", *options],
            env=environ,
            **quiet,
            **user,
        )
        _wait_up(folder)
        yield f"postgresql+psycopg://gateway@/postgres?host={folder}"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # fast: it does not wait for whoever is connected
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_up(folder: Path) -> None:
    import psycopg

    until_s = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < until_s:
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(host=str(folder), user="gateway", dbname="postgres"),
        ):
            return
        time.sleep(0.02)
    raise AssertionError("PostgreSQL does not come up")
