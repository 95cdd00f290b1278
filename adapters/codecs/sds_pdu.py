"""SDS-TL: transfers, reports and acknowledgements, to their fields and back. Pure.

A three-bit forward address type (7 is none), an address of its own length for each, and a short
report by its own six bits: that is where public decoders go wrong (reference 7).
Source: reference radio-protocols, 1.5 and 2.2.
"""

from __future__ import annotations

import msgspec

TRANSFER, REPORT, ACK = 0, 1, 2
RECEIVED, RECEIVED_ACK, CONSUMED, CONSUMED_ACK = 0x00, 0x01, 0x02, 0x03
PART_RECEIVED = 0x06
UNSUPPORTED, UNCODED, TOO_LONG = 0x50, 0x51, 0x54
NOTHING, WHEN_RECEIVED, WHEN_CONSUMED, BOTH = 0, 1, 2, 3
"""What of a message its sender wants reported."""

SHORT_FIRST, SHORT_LAST = 0x7C00, 0x7FFF
SHORT_UNSUPPORTED, SHORT_FULL, SHORT_RECEIVED, SHORT_CONSUMED = 0, 1, 2, 3
EMERGENCY = 0x0000
USER_FIRST = 0x8000
"""From here a status means what its network or its user says."""

NO_ADDRESS = 7
_ADDRESS_OCTETS = {0: 1, 1: 3, 2: 6, NO_ADDRESS: 0}
"""Short number, SSI, TSI, none. External (3) says its own length; the others are reserved."""
_EXTERNAL = 3


class Transfer(msgspec.Struct, frozen=True):
    """validity, forward: of the storage block; None and NO_ADDRESS without one."""

    pid: int
    reference: int
    data: bytes
    wanted: int = NOTHING
    selection: int = 1
    validity: int | None = None
    forward: int = NO_ADDRESS
    address: bytes = b""


class Report(msgspec.Struct, frozen=True):
    pid: int
    reference: int
    status: int
    ack: bool = False


class Ack(msgspec.Struct, frozen=True):
    pid: int
    reference: int
    status: int


class ShortReport(msgspec.Struct, frozen=True):
    kind: int
    reference: int


class Wrong(Exception):
    """No PDU; reason: one of FRAME_REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read(data: bytes) -> Transfer | Report | Ack | None:
    """The PDU behind a PID with SDS-TL; None for a type that we do not know. Raises Wrong."""
    if len(data) < 2:
        raise Wrong("length")
    pid, kind, flags = data[0], data[1] >> 4, data[1] & 0xF
    match kind:
        case 0:
            if len(data) < 3:
                raise Wrong("length")
            stored = _block(data, 3) if flags & 1 else (None, NO_ADDRESS, b"", 3)
            validity, forward, address, start = stored
            return Transfer(
                pid=pid,
                reference=data[2],
                data=data[start:],
                wanted=flags >> 2,
                selection=flags >> 1 & 1,
                validity=validity,
                forward=forward,
                address=address,
            )
        case 1 | 2 if len(data) < 4:
            raise Wrong("length")
        case 1:
            return Report(pid=pid, reference=data[3], status=data[2], ack=bool(flags & 8))
        case 2:
            return Ack(pid=pid, reference=data[3], status=data[2])
        case _:
            return None


def _block(data: bytes, at: int) -> tuple[int, int, bytes, int]:
    """The storage block: validity, forward address type, address, and where the data begins."""
    if len(data) <= at:
        raise Wrong("length")
    validity, forward = data[at] >> 3, data[at] & 7
    at += 1
    if forward == _EXTERNAL:
        if len(data) <= at:
            raise Wrong("length")
        octets = 1 + (data[at] + 1) // 2
    elif forward in _ADDRESS_OCTETS:
        octets = _ADDRESS_OCTETS[forward]
    else:
        raise Wrong("decode")
    if len(data) < at + octets:
        raise Wrong("length")
    return validity, forward, data[at : at + octets], at + octets


def transfer(pid: int, reference: int, data: bytes, wanted: int = NOTHING) -> bytes:
    """Without storage: what comes too late is not to come. Selection 1, as others send it."""
    return bytes((pid, wanted << 2 | 2, reference)) + data


def report(pid: int, reference: int, status: int) -> bytes:
    return bytes((pid, REPORT << 4, status, reference))


def ack(pid: int, reference: int, status: int) -> bytes:
    return bytes((pid, ACK << 4, status, reference))


def short_report(status: int) -> ShortReport | None:
    """What a pre-coded status in the range of short reports says; None for one outside it."""
    if not SHORT_FIRST <= status <= SHORT_LAST:
        return None
    return ShortReport(kind=status >> 8 & 3, reference=status & 0xFF)


def as_short(kind: int, reference: int) -> bytes:
    return (SHORT_FIRST | kind << 8 | reference).to_bytes(2, "big")
