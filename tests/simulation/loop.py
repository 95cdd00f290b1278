"""An asyncio loop in virtual time whose order of work is drawn from a seed.

Nothing here waits: when every task is blocked, time jumps to the next timer. What is ready at the
same moment runs in an order drawn from the seed, so that different seeds are different worlds and
the same seed is the same world, callback by callback. A moment with nothing ready and no timer is
a deadlock and says so: a free liveness oracle.

The private names `_ready`, `_run_once` and `_callback` of asyncio are used; `test_loop.py` pins
them.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Nothing is ready and nothing is scheduled."""


class _NoSockets(selectors.BaseSelector):
    """A selector whose waiting is the passing of virtual time."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.loop: SimLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is ready and nothing is scheduled")
        if timeout > 0 and self.loop is not None:
            self.loop.now_s += timeout
        return []

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
        self.random = random.Random(seed)
        self.lines: list[str] | None = [] if keep else None
        self._digest = hashlib.sha256()
        selector = _NoSockets()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now_s

    def note(self, *words: object) -> None:
        """Something that happened in the world becomes part of the trace."""
        line = f"{self.now_s:.6f} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def trace(self) -> str:
        """The digest of all of it."""
        return self._digest.hexdigest()

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            handles = list(ready)
            self.random.shuffle(handles)
            ready.clear()
            ready.extend(handles)
        if ready:
            self.note("runs", *(_name(handle) for handle in ready))
        super()._run_once()  # type: ignore[misc]


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
    """gateway.ports.Clock over the loop's virtual time. The wall clock may be stepped."""

    def __init__(self, loop: SimLoop, wall_ms: int = 1_795_325_047_120) -> None:
        self._loop = loop
        self._wall_ms = wall_ms

    def wall_ms(self) -> int:
        return self._wall_ms + round(self._loop.now_s * 1000)

    def step_wall(self, by_ms: int) -> None:
        self._wall_ms += by_ms

    def monotonic_s(self) -> float:
        return 1000.0 + self._loop.now_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
