"""config/mosquitto as it stands, by what is delivered: mosquitto grants every subscription (F3).

The whole matrix: everybody publishes on every topic there is, and on topics that nobody has; each
listener asks for everything in every way; what reached whom is compared with the table below, which
is written from docs/interfaces.md and not from the ACL.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from adapters import codecs
from adapters.links.owntracks import OwnTracksLink
from adapters.pki.authority import Authority, _pem_of
from gateway.app import SystemClock
from gateway.errors import SendFailed
from gateway.messages import Envelope, Notice
from gateway.settings import OwnTracksSection
from tests.adapters.links.test_mqtt_broker import Rig
from tests.fakes import FakeJournal, FakeMeter
from tests.services import hardened, raw_mqtt
from tests.services.hardened import GATEWAY, READER, Hardened

A, B = "5001001", "5001002"
MAIN, STATUS, FEED = GATEWAY
EVERYBODY = (A, B, *GATEWAY, READER)
WITHIN_S = 20.0

UP_MAIN = {
    f"radio/{issi}/up/{each}" for issi in (A, B) for each in ("check", "text", "fix", "nmea")
}
UP_STATUS = {f"radio/{issi}/up/{each}" for issi in (A, B) for each in ("status", "ack")}
DOWN = {f"radio/{issi}/down/{each}" for issi in (A, B) for each in ("receipt", "result", "notice")}
FEEDS = {f"feed/fix/{A}", f"feed/check/{A}", "feed/alarm/A0001"}
STATE, LOOP, LOOP_STATUS = "gateway/gwt/state", "gateway/gwt/loop/check", "gateway/gwt/loop/status"
NOBODYS = {
    f"radio/{A}/up",
    f"radio/{A}/up/check/x",
    f"radio/{A}/up/check/",
    f"radio/{A}/up/CHECK",
    f"radio/{A}/up/command",
    f"radio/{A}/down/command",
    f"radio/{A}/presence",
    f"/radio/{A}/up/check",
    "radio//up/check",
    f"radio/{A} /up/check",
    "radio/x1/down/result",
    "gateway/gw1/state",
    "gateway/gwt/loop/feed",
    f"feed/fix/{A}/x",
    "feed/secret/x",
    f"owntracks/{A}/phone",
    "$SYS/broker/uptime",
    "$SYS/broker/clients/total",
    "$CONTROL/dynamic-security/v1",
    "x",
}
TOPICS = sorted(UP_MAIN | UP_STATUS | DOWN | FEEDS | {STATE, LOOP, LOOP_STATUS} | NOBODYS)


def may_say(who: str) -> set[str]:
    if who in (A, B):
        return {topic for topic in UP_MAIN | UP_STATUS if topic.split("/")[1] == who}
    return {MAIN: DOWN | {STATE, LOOP}, STATUS: {LOOP_STATUS}, FEED: FEEDS, READER: set()}[who]


def may_hear(who: str) -> set[str]:
    if who in (A, B):
        return {topic for topic in DOWN if topic.split("/")[1] == who} | {STATE}
    return {
        MAIN: UP_MAIN | {LOOP, STATE},
        STATUS: UP_STATUS | {LOOP_STATUS, STATE},
        FEED: {STATE},
        READER: FEEDS | {STATE},
    }[who]


def filters(who: str) -> list[str]:
    """Every way of asking for what is not one's own."""
    other = B if who == A else A
    return [
        *(
            "#",
            "+/#",
            "+/+/+/+",
            "radio/#",
            "radio/+/down/#",
            "radio/+/up/#",
            "gateway/#",
            "feed/#",
        ),
        *("$SYS/#", "$SYS/broker/#", "$CONTROL/#", f"radio/{other}/down/result"),
        *(f"radio/{other}/up/check", f"radio/{who}/+/+", f"radio/{other}/#"),
        *("$share/g/#", "$share/g/radio/+/up/check", f"$share/g/radio/{other}/down/#"),
        f"$share/radio-gateway/radio/{other}/down/result",
    ]


class Client(aiomqtt.Client):
    """One connection by the certificate of `who`; keeps what it hears as (topic, payload)."""

    def __init__(
        self,
        broker: Hardened,
        who: str,
        *,
        identifier: str = "",
        username: str | None = None,
        keep_s: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = keep_s
        super().__init__(
            "127.0.0.1",
            broker.port,
            identifier=identifier or who,
            username=username,
            tls_context=context or broker.context(who),
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=not keep_s,
            properties=kept,
            keepalive=20,
            timeout=10,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def heard(self) -> set[tuple[str, bytes]]:
        """All that came so far. After `barrier`: all that was sent to us before it."""
        found = set()
        while not self._queue.empty():
            message = self._queue.get_nowait()
            assert isinstance(message.payload, bytes)
            found.add((str(message.topic), message.payload))
        return found

    async def barrier(self) -> set[tuple[str, bytes]]:
        """A round trip: what the broker sent us before comes before its answer."""
        await self.subscribe("barrier", qos=1)
        return self.heard()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return hardened.authority(tmp_path_factory.mktemp("hardened") / "pki", A, B)


@pytest.fixture
def broker(pki: Authority, tmp_path: Path) -> Iterator[Hardened]:
    with hardened.running(tmp_path / "broker", pki) as broker:
        yield broker


@contextlib.asynccontextmanager
async def everybody(broker: Hardened) -> AsyncIterator[dict[str, Client]]:
    """All six, each subscribed to whatever it may and may not have."""
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for who in EVERYBODY:
            clients[who] = await stack.enter_async_context(Client(broker, who))
            for each in filters(who):
                await clients[who].subscribe(each, qos=1)
        yield clients


def wrong(
    heard: dict[str, set[tuple[str, bytes]]], said: set[tuple[str, bytes]]
) -> list[tuple[str, str, bytes]]:
    """Deliveries that should not have been, and those that should and were not."""
    faults = []
    for who, got in heard.items():
        due = {(topic, word) for topic, word in said if topic in may_hear(who)}
        faults += [(who, topic, word) for topic, word in got ^ due]
    return faults


# --------------------------------------------------------------------------- the matrix


@pytest.mark.parametrize("retain", [False, True], ids=["now", "retained"])
async def test_what_reaches_whom_is_what_the_interfaces_say(broker: Hardened, retain: bool) -> None:
    """6 speakers x 39 topics x 6 listeners: nobody hears or speaks for another; retained: nothing
    that was not allowed lies there for whoever comes later, either."""
    said = set()
    async with everybody(broker) as clients:
        for who, topic in product(EVERYBODY, TOPICS):
            if retain and topic in (UP_MAIN | UP_STATUS):
                continue  # what a terminal may say it may say retained: the gateway refuses it
            with contextlib.suppress(aiomqtt.MqttError):
                await clients[who].publish(topic, who.encode(), qos=1, retain=retain)
            if topic in may_say(who):
                said.add((topic, who.encode()))
        heard = {who: await client.barrier() for who, client in clients.items()}
        assert wrong(heard, said) == []
        assert len(said) == (12 if not retain else 0) + 6 + 2 + 1 + 3, "else this proves nothing"
    if retain:
        async with everybody(broker) as clients:
            heard = {who: await client.barrier() for who, client in clients.items()}
            # Of a shared subscription nobody gets what lies there; the others do.
            assert wrong(heard, said) == []


PHONE, PHONES = "e105", "radio-gateway-owntracks"


async def test_a_phone_says_where_its_own_devices_are_to_the_gateway_alone(
    pki: Authority, tmp_path: Path
) -> None:
    """With the rules for phones: nobody speaks for it, and nobody else hears it, another phone as
    little as a terminal; what it lays there is there for the gateway."""
    for who in (PHONE, "f106", PHONES):
        pki.issue(who)
    own, others = f"owntracks/{PHONE}/phone", "owntracks/f106/phone"
    everyone = (A, READER, *GATEWAY, PHONES, PHONE, "f106")
    with hardened.running(tmp_path / "broker", pki, phones=True) as broker:
        async with contextlib.AsyncExitStack() as stack:
            clients = {}
            for who in everyone:
                clients[who] = await stack.enter_async_context(Client(broker, who))
                for each in ("#", "owntracks/#", "owntracks/+/+", own, "$share/g/owntracks/+/+"):
                    await clients[who].subscribe(each, qos=1)
            topics = (own, others, f"{own}/event", f"{own}/cmd", "owntracks/e105", f"/{own}")
            for who, topic in product(everyone, topics):
                with contextlib.suppress(aiomqtt.MqttError):
                    await clients[who].publish(topic, who.encode(), qos=1, retain=True)
            heard = {who: await client.barrier() for who, client in clients.items()}
        due = {(own, PHONE.encode()), (others, b"f106")}
        assert heard.pop(PHONES) == due
        assert {who: got for who, got in heard.items() if got} == {}
        async with Client(broker, PHONES) as late:
            await late.subscribe("owntracks/+/+", qos=1)
            assert await late.barrier() == due
        await _a_link_hears(broker, {"e105/phone": A})


async def _a_link_hears(broker: Hardened, phones: dict[str, str]) -> None:
    """The gateway's own link, as the rules let it: with its certificate, and its word to itself."""
    heard: list[Envelope] = []
    up, meter = asyncio.Event(), FakeMeter()
    pem = broker.pki.folder
    section = OwnTracksSection(
        name="phones",
        port=broker.port,
        tls=True,
        ca_file=str(pem / "ca.crt"),
        cert_file=str(pem / f"{PHONES}.crt"),
        key_file=str(pem / f"{PHONES}.key"),
    )
    link = OwnTracksLink(
        section,
        instance="gwt",
        config_path=Path("/x/gateway.toml"),
        clock=SystemClock(),
        meter=meter,
        journal=FakeJournal(),
        known=lambda _issi: True,
        codecs=codecs.create,
        named=lambda _protocol, name: phones.get(name, ""),
    )
    running = asyncio.ensure_future(link.run(heard.append, up.set))
    try:
        async with asyncio.timeout(WITHIN_S):
            await up.wait()
            body = b'{"_type":"location","lat":52.5725,"lon":-0.2431,"tst":1795342502}'
            async with Client(broker, PHONE) as phone:
                await phone.publish("owntracks/e105/phone", body, qos=1)
            while not heard:  # noqa: ASYNC110 - it comes from a broker, without an event
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [(each.terminal, each.stored) for each in heard] == [(A, False)]


@pytest.mark.parametrize("speaker", [A, READER])
async def test_a_last_will_says_no_more_than_its_client_could(
    broker: Hardened, speaker: str
) -> None:
    """Whoever dies says for himself alone, on topics that are his: also on his own check topic,
    where the gateway judges it as any check (tests/system/test_broker_service.py)."""
    topics = [
        *(f"radio/{B}/up/check", f"radio/{B}/up/status", f"radio/{B}/down/result", STATE, LOOP),
        *(LOOP_STATUS, "feed/alarm/A0001", f"feed/fix/{B}", f"radio/{A}/up/check/x", "$SYS/x"),
        f"radio/{A}/up/check",
    ]
    async with everybody(broker) as clients:
        others = {who: client for who, client in clients.items() if who != speaker}
        for topic in topics:
            retain = topic.startswith("gateway")
            dying = raw_mqtt.connect(
                broker.port, broker.context(speaker), "x", will=(topic, b"will"), retain=retain
            )
            assert dying is not None
            dying.close()
        due = {(topic, b"will") for topic in topics if topic in may_say(speaker)}
        async with asyncio.timeout(WITHIN_S):
            heard: dict[str, set[tuple[str, bytes]]] = {who: set() for who in others}
            while due and not due <= heard[MAIN]:
                heard[MAIN] |= await others[MAIN].barrier()
        for who, client in others.items():
            heard[who] |= await client.barrier()
        assert wrong(heard, due) == []


async def test_a_response_topic_reaches_nobody_by_itself(broker: Hardened) -> None:
    """F5: the broker hands it through to the gateway, and to nobody else; it is only a wish (that
    the gateway ignores it: tests/system/test_broker_service.py)."""
    async with everybody(broker) as clients:
        wish = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        wish.ResponseTopic = f"radio/{B}/down/result"
        wish.CorrelationData = b"x" * 64
        await clients[A].publish(f"radio/{A}/up/check", b"q", qos=1, properties=wish)
        heard = {who: await client.barrier() for who, client in clients.items()}
        assert wrong(heard, {(f"radio/{A}/up/check", b"q")}) == []


# --------------------------------------------------------------------------- who somebody is


@pytest.mark.parametrize("name", ["#", "+", "5001001/x", "$SYS", "%u", "5001001,radio-gateway"])
async def test_a_name_that_is_a_wildcard_hears_nobody(
    broker: Hardened, tmp_path: Path, name: str
) -> None:
    """CVE-2017-7650: even with a certificate that our own CA made by mistake."""
    made = broker.pki
    key = ec.generate_private_key(ec.SECP256R1())
    alternative = x509.SubjectAlternativeName([x509.DNSName("spy")])
    certificate = made._certify(name, key.public_key(), 1, alternative)
    file = tmp_path / "spy.pem"
    file.write_bytes(_pem_of(key) + certificate.public_bytes(serialization.Encoding.PEM))
    context = broker.context("")
    context.load_cert_chain(file)
    async with everybody(broker) as clients:
        spy = Client(broker, name, identifier="spy", context=context)
        heard: set[tuple[str, bytes]] = set()
        with contextlib.suppress(aiomqtt.MqttError):
            async with spy:
                for each in filters(A):
                    await spy.subscribe(each, qos=1)
                for topic in sorted(UP_MAIN | UP_STATUS | DOWN | {STATE, LOOP}):
                    await spy.publish(topic, b"spy", qos=1)
                await clients[MAIN].publish(f"radio/{A}/down/result", b"secret", qos=1)
                await clients[A].publish(f"radio/{A}/up/check", b"secret", qos=1)
                heard = await spy.barrier()
        assert not {topic for topic, _ in heard} - {STATE}
        for client in clients.values():
            assert b"spy" not in {word for _, word in await client.barrier()}


async def test_a_user_name_that_is_claimed_is_not_believed(broker: Hardened) -> None:
    """The certificate says who it is, whatever CONNECT says."""
    async with (
        everybody(broker) as clients,
        Client(broker, B, identifier=MAIN, username=MAIN) as spy,
    ):
        await spy.publish(f"radio/{A}/down/result", b"forged", qos=1)
        await spy.publish(f"radio/{B}/up/check", b"mine", qos=1)
        assert await clients[A].barrier() == set()
        assert (f"radio/{B}/up/check", b"mine") in await clients[MAIN].barrier()


async def test_the_gateways_session_is_taken_over_by_nobody(broker: Hardened) -> None:
    """F4: whoever comes with its client id, clean or not, throws nobody off, empties no queue."""
    async with Client(broker, MAIN, keep_s=3600) as gateway:
        await gateway.subscribe("radio/+/up/check", qos=1)
        for clean_s in (0, 3600):
            async with Client(broker, B, identifier=MAIN, keep_s=clean_s):
                pass
        await gateway.barrier()  # still there
    async with Client(broker, A) as radio:
        await radio.publish(f"radio/{A}/up/check", b"while away", qos=1)
        for clean_s in (0, 3600):
            async with Client(broker, B, identifier=MAIN, keep_s=clean_s):
                pass
    async with Client(broker, MAIN, keep_s=3600) as gateway:
        assert await gateway.barrier() == {(f"radio/{A}/up/check", b"while away")}


async def test_what_waits_for_a_terminal_is_not_for_the_next_who_asks(broker: Hardened) -> None:
    """Its session is its name's: another with its client id gets neither queue nor subscription."""
    async with Client(broker, A, keep_s=60) as mine:
        await mine.subscribe(f"radio/{A}/down/#", qos=1)
    async with Client(broker, MAIN) as gateway:
        await gateway.publish(f"radio/{A}/down/result", b"secret", qos=1)
        async with Client(broker, B, identifier=A, keep_s=60) as spy:
            await gateway.publish(f"radio/{A}/down/result", b"secret too", qos=1)
            assert await spy.barrier() == set()
    async with Client(broker, A, keep_s=60) as mine:
        assert {word for _, word in await mine.barrier()} == {b"secret", b"secret too"}


# --------------------------------------------------------------------------- who gets in at all


def refused(broker: Hardened, context: ssl.SSLContext | None) -> bool:
    """Whether this connection is turned away."""
    sock = raw_mqtt.connect(broker.port, context, A)
    if sock is not None:
        sock.close()
    return sock is None


def test_only_a_certificate_of_ours_that_holds_gets_in(
    broker: Hardened, pki: Authority, tmp_path: Path
) -> None:
    """C24, C25, A11: no certificate, another CA's, one that ran out, one not yet valid, one taken
    back, the broker's own, no TLS at all, TLS 1.1; the good one does get in before and after."""
    assert not refused(broker, broker.context(A))

    assert refused(broker, broker.context("")), "anonymous"
    assert refused(broker, None), "plain"

    stranger = Authority(tmp_path / "stranger")
    stranger.init()
    stranger.issue(A)
    forged = broker.context("")
    forged.load_cert_chain(stranger.folder / f"{A}.crt", stranger.folder / f"{A}.key")
    assert refused(broker, forged), "another CA's"

    for name, days_ago in (("5001011", 8), ("5001012", -1)):
        then = datetime.now(UTC) - timedelta(days=days_ago)
        Authority(pki.folder, now=lambda then=then: then).issue(name)
        assert refused(broker, broker.context(name)), f"issued {days_ago} days ago"
    pki.issue("5001014")  # a list of today again: one of tomorrow would refuse everybody
    assert not refused(broker, broker.context("5001014"))

    assert refused(broker, broker.context("broker")), "a server's certificate"
    assert not refused(broker, broker.context(A))


@pytest.mark.parametrize(
    ("version", "taken"),
    [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)],
)
def test_nothing_below_tls_1_2(broker: Hardened, version: str, taken: bool) -> None:
    pem = broker.pki.folder
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{broker.port}", version),
            *("-CAfile", pem / "ca.crt", "-cert", pem / f"{A}.crt", "-key", pem / f"{A}.key"),
            *("-cipher", "DEFAULT:@SECLEVEL=0"),
        ],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode == 0) is taken, done.stderr[-300:]
    assert (b"Cipher is (NONE)" in done.stdout) is not taken


async def test_a_revoked_terminal_is_out_with_the_next_reload(
    broker: Hardened, pki: Authority
) -> None:
    """A10: the list is read again on SIGHUP, and nobody else is disturbed."""
    pki.issue("5001013")
    context = broker.context("5001013")
    assert not refused(broker, context)
    async with Client(broker, A) as other:
        pki.revoke("5001013")
        broker.reload()
        for _ in range(100):  # turns of the broker's loop, in one of which it reads the list
            if refused(broker, context):
                break
            await other.barrier()
        assert refused(broker, context)
        await other.barrier()
        assert not refused(broker, broker.context(B))


# --------------------------------------------------------------------------- limits, persistence


async def test_a_packet_that_is_too_large_costs_its_sender_alone(broker: Hardened) -> None:
    async with everybody(broker) as clients:
        await clients[A].publish(f"radio/{A}/up/fix", b"x" * 16_000, qos=0)

        async def too_much() -> None:
            # It may be cut off while this is still on its way out.
            await clients[A].publish(f"radio/{A}/up/check", b"x" * 200_000, qos=0, timeout=2)
            await clients[A]._disconnected

        with pytest.raises(aiomqtt.MqttError):
            await too_much()
        await clients[B].publish(f"radio/{B}/up/check", b"mine", qos=1)
        heard = {topic for topic, _ in await clients[MAIN].barrier()}
        assert heard == {f"radio/{A}/up/fix", f"radio/{B}/up/check"}


async def test_an_answer_that_is_too_large_is_refused_and_the_link_stays(broker: Hardened) -> None:
    """Sent, it would end our connection, and again each time that it is repeated."""
    rig = Rig(broker, **{"client_id": MAIN, **broker.access()})
    await rig.open()
    async with Client(broker, A) as radio:
        await radio.subscribe(f"radio/{A}/down/#", qos=1)
        large = Notice(kind="operator", text="X" * 40_000)
        with pytest.raises(SendFailed, match="larger than the broker takes"):
            await rig.link.send(A, large, expires_in_s=60, deadline_s=5)
        fits = Notice(kind="operator", text="X" * 30_000)
        await rig.link.send(A, fits, expires_in_s=60, deadline_s=5)
        assert len(await radio.barrier()) == 1
    assert rig.task is not None
    assert not rig.task.done()
    await rig.close()


async def test_what_waits_for_the_gateway_survives_the_brokers_kill(broker: Hardened) -> None:
    """F2: SIGKILL right after the last PUBACK; with mosquitto's defaults nothing would be left."""
    async with Client(broker, MAIN, keep_s=3600) as gateway:
        await gateway.subscribe("radio/+/up/check", qos=1)
    async with Client(broker, A) as radio:
        for n in range(200):
            await radio.publish(f"radio/{A}/up/check", b"%d" % n, qos=1)
        # The broker writes at the end of the turn that it acknowledged in.
        await radio.barrier()
    broker.kill()
    broker.start()
    async with Client(broker, MAIN, keep_s=3600) as gateway:
        got = {word for _, word in await gateway.barrier()}
        assert got == {b"%d" % n for n in range(200)}
