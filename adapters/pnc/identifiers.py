"""Check letters and shapes of the identifiers that the PNC knows. Pure; algorithms and vectors:
pnc-domain reference, section 3 (public code and test suites, reproduced).
"""

from __future__ import annotations

import re

LETTERS = "ZABCDEFGHJKLMNPQRTUVWXY"
"""One alphabet, one modulus: 23 characters, no I, O, S."""

# ASCII: `\d` would take the digits of every script.
_PNCID = re.compile(r"(?P<year>\d{4}|\d{2})/?(?P<serial>\d{1,7})(?P<letter>[A-Z])", re.ASCII)
_CRO = re.compile(r"(\d{1,6})/(\d{2})([A-Z])", re.ASCII)
_CRO_SF = re.compile(r"SF(\d{2})/(\d{1,6})([A-Z])", re.ASCII)
_ASN_PARTS = (
    r"(?P<top>[A-Z0-9]?)(?P<force>[A-Z0-9]{2})(?P<unit>[A-Z0-9]{2})",
    r"(?P<system>[A-Z0-9]{2})",
)
_ASN_SLASHED = re.compile(
    r"(?P<year>\d{2})/" + "/".join(_ASN_PARTS) + r"/(?P<sequence>\d{1,11})(?P<letter>[A-Z])",
    re.ASCII,
)
_ASN_COMPACT = re.compile(
    r"(?P<year>\d{2})" + "".join(_ASN_PARTS) + r"(?P<sequence>\d{11})(?P<letter>[A-Z])", re.ASCII
)
_COURT_CASE = re.compile(r"\d{2}/\d{4}/\d{1,6}[A-Za-z]", re.ASCII)
_DRIVER = re.compile(r"[A-Z9]{5}\d[0156]\d[0-3]\d\d[A-Z9]{2}[A-Z0-9][A-Z]{2}", re.ASCII)
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}")


def _letter(number: int) -> str:
    return LETTERS[number % 23]


def pncid(year: int, serial: int) -> str:
    """Canonical long form `YYYY/NNNNNNNX` of a four-digit year and a serial."""
    return f"{year:04d}/{serial:07d}{_letter(int(f'{year % 100:02d}{serial:07d}'))}"


def canonical_pncid(text: str, *, this_year: int) -> str | None:
    """Long form of any accepted writing; None when the letter or the shape is wrong.

    A two-digit year is of this century up to this year's two digits, else of the last.
    """
    found = _PNCID.fullmatch(text.strip().upper())
    if found is None:
        return None
    year_text, serial = found["year"], int(found["serial"])
    if len(year_text) == 4 and text.strip()[4:5] != "/" and len(found["serial"]) < 7:
        # `79163001B`: without a slash a short form reads as two digits and a serial.
        year_text, serial = text.strip()[:2], int(text.strip()[2:-1])
        if serial > 9_999_999:
            return None
    year = int(year_text)
    if len(year_text) == 2:
        year += 2000 if year <= this_year % 100 else 1900
    made = pncid(year, serial)
    return made if made[-1] == found["letter"] else None


def cro(serial: int, year: int) -> str:
    """Standard form `NNNNNN/YYX`: the year stands after the serial, but first in the sum."""
    return f"{serial:06d}/{year:02d}{_letter(int(f'{year:02d}{serial:06d}'))}"


def cro_small_file(year: int, serial: int) -> str:
    """`SFYY/N...X`: the serial is not padded."""
    return f"SF{year:02d}/{serial}{_letter(int(f'{year:02d}{serial}'))}"


def canonical_cro(text: str) -> str | None:
    """Padded standard form, or the small-file form as given; None when wrong."""
    written = text.strip().upper()
    if found := _CRO.fullmatch(written):
        made = cro(int(found[1]), int(found[2]))
        return made if made[-1] == found[3] else None
    if found := _CRO_SF.fullmatch(written):
        made = cro_small_file(int(found[1]), int(found[2]))
        return made if made[-1] == found[3] else None
    return None


def asn(
    year: str, force: str, unit: str, system: str, sequence: int, *, top_level: str = ""
) -> str:
    """Slash form. Unit and top level are not in the sum; force and system only when all digits."""
    digits = "".join(part for part in (force, system) if part.isdigit())
    number = int(f"{digits}{year}{sequence:011d}")
    return f"{year}/{top_level}{force}{unit}/{system}/{sequence}{_letter(number)}"


def canonical_asn(text: str) -> str | None:
    """Slash form of the slashed or the compact form (20 characters, 21 with a top level)."""
    written = text.strip().upper()
    found = _ASN_SLASHED.fullmatch(written) or _ASN_COMPACT.fullmatch(written)
    if found is None:
        return None
    made = asn(
        found["year"],
        found["force"],
        found["unit"],
        found["system"],
        int(found["sequence"]),
        top_level=found["top"],
    )
    return made if made[-1] == found["letter"] else None


def is_court_case_reference(text: str) -> bool:
    """`YY/CCCC/N...X`: the shape only."""
    return _COURT_CASE.fullmatch(text) is not None


def is_driver_number(text: str) -> bool:
    """The shape only: the check characters' algorithm is not public."""
    return _DRIVER.fullmatch(text) is not None


def driver_number_fits(number: str, *, surname: str, dob: str, sex: str) -> bool:
    """Whether this driver number can be this person's: surname, date of birth and sex agree.

    dob: ISO. sex: M, F, or anything else for unknown. The tie-breaker and the two check
    characters are not looked at.
    """
    if not is_driver_number(number):
        return False
    letters = re.sub(r"[^A-Z]", "", surname.upper())
    letters = re.sub(r"^MAC", "MC", letters)
    year, month, day = dob.split("-")
    months = {"M": (0,), "F": (50,)}.get(sex, (0, 50))
    return any(
        number[:11] == f"{letters:9<5.5}{year[2]}{int(month) + extra:02d}{day}{year[3]}"
        for extra in months
    )


def is_vin(text: str) -> bool:
    """ISO 3779: 17 characters without I, O, Q."""
    return _VIN.fullmatch(text) is not None
