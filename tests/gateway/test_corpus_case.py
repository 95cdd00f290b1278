"""A fault in the field becomes a case of the corpus in one command, and nobody's is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.recordings import Heard
from gateway import cli, corpus_case
from gateway.corpus_case import CannotBeMade, Synthetic, cases
from tests.adapters.codecs import test_corpora as corpora
from tests.adapters.codecs.sentences import sentence
from tests.corpus import agree, payload, steps
from tests.gateway.test_replay import BEGUN_MS, LINE, MQTT, TETRA, at, written

OURS = {
    "line_terminal": corpora.test_line_terminal,
    "nmea0183": corpora.test_nmea,
    "terminal_json": corpora.test_terminal_json,
    "sds": corpora.test_sds,
    "gpsd_json": corpora.test_gpsd,
}
"""How each is read from the folder: the tests that would run it."""
SOMEBODY = (
    "KX21ZRT",
    "WELLBELOVED",
    "AMBROSE",
    "13021988",
    "4211987",
    "7311",
    "B4CKPACK99",
    "0512",
)
POSITION = sentence("GPRMC,221320.00,A,5107.1234,N,00012.9876,E,2.40,090.0,141123,,,A")


def made(tmp_path: Path, items: list[Heard], codec: str, *more: str) -> list[dict[str, Any]]:
    """Through the command line, and run as the corpus's own tests run it."""
    (tmp_path / codec).mkdir(exist_ok=True)
    file = written(tmp_path / "r", items)
    words = ["replay", str(file), "--corpus", codec, "fault", "--out", str(tmp_path), *more]
    assert cli.main(words) == 0
    text = (tmp_path / codec / "fault.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    for case in found:
        if codec in ("terminal_json", "sds"):
            OURS[codec](case)  # type: ignore[operator]
        else:
            OURS[codec](case, "whole")  # type: ignore[operator]
    for each in SOMEBODY:
        assert each not in text
    return found


def test_a_line(tmp_path: Path) -> None:
    said = (
        f"{POSITION}\r\n{POSITION[:-2]}00\r\nV KX21 ZRT R1 LCHURCH.HILL O4211987\r\n"
        "N WELLBELOVED/AMBROSE/13021988/M R5\r\nV KX21ZRT\r\n#S 0\r\n#A C7F3 1 R\r\n"
        "P BAG/B4CKPACK99 R5\r\nBOOK 4211987 7311\r\n\x80\x81\r\nX\r\n?\r\n"
    )
    (case,) = made(
        tmp_path, [at(1, LINE, said.encode("latin-1"))], "line_terminal", "--link", "line"
    )
    assert [each["is_"] for each in case["expect"]] == [
        *("fix", "rejected", "check", "check", "malformed", "status", "ack"),
        *("check", "malformed", "rejected", "cancel", "help"),
    ]
    fix, bad, vehicle, person = case["expect"][:4]
    assert abs(fix["lat"] - corpus_case.HOME[0]) < 1e-3
    assert bad["reason"] == "crc"
    assert vehicle["vrm"].startswith("TE99")
    assert vehicle["reason"] == "1"
    assert (person["surname"], person["forenames"], person["dob"]) == (
        "TESTER",
        "NORA",
        "1970-01-01",
    )
    data = payload(case).decode("latin-1")
    assert "5107" not in data
    assert "CHURCH" not in data


def test_a_position_in_a_damaged_frame_is_one(tmp_path: Path) -> None:
    """Also where no other frame says which way it would have to be shifted."""
    (case,) = made(
        tmp_path,
        [at(1, LINE, f"{POSITION[:-2]}00\r\n".encode())],
        *("line_terminal", "--link", "line"),
    )
    assert case["expect"] == [{"is_": "rejected", "reason": "crc"}]
    assert "5107" not in case["data"]
    assert "00012.98" not in case["data"]


def test_a_receiver_in_steps(tmp_path: Path) -> None:
    items = [at(n, LINE, f"{POSITION}\r\n".encode()) for n in range(3)]
    (case,) = made(tmp_path, items, "nmea0183", "--link", "line")
    assert len(steps(case)) == 3
    assert [each["is_"] for each in case["expect"]] == ["fix", "rejected", "rejected"]


def test_a_slice_alone(tmp_path: Path) -> None:
    items = [at(n, LINE, b"#S %d\r\n" % n) for n in range(1, 6)]
    begun = "2023-11-14T22:13:2"
    (case,) = made(
        tmp_path, items, "line_terminal",
        *("--link", "line", "--from", f"{begun}2", "--to", f"{begun}4"),
    )  # fmt: skip
    assert [each["code"] for each in case["expect"]] == [2, 3, 4]


def test_datagrams(tmp_path: Path) -> None:
    def said(what: str, body: object, n: int = 0) -> Heard:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return at(n, MQTT, data, f":radio/5004711/up/{what}")

    check = {
        "ref": "a1", "t": "2023-11-14T22:13:20Z", "kind": "person", "surname": "WELLBELOVED",
        "forenames": "AMBROSE", "dob": "1988-02-13", "sex": "M", "reason": "5",
        "location": "CHURCH HILL 0512", "fix": {"lat": 51.1187, "lon": 0.2165},
    }  # fmt: skip
    found = made(
        tmp_path,
        [
            said("check", check),
            said("check", {**check, "issi": "5004712"}),
            said("fix", {"lat": 91, "lon": 0.2165}),
            said("text", b"V KX21ZRT R1"),
            said("status", {"code": 0}),
            said("status", b"\x80\x81"),
        ],
        "terminal_json",
        *("--link", "mqtt"),
    )
    assert [case["expect"][0]["is_"] for case in found] == [
        *("check", "rejected", "rejected", "check", "status", "rejected")
    ]
    assert found[1]["expect"][0]["reason"] == "identity"
    text = json.dumps(found)
    for each in ("5004711", "5004712", "51.1187", "0.2165\\", "CHURCH", "1988"):
        assert each not in text


def test_messages_of_a_radio(tmp_path: Path) -> None:
    """A case for each calling party; whom they called and who they are stands in none."""

    def sds(calling: bytes, octets: bytes, service: int = 12) -> bytes:
        digits = octets.hex().upper().encode()
        head = b"+CTSDSR: %d,%s,0,5000001,0,%d" % (service, calling, 4 * len(digits))
        return head + b"\r\n" + digits + b"\r\n"

    items = [
        at(1, TETRA, sds(b"5004711", b"\x82\x04\x01\x01V KX21ZRT R1")),
        at(2, TETRA, sds(b"5004712", bytes.fromhex("0A1FDB97A27C921FFFE810"))),
        at(3, TETRA, sds(b"5004711", bytes(2), 13)),
        at(4, TETRA, sds(b"5004711", b"\x03\x00" + POSITION.encode())),
    ]
    first, second = made(tmp_path, items, "sds", "--link", "tetra")
    assert [each["is_"] for each in first["expect"]] == ["check", "status", "fix"]
    assert first["expect"][0]["vrm"].startswith("TE99")
    assert first["replies"]
    (fix,), sent = second["expect"], first["expect"][2]
    assert abs(sent["lat"] - corpus_case.HOME[0]) < 1e-3
    # Both were shifted by the same: how far apart two officers were may be what the fault was.
    assert abs(fix["lat"] - sent["lat"] - (55.948594 - 51.118723)) < 1e-3
    assert abs(fix["lon"] - sent["lon"] - (-3.199896 - 0.21646)) < 1e-3


def test_phones_and_trackers(tmp_path: Path) -> None:
    """OwnTracks, OsmAnd, T55: who they are goes, what they said of when and how fast stays."""

    def only(codec: str, *said: tuple[str, bytes]) -> list[dict[str, Any]]:
        heard = [Heard(BEGUN_MS + n, n, 0, channel, data) for n, (channel, data) in enumerate(said)]
        found = cases(heard, codec, "f", "s")
        for case in found:
            match codec:
                case "owntracks":
                    corpora.test_owntracks(case)
                case "osmand":
                    corpora.test_osmand(case)
                case _:
                    corpora.test_each_other_protocol(codec, case, "whole")
        text = json.dumps(found)
        for each in ("51.1187", "0.2165", "AMBROSE", "355000111222333"):
            assert each not in text
        return found

    topic = ":owntracks/AMBROSE/phone"
    first, second = only(
        "owntracks",
        (topic, b'{"_type":"location","lat":51.1187,"lon":0.2165,"tst":1700000000,"tid":"AM"}'),
        (topic, b'{"_type":"location","lat":51.1187,"lon":191,"tst":1700000000}'),
    )
    assert first["expect"][0]["is_"] == "fix"
    assert second["expect"][0]["is_"] == "rejected"
    by_query, by_body, void = only(
        "osmand",
        (
            "query",
            b"id=AMBROSE&lat=51.1187&lon=0.2165&timestamp=1700000000&speed=3&imei=355000111222333&alarm=sos",
        ),
        (
            "json",
            b'{"device_id":"AMBROSE","imei":355000111222333,"location":{"timestamp":1700000000,'
            b'"coords":{"latitude":51.1187,"longitude":0.2165}}}',
        ),
        ("query", b"id=AMBROSE&lat=51.1187&lon=0.2165&valid=0"),
    )
    assert [each["is_"] for each in by_query["expect"]] == ["status", "fix"]
    assert by_query["device"] == by_body["device"] == "TRK1"
    assert void["expect"] == [{"is_": "rejected", "reason": "void"}]
    own = sentence("TRCCR,20231114221320.000,A,51.118700,0.216500,2.40,90.00,12.00,50,")
    (tracker,) = only("t55", ("", f"IMEI 355000111222333{own}\r\n355000111222333\r\n".encode()))
    assert tracker["expect"][0]["is_"] == "fix"


def test_what_would_be_decided_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Synthetic, "mark", lambda _self, _text: "?")
    file = written(tmp_path / "r", [at(1, LINE, b"V KX21ZRT R1\r\n")])
    (tmp_path / "line_terminal").mkdir()
    words = ["replay", str(file), "--link", "line", "--corpus", "line_terminal", "f"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert "the codec would decide otherwise; nothing was written" in capsys.readouterr().err
    assert list((tmp_path / "line_terminal").iterdir()) == []


def test_what_would_leave_somebody_in_it_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a rule miss a place, the command does not."""
    monkeypatch.setattr(Synthetic, "_option", lambda _self, _word: "R1 LKX21ZRT")
    with pytest.raises(CannotBeMade, match="something of the original would be left"):
        cases([at(1, LINE, b"V KX21ZRT R1\r\n")], "line_terminal", "f", "s")


def test_no_case_replaces_another(tmp_path: Path) -> None:
    items = [at(1, LINE, b"#S 4\r\n")]
    made(tmp_path, items, "line_terminal", "--link", "line")
    words = ["replay", str(tmp_path / "r"), "--link", "line", "--corpus", "line_terminal", "fault"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 1


def test_the_corpora_read_what_is_made() -> None:
    """`agree` knows every word that a case may expect."""
    for case in cases(
        [at(1, LINE, b"E HELLO\r\nB OFF\r\nB 1001 0000\r\n")], "line_terminal", "f", "s"
    ):
        for each, expected in zip(
            corpora.codecs.create("line_terminal").feed(
                case["data"].encode(), received_at_ms=BEGUN_MS
            ),
            case["expect"],
            strict=True,
        ):
            agree(each, expected)
