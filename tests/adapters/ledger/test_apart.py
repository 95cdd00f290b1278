"""A receipt proved in a process of its own: every end of it reaches whoever asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from adapters.ledger import apart
from adapters.ledger.apart import prove_apart
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import opened, tamper

RECEIPT = "4F2A-91KQ"


async def written(folder: Path) -> None:
    store = await opened(folder)
    await store.commit(
        [Record(event="opened", at_ms=1, check="C1", receipt=RECEIPT, content=b"{}")]
    )
    await store.close()


async def test_every_end_of_it_is_told(tmp_path: Path) -> None:
    """Proved, nobody's, broken, no ledger there."""
    await written(tmp_path)
    section = LedgerSection()
    proof = await prove_apart(section, tmp_path, RECEIPT)
    assert proof is not None
    assert json.loads(proof)["check"] == "C1"
    assert await prove_apart(section, tmp_path, "AAAA-AAAA") is None
    tamper(section, tmp_path, "UPDATE audit_leaf SET at_ms = 2, record = X'7B7D' WHERE seq = 1")
    with pytest.raises(ChainBroken, match="gw1:1"):
        await prove_apart(section, tmp_path, RECEIPT)
    with pytest.raises(LedgerUnavailable, match="no proof"):
        await prove_apart(section, tmp_path / "elsewhere", RECEIPT)


async def test_one_that_is_given_up_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It hangs, as a database may; nothing of it is left when nobody waits any more."""
    hangs = tmp_path / "hangs"
    # Not our own interpreter: its path may have a blank in it, which no first line can say.
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o700)
    monkeypatch.setattr(apart.sys, "executable", str(hangs))
    begun: list[asyncio.subprocess.Process] = []
    usual = asyncio.create_subprocess_exec

    async def noted(*words: str, **pipes: int) -> asyncio.subprocess.Process:
        assert RECEIPT not in words
        begun.append(await usual(*words, **pipes))
        return begun[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await prove_apart(LedgerSection(), tmp_path, RECEIPT)
    [process] = begun
    assert process.returncode == -9


async def test_a_process_that_cannot_be_begun_is_no_proof(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(apart.sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(LedgerUnavailable, match="no proof"):
        await prove_apart(LedgerSection(), tmp_path, RECEIPT)
