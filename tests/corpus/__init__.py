"""Cases written from the documents, never by our own encoders: one JSON object a line."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.messages import (
    BadFrame,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    EchoTest,
    HelpRequest,
    Ignored,
    LocationFix,
    MalformedCheck,
    Notice,
    Receipt,
    StatusReport,
    TextPart,
    kind_of,
)

HERE = Path(__file__).parent
WORDS: dict[str, type[Any]] = {
    "fix": LocationFix,
    "rejected": BadFrame,
    "ignored": Ignored,
    "check": CheckRequest,
    "malformed": MalformedCheck,
    "status": StatusReport,
    "ack": DeliveryAck,
    "cancel": CancelRequest,
    "help": HelpRequest,
    "echo": EchoTest,
    "receipt": Receipt,
    "text": TextPart,
    "notice": Notice,
}


def cases(codec: str) -> list[dict[str, Any]]:
    """Every case of tests/corpus/<codec>."""
    lines = (HERE / codec / "cases.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def agree(found: Any, expected: dict[str, Any]) -> None:
    """What was decoded is what the case says, member by member."""
    expected = dict(expected)
    word = expected.pop("is_")
    if word == "any":
        return
    assert isinstance(found, WORDS[word]), f"{type(found).__name__}, expected {word}"
    members = {name: getattr(found, name) for name in found.__struct_fields__}
    if isinstance(found, CheckRequest):
        key = found.key
        members |= {name: getattr(key, name) for name in key.__struct_fields__}
        members["kind"] = kind_of(key).value
    for name, value in expected.items():
        if name == "why_starts":
            assert members["why"].startswith(value), members["why"]
        elif name == "t":
            assert members["fixed_at_ms"] == (None if value is None else ms(value))
        elif isinstance(value, float):
            assert abs(members[name] - value) < 1e-6, name
        else:
            assert members[name] == value, f"{name}: {members[name]!r}"
    assert msgspec.json.encode(found)
