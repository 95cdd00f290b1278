"""What gpsd itself said of third-party logs, through the codec that reads it (`./run vectors`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import codecs
from gateway.messages import BadFrame, LocationFix
from tests.vectors.test_nmea import LOGS, folder, ms, oracle, sentences

__all__ = ["folder"]

pytestmark = pytest.mark.vectors


@pytest.mark.parametrize("name", sorted(LOGS))
def test_gpsd_and_its_receiver_are_read_alike(folder: Path, name: str) -> None:
    """Each moment with a position once, where gpsd said it first; nothing else is one; where the
    sentences themselves have that moment, they have it there."""
    path = folder / "nmea-gpsd" / name
    now_ms = ms(f"{LOGS[name]}T12:00:00Z")
    answers = path.with_name(f"{name}.chk")
    reports = b"".join(
        line + b"\r\n" for line in answers.read_bytes().splitlines() if line.startswith(b"{")
    )
    found = codecs.create("gpsd_json").feed(reports, received_at_ms=now_ms)
    assert {each.reason for each in found if isinstance(each, BadFrame)} <= {"void"}
    fixes = [each for each in found if isinstance(each, LocationFix)]
    timed = {fix.fixed_at_ms: fix for fix in fixes if fix.fixed_at_ms is not None}
    expected = {at: seen for at, seen in oracle(answers).items() if seen}
    assert set(timed) == set(expected)
    assert len(fixes) - len(timed) <= 2, "one moment, two fixes"
    heard = codecs.create("nmea0183").feed(sentences(path), received_at_ms=now_ms)
    of_receiver = {fix.fixed_at_ms: fix for fix in heard if isinstance(fix, LocationFix)}
    alike = 0
    for at, fix in timed.items():
        assert abs(fix.lat - expected[at]["lat"]) < 1e-6
        assert abs(fix.lon - expected[at]["lon"]) < 1e-6
        assert not fix.repaired
        if (own := of_receiver.get(at)) is not None:
            assert abs(fix.lat - own.lat) < 1e-6
            assert abs(fix.lon - own.lon) < 1e-6
            alike += 1
    assert alike > 0.8 * len(timed) > 10
