"""Destroying content: gone to the last byte, on record, in steps, and the chain stands."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
import sqlite3
from pathlib import Path

import pytest

from adapters.ledger import verify_chain
from gateway.errors import DuplicateReceipt, LedgerFatal
from gateway.ports import DropOutbox, KeptRow, PutCheck, PutKept, PutOutbox, Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import CANARY, check_row, fill, opened, outbox_row, record
from tests.chain import audit, chain_faults, contents, events
from tests.fakes import FakeJournal, FakeMeter


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
    said = next(verify_chain(section, state_dir=tmp_path))
    assert said.startswith("gw1: 21 records verify")
    assert "content of 10 purged" in said
    assert await store.check("C1") is None
    assert [row.id for row in await store.open_checks()] == ["C2"]
    assert await store.outbox() == []
    assert await store.purge(3000) == 10
    assert await store.purge(3000) == 0
    await store.close()
    assert "content of 20 purged" in next(verify_chain(section, state_dir=tmp_path))
    assert meter.total("purged_items_total", kind="content") == 20
    if not section.url:
        assert events(audit(tmp_path))[20:] == ["purged", "purged"]
        for name in os.listdir(tmp_path):
            assert CANARY not in (tmp_path / name).read_bytes(), name


async def test_a_receipt_is_given_once_for_ever(section: LedgerSection, tmp_path: Path) -> None:
    """Also when the check that it proves was purged: the audit still has its records."""
    store = await opened(tmp_path, section)
    done = check_row("C1", opened_at_ms=1005, open=False)
    opening = Record(event="opened", at_ms=1005, check="C1", receipt=done.receipt)
    await store.commit([opening], [PutCheck(done)])
    await store.purge(3000)
    with pytest.raises(DuplicateReceipt):
        await store.commit([], [PutCheck(check_row("C2", receipt=done.receipt))])
    await store.commit([], [PutCheck(check_row("C1", receipt=done.receipt))])
    await store.commit([], [PutCheck(check_row("C3"))])
    assert [row.id for row in await store.open_checks()] == ["C1", "C3"]
    await store.close()


async def test_what_desks_keep_of_a_person_is_purged_in_its_time(
    section: LedgerSection, tmp_path: Path
) -> None:
    """By its end, or its beginning when it has none; what is of no person stays."""
    store = await opened(tmp_path, section)
    rows = [
        KeptRow(kind="booking", id="ended", at_ms=1, until_ms=1005, body=CANARY, personal=True),
        KeptRow(kind="booking", id="on", at_ms=1, until_ms=2000, body=b"{}", personal=True),
        KeptRow(kind="booking", id="endless", at_ms=1005, body=CANARY, personal=True),
        KeptRow(kind="booking", id="young", at_ms=1010, body=b"{}", personal=True),
        KeptRow(kind="booking", id="thing", at_ms=1, until_ms=1005, body=b"{}"),
    ]
    await store.commit([], [PutKept(row) for row in rows])
    await store.purge(1010)
    assert {row.id for row in await store.kept("booking")} == {"on", "young", "thing"}
    await store.close()
    if not section.url:
        (said,) = audit(tmp_path)
        assert (said["event"], said["verb"]) == ("purged", "erasure")
        assert said["detail"].endswith(", 2 others")
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
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
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
    assert "ledger.purge" in [event for event, _ in journal.lines], "that it waits is said"
    await store.close()


async def test_no_copy_of_a_row_stays_in_the_free_room_of_pages(tmp_path: Path) -> None:
    """I17: SQLite moves rows between pages as checks grow and as gaps are closed, and does not
    overwrite where they were. Ten days of checks, each day those of the day before are purged."""
    chance = random.Random(9)
    day = 80

    def personal(n: int, most: int) -> bytes:
        return b"<mark %d>" % n + b"q" * chance.randint(most // 5, most)

    def rows(n: int) -> tuple[PutCheck, PutCheck, PutOutbox]:
        id_ = f"{n:022d}"
        row: dict[str, object] = {"receipt": f"R{n}", "opened_at_ms": 1000 + n}
        first = check_row(id_, state=personal(n, 600), **row)
        row |= {"open": False, "outcome": "answered", "result": personal(n, 1500)}
        box = outbox_row(id_, payload=personal(n, 400), stale_at_ms=1000 + n)
        return (
            PutCheck(first),
            PutCheck(check_row(id_, state=personal(n, 300), **row)),
            PutOutbox(box),
        )

    store = await opened(tmp_path)
    for begin in range(0, 10 * day, 8):
        group = range(begin, begin + 8)
        firsts, ends, boxes = zip(*map(rows, group), strict=True)
        await store.commit([record(n, content=personal(n, 200)) for n in group], firsts)
        shown = [record(n, "answered", personal(n, 2000)) for n in group]
        await store.commit(shown, [*ends, *boxes])
        seen = [DropOutbox(each.row.id) for each in boxes if chance.random() < 0.9]
        await store.commit([record(n, "read", None) for n in group], seen)
        today, late = divmod(begin + 8, day)
        if late:
            continue
        await store.purge(1000 + (today - 1) * day)
        raw = (tmp_path / "ledger.db").read_bytes() + (tmp_path / "ledger.db-wal").read_bytes()
        left = {int(found[1]) for found in re.finditer(rb"<mark (\d+)>", raw)}
        assert left == set(range((today - 1) * day, today * day)), f"day {today}"
    await store.close()
    assert chain_faults(audit(tmp_path), contents=contents(tmp_path)) == []


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
