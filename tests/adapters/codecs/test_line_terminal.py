"""What a line terminal is told: real answers through rendering, and what may not be on a line."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import codecs
from gateway import rendering
from gateway.messages import (
    BadFrame,
    CheckRequest,
    Kind,
    LocationFix,
    Message,
    Notice,
    Outcome,
    Receipt,
    Result,
    ResultClass,
    TextPart,
    VehicleKey,
)
from gateway.policy import View
from gateway.results import Shown
from tests.corpus import ms

NOW_MS = ms("2026-11-22T10:15:10Z")
DANGER = [
    Shown(text="WEAPONS", base="WEAPONS", short="WPN"),
    Shown(text="VIOLENT", base="VIOLENT", short="VIO"),
    Shown(text="STOLEN", base="STOLEN", short="STL"),
]
WANTED = Result(
    ref="",
    check="01JD6Q8ZK7M2V9X4T0C8A1",
    short="C8A1",
    outcome=Outcome.ANSWERED,
    result_class="HIT_WANTED",
    danger=("WEAPONS", "VIOLENT", "WANTED - ARREST"),
    pages=("!!WEAPONS !!VIOLENT \n!!WANTED - ARREST\nTESTER TED 12/04/86\nC8A1 1/3 MATCH:FULL",),
    texts=(
        "C8A1 1/2 !!WEAPONS !!VIOLENT !!WANTED-ARREST TESTER TED 12/04/86",
        "C8A1 2/2 5FT11 BRN HAIR. SCAR L CHEEK. AS AT 05:24",
    ),
    fields={},
    not_checked=(),
    as_of_ms=NOW_MS,
    level="L3",
    receipt="4F2A-91KQ",
)


def lines(message: Message, side: str = "gateway") -> list[str]:
    codec = codecs.create("line_terminal", side=side)
    return [frame.data.decode("ascii") for frame in codec.encode(message)]


def read(text: str) -> list[object]:
    codec = codecs.create("line_terminal", side="terminal")
    return list(codec.feed(text.encode(), received_at_ms=NOW_MS))


def test_an_answer_is_its_messages_in_order_danger_first() -> None:
    """One line a part; what was rendered for the device is said to the letter."""
    assert lines(WANTED) == [f"{text}\r\n" for text in WANTED.texts]
    first, second = (read(line)[0] for line in lines(WANTED))
    assert isinstance(first, TextPart)
    assert isinstance(second, TextPart)
    assert first.text.startswith("!!WEAPONS !!VIOLENT !!WANTED-ARREST")
    assert (first.part, first.parts, second.part) == (1, 2, 2)


def test_parts_may_be_lost_or_swapped_and_each_says_which_it_is() -> None:
    """18.1 rule 4: the number stands in each, so that order and loss show."""
    swapped = [read(line)[0] for line in reversed(lines(WANTED))]
    assert [(each.part, each.parts) for each in swapped if isinstance(each, TextPart)] == [
        (2, 2),
        (1, 2),
    ]


@settings(max_examples=200, deadline=None)
@given(
    subject=st.text(max_size=60),
    client_ref=st.sampled_from(["", "7", "999"]),
    budget=st.sampled_from([73, 79, 140]),
    danger=st.lists(st.sampled_from(DANGER), unique=True, max_size=len(DANGER)),
)
def test_what_is_rendered_comes_out_to_the_letter(
    subject: str, client_ref: str, budget: int, danger: list[Shown]
) -> None:
    """Any Unicode name: what rendering made for the budget is not lengthened, nor changed, here,
    and every danger word is on the first line that a terminal reads."""
    view = View(
        outcome=Outcome.ANSWERED,
        kind=Kind.PERSON,
        level="L3",
        result_class=ResultClass.HIT_WANTED if danger else ResultClass.TRACE_CLEAR,
        dangers=tuple(danger),
        subject=subject,
    )
    texts = rendering.texts(
        view, short="C8A1", budget=budget, client_ref=client_ref, clock_text="05:24"
    )
    said = lines(msgspec.structs.replace(WANTED, texts=texts, client_ref=client_ref))
    assert said == [f"{text}\r\n" for text in texts]
    assert all(len(line) - 2 <= budget for line in said)
    parts = [read(line)[0] for line in said]
    assert all(isinstance(part, TextPart) and part.client_ref == client_ref for part in parts)
    first = parts[0]
    assert isinstance(first, TextPart)
    for word in danger:
        assert word.base in first.text


@pytest.mark.parametrize(
    ("receipt", "line"),
    [
        (Receipt(ref="", check="01C7F3", short="C7F3", accepted=True), "SENT C7F3"),
        (
            Receipt(ref="", check="01C7F3", short="C7F3", accepted=True, client_ref="12"),
            "Q12 SENT C7F3",
        ),
        (Receipt(ref="", check="", short="", accepted=False, why="BUSY RETRY"), "XX BUSY RETRY"),
        (
            Receipt(ref="", check="01C7F3", short="C7F3", accepted=False, why="R? GIVE REASON"),
            "XX R? GIVE REASON",
        ),
        (
            Receipt(
                ref="",
                check="01C7F3",
                short="C7F3",
                accepted=False,
                why="ASKED BY OTHER OFFICER",
                client_ref="7",
            ),
            "Q7 XX ASKED BY OTHER OFFICER",
        ),
    ],
)
def test_a_receipt_is_never_silent(receipt: Receipt, line: str) -> None:
    """6.2: SENT, or XX and why, with Q in front; also where a check has begun already."""
    assert lines(receipt) == [f"{line}\r\n"]


def test_a_notice_has_its_short_form_once() -> None:
    assert lines(Notice(kind="late", text="C7F3 LATE REPLY", short="C7F3")) == [
        "C7F3 LATE REPLY\r\n"
    ]
    assert lines(Notice(kind="late", text="LATE REPLY", short="C7F3")) == ["C7F3 LATE REPLY\r\n"]
    assert lines(Notice(kind="help", text="V MARK R1")) == ["V MARK R1\r\n"]


def test_an_attack_in_an_answer_is_text() -> None:
    """S12, as the catalogue provokes it."""
    attack = msgspec.structs.replace(WANTED, texts=("C8A1 1/1 NAME\x1a\r\nAT+CMGS=1\r\n\x1b[2J",))
    (line,) = lines(attack)
    assert line == "C8A1 1/1 NAME???AT+CMGS=1???[2J\r\n"
    assert len(read(line)) == 1


def test_accents_go_and_what_has_no_ascii_shows_as_missing() -> None:
    """18.1 rule 8: upper-case ASCII; never a byte that a radio may take for something else."""
    assert lines(Notice(kind="operator", text="SEÁN ТЕСТ £5")) == ["SEAN ???? ?5\r\n"]


def test_an_enquiry_is_said_as_it_was_typed() -> None:
    typed = CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", typed="V TE99 ABC R1")
    assert lines(typed, "terminal") == ["V TE99 ABC R1\r\n"]
    untyped = CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref="a1", sent_at_ms=1)
    assert lines(untyped, "terminal") == []


def test_a_fix_without_time_is_not_one_of_1970() -> None:
    assert lines(LocationFix(lat=52.5, lon=-0.2), "terminal") == []
    said = lines(LocationFix(lat=52.5, lon=-0.2, fixed_at_ms=NOW_MS), "terminal")
    assert said[0].startswith("$GPRMC,101510.000,A,5230.0000,N,00012.0000,W,,,221126,,,A*")


def test_bytes_that_are_no_text_are_nobodys_question() -> None:
    """Noise on the line is counted and answered by nobody; Latin-1 is noise, too."""
    codec = codecs.create("line_terminal")
    for noise in (b"\x80\x81\x82\r\n", b"N TESTER/SE\xc1N R1\r\n", b"\x01\x02\r\n"):
        assert codec.feed(noise, received_at_ms=NOW_MS) == [BadFrame("decode")]


def test_dead_reckoning_passes_where_the_line_lets_it() -> None:
    sentence = b"$GPRMC,101502.00,A,5234.3500,N,00014.5860,W,2.40,090.0,221126,,,E*7C\r\n"
    strict, lenient = (
        codecs.create("line_terminal", accept_estimated=accept).feed(
            sentence, received_at_ms=NOW_MS
        )
        for accept in (False, True)
    )
    assert strict == [BadFrame("mode")]
    assert isinstance(lenient[0], LocationFix)
    assert lenient[0].estimated
