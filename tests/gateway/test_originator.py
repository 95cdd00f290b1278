"""The originator line: 53 characters that always name who asks."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import originator
from gateway.messages import Asker
from tests.gateway.strategies import asker

CHARSET = re.compile(r"[A-Z0-9 /.\-()'&]+\Z")


def officer(**more: str) -> Asker:
    held: Asker = msgspec.structs.replace(
        asker("constable"), rank="PC", officer="1234", surname="TESTER", **more
    )
    return held


def test_the_example_of_the_reference() -> None:
    """pnc-domain 9.1, to the letter."""
    line = originator.line(officer(), reason="1", free="STOP BRIDGE ST", location="PE1 1HG")
    assert line == "PC1234 TESTER/1 STOP BRIDGE ST/PE1 1HG"


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (53, "PC1234 TESTER/1 LIGHTS OUT ON THE BRIDGE/BRIDGE ST"),
        (40, "PC1234 TESTER/1 LIGHTS OUT ON/BRIDGE ST"),
        (26, "PC1234 TESTER/1/BRIDGE ST"),
        (22, "PC1234 TESTER/1/BRIDGE"),
        (16, "PC1234 TESTER/1"),
        (15, "PC1234 TESTER/1"),
        (14, "PC1234 TESTER"),
        (13, "PC1234 TESTER"),
    ],
)
def test_free_text_goes_first_then_place_then_reason(most: int, expected: str) -> None:
    """Trimmed in reverse priority; collar and surname are never cut."""
    line = originator.line(
        officer(), reason="1", free="LIGHTS OUT ON THE BRIDGE", location="BRIDGE ST", most=most
    )
    assert line == expected


def test_the_requester_must_be_named() -> None:
    """Without collar or surname, or without room for them, the check cannot be asked."""
    for missing in ({"officer": ""}, {"surname": " "}, {"surname": "\u200b"}):
        held = msgspec.structs.replace(officer(), **missing)
        with pytest.raises(originator.NoRequester):
            originator.line(held, reason="1")
    with pytest.raises(originator.NoRequester):
        originator.line(officer(), reason="1", most=12)


@given(
    st.text(max_size=30),
    st.text(max_size=10),
    st.text(max_size=60),
    st.text(max_size=60),
    st.integers(20, 60),
)
def test_any_text_fits(surname: str, reason: str, free: str, location: str, most: int) -> None:
    """Charset and length hold for any Unicode, three parts at most, requester always whole."""
    held = msgspec.structs.replace(officer(), surname=surname)
    try:
        line = originator.line(held, reason=reason, free=free, location=location, most=most)
    except originator.NoRequester:
        assume(False)
        return
    assert originator.LEAST <= len(line) <= most
    assert CHARSET.match(line)
    assert line.count("/") <= 2
    assert line.startswith("PC1234 ")
    assert line == line.strip()
    bare = originator.line(held, reason="", most=most)
    assert line.split("/")[0] == bare


WORDS = st.text("ABCDEFGHIJ 0123", max_size=30)


@given(WORDS, WORDS, st.text("0123456789", min_size=1, max_size=2), st.integers(14, 90))
def test_what_does_not_fit_goes_in_the_order_that_is_written_down(
    free: str, location: str, reason: str, most: int
) -> None:
    """9.1: nothing of the place is lost while a word of free text stands, nothing of the reason
    while anything of the place does, and nothing of the requester ever."""
    whole = originator.line(officer(), reason=reason, free=free, location=location, most=250)
    line = originator.line(officer(), reason=reason, free=free, location=location, most=most)
    if len(whole) <= most:
        assert line == whole
        return
    words, place = " ".join(free.split()), " ".join(location.split())
    # Without one blank of free text it is as short as it can be made without loss of the place.
    bare = originator.line(officer(), reason=reason, location=location, most=250)
    if len(bare) <= most:
        assert line.endswith(f"/{place}" if place else line)
        assert line.startswith(f"PC1234 TESTER/{reason}")
        kept = line.removeprefix(f"PC1234 TESTER/{reason}").removesuffix(f"/{place}").strip()
        assert words.startswith(kept)
        return
    assert bare.startswith(line), "no free text stands where the place was cut"
    if len(f"PC1234 TESTER/{reason}") <= most:
        assert line.startswith(f"PC1234 TESTER/{reason}")
    else:
        assert line == "PC1234 TESTER" or f"PC1234 TESTER/{reason}".startswith(line)


@pytest.mark.parametrize(
    ("lat", "lon", "text"),
    [
        (52.5725, -0.2431, "52.5725N 000.2431W"),
        (-0.00004, 179.99996, "00.0000S 180.0000E"),
        (90.0, -180.0, "90.0000N 180.0000W"),
    ],
)
def test_a_position_as_a_place(lat: float, lon: float, text: str) -> None:
    assert originator.position(lat, lon) == text
    assert f"/{text}" in originator.line(officer(), reason="1", location=text)
