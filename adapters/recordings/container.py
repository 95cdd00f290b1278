"""The file of a recording: framed, described by itself, sealed; a cut tail costs what was cut.

    RGREC1\\n                          the first line
    length (4 octets, big-endian), header     JSON in the clear: how it is sealed, nothing personal
    length, block    length, block ...        each a list of items (MessagePack), sealed by itself

Sealed to a public key (X25519), the host that records cannot read what it recorded: the secret of
each file is agreed with a key pair of its own, whose private half is dropped at once. With a key
file whoever has that file reads it. ChaCha20-Poly1305; the nonce is the block's number and the
header is authenticated with each: nothing can be left out of the middle, exchanged or put in
another file unseen. Not sealed, a block has its CRC-32 in front. For strangers: docs/recording.md.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

MAGIC = b"RGREC1\n"
FORMAT = 1
KEY_BYTES = 32
HEADER_MOST = 4096
BLOCK_MOST = 4 * 1024 * 1024
NONE, PUBLIC, SHARED = "none", "x25519", "key"
_LENGTH = struct.Struct(">I")
_INFO = b"radio-gateway recording 1"


class RecordingUnreadable(Exception):
    """It is no recording, the key is another, or it was changed; never what stands in it."""


class LinkAbout(msgspec.Struct, frozen=True):
    """A link that was recorded. section: its own of gateway.toml (settings.SerialSection ...), all
    that a replay needs; kind: which one that is."""

    name: str
    kind: str
    codec: str
    section: dict[str, object]


class About(msgspec.Struct, frozen=True, array_like=True, tag="about"):
    """The first item: whose recording it is. file: the how manieth of this run."""

    instance: str
    version: str
    config: str
    file: int
    links: tuple[LinkAbout, ...]


class Heard(msgspec.Struct, frozen=True, array_like=True, tag="heard"):
    """What a link was told. at_ms: wall clock. mono_us: monotonic clock of the machine. link: its
    place in About.links. channel: as gateway.ports.Tap."""

    at_ms: int
    mono_us: int
    link: int
    channel: str
    data: bytes


class Lost(msgspec.Struct, frozen=True, array_like=True, tag="lost"):
    """So many that were heard are missing here: the disk was full or slow."""

    at_ms: int
    count: int


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """The last item of a file that was closed in order."""

    at_ms: int


Item = About | Heard | Lost | End
_ITEMS = msgspec.msgpack.Decoder(list[Item])


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """In the clear. ours: the public half of this file's own key pair. key: whose key it is, as
    `fingerprint`."""

    format: int
    sealed: str
    begun_ms: int
    key: str = ""
    ours: str = ""
    salt: str = ""


class Key(msgspec.Struct, frozen=True):
    """What a key file holds: one half of a pair, or a secret that both sides have."""

    public: bytes = b""
    private: bytes = b""
    shared: bytes = b""

    @property
    def fingerprint(self) -> str:
        """Names a key without saying anything of a secret one."""
        digest = Hash(SHA256())
        digest.update(_INFO + (self.public or b"shared" + self.shared))
        return digest.finalize().hex()[:16]


def read_key(path: Path) -> Key:
    """A PEM of X25519 (either half), or 32 octets in base64. Raises OSError, ValueError."""
    data = path.read_bytes()
    try:
        if b"PRIVATE KEY" in data:
            private = load_pem_private_key(data, None)
            if isinstance(private, X25519PrivateKey):
                return Key(public=_raw(private.public_key()), private=private.private_bytes_raw())
        elif b"PUBLIC KEY" in data:
            public = load_pem_public_key(data)
            if isinstance(public, X25519PublicKey):
                return Key(public=_raw(public))
        else:
            shared = base64.b64decode(data.strip(), validate=True)
            if len(shared) == KEY_BYTES:
                return Key(shared=shared)
    except (binascii.Error, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("neither a key of X25519 (PEM) nor 32 octets in base64") from error
    raise ValueError("neither a key of X25519 (PEM) nor 32 octets in base64")


def make_key(path: Path) -> Path:
    """A pair: the private half in this file, readable by its owner alone, the public one beside it
    (`.pub`), whose path is returned. Raises OSError."""
    private = X25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public = path.with_name(f"{path.name}.pub")
    public.write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return public


def _raw(public: X25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _cipher(secret: bytes, salt: bytes) -> ChaCha20Poly1305:
    derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_INFO).derive(secret)
    return ChaCha20Poly1305(derived)


class Writing:
    """One file being written. Blocks; belongs to the writer's thread. Raises OSError."""

    def __init__(self, path: Path, key: Key | None, *, begun_ms: int) -> None:
        salt, ours, sealed = os.urandom(16), b"", NONE
        self._cipher: ChaCha20Poly1305 | None = None
        if key is not None and key.public:
            pair = X25519PrivateKey.generate()
            ours, sealed = _raw(pair.public_key()), PUBLIC
            secret = pair.exchange(X25519PublicKey.from_public_bytes(key.public))
            self._cipher = _cipher(secret, salt + ours + key.public)
        elif key is not None:
            sealed = SHARED
            self._cipher = _cipher(key.shared, salt)
        self._header = msgspec.json.encode(
            Header(
                format=FORMAT,
                sealed=sealed,
                begun_ms=begun_ms,
                key=key.fingerprint if key is not None else "",
                ours=base64.b64encode(ours).decode(),
                salt=base64.b64encode(salt).decode(),
            )
        )
        self._number = 0
        self.path = path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)
        self.size = 0
        self._put(MAGIC + _LENGTH.pack(len(self._header)) + self._header)

    def write(self, items: list[Item]) -> None:
        """One block. After an OSError the file is as it was, and done with: no nonce may be used
        for a second block, whatever of the first one reached the disk."""
        data = msgspec.msgpack.encode(items)
        if self._cipher is not None:
            nonce = self._number.to_bytes(12, "big")
            data = self._cipher.encrypt(nonce, data, self._header)
        else:
            data = zlib.crc32(data).to_bytes(4, "big") + data
        self._number += 1
        self._put(_LENGTH.pack(len(data)) + data)

    def _put(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:]) or 0
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self.size)
            raise
        self.size += len(data)

    def close(self) -> None:
        self._file.close()


class Recording:
    """One file, read. `cut`: whether its end is missing; known once all items were taken."""

    def __init__(self, about: About, items: Iterator[Item], header: Header) -> None:
        self.about = about
        self.header = header
        self.cut = True
        self._items = items

    def items(self) -> Iterator[Item]:
        """Oldest first, once. Raises RecordingUnreadable for what was changed."""
        for each in self._items:
            if isinstance(each, End):
                self.cut = False
            yield each


def opened(data: bytes, key: Key | None = None) -> Recording:
    """data: the whole file. Raises RecordingUnreadable."""
    if not data.startswith(MAGIC):
        raise RecordingUnreadable("not a recording")
    framed = _framed(data, len(MAGIC))
    header_bytes = next(framed, b"")
    try:
        header = msgspec.json.decode(header_bytes, type=Header)
        salt, ours = base64.b64decode(header.salt), base64.b64decode(header.ours)
    except (msgspec.DecodeError, ValueError) as error:
        raise RecordingUnreadable("its header cannot be read") from error
    if header.format != FORMAT:
        raise RecordingUnreadable(f"format {header.format}: this program reads {FORMAT}")
    items = _items(framed, _unsealing(header, salt, ours, key, header_bytes))
    about = next(items, None)
    if not isinstance(about, About):
        raise RecordingUnreadable("it ends before it says what it is of")
    return Recording(about, _of_its_links(items, len(about.links)), header)


def _of_its_links(items: Iterator[Item], links: int) -> Iterator[Item]:
    for each in items:
        if isinstance(each, Heard) and not 0 <= each.link < links:
            raise RecordingUnreadable("it speaks of a link that it does not have")
        yield each


def _framed(data: bytes, at: int) -> Iterator[bytes]:
    """The frames that are there whole: what a crash cut off is no frame."""
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data) or length > BLOCK_MOST:
            return
        yield data[at : at + length]
        at += length


def _unsealing(
    header: Header, salt: bytes, ours: bytes, key: Key | None, header_bytes: bytes
) -> Callable[[int, bytes], bytes]:
    if header.sealed == NONE:
        return _unsealed
    if header.sealed not in (PUBLIC, SHARED):
        raise RecordingUnreadable("sealed in a way that this program does not know")
    if key is None:
        raise RecordingUnreadable("it is sealed: give its key")
    if header.key != key.fingerprint:
        raise RecordingUnreadable("it is sealed with another key")
    if header.sealed == PUBLIC:
        if not key.private:
            raise RecordingUnreadable("it is sealed: give the private half of its key")
        try:
            pair = X25519PrivateKey.from_private_bytes(key.private)
            secret = pair.exchange(X25519PublicKey.from_public_bytes(ours))
        except ValueError as error:
            raise RecordingUnreadable("its header cannot be read") from error
        cipher = _cipher(secret, salt + ours + key.public)
    else:
        cipher = _cipher(key.shared, salt)

    def unsealed(number: int, data: bytes) -> bytes:
        try:
            return cipher.decrypt(number.to_bytes(12, "big"), data, header_bytes)
        except InvalidTag as error:
            raise RecordingUnreadable(f"block {number}: it was changed") from error

    return unsealed


def _unsealed(number: int, data: bytes) -> bytes:
    if zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        raise RecordingUnreadable(f"block {number}: it was changed")
    return data[4:]


def _items(frames: Iterator[bytes], unseal: Callable[[int, bytes], bytes]) -> Iterator[Item]:
    for number, frame in enumerate(frames):
        try:
            yield from _ITEMS.decode(unseal(number, frame))
        except msgspec.DecodeError as error:
            raise RecordingUnreadable(f"block {number}: it cannot be read") from error
