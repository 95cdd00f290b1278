"""Sanity of a fix, the newest per terminal, and how old it is.

Rule 1: the marker shows the newest fix by fix time; an older one never moves it back.
Rule 2: no bad fix freezes a marker. A time in the future is refused, or, within tolerance, counted
as now; a jump is believed once RE_ANCHOR fixes in a row agree with it.
Rule 3: every rejection is counted by reason, and a fix that was never had is no position.
Rule 4: what lay stored somewhere until we asked is history: by its own time, never live, and it
holds no later fix off.
Sources: console design, 6 (age bands); reliability reference, M05.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from gateway.messages import Event, Issi, LocationFix, UnitFix
from gateway.ports import Meter
from gateway.roster import Roster
from gateway.settings import TrackingSection

Band = Literal["live", "aging", "stale", "lost", "none"]
BANDS: tuple[Band, ...] = ("live", "aging", "stale", "lost", "none")

RE_ANCHOR = 3
"""So many fixes in a row that agree with each other, and not with the marker, are believed."""
LOST_S = 900.0
"""A position is lost after 20 T or 15 minutes, whichever comes first (console design, 6)."""
JUMP_SLACK_M = 200.0
"""Two fixes closer than this are no jump, however close in time: receivers wander in streets."""
NULL_DEG = 0.001
"""Around 0/0, where receivers without a fix say they are (about 110 m)."""
MOVING_MPS = 1.0
DEFAULT_INTERVAL_S = 30.0
DAY_MS = 86_400_000
_EARTH_M = 6_371_000.0


class Verdict(msgspec.Struct, frozen=True):
    """What became of a fix.

    reason: empty when it moved the marker and was published, else one of FIX_REASONS.
    fix: also with reason `order`: it is a true position, only late, so the history may keep it.
    """

    fix: UnitFix | None
    reason: str = ""


class _Track:
    """What is remembered of one terminal: constant size."""

    __slots__ = ("at_receipt_s", "candidate", "candidates", "newest", "same", "stored")

    def __init__(self) -> None:
        self.newest: UnitFix | None = None
        self.at_receipt_s = 0.0
        """Age of the newest fix when it came."""
        self.candidate: UnitFix | None = None
        self.candidates = 0
        self.same = 0
        self.stored = False
        """The newest fix is history."""


class Tracker:
    """Judges each fix, keeps the newest per terminal of the roster, tells the bus."""

    def __init__(
        self,
        section: TrackingSection,
        roster: Roster,
        meter: Meter,
        publish: Callable[[Event], None],
    ) -> None:
        self._section = section
        self._roster = roster
        self._meter = meter
        self._publish = publish
        self._tracks: dict[Issi, _Track] = {}

    def fix(
        self,
        terminal: Issi,
        fix: LocationFix,
        received_at_ms: int,
        reference_ms: int,
        received_at_s: float = 0.0,
        *,
        stored: bool = False,
    ) -> Verdict:
        """Judge one fix; publish it if it is the newest true position of its terminal.

        reference_ms: what its time is judged against. When that is not received_at_ms the line
        replays a log: its times are judged to the day, and its age at receipt is taken as 0.
        received_at_s is not used here; the relay latency is the bus's to measure.
        stored: history. Newer than 2 T, it is taken to be just older, so never live: nobody says
        that its terminal is still there, and some stamp an old position with the time of sending.
        """
        del received_at_s
        self._meter.count("fixes_received_total", kind=fix.source.value)
        if self._roster.terminal(terminal) is None:
            # Links refuse unknown terminals; should one come through, nothing is kept of it.
            return self._rejected("range", None)
        replayed = reference_ms != received_at_ms
        fixed_at_ms = reference_ms if fix.fixed_at_ms is None else fix.fixed_at_ms
        reason = self._implausible(fix, fixed_at_ms, reference_ms, replayed)
        if reason:
            return self._rejected(reason, None)
        if not replayed:
            # A clock that runs ahead would hold every right fix off until its time has come.
            fixed_at_ms = min(fixed_at_ms, reference_ms)
        if stored:
            live_ms = math.ceil(2000 * self._interval_s(terminal))
            fixed_at_ms = min(fixed_at_ms, reference_ms - live_ms - 1)
        age_s = 0.0 if replayed else (reference_ms - fixed_at_ms) / 1000
        judged = UnitFix(
            terminal=terminal,
            lat=fix.lat,
            lon=fix.lon,
            fixed_at_ms=fixed_at_ms,
            received_at_ms=received_at_ms,
            accuracy_m=fix.accuracy_m,
            course_deg=fix.course_deg,
            speed_mps=fix.speed_mps,
            source=fix.source,
        )
        track = self._tracks.setdefault(terminal, _Track())
        own_time = fix.fixed_at_ms is not None
        reason = self._out_of_line(track, judged, own_time=own_time, stored=stored)
        if reason:
            return self._rejected(reason, judged if reason == "order" else None)
        if not stored:
            self._meter.observe("fix_age_at_receipt_seconds", age_s)
        track.newest, track.stored = judged, stored
        track.at_receipt_s = age_s
        track.candidate, track.candidates = None, 0
        self._publish(judged)
        return Verdict(judged)

    def _implausible(
        self, fix: LocationFix, fixed_at_ms: int, reference_ms: int, replayed: bool
    ) -> str:
        """What is wrong with it by itself."""
        if not (math.isfinite(fix.lat) and math.isfinite(fix.lon)):
            return "range"
        if abs(fix.lat) > 90 or abs(fix.lon) > 180:
            return "range"
        if abs(fix.lat) < NULL_DEG and abs(fix.lon) < NULL_DEG:
            return "null"
        # A log's reference is a date, so its times of day say nothing.
        slack_ms = DAY_MS if replayed else 0
        if fixed_at_ms > reference_ms + self._section.future_s * 1000 + slack_ms:
            return "future"
        if fixed_at_ms < reference_ms - self._section.oldest_s * 1000 - slack_ms:
            return "date"
        return ""

    def _out_of_line(self, track: _Track, fix: UnitFix, *, own_time: bool, stored: bool) -> str:
        """What is wrong with it after those before it."""
        newest = track.newest
        if newest is None:
            return ""
        earlier = fix.fixed_at_ms < newest.fixed_at_ms
        again = own_time and fix.fixed_at_ms == newest.fixed_at_ms
        if earlier or again:
            return "order"
        if track.stored:
            return ""
        if stored:
            return "" if self._plausible_step(newest, fix) else "jump"
        if self._stuck(track, newest, fix):
            return "stuck"
        if self._plausible_step(newest, fix):
            return ""
        agrees = track.candidate is not None and self._plausible_step(track.candidate, fix)
        track.candidates = track.candidates + 1 if agrees else 1
        track.candidate = fix
        return "" if track.candidates >= RE_ANCHOR else "jump"

    def _stuck(self, track: _Track, newest: UnitFix, fix: UnitFix) -> bool:
        """Alike to the last digit while the receiver claims to move."""
        moving = fix.speed_mps is not None and fix.speed_mps > MOVING_MPS
        alike = (fix.lat, fix.lon) == (newest.lat, newest.lon)
        track.same = track.same + 1 if moving and alike else 0
        return track.same >= self._section.stuck_fixes

    def _plausible_step(self, one: UnitFix, two: UnitFix) -> bool:
        if two.fixed_at_ms < one.fixed_at_ms:
            return False
        slack_m = JUMP_SLACK_M + (one.accuracy_m or 0.0) + (two.accuracy_m or 0.0)
        reach_m = self._section.max_speed_mps * (two.fixed_at_ms - one.fixed_at_ms) / 1000
        return distance_m(one.lat, one.lon, two.lat, two.lon) <= reach_m + slack_m

    def _rejected(self, reason: str, fix: UnitFix | None) -> Verdict:
        self._meter.count("fixes_rejected_total", reason=reason)
        return Verdict(fix, reason)

    # ------------------------------------------------------------------- what is known

    def newest(self) -> Mapping[Issi, UnitFix]:
        """The newest true position of every terminal that has one."""
        return {
            issi: track.newest for issi, track in self._tracks.items() if track.newest is not None
        }

    def newest_of(self, terminal: Issi) -> UnitFix | None:
        track = self._tracks.get(terminal)
        return track.newest if track else None

    def age(self, terminal: Issi, now_ms: int) -> float | None:
        """Seconds since the newest fix was taken; None when there is none (never 0)."""
        track = self._tracks.get(terminal)
        if track is None or track.newest is None:
            return None
        return max(0.0, (now_ms - track.newest.received_at_ms) / 1000) + track.at_receipt_s

    def place(
        self, terminal: Issi, now_ms: int, along: LocationFix | None = None
    ) -> tuple[float, float, float] | None:
        """Where this terminal is: latitude, longitude, and how many seconds old that is; None when
        that is lost or was never known. along: what came with a question; it counts by itself, for
        it is judged after those before it only once the question is on its way."""
        found: list[tuple[float, float, float]] = []
        if along is not None:
            fixed_at_ms = now_ms if along.fixed_at_ms is None else along.fixed_at_ms
            if not self._implausible(along, fixed_at_ms, now_ms, replayed=False):
                found.append((max(0.0, (now_ms - fixed_at_ms) / 1000), along.lat, along.lon))
        newest, age_s = self.newest_of(terminal), self.age(terminal, now_ms)
        if newest is not None and age_s is not None:
            found.append((age_s, newest.lat, newest.lon))
        if not found:
            return None
        age_s, lat, lon = min(found)
        return None if age_s > self._lost_s(terminal) else (lat, lon, age_s)

    def band(self, terminal: Issi, now_ms: int) -> Band:
        """How old, against the interval T of its device class (console design, 6)."""
        age_s = self.age(terminal, now_ms)
        if age_s is None:
            return "none"
        interval_s = self._interval_s(terminal)
        if age_s > self._lost_s(terminal):
            return "lost"
        if age_s <= 2 * interval_s:
            return "live"
        return "aging" if age_s <= self.stale_s(terminal) else "stale"

    def stale_s(self, terminal: Issi) -> float:
        """So old its position is stale."""
        return 4 * self._interval_s(terminal)

    def _lost_s(self, terminal: Issi) -> float:
        return min(20 * self._interval_s(terminal), LOST_S)

    def _interval_s(self, terminal: Issi) -> float:
        held = self._roster.terminal(terminal)
        if held is None:
            return DEFAULT_INTERVAL_S
        known = self._section.staleness_s.get(held.device_class)
        if known is not None:
            return known
        device = self._roster.fleet.device_classes.get(held.device_class)
        return device.aging_s if device else DEFAULT_INTERVAL_S

    def bands(self, now_ms: int) -> Counter[tuple[str, Band]]:
        """How many units of each area stand in each band; areas and bands without any are 0."""
        counts: Counter[tuple[str, Band]] = Counter(
            {(area, band): 0 for area in self._roster.areas for band in BANDS}
        )
        for held in self._roster.terminals():
            counts[held.area, self.band(held.issi, now_ms)] += 1
        return counts

    def set_back(self, by_ms: int, now_ms: int) -> None:
        """Our clock was set back by so much and shows now_ms: what was taken by it before is told
        anew in the time that holds now. Else a position would pass for fresh, and hold every later
        one off, until the clock is where it was (H08)."""
        for track in self._tracks.values():
            newest = track.newest
            if newest is None or newest.received_at_ms <= now_ms:
                continue
            received_at_ms = min(newest.received_at_ms - by_ms, now_ms)
            ours = newest.fixed_at_ms == newest.received_at_ms
            fixed_at_ms = newest.fixed_at_ms - by_ms if ours else newest.fixed_at_ms
            track.newest = msgspec.structs.replace(
                newest,
                received_at_ms=received_at_ms,
                fixed_at_ms=min(fixed_at_ms, received_at_ms),
            )
            if track.at_receipt_s:
                track.at_receipt_s = (received_at_ms - track.newest.fixed_at_ms) / 1000
            track.candidate, track.candidates = None, 0
            self._publish(track.newest)

    def forget(self, terminal: Issi) -> None:
        """It left the fleet."""
        self._tracks.pop(terminal, None)


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in metres (haversine on a sphere; 0.5 % is enough for sanity)."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_phi, half_lambda = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    h = math.sin(half_phi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lambda) ** 2
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(h)))
