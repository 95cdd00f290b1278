"""The reserved, collision-free ranges: whatever bears a record must lie in them, or is refused.

So that no fixture can ever be a real person or vehicle. Source: pnc-domain reference, 15.1.
"""

from __future__ import annotations

import re

from adapters.pnc import identifiers

SURNAMES = frozenset({"TESTER", "SYNTHA", "O'TESTER", "AL-SAMPLE", "MC TESTER", "VAN DEMO"})
DVLA_TEST_MARKS = frozenset(
    {"AA19AAA", "AA19EEE", "AA19PPP", "L2WPS", "AA19SRN", "AA19DSL", "AA19MOT", "AA19AMP"}
)
ADDRESS = re.compile(r"[1-9]\d{0,3} TEST STREET, PETERBOROUGH, ZZ99 9ZZ")
PNCID = re.compile(r"2099/\d{7}[A-Z]")
TELEPHONE = re.compile(r"01632 ?960\d{3}|07700 ?900\d{3}")
VIN = re.compile(r"TSTZZZ\d{11}")

_MARKS = (
    re.compile(r"[A-HJ-PR-Y]{2}(99|49)[A-HJ-PR-Z]{3}"),
    re.compile(r"U\d{1,3}TST|TST\d{1,3}U"),
    re.compile(r"ER19[A-Z]{3}"),
)


def mark(text: str) -> bool:
    """Age identifier 99 or 49, a never-issued year letter, or the DVLA's own test marks."""
    return text in DVLA_TEST_MARKS or any(pattern.fullmatch(text) for pattern in _MARKS)


def pncid(text: str) -> bool:
    """The unissued year 2099, with a right letter, in long form."""
    if not PNCID.fullmatch(text):
        return False
    return identifiers.pncid(2099, int(text[5:12])) == text


def surname(text: str) -> bool:
    return text in SURNAMES


def address(text: str) -> bool:
    return ADDRESS.fullmatch(text) is not None


def vin(text: str) -> bool:
    return VIN.fullmatch(text) is not None and identifiers.is_vin(text)
