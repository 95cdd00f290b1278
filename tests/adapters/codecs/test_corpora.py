"""Every case of tests/corpus, fed three ways: whole, one byte at a time, with more behind."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import codecs
from adapters.codecs import keysds
from gateway.messages import Decoded
from tests.corpus import agree, cases, ms

NOW_MS = ms("2026-11-22T10:15:10Z")
WAYS = ("whole", "bytes", "more behind")
BEHIND = b"#S 9\r\n"


def fed(codec: Any, data: bytes, way: str, now_ms: int, tail: bytes = b"") -> list[Decoded]:
    match way:
        case "whole":
            return list(codec.feed(data, received_at_ms=now_ms))
        case "bytes":
            out: list[Decoded] = []
            for place in range(len(data)):
                out += codec.feed(data[place : place + 1], received_at_ms=now_ms)
            return out
        case _:
            return list(codec.feed(data + tail, received_at_ms=now_ms))


def named(codec: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in cases(codec)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", named("nmea0183"))
def test_nmea(case: dict[str, Any], way: str) -> None:
    codec = codecs.create("nmea0183", accept_estimated=case.get("accept_estimated", False))
    data = "".join(f"{line}\r\n" for line in case["lines"]).encode()
    found = fed(codec, data, way, ms(case["now"]), b"$GPRM")
    assert len(found) == len(case["expect"]), found
    for each, expected in zip(found, case["expect"], strict=True):
        agree(each, expected)


@pytest.mark.parametrize("case", named("keysds"))
def test_keysds(case: dict[str, Any]) -> None:
    found = keysds.parse(case["text"])
    agree(found, case["expect"])
    if case["expect"]["is_"] == "malformed" and len(case["text"].strip()) > 3:
        assert case["text"].upper() not in found.why  # type: ignore[union-attr]  # never quoted


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", named("line_terminal"))
def test_line_terminal(case: dict[str, Any], way: str) -> None:
    codec = codecs.create("line_terminal", side=case["side"])
    found = fed(codec, case["data"].encode(), way, NOW_MS, b"#S 1")
    assert len(found) == len(case["expect"]), found
    for each, expected in zip(found, case["expect"], strict=True):
        agree(each, expected)


@pytest.mark.parametrize("case", named("terminal_json"))
def test_terminal_json(case: dict[str, Any]) -> None:
    codec = codecs.create("terminal_json", identity="5001001")
    found = codec.feed(
        case["payload"].encode("utf-8", "surrogatepass"),
        received_at_ms=NOW_MS,
        channel=case["channel"],
    )
    assert len(found) == len(case["expect"]), found
    for each, expected in zip(found, case["expect"], strict=True):
        agree(each, expected)
