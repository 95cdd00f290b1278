"""aiomqtt with its corrections: the one MQTT client below links and relays.

Measured faults of the library as it comes, and what stands against each here (reference
libraries, section 1; each has a test that fails without it):
1. Nagle's algorithm stays on and meets the delayed ACK: TCP_NODELAY (and TCP_USER_TIMEOUT, so
   that a half-open connection is noticed).
2. The incoming queue is unbounded, or drops with a log line: a message goes straight to `sink`.
3. Messages are acknowledged on entering memory: manual acknowledgement, in order (`Acks`).
4. A client used for a second connection keeps the old queue: one object per connection.
5. A PUBLISH that the broker refused looks as if it had succeeded: the reason code is kept.
6. Cancelled while it connects it leaves its socket with the loop, where each byte raises in a
   callback for ever: `scuttle`.
7. Its waits are `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes with
   the result: whoever should stop goes on. `_wait_for` is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.errors import LinkDown, SendFailed
from gateway.settings import BrokerSection, resolve

CONNECT_WITHIN_S = 5.0
CLOSE_WITHIN_S = 2.0
USER_TIMEOUT_MS = 5000
OUT_MOST = 1000
"""Publications that may wait in the client for the broker; one more is SendFailed."""
REFUSED_CODES = frozenset({4, 5, 134, 135, 138})
"""CONNACK codes that say our credentials are not good (3.1.1: 4, 5; 5.0: 0x86, 0x87, 0x8A)."""
TAKEN_OVER = 142
NO_RETAINED = 2
"""Retain Handling 2: what lies retained is not sent when we subscribe (MQTT 5, 3.8.3.1)."""


class Received(msgspec.Struct, frozen=True):
    """A message as it came. mid, qos: for its acknowledgement."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int


class Acks:
    """Acknowledgements in the order of arrival, however the commits end.

    MQTT 5, 4.6: PUBACKs leave in the order in which the messages came. Closed with its
    connection: what settles later is acknowledged to nobody, and the broker sends it again.
    """

    def __init__(self, send: Callable[[int, int], None]) -> None:
        self._send = send
        self._waiting: deque[list[Any]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, mid: int, qos: int) -> Callable[[], None]:
        """The `settle` of one message; calling it again does nothing."""
        if qos == 0:
            return _nothing
        entry = [mid, qos, False]
        self._waiting.append(entry)

        def settle() -> None:
            entry[2] = True
            self._release()

        return settle

    def _release(self) -> None:
        while not self._closed and self._waiting and self._waiting[0][2]:
            mid, qos, _ = self._waiting.popleft()
            self._send(mid, qos)

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()


def _nothing() -> None:
    """QoS 0 asks for no acknowledgement."""


@dataclass(frozen=True)
class Access:
    """Who we are to the broker. Files are read when a connection is made, so a renewed
    certificate or password is taken up by the next one."""

    client_id: str
    username: str = ""
    password_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Connection(aiomqtt.Client):
    """One connection. Use `connect` below; never use an object twice."""

    def __init__(self, sink: Sink, **options: Any) -> None:
        class Inbox(asyncio.Queue[aiomqtt.Message]):
            connection: Connection

            def put_nowait(self, item: aiomqtt.Message) -> None:  # (2)
                sink(
                    self.connection,
                    Received(
                        topic=str(item.topic),
                        payload=item.payload,
                        qos=item.qos,
                        retain=item.retain,
                        mid=item.mid,
                    ),
                )

        Inbox.connection = self
        super().__init__(
            queue_type=Inbox,
            socket_options=[
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # (1)
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
            ],
            max_queued_outgoing_messages=OUT_MOST,
            **options,
        )
        # Private: aiomqtt has no public way to either (upstream issue 345). Pinned below 3.
        self._client.manual_ack_set(True)  # (3)
        self._published: dict[int, asyncio.Future[ReasonCode]] = {}
        self._scuttled = False
        self.acks = Acks(self._acknowledge)

    def scuttle(self) -> None:  # (6)
        """Let go of a connection that never came about: socket, callbacks, task."""
        self._scuttled = True
        self._client.on_disconnect = None
        sock = self._client.socket()
        if self._misc_task is not None:
            self._misc_task.cancel()
        if sock is not None:
            descriptor = sock.fileno()
            if descriptor >= 0:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
            sock.close()

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._scuttled:  # the thread that connects came too late
            sock.close()
            return
        super()._on_socket_open(client, userdata, sock)

    async def _wait_for(self, fut: Awaitable[Any], timeout: float | None) -> Any:  # (7)
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit if math.isfinite(limit) else None):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("timed out") from None

    async def _misc_loop(self) -> None:
        if not self._scuttled:
            await super()._misc_loop()

    def _acknowledge(self, mid: int, qos: int) -> None:
        if not self._disconnected.done():
            self._client.ack(mid, qos)

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any
    ) -> None:
        waiting = self._published.pop(mid, None)  # (5)
        if waiting is not None and not waiting.done():
            waiting.set_result(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)

    async def put(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expires_in_s: float | None = None,
        deadline_s: float = CONNECT_WITHIN_S,
    ) -> None:
        """Publish; for QoS 1 return when the broker took it. Raises SendFailed.

        expires_in_s: MQTT 5 Message Expiry, so that the broker cannot deliver it later; without
        meaning over 3.1.1, which has no word for it.
        """
        properties = None
        if expires_in_s is not None and self._protocol_five:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, -int(-expires_in_s // 1))
        if self._disconnected.done():
            raise SendFailed("not connected")
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc:
            raise SendFailed(f"not published: code {int(info.rc)}")
        if not qos:
            return
        told = asyncio.get_running_loop().create_future()
        self._published[info.mid] = told
        try:
            done, _ = await asyncio.wait(
                {told, self._disconnected},
                timeout=deadline_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._published.pop(info.mid, None)
        if told not in done:
            raise SendFailed("not acknowledged in time" if not done else "connection lost")
        reason: ReasonCode = told.result()
        if reason.is_failure:
            raise SendFailed(f"refused by the broker: code {reason.value}")

    @property
    def _protocol_five(self) -> bool:
        return int(self._client.protocol) == int(aiomqtt.ProtocolVersion.V5)

    async def take(self, *filters: str) -> None:
        """Subscribe with QoS 1; on every connection anew: a broker may have lost its state.

        Raises LinkDown when one is refused. (An ACL may grant and yet deliver nothing: a SUBACK
        proves little.)
        """
        for each in filters:
            try:
                if self._protocol_five:
                    options = SubscribeOptions(qos=1, retainHandling=NO_RETAINED)
                    codes = await self.subscribe(each, options=options, timeout=CONNECT_WITHIN_S)
                else:
                    codes = await self.subscribe(each, qos=1, timeout=CONNECT_WITHIN_S)
            except aiomqtt.MqttError as error:
                raise LinkDown("subscription failed") from error
            if any(_code(code) >= 0x80 for code in codes):
                raise LinkDown("subscription refused")

    async def broken(self) -> str:
        """Wait until the connection is gone; why, in a few words."""
        # asyncio.wait does not raise what the future holds, nor cancel it with us.
        await asyncio.wait({self._disconnected})
        error = self._disconnected.exception()
        if error is None:
            return "closed by the broker"
        if isinstance(error, aiomqtt.MqttCodeError):
            code = error.rc
            value = code.value if isinstance(code, ReasonCode) else code
            return "session taken over" if value == TAKEN_OVER else f"connection lost: code {value}"
        return f"connection lost: {type(error).__name__}"


Sink = Callable[[Connection, Received], None]
"""Takes each message inside the client's own callback; must not raise."""


def _code(code: int | ReasonCode) -> int:
    return code.value if isinstance(code, ReasonCode) else code


@contextlib.asynccontextmanager
async def connect(
    section: BrokerSection,
    access: Access,
    *,
    config_path: Path,
    sink: Sink,
    will: tuple[str, bytes] | None = None,
    persistent: bool = True,
) -> AsyncIterator[Connection]:
    """One connection to the broker, closed on leaving. Raises LinkDown.

    will: topic and payload that the broker publishes, retained, when we are gone unannounced.

    persistent: the broker keeps the session (subscriptions and what was not acknowledged) while
    we are away: clean start off, and with MQTT 5 a session expiry, else it means nothing.
    """
    options: dict[str, Any] = {}
    if section.version == "5":
        options["protocol"] = aiomqtt.ProtocolVersion.V5
        options["clean_start"] = not persistent
        if persistent:
            kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            kept.SessionExpiryInterval = section.session_expiry_s
            options["properties"] = kept
    else:
        options["protocol"] = aiomqtt.ProtocolVersion.V311
        options["clean_session"] = not persistent
    try:
        password = await asyncio.to_thread(_secret, config_path, access.password_file)
        tls = await asyncio.to_thread(_tls, config_path, section, access)
    except OSError as error:
        raise LinkDown("credential file cannot be read", refused=True) from error
    client = Connection(
        sink,
        hostname=section.host,
        port=section.port,
        identifier=access.client_id,
        username=access.username or None,
        password=password or None,
        tls_context=tls,
        will=aiomqtt.Will(*will, 1, retain=True) if will is not None else None,
        keepalive=section.keepalive_s,
        timeout=CONNECT_WITHIN_S,
        **options,
    )
    try:
        async with asyncio.timeout(2 * CONNECT_WITHIN_S):
            await _enter(client)
    except MqttConnectError as error:
        code = _code(error.rc) if isinstance(error.rc, int | ReasonCode) else 0
        raise LinkDown(f"broker refused: code {code}", refused=code in REFUSED_CODES) from error
    except aiomqtt.MqttError as error:
        raise LinkDown("broker cannot be reached") from error
    except TimeoutError as error:
        raise LinkDown("broker does not answer") from error
    try:
        yield client
    finally:
        client.acks.close()
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await client.__aexit__(None, None, None)


async def _enter(client: Connection) -> None:
    try:
        await client.__aenter__()
    except BaseException:
        client.scuttle()
        raise


def _secret(config_path: Path, file: str) -> str:
    return resolve(config_path, file).read_text("utf-8").strip() if file else ""


def _tls(config_path: Path, section: BrokerSection, access: Access) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the broker's name and chain verified; there is no way to turn it off.

    ssl.SSLError is an OSError: a certificate that cannot be used fails closed, too.
    """
    if not section.tls:
        return None
    ca = str(resolve(config_path, section.ca_file)) if section.ca_file else None
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.cert_file:
        key = str(resolve(config_path, access.key_file)) if access.key_file else None
        context.load_cert_chain(str(resolve(config_path, access.cert_file)), key)
    return context
