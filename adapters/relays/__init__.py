"""The registry of relays: what other control systems subscribe to, one line each.

A relay is a viewer under the policy like any other; one that is slow or down never slows a radio.
What a relay promises is one suite for all of them: tests/contracts/test_relays.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from adapters.relays.cot import Cot
from adapters.relays.mqtt_feed import Feed
from gateway.bus import EventBus
from gateway.ports import Clock, Journal, Meter, Present
from gateway.settings import BrokerSection, CotSection

__all__ = ["Relay", "create"]


class Relay(Protocol):
    """Opened and kept like a link (gateway.supervise.keep)."""

    name: str
    kind: str

    async def run(self, up: Callable[[], None]) -> None:
        """Open, call `up`, relay until the far side is gone. Raises LinkDown."""


REGISTRY: dict[type[Any], Callable[..., Relay]] = {
    BrokerSection: Feed,
    CotSection: Cot,
}


def create(
    section: BrokerSection | CotSection,
    *,
    instance: str,
    exercise: bool,
    config_path: Path,
    bus: EventBus,
    present: Present,
    clock: Clock,
    meter: Meter,
    journal: Journal,
) -> Relay:
    """The relay of this section of the configuration; nothing is opened yet.

    exercise: nothing here is real. present: what there is now; it is said again after a reconnect.
    """
    return REGISTRY[type(section)](
        section,
        instance=instance,
        exercise=exercise,
        config_path=config_path,
        bus=bus,
        present=present,
        clock=clock,
        meter=meter,
        journal=journal,
    )
