"""What is wrong in a TOML file, said so that it can be mended: place, reason, line, what was meant.

A place is the way to a value as the file spells it: `mqtt[1].port`, `device_classes.phone.budget`.
Values are never quoted, but for words of a closed set: they may be somebody's name or secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

import msgspec

Place = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?")
_PAIR = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_"'-]+)*)\s*=""")
_WORD = re.compile(r"[^.\[\]]+")
_NAMED = re.compile(r"(serial|mqtt|tetra|gpsd|owntracks|osmand) ([a-z0-9-]+): ([a-z_]+):")


def faults(value: Any, type_: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every fault of a decoded value against its type, deepest place first known.

    type_: a msgspec Struct, tuple[T, ...], dict[str, T] or what msgspec.convert takes.
    """
    inner = get_args(type_)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and isinstance(value, Mapping):
        known = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        for key, each in value.items():
            if key in known:
                yield from faults(each, known[key].type, (*place, key))
            else:
                yield (*place, key), f"unknown; {nearest(key, known)}"
        for key, field in known.items():
            if field.required and key not in value:
                yield (*place, key), "missing"
    elif get_origin(type_) is tuple and inner[1:] == (...,) and isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from faults(each, inner[0], (*place, index))
    elif get_origin(type_) is dict and isinstance(value, Mapping):
        for key, each in value.items():
            yield from faults(each, inner[1], (*place, str(key)))
    else:
        try:
            msgspec.convert(value, type_)
        except msgspec.ValidationError as error:
            yield place, re.sub(r" - at `.*`\Z", "", str(error)).replace("`", "")


def nearest(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """What was probably meant; where nothing is near, what there is."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"


def spelt(place: Place) -> str:
    """`("mqtt", 1, "port")` as `mqtt[1].port`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")


class Lines:
    """On which line of a TOML text a place stands. A help for whoever looks, and no parser: a place
    inside a value of several lines, or an inline table, is on the line where the value begins."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        self._named: dict[tuple[str, str], Place] = {}
        table: Place = ()
        seen: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.fullmatch(line):
                table = _steps(header[2])
                if header[1] == "[[":
                    index = seen[header[2]] = seen.get(header[2], -1) + 1
                    table = (*table, index)
                self._lines.setdefault(table, number)
            elif pair := _PAIR.match(line):
                self._lines.setdefault((*table, *_steps(pair[1])), number)
                if pair[1] == "name" and len(table) > 1:
                    self._named[str(table[0]), line[pair.end() :].strip(" \"'")] = table

    def of(self, place: Place) -> int | None:
        """The line of the place, else of what is around it."""
        for end in range(len(place), 0, -1):
            if place[:end] in self._lines:
                return self._lines[place[:end]]
        return None

    def told(self, finding: str) -> str:
        """A finding that begins with its place (`http.host: ...`, `mqtt east: port: ...`), with
        its line behind it where that can be known."""
        place: Place
        if named := _NAMED.match(finding):
            table = self._named.get((named[1], named[2]))
            place = () if table is None else (*table, named[3])
        else:
            place = _steps(finding.partition(":")[0])
        line = self.of(place)
        return finding if line is None else f"{finding} (line {line})"


def _steps(text: str) -> Place:
    """`mqtt[1].port` as its steps; quotes go."""
    return tuple(
        int(step) if step.isdecimal() and f"[{step}]" in text else step.strip(" \"'")
        for step in _WORD.findall(text)
    )
