"""What a terminal's clock is worth: its offset, learned only from traffic that is surely live.

A message that is old on receipt may have waited in a broker, or its sender's clock may be slow.
Two messages prove themselves live when as much time passed between their sendings as between
their receptions, and that was at least LIVE_GAP_MS: a queue that is emptied in a burst cannot
look like that. Until then a message's age is taken at its word, which errs towards "expired".
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from gateway.messages import Issi

LIVE_GAP_MS = 5_000
LIVE_SLACK_MS = 2_000
TERMINALS_MAX = 50_000


class _Seen(msgspec.Struct):
    sent_ms: int
    received_ms: int
    offset_ms: int | None = None


class TerminalClocks:
    """Offset per terminal: receive time minus sending time of live messages, newest first."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Issi, _Seen] = OrderedDict()

    def note(self, terminal: Issi, sent_ms: int, received_ms: int) -> None:
        """Learn from one message that carries its sending time."""
        last = self._seen.get(terminal)
        if last is None:
            self._seen[terminal] = _Seen(sent_ms, received_ms)
            if len(self._seen) > TERMINALS_MAX:
                self._seen.popitem(last=False)
            return
        received_gap = received_ms - last.received_ms
        sent_gap = sent_ms - last.sent_ms
        if received_gap < LIVE_GAP_MS:
            # Too close together to prove anything; keep the older one as the mark to measure from.
            return
        if abs(received_gap - sent_gap) <= LIVE_SLACK_MS:
            last.offset_ms = min(received_ms - sent_ms, last.received_ms - last.sent_ms)
        else:
            # The clock was set, or this one waited somewhere: what was learned is void.
            last.offset_ms = None
        last.sent_ms, last.received_ms = sent_ms, received_ms
        self._seen.move_to_end(terminal)

    def offset_ms(self, terminal: Issi) -> int | None:
        """How far the terminal's clock is behind ours (negative: ahead); None when not known."""
        seen = self._seen.get(terminal)
        return None if seen is None else seen.offset_ms

    def age_s(self, terminal: Issi, sent_ms: int, received_ms: int) -> float:
        """How long the message was under way, allowing for the offset learned; never negative."""
        offset = self.offset_ms(terminal) or 0
        return max(0.0, (received_ms - sent_ms - offset) / 1000)

    def skew_s(self, terminal: Issi, sent_ms: int, received_ms: int) -> float:
        """How far off the terminal's clock is, as far as this message can tell.

        A clock that runs ahead shows at once (nothing arrives before it was sent); one that is
        behind shows only once its offset is learned.
        """
        offset = self.offset_ms(terminal)
        if offset is not None:
            return offset / 1000
        return min(0.0, (received_ms - sent_ms) / 1000)
