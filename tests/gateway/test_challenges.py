"""Challenges: who must explain, that nothing of the answer decides it, and what becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.keyed import KeyedDigest
from gateway import challenges
from gateway.challenges import picked
from gateway.checks import Asked
from gateway.errors import PncDown
from gateway.messages import (
    Actor,
    ChallengeChanged,
    CheckRequest,
    Downlink,
    Notice,
    PersonKey,
    PncAnswer,
    PncQuery,
    PncRecord,
    Reasoning,
    VehicleKey,
    Viewer,
)
from gateway.ports import KeptRow
from gateway.projection import visible
from gateway.rulebook import Challenges
from gateway.settings import Config, SlotsSection
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder, unbooked
from tests.gateway.strategies import person, signals

SUPERVISOR = Actor(id="s.tester", roles=frozenset({"supervisor"}))
WHY = "SAW THE DRIVER SWERVE TWICE ON BRIDGE ST"
DAY_S = 86_400.0


def always(base: Config | None = None, **terms: object) -> Config:
    """Every check is challenged, or as said."""
    base = base if base is not None else config()
    made = Challenges(**{"rate": 1.0, "always": (), **terms})  # type: ignore[arg-type]
    policy = msgspec.structs.replace(base.policy, challenge=made)
    return msgspec.structs.replace(base, policy=policy)


def states(house: House) -> list[str]:
    return [event.state for event in house.events if isinstance(event, ChallengeChanged)]


def asked_why(house: House, issi: str = ISSI) -> list[str]:
    return [n.text for n in house.heard(Notice, issi) if n.kind == "challenge"]


def kept(house: House) -> dict[tuple[str, str], KeptRow]:
    return {key: row for key, row in house.disk.kept.items() if row.kind == "challenge"}


async def explain(house: House, text: str = WHY, *, ref: str = "", issi: str = ISSI) -> None:
    said = house.say(Reasoning(check=ref or house.newest()[-4:], text=text), issi=issi)
    await settle()
    assert said.settled == 1


# --------------------------------------------------------------------------- the lot


def drawn(key: bytes, rate: float) -> list[bool]:
    """10,000 checks of 50 officers on 20 days."""
    keyed = KeyedDigest(key)
    return [
        picked(keyed, str(1000 + n % 50), f"2026-11-{1 + n // 50 % 20:02}", f"VRM:TE99{n}", rate)
        for n in range(10_000)
    ]


def test_one_check_in_ten_and_the_same_ones_again() -> None:
    first = drawn(b"k" * 32, 0.1)
    assert 850 <= sum(first) <= 1150
    assert drawn(b"k" * 32, 0.1) == first
    assert drawn(b"l" * 32, 0.1) != first
    for n in range(50):
        assert 4 <= sum(first[n::50]) <= 45, "no officer is left out, none is always asked"
    assert sum(drawn(b"k" * 32, 0.0)) == 0
    assert sum(drawn(b"k" * 32, 1.0)) == 10_000


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=30), st.floats(0, 1))
def test_the_lot_hangs_on_officer_day_and_subject_alone(
    officer: str, day: str, subject: str, rate: float
) -> None:
    keyed = KeyedDigest(b"k" * 32)
    first = picked(keyed, officer, day, subject, rate)
    assert picked(keyed, officer, day, subject, rate) == first
    if first:
        assert picked(keyed, officer, day, subject, 1.0)


async def test_asking_again_draws_no_other_lot() -> None:
    """With other words, another reason, as another message, from another radio of the pool: a
    subject that was not drawn today is not drawn, and one that was is, each time."""
    async with House(always(rate=0.5)) as house:
        lots = set()
        for n in range(12):
            subject = PersonKey("TESTER", f"NORA{'ABCDEFGHIJKL'[n]}", sex="F")
            for reason, text in (("1", "NO LIGHTS"), ("2", ""), ("6", "SEEN RUNNING")):
                await house.ask(key=subject, reason=reason, justification=text)
            of_these = [r.check for r in house.on_record("opened")][-3:]
            lot = [bool(house.on_record("challenged", check)) for check in of_these]
            assert len(set(lot)) == 1
            lots.add(lot[0])
        assert lots == {True, False}


ANSWERS: dict[str, tuple[PncRecord, ...]] = {
    "no trace": (),
    "clear": (person("NORA"),),
    "danger": (person("NORA", warnings=signals("VI", "FI")),),
}


def answering(records: tuple[PncRecord, ...]) -> Callable[[PncQuery], PncAnswer]:
    def reply(query: PncQuery) -> PncAnswer:
        return PncAnswer(
            check=query.check,
            attempt=query.attempt,
            key_text=query.key_text,
            records=records,
            blocks=(),
            as_of_ms=query.asked_at_ms,
        )

    return reply


def listening(house: House, heard: list[tuple[float, str]]) -> Callable[[str, Downlink], None]:
    """When which words of a challenge reach a terminal."""

    def took(_terminal: str, message: Downlink) -> None:
        if isinstance(message, Notice) and message.kind == "challenge":
            heard.append((round(house.clock.monotonic_s(), 6), message.text))

    return took


@pytest.mark.parametrize("issi", ["5001008", ISSI])
async def test_nothing_of_the_answer_decides_it_or_shows_in_it(issi: str) -> None:
    """The same twelve questions at L1 and at L3, to a PNC that knows nothing, something, or a
    danger, or is down: the same are challenged, and the terminal hears of it in the same words at
    the same instants."""
    told = []
    for name in (*ANSWERS, "down"):
        base = always(rate=0.5)
        settings = msgspec.structs.replace(base.settings, slots=SlotsSection(below_l3_s=(4.0, 9.0)))
        async with House(msgspec.structs.replace(base, settings=settings)) as house:
            heard: list[tuple[float, str]] = []
            house.pnc.always = PncDown("refused") if name == "down" else answering(ANSWERS[name])
            house.link.took = listening(house, heard)
            for n in range(12):
                subject = PersonKey("TESTER", "NORA", age_years=20 + n, sex="F")
                await house.ask(key=subject, reason="8" if issi != ISSI else "1", issi=issi)
                await house.passes(3.0)
            await house.passes(310.0)
            told.append(heard)
    assert 2 <= len(told[0]) <= 10
    assert all(each == told[0] for each in told)


async def test_who_keyed_it_stands_on_the_challenge_too() -> None:
    """An operator asked for the officer: both stand on every record of the check."""
    request = CheckRequest(key=VehicleKey(vrm="TE99STV"), reason="1")
    ann = Actor(id="ann", roles=frozenset({"operator"}))
    async with House(always()) as house:
        await house.core.assisted.ask(ann, ISSI, request, to_radio=True, key="k1")
        await settle()
        (record,) = house.on_record("challenged")
    assert (record.officer, record.operator) == ("1001", "ann")


async def test_what_is_not_asked_is_not_challenged() -> None:
    """Denied, too old, taken back before it came: nobody has to explain it."""
    async with House(always()) as house:
        await house.ask(reason="77")
        await house.ask(reason="5", justification="")
        await house.ask(sent_at_ms=house.clock.wall_ms() - 60_000)
        assert house.on_record("challenged") == []
        assert states(house) == []


async def test_what_completes_another_is_neither_challenged_nor_counted() -> None:
    """A supplement is no question of its officer's: the first one was."""
    limits = msgspec.structs.replace(
        config().settings.limits, officer_per_hour=1.0, officer_burst=1
    )
    async with House(always(config(limits=limits))) as house:
        await house.ask("TE99ABC")
        asker = house.core.roster.asker(ISSI)
        assert asker is not None
        how = Asked(
            settle=lambda: None,
            received_at_ms=house.clock.wall_ms(),
            received_at_s=house.clock.monotonic_s(),
            parent=house.newest(),
            dedupe="supplement",
        )
        house.core.checks.take(asker, house.question("TE99ABC"), how)
        await settle()
        assert len(house.pnc.asked) == 2
        assert len(house.on_record("challenged")) == 1


async def test_a_question_that_cannot_be_recorded_is_no_challenge() -> None:
    async with House(always()) as house:
        house.ledger.down = True
        await house.ask()
        await house.passes(3.0)
        house.ledger.down = False
        await house.passes(700.0)
        assert house.core.challenges.waiting() == ()
        assert asked_why(house) == []


async def test_the_same_subject_on_another_day_is_always_challenged() -> None:
    """Within 30 days, of the same officer, over a kill; on the same day it is not."""
    async with House(always(rate=0.0, always=("repeat_subject",))) as house:
        await house.ask("TE99ABC")
        await house.passes(61.0)
        await house.ask("TE99ABC")
        await house.ask("TE99ABC", issi=OTHER)
        assert house.on_record("challenged") == []
        house.clock.step_wall(round(DAY_S * 1000))
        await house.restart()
        await house.ask("TE99ABD")
        assert house.on_record("challenged") == []
        await house.ask("TE99ABC")
        (record,) = house.on_record("challenged")
        assert (record.detail, record.officer) == ("repeat_subject", "1001")
        assert "TE99ABC" not in str(kept(house))
        house.clock.step_wall(round(31 * DAY_S * 1000))
        await house.passes(5.0)
        await house.ask("TE99ABC", issi=OTHER)
        assert [r.detail for r in house.on_record("challenged")].count("repeat_subject") == 1


# --------------------------------------------------------------------------- its life


async def test_asked_explained_reviewed() -> None:
    """On record with its question; the officer hears of it five minutes later, explains, and a
    supervisor looks: each on record, and only then heard of."""
    async with House(always()) as house:
        await house.ask("TE99ABC")
        check, short = house.newest(), house.newest()[-4:]
        assert "opened+asked+challenged" in house.story
        assert asked_why(house) == []
        await house.passes(301.0)
        assert asked_why(house) == [f"{short} WHY? SEND: J {short} AND WHY"]
        await explain(house, "ROUTINE CHECK")
        await explain(house, "NO LIGHTS")
        assert asked_why(house)[1:] == [f"{short} SAY WHY: 25 LETTERS"] * 2
        assert states(house) == ["open"]
        await explain(house)
        assert asked_why(house)[-1] == f"{short} NOTED"
        told = house.on_record("challenged", check)
        assert [record.detail for record in told] == ["random", "answered"]
        assert told[-1].content == msgspec.json.encode({"text": WHY})
        assert (told[-1].officer, told[-1].terminal) == ("1001", ISSI)
        (waiting,) = house.core.challenges.waiting()
        assert (waiting.state, waiting.text) == ("answered", WHY)
        await house.core.challenges.review(short, SUPERVISOR, enough=False, note="ASK AGAIN")
        (reviewed,) = house.on_record("reviewed")
        assert (reviewed.operator, reviewed.operator_role, reviewed.detail, reviewed.verb) == (
            "s.tester",
            "supervisor",
            "answered, not enough",
            "alteration",
        )
        assert states(house) == ["open", "answered", "reviewed"]
        assert house.core.challenges.waiting() == ()
        assert kept(house) == {}
        house.clock.step_wall(2 * 3_600_000)
        await house.passes(5.0)
        assert len(asked_why(house)) == 4
        assert not [e for e in house.events if WHY in str(e)], "the text is in no event"
        assert house.all_settled()


@pytest.mark.parametrize("said", [False, True])
async def test_over_a_kill(said: bool) -> None:
    """Asked or explained, it is there again, once; the reminder, too."""
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref = house.newest()
        if said:
            await explain(house)
        await house.restart()
        (waiting,) = house.core.challenges.waiting()
        assert (waiting.check, waiting.state) == (ref, "answered" if said else "open")
        await house.passes(305.0)
        assert len(asked_why(house)) == 1
        if not said:
            await explain(house, ref=ref)
            await house.restart()
        await house.core.challenges.review(ref, SUPERVISOR, enough=True)
        await house.restart()
        assert house.core.challenges.waiting() == ()
        assert [r.detail for r in house.on_record("challenged")] == ["random", "answered"]


async def test_overdue_goes_to_supervisors_and_may_still_be_explained() -> None:
    """After 24 h, once, on record as soon as the ledger can; it lasts over a kill."""
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref = house.newest()
        house.clock.step_wall(round(23.9 * 3_600_000))
        await house.passes(2.0)
        assert states(house) == ["open"]
        house.ledger.down = True
        house.clock.step_wall(400_000)
        await house.passes(3.0)
        assert states(house) == ["open", "overdue"]
        house.ledger.down = False
        await house.passes(3.0)
        assert [r.detail for r in house.on_record("challenged")] == ["random", "overdue"]
        await house.restart()
        assert [c.state for c in house.core.challenges.waiting()] == ["overdue"]
        await explain(house, ref=ref)
        assert [c.state for c in house.core.challenges.waiting()] == ["answered"]


async def test_an_explanation_while_an_older_write_waits_is_what_stands() -> None:
    """Overdue waits for the ledger when the officer explains: its row must not come back as it
    was."""
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref = house.newest()
        challenge = house.core.challenges.waiting()[0]
        house.core.challenges.tick(0.0, challenge.due_ms)
        assert house.core.challenges.unrecorded == 1
        await explain(house, ref=ref)
        await house.core.challenges.record()
        await house.restart()
        assert [(c.state, c.text) for c in house.core.challenges.waiting()] == [("answered", WHY)]


async def test_only_whoever_asked_explains_from_whatever_radio() -> None:
    """Another officer with the right reference finds nothing; the radio's next holder hears and
    finds nothing; a radio that nobody holds neither. Later, from another radio, it is noted."""
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref = house.newest()
        await explain(house, ref=ref, issi=OTHER)
        assert asked_why(house, OTHER) == ["NOTHING TO EXPLAIN"]
        house.core.apply(always(other_holder(house.config)))
        await house.passes(400.0)
        await explain(house, ref=ref)
        assert asked_why(house) == ["NOTHING TO EXPLAIN"]
        house.core.apply(always(unbooked(house.config)))
        await explain(house, ref=ref)
        assert asked_why(house)[-1] == "NOTHING TO EXPLAIN"
        assert states(house) == ["open"]
        house.core.apply(always())
        await house.passes(61.0)
        assert asked_why(house)[-1].endswith("AND WHY")
        await explain(house, ref=ref)
        assert states(house) == ["open", "answered"]


async def test_what_cannot_be_recorded_is_not_noted() -> None:
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref = house.newest()
        house.ledger.down = True
        await explain(house, ref=ref)
        assert asked_why(house) == ["NOT RECORDED. SEND AGAIN"]
        assert states(house) == ["open"]
        house.ledger.down = False
        await explain(house, ref=ref)
        assert asked_why(house)[-1].endswith("NOTED")


async def test_a_review_is_of_what_was_said_and_not_by_who_asked() -> None:
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref, desk = house.newest(), house.core.challenges
        with pytest.raises(KeyError):
            await desk.review("ZZZZ", SUPERVISOR, enough=True)
        with pytest.raises(ValueError, match="NOT EXPLAINED YET"):
            await desk.review(ref, SUPERVISOR, enough=True)
        await explain(house, ref=ref)
        with pytest.raises(ValueError, match="NOT BY WHOEVER ASKED"):
            await desk.review(ref, Actor(id="1001"), enough=True)
        assert house.on_record("reviewed") == []
        await desk.review(ref, SUPERVISOR, enough=True)
        with pytest.raises(KeyError):
            await desk.review(ref, SUPERVISOR, enough=True)
        assert len(house.on_record("reviewed")) == 1


async def test_what_nobody_reviews_leaves_the_list_on_record() -> None:
    async with House(always()) as house:
        await house.ask("TE99ABC")
        house.clock.step_wall(round(31.5 * DAY_S * 1000))
        await house.passes(3.0)
        await house.passes(3.0)
        assert house.core.challenges.waiting() == ()
        assert [r.detail for r in house.on_record("challenged")] == [
            "random",
            "overdue",
            "never reviewed",
        ]
        assert kept(house) == {}


async def test_a_row_that_cannot_be_read_costs_itself() -> None:
    async with House(always()) as house:
        await house.ask("TE99ABC")
        await house.ask("TE99ABD")
        key, row = next(iter(kept(house).items()))
        house.disk.kept[key] = msgspec.structs.replace(row, body=b"{")
        await house.restart()
        assert len(house.core.challenges.waiting()) == 1


async def test_more_than_can_be_kept_is_on_record_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(challenges, "MOST", 2)
    async with House(always()) as house:
        for n in range(4):
            await house.ask(f"TE99AB{n}")
        assert len(house.on_record("challenged")) == 4
        assert len(house.core.challenges.waiting()) == len(kept(house)) == 2
        assert house.meter.total("queue_dropped_total", queue="challenge", reason="full") == 2


def test_only_supervisors_hear_of_it() -> None:
    event = ChallengeChanged(
        short="C7F3", check="01C7F3", terminal=ISSI, state="open", due_ms=1, t_ms=0
    )
    rights = frozenset({"class", "callsign", "identity", "message", "audit", "covert"})
    assert visible(Viewer(id="a", kind="console", rights=rights), event) is None
    assert visible(Viewer(id="s", kind="console", rights=rights | {"supervise"}), event) == event


async def test_supervisors_review_what_they_may_see() -> None:
    """The board shows and takes a review only to whom the event would be shown."""
    seeing = frozenset({"supervise", "identity"})
    async with House(always()) as house:
        await house.ask("TE99ABC")
        ref, board = house.newest(), house.core.board
        await explain(house)
        supervisor = Viewer(id="s.tester", kind="console", rights=seeing)
        other = Viewer(id="o.tester", kind="console", rights=seeing - {"supervise"})
        (waits,) = board.to_review(supervisor)
        assert (waits.text, waits.officer, waits.cause) == (WHY, "1001", "random")
        assert board.to_review(other) == ()
        with pytest.raises(KeyError):
            await board.review(other, ref, Actor(id="o.tester"), True, "")
        assert house.on_record("reviewed") == []
        await board.review(supervisor, ref[-4:], SUPERVISOR, True, "")
        assert board.to_review(supervisor) == ()


async def test_any_history_of_one_challenge_ends_as_it_is_on_record() -> None:
    """Kill, outage, explanation and review in any order: what stands after a kill is what the
    records say."""
    for order in itertools.permutations(("kill", "explain", "overdue", "review")):
        async with House(always()) as house:
            await house.ask("TE99ABC")
            ref = house.newest()
            for act in order:
                match act:
                    case "kill":
                        await house.restart()
                    case "explain":
                        await explain(house, ref=ref)
                    case "overdue":
                        house.clock.step_wall(25 * 3_600_000)
                        await house.passes(2.0)
                    case _:
                        try:
                            await house.core.challenges.review(ref, SUPERVISOR, enough=True)
                        except ValueError:
                            continue
            await house.restart()
            details = [r.detail for r in house.on_record("challenged", ref)]
            reviewed = house.on_record("reviewed", ref)
            left = [c.state for c in house.core.challenges.waiting()]
            if reviewed:
                assert left == []
            else:
                assert left == [{"random": "open"}.get(details[-1], details[-1])]
