"""The desk: order of record, question, answer; one outcome whatever fails; nobody left in silence.

Through the real switchboard, desk, Courier and policy, with everything around them fake
(house.py). How questions repeat: test_check_repeats.py; restarts: test_check_restarts.py.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway import check_views
from gateway.check_rows import Check
from gateway.check_states import CheckState, Stage
from gateway.errors import PncDown, PncGarbled, PncInvalid, PncTimeout, PncUnauthorised
from gateway.messages import (
    CancelRequest,
    CheckDone,
    CheckStaged,
    LinkChanged,
    LinkState,
    LocationFix,
    MalformedCheck,
    Notice,
    Noticed,
    Outcome,
    PersonKey,
    Privacy,
    Result,
)
from gateway.settings import Config
from tests.fake_pnc import vehicle_answer
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder
from tests.gateway.strategies import asker, held_by


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def with_policy(base: Config, **changes: object) -> Config:
    return msgspec.structs.replace(base, policy=msgspec.structs.replace(base.policy, **changes))


def with_rule(base: Config, **changes: object) -> Config:
    """The same policy, with every rule changed like this."""
    rules = tuple(msgspec.structs.replace(rule, **changes) for rule in base.policy.rules)
    return with_policy(base, rules=rules, version="next")


# --------------------------------------------------------------------------- order


async def test_the_order_of_a_check(house: House) -> None:
    """Question on record, then receipt and question; outcome and disclosure on record, then the
    first send (decision 2, I5, I6); the bearer is told last that it need not send again (P2)."""
    await house.ask("TE99ABC")
    story = [step for step in house.story if step != "alteration"]  # the policy, at a first start
    assert story[:2] == ["started", "opened+asked"]
    assert set(story[2:5]) == {"settled", "sent receipt", "question 1"}
    assert story[5] == "answered+disclosed"
    assert story.index("sent result") == 6


async def test_nothing_is_said_before_the_commit(house: House) -> None:
    """While the ledger stalls: no receipt, no acknowledgement to the bearer, no question."""
    house.ledger.gate.clear()
    said = await house.ask()
    assert (house.link.sent, said.settled, house.pnc.asked) == ([], 0, [])
    house.ledger.gate.set()
    await settle()
    assert said.settled == 1
    assert [receipt.accepted for receipt in house.receipts] == [True]
    assert len(house.results) == 1


async def test_the_disclosure_says_who_sees_what(house: House) -> None:
    """Recipient, level, field groups and the policy's version; its content is what was sent."""
    await house.ask("TE99STV")
    told = house.on_record("disclosed")[0]
    assert told.recipient == f"police:1001@{ISSI}"
    assert told.level == house.results[0].level == "L4"
    assert {"vehicle", "stolen", "warnings"} & set(told.fields)
    assert told.policy == house.config.policy.version
    assert told.content == msgspec.json.encode(house.results[0])
    answered = house.on_record("answered")[0]
    assert (answered.outcome, answered.receipt) == ("answered", told.receipt)


async def test_no_record_no_question(house: House) -> None:
    """Fail closed (I16): nothing is asked, and the officer is told to use voice, at once."""
    house.ledger.down = True
    said = await house.ask()
    assert house.pnc.asked == []
    assert [(r.accepted, r.why) for r in house.receipts] == [(False, "CANNOT RECORD. USE VOICE")]
    assert said.settled == 1
    house.ledger.down = False
    await house.ask()
    assert len(house.results) == 1
    assert house.all_settled()


async def test_no_record_of_a_retry_no_retry(house: House) -> None:
    """The disk fills between two attempts: the second is not made."""
    house.pnc.script.append(PncDown("x"))
    await house.ask()
    house.ledger.down = True
    await house.passes(1.0)
    assert len(house.pnc.asked) == 1
    assert "CANNOT RECORD" in house.notices[0].text
    house.ledger.down = False
    await house.passes(2.0)
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.FAILED, "CANNOT RECORD")]


async def test_an_answer_that_cannot_be_recorded_is_not_shown(house: House) -> None:
    """It becomes a failure; the officer hears so now, and gets it as outcome once there is room."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    house.ledger.down = True
    hang.answer()
    await settle()
    assert house.results == []
    assert ["NO ANSWER" in notice.text for notice in house.notices] == [True]
    await house.passes(20.0)
    assert len(house.notices) == 1, "said once"
    house.ledger.down = False
    await house.passes(2.0)
    assert [r.outcome for r in house.results] == [Outcome.FAILED]
    assert "STOLEN" not in str(house.results[0])
    assert len(house.on_record("answered")) == 1
    assert house.on_record("disclosed") == []


async def test_a_ledger_that_may_have_lied_stops_the_process(house: House) -> None:
    """EIO: nothing is acknowledged, nothing said; whoever owns the process is told."""
    house.ledger.broken = True
    said = await house.ask()
    assert len(house.fatal) == 1
    assert (said.settled, house.link.sent) == (0, [])


# --------------------------------------------------------------------------- policy


async def test_what_the_policy_forbids_is_refused_on_record_and_never_asked(house: House) -> None:
    """I8: zero questions; refusals are records too, with outcome and reason."""
    await house.ask(reason="77")
    await house.ask(issi="5001012", key=PersonKey(surname="TESTER", sex="M"), reason="8")
    house.say(MalformedCheck(why="R? GIVE REASON", ref="x"))
    await settle()
    assert house.pnc.asked == []
    denied, refused = house.on_record("denied"), house.on_record("refused")
    assert [record.outcome for record in denied + refused] == ["refused"] * 3
    assert [r.detail for r in denied] == ["REASON NOT ON LIST", "NOT YOUR ROLE"]
    assert len(house.on_record("opened")) == 3
    assert [receipt.accepted for receipt in house.receipts] == [False, False]
    assert [result.outcome for result in house.results] == [Outcome.REFUSED] * 2
    assert house.results[1].why == "R? GIVE REASON"
    assert house.all_settled()


async def test_policy_is_asked_again_before_anything_is_shown(house: House) -> None:
    """It was changed while the PNC thought: refused with the reason of now; nothing disclosed."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    house.core.apply(with_policy(house.config, rules=()))
    hang.answer()
    await settle()
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.REFUSED, "NOT YOUR ROLE")]
    assert house.on_record("disclosed") == []
    assert "STOLEN" not in str(house.results)


async def test_a_hold_that_the_policy_asks_for_meanwhile_is_kept(house: House) -> None:
    """The rule of now says `hold`: on record as answered, shown to nobody until it is released."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    house.core.apply(with_rule(house.config, hold=True))
    hang.answer()
    await settle()
    assert house.results == []
    assert house.on_record("disclosed") == []
    house.rules_on(house.newest())
    await settle()
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    assert house.story[-2:] == ["released+disclosed", "sent result"]


async def test_below_l3_no_class_even_of_no_answer(house: House) -> None:
    """interfaces.md: `class` is absent below L3, also where there is no answer."""
    house.pnc.always = house.register.down = PncGarbled("malformed")
    await house.ask(issi="5001008", reason="8")
    (result,) = house.heard(Result, "5001008")
    assert result.outcome is Outcome.FAILED
    assert result.result_class == ""
    await house.ask()
    assert house.results[0].result_class == "HOST_ERROR"


# --------------------------------------------------------------------------- hold and prompt


async def test_a_held_answer_goes_stale_after_ten_minutes() -> None:
    """Nobody released it: it ends on record, undisclosed, and its place is not kept for ever."""
    async with House(with_rule(config(), hold=True)) as house:
        await house.ask("TE99ABC")
        check = house.newest()
        await house.passes(599)
        assert "stale" not in house.disk.of(check)
        await house.passes(2)
        assert house.disk.of(check)[-1] == "stale"
        with pytest.raises(ValueError, match="NOT HELD ANY MORE"):
            house.rules_on(check)
        await settle()
        assert (house.results, house.on_record("disclosed")) == ([], [])


async def test_a_prompt_is_repeated_until_the_officer_is_free() -> None:
    """It may be lost on the air; only then comes the disclosure of the rest, and the answer."""
    async with House(with_rule(config(), prompt=True)) as house:
        await house.ask("TE99ABC")
        assert ["RESULT WAITING" in notice.text for notice in house.notices] == [True]
        await house.passes(31)
        assert len(house.notices) == 3
        assert house.results == []
        said = await house.status(15)
        assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
        assert said.settled == 1
        await house.passes(200)
        assert len(house.notices) == 3


async def test_free_to_receive_by_a_word_is_the_same_as_by_status() -> None:
    """After `not free` it waits on."""
    async with House(with_rule(config(), prompt=True)) as house:
        await house.ask()
        for free in (False, True):
            assert house.results == []
            said = house.say(Privacy(free=free))
            await settle()
            assert said.settled == 1
        assert len(house.results) == 1


async def test_a_prompt_is_not_answered_by_the_next_officer() -> None:
    """The terminal changed hands: stale, undisclosed (decision 13)."""
    async with House(with_rule(config(), prompt=True)) as house:
        await house.ask("TE99ABC")
        house.core.apply(other_holder(house.config))
        await house.status(15)
        await house.passes(30)
        assert house.results == []
        assert [each.detail for each in house.on_record("disclosed")] == ["with the prompt"]
        assert house.disk.of(house.newest())[-1] == "stale"


async def test_what_may_not_be_shown_any_more_goes_stale_when_the_rules_change() -> None:
    """Prompted under one policy, freed under another that does not allow it."""
    async with House(with_rule(config(), prompt=True)) as house:
        await house.ask("TE99ABC")
        house.core.apply(with_rule(house.config, fields=("vehicle_status",)))
        await house.status(15)
        assert house.results == []
        assert house.disk.of(house.newest())[-1] == "stale"


# --------------------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("error", "outcome", "attempts", "says"),
    [
        (PncDown("refused"), Outcome.FAILED, 3, "PNC LINK DOWN"),
        (PncTimeout("x"), Outcome.FAILED, 1, "PNC ERROR"),
        (PncGarbled("malformed"), Outcome.FAILED, 1, "PNC ERROR"),
        (PncGarbled("truncated"), Outcome.FAILED, 1, "PNC ERROR"),
        (PncUnauthorised("x"), Outcome.FAILED, 1, "PNC ERROR"),
        (PncInvalid("I0001"), Outcome.REFUSED, 1, "PNC: NOT VALID"),
        (RuntimeError("defect"), Outcome.FAILED, 1, "GATEWAY ERROR"),
    ],
)
async def test_each_way_of_not_answering_has_its_outcome(
    house: House, error: Exception, outcome: Outcome, attempts: int, says: str
) -> None:
    """P01-P04, pnc-domain 8: one outcome, NO ANSWER and never NO TRACE; at most two retries, and
    only when the PNC was not reached; each attempt on record before it is made."""
    house.pnc.always = error
    await house.ask()
    await house.passes(10)
    assert [(r.outcome, r.why) for r in house.results[:1]] == [(outcome, says)]
    assert len({r.check for r in house.results}) == 1
    assert [query.attempt for query in house.pnc.asked] == [*range(1, attempts + 1)]
    assert [record.attempt for record in house.on_record("asked")] == [*range(1, attempts + 1)]
    page = house.results[0].pages[0]
    assert page.startswith("XXREFUSED" if outcome is Outcome.REFUSED else "??NO ANSWER")
    assert "NO TRACE" not in page
    assert len(house.on_record("answered") + house.on_record("refused")) == 1


async def test_a_retry_that_succeeds_is_the_answer(house: House) -> None:
    house.pnc.script += [PncDown("x"), PncDown("x")]
    await house.ask("TE99ABC")
    await house.passes(3)
    assert house.results[0].outcome is Outcome.ANSWERED
    assert "STOLEN" in house.results[0].pages[0]
    assert house.on_record("answered")[0].attempt == 3


async def test_retries_end_with_the_deadline() -> None:
    """P03: the deadline is not moved by attempts; none is made after it."""
    async with House(config(retry_base_s=6.0)) as house:
        house.pnc.always = PncDown("x")
        await house.ask()
        await house.passes(60)
        assert len(house.pnc.asked) <= 3
        asked_ms = [record.at_ms for record in house.on_record("asked")]
        assert max(asked_ms) - asked_ms[0] < 15_000
        assert [r.outcome for r in house.results[:1]] == [Outcome.EXPIRED]


async def test_no_reply_expires_and_a_late_one_is_a_notice_without_content(house: House) -> None:
    """P07, D1: the outcome stays; officer and control room learn that a reply came, not what."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    await house.passes(14.9)
    assert house.results == []
    await house.passes(0.2)
    assert [(r.outcome, r.result_class) for r in house.results] == [(Outcome.EXPIRED, "TIMEOUT")]
    await house.passes(5)
    hang.answer()
    await settle()
    late = [notice for notice in house.notices if notice.kind == "late"]
    assert [notice.text for notice in late] == [f"{late[0].short} LATE REPLY. REPEAT CHECK"]
    assert [each.kind for each in house.events if isinstance(each, Noticed)] == ["late"]
    assert len(house.on_record("late_answer")) == 1
    assert house.disk.checks[house.newest()].outcome == "expired"
    assert "STOLEN" not in str(house.link.sent)


async def test_a_question_that_hangs_is_not_listened_to_for_ever() -> None:
    """P01: the connection is let go after the grace, and at once when too many hang."""
    async with House(config(concurrency=1, late_grace_s=30.0)) as house:
        for _ in range(4):
            house.pnc.hang()
            await house.ask()
            await house.passes(15.1)
        assert house.pnc.cancelled == 2, "two hang at most for each place"
        await house.passes(31)
        assert house.pnc.cancelled == 4


async def test_another_questions_reply_is_shown_to_nobody(house: House) -> None:
    """P05: whether the adapter finds the wrong echo or the desk does: failed, a security record."""
    house.pnc.script.append(
        lambda query: msgspec.structs.replace(vehicle_answer(query), key_text="VRM:TE99XXX")
    )
    house.pnc.script.append(PncGarbled("echo"))
    house.pnc.script.append(lambda query: msgspec.structs.replace(vehicle_answer(query), attempt=9))
    for _ in range(3):
        await house.ask("TE99ABC")
    assert [r.outcome for r in house.results] == [Outcome.FAILED] * 3
    assert len(house.on_record("security")) == 3
    assert [line for line, _ in house.journal.lines].count("security") == 3
    assert "STOLEN" not in str(house.results)


async def test_too_old_on_receipt_is_not_asked(house: House) -> None:
    """M14, decision 14: expired, without a query."""
    await house.ask(sent_at_ms=house.clock.wall_ms() - 15_100)
    await house.ask(sent_at_ms=house.clock.wall_ms() - 14_000)
    assert [r.outcome for r in house.results] == [Outcome.EXPIRED, Outcome.ANSWERED]
    assert len(house.pnc.asked) == 1
    assert house.results[0].why == "SENT TOO LONG AGO"


async def test_a_slow_clock_is_learned_and_told(house: House) -> None:
    """interfaces.md: two questions that prove themselves live, and the third is asked; the officer
    is told of a clock that is more than 30 s off."""
    behind_ms = 60_000
    for _ in range(2):
        await house.ask(sent_at_ms=house.clock.wall_ms() - behind_ms)
        await house.passes(10)
    assert [r.outcome for r in house.results if r.outcome is Outcome.ANSWERED]
    assert any("RADIO CLOCK 60S SLOW" in notice.text for notice in house.notices)


async def test_a_deadline_of_its_own_for_a_kind() -> None:
    """D4: 15 s unless configured per kind."""
    async with House(config(deadlines_s={"vehicle": 3.0})) as house:
        house.pnc.hang()
        await house.ask()
        await house.passes(3.1)
        assert [r.outcome for r in house.results] == [Outcome.EXPIRED]


async def test_a_step_of_the_wall_clock_moves_no_deadline(house: House) -> None:
    """H08: an hour forth or back; the deadline stays 15 s from the question."""
    for by_ms in (3_600_000, -7_200_000):
        hang = house.pnc.hang()
        await house.ask("TE99ABC")
        house.clock.step_wall(by_ms)
        await house.passes(14.5)
        assert house.results == []
        hang.answer()
        await settle()
        assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
        await house.read(house.newest())
        house.link.sent.clear()
    assert house.meter.total("clock_step_seconds_total") == pytest.approx(10_800, abs=1)
    assert "clock.step" in [line for line, _ in house.journal.lines]


async def test_a_step_of_our_clock_does_not_make_live_questions_old(house: House) -> None:
    """H08: what was learned of a terminal's clock is measured on the monotonic one."""
    start_ms = house.clock.wall_ms()

    def sent() -> int:
        return start_ms + round((house.clock.monotonic_s() - 1000.0) * 1000)

    for _ in range(2):
        await house.ask(sent_at_ms=sent())
        await house.passes(10)
    house.clock.step_wall(3_600_000)
    await house.ask(sent_at_ms=sent())
    assert {r.outcome for r in house.results} == {Outcome.ANSWERED}


# --------------------------------------------------------------------------- what is left of it


async def test_a_check_that_ended_leaves_no_task_behind(house: House) -> None:
    """Memory keeps two thousand of them for repeats: not their tasks, with the frames of those, and
    nothing that only the collector would free."""
    for mark in ("TE99ABC", "TE99AAB", "TE99STV"):  # until what is made once is made
        await house.ask(mark)
        await house.read(house.newest())
    await house.passes(10)
    gc.collect()
    gc.disable()
    try:
        before = alive(asyncio.Task)
        for _ in range(20):
            await house.ask("TE99ABC")
            await house.read(house.newest())
        house.pnc.hang()
        await house.ask("TE99ABC")
        await house.passes(20)
        await house.read(house.newest())
        await house.passes(60)
        # What the core minds of itself it keeps one task of, each.
        assert alive(asyncio.Task) <= before + len(house.core._minding)
    finally:
        gc.enable()


async def test_a_check_that_is_forgotten_is_gone_without_the_collector() -> None:
    """H07: whatever its end. A full collection comes after ten million objects (calm_collector): a
    ring through each check would be a leak until then."""
    async with House(config(settled_memory=3, retries=1, stale_s=60.0)) as house:
        gc.collect()
        gc.disable()
        of_others = alive(Check)
        try:
            for _ in range(4):
                await house.ask("TE99ABC")
                await house.read(house.newest())
                house.pnc.hang()
                await house.ask("TE99ABC")  # expires
                await house.passes(50)
                await house.read(house.newest())
                house.pnc.script += [PncDown("refused"), PncGarbled("reply")]
                await house.ask("TE99ABC")  # fails
                await house.passes(5)
                await house.read(house.newest())
                house.pnc.hang()
                await house.ask("TE99ABC")
                house.say(CancelRequest())
                await house.passes(50)
                await house.read(house.newest())
                house.say(MalformedCheck(why="WHAT"))
                await settle()
                await house.read(house.newest())
                house.link.up = False
                await house.ask("TE99ABC")  # goes stale
                await house.passes(70)
                house.link.up = True
            house.pnc.also.clear()  # whom the fake would tell of a second reply
            assert alive(Check) <= of_others + 3 + 1  # the last a frame still names
        finally:
            gc.enable()


def alive(kind: type) -> int:
    return sum(isinstance(each, kind) for each in gc.get_objects())


# --------------------------------------------------------------------------- a stalled disk


async def test_a_stalled_ledger_is_not_silence(house: House) -> None:
    """I4 with D03/D09: after `stall_s` the officer hears NO ANSWER, though nothing can be written;
    nothing was asked; when the disk is back after the deadline the outcome is on record."""
    house.ledger.gate.clear()
    said = await house.ask()
    await house.passes(4.9)
    assert house.notices == []
    await house.passes(1.2)
    assert ["NO ANSWER" in notice.text for notice in house.notices] == [True]
    assert said.settled == 1, "the next question must not stand behind this one"
    await house.passes(10.0)
    assert len(house.notices) == 1
    house.ledger.gate.set()
    await settle()
    assert house.pnc.asked == []
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.EXPIRED, "CANNOT RECORD")]
    assert len(house.receipts) == 1


async def test_a_disk_that_hangs_refuses_at_once_what_it_does_not_have(house: House) -> None:
    """D09: what comes after is certainly not written, so the officer hears NO in the same moment;
    it is not on record, not asked, and may be asked again when the disk is back."""
    house.ledger.gate.clear()
    await house.ask()
    await house.passes(6)
    said = await house.ask("TE99ABC", ref="later")
    assert [(r.ref, r.accepted, r.why) for r in house.receipts] == [
        ("later", False, "CANNOT RECORD. USE VOICE")
    ]
    assert said.settled == 1
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    assert not house.core.ready_now()[0]
    house.ledger.gate.set()
    await house.passes(1.1)
    assert len(house.on_record("opened")) == 1, "a refusal at the door leaves no trace behind"
    await house.ask("TE99ABC", ref="later")
    assert len(house.on_record("opened")) == 2
    assert house.core.ready_now()[0]
    seen = [e.state for e in house.events if isinstance(e, LinkChanged) and e.kind == "audit"]
    assert seen == [LinkState.DOWN, LinkState.UP]
    gaps = [r.operation for r in house.on_record("alarm") if "could not" in r.detail]
    assert gaps == ["AUD"]


async def test_a_commit_given_up_that_became_durable_goes_on(house: House) -> None:
    """Whether it was written was not known when the officer heard NO: the disk came back inside
    the deadline, so it was, and the check goes on to its one outcome."""
    house.ledger.gate.clear()
    await house.ask("TE99STV")
    await house.passes(6)
    assert ["NO ANSWER" in notice.text for notice in house.notices] == [True]
    assert house.pnc.asked == []
    house.ledger.gate.set()
    await settle()
    assert len(house.pnc.asked) == 1
    assert [r.accepted for r in house.receipts] == [True]
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    assert len(house.on_record("answered")) == 1


async def test_a_disclosure_that_hangs_on_the_disk_is_not_silence() -> None:
    """The officer is free to receive, and the record of the disclosure hangs."""
    async with House(with_rule(config(), prompt=True)) as house:
        await house.ask("TE99ABC")
        house.ledger.gate.clear()
        house.core.checks.free_to_receive(ISSI)
        await house.passes(6.1)
        assert [n.kind for n in house.notices if "CANNOT RECORD" in n.text] == ["unrecorded"]
        assert house.results == []
        house.ledger.gate.set()
        await settle()
        assert [r.outcome for r in house.results] == [Outcome.ANSWERED]


async def test_an_outcome_that_hangs_on_the_disk_is_not_silence(house: House) -> None:
    """The answer came in time, its record does not: NO ANSWER by the deadline, and no content."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    house.ledger.gate.clear()
    hang.answer()
    await house.passes(16.1)
    assert ["NO ANSWER" in notice.text for notice in house.notices] == [True]
    assert house.results == []


async def test_a_refusal_that_hangs_on_the_disk_is_not_silence(house: House) -> None:
    house.ledger.gate.clear()
    said = await house.ask(reason="77")
    await house.passes(16.1)
    assert ["USE VOICE" in notice.text for notice in house.notices] == [True]
    assert said.settled == 1


async def test_writes_of_one_check_stay_in_order(house: House) -> None:
    """The note of an attempt that is still being written does not undo the outcome after it."""
    house.pnc.script.append(PncDown("x"))
    await house.ask()
    house.ledger.gate.clear()
    await house.passes(15.5)
    house.ledger.gate.set()
    await settle()
    row = house.disk.checks[house.newest()]
    assert (row.outcome, len(house.pnc.asked)) == ("expired", 1)


# --------------------------------------------------------------------------- bounds


async def test_one_more_than_fits_is_refused_aloud() -> None:
    """Concurrency and queue are bounds; BUSY RETRY is spoken; who was taken is answered."""
    async with House(config(concurrency=1, queue=2)) as house:
        hang = house.pnc.hang()
        for _ in range(5):
            await house.ask()
        busy = [r for r in house.results if r.outcome is Outcome.REFUSED]
        assert [r.why for r in busy] == ["BUSY RETRY"] * 2
        assert [r.accepted for r in house.receipts] == [True, True, True, False, False]
        assert house.meter.total("queue_dropped_total", queue="check", reason="full") == 2
        hang.answer()
        await settle(300)
        assert len([r for r in house.results if r.outcome is Outcome.ANSWERED]) == 3
        assert house.all_settled()


async def test_one_terminal_cannot_take_all_places() -> None:
    """Exactly per_terminal_open questions of one terminal at once; others are not touched."""
    async with House(config(per_terminal_open=2)) as house:
        house.pnc.script += [house.pnc.hang(), house.pnc.hang()]
        for _ in range(3):
            await house.ask()
        assert [r.why for r in house.results] == ["BUSY RETRY"]
        assert len(house.pnc.asked) == 2
        await house.ask(issi=OTHER)
        assert len(house.pnc.asked) == 3


async def test_answers_that_nobody_acknowledged_take_no_place() -> None:
    """A terminal that never acknowledges may still ask: only questions without an outcome count."""
    async with House(config(per_terminal_open=2)) as house:
        for _ in range(12):
            await house.ask()
        assert {r.outcome for r in house.results} == {Outcome.ANSWERED}


async def test_a_long_queue_before_an_open_circuit_empties_at_once() -> None:
    """Hundreds wait when the PNC is found down: each is told at once, none is lost on the way."""
    async with House(
        config(concurrency=1, queue=400, per_terminal_open=500, retries=0, breaker_failures=1)
    ) as house:
        hang = house.pnc.hang()
        for _ in range(400):
            house.say(house.question())
        await settle(500)
        hang.answer(PncDown("x"))
        await settle(3000)
        assert len(house.results) == 400
        assert {r.outcome for r in house.results} == {Outcome.FAILED}
        assert len(house.pnc.asked) == 1
        assert house.core.checks.in_flight() == 0
        await house.passes(6)
        await house.ask()
        assert house.results[-1].outcome is Outcome.ANSWERED, "its place was given back"


async def test_the_circuit_opens_and_a_probe_closes_it() -> None:
    """P03: nothing is asked while it is open, and nothing says so; the feed shows the PNC down."""
    async with House(config(retries=0, breaker_failures=3)) as house:
        house.pnc.always = PncDown("x")
        for _ in range(5):
            await house.ask()
        assert len(house.pnc.asked) == len(house.on_record("asked")) == 3
        assert [r.why for r in house.results] == ["PNC LINK DOWN"] * 5
        house.pnc.always = None
        await house.passes(5.1)
        await house.ask()
        assert house.results[-1].outcome is Outcome.ANSWERED
        states = [e.state for e in house.events if isinstance(e, LinkChanged) and e.id == "pnc"]
        assert states == [LinkState.DOWN, LinkState.UP]


async def test_a_pile_of_hanging_questions_does_not_hold_the_circuit_open() -> None:
    """P02: recovery within 5 s after the PNC is well, though old questions still time out."""
    async with House(config(retries=0, breaker_failures=2, deadline_s=15.0)) as house:
        for _ in range(3):
            house.pnc.hang()
            await house.ask()
            await house.passes(3)
        house.pnc.script += [PncDown("x"), PncDown("x")]
        await house.ask()
        await house.ask()
        await house.passes(5.2)  # the first of those that hang expires meanwhile
        await house.ask()
        assert house.results[-1].outcome is Outcome.ANSWERED


async def test_a_probe_that_hangs_does_not_hold_the_circuit_open_either() -> None:
    """P02: the PNC is well again while the one question that was let through still hangs: within
    5 s an officer is answered, not when that question's deadline has passed."""
    async with House(config(deadline_s=15.0, breaker_failures=2, retries=0)) as house:
        for _ in range(2):
            house.pnc.hang()
            await house.ask()
        await house.passes(15.1)
        assert [r.outcome for r in house.results] == [Outcome.EXPIRED] * 2
        await house.passes(5.0)
        house.pnc.hang()
        await house.ask()
        asked = len(house.pnc.asked)
        await house.ask()
        assert len(house.pnc.asked) == asked, "one at a time, while it may yet come back"
        waited_s = 0.0
        while house.results[-1].outcome is not Outcome.ANSWERED and waited_s < 5.0:
            await house.passes(0.5)
            waited_s += 0.5
            await house.ask()
        assert house.results[-1].outcome is Outcome.ANSWERED
        await house.passes(15.0)  # the probe that hung fails at last, and shuts nothing
        await house.ask()
        assert house.results[-1].outcome is Outcome.ANSWERED


# --------------------------------------------------------------------------- our own defects


async def test_a_poisonous_question_is_a_failure_said_aloud(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M13: acknowledged, on record, the officer told; the next message is taken at once."""

    def broken(*_args: object) -> None:
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("gateway.checks.decide", broken)
        said = await house.ask()
    assert said.settled == 1
    assert [(r.outcome, r.ref) for r in house.results] == [(Outcome.FAILED, "r1")]
    assert len(house.on_record("answered")) == 1
    assert "planted" not in str(house.journal.lines)
    await house.ask()
    assert house.results[-1].outcome is Outcome.ANSWERED


@pytest.mark.parametrize("place", ["projecting", "rendering", "encoding"])
async def test_an_answer_that_breaks_us_is_a_failure_and_costs_only_itself(
    house: House, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """M13: never a check without outcome, never a place lost; the plain failure needs nothing of
    what broke."""
    target = {
        "projecting": "gateway.check_views.policy.project",
        "rendering": "gateway.check_views.rendering.screens",
        "encoding": "gateway.check_views.results.danger_words",
    }[place]

    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(target, broken)
        for _ in range(20):
            await house.ask("TE99ABC")
            house.link.sent.clear()
        await house.ask("TE99ABC")
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.FAILED, "GATEWAY ERROR")]
    assert house.results[0].pages[0].startswith("??NO ANSWER")
    assert house.on_record("disclosed") == []
    await house.ask("TE99ABC")
    assert house.results[-1].outcome is Outcome.ANSWERED
    assert house.core.checks.in_flight() == 0


async def test_an_originator_that_cannot_be_named_is_not_asked(house: House) -> None:
    """pnc-domain 9.1: no requester, no question; told, and no place is lost."""
    nameless = held_by(house.config.people, ISSI, surname="")
    house.core.apply(msgspec.structs.replace(house.config, people=nameless))
    for _ in range(30):
        await house.ask()
    assert house.pnc.asked == []
    assert {r.why for r in house.receipts} == {"NO REQUESTER"}
    assert house.all_settled()
    await house.ask(issi=OTHER)
    assert len(house.pnc.asked) == 1


async def test_a_broken_position_does_not_cost_the_question(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.core.tracker, "fix", lambda *_a: (_ for _ in ()).throw(KeyError))
    await house.ask(fix=LocationFix(lat=52.57, lon=-0.24))
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    assert house.all_settled()


def test_the_plain_failure_fits_the_smallest_screen() -> None:
    """4 lines of 20, one message of 73 bytes, danger never hinted at, and nothing of the PNC."""
    check = _bare_check()
    check_views.make_plain_failure(check, 1_795_325_047_120)
    assert check.result is not None
    (page,), (text,) = check.result.pages, check.result.texts
    assert len(page.split("\n")) == 4
    assert all(len(line) <= 20 for line in page.split("\n"))
    assert len(text) <= 73
    assert "NO TRACE" not in page + text


def _bare_check() -> Check:
    return Check(
        id="01TESTC001",
        receipt="TEST-0001",
        asker=asker("constable"),
        holder="",
        request=None,
        kind=None,
        opened_at_ms=0,
        accepted_at_s=0.0,
        deadline_ms=15_000,
        ref="",
        client_ref="",
        typed="",
        dedupe="x",
        state=CheckState(stage=Stage.OPENING, deadline_s=0.0),
    )


# --------------------------------------------------------------------------- taking it back


async def test_taken_back_by_its_officer_and_by_nobody_else(house: House) -> None:
    """X: refused as cancelled, on record as cancelled; the bearer's acknowledgement of the X
    follows the record; a late reply is recorded and not told."""
    hang = house.pnc.hang()
    await house.ask()
    house.say(CancelRequest(), issi=OTHER)
    await settle()
    assert house.results == []
    assert [notice.text for notice in house.heard(Notice, OTHER)] == ["NOTHING TO CANCEL"]
    house.ledger.gate.clear()
    said = house.say(CancelRequest())
    await settle()
    assert said.settled == 0
    house.ledger.gate.set()
    await settle()
    assert said.settled == 1
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.REFUSED, "CANCELLED")]
    assert len(house.on_record("cancelled")) == 1
    hang.answer()
    await settle()
    assert len(house.on_record("late_answer")) == 1
    assert [n for n in house.notices if n.kind == "late"] == []


async def test_taken_back_while_it_is_being_written_it_is_not_asked(house: House) -> None:
    """An X right behind the question, on a slow disk, is not lost."""
    house.ledger.gate.clear()
    await house.ask()
    house.say(CancelRequest())
    house.ledger.gate.set()
    await settle()
    assert house.pnc.asked == []
    assert [(r.outcome, r.why) for r in house.results] == [(Outcome.REFUSED, "CANCELLED")]
    assert house.all_settled()


# --------------------------------------------------------------------------- the control room


async def test_the_control_room_sees_the_course_and_never_the_subject(house: House) -> None:
    await house.ask("TE99STV")
    kinds = [type(event).__name__ for event in house.events if "Check" in type(event).__name__]
    assert kinds[:3] == ["CheckOpened", "CheckStaged", "CheckDone"]
    done = next(event for event in house.events if isinstance(event, CheckDone))
    assert (done.outcome, done.result_class) == (Outcome.ANSWERED, "HIT_CRITICAL")
    assert "STOLEN" in done.danger
    assert done.overhead_s is not None
    assert b"TE99" not in msgspec.json.encode(house.events)


async def test_what_is_not_on_record_is_not_shown_as_a_check(house: House) -> None:
    house.ledger.down = True
    await house.ask()
    assert not any(isinstance(event, CheckStaged | CheckDone) for event in house.events)


async def test_the_figures_return_to_zero(house: House) -> None:
    """checks_in_flight counts what has no outcome yet, and nothing after it."""
    hang = house.pnc.hang()
    await house.ask()
    key = ("checks_in_flight", (("kind", "vehicle"),))
    assert house.meter.gauges[key] == 1
    await house.passes(3)
    assert house.meter.gauges["check_oldest_in_flight_age_seconds", ()] == pytest.approx(3, abs=1)
    hang.answer()
    await settle()
    assert house.meter.gauges[key] == 0
    assert house.core.checks.in_flight() == 0


async def test_an_unknown_terminal_is_settled_and_counted(house: House) -> None:
    said = await house.ask(issi="5999999")
    assert said.settled == 1
    assert house.meter.total("frames_rejected_total", reason="unknown_terminal") == 1
    assert house.disk.checks == {}
