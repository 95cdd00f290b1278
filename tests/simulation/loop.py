"""An asyncio loop in virtual time whose order of work is drawn from a seed.

Nothing here waits: when every task is blocked, time jumps to the next timer. What is ready at the
same moment runs in an order drawn from the seed, so that different seeds are different worlds and
the same seed is the same world, callback by callback. A moment with nothing ready and no timer is
a deadlock and says so: a free liveness oracle.

An hour of a quiet world is some 20,000 turns, so a turn is kept cheap: no selector is asked, and
the trace is digested in blocks.

The private names `_ready`, `_scheduled`, `_run_once` and `_callback` of asyncio are used;
`test_loop.py` pins them.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import selectors
from collections.abc import Coroutine, Mapping
from heapq import heappop
from typing import Any, TypeVar

T = TypeVar("T")

BLOCK_LINES = 2048
"""Lines of the trace that are digested at once."""
TOGETHER_S = 1e-9
"""Timers that are due within this are due at the same moment."""


class Deadlock(Exception):
    """Nothing is ready and nothing is scheduled."""


class _NoSockets(selectors.BaseSelector):
    """A selector that nobody asks: asyncio registers its own wake-up here, and that is all."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise NotImplementedError("time passes in SimLoop._run_once")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]


class SimLoop(asyncio.SelectorEventLoop):
    """`now_s` is its time. The trace is what ran and what happened, in order, by name.

    keep: hold the whole trace (`lines`), not only its digest.
    """

    def __init__(self, seed: int, *, keep: bool = False) -> None:
        self.now_s = 0.0
        self.seed = seed
        self.random = random.Random(seed)
        self.lines: list[str] | None = [] if keep else None
        self._digest = hashlib.sha256()
        self._block: list[str] = []
        super().__init__(_NoSockets())
        self._clock_resolution = TOGETHER_S

    def time(self) -> float:
        return self.now_s

    def jump(self, seconds: float) -> None:
        """The process stood still so long (SIGSTOP, then SIGCONT): all that came due meanwhile is
        due in this one moment, in whatever order the seed says."""
        self.note("stood still", seconds)
        self.now_s += seconds

    def note(self, *words: object) -> None:
        """Something that happened in the world becomes part of the trace."""
        self._line(" ".join(map(str, words)))

    def _line(self, words: str) -> None:
        block = self._block
        block.append(f"{self.now_s:.6f} {words}\n")
        if len(block) >= BLOCK_LINES:
            self._digest_block()

    def _digest_block(self) -> None:
        self._digest.update("".join(self._block).encode())
        if self.lines is not None:
            self.lines += self._block
        self._block.clear()

    @property
    def trace(self) -> str:
        """The digest of all of it."""
        self._digest_block()
        return self._digest.hexdigest()

    def _run_once(self) -> None:
        """What is ready now, all of it, in an order drawn from the seed; else the next timer."""
        ready = self._ready  # type: ignore[attr-defined]
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Deadlock("nothing is ready and nothing is scheduled")
            self.now_s = max(self.now_s, scheduled[0]._when)
        end_s = self.now_s + TOGETHER_S
        while scheduled and scheduled[0]._when <= end_s:
            handle = heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        handles = list(ready)
        ready.clear()
        if len(handles) > 1:
            self.random.shuffle(handles)
        if handles:
            self._line("runs " + " ".join(map(_name, handles)))
        for handle in handles:
            if not handle._cancelled:
                handle._run()


def _name(handle: Any) -> str:
    """Whose turn it is: the coroutine of a task, else the function. Never an address."""
    callback = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return str(owner.get_coro().__qualname__)  # type: ignore[union-attr]
    return str(getattr(callback, "__qualname__", type(callback).__name__))


def run(seed: int, story: Coroutine[Any, Any, T], *, keep: bool = False) -> tuple[T, SimLoop]:
    """Play one story in a world of its own; every task it leaves behind is cancelled."""
    loop = SimLoop(seed, keep=keep)
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(story)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        return result, loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class SimClock:
    """gateway.ports.Clock over the loop's virtual time. The wall clock may be stepped; the true
    time, which terminals and their receivers have, is not."""

    counter = "simulated"

    def __init__(self, loop: SimLoop, wall_ms: int = 1_795_325_047_120) -> None:
        self._loop = loop
        self._true_ms = self._wall_ms = wall_ms

    def wall_ms(self) -> int:
        return self._wall_ms + round(self._loop.now_s * 1000)

    def true_ms(self) -> int:
        return self._true_ms + round(self._loop.now_s * 1000)

    @property
    def is_off(self) -> bool:
        """Whether the wall clock is not the true one."""
        return self._wall_ms != self._true_ms

    def step_wall(self, by_ms: int) -> None:
        """Somebody sets the gateway's clock, back or forth by an hour at most."""
        off_ms = self._wall_ms + by_ms - self._true_ms
        self._wall_ms = self._true_ms + max(-abs(by_ms), min(abs(by_ms), off_ms))

    def monotonic_s(self) -> float:
        return 1000.0 + self._loop.now_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = self._loop
        woken: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(loop.now_s + seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
