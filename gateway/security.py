"""What somebody may be doing to us on purpose: counted each time, told and recorded once.

An attacker chooses how often something happens, so what it costs us must not depend on that: one
line for ops, one alarm and one audit record when it begins, one line with the count when it is
over. An episode is one cause at one link by one terminal of ours; whoever is none of ours, or came
when too many were open, is counted under the link alone.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import msgspec

from gateway.errors import LedgerUnavailable
from gateway.messages import Issi, Suspicion
from gateway.ports import Clock, Journal, Ledger, Meter, Record

ISSI = re.compile(r"[0-9]{1,8}")
QUIET_S = 60.0
EPISODES_MOST = 1024
PENDING_MOST = 1024
"""Records that wait for a ledger that is away; one more is dropped and counted."""
AT_ONCE = 64


REJECTED = frozenset(
    {Suspicion.UNKNOWN_TERMINAL, Suspicion.IDENTITY, Suspicion.TAKEOVER, Suspicion.BOOKING}
)
"""Strangers, false names and wrong factors. Of these it matters how many there are: a terminal of
ours that floods or sends what is too large is one episode, however often."""


class _Episode(msgspec.Struct):
    at_s: float
    count: int = 1


class SecurityWatch:
    """known: is this terminal one of ours. begun, over: told the link, for its alarm; many: told
    the link where more than `often` were rejected in so many seconds."""

    def __init__(
        self,
        *,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        ledger: Ledger,
        known: Callable[[Issi], bool],
        begun: Callable[[str], None],
        over: Callable[[str], None],
        often: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
        many: Callable[[str], None] = lambda _link: None,
    ) -> None:
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._ledger = ledger
        self._known = known
        self._begun = begun
        self._over = over
        self._often = often
        self._many = many
        self._rejected: dict[str, deque[float]] = {}
        self._told_many: set[str] = set()
        self._open: dict[tuple[str, Suspicion, Issi], _Episode] = {}
        self._pending: deque[Record] = deque()

    def seen(self, cause: Suspicion, link: str, terminal: Issi = "") -> None:
        """It happened (again). Never waits, never raises; constant work."""
        self._meter.count("security_events_total", link=link, reason=cause.value)
        now_s = self._clock.monotonic_s()
        key = (link, cause, terminal if self._known(terminal) else "")
        episode = self._open.get(key)
        if episode is None and len(self._open) >= EPISODES_MOST:
            key = (link, cause, "")
            episode = self._open.get(key)
        if episode is not None:
            episode.at_s, episode.count = now_s, episode.count + 1
            self._tally(cause, link, now_s)
            return
        self._open[key] = _Episode(now_s)
        self._journal.warn("security", reason=cause.value, link=link)
        self._begun(link)
        self._tally(cause, link, now_s)
        if len(self._pending) >= PENDING_MOST:
            self._meter.count("queue_dropped_total", queue="audit", reason="full")
            return
        self._pending.append(
            Record(
                event="security",
                at_ms=self._clock.wall_ms(),
                # Of a stranger what it says it is: to be looked for, not to be believed.
                terminal=terminal if ISSI.fullmatch(terminal) else "",
                detail=f"{cause.value} on {link}",
            )
        )

    def _tally(self, cause: Suspicion, link: str, now_s: float) -> None:
        """So often lately? Once an episode of the link it is told."""
        if cause not in REJECTED or link in self._told_many:
            return
        often, within_s = self._often()
        if not often:
            return
        times = self._rejected.setdefault(link, deque())
        times.append(now_s)
        while len(times) > often + 1 or now_s - times[0] > within_s:
            times.popleft()
        if len(times) > often:
            self._told_many.add(link)
            self._many(link)

    def tick(self, now_s: float, _now_ms: int) -> None:
        """Once a second: episodes in which nothing more happened are over."""
        ended = [key for key, each in self._open.items() if now_s - each.at_s >= QUIET_S]
        for key in ended:
            link, cause, _ = key
            count = self._open.pop(key).count
            self._journal.note("security", reason=cause.value, link=link, state="over", count=count)
        for link in {key[0] for key in ended} - {key[0] for key in self._open}:
            self._told_many.discard(link)
            self._rejected.pop(link, None)
            self._over(link)

    @property
    def unrecorded(self) -> int:
        """Records that wait for the ledger."""
        return len(self._pending)

    async def record(self) -> None:
        """Write what waits; what cannot be written now waits on. Raises LedgerFatal."""
        while self._pending:
            batch = [self._pending[n] for n in range(min(AT_ONCE, len(self._pending)))]
            try:
                await self._ledger.commit(batch)
            except LedgerUnavailable:
                return
            for _ in batch:
                self._pending.popleft()
