"""The Merkle tree over a log's records: roots, and proofs that need no other record (RFC 6962).

A leaf is a record's own hash (canonical.digest: SHA-256 of 0x00 and its bytes); a node is SHA-256
of 0x01 and its two children, so that neither can be taken for the other. Proofs are given as ranges
of leaves first: whoever has the leaves in a database reads each range once and keeps none of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY = hashlib.sha256().digest()
"""The root of a tree without leaves."""

Range = tuple[int, int]
"""Leaves from the first on and before the last, counted from 0."""


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """What of a tree must be kept to go on with it: the roots of its whole subtrees, largest first;
    at most one for each bit of `size`."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        size = self.size
        while size & 1:
            leaf = node(self.peaks.pop(), leaf)
            size >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Sequence[bytes]) -> None:
        """As `append` of each, with half the work: whole subtrees are made level by level."""
        at = 0
        while at < len(leaves):
            whole = self.size & -self.size or len(leaves)
            whole = min(whole, 1 << (len(leaves) - at).bit_length() - 1)
            whole = 1 << whole.bit_length() - 1
            peak = _whole(leaves[at : at + whole])
            bits = self.size // whole
            while bits & 1:
                peak = node(self.peaks.pop(), peak)
                bits >>= 1
            self.peaks.append(peak)
            self.size += whole
            at += whole

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node(peak, root)
        return root

    def sound(self) -> bool:
        """Whether there are as many peaks as a tree of this size has."""
        return self.size >= 0 and len(self.peaks) == self.size.bit_count()


def _whole(level: Sequence[bytes]) -> bytes:
    """The root over a power of two of leaves."""
    sha256 = hashlib.sha256
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return level[0]


def root_of(leaves: Iterable[bytes]) -> bytes:
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def inclusion(index: int, size: int) -> list[Range]:
    """The subtrees whose roots prove that leaf `index` is in the tree of `size`, lowest first."""
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    found: list[Range] = []
    first, last = 0, size
    while last - first > 1:
        middle = first + _left(last - first)
        if index < middle:
            found.append((middle, last))
            last = middle
        else:
            found.append((first, middle))
            first = middle
    return found[::-1]


def consistency(old: int, size: int) -> list[Range]:
    """The subtrees whose roots prove that the tree of `size` begins with the tree of `old`."""
    if not 0 < old <= size:
        raise ValueError("no such tree")
    found: list[Range] = []
    first, last, whole = 0, size, True
    while old != last:
        middle = first + _left(last - first)
        if old <= middle:
            found.append((middle, last))
            last = middle
        else:
            found.append((first, middle))
            first, whole = middle, False
    if not whole:
        found.append((first, last))
    return found[::-1]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof leads from the leaf to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    here, end, value = index, size - 1, leaf
    for step in proof:
        if end == 0:
            return False
        if here & 1 or here == end:
            value = node(step, value)
            while not here & 1 and here:
                here >>= 1
                end >>= 1
        else:
            value = node(value, step)
        here >>= 1
        end >>= 1
    return end == 0 and value == root


def extends(old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """Whether the proof shows that the one tree begins with the other (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    steps = [*proof]
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    here, end = old - 1, size - 1
    while here & 1:
        here >>= 1
        end >>= 1
    before = after = steps[0]
    for step in steps[1:]:
        if end == 0:
            return False
        if here & 1 or here == end:
            before, after = node(step, before), node(step, after)
            while not here & 1 and here:
                here >>= 1
                end >>= 1
        else:
            after = node(after, step)
        here >>= 1
        end >>= 1
    return end == 0 and before == old_root and after == root


def _left(size: int) -> int:
    """The largest power of two below `size`: how many leaves stand left of the middle."""
    return 1 << (size - 1).bit_length() - 1
