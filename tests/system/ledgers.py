"""Four independent records of what happened, and the questions that their join must answer.

T what the terminals said and heard; Q what the PNC server was asked; A the audit records, read
from the ledger's file by a reader of our own (tests/chain.py); C the console's stream. The daemon's
own counters are never evidence. Invariants I1 to I9, I21: reliability-security reference, 4.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from tests.chain import Leaf, audit, chain_faults, contents
from tests.system.officers import Officer

__all__ = ["Console", "Leaf", "audit", "canaries", "chain_faults", "contents", "join"]

OUTCOMES = {"answered", "refused", "expired", "failed"}
CONCLUDING = {"answered", "refused", "cancelled"}
"""The events of the audit that carry a check's one outcome."""


# --------------------------------------------------------------------------- C


class Console:
    """Follows /api/v1/stream across restarts, checking `prev` as a console must."""

    def __init__(self, url: str, *, address: str = "127.0.0.1") -> None:
        """address: of loopback, where it comes from."""
        self._url = url
        self._address = address
        self.events: list[dict[str, Any]] = []
        self.holes = 0
        self.resets: Counter[str] = Counter()
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. After a reset or a lost connection it begins anew with a snapshot."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                here = aiohttp.TCPConnector(local_addr=(self._address, 0))
                async with aiohttp.ClientSession(connector=here) as http:
                    async with http.get(f"{self._url}/api/v1/snapshot") as answer:
                        picture = await answer.json()
                    await self._follow(http, picture["epoch"], picture["seq"])
            self.connected.clear()
            await asyncio.sleep(0.05)

    async def _follow(self, http: aiohttp.ClientSession, epoch: str, seq: int) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=5)
        held = seq
        async with http.get(
            f"{self._url}/api/v1/stream?epoch={epoch}&after={seq}", timeout=timeout
        ) as stream:
            self.connected.set()
            async for line in stream.content:
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                if event["type"] == "reset":
                    self.resets[event["reason"]] += 1
                    return
                if "prev" in event:
                    self.holes += event["prev"] != held
                    held = event["seq"]
                self.events.append(event)

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type_]


# --------------------------------------------------------------------------- the join


def join(
    officers: Iterable[Officer],
    queries: Sequence[dict[str, Any]],
    leaves: Sequence[Leaf],
    console: Console | None = None,
) -> list[str]:
    """Every violated invariant, one line each; [] when all hold.

    queries: one dict each with `check`, `attempt`, `key_text`, in the order they reached the PNC.
    """
    officers = list(officers)
    faults = chain_faults(leaves)
    by_check: dict[str, list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        if leaf["check"]:
            by_check[leaf["check"]].append(leaf)
    faults += _outcomes(officers, by_check)
    faults += _results(officers, by_check)
    faults += _questions(queries, by_check)
    if console is not None:
        faults += _feed(console, by_check)
    return faults


def short_of(check: str) -> str:
    return check[-4:]


def _outcomes(officers: list[Officer], by_check: dict[str, list[Leaf]]) -> list[str]:
    """I1: each receipted check has exactly one outcome on record; I7: none was invented."""
    faults = []
    for check, leaves in by_check.items():
        ends = [leaf for leaf in leaves if leaf["event"] in CONCLUDING]
        if len(ends) > 1:
            faults.append(f"I1 {short_of(check)}: {len(ends)} outcomes")
        for end in ends:
            if end["outcome"] not in OUTCOMES:
                faults.append(f"I1 {short_of(check)}: outcome {end['outcome']!r}")
        opened = [leaf for leaf in leaves if leaf["event"] == "opened"]
        if len(opened) != 1:
            faults.append(f"I1 {short_of(check)}: {len(opened)} opening records")
    ended = {
        (leaf["terminal"], short_of(check))
        for check, leaves in by_check.items()
        for leaf in leaves
        if leaf["event"] in CONCLUDING
    }
    for officer in officers:
        for heard in officer.heard:
            if heard.channel != "receipt" or heard.body.get("accepted") is False:
                continue
            if not heard.body.get("short"):
                continue
            if (officer.issi, heard.body["short"]) not in ended:
                faults.append(f"I1 {heard.body['short']}: receipted, no outcome on record")
    known = {officer.issi for officer in officers}
    for check, leaves in by_check.items():
        if leaves[0]["terminal"] not in known:
            faults.append(f"I7 {short_of(check)}: a terminal that is none of ours")
    return faults


def _results(officers: list[Officer], by_check: dict[str, list[Leaf]]) -> list[str]:
    """I2 one result only; I3 to its asker only; I5 never before its record."""
    faults = []
    by_short = {
        (leaves[0]["terminal"], short_of(check)): leaves for check, leaves in by_check.items()
    }
    for officer in officers:
        seen: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        for heard in officer.heard:
            if heard.channel != "result":
                continue
            short = heard.body["short"]
            leaves = by_short.get((officer.issi, short))
            if leaves is None:
                faults.append(f"I3 {short}: a result that this terminal never asked for")
                continue
            events = {leaf["event"] for leaf in leaves}
            if not events & CONCLUDING:
                faults.append(f"I5 {short}: a result without an outcome on record")
            end = next((leaf for leaf in leaves if leaf["event"] in CONCLUDING), None)
            if end is not None and end["outcome"] == "answered" and "disclosed" not in events:
                faults.append(f"I5 {short}: an answer without a disclosure on record")
            told = heard.body.get("outcome")
            if end is not None and told is not None and told != end["outcome"]:
                faults.append(f"I2 {short}: told {told}, on record {end['outcome']}")
            seen[short, heard.body.get("part", 0)].add(_without_age(heard.body))
        for (short, part), bodies in seen.items():
            if len(bodies) > 1:
                faults.append(f"I2 {short}/{part}: {len(bodies)} different results")
    return faults


def _without_age(body: dict[str, Any]) -> bytes:
    """A result as what it says: a repeat is allowed to say `AS AT` and nothing else besides."""
    kept = {key: value for key, value in body.items() if key not in {"pages", "text", "repeated"}}
    first = (body.get("pages") or [body.get("text", "")])[0]
    kept["first"] = first.splitlines()[0] if "pages" in body else first.split(" AS AT")[0]
    return json.dumps(kept, sort_keys=True).encode()


def _questions(queries: Sequence[dict[str, Any]], by_check: dict[str, list[Leaf]]) -> list[str]:
    """I6: no query without its record; I8: none for a refusal; I21: none after an outcome."""
    faults = []
    times: Counter[tuple[str, int]] = Counter()
    for query in queries:
        check, attempt = str(query["check"]), int(query["attempt"])
        times[check, attempt] += 1
        leaves = by_check.get(check, [])
        asked = [leaf["attempt"] for leaf in leaves if leaf["event"] == "asked"]
        if attempt not in asked:
            faults.append(f"I6 {short_of(check)}: attempt {attempt} has no record")
        if not any(leaf["event"] == "opened" for leaf in leaves):
            faults.append(f"I6 {short_of(check)}: asked without an opening on record")
    for (check, attempt), number in times.items():
        if number > 1:
            faults.append(
                f"I21 {short_of(check)}: attempt {attempt} reached the PNC {number} times"
            )
    for check, leaves in by_check.items():
        end = next((leaf.seq for leaf in leaves if leaf["event"] in CONCLUDING), None)
        late = [leaf.seq for leaf in leaves if leaf["event"] == "asked" and end and leaf.seq > end]
        if late:
            faults.append(f"I21 {short_of(check)}: asked again after its outcome")
    return faults


def _feed(console: Console, by_check: dict[str, list[Leaf]]) -> list[str]:
    """What the control room was shown is what stands on record; and its stream had no hole."""
    faults = []
    if console.holes:
        faults.append(f"W09 the stream had {console.holes} holes")
    ends = {
        short_of(check): leaf["outcome"]
        for check, leaves in by_check.items()
        for leaf in leaves
        if leaf["event"] in CONCLUDING
    }
    for event in console.of("check.done"):
        on_record = ends.get(event["ref"])
        if on_record is None:
            faults.append(f"C {event['ref']}: shown as done, no outcome on record")
        elif on_record != event["outcome"]:
            faults.append(f"C {event['ref']}: shown {event['outcome']}, on record {on_record}")
    return faults


def canaries(words: Iterable[str]) -> list[bytes]:
    """Each word as it may hide: plain, lower case, hex, base64 (three phases), URL, UTF-16."""
    found: list[bytes] = []
    for word in words:
        raw = word.encode()
        found += [raw, raw.lower(), raw.hex().encode(), raw.hex().upper().encode()]
        found += [word.encode("utf-16-le"), word.replace(" ", "%20").encode()]
        for pad in range(3):
            middle = base64.b64encode(b"\x00" * pad + raw)
            found.append(middle[4 * (pad > 0) : len(middle) // 4 * 4 - 4])
    return [each for each in dict.fromkeys(found) if len(each) >= 4]
