"""`./run simulate --seeds`: what it says of a good world, and of one that is not."""

from __future__ import annotations

import pytest

from tests.simulation import __main__ as simulate
from tests.simulation import oracles
from tests.simulation.world import World


def test_good_worlds_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--seeds", "2", "--from", "7", "--hours", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "2 worlds, 0.1 simulated hours" in said
    assert "never met: " in said, "two short worlds cannot have met everything"


def test_a_fault_names_the_seed_and_the_command_that_plays_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a world ends in an error of its own; the next one is played all the same."""

    def finds(world: World) -> None:
        assert world.base.settings.checks.queue < 0, "I99: planted"

    monkeypatch.setattr(oracles, "joined", finds)
    assert simulate.main(["--seeds", "2", "--from", "7", "--hours", "0.05"]) == 1
    said = capsys.readouterr().out
    assert "I99: planted" in said
    assert "./run simulate --seeds 1 --from 7 --hours 0.05" in said
    assert "./run simulate --seeds 1 --from 8 --hours 0.05" in said
    assert "2 faulty" in said


def test_the_trace_is_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    simulate.main(["--seeds", "1", "--hours", "0.01", "--trace"])
    assert " event CheckOpened\n" in capsys.readouterr().out
