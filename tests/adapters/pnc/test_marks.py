"""Registration marks: the classes of pnc-domain 7.2, and that none is ever refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pnc import marks


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ("TE99ABC", "current"),
        ("TE02ABC", "current"),
        ("TE00ABC", "other"),
        ("TE01ABC", "other"),
        ("TE50ABC", "other"),
        ("TI99ABC", "other"),
        ("TE99ABI", "other"),
        ("TE99ABZ", "current"),
        ("K123ABC", "prefix"),
        ("K1ABC", "prefix"),
        ("K0123ABC", "other"),
        ("U123ABC", "other"),
        ("ABC123K", "suffix"),
        ("ABC123U", "other"),
        ("ABC1", "dateless"),
        ("1ABC", "dateless"),
        ("AB1234", "dateless"),
        ("1234AB", "dateless"),
        ("1234ABC", "other"),
        ("AIZ1234", "northern-ireland"),
        ("IAZ1234", "other"),
        ("Q123ABC", "q-plate"),
        ("101D234", "diplomatic"),
        ("101X234", "diplomatic"),
        ("12AB34", "military"),
        ("12345", "trade"),
        ("012AB", "trade"),
        ("U123TST", "other"),
        ("TST123U", "other"),
        ("ZZZZZZZZZZ", "other"),
        ("TE٩٩ABC", "other"),
    ],
)
def test_classes(mark: str, kind: str) -> None:
    """A digit of another script is no digit: it would find no record and read as one."""
    assert marks.classify(mark) == kind


@pytest.mark.parametrize(
    ("mark", "meant"),
    [
        ("TE9OABC", "TE90ABC"),
        ("TE9IABC", "TE91ABC"),
        ("TEZ9ABC", "TE29ABC"),
        ("TES2ABC", "TE52ABC"),
        ("TEB9ABC", "TE89ABC"),
        ("TE998BC", "TE99BBC"),
        ("TE99ABC", None),
        ("K123ABC", None),
        ("TEOOABC", None),
        ("ZZZZZZZZZZZZ", None),
    ],
)
def test_a_likely_misreading_is_offered(mark: str, meant: str | None) -> None:
    """O/0, 1/I, Z/2, S/5, B/8, one at a time; never for a mark that is right as it stands."""
    assert marks.look_alike(mark) == meant


@pytest.mark.parametrize("written", [" te99-abc ", "TE99 ABC", "te99\tabc", "T-E-9-9-A-B-C"])
def test_normalise(written: str) -> None:
    assert marks.normalise(written) == "TE99ABC"


@given(st.text(max_size=15))
def test_no_mark_is_refused(text: str) -> None:
    """Whatever is typed has a class, and normalising twice changes nothing."""
    mark = marks.normalise(text)
    assert marks.classify(mark)
    assert marks.normalise(mark) == mark
    meant = marks.look_alike(mark)
    assert meant is None or marks.classify(meant) == "current"


@given(st.from_regex(r"[A-HJ-PR-Y]{2}[0-9]{2}[A-HJ-PR-Z]{3}", fullmatch=True))
def test_a_mark_of_the_current_form_is_current_unless_never_issued(mark: str) -> None:
    never = re.fullmatch(r"..(00|01|50)...", mark) is not None
    assert (marks.classify(mark) == "current") is not never
