"""Destroying content: gone to the last byte, on record, in steps, and the chain stands."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from adapters.ledger import verify_chain
from gateway.errors import LedgerFatal
from gateway.ports import PutCheck, PutOutbox, Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import CANARY, check_row, fill, opened, outbox_row, record
from tests.chain import audit, chain_faults, events
from tests.fakes import FakeMeter


async def test_purged_content_leaves_a_chain_that_verifies_and_tells_nothing(
    section: LedgerSection, tmp_path: Path
) -> None:
    """I17: content and salt are gone, from the file's very bytes, too; the chain stands."""
    meter = FakeMeter()
    store = await opened(tmp_path, section, meter=meter)
    await fill(store, range(20))
    done = check_row("C1", opened_at_ms=1005, open=False, state=CANARY, result=CANARY)
    still = check_row("C2", opened_at_ms=1005, state=b"open ones are kept")
    await store.commit([], [PutCheck(done), PutCheck(still)])
    await store.commit([], [PutOutbox(outbox_row("C1", payload=CANARY, stale_at_ms=1005))])
    assert await store.purge(1010) == 10
    said = next(verify_chain(section, state_dir=tmp_path, heads=None))
    assert said.startswith("gw1: 21 records verify")
    assert "content of 10 purged" in said
    assert await store.check("C1") is None
    assert [row.id for row in await store.open_checks()] == ["C2"]
    assert await store.outbox() == []
    assert await store.purge(3000) == 10
    assert await store.purge(3000) == 0
    await store.close()
    assert "content of 20 purged" in next(verify_chain(section, state_dir=tmp_path, heads=None))
    assert meter.total("purged_items_total", kind="content") == 20
    if not section.url:
        assert events(audit(tmp_path))[20:] == ["purged", "purged"]
        for name in os.listdir(tmp_path):
            assert CANARY not in (tmp_path / name).read_bytes(), name


async def test_no_copy_stays_in_the_log_beside_the_file_while_the_daemon_runs(
    tmp_path: Path,
) -> None:
    """The write-ahead log is truncated at once, not at the next stop."""
    store = await opened(tmp_path)
    await fill(store, range(20))
    await store.purge(3000)
    for name in os.listdir(tmp_path):
        assert CANARY not in (tmp_path / name).read_bytes(), name
    await store.close()


async def test_that_the_log_was_cut_is_synced_before_the_purge_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it comes back after a power cut, and what was purged with it."""
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((path.name, os.stat(handle).st_size))
        fsync(handle)

    store = await opened(tmp_path)
    await fill(store, range(5))
    monkeypatch.setattr("adapters.ledger.purging.os.fsync", seen)
    await store.purge(3000)
    monkeypatch.undo()
    assert ("ledger.db-wal", 0) in synced
    await store.close()


async def test_a_disk_that_fails_then_ends_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with any sync that fails: what is on the disk is not known any more (D02)."""

    def fails(_handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = await opened(tmp_path)
    await fill(store, range(5))
    monkeypatch.setattr("adapters.ledger.purging.os.fsync", fails)
    with pytest.raises(LedgerFatal):
        await store.purge(3000)
    monkeypatch.undo()
    await store.close()


async def test_a_reader_that_is_in_the_way_only_delays_it(tmp_path: Path) -> None:
    """The log cannot be truncated under a reader: it is when the reader has gone."""
    store = await opened(tmp_path)
    await fill(store, range(20))
    reader = sqlite3.connect(f"file:{tmp_path / 'ledger.db'}?mode=ro", uri=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM audit_leaf").fetchone()
    await store.purge(3000)
    assert CANARY in (tmp_path / "ledger.db-wal").read_bytes()
    reader.close()
    async with asyncio.timeout(10):
        while CANARY in (tmp_path / "ledger.db-wal").read_bytes():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert CANARY not in (tmp_path / "ledger.db").read_bytes()
    await store.close()


async def test_it_goes_in_steps_and_checks_are_served_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D08: each step stands by itself with its record; one that was cut off goes on later."""
    monkeypatch.setattr("adapters.ledger.purging.STEP", 50)
    store = await opened(tmp_path)
    await store.commit([record(n) for n in range(220)])
    purging = asyncio.ensure_future(store.purge(3000))
    served = asyncio.ensure_future(
        store.commit([Record(event="asked", at_ms=5000, check="between")])
    )
    assert await purging == 220
    await served
    await store.close()
    found = events(audit(tmp_path))[220:]
    assert found.count("purged") == 5
    assert found.index("asked") < 5, "it waited for one step at most"
    assert chain_faults(audit(tmp_path)) == []
