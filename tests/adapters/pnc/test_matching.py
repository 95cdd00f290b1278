"""The scorer: fixed weights, folding, phonetics. The triggers themselves: tests/contracts."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pnc import marks, matching, records
from gateway.messages import PersonKey

LOADED = records.load(Path(__file__).resolve().parents[3] / "config" / "pnc")
NAMES = matching.index(LOADED.persons)
TODAY = date(2026, 11, 22)


def scores(**key: object) -> dict[str, int]:
    found, _ = matching.candidates(PersonKey(**key), NAMES, today=TODAY)  # type: ignore[arg-type]
    return {candidate.row.tag: candidate.score for candidate in found}


def test_weights_of_the_reference() -> None:
    """Exact 40 + forename 20 + date of birth 30 + sex 10."""
    assert scores(surname="TESTER", forenames="WANDA", dob="1988-06-06", sex="F") == {"TP06": 100}
    assert scores(surname="TESTER", forenames="WANDA", dob="1988-06-06") == {"TP06": 90}
    assert scores(surname="TESTER", forenames="W", dob="1988-06-06")["TP06"] == 40 + 8 + 30
    assert scores(surname="TESTER", forenames="WANDA", dob="1987-06-06", sex="F") == {"TP06": 82}
    assert scores(surname="TESTER", forenames="WANDA", dob="1988-06-06", sex="M") == {"TP06": 75}
    assert scores(surname="TESTER", forenames="WANDA", age_years=38, sex="F") == {"TP06": 76}
    assert scores(surname="TESTER", forenames="WANDA", age_years=60, sex="F") == {}


def test_a_phonetic_surname_and_a_diminutive() -> None:
    assert scores(surname="TESTOR", forenames="EDWARD", dob="1986-04-12", sex="M") == {
        "TP31": 25 + 12 + 30 + 10
    }


def test_surname_and_forename_swapped() -> None:
    assert "TP06" in scores(surname="WANDA", forenames="TESTER", dob="1988-06-06", sex="F")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O'TESTER", "OTESTER"),
        ("AL-SAMPLE", "SAMPLE"),
        ("AL-SAMPLE", "ALSAMPLE"),
        ("MC TESTER", "MACTESTER"),
        ("VAN DEMO", "DEMO"),
        ("Müller", "MULLER"),
        ("Straße", "STRASSE"),
    ],
)
def test_folding_meets(one: str, other: str) -> None:
    assert matching.forms(one) & matching.forms(other)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_name_has_a_score_and_an_order(surname: str, forenames: str) -> None:
    """Any Unicode: no exception, at most 12, best first, the same each time."""
    key = PersonKey(surname=surname, forenames=forenames)
    first = matching.candidates(key, NAMES, today=TODAY)
    again = matching.candidates(key, NAMES, today=TODAY)
    ranked = [(each.score, each.row.pncid) for each in first[0]]
    assert ranked == sorted(ranked, key=lambda pair: (-pair[0], pair[1]))
    assert ranked == [(each.score, each.row.pncid) for each in again[0]]
    assert len(ranked) <= matching.CAP


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ("TE99ABC", "current"),
        ("K123ABC", "prefix"),
        ("ABC123K", "suffix"),
        ("ABC1", "dateless"),
        ("AIZ1234", "northern-ireland"),
        ("Q123ABC", "q-plate"),
        ("101D234", "diplomatic"),
        ("12AB34", "military"),
        ("12345", "trade"),
        ("U123TST", "other"),
        ("TST123U", "other"),
        ("ZZZZZZZZZZ", "other"),
    ],
)
def test_classes_of_marks(mark: str, kind: str) -> None:
    assert marks.classify(mark) == kind


def test_a_likely_misreading_is_offered() -> None:
    assert marks.look_alike("TE9OABC") == "TE90ABC"
    assert marks.look_alike("TE99ABC") is None
    assert marks.normalise(" te99-abc ") == "TE99ABC"
