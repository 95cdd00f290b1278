"""The soak's own arithmetic and bytes, and a short soak against the real daemon."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest

from tests.soak.__main__ import FIGURES, Result, report, soak
from tests.soak.slopes import DAY_S, slope
from tests.system import force


def test_a_rise_is_found_under_what_shakes_it() -> None:
    """3 a day on a figure of 100 that is shaken by 2: within the doubt that is said."""
    chance = random.Random(1)
    samples = [(at_s, 100 + 3 * at_s / DAY_S + chance.gauss(0, 2)) for at_s in range(0, 36000, 5)]
    found = slope(samples, 60)
    assert found.per_day is not None
    assert found.doubt is not None
    assert abs(found.per_day - 3) <= found.doubt < 1


def test_nothing_that_grows_is_a_slope_of_nothing() -> None:
    found = slope([(float(at_s), 7.0) for at_s in range(600)], 60)
    assert found == (7.0, 7.0, 0.0, 0.0)


def test_what_lasts_is_not_taken_for_many_proofs() -> None:
    """A figure that stays off for minutes: as many samples do not make the doubt small."""
    chance = random.Random(2)
    level = [chance.gauss(0, 1) for _ in range(60)]
    samples = [(float(at_s), level[at_s // 60]) for at_s in range(3600)]
    found = slope(samples, 60)
    every = slope(samples, 1)
    assert found.doubt is not None
    assert every.doubt is not None
    assert found.doubt > 5 * every.doubt


def test_too_little_has_no_slope() -> None:
    assert slope([(0.0, 1.0), (1.0, 2.0)], 60) == (1.0, 2.0, None, None)
    with pytest.raises(ValueError, match="no samples"):
        slope([], 60)


def test_the_fleet_is_as_large_as_was_asked(tmp_path: Path) -> None:
    """And everybody in it holds a radio of their own."""
    force.write(tmp_path, ["6000001", "6000002"], callsign="E", collar=2001)
    fleet = tomllib.loads((tmp_path / "fleet.toml").read_text("utf-8"))
    assert [each["issi"] for each in fleet["terminals"]] == ["6000001", "6000002"]
    people = tomllib.loads((tmp_path / "people.toml").read_text("utf-8"))
    held = {each["terminal"]: each["officer"] for each in people["standing"]}
    assert held == {"6000001": "2001", "6000002": "2002"}


def test_the_report_says_what_was_found() -> None:
    """A leak of one descriptor a minute stands in the table as 1,440 a day."""
    samples = [
        dict.fromkeys(FIGURES, 5.0) | {"at_s": at_s, "fds": 20 + at_s / 60}
        for at_s in range(0, 7200, 5)
    ]
    result = Result(samples, 10, {"answered": 9}, {"reload": 2}, 1, ["I1 x"], 10, 0.25, 7200.0)
    text = report(result, 600.0)
    assert "| descriptors | 35.5 | 134.5 | +1440.0 +- 0.0 | +1440.0 +- 0.0 |" in text
    assert "1 without an end" in text
    assert "10 checks joined, 1 invariants broken" in text
    assert "0.25 of a core" in text


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_short_soak_leaves_every_invariant_standing(tmp_path: Path) -> None:
    """Sixty terminals for half a minute, something broken all the time: every question ends, the
    four ledgers agree, and every figure was taken."""
    result = await soak(tmp_path, seconds=30, terminals=60, lines=6, per_minute=6.0, seed=20261127)
    assert result.broken == []
    assert result.waiting == 0
    assert result.joined == result.asked > 50
    assert len(result.done) >= 5
    assert len(result.samples) >= 10
    assert all(set(sample) == {"at_s", *FIGURES} for sample in result.samples)
    assert all(sample["fds"] > 10 < sample["tasks"] for sample in result.samples)
