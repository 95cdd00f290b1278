"""Which desk takes which message: one `match`.

Called by every link, synchronously, with an Envelope. Whatever path a message takes, its `settle`
is called exactly once: here for what ends here, by the desk for what must first be on record.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.messages import (
    AckState,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    EchoTest,
    Envelope,
    HelpRequest,
    Issi,
    LocationFix,
    MalformedCheck,
    Notice,
    StatusReport,
)
from gateway.ports import Clock, Journal, Meter
from gateway.roster import Roster

EMERGENCY = 0
RECEIVED = 15
"""Status 15, "received": the officer read the newest answer, or is free to receive it."""
HELP_TEXT = "V MARK R1 / N SURNAME/FORENAME/DDMMYYYY/M R1 / P TYPE/SERIAL R1 / X CANCEL"
NOTICE_EXPIRES_S = 60.0


class Desks:
    """Where each message goes; app.py fills it, tests may fill it with fakes."""

    submit: Callable[[Envelope, CheckRequest], None]
    refuse_malformed: Callable[[Envelope, MalformedCheck], None]
    cancel: Callable[[Issi, str], str | None]
    free_to_receive: Callable[[Issi], bool]
    acknowledge: Callable[[Issi, str, AckState, Callable[[], None]], None]
    note_time: Callable[[Issi, int, int], None]
    fix: Callable[[Issi, LocationFix, Envelope], None]
    emergency: Callable[[Envelope], None]
    status: Callable[[Issi, int], None]
    heard: Callable[[Issi], None]
    tell: Callable[[Issi, Notice, float], None]


class Switchboard:
    """One `handle` for every link. A defect in a desk costs one message, never the link."""

    def __init__(
        self,
        *,
        desks: Desks,
        roster: Callable[[], Roster],
        clock: Clock,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self._desks = desks
        self._roster = roster
        self._clock = clock
        self._meter = meter
        self._journal = journal

    def handle(self, envelope: Envelope) -> None:
        """Take one message. Never raises; never waits."""
        self._roster().heard(envelope.terminal, envelope.link, envelope.received_at_s)
        settled = _Once(envelope.settle)
        try:
            self._dispatch(envelope, settled)
        # A defect of ours: this message is given up and counted, the link lives on.
        except Exception as error:  # noqa: BLE001
            self._meter.count("task_restarts_total", task="switchboard")
            self._journal.warn("task.restarted", task="switchboard", error=type(error).__name__)
            settled()
        self._desks.heard(envelope.terminal)

    def _dispatch(self, envelope: Envelope, settle: Callable[[], None]) -> None:
        desks, terminal = self._desks, envelope.terminal
        match envelope.message:
            case StatusReport(code=code) if code == EMERGENCY:
                desks.emergency(_with_settle(envelope, settle))
            case LocationFix() as fix:
                if fix.fixed_at_ms is not None:
                    desks.note_time(terminal, fix.fixed_at_ms, envelope.reference_ms)
                desks.fix(terminal, fix, envelope)
                settle()
            case CheckRequest() as request:
                if request.fix is not None:
                    desks.fix(terminal, request.fix, envelope)
                desks.submit(_with_settle(envelope, settle), request)
            case MalformedCheck() as malformed:
                desks.refuse_malformed(_with_settle(envelope, settle), malformed)
            case DeliveryAck(check=ref, state=state):
                desks.acknowledge(terminal, ref, state, settle)
            case StatusReport(code=code):
                desks.status(terminal, code)
                if code == RECEIVED and not desks.free_to_receive(terminal):
                    desks.acknowledge(terminal, "", AckState.READ, settle)
                else:
                    settle()
            case CancelRequest(check=ref):
                short = desks.cancel(terminal, ref)
                if short is None:
                    self._say(terminal, "cancelled", "NOTHING TO CANCEL")
                settle()
            case HelpRequest():
                self._say(terminal, "help", HELP_TEXT)
                settle()
            case EchoTest(text=text):
                self._say(terminal, "echo", f"ECHO {text}".rstrip())
                settle()

    def _say(self, terminal: Issi, kind: str, text: str) -> None:
        self._desks.tell(terminal, Notice(kind=kind, text=text), NOTICE_EXPIRES_S)


class _Once:
    """Exactly once, whatever goes wrong in between."""

    __slots__ = ("_settle",)

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle: Callable[[], None] | None = settle

    def __call__(self) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle()


def _with_settle(envelope: Envelope, settle: Callable[[], None]) -> Envelope:
    return Envelope(
        message=envelope.message,
        terminal=envelope.terminal,
        link=envelope.link,
        bearer=envelope.bearer,
        received_at_ms=envelope.received_at_ms,
        received_at_s=envelope.received_at_s,
        reference_ms=envelope.reference_ms,
        settle=settle,
    )
