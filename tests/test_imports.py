"""What may import what: no module escapes the contracts, and each contract can fail.

The contracts stand in pyproject.toml ([tool.importlinter]) and run with `./run lint`. Here each is
broken once, in a copy: a contract that nothing can break guards nothing.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
CONTRACTS = {each["id"]: each for each in LINTER["contracts"]}

ROOTS = {
    "gateway.app",
    "gateway.cli",
    "gateway.demo",
    "gateway.replay",
    "gateway.corpus_case",
    "gateway.__main__",
}
"""The composition roots and the command line: they alone know adapters."""
FLOOR = {
    "adapters.certificates",
    "adapters.client_tls",
    "adapters.dialling",
    "adapters.http_asking",
    "adapters.http_doors",
    "adapters.mqtt_access",
    "adapters.mqtt_client",
    "adapters.mqtt_pump",
    "adapters.server_tls",
    "adapters.strict_json",
}
SIMULATORS_MAY_USE = {
    "gateway.messages",
    "adapters.codecs",
    "adapters.pnc.mock",
    "adapters.register.mock",
}

BREAKS = [
    ("core", "gateway/tracking.py", "import sqlalchemy"),
    ("core", "gateway/policy.py", "import adapters.web"),
    ("core", "gateway/check_states.py", "from simulators import clock"),
    ("desks", "gateway/checks.py", "from gateway.delivery import Courier"),
    ("desks", "gateway/alarms.py", "import gateway.tracking"),
    ("layers", "gateway/messages.py", "import gateway.ports"),
    ("layers", "gateway/rendering.py", "import gateway.delivery"),
    ("layers", "gateway/bus.py", "import gateway.switchboard"),
    ("layers", "gateway/app.py", "import gateway.cli"),
    ("adapters", "adapters/web/server.py", "import adapters.ledger.schema"),
    ("adapters", "adapters/links/serial_port.py", "from adapters.codecs import create"),
    ("adapters-inwards", "adapters/ledger/store.py", "import gateway.checks"),
    ("adapters-inwards", "adapters/pnc/mock.py", "import simulators.faults_of_theirs"),
    ("codecs", "adapters/codecs/keysds.py", "import time"),
    ("codecs", "adapters/codecs/wire.py", "import logging"),
    ("codecs", "adapters/codecs/lines.py", "import asyncio"),
    ("simulators", "simulators/patrol.py", "import gateway.tracking"),
    ("simulators", "simulators/pty_radio.py", "import adapters.links"),
    ("simulators", "simulators/pnc_server.py", "import adapters.pnc.matching"),
    ("simulated-air", "simulators/tetra_air.py", "import adapters.codecs.keysds"),
    ("simulated-air", "simulators/tetra_handset.py", "from adapters import codecs"),
    ("who-simulates", "gateway/app.py", "import simulators.run"),
    ("floor", "adapters/mqtt_client.py", "import adapters.links"),
    ("mqtt-client", "adapters/web/stream.py", "import adapters.mqtt_client"),
    ("mqtt-client", "adapters/pnc/http.py", "import aiomqtt"),
    ("confined", "adapters/links/mqtt_broker.py", "import serial"),
    ("confined-mqtt", "adapters/links/mqtt_broker.py", "import paho.mqtt.client"),
]


def modules(package: str) -> Iterator[str]:
    """`gateway.bus`, `adapters.web.server` ...; a package counts as the name of its folder."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def first_level(package: str) -> set[str]:
    return {name for name in modules(package) if name.count(".") == 1}


def within(name: str, listed: set[str]) -> bool:
    """Whether the module or a package around it is listed."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in listed for end in range(1, len(parts) + 1))


def test_every_module_of_the_core_stands_in_its_contracts() -> None:
    """A new module is bound by the rules, or this test names it."""
    core = first_level("gateway") - ROOTS
    assert core == set(CONTRACTS["core"]["source_modules"])
    layers = {name.strip() for layer in CONTRACTS["layers"]["layers"] for name in layer.split("|")}
    assert core | ROOTS == layers


def test_every_adapter_stands_in_its_contracts() -> None:
    siblings = first_level("adapters") - FLOOR
    assert siblings == set(CONTRACTS["adapters"]["modules"])
    assert siblings == set(CONTRACTS["floor"]["forbidden_modules"])
    assert set(CONTRACTS["floor"]["source_modules"]) == FLOOR
    no_mqtt = siblings - {"adapters.links", "adapters.relays"}
    assert set(CONTRACTS["mqtt-client"]["source_modules"]) == no_mqtt


def test_simulators_may_use_four_rooms_and_are_barred_from_all_others() -> None:
    barred = set(CONTRACTS["simulators"]["forbidden_modules"])
    for name in (*modules("gateway"), *modules("adapters")):
        packages = {"gateway", "adapters", "adapters.pnc", "adapters.register"}
        if name in packages | {"gateway.__main__"}:
            continue
        assert within(name, barred) != within(name, SIMULATORS_MAY_USE), name


def test_all_that_simulates_tetra_is_barred_from_our_codecs() -> None:
    """A symmetric misreading in simulator and codec would pass every test of both."""
    tetra = {name for name in modules("simulators") if ".tetra_" in name}
    assert tetra == set(CONTRACTS["simulated-air"]["source_modules"])


def test_the_core_imports_the_standard_library_and_msgspec_only() -> None:
    """Whatever anybody adds to the dependencies: the contract names those of today."""
    allowed = sys.stdlib_module_names | {"msgspec", "gateway"}
    for name in first_level("gateway") - ROOTS:
        tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                used = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                used = {node.module or ""}
            else:
                continue
            assert {each.split(".")[0] for each in used} <= allowed, name


def test_every_contract_is_broken_once() -> None:
    assert {contract for contract, _, _ in BREAKS} == set(CONTRACTS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source in which every contract is kept."""
    copy = tmp_path_factory.mktemp("imports")
    for package in ("gateway", "adapters", "simulators"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy2(ROOT / "pyproject.toml", copy)
    kept = lint(copy)
    assert kept.returncode == 0, kept.stdout
    return copy


def lint(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", *options],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    BREAKS,
    ids=[f"{contract}: {line} in {file}" for contract, file, line in BREAKS],
)
def test_a_bad_import_breaks_its_contract(tree: Path, contract: str, file: str, line: str) -> None:
    """Broken with it (and kept without: the fixture), and the module is named."""
    path = tree / file
    before = path.read_text("utf-8")
    try:
        path.write_text(f"{before}\n\n{line}\n", "utf-8")
        done = lint(tree, "--contract", contract)
    finally:
        path.write_text(before, "utf-8")
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
    module = file.removesuffix(".py").replace("/", ".")
    assert module in done.stdout
