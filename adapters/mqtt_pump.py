"""Bytes between one socket and paho's client: read by the block, written by the block.

As it comes, paho reads each packet in three calls of the kernel, builds two tables for each PUBACK
and one for each PUBLISH, and aiomqtt wakes the loop through a pipe and two changes of the poll set
for each packet that goes out: half of what a check cost (docs/performance.md). Here every read
takes what there is, PUBLISH and PUBACK are taken apart in place, and whatever was queued in one
turn of the loop leaves in one write. All other packets are paho's to handle, as before.

A block is handed over slice by slice, each in a turn of the loop of its own: after an outage a
broker brings thousands of packets at once, and consoles, lines and deadlines must not wait for the
last of them.

Rule: what the far side sends is judged before it is believed; a packet that breaks the protocol
ends the connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol

from paho.mqtt.client import Client, mqtt_ms_wait_for_puback
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

READ_MOST = 64 * 1024
WRITE_MOST = 64 * 1024
"""Bytes of one call of the kernel."""
AT_ONCE = 32
SLICE_S = 0.004
"""A slice: so many packets, or fewer when they take so long (a position 0.06 ms, a check 0.6 ms and
in later turns four times that)."""
LENGTH_MOST = 4
"""Bytes of a remaining length (MQTT 5, 1.5.5)."""
CONNACK, PUBLISH, PUBACK, DISCONNECT = 0x20, 0x30, 0x40, 0xE0
_EXPIRY = 2
"""Message Expiry Interval (MQTT 5, 2.2.2.2): a four-byte integer."""

_TOLD = {0: ReasonCode(PacketTypes.PUBACK, identifier=0)}
"""Made once: making one copies a table of sixty names. Nobody may change them."""

Take = Callable[[bytes, bytes, int, bool, int, bool], None]
"""(topic, payload, qos, retain, mid, dup) of a PUBLISH."""


class Expiry:
    """The one property that our PUBLISH packets have, in place of paho's table of all."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def pack(self) -> bytes:
        return b"\x05\x02" + self.seconds.to_bytes(4, "big")


class _Sent:
    """What paho is to know of a publication with QoS 1 that left by our own hand."""

    qos = 1
    state = mqtt_ms_wait_for_puback


class _Malformed(Exception):
    """A packet that breaks the protocol."""


class Told(Protocol):
    def __call__(self, mid: int, reason: ReasonCode) -> None: ...


class Pump:
    """Belongs to one connection and its loop's thread. take: each PUBLISH, in the order of arrival.
    told: the PUBACK of a publication of ours. failed: something that nobody foresaw."""

    def __init__(
        self,
        client: Client,
        loop: asyncio.AbstractEventLoop,
        *,
        five: bool,
        take: Take,
        told: Told,
        failed: Callable[[Exception], None],
    ) -> None:
        # What is private of paho is used here on purpose: the pin in pyproject.toml stands for it.
        self._client: Any = client
        self._loop = loop
        self._five = five
        self._take = take
        self._told = told
        self._failed = failed
        self._rest = bytearray()
        self._wanted = 0
        """Bytes that the packet in `_rest` needs to be whole, as far as that is known."""
        self._left = False
        """The rest holds packets for another turn: nothing is read before they are handed over."""
        self._held = False
        """CONNACK came: what follows it waits for `go_on`."""
        self._due = False
        self._waits = False
        """The kernel took no more: the loop's writer goes on."""

    # ----------------------------------------------------------------- in

    def readable(self) -> None:
        """The loop's reader."""
        if not self._left:
            self._guarded(self._read)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _Malformed:
            self._client._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)
        # A broken pipe, or a fault of the library: either way this connection is over.
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    def _read(self) -> None:
        client = self._client
        while (sock := client._sock) is not None:
            try:
                data = sock.recv(READ_MOST)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
                return
            except ssl.SSLWantWriteError:
                client._call_socket_register_write()
                return
            except OSError:
                data = b""
            if not data:
                client._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
                return
            client._last_bytes_received = time.monotonic()
            self._sort(data)
            if self._held:
                self._loop.remove_reader(sock.fileno())
                return
            if self._left:
                return
            # What TLS has taken apart already the poll set does not show.
            if not (hasattr(sock, "pending") and client._sock is sock and sock.pending()):
                return

    def _sort(self, data: bytes) -> None:
        """Every packet that is whole, up to a slice; the rest waits for more, or for its turn."""
        whole: bytes | bytearray = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            whole, self._rest = self._rest, bytearray()
        self._wanted = 0
        place, end, packets = 0, len(whole), 0
        until_s = self._loop.time() + SLICE_S
        while end - place >= 2:
            if packets == AT_ONCE or (packets and self._loop.time() >= until_s):
                self._left = True
                self._loop.call_soon(self._further)
                break
            start, length = self._length(whole, place + 1, end)
            if start < 0:
                break
            stop = start + length
            if stop > end:
                self._wanted = stop - place
                break
            self._packet(whole[place], whole, start, stop)
            place = stop
            packets += 1
            if self._client._sock is None:
                return
            if self._held:
                break
        if place < end:
            self._rest = bytearray(memoryview(whole)[place:])

    def _further(self) -> None:
        """The next of a block, in a turn of their own."""
        self._left = False
        sock = self._client._sock
        if sock is None or sock.fileno() < 0:
            return
        kept, self._rest = bytes(self._rest), bytearray()
        self._guarded(lambda: self._sort(kept))
        if not (self._left or self._held):
            self.readable()  # what TLS holds already

    def go_on(self) -> None:
        """Whoever waited for the connection has it: what a broker sends along with CONNACK is
        handed over only now, when it can be answered."""
        sock = self._client._sock
        if not self._held or sock is None:
            return
        self._held = False
        self._loop.add_reader(sock.fileno(), self.readable)
        kept, self._rest = bytes(self._rest), bytearray()
        self._guarded(lambda: self._sort(kept))
        self.readable()  # what TLS holds already; nothing while there is more in the rest

    @staticmethod
    def _length(data: bytes | bytearray, at: int, end: int) -> tuple[int, int]:
        """Where the body begins and how long it is; (-1, 0) while that is not all there."""
        length = shift = 0
        for place in range(at, min(end, at + LENGTH_MOST)):
            digit = data[place]
            length |= (digit & 0x7F) << shift
            if digit < 0x80:
                return place + 1, length
            shift += 7
        if end - at >= LENGTH_MOST:
            raise _Malformed
        return -1, 0

    def _packet(self, head: int, data: bytes | bytearray, start: int, stop: int) -> None:
        kind = head & 0xF0
        if kind == PUBLISH:
            self._publish(head, data, start, stop)
        elif kind == PUBACK:
            self._puback(data, start, stop)
        else:
            self._leave_to_paho(head, data[start:stop])

    def _publish(self, head: int, data: bytes | bytearray, start: int, stop: int) -> None:
        qos = head >> 1 & 3
        if qos > 1 or stop - start < 2:
            raise _Malformed  # more than we subscribed to, or nothing
        at = start + 2 + (data[start] << 8 | data[start + 1])
        topic = bytes(data[start + 2 : at])
        mid = 0
        if qos:
            if at + 2 > stop:
                raise _Malformed
            mid = data[at] << 8 | data[at + 1]
            at += 2
        if self._five:
            at, length = self._length(data, at, stop)
            if at < 0:
                raise _Malformed
            at += length  # no property of theirs decides anything
        if at > stop:
            raise _Malformed
        self._take(topic, bytes(data[at:stop]), qos, bool(head & 1), mid, bool(head & 8))

    def _puback(self, data: bytes | bytearray, start: int, stop: int) -> None:
        if stop - start < 2:
            raise _Malformed
        mid = data[start] << 8 | data[start + 1]
        code = data[start + 2] if self._five and stop - start > 2 else 0
        client = self._client
        if client._out_messages.pop(mid, None) is None:
            return
        reason = _TOLD.get(code)
        if reason is None:
            try:
                reason = _TOLD[code] = ReasonCode(PacketTypes.PUBACK, identifier=code)
            except (KeyError, ValueError):
                raise _Malformed from None
        self._told(mid, reason)
        client._inflight_messages -= 1
        # What is not under way waits for its turn: paho looks through all to find one.
        if len(client._out_messages) > client._inflight_messages:
            rc = client._update_inflight()
            if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                client._loop_rc_handle(rc)

    def _leave_to_paho(self, head: int, body: bytes | bytearray) -> None:
        client = self._client
        client._in_packet = {
            "command": head,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(body),
            "packet": bytearray(body),
            "to_process": 0,
            "pos": 0,
        }
        try:
            rc = client._packet_handle()
        finally:
            client._in_packet["command"] = 0
        self._held = head & 0xF0 == CONNACK
        if rc > 0:
            client._loop_rc_handle(rc)

    # ----------------------------------------------------------------- out

    def write_soon(self) -> None:
        """Something was queued: it leaves at the end of this turn, with all that follows in it."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - as in `readable`
            self._failed(error)

    def _write(self) -> None:
        client = self._client
        queue = client._out_packet
        while (sock := client._sock) is not None and queue:
            if queue[0]["command"] & 0xF0 == DISCONNECT:
                client.loop_write()  # paho closes behind it
                return
            try:
                sent = sock.send(self._block(queue))
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                # Called again at once by a poll that finds it writable; paho's mark stays set.
                self._waits = True
                self._loop.add_writer(sock.fileno(), self._flush)
                return
            except OSError:
                client._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
                return
            _strike(queue, sent)
        client._last_msg_out = time.monotonic()
        client._call_socket_unregister_write()

    def say(self, topic: str, payload: bytes, *, retain: bool, expiry: Expiry | None) -> None:
        """Queue a PUBLISH with QoS 0: nobody waits for it, so nothing else is kept of it."""
        self._queue_publish(topic, payload, 0, 0, retain, expiry)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, expiry: Expiry | None
    ) -> tuple[int, int]:
        """Publish with QoS 1: (packet identifier, paho's code, 0 for good). As many at once as the
        broker takes; the next is paho's to keep until its turn."""
        client = self._client
        if 0 < client._max_inflight_messages <= client._inflight_messages or client._sock is None:
            info = client.publish(topic, payload, 1, retain, expiry)
            return info.mid, int(info.rc)
        mid = client._mid_generate()
        if mid in client._out_messages:
            return mid, int(MQTTErrorCode.MQTT_ERR_QUEUE_SIZE)
        client._out_messages[mid] = _Sent()
        client._inflight_messages += 1
        self._queue_publish(topic, payload, 1, mid, retain, expiry)
        return mid, 0

    def acknowledge(self, mid: int) -> None:
        """PUBACK of theirs: success."""
        self._queue(PUBACK, b"\x40\x02" + mid.to_bytes(2, "big"), mid, 1)

    def _queue_publish(
        self, topic: str, payload: bytes, qos: int, mid: int, retain: bool, expiry: Expiry | None
    ) -> None:
        name = topic.encode()
        head = len(name).to_bytes(2, "big") + name
        if qos:
            head += mid.to_bytes(2, "big")
        if self._five:
            head += expiry.pack() if expiry is not None else b"\x00"
        packet = bytearray((PUBLISH | qos << 1 | retain,))
        length = len(head) + len(payload)
        while length > 127:
            packet.append(length & 127 | 128)
            length >>= 7
        packet.append(length)
        packet += head
        packet += payload
        self._queue(PUBLISH, packet, mid, qos)

    def _queue(self, command: int, packet: bytes | bytearray, mid: int, qos: int) -> None:
        self._client._out_packet.append(
            {
                "command": command,
                "mid": mid,
                "qos": qos,
                "pos": 0,
                "to_process": len(packet),
                "packet": packet,
                "info": None,
            }
        )
        self._client._call_socket_register_write()

    def written(self, sock: socket.socket) -> None:
        """Nothing waits any more, or nobody: the connection is being closed."""
        if self._waits:
            self._waits = False
            self._loop.remove_writer(sock.fileno())

    @staticmethod
    def _block(queue: Any) -> bytes | bytearray:
        """What goes out next. After a TLS write that must be repeated it begins with the same
        bytes, as that demands: the queue only grows at its end."""
        first = queue[0]
        packet: bytes | bytearray = first["packet"]
        if len(queue) == 1:
            return packet[first["pos"] :] if first["pos"] else packet
        block = bytearray()
        for each in queue:
            if each["command"] & 0xF0 == DISCONNECT or len(block) >= WRITE_MOST:
                break
            block += each["packet"][each["pos"] :] if each["pos"] else each["packet"]
        return block


def _strike(queue: Any, sent: int) -> None:
    """Take out what the kernel took."""
    while sent:
        first = queue[0]
        if first["to_process"] > sent:
            first["to_process"] -= sent
            first["pos"] += sent
            return
        sent -= first["to_process"]
        queue.popleft()
