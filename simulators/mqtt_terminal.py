"""A data terminal over MQTT: JSON checks held until the gateway's own receipt, acknowledgements.

A PUBACK is the broker's word, not the gateway's: the terminal keeps a request and repeats it,
same reference and same sending time, until `down/receipt` comes. Its credential is its own, its
session outlives its connection, and its presence stands on `radio/{issi}/presence` (last will).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiomqtt
import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from adapters import codecs
from gateway.messages import CheckRequest, Frame, LocationFix, Uplink
from simulators.clock import Clock
from simulators.patrol import Patrol
from simulators.radio import Radio

KEEPALIVE_S = 5
SESSION_S = 600
CONNECT_WITHIN_S = 5.0
PUBLISH_WITHIN_S = 5.0
BACKOFF_FIRST_S = 0.2
BACKOFF_MOST_S = 5.0
OUT_MOST = 64
INCOMING_MOST = 256


class MqttTerminal(Radio):
    """A terminal behind one broker. version: "5" or "3.1.1" (the only one that amqtt speaks)."""

    bearer = "mqtt"

    def __init__(
        self,
        *,
        issi: str,
        callsign: str,
        host: str,
        port: int,
        clock: Clock,
        password: str = "",
        username: str = "",
        version: str = "5",
        prefix: str = "radio",
        patrol: Patrol | None = None,
        fix_every_s: float = 1.0,
        think_s: float = 2.0,
        seed: int | str = 0,
        retain_presence: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """tls: with whose certificate it connects. retain_presence: not with amqtt, which hands
        retained messages to clients that never asked for them whenever they reconnect."""
        super().__init__(
            issi=issi,
            callsign=callsign,
            clock=clock,
            patrol=patrol,
            resends=True,
            fix_every_s=fix_every_s,
            think_s=think_s,
        )
        if version not in {"5", "3.1.1"}:
            raise ValueError("version: 5 or 3.1.1")
        self.connected = False
        self._host, self._port = host, port
        self._username, self._password = username or (issi if password else ""), password
        self._five = version == "5"
        self._prefix = prefix
        self._retain_presence = retain_presence
        self._tls = tls
        self._random = random.Random(f"{seed}/{issi}")  # noqa: S311  (jitter, no secret)
        self._codec = codecs.create("terminal_json", side="terminal")
        self._out: asyncio.Queue[Frame] = asyncio.Queue(OUT_MOST)
        self._unsent: Frame | None = None
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._gone = asyncio.Event()
        self._epoch = f"{self._random.randrange(1 << 24):06x}"

    @property
    def plugged(self) -> bool:
        return self._wanted.is_set()

    def plug(self) -> None:
        self._gone.clear()
        self._wanted.set()

    def unplug(self) -> None:
        """Out of coverage: the connection ends; the broker keeps the session."""
        self._wanted.clear()
        self._gone.set()

    def question(self, request: CheckRequest) -> CheckRequest:
        """As JSON: a reference of our own and the sending time, kept when it is repeated."""
        return msgspec.structs.replace(
            request,
            ref=f"{self._epoch}-{self.next_reference()}",
            sent_at_ms=self._clock.wall_ms(),
            typed="",
            client_ref="",
        )

    def say(self, message: Uplink) -> bool:
        if isinstance(message, LocationFix) and not self.connected:
            # A fix is worthless later; what the officer says waits for the connection.
            self.lost += 1
            return False
        for frame in self._codec.encode(message):
            if self._out.full():
                self.lost += 1
                return False
            self._out.put_nowait(frame)
        return True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_connected(), name=f"mqtt {self.callsign}")
            group.create_task(self.beat(), name=f"beat {self.callsign}")
            group.create_task(self.walk(), name=f"walk {self.callsign}")

    # ----------------------------------------------------------------- the broker

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            await self._wanted.wait()
            try:
                async with connected(self._client()) as client:
                    attempt = 0
                    await self._serve(client)
            except aiomqtt.MqttError:
                ceiling = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**attempt)
                attempt = min(attempt + 1, 8)
                await self._clock.sleep(self._random.uniform(0.05, ceiling))
            finally:
                self.connected = False
                self.changed.set()

    def _client(self) -> aiomqtt.Client:
        presence = aiomqtt.Will(self._presence, b"offline", 1, self._retain_presence)
        identity = f"terminal-{self.issi}"
        options: dict[str, object] = {"clean_session": False}
        protocol = aiomqtt.ProtocolVersion.V311
        if self._five:
            kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            kept.SessionExpiryInterval = SESSION_S
            options = {"clean_start": False, "properties": kept}
            protocol = aiomqtt.ProtocolVersion.V5
        return Patient(
            self._host,
            self._port,
            identifier=identity,
            username=self._username or None,
            password=self._password or None,
            protocol=protocol,
            tls_context=self._tls,
            will=presence,
            keepalive=KEEPALIVE_S,
            timeout=CONNECT_WITHIN_S,
            max_queued_incoming_messages=INCOMING_MOST,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            **options,  # type: ignore[arg-type]
        )

    @property
    def _presence(self) -> str:
        return f"{self._prefix}/{self.issi}/presence"

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Until the connection breaks (MqttError) or the radio goes out of coverage (returns)."""
        # On every connect: a broker that lost its state forgot what we subscribed to.
        await client.subscribe(f"{self._prefix}/{self.issi}/down/#", qos=1)
        await client.publish(
            self._presence, b"online", qos=1, retain=self._retain_presence, timeout=PUBLISH_WITHIN_S
        )
        self.connected = True
        self.changed.set()
        duties = [
            asyncio.create_task(self._listen(client), name=f"listen {self.callsign}"),
            asyncio.create_task(self._send(client), name=f"send {self.callsign}"),
            asyncio.create_task(self._gone.wait(), name=f"coverage {self.callsign}"),
        ]
        try:
            done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            for duty in done:
                duty.result()
        finally:
            self.connected = False
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)

    async def _listen(self, client: aiomqtt.Client) -> None:
        below = f"{self._prefix}/{self.issi}/"
        async for message in client.messages:
            payload = message.payload
            channel = str(message.topic).removeprefix(below)
            if isinstance(payload, bytes):
                self.heard(
                    self._codec.feed(payload, received_at_ms=self._clock.wall_ms(), channel=channel)
                )

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            # Kept until the broker has it: an emergency must outlive a broken connection.
            frame = self._unsent or await self._out.get()
            self._unsent = frame
            await client.publish(
                f"{self._prefix}/{self.issi}/{frame.channel}",
                frame.data,
                qos=frame.qos,
                timeout=PUBLISH_WITHIN_S,
            )
            self._unsent = None


class Patient(aiomqtt.Client):
    """Its waits are `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes
    with the result: a terminal that should stop would go on."""

    async def _wait_for(self, fut: Awaitable[Any], timeout: float | None) -> Any:
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("timed out") from None


@contextlib.asynccontextmanager
async def connected(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """The client, connected; a connection that has begun is finished before it is given up.

    Cancelled while it connects, aiomqtt leaves its socket with the loop, where each byte raises in
    a callback for ever. How long this takes is bounded by CONNECT_WITHIN_S.
    """
    connecting = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        done = await asyncio.gather(connecting, return_exceptions=True)
        if not isinstance(done[0], BaseException):
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
        raise
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)
