"""`radio-gateway factor`: what stands for a PIN in people.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapters.passwords import Passwords
from gateway.messages import Secret
from gateway.rulebook import Officer, People, check_people
from tests.gateway.strategies import FLEET


def made(typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "factor", "--memory-kib", "128"],
        input=f"{typed}\n",
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def people(factor: str) -> People:
    officer = Officer(
        collar="1", surname="TESTER", agency="police", role="constable", factor=factor
    )
    return People(version="1", officers=(officer,))


async def test_what_it_prints_is_taken_and_matches_the_pin() -> None:
    done = made("4711")
    assert (done.returncode, done.stderr) == (0, "")
    factor = done.stdout.strip()
    assert check_people(people(factor), FLEET, production=True) == []
    assert "4711" not in done.stdout.split("$")[-2]
    passwords = Passwords()
    assert await passwords.matches(factor, Secret("4711"))
    passwords.close()


@pytest.mark.parametrize("typed", ["471", "47 11", "4711$", "47é11"])
def test_what_no_radio_could_say_makes_none(typed: str) -> None:
    done = made(typed)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(typed) < 4 or typed not in done.stderr


@pytest.mark.parametrize("factor", ["4711", "plain:4711", "$argon2id$v=19$m=9999999,t=2,p=1$A$B"])
def test_a_pin_in_the_file_is_refused_and_not_quoted(factor: str) -> None:
    (finding,) = check_people(people(factor), FLEET, production=False)
    assert finding.startswith("officers[0].factor: what `radio-gateway factor` prints")
    assert factor not in finding
