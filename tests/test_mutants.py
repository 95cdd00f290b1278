"""Every safety rule has a mutant: a patch that breaks it must turn its test red.

A patch under tests/mutants begins with `# rule: ...` and `# red: tests/...::test`; it is applied
to a copy of the tree, and the named test is run there. A mutant that survives means a rule that
nothing guards; a patch that no longer applies must be written anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
COPIED = ("gateway", "adapters", "simulators", "config", "tests", "systemd", "docs")
FILES = ("pyproject.toml", "README.md")
TESTS_FAILED = 1
"""pytest's exit code for red tests; anything else (no such test, broken import) proves nothing."""
LIMIT_S = 240
ALL_LIMIT_S = 900
"""All of them, one after the other."""


def header(patch: Path, key: str) -> str:
    """What stands behind `# key:` at the head of a patch."""
    found = re.search(rf"^# {key}: (.+)$", patch.read_text("utf-8"), re.MULTILINE)
    assert found, f"{patch.name}: no `# {key}: ...` line"
    return found[1].strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the tests need, once; each mutant is taken back after its run."""
    copy = tmp_path_factory.mktemp("mutants") / "tree"
    leave = shutil.ignore_patterns("__pycache__", "node_modules", "var")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=leave)
    for name in FILES:
        shutil.copy2(ROOT / name, copy / name)
    return copy


def run(tree: Path, test: str, within_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(tree),
        "GATEWAY_MUTANT": "1",  # tests/conftest.py: the same examples each time
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *test.split()],
        cwd=tree,
        env=environ,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def test_there_are_mutants_and_each_says_what_it_breaks() -> None:
    assert len(MUTANTS) >= 10
    for patch in MUTANTS:
        assert header(patch, "rule")
        assert header(patch, "red").startswith("tests/")


def test_each_mutant_applies() -> None:
    """Found with the change that moved its lines, and not only when it is tried."""
    check = ["git", "apply", "--check", "--whitespace=nowarn"]
    moved = [
        patch.name
        for patch in MUTANTS
        if subprocess.run([*check, str(patch)], cwd=ROOT, capture_output=True).returncode
    ]
    assert moved == []


@pytest.mark.slow
@pytest.mark.timeout(ALL_LIMIT_S + 60)
def test_the_tests_are_green_without_a_mutant(tree: Path) -> None:
    """Else a red one would prove nothing."""
    named = sorted({part for patch in MUTANTS for part in header(patch, "red").split()})
    done = run(tree, " ".join(named), ALL_LIMIT_S)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("patch", MUTANTS, ids=lambda path: path.stem)
def test_a_mutant_is_caught(tree: Path, patch: Path) -> None:
    """The rule is broken; the test that guards it must say so."""
    apply = ["git", "apply", "--whitespace=nowarn", str(patch)]
    applied = subprocess.run(apply, cwd=tree, capture_output=True, text=True, check=False)
    assert applied.returncode == 0, f"{patch.name} no longer applies: {applied.stderr}"
    try:
        done = run(tree, header(patch, "red"))
    finally:
        subprocess.run([*apply, "-R"], cwd=tree, check=True, capture_output=True)
    assert done.returncode == TESTS_FAILED, (
        f"{patch.name}: {header(patch, 'rule')}: exit {done.returncode}\n{done.stdout[-2000:]}"
    )
