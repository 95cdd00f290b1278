"""Every case of tests/corpus: streams three ways (whole, one byte at a time, with more behind)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from adapters import codecs
from adapters.codecs import keysds
from adapters.codecs.osmand import Osmand
from adapters.codecs.sds import Sds
from gateway.messages import Decoded
from gateway.ports import Codec
from tests.corpus import agree, cases, ms, payload, steps

NOW_MS = ms("2026-11-22T10:15:10Z")
WAYS = ("whole", "bytes", "more behind")


def fed(codec: Codec, data: bytes, way: str, now_ms: int, tail: bytes) -> list[Decoded]:
    """tail: the beginning of what comes next."""
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


def now_of(case: dict[str, Any]) -> int:
    """Of a case that was recorded, when that was."""
    return ms(case["now"]) if "now" in case else NOW_MS


NAMED: set[str] = set()


def named(codec: str) -> list[Any]:
    NAMED.add(codec)
    return [pytest.param(case, id=case["id"]) for case in cases(codec)]


def compare(found: list[Decoded], case: dict[str, Any]) -> None:
    assert len(found) == len(case["expect"]), found
    for each, expected in zip(found, case["expect"], strict=True):
        agree(each, expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", named("nmea0183"))
def test_nmea(case: dict[str, Any], way: str) -> None:
    codec = codecs.create("nmea0183", accept_estimated=case.get("accept_estimated", False))
    found: list[Decoded] = []
    parts = steps(case)
    for place, (now_ms, data) in enumerate(parts):
        last = place == len(parts) - 1
        found += fed(codec, data, way, now_ms, b"$GPRM" if last else b"")
    compare(found, case)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", named("gpsd_json"))
def test_gpsd(case: dict[str, Any], way: str) -> None:
    codec = codecs.create(
        "gpsd_json",
        accept_estimated=case.get("accept_estimated", False),
        device=case.get("device", ""),
    )
    ((now_ms, data),) = steps(case)
    compare(fed(codec, data, way, now_ms, b'{"class":"TPV"'), case)


@pytest.mark.parametrize("case", named("osmand"))
def test_osmand(case: dict[str, Any]) -> None:
    """What it says, and who it says that it is: nobody, where that cannot be read."""
    codec = Osmand(speed_unit=case.get("speed_unit", "kn"))
    data, now_ms, channel = payload(case), ms(case["now"]), case["channel"]
    said = codec.read(data, received_at_ms=now_ms, channel=channel)
    assert said.device == case["device"]
    compare(list(said.decoded), case)
    assert list(codec.feed(data, received_at_ms=now_ms, channel=channel)) == list(said.decoded)


@pytest.mark.parametrize("case", named("keysds"))
def test_keysds(case: dict[str, Any]) -> None:
    agree(keysds.parse(case["text"]), case["expect"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", named("line_terminal"))
def test_line_terminal(case: dict[str, Any], way: str) -> None:
    codec = codecs.create("line_terminal", side=case["side"])
    data = payload(case) if "hex" in case else case["data"].encode()
    compare(fed(codec, data, way, now_of(case), b"#S 1"), case)


@pytest.mark.parametrize("case", named("terminal_json"))
def test_terminal_json(case: dict[str, Any]) -> None:
    codec = codecs.create(
        "terminal_json", identity="5001001", side=case.get("side", "gateway"), max_payload=16384
    )
    found = codec.feed(payload(case), received_at_ms=now_of(case), channel=case["channel"])
    compare(list(found), case)


@pytest.mark.parametrize("case", named("lip"))
def test_lip(case: dict[str, Any]) -> None:
    options = {name: case[name] for name in ("side", "has_pid") if name in case}
    found = codecs.create("lip", **options).feed(payload(case), received_at_ms=ms(case["now"]))
    compare(list(found), case)


@pytest.mark.parametrize("case", named("sds"))
def test_sds(case: dict[str, Any]) -> None:
    """PDU after PDU of one terminal, and the reports that are owed for them."""
    codec, now_ms = Sds(**case.get("options", {})), ms("2026-11-22T14:30:20Z")
    found: list[Decoded] = []
    owed: list[str] = []
    for pdu in case["pdus"]:
        now_ms += 1000 * pdu.get("after_s", 0)
        data = bytes.fromhex(pdu["hex"])
        found += codec.feed(data, received_at_ms=now_ms, channel=pdu["channel"])
        owed += [reply.data.hex().upper() for reply in codec.replies()]
    compare(found, case)
    assert owed == case["replies"]


@pytest.mark.parametrize("case", named("owntracks"))
def test_owntracks(case: dict[str, Any]) -> None:
    codec = codecs.create("owntracks", identity="nora/phone", passphrase=case.get("passphrase", ""))
    compare(list(codec.feed(payload(case), received_at_ms=now_of(case))), case)


OTHERS = [name for name in sorted(codecs.REGISTRY) if name not in NAMED]
"""Whoever has a line in the registry, and no test of its own above."""


@pytest.mark.parametrize(
    ("codec", "case", "way"),
    [
        pytest.param(codec, case, way, id=f"{codec}/{case['id']}, {way}")
        for codec in OTHERS
        for case in cases(codec)
        for way in (WAYS if codecs.takes_lines(codec) else WAYS[:1])
    ],
)
def test_each_other_protocol(codec: str, case: dict[str, Any], way: str) -> None:
    """Its cases as those of nmea0183, or `hex` and `now`; `options` for its constructor."""
    made = codecs.create(codec, **case.get("options", {}))
    found: list[Decoded] = []
    for now_ms, data in steps(case) if "hex" not in case else [(ms(case["now"]), payload(case))]:
        found += fed(made, data, way, now_ms, b"$GPRM")
        if way == "more behind":
            made.feed(b"\r\n", received_at_ms=now_ms)
    compare(found, case)


def test_every_protocol_has_a_corpus() -> None:
    for name in codecs.REGISTRY:
        assert cases(name)


@pytest.mark.parametrize("codec", ["keysds", *sorted(codecs.REGISTRY)])
def test_no_case_stands_twice_and_each_names_its_source(codec: str) -> None:
    found = cases(codec)
    assert [name for name, n in Counter(case["id"] for case in found).items() if n > 1] == []
    assert [case["id"] for case in found if not case.get("source")] == []
