"""Signatures under a policy: Ed25519, keys and signatures as base64.

An approver's private key is a PEM file of their own, never of the gateway: it knows public keys
only, and they stand in the policy.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


class Ed25519Seals:
    """gateway.ports.Seals."""

    def valid(self, key: str, signature: str, message: bytes) -> bool:
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            public.verify(base64.b64decode(signature, validate=True), message)
        except (InvalidSignature, ValueError, binascii.Error):
            return False
        return True


def new_key(path: Path) -> str:
    """Make a private key, readable by its owner alone; returns the public one. Raises OSError."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def sign(path: Path, message: bytes) -> str:
    """With the private key of this file. Raises OSError, ValueError."""
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("no private key without a passphrase") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("no Ed25519 key")  # noqa: TRY004 - wrong content of a file
    return base64.b64encode(private.sign(message)).decode()
