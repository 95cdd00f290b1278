"""Registration marks: normalise, classify, warn of a likely misreading; never refuse.

Patterns: pnc-domain reference, 7.2.
"""

from __future__ import annotations

import re

_CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.ASCII))
    for name, pattern in (
        ("current", r"[A-HJ-PR-Y]{2}(?!00|01|50)\d{2}[A-HJ-PR-Z]{3}"),
        ("prefix", r"[A-HJ-NPR-TV-Y](?!0)\d{1,3}[A-HJ-PR-Y]{3}"),
        ("suffix", r"[A-HJ-PR-Y]{3}(?!0)\d{1,3}[A-HJ-NPR-TV-Y]"),
        ("northern-ireland", r"(?=[A-Z]{1,3}[1-9])(?=[A-Z]*[IZ])[A-HJ-PR-Y]?[A-Z]{2}[1-9]\d{0,3}"),
        ("q-plate", r"Q(?!0)\d{1,3}[A-HJ-PR-Y]{3}"),
        ("diplomatic", r"\d{3}[DX]\d{3}"),
        ("military", r"\d{2}[A-HJ-PR-Z]{2}\d{2}"),
        (
            "dateless",
            r"[1-9]\d{0,3}[A-HJ-PR-Y]{1,2}|[1-9]\d{0,2}[A-HJ-PR-Y]{1,3}"
            r"|[A-HJ-PR-Y]{1,2}[1-9]\d{0,3}|[A-HJ-PR-Y]{1,3}[1-9]\d{0,2}",
        ),
        ("trade", r"\d{5}|\d{3}[A-HJ-PR-Y]{1,2}"),
    )
)

LOOK_ALIKES = {
    "O": "0",
    "0": "O",
    "I": "1",
    "1": "I",
    "Z": "2",
    "2": "Z",
    "S": "5",
    "5": "S",
    "B": "8",
    "8": "B",
}


def normalise(text: str) -> str:
    """Upper case, without blanks and hyphens."""
    return re.sub(r"[\s-]", "", text).upper()


def classify(mark: str) -> str:
    """The class of a normalised mark; `other` for anything else (foreign, import, misread)."""
    for name, pattern in _CLASSES:
        if pattern.fullmatch(mark):
            return name
    return "other"


def look_alike(mark: str) -> str | None:
    """A mark of the current form that one confused character away explains this one, or None."""
    if classify(mark) != "other" or len(mark) > 10:
        return None
    for place, character in enumerate(mark):
        other = LOOK_ALIKES.get(character)
        if other is not None:
            candidate = mark[:place] + other + mark[place + 1 :]
            if classify(candidate) == "current":
                return candidate
    return None
