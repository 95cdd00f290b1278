"""Names to ranked candidates: a fixed, deterministic scorer. Pure.

The weights are those of the pnc-domain reference, section 8. Soundex alone mis-serves many of the
city's names, so a surname is phonetically alike when Soundex or either double-metaphone key is.
A name without a single Latin letter cannot be looked for at all: `searchable` says so, because
"no trace" of what was never looked for would be a lie.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date

import jellyfish
from doublemetaphone import doublemetaphone

from adapters.pnc.rows import NameRow, PersonRow
from gateway.messages import PersonKey
from gateway.transliteration import transliterate

ENOUGH = 45
STRONG = 85
CAP = 12
PARTICLES = ("AL", "EL", "VAN", "VON", "DE", "DER", "DEN", "LA", "LE", "BIN", "O")

DIMINUTIVES = {
    frozenset(pair)
    for pair in (
        ("ALEX", "ALEXANDER"),
        ("ALEX", "ALEXANDRA"),
        ("TED", "EDWARD"),
        ("BILL", "WILLIAM"),
        ("WILL", "WILLIAM"),
        ("VIC", "VICTOR"),
        ("BOB", "ROBERT"),
        ("TOM", "THOMAS"),
        ("KATE", "KATHERINE"),
        ("LIZ", "ELIZABETH"),
    )
}


def fold(name: str) -> str:
    """Upper-case ASCII letters and blanks: accents, apostrophes and hyphens go, Mc is MAC."""
    plain = re.sub(r"['.]", "", transliterate(name))
    plain = re.sub(r"[^A-Z]+", " ", plain).strip()
    return re.sub(r"\bMC ?(?=[A-Z])", "MAC", plain)


def searchable(name: str) -> bool:
    """Whether anything of this name can be looked for: a Latin letter, with or without marks."""
    return bool(fold(name))


def forms(surname: str) -> frozenset[str]:
    """A surname as indexed: as it is, joined, and without its particle."""
    folded = fold(surname)
    words = folded.split()
    found = {folded, "".join(words)}
    if len(words) > 1 and words[0] in PARTICLES:
        found |= {" ".join(words[1:]), "".join(words[1:])}
    return frozenset(found - {""})


def sounds(surname: str) -> frozenset[str]:
    """Soundex and double-metaphone keys of every form, marked by kind."""
    keys: set[str] = set()
    for form in forms(surname):
        joined = form.replace(" ", "")
        if not joined:
            continue
        keys.add("S:" + jellyfish.soundex(joined))
        keys |= {"M:" + key for key in doublemetaphone(joined) if key}
    return frozenset(keys)


class Indexed:
    """One name of one person, with its keys computed once."""

    __slots__ = ("filed", "forms", "name", "row", "sounds")

    def __init__(self, row: PersonRow, name: NameRow, filed: bool) -> None:
        self.row = row
        self.name = name
        self.filed = filed
        self.forms = forms(name.surname)
        self.sounds = sounds(name.surname)


class Index:
    """Every name of every person, filed and alias, to be found by form and by sound."""

    def __init__(self, rows: Iterable[PersonRow]) -> None:
        self._by_key: defaultdict[str, list[Indexed]] = defaultdict(list)
        for row in rows:
            filed = NameRow(surname=row.surname, forenames=row.forenames, dob=row.dob)
            names = [Indexed(row, filed, True)]
            names += [Indexed(row, alias, False) for alias in row.aliases]
            for name in names:
                for key in name.forms | name.sounds:
                    self._by_key[key].append(name)

    def like(self, keys: Iterable[str]) -> Iterator[Indexed]:
        """Each name that has one of these forms or sounds, once."""
        seen: set[int] = set()
        for key in keys:
            for name in self._by_key.get(key, ()):
                if id(name) not in seen:
                    seen.add(id(name))
                    yield name


class Candidate:
    """A person who may be meant, under the name that matched best."""

    __slots__ = ("filed", "name", "row", "score")

    def __init__(self, matched: Indexed, score: int) -> None:
        self.row = matched.row
        self.name = matched.name
        self.filed = matched.filed
        self.score = score


def candidates(key: PersonKey, index: Index, *, today: date) -> tuple[list[Candidate], bool]:
    """Ranked, at most CAP, best first, ties by PNCID; and whether there were more.

    key: its date of birth, if any, is a real ISO date.
    """
    asked = _Asked(key)
    best: dict[str, Candidate] = {}
    for name in index.like(asked.keys):
        score = asked.score(name, today)
        if score < ENOUGH:
            continue
        known = best.get(name.row.pncid)
        if known is None or (score, name.filed) > (known.score, known.filed):
            best[name.row.pncid] = Candidate(name, score)
    ranked = sorted(best.values(), key=lambda each: (-each.score, each.row.pncid))
    return ranked[:CAP], len(ranked) > CAP


class _Asked:
    """What was asked, folded once; a surname and a forename may have been swapped."""

    def __init__(self, key: PersonKey) -> None:
        self._key = key
        self._ways = [(forms(key.surname), sounds(key.surname), fold(key.forenames).split())]
        forenames = fold(key.forenames).split()
        if forenames:
            swapped = forms(key.forenames) | forms(forenames[0])
            self._ways.append((swapped, frozenset(), fold(key.surname).split()))
        # In order, so that the same question has the same answer in every process.
        self.keys = sorted({each for way in self._ways for each in way[0] | way[1]})

    def score(self, name: Indexed, today: date) -> int:
        return max(self._way(way, name, today) for way in self._ways)

    def _way(
        self, way: tuple[frozenset[str], frozenset[str], list[str]], name: Indexed, today: date
    ) -> int:
        asked_forms, asked_sounds, asked_forenames = way
        if asked_forms & name.forms:
            score = 40 if name.filed else 30
        elif asked_sounds & name.sounds:
            score = 25
        else:
            return 0
        score += _forename(asked_forenames, fold(name.name.forenames).split())
        score += _born(self._key, name.name.dob or name.row.dob, today)
        if self._key.sex in {"M", "F"} and name.row.sex in {"M", "F"}:
            score += 10 if self._key.sex == name.row.sex else -15
        return score


def _forename(asked: list[str], filed: list[str]) -> int:
    if not asked:
        return 0
    first = asked[0]
    if first in filed:
        return 20
    for other in filed:
        if frozenset((first, other)) in DIMINUTIVES:
            return 12
        if len(first) > 1 and len(other) > 1 and _alike(first, other):
            return 12
    if any(other[:1] == first[:1] and 1 in (len(first), len(other)) for other in filed):
        return 8
    return -20


def _alike(one: str, other: str) -> bool:
    if jellyfish.soundex(one) == jellyfish.soundex(other):
        return True
    return bool({k for k in doublemetaphone(one) if k} & {k for k in doublemetaphone(other) if k})


def _born(key: PersonKey, filed_text: str, today: date) -> int:
    if not filed_text:
        return 0
    filed = date.fromisoformat(filed_text)
    if key.dob:
        asked = date.fromisoformat(key.dob)
        if asked == filed:
            return 30
        if (asked.year, asked.month, asked.day) == (filed.year, filed.day, filed.month):
            return 14
        if (asked.month, asked.day) == (filed.month, filed.day) and abs(
            asked.year - filed.year
        ) == 1:
            return 12
        return -30
    if key.age_years is not None:
        age = today.year - filed.year - ((today.month, today.day) < (filed.month, filed.day))
        return 6 if abs(age - key.age_years) <= 5 else -30
    return 0
