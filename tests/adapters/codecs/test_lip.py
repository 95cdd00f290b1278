"""Location reports: what the corpus cannot say case by case."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.codecs import lip
from adapters.codecs.lip import Lip
from gateway.messages import BadFrame, Heartbeat, Locate, LocationFix, StatusReport
from tests.corpus import cases, ms, payload

NOW_MS = ms("2026-11-22T10:15:10Z")
STEP_DEG = 1.0729e-5
"""Of both axes (reference, 3.1)."""
lats = st.floats(-90, 90)
lons = st.floats(-180, 180)


def through(fix: LocationFix) -> LocationFix:
    """As a radio says it and the gateway reads it."""
    (frame,) = Lip(side="terminal").encode(fix)
    (found,) = Lip().feed(frame.data, received_at_ms=NOW_MS)
    assert isinstance(found, LocationFix)
    return found


@settings(max_examples=400, deadline=None)
@given(lat=lats, lon=lons, timed=st.booleans())
@example(lat=90.0, lon=180.0, timed=False)
@example(lat=-90.0, lon=-180.0, timed=True)
@example(lat=51.5, lon=179.999999, timed=False)
@example(lat=51.5, lon=0.0, timed=True)
@example(lat=0.0, lon=-0.001, timed=False)
def test_a_place_comes_through_to_the_step(lat: float, lon: float, timed: bool) -> None:
    """Half a step off at most, over the whole globe; at the pole, which no code reaches, one."""
    if abs(lat) < 2 * STEP_DEG and abs(lon) < 2 * STEP_DEG:
        return  # null island: it never comes through
    found = through(LocationFix(lat=lat, lon=lon, fixed_at_ms=NOW_MS if timed else None))
    assert abs(found.lat - lat) <= STEP_DEG * (1.01 if abs(lat) > 89.9999 else 0.501)
    around = abs(found.lon - lon)
    assert min(around, 360 - around) <= 0.501 * STEP_DEG
    assert found.fixed_at_ms == (NOW_MS if timed else None)


@settings(max_examples=200, deadline=None)
@given(lon=st.integers(-(2**24), 2**24 - 1), lat=st.integers(-(2**23) + 1, 2**23 - 1))
@example(lon=-(2**24), lat=-(2**23) + 1)
@example(lon=2**24 - 1, lat=2**23 - 1)
@example(lon=2, lat=0)
@example(lon=0, lat=-2)
def test_what_was_read_is_said_again_bit_for_bit(lon: int, lat: int) -> None:
    if abs(lon) <= 1 and abs(lat) <= 1:
        return
    bits = f"00110{lon % 2**25:025b}{lat % 2**24:024b}"
    whole = int(f"00001010{bits[:4]}{bits[5:]}001" + "1111111" + "1111" + "0" + f"{129:08b}0000", 2)
    data = whole.to_bytes(11, "big")
    (fix,) = Lip().feed(data, received_at_ms=NOW_MS)
    assert isinstance(fix, LocationFix)
    assert Lip(side="terminal").encode(fix)[0].data == data


@pytest.mark.parametrize("kmh", [0.0, 0.4, 12.0, 28.0, 28.6, 30.0, 60.0, 92.3, 130.0, 250.0])
def test_a_speed_comes_through_to_its_step(kmh: float) -> None:
    """1 km/h up to 28, then 3.8 % (reference, 3.1)."""
    fix = LocationFix(lat=52.5, lon=-0.24, speed_mps=kmh / 3.6, course_deg=90.0)
    found = through(fix)
    assert found.speed_mps is not None
    assert abs(found.speed_mps * 3.6 - kmh) <= max(0.55, 0.02 * kmh)
    assert found.course_deg == 90.0


@pytest.mark.parametrize(("kmh", "code"), [(29.06, 29), (92.3, 60), (410, 100), (1082, 126)])
def test_the_documented_speeds(kmh: float, code: int) -> None:
    assert lip.SPEED_KMH[code] == pytest.approx(kmh, rel=2e-3)
    fix = LocationFix(lat=52.5, lon=-0.24, speed_mps=kmh / 3.6)
    (frame,) = Lip(side="terminal").encode(fix)
    report = lip.read(frame.data)
    assert report is not None
    assert report.speed_kmh == lip.SPEED_KMH[code]


@pytest.mark.parametrize("course", [0.0, 11.24, 11.26, 45.0, 180.0, 270.0, 337.4, 348.74, 348.76])
def test_a_heading_comes_through_to_its_step(course: float) -> None:
    """22.5 degrees in a short report, 1.4 in a long one; never the wrong side of north."""
    for fixed_at_ms, step in ((None, 22.5), (NOW_MS, 360 / 256)):
        fix = LocationFix(
            lat=52.5, lon=-0.24, fixed_at_ms=fixed_at_ms, speed_mps=5.0, course_deg=course
        )
        found = through(fix)
        assert found.course_deg is not None
        off = abs(found.course_deg - course)
        assert min(off, 360 - off) <= step / 2 + 1e-9


@pytest.mark.parametrize("accuracy_m", [0.5, 2.0, 3.0, 20.0, 150.0, 1_999.0, 100_000.0])
@pytest.mark.parametrize("fixed_at_ms", [None, NOW_MS])
def test_no_position_gets_better_on_the_way(accuracy_m: float, fixed_at_ms: int | None) -> None:
    fix = LocationFix(lat=52.5, lon=-0.24, fixed_at_ms=fixed_at_ms, accuracy_m=accuracy_m)
    found = through(fix).accuracy_m
    assert found is not None
    assert found >= accuracy_m


def test_an_unknown_error_is_not_a_good_one() -> None:
    """Nor is a speed or a heading that nobody knows 0."""
    for fixed_at_ms in (None, NOW_MS):
        found = through(LocationFix(lat=52.5, lon=-0.24, fixed_at_ms=fixed_at_ms))
        assert (found.accuracy_m, found.speed_mps, found.course_deg) == (None, None, None)


def test_no_report_cut_short_is_a_position() -> None:
    """S03: at every bit. What stands behind the last field may be missing."""
    for case in cases("lip"):
        if case.get("side") == "terminal" or not any(e["is_"] == "fix" for e in case["expect"]):
            continue
        has_pid = case.get("has_pid", True)
        report = lip.read(payload(case), has_pid=has_pid)
        assert report is not None
        for octets in range(report.bits_used // 8):
            cut = payload(case)[:octets]
            found = Lip(has_pid=has_pid).feed(cut, received_at_ms=NOW_MS)
            assert list(found) == [BadFrame("length")], (case["id"], octets)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=40))
def test_no_bits_at_all_are_null_island(data: bytes) -> None:
    """And an emergency is only said where its bits say so."""
    for each in Lip().feed(b"\x0a" + data, received_at_ms=NOW_MS):
        report = lip.read(b"\x0a" + data)
        if isinstance(each, LocationFix):
            assert math.hypot(each.lat, each.lon) > STEP_DEG
        if isinstance(each, StatusReport):
            assert report is not None
            assert report.reason == lip.EMERGENCY_REASON
        if isinstance(each, Heartbeat):
            assert report is not None
            assert report.shape == 0


@pytest.mark.parametrize(
    ("wants", "data"),
    [
        ("short", "0A4580"),
        ("long", "0A4400"),
        ("long with age", "0A4480"),
        ("long with time", "0A4500"),
    ],
)
def test_the_question_where_are_you(wants: str, data: str) -> None:
    """Reference, 3.3: 01 0001 0, and two bits for which report."""
    (frame,) = Lip(wants=wants).encode(Locate())
    assert (frame.data.hex().upper(), frame.channel) == (data, "sds4")
    assert list(Lip(side="terminal").feed(frame.data, received_at_ms=NOW_MS)) == [Locate()]
    assert Lip(side="terminal").encode(Locate()) == ()
    assert Lip().encode(LocationFix(lat=52.5, lon=-0.24)) == ()
