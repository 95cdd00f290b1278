"""I17: what officers asked, were shown and reported is gone at the end of its time, and the chain
verifies.

The wall clock alone is set forth by 40 days, by libfaketime, while the daemon is stopped.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.chain import Leaf, audit, contents, leaf_of_line
from tests.services import require_faketime
from tests.system.bounds import outlived
from tests.system.daemon import ROOT, until
from tests.system.ledgers import Evidence, canaries, chain_faults
from tests.system.post import WITHIN_S, Post, post

DAY_MS = 86_400_000
OLD = ("TE99STV", "TE99KWN", "WANDA", "06061988", "1988-06-06", "52.573")
"""Planted in questions, answers and a position of the first life ..."""
NEW = "TE99ABC"
"""... and in a question of the second one."""


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_content_is_gone_when_its_time_is_over_and_the_chain_verifies(tmp_path: Path) -> None:
    """From the file's bytes, from the logs beside it and from the export; while the daemon serves,
    and after it stopped. What is young stays, and so does who asked, when and why."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    environ = {
        "LD_PRELOAD": require_faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    keep = {"ledger": {"keep_days": 10}, "history": {"keep_days": 10}}
    async with post(tmp_path, sections=keep, environ=environ) as here:
        here.officer.fix(52_573_100, -243_100)
        await here.answered("V TE99STV R1")
        await here.answered("N TESTER/WANDA/06061988 R1")
        await here.answered("V TE99KWN R1")
        await here.settled()
        assert await here.daemon.stop() == 0
        first = audit(here.daemon.state)
        before = kept(here.daemon.state)
        held = [word for word in OLD if any(hide in before["all"] for hide in canaries([word]))]
        assert {"TE99STV", "TE99KWN", "WANDA", "52.573"} <= set(held), "planted nowhere"
        assert contents(here.daemon.state)

        clock.write_text("+40d\n")
        await here.daemon.start()
        await here.answered(f"V {NEW} R1")
        done = await here.logged("ledger.purge")
        assert done["count"] == len(promised(first))
        await until(lambda: b"52.573" not in kept(here.daemon.state)["all"], WITHIN_S)
        await judged(here, await exported(here))
        assert await here.metric("last_purge_timestamp_seconds") > first[0]["at_ms"] / 1000
        assert await here.daemon.stop() == 0
        await judged(here, b"")
        # What was asked 40 days apart was heard at one time: the clocks disagree about the order.
        assert [each for each in here.verdict() if "heard before its record" not in each] == []
        now = audit(here.daemon.state)
        assert [leaf.raw for leaf in now[: len(first)]] == [leaf.raw for leaf in first]


def promised(leaves: list[Leaf]) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf["commitment"]]


def kept(state: Path) -> dict[str, bytes]:
    """Every file that the daemon keeps, and all of them together."""
    files = {path.name: path.read_bytes() for path in sorted(state.iterdir())}
    return {**files, "all": b"".join(files.values())}


async def exported(here: Post) -> bytes:
    """`audit export`, beside the daemon; its chain verifies, too."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "audit", "export", "--config", str(here.daemon.config)),
        *("--purpose", "lawfulness", "--format", "jsonl", "--by", "auditor-1"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WITHIN_S):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert chain_faults([leaf_of_line(line) for line in out.splitlines()]) == []
    return out


async def judged(here: Post, export: bytes) -> None:
    """Nothing is left of the first life but its records; the second one's question is."""
    state = here.daemon.state
    leaves, left = audit(state), contents(state)
    files = {**kept(state), "export": export}
    now_ms = leaves[-1]["at_ms"]
    e = Evidence(leaves=leaves, contents=left)
    assert outlived(e, files, OLD, before_ms=now_ms - 10 * DAY_MS) == []
    assert chain_faults(leaves, contents=left) == []
    assert [leaf["event"] for leaf in leaves].count("purged") == 1
    assert NEW.encode() in files["ledger.db"] + files.get("ledger.db-wal", b"")
