"""Which desk takes which message: one `match`.

Called by every link, synchronously, with an Envelope. Whatever path a message takes, its `settle`
is called exactly once: here for what ends here, by the desk for what must first be on record.

Emergencies, statuses and acknowledgements share a session, and a broker stops sending at its
in-flight limit: there a record may hold the bearer's acknowledgement only HOLD_S long, else an
emergency would stand behind a stalled disk. What is let go unrecorded is still recorded as soon as
it can be; only a crash within the stall loses it, and an emergency is on every screen by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import assert_never

from gateway.limits import SLOW_DOWN, Limits, Traffic
from gateway.messages import (
    AckState,
    BookOff,
    BookOn,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    EchoTest,
    Envelope,
    Heartbeat,
    HelpRequest,
    Issi,
    LocationFix,
    MalformedCheck,
    Notice,
    Privacy,
    Reasoning,
    RecallRequest,
    Receipt,
    StatusReport,
    Suspicion,
    Uplink,
)
from gateway.ports import Clock, Journal, Meter, Suspect
from gateway.roster import Roster

EMERGENCY = 0
WHOLE = 0
"""In place of a part's number: all of it."""
RECEIVED = "received"
"""Effect of a status (fleet file): the officer read the newest answer, or is free to receive it."""
RECALL = "recall"
"""Effect of a status: show the last answer again."""
BOOKING = ("book_on", "book_off")
HELP_TEXT = "V MARK R1, N SURNAME/FORENAME/DDMMYYYY/M R1, P TYPE/SERIAL R1, X CANCEL, A LAST"
"""At most 79: one SDS at TETRA's default."""
NOTICE_EXPIRES_S = 60.0
HOLD_S = 1.0


class Desks:
    """Where each message goes; app.py fills it, tests may fill it with fakes."""

    submit: Callable[[Envelope, CheckRequest], None]
    refuse_malformed: Callable[[Envelope, MalformedCheck], None]
    cancel: Callable[[Issi, str, Callable[[], None]], str | None]
    recall: Callable[[Issi, str, Callable[[], None]], None]
    free_to_receive: Callable[[Issi], bool]
    acknowledge: Callable[[Issi, str, int, AckState, Callable[[], None]], None]
    note_time: Callable[[Issi, int, Envelope], None]
    fix: Callable[[Issi, LocationFix, Envelope], None]
    emergency: Callable[[Envelope], None]
    emergency_open: Callable[[Issi], bool]
    status: Callable[[Issi, int], None]
    book_on: Callable[[Envelope, BookOn], None]
    book_off: Callable[[Envelope, BookOff], None]
    book_by_status: Callable[[Envelope, str], None]
    privacy: Callable[[Envelope, Privacy], None]
    reasoning: Callable[[Envelope, Reasoning], None]
    heard: Callable[[Issi], None]
    alive: Callable[[Envelope], None] = staticmethod(lambda _envelope: None)
    """Told of each message once it was handed on."""
    tell: Callable[[Issi, Notice | Receipt, float], None]


class Switchboard:
    """One `handle` for every link. A defect in a desk costs one message, never the link."""

    def __init__(
        self,
        *,
        desks: Desks,
        roster: Callable[[], Roster],
        limits: Limits,
        suspect: Suspect,
        clock: Clock,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self._desks = desks
        self._roster = roster
        self._limits = limits
        self._suspect = suspect
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._held: deque[tuple[float, _Once]] = deque()

    def handle(self, envelope: Envelope) -> None:
        """Take one message. Never raises; never waits."""
        settled = _Once(envelope.settle)
        refused: list[bool] = []
        self._guarded(lambda: refused.append(self._is_revoked(envelope)))
        if True in refused:
            settled()
            return
        too_much: list[bool] = []
        # A defect here takes the message: it must not cost an emergency.
        self._guarded(lambda: too_much.append(self._too_much(envelope)))
        if True in too_much:
            settled()
            return
        if not self._guarded(lambda: self._dispatch(envelope, settled)):
            settled()
        if envelope.stored:
            return  # nobody said it now
        self._guarded(lambda: self._desks.heard(envelope.terminal))
        self._guarded(lambda: self._desks.alive(envelope))

    def _is_revoked(self, envelope: Envelope) -> bool:
        """Whether this is a lost radio that says anything but an emergency: somebody may have been
        hurt with it in hand, and that is all that it is believed."""
        match envelope.message:
            case StatusReport(code=code) if code == EMERGENCY:
                return False
        if self._roster().revoked(envelope.terminal) is None:
            return False
        self._meter.count("frames_rejected_total", link=envelope.link, reason="unknown_terminal")
        self._suspect(Suspicion.UNKNOWN_TERMINAL, envelope.link, envelope.terminal)
        return True

    def sweep(self, now_s: float) -> None:
        """Let go what was held for a record longer than HOLD_S."""
        while self._held and (self._held[0][1].done or self._held[0][0] <= now_s):
            _, settle = self._held.popleft()
            if not settle.done:
                self._meter.count("queue_dropped_total", queue="status", reason="slow")
                settle()

    # ----------------------------------------------------------------- too much of it

    def _too_much(self, envelope: Envelope) -> bool:
        """Whether this message is more than its terminal, or all of them, may say now (M11)."""
        terminal, traffic = envelope.terminal, _traffic(envelope.message)
        refusal = self._limits.refusal(
            terminal,
            traffic,
            self._clock.monotonic_s(),
            alarm_open=traffic is Traffic.EMERGENCY and self._desks.emergency_open(terminal),
        )
        if refusal is None:
            return False
        self._meter.count("rate_limited_total", type=traffic.value, scope=refusal.scope.value)
        self._suspect(Suspicion.FLOOD, envelope.link, terminal)
        if refusal.first and traffic in (Traffic.QUESTION, Traffic.REPORT):
            self._guarded(lambda: self._say_slow_down(envelope))
        return True

    def _say_slow_down(self, envelope: Envelope) -> None:
        """Once an episode. No check was made of it: it has no id, and nothing was asked."""
        terminal, message = envelope.terminal, envelope.message
        if isinstance(message, CheckRequest | MalformedCheck):
            refused = Receipt(
                ref=message.ref,
                check="",
                short="",
                accepted=False,
                why=SLOW_DOWN,
                client_ref=message.client_ref,
            )
            self._desks.tell(terminal, refused, NOTICE_EXPIRES_S)
        else:
            self._say(terminal, "slow", SLOW_DOWN)

    # ----------------------------------------------------------------- to its desk

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Do it; a defect of ours costs this message alone, the link lives on."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - counted; the next message must be taken (M13)
            self._meter.count("task_restarts_total", task="switchboard")
            self._journal.warn("task.restarted", task="switchboard", error=type(error).__name__)
            return False
        return True

    def _hold(self, settle: _Once) -> None:
        now_s = self._clock.monotonic_s()
        self.sweep(now_s)
        self._held.append((now_s + HOLD_S, settle))

    def _dispatch(self, envelope: Envelope, settle: _Once) -> None:
        desks, terminal = self._desks, envelope.terminal
        if not envelope.stored:
            self._roster().heard(terminal, envelope.link, envelope.received_at_s)
        match envelope.message:
            case StatusReport(code=code) if code == EMERGENCY:
                self._hold(settle)
                desks.emergency(_with_settle(envelope, settle))
            case LocationFix() as fix:
                ours = fix.reckoned or envelope.stored
                if fix.fixed_at_ms is not None and not ours:
                    desks.note_time(terminal, fix.fixed_at_ms, envelope)
                desks.fix(terminal, fix, envelope)
                settle()
            case Heartbeat():
                settle()
            case CheckRequest() as request:
                desks.submit(_with_settle(envelope, settle), request)
                if (along := request.fix) is not None:
                    # A position that comes along must not cost the question.
                    self._guarded(lambda: desks.fix(terminal, along, envelope))
            case MalformedCheck() as malformed:
                desks.refuse_malformed(_with_settle(envelope, settle), malformed)
            case DeliveryAck(check=ref, part=part, state=state):
                self._hold(settle)
                desks.acknowledge(terminal, ref, part, state, settle)
            case StatusReport(code=code):
                desks.status(terminal, code)
                effect = self._roster().word(code).effect
                if effect in BOOKING:
                    self._hold(settle)
                    desks.book_by_status(_with_settle(envelope, settle), effect)
                elif effect == RECALL:
                    desks.recall(terminal, "", settle)
                elif effect == RECEIVED and not desks.free_to_receive(terminal):
                    self._hold(settle)
                    desks.acknowledge(terminal, "", WHOLE, AckState.READ, settle)
                else:
                    settle()
            case CancelRequest(check=ref):
                if desks.cancel(terminal, ref, settle) is None:
                    self._say(terminal, "cancelled", "NOTHING TO CANCEL")
                    settle()
            case RecallRequest(check=ref):
                desks.recall(terminal, ref, settle)
            case BookOn() as booking:
                self._hold(settle)
                desks.book_on(_with_settle(envelope, settle), booking)
            case BookOff() as leaving:
                self._hold(settle)
                desks.book_off(_with_settle(envelope, settle), leaving)
            case Privacy() as privacy:
                desks.privacy(_with_settle(envelope, settle), privacy)
            case Reasoning() as reasoning:
                desks.reasoning(_with_settle(envelope, settle), reasoning)
            case HelpRequest():
                self._say(terminal, "help", HELP_TEXT)
                settle()
            case EchoTest(text=text):
                self._say(terminal, "echo", f"ECHO {text}".rstrip())
                settle()
            case other:
                assert_never(other)

    def _say(self, terminal: Issi, kind: str, text: str) -> None:
        self._desks.tell(terminal, Notice(kind=kind, text=text), NOTICE_EXPIRES_S)


def _traffic(message: Uplink) -> Traffic:
    match message:
        case LocationFix() | Heartbeat():
            return Traffic.FIX
        case StatusReport(code=code) if code == EMERGENCY:
            return Traffic.EMERGENCY
        case StatusReport() | DeliveryAck() | BookOn() | BookOff() | Privacy() | Reasoning():
            return Traffic.REPORT
        case _:
            return Traffic.QUESTION


class _Once:
    """Exactly once, whatever goes wrong in between."""

    __slots__ = ("_settle",)

    @property
    def done(self) -> bool:
        return self._settle is None

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
        redelivered=envelope.redelivered,
        stored=envelope.stored,
    )
