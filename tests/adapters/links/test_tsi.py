"""Identities in the forms of reference 1.4."""

from __future__ import annotations

import pytest

from adapters.links.tsi import Tsi, parse


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("5001234", Tsi(None, None, 5_001_234)),
        ("05001234", Tsi(None, None, 5_001_234)),
        (" 1 ", Tsi(None, None, 1)),
        ("16777214", Tsi(None, None, 16_777_214)),
        ("262100105001234", Tsi(262, 1001, 5_001_234)),
        ("2620100105001234", Tsi(262, 1001, 5_001_234)),
        ("09011638300023401", Tsi(901, 16_383, 23_401)),
        ("234001405001234", Tsi(234, 14, 5_001_234)),
        ("02340001405001234", Tsi(234, 14, 5_001_234)),
    ],
)
def test_it_is_the_same_radio_in_every_form(text: str, meant: Tsi) -> None:
    assert parse(text) == meant
    assert meant.issi == str(meant.ssi)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "00000000", "16777215", "99999999", "-1", "5001234x", "٣"),
        *("123456789", "12345678901234", "123456789012345678"),
        *("10241638300023401", "09011638400023401", "262100100000000"),
    ],
)
def test_what_names_no_radio(text: str) -> None:
    assert parse(text) is None


def test_whose_network_it_may_be() -> None:
    ours = (234, 14)
    assert Tsi(None, None, 1).is_of(*ours), "it did not say"
    assert Tsi(234, 14, 1).is_of(*ours)
    assert not Tsi(234, 15, 1).is_of(*ours)
    assert not Tsi(235, 14, 1).is_of(*ours)
    assert Tsi(235, 14, 1).is_of(None, None)
