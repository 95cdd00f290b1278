"""What every test may ask for, and the rule that in CI nothing is skipped silently."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.services import mosquitto as mosquittos
from tests.services.mosquitto import Mosquitto

# How long an example takes says what else the machine has to do, and nothing about the code.
# At a desk each run looks at other examples. In CI, and where a mutant must be red, they are the
# same each time: whether a change is good must not hang on luck.
settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI") or os.environ.get("GATEWAY_MUTANT")),
)
settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        default="../shared/vectors",
        help="folder of the third-party test data (./run vectors)",
    )
    parser.addoption(
        "--seeds", type=int, default=None, help="simulated worlds, instead of the daily number"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two at a time (`./run test --all`): a file's tests share what they start, so they stay with
    one of the two. Each mutant stands alone."""
    for item in items:
        if item.path.name != "test_mutants.py":
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI set, a skipped test is a failed one: what it needs must be installed there."""
    return _not_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Likewise for a whole file that skips itself (`importorskip`)."""
    return _not_in_ci((yield))


R = TypeVar("R", pytest.TestReport, pytest.CollectReport)


def _not_in_ci(report: R) -> R:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker that lets anybody in; sessions survive its SIGKILL."""
    with mosquittos.running(tmp_path / "broker", persistent=True) as broker:
        yield broker
