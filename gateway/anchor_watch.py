"""Takes each signed head off this host, to every anchor, and says when one is left behind.

The newest head says all that those before it said: what an anchor missed while it was away is not
made up for. No check waits for any of this. At the start the anchors are asked what they have: a
ledger that is behind them was put back (D12).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.errors import AnchorFailed
from gateway.ports import Anchor, Clock, Ids, Journal, Meter

DEADLINE_S = 5.0
READ_S = 2.0
"""The service waits for so long at its start for what the anchors have."""
CLOSE_S = 1.0
"""The head of the stop; what is not taken by then is offered at the next start."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class _Lane:
    """One anchor: the head that it shall take, and how long it has not taken one."""

    def __init__(self, anchor: Anchor) -> None:
        self.anchor = anchor
        self.head: bytes | None = None
        self.has: bytes | None = None
        self.waits_since_s = 0.0
        self.said = False
        self.wake = asyncio.Event()


class AnchorWatch:
    """One task for each anchor; `offer` is told each head, `close` gives away the last one."""

    def __init__(
        self,
        anchors: Sequence[Anchor],
        *,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        alarm_after_s: float,
    ) -> None:
        self._lanes = [_Lane(anchor) for anchor in anchors]
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._alarm_after_s = alarm_after_s
        self.told: Callable[[str, bool], None] = lambda _anchor, _behind: None
        """Told which anchor is left behind, and which no longer is."""

    async def newest(self) -> dict[str, bytes]:
        """What each anchor has that can be asked, by its name."""
        await asyncio.gather(*(self._read(lane) for lane in self._lanes))
        return {lane.anchor.name: lane.has for lane in self._lanes if lane.has is not None}

    async def _read(self, lane: _Lane) -> None:
        try:
            async with asyncio.timeout(READ_S):
                lane.has = await lane.anchor.newest()
        except Exception as error:  # noqa: BLE001 - likewise
            self._journal.warn(
                "ledger.anchor", link=lane.anchor.name, state="unread", reason=_reason(error)
            )

    def offer(self, head: bytes) -> None:
        """The newest head; an older one that still waits is dropped for it."""
        for lane in self._lanes:
            if head == lane.has:
                continue
            if lane.head is None:
                lane.waits_since_s = self._clock.monotonic_s()
            lane.head = head
            lane.wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._serve(lane), name=f"anchor {lane.anchor.name}")

    async def _serve(self, lane: _Lane) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await lane.wake.wait()
            lane.wake.clear()
            while lane.head is not None:
                if await self._put(lane, DEADLINE_S):
                    pause_s = FIRST_PAUSE_S
                    continue
                await self._clock.sleep(pause_s * self._ids.uniform(0.8, 1.2))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _put(self, lane: _Lane, deadline_s: float) -> bool:
        head, name = lane.head, lane.anchor.name
        assert head is not None
        try:
            async with asyncio.timeout(deadline_s):
                await lane.anchor.put(head)
        # A defect in one anchor must cost neither the others nor the service.
        except Exception as error:  # noqa: BLE001
            self._meter.count("audit_anchor_failures_total", anchor=name)
            self._judge(lane, _reason(error))
            return False
        lane.has = head
        if lane.head == head:
            lane.head = None
        else:
            lane.waits_since_s = self._clock.monotonic_s()
        now_s = self._clock.wall_ms() / 1000
        self._meter.gauge("audit_anchored_timestamp_seconds", now_s, anchor=name)
        if lane.said:
            lane.said = False
            self._journal.note("ledger.anchor", link=name, state="up")
            self.told(name, False)
        return True

    def _judge(self, lane: _Lane, reason: str) -> None:
        """Said once, when nothing has left this host by this way for too long."""
        waits_s = self._clock.monotonic_s() - lane.waits_since_s
        if lane.said or waits_s < self._alarm_after_s:
            return
        lane.said = True
        self._journal.warn("ledger.anchor", link=lane.anchor.name, state="down", reason=reason)
        self.told(lane.anchor.name, True)

    async def close(self) -> None:
        """When the tasks have ended and the ledger is closed: the last head, at once."""
        await asyncio.sleep(0)  # so that `offer` has been told of it
        waiting = [lane for lane in self._lanes if lane.head is not None]
        await asyncio.gather(*(self._put(lane, CLOSE_S) for lane in waiting))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) if isinstance(error, AnchorFailed) else type(error).__name__
