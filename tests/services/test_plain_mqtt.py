"""Packets of a load: whole from any slices, and written as the standard says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services import plain_mqtt as wire


@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.binary(max_size=400), st.integers(0, 1)), max_size=8
    ),
    st.integers(1, 7),
)
def test_packets_come_out_as_they_went_in_whatever_the_slices(
    said: list[tuple[str, bytes, int]], size: int
) -> None:
    stream = b"".join(
        wire.publish(topic.encode(), payload, qos=qos, mid=n + 1 if qos else 0)
        for n, (topic, payload, qos) in enumerate(said)
    )
    parser = wire.Parser()
    found = [
        packet
        for at in range(0, len(stream), size)
        for packet in parser.feed(stream[at : at + size])
    ]
    assert [(p.topic.decode(), p.payload, p.qos) for p in found] == said
    assert [p.mid for p in found] == [n + 1 if qos else 0 for n, (_, _, qos) in enumerate(said)]


def test_a_length_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="remaining length"):
        list(wire.Parser().feed(b"\x30" + b"\xff" * 5))


def test_packets_are_as_the_standard_writes_them() -> None:
    """MQTT 3.1.1, section 3; also with a length of three bytes."""
    head = b"\x10\x0d\x00\x04MQTT\x04"
    assert wire.connect("a", clean=False) == head + b"\x00\x00\x3c\x00\x01a"
    assert wire.connect("a") == head + b"\x02\x00\x3c\x00\x01a"
    assert wire.subscribe(10, ["a/b"], 1) == b"\x82\x08\x00\x0a\x00\x03a/b\x01"
    assert wire.publish(b"a/b", b"hi", qos=1, mid=10) == b"\x32\x09\x00\x03a/b\x00\x0ahi"
    assert wire.publish(b"a/b", b"hi") == b"\x30\x07\x00\x03a/bhi"
    long = wire.publish(b"a/b", b"x" * 20000, qos=1, mid=7)
    assert long[:4] == b"\x32\xa7\x9c\x01"
    expected = [
        wire.Packet(wire.PUBLISH, b"a/b", b"x" * 20000, 1, 7),
        wire.Packet(wire.PINGRESP),
        wire.Packet(wire.PUBACK, payload=b"\x00\x09"),
    ]
    assert [*wire.Parser().feed(long + b"\xd0\x00" + wire.puback(9))] == expected
