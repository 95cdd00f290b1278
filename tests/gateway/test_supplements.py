"""What a partial answer lacked follows by itself: once, to the same officer, within its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import PncDown
from gateway.messages import (
    Block,
    CheckDone,
    Outcome,
    PersonKey,
    PncAnswer,
    PncQuery,
    Receipt,
    Result,
)
from gateway.settings import Config
from tests.fake_pnc import vehicle_answer
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config, other_holder, unbooked
from tests.gateway.test_below_l3 import in_slots
from tests.gateway.test_sources import PARKING, UNTAXED, from_register, states


def base() -> Config:
    return from_register(config(retries=0))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House(base()) as house:
        yield house


async def partial_without_the_register(house: House, mark: str = "TE99STV", **who: str) -> Result:
    """The police part is answered; DVLA and MID did not reply, and stay away."""
    house.register.down = PncDown("x")
    await house.ask(mark, **who)
    await house.passes(1.5)
    result: Result = house.heard(Result, who.get("issi", ISSI))[-1]
    assert result.not_checked == ("DVLA", "MID")
    return result


async def partial_without_the_pnc(house: House, mark: str = "TE99STV") -> Result:
    house.pnc.always = house.pnc.down = PncDown("x")
    await house.ask(mark)
    assert house.results[-1].not_checked == ("PNC",)
    return house.results[-1]


def supplements(house: House, issi: str = ISSI) -> list[Result]:
    """One of each: what nobody acknowledges is sent again."""
    return list({r.check: r for r in house.heard(Result, issi) if r.parent}.values())


def waiting(house: House) -> list[str]:
    """Whose rest is still waited for, as the disk has it."""
    return [row.id for row in house.disk.kept.values() if row.kind == "supplement"]


def back(house: House) -> None:
    house.register.down = house.pnc.down = house.pnc.always = None


# --------------------------------------------------------------------------- it follows


async def test_the_registers_part_follows_without_the_pnc_being_asked_again(house: House) -> None:
    """Own id, own consultation, own single outcome, own receipt; the parent is named everywhere."""
    first = await partial_without_the_register(house)
    house.register.records["TE99STV"] = msgspec.structs.replace(UNTAXED, vrm="TE99STV")
    back(house)
    receipts = len(house.receipts)
    await house.passes(6)
    (second,) = supplements(house)
    assert second.parent == first.check != second.check
    assert second.receipt != first.receipt
    assert second.fields["tax"] == "N"
    assert states(second) == {"DVLA": "asked", "MID": "asked", "PNC": "not_asked"}
    text = "\n".join(second.pages)
    assert f"ADDS TO {first.short}" in text
    assert "POLICE: AS SAID" in text
    assert len(house.pnc.asked) == 1
    assert len(house.receipts) == receipts  # nobody sent anything that a receipt could be for
    about = [record for record in house.disk.records if record.check == second.check]
    assert [record.event for record in about] == ["opened", "asked", "answered", "disclosed"]
    assert {record.parent for record in about} == {first.check}
    assert [record.source for record in about if record.event == "asked"] == ["DVLA/MID"]
    done = [each for each in house.events if isinstance(each, CheckDone) and each.parent]
    assert [each.parent for each in done] == [first.check]


async def test_the_polices_part_follows_with_all_of_it(house: House) -> None:
    await partial_without_the_pnc(house)
    await house.passes(20)
    assert supplements(house) == []
    back(house)
    await house.passes(6)
    (second,) = supplements(house)
    assert second.danger[0] == "STOLEN"
    assert second.not_checked == ()


async def test_a_source_behind_the_pnc_follows_too(house: House) -> None:
    """The PNC alone was asked, and one of its sources was silent."""

    def without_insurance(query: PncQuery) -> PncAnswer:
        answer = vehicle_answer(query)
        silent = Block("INSURANCE", answer.as_of_ms, "UNAVAILABLE")
        return msgspec.structs.replace(answer, blocks=(*answer.blocks, silent))

    async with House(config(retries=0)) as house:
        house.pnc.silent = frozenset({"INSURANCE"})
        house.pnc.always = without_insurance
        await house.ask("TE99AAB")
        await house.passes(11)
        assert supplements(house) == []
        house.pnc.silent, house.pnc.always = frozenset(), None
        await house.passes(6)
        (second,) = supplements(house)
        assert second.result_class == "TRACE_CLEAR"


async def test_it_follows_whether_or_not_anything_changed(house: House) -> None:
    """Else that it came would tell; the register still knows nothing of this vehicle."""
    await partial_without_the_register(house)
    house.register.every = None
    back(house)
    await house.passes(6)
    assert supplements(house)[0].fields["tax"] == "?"


async def test_below_l3_it_comes_in_its_slot() -> None:
    async with House(in_slots(base())) as house:
        house.register.down = PncDown("x")
        await house.ask("TE99AAB", issi=PARKING, reason="8")
        await house.passes(4.5)
        assert len(house.heard(Result, PARKING)) == 1
        back(house)
        await house.passes(11)
        assert len(house.on_record("opened")) == 1
        await house.passes(1.5)
        (parent, second) = [r.check for r in house.on_record("answered")]
        (opened,) = house.on_record("opened", second)
        assert opened.parent == parent
        assert supplements(house, PARKING) == []
        at_ms = house.clock.wall_ms()
        await house.passes((opened.at_ms + 4000 - at_ms) / 1000 - 0.1)
        assert supplements(house, PARKING) == []
        await house.passes(0.2)
        assert len(supplements(house, PARKING)) == 1


async def test_at_l1_nothing_follows() -> None:
    """That something did would tell why the tier was CAUTION."""

    def silent(query: PncQuery) -> PncAnswer:
        return PncAnswer(
            check=query.check,
            attempt=query.attempt,
            key_text=query.key_text,
            records=(),
            blocks=(Block("PNC", 1), Block("WARNINGS", 1, "UNAVAILABLE")),
            as_of_ms=1,
        )

    async with House(config(retries=0)) as house:
        house.pnc.always = silent
        house.pnc.silent = frozenset({"WARNINGS"})
        key = PersonKey(surname="TESTER", sex="F")
        await house.ask(issi="5001009", reason="8", key=key)
        (first,) = house.heard(Result, "5001009")
        assert (first.level, first.fields["safety"]) == ("L1", "CAUTION")
        house.pnc.always = None
        house.pnc.silent = frozenset()
        await house.passes(30)
        assert supplements(house, "5001009") == []
        assert house.pnc.looks == 0


# --------------------------------------------------------------------------- once


async def test_one_follows_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the second is partial again."""
    first = await partial_without_the_register(house)
    back(house)
    house.register.silent = frozenset({"MID"})

    async def all_of_them() -> frozenset[str]:
        return frozenset({"DVLA", "MID"})

    monkeypatch.setattr(house.core.supplements, "_register", all_of_them)
    await house.passes(6)
    assert [result.not_checked for result in supplements(house)] == [("MID",)]
    await house.passes(60)
    assert [result.parent for result in supplements(house)] == [first.check]
    assert waiting(house) == []


@pytest.mark.parametrize("when", ["it waits", "it is asked", "it is answered"])
async def test_once_over_a_kill(when: str) -> None:
    async with House(from_register(config(retries=2))) as house:
        first = await partial_without_the_register(house)
        if when == "it waits":
            await house.restart()
            back(house)
        elif when == "it is asked":
            back(house)
            house.register.waits = _never()
            await house.passes(6)
            assert len(house.register.asked) == 2
            house.register.waits = None
            await house.restart()
        else:
            back(house)
            await house.passes(6)
            await house.restart()
        await house.passes(60)
        assert {result.parent for result in supplements(house)} == {first.check}
        asked = [r for r in house.on_record("opened") if r.parent]
        assert len(asked) == 1
        ends = [r for r in house.on_record("answered") if r.parent]
        assert [r.outcome for r in ends] == [Outcome.ANSWERED.value]
        assert waiting(house) == []


def _never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def test_four_at_once_the_oldest_first() -> None:
    async with House(from_register(config(retries=0, breaker_failures=100))) as house:
        await _four_at_once(house)


async def test_a_circuit_that_is_not_closed_yet_gets_one_to_try(house: House) -> None:
    """More would fail at once, and their officers would read NO ANSWER."""
    for mark in ("TE99AAB", "TE99AAC", "TE99AAD", "TE99AAE", "TE99AAF", "TE99AAG"):
        await partial_without_the_register(house, mark)
    back(house)
    await house.passes(20)
    assert len(supplements(house)) == 6
    assert {result.outcome for result in supplements(house)} == {Outcome.ANSWERED}


async def _four_at_once(house: House) -> None:
    for mark in ("TE99AAB", "TE99AAC", "TE99AAD", "TE99AAE", "TE99AAF", "TE99AAG"):
        await partial_without_the_register(house, mark)
    back(house)
    house.register.waits = _never()
    before = len(house.register.asked)
    await house.passes(6)
    asked = [query.vrm for query in house.register.asked[before:]]
    assert asked == ["TE99AAB", "TE99AAC", "TE99AAD", "TE99AAE"]
    house.register.waits.set_result(None)
    await house.passes(12)
    assert len(supplements(house)) == 6


async def test_what_cannot_be_put_on_record_is_asked_when_it_can(house: House) -> None:
    await partial_without_the_register(house)
    back(house)
    house.ledger.down = True
    await house.passes(6)
    assert supplements(house) == []
    house.ledger.down = False
    await house.passes(12)
    assert len(supplements(house)) == 1


# --------------------------------------------------------------------------- to whom, how long


@pytest.mark.parametrize("next_", [other_holder, unbooked])
async def test_the_next_booking_gets_nothing(house: House, next_: object) -> None:
    assert callable(next_)
    first = await partial_without_the_register(house)
    house.core.apply(next_(house.config))
    back(house)
    await house.passes(30)
    assert supplements(house) == []
    (dropped,) = [r for r in house.on_record("stale") if r.parent]
    assert (dropped.parent, dropped.check) == (first.check, "")
    assert dropped.detail == "supplement not asked: the booking ended"
    assert waiting(house) == []


async def test_ten_minutes_and_no_longer(house: House) -> None:
    await partial_without_the_register(house)
    await house.passes(598)
    assert [r for r in house.on_record("stale") if r.parent] == []
    await house.passes(5)
    back(house)
    await house.passes(30)
    assert supplements(house) == []
    (dropped,) = [r for r in house.on_record("stale") if r.parent]
    assert dropped.detail == "supplement not asked: the source did not return in time"
    assert waiting(house) == []


async def test_a_clock_that_was_set_back_does_not_make_it_longer(house: House) -> None:
    await partial_without_the_register(house)
    await house.passes(400)
    house.clock.step_wall(-3_600_000)
    await house.restart()
    await house.passes(605)
    back(house)
    await house.passes(30)
    assert supplements(house) == []


async def test_nobody_looks_while_nothing_waits(house: House) -> None:
    """And a look names nobody: it is no question."""
    await house.ask("TE99AAB")
    await house.passes(60)
    assert (house.register.looks, house.pnc.looks) == (0, 0)
    await partial_without_the_register(house)
    questions = len(house.register.asked)
    await house.passes(30)
    assert 5 <= house.register.looks <= 7
    assert house.pnc.looks == 0
    assert len(house.register.asked) == questions
    assert len(house.heard(Receipt)) == 2


async def test_a_row_that_cannot_be_read_costs_itself(house: House) -> None:
    await partial_without_the_register(house)
    key = ("supplement", waiting(house)[0])
    house.disk.kept[key] = msgspec.structs.replace(house.disk.kept[key], body=b"{")
    await house.restart()
    back(house)
    await house.passes(10)
    await settle()
    assert supplements(house) == []
    assert waiting(house) == []


# --------------------------------------------------------------------------- any story


ACTS = st.lists(
    st.sampled_from(
        ["ask", "status", "register down", "pnc down", "back", "a while", "kill", "next", "first"]
    ),
    min_size=4,
    max_size=14,
)


@settings(max_examples=25)
@given(ACTS)
def test_whatever_happens_one_follows_at_most_and_to_its_own_officer(acts: list[str]) -> None:
    """Sources that come and go, kills, other holders: each parent has at most one supplement, each
    check one outcome, a status never reaches the PNC, and nobody reads what was another's."""

    async def play() -> None:
        first = from_register(config(retries=0))
        async with House(first) as house:
            for act in [*acts, "back", "first", "a while", "a while"]:
                match act:
                    case "ask" | "status":
                        await house.ask("TE99STV", scope="status" if act == "status" else "")
                    case "register down":
                        house.register.down = PncDown("x")
                    case "pnc down":
                        house.pnc.always = house.pnc.down = PncDown("x")
                    case "back":
                        back(house)
                    case "a while":
                        await house.passes(11)
                    case "kill":
                        await house.restart()
                    case "next" | "first":
                        house.config = first if act == "first" else other_holder(first)
                        house.core.apply(house.config)
                        await settle()
            await house.passes(60)
            _as_it_must_be(house)

    asyncio.run(play())


def _as_it_must_be(house: House) -> None:
    opened = {record.check: record for record in house.on_record("opened")}
    parents = [record.parent for record in opened.values() if record.parent]
    assert len(parents) == len(set(parents))
    for record in opened.values():
        if record.parent:
            assert record.officer == opened[record.parent].officer
            assert opened[record.parent].parent == ""
    ends = [r.check for e in ("answered", "refused", "denied") for r in house.on_record(e)]
    assert sorted(ends) == sorted(opened)
    asked = {(record.check, record.source) for record in house.on_record("asked")}
    assert {(query.check, "PNC") for query in house.pnc.asked} <= asked
    assert {(query.check, "DVLA/MID") for query in house.register.asked} <= asked
    for row in house.disk.checks.values():
        stored = msgspec.json.decode(row.state)
        if (stored["request"] or {}).get("scope") == "status":
            assert (row.id, "PNC") not in asked
