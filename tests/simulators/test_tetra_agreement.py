"""Simulated handsets and the gateway's codecs, each written from the reference by itself, agree.

Neither imports the other (import contract `simulated-air`); here each is asked what the other said.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codecs.sds import Sds
from gateway.messages import (
    AckState,
    CheckRequest,
    DeliveryAck,
    LocationFix,
    Outcome,
    Result,
    StatusReport,
    VehicleKey,
)
from simulators import tetra_air as air
from simulators.tetra_mobile import Mobile

AT_MS = 1_795_325_047_120
CHANNELS = {air.SDS_4: "sds4", air.STATUS: "status"}
SERVICES = {channel: service for service, channel in CHANNELS.items()}
LAT_STEP, LON_STEP = 180 / 2**24, 360 / 2**25


def heard(codec: Sds, *sdus: air.Sdu, at_ms: int = AT_MS) -> list[object]:
    return [
        each
        for sdu in sdus
        for each in codec.feed(sdu.data, received_at_ms=at_ms, channel=CHANNELS[sdu.service])
    ]


def answer(*texts: str, danger: tuple[str, ...] = ()) -> Result:
    return Result(
        ref="",
        check="01J00000000000000000C7F3",
        short="C7F3",
        outcome=Outcome.ANSWERED,
        result_class="",
        danger=danger,
        pages=(),
        texts=texts,
        fields={},
        not_checked=(),
        as_of_ms=AT_MS,
        level="L3",
        receipt="",
    )


def at_handset(codec: Sds, mobile: Mobile, message: Result) -> tuple[list[air.Text], list[air.Sdu]]:
    """The texts on the screen, and the reports that the handset makes of them at once."""
    texts, replies = [], []
    for frame in codec.encode(message):
        came = mobile.hear(air.whole(SERVICES[frame.channel], frame.data))
        texts += came.texts
        replies += came.replies
    return texts, replies


@given(
    lat=st.floats(-89.9, 89.9),
    lon=st.floats(-179.9, 179.9),
    speed_mps=st.none() | st.floats(0.0, 100.0),
    course_deg=st.floats(0.0, 359.9),
)
def test_a_position_is_where_it_was_said_to_be(
    lat: float, lon: float, speed_mps: float | None, course_deg: float
) -> None:
    """Within a step of the grid; speed within one of 3.8 %; course within half of 22.5 degrees."""
    if abs(lat) < 0.01 and abs(lon) < 0.01:
        return  # null island is no place, for a reason of its own
    course = None if speed_mps is None else course_deg
    sdu = air.short_position(lat, lon, speed_mps=speed_mps, course_deg=course)
    (fix,) = heard(Sds(), sdu)
    assert isinstance(fix, LocationFix)
    assert abs(fix.lat - lat) <= LAT_STEP
    assert abs(fix.lon - lon) <= LON_STEP
    if speed_mps is None:
        assert (fix.speed_mps, fix.course_deg) == (None, None)
    else:
        assert fix.speed_mps is not None
        assert math.isclose(fix.speed_mps, speed_mps, rel_tol=0.02, abs_tol=0.5 / 3.6 + 0.001)
        assert fix.course_deg is not None
        turn = abs((fix.course_deg - course_deg + 180) % 360 - 180)
        assert turn <= 11.25 + 0.001


def test_an_emergency_in_every_form() -> None:
    """By status; by a position, short or long; and by a position that has no place."""
    for sdu in (
        air.status(air.EMERGENCY),
        air.short_position(52.573, -0.241, reason=air.EMERGENCY_REASON),
        air.long_position((52.573, -0.241), accuracy_m=20.0, reason=air.EMERGENCY_REASON),
        air.long_position(None, reason=air.EMERGENCY_REASON),
    ):
        assert heard(Sds(), sdu)[0] == StatusReport(code=0), sdu


@pytest.mark.parametrize("coding", [air.LATIN_1, air.UTF_16, air.GSM_7BIT])
@pytest.mark.parametrize("simple", [False, True])
def test_an_enquiry_in_every_form(coding: int, simple: bool) -> None:
    mobile = Mobile(coding=coding, simple=simple)
    (asked,) = heard(Sds(), *mobile.text("v te99 abc r1 q7"))
    assert isinstance(asked, CheckRequest)
    assert (asked.key, asked.client_ref) == (VehicleKey(vrm="TE99ABC"), "7")


def test_an_enquiry_in_parts_out_of_order() -> None:
    """At 256 bits a message: four parts and more, the last first, one twice."""
    text = "N TESTER/NORA/01011970/F R1 LBRIDGE.STREET Q12 J SEEN RUNNING"
    parts = Mobile(pdu_bits=256).text(text)
    assert len(parts) > 2
    said = heard(Sds(), *parts[::-1][:-1], parts[1], parts[0])
    asked = [each for each in said if isinstance(each, CheckRequest)]
    assert [each.typed for each in asked] == [text]


@pytest.mark.parametrize("short", [False, True])
def test_danger_words_show_at_once_and_are_reported_received_and_read(short: bool) -> None:
    codec, mobile = Sds(), Mobile(short=short)
    message = answer("C7F3 1/2 !!WEAPONS", "C7F3 2/2 BROWN HAIR", danger=("WEAPONS",))
    texts, replies = at_handset(codec, mobile, message)
    assert [each.text for each in texts] == list(message.texts)
    assert texts[0].pid == air.IMMEDIATE
    assert texts[0].request == air.ASK_BOTH
    acks = heard(codec, *replies)
    check = message.check
    assert acks == [DeliveryAck(check=check, part=n, state=AckState.DELIVERED) for n in (1, 2)]
    read = heard(codec, *(sdu for text in texts for sdu in mobile.opened(text)))
    assert DeliveryAck(check=check, part=1, state=AckState.READ) in read


@pytest.mark.parametrize("concatenation", ["udh", "sds"])
def test_a_text_too_long_for_one_message(concatenation: str) -> None:
    """Both ways of cutting are put together; the answer's part counts as one, and only when all of
    it came."""
    codec, mobile = Sds(concatenation=concatenation), Mobile()
    message = answer("C7F3 1/1 " + "NO REPORTS. " * 11)
    frames = codec.encode(message)
    assert len(frames) > 1
    assert all(8 * len(frame.data) <= air.PDU_BITS for frame in frames)
    texts, replies = at_handset(codec, mobile, message)
    assert [each.text for each in texts] == list(message.texts)
    acks = heard(codec, *replies)
    assert [each for each in acks if isinstance(each, DeliveryAck)] == [
        DeliveryAck(check=message.check, part=1, state=AckState.DELIVERED)
    ]


def test_what_no_letter_of_latin_1_says_goes_out_in_another_coding() -> None:
    codec, mobile = Sds(), Mobile()
    texts, _ = at_handset(codec, mobile, answer("C7F3 1/1 \u017b\u00f3\u0142w"))
    assert [each.text for each in texts] == ["C7F3 1/1 \u017b\u00f3\u0142w"]
