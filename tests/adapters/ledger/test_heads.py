"""Heads: signed, linked, of a tree that goes on over restarts; and what becomes of their key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.ledger import signing
from adapters.ledger.heads import Head, all_heads
from adapters.ledger.tree import root_of
from gateway.settings import AuditSection, LedgerSection
from tests.adapters.ledger.books import fill, opened
from tests.chain import audit
from tests.fakes import FakeJournal, settle

TEN = AuditSection(heads_every=10)


async def life(folder: Path, n: int, section: LedgerSection | None = None) -> None:
    store = await opened(folder, section, audit=TEN)
    await fill(store, range(n))
    await store.close()


def heads(folder: Path) -> list[Head]:
    return all_heads(folder / "heads.jsonl")


def private(folder: Path) -> list[str]:
    """The names of the keys that could sign."""
    return sorted(name for name in os.listdir(folder) if ".key" in name)


def faults(folder: Path) -> list[str]:
    """What is wrong with the heads, by the ledger's records and the public keys in the folder."""
    keys = signing.read_public([folder])
    hashes = {leaf.seq: bytes.fromhex(leaf.stored_hash) for leaf in audit(folder)}
    found, prev = [], ""
    for head in heads(folder):
        tree = [hashes[seq] for seq in range(head.first, head.seq + 1)]
        if (head.size, head.root) != (len(tree), root_of(tree).hex()):
            found.append(f"{head.seq}: root")
        if not signing.signed(keys, head.key, head.message(), head.sig):
            found.append(f"{head.seq}: signature")
        if head.prev != prev:
            found.append(f"{head.seq}: link")
        prev = head.digest()
    return found


async def test_each_head_signs_the_tree_up_to_it_and_the_head_before(tmp_path: Path) -> None:
    """Over three lives: the frontier goes on where it stood."""
    for _ in range(3):
        await life(tmp_path, 13)
    assert [head.seq for head in heads(tmp_path)] == [10, 13, 23, 26, 36, 39]
    assert faults(tmp_path) == []
    (key,) = {head.key for head in heads(tmp_path)}
    assert (tmp_path / f"audit-{key}.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["gone", "torn", "another's", "of a head that was never signed"])
async def test_a_frontier_that_does_not_fit_is_not_believed(tmp_path: Path, what: str) -> None:
    await life(tmp_path, 13)
    path = tmp_path / "heads.frontier"
    text = path.read_text()
    if what == "gone":
        path.unlink()
    elif what == "torn":
        path.write_text(text[:-9])
    elif what == "another's":
        peak = text.rindex('"', 0, len(text) - 4) + 1
        path.write_text(text[:peak] + ("0" * 64) + text[peak + 64 :])
    else:
        path.write_text(text.replace('"at_ms":', '"at_ms":1'))
    await life(tmp_path, 5)
    assert [head.size for head in heads(tmp_path)] == [10, 13, 18]
    assert faults(tmp_path) == []


async def test_records_since_the_newest_head_are_in_the_next_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between commit and head: those records were never signed, the next head has them."""
    store = await opened(tmp_path, audit=TEN)
    await fill(store, range(10))
    await store.head()  # a read comes behind what the writer does between the groups
    monkeypatch.setattr(store._writer, "write_head", lambda: None)
    await fill(store, range(10, 14))
    await store.close()
    assert [head.seq for head in heads(tmp_path)] == [10]
    await life(tmp_path, 2)
    assert [head.seq for head in heads(tmp_path)] == [10, 16]
    assert faults(tmp_path) == []


async def test_behind_a_gap_a_new_tree_begins(tmp_path: Path) -> None:
    """D12: an old copy was put back; what is missing is in no tree, and the links go on."""
    await life(tmp_path, 8)
    old = (tmp_path / "ledger.db").read_bytes()
    await life(tmp_path, 8)
    (tmp_path / "ledger.db").write_bytes(old)
    await life(tmp_path, 3)
    assert [(head.first, head.seq, head.size) for head in heads(tmp_path)] == [
        (1, 8, 8),
        (1, 16, 16),
        (17, 20, 4),
    ]
    await life(tmp_path, 2)
    assert heads(tmp_path)[-1].first == 17
    (tmp_path / "heads.frontier").unlink()
    await life(tmp_path, 2)
    newest = heads(tmp_path)[-1]
    assert (newest.first, newest.size) == (17, 8)
    assert heads(tmp_path)[2].prev == heads(tmp_path)[1].digest()


async def test_a_ledger_of_before_heads_were_signed_goes_on(tmp_path: Path) -> None:
    """Old lines stay; the first signed head is of all records."""
    await life(tmp_path, 8)
    leaf = audit(tmp_path)[-1]
    (tmp_path / "heads.frontier").unlink()
    for name in os.listdir(tmp_path):
        if name.startswith("audit-"):
            (tmp_path / name).unlink()
    old = f'{{"log":"gw1","seq":8,"hash":"{leaf.stored_hash}"}}\n'
    (tmp_path / "heads.jsonl").write_text(old)
    await life(tmp_path, 2)
    first, second = heads(tmp_path)
    assert (first.v, first.sig, second.size, second.prev, second.lost) == (0, "", 10, "", "")
    assert (tmp_path / "heads.jsonl").read_text().startswith(old)


async def test_each_head_is_told_in_the_loop(tmp_path: Path) -> None:
    """What anchors are given is the line as it stands in the file."""
    told: list[bytes] = []
    store = await opened(tmp_path, audit=TEN, headed=told.append)
    await fill(store, range(25))
    await store.close()
    await settle()
    assert told == (tmp_path / "heads.jsonl").read_bytes().splitlines()


# --------------------------------------------------------------------------- the key


async def test_a_new_key_takes_over_signed_by_both(tmp_path: Path) -> None:
    await life(tmp_path, 3)
    old = heads(tmp_path)[0].key
    new = signing.make_key(tmp_path, signing.NEW)
    await life(tmp_path, 3)
    head = heads(tmp_path)[1]
    assert (head.seq, head.key, head.rotates) == (4, new.id, old)
    keys = signing.read_public([tmp_path])
    assert signing.signed(keys, new.id, head.message(), head.sig)
    assert signing.signed(keys, old, head.message(), head.old_sig)
    record = audit(tmp_path)[3]
    assert (record["event"], record["operation"]) == ("alteration", "audit.key")
    assert record["detail"] == f"rotated {old}, now {new.id}"
    assert private(tmp_path) == [f"audit-{new.id}.key"]
    await life(tmp_path, 3)
    assert faults(tmp_path) == []


@pytest.mark.parametrize("cut", ["before the old one went", "before the new one had its name"])
async def test_a_rotation_that_was_cut_off_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Killed behind the head that both signed: no second one, and one key is left."""
    await life(tmp_path, 3)
    new = signing.make_key(tmp_path, signing.NEW)
    if cut.startswith("before the old"):
        monkeypatch.setattr(signing.Keys, "settle", lambda self: None)
    else:
        monkeypatch.setattr(Path, "rename", _refused)
    await life(tmp_path, 3)
    monkeypatch.undo()
    await life(tmp_path, 3)
    assert [head.rotates for head in heads(tmp_path)].count("") == len(heads(tmp_path)) - 1
    assert private(tmp_path) == [f"audit-{new.id}.key"]
    assert faults(tmp_path) == []


def _refused(self: Path, target: Path) -> Path:
    raise OSError("cut off")


async def test_a_key_that_was_lost_is_said_and_on_record(tmp_path: Path) -> None:
    """Heads before it stay valid: the public key is still there."""
    await life(tmp_path, 3)
    old = heads(tmp_path)[0].key
    (tmp_path / f"audit-{old}.key").unlink()
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    await store.close()
    await settle()
    head = heads(tmp_path)[1]
    assert (head.seq, head.lost) == (4, old)
    assert head.key != old
    assert audit(tmp_path)[3]["detail"] == f"lost {old}, now {head.key}"
    assert "ledger.key" in [line[0] for line in journal.lines]
    assert faults(tmp_path) == []


async def test_a_key_that_cannot_be_read_stops_no_record(tmp_path: Path) -> None:
    """It is said, no head is written, and a mended one signs what there was."""
    await life(tmp_path, 3)
    (name,) = private(tmp_path)
    path = tmp_path / name
    pem = path.read_bytes()
    path.write_bytes(b"no key")
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal, audit=AuditSection(heads_every=1))
    await fill(store, range(3))
    await store.close()
    await settle()
    assert len(audit(tmp_path)) == 6
    assert len(heads(tmp_path)) == 1
    assert {"key", "heads"} <= {line[1].get("stage") for line in journal.lines}
    path.write_bytes(pem)
    await life(tmp_path, 1)
    assert heads(tmp_path)[1].size == 7
    assert faults(tmp_path) == []


async def test_a_key_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    elsewhere = tmp_path / "credentials"
    elsewhere.mkdir()
    key = signing.make_key(elsewhere)
    state = tmp_path / "state"
    store = await opened(state, audit=AuditSection(key_file=str(key.path)))
    await fill(store, range(3))
    await store.close()
    assert [head.key for head in heads(state)] == [key.id]
    assert private(state) == []
    assert faults(state) == []


async def test_a_failed_write_is_not_linked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file holds after it is looked at: the next head links to what is there."""
    store = await opened(tmp_path, audit=AuditSection(heads_every=1))
    await fill(store, range(2))
    real, calls = os.fsync, []

    def fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if name.endswith("heads.jsonl") and not calls:
            calls.append(name)
            raise OSError(5, "planted")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    await fill(store, range(2, 5))
    await store.close()
    assert calls
    assert faults(tmp_path) == []


async def test_postgresql_has_the_same_heads(database: str, tmp_path: Path) -> None:
    section = LedgerSection(url=database)
    for _ in range(2):
        await life(tmp_path, 12, section)
    assert [head.size for head in heads(tmp_path)] == [10, 12, 22, 24]
    (tmp_path / "heads.frontier").unlink()
    await life(tmp_path, 1, section)
    assert heads(tmp_path)[-1].size == 25
