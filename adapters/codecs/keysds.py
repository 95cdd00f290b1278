"""KeySDS: the enquiry that an officer types on a keypad. One pure function, text in, message out.

    V TE99 ABC R1          vehicle by mark            N TESTER/NORA/01011970/F R1   person
    VIN TSTZZZ00000000001 R2  by chassis number       P BIKE/TSTBIKE001 R5          property
    ?  help      X [ref]  cancel      E [text]  echo test
    options: R reason (mandatory), L place ('.' for a blank), O collar, Q client reference, F full

Whatever cannot be asked is answered with what to do, never with what was typed. Source: reference
radio-protocols, 6.2 (the project's own design, not a published standard).
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date

from gateway.messages import (
    CancelRequest,
    CheckRequest,
    EchoTest,
    HelpRequest,
    Key,
    Kind,
    MalformedCheck,
    PersonKey,
    PropertyKey,
    VehicleKey,
)

TEXT_MAX = 79
"""One SDS of 668 bits: the default of a TETRA network."""
NAME_MAX = 54
PLACE_MAX = 20
ECHO_MAX = 40

Parsed = CheckRequest | MalformedCheck | CancelRequest | HelpRequest | EchoTest

_OPTION = re.compile(r"R[0-9]{1,2}|L[^ ]+|O[A-Z0-9]{1,10}|Q[0-9]{1,3}|F")
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}|[A-HJ-NPR-Z0-9]{5,8}")
_KINDS = {"V": Kind.VEHICLE, "VIN": Kind.VEHICLE, "N": Kind.PERSON, "P": Kind.PROPERTY}
FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that may not stand in what is shown to people: controls, bidi marks ..."""


def parse(text: str) -> Parsed:
    """What the officer means, or what is wrong with it. Never raises; work is linear (<= 79)."""
    if len(text) > 4 * TEXT_MAX:
        return MalformedCheck(why=f"TOO LONG. MAX {TEXT_MAX}", typed=True)
    folded = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(each) in FORBIDDEN for each in folded.strip("\r\n\t ")):
        return MalformedCheck(why="BAD CHARACTER. USE A-Z 0-9", typed=True)
    words = folded.upper().split()
    typed = " ".join(words)
    if len(typed) > TEXT_MAX:
        return MalformedCheck(why=f"TOO LONG. MAX {TEXT_MAX}", typed=True)
    if not words:
        return MalformedCheck(why="EMPTY. ? FOR HELP", typed=True)
    verb, rest = words[0], words[1:]
    match verb:
        case "?":
            return HelpRequest()
        case "X":
            return CancelRequest(check=rest[0][:26] if rest else "")
        case "E":
            return EchoTest(text=" ".join(rest)[:ECHO_MAX])
        case "V" | "VIN" | "N" | "P":
            return _enquiry(verb, rest, typed)
        case _:
            return MalformedCheck(why="UNKNOWN. ? FOR HELP", typed=True)


class _Wrong(Exception):
    """Says what to do; never quotes."""


def _enquiry(verb: str, rest: list[str], typed: str) -> CheckRequest | MalformedCheck:
    subject, options = _split(rest)
    client_ref = next((o[1:] for o in options if o.startswith("Q")), "")
    kind = _KINDS[verb]

    def wrong(why: str) -> MalformedCheck:
        return MalformedCheck(why=why, kind=kind, client_ref=client_ref, typed=True)

    if len({o[0] for o in options}) != len(options):
        return wrong("OPTION GIVEN TWICE")
    reason = next((o[1:] for o in options if o.startswith("R")), "")
    try:
        key = _key(verb, subject)
    except _Wrong as error:
        return wrong(str(error))
    if not reason:
        return wrong("R? GIVE REASON")
    place = next((o[1:] for o in options if o.startswith("L")), "").replace(".", " ").strip()
    if len(place) > PLACE_MAX:
        return wrong(f"L TOO LONG. MAX {PLACE_MAX}")
    return CheckRequest(
        key=key,
        reason=str(int(reason)),
        location=place,
        typed=typed,
        client_ref=client_ref,
        collar=next((o[1:] for o in options if o.startswith("O")), ""),
        full="F" in options,
    )


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Subject and options: options stand at the end, the subject is at least the first word."""
    cut = len(words)
    while cut > 1 and _OPTION.fullmatch(words[cut - 1]):
        cut -= 1
    return words[:cut], words[cut:]


def _key(verb: str, subject: list[str]) -> Key:
    match verb:
        case "V":
            mark = re.sub(r"[ .\-]", "", " ".join(subject))
            if not re.fullmatch(r"[A-Z0-9]{2,8}", mark):
                raise _Wrong("BAD VRM. 2-8 OF A-Z 0-9")
            return VehicleKey(vrm=mark)
        case "VIN":
            vin = re.sub(r"[ .\-]", "", " ".join(subject))
            if not _VIN.fullmatch(vin):
                raise _Wrong("BAD VIN. 17 OR LAST 5-8")
            return VehicleKey(vin=vin)
        case "P":
            kind, _, serial = " ".join(subject).partition("/")
            kind, serial = kind.strip(), re.sub(r"[ .\-]", "", serial)
            if not re.fullmatch(r"[A-Z0-9 ]{2,20}", kind):
                raise _Wrong("P TYPE/SERIAL")
            if not re.fullmatch(r"[A-Z0-9]{3,30}", serial):
                raise _Wrong("BAD SERIAL")
            return PropertyKey(type=kind, serial=serial)
        case _:
            return _person(" ".join(subject))


def _person(text: str) -> PersonKey:
    parts = [part.strip() for part in text.split("/")]
    if not 2 <= len(parts) <= 4:
        raise _Wrong("N SURNAME/FORENAME/DOB/SEX")
    parts += [""] * (4 - len(parts))
    surname, forenames, born, sex = parts
    if not surname or not is_name(surname) or (forenames and not is_name(forenames)):
        raise _Wrong("BAD NAME. SURNAME/FORENAME")
    if sex and sex not in {"M", "F", "U"}:
        raise _Wrong("BAD SEX. M F OR U")
    dob, age = "", None
    if re.fullmatch(r"A[0-9]{1,3}", born):
        age = int(born[1:])
        if age > 120:
            raise _Wrong("BAD AGE. A0-A120")
    elif born:
        dob = _born(born)
    if not (forenames or dob or sex or age is not None):
        raise _Wrong("NAME ALONE: ADD FORENAME, DOB OR SEX")
    return PersonKey(surname=surname, forenames=forenames, dob=dob, age_years=age, sex=sex)


def is_name(text: str) -> bool:
    """Letters of any script with their marks, blank, apostrophe, hyphen, dot; at most 54."""
    if not 1 <= len(text) <= NAME_MAX:
        return False
    return all(each in " '’-." or unicodedata.category(each)[0] in "LM" for each in text) and any(
        unicodedata.category(each)[0] == "L" for each in text
    )


def _born(text: str) -> str:
    """DDMMYYYY or YYYYMMDD; a date that reads both ways is taken as DDMMYYYY."""
    digits = re.sub(r"[.\-]", "", text)
    if re.fullmatch(r"[0-9]{8}", digits):
        ways = ((digits[4:], digits[2:4], digits[:2]), (digits[:4], digits[4:6], digits[6:]))
        for year, month, day in ways:
            if not 1890 <= int(year) <= 2100:
                continue
            try:
                return date(int(year), int(month), int(day)).isoformat()
            except ValueError:
                continue
    raise _Wrong("BAD DOB. DDMMYYYY")
