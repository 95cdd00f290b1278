"""The one writer: groups, order, bounds, reads beside it, and errors told apart by remedy."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from adapters.ledger import heads
from adapters.ledger.writer import CHECKPOINT_ROWS
from gateway.errors import DuplicateCheck, DuplicateReceipt, LedgerFatal, LedgerUnavailable
from gateway.ports import PutCheck, PutOutbox, Record
from gateway.settings import AuditSection, LedgerSection
from tests.adapters.ledger.books import (
    CANARY,
    check_row,
    fill,
    opened,
    outbox_row,
    record,
    stalled,
    tamper,
)
from tests.chain import audit, chain_faults, contents
from tests.fakes import FakeJournal, FakeMeter, settle


async def test_a_burst_shares_transactions(tmp_path: Path) -> None:
    """200 commits at once cost far fewer syncs than 200, and none more than the group allows."""
    store = await opened(tmp_path)
    commits = 0

    @event.listens_for(store._writer._access.engine, "commit")
    def committed(_connection: object) -> None:
        nonlocal commits
        commits += 1

    await asyncio.gather(*(store.commit([record(n)]) for n in range(200)))
    await store.close()
    assert 200 / 64 <= commits < 100
    leaves = audit(tmp_path)
    assert chain_faults(leaves, contents=contents(tmp_path)) == []
    assert [leaf["check"] for leaf in leaves] == [f"C{n}" for n in range(200)], "order of the calls"


async def test_a_group_is_bounded_also_without_records(tmp_path: Path) -> None:
    """Rows of any table count: otherwise 1,000 changes would share one transaction."""
    store = await opened(tmp_path, LedgerSection(group_rows=8))
    commits = 0

    @event.listens_for(store._writer._access.engine, "commit")
    def committed(_connection: object) -> None:
        nonlocal commits
        commits += 1

    async with stalled(store):
        writing = [
            asyncio.ensure_future(store.commit([], [PutOutbox(outbox_row(f"O{n}"))]))
            for n in range(64)
        ]
        await settle()
    await asyncio.gather(*writing)
    await store.close()
    assert commits >= 8


async def test_a_lone_commit_waits_for_nobody(tmp_path: Path) -> None:
    """No delay on purpose: it is durable as soon as it is synced."""
    store = await opened(tmp_path)
    await store.commit([record()])
    assert len(audit(tmp_path)) == 1
    await store.close()


async def test_the_queue_is_bounded_and_says_so(tmp_path: Path) -> None:
    """One more than fits is refused at once and counted; what was taken is written."""
    meter = FakeMeter()
    store = await opened(tmp_path, LedgerSection(queue=10), meter=meter)
    async with stalled(store):
        taken = [asyncio.ensure_future(store.commit([record(n)])) for n in range(10)]
        await settle()
        with pytest.raises(LedgerUnavailable, match="queue full"):
            await store.commit([record(99)])
    await asyncio.gather(*taken)
    await store.close()
    assert len(audit(tmp_path)) == 10
    assert meter.total("queue_dropped_total", queue="audit", reason="full") == 1


async def test_what_its_caller_gave_up_and_the_writer_has_not_is_never_written(
    tmp_path: Path,
) -> None:
    """An alarm tries again every few seconds: on a disk that hangs the tries must not pile up and
    all be written when it is back."""
    store = await opened(tmp_path)
    async with stalled(store):
        for n in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await store.commit([record(n)])
        writing = asyncio.ensure_future(store.commit([record(20)]))
        await settle()
    await writing
    await store.close()
    assert [leaf["check"] for leaf in audit(tmp_path)] == ["C20"]


async def test_a_read_does_not_stand_behind_the_queue(tmp_path: Path) -> None:
    """With 1,000 commits waiting a read is answered before the last of them is."""
    store = await opened(tmp_path)
    await store.commit([record()], [PutCheck(check_row("C0001"))])
    done: list[str] = []

    async def write(n: int) -> None:
        await store.commit([record(n)])
        done.append("commit")

    async def read() -> None:
        found = await store.check("C0001")
        assert found is not None
        done.append("read")

    async with stalled(store):
        tasks = [asyncio.ensure_future(write(n)) for n in range(1000)]
        await settle()
        tasks.append(asyncio.ensure_future(read()))
        await settle()
    await asyncio.gather(*tasks)
    await store.close()
    assert done.index("read") < 100


async def test_what_was_committed_is_read(tmp_path: Path) -> None:
    """Read after write, also while others write."""
    store = await opened(tmp_path)

    async def one(n: int) -> None:
        await store.commit([record(n)], [PutCheck(check_row(f"C{n:04}"))])
        assert await store.check(f"C{n:04}") is not None

    await asyncio.gather(*(one(n) for n in range(100)))
    await store.close()


async def test_a_closed_ledger_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    writing = [asyncio.ensure_future(store.commit([record(n)])) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writing)
    with pytest.raises(LedgerUnavailable, match="closing"):
        await store.commit([record()])
    assert len(audit(tmp_path)) == 50


# --------------------------------------------------------------------------- one row to blame


async def test_a_row_that_is_refused_costs_only_its_caller(
    section: LedgerSection, tmp_path: Path
) -> None:
    """Neighbours in the same group are written; the chain has no hole where it would have stood."""
    store = await opened(tmp_path, section)
    await store.commit([record(0)], [PutCheck(check_row("C0000", receipt="SAME"))])
    async with stalled(store):
        good = [
            asyncio.ensure_future(store.commit([record(n)], [PutCheck(check_row(f"C{n:04}"))]))
            for n in range(1, 9)
        ]
        await settle()
        bad = asyncio.ensure_future(
            store.commit([record(99)], [PutCheck(check_row("C0099", receipt="SAME"))])
        )
        nul = asyncio.ensure_future(
            store.commit([record(98)], [PutCheck(check_row("C0098", outcome="a\ud800"))])
        )
        await settle()
        good.append(asyncio.ensure_future(store.commit([record(10)])))
        await settle()
    await asyncio.gather(*good)
    with pytest.raises(DuplicateReceipt):
        await bad
    with pytest.raises(LedgerUnavailable, match="refused"):
        await nul
    assert await store.head() == (10, store._writer.head[1])
    assert await store.check("C0099") is None
    await store.close()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (Record(event="opened", at_ms=1, content=b"x" * 300_000), "Record.content"),
        (Record(event="opened", at_ms=1, detail="x" * 3000), "Record.detail"),
        (Record(event="e" * 17, at_ms=1), "Record.event"),
        (Record(event="opened", at_ms=1, fields=("f",) * 300), "Record.fields"),
    ],
)
async def test_what_is_too_long_is_refused_on_both(
    section: LedgerSection, tmp_path: Path, bad: Record, named: str
) -> None:
    """PostgreSQL's columns have a length and SQLite's have not: the same answer from both."""
    store = await opened(tmp_path, section)
    with pytest.raises(LedgerUnavailable, match=named):
        await store.commit([bad])
    with pytest.raises(LedgerUnavailable, match=r"CheckRow\.dedupe"):
        await store.commit([], [PutCheck(check_row("C1", dedupe="d" * 81))])
    await store.commit([record()])
    assert (await store.head())[0] == 1
    await store.close()


async def test_an_old_check_that_is_written_again_is_no_duplicate(
    section: LedgerSection, tmp_path: Path
) -> None:
    """After a day its question may be asked anew; the old one can still come to its end."""
    store = await opened(tmp_path, section)
    now_ms = check_row("x").opened_at_ms
    old = check_row("C0001", dedupe="same", opened_at_ms=now_ms - 86_400_001)
    await store.commit([], [PutCheck(old)])
    await store.commit([], [PutCheck(check_row("C0002", dedupe="same"))])
    ended = check_row("C0001", dedupe="same", opened_at_ms=old.opened_at_ms, open=False)
    await store.commit([], [PutCheck(ended)])
    found = await store.check("C0001")
    assert found is not None
    assert not found.open
    with pytest.raises(DuplicateCheck) as caught:
        await store.commit([], [PutCheck(check_row("C0003", dedupe="same"))])
    assert caught.value.check == "C0002"
    await store.close()


# --------------------------------------------------------------------------- errors by remedy


async def test_what_cannot_be_read_costs_its_reader(tmp_path: Path) -> None:
    """A row of another version or a defect in a read: the others are served (H13)."""
    store = await opened(tmp_path)

    def broken(_db: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(LedgerUnavailable, match="ZeroDivisionError"):
        await store._read(broken)
    await store.commit([record()])
    await store.close()


async def test_an_alarm_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    """H13: one bad row must not keep the service from starting; it is said."""
    store = await opened(tmp_path)
    await store.close()
    tamper(
        LedgerSection(),
        tmp_path,
        "INSERT INTO alarms VALUES ('A1', 1, X'7B7D')",
        """INSERT INTO alarms VALUES ('A2', 1,
        '{"type":"alarm","id":"A2","rule":"EMG","priority":1,"state":"unack-active",
        "raised_ms":1,"t_ms":1}')""",
    )
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    assert [alarm.id for alarm in await store.open_alarms()] == ["A2"]
    await store.close()
    assert "alarm.unrecorded" in [line[0] for line in journal.lines]


async def test_a_defect_in_the_writer_is_told_to_all_who_wait(tmp_path: Path) -> None:
    """A thread that died silently would leave every check waiting for ever."""
    store = await opened(tmp_path)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    store._writer._leaf = broken  # type: ignore[assignment,method-assign]
    async with stalled(store):
        waiting = [asyncio.ensure_future(store.commit([record(n)])) for n in range(100)]
        await settle()
        reading = asyncio.ensure_future(store.open_checks())
        await settle()
    for each in waiting:
        with pytest.raises(LedgerFatal, match="ZeroDivisionError"):
            await each
    assert await reading == []
    with pytest.raises(LedgerFatal):
        await store.commit([record()])
    with pytest.raises(LedgerFatal):
        await store.open_checks()
    await store.close()
    assert audit(tmp_path) == []


async def test_a_file_that_is_deleted_under_us_is_fatal(tmp_path: Path) -> None:
    """D05: what would be written into it is gone with it; the process must end, not retry. Found
    by the very next commit, and by a read when nobody writes."""
    for ask in ("commit", "check"):
        folder = tmp_path / ask
        store = await opened(folder)
        await store.commit([record()])
        os.unlink(folder / "ledger.db")
        with pytest.raises(LedgerFatal):
            await (store.check("") if ask == "check" else store.commit([record()]))
        with pytest.raises(LedgerFatal):
            await store.commit([record()])
        await store.close()
        journal = FakeJournal()
        await (await opened(folder, journal=journal)).close()
        assert dict(journal.lines)["ledger.behind"]["reason"] == "history missing 1..1"


async def test_a_lock_of_another_process_passes(tmp_path: Path) -> None:
    """D03: refused within the busy timeout, off the loop, and written again once it is free."""
    store = await opened(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="SQLITE_BUSY"):
            await store.commit([record()])
        other.execute("ROLLBACK")
    other.close()
    await store.commit([record(1)])
    await store.close()
    assert [leaf["check"] for leaf in audit(tmp_path)] == ["C1"]


async def test_a_commit_that_fails_leaves_the_chain_where_it_was(tmp_path: Path) -> None:
    """The next record takes the number and the link that the failed one would have had."""
    store = await opened(tmp_path)
    await store.commit([record(1)])
    engine = store._writer._access.engine
    fail = True

    @event.listens_for(engine, "commit")
    def refuse(_connection: object) -> None:
        if fail:
            orig = sqlite3.OperationalError("database or disk is full")
            orig.sqlite_errorname = "SQLITE_BUSY"  # type: ignore[misc]
            raise DBAPIError("COMMIT", None, orig)

    with pytest.raises(LedgerUnavailable):
        await store.commit([record(2)])
    fail = False
    await store.commit([record(3)])
    await store.close()
    leaves = audit(tmp_path)
    assert [(leaf.seq, leaf["check"]) for leaf in leaves] == [(1, "C1"), (2, "C3")]
    assert chain_faults(leaves) == []


async def test_a_writer_that_was_overtaken_writes_nothing_more(
    section: LedgerSection, tmp_path: Path
) -> None:
    """H12: whoever came after us has a higher fence; neither record nor outbox row of ours."""
    store = await opened(tmp_path, section)
    await store.commit([record(1)])
    tamper(section, tmp_path, "UPDATE meta SET value = '2' WHERE key = 'fence:gw1'")
    with pytest.raises(LedgerFatal, match="taken over"):
        await store.commit([record(2)], [PutOutbox(outbox_row("O1"))])
    await store.close()
    again = await opened(tmp_path, section)
    assert await again.head() == (1, (await again.head())[1])
    assert await again.outbox() == []
    assert again.fence == 3
    await again.close()


async def test_a_record_of_somebody_else_in_our_place_is_fatal(
    section: LedgerSection, tmp_path: Path
) -> None:
    """Two records of one number would be two truths: stop rather than fork the chain."""
    store = await opened(tmp_path, section)
    blob = "'x'" if section.url else "X'00'"
    tamper(
        section,
        tmp_path,
        f"INSERT INTO audit_leaf VALUES ('gw1', 1, 1, 'opened', '', '', {blob}, 'ff')",
    )
    with pytest.raises(LedgerFatal, match="chain"):
        await store.commit([record(1)])
    await store.close()


# --------------------------------------------------------------------------- between the groups


async def test_the_write_ahead_log_is_folded_in_under_load(tmp_path: Path) -> None:
    """D07: also when there is never a pause; not once a commit for ever after."""
    store = await opened(tmp_path)
    folded: list[str] = []
    checkpoint = store._writer.checkpoint

    def counted(how: str) -> bool:
        folded.append(how)
        return checkpoint(how)

    store._writer.checkpoint = counted  # type: ignore[method-assign]
    n = 0

    async def lane() -> None:
        nonlocal n
        while n < 4 * CHECKPOINT_ROWS:
            n += 1
            await store.commit([record(n)])

    await asyncio.gather(*(lane() for _ in range(64)))
    assert 3 <= len(folded) <= 8
    assert (tmp_path / "ledger.db-wal").stat().st_size < 32 * 1024 * 1024
    await store.close()
    assert chain_faults(audit(tmp_path)) == []


async def test_a_reader_that_stays_is_said_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D07: it pins the write-ahead log; commits go on, and somebody hears of it once."""
    monkeypatch.setattr("adapters.ledger.writer.WAL_MOST_BYTES", 100_000)
    monkeypatch.setattr("adapters.ledger.writer.CHECKPOINT_ROWS", 10)
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    await fill(store, range(3))
    reader = sqlite3.connect(f"file:{tmp_path / 'ledger.db'}?mode=ro", uri=True)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM audit_leaf").fetchone() == (3,)
    await fill(store, range(3, 100))
    reader.close()
    await fill(store, range(100, 150))
    await store.close()
    said = [line for line in journal.lines if line[1].get("stage") == "checkpoint"]
    assert len(said) == 1
    assert len(audit(tmp_path)) == 150


async def test_heads_are_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    """Each stands on the chain; the last is the newest record of all."""
    store = await opened(tmp_path, audit=AuditSection(heads_every=10))
    await fill(store, range(25))
    await store.close()
    known = heads.read_heads(tmp_path / "heads.jsonl")["gw1"]
    leaves = {leaf.seq: leaf.stored_hash for leaf in audit(tmp_path)}
    assert sorted(known) == [10, 20, 25]
    assert all(known[seq] == {leaves[seq]} for seq in known)
    assert (tmp_path / "heads.jsonl").stat().st_mode & 0o077 == 0


async def test_heads_that_cannot_be_written_cost_no_record(tmp_path: Path) -> None:
    """The commit is durable; that its head is not anchored is said."""
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal, audit=AuditSection(heads_every=1))
    (tmp_path / "heads.jsonl").mkdir()
    await fill(store, range(3))
    await store.close()
    await settle()
    assert len(audit(tmp_path)) == 3
    assert "heads" in [line[1].get("stage") for line in journal.lines]


async def test_no_personal_content_in_what_is_said(tmp_path: Path) -> None:
    """Errors and journal name codes, never values: the canary is in the file and nowhere else."""
    journal = FakeJournal()
    store = await opened(tmp_path, journal=journal)
    await store.commit([record(1)], [PutCheck(check_row("C1", receipt="R", state=CANARY))])
    with pytest.raises(DuplicateReceipt) as caught:
        await store.commit([record(2)], [PutCheck(check_row("C2", receipt="R", state=CANARY))])
    await store.close()
    assert CANARY.decode() not in f"{caught.value!r} {journal.lines}"
