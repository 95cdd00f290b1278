"""Contract of the port Factors, on Argon2id and on the fake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapters.passwords import Passwords
from gateway.messages import Secret
from gateway.ports import Factors
from tests.fakes import FakeFactors

LITTLE_KIB = 64
"""Work enough to be Argon2id, little enough for a suite."""


@pytest.fixture(params=["argon2id", "fake"])
def factors(request: pytest.FixtureRequest) -> Iterator[Factors]:
    if request.param == "fake":
        yield FakeFactors()
        return
    passwords = Passwords(memory_kib=LITTLE_KIB)
    yield passwords
    passwords.close()


async def test_what_was_made_of_a_factor_matches_it_and_nothing_else(factors: Factors) -> None:
    stored = factors.made(Secret("4711"))
    assert await factors.matches(stored, Secret("4711"))
    for other in ("4712", "471", "47110", "", " 4711"):
        assert not await factors.matches(stored, Secret(other)), other


async def test_nobody_is_known_by_an_empty_factor(factors: Factors) -> None:
    assert not await factors.matches("", Secret(""))
    assert not await factors.matches("", Secret("4711"))


@pytest.mark.parametrize("stored", ["4711", "$argon2id$", "$argon2id$v=19$m=64,t=2,p=1$AA$BB"])
async def test_what_is_no_stored_factor_matches_nothing(factors: Factors, stored: str) -> None:
    assert not await factors.matches(stored, Secret("4711"))


async def test_a_factor_beyond_ascii_is_one(factors: Factors) -> None:
    stored = factors.made(Secret("blåbær 東京"))
    assert await factors.matches(stored, Secret("blåbær 東京"))
    assert not await factors.matches(stored, Secret("blabaer"))
