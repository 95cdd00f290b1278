"""Any Unicode text as the upper-case ASCII that every radio can show.

Accents go, `£` is `#`, `ß` is `SS`, what has no ASCII is one `?` a run (pnc-domain, 4). Marks that
mean something on a screen (`!!`, `>>`, `??`) cannot be forged by a name.
"""

from __future__ import annotations

import re
import unicodedata

# Letters that NFKD does not take apart, and signs with an agreed substitute.
_SUBSTITUTES = str.maketrans(
    {
        "£": "#",
        "ß": "SS",
        "ẞ": "SS",
        "Æ": "AE",
        "æ": "AE",
        "Œ": "OE",
        "œ": "OE",
        "Ø": "O",
        "ø": "O",
        "Đ": "D",
        "đ": "D",
        "Ð": "D",
        "ð": "D",
        "Þ": "TH",
        "þ": "TH",
        "Ł": "L",
        "ł": "L",
        "ı": "I",
        "İ": "I",
        "ʻ": "'",
        "ʼ": "'",
        "‘": "'",
        "’": "'",
        "‐": "-",
        "‑": "-",
        "–": "-",
        "—": "-",
    }
)
# In GSM 7-bit these are escapes or other letters; `!` and `>` begin our marks.
_UNSAFE = str.maketrans(dict.fromkeys('[]{}\\^~|`@$_"*;<', ".") | {"!": ".", ">": "."})
_QUESTIONS = re.compile(r"\?[? ]*\?")


# What each ASCII character becomes by the rules below: nearly all text is nothing else.
_ASCII = bytes(
    ord(chr(code).upper().translate(_UNSAFE)) if 0x20 <= code < 0x7F else 0x20
    for code in range(256)
)


def transliterate(text: str) -> str:
    """Upper-case ASCII, 0x20-0x7e, single blanks, no control or direction characters."""
    safe = text.encode().translate(_ASCII).decode() if text.isascii() else _from_any(text)
    if "?" in safe:
        safe = _QUESTIONS.sub("?", safe)
    return " ".join(safe.split()) if " " in safe else safe


def _from_any(text: str) -> str:
    plain: list[str] = []
    for char in unicodedata.normalize("NFKD", text.translate(_SUBSTITUTES)).upper():
        category = unicodedata.category(char)
        if category.startswith(("Z", "C")) and category not in {"Cn", "Co", "Cs"}:
            # Controls become a blank; direction and zero-width marks (Cf) go without trace.
            plain.append("" if category == "Cf" else " ")
        elif category.startswith("M"):
            continue
        elif char.isascii():
            plain.append(char)
        else:
            plain.append("?")
    return "".join(plain).translate(_UNSAFE)
