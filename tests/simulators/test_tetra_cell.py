"""The network around a simulated radio: in order when it is still, and every fault by its seed."""

from __future__ import annotations

from collections import Counter

import pytest

from simulators import tetra_air as air
from simulators.tetra_air import Sdu, Text
from simulators.tetra_cell import ROUGH, SLOW, STILL, Air, Cell
from simulators.tetra_mobile import OPEN_MOST, Mobile
from simulators.tetra_pei import PLAIN, Pei

SSI = 5_001_001


def cell(weather: Air = STILL, seed: int = 1) -> tuple[Cell, list[Sdu]]:
    """A radio that is registered for text, and what its one handset hears."""
    pei = Pei(PLAIN)
    pei.feed(b"ATE0\r\nAT+CMEE=1\r\nAT+CTSP=1,3,130\r\nAT+CTSDS=12,0\r\n", 0.0)
    heard: list[Sdu] = []
    made = Cell(pei, weather, seed=seed)
    made.attach(SSI, heard.append)
    return made, heard


def write(made: Cell, sdu: Sdu, at_s: float, party: str = "5001001") -> bytes:
    return made.wrote(f"AT+CMGS={party},{sdu.bits}\r\n{sdu.data.hex().upper()}\x1a".encode(), at_s)


def texts(out: bytes) -> list[str]:
    """What the line told the gateway of, in its order."""
    lines = [line for line in out.decode().split("\r\n") if line.startswith("82")]
    return [bytes.fromhex(line)[4:].decode() for line in lines]


def test_when_it_is_still_everything_comes_at_once() -> None:
    made, heard = cell()
    assert made.transmit(SSI, air.text("V TE99ABC R1", 1), 5.0)
    assert texts(made.due(5.0)) == ["V TE99ABC R1"]
    out = write(made, air.text("SENT C7F3", 9), 6.0)
    assert out == b"\r\n+CMGS: 0\r\n\r\nOK\r\n\r\n+CMGS: 0,4,1\r\n"
    assert [air.read(each) for each in heard] == [Text(0x82, "SENT C7F3", 9, 0)]


def test_a_delay_each_way_and_the_order_is_kept() -> None:
    made, heard = cell(Air(delay_s=(0.3, 8.0)))
    for n in range(20):
        made.transmit(SSI, air.text(str(n), n), n * 0.1)
    assert made.due(0.29) == b""
    out = b"".join(made.due(at / 10) for at in range(120))
    assert texts(out) == [str(n) for n in range(20)]
    write(made, air.text("ANSWER", 9), 20.0)
    assert made.due(20.29) == b""
    assert not heard
    assert b",4," in made.due(28.1) + made.due(40.0)
    assert len(heard) == 1


def test_with_overtaking_it_is_not() -> None:
    made, _ = cell(SLOW)
    for n in range(40):
        made.transmit(SSI, air.text(str(n), n), n * 0.1)
    came = texts(b"".join(made.due(at / 10) for at in range(160)))
    assert sorted(came, key=int) == [str(n) for n in range(40)]
    assert came != sorted(came, key=int)


def test_every_fault_happens_and_the_same_seed_is_the_same_weather() -> None:
    def played(seed: int) -> tuple[Counter[str], list[str], int]:
        made, heard = cell(ROUGH, seed)
        happened: Counter[str] = Counter()
        came: list[str] = []
        for n in range(300):
            at_s = n * 10.0
            made.transmit(SSI, air.text(str(n), n % 256), at_s)
            out = write(made, air.text(f"A{n}", n % 256), at_s) + made.due(at_s + 9.9)
            came += texts(out)
            for word in ("ERROR: 42", "ERROR: 20", "ERROR: 31", ",4,", ",5,"):
                happened[word] += word in out.decode()
        happened["lost"], happened["up twice"] = 300 - len(set(came)), len(came) - len(set(came))
        happened["down twice"] = len(heard) - len(set(heard))
        happened["mute"] = made.pei.counts["accepted"] - happened[",4,"] - happened[",5,"]
        return happened, came, made.lost

    happened, came, lost = played(7)
    assert min(happened.values()) > 0, happened
    assert played(7) == (happened, came, lost)
    assert played(8)[1] != came


def test_whoever_is_out_of_reach_hears_nothing_and_the_gateway_is_told() -> None:
    made, heard = cell()
    made.cover(SSI, False)
    assert b"+CMGS: 0,5," in write(made, air.text("ANSWER", 1), 1.0)
    assert not made.transmit(SSI, air.text("V TE99ABC R1", 1), 1.0)
    assert b"+CMGS: 1,5," in write(made, air.text("ANSWER", 1), 2.0, party="5009999")
    made.cover(SSI, True)
    assert b"+CMGS: 2,4," in write(made, air.text("ANSWER", 1), 3.0)
    assert len(heard) == 1


@pytest.mark.parametrize("short", [False, True])
def test_a_handset_reports_what_was_asked_for(short: bool) -> None:
    """Received at once, consumed when it is opened; nothing where nothing was asked."""
    mobile = Mobile(short=short)
    both = mobile.hear(air.text("!!WEAPONS", 5, pid=air.IMMEDIATE, request=3))
    said = [air.read(each) for each in both.replies]
    assert said == [air.Report(0, 5, 0 if short else 0x89, short)]
    (text,) = both.texts
    assert [air.read(each) for each in mobile.opened(text)] == [
        air.Report(2, 5, 0 if short else 0x89, short)
    ]
    none = mobile.hear(air.text("NO TRACE", 6))
    assert (none.replies, mobile.opened(none.texts[0])) == ([], [])
    simple = mobile.hear(air.simple_text("NO TRACE"))
    assert mobile.opened(simple.texts[0]) == []


def test_parts_are_put_together_in_any_order_once() -> None:
    mobile = Mobile()
    text = "X" * 73 + "Y" * 73 + "Z"
    one, two, three = air.parts(text, 9, request=1)
    came = [mobile.hear(each) for each in (three, one, one, two)]
    assert [[text.text for text in each.texts] for each in came] == [[], [], [], [text]]
    assert all(each.replies for each in came), "each part is reported by itself"
    first, second = (
        air.whole(air.SDS_4, bytes.fromhex(digits))
        for digits in (
            "8C023305020182023201494E4E455220",
            "8C02340502024D4553534147452053504C495420494E2054574F",
        )
    )
    mobile.hear(second)
    assert [each.text for each in mobile.hear(first).texts] == ["INNER MESSAGE SPLIT IN TWO"]
    for ref in range(OPEN_MOST + 3):
        mobile.hear(air.parts("A" * 80, ref)[0])
    assert mobile.hear(air.parts("A" * 80, 0)[1]).texts == [], "the oldest was given up"


def test_references_wrap_and_long_texts_take_several() -> None:
    mobile = Mobile()
    for _ in range(254):
        mobile.text("V TE99ABC R1")
    mobile.text("A" * 160)
    assert list(mobile.sent)[-3:] == [255, 0, 1]
    assert air.read(mobile.text("B")[0]) == Text(0x82, "B", 2, 0)
