"""The circuit breaker, on a clock of plain numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import Breaker, Circuit


def opened(*, failures: int = 3, open_s: float = 5.0) -> Breaker:
    breaker = Breaker(failures=failures, open_s=open_s)
    for at_s in range(failures):
        breaker.failed(float(at_s), asked_at_s=float(at_s))
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(failures=3, open_s=5.0)
    for at_s in (1.0, 2.0):
        breaker.failed(at_s, asked_at_s=at_s)
    breaker.succeeded()
    for at_s in (3.0, 4.0):
        breaker.failed(at_s, asked_at_s=at_s)
        assert breaker.allow(at_s)
    breaker.failed(5.0, asked_at_s=5.0)
    assert breaker.state(5.0) is Circuit.OPEN
    assert not breaker.allow(9.9)


def test_half_open_lets_a_probe_through_now_and_then() -> None:
    """One a second, not all: a PNC that is ill is not hammered. P02: and not one until it comes
    back, as it may hang until its deadline while the PNC is well again."""
    breaker = opened()
    assert breaker.state(7.0) is Circuit.HALF_OPEN
    asked = [breaker.allow(at_s) for at_s in (7.0, 7.1, 7.9, 8.0, 8.1, 9.0)]
    assert asked == [True, False, False, True, False, True]


def test_the_probe_decides() -> None:
    breaker = opened()
    assert breaker.allow(7.0)
    breaker.failed(7.1, asked_at_s=7.0)
    assert breaker.state(11.9) is Circuit.OPEN
    assert breaker.allow(12.0)
    breaker.succeeded()
    assert breaker.state(12.0) is Circuit.CLOSED
    breaker.failed(13.0, asked_at_s=13.0)
    assert breaker.allow(13.0), "the count begins anew"


def test_a_probe_that_hung_says_nothing_of_now() -> None:
    """P02: when it fails at its deadline, the circuit is not shut for another while."""
    breaker = opened()
    assert breaker.allow(7.0)
    breaker.failed(22.0, asked_at_s=7.0)
    assert breaker.state(22.0) is Circuit.HALF_OPEN
    assert breaker.allow(22.0)


def test_what_was_asked_before_it_opened_keeps_nobody_out() -> None:
    """P02: a pile of questions that hang must not prolong the outage."""
    breaker = opened()  # open since 2
    for at_s in (4.0, 6.0, 7.5):
        breaker.failed(at_s, asked_at_s=1.0)
    assert breaker.state(7.0) is Circuit.HALF_OPEN
    assert breaker.allow(7.6)


@given(st.lists(st.tuples(st.sampled_from(["allow", "ok", "fail"]), st.floats(0, 3))))
def test_it_never_stays_shut(moves: list[tuple[str, float]]) -> None:
    """Whatever happened: after open_s and a probe's turn, somebody may ask again."""
    breaker, now_s = Breaker(failures=2, open_s=5.0), 0.0
    for what, wait_s in moves:
        now_s += wait_s
        match what:
            case "allow":
                breaker.allow(now_s)
            case "ok":
                breaker.succeeded()
            case _:
                breaker.failed(now_s, asked_at_s=now_s)
    assert breaker.allow(now_s + 6.0)
