"""The release desk through the real core (house.py): read, release, amend, refuse; on record first.

When a terminal hears of it: test_below_l3.py. What may be amended to what: test_amending.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.errors import LedgerUnavailable
from gateway.messages import Actor, HeldAnswer, ReleaseChanged, Result, VehicleReport, Viewer
from gateway.settings import Config
from tests.fake_pnc import vehicle_answer
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config, other_holder
from tests.gateway.strategies import BLOCK
from tests.gateway.test_checks import with_policy, with_rule

ANN = Actor(id="ann", name="Ann", roles=frozenset({"operator"}))
BEN = Actor(id="ben", name="Ben", roles=frozenset({"supervisor"}))


def holding(**changes: object) -> Config:
    return with_rule(config(), hold=True, **changes)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A constable's answer about a stolen car is held."""
    async with House(holding()) as house:
        await house.ask("TE99STV")
        yield house


def told(house: House) -> list[tuple[str, str]]:
    return [(e.state, e.by) for e in house.events if isinstance(e, ReleaseChanged)]


async def rules(house: House, act: str, actor: Actor = ANN, **more: str) -> ReleaseChanged:
    done = await house.core.releases.rule(house.newest(), actor, act, **more)
    await settle()
    return done


async def test_released_is_on_record_and_then_on_its_way(house: House) -> None:
    """Who, in what capacity, at which level and when; in one transaction with the disclosure."""
    assert [n.text[4:] for n in house.notices] == [" WITH CONTROL. WAIT"]
    done = await rules(house, "release")
    assert (done.state, done.by, done.level) == ("released", "ann", "L4")
    assert house.story[-2:] == ["released+disclosed", "sent result"]
    (record,) = house.on_record("released")
    assert (record.operator, record.operator_role) == ("ann", "operator")
    assert (record.level, record.verb) == ("L4", "alteration")
    assert record.officer == "1001"
    assert {"stolen", "warnings"} <= set(record.fields)
    assert told(house) == [("held", ""), ("released", "ann")]
    assert house.core.releases.queue() == ()


async def test_amended_is_less_and_says_so(house: House) -> None:
    """L4 to L1: the tier stays, the rest does not; the disclosure names what was shown."""
    done = await rules(house, "amend", level="L1")
    assert (done.state, done.level) == ("amended", "L1")
    (result,) = house.results
    assert (result.level, result.danger) == ("L1", ("CAUTION+",))
    assert "STOLEN" not in str(result)
    assert "TE99STV" not in str(result)
    (disclosed,) = house.on_record("disclosed")
    assert (disclosed.level, disclosed.fields) == ("L1", ("safety",))
    assert disclosed.content == msgspec.json.encode(result)
    assert [(r.level, r.detail) for r in house.on_record("amended")] == [("L1", "proposed L4")]
    await house.restart()
    await house.passes(15)
    assert {r.level for r in house.results} == {"L1"}, "and so it stays"


async def test_never_amended_upwards() -> None:
    """Nor sideways: what is not below the proposed level changes nothing."""
    async with House(holding()) as house:
        await house.ask("TE99STV", issi="5001008", reason="8")
        for level in ("L2", "L3", "L4", "L0", "L9", ""):
            with pytest.raises(ValueError, match="ONLY BELOW"):
                await rules(house, "amend", level=level)
        assert (await rules(house, "amend", level="L1")).level == "L1"
        assert [r.level for r in house.heard(Result, "5001008")] == ["L1"]


async def test_refused_is_on_record_with_its_reason_and_told_without_one(house: House) -> None:
    done = await rules(house, "refuse", BEN, why="WRONG CAR")
    assert (done.state, done.by) == ("refused", "ben")
    assert [n.text[4:] for n in house.notices][1:] == [" NOT RELEASED. CALL CONTROL"]
    (record,) = house.on_record("withheld")
    assert (record.operator, record.level, record.fields) == ("ben", "", ())
    assert record.content == b'{"why":"WRONG CAR"}'
    await house.passes(700)
    await house.restart()
    await house.passes(700)
    assert house.results == []
    assert house.on_record("disclosed") == []
    check = house.newest()
    assert house.disk.of(check) == ["opened", "asked", "answered", "withheld"], "one outcome"


async def test_a_decision_is_told_though_memory_let_go_of_the_check() -> None:
    """Found by a seeded world: with little memory it was gone before its operator heard."""
    async with House(with_rule(config(settled_memory=0), hold=True)) as house:
        await house.ask("TE99STV")
        done = await rules(house, "refuse", why="WRONG CAR")
        assert (done.state, done.by) == ("refused", "ann")
        await house.ask("TE99AAB")
        viewer = Viewer(id="v", kind="console", rights=frozenset({"release"}))
        board = house.core.board
        done = await board.rule_release(viewer, house.newest(), ANN, "refuse", "", "WRONG CAR")
        assert done.state == "refused"


async def test_asked_again_what_was_refused_is_refused_again() -> None:
    async with House(holding()) as house:
        question = house.question("TE99STV")
        house.say(question)
        await settle()
        await rules(house, "refuse")
        await house.restart()
        house.say(question)
        await settle()
        assert [n.kind for n in house.notices] == ["held", "withheld", "withheld"]
        assert len(house.pnc.asked) == 1


async def test_what_an_operator_reads_is_on_record_first(house: House) -> None:
    """Each level that its officer could get, and the whole at the operator's own."""
    house.ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await house.core.releases.read(house.newest(), ANN)
    house.ledger.down = False
    held = await house.core.releases.read(house.newest()[-4:], ANN)
    assert sorted(held.levels) == ["L1", "L2", "L3", "L4"]
    assert "STOLEN" in held.levels["L4"][0]
    assert "CAUTION+" in held.levels["L1"][0]
    assert held.whole_level == "L4"
    (record,) = house.on_record("shown")
    assert (record.operator, record.recipient, record.verb) == ("ann", "operator:ann", "disclosure")
    assert msgspec.json.decode(record.content or b"", type=HeldAnswer) == held
    assert house.results == [], "reading releases nothing"


async def test_the_control_room_reads_nothing_covert() -> None:
    """A BLOCK report is in no level and not in the whole, before and after a restart."""

    def blocked(query: object) -> object:
        found = vehicle_answer(query)  # type: ignore[arg-type]
        (car,) = found.records
        reports = (BLOCK, VehicleReport(kind="LOS"))
        return msgspec.structs.replace(
            found, records=(msgspec.structs.replace(car, reports=reports),)
        )

    async with House(holding()) as house:
        house.pnc.always = blocked  # type: ignore[assignment]
        await house.ask()
        for _ in range(2):
            held = await house.core.releases.read(house.newest(), BEN)
            assert "STOLEN" in str(held)
            assert "NOT FOR RADIO" not in str(held)
            assert "BLOCK" not in str(held)
            assert b"NOT FOR RADIO" not in house.disk.checks[house.newest()].state
            await house.restart()


async def test_who_has_no_rule_reads_what_the_officer_would(house: House) -> None:
    nobody = Actor(id="eve", roles=frozenset({"ops"}))
    held = await house.core.releases.read(house.newest(), nobody)
    assert (held.whole, held.whole_level) == ((), "")


async def test_nobody_decides_on_their_own_question(house: House) -> None:
    own = Actor(id="1001", roles=frozenset({"operator"}))
    for act in ("release", "refuse"):
        with pytest.raises(ValueError, match="YOUR OWN"):
            await rules(house, act, own)
    assert house.results == []


async def test_two_at_once_one_decides_and_the_other_reads_who(house: House) -> None:
    house.ledger.gate.clear()
    first = asyncio.ensure_future(rules(house, "release", ANN))
    await settle()
    with pytest.raises(ValueError, match="RELEASED BY ANN"):
        await rules(house, "refuse", BEN)
    house.ledger.gate.set()
    assert (await first).by == "ann"
    with pytest.raises(ValueError, match="RELEASED BY ANN"):
        await rules(house, "refuse", BEN)
    assert len(house.results) == 1
    assert house.on_record("withheld") == []


async def test_the_same_act_again_is_done_once(house: House) -> None:
    """They did not hear that it was done."""
    first = await rules(house, "amend", level="L1")
    again = await rules(house, "amend", level="L1")
    assert (again.state, again.by, again.level) == (first.state, first.by, first.level)
    assert len(house.on_record("amended")) == 1
    with pytest.raises(ValueError, match="AMENDED BY ANN"):
        await rules(house, "release")


@pytest.mark.parametrize("act", ["release", "amend", "refuse"])
async def test_no_record_no_release(house: House, act: str) -> None:
    """The ledger is away: refused, nothing sent, held as it was proposed; then it can be done."""
    more = {"level": "L1"} if act == "amend" else {}
    house.ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await rules(house, act, **more)
    assert (house.results, len(house.notices)) == ([], 1)
    house.ledger.down = False
    assert [each.level for each in house.core.releases.queue()] == ["L4"]
    assert (await rules(house, "release")).level == "L4"
    assert [r.level for r in house.results] == ["L4"]


@pytest.mark.parametrize("act", ["release", "amend", "refuse"])
async def test_killed_while_it_is_written(house: House, act: str) -> None:
    """Not durable: held as before. Durable: done, and nobody decides again (P5)."""
    more = {"level": "L1"} if act == "amend" else {}
    house.ledger.gate.clear()
    lost = asyncio.ensure_future(rules(house, act, **more))
    await settle()
    await house.restart()
    lost.cancel()
    assert [each.level for each in house.core.releases.queue()] == ["L4"]
    assert house.results == []
    await rules(house, act, **more)
    sent = len(house.results)
    await house.restart()
    await settle()
    assert house.core.releases.queue() == ()
    assert len(house.results) == (0 if act == "refuse" else sent + 1), "at least once"
    with pytest.raises((ValueError, KeyError)):
        await rules(house, "release", BEN)


async def test_after_a_restart_there_is_still_an_answer_to_amend(house: House) -> None:
    await house.restart()
    held = await house.core.releases.read(house.newest(), ANN)
    assert "STOLEN" in held.whole[0]
    assert (await rules(house, "amend", level="L3")).level == "L3"
    assert [r.level for r in house.results] == ["L3"]
    assert b'"answer"' not in house.disk.checks[house.newest()].state.replace(b'"answer":null', b"")


async def test_stale_is_shown_and_decides_itself(house: House) -> None:
    await house.passes(601)
    assert told(house)[-1] == ("stale", "")
    with pytest.raises(ValueError, match="NOT HELD ANY MORE"):
        await rules(house, "release")
    with pytest.raises(ValueError, match="NOT HELD ANY MORE"):
        await house.core.releases.read(house.newest(), ANN)


@pytest.mark.parametrize("change", ["holder", "policy"])
async def test_what_its_officer_may_not_have_any_more_is_not_released(
    house: House, change: str
) -> None:
    """The policy that lets it go is the one of now; and it is its officer's alone."""
    new = other_holder(house.config) if change == "holder" else with_policy(house.config, rules=())
    house.core.apply(new)
    await settle()
    with pytest.raises(ValueError, match="NOT HELD ANY MORE"):
        await rules(house, "release")
    assert house.results == []


async def test_the_queue_is_oldest_first_and_has_its_figures(house: House) -> None:
    first = house.newest()
    await house.passes(30)
    await house.ask("TE99AAB", issi="5001002")
    queue = house.core.releases.queue()
    assert [each.check for each in queue] == [first, house.newest()]
    assert queue[0].proposed == "HIT_CRITICAL, STOLEN, VIOLENT OCCUPANT"
    await house.passes(1)
    assert house.meter.gauges["releases_pending", ()] == 2
    assert house.meter.gauges["release_oldest_age_seconds", ()] >= 31
    with pytest.raises(KeyError):
        await house.core.releases.rule("ZZZZ", ANN, "release")


async def test_below_l3_the_queue_tells_the_tier_alone() -> None:
    async with House(holding()) as house:
        await house.ask("TE99STV", issi="5001008", reason="8")
        (waits,) = house.core.releases.queue()
        assert (waits.level, waits.proposed) == ("L2", "SAFETY: CAUTION+")


async def test_without_the_right_there_is_no_such_thing(house: House) -> None:
    """Not in the snapshot, not in the queue, not by its reference: not even that it is there."""
    board = house.core.board
    rights = frozenset({"class", "identity", "release"})
    may = Viewer(id="v", kind="console", rights=rights)
    may_not = Viewer(id="v", kind="console", rights=rights - {"release"})
    check = house.newest()
    assert [each.check for each in board.waiting(may)] == [check]
    assert [each.check for each in board.snapshot(may).releases] == [check]
    assert board.waiting(may_not) == board.snapshot(may_not).releases == ()
    for ref in (check, check[-4:]):
        with pytest.raises(KeyError):
            await board.read_held(may_not, ref, ANN)
        with pytest.raises(KeyError):
            await board.rule_release(may_not, ref, ANN, "release", "", "")
    assert house.on_record("shown") == house.on_record("released") == []
    assert (await board.read_held(may, check, ANN)).release.terminal == ISSI
    assert (await board.rule_release(may, check, ANN, "release", "", "")).state == "released"


async def test_an_officer_who_reads_it_was_its_holder(house: House) -> None:
    """Delivered and read as any answer."""
    await rules(house, "release")
    await house.read(house.newest(), issi=ISSI)
    assert house.disk.of(house.newest())[-1] == "read"
