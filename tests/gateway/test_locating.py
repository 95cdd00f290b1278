"""Asking a radio where it is: on record, then said once; or refused in words that help."""

from __future__ import annotations

import pytest

from gateway.errors import LedgerUnavailable
from gateway.locating import BURST, EVERY_S, EXPIRES_S, JUST_ASKED, NO_REACH, NO_WORD, TOO_MANY
from gateway.messages import Actor, Locate
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, unbooked

OPERATOR = Actor(id="op-1", roles=frozenset({"operator"}))


def house_with(*issis: str) -> House:
    """Whose radios can be asked."""
    house = House()
    house.link.located = {*issis}
    return house


def asked(house: House, issi: str = ISSI) -> int:
    return len(house.heard(Locate, issi))


async def test_it_is_on_record_before_it_is_said_and_says_who_asked_whom() -> None:
    async with house_with(ISSI) as house:
        terminal, t_ms = await house.core.board.locate(ISSI, OPERATOR)
        await settle()
        assert (terminal, t_ms) == (ISSI, house.clock.wall_ms())
        assert house.story[-2:] == ["locate", "sent locate"]
        (record,) = house.on_record("locate")
        assert (record.terminal, record.operator, record.operator_role) == (
            ISSI,
            "op-1",
            "operator",
        )
        assert record.officer
        assert record.recipient == house.core.roster.holder(ISSI)
        assert (record.verb, record.content) == ("collection", None)
        assert house.link.sent[-1].expires_in_s == EXPIRES_S
        await house.passes(200)
        assert asked(house) == 1, "said again"


async def test_by_call_sign_too_and_whether_or_not_somebody_holds_it() -> None:
    async with House(unbooked(config())) as house:
        house.link.located = {ISSI}
        assert (await house.core.board.locate(ISSI, OPERATOR))[0] == ISSI
        await settle()
        assert asked(house) == 1
        (record,) = house.on_record("locate")
        assert (record.officer, record.recipient) == ("", "")
    async with house_with(ISSI) as house:
        callsign = house.core.roster.callsign(ISSI)
        assert (await house.core.board.locate(callsign, OPERATOR))[0] == ISSI
        with pytest.raises(KeyError):
            await house.core.board.locate("NOBODY", OPERATOR)


async def test_a_radio_whose_link_has_no_word_for_it_is_not_asked() -> None:
    async with house_with(ISSI) as house:
        with pytest.raises(ValueError, match=NO_WORD):
            await house.core.board.locate(OTHER, OPERATOR)
        house.link.up = False
        with pytest.raises(ValueError, match=NO_REACH):
            await house.core.board.locate(ISSI, OPERATOR)
        await settle()
        assert asked(house) == asked(house, OTHER) == 0
        assert not house.on_record("locate"), "what was not asked is not said to have been"


async def test_what_cannot_be_recorded_is_not_asked() -> None:
    async with house_with(ISSI) as house:
        house.ledger.down = True
        with pytest.raises(LedgerUnavailable):
            await house.core.board.locate(ISSI, OPERATOR)
        await settle()
        assert asked(house) == 0
        house.ledger.down = False
        await house.passes(6)
        await house.core.board.locate(ISSI, OPERATOR)  # and that did not count as asked
        await settle()
        assert asked(house) == 1


async def test_one_radio_is_asked_now_and_then_and_all_of_them_so_often() -> None:
    """Its answer takes its time on the air, and the channel is the officers'."""
    async with house_with() as house:
        issis = [each.issi for each in house.core.roster.terminals()]
        house.link.located = {*issis}
        await house.core.board.locate(ISSI, OPERATOR)
        with pytest.raises(ValueError, match=JUST_ASKED):
            await house.core.board.locate(ISSI, OPERATOR)
        await house.passes(EVERY_S)
        await house.core.board.locate(ISSI, OPERATOR)
        rest = [each for each in issis if each != ISSI]
        desk = house.core.locating
        for _ in range(int(BURST) - 1):
            desk._may(rest[0])
            desk._asked.clear()
        with pytest.raises(ValueError, match=TOO_MANY):
            await house.core.board.locate(rest[0], OPERATOR)
        await house.passes(1.1)
        await house.core.board.locate(rest[0], OPERATOR)
