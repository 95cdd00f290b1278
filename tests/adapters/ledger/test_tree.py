"""The tree is that of RFC 6962: published roots and proofs, and the properties of both."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ledger.tree import (
    EMPTY,
    Frontier,
    consistency,
    extends,
    includes,
    inclusion,
    node,
    root_of,
)

INPUTS = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
"""The eight leaves of certificate-transparency's own tests (merkletree/merkle_tree_test.cc)."""
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [hashlib.sha256(b"\x00" + bytes.fromhex(each)).digest() for each in INPUTS]


def leaves_of(n: int) -> list[bytes]:
    return [hashlib.sha256(b"\x00%d" % each).digest() for each in range(n)]


def roots(leaves: list[bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    return [root_of(leaves[first:last]) for first, last in ranges]


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node(by_definition(leaves[:k]), by_definition(leaves[k:]))


def test_the_published_roots() -> None:
    assert root_of([]) == EMPTY == hashlib.sha256().digest()
    assert [root_of(LEAVES[: n + 1]).hex() for n in range(8)] == ROOTS


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            2,
            3,
            ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
        ),
    ],
)
def test_the_published_proofs(index: int, size: int, proof: list[str]) -> None:
    """certificate-transparency's precomputed paths."""
    found = roots(LEAVES, inclusion(index, size))
    assert [each.hex() for each in found] == proof
    assert includes(LEAVES[index], index, size, found, bytes.fromhex(ROOTS[size - 1]))


def test_every_small_tree_proves_each_of_its_leaves_and_of_its_beginnings() -> None:
    """All (i, n) and (m, n) with n <= 64; a proof of another place or size proves nothing."""
    leaves = leaves_of(64)
    for size in range(1, 65):
        root = by_definition(leaves[:size])
        assert root_of(leaves[:size]) == root
        for index in range(size):
            proof = roots(leaves, inclusion(index, size))
            assert includes(leaves[index], index, size, proof, root)
            assert not includes(leaves[index], index ^ 1, size, proof, root)
            assert not includes(leaves[(index + 1) % 64], index, size, proof, root)
        for old in range(1, size + 1):
            proof = roots(leaves, consistency(old, size))
            old_root = root_of(leaves[:old])
            assert extends(old, size, proof, old_root, root)
            assert not extends(old, size, proof, b"\0" * 32, root)
            assert not extends(old, size, [*proof, b"\0" * 32], old_root, root)


@given(st.integers(1, 3000), st.data())
def test_larger_ones_too(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    root = root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    assert includes(leaves[index], index, size, roots(leaves, inclusion(index, size)), root)
    old = data.draw(st.integers(1, size))
    proof = roots(leaves, consistency(old, size))
    assert extends(old, size, proof, root_of(leaves[:old]), root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        assert not extends(old, size, proof, root_of(leaves[:old]), root)


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_kept_frontier_goes_on_as_if_it_had_never_stopped(first: int, more: int) -> None:
    leaves = leaves_of(first + more)
    tree = Frontier()
    for leaf in leaves[:first]:
        tree.append(leaf)
    again = Frontier(tree.size, tree.peaks)
    assert again.sound()
    for leaf in leaves[first:]:
        again.append(leaf)
    assert again.root() == by_definition(leaves)
    assert not Frontier(first + 1, tree.peaks).sound() or (first + 1).bit_count() == len(tree.peaks)


def test_a_node_is_no_leaf() -> None:
    """Domain separation: the bytes of two children are another hash as a record."""
    left, right = LEAVES[0], LEAVES[1]
    assert node(left, right) != hashlib.sha256(b"\x00" + left + right).digest()
    assert node(left, right) == hashlib.sha256(b"\x01" + left + right).digest()


def test_what_is_no_tree_is_refused() -> None:
    for bad in (lambda: inclusion(3, 3), lambda: consistency(4, 3), lambda: consistency(0, 3)):
        with pytest.raises(ValueError, match="no such"):
            bad()
    assert not includes(LEAVES[0], 3, 3, [], LEAVES[0])
    assert not extends(0, 3, [], LEAVES[0], LEAVES[0])


@given(steps=st.lists(st.integers(0, 70), max_size=12))
def test_many_leaves_at_once_make_the_same_tree_as_one_by_one(steps: list[int]) -> None:
    """At each stop: root and what is kept of it to go on."""
    leaves = leaves_of(sum(steps))
    many, one = Frontier(), Frontier()
    at = 0
    for step in steps:
        many.extend(leaves[at : at + step])
        for leaf in leaves[at : at + step]:
            one.append(leaf)
        at += step
        assert (many.size, many.peaks, many.root()) == (one.size, one.peaks, one.root())
        assert many.sound()
