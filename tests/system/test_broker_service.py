"""The real daemon behind config/mosquitto: served over TLS, attacked from inside, renewed, expired.

Whoever attacks here has a good certificate, or had one. What each attack left behind is read from
the daemon's journal, its metrics and its audit; what it did to others, from their terminals.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from adapters.pki.authority import Authority
from gateway.messages import CheckRequest
from simulators.pnc_server import PncServer
from tests.adapters.links.test_mqtt_broker import CHECK, Rig
from tests.adapters.links.test_mqtt_broker import until as until_seen
from tests.services import hardened, raw_mqtt
from tests.services.hardened import GATEWAY, Hardened
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import CONCLUDING, audit, join
from tests.system.officers import MqttOfficer, now_text

A, B, STRANGER = "5001002", "5001003", "5009999"
"""Two officers of the fleet, and a terminal that our CA knows and the fleet does not."""
MARK = "TE99AAB"


@pytest.fixture
def pki(tmp_path: Path) -> Authority:
    return hardened.authority(tmp_path / "pki", A, B, STRANGER)


@pytest.fixture
def broker(pki: Authority, tmp_path: Path) -> Iterator[Hardened]:
    with hardened.running(tmp_path / "broker", pki) as broker:
        yield broker


class Force:
    """The daemon with the limits that it ships with, a PNC server, and two officers on TLS."""

    def __init__(self, folder: Path, broker: Hardened) -> None:
        self.broker = broker
        self.folder = folder
        self.pnc = PncServer(ROOT / "config" / "pnc", "127.0.0.1", 0)
        self.radios = {
            issi: MqttOfficer(issi, broker.port, tls=broker.context(issi)) for issi in (A, B)
        }
        self.daemon: Daemon
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self.pnc.start()
        self.daemon = Daemon(
            self.folder,
            broker=self.broker.port,
            pnc_url=self.pnc.url,
            sections={"limits": {}},
            broker_settings=self.broker.access(),
        )
        await self.daemon.start()
        self._tasks = [asyncio.create_task(each.run()) for each in self.radios.values()]
        async with asyncio.timeout(20):
            for radio in self.radios.values():
                await radio.connected.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.daemon.close()
        with contextlib.suppress(OSError):
            await self.pnc.stop()

    async def asks(self, issi: str, mark: str = MARK) -> dict[str, Any]:
        """One vehicle, to its answer."""
        radio = self.radios[issi]
        ref = await radio.ask(kind="vehicle", vrm=mark, reason="1")
        return dict(await radio.until(lambda: radio.result(ref), 20))

    async def figures(self, name: str) -> dict[str, float]:
        """`reason` -> the counter `gateway_name` at our broker."""
        _, body = await self.daemon.get("/metrics")
        lines = re.findall(rf"^gateway_{name}{{(.*)}} (\S+)$", body.decode(), re.MULTILINE)
        return {
            found[1]: float(value)
            for labels, value in lines
            if (found := re.search(r'reason="(\w+)"', labels)) and float(value)
        }

    def security(self) -> Counter[tuple[str, str]]:
        """What the audit says of it: (what, terminal) -> how often."""
        return Counter(
            (leaf["detail"], leaf["terminal"])
            for leaf in audit(self.daemon.state)
            if leaf["event"] == "security"
        )


@pytest.fixture
async def force(tmp_path: Path, broker: Hardened) -> AsyncIterator[Force]:
    force = Force(tmp_path, broker)
    try:
        await force.open()
        yield force
    finally:
        await force.close()


def client(broker: Hardened, issi: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=issi,
        tls_context=broker.context(issi),
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=10,
    )


def check(**changes: Any) -> bytes:
    body = {"ref": "x1", "t": now_text(), "kind": "vehicle", "vrm": "TE99STV", "reason": "1"}
    return json.dumps(body | changes).encode()


# --------------------------------------------------------------------------- attacks


async def test_each_attack_is_harmless_and_ops_and_the_audit_see_it_once(force: Force) -> None:
    """M07 to M12 against the real daemon: identity, retained, oversize, stranger, flood, Response
    Topic, a last will. The other officer is answered throughout and hears nothing of it."""
    assert (await force.asks(A))["outcome"] == "answered"
    spy = force.radios[B]
    wish = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    wish.ResponseTopic = f"radio/{A}/down/result"
    wish.CorrelationData = b"x" * 32
    for _ in range(10):
        await spy.say("check", check(issi=A))
        await spy.say("check", b"x" * 20_000)
    assert spy._client is not None
    await spy._client.publish(f"radio/{B}/up/check", check(ref="kept"), qos=1, retain=True)
    await spy._client.publish(f"radio/{B}/up/check", check(ref="wish"), qos=1, properties=wish)
    mine = await spy.until(lambda: spy.result("wish"), 20)
    assert mine["outcome"] == "answered"
    async with client(force.broker, STRANGER) as stranger:
        for _ in range(5):
            await stranger.publish(f"radio/{STRANGER}/up/check", check(), qos=1)
    queries = len(force.pnc.queries)
    assert queries == 2, "his own question, and hers"

    for n in range(400):
        await spy.say("check", check(ref=f"f{n}"), qos=0)
    assert (await force.asks(A, "TE99ABC"))["outcome"] == "answered"
    slow = await spy.until(
        lambda: [h.body for h in spy.heard if h.body.get("why") == "SLOW DOWN"], 20
    )
    await until(lambda: len(force.security()) == 5)
    assert force.security() == {
        ("identity on mqtt", B): 1,
        ("oversize on mqtt", B): 1,
        ("retained on mqtt", B): 1,
        ("unknown_terminal on mqtt", STRANGER): 1,
        ("flood on mqtt", B): 1,
    }
    assert [(word["accepted"], word["check"]) for word in slow] == [(False, "")]
    assert sum(h.body.get("why") == "SLOW DOWN" for h in spy.heard) == 1

    figures = await force.figures("security_events_total")
    flood = figures.pop("flood")
    assert 300 < flood < 400
    assert figures == {"identity": 10, "oversize": 10, "retained": 1, "unknown_terminal": 5}
    lines = [line for line in force.daemon.journal() if line["event"] == "security"]
    assert Counter(line["reason"] for line in lines) == dict.fromkeys([*figures, "flood"], 1)
    assert not re.search(rf"{A}|{B}|{STRANGER}", force.daemon.output.read_text("utf-8"))

    hers = [heard.body for heard in force.radios[A].heard]
    assert {body["ref"] for body in hers} == {f"{A}-1", f"{A}-2"}
    await until(lambda: not _open(force))
    asked = [
        {"check": each.check, "attempt": each.attempt, "key_text": each.key_text}
        for each in force.pnc.queries
    ]
    assert join(force.radios.values(), asked, audit(force.daemon.state)) == []


def _open(force: Force) -> int:
    """Checks on record without an outcome."""
    opened = [leaf for leaf in audit(force.daemon.state) if leaf["event"] == "opened"]
    return len(opened) - len(_outcomes(force))


@pytest.mark.slow
async def test_a_last_will_on_ones_own_check_topic_is_a_check_like_any_other(force: Force) -> None:
    """It is the terminal's own word, said late: judged by its sending time, answered on its own
    topic alone; one that lies retained is refused."""
    old = (datetime.now(UTC) - timedelta(minutes=2)).isoformat(timespec="milliseconds")
    for ref, t, retain in (
        ("will-old", old.replace("+00:00", "Z"), False),
        ("will-kept", now_text(), True),
        ("will-new", now_text(), False),
    ):
        # In turn: the broker makes each the session of this name, and his radio comes back.
        small = json.dumps({"ref": ref, "t": t, "kind": "vehicle", "vrm": MARK, "reason": "1"})
        dying = await asyncio.to_thread(
            raw_mqtt.connect,
            force.broker.port,
            force.broker.context(B),
            B,
            will=(f"radio/{B}/up/check", small.encode()),
            retain=retain,
        )
        assert dying is not None
        dying.close()
    await until(lambda: len(_outcomes(force)) == 2, 20)
    assert (await force.asks(A))["outcome"] == "answered"
    outcomes = _outcomes(force)
    assert Counter(outcomes) == {"expired": 1, "answered": 2}, "two of three wills, and hers"
    assert await force.figures("security_events_total") == {"retained": 1}
    assert {heard.body["ref"] for heard in force.radios[A].heard} == {f"{A}-1"}
    heard = {h.body["ref"] for h in force.radios[B].heard if h.channel == "result"}
    assert heard <= {"will-old", "will-new"}


def _outcomes(force: Force) -> list[str]:
    return [leaf["outcome"] for leaf in audit(force.daemon.state) if leaf["event"] in CONCLUDING]


# --------------------------------------------------------------------------- renewal


def take_back(pki: Authority, *serials: str) -> None:
    """Only these: what the thief of an old file would have."""
    with pki._locked():
        pki._keep(
            [
                msgspec.structs.replace(each, revoked_at=datetime.now(UTC).isoformat())
                if each.serial in serials
                else each
                for each in pki.show()
            ]
        )


async def test_a_renewed_certificate_opens_the_same_session(
    broker: Hardened, pki: Authority
) -> None:
    """M15: what the broker kept for us while we were away comes, and only the new one is good."""
    rig = Rig(broker, known=(A, B), **{"client_id": GATEWAY[0], **broker.access()})
    await rig.open()
    await rig.close()
    async with client(broker, A) as radio:
        await radio.publish(f"radio/{A}/up/check", json.dumps(CHECK), qos=1)
    old = [each.serial for each in pki.show() if each.name in GATEWAY]
    for name in GATEWAY:
        pki.renew(name)
    take_back(pki, *old)
    broker.reload()
    await rig.open()
    await until_seen(lambda: rig.desk.of(CheckRequest))
    assert rig.desk.of(CheckRequest)[0].terminal == A
    await rig.close()


@pytest.mark.slow
async def test_at_sighup_renewed_certificates_are_taken_up_and_nothing_is_lost(
    force: Force, pki: Authority
) -> None:
    """The old ones are taken back, the broker is reloaded, then we are: officers ask throughout,
    every question is answered once, and the end of the new certificate is what /metrics says."""
    daemon, broker = force.daemon, force.broker
    before = await _expiry(force)
    assert set(before) == {"mqtt", "mqtt-status", "mqtt-feed", "mqtt-ca"}
    refs: list[str] = []
    stop = asyncio.Event()

    async def ask_on() -> None:
        while not stop.is_set():
            refs.append(await force.radios[A].ask(kind="vehicle", vrm=MARK, reason="1"))
            await asyncio.sleep(0.25)

    asking = asyncio.create_task(ask_on())
    old = [each.serial for each in pki.show() if each.name in GATEWAY]
    for name in GATEWAY:
        pki.renew(name, days=20)
    take_back(pki, *old)
    broker.reload()
    os.kill(daemon.pid, signal.SIGHUP)
    names = ("mqtt", "mqtt-feed")
    await until(
        lambda: all(_states(daemon, name)[-2:] == [("link.down", "opened anew"), ("link.up", "")]
                    for name in names), 20
    )  # fmt: skip
    os.kill(daemon.pid, signal.SIGHUP)
    await until(lambda: _events(daemon).count("config.loaded") == 2)
    assert all(len(_states(daemon, name)) == 3 for name in names), "nothing was renewed since"
    await asyncio.sleep(1)
    stop.set()
    await asking
    radio = force.radios[A]
    for ref in refs:
        await radio.until(lambda ref=ref: radio.result(ref), 20)
    after = await _expiry(force)
    assert after["mqtt-ca"] == before["mqtt-ca"]
    assert all(after[name] < before[name] for name in ("mqtt", "mqtt-status", "mqtt-feed"))
    asked = [
        {"check": each.check, "attempt": each.attempt, "key_text": each.key_text}
        for each in force.pnc.queries
    ]
    assert join(force.radios.values(), asked, audit(daemon.state)) == []


@pytest.mark.slow
async def test_an_expired_certificate_is_said_and_a_reload_mends_it_at_once(
    broker: Hardened, pki: Authority, tmp_path: Path
) -> None:
    """M15, M17: down with a reason and a warning, not a tight loop; up within seconds of SIGHUP."""
    past = Authority(pki.folder, now=lambda: datetime.now(UTC) - timedelta(days=31))
    for name in GATEWAY:
        past.renew(name)
    pki.renew(A)  # by today's clock, so that the list is of today
    daemon = Daemon(tmp_path, broker=broker.port, broker_settings=broker.access())
    try:
        await daemon.start(wait=False)
        await until(lambda: "link.down" in _events(daemon), 20)
        expired = {"mqtt", "mqtt-status", "mqtt-feed"}
        await until(lambda: _warned(daemon) == dict.fromkeys(expired, "expired"))
        assert _states(daemon, "mqtt")[0][1], "with a reason"
        for name in GATEWAY:
            pki.renew(name)
        os.kill(daemon.pid, signal.SIGHUP)
        await daemon.ready()
        await until(lambda: _warned(daemon) == dict.fromkeys(expired, "good"))
    finally:
        await daemon.close()


def _events(daemon: Daemon) -> list[str]:
    return [line["event"] for line in daemon.journal()]


def _states(daemon: Daemon, link: str) -> list[tuple[str, str]]:
    return [
        (line["event"], line["reason"])
        for line in daemon.journal()
        if line["event"] in {"link.up", "link.down"} and line["link"] == link
    ]


def _warned(daemon: Daemon) -> dict[str, str]:
    """Certificate -> what was said of it last."""
    return {
        line["cert"]: line["state"] for line in daemon.journal() if line["event"] == "cert.expiry"
    }


async def _expiry(force: Force) -> dict[str, float]:
    _, body = await force.daemon.get("/metrics")
    found = re.findall(
        r'^gateway_cert_expiry_timestamp_seconds{cert="([\w-]+)"} (\S+)$', body.decode(), re.M
    )
    return {name: float(value) for name, value in found}
