"""What there is now, of everybody, looked up at the moment: for relays (gateway.ports.Present)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gateway.alarms import AlarmDesk
from gateway.messages import AlarmChanged, Issi, UnitFix, UnitMeta
from gateway.ports import Clock
from gateway.roster import Roster
from gateway.tracking import Tracker


class PresentState:
    """Nothing of it is kept here: what was said a moment ago may no longer be so."""

    def __init__(
        self, *, clock: Clock, roster: Callable[[], Roster], tracker: Tracker, alarms: AlarmDesk
    ) -> None:
        self._clock = clock
        self._roster = roster
        self._tracker = tracker
        self._alarms = alarms

    def terminals(self) -> Iterable[Issi]:
        return [terminal.issi for terminal in self._roster().terminals()]

    def meta(self, terminal: Issi) -> UnitMeta | None:
        return self._roster().meta(terminal, self._clock.wall_ms())

    def fix(self, terminal: Issi) -> UnitFix | None:
        return self._tracker.newest_of(terminal)

    def stale_s(self, terminal: Issi) -> float:
        return self._tracker.stale_s(terminal)

    def alarms(self) -> Sequence[AlarmChanged]:
        return self._alarms.open()
