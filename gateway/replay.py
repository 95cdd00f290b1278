"""The third composition root: a recording of links, played into an instance that is thrown away.

Its own state folder, its own clock, the mock PNC in process; no port, no broker, no page. The clock
follows the recording: a fix is as old as it was then, a deadline as near. It moves only when all
that was begun has come to rest, so what is made of a recording does not hang on how fast it is
played or on this machine. A second factor is in no recording, so each one is taken as right.

Refused: a configuration of profile production, and one whose daemon is running.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, TypeVar, Unpack, get_args

import msgspec

from adapters import codecs, ledger, links, pnc, recordings, register
from adapters.keyed import KEY_BYTES, KeyedDigest
from adapters.links.intake import word_of
from adapters.recordings import About, Heard, Lost, Recording
from adapters.seals import Ed25519Seals
from gateway.app import load
from gateway.bus import EventBus
from gateway.core import Core
from gateway.errors import GatewayError, LinkDown
from gateway.log_words import LogEvent, LogFields
from gateway.messages import (
    AlarmChanged,
    Bearer,
    Downlink,
    Event,
    Issi,
    LinkState,
    Secret,
    UnitFix,
    UnitMeta,
)
from gateway.ports import (
    Change,
    CheckRow,
    Handle,
    KeptRow,
    Ledger,
    Link,
    OutboxRow,
    Plays,
    Record,
    Tap,
)
from gateway.settings import (
    Config,
    HistorySection,
    LedgerSection,
    PncSection,
    RecordSection,
    RegisterSection,
    Settings,
    sample_folder,
)

T = TypeVar("T")

TURNS = 32
"""Turns of the loop in which nothing waits for the ledger: then all has come to rest."""
LEDGER_S = 0.0005
AFTER_S = 60.0
"""So long the clock goes on after the last word: a check is answered or expired by then."""
TOLD = (
    "frames_received_total",
    "frames_rejected_total",
    "fixes_received_total",
    "fixes_rejected_total",
    "checks_received_total",
    "checks_completed_total",
    "emergencies_total",
    "queue_dropped_total",
)
"""Counters that say what was decided."""
_SAID = ("short", "kind", "outcome", "stage", "state", "rule", "priority", "part", "detail")
"""Members of an event that name nobody and nothing that was asked."""


class ReplayRefused(GatewayError):
    """Not here: says why."""


class PlayedClock:
    """gateway.ports.Clock. Moved by what was heard, and by nothing else."""

    counter = ""

    def __init__(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        self._set_at_s = self._now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._n = 0

    def wall_ms(self) -> int:
        return self._wall_ms + round((self._now_s - self._set_at_s) * 1000)

    def monotonic_s(self) -> float:
        return self._now_s

    def set_wall(self, wall_ms: int) -> None:
        """As it was then: also if somebody had set it."""
        self._wall_ms, self._set_at_s = wall_ms, self._now_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._n += 1
        heapq.heappush(self._sleepers, (self._now_s + seconds, self._n, future))
        await future

    async def advance(self, until_s: float, rest: Callable[[], Awaitable[None]]) -> None:
        """Move on; whoever sleeps wakes at their own moment. rest: returns when all is at rest."""
        await rest()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            at_s, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now_s = max(self._now_s, at_s)
            future.set_result(None)
            await rest()
        self._now_s = max(self._now_s, until_s)


class Tally:
    """gateway.ports.Meter that keeps counters. Told by the ledger's thread, too."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += round(n)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Nobody waits here."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """What stands now is of no interest when it is over."""


class _Quiet:
    """gateway.ports.Journal: what happened is told by the events."""

    def note(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
        del event, fields

    warn = note


class _AnyFactor:
    """gateway.ports.Factors: no recording holds one."""

    async def matches(self, stored: str, given: Secret) -> bool:
        del given
        return stored != ""

    def made(self, given: Secret) -> str:
        raise NotImplementedError(given)  # nobody makes one here


class _CountedIds:
    """gateway.ports.Ids without chance: the same recording makes the same of itself each time,
    whom a challenge meets included."""

    def __init__(self) -> None:
        self._n = 0
        self._random = random.Random(0)  # noqa: S311 - no secret: the same each time

    def _next(self) -> int:
        self._n += 1
        return self._n

    def check(self) -> str:
        letter, number = divmod(self._next() % (8 * 4096), 4096)
        return f"{self._n:010d}{0:012d}{'CDEFGHJK'[letter]}{number:03X}"

    def receipt(self) -> str:
        return f"{self._next() % 10_000:04d}-0000"

    def occurrence(self) -> str:
        return f"{self._next():014d}"

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class _Counted:
    """gateway.ports.Ledger that knows whether anybody waits for it."""

    def __init__(self, inner: Ledger) -> None:
        self._inner = inner
        self.waiting = 0

    async def _of(self, work: Awaitable[T]) -> T:
        self.waiting += 1
        try:
            return await work
        finally:
            self.waiting -= 1

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        await self._of(self._inner.commit(records, changes))

    async def open_checks(self) -> list[CheckRow]:
        return await self._of(self._inner.open_checks())

    async def outbox(self) -> list[OutboxRow]:
        return await self._of(self._inner.outbox())

    async def open_alarms(self) -> list[AlarmChanged]:
        return await self._of(self._inner.open_alarms())

    async def kept(self, kind: str) -> list[KeptRow]:
        return await self._of(self._inner.kept(kind))

    async def check(self, id_: str) -> CheckRow | None:
        return await self._of(self._inner.check(id_))

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        return await self._of(self._inner.last_check(terminal, short))

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        return await self._of(self._inner.recent_checks(terminal, since_ms))

    async def close(self) -> None:
        await self._inner.close()


class _PlayedLink:
    """gateway.ports.Link in place of one that would open something: what it is to send is counted
    and goes nowhere."""

    def __init__(self, link: Link, known: Callable[[Issi], bool], terminal: Issi) -> None:
        self.name, self.kind = link.name, link.kind
        self.bearer: Bearer = link.bearer
        self.send_s = link.send_s
        self._known = known
        self._terminal = terminal
        self.sent: Counter[str] = Counter()
        self.heard_at_s: float | None = None

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        raise NotImplementedError  # it is told (Plays), it does not listen

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        del terminal, expires_in_s, deadline_s
        self.sent[word_of(message)] += 1

    def reaches(self, terminal: Issi) -> bool:
        return terminal == self._terminal if self._terminal else self._known(terminal)


class Made(msgspec.Struct):
    """What the instance made of it. timeline: of each event its moment, its name and what of it
    names nobody."""

    heard: int = 0
    size: int = 0
    lost: int = 0
    cut: bool = False
    first_ms: int | None = None
    last_ms: int | None = None
    counts: dict[str, int] = {}
    events: Counter[str] = msgspec.field(default_factory=Counter)
    timeline: list[tuple[int, str, str]] = []
    sent: dict[str, Counter[str]] = {}


def read(paths: Sequence[Path], key_file: Path | None) -> list[Recording]:
    """Raises OSError, ValueError, RecordingUnreadable."""
    key = recordings.read_key(key_file) if key_file is not None else None
    return [recordings.opened(path.read_bytes(), key) for path in paths]


def allowed(path: Path) -> Config:
    """The configuration to replay under. Raises ConfigError, ReplayRefused."""
    config = load(path)
    if config.settings.gateway.profile == "production":
        raise ReplayRefused(f"{path.name}: profile production: replay under a training one")
    try:
        live = ledger.in_use(config.settings.ledger, state_dir=config.state_dir)
    except OSError as error:
        raise ReplayRefused(f"{path.name}: its state folder: {error.strerror}") from error
    if live:
        raise ReplayRefused(f"{path.name}: its daemon is running: a live instance takes no replay")
    return config


def throw_away(config: Config, about: About) -> Config:
    """The same people and rules; the recording's links; nothing that stays or leaves."""
    before = config.settings
    tables: dict[str, list[object]] = {}
    types = {field.name: get_args(field.type) for field in msgspec.structs.fields(Settings)}
    for link in about.links:
        inner = types.get(link.kind, ())
        if not inner or inner[0] not in links.REGISTRY:
            raise ReplayRefused(f"link {link.name}: this program has no links of kind {link.kind}")
        try:
            section = msgspec.convert(link.section, inner[0], strict=False)
        except msgspec.ValidationError as error:
            said = f"link {link.name}: recorded by another version: its section does not fit"
            raise ReplayRefused(said) from error
        tables.setdefault(link.kind, []).append(section)
    empty = {name: () for name, inner in types.items() if inner and inner[-1] is Ellipsis}
    http = before.register.adapter == "http"
    settings = msgspec.structs.replace(
        before,
        **{**empty, **{name: tuple(found) for name, found in tables.items()}},
        ledger=LedgerSection(own_process=False),
        history=HistorySection(enabled=False),
        record=RecordSection(),
        pnc=msgspec.structs.replace(before.pnc, adapter="mock", records=_records(before.pnc)),
        register=msgspec.structs.replace(
            before.register,
            adapter="mock" if http else before.register.adapter,
            records=_records(before.register),
        ),
    )
    return msgspec.structs.replace(config, settings=settings)


def _records(section: PncSection | RegisterSection) -> str:
    """Those of the sample, where the configuration asks somebody else."""
    return section.records if section.adapter == "mock" else str(sample_folder() / "pnc")


async def play(
    found: Sequence[Recording], config: Config, *, speed: float = math.inf, links_only: str = ""
) -> Made:
    """speed: times as fast as it happened. links_only: a link's name, or all of them.

    Raises RecordingUnreadable for what was changed, ReplayRefused for links of another program.
    """
    made = Made()
    with tempfile.TemporaryDirectory(prefix="radio-gateway-replay-") as folder:
        for recording in found:
            about = recording.about
            instance = _Instance(throw_away(config, about), about, Path(folder))
            items = recording.items()
            first = next((each for each in items if isinstance(each, Heard)), None)
            if first is not None:
                await instance.play(_again(first, items), made, speed, links_only)
            made.cut = made.cut or recording.cut
    return made


def _again(first: Heard, items: Iterator[recordings.Item]) -> Iterator[recordings.Item]:
    yield first
    yield from items


def heard_by(
    found: Sequence[Recording], link: str, since_ms: float, until_ms: float
) -> tuple[str, list[Heard]]:
    """What one link heard in that time, and its codec. link: empty for the only one there is.

    Raises RecordingUnreadable, ReplayRefused.
    """
    heard: list[Heard] = []
    codec = ""
    for recording in found:
        abouts = recording.about.links
        places = [n for n, each in enumerate(abouts) if link in ("", each.name)]
        if len(places) != 1:
            raise ReplayRefused("which link? " + ", ".join(each.name for each in abouts))
        codec = abouts[places[0]].codec
        heard += [
            each
            for each in recording.items()
            if isinstance(each, Heard) and each.link == places[0] and each.data
            if since_ms <= each.at_ms <= until_ms
        ]
    return codec, heard


class _Instance:
    """One throw-away instance, for one file."""

    def __init__(self, config: Config, about: About, folder: Path) -> None:
        self._config = config
        self._about = about
        self._folder = folder
        self._tally = Tally()

    async def play(
        self, items: Iterator[recordings.Item], made: Made, speed: float, links_only: str
    ) -> None:
        first = next(items)
        assert isinstance(first, Heard)
        clock = PlayedClock(first.at_ms)
        async with contextlib.AsyncExitStack() as stack:
            core, store = await self._core(clock, stack, made)
            taps, played = self._links(core, clock)

            async def rest() -> None:
                quiet = 0
                while quiet < TURNS:
                    waits = store.waiting > 0
                    quiet = 0 if waits else quiet + 1
                    await asyncio.sleep(LEDGER_S if waits else 0)

            await core.begin()
            stack.push_async_callback(core.abandon)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(core.courier.tend(), name="courier"),
                    group.create_task(core.mind(), name="minder"),
                ]
                for each in played:
                    core.link_seen(each.name, each.kind, LinkState.UP, "")
                now_us, at_s = first.mono_us, 0.0
                for item in _again(first, items):
                    if isinstance(item, Lost):
                        made.lost += item.count
                    if not isinstance(item, Heard):
                        continue
                    # Backwards it goes when the machine was started anew in between.
                    gap_s = max(0.0, (item.mono_us - now_us) / 1e6)
                    now_us, at_s = item.mono_us, at_s + gap_s
                    if math.isfinite(speed) and gap_s:
                        await asyncio.sleep(gap_s / speed)
                    await clock.advance(at_s, rest)
                    clock.set_wall(item.at_ms)
                    link = self._about.links[item.link]
                    if links_only in ("", link.name):
                        self._hear(made, item)
                        taps[link.name](item.channel, item.data)
                await clock.advance(at_s + AFTER_S, rest)
                for task in tasks:
                    task.cancel()
            for each in played:
                made.sent.setdefault(each.name, Counter()).update(each.sent)
        self._add_up(made)

    def _hear(self, made: Made, item: Heard) -> None:
        made.heard += 1
        made.size += len(item.data)
        made.first_ms = item.at_ms if made.first_ms is None else made.first_ms
        made.last_ms = item.at_ms

    def _add_up(self, made: Made) -> None:
        for (name, labels), n in sorted(self._tally.counts.items()):
            if name in TOLD and n:
                said = ",".join(f'{key}="{value}"' for key, value in labels)
                made.counts[f"{name}{{{said}}}"] = made.counts.get(f"{name}{{{said}}}", 0) + n

    async def _core(
        self, clock: PlayedClock, stack: contextlib.AsyncExitStack, made: Made
    ) -> tuple[Core, _Counted]:
        config, journal = self._config, _Quiet()
        state_dir = self._folder / f"file{self._about.file}"
        state_dir.mkdir(exist_ok=True)
        opened = await ledger.open_ledger(
            config.settings.ledger,
            state_dir=state_dir,
            instance=config.settings.gateway.instance,
            meter=self._tally,
            journal=journal,
            clock=clock,
        )
        stack.push_async_callback(opened.close)
        ids = _CountedIds()
        source = pnc.create(
            "mock", settings=config.settings.pnc, config_path=config.path, clock=clock, ids=ids
        )
        vehicles = register.create(
            config.settings.register.adapter,
            settings=config.settings.register,
            config_path=config.path,
            clock=clock,
        )
        store = _Counted(opened)
        bus = EventBus(clock, meter=self._tally)

        def seen(event: Event) -> None:
            tag = str(event.__struct_config__.tag)
            made.events[tag] += 1
            if not isinstance(event, UnitFix | UnitMeta):
                said = [
                    f"{name}={value}" for name in _SAID if (value := getattr(event, name, "")) != ""
                ]
                made.timeline.append((clock.wall_ms(), tag, " ".join(said)))

        bus.tap(seen)
        core = Core(
            config,
            clock=clock,
            ids=ids,
            meter=self._tally,
            journal=journal,
            bus=bus,
            ledger=store,
            pnc=source,
            keyed=KeyedDigest(bytes(KEY_BYTES)),
            factors=_AnyFactor(),
            seals=Ed25519Seals(),
            register=vehicles,
            fatal=_stop,
        )
        return core, store

    def _links(self, core: Core, clock: PlayedClock) -> tuple[dict[str, Tap], list[_PlayedLink]]:
        taps: dict[str, Tap] = {}
        played: list[_PlayedLink] = []
        for about in self._about.links:
            tables = getattr(self._config.settings, about.kind)
            section = next(each for each in tables if each.name == about.name)
            link = links.create(
                section,
                instance=self._config.settings.gateway.instance,
                config_path=self._config.path,
                clock=clock,
                meter=self._tally,
                journal=_Quiet(),
                known=core.roster.may_call,
                codecs=codecs.create,
                suspect=core.security.seen,
                named=core.roster.called,
            )
            if not isinstance(link, Plays):
                raise ReplayRefused(f"link {about.name}: {about.kind} cannot be played again")
            stand_in = _PlayedLink(
                link, core.roster.may_call, str(getattr(section, "terminal", ""))
            )
            core.links[about.name] = stand_in
            try:
                tap = link.played(core.switchboard.handle)
            except LinkDown as error:
                raise ReplayRefused(f"link {about.name}: {error.reason}") from error
            taps[about.name] = _listening(stand_in, link, tap)
            played.append(stand_in)
        return taps, played


def _listening(stand_in: _PlayedLink, link: Link, tap: Tap) -> Tap:
    """So that silence is judged by what the link itself takes for heard."""

    def told(channel: str, data: bytes) -> None:
        tap(channel, data)
        stand_in.heard_at_s = link.heard_at_s

    return told


def _stop(error: BaseException) -> None:
    raise error


def say(found: Sequence[Recording], made: Made, out: TextIO, *, events: bool) -> None:
    """What the instance made of it; no line names a person, a radio or what was asked."""
    for recording in found:
        about = recording.about
        out.write(f"recording  {about.instance} {about.version} file {about.file}\n")
        for link in about.links:
            out.write(f"link       {link.name} {link.kind} {link.codec}\n")
    whole = "its end is missing" if made.cut else "whole"
    out.write(
        f"heard      {made.heard} times, {made.size} bytes, {_moment(made.first_ms)} to "
        f"{_moment(made.last_ms)}; {made.lost} not recorded; {whole}\n"
    )
    for name, n in made.counts.items():
        out.write(f"decided    {name} {n}\n")
    for tag, n in sorted(made.events.items()):
        out.write(f"event      {tag} {n}\n")
    for name, sent in made.sent.items():
        for word, n in sorted(sent.items()):
            out.write(f"to send    {name} {word} {n}\n")
    for at_ms, tag, said in made.timeline if events else ():
        out.write(f"{_moment(at_ms)} {tag} {said}\n")


def _moment(at_ms: int | None) -> str:
    if at_ms is None:
        return "-"
    moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
