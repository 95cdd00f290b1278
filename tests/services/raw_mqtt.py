"""The first words of MQTT 5, by hand: connect, be taken or refused, and die without a word."""

from __future__ import annotations

import contextlib
import socket
import ssl

WITHIN_S = 10.0


def connect(
    port: int,
    context: ssl.SSLContext | None,
    identifier: str,
    *,
    will: tuple[str, bytes] | None = None,
    retain: bool = False,
) -> socket.socket | None:
    """The connection, once the broker said yes; None when it was refused, however it says so."""
    flags = 0x02  # clean start
    payload = _text(identifier)
    if will is not None:
        flags |= 0x04 | 0x08 | (0x20 if retain else 0)  # a will of QoS 1
        payload += b"\0" + _text(will[0]) + len(will[1]).to_bytes(2, "big") + will[1]
    body = _text("MQTT") + bytes([5, flags]) + (20).to_bytes(2, "big") + b"\0" + payload
    length = bytes([len(body) % 128 | 0x80, len(body) // 128])  # in two bytes, always
    sock: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
    try:
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        sock.sendall(b"\x10" + length + body)
        # CONNACK: type, length, flags, reason code. With TLS 1.3 a refusal comes only now.
        answer = sock.recv(4)
    except TimeoutError:
        sock.close()
        raise
    except OSError:  # ssl.SSLError is one
        answer = b""
    if len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0:
        return sock
    with contextlib.suppress(OSError):
        sock.close()
    return None


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw
