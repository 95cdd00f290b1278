"""The load generator itself, so that it does not rot: a few messages against a real mosquitto."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.bench import line, rig
from tests.services.mosquitto import Mosquitto


def test_the_receiver_says_sentences_that_are_right() -> None:
    said = line.sentences("mixed", 16).split(b"\r\n")[:-1]
    assert len(said) == 16
    assert said[0] != said[8]
    for each in said:
        body, _, tail = each[1:].partition(b"*")
        value = 0
        for byte in body:
            value ^= byte
        assert int(tail, 16) == value


async def test_every_message_comes_back_and_its_latency_counts_from_when_it_was_due(
    mosquitto: Mosquitto,
) -> None:
    specs = rig.split(
        "echo", mosquitto, rate=100, seconds=0.4, terminals=10, back="up/check", drain_s=20
    )
    seen = await rig.load(specs)
    assert seen.sent == len(seen.results) == 40
    assert seen.lost == seen.odd == 0
    assert all(ms > 0 for ms in seen.results)


@pytest.mark.slow
async def test_checks_are_asked_answered_and_read(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with rig.daemon(tmp_path / "gateway", mosquitto, terminals=10) as daemon:
        specs = rig.split(
            "check", mosquitto, rate=20, seconds=1, terminals=10, acks=True, drain_s=20
        )
        seen = await rig.load(specs)
        assert seen.sent == len(seen.results) == len(seen.receipts) == 20
        assert seen.refused == seen.odd == 0
        asked = await rig.metric(daemon, "gateway_checks_received_total")
        read = await rig.metric(daemon, "gateway_result_parts_total", state="read")
    assert (asked, read) == (20, 20)


async def test_the_ceiling_is_the_highest_rate_that_held() -> None:
    tried: list[float] = []

    class Seen:
        def __init__(self, rate: float) -> None:
            self.sustained = rate <= 1000

    async def attempt(rate: float) -> Seen:
        tried.append(rate)
        return Seen(rate)

    top, seen = await rig.ceiling(attempt, first=300)
    assert top == max(rate for rate in tried if rate <= 1000)
    assert seen.sustained
    assert 1000 / 1.12 < top <= 1000
    for rate, times in itertools.groupby(tried):
        assert len(list(times)) == (1 if rate <= 1000 else 2)  # a failure is tried once more
