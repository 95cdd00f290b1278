"""The documented sample config/gateway.toml: complete, true about its defaults, and it starts.

The sample is the only description of the configuration, so neither it nor the types may gain a
key alone. A key that is left out stands as `# key = value`, a section as `# [[table]]`; those lines
are read here, too.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import aiohttp
import msgspec
import pytest

from gateway import settings
from gateway.app import load
from gateway.settings import Settings
from tests.services import free_port
from tests.services.mosquitto import Mosquitto
from tests.system.seats import OPERATORS, log_in

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "config" / "gateway.toml"

NOT_THE_DEFAULT = {
    "gateway.state_dir",
    "slots.below_l3_s",
    "register.adapter",
    "serial.name",
    "serial.port",
    "serial.terminal",
    "mqtt.name",
    "cot.name",
    "tetra.name",
    "tetra.port",
    "gpsd.name",
    "osmand.name",
    "gpsd.terminal",
    "owntracks.name",
}
"""Where the sample shows something else than the default, or there is none."""


def sections() -> dict[str, type[msgspec.Struct]]:
    """Table -> its type, whether it stands once or may be repeated."""
    found = {}
    for field in msgspec.structs.fields(Settings):
        inner = get_args(field.type)
        found[field.name] = inner[0] if inner else field.type
    return found


def shown() -> dict[str, tuple[str, str]]:
    """`table.key` -> (value as text, the comment above it), commented-out keys included."""
    found: dict[str, tuple[str, str]] = {}
    table, comment, after_pair = "", "", False
    for line in SAMPLE.read_text("utf-8").splitlines():
        if header := re.fullmatch(r"(?:# )?\[+([a-z0-9]+)\]+", line):
            table, comment = header[1], ""
        elif pair := re.fullmatch(r"(?:# )?([a-z0-9_]+) = (.+)", line):
            assert f"{table}.{pair[1]}" not in found, f"{pair[1]} stands twice in [{table}]"
            found[f"{table}.{pair[1]}"] = (pair[2], comment)
            after_pair = True
        elif line.startswith("#"):
            comment = line[1:].strip() if after_pair else f"{comment} {line[1:].strip()}"
            after_pair = False
    return found


def test_the_sample_loads_with_everything_that_it_names() -> None:
    """Fleet, policy, words and the adapters' names included: what `check-config` says good to."""
    config = load(SAMPLE)
    assert [line.name for line in config.settings.serial] == ["serial-east"]
    assert [broker.name for broker in config.settings.mqtt] == ["mqtt"]
    assert config.state_dir.resolve() == ROOT / "var"


def test_sample_and_types_have_the_same_keys() -> None:
    """Neither gains a key alone."""
    known = {
        f"{table}.{field.encode_name}"
        for table, type_ in sections().items()
        for field in msgspec.structs.fields(type_)
    }
    assert set(shown()) == known


def test_what_stands_in_the_sample_is_the_default() -> None:
    """So that the file tells the defaults, and cannot tell them wrong."""
    for table, type_ in sections().items():
        for field in msgspec.structs.fields(type_):
            place = f"{table}.{field.encode_name}"
            if place in NOT_THE_DEFAULT:
                continue
            default: Any = field.default
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            text, _ = shown()[place]
            value = msgspec.convert(tomllib.loads(f"it = {text}")["it"], field.type)
            assert value == default, place


def test_every_key_is_explained_where_it_stands() -> None:
    """There are words above it; and a key that is in seconds, bytes or metres says so there."""
    units = {"_s": "second", "_mps": "metres a second", "_days": "day"}
    for place, (_, comment) in shown().items():
        assert len(comment) > 10, place
        for suffix, word in units.items():
            if place.endswith(suffix):
                assert word in comment.lower(), place


def test_a_key_that_is_not_the_default_says_what_is() -> None:
    assert 'default "var"' in shown()["gateway.state_dir"][1]
    assert "Default [], at once" in shown()["slots.below_l3_s"][1]
    assert 'Default "none"' in shown()["register.adapter"][1]


@pytest.fixture(params=["no broker", "mosquitto"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """The sample elsewhere, on ports that are free and with a state folder of its own."""
    broker = Mosquitto(tmp_path / "broker")
    for path in (ROOT / "config").glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    with (tmp_path / "people.toml").open("a", encoding="utf-8") as people:
        people.write(OPERATORS)
    (tmp_path / "pnc").symlink_to(ROOT / "config" / "pnc")
    text = SAMPLE.read_text("utf-8")
    for old, new in (
        ("port = 8080", f"port = {free_port()}"),
        ("\nport = 1883", f"\nport = {broker.port}"),
        ('state_dir = "../var"', 'state_dir = "var"'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / "gateway.toml"
    path.write_text(text, "utf-8")
    if request.param == "mosquitto":
        broker.start()
    yield path, request.param == "mosquitto"
    broker.kill()


async def test_the_daemon_starts_on_the_sample_without_its_devices(copy: tuple[Path, bool]) -> None:
    """A serial adapter that is not there, and a broker that is not, are links that are down."""
    path, with_broker = copy
    port = settings.load(path).settings.http.port
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "run", "--config", str(path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    wanted = {"serial-east": "down", "mqtt": "up" if with_broker else "down"}
    try:
        async with asyncio.timeout(60):
            while not listens(port):
                assert process.returncode is None
                await asyncio.sleep(0.05)
            session = await log_in(f"http://127.0.0.1:{port}")
            while (states := await links(port, session)) != states | wanted:
                assert process.returncode is None
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
        assert process.returncode == 0
        assert errors == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))


async def links(port: int, session: dict[str, str]) -> dict[str, str]:
    """Link -> state as the API shows it."""
    async with (
        aiohttp.ClientSession(headers=session) as http,
        http.get(f"http://127.0.0.1:{port}/api/v1/snapshot") as answer,
    ):
        picture = await answer.json()
    return {link["id"]: link["state"] for link in picture["links"]}
