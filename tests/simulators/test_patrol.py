"""Patrols are deterministic, keep to their area, and never move faster than they say."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.patrol import AREAS, GAITS, PLACES, Pace, Patrol, Position, distance_m

areas = st.sampled_from(AREAS)
paces = st.sampled_from(list(Pace))


def walk(patrol: Patrol, seconds: int) -> list[Position]:
    return [patrol.advance(1.0) for _ in range(seconds)]


@given(seed=st.integers(0, 10_000), area=areas, pace=paces)
def test_same_seed_is_the_same_patrol(seed: int, area: str, pace: Pace) -> None:
    """A seed names a way: twice the same, to the last digit."""
    assert walk(Patrol(seed, area, pace), 120) == walk(Patrol(seed, area, pace), 120)


def test_another_seed_is_another_patrol() -> None:
    """Fourteen radios of one demo do not walk on top of each other."""
    starts = {walk(Patrol(seed, "Eastern"), 1)[0] for seed in range(14)}
    assert len(starts) == 14


@given(seed=st.integers(0, 10_000), area=areas, pace=paces)
def test_speed_is_plausible_and_true(seed: int, area: str, pace: Pace) -> None:
    """Nobody is faster than their pace allows, or covers more ground than the speed they report."""
    gait = GAITS[pace]
    for before, after in itertools.pairwise(walk(Patrol(seed, area, pace), 300)):
        moved_m = distance_m((before.lat, before.lon), (after.lat, after.lon))
        assert after.speed_mps <= gait.fast_mps
        assert abs(after.speed_mps - before.speed_mps) <= gait.gain_mps2 + 1e-9
        assert moved_m <= after.speed_mps * 1.0 + 0.01
        assert 0.0 <= after.course_deg < 360.0


@given(seed=st.integers(0, 10_000), area=areas, pace=paces)
def test_patrol_moves(seed: int, area: str, pace: Pace) -> None:
    """An officer on patrol does not stand still: a fix repeated to the last digit means stuck."""
    track = walk(Patrol(seed, area, pace), 60)
    assert len({(p.lat, p.lon) for p in track[5:]}) >= 50


@given(seed=st.integers(0, 10_000), area=areas, pace=paces)
def test_patrol_keeps_to_its_area(seed: int, area: str, pace: Pace) -> None:
    """Every position lies between the places of the area, give or take a beat."""
    lats = [p.lat for p in PLACES if p.area == area]
    lons = [p.lon for p in PLACES if p.area == area]
    for position in walk(Patrol(seed, area, pace), 200):
        assert min(lats) - 0.02 <= position.lat <= max(lats) + 0.02
        assert min(lons) - 0.02 <= position.lon <= max(lons) + 0.02


@given(seed=st.integers(0, 10_000), area=areas, pace=paces)
def test_course_points_where_it_goes(seed: int, area: str, pace: Pace) -> None:
    """Course is clockwise from north, and the next position lies that way."""
    for before, after in itertools.pairwise(walk(Patrol(seed, area, pace), 60)):
        north = after.lat - before.lat
        east = (after.lon - before.lon) * math.cos(math.radians(before.lat))
        if math.hypot(north, east) * 111_195 > 0.5:
            bearing = math.degrees(math.atan2(east, north)) % 360
            off = abs((bearing - after.course_deg + 180) % 360 - 180)
            assert off < 1.0


def test_unknown_area_is_refused() -> None:
    """A misspelt area is an error, not a patrol somewhere else."""
    with pytest.raises(ValueError, match="no such area"):
        Patrol(1, "Western")


def test_steps_are_bounded() -> None:
    """Long and negative steps are bounded: a sleeping laptop does not teleport its radios."""
    patrol = Patrol(1, "Eastern", Pace.CAR)
    start = patrol.advance(0.0)
    assert patrol.advance(-5.0) == start
    after = patrol.advance(86_400.0)
    assert distance_m((start.lat, start.lon), (after.lat, after.lon)) <= 60 * 15.0
