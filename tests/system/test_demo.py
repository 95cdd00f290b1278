"""`demo` as a newcomer sees it: both bearers answered within 10 s, a summary, nothing left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest

from tests.services import free_port
from tests.system.daemon import ROOT, until

ANSWER_WITHIN_S = 10.0
"""From the start of the process, the page included (issue statement 2)."""


class Demo:
    """The demo as a process, its output read line by line."""

    def __init__(self, tmp: Path, *options: str) -> None:
        self.port = free_port()
        self.lines: list[str] = []
        self._options = options
        self._tmp = tmp
        self.process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "demo", "--http-port", str(self.port)),
            *self._options,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self._tmp), "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    async def end(self, within_s: float) -> int:
        assert self.process is not None
        assert self._reader is not None
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
            await self._reader
        return code

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


def left_behind(pgid: int, tmp: Path) -> list[str]:
    """Processes of that group, files in its temporary folder. (A PTY lives as long as a process
    holds it, so where none is left there is no PTY either.)"""
    found = [str(path) for path in tmp.iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pgid and fields[0] != "Z":
                found.append(f"process {entry.name}")
    return found


@pytest.mark.timeout(120)
async def test_demo_answers_on_both_bearers_shows_it_and_ends_with_a_summary(
    tmp_path: Path,
) -> None:
    """Within 10 s one check answered over serial and one over MQTT, and the page shows both."""
    demo = Demo(tmp_path, "--duration", "30", "--seed", "1")
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    try:
        await demo.start()
        bearers: set[str] = set()
        while loop.time() - started_s < ANSWER_WITHIN_S and len(bearers) < 2:
            bearers |= await answered_bearers(demo.port)
            await asyncio.sleep(0.1)
        assert bearers == {"serial", "mqtt"}, demo.text
        assert f"http://127.0.0.1:{demo.port}/" in demo.text
        assert await demo.end(60) == 0, demo.text
    finally:
        await demo.kill()
    figures = summary(demo.text)
    assert figures["asked"] >= 10, demo.text
    assert figures["answered"] >= 5, demo.text
    assert figures["failed"] + figures["expired"] >= 1, "a PNC that does not answer was shown"
    assert figures["fixes"] > 100, demo.text
    assert re.search(r"p50.*p99", demo.text), demo.text
    for happening in ("stolen", "wanted", "no trace", "slow", "does not answer", "unplug"):
        assert happening in demo.text.lower(), f"no caption says {happening}"
    assert "NO ANSWER" in demo.text
    assert demo.process is not None
    assert left_behind(demo.process.pid, tmp_path) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moment", ["end      Ctrl-C", "ANSWERED"])
async def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    """SIGINT while everything connects, and in full play: exit within seconds; no process,
    socket, PTY or file stays, and no traceback is shown."""
    demo = Demo(tmp_path)
    try:
        await demo.start()
        await until(lambda: any(moment in line for line in demo.lines), 20)
        assert demo.process is not None
        demo.process.send_signal(signal.SIGINT)
        assert await demo.end(10) == 0, demo.text
    finally:
        await demo.kill()
    assert demo.process is not None
    assert left_behind(demo.process.pid, tmp_path) == []
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", demo.port)
    assert "Traceback" not in demo.text
    assert tempfile.gettempdir() != str(tmp_path)


async def answered_bearers(port: int) -> set[str]:
    """Over which bearers the page shows an answered check by now."""
    fleet = (ROOT / "simulators" / "scenarios" / "demo.toml").read_text("utf-8")
    bearer_of = dict(re.findall(r'callsign = "([^"]+)"\nissi = "\d+"\nbearer = "(\w+)"', fleet))
    try:
        async with (
            asyncio.timeout(2),
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/api/v1/snapshot") as answer,
        ):
            picture = json.loads(await answer.read())
    except (aiohttp.ClientError, TimeoutError):
        return set()
    names = {row[0]: row[1] for row in picture["units"]["rows"]}
    return {
        bearer_of[names[check["u"]]]
        for check in picture["checks"]
        if check.get("done", {}).get("outcome") == "answered" and names.get(check["u"]) in bearer_of
    }


def summary(text: str) -> dict[str, int]:
    """The figures behind each word of the summary at the end."""
    end = text[text.rindex("checks   asked") :]
    words = ("asked", "answered", "refused", "expired", "failed", "fixes")
    return {word: int(re.findall(rf"{word} +(\d+)", end)[0]) for word in words}
