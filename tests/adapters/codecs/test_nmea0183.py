"""What the corpus cannot say of the NMEA codec: every number, the writing side, the reference."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapters import codecs
from gateway.messages import BadFrame, Decoded, LocationFix, StatusReport
from tests.adapters.codecs.sentences import rmc, sentence
from tests.corpus import ms

NOW_MS = ms("2026-11-22T10:15:10Z")
KNOT_MPS = 0.514444
FIELD = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="*$,"), max_size=12
)


def fed(text: str, now_ms: int = NOW_MS, **options: bool) -> list[Decoded]:
    codec = codecs.create("nmea0183", **options)
    return list(codec.feed(f"{text}\r\n".encode(), received_at_ms=now_ms))


def only_fix(text: str, now_ms: int = NOW_MS) -> LocationFix:
    (found,) = fed(text, now_ms)
    assert isinstance(found, LocationFix), found
    return found


@settings(max_examples=400)
@given(
    degrees=st.integers(0, 179),
    minutes=st.integers(0, 599999),
    lat_degrees=st.integers(0, 89),
    north=st.sampled_from("NS"),
    east=st.sampled_from("EW"),
    knots=st.integers(0, 3999),
    track=st.integers(0, 3600),
)
def test_each_number_is_where_it_should_be(
    degrees: int, minutes: int, lat_degrees: int, north: str, east: str, knots: int, track: int
) -> None:
    """ddmm.mmmm and dddmm.mmmm, worked out here in another way."""
    assume(degrees or minutes or lat_degrees)
    found = only_fix(
        rmc(
            lat=f"{lat_degrees:02}{minutes // 10000:02}.{minutes % 10000:04}",
            north=north,
            lon=f"{degrees:03}{minutes // 10000:02}.{minutes % 10000:04}",
            east=east,
            knots=f"{knots / 10:.1f}",
            track=f"{track / 10:.1f}",
        )
    )
    lat = (lat_degrees * 600000 + minutes) / 600000 * (1 if north == "N" else -1)
    lon = (degrees * 600000 + minutes) / 600000 * (1 if east == "E" else -1)
    assert found.lat == pytest.approx(lat, abs=1e-9)
    assert found.lon == pytest.approx(lon, abs=1e-9)
    assert found.speed_mps == pytest.approx(knots / 10 * KNOT_MPS)
    assert found.course_deg == pytest.approx(track / 10 % 360)


@settings(max_examples=400)
@given(kind=st.sampled_from(["RMC", "GGA", "GLL", "ZDA"]), fields=st.lists(FIELD, max_size=15))
def test_whatever_stands_in_the_fields_a_fix_is_one(kind: str, fields: list[str]) -> None:
    """With a right checksum: finite, on the globe, not null island, or rejected by reason."""
    for found in fed(sentence(",".join([f"GP{kind}", *fields]))[:120]):
        if isinstance(found, LocationFix):
            assert abs(found.lat) <= 90
            assert abs(found.lon) <= 180
            assert (found.lat, found.lon) != (0.0, 0.0)
            for number in (found.speed_mps, found.course_deg, found.accuracy_m):
                assert number is None or (math.isfinite(number) and number >= 0)


@settings(max_examples=300)
@given(
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2060, 12, 31)),  # noqa: DTZ001 - UTC below
    lag_s=st.integers(-3600, 3600),
)
def test_a_time_of_day_is_of_the_nearest_day(moment: datetime, lag_s: int) -> None:
    """GGA heard up to an hour late or early is dated right, on either side of midnight."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    heard_ms = round((moment + timedelta(seconds=lag_s)).timestamp() * 1000)
    text = sentence(f"GPGGA,{moment:%H%M%S},5234.3500,N,00014.5860,W,1,08,0.9,54.5,M,46.9,M,,")
    assert only_fix(text, heard_ms).fixed_at_ms == round(moment.timestamp() * 1000)


@settings(max_examples=300)
@given(
    reference=st.datetimes(datetime(2019, 4, 7), datetime(2060, 12, 31)),  # noqa: DTZ001
    days=st.integers(0, 7000),
)
def test_only_a_date_of_the_last_roll_over_is_repaired(reference: datetime, days: int) -> None:
    """1024 weeks back is repaired to the day; what is younger than 512 weeks is left alone."""
    reference = reference.replace(microsecond=0, tzinfo=UTC)
    true = reference - timedelta(days=days)
    assume(true.year >= 1990)
    now_ms = round(reference.timestamp() * 1000)
    found = only_fix(rmc(clock=f"{true:%H%M%S}", date=f"{true:%d%m%y}"), now_ms)
    if days < 7 * 512:
        assert (found.fixed_at_ms, found.repaired) == (round(true.timestamp() * 1000), False)
        rolled = true - timedelta(weeks=1024)
        assume(rolled.year >= 1990)
        again = only_fix(rmc(clock=f"{rolled:%H%M%S}", date=f"{rolled:%d%m%y}"), now_ms)
        assert (again.fixed_at_ms, again.repaired) == (found.fixed_at_ms, True)


def test_a_log_of_another_year_is_judged_against_its_own_day() -> None:
    """The reference date is the caller's: the same sentence is old today and fresh on its day."""
    text = rmc(date="060419")
    assert only_fix(text, ms("2019-04-06T23:59:59Z")).repaired is False
    assert only_fix(text, ms("2039-01-01T00:00:00Z")).repaired is True


def test_estimated_is_said_as_estimated() -> None:
    """The writing side: what was dead reckoning does not become a fix on the way."""
    fix = LocationFix(lat=52.5, lon=-0.2, fixed_at_ms=NOW_MS, estimated=True)
    (frame,) = codecs.create("nmea0183", side="terminal").encode(fix)
    assert fed(frame.data.decode().strip()) == [BadFrame("mode")]
    (found,) = fed(frame.data.decode().strip(), accept_estimated=True)
    assert isinstance(found, LocationFix)
    assert found.estimated


def test_what_a_sentence_cannot_say_is_not_said() -> None:
    """A fix without time would be one of 1970; a status has no sentence."""
    codec = codecs.create("nmea0183", side="terminal")
    assert tuple(codec.encode(LocationFix(lat=52.5, lon=-0.2))) == ()
    assert tuple(codec.encode(StatusReport(code=0))) == ()


@settings(max_examples=200)
@given(lat=st.floats(-90, 90), lon=st.floats(-180, 180))
def test_every_position_can_be_written(lat: float, lon: float) -> None:
    """To 0.2 m, and minutes never become 60."""
    assume(abs(lat) > 1e-5 or abs(lon) > 1e-5)
    fix = LocationFix(lat=lat, lon=lon, fixed_at_ms=NOW_MS)
    (frame,) = codecs.create("nmea0183", side="terminal").encode(fix)
    found = only_fix(frame.data.decode().strip())
    assert found.lat == pytest.approx(lat, abs=1e-6)
    assert found.lon == pytest.approx(lon, abs=1e-6)
