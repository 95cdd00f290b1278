"""Records what links heard: a bounded queue in front of one writer thread with files of its own.

Rule: a tap never waits and never raises. What does not fit, or cannot be written, is given up and
counted, and the recording says how much; no radio notices. Second factors are taken out by the
codec's own words (`Hush`) before anything reaches a file, sealed or not. Files are of their owner
alone, bounded in size and number, and destroyed after keep_days.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adapters.recordings.container import About, End, Heard, Item, Key, LinkAbout, Lost, Writing
from gateway.ports import Clock, Hush, Journal, Meter, Tap
from gateway.settings import RecordSection

GATHER_S = 0.25
"""How long the writer lets things gather; what a crash costs at most."""
BLOCK_BYTES = 256 * 1024
"""So much is sealed at once; a block ends at it."""
QUEUE_BYTES = 8 * 1024 * 1024
REOPEN_S = 5.0
"""A disk that did not take something is tried again after so long."""
PURGE_EVERY_S = 3600.0
CLOSE_S = 5.0
MIB = 1024 * 1024
DAY_S = 86_400
SUFFIX = ".rgrec"


class Recorder:
    """Taps belong to the event loop. Nothing is kept before `begin`, nor after `close`.

    hushes: of each link that is recorded, a fresh Hush.
    """

    def __init__(
        self,
        section: RecordSection,
        *,
        folder: Path,
        key: Key | None,
        instance: str,
        version: str,
        config: str,
        links: Sequence[LinkAbout],
        hushes: Mapping[str, Callable[[], Hush]],
        clock: Clock,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self._section = section
        self._folder = folder
        self._key = key
        self._about = About(
            instance=instance, version=version, config=config, file=0, links=tuple(links)
        )
        self._places = {each.name: place for place, each in enumerate(links)}
        self._hushes = [hushes[each.name]() for each in links]
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._waiting: deque[Heard] = deque()
        # Each counted by one thread alone; what waits is the difference.
        self._put_bytes = self._taken_bytes = 0
        self._refused = 0
        self._refused_told = 0
        self._wake = threading.Event()
        self._running = self._closing = False
        self._file: Writing | None = None
        self._files = 0
        self._reopen_at_s = 0.0
        self._purge_at_s = 0.0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    # ----------------------------------------------------------------- the loop's side

    def tap(self, link: str) -> Tap:
        """Of one link that is recorded."""
        place = self._places[link]

        def told(channel: str, data: bytes) -> None:
            if not self._running:
                return
            size = len(data) + len(channel)
            held = self._put_bytes - self._taken_bytes
            if len(self._waiting) >= self._section.queue or held + size > QUEUE_BYTES:
                self._refused += 1
                self._meter.count("queue_dropped_total", queue="recording", reason="full")
                return
            self._put_bytes += size
            self._waiting.append(
                Heard(
                    at_ms=self._clock.wall_ms(),
                    mono_us=int(self._clock.monotonic_s() * 1e6),
                    link=place,
                    channel=channel,
                    data=data,
                )
            )

        return told

    def begin(self) -> None:
        """From now on: call it when it is on record who switched it on."""
        self._running = True
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, then let go."""
        if not self._running:
            return
        self._running, self._closing = False, True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    # ----------------------------------------------------------------- the writer's side

    def _work(self) -> None:
        while True:
            closing = self._closing
            self._purge_when_due()
            while self._waiting:
                self._write(self._gathered())
            if closing:
                break
            self._wake.wait(GATHER_S)
        self._write([item for n in range(len(self._hushes)) for item in self._rest(n)])
        self._finish()

    def _gathered(self) -> list[Item]:
        """What waits, as much as makes a block, without anybody's second factor."""
        items: list[Item] = []
        if (refused := self._refused) > self._refused_told:
            items.append(Lost(at_ms=self._clock.wall_ms(), count=refused - self._refused_told))
            self._refused_told = refused
        size = 0
        while self._waiting and size < BLOCK_BYTES:
            heard = self._waiting.popleft()
            length = len(heard.data) + len(heard.channel)
            self._taken_bytes += length
            size += length
            items += self._kept(heard)
        return items

    def _kept(self, heard: Heard) -> list[Item]:
        try:
            whole = self._hushes[heard.link].take(heard.channel, heard.data, heard.at_ms)
        # What cannot be judged may hold a factor: then it is not kept, whatever was wrong.
        except Exception as error:  # noqa: BLE001
            self._gave_up(1, "unreadable", error)
            return [Lost(at_ms=heard.at_ms, count=1)]
        return [
            Heard(heard.at_ms, heard.mono_us, heard.link, channel, data) for channel, data in whole
        ]

    def _rest(self, place: int) -> list[Item]:
        at_ms, mono_us = self._clock.wall_ms(), int(self._clock.monotonic_s() * 1e6)
        return [
            Heard(at_ms, mono_us, place, channel, data)
            for channel, data in self._hushes[place].rest()
        ]

    def _write(self, items: list[Item]) -> None:
        if not items:
            return
        count = sum(1 if isinstance(each, Heard) else 0 for each in items)
        owed = sum(each.count for each in items if isinstance(each, Lost))
        if self._file is None and time.monotonic() < self._reopen_at_s:
            self._lose(count, owed, None)
            return
        try:
            if self._file is None or self._file.size >= self._section.max_mib * MIB:
                self._next_file()
            assert self._file is not None
            self._file.write(items)
        except OSError as error:
            self._reopen_at_s = time.monotonic() + REOPEN_S
            self._let_go()
            self._lose(count, owed, error)

    def _lose(self, count: int, owed: int, error: OSError | None) -> None:
        self._refused_told -= count + owed  # said by a Lost in the next file that can be written
        self._gave_up(count, "unavailable", error)

    def _gave_up(self, count: int, reason: str, error: Exception | None) -> None:
        self._meter.count("queue_dropped_total", count, queue="recording", reason=reason)
        if error is not None:
            self._journal.warn("recording", state=reason, error=type(error).__name__)

    def _next_file(self) -> None:
        self._finish()
        self._files += 1
        now_ms = self._clock.wall_ms()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{self._about.instance}-{now_ms}-{self._files}{SUFFIX}"
        self._file = Writing(self._folder / name, self._key, begun_ms=now_ms)
        about = self._about
        self._file.write(
            [About(about.instance, about.version, about.config, self._files, about.links)]
        )
        self._purge(self._section.files)

    def _finish(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write([End(at_ms=self._clock.wall_ms())])
            self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _purge_when_due(self) -> None:
        if time.monotonic() >= self._purge_at_s:
            self._purge_at_s = time.monotonic() + PURGE_EVERY_S
            self._purge(self._section.files)

    def _purge(self, files_most: int) -> None:
        """Destroy what is too old, or one too many; never what is being written."""
        oldest_s = self._clock.wall_ms() / 1000 - self._section.keep_days * DAY_S
        try:
            found = sorted(
                (each.stat().st_mtime, each)
                for each in self._folder.glob(f"{self._about.instance}-*{SUFFIX}")
                if self._file is None or each != self._file.path
            )
            most = files_most - (self._file is not None)
            for place, (changed_s, path) in enumerate(found):
                if changed_s < oldest_s or place < len(found) - most:
                    path.unlink(missing_ok=True)
        except OSError as error:
            self._journal.warn("recording", state="not purged", error=type(error).__name__)
