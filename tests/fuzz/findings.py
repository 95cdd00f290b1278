"""What fuzzing found, kept: tests/corpus/fuzz/<target>.jsonl, one JSON object a line.

`text` or `hex` is the input, `source` what it broke. A file is for people to read and commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "corpus" / "fuzz"
SHRINK_MOST = 3000
"""Tries that making a finding smaller may cost."""


def kept(target: str, folder: Path = FOLDER) -> list[tuple[str, bytes]]:
    """Name and input of every finding of this target."""
    path = folder / f"{target}.jsonl"
    if not path.exists():
        return []
    cases = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(case["id"], _input(case)) for case in cases]


def _input(case: dict[str, Any]) -> bytes:
    if "repeat" in case:
        parts = case["repeat"]
        return b"".join(bytes.fromhex(unit) * times for unit, times in parts)
    return bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode("utf-8")


def keep(target: str, data: bytes, source: str, folder: Path = FOLDER) -> str:
    """Put it down, once; returns its name."""
    name = hashlib.sha256(data).hexdigest()[:10]
    if name in [each for each, _ in kept(target, folder)]:
        return name
    try:
        text = data.decode("utf-8")
        told = {"text": text} if text.encode("utf-8") == data else {"hex": data.hex()}
    except UnicodeDecodeError:
        told = {"hex": data.hex()}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{target}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": name, "source": source, **told}) + "\n")
    return name


def shrunk(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A shorter input that fails as well: pieces left out as long as that helps."""
    tries, size = 0, max(1, len(data) // 2)
    while True:
        at, shorter = 0, False
        while at < len(data) and tries < SHRINK_MOST:
            tries += 1
            less = data[:at] + data[at + size :]
            if fails(less):
                data, shorter = less, True
            else:
                at += size
        if tries >= SHRINK_MOST or (size == 1 and not shorter):
            return data
        size = max(1, size // 2)
