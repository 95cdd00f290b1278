"""The JSON Schemas of docs/schemas, generated from the types that read and write those bytes.

`python -m tests.docs.schemas` writes them anew; tests/docs/test_schemas.py says when that is due.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from adapters.codecs import wire
from adapters.pnc.wire import WireReply
from adapters.web import openapi
from gateway import __version__
from gateway.ports import AUDIT_EVENTS, VERBS, Record

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def audit_record() -> dict[str, Any]:
    """A line of `audit export`: the record without its content, and its place in the chain."""
    schema = msgspec.json.schema(Record)
    body = dict(schema["$defs"]["Record"])
    members = {name: dict(one) for name, one in body["properties"].items() if name != "content"}
    members["event"] = {"type": "string", "enum": list(AUDIT_EVENTS)}
    hexes = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    members |= {
        "verb": {
            "type": "string",
            "enum": sorted(set(VERBS.values())),
            "description": "what of the statute's list it is; absent for what is none",
        },
        "log": {"type": "string", "description": "the instance that wrote it"},
        "seq": {"type": "integer", "minimum": 1, "description": "1, 2, 3 ... within its log"},
        "prev": {**hexes, "description": "hash of the record before; zeros for the first"},
        "hash": {**hexes, "description": "SHA-256 of a zero byte and the canonical bytes"},
        "commitment": {**hexes, "description": "SHA-256 of salt and content, if it has content"},
        "t": {"type": "string", "description": "at_ms in words: ISO 8601, UTC, ends in Z"},
    }
    for one in members.values():
        one.pop("default", None)
    return {
        "title": "audit record",
        "description": "Empty members are left out. Drop `t` and `hash`, sort the members, write "
        "them without blanks: those are the canonical bytes.",
        "type": "object",
        "properties": members,
        "required": ["at_ms", "event", "hash", "log", "prev", "seq", "t"],
        "additionalProperties": False,
    }


def documents() -> dict[str, dict[str, Any]]:
    """File name -> content."""
    found = {
        f"mqtt-{channel.replace('/', '-')}.json": {"$schema": DIALECT, **schema}
        for channel, schema in wire.schemas().items()
    }
    found["audit-record.json"] = {"$schema": DIALECT, **audit_record()}
    found["pnc-reply.json"] = {"$schema": DIALECT, **msgspec.json.schema(WireReply)}
    found["openapi.json"] = openapi.document(__version__)
    return found


def text_of(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    wanted = documents()
    for path in FOLDER.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, document in wanted.items():
        (FOLDER / name).write_text(text_of(document), "utf-8")


if __name__ == "__main__":
    main()
