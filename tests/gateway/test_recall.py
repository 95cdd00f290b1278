"""KeySDS `A`: the last answer again, as it was, to whoever asked for it and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.check_states import Stage
from gateway.errors import PncDown
from gateway.messages import MalformedCheck, Notice, Outcome, RecallRequest
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder
from tests.gateway.test_below_l3 import COUNCIL, in_slots
from tests.gateway.test_checks import with_policy, with_rule

NOTHING = "NOTHING TO SHOW. ASK AGAIN"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


async def recall(house: House, check: str = "") -> None:
    house.link.sent.clear()
    house.say(RecallRequest(check=check))
    await settle(60)


def shown(house: House) -> list[str]:
    """Every mark or word that reached this radio."""
    results = [each.fields.get("vrm", each.outcome.value) for each in house.results]
    notices = [each.text for each in house.notices]
    return [*results, *notices, *(each.why or each.short for each in house.receipts)]


async def test_the_same_bytes_on_record_and_no_second_query(house: House) -> None:
    """Past the minute in which the same text would do, too."""
    await house.ask("TE99ABC")
    (first,) = house.results
    await house.read(first.check)
    await house.passes(300)
    await recall(house)
    (again,) = house.results
    assert msgspec.json.encode(again) == msgspec.json.encode(first)
    assert "AS AT" in again.texts[-1]
    assert house.receipts == []
    assert len(house.pnc.asked) == 1
    (record,) = house.on_record("duplicate")
    assert record.recipient == f"police:1001@{ISSI}"
    assert house.all_settled()


async def test_by_pre_coded_status_too(house: House) -> None:
    await house.ask("TE99ABC")
    await house.read(house.newest())
    await house.passes(300)
    house.link.sent.clear()
    await house.status(23)
    await settle(60)
    assert shown(house) == ["TE99ABC"]
    assert len(house.pnc.asked) == 1
    assert house.all_settled()


async def test_the_newest_answer_or_the_one_that_is_named(house: House) -> None:
    for mark, name in (("TE99ABC", "7"), ("TE99AAB", "8")):
        await house.ask(mark, client_ref=name)
        await house.passes(1)
    first, second = house.results
    for ref, mark in (
        ("", "TE99AAB"),
        ("Q7", "TE99ABC"),
        (first.short, "TE99ABC"),
        (second.check, "TE99AAB"),
    ):
        await recall(house, ref)
        assert shown(house) == [mark], ref
    await recall(house, "ZZZZ")
    assert shown(house) == [NOTHING]


async def test_what_is_still_asked_or_was_refused_is_no_answer(house: House) -> None:
    await house.ask("TE99ABC")
    house.say(MalformedCheck(why="UNKNOWN. ? FOR HELP", typed=True))
    await house.passes(1)
    hang = house.pnc.hang()
    await house.ask("TE99AAB")
    await recall(house)
    assert shown(house) == ["TE99ABC"]
    hang.answer()
    await settle()
    await recall(house)
    assert shown(house) == ["TE99AAB"]


async def test_no_answer_is_shown_as_no_answer(house: House) -> None:
    house.pnc.always = PncDown("x")
    await house.ask("TE99ABC")
    await house.passes(3)
    await recall(house)
    (again,) = house.results
    assert again.outcome is Outcome.FAILED
    assert len(house.pnc.asked) > 0
    house.pnc.always = None


async def test_nothing_is_told_to_whoever_did_not_ask(house: House) -> None:
    """Not that something was asked either: another radio, another officer on the same one."""
    await recall(house)
    assert shown(house) == [NOTHING]
    await house.ask("TE99ABC")
    check = house.results[0]
    for ref in ("", check.check, check.short):
        house.link.sent.clear()
        house.say(RecallRequest(check=ref), issi=OTHER)
        await settle(60)
        assert [each.text for each in house.heard(Notice, OTHER)] == [NOTHING]
        assert [sent.terminal for sent in house.link.sent] == [OTHER]
    house.core.apply(other_holder(house.config))
    for ref in ("", check.check, check.short):
        await recall(house, ref)
        assert shown(house) == [NOTHING], ref
    assert house.on_record("duplicate") == []


async def test_an_answer_that_is_too_old_is_not_shown(house: House) -> None:
    """As old as it may be when it is delivered: then it is asked anew."""
    await house.ask("TE99ABC")
    await house.read(house.newest())
    stale_s = house.config.settings.checks.stale_s
    await house.passes(stale_s - 1)
    await recall(house)
    assert shown(house) == ["TE99ABC"]
    await house.passes(2)
    await recall(house)
    assert shown(house) == [NOTHING]


async def test_after_a_restart_it_is_the_newest_still(house: House) -> None:
    """Memory has the unread one again, and the newer one was read."""
    house.link.reach = False
    await house.ask("TE99ABC")
    house.link.reach = True
    await house.passes(1)
    await house.ask("TE99AAB")
    await house.read(house.newest())
    await house.restart()
    await recall(house)
    assert "TE99AAB" in shown(house)
    assert len(house.on_record("duplicate", house.newest())) == 1


async def test_what_policy_no_longer_allows_is_not_shown(house: House) -> None:
    await house.ask("TE99ABC")
    await house.read(house.newest())
    house.core.apply(with_policy(house.config, rules=()))
    await recall(house)
    assert shown(house) == ["NOT YOUR ROLE"]


async def test_what_is_held_stays_held() -> None:
    async with House(with_rule(config(), hold=True)) as house:
        await house.ask("TE99ABC")
        check = house.core.checks._memory.find(house.newest())
        assert check is not None
        assert check.state.stage is Stage.HELD
        await recall(house)
        assert house.results == []
        assert house.on_record("disclosed") == []


async def test_it_does_not_show_whether_the_answer_is_there() -> None:
    """Below L3 nothing is told before its slot: a recall says the same with and without."""
    said = []
    for answered in (True, False):
        async with House(in_slots()) as house:
            hang = house.pnc.hang()
            await house.ask("TE99ABC", issi=COUNCIL, reason="8")
            if answered:
                hang.answer()
                await settle()
            house.link.sent.clear()
            house.say(RecallRequest(), issi=COUNCIL)
            await settle(60)
            said.append([sent.message for sent in house.link.sent])
            hang.answer()
    assert said[0] == said[1]
    assert [getattr(each, "text", "") for each in said[0]] == [NOTHING]


async def test_what_an_operator_keyed_for_the_room_alone_is_not_shown(house: House) -> None:
    await house.ask("TE99ABC")
    await house.passes(1)
    await house.ask("TE99AAB")
    check = house.core.checks._memory.find(house.newest())
    assert check is not None
    check.state = msgspec.structs.replace(check.state, quiet=True)
    await recall(house)
    assert shown(house) == ["TE99ABC"]


async def test_a_recall_that_cannot_be_recorded_shows_nothing(house: House) -> None:
    await house.ask("TE99ABC")
    await house.read(house.newest())
    house.ledger.down = True
    await recall(house)
    assert house.results == []
    assert house.notices
    assert house.all_settled()


async def test_a_ledger_that_cannot_be_read_shows_nothing(house: House) -> None:
    await house.ask("TE99ABC")
    house.ledger.reads_down = True
    await recall(house)
    assert shown(house) == [NOTHING]
    assert house.all_settled()
