"""What every link does with what its codec made of the bytes: count it, or hand it over.

Rule: `settle` is called exactly once, when every message of one frame need not come again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.messages import (
    FIX_REASONS,
    BadFrame,
    Bearer,
    Decoded,
    Downlink,
    Envelope,
    Ignored,
    Issi,
    Locate,
    LocationFix,
    MalformedCheck,
    Receipt,
    Result,
    Suspicion,
    TextPart,
    Uplink,
)
from gateway.ports import Clock, Handle, Meter, Suspect

_REASONS = frozenset(FIX_REASONS)
SUSPICIOUS = {
    "identity": Suspicion.IDENTITY,
    "unknown_terminal": Suspicion.UNKNOWN_TERMINAL,
    "retained": Suspicion.RETAINED,
    "length": Suspicion.OVERSIZE,
}
"""Reasons that over a broker are somebody's doing; on a line a worn plug makes most of them."""


def nobody(cause: Suspicion, link: str, terminal: Issi) -> None:
    """A link of its own, without a core that would want to know."""
    del cause, link, terminal


def nameless(protocol: str, name: str) -> Issi:
    """A link of its own, without a fleet in which anybody has a name."""
    del protocol, name
    return ""


class Intake:
    """One link's way in. reference_ms: what fix times are judged against, from the receipt time.
    suspect: told of what is somebody's doing; None where that cannot be known."""

    def __init__(
        self,
        *,
        link: str,
        bearer: Bearer,
        clock: Clock,
        meter: Meter,
        handle: Handle,
        suspect: Suspect | None = None,
        reference_ms: Callable[[int], int] = lambda received_at_ms: received_at_ms,
    ) -> None:
        self._link = link
        self._kind = bearer.value
        self._bearer = bearer
        self._clock = clock
        self._meter = meter
        self._handle = handle
        self._suspect = suspect
        self._reference_ms = reference_ms

    def heard(self, size: int) -> None:
        """Bytes came, whatever they mean."""
        self._meter.count("link_receive_bytes_total", size, link=self._link)
        self._meter.gauge(
            "link_last_receive_timestamp_seconds",
            self._clock.wall_ms() / 1000,
            link=self._link,
            kind=self._kind,
        )

    def readable(self, decoded: Sequence[Decoded]) -> bool:
        """Whether anything of it says something, be it that there is no fix: noise does not, nor
        does a device at another speed, and a line that carries only that is as good as silent."""
        return any(not isinstance(each, BadFrame) or each.reason in _REASONS for each in decoded)

    def take(
        self,
        decoded: Sequence[Decoded],
        terminal: Issi,
        received_at_ms: int,
        settle: Callable[[], None],
        *,
        redelivered: bool = False,
        stored: bool = False,
    ) -> None:
        """Hand over what can be, count the rest; settle when the last of it is settled."""
        messages = [each for each in decoded if self._is_uplink(each, terminal)]
        if not messages:
            settle()
            return
        once = Countdown(len(messages), settle) if len(messages) > 1 else settle
        now_s = self._clock.monotonic_s()
        reference_ms = self._reference_ms(received_at_ms)
        for message in messages:
            self._handle(
                Envelope(
                    message=message,  # type: ignore[arg-type]  # sieved by _is_uplink
                    terminal=terminal,
                    link=self._link,
                    bearer=self._bearer,
                    received_at_ms=received_at_ms,
                    received_at_s=now_s,
                    reference_ms=reference_ms,
                    settle=once,
                    redelivered=redelivered,
                    stored=stored,
                )
            )

    def _is_uplink(self, each: Decoded, terminal: Issi) -> bool:
        match each:
            case BadFrame(reason=reason):
                self.reject(reason, terminal)
                return False
            case Ignored():
                self._meter.count("frames_received_total", link=self._link, type="ignored")
                return False
            case Receipt() | Result() | TextPart() | Locate():
                self.reject("decode")  # a downlink that comes up is nobody's word
                return False
            case _:
                self._meter.count("frames_received_total", link=self._link, type=word_of(each))
                return True

    def reject(self, reason: str, terminal: Issi = "") -> None:
        """A frame that is refused, by reason (design ops.md, label `reason`)."""
        if reason in _REASONS:
            self._meter.count("fixes_rejected_total", reason=reason)
            return
        self._meter.count("frames_rejected_total", link=self._link, reason=reason)
        self.suspect(reason, terminal)

    def suspect(self, reason: str, terminal: Issi) -> None:
        """Tell of it, if it is somebody's doing, whether or not the frame is refused."""
        if self._suspect is not None and reason in SUSPICIOUS:
            self._suspect(SUSPICIOUS[reason], self._link, terminal)


class Countdown:
    """Calls `settle` once, when it has been called `n` times itself."""

    __slots__ = ("_left", "_settle")

    def __init__(self, n: int, settle: Callable[[], None]) -> None:
        self._left = n
        self._settle = settle

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._settle()


def word_of(message: Uplink | Downlink | Decoded) -> str:
    """The metric label `type` of a message."""
    match message:
        case LocationFix():
            return "fix"
        case MalformedCheck():
            return "malformed"
        case _:
            return str(message.__struct_config__.tag)
