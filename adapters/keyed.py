"""HMAC under this instance's own key: digests that nobody can make who has the store alone.

`keyed.key` in the state folder, 32 bytes of chance, made at the first start, mode 0600. Whoever
reads the ledger but not this file cannot try out number plates against a digest. Without the file
a new key is made: equal texts from before and after are not known as equal, and nothing else is
lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from gateway.errors import LedgerUnavailable

KEY_BYTES = 32
NAME = "keyed.key"


class KeyedDigest:
    """gateway.ports.Keyed."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, purpose: str, text: str) -> bytes:
        # The purpose's length goes first: no purpose and text can be taken for another pair.
        word = purpose.encode()
        message = len(word).to_bytes(2, "big") + word + text.encode(errors="surrogatepass")
        return hmac.digest(self._key, message, hashlib.sha256)


def open_keyed(state_dir: Path) -> KeyedDigest:
    """With the key of this state folder, which is made where there is none. Blocks, shortly.

    Raises LedgerUnavailable, which names the file.
    """
    path = state_dir / NAME
    try:
        with contextlib.suppress(FileNotFoundError):
            return _of(path.read_bytes())
        _make(path)
        return _of(path.read_bytes())
    except OSError as error:
        raise LedgerUnavailable(f"{NAME}: {error.strerror}") from error


def _of(key: bytes) -> KeyedDigest:
    if len(key) != KEY_BYTES:
        raise LedgerUnavailable(f"{NAME}: not a key of {KEY_BYTES} bytes; delete it for a new one")
    return KeyedDigest(key)


def _make(path: Path) -> None:
    """Whole or not at all, for us alone: a torn key would be none."""
    part = path.with_name(f".{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
