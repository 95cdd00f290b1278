"""Whether a justification says something: what is missing of it, or nothing (pure).

Rule 1: what it says back never quotes what was written.
Rule 2: the work grows with the text alone: the phrases of the policy are few and short.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.rulebook import JUSTIFICATION, Coach, Reason
from gateway.transliteration import transliterate

SAY_WHAT = "SAY WHAT YOU SAW"
TOO_LONG = "WHY IS TOO LONG"
_SAY_WHY = "SAY WHY: {} LETTERS"
_WORD = re.compile(r"[A-Z0-9]+")

Words = tuple[str, ...]


def judge(text: str, reason: Reason, coach: Coach) -> str:
    """What is missing, at most 20 characters; empty when nothing is, or none is asked for."""
    if not reason.text_min:
        return ""
    if len(text) > JUSTIFICATION[1]:
        return TOO_LONG
    words = _words(text)
    if len(" ".join(words)) < reason.text_min:
        return _SAY_WHY.format(reason.text_min)
    return "" if len(_telling(words, coach)) >= coach.least_words else SAY_WHAT


def known(cause: str) -> bool:
    """Whether this is one of the answers of `judge`."""
    return cause in (SAY_WHAT, TOO_LONG) or cause.startswith(_SAY_WHY.partition("{")[0])


def _words(text: str) -> Words:
    return tuple(_WORD.findall(transliterate(text)))


def _telling(words: Words, coach: Coach) -> frozenset[str]:
    """The different words that are none of the empty phrases, nor one letter again and again."""
    phrases = _by_first_word(coach.empty)
    telling: list[str] = []
    at = 0
    while at < len(words):
        empty = (p for p in phrases.get(words[at], ()) if words[at : at + len(p)] == p)
        skip = max(map(len, empty), default=0)
        if not skip and len(set(words[at])) > 1:
            telling.append(words[at])
        at += skip or 1
    return frozenset(telling)


@lru_cache(maxsize=8)
def _by_first_word(empty: tuple[str, ...]) -> dict[str, tuple[Words, ...]]:
    found: dict[str, tuple[Words, ...]] = {}
    for phrase in filter(None, map(_words, empty)):
        found[phrase[0]] = (*found.get(phrase[0], ()), phrase)
    return found
