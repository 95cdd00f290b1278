"""Every task has an owner: restart a link that is down, give up on one that is broken.

A link that loses its port or broker raises LinkDown and is opened again with full-jitter back-off;
one that fails in a way we did not foresee is restarted too, but three such crashes within a
minute end the process, because then the fault is ours and systemd's clean start is better.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from gateway.errors import LinkDown
from gateway.messages import LinkState
from gateway.ports import Clock, Ids, Journal, Meter

BACKOFF_FIRST_S = 0.2
BACKOFF_CAP_S = 5.0
LOOK_EVERY_S = 0.5
"""So often a link that can say so is asked whether what it lacked has come back."""
REFUSED_S = 30.0
"""After refused credentials: hammering would lock the account out (M17)."""
HEALTHY_S = 60.0
"""Only a link that has been up so long starts again from the first back-off."""
CRASHES = 3
CRASH_WINDOW_S = 60.0

StateSeen = Callable[[LinkState, str], None]
Fault = Callable[[BaseException], None]
"""Told of a defect in what was started."""


class Runs(Protocol):
    """Whatever is opened, serves, and breaks: a link, a relay."""

    name: str
    kind: str


async def keep(
    run: Callable[[Callable[[], None]], Coroutine[Any, Any, None]],
    *,
    name: str,
    clock: Clock,
    ids: Ids,
    journal: Journal,
    meter: Meter,
    seen: StateSeen,
    returned: Callable[[], bool] | None = None,
    again: asyncio.Event | None = None,
) -> None:
    """Run for ever. `run(up)` opens, calls `up` when open, and raises LinkDown when it breaks.

    returned: whether what it lacked has come back since it was last asked; then it is opened at
    once, and the back-off begins anew. A refusal is waited out whatever it says.
    again: set when it is to be closed and opened anew now (its credentials were renewed), or, if it
    is down, to be tried at once, refused or not.

    Returns only by cancellation, or by the third crash within a minute (that crash is raised).
    """
    attempt = 0
    crashes: deque[float] = deque(maxlen=CRASHES)
    up_at_s: float | None = None

    def up() -> None:
        nonlocal up_at_s
        up_at_s = clock.monotonic_s()
        seen(LinkState.UP, "")

    while True:
        refused, renewed, began_s = False, False, clock.monotonic_s()
        try:
            renewed = await _unless(again, run(up))
            reason = "opened anew" if renewed else "ended"
        except LinkDown as error:
            reason, refused = error.reason, error.refused
            if refused:
                meter.count("link_refused_total", link=name)
        except Exception as error:  # unforeseen: counted, restarted; thrice in a minute is fatal
            reason = type(error).__name__
            now_s = clock.monotonic_s()
            crashes.append(now_s)
            meter.count("task_restarts_total", task="link")
            journal.warn("task.restarted", task=name, error=reason)
            if len(crashes) == CRASHES and now_s - crashes[0] < CRASH_WINDOW_S:
                raise
        now_s = clock.monotonic_s()
        if up_at_s is not None and now_s - up_at_s >= HEALTHY_S:
            attempt = 0
        # An attempt that waited for an answer until its deadline has waited already: whoever is
        # back finds us asking, not pausing (M02).
        waited_s = now_s - began_s if up_at_s is None else 0.0
        up_at_s = None
        seen(LinkState.DOWN, reason)
        ceiling = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2**attempt)
        attempt = min(attempt + 1, 16)
        pause_s = REFUSED_S if refused else max(0.05, ids.uniform(0.0, ceiling) - waited_s)
        if renewed or await _unless(
            again, _back_within(pause_s, None if refused else returned, clock)
        ):
            attempt = 0


async def _back_within(pause_s: float, returned: Callable[[], bool] | None, clock: Clock) -> bool:
    """Wait so long, or until it has returned: whether it has."""
    if returned is None:
        await clock.sleep(pause_s)
        return False
    until_s = clock.monotonic_s() + pause_s
    while not returned():
        left_s = until_s - clock.monotonic_s()
        if left_s <= 0:
            return False
        await clock.sleep(min(LOOK_EVERY_S, left_s))
    return True


async def _unless(again: asyncio.Event | None, work: Coroutine[Any, Any, bool | None]) -> bool:
    """Do the work to its end, and say what it says; or until `again` is set: then the work is
    cancelled and waited for, and that is True."""
    if again is None:
        return bool(await work)
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(again.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return bool(doing.result())
        again.clear()
        return True
    finally:
        doing.cancel()
        waiting.cancel()
        await asyncio.gather(doing, waiting, return_exceptions=True)
        # What it raised holds this frame, and this frame holds it: a ring for each link that broke.
        del doing


class Crew:
    """Owns the tasks of one desk: each is named, kept, bounded in number, and its end looked at."""

    def __init__(self, *, name: str, most: int, journal: Journal, meter: Meter) -> None:
        self._name = name
        self._most = most
        self._journal = journal
        self._meter = meter
        self._tasks: dict[asyncio.Task[None], None] = {}
        """In the order of their start: what a stop does to them must not depend on addresses."""

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        return len(self._tasks) >= self._most

    def start(
        self,
        work: Coroutine[Any, Any, None],
        *,
        fault: Fault | None = None,
    ) -> asyncio.Task[None]:
        """Own one task. A defect in it is journalled and counted, and `fault` is told."""
        task = asyncio.get_running_loop().create_task(work, name=self._name)
        self._tasks[task] = None

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.pop(done, None)
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                self.failed(error, fault)

        task.add_done_callback(ended)
        return task

    def failed(self, error: BaseException, fault: Fault | None) -> None:
        """Something of this crew's has a defect: journalled and counted, and `fault` is told."""
        self._meter.count("task_restarts_total", task=self._name)
        self._journal.warn("task.restarted", task=self._name, error=type(error).__name__)
        if fault is not None:
            fault(error)

    async def drain(self, deadline_s: float) -> None:
        """Let what runs finish, and what it starts, at most so long; then cancel the rest.

        Real seconds: a stop may not depend on a clock that somebody injects.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + deadline_s
        while (running := [task for task in self._tasks if not task.done()]) and (
            left_s := until_s - loop.time()
        ) > 0:
            await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # what ended may only now start what follows from it
        await self.cancel()

    async def cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
