"""The registry of vehicle registers (tax, MOT, insurance): one line each.

Whatever stands in for the mock needs only to be a gateway.ports.VehicleRegister; docs/pnc-http.md
is the contract of one that is reached over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.register.http import HttpRegister
from adapters.register.mock import MockRegister, StatusRecords
from gateway.ports import Clock, VehicleRegister
from gateway.settings import RegisterSection, resolve


def _mock(settings: RegisterSection, config_path: Path, clock: Clock) -> VehicleRegister:
    return MockRegister(StatusRecords(resolve(config_path, settings.records)), clock=clock)


def _http(settings: RegisterSection, config_path: Path, clock: Clock) -> VehicleRegister:
    del clock
    return HttpRegister(settings, config_path=config_path)


def _none(settings: RegisterSection, config_path: Path, clock: Clock) -> None:
    del settings, config_path, clock


REGISTRY: dict[str, Callable[[RegisterSection, Path, Clock], VehicleRegister | None]] = {
    "none": _none,
    "mock": _mock,
    "http": _http,
}


def create(
    adapter: str, *, settings: RegisterSection, config_path: Path, clock: Clock
) -> VehicleRegister | None:
    """The adapter of this name; None where there is no register. KeyError for an unknown one,
    ConfigError for bad records."""
    return REGISTRY[adapter](settings, config_path, clock)
