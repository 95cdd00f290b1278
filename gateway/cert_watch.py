"""How long the certificates that we show still hold: a gauge always, a warning in time.

A certificate that ran out is a link that is down from its next connection on, without anything
having failed before. So ops are warned 30, 7 and 1 days ahead, as far as its life is longer than
that (one that is made for a week is not a warning for a month), and in the last third of a shorter
life; once each, and again after a restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from gateway.ports import Clock, Journal, Meter

EVERY_S = 3600.0
DAY_MS = 86_400_000
MARKS_D = (1, 7, 30)
GOOD = "good"


class Life(NamedTuple):
    """From when and until when, ms since the epoch."""

    not_before_ms: int
    not_after_ms: int


Read = Callable[[], Awaitable[Mapping[str, Life | None]]]
"""Every certificate by its name in the metric; None: cannot be read."""


def state(life: Life | None, now_ms: int) -> str:
    """`good`, or what is to be said of it."""
    if life is None:
        return "unreadable"
    if now_ms < life.not_before_ms:
        return "not yet valid"
    left_ms, whole_ms = life.not_after_ms - now_ms, life.not_after_ms - life.not_before_ms
    if left_ms <= 0:
        return "expired"
    # By a margin: one that is made for a month holds from a little before it was made.
    marks = [days for days in MARKS_D if days * DAY_MS < 0.9 * whole_ms]
    if not marks:
        return "last third" if left_ms * 3 <= whole_ms else GOOD
    due = [days for days in marks if left_ms <= days * DAY_MS]
    return f"{due[0]} d" if due else GOOD


class CertWatch:
    """Looks each hour, and when somebody says that files may have changed (`look`)."""

    def __init__(self, read: Read, *, clock: Clock, meter: Meter, journal: Journal) -> None:
        self._read = read
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        now_ms = self._clock.wall_ms()
        for name, life in (await self._read()).items():
            hours: int | None = None
            if life is not None:
                ends_s = life.not_after_ms / 1000
                self._meter.gauge("cert_expiry_timestamp_seconds", ends_s, cert=name)
                hours = (life.not_after_ms - now_ms) // 3_600_000
            now = state(life, now_ms)
            if now == self._said.get(name, GOOD):
                continue
            self._said[name] = now
            say = self._journal.note if now == GOOD else self._journal.warn
            say("cert.expiry", cert=name, state=now, hours=hours)
