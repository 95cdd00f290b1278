"""Disks that fail under the real daemon: D01 to D12 of the failure modes, as an officer meets them.

Each ends in the join of the four records: whatever the disk does, nothing receipted is lost,
nothing is asked or shown without its record, and the officer hears NO rather than nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.daemon import ROOT, until
from tests.system.ledgers import audit
from tests.system.post import WITHIN_S, post, strace


@pytest.mark.timeout(90)
async def test_a_disk_that_hangs_is_not_silence(tmp_path: Path) -> None:
    """D09: the writer's sync never returns. NO ANSWER within `stall_s`, long before the deadline;
    what comes after is refused at once; emergencies are relayed; ops see it. When the disk is back
    the check that was in doubt goes on to its one answer."""
    sections = {"ledger": {"stall_s": 1.0}}
    async with post(tmp_path, checks={"deadline_s": 60.0}, sections=sections) as here:
        async with strace(here.daemon.pid, "fdatasync:delay_enter=600000000"):
            first = here.officer.ask("V TE99STV R1")
            await here.told("CANNOT RECORD")
            assert here.officer.receipt(first) is None
            second = here.officer.ask("V TE99ABC R1")
            await here.officer.until(
                lambda: [h for h in here.officer.heard if f"Q{second}" in h.raw.decode()], WITHIN_S
            )
            assert (await here.daemon.get("/healthz"))[0] == 200
            assert (await here.daemon.get("/readyz"))[0] == 503
            assert await here.metric("audit_lag_seconds") > 1
            here.officer.say("#E")
            assert here.pnc.queries == []
        parts = await here.officer.until(lambda: here.officer.parts(first), WITHIN_S)
        assert "STOLEN" in parts[0]["text"]
        await here.daemon.ready()
        await here.logged("ledger.recovered")
        assert len(here.lines("ledger.unavailable")) == 1
        await here.answered("V TE99AAA R1")
        for heard in here.officer.heard: print(heard.channel, heard.raw)
        assert here.verdict() == []
