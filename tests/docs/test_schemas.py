"""docs/schemas is what the types say today, and what the program writes fits it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from adapters.codecs import wire
from adapters.ledger import canonical
from adapters.ledger.export import line_of
from adapters.ledger.readers import Leaf
from gateway.ports import AUDIT_EVENTS, VERBS, Record
from tests.docs import schemas


def test_the_files_are_up_to_date() -> None:
    """`python -m tests.docs.schemas` writes them anew."""
    wanted = {name: schemas.text_of(document) for name, document in schemas.documents().items()}
    found = {path.name: path.read_text("utf-8") for path in schemas.FOLDER.glob("*.json")}
    assert found == wanted, "run: .venv/bin/python -m tests.docs.schemas"


@pytest.mark.parametrize("channel", wire.PAYLOADS)
def test_each_payload_has_its_schema_with_every_member(channel: str) -> None:
    """By the names on the wire; a new payload without a file fails here."""
    path = schemas.FOLDER / f"mqtt-{channel.replace('/', '-')}.json"
    schema = json.loads(path.read_text("utf-8"))
    type_ = wire.PAYLOADS[channel]
    body = schema["$defs"][type_.__name__]
    fields = msgspec.structs.fields(type_)
    assert set(body["properties"]) == {field.encode_name for field in fields}
    assert set(body["required"]) == {field.encode_name for field in fields if field.required}


def exported(record: Record) -> dict[str, Any]:
    """A record as a line of an export, made by the ledger's own code."""
    text = canonical.encode(
        record,
        log="gw1",
        seq=1,
        prev=canonical.GENESIS,
        commitment_="a" * 64,
        verb=record.verb,
    )
    leaf = Leaf(
        log="gw1",
        seq=1,
        at_ms=record.at_ms,
        record=text,
        hash=canonical.digest(text),
        salt=None,
        content=None,
    )
    return dict(json.loads(line_of(leaf)))


def test_a_line_of_an_export_fits_its_schema() -> None:
    """A full record and an all but empty one: required members are there, no other is unknown."""
    schema = json.loads((schemas.FOLDER / "audit-record.json").read_text("utf-8"))
    texts = {
        field.name: field.name for field in msgspec.structs.fields(Record) if field.type is str
    }
    others = {"fields": ["vrm"], "attempt": 1, "at_ms": 1, "mono_ms": 1, "latency_ms": 1}
    full = msgspec.convert(texts | others | {"event": "asked"}, Record)
    assert all(getattr(full, name) for name in Record.__struct_fields__ if name != "content")
    for record in (full, Record(event="started", at_ms=1)):
        line = exported(record)
        assert set(schema["required"]) <= set(line)
        assert set(line) <= set(schema["properties"])
        for name in ("hash", "prev"):
            assert re.fullmatch(schema["properties"][name]["pattern"], line[name])
    assert set(exported(full)) == set(schema["properties"])
    assert schema["properties"]["event"]["enum"] == list(AUDIT_EVENTS)
    assert schema["properties"]["verb"]["enum"] == sorted(set(VERBS.values()))
