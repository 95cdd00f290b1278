"""What the command line makes of whoever listens on the daemon's port."""

from __future__ import annotations

import json

import pytest

from adapters.web.asking import NO_DAEMON, refusal


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b'{"instance": "gwt"}', ""),
        (200, b'{"instance": "gw2"}', "another instance listens on the port of this configuration"),
        (200, b'{"instance": ["gwt"]}', "another instance listens"),
        (200, b"", NO_DAEMON),
        (200, b"<html>", NO_DAEMON),
        (200, b"[]", NO_DAEMON),
        (200, b"\xff\xfe", NO_DAEMON),
        (200, b"[" * 60_000, NO_DAEMON),
        (200, b"9" * 60_000, NO_DAEMON),
        (503, b'{"title": "cannot record this now"}', "cannot record this now"),
        (503, b'{"instance": "gwt"}', "status 503"),
        (503, json.dumps({"title": "\x1b[2J"}).encode(), "status 503"),
        (503, json.dumps({"title": "x" * 60_000}).encode(), "status 503"),
        (503, json.dumps({"title": ["x"]}).encode(), "status 503"),
    ],
)
def test_only_a_daemon_that_says_so_has_it_on_record(status: int, body: bytes, why: str) -> None:
    """Anybody may listen there: no trace of ours, no byte of theirs that a terminal obeys."""
    found = refusal(status, body, "gwt")
    assert found.startswith(why)
    assert bool(found) == bool(why)
