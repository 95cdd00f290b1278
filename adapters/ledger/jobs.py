"""What waits for the writer: bounded, commits in the order of the calls, reads between them.

A read is served before the next group of commits, so that a long queue does not keep it waiting;
whoever awaited a commit finds it, because that is durable by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from gateway.errors import LedgerError, LedgerFatal, LedgerUnavailable
from gateway.ports import Change, Record

READS_MOST = 16
"""Reads served before the next group: more would keep the checks waiting."""

Work = Callable[[Connection], tuple[Sequence[Record], Any]]
"""Done inside the transaction: the records that it leaves, and what its caller is told."""


class Job:
    """One caller's commit, or one read, and where its end is told. Made in the event loop."""

    __slots__ = ("changes", "error", "future", "loop", "read", "records", "result", "work")

    def __init__(
        self,
        records: Sequence[Record] = (),
        changes: Sequence[Change] = (),
        *,
        read: Callable[[Connection], Any] | None = None,
        work: Work | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.records = records
        self.changes = changes
        self.read = read
        self.work = work
        self.result: Any = None
        self.error: LedgerError | None = None

    @property
    def rows(self) -> int:
        return max(1, len(self.records) + len(self.changes))

    def told(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def tell(jobs: Iterable[Job], error: LedgerError | None = None) -> None:
    """From the writer's thread: let those hear who still wait, in order, in one turn of their loop.

    error: the end of them all; None: each has its own result or error.
    """
    jobs = list(jobs)
    if not jobs:
        return
    if error is not None:
        for job in jobs:
            job.error = error

    def say() -> None:
        for job in jobs:
            job.told()

    try:
        jobs[0].loop.call_soon_threadsafe(say)
    except RuntimeError:
        # The loop is closed: nobody waits any more; what was written stays written.
        return


class Turn(NamedTuple):
    """What the writer does next."""

    reads: list[Job]
    commits: list[Job]


class Waiting:
    """The queue between the loop and the writer's thread. limit: commits, and reads, that wait."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._commits: deque[Job] = deque()
        self._reads: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._ringing = False
        self._dead: LedgerFatal | None = None

    def __len__(self) -> int:
        return len(self._commits) + len(self._reads)

    def put(self, job: Job) -> None:
        """Raises LedgerUnavailable when full or closing, LedgerFatal when the writer is dead."""
        lane = self._commits if job.read is None else self._reads
        with self._wake:
            if self._dead is not None:
                raise LedgerFatal(str(self._dead))
            if self._closing:
                raise LedgerUnavailable("closing")
            if len(lane) >= self.limit:
                raise LedgerUnavailable("queue full")
            lane.append(job)
            if self._ringing:
                return
            self._ringing = True
        # At the end of this turn of the loop: what it still brings goes along, and a thread that
        # is woken in the middle of it would only wait for the interpreter's lock.
        job.loop.call_soon(self._ring)

    def _ring(self) -> None:
        with self._wake:
            self._ringing = False
            self._wake.notify()

    def withdraw(self, job: Job) -> None:
        """Its caller gave up: what the writer has not taken yet is never written."""
        with self._wake, contextlib.suppress(ValueError):
            (self._commits if job.read is None else self._reads).remove(job)

    def take(self, group_rows: int, timeout_s: float | None) -> Turn | None:
        """The writer's next turn, empty after timeout_s; None when closed and nothing waits."""
        with self._wake:
            if not (self._commits or self._reads or self._closing):
                self._wake.wait(timeout_s)
            if self._dead is not None or (self._closing and not self):
                return None
            reads = [self._reads.popleft() for _ in range(min(READS_MOST, len(self._reads)))]
            return Turn(reads, self._group(group_rows))

    def _group(self, most: int) -> list[Job]:
        """Commits in the order of the calls, up to the group's size; one with work goes alone."""
        group: list[Job] = []
        rows = 0
        while self._commits and rows < most:
            alone = self._commits[0].work is not None
            if alone and group:
                break
            job = self._commits.popleft()
            rows += job.rows
            group.append(job)
            if alone:
                break
        return group

    def close(self) -> None:
        """Take nothing more; the writer finishes what waits."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def fail(self, error: LedgerFatal) -> None:
        """Nothing is written any more: all who wait, and all who come, hear why."""
        with self._wake:
            self._dead = error
            left = [*self._commits, *self._reads]
            self._commits.clear()
            self._reads.clear()
            self._wake.notify()
        tell(left, error)
