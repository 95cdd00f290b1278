"""The journal: listed events, listed fields, fit values; nothing personal, no flood."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from adapters.observers.journal import EVENTS, PER_SECOND, UNLISTED, StructJournal
from gateway.log_words import LogEvent, LogFields
from tests.fakes import FakeMeter

ROOT = Path(__file__).parents[3]


class Book:
    """A journal on a stream that can be read back."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.meter = FakeMeter()
        self.now_s = 10.0
        self.journal = StructJournal(
            self.stream,
            meter=self.meter,
            wall_ms=lambda: 1_795_325_047_120,
            monotonic_s=lambda: self.now_s,
        )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def book() -> Iterator[Book]:
    made = Book()
    yield made
    made.journal.close()


def test_a_line_is_one_json_object_with_utc_time(book: Book) -> None:
    """Time, event, level and the fields, one line each."""
    book.journal.note("check.done", check="01X", kind="vehicle", outcome="answered", elapsed_ms=12)
    book.journal.warn("link.down", link="serial-south", reason="no carrier")
    assert book.lines() == [
        {
            "t": "2026-11-22T05:24:07.120Z",
            "event": "check.done",
            "level": "info",
            "check": "01X",
            "kind": "vehicle",
            "outcome": "answered",
            "elapsed_ms": 12,
        },
        {
            "t": "2026-11-22T05:24:07.120Z",
            "event": "link.down",
            "level": "warning",
            "link": "serial-south",
            "reason": "no carrier",
        },
    ]


def test_an_unlisted_field_is_left_out_and_counted(book: Book) -> None:
    """There is no field for a person, a terminal, a plate or a place."""
    personal: dict[str, Any] = {
        "issi": "4001",
        "terminal": "4001",
        "callsign": "S-214",
        "surname": "CANARY",
        "vrm": "TE99ABC",
        "lat": 52.5725,
        "dob": "1980-01-15",
    }
    book.journal.note("check.opened", check="01X", **personal)
    [line] = book.lines()
    assert set(line) == {"t", "event", "level", "check"}
    assert book.meter.total("journal_dropped_total", reason="field") == len(personal)
    fields = set().union(*EVENTS.values())
    assert not fields & set(personal)


@pytest.mark.parametrize(
    "value", ["O'CANARY", "a\nb", "x" * 97, "Žluťoučký", "name@host", "{json}", "52\u00b0"]
)
def test_a_value_that_is_no_word_is_left_out(book: Book, value: str) -> None:
    """Sentences, names and payloads do not fit where a word is expected."""
    book.journal.note("check.done", check="01X", reason=value)
    assert "reason" not in book.lines()[0]
    assert book.meter.total("journal_dropped_total", reason="field") == 1


def test_an_unlisted_event_says_only_that_there_was_one(book: Book) -> None:
    """A defect shows up without letting anything through."""
    book.journal.note("officer.named", check="01X", surname="CANARY")
    [line] = book.lines()
    assert (line["event"], set(line)) == (UNLISTED, {"t", "event", "level"})
    assert book.meter.total("journal_dropped_total", reason="event") == 1


def test_identical_lines_are_limited_and_the_rest_is_summed_up(book: Book) -> None:
    """A storm of one cause is ten lines and one that says how many; others are not touched."""
    for n in range(14_862):
        book.journal.warn("task.restarted", task="link", error="OSError", attempt=n)
    book.journal.note("check.done", check="01X", elapsed_ms=1)
    assert len(book.lines()) == PER_SECOND + 1
    book.now_s += 1.0
    book.journal.warn("task.restarted", task="link", error="OSError")
    last = book.lines()[-2:]
    assert (last[0]["of"], last[0]["count"]) == ("task.restarted", 14_862 - PER_SECOND)
    assert last[1]["event"] == "task.restarted"
    assert book.meter.total("journal_dropped_total", reason="rate") == 14_862 - PER_SECOND


def test_different_checks_are_not_identical(book: Book) -> None:
    """Five hundred checks in a second are five hundred lines."""
    for n in range(500):
        book.journal.note("check.done", check=f"01X{n}", outcome="answered")
    assert len(book.lines()) == 500


def test_the_end_says_what_was_suppressed(book: Book) -> None:
    """What was left out in the last second is summed up on close."""
    for _ in range(15):
        book.journal.warn("loop.blocked", lag_ms=300)
    book.journal.close()
    assert book.lines()[-1]["count"] == 5


def test_a_stream_that_fails_costs_lines_only(book: Book) -> None:
    """A closed pipe or full disk is counted; whoever notes something goes on."""
    book.stream.close()
    book.journal.note("started", version="1")
    assert book.meter.total("journal_dropped_total", reason="stream") == 1


async def test_libraries_come_through_without_their_words(
    book: Book, capfd: pytest.CaptureFixture[str]
) -> None:
    """asyncio, aiohttp and aiomqtt keep name, level and exception class; no argument, message or
    traceback gets out, on this stream or on another."""
    book.journal.take_in_libraries()
    canary = "CANARY-TE99ABC"
    try:
        raise ValueError(canary)
    except ValueError:
        logging.getLogger("aiohttp.server").exception("request from %s failed", canary)
    logging.getLogger("mqtt").warning("lost %s", canary)
    logging.getLogger("aiohttp.access").warning("GET /%s", canary)
    logging.getLogger("mqtt").info("quiet %s", canary)

    async def fails() -> None:
        raise KeyError(canary)

    task = asyncio.ensure_future(fails())
    await asyncio.wait({task})
    asyncio.get_running_loop().call_exception_handler(
        {"message": canary, "exception": task.exception()}
    )
    book.journal.close()
    said = [(line["logger"], line["severity"], line["error"]) for line in book.lines()]
    assert said == [
        ("aiohttp.server", "error", "ValueError"),
        ("mqtt", "warning", None),
        ("asyncio", "error", "KeyError"),
    ]
    everything = book.stream.getvalue().decode() + "".join(capfd.readouterr())
    assert canary not in everything


def test_the_standard_logging_is_given_back(book: Book) -> None:
    """After close the root logger is as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    book.journal.take_in_libraries()
    assert root.handlers != before[0]
    book.journal.close()
    assert (root.handlers, root.level) == before


def test_what_mypy_lets_in_is_what_the_table_has() -> None:
    """The words of the port are those of the log: none is declared and then dropped, or the other
    way round."""
    assert set(get_args(LogEvent)) == set(EVENTS)
    assert set(LogFields.__annotations__) == set().union(*EVENTS.values())


REFUSED = (
    'journal.note("check.done", surname="TESTER")',
    'journal.note("somebody.asked", check="01X")',
    'journal.note("check.done", check=officer)',
    'journal.warn("check.done", **{"surname": "TESTER"})',
)


@pytest.mark.slow
def test_mypy_refuses_what_is_not_declared(tmp_path: Path) -> None:
    """An event, a field or a value that nobody declared does not pass our checks."""
    taken = 'journal.note("check.done", check="01X", attempt=1)'
    head = """from gateway.messages import Asker
from gateway.ports import Journal

def say(journal: Journal, officer: Asker) -> None:
"""
    lines = [taken, *REFUSED]
    source = tmp_path / "said.py"
    source.write_text(head + "".join(f"    {line}\n" for line in lines))
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(source)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    faulty = {int(number) for number in re.findall(r"said\.py:(\d+): error", told.stdout)}
    assert faulty == {6, 7, 8, 9}, told.stdout


def test_every_note_in_the_source_is_in_the_table() -> None:
    """Event and fields of each call stand in EVENTS, so that none is lost unseen."""
    faults, found = [], 0
    for folder in ("gateway", "adapters"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                of = node.func.value
                owner = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
                if node.func.attr not in ("note", "warn") or owner not in ("journal", "_journal"):
                    continue
                found += 1
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                events = [
                    str(part.value)
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                given = {word.arg for word in node.keywords if word.arg}
                for event in events:
                    if event.endswith("."):  # f"delivery.{state}": every event of that family
                        family = [name for name in EVENTS if name.startswith(event)]
                        if not family or any(given - EVENTS[name] for name in family):
                            faults.append(f"{where}: {event}* {sorted(given)}")
                    elif given - EVENTS.get(event, frozenset()) or event not in EVENTS:
                        faults.append(f"{where}: {event} {sorted(given)}")
    assert faults == []
    assert found > 10, "the search finds calls"
