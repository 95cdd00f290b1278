"""Check letters: the public vectors of the domain reference, section 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pnc import identifiers as ids


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("81/34U", "1981/0000034U"),
        ("02/73319Z", "2002/0073319Z"),
        ("00/223R", "2000/0000223R"),
        ("79163001B", "1979/0163001B"),
        ("033Y", "2003/0000003Y"),
        ("67/9893091D", "1967/9893091D"),
        ("2099/0000002H", "2099/0000002H"),
    ],
)
def test_pncid_valid(written: str, canonical: str) -> None:
    assert ids.canonical_pncid(written, this_year=2026) == canonical


@pytest.mark.parametrize(
    "written",
    ["20030011985Z", "20120052494O", "20230583843N", "2001/0171310S", "1923[1234567A", "", "A"],
)
def test_pncid_invalid(written: str) -> None:
    assert ids.canonical_pncid(written, this_year=2026) is None


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("65656/91H", "065656/91H"), ("SF05/482703J", "SF05/482703J"), ("SF83/50058Z", "SF83/50058Z")],
)
def test_cro_valid(written: str, canonical: str) -> None:
    assert ids.canonical_cro(written) == canonical


def test_cro_invalid() -> None:
    assert ids.canonical_cro("85227/65G") is None
    assert ids.canonical_cro("NONSENSE") is None


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1101ZD0100000448754K", "11/01ZD/01/448754K"),
        ("11/01ZD/01/448754K", "11/01ZD/01/448754K"),
        ("2202XC0200000000021R", "22/02XC/02/21R"),
        ("2005FF0500000000555P", "20/05FF/05/555P"),
        ("9700000000000123456K", "97/0000/00/123456K"),
        ("22FD112200001234560X", "22/FD11/22/1234560X"),
    ],
)
def test_asn_valid(written: str, canonical: str) -> None:
    assert ids.canonical_asn(written) == canonical


@given(st.integers(1950, 2099), st.integers(1, 9_999_999))
def test_a_made_pncid_is_valid_and_any_other_letter_is_not(year: int, serial: int) -> None:
    made = ids.pncid(year, serial)
    assert ids.canonical_pncid(made, this_year=2026) == made
    for letter in set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") - {made[-1]}:
        assert ids.canonical_pncid(made[:-1] + letter, this_year=2026) is None


def test_driver_number_and_vin_shapes() -> None:
    assert ids.is_driver_number("TESTE802020C99AA")
    assert ids.is_driver_number("TESTE856068W99AC")
    assert not ids.is_driver_number("TESTE899999C99AA")
    assert ids.is_vin("TSTZZZ00000000001")
    assert not ids.is_vin("TSTZZZ0000000000O")
