"""What every ledger promises: SQLite, PostgreSQL, and the simulation's stand-in alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

import msgspec
import pytest

from adapters.ledger import open_ledger
from adapters.ledger.process import start
from adapters.ledger.remote import open_remote
from gateway.app import SystemClock
from gateway.errors import DuplicateCheck, DuplicateReceipt
from gateway.messages import AlarmChanged
from gateway.ports import (
    CheckRow,
    DropKept,
    DropOutbox,
    KeptRow,
    Ledger,
    OutboxRow,
    PutAlarm,
    PutCheck,
    PutKept,
    PutOutbox,
    Record,
)
from gateway.settings import AuditSection, LedgerSection
from gateway.supervise import Crew
from gateway.trials import Trials
from tests.fake_ledger import FakeLedger
from tests.fakes import FakeClock, FakeIds, FakeJournal, FakeMeter
from tests.services import postgresql
from tests.simulation.faults import Faults
from tests.simulation.parties import SimDisk, SimLedger

DAY_MS = 86_400_000
Open = Callable[[], Awaitable[Ledger]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql.running() as url:
        yield url


def fresh_log(counter: list[int] = []) -> str:  # noqa: B006 - shared on purpose
    """A log of its own for each test: one PostgreSQL serves them all."""
    counter.append(1)
    return f"log{len(counter)}"


def hiding(_folder: Path) -> Callable[[str], str]:
    return lambda digest: f"k:{digest}"


@pytest.fixture(params=["sqlite", "postgresql", "process", "fake", "simulated"])
async def opening(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same ledger each time it is called, as a restart does."""
    kept: list[Ledger] = []
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("server")
        _wipe(url)
    log = fresh_log()
    stub = SimpleNamespace(
        disk=SimDisk(),
        life=1,
        clock=SimpleNamespace(sleep=lambda _s: asyncio.sleep(0), wall_ms=FakeClock().wall_ms),
        random=random.Random(1),
        chance=lambda *_fault: False,
        call=lambda _port: False,
        dies_of=lambda _records, _changes: False,
        faults=Faults(),
        healed=True,
        point=lambda _name: asyncio.sleep(0),
        own=asyncio.ensure_future,
        loop=SimpleNamespace(note=lambda *_words: None, now_s=0.0),
    )

    async def open_() -> Ledger:
        if request.param == "simulated":
            return SimLedger(stub)  # type: ignore[arg-type]
        if request.param == "fake":
            return FakeLedger(stub.disk)
        for each in kept:
            await each.close()
        kept.clear()
        opener: Callable[..., Awaitable[Ledger]] = open_ledger
        if request.param == "process":
            # From a thread: a fork from within a loop would believe that it runs it.
            process = await asyncio.to_thread(start, FakeClock(), hiding)
            opener = partial(
                open_remote, process, audit=AuditSection(), anchored={}, headed=lambda _head: None
            )
        kept.append(
            await opener(
                LedgerSection(url=url),
                state_dir=tmp_path,
                instance=log,
                meter=FakeMeter(),
                journal=FakeJournal(),
                clock=FakeClock(),
            )
        )
        return kept[0]

    yield open_
    for each in kept:
        await each.close()


def _wipe(url: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.begin() as db:
        db.execute(text("DROP SCHEMA public CASCADE"))
        db.execute(text("CREATE SCHEMA public"))
    engine.dispose()


def row(id_: str, *, dedupe: str = "", at_ms: int | None = None, **changes: object) -> CheckRow:
    values: dict[str, object] = {
        "id": id_,
        "short": id_[-4:],
        "receipt": f"R-{id_[-8:]}",
        "terminal": "5001001",
        "dedupe": dedupe or f"d-{id_}",
        "opened_at_ms": FakeClock().wall_ms() if at_ms is None else at_ms,
        "state": b'{"a":1}',
        "open": True,
    }
    return CheckRow(**(values | changes))  # type: ignore[arg-type]


def record(event: str = "opened", **values: object) -> Record:
    return Record(event=event, at_ms=FakeClock().wall_ms(), **values)  # type: ignore[arg-type]


async def test_what_was_committed_is_there_after_a_restart(opening: Open) -> None:
    """Open checks, outbox, alarms: what a new process goes on from."""
    ledger = await opening()
    alarm = AlarmChanged(
        id="A1", rule="EMG", priority=1, state="unack-active", raised_ms=1, t_ms=1, terminal="5"
    )
    waiting = OutboxRow(
        id="C0001",
        check="C0001",
        terminal="5001001",
        holder="police:1001@5001001",
        payload=b"x",
        queued_at_ms=1,
        stale_at_ms=2,
    )
    await ledger.commit(
        [record(check="C0001")],
        [PutCheck(row("C0001")), PutOutbox(waiting), PutAlarm(alarm, open=True)],
    )
    await ledger.commit([], [PutCheck(row("C0002", open=False))])
    again = await opening()
    assert [each.id for each in await again.open_checks()] == ["C0001"]
    assert [(each.id, each.holder) for each in await again.outbox()] == [
        ("C0001", "police:1001@5001001")
    ]
    assert await again.open_alarms() == [alarm]
    found = await again.check("C0002")
    assert found is not None
    assert found.open is False


async def test_the_same_question_is_refused_and_nothing_of_it_stands(opening: Open) -> None:
    """DuplicateCheck names the first; records and other changes of the second are not written."""
    ledger = await opening()
    await ledger.commit([record(check="C0001")], [PutCheck(row("C0001", dedupe="same"))])
    other = OutboxRow(
        id="o", check="C0002", terminal="5", holder="h", payload=b"", queued_at_ms=1, stale_at_ms=2
    )
    with pytest.raises(DuplicateCheck) as caught:
        await ledger.commit(
            [record(check="C0002")], [PutOutbox(other), PutCheck(row("C0002", dedupe="same"))]
        )
    assert caught.value.check == "C0001"
    assert await ledger.check("C0002") is None
    assert await ledger.outbox() == []


async def test_a_receipt_that_another_check_has_is_refused(opening: Open) -> None:
    """DuplicateReceipt, over a restart, too; nothing of it stands, and its own check goes on."""
    ledger = await opening()
    first = row("C0001", receipt="SAME")
    await ledger.commit([record(check="C0001", receipt="SAME")], [PutCheck(first)])
    again = await opening()
    second = PutCheck(row("C0002", receipt="SAME"))
    with pytest.raises(DuplicateReceipt):
        await again.commit([record(check="C0002", receipt="SAME")], [second])
    assert await again.check("C0002") is None
    await again.commit([], [PutCheck(msgspec.structs.replace(first, open=False))])
    await again.commit([], [PutCheck(row("C0002", receipt="OTHER"))])
    assert [each.id for each in await again.open_checks()] == ["C0002"]


async def test_of_two_that_have_one_receipt_at_once_one_is_refused(opening: Open) -> None:
    ledger = await opening()
    commits = [ledger.commit([], [PutCheck(row(f"C{n:04}", receipt="SAME"))]) for n in range(8)]
    ends = await asyncio.gather(*commits, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["DuplicateReceipt"] * 7 + ["NoneType"]
    assert len(await ledger.open_checks()) == 1


async def test_a_question_asked_twice_is_that_before_its_receipt_is_looked_at(
    opening: Open,
) -> None:
    ledger = await opening()
    await ledger.commit([], [PutCheck(row("C0001", dedupe="same", receipt="SAME"))])
    with pytest.raises(DuplicateCheck):
        await ledger.commit([], [PutCheck(row("C0002", dedupe="same", receipt="SAME"))])


async def test_after_a_day_the_same_key_is_a_new_question(opening: Open) -> None:
    ledger = await opening()
    now_ms = FakeClock().wall_ms()
    await ledger.commit([], [PutCheck(row("C0001", dedupe="same", at_ms=now_ms - DAY_MS - 1))])
    await ledger.commit([], [PutCheck(row("C0002", dedupe="same", at_ms=now_ms))])
    assert await ledger.check("C0002") is not None


async def test_a_row_is_replaced_by_its_id_and_dropped_by_it(opening: Open) -> None:
    ledger = await opening()
    await ledger.commit([], [PutCheck(row("C0001"))])
    done = row("C0001", open=False, outcome="answered", result=b"answer")
    await ledger.commit([], [PutCheck(done)])
    found = await ledger.check("C0001")
    assert found is not None
    assert (found.outcome, found.result, found.open) == ("answered", b"answer", False)
    assert await ledger.open_checks() == []
    box = OutboxRow(
        id="C0001", check="C0001", terminal="5", holder="h", payload=b"1", queued_at_ms=1,
        stale_at_ms=2,
    )  # fmt: skip
    await ledger.commit([], [PutOutbox(box)])
    await ledger.commit([], [DropOutbox("C0001")])
    assert await ledger.outbox() == []


async def test_the_newest_check_of_a_terminal(opening: Open) -> None:
    """By terminal, and by its short form when that is given; another terminal's is not found."""
    ledger = await opening()
    now_ms = FakeClock().wall_ms()
    for n, id_ in enumerate(("XC001", "XC002", "XC003")):
        await ledger.commit([], [PutCheck(row(id_, at_ms=now_ms + n))])
    newest = await ledger.last_check("5001001")
    assert newest is not None
    assert newest.id == "XC003"
    named = await ledger.last_check("5001001", "C002")
    assert named is not None
    assert named.id == "XC002"
    assert await ledger.last_check("5001002") is None
    assert await ledger.last_check("5001001", "C999") is None


async def test_the_recent_checks_of_a_terminal(opening: Open) -> None:
    """Newest first, since a moment; not another terminal's; a bounded number."""
    ledger = await opening()
    now_ms = FakeClock().wall_ms()
    for n in range(70):
        await ledger.commit([], [PutCheck(row(f"C{n:04}", at_ms=now_ms + n))])
    await ledger.commit([], [PutCheck(row("X0001", terminal="5001002", at_ms=now_ms + 99))])
    found = [each.id for each in await ledger.recent_checks("5001001", now_ms + 67)]
    assert found == ["C0069", "C0068", "C0067"]
    assert len(await ledger.recent_checks("5001001", 0)) == 64
    assert await ledger.recent_checks("5001003", 0) == []


async def test_many_at_once_all_stand(opening: Open) -> None:
    ledger = await opening()
    await asyncio.gather(
        *(
            ledger.commit([record(check=f"C{n:04}")], [PutCheck(row(f"C{n:04}"))])
            for n in range(150)
        )
    )
    assert len(await ledger.open_checks()) == 150


async def test_two_of_the_same_at_once_are_one(opening: Open) -> None:
    """The unique constraint decides, whoever comes first."""
    ledger = await opening()
    ends = await asyncio.gather(
        *(
            ledger.commit([record(check=f"C{n:04}")], [PutCheck(row(f"C{n:04}", dedupe="same"))])
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(end is None for end in ends) == 1
    assert sum(isinstance(end, DuplicateCheck) for end in ends) == 9
    assert len(await ledger.open_checks()) == 1


async def test_an_alarm_that_is_closed_is_not_raised_again(opening: Open) -> None:
    ledger = await opening()
    alarm = AlarmChanged(id="A1", rule="EMG", priority=1, state="ack-active", raised_ms=1, t_ms=1)
    await ledger.commit([], [PutAlarm(alarm, open=True)])
    await ledger.commit([], [PutAlarm(alarm, open=False)])
    assert await (await opening()).open_alarms() == []


def kept(kind: str, id_: str, body: bytes = b"{}", *, at_ms: int = 1, **more: object) -> PutKept:
    return PutKept(KeptRow(kind=kind, id=id_, at_ms=at_ms, body=body, **more))  # type: ignore[arg-type]


async def test_what_desks_keep_is_there_after_a_restart(opening: Open) -> None:
    """By kind, the oldest first; every member as it was put."""
    ledger = await opening()
    whole = kept("booking", "B2", b"\x00\xff", at_ms=5, until_ms=9, personal=True)
    await ledger.commit(
        [],
        [
            whole,
            kept("booking", "B1", at_ms=7),
            kept("timer", "B1", at_ms=6),
            kept("booking", "B0"),
        ],
    )
    again = await opening()
    assert [row.id for row in await again.kept("booking")] == ["B0", "B2", "B1"]
    assert (await again.kept("booking"))[1] == whole.row
    assert [row.at_ms for row in await again.kept("timer")] == [6]
    assert await again.kept("policy") == []


async def test_what_is_kept_is_replaced_and_dropped_by_kind_and_id(opening: Open) -> None:
    """An equal id of another kind, or of the outbox, is another matter."""
    ledger = await opening()
    waiting = OutboxRow(
        id="1", check="C", terminal="5", holder="h", payload=b"", queued_at_ms=1, stale_at_ms=2,
        kind="message",
    )  # fmt: skip
    await ledger.commit(
        [],
        [kept("message", "1", b"old"), kept("timer", "1"), kept("timer", "2"), PutOutbox(waiting)],
    )
    await ledger.commit([], [kept("message", "1", b"new"), DropKept("timer", "1")])
    assert [row.body for row in await ledger.kept("message")] == [b"new"]
    assert [row.id for row in await ledger.kept("timer")] == ["2"]
    await ledger.commit(
        [], [DropKept("message", "1"), DropKept("timer", "2"), DropKept("timer", "9")]
    )
    assert await ledger.kept("message") == []
    assert await ledger.kept("timer") == []
    assert await ledger.outbox() == [msgspec.structs.replace(waiting, fence=ANY)]


async def test_within_a_commit_the_last_word_on_a_kept_row_stands(opening: Open) -> None:
    ledger = await opening()
    await ledger.commit(
        [],
        [
            kept("timer", "1", b"one"),
            DropKept("timer", "1"),
            kept("timer", "1", b"two"),
            kept("timer", "2"),
            DropKept("timer", "2"),
        ],
    )
    assert [(row.id, row.body) for row in await ledger.kept("timer")] == [("1", b"two")]


async def test_commits_take_effect_in_the_order_of_the_calls(opening: Open) -> None:
    """An attempt that is still being written must not undo the outcome written after it."""
    ledger = await opening()
    await asyncio.gather(
        *(ledger.commit([], [PutCheck(row("C0001", outcome=str(n)))]) for n in range(100))
    )
    found = await ledger.check("C0001")
    assert found is not None
    assert found.outcome == "99"


async def test_what_a_commit_returned_from_is_read(opening: Open) -> None:
    """Read after write, by each of many who write at once."""
    ledger = await opening()

    async def one(n: int) -> None:
        await ledger.commit([record(check=f"C{n:04}")], [PutCheck(row(f"C{n:04}"))])
        assert await ledger.check(f"C{n:04}") is not None
        newest = await ledger.last_check("5001001", f"{n:04}")
        assert newest is None or newest.id == f"C{n:04}"

    await asyncio.gather(*(one(n) for n in range(50)))


async def test_an_old_check_comes_to_its_end_though_it_was_asked_again(opening: Open) -> None:
    """After a day the question is free; the first check is still the same check."""
    ledger = await opening()
    now_ms = FakeClock().wall_ms()
    old = row("C0001", dedupe="same", at_ms=now_ms - DAY_MS - 1)
    await ledger.commit([], [PutCheck(old)])
    await ledger.commit([], [PutCheck(row("C0002", dedupe="same"))])
    ended = row("C0001", dedupe="same", at_ms=old.opened_at_ms, open=False, outcome="expired")
    await ledger.commit([record("answered", check="C0001")], [PutCheck(ended)])
    found = await ledger.check("C0001")
    assert found is not None
    assert found.outcome == "expired"
    with pytest.raises(DuplicateCheck) as caught:
        await ledger.commit([], [PutCheck(row("C0003", dedupe="same"))])
    assert caught.value.check == "C0002"


async def test_an_alarm_that_was_closed_can_be_raised_again(opening: Open) -> None:
    ledger = await opening()
    alarm = AlarmChanged(id="A1", rule="EMG", priority=1, state="unack-active", raised_ms=1, t_ms=1)
    for open_ in (True, False, True):
        await ledger.commit([], [PutAlarm(alarm, open=open_)])
    assert await (await opening()).open_alarms() == [alarm]


async def test_a_mark_of_a_question_outlives_us_and_is_no_check(opening: Open) -> None:
    """M13: what gateway.trials writes before it tries again fits every ledger's tables."""
    ids, key = FakeIds(), "a" * 64
    died = []
    for _ in range(4):
        ledger = await opening()
        crew = Crew(name="check", most=9, journal=FakeJournal(), meter=FakeMeter())
        trials = Trials(ledger=ledger, clock=SystemClock(), ids=ids, crew=crew, fatal=pytest.fail)
        died.append((await trials.begin(key))[0])
        assert await ledger.open_checks() == []
        assert await ledger.last_check("5001001") is None
    assert died == [0, 1, 2, 2]
