"""The broker link's own rules: who speaks, what is refused, two sessions, a broker that fails."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import pytest

from adapters import codecs
from adapters.links.mqtt_broker import MqttLink
from gateway.app import SystemClock
from gateway.errors import LinkDown
from gateway.messages import CheckRequest, Envelope, MalformedCheck, StatusReport
from gateway.settings import BrokerSection
from tests.fakes import FakeJournal, FakeMeter
from tests.services.mosquitto import Mosquitto

ISSI = "5001001"
OTHER = "5001002"
WITHIN_S = 10.0
CHECK = {
    "ref": "a1",
    "t": "2026-11-22T10:15:02.114Z",
    "kind": "vehicle",
    "vrm": "TE99ABC",
    "reason": "1",
}


class Desk:
    """Where the link hands over; settles at once unless it is stalled."""

    def __init__(self) -> None:
        self.stalled = False
        self.envelopes: list[Envelope] = []

    def __call__(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        if not self.stalled:
            envelope.settle()

    def of(self, type_: type) -> list[Envelope]:
        return [each for each in self.envelopes if isinstance(each.message, type_)]


class Rig:
    def __init__(self, broker: Mosquitto, **options: object) -> None:
        self.broker = broker
        self.desk = Desk()
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.up = asyncio.Event()
        self.link = MqttLink(
            BrokerSection(name="mqtt", port=broker.port, **options),  # type: ignore[arg-type]
            instance="gwt",
            config_path=Path("/x/gateway.toml"),
            clock=SystemClock(),
            meter=self.meter,
            journal=self.journal,
            known=lambda issi: issi in (ISSI, OTHER),
            codecs=codecs.create,
        )
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.up.clear()
        self.task = asyncio.ensure_future(self.link.run(self.desk, self.up.set))
        async with asyncio.timeout(WITHIN_S):
            await self.up.wait()

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def rejected(self, reason: str) -> float:
        return self.meter.total("frames_rejected_total", reason=reason)


async def until(ready: Callable[[], object], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not ready():  # noqa: ASYNC110 - it comes from a broker, without an event
            await asyncio.sleep(0.01)


@pytest.fixture
async def rig(mosquitto: Mosquitto) -> AsyncIterator[Rig]:
    rig = Rig(mosquitto)
    yield rig
    await rig.close()


@pytest.fixture
async def far(mosquitto: Mosquitto) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client(
        "127.0.0.1", mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        yield client


async def test_an_emergency_does_not_wait_behind_unacknowledged_checks(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """The ledger stalls: mosquitto stops at 20 checks in flight, the status still comes."""
    rig.desk.stalled = True
    await rig.open()
    for n in range(60):
        body = json.dumps(CHECK | {"ref": f"r{n}"}).encode()
        await far.publish(f"radio/{ISSI}/up/check", body, qos=1)
    await until(lambda: len(rig.desk.of(CheckRequest)) == 20)
    await far.publish(f"radio/{OTHER}/up/status", b'{"code": 0}', qos=1)
    await until(lambda: rig.desk.of(StatusReport))
    assert len(rig.desk.of(CheckRequest)) == 20
    assert rig.desk.of(StatusReport)[0].terminal == OTHER
    rig.desk.stalled = False
    for envelope in list(rig.desk.envelopes):
        envelope.settle()
    await until(lambda: len(rig.desk.of(CheckRequest)) == 60)
    refs = [each.message.ref for each in rig.desk.of(CheckRequest)]  # type: ignore[union-attr]
    assert refs == [f"r{n}" for n in range(60)]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (f"radio/{ISSI}/up/check", json.dumps(CHECK | {"issi": OTHER}), "identity"),
        (f"radio/{ISSI}/up/status", json.dumps({"code": 0, "issi": OTHER}), "identity"),
        ("radio/5001999/up/check", json.dumps(CHECK), "unknown_terminal"),
        ("radio/x1/up/check", json.dumps(CHECK), "identity"),
        ("radio/500100111/up/check", json.dumps(CHECK), "identity"),
        (f"radio/{ISSI}/up/check", "x" * 20_000, "length"),
        (f"radio/{ISSI}/up/check", "[" * 10_000, "decode"),
        (f"radio/{ISSI}/up/check", '{"ref": 1e999}', "decode"),
        (f"radio/{ISSI}/up/ack", '{"check": "C7F3"}', "decode"),
    ],
)
async def test_what_is_refused_is_counted_settled_and_handed_to_nobody(
    rig: Rig, far: aiomqtt.Client, topic: str, payload: str, reason: str
) -> None:
    """And the next message comes: a refused one must not hold the window."""
    await rig.open()
    for _ in range(25):
        await far.publish(topic, payload, qos=1)
    await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
    await until(lambda: rig.desk.of(CheckRequest))
    await until(lambda: rig.rejected(reason) == 25)
    assert len(rig.desk.envelopes) == 1


async def test_a_faulty_question_is_somebodys_question(rig: Rig, far: aiomqtt.Client) -> None:
    """JSON that cannot be asked on is handed over, to be refused aloud and on record."""
    await rig.open()
    await far.publish(f"radio/{ISSI}/up/check", b'{"ref": "a1", "kind": "vehicle"}', qos=1)
    await until(lambda: rig.desk.of(MalformedCheck))
    message = rig.desk.of(MalformedCheck)[0].message
    assert isinstance(message, MalformedCheck)
    assert message.ref == "a1"


async def test_a_retained_question_is_not_asked_at_each_connect(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """F6: retained ones are neither sent to us (Retain Handling 2) nor taken when they come."""
    await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1, retain=True)
    await rig.open()
    await far.publish(f"radio/{ISSI}/up/status", b'{"code": 4}', qos=1)
    await until(lambda: rig.desk.of(StatusReport))
    assert rig.desk.of(CheckRequest) == []
    await rig.close()
    three = Rig(rig.broker, version="3.1.1", client_id="three")
    await three.open()
    await until(lambda: three.rejected("retained") == 1)
    assert three.desk.of(CheckRequest) == []
    await three.close()
    flagged = Rig(rig.broker, version="3.1.1", client_id="four", queued_marked_retained=True)
    await flagged.open()
    await until(lambda: flagged.desk.of(CheckRequest))
    await flagged.close()


async def test_the_answer_goes_to_the_asker_whatever_response_topic_says(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """F5: Response Topic and Correlation Data decide nothing; they are not even handed over."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    await rig.open()
    wish = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    wish.ResponseTopic = f"radio/{OTHER}/down/result"
    wish.CorrelationData = b"x" * 64
    await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1, properties=wish)
    await until(lambda: rig.desk.of(CheckRequest))
    envelope = rig.desk.of(CheckRequest)[0]
    assert envelope.terminal == ISSI
    assert OTHER not in repr(envelope.message)


async def test_presence_says_online_and_offline(rig: Rig, mosquitto: Mosquitto) -> None:
    """Retained: online with time and version; offline on an orderly end, and by last will."""
    async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="watch") as watch:
        await watch.subscribe("gateway/gwt/state", qos=1)
        states: list[dict[str, object]] = []

        async def listen() -> None:
            async for message in watch.messages:
                states.append(json.loads(bytes(message.payload)))

        listening = asyncio.ensure_future(listen())
        await rig.open()
        await until(lambda: states)
        assert states[0]["state"] == "online"
        assert set(states[0]) == {"state", "t", "version"}
        await rig.close()
        await until(lambda: len(states) == 2)
        assert states[1]["state"] == "offline"
        await rig.open()
        await until(lambda: len(states) == 3)
        assert rig.link._main is not None
        sock = rig.link._main._client.socket()
        assert sock is not None
        sock.shutdown(2)  # type: ignore[union-attr]  # gone without a word
        await until(lambda: len(states) == 4)
        assert states[3]["state"] == "offline"
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_broker_that_lost_everything_is_subscribed_to_again(
    tmp_path: Path,
) -> None:
    """M01: SIGKILL, session lost; the next connection subscribes before anything else."""
    from tests.services import mosquitto as mosquittos

    with mosquittos.running(tmp_path / "broker") as broker:
        rig = Rig(broker)
        await rig.open()
        assert rig.task is not None
        broker.kill()
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown):
                await rig.task
        broker.start()
        await rig.open()
        async with aiomqtt.Client("127.0.0.1", broker.port) as far:
            await far.publish(f"radio/{ISSI}/up/status", b'{"code": 4}', qos=1)
            await until(lambda: rig.desk.of(StatusReport))
        await rig.close()


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_stopped_broker_is_noticed_within_ten_seconds(rig: Rig) -> None:
    """M02, F15: TCP alone would say nothing for twice the keep-alive."""
    await rig.open()
    assert rig.task is not None
    rig.broker.send(signal.SIGSTOP)
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(15):
            with pytest.raises(LinkDown, match="silent"):
                await rig.task
        assert time.monotonic() - started_s < 10
    finally:
        rig.broker.send(signal.SIGCONT)


async def test_a_session_taken_over_is_a_security_event(rig: Rig) -> None:
    """M06: somebody with our client id throws us off: said aloud, and the link backs off."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.reasoncodes import ReasonCode

    await rig.open()
    assert rig.task is not None
    assert rig.link._main is not None
    # As a broker says it that says it: mosquitto 2.0.11 closes without the word (next test).
    code = ReasonCode(PacketTypes.DISCONNECT, identifier=142)  # type: ignore[no-untyped-call]
    rig.link._main._disconnected.set_exception(aiomqtt.MqttCodeError(code))
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown, match="taken over"):
            await rig.task
    assert ("security", {"reason": "session taken over", "link": "mqtt"}) in rig.journal.lines


async def test_thrown_off_by_another_client_it_is_down_and_comes_back(
    rig: Rig, mosquitto: Mosquitto
) -> None:
    """A real takeover: LinkDown at once; once the other is gone the link serves again."""
    await rig.open()
    assert rig.task is not None
    async with aiomqtt.Client(
        "127.0.0.1",
        mosquitto.port,
        identifier="radio-gateway",
        protocol=aiomqtt.ProtocolVersion.V5,
    ):
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown):
                await rig.task
    await rig.open()
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as far:
        await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
        await until(lambda: rig.desk.of(CheckRequest))
