"""Every parser against inputs built from its grammar, briefly; `./run fuzz` does the same for long.

And the fuzzing itself: it finds what is planted, makes it short, keeps it, and replays it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import __main__ as fuzz
from tests.fuzz import findings, grammar
from tests.fuzz.targets import TARGETS, Target

SLOW = {"http": 60, **dict.fromkeys((name for name in TARGETS if name.startswith("config-")), 8)}
"""Examples where one costs milliseconds."""
FEWER = {"gpsd": 40}
"""Where one is many lines, each tried at every cut."""
EXAMPLES = 120


@pytest.mark.parametrize("name", TARGETS)
def test_only_declared_outcomes(name: str) -> None:
    """What each judge of tests/fuzz/targets.py says, on inputs that hypothesis chooses."""

    @settings(
        max_examples=SLOW.get(name, FEWER.get(name, EXAMPLES)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.randoms(use_true_random=False))
    def tried(r: Random) -> None:
        TARGETS[name].try_(TARGETS[name].made(r))

    tried()


KEPT = [
    pytest.param(name, data, id=f"{name}-{case}")
    for name in TARGETS
    for case, data in findings.kept(name)
]


@pytest.mark.parametrize(("name", "data"), KEPT)
def test_what_was_found_stays_mended(name: str, data: bytes) -> None:
    TARGETS[name].try_(data, weigh=True)


def test_every_finding_has_a_target_and_says_what_it_broke() -> None:
    for path in findings.FOLDER.glob("*.jsonl"):
        assert path.stem in TARGETS
        for line in path.read_text("utf-8").splitlines():
            assert json.loads(line)["source"]


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
def test_work_is_linear_in_what_came(name: str) -> None:
    """Lines of Python, counted: made long by repeating it, an input costs no more for each byte."""
    r = Random(name)
    for _ in range(12):
        data = TARGETS[name].made(r)
        TARGETS[name].try_(data, weigh=True)
        TARGETS[name].try_(data * (4000 // max(1, len(data)) + 1), weigh=True)


# --------------------------------------------------------------------------- the fuzzing itself


def planted(fault: Callable[[bytes], bool]) -> Target:
    def judge(data: bytes) -> int:
        assert not fault(data), "planted"
        return len(data) % 7

    return Target("planted", grammar.lines_of(grammar.line_up), judge)


def test_it_finds_keeps_and_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = planted(lambda data: b"R1" in data and b"\xff" in data)
    monkeypatch.setattr(findings, "FOLDER", tmp_path)
    monkeypatch.setitem(TARGETS, "planted", target)
    monkeypatch.setattr(findings.keep, "__defaults__", (tmp_path,))
    monkeypatch.setattr(findings.kept, "__defaults__", (tmp_path,))
    assert fuzz.main(["planted", "--seed", "1", "--executions", "20000"]) == 1
    said = capsys.readouterr().out
    ((_, data),) = findings.kept("planted")[:1]
    assert sorted(data) == sorted(b"R1\xff"), "made as short as it can be"
    assert f"./run fuzz planted --input {data.hex()}" in said
    with pytest.raises(AssertionError, match="planted"):
        fuzz.main(["planted", "--input", data.hex()])
    with pytest.raises(AssertionError, match="planted"):
        fuzz.main(["planted", "--replay"])


def test_the_same_seed_is_the_same_inputs() -> None:
    def inputs() -> list[bytes]:
        seen: list[bytes] = []
        target = planted(lambda data: bool(seen.append(data)))
        fuzz._hunt(target, 7, 60.0, 300)
        return seen

    assert inputs() == inputs()


def test_work_that_grows_too_fast_is_a_failure() -> None:
    def squared(data: bytes) -> int:
        n = 0
        for _ in data:
            for _ in data:
                n += 1
        return n

    # Only what is outside the tests is counted, so it must look as if it were.
    code = squared.__code__.replace(co_filename="adapters/squared.py")
    squared.__code__ = code
    target = Target("planted", grammar.splitter_stream, squared)
    target.try_(b"x" * 30, weigh=True)
    with pytest.raises(AssertionError, match="lines of Python"):
        target.try_(b"x" * 500, weigh=True)
