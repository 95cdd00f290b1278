"""Who holds which terminal, and over which link it was last heard.

A radio (Terminal) is not a person: whoever may be answered over it is its Asker, and without a
booking there is none. What waits for an officer is addressed to `holder`, not to the radio
(architecture, decision 13).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.messages import Asker, Issi, UnitMeta, Value
from gateway.rulebook import Areas, Fleet, Officer, People, StatusWord, Terminal

ON_DUTY = "AVL"
"""Until an officer says otherwise."""
OFF_DUTY = "OFF"

STANDING = "standing"
"""The booking of a radio of personal issue."""

_NO_WORD = StatusWord()


class RosterChange(msgspec.Struct, frozen=True):
    """What other files changed. Each terminal stands in at most one of the three."""

    added: tuple[Issi, ...] = ()
    removed: tuple[Issi, ...] = ()
    reassigned: tuple[Issi, ...] = ()


class Booking(Value, frozen=True, kw_only=True):
    """Whose a radio is. officers: collars of all aboard, whoever leads first; nobody when it was
    left, and then not even its standing holder has it.

    until_s: as until_ms, on the monotonic clock of `counter`: a wall clock that is set back
    prolongs nothing. sent_at_ms: the radio's own time of the newest word about it. last: who led it
    last.
    """

    id: str
    terminal: Issi
    officers: tuple[str, ...]
    since_ms: int
    until_ms: int
    until_s: float
    counter: str = ""
    callsign: str = ""
    sent_at_ms: int | None = None
    last: str = ""

    @property
    def lead(self) -> str:
        """Empty when it was left."""
        return self.officers[0] if self.officers else ""


def holder_of(asker: Asker) -> str:
    """Who held the radio when they asked: `Roster.holder` of that moment."""
    if not asker.officer:
        return ""
    return f"{asker.agency}:{asker.officer}@{asker.issi}"


def _asker(terminal: Terminal, officer: Officer, booking: Booking | None) -> Asker:
    return Asker(
        issi=terminal.issi,
        callsign=(booking and booking.callsign) or terminal.callsign,
        officer=officer.collar,
        surname=officer.surname,
        rank=officer.rank,
        agency=officer.agency,
        role=officer.role,
        area=terminal.area,
        device_class=terminal.device_class,
        booking=booking.id if booking is not None else STANDING,
        crew=booking.officers[1:] if booking is not None else (),
        accredited_until=officer.accredited_until,
    )


class Roster:
    """Radios and people in memory. Bounded by their files: who is in none is not kept."""

    def __init__(self, fleet: Fleet, people: People, areas: Areas) -> None:
        self._fleet = fleet
        self._areas = areas
        self._terminals: dict[Issi, Terminal] = {}
        self._revoked: dict[Issi, Terminal] = {}
        self._called: dict[tuple[str, str], Issi] = {}
        self._officers: dict[str, Officer] = {}
        self._standing: dict[Issi, str] = {}
        self._bookings: dict[Issi, Booking] = {}
        self._askers: dict[Issi, Asker] = {}
        self._holders: dict[Issi, str] = {}
        self._heard: dict[Issi, dict[str, float]] = {}
        self._status: dict[Issi, str] = {}
        self._links: dict[str, float] = {}
        self.lone: Callable[[Issi], bool] = lambda _issi: False
        """Whether whoever holds it is alone (lone_worker.py)."""
        self._take(fleet, people, areas)

    def _take(self, fleet: Fleet, people: People, areas: Areas) -> None:
        self._fleet, self._areas = fleet, areas
        self._terminals = {each.issi: each for each in fleet.terminals if not each.revoked}
        self._revoked = {each.issi: each for each in fleet.terminals if each.revoked}
        self._called = {
            called: each.issi for each in fleet.terminals for called in each.names.items()
        }
        self._officers = {each.collar: each for each in people.officers if not each.revoked}
        self._standing = {each.terminal: each.officer for each in people.standing}
        made = ((issi, self._asker_now(issi)) for issi in self._terminals)
        self._askers = {issi: asker for issi, asker in made if asker is not None}
        self._holders = {issi: holder_of(asker) for issi, asker in self._askers.items()}

    def _asker_now(self, issi: Issi) -> Asker | None:
        """Whoever leads it, if every one aboard may still carry a radio."""
        booking = self._bookings.get(issi)
        aboard = booking.officers if booking is not None else (self._standing.get(issi, ""),)
        if not aboard or any(each not in self._officers for each in aboard):
            return None
        return _asker(self._terminals[issi], self._officers[aboard[0]], booking)

    def book(self, booking: Booking | None, issi: Issi) -> None:
        """Whose this radio is from now on; None: as its file says. Unknown radios are not kept."""
        was = self.holder(issi)
        if booking is None:
            self._bookings.pop(issi, None)
        elif issi in self._terminals:
            self._bookings[issi] = booking
        if issi not in self._terminals:
            return
        asker = self._asker_now(issi)
        if asker is None:
            self._askers.pop(issi, None)
            self._holders.pop(issi, None)
        else:
            self._askers[issi], self._holders[issi] = asker, holder_of(asker)
        if self.holder(issi) != was:
            # What the former one did says nothing of this one.
            self._status.pop(issi, None)

    def booked(self) -> tuple[Booking, ...]:
        """Every booking that somebody made, and what was left."""
        return tuple(self._bookings.values())

    def last_booking(self, issi: Issi) -> Booking | None:
        """What somebody made or left here; None for a radio of which only its file speaks."""
        return self._bookings.get(issi)

    def aboard(self, issi: Issi) -> tuple[str, ...]:
        """Collars of all who hold it now, whoever leads first."""
        asker = self._askers.get(issi)
        return (asker.officer, *asker.crew) if asker is not None else ()

    def callsign(self, issi: Issi) -> str:
        """As its holder wants it called, else as the fleet file does; empty for a stranger."""
        asker, terminal = self._askers.get(issi), self._terminals.get(issi)
        if asker is not None:
            return asker.callsign
        return terminal.callsign if terminal is not None else ""

    def standing(self, issi: Issi) -> str:
        """Collar of whom the file gives it; empty for nobody."""
        return self._standing.get(issi, "")

    def radios_of(self, collar: str) -> tuple[Issi, ...]:
        """The radios that this officer is aboard of, leading or not."""
        return tuple(
            issi
            for issi, asker in self._askers.items()
            if collar == asker.officer or collar in asker.crew
        )

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    @property
    def areas(self) -> tuple[str, ...]:
        """The posting areas."""
        return self._areas.areas

    def terminal(self, issi: Issi) -> Terminal | None:
        """The radio; None when it is not ours, or no more."""
        return self._terminals.get(issi)

    def named(self, unit: str) -> Issi:
        """The radio by its ISSI, or by a call-sign that it alone has. Raises KeyError."""
        if unit in self._terminals:
            return unit
        called = [each.issi for each in self.terminals() if self.callsign(each.issi) == unit]
        if len(called) != 1:
            raise KeyError(unit)
        return called[0]

    def called(self, protocol: str, name: str) -> Issi:
        """The radio that goes by this name in this protocol, revoked or not; empty for a stranger.
        Names are told apart by every letter, its case too."""
        return self._called.get((protocol, name), "")

    def revoked(self, issi: Issi) -> Terminal | None:
        """A radio of ours that is lost or stolen: its call for help is heard, and nothing else."""
        return self._revoked.get(issi)

    def may_call(self, issi: Issi) -> bool:
        """Whether anything of it is listened to."""
        return issi in self._terminals or issi in self._revoked

    def terminals(self) -> tuple[Terminal, ...]:
        """In the order of the fleet file."""
        return tuple(self._terminals.values())

    def officer(self, collar: str) -> Officer | None:
        """None when there is none, or who may carry no radio any more."""
        return self._officers.get(collar)

    def booking(self, issi: Issi) -> str:
        """The id of its booking; empty when nobody booked it."""
        asker = self._askers.get(issi)
        return asker.booking if asker is not None else ""

    def asker(self, issi: Issi) -> Asker | None:
        """Whoever holds this radio now; None when nobody does, and then nobody may be answered."""
        return self._askers.get(issi)

    def nobody(self, issi: Issi) -> Asker | None:
        """Who a question from a radio without a holder is put down to: the radio, no officer. None
        when the radio is not ours."""
        terminal = self._terminals.get(issi)
        if terminal is None:
            return None
        return Asker(
            issi=issi,
            callsign=terminal.callsign,
            officer="",
            surname="",
            agency=terminal.agency,
            role="",
            area=terminal.area,
            device_class=terminal.device_class,
        )

    def holder(self, issi: Issi) -> str:
        """Who holds it now: agency, collar and radio. Empty when nobody does.

        The same text as long as the same officer holds the same radio. Identifies a person: for
        the ledger, never for logs or labels.
        """
        return self._holders.get(issi, "")

    def heard(self, issi: Issi, link: str, at_s: float) -> None:
        """A frame came from it. Times that go back do not move it back."""
        if issi not in self._terminals:
            return
        self._links[link] = max(at_s, self._links.get(link, at_s))
        links = self._heard.setdefault(issi, {})
        links[link] = max(at_s, links.get(link, at_s))

    def link_of(self, issi: Issi) -> str:
        """The link over which it was heard last; empty when it was never heard."""
        links = self.links_of(issi)
        return links[0] if links else ""

    def links_of(self, issi: Issi) -> tuple[str, ...]:
        """Every link over which it was heard, the latest first."""
        links = self._heard.get(issi, {})
        if len(links) < 2:
            return tuple(links)
        return tuple(sorted(links, key=lambda link: links[link], reverse=True))

    def link_heard_at_s(self, link: str) -> float | None:
        """When any terminal of ours was heard over this link last, monotonic."""
        return self._links.get(link)

    def heard_at_s(self, issi: Issi) -> float | None:
        """When it was last heard with anything, monotonic. Silent because still is not gone."""
        return max(self._heard.get(issi, {}).values(), default=None)

    def word(self, code: int) -> StatusWord:
        """What the fleet file says of a pre-coded status; nothing of one that it does not know."""
        return self._fleet.statuses.get(str(code), _NO_WORD)

    def status(self, issi: Issi, code: int) -> None:
        """The officer sent a pre-coded status; one that shows nothing changes nothing."""
        shown = self.word(code).shown
        if shown and issi in self._terminals:
            self._status[issi] = shown

    def replace(self, fleet: Fleet, people: People, areas: Areas) -> RosterChange:
        """Take over other files; what was heard of terminals that stay is kept."""
        before = {issi: self.holder(issi) for issi in self._terminals}
        self._take(fleet, people, areas)
        self._heard = {issi: at for issi, at in self._heard.items() if issi in self._terminals}
        self._status = {
            issi: shown
            for issi, shown in self._status.items()
            if issi in self._terminals and self.holder(issi) == before[issi]
        }
        return RosterChange(
            added=tuple(issi for issi in self._terminals if issi not in before),
            removed=tuple(issi for issi in before if issi not in self._terminals),
            reassigned=tuple(
                issi
                for issi, was in before.items()
                if issi in self._terminals and self.holder(issi) != was
            ),
        )

    def meta(self, issi: Issi, now_ms: int) -> UnitMeta | None:
        """The terminal as the feed shows it, without the officer."""
        terminal = self._terminals.get(issi)
        if terminal is None:
            return None
        return UnitMeta(
            terminal=issi,
            callsign=self.callsign(issi),
            agency=terminal.agency,
            area=terminal.area,
            device_class=terminal.device_class,
            status=self._status.get(issi, self._unsaid(issi)),
            t_ms=now_ms,
            booked=bool(self.booking(issi)),
            lone=self.lone(issi),
        )

    def _unsaid(self, issi: Issi) -> str:
        """Its status while nobody has said any: who left it is off duty."""
        booking = self._bookings.get(issi)
        return OFF_DUTY if booking is not None and not booking.officers else ON_DUTY

    def metas(self, now_ms: int) -> tuple[UnitMeta, ...]:
        """Every terminal of the fleet, in its order."""
        made = (self.meta(issi, now_ms) for issi in self._terminals)
        return tuple(meta for meta in made if meta is not None)

    def gone(self, issi: Issi, now_ms: int) -> UnitMeta:
        """What the feed is told of a terminal that left the fleet: nothing but that."""
        return UnitMeta(
            terminal=issi,
            callsign="",
            agency="",
            area="",
            device_class="",
            status="OFF",
            t_ms=now_ms,
            gone=True,
        )
