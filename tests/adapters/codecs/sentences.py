"""Sentences for the tests: a checksum of their own, and a plain RMC whose fields can be changed."""

from __future__ import annotations

from functools import reduce


def sentence(body: str) -> str:
    """With `$`, star and the XOR of all between."""
    return f"${body}*{reduce(lambda value, char: value ^ ord(char), body, 0):02X}"


def rmc(**changed: str) -> str:
    """A good RMC near Peterborough, but for what is changed."""
    fields = {
        "clock": "101502",
        "status": "A",
        "lat": "5234.3500",
        "north": "N",
        "lon": "00014.5860",
        "east": "W",
        "knots": "0",
        "track": "",
        "date": "221126",
        "tail": ",,A",
    } | changed
    return sentence("GPRMC," + ",".join(fields.values()))
