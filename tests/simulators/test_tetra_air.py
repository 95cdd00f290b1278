"""What the simulated handset puts on the air is what the protocol reference prints, bit by bit.

The examples are the reference's own (section 3.5 and the vectors' entries of this project): its
encoder was checked against captures, ours against it, and neither against the gateway's codecs.
"""

from __future__ import annotations

import pytest

from simulators import tetra_air as air
from simulators.tetra_air import Locate, Parted, Report, Sdu, Status, Strange, Text


def hexed(sdu: Sdu) -> tuple[str, int]:
    return sdu.data.hex().upper(), sdu.bits


def sds4(digits: str) -> Sdu:
    return air.whole(air.SDS_4, bytes.fromhex(digits))


@pytest.mark.parametrize(
    ("sdu", "digits", "bits"),
    [
        (
            air.short_position(51.501009, -0.141588, speed_mps=39.16 / 3.6, course_deg=45.0),
            "0A0FFE639A49F7914A4810",
            84,
        ),
        (
            air.short_position(55.948595, -3.199897, elapsed=1, error=7),
            "0A1FDB97A27C921FFFE810",
            84,
        ),
        (
            air.short_position(
                -51.697701, -57.851697, speed_mps=12 / 3.6, course_deg=90.0, reason=130, error=3
            ),
            "0A0D6DC6BDB3CB8B188820",
            84,
        ),
        (
            air.short_position(53.479396, -2.245299, reason=2, error=2),
            "0A0FE6741A607A0AFFE020",
            84,
        ),
        (
            air.long_position((50.375501, -4.142704), at=(22, 11, 22, 33), reason=32),
            "0A4EB2D6847F437608F4A52020",
            104,
        ),
        (air.long_position((52.486196, -1.890399)), "0A4C1FEA7DD2552D202040", 82),
        (air.long_position((51.4545, -2.587903), accuracy_m=186.0), "0A4C2FE28E3249701A8081", 88),
        (air.long_position(None), "0A4C004080", 33),
        (
            air.text("V TE99AAA NO TRACE", 1, request=1),
            "8206010156205445393941414120" + "4E4F205452414345",
            176,
        ),
        (air.simple_text("V TE99ABC R3"), "0201562054453939414243205233", 112),
        (
            air.text("\u017b\u00f3\u0142w 12", 54, coding=26),
            "8202361A017B00F301420077002000310032",
            144,
        ),
        (air.report(0x82, air.RECEIVED, 42), "8210002A", 32),
        (air.short_report(air.SHORT_CONSUMED, 42), "7F2A", 16),
        (air.short_report(air.SHORT_RECEIVED, 1), "7E01", 16),
        (air.status(air.EMERGENCY), "0000", 16),
        (air.nmea("$GPGLL"), "030024" + "4750474C4C", 64),
    ],
)
def test_said_as_the_reference_prints_it(sdu: Sdu, digits: str, bits: int) -> None:
    assert hexed(sdu) == (digits, bits)


@pytest.mark.parametrize(
    ("sdu", "heard"),
    [
        (sds4("82042A0156205445393920414243205233"), Text(0x82, "V TE99 ABC R3", 42, 1)),
        (sds4("89082B014F46464943455220534146455459"), Text(0x89, "OFFICER SAFETY", 43, 2)),
        (sds4("82020701"), Text(0x82, "", 7, 0)),
        (sds4("82022E814BB39E4154205343454E45"), Text(0x82, "AT SCENE", 46, 0)),
        (sds4("0901555247454E54"), Text(0x09, "URGENT")),
        (
            sds4("8A0230810CFDFB0500032F02025345434F4E442048414C46"),
            Text(0x8A, "SECOND HALF", 48, 0, b"\x2f", 2, 2),
        ),
        (
            sds4("8A023101060804123401014F4E4C592050415254"),
            Text(0x8A, "ONLY PART", 49, 0, b"\x12\x34", 1, 1),
        ),
        (
            sds4("8C02340502024D4553534147452053504C495420494E2054574F"),
            Parted(52, 0, 5, 2, 2, b"MESSAGE SPLIT IN TWO"),
        ),
        (sds4("8218022B"), Report(0x02, 43, 0x82)),
        (air.status(0x7E01), Report(0x00, 1, short=True)),
        (air.status(0x8004), Status(0x8004)),
        (air.status(0x7BFF), Status(0x7BFF)),
        (sds4("0A4580"), Locate(3)),
        (sds4("C40002"), Strange("pid")),
        (sds4("82"), Strange("short")),
    ],
)
def test_heard_as_the_reference_reads_it(sdu: Sdu, heard: air.Heard) -> None:
    assert air.read(sdu) == heard


def test_seven_bits_a_letter_there_and_back() -> None:
    """GSM 03.38: `hellohello` is E8329BFD4697D9EC37; eight letters leave no room for a ninth."""
    assert air.written("hellohello", air.GSM_7BIT).hex().upper() == "E8329BFD4697D9EC37"
    for text in ("V TE99ABC R1", "1234567", "12345678"):
        assert air.spelt(air.written(text, air.GSM_7BIT), air.GSM_7BIT) == text
    with pytest.raises(UnicodeEncodeError):
        air.written("\u017b", air.GSM_7BIT)


def test_a_long_text_in_parts_that_fit() -> None:
    """73 characters a part at 668 bits; references go on, the one in the header stays."""
    text = "".join(chr(65 + n % 26) for n in range(200))
    parts = [air.read(each) for each in air.parts(text, 255)]
    assert [each.mr for each in parts if isinstance(each, Text)] == [255, 0, 1]
    assert all(each.bits <= air.PDU_BITS for each in air.parts(text, 255))
    assert air.joined([each for each in parts if isinstance(each, Text)][::-1]) == Text(
        0x8A, text, 255, 0, b"\xff"
    )
    assert air.joined([each for each in parts[:2] if isinstance(each, Text)]) is None
