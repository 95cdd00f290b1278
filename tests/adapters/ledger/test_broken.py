"""D04: a ledger that is not what was written is not appended to, and keeps nobody from asking."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from adapters.ledger import broken, verify_chain
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.messages import AlarmChanged
from gateway.ports import KeptRow, PutAlarm, PutCheck, PutKept, PutOutbox
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import (
    check_row,
    fill,
    opened,
    outbox_row,
    record,
    tamper,
)
from tests.chain import audit, chain_faults, contents, heads_of
from tests.fakes import FakeClock, FakeJournal

NOW_MS = FakeClock().wall_ms()
SEED = 7
ALARM = AlarmChanged(
    id="A1", rule="EMG", priority=1, state="unack-active", raised_ms=1, t_ms=1, terminal="5001001"
)


async def a_full_ledger(folder: Path, section: LedgerSection | None = None) -> None:
    store = await opened(folder, section)
    await fill(store, range(30))
    await store.commit(
        [record(31)],
        [
            PutCheck(check_row("C0001")),
            PutCheck(check_row("C0002", open=False, outcome="answered", result=b"r")),
            PutCheck(check_row("C0003", open=False, opened_at_ms=NOW_MS - 2 * 86_400_000)),
            PutOutbox(outbox_row("C0002")),
            PutAlarm(ALARM, open=True),
            PutKept(KeptRow(kind="booking", id="B1", at_ms=1, body=b"{}", personal=True)),
        ],
    )
    await store.close()


def aside(folder: Path) -> list[Path]:
    return [p for p in folder.glob("ledger.db.broken-*") if not p.name.endswith(("-wal", "-shm"))]


async def test_a_chain_that_was_changed_is_moved_aside_and_outlived(tmp_path: Path) -> None:
    """Untouched, for whoever looks into it; what must survive a restart is carried over."""
    await a_full_ledger(tmp_path)
    tamper(LedgerSection(), tmp_path, "UPDATE audit_leaf SET record = X'7B7D' WHERE seq = 25")
    evidence = (tmp_path / "ledger.db").read_bytes()
    head = heads_of(tmp_path / "heads.jsonl", "gw1")[31]
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    assert [row.id for row in await store.open_checks()] == ["C0001"]
    assert await store.check("C0002") is not None
    assert await store.check("C0003") is None, "only open ones and those of a day"
    assert [row.id for row in await store.outbox()] == ["C0002"]
    assert await store.open_alarms() == [ALARM]
    assert [row.id for row in await store.kept("booking")] == ["B1"]
    await store.commit([record(40)])
    await store.close()
    (old,) = aside(tmp_path)
    assert old.read_bytes() == evidence
    assert old.stat().st_mode & 0o077 == 0
    leaves = audit(tmp_path)
    assert [(leaf.seq, leaf["event"]) for leaf in leaves] == [(32, "security"), (33, "opened")]
    assert leaves[0]["prev"] == head
    assert old.name in leaves[0]["detail"]
    assert "gw1:25" in leaves[0]["detail"]
    assert ("ledger.broken", "gw1:25: its bytes do not have its hash") in [
        (name, fields.get("reason")) for name, fields in journal.lines
    ]
    said = next(
        verify_chain(LedgerSection(), state_dir=tmp_path, heads=(tmp_path / "heads.jsonl",))
    )
    assert said.startswith("gw1: 2 records verify against the heads")
    assert "NOT HERE, as is on record: 1..31" in said
    known = heads_of(tmp_path / "heads.jsonl", "gw1")
    assert chain_faults(leaves, known=known) == []
    again = FakeJournal()
    await (await opened(tmp_path, journal=again)).close()
    assert len(aside(tmp_path)) == 1, "a restart goes on with the new one"
    assert not {"ledger.broken", "ledger.behind"} & {line[0] for line in again.lines}


async def test_no_database_at_all(tmp_path: Path) -> None:
    """The first page overwritten: nothing can be carried over, and that is said."""
    await a_full_ledger(tmp_path)
    raw = bytearray((tmp_path / "ledger.db").read_bytes())
    raw[:4096] = bytes(4096)
    (tmp_path / "ledger.db").write_bytes(raw)
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    assert (await store.head())[0] == 32
    assert await store.open_checks() == []
    await store.close()
    reasons = [fields.get("reason") for name, fields in journal.lines if name == "ledger.broken"]
    assert reasons[0] == "SQLITE_NOTADB"
    assert "checks: not all readable" in reasons


async def test_without_heads_it_still_goes_on(tmp_path: Path) -> None:
    """The numbers go on behind what could be read of the broken file."""
    await a_full_ledger(tmp_path)
    (tmp_path / "heads.jsonl").unlink()
    tamper(LedgerSection(), tmp_path, "UPDATE audit_leaf SET hash = 'ff' WHERE seq = 5")
    store = await opened(tmp_path)
    await store.close()
    leaves = audit(tmp_path)
    assert (leaves[0].seq, leaves[0]["prev"]) == (32, "0" * 64)
    assert "no head known" in leaves[0]["detail"]
    assert next(verify_chain(LedgerSection(), state_dir=tmp_path)).startswith("gw1: 1")


async def test_a_chain_written_anew_is_found_against_the_heads(tmp_path: Path) -> None:
    """F17: sound in itself, but not what the heads file knows."""
    await a_full_ledger(tmp_path)
    kept = (tmp_path / "heads.jsonl").read_bytes()
    for name in ("ledger.db", "heads.jsonl"):
        (tmp_path / name).unlink()
    forged = await opened(tmp_path)
    await fill(forged, range(500, 540))
    await forged.close()
    (tmp_path / "heads.jsonl").write_bytes(kept)
    journal = FakeJournal()
    await (await opened(tmp_path, journal=journal)).close()
    reasons = [fields.get("reason") for name, fields in journal.lines if name == "ledger.broken"]
    assert reasons == ["gw1:1: the heads know another 31: bad within 1..31"]


async def test_only_the_newest_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start takes no longer with the years; `audit verify` finds the rest."""
    monkeypatch.setattr(broken, "NEWEST", 10)
    await a_full_ledger(tmp_path)
    tamper(LedgerSection(), tmp_path, "UPDATE audit_leaf SET hash = 'ff' WHERE seq = 5")
    await (await opened(tmp_path)).close()
    assert aside(tmp_path) == []
    with pytest.raises(ChainBroken, match="gw1:5"):
        list(verify_chain(LedgerSection(), state_dir=tmp_path))
    tamper(LedgerSection(), tmp_path, "UPDATE audit_leaf SET hash = 'ff' WHERE seq = 25")
    await (await opened(tmp_path)).close()
    assert len(aside(tmp_path)) == 1


async def test_a_broken_chain_on_postgresql_is_refused(database: str, tmp_path: Path) -> None:
    """Its database is not ours to move: say what to do, write nothing."""
    section = LedgerSection(url=database)
    await a_full_ledger(tmp_path, section)
    tamper(section, tmp_path, "UPDATE audit_leaf SET hash = 'ff' WHERE seq = 25")
    with pytest.raises(LedgerUnavailable, match=r"gw1:25.*not appended to.*audit verify"):
        await opened(tmp_path, section)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_whatever_is_damaged_the_service_comes_up(tmp_path: Path) -> None:
    """Random damage to file and write-ahead log: opened, writable, never a crash; and what
    is written to verifies from its first record to its last."""
    await a_full_ledger(tmp_path / "sound")
    chance = random.Random(SEED)
    for turn in range(60):
        folder = tmp_path / f"t{turn}"
        shutil.copytree(tmp_path / "sound", folder)
        raw = bytearray((folder / "ledger.db").read_bytes())
        match chance.choice(("flip", "zero page", "cut", "noise")):
            case "flip":
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            case "zero page":
                at = chance.randrange(len(raw) // 4096) * 4096
                raw[at : at + 4096] = bytes(4096)
            case "cut":
                del raw[chance.randrange(len(raw)) :]
            case "noise":
                at = chance.randrange(len(raw))
                raw[at : at + 200] = chance.randbytes(200)
        (folder / "ledger.db").write_bytes(raw)
        store = await opened(folder)
        await store.commit([record(77)])
        await store.open_alarms()
        await store.close()
        known = heads_of(folder / "heads.jsonl", "gw1")
        assert chain_faults(audit(folder), known=known, contents=contents(folder)) == []
