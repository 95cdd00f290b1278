"""The control room's consoles in a simulated world: what each was told, and the picture it drew.

A console reads as the stream of the web adapter does (a place in the bus, batches, a number to
come back with) and draws as the page does. One reads at once, one seldom, one never, and one may
see next to nothing. What is on its way when its connection breaks is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.bus import Batch, is_urgent
from gateway.core import Core
from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    Issi,
    LinkChanged,
    LinkState,
    Noticed,
    Outcome,
    Snapshot,
    UnitEmergency,
    UnitFix,
    UnitMeta,
    Viewer,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

ALL_RIGHTS = frozenset(
    {"class", "callsign", "position", "identity", "emergency", "release", "message", "supervise"}
)
TOLD_WITHIN_S = 1.0
HEARTBEAT_S = 30.0
"""How long one waits for a batch; a console that hears nothing loses nothing by waiting longer."""
BACK_AFTER_S = 0.5


class Console:
    """One console. pause_s: how long it does other things between two batches (0: none).

    `wrong` is what went wrong before its own eyes; the oracles make a verdict of it.
    """

    def __init__(
        self, world: World, name: str, rights: frozenset[str], pause_s: tuple[float, float]
    ) -> None:
        self.name = name
        self.viewer = Viewer(id=name, kind=name, rights=rights)
        self._world = world
        self._pause_s = pause_s
        self._epoch = ""
        self._ahead: set[int] = set()
        self.held: int | None = None
        """The number it would come back with; None: it holds nothing whole."""
        self.since_s = 0.0
        """Since when it has been there without a break."""
        self.resets = 0
        self.wrong: list[str] = []
        # the picture
        self.alarms: dict[str, AlarmChanged] = {}
        self.links: dict[str, LinkState] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.units: dict[Issi, UnitMeta] = {}
        self.fixes: dict[Issi, UnitFix] = {}

    @property
    def at_once(self) -> bool:
        """Whether it reads whatever comes as it comes."""
        return self._pause_s == (0.0, 0.0)

    @property
    def sees_all(self) -> bool:
        return self.viewer.rights == ALL_RIGHTS

    # ----------------------------------------------------------------- in the gateway's process

    async def watch(self, core: Core) -> None:
        """Connect, read, and come back after each break: until the gateway dies."""
        world, board = self._world, core.board
        while True:
            if self._epoch != board.epoch or self.held is None:
                self._draw(board.epoch, board.snapshot(self.viewer))
            subscription = board.subscribe(self.viewer, after=self.held)
            self.since_s = world.loop.now_s
            while True:
                batch = await subscription.next(HEARTBEAT_S)
                if batch.events:
                    await world.point("P9 at the console")
                if world.chance("console_cut"):
                    self._ahead.clear()
                    break
                if batch.reset is not None:
                    self.resets += 1
                    self.held = None
                    break
                self._hear(batch)
                if not self.at_once:
                    await world.clock.sleep(world.random.uniform(*self._pause_s))
            subscription.close()
            await world.clock.sleep(world.random.uniform(0.0, BACK_AFTER_S))

    async def sit_there(self, core: Core) -> None:
        """Connected, and never reads."""
        subscription = core.board.subscribe(self.viewer)
        try:
            while True:
                await self._world.clock.sleep(3600)
        finally:
            subscription.close()

    # ----------------------------------------------------------------- before its eyes

    def _draw(self, epoch: str, snapshot: Snapshot) -> None:
        """Everything anew."""
        self._epoch, self.held = epoch, snapshot.seq
        self._ahead.clear()
        self.alarms = {alarm.id: alarm for alarm in snapshot.alarms}
        self.links = {link.id: link.state for link in snapshot.links}
        self.outcomes = {
            now.opened.check: now.done.outcome for now in snapshot.checks if now.done is not None
        }
        self.units = {unit.meta.terminal: unit.meta for unit in snapshot.units}
        self.fixes = {}
        for unit in snapshot.units:
            if unit.fix is not None:
                self._mark(unit.fix)

    def _hear(self, batch: Batch) -> None:
        assert self.held is not None
        due = range(self.held + 1, batch.held + 1) if self.sees_all else ()
        told = [seq for seq, _ in batch.events]
        if not {*due} <= {*told, *self._ahead}:
            self.wrong.append("W09: a hole in the feed that nobody told of")
        if set(told) & self._ahead:
            self.wrong.append("an event told twice")
        self._ahead = {seq for seq in {*self._ahead, *told} if seq > batch.held}
        for seq, event in batch.events:
            if seq > batch.held and not is_urgent(event):
                self.wrong.append("an event before its turn")
            self._see(event)
            self._in_time(seq)
        for fix in batch.fixes:
            self._mark(fix)
        self.held = batch.held

    def _in_time(self, seq: int) -> None:
        """Whoever reads at once is told at once, whatever the other consoles do (W01, R0)."""
        world = self._world
        at_s = max(world.feed_at_s(seq), self.since_s, world.still_until_s)
        if self.at_once and world.loop.now_s - at_s > TOLD_WITHIN_S:
            self.wrong.append(f"I10: told {world.loop.now_s - at_s:.1f} s late")

    def _see(self, event: Event) -> None:
        if not self.sees_all:
            self._allowed(event)
        match event:
            case AlarmChanged():
                if event.state == "cleared":
                    self.alarms.pop(event.id, None)
                else:
                    self.alarms[event.id] = event
            case LinkChanged():
                self.links[event.id] = event.state
            case CheckDone():
                if self.outcomes.setdefault(event.check, event.outcome) is not event.outcome:
                    self.wrong.append("I1: two outcomes on one screen")
            case UnitMeta():
                if event.gone:
                    self.units.pop(event.terminal, None)
                    self.fixes.pop(event.terminal, None)
                else:
                    self.units[event.terminal] = event
            case _:
                pass

    def _mark(self, fix: UnitFix) -> None:
        """I11: the marker only goes forward, and only to places where the terminal said it was."""
        newest = self.fixes.get(fix.terminal)
        if newest is not None and fix.fixed_at_ms < newest.fixed_at_ms:
            # Once our clock is set right, what was told is told anew (to a slow one: the next fix).
            anew = self._world.faults.wall_step and fix.received_at_ms < newest.received_at_ms
            if not anew:
                self.wrong.append("I11: the marker went back")
        if (fix.lat, fix.lon) not in self._world.terminals[fix.terminal].places:
            self.wrong.append("I11: a marker where nobody was")
        if fix.fixed_at_ms > fix.received_at_ms:
            self.wrong.append("I11: a fix from the future moved the marker")
        self.fixes[fix.terminal] = fix

    def _allowed(self, event: Event) -> None:
        """What no right of its was given for must not be there (I18)."""
        match event:
            case UnitFix() | UnitMeta() | UnitEmergency():
                self.wrong.append("walls: a unit that it may not see")
            case CheckDone() if event.result_class or event.danger or event.terminal:
                self.wrong.append("walls: a result that it may not see")
            case CheckOpened() | CheckStaged() | CheckDelivery() | Noticed() if event.terminal:
                self.wrong.append("walls: a terminal that it may not see")
            case AlarmChanged() if event.terminal or event.rule == "EMG":
                self.wrong.append("walls: an emergency that it may not see")
            case _:
                pass


def control_room(world: World) -> list[Console]:
    """The consoles of every world: at once, seldom, without rights; and one that never reads."""
    return [
        Console(world, "fast", ALL_RIGHTS, (0.0, 0.0)),
        Console(world, "slow", ALL_RIGHTS, (5.0, 60.0)),
        Console(world, "wall", frozenset(), (0.0, 2.0)),
    ]
