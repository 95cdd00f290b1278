"""Proofs that need no other record: that one is under a signed head, and that a head goes on from
an older one. Lines of JSON for docs/verify_audit.py. Read-only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from adapters.ledger.heads import Head, all_heads
from adapters.ledger.readers import Leaf, hashes, leaves, of_receipt, reading
from adapters.ledger.signing import read_public, signed
from adapters.ledger.tree import Range, consistency, includes, inclusion, root_of
from adapters.ledger.verify import verify_leaf
from gateway.errors import ChainBroken, LedgerUnavailable


class Inclusion(msgspec.Struct):
    """record: its canonical bytes, as text; proof: roots of subtrees, lowest first, in hex."""

    record: str
    proof: list[str]
    head: Head


class Consistency(msgspec.Struct):
    old: Head
    proof: list[str]
    head: Head


class Prover:
    """Proves records of an open ledger against its newest signed heads, and checks each proof:
    what cannot be shown is not said. keys: public ones, or folders of them."""

    def __init__(self, db: Connection, heads: Path, keys: Sequence[Path]) -> None:
        """Raises LedgerUnavailable."""
        self._db = db
        self._signed = [head for head in all_heads(heads) if head.v] if heads.exists() else []
        try:
            self._keys = read_public([*keys])
        except OSError as error:
            raise LedgerUnavailable(f"keys cannot be read: {error}") from error

    def of(self, leaf: Leaf) -> Inclusion | None:
        """None while no signed head is over it. Raises ChainBroken."""
        over = [h for h in self._signed if h.log == leaf.log and h.first <= leaf.seq <= h.seq]
        if not over:
            return None
        head = max(over, key=lambda each: each.seq)
        if not signed(self._keys, head.key, head.message(), head.sig):
            raise ChainBroken(leaf.log, head.seq, "its head is not signed by a key that is known")
        index = leaf.seq - head.first
        steps = _roots(self._db, head, inclusion(index, head.size))
        hash_, root = bytes.fromhex(leaf.hash), bytes.fromhex(head.root)
        if not includes(hash_, index, head.size, [bytes.fromhex(each) for each in steps], root):
            raise ChainBroken(leaf.log, leaf.seq, f"not in the tree of head {head.seq}")
        return Inclusion(leaf.record.decode(), steps, head)


def of_record(url: str, heads: Path, keys: Sequence[Path], log: str, seq: int) -> Iterator[bytes]:
    """One line. Raises LedgerUnavailable, ChainBroken."""
    with reading(url) as db:
        records = leaves(db, log, after=seq - 1, until=seq, contents=False)
        yield from _prove(Prover(db, heads, keys), records)


def of_check(url: str, heads: Path, keys: Sequence[Path], receipt: str) -> Iterator[bytes]:
    """A line for each record of the check that has this receipt. Raises as `of_record`."""
    with reading(url) as db:
        yield from _prove(Prover(db, heads, keys), of_receipt(db, receipt))


def between(url: str, heads: Path, log: str, old: int, new: int) -> bytes:
    """That head `new` goes on from head `old`, both named by their record's number."""
    known = {head.seq: head for head in all_heads(heads) if head.v and head.log == log}
    for seq in (old, new):
        if seq not in known:
            raise LedgerUnavailable(f"no signed head has the number {seq}")
    before, head = known[old], known[new]
    if before.first != head.first or before.size > head.size:
        raise LedgerUnavailable(f"head {new} is of another tree than head {old}")
    with reading(url) as db:
        steps = _roots(db, head, consistency(before.size, head.size))
    return msgspec.json.encode(Consistency(before, steps, head)) + b"\n"


def _prove(prover: Prover, records: Iterable[Leaf]) -> Iterator[bytes]:
    for leaf in records:
        verify_leaf(leaf)
        proof = prover.of(leaf)
        if proof is None:
            raise LedgerUnavailable(f"no head is signed over {leaf.log}:{leaf.seq} yet")
        yield msgspec.json.encode(proof) + b"\n"


def _roots(db: Connection, head: Head, ranges: list[Range]) -> list[str]:
    found = []
    for first, last in ranges:
        read = hashes(db, head.log, head.first + first - 1, head.first + last - 1)
        found.append(root_of(bytes.fromhex(leaf) for _, leaf in _whole(head, first, last, read)))
    return [root.hex() for root in found]


def _whole(
    head: Head, first: int, last: int, read: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    """Raises ChainBroken where a record is missing."""
    expected = head.first + first
    for seq, leaf in read:
        if seq != expected:
            break
        yield seq, leaf
        expected += 1
    if expected != head.first + last:
        raise ChainBroken(head.log, expected, "missing")
