"""The documents as data: pages, links, code spans, and fenced blocks with the mark above them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block. mark: what an HTML comment on the line above says, else empty."""

    mark: str
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text("utf-8"))
    return [Block(each["mark"] or "", each["kind"], each["text"]) for each in found]


def marked(page: Path, mark: str) -> list[str]:
    """The texts of all blocks with this mark; none is an error of the test."""
    texts = [block.text for block in blocks(page) if block.mark == mark]
    assert texts, f"{page.name}: no block is marked {mark}"
    return texts


def links(page: Path) -> list[str]:
    """Where its links and pictures lead, as written."""
    return _LINK.findall(_BLOCK.sub("", page.read_text("utf-8")))


def spans(page: Path) -> list[str]:
    """What stands between backquotes, outside fenced blocks."""
    return _SPAN.findall(_BLOCK.sub("", page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads)
    return set(plain)
