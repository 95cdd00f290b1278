"""Who holds which terminal, and over which link it was last heard.

Holders come from the fleet file until booking on and off arrives. What waits for an officer is
addressed to `holder`, not to the radio (architecture, decision 13).
"""

from __future__ import annotations

import msgspec

from gateway.messages import Issi, UnitMeta
from gateway.rulebook import Fleet, Terminal

ON_DUTY = "AVL"
"""Until an officer says otherwise: the fleet file says who is on duty."""


class RosterChange(msgspec.Struct, frozen=True):
    """What another fleet file changed. Each terminal stands in at most one of the three."""

    added: tuple[Issi, ...] = ()
    removed: tuple[Issi, ...] = ()
    reassigned: tuple[Issi, ...] = ()


def holder_of(terminal: Terminal) -> str:
    """Who holds this terminal, as the fleet file had it: `Roster.holder` of that moment."""
    if not terminal.officer:
        return ""
    return f"{terminal.agency}:{terminal.officer}@{terminal.issi}"


class Roster:
    """The fleet in memory. Bounded by the fleet file: a terminal that is not in it is not kept."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._terminals = {each.issi: each for each in fleet.terminals}
        self._heard: dict[Issi, dict[str, float]] = {}
        self._status: dict[Issi, str] = {}
        self._links: dict[str, float] = {}

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    def terminal(self, issi: Issi) -> Terminal | None:
        return self._terminals.get(issi)

    def terminals(self) -> tuple[Terminal, ...]:
        """In the order of the fleet file."""
        return tuple(self._terminals.values())

    def holder(self, issi: Issi) -> str:
        """Who holds it now: agency, collar and radio. Empty when nobody does.

        The same text as long as the same officer holds the same radio. Identifies a person: for
        the ledger, never for logs or labels.
        """
        terminal = self._terminals.get(issi)
        return holder_of(terminal) if terminal is not None else ""

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

    def status(self, issi: Issi, code: int) -> None:
        """The officer sent a pre-coded status; one that the fleet file does not know is ignored."""
        shown = self._fleet.statuses.get(str(code))
        if shown is not None and issi in self._terminals:
            self._status[issi] = shown

    def replace(self, fleet: Fleet) -> RosterChange:
        """Take over another fleet file; what was heard of terminals that stay is kept."""
        before = {issi: self.holder(issi) for issi in self._terminals}
        self._fleet = fleet
        self._terminals = {each.issi: each for each in fleet.terminals}
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
            callsign=terminal.callsign,
            agency=terminal.agency,
            area=terminal.area,
            device_class=terminal.device_class,
            status=self._status.get(issi, ON_DUTY),
            t_ms=now_ms,
        )

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
