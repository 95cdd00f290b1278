"""A circuit breaker, pure: after so many failures in a row stop asking, then try one.

It keeps a PNC that is down from being hammered, and officers from waiting for nothing. What was
asked before the circuit opened says nothing about now when it fails: a pile of questions that hang
must not keep the circuit open long after the PNC is well again (P02).
"""

from __future__ import annotations

from enum import StrEnum


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """closed -> open after `failures` in a row -> half_open after `open_s`: one probe at a time."""

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
        """Whether to ask now. In half-open it grants one probe, and another if that one is lost."""
        match self.state(now_s):
            case Circuit.CLOSED:
                return True
            case Circuit.OPEN:
                return False
            case Circuit.HALF_OPEN:
                lost = (
                    self._probe_since_s is not None
                    and now_s - self._probe_since_s >= 2 * self._open_s
                )
                if self._probe_since_s is None or lost:
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
            if asked_at_s <= self._opened_at_s:
                return
            self._probe_since_s = None
            self._opened_at_s = now_s
            return
        self._failed += 1
        if self._failed >= self._limit:
            self._opened_at_s = now_s
