"""Fakes of the small ports: a clock moved by hand, counted ids, a meter and a journal that keep."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
from collections import Counter

from gateway.errors import AnchorFailed
from gateway.messages import AlarmChanged, Issi, Secret, UnitFix, UnitMeta


class FakeClock:
    """Wall and monotonic time that only `advance` moves; sleepers wake in order."""

    counter = "fake"

    def __init__(self, wall_ms: int = 1_795_325_047_120) -> None:
        self._wall_ms = wall_ms
        self._mono_s = self._began_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._n = 0

    def wall_ms(self) -> int:
        # From the whole, so that what sleeps in between rounds nothing away.
        return self._wall_ms + round((self._mono_s - self._began_s) * 1000)

    def monotonic_s(self) -> float:
        return self._mono_s

    def step_wall(self, by_ms: int) -> None:
        """Somebody sets the clock; the monotonic one goes on."""
        self._wall_ms += by_ms

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._n += 1
        self._sleepers.append((self._mono_s + seconds, self._n, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move time; every sleeper due by then wakes at its own moment."""
        await settle()
        end = self._mono_s + seconds
        while True:
            due = sorted(s for s in self._sleepers if s[0] <= end and not s[2].done())
            if not due:
                break
            at, _, future = due[0]
            self._sleepers = [s for s in self._sleepers if s[2] is not future]
            self._mono_s = max(self._mono_s, at)
            future.set_result(None)
            await settle()
        self._mono_s = end
        await settle()


class FakePresent:
    """gateway.ports.Present, of what a test puts in."""

    def __init__(self) -> None:
        self.metas: dict[Issi, UnitMeta] = {}
        self.fixes: dict[Issi, UnitFix] = {}
        self.open: dict[str, AlarmChanged] = {}

    def terminals(self) -> list[Issi]:
        return list(self.metas)

    def meta(self, terminal: Issi) -> UnitMeta | None:
        return self.metas.get(terminal)

    def fix(self, terminal: Issi) -> UnitFix | None:
        return self.fixes.get(terminal)

    def stale_s(self, terminal: Issi) -> float:
        del terminal
        return 120.0

    def alarms(self) -> list[AlarmChanged]:
        return list(self.open.values())


async def settle(turns: int = 20) -> None:
    """Let every ready task run."""
    for _ in range(turns):
        await asyncio.sleep(0)


class FakeIds:
    """Counted ids: `C0001`, `R-0001`, `A0001`."""

    def __init__(self, seed: int = 0) -> None:
        self._n = Counter[str]()
        self._random = random.Random(seed)

    def _next(self, kind: str) -> int:
        self._n[kind] += 1
        return self._n[kind]

    def check(self) -> str:
        return f"01TEST{self._next('check'):06d}C{self._n['check']:03X}"

    def receipt(self) -> str:
        return f"TEST-{self._next('receipt'):04d}"

    def occurrence(self) -> str:
        return f"A{self._next('occurrence'):04d}"

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


class FakeFactors:
    """gateway.ports.Factors that stores `plain:...`. tried: how often it was asked."""

    def __init__(self) -> None:
        self.tried = 0

    async def matches(self, stored: str, given: Secret) -> bool:
        self.tried += 1
        await asyncio.sleep(0)
        return stored != "" and Secret(stored) == Secret(self.made(given))

    def made(self, given: Secret) -> str:
        return f"plain:{given.reveal()}"


class FakeSeals:
    """gateway.ports.Seals: `KEY-seals` is a signature of KEY under anything."""

    def valid(self, key: str, signature: str, message: bytes) -> bool:
        return bool(message) and signature == f"{key}-seals"


class FakeKeyed:
    """gateway.ports.Keyed under a key that everybody knows."""

    def __call__(self, purpose: str, text: str) -> bytes:
        return hmac.digest(b"test", f"{purpose}\0{text}".encode(), hashlib.sha256)


class FakeAnchor:
    """gateway.ports.Anchor that keeps what it was given. down: it takes and gives nothing."""

    name = "fake"

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.down = False

    async def put(self, head: bytes) -> None:
        await self._reach()
        self.heads.append(head)

    async def newest(self) -> bytes | None:
        await self._reach()
        return self.heads[-1] if self.heads else None

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise AnchorFailed("down")


class FakeMeter:
    """Keeps every figure: `counts[("name", (("label", "value"),))]`."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.observed: list[tuple[str, float, dict[str, str]]] = []
        self.gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += n  # type: ignore[assignment]

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        self.observed.append((name, seconds, labels))

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name, tuple(sorted(labels.items()))] = value

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter over all children that carry these labels."""
        want = set(labels.items())
        return sum(n for (key, have), n in self.counts.items() if key == name and want <= set(have))


class FakeJournal:
    """Keeps every line."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def note(self, event: str, **fields: str | int | float | bool | None) -> None:
        self.lines.append((event, dict(fields)))

    warn = note
