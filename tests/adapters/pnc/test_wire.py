"""Reading replies: nothing but a whole, right reply to this question is an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.pnc import wire
from adapters.pnc.wire import read
from gateway.errors import PncGarbled
from gateway.messages import (
    DriverKey,
    DriverRecord,
    Key,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PropertyKey,
    VehicleKey,
    VehicleRecord,
)
from tests.adapters.pnc.replies import ASKED, CAR, encoded, question, right


def test_the_right_reply_is_an_answer() -> None:
    """And a member that we do not know is ignored."""
    answer = read(encoded(tomorrow={"secret": "x"}), ASKED)
    assert answer.records == ()
    assert not answer.too_many
    assert answer.as_of_ms == 1_795_342_502_114
    assert [(block.source, block.state) for block in answer.blocks] == [("PNC", "OK")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"check": "another"}, "echo"),
        ({"attempt": 2}, "echo"),
        ({"key_text": "VRM:TE99AAB"}, "echo"),
        ({"key_text": "vrm:te99aaa"}, "echo"),
        ({"protocol": 2}, "malformed"),
        ({"protocol": "1"}, "malformed"),
        ({"result": "trace"}, "malformed"),
        ({"result": "none"}, "malformed"),
        ({"result": "NO_TRACE"}, "malformed"),
        ({"result": ""}, "malformed"),
        ({"result": None}, "malformed"),
        ({"result": False}, "malformed"),
        ({"records": [CAR]}, "malformed"),
        ({"records": [CAR], "result": "too_many"}, "malformed"),
        ({"records": None}, "malformed"),
        ({"records": {}}, "malformed"),
        ({"records": [{"record": "spaceship"}], "result": "trace"}, "malformed"),
        ({"records": [{"vrm": "TE99AAA"}], "result": "trace"}, "malformed"),
        ({"records": [CAR] * 13, "result": "trace"}, "malformed"),
        ({"records": [CAR | {"tax": 5}], "result": "trace"}, "malformed"),
        ({"records": [CAR | {"tax": None}], "result": "trace"}, "malformed"),
        ({"records": [CAR | {"reports": [{}]}], "result": "trace"}, "malformed"),
        ({"as_of": "yesterday"}, "malformed"),
        ({"as_of": "2026-13-45T99:99:99Z"}, "malformed"),
        ({"as_of": "2026-11-22T10:15:02"}, "malformed"),
        ({"as_of": "9999-12-31T23:59:59.9999Z"}, "malformed"),
        ({"as_of": "0001-01-01T00:00:00Z"}, "malformed"),
        ({"blocks": [right()["blocks"][0] | {"as_of": "1969-12-31T23:59:59Z"}]}, "malformed"),
        ({"as_of": "2026-11-22T10:15:02+01:00"}, "malformed"),
        ({"as_of": "٢٠٢٦-11-22T10:15:02Z"}, "malformed"),
        ({"not_checked": "INSURANCE"}, "malformed"),
        ({"not_checked": [None]}, "malformed"),
        ({"blocks": [{}]}, "malformed"),
        ({"blocks": []}, "malformed"),
    ],
)
def test_whatever_is_not_right_is_no_answer(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(PncGarbled) as caught:
        read(encoded(**change), ASKED)
    assert caught.value.reason == reason


@pytest.mark.parametrize("member", sorted(right()))
def test_every_member_is_needed(member: str) -> None:
    """An empty or half reply can never be `no trace`."""
    body = right()
    del body[member]
    with pytest.raises(PncGarbled):
        read(json.dumps(body).encode(), ASKED)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"no_trace"',
        b"NO TRACE",
        b'{"code": "I9999", "message": "SOMETHING NEW"}',
        b'{"code": "I1008", "message": "GWAY - ENQUIRY ERROR NOT FOUND"}',
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"\xff\xfe" + encoded(),
        b"\xef\xbb\xbf" + encoded(),
        encoded().decode().encode("utf-16"),
        encoded().decode().encode("utf-7").replace(b"TE99", b"+AFQ-E99"),
        encoded()[:-1],
        encoded() + b"x",
        encoded() + encoded(),
        encoded().replace(b'"attempt": 1', b'"attempt": NaN'),
        encoded().replace(b'"attempt": 1', b'"attempt": 1e999'),
        encoded().replace(b'"attempt": 1', b'"attempt": 1.0'),
        encoded().replace(b'"attempt": 1', b'"attempt": true'),
        encoded(odd=0).replace(b'"odd": 0', b'"odd": NaN'),
        encoded(odd=0).replace(b'"odd": 0', b'"odd": ' + b"9" * 5000),
        encoded().replace(b"TE99AAA", b"\xed\xa0\x80"),
        encoded().replace(b'"', b"'"),
    ],
    ids=lambda body: str(body[:24]),
)
def test_garbage_is_garbled(body: bytes) -> None:
    with pytest.raises(PncGarbled):
        read(body, ASKED)


@pytest.mark.parametrize("cut", range(len(encoded())))
def test_a_reply_cut_anywhere_is_no_answer(cut: int) -> None:
    with pytest.raises(PncGarbled):
        read(encoded()[:cut], ASKED)


def test_a_broken_character_is_told_as_such() -> None:
    """The reason is one of the taxonomy's words, so that it can be counted."""
    with pytest.raises(PncGarbled) as caught:
        read(encoded().replace(b"TE99AAA", b"TE99\xffAA"), ASKED)
    assert caught.value.reason == "charset"
    with pytest.raises(PncGarbled) as caught:
        read(encoded()[:-9], ASKED)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b'"result": "no_trace"', b'"result": "trace", "result": "no_trace"'),
        (b'"records": []', b'"records": [{"record": "vehicle"}], "records": []'),
        (b'"not_checked": []', b'"not_checked": ["PNC"], "not_checked": []'),
        (b'"check"', b'"\\u0063heck": "another", "check"'),
        (b'"state": "OK"', b'"state": "UNAVAILABLE", "state": "OK"'),
    ],
)
def test_a_member_that_stands_there_twice_says_nothing(first: bytes, then: bytes) -> None:
    """One reader takes the first and another the last: neither may be believed."""
    doubled = encoded().replace(first, then, 1)
    assert doubled != encoded()
    with pytest.raises(PncGarbled) as caught:
        read(doubled, ASKED)
    assert caught.value.reason == "malformed"


def test_a_doubled_warning_is_not_dropped() -> None:
    """`"warnings": [FI], "warnings": []` must not read as a person without warnings."""
    asked = question(PersonKey(surname="TESTER", forenames="FIONA"))
    person = {"record": "person", "surname": "TESTER", "warnings": [{"code": "FI"}]}
    body = encoded(asked, result="trace", records=[person])
    assert len(read(body, asked).records) == 1
    with pytest.raises(PncGarbled):
        read(body.replace(b'"warnings"', b'"warnings": [], "warnings"'), asked)


# --------------------------------------------------------------------------- the subject

KINDS: dict[str, tuple[Key, dict[str, Any]]] = {
    "vehicle": (VehicleKey(vrm="TE99AAA"), {"vrm": "TE99AAA"}),
    "person": (PersonKey(surname="TESTER", sex="M"), {"surname": "TESTER"}),
    "driver": (DriverKey(driver_no="TESTE802020C99AA"), {"driver_no": "TESTE802020C99AA"}),
    "property": (PropertyKey(type="BIKE", serial="TSTBIKE001"), {"serial": "TSTBIKE001"}),
}


@pytest.mark.parametrize("asked_kind", KINDS)
@pytest.mark.parametrize("told_kind", KINDS)
def test_a_record_of_another_kind_is_no_answer(asked_kind: str, told_kind: str) -> None:
    """Asked about a vehicle, told of a person: that belongs to somebody else's question."""
    asked = question(KINDS[asked_kind][0])
    record = {"record": told_kind, **KINDS[told_kind][1]}
    body = encoded(asked, result="trace", records=[record])
    if asked_kind == told_kind:
        assert len(read(body, asked).records) == 1
        return
    with pytest.raises(PncGarbled):
        read(body, asked)


@pytest.mark.parametrize(
    ("key", "record", "ours"),
    [
        (VehicleKey(vrm="TE99AAA"), {"record": "vehicle", "vrm": "TE99 AAA"}, True),
        (VehicleKey(vrm="TE99AAA"), {"record": "vehicle", "vrm": "TE99AAB"}, False),
        (VehicleKey(vrm="TE99AAA"), {"record": "vehicle"}, False),
        (
            VehicleKey(vin="TSTZZZ00000000002"),
            {"record": "vehicle", "vin": "TSTZZZ00000000002"},
            True,
        ),
        (VehicleKey(vin="TSTZZZ00000000002"), {"record": "vehicle", "vin": "00002"}, True),
        (VehicleKey(vin="00000002"), {"record": "vehicle", "vin": "TSTZZZ00000000002"}, True),
        (
            VehicleKey(vin="TSTZZZ00000000002"),
            {"record": "vehicle", "vin": "TSTZZZ10000000002"},
            False,
        ),
        (VehicleKey(vin="00000002"), {"record": "vehicle", "vin": "TSTZZZ00000000003"}, False),
        (VehicleKey(vin="00000002"), {"record": "vehicle", "vin": "2"}, False),
        (VehicleKey(vin="00000002"), {"record": "vehicle", "vrm": "TE99ABC"}, False),
        (DriverKey(driver_no="TESTE802020C99AA"), {"record": "driver", "driver_no": "X"}, False),
        (
            DriverKey(surname="TESTER", dob="1980-02-02"),
            {"record": "driver", "driver_no": "TESTE802020C99AA"},
            True,
        ),
        (
            PropertyKey(type="BIKE", serial="TST-BIKE 001"),
            {"record": "property", "serial": "TSTBIKE001"},
            True,
        ),
        (
            PropertyKey(type="BIKE", serial="TSTBIKE001"),
            {"record": "property", "serial": "TSTBIKE002"},
            False,
        ),
    ],
)
def test_a_record_of_another_subject_is_shown_to_nobody(
    key: Key, record: dict[str, Any], ours: bool
) -> None:
    """P05: the echo is right, the record is not: counted and told as a wrong echo."""
    asked = question(key)
    body = encoded(asked, result="trace", records=[record])
    if ours:
        assert len(read(body, asked).records) == 1
        return
    with pytest.raises(PncGarbled) as caught:
        read(body, asked)
    assert caught.value.reason == "echo"


def test_what_is_not_known_may_be_left_out() -> None:
    """A person of whom only the surname is known, and a keeper likewise, are records."""
    asked = question(PersonKey(surname="TESTER", sex="M"))
    body = encoded(asked, result="trace", records=[{"record": "person", "surname": "TESTER"}])
    person = read(body, asked).records[0]
    assert isinstance(person, PersonRecord)
    assert (person.pncid, person.dob, person.warnings) == ("", "", ())
    keeper = {"record": "person", "warnings": [{"code": "FI"}]}
    body = encoded(result="trace", records=[CAR | {"keeper_record": keeper}])
    vehicle = read(body, ASKED).records[0]
    assert isinstance(vehicle, VehicleRecord)
    assert vehicle.keeper_record is not None
    assert vehicle.keeper_record.warnings[0].code == "FI"
    assert (vehicle.tax, vehicle.mot, vehicle.insured) == ("", "", ""), "unknown, neither Y nor N"
    asked = question(DriverKey(surname="TESTER", dob="1980-02-02"))
    driver = read(encoded(asked, result="trace", records=[{"record": "driver"}]), asked).records[0]
    assert isinstance(driver, DriverRecord)
    assert driver.endorsements is None, "unknown is not none"


def test_what_is_not_known_to_us_reaches_the_gateway() -> None:
    """P08: unknown codes, kinds, states and members neither drop nor refuse an answer."""
    report = {"kind": "NEWKIND", "occupant_warnings": ["QZ"], "colour_of_moon": "BLUE"}
    body = encoded(
        result="trace",
        records=[CAR | {"reports": [report], "novelty": [1]}],
        blocks=[{"source": "NEW", "as_of": "2026-11-22T10:15:02Z", "state": "DEGRADED", "x": 1}],
    )
    answer = read(body, ASKED)
    record = answer.records[0]
    assert isinstance(record, VehicleRecord)
    assert (record.reports[0].kind, record.reports[0].occupant_warnings) == ("NEWKIND", ("QZ",))
    assert answer.blocks[0].state == "DEGRADED"


def test_covert_and_block_pass_with_their_flag() -> None:
    """Hiding is the policy's: an adapter that hid would hide from the supervisor, too."""
    report = {"kind": "BLOCK", "block": True}
    body = encoded(result="trace", records=[CAR | {"reports": [report]}])
    record = read(body, ASKED).records[0]
    assert isinstance(record, VehicleRecord)
    assert record.reports[0].block
    asked = question(PersonKey(surname="TESTER", sex="M"))
    circulation = {"kind": "OBSERVE_DO_NOT_ALERT", "covert": True}
    person = {"record": "person", "surname": "TESTER", "circulations": [circulation]}
    found = read(encoded(asked, result="trace", records=[person]), asked).records[0]
    assert isinstance(found, PersonRecord)
    assert found.circulations[0].covert


# --------------------------------------------------------------------------- any body at all


def is_plain_no_trace(body: bytes) -> bool:
    """The document's rules by another road: the standard library's parser and plain comparisons."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(reply, dict) or set(right()) - set(reply):
        return False
    said = (reply["check"], reply["attempt"], reply["key_text"], reply["protocol"])
    return (
        said == (ASKED.check, ASKED.attempt, ASKED.key_text, 1)
        and type(reply["attempt"]) is int
        and reply["result"] == "no_trace"
        and reply["records"] == []
        and isinstance(reply["blocks"], list)
        and len(reply["blocks"]) > 0
    )


def answer_to(body: bytes) -> PncAnswer | None:
    try:
        return read(body, ASKED)
    except PncGarbled:
        return None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(("no_trace", "trace", "too_many", ASKED.check, ASKED.key_text)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(sorted(right())), inner, max_size=9)
    ),
    max_leaves=20,
)
BODIES = st.one_of(
    st.binary(max_size=400),
    VALUES.map(lambda value: json.dumps(value).encode()),
    # A right reply with any members replaced, dropped or added: the hardest neighbours.
    st.builds(
        lambda changes, dropped: json.dumps(
            {name: value for name, value in (right() | changes).items() if name not in dropped}
        ).encode(),
        st.dictionaries(st.sampled_from([*sorted(right()), "code", "error"]), VALUES, max_size=3),
        st.sets(st.sampled_from(sorted(right())), max_size=2),
    ),
)


@settings(max_examples=500, deadline=None)
@given(BODIES)
def test_no_answer_is_never_taken_for_no_trace(body: bytes) -> None:
    """Whatever comes: only a reply that says no_trace, whole and for us, has no records."""
    answer = answer_to(body)
    if answer is None or answer.records or answer.too_many:
        return
    assert is_plain_no_trace(body)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(encoded()) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_never_a_wrong_answer(place: int, byte: int) -> None:
    body = bytearray(encoded())
    body[place] = byte
    answer = answer_to(bytes(body))
    if answer is not None:
        assert is_plain_no_trace(bytes(body))
        assert (answer.records, answer.key_text) == ((), ASKED.key_text)


def test_the_property_can_fail() -> None:
    """The other road takes the plain reply and refuses its neighbours: it is no tautology."""
    assert is_plain_no_trace(encoded())
    assert not is_plain_no_trace(encoded(result="trace"))
    assert not is_plain_no_trace(encoded(check="another"))
    assert not is_plain_no_trace(encoded(blocks=[]))


def test_the_question_leaves_out_what_was_not_asked() -> None:
    """A member that is there was asked for; an age of 0 was."""
    key = PersonKey(surname="TESTER", age_years=0)
    assert json.loads(wire.request(question(key)))["key"] == {"surname": "TESTER", "age_years": 0}
