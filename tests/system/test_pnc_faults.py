"""The PNC fails in every way while officers ask: rows P01 to P08, and M03 on the way to it.

Whom it spares here are positions and emergencies, which need no PNC. Its failing and its end are
seen once each (R0); each test ends in the join of the four records.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from simulators.pnc_server import PncServer
from tests.services.mosquitto import Mosquitto
from tests.services.proxy import Mode, Proxy
from tests.system.daemon import ROOT, until
from tests.system.ledgers import audit
from tests.system.officers import MqttOfficer
from tests.system.watch import Watch
from tests.system.world import MQTT, World

WITHIN_S = 20.0
BACK_S = 30.0
"""Until it is asked again with success; 5 s by the catalogue, which is held in virtual time."""
MARK = "TE99STV"
RSS_MOST_KIB = 64 * 1024
"""By which the daemon may have grown after a reply of 50 MB."""


class Pnc(PncServer):
    """Behind a proxy, with a count of how much it has under way, and a latency from the test."""

    def __init__(self) -> None:
        super().__init__(ROOT / "config" / "pnc", "127.0.0.1", 0)
        self.proxy: Proxy | None = None
        self.now = self.most = 0
        self.takes_s = 0.0

    @property
    def url(self) -> str:
        assert self.proxy is not None
        return f"http://127.0.0.1:{self.proxy.port}"

    async def start(self) -> None:
        await super().start()
        if self.proxy is None:
            self.proxy = Proxy(self._port)
            await self.proxy.start()

    async def _query(self, request: web.Request) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.pause(self.takes_s)
            return await super()._query(request)
        finally:
            self.now -= 1


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    world = World(tmp_path, mosquitto.port)
    world.pnc = Pnc()
    yield world
    await world.close()
    if world.pnc.proxy is not None:
        await world.pnc.proxy.close()


def pnc_of(world: World) -> Pnc:
    assert isinstance(world.pnc, Pnc)
    return world.pnc


async def outcome(radio: MqttOfficer, mark: str = MARK) -> dict[str, Any]:
    ref = await radio.ask(kind="vehicle", vrm=mark, reason="1")
    return dict(await radio.until(lambda: radio.result(ref), WITHIN_S))


@contextlib.asynccontextmanager
async def moving(radio: MqttOfficer) -> AsyncIterator[None]:
    """It says where it is, each tenth of a second."""

    async def move() -> None:
        step = 0
        while True:
            step += 1
            await radio.say("fix", {"lat": 52.57 + step * 1e-5, "lon": -0.24}, qos=0)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(move(), name="moving")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --------------------------------------------------------------------------- down and back


async def _hang(pnc: Pnc, begins: bool) -> None:
    pnc.fault = "hang" if begins else None


async def _refuse(pnc: Pnc, begins: bool) -> None:
    await (pnc.stop() if begins else pnc.start())


async def _reset(pnc: Pnc, begins: bool) -> None:
    assert pnc.proxy is not None
    pnc.proxy.become(Mode.RESET if begins else Mode.PASS)


async def _vanish(pnc: Pnc, begins: bool) -> None:
    assert pnc.proxy is not None
    pnc.proxy.become(Mode.VANISH if begins else Mode.PASS)


FAULTS: tuple[Callable[[Pnc, bool], Coroutine[Any, Any, None]], ...] = (
    _hang,
    _refuse,
    _reset,
    _vanish,
)


@pytest.mark.slow
async def test_a_pnc_that_is_gone_is_said_in_time_seen_once_and_asked_again_soon(
    world: World,
) -> None:
    """P01 hang, P03 refused and reset, M03 half open: every officer reads NO ANSWER, no question is
    tried more than three times, each attempt is on record; positions and emergencies pass."""
    await world.open(checks={"deadline_s": 2.0, "breaker_open_s": 2.0, "late_grace_s": 1.0})
    console, pnc = world.console, pnc_of(world)
    assert console is not None
    assert world.daemon is not None
    radios = [world.radios[issi] for issi in MQTT]
    async with moving(radios[0]):
        for turn, fault in enumerate(FAULTS):
            watch = await Watch.begin(world, "pnc")
            moved, pressed = len(console.of("unit.batch")), _emergencies(world)
            await fault(pnc, True)
            both = [radio for radio in radios for _ in range(2)]
            results = await asyncio.gather(*(outcome(radio) for radio in both))
            for result in results:
                assert result["outcome"] in {"expired", "failed"}
                assert result["pages"][0].startswith("??NO ANSWER")
            await watch.until("down", WITHIN_S)
            await until(lambda n=moved: len(console.of("unit.batch")) - n >= 5)
            await radios[turn % 3].say("status", {"code": 0})
            await until(lambda n=pressed: _emergencies(world) > n)
            await fault(pnc, False)
            healed_s = time.monotonic()
            while (await outcome(radios[1]))["outcome"] != "answered":  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            back_s = time.monotonic() - healed_s
            print(f"{fault.__name__}: answered again {back_s:.1f} s after it healed")
            assert back_s < BACK_S
            await watch.until("up", WITHIN_S)
            await watch.once()
    await until(lambda: pnc.now == 0)  # what hung was let go of
    attempts = [leaf["attempt"] for leaf in audit(world.daemon.state) if leaf["event"] == "asked"]
    assert max(attempts) <= 3
    assert world.verdict() == []


def _emergencies(world: World) -> int:
    """Alarms of emergencies on the console; one pressed again is shown again."""
    assert world.console is not None
    return sum(event["rule"] == "EMG" for event in world.console.of("alarm"))


@pytest.mark.slow
async def test_a_pnc_that_slows_down_under_load_is_not_buried_and_recovers_when_it_does(
    world: World,
) -> None:
    """P02: from nothing to longer than any deadline, with more asked than it has places: what is
    under way is bounded, everybody hears, and with the default circuit it is asked again soon."""
    concurrency = 4
    await world.open(
        checks={"deadline_s": 3.0, "concurrency": concurrency, "queue": 16, "late_grace_s": 2.0}
    )
    pnc = pnc_of(world)
    radios = [world.radios[issi] for issi in MQTT]
    asked: list[tuple[MqttOfficer, str]] = []
    for step in range(24):
        pnc.takes_s = step * 0.25
        for radio in radios:
            asked.append((radio, await radio.ask(kind="vehicle", vrm=MARK, reason="1")))
        await asyncio.sleep(0.2)
    most = pnc.most
    pnc.takes_s = 0.0
    healed_s = time.monotonic()
    while (await outcome(radios[0]))["outcome"] != "answered":  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    back_s = time.monotonic() - healed_s
    for radio, ref in asked:
        await radio.until(lambda o=radio, r=ref: o.result(r), WITHIN_S)
    outcomes = [str((radio.result(ref) or {})["outcome"]) for radio, ref in asked]
    told = {each: outcomes.count(each) for each in sorted(set(outcomes))}
    print(f"ramp: {told}, at most {most} at the PNC, answered again after {back_s:.1f} s")
    assert most <= 3 * concurrency, "its places, and so many overdue that are still listened for"
    assert outcomes.count("answered") > 0
    assert outcomes.count("answered") < len(outcomes)
    assert back_s < BACK_S
    assert world.verdict() == []


# --------------------------------------------------------------------------- wrong on the wire


async def test_whatever_a_pnc_says_wrongly_is_an_outcome_and_never_a_word_of_it(
    world: World,
) -> None:
    """P04 garbage, cut off, 50 MB; P05 another's echo, and two swapped; P06 doubled; P07 late;
    P08 an unknown marker."""
    await world.open(checks={"deadline_s": 2.0, "breaker_failures": 50, "late_grace_s": 5.0})
    assert world.daemon is not None
    assert world.console is not None
    first, second, third = (world.radios[issi] for issi in MQTT)
    watch = await Watch.begin(world, "pnc")

    late = await third.ask(kind="vehicle", vrm="ER99LAT", reason="1")
    before_kib = _rss_kib(world.daemon.pid)
    for mark in ("ER99GBG", "ER99TRN", "ER99VST", "ER99ECH"):
        result = await outcome(first, mark)
        assert result["outcome"] == "failed", mark
        assert result["pages"][0].startswith("??NO ANSWER")
        assert result.get("fields", {}) == {}
    assert _rss_kib(world.daemon.pid) - before_kib < RSS_MOST_KIB
    swapped = await asyncio.gather(outcome(first, "ER99ORD"), outcome(second, "ER99ORD"))
    assert [result["outcome"] for result in swapped] == ["failed", "failed"]
    await until(lambda: len(watch.security()) >= 3)
    assert watch.security() == ["echo"] * 3

    twice = await outcome(second, "ER99DUP")
    assert twice["outcome"] == "answered"
    await until(lambda: "second reply" in watch.security())
    unknown = await outcome(second, "ER99UNK")
    shown = " ".join("\n".join(unknown["pages"]).split())
    assert shown.startswith("!!UNKNOWN OCCUPANT")
    assert "TREAT WITH CAUTION" in shown
    assert "QZ UNKNOWN" in shown

    expired = await third.until(lambda: third.result(late), WITHIN_S)
    assert expired["outcome"] == "expired"
    await third.until(lambda: [h for h in third.heard if h.channel == "notice"], WITHIN_S)
    notice = next(h.body for h in third.heard if h.channel == "notice")
    assert notice["kind"] == "late"
    assert "TE99" not in str(notice)
    assert "ER99" not in str(notice)
    await until(lambda: [e for e in world.console.of("notice") if e["kind"] == "late"])  # type: ignore[union-attr]
    assert sum(h.channel == "result" for h in third.heard) == 1
    heard = [h.body.get("ref") for h in second.heard if h.channel == "result"]
    assert heard.count(twice["ref"]) == 1
    unused = [leaf for leaf in audit(world.daemon.state) if leaf["detail"].startswith("second rep")]
    assert [(leaf["check"], leaf["attempt"]) for leaf in unused] == [(twice["check"], 1)]
    assert world.verdict() == []


def _rss_kib(pid: int) -> int:
    """The most it ever had."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
