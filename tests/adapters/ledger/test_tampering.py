"""The seven tamperings, each found and named by `audit verify` and by docs/verify_audit.py."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ledger import (
    canonical,
    prove_consistency,
    prove_records,
    signing,
    verify_chain,
)
from adapters.ledger.export import line_of
from adapters.ledger.head_proof import Source, prove
from adapters.ledger.heads import Head, all_heads
from adapters.ledger.readers import Leaf
from adapters.ledger.tree import root_of
from adapters.ledger.verify import verify_log
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.ports import Record
from gateway.settings import AuditSection, LedgerSection
from tests.adapters.ledger.books import ROOT, fill, opened

PROGRAM = ROOT / "docs" / "verify_audit.py"
MANY, HALF = 38, 25


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


theirs = load(PROGRAM)


class Books:
    """A ledger of 38 records with heads of 10, 20, 25, 35 and 38; `elsewhere` has those, too."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.old = folder / "old"
        self.elsewhere = folder / "anchor.jsonl"
        self.keys = folder / "keys"

    async def write(self) -> None:
        store = await opened(self.state, audit=AuditSection(heads_every=10))
        await fill(store, range(HALF))
        await store.close()
        shutil.copytree(self.state, self.old)
        store = await opened(self.state, audit=AuditSection(heads_every=10))
        await fill(store, range(HALF, MANY))
        await store.close()
        shutil.copy(self.state / "heads.jsonl", self.elsewhere)
        self.keys.mkdir()
        for path in self.state.glob("audit-*.pub"):
            shutil.copy(path, self.keys)

    def leaves(self) -> list[Leaf]:
        with contextlib.closing(sqlite3.connect(self.state / "ledger.db")) as db:
            query = "SELECT log, seq, at_ms, record, hash FROM audit_leaf ORDER BY log, seq"
            return [Leaf(*row) for row in db.execute(query)]

    def put(self, leaves: list[Leaf], *, contents: bool = True) -> None:
        """Whoever owns the database can make it say anything."""
        with contextlib.closing(sqlite3.connect(self.state / "ledger.db")) as db, db:
            names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in names.fetchall():
                db.execute(f"DROP TRIGGER {name}")
            db.execute("DELETE FROM audit_leaf")
            if not contents:
                db.execute("DELETE FROM audit_content")
            db.executemany(
                "INSERT INTO audit_leaf VALUES (?, ?, ?, 'opened', '', '', ?, ?)",
                [(leaf.log, leaf.seq, leaf.at_ms, leaf.record, leaf.hash) for leaf in leaves],
            )

    def ours(self, *heads: Path) -> int:
        """The number that `audit verify` names; 0 when all verifies."""
        try:
            said = verify_chain(
                LedgerSection(), state_dir=self.state, heads=heads, own=True, keys=(self.keys,)
            )
            assert all("records verify against the heads" in line for line in said)
        except ChainBroken as error:
            return error.seq
        return 0

    def theirs(self, *heads: Path) -> int:
        """The number that docs/verify_audit.py names, run as an auditor runs it."""
        export = self.state / "export.jsonl"
        export.write_bytes(b"".join(line_of(leaf) for leaf in self.leaves()))
        words = [str(export)]
        for path in (*heads, self.state / "heads.jsonl"):
            words += ["--heads", str(path)]
        words += ["--keys", *map(str, self.keys.glob("*.pub"))]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = theirs.main(words)
        if code == 0:
            return 0
        assert code == 6, said.getvalue()
        return int(said.getvalue().split("BAD: gw1:")[1].split(":")[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    folder = tmp_path_factory.mktemp("books")
    asyncio.run(Books(folder).write())
    return folder


@pytest.fixture
def books(folder: Path, tmp_path: Path) -> Books:
    shutil.copytree(folder, tmp_path / "books")
    return Books(tmp_path / "books")


def changed(leaf: Leaf, **members: Any) -> Leaf:
    """The record with other members, and a hash that fits it."""
    body = {**json.loads(leaf.record), **members}
    raw = msgspec.json.encode(body, order="sorted")
    return Leaf(leaf.log, leaf.seq, leaf.at_ms, raw, canonical.digest(raw))


def moved(leaf: Leaf, seq: int) -> Leaf:
    return msgspec.structs.replace(leaf, seq=seq)


def edit(books: Books) -> None:
    leaves = books.leaves()
    leaves[16] = changed(leaves[16], check="C999")
    books.put(leaves)


def delete(books: Books) -> None:
    books.put([leaf for leaf in books.leaves() if leaf.seq != 17])


def delete_and_close_the_gap(books: Books) -> None:
    leaves = books.leaves()
    books.put([*leaves[:16], *(moved(leaf, leaf.seq - 1) for leaf in leaves[17:])], contents=False)


def insert(books: Books) -> None:
    leaves = books.leaves()
    forged = changed(moved(leaves[16], 17), check="C999", seq=17, prev=leaves[15].hash)
    books.put(
        [*leaves[:16], forged, *(moved(leaf, leaf.seq + 1) for leaf in leaves[16:])], contents=False
    )


def reorder(books: Books) -> None:
    leaves = books.leaves()
    leaves[16], leaves[22] = moved(leaves[22], 17), moved(leaves[16], 23)
    books.put(leaves, contents=False)


def cut(books: Books) -> None:
    books.put(books.leaves()[:36])


def rewrite(books: Books) -> None:
    """From record 17 on, with new heads by the key of this host: sound in itself."""
    leaves = books.leaves()
    for n in range(16, len(leaves)):
        leaves[n] = changed(leaves[n], officer="9999", prev=leaves[n - 1].hash)
    books.put(leaves, contents=False)
    sign_anew(books, leaves)


def restore(books: Books) -> None:
    for name in ("ledger.db", "heads.jsonl"):
        shutil.copy(books.old / name, books.state / name)


def sign_anew(books: Books, leaves: list[Leaf], key: signing.Key | None = None) -> None:
    key = key or signing.Keys(books.state).current
    lines, prev = [], ""
    for old in all_heads(books.state / "heads.jsonl"):
        tree = [bytes.fromhex(leaf.hash) for leaf in leaves[: old.size]]
        head = msgspec.structs.replace(
            old,
            hash=leaves[old.seq - 1].hash,
            root=root_of(tree).hex(),
            prev=prev,
            key=key.id,
            sig="",
        )
        prev = head.digest()
        lines.append(msgspec.structs.replace(head, sig=key.sign(head.message())).line())
    (books.state / "heads.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def test_what_nobody_touched_verifies(books: Books) -> None:
    assert (books.ours(), books.ours(books.elsewhere)) == (0, 0)
    assert (books.theirs(), books.theirs(books.elsewhere)) == (0, 0)


@pytest.mark.parametrize(
    ("tamper", "first", "alone"),
    [
        (edit, 17, True),
        (delete, 17, True),
        (delete_and_close_the_gap, 17, True),
        (insert, 17, True),
        (reorder, 17, True),
        (cut, 37, True),
        (rewrite, 11, False),
        (restore, 26, False),
    ],
)
def test_each_tampering_is_found_and_named(
    books: Books, tamper: Callable[[Books], None], first: int, alone: bool
) -> None:
    """alone: without the heads that left the host. A rewrite is known to lie between two heads (10
    and 20): what is named is the first that may be bad."""
    tamper(books)
    assert (books.ours(books.elsewhere), books.theirs(books.elsewhere)) == (first, first)
    expected = first if alone else 0
    assert (books.ours(), books.theirs()) == (expected, expected)


# --------------------------------------------------------------------------- the heads themselves


def unsigned(head: Head) -> Head:
    return msgspec.structs.replace(head, v=0, sig="")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda heads: [heads[0], unsigned(heads[1]), *heads[2:]], 20),
        (lambda heads: [msgspec.structs.replace(each, sig="") for each in heads], 10),
        (lambda heads: [msgspec.structs.replace(heads[0], at_ms=1), *heads[1:]], 10),
        (lambda heads: [heads[0], msgspec.structs.replace(heads[1], size=19), *heads[2:]], 20),
        (lambda heads: [heads[0], msgspec.structs.replace(heads[1], v=2), *heads[2:]], 20),
    ],
)
def test_a_head_that_our_key_did_not_sign_proves_nothing(
    books: Books, change: Callable[[list[Head]], list[Head]], says: int
) -> None:
    """Not even when its hash is right; both say so."""
    heads = change(all_heads(books.elsewhere))
    books.elsewhere.write_bytes(b"".join(head.line() + b"\n" for head in heads))
    assert books.ours(books.elsewhere) == says
    assert books.theirs(books.elsewhere) in (says, 38)


def test_a_rewrite_signed_by_another_key_is_not_believed(books: Books) -> None:
    """The auditor's keys are those that he has, not those that lie beside the heads."""
    rewrite(books)
    other = signing.make_key(books.elsewhere.parent)
    shutil.copy(books.elsewhere.parent / f"audit-{other.id}.pub", books.state)
    sign_anew(books, books.leaves(), other)
    assert books.ours() == 10
    assert books.theirs() == 38


def test_a_head_that_was_taken_out_is_missed(books: Books) -> None:
    """In the whole file; an anchor may have been away."""
    lines = (books.state / "heads.jsonl").read_bytes().splitlines(keepends=True)
    (books.state / "heads.jsonl").write_bytes(b"".join(lines[:1] + lines[2:]))
    assert books.ours() == 25
    (books.state / "heads.jsonl").write_bytes(b"".join(lines))
    books.elsewhere.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert (books.ours(books.elsewhere), books.theirs(books.elsewhere)) == (0, 0)


def test_another_key_takes_over_only_with_a_word_of_the_one_before(tmp_path: Path) -> None:
    """Rotation: signed by both. Loss: said. Anything else is somebody else's key."""
    first, second = signing.make_key(tmp_path), signing.make_key(tmp_path)
    keys = signing.read_public([tmp_path])
    one = head_by(first, Head("gw1", 1, "aa", v=1, first=1, size=1, root="r", key=first.id))
    next_ = Head("gw1", 2, "bb", v=1, first=1, size=2, root="r", key=second.id, prev=one.digest())
    with pytest.raises(ChainBroken, match=r"gw1:2: .* no word of the one before"):
        prove([Source("x", [one, head_by(second, next_)], whole=True)], keys)
    both = msgspec.structs.replace(next_, rotates=first.id)
    with pytest.raises(ChainBroken, match=r"gw1:2: .* did not sign it"):
        prove([Source("x", [one, head_by(second, both)], whole=True)], keys)
    good = head_by(second, both, first)
    assert prove([Source("x", [one, good], whole=True)], keys)["gw1"].signed[2] == [good]
    lost = head_by(second, msgspec.structs.replace(next_, lost=first.id))
    assert prove([Source("x", [one, lost], whole=True)], keys)["gw1"].lost == [first.id]


def head_by(key: signing.Key, head: Head, old: signing.Key | None = None) -> Head:
    message = head.message()
    old_sig = old.sign(message) if old is not None else ""
    return msgspec.structs.replace(head, sig=key.sign(message), old_sig=old_sig)


def test_heads_without_any_key_are_not_judged(books: Books, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    books.keys = tmp_path / "none"
    with pytest.raises(LedgerUnavailable, match="--keys"):
        books.ours()


# --------------------------------------------------------------------------- the two verifiers


def test_the_verifier_in_docs_shares_no_code_and_needs_the_standard_library_alone() -> None:
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    used = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.Import):
            used |= {alias.name for alias in each.names}
        elif isinstance(each, ast.ImportFrom):
            used.add(each.module or "")
    assert used == {"argparse", "base64", "hashlib", "json", "sys"}
    assert used <= set(sys.stdlib_module_names)
    assert "__import__" not in PROGRAM.read_text("utf-8")


def test_it_runs_by_itself(books: Books) -> None:
    """Isolated (-I -S): no path of ours, no package; its exit codes are the documented ones."""
    cut(books)
    assert books.theirs(books.elsewhere) == 37
    words = [str(books.state / "export.jsonl"), "--heads", str(books.elsewhere), "--keys"]
    command = [sys.executable, "-I", "-S", str(PROGRAM), *words, *books.keys.glob("*.pub")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("BAD: gw1:37: cut off")


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_its_signatures_are_those_of_rfc_8032(
    secret: str, public: str, message: str, signature: str
) -> None:
    """Section 7.1, tests 1 and 2; and none with a bit changed, or a number that is too large."""
    del secret
    key, text, sign = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert theirs.signed(key, text, sign)
    assert not theirs.signed(key, text + b"x", sign)
    for at in (0, 31, 32, 63):
        bad = bytearray(sign)
        bad[at] ^= 1
        assert not theirs.signed(key, text, bytes(bad))
    large = int.from_bytes(sign[32:], "little") + theirs.L
    assert not theirs.signed(key, text, sign[:32] + large.to_bytes(32, "little"))


def chain(n: int) -> list[Leaf]:
    leaves: list[Leaf] = []
    for seq in range(1, n + 1):
        prev = leaves[-1].hash if leaves else canonical.GENESIS
        record = Record(event="opened", at_ms=seq, check=f"C{seq}")
        raw = canonical.encode(record, log="gw1", seq=seq, prev=prev, commitment_="")
        leaves.append(Leaf("gw1", seq, seq, raw, canonical.digest(raw)))
    return leaves


SOUND = chain(24)
HEADS = {
    size: Head(
        "gw1",
        size,
        SOUND[size - 1].hash,
        v=1,
        first=1,
        size=size,
        root=root_of(bytes.fromhex(leaf.hash) for leaf in SOUND[:size]).hex(),
    )
    for size in (6, 13, 24)
}


@st.composite
def tampered(draw: st.DrawFn) -> tuple[list[Leaf], int]:
    """A chain that somebody changed, and the number of the first record that is not as it was."""
    at = draw(st.integers(0, len(SOUND) - 1))
    leaves = [*SOUND]
    how = draw(st.sampled_from(("edit", "delete", "insert", "swap", "cut", "rewrite", "close")))
    if how == "edit":
        leaves[at] = changed(leaves[at], officer="9999")
    elif how == "delete":
        del leaves[at]
    elif how == "close":
        leaves[at:] = [moved(leaf, leaf.seq - 1) for leaf in leaves[at + 1 :]]
    elif how == "insert":
        forged = changed(leaves[at], officer="9999")
        leaves[at:] = [forged, *(moved(leaf, leaf.seq + 1) for leaf in leaves[at:])]
    elif how == "swap":
        other = draw(st.integers(0, len(SOUND) - 1).filter(lambda n: n != at))
        at, other = sorted((at, other))
        leaves[at], leaves[other] = moved(leaves[other], at + 1), moved(leaves[at], other + 1)
    elif how == "cut":
        del leaves[at:]
    else:
        for n in range(at, len(leaves)):
            prev = leaves[n - 1].hash if n else canonical.GENESIS
            leaves[n] = changed(leaves[n], officer="9999", prev=prev)
    return leaves, at + 1


def by_ours(leaves: list[Leaf]) -> int:
    try:
        known = {seq: {head.hash} for seq, head in HEADS.items()}
        verify_log("gw1", leaves, known, signed={seq: [head] for seq, head in HEADS.items()})
    except ChainBroken as error:
        return error.seq
    return 0


def by_theirs(leaves: list[Leaf]) -> int:
    try:
        heads = {seq: [msgspec.to_builtins(head)] for seq, head in HEADS.items()}
        log = theirs.Log("gw1", heads)
        for leaf in leaves:
            log.take(line_of(leaf))
        log.end()
    except theirs.Bad as error:
        return int(str(error).split(":")[1])
    return 0


@settings(max_examples=200)
@given(tampered())
def test_both_find_whatever_is_changed_and_neither_blames_a_proved_record(
    case: tuple[list[Leaf], int],
) -> None:
    """Named is the first bad record, or one before it that no head proves good."""
    leaves, first = case
    proved = max((seq for seq in HEADS if seq < first), default=0)
    for said in (by_ours(leaves), by_theirs(leaves)):
        assert proved < said <= first, (said, first)


def test_both_take_the_sound_one() -> None:
    assert (by_ours(SOUND), by_theirs(SOUND)) == (0, 0)


# --------------------------------------------------------------------------- proofs


def proved(books: Books, lines: bytes) -> tuple[int, str]:
    path = books.state / "proof.jsonl"
    path.write_bytes(lines)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = theirs.main(["--proof", str(path), "--keys", *map(str, books.keys.glob("*.pub"))])
    return code, said.getvalue()


def proof(books: Books, what: str) -> bytes:
    section = LedgerSection()
    return b"".join(prove_records(section, state_dir=books.state, log="gw1", what=what))


@pytest.mark.parametrize("seq", [1, 2, 17, 25, 38])
def test_one_record_is_proved_without_the_others(books: Books, seq: int) -> None:
    """And no other record is, nor one with a word changed, nor with a step of the proof changed."""
    line = proof(books, str(seq))
    code, said = proved(books, line)
    assert (code, said.split()[0]) == (0, f"gw1:{seq}")
    assert "under head 38" in said
    found = json.loads(line)
    changes = [
        {"record": found["record"].replace("opened", "closed")},
        {"proof": found["proof"][:-1]},
        {"proof": [*found["proof"][:-1], "00" * 32]},
        {"head": {**found["head"], "root": "00" * 32}},
        {"head": {**found["head"], "sig": "00" * 64}},
    ]
    for change in changes:
        assert proved(books, json.dumps({**found, **change}).encode())[0] == 6, change


def test_a_later_head_is_proved_to_go_on_from_an_earlier_one(books: Books) -> None:
    for old, new in ((10, 20), (10, 38), (25, 38), (38, 38)):
        line = prove_consistency(
            LedgerSection(), state_dir=books.state, log="gw1", old=old, new=new
        )
        code, said = proved(books, line)
        assert (code, said) == (0, f"gw1: head {new} goes on from head {old}, unchanged\n")
        found = json.loads(line)
        if found["proof"]:
            found["proof"][0] = "00" * 32
            assert proved(books, json.dumps(found).encode())[0] == 6
    with pytest.raises(LedgerUnavailable, match="no signed head has the number 11"):
        prove_consistency(LedgerSection(), state_dir=books.state, log="gw1", old=11, new=38)


def test_what_was_changed_is_proved_by_nobody(books: Books) -> None:
    """The record itself, or one that its proof needs."""
    edit(books)
    for seq in ("17", "3"):
        with pytest.raises(ChainBroken, match=f"gw1:{seq}: not in the tree of head 38"):
            proof(books, seq)
    delete(books)
    with pytest.raises(ChainBroken, match="gw1:17: missing"):
        proof(books, "3")
