"""A policy by two persons: who approved these bytes, and what happens without."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.errors import ConfigError
from gateway.policy_seal import (
    FIRST,
    SAME,
    SEALED,
    UNSEALED,
    InForce,
    approved_by,
    hash_of,
    judge,
)
from gateway.settings import Config
from tests.fakes import FakeSeals
from tests.gateway.house import House, config

OLD, NEW = b'version = "1"', b'version = "2"'
APPROVERS = {"anna": "A", "bert": "B", "carl": "C"}
IN_FORCE = InForce(version="1", hash=hash_of(OLD), approvers=APPROVERS)


def seal(*names: str) -> str:
    """As the fake signs: KEY-seals, each key the capital of its name."""
    return "".join(f"{name} {name[0].upper()}-seals\n" for name in names)


def taken(sealed: str, *, in_force: InForce | None = IN_FORCE, production: bool = True) -> str:
    """The operation, or `refused`."""
    verdict = judge(NEW, sealed, APPROVERS, in_force, FakeSeals(), production=production)
    return "refused" if verdict.finding else verdict.operation


@pytest.mark.parametrize("n", range(4))
def test_two_of_those_in_force_or_none(n: int) -> None:
    for names in itertools.permutations(APPROVERS, n):
        assert taken(seal(*names)) == (SEALED if n >= 2 else "refused")
        assert taken(seal(*names), production=False) == (SEALED if n >= 2 else UNSEALED)
        assert taken(seal(*names), in_force=None) == (FIRST if n >= 2 else "refused")


def test_one_person_is_one_however_often_they_sign() -> None:
    assert taken(seal("anna", "anna")) == "refused"
    twice = msgspec.structs.replace(IN_FORCE, approvers={"anna": "A", "aron": "A"})
    assert taken("anna A-seals\naron A-seals\n", in_force=twice) == "refused"


def test_a_policy_lets_nobody_in_to_approve_itself() -> None:
    """Its own approvers count only where none was in force before."""
    stranger = msgspec.structs.replace(IN_FORCE, approvers={"xena": "X", "yves": "Y"})
    assert taken(seal("anna", "bert"), in_force=stranger) == "refused"
    assert taken(seal("xena", "yves"), in_force=stranger) == SEALED
    nobody = msgspec.structs.replace(IN_FORCE, approvers={})
    assert taken(seal("anna", "bert"), in_force=nobody) == "refused"


@pytest.mark.parametrize(
    "text", ["", "anna", "anna  ", "anna B-seals\nbert A-seals\n", "# anna A-seals\n", "\n" * 500]
)
def test_what_is_no_signature_is_none(text: str) -> None:
    assert approved_by(NEW, text, APPROVERS, FakeSeals()) == []


def test_the_one_in_force_needs_no_new_seal() -> None:
    verdict = judge(OLD, "", {}, IN_FORCE, FakeSeals(), production=True)
    assert (verdict.operation, verdict.finding) == (SAME, "")


# --------------------------------------------------------------------------- in the core


def edition(base: Config, data: bytes, sealed: str, *, profile: str = "production") -> Config:
    gateway = msgspec.structs.replace(base.settings.gateway, profile=profile)
    return msgspec.structs.replace(
        base,
        settings=msgspec.structs.replace(base.settings, gateway=gateway),
        policy=msgspec.structs.replace(base.policy, version=data.decode(), approvers=APPROVERS),
        policy_bytes=data,
        policy_seal=sealed,
    )


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House(edition(config(), OLD, seal("anna", "bert"))) as made:
        yield made


def on_record(house: House) -> list[tuple[str, str]]:
    return [
        (each.operation, each.operator)
        for each in house.on_record("alteration")
        if each.operation.startswith("policy.")
    ]


async def test_who_approved_is_on_record_and_kept_over_a_restart(house: House) -> None:
    assert on_record(house) == [(FIRST, "anna+bert")]
    await house.restart()
    assert on_record(house) == [(FIRST, "anna+bert")]
    await house.core.take_policy(edition(config(), NEW, seal("bert", "carl")))
    assert on_record(house)[1:] == [(SEALED, "bert+carl")]
    await house.restart(edition(config(), NEW, ""))
    assert len(on_record(house)) == 2


async def test_without_two_nothing_is_taken_and_nothing_is_on_record(house: House) -> None:
    before = len(house.disk.records)
    with pytest.raises(ConfigError) as caught:
        await house.core.take_policy(
            edition(config(), NEW, seal("anna")), house.core.alterations(house.config)
        )
    assert caught.value.findings == [
        "policy.toml: approved by 1 of the approvers in force; 2 must seal it"
    ]
    assert len(house.disk.records) == before
    with pytest.raises(ConfigError):
        await house.restart(edition(config(), NEW, seal("anna")))


async def test_training_takes_one_unsealed_and_says_so() -> None:
    async with House(edition(config(), OLD, "", profile="training")) as house:
        assert on_record(house) == [(UNSEALED, "")]
        assert [event for event, _ in house.journal.lines].count("policy.unsealed") == 1
