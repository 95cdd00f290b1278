"""OwnTracks bodies as other people's phones said them (`./run vectors`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters import codecs
from gateway.messages import LocationFix
from tests.corpus import ms

pytestmark = pytest.mark.vectors


def test_every_body(request: pytest.FixtureRequest) -> None:
    """What is missing is unknown; nothing is taken for what it is not."""
    path = Path(request.config.getoption("--vectors")) / "owntracks" / "location.jsonl"
    assert path.is_file(), f"no test data at {path}"
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert entries
    for entry in entries:
        expect = entry["expect"]
        codec = codecs.create("owntracks", identity="nora/phone")
        (fix,) = codec.feed(entry["body"].encode(), received_at_ms=ms(expect["utc"]) + 5000)
        assert isinstance(fix, LocationFix), entry["id"]
        assert (fix.lat, fix.lon) == (expect["lat"], expect["lon"]), entry["id"]
        assert fix.fixed_at_ms == ms(expect["utc"]), entry["id"]
        assert fix.accuracy_m == expect["accuracy_m"], entry["id"]
        assert fix.course_deg == expect["course_deg"], entry["id"]
        kmh = expect["speed_kmh"]
        assert fix.speed_mps == (None if kmh is None else pytest.approx(kmh / 3.6)), entry["id"]
