"""The bytes that are hashed: written down once, so that no change of ours can move them."""

from __future__ import annotations

import hashlib
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from adapters.ledger import canonical
from adapters.ledger.schema import audit_leaf
from gateway.ports import AUDIT_EVENTS, VERBS, Record

RECORD = Record(
    event="disclosed",
    at_ms=1_795_325_047_120,
    check="01TEST000001C001",
    terminal="5001001",
    officer="1001",
    agency="police",
    reason="5",
    recipient="police:1001@5001001",
    fields=("name", "dob"),
    level="L3",
    policy="2026-11",
    attempt=2,
    receipt="TEST-0001",
    content=b"never in the bytes",
)
GOLDEN = (
    b'{"agency":"police","at_ms":1795325047120,"attempt":2,"check":"01TEST000001C001",'
    b'"commitment":"c0ffee","event":"disclosed","fields":["name","dob"],"level":"L3","log":"gw1",'
    b'"officer":"1001","policy":"2026-11","prev":"00ff","reason":"5","receipt":"TEST-0001",'
    b'"recipient":"police:1001@5001001","seq":7,"terminal":"5001001"}'
)


def test_the_bytes_of_a_record_are_these() -> None:
    """Sorted, without blanks, without what is empty, without the content."""
    assert canonical.encode(RECORD, log="gw1", seq=7, prev="00ff", commitment_="c0ffee") == GOLDEN


def test_what_the_record_says_now_comes_beside_it() -> None:
    """A new member, and the verb, stand in their place in the order; the others keep theirs."""
    more = msgspec.structs.replace(RECORD, booking="B1", latency_ms=3)
    raw = canonical.encode(
        more, log="gw1", seq=7, prev="00ff", commitment_="c0ffee", verb=more.verb
    )
    assert raw == (
        GOLDEN.replace(b'"check"', b'"booking":"B1","check"')
        .replace(b'"level"', b'"latency_ms":3,"level"')
        .replace(b'"5001001"}', b'"5001001","verb":"disclosure"}')
    )


def test_each_event_has_one_verb_or_none() -> None:
    """The six of the statute and no others; each for an event that there is. An event is without
    one only when it is no processing of personal data: it stands here."""
    assert set(VERBS) <= set(AUDIT_EVENTS)
    assert set(AUDIT_EVENTS) - set(VERBS) == {
        *("started", "stopped", "alarm", "security", "anchor", "emergency"),
        *("answered", "refused", "denied", "challenged", "cancelled", "late_answer"),
        *("delivered", "read", "stale"),
    }
    assert set(VERBS.values()) == {
        *("collection", "alteration", "consultation", "disclosure", "combination", "erasure")
    }
    assert Record(event="asked", at_ms=1).verb == "consultation"
    assert Record(event="answered", at_ms=1).verb == ""
    assert len(AUDIT_EVENTS) == len(set(AUDIT_EVENTS))
    assert max(map(len, AUDIT_EVENTS)) <= audit_leaf.c.event.type.length


def test_hash_and_commitment_are_these() -> None:
    """A leaf is told from other hashes by a zero byte; a commitment hashes its salt first."""
    assert canonical.digest(b"leaf") == hashlib.sha256(b"\x00leaf").hexdigest()
    assert canonical.commitment(b"salt", b"content") == hashlib.sha256(b"saltcontent").hexdigest()
    # printf '\0%s' GOLDEN | sha256sum
    assert canonical.digest(GOLDEN) == (
        "32545184c80e4af47e1c6fc551e70d5c432c74132db53b97ea22cebeb31eae97"
    )


@given(
    detail=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    fields=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=4),
    attempt=st.integers(0, 99),
)
def test_another_language_gets_the_same_bytes(detail: str, fields: list[str], attempt: int) -> None:
    """They are plain canonical JSON: json.dumps with sorted keys and no blanks makes them, too."""
    record = Record(event="asked", at_ms=1, detail=detail, fields=tuple(fields), attempt=attempt)
    raw = canonical.encode(record, log="gw1", seq=1, prev=canonical.GENESIS, commitment_="")
    again = json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert raw == again.encode()
