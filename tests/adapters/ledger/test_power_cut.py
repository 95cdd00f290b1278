"""D06: the power fails at any moment, and no acknowledged record is lost, none is corrupt.

The real writer runs below strace; from what it wrote and synced, and when it said that a commit
was durable, disks are built as a cut may leave them (disk_log.py), and looked at by SQLite itself
and by the second verifier of the chain. A sample of them is opened by the product.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.ledger.books import ROOT, opened, record
from tests.adapters.ledger.disk_log import CALLS, STRACE, DiskLog
from tests.chain import Leaf, audit, chain_faults, contents
from tests.fakes import FakeJournal
from tests.services import require

IMAGES = 2000
OPENED_EVERY = 20
"""Of so many images one is opened by the product, too."""
SEED = 20261127
SOON, CUTS = 6, 12
"""Steps after a purge was told, and disks at each of them."""
FILES = ("ledger.db", "heads.jsonl")
WITHOUT = ("-shm", ".lock")
"""What belongs to a running process: no power cut leaves anything of use in it."""

LIVES = """
import asyncio, os, sys
from pathlib import Path
from adapters.ledger import access, opening, purging, writer
from gateway.ports import DropOutbox, PutCheck, PutOutbox
from gateway.settings import AuditSection
from tests.adapters.ledger.books import check_row, opened, outbox_row, record

folder, synchronous, life = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
access.PRAGMAS = tuple(each.replace("=FULL", "=" + synchronous) for each in access.PRAGMAS)
opening.BALLAST_BYTES, writer.CHECKPOINT_ROWS = 65536, 40
purging.STEP = 10

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

async def main():
    store = await opened(folder, audit=AuditSection(heads_every=15))
    async def lane(letter):
        for n in range(12):
            name = f"L{life}{letter}{n}"
            state = dict(state=b"s" * 200, receipt="R" + name)
            await store.commit([record(n, "opened")], [PutCheck(check_row(name, **state))])
            say("opened", name)
            done = check_row(name, **state, open=False, outcome="answered", result=b"r" * 300)
            box = PutOutbox(outbox_row(name))
            await store.commit([record(n, "answered")], [PutCheck(done), box])
            say("answered", name)
            if n % 2:
                await store.commit([record(n, "read")], [DropOutbox(name)])
                say("read", name)
    await asyncio.gather(*(lane(letter) for letter in "abcd"))
    if life == 2:
        os._exit(0)  # as a kill would: the write-ahead log stays where it is
    say("purged", await store.purge(1005))
    await store.close()

asyncio.run(main())
"""
"""Four lanes of checks; checkpoints, heads, purges, ends and one crash among them."""

PURGES = """
import asyncio, os, sys
from pathlib import Path
from adapters.ledger import opening, purging, writer
from gateway.ports import PutCheck, PutOutbox
from tests.adapters.ledger.books import check_row, opened, outbox_row, record

folder, life = Path(sys.argv[1]), int(sys.argv[3])
opening.BALLAST_BYTES, writer.CHECKPOINT_ROWS, purging.STEP = 65536, 25, 5

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

async def main():
    store = await opened(folder)
    async def put(name, at, what):
        row = dict(opened_at_ms=1000 + at, receipt="R" + name)
        first = check_row(name, state=what, **row)
        await store.commit([record(at, "opened", what)], [PutCheck(first)])
        done = check_row(name, state=what * 2, result=what * 3, open=False, **row)
        box = PutOutbox(outbox_row(name, payload=what, stale_at_ms=1000 + at))
        await store.commit([record(at, "answered", what)], [PutCheck(done), box])
    for turn in range(4):
        what = f"<secret {life} {turn}>".encode() * 4
        at = (life * 10 + turn) * 100
        await asyncio.gather(*(put(f"O{life}{turn}{n}", at + n, what) for n in range(12)))
        await put(f"N{life}{turn}", 10_000, b"<kept>")
        await store.purge(1100 + at)
        say("purged", life, turn)
        for n in range(3):
            await put(f"K{life}{turn}{n}", 10_000, b"<kept>")
    if life != 2:
        await store.close()

asyncio.run(main())
"""
"""Content with a mark of its own for each purge, and some that stays."""


def traced(folder: Path, synchronous: str, script: str = LIVES) -> Path:
    """The trace of three lives of a writer on `folder`."""
    trace = folder / "trace"
    (folder / "state").mkdir(mode=0o700, parents=True)
    (folder / "lives.py").write_text(script, "utf-8")
    strace = [require("strace"), *STRACE, "-e", f"trace={CALLS}", "-o", str(trace)]
    lives = f'for life in 1 2 3; do "$0" "$1" "$2" "{synchronous}" $life || exit 1; done'
    writer = ["sh", "-c", lives, sys.executable, folder / "lives.py", folder / "state"]
    subprocess.run(
        [*strace, *writer],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    return trace


class Image:
    """One disk after a cut, and what had been acknowledged when it came."""

    def __init__(self, step: int, said: list[str], files: dict[str, bytes]) -> None:
        self.step, self.said, self.files = step, said, files

    def put(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def images(trace: Path, state: Path, number: int) -> Iterator[Image]:
    """`number` of them, at random moments of the trace, oldest first."""
    steps = sum(1 for _ in DiskLog(trace, state, FILES))
    chance = random.Random(SEED)
    cuts = sorted(chance.randint(1, steps) for _ in range(number))
    log = DiskLog(trace, state, FILES)
    for step in log:
        while cuts and cuts[0] == step:
            cuts.pop(0)
            files = log.after_a_cut(chance)
            kept = {name: raw for name, raw in files.items() if not name.endswith(WITHOUT)}
            yield Image(step, log.said[:], kept)


def faults(image: Image, folder: Path) -> list[str]:
    """What SQLite and the second verifier find wrong with it."""
    acknowledged = {tuple(line.split()) for line in image.said if not line.startswith("purged")}
    path = folder / "ledger.db"
    if not path.exists() or not path.stat().st_size:
        return ["the ledger is not there"] if acknowledged else []
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA synchronous=OFF")  # it may lose what we look at
            (said,) = db.execute("PRAGMA integrity_check").fetchone()
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_leaf'").fetchone():
                return ["the tables are not there"] if acknowledged else []
            query = "SELECT log, seq, record, hash FROM audit_leaf ORDER BY seq"
            leaves = [Leaf(*row) for row in db.execute(query)]
            rows = dict(db.execute("SELECT id, outcome FROM checks"))
            waiting = {name for (name,) in db.execute("SELECT id FROM outbox")}
            kept = {
                seq: (salt, content)
                for seq, salt, content in db.execute("SELECT seq, salt, content FROM audit_content")
            }
    except (sqlite3.Error, ValueError) as error:
        return [f"cannot be read: {error}"]
    found = [] if said == "ok" else [f"integrity_check: {said}"]
    found += chain_faults(leaves, known=heads(folder), contents=kept)
    found += purges(image.said, leaves, kept)
    found += [f"lost: {each}" for each in acknowledged if not there(each, rows, waiting)]
    number = len([leaf for leaf in leaves if leaf["check"]])
    if number < len(acknowledged):
        found.append(f"{number} records, {len(acknowledged)} acknowledged")
    return found


def there(acknowledged: tuple[str, ...], rows: dict[str, str], waiting: set[str]) -> bool:
    event, name = acknowledged
    if event == "opened":
        return name in rows
    return rows.get(name) == "answered" and (event == "answered" or name not in waiting)


def purges(said: list[str], leaves: list[Leaf], kept: dict[int, tuple[bytes, bytes]]) -> list[str]:
    """P12: what was destroyed stands on record in the same transaction."""
    destroyed = sum(int(leaf["detail"].split()[1]) for leaf in leaves if leaf["event"] == "purged")
    promised = sum(bool(leaf["commitment"]) for leaf in leaves)
    told = sum(int(line.split()[1]) for line in said if line.startswith("purged"))
    found = [] if promised - len(kept) == destroyed else ["purged and not on record"]
    return found if destroyed >= told else [*found, "a purge that was told is undone"]


def heads(folder: Path) -> dict[int, str]:
    """A line that the cut tore is no head."""
    path, found = folder / "heads.jsonl", {}
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with contextlib.suppress(ValueError):
            head = json.loads(line)
            found[head["seq"]] = head["hash"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_no_power_cut_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """2,000 disks: every acknowledged change stands, the chain verifies against the heads, and
    whatever image the product is given, it opens, trusts and goes on with."""
    trace = traced(tmp_path, "FULL")
    found: list[str] = []
    moments: set[int] = set()
    unlike: set[int] = set()
    for number, image in enumerate(images(trace, tmp_path / "state", IMAGES)):
        folder = tmp_path / "image"
        image.put(folder)
        found += [f"{image.step}: {each}" for each in faults(image, folder)]
        moments.add(image.step)
        unlike.add(hash(tuple(sorted(image.files.items()))))
        if number % OPENED_EVERY == 0:
            shutil.rmtree(folder)
            image.put(folder)
            found += [f"{image.step}: {each}" for each in await opened_faults(folder)]
        shutil.rmtree(folder)
    assert found == [], "\n".join(found[:20])
    assert number + 1 == IMAGES
    assert len(image.said) > 250, "too little was acknowledged to prove anything"
    assert len(unlike) > IMAGES * 0.8, "the same disk over and over"


async def opened_faults(folder: Path) -> list[str]:
    """As the daemon opens it after the cut."""
    journal = FakeJournal()
    store = await opened(folder, journal=journal)
    await store.commit([record(9999)])
    await store.open_checks()
    await store.close()
    words = {line[0] for line in journal.lines} & {"ledger.broken", "ledger.behind"}
    leaves = audit(folder)
    found = [f"opened: {word}" for word in words]
    found += chain_faults(leaves, known=heads(folder), contents=contents(folder))
    return found if leaves[-1]["check"] == "C9999" else [*found, "cannot be written"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_writer_that_syncs_less_is_found_out(tmp_path: Path) -> None:
    """The planted bug `sync=NORMAL`: the images show it, so they can show anything at all."""
    trace = traced(tmp_path, "NORMAL")
    lost = 0
    for image in images(trace, tmp_path / "state", 100):
        folder = tmp_path / "image"
        image.put(folder)
        lost += bool(faults(image, folder))
        shutil.rmtree(folder)
    assert lost > 20


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_was_purged_does_not_come_back_with_the_power(tmp_path: Path) -> None:
    """I17, D08: from when a purge is told, no byte of it is in any file of any disk that a cut may
    leave: not in a write-ahead log either, whose truncation SQLite itself does not sync."""
    trace = traced(tmp_path, "FULL", PURGES)
    chance = random.Random(SEED)
    log = DiskLog(trace, tmp_path / "state", FILES)
    found: list[str] = []
    told = told_at = looked = 0
    for step in log:
        if len(log.said) > told:
            told, told_at = len(log.said), step
        if not told or step - told_at > SOON:
            continue
        marks = [f"<secret {' '.join(line.split()[1:])}>".encode() for line in log.said]
        for _ in range(CUTS):
            looked += 1
            for name, content in log.after_a_cut(chance).items():
                found += [f"{step}: {name}: {mark!r}" for mark in marks if mark in content]
    assert found == [], "\n".join(found[:20])
    assert told == 12
    assert looked >= 12 * SOON * CUTS
    assert b"<kept>" in (tmp_path / "state" / "ledger.db").read_bytes()
