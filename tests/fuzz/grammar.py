"""Hostile inputs, from the grammar outwards: mostly right, wrong where it hurts.

Every generator takes a `random.Random`: a seeded one, or hypothesis's, whose choices it can shrink.
Nothing here knows the product's code; the words are those of docs/interfaces.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import xor
from random import Random
from typing import TypeVar

T = TypeVar("T")
Made = Callable[[Random], bytes]

LOOK_ALIKES = {
    "A": "АΑＡ𝐀",
    "B": "ВΒＢ8",
    "C": "СϹＣ",
    "E": "ЕΕＥ",
    "F": "ϜＦ",
    "H": "НΗＨ",
    "I": "ІΙＩ1lı",
    "K": "КΚＫ\u212a",
    "M": "МΜＭ",
    "N": "ΝＮ",
    "O": "ОΟＯ0",
    "P": "РΡＰ",
    "R": "Ｒℛ",
    "S": "ЅＳſ5",
    "T": "ТΤＴ",
    "V": "ѴＶⅤ",
    "X": "ХΧＸ",
    "Y": "ΥҮＹ",
    "Z": "ΖＺ2",
    "0": "O０٠О",
    "1": "I１١l",
    "9": "９٩",
}
"""Cyrillic, Greek, full width, mathematical; and the ASCII ones that are real marks of others."""
CONTROLS = (
    *("\x00", "\x01", "\x07", "\x08", "\x1a", "\x1b[2J", "\x1c", "\x7f", "\x85", "\xa0", "\xad"),
    *("\u200b", "\u200e", "\u200f", "\u202a", "\u202e", "\u2028", "\u2029", "\u2066", "\ufeff"),
    *("\ufffe", "\U000e0041", "\ue000", "\u0378"),
)
NAMES = (
    *("TESTER", "SYNTHA", "O'TESTER", "TESTER-SYNTHA", "TEST Ó", "SEÁN", "ŁUKASZ", "ÅSA"),
    *(
        "Ε\u0301ΛΛΗΝΑΣ",
        "\u0390ΩΡΓΟΣ",
        "ИВАН",
        "שלום",
        "محمد",
        "李",
        "e\u0301",
        "Z͑ͫ̓ͪ̂A",
        "ß",
        "ﬁN",
        "ĲSSEL",
    ),
)
MARKS = ("TE99ABC", "TE99 ABC", "te99abc", "TE99-ABC", "TE99.ABC", "TE99LXX", "T1 EST", "TE99STV")
NUMBERS = (
    *("0", "1", "-1", "00", "01", "255", "256", "65535", "65536", "2147483648", "-2147483649"),
    *("9223372036854775808", "18446744073709551616", "1e308", "1e309", "1e999", "-1e999", "1E400"),
    *("1e-999", "-0", "-0.0", "0.1", "1.", ".1", "+1", "0x10", "1_000", "NaN", "nan", "Infinity"),
    *("-Infinity", "inf", "１", "٣", "1e", "1e+", "--1", "91", "181", "90.0000001", "360.1"),
)


def often(r: Random, percent: int) -> bool:
    return r.randrange(100) < percent


def some(r: Random, of: Sequence[T]) -> T:
    return of[r.randrange(len(of))]


def number(r: Random) -> str:
    """A figure, or what looks like one; now and then with very many digits."""
    match r.randrange(6):
        case 0:
            return some(r, "0123456789") * some(r, (17, 40, 309, 400, 4301, 5000))
        case 1:
            return f"{r.randrange(-400, 400)}.{r.randrange(10**6)}"
        case 2:
            return str(r.randrange(0, 70000))
        case _:
            return some(r, NUMBERS)


def word(r: Random, most: int = 12) -> str:
    """A few characters of anything: letters of screens, of other scripts, controls."""
    return "".join(_character(r) for _ in range(r.randrange(most + 1)))


def _character(r: Random) -> str:
    match r.randrange(8):
        case 0:
            return some(r, CONTROLS)
        case 1:
            return some(r, some(r, tuple(LOOK_ALIKES.values())))
        case 2:
            return some(r, "אבמحم李Éé\u0301ß£€😀ﷺ𝔸")
        case 3:
            return some(r, " /.-'#$*!?,:;\"\\{}[]\t")
        case _:
            return some(r, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcxyz")


def twisted(r: Random, text: str) -> str:
    """The same text to a tired eye, or nearly: one or two things of it are not what they were."""
    for _ in range(r.randrange(1, 3)):
        at = r.randrange(len(text) + 1)
        here = text[at : at + 1]
        match r.randrange(8):
            case 0 if here.upper() in LOOK_ALIKES:
                text = text[:at] + some(r, LOOK_ALIKES[here.upper()]) + text[at + 1 :]
            case 1:
                text = text[:at] + some(r, CONTROLS) + text[at:]
            case 2:
                text = text[:at] + here.swapcase() + text[at + 1 :]
            case 3:
                text = text[:at] + some(r, (" ", "  ", "\t", "-", ".", "/", "\u3000")) + text[at:]
            case 4:
                text = text[:at] + text[at + 1 :]
            case 5:
                text = text[:at] + here * r.randrange(2, 5) + text[at + 1 :]
            case 6:
                text = text[:at] + word(r, 4) + text[at:]
            case _:
                text = text[:at]
    return text


def maybe(r: Random, good: str, percent: int = 25) -> str:
    """Mostly the good text; else twisted, anything, empty, or 300 characters of it."""
    if not often(r, percent):
        return good
    match r.randrange(8):
        case 0:
            return ""
        case 1:
            return word(r)
        case 2:
            return (good or "A") * (300 // max(1, len(good)) + 1)
        case 3:
            return number(r)
        case _:
            return twisted(r, good)


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def noisy(r: Random, data: bytes, percent: int = 20) -> bytes:
    """What a bad line does to bytes: flips, losses, doubled and foreign ones."""
    if not often(r, percent):
        return data
    out = bytearray(data)
    for _ in range(r.randrange(1, 4)):
        at = r.randrange(len(out) + 1)
        match r.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << r.randrange(8)
            case 1:
                del out[at : at + r.randrange(1, 12)]
            case 2:
                out[at:at] = out[at : at + r.randrange(1, 40)]
            case 3:
                out[at:at] = some(r, (b"\x00", b"\xff", b"\r", b"\n", b"\r\n", b"$", b"\xc0\x80"))
            case 4:
                out[at:at] = r.randbytes(r.randrange(1, 8))
            case _:
                del out[at:]
    return bytes(out)


def wrong_baud(r: Random, data: bytes) -> bytes:
    """What a UART reads at another speed: runs of 0x00 and 0xFF, losses, bits that repeat."""
    out = bytearray()
    slow = often(r, 50)
    for byte in data:
        if slow:  # the line is slower than we read: each bit is seen several times
            for half in (byte & 15, byte >> 4):
                out.append(sum(((half >> bit) & 1) * (0b11 << 2 * bit) for bit in range(4)))
        elif often(r, 50):  # faster: two bytes fall into one, and the start bit anywhere
            out.append((byte << r.randrange(1, 7) | byte >> r.randrange(1, 7)) & 255)
        if often(r, 6):
            out += some(r, (b"\x00", b"\xff")) * r.randrange(1, 30)
    return bytes(out)


# --------------------------------------------------------------------------- NMEA 0183


def checksum(body: bytes) -> int:
    return reduce(xor, body, 0)


def _clock(r: Random) -> str:
    return maybe(r, f"{r.randrange(24):02}{r.randrange(60):02}{r.randrange(60):02}.00", 12)


def _place(r: Random) -> list[str]:
    lat, lon = f"{r.randrange(90):02}34.3500", f"{r.randrange(180):03}14.5860"
    return [
        maybe(r, lat, 8),
        maybe(r, some(r, "NS"), 4),
        maybe(r, lon, 8),
        maybe(r, some(r, "EW"), 4),
    ]


def sentence(r: Random) -> bytes:
    """One sentence; its checksum mostly right, so that the fields are read at all."""
    day = some(r, ("221126", "211126", "231126", "070407", "310226", "290226", "060180", "010100"))
    kind = some(r, ("RMC", "RMC", "RMC", "GGA", "GLL", "ZDA", "GSV", "VTG", "XXX"))
    match kind:
        case "RMC":
            fields = [
                _clock(r),
                maybe(r, some(r, "AAAAV"), 4),
                *_place(r),
                maybe(r, f"{r.randrange(100)}.40", 10),
                maybe(r, f"{r.randrange(360)}.0", 10),
                maybe(r, day, 8),
                some(r, ("", "0", "0.5")),
                some(r, ("", "E", "W", "A")),
                maybe(r, some(r, "AADENSM"), 8),
            ]
        case "GGA":
            dilution = maybe(r, some(r, ("0.9", "1.2", "50", "99.99")), 8)
            fields = [_clock(r), *_place(r), maybe(r, some(r, "0112345678"), 6), "08", dilution]
            fields += ["545.4", "M", "46.9", "M", "", ""]
        case "GLL":
            fields = [*_place(r), _clock(r), maybe(r, some(r, "AAAV"), 4), some(r, "ADEN")]
        case "ZDA":
            fields = [_clock(r), *(maybe(r, each, 15) for each in ("22", "11", "2026")), "00", "00"]
        case _:
            fields = [maybe(r, "1", 30) for _ in range(r.randrange(20))]
    if often(r, 8) and fields:
        one, two = r.randrange(len(fields)), r.randrange(len(fields))
        fields[one], fields[two] = fields[two], fields[one]
    if often(r, 6):
        fields = fields[: r.randrange(len(fields) + 1)]
    if often(r, 4):
        fields += fields
    body = noisy(
        r, utf8(",".join([maybe(r, some(r, ("GP", "GN", "GL", "P")) + kind, 6), *fields])), 8
    )
    end = b"*%02X" % (checksum(body) ^ (0 if often(r, 85) else r.randrange(256)))
    if often(r, 8):
        end = some(
            r, (b"", b"*", b"* %02x" % checksum(body), end.lower(), end + b"junk", b"*G0", b"**")
        )
    return some(r, (b"", b"", b"", b"5001001 ", b"!", b"\xff\xff", b"$GPRM")) + b"$" + body + end


def nmea_stream(r: Random) -> bytes:
    lines = [
        noisy(r, sentence(r), 12) + some(r, (b"\r\n", b"\r\n", b"\n", b"\r", b""))
        for _ in range(r.randrange(1, 5))
    ]
    if often(r, 8):
        lines.insert(
            r.randrange(len(lines) + 1),
            some(r, (b"$", b"A", b"\x00", b"\xff", b",")) * r.randrange(1, 2500),
        )
    if often(r, 5):
        lines.insert(0, wrong_baud(r, sentence(r)))
    return noisy(r, b"".join(lines), 10)


# --------------------------------------------------------------------------- location reports

_SHAPES = {0: 0, 1: 49, 2: 55, 3: 72, 4: 61, 5: 67, 6: 84, 7: 70, 9: 100, 10: 52, 8: 49, 15: 90}
_VELOCITIES = (0, 7, 10, 15, 21, 15, 21, 32)


def _bits(r: Random, n: int) -> str:
    """A field: anything, or what stands at an end of it."""
    if not n:
        return ""
    edge = some(r, ("0" * n, "1" * n, "1" + "0" * (n - 1), "0" * (n - 1) + "1", ""))
    return edge if edge and often(r, 40) else f"{r.getrandbits(n):0{n}b}"


def lip_pdu(r: Random) -> bytes:
    """A location report with its PID, field by field; another PDU; cut, longer, or noisy."""
    reason = f"{some(r, (0, 2, 2, 4, 32, 129, 130, 255)):08b}"
    match r.randrange(4):
        case 0:
            fields = ["00", *(_bits(r, n) for n in (2, 25, 24, 3, 7, 4, 1)), reason]
        case 1:
            fields = ["01", _bits(r, 4), _bits(r, r.randrange(60))]
        case _:
            time = r.randrange(4) if often(r, 20) else r.randrange(3)
            shape, velocity = some(r, tuple(_SHAPES)), r.randrange(8)
            fields = ["010011", f"{time:02b}", _bits(r, (0, 2, 22, 0)[time]), f"{shape:04b}"]
            fields += [_bits(r, min(n, 49)) for n in (_SHAPES[shape],)]
            fields += [_bits(r, max(0, _SHAPES[shape] - 49)), f"{velocity:03b}"]
            fields += [_bits(r, _VELOCITIES[velocity]), _bits(r, 2), reason]
    if often(r, 30):
        fields.append(_bits(r, r.randrange(1, 60)))
    text = "".join(fields)
    text += "0" * (-len(text) % 8)
    data = (b"\x0a" if not often(r, 5) else b"\x82") + int(text, 2).to_bytes(len(text) // 8, "big")
    if often(r, 15):
        data = data[: r.randrange(len(data) + 1)]
    return noisy(r, data * (40 if often(r, 2) else 1), 15)


# --------------------------------------------------------------------------- short data


def sds_story(r: Random) -> bytes:
    """What one TETRA terminal sends: PDU after PDU, each behind its channel, its length and how
    many seconds after the last one."""
    out = bytearray()
    for _ in range(r.randrange(1, 7)):
        for channel, pdu in _sds(r):
            pdu = noisy(r, pdu, 10)[:255]
            seconds = some(r, (0, 0, 0, 1, 9, 61))
            out += bytes((channel, len(pdu), seconds)) + pdu
    return bytes(out)


def _sds(r: Random) -> list[tuple[int, bytes]]:
    """channel: 0 a status, 1 an SDS of type 4, 2 user data."""
    match r.randrange(10):
        case 0:
            value = some(r, (0, 1, 0x7BFF, 0x7C00, 0x7E01, 0x7FFF, 0x8000, 0x800F, 0xFFFF))
            return [(0, value.to_bytes(2, "big"))]
        case 1:
            kind, status = some(r, (0x10, 0x18, 0x20)), some(r, (0, 1, 2, 3, 6, 0x4A, 0x50, 0x51))
            return [(1, bytes((some(r, (0x82, 0x89, 0x8A)), kind, status, r.randrange(8))))]
        case 2:
            return [(1, some(r, (lip_pdu(r), b"\x03\x00" + sentence(r), r.randbytes(9))))]
        case 3:
            return [(2, r.randbytes(r.randrange(9)))]
        case 4 | 5 | 6:
            return [(1, part) for part in _parts_of(r)]
        case _:
            head = bytes((some(r, (0x02, 0x09)),))
            if often(r, 70):
                stored = some(r, (b"", b"", b"\x5f", b"\xff", b"\x59abc", b"\x5b\x03\x12\x30"))
                flags = r.randrange(8) << 1 | bool(stored)
                head = bytes((some(r, (0x82, 0x82, 0x89)), flags, r.randrange(256))) + stored
            return [(1, head + _coded(r))]


def _coded(r: Random) -> bytes:
    text = keysds_text(r)[:120]
    coding = some(r, (1, 1, 1, 26, 0, r.randrange(128)))
    octets = text.encode("utf-16-be" if coding == 26 else "latin-1", "replace")
    stamped = b"\x4b\xb3\x9e" if often(r, 20) else b""
    return bytes((coding | 0x80 * bool(stamped),)) + stamped + octets


def _parts_of(r: Random) -> list[bytes]:
    """One message in parts: out of order, doubled, one of them missing; references come again."""
    total, first, name = r.randrange(1, 5), r.randrange(256), r.randrange(3)
    text = keysds_text(r).encode("latin-1", "replace")[:200]
    size = len(text) // total + 1
    pieces = [text[at * size : (at + 1) * size] for at in range(total)]
    concatenated = often(r, 50)
    if concatenated:
        pieces[0] = bytes((some(r, (0x82, 0x89, 0x02, 0x0A)), 2, 9, 1)) + pieces[0]
    parts = []
    for n, piece in enumerate(pieces):
        mr = (first + n) % 256
        where = bytes((name, total, n + 1))
        head = bytes((0x8C, 2, mr)) if concatenated else bytes((0x8A, 2, mr, 1, 5, 0, 3))
        parts.append(head + where + piece)
    r.shuffle(parts)
    return parts[: r.randrange(1, len(parts) + 1)] + parts[: r.randrange(2)]


# --------------------------------------------------------------------------- TETRA, the interface


def pei_line(r: Random) -> bytes:
    """What a radio says on its PEI, without its line end: a message's header or payload, a result,
    an answer, voice signalling; now and then several on one line."""
    party = some(r, ("5001001", "5001002", "05001001", "02340001405001001", "", number(r)))
    bits = some(r, ("16", "32", "84", "136", "0", "2048", number(r)))
    service = some(r, ("12", "12", "13", "9", "0", number(r)))
    digits = r.randbytes(some(r, (2, 4, 11, 17))).hex().upper()
    match r.randrange(8):
        case 0 | 1:
            fields = some(
                r,
                (
                    (service, party, "0", "6000001", "0", bits),
                    (service, party, "0", "6000001", "0", bits, "0"),
                    (service, "6000001", bits),
                    (service, "6000001", "0", bits),
                    (service, party, "0", "6000001", "0", bits, digits),
                    (service, party, bits, digits, party),
                ),
            )
            text = some(r, ("+CTSDSR: ", "+CTSDSR:", "+ctsdsr : ")) + ",".join(fields)
        case 2 | 3:
            text = digits[: len(digits) - r.randrange(2)]
        case 4:
            text = f"+CMGS: {r.randrange(4)}" + some(r, ("", ",4,7", ",5,8", ",3,1", ",4", ",x"))
        case 5:
            text = some(
                r, ("OK", "ERROR", "+CME ERROR: 35", "CME ERROR: 38", "+CMS ERROR", "> ", "0")
            )
        case 6:
            text = some(r, ("+CREG: 1", "+CTOM: 0", "+CTICN: 0,0,0,5", "+GMI: X", "+CTTCT:1"))
        case _:
            text = twisted(r, "+CTSDSR: 12,5001001,0,6000001,0,32")
    return utf8(text) + (pei_line(r) if often(r, 10) else b"")


# --------------------------------------------------------------------------- KeySDS and lines


def keysds_text(r: Random) -> str:
    """An enquiry: verb, subject, options, each good or nearly; options anywhere, twice, glued."""
    verb = maybe(r, some(r, ("V", "V", "VIN", "N", "N", "P", "X", "E", "?", "B", "B+", "PIN")), 8)
    match verb:
        case "V":
            subject = maybe(r, some(r, MARKS), 35)
        case "VIN":
            subject = maybe(r, some(r, ("TSTZZZ00000000001", "00001", "0000 0001", "L0000F")), 35)
        case "N":
            parts = [
                some(r, NAMES),
                some(r, ("", *NAMES)),
                some(r, ("", "01011970", "19700101", "A34", "A121", "31022000")),
                some(r, ("", "M", "F", "U", "X")),
            ]
            subject = "/".join(maybe(r, each, 20) for each in parts[: r.randrange(1, 5)])
        case "P":
            subject = "/".join(
                maybe(r, each, 25)
                for each in (some(r, ("BIKE", "PEDAL CYCLE", "SMALL LAPTOP")), "TST BIKE001")
            )
        case "B" | "B+" | "PIN":
            booked = ("1001 4711", "1001 4711 E-101", "OFF", "OFF 1002", "4711", "1001 aB*c# e/1")
            text = f"{verb} {maybe(r, some(r, booked), 30)}"
            return twisted(r, text) if often(r, 15) else text
        case _:
            subject = maybe(r, some(r, ("C7F3", "HELLO", "")), 40)
    options = [
        maybe(
            r,
            some(
                r,
                (
                    "R1",
                    "R2",
                    "R09",
                    "R99",
                    "LBRIDGE.ST",
                    "LXX",
                    "O1001",
                    "OXO",
                    "Q12",
                    "Q999",
                    "F",
                    "J",
                ),
            ),
            12,
        )
        for _ in range(r.randrange(5))
    ]
    words = [verb, subject, *options]
    if often(r, 10):
        r.shuffle(words)
    text = some(r, (" ", " ", " ", "  ", "\t", "\u3000", "")).join(words)
    return twisted(r, text) if often(r, 15) else text


def line_up(r: Random) -> bytes:
    match r.randrange(8):
        case 0:
            return sentence(r)
        case 1:
            return utf8(maybe(r, f"#S {maybe(r, some(r, ('0', '4', '65535', '65536')), 20)}", 15))
        case 2:
            return utf8(
                maybe(r, f"#A {maybe(r, 'C7F3', 15)} {maybe(r, '1', 20)} {some(r, 'DRdrX')}", 15)
            )
        case 3:
            return wrong_baud(r, utf8(keysds_text(r)))
        case _:
            return utf8(keysds_text(r))


def line_down(r: Random) -> bytes:
    head = some(r, ("", "", "Q7 ", "Q999 ", "Q1000 "))
    text = maybe(r, some(r, ("!!STOLEN TE99STV. OK=MORE", "NO TRACE", "R? GIVE REASON")), 40)
    made = some(
        r,
        (
            f"{head}SENT {maybe(r, 'C7F3', 20)}",
            f"{head}XX {text}",
            f"{head}{maybe(r, 'C7F3', 15)} {r.randrange(10)}/{r.randrange(10)} {text}",
            f"C7F3 {text}",
            text,
        ),
    )
    return utf8(twisted(r, made) if often(r, 15) else made)


def lines_of(of: Made) -> Made:
    """A stream of such lines, with ends of every kind, spliced; now and then one without an end."""

    def stream(r: Random) -> bytes:
        out = [
            noisy(r, of(r), 8) + some(r, (b"\r\n", b"\r\n", b"\n", b"\r", b"\n\r", b""))
            for _ in range(r.randrange(1, 5))
        ]
        if often(r, 6):
            out.insert(
                r.randrange(len(out) + 1),
                some(r, (b"A", b"\x00", b"\xff", b" ", b"#", b"E ")) * r.randrange(1, 2500),
            )
        return noisy(r, b"".join(out), 8)

    return stream


def splitter_stream(r: Random) -> bytes:
    """For the splitter alone: what it cares for are ends and lengths."""
    pieces = []
    for _ in range(r.randrange(1, 8)):
        length = some(r, (0, 1, 2, 1022, 1023, 1024, 1025, 2048, r.randrange(3000)))
        pieces.append(some(r, (b"a", b"\x00", b"\xff", b"\x0b", b"\x85", b"\x1c")) * length)
        pieces.append(some(r, (b"\r", b"\n", b"\r\n", b"\n\r", b"\r\r\n", b"")))
    return b"".join(pieces)


# --------------------------------------------------------------------------- JSON


def quoted(r: Random, text: str) -> str:
    """A JSON string; some characters escaped, some raw that may not be."""
    out = []
    for each in text:
        if each in '"\\' and often(r, 95):
            out.append("\\" + each)
        elif ord(each) < 32 and often(r, 80):
            out.append(f"\\u{ord(each):04x}")
        elif often(r, 4):
            units = each.encode("utf-16-be", "surrogatepass")
            out += [f"\\u{units[at] << 8 | units[at + 1]:04X}" for at in range(0, len(units), 2)]
        else:
            out.append(each)
    if often(r, 2):
        out.append(some(r, ("\\ud800", "\\udc00\\ud800", "\\u0000", "\\x41", "\\u12", "\\")))
    return f'"{"".join(out)}"'


def nested(r: Random) -> str:
    depth = some(r, (1, 2, 14, 15, 16, 17, 18, 40, 300, 900, 1500))
    opens, closes = some(r, (("[", "]"), ('{"a":', "}"), ('[{"fix":', "}]")))
    return opens * depth + some(r, ("1", '""', "")) + closes * (depth - often(r, 10))


def any_json(r: Random) -> str:
    match r.randrange(7):
        case 0:
            return number(r)
        case 1:
            return nested(r)
        case 2:
            return some(
                r, ("null", "true", "false", "{}", "[]", '""', "nul", "True", "", "undefined")
            )
        case 3:
            return "[" + ",".join(any_json(r) for _ in range(r.randrange(3))) + "]"
        case _:
            return quoted(r, word(r))


def json_object(r: Random, members: Sequence[tuple[str, str]], percent: int = 20) -> bytes:
    """members: name and JSON text of the value. Some missing, twisted, doubled, or of another."""
    out: list[tuple[str, str]] = []
    for name, value in members:
        if often(r, percent // 4):
            continue
        if often(r, percent // 2):
            value = any_json(r)
        if often(r, percent // 4):
            name = twisted(r, name)
        out.append((name, value))
        if often(r, percent // 5):
            out.append((name, any_json(r) if often(r, 50) else value))
    if often(r, percent // 2) and out:
        one, two = r.randrange(len(out)), r.randrange(len(out))
        (a, x), (b, y) = out[one], out[two]
        out[one], out[two] = (a, y), (b, x)
    if often(r, percent // 2):
        out.insert(r.randrange(len(out) + 1), (word(r), any_json(r)))
    comma, colon = some(r, ((",", ":"), (", ", ": "), ("\n,\t", " : "), (",", ":")))
    text = "{" + comma.join(f"{quoted(r, name)}{colon}{value}" for name, value in out) + "}"
    if often(r, 4):
        text = (
            some(r, ("[", "\ufeff", "  ", "", '"'))
            + text
            + some(r, ("]", "}", "x", "\x00", "", "\n{}"))
        )
    return noisy(r, utf8(text), 6)


def _q(r: Random, good: str, percent: int = 15) -> str:
    return quoted(r, maybe(r, good, percent))


def _moment(r: Random) -> str:
    return _q(
        r,
        some(
            r,
            (
                *(
                    "2026-11-22T10:15:02.114Z",
                    "2026-11-22T10:15:02Z",
                    "2026-11-22T10:15:02.123456789Z",
                ),
                *("2026-11-23T10:15:02Z", "2025-02-29T10:15:02Z", "9999-12-31T23:59:59.999999999Z"),
                *(
                    "0001-01-01T00:00:00Z",
                    "0000-01-01T00:00:00Z",
                    "2026-11-22T10:15:60Z",
                    "2026-11-22T24:00:00Z",
                ),
                *("2026-11-22T10:15:02+01:00", "2026-11-22 10:15:02Z", "２026-11-22T10:15:02Z"),
            ),
        ),
        8,
    )


def _issi(r: Random) -> list[tuple[str, str]]:
    if not often(r, 25):
        return []
    return [
        (
            "issi",
            some(
                r,
                (
                    '"5001001"',
                    '"5001001"',
                    '"5001002"',
                    "5001001",
                    '" 5001001"',
                    '"５001001"',
                    "null",
                    "[]",
                ),
            ),
        )
    ]


def fix_members(r: Random) -> list[tuple[str, str]]:
    return [
        ("t", _moment(r)),
        ("lat", some(r, ("52.5725", "-52.5", "0", "90", number(r)))),
        ("lon", some(r, ("-0.2431", "0.25", "180", number(r)))),
        ("speed_mps", some(r, ("1.2", "0", "null", number(r)))),
        ("course_deg", some(r, ("90", "360", "null", number(r)))),
        ("accuracy_m", some(r, ("8", "null", number(r)))),
        *_issi(r),
    ]


def gpsd_report(r: Random) -> bytes:
    """One report of gpsd's, without its line end."""
    name = some(r, ('"TPV"', '"TPV"', '"TPV"', '"SKY"', '"ERROR"', '"WATCH"', '"tpv"', number(r)))
    return json_object(
        r,
        [
            ("class", name),
            ("device", some(r, ('"/dev/ttyACM0"', '""', number(r)))),
            ("mode", some(r, ("3", "2", "3", "1", "0", "4", "-1", "3.0", number(r)))),
            ("status", some(r, ("1", "2", "5", "8", "7", "null", number(r)))),
            ("time", _moment(r)),
            ("lat", some(r, ("52.5725", "-52.5", "0", "90", number(r)))),
            ("lon", some(r, ("-0.2431", "0.25", "180", "0", number(r)))),
            ("speed", some(r, ("1.2", "0", "206", number(r)))),
            ("track", some(r, ("90", "360", number(r)))),
            ("eph", some(r, ("8", "0", "1899.810", number(r)))),
        ],
    )


def gpsd_stream(r: Random) -> bytes:
    """Reports as they come, cut off, spliced, and beside what is none."""
    pieces = []
    for _ in range(r.randrange(1, 6)):
        report = gpsd_report(r)
        if often(r, 8):
            report = report[: r.randrange(len(report) + 1)]
        if often(r, 3):
            report = b"A" * some(r, (10_239, 10_240, 10_241, 30_000))
        pieces.append(report + some(r, (b"\r\n", b"\r\n", b"\n", b"", b"\r\n\r\n")))
    return noisy(r, b"".join(pieces), 6)


def tracker_query(r: Random) -> bytes:
    """As OsmAnd and Traccar's clients send it: parts missing, twisted, doubled, badly escaped."""
    moments = ("1795342502", "1795342502000", "2026-11-22T10:15:02Z", "2026-11-22+10:15:02", "-1")
    parts = [
        f"{some(r, ('id', 'deviceid', 'device_id'))}={maybe(r, 'TRK1', 8)}",
        f"lat={maybe(r, some(r, ('52.5725', '0', '-', '91', number(r))), 8)}",
        f"lon={maybe(r, some(r, ('-0.2431', '0', '-', '181', number(r))), 8)}",
        f"timestamp={maybe(r, some(r, moments), 15)}",
        f"speed={some(r, ('10', '-1', '401', number(r)))}",
        f"{some(r, ('bearing', 'heading'))}={some(r, ('90', '-1', '360', number(r)))}",
        f"accuracy={some(r, ('8', '0', '-1', number(r)))}",
        f"hdop={some(r, ('1.3', '99', number(r)))}",
        f"location={some(r, ('52.5725,-0.2431', '52.5%2C-0.2', ',', number(r)))}",
        f"valid={some(r, ('true', 'false', '1', '0', ''))}",
        f"alarm={some(r, ('sos', 'SOS', 'lowBattery', ''))}",
        f"mock={some(r, ('true', 'false'))}",
    ]
    kept = [part for part in parts if often(r, 45)] or parts[:3]
    if often(r, 50):
        kept = [*parts[:3], *(part for part in parts[3:8] if often(r, 40))]
    if often(r, 8):
        kept.append(some(r, kept))
    if often(r, 3):
        kept += ["x=" + "A" * some(r, (4000, 4096, 9000))]
    r.shuffle(kept)
    return noisy(r, "&".join(kept).encode("utf-8", "surrogatepass"), 10)


def tracker_body(r: Random) -> bytes:
    """As the newer client posts it."""
    coords = json_object(
        r,
        [
            ("latitude", some(r, ("52.5725", "0", "91", number(r)))),
            ("longitude", some(r, ("-0.2431", "0", "-1", number(r)))),
            ("accuracy", some(r, ("8", "-1", number(r)))),
            ("speed", some(r, ("5.5", "-1", number(r)))),
            ("heading", some(r, ("90", "-1", number(r)))),
        ],
        10,
    ).decode("utf-8", "replace")
    location = json_object(
        r,
        [
            ("timestamp", some(r, (_moment(r), "1795342502000", number(r)))),
            ("coords", coords),
            ("mock", some(r, ("false", "true"))),
            ("extras", some(r, ("{}", '{"alarm":"sos"}', any_json(r)))),
        ],
        10,
    ).decode("utf-8", "replace")
    device = some(r, ('"TRK1"', "123456", '""', any_json(r)))
    return json_object(r, [("device_id", device), ("location", location)], 10)


def owntracks_body(r: Random) -> bytes:
    """What a phone says, or something like it. `E` in front: it is to be encrypted first."""
    kind = some(r, ("location", "location", "location", "lwt", "transition", "card", "x"))
    body = json_object(
        r,
        [
            ("_type", _q(r, kind, 8)),
            ("lat", some(r, ("52.5725", "-52", "0", "90", "null", number(r)))),
            ("lon", some(r, ("-0.2431", "0", "180", "-122", number(r)))),
            ("tst", some(r, ("1795342502", "1795342502.5", "0", "1795342502000", number(r)))),
            ("acc", some(r, ("12", "0", "-1", '"x"', "null", number(r)))),
            ("vel", some(r, ("36", "0", "-1", "true", number(r)))),
            ("cog", some(r, ("268", "360", "-1", number(r)))),
            ("t", some(r, ('"p"', '"u"', '"t"', '"l"', "null", number(r)))),
            ("topic", some(r, ('"owntracks/nora/phone"', '"owntracks/eve/phone"', number(r)))),
            ("data", some(r, ('"AAAA"', '"%"', '""', number(r)))),
        ],
    )
    if often(r, 8):
        body = body[: r.randrange(len(body) + 1)]
    return some(r, (b"E", b"")) + noisy(r, body, 12)


def fix_body(r: Random) -> bytes:
    return json_object(r, fix_members(r))


def check_body(r: Random) -> bytes:
    kind = some(r, ("vehicle", "vehicle", "person", "driver", "property"))
    members = [
        ("ref", _q(r, "a1")),
        ("t", _moment(r)),
        ("kind", _q(r, kind, 8)),
        ("reason", _q(r, "1", 8)),
    ]
    match kind:
        case "vehicle":
            members.append(
                ("vrm", _q(r, some(r, MARKS), 40))
                if often(r, 70)
                else ("vin", _q(r, "TSTZZZ00000000001", 40))
            )
        case "property":
            members += [("type", _q(r, "PEDAL CYCLE", 25)), ("serial", _q(r, "TST BIKE/001", 25))]
        case _:
            members += [
                ("surname", _q(r, some(r, NAMES), 25)),
                ("forenames", _q(r, some(r, NAMES), 25)),
                ("dob", _q(r, some(r, ("1970-01-01", "1970-02-30", "1770-01-01", "19700101")), 10)),
                ("sex", _q(r, some(r, ("M", "f", "U")), 15)),
                ("age", some(r, ("30", "null", number(r)))),
            ]
            if kind == "driver":
                members.append(("driver_no", _q(r, some(r, ("TESTE802020C99AA", "")), 25)))
    if often(r, 30):
        members.append(("justification", _q(r, "NO LIGHTS", 40)))
    if often(r, 30):
        members.append(("location", _q(r, "BRIDGE ST", 40)))
    if often(r, 20):
        members.append(("full", some(r, ("true", "false", "1"))))
    if often(r, 30):
        members.append(("fix", json_object(r, fix_members(r), 10).decode("utf-8", "replace")))
    return json_object(r, [*members, *_issi(r)], 16)


def status_body(r: Random) -> bytes:
    if often(r, 40):
        return book_body(r)
    return json_object(r, [("code", some(r, ("0", "4", "65535", number(r)))), *_issi(r)], 24)


def book_body(r: Random) -> bytes:
    """Booking on and off, and whether somebody is free to read; each member good or nearly."""
    if often(r, 25):
        members = [
            ("privacy", _q(r, some(r, ("free", "not_free", "FREE")), 15)),
            ("check", _q(r, some(r, ("C7F3", "", "c7f3")), 15)),
        ]
        return json_object(r, [*members, *_issi(r)], 16)
    return json_object(
        r,
        [
            ("book", _q(r, some(r, ("on", "on", "off", "ON")), 15)),
            ("officer", _q(r, some(r, ("1001", "PC1002", "", "pc1", "1" * 11)), 15)),
            ("factor", _q(r, some(r, ("4711", "aB*c#", "471", "x" * 65)), 15)),
            ("callsign", _q(r, some(r, ("E-101", "", "e_1", "E" * 13)), 15)),
            ("second", some(r, ("true", "false", "1"))),
            ("t", _q(r, some(r, ("2026-11-22T10:15:02.114Z", "2026-11-22T10:15:02")), 15)),
            *_issi(r),
        ],
        20,
    )


def ack_body(r: Random) -> bytes:
    return json_object(
        r,
        [
            ("check", _q(r, some(r, ("C7F3", "01JD6Q8ZK7M2V9X4T0C7F3")), 25)),
            ("part", some(r, ("1", "9", number(r)))),
            ("state", _q(r, some(r, ("delivered", "read", "READ")), 15)),
            *_issi(r),
        ],
        20,
    )


def down_body(r: Random) -> bytes:
    text = _q(r, "!!STOLEN\\nTE99STV", 25)
    return json_object(
        r,
        [
            *(
                ("ref", _q(r, "a1")),
                ("check", _q(r, "01JD6Q8ZK7M2V9X4T0C7F3")),
                ("short", _q(r, "C7F3")),
            ),
            ("outcome", _q(r, some(r, ("answered", "refused", "expired", "failed")), 10)),
            *(
                ("class", _q(r, "HIT_STOLEN")),
                ("danger", f"[{_q(r, 'STOLEN')}]"),
                ("pages", f"[{text}]"),
            ),
            *(
                ("fields", f"{{{_q(r, 'vrm')}:{_q(r, 'TE99STV')}}}"),
                ("not_checked", "[]"),
                ("as_of", _moment(r)),
            ),
            *(
                ("level", _q(r, "L3")),
                ("marking", _q(r, "OFFICIAL")),
                ("synthetic", "true"),
                ("receipt", _q(r, "4F2A")),
            ),
            *(
                ("accepted", some(r, ("true", "false"))),
                ("why", _q(r, "")),
                ("kind", _q(r, "late")),
                ("text", text),
            ),
        ],
        8,
    )


# --------------------------------------------------------------------------- topics, HTTP, PNC


def topic(r: Random) -> bytes:
    """M10: what may stand where an identity is expected, and around it."""
    issi = some(
        r,
        (
            *("5001001", "5001001", "5001001", "5001002", "9999999", "0", "00000000", "123456789"),
            *(
                "+",
                "#",
                "$SYS",
                "",
                " 5001001",
                "5001001 ",
                "5001001\x00",
                "5001001\r",
                "５001001",
                "٥001001",
            ),
            *(
                "5001001/up/status",
                "../5001001",
                "%35001001",
                "5001001\u202e",
                "x1",
                "-5001001",
                "5001001.0",
            ),
            *("5" * 300, "5" * 65000, "\ud800", word(r)),
        ),
    )
    channel = some(
        r,
        (
            "check",
            "text",
            "fix",
            "nmea",
            "status",
            "ack",
            "strange",
            "",
            "CHECK",
            "check/x",
            "+",
            "#",
        ),
    )
    prefix = some(
        r,
        (
            "radio",
            "radio",
            "radio",
            "radio",
            "Radio",
            "radio/radio",
            "$share/g/radio",
            "/radio",
            "",
        ),
    )
    direction = some(r, ("up", "up", "up", "up", "down", "UP", ""))
    made = f"{prefix}/{issi}/{direction}/{channel}"
    return utf8(twisted(r, made) if often(r, 10) else made).replace(b"\n", b"")


BODIES: dict[str, Made] = {
    "check": check_body,
    "fix": fix_body,
    "status": status_body,
    "ack": ack_body,
    "text": lambda r: utf8(keysds_text(r)),
    "nmea": nmea_stream,
}


def received(r: Random) -> bytes:
    """One message of a broker: `R` when retained, the topic, a line feed, the payload."""
    name = topic(r)
    body = BODIES.get(name.rsplit(b"/", 1)[-1].decode("latin-1"), fix_body)
    payload = some(r, (b"\x00", b"A", b"[", b"9")) * 16400 if often(r, 2) else body(r)
    return (b"R" if often(r, 10) else b"-") + name + b"\n" + payload


def act_body(r: Random) -> bytes:
    members: list[tuple[str, str]] = []
    if often(r, 10):
        members.append(("by", _q(r, some(r, ("op1", "Ó TESTER", "a" * 40, "a" * 41)), 35)))
    if often(r, 60):
        members.append(("purpose", _q(r, some(r, ("lawfulness", "integrity-security")), 20)))
    return json_object(r, members, 16)


def place_lines(r: Random) -> bytes:
    """Last-Event-ID, `epoch` and `after` of the query, a line each."""
    header = some(
        r,
        (
            "",
            "01TEST:5",
            "01TEST:-1",
            "a:b",
            f"01TEST:{number(r)}",
            f"{word(r)}:{number(r)}",
            "x" * 5000,
        ),
    )
    epoch = maybe(r, "01TEST", 20)
    after = some(r, ("", "5", number(r), word(r), "٣", "²", "1" * 15, "1" * 16))
    return utf8(
        "\n".join(each.replace("\n", "").replace("\r", "") for each in (header, epoch, after))
    )


def http_request(r: Random) -> bytes:
    """A request as bytes: line, headers and body, each good or nearly."""
    paths = (
        *(
            "/",
            "/page.js",
            "/api/v1/snapshot",
            "/api/v1/time",
            "/api/v1/checks/C7F3",
            "/api/openapi.json",
        ),
        *(
            "/api/v1/alarms/A1/ack",
            "/api/v1/alarms/A1/close",
            "/api/v1/export",
            "/api/v1/login",
            "/api/v1/sessions",
            "/login/callback?code=a&state=b",
            "/metrics",
            "/healthz",
            "/readyz",
        ),
        *(
            "/..%2f..%2fetc/passwd",
            "/api/v1/checks/%00",
            "/api/v1/checks/%ff",
            "//x",
            "*",
            "http://evil/",
            "/?" + "a=1&" * 50,
        ),
        *("/api/v1/stream?epoch=x&after=1x", "/api/v1/checks/" + "A" * 300),
    )
    body = act_body(r)
    length = some(
        r, (str(len(body)), str(len(body)), str(len(body)), "0", "-1", "+1", number(r), "1,1")
    )
    headers = [
        (
            "Host",
            maybe(
                r,
                some(r, ("localhost", "127.0.0.1", "[::1]", "evil.test", "127.0.0.1@evil", "[::1")),
                8,
            ),
        ),
        ("Content-Type", maybe(r, "application/json", 8)),
        ("Idempotency-Key", maybe(r, f"k{r.randrange(5)}", 15)),
        ("Content-Length", length),
    ]
    if often(r, 25):
        headers.append(
            (
                some(
                    r,
                    (
                        "Origin",
                        "Sec-Fetch-Site",
                        "Last-Event-ID",
                        "Cookie",
                        "Expect",
                        "Upgrade",
                        "Connection",
                    ),
                ),
                maybe(
                    r,
                    some(
                        r,
                        (
                            "http://localhost",
                            "null",
                            "same-origin",
                            "100-continue",
                            "h2c",
                            "close",
                            "http://[",
                        ),
                    ),
                    30,
                ),
            )
        )
    if often(r, 12):
        headers.append(
            ("Transfer-Encoding", some(r, ("chunked", "gzip", "chunked, chunked", " chunked")))
        )
        body = some(
            r,
            (
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
                b"-1\r\n",
                b"fffffffffffffffff\r\n",
                b"0\r\n\r\n",
            ),
        )
    if often(r, 6):
        headers.append(
            some(
                r,
                (
                    ("X" * 9000, "1"),
                    ("X", "y" * 9000),
                    (" Host", "x"),
                    ("Content-Length", "5"),
                    ("Host", "evil"),
                ),
            )
        )
    method = maybe(
        r, some(r, ("GET", "GET", "POST", "POST", "HEAD", "PUT", "TRACE", "CONNECT", "OPTIONS")), 4
    )
    path = some(r, paths)
    version = some(r, ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", ""))
    end = "\n" if often(r, 3) else "\r\n"
    head = end.join(
        [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers)]
    )
    return noisy(r, utf8(head + end * 2) + body, 12)


def pnc_reply(r: Random) -> bytes:
    """A reply to the question about TE99AAA: right, or wrong where it would mislead."""
    warnings = some(
        r,
        (
            "",
            ',"warnings":["FI"]',
            ',"warnings":[]',
            ',"warnings":["FI","ZZ"]',
            f',"warnings":{any_json(r)}',
        ),
    )
    mark = quoted(r, maybe(r, "TE99AAA", 25))
    record = f'{{"record":{_q(r, "vehicle", 10)},"vrm":{mark},"make":{_q(r, "FORD")}{warnings}}}'
    result = some(r, ("trace", "no_trace", "too_many", "none"))
    records = some(r, ("[]", f"[{record}]", f"[{record},{record}]", any_json(r)))
    block = f'{{"source":{_q(r, "PNC", 10)},"as_of":{_moment(r)},"state":{_q(r, "OK", 20)}}}'
    return json_object(
        r,
        [
            ("protocol", some(r, ("1", "1", "1", "2", number(r)))),
            ("check", _q(r, "01TESTC001", 6)),
            ("attempt", some(r, ("1", "1", "1", "1", number(r)))),
            ("key_text", _q(r, "VRM:TE99AAA", 6)),
            *(("result", _q(r, result, 6)), ("as_of", _moment(r)), ("records", records)),
            *(("blocks", f"[{block}]"), ("not_checked", "[]")),
        ],
        10,
    )


def export_reply(r: Random) -> bytes:
    """What something on the daemon's port may say to `audit export`."""
    if often(r, 20):
        return some(r, (b"", b"<html>", nested(r).encode(), number(r).encode(), utf8(any_json(r))))
    return json_object(
        r, [("instance", _q(r, "gwt", 20)), ("title", _q(r, "cannot record this now", 40))], 24
    )


def tak_stream(r: Random) -> bytes:
    """What a TAK server says to its clients: events, pings and answers among them, and noise."""
    events = []
    for _ in range(r.randrange(1, 5)):
        type_ = maybe(r, some(r, ["t-x-c-t", "t-x-c-t-r", "a-f-G-U-C", "t-x-takp-v"]))
        mark = some(r, ['"', "'"])
        space = some(r, ["", " ", "\n"]) * r.randrange(1, 3)
        header = some(r, ["", '<?xml version="1.0" encoding="UTF-8"?>\n'])
        tag = f"<event uid={mark}{word(r)}{mark} type{space}={space}{mark}{type_}{mark}"
        end = some(r, ["/>", "></event>", '><point lat="0"/></event>', "></event>\n", ""])
        text = header + some(r, [tag, tag, "<event " * r.randrange(1, 300)]) + end
        events.append(noisy(r, utf8(text), 20))
    return b"".join(events)


def toml(sample: str) -> Made:
    """The sample configuration with some of its lines changed, doubled, moved or gone."""
    lines = sample.splitlines()

    def made(r: Random) -> bytes:
        out = list(lines)
        for _ in range(r.randrange(1, 4)):
            at = r.randrange(len(out))
            name, equals, _ = out[at].partition("=")
            match r.randrange(6):
                case 0 if equals:
                    value = some(r, (any_json(r), number(r), "2026-11-22", "{a=1}", "[[]]"))
                    out[at] = f"{name}= {value}"
                case 1:
                    out[at] = twisted(r, out[at])
                case 2:
                    out.insert(at, out[r.randrange(len(out))])
                case 3:
                    del out[at]
                case 4:
                    out.insert(at, f"{maybe(r, 'port', 60)} = {any_json(r)}")
                case _:
                    out.insert(
                        at,
                        some(
                            r, ("[serial]", "[[serial]]", "[mqtt]", "[[mqtt]]", "[a.b]", "[", "x")
                        ),
                    )
            out = out or [""]
        return noisy(r, utf8("\n".join(out)), 6)

    return made
