"""The same question again: one check, the same stored bytes, the same officer (M04, S10, I21)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from adapters.keyed import KeyedDigest
from gateway.check_memory import dedupe_key, under_key
from gateway.checks import Asked
from gateway.errors import PncDown
from gateway.messages import (
    CheckDone,
    CheckOpened,
    CheckRequest,
    CheckStaged,
    MalformedCheck,
    Outcome,
    VehicleKey,
)
from gateway.ports import CheckRow
from tests.fakes import FakeKeyed, settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder
from tests.gateway.test_checks import with_policy, with_rule


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


async def test_a_duplicate_gets_the_same_stored_bytes(house: House) -> None:
    """I2: to the byte what is on record, with its as-of time; on record as a duplicate with its
    recipient; no second question; both settled."""
    question = house.question("TE99ABC")
    house.say(question)
    await settle()
    await house.read(house.newest())
    await house.passes(3600)
    house.say(question)
    await settle()
    first, second = house.results
    stored = house.disk.checks[first.check].result
    assert msgspec.json.encode(first) == msgspec.json.encode(second) == stored
    assert second.pages[-1].endswith("05:24 PNC")
    assert "AS AT 05:24" in second.texts[-1]
    assert len(house.pnc.asked) == 1
    assert [(r.recipient, r.level) for r in house.on_record("duplicate")] == [
        (f"police:1001@{ISSI}", "L4")
    ]
    assert house.all_settled()


async def test_duplicates_while_it_is_being_written_share_one_receipt(house: House) -> None:
    """M04: ten copies at once, before the first is on record; all settled by its commit."""
    house.ledger.gate.clear()
    question = house.question()
    for _ in range(10):
        house.say(question)
    await settle()
    assert sum(said.settled for said in house.said) == 0
    house.ledger.gate.set()
    await settle(60)
    assert house.all_settled()
    assert (len(house.pnc.asked), len(house.on_record("opened"))) == (1, 1)


async def test_duplicates_while_it_is_asked_ask_nothing(house: House) -> None:
    hang = house.pnc.hang()
    question = house.question()
    for _ in range(5):
        house.say(question)
        await settle()
    assert len(house.pnc.asked) == 1
    assert len({receipt.check for receipt in house.receipts}) == 1
    hang.answer()
    await settle()
    assert len(house.results) == 1


async def test_a_duplicate_of_a_refusal_is_the_refusal(house: House) -> None:
    question = house.question(reason="77")
    for _ in range(2):
        house.say(question)
        await settle()
    assert len({result.check for result in house.results}) == 1
    assert [receipt.accepted for receipt in house.receipts] == [False, False]
    assert len(house.on_record("denied")) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "5"},
        {"justification": "OTHER"},
        {"location": "PE1"},
        {"sent_at_ms": 1_795_325_047_121},
        {"full": True},
        {"ref": "zz"},
    ],
)
async def test_anything_else_is_a_new_check(house: House, changes: dict[str, object]) -> None:
    """interfaces.md: same reference with other content or another time is a new question."""
    question = house.question("TE99ABC")
    house.say(question)
    await settle()
    house.say(msgspec.structs.replace(question, **changes))
    await settle()
    assert len({result.check for result in house.results}) == 2
    assert len(house.pnc.asked) == 2


async def test_a_reference_that_wraps_within_the_window_is_not_taken_for_the_old_one(
    house: House,
) -> None:
    """S10: an 8-bit reference, 300 checks within a minute: 300 questions, each with its own answer,
    also for those whose number was there before, and for a repeat that comes among them."""
    asked: list[tuple[str, str, CheckRequest]] = []
    for n in range(300):
        mark = f"TE99{chr(65 + n // 26)}{chr(65 + n % 26)}A"
        question = house.question(mark, ref=str(n % 256))
        house.say(question)
        await settle()
        asked.append((house.newest(), mark, question))
        await house.read(house.newest())
        await house.passes(0.2)
    assert len({check for check, _, _ in asked}) == 300
    assert [each.key_text for each in house.pnc.asked] == [f"VRM:{mark}" for _, mark, _ in asked]
    for first in (0, 299):
        check, _, question = asked[first]
        house.say(question)
        await settle()
        assert house.results[-1].check == check
    assert len(house.pnc.asked) == 300


async def test_another_terminal_with_the_same_words_is_another_check(house: House) -> None:
    question = house.question()
    house.say(question)
    house.say(question, issi=OTHER)
    await settle()
    assert len(house.pnc.asked) == 2
    assert len(house.disk.checks) == 2


async def test_the_ledger_knows_what_memory_has_forgotten() -> None:
    """The unique constraint decides: the same answer after 50 other checks and after a restart."""
    async with House(config(settled_memory=1)) as house:
        question = house.question("TE99ABC")
        house.say(question)
        await settle()
        first = house.results[0]
        await house.read(first.check)
        for _ in range(3):
            await house.ask()
            await house.read(house.newest())
        for again in (lambda: None, house.restart):
            done = again()
            if done is not None:
                await done
            asked = len(house.pnc.asked)
            house.link.sent.clear()
            said = house.say(question)
            await settle(60)
            assert house.results == [first]
            assert len(house.pnc.asked) == asked
            assert said.settled == 1
        assert len(house.on_record("opened", first.check)) == 1


async def test_a_duplicate_while_the_first_copy_waits_for_its_outcome_after_a_restart(
    house: House,
) -> None:
    """P2: the receipt comes on restart or on the duplicate; no second row."""
    house.pnc.hang()
    question = house.question()
    house.say(question)
    await settle()
    await house.restart()
    house.link.sent.clear()
    house.say(question)
    await settle()
    assert [receipt.accepted for receipt in house.receipts] == [True]
    assert len(house.disk.checks) == 1


async def test_typed_text_is_the_same_until_a_minute_after_its_outcome(house: House) -> None:
    """interfaces.md: 60 s after the outcome, not after the question."""
    hang = house.pnc.hang()
    house.say(house.typed("TE99ABC"))
    await house.passes(10)
    house.say(house.typed("TE99ABC"))
    hang.answer()
    await settle()
    await house.passes(59)
    house.say(house.typed("TE99ABC"))
    await settle()
    assert len(house.pnc.asked) == 1
    await house.passes(2)
    house.say(house.typed("TE99ABC"))
    await settle()
    assert len(house.pnc.asked) == 2
    assert len({result.check for result in house.results}) == 2
    assert house.all_settled()


async def test_typed_text_is_the_same_after_a_restart_too(house: House) -> None:
    """Also when another text was typed in between, and when two copies come at once."""
    house.say(house.typed("TE99ABC"))
    await settle()
    house.say(house.typed("TE99AAB"))
    await settle()
    first = house.results[0]
    await house.restart()
    await house.passes(20)
    house.link.sent.clear()
    for _ in range(2):
        house.say(house.typed("TE99ABC"))
    await settle(60)
    assert len(house.pnc.asked) == 2
    assert {result.check for result in house.results} <= {first.check, house.newest()}
    assert first in house.results
    await house.passes(61)
    house.say(house.typed("TE99ABC"))
    await settle(60)
    assert len(house.pnc.asked) == 3
    assert house.all_settled()


async def test_an_older_answer_that_still_waits_does_not_hide_the_newer_one(house: House) -> None:
    """After a restart memory has the same text of before, unread; the one of a moment ago was read
    and is in the ledger alone."""
    house.say(house.typed("TE99ABC"))
    await settle()
    await house.passes(61)
    house.say(house.typed("TE99ABC"))
    await settle()
    await house.read(house.newest())
    assert len(house.pnc.asked) == 2
    await house.restart()
    await house.passes(5)
    house.say(house.typed("TE99ABC"))
    await settle(60)
    assert len(house.pnc.asked) == 2
    assert house.all_settled()


async def test_after_our_clock_was_set_back_typed_text_is_asked_anew(house: House) -> None:
    """An answer from the future has no age: given again for hours it would be worse than none."""
    house.say(house.typed("TE99ABC"))
    await settle()
    await house.read(house.newest())
    house.clock.step_wall(-3_600_000)
    await house.restart()
    await house.passes(30)
    house.say(house.typed("TE99ABC"))
    await settle(60)
    assert len(house.pnc.asked) == 2


async def test_two_copies_of_a_new_text_just_after_a_start_are_one_check(house: House) -> None:
    """Both look into the ledger; the second finds what the first began meanwhile."""
    for _ in range(2):
        house.say(house.typed())
    await settle(60)
    assert len(house.pnc.asked) == 1
    assert house.all_settled()


async def test_a_question_belongs_to_who_held_the_radio_when_it_came(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal changes hands while the ledger is asked whether the text is known: the next
    officer does not get the answer to the last one's question."""
    look = house.ledger.recent_checks

    async def slow(terminal: str, since_ms: int) -> list[CheckRow]:
        house.core.apply(other_holder(house.config))
        return await look(terminal, since_ms)

    monkeypatch.setattr(house.ledger, "recent_checks", slow)
    house.say(house.typed("TE99ABC"))
    await settle(60)
    assert house.results == []
    assert house.on_record("opened")[0].officer == "1001"
    assert house.disk.of(house.newest())[-1] == "stale"


async def test_typed_text_that_memory_forgot_is_looked_up() -> None:
    """A busy minute may push it out of memory; it is still the same check."""
    async with House(config(settled_memory=1)) as house:
        await house.passes(100)
        house.say(house.typed("TE99ABC"))
        await settle()
        await house.read(house.newest())
        for _ in range(3):
            await house.ask()
            await house.read(house.newest())
        asked = len(house.pnc.asked)
        house.say(house.typed("TE99ABC"))
        await settle(60)
        assert len(house.pnc.asked) == asked
        assert house.all_settled()


async def test_a_ledger_that_cannot_be_read_does_not_swallow_a_question(house: House) -> None:
    """Typed just after a start: it is taken as new, and fails closed if it cannot be written."""
    house.ledger.reads_down = True
    said = house.say(house.typed())
    await settle(60)
    assert (len(house.results), said.settled) == (1, 1)


async def test_a_duplicate_whose_first_copy_cannot_be_read_is_told_so() -> None:
    """Refused aloud and settled, never silence: unreadable row, or the ledger down for reads."""
    async with House(config(settled_memory=1)) as house:
        question = house.question("TE99ABC")
        house.say(question)
        await settle()
        check = house.newest()
        await house.read(check)
        for _ in range(3):
            await house.ask()
            await house.read(house.newest())
        for harm in ("reads", "row"):
            house.link.sent.clear()
            house.ledger.reads_down = harm == "reads"
            if harm == "row":
                row = house.disk.checks[check]
                house.disk.checks[check] = msgspec.structs.replace(row, state=b"garbage")
            said = house.say(question)
            await settle(60)
            assert [r.accepted for r in house.receipts] == [False]
            assert "USE VOICE" in house.receipts[0].why
            assert said.settled == 1
        assert house.core.checks.in_flight() == 0


async def test_the_next_officer_gets_nothing_of_it(house: House) -> None:
    """The same bytes from the same radio in other hands: refused, content kept."""
    question = house.question("TE99ABC")
    house.say(question)
    await settle()
    await house.read(house.newest())
    house.core.apply(other_holder(house.config))
    house.link.sent.clear()
    said = house.say(question)
    await settle()
    assert house.results == []
    assert [(r.accepted, r.why) for r in house.receipts] == [(False, "ASKED BY OTHER OFFICER")]
    assert said.settled == 1


async def test_the_next_officer_gets_nothing_though_it_was_on_its_way(house: House) -> None:
    """The terminal changes hands while the repeat is put on record."""
    question = house.question("TE99ABC")
    house.say(question)
    await settle()
    await house.read(house.newest())
    house.ledger.gate.clear()
    house.link.sent.clear()
    house.say(question)
    await settle()
    house.core.apply(other_holder(house.config))
    house.ledger.gate.set()
    await settle()
    assert house.results == []
    assert house.all_settled()


@pytest.mark.parametrize("how", ["denied", "narrower"])
async def test_what_policy_no_longer_allows_is_not_given_again(house: House, how: str) -> None:
    """The answer of then under the policy of now: refused aloud."""
    question = house.question("TE99ABC")
    house.say(question)
    await settle()
    await house.read(house.newest())
    narrower = with_rule(house.config, fields=("vehicle_status",))
    house.core.apply(with_policy(house.config, rules=()) if how == "denied" else narrower)
    house.link.sent.clear()
    house.say(question)
    await settle()
    assert house.results == []
    assert [(r.accepted, r.why) for r in house.receipts] == [(False, "NOT YOUR ROLE")]


async def test_what_was_never_disclosed_is_not_given_to_a_repeat() -> None:
    """Held until it went stale: asking the same again does not open it."""
    async with House(with_rule(config(), hold=True)) as house:
        question = house.question("TE99ABC")
        house.say(question)
        await settle()
        for wait_s in (1, 601):
            await house.passes(wait_s)
            house.say(question)
            await settle()
        assert house.results == []
        assert house.on_record("disclosed") == []


async def test_a_repeat_that_cannot_be_recorded_is_not_given(house: House) -> None:
    """Fail closed, and said."""
    question = house.question("TE99ABC")
    house.say(question)
    await settle()
    await house.read(house.newest())
    house.ledger.down = True
    house.link.sent.clear()
    said = house.say(question)
    await settle()
    assert house.results == []
    assert ["CANNOT RECORD" in notice.text for notice in house.notices] == [True]
    assert said.settled == 1


async def test_a_repeat_after_a_failure_is_the_same_failure(house: House) -> None:
    """It is not asked once more behind the officer's back: he asks anew if he wants to know."""
    house.pnc.always = PncDown("x")
    question = house.question()
    house.say(question)
    await house.passes(3)
    house.pnc.always = None
    asked = len(house.pnc.asked)
    house.say(question)
    await settle()
    assert {result.outcome for result in house.results} == {Outcome.FAILED}
    assert len(house.pnc.asked) == asked


async def test_malformed_questions_are_each_on_record(house: House) -> None:
    """They have no identity that could be the same."""
    for _ in range(2):
        house.say(MalformedCheck(why="BAD VRM", ref="a"))
        await settle()
    assert len(house.on_record("refused")) == 2


async def test_three_hundred_checks_over_references_that_wrap(house: House) -> None:
    """S10: 300 checks quickly, references of 8 bits that come round within the window: each with
    other content is a check of its own, with its own receipt and its own answer. The last 30, each
    sent again as a radio repeats it, are no new checks."""
    questions = []
    for n in range(300):
        mark = f"TE99B{chr(65 + n // 26)}{chr(65 + n % 26)}"
        questions.append(house.question(mark, ref=str(n % 256)))
        house.say(questions[-1])
        await settle()
        await house.read(house.newest())
        await house.passes(0.25)
    assert len(house.pnc.asked) == len(house.results) == len(house.receipts) == 300
    asked = [query.key_text for query in house.pnc.asked]
    assert asked == [f"VRM:{question.key.vrm}" for question in questions]  # type: ignore[union-attr]
    for question, result in zip(questions, house.results, strict=True):
        assert result.ref == question.ref
        assert result.fields["vrm"] == question.key.vrm  # type: ignore[union-attr]
    assert len({result.check for result in house.results}) == 300
    for question in questions[-30:]:
        house.say(question)
        await settle()
        await house.passes(0.25)
    assert len(house.pnc.asked) == 300
    assert [again.check for again in house.results[300:]] == [
        result.check for result in house.results[270:300]
    ]


# --------------------------------------------------------------------------- brought by another


async def test_a_question_that_somebody_brings_is_a_check_of_its_own(house: House) -> None:
    """`take`: told apart by the key it was given and not by its words; what it supplements stands
    on every record and event of it, over a restart, too."""
    roster, request = house.core.roster, house.question("TE99ABC", ref="", sent_at_ms=None)
    asker = roster.asker(ISSI)
    assert asker is not None
    asker = msgspec.structs.replace(asker, operator="op-1", booking="B1")
    settled: list[str] = []
    first = house.pnc.hang()
    for dedupe in ("key:1", "key:1", "key:2"):
        how = Asked(
            settle=lambda dedupe=dedupe: settled.append(dedupe),  # type: ignore[misc]
            received_at_ms=house.clock.wall_ms(),
            received_at_s=house.clock.monotonic_s(),
            parent="01TEST000000C000",
            dedupe=dedupe,
        )
        house.core.checks.take(asker, request, how)
    await settle()
    assert settled == ["key:1", "key:1", "key:2"]
    assert len(house.pnc.asked) == 2
    first.answer()
    await settle()
    opened, asked = house.on_record("opened"), house.on_record("asked")
    assert len(opened) == 2
    assert {record.parent for record in house.disk.records if record.check} == {"01TEST000000C000"}
    assert [record.source for record in asked] == ["PNC", "PNC"]
    assert {record.operator for record in house.disk.records if record.check} == {"op-1"}
    assert {record.booking for record in house.disk.records if record.check} == {"B1"}
    seen = [
        each for each in house.events if isinstance(each, CheckOpened | CheckStaged | CheckDone)
    ]
    assert {type(each) for each in seen} == {CheckOpened, CheckStaged, CheckDone}
    assert {(each.parent, each.operator) for each in seen} == {("01TEST000000C000", "op-1")}
    await house.restart()
    await house.read(opened[0].check)
    assert [record.parent for record in house.on_record("read")] == ["01TEST000000C000"]


async def test_what_is_asked_cannot_be_tried_out_against_the_ledger(house: House) -> None:
    """Of two instances the same question has two digests; one of before has its own, keyed."""
    question = CheckRequest(
        key=VehicleKey(vrm="TE99ABC"), reason="5", ref="r1", sent_at_ms=1_795_325_040_000
    )
    plain = "f8a7cbce98acb7d77ed5bee70abe84ea98d1aab8f089cb89067cf1bda366d42c"
    ours = dedupe_key(FakeKeyed(), ISSI, question, 0)
    assert ours == under_key(FakeKeyed(), plain)
    assert ours != dedupe_key(KeyedDigest(b"k" * 32), ISSI, question, 0)
    house.say(question)
    await settle()
    [row] = house.disk.checks.values()
    assert row.dedupe == ours
    assert plain not in row.dedupe
