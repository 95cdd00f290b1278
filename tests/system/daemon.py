"""The real daemon as a process of its own: configured, started, watched, killed from outside.

Nothing here imports the product: what the daemon is made to do is written as its files and its
command line, and what it did is read from HTTP, its output and its ledger file.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.services import free_port
from tests.system.seats import OPERATORS, PASSWORD, log_in

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60.0
UNLIMITED = {
    "per_s": 1e6,
    "burst": 1_000_000,
    "officer_per_hour": 1e9,
    "officer_burst": 1_000_000,
    "fixes_per_s": 1e6,
    "fixes_burst": 1_000_000,
    "all_per_s": 1e6,
    "all_burst": 1_000_000,
    "all_fixes_per_s": 1e6,
    "all_fixes_burst": 1_000_000,
}
"""Tests hurry more than officers do; where limits are meant, `sections` says so."""
EXIT_WITHIN_S = 10.0
WATCHED = ("/metrics", "/healthz", "/readyz")


def unchallenged(policy: str) -> str:
    """The sample without challenges by chance: the key of each test's instance is another."""
    assert "\nrate = 0.1\nalways = [" in policy
    return re.sub(r"\nrate = 0\.1\nalways = \[.*\]", "\nrate = 0.0\nalways = []", policy)


class Daemon:
    """`radio-gateway run` in a folder of its own. `start` may be called again after `kill`.

    lines: name -> (path of the serial line, ISSI). tetra: name -> the section of that radio.
    broker: port of a broker on loopback, or None.
    pnc_url: a PNC server, or None for the mock in process. sections: more TOML, by table.
    wrapper: what the daemon is started below, and must `exec` it, so that the process is the same.
    port: its own, when it must be known before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lines: Mapping[str, tuple[str, str]] | None = None,
        broker: int | None = None,
        pnc_url: str | None = None,
        checks: Mapping[str, Any] | None = None,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
        broker_settings: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        port: int = 0,
        tetra: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.wrapper = tuple(wrapper)
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "gateway.toml"
        self.people = folder / "people.toml"
        self.output = folder / "journal.jsonl"
        self.errors = folder / "stderr.txt"
        self.state = folder / "var"
        self.process: asyncio.subprocess.Process | None = None
        self._seats: dict[str, dict[str, str]] = {}
        self._environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})}
        self._write(
            lines or {},
            broker,
            pnc_url,
            dict(checks or {}),
            dict(sections or {}),
            dict(broker_settings or {}),
            tetra or {},
        )

    def _write(
        self,
        lines: Mapping[str, tuple[str, str]],
        broker: int | None,
        pnc_url: str | None,
        checks: dict[str, Any],
        sections: dict[str, Mapping[str, Any]],
        broker_settings: dict[str, Any],
        tetra: Mapping[str, Mapping[str, Any]],
    ) -> None:
        config = ROOT / "config"
        text = _table(
            "gateway",
            {
                "instance": "gwt",
                "state_dir": str(self.state),
                "fleet": str(self.folder / "fleet.toml"),
                "people": str(self.folder / "people.toml"),
                "areas": str(config / "areas.toml"),
                "policy": str(self.folder / "policy.toml"),
                "warnings": str(config / "warnings.toml"),
            },
        )
        for name in ("fleet.toml", "people.toml", "policy.toml"):
            if not (self.folder / name).exists():
                file = (config / name).read_text("utf-8")
                if name == "policy.toml":
                    # What is held, or waits for an officer's word, is for tests of that alone.
                    file = file.replace("hold = true", "hold = false")
                    file = file.replace("prompt = true", "prompt = false")
                    file = unchallenged(file)
                (self.folder / name).write_text(file, "utf-8")
        if OPERATORS not in self.people.read_text("utf-8"):
            with self.people.open("a", encoding="utf-8") as people:
                people.write(OPERATORS)
        text += _table(
            "alarms", {"file": str(config / "alarms.toml"), **sections.pop("alarms", {})}
        )
        text += _table("checks", checks)
        pnc: dict[str, Any] = {"adapter": "mock", "records": str(config / "pnc")}
        if pnc_url is not None:
            pnc = {"adapter": "http", "url": pnc_url}
        text += _table("pnc", pnc)
        text += _table("limits", sections.pop("limits", UNLIMITED))
        http = {"port": self.port, "per_session_per_s": 10_000.0, **sections.pop("http", {})}
        text += _table("http", http)
        text += _table("auth", {"sessions_each": 100, **sections.pop("auth", {})})
        for name, table in sections.items():
            text += _table(name, table)
        for name, (path, issi) in lines.items():
            text += "[[serial]]\n" + _pairs({"name": name, "port": path, "terminal": issi})
        for name, radio in tetra.items():
            text += "[[tetra]]\n" + _pairs({"name": name, **radio})
        if broker is not None:
            text += "[[mqtt]]\n" + _pairs({"name": "mqtt", "port": broker, **broker_settings})
        self.config.write_text(text, "utf-8")

    # ----------------------------------------------------------------- life

    async def start(self, *, wait: bool = True) -> None:
        """Start the process; with `wait`, return when /readyz says so."""
        with self.output.open("ab") as out, self.errors.open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *self.wrapper,
                sys.executable,
                "-m",
                "gateway",
                "run",
                "--config",
                str(self.config),
                cwd=ROOT,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        if wait:
            await self.ready()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def writer_pid(self) -> int:
        """The process that writes its ledger."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()
        named = {
            int(each): Path(f"/proc/{each}/comm").read_text("utf-8").strip() for each in children
        }
        return next(pid for pid, name in named.items() if name == "radio-ledger")

    async def ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Until /readyz is 200. Raises with the daemon's own words when it ends or takes longer."""
        assert self.process is not None
        try:
            async with asyncio.timeout(within_s), aiohttp.ClientSession() as http:
                while True:
                    if self.process.returncode is not None:
                        raise AssertionError(f"ended with {self.process.returncode}: {self.said()}")
                    try:
                        async with http.get(f"{self.url}/readyz") as answer:
                            if answer.status == 200:
                                return
                    except aiohttp.ClientError:
                        pass
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not ready within {within_s:g} s: {self.said()}") from None

    def said(self) -> str:
        """The last of its output, for a failed test."""
        return (self.errors.read_text("utf-8") + self.output.read_text("utf-8"))[-3000:]

    async def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, as systemd stops it; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(EXIT_WITHIN_S):
            return await self.process.wait()

    async def close(self) -> None:
        """End it whatever state it is in."""
        if self.process is not None:
            await self.kill()

    # ----------------------------------------------------------------- looking in

    async def log_in(self, who: str = "op-1", password: str = PASSWORD) -> dict[str, str]:
        """The headers of an open session of theirs (tests.system.seats)."""
        if who not in self._seats:
            self._seats[who] = await log_in(self.url, who, password)
        return self._seats[who]

    async def get(self, path: str, who: str = "op-1") -> tuple[int, bytes]:
        """As somebody who is logged in, but for what whoever watches the machine may ask."""
        return await self._asked("GET", path, "" if path in WATCHED else who)

    async def snapshot(self) -> dict[str, Any]:
        status, body = await self.get("/api/v1/snapshot")
        assert status == 200
        return dict(json.loads(body))

    async def post(
        self, path: str, body: Mapping[str, Any], key: str, who: str = "op-1"
    ) -> tuple[int, dict[str, Any]]:
        status, said = await self._asked("POST", path, who, json=dict(body), key=key)
        return status, dict(json.loads(said))

    async def _asked(
        self, method: str, path: str, who: str, *, json: object = None, key: str = ""
    ) -> tuple[int, bytes]:
        """As somebody who is logged in, who logs in anew when the session is over."""
        more = {"Idempotency-Key": key, "Origin": self.url} if key else {}
        async with asyncio.timeout(10), aiohttp.ClientSession() as http:
            while True:
                fresh = who not in self._seats
                seat = await self.log_in(who) if who else {}
                async with http.request(
                    method, self.url + path, json=json, headers={**more, **seat}
                ) as answer:
                    if answer.status != 401 or fresh:
                        return answer.status, await answer.read()
                del self._seats[who]

    def journal(self) -> list[dict[str, Any]]:
        """Every whole line it logged; a line that is no JSON fails the test."""
        lines = self.output.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


async def until(ready: Callable[[], object], within_s: float = 10.0) -> None:
    """Poll what another process does; TimeoutError when it does not come about in time."""
    async with asyncio.timeout(within_s):
        while not ready():  # noqa: ASYNC110 - it happens in another process: no event to await
            await asyncio.sleep(0.02)


def _table(name: str, values: Mapping[str, Any]) -> str:
    return f"[{name}]\n{_pairs(values)}" if values else ""


def _pairs(values: Mapping[str, Any]) -> str:
    # A JSON string, number, boolean or array of them is the same in TOML.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
