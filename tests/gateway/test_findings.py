"""Faults of a TOML file: all of them, each at its place and on its line, without its value."""

from __future__ import annotations

import tomllib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.findings import Lines, faults, nearest, spelt
from gateway.rulebook import Fleet
from gateway.settings import Settings

TEXT = """\
# [http] in a comment is no table
top = 1
[http]
host = "127.0.0.1"
# port = 1
port = 8080   # with a word behind

[[mqtt]]
name = "one"
[[mqtt]]
  name = 'two'
  port = 1883
[statuses]
"1" = "AVL"
12 = "BSY"
[device_classes.phone]
budget = 140
inline = { a = 1 }
dotted.inner = 1
"""


def test_each_place_has_its_line() -> None:
    lines = Lines(TEXT)
    for place, line in (
        (("top",), 2),
        (("http",), 3),
        (("http", "port"), 6),
        (("mqtt", 0, "name"), 9),
        (("mqtt", 1, "port"), 12),
        (("statuses", "1"), 14),
        (("statuses", "12"), 15),
        (("device_classes", "phone", "budget"), 17),
        (("device_classes", "phone", "inline", "a"), 18),
        (("device_classes", "phone", "dotted", "inner"), 19),
        (("mqtt", 1, "missing"), 10),
    ):
        assert lines.of(place) == line, place
    assert lines.of(("nowhere",)) is None


def test_a_finding_is_told_with_its_line_if_that_can_be_known() -> None:
    lines = Lines(TEXT)
    assert lines.told("mqtt two: port: why") == "mqtt two: port: why (line 12)"
    assert lines.told("mqtt[1].port: why") == "mqtt[1].port: why (line 12)"
    assert lines.told("device_classes.phone: why") == "device_classes.phone: why (line 16)"
    for plain in ("link name a: used twice", "critical and high: too many", "mqtt three: port: x"):
        assert lines.told(plain) == plain


def test_every_fault_is_found_at_once() -> None:
    """Unknown keys, missing ones and wrong types, at any depth."""
    raw = tomllib.loads(
        "[http]\nhots = 'a'\nport = 'b'\n[checks.deadlines_s]\nperson = 'c'\n[[mqtt]]\nfeed = 1"
    )
    found = {spelt(place): reason for place, reason in faults(raw, Settings)}
    assert found == {
        "http.hots": "unknown; did you mean host?",
        "http.port": "Expected int, got str",
        "checks.deadlines_s.person": "Expected float, got str",
        "mqtt[0].feed": "Expected bool, got int",
        "mqtt[0].name": "missing",
    }


@pytest.mark.parametrize("value", ["", "abc"])
def test_a_word_is_no_list_of_its_letters(value: str) -> None:
    """As one it passed here, and left `load` as an error of its own: on a reload, an end."""
    found = {spelt(place): reason for place, reason in faults({"agencies": value}, Fleet)}
    assert found["agencies"] == "Expected array, got str"


def test_nothing_near_names_what_there_is() -> None:
    assert nearest("zzz", ["b", "a"]) == "known are a, b"


TOML_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("name", "port", "budget", "zz")), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(("gateway", "checks", "mqtt", "serial", "version", "device_classes")),
        TOML_VALUES,
    )
)
@example({"mqtt": ""})
def test_no_fault_means_that_it_converts_and_the_other_way_round(raw: dict[str, object]) -> None:
    """The walk agrees with msgspec itself: neither lets through what the other refuses."""
    for type_ in (Settings, Fleet):
        try:
            msgspec.convert(raw, type_)
            good = True
        except msgspec.ValidationError:
            good = False
        assert good == (list(faults(raw, type_)) == [])


@given(
    st.text(max_size=400) | st.lists(st.sampled_from(TEXT.splitlines()), max_size=30).map("\n".join)
)
def test_no_text_makes_the_search_for_lines_fail(text: str) -> None:
    lines = Lines(text)
    line = lines.of(("mqtt", 1, "port"))
    assert line is None or 1 <= line <= len(text.splitlines())
    lines.told(text)
