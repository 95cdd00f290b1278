"""The reserved, collision-free ranges: whatever bears a record must lie in them, or is refused.

So that no fixture can ever be a real person or vehicle. Source: pnc-domain reference, 15.1.
"""

from __future__ import annotations

import re

from adapters.pnc import identifiers

SURNAMES = frozenset({"TESTER", "SYNTHA", "O'TESTER", "AL-SAMPLE", "MC TESTER", "VAN DEMO"})
GIVEN_NAMES = frozenset(
    (
        *("AGATHA", "ALEX", "ALEXANDER", "BAILEY", "CLEAN", "CONNOR", "COVERT", "DEAD", "DISQ"),
        *("DORA", "ESCA", "FIONA", "FLEET", "JOHN", "JON", "JONN", "JUVE", "LONG", "MISSY"),
        *("MORAG", "NADIA", "NORA", "OFFDUTY", "ORDER", "RECALL", "RESTRICT", "SEÁN", "SOREN"),
        *("TED", "TWIN", "VIC", "WANDA", "WELDON", "WILLIAM"),
        *("ADA", "BETH", "CARLA", "DINAH", "EDNA", "GRETA", "HILDA", "IDA", "KIRA", "PIPPA"),
    )
)
DVLA_TEST_MARKS = frozenset(
    {"AA19AAA", "AA19EEE", "AA19PPP", "L2WPS", "AA19SRN", "AA19DSL", "AA19MOT", "AA19AMP"}
)
ADDRESS = re.compile(r"[1-9][0-9]{0,3} TEST STREET, PETERBOROUGH, ZZ99 9ZZ")
PNCID = re.compile(r"2099/[0-9]{7}[A-Z]")
TELEPHONE = re.compile(r"01632 ?960 ?[0-9]{3}|07700 ?900 ?[0-9]{3}")
VIN = re.compile(r"TSTZZZ[0-9]{11}")
SERIAL = re.compile(r"TST[A-Z0-9]{1,20}")

_MARKS = (
    re.compile(r"[A-HJ-PR-Y]{2}(99|49)[A-HJ-PR-Z]{3}"),
    re.compile(r"U[0-9]{1,3}TST|TST[0-9]{1,3}U"),
    re.compile(r"ER19[A-Z]{3}"),
)
_POSTCODE = re.compile(r"\b[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}\b")
_POSTCODE_OURS = re.compile(r"ZZ99 ?9ZZ")
_LIKE_A_MARK = re.compile(r"\b[A-Z]{2}[0-9]{2} ?[A-Z]{3}\b")
_LIKE_A_PNCID = re.compile(r"\b(?:[0-9]{4}|[0-9]{2})/[0-9]{1,7}[A-Z]\b")
_LIKE_A_TELEPHONE = re.compile(r"(?<![0-9A-Z])(?:\+44|0)(?:[ -]?[0-9]){9,10}(?![0-9A-Z])")


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


def given_names(text: str) -> bool:
    """One or more of the fixed given names."""
    words = text.split()
    return bool(words) and all(word in GIVEN_NAMES for word in words)


def keeper(text: str) -> bool:
    """`SURNAME GIVEN`, both reserved."""
    return any(text.startswith(each + " ") and given_names(text[len(each) :]) for each in SURNAMES)


def address(text: str) -> bool:
    return ADDRESS.fullmatch(text) is not None


def vin(text: str) -> bool:
    return VIN.fullmatch(text) is not None and identifiers.is_vin(text)


def serial(text: str) -> bool:
    return SERIAL.fullmatch(text) is not None


def stray(text: str) -> str:
    """What in this free text might be somebody's: `mark`, `postcode`, ... ; empty for nothing."""
    upper = text.upper()
    for found in _LIKE_A_MARK.findall(upper):
        if not mark(found.replace(" ", "")):
            return "mark"
    for found in _POSTCODE.findall(upper):
        if not _POSTCODE_OURS.fullmatch(found):
            return "postcode"
    for found in _LIKE_A_PNCID.findall(upper):
        if not pncid(found):
            return "PNCID"
    for found in _LIKE_A_TELEPHONE.findall(upper):
        if not TELEPHONE.fullmatch(found.replace("-", " ")):
            return "telephone"
    if "@" in upper:
        return "e-mail address"
    return ""
