"""The history: bounded, counted, purged, and never in anybody's way."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

from adapters.history import NoHistory, open_history
from adapters.history.store import HistoryStore, moment_of
from gateway.messages import CheckStaged, Event, FixSource, LinkChanged, LinkState, UnitFix
from gateway.settings import HistorySection
from tests.fakes import FakeMeter

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
