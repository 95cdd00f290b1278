"""Q against A: what reached the PNC was on record before, and what it said of danger was shown.
And R against A: what reached the vehicle register, whose records name it as their source.

I6 no query without its record (and so I16: where nothing can be recorded nothing is asked), I8 none
for what was refused, I21 none after an outcome, I22 no warning lost.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.system.evidence import Evidence, short_of

ROOT = Path(__file__).resolve().parents[2]

REGISTER = "DVLA/MID"
"""The source of a question to the register. All others are to the PNC."""
IN_WORDS = {"L3", "L4"}
"""Levels that release the danger words; below them there is a tier."""
TIERS = ("WITHDRAW", "CAUTION", "WELFARE")


def faults(e: Evidence) -> list[str]:
    return [*recorded(e), *refused(e), *once(e), *warned(e)]


def recorded(e: Evidence) -> list[str]:
    """I6, I16. True at any moment, also in the one of a kill."""
    found = []
    sent = [(query, False) for query in e.queries] + [(query, True) for query in e.registered]
    for query, register in sent:
        check, attempt = str(query["check"]), int(query["attempt"])
        leaves = e.by_check.get(check, [])
        asked = [
            leaf
            for leaf in leaves
            if leaf["event"] == "asked"
            and leaf["attempt"] == attempt
            and (leaf["source"] == REGISTER) is register
        ]
        if not asked:
            found.append(f"I6 {short_of(check)}: attempt {attempt} has no record")
        elif asked[0]["at_ms"] > query.get("at_ms", asked[0]["at_ms"]):
            found.append(f"I6 {short_of(check)}: attempt {attempt} was made before its record")
        opened = [leaf.seq for leaf in leaves if leaf["event"] == "opened"]
        if not opened or (asked and opened[0] > asked[0].seq):
            found.append(f"I6 {short_of(check)}: asked without an opening on record")
    return found


def refused(e: Evidence) -> list[str]:
    """I8: a question that was not taken is not asked."""
    queried = {str(query["check"]) for query in e.queries}
    found = [
        f"I8 {heard.body['short']}: refused, and asked all the same"
        for _, heard in e.heard("receipt")
        if heard.body.get("accepted") is False and heard.body.get("check") in queried
    ]
    for check, leaves in e.by_check.items():
        events = [leaf["event"] for leaf in leaves]
        if check in queried and {"refused", "denied"} & set(events) and "asked" not in events:
            found.append(f"I8 {short_of(check)}: refused on record, and asked all the same")
    return found


def once(e: Evidence) -> list[str]:
    """I21: an attempt reaches the PNC once, has one record, and none comes after the outcome."""
    found = []
    times = Counter((str(query["check"]), int(query["attempt"])) for query in e.queries)
    for (check, attempt), number in times.items():
        if number > 1:
            found.append(f"I21 {short_of(check)}: attempt {attempt} reached the PNC {number} times")
    for check, leaves in e.by_check.items():
        end = e.end_of(leaves)
        asked = [leaf for leaf in leaves if leaf["event"] == "asked"]
        if end is not None and any(leaf.seq > end.seq for leaf in asked):
            found.append(f"I21 {short_of(check)}: asked again after its outcome")
        attempts = [leaf["attempt"] for leaf in asked if leaf["source"] == REGISTER]
        if len(set(attempts)) != len(attempts):
            found.append(f"I21 {short_of(check)}: the register, attempts {attempts} on record")
        attempts = [leaf["attempt"] for leaf in asked if leaf["source"] != REGISTER]
        if attempts != list(range(1, len(attempts) + 1)):
            found.append(f"I21 {short_of(check)}: attempts {attempts} on record")
    return found


def warned(e: Evidence) -> list[str]:
    """I22: each warning code of the reply stands in the result, by a word of its own; where only a
    tier is released, it is one that warns."""
    found = []
    replies = {
        (str(reply["check"]), int(reply["attempt"])): reply
        for reply in e.replies
        if reply["kind"] == "trace" and reply.get("warnings")
    }
    for check, leaves in e.by_check.items():
        end = e.end_of(leaves)
        if end is None or end["outcome"] != "answered":
            continue
        reply = replies.get((check, end["attempt"]))
        shown = _shown(e, leaves[0]["terminal"], short_of(check)) if reply else ""
        if reply is None or not shown:
            continue
        level = next((leaf["level"] for leaf in leaves if leaf["event"] == "disclosed"), "")
        if level not in IN_WORDS:
            if not any(tier in shown for tier in TIERS):
                found.append(f"I22 {short_of(check)}: all clear, with warnings on record")
            continue
        for code in reply["warnings"]:
            if not any(word in shown for word in _words(code)):
                found.append(f"I22 {short_of(check)}: warning {code} was not shown")
    return found


def _shown(e: Evidence, issi: str, short: str) -> str:
    """Everything that the terminal showed of a result, once all of it came."""
    parts: dict[int, str] = {}
    most = 1
    for officer, heard in e.heard("result"):
        if officer.issi == issi and heard.body["short"] == short:
            body = heard.body
            text = body.get("text") or "\n".join([*body.get("danger", ()), *body["pages"]])
            parts[body.get("part", 1)] = text
            most = body.get("parts", 1)
    return "\n".join(parts[n] for n in sorted(parts)) if len(parts) == most else ""


def _words(code: str) -> list[str]:
    table = _warnings()
    entry = table["codes"].get(code, table["unknown"])
    return [entry["word"], entry.get("base", entry["word"]), entry.get("short", entry["word"])]


@cache
def _warnings() -> Mapping[str, Any]:
    return tomllib.loads((ROOT / "config" / "warnings.toml").read_text("utf-8"))
