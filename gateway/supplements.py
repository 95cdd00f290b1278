"""What a partial answer lacked, when it can be had: a check of its own that completes the first.

Rules of this module
1. One at most for each answer: that it waits and that it was asked change in one transaction each
   with the answer and with the question.
2. Only for the officer who read the first, in the same booking, for a while; then it is dropped, on
   record.
3. Nobody is asked about anybody while it waits: which sources reply is asked, without a subject.
4. It is sent whether or not anything changed: that it came must tell nothing of what it says. Nor
   may when it is asked tell whoever listens how long the PNC took over the first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from gateway import sources
from gateway.check_rows import Check
from gateway.check_views import below_l3
from gateway.errors import LedgerUnavailable, PncError
from gateway.messages import Asker, CheckRequest, Issi, Level, Outcome
from gateway.ports import Change, Clock, DropKept, KeptRow, Ledger, PutKept, Record
from gateway.roster import Roster, holder_of

KIND = "supplement"
LOOK_EVERY_S = 5.0
AFTER_DEADLINE_MS = 1000
"""By then what ended in its time was told, in the last of its slots."""
MOST = 1024
"""That wait; the oldest gives way."""
OTHER_BOOKING = "supplement not asked: the booking ended"
TOO_LATE = "supplement not asked: the source did not return in time"
TOO_MANY = "supplement not asked: too many wait"

Looks = Callable[[], Coroutine[Any, Any, frozenset[str]]]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What of it lies in the ledger. missing: sources that must all reply again."""

    parent: str
    asker: Asker
    request: CheckRequest
    missing: tuple[str, ...]
    register: bool
    """These are sources of the vehicle register."""
    not_before_ms: int = 0
    """Below L3: past every moment at which the first may have been told."""


class _Wait:
    """not_before_s, until_s: monotonic. asked: its question is being written."""

    __slots__ = ("asked", "not_before_s", "of", "until_s")

    def __init__(self, of: Waiting, not_before_s: float, until_s: float) -> None:
        self.of = of
        self.not_before_s = not_before_s
        self.until_s = until_s
        self.asked = False


class Checks(Protocol):
    """The CheckDesk, as far as this goes; desks never import each other."""

    def supplement(
        self,
        asker: Asker,
        request: CheckRequest,
        settle: Callable[[], None],
        *,
        parent: str,
        dedupe: str,
    ) -> None: ...

    def asked(self, dedupe: str) -> Check | None: ...

    def supplementing(self) -> int: ...

    def takes(self, *, register: bool) -> int: ...


class Supplements:
    """Minded. pnc, register: which of their sources reply now. start: runs one look at a time."""

    def __init__(
        self,
        *,
        checks: Checks,
        roster: Roster,
        clock: Clock,
        ledger: Ledger,
        pnc: Looks,
        register: Looks | None,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        policy: Callable[[], str],
        within_s: float,
        at_once: int,
    ) -> None:
        self._checks = checks
        self._roster = roster
        self._clock = clock
        self._ledger = ledger
        self._pnc = pnc
        self._register = register
        self._start = start
        self._policy = policy
        self._within_s = within_s
        self._at_once = at_once
        self._waiting: OrderedDict[str, _Wait] = OrderedDict()
        self._dropped: OrderedDict[str, Record] = OrderedDict()
        self._looked_at_s = -LOOK_EVERY_S

    # ----------------------------------------------------------------- what waits

    def kept(self, check: Check) -> tuple[list[Change], Callable[[], None]]:
        """To be written with this outcome, and called once that is durable."""
        waiting = self._of(check)
        if waiting is None:
            return [], _nothing
        now_ms = self._clock.wall_ms()
        row = KeptRow(
            kind=KIND,
            id=check.id,
            at_ms=now_ms,
            body=msgspec.json.encode(waiting),
            until_ms=now_ms + round(self._within_s * 1000),
            personal=True,
        )
        return [PutKept(row)], lambda: self._wait(waiting, self._within_s)

    def _of(self, check: Check) -> Waiting | None:
        """What its officer was told to be missing; below L2 nobody is told, and nothing follows."""
        result, request = check.result, check.request
        if result is None or request is None or check.parent or check.state.quiet:
            return None
        told = result.outcome is Outcome.ANSWERED and result.level >= Level.L2.value
        if not told or not result.not_checked or not check.asker.officer:
            return None
        missing = tuple(name.upper() for name in result.not_checked)
        of_register = check.plan.register and set(missing) <= set(sources.REGISTER_SOURCES)
        if of_register and self._register is None:
            return None
        # What was answered is not asked again: of the register's part, the register alone.
        again = msgspec.structs.replace(
            request,
            ref="",
            typed="",
            sent_at_ms=None,
            scope=sources.STATUS if of_register else request.scope,
        )
        return Waiting(
            parent=check.id,
            asker=check.asker,
            request=again,
            missing=missing,
            register=of_register,
            not_before_ms=check.deadline_ms + AFTER_DEADLINE_MS if below_l3(check) else 0,
        )

    def _wait(self, waiting: Waiting, left_s: float) -> None:
        now_s = self._clock.monotonic_s()
        begins_s = max(0.0, (waiting.not_before_ms - self._clock.wall_ms()) / 1000)
        wait = _Wait(waiting, now_s + min(begins_s, left_s), now_s + left_s)
        self._waiting[waiting.parent] = wait
        while len(self._waiting) > MOST:
            self._drop(next(iter(self._waiting)), TOO_MANY)

    async def restore(self) -> None:
        """What waited before the restart, for as long as it had left."""
        now_ms = self._clock.wall_ms()
        for row in await self._ledger.kept(KIND):
            try:
                waiting = msgspec.json.decode(row.body, type=Waiting)
            except msgspec.DecodeError:
                self._dropped[row.id] = self._record(row.id, None, TOO_LATE)
                continue
            left_s = ((row.until_ms or 0) - now_ms) / 1000
            # A clock that was set back never makes it longer.
            self._wait(waiting, max(0.0, min(left_s, self._within_s)))

    # ----------------------------------------------------------------- minded

    def tick(self, now_s: float, now_ms: int) -> None:
        """Whose time or booking is over goes; while something waits, look who replies."""
        del now_ms
        for parent, wait in list(self._waiting.items()):
            if wait.asked:
                continue
            if self._asker(wait.of) is None:
                self._drop(parent, OTHER_BOOKING)
            elif now_s >= wait.until_s:
                self._drop(parent, TOO_LATE)
        due = any(now_s >= wait.not_before_s for wait in self._waiting.values())
        if due and now_s - self._looked_at_s >= LOOK_EVERY_S:
            self._looked_at_s = now_s
            self._start(self._look)

    def _asker(self, waiting: Waiting) -> Asker | None:
        """Who holds the radio now, if it is still whoever read the first answer."""
        now = self._roster.asker(waiting.asker.issi)
        if now is None or holder_of(now) != holder_of(waiting.asker):
            return None
        return now if now.booking == waiting.asker.booking else None

    async def _look(self) -> None:
        """Ask who replies, once for all that wait, and ask the questions whose sources do."""
        here: dict[bool, frozenset[str]] = {}
        for register in {wait.of.register for wait in self._waiting.values()}:
            looks = self._register if register else self._pnc
            try:
                here[register] = await looks() if looks is not None else frozenset()
            except PncError:
                here[register] = frozenset()
        room = {register: self._checks.takes(register=register) for register in here}
        for wait in list(self._waiting.values()):
            register = wait.of.register
            if self._checks.supplementing() >= self._at_once:
                return
            due = not wait.asked and self._clock.monotonic_s() >= wait.not_before_s
            if not due or not room.get(register) or not set(wait.of.missing) <= here[register]:
                continue
            room[register] -= 1
            self._ask(wait)

    def _ask(self, wait: _Wait) -> None:
        waiting, dedupe = wait.of, f"{KIND}:{wait.of.parent}"
        asker = self._asker(waiting)
        if asker is None or self._clock.monotonic_s() >= wait.until_s:
            return  # the next tick drops it

        def settle() -> None:
            wait.asked = False
            # Not in memory: it could not be put on record, and is asked at the next look.
            if self._checks.asked(dedupe) is not None:
                self._waiting.pop(waiting.parent, None)

        wait.asked = True
        self._checks.supplement(
            asker, waiting.request, settle, parent=waiting.parent, dedupe=dedupe
        )

    # ----------------------------------------------------------------- what is dropped

    def _drop(self, parent: str, why: str) -> None:
        wait = self._waiting.pop(parent)
        self._dropped[parent] = self._record(parent, wait.of.asker, why)

    def _record(self, parent: str, asker: Asker | None, why: str) -> Record:
        terminal: Issi = asker.issi if asker is not None else ""
        return Record(
            event="stale",
            at_ms=self._clock.wall_ms(),
            terminal=terminal,
            officer=asker.officer if asker is not None else "",
            agency=asker.agency if asker is not None else "",
            booking=asker.booking if asker is not None else "",
            policy=self._policy(),
            parent=parent,
            detail=why,
        )

    @property
    def unrecorded(self) -> int:
        return len(self._dropped)

    async def record(self) -> None:
        """What was dropped. Raises LedgerFatal."""
        dropped = dict(self._dropped)
        if not dropped:
            return
        try:
            await self._ledger.commit(
                list(dropped.values()), [DropKept(KIND, parent) for parent in dropped]
            )
        except LedgerUnavailable:
            return
        for parent in dropped:
            self._dropped.pop(parent, None)


def _nothing() -> None:
    """Nothing waits."""
