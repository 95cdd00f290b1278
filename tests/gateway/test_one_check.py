"""The check, from question to exactly one outcome, through the real core between fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
import pytest

from gateway.errors import (
    PncDown,
    PncGarbled,
    PncInvalid,
    PncTimeout,
    PncUnauthorised,
)
from gateway.messages import (
    AckState,
    CancelRequest,
    CheckDone,
    DeliveryAck,
    Downlink,
    MalformedCheck,
    Notice,
    Noticed,
    Outcome,
    PersonKey,
    Receipt,
    Result,
    StatusReport,
)
from tests.fake_pnc import Hang, vehicle_answer
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder

COUNCIL = "5001008"

T = TypeVar("T", bound=Downlink)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def sent(house: House, kind: type[T]) -> list[T]:
    """What was sent to any terminal at all."""
    return [each.message for each in house.link.sent if isinstance(each.message, kind)]


def about_checks(house: House) -> list[str]:
    """The events on record that belong to a check, in order."""
    return [record.event for record in house.disk.records if record.check]


# --------------------------------------------------------------------------- the order of things


async def test_record_before_question_disclosure_before_answer(house: House) -> None:
    """Decision 2: no record, no query; no disclosure on record, no word on the radio."""
    await house.ask("TE99ABC")
    told = [each for line in house.story for each in line.split("+")]
    kept = [each for each in told if each not in {"started", "alteration", "settled"}]
    assert kept == [
        "opened",
        "asked",
        *sorted(["sent receipt", "question 1"], key=kept.index),
        "answered",
        "disclosed",
        "sent result",
    ]


async def test_receipt_and_acknowledgement_follow_the_commit(house: House) -> None:
    """Nothing says that we have it before we have it."""
    house.ledger.gate.clear()
    asked = await house.ask("TE99ABC")
    assert house.link.sent == []
    assert asked.settled == 0
    assert house.pnc.asked == []
    house.ledger.gate.set()
    await settle(60)
    assert asked.settled == 1
    assert [receipt.ref for receipt in sent(house, Receipt)] == ["r1"]


async def test_what_cannot_be_recorded_is_not_asked(house: House) -> None:
    """Fail closed, and the officer is told at once to use the voice channel."""
    house.ledger.down = True
    asked = await house.ask("TE99ABC")
    assert house.pnc.asked == []
    assert [receipt.accepted for receipt in sent(house, Receipt)] == [False]
    assert "USE VOICE" in sent(house, Receipt)[0].why
    assert asked.settled == 1
    house.ledger.down = False
    await house.ask("TE99ABC")
    assert len(sent(house, Result)) == 1


async def test_an_answer_that_cannot_be_recorded_is_not_given(house: House) -> None:
    """The disk fills while the PNC thinks: NO ANSWER now; on record once there is room."""
    waits = house.pnc.hang()
    await house.ask("TE99ABC")
    house.ledger.down = True
    waits.answer()
    await settle(60)
    assert sent(house, Result) == []
    assert ["NO ANSWER" in notice.text for notice in sent(house, Notice)] == [True]
    house.ledger.down = False
    await house.clock.advance(3)
    assert [result.outcome for result in sent(house, Result)] == [Outcome.FAILED]
    assert about_checks(house).count("answered") == 1


async def test_a_ledger_that_may_have_lied_ends_the_process(house: House) -> None:
    house.ledger.broken = True
    await house.ask("TE99ABC")
    assert len(house.fatal) == 1
    assert house.link.sent == []


# --------------------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("error", "outcome", "attempts"),
    [
        (PncDown("x"), Outcome.FAILED, 3),
        (PncTimeout("x"), Outcome.FAILED, 1),
        (PncGarbled("echo"), Outcome.FAILED, 1),
        (PncUnauthorised("x"), Outcome.FAILED, 1),
        (PncInvalid("x"), Outcome.REFUSED, 1),
    ],
)
async def test_each_error_has_its_outcome(
    house: House, error: Exception, outcome: Outcome, attempts: int
) -> None:
    """Retried only when the PNC was not reached, at most twice; NO ANSWER, never NO TRACE."""
    house.pnc.always = error
    await house.ask("TE99ABC")
    await house.clock.advance(8)
    assert [result.outcome for result in sent(house, Result)] == [outcome]
    assert [query.attempt for query in house.pnc.asked] == list(range(1, attempts + 1))
    assert about_checks(house).count("asked") == attempts
    page = sent(house, Result)[0].pages[0]
    assert "NO TRACE" not in page
    assert page.startswith("XXREFUSED" if outcome is Outcome.REFUSED else "??NO ANSWER")


async def test_no_reply_by_the_deadline_is_expired_and_late_it_is_told_without_content(
    house: House,
) -> None:
    """D1: the outcome stays; a notice without content to the officer, the same to the feed."""
    waits = house.pnc.hang()
    await house.ask("TE99ABC")
    await house.clock.advance(14.9)
    assert sent(house, Result) == []
    await house.clock.advance(0.2)
    assert [result.outcome for result in sent(house, Result)] == [Outcome.EXPIRED]
    await house.clock.advance(5)
    waits.answer()
    await settle(60)
    late = [notice for notice in sent(house, Notice) if notice.kind == "late"]
    assert len(late) == 1
    assert "STOLEN" not in late[0].text
    assert "TE99" not in late[0].text
    assert "late_answer" in about_checks(house)
    assert [each.kind for each in house.events if isinstance(each, Noticed)] == ["late"]
    assert about_checks(house).count("answered") == 1


async def test_wall_clock_steps_fire_no_deadline(house: House) -> None:
    """H08: deadlines are measured on the monotonic clock."""
    waits = house.pnc.hang()
    await house.ask("TE99ABC")
    house.clock.step_wall(3_600_000)
    await house.clock.advance(5)
    assert sent(house, Result) == []
    waits.answer()
    await settle(60)
    assert [result.outcome for result in sent(house, Result)] == [Outcome.ANSWERED]


async def test_an_echo_of_another_question_is_shown_to_nobody(house: House) -> None:
    house.pnc.always = lambda query: msgspec.structs.replace(
        vehicle_answer(query), key_text="VRM:TE99XXX"
    )
    await house.ask("TE99ABC")
    assert [result.outcome for result in sent(house, Result)] == [Outcome.FAILED]
    assert "security" in [line[0] for line in house.journal.lines]


async def test_too_old_on_receipt_expires_without_a_query(house: House) -> None:
    """Decision 14."""
    await house.ask("TE99ABC", sent_at_ms=house.clock.wall_ms() - 16_000)
    assert house.pnc.asked == []
    assert [result.outcome for result in sent(house, Result)] == [Outcome.EXPIRED]


async def test_a_refusal_is_recorded_and_never_asked(house: House) -> None:
    """Not on the list, not for the role, malformed: refused, on record, told what to do."""
    await house.ask("TE99ABC", reason="77")
    await house.ask(key=PersonKey(surname="TESTER", sex="M"), reason="8", issi="5001012")
    malformed = house.say(MalformedCheck(why="R? GIVE REASON", ref="x"))
    await settle(60)
    assert house.pnc.asked == []
    assert about_checks(house) == ["opened", "denied"] * 2 + ["opened", "refused"]
    assert [result.outcome for result in sent(house, Result)] == [Outcome.REFUSED] * 3
    assert malformed.settled == 1


async def test_policy_is_asked_again_before_anything_is_shown(house: House) -> None:
    """The rule is gone while the PNC thinks: refused, nothing of the answer is shown."""
    waits = house.pnc.hang()
    await house.ask("TE99ABC")
    policy = msgspec.structs.replace(house.config.policy, rules=())
    house.core.apply(msgspec.structs.replace(house.config, policy=policy))
    waits.answer()
    await settle(60)
    assert [result.outcome for result in sent(house, Result)] == [Outcome.REFUSED]
    assert "STOLEN" not in "".join(sent(house, Result)[0].pages)
    assert "disclosed" not in about_checks(house)


async def test_a_lower_level_sees_flags_alone(house: House) -> None:
    """Council, L2 for vehicles: no class; danger says POLICE words only as flags allow."""
    await house.ask("TE99ABC", issi=COUNCIL, reason="8")
    result = house.heard(Result, COUNCIL)[0]
    assert (result.level, result.result_class) == ("L2", "")
    assert "FIESTA" not in "".join(result.pages)
    told = next(r for r in house.disk.records if r.event == "disclosed")
    assert told.level == "L2"


async def test_taken_back_by_its_officer(house: House) -> None:
    """X: refused as cancelled; another terminal cannot take it back."""
    house.pnc.always = Hang()
    await house.ask("TE99ABC")
    house.say(CancelRequest(), issi=OTHER)
    await settle(60)
    assert sent(house, Result) == []
    house.say(CancelRequest())
    await settle(60)
    assert [result.why for result in sent(house, Result)] == ["CANCELLED"]
    assert "cancelled" in about_checks(house)


# --------------------------------------------------------------------------- the same question


async def test_the_same_question_gets_the_same_answer_and_no_second_query(house: House) -> None:
    """Identical to the byte (I2); its as-of time stands on it, as on every answer."""
    asked = await house.ask("TE99ABC")
    await house.clock.advance(2)
    again = house.say(asked.message)
    await settle(60)
    assert len(house.pnc.asked) == 1
    first, second = sent(house, Result)
    assert second == first
    assert "05:24" in second.pages[-1]
    assert "AS AT 05:24" in second.texts[-1]
    assert [asked.settled, again.settled] == [1, 1]


async def test_same_reference_other_content_is_a_new_check(house: House) -> None:
    """References wrap on real radios (S10)."""
    await house.ask("TE99ABC", ref="7")
    await house.ask("TE99AAB", ref="7")
    assert len({result.check for result in sent(house, Result)}) == 2
    assert len(house.pnc.asked) == 2


async def test_another_terminal_with_the_same_words_is_another_check(house: House) -> None:
    asked = await house.ask("TE99ABC")
    house.say(asked.message, issi=OTHER)
    await settle(60)
    assert len(house.pnc.asked) == 2
    assert len(house.heard(Result, ISSI)) == len(house.heard(Result, OTHER)) == 1


async def test_after_a_restart_it_is_still_the_same_question(house: House) -> None:
    """The unique constraint of the ledger knows what memory has forgotten."""
    asked = await house.ask("TE99ABC")
    first = sent(house, Result)[0]
    await house.restart()
    again = house.say(asked.message)
    await settle(80)
    assert len(house.pnc.asked) == 1
    assert {result.check for result in sent(house, Result)} == {first.check}
    assert again.settled == 1


async def test_typed_text_is_the_same_until_60_s_after_the_outcome(house: House) -> None:
    typed = {"ref": "", "sent_at_ms": None, "typed": "V TE99ABC R1"}
    await house.ask("TE99ABC", **typed)
    await house.clock.advance(59)
    await house.ask("TE99ABC", **typed)
    assert len(house.pnc.asked) == 1
    await house.clock.advance(2)
    await house.ask("TE99ABC", **typed)
    assert len(house.pnc.asked) == 2
    assert len({result.check for result in sent(house, Result)}) == 2


# --------------------------------------------------------------------------- bounds


async def test_one_more_than_fits_is_refused_aloud() -> None:
    """BUSY RETRY; those that were taken are answered."""
    async with House(config(concurrency=1, queue=2, per_terminal_open=8)) as house:
        first = house.pnc.hang()
        for _ in range(5):
            await house.ask("TE99ABC")
        busy = [result for result in sent(house, Result) if result.outcome is Outcome.REFUSED]
        assert len(busy) == 2
        assert all("BUSY RETRY" in result.why for result in busy)
        assert len(house.pnc.asked) == 1
        first.answer()
        await settle(200)
        assert len([r for r in sent(house, Result) if r.outcome is Outcome.ANSWERED]) == 3


async def test_one_terminal_cannot_take_all_places() -> None:
    async with House(config(per_terminal_open=2)) as house:
        house.pnc.always = Hang()
        for _ in range(4):
            await house.ask("TE99ABC")
        refused = [r for r in house.heard(Result, ISSI) if r.outcome is Outcome.REFUSED]
        assert len(refused) == 2
        await house.ask("TE99ABC", issi=OTHER)
        assert len(house.pnc.asked) == 3
        assert house.meter.total("queue_dropped_total", queue="check", reason="terminal_limit") == 2


async def test_the_circuit_opens_and_closes_again() -> None:
    """After so many failures nothing is asked for a while; one probe, then all is well."""
    async with House(config(retries=0, breaker_failures=3, breaker_open_s=5.0)) as house:
        house.pnc.always = PncDown("x")
        for _ in range(3):
            await house.ask("TE99ABC")
        assert len(house.pnc.asked) == 3
        await house.ask("TE99ABC")
        assert len(house.pnc.asked) == 3
        assert sent(house, Result)[-1].outcome is Outcome.FAILED
        assert "asked" not in about_checks(house)[-2:], "nothing was asked, nothing says so"
        house.pnc.always = None
        await house.clock.advance(5.1)
        await house.ask("TE99ABC")
        assert sent(house, Result)[-1].outcome is Outcome.ANSWERED


# --------------------------------------------------------------------------- delivery


async def test_sent_again_until_it_is_acknowledged(house: House) -> None:
    """No hit: one of those is said once more until it is read."""
    await house.ask("TE99AAB")
    await house.clock.advance(11)
    assert len(sent(house, Result)) == 2
    check = sent(house, Result)[0].check
    house.say(DeliveryAck(check=check, part=1, state=AckState.DELIVERED), issi=OTHER)
    await settle(60)
    assert "delivered" not in about_checks(house), "another terminal's word counts for nothing"
    ack = house.say(DeliveryAck(check=check, part=1, state=AckState.DELIVERED))
    await settle(60)
    await house.clock.advance(300)
    assert len(sent(house, Result)) == 2
    assert about_checks(house)[-1] == "delivered"
    assert house.disk.outbox == {}
    assert ack.settled == 1


async def test_status_15_reads_the_newest_answer(house: House) -> None:
    await house.ask("TE99ABC")
    read = house.say(StatusReport(code=15))
    await settle(60)
    assert about_checks(house)[-1] == "read"
    assert read.settled == 1


async def test_after_ten_minutes_it_is_stale_and_never_sent(house: House) -> None:
    """Decision 13; the record says that its officer never got it."""
    house.link.up = False
    await house.ask("TE99ABC")
    await house.clock.advance(601)
    house.link.up = True
    house.say(StatusReport(code=2))
    await house.clock.advance(30)
    assert sent(house, Result) == []
    assert about_checks(house)[-1] == "stale"


async def test_what_waits_comes_when_the_terminal_is_heard(house: House) -> None:
    house.link.up = False
    await house.ask("TE99ABC")
    await house.clock.advance(60)
    house.link.up = True
    house.say(StatusReport(code=2))
    await settle(60)
    assert len(sent(house, Result)) == 1


async def test_what_waits_belongs_to_the_officer_not_to_the_radio(house: House) -> None:
    """The terminal gets another holder: stale, undelivered, and the next officer sees nothing."""
    house.link.up = False
    await house.ask("TE99ABC")
    house.core.apply(other_holder(house.config))
    house.link.up = True
    house.say(StatusReport(code=2))
    await house.clock.advance(60)
    assert sent(house, Result) == []
    assert about_checks(house)[-1] == "stale"


async def test_a_repeat_by_another_holder_is_not_answered(house: House) -> None:
    asked = await house.ask("TE99ABC")
    house.core.apply(other_holder(house.config))
    before = len(sent(house, Result))
    again = house.say(asked.message)
    await settle(60)
    assert len(sent(house, Result)) == before
    assert again.settled == 1


# --------------------------------------------------------------------------- restarts


async def test_killed_while_asking_it_asks_again_on_record(house: House) -> None:
    """P4: attempt 2 with a record of its own, the same check id, one outcome."""
    house.pnc.always = Hang()
    await house.ask("TE99ABC")
    await house.clock.advance(3)
    house.pnc.always = None
    await house.restart()
    await settle(80)
    assert [query.attempt for query in house.pnc.asked] == [1, 2]
    assert len({query.check for query in house.pnc.asked}) == 1
    assert about_checks(house).count("asked") == 2
    assert about_checks(house).count("answered") == 1


async def test_killed_past_the_deadline_it_expires(house: House) -> None:
    """D3: a query after a restart only inside the deadline."""
    house.pnc.always = Hang()
    await house.ask("TE99ABC")
    await house.kill()
    house.clock.step_wall(20_000)
    asked = len(house.pnc.asked)
    await house.start()
    await settle(80)
    assert len(house.pnc.asked) == asked
    assert [result.outcome for result in sent(house, Result)] == [Outcome.EXPIRED]


async def test_killed_before_delivery_the_same_bytes_are_sent(house: House) -> None:
    """P6: once more, identical; nothing is asked again."""
    house.link.up = False
    await house.ask("TE99ABC")
    house.link.up = True
    stored = house.disk.outbox[next(iter(house.disk.outbox))].payload
    await house.restart()
    await settle(60)
    assert len(house.pnc.asked) == 1
    assert msgspec.json.encode(sent(house, Result)[0]) == stored


async def test_a_row_that_cannot_be_read_costs_itself(house: House) -> None:
    """H13: no crash loop on one bad record."""
    house.pnc.always = Hang()
    await house.ask("TE99ABC")
    await house.ask("TE99ABC")
    first = next(iter(house.disk.checks.values()))
    house.disk.checks[first.id] = msgspec.structs.replace(first, state=b"garbage")
    await house.restart()
    house.pnc.always = None
    await house.ask("TE99AAB")
    assert sent(house, Result)[-1].outcome is Outcome.ANSWERED
    assert "check.unreadable" in [line[0] for line in house.journal.lines]


async def test_a_restart_without_traffic_changes_nothing(house: House) -> None:
    """I19."""
    await house.ask("TE99ABC")
    house.say(DeliveryAck(check=sent(house, Result)[0].check, part=1, state=AckState.READ))
    await settle(60)
    before = (list(about_checks(house)), dict(house.disk.checks), dict(house.disk.outbox))
    await house.restart()
    await settle(60)
    assert (about_checks(house), house.disk.checks, house.disk.outbox) == before


# --------------------------------------------------------------------------- emergencies and feed


async def test_an_emergency_passes_a_stalled_ledger_and_a_full_queue(house: House) -> None:
    """Relayed first, recorded second; its acknowledgement follows the record."""
    house.ledger.gate.clear()
    for _ in range(20):
        await house.ask("TE99ABC")
    pressed = house.say(StatusReport(code=0))
    kinds = [type(each).__name__ for each in house.events]
    assert "UnitEmergency" in kinds, "on the feed before anything was awaited"
    assert pressed.settled == 0
    house.ledger.gate.set()
    await settle(200)
    assert pressed.settled == 1
    assert [record.event for record in house.disk.records].count("emergency") >= 1


async def test_the_feed_is_told_the_outcome_without_the_subject(house: House) -> None:
    await house.ask("TE99ABC")
    done = next(each for each in house.events if isinstance(each, CheckDone))
    assert (done.outcome, done.result_class) == (Outcome.ANSWERED, "HIT_STOLEN")
    assert done.overhead_s is not None
    assert b"TE99" not in msgspec.json.encode(house.events)


async def test_an_unknown_terminal_is_settled_and_counted(house: House) -> None:
    stranger = house.say(house.question(), issi="5999999")
    await settle()
    assert stranger.settled == 1
    assert house.meter.total("frames_rejected_total", reason="unknown_terminal") == 1
    assert house.disk.checks == {}
