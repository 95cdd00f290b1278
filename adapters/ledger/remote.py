"""The ledger as the daemon has it when a process of its own writes it: a call, a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from adapters.ledger.calls import (
    ERRORS,
    Ask,
    Call,
    Commit,
    Done,
    Failed,
    Frames,
    Gauge,
    Headed,
    Line,
    Open,
    Opened,
    Outgoing,
    Reply,
    Told,
    Withdraw,
)
from adapters.ledger.process import HIDE, LedgerProcess
from gateway.errors import (
    DuplicateCheck,
    DuplicateReceipt,
    LedgerError,
    LedgerFatal,
    LedgerUnavailable,
)
from gateway.messages import AlarmChanged, Issi
from gateway.ports import Change, CheckRow, Clock, Journal, KeptRow, Meter, OutboxRow, Record
from gateway.settings import AuditSection, LedgerSection

OPEN_S = 600.0
"""A migration of years of records may take its time; systemd's own deadline is shorter."""
CLOSE_S = 5.0
GONE_S = 1.0


async def open_remote(
    process: LedgerProcess,
    section: LedgerSection,
    *,
    state_dir: Path,
    instance: str,
    meter: Meter,
    journal: Journal,
    clock: Clock,
    audit: AuditSection,
    anchored: Mapping[str, bytes],
    headed: Callable[[bytes], None],
) -> RemoteStore:
    """As `open_ledger`, in that process. Raises LedgerUnavailable, which says what to do."""
    loop = asyncio.get_running_loop()
    store = RemoteStore(
        process,
        most=2 * section.queue,
        meter=meter,
        journal=journal,
        clock=clock,
        headed=headed,
    )
    await loop.create_connection(lambda: store, sock=process.channel)
    call = Open(section, audit, str(state_dir), instance, dict(anchored))
    try:
        async with asyncio.timeout(OPEN_S):
            await store.begin(call)
    except TimeoutError as error:
        raise LedgerUnavailable("cannot be opened: its process does not answer") from error
    meter.gauge("queue_capacity", section.queue, queue="audit")
    return store


class RemoteStore(asyncio.Protocol):
    """gateway.ports.Ledger over the connection to its process. Made by `open_remote`."""

    def __init__(
        self,
        process: LedgerProcess,
        *,
        most: int,
        meter: Meter,
        journal: Journal,
        clock: Clock,
        headed: Callable[[bytes], None],
    ) -> None:
        """most: calls that may wait for their reply."""
        self.log = ""
        self.fence = 0
        self.gap = False
        self._folder = ""
        self._process = process
        self._most = most
        self._meter = meter
        self._journal = journal
        self._clock = clock
        self._headed = headed
        self._frames = Frames(Reply)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self._out: Outgoing | None = None
        self._dead: LedgerFatal | None = None
        self._closing = False

    # ----------------------------------------------------------------- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._out = Outgoing(asyncio.get_running_loop(), transport)

    def data_received(self, data: bytes) -> None:
        for reply in self._frames.feed(data):
            match reply:
                case Done():
                    self._end(reply.id, None)
                case Told():
                    self._end(reply.id, reply.value)
                case Failed():
                    self._fail(reply.id, ERRORS[reply.kind](reply.words))
                case Opened():
                    self.log, self.fence, self.gap = reply.log, reply.fence, reply.gap
                    self._end(0, None)
                case Gauge(name="audit_head_sequence", value=value):
                    self._meter.gauge("audit_head_sequence", value)
                case Gauge(name="queue_depth", value=value):
                    self._meter.gauge("queue_depth", value, queue="audit")
                case Line():
                    say = self._journal.warn if reply.warn else self._journal.note
                    say(reply.event, **reply.fields)
                case Headed():
                    self._headed(reply.head)

    def connection_lost(self, _error: Exception | None) -> None:
        """Whether what was under way is on record cannot be known: the daemon must end."""
        self._dead = LedgerFatal("the ledger's process has ended")
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(LedgerFatal(str(self._dead)))

    def _end(self, id_: int, value: Any) -> None:
        future = self._calls.pop(id_, None)
        if future is not None and not future.done():
            future.set_result(value)

    def _fail(self, id_: int, error: LedgerError) -> None:
        future = self._calls.pop(id_, None)
        if future is not None and not future.done():
            future.set_exception(error)

    async def _say(self, id_: int, call: Call) -> Any:
        if self._dead is not None or self._out is None:
            raise LedgerFatal(str(self._dead))
        if len(self._calls) >= self._most:
            self._meter.count("queue_dropped_total", queue="audit", reason="full")
            raise LedgerUnavailable("queue full")
        try:
            self._out.put(call)
        except (OverflowError, UnicodeEncodeError) as error:
            # A number or a text that no column takes (2**63, a lone surrogate).
            self._meter.count("audit_write_failures_total")
            raise LedgerUnavailable(f"refused: {type(error).__name__}") from error
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[id_] = future
        try:
            return await future
        except asyncio.CancelledError:
            if self._calls.pop(id_, None) is not None and self._dead is None:
                self._out.put(Withdraw(id_))
            raise
        except LedgerError as error:
            if not isinstance(error, DuplicateCheck | DuplicateReceipt):
                self._meter.count("audit_write_failures_total")
            raise

    # ----------------------------------------------------------------- what is asked

    async def begin(self, call: Open) -> None:
        self._folder = call.state_dir
        await self._say(0, call)

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        """Append all records and make all changes, or none. Durable on return."""
        if self._closing:
            raise LedgerUnavailable("closing")
        started_s = self._clock.monotonic_s()
        self._last += 1
        await self._say(self._last, Commit(self._last, tuple(records), tuple(changes)))
        self._meter.observe("audit_write_duration_seconds", self._clock.monotonic_s() - started_s)
        for record in records:
            self._meter.count("audit_records_total", action=record.event)

    async def _ask(self, type_: Any, method: str, *arguments: str | int) -> Any:
        if self._closing:
            raise LedgerUnavailable("closing")
        self._last += 1
        value = await self._say(self._last, Ask(self._last, method, arguments))
        return msgspec.msgpack.decode(value, type=type_)

    async def open_checks(self) -> list[CheckRow]:
        found: list[CheckRow] = await self._ask(list[CheckRow], "open_checks")
        return found

    async def outbox(self) -> list[OutboxRow]:
        found: list[OutboxRow] = await self._ask(list[OutboxRow], "outbox")
        return found

    async def open_alarms(self) -> list[AlarmChanged]:
        found: list[AlarmChanged] = await self._ask(list[AlarmChanged], "open_alarms")
        return found

    async def kept(self, kind: str) -> list[KeptRow]:
        found: list[KeptRow] = await self._ask(list[KeptRow], "kept", kind)
        return found

    async def check(self, id_: str) -> CheckRow | None:
        found: CheckRow | None = await self._ask(CheckRow | None, "check", id_)
        return found

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        found: CheckRow | None = await self._ask(CheckRow | None, "last_check", terminal, short)
        return found

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        found: list[CheckRow] = await self._ask(list[CheckRow], "recent_checks", terminal, since_ms)
        return found

    async def head(self) -> tuple[int, str]:
        """Sequence and hash of the newest durable record."""
        found: tuple[int, str] = await self._ask(tuple[int, str], "head")
        return found

    async def hide_questions(self, keyed: Callable[[str], str]) -> None:
        """Make digests that were written plainly keyed ones. The process reads the key itself:
        `keyed` does not travel."""
        del keyed
        if self._closing:
            raise LedgerUnavailable("closing")
        self._last += 1
        await self._say(self._last, Ask(self._last, HIDE, (self._folder,)))

    async def purge(self, before_ms: int) -> int:
        """Destroy personal content older than this, on record; how many contents (Store.purge)."""
        total: int = await self._ask(int, "purge", before_ms)
        self._meter.count("purged_items_total", total, kind="content")
        return total

    async def close(self) -> None:
        """Write what was accepted, then let go of the file and the lock, and end the process. One
        that a disk holds is left to end by itself. Raises LedgerFatal when it ends too soon."""
        lost: LedgerFatal | None = None
        if self._dead is None:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._ask(None, "close")
            except LedgerFatal as error:
                lost = error
            except (LedgerUnavailable, TimeoutError):
                self._journal.warn("ledger.unavailable", stage="close")
        self._closing = True
        self._transport.close()
        await asyncio.to_thread(self._process.wait, GONE_S)
        self._process.end()
        if lost is not None:
            raise lost
