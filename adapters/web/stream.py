"""One console's event stream: Server-Sent Events with numbers, a heartbeat and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from adapters.http_doors import Doorway
from adapters.web import shapes
from adapters.web.board import Board
from gateway.bus import Batch, Subscription
from gateway.messages import Event, UnitEmergency, UnitFix, Viewer
from gateway.ports import Clock, Meter

HEARTBEAT_S = 1.0
WRITE_DEADLINE_S = 2.0
QUIET_FIX_S, BUSY_FIX_S, BUSY_UNITS = 0.02, 0.1, 300
"""At most 50 position batches a second up to 300 units, 10 above (console design, 15.2)."""
RETRY_MS = (500, 3000)
MOST_EMERGENCIES = 1024


class Cut(Exception):
    """The far side does not read: the connection was aborted."""


class Streams:
    """All streams of this server: opens them, beats their hearts, ends them."""

    def __init__(
        self,
        board: Board,
        *,
        meter: Meter,
        clock: Clock,
        units: shapes.Units,
        uniform: Callable[[float, float], float],
        write_deadline_s: float = WRITE_DEADLINE_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._board = board
        self._meter = meter
        self._clock = clock
        self._units = units
        self._uniform = uniform
        self._write_deadline_s = write_deadline_s
        self._heartbeat_s = heartbeat_s
        self._open: dict[Subscription, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self.policies = 0
        """Changes of policy that were seen: what was cached before one is void."""
        self._presented: dict[str, None] = {}
        self._rows: tuple[list[UnitFix], bytes] | None = None

    # ------------------------------------------------------------------ bytes

    def encode(self, event: Event, seq: int, prev: int | None) -> bytes:
        """gateway.bus.Encode: one message, made once for all of a group."""
        body = shapes.event_body(event, self._units)
        body["seq"] = seq
        if prev is None:
            body["ahead"] = True
        else:
            body["prev"] = prev
        return self._message(seq, body)

    def _message(self, held: int, body: shapes.Json) -> bytes:
        return b"id: %b:%d\ndata: %b\n\n" % (self._board.epoch.encode(), held, shapes.encode(body))

    def _fixes(self, batch: Batch) -> bytes:
        """`unit.batch`, encoded once for all who are handed the same list."""
        if self._rows is None or self._rows[0] is not batch.fixes:
            now_ms = self._clock.wall_ms()
            rows = [shapes.fix_row(fix, self._units, now_ms) for fix in batch.fixes]
            body = {"type": "unit.batch", "t": now_ms / 1000, "u": rows}
            self._rows = (batch.fixes, shapes.encode(body))
        epoch = self._board.epoch.encode()
        return b"id: %b:%d\ndata: %b\n\n" % (epoch, batch.held, self._rows[1])

    # ------------------------------------------------------------------ life

    async def serve(
        self,
        request: web.Request,
        viewer: Viewer,
        epoch: str | None,
        after: int | None,
        still: Callable[[], bool],
    ) -> web.StreamResponse:
        """Until the client goes, is cut, is told to reset, is nobody any more (`still`), or the
        gateway stops."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        doorway = request.protocol
        assert isinstance(doorway, Doorway)
        await response.prepare(request)
        doorway.within(None)  # from here on every write has its own deadline
        assert doorway.transport is not None
        doorway.transport.set_write_buffer_limits(high=0)  # "written" means the kernel took it
        if self._stopping:
            await self._write(doorway, response, self._bye())
            return response
        if epoch is not None and epoch != self._board.epoch:
            await self._reset(doorway, response, 0, "epoch")
            return response
        subscription = self._board.subscribe(viewer, after=after, encode=self.encode)
        self._open[subscription] = 0
        self._idle.clear()
        self._meter.gauge("console_streams", len(self._open))
        try:
            await self._run(subscription, doorway, response, still)
        except (Cut, ConnectionError):
            pass  # gone; what it missed it can ask for again
        finally:
            subscription.close()
            self._open.pop(subscription, None)
            self._meter.gauge("console_streams", len(self._open))
            if not self._open:
                self._idle.set()
        return response

    async def _run(
        self,
        subscription: Subscription,
        doorway: Doorway,
        response: web.StreamResponse,
        still: Callable[[], bool],
    ) -> None:
        now_s = asyncio.get_running_loop().time
        beat_at_s = fixes_at_s = now_s()
        dropped = 0
        while True:
            if now_s() >= beat_at_s:
                behind = subscription.behind
                beat = {
                    "type": "hb",
                    "t": self._clock.wall_ms() / 1000,
                    "seq": subscription.held,
                    "q": behind,
                    "drop": dropped,
                }
                await self._write(doorway, response, self._message(subscription.held, beat))
                self._meter.count("console_events_sent_total", type="hb")
                self._open[subscription] = behind
                depth = max(self._open.values(), default=0)
                self._meter.gauge("console_lane_depth_max", depth, lane="event")
                beat_at_s = now_s() + self._heartbeat_s
            fixes_due = now_s() >= fixes_at_s
            until_s = beat_at_s if fixes_due else min(beat_at_s, fixes_at_s)
            wait_s = max(0.0, until_s - now_s())
            batch = await subscription.next(wait_s, fixes=fixes_due)
            if not still():  # asked when it is sent, not when the stream was opened
                self._meter.count("console_resets_total", reason="session")
                await self._write(doorway, response, self._bye("session"))
                return
            if batch.closed:
                await self._write(doorway, response, self._bye())
                return
            if batch.reset is not None:
                self.policies += batch.reset == "policy"
                await self._reset(doorway, response, batch.held, batch.reset)
                return
            if batch.wire:
                await self._write(doorway, response, b"".join(batch.wire))
                self._count(batch)
            if batch.fixes:
                await self._write(doorway, response, self._fixes(batch))
                self._meter.count("console_events_sent_total", type="unit.batch")
                quiet = len(self._units) <= BUSY_UNITS
                fixes_at_s = now_s() + (QUIET_FIX_S if quiet else BUSY_FIX_S)
                if batch.conflated:
                    dropped += batch.conflated
                    self._meter.count(
                        "queue_dropped_total", batch.conflated, queue="console", reason="conflated"
                    )

    def _count(self, batch: Batch) -> None:
        for _, event in batch.events:
            self._meter.count("console_events_sent_total", type=shapes.event_type(event))
            if isinstance(event, UnitEmergency) and event.on:
                if event.occurrence not in self._presented:
                    self._meter.count("emergencies_total", stage="presented")
                self._presented[event.occurrence] = None
                if len(self._presented) > MOST_EMERGENCIES:
                    del self._presented[next(iter(self._presented))]

    async def _reset(
        self, doorway: Doorway, response: web.StreamResponse, held: int, reason: str
    ) -> None:
        self._meter.count("console_resets_total", reason=reason)
        body = {"type": "reset", "reason": reason}
        await self._write(doorway, response, self._message(held, body))

    def _bye(self, reason: str = "stopping") -> bytes:
        retry_ms = round(self._uniform(*RETRY_MS))
        body = {"type": "bye", "reason": reason, "retry_ms": retry_ms}
        return b"data: %b\n\n" % shapes.encode(body)

    async def _write(self, doorway: Doorway, response: web.StreamResponse, data: bytes) -> None:
        """The kernel takes it within the deadline, or the connection is cut."""
        try:
            async with asyncio.timeout(self._write_deadline_s):
                await response.write(data)
                await doorway.flowing()
        except TimeoutError:
            self._meter.count("console_resets_total", reason="slow")
            doorway.abort()
            raise Cut from None

    async def stop(self, deadline_s: float) -> None:
        """Say `bye` to all and wait for them to end, so that the shutdown has none to wait for."""
        self._stopping = True
        for subscription in tuple(self._open):
            subscription.close()
        try:
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()
        except TimeoutError:
            pass  # the server's own shutdown cuts the rest
