"""Ed25519 under a policy, by the command line as two approvers use it."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from adapters.seals import Ed25519Seals
from gateway.cli import main
from gateway.policy_seal import PREFIX, approved_by
from gateway.rulebook import check_policy
from tests.gateway.strategies import CONFIG, POLICY

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line: exit code, what it printed, what it complained of."""

    def ran(*words: str | Path) -> tuple[int, str, str]:
        code = main(["policy", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return ran


def test_two_approvers_seal_a_policy_and_a_later_change_breaks_it(run: Run, tmp_path: Path) -> None:
    policy = Path(shutil.copy(Path(CONFIG) / "policy.toml", tmp_path))
    approvers = {}
    for name in ("anna", "bert"):
        code, out, _ = run("key", tmp_path / f"{name}.key", "--name", name)
        assert code == 0
        said, _, public = out.strip().partition(" = ")
        approvers[said] = public.strip('"')
        assert stat.S_IMODE((tmp_path / f"{name}.key").stat().st_mode) == 0o600
        assert run("seal", policy, "--key", tmp_path / f"{name}.key", "--name", name)[0] == 0
    assert check_policy(msgspec.structs.replace(POLICY, approvers=approvers)) == []
    seal = (tmp_path / "policy.toml.seal").read_text()
    data = policy.read_bytes()
    assert approved_by(data, seal, approvers, Ed25519Seals()) == ["anna", "bert"]
    assert approved_by(data + b"#", seal, approvers, Ed25519Seals()) == []
    swapped = {"anna": approvers["bert"], "bert": approvers["anna"]}
    assert approved_by(data, seal, swapped, Ed25519Seals()) == []
    assert run("key", tmp_path / "anna.key", "--name", "anna")[0] == 1, "never over another"


@pytest.mark.parametrize("bad", ["", "AAAA", "not base64", "Ü"])
def test_what_is_no_key_or_signature_is_false(bad: str) -> None:
    assert not Ed25519Seals().valid(bad, bad, PREFIX)


def test_what_is_no_key_seals_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.key").write_text("no key")
    shutil.copy(Path(CONFIG) / "policy.toml", tmp_path)
    bad = tmp_path / "bad.key"
    assert run("seal", tmp_path / "policy.toml", "--key", bad, "--name", "anna")[0] == 1
    assert not (tmp_path / "policy.toml.seal").exists()
