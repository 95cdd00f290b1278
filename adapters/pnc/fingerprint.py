"""What is kept of a reply that nobody is shown: enough to know it again, and nothing of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(reason: str, data: bytes, *, whole: bool = True) -> bytes:
    """Personal content of a record: purgeable, for who knows what may have been said could try its
    hash. reason: why it is no answer. whole: False when more of it came, or may have."""
    kept: dict[str, Any] = {
        "bytes": len(data),
        "reason": reason,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if not whole:
        kept["whole"] = False
    return json.dumps(kept, separators=(",", ":")).encode()
