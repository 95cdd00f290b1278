"""T against A: what was promised or shown stands on record, once, as it was shown, for its asker.

I1 one outcome, I2 one result, I3 to its asker only, I5 after its record, I7 nothing invented, I18
nothing to whoever lost the right to it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.chain import Leaf
from tests.system.evidence import CONCLUDING, Evidence, short_of
from tests.system.officers import Officer

OUTCOMES = {"answered", "refused", "expired", "failed"}
REVOKED_WITHIN_S = 5.0


def faults(e: Evidence) -> list[str]:
    return [*outcomes(e), *results(e), *receipts(e), *promises(e), *invented(e), *revoked(e)]


def outcomes(e: Evidence) -> list[str]:
    """I1: each check has exactly one outcome on record, and each receipted question is a check."""
    found = []
    for check, leaves in e.by_check.items():
        ends = [leaf for leaf in leaves if leaf["event"] in CONCLUDING]
        if len(ends) != 1:
            found.append(f"I1 {short_of(check)}: {len(ends)} outcomes")
        for end in ends:
            if end["outcome"] not in OUTCOMES:
                found.append(f"I1 {short_of(check)}: outcome {end['outcome']!r}")
        opened = [leaf for leaf in leaves if leaf["event"] == "opened"]
        if len(opened) != 1:
            found.append(f"I1 {short_of(check)}: {len(opened)} opening records")
    for officer, heard in e.heard("receipt"):
        short = heard.body.get("short")
        if not short or heard.body.get("accepted") is False:
            continue
        leaves = e.by_short.get((officer.issi, short), [])
        if e.end_of(leaves) is None:
            found.append(f"I1 {short}: receipted, no outcome on record")
    return found


def promises(e: Evidence) -> list[str]:
    """I5: what T was told has its record. True at any moment, also in the one of a kill."""
    found = []
    for officer, heard in e.heard("receipt"):
        short = heard.body.get("short")
        if short and (officer.issi, short) not in e.by_short:
            found.append(f"I5 {short}: receipted without a record")
    for officer, heard in e.heard("result"):
        short = heard.body["short"]
        leaves = e.by_short.get((officer.issi, short))
        if leaves is None:
            continue  # I3 says it
        end = e.end_of(leaves)
        if end is None:
            found.append(f"I5 {short}: a result without an outcome on record")
            continue
        shown = [leaf for leaf in leaves if leaf["event"] == "disclosed" and not _asks(leaf)]
        if end["outcome"] == "answered" and not shown:
            found.append(f"I5 {short}: an answer without a disclosure on record")
        if max(leaf["at_ms"] for leaf in (end, *shown[:1])) > heard.at_ms:
            found.append(f"I5 {short}: heard before its record")
    return found


def results(e: Evidence) -> list[str]:
    """I2: one result, the one on record; I3: to nobody but its asker."""
    found = []
    for officer in e.officers:
        seen: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        for heard in officer.heard:
            if heard.channel != "result":
                continue
            short = heard.body["short"]
            leaves = e.by_short.get((officer.issi, short))
            if leaves is None:
                found.append(f"I3 {short}: a result that this terminal never asked for")
                continue
            end, told = e.end_of(leaves), heard.body.get("outcome")
            if end is not None and told is not None and told != end["outcome"]:
                found.append(f"I2 {short}: told {told}, on record {end['outcome']}")
            seen[short, heard.body.get("part", 0)].add(without_age(heard.body))
            if not _as_disclosed(e, leaves, heard.raw, heard.body):
                found.append(f"I2 {short}: shown other than what was disclosed on record")
        for (short, part), bodies in seen.items():
            if len(bodies) > 1:
                found.append(f"I2 {short}/{part}: {len(bodies)} different results")
    return found


def without_age(body: Mapping[str, Any]) -> bytes:
    """A result as what it says: a repeat is allowed to say `AS AT` and nothing else besides."""
    kept = {key: value for key, value in body.items() if key not in {"pages", "text", "repeated"}}
    first = (body.get("pages") or [body.get("text", "")])[0]
    kept["first"] = first.splitlines()[0] if "pages" in body else first.split(" AS AT")[0]
    return json.dumps(kept, sort_keys=True).encode()


SAME = ("outcome", "danger", "fields", "not_checked", "level", "receipt")


def _asks(leaf: Leaf) -> bool:
    """The first phase alone: FREE TO SPEAK?, with the danger words."""
    return bool(leaf["detail"] == "with the prompt")


def _as_disclosed(e: Evidence, leaves: list[Leaf], raw: bytes, body: Mapping[str, Any]) -> bool:
    """Whether this is what the record of the disclosure holds, as far as that can be told."""
    told = (leaf for leaf in leaves if leaf["event"] == "disclosed" and not _asks(leaf))
    shown = next(told, None)
    if shown is None or e.contents is None or shown.seq not in e.contents:
        return True
    kept = json.loads(e.contents[shown.seq][1])
    if "text" in body:
        parts = [text.split(" AS AT")[0] for text in kept["texts"]]
        return raw.decode("ascii").split(" AS AT")[0] in parts
    as_kept = {**{key: kept[key] for key in SAME}, "pages": [kept["pages"][0].splitlines()[0]]}
    as_heard = {**{key: body.get(key) for key in SAME}, "pages": [body["pages"][0].splitlines()[0]]}
    return as_kept == as_heard and body.get("class", "") == kept["result_class"]


def receipts(e: Evidence) -> list[str]:
    """I3: a receipt names a check of the terminal that it came to; I21: a repeat names the same."""
    found = []
    owner = {check: leaves[0]["terminal"] for check, leaves in e.by_check.items()}
    for officer, heard in e.heard("receipt"):
        check = heard.body.get("check")
        if check and owner.get(check, officer.issi) != officer.issi:
            found.append(f"I3 {short_of(check)}: receipted to another terminal")
    for officer in e.officers:
        shorts: dict[str, set[str]] = defaultdict(set)
        for heard in officer.heard:
            if heard.channel in {"receipt", "result"} and heard.body.get("ref"):
                shorts[heard.body["ref"]].add(heard.body.get("short", ""))
        once = {ref for ref, texts in officer.questions().items() if len(set(texts)) == 1}
        for ref in once & shorts.keys():
            if len(shorts[ref] - {""}) > 1:
                found.append(f"I21 {ref}: one question became {len(shorts[ref])} checks")
    return found


def invented(e: Evidence) -> list[str]:
    """I7: every check on record was asked by that terminal, and not more often than it asked."""
    found = []
    by_issi = {officer.issi: officer for officer in e.officers}
    opened: Counter[tuple[str, str]] = Counter()
    for check, leaves in e.by_check.items():
        issi = leaves[0]["terminal"]
        if issi not in by_issi:
            found.append(f"I7 {short_of(check)}: a terminal that is none of ours")
            continue
        key = _key_of(e, leaves)
        if not key or leaves[0]["parent"]:  # a supplement: nobody asked it, and none is without one
            continue
        opened[issi, key] += 1
        if opened[issi, key] > _times_said(by_issi[issi], key):
            found.append(f"I7 {short_of(check)}: on record, but nobody asked it")
    return found


def _key_of(e: Evidence, leaves: list[Leaf]) -> str:
    """The first word of what was asked about; empty where the record does not (any more) tell."""
    first = leaves[0]
    if e.contents is None or first["event"] != "opened" or first.seq not in e.contents:
        return ""
    key = json.loads(e.contents[first.seq][1]).get("key", "")
    return _plain(key.partition(":")[2].split("/")[0])


def _times_said(officer: Officer, word: str) -> int:
    return sum(word in _plain(raw.decode("utf-8", "replace")) for _, _, raw in officer.sent)


def _plain(text: str) -> str:
    return re.sub(r"[^0-9A-Z]", "", text.upper())


def revoked(e: Evidence) -> list[str]:
    """I18: who was struck off hears no answer any more, 5 s after at the latest."""
    found = []
    for officer, heard in e.heard("result"):
        if officer.revoked_at_s is not None:
            late_s = heard.at_s - officer.revoked_at_s
            if late_s > REVOKED_WITHIN_S and heard.body.get("outcome") == "answered":
                found.append(f"I18 {heard.body['short']}: answered {late_s:.0f} s after revocation")
    return found
