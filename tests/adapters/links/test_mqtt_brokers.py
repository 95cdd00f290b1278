"""The same link on other brokers: one secured as in production, and the demo's amqtt.

On mosquitto the options of the reference settings: each client proves who it is by a certificate,
the broker makes the name in it user and client id, and a pattern ACL binds topics to it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiomqtt
import pytest

from gateway.errors import LinkDown
from gateway.messages import CheckRequest, StatusReport
from simulators.broker import EmbeddedBroker
from tests.adapters.links.test_mqtt_broker import CHECK, ISSI, OTHER, RECEIPT, Rig, until
from tests.services import mosquitto
from tests.services.mosquitto import Mosquitto
from tests.services.pki import Pki

ACL = """
user gw
topic read radio/+/up/#
topic write radio/+/down/#
topic write gateway/gwt/state
topic readwrite gateway/gwt/loop/check
user gw-status
topic read radio/+/up/#
topic readwrite gateway/gwt/loop/status

pattern write radio/%u/up/#
pattern read radio/%u/down/#
"""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("server", "gw", "gw-status", ISSI, OTHER):
        made.issue(name)
    return made


@pytest.fixture
def secured(pki: Pki, tmp_path: Path) -> Iterator[Mosquitto]:
    acl = tmp_path / "acl"
    acl.write_text(ACL, "utf-8")
    acl.chmod(0o600)
    lines = (
        "allow_anonymous false",
        f"cafile {pki.path('ca.crt')}",
        f"certfile {pki.path('server.crt')}",
        f"keyfile {pki.path('server.key')}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.3",
        "max_keepalive 30",
        f"acl_file {acl}",
    )
    with mosquitto.running(tmp_path / "broker", lines=lines) as broker:
        yield broker


@pytest.fixture
async def secured_rig(secured: Mosquitto, pki: Pki) -> AsyncIterator[Rig]:
    rig = Rig(
        secured,
        client_id="gw",
        tls=True,
        ca_file=pki.path("ca.crt"),
        cert_file=pki.path("gw.crt"),
        key_file=pki.path("gw.key"),
        status_cert_file=pki.path("gw-status.crt"),
        status_key_file=pki.path("gw-status.key"),
    )
    await rig.open()
    yield rig
    await rig.close()


def radio(broker: Mosquitto, pki: Pki, issi: str, identifier: str = "") -> aiomqtt.Client:
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    context.load_cert_chain(pki.path(f"{issi}.crt"), pki.path(f"{issi}.key"))
    return aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=identifier or issi,
        tls_context=context,
        protocol=aiomqtt.ProtocolVersion.V5,
    )


async def test_both_sessions_over_certificates_of_their_own(
    secured_rig: Rig, secured: Mosquitto, pki: Pki
) -> None:
    """Where the broker makes the user name the client id, two sessions need two users."""
    async with radio(secured, pki, ISSI) as mine:
        await mine.subscribe(f"radio/{ISSI}/down/#", qos=1)
        await mine.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
        await mine.publish(f"radio/{ISSI}/up/status", b'{"code": 0}', qos=1)
        await until(lambda: len(secured_rig.desk.envelopes) == 2)
        assert secured_rig.desk.of(CheckRequest)[0].terminal == ISSI
        assert secured_rig.desk.of(StatusReport)[0].terminal == ISSI
        await secured_rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)
        async with asyncio.timeout(10):
            message = await anext(aiter(mine.messages))
        assert message.topic.value == f"radio/{ISSI}/down/receipt"


async def test_nobody_speaks_or_listens_for_another(
    secured_rig: Rig, secured: Mosquitto, pki: Pki
) -> None:
    """F3: by what is delivered, since every SUBACK grants. The victim's own copy comes."""
    async with radio(secured, pki, ISSI) as mine, radio(secured, pki, OTHER) as spy:
        await mine.subscribe(f"radio/{ISSI}/down/#", qos=1)
        for each in (f"radio/{ISSI}/down/#", "radio/+/down/#", "#", f"$share/g/radio/{ISSI}/#"):
            await spy.subscribe(each, qos=1)
        heard: list[str] = []

        async def listen() -> None:
            async for message in spy.messages:
                heard.append(message.topic.value)

        listening = asyncio.ensure_future(listen())
        await spy.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
        await secured_rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)
        async with asyncio.timeout(10):
            await anext(aiter(mine.messages))
        await spy.publish(f"radio/{OTHER}/up/check", json.dumps(CHECK), qos=1)
        await until(lambda: secured_rig.desk.envelopes)
        assert [each.terminal for each in secured_rig.desk.envelopes] == [OTHER]
        assert heard == []
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_our_client_id_is_ours(secured_rig: Rig, secured: Mosquitto, pki: Pki) -> None:
    """F4: with the id bound to the certificate, a terminal that claims ours throws nobody off."""
    async with radio(secured, pki, OTHER, identifier="gw"), radio(secured, pki, ISSI) as mine:
        await mine.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
        await until(lambda: secured_rig.desk.of(CheckRequest))
    assert secured_rig.task is not None
    assert not secured_rig.task.done()


# --------------------------------------------------------------------------- amqtt

USERS = {"gw": "right", ISSI: "radio"}


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(USERS, staff=frozenset({"gw"}))
    await broker.start()
    yield broker
    await broker.stop()


def demo_rig(broker: EmbeddedBroker, folder: Path, password: str) -> Rig:
    secret = folder / "secret"
    secret.write_text(password, "utf-8")
    return Rig(
        broker,  # type: ignore[arg-type]  # what a rig needs of it is its port
        version="3.1.1",
        username="gw",
        password_file=str(secret),
        queued_marked_retained=True,
    )


def demo_radio(broker: EmbeddedBroker) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1", broker.port, identifier=ISSI, username=ISSI, password=USERS[ISSI]
    )


async def test_the_link_serves_on_the_demos_broker(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Over 3.1.1, by user and password: check and status in, receipt out."""
    rig = demo_rig(embedded, tmp_path, "right")
    await rig.open()
    async with demo_radio(embedded) as mine:
        await mine.subscribe(f"radio/{ISSI}/down/#", qos=1)
        await mine.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
        await mine.publish(f"radio/{ISSI}/up/status", b'{"code": 0}', qos=1)
        await until(lambda: len(rig.desk.envelopes) == 2)
        await rig.link.send(ISSI, RECEIPT, expires_in_s=60, deadline_s=5)
        async with asyncio.timeout(10):
            await anext(aiter(mine.messages))
    await rig.close()


async def test_what_the_demos_broker_queued_is_taken_though_marked_retained(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """amqtt sets the flag on what it kept for an absent client; refused, a check would be lost."""
    rig = demo_rig(embedded, tmp_path, "right")
    await rig.open()
    await rig.close()
    async with demo_radio(embedded) as mine:
        await mine.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
    await rig.open()
    await until(lambda: rig.desk.of(CheckRequest))
    assert rig.rejected("retained") == 0
    await rig.close()


async def test_a_wrong_password_is_refused_there_too(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    rig = demo_rig(embedded, tmp_path, "wrong")
    with pytest.raises(LinkDown) as caught:
        async with asyncio.timeout(15):
            await rig.link.run(rig.desk, rig.up.set)
    assert caught.value.refused
