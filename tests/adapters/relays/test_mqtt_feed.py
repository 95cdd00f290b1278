"""The feed: what control systems subscribe to, on a real mosquitto and on hostile brokers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from adapters import relays
from adapters.relays.mqtt_feed import Feed, message_of
from gateway.app import SystemClock
from gateway.bus import EventBus
from gateway.errors import LinkDown
from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    FixSource,
    Kind,
    LinkChanged,
    LinkState,
    Outcome,
    UnitFix,
    UnitMeta,
)
from gateway.projection import Projection
from gateway.roster import Roster
from gateway.settings import BrokerSection, load
from tests.fakes import FakeJournal, FakeMeter, FakePresent
from tests.services import mosquitto as mosquittos
from tests.services.mosquitto import Mosquitto
from tests.services.scripted_broker import CONNECT, PUBLISH, ScriptedBroker, scripted

CONFIG = load(Path(__file__).parents[3] / "config" / "gateway.toml")
ISSI = "5001001"
T_MS = 1_795_342_502_114
T = "2026-11-22T10:15:02.114Z"
WITHIN_S = 10.0

OPENED = CheckOpened(
    short="C7F3",
    check="01TESTC7F3",
    terminal=ISSI,
    kind=Kind.VEHICLE,
    opened_ms=T_MS,
    deadline_ms=T_MS + 15_000,
)
STAGED = CheckStaged(short="C7F3", check="01TESTC7F3", terminal=ISSI, stage="pnc", t_ms=T_MS)
DONE = CheckDone(
    short="C7F3",
    check="01TESTC7F3",
    terminal=ISSI,
    kind=Kind.VEHICLE,
    outcome=Outcome.ANSWERED,
    result_class="HIT_STOLEN",
    danger=("STOLEN",),
    parts=2,
    not_checked=("PERSONS",),
    level="L3",
    t_ms=T_MS,
    elapsed_s=0.41234,
    overhead_s=0.002,
    cause="",
)
DELIVERED = CheckDelivery(
    short="C7F3", check="01TESTC7F3", terminal=ISSI, part=1, state="read", t_ms=T_MS
)
EMERGENCY = AlarmChanged(
    id="A1", rule="EMG", priority=1, state="unack-active", raised_ms=T_MS, t_ms=T_MS, terminal=ISSI
)


def fix(terminal: str = ISSI, n: int = 0) -> UnitFix:
    return UnitFix(
        terminal=terminal,
        lat=52.5725,
        lon=-0.2431,
        fixed_at_ms=T_MS + n,
        received_at_ms=T_MS + n,
        accuracy_m=8.0,
        course_deg=None,
        speed_mps=1.2,
        source=FixSource.GNSS,
    )


def stage(n: int) -> CheckStaged:
    return msgspec.structs.replace(STAGED, check=f"01TEST{n:06d}")


# --------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("event", "topic", "body"),
    [
        (
            fix(),
            f"feed/fix/{ISSI}",
            {
                "issi": ISSI,
                "t": T,
                "lat": 52.5725,
                "lon": -0.2431,
                "speed_mps": 1.2,
                "accuracy_m": 8.0,
            },
        ),
        (
            OPENED,
            f"feed/check/{ISSI}",
            {
                "check": "01TESTC7F3",
                "ref": "C7F3",
                "issi": ISSI,
                "event": "open",
                "kind": "vehicle",
                "t": T,
                "deadline": "2026-11-22T10:15:17.114Z",
            },
        ),
        (
            STAGED,
            f"feed/check/{ISSI}",
            {
                "check": "01TESTC7F3",
                "ref": "C7F3",
                "issi": ISSI,
                "event": "stage",
                "stage": "pnc",
                "t": T,
            },
        ),
        (
            DONE,
            f"feed/check/{ISSI}",
            {
                "check": "01TESTC7F3",
                "ref": "C7F3",
                "issi": ISSI,
                "event": "done",
                "kind": "vehicle",
                "outcome": "answered",
                "elapsed_s": 0.412,
                "t": T,
            },
        ),
        (
            DELIVERED,
            f"feed/check/{ISSI}",
            {
                "check": "01TESTC7F3",
                "ref": "C7F3",
                "issi": ISSI,
                "event": "delivery",
                "part": 1,
                "state": "read",
                "t": T,
            },
        ),
        (
            EMERGENCY,
            "feed/alarm/A1",
            {
                "id": "A1",
                "rule": "EMG",
                "pri": 1,
                "state": "unack-active",
                "raised": T,
                "t": T,
                "count": 1,
                "issi": ISSI,
            },
        ),
    ],
)
def test_the_shapes(event: Event, topic: str, body: dict[str, Any]) -> None:
    """As the module's docstring and docs/interfaces.md give them; nothing of what an answer was."""
    said = message_of(event)
    assert said is not None
    assert said[0] == topic
    assert json.loads(said[1]) == body


def test_the_rest_is_not_for_others() -> None:
    """A link's state, a unit's call-sign and holder: the console has them, a broker does not."""
    assert message_of(LinkChanged("mqtt", "mqtt", LinkState.UP, T_MS)) is None
    meta = UnitMeta(ISSI, "E-101", "police", "Eastern", "handheld", "AVL", T_MS)
    assert message_of(meta) is None


# --------------------------------------------------------------------------- how it is said


class Rig:
    def __init__(self, port: int, **options: object) -> None:
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.bus = EventBus(SystemClock(), meter=self.meter)
        roster = Roster(CONFIG.fleet, CONFIG.people, CONFIG.areas)
        self.bus.project_by(Projection(roster, lambda: CONFIG.policy))
        self.present = FakePresent()
        self.feed: Feed = relays.create(  # type: ignore[assignment]
            BrokerSection(name="mqtt", port=port, **options),  # type: ignore[arg-type]
            instance="gwt",
            exercise=True,
            present=self.present,
            config_path=Path("/x/gateway.toml"),
            bus=self.bus,
            clock=SystemClock(),
            meter=self.meter,
            journal=self.journal,
        )
        self.up = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.up.clear()
        self.task = asyncio.ensure_future(self.feed.run(self.up.set))
        waiting = asyncio.ensure_future(self.up.wait())
        async with asyncio.timeout(WITHIN_S):
            await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def lost(self, queue: str, reason: str) -> float:
        return self.meter.total("queue_dropped_total", queue=queue, reason=reason)


class ControlSystem:
    """Whoever subscribes to the feed. heard: (topic, body, QoS)."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, dict[str, Any], int]] = []
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def __aenter__(self) -> ControlSystem:
        self._task = asyncio.ensure_future(self._listen())
        async with asyncio.timeout(WITHIN_S):
            await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            await client.subscribe("feed/#", qos=1)
            self._ready.set()
            async for message in client.messages:
                body = json.loads(bytes(message.payload))
                self.heard.append((message.topic.value, body, message.qos))

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [body for each, body, _ in self.heard if each.startswith(topic)]


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not ready():  # noqa: ASYNC110 - it comes from a broker, without an event
            await asyncio.sleep(0.01)


@pytest.fixture
async def rig(mosquitto: Mosquitto) -> AsyncIterator[Rig]:
    rig = Rig(mosquitto.port)
    yield rig
    await rig.close()


@pytest.fixture
async def control(mosquitto: Mosquitto) -> AsyncIterator[ControlSystem]:
    async with ControlSystem(mosquitto.port) as control:
        yield control


def test_it_is_a_relay_named_after_its_broker(rig: Rig) -> None:
    assert (rig.feed.name, rig.feed.kind) == ("mqtt-feed", "relay")


async def test_everything_comes_with_its_quality_of_service(
    rig: Rig, control: ControlSystem
) -> None:
    """Fixes 0, checks and alarms 1, in order within a check; what an answer was never comes."""
    await rig.open()
    for event in (OPENED, STAGED, DONE, DELIVERED, EMERGENCY, fix()):
        rig.bus.publish(event)
    await until(lambda: len(control.heard) == 6)
    qos = {topic: level for topic, _, level in control.heard}
    assert qos == {f"feed/fix/{ISSI}": 0, f"feed/check/{ISSI}": 1, "feed/alarm/A1": 1}
    events = [body["event"] for body in control.of("feed/check/")]
    assert events == ["open", "stage", "done", "delivery"]
    text = json.dumps([body for _, body, _ in control.heard])
    assert "STOLEN" not in text
    assert rig.meter.total("link_send_bytes_total", link="mqtt-feed") > 500


async def test_alarms_raised_again_at_the_start_are_said(rig: Rig, control: ControlSystem) -> None:
    """They are published before any link is opened: an open emergency must not be silent."""
    rig.bus.publish(EMERGENCY)
    await rig.open()
    await until(lambda: control.of("feed/alarm/A1"))


async def test_an_emergency_passes_what_waits(control: ControlSystem) -> None:
    """Thousands of events wait while the broker is away; the alarm raised last is said first."""
    del control
    async with scripted() as broker:
        rig = Rig(broker.port)
        for n in range(3000):
            rig.bus.publish(stage(n))
        rig.bus.publish(EMERGENCY)
        await rig.open()
        await broker.until(lambda: topics(broker))
        # At most one turn of the other lane is on its way before it; nothing is acknowledged yet.
        assert "feed/alarm/A1" in topics(broker)[:13]
        await rig.close()


def topics(broker: ScriptedBroker) -> list[str]:
    found = []
    for body in broker.of(PUBLISH | 2):
        length = int.from_bytes(body[:2], "big")
        found.append(body[2 : 2 + length].decode())
    return found


async def test_what_was_not_acknowledged_goes_again_on_the_next_connection(
    mosquitto: Mosquitto,
) -> None:
    """At least once: taken from the bus is not said, and said is not heard."""
    async with scripted() as broker:
        rig = Rig(broker.port)
        await rig.open()
        for n in range(20):
            rig.bus.publish(stage(n))
        rig.bus.publish(EMERGENCY)
        await broker.until(lambda: len(broker.mids_published()) >= 13)
        await rig.close()
    rig.feed._broker = BrokerSection(name="mqtt", port=mosquitto.port)
    async with ControlSystem(mosquitto.port) as control:
        await rig.open()
        await until(lambda: len(control.of("feed/check/")) == 20)
        assert [body["check"] for body in control.of("feed/check/")] == [
            stage(n).check for n in range(20)
        ]
        assert control.of("feed/alarm/A1")
    await rig.close()


async def test_a_broker_that_does_not_read_costs_fixes_and_no_radio() -> None:
    """What waits stays bounded, the bus is read on, and an alarm is known at once."""
    async with scripted() as broker:
        rig = Rig(broker.port)
        await rig.open()
        await broker.until(lambda: broker.of(CONNECT))
        broker.reads.clear()
        for n in range(60_000):
            rig.bus.publish(fix(f"{5_000_000 + n % 500}", n))
            if n % 100 == 0:
                await asyncio.sleep(0)
        assert rig.lost("fix", "conflated") > 1000
        rig.bus.publish(EMERGENCY)
        await until(rig.feed._lanes.alarm_news.is_set)
        assert rig.feed._subscription is not None
        assert rig.feed._subscription.behind == 0
        broker.reads.set()
        await rig.close()


async def test_many_fixes_do_not_hold_the_loop(rig: Rig, control: ControlSystem) -> None:
    """Said in turns: a thousand at once would hold up every radio for as long."""
    await rig.open()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for n in range(1000):
        rig.bus.publish(fix(f"{5_000_000 + n}"))
    before = turns
    await until(lambda: len(control.of("feed/fix/")) == 1000)
    counting.cancel()
    assert turns - before >= 10


async def test_a_refused_event_is_counted_and_the_next_one_said(tmp_path: Path) -> None:
    """Said for ever, it would hold up everything behind it, alarms included."""
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite feed/alarm/#\ntopic read feed/#\n", "utf-8")
    lines = ("allow_anonymous true", f"acl_file {acl}")
    with mosquittos.running(tmp_path / "broker", lines=lines) as broker:
        rig = Rig(broker.port)
        await rig.open()
        async with ControlSystem(broker.port) as control:
            for n in range(30):
                rig.bus.publish(stage(n))
            rig.bus.publish(EMERGENCY)
            await until(lambda: control.of("feed/alarm/A1"))
            await until(lambda: rig.lost("console", "unavailable") == 30)
            assert control.of("feed/check/") == []
        assert rig.task is not None
        assert not rig.task.done()
        await rig.close()


async def test_its_broker_killed_is_link_down_and_it_comes_back(tmp_path: Path) -> None:
    """Under a new connection; what happened meanwhile is said then."""
    with mosquittos.running(tmp_path / "broker") as broker:
        rig = Rig(broker.port)
        await rig.open()
        assert rig.task is not None
        broker.kill()
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown):
                await rig.task
        rig.bus.publish(EMERGENCY)
        rig.bus.publish(msgspec.structs.replace(EMERGENCY, state="ack-active"))
        broker.start()
        async with ControlSystem(broker.port) as control:
            await rig.open()
            await until(lambda: control.of("feed/alarm/A1"))
            assert [body["state"] for body in control.of("feed/alarm/A1")] == ["ack-active"]
        await rig.close()


async def test_cancelled_it_leaves_no_task_behind(rig: Rig) -> None:
    before = asyncio.all_tasks()
    await rig.open()
    await rig.close()
    await until(lambda: asyncio.all_tasks() <= before | {rig.task})
