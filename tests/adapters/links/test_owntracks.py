"""Phones behind a broker: who speaks, what lay there, what they encrypt, what is refused."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import pytest
from nacl.secret import SecretBox

from adapters import codecs
from adapters.links.owntracks import OwnTracksLink, read_keys
from gateway.app import SystemClock
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Envelope, Heartbeat, LocationFix, Notice, Suspicion
from gateway.settings import OwnTracksSection
from tests.fakes import FakeJournal, FakeMeter
from tests.services.mosquitto import Mosquitto

ISSI, OTHER = "5001007", "5001012"
PHONES = {"nora/phone": ISSI, "Ned/Tablet": OTHER}
WITHIN_S = 10.0
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def body(**more: object) -> bytes:
    said = {"_type": "location", "lat": 52.5725, "lon": -0.2431, "tst": int(time.time()) - 3}
    return json.dumps(said | more).encode()


def sealed(plain: bytes, passphrase: str) -> bytes:
    box = SecretBox(passphrase.encode().ljust(32, b"\0")).encrypt(plain)
    return json.dumps({"_type": "encrypted", "data": base64.b64encode(box).decode()}).encode()


class Rig:
    """The link on a real broker, and a phone beside it."""

    def __init__(self, broker: Mosquitto, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.envelopes: list[Envelope] = []
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.suspected: list[tuple[Suspicion, str, str]] = []
        self.up = asyncio.Event()
        self.clock = SystemClock()
        self._task: asyncio.Task[None] | None = None

    def handle(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        envelope.settle()

    async def open(self, **options: object) -> None:
        self.link = OwnTracksLink(
            OwnTracksSection(name="phones", port=self.broker.port, **options),  # type: ignore[arg-type]
            instance="gwt",
            config_path=self.folder / "gateway.toml",
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            known=lambda issi: issi in (ISSI, OTHER),
            codecs=codecs.create,
            suspect=lambda *what: self.suspected.append(what),
            named=lambda protocol, name: PHONES.get(name, "") if protocol == "owntracks" else "",
        )
        self.up.clear()
        self._task = asyncio.ensure_future(self.link.run(self.handle, self.up.set))
        async with asyncio.timeout(WITHIN_S):
            await self.up.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def say(self, data: bytes, phone: str = "nora/phone", *, retain: bool = True) -> None:
        """As a phone does: MQTT 3.1.1, and to lie retained."""
        version = aiomqtt.ProtocolVersion.V311
        async with aiomqtt.Client("127.0.0.1", self.broker.port, protocol=version) as client:
            await client.publish(f"owntracks/{phone}", data, qos=1, retain=retain)

    async def until(self, ready: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not ready():  # noqa: ASYNC110 - it comes from a broker, without an event
                await asyncio.sleep(0.01)

    def received(self) -> float:
        return sum(
            self.meter.total(name)
            for name in ("frames_received_total", "frames_rejected_total", "fixes_rejected_total")
        )

    def rejected(self, reason: str) -> float:
        return self.meter.total("frames_rejected_total", reason=reason)


@pytest.fixture
async def rig(mosquitto: Mosquitto, tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(mosquitto, tmp_path)
    yield rig
    await rig.close()


@VERSIONS
async def test_what_lay_there_is_history_and_what_is_said_now_is_not(
    rig: Rig, version: str
) -> None:
    """Also said now to lie there from now on, as every phone does; and the link itself was not
    heard by what lay there. A ping that lay there is nobody's sign of life."""
    await rig.say(body())
    await rig.say(body(t="p"), "Ned/Tablet")
    await rig.open(version=version)
    await rig.until(lambda: rig.received() == 1)
    (lay,) = rig.envelopes
    assert isinstance(lay.message, LocationFix)
    assert lay.stored
    assert rig.link.heard_at_s is None
    await rig.say(body(tst=int(time.time())))
    await rig.until(lambda: len(rig.envelopes) == 2)
    assert isinstance(rig.envelopes[1].message, LocationFix)
    assert not rig.envelopes[1].stored
    assert rig.link.heard_at_s is not None
    await rig.say(body(t="p"), "Ned/Tablet")
    await rig.until(lambda: len(rig.envelopes) == 3)
    assert (rig.envelopes[2].message, rig.envelopes[2].terminal) == (Heartbeat(), OTHER)


async def test_who_speaks_is_the_topic(rig: Rig) -> None:
    """Not the tid, not the topic of the payload, which is refused when it names another; and case
    tells phones apart."""
    await rig.open()
    await rig.say(body(tid="nt"), retain=False)
    await rig.say(body(topic="owntracks/Ned/Tablet"), retain=False)
    await rig.say(body(topic="owntracks/Ned/Tablet"), "Ned/Tablet", retain=False)
    await rig.until(lambda: rig.received() == 3)
    assert [each.terminal for each in rig.envelopes] == [ISSI, OTHER]
    assert rig.rejected("identity") == 1
    assert rig.suspected == [(Suspicion.IDENTITY, "phones", ISSI)]


async def test_a_phone_that_is_nobodys_is_counted_and_told_of(rig: Rig) -> None:
    """Whatever it says, and one whose name differs in case as well."""
    await rig.open()
    for stranger in ("eve/phone", "Nora/phone", "nora/tablet"):
        await rig.say(body(), stranger, retain=False)
    await rig.until(lambda: rig.rejected("unknown_terminal") == 3)
    assert rig.envelopes == []
    assert rig.suspected == [(Suspicion.UNKNOWN_TERMINAL, "phones", "")] * 3
    assert rig.link.heard_at_s is None


async def test_a_last_will_marks_nothing_wrong(rig: Rig) -> None:
    """The broker says it for a phone that was lost: no word of anybody, and the link stays up."""
    await rig.open()
    version = aiomqtt.ProtocolVersion.V311
    will = aiomqtt.Will("owntracks/nora/phone", b'{"_type":"lwt","tst":1795340000}', 1, retain=True)
    phone = aiomqtt.Client("127.0.0.1", rig.broker.port, protocol=version, will=will)
    await phone.__aenter__()
    sock = phone._client.socket()
    assert sock is not None
    sock.shutdown(2)  # gone without a word
    await rig.until(lambda: rig.meter.total("frames_received_total", type="ignored") == 1)
    await rig.until(phone._disconnected.done)
    assert phone._disconnected.exception() is not None
    with contextlib.suppress(aiomqtt.MqttError):
        await phone.__aexit__(None, None, None)
    assert rig.envelopes == []
    await rig.say(body(), retain=False)
    await rig.until(lambda: rig.envelopes)


async def test_what_is_too_long_is_not_looked_at(rig: Rig) -> None:
    await rig.open(max_payload=256)
    await rig.say(body(x="a" * 300), retain=False)
    await rig.until(lambda: rig.rejected("length") == 1)
    assert rig.suspected == [(Suspicion.OVERSIZE, "phones", ISSI)]


async def test_a_phone_with_a_key_is_believed_encrypted_alone(rig: Rig) -> None:
    """The key is found by user and device in lower case; others go on in plain words."""
    (rig.folder / "keys").write_text("# ours\n\nned-tablet s3cr3t word\n", "utf-8")
    await rig.open(keys_file="keys")
    await rig.say(sealed(body(), "s3cr3t word"), "Ned/Tablet")
    await rig.say(body(), "Ned/Tablet")
    await rig.say(sealed(body(), "another"), "Ned/Tablet")
    await rig.say(body())
    await rig.until(lambda: rig.received() == 4)
    assert [each.terminal for each in rig.envelopes] == [OTHER, ISSI]
    assert rig.rejected("auth") == 2
    assert rig.suspected == [(Suspicion.IDENTITY, "phones", OTHER)] * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"nora-phone secret\nned-tablet\n", "keys file: line 2 is no key"),
        (b"nora-phone " + b"x" * 33, "keys file: line 1 is no key"),
        (b"Nora-phone secret", "keys file: line 1 is no key"),
        (b"nora secret", "keys file: line 1 is no key"),
        (b"a-b one\na-b two", "keys file: line 2 is no key"),
        (b"a-b \xff", "keys file cannot be read"),
        (b"#" * 1_048_577, "keys file is too long"),
        (None, "keys file cannot be read"),
    ],
)
def test_a_faulty_file_of_keys_means_no_link(
    tmp_path: Path, text: bytes | None, reason: str
) -> None:
    """Told by its line, never by what stands there; without it phones would be heard in plain."""
    if text is not None:
        (tmp_path / "keys").write_bytes(text)
    with pytest.raises(LinkDown) as caught:
        read_keys(tmp_path / "gateway.toml", "keys")
    assert (caught.value.reason, caught.value.refused) == (reason, True)


async def test_what_was_said_while_we_were_away_does_not_come_as_if_it_were_now(rig: Rig) -> None:
    """The session is clean: only the newest lies there, and as history."""
    await rig.open()
    await rig.close()
    for n in range(3):
        await rig.say(body(tst=int(time.time()) - 30 + n), retain=n == 2)
    await rig.open()
    await rig.until(lambda: rig.envelopes)
    await rig.say(body(t="p"), retain=False)
    await rig.until(lambda: isinstance(rig.envelopes[-1].message, Heartbeat))
    assert [each.stored for each in rig.envelopes] == [True, False]


async def test_nothing_is_sent_to_a_phone(rig: Rig) -> None:
    """It would count as sent, and nobody would read it."""
    await rig.open()
    assert not rig.link.reaches(ISSI)
    notice = Notice(kind="echo", text="X")
    with pytest.raises(SendFailed):
        await rig.link.send(ISSI, notice, expires_in_s=60, deadline_s=1)


async def test_a_codec_that_raises_costs_its_message_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies retained would else end each connection for ever (M13)."""

    def planted(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    await rig.say(body())
    monkeypatch.setattr(codecs.REGISTRY["owntracks"], "feed", planted)
    await rig.open()
    await rig.until(lambda: rig.rejected("decode") == 1)
    monkeypatch.undo()
    await rig.say(body(), retain=False)
    await rig.until(lambda: rig.envelopes)
    assert [fields["error"] for _, fields in rig.journal.lines] == ["RuntimeError"]


async def test_it_hears_its_own_word(rig: Rig) -> None:
    """By way of the broker: else it would hold a broker that lives for a stopped one."""
    words: asyncio.Queue[None] = asyncio.Queue()

    class Paced(SystemClock):
        async def sleep(self, seconds: float) -> None:
            del seconds
            await words.get()
            await asyncio.sleep(0.1)

    rig.clock = Paced()
    seen = 0
    async with aiomqtt.Client("127.0.0.1", rig.broker.port) as client:
        await client.subscribe("gateway/gwt/loop/owntracks")
        await rig.open()
        async with asyncio.timeout(WITHIN_S):
            async for _ in client.messages:
                seen += 1
                words.put_nowait(None)
                if seen == 5:
                    break
    assert rig.envelopes == []
