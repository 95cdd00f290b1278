"""TLS of whatever listens here: its certificate can be renewed without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""With forward secrecy and authenticated: what is left of TLS 1.2 that may be used."""


class Certificate:
    """Raises OSError or ssl.SSLError (which is one) when it cannot be used."""

    def __init__(self, cert: Path, key: Path, *, least: str) -> None:
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = (
            ssl.TLSVersion.TLSv1_2 if least == "1.2" else ssl.TLSVersion.TLSv1_3
        )
        self.context.set_ciphers(CIPHERS_1_2)
        self.context.set_alpn_protocols(["http/1.1"])
        self.renew()

    def renew(self) -> None:
        """Read both files again; connections that stand keep what they have."""
        self.context.load_cert_chain(self._cert, self._key)
