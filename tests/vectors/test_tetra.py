"""TETRA's examples, some of them captures of other people (`./run vectors`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters import codecs
from adapters.codecs import keysds, lip, sds_pdu, sds_text
from adapters.codecs.sds import Sds
from gateway.messages import BadFrame, Decoded, Heartbeat, Locate, LocationFix, StatusReport
from tests.adapters.links.test_tetra_pei import heard

NOW_MS = 1_795_342_510_000
"""2026-11-22T10:15:10Z."""

pytestmark = pytest.mark.vectors


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    folder = Path(request.config.getoption("--vectors"))
    assert folder.is_dir(), f"no test data at {folder}"
    return folder


def vectors(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def octets(vector: dict[str, Any]) -> bytes:
    """Cut to what the header announced, then padded."""
    digits = vector["hex"]
    if vector["header_bits"] is not None:
        digits = digits[: -(-vector["header_bits"] // 4)]
    return bytes.fromhex(digits + "0" * (len(digits) % 2))


def test_every_location_report(folder: Path) -> None:
    found = vectors(folder / "tetra" / "lip.jsonl")
    assert len(found) == 18
    for vector in found:
        if vector.get("direction") == "to-radio":
            (frame,) = codecs.create("lip").encode(Locate())
            assert frame.data == octets(vector)
            continue
        report = lip.read(octets(vector), has_pid=vector["has_pid"])
        assert report is not None, vector["id"]
        _as_bits(vector["id"], report, vector["expect"])
        codec = codecs.create("lip", has_pid=vector["has_pid"])
        said = codec.feed(octets(vector), received_at_ms=NOW_MS)
        _as_messages(vector["id"], list(said), vector["expect"])


def _as_bits(id_: str, report: lip.Report, expect: dict[str, Any]) -> None:
    assert report.kind == expect["type"], id_
    for name in ("time_elapsed", "lon_raw", "lat_raw", "shape", "reason", "user_data", "bits_used"):
        assert getattr(report, name) == expect.get(name), (id_, name)
    assert report.ack_request == bool(expect.get("ack_request")), id_
    at = tuple(expect.get(name) for name in ("day", "hour", "minute", "second"))
    assert report.at == (at if expect.get("time_type") == 2 else None), id_
    speed_kmh = expect.get("speed_kmh")
    if speed_kmh is None:
        assert report.speed_kmh is None, id_
    else:
        assert report.speed_kmh == pytest.approx(speed_kmh, abs=0.01), id_
        assert report.heading_deg == expect["heading_deg"], id_
    assert report.altitude_m == expect.get("altitude_m"), id_
    if "hunc_m" in expect:
        hunc_m = expect["hunc_m"]
        assert report.accuracy_m == (None if hunc_m is None else pytest.approx(hunc_m, abs=0.01))
    if "position_error" in expect:
        assert report.accuracy_m == lip.ERROR_M[expect["position_error"]], id_


def _as_messages(id_: str, said: list[Decoded], expect: dict[str, Any]) -> None:
    emergency = expect.get("reason") == lip.EMERGENCY_REASON
    assert (said[0] == StatusReport(code=0)) == emergency, id_
    last = said[-1]
    if expect.get("shape") == 0:
        assert last == Heartbeat(), id_
    elif (expect["lon_raw"], expect["lat_raw"]) == (0, 0):
        assert last == BadFrame("null"), id_  # made anonymous by whoever published it
    else:
        assert isinstance(last, LocationFix), id_
        assert last.lat == pytest.approx(expect["lat"], abs=1e-5), id_
        assert last.lon == pytest.approx(expect["lon"], abs=1e-5), id_
        assert last.course_deg == expect.get("heading_deg"), id_
    assert len(said) == 1 + (emergency and not isinstance(last, StatusReport)), id_


def test_every_short_data_message(folder: Path) -> None:
    found = vectors(folder / "tetra" / "sds.jsonl")
    assert len(found) == 38
    for vector in found:
        digits = vector["pdu_hex"]
        header = vector.get("expect_header")
        if header is not None:
            digits = digits[: -(-header["length_bits"] // 4)]
        data = bytes.fromhex(digits + "0" * (len(digits) % 2))
        status = header is not None and header["ai_service"] == 13
        (_one_status if status else _one_message)(vector["id"], data, vector["expect"])


def _one_status(id_: str, data: bytes, expect: dict[str, Any]) -> None:
    said = list(Sds().feed(data, received_at_ms=NOW_MS, channel="status"))
    if expect["kind"] == "sds-short-report":
        short = sds_pdu.short_report(int.from_bytes(data, "big"))
        assert short == sds_pdu.ShortReport(expect["report_type"], expect["message_reference"]), id_
    elif expect["meaning"] == "reserved":
        assert said == [BadFrame("reserved")], id_
    else:
        assert said == [StatusReport(code=expect["value"])], id_


def _one_message(id_: str, data: bytes, expect: dict[str, Any]) -> None:
    kind = expect.get("kind", "lip")
    said = list(Sds().feed(data, received_at_ms=NOW_MS, channel="sds4"))
    if kind in ("lip", "location-system") or "nmea" in expect:
        assert any(isinstance(each, LocationFix) for each in said), id_
        return
    if kind == "status":
        return  # to a radio, as a status: no SDS of type 4
    if kind == "simple-text":
        assert sds_text.decoded(data[1], data[2:]) == expect["text"], id_
        return
    pdu = sds_pdu.read(data)
    assert pdu is not None, id_
    assert (pdu.pid, pdu.reference) == (expect["pid"], expect["message_reference"]), id_
    if not isinstance(pdu, sds_pdu.Transfer):
        assert pdu.status == expect["delivery_status"], id_
        assert getattr(pdu, "ack", False) == bool(expect.get("ack_required")), id_
        return
    assert pdu.wanted == expect["delivery_report_request"], id_
    assert pdu.selection == expect["service_selection"], id_
    assert pdu.validity == expect.get("validity"), id_
    assert pdu.forward == expect.get("forward_address_type", sds_pdu.NO_ADDRESS), id_
    if "forward_ssi" in expect:
        assert int.from_bytes(pdu.address, "big") == expect["forward_ssi"], id_
    if "timestamp" in expect:
        stamp = sds_text.stamp(pdu.data[1:4])
        assert {name: getattr(stamp, name) for name in expect["timestamp"]} == expect["timestamp"]
    if "text" in expect and "udh" not in expect:
        text = pdu.data[4 if "timestamp" in expect else 1 :]
        assert sds_text.decoded(expect["coding"], text) == expect["text"], id_
        assert said == [keysds.parse(expect["text"])], id_
    elif "udh" in expect:
        assert pdu.data.endswith(expect["text"].encode()), id_
    else:
        assert pdu.data[3:].hex().upper() == expect["payload_hex"], id_


def test_every_dialogue_with_a_radio(folder: Path) -> None:
    found = vectors(folder / "tetra" / "pei.jsonl")
    assert len(found) == 21
    for vector in found:
        chunks = [chunk.encode("latin-1") for chunk in vector["chunks"]]
        assert heard(vector, chunks) == vector["expect"], vector["id"]
