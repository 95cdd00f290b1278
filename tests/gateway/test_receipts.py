"""A receipt, however it was written down."""

from __future__ import annotations

import pytest

from gateway.app import SystemIds
from gateway.receipts import export_detail, read_receipt


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("4F2A-91KQ", "4F2A-91KQ"), ("4f2a91kq", "4F2A-91KQ"), (" 4F2A 91KQ\n", "4F2A-91KQ")),
        *(("4F2A-9IKQ", "4F2A-91KQ"), ("4F2A-9lKQ", "4F2A-91KQ"), ("OF2A-91KQ", "0F2A-91KQ")),
        *(("", ""), ("4F2A", ""), ("4F2A--91KQ", ""), ("4F2A-91KQ1", ""), ("4F2A-91K%", "")),
        *(("4F2A\n91KQ", ""), ("ÄF2A-91KQ", ""), ("none-such", "")),
    ],
)
def test_it_is_read_as_it_was_drawn(written: str, meant: str) -> None:
    assert read_receipt(written) == meant


def test_what_is_drawn_is_read_as_itself() -> None:
    ids = SystemIds()
    drawn = [ids.receipt() for _ in range(500)]
    assert [read_receipt(each) for each in drawn] == drawn
    assert len(set(drawn)) == 500


def test_a_look_at_one_check_says_so_on_record() -> None:
    assert export_detail("lawfulness") == "lawfulness"
    assert export_detail("lawfulness", "4F2A-91KQ") == "lawfulness: receipt 4F2A-91KQ"
