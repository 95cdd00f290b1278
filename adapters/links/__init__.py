"""The registry of links: one line each.

A link owns one serial port or one broker, runs a codec, and decides nothing (gateway.ports.Link).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.links.gpsd import GpsdLink
from adapters.links.intake import nameless, nobody
from adapters.links.mqtt_broker import MqttLink
from adapters.links.osmand_http import OsmandLink
from adapters.links.owntracks import OwnTracksLink
from adapters.links.pei_dialects import DIALECTS
from adapters.links.serial_port import SerialLink
from adapters.links.tetra import TetraLink
from gateway.messages import Issi
from gateway.ports import Clock, Codec, Journal, Link, Meter, Named, Suspect, Tap, untapped
from gateway.settings import (
    BrokerSection,
    GpsdSection,
    LinkSection,
    OsmandSection,
    OwnTracksSection,
    SerialSection,
    TetraSection,
)

__all__ = ["DIALECTS", "REGISTRY", "create"]

REGISTRY: dict[type[Any], Callable[..., Link]] = {
    SerialSection: SerialLink,
    BrokerSection: MqttLink,
    GpsdSection: GpsdLink,
    TetraSection: TetraLink,
    OwnTracksSection: OwnTracksLink,
    OsmandSection: OsmandLink,
}


def create(
    section: LinkSection,
    *,
    instance: str,
    config_path: Path,
    clock: Clock,
    meter: Meter,
    journal: Journal,
    known: Callable[[Issi], bool],
    codecs: Callable[..., Codec],
    suspect: Suspect = nobody,
    tap: Tap = untapped,
    named: Named = nameless,
) -> Link:
    """The link of this section of the configuration; nothing is opened yet.

    known: whether an ISSI is in the fleet. codecs: `create` of the codecs' registry. suspect: told
    what looks like somebody's doing. tap: told what is heard, before it is judged. named: who is
    meant where a protocol says no ISSI.
    """
    return REGISTRY[type(section)](
        section,
        instance=instance,
        config_path=config_path,
        clock=clock,
        meter=meter,
        journal=journal,
        known=known,
        codecs=codecs,
        suspect=suspect,
        tap=tap,
        named=named,
    )
