"""A circuit breaker, pure: after so many failures in a row stop asking, then try one.

It keeps a PNC that is down from being hammered, and officers from waiting for nothing. What was
asked before the circuit opened says nothing about now when it fails: a pile of questions that hang
must not keep the circuit open long after the PNC is well again (P02). Nor may a probe that hangs:
it is followed by another, and what it says when it fails is of the time when it was asked.
"""

from __future__ import annotations

from enum import StrEnum

PROBE_EVERY_S = 1.0
"""In half-open, while no probe has come back. One that hangs may not keep everybody out until its
deadline: the PNC may be well again long before (P02: asked again within 5 s)."""


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """closed -> open after `failures` in a row -> half_open after `open_s`: a probe each second."""

    def __init__(self, *, failures: int, open_s: float) -> None:
        self._limit = failures
        self._open_s = open_s
        self._failed = 0
        self._opened_at_s: float | None = None
        self._probe_since_s: float | None = None

    def state(self, now_s: float) -> Circuit:
        if self._opened_at_s is None:
            return Circuit.CLOSED
        if now_s - self._opened_at_s < self._open_s:
            return Circuit.OPEN
        return Circuit.HALF_OPEN

    def allow(self, now_s: float) -> bool:
        """Whether to ask now. In half-open it grants a probe each PROBE_EVERY_S."""
        match self.state(now_s):
            case Circuit.CLOSED:
                return True
            case Circuit.OPEN:
                return False
            case Circuit.HALF_OPEN:
                before_s = self._probe_since_s
                if before_s is None or now_s - before_s >= PROBE_EVERY_S:
                    self._probe_since_s = now_s
                    return True
                return False

    def succeeded(self) -> None:
        """A reply came in time: the PNC lives."""
        self._failed = 0
        self._opened_at_s = None
        self._probe_since_s = None

    def failed(self, now_s: float, *, asked_at_s: float) -> None:
        """An attempt that was made at `asked_at_s` came to nothing."""
        if self._opened_at_s is not None:
            # From when it was asked: one that hung tells nothing of the time since.
            self._opened_at_s = max(self._opened_at_s, asked_at_s)
            return
        self._failed += 1
        if self._failed >= self._limit:
            self._opened_at_s = now_s
