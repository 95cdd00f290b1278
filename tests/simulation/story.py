"""What happens in a simulated world: officers ask, operators act, mischief strikes, all heals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from gateway.errors import LedgerUnavailable
from gateway.messages import Actor, StatusReport
from gateway.settings import Config
from tests.gateway.strategies import held_by
from tests.simulation import oracles
from tests.simulation.faults import POINTS, PUT_AWAY, STRIKES, Faults, Knobs, Pace
from tests.simulation.loop import SimLoop
from tests.simulation.world import World

HEAL_S = 240.0
"""Deadline, late grace, longest stall and staleness of the simulated configuration all fit in."""
CALM_S = 130.0
"""Until what nobody acknowledged is stale, and a slow console has seen everything."""
AIM_S = 15.0
"""How long mischief waits for the point that it has chosen."""
SAMPLE_S = 5.0
WALL_STEPS_MS = (-3_600_000, 3_600_000)


class Story:
    """Chaos at a pace, heal, calm; then an orderly end and one more start without traffic (I19)."""

    def __init__(
        self, loop: SimLoop, config: Config, faults: Faults, pace: Pace, knobs: Knobs | None = None
    ) -> None:
        self.world = World(loop, config, faults, knobs)
        self._pace = pace
        self._officers: list[asyncio.Task[None]] = []
        self._strikes: dict[str, Callable[[], None]] = {
            "pause": self._pause,
            "link_cut": self._cut,
            "session_lost": self.world.broker.lose_session,
            "wall_step": self._step_wall,
            "reload": self._reload,
        }

    async def live(self) -> World:
        """Until all is calm again and can be judged."""
        world = self.world
        await world.start()
        held = any(rule.hold for rule in world.base.policy.rules)
        deciding = [world.loop.create_task(self._decide())] if held else []
        await asyncio.gather(self._ask(), self._report(), self._operate(), self._mischief())
        await self._heal()
        await world.clock.sleep(HEAL_S)
        await self._everybody_asks_once_more()
        world.judge(oracles.answered_again)
        await world.clock.sleep(CALM_S)
        for task in deciding:
            task.cancel()
        return world

    async def play(self) -> World:
        """The whole of it, judged."""
        world = await self.live()
        world.judge(oracles.joined)
        if world.meter.total("queue_dropped_total", reason="poison"):
            world.met(PUT_AWAY)
        before = on_disk(world)
        await world.stop()
        await world.start()
        await world.clock.sleep(5)
        if on_disk(world) != before:
            world.broken.append("I19: a restart without traffic changed something")
        await world.stop()
        return world

    # ----------------------------------------------------------------- people

    async def _turn(self, mean_s: float) -> bool:
        """The next random moment, on average after mean_s while it is busy. False: all is over."""
        world, pace = self.world, self._pace
        while (now_s := world.loop.now_s) < pace.chaos_s:
            wait_s = world.random.expovariate(1 / (mean_s * pace.every_s(now_s) / pace.busy_s))
            change_s = pace.next_change_s(now_s)
            if now_s + wait_s <= change_s:
                await world.clock.sleep(wait_s)
                return world.loop.now_s < pace.chaos_s
            # Memoryless: the pace of the next stretch counts from its beginning.
            await world.clock.sleep(max(0.0, change_s - now_s))
        return False

    async def _ask(self) -> None:
        """Officers ask at random moments."""
        world = self.world
        while await self._turn(self._pace.busy_s):
            terminal = world.random.choice(list(world.terminals.values()))
            if world.random.random() < 0.02:
                world.say(terminal.issi, StatusReport(code=0))
                continue
            self._officers = [task for task in self._officers if not task.done()]
            self._officers.append(world.loop.create_task(terminal.ask()))

    async def _report(self) -> None:
        """Terminals say where they are."""
        world = self.world
        while await self._turn(2 * self._pace.busy_s):
            world.random.choice(list(world.terminals.values())).report()

    async def _operate(self) -> None:
        """Operators acknowledge and close what stands on the console, and are refused at times."""
        world = self.world
        while await self._turn(10 * self._pace.busy_s):
            core, fast = world.core, world.consoles[0]
            if core is None or world.dead or not fast.alarms:
                continue
            alarm = world.random.choice(list(fast.alarms.values()))
            acts = (core.board.acknowledge, core.board.close_alarm)
            act, who = world.random.choice(acts), world.random.choice(["A", "B"])
            world.own(tried(act(alarm.id, Actor(who))))

    async def _decide(self) -> None:
        """Operators release, amend and refuse what is held, two of them at once at times; once all
        is healed they let everything go."""
        world = self.world
        people = [Actor(who, roles=frozenset({"operator"})) for who in ("A", "B")]
        while True:
            await world.clock.sleep(world.random.uniform(0.5, 3.0))
            core = world.core
            if core is None or world.dead:
                continue
            for waits in core.releases.queue():
                for who in people[: world.random.choice([1, 1, 2])]:
                    act = world.random.choice(["release", "release", "amend", "refuse", "read"])
                    act = "release" if world.healed else act
                    world.met(act)
                    if act == "read":
                        world.own(tried(core.releases.read(waits.check, who)))
                    else:
                        level = "L1" if act == "amend" else ""
                        ruling = core.releases.rule(waits.check, who, act, level=level)
                        world.own(tried(ruling))

    async def _everybody_asks_once_more(self) -> None:
        """After the heal: one question each, one after the other, as on a calm day. Where a clock
        is wrong, the terminal's or ours, two more go before it: from them the gateway learns by
        how much."""
        world = self.world
        world.last_words = {}
        for issi, terminal in world.terminals.items():
            for _ in range(2 if terminal.skew_ms or world.clock.is_off else 0):
                await terminal.ask(dated=True)
                await world.clock.sleep(8.0)
            await terminal.ask()
            await world.clock.sleep(8.0)
            world.last_words[issi] = list(terminal.sent)[-1]

    # ----------------------------------------------------------------- mischief

    async def _mischief(self) -> None:
        """Strikes at random moments or at chosen points; whoever was killed is started again."""
        world, pace = self.world, self._pace
        while world.loop.now_s < pace.chaos_s:
            busy = pace.busy(world.loop.now_s)
            wait_s = world.random.uniform(0.5, 10.0) if busy else world.random.uniform(10.0, 120.0)
            if await self._died_within(wait_s) or world.chance("crash"):
                await self._restart()
            elif world.random.random() < 0.5:
                await self._strike_at_a_point()
            else:
                for name, strike in self._strikes.items():
                    if world.chance(name):
                        strike()
                        break
            world.judge(oracles.bounded)

    async def _died_within(self, seconds: float) -> bool:
        world = self.world
        pause = asyncio.ensure_future(world.clock.sleep(seconds))
        killed = asyncio.ensure_future(world.death())
        await asyncio.wait([pause, killed], return_when=asyncio.FIRST_COMPLETED)
        died = killed.done()
        pause.cancel()
        killed.cancel()
        return died

    async def _strike_at_a_point(self) -> None:
        """Choose a strike that this world knows, and a point; wait for somebody to pass there."""
        world = self.world
        known = [name for name in STRIKES if getattr(world.faults, name) > 0]
        if not known:
            return
        name, point = world.random.choice(known), world.random.choice(POINTS)

        def strike(where: str) -> bool:
            world.met(name)
            world.met(f"{name} @ {where}")
            if name == "kill":
                world.kill(where)
                return True
            self._strikes[name]()
            return False

        world.aim = (point, strike)
        if await self._died_within(world.random.uniform(1.0, AIM_S)):
            await self._restart()
        world.aim = None

    def _pause(self) -> None:
        self.world.stand_still(self.world.random.uniform(1.0, 40.0))

    def _cut(self) -> None:
        self.world.random.choice(self.world.bearers).cut()

    def _step_wall(self) -> None:
        self.world.clock.step_wall(self.world.random.choice(WALL_STEPS_MS))

    def _reload(self) -> None:
        world = self.world
        world.config = self._other_config()
        if world.core is not None:
            world.core.apply(world.config)

    async def _restart(self) -> None:
        world = self.world
        await world.crash()
        await world.clock.sleep(world.random.uniform(0.2, 3.0))
        await world.start()

    def _other_config(self) -> Config:
        """Another holder or none, a terminal taken away, nobody may ask; or all as it was."""
        world = self.world
        base = world.base
        terminals = list(base.fleet.terminals)
        which = world.random.randrange(len(terminals))
        policy, people = base.policy, base.people
        match world.random.choice(["holder", "unbooked", "revoked", "denied", "as it was"]):
            case "holder":
                people = held_by(people, terminals[which].issi, "9999")
            case "unbooked":
                people = held_by(people, terminals[which].issi)
            case "revoked":
                del terminals[which]
            case "denied":
                policy = msgspec.structs.replace(policy, rules=(), version="denied")
            case _:
                pass
        fleet = msgspec.structs.replace(base.fleet, terminals=tuple(terminals))
        return msgspec.structs.replace(base, fleet=fleet, people=people, policy=policy)

    # ----------------------------------------------------------------- and all is well

    async def _heal(self) -> None:
        """All faults end; whoever is down comes back."""
        world = self.world
        world.healed = True
        if world.dead or world.core is None:
            await self._restart()
        world.config = world.base
        assert world.core is not None
        world.core.apply(world.base)
        await asyncio.gather(*self._officers)


async def tried(act: Awaitable[object]) -> None:
    """An operator's act: refused for a reason of the desk's, or done."""
    with contextlib.suppress(KeyError, ValueError, LedgerUnavailable):
        await act


def on_disk(world: World) -> tuple[object, ...]:
    """What is on disk, without the records of the process's own life."""
    disk = world.disk
    records = [record for record in disk.records if record.event not in ("started", "stopped")]
    return (records, dict(disk.checks), dict(disk.outbox), dict(disk.alarms))
