"""What the corpus cannot say of the MQTT payloads: rules over all of JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapters import codecs
from adapters.codecs import terminal_json
from gateway.messages import (
    FIX_REASONS,
    BadFrame,
    CheckRequest,
    Decoded,
    LocationFix,
    MalformedCheck,
    VehicleKey,
)
from tests.corpus import ms

ISSI = "5001001"
NOW_MS = ms("2026-11-22T10:15:10Z")
CHECK: dict[str, Any] = {
    "ref": "a1",
    "t": "2026-11-22T10:15:02.114Z",
    "kind": "vehicle",
    "vrm": "TE99ABC",
    "reason": "1",
    "justification": "NO LIGHTS",
    "location": "BRIDGE ST",
    "issi": ISSI,
    "full": False,
    "fix": {"t": "2026-11-22T10:15:02Z", "lat": 52.5, "lon": -0.2, "speed_mps": 1.0},
}
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def fed(body: Any, channel: str = "up/check") -> list[Decoded]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    codec = codecs.create("terminal_json", identity=ISSI)
    return list(codec.feed(data, received_at_ms=NOW_MS, channel=channel))


def test_the_check_that_the_rules_are_tried_on_is_good() -> None:
    (found,) = fed(CHECK)
    assert isinstance(found, CheckRequest)
    assert (found.key, found.ref, found.reason) == (VehicleKey(vrm="TE99ABC"), "a1", "1")
    assert isinstance(found.fix, LocationFix)


@settings(max_examples=600, deadline=None)
@given(name=st.sampled_from([*CHECK, "vin", "surname", "dob", "tomorrow"]), value=JSON)
def test_any_value_in_any_member_asks_what_it_says_or_says_what_is_wrong(
    name: str, value: Any
) -> None:
    """Never raised, never silent, never quoted; the rest of the check is as it was."""
    found = fed({**CHECK, name: value})
    assert found
    match found[0]:
        case CheckRequest(key=key, reason=reason, ref=ref):
            assert reason
            assert 1 <= len(ref) <= 32
            if name not in {"vrm", "vin", "kind"}:
                assert key == VehicleKey(vrm="TE99ABC")
        case MalformedCheck(why=why):
            if isinstance(value, str) and len(value) > 3 and value.isascii():
                assert value.upper() not in why or value.upper() in "GIVE VRM OR VIN"
        case BadFrame(reason=frame_reason):
            assert frame_reason in {"identity", "decode"}
        case other:
            raise AssertionError(other)


@settings(max_examples=300, deadline=None)
@given(value=JSON)
def test_a_position_never_costs_the_question(value: Any) -> None:
    """Whatever is in `fix`: the question is asked, and what was no position is counted."""
    assume(not (isinstance(value, dict) and value.get("issi") not in {None, ISSI}))
    found = fed({**CHECK, "fix": value})
    assert isinstance(found[0], CheckRequest)
    assert found[0].key == VehicleKey(vrm="TE99ABC")
    if found[0].fix is None and value is not None:
        assert isinstance(found[1], BadFrame)
        assert found[1].reason in {*FIX_REASONS, "decode"}
    else:
        assert len(found) == 1


@settings(max_examples=300, deadline=None)
@given(
    other=st.one_of(st.text(max_size=9), st.integers(), st.booleans(), st.lists(st.just(ISSI))),
    inside=st.booleans(),
    name=st.sampled_from(list(CHECK)),
    value=JSON,
)
def test_another_identity_is_refused_whatever_else_is_wrong(
    other: Any, inside: bool, name: str, value: Any
) -> None:
    """M09: the topic's identity is the only one, also in the fix of a check."""
    assume(other != ISSI)
    body = {**CHECK, name: value}
    if inside:
        body["fix"] = {**CHECK["fix"], "issi": other}
        body.pop("issi", None)
    else:
        body["issi"] = other
    assert fed(body) == [BadFrame("identity")]
    for channel, good in (
        ("up/fix", {"lat": 52.5, "lon": -0.2}),
        ("up/status", {"code": 0}),
        ("up/ack", {"check": "C7F3", "part": 1, "state": "read"}),
    ):
        assert fed({**good, "issi": other}, channel) == [BadFrame("identity")]


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from([each for each in CHECK if each not in {"fix", "issi"}]),
    first=JSON,
    escaped=st.booleans(),
)
def test_a_member_that_stands_twice_is_asked_as_neither(
    name: str, first: Any, escaped: bool
) -> None:
    """M12: msgspec takes the last, other readers the first. Also where one name is escaped."""
    written = "".join(f"\\u{ord(each):04x}" for each in name) if escaped else name
    body = f'{{"{written}": {json.dumps(first)}, {json.dumps(CHECK)[1:]}'
    (found,) = fed(body.encode())
    assert isinstance(found, MalformedCheck)
    assert found.ref == ("" if name == "ref" else "a1")


def depth(value: Any) -> int:
    """How deep brackets nest, worked out on the value."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@settings(max_examples=300)
@given(value=JSON, more=st.integers(0, 20), shape=st.sampled_from(["list", "dict"]))
def test_what_is_too_deep_is_what_nests_too_deep(value: Any, more: int, shape: str) -> None:
    """Brackets inside text do not count; what is not too deep can be read."""
    for _ in range(more):
        value = [value, '[{"\\'] if shape == "list" else {'[{"\\': value}
    too_deep = terminal_json.too_deep(json.dumps(value).encode())
    assert too_deep == (depth(value) > terminal_json.NESTING_MAX)


@settings(max_examples=300)
@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)),  # noqa: DTZ001 - UTC below
    digits=st.integers(0, 9),
)
def test_every_moment_is_read_to_the_millisecond(moment: datetime, digits: int) -> None:
    """With any number of digits, worked out in whole microseconds."""
    moment = moment.replace(tzinfo=UTC)
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    fraction = f"{moment.microsecond:06d}000"[:digits]
    text = f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{fraction}" if fraction else "") + "Z"
    kept = micros - moment.microsecond + int(fraction.ljust(6, "0")[:6] or 0)
    assert abs(terminal_json.moment_ms(text) - kept / 1000) <= 0.5


@given(at_ms=st.integers(0, 4102444800000))
def test_a_moment_that_is_written_reads_back(at_ms: int) -> None:
    assert terminal_json.moment_ms(terminal_json.moment_text(at_ms)) == at_ms


@settings(max_examples=300, deadline=None)
@given(
    lat=st.floats(-1000, 1000),
    lon=st.floats(-1000, 1000),
    speed_mps=st.floats(-10, 500),
    course_deg=st.floats(-10, 400),
)
def test_a_number_beyond_what_can_be_is_counted_as_range(
    lat: float, lon: float, speed_mps: float, course_deg: float
) -> None:
    """S11: never a fix, and the reason says so, not "decode"."""
    body = {"lat": lat, "lon": lon, "speed_mps": speed_mps, "course_deg": course_deg}
    possible = (
        abs(lat) <= 90 and abs(lon) <= 180 and 0 <= speed_mps <= 400 and 0 <= course_deg <= 360
    )
    (found,) = fed(body, "up/fix")
    if possible:
        assert isinstance(found, LocationFix)
        assert (found.lat, found.lon, found.speed_mps) == (lat, lon, speed_mps)
        assert found.course_deg == course_deg % 360
    else:
        assert found == BadFrame("range")


@pytest.mark.parametrize("size", [16384, 16385])
def test_the_size_is_gated_before_anything_is_read(size: int) -> None:
    """M12: the limit is the configuration's; one byte more is not looked at."""
    data = json.dumps({**CHECK, "x": ""}).encode()
    data = data.replace(b'"x": ""', b'"x": "%s"' % (b"A" * (size - len(data))))
    assert len(data) == size
    found = fed(data)
    assert (found == [BadFrame("length")]) == (size > 16384)
    small = codecs.create("terminal_json", identity=ISSI, max_payload=100)
    assert small.feed(data, received_at_ms=NOW_MS, channel="up/check") == (BadFrame("length"),)
