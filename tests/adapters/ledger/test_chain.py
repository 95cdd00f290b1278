"""The chain over both databases: it verifies, names what was changed, and survives a purge."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from adapters.ledger import export_records, open_ledger, verify_chain
from adapters.ledger.store import Store
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter
from tests.services import postgresql
from tests.system.ledgers import audit, chain_faults

CANARY = b"TESTER WANDA 06/06/1988"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def section(request: pytest.FixtureRequest) -> LedgerSection:
    if request.param == "sqlite":
        return LedgerSection()
    url = request.getfixturevalue("server")
    engine = create_engine(url)
    with engine.begin() as db:
        db.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()
    return LedgerSection(url=url)


async def opened(section: LedgerSection, folder: Path, instance: str = "gw1") -> Store:
    store = await open_ledger(
        section,
        state_dir=folder,
        instance=instance,
        meter=FakeMeter(),
        journal=FakeJournal(),
        clock=FakeClock(),
    )
    assert isinstance(store, Store)
    return store


@pytest.fixture
async def store(section: LedgerSection, tmp_path: Path) -> AsyncIterator[Store]:
    store = await opened(section, tmp_path)
    for n in range(20):
        await store.commit([Record(event="opened", at_ms=1000 + n, check=f"C{n}", content=CANARY)])
    yield store
    await store.close()


def verified(section: LedgerSection, folder: Path, heads: Path | None = None) -> list[str]:
    return list(verify_chain(section, state_dir=folder, heads=heads))


async def test_verifies_while_the_daemon_writes(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """Read-only, beside the writer: neither keeps the other from its work."""
    said = verified(section, tmp_path)
    assert said[0].startswith("gw1: 20 records verify")
    await store.commit([Record(event="asked", at_ms=2000)])
    assert verified(section, tmp_path)[0].startswith("gw1: 21 records verify")


async def test_a_second_verifier_agrees(store: Store, section: LedgerSection) -> None:
    """One that shares no code with the first (SQLite's file only)."""
    if section.url:
        assert chain_faults([]) == []
        return
    path = store._path
    assert path is not None
    leaves = audit(path.parent)
    assert len(leaves) == 20
    assert chain_faults(leaves) == []


def _tamper(section: LedgerSection, folder: Path, statement: str) -> None:
    """As whoever owns the database can: triggers off, then the change."""
    if not section.url:
        with sqlite3.connect(folder / "ledger.db") as db:
            triggers = db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall()
            for (name,) in triggers:
                db.execute(f"DROP TRIGGER {name}")
            db.execute(statement)
        return
    engine = create_engine(section.url)
    with engine.begin() as db:
        db.execute(text("SET session_replication_role = replica"))
        db.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "seq", "says"),
    [
        ("UPDATE audit_leaf SET record = audit_leaf.hash {cast} WHERE seq = 7", 7, "hash"),
        ("UPDATE audit_leaf SET hash = 'ff' WHERE seq = 8", 8, "hash"),
        ("DELETE FROM audit_leaf WHERE seq = 9", 9, "missing"),
        ("UPDATE audit_content SET content = salt WHERE seq = 10", 10, "committed"),
    ],
)
async def test_whatever_is_changed_is_named(
    store: Store, section: LedgerSection, tmp_path: Path, statement: str, seq: int, says: str
) -> None:
    await store.close()
    cast = "::text::bytea" if section.url else ""
    _tamper(section, tmp_path, statement.format(cast=cast))
    with pytest.raises(ChainBroken) as caught:
        verified(section, tmp_path)
    assert (caught.value.log, caught.value.seq) == ("gw1", seq)
    assert says in caught.value.reason


async def test_the_table_refuses_changes(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """Append-only: UPDATE and DELETE are refused by the database itself."""
    await store.close()
    engine = create_engine(section.url or f"sqlite:///{tmp_path / 'ledger.db'}")
    for statement in ("UPDATE audit_leaf SET event = 'x'", "DELETE FROM audit_leaf"):
        with pytest.raises(Exception, match="append-only"), engine.begin() as db:
            db.execute(text(statement))
    engine.dispose()


async def test_a_cut_tail_is_seen_against_the_heads(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """F17: without heads a shortened chain still verifies; with them it does not."""
    await store.close()
    heads = tmp_path / "elsewhere.jsonl"
    heads.write_bytes((tmp_path / "heads.jsonl").read_bytes())
    assert "against the heads" in verified(section, tmp_path, heads)[0]
    _tamper(section, tmp_path, "DELETE FROM audit_content WHERE seq > 15")
    _tamper(section, tmp_path, "DELETE FROM audit_leaf WHERE seq > 15")
    assert verified(section, tmp_path)[0].startswith("gw1: 15 records verify")
    with pytest.raises(ChainBroken, match="cut off"):
        verified(section, tmp_path, heads)


async def test_purged_content_leaves_a_chain_that_verifies_and_tells_nothing(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """Content and salt are gone, from the file's very bytes, too; the chain stands."""
    assert await store.purge(1010) == 10
    said = verified(section, tmp_path)[0]
    assert said.startswith("gw1: 21 records verify")
    assert "content of 10 purged" in said
    assert await store.purge(3000) == 10
    await store.close()
    assert "content of 20 purged" in verified(section, tmp_path)[0]
    if not section.url:
        for name in os.listdir(tmp_path):
            assert CANARY not in (tmp_path / name).read_bytes(), name


async def test_two_instances_have_logs_of_their_own(
    section: LedgerSection, tmp_path: Path, store: Store
) -> None:
    if not section.url:
        with pytest.raises(LedgerUnavailable, match="another daemon writes"):
            await opened(section, tmp_path, "gw2")
        return
    with pytest.raises(LedgerUnavailable, match="another daemon writes log gw1"):
        await opened(section, tmp_path, "gw1")
    other = await opened(section, tmp_path, "gw2")
    await other.commit([Record(event="started", at_ms=1)])
    await other.close()
    assert [line.split(":")[0] for line in verified(section, tmp_path)] == ["gw1", "gw2"]


async def test_export_holds_every_record_and_no_content(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """JSON Lines in order; each line's hash can be computed from the line itself."""
    out = tmp_path / "export.jsonl"
    with out.open("wb") as file:
        manifest = json.loads(
            export_records(
                section,
                state_dir=tmp_path,
                purpose="lawfulness",
                by="auditor",
                since_ms=1005,
                until_ms=1015,
                out=file,
            )
        )
    lines = out.read_bytes().splitlines()
    assert (manifest["records"], manifest["first"], manifest["last"]) == (10, "gw1:6", "gw1:15")
    assert len(lines) == 10
    assert CANARY not in out.read_bytes()
    import hashlib

    for line in lines:
        body = json.loads(line)
        stored = body.pop("hash")
        assert body.pop("t").endswith("Z")
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(b"\x00" + canonical.encode()).hexdigest() == stored
        assert body["commitment"]
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


async def test_a_restart_goes_on_with_the_same_chain(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """And with a higher fence: rows of an old writer can be told apart."""
    fence = store.fence
    await store.close()
    again = await opened(section, tmp_path)
    assert again.fence == fence + 1
    await again.commit([Record(event="started", at_ms=5000)])
    await again.close()
    assert verified(section, tmp_path)[0].startswith("gw1: 21 records verify")
