"""The check, from question to exactly one outcome, through the real core between fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.errors import (
    LedgerFatal,
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
    MalformedCheck,
    Noticed,
    Outcome,
    PersonKey,
    PncAnswer,
    PncQuery,
    StatusReport,
)
from tests.fakes import settle
from tests.gateway.desk import COUNCIL, ISSI, OTHER, Rig, answer


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.begin()
    yield rig
    await rig.end()


async def started(**checks: object) -> Rig:
    rig = Rig(**checks)
    await rig.begin()
    return rig


# --------------------------------------------------------------------------- the order of things


async def test_record_before_question_disclosure_before_answer(rig: Rig) -> None:
    """Decision 2: no record, no query; no disclosure on record, no word on the radio."""
    await rig.ask()
    kept = [each for each in rig.log if each != "record started"]
    assert kept == [
        "record opened",
        "record asked",
        *sorted(["sent Receipt", "asked 1"], key=kept.index),
        "record answered",
        "record disclosed",
        "sent Result",
    ]


async def test_receipt_and_acknowledgement_follow_the_commit(rig: Rig) -> None:
    """Nothing says that we have it before we have it."""
    rig.ledger.stalled.clear()
    await rig.ask()
    assert rig.link.sent == []
    assert rig.settled == []
    assert rig.pnc.asked == []
    rig.ledger.stalled.set()
    await settle(60)
    assert rig.settled == ["r1"]
    assert [receipt.ref for receipt in rig.receipts()] == ["r1"]


async def test_what_cannot_be_recorded_is_not_asked(rig: Rig) -> None:
    """Fail closed, and the officer is told at once to use the voice channel."""
    rig.ledger.broken = True
    await rig.ask()
    assert rig.pnc.asked == []
    assert [receipt.accepted for receipt in rig.receipts()] == [False]
    assert "USE VOICE" in rig.receipts()[0].why
    assert rig.settled == ["r1"]
    rig.ledger.broken = False
    await rig.ask()
    assert len(rig.results()) == 1


async def test_an_answer_that_cannot_be_recorded_is_not_given(rig: Rig) -> None:
    """The disk fills while the PNC thinks: NO ANSWER now; on record once there is room."""
    waits: asyncio.Future[PncAnswer] = asyncio.get_running_loop().create_future()
    rig.pnc.reply = lambda _query: waits
    await rig.ask()
    rig.ledger.broken = True
    waits.set_result(answer(rig.pnc.asked[0]))
    await settle(60)
    assert rig.results() == []
    assert ["NO ANSWER" in notice.text for notice in rig.notices()] == [True]
    rig.ledger.broken = False
    await rig.clock.advance(3)
    assert [result.outcome for result in rig.results()] == [Outcome.FAILED]
    assert rig.ledger.events().count("answered") == 1


async def test_a_ledger_that_may_have_lied_ends_the_process(rig: Rig) -> None:
    async def fatal(*_args: object) -> None:
        raise LedgerFatal("EIO")

    rig.ledger.commit = fatal  # type: ignore[method-assign,assignment]
    await rig.ask()
    assert len(rig.fatal) == 1
    assert rig.link.sent == []


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
    rig: Rig, error: Exception, outcome: Outcome, attempts: int
) -> None:
    """Retried only when the PNC was not reached, at most twice; NO ANSWER, never NO TRACE."""
    rig.pnc.reply = lambda _query: error
    await rig.ask()
    await rig.clock.advance(8)
    assert [result.outcome for result in rig.results()] == [outcome]
    assert [query.attempt for query in rig.pnc.asked] == list(range(1, attempts + 1))
    assert rig.ledger.events().count("asked") == attempts
    page = rig.results()[0].pages[0]
    assert "NO TRACE" not in page
    assert page.startswith("XXREFUSED" if outcome is Outcome.REFUSED else "??NO ANSWER")


async def test_no_reply_by_the_deadline_is_expired_and_late_it_is_told_without_content(
    rig: Rig,
) -> None:
    """D1: the outcome stays; a notice without content to the officer, the same to the feed."""
    waits: asyncio.Future[PncAnswer] = asyncio.get_running_loop().create_future()
    rig.pnc.reply = lambda _query: waits
    await rig.ask()
    await rig.clock.advance(14.9)
    assert rig.results() == []
    await rig.clock.advance(0.2)
    assert [result.outcome for result in rig.results()] == [Outcome.EXPIRED]
    await rig.clock.advance(5)
    waits.set_result(answer(rig.pnc.asked[0]))
    await settle(60)
    late = [notice for notice in rig.notices() if notice.kind == "late"]
    assert len(late) == 1
    assert "STOLEN" not in late[0].text
    assert "TE99" not in late[0].text
    assert "late_answer" in rig.ledger.events()
    assert [each.kind for each in rig.events if isinstance(each, Noticed)] == ["late"]
    assert rig.ledger.events().count("answered") == 1


async def test_wall_clock_steps_fire_no_deadline(rig: Rig) -> None:
    """H08: deadlines are measured on the monotonic clock."""
    waits: asyncio.Future[PncAnswer] = asyncio.get_running_loop().create_future()
    rig.pnc.reply = lambda _query: waits
    await rig.ask()
    rig.clock._wall_ms += 3_600_000
    await rig.clock.advance(5)
    assert rig.results() == []
    waits.set_result(answer(rig.pnc.asked[0]))
    await settle(60)
    assert [result.outcome for result in rig.results()] == [Outcome.ANSWERED]


async def test_an_echo_of_another_question_is_shown_to_nobody(rig: Rig) -> None:
    rig.pnc.reply = lambda query: msgspec.structs.replace(answer(query), key_text="VRM:TE99XXX")
    await rig.ask()
    assert [result.outcome for result in rig.results()] == [Outcome.FAILED]
    assert "security" in [line[0] for line in rig.journal.lines]


async def test_too_old_on_receipt_expires_without_a_query(rig: Rig) -> None:
    """Decision 14."""
    await rig.ask(sent_at_ms=rig.clock.wall_ms() - 16_000)
    assert rig.pnc.asked == []
    assert [result.outcome for result in rig.results()] == [Outcome.EXPIRED]


async def test_a_refusal_is_recorded_and_never_asked(rig: Rig) -> None:
    """Not on the list, not for the role, malformed: refused, on record, told what to do."""
    await rig.ask(reason="77")
    await rig.ask(key=PersonKey(surname="TESTER", sex="M"), reason="8", terminal="5001012")
    rig.say(MalformedCheck(why="R? GIVE REASON", ref="x"), name="m")
    await settle(60)
    assert rig.pnc.asked == []
    assert rig.ledger.events() == ["opened", "refused"] * 3
    assert [result.outcome for result in rig.results()] == [Outcome.REFUSED] * 3
    assert "m" in rig.settled


async def test_policy_is_asked_again_before_anything_is_shown(rig: Rig) -> None:
    """The rule is gone while the PNC thinks: refused, nothing of the answer is shown."""
    waits: asyncio.Future[PncAnswer] = asyncio.get_running_loop().create_future()
    rig.pnc.reply = lambda _query: waits
    await rig.ask()
    policy = msgspec.structs.replace(rig.config.policy, rules=())
    rig.core.apply(msgspec.structs.replace(rig.config, policy=policy))
    waits.set_result(answer(rig.pnc.asked[0]))
    await settle(60)
    assert [result.outcome for result in rig.results()] == [Outcome.REFUSED]
    assert "STOLEN" not in "".join(rig.results()[0].pages)
    assert "disclosed" not in rig.ledger.events()


async def test_a_lower_level_sees_flags_alone(rig: Rig) -> None:
    """Council, L2 for vehicles: no class; danger says POLICE words only as flags allow."""
    await rig.ask("TE99ABC", terminal=COUNCIL, reason="8")
    result = rig.results(COUNCIL)[0]
    assert (result.level, result.result_class) == ("L2", "")
    assert "FIESTA" not in "".join(result.pages)
    told = next(r for r in rig.ledger.records if r.event == "disclosed")
    assert told.level == "L2"


async def test_taken_back_by_its_officer(rig: Rig) -> None:
    """X: refused as cancelled; another terminal cannot take it back."""
    rig.pnc.reply = lambda _query: asyncio.get_running_loop().create_future()
    await rig.ask()
    rig.say(CancelRequest(), OTHER)
    await settle(60)
    assert rig.results() == []
    rig.say(CancelRequest())
    await settle(60)
    assert [result.why for result in rig.results()] == ["CANCELLED"]
    assert "cancelled" in rig.ledger.events()


# --------------------------------------------------------------------------- the same question


async def test_the_same_question_gets_the_same_answer_and_no_second_query(rig: Rig) -> None:
    """Identical to the byte (I2); its as-of time stands on it, as on every answer."""
    request = await rig.ask()
    await rig.clock.advance(2)
    rig.say(request, name="again")
    await settle(60)
    assert len(rig.pnc.asked) == 1
    first, second = rig.results()
    assert second == first
    assert "05:24" in second.pages[-1]
    assert "AS AT 05:24" in second.texts[-1]
    assert rig.settled == ["r1", "again"]


async def test_same_reference_other_content_is_a_new_check(rig: Rig) -> None:
    """References wrap on real radios (S10)."""
    await rig.ask("TE99ABC", ref="7")
    await rig.ask("TE99AAB", ref="7")
    assert len({result.check for result in rig.results()}) == 2
    assert len(rig.pnc.asked) == 2


async def test_another_terminal_with_the_same_words_is_another_check(rig: Rig) -> None:
    request = await rig.ask()
    rig.say(request, OTHER, name="other")
    await settle(60)
    assert len(rig.pnc.asked) == 2
    assert len(rig.results(ISSI)) == len(rig.results(OTHER)) == 1


async def test_after_a_restart_it_is_still_the_same_question(rig: Rig) -> None:
    """The unique constraint of the ledger knows what memory has forgotten."""
    request = await rig.ask()
    first = rig.results()[0]
    await rig.restart()
    rig.say(request, name="again")
    await settle(80)
    assert len(rig.pnc.asked) == 1
    assert {result.check for result in rig.results()} == {first.check}
    assert rig.settled[-1] == "again"


async def test_typed_text_is_the_same_until_60_s_after_the_outcome(rig: Rig) -> None:
    typed = {"ref": "", "sent_at_ms": None, "typed": "V TE99ABC R1"}
    await rig.ask(**typed)
    await rig.clock.advance(59)
    await rig.ask(**typed)
    assert len(rig.pnc.asked) == 1
    await rig.clock.advance(2)
    await rig.ask(**typed)
    assert len(rig.pnc.asked) == 2
    assert len({result.check for result in rig.results()}) == 2


# --------------------------------------------------------------------------- bounds


async def test_one_more_than_fits_is_refused_aloud() -> None:
    """BUSY RETRY; those that were taken are answered."""
    rig = await started(concurrency=1, queue=2, per_terminal_open=8)
    gate: asyncio.Future[PncAnswer] = asyncio.get_running_loop().create_future()

    def reply(query: PncQuery) -> object:
        return gate if query.attempt == 1 and not gate.done() else answer(query)

    rig.pnc.reply = reply
    for _ in range(5):
        await rig.ask()
    busy = [result for result in rig.results() if result.outcome is Outcome.REFUSED]
    assert len(busy) == 2
    assert all("BUSY RETRY" in result.why for result in busy)
    assert len(rig.pnc.asked) == 1
    gate.set_result(answer(rig.pnc.asked[0]))
    await settle(200)
    assert len([r for r in rig.results() if r.outcome is Outcome.ANSWERED]) == 3
    await rig.end()


async def test_one_terminal_cannot_take_all_places() -> None:
    rig = await started(per_terminal_open=2)
    rig.pnc.reply = lambda _query: asyncio.get_running_loop().create_future()
    for _ in range(4):
        await rig.ask()
    refused = [r for r in rig.results(ISSI) if r.outcome is Outcome.REFUSED]
    assert len(refused) == 2
    await rig.ask(terminal=OTHER)
    assert len(rig.pnc.asked) == 3
    assert rig.meter.total("queue_dropped_total", queue="check", reason="terminal_limit") == 2
    await rig.end()


async def test_the_circuit_opens_and_closes_again() -> None:
    """After so many failures nothing is asked for a while; one probe, then all is well."""
    rig = await started(retries=0, breaker_failures=3, breaker_open_s=5.0)
    rig.pnc.reply = lambda _query: PncDown("x")
    for _ in range(3):
        await rig.ask()
    assert len(rig.pnc.asked) == 3
    await rig.ask()
    assert len(rig.pnc.asked) == 3
    assert rig.results()[-1].outcome is Outcome.FAILED
    assert "asked" not in rig.ledger.events()[-2:], "nothing was asked, nothing says so"
    rig.pnc.reply = answer
    await rig.clock.advance(5.1)
    await rig.ask()
    assert rig.results()[-1].outcome is Outcome.ANSWERED
    await rig.end()


# --------------------------------------------------------------------------- delivery


async def test_sent_again_until_it_is_acknowledged(rig: Rig) -> None:
    await rig.ask()
    await rig.clock.advance(11)
    assert len(rig.results()) == 2
    check = rig.results()[0].check
    rig.say(DeliveryAck(check=check, part=1, state=AckState.DELIVERED), OTHER)
    await settle(60)
    assert "delivered" not in rig.ledger.events(), "another terminal's word counts for nothing"
    rig.say(DeliveryAck(check=check, part=1, state=AckState.DELIVERED), name="ack")
    await settle(60)
    await rig.clock.advance(300)
    assert len(rig.results()) == 2
    assert rig.ledger.events()[-1] == "delivered"
    assert rig.ledger.boxes == {}
    assert "ack" in rig.settled


async def test_status_15_reads_the_newest_answer(rig: Rig) -> None:
    await rig.ask()
    rig.say(StatusReport(code=15), name="15")
    await settle(60)
    assert rig.ledger.events()[-1] == "read"
    assert "15" in rig.settled


async def test_after_ten_minutes_it_is_stale_and_never_sent(rig: Rig) -> None:
    """Decision 13; the record says that its officer never got it."""
    rig.link.up = False
    await rig.ask()
    await rig.clock.advance(601)
    rig.link.up = True
    rig.say(StatusReport(code=2))
    await rig.clock.advance(30)
    assert rig.results() == []
    assert rig.ledger.events()[-1] == "stale"


async def test_what_waits_comes_when_the_terminal_is_heard(rig: Rig) -> None:
    rig.link.up = False
    await rig.ask()
    await rig.clock.advance(60)
    rig.link.up = True
    rig.say(StatusReport(code=2))
    await settle(60)
    assert len(rig.results()) == 1


async def test_what_waits_belongs_to_the_officer_not_to_the_radio(rig: Rig) -> None:
    """The terminal gets another holder: stale, undelivered, and the next officer sees nothing."""
    rig.link.up = False
    await rig.ask()
    fleet = rig.config.fleet
    terminals = tuple(
        msgspec.structs.replace(each, officer="9999") if each.issi == ISSI else each
        for each in fleet.terminals
    )
    rig.core.apply(
        msgspec.structs.replace(
            rig.config, fleet=msgspec.structs.replace(fleet, terminals=terminals)
        )
    )
    rig.link.up = True
    rig.say(StatusReport(code=2))
    await rig.clock.advance(60)
    assert rig.results() == []
    assert rig.ledger.events()[-1] == "stale"


async def test_a_repeat_by_another_holder_is_not_answered(rig: Rig) -> None:
    request = await rig.ask()
    fleet = rig.config.fleet
    terminals = tuple(
        msgspec.structs.replace(each, officer="9999") if each.issi == ISSI else each
        for each in fleet.terminals
    )
    rig.core.apply(
        msgspec.structs.replace(
            rig.config, fleet=msgspec.structs.replace(fleet, terminals=terminals)
        )
    )
    before = len(rig.results())
    rig.say(request, name="again")
    await settle(60)
    assert len(rig.results()) == before
    assert rig.settled[-1] == "again"


# --------------------------------------------------------------------------- restarts


async def test_killed_while_asking_it_asks_again_on_record(rig: Rig) -> None:
    """P4: attempt 2 with a record of its own, the same check id, one outcome."""
    rig.pnc.reply = lambda _query: asyncio.get_running_loop().create_future()
    await rig.ask()
    await rig.clock.advance(3)
    rig.pnc.reply = answer
    await rig.restart()
    await settle(80)
    assert [query.attempt for query in rig.pnc.asked] == [1, 2]
    assert len({query.check for query in rig.pnc.asked}) == 1
    assert rig.ledger.events().count("asked") == 2
    assert rig.ledger.events().count("answered") == 1


async def test_killed_past_the_deadline_it_expires(rig: Rig) -> None:
    """D3: a query after a restart only inside the deadline."""
    rig.pnc.reply = lambda _query: asyncio.get_running_loop().create_future()
    await rig.ask()
    await rig.end()
    rig.clock._wall_ms += 20_000
    asked = len(rig.pnc.asked)
    await rig.begin()
    await settle(80)
    assert len(rig.pnc.asked) == asked
    assert [result.outcome for result in rig.results()] == [Outcome.EXPIRED]


async def test_killed_before_delivery_the_same_bytes_are_sent(rig: Rig) -> None:
    """P6: once more, identical; nothing is asked again."""
    rig.link.up = False
    await rig.ask()
    rig.link.up = True
    stored = rig.ledger.boxes[next(iter(rig.ledger.boxes))].payload
    await rig.restart()
    await settle(60)
    assert len(rig.pnc.asked) == 1
    assert msgspec.json.encode(rig.results()[0]) == stored


async def test_a_row_that_cannot_be_read_costs_itself(rig: Rig) -> None:
    """H13: no crash loop on one bad record."""
    rig.pnc.reply = lambda _query: asyncio.get_running_loop().create_future()
    await rig.ask()
    await rig.ask()
    first = next(iter(rig.ledger.checks.values()))
    rig.ledger.checks[first.id] = msgspec.structs.replace(first, state=b"garbage")
    await rig.restart()
    rig.pnc.reply = answer
    await rig.ask("TE99AAB")
    assert rig.results()[-1].outcome is Outcome.ANSWERED
    assert "check.unreadable" in [line[0] for line in rig.journal.lines]


async def test_a_restart_without_traffic_changes_nothing(rig: Rig) -> None:
    """I19."""
    await rig.ask()
    rig.say(DeliveryAck(check=rig.results()[0].check, part=1, state=AckState.READ))
    await settle(60)
    before = (list(rig.ledger.events()), dict(rig.ledger.checks), dict(rig.ledger.boxes))
    await rig.restart()
    await settle(60)
    assert (rig.ledger.events(), rig.ledger.checks, rig.ledger.boxes) == before


# --------------------------------------------------------------------------- emergencies and feed


async def test_an_emergency_passes_a_stalled_ledger_and_a_full_queue(rig: Rig) -> None:
    """Relayed first, recorded second; its acknowledgement follows the record."""
    rig.ledger.stalled.clear()
    for _ in range(20):
        await rig.ask()
    rig.say(StatusReport(code=0), name="emergency")
    kinds = [type(each).__name__ for each in rig.events]
    assert "UnitEmergency" in kinds, "on the feed before anything was awaited"
    assert "emergency" not in rig.settled
    rig.ledger.stalled.set()
    await settle(200)
    assert "emergency" in rig.settled
    assert [record.event for record in rig.ledger.records].count("emergency") >= 1


async def test_the_feed_is_told_the_outcome_without_the_subject(rig: Rig) -> None:
    await rig.ask()
    done = next(each for each in rig.events if isinstance(each, CheckDone))
    assert (done.outcome, done.result_class) == (Outcome.ANSWERED, "HIT_STOLEN")
    assert done.overhead_s is not None
    assert b"TE99" not in msgspec.json.encode(rig.events)


async def test_an_unknown_terminal_is_settled_and_counted(rig: Rig) -> None:
    rig.say(rig.request(), "5999999", name="stranger")
    await settle()
    assert rig.settled == ["stranger"]
    assert rig.meter.total("frames_rejected_total", reason="unknown_terminal") == 1
    assert rig.ledger.checks == {}
