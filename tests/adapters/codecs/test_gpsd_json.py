"""What the corpus cannot say of the gpsd codec: what the real one said, and its writing side.

tests/corpus/recorded/patrol.gpsd is what gpsd 3.22 made of patrol.nmea (its `gpsfake -1 -p`).
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import codecs
from gateway.messages import BadFrame, Decoded, Ignored, LocationFix
from tests.corpus import HERE, ms

NOW_MS = ms("2026-11-22T10:00:20Z")
RECORDED = HERE / "recorded"


def fed(data: bytes, now_ms: int = NOW_MS, **options: Any) -> list[Decoded]:
    return list(codecs.create("gpsd_json", **options).feed(data, received_at_ms=now_ms))


def test_what_the_real_gpsd_said_of_a_patrol() -> None:
    """Every moment once, where the log says it was; none of those without a fix."""
    found = fed((RECORDED / "patrol.gpsd").read_bytes())
    text = (RECORDED / "patrol.fixes.jsonl").read_text("utf-8")
    true = {ms(each["t"]): each for each in map(json.loads, text.splitlines())}
    # Two seconds whose RMC is damaged have a good GGA, which gpsd takes.
    for moment, lat, lon in (("52", 34.3830, 14.5760), ("56", 34.4094, 14.5680)):
        true[ms(f"2026-11-22T09:59:{moment}Z")] = {"lat": 52 + lat / 60, "lon": -lon / 60}
    fixes = [each for each in found if isinstance(each, LocationFix)]
    for fix in fixes:
        assert fix.fixed_at_ms is not None
        where = true[fix.fixed_at_ms]
        assert abs(fix.lat - where["lat"]) < 1e-6
        assert abs(fix.lon - where["lon"]) < 1e-6
        assert not fix.estimated
        assert not fix.repaired
    moments = [fix.fixed_at_ms for fix in fixes]
    assert moments == sorted(set(true))
    others = {each for each in found if not isinstance(each, LocationFix)}
    assert others == {
        *(Ignored("VER"), Ignored("DEV"), Ignored("WCH"), Ignored("TPV")),
        BadFrame("void"),
    }


NUMBER = st.one_of(
    st.none(), st.floats(), st.integers(-(10**6), 10**6), st.text(max_size=4), st.booleans()
)


@settings(max_examples=150)
@given(
    mode=st.one_of(st.integers(-1, 5), NUMBER),
    status=st.one_of(st.integers(0, 12), NUMBER),
    members=st.dictionaries(
        st.sampled_from(["lat", "lon", "speed", "track", "eph", "epx", "epy", "time"]), NUMBER
    ),
    estimated=st.booleans(),
)
def test_whatever_stands_in_a_report_a_fix_is_one(
    mode: object, status: object, members: dict[str, object], estimated: bool
) -> None:
    """On the globe, not null island, every number finite, of a mode that has a position."""
    said = {"class": "TPV", "mode": mode, "status": status, **members}
    (found,) = fed(json.dumps(said).encode() + b"\r\n", accept_estimated=estimated)
    if isinstance(found, LocationFix):
        assert mode in (2, 3)
        assert status in (None, 0, 1, 2, 3, 4, 6, 9) or (status == 5 and estimated)
        assert found.estimated == (status == 5)
        assert abs(found.lat) <= 90
        assert abs(found.lon) <= 180
        assert (found.lat, found.lon) != (0.0, 0.0)
        for number in (found.speed_mps, found.course_deg, found.accuracy_m):
            assert number is None or (math.isfinite(number) and number >= 0)


def test_void_is_never_a_position() -> None:
    """Modes 0 and 1, and a report without one, whatever place stands in them."""
    for mode in ('"mode":0,', '"mode":1,', ""):
        said = b'{"class":"TPV",%b"lat":52.5725,"lon":-0.2431}\r\n' % mode.encode()
        assert fed(said) == [BadFrame("void")]


def test_a_simulated_place_is_never_one() -> None:
    said = b'{"class":"TPV","mode":3,"status":8,"lat":52.5725,"lon":-0.2431}\r\n'
    assert fed(said) == fed(said, accept_estimated=True) == [BadFrame("mode")]


def test_the_other_side_says_what_it_was_told() -> None:
    fix = LocationFix(
        *(52.5725, -0.2431, NOW_MS - 500), speed_mps=1.5, course_deg=90.0, accuracy_m=8.0
    )
    writer = codecs.create("gpsd_json", side="terminal")
    for each in (
        fix,
        msgspec.structs.replace(fix, fixed_at_ms=None),
        msgspec.structs.replace(fix, speed_mps=None, course_deg=None, accuracy_m=None),
        msgspec.structs.replace(fix, estimated=True),
    ):
        (frame,) = writer.encode(each)
        assert fed(frame.data, accept_estimated=True) == [each]
