"""What every relay promises: the feed on a real mosquitto, and Cursor on Target to a TCP server.

A far side may be slow, down, or come and go: nobody waits for it, what it lost is counted, and once
it is back it is told how things are now.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import aiomqtt
import msgspec
import pytest

from adapters import relays
from adapters.relays.cot import Cot
from gateway.app import SystemClock
from gateway.bus import EventBus
from gateway.errors import LinkDown
from gateway.messages import AlarmChanged, LinkState, UnitFix
from gateway.projection import Projection
from gateway.roster import Roster
from gateway.rulebook import Policy
from gateway.settings import BrokerSection, CotSection, load
from gateway.supervise import keep
from tests.adapters.relays.test_mqtt_feed import EMERGENCY, fix
from tests.fakes import FakeIds, FakeJournal, FakeMeter, FakePresent, settle
from tests.services.mosquitto import Mosquitto
from tests.services.tak_server import TakServer

CONFIG = load(Path(__file__).parents[2] / "config" / "gateway.toml")
EAST, NORTH = "5001001", "5001005"
WITHIN_S = 20.0


class Far(Protocol):
    """The other side. fixes, helps: of whom it was told where they are, or that they call."""

    section: BrokerSection | CotSection

    @property
    def fixes(self) -> list[tuple[str, float]]: ...

    @property
    def helps(self) -> list[str]: ...

    async def open(self) -> None: ...

    async def shut(self) -> None: ...

    def stall(self) -> None:
        """It goes on to listen, and reads nothing more."""

    def go_on(self) -> None: ...

    def forget(self) -> None:
        """What it was told."""


class Broker:
    def __init__(self, broker: Mosquitto) -> None:
        self.section = BrokerSection(name="far", port=broker.port)
        self.fixes: list[tuple[str, float]] = []
        self.helps: list[str] = []
        self._broker = broker
        self._listening: asyncio.Task[None] | None = None
        self._running = True

    async def open(self) -> None:
        if not self._running:
            self._broker.start()
        self._running = True
        ready = asyncio.Event()
        self._listening = asyncio.ensure_future(self._listen(ready))
        async with asyncio.timeout(WITHIN_S):
            await ready.wait()

    async def _listen(self, ready: asyncio.Event) -> None:
        try:
            async with aiomqtt.Client("127.0.0.1", self._broker.port) as client:
                await client.subscribe("feed/#", qos=1)
                ready.set()
                async for message in client.messages:
                    body = json.loads(bytes(message.payload))
                    if message.topic.value.startswith("feed/fix/"):
                        self.fixes.append((body["issi"], body["lat"]))
                    elif body.get("rule") == "EMG":
                        self.helps.append(body["issi"])
        except aiomqtt.MqttError:
            pass  # killed: the test knows

    async def shut(self) -> None:
        self._broker.kill()
        self._running = False
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def stall(self) -> None:
        self._broker.send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._broker.send(signal.SIGCONT)

    def forget(self) -> None:
        self.fixes.clear()
        self.helps.clear()


class Tak:
    def __init__(self) -> None:
        self._server = TakServer()
        self.section = CotSection(name="far", port=self._server.port, min_interval_s=0.0)
        self.open, self.shut = self._server.open, self._server.shut
        self.stall, self.go_on = self._server.stall, self._server.go_on

    @property
    def fixes(self) -> list[tuple[str, float]]:
        return [
            (issi, float(re.findall(r' lat="([^"]+)"', event)[0]))
            for issi, event in self._of("a-f-G-U-C")
        ]

    @property
    def helps(self) -> list[str]:
        return [issi for issi, _ in self._of("b-a-o-tbl")]

    def _of(self, type_: str) -> list[tuple[str, str]]:
        found = []
        for event in self._server.events:
            text = event.decode()
            whose = re.search(rf' uid="RADIO-(\d+)[^"]*" type="{type_}"', text)
            if whose is not None:
                found.append((whose[1], text))
        return found

    def forget(self) -> None:
        self._server.events.clear()


class Rig:
    """One relay under test between a bus and its far side."""

    def __init__(self, far: Far, relay: BrokerSection | CotSection | None = None) -> None:
        self.far = far
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.present = FakePresent()
        self.policy: Policy = CONFIG.policy
        self.bus = EventBus(SystemClock(), meter=self.meter)
        self.roster = Roster(CONFIG.fleet, CONFIG.people, CONFIG.areas)
        self.bus.project_by(Projection(self.roster, lambda: self.policy))
        self.present.metas = {meta.terminal: meta for meta in self.roster.metas(0)}
        self.states: list[LinkState] = []
        self.relay = relays.create(
            relay or far.section,
            instance="gwt",
            exercise=True,
            config_path=Path("/x/gateway.toml"),
            bus=self.bus,
            present=self.present,
            clock=SystemClock(),
            meter=self.meter,
            journal=self.journal,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(
            keep(
                self.relay.run,
                name="far",
                clock=SystemClock(),
                ids=FakeIds(),
                journal=self.journal,
                meter=self.meter,
                seen=lambda state, _reason: self.states.append(state),
            )
        )

    async def opened(self) -> None:
        self.start()
        await self.until(lambda: LinkState.UP in self.states)

    async def until(self, ready: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not ready():
                assert self._task is None or not self._task.done()
                await asyncio.sleep(0.01)

    def fix(self, at: UnitFix) -> None:
        """As the tracker does: kept, then published."""
        self.present.fixes[at.terminal] = at
        self.bus.publish(at)

    def alarm(self, alarm: AlarmChanged) -> None:
        self.present.open[alarm.id] = alarm
        self.bus.publish(alarm)

    def lost(self, queue: str = "fix") -> float:
        return self.meter.total("queue_dropped_total", queue=queue)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.far.shut()


def place(terminal: str, lat: float) -> UnitFix:
    return msgspec.structs.replace(fix(terminal), lat=lat)


@pytest.fixture(params=["feed", "cot"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    far: Far = Broker(request.getfixturevalue("mosquitto")) if request.param == "feed" else Tak()
    rig = Rig(far)
    yield rig
    await rig.close()


async def test_it_is_a_relay_and_says_what_happens(rig: Rig) -> None:
    await rig.far.open()
    await rig.opened()
    assert rig.relay.kind == "relay"
    rig.fix(place(EAST, 52.5))
    rig.alarm(EMERGENCY)
    await rig.until(lambda: (EAST, 52.5) in rig.far.fixes and EAST in rig.far.helps)
    assert rig.meter.total("link_send_bytes_total", link=rig.relay.name) > 100


async def test_one_that_is_not_there_is_link_down(rig: Rig) -> None:
    await rig.far.shut()
    with pytest.raises(LinkDown):
        await asyncio.wait_for(rig.relay.run(lambda: None), WITHIN_S)


async def test_a_far_side_that_reads_nothing_holds_up_nobody(rig: Rig) -> None:
    """The bus is read on, what waits is bounded, the loss is counted; once it reads again it is
    told the newest."""
    await rig.far.open()
    await rig.opened()
    rig.far.stall()
    terminals = [str(5_000_000 + n) for n in range(400)]
    rig.present.metas = {
        each: msgspec.structs.replace(rig.present.metas[EAST], terminal=each) for each in terminals
    }
    for n in range(40_000):
        rig.fix(place(terminals[n % 400], 50 + n / 40_000))
        if n % 400 == 399:
            await asyncio.sleep(0)
    await settle()
    subscription = rig.relay._subscription  # type: ignore[attr-defined]
    assert (subscription.behind, subscription._fix_place) == (0, rig.bus.fix_number)
    assert rig.lost() > 1000
    rig.far.go_on()
    await rig.until(lambda: {each for each, lat in rig.far.fixes if lat >= 50.99} == set(terminals))


async def test_one_that_comes_and_goes_is_told_each_time_how_things_are(rig: Rig) -> None:
    """Where each unit is, and who calls for help: whatever it had is gone."""
    await rig.far.open()
    rig.fix(place(EAST, 52.5))
    rig.fix(place(NORTH, 52.7))
    rig.alarm(EMERGENCY)
    await rig.opened()
    for n in range(3):
        await rig.until(lambda: {each for each, _ in rig.far.fixes} >= {EAST, NORTH})
        await rig.until(lambda: EAST in rig.far.helps)
        downs = rig.states.count(LinkState.DOWN)
        await rig.far.shut()
        await rig.until(lambda downs=downs: rig.states.count(LinkState.DOWN) > downs)
        rig.far.forget()
        rig.fix(place(NORTH, 52.8 + n / 100))
        await rig.far.open()
        await rig.until(lambda n=n: (NORTH, 52.8 + n / 100) in rig.far.fixes)


async def test_what_may_no_longer_be_seen_is_not_said_though_it_waited(rig: Rig) -> None:
    """The policy of the moment at which it goes out, not of that at which it came."""
    await rig.far.shut()
    rig.fix(place(EAST, 52.5))
    rig.alarm(EMERGENCY)
    rig.start()  # nobody is there: it waits
    await rig.until(lambda: LinkState.DOWN in rig.states)
    rig.policy = msgspec.structs.replace(
        CONFIG.policy, console=tuple(r for r in CONFIG.policy.console if r.role != "relay")
    )
    ups = rig.states.count(LinkState.UP)
    await rig.far.open()
    await rig.until(lambda: rig.states.count(LinkState.UP) > ups)
    await rig.until(lambda: not waiting(rig.relay))
    rig.present.open.clear()
    rig.policy = CONFIG.policy
    rig.fix(place(NORTH, 52.7))
    await rig.until(lambda: (NORTH, 52.7) in rig.far.fixes)
    assert EAST not in {each for each, _ in rig.far.fixes}
    assert rig.far.helps == []


def waiting(relay: Any) -> int:
    """What it has not said yet, or found that it may not."""
    if isinstance(relay, Cot):
        return len(relay._pacing) + (relay._calls_due_s <= SystemClock().monotonic_s())
    return len(relay._lanes._fixes) + len(relay._lanes._alarms)


async def test_cancelled_it_leaves_no_task_behind(rig: Rig) -> None:
    await rig.far.open()
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(rig.relay.run(lambda: None))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settle()
    left = {each for each in asyncio.all_tasks() - before if not each.done()}
    assert {each for each in left if "TakServer" not in repr(each)} == set()
