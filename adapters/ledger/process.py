"""The ledger's own process: a fork of the daemon, made before its loop, that writes alone.

In one process the writer's thread gives the interpreter's lock away at each step of a transaction
and waits for it beside a busy loop: a commit took several times what the disk needs
(docs/performance.md, docs/adr/0016). It dies with the daemon, whatever ends that
(PR_SET_PDEATHSIG); a daemon whose ledger's process is gone ends, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from adapters.ledger.calls import (
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
    failed,
)
from gateway.errors import LedgerError, LedgerUnavailable
from gateway.log_words import LogEvent, LogFields
from gateway.ports import Clock

if TYPE_CHECKING:
    from adapters.ledger.store import Store

GAUGES_S = 0.5
METHODS = frozenset(
    {
        "open_checks", "outbox", "open_alarms", "kept", "check", "last_check", "recent_checks",
        "head", "purge", "close",
    }
)  # fmt: skip
HIDE = "hide_questions"
Hiding = Callable[[Path], Callable[[str], str]]
"""From the state folder to what makes a plain digest a keyed one: a function does not travel."""
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
NAME = b"radio-ledger"


class LedgerProcess:
    """pid: of the child. channel: our end of the connection to it; whoever opens the ledger takes
    it over. `end` is safe to call twice, and after the child has gone."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self._gone = False

    def gone(self) -> bool:
        """Whether it has ended; it is reaped then."""
        if not self._gone:
            try:
                self._gone = os.waitpid(self.pid, os.WNOHANG) != (0, 0)
            except ChildProcessError:
                self._gone = True
        return self._gone

    def wait(self, within_s: float) -> bool:
        """Blocking: whether it has ended by then."""
        if not self.gone():
            ended = os.pidfd_open(self.pid)
            try:
                select.select([ended], [], [], within_s)
            finally:
                os.close(ended)
        return self.gone()

    def end(self) -> None:
        """At once; it is not waited for: one that a disk holds ends when that lets it go."""
        self.channel.close()
        if not self.gone():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.gone()


def start(clock: Clock, hiding: Hiding) -> LedgerProcess:
    """Fork it. Before the event loop and before any thread: a fork takes neither along whole."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return LedgerProcess(pid, ours)
    code = 1
    try:
        ours.close()
        _apart(parent)
        asyncio.run(_serve(theirs, clock, hiding))
        code = 0
    finally:
        # Not sys.exit: what the daemon left open above us on the stack is not ours to end.
        os._exit(code)


def _apart(parent: int) -> None:
    """Signals are the daemon's business (Ctrl-C and systemd reach the whole group); its end is
    ours."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NAME, NAME, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    os.close(nowhere)


async def _serve(channel: socket.socket, clock: Clock, hiding: Hiding) -> None:
    loop = asyncio.get_running_loop()
    server = _Server(clock, hiding)
    await loop.create_connection(lambda: server, sock=channel)
    await server.ended.wait()


class _Server(asyncio.Protocol):
    """Does what the daemon asks for, in order, until it hangs up."""

    def __init__(self, clock: Clock, hiding: Hiding) -> None:
        self.ended = asyncio.Event()
        self._clock = clock
        self._hiding = hiding
        self._frames = Frames(Call)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._store: Store | None = None
        self._out: Outgoing
        self._gauges: dict[str, Gauge] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._out = Outgoing(self._loop, transport)

    def data_received(self, data: bytes) -> None:
        for call in self._frames.feed(data):
            match call:
                case Commit():
                    self._begin(call.id, self._commit(call))
                case Ask():
                    self._begin(call.id, self._ask(call))
                case Withdraw():
                    task = self._tasks.get(call.id)
                    if task is not None:
                        task.cancel()
                case Open():
                    self._begin(0, self._open(call))

    def connection_lost(self, _error: Exception | None) -> None:
        # The daemon is gone, or has said `close` before: what nobody waits for is not written.
        self.ended.set()

    def _begin(self, id_: int, work: Any) -> None:
        # Not more than the daemon lets wait: its store bounds them (section.queue).
        task = self._loop.create_task(self._answered(id_, work), name="ledger call")
        self._tasks[id_] = task
        task.add_done_callback(lambda _task: self._tasks.pop(id_, None))

    async def _answered(self, id_: int, work: Any) -> None:
        try:
            reply: Reply = await work
        except LedgerError as error:
            reply = failed(id_, error)
        # A defect of ours: whoever waits must hear of it, and the daemon must not go on.
        except Exception as error:  # noqa: BLE001
            reply = Failed(id_, "fatal", type(error).__name__)
        self._out.put(reply)

    async def _open(self, call: Open) -> Reply:
        from adapters.ledger import open_ledger

        self._store = store = await open_ledger(
            call.section,
            state_dir=Path(call.state_dir),
            instance=call.instance,
            meter=_Gauges(self._gauges),
            journal=_Journal(self._out),
            clock=self._clock,
            audit=call.audit,
            anchored=call.anchored,
            headed=lambda head: self._out.put(Headed(head)),
            patient=True,
        )
        # As in the daemon: what stands now stands until the end.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)
        self._say_gauges()
        return Opened(store.log, store.fence, store.gap)

    async def _commit(self, call: Commit) -> Reply:
        await self._opened().commit(call.records, call.changes)
        return Done(call.id)

    async def _ask(self, call: Ask) -> Reply:
        if call.method == HIDE:
            keyed = await asyncio.to_thread(self._hiding, Path(str(call.arguments[0])))
            await self._opened().hide_questions(keyed)
            return Done(call.id)
        if call.method not in METHODS:
            raise LedgerUnavailable(f"no such method: {call.method}")
        value = await getattr(self._opened(), call.method)(*call.arguments)
        return Told(call.id, msgspec.Raw(msgspec.msgpack.encode(value)))

    def _opened(self) -> Store:
        if self._store is None:
            raise LedgerUnavailable("not open")
        return self._store

    def _say_gauges(self) -> None:
        # The writer's thread may set one meanwhile: each is taken away before it is said.
        for key in list(self._gauges):
            self._out.put(self._gauges.pop(key))
        if not self.ended.is_set():
            self._loop.call_later(GAUGES_S, self._say_gauges)


class _Gauges:
    """gateway.ports.Meter of the child. Gauges are the writer's, and go across, the newest of each;
    counts and times are of calls, and are taken where the caller is."""

    def __init__(self, kept: dict[str, Gauge]) -> None:
        self._kept = kept

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        """The daemon's end counts."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        # From the writer's thread: one assignment is one step.
        self._kept[name] = Gauge(name, value)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """The daemon's end measures."""


class _Journal:
    """gateway.ports.Journal of the child: each line is the daemon's to write."""

    def __init__(self, out: Outgoing) -> None:
        self._out = out

    def note(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
        self._out.put(Line(False, event, fields))

    def warn(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
        self._out.put(Line(True, event, fields))
