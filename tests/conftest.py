"""What every test may ask for, and the rule that in CI nothing is skipped silently."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import mosquitto as mosquittos
from tests.services.mosquitto import Mosquitto


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        default="../shared/vectors",
        help="folder of the third-party test data (./run vectors)",
    )
    parser.addoption(
        "--seeds", type=int, default=None, help="simulated worlds, instead of the daily number"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With CI set, a skipped test is a failed one: what it needs must be installed there."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker that lets anybody in; sessions survive its SIGKILL."""
    with mosquittos.running(tmp_path / "broker", persistent=True) as broker:
        yield broker
