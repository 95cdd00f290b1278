"""docs/failure-modes.md: each row of the catalogue has its line, and each test named exists."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT
from tests.test_status import NODE, missing

PAGE = ROOT / "docs" / "failure-modes.md"
FAMILIES = {
    "Serial": ("S", 12),
    "TETRA, phones, receivers, trackers, relays": ("T", 12),
    "MQTT": ("M", 18),
    "PNC": ("P", 8),
    "Storage": ("D", 12),
    "Process": ("H", 15),
    "Console": ("W", 10),
}
"""Section: the letter of its rows, and how many the catalogue has."""
REASONS = ("Not built: ", "Judged elsewhere: ")


def lines(text: str) -> list[tuple[str, str, str, str]]:
    """Section, id, fault, and tests or reason of each line."""
    found = []
    for section in text.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        rows = re.findall(r"^\| ([A-Z]\d\d) \| (.+?) \| (.+) \|$", section, re.MULTILINE)
        found += [(title, *row) for row in rows]
    return found


@pytest.mark.parametrize("section", FAMILIES)
def test_every_row_of_the_catalogue_has_one_line(section: str) -> None:
    letter, number = FAMILIES[section]
    found = [id_ for title, id_, _, _ in lines(PAGE.read_text("utf-8")) if title == section]
    assert found == [f"{letter}{n:02}" for n in range(1, number + 1)]


def test_every_line_names_a_test_or_says_why_there_is_none() -> None:
    for _, id_, _, says in lines(PAGE.read_text("utf-8")):
        assert NODE.search(says) or says.startswith(REASONS), id_


def test_every_test_named_there_exists() -> None:
    assert missing(PAGE.read_text("utf-8")) == []


def test_no_line_of_the_tables_escapes_the_check() -> None:
    """A row that is not in the form would be passed over in silence."""
    text = PAGE.read_text("utf-8")
    table = [line for line in text.splitlines() if re.match(r"\| *[A-Z]\d", line)]
    assert len(table) == len(lines(text))
