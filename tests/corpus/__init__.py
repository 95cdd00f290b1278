"""Cases written from the documents, never by our own encoders: one JSON object a line.

`source` names the clause that a case was written from: a number with a dot is a section of the
radio protocols' reference; S, M, F, D and a number a row of the failure catalogue, B one of the
security requirements (reliability reference); 18.x the console design; the rest is in words.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.messages import (
    BadFrame,
    BookOff,
    BookOn,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    EchoTest,
    Heartbeat,
    HelpRequest,
    Ignored,
    Locate,
    LocationFix,
    MalformedCheck,
    Notice,
    Privacy,
    Reasoning,
    RecallRequest,
    Receipt,
    Result,
    Secret,
    StatusReport,
    TextPart,
    kind_of,
)

HERE = Path(__file__).parent
WORDS: dict[str, type[Any]] = {
    "fix": LocationFix,
    "heartbeat": Heartbeat,
    "locate": Locate,
    "rejected": BadFrame,
    "ignored": Ignored,
    "check": CheckRequest,
    "malformed": MalformedCheck,
    "status": StatusReport,
    "ack": DeliveryAck,
    "cancel": CancelRequest,
    "help": HelpRequest,
    "book_on": BookOn,
    "book_off": BookOff,
    "privacy": Privacy,
    "echo": EchoTest,
    "recall": RecallRequest,
    "why": Reasoning,
    "receipt": Receipt,
    "text": TextPart,
    "notice": Notice,
    "result": Result,
}


def cases(codec: str) -> list[dict[str, Any]]:
    """Every case of tests/corpus/<codec>, with the name of its file before its id."""
    found: list[dict[str, Any]] = []
    for path in sorted((HERE / codec).glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            case = json.loads(line)
            case["id"] = f"{path.stem}/{case['id']}"
            found.append(case)
    assert found, f"no cases for {codec}"
    return found


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def steps(case: dict[str, Any]) -> list[tuple[int, bytes]]:
    """Of an NMEA case: what was received, and when. A character of the file is a byte."""
    parts = case.get("steps") or [case]
    return [
        (ms(part["now"]), "".join(f"{line}\r\n" for line in part["lines"]).encode("latin-1"))
        for part in parts
    ]


def heard_of(case: dict[str, Any]) -> list[bytes]:
    """Of any case: what was received, however it holds that."""
    if "lines" in case or "steps" in case:
        return [data for _, data in steps(case)]
    if "pdus" in case:
        return [bytes.fromhex(pdu["hex"]) for pdu in case["pdus"]]
    for name in ("data", "text"):
        if name in case:
            text: str = case[name]
            return [text.encode("utf-8", "surrogatepass")]
    return [payload(case)]


def payload(case: dict[str, Any]) -> bytes:
    """Of an MQTT case: its bytes; what is too long or is no text is told otherwise."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if (repeat := case.get("repeat")) is not None:
        text: str = repeat["before"] + repeat["unit"] * repeat["times"] + repeat["after"]
        return text.encode()
    data: bytes = case["payload"].encode()
    return data


def agree(found: Any, expected: dict[str, Any]) -> None:
    """What was decoded is what the case says, member by member."""
    expected = dict(expected)
    word = expected.pop("is_")
    assert isinstance(found, WORDS[word]), f"{type(found).__name__}, expected {word}"
    members = {name: getattr(found, name) for name in found.__struct_fields__}
    if isinstance(found, CheckRequest):
        key = found.key
        members |= {name: getattr(key, name) for name in key.__struct_fields__}
        members["kind"] = kind_of(key).value
    for name, value in expected.items():
        if name == "why_starts":
            assert members["why"].startswith(value), members["why"]
        elif name == "factor":
            assert members["factor"] == Secret(value), "factor"
        elif name == "t":
            assert members["fixed_at_ms"] == (None if value is None else ms(value))
        elif name == "fix" and value is not None:
            agree(members[name], {"is_": "fix", **value})
        elif name == "sources":
            for source, said in zip(members[name], value, strict=True):
                assert {each: getattr(source, each) for each in said} == said
        elif isinstance(value, float):
            assert members[name] is not None, name
            assert abs(members[name] - value) < 1e-6, f"{name}: {members[name]!r}"
        else:
            got = members[name]
            assert (list(got) if isinstance(got, tuple) else got) == value, f"{name}: {got!r}"
    if isinstance(found, BookOn):
        return  # a factor is never written
    # Whatever comes out can be written: no half characters, no infinities.
    assert msgspec.json.decode(msgspec.json.encode(found)) is not None
