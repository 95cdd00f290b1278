"""Proving the chain: every record in its place, hashed as it stands, linked to the one before.

A plain chain verifies after its tail is cut off, and after all of it was written anew; heads kept
elsewhere (an anchor, a copy of `heads.jsonl`) are what shows that: where a head is signed, the tree
up to its record must have its root. Purged content leaves nothing to check but its commitment.
Where a log went on after a gap (a broken file was moved aside, an old copy was put back) the record
of it stands behind the gap, and the gap is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec

from adapters.ledger import canonical
from adapters.ledger.head_proof import Proven
from adapters.ledger.heads import Head
from adapters.ledger.readers import Leaf, leaves, logs, reading
from adapters.ledger.tree import Frontier
from gateway.errors import ChainBroken

Heads = Mapping[int, Set[str]]
"""Sequence -> what heads files say its hash is."""


class Place(NamedTuple):
    """A record's sequence and hash: where to go on from."""

    seq: int
    hash: str


class Verified(msgspec.Struct, frozen=True):
    """A log that verifies, up to and with `seq`.

    records: how many there are. purged: those whose content is gone. gaps: first and last number
    of the records that are not here, each on record itself. signed: how many signed heads have the
    tree's root; headed: the last record that one of them covers.
    """

    log: str
    seq: int
    hash: str
    records: int
    purged: int
    gaps: tuple[tuple[int, int], ...]
    signed: int = 0
    headed: int = 0


class _Body(msgspec.Struct):
    """What of a record the chain is made of."""

    log: str
    seq: int
    prev: str
    event: str
    operation: str = ""
    commitment: str = ""


_DECODER = msgspec.json.Decoder(_Body)


def verify(url: str, heads: Mapping[str, Proven]) -> list[Verified]:
    """Every log of this ledger. Raises ChainBroken naming the first bad record."""
    with reading(url) as db:
        found = []
        for log in logs(db):
            proven = heads.get(log, Proven())
            found.append(verify_log(log, leaves(db, log), proven.known, signed=proven.signed))
    missing = set(heads) - {each.log for each in found}
    if missing:
        raise ChainBroken(min(missing), 0, "the heads know this log, the ledger does not")
    return found


_NONE: Mapping[int, Sequence[Head]] = {}
BEHIND_MOST = 4096


def verify_log(
    log: str,
    records: Iterable[Leaf],
    heads: Heads,
    *,
    signed: Mapping[int, Sequence[Head]] = _NONE,
    start: Place | None = None,
) -> Verified:
    """One log, from its first record on or behind `start`. Raises ChainBroken.

    heads: what is known of it; signed: those of them whose root is compared, too (from the first
    record on).
    """
    seq, prev = start or (0, canonical.GENESIS)
    count = purged = proved = 0
    agreed = seq
    first, tree = 1, Frontier()
    behind: list[bytes] = []
    """Leaves that are not in the tree yet: many at once cost half."""
    gaps: list[tuple[int, int]] = []
    for leaf in records:
        expected, seq = seq + 1, leaf.seq
        body = _body(log, expected, leaf)
        if seq != expected:
            if not _begins_segment(body, leaf, heads):
                raise ChainBroken(log, expected, f"missing; the next one there is {seq}")
            gaps.append((expected, seq - 1))
            prev = body.prev
            first, tree = seq, Frontier()
            behind.clear()
        if (body.log, body.seq) != (log, seq):
            # Something was put in, taken out or moved: at the latest where its number is that of.
            where = min(seq, body.seq) if body.log == log and body.seq > 0 else seq
            raise ChainBroken(log, where, f"{seq} is not the record that was written as {seq}")
        if body.prev != prev:
            # Both hold by themselves; which of them was changed, only a head could tell.
            raise ChainBroken(log, max(1, seq - 1), f"it was changed, or {seq} that follows it")
        purged += not _holds_content(leaf, body)
        prev = leaf.hash
        count += 1
        if signed:
            behind.append(bytes.fromhex(leaf.hash))
            if seq in signed or len(behind) == BEHIND_MOST:
                tree.extend(behind)
                behind.clear()
        if seq in heads:
            _agrees(log, leaf, heads[seq], agreed)
            for head in signed.get(seq, ()):
                if (head.first, head.size, head.root) != (first, tree.size, tree.root().hex()):
                    raise ChainBroken(
                        log,
                        agreed + 1,
                        f"not the tree of head {seq}: bad within {agreed + 1}..{seq}",
                    )
                proved += 1
            agreed = seq
    known = max(heads, default=0)
    if known > seq:
        raise ChainBroken(log, seq + 1, f"cut off: the heads know {known} records")
    return Verified(log, seq, prev, count, purged, tuple(gaps), proved, agreed if proved else 0)


def _agrees(log: str, leaf: Leaf, said: Set[str], agreed: int) -> None:
    """Whether a head's record is this one. A chain that was written anew verifies by itself; that
    the records between two heads are others is all that is left to be known of it."""
    if said == {leaf.hash}:
        return
    what = "two heads say two things of" if leaf.hash in said else "the heads know another"
    reason = f"{what} {leaf.seq}: bad within {agreed + 1}..{leaf.seq}"
    raise ChainBroken(log, agreed + 1, reason)


def verify_leaf(leaf: Leaf) -> None:
    """One record by itself, without its neighbours. Raises ChainBroken."""
    body = _body(leaf.log, leaf.seq, leaf)
    if (body.log, body.seq) != (leaf.log, leaf.seq):
        raise ChainBroken(leaf.log, leaf.seq, "stands in another's place")
    _holds_content(leaf, body)


def _holds_content(leaf: Leaf, body: _Body) -> bool:
    """False when it was purged. Raises ChainBroken when it is another."""
    if leaf.content is None or leaf.salt is None:
        return not body.commitment
    if canonical.commitment(leaf.salt, leaf.content) != body.commitment:
        raise ChainBroken(leaf.log, leaf.seq, "its content is not what was committed to")
    return True


def _body(log: str, expected: int, leaf: Leaf) -> _Body:
    """Raises ChainBroken. Behind a missing record the next one is not yet worth a look."""
    bad = "its bytes do not have its hash" if canonical.digest(leaf.record) != leaf.hash else ""
    try:
        if not bad:
            return _DECODER.decode(leaf.record)
    except msgspec.DecodeError:
        bad = "not a record"
    if leaf.seq != expected:
        raise ChainBroken(log, expected, f"missing; the next one there is {leaf.seq}")
    raise ChainBroken(log, leaf.seq, bad)


def _begins_segment(body: _Body, leaf: Leaf, heads: Heads) -> bool:
    """Whether this record may stand behind a gap: it says so, and hangs on a head that is known.

    Without heads nothing can tell a gap from a tail that was cut off and written anew (F17).
    """
    if (body.event, body.operation) != ("security", canonical.SEGMENT):
        return False
    before = [hashes for seq, hashes in heads.items() if seq < leaf.seq]
    return not before or any(body.prev in hashes for hashes in before)
