"""Check letters: the public vectors of the domain reference, section 3, and what they promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pnc import identifiers as ids

LETTERS = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


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
        (" 81/34u ", "1981/0000034U"),
    ],
)
def test_pncid_valid(written: str, canonical: str) -> None:
    assert ids.canonical_pncid(written, this_year=2026) == canonical


@pytest.mark.parametrize(
    "written",
    [
        *("20030011985Z", "20120052494O", "20230583843N", "2001/0171310S", "1923[1234567A"),
        *("", "A", "81/U", "81/12345678A", "٨١/34U", "1981//0000034U"),
    ],
)
def test_pncid_invalid(written: str) -> None:
    """The vectors, and what only looks like one: no digit of another script is a digit here."""
    assert ids.canonical_pncid(written, this_year=2026) is None


@pytest.mark.parametrize(("this_year", "century"), [(2026, "20"), (2025, "19")])
def test_a_short_year_is_of_this_century_up_to_this_year(this_year: int, century: str) -> None:
    short = ids.pncid(2026, 7)[2:]
    assert ids.canonical_pncid(short, this_year=this_year) == f"{century}{short}"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("65656/91H", "065656/91H"),
        ("SF05/482703J", "SF05/482703J"),
        ("SF83/50058Z", "SF83/50058Z"),
        ("000001/99W", "000001/99W"),
    ],
)
def test_cro_valid(written: str, canonical: str) -> None:
    assert ids.canonical_cro(written) == canonical


@pytest.mark.parametrize("written", ["85227/65G", "NONSENSE", "SF83/50058A", "1234567/91H", ""])
def test_cro_invalid(written: str) -> None:
    assert ids.canonical_cro(written) is None


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1101ZD0100000448754K", "11/01ZD/01/448754K"),
        ("11/01ZD/01/448754K", "11/01ZD/01/448754K"),
        ("2202XC0200000000021R", "22/02XC/02/21R"),
        ("2005FF0500000000555P", "20/05FF/05/555P"),
        ("9700000000000123456K", "97/0000/00/123456K"),
        ("97/0000/00/123456K", "97/0000/00/123456K"),
        ("22FD112200001234560X", "22/FD11/22/1234560X"),
        ("22AFD112200001234560X", "22/AFD11/22/1234560X"),
    ],
)
def test_asn_valid(written: str, canonical: str) -> None:
    """Slashed and compact, 20 characters or 21 with a top level that is not in the sum."""
    assert ids.canonical_asn(written) == canonical
    assert ids.canonical_asn(canonical) == canonical


@pytest.mark.parametrize(
    "written",
    [
        *("1101ZD0100000448754A", "11/01ZD/01/448754", "1101ZD01448754K", ""),
        *("11/01ZD0100000448754K", "11/AA01ZD/01/448754K"),
    ],
)
def test_asn_invalid(written: str) -> None:
    assert ids.canonical_asn(written) is None


def test_the_unit_is_not_in_the_sum() -> None:
    """Nor is a force or a system that is not all digits."""
    assert (
        ids.asn("11", "01", "ZD", "01", 448754)[-1] == ids.asn("11", "01", "QQ", "01", 448754)[-1]
    )
    assert ids.asn("11", "0A", "ZD", "B1", 7)[-1] == ids.asn("11", "XY", "ZD", "ZZ", 7)[-1]


@given(st.integers(1950, 2099), st.integers(1, 9_999_999))
def test_a_made_pncid_is_valid_and_any_other_letter_is_not(year: int, serial: int) -> None:
    made = ids.pncid(year, serial)
    assert ids.canonical_pncid(made, this_year=2026) == made
    for letter in LETTERS - {made[-1]}:
        assert ids.canonical_pncid(made[:-1] + letter, this_year=2026) is None


@given(st.integers(0, 99), st.integers(0, 999_999))
def test_a_made_cro_is_valid_and_any_other_letter_is_not(year: int, serial: int) -> None:
    for made in (ids.cro(serial, year), ids.cro_small_file(year, serial)):
        assert ids.canonical_cro(made) == made
        for letter in LETTERS - {made[-1]}:
            assert ids.canonical_cro(made[:-1] + letter) is None


@given(st.text(max_size=24))
def test_no_text_raises(text: str) -> None:
    """What an officer or a file writes is valid or it is not: never an error."""
    ids.canonical_pncid(text, this_year=2026)
    ids.canonical_cro(text)
    ids.canonical_asn(text)


def test_shapes() -> None:
    assert ids.is_driver_number("TESTE802020C99AA")
    assert ids.is_driver_number("TESTE856068W99AC")
    assert not ids.is_driver_number("TESTE899999C99AA")
    assert ids.is_vin("TSTZZZ00000000001")
    assert not ids.is_vin("TSTZZZ0000000000O")
    assert ids.is_court_case_reference("21/2732/1H")
    assert not ids.is_court_case_reference("21/273/1H")


@pytest.mark.parametrize(
    ("number", "surname", "dob", "sex", "fits"),
    [
        ("TESTE802020C99AA", "TESTER", "1980-02-02", "M", True),
        ("TESTE856068W99AC", "TESTER", "1988-06-06", "F", True),
        ("TESTE856068W99AC", "TESTER", "1988-06-06", "", True),
        ("TESTE856068W99AC", "TESTER", "1988-06-06", "M", False),
        ("TESTE802020C99AA", "TESTER", "1980-02-03", "M", False),
        ("TESTE802020C99AA", "SYNTHA", "1980-02-02", "M", False),
        ("MCTES653309M99AA", "MC TESTER", "1969-03-30", "F", True),
        ("DEM99802020C99AA", "DEM", "1980-02-02", "M", True),
        ("NONSENSE", "TESTER", "1980-02-02", "M", False),
    ],
)
def test_a_driver_number_says_something_of_its_holder(
    number: str, surname: str, dob: str, sex: str, fits: bool
) -> None:
    assert ids.driver_number_fits(number, surname=surname, dob=dob, sex=sex) is fits
