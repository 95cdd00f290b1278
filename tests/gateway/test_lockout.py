"""Who tried too often waits; whoever was right is forgiven."""

from __future__ import annotations

import pytest

from gateway.lockout import FORGET_S, Lockout

KEY, OTHER = "officer 1001", "radio 5001001"


@pytest.fixture
def lockout() -> Lockout:
    return Lockout(attempts=3, lock_s=900.0)


def wrong(lockout: Lockout, at_s: float, times: int, key: str = KEY) -> list[bool]:
    """So many in a row; of each whether it was tried at all."""
    tried = []
    for _ in range(times):
        tried.append(lockout.begin(key, at_s))
        if tried[-1]:
            lockout.wrong(key, at_s)
    return tried


def test_so_many_are_tried_and_no_more(lockout: Lockout) -> None:
    assert wrong(lockout, 0.0, 5) == [True, True, True, False, False]
    assert lockout.begin(OTHER, 0.0), "somebody else's are their own"


def test_the_wait_doubles_each_time(lockout: Lockout) -> None:
    now_s = 0.0
    for wait_s in (900.0, 1800.0, 3600.0):
        wrong(lockout, now_s, 3)
        assert not lockout.begin(KEY, now_s + wait_s - 1)
        now_s += wait_s
        assert lockout.begin(KEY, now_s)
        lockout.unjudged(KEY)


def test_of_many_at_once_no_more_are_tried_than_of_many_in_a_row(lockout: Lockout) -> None:
    """All are looked at before any is known to be wrong."""
    assert [lockout.begin(KEY, 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert lockout.wrong(KEY, 0.1)
    assert not lockout.wrong(KEY, 0.1), "locked once, not once for each"
    assert not lockout.begin(KEY, 1.0)


def test_the_right_one_forgives_and_old_ones_do_not_count(lockout: Lockout) -> None:
    wrong(lockout, 0.0, 2)
    assert lockout.begin(KEY, 1.0)
    lockout.right(KEY)
    assert wrong(lockout, 2.0, 2) == [True, True]
    assert wrong(lockout, 2.0 + 901.0, 2) == [True, True]


def test_what_nobody_judged_does_not_count(lockout: Lockout) -> None:
    for _ in range(10):
        assert lockout.begin(KEY, 0.0)
        lockout.unjudged(KEY)


def test_a_day_later_the_wait_is_short_again_and_nothing_is_kept(lockout: Lockout) -> None:
    wrong(lockout, 0.0, 3)
    lockout.sweep(FORGET_S - 1)
    assert not lockout.begin(KEY, 899.0)
    lockout.sweep(899.0 + FORGET_S + 1)
    wrong(lockout, 200_000.0, 3)
    assert lockout.begin(KEY, 200_000.0 + 900.0)
