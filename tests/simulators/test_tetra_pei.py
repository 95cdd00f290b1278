"""The simulated radio's side of the AT dialogue, byte for byte as the reference has it."""

from __future__ import annotations

import msgspec
import pytest

from simulators import tetra_air as air
from simulators.tetra_pei import (
    MOTOROLA_LIKE,
    PLAIN,
    SEPURA_LIKE,
    USER_DATA_WITHIN_S,
    Cme,
    Habits,
    Pei,
)

OK = b"\r\nOK\r\n"
TEXT = air.text("NO TRACE", 7)


def cme(number: int) -> bytes:
    return f"\r\n+CME ERROR: {number}\r\n".encode()


def started(habits: Habits = PLAIN, *services: str) -> Pei:
    """A radio after the usual start-up, echo off."""
    pei = Pei(habits)
    for command in ("ATE0", "AT+CMEE=1", *(f"AT+CTSP={each}" for each in services)):
        assert pei.feed(f"{command}\r\n".encode(), 0.0).endswith(OK)
    return pei


def said(pei: Pei, command: str, at_s: float = 0.0) -> bytes:
    return pei.feed(command.encode() + b"\r\n", at_s)


def sent(pei: Pei, party: str = "5001001", sdu: air.Sdu = TEXT, end: str = "\x1a") -> bytes:
    """As clients do it: one write."""
    return pei.feed(f"AT+CMGS={party},{sdu.bits}\r\n{sdu.data.hex().upper()}{end}".encode(), 0.0)


def test_switched_on_it_echoes_and_knows_no_numbers() -> None:
    pei = Pei(PLAIN)
    assert pei.feed(b"AT\r\n", 0.0) == b"AT\r" + OK
    assert pei.feed(b"AT+NONE\r\n", 0.0) == b"AT+NONE\r\r\nERROR\r\n"
    assert pei.feed(b"ATE0\r\n", 0.0) == b"ATE0\r" + OK
    assert said(pei, "AT+CMEE=1") == OK
    assert said(pei, "AT+NONE") == cme(35)
    assert said(pei, "ATV0") == b"0\r"


def test_any_slices_and_any_line_end() -> None:
    pei = started()
    out = [pei.feed(bytes([byte]), 0.0) for byte in b"at+gmi?\r"]
    assert b"".join(out) == b"\r\n+GMI: PLAIN\r\n" + OK
    assert pei.feed(b"\r\n\r\n", 0.0) == b""


@pytest.mark.parametrize(
    ("habits", "command", "answer"),
    [
        (MOTOROLA_LIKE, "AT+GMI?", b"\r\n+GMI: MOTOROLA\r\n" + OK),
        (SEPURA_LIKE, "AT+GMI?", b"\r\n+GMI:SEPURA\r\n" + OK),
        (MOTOROLA_LIKE, "AT+CNUMF?", b"\r\n+CNUMF: 6,02340001406000001\r\n" + OK),
        (PLAIN, "AT+CREG?", b"\r\n+CREG: 1\r\n" + OK),
        (PLAIN, "AT+CTOM?", b"\r\n+CTOM: 0\r\n" + OK),
        (MOTOROLA_LIKE, "AT+CSCS=8859-1", OK),
        (SEPURA_LIKE, "AT+CSCS=8859-1", b"\r\n+CME ERROR:35\r\n"),
        (
            PLAIN,
            "AT+CMGS=?",
            b"\r\n+CMGS: (0-16777214,00000001-10231638316777214),(8-1184)\r\n" + OK,
        ),
    ],
)
def test_answers(habits: Habits, command: str, answer: bytes) -> None:
    home = msgspec.structs.replace(habits, home="02340001400000000")
    assert said(started(home), command) == answer


def test_services_once_each_and_only_so_many() -> None:
    pei = started(msgspec.structs.replace(PLAIN, services=2))
    assert said(pei, "AT+CTSP=1,3,130") == OK
    assert said(pei, "AT+CTSP=1,3,130") == cme(38)
    assert said(pei, "AT+CTSP=2,3,130") == OK, "another profile for the same is no second row"
    assert said(pei, "AT+CTSP=1,2,20") == OK
    assert said(pei, "AT+CTSP=1,3,10") == cme(39)
    assert said(pei, "AT+CTSP=4,3,10") == cme(34)
    assert said(pei, "AT+CTSP=1") == cme(35)
    assert said(pei, "AT+CTSP?") == b"\r\n+CTSP: 2,3,130\r\n\r\n+CTSP: 1,2,20\r\n" + OK


@pytest.mark.parametrize(
    ("services", "sdu", "comes"),
    [
        (("1,3,130",), air.text("X", 1), True),
        (("2,3,130",), air.text("X", 1), True),
        (("0,3,130",), air.text("X", 1), False),
        (("1,3,130",), air.simple_text("X"), False),
        (("1,2,25",), air.text("X", 1), True),
        (("1,3,25",), air.text("X", 1), True),
        (("1,2,24",), air.short_position(52.0, 0.1), True),
        (("1,3,10",), air.short_position(52.0, 0.1), True),
        (("1,3,10",), air.status(0), False),
        (("1,2,20",), air.status(0), True),
        (("1,2,21",), air.whole(air.SDS_1, b"\x00\x01"), True),
    ],
)
def test_only_registered_services_reach_the_gateway(
    services: tuple[str, ...], sdu: air.Sdu, comes: bool
) -> None:
    pei = started(PLAIN, *services)
    assert bool(pei.deliver(5_001_001, sdu, 0.0)) is comes
    assert pei.counts["not routed"] == (not comes)


def test_a_message_goes_out_and_the_air_says_what_became_of_it() -> None:
    pei = started()
    assert said(pei, "AT+CTSDS=12,0,0,0,1") == OK
    assert sent(pei) == b"\r\n+CMGS: 0\r\n" + OK
    (out,) = pei.outbox
    assert (out.party, out.sdu) == ("5001001", TEXT)
    assert pei.outcome(0, True, 7) == b"\r\n+CMGS: 0,4,7\r\n"
    assert sent(pei) == b"\r\n+CMGS: 1\r\n" + OK
    assert pei.outcome(1, False, 8) == b"\r\n+CMGS: 1,5,8\r\n"
    assert pei.outcome(1, False, 8) == b"", "said once"


def test_a_prompt_where_it_has_one_and_escape_takes_the_message_back() -> None:
    pei = started(msgspec.structs.replace(PLAIN, prompt=True))
    said(pei, "AT+CTSDS=12,0")
    assert said(pei, "AT+CMGS=5001001,32") == b"\r\n> "
    assert pei.feed(b"8210002A\x1b", 0.0) == OK
    assert not pei.outbox
    assert sent(pei).startswith(b"\r\n> \r\n+CMGS: 0")


def test_parameters_are_kept_and_must_fit_what_is_sent() -> None:
    """A status after a text without AT+CTSDS in between is refused: the radio keeps its state."""
    pei = started()
    assert sent(pei) == cme(3) + cme(36), "none yet"
    said(pei, "AT+CTSDS=12,0,0,0,1")
    assert sent(pei, sdu=air.status(0x8002)) == cme(34) + cme(36)
    said(pei, "AT+CTSDS=13,0")
    assert sent(pei, sdu=air.status(0x8002)).endswith(OK)
    pei.outcome(0, True, 1)
    assert sent(pei) == cme(34) + cme(36)
    assert said(pei, "AT+CTSDS=14,0") == cme(34)
    assert said(pei, "AT+CTSDS=x") == cme(35)


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (f"AT+CMGS=5001001,{TEXT.bits}\r\n{TEXT.data.hex()}\x1a", Cme.BAD_CHARACTERS),
        (f"AT+CMGS=5001001,{TEXT.bits}\r\n82\x1a", Cme.RANGE),
        ("AT+CMGS=0,32\r\n", Cme.RANGE),
        ("AT+CMGS=16777215,32\r\n", Cme.RANGE),
        ("AT+CMGS=234001405001001,32\r\n", Cme.RANGE),
        ("AT+CMGS=5001001,1185\r\n", Cme.RANGE),
        ("AT+CMGS=5001001\r\n", Cme.SYNTAX),
        ("8210002A\x1a", Cme.DATA_WITHOUT_COMMAND),
    ],
)
def test_what_is_wrong_with_a_message_is_said(typed: str, error: Cme) -> None:
    pei = started()
    said(pei, "AT+CTSDS=12,0")
    assert pei.feed(typed.encode(), 0.0) == cme(error)
    assert not pei.outbox


def test_user_data_that_does_not_come() -> None:
    pei = started()
    said(pei, "AT+CTSDS=12,0")
    said(pei, "AT+CMGS=5001001,32", at_s=5.0)
    assert pei.due(5.0 + USER_DATA_WITHIN_S - 0.1) == b""
    assert pei.due(5.0 + USER_DATA_WITHIN_S) == cme(37)
    assert said(pei, "AT") == OK


def test_one_message_in_flight() -> None:
    """A second before the first one's fate is known: busy, and counted against the gateway."""
    pei = started()
    said(pei, "AT+CTSDS=12,0")
    sent(pei)
    assert sent(pei) == cme(42)
    assert pei.counts["overlapping"] == 1
    pei.forget_outcome(0)
    assert sent(pei) == b"\r\n+CMGS: 1\r\n" + OK


def test_refusals_of_the_network() -> None:
    pei = started()
    said(pei, "AT+CTSDS=12,0")
    pei.refuse = iter([Cme.BUSY, Cme.STACK_FULL, Cme.NO_LAYER_2_ACK, None]).__next__
    assert [sent(pei) for _ in range(3)] == [cme(42), cme(20), cme(31)]
    assert sent(pei).endswith(OK)
    pei.outcome(0, True, 1)
    assert pei.network(2) == b"\r\n+CREG: 2\r\n"
    pei.refuse = lambda: None
    assert sent(pei) == cme(30)
    pei.network(5)
    pei.inhibited = True
    assert sent(pei) == cme(41)


@pytest.mark.parametrize(
    ("habits", "line"),
    [
        (MOTOROLA_LIKE, b"\r\n+CTSDSR: 12,5001001,0,6000001,0,84\r\n0A0FE6741A607A0AFFE020\r\n"),
        (SEPURA_LIKE, b"\r\n+CTSDSR:12,5001001,0,6000001,0,84,0\r\n0A0FE6741A607A0AFFE02\r\n"),
        (
            msgspec.structs.replace(PLAIN, payload="same"),
            b"\r\n+CTSDSR: 12,5001001,0,6000001,0,84,0A0FE6741A607A0AFFE020\r\n",
        ),
        (
            msgspec.structs.replace(PLAIN, fields=4),
            b"\r\n+CTSDSR: 12,6000001,0,84\r\n0A0FE6741A607A0AFFE020\r\n",
        ),
        (
            msgspec.structs.replace(PLAIN, fields=3),
            b"\r\n+CTSDSR: 12,6000001,84\r\n0A0FE6741A607A0AFFE020\r\n",
        ),
        (
            msgspec.structs.replace(PLAIN, digits=15),
            b"\r\n+CTSDSR: 12,234001405001001,1,234001406000001,1,84\r\n0A0FE6741A607A0AFFE020\r\n",
        ),
        (
            msgspec.structs.replace(PLAIN, digits=16),
            b"\r\n+CTSDSR: 12,2340001405001001,1,2340001406000001,1,84\r\n"
            b"0A0FE6741A607A0AFFE020\r\n",
        ),
        (
            msgspec.structs.replace(PLAIN, digits=17),
            b"\r\n+CTSDSR: 12,02340001405001001,1,02340001406000001,1,84\r\n"
            b"0A0FE6741A607A0AFFE020\r\n",
        ),
    ],
)
def test_what_the_air_brings_as_each_make_says_it(habits: Habits, line: bytes) -> None:
    pei = started(habits, "1,3,10")
    place = air.short_position(53.479396, -2.245299, reason=2, error=2)
    assert pei.deliver(5_001_001, place, 0.0) == line


def test_a_payload_that_comes_by_itself() -> None:
    pei = started(msgspec.structs.replace(PLAIN, payload="late", late_s=0.5), "1,2,20")
    assert (
        pei.deliver(5_001_001, air.status(0), 1.0) == b"\r\n+CTSDSR: 13,5001001,0,6000001,0,16\r\n"
    )
    assert pei.deliver(5_001_005, air.status(0x8004), 1.1) == b"", "not before the first is whole"
    assert pei.due(1.4) == b""
    assert pei.due(1.5) == b"0000\r\n\r\n+CTSDSR: 13,5001005,0,6000001,0,16\r\n"
    assert pei.due(2.0) == b"8004\r\n"


def test_atz_boots_a_sepura_and_a_boot_forgets_everything() -> None:
    pei = started(SEPURA_LIKE, "1,3,130")
    said(pei, "AT+CTSDS=12,0")
    sent(pei)
    assert pei.feed(b"ATZ\r\nAT\r\n", 10.0) == b""
    assert said(pei, "AT", 11.0) == b"", "deaf while it starts"
    assert pei.deliver(5_001_001, air.text("X", 1), 11.0) == b""
    assert pei.outcome(0, True, 1) == b"", "what was on the air is forgotten"
    assert pei.due(13.9) == b""
    assert pei.due(14.0) == SEPURA_LIKE.babble + b"\r\n+CREG:1\r\n"
    assert said(pei, "AT+CTSP?", 15.0) == b"AT+CTSP?\r" + OK, "echo on again, nothing registered"
    assert said(Pei(MOTOROLA_LIKE), "ATZ") == b"ATZ\r" + OK, "another make only resets"


def test_messages_before_any_service_are_refused_where_a_make_does() -> None:
    pei = started(SEPURA_LIKE)
    said(pei, "AT+CTSDS=12,0")
    assert said(pei, "AT+CMGS=5001001,32") == b"\r\n+CME ERROR:3\r\n"
