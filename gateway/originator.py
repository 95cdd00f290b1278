"""The originator line: who asks, why and where, in at most 53 characters (pure).

`<rank><collar> <SURNAME>/<reason+free>/<location>`, for example
`PC1234 TESTER/1 STOP BRIDGE ST/PE1 1HG`. Source: pnc-domain reference, 9.1.
"""

from __future__ import annotations

import re

from gateway.messages import Asker
from gateway.transliteration import transliterate

LEAST = 4
"""A line shorter than this names nobody."""
_OUTSIDE = re.compile(r"[^A-Z0-9 /.\-()'&]")


class NoRequester(ValueError):
    """The line cannot name who asks, so the check must be refused. Holds no personal data."""


def line(asker: Asker, *, reason: str, free: str = "", location: str = "", most: int = 53) -> str:
    """The exact line as sent, 4 to `most` characters of `A-Z 0-9 / . - ( ) ' &` and blank.

    What does not fit is cut in this order: free text, location, reason. Collar and surname are
    never cut: NoRequester when they are missing or do not fit.
    """
    collar = _field(asker.rank + asker.officer)
    surname = _field(asker.surname)
    if not _field(asker.officer) or not surname:
        raise NoRequester("requester missing")
    head = f"{collar} {surname}"
    if not LEAST <= len(head) <= most:
        raise NoRequester(f"requester must take {LEAST} to {most} characters")
    room = most - len(head)
    code = _cut(_field(reason), room - 1)
    room -= 1 + len(code)
    if room < 0:
        return head
    # The location is worth more than the free text, so it takes its room first.
    place = _cut(_field(location), room - 1)
    room -= 1 + len(place) if place else 0
    words = _cut(_field(free), room - 1)
    why = f"{code} {words}".strip()
    return head + (f"/{why}" if why or place else "") + (f"/{place}" if place else "")


def position(lat: float, lon: float) -> str:
    """A position as the line has it, to about 10 m: `52.5725N 000.2431W`."""
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return f"{abs(lat):07.4f}{north} {abs(lon):08.4f}{east}"


def _field(text: str) -> str:
    """Within the charset, and without `/`, which separates the parts."""
    plain = _OUTSIDE.sub(" ", transliterate(text).replace("/", " "))
    return " ".join(plain.split())


def _cut(text: str, most: int) -> str:
    return text[: max(0, most)].rstrip()
