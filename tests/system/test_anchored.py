"""A daemon whose heads leave it: what an anchor knows is found out at the next start."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.chain import audit
from tests.system.daemon import ROOT, Daemon, until


async def verify(daemon: Daemon) -> tuple[int, str]:
    """`audit verify` with the daemon's own configuration, anchors and all."""
    command = ["-m", "gateway", "audit", "verify", "--config", str(daemon.config)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.slow
async def test_a_store_that_was_put_back_is_behind_its_anchor(tmp_path: Path) -> None:
    """D12: ledger, heads and frontier of yesterday; the anchor has today's. It is said, the service
    is up, no number is used twice, and `audit verify` names what is missing."""
    daemon = Daemon(tmp_path)
    anchor = tmp_path / "mount" / "heads.jsonl"
    anchor.parent.mkdir()
    with daemon.config.open("a") as file:
        file.write(f'[[audit.anchors]]\nkind = "file"\npath = "{anchor}"\n')
    try:
        await daemon.start()
        assert await daemon.stop() == 0
        heads = (daemon.state / "heads.jsonl").read_bytes().splitlines()
        assert anchor.read_bytes().splitlines()[-1] == heads[-1], "the head of the stop"
        shutil.copytree(daemon.state, tmp_path / "yesterday")
        for _ in range(2):
            await daemon.start()
            assert await daemon.stop() == 0
        newest = json.loads(anchor.read_bytes().splitlines()[-1])["seq"]
        assert newest == 7
        shutil.rmtree(daemon.state)
        shutil.copytree(tmp_path / "yesterday", daemon.state)
        await daemon.start()
        said = {line["event"]: line for line in daemon.journal()}
        assert said["ledger.anchor"]["state"] == "ahead"
        assert said["ledger.behind"]["reason"] == "history missing 4..7"
        await until(lambda: "AUP" in [leaf["operation"] for leaf in audit(daemon.state)])
        assert await daemon.stop() == 0
        found = [(leaf.seq, leaf["event"]) for leaf in audit(daemon.state)]
        assert found[3:] == [(8, "security"), (9, "started"), (10, "alarm"), (11, "stopped")]
        code, words = await verify(daemon)
        assert code == 0, words
        assert "NOT HERE, as is on record: 4..7" in words
    finally:
        await daemon.close()


async def test_an_anchor_that_is_away_stops_nothing(tmp_path: Path) -> None:
    """Neither start nor stop; and `audit verify` says that it could not be asked."""
    daemon = Daemon(tmp_path)
    with daemon.config.open("a") as file:
        file.write('[[audit.anchors]]\nkind = "http"\nurl = "http://127.0.0.1:1/gwt"\n')
    try:
        await daemon.start()
        assert (await daemon.get("/readyz"))[0] == 200
        assert await daemon.stop() == 0
        assert {"event": "ledger.anchor", "state": "unread"}.items() <= next(
            line for line in daemon.journal() if line["event"] == "ledger.anchor"
        ).items()
        code, words = await verify(daemon)
        assert code == 0
        assert "anchor http could not be asked" in words
    finally:
        await daemon.close()
