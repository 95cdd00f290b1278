"""The fakes fit their ports: mypy checks the assignments, the tests what each is for."""

from __future__ import annotations

import pytest

from gateway.errors import AnchorFailed, PncDown
from gateway.messages import RegisterQuery, Secret, StatusRecord
from gateway.ports import Anchor, Factors, Keyed, VehicleRegister
from tests.fake_pnc import FakeRegister
from tests.fakes import FakeAnchor, FakeFactors, FakeKeyed

QUERY = RegisterQuery(
    check="C1", attempt=1, vrm="TE99ABC", key_text="VRM:TE99ABC", asked_at_ms=1, deadline_s=1.0
)


async def test_factors() -> None:
    factors: Factors = FakeFactors()
    stored = factors.made(Secret("4711"))
    assert await factors.matches(stored, Secret("4711"))
    assert not await factors.matches(stored, Secret("4712"))
    assert not await factors.matches("", Secret(""))


def test_keyed() -> None:
    keyed: Keyed = FakeKeyed()
    assert keyed("a", "x") == keyed("a", "x")
    assert len({keyed("a", "x"), keyed("b", "x"), keyed("a", "y")}) == 3


async def test_anchor() -> None:
    fake = FakeAnchor()
    anchor: Anchor = fake
    assert await anchor.newest() is None
    await anchor.put(b"1")
    await anchor.put(b"2")
    assert await anchor.newest() == b"2"
    fake.down = True
    with pytest.raises(AnchorFailed):
        await anchor.put(b"3")
    assert fake.heads == [b"1", b"2"]


async def test_register() -> None:
    fake = FakeRegister()
    register: VehicleRegister = fake
    assert (await register.look_up(QUERY)).record is None
    fake.records["TE99ABC"] = StatusRecord(vrm="TE99ABC", tax="Y")
    fake.silent = frozenset({"MID"})
    answer = await register.look_up(QUERY)
    assert answer.record == fake.records["TE99ABC"]
    assert (answer.check, answer.attempt, answer.key_text) == ("C1", 1, "VRM:TE99ABC")
    assert {block.source: block.state for block in answer.blocks}["MID"] == "UNAVAILABLE"
    assert await register.sources() == {"DVLA"}
    fake.down = PncDown("planted")
    with pytest.raises(PncDown):
        await register.look_up(QUERY)
    with pytest.raises(PncDown):
        await register.sources()
