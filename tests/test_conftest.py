"""In CI nothing is skipped in silence: the hooks of conftest.py, tried on files of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPS = {
    "in the test": "import pytest\ndef test_it():\n    pytest.skip('no broker')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no broker')\ndef test_it(): pass\n",
    "in a fixture": (
        "import pytest\n@pytest.fixture\ndef broker():\n    pytest.skip('no broker')\n"
        "def test_it(broker): pass\n"
    ),
    "the whole file": "import pytest\npytest.importorskip('no_broker')\ndef test_it(): pass\n",
}
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_it():\n    raise AssertionError\n"


def run(folder: Path, text: str, *, ci: bool) -> tuple[int, str]:
    """pytest with our conftest on one file; its exit code and output."""
    (folder / "test_one.py").write_text(text)
    environ = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", os.devnull),
            *("--rootdir", str(folder), "-p", "no:cacheprovider", str(folder)),
        ],
        cwd=ROOT,
        env={**environ, **({"CI": "true"} if ci else {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("text", SKIPS.values(), ids=SKIPS)
def test_a_skip_is_a_failure_in_ci_alone(tmp_path: Path, text: str) -> None:
    code, said = run(tmp_path, text, ci=True)
    assert code in {1, 2}, said
    assert "skipped in CI" in said
    assert "no" in said
    code, said = run(tmp_path, text, ci=False)
    assert code in {0, 5}, said
    assert "1 skipped" in said


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    code, said = run(tmp_path, EXPECTED, ci=True)
    assert code == 0, said
    assert "1 xfailed" in said
