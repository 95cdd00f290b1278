"""The registry of relays: what other control systems subscribe to.

A relay is a viewer under the policy like any other; one that is slow or down never slows a radio.
"""

from __future__ import annotations

from pathlib import Path

from adapters.relays.mqtt_feed import Feed
from gateway.bus import EventBus
from gateway.ports import Clock, Journal, Meter
from gateway.settings import BrokerSection

__all__ = ["Feed", "create"]


def create(
    broker: BrokerSection,
    *,
    instance: str,
    config_path: Path,
    bus: EventBus,
    clock: Clock,
    meter: Meter,
    journal: Journal,
) -> Feed:
    """The feed on this broker; nothing is opened yet."""
    del instance, clock
    return Feed(broker, config_path=config_path, bus=bus, meter=meter, journal=journal)
