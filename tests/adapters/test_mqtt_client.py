"""The corrections to aiomqtt, each with a test that fails without it, on a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from adapters.mqtt_client import Access, Acks, Connection, Received, connect
from gateway.errors import LinkDown, SendFailed
from gateway.settings import BrokerSection
from tests.services import free_port, mosquitto
from tests.services.mosquitto import Mosquitto
from tests.services.pki import Pki
from tests.services.scripted_broker import CONNECT, ScriptedBroker, scripted

WITHIN_S = 10.0


def section(broker: Mosquitto, **options: object) -> BrokerSection:
    return BrokerSection(name="mqtt", port=broker.port, **options)  # type: ignore[arg-type]


class Inbox:
    """A sink that keeps what comes; settles at once unless told not to."""

    def __init__(self, *, settle: bool = True) -> None:
        self.received: list[Received] = []
        self.settles: list[object] = []
        self._settle = settle

    def __call__(self, line: Connection, received: Received) -> None:
        self.received.append(received)
        settle = line.acks.expect(received.mid, received.qos)
        self.settles.append(settle)
        if self._settle:
            settle()

    async def until(self, n: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while len(self.received) < n:  # noqa: ASYNC110 - filled by the client's callback
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connected(
    broker: Mosquitto, sink: object = None, *, client_id: str = "gw", **options: object
) -> AsyncIterator[Connection]:
    async with connect(
        section(broker, **options),
        Access(client_id=client_id),
        config_path=Path("/gateway.toml"),
        sink=sink or Inbox(),  # type: ignore[arg-type]
    ) as line:
        yield line


@contextlib.asynccontextmanager
async def to(broker: ScriptedBroker, sink: object = None) -> AsyncIterator[Connection]:
    async with connect(
        BrokerSection(name="mqtt", port=broker.port),
        Access(client_id="gw"),
        config_path=Path("/x"),
        sink=sink or Inbox(),  # type: ignore[arg-type]
    ) as line:
        yield line


async def publish(broker: Mosquitto, n: int, *, topic: str = "t/1", **options: object) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for number in range(n):
            await client.publish(topic, str(number).encode(), qos=1, **options)  # type: ignore[arg-type]


async def test_1_nagle_is_off_and_silence_has_a_limit(mosquitto: Mosquitto) -> None:
    """And the kernel holds little for a broker that does not read: an alarm comes behind it."""
    async with connected(mosquitto) as line:
        sock: object = line._client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 64 * 1024


async def test_2_a_message_goes_straight_to_the_sink(mosquitto: Mosquitto) -> None:
    """No queue of the library's holds it, nothing drains one."""
    inbox = Inbox()
    async with connected(mosquitto, inbox) as line:
        await line.take("t/#")
        await publish(mosquitto, 200)
        await inbox.until(200)
        assert line._queue.qsize() == 0


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_3_what_was_not_settled_comes_again(mosquitto: Mosquitto, version: str) -> None:
    """F1: acknowledged on arrival, all but the handled would be lost with the process."""
    first = Inbox(settle=False)
    async with connected(mosquitto, first, version=version) as line:
        await line.take("t/#")
        await publish(mosquitto, 10)
        await first.until(10)
        for settle in first.settles[:4]:
            settle()  # type: ignore[operator]
        await line.put("t/flush", b"", qos=1)
    again = Inbox()
    async with connected(mosquitto, again, version=version):
        await again.until(6)
        await asyncio.sleep(0.1)  # whatever else came would come at once
    kept = [each.payload for each in again.received if each.topic == "t/1"]
    assert kept == [b"4", b"5", b"6", b"7", b"8", b"9"]


async def test_4_each_connection_has_an_object_of_its_own(mosquitto: Mosquitto) -> None:
    """An acknowledgement of a dead connection goes nowhere: its numbers mean another message."""
    first = Inbox(settle=False)
    async with connected(mosquitto, first) as old:
        await old.take("t/#")
        await publish(mosquitto, 3)
        await first.until(3)
    second = Inbox(settle=False)
    async with connected(mosquitto, second) as line:
        await second.until(3)
        assert line is not old
        for settle in first.settles:
            settle()  # type: ignore[operator]
        assert len(line.acks) == 3
    third = Inbox()
    async with connected(mosquitto, third):
        await third.until(3)


async def test_5_a_refused_publish_is_an_error(tmp_path: Path) -> None:
    """0x87 looks like success to aiomqtt: the outbox would mark it sent."""
    acl = tmp_path / "acl"
    acl.write_text("topic write allowed/#\ntopic read #\n", "utf-8")
    acl.chmod(0o644)
    lines = ("allow_anonymous true", f"acl_file {acl}")
    with mosquitto.running(tmp_path / "broker", lines=lines) as broker:
        async with connected(broker) as line:
            await line.put("allowed/x", b"1")
            with pytest.raises(SendFailed, match="135"):
                await line.put("forbidden/x", b"1")


async def test_6_cancelled_while_it_connects_it_lets_go() -> None:
    """A broker that takes the connection and says nothing: no socket and no callback stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threads = threading.active_count()
        entering = connect(
            BrokerSection(name="mqtt", port=port),
            Access(client_id="gw"),
            config_path=Path("/x"),
            sink=Inbox(),
        ).__aenter__()
        task = asyncio.ensure_future(entering)
        taken, _ = await asyncio.to_thread(server.accept)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        taken.settimeout(5)
        data = await asyncio.to_thread(taken.recv, 4096)
        rest = await asyncio.to_thread(taken.recv, 4096)
        taken.close()
    assert data[:1] == b"\x10", "it had sent its CONNECT"
    assert rest == b"", "and its end is closed"
    assert threading.active_count() <= threads + 4


async def test_7_a_cancellation_that_comes_with_the_result_counts(mosquitto: Mosquitto) -> None:
    """Python 3.11's asyncio.wait_for would swallow it, and whoever should stop would go on."""
    async with connected(mosquitto) as line:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await line._wait_for(future, 5)

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        future.set_result(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_8_connecting_stays_out_of_the_pool_of_all() -> None:
    """Every place of the pool taken, and it connects all the same."""
    release = threading.Event()
    loop = asyncio.get_running_loop()
    taken = [loop.run_in_executor(None, release.wait, 20) for _ in range(64)]
    try:
        async with scripted() as broker, asyncio.timeout(5), to(broker):
            await broker.until(lambda: broker.of(CONNECT))
    finally:
        release.set()
        await asyncio.gather(*taken)


@pytest.mark.parametrize("topic", [b"radio/\xff\xfe/up/check", b"radio/+/up/check", b""])
async def test_9_a_topic_that_cannot_be_costs_one_message(topic: bytes) -> None:
    """In aiomqtt it raises, ends the connection, and the broker sends it again for ever."""
    inbox = Inbox()
    async with scripted() as broker, to(broker, inbox):
        broker.publish(topic, b"x", mid=1)
        broker.publish(b"radio/1/up/check", b"y", mid=2)
        await inbox.until(2)
        await broker.until(lambda: broker.mids_acknowledged() == [1, 2])
        assert [each.topic for each in inbox.received] == ["", "radio/1/up/check"]


@pytest.mark.parametrize("expected", [True, False])
async def test_9_a_sink_that_raises_costs_one_message(expected: bool) -> None:
    """Whether or not somebody already holds its `settle`; what comes behind it is not held up."""
    received: list[bytes] = []

    def sink(line: Connection, message: Received) -> None:
        settle = line.acks.expect(message.mid, message.qos) if expected else None
        received.append(message.payload)
        if message.payload == b"poison":
            raise RuntimeError
        (settle or line.acks.expect(message.mid, message.qos))()

    async with scripted() as broker, to(broker, sink) as line:
        for mid, payload in enumerate((b"a", b"poison", b"b"), 1):
            broker.publish(b"t", payload, mid=mid)
        await broker.until(lambda: broker.mids_acknowledged() == [1, 2, 3])
        assert received == [b"a", b"poison", b"b"]
        assert not line._disconnected.done()


@pytest.mark.timeout(60)
async def test_10_what_is_sent_unacknowledged_does_not_wait_without_bound() -> None:
    """The broker stops reading: the kernel takes its share, then `OUT_MOST`, then SendFailed."""
    async with scripted() as broker, to(broker) as line:
        await broker.until(lambda: broker.of(CONNECT))
        broker.reads.clear()

        async def flood() -> None:
            for _ in range(20_000):
                await line.put("feed/fix/1", b"x" * 1000, qos=0)
                await asyncio.sleep(0)

        with pytest.raises(SendFailed, match="does not read"):
            await flood()
        assert line.waiting <= 1000
        with pytest.raises(SendFailed, match="does not read"):
            await line.drained(0.05)
        broker.reads.set()
        await line.drained(10)
        assert line.waiting == 0


async def test_a_connection_that_failed_inside_is_closed_all_the_same() -> None:
    """Else it would go on taking messages in, for a link that has long begun anew."""
    async with scripted() as broker, to(broker) as line:
        await broker.until(lambda: broker.of(CONNECT))

        def fault(*_words: object) -> None:
            raise MemoryError

        line._pump._take = fault
        broker.publish(b"t", b"x", mid=1)
        assert await line.broken() == "connection lost: MemoryError"
        assert not broker.ended.is_set()
    await asyncio.wait_for(broker.ended.wait(), 5)


async def test_a_broker_that_hangs_up_on_our_greeting_is_link_down_at_once() -> None:
    """So does one that likes our certificate not; aiomqtt waits for its whole time-out."""
    async with scripted(accepts=False) as broker:
        async with asyncio.timeout(3):
            with pytest.raises(LinkDown, match="broker closed the connection"):
                async with to(broker):
                    pass


async def test_a_broker_that_never_greets_is_link_down_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.mqtt_client.CONNECT_WITHIN_S", 0.1)
    monkeypatch.setattr("adapters.mqtt_client.LOOKUP_WITHIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = BrokerSection(name="mqtt", port=server.getsockname()[1])
        async with asyncio.timeout(5):
            with pytest.raises(LinkDown, match="does not answer"):
                async with connect(
                    silent, Access(client_id="gw"), config_path=Path("/x"), sink=Inbox()
                ):
                    pass


async def test_what_waits_for_its_acknowledgement_hears_at_once_of_a_lost_connection() -> None:
    async with scripted() as broker, to(broker) as line:
        waits = [asyncio.ensure_future(line.put("t", b"1", deadline_s=60.0)) for _ in range(2)]
        await broker.until(lambda: len(broker.mids_published()) == 2)
        line._failed(MemoryError())
        async with asyncio.timeout(5):
            told = await asyncio.gather(*waits, return_exceptions=True)
        assert [str(each) for each in told] == ["connection lost"] * 2


async def test_a_late_acknowledgement_harms_nobody() -> None:
    """Given up after its deadline, taken later: no error, and the next publication is its own."""
    async with scripted() as broker, to(broker) as line:
        with pytest.raises(SendFailed, match="in time"):
            await line.put("t", b"1", deadline_s=0.05)
        await broker.until(lambda: broker.mids_published())
        (late,) = broker.mids_published()
        broker.acknowledge(late)
        second = asyncio.ensure_future(line.put("t", b"2"))
        await broker.until(lambda: len(broker.mids_published()) == 2)
        assert not second.done()
        broker.acknowledge(broker.mids_published()[1])
        assert await second


async def test_what_was_given_up_before_it_left_does_not_leave_later() -> None:
    """It may be stale by then, or somebody else may hold the terminal."""
    async with scripted() as broker, to(broker) as line:
        puts = [line.put("t", str(n).encode(), deadline_s=0.1) for n in range(30)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert all(isinstance(each, SendFailed) for each in results)
        sent = list(broker.mids_published())
        assert len(sent) == 20, "what the client lets out at once"
        for mid in sent:
            broker.acknowledge(mid)
        last = asyncio.ensure_future(line.put("t", b"last"))
        await broker.until(lambda: len(broker.mids_published()) > 20)
        broker.acknowledge(broker.mids_published()[-1])
        await last
        assert len(broker.mids_published()) == 21


@pytest.mark.parametrize(("version", "heard"), [("5", False), ("3.1.1", True)])
async def test_the_broker_says_when_nobody_subscribes(
    mosquitto: Mosquitto, version: str, heard: bool
) -> None:
    """MQTT 5, PUBACK 0x10: taken and thrown away. 3.1.1 has no word for it."""
    async with connected(mosquitto, version=version) as line:
        assert await line.put("nobody/here", b"1") is heard
        await line.take("nobody/#")
        assert await line.put("nobody/here", b"1") is True


async def test_what_is_far_too_large_is_not_even_sent_to_us(mosquitto: Mosquitto) -> None:
    """Maximum Packet Size (M12): 256 MB would be in memory before anybody could refuse them."""
    inbox = Inbox()
    async with connected(mosquitto, inbox) as line:
        await line.take("t/#")
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
            for payload in (b"x" * 3_000_000, b"y" * 100_000, b"z"):
                await client.publish("t/1", payload, qos=1)
        await inbox.until(2)
        assert [len(each.payload) for each in inbox.received] == [100_000, 1]


def test_only_so_many_acknowledgements_wait_where_a_limit_is_set() -> None:
    """The oldest goes unsettled; order and number stay as they are, and each one is told of."""
    sent: list[int] = []
    shed: list[bool] = []
    acks = Acks(lambda mid, _qos: sent.append(mid), most=3, shed=lambda: shed.append(True))
    settles = [acks.expect(mid, 1) for mid in range(1, 6)]
    assert sent == [1, 2]
    assert len(shed) == 2
    assert len(acks) == 3
    settles[0]()
    settles[3]()
    settles[2]()
    assert sent == [1, 2, 3, 4]


def test_acknowledgements_leave_in_order_of_arrival() -> None:
    """MQTT 5, 4.6, however the commits end; and each once."""
    sent: list[int] = []
    acks = Acks(lambda mid, _qos: sent.append(mid))
    settles = [acks.expect(mid, 1) for mid in (1, 2, 3, 4)]
    settles[2]()
    settles[1]()
    assert sent == []
    settles[0]()
    settles[0]()
    assert sent == [1, 2, 3]
    acks.close()
    settles[3]()
    assert sent == [1, 2, 3]
    assert acks.expect(9, 0)() is None


async def test_mosquitto_stops_at_its_inflight_limit_until_we_settle(mosquitto: Mosquitto) -> None:
    """Manual acknowledgement is the back-pressure: 20 of 30 come, then the rest."""
    inbox = Inbox(settle=False)
    async with connected(mosquitto, inbox) as line:
        await line.take("t/#")
        await publish(mosquitto, 30)
        await inbox.until(20)
        await line.put("u/other", b"")
        assert len(inbox.received) == 20
        for settle in list(inbox.settles):
            settle()  # type: ignore[operator]
        await inbox.until(30)


async def test_expiry_travels_with_the_message(mosquitto: Mosquitto) -> None:
    """An answer that nobody took in time is not delivered by the broker later."""
    five = aiomqtt.ProtocolVersion.V5
    async with (
        aiomqtt.Client(
            "127.0.0.1", mosquitto.port, identifier="far", protocol=five, clean_start=True
        ) as far,
        connected(mosquitto) as line,
    ):
        await far.subscribe("down/#", qos=1)
        await line.put("down/x", b"1", expires_in_s=599.2)
        async with asyncio.timeout(WITHIN_S):
            message = await anext(aiter(far.messages))
    assert message.properties is not None
    assert getattr(message.properties, "MessageExpiryInterval") == 600  # noqa: B009


async def test_nobody_there_and_nobody_speaking() -> None:
    """Refused and unknown hosts are LinkDown in bounded time, without the address."""
    for host, port in (("127.0.0.1", free_port()), ("no-such-host.invalid", 1883)):
        with pytest.raises(LinkDown) as caught:
            async with (
                asyncio.timeout(15),
                connect(
                    BrokerSection(name="mqtt", host=host, port=port),
                    Access(client_id="gw"),
                    config_path=Path("/x"),
                    sink=Inbox(),
                ),
            ):
                pass
        assert host not in caught.value.reason
        assert not caught.value.refused


# --------------------------------------------------------------------------- credentials


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our CA with a server and a client, and a stranger's CA."""
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.authority("stranger")
    made.issue("server")
    made.issue("client")
    return made.folder


async def test_tls_with_client_certificates(pki: Path, tmp_path: Path) -> None:
    """Verified both ways; a CA that is not ours, or no certificate, and there is no link."""
    lines = (
        "allow_anonymous true",
        f"cafile {pki}/ca.crt",
        f"certfile {pki}/server.crt",
        f"keyfile {pki}/server.key",
        "require_certificate true",
    )
    with mosquitto.running(tmp_path / "broker", lines=lines) as broker:

        async def attempt(ca: str, cert: str) -> None:
            async with connect(
                section(broker, tls=True, ca_file=str(pki / ca)),
                Access(
                    client_id="gw",
                    cert_file=str(pki / cert) if cert else "",
                    key_file=str(pki / "client.key") if cert else "",
                ),
                config_path=Path("/x"),
                sink=Inbox(),
            ) as line:
                await line.put("t", b"1")
                sock = line._client.socket()
                assert isinstance(sock, ssl.SSLSocket)
                assert sock.version() in ("TLSv1.2", "TLSv1.3")

        await attempt("ca.crt", "client.crt")
        with pytest.raises(LinkDown, match="certificate of the broker not accepted"):
            await attempt("stranger.crt", "client.crt")
        with pytest.raises((LinkDown, SendFailed)):
            await attempt("ca.crt", "")
        with pytest.raises(LinkDown) as caught:
            await attempt("ca.crt", "no-such-file.crt")
        assert caught.value.refused
        assert "no-such-file" not in caught.value.reason


async def test_passwords_from_a_file(tmp_path: Path) -> None:
    """A wrong one is `refused`, so that the link backs off long instead of hammering (M17)."""
    users = tmp_path / "users"
    making = ["mosquitto_passwd", "-c", "-b", str(users), "gw", "right"]
    await asyncio.to_thread(subprocess.run, making, check=True, capture_output=True)
    users.chmod(0o644)
    lines = ("allow_anonymous false", f"password_file {users}")
    with mosquitto.running(tmp_path / "broker", lines=lines) as broker:
        secret = tmp_path / "secret"
        for version in ("5", "3.1.1"):
            secret.write_text("right\n", "utf-8")
            access = Access(client_id="gw", username="gw", password_file="secret")
            options = {"config_path": tmp_path / "gateway.toml", "sink": Inbox()}
            async with connect(section(broker, version=version), access, **options) as line:  # type: ignore[arg-type]
                await line.put("t", b"1")
            secret.write_text("wrong\n", "utf-8")
            with pytest.raises(LinkDown) as caught:
                async with connect(section(broker, version=version), access, **options):  # type: ignore[arg-type]
                    pass
            assert caught.value.refused
            assert "wrong" not in caught.value.reason
