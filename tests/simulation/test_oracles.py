"""Each oracle can fail: a world that went well, one thing in its history made up, one verdict."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec
import pytest

from gateway.bus import Batch
from gateway.messages import (
    AlarmChanged,
    Bearer,
    CheckDone,
    CheckRequest,
    FixSource,
    Issi,
    Kind,
    LinkState,
    LocationFix,
    Notice,
    Outcome,
    PncQuery,
    Receipt,
    Result,
    UnitFix,
    VehicleKey,
)
from gateway.ports import Record
from tests.simulation import oracles
from tests.simulation.consoles import ALL_RIGHTS, Console
from tests.simulation.faults import Faults, all_busy, small_config
from tests.simulation.loop import SimLoop, run
from tests.simulation.parties import Deadly
from tests.simulation.story import Story
from tests.simulation.world import TakenBack, World

BUSY_S = 20.0
SEED = 3


def found(tamper: Callable[[World], object], faults: Faults | None = None) -> str:
    """What the oracles say after a calm day, once `tamper` has been at its history."""

    async def story() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        config = small_config(random.Random(SEED))
        told = Story(loop, config, faults if faults is not None else Faults(), all_busy(BUSY_S))
        world = await told.live()
        oracles.joined(world)
        oracles.answered_again(world)
        oracles.bounded(world)
        assert world.broken == []
        try:
            tamper(world)
            oracles.joined(world)
        except AssertionError as error:
            return str(error).splitlines()[0]
        return ""

    verdict, _ = run(SEED, story())
    return verdict


def answered(world: World) -> tuple[Issi, Result]:
    """A result that somebody was shown."""
    return next(
        (issi, results[0])
        for issi, terminal in world.terminals.items()
        if terminal.bearer is Bearer.MQTT
        for results in terminal.results.values()
        if results[0].outcome is Outcome.ANSWERED and results[0].danger and results[0].ref
    )


def row(world: World) -> str:
    return answered(world)[1].check


def last(world: World) -> Issi:
    return list(world.terminals)[-1]


def query(world: World, check: str, attempt: int, reason: str = "1") -> PncQuery:
    return msgspec.structs.replace(world.asked[0], check=check, attempt=attempt, reason=reason)


def second_outcome(world: World) -> None:
    world.disk.write([Record(event="answered", at_ms=0, check=row(world), outcome="failed")], [])


def receipt_of_nothing(world: World) -> None:
    receipt = Receipt(ref="lost", check="nowhere", short="C999", accepted=True)
    world.terminals[last(world)].receipts.append(receipt)


def other_bytes(world: World) -> None:
    issi, result = answered(world)
    other = msgspec.structs.replace(result, why="OTHERWISE")
    world.terminals[issi].results[result.check].append(other)


def danger_taken_away(world: World) -> None:
    issi, result = answered(world)
    tame = msgspec.structs.replace(result, pages=("ALL WELL",))
    world.terminals[issi].results[result.check] = [tame]
    old = world.disk.checks[result.check]
    body = msgspec.json.encode(tame)
    world.disk.checks[result.check] = msgspec.structs.replace(old, result=body)


def invented(world: World) -> None:
    old = world.disk.opened(row(world))
    content = b'{"key": "VRM:TE99ZZZ"}'
    made_up = msgspec.structs.replace(old, check="X", content=content)
    ended = Record(event="answered", at_ms=0, check="X", outcome="failed")
    world.disk.checks["X"] = msgspec.structs.replace(
        world.disk.checks[row(world)], id="X", outcome="failed"
    )
    world.disk.write([made_up, ended], [])


def late_notice(text: str, check: Callable[[World], str]) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        notice = Notice(kind="late", text=text, check=check(world))
        world.terminals[last(world)].notices.append(notice)

    return tamper


def set_outcome(world: World, outcome: str) -> str:
    """A check that was not answered."""
    old = world.disk.checks[row(world)]
    name = "Y"
    world.disk.checks[name] = msgspec.structs.replace(old, id=name, outcome=outcome, open=False)
    return name


def silence(world: World) -> None:
    for terminal in world.terminals.values():
        terminal.word_at_s.clear()


def slow_word(world: World) -> None:
    for terminal in world.terminals.values():
        terminal.word_at_s = {name: at_s + 60 for name, at_s in terminal.word_at_s.items()}


def typed_again(world: World) -> None:
    typed = next(r for r in world.disk.checks.values() if msgspec.json.decode(r.state)["typed"])
    world.disk.checks["Z"] = msgspec.structs.replace(
        typed, id="Z", opened_at_ms=msgspec.json.decode(typed.state)["settled_at_ms"] + 1000
    )


def alarm_that_is_not(world: World) -> None:
    world.consoles[1].alarms["A9"] = AlarmChanged("A9", "LNK", 2, "unack-active", 0, 0)


def left_behind(world: World) -> None:
    world.disk.outbox["C"] = object()  # type: ignore[assignment]


def unanswered(world: World) -> None:
    for terminal in world.terminals.values():
        terminal.results.clear()
    oracles.answered_again(world)


def emergency_lost(world: World) -> None:
    world.emergencies.append(last(world))
    world.disk.records = [each for each in world.disk.records if each.event != "emergency"]


AT_THE_END: list[tuple[str, Callable[[World], object]]] = [
    ("I1: 2 outcomes", second_outcome),
    ("I1: receipted and lost", receipt_of_nothing),
    ("I2: other bytes", other_bytes),
    ("I22: stolen not on page 1", danger_taken_away),
    ("I7: a check that nobody asked", invented),
    ("P06: a second reply that is not", lambda w: w.said_more.append((row(w), 1))),
    ("M13: died", lambda w: w.deadly.update(key=Deadly(deaths=4, fresh=1))),
    ("D1: content", late_notice("STOLEN CAR", lambda w: set_outcome(w, "expired"))),
    ("D1: a late notice of an answer", late_notice("LATE", row)),
    ("I4: an officer who heard nothing", silence),
    ("I4: heard after", slow_word),
    ("I21: the same typed text", typed_again),
    ("W09: slow: alarms", alarm_that_is_not),
    ("W09: fast: units", lambda w: w.consoles[0].units.clear()),
    ("fast: a link that looks down", lambda w: w.consoles[0].links.update(line0=LinkState.DOWN)),
    ("I1: fast", lambda w: w.consoles[0].outcomes.update({row(w): Outcome.EXPIRED})),
    ("I10: two consoles", lambda w: w.consoles[0].fixes.clear()),
    ("I14: an answer that waits", left_behind),
    ("I14: a question after the heal", unanswered),
    ("an emergency that is not on record", emergency_lost),
]


@pytest.mark.parametrize(("verdict", "tamper"), AT_THE_END, ids=[each for each, _ in AT_THE_END])
def test_what_is_judged_at_the_end(verdict: str, tamper: Callable[[World], object]) -> None:
    assert found(tamper).startswith(verdict)


def taken_back(world: World) -> None:
    """The check is open again, as if its outcome had never been written."""
    old = world.disk.checks[row(world)]
    world.disk.checks[row(world)] = msgspec.structs.replace(old, outcome="")


def asked_late(world: World) -> None:
    taken_back(world)
    oracles.question_allowed(world, query(world, row(world), 1))


def asked_twice(world: World) -> None:
    taken_back(world)
    again = query(world, row(world), 1)
    world.asked += [again, again]
    old = world.disk.checks[row(world)]
    fresh = msgspec.structs.replace(old, opened_at_ms=world.clock.wall_ms())
    issi = fresh.terminal
    world.terminals[issi].said.clear()
    world.disk.checks[row(world)] = fresh
    oracles.question_allowed(world, again)


def came_too_old(world: World) -> None:
    taken_back(world)
    old = world.disk.checks[row(world)]
    world.disk.checks[row(world)] = msgspec.structs.replace(old, opened_at_ms=world.clock.wall_ms())
    oracles.question_allowed(world, query(world, row(world), 1))


def asked_though_taken_back(world: World) -> None:
    issi, result = answered(world)
    taken_back(world)
    old = world.disk.checks[result.check]
    fresh = msgspec.structs.replace(old, opened_at_ms=world.clock.wall_ms())
    world.disk.checks[result.check] = fresh
    world.terminals[issi].said.clear()
    back = TakenBack(world.life, world.loop.now_s, world.officer(issi))
    world.taken_back[issi, result.ref] = back
    oracles.question_allowed(world, query(world, row(world), 1))


def next_holder(world: World) -> None:
    standing = tuple(
        msgspec.structs.replace(each, officer="9999") for each in world.config.people.standing
    )
    people = msgspec.structs.replace(world.config.people, standing=standing)
    world.config = msgspec.structs.replace(world.config, people=people)
    oracles.sending_allowed(world, *answered(world))


def revoked(world: World) -> None:
    fleet = msgspec.structs.replace(world.config.fleet, terminals=())
    world.config = msgspec.structs.replace(world.config, fleet=fleet)
    oracles.sending_allowed(world, *answered(world))


def undisclosed(world: World) -> None:
    records = world.disk.by_check[row(world)]
    records[:] = [each for each in records if each.event != "disclosed"]
    oracles.result_allowed(world, *answered(world))


def prompt(world: World) -> tuple[Issi, Notice]:
    """A prompt for what was answered, and its record."""
    issi, result = answered(world)
    asked = Notice(kind="waiting", text="!!STOLEN. FREE? ACK 15", check=result.check)
    asked = msgspec.structs.replace(asked, danger=("STOLEN",))
    told = msgspec.structs.replace(
        world.disk.opened(result.check), event="disclosed", content=msgspec.json.encode(asked)
    )
    records = world.disk.by_check[result.check]
    records[:] = [told if each.event == "disclosed" else each for each in records]
    return issi, asked


def prompted_too_soon(world: World) -> None:
    issi, asked = prompt(world)
    world.disk.by_check[asked.check] = []
    oracles.prompt_allowed(world, issi, asked)


def prompted_otherwise(world: World) -> None:
    issi, asked = prompt(world)
    oracles.prompt_allowed(world, issi, msgspec.structs.replace(asked, danger=()))


def shown_though_withheld(world: World) -> None:
    issi, result = answered(world)
    refused = msgspec.structs.replace(world.disk.opened(result.check), event="withheld")
    world.disk.by_check[result.check].append(refused)
    oracles.result_allowed(world, issi, result)


def acknowledged(world: World) -> None:
    request = CheckRequest(key=VehicleKey(vrm="TE99AAA"), reason="1", ref="new", sent_at_ms=1)
    oracles.acknowledgement_allowed(world, last(world), request, world.loop.now_s)


def ring_overflows(world: World) -> None:
    assert world.bus is not None
    world.bus._ring.extend([world.bus._ring[-1]] * (world.knobs.keep_events + 2))
    oracles.bounded(world)


GOOD = LocationFix(52.5, -0.2)
AT_THE_MOMENT: list[tuple[str, Callable[[World], object]]] = [
    ("I6: asked without", lambda w: oracles.question_allowed(w, query(w, row(w), 9))),
    ("I8: a refused", lambda w: oracles.question_allowed(w, query(w, row(w), 1, reason="77"))),
    ("I21: asked after", lambda w: oracles.question_allowed(w, query(w, row(w), 1))),
    ("P01: asked", asked_late),
    ("M14: asked", came_too_old),
    ("M05: asked", asked_though_taken_back),
    ("I6: one attempt asked twice", asked_twice),
    ("decision 13: to the next holder", next_holder),
    ("I18: to a terminal that was taken", revoked),
    ("I3: another's", lambda w: oracles.result_allowed(w, "5001001", answered(w)[1])),
    ("I5: shown before", undisclosed),
    ("I5: prompted before", prompted_too_soon),
    ("I5: prompted in other", prompted_otherwise),
    ("shown, though an operator", shown_though_withheld),
    ("decision 3", acknowledged),
    ("decision 6", lambda w: oracles.emergency_relayed(w, last(w), [])),
    ("I10: a fix not shown", lambda w: oracles.fix_relayed(w, last(w), GOOD, [])),
    ("I13: the bus keeps", ring_overflows),
]


@pytest.mark.parametrize(
    ("verdict", "tamper"), AT_THE_MOMENT, ids=[each for each, _ in AT_THE_MOMENT]
)
def test_what_is_judged_at_the_moment(verdict: str, tamper: Callable[[World], object]) -> None:
    assert found(tamper).startswith(verdict)


def fix(at_ms: int, *, received_ms: int = 10_000, lat: float = 52.5) -> UnitFix:
    return UnitFix("5001001", lat, -0.2, at_ms, received_ms, None, None, None, FixSource.GNSS)


def done(seq: int) -> tuple[int, CheckDone]:
    event = CheckDone(
        short="C1",
        check=f"check{seq}",
        terminal="5001001",
        kind=Kind.VEHICLE,
        outcome=Outcome.ANSWERED,
        result_class="HIT",
        danger=("STOLEN",),
        parts=1,
        not_checked=(),
        level="L3",
        t_ms=0,
        elapsed_s=1.0,
        overhead_s=None,
    )
    return seq, event


def batch(
    *events: tuple[int, CheckDone], held: int | None = None, fixes: tuple[UnitFix, ...] = ()
) -> Batch:
    top = max((seq for seq, _ in events), default=0) if held is None else held
    return Batch(list(events), [], list(fixes), top)


WATCHED: list[tuple[str, frozenset[str], list[Batch]]] = [
    ("", ALL_RIGHTS, [batch(done(1), done(2), fixes=(fix(1), fix(2)))]),
    ("W09: a hole", ALL_RIGHTS, [batch(done(1), done(3))]),
    ("an event told twice", ALL_RIGHTS, [batch(done(2), held=1), batch(done(2))]),
    ("an event before its turn", ALL_RIGHTS, [batch(done(1), done(3), held=1)]),
    ("I10: told", ALL_RIGHTS, [batch(done(1))]),
    ("I11: the marker went back", ALL_RIGHTS, [batch(fixes=(fix(5), fix(4)), held=0)]),
    ("I11: a marker where nobody was", ALL_RIGHTS, [batch(fixes=(fix(5, lat=0.0),), held=0)]),
    ("I11: a fix from the future", ALL_RIGHTS, [batch(fixes=(fix(10_001),), held=0)]),
    ("walls: a result", frozenset(), [batch(done(1))]),
]


@pytest.mark.parametrize(
    ("verdict", "rights", "batches"), WATCHED, ids=[each or "all is well" for each, *_ in WATCHED]
)
def test_what_a_console_finds_wrong(
    verdict: str, rights: frozenset[str], batches: list[Batch]
) -> None:
    """Batches that the bus should never hand over."""

    async def story() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        world = World(loop, small_config(random.Random(SEED)), Faults())
        world.terminals["5001001"].places.add((52.5, -0.2))
        console = Console(world, "fast", rights, (0.0, 0.0))
        console.held = 0
        world.feed = [(0.0, done(n)[1]) for n in range(1, 4)]
        if verdict.startswith("I10"):
            loop.jump(5.0)
        for each in batches:
            console._hear(each)
        return console.wrong

    wrong, _ = run(SEED, story())
    assert any(each.startswith(verdict) for each in wrong) if verdict else wrong == []
