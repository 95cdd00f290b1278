"""What a receipt proves: every word comes from a record that is under a signed head."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from adapters.ledger import show_receipt
from adapters.ledger.receipts import HELD, PURGED, Proof
from adapters.ledger.store import Store
from gateway.errors import ChainBroken
from gateway.messages import Outcome, Result
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import fill, opened, tamper
from tests.adapters.ledger.test_tampering import theirs

RECEIPT, CHECK = "4F2A-91KQ", "01CHECKC7F3"
RESULT = Result(
    ref="r1",
    check=CHECK,
    short="C7F3",
    outcome=Outcome.ANSWERED,
    result_class="HIT_STOLEN",
    danger=("STOLEN",),
    pages=("!!STOLEN TE99STV",),
    texts=("C7F3 1/1 !!STOLEN TE99STV.",),
    fields={"make": "FORD"},
    not_checked=(),
    as_of_ms=2000,
    level="L3",
    receipt=RECEIPT,
)
ASKED = {
    "check": CHECK,
    "receipt": RECEIPT,
    "terminal": "5001001",
    "officer": "1001",
    "agency": "police",
    "role": "constable",
    "reason": "5",
    "operation": "vehicle",
    "policy": "2026-11",
}
STORY = [
    Record(
        event="opened",
        at_ms=1000,
        operator="op-7",
        content=b'{"justification":"NO LIGHTS","key":"VRM:TE99STV","location":"BRIDGE ST"}',
        **ASKED,
    ),
    Record(
        event="asked",
        at_ms=1100,
        attempt=1,
        source="PNC",
        content=b'{"originator":"1001 TESTER NO LIGHTS"}',
        **ASKED,
    ),
    Record(event="answered", at_ms=1200, outcome="answered", content=b"COVERT REPLY", **ASKED),
    Record(
        event="disclosed",
        at_ms=1300,
        outcome="answered",
        recipient="police:1001@5001001",
        level="L3",
        fields=("make", "reports"),
        content=msgspec.json.encode(RESULT),
        **ASKED,
    ),
    Record(event="read", at_ms=1400, recipient="police:1001@5001001", **ASKED),
]


@pytest.fixture
async def store(section: LedgerSection, tmp_path: Path) -> AsyncIterator[Store]:
    """The story of one check, among others."""
    store = await opened(tmp_path, section)
    await fill(store, range(40))
    for record in STORY:
        await store.commit([record])
        await fill(store, range(3))
    yield store
    await store.close()


async def close_and_open(store: Store, section: LedgerSection, folder: Path) -> Store:
    """A stop writes a head over all of it."""
    await store.close()
    return await opened(folder, section)


def shown(section: LedgerSection, folder: Path, receipt: str = RECEIPT) -> Proof:
    [proof] = show_receipt(section, state_dir=folder, receipt=receipt)
    return proof


def public_keys(folder: Path) -> list[str]:
    return [str(each) for each in folder.glob("audit-*.pub")]


async def test_it_says_who_asked_what_and_what_was_shown(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    await store.close()
    proof = shown(section, tmp_path)
    asked = proof.question
    assert asked is not None
    assert (asked.officer, asked.operator, asked.reason, asked.policy) == (
        *("1001", "op-7", "5", "2026-11"),
    )
    assert asked.said == {
        "key": "VRM:TE99STV",
        "justification": "NO LIGHTS",
        "location": "BRIDGE ST",
    }
    [consulted] = proof.consultations
    assert (consulted.source, consulted.originator) == ("PNC", "1001 TESTER NO LIGHTS")
    [told] = proof.shown
    assert (told.recipient, told.level, told.fields, told.policy) == (
        *("police:1001@5001001", "L3", ("make", "reports"), "2026-11"),
    )
    assert (told.texts, told.pages, told.content) == (RESULT.texts, RESULT.pages, HELD)
    assert [each.event for each in proof.records] == [each.event for each in STORY]
    for word in (
        *(RECEIPT, CHECK, "officer 1001 (police, constable)", "operator op-7", "VRM:TE99STV"),
        *("reason 5", "NO LIGHTS", "BRIDGE ST", "PNC was asked", "police:1001@5001001"),
        *("level L3 under policy 2026-11: make, reports", "it was read", "under head"),
    ):
        assert word in proof.says
    assert "COVERT REPLY" not in msgspec.json.encode(proof).decode(), "what was shown to nobody"


async def test_when_its_words_are_gone_that_is_said_and_all_else_stands(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    await store.purge(5000)
    await store.close()
    proof = shown(section, tmp_path)
    assert proof.question is not None
    assert (proof.question.content, proof.question.said) == (PURGED, {})
    [told] = proof.shown
    assert (told.content, told.texts, told.fields) == (PURGED, (), ("make", "reports"))
    assert "TE99STV" not in msgspec.json.encode(proof).decode()
    assert "destroyed when their time was over" in proof.says
    assert "officer 1001" in proof.says
    assert len(proof.proofs) == len(STORY)


async def test_each_record_is_proved_for_who_shares_no_code_with_us(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    await store.close()
    proof = shown(section, tmp_path)
    path = tmp_path / "proof.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in proof.proofs))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert theirs.main(["--proof", str(path), "--keys", *public_keys(tmp_path)]) == 0
    assert len(said.getvalue().splitlines()) == len(STORY)


async def test_what_no_head_is_over_is_said_to_be_unproved(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """The head that is due within a minute is not there yet."""
    proof = shown(section, tmp_path)
    assert proof.proofs == []
    assert "No signed head" in proof.says
    store = await close_and_open(store, section, tmp_path)
    await store.commit([Record(event="duplicate", at_ms=1500, recipient="x", **ASKED)])
    proof = shown(section, tmp_path)
    assert [bool(step.head) for step in proof.records] == [True] * 5 + [False]
    assert "1 are newer than any head" in proof.says
    await store.close()


async def test_a_receipt_that_nobody_was_given_proves_nothing(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    for receipt in ("AAAA-AAAA", "", "%"):
        assert list(show_receipt(section, state_dir=tmp_path, receipt=receipt)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE audit_content SET content = salt WHERE seq = 41", "gw1:41"),
        ("UPDATE audit_leaf SET hash = 'HASH' WHERE seq = 7", "gw1:"),
        ("DELETE FROM audit_leaf WHERE seq = 9", "gw1:9"),
    ],
)
async def test_of_what_was_changed_nothing_is_said(
    store: Store, section: LedgerSection, tmp_path: Path, change: str, where: str
) -> None:
    """Its content, and also another record, on which its proof stands."""
    await store.close()
    tamper(section, tmp_path, change.replace("HASH", "00" * 32))
    with pytest.raises(ChainBroken, match=where):
        shown(section, tmp_path)


async def test_a_head_that_nobody_signed_proves_nothing(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    await store.close()
    heads = tmp_path / "heads.jsonl"
    lines = [json.loads(line) for line in heads.read_text().splitlines()]
    lines[-1]["sig"] = "00" * 64
    heads.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    with pytest.raises(ChainBroken, match="not signed"):
        shown(section, tmp_path)
