"""Cursor on Target: events obey the published schema's rules, and say no more than is known."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.relays import cot_events
from adapters.relays.cot_events import Style
from gateway.messages import FixSource, UnitFix, UnitMeta
from gateway.settings import TEAMS
from tests.adapters.relays.cot_schema import checked, moment

NOW_MS = 1_795_342_502_114
NOW = "2026-11-22T10:15:02.114Z"
STYLE = Style(
    uid_prefix="TETRA-234-14-",
    type="a-f-G-U-C",
    team="Cyan",
    role="Team Member",
    teams={"Northern": "Dark Green"},
)
META = UnitMeta("5001001", "E-101", "police", "Eastern", "handheld", "AVL", NOW_MS)
FIX = UnitFix(
    terminal="5001001",
    lat=52.572512345678,
    lon=-0.243145,
    fixed_at_ms=NOW_MS - 7000,
    received_at_ms=NOW_MS - 6900,
    accuracy_m=8.5,
    course_deg=271.5,
    speed_mps=1.2,
    source=FixSource.GNSS,
)


def unit(meta: UnitMeta = META, fix: UnitFix = FIX, style: Style = STYLE) -> Xml.Element:
    return checked(cot_events.unit(style, meta, fix, now_ms=NOW_MS, stale_s=120.0))


def within(event: Xml.Element, path: str) -> dict[str, str]:
    found = event.find(path)
    assert found is not None, path
    return found.attrib


def test_a_unit_as_tak_is_told_of_it() -> None:
    """Every attribute and element, letter by letter; no endpoint that nobody listens at."""
    event = unit()
    assert event.attrib == {
        "version": "2.0",
        "uid": "TETRA-234-14-5001001",
        "type": "a-f-G-U-C",
        "how": "m-r",
        "time": NOW,
        "start": "2026-11-22T10:14:55.114Z",
        "stale": "2026-11-22T10:16:55.114Z",
    }
    assert within(event, "point") == {
        "lat": "52.572512345678",
        "lon": "-0.243145",
        "hae": "9999999.0",
        "ce": "8.5",
        "le": "9999999.0",
    }
    assert within(event, "detail/contact") == {"callsign": "E-101"}
    assert within(event, "detail/uid") == {"Droid": "E-101"}
    assert within(event, "detail/__group") == {"name": "Cyan", "role": "Team Member"}
    assert within(event, "detail/track") == {"course": "271.5", "speed": "1.2"}
    assert within(event, "detail/precisionlocation") == {"geopointsrc": "GPS", "altsrc": "???"}
    assert event.findtext("detail/remarks") == "AVL, handheld"


def test_what_is_not_known_is_never_a_zero() -> None:
    """Altitude and both errors: 9999999.0, also where a receiver says an accuracy of 0; no course
    without a speed."""
    for accuracy_m in (None, 0.0, -1.0, float("nan"), float("inf")):
        fix = msgspec.structs.replace(FIX, accuracy_m=accuracy_m, course_deg=None)
        event = unit(fix=fix)
        unknown = {"hae": "9999999.0", "ce": "9999999.0", "le": "9999999.0"}
        assert within(event, "point").items() >= unknown.items()
        assert event.find("detail/track") is None
    other = msgspec.structs.replace(FIX, source=FixSource.PHONE)
    assert within(unit(fix=other), "detail/precisionlocation")["geopointsrc"] == "???"


@given(
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    accuracy_m=st.none() | st.floats(),
    course_deg=st.none() | st.floats(0, 360),
    speed_mps=st.none() | st.floats(0, 100),
    callsign=st.text(max_size=12),
)
def test_whatever_is_known_it_obeys_the_schema_and_loses_no_digit(
    lat: float,
    lon: float,
    accuracy_m: float | None,
    course_deg: float | None,
    speed_mps: float | None,
    callsign: str,
) -> None:
    fix = msgspec.structs.replace(
        FIX,
        lat=lat,
        lon=lon,
        accuracy_m=accuracy_m,
        course_deg=course_deg,
        speed_mps=speed_mps,
    )
    event = unit(msgspec.structs.replace(META, callsign=callsign), fix)
    point = within(event, "point")
    assert (float(point["lat"]), float(point["lon"])) == (lat, lon)


def test_a_small_figure_has_no_exponent() -> None:
    """Just north of the equator and just east of Greenwich: 1e-05 is no xs:decimal."""
    point = within(unit(fix=msgspec.structs.replace(FIX, lat=1e-05, lon=2.5e-07)), "point")
    assert (point["lat"], point["lon"]) == ("0.00001", "0.00000025")


def test_its_team_is_that_of_its_area() -> None:
    north = msgspec.structs.replace(META, area="Northern")
    assert within(unit(north), "detail/__group")["name"] == "Dark Green"
    assert {"Cyan", "Dark Green"} <= set(TEAMS)


def test_what_means_something_in_xml_is_spelt() -> None:
    """In attributes and text; what no XML may hold is a question mark."""
    odd = msgspec.structs.replace(META, callsign='E"1</event>&\x01\n', status="<B>")
    event = unit(odd)
    assert within(event, "detail/contact")["callsign"] == 'E"1</event>&?\n'
    assert event.findtext("detail/remarks") == "<B>, handheld"


def test_without_a_call_sign_its_uid_is_its_name() -> None:
    nameless = msgspec.structs.replace(META, callsign="")
    assert within(unit(nameless), "detail/contact") == {"callsign": "TETRA-234-14-5001001"}


def test_what_is_not_real_says_so() -> None:
    drill = msgspec.structs.replace(STYLE, exercise=True)
    assert unit(style=drill).attrib["opex"] == "e"
    assert "opex" not in unit().attrib


def test_a_call_for_help_is_the_unit_s_and_soon_stale() -> None:
    event = checked(cot_events.call_for_help(STYLE, "5001001", "E-101", FIX, now_ms=NOW_MS))
    assert event.attrib["type"] == "b-a-o-tbl"
    assert event.attrib["uid"] == "TETRA-234-14-5001001-9-1-1"
    assert (moment(event.attrib["stale"]) - moment(event.attrib["time"])).total_seconds() == 10
    assert within(event, "point")["lat"] == "52.572512345678"
    assert within(event, "detail/link") == {
        "uid": "TETRA-234-14-5001001",
        "type": "a-f-G-U-C",
        "relation": "p-p",
    }
    assert within(event, "detail/emergency") == {"type": "911 Alert"}
    assert event.findtext("detail/emergency") == "E-101"
    assert event.findtext("detail/remarks") == "POSITION 7 S OLD"


def test_a_call_without_a_position_says_that_it_has_none() -> None:
    event = checked(cot_events.call_for_help(STYLE, "5001001", "E-101", None, now_ms=NOW_MS))
    assert within(event, "point")["ce"] == "9999999.0"
    assert event.findtext("detail/remarks") == "NO POSITION"


def test_a_call_that_is_over_is_the_same_one() -> None:
    event = checked(cot_events.help_over(STYLE, "5001001", "E-101", FIX, now_ms=NOW_MS))
    assert event.attrib["type"] == "b-a-o-can"
    assert event.attrib["uid"] == "TETRA-234-14-5001001-9-1-1"
    assert within(event, "detail/emergency") == {"cancel": "true"}


def test_control_events_obey_the_schema() -> None:
    gone = checked(cot_events.gone(STYLE, "5001001", now_ms=NOW_MS))
    assert gone.attrib["type"] == "t-x-d-d"
    assert within(gone, "detail/link")["uid"] == "TETRA-234-14-5001001"
    assert checked(cot_events.ping(STYLE, "gwt", now_ms=NOW_MS)).attrib["type"] == "t-x-c-t"
    assert checked(cot_events.pong(STYLE, now_ms=NOW_MS)).attrib["uid"] == "takPong"


@pytest.mark.parametrize("wrong", ["lat", "uid", "how"])
def test_the_rules_can_be_broken(wrong: str) -> None:
    """What checks is checked: an event without one of its attributes is refused."""
    event = cot_events.unit(STYLE, META, FIX, now_ms=NOW_MS, stale_s=120.0)
    with pytest.raises(AssertionError):
        checked(event.replace(f" {wrong}=".encode(), f" x{wrong}=".encode()))
