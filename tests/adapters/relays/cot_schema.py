"""The rules of the CoT base event schema (MITRE, version 2.0, public release), as code of our own.

The schema's text has no licence under which it could lie here; its rules are facts. Beside them
stand those of TAK's detail elements, as its own schemas have them.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from xml.etree import ElementTree as Xml

_TYPE = re.compile(r"\w+(-\w+)*(;[^;]*)?")
_HOW = re.compile(r"\w(-\w+)*")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")
_EVENT = {"version", "uid", "type", "time", "start", "stale", "how"}
_OPTIONAL = {"access", "qos", "opex"}
_POINT = {"lat", "lon", "hae", "ce", "le"}
_DETAIL = {
    "contact": {"callsign"},
    "__group": {"name", "role"},
    "track": {"course", "speed"},
    "precisionlocation": {"altsrc", "geopointsrc"},
    "link": {"uid", "type", "relation"},
    "uid": {"Droid"},
    "emergency": set(),
    "remarks": set(),
    "__forcedelete": set(),
}
"""Element -> attributes that it must have."""
HEADER = b'<?xml version="1.0" encoding="UTF-8"'


def decimal(text: str) -> float:
    """xs:decimal: no exponent, no NaN, no infinity."""
    assert _DECIMAL.fullmatch(text), text
    return float(text)


def moment(text: str) -> datetime:
    assert _TIME.fullmatch(text), text
    return datetime.fromisoformat(text).astimezone(UTC)


def checked(event: bytes) -> Xml.Element:
    """The event as it was read; fails with what is against the rules."""
    assert event.startswith(HEADER)
    assert event.endswith(b"</event>"), "something behind the event"
    assert event.count(b"</event>") == 1
    root = Xml.fromstring(event)
    assert root.tag == "event"
    assert set(root.attrib) >= _EVENT
    assert set(root.attrib) <= _EVENT | _OPTIONAL
    assert decimal(root.attrib["version"]) >= 2
    assert root.attrib["uid"]
    assert _TYPE.fullmatch(root.attrib["type"])
    assert _HOW.fullmatch(root.attrib["how"])
    if opex := root.attrib.get("opex"):
        assert re.fullmatch(r"[oes](-.+)?", opex)
    moment(root.attrib["time"])
    assert moment(root.attrib["start"]) < moment(root.attrib["stale"])
    points = root.findall("point")
    assert len(points) == 1
    assert set(points[0].attrib) == _POINT
    assert abs(decimal(points[0].attrib["lat"])) <= 90
    assert abs(decimal(points[0].attrib["lon"])) <= 180
    for name in ("hae", "ce", "le"):
        assert math.isfinite(decimal(points[0].attrib[name]))
    assert len(root.findall("detail")) <= 1
    assert {child.tag for child in root} <= {"point", "detail"}
    for child in root.find("detail") or ():
        assert child.tag in _DETAIL, child.tag
        assert set(child.attrib) >= _DETAIL[child.tag], child.tag
        if child.tag == "track":
            assert 0 <= decimal(child.attrib["course"]) <= 360
            assert decimal(child.attrib["speed"]) >= 0
    return root
