"""The broker link's own rules: who speaks, what is refused, two sessions, a broker that fails."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from adapters import codecs
from adapters.links.mqtt_broker import LoopBack, MqttLink
from gateway.app import SystemClock
from gateway.errors import TAKEN_OVER, LinkDown, SendFailed
from gateway.messages import (
    CheckRequest,
    Envelope,
    LinkState,
    LocationFix,
    MalformedCheck,
    Receipt,
    StatusReport,
    Suspicion,
)
from gateway.settings import BrokerSection
from gateway.supervise import keep
from tests.fakes import FakeClock, FakeIds, FakeJournal, FakeMeter
from tests.services.mosquitto import Mosquitto
from tests.services.scripted_broker import scripted

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
BOOK = b'{"book": "on", "officer": "1001", "factor": "4711", "t": "2026-11-22T10:15:02Z"}'

ACK = b'{"check": "C7F3", "part": 1, "state": "read"}'
RECEIPT = Receipt(ref="a1", check="01TESTC7F3", short="C7F3", accepted=True)
SENTENCES = (
    "$GPGLL,5234.350,N,00014.586,W,101502,A*37",
    "$GPGLL,5234.350,N,00014.586,W,101503,A*36",
)


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
    def __init__(
        self, broker: Mosquitto, *, known: tuple[str, ...] = (ISSI, OTHER), **options: object
    ) -> None:
        self.broker = broker
        self.desk = Desk()
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.up = asyncio.Event()
        self.suspected: list[tuple[Suspicion, str, str]] = []
        self.link = MqttLink(
            BrokerSection(name="mqtt", port=broker.port, **options),  # type: ignore[arg-type]
            instance="gwt",
            config_path=Path("/x/gateway.toml"),
            clock=SystemClock(),
            meter=self.meter,
            journal=self.journal,
            known=lambda issi: issi in known,
            codecs=codecs.create,
            suspect=lambda *what: self.suspected.append(what),
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


@pytest.mark.parametrize(
    ("topic", "payload", "cause", "terminal"),
    [
        (f"radio/{ISSI}/up/check", json.dumps(CHECK | {"issi": OTHER}), "identity", ISSI),
        (f"radio/{ISSI}/up/fix", json.dumps({"lat": 1, "lon": 1, "issi": "1"}), "identity", ISSI),
        ("radio/x1/up/check", json.dumps(CHECK), "identity", "x1"),
        ("radio/5001999/up/check", json.dumps(CHECK), "unknown_terminal", "5001999"),
        (f"radio/{ISSI}/up/check", "x" * 20_000, "oversize", ISSI),
    ],
)
async def test_what_is_somebodys_doing_is_told(
    rig: Rig, far: aiomqtt.Client, topic: str, payload: str, cause: str, terminal: str
) -> None:
    """M09, M10, M12: the core is told who did what, each time; nonsense alone is not suspicious."""
    await rig.open()
    await far.publish(f"radio/{ISSI}/up/check", b"{", qos=1)
    await far.publish(topic, payload, qos=1)
    await until(lambda: rig.suspected)
    assert rig.suspected == [(Suspicion(cause), "mqtt", terminal)]


async def test_a_question_published_to_lie_retained_is_refused_an_emergency_is_not(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """M08: over MQTT 5 the flag is seen on what is said now; told, and only a status is taken, not
    what books a radio: a broker would keep that, factor and all."""
    await rig.open()
    await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1, retain=True)
    await far.publish(f"radio/{ISSI}/up/status", BOOK, qos=1, retain=True)
    await far.publish(f"radio/{ISSI}/up/status", b'{"code": 0}', qos=1, retain=True)
    # What comes behind it, on each of the two sessions, is the end of it.
    await far.publish(f"radio/{OTHER}/up/check", json.dumps(CHECK), qos=1)
    await far.publish(f"radio/{OTHER}/up/status", b'{"code": 4}', qos=1)
    await until(lambda: {type(e.message) for e in of(rig, OTHER)} == {CheckRequest, StatusReport})
    assert [type(each.message) for each in of(rig, ISSI)] == [StatusReport]
    assert set(rig.suspected) == {(Suspicion.RETAINED, "mqtt", ISSI)}
    assert rig.rejected("retained") == 2
    await rig.close()
    rig.desk.envelopes.clear()
    await rig.open()
    await far.publish(f"radio/{OTHER}/up/status", b'{"code": 4}', qos=1)
    await until(lambda: of(rig, OTHER))
    assert of(rig, ISSI) == [], "what lies there is not said again"


def of(rig: Rig, terminal: str) -> list[Envelope]:
    return [each for each in rig.desk.envelopes if each.terminal == terminal]


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
    await rig.open()
    wish = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    wish.ResponseTopic = f"radio/{OTHER}/down/result"
    wish.CorrelationData = b"x" * 64
    await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1, properties=wish)
    await until(lambda: rig.desk.of(CheckRequest))
    envelope = rig.desk.of(CheckRequest)[0]
    assert envelope.terminal == ISSI
    assert OTHER not in repr(envelope.message)
    await far.subscribe("radio/+/down/#", qos=1)
    await rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)
    async with asyncio.timeout(WITHIN_S):
        heard = await anext(aiter(far.messages))
    assert heard.topic.value.startswith(f"radio/{ISSI}/down/")


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
        sock: object = rig.link._main._client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)  # gone without a word
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


async def test_presence_is_offline_also_when_the_other_session_broke(
    rig: Rig, mosquitto: Mosquitto
) -> None:
    """Closed in order, the main session has no last will: `online` would stand for ever."""
    await rig.open()
    assert rig.task is not None
    async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="radio-gateway-status"):
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown):
                await rig.task
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as watch:
        await watch.subscribe("gateway/gwt/state", qos=1)
        async with asyncio.timeout(WITHIN_S):
            message = await anext(aiter(watch.messages))
    state = json.loads(bytes(message.payload))
    assert message.retain
    assert state["state"] == "offline"
    assert state["t"].endswith("Z")


async def test_what_waited_for_us_can_be_answered_at_once(rig: Rig, far: aiomqtt.Client) -> None:
    """It comes before the link is called up; a receipt that had nowhere to go would be lost."""
    await rig.open()
    await rig.close()
    await far.subscribe(f"radio/{ISSI}/down/#", qos=1)
    await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
    told: list[bool] = []
    sending: list[asyncio.Task[None]] = []
    settle = rig.desk

    async def receipt() -> None:
        told.append(rig.up.is_set())
        await rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)

    def desk(envelope: Envelope) -> None:
        settle(envelope)
        sending.append(asyncio.ensure_future(receipt()))

    rig.desk = desk  # type: ignore[assignment]
    await rig.open()
    await until(lambda: sending and sending[0].done())
    sending[0].result()
    assert told == [False], "else this proves nothing"
    async with asyncio.timeout(WITHIN_S):
        message = await anext(aiter(far.messages))
    assert message.topic.value == f"radio/{ISSI}/down/receipt"


async def test_what_comes_with_the_brokers_first_word_can_be_answered() -> None:
    """In the same segment as the CONNACK, before anybody here knows that it was one."""
    async with scripted() as broker:

        def greets(connect: bytes) -> None:
            if b"radio-gateway-status" not in connect:
                topic = f"radio/{ISSI}/up/check".encode()
                broker.publish(topic, json.dumps(CHECK).encode(), mid=7)

        broker.greets = greets
        rig = Rig(broker)  # type: ignore[arg-type]  # what a rig needs of it is its port
        reachable: list[bool] = []

        def desk(_envelope: Envelope) -> None:
            reachable.append(rig.link.reaches(ISSI))

        task = asyncio.ensure_future(rig.link.run(desk, rig.up.set))
        await broker.until(lambda: reachable)
        assert reachable == [True]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not rig.link.reaches(ISSI)


@pytest.mark.parametrize(("version", "window"), [("5", 192), ("3.1.1", 16)])
async def test_an_emergency_does_not_wait_behind_acknowledgements_either(
    mosquitto: Mosquitto, far: aiomqtt.Client, version: str, window: int
) -> None:
    """The ledger stalls while officers read: their acknowledgements would fill the session's
    window, and the 21st message, an emergency, would stay with the broker."""
    rig = Rig(mosquitto, version=version)
    rig.desk.stalled = True
    await rig.open()
    for _ in range(window + 30):
        await far.publish(f"radio/{ISSI}/up/ack", ACK, qos=1)
    await far.publish(f"radio/{OTHER}/up/status", b'{"code": 0}', qos=1)
    await until(lambda: rig.desk.of(StatusReport))
    shed = rig.meter.total("queue_dropped_total", queue="status", reason="shed")
    assert shed == len(rig.desk.envelopes) - window, "no sooner than it must be"
    await rig.close()


async def test_what_was_not_settled_comes_again_after_the_broker_was_killed(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """F1, F2: not settled is not acknowledged; with its session kept, the broker has it still."""
    rig.desk.stalled = True
    await rig.open()
    for n in range(5):
        await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK | {"ref": f"r{n}"}), qos=1)
    await until(lambda: len(rig.desk.envelopes) == 5)
    old = list(rig.desk.envelopes)
    for envelope in old[:2]:
        envelope.settle()
    assert rig.task is not None
    async with aiomqtt.Client("127.0.0.1", rig.broker.port) as other:
        await other.publish("x", b"", qos=1)  # behind our two acknowledgements
    rig.broker.kill()
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown):
            await rig.task
    rig.broker.start()
    await rig.open()
    await until(lambda: len(rig.desk.envelopes) >= 8)
    for envelope in old:
        envelope.settle()  # those of the dead connection: nobody is told
    again = [each.message.ref for each in rig.desk.envelopes[5:]]  # type: ignore[union-attr]
    assert again[-3:] == ["r2", "r3", "r4"]
    assert [each.redelivered for each in old] == [False] * 5
    assert all(each.redelivered for each in rig.desk.envelopes[-3:]), "M13 counts by it"


async def test_several_sentences_in_one_message_are_settled_together(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """Settled after the first alone, the second would be lost with the process."""
    rig.desk.stalled = True
    await rig.open()
    await far.publish(f"radio/{ISSI}/up/nmea", "\r\n".join(SENTENCES), qos=1)
    await until(lambda: len(rig.desk.of(LocationFix)) == 2)
    assert rig.link._main is not None
    acks = rig.link._main.acks
    rig.desk.envelopes[1].settle()
    assert len(acks) == 1
    rig.desk.envelopes[0].settle()
    assert len(acks) == 0


async def test_a_desk_that_raises_costs_one_message(rig: Rig, far: aiomqtt.Client) -> None:
    """M13: raised into the client, it would end the connection and come again for ever."""
    came: list[str] = []

    def desk(envelope: Envelope) -> None:
        came.append(envelope.message.ref)  # type: ignore[union-attr]
        if came[-1] == "poison":
            raise RuntimeError
        envelope.settle()

    rig.desk = desk  # type: ignore[assignment]
    await rig.open()
    for ref in ("a", "poison", "b"):
        await far.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK | {"ref": ref}), qos=1)
    await until(lambda: came == ["a", "poison", "b"])
    assert rig.link._main is not None
    acks = rig.link._main.acks
    await until(lambda: len(acks) == 0)
    assert rig.rejected("decode") == 1


async def test_an_answer_that_nobody_subscribes_to_is_not_sent(
    rig: Rig, far: aiomqtt.Client
) -> None:
    """MQTT 5: the broker says so; counted as sent, it would not go again when he is heard."""
    await rig.open()
    with pytest.raises(SendFailed, match="nobody"):
        await rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)
    assert rig.meter.total("frames_sent_total") == 0
    await far.subscribe(f"radio/{ISSI}/down/#", qos=1)
    await rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)
    with pytest.raises(SendFailed, match="late"):
        await rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=0)
    assert rig.meter.total("frames_sent_total", type="receipt") == 1


async def test_what_expires_is_not_delivered_by_the_broker_later(
    rig: Rig, mosquitto: Mosquitto
) -> None:
    """Decision 13: an answer for whoever held the radio then must not greet the next shift."""

    def terminal() -> aiomqtt.Client:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = 600
        return aiomqtt.Client(
            "127.0.0.1",
            mosquitto.port,
            identifier="radio",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=kept,
        )

    async with terminal() as radio:
        await radio.subscribe(f"radio/{ISSI}/down/#", qos=1)
    await rig.open()
    for ref, expires_in_s in (("old", 0.4), ("new", 600.0)):
        receipt = msgspec.structs.replace(RECEIPT, ref=ref)
        await rig.link.send(ISSI, receipt, expires_in_s=expires_in_s, deadline_s=5)
    await asyncio.sleep(2.1)  # the broker counts whole seconds of its own clock
    async with terminal() as radio, asyncio.timeout(WITHIN_S):
        message = await anext(aiter(radio.messages))
    assert json.loads(bytes(message.payload))["ref"] == "new"


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_two_with_one_client_id_do_not_flap_without_end(mosquitto: Mosquitto) -> None:
    """M06: each throws the other off; the back-off grows, so the storm dies down."""
    ups = [0, 0]

    def kept(place: int) -> asyncio.Task[None]:
        rig = Rig(mosquitto)

        def seen(state: LinkState, _reason: str) -> None:
            ups[place] += state is LinkState.UP

        return asyncio.ensure_future(
            keep(
                lambda up: rig.link.run(rig.desk, up),
                name="mqtt",
                clock=SystemClock(),
                ids=FakeIds(seed=place),
                journal=rig.journal,
                meter=rig.meter,
                seen=seen,
            )
        )

    tasks = [kept(0), kept(1)]
    await asyncio.sleep(12)  # what is measured is how often in this time
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 2 <= sum(ups) <= 24


class Echoes:
    """Stands for a connection: each word comes back, or not."""

    def __init__(self) -> None:
        self.words = 0
        self.fails = False
        self.loop_back: LoopBack | None = None

    async def put(self, _topic: str, _payload: bytes, *, qos: int) -> bool:
        assert qos == 0, "it must pass what waits for acknowledgement"
        self.words += 1
        if self.fails:
            raise SendFailed("not connected")
        if self.loop_back is not None:
            self.loop_back.heard()
        return True


async def test_the_loop_back_counts_words_and_takes_any_message_for_life() -> None:
    """Silence is two words unheard, not seconds: a process that slept blames nobody."""
    clock, line, loop_back = FakeClock(), Echoes(), LoopBack("gateway/gwt/loop/check")
    line.loop_back = loop_back
    watching = asyncio.ensure_future(loop_back.watch(line, clock))  # type: ignore[arg-type]
    await clock.advance(20.0)
    assert not watching.done()
    line.loop_back = None
    for _ in range(5):  # no word comes back, but messages do
        await clock.advance(2.0)
        loop_back.heard()
    await clock.advance(5.9)
    assert not watching.done()
    await clock.advance(0.1)
    assert watching.done()
    assert watching.result() == "broker silent"
    line.fails = True
    async with asyncio.timeout(5):
        assert await loop_back.watch(line, clock) == "not connected"  # type: ignore[arg-type]


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
    async with asyncio.timeout(2):
        await rig.open()


async def test_a_session_taken_over_is_a_security_event(rig: Rig) -> None:
    """M06: somebody with our client id throws us off: the link says it with the words by which the
    core knows it (tests/gateway/test_security.py)."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.reasoncodes import ReasonCode

    await rig.open()
    assert rig.task is not None
    assert rig.link._main is not None
    # As a broker says it that says it: mosquitto 2.0.11 closes without the word (next test).
    code = ReasonCode(PacketTypes.DISCONNECT, identifier=142)
    rig.link._main._disconnected.set_exception(aiomqtt.MqttCodeError(code))
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown) as caught:
            await rig.task
    assert caught.value.reason == TAKEN_OVER


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
