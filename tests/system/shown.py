"""C against A and T: what the control room was shown is what happened, without a hole.

I10 each position was sent and the newest stands, I11 markers do not go back, I20 what went wrong is
visible, W09 no event is missing; a call for help of a terminal reaches the page and the record.
"""

from __future__ import annotations

from tests.system.console import Console
from tests.system.evidence import Evidence, short_of

LATE_S = 1.0
"""I10: how much older than the newest accepted fix the picture may be."""
NEAR6 = 2
"""Millionths of a degree that a sentence of four decimals of a minute may cost."""


def faults(e: Evidence) -> list[str]:
    if e.console is None:
        return emergencies(e)
    return [*feed(e, e.console), *positions(e, e.console), *emergencies(e)]


def feed(e: Evidence, console: Console) -> list[str]:
    """Its stream had no hole, and no outcome was shown that is not on record."""
    found = []
    if console.holes:
        found.append(f"W09 the stream had {console.holes} holes")
    for event in console.of("check.done"):
        end = e.end_of(e.by_check.get(event["id"], []))
        if end is None:
            found.append(f"C {event['ref']}: shown as done, no outcome on record")
        elif end["outcome"] != event["outcome"]:
            found.append(f"C {event['ref']}: shown {event['outcome']}, on record {end['outcome']}")
    for check in {event["id"] for event in console.of("check.done")}:
        outcomes = {each["outcome"] for each in console.of("check.done") if each["id"] == check}
        if len(outcomes) > 1:
            found.append(f"I2 {short_of(check)}: {len(outcomes)} outcomes on the page")
    return found


def positions(e: Evidence, console: Console) -> list[str]:
    """I10, I11 within a picture, for terminals whose fixes are kept (officers.py: `fix`)."""
    found = []
    for officer in e.officers:
        callsign = e.callsigns.get(officer.issi, "")
        path = console.positions.get(callsign, [])
        if not officer.fixes:
            continue
        at, epoch = -1, 0
        for number, lat6, lon6 in path:
            if number != epoch:  # a restart's picture begins empty; the broker may say a fix again
                at, epoch = -1, number
            place = next(
                (n for n, (_, lat, lon) in enumerate(officer.fixes) if _near(lat, lat6, lon, lon6)),
                None,
            )
            if place is None:
                found.append(f"I10 {callsign}: a position that was never sent")
            elif place < at:
                found.append(f"I11 {callsign}: the marker went back")
            else:
                at = place
        sent_s, _, _ = officer.fixes[-1]
        if at < len(officer.fixes) - 1 and e.seen_at_s - sent_s > LATE_S:
            found.append(f"I10 {callsign}: the newest fix is not on the page")
    return found


def _near(lat: int, lat6: int, lon: int, lon6: int) -> bool:
    return abs(lat - lat6) <= NEAR6 and abs(lon - lon6) <= NEAR6


def emergencies(e: Evidence) -> list[str]:
    """A call for help that a broker took, or that a line carried to a living daemon, is on record
    and on the page."""
    found = []
    recorded = {leaf["terminal"] for leaf in e.leaves if leaf["event"] == "emergency"}
    for officer in e.officers:
        if not officer.emergencies:
            continue
        callsign = e.callsigns.get(officer.issi, "")
        if officer.issi not in recorded:
            found.append(f"EMG {callsign or officer.issi}: not on record")
        if e.console is not None and callsign and callsign not in e.console.emergencies:
            found.append(f"EMG {callsign}: not on the page")
    return found


def lives(e: Evidence, *, started: int, ready: int, stopped: int) -> list[str]:
    """I20, for kills: every life that was ready is on record, with its end where it had one."""
    found = []
    starts = sum(leaf["event"] == "started" for leaf in e.leaves)
    stops = sum(leaf["event"] == "stopped" for leaf in e.leaves)
    if not ready <= starts <= started:
        found.append(f"I20 {starts} starts on record, of {started} of which {ready} came to serve")
    if stops != stopped:
        found.append(f"I20 {stops} stops on record, of {stopped}")
    return found


def faults_seen(console: Console, links: list[str]) -> list[str]:
    """I20, for links: each that broke was shown down, and then up again."""
    found = []
    for link in links:
        states = [each["state"] for each in console.of("link") if each["id"] == link]
        if "down" not in states:
            found.append(f"I20 {link}: broke, and nobody was told")
        elif "up" not in states[states.index("down") :]:
            found.append(f"I20 {link}: its end was not told")
    return found
