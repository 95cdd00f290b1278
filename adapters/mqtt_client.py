"""aiomqtt with its corrections: the one MQTT client below links and relays.

Measured faults of the library as it comes, and what stands against each here (reference
libraries, section 1; each has a test that fails without it):
1. Nagle's algorithm stays on and meets the delayed ACK: TCP_NODELAY (and TCP_USER_TIMEOUT, so
   that a half-open connection is noticed).
2. The incoming queue is unbounded, or drops with a log line: a message goes straight to `sink`.
   Nor is it read or written packet by packet: `adapters.mqtt_pump`.
3. Messages are acknowledged on entering memory: manual acknowledgement, in order (`Acks`).
4. A client used for a second connection keeps the old queue: one object per connection.
5. A PUBLISH that the broker refused looks as if it had succeeded: the reason code is kept.
6. Cancelled or failed it leaves its socket with the loop, where each byte raises in a callback
   for ever, or is taken in by a client that nobody owns any more: `scuttle`, always.
7. Its waits are `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes with
   the result: whoever should stop goes on. `_wait_for` is ours.
8. It connects in the thread pool of all, name lookup included: `adapters.dialling`.
9. A message that raises in a callback ends the connection, and the broker sends it again for
   ever: it is given up here, alone.
10. What is sent with QoS 0 waits without bound when the broker does not read: `OUT_MOST`.
11. What is larger than the broker says that it takes (MQTT 5) is sent all the same, and ends the
   connection at each repeat: it is refused here, alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import mqtt_ms_queued
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from adapters import mqtt_access
from adapters.dialling import Address, Lookup, NameNotFound, dial, in_own_thread
from adapters.mqtt_access import Access
from adapters.mqtt_pump import Expiry, Pump
from gateway.errors import TAKEN_OVER, LinkDown, SendFailed
from gateway.settings import BrokerSection, MqttSection

__all__ = ["Access", "Acks", "Connection", "Received", "Refused", "Ticket", "connect", "moment"]

CONNECT_WITHIN_S = 5.0
CLOSE_WITHIN_S = 2.0
LOOKUP_WITHIN_S = 2.0
USER_TIMEOUT_MS = 5000
SEND_BUFFER = 64 * 1024
"""Bytes that the kernel holds for a broker that does not read: an emergency comes behind them."""
OUT_MOST = 1000
"""Packets that may wait in the client for the broker; one more is SendFailed."""
PACKET_MOST = 1024 * 1024
"""Maximum Packet Size (MQTT 5, 3.1.2.11.4): what is larger a broker may not even send us. Far above
`max_payload`, so that what a terminal says too long is refused here and counted."""
REFUSED_CODES = frozenset({4, 5, 134, 135, 138})
"""CONNACK codes that say our credentials are not good (3.1.1: 4, 5; 5.0: 0x86, 0x87, 0x8A)."""
SESSION_TAKEN_OVER = 142
HEAD_MOST = 32
"""Bytes of a PUBLISH beside topic and payload, with the properties that we use."""
NOBODY_SUBSCRIBED = 16
"""PUBACK 0x10: taken, and thrown away at once (MQTT 5, 3.4.2.1). Not a failure code."""
NO_RETAINED = 2
"""Retain Handling 2: what lies retained is not sent when we subscribe (MQTT 5, 3.8.3.1)."""


class Received(msgspec.Struct, frozen=True):
    """A message as it came. mid, qos: for its acknowledgement. topic: "" if it is no text.
    dup: it was sent to us before and not acknowledged."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    dup: bool = False


class Acks:
    """Acknowledgements in the order of arrival, however the commits end.

    MQTT 5, 4.6: PUBACKs leave in the order in which the messages came. Closed with its
    connection: what settles later is acknowledged to nobody, and the broker sends it again.

    most: so many may wait; the oldest is then acknowledged unsettled, and `shed` is told. None:
    no limit but the broker's own.
    """

    def __init__(
        self,
        send: Callable[[int, int], None],
        *,
        most: int | None = None,
        shed: Callable[[], None] | None = None,
    ) -> None:
        self._send = send
        self._most = most
        self._shed = shed
        self._waiting: deque[list[Any]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, mid: int, qos: int) -> Callable[[], None]:
        """The `settle` of one message; calling it again does nothing."""
        if qos == 0:
            return _nothing
        if self._most is not None and len(self._waiting) >= self._most:
            self._waiting[0][2] = True
            if self._shed is not None:
                self._shed()
            self._release()
        entry = [mid, qos, False]
        self._waiting.append(entry)

        def settle() -> None:
            entry[2] = True
            self._release()

        return settle

    def give_up(self, mid: int, qos: int) -> None:
        """Settle this message, whether or not somebody holds its `settle`."""
        waiting = next((entry for entry in self._waiting if entry[0] == mid), None)
        if waiting is None:
            self.expect(mid, qos)()
        else:
            waiting[2] = True
            self._release()

    def _release(self) -> None:
        while not self._closed and self._waiting and self._waiting[0][2]:
            mid, qos, _ = self._waiting.popleft()
            self._send(mid, qos)

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()


def _nothing() -> None:
    """QoS 0 asks for no acknowledgement."""


def moment(ms: int) -> str:
    """ISO 8601 in UTC, as every payload of ours says it: 2026-11-22T10:15:02.114Z."""
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


class Refused(SendFailed):
    """The broker will not take this one, now or later: it says so (PUBACK with a failure code)."""


class Ticket(msgspec.Struct):
    """A publication on its way: hand it to `Connection.confirmed`."""

    mid: int
    told: asyncio.Future[ReasonCode | str]
    """What the broker said of it, or in words why it will not."""


class Connection(aiomqtt.Client):
    """One connection. Use `connect` below; never use an object twice.

    What is private of aiomqtt and paho here (upstream issue 345 asks for some of it) is the reason
    for the pin below 3, and stands in this class alone.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        addresses: Sequence[Address],
        unsettled_most: int | None = None,
        shed: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(max_queued_outgoing_messages=OUT_MOST, **options)
        self._sink = sink
        self._addresses = addresses
        self._client.manual_ack_set(True)  # (3)
        self._client._create_socket_connection = self._dial  # type: ignore[method-assign]
        self._five = int(self._client.protocol) == int(aiomqtt.ProtocolVersion.V5)
        self._pump = Pump(  # (2)
            self._client,
            self._loop,
            five=self._five,
            take=self._take_in,
            told=self._told,
            failed=self._failed,
        )
        self._thread = threading.get_ident()
        self._published: dict[int, asyncio.Future[ReasonCode | str]] = {}
        self._disconnected.add_done_callback(self._lose)
        self._scuttled = False
        self._door = threading.Lock()
        self._written: asyncio.Event = asyncio.Event()
        self._takes_most: int | None = None
        self.acks = Acks(self._acknowledge, most=unsettled_most, shed=shed)

    # ----------------------------------------------------------------- opening and closing

    async def open(self) -> None:
        """Connect, within the deadline of the caller. Raises OSError, MqttConnectError."""
        await in_own_thread(self._client_connect)  # (8)
        await asyncio.wait(
            {self._connected, self._disconnected}, return_when=asyncio.FIRST_COMPLETED
        )
        if not self._connected.done():
            raise ConnectionResetError
        self._connected.result()
        self._loop.call_soon(self._pump.go_on)

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        self._takes_most = getattr(properties, "MaximumPacketSize", None)  # (11)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, *words: Any) -> None:
        super()._on_disconnect(*words)
        if not self._connected.done():
            # aiomqtt says nothing of a connection that ends before it was accepted.
            self._connected.set_exception(ConnectionResetError())

    def _dial(self) -> socket.socket:
        return dial(
            self._addresses,
            within_s=CONNECT_WITHIN_S,
            options=(
                (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # (1)
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
            ),
        )

    async def leave(self) -> None:
        """Say goodbye if there is anybody to say it to, then let go of everything."""
        self.acks.close()
        try:
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await self.__aexit__(None, None, None)
        finally:
            self.scuttle()

    def scuttle(self) -> None:  # (6)
        """Let go of socket, callbacks and task, whatever state they are in."""
        with self._door:
            self._scuttled = True
        self._client.on_disconnect = None
        for state in (self._connected, self._disconnected):
            if state.done() and not state.cancelled():
                state.exception()  # looked at, so that asyncio does not complain
        # After the callbacks that the connecting thread may have queued on the loop before us.
        self._loop.call_soon(self._let_go)

    def _let_go(self) -> None:
        if self._misc_task is not None:
            self._misc_task.cancel()
        sock = self._client.socket()
        if sock is not None:
            descriptor = sock.fileno()
            if descriptor >= 0:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
            sock.close()

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        with self._door:  # in the connecting thread
            if not self._scuttled:
                super()._on_socket_open(client, userdata, sock)
                # Behind aiomqtt's own reader, and in its place.
                self._loop.call_soon_threadsafe(self._read_from, sock)
                return
        sock.close()  # we came too late

    def _read_from(self, sock: socket.socket) -> None:
        if not self._scuttled and sock.fileno() >= 0:
            self._loop.add_reader(sock.fileno(), self._pump.readable)

    def _failed(self, error: Exception) -> None:
        if not self._disconnected.done():
            self._disconnected.set_exception(error)

    async def _misc_loop(self) -> None:
        if not self._scuttled:
            await super()._misc_loop()

    async def _wait_for(self, fut: Awaitable[Any], timeout: float | None) -> Any:  # (7)
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit if math.isfinite(limit) else None):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("timed out") from None

    async def broken(self) -> str:
        """Wait until the connection is gone; why, in a few words."""
        # asyncio.wait does not raise what the future holds, nor cancel it with us.
        await asyncio.wait({self._disconnected})
        error = self._disconnected.exception()
        if error is None:
            return "closed by the broker"
        if isinstance(error, aiomqtt.MqttCodeError):
            value = _code(error.rc)
            if value == SESSION_TAKEN_OVER:
                return TAKEN_OVER
            return f"connection lost: code {value}"
        return f"connection lost: {type(error).__name__}"

    # ----------------------------------------------------------------- in

    def _take_in(
        self, name: bytes, payload: bytes, qos: int, retain: bool, mid: int, dup: bool
    ) -> None:
        try:
            topic = name.decode("utf-8")
        except UnicodeDecodeError:
            topic = ""
        if "+" in topic or "#" in topic:  # no topic that may be published to
            topic = ""
        self._hand_over(Received(topic, payload, qos, retain, mid, dup))

    def _hand_over(self, received: Received) -> None:
        if self._scuttled:
            return
        try:
            self._sink(self, received)
        # A sink may not raise; should one, its message is given up: raised further it would end
        # the connection, and the broker would send the same message again for ever (M13).
        except Exception as error:  # noqa: BLE001  # (9)
            self._logger.warning("a message was given up: %s", type(error).__name__)
            self.acks.give_up(received.mid, received.qos)

    def _acknowledge(self, mid: int, qos: int) -> None:
        if not self._disconnected.done() and qos == 1:
            self._pump.acknowledge(mid)

    async def take(self, *filters: str, stored: bool = False) -> None:
        """Subscribe with QoS 1; on every connection anew: a broker may have lost its state.

        stored: also what lies retained, and that alone is marked so. Else, over MQTT 5, nothing
        that lies there; and what is said now, to lie there from now on, is marked.

        Raises LinkDown when one is refused. (An ACL may grant and yet deliver nothing: a SUBACK
        proves little.)
        """
        wanted: list[tuple[str, Any]]
        if self._five:
            # As published: whoever says now what is to lie retained is seen to do so.
            options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=NO_RETAINED)
            if stored:
                options = SubscribeOptions(qos=1)
            wanted = [(each, options) for each in filters]
        else:
            wanted = [(each, 1) for each in filters]
        try:
            codes = await self.subscribe(wanted, timeout=CONNECT_WITHIN_S)
        except aiomqtt.MqttError as error:
            raise LinkDown("subscription failed") from error
        if any(_code(code) >= 0x80 for code in codes):
            raise LinkDown("subscription refused")

    # ----------------------------------------------------------------- out

    async def put(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expires_in_s: float | None = None,
        deadline_s: float = CONNECT_WITHIN_S,
    ) -> bool:
        """Publish; for QoS 1 return when the broker took it. Raises SendFailed.

        Returns False when the broker knows of nobody who subscribed and so has thrown it away
        (MQTT 5 only; others do not say).
        """
        ticket = self.offer(topic, payload, qos=qos, retain=retain, expires_in_s=expires_in_s)
        return True if ticket is None else await self.confirmed(ticket, deadline_s)

    def offer(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expires_in_s: float | None = None,
    ) -> Ticket | None:
        """Begin to publish; None when QoS 0 leaves nothing to wait for. Raises SendFailed.

        expires_in_s: MQTT 5 Message Expiry, so that the broker cannot deliver it later; without
        meaning over 3.1.1, which has no word for it.
        """
        expiry: Expiry | None = None
        if expires_in_s is not None and self._five:
            expiry = Expiry(max(1, math.ceil(expires_in_s)))
        if self._disconnected.done() or self._scuttled:
            raise SendFailed("not connected")
        size = len(topic.encode()) + len(payload) + HEAD_MOST
        if self._takes_most is not None and size > self._takes_most:
            raise Refused("larger than the broker takes")
        if self.waiting >= OUT_MOST:  # (10)
            raise SendFailed("broker does not read")
        if not qos:
            self._pump.say(topic, payload, retain=retain, expiry=expiry)
            return None
        mid, code = self._pump.publish(topic, payload, retain=retain, expiry=expiry)
        if code:
            raise SendFailed(f"not published: code {code}")
        told: asyncio.Future[ReasonCode | str] = self._loop.create_future()
        self._published[mid] = told  # (5)
        return Ticket(mid, told)

    async def confirmed(self, ticket: Ticket, deadline_s: float) -> bool:
        """Wait until the broker took it; as `put`."""
        limit = self._loop.call_later(
            max(0.0, deadline_s), _say, ticket.told, "not acknowledged in time"
        )
        try:
            reason = await ticket.told
        finally:
            limit.cancel()
            if self._published.pop(ticket.mid, None) is not None:
                self._withdraw(ticket.mid)
        if isinstance(reason, str):
            raise SendFailed(reason)
        if reason.is_failure:
            raise Refused(f"refused by the broker: code {reason.value}")
        return reason.value != NOBODY_SUBSCRIBED

    def _withdraw(self, mid: int) -> None:
        """What was given up and has not left yet does not leave later: it may be stale by then."""
        with self._client._out_message_mutex:
            message = self._client._out_messages.get(mid)
            if message is not None and message.state == mqtt_ms_queued:
                del self._client._out_messages[mid]

    def _told(self, mid: int, reason: ReasonCode) -> None:
        waiting = self._published.pop(mid, None)
        if waiting is not None:
            _say(waiting, reason)

    def _lose(self, _disconnected: asyncio.Future[Any]) -> None:
        for told in self._published.values():
            _say(told, "connection lost")

    @property
    def waiting(self) -> int:
        """Packets that the kernel has not taken yet."""
        return len(self._client._out_packet)

    async def drained(self, deadline_s: float) -> None:
        """Wait until the kernel has taken everything. Raises SendFailed after deadline_s."""
        try:
            async with asyncio.timeout(deadline_s):
                while self.waiting and not self._disconnected.done():
                    self._written.clear()
                    written = asyncio.ensure_future(self._written.wait())
                    either: set[asyncio.Future[Any]] = {written, self._disconnected}
                    try:
                        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        written.cancel()
        except TimeoutError:
            raise SendFailed("broker does not read") from None

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._pump.write_soon()
        else:  # CONNECT, in the connecting thread
            self._loop.call_soon_threadsafe(self._pump.write_soon)

    def _on_socket_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._pump.written(sock)
        self._written.set()


def _say(told: asyncio.Future[ReasonCode | str], what: ReasonCode | str) -> None:
    if not told.done():
        told.set_result(what)


Sink = Callable[[Connection, Received], None]
"""Takes each message inside the client's own callback; must not raise."""

_LOOKUP = Lookup()
"""Of the process: what was found for a broker's name serves its next connections."""


def _code(code: Any) -> int:
    if isinstance(code, ReasonCode):
        return int(code.value)
    return int(code) if isinstance(code, int) else 0


@contextlib.asynccontextmanager
async def connect(
    section: MqttSection,
    access: Access,
    *,
    config_path: Path,
    sink: Sink,
    will: tuple[str, bytes] | None = None,
    persistent: bool = True,
    receive_most: int | None = None,
    unsettled_most: int | None = None,
    shed: Callable[[], None] | None = None,
    lookup: Lookup = _LOOKUP,
) -> AsyncIterator[Connection]:
    """One connection to the broker, closed on leaving. Raises LinkDown.

    will: topic and payload that the broker publishes, retained, when we are gone unannounced.

    persistent: the broker keeps the session (subscriptions and what was not acknowledged) while
    we are away: clean start off, and with MQTT 5 a session expiry, else it means nothing.

    receive_most: Receive Maximum (MQTT 5): so many unacknowledged messages at once. mosquitto
    2.0.11 takes it for its own in-flight limit, and sends as many again for each PUBACK; None
    leaves the broker's limit. unsettled_most, shed: of `Acks`.
    """
    options: dict[str, Any] = {}
    if section.version == "5":
        said = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        said.MaximumPacketSize = PACKET_MOST
        if persistent and isinstance(section, BrokerSection):
            said.SessionExpiryInterval = section.session_expiry_s
        if receive_most is not None:
            said.ReceiveMaximum = receive_most
        options["protocol"] = aiomqtt.ProtocolVersion.V5
        options["clean_start"] = not persistent
        options["properties"] = said
    else:
        options["protocol"] = aiomqtt.ProtocolVersion.V311
        options["clean_session"] = not persistent
    client: Connection | None = None
    try:
        async with asyncio.timeout(LOOKUP_WITHIN_S + 2 * CONNECT_WITHIN_S):
            who = await in_own_thread(lambda: mqtt_access.read(config_path, section, access))
            addresses = await lookup.find(section.host, section.port, within_s=LOOKUP_WITHIN_S)
            client = Connection(
                sink,
                addresses=addresses,
                unsettled_most=unsettled_most,
                shed=shed,
                hostname=section.host,
                port=section.port,
                identifier=access.client_id,
                username=who.username,
                password=who.password,
                tls_context=who.tls,
                will=aiomqtt.Will(*will, 1, retain=True) if will is not None else None,
                keepalive=section.keepalive_s,
                timeout=CONNECT_WITHIN_S,
                **options,
            )
            await client.open()
    except BaseException as error:
        if client is not None:
            client.scuttle()
        if isinstance(error, MqttConnectError):
            code = _code(error.rc)
            raise LinkDown(f"broker refused: code {code}", refused=code in REFUSED_CODES) from error
        if isinstance(error, OSError):  # TimeoutError is one
            raise LinkDown(_why(error)) from error
        raise
    try:
        yield client
    finally:
        await client.leave()


_CERTIFICATE = {
    9: "certificate of the broker is not valid yet",
    10: "certificate of the broker has expired",
    62: "certificate of the broker is for another name",
    64: "certificate of the broker is for another address",
}
"""X509_V_ERR_... of OpenSSL's x509_vfy.h: what an operator mends in another way than the rest."""


def _why(error: OSError) -> str:
    """In words that an operator can act on, without name, address or anything from the far side."""
    match error:
        case NameNotFound():
            return str(error)
        case ssl.SSLCertVerificationError():
            return _CERTIFICATE.get(error.verify_code, "certificate of the broker not accepted")
        case ssl.SSLError():
            return "TLS failed"
        case ConnectionRefusedError():
            return "broker refuses connections"
        case TimeoutError():
            return "broker does not answer"
        case ConnectionError():
            return "broker closed the connection"
        case _:
            return "broker cannot be reached"
