"""Are you free to speak: danger words go with the prompt, the rest waits for the officer.

Through the real core (house.py). That nobody is asked below L3: test_below_l3.py.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import rendering
from gateway.errors import PncGarbled
from gateway.messages import CheckStaged, Notice, Outcome, Privacy
from gateway.policy import View
from gateway.results import Shown
from gateway.settings import Config
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config, other_holder
from tests.gateway.strategies import WARNINGS
from tests.gateway.test_checks import with_rule


def prompting(**checks: object) -> Config:
    return with_rule(config(**checks), prompt=True)


async def test_danger_words_go_with_the_prompt_and_are_on_record_before_it() -> None:
    """Phase 1 is a disclosure of its own; the second stands before the content."""
    async with House(prompting()) as house:
        await house.ask("TE99STV")
        assert house.story[-2:] == ["answered+disclosed", "sent notice"]
        (asked,) = house.notices
        assert asked.danger == ("STOLEN", "VIOLENT OCCUPANT")
        assert "!!STOLEN !!VIOLENT OCCUPANT" in asked.text
        assert asked.text.endswith("FREE TO SPEAK? ACK 15")
        (told,) = house.on_record("disclosed")
        assert told.recipient == f"police:1001@{ISSI}"
        assert set(told.fields) == {"stolen", "warnings"}
        assert told.content == msgspec.json.encode(asked)
        assert house.results == []
        await house.status(15)
        assert house.story[-2:] == ["disclosed", "sent result"]
        assert len(house.on_record("disclosed")) == 2
        assert [r.outcome for r in house.results] == [Outcome.ANSWERED]


async def test_hit_and_clear_are_asked_alike() -> None:
    """As many records, as many messages, at the same moments: only the words differ."""
    seen = []
    for mark in ("TE99STV", "TE99AAB", "TE99AAA"):
        async with House(prompting()) as house:
            await house.ask(mark)
            await house.passes(45)
            house.say(Privacy(free=False))
            await house.passes(130)
            house.say(Privacy(free=True))
            await settle()
            # What the control room is alarmed of, no terminal hears.
            story = [each for each in house.story if each != "alarm"]
            seen.append((story, [n.kind for n in house.notices]))
    assert seen[0] == seen[1] == seen[2]


async def test_a_failure_is_never_asked_about() -> None:
    async with House(prompting()) as house:
        house.pnc.always = PncGarbled("malformed")
        await house.ask()
        assert house.notices == []
        assert [r.outcome for r in house.results] == [Outcome.FAILED]


async def test_only_where_the_device_class_asks() -> None:
    base = prompting()
    classes = {
        name: msgspec.structs.replace(each, privacy_prompt=False)
        for name, each in base.fleet.device_classes.items()
    }
    fleet = msgspec.structs.replace(base.fleet, device_classes=classes)
    async with House(msgspec.structs.replace(base, fleet=fleet)) as house:
        await house.ask("TE99ABC")
        assert house.notices == []
        assert len(house.results) == 1


async def test_not_free_is_reminded_each_minute() -> None:
    """10, 20, 40 s while nothing is heard; 60 s once they said that they are not free."""
    async with House(prompting()) as house:
        await house.ask("TE99ABC")
        await house.passes(15)
        assert len(house.notices) == 2
        house.say(Privacy(free=False))
        await settle()
        for reminders in (0, 1, 2, 3):
            assert len(house.notices) == 2 + reminders
            assert {n.danger for n in house.notices} == {("STOLEN",)}
            await house.passes(60)
        staged = [e.stage for e in house.events if isinstance(e, CheckStaged)]
        assert staged[-2:] == ["prompted", "not_free"]
        house.say(Privacy(free=True))
        await settle()
        assert len(house.results) == 1


async def test_an_answer_to_the_prompt_may_name_its_check() -> None:
    async with House(prompting()) as house:
        await house.ask("TE99ABC")
        first = house.newest()
        await house.ask("TE99AAB")
        house.say(Privacy(free=True, check="nobodys"))
        await settle()
        assert house.results == []
        house.say(Privacy(free=True, check=first[-4:]))
        await settle()
        assert [r.check for r in house.results] == [first]
        assert house.all_settled()


async def test_a_prompt_is_said_to_its_officer_alone() -> None:
    """The terminal changes hands between two reminders."""
    async with House(prompting()) as house:
        await house.ask("TE99ABC")
        await house.passes(5)
        house.core.apply(other_holder(house.config))
        await house.passes(60)
        assert len(house.notices) == 1


async def test_after_a_restart_it_is_asked_in_the_same_words() -> None:
    async with House(prompting()) as house:
        await house.ask("TE99STV")
        await house.restart()
        first, again = house.notices
        assert first == again
        assert len(house.on_record("disclosed")) == 1
        await house.status(15)
        assert len(house.results) == 1


async def test_the_outcome_is_shown_before_the_disk_has_it_to_nobody() -> None:
    """While the record hangs: neither a prompt nor a danger word."""
    async with House(prompting()) as house:
        hang = house.pnc.hang()
        await house.ask("TE99STV")
        house.ledger.gate.clear()
        hang.answer()
        await settle()
        assert house.heard(Notice) == []
        house.ledger.gate.set()
        await settle()
        assert [n.kind for n in house.notices] == ["waiting"]


# --------------------------------------------------------------------------- its words

_WORDS = [
    Shown(each.word, each.base, each.short)
    for table in (WARNINGS.codes, WARNINGS.circulations, WARNINGS.reports)
    for each in table.values()
    if each.severity in {"critical", "high"}
]


@given(
    dangers=st.lists(st.sampled_from(_WORDS), unique_by=lambda w: w.text),
    several=st.integers(0, 12),
    budget=st.sampled_from([73, 79, 140]),
)
def test_every_danger_word_stands_before_the_question(
    dangers: list[Shown], several: int, budget: int
) -> None:
    """In any number, in one message of the smallest device: in full, alone or in three letters."""
    view = View(
        outcome=Outcome.ANSWERED,
        result_class="MULTIPLE" if several > 1 else "HIT_CRITICAL",
        candidates=several,
        dangers=tuple(dangers),
    )
    text = rendering.waiting_text("C7F3", view, budget=budget)
    assert len(text.encode()) <= budget
    assert text.startswith("C7F3 ")
    assert text.endswith("ACK 15")
    said = text.replace("!!", "")
    for word in dangers:
        assert any(form in said for form in (word.text, word.base, word.short)), word


def test_without_danger_it_says_that_a_result_waits() -> None:
    view = View(outcome=Outcome.ANSWERED, result_class="NO_TRACE")
    text = rendering.waiting_text("C7F3", view, budget=73)
    assert text == "C7F3 >>RESULT WAITING. FREE TO SPEAK? ACK 15"


@pytest.mark.parametrize("issi", [ISSI])
async def test_a_released_answer_is_prompted_with_its_danger_words(issi: str) -> None:
    """Hold and prompt: who released it is on record with phase 1."""
    async with House(with_rule(config(), prompt=True, hold=True)) as house:
        await house.ask("TE99STV")
        assert [n.kind for n in house.notices] == ["held"]
        house.rules_on(house.newest())
        await settle()
        assert house.story[-2:] == ["released+disclosed", "sent notice"]
        assert house.notices[-1].danger == ("STOLEN", "VIOLENT OCCUPANT")
        await house.passes(11)
        assert len(house.notices) == 3, "reminded as if it had just come"
        await house.status(15, issi=issi)
        assert len(house.results) == 1


async def test_released_late_it_can_still_be_had() -> None:
    """Ten minutes are its officer's, not those that control took."""
    async with House(with_rule(config(), prompt=True, hold=True)) as house:
        await house.ask("TE99STV")
        await house.passes(590)
        house.rules_on(house.newest())
        await house.passes(300)
        await house.status(15)
        assert len(house.results) == 1
