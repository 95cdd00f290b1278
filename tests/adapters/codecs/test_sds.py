"""What goes out to a TETRA radio, and what its reports say of it; texts whole or not at all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.codecs import sds_pdu, sds_text
from adapters.codecs.sds import Sds
from adapters.codecs.sds_parts import BYTES_MOST, MESSAGES_MOST, WITHIN_MS
from adapters.codecs.sds_references import REPORTED_MS, UNREPORTED_MS
from gateway.messages import (
    AckState,
    BadFrame,
    BookOn,
    CheckRequest,
    Decoded,
    DeliveryAck,
    EchoTest,
    Frame,
    Ignored,
    Locate,
    MalformedCheck,
    Notice,
    Outcome,
    Reasoning,
    Receipt,
    Result,
    Secret,
    TextPart,
)
from tests.corpus import ms

NOW_MS = ms("2026-11-22T14:30:20Z")
WANTED = Result(
    ref="",
    check="01JD6Q8ZK7M2V9X4T0C8A1",
    short="C8A1",
    outcome=Outcome.ANSWERED,
    result_class="HIT_WANTED",
    danger=("WEAPONS", "VIOLENT", "WANTED - ARREST"),
    pages=(),
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
CLEAR = msgspec.structs.replace(
    WANTED, result_class="NO_TRACE", danger=(), texts=("V TE99AAA NO TRACE",)
)


def answer(n: int) -> Result:
    return msgspec.structs.replace(CLEAR, check=f"01JD6Q8ZK7M2V9X4T0{n:04}")


def report(codec: Sds, hex_: str, channel: str = "sds4", *, at_ms: int = NOW_MS) -> list[Decoded]:
    return list(codec.feed(bytes.fromhex(hex_), received_at_ms=at_ms, channel=channel))


def heads(frames: Sequence[Frame]) -> list[str]:
    """PID, type with what is to be reported, and reference."""
    return [frame.data[:3].hex().upper() for frame in frames]


def shown(codec: Sds, frames: Sequence[Frame]) -> list[Decoded]:
    """What a terminal reads of these."""
    return [
        each
        for frame in frames
        for each in codec.feed(frame.data, received_at_ms=NOW_MS, channel=frame.channel)
    ]


# --------------------------------------------------------------------------- what goes out


def test_an_answer_goes_out_to_the_letter() -> None:
    """Vector sds-37."""
    (frame,) = Sds(first_reference=1).encode(CLEAR)
    assert frame.data.hex().upper() == "82060101562054453939414141204E4F205452414345"
    assert frame.channel == "sds4"


def test_danger_shows_at_once_and_asks_whether_it_was_read() -> None:
    """Part 1 alone is immediate: another one would stand in front of it."""
    frames = Sds().encode(WANTED)
    assert heads(frames) == ["890E00", "820E01"]
    assert frames[0].data[4:].decode() == WANTED.texts[0]
    assert all(8 * len(frame.data) <= 668 for frame in frames)
    assert heads(Sds().encode(CLEAR)) == ["820600"]


def test_a_notice_with_a_danger_word_shows_at_once() -> None:
    held = Notice(kind="waiting", text="C8A1 !!WEAPONS RESULT WAITING", danger=("WEAPONS",))
    assert heads(Sds().encode(held)) == ["890200"]
    plain = Notice(kind="help", text="V MARK R1")
    assert heads(Sds().encode(plain)) == ["820200"]


def test_what_is_said_once_asks_for_no_report() -> None:
    sent = Receipt(ref="", check="01JD6Q8ZK7M2V9X4T0C8A1", short="C8A1", accepted=True)
    (frame,) = Sds(first_reference=7).encode(sent)
    assert frame.data.hex().upper() == "82020701" + b"SENT C8A1".hex().upper()


def test_reports_can_be_left_to_danger_alone() -> None:
    codec = Sds(reports=False)
    assert heads(codec.encode(CLEAR)) == ["820200"]
    assert heads(codec.encode(WANTED)) == ["890E01", "820E02"]


def test_a_radio_is_asked_where_it_is() -> None:
    (frame,) = Sds().encode(Locate())
    assert frame.data.hex().upper() == "0A4580"


@pytest.mark.parametrize(
    ("text", "codings", "coding", "data"),
    [
        ("ÉCLAIR", (1, 26), 1, "C9434C414952"),
        ("Ł", (1, 26), 26, "0141"),
        ("hello", (0, 1, 26), 0, "E8329BFD06"),
        ("Ł", (0, 1), 1, "3F"),
        ("ÉŁ", (0,), 0, "9F1F"),
        ("Đ", (27, 26), 27, "D0"),
    ],
)
def test_the_best_coding_that_has_every_letter(
    text: str, codings: tuple[int, ...], coding: int, data: str
) -> None:
    assert sds_text.encoded(text, codings) == (coding, bytes.fromhex(data))


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=170), coding=st.integers(0, 27))
def test_what_a_coding_can_say_it_reads_again(text: str, coding: int) -> None:
    used, data = sds_text.encoded(text, (coding, 26) if coding != 26 else (26,))
    fits = all("?" not in sds_text.encoded(each, (coding,))[1].decode("latin-1") for each in text)
    if used == coding and fits and not (coding == 0 and text.endswith(("@", "\r"))):
        assert sds_text.decoded(used, data) == text


def test_every_octet_of_every_coding_is_read() -> None:
    for coding in range(128):
        sds_text.decoded(coding, bytes(range(256)))
    assert len({*sds_text._VISCII}) == 256, "two octets, one letter"


# --------------------------------------------------------------------------- reports


@pytest.mark.parametrize(
    ("received", "consumed", "channel"),
    [("89100000", "89100200", "sds4"), ("7E00", "7F00", "status")],
    ids=["report", "short"],
)
def test_a_report_is_an_acknowledgement_of_its_part(
    received: str, consumed: str, channel: str
) -> None:
    codec = Sds()
    codec.encode(msgspec.structs.replace(WANTED, texts=WANTED.texts[:1]))
    assert report(codec, received, channel) == [DeliveryAck(WANTED.check, 1, AckState.DELIVERED)]
    assert report(codec, consumed, channel) == [DeliveryAck(WANTED.check, 1, AckState.READ)]


def test_read_is_told_when_all_of_it_was_read() -> None:
    """What was opened first may be the least of it."""
    codec = Sds()
    codec.encode(WANTED)
    assert report(codec, "82100201") == [DeliveryAck(WANTED.check, 2, AckState.DELIVERED)]
    assert report(codec, "89100000") == [DeliveryAck(WANTED.check, 1, AckState.DELIVERED)]
    assert report(codec, "89100200") == [
        DeliveryAck(WANTED.check, 1, AckState.READ),
        DeliveryAck(WANTED.check, 2, AckState.READ),
    ]
    assert report(codec, "82100001") == [
        DeliveryAck(WANTED.check, 1, AckState.READ),
        DeliveryAck(WANTED.check, 2, AckState.READ),
    ], "a late `received` takes nothing back"


def test_a_message_of_the_control_room_is_acknowledged_by_its_id() -> None:
    written = Notice(kind="message", text="MSG: RETURN", id="01JD6Q8ZK7M2V9X4T0C9B2", texts=("A",))
    codec = Sds()
    assert heads(codec.encode(written)) == ["820E00"]
    assert report(codec, "82100200") == [DeliveryAck(written.id, 1, AckState.READ)]


@pytest.mark.parametrize(
    "status", ["01", "03", "04", "05", "20", "22", "40", "4A", "5D", "60", "FF"]
)
def test_what_failed_or_is_on_its_way_acknowledges_nothing(status: str) -> None:
    codec = Sds()
    codec.encode(CLEAR)
    assert report(codec, f"8210{status}00") == [Ignored("rep")]


def test_what_nobody_asked_to_have_reported_means_another_message() -> None:
    """An old one that is opened after our restart, under the same reference."""
    codec = Sds()
    codec.encode(CLEAR)
    assert report(codec, "82100200") == [Ignored("rep")]
    assert report(codec, "7F00", "status") == [Ignored("rep")]
    assert report(codec, "82100000") == [DeliveryAck(CLEAR.check, 1, AckState.DELIVERED)]


def test_a_report_of_another_kind_of_message_is_not_of_ours() -> None:
    codec = Sds()
    codec.encode(CLEAR)
    assert report(codec, "89100000") == [Ignored("rep")]
    assert report(codec, "82100000") == [DeliveryAck(CLEAR.check, 1, AckState.DELIVERED)]


def test_an_old_reference_never_acknowledges_a_newer_answer() -> None:
    """References come round; a radio reports what its officer opens, hours later."""
    codec = Sds(first_reference=250)
    report(codec, "8004", "status")
    owner = {}
    for n in range(700):
        (frame,) = codec.encode(answer(n))
        wants, reference = frame.data[1] >> 2 & 3, frame.data[2]
        if wants:
            assert reference not in owner, "one reference, two answers"
            owner[reference] = answer(n).check
    assert len(owner) == 256
    later_ms = NOW_MS + UNREPORTED_MS - 1
    for reference, check in owner.items():
        assert report(codec, f"821000{reference:02X}", at_ms=later_ms) in (
            [DeliveryAck(check, 1, AckState.DELIVERED)],
            [Ignored("rep")],
        )


def test_a_reference_that_was_reported_serves_again_after_a_rest() -> None:
    codec = Sds()
    for n in range(256):
        codec.encode(answer(n))
        report(codec, f"821000{n:02X}")
    assert heads(codec.encode(answer(256))) == ["820200"], "too early: it asks for no report"
    report(codec, "8004", "status", at_ms=NOW_MS + REPORTED_MS)
    (frame,) = codec.encode(answer(257))
    assert frame.data[1] == 6
    assert report(codec, f"821000{frame.data[2]:02X}", at_ms=NOW_MS + REPORTED_MS) == [
        DeliveryAck(answer(257).check, 1, AckState.DELIVERED)
    ]


def test_what_was_sent_before_the_first_word_rests_from_then_on() -> None:
    """After a restart the outbox goes out before anything is heard: no time is known."""
    codec = Sds()
    for n in range(256):
        codec.encode(answer(n))
    report(codec, "8004", "status")
    assert heads(codec.encode(answer(256))) == ["820200"]


def test_a_copy_of_a_report_says_the_same_again() -> None:
    codec = Sds()
    codec.encode(CLEAR)
    codec.encode(answer(2))
    told = [DeliveryAck(CLEAR.check, 1, AckState.DELIVERED)]
    assert report(codec, "82100000") == told
    assert report(codec, "82100000", at_ms=NOW_MS + 9000) == told


def test_a_radio_that_does_not_know_immediate_text_gets_it_as_text() -> None:
    for refusal, channel in (("89105000", "sds4"), ("7C00", "status")):
        codec = Sds()
        codec.encode(WANTED)
        assert report(codec, refusal, channel) == [Ignored("rep")]
        assert heads(codec.encode(WANTED)) == ["820E02", "820E03"]


def test_a_radio_that_does_not_know_a_coding_gets_another() -> None:
    codec = Sds()
    codec.encode(CLEAR)
    report(codec, "82105100")
    (frame,) = codec.encode(CLEAR)
    assert frame.data[3] == 26
    report(codec, "82105101")
    assert codec.encode(CLEAR), "there is always one"


# --------------------------------------------------------------------------- in parts


LONG = "C8A1 1/1 " + " ".join(f"WORD{n:02}" for n in range(30))


@pytest.mark.parametrize("concatenation", ["udh", "sds"])
@pytest.mark.parametrize("text", [LONG, LONG.replace("WORD", "ŻÓŁW")], ids=["latin", "utf-16"])
def test_a_long_text_comes_in_parts_and_is_acknowledged_as_one(
    concatenation: str, text: str
) -> None:
    codec = Sds(concatenation=concatenation)
    terminal = Sds(side="terminal")
    long = msgspec.structs.replace(CLEAR, texts=(text,))
    frames = codec.encode(long)
    assert len(frames) > 2
    assert all(8 * len(frame.data) <= 668 for frame in frames)
    read = shown(terminal, frames[::-1])
    ascii_ = text.encode("ascii", "replace").decode()
    assert read == [TextPart("C8A1", 1, 1, ascii_.removeprefix("C8A1 1/1 "))]
    said = [
        each
        for reply in terminal.replies()
        for each in codec.feed(reply.data, received_at_ms=NOW_MS, channel=reply.channel)
    ]
    assert said[:-1] == [Ignored("rep")] * (len(frames) - 1)
    assert said[-1] == DeliveryAck(CLEAR.check, 1, AckState.DELIVERED)


def test_danger_that_is_too_long_still_shows_at_once_whole_words() -> None:
    """No SDS in parts shows at once: pieces that stand for themselves, all of them immediate."""
    text = "C8A1 1/1 !!WEAPONS VIOLENT WANTED " + "TREAT WITH CAUTION " * 6
    frames = Sds().encode(msgspec.structs.replace(WANTED, texts=(text,)))
    assert len(frames) == 2
    assert {frame.data[0] for frame in frames} == {0x89}
    words = [frame.data[4:].decode() for frame in frames]
    assert " ".join(words).split() == text.split()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=300), bits=st.integers(200, 1184))
def test_no_frame_is_longer_than_the_radio_takes(text: str, bits: int) -> None:
    for danger in ((), ("WEAPONS",)):
        message = msgspec.structs.replace(WANTED, danger=danger, texts=(text, "C8A1 2/2 X"))
        for concatenation in ("udh", "sds"):
            codec = Sds(max_pdu_bits=bits, concatenation=concatenation)
            assert all(8 * len(frame.data) <= bits for frame in codec.encode(message))


def split(text: str, n: int, *, concatenation: str, mr: int, name: int) -> list[bytes]:
    """As a radio sends it, written from the reference: not by our encoder."""
    size = -(-len(text) // n)
    pieces = [text[at : at + size].encode("latin-1") for at in range(0, n * size, size)]
    if concatenation == "udh":
        return [
            bytes((0x8A, 2, (mr + k) & 255, 1, 5, 0, 3, name, n, k + 1)) + piece
            for k, piece in enumerate(pieces)
        ]
    pieces[0] = bytes((0x82, 2, 0x32, 1)) + pieces[0]
    return [
        bytes((0x8C, 2, (mr + k) & 255, name & 15, n, k + 1)) + piece
        for k, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize("concatenation", ["udh", "sds"])
def test_every_order_subset_and_copy_of_three_parts(concatenation: str) -> None:
    """The message once when all of it came, else a counted loss; never a wrong text."""
    text = "N TESTER/NORA LOUISE/01011970/F R1"
    parts = split(text, 3, concatenation=concatenation, mr=254, name=7)
    meant = Sds().feed(b"\x02\x01" + text.encode(), received_at_ms=NOW_MS)[0]
    assert isinstance(meant, CheckRequest)
    for length in range(1, 5):
        for come in itertools.product(range(3), repeat=length):
            codec, out = Sds(), list[Decoded]()
            for step, n in enumerate(come):
                out += codec.feed(parts[n], received_at_ms=NOW_MS + 1000 * step)
            out += codec.lapse(NOW_MS + 1000 * length + WITHIN_MS)
            whole = len({*come}) == 3
            assert [each for each in out if isinstance(each, CheckRequest)] == [meant] * whole
            lost = [each for each in out if each == BadFrame("parts")]
            told = [each for each in out if isinstance(each, MalformedCheck)]
            assert len(lost) == len(told) == (not whole), come


@settings(max_examples=150, deadline=None)
@example(seed=1)
@given(seed=st.integers(0, 2**32))
def test_two_messages_are_never_mixed(seed: int) -> None:
    """Of a radio that restarts and counts from the beginning: the same name, other parts."""
    r = random.Random(seed)
    texts = [f"E {letter * 30}" for letter in "ABC"]
    concatenation = r.choice(("udh", "sds"))
    queue: list[bytes] = []
    for text, mr in zip(texts, (100, 0, 60), strict=True):
        parts = split(text, r.choice((2, 3)), concatenation=concatenation, mr=mr, name=1)
        parts = [part for part in parts if r.random() > 0.3]
        parts += r.sample(parts, r.randint(0, len(parts)))
        r.shuffle(parts)
        queue += parts
    if r.random() < 0.5:
        at = r.randrange(len(queue) + 1)
        queue[at:at] = queue[: r.randrange(3)]
    codec, now_ms = Sds(), NOW_MS
    for part in queue:
        now_ms += r.randrange(30_000)
        for each in codec.feed(part, received_at_ms=now_ms):
            assert not isinstance(each, EchoTest) or f"E {each.text}" in texts


def test_what_waits_is_bounded_in_number_and_in_octets() -> None:
    codec = Sds()
    out: list[Decoded] = []
    for n in range(MESSAGES_MOST + 3):
        first = split("E HELLO", 2, concatenation="udh", mr=n, name=n)[0]
        out += codec.feed(first, received_at_ms=NOW_MS)
    assert out.count(BadFrame("parts")) == 3
    codec, size = Sds(), 200
    parts = split("E" * 16 * size, 16, concatenation="udh", mr=0, name=1)
    out = [each for part in parts for each in codec.feed(part, received_at_ms=NOW_MS)]
    assert out.count(BadFrame("length")) == 16 * size // (BYTES_MOST + size)
    assert not [each for each in out if not isinstance(each, BadFrame)]


def test_what_lapses_next_is_known() -> None:
    codec = Sds()
    assert codec.lapses_at_ms is None
    first, second = split("E HELLO", 2, concatenation="udh", mr=0, name=1)
    codec.feed(first, received_at_ms=NOW_MS)
    assert codec.lapses_at_ms == NOW_MS + WITHIN_MS
    assert codec.lapse(NOW_MS + WITHIN_MS - 1) == []
    codec.feed(second, received_at_ms=NOW_MS)
    assert codec.lapses_at_ms is None


def test_a_long_question_of_a_terminal_arrives() -> None:
    why = "N TESTER/NORA/01011970/F R1 J " + "WHY NOT " * 5
    asked = CheckRequest(key=keyed(why), reason="1", typed=why.strip())
    for concatenation in ("udh", "sds"):
        frames = Sds(side="terminal", max_pdu_bits=300, concatenation=concatenation).encode(asked)
        assert len(frames) > 1
        (found,) = shown(Sds(), frames)
        assert isinstance(found, CheckRequest)
        assert found.typed == asked.typed
        assert found.justification == ("WHY NOT " * 5).strip()


def keyed(text: str) -> CheckRequest:
    (found,) = Sds().feed(b"\x02\x01" + text.encode(), received_at_ms=NOW_MS)
    assert isinstance(found, CheckRequest)
    return found.key  # type: ignore[return-value]


# --------------------------------------------------------------------------- secrets and stamps


def test_a_factor_stays_a_secret_in_parts_and_copies() -> None:
    """Nothing that the codec keeps shows it: not whole, not half a message."""
    codec = Sds()
    parts = split("B 1001 s3cr3tPIN", 2, concatenation="udh", mr=0, name=1)
    out = [each for part in parts for each in codec.feed(part, received_at_ms=NOW_MS)]
    assert out == [BookOn(officer="1001", factor=Secret("s3cr3tPIN"))]
    codec.feed(b"\x82\x02\x01\x01B 1001 s3cr3tPIN", received_at_ms=NOW_MS)
    kept = repr({name: getattr(codec, name) for name in vars(codec)})
    kept += repr(vars(codec._parts)) + repr(out)
    assert "s3cr3t" not in kept


@pytest.mark.parametrize(
    ("stamp", "received", "sent"),
    [
        ("4BB39E", "2026-11-22T14:31:00Z", "2026-11-22T14:30:00Z"),
        ("4CFDFB", "2027-01-01T00:00:30Z", "2026-12-31T23:59:00Z"),
        ("410802", "2026-12-31T23:59:50Z", "2027-01-01T00:02:00Z"),
        ("42EB00", "2026-11-22T12:00:00Z", "2028-02-29T12:00:00Z"),
        ("42EB00", "2026-01-22T12:00:00Z", "2024-02-29T12:00:00Z"),
        ("0BB39E", "2026-11-22T14:31:00Z", None),
        ("42F300", "2026-11-22T14:31:00Z", None),
        ("7FFFFF", "2026-11-22T14:31:00Z", None),
    ],
)
def test_a_stamp_has_the_year_that_is_nearest(stamp: str, received: str, sent: str | None) -> None:
    found = sds_text.moment(sds_text.stamp(bytes.fromhex(stamp)), ms(received))
    assert found == (None if sent is None else ms(sent))


def test_fields_that_no_message_of_ours_needs_are_read_right() -> None:
    """Vectors sds-12, sds-13 and sds-08."""
    stored = sds_pdu.read(bytes.fromhex("82032C595B8D8101502042494B45"))
    assert isinstance(stored, sds_pdu.Transfer)
    assert (stored.validity, stored.forward, int.from_bytes(stored.address, "big")) == (
        11,
        1,
        6000001,
    )
    infinite = sds_pdu.read(bytes.fromhex("82032DFF0148454C4C4F"))
    assert isinstance(infinite, sds_pdu.Transfer)
    assert (infinite.validity, infinite.forward, infinite.data) == (31, 7, b"\x01HELLO")
    plain = sds_pdu.read(bytes.fromhex("8206010156"))
    assert isinstance(plain, sds_pdu.Transfer)
    assert (plain.wanted, plain.selection, plain.validity) == (1, 1, None)


def test_a_terminal_reports_what_it_shows() -> None:
    """Both ways: received by itself, read when its officer opened it."""
    gateway, terminal = Sds(), Sds(side="terminal")
    parts = shown(terminal, gateway.encode(WANTED))
    assert [each.part for each in parts if isinstance(each, TextPart)] == [1, 2]
    assert heads(terminal.replies()) == ["891000", "821000"]
    assert terminal.replies() == []
    (frame,) = terminal.encode(DeliveryAck("C8A1", 1, AckState.READ))
    assert frame.data.hex().upper() == "89100200"
    assert terminal.encode(DeliveryAck("C8A1", 3, AckState.READ)) == ()
    assert sds_pdu.as_short(sds_pdu.SHORT_CONSUMED, 0x2A).hex().upper() == "7F2A"


def test_a_reasoning_in_a_text_is_no_question() -> None:
    (found,) = Sds().feed(b"\x02\x01J C7F3 NO LIGHTS", received_at_ms=NOW_MS)
    assert found == Reasoning(check="C7F3", text="NO LIGHTS")
