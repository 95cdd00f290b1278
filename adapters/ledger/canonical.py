"""The bytes of an audit record: what is hashed, chained and kept is one and the same.

A record is stored as canonical JSON (keys sorted, UTF-8, no blanks). Personal content stands in a
table of its own and enters the record only as `commitment` = SHA-256(salt || content): purging
content and salt leaves a chain that still verifies and tells nothing.
"""

from __future__ import annotations

import hashlib

import msgspec

from gateway.ports import Record

GENESIS = "0" * 64
"""The previous hash of a log's first record."""
SEGMENT = "segment"
"""`operation` of the record (event `security`) with which a log goes on after a gap: the records
before it are not in this ledger, and it says where they are."""

_ENCODER = msgspec.json.Encoder(order="deterministic")


def commitment(salt: bytes, content: bytes) -> str:
    """What the chain knows of personal content. salt: 16 random bytes, destroyed with it."""
    return hashlib.sha256(salt + content).hexdigest()


def encode(
    record: Record, *, log: str, seq: int, prev: str, commitment_: str, verb: str = ""
) -> bytes:
    """The canonical bytes of one record in its place. Empty members are left out, so that a
    member that is new changes no record that was written without it."""
    members: dict[str, object] = {
        name: value
        for name in record.__struct_fields__
        if name != "content" and (value := getattr(record, name)) not in ("", (), 0)
    }
    members |= {"at_ms": record.at_ms, "log": log, "seq": seq, "prev": prev}
    if commitment_:
        members["commitment"] = commitment_
    if verb:
        members["verb"] = verb
    return _ENCODER.encode(members)


def digest(canonical: bytes) -> str:
    """The hash of a record: a leaf, separated from other uses by its first byte."""
    return hashlib.sha256(b"\x00" + canonical).hexdigest()
