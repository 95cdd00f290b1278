"""Who takes a radio and who leaves it; nobody else is served."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.messages import (
    AlarmChanged,
    BookOff,
    BookOn,
    Notice,
    Receipt,
    Secret,
    StatusReport,
    Suspicion,
    UnitMeta,
    Uplink,
)
from gateway.roster import Booking
from gateway.settings import BookSection, Config
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, Said, config

PIN = "4711"
CONSTABLE, SERGEANT = "1001", "1002"
OFF, ON_AGAIN = 11, 17
HOURS = 0.5
"""A short shift: each second of it is simulated."""
SHIFT_S = HOURS * 3600
REFUSED = "XX NOT BOOKED. CALL CONTROL"


def pool(*, hours: float = HOURS, **changes: object) -> Config:
    """The sample fleet as a pool: nobody holds a radio, and everybody has the same PIN."""
    base = config(**changes)
    settings = msgspec.structs.replace(base.settings, book=BookSection(hours=hours))
    base = msgspec.structs.replace(base, settings=settings)
    officers = tuple(
        msgspec.structs.replace(each, factor=f"plain:{PIN}") for each in base.people.officers
    )
    people = msgspec.structs.replace(base.people, officers=officers, standing=())
    return msgspec.structs.replace(base, people=people)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House(pool()) as made:
        yield made


def on(officer: str = CONSTABLE, pin: str = PIN, **more: object) -> BookOn:
    return msgspec.structs.replace(BookOn(officer=officer, factor=Secret(pin)), **more)


async def says(house: House, message: Uplink, *, issi: str = ISSI, again: bool = False) -> Said:
    said = house.say(message, issi=issi, redelivered=again)
    await settle()
    return said


def told(house: House, issi: str = ISSI) -> list[str]:
    """What of bookings was said to this radio."""
    return [each.text for each in house.heard(Notice, issi) if each.kind == "booking"]


def holder(house: House, issi: str = ISSI) -> str:
    return house.core.roster.holder(issi)


# --------------------------------------------------------------------------- on


async def test_an_officer_with_the_factor_takes_the_radio(house: House) -> None:
    """On record first, then served; told until when, by the clock of the place."""
    house.story.clear()
    said = await says(house, on(callsign="E-77"))
    assert house.story == ["booked", "sent notice", "settled"] or house.story == [
        "booked",
        "settled",
        "sent notice",
    ]
    assert said.settled == 1
    assert holder(house) == "police:1001@5001001"
    assert told(house) == ["BOOKED E-77 UNTIL 05:54"]
    (record,) = house.on_record("booked")
    assert (record.terminal, record.officer, record.agency, record.role, record.verb) == (
        ISSI,
        CONSTABLE,
        "police",
        "constable",
        "collection",
    )
    asker = house.core.roster.asker(ISSI)
    assert asker is not None
    assert (asker.booking, asker.callsign) == (record.booking, "E-77")
    meta = [each for each in house.events if isinstance(each, UnitMeta) and each.terminal == ISSI]
    assert (meta[-1].booked, meta[-1].callsign, meta[-1].status) == (True, "E-77", "AVL")
    await house.ask()
    assert [each.outcome for each in house.results] == ["answered"]
    assert house.on_record("opened")[-1].booking == record.booking


async def test_nobody_is_served_before_their_booking_is_on_record(house: House) -> None:
    house.ledger.gate.clear()
    said = await says(house, on())
    assert holder(house) == ""
    assert told(house) == []
    await house.passes(2.0)
    assert said.settled == 1, "an emergency must not stand behind it"
    house.ledger.gate.set()
    await settle()
    assert holder(house) == "police:1001@5001001"


async def test_without_a_ledger_nobody_is_booked(house: House) -> None:
    house.ledger.down = True
    await says(house, on())
    assert told(house) == ["XX NOT BOOKED. NO RECORD. USE VOICE"]
    house.ledger.down = False
    assert holder(house) == ""
    assert house.all_settled()


@pytest.mark.parametrize(
    "message",
    [
        on(pin="0000"),
        on(officer="7777"),
        on(officer=""),
        on(second=True),
        on(callsign="NOT A CALLSIGN"),
    ],
    ids=["wrong factor", "unknown", "no window", "nobody to be second to", "bad call-sign"],
)
async def test_whatever_was_wrong_the_same_is_said_after_the_same_work(
    house: House, message: BookOn
) -> None:
    await says(house, message)
    assert told(house) == [REFUSED]
    assert house.factors.tried == 1
    assert holder(house) == ""
    assert not house.on_record("booked")
    assert house.all_settled()


@pytest.mark.parametrize("change", [{"factor": ""}, {"revoked": True}])
async def test_who_has_no_factor_or_is_revoked_books_nothing(change: dict[str, object]) -> None:
    base = pool()
    officers = tuple(msgspec.structs.replace(each, **change) for each in base.people.officers)
    people = msgspec.structs.replace(base.people, officers=officers)
    async with House(msgspec.structs.replace(base, people=people)) as house:
        await says(house, on())
        await says(house, on(pin=""))
        assert told(house) == [REFUSED] * 2
        assert holder(house) == ""


async def test_the_factor_stands_nowhere(house: House) -> None:
    """Neither where it was right nor where it was wrong."""
    await says(house, on(pin="WRONG-FACTOR"))
    await says(house, on())
    await says(house, on(SERGEANT, second=True))
    kept = b"".join(each.body for each in house.disk.kept.values())
    everything = repr(
        (house.disk.records, house.journal.lines, house.events, house.link.sent, house.story)
    )
    for secret in (PIN, "WRONG-FACTOR"):
        assert secret not in everything
        assert secret.encode() not in kept


async def test_five_wrong_ones_and_the_right_one_waits_a_quarter_of_an_hour(house: House) -> None:
    """At that radio for everybody, and for that officer at every radio; control is told once."""
    for _ in range(5):
        await says(house, on(pin="0000"))
    await says(house, on())
    await says(house, on(SERGEANT))
    await says(house, on(), issi=OTHER)
    assert told(house) == [REFUSED] * 7
    assert told(house, OTHER) == [REFUSED]
    assert house.factors.tried == 8, "the same work, locked or not"
    await says(house, on(SERGEANT), issi=OTHER)
    assert holder(house, OTHER) == "police:1002@5001002"
    assert house.meter.total("security_events_total", reason=Suspicion.BOOKING.value) >= 1
    await house.passes(901.0)
    assert [each.detail for each in house.on_record("security")] == [
        f"booking on {house.link.name}",
        f"booking on {house.link.name}",
    ]
    await says(house, on())
    assert holder(house) == "police:1001@5001001"


async def test_guesses_at_once_are_no_more_than_guesses_in_a_row(house: House) -> None:
    for issi in (ISSI, OTHER, "5001003", "5001004"):
        for pin in ("0001", "0002"):
            house.say(on(pin=pin), issi=issi)
    await settle(60)
    house.say(on(), issi="5001005")
    await settle(60)
    assert holder(house, "5001005") == ""


async def test_what_the_former_officer_sent_is_not_asked_in_the_next_ones_name(
    house: House,
) -> None:
    """A question that a broker held up, behind the booking that it was sent before: refused, and
    soon forgiven, for a radio's clock may be set back."""
    await says(house, on())
    late = house.question("TE99STV")
    await house.passes(2)
    await says(house, on(SERGEANT, sent_at_ms=house.clock.wall_ms()))
    await says(house, late)
    assert house.receipts[-1].why == "ASKED BEFORE BOOKING"
    assert house.pnc.asked == []
    await house.ask()
    assert len(house.pnc.asked) == 1
    await house.passes(61)
    set_back = house.question("TE99STV", sent_at_ms=late.sent_at_ms)
    await says(house, set_back)
    assert house.receipts[-1].why != "ASKED BEFORE BOOKING"


# --------------------------------------------------------------------------- off


@pytest.mark.parametrize("word", [BookOff(), BookOff(officer=CONSTABLE), StatusReport(code=OFF)])
async def test_who_leaves_is_gone_at_once_and_told_when_it_is_on_record(
    house: House, word: Uplink
) -> None:
    await says(house, on())
    house.ledger.down = True
    said = await says(house, word)
    assert holder(house) == ""
    assert told(house)[1:] == []
    assert house.core.bookings.unrecorded == 1
    house.ledger.down = False
    await house.passes(2.0)
    assert said.settled == 1
    assert told(house)[1:] == ["BOOKED OFF"]
    (record,) = house.on_record("booked_off")
    (booked,) = house.on_record("booked")
    assert (record.officer, record.booking, record.verb) == (
        CONSTABLE,
        booked.booking,
        "alteration",
    )
    meta = [each for each in house.events if isinstance(each, UnitMeta) and each.terminal == ISSI]
    assert (meta[-1].booked, meta[-1].status, meta[-1].callsign) == (False, "OFF", "E-101")


async def test_what_waited_for_who_left_is_never_sent(house: House) -> None:
    """Nor to the next officer, nor to the same one when they come again."""
    await says(house, on())
    house.link.failing = True
    await house.ask()
    assert house.on_record("disclosed")
    await says(house, BookOff())
    house.link.failing = False
    await says(house, on(SERGEANT))
    await says(house, on())
    await house.passes(700.0)
    assert house.results == []
    assert len(house.on_record("stale")) == 1


async def test_an_answer_that_comes_after_its_officer_left_is_not_sent(house: House) -> None:
    await says(house, on())
    hang = house.pnc.hang()
    await house.ask()
    await says(house, BookOff())
    hang.answer()
    await house.passes(30.0)
    await says(house, on(SERGEANT))
    await house.passes(30.0)
    assert all(not each.fields for each in house.results)
    assert not house.on_record("disclosed")


async def test_a_radio_that_nobody_holds_asks_nothing_and_still_calls_for_help(
    house: House,
) -> None:
    await house.ask()
    assert [each.why for each in house.heard(Receipt)] == ["NOT BOOKED"]
    assert house.pnc.asked == []
    await house.status(0)
    assert house.on_record("emergency")


async def test_typed_again_after_booking_it_is_a_question(house: House) -> None:
    """Within a minute of the refusal, and over a restart. A copy that the bearer hands over again
    is not: it was typed when nobody held the radio."""
    await says(house, house.typed())
    await says(house, on())
    await house.passes(1)
    await says(house, house.typed(), again=True)
    await says(house, house.typed())
    assert [each.why for each in house.receipts] == ["NOT BOOKED", "NOT BOOKED", ""]
    assert len(house.pnc.asked) == 1
    await says(house, house.typed("TE99STV"), issi=OTHER)
    await house.restart()
    await says(house, on(SERGEANT), issi=OTHER)
    await house.passes(1)
    await says(house, house.typed("TE99STV"), issi=OTHER)
    assert [each.why for each in house.heard(Receipt, OTHER)] == ["NOT BOOKED", ""]
    assert len(house.pnc.asked) == 2


async def test_a_check_that_was_refused_not_booked_stays_refused(house: House) -> None:
    """The same reference and time are the same check; what is said of it is why, not by whom."""
    question = house.question()
    await says(house, question)
    await says(house, on())
    await says(house, question)
    assert [each.why for each in house.receipts] == ["NOT BOOKED", "NOT BOOKED"]
    assert house.pnc.asked == []


async def test_to_leave_what_nobody_holds_is_said_so(house: House) -> None:
    await says(house, BookOff())
    assert told(house) == ["NOBODY BOOKED"]
    await says(house, StatusReport(code=OFF))
    assert told(house) == ["NOBODY BOOKED"], "a status is no wish to hear of it"
    await says(house, on())
    await says(house, BookOff(officer=SERGEANT))
    assert told(house)[-1] == "XX NOT ABOARD"
    assert holder(house) == "police:1001@5001001"
    assert house.all_settled()


async def test_another_officer_ends_the_booking_in_the_same_commit(house: House) -> None:
    await says(house, on())
    house.story.clear()
    await says(house, on(SERGEANT))
    assert house.story[0] == "booked_off+booked"
    assert [each.officer for each in house.on_record("booked_off")] == [CONSTABLE]
    assert holder(house) == "police:1002@5001001"


async def test_an_officer_holds_one_radio_of_a_kind(house: House) -> None:
    """Whoever finds the one that they forgot to leave gets nothing of theirs; a radio of another
    kind (in the car) goes on."""
    car = next(
        each.issi for each in house.config.fleet.terminals if each.device_class != "handheld"
    )
    await says(house, on())
    await says(house, on(), issi=car)
    assert holder(house) == "police:1001@5001001"
    await says(house, on(), issi=OTHER)
    assert holder(house) == ""
    assert holder(house, OTHER) == "police:1001@5001002"
    assert holder(house, car) == f"police:1001@{car}"
    assert told(house)[-1] == "BOOKED OFF"
    assert [each.detail for each in house.on_record("booked_off")] == ["moved"]


# --------------------------------------------------------------------------- by time


async def test_a_booking_ends_by_itself_and_is_announced(house: House) -> None:
    await says(house, on())
    await house.passes(SHIFT_S - 901)
    assert len(told(house)) == 1
    await house.passes(10)
    assert told(house)[1:] == ["BOOKING ENDS 05:54. BOOK AGAIN"]
    await house.passes(880)
    assert holder(house) == "police:1001@5001001"
    await house.passes(20)
    assert holder(house) == ""
    assert told(house)[2:] == ["BOOKED OFF. TIME OVER. BOOK AGAIN"]
    assert [each.detail for each in house.on_record("booked_off")] == ["expired"]


async def test_twelve_hours_unless_the_file_says_otherwise() -> None:
    base = pool()
    settings = msgspec.structs.replace(base.settings, book=config().settings.book)
    async with House(msgspec.structs.replace(base, settings=settings)) as house:
        await says(house, on())
        assert told(house) == ["BOOKED E-101 UNTIL 17:24"]
        house.clock.step_wall(12 * 3_600_000 - 5000)
        await house.passes(2)
        assert holder(house) == "police:1001@5001001"
        await house.passes(4)
        assert holder(house) == ""


async def test_who_books_again_in_time_goes_on_and_loses_no_answer(house: House) -> None:
    await says(house, on())
    await house.passes(SHIFT_S - 60)
    house.link.failing = True
    await house.ask()
    house.link.failing = False
    await says(house, on())
    await house.passes(120)
    assert holder(house) == "police:1001@5001001"
    assert len(house.results) >= 1


async def test_a_clock_that_is_set_back_prolongs_nothing(house: House) -> None:
    await says(house, on())
    house.clock.step_wall(-3_600_000)
    await house.passes(SHIFT_S + 1)
    assert holder(house) == ""


async def test_a_clock_that_is_set_back_prolongs_nothing_over_a_restart(house: House) -> None:
    await says(house, on())
    await house.passes(SHIFT_S / 2)
    house.clock.step_wall(-3_600_000)
    await house.restart()
    assert holder(house) == "police:1001@5001001"
    await house.passes(SHIFT_S / 2 + 1)
    assert holder(house) == ""


# --------------------------------------------------------------------------- over a restart


async def test_who_held_it_before_the_restart_holds_it_after(house: House) -> None:
    await says(house, on(callsign="E-77"))
    await says(house, on(SERGEANT, second=True))
    before = house.core.roster.asker(ISSI)
    house.link.failing = True
    await house.ask()
    house.link.failing = False
    await house.restart()
    assert house.core.roster.asker(ISSI) == before
    await house.passes(130)
    assert len(house.results) >= 1


async def test_who_left_before_the_restart_stays_gone(house: House) -> None:
    await says(house, on())
    await says(house, BookOff())
    await house.restart()
    assert holder(house) == ""


async def test_what_was_over_meanwhile_is_over(house: House) -> None:
    await says(house, on())
    house.clock.step_wall(3_600_000)
    await house.restart()
    assert holder(house) == ""
    assert [each.detail for each in house.on_record("booked_off")] == ["expired"]


async def test_who_was_revoked_meanwhile_holds_nothing(house: House) -> None:
    await says(house, on())
    await says(house, on(SERGEANT), issi=OTHER)
    officers = tuple(each for each in house.config.people.officers if each.collar != CONSTABLE)
    people = msgspec.structs.replace(house.config.people, officers=officers)
    terminals = tuple(each for each in house.config.fleet.terminals if each.issi != OTHER)
    fleet = msgspec.structs.replace(house.config.fleet, terminals=terminals)
    await house.restart(msgspec.structs.replace(house.config, people=people, fleet=fleet))
    assert holder(house) == holder(house, OTHER) == ""
    assert sorted(each.officer for each in house.on_record("booked_off")) == [CONSTABLE, SERGEANT]
    await house.restart(pool())
    assert holder(house) == holder(house, OTHER) == "", "nor does an older file bring them back"


async def test_a_row_that_cannot_be_read_books_nobody(house: House) -> None:
    await says(house, on())
    row = house.disk.kept["booking", ISSI]
    house.disk.kept["booking", ISSI] = msgspec.structs.replace(row, body=b"{")
    await house.restart()
    assert holder(house) == ""
    assert ("booking", ISSI) not in house.disk.kept


# --------------------------------------------------------------------------- another file


def without(config_: Config, *, officer: str = "", terminal: str = "") -> Config:
    """The same, with this officer or this radio revoked."""
    officers = tuple(
        msgspec.structs.replace(each, revoked=each.revoked or each.collar == officer)
        for each in config_.people.officers
    )
    terminals = tuple(
        msgspec.structs.replace(each, revoked=each.revoked or each.issi == terminal)
        for each in config_.fleet.terminals
    )
    return msgspec.structs.replace(
        config_,
        people=msgspec.structs.replace(config_.people, officers=officers),
        fleet=msgspec.structs.replace(config_.fleet, terminals=terminals),
    )


@pytest.mark.parametrize("revoked", [{"officer": CONSTABLE}, {"terminal": ISSI}])
async def test_whoever_is_revoked_is_served_no_more_from_that_turn_on(
    house: House, revoked: dict[str, str]
) -> None:
    """What waits is stale before the loop has its next turn, and no later file brings it back."""
    await says(house, on())
    house.link.failing = True
    await house.ask()
    waits = house.newest()
    house.link.failing = False
    house.core.apply(without(house.config, **revoked))
    assert holder(house) == ""
    assert not house.core.courier.waiting(waits)
    await settle(60)
    assert house.disk.of(waits)[-1] == "stale"
    assert [each.detail for each in house.on_record("booked_off")] == ["revoked"]
    house.core.apply(house.config)
    await house.passes(130)
    assert holder(house) == ""
    assert house.results == []
    await house.restart()
    assert holder(house) == ""


async def test_a_crew_of_which_one_is_revoked_books_anew(house: House) -> None:
    """They share the screen: it goes on for none of them."""
    await says(house, on())
    await says(house, on(SERGEANT, second=True))
    house.core.apply(without(house.config, officer=SERGEANT))
    await settle()
    assert holder(house) == ""
    assert len(house.on_record("booked_off")) == 2


async def test_a_lost_radio_is_heard_when_it_calls_for_help_and_never_else(house: House) -> None:
    """Relayed as any other, with its area; it is told nothing, not even that."""
    await says(house, on())
    house.core.apply(without(house.config, terminal=ISSI))
    before = len(house.link.sent)
    for message in (on(), BookOff(), StatusReport(code=6), house.question()):
        await says(house, message)
    assert house.pnc.asked == []
    assert house.meter.total("security_events_total", reason="unknown_terminal") == 4
    alarms = [each for each in house.events if isinstance(each, AlarmChanged)]
    assert not [each for each in alarms if each.rule == "EMG"]
    said = await house.status(0)
    (alarm,) = [
        each
        for each in house.events
        if isinstance(each, AlarmChanged) and each.rule == "EMG" and each.state == "unack-active"
    ]
    assert (alarm.terminal, said.settled) == (ISSI, 1)
    assert house.on_record("emergency")
    await house.passes(5)
    assert len(house.link.sent) == before
    assert house.all_settled()


# --------------------------------------------------------------------------- copies


async def test_a_copy_of_the_word_that_booked_it_brings_nobody_back(house: House) -> None:
    """A bearer hands it over again after a book-off, before or after a restart."""
    word = on(sent_at_ms=house.clock.wall_ms())
    await says(house, word)
    await says(house, word)
    assert told(house) == ["BOOKED E-101 UNTIL 05:54"] * 2
    assert len(house.on_record("booked")) == 1
    await says(house, BookOff())
    await says(house, word)
    await says(house, word, again=True)
    assert holder(house) == ""
    await house.restart()
    await says(house, word, again=True)
    assert holder(house) == ""
    assert told(house)[-1] == "XX NOT BOOKED. TRY AGAIN"
    await says(house, on(sent_at_ms=house.clock.wall_ms() + 1))
    assert holder(house) == "police:1001@5001001"


async def test_typed_text_that_comes_a_second_time_books_nobody(house: House) -> None:
    await says(house, on(), again=True)
    assert told(house) == ["XX NOT BOOKED. TRY AGAIN"]
    assert holder(house) == ""


# --------------------------------------------------------------------------- by status


async def test_on_again_by_status_and_the_factor(house: House) -> None:
    """Whoever held it last, within a minute, with their own factor."""
    await says(house, on())
    await says(house, StatusReport(code=OFF))
    await says(house, on(officer=""))
    assert holder(house) == "", "without the status nobody is meant"
    await says(house, StatusReport(code=ON_AGAIN))
    assert told(house)[-1] == "NOW PIN AND YOUR NUMBER"
    await says(house, on(officer="", pin="0000"))
    assert holder(house) == ""
    await says(house, on(officer=""))
    assert holder(house) == "police:1001@5001001"
    await says(house, BookOff())
    await says(house, StatusReport(code=ON_AGAIN))
    await house.passes(61)
    await says(house, on(officer=""))
    assert holder(house) == ""


# --------------------------------------------------------------------------- two aboard


async def test_a_second_aboard_is_on_record_and_leaves_alone(house: House) -> None:
    await says(house, on())
    await says(house, on(SERGEANT, second=True))
    assert told(house)[-1] == "BOOKED E-101 +1 UNTIL 05:54"
    asker = house.core.roster.asker(ISSI)
    assert asker is not None
    assert (asker.officer, asker.crew) == (CONSTABLE, (SERGEANT,))
    await says(house, on(SERGEANT, second=True))
    assert told(house)[-1] == REFUSED, "aboard already"
    await says(house, BookOff(officer=SERGEANT))
    assert told(house)[-1] == "BOOKED E-101 UNTIL 05:54"
    assert holder(house) == "police:1001@5001001"


async def test_when_the_lead_leaves_the_second_holds_it(house: House) -> None:
    """And what waited for the lead is nobody's."""
    await says(house, on())
    await says(house, on(SERGEANT, second=True))
    house.link.failing = True
    await house.ask()
    await says(house, BookOff(officer=CONSTABLE))
    house.link.failing = False
    assert holder(house) == "police:1002@5001001"
    assert house.core.roster.booking(ISSI) != house.on_record("booked")[0].booking
    await house.passes(130)
    assert house.results == []


async def test_whoever_comes_aboard_sees_no_more_than_they_may(house: House) -> None:
    """An answer that waits for the constable alone goes stale when a council officer comes aboard;
    what is asked from then on is for both."""
    council = next(each for each in house.config.people.officers if each.agency == "council")
    await says(house, on())
    house.link.failing = True
    await house.ask("TE99STV")
    await says(house, on(council.collar, second=True))
    house.link.failing = False
    await house.passes(130)
    assert all(each.level < "L3" for each in house.results)
    assert len(house.on_record("stale")) == 1
    await house.ask("TE99STV")
    await house.passes(20)
    assert all(each.level < "L3" for each in house.results)
    await says(house, BookOff(officer=council.collar))
    await house.ask("TE99STV")
    await house.passes(20)
    assert [each.level for each in house.results][-1:] == ["L4"]


async def test_no_more_than_four_aboard(house: House) -> None:
    collars = [each.collar for each in house.config.people.officers if each.agency == "police"]
    await says(house, on(collars[0]))
    for collar in collars[1:5]:
        await says(house, on(collar, second=True))
    assert len(house.core.roster.aboard(ISSI)) == 4
    assert told(house)[-1] == REFUSED


# --------------------------------------------------------------------------- at the same time


async def test_who_leaves_while_a_factor_is_checked_is_not_booked(house: House) -> None:
    house.say(on())
    house.say(BookOff())
    await settle()
    assert holder(house) == ""


async def test_who_leaves_while_the_booking_is_written_is_not_booked(house: House) -> None:
    """In memory and, after a restart, on disk."""
    house.ledger.gate.clear()
    await says(house, on())
    await says(house, BookOff())
    house.ledger.gate.set()
    await settle(60)
    assert holder(house) == ""
    assert [each.event for each in house.disk.records if "booked" in each.event] == [
        "booked",
        "booked_off",
    ]
    await house.restart()
    assert holder(house) == ""


async def test_who_is_revoked_while_the_booking_is_written_is_not_booked(house: House) -> None:
    house.ledger.gate.clear()
    await says(house, on())
    officers = tuple(
        msgspec.structs.replace(each, revoked=each.collar == CONSTABLE)
        for each in house.config.people.officers
    )
    people = msgspec.structs.replace(house.config.people, officers=officers)
    house.core.apply(msgspec.structs.replace(house.config, people=people))
    house.ledger.gate.set()
    await settle(60)
    assert holder(house) == ""
    await house.restart(pool())
    assert holder(house) == "", "nor when they are no longer revoked"


async def test_words_of_one_radio_are_taken_in_turn(house: House) -> None:
    house.say(on())
    house.say(on(SERGEANT))
    await settle(60)
    assert holder(house) == "police:1002@5001001"
    assert [each.officer for each in house.on_record("booked")] == [CONSTABLE, SERGEANT]


async def test_too_many_words_of_one_radio_are_told_to_come_again(house: House) -> None:
    for _ in range(4):
        house.say(on())
    await settle(60)
    assert told(house).count("XX NOT BOOKED. TRY AGAIN") == 2
    assert house.factors.tried == 2
    assert house.all_settled()


# --------------------------------------------------------------------------- personal issue


@pytest.fixture
async def issued() -> AsyncIterator[House]:
    """The sample as it is: radios of personal issue, whose officers have a factor."""
    base = pool()
    people = msgspec.structs.replace(base.people, standing=config().people.standing)
    async with House(msgspec.structs.replace(base, people=people)) as made:
        yield made


async def test_a_radio_of_personal_issue_that_was_left_is_nobodys(issued: House) -> None:
    """Over a restart and a reload, until its next shift or until somebody books it."""
    assert holder(issued) == "police:1001@5001001"
    await says(issued, StatusReport(code=OFF))
    assert holder(issued) == ""
    issued.core.apply(issued.config)
    assert holder(issued) == ""
    await issued.restart()
    assert holder(issued) == ""
    await says(issued, on(SERGEANT))
    assert holder(issued) == "police:1002@5001001"
    await says(issued, BookOff())
    await issued.passes(SHIFT_S - 5)
    assert holder(issued) == ""
    await issued.passes(10)
    assert holder(issued) == "police:1001@5001001"
    assert ("booking", ISSI) not in issued.disk.kept


async def test_a_second_aboard_of_a_radio_of_personal_issue(issued: House) -> None:
    await says(issued, on("1003", second=True))
    assert issued.core.roster.aboard(ISSI) == (CONSTABLE, "1003")


# --------------------------------------------------------------------------- what is stored


def test_yesterdays_row_can_still_be_read() -> None:
    """The bytes of a row as this version writes them; later ones only add members."""
    stored = (
        b'{"id":"A0001","terminal":"5001001","officers":["1001","1002"],"since_ms":1,"until_ms":2,'
        b'"until_s":3.0,"counter":"m","callsign":"E-1","sent_at_ms":null,"last":"1001"}'
    )
    booking = msgspec.json.decode(stored, type=Booking)
    assert (booking.lead, booking.officers, booking.until_s) == ("1001", ("1001", "1002"), 3.0)
