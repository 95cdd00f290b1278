"""Opening: one writer, private files, what the daemon says about what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from adapters.ledger.schema import REVISION
from gateway.errors import LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import ROOT, fill, opened, record
from tests.chain import audit, chain_faults
from tests.fakes import FakeJournal, settle
from tests.services import postgresql


async def test_a_second_writer_is_refused(section: LedgerSection, tmp_path: Path) -> None:
    """H12, D11: whatever its name; and the first goes on undisturbed."""
    store = await opened(tmp_path, section)
    for instance in ("gw1", "gw2"):
        with pytest.raises(LedgerUnavailable, match="another daemon writes"):
            await opened(tmp_path, section, instance=instance)
    await store.commit([record()])
    await store.close()
    again = await opened(tmp_path, section)
    await again.close()


def test_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    """A writer that was killed keeps nobody out; one that lives does, from another process."""
    script = (
        "import asyncio, sys; from pathlib import Path;"
        "from tests.adapters.ledger.books import opened;"
        "asyncio.run(opened(Path(sys.argv[1]))); print('open', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(LedgerUnavailable, match="another daemon"):
            asyncio.run(opened(tmp_path))
    finally:
        process.kill()
        process.communicate()

    async def after() -> None:
        await (await opened(tmp_path)).close()

    asyncio.run(after())


async def test_a_restart_goes_on_with_the_same_chain(
    section: LedgerSection, tmp_path: Path
) -> None:
    """And with a higher fence: rows of an old writer can be told apart."""
    store = await opened(tmp_path, section)
    await fill(store, range(5))
    head = await store.head()
    await store.close()
    again = await opened(tmp_path, section)
    assert again.fence == store.fence + 1
    assert await again.head() == head
    await again.commit([Record(event="started", at_ms=5000)])
    assert (await again.head())[0] == 6
    await again.close()


async def test_logs_of_two_names_stand_side_by_side(section: LedgerSection, tmp_path: Path) -> None:
    """A renamed instance begins a chain of its own behind the old one, which stays as it is."""
    store = await opened(tmp_path, section)
    await fill(store, range(3))
    await store.close()
    other = await opened(tmp_path, section, instance="gw2")
    assert (await other.head())[0] == 0
    await other.commit([record()])
    await other.close()
    from adapters.ledger import verify_chain

    said = list(verify_chain(section, state_dir=tmp_path, heads=(tmp_path / "heads.jsonl",)))
    assert [line.split(" verify")[0] for line in said] == ["gw1: 3 records", "gw2: 1 records"]


@contextlib.contextmanager
def umask(mask: int):  # type: ignore[no-untyped-def]
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, from the first byte on."""
    state = tmp_path / "state"
    with umask(0):
        store = await opened(state)
        await store.commit([record()])
        modes = {name: (state / name).stat().st_mode & 0o777 for name in os.listdir(state)}
        await store.close()
    assert state.stat().st_mode & 0o777 == 0o700
    assert set(modes) >= {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.ballast"}
    assert set(modes.values()) == {0o600}
    assert (state / "heads.jsonl").stat().st_mode & 0o777 == 0o600


async def test_an_affected_sqlite_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D11: the WAL-reset bug; harmless with our one writer, and ops must know."""
    for version, said in (((3, 40, 1), True), ((3, 51, 3), False)):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        journal = FakeJournal()
        await (await opened(tmp_path, journal=journal)).close()
        await settle()
        assert ("ledger.version" in [line[0] for line in journal.lines]) is said


async def test_sqlite_is_set_as_the_reference_says(tmp_path: Path) -> None:
    """FULL above all: NORMAL lost acknowledged commits in 787 of 1,000 power cuts."""
    store = await opened(tmp_path)

    def ask(db: object) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "secure_delete", "wal_autocheckpoint", "mmap_size")
        raw = db.connection.dbapi_connection  # type: ignore[attr-defined]
        return {name: raw.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await store._read(ask) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
    }
    await store.close()


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x/y", "postgresql+nosuch://x/y"])
async def test_a_url_that_cannot_be_used_says_what_would_do(tmp_path: Path, url: str) -> None:
    with pytest.raises(LedgerUnavailable, match=r"\[ledger\] url"):
        await opened(tmp_path, LedgerSection(url=url))


async def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://gateway@/postgres?host={tmp_path}"
    with pytest.raises(LedgerUnavailable, match=r"cannot be read: .*No such file"):
        await opened(tmp_path, LedgerSection(url=url))


async def test_a_ledger_of_a_newer_version_is_left_alone(
    section: LedgerSection, tmp_path: Path
) -> None:
    """Its schema is unknown to this one: say so, and give the lock back."""
    from tests.adapters.ledger.books import tamper

    await (await opened(tmp_path, section)).close()
    tamper(section, tmp_path, "UPDATE alembic_version SET version_num = 'r9999'")
    with pytest.raises(LedgerUnavailable, match="newer"):
        await opened(tmp_path, section)
    tamper(section, tmp_path, f"UPDATE alembic_version SET version_num = '{REVISION}'")
    await (await opened(tmp_path, section)).close()


async def test_root_does_not_write_into_the_folder_of_another(tmp_path: Path) -> None:
    """The daemon could not open what root made there: it would not start any more."""
    if os.geteuid() != 0:
        return
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(LedgerUnavailable, match="run this as that user"):
        await opened(tmp_path)
    assert os.listdir(tmp_path) == []


async def test_an_old_copy_put_back_is_said_and_its_numbers_are_not_used_again(
    tmp_path: Path,
) -> None:
    """D12: which records are missing stands in the journal and in the chain itself."""
    store = await opened(tmp_path)
    await fill(store, range(3))
    await store.close()
    old = (tmp_path / "ledger.db").read_bytes()
    store = await opened(tmp_path)
    await fill(store, range(3, 8))
    await store.close()
    (tmp_path / "ledger.db").write_bytes(old)
    journal = FakeJournal()
    again = await opened(tmp_path, journal=journal)
    await again.commit([record(9)])
    await again.close()
    said = dict(journal.lines)["ledger.behind"]
    assert said["reason"] == "history missing 4..8"
    assert said["count"] == 5
    leaves = audit(tmp_path)
    assert [leaf.seq for leaf in leaves] == [1, 2, 3, 9, 10]
    assert "4..8 not there" in leaves[3]["detail"]
    from adapters.ledger import verify_chain

    found = next(
        verify_chain(LedgerSection(), state_dir=tmp_path, heads=(tmp_path / "heads.jsonl",))
    )
    assert "NOT HERE, as is on record: 4..8" in found
    assert chain_faults(leaves) == []


async def lives(folder: Path) -> tuple[dict[str, bytes], bytes]:
    """A ledger of eight records, of which three are left with the heads of then: an old copy of all
    that is on this host; and the head that an anchor has."""
    store = await opened(folder)
    await fill(store, range(3))
    await store.close()
    old = {name: (folder / name).read_bytes() for name in ("ledger.db", "heads.jsonl")}
    store = await opened(folder)
    await fill(store, range(5))
    await store.close()
    anchored = (folder / "heads.jsonl").read_bytes().splitlines()[-1]
    for name, data in old.items():
        (folder / name).write_bytes(data)
    return old, anchored


async def test_an_old_copy_of_ledger_and_heads_is_behind_its_anchor(tmp_path: Path) -> None:
    """D12: said, no number is used twice, and what is missing is a gap on record."""
    from adapters.ledger import verify_chain

    _, anchored = await lives(tmp_path)
    journal, told = FakeJournal(), list[bytes]()
    given = {"http": anchored}
    again = await opened(tmp_path, journal=journal, anchored=given, headed=told.append)
    assert again.gap, "an alarm, too"
    await again.commit([record(9)])
    await again.close()
    await settle()
    assert [json.loads(line)["seq"] for line in told] == [10], "no older one behind the newer one"
    said = dict(journal.lines)
    assert (said["ledger.anchor"]["link"], said["ledger.anchor"]["state"]) == ("http", "ahead")
    assert said["ledger.behind"]["reason"] == "history missing 4..8"
    assert [leaf.seq for leaf in audit(tmp_path)] == [1, 2, 3, 9, 10]
    found = next(
        verify_chain(LedgerSection(), state_dir=tmp_path, own=True, anchored={"http": anchored})
    )
    assert "NOT HERE, as is on record: 4..8" in found


async def test_an_anchor_that_none_of_our_keys_signed_is_said_and_not_gone_by(
    tmp_path: Path,
) -> None:
    """Whoever holds the anchor must not make us leave out numbers; nor may it say nonsense."""
    _, anchored = await lives(tmp_path)
    forged = anchored.replace(b'"seq":8', b'"seq":9000000')
    assert forged != anchored
    journal = FakeJournal()
    given = {"http": forged, "file": b"what?", "http-2": anchored.replace(b"gw1", b"gw2")}
    again = await opened(tmp_path, journal=journal, anchored=given)
    await again.commit([record(9)])
    await again.close()
    await settle()
    said = [(line["link"], line["reason"]) for name, line in journal.lines if "anchor" in name]
    assert said == [
        ("http", "key not known here"),
        ("file", "no head of this log"),
        ("http-2", "no head of this log"),
    ]
    assert [leaf.seq for leaf in audit(tmp_path)] == [1, 2, 3, 4]


async def test_the_newest_head_is_offered_again_at_the_start(tmp_path: Path) -> None:
    """P11: killed between head and anchor; the same head, byte for byte."""
    store = await opened(tmp_path)
    await fill(store, range(3))
    await store.close()
    (line,) = (tmp_path / "heads.jsonl").read_bytes().splitlines()
    told: list[bytes] = []
    store = await opened(tmp_path, headed=told.append)
    await settle()
    assert told == [line]
    await store.close()


async def test_a_missing_ledger_goes_on_behind_the_heads(tmp_path: Path) -> None:
    """Somebody deleted the file while the daemon was down: not a new life from number 1."""
    store = await opened(tmp_path)
    await fill(store, range(4))
    await store.close()
    (tmp_path / "ledger.db").unlink()
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    assert (await store.head())[0] == 5
    await store.close()
    assert "ledger.behind" in dict(journal.lines)


async def test_what_postgresql_takes_is_on_its_disk(database: str, tmp_path: Path) -> None:
    """A server that runs with fsync = off is refused; one that answers early is told not to."""
    engine = create_engine(database)
    with engine.begin() as db:
        db.execute(text("ALTER ROLE gateway SET synchronous_commit = off"))
    try:
        store = await opened(tmp_path, LedgerSection(url=database))
        query = "SHOW synchronous_commit"
        assert await store._read(lambda db: db.exec_driver_sql(query).scalar()) == "on"
        await store.close()
    finally:
        with engine.begin() as db:
            db.execute(text("ALTER ROLE gateway RESET synchronous_commit"))
        engine.dispose()
    with (
        postgresql.running("-c", "fsync=off") as url,
        pytest.raises(LedgerUnavailable, match="fsync"),
    ):
        await opened(tmp_path, LedgerSection(url=url))
