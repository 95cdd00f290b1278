"""`run`, the one script a newcomer needs: each step's failure is its own, and it installs once.

The tools are stubs that write down how they were called, in a copy whose path has a blank in it:
what uv and the tests themselves do is not the question here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DAILY = "python -m pytest -m not slow and not vectors and not bench -n 2 --dist loadgroup"
SLOW = "python -m pytest -m slow -n 2 --dist loadgroup"
STEPS = ("ruff check", "ruff format", "mypy", "lint-imports", "python -m pytest")
"""What `./run test` does, in order."""

COMPILES = "python -m compileall -q gateway adapters simulators"

TOOL = """#!/bin/sh
line="${0##*/} $*"
printf '%s\\n' "$line" >>"$LOG"
case $line in
$FAIL*) exit 3 ;;
esac
"""
UV = """#!/bin/sh
printf 'uv %s\\n' "$*" >>"$LOG"
case $1 in
--version) echo "uv 0.9.0" ;;
sync)
    mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
    for each in ruff mypy lint-imports python radio-gateway; do
        cp "$TOOL" "$UV_PROJECT_ENVIRONMENT/bin/$each"
    done
    ;;
esac
exit "${UV_FAILS:-0}"
"""
OLD_PYTHON = "#!/bin/sh\n[ \"$1\" = --version ] || exit 1\necho 'Python 3.9.2'\n"


class Clone:
    """A copy of `run` and what it reads, with stubs for all that it calls."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "a clone"
        self.path.mkdir()
        for name in ("run", "uv.lock", "pyproject.toml"):
            shutil.copy2(ROOT / name, self.path / name)
        self.bin = tmp_path / "bin"
        self.bin.mkdir()
        self.log = tmp_path / "log"
        self.tool = self.stub("tool", TOOL)
        self.stub("uv", UV)

    def stub(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(
        self, *arguments: str, fail: str = "nothing", cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path / "run"), *arguments],
            cwd=cwd or self.path,
            env={
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "LOG": str(self.log),
                "TOOL": str(self.tool),
                "FAIL": fail,
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def calls(self) -> list[str]:
        """How the tools were called since the last time, without uv's questions of its version
        and without the compiling that belongs to an installation."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if line not in {"uv --version", COMPILES}]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_a_test_run_is_every_check_and_then_the_daily_tests(clone: Clone) -> None:
    """Style, form, types, import rules, tests: each once, in this order."""
    done = clone.run("test")
    assert done.returncode == 0, done.stderr
    install, *steps = clone.calls()
    assert install.startswith("uv sync --frozen")
    assert "--compile-bytecode" in install
    assert "--all-extras" in install
    assert [line for step, line in zip(STEPS, steps, strict=True) if line.startswith(step)] == steps
    assert steps[-1] == DAILY


def test_an_installation_compiles_what_a_start_loads(clone: Clone) -> None:
    """Once: a service that may not write into its folder is ready the sooner after each crash."""
    clone.run("test")
    clone.run("demo")
    assert clone.log.read_text().splitlines().count(COMPILES) == 1


def test_all_adds_the_slow_ones_and_rest_is_what_was_left_out(clone: Clone) -> None:
    """`test`, then `test --all --rest` (as CI does) is `test --all`: nothing twice, nothing not."""
    clone.run("test", "--all")
    together = clone.calls()[1:]
    clone.run("test")
    clone.run("test", "--all", "--rest")
    assert clone.calls() == together
    assert together[-1] == SLOW


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_ends_the_run(clone: Clone, step: str) -> None:
    """Its exit code comes through, and nothing after it is run."""
    done = clone.run("test", "--all", fail=step)
    assert done.returncode == 3
    assert clone.calls()[-1].startswith(step)


def test_slow_tests_that_fail_end_the_run_red(clone: Clone) -> None:
    assert clone.run("test", "--all", fail=SLOW).returncode == 3


def test_it_installs_once_and_again_when_the_lock_file_changes(clone: Clone) -> None:
    """A second start does not ask uv; a new lock file, or a broken installation, does."""
    clone.run("demo")
    assert [line.split()[0] for line in clone.calls()] == ["uv", "radio-gateway"]
    clone.run("demo")
    assert clone.calls() == ["radio-gateway demo"]
    (clone.path / "uv.lock").open("a").write("\n# changed\n")
    clone.run("demo")
    assert clone.calls()[0].startswith("uv sync")
    (clone.path / ".venv" / "bin" / "python").unlink()
    clone.run("demo")
    assert clone.calls()[0].startswith("uv sync")


def test_an_installation_that_fails_is_not_taken_for_a_good_one(clone: Clone) -> None:
    """It says so, starts nothing, and tries again next time."""
    done = clone.run("demo", UV_FAILS="2")
    assert done.returncode == 1
    assert "./run demo" in done.stderr
    assert [line.split()[0] for line in clone.calls()] == ["uv"]
    clone.run("demo")
    assert [line.split()[0] for line in clone.calls()] == ["uv", "radio-gateway"]


def test_the_demo_does_not_take_away_what_the_tests_need(clone: Clone) -> None:
    """`uv sync` removes what it is not asked for: after `test`, `demo` asks for no less."""
    clone.run("test")
    clone.calls()
    clone.run("demo")
    assert clone.calls() == ["radio-gateway demo"]


def test_other_words_go_to_radio_gateway_with_the_callers_paths(
    clone: Clone, tmp_path: Path
) -> None:
    """Blanks in arguments stay, `gateway` is no argument, and the folder is the caller's."""
    where = clone.stub("tool", f'{TOOL}\npwd >>"$LOG"\n').parent
    done = clone.run("gateway", "run", "--config", "my file.toml", cwd=where)
    assert done.returncode == 0
    assert clone.calls()[-2:] == ["radio-gateway run --config my file.toml", str(where)]
    assert clone.run("simulate", "pnc", fail="radio-gateway simulate").returncode == 3


def test_simulate_with_seeds_is_the_simulation_of_the_core(clone: Clone) -> None:
    """It needs what the tests need; with a scenario `simulate` is a command of radio-gateway."""
    assert clone.run("simulate", "--seeds", "3", "--from", "7").returncode == 0
    calls = clone.calls()
    assert calls[-1] == "python -m tests.simulation --seeds 3 --from 7"
    assert "--all-extras" in calls[-2]
    assert "--no-dev" not in calls[-2]
    for way in ("--from", "--hours"):
        assert clone.run("simulate", way, "2", fail="python -m tests.simulation").returncode == 3
    assert clone.run("simulate", "demo").returncode == 0
    assert clone.calls()[-1] == "radio-gateway simulate demo"


def test_test_data_is_looked_for_from_where_the_caller_stands(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    assert clone.run("vectors", "my data", cwd=tmp_path).returncode == 0
    assert clone.calls()[-1].endswith(f"-m vectors --vectors {tmp_path / 'my data'} tests/vectors")
    missing = clone.run("vectors", "elsewhere", cwd=tmp_path)
    assert missing.returncode == 1
    assert missing.stderr == ("no test data at elsewhere; say where it is: ./run vectors DIR\n")


def test_an_older_python_is_named_with_the_command_that_mends_it(clone: Clone) -> None:
    """One line, and nothing is installed."""
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        clone.stub(name, OLD_PYTHON)
    done = clone.run("demo")
    assert done.returncode == 1
    assert done.stderr == (
        "Python 3.11 or newer is needed (Python 3.9.2 here); "
        "mend it with: apt-get install -y python3\n"
    )
    assert clone.calls() == []


def test_neither_uv_nor_venv_nor_pip_is_one_line_with_the_command_that_mends_it(
    clone: Clone,
) -> None:
    clone.stub("uv", "#!/bin/sh\nexit 127\n")
    clone.stub("python3.11", '#!/bin/sh\n[ "$1" = -c ]\n')
    done = clone.run("demo")
    assert done.returncode == 1
    assert done.stderr == (
        "Python has neither venv nor pip here; mend it with: apt-get install -y python3-venv\n"
    )
    assert not (clone.path / ".uv").exists()


@pytest.mark.parametrize("old", ["uv 0.4.30", ""])
def test_a_uv_that_is_too_old_or_broken_is_not_used(clone: Clone, old: str) -> None:
    """It is had from PyPI instead; here PyPI is away, which is said in one line."""
    clone.stub("uv", f"#!/bin/sh\necho '{old}'\n")
    clone.stub("python3.11", '#!/bin/sh\n[ "$1" = -c ] || [ "$3" = --version ]\n')
    done = clone.run("demo")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "PyPI cannot be reached; mend the connection, then: ./run demo"
    )


def test_the_callers_environment_does_not_choose_the_code(clone: Clone) -> None:
    clone.stub("tool", 'printf "%s\\n" "${PYTHONPATH-unset} ${VIRTUAL_ENV-unset}" >>"$LOG"\n')
    clone.run("demo", PYTHONPATH="/elsewhere", VIRTUAL_ENV="/elsewhere")
    assert clone.calls()[-1] == "unset unset"


def test_help_names_every_word_that_the_script_takes(clone: Clone) -> None:
    """And needs nothing installed."""
    text = clone.run().stdout
    for word in ("demo", "test", "lint", "fmt", "bench", "soak", "fuzz", "vectors", "COMMAND"):
        assert f"./run {word} " in text
    assert clone.calls() == []
