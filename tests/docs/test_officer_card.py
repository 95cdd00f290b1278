"""The officer's card shows the screens that the program makes, and the limits that it keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters import pnc
from adapters.codecs import keysds
from gateway import policy, rendering
from gateway.messages import (
    CheckRequest,
    MalformedCheck,
    Outcome,
    PncQuery,
    ResultClass,
    search_key,
)
from gateway.policy import View
from gateway.settings import ChecksSection, PncSection
from simulators.handset import SENT_WITHIN_S
from tests.docs.pages import ROOT, blocks
from tests.gateway.strategies import AS_OF_MS, CONFIG, POLICY, WARNINGS, asker

CARD = ROOT / "docs" / "officer-card.md"
TEXT = CARD.read_text("utf-8")
SCREENS = [
    (block.mark.removeprefix("screen: "), block.text.rstrip("\n"))
    for block in blocks(CARD)
    if block.mark.startswith("screen: ")
]
NO_ANSWER = "no answer"


class Stopped:
    """A clock and ids that stand still."""

    counter = ""

    def wall_ms(self) -> int:
        return AS_OF_MS

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...

    def uniform(self, low: float, high: float) -> float:
        return low

    def check(self) -> str:
        return "01C7F3"

    receipt = occurrence = check


async def view_of(request: CheckRequest) -> View:
    """What a constable sees of the mock's answer."""
    stopped = Stopped()
    mock = pnc.create(
        "mock",
        settings=PncSection(),
        config_path=Path(CONFIG) / "gateway.toml",
        clock=stopped,
        ids=stopped,
    )
    answer = await mock.query(
        PncQuery(
            check="01C7F3",
            attempt=1,
            key=request.key,
            key_text=search_key(request.key),
            reason=request.reason,
            justification="",
            originator="PC1001 TESTER/1",
            location="",
            on_behalf_of="",
            asked_at_ms=AS_OF_MS,
            deadline_s=15.0,
        )
    )
    decision = policy.may_ask(POLICY, asker("constable"), request)
    return policy.project(POLICY, decision, request, answer, WARNINGS)


@pytest.mark.parametrize(("typed", "screen"), SCREENS, ids=[typed for typed, _ in SCREENS])
async def test_each_screen_is_the_first_page_that_is_made(typed: str, screen: str) -> None:
    if typed == NO_ANSWER:
        asked = keysds.parse("V ER99TMT R1")
        assert isinstance(asked, CheckRequest)
        view = policy.without_answer(Outcome.EXPIRED, ResultClass.TIMEOUT, "PNC NO REPLY", asked)
    else:
        asked = keysds.parse(typed)
        assert isinstance(asked, CheckRequest)
        view = await view_of(asked)
    pages = rendering.screens(view, short="C7F3", clock_text="05:24")
    assert screen == "\n".join(line.rstrip() for line in pages[0].splitlines())


def test_danger_doubt_no_trace_and_no_answer_are_all_shown() -> None:
    firsts = [screen[:2] for _, screen in SCREENS]
    assert firsts.count("!!") >= 2
    assert "??" in firsts
    assert any(screen.startswith("NO TRACE") for _, screen in SCREENS)
    assert any(typed == NO_ANSWER and "NO TRACE" not in screen for typed, screen in SCREENS)


def test_what_the_card_says_to_type_is_understood() -> None:
    """The examples of the first table, each as it stands."""
    table = TEXT[TEXT.index("## Ask") : TEXT.index("## Read")]
    typed = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    assert len(typed) >= 4
    for line in typed:
        assert not isinstance(keysds.parse(line), MalformedCheck), line


def test_the_reasons_are_those_of_the_policy() -> None:
    """Every code that the card gives is on the list that ships."""
    line = TEXT[TEXT.index("`R` is the reason") : TEXT.index("You may add")]
    codes = re.findall(r"`(\d)`", line)
    assert codes == sorted(codes)
    assert set(codes) <= set(POLICY.reasons)


def test_the_times_are_those_that_are_kept() -> None:
    assert f"No SENT within {SENT_WITHIN_S:.0f} seconds: it was not received. Use voice." in TEXT
    assert f"waits {ChecksSection().stale_s / 60:.0f} minutes" in TEXT


def test_it_is_one_page() -> None:
    assert len(TEXT.splitlines()) <= 100
