"""Where an officer on patrol is: seeded walks and drives over a schematic Peterborough.

The points are schematic (good to about a kilometre) and belong to nobody: no patrol here follows
a real person. Same seed, same patrol. Source of the points: console design, appendix.
"""

from __future__ import annotations

import math
import random
from enum import StrEnum

import msgspec

METRES_PER_DEGREE = 111_195.0
"""Of latitude, on a sphere of 6 371 km."""


class Place(msgspec.Struct, frozen=True):
    name: str
    lat: float
    lon: float
    area: str


def _places(area: str, *rows: tuple[str, float, float]) -> tuple[Place, ...]:
    return tuple(Place(name, lat, lon, area) for name, lat, lon in rows)


PLACES = (
    *_places(
        "Northern",
        ("Barnack", 52.636, -0.408),
        ("Glinton and Wittering", 52.628, -0.330),
        ("Northborough", 52.656, -0.300),
        ("Newborough", 52.637, -0.220),
        ("Eye and Thorney", 52.613, -0.165),
        ("Werrington North", 52.622, -0.277),
        ("Werrington South", 52.611, -0.268),
        ("Paston", 52.606, -0.248),
        ("Walton", 52.599, -0.262),
        ("Bretton North", 52.602, -0.293),
        ("Bretton South", 52.588, -0.290),
        ("Ravensthorpe", 52.587, -0.272),
        ("West", 52.577, -0.285),
    ),
    *_places(
        "Eastern",
        ("Dogsthorpe", 52.596, -0.231),
        ("North", 52.589, -0.246),
        ("Park", 52.583, -0.237),
        ("East", 52.578, -0.216),
        ("Central", 52.574, -0.245),
    ),
    *_places(
        "Southern",
        ("Fletton", 52.556, -0.236),
        ("Stanground Central", 52.552, -0.217),
        ("Stanground East", 52.548, -0.204),
        ("Orton Longueville", 52.553, -0.268),
        ("Orton Waterville", 52.548, -0.290),
        ("Orton with Hampton", 52.533, -0.262),
    ),
)
AREAS = ("Eastern", "Northern", "Southern")


class Pace(StrEnum):
    """How an officer gets about."""

    FOOT = "foot"
    BICYCLE = "bicycle"
    CAR = "car"


class _Gait(msgspec.Struct, frozen=True):
    slow_mps: float
    fast_mps: float
    gain_mps2: float
    """The most by which speed changes in a second."""
    beat_m: float
    """How far from a place's point a waypoint may lie."""
    roams: bool
    """Whether it goes from ward to ward, or keeps to one."""


GAITS = {
    Pace.FOOT: _Gait(0.9, 1.7, 0.5, 350.0, roams=False),
    Pace.BICYCLE: _Gait(2.5, 6.0, 1.0, 700.0, roams=False),
    Pace.CAR: _Gait(6.0, 15.0, 2.0, 300.0, roams=True),
}


class Position(msgspec.Struct, frozen=True):
    """Degrees WGS 84, metres a second, degrees clockwise from north."""

    lat: float
    lon: float
    speed_mps: float
    course_deg: float


def distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Between two (lat, lon) that lie a few kilometres apart: a plane will do."""
    north_m = (b[0] - a[0]) * METRES_PER_DEGREE
    east_m = (b[1] - a[1]) * METRES_PER_DEGREE * math.cos(math.radians(a[0]))
    return math.hypot(north_m, east_m)


class Patrol:
    """One officer's way through one area; `advance` moves along it."""

    def __init__(self, seed: int | str, area: str, pace: Pace = Pace.FOOT) -> None:
        """seed: same seed, area and pace, same way. area: one of AREAS."""
        self._random = random.Random(f"{seed}/{area}/{pace}")  # noqa: S311  (no secret: a walk)
        self._gait = GAITS[pace]
        self._beats = [place for place in PLACES if place.area == area]
        if not self._beats:
            raise ValueError(f"no such area: {area}")
        self._home = self._random.choice(self._beats)
        self._lat, self._lon = self._waypoint()
        self._target = self._waypoint()
        self._speed_mps = 0.0
        self._course_deg = 0.0

    def advance(self, dt_s: float) -> Position:
        """Go on for dt_s seconds (at most 60 at once) and say where that led."""
        left_s = min(max(dt_s, 0.0), 60.0)
        while left_s > 0:
            # Steps of a second: a turn at a waypoint never cuts a corner by more than that.
            step_s = min(left_s, 1.0)
            self._step(step_s)
            left_s -= step_s
        return Position(self._lat, self._lon, self._speed_mps, self._course_deg)

    def _step(self, dt_s: float) -> None:
        gait = self._gait
        wish_mps = self._random.uniform(gait.slow_mps, gait.fast_mps)
        most_mps = gait.gain_mps2 * dt_s
        self._speed_mps += min(max(wish_mps - self._speed_mps, -most_mps), most_mps)
        here = (self._lat, self._lon)
        if distance_m(here, self._target) <= self._speed_mps * dt_s:
            self._target = self._waypoint()
        shrink = math.cos(math.radians(self._lat))
        north_m = (self._target[0] - self._lat) * METRES_PER_DEGREE
        east_m = (self._target[1] - self._lon) * METRES_PER_DEGREE * shrink
        gap_m = math.hypot(north_m, east_m)
        if gap_m == 0.0:
            return
        self._course_deg = math.degrees(math.atan2(east_m, north_m)) % 360.0
        go_m = min(self._speed_mps * dt_s, gap_m)
        self._lat += north_m / gap_m * go_m / METRES_PER_DEGREE
        self._lon += east_m / gap_m * go_m / (METRES_PER_DEGREE * shrink)

    def _waypoint(self) -> tuple[float, float]:
        """The next point to make for: on this beat, or (for a car) on any beat of the area."""
        if self._gait.roams:
            self._home = self._random.choice(self._beats)
        away_m = self._gait.beat_m * math.sqrt(self._random.random())
        bearing = self._random.uniform(0.0, 2 * math.pi)
        lat = self._home.lat + away_m * math.cos(bearing) / METRES_PER_DEGREE
        shrink = math.cos(math.radians(self._home.lat))
        return lat, self._home.lon + away_m * math.sin(bearing) / (METRES_PER_DEGREE * shrink)
