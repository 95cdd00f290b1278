"""Everything that the log can say: a closed list of events, each with the fields it may have.

There is none for a person, a terminal, a plate or a place. mypy refuses an event or a field that is
not here; which field goes with which event is looked at by the log itself, and by its tests.
"""

from __future__ import annotations

from typing import Literal, TypedDict

LogEvent = Literal[
    "started",
    "ready",
    "stopping",
    "stopped",
    "link.up",
    "link.down",
    "link.state",
    "frame.rejected",
    "check.opened",
    "check.refused",
    "check.stage",
    "check.done",
    "check.duplicate",
    "check.late",
    "check.cancelled",
    "check.restarted",
    "check.unreadable",
    "check.put_away",
    "delivery.sent",
    "delivery.delivered",
    "delivery.read",
    "delivery.failed",
    "delivery.stale",
    "emergency.raised",
    "emergency.unrecorded",
    "alarm.changed",
    "alarm.flood",
    "alarm.unrecorded",
    "booking.on",
    "booking.off",
    "booking.refused",
    "booking.unreadable",
    "cert.expiry",
    "config.loaded",
    "config.refused",
    "policy.unsealed",
    "ledger.opened",
    "ledger.version",
    "ledger.behind",
    "ledger.broken",
    "ledger.unavailable",
    "ledger.recovered",
    "ledger.proof",
    "ledger.purge",
    "ledger.key",
    "ledger.anchor",
    "ledger.fatal",
    "history.shed",
    "relay.shed",
    "recording",
    "task.restarted",
    "loop.blocked",
    "clock.step",
    "security",
    "library",
    "log_in",
    "suppressed",
]


class LogFields(TypedDict, total=False):
    """Words of ours, names of links, classes of errors, figures; never what came from outside."""

    alarm: str
    attempt: int
    bearer: str
    cause: str
    cert: str
    check: str
    count: int
    delay_ms: int
    elapsed_ms: int
    error: str | None
    exit: int
    finding: str
    hours: int | None
    kind: str
    lag_ms: int
    link: str
    links: int
    log: str
    logger: str
    of: str
    open: int
    outcome: str
    part: int
    port: int
    priority: int
    reason: str
    restart_needed: str
    restored: int
    rule: str
    seq: int
    severity: str
    stage: str
    state: str
    step_ms: int
    task: str
    type: str
    version: str
    waiting: int
