"""MQTT 3.1.1 as far as a cheap terminal needs it: bytes in, packets out, nothing that waits.

Five hundred clients of a library would cost more than the daemon they try; and what they misread
they would misread together with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13
PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"


class Packet(NamedTuple):
    """kind: its type. topic, mid: of a PUBLISH (mid 0 at QoS 0); payload: of any other the body."""

    kind: int
    payload: bytes
    topic: str = ""
    mid: int = 0


def connect(client_id: str, keepalive_s: int) -> bytes:
    """CONNECT that keeps its session."""
    fixed = b"\x00\x04MQTT\x04\x00" + keepalive_s.to_bytes(2, "big")
    return _packet(0x10, fixed + _text(client_id))


def subscribe(mid: int, topic: str) -> bytes:
    return _packet(0x82, mid.to_bytes(2, "big") + _text(topic) + b"\x01")


def publish(topic: str, payload: bytes, mid: int = 0) -> bytes:
    """QoS 1 with a packet number, QoS 0 without."""
    if not mid:
        return _packet(0x30, _text(topic) + payload)
    return _packet(0x32, _text(topic) + mid.to_bytes(2, "big") + payload)


def puback(mid: int) -> bytes:
    return b"\x40\x02" + mid.to_bytes(2, "big")


def _text(text: str) -> bytes:
    return len(raw := text.encode()).to_bytes(2, "big") + raw


def _packet(head: int, body: bytes) -> bytes:
    left, size = len(body), bytearray((head,))
    while True:
        left, digit = divmod(left, 128)
        size.append(digit | (0x80 if left else 0))
        if not left:
            return bytes(size) + body


class Parser:
    """Whatever slices the stream comes in, whole packets come out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        data, place = self._rest + data, 0
        while (end := _end(data, place)) is not None:
            start, stop = end
            if stop > len(data):
                break
            yield _read(data[place], data[start:stop])
            place = stop
        self._rest = data[place:]


def _end(data: bytes, place: int) -> tuple[int, int] | None:
    """Where the body begins and ends of the packet at that place; None: not yet known."""
    length = 0
    for shift, at in enumerate(range(place + 1, min(place + 5, len(data)))):
        length |= (data[at] & 0x7F) << 7 * shift
        if data[at] < 0x80:
            return at + 1, at + 1 + length
    return None


def _read(head: int, body: bytes) -> Packet:
    if head >> 4 != PUBLISH:
        return Packet(head >> 4, body)
    size = int.from_bytes(body[:2], "big") + 2
    topic = body[2:size].decode()
    if not head & 0x06:
        return Packet(PUBLISH, body[size:], topic)
    return Packet(PUBLISH, body[size + 2 :], topic, int.from_bytes(body[size : size + 2], "big"))
