"""Over time: how late, how much, what is left open, what leaked or was kept, what changed.

I4 heard in time, I12 nothing personal in what ops see, I13 within its bounds, I14 all ended after
the fault, I17 nothing kept beyond its time, I19 a restart alone changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.system.evidence import Evidence, short_of

PAGE_MIB = os.sysconf("SC_PAGESIZE") / 2**20
EVERY_S = 0.1


class Sampler:
    """I13: memory, descriptors and threads of a process that is killed and started again, at 10 Hz.

    pid: whose; 0 or a process that is gone costs one sample. peaks: what was seen at most.
    """

    def __init__(self, pid: Callable[[], int]) -> None:
        self._pid = pid
        self.samples = 0
        self.peaks = {"rss_mib": 0.0, "descriptors": 0.0, "threads": 0.0}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(EVERY_S)

    def sample(self) -> None:
        with contextlib.suppress(OSError, IndexError):
            home = Path(f"/proc/{self._pid()}")
            seen = {
                "rss_mib": int((home / "statm").read_text().split()[1]) * PAGE_MIB,
                "descriptors": float(len(os.listdir(home / "fd"))),
                "threads": float(len(os.listdir(home / "task"))),
            }
            self.samples += 1
            self.peaks = {name: max(self.peaks[name], value) for name, value in seen.items()}

    def faults(self, **caps: float) -> list[str]:
        """caps: by name of a peak."""
        if not self.samples:
            return ["I13 nothing was sampled"]
        return [
            f"I13 {name} {self.peaks[name]:.0f} > {most:.0f}"
            for name, most in caps.items()
            if self.peaks[name] > most
        ]


def unheard(
    e: Evidence,
    *,
    receipt_s: float,
    outcome_s: float,
    outages: Sequence[tuple[float, float]] = (),
    grace_s: float = 2.0,
) -> list[str]:
    """I4: each question's receipt and outcome in time, on T's clock.

    outages: when bearer or daemon was down, as (from_s, to_s). A wait that one of them falls into
    may last until grace_s after its end. The question counts from when it was first said.
    """
    found = []
    for officer in e.officers:
        for ref, first_s in officer.asked_at_s().items():
            for channel, limit_s in (("receipt", receipt_s), ("result", outcome_s)):
                due_s = first_s + limit_s
                for begin_s, end_s in sorted(outages):
                    if begin_s <= due_s and end_s >= first_s:
                        due_s = max(due_s, end_s + grace_s)
                times = [
                    heard.at_s
                    for heard in officer.heard
                    if heard.body.get("ref") == ref and heard.channel in {channel, "result"}
                ]
                if not times:
                    found.append(f"I4 {ref}: no {channel}")
                elif min(times) > due_s:
                    found.append(f"I4 {ref}: {channel} {min(times) - due_s:.1f} s late")
    return found


def unfinished(
    e: Evidence,
    *,
    tables: Mapping[str, Sequence[Any]] | None = None,
    links: Iterable[Mapping[str, Any]] = (),
) -> list[str]:
    """I14: what is not over though every fault is. tables: of the ledger (tests/chain.py). links:
    of the page's snapshot."""
    found = [
        f"I14 {short_of(check)}: no outcome"
        for check, leaves in e.by_check.items()
        if e.end_of(leaves) is None
    ]
    for officer in e.officers:
        receipted = {
            heard.body["short"]
            for heard in officer.heard
            if heard.channel == "receipt" and heard.body.get("short")
        }
        answered = {heard.body["short"] for heard in officer.heard if heard.channel == "result"}
        answered |= {  # nobody could be reached for so long that it must not be told any more
            short
            for (issi, short), leaves in e.by_short.items()
            if issi == officer.issi and any(leaf["event"] == "stale" for leaf in leaves)
        }
        found += [f"I14 {short}: receipted, no answer heard" for short in receipted - answered]
    waiting = len((tables or {}).get("outbox", ()))
    if waiting:
        found.append(f"I14 {waiting} answers wait")
    found += [f"I14 {link['id']}: {link['state']}" for link in links if link["state"] != "up"]
    return found


def changes(before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]]) -> list[str]:
    """I19: tables that a restart without traffic changed (tests/chain.py: `tables`)."""
    return [
        f"I19 {name}: not as it was"
        for name in sorted({*before, *after})
        if list(before.get(name, ())) != list(after.get(name, ()))
    ]


def spilled(outputs: Mapping[str, bytes], words: Iterable[str]) -> list[str]:
    """I12: which output holds which canary, in whatever disguise."""
    return [f"I12 {name} holds {word!r}" for name, word in _holding(outputs, words)]


def outlived(
    e: Evidence, files: Mapping[str, bytes], words: Iterable[str], *, before_ms: int
) -> list[str]:
    """I17: what is left of what was asked and shown before that moment; and whether all that is
    gone went on record. files: all that the daemon keeps, whole, and an export of the audit. words:
    planted in what was asked, shown or reported before."""
    found = [f"I17 {name} holds {word!r}" for name, word in _holding(files, words)]
    kept = e.contents or {}
    promised = [leaf for leaf in e.leaves if leaf["commitment"]]
    found += [
        f"I17 {leaf.log}:{leaf.seq}: content {(before_ms - leaf['at_ms']) // 1000} s too old"
        for leaf in promised
        if leaf["at_ms"] < before_ms and leaf.seq in kept
    ]
    told = sum(int(leaf["detail"].split()[1]) for leaf in e.leaves if leaf["event"] == "purged")
    gone = sum(leaf.seq not in kept for leaf in promised)
    if gone != told:
        found.append(f"I17 {gone} contents are gone, {told} of them on record")
    return found


def _holding(outputs: Mapping[str, bytes], words: Iterable[str]) -> list[tuple[str, bytes]]:
    hidden = canaries(words)
    return [(name, word) for name, said in outputs.items() for word in hidden if word in said]


def canaries(words: Iterable[str]) -> list[bytes]:
    """Each word as it may hide: plain, lower case, hex, base64 (three phases, both alphabets), URL,
    UTF-16 of both orders."""
    found: list[bytes] = []
    for word in words:
        raw = word.encode()
        found += [raw, raw.lower(), raw.hex().encode(), raw.hex().upper().encode()]
        found += [word.encode("utf-16-le"), word.encode("utf-16-be")]
        found += [quote(word, safe="").encode(), word.replace(" ", "+").encode()]
        found.append("".join(f"%{byte:02X}" for byte in raw).encode())
        for pad in range(3):
            middle = base64.b64encode(b"\x00" * pad + raw)
            middle = middle[4 * (pad > 0) : len(middle) // 4 * 4 - 4]
            found += [middle, middle.translate(bytes.maketrans(b"+/", b"-_"))]
    return [each for each in dict.fromkeys(found) if len(each) >= 4]
