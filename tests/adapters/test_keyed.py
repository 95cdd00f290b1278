"""The key of this instance: made once, for us alone, and what it says depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.keyed import KEY_BYTES, NAME, KeyedDigest, open_keyed
from gateway.errors import LedgerUnavailable
from gateway.ports import Keyed


def test_the_key_is_made_once_for_us_alone(tmp_path: Path) -> None:
    first: Keyed = open_keyed(tmp_path)
    path = tmp_path / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == KEY_BYTES
    assert [each.name for each in tmp_path.iterdir()] == [NAME]
    assert open_keyed(tmp_path)("a", "x") == first("a", "x")


def test_another_instance_says_something_else(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert open_keyed(tmp_path)("a", "x") != open_keyed(tmp_path / "other")("a", "x")


@given(a=st.tuples(st.text(), st.text()), b=st.tuples(st.text(), st.text()))
def test_equal_is_equal_and_nothing_else(a: tuple[str, str], b: tuple[str, str]) -> None:
    keyed = KeyedDigest(b"k" * KEY_BYTES)
    assert (keyed(*a) == keyed(*b)) == (a == b)


def test_no_purpose_and_text_are_taken_for_another_pair() -> None:
    keyed = KeyedDigest(b"k" * KEY_BYTES)
    assert keyed("ab", "c") != keyed("a", "bc")
    assert keyed("a", "\0b") != keyed("a\0", "b")


def test_a_lone_surrogate_is_a_text_too() -> None:
    assert KeyedDigest(b"k" * KEY_BYTES)("a", "\ud800")


@pytest.mark.parametrize("held", [b"", b"k" * (KEY_BYTES - 1), b"k" * (KEY_BYTES + 1)])
def test_a_file_that_is_no_key_is_named_and_kept(tmp_path: Path, held: bytes) -> None:
    (tmp_path / NAME).write_bytes(held)
    with pytest.raises(LedgerUnavailable, match=NAME):
        open_keyed(tmp_path)
    assert (tmp_path / NAME).read_bytes() == held


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(LedgerUnavailable, match=NAME):
        open_keyed(tmp_path)
