"""The registry of PNC adapters: one line each.

Whatever stands in for the mock needs only to be a gateway.ports.Pnc; docs/pnc-http.md is the
contract of one that is reached over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.pnc.http import HttpPnc
from adapters.pnc.mock import MockPnc, Register
from gateway.ports import Clock, Ids, Pnc
from gateway.settings import PncSection, resolve


def _mock(settings: PncSection, config_path: Path, clock: Clock) -> Pnc:
    return MockPnc(Register(resolve(config_path, settings.records)), clock=clock)


def _http(settings: PncSection, config_path: Path, clock: Clock) -> Pnc:
    del clock
    return HttpPnc(settings, config_path=config_path)


REGISTRY: dict[str, Callable[[PncSection, Path, Clock], Pnc]] = {
    "mock": _mock,
    "http": _http,
}


def create(adapter: str, *, settings: PncSection, config_path: Path, clock: Clock, ids: Ids) -> Pnc:
    """The adapter of this name. KeyError for an unknown one, ConfigError for bad records."""
    del ids
    return REGISTRY[adapter](settings, config_path, clock)
