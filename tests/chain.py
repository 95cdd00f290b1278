"""A second verifier of the audit chain, which shares no code with the first: hashlib and json only.

Invariant I9 (reliability-security reference, section 4). It reads SQLite's file by itself, or takes
the lines of an export; and it says every fault, where the product stops at the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

GENESIS = "0" * 64


class Leaf:
    """One audit record: its canonical bytes, what they say, and its hash as stored."""

    def __init__(self, log: str, seq: int, raw: bytes, stored_hash: str) -> None:
        self.log, self.seq, self.raw, self.stored_hash = log, seq, raw, stored_hash
        self.body: dict[str, Any] = json.loads(raw)

    def __getitem__(self, key: str) -> Any:
        return self.body.get(key, "")


def _rows(state: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(
        sqlite3.connect(f"file:{state / 'ledger.db'}?mode=ro", uri=True, timeout=5)
    ) as db:
        return db.execute(query).fetchall()


def audit(state: Path, *, after: int = 0) -> list[Leaf]:
    """Every record of the ledger's file, or those behind `after`, in order, read-only."""
    query = "SELECT log, seq, record, hash FROM audit_leaf WHERE seq > {} ORDER BY log, seq"
    rows = _rows(state, query.format(int(after)))
    return [Leaf(log, seq, _raw(record), hash_) for log, seq, record, hash_ in rows]


def contents(state: Path) -> dict[int, tuple[bytes, bytes]]:
    """Sequence -> (salt, content) of what has not been purged."""
    rows = _rows(state, "SELECT seq, salt, content FROM audit_content")
    return {seq: (_raw(salt), _raw(content)) for seq, salt, content in rows}


def tables(state: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of what is not the audit: checks, outbox, alarms, kept, and what else there is.

    Without the writer's epoch, which counts the starts.
    """
    names = [
        name
        for (name,) in _rows(
            state, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"
        )
        if name not in {"audit_leaf", "audit_content"}
    ]
    found = {name: _rows(state, f'SELECT * FROM "{name}" ORDER BY 1') for name in names}
    return {
        name: [row for row in rows if not str(row[0]).startswith("fence:")]
        for name, rows in found.items()
    }


def _raw(value: bytes | str) -> bytes:
    """SQLite keeps what it is given, also a text in a place for bytes."""
    return value.encode() if isinstance(value, str) else value


def leaf_of_line(line: bytes | str) -> Leaf:
    """A line of an export: `t` and `hash` put aside, the rest is what was hashed."""
    body = json.loads(line)
    stored, _ = body.pop("hash"), body.pop("t")
    raw = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Leaf(body["log"], body["seq"], raw, stored)


def heads_of(path: Path, log: str) -> dict[int, str]:
    """Sequence -> hash, from a heads file."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    return {line["seq"]: line["hash"] for line in lines if line["log"] == log}


def heads_said(path: Path, log: str) -> dict[int, list[str]]:
    """Sequence -> every hash that was ever said of it, in the order of the file. A line that a
    kill or a power cut tore says nothing."""
    said: dict[int, list[str]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            head = json.loads(line)
            if head["log"] == log:
                said.setdefault(head["seq"], []).append(head["hash"])
    return said


def heads_faults(leaves: Sequence[Leaf], said: Mapping[int, Sequence[str]]) -> list[str]:
    """I9: what was published of the chain is what it is: one hash a size, sizes that only grow, and
    none beyond the end."""
    found = [
        f"I9 head {seq}: {len(set(hashes))} different ones"
        for seq, hashes in said.items()
        if len(set(hashes)) > 1
    ]
    if list(said) != sorted(said):
        found.append("I9 heads: the tree shrank")
    stored = {leaf.seq: leaf.stored_hash for leaf in leaves}
    for seq, hashes in said.items():
        if stored.get(seq) not in hashes:
            found.append(f"I9 head {seq}: not that record's hash")
    return found


def chain_faults(
    leaves: Sequence[Leaf],
    *,
    known: Mapping[int, str] | None = None,
    contents: Mapping[int, tuple[bytes, bytes]] | None = None,
) -> list[str]:
    """What is wrong with the chain of one log, one line each; [] when it verifies.

    known: heads kept elsewhere. A log may go on behind a gap only with a record that says so and
    hangs on one of them.
    """
    known, faults, prev, seq = known or {}, [], GENESIS, 0
    for leaf in leaves:
        seq += 1
        name = f"I9 {leaf.log}:{leaf.seq}"
        if leaf.seq != seq and leaf["operation"] == "segment" and leaf.seq > seq:
            before = {hash_ for number, hash_ in known.items() if number < leaf.seq}
            if before and leaf["prev"] not in before:
                faults.append(f"{name}: hangs on no head that is known")
            seq, prev = leaf.seq, leaf["prev"]
        if leaf.seq != seq or leaf["seq"] != seq:
            return [*faults, f"{name}: sequence, expected {seq}"]
        if leaf["prev"] != prev:
            faults.append(f"{name}: previous hash")
        if hashlib.sha256(b"\x00" + leaf.raw).hexdigest() != leaf.stored_hash:
            faults.append(f"{name}: hash")
        if known.get(seq, leaf.stored_hash) != leaf.stored_hash:
            faults.append(f"{name}: not what the heads know")
        if contents is not None and seq in contents:
            salt, content = contents[seq]
            if hashlib.sha256(salt + content).hexdigest() != leaf["commitment"]:
                faults.append(f"{name}: content")
        prev = leaf.stored_hash
    if max(known, default=0) > seq:
        faults.append(f"I9: cut off at {seq}, the heads know {max(known)}")
    return faults


def events(leaves: Iterable[Leaf]) -> list[str]:
    return [leaf["event"] for leaf in leaves]
