"""The PEI's reader: the dialogues of the corpus, however they are cut, and whose a payload is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.links.tetra_pei import (
    LINE_MOST,
    PAYLOAD_WITHIN_S,
    Accepted,
    Continuation,
    Echo,
    Event,
    Final,
    Prompt,
    Response,
    Sds,
    SendResult,
    TetraPei,
    Unreadable,
    Unsolicited,
)

CORPUS = Path(__file__).resolve().parents[2] / "corpus" / "tetra_pei"
CASES = [
    json.loads(line)
    for path in sorted(CORPUS.glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
]


def told(event: Event) -> dict[str, Any]:
    """As the corpus writes it."""
    match event:
        case Final(code=code, number=number):
            return {"event": "final", "code": code} | ({"number": number} if number else {})
        case Response(name=name, text=text):
            return {"event": "response", "name": name, "text": text}
        case Unsolicited(name=name, text=text):
            return {"event": "unsolicited", "name": name, "text": text}
        case Continuation(text=text):
            return {"event": "continuation", "text": text}
        case Echo(text=text):
            return {"event": "echo", "text": text}
        case Accepted(instance=instance):
            return {"event": "send_accepted", "instance": instance}
        case SendResult(instance=instance, status=status, reference=reference):
            return {
                "event": "send_result",
                "instance": instance,
                "status": status,
                "reference": reference,
            }
        case Sds():
            return {
                "event": "sds",
                "ai_service": event.ai_service,
                "calling": event.calling,
                "called": event.called,
                "length_bits": event.length_bits,
                "payload_hex": event.digits,
            }
        case Unreadable(reason=reason):
            return {"event": "unreadable", "reason": reason}
        case Prompt():
            return {"event": "prompt"}


def read(chunks: list[bytes], pending: str | None = None, payload: str = "") -> list[Event]:
    reader = TetraPei()
    if pending:
        reader.expect(pending, payload)
    return [event for chunk in chunks for event in reader.feed(chunk, 0.0)]


def heard(case: dict[str, Any], chunks: list[bytes]) -> list[dict[str, Any]]:
    found = [told(each) for each in read(chunks, case["pending"], case.get("payload", ""))]
    return [each for each in found if each["event"] != "prompt"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_a_dialogue_is_read_however_it_is_cut(case: dict[str, Any]) -> None:
    chunks = [chunk.encode("latin-1") for chunk in case["chunks"]]
    whole = b"".join(chunks)
    assert heard(case, chunks) == case["expect"]
    assert heard(case, [whole]) == case["expect"]
    assert heard(case, [whole[n : n + 1] for n in range(len(whole))]) == case["expect"]


def sds(lines: str, **about: Any) -> list[Event]:
    return [e for e in read([lines.encode("latin-1")], **about) if not isinstance(e, Unreadable)]


A = "+CTSDSR: 12,5001234,0,6000001,0,32\r\n"
B = "+CTSDSR: 12,5009999,0,6000001,0,32\r\n"
C = "+CTSDSR: 12,5009999,0,6000001,0,24\r\n"


def test_a_payload_is_never_given_to_another_calling_party() -> None:
    """Lost, cut, late, out of turn: it is its own party's, or nobody's."""
    assert sds(A + B + "82040001\r\n82040002\r\n") == [], "it may be either's"
    assert [
        (e.calling, e.digits) for e in sds(A + C + "0A4580\r\n82040001\r\n") if isinstance(e, Sds)
    ] == [
        ("5009999", "0A4580"),
        ("5001234", "82040001"),
    ], "lengths tell whose each is"
    assert sds(A + "8204\x8001\r\n" + "82040002\r\n") == [], "its own was cut"
    assert sds(A + "+CTSD\xffR: 12,5009999,0,6000001,0,32\r\n82040002\r\n") == []
    assert sds(A + "820400010000\r\n") == [], "more than padding is another's"
    assert sds(A + "820400\r\n") == []
    assert sds(A + "\r\n" * 3 + "+CREG: 1\r\nOK\r\n82040001\r\n")[-1] == Sds(
        12, "5001234", "6000001", 32, "82040001"
    )
    assert sds(A + "+CREG: 1\r\n" * 9 + "82040001\r\n")[-1] == Unsolicited("+CREG", "1")


def test_a_payload_that_comes_too_late_is_nobodys() -> None:
    for wait_s, n in ((PAYLOAD_WITHIN_S - 0.01, 1), (PAYLOAD_WITHIN_S, 0)):
        reader = TetraPei()
        assert reader.feed(A.encode(), 100.0) == []
        events = reader.feed(b"82040001\r\n", 100.0 + wait_s)
        assert len([e for e in events if isinstance(e, Sds)]) == n


def test_a_prompt_is_said_once_and_swallows_nothing() -> None:
    reader = TetraPei()
    reader.expect("AT+CMGS=5001234,32", "82100001")
    assert reader.feed(b"\r\n>", 0.0) == [Prompt()]
    assert reader.feed(b" ", 0.0) == []
    assert reader.feed(b"82100001\r\n", 0.0) == [Echo("82100001")]
    assert reader.feed(b"+CMGS: 2\r\nOK\r\n", 0.0) == [Accepted(2), Final("OK")]


def test_a_radio_without_words() -> None:
    """ATV0: `0` is OK to what has no other answer, and a figure like any other elsewhere."""
    assert read([b"0\r"], pending="ATE0") == [Final("OK")]
    assert read([b"4\r"], pending="ATV1") == [Final("ERROR")]
    assert read([b"+CTGS: x\r0\r"], pending="AT+CTGS?") == [
        Response("+CTGS", "x"),
        Continuation("0"),
    ]
    assert read([b"0\r"]) == [Unreadable("decode")]


def test_a_line_without_an_end_is_bounded() -> None:
    reader = TetraPei()
    events = [e for _ in range(100) for e in reader.feed(b"A" * 4096, 0.0)]
    assert events == [Unreadable("length")]
    assert len(reader._held) <= LINE_MOST
    assert reader.feed(b"\r\nOK\r\n", 0.0) == [Final("OK")]


PIECES = st.sampled_from(
    [
        *(chunk.encode("latin-1") for case in CASES for chunk in case["chunks"]),
        *(A.encode(), B.encode(), C.encode(), b"82040001\r\n", b"0A4580\r\n", b"> ", b"\x1b\x1a"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    data=st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=12).map(b"".join),
    cuts=st.lists(st.integers(0, 600), max_size=6),
)
def test_any_bytes_are_read_alike_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    data += b"\r\n"
    whole = [e for e in read([data]) if not isinstance(e, Prompt)]
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    parts = [data[start:end] for start, end in itertools.pairwise(places)]
    assert [e for e in read(parts) if not isinstance(e, Prompt)] == whole
    for event in whole:
        if isinstance(event, Sds):
            assert len(event.digits) == -(-event.length_bits // 4)
            assert event.payload
