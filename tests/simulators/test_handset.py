"""A handset remembers every question, knows its answer, and says what is due when it is due."""

from __future__ import annotations

from gateway.messages import (
    AckState,
    BadFrame,
    CheckRequest,
    DeliveryAck,
    Notice,
    Outcome,
    Receipt,
    Result,
    TextPart,
    VehicleKey,
)
from simulators.handset import RESEND_S, RESENDS_MOST, Handset, Reading, reading_of

ASK = CheckRequest(
    key=VehicleKey(vrm="TE99ABC"), reason="1", typed="V TE99ABC R1 Q1", client_ref="1"
)
JSON = CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref="a1", sent_at_ms=5)


def part(text: str, number: int = 1, of: int = 1, short: str = "C7F3", ref: str = "1") -> TextPart:
    return TextPart(short=short, part=number, parts=of, text=text, client_ref=ref)


def receipt(ref: str = "", short: str = "C7F3", client_ref: str = "1") -> Receipt:
    return Receipt(ref=ref, check="01C7F3", short=short, accepted=True, client_ref=client_ref)


def result(outcome: Outcome = Outcome.ANSWERED, ref: str = "a1") -> Result:
    return Result(
        ref=ref,
        check="01C7F3",
        short="C7F3",
        outcome=outcome,
        result_class="HIT_STOLEN",
        danger=("STOLEN",),
        pages=("!!STOLEN  TE99ABC",),
        texts=("!!STOLEN TE99ABC",),
        fields={},
        not_checked=(),
        as_of_ms=0,
        level="L4",
        receipt="4F2A-91KQ",
    )


def test_question_receipt_answer_read() -> None:
    """The usual course: SENT, two parts, each delivered at once and read after a think time."""
    handset = Handset(resends=False, think_s=2.0)
    exchange = handset.ask(ASK, 10.0)
    assert handset.heard(receipt(), 10.1) == []
    assert exchange.receipt_at_s == 10.1
    first = handset.heard(part("!!STOLEN TE99ABC", 1, 2), 10.5)
    assert first == [DeliveryAck(check="C7F3", part=1, state=AckState.DELIVERED)]
    assert exchange.open
    handset.heard(part("FORD", 2, 2), 10.6)
    assert (exchange.reading, exchange.done_at_s) == (Reading.ANSWERED, 10.6)
    assert exchange.text() == ["!!STOLEN TE99ABC", "FORD"]
    assert handset.due(12.4) == []
    assert handset.due(12.6) == [
        DeliveryAck(check="C7F3", part=1, state=AckState.READ),
        DeliveryAck(check="C7F3", part=2, state=AckState.READ),
    ]
    assert handset.due(99.0) == []


def test_parts_in_any_order_and_twice() -> None:
    """Parts out of order make one answer; a duplicate is acknowledged again but read once."""
    handset = Handset(resends=False, think_s=1.0)
    exchange = handset.ask(ASK, 0.0)
    handset.heard(receipt(), 0.1)
    handset.heard(part("TWO", 2, 2), 0.2)
    assert exchange.open
    handset.heard(part("??NO ANSWER", 1, 2), 0.3)
    again = handset.heard(part("??NO ANSWER", 1, 2), 0.4)
    assert again == [DeliveryAck(check="C7F3", part=1, state=AckState.DELIVERED)]
    assert exchange.reading is Reading.NO_ANSWER
    assert exchange.repeats == 1
    assert len(handset.due(5.0)) == 2


def test_no_sent_in_five_seconds_means_voice() -> None:
    """The officer's card: no SENT in 5 s is not received; and a line terminal does not repeat."""
    handset = Handset(resends=False)
    exchange = handset.ask(ASK, 0.0)
    assert handset.due(4.9) == []
    assert not exchange.voice
    assert handset.due(5.0) == []
    assert exchange.voice
    assert [n.what for n in handset.notes if n.way == "!"] == ["no SENT: use voice"]


def test_json_request_is_held_until_its_receipt() -> None:
    """The same request, reference and time included, goes out again until the receipt comes."""
    handset = Handset(resends=True)
    handset.ask(JSON, 0.0)
    assert handset.due(RESEND_S - 0.1) == []
    assert handset.due(RESEND_S) == [JSON]
    assert handset.due(RESEND_S + 0.1) == []
    assert handset.due(2 * RESEND_S) == [JSON]
    handset.heard(receipt(ref="a1", client_ref=""), 2 * RESEND_S + 0.1)
    assert handset.due(100.0) == []


def test_repeats_are_bounded() -> None:
    """A terminal that nobody hears falls silent instead of filling the air."""
    handset = Handset(resends=True)
    handset.ask(JSON, 0.0)
    sent = sum(len(handset.due(n * RESEND_S)) for n in range(1, 100))
    assert sent == RESENDS_MOST


def test_result_closes_by_outcome() -> None:
    """Expired and failed read NO ANSWER, refused reads REFUSED: never an answer."""
    for outcome, reading in (
        (Outcome.ANSWERED, Reading.ANSWERED),
        (Outcome.REFUSED, Reading.REFUSED),
        (Outcome.EXPIRED, Reading.NO_ANSWER),
        (Outcome.FAILED, Reading.NO_ANSWER),
    ):
        handset = Handset(resends=True)
        exchange = handset.ask(JSON, 0.0)
        out = handset.heard(result(outcome), 1.0)
        assert exchange.reading is reading
        assert out == [DeliveryAck(check="01C7F3", part=1, state=AckState.DELIVERED)]


def test_refused_receipt_ends_the_question() -> None:
    """A receipt that refuses is the end, with its reason."""
    handset = Handset(resends=True)
    exchange = handset.ask(JSON, 0.0)
    refusal = Receipt(ref="a1", check="", short="", accepted=False, why="BUSY RETRY")
    handset.heard(refusal, 0.2)
    assert (exchange.reading, exchange.why) == (Reading.REFUSED, "BUSY RETRY")
    assert handset.due(60.0) == []


def test_refusal_without_a_reference_ends_the_question_that_waits() -> None:
    """A refusal without an id (`XX BUSY RETRY`) belongs to what was not yet SENT."""
    handset = Handset(resends=False)
    first = handset.ask(ASK, 0.0)
    handset.heard(receipt(), 0.1)
    second = handset.ask(ASK, 1.0)
    handset.heard(Notice(kind="text", text="XX BUSY RETRY"), 1.1)
    assert first.open
    assert (second.reading, second.why) == (Reading.REFUSED, "BUSY RETRY")
    handset.heard(Notice(kind="text", text="XX BUSY RETRY"), 1.2)
    assert first.open


def test_two_questions_are_told_apart() -> None:
    """Answers in the other order reach the question they belong to."""
    handset = Handset(resends=True)
    one = handset.ask(JSON, 0.0)
    two = handset.ask(CheckRequest(key=VehicleKey(vrm="TE99AAB"), reason="1", ref="a2"), 0.0)
    other = result(ref="a2")
    handset.heard(
        Result(**{f: getattr(other, f) for f in other.__struct_fields__} | {"check": "01D"}), 1.0
    )
    assert not two.open
    assert one.open
    handset.heard(result(ref="a1"), 2.0)
    assert one.done_at_s == 2.0


def test_answer_whose_receipt_was_lost_is_still_known() -> None:
    """The client reference alone finds the question when SENT never came."""
    handset = Handset(resends=False)
    exchange = handset.ask(ASK, 0.0)
    handset.heard(part("NO TRACE"), 7.0)
    assert exchange.reading is Reading.ANSWERED


def test_what_the_control_room_writes_is_read_and_answers_no_question() -> None:
    """Though a question waits: over a line part by part, over MQTT by its id."""
    handset = Handset(resends=False, think_s=2.0)
    exchange = handset.ask(ASK, 10.0)
    for number, text in ((1, "MSG: RETURN TO"), (2, "STATION")):
        assert handset.heard(part(text, number, 2, short="C8A1", ref=""), 11.0) == [
            DeliveryAck(check="C8A1", part=number, state=AckState.DELIVERED)
        ]
    notice = Notice(kind="message", text="MSG: CALL ME", short="C8A2", id="01C8A2")
    assert handset.heard(notice, 11.0) == [
        DeliveryAck(check="01C8A2", part=1, state=AckState.DELIVERED)
    ]
    assert [(each.check, each.part) for each in handset.due(13.0)] == [  # type: ignore[union-attr]
        ("C8A1", 1),
        ("C8A1", 2),
        ("01C8A2", 1),
    ]
    assert exchange.open
    assert not exchange.pages
    assert handset.unmatched == 0


def test_what_fits_nothing_is_counted() -> None:
    """An answer to a question we never asked is counted, shown to nobody, not acknowledged."""
    handset = Handset(resends=True)
    assert handset.heard(result(ref="zz"), 0.0) == []
    assert handset.heard(receipt(ref="zz", client_ref=""), 0.0) == []
    assert handset.heard(BadFrame(reason="decode"), 0.0) == []
    handset.heard(Notice(kind="late", text="LATE REPLY C7F3"), 0.0)
    assert (handset.unmatched, handset.bad_frames, len(handset.notices)) == (2, 1, 1)


def test_read_now_is_the_ok_key() -> None:
    """`ack` reads what is on the screen before its time."""
    handset = Handset(resends=False, think_s=1e9)
    handset.ask(ASK, 0.0)
    handset.heard(part("NO TRACE"), 1.0)
    assert handset.due(500.0) == []
    assert handset.read_now(500.0) == [DeliveryAck(check="C7F3", part=1, state=AckState.READ)]


def test_marks_decide() -> None:
    """The first two characters say what an answer is; doubt about a match is still an answer."""
    assert reading_of("XXREFUSED") is Reading.REFUSED
    assert reading_of("??NO ANSWER - PNC NO REPLY") is Reading.NO_ANSWER
    assert reading_of("??3 POSSIBLE MATCHES") is Reading.ANSWERED
    assert reading_of("NO TRACE") is Reading.ANSWERED
    assert reading_of("!!STOLEN") is Reading.ANSWERED


def test_memory_is_bounded() -> None:
    """A radio that talks for a year remembers the last of it."""
    handset = Handset(resends=False)
    for n in range(3000):
        handset.ask(ASK, float(n))
        handset.heard(part("NO TRACE"), float(n))
    assert len(handset.exchanges) <= 500
    assert len(handset.notes) <= 1000
