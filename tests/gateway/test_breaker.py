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


def test_half_open_lets_one_probe_through() -> None:
    """A second only when the first was lost for so long that nobody will tell."""
    breaker = opened()
    assert breaker.state(7.0) is Circuit.HALF_OPEN
    assert [breaker.allow(7.0), breaker.allow(7.1), breaker.allow(16.9)] == [True, False, False]
    assert breaker.allow(17.0)


def test_the_probe_decides() -> None:
    breaker = opened()
    assert breaker.allow(7.0)
    breaker.failed(8.0, asked_at_s=7.0)
    assert breaker.state(12.9) is Circuit.OPEN
    assert breaker.allow(13.0)
    breaker.succeeded()
    assert breaker.state(13.0) is Circuit.CLOSED
    breaker.failed(14.0, asked_at_s=14.0)
    assert breaker.allow(14.0), "the count begins anew"


def test_what_was_asked_before_it_opened_keeps_nobody_out() -> None:
    """P02: a pile of questions that hang must not prolong the outage."""
    breaker = opened()  # open since 2
    for at_s in (4.0, 6.0, 7.5):
        breaker.failed(at_s, asked_at_s=1.0)
    assert breaker.state(7.0) is Circuit.HALF_OPEN
    assert breaker.allow(7.6)


@given(st.lists(st.tuples(st.sampled_from(["allow", "ok", "fail"]), st.floats(0, 3))))
def test_it_never_stays_shut(moves: list[tuple[str, float]]) -> None:
    """Whatever happened: after open_s and a lost probe's time, somebody may ask again."""
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
    assert breaker.allow(now_s + 16.0)
