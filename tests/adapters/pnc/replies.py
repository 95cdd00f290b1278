"""Replies by hand, from docs/pnc-http.md and not from our own encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.messages import Key, PncQuery, VehicleKey, search_key

ROOT = Path(__file__).resolve().parents[3]
RECORDS = ROOT / "config" / "pnc"


def question(key: Key, *, check: str = "01TESTC001", attempt: int = 1) -> PncQuery:
    return PncQuery(
        check=check,
        attempt=attempt,
        key=key,
        key_text=search_key(key),
        reason="1",
        justification="NO LIGHTS",
        originator="PC1001 TESTER/1/BRIDGE ST",
        location="BRIDGE ST",
        on_behalf_of="",
        asked_at_ms=1_795_325_047_120,
        deadline_s=15.0,
    )


ASKED = question(VehicleKey(vrm="TE99AAA"))
CAR = {"record": "vehicle", "vrm": "TE99AAA"}


def right(asked: PncQuery = ASKED, **changes: object) -> dict[str, Any]:
    """A whole no-trace reply to this question, with changes."""
    body: dict[str, Any] = {
        "protocol": 1,
        "check": asked.check,
        "attempt": asked.attempt,
        "key_text": asked.key_text,
        "result": "no_trace",
        "as_of": "2026-11-22T10:15:02.114Z",
        "records": [],
        "blocks": [{"source": "PNC", "as_of": "2026-11-22T10:15:02Z", "state": "OK"}],
        "not_checked": [],
    }
    return body | changes


def encoded(asked: PncQuery = ASKED, **changes: object) -> bytes:
    return json.dumps(right(asked, **changes)).encode()
