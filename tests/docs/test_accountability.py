"""The page for the data-protection officer says what the program does: verbs, levels, lives."""

from __future__ import annotations

import re

from gateway.policy import may_ask
from gateway.ports import AUDIT_EVENTS, VERBS
from gateway.settings import HistorySection, LedgerSection
from simulators.radio import enquiry
from tests.docs.pages import ROOT, spans
from tests.gateway.strategies import POLICY, asker

PAGE = ROOT / "docs" / "accountability.md"
TEXT = PAGE.read_text("utf-8")
WORDS_MOST = 1_600
"""Two printed pages, tables and all."""


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind a text."""
    table = TEXT[TEXT.index(after) :].split("\n\n|", 1)[1].split("\n\n", 1)[0]
    lines = [line for line in ("|" + table).splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_it_is_two_pages() -> None:
    """One reads it to the end."""
    assert len(TEXT.split()) <= WORDS_MOST


def test_each_verb_lists_its_records() -> None:
    """The statute's six verbs, each with the events that the table of the code gives it."""
    told = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in rows("<!-- verbs -->")}
    meant: dict[str, set[str]] = {}
    for event, verb in VERBS.items():
        meant.setdefault(verb, set()).add(event)
    assert told == meant


def test_records_and_fields_named_exist() -> None:
    """No record or field is promised that no audit has."""
    without = TEXT[TEXT.index("Records without a verb") :].split("\n\n", 1)[0]
    events = set(re.findall(r"`(\w+)`", without))
    assert events
    assert events <= set(AUDIT_EVENTS) - set(VERBS)
    schema = (ROOT / "docs" / "schemas" / "audit-record.json").read_text("utf-8")
    for row in rows("<!-- verbs -->"):
        for field in re.findall(r"`(\w+)`", row[3]):
            assert f'"{field}"' in schema, field


def test_the_four_officers_get_the_levels_that_the_page_says() -> None:
    """Level by level as the sample policy decides for each of the four."""
    roles = {
        "constable": ("constable", "R1"),
        "PCSO": ("pcso", "R1"),
        "council parking officer": ("parking", "R8"),
        "fire officer": ("fire_safety", "R8"),
    }
    subjects = ("V TE99STV", "N TESTER/WANDA/06061988/F")
    table = rows("(`./run demo` shows it)")
    assert [row[0] for row in table] == list(roles)
    for who, *cells in table:
        role, reason = roles[who]
        for subject, cell in zip(subjects, cells, strict=True):
            said = re.findall(r"L\d", cell)
            asked = [f"{subject} {reason}", f"{subject} {reason} F"][: len(said)]
            officer = asker(role)
            levels = [may_ask(POLICY, officer, enquiry(text)).level for text in asked]
            assert said == [str(level) for level in levels], (who, subject)


def test_lives_are_those_of_the_settings() -> None:
    """The days that the page names are the defaults."""
    assert f"{LedgerSection().keep_days} days (`[ledger] keep_days`)" in TEXT
    assert f"{HistorySection().keep_days} days (`[history] keep_days`)" in TEXT


def test_every_command_named_exists() -> None:
    """`audit show`, `audit verify`: spelt as the command line has them."""
    help_text = (ROOT / "docs" / "interfaces.md").read_text("utf-8")
    for span in spans(PAGE):
        if span.startswith(("audit ", "radio-gateway audit ")):
            assert f"`{span.removeprefix('radio-gateway ')} " in help_text, span
