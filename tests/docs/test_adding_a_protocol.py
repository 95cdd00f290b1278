"""The page about adding a protocol: one file, one line, one folder, and it is all there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from adapters import codecs
from tests.adapters.codecs import test_corpora
from tests.contracts import test_codecs
from tests.corpus import cases
from tests.docs.pages import ROOT
from tests.fuzz.targets import TARGETS

PAGE = (ROOT / "docs" / "adding-a-protocol.md").read_text("utf-8")
CODEC = ROOT / "adapters" / "codecs" / "t55.py"
REGISTRY = ROOT / "adapters" / "codecs" / "__init__.py"
CASES = ROOT / "gateway" / "corpus_case.py"
"""Makes cases of recorded faults, where it has a rule for the identities in them; and says so where
it has none. A protocol is whole without."""
CORPUS = ROOT / "tests" / "corpus" / "t55"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_file_is_the_one_on_the_page() -> None:
    assert block("python") == CODEC.read_text("utf-8")


def test_the_registry_differs_by_one_line() -> None:
    """The diff of the page can be taken back; and without that line nobody knows of it."""
    added = [line for line in block("diff").splitlines() if re.match(r"\+(?!\+)", line)]
    assert [line[1:].strip() for line in added] == ["t55.T55"]
    undone = subprocess.run(
        ["git", "apply", "--check", "--reverse", "-"],
        cwd=ROOT,
        input=block("diff").encode(),
        capture_output=True,
        check=False,
    )
    assert undone.returncode == 0, undone.stderr.decode()
    assert "t55" in codecs.REGISTRY
    assert len(re.findall(r"(?i)t55", REGISTRY.read_text("utf-8"))) == 2, "module and class"


def test_the_corpus_is_where_the_page_says_and_has_what_it_shows() -> None:
    told = [
        line for path in sorted(CORPUS.glob("*.jsonl")) for line in path.read_text().split("\n")
    ]
    shown = block("json").splitlines()
    assert len(shown) == 3
    assert all(line in told for line in shown)
    assert {path.suffix for path in CORPUS.iterdir()} == {".jsonl"}
    assert len(cases("t55")) > 30


def test_nothing_else_knows_of_it() -> None:
    """No other file of the product, its configuration, or the suites that prove it."""
    places = ["adapters", "gateway", "simulators", "config", "pyproject.toml"]
    places += ["tests/contracts/test_codecs.py", "tests/fuzz", "tests/corpus/__init__.py"]
    places += ["tests/adapters/codecs/test_corpora.py"]
    files = [
        path
        for place in places
        for path in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*"))
        if path.is_file() and path.suffix in {".py", ".toml"}
    ]
    assert len(files) > 100
    knowing = {path for path in files if re.search(r"(?i)\bt55\b", path.read_text("utf-8"))}
    assert knowing - {CASES} == {CODEC, REGISTRY}


def test_and_yet_every_suite_tries_it() -> None:
    assert "t55" in test_codecs.NAMES
    assert "t55" in test_codecs.STREAMS
    assert "t55" in test_corpora.OTHERS
    assert "t55" in TARGETS


def test_the_files_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:adapters|config|gateway|tests)/[\w./-]+)`", PAGE))
    assert len(named) >= 10
    assert [name for name in named if not (ROOT / Path(name)).exists()] == []
