"""Ed25519 under a policy, by the command line as two approvers use it."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from adapters.seals import Ed25519Seals
from gateway.policy_seal import PREFIX, approved_by
from gateway.rulebook import check_policy
from tests.gateway.strategies import CONFIG, POLICY

ROOT = Path(__file__).parents[2]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "policy", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_two_approvers_seal_a_policy_and_a_later_change_breaks_it(tmp_path: Path) -> None:
    policy = Path(shutil.copy(Path(CONFIG) / "policy.toml", tmp_path))
    approvers = {}
    for name in ("anna", "bert"):
        made = run("key", tmp_path / f"{name}.key", "--name", name)
        assert made.returncode == 0, made.stderr
        said, _, public = made.stdout.strip().partition(" = ")
        approvers[said] = public.strip('"')
        assert stat.S_IMODE((tmp_path / f"{name}.key").stat().st_mode) == 0o600
        done = run("seal", policy, "--key", tmp_path / f"{name}.key", "--name", name)
        assert done.returncode == 0, done.stderr
    assert check_policy(msgspec.structs.replace(POLICY, approvers=approvers)) == []
    seal = (tmp_path / "policy.toml.seal").read_text()
    data = policy.read_bytes()
    assert approved_by(data, seal, approvers, Ed25519Seals()) == ["anna", "bert"]
    assert approved_by(data + b"#", seal, approvers, Ed25519Seals()) == []
    swapped = {"anna": approvers["bert"], "bert": approvers["anna"]}
    assert approved_by(data, seal, swapped, Ed25519Seals()) == []
    assert run("key", tmp_path / "anna.key", "--name", "anna").returncode == 1, "never over another"


@pytest.mark.parametrize("bad", ["", "AAAA", "not base64", "Ü"])
def test_what_is_no_key_or_signature_is_false(bad: str) -> None:
    assert not Ed25519Seals().valid(bad, bad, PREFIX)


def test_what_is_no_key_seals_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.key").write_text("no key")
    shutil.copy(Path(CONFIG) / "policy.toml", tmp_path)
    done = run("seal", tmp_path / "policy.toml", "--key", tmp_path / "bad.key", "--name", "anna")
    assert done.returncode == 1
    assert not (tmp_path / "policy.toml.seal").exists()
