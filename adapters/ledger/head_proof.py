"""Whether heads are what our keys signed, and fit each other, before a chain is held against them.

A file of all heads (`heads.jsonl`) is a chain of its own: each names the one before, and another
key takes over only by a head that both signed, or that says that the old one was lost. An anchor
may have missed some; each that it has must stand by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from adapters.ledger.heads import VERSION, Head
from adapters.ledger.signing import signed
from gateway.errors import ChainBroken


class Source(msgspec.Struct, frozen=True):
    """Heads that somebody kept. whole: none may be missing between them."""

    name: str
    heads: list[Head]
    whole: bool = False


class Proven(msgspec.Struct):
    """What is known of one log: hashes by sequence, of signed heads and of old ones; those that are
    signed; and keys that were lost."""

    known: dict[int, set[str]] = {}
    signed: dict[int, list[Head]] = {}
    lost: list[str] = []


def prove(sources: Iterable[Source], keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Proven]:
    """By log. Raises ChainBroken naming the record of the first bad head."""
    found: dict[str, Proven] = {}
    for source in sources:
        newest: dict[str, Head] = {}
        for head in source.heads:
            before = newest.get(head.log)
            bad = _fault(head, keys) if head.v else "not signed" if before is not None else ""
            bad = bad or (_break(head, before, source.whole) if head.v and before else "")
            if bad:
                raise ChainBroken(head.log, head.seq, f"its head in {source.name}: {bad}")
            proven = found.setdefault(head.log, Proven())
            proven.known.setdefault(head.seq, set()).add(head.hash)
            if head.v:
                newest[head.log] = head
                proven.signed.setdefault(head.seq, []).append(head)
                if head.lost and head.lost not in proven.lost:
                    proven.lost.append(head.lost)
    return found


def _fault(head: Head, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """What is wrong with one by itself."""
    message = head.message()
    if head.v != VERSION:
        return f"version {head.v} is not known here"
    if head.key not in keys:
        return f"signed by {head.key}, a key that is not known"
    if not signed(keys, head.key, message, head.sig):
        return "its signature is not that of its key"
    if head.rotates and not signed(keys, head.rotates, message, head.old_sig):
        return "the key that it replaces did not sign it"
    if head.size != head.seq - head.first + 1:
        return "its size is not that of its tree"
    return ""


def _break(head: Head, before: Head, whole: bool) -> str:
    """What is wrong with it behind the signed head before it."""
    if head.seq < before.seq:
        return "older than the head before it"
    if not whole:
        return ""
    if head.prev != before.digest():
        return "does not follow the head before it"
    if head.key != before.key and before.key not in (head.rotates, head.lost):
        return "another key, and no word of the one before"
    return ""
