"""Third-party logs against their own oracles; not part of the daily tests (`./run vectors`)."""

from __future__ import annotations

import asyncio
import json
import os
import tty
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from adapters import codecs
from gateway.messages import BadFrame, Decoded, Ignored, LocationFix
from tests.system.daemon import Daemon

KNOT_MPS = 0.514444
LOGS = {
    "gp-320fw-2019-04-06-overflow.log": "2019-04-06",
    "motorola-t805.log": "2007-12-18",
}

pytestmark = pytest.mark.vectors


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    folder = Path(request.config.getoption("--vectors"))
    assert folder.is_dir(), f"no test data at {folder}"
    return folder


def sentences(path: Path) -> bytes:
    lines = [line for line in path.read_bytes().splitlines() if not line.startswith(b"#")]
    return b"".join(line + b"\r\n" for line in lines if line)


def oracle(path: Path) -> dict[str, dict[str, Any]]:
    """What gpsd reported, by its time: lat, lon, and speed and track where it had them."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text("utf-8", "replace").splitlines():
        if line.startswith("{"):
            report = json.loads(line)
            if report["class"] == "TPV" and "time" in report and "lat" in report:
                found.setdefault(report["time"], {}).update(report)
    return found


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def compare(fixes: list[dict[str, Any]], expected: dict[str, dict[str, Any]]) -> int:
    """Each fix whose moment gpsd reported agrees with it; how many did."""
    by_ms = {ms(time): report for time, report in expected.items()}
    agreed = 0
    for fix in fixes:
        report = by_ms.get(fix["t_ms"])
        if report is None:
            continue
        assert abs(fix["lat"] - report["lat"]) < 1e-6
        assert abs(fix["lon"] - report["lon"]) < 1e-6
        if fix.get("speed_mps") is not None and "speed" in report:
            assert abs(fix["speed_mps"] - report["speed"]) < 0.01
        if fix.get("course_deg") is not None and "track" in report:
            assert abs(fix["course_deg"] - report["track"]) < 0.05
        agreed += 1
    return agreed


@pytest.mark.parametrize("name", sorted(LOGS))
def test_the_codec_agrees_with_gpsd(folder: Path, name: str) -> None:
    """Same moments, positions, speeds and courses; nothing rejected but what has no fix."""
    codec = codecs.create("nmea0183")
    path = folder / "nmea-gpsd" / name
    now_ms = ms(f"{LOGS[name]}T23:59:59Z")
    decoded: list[Decoded] = []
    for line in sentences(path).splitlines(keepends=True):
        decoded += codec.feed(line, received_at_ms=now_ms)
    fixes = [
        {
            "t_ms": each.fixed_at_ms,
            "lat": each.lat,
            "lon": each.lon,
            "speed_mps": each.speed_mps,
            "course_deg": each.course_deg,
        }
        for each in decoded
        if isinstance(each, LocationFix)
    ]
    assert {each.reason for each in decoded if isinstance(each, BadFrame)} <= {"void"}
    expected = oracle(path.with_name(f"{name}.chk"))
    agreed = compare(fixes, expected)
    assert agreed >= 0.9 * len(expected) > 10, f"{agreed} of {len(expected)}"


@pytest.mark.parametrize("name", sorted(LOGS))
async def test_through_a_pty_into_the_daemon(folder: Path, name: str, tmp_path: Path) -> None:
    """The real daemon on a real line: the fixes that come out of its stream are gpsd's."""
    path = folder / "nmea-gpsd" / name
    master, slave = os.openpty()
    tty.setraw(slave)
    daemon = Daemon(
        tmp_path,
        lines={"line": (os.ttyname(slave), "5001001")},
        sections={"tracking": {"oldest_s": 90000.0}},
    )
    text = daemon.config.read_text("utf-8")
    daemon.config.write_text(f'{text}reference_date = "{LOGS[name]}"\n', "utf-8")
    expected = oracle(path.with_name(f"{name}.chk"))
    seen: dict[int, dict[str, Any]] = {}
    try:
        await daemon.start()
        async with asyncio.timeout(60):
            for line in sentences(path).splitlines(keepends=True):
                os.write(master, line)
                if b"RMC" in line:
                    await asyncio.sleep(0.25)  # a snapshot may be 0.2 s old
                    row = next(
                        r for r in (await daemon.snapshot())["units"]["rows"] if r[1] == "E-101"
                    )
                    if row[6] is not None:
                        fix = {"t_ms": row[11], "lat": row[6] / 1e6, "lon": row[7] / 1e6}
                        seen[fix["t_ms"]] = fix
    finally:
        await daemon.close()
        os.close(master)
        os.close(slave)
    by_ms = {ms(time): report for time, report in expected.items()}
    agreed = 0
    for moment, fix in seen.items():
        if moment in by_ms:
            assert abs(fix["lat"] - by_ms[moment]["lat"]) < 2e-6
            assert abs(fix["lon"] - by_ms[moment]["lon"]) < 2e-6
            agreed += 1
    assert agreed >= 0.8 * len(expected) > 10, f"{agreed} of {len(expected)}"


def test_odd_lines_of_trackers(folder: Path) -> None:
    """Each line of T55-style trackers is what its entry says."""
    reasons = {"no checksum": "no_checksum", "bad checksum": "crc"}
    for text in (folder / "nmea-t55" / "lines.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(text)
        expect = entry["expect"]
        now = expect.get("utc") or "2023-11-09T16:44:20Z"
        codec = codecs.create("nmea0183")
        found = codec.feed(entry["line"].encode() + b"\r\n", received_at_ms=ms(now) + 5000)
        match expect["result"]:
            case "fix":
                fix = next(each for each in found if isinstance(each, LocationFix))
                assert abs(fix.lat - expect["lat"]) < 1e-6, entry["id"]
                assert abs(fix.lon - expect["lon"]) < 1e-6, entry["id"]
                if expect.get("speed_knots") is not None:
                    assert fix.speed_mps is not None
                    assert abs(fix.speed_mps - expect["speed_knots"] * KNOT_MPS) < 1e-6
                if "course_deg" in expect:
                    assert fix.course_deg == expect["course_deg"], entry["id"]
                if "utc" in expect:
                    assert fix.fixed_at_ms == ms(expect["utc"]), entry["id"]
            case "void":
                assert found == [BadFrame("void")], entry["id"]
            case "ignored":
                assert all(isinstance(each, Ignored) for each in found), entry["id"]
            case _:
                assert found == [BadFrame(reasons[expect["reason"]])], entry["id"]
