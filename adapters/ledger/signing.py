"""The key that signs the audit's heads: Ed25519, made at the first start, readable by us alone.

`audit-<id>.key` in the state folder (or a file that the configuration names, a credential of
systemd for instance) signs; `audit-<id>.pub` beside it verifies and is for everybody, also long
after its key is gone. The id is the first 16 hex digits of SHA-256 over the public key's 32 bytes.

A key that shall take over lies as `audit-<id>.key.new` until a head is signed by both; then the old
one is destroyed. Each step can be cut off and is finished by the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

NEW = ".new"


class BadKey(OSError):
    """A file that holds no key of this kind, or more of them than can be told apart."""


class Key:
    """One that signs."""

    def __init__(self, private: Ed25519PrivateKey, path: Path) -> None:
        self._private = private
        self.path = path
        public = private.public_key()
        self.id = key_id(public)
        self.public = public

    def sign(self, message: bytes) -> str:
        """Over 0x02 and the message: a head can be taken neither for a leaf nor for a node."""
        return self._private.sign(b"\x02" + message).hex()


class Keys:
    """The keys of one gateway. current: the one that signs; pending: it lies as `.new` yet."""

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        """Raises OSError; BadKey is one."""
        self._folder = folder
        lying = sorted(folder.glob("audit-*.key"))
        new = sorted(folder.glob(f"audit-*.key{NEW}"))
        if len(lying) > 1 or len(new) > 1:
            raise BadKey("more than one audit key: which signs?")
        found = [read_key(path) for path in (*lying, *new)]
        self.current: Key
        if key_file is not None:
            self.current = read_key(key_file)
        elif found:
            self.current = found[-1]
        else:
            self.current = make_key(folder)
        self.old = next((each for each in found if each.id != self.current.id), None)
        """Another one that is still here: it signs once more, for the one after it."""
        publish(folder, self.current)

    def settle(self) -> None:
        """The current one has signed: the old one is destroyed, and the new one takes its name."""
        if self.old is not None:
            destroy(self.old.path)
            self.old = None
        path = self.current.path
        if path.name.endswith(NEW):
            self.current.path = path.with_name(path.name.removesuffix(NEW))
            path.rename(self.current.path)
            _sync(self._folder)


def key_id(public: Ed25519PublicKey) -> str:
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def make_key(folder: Path, suffix: str = "") -> Key:
    """A new one in the folder, durable, mode 0600. Raises OSError."""
    key = Key(Ed25519PrivateKey.generate(), folder)
    key.path = folder / f"audit-{key.id}.key{suffix}"
    private = key._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(key.path, private)
    publish(folder, key)
    return key


def publish(folder: Path, key: Key) -> None:
    path = folder / f"audit-{key.id}.pub"
    if not path.exists():
        pem = key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write(path, pem)


def read_key(path: Path) -> Key:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise BadKey(f"{path.name}: not an unencrypted PEM private key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise BadKey(f"{path.name}: not an Ed25519 key")
    return Key(private, path)


def read_public(paths: list[Path]) -> dict[str, Ed25519PublicKey]:
    """id -> key, of files and of the `audit-*.pub` in folders. Raises OSError; BadKey is one."""
    found: dict[str, Ed25519PublicKey] = {}
    for path in paths:
        for each in sorted(path.glob("audit-*.pub")) if path.is_dir() else (path,):
            try:
                public = load_pem_public_key(each.read_bytes())
            except ValueError as error:
                raise BadKey(f"{each.name}: not a PEM public key") from error
            if not isinstance(public, Ed25519PublicKey):
                raise BadKey(f"{each.name}: not an Ed25519 key")
            found[key_id(public)] = public
    return found


def signed(keys: Mapping[str, Ed25519PublicKey], key: str, message: bytes, signature: str) -> bool:
    """Whether this key, if it is known, made the signature."""
    public = keys.get(key)
    if public is None:
        return False
    try:
        public.verify(bytes.fromhex(signature), b"\x02" + message)
    except (InvalidSignature, ValueError):
        return False
    return True


def destroy(path: Path) -> None:
    """Overwritten as far as the file system lets us, then gone. Raises OSError."""
    size = path.stat().st_size
    with contextlib.suppress(OSError), path.open("r+b") as file:
        file.write(b"\0" * size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    _sync(path.parent)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for us alone: a torn key would be none."""
    part = path.with_name(f".{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    part.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
