"""The registry of protocols: one line each.

A codec is sans-IO: bytes in, messages out, and back; no clock, no socket, nothing raised on
content (gateway.ports.Codec). The simulators use the same classes from the other side.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gateway.ports import Codec


def _each(places: str) -> dict[str, type[Codec]]:
    """A protocol is called what its module is called."""
    found = (place.split(".") for place in places.split())
    return {name: getattr(import_module(f"{__name__}.{name}"), class_) for name, class_ in found}


REGISTRY = _each("""
    gpsd_json.GpsdJson
    line_terminal.LineTerminal
    lip.Lip
    nmea0183.Nmea0183
    osmand.Osmand
    owntracks.OwnTracks
    sds.Sds
    t55.T55
    terminal_json.TerminalJson
""")


def create(name: str, **options: Any) -> Codec:
    """A fresh codec: one for each line, one for each datagram. KeyError for an unknown name.

    options: side ("gateway" or "terminal"), and what the codec's constructor names.
    """
    return REGISTRY[name](**options)


def takes_lines(name: str) -> bool:
    """Whether it may be fed slices of a line (its class says `STREAM = True`), and not one datagram
    at a time."""
    return getattr(REGISTRY[name], "STREAM", False)
