"""The coach: words that say nothing do not pass, and whoever wrote them reads what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import coach
from gateway.rulebook import Coach, Reason
from tests.gateway.strategies import POLICY

ASKED = Reason(label="x", text_min=5)
SAMPLE = POLICY.coach
EMPTY = st.lists(st.sampled_from(SAMPLE.empty), max_size=20)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NO LIGHTS", ""),
        ("no lights, bridge st", ""),
        ("SEEN RUNNING FROM SHOP", ""),
        ("a routine check: driver smelt of drink", ""),
        ("INCIDENT 4711", ""),
        ("TÉMOIN BLESSÉ", ""),
        ("", "SAY WHY: 5 LETTERS"),
        ("  ..!!  ", "SAY WHY: 5 LETTERS"),
        ("DUI", "SAY WHY: 5 LETTERS"),
        ("водитель пьян", "SAY WHY: 5 LETTERS"),
        ("ROUTINE CHECK", "SAY WHAT YOU SAW"),
        ("routine-check!", "SAY WHAT YOU SAW"),
        ("N/A N/A", "SAY WHAT YOU SAW"),
        ("PNC CHECK AS REQUESTED, N/A", "SAY WHAT YOU SAW"),
        ("ASKED TO CHECK THE VEHICLE", "SAY WHAT YOU SAW"),
        ("AAAAA BBBBB", "SAY WHAT YOU SAW"),
        ("LIGHTS LIGHTS LIGHTS", "SAY WHAT YOU SAW"),
        ("NO LIGHTS " * 30, "WHY IS TOO LONG"),
    ],
)
def test_what_passes_and_what_is_missing(text: str, says: str) -> None:
    assert coach.judge(text, ASKED, SAMPLE) == says


def test_where_no_justification_is_asked_for_nothing_is_judged() -> None:
    assert coach.judge("", Reason(label="x"), SAMPLE) == ""


@given(EMPTY, st.integers(3, 250))
def test_no_heap_of_empty_words_says_anything(words: list[str], least: int) -> None:
    reason = Reason(label="x", text_min=least)
    assert coach.judge(" ".join(words), reason, SAMPLE) != ""


@given(EMPTY, EMPTY)
def test_empty_words_cost_nobody_the_rest(before: list[str], after: list[str]) -> None:
    """Polite or wordy: two words that tell something are enough, wherever they stand."""
    text = " ".join([*before[:8], "BROKEN WINDOW", *after[:8]])
    assert coach.judge(text[:250], ASKED, SAMPLE) == "" or "BROKEN WINDOW" not in text[:250]


@given(st.text(max_size=400), st.integers(0, 250), st.integers(1, 5))
def test_any_text_is_judged_in_words_for_a_small_screen(text: str, least: int, words: int) -> None:
    """Total, short, recognised as a denial, and never made of what was written."""
    reason = Reason(label="x", text_min=least)
    says = coach.judge(text, reason, Coach(least_words=words, empty=SAMPLE.empty))
    assert len(says) <= 20
    assert says == "" or coach.known(says)
    assert says in {"", coach.SAY_WHAT, coach.TOO_LONG, f"SAY WHY: {least} LETTERS"}
    assert coach.judge(text, reason, Coach(least_words=words, empty=SAMPLE.empty)) == says
