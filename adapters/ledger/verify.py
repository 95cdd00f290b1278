"""Proving the chain: every record in its place, hashed as it stands, linked to the one before.

A plain chain verifies after its tail is cut off; heads kept elsewhere (`heads.jsonl` copied off
the host) are what shows that. Purged content leaves nothing to check but its commitment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from adapters.ledger import canonical
from adapters.ledger.readers import Leaf, leaves, logs, reading
from gateway.errors import ChainBroken, LedgerUnavailable


class Verified(msgspec.Struct, frozen=True):
    """A log that verifies, up to and with `seq`. purged: records whose content is gone."""

    log: str
    seq: int
    hash: str
    purged: int


class Head(msgspec.Struct):
    log: str
    seq: int
    hash: str


def read_heads(path: Path) -> dict[str, dict[int, str]]:
    """log -> sequence -> hash. Raises LedgerUnavailable naming file and line."""
    heads: dict[str, dict[int, str]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise LedgerUnavailable(f"{path.name}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            head = msgspec.json.decode(line, type=Head)
        except msgspec.DecodeError as error:
            raise LedgerUnavailable(f"{path.name}:{number}: not a head") from error
        heads.setdefault(head.log, {})[head.seq] = head.hash
    return heads


def verify(url: str, heads: Mapping[str, Mapping[int, str]]) -> list[Verified]:
    """Every log of this ledger. Raises ChainBroken naming the first bad record."""
    with reading(url) as db:
        found = [verify_log(log, leaves(db, log), heads.get(log, {})) for log in logs(db)]
    missing = set(heads) - {each.log for each in found}
    if missing:
        raise ChainBroken(min(missing), 0, "the heads know this log, the ledger does not")
    return found


def verify_log(log: str, records: Iterable[Leaf], heads: Mapping[int, str]) -> Verified:
    """One log from its first record on. Raises ChainBroken."""
    seq, prev, purged = 0, canonical.GENESIS, 0
    for leaf in records:
        seq += 1
        if leaf.seq != seq:
            raise ChainBroken(log, seq, f"missing; the next one there is {leaf.seq}")
        if canonical.digest(leaf.record) != leaf.hash:
            raise ChainBroken(log, seq, "its bytes do not have its hash")
        try:
            body = msgspec.json.decode(leaf.record, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise ChainBroken(log, seq, "not a record") from error
        if (body.get("log"), body.get("seq"), body.get("prev")) != (log, seq, prev):
            raise ChainBroken(log, seq, "does not follow the record before it")
        promised = body.get("commitment")
        if leaf.content is not None and leaf.salt is not None:
            if canonical.commitment(leaf.salt, leaf.content) != promised:
                raise ChainBroken(log, seq, "its content is not what was committed to")
        elif promised:
            purged += 1
        if heads.get(seq, leaf.hash) != leaf.hash:
            raise ChainBroken(log, seq, "not the record that the heads file knows")
        prev = leaf.hash
    known = max(heads, default=0)
    if known > seq:
        raise ChainBroken(log, seq + 1, f"cut off: the heads know {known} records")
    return Verified(log, seq, prev, purged)
