"""The link to terminals behind one MQTT broker.

Rules of this module (docs/interfaces.md; architecture, decisions 3, 4, 6)
1. Who speaks is the second level of the topic, nothing else: not the payload, not a Response Topic.
2. A message is acknowledged when it is settled (its record is durable, or it is refused for good),
   in the order of arrival.
3. Status and acknowledgement topics have a client and a session of their own: a broker stops at
   its in-flight limit, and an emergency must not stand behind unacknowledged checks.
4. What a broker replays as retained is refused, unless its settings say that it marks what it
   queued as retained.
5. A loop-back word on each session shows that the broker lives: TCP alone notices a stopped one
   after twice the keep-alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from adapters.links.intake import Intake, word_of
from adapters.mqtt_client import Access, Connection, Received, connect
from gateway import __version__
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Bearer, Downlink, Issi
from gateway.ports import Clock, Codec, Handle, Journal, Meter
from gateway.settings import BrokerSection

MAIN = ("check", "text", "fix", "nmea")
STATUS = ("status", "ack")
IDENTITY = re.compile(r"[0-9]{1,8}")
LOOP_EVERY_S = 2.0
LOOP_SILENT_S = 6.0
"""Three words unheard: with what TCP needs to notice, well under 10 s (M02)."""
GOODBYE_S = 1.0


class MqttLink:
    """gateway.ports.Link. known: is an ISSI in the fleet. codecs: `create` of the registry."""

    kind = "mqtt"
    bearer = Bearer.MQTT

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
    ) -> None:
        self.name = section.name
        self._section = section
        self._instance = instance
        self._config_path = config_path
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._topic = re.compile(re.escape(section.prefix) + r"/([^/]*)/(up/[a-z]{1,12})")
        self._writer = codecs("terminal_json", side="gateway")
        self._main: Connection | None = None
        self.heard_at_s: float | None = None
        """When a terminal was heard last; None before the first word since the link came up."""

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Both sessions open, then serve until either breaks. Raises LinkDown."""
        intake = Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            journal=self._journal,
            handle=handle,
        )
        section = self._section
        main = Access(
            client_id=section.client_id,
            username=section.username,
            password_file=section.password_file,
            cert_file=section.cert_file,
            key_file=section.key_file,
        )
        status = Access(
            client_id=f"{section.client_id}-status",
            username=section.status_username or section.username,
            password_file=section.status_password_file or section.password_file,
            cert_file=section.status_cert_file or section.cert_file,
            key_file=section.status_key_file or section.key_file,
        )
        async with (
            self._session(status, STATUS, intake, None) as (status_line, status_loop),
            self._session(main, MAIN, intake, self._will()) as (main_line, main_loop),
        ):
            try:
                await main_line.put(self._state_topic, self._state("online"), retain=True)
            except SendFailed as error:
                raise LinkDown("broker takes nothing from us") from error
            self._main = main_line
            self.heard_at_s = None
            up()
            try:
                await self._until_broken((status_line, status_loop), (main_line, main_loop))
            except asyncio.CancelledError:
                await self._goodbye(main_line)
                raise
            finally:
                self._main = None

    @contextlib.asynccontextmanager
    async def _session(
        self,
        access: Access,
        channels: tuple[str, ...],
        intake: Intake,
        will: tuple[str, bytes] | None,
    ) -> AsyncIterator[tuple[Connection, LoopBack]]:
        """One client: opened, subscribed, closed."""
        loop_back = LoopBack(f"gateway/{self._instance}/loop/{channels[0]}")

        def sink(line: Connection, received: Received) -> None:
            settle = line.acks.expect(received.mid, received.qos)
            if received.topic == loop_back.topic:
                loop_back.heard()
                settle()
            else:
                self.receive(received, intake, settle)

        async with connect(
            self._section, access, config_path=self._config_path, sink=sink, will=will
        ) as line:
            await line.take(
                loop_back.topic, *(f"{self._section.prefix}/+/up/{each}" for each in channels)
            )
            yield line, loop_back

    async def _until_broken(self, *sessions: tuple[Connection, LoopBack]) -> None:
        # What the connection itself says of its end comes before what its loop-back makes of it.
        duties = [
            *(asyncio.ensure_future(line.broken()) for line, _ in sessions),
            *(asyncio.ensure_future(loop.watch(line, self._clock)) for line, loop in sessions),
        ]
        try:
            done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            reason = next(duty for duty in duties if duty in done).result()
        finally:
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
        if reason == "session taken over":
            # Somebody else uses our client id: not for the broker to allow (M06).
            self._journal.warn("security", reason="session taken over", link=self.name)
        raise LinkDown(reason)

    async def _goodbye(self, line: Connection) -> None:
        """An orderly end: say offline ourselves, since the last will is then not sent."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                await line.put(self._state_topic, self._state("offline"), retain=True)
        except (SendFailed, TimeoutError):
            return

    @property
    def _state_topic(self) -> str:
        return f"gateway/{self._instance}/state"

    def _state(self, word: str) -> bytes:
        body = {"state": word, "t": self._clock.wall_ms() / 1000, "version": __version__}
        return msgspec.json.encode(body)

    def _will(self) -> tuple[str, bytes]:
        """What the broker says for us when we are gone. `t`: when this connection began."""
        return self._state_topic, self._state("offline")

    # ----------------------------------------------------------------- in

    def receive(self, received: Received, intake: Intake, settle: Callable[[], None]) -> None:
        """One message from the broker, judged in the client's own callback. Never raises."""
        intake.heard(len(received.payload))
        found = self._topic.fullmatch(received.topic)
        issi = found.group(1) if found else ""
        reason = self._refusal(received, issi)
        if found is None or reason:
            intake.reject(reason or "decode")
            settle()
            return
        self.heard_at_s = self._clock.monotonic_s()
        received_at_ms = self._clock.wall_ms()
        codec = self._codecs(
            "terminal_json",
            side="gateway",
            identity=issi,
            max_payload=self._section.max_payload,
        )
        try:
            decoded = codec.feed(
                received.payload, received_at_ms=received_at_ms, channel=found.group(2)
            )
        # A codec may not raise; should one, its message is given up here: raised further it would
        # break the connection, and the broker would send the same message again for ever (M13).
        except Exception as error:  # noqa: BLE001
            self._journal.warn("frame.rejected", link=self.name, error=type(error).__name__)
            intake.reject("decode")
            settle()
            return
        intake.take(decoded, issi, received_at_ms, settle)

    def _refusal(self, received: Received, issi: str) -> str:
        """Why this message is not even looked at; empty when it is."""
        if not IDENTITY.fullmatch(issi):
            return "identity"
        if not self._known(issi):
            return "unknown_terminal"
        if received.retain and not self._section.queued_marked_retained:
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
        terminal, wherever the question wished them."""
        if not IDENTITY.fullmatch(terminal):
            raise SendFailed("not an identity")
        until_s = self._clock.monotonic_s() + deadline_s
        for frame in self._writer.encode(message):
            line = self._main
            if line is None:
                raise SendFailed("link down")
            await line.put(
                f"{self._section.prefix}/{terminal}/{frame.channel}",
                frame.data,
                qos=frame.qos,
                expires_in_s=expires_in_s,
                deadline_s=max(0.0, until_s - self._clock.monotonic_s()),
            )
            self._meter.count("link_send_bytes_total", len(frame.data), link=self.name)
            self._meter.count("frames_sent_total", link=self.name, type=word_of(message))


class LoopBack:
    """A word to ourselves by way of the broker, to know that it lives."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._echoes = 0

    def heard(self) -> None:
        self._echoes += 1

    async def watch(self, line: Connection, clock: Clock) -> str:
        """Until no word has come back for LOOP_SILENT_S; says why."""
        seen, heard_at_s = self._echoes, clock.monotonic_s()
        while True:
            try:
                await line.put(self.topic, b"", qos=0)
            except SendFailed as error:
                return str(error)
            await clock.sleep(LOOP_EVERY_S)
            if self._echoes != seen:
                seen, heard_at_s = self._echoes, clock.monotonic_s()
            elif clock.monotonic_s() - heard_at_s >= LOOP_SILENT_S - 0.1:
                return "broker silent"
