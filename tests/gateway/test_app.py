"""What the composition root itself decides: what goes on over a restart."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import SystemClock, SystemIds, calm_collector

SHORT_FORMS = 8 * 4096
RUNS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 50)), min_size=1, max_size=12)
"""Of each run: checks that were made, and records beyond the one that each check has at least."""


@given(st.integers(0, 10**9), RUNS)
def test_no_short_form_comes_twice_over_restarts(records: int, runs: list[tuple[int, int]]) -> None:
    """A radio drops what it has by (reference, part): a reference that another check had minutes
    ago would lose an answer."""
    seen: set[str] = set()
    for checks, more in runs:
        ids = SystemIds()
        ids.go_on_after(records)
        for _ in range(checks):
            short = ids.check()[-4:]
            assert short not in seen
            seen.add(short)
        records += checks + more


def test_short_forms_are_all_used_before_one_comes_again() -> None:
    ids = SystemIds()
    assert len({ids.check()[-4:] for _ in range(SHORT_FORMS)}) == SHORT_FORMS


def test_an_id_is_unique_and_sorts_by_time() -> None:
    ids = SystemIds()
    made = [ids.check() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert [each[:10] for each in made] == sorted(each[:10] for each in made)
    assert all(len(each) == 26 for each in made)


def test_the_collector_leaves_alone_what_stands_at_the_start() -> None:
    before = gc.get_threshold()
    try:
        calm_collector()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_the_counter_is_the_machines_and_does_not_tell_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over restarts, another on another machine, none where there is no id."""
    file = tmp_path / "machine-id"
    monkeypatch.setattr("gateway.app.MACHINE", file)
    assert SystemClock().counter == ""
    file.write_text("\n")
    assert SystemClock().counter == ""
    file.write_text("0123456789abcdef0123456789abcdef\n")
    first = SystemClock().counter
    assert first == SystemClock().counter != ""
    assert first not in file.read_text()
    file.write_text("f123456789abcdef0123456789abcdef\n")
    assert SystemClock().counter != first
