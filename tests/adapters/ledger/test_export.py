"""The export: every record, in order, provable from its own lines; never the content."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from adapters.ledger import export_records
from gateway.errors import LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import CANARY, fill, opened, record, tamper
from tests.chain import chain_faults, leaf_of_line

FULL = Record(
    event="disclosed",
    at_ms=1_795_325_047_120,
    check="01TEST000001C001",
    terminal="5001001",
    officer="1001",
    agency="police",
    role="constable",
    operator="op-1",
    reason="5",
    operation="#",
    outcome="answered",
    recipient="police:1001@5001001",
    fields=("name", "dob"),
    level="L3",
    policy="2026-11",
    attempt=2,
    receipt="TEST-0001",
    detail="é",
    booking="B1",
    on_behalf="council",
    parent="01TEST000000C000",
    source="PNC",
    operator_role="supervisor",
    mono_ms=1,
    latency_ms=2,
    build="1.0",
    config="c0ffee",
    content=CANARY,
)
PROMISED = {
    *("log", "seq", "at_ms", "t", "event", "check", "terminal", "officer", "agency", "role"),
    *("operator", "reason", "operation", "commitment", "outcome", "recipient", "fields", "level"),
    *("policy", "attempt", "receipt", "detail", "booking", "on_behalf", "parent", "source"),
    *("operator_role", "mono_ms", "latency_ms", "build", "config", "verb", "prev", "hash"),
}
"""docs/interfaces.md, Audit export."""


def export(
    section: LedgerSection, folder: Path, since_ms: int | None = None, until_ms: int | None = None
) -> tuple[list[bytes], dict[str, object], bytes]:
    out = io.BytesIO()
    manifest = export_records(
        section,
        state_dir=folder,
        purpose="lawfulness",
        by="auditor",
        since_ms=since_ms,
        until_ms=until_ms,
        out=out,
    )
    return out.getvalue().splitlines(), json.loads(manifest), out.getvalue()


async def test_a_line_holds_every_member_and_no_other(
    section: LedgerSection, tmp_path: Path
) -> None:
    """Of a record that has them all; what is empty is left out."""
    store = await opened(tmp_path, section)
    await store.commit([FULL, Record(event="started", at_ms=1)])
    lines, _, raw = export(section, tmp_path)
    await store.close()
    assert set(json.loads(lines[0])) == PROMISED
    assert set(json.loads(lines[1])) == {"log", "seq", "at_ms", "t", "event", "prev", "hash"}
    assert json.loads(lines[0])["t"] == "2026-11-22T05:24:07.120Z"
    assert json.loads(lines[0])["fields"] == ["name", "dob"]
    assert CANARY not in raw


async def test_the_chain_verifies_from_the_lines_alone(
    section: LedgerSection, tmp_path: Path
) -> None:
    """By a verifier that shares no code with ours."""
    store = await opened(tmp_path, section)
    await store.commit([FULL])
    await fill(store, range(30))
    lines, manifest, raw = export(section, tmp_path)
    await store.close()
    leaves = [leaf_of_line(line) for line in lines]
    assert len(leaves) == 31
    assert chain_faults(leaves) == []
    assert manifest == {
        "purpose": "lawfulness",
        "by": "auditor",
        "records": 31,
        "first": "gw1:1",
        "last": "gw1:31",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


async def test_from_and_to_bound_it(section: LedgerSection, tmp_path: Path) -> None:
    """From is within, to is not; nothing found is an empty export, not an error."""
    store = await opened(tmp_path, section)
    await fill(store, range(20))
    lines, manifest, _ = export(section, tmp_path, 1005, 1015)
    assert [json.loads(line)["seq"] for line in lines] == list(range(6, 16))
    assert (manifest["first"], manifest["last"]) == ("gw1:6", "gw1:15")
    assert export(section, tmp_path, 9000)[1]["records"] == 0
    await store.close()


async def test_an_export_of_many_pages_does_not_pin_the_writer(tmp_path: Path) -> None:
    """A page is one transaction: the writer folds its log in while somebody exports."""
    from adapters.ledger.export import Manifest, lines

    store = await opened(tmp_path)
    await store.commit([Record(event="asked", at_ms=n) for n in range(5000)])
    manifest = Manifest(purpose="lawfulness", by="auditor")
    reading = lines(f"sqlite:///{tmp_path / 'ledger.db'}", manifest, since_ms=None, until_ms=None)
    next(reading)
    await store.commit([Record(event="asked", at_ms=9)])
    assert await store._read(lambda _db: store._writer.checkpoint("TRUNCATE"))
    assert sum(1 for _ in reading) == 5000
    await store.close()


async def test_who_only_exports_leaves_a_broken_chain_as_it_is(tmp_path: Path) -> None:
    """The evidence is not moved by the one who came to look at it; the daemon does that."""
    from adapters.ledger import open_ledger
    from tests.fakes import FakeClock, FakeJournal, FakeMeter

    async def look() -> None:
        await open_ledger(
            LedgerSection(),
            state_dir=tmp_path,
            instance="gw1",
            meter=FakeMeter(),
            journal=FakeJournal(),
            clock=FakeClock(),
            repair=False,
        )

    store = await opened(tmp_path)
    await store.commit([record(n) for n in range(9)])
    await store.close()
    tamper(LedgerSection(), tmp_path, "UPDATE audit_leaf SET hash = 'ff' WHERE seq = 4")
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(LedgerUnavailable, match="gw1:4"):
        await look()
    assert (tmp_path / "ledger.db").read_bytes() == before
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(LedgerUnavailable, match="records after 0 are missing"):
        await look()
