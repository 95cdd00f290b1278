"""The registry of protocols: one line each.

A codec is sans-IO: bytes in, messages out, and back; no clock, no socket, nothing raised on
content (gateway.ports.Codec). The simulators use the same classes from the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapters.codecs.gpsd_json import GpsdJson
from adapters.codecs.line_terminal import LineTerminal
from adapters.codecs.lip import Lip
from adapters.codecs.nmea0183 import Nmea0183
from adapters.codecs.owntracks import OwnTracks
from adapters.codecs.sds import Sds
from adapters.codecs.terminal_json import TerminalJson
from gateway.ports import Codec

REGISTRY: dict[str, Callable[..., Codec]] = {
    "gpsd_json": GpsdJson,
    "line_terminal": LineTerminal,
    "lip": Lip,
    "nmea0183": Nmea0183,
    "owntracks": OwnTracks,
    "sds": Sds,
    "terminal_json": TerminalJson,
}


def create(name: str, **options: Any) -> Codec:
    """A fresh codec: one for each line, one for each datagram. KeyError for an unknown name.

    options: side ("gateway" or "terminal"), and what the codec's constructor names.
    """
    return REGISTRY[name](**options)
