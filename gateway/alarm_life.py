"""The life of one alarm occurrence: raised, acknowledged, put aside, closed; pure.

Rule 1: one open occurrence per cause; the cause again counts, it is not another alarm.
Rule 2: an emergency ends only by hand, by another person than the one who acknowledged it; that it
was pressed by mistake is noted and changes nothing of this.
Rule 3: what is priority 1 is never put aside or grouped.
Source: console design, 7.
"""

from __future__ import annotations

import msgspec

from gateway.alarm_rules import EMERGENCY, EVERYBODY, OPERATOR, AlarmRule
from gateway.messages import AlarmChanged, Issi

CLEARED = "cleared"
MISTAKE = "PRESSED BY MISTAKE"
UNNAMED = "SAY WHO YOU ARE"


class About(msgspec.Struct, frozen=True):
    """What an alarm is about. area: of the terminal, for whoever is responsible for it."""

    terminal: Issi = ""
    link: str = ""
    check: str = ""
    short: str = ""
    area: str = ""

    @property
    def subject(self) -> str:
        return self.check or self.terminal or self.link


class Raised(msgspec.Struct, frozen=True):
    """The cause is there (again). id: of the new occurrence, used only if none is open."""

    id: str
    about: About = About()
    group: str = ""


class Acknowledged(msgspec.Struct, frozen=True):
    by: str


class Closed(msgspec.Struct, frozen=True):
    by: str


class Mistaken(msgspec.Struct, frozen=True):
    """The officer says that it was pressed by mistake. by: who heard it."""

    by: str


class Shelved(msgspec.Struct, frozen=True):
    """Put aside until then. why: one of the rules' shelve_reasons."""

    by: str
    until_ms: int
    why: str


class Unshelved(msgspec.Struct, frozen=True):
    by: str


class Returned(msgspec.Struct, frozen=True):
    """Its time on the shelf is over."""


class Ceased(msgspec.Struct, frozen=True):
    """The cause is gone by itself (a link is back). An emergency never ceases by itself."""


class Escalated(msgspec.Struct, frozen=True):
    """Nobody acknowledged it in time."""


class Folded(msgspec.Struct, frozen=True):
    """Another alarm stands for its cause and counts it."""


class Counted(msgspec.Struct, frozen=True):
    """It stands for one cause more."""


class Chattered(msgspec.Struct, frozen=True):
    """It comes and goes: so many raisings; 0 when it is calm."""

    raisings: int


class Worsened(msgspec.Struct, frozen=True):
    """It is more urgent than it was when it was raised."""

    priority: int


class Grouped(msgspec.Struct, frozen=True):
    """Shown as one with others of its group, and silent; "" by itself again."""

    group: str


class Stood(msgspec.Struct, frozen=True):
    """It is open for so long that somebody should ask why."""


Act = Acknowledged | Closed | Mistaken | Shelved | Unshelved
LifeEvent = (
    Act
    | Raised
    | Returned
    | Ceased
    | Escalated
    | Folded
    | Counted
    | Chattered
    | Worsened
    | Grouped
    | Stood
)


class Show(msgspec.Struct, frozen=True):
    """Put the alarm on the bus. emergency: also tell that it begins (True) or ends (False)."""

    emergency: bool | None = None


class Write(msgspec.Struct, frozen=True):
    """Put it on record. what: raised, repeated, acknowledged, closed, mistake, shelved, unshelved,
    returned, ceased, escalated, worsened, folded, standing; stands (an act on it may be on record,
    though its operator was told that it could not be)."""

    what: str
    by: str = ""


class Refuse(msgspec.Struct, frozen=True):
    """Nothing happens. why: for the operator."""

    why: str


Effect = Show | Write | Refuse
Stepped = tuple[AlarmChanged | None, tuple[Effect, ...]]


def step(alarm: AlarmChanged | None, event: LifeEvent, rule: AlarmRule, now_ms: int) -> Stepped:
    """What the alarm is after this event, and what is to be done. Pure; every event is answered."""
    if isinstance(event, Raised):
        return _raised(alarm, event, rule, now_ms)
    if alarm is None or alarm.state == CLEARED:
        return alarm, (Refuse("ALREADY CLOSED"),)
    match event:
        case Acknowledged(by=by):
            return _acknowledged(alarm, by, now_ms)
        case Closed(by=by):
            return _closed(alarm, by, now_ms)
        case Mistaken(by=by):
            return _mistaken(alarm, by, now_ms)
        case Shelved() | Unshelved() | Returned():
            return _shelf(alarm, event, rule, now_ms)
        case Ceased() | Folded():
            return _ended(alarm, event, rule, now_ms)
        case Escalated():
            # What is the supervisors' alone never becomes the operators' by waiting.
            if alarm.state != "unack-active" or alarm.audience != OPERATOR:
                return alarm, (Refuse("NOT OVERDUE"),)
            return _changed(alarm, now_ms, audience=EVERYBODY), (Show(), Write("escalated"))
        case Counted():
            return _changed(alarm, now_ms, count=alarm.count + 1), (Show(),)
        case Chattered(raisings=raisings):
            return _changed(alarm, now_ms, chatter=raisings), (Show(),)
        case Worsened(priority=priority):
            if alarm.priority <= max(2, priority):
                return alarm, (Refuse("URGENT ALREADY"),)
            # In a flood, too, it stands by itself from now on.
            return _changed(alarm, now_ms, priority=priority, group=""), (Show(), Write("worsened"))
        case Grouped(group=group):
            if alarm.priority == 1 or alarm.group == group:
                return alarm, (Refuse("STANDS BY ITSELF"),)
            return _changed(alarm, now_ms, group=group), (Show(),)
        case Stood():
            return alarm, (Write("standing"),)


def _changed(alarm: AlarmChanged, now_ms: int, **changes: object) -> AlarmChanged:
    after: AlarmChanged = msgspec.structs.replace(alarm, t_ms=now_ms, **changes)
    return after


def _raised(alarm: AlarmChanged | None, event: Raised, rule: AlarmRule, now_ms: int) -> Stepped:
    if alarm is not None and alarm.state != CLEARED:
        # The cause is back before anybody looked: still the same occurrence.
        state = "unack-active" if alarm.state == "unack-cleared" else alarm.state
        again = _changed(alarm, now_ms, state=state, count=alarm.count + 1)
        return again, (Show(), Write("repeated"))
    new = AlarmChanged(
        id=event.id,
        rule=rule.id,
        priority=rule.priority,
        state="unack-active",
        raised_ms=now_ms,
        t_ms=now_ms,
        terminal=event.about.terminal,
        check=event.about.check,
        short=event.about.short,
        link=event.about.link,
        response=rule.response,
        audience=rule.audience,
        group="" if rule.priority == 1 else event.group,
    )
    emergency = True if rule.id == EMERGENCY else None
    return new, (Show(emergency), Write("raised"))


def _acknowledged(alarm: AlarmChanged, by: str, now_ms: int) -> Stepped:
    after = {"unack-active": "ack-active", "unack-cleared": CLEARED}.get(alarm.state)
    if after is None:
        return alarm, (Refuse("ALREADY ACKNOWLEDGED"),)
    if alarm.rule == EMERGENCY and not by:
        return alarm, (Refuse(UNNAMED),)
    acknowledged = _changed(alarm, now_ms, state=after, ack_by=by)
    return acknowledged, (Write("acknowledged", by), Show())


def _closed(alarm: AlarmChanged, by: str, now_ms: int) -> Stepped:
    if alarm.state != "ack-active":
        return alarm, (Refuse("ACKNOWLEDGE FIRST"),)
    emergency = alarm.rule == EMERGENCY
    if emergency and not by:
        return alarm, (Refuse(UNNAMED),)
    if emergency and by == alarm.ack_by:
        return alarm, (Refuse("A SECOND PERSON MUST CLOSE IT"),)
    closed = _changed(alarm, now_ms, state=CLEARED, closed_by=by)
    return closed, (Write("closed", by), Show(False if emergency else None))


def _mistaken(alarm: AlarmChanged, by: str, now_ms: int) -> Stepped:
    """Said under duress, too: so it is a note, and the alarm goes on as it was."""
    if alarm.rule != EMERGENCY:
        return alarm, (Refuse("NOT AN EMERGENCY"),)
    if alarm.why:
        return alarm, (Refuse("NOTED ALREADY"),)
    return _changed(alarm, now_ms, why=MISTAKE), (Write("mistake", by), Show())


def _shelf(
    alarm: AlarmChanged, event: Shelved | Unshelved | Returned, rule: AlarmRule, now_ms: int
) -> Stepped:
    match event:
        case Shelved(by=by, until_ms=until_ms, why=why):
            if alarm.priority == 1 or not rule.shelve:
                return alarm, (Refuse("CANNOT BE SHELVED"),)
            if alarm.shelved_until_ms is not None:
                return alarm, (Refuse("ALREADY SHELVED"),)
            aside = _changed(alarm, now_ms, shelved_until_ms=until_ms, why=why)
            return aside, (Write("shelved", by), Show())
        case _ if alarm.shelved_until_ms is None:
            return alarm, (Refuse("NOT SHELVED"),)
        case Unshelved(by=by):
            back = _changed(alarm, now_ms, shelved_until_ms=None, why="")
            return back, (Write("unshelved", by), Show())
        case Returned():
            back = _changed(alarm, now_ms, shelved_until_ms=None, why="")
            return back, (Show(), Write("returned"))


def _ended(alarm: AlarmChanged, event: Ceased | Folded, rule: AlarmRule, now_ms: int) -> Stepped:
    if alarm.rule == EMERGENCY:
        return alarm, (Refuse("NOTHING CEASED"),)
    if isinstance(event, Folded):
        if alarm.priority == 1 or not alarm.state.startswith("unack"):
            return alarm, (Refuse("STANDS BY ITSELF"),)
        return _changed(alarm, now_ms, state=CLEARED), (Show(), Write("folded"))
    unseen = "unack-cleared" if rule.ack else CLEARED
    after = {"unack-active": unseen, "ack-active": CLEARED}.get(alarm.state)
    if after is None:
        return alarm, (Refuse("NOTHING CEASED"),)
    return _changed(alarm, now_ms, state=after), (Show(), Write("ceased"))
