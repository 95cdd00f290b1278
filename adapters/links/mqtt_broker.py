"""The link to terminals behind one MQTT broker.

Rules of this module (docs/interfaces.md; architecture, decisions 3, 4, 6)
1. Who speaks is the second level of the topic, nothing else: not the payload, not a Response Topic.
2. A message is acknowledged when it is settled (its record is durable, or it is refused for good),
   in the order of arrival.
3. Status and acknowledgement topics have a client and a session of their own: a broker stops at
   its in-flight limit, and an emergency must not stand behind unacknowledged checks.
4. What was published as retained is refused, unless the broker's settings say that it marks what
   it queued as retained. Over MQTT 5 nothing that lies retained is sent to us, so there it is what
   somebody says now: a status is taken all the same, because it may be an emergency.
5. A loop-back word on each session shows that the broker lives: TCP alone notices a stopped one
   after twice the keep-alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from adapters.links.intake import Intake, nameless, nobody, word_of
from adapters.mqtt_client import Access, Connection, Received, connect, moment
from gateway import __version__
from gateway.errors import LinkDown, SendFailed
from gateway.messages import BadFrame, Bearer, BookOff, BookOn, Downlink, Issi, Privacy
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
from gateway.settings import BrokerSection

MAIN = ("check", "text", "fix", "nmea")
STATUS = ("status", "ack")
IDENTITY = re.compile(r"[0-9]{1,8}")
LOOP_EVERY_S = 2.0
LOOP_UNHEARD = 2
"""So many words unheard, and the broker is down: after 4 to 6 s, where 10 are allowed (M02)."""
GOODBYE_S = 1.0
STATUS_WINDOW = 256
"""Receive Maximum of the status session (MQTT 5; reference settings). mosquitto's own is 20."""
UNSETTLED_MOST = {True: 192, False: 16}
"""With MQTT 5 or not: so many messages of the status session may wait for their record. With the
ledger stalled, one more would fill the broker's window, and the next emergency would not reach us.
The oldest is then acknowledged before it is on record: an emergency has been relayed by then
(relayed first, recorded second), an answer whose acknowledgement is lost is shown once more."""


class Session(NamedTuple):
    """A client's connection and the word it sends itself."""

    line: Connection
    loop_back: LoopBack


class MqttLink:
    """gateway.ports.Link. known: is an ISSI in the fleet. codecs: `create` of the registry."""

    kind = "mqtt"
    bearer = Bearer.MQTT
    send_s = SEND_S

    def __init__(
        self,
        section: BrokerSection,
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
        del named
        self.name = section.name
        self._section = section
        self._instance = instance
        self._config_path = config_path
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._suspect = suspect
        self._tap = tap
        self._topic = re.compile(re.escape(section.prefix) + r"/([^/]*)/(up/[a-z]{1,12})")
        self._writer = codecs("terminal_json", side="gateway")
        self._main: Connection | None = None
        self.heard_at_s: float | None = None

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Both sessions open, then serve until either breaks. Raises LinkDown."""
        intake = self._intake(handle)
        self.heard_at_s = None
        # Status first: an emergency comes in while the rest is still being opened.
        async with self._session(self._access("status"), STATUS, intake) as status:
            await self._subscribe(status, STATUS)
            async with self._session(self._access(""), MAIN, intake, self._will()) as main:
                try:
                    await self._subscribe(main, MAIN)
                    await self._say("online")
                    up()
                    await self._until_broken(status, main)
                finally:
                    self._main = None
                    await self._goodbye(main.line)

    def _access(self, session: str) -> Access:
        """The main session's, or that of `<client_id>-status`, which may have users of its own."""
        section = self._section
        if session == "status":
            return Access(
                client_id=f"{section.client_id}-status",
                username=section.status_username or section.username,
                password_file=section.status_password_file or section.password_file,
                cert_file=section.status_cert_file or section.cert_file,
                key_file=section.status_key_file or section.key_file,
            )
        return Access(
            client_id=section.client_id,
            username=section.username,
            password_file=section.password_file,
            cert_file=section.cert_file,
            key_file=section.key_file,
        )

    @contextlib.asynccontextmanager
    async def _session(
        self,
        access: Access,
        channels: tuple[str, ...],
        intake: Intake,
        will: tuple[str, bytes] | None = None,
    ) -> AsyncIterator[Session]:
        """One client: opened, closed."""
        loop_back = LoopBack(f"gateway/{self._instance}/loop/{channels[0]}")
        urgent = channels is STATUS

        def sink(line: Connection, received: Received) -> None:
            settle = line.acks.expect(received.mid, received.qos)
            loop_back.heard()
            if received.topic == loop_back.topic:
                settle()
            else:
                self.receive(received, intake, settle)

        five = self._section.version == "5"
        try:
            async with connect(
                self._section,
                access,
                config_path=self._config_path,
                sink=sink,
                will=will,
                receive_most=STATUS_WINDOW if urgent else None,
                unsettled_most=UNSETTLED_MOST[five] if urgent else None,
                shed=self._shed,
            ) as line:
                if not urgent:
                    # Before what the broker kept for us is handed over (adapters.mqtt_pump): its
                    # receipts must not wait.
                    self._main = line
                yield Session(line, loop_back)
        finally:
            if not urgent:
                self._main = None

    async def _subscribe(self, session: Session, channels: tuple[str, ...]) -> None:
        """Anew on every connection: a broker that was killed has lost its sessions (M01)."""
        prefix = self._section.prefix
        await session.line.take(
            session.loop_back.topic, *(f"{prefix}/+/up/{each}" for each in channels)
        )

    def _shed(self) -> None:
        self._meter.count("queue_dropped_total", queue="status", reason="shed")

    async def _until_broken(self, *sessions: Session) -> None:
        # What the connection itself says of its end comes before what its loop-back makes of it.
        duties = [
            *(asyncio.ensure_future(each.line.broken()) for each in sessions),
            *(
                asyncio.ensure_future(each.loop_back.watch(each.line, self._clock))
                for each in sessions
            ),
        ]
        try:
            done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            reason = next(duty for duty in duties if duty in done).result()
        finally:
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
        raise LinkDown(reason)

    async def _say(self, word: str) -> None:
        """Presence, retained. Refused is down: whoever watches it would believe what stands."""
        line = self._main
        assert line is not None
        try:
            await line.put(self._state_topic, self._state(word), retain=True)
        except SendFailed as error:
            raise LinkDown("presence not taken by the broker") from error

    async def _goodbye(self, line: Connection) -> None:
        """However it ended, while there is a connection: we close it in order, so the broker will
        not send the last will for us, and nobody may go on reading `online`."""
        with contextlib.suppress(SendFailed):
            await line.put(
                self._state_topic, self._state("offline"), retain=True, deadline_s=GOODBYE_S
            )

    @property
    def _state_topic(self) -> str:
        return f"gateway/{self._instance}/state"

    def _state(self, word: str) -> bytes:
        body = {"state": word, "t": moment(self._clock.wall_ms()), "version": __version__}
        return msgspec.json.encode(body)

    def _will(self) -> tuple[str, bytes]:
        """What the broker says for us when we are gone. `t`: when this connection began."""
        return self._state_topic, self._state("offline")

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
        """gateway.ports.Plays."""
        intake = self._intake(handle)

        def hear(channel: str, data: bytes) -> None:
            self.receive(heard_again(channel, data), intake, nobody_waits)

        return hear

    def receive(self, received: Received, intake: Intake, settle: Callable[[], None]) -> None:
        """One message from the broker, judged in the client's own callback. Never raises."""
        self._tap(said_on(received), received.payload)
        intake.heard(len(received.payload))
        found = self._topic.fullmatch(received.topic)
        issi = found.group(1) if found else ""
        channel = found.group(2) if found else ""
        reason = self._refusal(received, issi, channel)
        if found is None or reason:
            intake.reject(reason or "decode", issi)
            settle()
            return
        if received.retain and not self._section.queued_marked_retained:
            intake.suspect("retained", issi)
        received_at_ms = self._clock.wall_ms()
        codec = self._codecs(
            "terminal_json",
            side="gateway",
            identity=issi,
            max_payload=self._section.max_payload,
        )
        try:
            decoded = codec.feed(received.payload, received_at_ms=received_at_ms, channel=channel)
            if received.retain and not self._section.queued_marked_retained:
                # Let in for an emergency: nobody books by what a broker keeps for ever.
                others = [each for each in decoded if isinstance(each, BookOn | BookOff | Privacy)]
                decoded = [BadFrame("retained")] if others else decoded
            if intake.readable(decoded):
                self.heard_at_s = self._clock.monotonic_s()
            intake.take(decoded, issi, received_at_ms, settle, redelivered=received.dup)
        # Neither a codec nor a desk may raise; should one, this message is given up: raised further
        # it would end the connection, and the broker would send the same for ever (M13).
        except Exception as error:  # noqa: BLE001
            self._journal.warn("frame.rejected", link=self.name, error=type(error).__name__)
            intake.reject("decode")
            settle()

    def _refusal(self, received: Received, issi: str, channel: str) -> str:
        """Why this message is not even looked at; empty when it is."""
        if not IDENTITY.fullmatch(issi):
            return "identity"
        if not self._known(issi):
            return "unknown_terminal"
        if received.retain and not self._section.queued_marked_retained:
            live = self._section.version == "5"
            if not (live and channel == "up/status"):
                return "retained"
        if len(received.payload) > self._section.max_payload:
            return "length"
        return ""

    # ----------------------------------------------------------------- out

    def reaches(self, terminal: Issi) -> bool:
        return self._main is not None and self._known(terminal)

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        """The broker has it within deadline_s, or SendFailed. Answers go to `down/` of the
        terminal, wherever the question wished them.

        A broker that says that nobody subscribes (MQTT 5, 0x10) has thrown it away: SendFailed,
        so that it goes again as soon as the terminal is heard. Over 3.1.1 nobody is told of that,
        nor is there a word for expires_in_s: what a broker keeps for an absent terminal comes
        however late, and shows its as-of time.
        """
        if not IDENTITY.fullmatch(terminal):
            raise SendFailed("not an identity")
        until_s = self._clock.monotonic_s() + deadline_s
        for frame in self._writer.encode(message):
            line = self._main
            left_s = until_s - self._clock.monotonic_s()
            if line is None:
                raise SendFailed("link down")
            if left_s <= 0:
                raise SendFailed("too late")
            heard = await line.put(
                f"{self._section.prefix}/{terminal}/{frame.channel}",
                frame.data,
                qos=frame.qos,
                expires_in_s=expires_in_s,
                deadline_s=left_s,
            )
            if not heard:
                raise SendFailed("nobody subscribes")
            self._meter.count("link_send_bytes_total", len(frame.data), link=self.name)
            self._meter.count("frames_sent_total", link=self.name, type=word_of(message))


def nobody_waits() -> None:
    """What is played again is acknowledged to nobody."""


def said_on(received: Received) -> str:
    """For a tap: the topic, behind a colon, and before it `r` if it lay retained, `d` if the broker
    had sent it before."""
    return f"{'r' * received.retain}{'d' * received.dup}:{received.topic}"


def heard_again(channel: str, data: bytes) -> Received:
    """What a tap was told of."""
    flags, _, topic = channel.partition(":")
    return Received(topic, data, qos=0, retain="r" in flags, mid=0, dup="d" in flags)


class LoopBack:
    """A word to ourselves by way of the broker, to know that it lives.

    Whatever else comes from the broker says so too: behind a thousand messages the word is late,
    and the broker none the less alive. Words are counted, not seconds: a process that was itself
    stopped for a while must not blame the broker.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._unheard = 0

    def heard(self) -> None:
        self._unheard = 0

    async def watch(self, line: Connection, clock: Clock) -> str:
        """Until LOOP_UNHEARD words brought nothing back; says why."""
        self._unheard = 0
        while self._unheard < LOOP_UNHEARD:
            self._unheard += 1
            try:
                await line.put(self.topic, b"", qos=0)
            except SendFailed as error:
                return str(error)
            await clock.sleep(LOOP_EVERY_S)
        return "broker silent"
