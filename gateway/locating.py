"""Asking one unit where it is, for the control room: on record, then said once.

The answer is a fix like any other, sent by the radio itself: no officer is asked, and none is told.
So who asked whom is on record before a bearer gets it, and a radio that cannot be asked, or cannot
be reached, is said to be so at once: nobody waits for a marker that will not move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.errors import LedgerFatal, LedgerUnavailable
from gateway.limits import Bucket
from gateway.messages import Actor, Issi, Locate
from gateway.ports import Clock, Ledger, Link, Locates, Record
from gateway.roster import Roster

EVENT = "locate"
EVERY_S = 10.0
"""One radio is asked no more often: its answer takes as long on the air."""
PER_S, BURST = 1.0, 20.0
"""All of them together: they share a channel with the officers' questions."""
EXPIRES_S = 30.0
"""Later it is no question about now."""

NO_REACH = "THIS RADIO IS OUT OF REACH: CALL BY VOICE"
NO_WORD = "THIS RADIO CANNOT BE ASKED WHERE IT IS: CALL BY VOICE"
JUST_ASKED = "THIS RADIO WAS ASKED A MOMENT AGO: WAIT FOR ITS POSITION"
TOO_MANY = "TOO MANY RADIOS ARE BEING ASKED: WAIT A MOMENT"


class Says(Protocol):
    """What the desk needs of the Courier; desks never import each other."""

    def tell(self, terminal: Issi, message: Locate, *, expires_in_s: float) -> None: ...


class Locating:
    """link_for: the link over which a radio is reached now. fatal: told when the ledger says that
    what it wrote may not be durable."""

    def __init__(
        self,
        *,
        clock: Clock,
        ledger: Ledger,
        roster: Roster,
        courier: Says,
        link_for: Callable[[Issi], Link | None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._roster = roster
        self._courier = courier
        self._link_for = link_for
        self._fatal = fatal
        self._asked: dict[Issi, float] = {}
        """Within EVERY_S, and when."""
        self._all = Bucket(PER_S, BURST, BURST, clock.monotonic_s())

    async def ask(self, terminal: Issi, actor: Actor) -> int:
        """Put it on record, then on its way; the wall time of that. Nobody need hold the radio.

        Raises KeyError (no such radio), ValueError (why not, and what to do), LedgerUnavailable.
        """
        if self._roster.terminal(terminal) is None:
            raise KeyError(terminal)
        self._may(terminal)
        now_ms = self._clock.wall_ms()
        try:
            await self._ledger.commit([self._record(terminal, actor, now_ms)])
        except LedgerUnavailable:
            self._asked.pop(terminal, None)
            raise
        except LedgerFatal as error:
            self._fatal(error)
            raise LedgerUnavailable("the record may not be durable") from error
        self._courier.tell(terminal, Locate(), expires_in_s=EXPIRES_S)
        return now_ms

    def _may(self, terminal: Issi) -> None:
        """Raises ValueError; else it counts as asked."""
        link = self._link_for(terminal)
        if link is None:
            raise ValueError(NO_REACH)
        if not (isinstance(link, Locates) and link.locates(terminal)):
            raise ValueError(NO_WORD)
        now_s = self._clock.monotonic_s()
        self._asked = {issi: at_s for issi, at_s in self._asked.items() if now_s - at_s < EVERY_S}
        if terminal in self._asked:
            raise ValueError(JUST_ASKED)
        if not self._all.take(now_s):
            raise ValueError(TOO_MANY)
        self._asked[terminal] = now_s

    def _record(self, terminal: Issi, actor: Actor, now_ms: int) -> Record:
        held = self._roster.asker(terminal)
        return Record(
            event=EVENT,
            at_ms=now_ms,
            terminal=terminal,
            officer=held.officer if held is not None else "",
            agency=held.agency if held is not None else "",
            role=held.role if held is not None else "",
            booking=held.booking if held is not None else "",
            operator=actor.id,
            operator_role=",".join(sorted(actor.roles)),
            operation=EVENT,
            recipient=self._roster.holder(terminal),
        )
