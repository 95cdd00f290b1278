"""docs/broker.md from its first line to a radio that is answered, on the files that it names."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
import tomllib
from pathlib import Path

import pytest

from adapters.pki.authority import Authority
from tests.docs.pages import ROOT, blocks, marked
from tests.services import hardened
from tests.system.daemon import Daemon, until

PAGE = ROOT / "docs" / "broker.md"


async def commands(mark: str, folder: Path, port: int = 0) -> str:
    """Run a block as it stands, in a folder of its own; what it said."""
    said = ""
    (text,) = marked(PAGE, mark)
    for line in text.splitlines():
        words = shlex.split(line)
        if words[1] == "terminal":
            words += ["--port", str(port)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *words[1:]),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        assert process.returncode == 0, f"{line}: {out.decode()}"
        said += out.decode()
    return said


@pytest.mark.slow
async def test_the_page_leads_from_nothing_to_an_answer(tmp_path: Path) -> None:
    """Certificates, broker, gateway, an officer; renewal and revocation with the daemon up."""
    shown = await commands("run: broker 1", tmp_path)
    assert shown.count(" good ") == 7
    pki = Authority(tmp_path / "pki")
    tables = [tomllib.loads(block.text) for block in blocks(PAGE) if block.kind == "toml"]
    (section,) = (each for table in tables for each in table.get("mqtt", ()))
    assert section.pop("port") == 8883
    assert section.pop("name") == "mqtt"
    with hardened.running(tmp_path / "broker", pki) as broker:
        daemon = Daemon(tmp_path, broker=broker.port, broker_settings=section)
        try:
            await daemon.start()
            answer = await commands("run: broker 2", tmp_path, broker.port)
            assert "STOLEN" in answer
            await commands("run: broker 3", tmp_path)
            broker.reload()
            os.kill(daemon.pid, signal.SIGHUP)
            await until(lambda: "opened anew" in daemon.output.read_text("utf-8"), 20)
            await daemon.ready()
            assert "STOLEN" in await commands("run: broker 2", tmp_path, broker.port)
        finally:
            await daemon.close()


def test_what_it_tells_to_install_is_where_the_configuration_looks() -> None:
    """The one block that is not run needs root: its paths are those of mosquitto.conf."""
    text = PAGE.read_text("utf-8")
    conf = (ROOT / "config" / "mosquitto" / "mosquitto.conf").read_text("utf-8")
    wanted = re.findall(r"^\w+file (\S+)$", conf, re.M)
    assert len(wanted) == 5
    installed = [
        Path(words[-1]) / Path(source).name
        for line in text.splitlines()
        if line.startswith("install -o") and (words := line.split())
        for source in words[7:-1]
    ]
    assert sorted(map(str, installed)) == sorted(wanted)
    for line in re.findall(r"^install .* (config/\S+)", text, re.M):
        assert (ROOT / line.split()[0]).is_file()
