"""A register's reply is taken whole or not at all; and it has no room for a keeper."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from adapters.register import wire
from gateway.errors import PncGarbled
from gateway.messages import RegisterAnswer, StatusRecord
from tests.contracts.test_register import question

ASKED = question("TE99AAB")


def right(**changes: object) -> dict[str, Any]:
    """By hand, from docs/pnc-http.md."""
    return {
        "protocol": 1,
        "check": "01TESTC001",
        "attempt": 1,
        "key_text": "VRM:TE99AAB",
        "result": "found",
        "as_of": "2026-11-22T05:24:07.320Z",
        "record": {"vrm": "TE99AAB", "tax": "Y", "mot": "N", "insured": "Y"},
        "blocks": [
            {"source": "DVLA", "as_of": "2026-11-22T04:12:00Z", "state": "OK"},
            {"source": "MID", "as_of": "2026-11-22T05:24:07Z", "state": "OK"},
        ],
    } | changes


def read(**changes: object) -> RegisterAnswer:
    return wire.read(json.dumps(right(**changes)).encode(), ASKED)


def test_a_right_reply() -> None:
    answer = read()
    assert answer.record == StatusRecord(vrm="TE99AAB", tax="Y", mot="N", insured="Y")
    assert [block.as_of_ms for block in answer.blocks] == [1795320720000, 1795325047000]


def test_what_is_left_out_is_unknown() -> None:
    """Never N."""
    assert read(record={"vrm": "TE99AAB"}).record == StatusRecord(vrm="TE99AAB")


def test_blanks_and_case_of_a_mark_do_not_matter() -> None:
    record = read(record={"vrm": "te99 aab"}).record
    assert record is not None
    assert record.vrm == "TE99AAB"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"check": "OTHER"}, "echo"),
        ({"attempt": 2}, "echo"),
        ({"key_text": "VRM:TE99ZZZ"}, "echo"),
        ({"record": {"vrm": "TE99ZZZ", "tax": "Y"}}, "echo"),
        ({"protocol": 2}, "malformed"),
        ({"result": "not_found"}, "malformed"),
        ({"result": "maybe"}, "malformed"),
        ({"record": None}, "malformed"),
        ({"record": {"vrm": "TE99AAB", "tax": ""}}, "malformed"),
        ({"record": {"vrm": "TE99AAB", "tax": "UNKNOWN"}}, "malformed"),
        ({"record": {"vrm": "TE99AAB", "tax": None}}, "malformed"),
        ({"blocks": []}, "malformed"),
        ({"as_of": "yesterday"}, "malformed"),
    ],
)
def test_whatever_is_not_right_is_no_answer(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(PncGarbled) as error:
        read(**changes)
    assert error.value.reason == reason


def test_nothing_found_is_said_in_so_many_words() -> None:
    without = {name: value for name, value in right().items() if name != "record"}
    body = json.dumps(without | {"result": "not_found"}).encode()
    assert wire.read(body, ASKED).record is None
    with pytest.raises(PncGarbled):
        wire.read(json.dumps(without).encode(), ASKED)  # "found", and nothing there


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100, b'{"a": 1, "a": 2}'])
def test_no_reply_at_all(body: bytes) -> None:
    with pytest.raises(PncGarbled):
        wire.read(body, ASKED)


def test_it_has_no_room_for_a_keeper_or_a_report() -> None:
    """A register that tells of either is read without: nothing of it gets past this module."""
    record = {
        "vrm": "TE99AAB",
        "tax": "Y",
        "keeper": "TESTER CLEAN",
        "keeper_address": "1 TEST STREET",
        "reports": [{"kind": "LOS"}],
    }
    told = msgspec.json.encode(read(record=record)).decode()
    assert "TESTER" not in told
    assert "LOS" not in told
    names = set(StatusRecord.__struct_fields__)
    assert names == {
        *("vrm", "tax", "tax_due", "mot", "mot_expiry", "insured", "insurer"),
        *("sorn", "make", "colour", "exported"),
    }


def test_the_question_says_neither_who_asks_nor_why() -> None:
    assert set(json.loads(wire.request(ASKED))) == {
        *("protocol", "check", "attempt", "key_text", "vrm", "asked_at", "deadline_s"),
    }
