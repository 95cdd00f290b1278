"""A receipt as people write it down and read it out: back to the letters that were drawn."""

from __future__ import annotations

import re

_MEANT = str.maketrans("ILO", "110")
"""Crockford's base 32 has none of these: whoever writes one saw the other."""
_SHAPE = re.compile(r"([0-9A-TV-Z]{4})[- ]?([0-9A-TV-Z]{4})")


def export_detail(purpose: str, receipt: str = "") -> str:
    """Of the record of an export, or of a look at one check."""
    return f"{purpose}: receipt {receipt}" if receipt else purpose


def read_receipt(text: str) -> str:
    """As `4F2A-91KQ`; "" for what cannot be one."""
    found = _SHAPE.fullmatch(text.strip().upper())
    return "-".join(found.groups()).translate(_MEANT) if found else ""
