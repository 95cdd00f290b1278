"""README and docs cannot rot: commands are run, options exist, links resolve, files are there."""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, links, marked, spans
from tests.fuzz import __main__ as fuzz
from tests.services import free_port
from tests.simulation import __main__ as simulation
from tests.soak import __main__ as soak
from tests.system.daemon import Daemon

README = ROOT / "README.md"
SCRIPT_WORDS = {"test", "lint", "fmt", "bench", "soak", "fuzz", "vectors"}
"""What `run` does itself; any other word goes to radio-gateway (tests/test_run.py)."""
OPTIONS_OF_SCRIPT = {
    "test": {"--all", "--rest"},
    "fuzz": set(fuzz.parser()._option_string_actions),
    "soak": set(soak.parser()._option_string_actions),
}
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def parsers(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """`audit verify` -> its parser, for every command there is."""
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                found |= parsers(inner, f"{name} {word}".strip())
    return found


COMMANDS = parsers(cli._parser())
SIMULATION = simulation.parser()._option_string_actions


def fault(text: str) -> str:
    """What is wrong with a command line that a document shows; empty when it is right."""
    words = shlex.split(text, comments=True)
    if words[0] == "./run" and words[1] in SCRIPT_WORDS:
        right = OPTIONS_OF_SCRIPT.get(words[1], set())
        unknown = {word for word in words[2:] if word.startswith("--")} - right
        return f"{text}: no option {unknown}" if unknown else ""
    if words[:2] == ["./run", "simulate"] and words[2].strip("[]") in SIMULATION:
        unknown = {w for word in words if (w := word.strip("[]")).startswith("--")} - {*SIMULATION}
        return f"{text}: no option {unknown}" if unknown else ""
    words = words[1:]
    name = ""
    while words and f"{name} {words[0]}".strip() in COMMANDS:
        name = f"{name} {words.pop(0)}".strip()
    if not name:
        return f"{text}: no such command"
    if any(isinstance(a, argparse._SubParsersAction) for a in COMMANDS[name]._actions) and words:
        return f"{text}: no such command"
    known = COMMANDS[name]._option_string_actions
    # In a description of a command, `[--from T]` stands for what may be left out.
    options = [word.strip("[]") for word in words if word.strip("[]").startswith("--")]
    unknown = {option for option in options if option not in known}
    return f"{text}: no option {unknown}" if unknown else ""


def command_lines(page: Path) -> list[str]:
    """Every call of ours that a page shows, in blocks and between backquotes."""
    lines = [
        line.strip()
        for block in blocks(page)
        if block.kind in {"sh", "bash", "console"}
        for line in re.split(r"\n|&&", block.text)
    ]
    return [
        line for line in (*lines, *spans(page)) if re.match(r"(\./run|radio-gateway) [a-z]", line)
    ]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_and_option_exists(page: Path) -> None:
    assert [said for line in command_lines(page) if (said := fault(line))] == []


def test_the_search_finds_what_does_not_exist() -> None:
    """The test above can fail."""
    assert fault("radio-gateway dmeo")
    assert fault("radio-gateway audit deny --config x")
    assert fault("./run demo --durations 3")
    assert fault("./run test --everything")
    assert fault("./run simulate --seeds 3 --minutes 4")
    assert fault("./run simulate demo --seeds 3")
    assert not fault("radio-gateway audit export --config F --purpose P [--from T]")
    assert len([line for page in PAGES for line in command_lines(page)]) > 20


def test_the_interfaces_name_every_command_with_every_option_it_must_have() -> None:
    """The table of commands in docs/interfaces.md is complete, and names no option that is not."""
    text = (ROOT / "docs" / "interfaces.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z][^`]*)` \|", text[: text.index("## MQTT")], re.M)
    assert [said for line in listed if (said := fault(f"radio-gateway {line}"))] == []
    named = {re.sub(r" [A-Z\[-].*", "", line) for line in listed}
    leaves = {
        name
        for name, parser in COMMANDS.items()
        if name and not any(isinstance(a, argparse._SubParsersAction) for a in parser._actions)
    }
    assert named == leaves


def test_default_paths_are_not_taken_by_something_else() -> None:
    """In a checkout, where the commands are tried: `run` is a script and no folder for lines."""
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            if isinstance(action.default, Path):
                path = ROOT / action.default
                wanted = path.is_file if action.metavar == "FILE" else path.is_dir
                assert wanted() or not path.exists(), f"{name}: {action.option_strings}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file or folder of this repository, and to a heading that is there."""
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """`config/gateway.toml` between backquotes is a promise, too."""
    rooms = "gateway|adapters|simulators|config|systemd|tests|docs"
    for span in spans(page):
        if re.fullmatch(rf"(?:{rooms})/[\w./-]*[\w/]", span):
            assert (ROOT / span).exists(), span


RUNS = [
    pytest.param(page, block, id=f"{page.name}: {block.text.splitlines()[0]}")
    for page in PAGES
    for block in blocks(page)
    if block.mark == "run"
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("page", "block"), RUNS)
def test_what_is_marked_to_run_runs(page: Path, block: Block) -> None:
    """As it stands, but that a demo takes a port of its own and ends sooner."""
    for line in block.text.splitlines():
        words = shlex.split(line)
        assert words[0] in {"./run", "radio-gateway"}, line
        if words[1] == "demo":
            words[words.index("--duration") + 1] = "3"
            words += ["--http-port", str(free_port())]
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *words[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.strip(), line


async def test_the_audit_commands_run_on_a_ledger_that_a_daemon_wrote(tmp_path: Path) -> None:
    """As docs/operations.md shows them, on another configuration."""
    daemon = Daemon(tmp_path)
    await daemon.start()
    await daemon.stop()
    (text,) = marked(ROOT / "docs" / "operations.md", "run: audit")
    for line in text.splitlines():
        words = shlex.split(line)
        words[words.index("--config") + 1] = str(daemon.config)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *words[1:]),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert out.strip(), line


def test_the_two_commands_stand_in_the_readme_as_ci_runs_them() -> None:
    """README, script and CI say the same words."""
    first = next(block.text.splitlines() for block in blocks(README) if block.kind == "sh")
    assert first == ["./run demo", "./run test"]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert re.findall(r"^\./run test.*?(?= #|$)", ci, re.M) == [
        "./run test",
        "./run test --all --rest",
    ]


def test_the_readme_says_what_it_is_not_and_how_to_stop_it() -> None:
    text = README.read_text("utf-8")
    for words in ("What it is not", "synthetic", "mock", "Stop it", "docs/page.png", "picture.svg"):
        assert words in text
    assert (ROOT / "docs" / "page.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (ROOT / "docs" / "picture.svg").read_text("utf-8").startswith("<svg ")


def test_every_decision_has_its_number_form_and_line() -> None:
    """ADRs: numbers without a hole, date and status, the three parts, listed in their index."""
    folder = ROOT / "docs" / "adr"
    pages = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(len(pages)))
    index = (folder / "README.md").read_text("utf-8")
    for page in pages[1:]:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]} "), page.name
        assert re.search(r"^\d{4}-\d\d-\d\d · (accepted|superseded by \d{4})$", text, re.M)
        parts = re.findall(r"^## (.+)$", text, re.M)
        assert parts == ["Context", "Decision", "Consequences"], page.name
        assert f"]({page.name})" in index, page.name
