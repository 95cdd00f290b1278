"""Watches the hits that nobody has read and lets them climb (escalation.py), over restarts, too.

A tap on the bus, and a look once a second. What must outlive a restart is kept by the ledger: which
hit, and since when. An answer that was delivered and not read is no open check any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from gateway import escalation
from gateway.alarm_life import About
from gateway.errors import LedgerUnavailable
from gateway.escalation import Unread
from gateway.messages import CheckDelivery, CheckDone, CheckStaged, Event, Issi
from gateway.ports import Change, DropKept, Journal, KeptRow, Ledger, PutKept

KIND = "hit"
CAUSE = "hit_unread"
MOST = 4096
"""Hits that are watched; more than any gateway has unread."""


class Alarms(Protocol):
    """The alarm desk, as far as this goes."""

    def cause(self, cause: str, about: About, *, on: bool) -> None: ...

    def is_on(self, cause: str, subject: str) -> bool: ...

    def limit_s(self, cause: str) -> float | None: ...


class HitWatch:
    """again: send it to its officer once more. again_s: when. stale_s: so long it is watched."""

    def __init__(
        self,
        *,
        alarms: Alarms,
        ledger: Ledger,
        journal: Journal,
        again: Callable[[str], None],
        again_s: float,
        stale_s: float,
    ) -> None:
        self._alarms = alarms
        self._ledger = ledger
        self._journal = journal
        self._again = again
        self._again_s = again_s
        self._stale_s = stale_s
        self._unread: dict[str, Unread] = {}
        self._unwritten: dict[str, Unread | None] = {}
        """What the ledger does not know yet; None: that it is over."""

    # ----------------------------------------------------------------- what happens

    def seen(self, event: Event) -> None:
        if isinstance(event, CheckDone):
            unread = escalation.begun(event)
            if unread is not None:
                self._set(unread)
        elif isinstance(event, CheckStaged | CheckDelivery):
            known = self._unread.get(event.check)
            if known is not None:
                after = escalation.step(known, event)
                if after is None:
                    self._over(known)
                elif after is not known:
                    self._set(after)

    def in_slot(self, check: str, begins_ms: int) -> None:
        """Its terminal is not sent it before then."""
        known = self._unread.get(check)
        if known is not None:
            self._set(escalation.put_off(known, begins_ms))

    def tick(self, _now_s: float, now_ms: int) -> None:
        operator_s = self._alarms.limit_s(CAUSE)
        for unread in list(self._unread.values()):
            if unread.since_ms is not None and now_ms - unread.since_ms > self._stale_s * 1000:
                self._over(unread)
                continue
            # What other alarms tell of already is told once.
            told = any(self._alarms.is_on(each, unread.check) for each in ("undelivered", "unread"))
            after, due = escalation.due(
                unread,
                now_ms,
                again_s=self._again_s,
                operator_s=None if told else operator_s,
            )
            if after is not unread:
                self._set(after)
            if due.again:
                self._again(unread.check)
            if due.operator:
                self._alarms.cause(CAUSE, _about(unread), on=True)

    def _set(self, unread: Unread) -> None:
        self._unread[unread.check] = self._unwritten[unread.check] = unread
        if len(self._unread) > MOST:
            self._over(next(iter(self._unread.values())))

    def _over(self, unread: Unread) -> None:
        self._unread.pop(unread.check, None)
        self._unwritten[unread.check] = None
        self._alarms.cause(CAUSE, _about(unread), on=False)

    # ----------------------------------------------------------------- over a restart

    async def restore(self, held: Iterable[str]) -> None:
        """Take up what was unread. held: the checks that an operator has not let go yet."""
        waiting = set(held)
        for row in await self._ledger.kept(KIND):
            try:
                unread = msgspec.json.decode(row.body, type=Unread)
            except msgspec.DecodeError:
                self._journal.warn("check.unreadable", check=row.id)
                self._unwritten[row.id] = None
                continue
            if unread.check in waiting:
                unread = msgspec.structs.replace(unread, since_ms=None)
            self._unread[row.id] = unread
            if unread.raised:
                self._alarms.cause(CAUSE, _about(unread), on=True)

    @property
    def unrecorded(self) -> int:
        return len(self._unwritten)

    async def record(self) -> None:
        """Keep what changed. Raises LedgerFatal."""
        writing = dict(self._unwritten)
        try:
            await self._ledger.commit([], [_change(each, of) for each, of in writing.items()])
        except LedgerUnavailable:
            return
        for check, unread in writing.items():
            if self._unwritten.get(check, unread) == unread:
                self._unwritten.pop(check, None)


def _change(check: str, unread: Unread | None) -> Change:
    if unread is None:
        return DropKept(KIND, check)
    return PutKept(
        KeptRow(kind=KIND, id=check, at_ms=unread.since_ms or 0, body=msgspec.json.encode(unread))
    )


def _about(unread: Unread) -> About:
    terminal: Issi = unread.terminal
    return About(terminal=terminal, check=unread.check, short=unread.short)
