"""No second factor is ever kept, and what is kept is decided as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import codecs
from adapters.codecs import keysds, sds_text
from adapters.codecs.hush import HUSHES, LineHush, blotted, hush_of, hushed_sds, hushed_text
from gateway.messages import BookOn, Secret
from gateway.ports import OPENED
from tests.corpus import cases

PIN = "4711"
AT_MS = 1_795_342_502_114


def line(*slices: bytes) -> bytes:
    hush = LineHush()
    kept = [each for data in slices for each in hush.take("", data, AT_MS)]
    return b"".join(data for _, data in (*kept, *hush.rest()))


def signature(codec: str, data: bytes, channel: str = "") -> list[tuple[str, str]]:
    options = {"identity": "5001001"} if codec == "terminal_json" else {}
    made = codecs.create(codec, side="gateway", **options)
    decoded = made.feed(data, received_at_ms=AT_MS, channel=channel)
    return [(type(each).__name__, getattr(each, "reason", "")) for each in decoded]


@pytest.mark.parametrize(
    "typed",
    [
        f"B 1001 {PIN}",
        f"b pc1001  {PIN} e-101",
        f"B+ 1002\t{PIN}",
        f"PIN {PIN}",
        f"PIN 1001 {PIN}",
        f"PIN: {PIN}",
        f"P {PIN}",
        f"BOOK 1001 {PIN}",
        f"B 1001 {PIN} E-101 AND MORE",
        f"B1001 {PIN}",
        PIN,
        f"E {PIN}",
        f"\x00\xffB 1001 {PIN}\xff",
        f"B 1001 {PIN}\x80\xfe",
        f"$GPRMC,1015B 1001 {PIN}",
        f"B 1001 {PIN}$GPRMC,101502.00,A",
        f"!AIVDM 1001 {PIN}",
        f"#S B 1001 {PIN}",
        "B 1001 " + PIN + " " * 2000,
        "V" * 1020 + f" {PIN}",
    ],
)
def test_no_factor_is_kept_of_a_line(typed: str) -> None:
    """However it was meant, damaged, or run into something else; in whatever slices it came."""
    data = typed.encode("latin-1") + b"\r\n"
    for cut in range(0, len(data), max(1, len(data) // 40)):
        kept = line(data[:cut], data[cut:])
        assert PIN.encode() not in kept, cut
        assert len(kept) == len(data)
    assert signature("line_terminal", kept) == signature("line_terminal", data)


def test_half_a_booking_is_not_kept_when_the_line_breaks() -> None:
    hush = LineHush()
    assert not hush.take("", f"B 1001 {PIN}".encode(), AT_MS)
    (_, kept), opened = hush.take(OPENED, b"", AT_MS)
    assert PIN.encode() not in kept
    assert opened == (OPENED, b"")
    assert PIN.encode() not in line(f"B 1001 {PIN}".encode())


FACTORS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="$"), min_size=4
).filter(lambda text: keysds.FACTOR.fullmatch(text) is not None)


@given(FACTORS)
def test_a_booking_stays_one_with_another_factor(factor: str) -> None:
    for typed in (f"B 1001 {factor}", f"B+ 1002 {factor}", f"PIN {factor}"):
        kept = hushed_text(typed)
        before, after = keysds.parse(typed), keysds.parse(kept)
        if isinstance(before, BookOn):
            assert isinstance(after, BookOn)
            assert after.factor == Secret("0" * len(factor))
            assert (after.officer, after.second) == (before.officer, before.second)


@pytest.mark.parametrize(
    "payload",
    [
        {"book": "on", "officer": "1001", "factor": PIN, "t": "2026-11-22T10:15:02Z"},
        {"book": "on", "officer": "1001", "factor": PIN, "pin": PIN, "t": "2026-11-22T10:15:02Z"},
        {"book": "on", "officer": "1001", "pin": PIN},
        {"book": "on", "officer": "1001", "factor": int(PIN)},
        {"code": PIN, "factor": [PIN, {"a": PIN}]},
        {"issi": "5001002", "book": "on", "factor": PIN},
        [PIN],
        PIN,
    ],
)
def test_no_factor_is_kept_of_a_datagram(payload: object) -> None:
    said = json.dumps(payload)
    twice = said.replace('"factor"', f'"factor": "{PIN}", "factor"')
    spelt = said.replace('"factor"', '"f\\u0061ctor"')
    for data in (said, twice, spelt, said[:-1], said + "}", f"\ufeff{said}"):
        ((_, kept),) = hush_of("terminal_json")().take(
            ":radio/5001001/up/status", data.encode(), AT_MS
        )
        assert PIN.encode() not in kept
        found = signature("terminal_json", data.encode(), "up/status")
        assert signature("terminal_json", kept, "up/status") == found


@pytest.mark.parametrize("codec", sorted(codecs.REGISTRY))
def test_whoever_can_say_a_booking_has_a_hush_of_its_own(codec: str) -> None:
    """A new protocol in which officers book must not be forgotten here."""
    made = codecs.create(codec, side="terminal")
    booking = BookOn(officer="1001", factor=Secret(PIN), sent_at_ms=AT_MS)
    typed = BookOn(officer="1001", factor=Secret(PIN))
    frames = [*made.encode(booking), *made.encode(typed)]
    assert bool(frames) == (codec in HUSHES)
    hush = hush_of(codec)()
    for frame in frames:
        kept = [*hush.take(f":radio/5001001/{frame.channel}", frame.data, AT_MS), *hush.rest()]
        assert PIN.encode() not in b"".join(data for _, data in kept)


def test_what_may_hold_one_has_a_hush_or_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no codec, and a codec in which somebody books but which was forgotten."""
    assert hush_of("nmea0183") is hush_of("t55")
    with pytest.raises(KeyError):
        hush_of("nobody knows")
    monkeypatch.delitem(HUSHES, "line_terminal")
    with pytest.raises(KeyError):
        hush_of("line_terminal")


def test_what_holds_no_factor_stays_as_it_came() -> None:
    """Every case of the corpora that is no booking and no unreadable text."""
    kept = 0
    for case in cases("line_terminal"):
        if case["side"] == "gateway":
            data = case["data"].encode("latin-1")
            assert signature("line_terminal", line(data)) == signature("line_terminal", data)
            kept += line(data) == data
    for case in cases("keysds"):
        before, after = keysds.parse(case["text"]), keysds.parse(hushed_text(case["text"]))
        assert type(before) is type(after), case["id"]
        kept += hushed_text(case["text"]) == case["text"]
    assert kept > 100
    assert blotted(b"#S 0 \x80") == b"#Z 0 \x80"


# --------------------------------------------------------------------------- over TETRA


CODINGS = {
    "latin": (1, str.encode),
    "gsm": (0, lambda text: sds_text.encoded(text, (0,))[1]),
    "utf-16": (26, lambda text: text.encode("utf-16-be")),
    "nobody knows": (99, str.encode),
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(
    "typed",
    [f"B 1001 {PIN}", f"PIN {PIN}", f"BOOK 1001 {PIN}", PIN, f"E#0123456789012345B 1 {PIN}"],
)
def test_no_factor_is_kept_of_an_sds(typed: str, coding: str) -> None:
    """In every coding, as text or immediate, stamped or not, whole, in parts, or cut off."""
    number, encode = CODINGS[coding]
    text = encode(typed)
    for head in (
        *(b"\x03", b"\x83\x02\x01"),
        *(b"\x02", b"\x09", b"\x82\x02\x01", b"\x89\x06\x01", b"\x82\x03\x01\x5f"),
        *(b"\x8a\x02\x01", b"\x84\x02\x01", b"\xc4\x02\x01", b"\x82\x30", b"\x82\x10\x00\x01"),
    ):
        for stamp in (bytes((number,)), bytes((number | 0x80,)) + b"\x4b\xb3\x9e"):
            if head[0] in (0x03, 0x83) and stamp[0] == 0x80:
                continue  # eight octets of a position may stand there, whatever they are
            for udh in (b"", b"\x05\x00\x03\x01\x02\x01", b"\x06\x08\x04\x01\x01\x02\x01", b"\x05"):
                data = head + stamp + udh + text
                kept = hushed_sds(data)
                assert len(kept) == len(data)
                assert _factor_in(kept) is None, (kept, head)
    for first in (b"\x05\x02\x01", b"\x10\x05\x02\x01", b"\x25"):
        data = b"\x8c\x02\x01" + first + b"\x82\x02\x01\x01" + text
        assert _factor_in(hushed_sds(data)) is None


def _factor_in(data: bytes) -> str | None:
    for number in (0, 1, 26):
        for start in range(min(14, len(data))):
            if PIN in (read := sds_text.decoded(number, data[start:])):
                return read
    return None


def pei(*slices: bytes) -> bytes:
    hush = hush_of("tetra")()
    kept = [each for data in slices for each in hush.take("", data, AT_MS)]
    return b"".join(data for _, data in (*kept, *hush.rest()))


HEAD = b"\r\n+CTSDSR: 12,5001001,0,6000001,0,"
BOOKED = (b"\x82\x06\x07\x01B 1001 " + PIN.encode()).hex().upper().encode()
IN_HEX = PIN.encode().hex().encode()


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"%d\r\n%s\r\n" % (len(BOOKED) * 4, BOOKED),
        HEAD + b"%d,%s\r\n" % (len(BOOKED) * 4, BOOKED),
        HEAD + b"48,0201" + IN_HEX + b"\r\n",
        HEAD + b"999\r\n\r\n  " + BOOKED.lower() + b" \r\n",
        b"+CTTCT:1+CTSDSR:12,5001001,0,6000001,0,88\n" + BOOKED + b"\n",
        BOOKED + b"\r\n",
        BOOKED[:-3] + b"\r" + BOOKED[-3:] + b"\r\n",
        b"+CMGS: 0" + BOOKED + b"\r\n",
        b"noise" + BOOKED + b"@\r\n",
        HEAD + b"16\r\n" + BOOKED + b"\r\n",
        b"\r\n+CTSDSR: 13,5001001,0,6000001,0,16\r\n" + BOOKED + b"\r\n",
        b"\r\n+CTSDSR: 10,5001001,0,6000001,0,32\r\n" + IN_HEX + b"\r\n",
        BOOKED * 60 + b"\r\n",
    ],
)
def test_no_factor_is_kept_of_a_pei(said: bytes) -> None:
    """However the payload stands on the line, and in whatever slices it came."""
    for cut in range(0, len(said), max(1, len(said) // 40)):
        kept = pei(said[:cut], said[cut:])
        assert IN_HEX not in kept
        assert len(kept) == len(said)


@given(st.data())
def test_no_factor_is_kept_of_a_damaged_pei(data: st.DataObject) -> None:
    said = bytearray(HEAD + b"%d\r\n%s\r\n" % (len(BOOKED) * 4, BOOKED))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(said) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                del said[at]
            case 1:
                said[at:at] = data.draw(st.binary(max_size=3))
            case _:
                said[at] = data.draw(st.integers(0, 255))
    assert IN_HEX not in pei(bytes(said))


def test_what_a_pei_says_else_stays_as_it_came() -> None:
    """And a booking stays one."""
    position = b"0A1FDB97A27C921FFFE81"
    for said in (
        HEAD + b"84\r\n" + position + b"\r\n",
        b"\r\n+CTSDSR: 13,9876543,0,1234567,0,16\r\n8004\r\n",
        b"\r\n+CTSDSR: 13,6000001,16\r\n0000\r\n",
        b"\r\n+CTSDSR: 12,02340001405001234,1,02340001406000001,1,32\r\n02013F20\r\n",
        b"\r\n+CNUMF: 6,09011638300023401\r\n\r\nOK\r\n",
        b"\r\n+GMM: 54009,M83PFT6TZ6AG,91.2.0.0\r\n\r\n+CMGS: 0,4,7\r\n",
        b"\r\n+CTICN: 1,0,0,5001001,1\r\n> \r\n+CME ERROR: 35\r\n",
    ):
        assert pei(said) == said
    kept = pei(HEAD + b"%d\r\n%s\r\n" % (len(BOOKED) * 4, BOOKED))
    (found,) = codecs.create("sds").feed(
        bytes.fromhex(kept.split()[-1].decode()), received_at_ms=AT_MS
    )
    assert found == BookOn(officer="1001", factor=Secret("0000"))


def test_an_sds_that_holds_no_factor_stays_as_it_came() -> None:
    """And a booking stays one: what a replay decides is what was decided."""
    for typed in ("V TE99ABC R1", "N TESTER/NORA/01011970/F R1", "B OFF", "X", "E HELLO"):
        for coding in (0, 1, 26):
            data = b"\x82\x06\x07" + bytes((coding,)) + sds_text.encoded(typed, (coding,))[1]
            assert hushed_sds(data) == data
            assert hushed_sds(b"\x02" + data[3:]) == b"\x02" + data[3:]
    for case in (*cases("lip"), *cases("sds")):
        for pdu in case.get("pdus", []):
            if pdu["channel"] == "status" or case["id"].startswith("location/"):
                ((_, kept),) = HUSHES["sds"]().take(pdu["channel"], bytes.fromhex(pdu["hex"]), 0)
                before = codecs.create("sds").feed(
                    bytes.fromhex(pdu["hex"]), received_at_ms=AT_MS, channel=pdu["channel"]
                )
                after = codecs.create("sds").feed(
                    kept, received_at_ms=AT_MS, channel=pdu["channel"]
                )
                assert after == before
    kept = hushed_sds(b"\x82\x06\x07\x01B 1001 " + PIN.encode())
    (found,) = codecs.create("sds").feed(kept, received_at_ms=AT_MS)
    assert found == BookOn(officer="1001", factor=Secret("0000"))
