"""MQTT 3.1.1 as far as a cheap terminal needs it: bytes in, packets out, and nothing that waits.

For loads and soaks, written for its speed and its independence: it shares no code with the gateway
or its client, so that neither limits, nor hides a fault of, what is tried with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 2, 3, 4, 9, 13
PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"


class Packet(NamedTuple):
    """kind: the packet's type. topic, payload: of a PUBLISH; of any other the body is `payload`."""

    kind: int
    topic: bytes = b""
    payload: bytes = b""
    qos: int = 0
    mid: int = 0


def connect(client_id: str, *, keepalive_s: int = 60, clean: bool = True) -> bytes:
    """CONNECT with a clean session, or with one that is kept."""
    head = b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00")
    return _packet(0x10, head + keepalive_s.to_bytes(2, "big") + _text(client_id.encode()))


def subscribe(mid: int, filters: list[str], qos: int) -> bytes:
    wanted = b"".join(_text(each.encode()) + bytes((qos,)) for each in filters)
    return _packet(0x82, mid.to_bytes(2, "big") + wanted)


def publish(topic: bytes, payload: bytes, *, qos: int = 0, mid: int = 0) -> bytes:
    if not qos:
        return _packet(0x30, _text(topic) + payload)
    return _packet(0x32, b"%b%b%b" % (_text(topic), mid.to_bytes(2, "big"), payload))


def puback(mid: int) -> bytes:
    return b"\x40\x02" + mid.to_bytes(2, "big")


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(head: int, body: bytes) -> bytes:
    length, size = len(body), bytearray((head,))
    while True:
        length, digit = divmod(length, 128)
        size.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(size) + body


class Parser:
    """Whatever slices the stream comes in, whole packets come out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Every packet that is complete now. Raises ValueError for a length of five bytes."""
        data = self._rest + data if self._rest else data
        place, end = 0, len(data)
        while end - place >= 2:
            length, shift, at = 0, 0, place + 1
            while at < end:
                digit = data[at]
                length |= (digit & 0x7F) << shift
                at += 1
                if digit < 0x80:
                    break
                shift += 7
                if shift > 21:
                    raise ValueError("remaining length")
            else:
                break
            if at + length > end:
                break
            yield _read(data[place], data, at, at + length)
            place = at + length
        self._rest = data[place:]


def _read(head: int, data: bytes, at: int, stop: int) -> Packet:
    kind = head >> 4
    if kind != PUBLISH:
        return Packet(kind, payload=data[at:stop])
    size = data[at] << 8 | data[at + 1]
    body = at + 2 + size
    topic, qos = data[at + 2 : body], head >> 1 & 3
    if not qos:
        return Packet(kind, topic, data[body:stop])
    mid = data[body] << 8 | data[body + 1]
    return Packet(kind, topic, data[body + 2 : stop], qos, mid)
