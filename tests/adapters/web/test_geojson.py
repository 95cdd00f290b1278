"""The units as GeoJSON: where each is, how old that is, and no more than its reader may see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.web.geojson import units_body
from adapters.web.shapes import Units
from gateway.messages import Actor, LocationFix, Snapshot
from gateway.projection import viewer_of
from tests.adapters.web.board import NOW_MS, unit
from tests.adapters.web.test_server import serving
from tests.gateway.house import House, config

EAST, NORTH = "5001001", "5001005"


def features(*units: Any) -> list[dict[str, Any]]:
    snapshot = Snapshot(seq=1, t_ms=NOW_MS, units=units, checks=(), alarms=(), links=())
    body = units_body(snapshot, Units(), epoch="01TESTEPOCH")
    found: list[dict[str, Any]] = json.loads(json.dumps(body))["features"]
    return found


def test_longitude_comes_first_and_the_age_is_told() -> None:
    """RFC 7946, 3.1.1; the age is that of the position, as of `t`."""
    (feature,) = features(unit("4001", "S-214", age_s=5.0))
    assert feature == {
        "type": "Feature",
        "id": 0,
        "geometry": {"type": "Point", "coordinates": [-0.24312, 52.57251]},
        "properties": {
            "callsign": "S-214",
            "agency": "po",
            "area": "S",
            "class": "handheld",
            "status": "AVL",
            "contact_t": NOW_MS / 1000,
            "fix_t": NOW_MS / 1000 - 5,
            "age_s": 5.0,
            "accuracy_m": 8.0,
            "course_deg": 270.0,
            "speed_mps": 12.0,
            "source": "g",
            "band": "live",
            "emergency": False,
        },
    }


def test_without_a_position_there_is_no_point_and_no_age() -> None:
    (feature,) = features(unit(age_s=None))
    assert feature["geometry"] is None
    assert not {"age_s", "fix_t", "accuracy_m", "contact_t"} & set(feature["properties"])
    assert feature["properties"]["band"] == "none"


async def test_it_is_served_as_what_it_is() -> None:
    """Its own media type, one picture for all who may see the same, and not the snapshot's."""
    async with serving() as (_, board, http):
        board.units = [unit("4001", "S-214")]
        for _ in range(2):
            async with http.get("/api/v1/units.geojson") as answer:
                assert answer.status == 200
                assert answer.content_type == "application/geo+json"
                assert answer.headers["Cache-Control"] == "no-store"
                body = json.loads(await answer.read())
        assert board.snapshots == 1
        assert (body["type"], body["epoch"], body["t"]) == (
            "FeatureCollection",
            board.epoch,
            NOW_MS / 1000,
        )
        assert len(body["features"]) == 1
        assert "4001" not in json.dumps(body), "the ISSI does not leave the gateway"
        async with http.get("/api/v1/snapshot") as answer:
            assert (await answer.json())["units"]["rows"]


@pytest.mark.parametrize(
    ("role", "area", "shown"),
    [
        ("operator", "Eastern", {EAST: True, NORTH: False}),
        ("supervisor", "Eastern", {EAST: True, NORTH: True}),
        ("auditor", "", {}),
        ("ops", "", {}),
        ("", "", {}),
    ],
)
async def test_it_shows_whom_the_snapshot_shows(
    role: str, area: str, shown: dict[str, bool]
) -> None:
    """Of another area an operator has a grey dot: where it is, and neither call-sign nor state."""
    async with House(config()) as house:
        for terminal in (EAST, NORTH):
            house.say(LocationFix(lat=52.57, lon=-0.24), issi=terminal)
        actor = Actor(
            id="p",
            roles=frozenset({role} - {""}),
            areas=frozenset({area} - {""}),
            agency="police",
        )
        units = Units()
        index = {units.index(terminal): terminal for terminal in (EAST, NORTH)}
        snapshot = house.core.board.snapshot(viewer_of(actor))
        found = units_body(snapshot, units, epoch="e")["features"]
        located = {
            index[each["id"]]: "callsign" in each["properties"] and "status" in each["properties"]
            for each in found
            if each["geometry"] is not None
        }
        assert located == shown
        if not shown:
            assert found == []
