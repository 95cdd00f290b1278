"""A question that ends the real daemon whenever it is about to be written (M13): the broker brings
it again with each life, and the fourth puts it away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.daemon import ROOT
from tests.system.ledgers import audit
from tests.system.world import MQTT, World

DEADLY = "TE99DYE"
PLANTED = f"""
import os, signal
from adapters.ledger.store import Store
commit = Store.commit

async def deadly(self, records, changes=()):
    if any(b"{DEADLY}" in (record.content or b"") for record in records):
        os.kill(os.getpid(), signal.SIGKILL)
    await commit(self, records, changes)

Store.commit = deadly
"""
WITHIN_S = 20.0


@pytest.fixture
async def world(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    (tmp_path / "sitecustomize.py").write_text(PLANTED, "utf-8")
    path = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    world = World(tmp_path, mosquitto.port)
    yield world
    await world.close()


@pytest.mark.slow
async def test_a_question_that_ends_the_daemon_is_put_away_after_three_lives(world: World) -> None:
    """Its officer reads NO ANSWER, the others are answered as soon as it is put away, and the
    broker holds nothing of it any more."""
    await world.open(checks={"deadline_s": 60.0})
    daemon = world.daemon
    assert daemon is not None
    first, second = (world.radios[issi] for issi in MQTT[:2])
    first.resend_s = 600.0  # one copy: each more may cost one life more
    ref = await first.ask(kind="vehicle", vrm=DEADLY, reason="1")
    deaths = 0
    while True:
        assert daemon.process is not None
        ended = asyncio.ensure_future(daemon.process.wait())
        heard = asyncio.ensure_future(first.until(lambda: first.result(ref), WITHIN_S))
        await asyncio.wait({ended, heard}, return_when=asyncio.FIRST_COMPLETED)
        if heard.done():
            ended.cancel()
            break
        heard.cancel()
        await asyncio.gather(heard, return_exceptions=True)
        deaths += 1
        assert deaths <= 3, "brought again for ever"
        await daemon.start(wait=False)
    result = heard.result()
    assert deaths == 3
    assert result["outcome"] == "failed"
    assert result["pages"][0].startswith("??NO ANSWER")
    other = await second.ask(kind="vehicle", vrm="TE99STV", reason="1")
    answer = await second.until(lambda: second.result(other), WITHIN_S)
    assert answer["outcome"] == "answered"
    await daemon.kill()
    await daemon.start()
    await asyncio.sleep(1.0)  # what the broker still held would have ended it by now
    assert daemon.process is not None
    assert daemon.process.returncode is None
    put_away = [leaf for leaf in audit(daemon.state) if leaf["check"] == result["check"]]
    assert [leaf["event"] for leaf in put_away][:2] == ["opened", "answered"]
    assert world.verdict() == []
