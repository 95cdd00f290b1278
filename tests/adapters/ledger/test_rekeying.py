"""Digests that anybody could have made are gone after a start; copies are still known by theirs."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

import pytest

from adapters.ledger import rekeying
from gateway.check_memory import under_key
from gateway.errors import DuplicateCheck
from gateway.ports import PutCheck
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import check_row, opened
from tests.fakes import FakeClock, FakeKeyed

NOW_MS = FakeClock().wall_ms()
DAY_MS = 86_400_000


def plain(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("step", [1, 500])
async def test_plain_digests_are_keyed_while_a_copy_may_come(
    section: LedgerSection, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeying, "STEP", step)
    keyed = partial(under_key, FakeKeyed())
    store = await opened(tmp_path, section)
    kept = {"C3": keyed("x"), "C4": "id:C4", "C5": f"trial:{keyed('y')}", "C6": "a" * 40}
    for id_, dedupe, at_ms in (
        ("C1", plain("young"), NOW_MS),
        ("C2", plain("old"), NOW_MS - DAY_MS - 1),
        ("T1", f"trial:{plain('deadly')}", NOW_MS),
        *((id_, dedupe, NOW_MS) for id_, dedupe in kept.items()),
    ):
        await store.commit([], [PutCheck(check_row(id_, dedupe=dedupe, opened_at_ms=at_ms))])
    for _ in range(2):
        await store.hide_questions(keyed)
        rows = {row.id: row.dedupe for row in await store.open_checks()}
        assert rows == {"C1": keyed(plain("young")), "C2": "", **kept}
    copy = PutCheck(check_row("C9", dedupe=keyed(plain("young"))))
    with pytest.raises(DuplicateCheck, match="duplicate"):
        await store.commit([], [copy])
    await store.close()
    if not section.url:
        for name in os.listdir(tmp_path):
            held = (tmp_path / name).read_bytes()
            assert all(plain(each).encode() not in held for each in ("young", "old", "deadly"))
