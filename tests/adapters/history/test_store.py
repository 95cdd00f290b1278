"""The history: bounded, counted, purged, and never in anybody's way."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.history import NoHistory, open_history
from adapters.history.store import HistoryStore, moment_of
from gateway.messages import (
    AlarmChanged,
    CheckStaged,
    Event,
    FixSource,
    LinkChanged,
    LinkState,
    UnitFix,
)
from gateway.settings import HistorySection
from tests.fakes import FakeMeter
from tests.services import require

ROOT = Path(__file__).resolve().parents[3]
DAY_MS = 86_400_000
NOW_MS = 1_795_325_047_120


def fix(n: int, at_ms: int = NOW_MS) -> UnitFix:
    return UnitFix(
        terminal="5001001",
        lat=52.5,
        lon=-0.2,
        fixed_at_ms=at_ms,
        received_at_ms=at_ms + n,
        accuracy_m=None,
        course_deg=None,
        speed_mps=None,
        source=FixSource.GNSS,
    )


def rows(folder: Path) -> list[tuple[int, str, str]]:
    with sqlite3.connect(f"file:{folder / 'history.db'}?mode=ro", uri=True) as db:
        return db.execute("SELECT at_ms, type, terminal FROM events ORDER BY seq").fetchall()


async def test_what_was_kept_is_there_after_close(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = HistoryStore(HistorySection(), path=path, meter=FakeMeter(), wall_ms=lambda: NOW_MS)
    for n in range(700):
        history.keep(fix(n))
    history.keep(LinkChanged(id="mqtt", kind="mqtt", state=LinkState.UP, since_ms=NOW_MS))
    await history.close()
    kept = rows(tmp_path)
    assert len(kept) == 701
    assert kept[0] == (NOW_MS, "unit.fix", "5001001")
    assert kept[-1] == (NOW_MS, "link", "")
    assert (tmp_path / "history.db").stat().st_mode & 0o077 == 0


async def test_what_was_withheld_from_a_radio_is_not_kept(tmp_path: Path) -> None:
    """COV is for supervisors: it stands in the audit, and not where feed events are replayed."""
    path = tmp_path / "history.db"
    history = HistoryStore(HistorySection(), path=path, meter=FakeMeter(), wall_ms=lambda: NOW_MS)
    for rule in ("COV", "CHX"):
        history.keep(AlarmChanged("A1", rule, 2, "unack-active", NOW_MS, NOW_MS))
    await history.close()
    assert [type_ for _, type_, _ in rows(tmp_path)] == ["alarm"]


async def test_what_does_not_fit_is_shed_and_counted(tmp_path: Path) -> None:
    """keep never waits: with the writer stuck, the queue fills and the rest is counted."""
    meter = FakeMeter()
    gate = threading.Event()

    class Stuck(HistoryStore):
        def _write(self, connection: object) -> None:
            gate.wait(10)
            return super()._write(connection)  # type: ignore[arg-type,return-value]

    history = Stuck(HistorySection(queue=100), path=tmp_path / "history.db", meter=meter)
    for n in range(250):
        history.keep(fix(n))
    assert meter.total("queue_dropped_total", queue="history", reason="full") == 150
    gate.set()
    await history.close()
    assert len(rows(tmp_path)) == 100


async def test_old_rows_are_purged(tmp_path: Path) -> None:
    meter = FakeMeter()
    section = HistorySection(keep_days=31)
    history = HistoryStore(
        section, path=tmp_path / "history.db", meter=meter, wall_ms=lambda: NOW_MS
    )
    history.keep(fix(0, at_ms=NOW_MS - 32 * DAY_MS))
    history.keep(fix(0, at_ms=NOW_MS - 30 * DAY_MS))
    await history.close()
    assert [row[0] for row in rows(tmp_path)] == [NOW_MS - 30 * DAY_MS]
    assert meter.total("purged_items_total", kind="location") == 1


async def test_a_file_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    """Every event is counted as lost; nothing raises, and close ends."""
    (tmp_path / "history.db").mkdir()
    meter = FakeMeter()
    history = HistoryStore(HistorySection(), path=tmp_path / "history.db", meter=meter)
    for n in range(10):
        history.keep(fix(n))
    async with asyncio.timeout(10):
        await history.close()
    assert meter.total("queue_dropped_total", queue="history", reason="unavailable") == 10


async def test_none_wanted_none_kept(tmp_path: Path) -> None:
    history = await open_history(
        HistorySection(enabled=False), state_dir=tmp_path, meter=FakeMeter()
    )
    assert isinstance(history, NoHistory)
    history.keep(fix(1))
    await history.close()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


def test_every_event_has_a_moment() -> None:
    """A new event type without one would be lost with a traceback in the writer."""
    staged = CheckStaged(short="C001", check="c", terminal="5", stage="pnc", t_ms=7)
    assert moment_of(staged) == 7
    for type_ in Event.__args__:
        names = set(type_.__struct_fields__)
        assert names & {"received_at_ms", "t_ms", "opened_ms", "since_ms"}, type_.__name__


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0.02)


async def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Positions are personal data: whatever the umask, from the first byte on."""
    before = os.umask(0)
    try:
        history = await open_history(
            HistorySection(), state_dir=tmp_path / "state", meter=FakeMeter()
        )
        history.keep(fix(1))
        await until(lambda: (tmp_path / "state" / "history.db-wal").exists())
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
        await history.close()
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_an_idle_gateway_purges_too(tmp_path: Path) -> None:
    """At its start, though nobody sends anything; and not one byte of it is left."""
    path, now_ms = tmp_path / "history.db", NOW_MS
    history = HistoryStore(HistorySection(), path=path, meter=FakeMeter(), wall_ms=lambda: now_ms)
    for n in range(50):
        history.keep(fix(n))
    await history.close()
    now_ms += 32 * DAY_MS
    meter = FakeMeter()
    history = HistoryStore(HistorySection(), path=path, meter=meter, wall_ms=lambda: now_ms)
    await until(lambda: meter.total("purged_items_total", kind="location") == 50)
    for name in ("history.db", "history.db-wal"):
        assert b"52.5" not in (tmp_path / name).read_bytes(), name
    await history.close()
    assert rows(tmp_path) == []


def written(folder: Path) -> bool:
    try:
        return bool(rows(folder))
    except sqlite3.OperationalError:
        return False  # not even the table yet


async def test_a_reader_in_the_way_only_delays_that_the_last_copy_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write-ahead log is cut off when the reader has gone, and that it was is synced."""
    monkeypatch.setattr("adapters.history.store.REOPEN_S", 0.05)
    monkeypatch.setattr(
        "adapters.history.store.PRAGMAS", ("journal_mode=WAL", "secure_delete=ON", "busy_timeout=1")
    )
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), os.stat(handle).st_size))
        fsync(handle)

    monkeypatch.setattr("adapters.history.store.os.fsync", seen)
    path, meter, now_ms = tmp_path / "history.db", FakeMeter(), NOW_MS
    history = HistoryStore(HistorySection(), path=path, meter=meter, wall_ms=lambda: now_ms)
    history.keep(fix(1))
    await until(lambda: written(tmp_path))
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM events").fetchone() == (1,)
    now_ms += 32 * DAY_MS

    def purged() -> bool:
        history._purge_at_s = 0.0  # an hour is over, said until the writer has heard it
        return meter.total("purged_items_total", kind="location") == 1

    await until(purged)
    assert b"52.5" in (tmp_path / "history.db-wal").read_bytes()
    assert synced == []
    reader.close()
    await until(lambda: bool(synced))
    assert synced == [(str(path) + "-wal", 0)]
    assert b"52.5" not in path.read_bytes()
    await history.close()


async def test_a_purge_goes_in_steps_and_what_comes_is_written_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month's rows at once would stand in the way of the queue until it sheds."""
    monkeypatch.setattr("adapters.history.store.PURGE_STEP", 10)
    path, meter = tmp_path / "history.db", FakeMeter()
    history = HistoryStore(HistorySection(), path=path, meter=meter, wall_ms=lambda: NOW_MS)
    for n in range(95):
        history.keep(fix(n, at_ms=NOW_MS - 40 * DAY_MS))
    history.keep(fix(0))
    await until(lambda: meter.total("purged_items_total", kind="location") == 95)
    await history.close()
    assert rows(tmp_path) == [(NOW_MS, "unit.fix", "5001001")]
    steps = [n for (name, _), n in meter.counts.items() if name == "purged_items_total"]
    assert steps == [95]


async def test_an_event_that_cannot_be_written_down_costs_only_itself(tmp_path: Path) -> None:
    """Neither its neighbours nor the thread: the next ones are kept."""
    meter = FakeMeter()
    history = HistoryStore(HistorySection(), path=tmp_path / "history.db", meter=meter)
    half = LinkChanged(id="a\ud800", kind="mqtt", state=LinkState.UP, since_ms=NOW_MS)
    history.keep(half)
    await until(lambda: meter.total("queue_dropped_total", reason="unreadable") == 1)
    history.keep(fix(1))
    history.keep(half)
    history.keep(fix(2))
    await history.close()
    assert len(rows(tmp_path)) == 2
    assert meter.total("queue_dropped_total", queue="history", reason="unreadable") == 2


async def test_a_damaged_file_is_moved_aside_and_begun_anew(tmp_path: Path) -> None:
    """Kept for as long as its rows would have been, then destroyed."""
    path, aside = tmp_path / "history.db", tmp_path / "history.db.broken"
    path.write_bytes(b"no database, and long enough to be looked at by somebody" * 99)
    meter, now_ms = FakeMeter(), int(time.time() * 1000)
    history = HistoryStore(HistorySection(), path=path, meter=meter, wall_ms=lambda: now_ms)
    await until(aside.exists)
    history.keep(fix(1, at_ms=now_ms))
    await history.close()
    assert len(rows(tmp_path)) == 1
    now_ms += 32 * DAY_MS
    history = HistoryStore(HistorySection(), path=path, meter=meter, wall_ms=lambda: now_ms)
    await until(lambda: not aside.exists())
    await history.close()


async def test_a_file_that_comes_back_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for ever lost: tried again after a while, and meanwhile counted."""
    monkeypatch.setattr("adapters.history.store.REOPEN_S", 0.05)
    path, meter = tmp_path / "history.db", FakeMeter()
    path.mkdir()
    history = HistoryStore(HistorySection(), path=path, meter=meter)
    history.keep(fix(1))
    await until(lambda: meter.total("queue_dropped_total", reason="unavailable") == 1)
    path.rmdir()
    await asyncio.to_thread(time.sleep, 0.1)  # longer than REOPEN_S: then it may be tried again
    history.keep(fix(2))
    await history.close()
    assert len(rows(tmp_path)) == 1


FILLER = """
import asyncio, os, sys, time
from pathlib import Path
from adapters.history.store import HistoryStore
from gateway.settings import HistorySection
from tests.adapters.history.test_store import fix
from tests.fakes import FakeMeter
import adapters.history.store as store
store.REOPEN_S = 0.2

async def main():
    meter, folder = FakeMeter(), Path(sys.argv[1])
    history = HistoryStore(HistorySection(), path=folder / "history.db", meter=meter)
    lost = lambda: meter.total("queue_dropped_total", queue="history", reason="unavailable")
    slowest_s = n = 0
    while not lost():
        for _ in range(500):
            n += 1
            begin_s = time.perf_counter()
            history.keep(fix(n))
            slowest_s = max(slowest_s, time.perf_counter() - begin_s)
        await asyncio.sleep(0.02)
    os.unlink(folder / "filler")
    await asyncio.sleep(1.0)
    before = lost()
    history.keep(fix(n + 1))
    await history.close()
    print(int(lost() == before), int(slowest_s < 0.25))

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_full_disk_hurts_nobody_and_passes(tmp_path: Path) -> None:
    """keep goes on without waiting, what is lost is counted, and with room it writes again."""
    script = (
        f"set -e; mount -t tmpfs -o size=2048k tmpfs {tmp_path};"
        f"dd if=/dev/zero of={tmp_path}/filler bs=1k count=1500 2>/dev/null;"
        'exec "$@"'
    )
    done = subprocess.run(
        [
            *(require("unshare"), "-rm", "sh", "-c", script, "sh"),
            *(sys.executable, "-c", FILLER, str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.stdout.split() == ["1", "1"], done.stdout + done.stderr
