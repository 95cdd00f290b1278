"""One PostgreSQL for the folder; each test begins with an empty database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.settings import LedgerSection
from tests.adapters.ledger.books import wipe
from tests.services import postgresql


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with postgresql.running() as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    wipe(server)
    return server


@pytest.fixture(params=["sqlite", "postgresql"])
def section(request: pytest.FixtureRequest) -> LedgerSection:
    """A ledger's settings, of either database."""
    if request.param == "sqlite":
        return LedgerSection()
    return LedgerSection(url=request.getfixturevalue("database"))
