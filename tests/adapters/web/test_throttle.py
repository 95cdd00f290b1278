"""Guessing is slow, and nobody can lock the last supervisor out."""

from __future__ import annotations

from adapters.web import throttle
from adapters.web.throttle import Throttle

HERE, THERE = "10.0.0.1", "10.0.0.2"


def guessed(ours: Throttle, times: int, *, supervisor: bool, address: str = HERE) -> float:
    """Fail as often as that, each as soon as it may be tried; the time it took."""
    now_s = 0.0
    for _ in range(times):
        now_s += ours.wait_s("ann", address, now_s, supervisor=supervisor)
        ours.failed("ann", address, now_s, supervisor=supervisor)
    return now_s


def test_five_are_free_and_then_each_costs_more() -> None:
    """So a night of guessing at one account is some fifty guesses, not some million."""
    ours = Throttle()
    for n in range(throttle.FREE):
        assert ours.wait_s("ann", HERE, 0.0, supervisor=False) == 0, n
        ours.failed("ann", HERE, 0.0, supervisor=False)
    waits = []
    now_s = 0.0
    for _ in range(12):
        waits.append(ours.wait_s("ann", HERE, now_s, supervisor=False))
        now_s += waits[-1]
        ours.failed("ann", HERE, now_s, supervisor=False)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == throttle.MOST_S < throttle.FORGET_S
    assert ours.wait_s("ann", THERE, now_s, supervisor=False) > 0, "wherever they come from"
    assert ours.wait_s("bob", THERE, now_s, supervisor=False) == 0
    assert guessed(Throttle(), 50, supervisor=False) > 8 * 3600


def test_time_or_a_log_in_forgives() -> None:
    ours = Throttle()
    guessed(ours, 7, supervisor=False)
    assert ours.wait_s("ann", HERE, throttle.FORGET_S + 20, supervisor=False) == 0
    guessed(ours, 7, supervisor=False)
    ours.passed("ann", HERE, supervisor=False)
    assert ours.wait_s("ann", HERE, 100.0, supervisor=False) == 0


def test_the_last_supervisor_is_never_locked_out() -> None:
    """Failing elsewhere on purpose costs them nothing; failing here, half a minute at most."""
    ours = Throttle()
    end_s = guessed(ours, 30, supervisor=True, address=THERE)
    assert ours.wait_s("ann", HERE, end_s, supervisor=True) == 0
    end_s = guessed(ours, 15, supervisor=True)
    assert 0 < ours.wait_s("ann", HERE, end_s, supervisor=True) <= throttle.SUPERVISOR_MOST_S


def test_an_address_has_twenty_a_minute() -> None:
    """Whatever the accounts; then it waits, and others do not."""
    ours = Throttle()
    for n in range(throttle.ADDRESS_FREE):
        assert ours.wait_s(f"a{n}", HERE, 1.0, supervisor=False) == 0
        ours.failed(f"a{n}", HERE, 1.0, supervisor=False)
    assert ours.wait_s("new", HERE, 1.0, supervisor=True) == throttle.ADDRESS_S
    assert ours.wait_s("new", THERE, 1.0, supervisor=False) == 0
    assert ours.wait_s("new", HERE, 61.0, supervisor=False) == 0
    ours.failed("new", HERE, 61.0, supervisor=False)
    assert ours.wait_s("new", HERE, 61.0, supervisor=False) == 0, "a minute later it has twenty"


def test_what_is_remembered_is_bounded() -> None:
    ours = Throttle()
    for n in range(throttle.KEYS_MOST + 500):
        ours.failed(f"a{n}", f"h{n}", float(n), supervisor=False)
    assert len(ours._accounts) == len(ours._addresses) == throttle.KEYS_MOST
