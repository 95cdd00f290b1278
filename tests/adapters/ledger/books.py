"""What the ledger's tests share: opening one, records for it, a writer in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from adapters.ledger import open_ledger
from adapters.ledger.store import Store
from gateway.ports import CheckRow, OutboxRow, Record
from gateway.settings import AuditSection, LedgerSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter

ROOT = Path(__file__).resolve().parents[3]
CANARY = b"TESTER WANDA 06/06/1988"


async def opened(
    folder: Path,
    section: LedgerSection | None = None,
    *,
    instance: str = "gw1",
    meter: FakeMeter | None = None,
    journal: FakeJournal | None = None,
    audit: AuditSection | None = None,
    headed: Callable[[bytes], None] | None = None,
    anchored: Mapping[str, bytes] | None = None,
) -> Store:
    store = await open_ledger(
        section or LedgerSection(),
        state_dir=folder,
        instance=instance,
        meter=meter or FakeMeter(),
        journal=journal or FakeJournal(),
        clock=FakeClock(),
        audit=audit or AuditSection(),
        headed=headed,
        anchored=anchored,
    )
    assert isinstance(store, Store)
    return store


def record(n: int = 0, event: str = "opened", content: bytes | None = CANARY) -> Record:
    return Record(event=event, at_ms=1000 + n, check=f"C{n}", content=content)


def check_row(id_: str, **changes: object) -> CheckRow:
    values: dict[str, object] = {
        "id": id_,
        "short": id_[-4:],
        "receipt": f"R-{id_[-8:]}",
        "terminal": "5001001",
        "dedupe": f"d-{id_}",
        "opened_at_ms": FakeClock().wall_ms(),
        "state": b'{"a":1}',
        "open": True,
    }
    return CheckRow(**(values | changes))  # type: ignore[arg-type]


def outbox_row(id_: str, **changes: object) -> OutboxRow:
    values: dict[str, object] = {
        "id": id_,
        "check": id_,
        "terminal": "5001001",
        "holder": "police:1001@5001001",
        "payload": b"x",
        "queued_at_ms": 1,
        "stale_at_ms": 2,
    }
    return OutboxRow(**(values | changes))  # type: ignore[arg-type]


async def fill(store: Store, numbers: Iterable[int]) -> None:
    for n in numbers:
        await store.commit([record(n)])


@asynccontextmanager
async def stalled(store: Store) -> AsyncIterator[None]:
    """The writer is busy with a read for as long as the block lasts: everything else waits."""
    gate, begun = threading.Event(), threading.Event()

    def block(_db: object) -> None:
        begun.set()
        gate.wait(30)

    blocking = asyncio.ensure_future(store._read(block))
    await asyncio.to_thread(begun.wait, 30)
    try:
        yield
    finally:
        gate.set()
        await blocking


def wipe(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as db:
        # Of a test that failed with its ledger open: it must not take the next ones with it.
        db.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'radio-gateway'"
            )
        )
        db.execute(text("DROP SCHEMA public CASCADE"))
        db.execute(text("CREATE SCHEMA public"))
    engine.dispose()


def tamper(section: LedgerSection, folder: Path, *statements: str) -> None:
    """As whoever owns the database can: triggers off, then the change."""
    if not section.url:
        with sqlite3.connect(folder / "ledger.db") as db:
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            triggers = db.execute(query).fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                db.execute(statement)
            for _, sql in triggers:
                db.execute(sql)
        db.close()
        return
    engine = create_engine(section.url)
    with engine.begin() as db:
        db.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            db.execute(text(statement))
    engine.dispose()


WRITER = """
import asyncio, sys
from pathlib import Path
from adapters.ledger import opening, open_ledger
from gateway.errors import LedgerUnavailable
from gateway.ports import CheckRow, PutCheck, Record
from gateway.settings import LedgerSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter

opening.BALLAST_BYTES = int(sys.argv[3])
url = sys.argv[4] if len(sys.argv) > 4 else ""
STATE = b"s" * 200

class Said(FakeJournal):
    def warn(self, event, **fields):
        print("said", event, fields.get("reason", ""), flush=True)
    note = warn

async def main():
    store = await open_ledger(LedgerSection(url=url), state_dir=Path(sys.argv[1]), instance="gw1",
        meter=FakeMeter(), journal=Said(), clock=FakeClock())
    async def put(name, event, number):
        row = CheckRow(id=name, short=name[-4:], receipt=f"R{number}", terminal="5001001",
            dedupe=name, opened_at_ms=1, state=STATE, open=event == "opened")
        record = Record(event=event, at_ms=1, check=name, content=b"x" * 300)
        try:
            await store.commit([record], [PutCheck(row)])
        except LedgerUnavailable as error:
            print("refused", event, name, str(error), flush=True)
            await asyncio.sleep(0.01)
            return False
        print("ok", event, name, flush=True)
        return True
    async def one(lane):
        # A check is answered when the next one has been asked for: whatever moment the disk fills
        # at, each lane has one under way.
        n, under_way = 0, None
        while True:
            n += 1
            name = f"{sys.argv[2]}-{lane}-{n}"
            opened = await put(name, "opened", name[-14:])
            while under_way and not await put(under_way, "answered", under_way[-14:]):
                pass
            under_way = name if opened else None
    await asyncio.gather(*(one(lane) for lane in range(8)))

asyncio.run(main())
"""
"""Eight lanes that open checks and answer them, over and over, and print what was acknowledged."""


class WriterProcess:
    """`WRITER` in a process of its own, below `wrapper` (strace, unshare, prlimit)."""

    def __init__(
        self,
        folder: Path,
        run: str = "r0",
        *,
        wrapper: Iterable[str] = (),
        ballast_bytes: int = 65536,
        url: str = "",
    ) -> None:
        command = [sys.executable, "-c", WRITER, str(folder), run, str(ballast_bytes)]
        self.process = subprocess.Popen(
            [*wrapper, *command, *([url] if url else [])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.lines: list[str] = []

    def read(self, n: int = 1) -> list[str]:
        """The next n lines; fails when it ended instead."""
        assert self.process.stdout is not None
        for _ in range(n):
            line = self.process.stdout.readline()
            assert line, "it ended:\n" + "\n".join(self.lines[-20:])
            self.lines.append(line.strip())
        return self.lines[-n:]

    def read_until(self, start: str, times: int = 1) -> list[str]:
        """Lines up to and with the one that begins so for the n-th time from here."""
        begin = len(self.lines)
        while sum(line.startswith(start) for line in self.lines[begin:]) < times:
            self.read()
        return self.lines[begin:]

    def kill(self) -> None:
        self.process.kill()
        self.finish()

    def finish(self) -> None:
        """What it still said, until it ends."""
        out, _ = self.process.communicate(timeout=60)
        self.lines += out.splitlines()

    @property
    def acknowledged(self) -> set[tuple[str, str]]:
        """(check, event) of every commit that returned."""
        words = [line.split() for line in self.lines]
        return {(word[2], word[1]) for word in words if len(word) == 3 and word[0] == "ok"}
