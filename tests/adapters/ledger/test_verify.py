"""The chain over both databases: it verifies, and whatever is changed is found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ledger import canonical, verify_chain
from adapters.ledger.heads import Head, HeadsFile, read_heads
from adapters.ledger.readers import Leaf
from adapters.ledger.store import Store
from adapters.ledger.verify import verify_log
from gateway.errors import ChainBroken, LedgerUnavailable
from gateway.ports import Record
from gateway.settings import LedgerSection
from tests.adapters.ledger.books import fill, opened, record, tamper
from tests.chain import audit, chain_faults, contents, heads_of


@pytest.fixture
async def store(section: LedgerSection, tmp_path: Path) -> AsyncIterator[Store]:
    store = await opened(tmp_path, section)
    await fill(store, range(20))
    yield store
    await store.close()


def verified(section: LedgerSection, folder: Path, heads: Path | None = None) -> list[str]:
    return list(verify_chain(section, state_dir=folder, heads=(heads,) if heads else ()))


async def test_verifies_while_the_daemon_writes(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """Read-only, beside the writer: neither keeps the other from its work."""
    said = verified(section, tmp_path)
    assert said[0].startswith("gw1: 20 records verify")
    await store.commit([Record(event="asked", at_ms=2000)])
    assert verified(section, tmp_path)[0].startswith("gw1: 21 records verify")


async def test_a_second_verifier_agrees(tmp_path: Path) -> None:
    """One that shares no code with the first, with contents and heads."""
    store = await opened(tmp_path)
    await fill(store, range(20))
    await store.close()
    known = heads_of(tmp_path / "heads.jsonl", "gw1")
    assert chain_faults(audit(tmp_path), known=known, contents=contents(tmp_path)) == []
    tamper(LedgerSection(), tmp_path, "DELETE FROM audit_leaf WHERE seq = 20")
    assert chain_faults(audit(tmp_path)) == []
    assert chain_faults(audit(tmp_path), known=known) != []
    tamper(LedgerSection(), tmp_path, "UPDATE audit_content SET content = 'x' WHERE seq = 3")
    assert chain_faults(audit(tmp_path), contents=contents(tmp_path)) == ["I9 gw1:3: content"]


@pytest.mark.parametrize(
    ("statement", "seq", "says"),
    [
        ("UPDATE audit_leaf SET record = audit_leaf.hash {cast} WHERE seq = 7", 7, "hash"),
        ("UPDATE audit_leaf SET hash = 'ff' WHERE seq = 8", 8, "hash"),
        ("DELETE FROM audit_leaf WHERE seq = 9", 9, "missing"),
        ("UPDATE audit_content SET content = salt WHERE seq = 10", 10, "committed"),
        ("UPDATE audit_content SET content = 'text' WHERE seq = 10", 10, "committed"),
        ("UPDATE audit_leaf SET seq = 100 WHERE seq = 11", 11, "missing"),
    ],
)
async def test_whatever_is_changed_is_named(
    store: Store, section: LedgerSection, tmp_path: Path, statement: str, seq: int, says: str
) -> None:
    await store.close()
    cast = "::text::bytea" if section.url else ""
    tamper(section, tmp_path, statement.format(cast=cast))
    with pytest.raises(ChainBroken) as caught:
        verified(section, tmp_path)
    assert (caught.value.log, caught.value.seq) == ("gw1", seq)
    assert says in caught.value.reason


async def test_the_tables_refuse_changes(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """Append-only: UPDATE and DELETE are refused by the database itself."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError

    await store.close()
    engine = create_engine(section.url or f"sqlite:///{tmp_path / 'ledger.db'}")
    for statement in ("UPDATE audit_leaf SET event = 'x'", "DELETE FROM audit_leaf"):
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as db:
            db.execute(text(statement))
    engine.dispose()


async def test_a_cut_tail_is_seen_against_the_heads(
    store: Store, section: LedgerSection, tmp_path: Path
) -> None:
    """F17: without heads a shortened chain still verifies; with them it does not."""
    await store.close()
    heads = tmp_path / "elsewhere.jsonl"
    heads.write_bytes((tmp_path / "heads.jsonl").read_bytes())
    assert "against the heads" in verified(section, tmp_path, heads)[0]
    tamper(
        section,
        tmp_path,
        "DELETE FROM audit_content WHERE seq > 15",
        "DELETE FROM audit_leaf WHERE seq > 15",
    )
    assert verified(section, tmp_path)[0].startswith("gw1: 15 records verify")
    with pytest.raises(ChainBroken, match="gw1:16: cut off"):
        verified(section, tmp_path, heads)
    tamper(section, tmp_path, "DELETE FROM audit_content", "DELETE FROM audit_leaf")
    with pytest.raises(ChainBroken, match="the heads know this log"):
        verified(section, tmp_path, heads)


async def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="has the daemon ever run"):
        verified(LedgerSection(), tmp_path)
    with pytest.raises(LedgerUnavailable, match=r"none\.jsonl: cannot be read"):
        verified(LedgerSection(), tmp_path, tmp_path / "none.jsonl")
    (tmp_path / "ledger.db").write_bytes(b"no database at all, and long enough to be looked at" * 9)
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        verified(LedgerSection(), tmp_path)


async def test_reading_cannot_write(store: Store, section: LedgerSection, tmp_path: Path) -> None:
    """SQLite `mode=ro`, PostgreSQL read-only: the database itself refuses."""
    from sqlalchemy import text

    from adapters.ledger import url_of
    from adapters.ledger.readers import reading

    with (
        pytest.raises(LedgerUnavailable, match=r"(?i)read.?only"),
        reading(url_of(section, tmp_path)) as db,
    ):
        db.execute(text("UPDATE meta SET value = '0'"))


# --------------------------------------------------------------------------- by property, in memory


def chain_of(n: int, *, log: str = "gw1") -> list[Leaf]:
    """A sound chain of n records, each with content."""
    leaves, prev = [], canonical.GENESIS
    for seq in range(1, n + 1):
        salt, content = bytes([seq]) * 16, b"content %d" % seq
        raw = canonical.encode(
            record(seq),
            log=log,
            seq=seq,
            prev=prev,
            commitment_=canonical.commitment(salt, content),
        )
        prev = canonical.digest(raw)
        leaves.append(Leaf(log, seq, 1000 + seq, raw, prev, salt, content))
    return leaves


SOUND = chain_of(12)


@given(st.data())
def test_any_flipped_bit_is_found_where_it_is(data: st.DataObject) -> None:
    """Of record, hash, salt or content, of any record."""
    at = data.draw(st.integers(0, len(SOUND) - 1))
    name = data.draw(st.sampled_from(("record", "hash", "salt", "content")))
    value = getattr(SOUND[at], name)
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 6))
    changed = bytes(raw) if isinstance(value, bytes) else raw.decode()
    leaves = [*SOUND]
    leaves[at] = msgspec.structs.replace(SOUND[at], **{name: changed})
    with pytest.raises(ChainBroken) as caught:
        verify_log("gw1", leaves, {})
    assert caught.value.seq == at + 1


@given(st.permutations(range(12)).filter(lambda order: order != list(range(12))))
def test_no_other_order_verifies(order: list[int]) -> None:
    """Named is the first place where the wrong one stands."""
    with pytest.raises(ChainBroken) as caught:
        verify_log("gw1", [SOUND[n] for n in order], {})
    first = next(n for n, which in enumerate(order) if n != which)
    assert caught.value.seq in (first + 1, order[first] + 1)


@given(cut=st.integers(0, 11), head=st.integers(1, 12))
def test_a_head_proves_what_stands_before_it(cut: int, head: int) -> None:
    heads = {head: {SOUND[head - 1].hash}}
    if cut >= head:
        assert verify_log("gw1", SOUND[:cut], heads).seq == cut
    else:
        with pytest.raises(ChainBroken, match="cut off"):
            verify_log("gw1", SOUND[:cut], heads)


def test_a_chain_that_was_written_anew_is_seen_against_a_head() -> None:
    """F17: whoever owns the database can rehash everything; not the head that left the host."""
    forged = chain_of(12)
    forged[5] = msgspec.structs.replace(forged[5], content=b"other", salt=None)
    anew, prev = [], canonical.GENESIS
    for leaf in forged:
        raw = canonical.encode(
            record(leaf.seq + 100), log="gw1", seq=leaf.seq, prev=prev, commitment_=""
        )
        prev = canonical.digest(raw)
        anew.append(Leaf("gw1", leaf.seq, leaf.at_ms, raw, prev))
    assert verify_log("gw1", anew, {}).seq == 12
    with pytest.raises(ChainBroken, match=r"gw1:1: the heads know another 9: bad within 1\.\.9"):
        verify_log("gw1", anew, {9: {SOUND[8].hash}})


def test_two_heads_of_one_number_are_a_contradiction(tmp_path: Path) -> None:
    """Whichever the ledger holds, the other was shown to somebody (P11)."""
    heads = HeadsFile(tmp_path / "heads.jsonl", "gw1")
    heads.append(Head("gw1", 9, SOUND[8].hash))
    assert verify_log("gw1", SOUND, read_heads(tmp_path / "heads.jsonl")["gw1"]).seq == 12
    heads.append(Head("gw1", 9, "ff"))
    with pytest.raises(ChainBroken, match="two heads say two things of 9"):
        verify_log("gw1", SOUND, read_heads(tmp_path / "heads.jsonl")["gw1"])


def segment(seq: int, prev: str) -> Leaf:
    raw = canonical.encode(
        Record(event="security", at_ms=1, operation=canonical.SEGMENT),
        log="gw1",
        seq=seq,
        prev=prev,
        commitment_="",
    )
    return Leaf("gw1", seq, 1, raw, canonical.digest(raw))


def test_a_gap_verifies_only_when_it_is_on_record_and_hangs_on_a_known_head() -> None:
    """D04, D12: the records 6..9 are elsewhere; the one behind them says so."""
    behind = segment(10, SOUND[4].hash)
    found = verify_log("gw1", [*SOUND[:5], behind], {5: {SOUND[4].hash}})
    assert (found.records, found.gaps, found.seq) == (6, ((6, 9),), 10)
    assert verify_log("gw1", [behind], {5: {SOUND[4].hash}}).gaps == ((1, 9),)
    with pytest.raises(ChainBroken, match="gw1:6: missing"):
        verify_log("gw1", [*SOUND[:5], segment(10, "ff" * 32)], {5: {SOUND[4].hash}})
    with pytest.raises(ChainBroken, match="gw1:6: missing"):
        verify_log("gw1", [*SOUND[:5], SOUND[9]], {})


def test_a_torn_line_of_heads_costs_itself(tmp_path: Path) -> None:
    """A power cut in the middle of a line: the others prove what they prove."""
    path = tmp_path / "heads.jsonl"
    heads = HeadsFile(path, "gw1")
    heads.append(Head("gw1", 3, SOUND[2].hash))
    path.write_bytes(path.read_bytes() + b'{"log":"gw1","se')
    newest = heads.newest()
    assert newest is not None
    assert newest.seq == 3
    heads.append(Head("gw1", 9, SOUND[8].hash))
    assert sorted(read_heads(path)["gw1"]) == [3, 9]
    path.write_bytes(path.read_bytes() + b"something else\n")
    with pytest.raises(LedgerUnavailable, match=r"heads\.jsonl:4: not a head"):
        read_heads(path)


async def test_a_text_that_is_none_is_a_bad_record_and_no_failure(tmp_path: Path) -> None:
    """Damaged to what is no UTF-8: it is named, and those before it are read as ever."""
    store = await opened(tmp_path)
    await fill(store, range(9))
    await store.close()
    damage = "UPDATE audit_leaf SET hash = CAST(X'FFFE' AS TEXT) WHERE seq = 5"
    tamper(LedgerSection(), tmp_path, damage)
    with pytest.raises(ChainBroken, match="gw1:5"):
        list(verify_chain(LedgerSection(), state_dir=tmp_path))
