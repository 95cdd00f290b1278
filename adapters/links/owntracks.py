"""The link to phones that tell where they are by OwnTracks, behind one MQTT broker.

Rules of this module (docs/interfaces.md; radio-protocols reference, 5.1)
1. Who speaks is the second and third level of the topic, `user/device`, as the fleet file names it:
   never the payload, never its `tid`. A phone that is in no fleet is counted, and told of.
2. What lay at the broker until we subscribed is history: it is judged by its own time, and it says
   nothing of whether anybody is there now. What a phone says now is not marked so, though it is to
   lie there from now on (MQTT 5: retain as published is off).
3. The session is clean: what was published while we were away is old; the newest of it lies there.
4. A last will marks nothing wrong: phones lose their broker all day long.
5. A phone has no screen of ours: nothing is ever sent to one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from adapters.dialling import in_own_thread
from adapters.links.intake import Intake, nameless, nobody
from adapters.links.mqtt_broker import LoopBack, heard_again, nobody_waits, said_on
from adapters.mqtt_client import Access, Connection, Received, connect
from gateway.errors import LinkDown, SendFailed
from gateway.messages import BadFrame, Bearer, Downlink, Heartbeat, Issi
from gateway.ports import (
    SEND_S,
    Clock,
    Codec,
    Handle,
    Journal,
    Meter,
    Named,
    Suspect,
    Tap,
    untapped,
)
from gateway.settings import OwnTracksSection, resolve

PROTOCOL = "owntracks"
KEYS_MOST = 1_048_576
"""Bytes of a file of keys: what is longer is some other file."""
KEY_BYTES = 32
"""Of a passphrase, which OwnTracks fills with zeros to be a key."""


class OwnTracksLink:
    """gateway.ports.Link. named: whose phone it is. codecs: `create` of the registry."""

    kind = "mqtt"
    bearer = Bearer.MQTT
    send_s = SEND_S

    def __init__(
        self,
        section: OwnTracksSection,
        *,
        instance: str,
        config_path: Path,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        known: Callable[[Issi], bool],
        codecs: Callable[..., Codec],
        suspect: Suspect = nobody,
        tap: Tap = untapped,
        named: Named = nameless,
    ) -> None:
        self.name = section.name
        self._section = section
        self._config_path = config_path
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._suspect = suspect
        self._tap = tap
        self._named = named
        self._topic = re.compile(re.escape(section.prefix) + r"/([^/]+/[^/]+)")
        self._loop_topic = f"gateway/{instance}/loop/{PROTOCOL}"
        self._keys: dict[str, str] = {}
        self.heard_at_s: float | None = None

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Subscribe, then serve until the connection breaks. Raises LinkDown."""
        section = self._section
        intake = self._intake(handle)
        self.heard_at_s = None
        self._keys = await in_own_thread(lambda: read_keys(self._config_path, section.keys_file))
        loop_back = LoopBack(self._loop_topic)

        def sink(line: Connection, received: Received) -> None:
            settle = line.acks.expect(received.mid, received.qos)
            loop_back.heard()
            if received.topic == loop_back.topic:
                settle()
            else:
                self.receive(received, intake, settle)

        access = Access(
            client_id=section.client_id,
            username=section.username,
            password_file=section.password_file,
            cert_file=section.cert_file,
            key_file=section.key_file,
        )
        async with connect(
            section, access, config_path=self._config_path, sink=sink, persistent=False
        ) as line:
            await line.take(loop_back.topic)
            await line.take(f"{section.prefix}/+/+", stored=True)
            up()
            raise LinkDown(await self._end(line, loop_back))

    async def _end(self, line: Connection, loop_back: LoopBack) -> str:
        """Wait for it. What the connection says of it comes first, then what the loop-back makes
        of it."""
        duties = [
            asyncio.ensure_future(line.broken()),
            asyncio.ensure_future(loop_back.watch(line, self._clock)),
        ]
        try:
            done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            return next(duty for duty in duties if duty in done).result()
        finally:
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)

    # ----------------------------------------------------------------- in

    def _intake(self, handle: Handle) -> Intake:
        return Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            handle=handle,
            suspect=self._suspect,
        )

    def played(self, handle: Handle) -> Tap:
        """gateway.ports.Plays. Blocks, shortly: without its keys nothing sealed can be read."""
        intake = self._intake(handle)
        self._keys = read_keys(self._config_path, self._section.keys_file)

        def hear(channel: str, data: bytes) -> None:
            self.receive(heard_again(channel, data), intake, nobody_waits)

        return hear

    def receive(self, received: Received, intake: Intake, settle: Callable[[], None]) -> None:
        """One message from the broker, judged in the client's own callback. Never raises."""
        self._tap(said_on(received), received.payload)
        intake.heard(len(received.payload))
        found = self._topic.fullmatch(received.topic)
        phone = found.group(1) if found else ""
        issi = self._named(PROTOCOL, phone) if phone else ""
        reason = self._refusal(received, phone, issi)
        if reason:
            intake.reject(reason, issi)
            settle()
            return
        received_at_ms = self._clock.wall_ms()
        codec = self._codecs(
            PROTOCOL,
            side="gateway",
            identity=phone,
            passphrase=self._keys.get(phone.replace("/", "-").lower(), ""),
            max_payload=self._section.max_payload,
        )
        try:
            decoded = codec.feed(received.payload, received_at_ms=received_at_ms)
            if BadFrame("auth") in decoded:
                # Somebody may say where its phone is, and has not its key.
                intake.suspect("identity", issi)
            if received.retain:
                # Whoever was there when it was said need not be there now.
                decoded = [each for each in decoded if not isinstance(each, Heartbeat)]
            elif intake.readable(decoded):
                self.heard_at_s = self._clock.monotonic_s()
            intake.take(decoded, issi, received_at_ms, settle, stored=received.retain)
        # Neither a codec nor a desk may raise; should one, this message is given up: raised further
        # it would end the connection, and what lies retained would come again for ever (M13).
        except Exception as error:  # noqa: BLE001
            self._journal.warn("frame.rejected", link=self.name, error=type(error).__name__)
            intake.reject("decode")
            settle()

    def _refusal(self, received: Received, phone: str, issi: Issi) -> str:
        """Why this message is not even looked at; empty when it is."""
        if not phone:
            return "identity"
        if not issi or not self._known(issi):
            return "unknown_terminal"
        if len(received.payload) > self._section.max_payload:
            return "length"
        return ""

    # ----------------------------------------------------------------- out

    def reaches(self, terminal: Issi) -> bool:
        """Never: an answer sent to a phone would count as sent, and nobody would read it."""
        del terminal
        return False

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        del terminal, message, expires_in_s, deadline_s
        raise SendFailed("phones have no screen of ours")


def read_keys(config_path: Path, name: str) -> dict[str, str]:
    """`user-device` in lower case -> its passphrase; blocks. No file, no keys.

    Raises LinkDown(refused=True), also for one line that is none, by its number: whoever it was
    meant for would be believed in plain words.
    """
    if not name:
        return {}
    try:
        with resolve(config_path, name).open("rb") as file:
            text = file.read(KEYS_MOST + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LinkDown("keys file cannot be read", refused=True) from error
    if len(text) > KEYS_MOST:
        raise LinkDown("keys file is too long", refused=True)
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        phone, _, passphrase = line.partition(" ")
        fits = 0 < len(passphrase.encode("utf-8")) <= KEY_BYTES
        if not fits or phone != phone.lower() or "-" not in phone or phone in keys:
            raise LinkDown(f"keys file: line {number} is no key", refused=True)
        keys[phone] = passphrase
    return keys
