"""What a terminal's clock is worth: its lag, learned only from traffic that is surely live.

A message that is old on receipt may have waited in a broker, or its sender's clock may be slow.
Two messages prove themselves live when as much time passed between their sendings as between
their receptions, and that was at least LIVE_GAP_MS: a queue that is emptied in a burst cannot
look like that. Until then a message's age is taken at its word, which errs towards "expired".

What is learned is measured against our monotonic clock, so that a step of our own wall clock does
not make every question look old (H08). Fixes are learned from apart from checks: a receiver's time
is exact where the terminal's own clock is not; it helps only until a check has taught better.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from gateway.messages import Issi

LIVE_GAP_MS = 5_000
LIVE_SLACK_MS = 2_000
TERMINALS_MAX = 50_000


class _Seen(msgspec.Struct):
    """Of the last message: its sending time by the terminal's clock, its receipt by ours."""

    sent_ms: float
    received_ms: float
    lag_ms: float | None = None


class TerminalClocks:
    """Lag per terminal and source (`check`, `fix`): our monotonic time minus its sending time."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[Issi, str], _Seen] = OrderedDict()

    def note(self, terminal: Issi, sent_ms: int, received_s: float, *, of: str = "check") -> None:
        """Learn from one message that carries its sending time. received_s: monotonic."""
        received_ms = received_s * 1000
        last = self._seen.get((terminal, of))
        if last is None:
            self._seen[terminal, of] = _Seen(sent_ms, received_ms)
            if len(self._seen) > TERMINALS_MAX:
                self._seen.popitem(last=False)
            return
        received_gap = received_ms - last.received_ms
        sent_gap = sent_ms - last.sent_ms
        if received_gap < LIVE_GAP_MS:
            # Too close together to prove anything; keep the older one as the mark to measure from.
            return
        if abs(received_gap - sent_gap) <= LIVE_SLACK_MS:
            last.lag_ms = min(received_ms - sent_ms, last.received_ms - last.sent_ms)
        else:
            # The clock was set, or this one waited somewhere: what was learned is void.
            last.lag_ms = None
        last.sent_ms, last.received_ms = sent_ms, received_ms
        self._seen.move_to_end((terminal, of))

    def age_s(self, terminal: Issi, sent_ms: int, received_ms: int, received_s: float) -> float:
        """How long a check was under way, allowing for the lag learned; never negative.

        received_ms, received_s: the moment of its receipt by the wall clock and the monotonic one.
        """
        lag_ms = self._lag_ms(terminal, "check")
        if lag_ms is None:
            lag_ms = self._lag_ms(terminal, "fix")
        if lag_ms is None:
            return max(0.0, (received_ms - sent_ms) / 1000)
        return max(0.0, (received_s * 1000 - sent_ms - lag_ms) / 1000)

    def skew_s(self, terminal: Issi, sent_ms: int, received_ms: int, received_s: float) -> float:
        """How far the terminal's clock is behind ours (negative: ahead), as far as can be told.

        A clock that runs ahead shows at once (nothing arrives before it was sent); one that is
        behind shows only once its lag is learned.
        """
        lag_ms = self._lag_ms(terminal, "check")
        if lag_ms is None:
            return min(0.0, (received_ms - sent_ms) / 1000)
        return (lag_ms + received_ms - received_s * 1000) / 1000

    def _lag_ms(self, terminal: Issi, of: str) -> float | None:
        seen = self._seen.get((terminal, of))
        return None if seen is None else seen.lag_ms
