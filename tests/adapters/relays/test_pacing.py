"""Which units are to be said, and when."""

from __future__ import annotations

from adapters.relays.pacing import Pacing


def test_the_first_news_is_said_at_once_and_the_next_in_its_time() -> None:
    pacing = Pacing(5.0)
    assert pacing.news("1", 100.0, position=True) == ""
    assert pacing.due(100.0, 10) == ["1"]
    assert pacing.news("1", 101.0, position=True) == ""
    assert (pacing.due(101.0, 10), pacing.next_s()) == ([], 105.0)
    assert pacing.due(105.0, 10) == ["1"]
    assert (pacing.next_s(), len(pacing)) == (None, 0)


def test_what_was_replaced_is_told_by_where_it_waited() -> None:
    pacing = Pacing(5.0)
    pacing.news("1", 100.0, position=True)
    assert pacing.news("1", 100.1, position=True) == "conflated", "ready, and nobody took it"
    pacing.due(100.1, 10)
    pacing.news("1", 101.0, position=True)
    assert pacing.news("1", 102.0, position=True) == "shed", "not its time"
    assert len(pacing) == 1


def test_all_at_once_leaves_nothing_for_later() -> None:
    pacing = Pacing(5.0)
    pacing.news("1", 100.0, position=True)
    pacing.due(100.0, 10)
    pacing.news("1", 101.0, position=True)
    pacing.at_once(["1", "2"])
    assert pacing.next_s() is None
    assert sorted(pacing.due(101.0, 10)) == ["1", "2"]
    assert pacing.due(200.0, 10) == []


def test_a_turn_is_bounded_and_who_waited_longest_is_first() -> None:
    pacing = Pacing(0.0)
    for n in range(5):
        pacing.news(str(n), 100.0, position=True)
    assert pacing.due(100.0, 2) == ["0", "1"]
    assert pacing.due(100.0, 2) == ["2", "3"]


def test_who_comes_back_is_new() -> None:
    pacing = Pacing(5.0)
    pacing.news("1", 100.0, position=True)
    pacing.due(100.0, 10)
    pacing.forget("1")
    pacing.news("1", 101.0, position=True)
    assert pacing.due(101.0, 10) == ["1"]


def test_a_position_alone_is_lost_by_a_position_alone() -> None:
    """That everything is said again, or another status, replaces no position."""
    pacing = Pacing(5.0)
    pacing.at_once(["1"])
    assert pacing.news("1", 100.0, position=True) == ""
    assert pacing.news("1", 100.0, position=False) == ""
    pacing.at_once(["1"])
    assert pacing.news("1", 100.0, position=True) == "conflated"
