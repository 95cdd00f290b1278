"""The units as GeoJSON (RFC 7946), for maps of others: what the snapshot has of them, and no more.

A position is [longitude, latitude], in that order; a unit without one has the geometry null. What
is not known, or not to be seen, is no member. Units are known by their index, as in the snapshot.
"""

from __future__ import annotations

from typing import Any

from adapters.web.shapes import SOURCES, Units
from gateway.messages import Snapshot, UnitNow

MEDIA_TYPE = "application/geo+json"


def units_body(snapshot: Snapshot, units: Units, *, epoch: str) -> dict[str, Any]:
    """A FeatureCollection; `t`: as of when, `epoch`: for how long `id` means the same unit."""
    return {
        "type": "FeatureCollection",
        "epoch": epoch,
        "t": snapshot.t_ms / 1000,
        "features": [_feature(unit, units, snapshot.t_ms) for unit in snapshot.units],
    }


def _feature(unit: UnitNow, units: Units, now_ms: int) -> dict[str, Any]:
    meta, fix = unit.meta, unit.fix
    said: dict[str, Any] = {
        "callsign": meta.callsign,
        "agency": meta.agency,
        "area": meta.area,
        "class": meta.device_class,
        "status": meta.status,
        "contact_t": None if unit.contact_ms is None else unit.contact_ms / 1000,
    }
    geometry = None
    if fix is not None:
        geometry = {"type": "Point", "coordinates": [round(fix.lon, 6), round(fix.lat, 6)]}
        said |= {
            "fix_t": fix.fixed_at_ms / 1000,
            "age_s": max(0, now_ms - fix.fixed_at_ms) / 1000,
            "accuracy_m": fix.accuracy_m,
            "course_deg": fix.course_deg,
            "speed_mps": fix.speed_mps,
            "source": SOURCES[fix.source],
        }
    known = {name: value for name, value in said.items() if value not in (None, "")}
    known |= {"band": unit.band, "emergency": unit.emergency}
    return {
        "type": "Feature",
        "id": units.index(meta.terminal),
        "geometry": geometry,
        "properties": known,
    }
