"""The pump: packets taken apart however they are sliced, and written by the block."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from adapters.mqtt_pump import AT_ONCE, SLICE_S, WRITE_MOST, Expiry, Pump

PUBLISH = st.tuples(
    st.binary(max_size=30), st.binary(max_size=300), st.integers(0, 1), st.booleans()
)


class Paho:
    """As much of paho's client as the pump touches."""

    def __init__(self) -> None:
        self.near, self._sock = socket.socketpair()
        self._sock.setblocking(False)
        self.near.setblocking(False)
        self._out_packet: deque[dict[str, Any]] = deque()
        self._out_messages: dict[int, object] = {}
        self._in_packet: dict[str, Any] = {}
        self._inflight_messages = 0
        self._max_inflight_messages = 0
        self.left: list[tuple[int, bytes]] = []
        self.ended: list[MQTTErrorCode] = []
        self.registered = self.unregistered = self.looked = 0
        self.kept: list[tuple[int, bytes]] = []
        self._mid = 0

    def _mid_generate(self) -> int:
        self._mid += 1
        return self._mid

    def publish(self, topic: str, payload: bytes, *_words: object) -> MQTTMessageInfo:
        mid = self._mid_generate()
        self._out_messages[mid] = object()
        self.kept.append((mid, payload))
        return MQTTMessageInfo(mid)

    def _update_inflight(self) -> MQTTErrorCode:
        self.looked += 1
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _loop_rc_handle(self, rc: MQTTErrorCode) -> None:
        self.ended.append(rc)
        if self._sock is not None:
            self._sock.close()
            self._sock = None  # type: ignore[assignment]

    def _packet_handle(self) -> MQTTErrorCode:
        self.left.append((self._in_packet["command"], bytes(self._in_packet["packet"])))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _call_socket_register_write(self) -> None:
        self.registered += 1

    def _call_socket_unregister_write(self) -> None:
        self.unregistered += 1

    def queue(self, packet: bytes) -> None:
        self._out_packet.append(
            {"command": 0x30, "packet": bytearray(packet), "pos": 0, "to_process": len(packet)}
        )

    def close(self) -> None:
        self.near.close()
        if self._sock is not None:
            self._sock.close()


class Rig:
    """The pump between a fake of paho and a far end that we hold."""

    def __init__(self, *, five: bool = True) -> None:
        self.paho = Paho()
        self.loop = asyncio.new_event_loop()
        self.taken: list[tuple[bytes, bytes, int, bool, int]] = []
        self.told: list[tuple[int, int]] = []
        self.failed: list[Exception] = []
        self.pump = Pump(
            self.paho,  # type: ignore[arg-type]
            self.loop,
            five=five,
            take=lambda *words: self.taken.append(words),
            told=lambda mid, reason: self.told.append((mid, reason.value)),
            failed=self.failed.append,
        )

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()
        self.paho.close()

    def hear(self, data: bytes) -> None:
        self.paho.near.send(data)
        self.pump.readable()

    def turn(self) -> int:
        """One turn of the loop; how many packets it handed over."""
        before = len(self.taken)
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        return len(self.taken) - before


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def packet(head: int, body: bytes) -> bytes:
    return bytes((head,)) + varint(len(body)) + body


def publish(topic: bytes, payload: bytes, qos: int, retain: bool, mid: int, *, five: bool) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic
    if qos:
        body += mid.to_bytes(2, "big")
    if five:
        body += b"\x05\x02\x00\x00\x00\x09"  # an expiry, which is nothing to us
    return packet(0x30 | qos << 1 | retain, body + payload)


@given(st.lists(PUBLISH, max_size=6), st.integers(1, 9), st.booleans())
def test_packets_are_the_same_however_they_are_sliced(
    said: list[tuple[bytes, bytes, int, bool]], size: int, five: bool
) -> None:
    stream = b"".join(
        publish(topic, payload, qos, retain, n + 1, five=five)
        for n, (topic, payload, qos, retain) in enumerate(said)
    )
    with Rig(five=five) as rig:
        for at in range(0, len(stream), size):
            rig.hear(stream[at : at + size])
        assert rig.taken == [
            (topic, payload, qos, retain, n + 1 if qos else 0, False)
            for n, (topic, payload, qos, retain) in enumerate(said)
        ]
        assert not rig.failed
        assert not rig.paho.ended


def burst(count: int) -> bytes:
    """As a broker empties its queue after an outage."""
    return b"".join(publish(b"t", b"%d" % n, 1, False, n + 1, five=True) for n in range(count))


def test_of_a_burst_a_turn_of_the_loop_carries_a_slice() -> None:
    """However much the broker brings at once: others have their turn in between, nothing is lost,
    nothing overtakes, and what comes meanwhile is read after it."""
    with Rig() as rig:
        rig.loop.add_reader(rig.paho._sock.fileno(), rig.pump.readable)
        rig.loop.time = lambda: 0.0  # type: ignore[method-assign]
        rig.paho.near.send(burst(300))
        turns = [rig.turn() for _ in range(3)]
        rig.paho.near.send(publish(b"t", b"last", 1, False, 999, five=True))
        turns += [rig.turn() for _ in range(20)]
        assert max(turns) == AT_ONCE
        expected = [b"%d" % n for n in range(300)] + [b"last"]
        assert [payload for _, payload, *_ in rig.taken] == expected


def test_a_slice_ends_early_when_its_packets_take_long() -> None:
    with Rig() as rig:
        now_s = 0.0
        rig.loop.time = lambda: now_s  # type: ignore[method-assign]
        take = rig.pump._take

        def slow(*words: Any) -> None:
            nonlocal now_s
            now_s += SLICE_S
            take(*words)

        rig.pump._take = slow
        rig.hear(burst(20))
        assert len(rig.taken) == 1
        assert [rig.turn() for _ in range(20)] == [*[1] * 19, 0]


def test_what_is_left_of_a_burst_ends_with_its_connection() -> None:
    """It was not acknowledged: it comes again."""
    with Rig() as rig:
        rig.hear(burst(AT_ONCE + 5))
        rig.paho._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        assert rig.turn() == 0
        assert not rig.failed


@given(st.binary(max_size=200))
def test_noise_ends_the_connection_or_waits_and_raises_nothing(noise: bytes) -> None:
    with Rig() as rig:
        rig.hear(b"\x32" + noise)
        assert not rig.failed
        assert set(rig.paho.ended) <= {
            MQTTErrorCode.MQTT_ERR_PROTOCOL,
            MQTTErrorCode.MQTT_ERR_CONN_LOST,
        }


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="a length of five bytes"),
        pytest.param(packet(0x34, b"\x00\x01t\x00\x01\x00x"), id="QoS 2, never subscribed to"),
        pytest.param(packet(0x32, b"\x00\x09t\x00\x01"), id="a topic beyond the end"),
        pytest.param(packet(0x32, b"\x00\x01t\x00"), id="no room for the packet id"),
        pytest.param(packet(0x30, b"\x00\x01t\x7f"), id="properties beyond the end"),
        pytest.param(packet(0x30, b"\x00"), id="no topic"),
        pytest.param(packet(0x40, b"\x00"), id="a PUBACK of one byte"),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(bad: bytes) -> None:
    with Rig() as rig:
        rig.hear(bad)
        assert rig.paho.ended == [MQTTErrorCode.MQTT_ERR_PROTOCOL]
        assert not rig.taken
        assert not rig.failed


def test_a_puback_tells_its_reason_once_and_only_for_what_was_sent() -> None:
    with Rig() as rig:
        rig.paho._out_messages = {7: object(), 8: object()}
        rig.paho._inflight_messages = 2
        rig.hear(packet(0x40, b"\x00\x07") + packet(0x40, b"\x00\x08\x87"))
        rig.hear(packet(0x40, b"\x00\x07") + packet(0x40, b"\x00\x63"))
        assert rig.told == [(7, 0), (8, 0x87)]
        assert rig.paho._inflight_messages == 0


def test_all_else_is_left_to_paho() -> None:
    with Rig() as rig:
        rig.hear(packet(0x90, b"\x00\x01\x00\x01") + packet(0xD0, b""))
        assert rig.paho.left == [(0x90, b"\x00\x01\x00\x01"), (0xD0, b"")]


def test_what_comes_along_with_connack_waits_until_it_can_be_answered() -> None:
    with Rig() as rig:
        rig.loop.add_reader(rig.paho._sock.fileno(), rig.pump.readable)
        rig.hear(packet(0x20, b"\x00\x00\x00") + publish(b"t", b"1", 1, False, 1, five=True))
        rig.paho.near.send(publish(b"t", b"2", 1, False, 2, five=True))
        rig.loop.call_later(0, rig.loop.stop)
        rig.loop.run_forever()
        assert rig.taken == []
        rig.pump.go_on()
        assert [payload for _, payload, *_ in rig.taken] == [b"1", b"2"]


def test_what_is_queued_in_one_turn_leaves_in_one_write() -> None:
    with Rig() as rig:
        for n in range(5):
            rig.paho.queue(b"%d" % n)
            rig.pump.write_soon()
        sent: list[bytes] = []
        real = rig.paho._sock

        class Counting:
            def send(self, data: bytes) -> int:
                sent.append(bytes(data))
                return real.send(data)

        rig.paho._sock = Counting()  # type: ignore[assignment]
        rig.loop.call_soon(rig.loop.stop)
        rig.loop.run_forever()
        rig.paho._sock = real
        assert sent == [b"01234"]
        assert rig.paho.near.recv(100) == b"01234"
        assert rig.paho.unregistered == 1


def test_what_the_kernel_does_not_take_goes_on_where_it_stopped() -> None:
    said = [bytes((n,)) * 30_000 for n in range(60)]
    with Rig() as rig:
        rig.paho._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for each in said:
            rig.paho.queue(each)
        rig.pump.write_soon()
        rig.loop.call_soon(rig.loop.stop)
        rig.loop.run_forever()
        assert rig.paho._out_packet  # the far end does not read
        heard = bytearray()
        rig.loop.add_reader(
            rig.paho.near.fileno(), lambda: heard.extend(rig.paho.near.recv(WRITE_MOST))
        )

        async def all_heard() -> None:
            async with asyncio.timeout(20):
                while len(heard) < sum(map(len, said)):  # noqa: ASYNC110
                    await asyncio.sleep(0)

        rig.loop.run_until_complete(all_heard())
        rig.loop.remove_reader(rig.paho.near.fileno())
        assert bytes(heard) == b"".join(said)
        rig.pump.written(rig.paho._sock)


@given(st.text(max_size=40), st.binary(max_size=20_000), st.booleans(), st.booleans())
def test_what_is_said_with_qos_0_is_what_the_other_side_reads(
    topic: str, payload: bytes, retain: bool, five: bool
) -> None:
    with Rig(five=five) as ours, Rig(five=five) as theirs:
        ours.pump.say(topic, payload, retain=retain, expiry=Expiry(9) if five else None)
        (queued,) = ours.paho._out_packet
        assert queued["to_process"] == len(queued["packet"])
        theirs.hear(bytes(queued["packet"]))
        assert theirs.taken == [(topic.encode(), payload, 0, retain, 0, False)]
        assert ours.paho.registered == 1


@given(st.text(max_size=40), st.binary(max_size=20_000), st.booleans(), st.booleans())
def test_what_is_published_with_qos_1_is_what_the_other_side_reads(
    topic: str, payload: bytes, retain: bool, five: bool
) -> None:
    with Rig(five=five) as ours, Rig(five=five) as theirs:
        expiry = Expiry(9) if five else None
        mid, code = ours.pump.publish(topic, payload, retain=retain, expiry=expiry)
        (queued,) = ours.paho._out_packet
        theirs.hear(bytes(queued["packet"]))
        assert (code, theirs.taken) == (0, [(topic.encode(), payload, 1, retain, mid, False)])
        theirs.pump.acknowledge(mid)
        ours.hear(bytes(theirs.paho._out_packet[0]["packet"]))
        assert ours.told == [(mid, 0)]
        assert (ours.paho._inflight_messages, ours.paho._out_messages) == (0, {})


def test_no_more_is_published_at_once_than_the_broker_takes() -> None:
    """Receive Maximum (MQTT 5, 4.9): the next one waits with paho until a PUBACK makes room."""
    with Rig() as rig:
        rig.paho._max_inflight_messages = 2
        mids = [rig.pump.publish("t", bytes((n,)), retain=False, expiry=None)[0] for n in range(4)]
        assert len(rig.paho._out_packet) == 2
        assert rig.paho.kept == [(mids[2], b"\x02"), (mids[3], b"\x03")]
        rig.hear(packet(0x40, mids[1].to_bytes(2, "big")))
        assert (rig.paho._inflight_messages, rig.paho.looked) == (1, 1)


def test_an_expiry_is_one_property_of_four_bytes() -> None:
    assert Expiry(9).pack() == b"\x05\x02\x00\x00\x00\x09"
