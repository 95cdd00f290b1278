"""What is learned of a terminal's clock, and what an attacker or a full broker cannot teach."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.clocks import TERMINALS_MAX, TerminalClocks

NOON_MS = 1_795_325_047_120
A = "5001001"


def at(seconds: float) -> tuple[int, float]:
    """The same moment by our wall clock and our monotonic one."""
    return NOON_MS + round(seconds * 1000), 1000.0 + seconds


def sent(seconds: float, behind_s: float = 0.0) -> int:
    return NOON_MS + round((seconds - behind_s) * 1000)


def say(clocks: TerminalClocks, sent_s: float, received_s: float, behind_s: float = 0.0) -> float:
    """One check; how old it is taken to be."""
    clocks.note(A, sent(sent_s, behind_s), at(received_s)[1])
    return clocks.age_s(A, sent(sent_s, behind_s), *at(received_s))


def test_until_it_is_learned_the_age_is_taken_at_its_word() -> None:
    clocks = TerminalClocks()
    assert say(clocks, 0, 40) == 40
    assert clocks.skew_s(A, sent(0), *at(40)) == 0, "old or slow: nobody can tell yet"


def test_two_live_messages_teach_the_offset() -> None:
    clocks = TerminalClocks()
    assert say(clocks, 0, 0.3, behind_s=60) > 60
    assert say(clocks, 10, 10.2, behind_s=60) <= 2
    assert 60 <= clocks.skew_s(A, sent(20, 60), *at(20.1)) < 60.5


def test_a_queue_that_is_emptied_teaches_nothing() -> None:
    """M14: what waited a minute and comes in a burst stays a minute old."""
    clocks = TerminalClocks()
    for n in range(5):
        assert say(clocks, n * 10, 100 + n * 0.1) >= 100 + n * 0.1 - n * 10 - 0.2


def test_once_learned_what_waited_is_still_old() -> None:
    clocks = TerminalClocks()
    say(clocks, 0, 0, behind_s=60)
    say(clocks, 10, 10, behind_s=60)
    assert say(clocks, 20, 80, behind_s=60) >= 60


def test_a_clock_that_runs_ahead_shows_at_once() -> None:
    clocks = TerminalClocks()
    assert say(clocks, 0, 0, behind_s=-45) == 0
    assert clocks.skew_s(A, sent(0, -45), *at(0)) == -45


def test_a_clock_that_was_set_is_learned_anew() -> None:
    clocks = TerminalClocks()
    say(clocks, 0, 0)
    say(clocks, 10, 10)
    assert say(clocks, 20, 20, behind_s=300) == 300
    assert say(clocks, 30, 30, behind_s=300) <= 2


def test_a_step_of_our_wall_clock_makes_nobody_old() -> None:
    """H08: measured on the monotonic clock; the skew that is told is against the wall clock."""
    clocks = TerminalClocks()
    say(clocks, 0, 0)
    say(clocks, 10, 10)
    wall_ms, mono_s = at(20)
    assert clocks.age_s(A, sent(20), wall_ms + 3_600_000, mono_s) == 0
    assert clocks.skew_s(A, sent(20), wall_ms + 3_600_000, mono_s) == 3600


def test_fixes_help_until_a_check_teaches_better() -> None:
    """A receiver's exact time does not unlearn a slow clock, and is used where nothing else is."""
    clocks = TerminalClocks()
    for seconds in (0, 10):
        clocks.note(A, sent(seconds, 60), at(seconds)[1], of="fix")
    assert clocks.age_s(A, sent(12, 60), *at(12)) == 0
    say(clocks, 20, 20, behind_s=90)
    say(clocks, 30, 30, behind_s=90)
    for seconds in (35, 45):
        clocks.note(A, sent(seconds), at(seconds)[1], of="fix")
    assert clocks.age_s(A, sent(50, 90), *at(50)) == 0


def test_terminals_do_not_teach_each_other() -> None:
    clocks = TerminalClocks()
    say(clocks, 0, 0, behind_s=60)
    say(clocks, 10, 10, behind_s=60)
    assert clocks.age_s("5001002", sent(20, 60), *at(20)) == 60


def test_it_is_bounded() -> None:
    clocks = TerminalClocks()
    for n in range(TERMINALS_MAX + 10):
        clocks.note(str(n), 0, float(n))
    assert len(clocks._seen) == TERMINALS_MAX


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 30)), max_size=20))
def test_age_is_never_negative_nor_more_than_the_word_says(
    moves: list[tuple[float, float]],
) -> None:
    """Allowing for a lag makes a message younger, never older than it says it is by much."""
    clocks, now_s = TerminalClocks(), 0.0
    for late_s, wait_s in moves:
        now_s += wait_s
        age_s = say(clocks, now_s - late_s, now_s)
        assert 0 <= age_s <= late_s + 2.1
