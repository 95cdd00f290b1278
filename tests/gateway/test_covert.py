"""A supervisor learns that something was withheld from a radio, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.messages import RIGHTS, AlarmChanged, PersonKey, PncAnswer, PncQuery, Viewer
from gateway.projection import visible
from tests.fakes import settle
from tests.gateway.house import House
from tests.gateway.strategies import COVERT, answer, person

NORA = PersonKey(surname="TESTER", forenames="NORA", dob="1970-01-01")


def with_covert(query: PncQuery) -> PncAnswer:
    said = answer(person(circulations=(COVERT,)))
    return msgspec.structs.replace(
        said, check=query.check, attempt=query.attempt, key_text=query.key_text
    )


def without(query: PncQuery) -> PncAnswer:
    said = answer(person())
    return msgspec.structs.replace(
        said, check=query.check, attempt=query.attempt, key_text=query.key_text
    )


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        house.pnc.always = with_covert
        yield house


async def ask(house: House) -> None:
    house.say(msgspec.structs.replace(house.question(), key=NORA))
    await settle(60)


async def test_the_supervisor_is_told_in_the_transaction_of_the_outcome(house: House) -> None:
    """Both or neither: no crash in between can show the one without the other."""
    await ask(house)
    assert "answered+security+alarm+disclosed" in house.story
    (alarm,) = house.core.alarms.open()
    assert (alarm.rule, alarm.audience, alarm.check) == ("COV", "supervisor", house.newest())
    (record,) = house.on_record("alarm")
    assert record.operation == "COV"
    # It names the check, and no subject.
    assert "TESTER" not in str((alarm, record))


async def test_nothing_else_shows_it(house: House) -> None:
    """The terminal gets what it would get without; log and general feed, too."""
    await ask(house)
    async with House() as plain:
        plain.pnc.always = without
        await ask(plain)
    assert house.link.sent == plain.link.sent
    assert house.journal.lines == plain.journal.lines
    mine = [each for each in house.events if not isinstance(each, AlarmChanged)]
    assert mine == plain.events


async def test_it_is_shown_only_once_it_is_durable(house: House) -> None:
    house.ledger.gate.clear()
    await ask(house)
    assert house.core.alarms.open() == ()
    house.ledger.gate.set()
    await settle(60)
    assert [alarm.rule for alarm in house.core.alarms.open()] == ["COV"]


async def test_it_outlives_a_crash(house: House) -> None:
    await ask(house)
    before = house.core.alarms.open()
    await house.restart()
    assert [each.id for each in house.core.alarms.open()] == [each.id for each in before]


async def test_it_takes_its_right_to_see_it(house: House) -> None:
    """To be a supervisor alone is not enough."""
    await ask(house)
    (alarm,) = house.core.alarms.open()
    for missing in ("covert", "supervise"):
        assert visible(Viewer("v", "v", frozenset(RIGHTS) - {missing}), alarm) is None
    assert visible(Viewer("v", "v", frozenset(RIGHTS)), alarm) == alarm
