"""The recorder: bounded, counted, without anybody's factor, and never in a radio's way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters import recordings
from adapters.codecs.hush import hush_of
from adapters.recordings import Heard, LinkAbout, Lost, Recorder, opened
from adapters.recordings import recorder as module
from adapters.recordings.container import Item, Writing
from gateway.ports import OPENED, Hush
from gateway.settings import RecordSection
from tests.fakes import FakeClock, FakeJournal, FakeMeter

PIN = "4711"
LINES = (
    LinkAbout("line", "serial", "line_terminal", {"name": "line"}),
    LinkAbout("mqtt", "mqtt", "terminal_json", {"name": "mqtt"}),
)


class Bench:
    def __init__(self, folder: Path, **section: object) -> None:
        self.folder, self.meter = folder, FakeMeter()
        self.journal, self.clock = FakeJournal(), FakeClock()
        self.section = RecordSection(links=("line", "mqtt"), **section)  # type: ignore[arg-type]
        self.hushes: dict[str, type[Hush]] = {}

    def made(self) -> Recorder:
        return Recorder(
            self.section,
            folder=self.folder,
            key=None,
            instance="gw1",
            version="0",
            config="abc",
            links=LINES,
            hushes={each.name: hush_of(each.codec) for each in LINES} | self.hushes,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
        )

    def items(self) -> list[Item]:
        paths = sorted(self.folder.glob("*.rgrec"), key=lambda path: int(path.stem.split("-")[-1]))
        return [item for path in paths for item in opened(path.read_bytes()).items()]

    def heard(self) -> list[tuple[int, str, bytes]]:
        return [(e.link, e.channel, e.data) for e in self.items() if isinstance(e, Heard)]

    def dropped(self, reason: str) -> float:
        return self.meter.total("queue_dropped_total", queue="recording", reason=reason)


async def test_what_links_hear_is_recorded_with_its_times(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "r")
    recorder = bench.made()
    line, mqtt = recorder.tap("line"), recorder.tap("mqtt")
    line("", b"before\r\n")  # nothing is kept before it is on record who wants it
    recorder.begin()
    line(OPENED, b"")
    line("", b"#S 4")
    await bench.clock.advance(1.5)
    line("", b"\r\n\x80")
    mqtt("r:radio/5001001/up/status", b'{"code": 4}')
    await recorder.close()
    line("", b"after\r\n")
    assert bench.heard() == [
        (0, OPENED, b""),
        (0, "", b"#S 4\r\n"),
        (1, "r:radio/5001001/up/status", b'{"code": 4}'),
        (0, "", b"\x80"),
    ]
    said = [each for each in bench.items() if isinstance(each, Heard) and b"#S 4" in each.data]
    assert said[0].mono_us == int(bench.clock.monotonic_s() * 1e6)
    assert said[0].at_ms == bench.clock.wall_ms()


async def test_no_factor_is_in_a_recording(tmp_path: Path) -> None:
    """Not even in one that is not sealed, and whatever else is wrong with the line."""
    bench = Bench(tmp_path / "r")
    recorder = bench.made()
    recorder.begin()
    line, mqtt = recorder.tap("line"), recorder.tap("mqtt")
    line("", b"B 1001 47")
    line("", b"11\r\nPIN " + PIN.encode() + b"\r\nB 1001 " + PIN.encode() + b"\x80\r\nB 1001 47")
    line(OPENED, b"")
    line("", b"B 1002 " + PIN.encode())
    booking = b'{"book":"on","officer":"1001","factor":"4711","t":"2026-11-22T10:15:02Z"}'
    mqtt(":radio/5001001/up/status", booking)
    mqtt(":radio/5001001/up/text", b"B 1001 4711")
    await recorder.close()
    data = b"".join(path.read_bytes() for path in (tmp_path / "r").iterdir())
    assert b"1001" in data
    assert PIN.encode() not in data
    assert b"B 1001 0000" in data


async def test_what_cannot_be_judged_is_not_kept(tmp_path: Path) -> None:
    class Broken:
        def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
            raise RuntimeError(data)

        def rest(self) -> Sequence[tuple[str, bytes]]:
            return ()

    bench = Bench(tmp_path / "r")
    bench.hushes["line"] = Broken
    recorder = bench.made()
    recorder.begin()
    recorder.tap("line")("", b"secret\r\n")
    recorder.tap("mqtt")(":radio/1/up/fix", b"{}")
    await recorder.close()
    assert [each.count for each in bench.items() if isinstance(each, Lost)] == [1]
    assert bench.heard() == [(1, ":radio/1/up/fix", b"{}")]
    assert bench.dropped("unreadable") == 1


class Hanging:
    """A disk that takes nothing until it is let on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.on, self.hangs = threading.Event(), threading.Event()
        write = Writing.write

        def hanging(file: Writing, items: list[Item]) -> None:
            self.hangs.set()
            assert self.on.wait(30)
            write(file, items)

        patch.setattr(Writing, "write", hanging)


async def test_a_disk_that_hangs_costs_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The taps go on without waiting; what has no room is counted, and the file says how much."""
    disk, bench = Hanging(monkeypatch), Bench(tmp_path / "r", queue=16)
    recorder = bench.made()
    recorder.begin()
    tap = recorder.tap("mqtt")
    tap(":radio/1/up/fix", b"first")
    assert await asyncio.to_thread(disk.hangs.wait, 10)
    for n in range(100):
        tap(":radio/1/up/fix", str(n).encode())
    assert bench.dropped("full") == 100 - 16
    disk.on.set()
    await recorder.close()
    assert [data for _, _, data in bench.heard()] == [b"first", *(b"%d" % n for n in range(16))]
    assert sum(each.count for each in bench.items() if isinstance(each, Lost)) == 100 - 16


async def test_a_queue_holds_so_many_bytes_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 1000)
    disk, bench = Hanging(monkeypatch), Bench(tmp_path / "r")
    recorder = bench.made()
    recorder.begin()
    tap = recorder.tap("mqtt")
    tap("", b"first")
    assert await asyncio.to_thread(disk.hangs.wait, 10)
    for _ in range(10):
        tap("", b"x" * 300)
    assert bench.dropped("full") == 10 - 3
    disk.on.set()
    await recorder.close()
    assert len(bench.heard()) == 4


async def test_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of its own; what was lost meanwhile is said in it."""
    monkeypatch.setattr(module, "REOPEN_S", 0.05)
    bench = Bench(tmp_path / "no" / "r")
    (tmp_path / "no").write_bytes(b"a file where a folder should be")
    recorder = bench.made()
    recorder.begin()
    tap = recorder.tap("mqtt")
    tap(":a/1/up/fix", b"1")
    tap(":a/1/up/fix", b"2")
    async with asyncio.timeout(10):
        while bench.dropped("unavailable") < 2:  # noqa: ASYNC110 - a thread says it, not an event
            await asyncio.sleep(0.01)
    assert bench.dropped("unavailable") == 2
    (tmp_path / "no").unlink()
    await asyncio.sleep(0.1)
    tap(":a/1/up/fix", b"3")
    await recorder.close()
    assert [data for _, _, data in bench.heard()] == [b"3"]
    assert sum(each.count for each in bench.items() if isinstance(each, Lost)) == 2
    assert "recording" in [event for event, _ in bench.journal.lines]


async def test_files_are_bounded_in_size_number_and_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIB", 1000)
    monkeypatch.setattr(module, "BLOCK_BYTES", 500)
    folder = tmp_path / "r"
    folder.mkdir()
    old, foreign = folder / "gw1-1-1.rgrec", folder / "notes.txt"
    old.write_bytes(b"old")
    foreign.write_bytes(b"not ours")
    bench = Bench(folder, max_mib=1, files=3, keep_days=2)
    os.utime(old, (0, bench.clock.wall_ms() / 1000 - 3 * 86_400))
    recorder = bench.made()
    recorder.begin()
    tap = recorder.tap("mqtt")
    for n in range(40):
        tap(":a/1/up/fix", b"%d " % n + b"x" * 300)
    await recorder.close()
    files = sorted(folder.glob("*.rgrec"))
    assert len(files) == 3
    assert old not in files
    assert foreign.exists()
    assert all(path.stat().st_size < 2500 for path in files)
    assert bench.heard()[-1][2].startswith(b"39 ")
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_the_package_says_what_it_has() -> None:
    assert set(recordings.__all__) <= set(dir(recordings))
