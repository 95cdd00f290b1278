"""The audit as JSON Lines, for whoever may have it: metadata and commitments, never the content.

A line holds a record's canonical members, its hash, and its time in words (`t`). Whoever drops `t`
and `hash`, sorts the members and puts a zero byte before them gets the bytes that were hashed.
Source: docs/interfaces.md, Audit export.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from adapters.ledger.readers import Leaf, leaves, logs, reading

_SORTED = msgspec.json.Encoder(order="deterministic")


class Manifest(msgspec.Struct):
    """What was exported; `sha256` is over all lines with their ends."""

    purpose: str
    by: str
    records: int = 0
    first: str = ""
    last: str = ""
    sha256: str = ""


def lines(
    url: str, manifest: Manifest, *, since_ms: int | None, until_ms: int | None
) -> Iterator[bytes]:
    """Each record in order, as a line; the manifest is complete when they are through."""
    digest = hashlib.sha256()
    with reading(url) as db:
        for log in logs(db):
            for leaf in leaves(db, log, contents=False):
                if since_ms is not None and leaf.at_ms < since_ms:
                    continue
                if until_ms is not None and leaf.at_ms >= until_ms:
                    continue
                line = line_of(leaf)
                digest.update(line)
                manifest.records += 1
                manifest.last = f"{leaf.log}:{leaf.seq}"
                manifest.first = manifest.first or manifest.last
                yield line
    manifest.sha256 = digest.hexdigest()


def line_of(leaf: Leaf) -> bytes:
    body = msgspec.json.decode(leaf.record, type=dict[str, object])
    at = datetime.fromtimestamp(leaf.at_ms / 1000, tz=UTC)
    body["t"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body["hash"] = leaf.hash
    return _SORTED.encode(body) + b"\n"
