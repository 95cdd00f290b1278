"""The bearers of a simulated world: a line that loses words, and a broker that keeps them.

The broker is the part that matters to acknowledgements: it holds a message until it is settled,
stops at its in-flight limit, takes acknowledgements in order only, and brings everything that was
not acknowledged again after each break. It may also lose all of that with its session, and it may
have been told to retain a question, which it then brings at every connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.errors import LinkDown, SendFailed
from gateway.messages import (
    Bearer,
    CheckRequest,
    DeliveryAck,
    Downlink,
    Envelope,
    Issi,
    Receipt,
    Result,
    StatusReport,
    Uplink,
)
from gateway.ports import SEND_S, Handle

if TYPE_CHECKING:
    from tests.simulation.world import World

IN_FLIGHT = 20
"""mosquitto's max_inflight_messages as it comes."""


class SimBearer:
    """gateway.ports.Link to some terminals: may be cut, may lose what it carries."""

    send_s = SEND_S

    def __init__(self, world: World, name: str, bearer: Bearer, terminals: Iterable[Issi]) -> None:
        self.name, self.bearer, self.kind = name, bearer, bearer.value
        self._world = world
        self._terminals = frozenset(terminals)
        self._cut: asyncio.Event | None = None
        self.handle: Handle | None = None

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        self._cut = asyncio.Event()
        self.handle = handle
        up()
        self.opened()
        try:
            await self._cut.wait()
        finally:
            self.handle = None
            self.closed()
        raise LinkDown("cut")

    def cut(self) -> None:
        if self._cut is not None:
            self._cut.set()

    def opened(self) -> None:
        """It is up."""

    def closed(self) -> None:
        """It is down, or its process is gone."""

    def reaches(self, terminal: Issi) -> bool:
        return self.handle is not None and terminal in self._terminals

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        world = self._world
        kind = type(message).__name__
        if world.call("link"):
            raise SendFailed("nth call")
        world.about_to_send(terminal, message)
        if isinstance(message, Result):
            await world.point("P6 before the answer is sent")
        await world.clock.sleep(world.random.expovariate(1 / 0.005))
        if not self.reaches(terminal):
            raise SendFailed("down")
        if world.chance("link_loss", kind):
            return  # taken by the bearer, lost on the air
        world.loop.note("down", terminal, kind)
        world.terminals[terminal].hear(message)
        if isinstance(message, Result):
            await world.point("P7 after the answer is sent")
        elif isinstance(message, Receipt):
            await world.point("P3 after the receipt")

    def give(
        self,
        terminal: Issi,
        message: Uplink,
        settled: Callable[[], None],
        *,
        redelivered: bool = False,
    ) -> None:
        """One message into the core, as a link does."""
        handle, world = self.handle, self._world
        assert handle is not None
        if world.dead or world.dies_at("P0 on the way"):
            return
        envelope = Envelope(
            message=message,
            terminal=terminal,
            link=self.name,
            bearer=self.bearer,
            received_at_ms=world.clock.wall_ms(),
            received_at_s=world.clock.monotonic_s(),
            reference_ms=world.clock.wall_ms(),
            settle=world.settling(terminal, message, settled),
            redelivered=redelivered,
        )
        world.loop.note("up", terminal, type(message).__name__)
        world.given(envelope, handle)

    def say(self, terminal: Issi, message: Uplink) -> None:
        """A terminal transmits: its own way here may lose it, or take its time."""
        world, kind = self._world, type(message).__name__
        if world.chance("link_loss", kind):
            return
        late_s = 0.0
        if world.chance("reorder", kind):
            late_s = world.random.uniform(0.1, 3.0)
        elif world.chance("held_up", kind):
            late_s = world.random.uniform(10, 60)
        if late_s:
            world.loop.call_later(late_s, self.arrives, terminal, message)
        else:
            self.arrives(terminal, message)

    def arrives(self, terminal: Issi, message: Uplink) -> None:
        raise NotImplementedError


class SimLine(SimBearer):
    """A serial line: what is lost is lost."""

    def arrives(self, terminal: Issi, message: Uplink) -> None:
        if self.handle is not None:
            self.give(terminal, message, lambda: None)


class _Item:
    """A message that the broker holds."""

    __slots__ = ("acked", "message", "redelivered", "terminal")

    def __init__(self, terminal: Issi, message: Uplink) -> None:
        self.terminal, self.message, self.acked = terminal, message, False
        self.redelivered = False


class _Session:
    """One client's session: what waits, and what is in flight, both in order."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker
        self._waiting: deque[_Item] = deque()
        self._flying: deque[_Item] = deque()
        self._epoch = 0
        self._pumping = False

    def put(self, item: _Item) -> None:
        self._waiting.append(item)
        self.pump()

    def pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._broker.handle is not None and self._waiting:
                if len(self._flying) >= IN_FLIGHT:
                    return
                item = self._waiting.popleft()
                self._flying.append(item)
                again, item.redelivered = item.redelivered, True
                self._broker.give(
                    item.terminal, item.message, self._acknowledging(item), redelivered=again
                )
        finally:
            self._pumping = False

    def _acknowledging(self, item: _Item) -> Callable[[], None]:
        epoch = self._epoch

        def acknowledge() -> None:
            if epoch != self._epoch:
                return  # of a connection that is gone
            item.acked = True
            while self._flying and self._flying[0].acked:
                self._flying.popleft()
            self.pump()

        return acknowledge

    def broken(self) -> None:
        """Whatever was not acknowledged, in order, comes again."""
        self._epoch += 1
        for item in self._flying:
            item.acked = False
        self._waiting.extendleft(reversed(self._flying))
        self._flying.clear()

    def lost(self) -> None:
        """The broker has forgotten it."""
        self._epoch += 1
        self._waiting.clear()
        self._flying.clear()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)


class SimBroker(SimBearer):
    """A broker with persistent sessions: one for questions, one for status and acknowledgements."""

    def __init__(self, world: World, name: str, bearer: Bearer, terminals: Iterable[Issi]) -> None:
        super().__init__(world, name, bearer, terminals)
        self._main, self._status = _Session(self), _Session(self)
        self._retained: dict[Issi, CheckRequest] = {}
        self._forgotten = False

    def arrives(self, terminal: Issi, message: Uplink) -> None:
        if self._forgotten:
            return  # nobody has subscribed since
        world = self._world
        urgent = isinstance(message, StatusReport | DeliveryAck)
        session = self._status if urgent else self._main
        session.put(_Item(terminal, message))
        if isinstance(message, CheckRequest):
            if world.chance("duplicate"):
                session.put(_Item(terminal, message))
            if world.chance("retained"):
                self._retained[terminal] = message

    def lose_session(self) -> None:
        """Killed and started again without what it held; what is published before the gateway is
        back reaches nobody."""
        self._forgotten = True
        self._status.lost()
        self._main.lost()
        self.cut()

    def opened(self) -> None:
        self._forgotten = False
        if not self._world.healed:
            for terminal, question in self._retained.items():
                self._main.put(_Item(terminal, question))
        self._status.pump()
        self._main.pump()

    def closed(self) -> None:
        self._status.broken()
        self._main.broken()

    def held(self) -> int:
        """Messages that the gateway has not acknowledged."""
        return len(self._main) + len(self._status)
