"""Sanity of fixes: the marker moves with true ones only, and nothing freezes it."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.messages import Event, FixSource, LocationFix, UnitFix
from gateway.settings import TrackingSection
from gateway.tracking import RE_ANCHOR, Tracker, distance_m
from tests.fakes import FakeMeter
from tests.gateway.strategies import FLEET, roster

HANDHELD, VEHICLE, TETRA, PHONE = "5001001", "5001003", "5001005", "5001007"
NOW = 1_795_325_040_000
LAT, LON = 52.5725, -0.2431


class Desk:
    """A tracker with all that it tells."""

    def __init__(self) -> None:
        self.meter = FakeMeter()
        self.events: list[Event] = []
        self.tracker = Tracker(TrackingSection(), roster(), self.meter, self.events.append)

    def fix(self, at_ms: int | None, *, received_ms: int = NOW, **more: object) -> str:
        base = LocationFix(lat=LAT, lon=LON, fixed_at_ms=at_ms)
        fix = msgspec.structs.replace(base, **more)
        return self.tracker.fix(HANDHELD, fix, received_ms, received_ms, 1.0).reason

    def stored(self, at_ms: int | None, *, received_ms: int = NOW, **more: object) -> str:
        base = LocationFix(lat=LAT, lon=LON, fixed_at_ms=at_ms)
        fix = msgspec.structs.replace(base, **more)
        return self.tracker.fix(HANDHELD, fix, received_ms, received_ms, stored=True).reason

    @property
    def marker(self) -> UnitFix | None:
        return self.tracker.newest().get(HANDHELD)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_true_fix_is_published_with_its_age(desk: Desk) -> None:
    """It becomes the newest, goes to the bus, and its age at receipt is measured."""
    assert desk.fix(NOW - 2500, source=FixSource.PHONE, accuracy_m=8.0) == ""
    assert desk.events == [desk.marker]
    assert desk.tracker.newest_of(HANDHELD) == desk.marker
    assert desk.meter.total("fixes_received_total", kind="phone") == 1
    assert desk.meter.observed == [("fix_age_at_receipt_seconds", 2.5, {})]
    assert desk.tracker.age(HANDHELD, NOW) == 2.5


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"lat": 90.1}, "range"),
        ({"lon": -180.5}, "range"),
        ({"lat": math.nan}, "range"),
        ({"lon": math.inf}, "range"),
        ({"lat": 0.0, "lon": 0.0}, "null"),
        ({"fixed_at_ms": NOW + 31_000}, "future"),
        ({"fixed_at_ms": NOW + 10**12}, "future"),
        ({"fixed_at_ms": NOW - 86_401_000}, "date"),
    ],
)
def test_what_cannot_be_is_refused(desk: Desk, more: dict[str, object], reason: str) -> None:
    """Refused with its reason, counted, published to nobody, and no position is left."""
    at_ms = more.pop("fixed_at_ms", NOW)
    assert desk.fix(at_ms, **more) == reason  # type: ignore[arg-type]
    assert desk.meter.total("fixes_rejected_total", reason=reason) == 1
    assert desk.events == []
    assert desk.tracker.band(HANDHELD, NOW) == "none"
    assert desk.tracker.age(HANDHELD, NOW) is None
    assert desk.fix(NOW) == ""


def test_what_lay_stored_is_never_live(desk: Desk) -> None:
    """Whatever time it says: nobody is there to say it. Old enough, it is as old as it says."""
    for told_ms in (NOW, NOW - 5_000, NOW + 20_000):
        each = Desk()
        assert each.stored(told_ms) == ""
        assert each.tracker.band(HANDHELD, NOW) == "aging"
        age_s = each.tracker.age(HANDHELD, NOW)
        assert age_s is not None
        assert 60.0 < age_s < 61.0
        assert each.marker is not None
        # What the page tells the age by.
        assert each.marker.fixed_at_ms == NOW - round(age_s * 1000)
        assert each.meter.observed == [], "an age at receipt that is nobody's latency"
    assert desk.stored(NOW - 300_000) == ""
    assert desk.tracker.age(HANDHELD, NOW) == 300.0
    assert desk.tracker.band(HANDHELD, NOW) == "stale"


def test_what_lay_stored_extends_nothing(desk: Desk) -> None:
    """A marker that is live stays as old as it is, and is not moved by what lay there."""
    assert desk.fix(NOW - 10_000) == ""
    assert desk.stored(NOW - 1_000, lat=LAT + 0.001) == "order"
    assert desk.tracker.age(HANDHELD, NOW) == 10.0
    assert desk.tracker.age(HANDHELD, NOW + 55_000) == 65.0
    assert desk.tracker.band(HANDHELD, NOW + 55_000) == "aging"
    # Fetched again at each connection it never becomes younger than it was.
    assert desk.stored(NOW - 1_000, lat=LAT + 0.001, received_ms=NOW + 90_000) == ""
    assert desk.tracker.age(HANDHELD, NOW + 90_000) == 91.0


def test_what_lay_stored_holds_no_later_fix_off(desk: Desk) -> None:
    """However far away it was, and at rest to the last digit: the next word is believed at once.
    It is itself no jump that somebody would have to confirm."""
    assert desk.stored(NOW - 1_000, lat=LAT + 5) == ""
    assert desk.fix(NOW) == ""
    assert desk.tracker.band(HANDHELD, NOW) == "live"
    assert desk.stored(NOW + 100_000, lat=LAT + 5, received_ms=NOW + 200_000) == "jump"
    assert desk.fix(NOW + 200_000, received_ms=NOW + 200_000) == ""
    assert desk.stored(NOW + 201_000, lat=0.0, lon=0.0, received_ms=NOW + 300_000) == "null"


def test_a_late_fix_does_not_move_the_marker_back(desk: Desk) -> None:
    """Reason order, kept for the history, the marker where it was; a repeat is no news either."""
    desk.fix(NOW - 10_000)
    marker = desk.marker
    late = LocationFix(lat=LAT + 0.001, lon=LON, fixed_at_ms=NOW - 12_000)
    verdict = desk.tracker.fix(HANDHELD, late, NOW, NOW)
    assert verdict.reason == "order"
    assert verdict.fix is not None
    assert verdict.fix.lat == late.lat
    assert desk.fix(NOW - 10_000) == "order"
    assert desk.marker == marker
    assert len(desk.events) == 1


def test_a_fix_without_time_counts_as_now(desk: Desk) -> None:
    """Missing time is the time it came; two of them within a millisecond are not out of order."""
    assert desk.fix(None) == ""
    assert desk.fix(None) == ""
    assert desk.marker is not None
    assert desk.marker.fixed_at_ms == NOW


HOUR_MS = 3_600_000


@pytest.mark.parametrize("at_ms", [None, NOW], ids=["no time of its own", "its own time"])
def test_a_clock_set_back_freezes_no_marker_and_makes_none_fresh(
    desk: Desk, at_ms: int | None
) -> None:
    """H08: taken while our clock was an hour ahead. Set right, its age goes on from what it was,
    what was told of it is told anew, and the next position is taken at once."""
    assert desk.fix(at_ms, received_ms=NOW + HOUR_MS) == ""
    desk.tracker.set_back(HOUR_MS, NOW + 10_000)
    assert desk.marker is not None
    assert (desk.marker.fixed_at_ms, desk.marker.received_at_ms) == (NOW, NOW)
    assert desk.events[-1] == desk.marker
    assert [desk.tracker.age(HANDHELD, NOW + s * 1000) for s in (10, 500)] == [10, 500]
    assert desk.tracker.band(HANDHELD, NOW + 1_300_000) == "lost"
    assert desk.fix(at_ms and NOW + 20_000, received_ms=NOW + 20_000) == ""


def test_a_clock_set_back_leaves_what_came_after_it_alone(desk: Desk) -> None:
    """The step is found a moment later: a position that came in between has the right time."""
    desk.fix(NOW - 2_000)
    before = desk.marker
    desk.tracker.set_back(HOUR_MS, NOW + 500)
    assert desk.marker == before
    assert len(desk.events) == 1


def test_a_clock_ahead_does_not_freeze_the_marker(desk: Desk) -> None:
    """A fix 25 s ahead is taken as now, so the next right one is not held off for 25 s."""
    assert desk.fix(NOW + 25_000) == ""
    assert desk.fix(NOW + 1_000, received_ms=NOW + 1_100) == ""
    assert desk.marker is not None
    assert desk.marker.fixed_at_ms == NOW + 1_000


def test_a_jump_is_believed_when_it_stays(desk: Desk) -> None:
    """One wild fix is refused and does not disturb; RE_ANCHOR that agree move the marker."""
    desk.fix(NOW)
    assert desk.fix(NOW + 1000, received_ms=NOW + 1000, lat=LAT + 1) == "jump"
    assert desk.fix(NOW + 2000, received_ms=NOW + 2000) == ""
    reasons = [
        desk.fix(NOW + n * 1000, received_ms=NOW + n * 1000, lat=LAT + 1) for n in range(3, 7)
    ]
    assert reasons == ["jump"] * (RE_ANCHOR - 1) + ["", ""]
    assert desk.meter.total("fixes_rejected_total", reason="jump") == RE_ANCHOR


def test_wild_fixes_that_do_not_agree_are_never_believed(desk: Desk) -> None:
    """A receiver that says another county each second does not move the marker."""
    desk.fix(NOW)
    for n in range(1, 12):
        at = NOW + n * 1000
        assert desk.fix(at, received_ms=at, lat=LAT + (n % 2) * 2 - 1) == "jump"


def test_wandering_in_a_street_is_no_jump(desk: Desk) -> None:
    """150 m in no time is what receivers do between houses."""
    desk.fix(NOW)
    assert desk.fix(NOW + 1, received_ms=NOW + 1, lat=LAT + 0.00135) == ""


def test_a_stuck_receiver_is_found(desk: Desk) -> None:
    """Alike to the last digit while it claims to move: refused after stuck_fixes till it moves."""
    reasons = [
        desk.fix(NOW + n * 1000, received_ms=NOW + n * 1000, speed_mps=5.0) for n in range(22)
    ]
    assert reasons == [""] * 20 + ["stuck"] * 2
    at = NOW + 30_000
    assert desk.fix(at, received_ms=at, speed_mps=5.0, lat=LAT + 0.0001) == ""


def test_standing_still_is_not_stuck(desk: Desk) -> None:
    """Alike for ever is right for a parked car that says it does not move, or does not say."""
    for n in range(40):
        at = NOW + n * 1000
        assert desk.fix(at, received_ms=at, speed_mps=(0.0 if n % 2 else None)) == ""


def test_a_replayed_log_is_judged_against_its_own_date(desk: Desk) -> None:
    """Times of an old log stand against the reference date; their age now is that of receipt."""
    old = 1_000_000_000_000
    fix = LocationFix(lat=LAT, lon=LON, fixed_at_ms=old + 9 * 3_600_000)
    assert desk.tracker.fix(HANDHELD, fix, NOW, old).reason == ""
    assert desk.marker is not None
    assert desk.marker.fixed_at_ms == old + 9 * 3_600_000
    assert desk.tracker.age(HANDHELD, NOW + 4000) == 4.0
    assert desk.tracker.band(HANDHELD, NOW + 4000) == "live"
    far = msgspec.structs.replace(fix, fixed_at_ms=old + 3 * 86_400_000)
    assert desk.tracker.fix(HANDHELD, far, NOW, old).reason == "future"


@pytest.mark.parametrize(
    ("terminal", "live_s", "aging_s", "stale_s"),
    [
        (HANDHELD, 60, 120, 600),
        (VEHICLE, 30, 60, 300),
        (TETRA, 60, 120, 600),
        (PHONE, 120, 240, 900),
    ],
)
def test_bands_follow_the_device_class(
    terminal: str, live_s: int, aging_s: int, stale_s: int
) -> None:
    """Live to 2 T, aging to 4 T, stale to 20 T or 15 minutes, then lost (console design, 6)."""
    desk = Desk()
    desk.tracker.fix(terminal, LocationFix(lat=LAT, lon=LON), NOW, NOW)
    for age_s, band in (
        (0, "live"),
        (live_s, "live"),
        (live_s + 1, "aging"),
        (aging_s + 1, "stale"),
        (stale_s, "stale"),
        (stale_s + 1, "lost"),
    ):
        assert desk.tracker.band(terminal, NOW + age_s * 1000) == band
    counts = desk.tracker.bands(NOW)
    assert sum(counts.values()) == len(FLEET.terminals)
    assert counts["Eastern", "lost"] == 0


def test_strangers_leave_no_trace(desk: Desk) -> None:
    """A terminal that is not in the fleet is not remembered, so memory is bounded by the fleet."""
    assert desk.tracker.fix("999", LocationFix(lat=LAT, lon=LON), NOW, NOW).reason == "range"
    assert desk.tracker.newest() == {}
    desk.fix(NOW)
    desk.tracker.forget(HANDHELD)
    assert desk.tracker.newest() == {}


FIXES = st.builds(
    LocationFix,
    lat=st.floats() | st.floats(52.4, 52.7),
    lon=st.floats() | st.floats(-0.4, 0.0),
    fixed_at_ms=st.none() | st.integers(NOW - 2 * 86_400_000, NOW + 100_000),
    speed_mps=st.none() | st.floats(0, 50),
)


@settings(max_examples=100)
@given(st.lists(FIXES, max_size=30))
def test_any_stream_of_fixes(fixes: list[LocationFix]) -> None:
    """Fix times on the bus never go back or ahead, all is counted, and a true fix ends it."""
    desk = Desk()
    for n, fix in enumerate(fixes):
        desk.tracker.fix(HANDHELD, fix, NOW + n * 1000, NOW + n * 1000)
    seen = [event for event in desk.events if isinstance(event, UnitFix)]
    assert [fix.fixed_at_ms for fix in seen] == sorted(fix.fixed_at_ms for fix in seen)
    assert all(fix.fixed_at_ms <= fix.received_at_ms for fix in seen)
    assert all(-90 <= fix.lat <= 90 and -180 <= fix.lon <= 180 for fix in seen)
    rejected = desk.meter.total("fixes_rejected_total")
    assert desk.meter.total("fixes_received_total") == len(seen) + rejected == len(fixes)
    then = NOW + 100_000
    reasons = [desk.fix(then + n * 1000, received_ms=then + n * 1000) for n in range(RE_ANCHOR)]
    assert reasons[-1] == ""


def test_distance() -> None:
    """One degree of latitude is 111.2 km; a point is 0 m from itself, also across the date line."""
    assert distance_m(52, 0, 53, 0) == pytest.approx(111_195, rel=1e-3)
    assert distance_m(LAT, LON, LAT, LON) == 0
    assert distance_m(0, 179.999, 0, -179.999) == pytest.approx(222.4, rel=1e-2)
