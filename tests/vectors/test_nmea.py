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
from adapters.links.serial_port import SerialLink
from gateway.app import SystemClock
from gateway.messages import BadFrame, Decoded, Envelope, Ignored, LocationFix
from gateway.settings import SerialSection
from tests.fakes import FakeJournal, FakeMeter
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


def oracle(path: Path) -> dict[int, dict[str, Any]]:
    """What gpsd reported of each moment (ms): lat, lon, and speed and track where it had them.

    It reports a moment more than once, as it learns more of it: what it first said, and what it
    added. A moment that it never gave a position is there, too, and empty.
    """
    found: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8", "replace").splitlines():
        if line.startswith("{"):
            report = json.loads(line)
            if report["class"] == "TPV" and "time" in report:
                of_moment = found.setdefault(ms(report["time"]), {})
                if "lat" in report:
                    of_moment.update(report)
    return found


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def compare(fixes: list[LocationFix], expected: dict[int, dict[str, Any]]) -> None:
    """Both agree about every moment: which have a position, where, how fast and which way.

    gpsd tells the time only once it has learned where a cycle ends, and leaves one out while it
    learns: the few moments that it says nothing of are not judged.
    """
    judged = [fix for fix in fixes if fix.fixed_at_ms in expected]
    moments = [fix.fixed_at_ms for fix in judged]
    assert set(moments) == {at for at, seen in expected.items() if seen}
    assert len(fixes) - len(judged) <= 3
    assert len(moments) == len(set(moments)), "one moment, two fixes"
    speeds = tracks = 0
    for fix in judged:
        assert fix.fixed_at_ms is not None
        seen = expected[fix.fixed_at_ms]
        assert abs(fix.lat - seen["lat"]) < 1e-6
        assert abs(fix.lon - seen["lon"]) < 1e-6
        assert not fix.repaired
        if fix.speed_mps is not None and "speed" in seen:
            assert abs(fix.speed_mps - seen["speed"]) < 0.01
            speeds += 1
        if fix.course_deg is not None and "track" in seen:
            assert abs(fix.course_deg - seen["track"]) < 0.05
            tracks += 1
    assert speeds > 0.8 * len(judged) > 10
    assert tracks > 0


@pytest.mark.parametrize("way", ["lines", "bytes", "whole"])
@pytest.mark.parametrize("name", sorted(LOGS))
def test_the_codec_agrees_with_gpsd(folder: Path, name: str, way: str) -> None:
    """Same moments, positions, speeds and courses; nothing rejected but what has no fix."""
    codec = codecs.create("nmea0183")
    path = folder / "nmea-gpsd" / name
    now_ms = ms(f"{LOGS[name]}T12:00:00Z")
    data = sentences(path)
    slices = {
        "lines": data.splitlines(keepends=True),
        "bytes": [data[at : at + 1] for at in range(len(data))],
        "whole": [data],
    }[way]
    decoded: list[Decoded] = []
    for piece in slices:
        decoded += codec.feed(piece, received_at_ms=now_ms)
    assert {each.reason for each in decoded if isinstance(each, BadFrame)} <= {"void"}
    assert len(decoded) == data.count(b"$"), "a sentence without a word about it"
    compare(
        [each for each in decoded if isinstance(each, LocationFix)],
        oracle(path.with_name(f"{name}.chk")),
    )


@pytest.mark.parametrize("name", sorted(LOGS))
async def test_through_a_pty_into_the_link(folder: Path, name: str) -> None:
    """The kernel splits the bytes where it likes; what the link hands over is gpsd's still."""
    path = folder / "nmea-gpsd" / name
    master, slave = os.openpty()
    tty.setraw(slave)
    envelopes: list[Envelope] = []
    up, meter = asyncio.Event(), FakeMeter()
    link = SerialLink(
        SerialSection(
            name="line",
            port=os.ttyname(slave),
            terminal="5001001",
            codec="nmea0183",
            reference_date=LOGS[name],
        ),
        instance="gwt",
        config_path=path,
        clock=SystemClock(),
        meter=meter,
        journal=FakeJournal(),
        known=lambda issi: issi == "5001001",
        codecs=codecs.create,
    )
    task = asyncio.ensure_future(link.run(envelopes.append, up.set))
    try:
        async with asyncio.timeout(30):
            await up.wait()
            data = sentences(path)
            for at in range(0, len(data), 999):
                await asyncio.to_thread(os.write, master, data[at : at + 999])
            while meter.total("link_receive_bytes_total") < len(data):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        os.close(master)
        os.close(slave)
    assert all(isinstance(each.message, LocationFix) for each in envelopes)
    compare(
        [each.message for each in envelopes if isinstance(each.message, LocationFix)],
        oracle(path.with_name(f"{name}.chk")),
    )


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
    by_ms = {at: report for at, report in oracle(path.with_name(f"{name}.chk")).items() if report}
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
    agreed = 0
    for moment, fix in seen.items():
        if moment in by_ms:
            assert abs(fix["lat"] - by_ms[moment]["lat"]) < 2e-6
            assert abs(fix["lon"] - by_ms[moment]["lon"]) < 2e-6
            agreed += 1
    assert agreed >= 0.8 * len(by_ms) > 10, f"{agreed} of {len(by_ms)}"


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


def test_what_a_codec_for_trackers_takes_in_addition(folder: Path) -> None:
    """Each line is to `t55` what it is to NMEA; but their own position is one, too."""
    own = 0
    for text in (folder / "nmea-t55" / "lines.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(text)
        tracker, data = entry.get("tracker", {}), entry["line"].encode() + b"\r\n"
        now = tracker.get("utc") or entry["expect"].get("utc") or "2023-11-09T16:44:20Z"
        told = codecs.create("t55").feed(data, received_at_ms=ms(now) + 5000)
        if "lat" not in tracker:
            plain = codecs.create("nmea0183").feed(data, received_at_ms=ms(now) + 5000)
            assert told == plain, entry["id"]
            continue
        own += 1
        (fix,) = told
        assert isinstance(fix, LocationFix)
        assert fix.fixed_at_ms == ms(tracker["utc"])
        assert (fix.lat, fix.lon, fix.course_deg) == (
            *(tracker["lat"], tracker["lon"]),
            tracker["course_deg"],
        )
        assert fix.speed_mps == tracker["speed_knots"] * KNOT_MPS
    assert own == 1
