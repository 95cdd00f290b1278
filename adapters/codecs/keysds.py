"""KeySDS: the enquiry that an officer types on a keypad. One pure function, text in, message out.

    V TE99 ABC R1          vehicle by mark            N TESTER/NORA/01011970/F R1   person
    VIN TSTZZZ00000000001 R2  by chassis number       P BIKE/TSTBIKE001 R5          property
    T TE99 ABC R8          its tax, MOT and insurance alone, of the register: no consultation
    ?  help      X [ref]  cancel      E [text]  echo test      A [ref]  an answer again
    B 1001 4711 [CALLSIGN]  book on, with the factor    B+ 1002 0815  second aboard
    B OFF [1002]  book off                              PIN 4711  behind a status that books on
    options: R reason (mandatory), L place ('.' for a blank), O collar, Q client reference, F full,
    and last of all, behind the reason, J: why, in free text to the end of the line
    J C7F3 TEXT  why a check was made, to whoever asked afterwards

Whatever cannot be asked is answered with what to do, never with what was typed. A factor is taken
as it came, letter for letter, and stands in nothing else that is made of the text.

The trap: subjects hold blanks, so in `V TE99 LXX R1` the end of the mark looks like a place, and in
`N TESTER/NORA LOUISE R1` the second forename does. Taken for an option, another vehicle and another
person would be asked about, and their NO TRACE shown. Rule: every reading is tried; where more than
one makes sense nothing is asked, and the officer is told how to write it (one exception, in
`_vehicle`). After the reason an option is always an option.
Source: reference radio-protocols, 6.2 (the project's own design, not a published standard).
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date

from gateway.messages import (
    BookOff,
    BookOn,
    CancelRequest,
    CheckRequest,
    EchoTest,
    HelpRequest,
    Key,
    Kind,
    MalformedCheck,
    Message,
    PersonKey,
    PropertyKey,
    Reasoning,
    RecallRequest,
    Secret,
    VehicleKey,
)

TEXT_MAX = 79
"""One SDS of 668 bits: the default of a TETRA network."""
NAME_MAX = 54
PLACE_MAX = 20
ECHO_MAX = 40
CALLED_MAX = 33
"""One more than any name of a question has: what is cut off is the name of none."""

COLLAR = re.compile(r"[A-Z0-9]{1,10}")
FACTOR = re.compile(r"[!-#%-~]{4,64}")
"""Visible ASCII but `$`, with which a line begins a sentence of its receiver."""
CALLSIGN = re.compile(r"[A-Z0-9][A-Z0-9/-]{0,11}")

Parsed = (
    CheckRequest
    | MalformedCheck
    | CancelRequest
    | HelpRequest
    | EchoTest
    | RecallRequest
    | BookOn
    | BookOff
    | Reasoning
)

_OPTION = re.compile(r"R[0-9]{1,2}|L[^ ]+|O[A-Z0-9]{1,10}|Q[0-9]{1,3}|F")
_CALLED = re.compile(r"[0-9A-Z]{4,40}")
"""A check as screens call it, or its whole id."""
_REASON = re.compile(r"R[0-9]{1,2}")
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}|[A-HJ-NPR-Z0-9]{5,8}")
_USUAL_MARK = re.compile(r"(?:[A-Z]{2}[0-9]{2}|[A-Z][0-9]{1,3})[A-Z]{3}")
"""Marks of the current format and the one before it, where three letters follow digits."""
_KINDS = {
    "V": Kind.VEHICLE,
    "T": Kind.VEHICLE,
    "VIN": Kind.VEHICLE,
    "N": Kind.PERSON,
    "P": Kind.PROPERTY,
}
FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that may not stand in what is shown to people: controls, bidi marks ..."""
BAD_CHARACTER = "BAD CHARACTER. USE A-Z 0-9"
_BAD = {
    "V": "BAD VRM. 2-8 OF A-Z 0-9",
    "T": "BAD VRM. 2-8 OF A-Z 0-9",
    "VIN": "BAD VIN. 17 OR LAST 5-8",
    "N": "N SURNAME/FORENAME/DOB/SEX",
    "P": "BAD SERIAL. 3-30 OF A-Z 0-9",
    "B": "B COLLAR PIN, OR B OFF",
    "B+": "B+ COLLAR PIN",
}


def parse(text: str) -> Parsed:
    """What the officer means, or what is wrong with it. Never raises; work is linear (<= 79)."""
    if len(text) > 4 * TEXT_MAX:
        return MalformedCheck(why=f"TOO LONG. MAX {TEXT_MAX}", typed=True)
    folded = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(each) in FORBIDDEN for each in folded.strip("\r\n\t ")):
        return MalformedCheck(why=BAD_CHARACTER, typed=True)
    # Again, because capitals may come apart: U+0390 has none of its own.
    words = unicodedata.normalize("NFC", folded.upper()).split()
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
            return CancelRequest(check=rest[0][:CALLED_MAX] if rest else "")
        case "A":
            return RecallRequest(check=rest[0][:CALLED_MAX] if rest else "")
        case "E":
            return EchoTest(text=" ".join(rest)[:ECHO_MAX].rstrip())
        case "J":
            if len(rest) < 2 or not _CALLED.fullmatch(rest[0]):
                return MalformedCheck(why="J REFERENCE AND WHY", typed=True)
            return Reasoning(check=rest[0], text=" ".join(rest[1:]))
        case "V" | "T" | "VIN" | "N" | "P":
            # Before it was folded: a Kelvin sign or a long s becomes a letter A-Z by folding.
            exact = [word.isascii() for word in text.split()[1:]]
            return _enquiry(verb, rest, exact, typed)
        case "B" | "B+" | "PIN":
            return _booking(verb, rest, text.split()[1:])
        case _:
            return MalformedCheck(why="UNKNOWN. ? FOR HELP", typed=True)


def written(message: Message) -> str | None:
    """The text that says this message; None when KeySDS has no word for it."""
    match message:
        case CheckRequest(typed=text) if text:
            return text
        case CancelRequest(check=check):
            return f"X {check}".rstrip()
        case RecallRequest(check=check):
            return f"A {check}".rstrip()
        case HelpRequest():
            return "?"
        case EchoTest(text=text):
            return f"E {text}".rstrip()
        case BookOn(sent_at_ms=int()):
            return None  # what says when it was sent is no typed text
        case BookOn(officer=""):
            return f"PIN {message.factor.reveal()}"
        case BookOn():
            verb = "B+" if message.second else "B"
            factor = message.factor.reveal()
            return f"{verb} {message.officer} {factor} {message.callsign}".rstrip()
        case BookOff(officer=officer):
            return f"B OFF {officer}".rstrip()
        case Reasoning(check=check, text=text):
            return f"J {check} {text}"
        case _:
            return None


class _Wrong(Exception):
    """Says what to do; never quotes."""


def _booking(verb: str, words: list[str], exact: list[str]) -> BookOn | BookOff | MalformedCheck:
    """exact: the same words as they came. What is wrong is told without a word of it."""
    if len(words) != len(exact):
        words = []
    match verb, words:
        case "B", ["OFF"]:
            return BookOff()
        case "B", ["OFF", officer] if COLLAR.fullmatch(officer):
            return BookOff(officer=officer)
        case "PIN", [_] if FACTOR.fullmatch(exact[0]):
            return BookOn(officer="", factor=Secret(exact[0]))
        case "B" | "B+", [officer, _, *more] if (
            COLLAR.fullmatch(officer)
            and FACTOR.fullmatch(exact[1])
            and (not more or (len(more) == 1 and verb == "B" and CALLSIGN.fullmatch(more[0])))
        ):
            return BookOn(
                officer=officer,
                factor=Secret(exact[1]),
                callsign=more[0] if more else "",
                second=verb == "B+",
            )
    return MalformedCheck(why="PIN NUMBER" if verb == "PIN" else _BAD[verb], typed=True)


def _enquiry(
    verb: str, rest: list[str], exact: list[bool], typed: str
) -> CheckRequest | MalformedCheck:
    """exact: of each word in rest, whether it was ASCII as it came."""
    why_at = _why_at(rest)
    if why_at is None:
        return _asked(verb, rest, exact, typed)
    meant = _asked(verb, rest[:why_at], exact, typed, why=" ".join(rest[why_at + 1 :]))
    whole = _asked(verb, rest, exact, typed)
    if isinstance(meant, CheckRequest) and isinstance(whole, CheckRequest):
        # A serial in groups, one of them J: what is asked about must not hang on that.
        return MalformedCheck(
            why="UNCLEAR. NO BLANKS, R FIRST",
            kind=_KINDS[verb],
            client_ref=meant.client_ref,
            typed=True,
        )
    return whole if isinstance(whole, CheckRequest) else meant


def _why_at(rest: list[str]) -> int | None:
    """Where the first J behind a reason stands; None when there is none."""
    reasoned = False
    for at, word in enumerate(rest):
        if reasoned and word == "J":
            return at
        reasoned = reasoned or (at > 0 and _REASON.fullmatch(word) is not None)
    return None


def _asked(
    verb: str, rest: list[str], exact: list[bool], typed: str, *, why: str | None = None
) -> CheckRequest | MalformedCheck:
    """why: what stands behind a J; None when there is none."""
    cut = _subject_end(verb, rest)
    options = rest[cut:]
    kind = _KINDS[verb]
    client_ref = next((o[1:] for o in options if o.startswith("Q")), "")
    try:
        cut, key = _reading(verb, rest, exact, cut)
        options = rest[cut:]
        if len({o[0] for o in options}) != len(options):
            raise _Wrong("OPTION GIVEN TWICE")
        reason = next((o[1:] for o in options if o.startswith("R")), "")
        if not reason:
            raise _Wrong("R? GIVE REASON")
        place = next((o[1:] for o in options if o.startswith("L")), "").replace(".", " ").strip()
        if len(place) > PLACE_MAX:
            raise _Wrong(f"L TOO LONG. MAX {PLACE_MAX}")
        if why == "":
            raise _Wrong("J? SAY WHY")
    except _Wrong as wrong:
        return MalformedCheck(why=str(wrong), kind=kind, client_ref=client_ref, typed=True)
    return CheckRequest(
        key=key,
        reason=str(int(reason)),
        justification=why or "",
        location=place,
        typed=typed,
        client_ref=client_ref,
        collar=next((o[1:] for o in options if o.startswith("O")), ""),
        full="F" in options,
        scope="status" if verb == "T" else "",
    )


def _subject_end(verb: str, words: list[str]) -> int:
    """How many words are the subject's in the shortest reading: options stand at the end.

    The subject is at least the first word. Where `/` parts the subject, a word with one in it, or
    behind one, is an option only after the reason: `N TESTER/NORA LOUISE/01011970 R1` has no place.
    """
    cut = len(words)
    while cut > 1 and _OPTION.fullmatch(words[cut - 1]):
        cut -= 1
    if verb in {"N", "P"}:
        for at in range(cut, len(words)):
            if _REASON.fullmatch(words[at]):
                break
            if "/" in words[at] or words[at - 1].endswith("/"):
                cut = at + 1
    return cut


def _reading(verb: str, words: list[str], exact: list[bool], cut: int) -> tuple[int, Key]:
    """Where the subject ends, and what it means; raises when that cannot be told for sure."""
    found: list[tuple[int, Key]] = []
    first: _Wrong | None = None
    for end in range(cut, len(words) + 1):
        if end > cut and not _may_belong(verb, words[cut - 1], words[end - 1]):
            break
        try:
            found.append((end, _key(verb, words[:end])))
        except _Wrong as wrong:
            first = first or wrong
    if not found:
        raise first or _Wrong(_BAD[verb])
    meant = found[0] if len(found) == 1 else _vehicle(found) if verb in "VT" else None
    if meant is None:
        raise _Wrong("UNCLEAR. END NAME WITH /" if verb == "N" else "UNCLEAR. NO BLANKS, R FIRST")
    # Only now: left out before, `TE99 LX` with a long s behind would be asked as TE99.
    if verb != "N" and not all(exact[: meant[0]]):
        raise _Wrong(_BAD[verb])
    return meant


def _may_belong(verb: str, last: str, word: str) -> bool:
    """Whether a word that looks like an option may as well go on with the subject.

    Of a mark or a name only letters: `R1`, `Q12` and `O1001` are no group of any. A serial that is
    one word so far is whole; one that was typed in groups may have any other.
    """
    match verb:
        case "V" | "T" | "N":
            return word.isalpha()
        case "VIN":
            return word[0] in "LF"
        case _:
            return "/" not in last and not _REASON.fullmatch(word)


def _vehicle(found: list[tuple[int, Key]]) -> tuple[int, Key] | None:
    """`TE99 LXX`: where the next word makes a mark of the usual form, it is that mark.

    That is how marks are written; a place or collar number of two letters right behind a mark of
    four is not. And a mark that has its usual form is whole: `TE99ABC F` asks for the full answer.
    Anything else that reads two ways is left to the officer.
    """
    usual = [
        (end, key)
        for end, key in found[:2]
        if isinstance(key, VehicleKey) and _USUAL_MARK.fullmatch(key.vrm)
    ]
    if usual and usual[0][0] <= found[0][0] + 1:
        return usual[0]
    return None


def _key(verb: str, subject: list[str]) -> Key:
    match verb:
        case "V" | "T":
            mark = re.sub(r"[ .\-]", "", " ".join(subject))
            if not re.fullmatch(r"[A-Z0-9]{2,8}", mark):
                raise _Wrong(_BAD[verb])
            return VehicleKey(vrm=mark)
        case "VIN":
            vin = re.sub(r"[ .\-]", "", " ".join(subject))
            if not _VIN.fullmatch(vin):
                raise _Wrong(_BAD[verb])
            return VehicleKey(vin=vin)
        case "P":
            kind, _, serial = " ".join(subject).partition("/")
            kind, serial = kind.strip(), re.sub(r"[ .\-]", "", serial)
            if not re.fullmatch(r"[A-Z0-9 ]{2,20}", kind):
                raise _Wrong("P TYPE/SERIAL")
            if not re.fullmatch(r"[A-Z0-9]{3,30}", serial):
                raise _Wrong(_BAD[verb])
            return PropertyKey(type=kind, serial=serial)
        case _:
            return _person(" ".join(subject))


def _person(text: str) -> PersonKey:
    parts = [part.strip() for part in text.split("/")]
    if not 2 <= len(parts) <= 4:
        raise _Wrong(_BAD["N"])
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
    """Letters of any script with their marks, blank, apostrophe, hyphen, dot; at most 54.

    Not two scripts in one word, nor letters that are another's look-alike by definition (full
    width, mathematical): the PNC would find nobody by a name that reads right on every screen.
    """
    if not 1 <= len(text) <= NAME_MAX or not unicodedata.is_normalized("NFKC", text):
        return False
    letters = False
    for word in re.split(r"[ '’.\-]+", text):
        scripts: set[str] = set()
        for each in word:
            category = unicodedata.category(each)
            if category[0] not in "LM":
                return False
            if category[0] == "L" and category != "Lm":
                scripts.add(unicodedata.name(each, "").split(" ", 1)[0])
        letters = letters or bool(scripts)
        if "LATIN" in scripts and len(scripts) > 1:
            return False
    return letters


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
