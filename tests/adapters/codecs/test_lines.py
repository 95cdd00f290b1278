"""The bounded splitter: every way to end a line, and what is too long."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codecs.lines import TOO_LONG, LineSplitter


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r", b"\r\r\n"])
def test_every_line_end(end: bytes) -> None:
    assert LineSplitter(10).feed(b"ONE" + end + b"TWO" + end) == [b"ONE", b"TWO"]


def test_an_end_that_is_split_in_two_is_one() -> None:
    lines = LineSplitter(10)
    assert lines.feed(b"ONE\r") == [b"ONE"]
    assert lines.feed(b"\nTWO\r") == [b"TWO"]


def test_the_limit_itself_is_not_too_long() -> None:
    lines = LineSplitter(10)
    assert lines.feed(b"A" * 10 + b"\n") == [b"A" * 10]
    assert lines.feed(b"A" * 11 + b"\n") == [TOO_LONG]


def test_a_long_line_is_told_once_and_skipped_to_its_end() -> None:
    lines = LineSplitter(10)
    assert lines.feed(b"A" * 11) == [TOO_LONG]
    assert len(lines) == 0
    assert lines.feed(b"A" * 1000) == []
    assert lines.feed(b"TAIL\nGOOD\n") == [b"GOOD"]


@given(
    pieces=st.lists(st.sampled_from([b"A", b"BB", b"\r", b"\n", b"C" * 9]), max_size=30),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)
def test_it_says_what_splitting_everything_at_once_would_say(
    pieces: list[bytes], cuts: list[int]
) -> None:
    """An independent reading: split by ends, leave out empty ones, replace those over the limit."""
    data = b"".join(pieces) + b"\n"
    expected = [
        line if len(line) <= 12 else TOO_LONG
        for line in data.replace(b"\r", b"\n").split(b"\n")
        if line
    ]
    lines, found = LineSplitter(12), []
    for start, end in itertools.pairwise(
        sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    ):
        found += lines.feed(data[start:end])
    assert found == expected
