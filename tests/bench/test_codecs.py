"""W3 beside the sentences: what one message costs in each codec, against a floor of the same run.

The floor is the least that any codec does: take bytes, and make one frozen message of them. Of
short data each message has the next reference, as a handset counts; of a line the same sentence
comes again, which is read as the first was, and then known as a copy.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from adapters import codecs
from adapters.links.tetra_pei import TetraPei
from gateway.messages import LocationFix
from simulators.phone import sealed
from tests.bench import rig

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

NOW_MS = 1_795_342_510_000
MESSAGES, ROUNDS = 20_000, 5
AT_MOST_US = 60.0
"""Issue 5, statement 12."""

Feed = Callable[[bytes], object]


class Case(NamedTuple):
    """messages: fed in turn, again and again, a second apart."""

    what: str
    made: Callable[[], Feed]
    messages: Sequence[bytes]


def datagrams(name: str, channel: str = "") -> Callable[[], Feed]:
    def made() -> Feed:
        feed, times = codecs.create(name).feed, itertools.count(NOW_MS, 1000)
        return lambda data: feed(data, received_at_ms=next(times), channel=channel)

    return made


def pei() -> Feed:
    feed = TetraPei().feed
    return lambda data: feed(data, 0.0)


def phone(passphrase: str = "") -> Callable[[], Feed]:
    """A codec for each message, as the link has it."""

    def feed(data: bytes) -> object:
        codec = codecs.create("owntracks", identity="nora/phone", passphrase=passphrase)
        return codec.feed(data, received_at_ms=NOW_MS)

    return lambda: feed


def counted(pid: int, text: bytes) -> list[bytes]:
    """A text with delivery reports asked for, as a handset sends it: 256 references."""
    return [bytes((pid, 0x06, reference, 0x01)) + text for reference in range(256)]


def on_pei(data: bytes) -> bytes:
    return b"\r\n+CTSDSR: 12,5001001,0,6000001,0,%d\r\n%s\r\n" % (
        8 * len(data),
        data.hex().upper().encode(),
    )


RMC = b"$GPRMC,101559.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,A*76\r\n"
SHORT = bytes.fromhex("0A0FFE639A49F7914A4810")
LONG = bytes.fromhex("0A4E0DFBED7FA0AFAA28F25F8005FE010100")
PHONE = (
    b'{"_type":"location","acc":12,"alt":14,"batt":71,"bs":1,"cog":268,"conn":"m",'
    b'"created_at":1795342503,"lat":52.5725,"lon":-0.2431,"m":2,"t":"u","tid":"ne",'
    b'"tst":1795342502,"vac":3,"vel":36,"_id":"a1b2c3d4"}'
)
TYPED = counted(0x82, b"V TE99ABC R1")

TPVS = [
    b'{"class":"TPV","device":"/dev/ttyACM0","mode":3,"time":"2026-11-22T10:15:%02d.000Z",'
    b'"ept":0.005,"lat":52.572500000,"lon":-0.243100000,"altHAE":59.0000,"altMSL":12.0000,'
    b'"epx":3.100,"epy":4.200,"epv":9.600,"track":358.5000,"magtrack":358.1823,"magvar":-0.3,'
    b'"speed":13.787,"climb":0.000,"eps":8.40,"epc":96.60,"geoidSep":47.000,"eph":5.500,'
    b'"sep":12.400}\r\n' % second
    for second in range(60)
]
SKY = (
    b'{"class":"SKY","device":"/dev/ttyACM0","time":"2026-11-22T10:15:09.000Z","hdop":0.9,'
    b'"satellites":['
    + b",".join(b'{"PRN":%d,"el":40.0,"az":83.0,"ss":46.0,"used":true}' % n for n in range(12))
    + b"]}\r\n"
)
QUERY = b"id=TRK1&timestamp=1795342502&lat=52.5725&lon=-0.2431&speed=10.0&bearing=90.0&accuracy=8.0"
POSTED = (
    b'{"device_id":"TRK1","location":{"timestamp":"2026-11-22T10:15:02.000Z","coords":{'
    b'"latitude":52.5725,"longitude":-0.2431,"accuracy":8,"speed":5.5,"heading":90,"altitude":12},'
    b'"is_moving":true,"odometer":12,"battery":{"level":0.77,"is_charging":false}}}'
)

CASES = [
    Case("NMEA, RMC", datagrams("nmea0183"), [RMC]),
    Case("LIP, short report", datagrams("lip"), [SHORT]),
    Case(
        "LIP, emergency by its reason", datagrams("lip"), [bytes.fromhex("0A0FE6741A607A0AFFE020")]
    ),
    Case("LIP, long: time, circle, altitude, velocity", datagrams("lip"), [LONG]),
    Case("LIP, heartbeat", datagrams("lip"), [bytes.fromhex("0A4C00408000")]),
    Case("gpsd, a report of each second", datagrams("gpsd_json"), TPVS),
    Case("gpsd, what is no position", datagrams("gpsd_json"), [SKY]),
    Case("OsmAnd, a query", datagrams("osmand", "query"), [QUERY]),
    Case("OsmAnd, a JSON body", datagrams("osmand", "json"), [POSTED]),
    Case("SDS, LIP in it", datagrams("sds", "sds4"), [SHORT]),
    Case("SDS, an enquiry as text", datagrams("sds", "sds4"), TYPED),
    Case("SDS, a status", datagrams("sds", "status"), [bytes.fromhex("800F")]),
    Case("PEI, the lines of a position", pei, [on_pei(SHORT)]),
    Case("PEI, the lines of an enquiry", pei, [on_pei(each) for each in TYPED]),
    Case("OwnTracks, location", phone(), [PHONE]),
    Case("OwnTracks, location, encrypted", phone("s3cr3t"), [sealed(PHONE, "s3cr3t")]),
    Case("OwnTracks, last will", phone(), [b'{"_type":"lwt","tst":1795340000}']),
]


def floor(data: bytes) -> object:
    value = int.from_bytes(data, "big")
    return (LocationFix(lat=52.5, lon=-0.25, fixed_at_ms=NOW_MS - (value & 7)),)


def each_us(feed: Feed, messages: Sequence[bytes]) -> float:
    """Processor time of this process alone; the best of some rounds."""
    turns = itertools.cycle(messages)
    best_s = float("inf")
    for _ in range(ROUNDS):
        batch = list(itertools.islice(turns, MESSAGES))
        start_s = time.process_time()
        for data in batch:
            feed(data)
        best_s = min(best_s, time.process_time() - start_s)
    return best_s / MESSAGES * 1e6


def test_w3_codecs() -> None:
    floor_us = each_us(floor, [RMC])
    rows: list[tuple[object, ...]] = [
        ("floor: bytes to one message", floor_us, 1e6 / floor_us, 1.0)
    ]
    slow: list[str] = []
    for case in CASES:
        us = each_us(case.made(), case.messages)
        rows.append((case.what, us, round(1e6 / us), us / floor_us))
        if us > AT_MOST_US:
            slow.append(case.what)
    rig.table("W3: one message in each codec", ("what", "us each", "per second", "x floor"), rows)
    assert not slow, f"more than {AT_MOST_US} us: {slow}"
