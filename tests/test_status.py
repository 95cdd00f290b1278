"""docs/status.md is a list that one can check: its tests exist, and no statement is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STATUS = ROOT / "docs" / "status.md"
STATEMENTS = {
    "The main job, end to end": range(1, 15),
    "The main job, proven": range(1, 11),
    "Who may know what": range(1, 13),
    "Speak what real radios speak": range(1, 14),
}
"""Each issue's title, as its section begins, and its numbered statements; 12 of the third and 13 of
the fourth are what stands behind the numbers: demo, page, documents."""

NODE = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?(?:::(\w+))?`")


def rows(text: str) -> list[tuple[str, str, str, str]]:
    """Number, statement, tests and last measurement of each line of the table."""
    found = re.findall(r"^\| (\d+\.\d+) \| (.*) \| (.*) \| ?(.*) ?\|$", text, re.MULTILINE)
    return [(number, says, tests, seen.strip()) for number, says, tests, seen in found]


@cache
def defined_in(path: Path) -> set[tuple[str, str]]:
    """(class or empty, function) of every test that a file defines; read, not run."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        name = node.name if isinstance(node, ast.ClassDef) else ""
        found |= {
            (name, each.name)
            for each in inner
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            and each.name.startswith("test_")
        }
    return found


def missing(text: str) -> list[str]:
    """Every test named in the text that is not there."""
    absent = []
    for file, *names in NODE.findall(text):
        first, second = names
        path = ROOT / file
        wanted = (first, second) if second else ("", first)
        known = defined_in(path) if path.is_file() else set()
        if not known or (first and wanted not in known):
            absent.append("::".join(part for part in (file, first, second) if part))
    return absent


def test_every_test_named_there_exists() -> None:
    assert missing(STATUS.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "name", ["tests/test_gone.py", "tests/test_status.py::test_gone", "tests/test_status.py::X::y"]
)
def test_one_that_does_not_exist_is_found(name: str) -> None:
    assert missing(f"| 1.1 | says | `{name}` | |") == [name]


def sections() -> dict[str, str]:
    """The table of each issue, by the title that it begins with."""
    _, *parts = STATUS.read_text("utf-8").split("\n## ")
    assert len(parts) == len(STATEMENTS)
    return {
        title: part for title, part in zip(STATEMENTS, parts, strict=True) if part.startswith(title)
    }


@pytest.mark.parametrize("issue", STATEMENTS)
def test_every_statement_has_a_line_and_every_line_a_test(issue: str) -> None:
    lines = rows(sections()[issue])
    assert {int(number.split(".")[0]) for number, *_ in lines} == set(STATEMENTS[issue])
    numbers = [number for number, *_ in lines]
    assert len(set(numbers)) == len(numbers)
    assert numbers == sorted(numbers, key=lambda number: [int(part) for part in number.split(".")])
    for number, says, tests, seen in lines:
        assert says, number
        assert NODE.search(tests) or seen.startswith("not reached"), f"{number}: names no test"


def test_no_line_of_the_table_escapes_the_check() -> None:
    """A row that is not in the form would be passed over in silence."""
    text = STATUS.read_text("utf-8")
    table = [line for line in text.splitlines() if re.match(r"\| *\d", line)]
    assert len(table) == len(rows(text))
