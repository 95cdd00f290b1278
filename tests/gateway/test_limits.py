"""Token buckets: what is admitted in any history, who pays for a flood, what is spoken once."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import QUIET_S, Limits, Refusal, Scope, Traffic
from gateway.settings import LimitsSection

ISSI, OTHER = "5001001", "5001002"
KINDS = [Traffic.QUESTION, Traffic.REPORT, Traffic.FIX]
WIDE = LimitsSection(all_per_s=1e6, all_burst=1_000_000, all_fixes_per_s=1e6)
GAPS = st.lists(st.floats(0, 2) | st.just(0.0), min_size=1, max_size=200)


def admitted(
    limits: Limits, times: list[float], terminal: str = ISSI, kind: Traffic = Traffic.QUESTION
) -> list[float]:
    return [at_s for at_s in times if limits.refusal(terminal, kind, at_s) is None]


@given(GAPS, st.floats(0.1, 50), st.integers(1, 30))
def test_no_window_holds_more_than_the_burst_and_what_time_gives(
    gaps: list[float], per_s: float, burst: int
) -> None:
    section = LimitsSection(per_s=per_s, burst=burst, all_per_s=1e6, all_burst=1_000_000)
    took = admitted(Limits(section, 0.0), list(accumulate(gaps)))
    for first in range(len(took)):
        for last in range(first, len(took)):
            window_s = took[last] - took[first]
            assert last - first + 1 <= burst + per_s * window_s + 1e-6


@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=200), st.sampled_from(KINDS))
def test_whoever_keeps_within_the_rate_is_never_refused(gaps: list[float], kind: Traffic) -> None:
    times = list(accumulate(gap + 1e-9 for gap in gaps))
    assert admitted(Limits(WIDE, 0.0), times, kind=kind) == times


@given(GAPS, st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 60)), max_size=60))
def test_a_flood_changes_nothing_for_anybody_else(
    gaps: list[float], flood: list[tuple[Traffic, int]]
) -> None:
    """The same verdicts with and without it, as long as the flood of one is not the flood of all:
    what its own bucket refuses takes nothing from the common one."""
    section = LimitsSection(all_per_s=1000.0, all_burst=20 + 200)
    times = list(accumulate(gaps))
    alone = admitted(Limits(section, 0.0), times, OTHER)
    limits = Limits(section, 0.0)
    for kind, n in flood:
        for _ in range(n):
            limits.refusal(ISSI, kind, 0.0)
    for _ in range(1000):
        limits.refusal(ISSI, Traffic.QUESTION, 0.0)
    assert admitted(limits, times, OTHER) == alone


def test_what_all_may_say_is_limited_too() -> None:
    """Each within its own, together too much: refused by the common bucket, and it refills."""
    limits = Limits(LimitsSection(burst=5, all_per_s=10.0, all_burst=50), 0.0)
    terminals = [str(n) for n in range(100)]
    verdicts = [limits.refusal(each, Traffic.QUESTION, 0.0) for each in terminals]
    assert verdicts == [None] * 50 + [Refusal(Scope.ALL, first=True)] * 50
    later = [limits.refusal(each, Traffic.QUESTION, 1.0) for each in terminals]
    assert later.count(None) == 10


def test_kinds_do_not_pay_for_each_other() -> None:
    limits = Limits(LimitsSection(), 0.0)
    for kind in KINDS:
        for _ in range(20):
            assert limits.refusal(ISSI, kind, 0.0) is None
        assert limits.refusal(ISSI, kind, 0.0) is not None


@given(st.lists(st.sampled_from([*KINDS, Traffic.EMERGENCY]), max_size=200))
def test_an_emergency_is_refused_only_while_its_alarm_stands(history: list[Traffic]) -> None:
    section = LimitsSection(per_s=0.1, burst=1, all_per_s=0.1, all_burst=1)
    limits = Limits(section, 0.0)
    for kind in [Traffic.EMERGENCY, *history]:
        limits.refusal(ISSI, kind, 0.0)
        assert limits.refusal(ISSI, Traffic.EMERGENCY, 0.0, alarm_open=False) is None
    assert limits.refusal(ISSI, Traffic.EMERGENCY, 0.0, alarm_open=True) is not None


def test_presses_of_others_never_use_up_ones_own() -> None:
    limits = Limits(LimitsSection(), 0.0)
    for n in range(10_000):
        limits.refusal(str(n), Traffic.EMERGENCY, 0.0, alarm_open=True)
    assert limits.refusal(ISSI, Traffic.EMERGENCY, 0.0, alarm_open=True) is None


def test_a_refusal_is_the_first_of_an_episode_once() -> None:
    """A terminal that floods on and on hears it once; after a quiet while it is a new episode."""
    limits = Limits(LimitsSection(per_s=0.1, burst=1, all_per_s=1.0), 0.0)
    firsts = []
    for n in range(600):  # a minute, ten a second
        refusal = limits.refusal(ISSI, Traffic.QUESTION, n / 10)
        limits.sweep(n / 10)
        if refusal is not None:
            firsts.append(refusal.first)
    assert firsts.count(True) == 1
    assert firsts[0]
    at_s = 60 + QUIET_S
    limits.sweep(at_s)
    assert limits.refusal(ISSI, Traffic.QUESTION, at_s) is None
    assert limits.refusal(ISSI, Traffic.QUESTION, at_s) == Refusal(Scope.TERMINAL, first=True)


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(KINDS), st.floats(0, 3))))
def test_memory_is_for_those_who_spoke_lately(moves: list[tuple[int, Traffic, float]]) -> None:
    """And forgetting a bucket changes no verdict: only full ones go."""
    swept, kept = Limits(LimitsSection(burst=3), 0.0), Limits(LimitsSection(burst=3), 0.0)
    now_s = 0.0
    for number, kind, gap_s in moves:
        now_s += gap_s
        swept.sweep(now_s)
        took = [each.refusal(str(number), kind, now_s) is None for each in (swept, kept)]
        assert took[0] == took[1]
    swept.sweep(now_s + QUIET_S + 30)
    assert len(swept) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    limits = Limits(LimitsSection(burst=1), 100.0)
    assert limits.refusal(ISSI, Traffic.QUESTION, 100.0) is None
    for at_s in (50.0, 0.0, 99.0, 100.0, 100.1):
        assert limits.refusal(ISSI, Traffic.QUESTION, at_s) is not None
    assert limits.refusal(ISSI, Traffic.QUESTION, 100.2) is None


def test_an_officer_has_one_bucket_that_fills_again() -> None:
    """20 at once, then two a minute; another officer has their own; a full one is forgotten."""
    limits = Limits(LimitsSection(officer_per_hour=120.0, officer_burst=20), 0.0)
    assert sum(limits.officer_may("1001", 0.0) for _ in range(30)) == 20
    assert limits.officer_may("1002", 0.0)
    assert [limits.officer_may("1001", at_s) for at_s in (29.0, 31.0, 32.0, 61.0)] == [
        False,
        True,
        False,
        True,
    ]
    limits.sweep(700.0)
    assert len(limits) == 0
