"""A phone that tells where it is by OwnTracks: what the application says, written from its booklet.

It is no terminal of ours: nobody asks with it, and it shows nothing. It behaves as phones do: MQTT
3.1.1, each position published to lie retained, a last will that the broker says when it is lost,
positions that it could not send kept and sent later with their own time, pings with an old
position and the time of sending; in plain words, or encrypted.
Source: OwnTracks booklet, docs/tech/json.md (radio-protocols reference, 5.1).
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
from collections import deque
from typing import Any

import aiomqtt

from gateway.messages import CheckRequest, LocationFix, Uplink
from simulators.clock import Clock
from simulators.mqtt_terminal import BACKOFF_FIRST_S, BACKOFF_MOST_S, Patient, connected
from simulators.patrol import Patrol
from simulators.radio import BadEnquiry, Radio

KEEPALIVE_S = 5
PUBLISH_WITHIN_S = 5.0
CONNECT_WITHIN_S = 5.0
KEEPS = 64
"""Positions that wait for the broker; the oldest goes."""
PING_S = 60.0
"""The application's own is 15 minutes: sooner, for whoever looks on."""
KMH_MPS = 1 / 3.6


class Phone(Radio):
    """One phone. phone: `user/device`; user is also its name at the broker.

    passphrase: empty for one that speaks in plain words. retain: as the application does; not with
    amqtt, which hands what lies retained to clients that never asked for it.
    """

    bearer = "owntracks"
    asks = False

    def __init__(
        self,
        *,
        issi: str,
        callsign: str,
        phone: str,
        host: str,
        port: int,
        clock: Clock,
        password: str = "",
        passphrase: str = "",
        prefix: str = "owntracks",
        retain: bool = True,
        patrol: Patrol | None = None,
        fix_every_s: float = 10.0,
        ping_every_s: float = PING_S,
        seed: int | str = 0,
    ) -> None:
        super().__init__(
            issi=issi,
            callsign=callsign,
            clock=clock,
            patrol=patrol,
            resends=False,
            fix_every_s=fix_every_s,
        )
        self.connected = False
        self.pings_sent = 0
        self.topic = f"{prefix}/{phone}"
        self._user, _, self._device = phone.partition("/")
        self._host, self._port, self._password = host, port, password
        self._passphrase = passphrase
        self._retain = retain
        self._ping_every_s = ping_every_s
        self._random = random.Random(f"{seed}/{phone}")  # noqa: S311  (jitter, no secret)
        self._out: deque[dict[str, object]] = deque(maxlen=KEEPS)
        self._last: dict[str, object] = {}
        self._more = asyncio.Event()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._gone = asyncio.Event()

    # ----------------------------------------------------------------- as a radio

    @property
    def plugged(self) -> bool:
        return self._wanted.is_set()

    def plug(self) -> None:
        self._gone.clear()
        self._wanted.set()

    def unplug(self) -> None:
        """Out of coverage, without a word: the broker says the last will by itself."""
        self._wanted.clear()
        self._gone.set()

    def question(self, request: CheckRequest) -> CheckRequest:
        del request
        raise BadEnquiry("A PHONE ASKS NOTHING")

    def say(self, message: Uplink) -> bool:
        """A position; it waits while there is no connection. Nothing else can be said."""
        if not isinstance(message, LocationFix) or message.fixed_at_ms is None:
            self.lost += 1
            return False
        self.lost += len(self._out) == KEEPS
        self._last = location(message, tracker=self._device[-2:])
        self._out.append(self._last)
        self._more.set()
        return True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_connected(), name=f"phone {self.callsign}")
            group.create_task(self.walk(), name=f"walk {self.callsign}")
            group.create_task(self._ping(), name=f"ping {self.callsign}")

    async def _ping(self) -> None:
        """A sign of life in the background: where it was, and the time of now."""
        while True:
            await self._clock.sleep(self._ping_every_s)
            if self._last and self.connected:
                self._out.append({**self._last, "t": "p", "tst": self._clock.wall_ms() // 1000})
                self.pings_sent += 1
                self._more.set()

    # ----------------------------------------------------------------- the broker

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            await self._wanted.wait()
            try:
                client = self._client()
                async with connected(client):
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
        # tst: when it connected, not when it was lost.
        will = self._payload({"_type": "lwt", "tst": self._clock.wall_ms() // 1000})
        return Patient(
            self._host,
            self._port,
            identifier=f"{self._user}{self._device}",
            username=self._user if self._password else None,
            password=self._password or None,
            protocol=aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(self.topic, will, 1, self._retain),
            keepalive=KEEPALIVE_S,
            timeout=CONNECT_WITHIN_S,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Until the connection breaks (MqttError) or the phone goes out of coverage."""
        self.connected = True
        self.changed.set()
        sending = asyncio.create_task(self._send(client), name=f"send {self.callsign}")
        away = asyncio.create_task(self._gone.wait(), name=f"coverage {self.callsign}")
        try:
            done, _ = await asyncio.wait({sending, away}, return_when=asyncio.FIRST_COMPLETED)
            if away in done:
                # No DISCONNECT: a broker keeps the last will of whoever says goodbye to itself.
                sock = client._client.socket()
                if isinstance(sock, socket.socket):
                    sock.shutdown(socket.SHUT_RDWR)
                await asyncio.wait({client._disconnected}, timeout=CONNECT_WITHIN_S)
                if client._disconnected.done():
                    client._disconnected.exception()  # looked at, so that nobody complains
            else:
                sending.result()
        finally:
            self.connected = False
            for duty in (sending, away):
                duty.cancel()
            await asyncio.gather(sending, away, return_exceptions=True)

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            while self._out:
                body = self._out[0]
                await client.publish(
                    self.topic,
                    self._payload(body),
                    qos=1,
                    retain=self._retain,
                    timeout=PUBLISH_WITHIN_S,
                )
                if self._out[0] is body:  # else it made room meanwhile
                    self._out.popleft()
                self.changed.set()
            self._more.clear()
            await self._more.wait()

    def _payload(self, body: dict[str, object]) -> bytes:
        plain = json.dumps(body, separators=(",", ":")).encode()
        return sealed(plain, self._passphrase) if self._passphrase else plain


def location(fix: LocationFix, *, tracker: str = "", trigger: str = "") -> dict[str, object]:
    """A position as the application says it: whole numbers, zero left out, km/h."""
    assert fix.fixed_at_ms is not None
    body: dict[str, object] = {"_type": "location", "lat": fix.lat, "lon": fix.lon}
    kmh = None if fix.speed_mps is None else fix.speed_mps / KMH_MPS
    for name, value in (("acc", fix.accuracy_m), ("vel", kmh), ("cog", fix.course_deg)):
        if value is not None and round(value):
            body[name] = round(value)
    body |= {"tst": fix.fixed_at_ms // 1000, "conn": "m", "batt": 80}
    return body | {key: text for key, text in (("tid", tracker), ("t", trigger)) if text}


def sealed(plain: bytes, passphrase: str) -> bytes:
    """As the application encrypts: libsodium's secretbox under the passphrase, zero-padded."""
    from nacl.secret import SecretBox  # loaded only where a phone encrypts

    key = passphrase.encode("utf-8").ljust(SecretBox.KEY_SIZE, b"\0")
    box: Any = SecretBox(key).encrypt(plain)
    data = base64.b64encode(bytes(box)).decode()
    return json.dumps({"_type": "encrypted", "data": data}).encode()
