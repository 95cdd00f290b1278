"""What every link promises: a line on a PTY, a gpsd, trackers, and brokers: a real mosquitto.

What is sent is promised by the fake as well. Nothing is said over it: tests hand over its envelopes
themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiomqtt
import msgspec
import pytest

from adapters import codecs, links
from adapters.links.osmand_http import OsmandLink
from gateway.app import SystemClock
from gateway.errors import LinkDown, SendFailed
from gateway.messages import (
    Bearer,
    Envelope,
    FixSource,
    Locate,
    LocationFix,
    Notice,
    StatusReport,
)
from gateway.ports import Link, Locates, Plays
from gateway.settings import (
    BrokerSection,
    GpsdSection,
    OsmandSection,
    OwnTracksSection,
    SerialSection,
    TetraSection,
)
from simulators import tetra_air
from simulators.clock import RealClock
from simulators.lines import PtyLine
from simulators.tetra_air import Sdu
from simulators.tetra_radio import TetraRadio
from tests.fake_link import FakeLink
from tests.fakes import FakeJournal, FakeMeter
from tests.services.mosquitto import Mosquitto
from tests.services.scripted_gpsd import ScriptedGpsd

ISSI = "5001001"
PHONE = "nora/phone"
CALLED = {("owntracks", PHONE), ("osmand", "TRK1")}
WITHIN_S = 10.0


class Ends:
    """One link under test with the world around it. say, heard: the far side."""

    link: Link
    say: Callable[[bytes, str], Awaitable[None]]
    heard: list[bytes]
    hang_up: Callable[[], Awaitable[None]]
    words: SimpleNamespace
    meter: FakeMeter
    envelopes: list[Envelope]

    def __init__(self) -> None:
        self.heard, self.envelopes = [], []
        self.tapped: list[tuple[str, bytes]] = []
        self.tapped_before: list[int] = []
        self.meter = FakeMeter()
        self.up = asyncio.Event()
        self.auto = True
        self._task: asyncio.Task[None] | None = None

    def handle(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        self.tapped_before.append(len([each for each in self.tapped if each[1]]))
        if self.auto:
            envelope.settle()

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.ensure_future(self.link.run(self.handle, self.up.set))
        return self._task

    async def opened(self) -> asyncio.Task[None]:
        task = self.start()
        async with asyncio.timeout(WITHIN_S):
            waiting = asyncio.ensure_future(self.up.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if task.done():
            task.result()
        return task

    async def until(self, ready: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not ready():  # noqa: ASYNC110 - bytes come from the kernel, without an event
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def made(section: Any, ends: Ends, folder: Path) -> Link:
    return links.create(
        section,
        instance="gwt",
        config_path=folder / "gateway.toml",
        clock=SystemClock(),
        meter=ends.meter,
        journal=FakeJournal(),
        known=lambda issi: issi == ISSI,
        codecs=codecs.create,
        named=lambda protocol, name: ISSI if (protocol, name) in CALLED else "",
        tap=lambda channel, data: ends.tapped.append((channel, data)),
    )


async def serial_ends(folder: Path) -> AsyncIterator[Ends]:
    ends = Ends()
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    ends.link = made(
        SerialSection(name="line", port=os.ttyname(slave), terminal=ISSI), ends, folder
    )
    loop = asyncio.get_running_loop()
    rest = bytearray()

    def readable() -> None:
        try:
            rest.extend(os.read(master, 4096))
        except OSError:
            loop.remove_reader(master)
            return
        while b"\r\n" in rest:
            line, _, more = bytes(rest).partition(b"\r\n")
            ends.heard += [line] if line else []  # an empty line says nothing
            rest[:] = more

    loop.add_reader(master, readable)

    async def say(data: bytes, channel: str) -> None:
        del channel
        os.write(master, data + b"\r\n")

    closed = False

    async def hang_up() -> None:
        nonlocal closed
        loop.remove_reader(master)
        os.close(slave)
        os.close(master)
        closed = True

    ends.say, ends.hang_up = say, hang_up
    ends.words = SimpleNamespace(
        status=(b"#S 4", "status"),
        fix=(b"$GPGLL,5234.350,N,00014.586,W,101502,A*37", "nmea"),
        bad=(b"$GPGLL,5234.350,N,00014.586,W,101502,A*00", "nmea"),
        noise=(b"\x80\x81\xfe", "nmea"),
        notice=lambda text: text.encode(),
    )
    yield ends
    await ends.close()
    if not closed:
        await hang_up()


async def broker_ends(folder: Path, broker: Mosquitto) -> AsyncIterator[Ends]:
    ends = Ends()
    ends.link = made(BrokerSection(name="line", port=broker.port), ends, folder)
    ready = asyncio.Event()
    queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def terminal() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port, identifier="far") as client:
            await client.subscribe(f"radio/{ISSI}/down/#", qos=1)
            ready.set()

            async def send() -> None:
                while True:
                    channel, data = await queue.get()
                    await client.publish(f"radio/{ISSI}/up/{channel}", data, qos=1)

            sending = asyncio.ensure_future(send())
            try:
                async for message in client.messages:
                    ends.heard.append(bytes(message.payload))
            finally:
                sending.cancel()

    far = asyncio.ensure_future(terminal())
    await ready.wait()

    async def say(data: bytes, channel: str) -> None:
        queue.put_nowait((channel, data))

    async def hang_up() -> None:
        broker.kill()

    ends.say, ends.hang_up = say, hang_up
    ends.words = SimpleNamespace(
        status=(b'{"code": 4}', "status"),
        fix=(b'{"lat": 52.5725, "lon": -0.2431}', "fix"),
        bad=(b'{"lat": 91, "lon": 0}', "fix"),
        noise=(b"\x80\x81\xfe", "fix"),
        notice=lambda text: b'{"kind":"echo","text":"' + text.encode() + b'"}',
    )
    yield ends
    await ends.close()
    far.cancel()
    await asyncio.gather(far, return_exceptions=True)


async def gpsd_ends(folder: Path) -> AsyncIterator[Ends]:
    """A gpsd of bytes; the real one: tests/system/test_gpsd.py."""
    ends = Ends()
    async with ScriptedGpsd() as gpsd:
        ends.link = made(GpsdSection(name="line", port=gpsd.port, terminal=ISSI), ends, folder)

        async def say(data: bytes, channel: str) -> None:
            del channel
            gpsd.say(data)

        async def hang_up() -> None:
            gpsd.cut()

        ends.say, ends.hang_up = say, hang_up
        fix = b'{"class":"TPV","mode":3,"lat":52.5725,"lon":-0.2431}'
        ends.words = SimpleNamespace(
            status=(fix, ""),
            said=LocationFix(lat=52.5725, lon=-0.2431),
            type="fix",
            fix=(fix, ""),
            bad=(fix.replace(b"52.5", b"91.5"), ""),
            noise=(b"\x80\x81\xfe", ""),
        )
        yield ends
        await ends.close()


async def phone_ends(folder: Path, broker: Mosquitto) -> AsyncIterator[Ends]:
    """Nothing is sent to a phone: it has no `notice`."""
    ends = Ends()
    ends.link = made(OwnTracksSection(name="line", port=broker.port), ends, folder)
    ready = asyncio.Event()
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def phone() -> None:
        # As phones come: MQTT 3.1.1, and each position is to lie retained.
        version = aiomqtt.ProtocolVersion.V311
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=version) as client:
            ready.set()

            async def send() -> None:
                while True:
                    data = await queue.get()
                    await client.publish(f"owntracks/{PHONE}", data, qos=1, retain=True)

            sending = asyncio.ensure_future(send())
            try:
                async for _ in client.messages:
                    pass
            finally:
                sending.cancel()

    far = asyncio.ensure_future(phone())
    await ready.wait()

    async def say(data: bytes, channel: str) -> None:
        del channel
        queue.put_nowait(data)

    async def hang_up() -> None:
        broker.kill()

    where = b'{"_type":"location","lat":52.5725,"lon":-0.2431,"tst":1795342502}'
    ends.say, ends.hang_up = say, hang_up
    ends.words = SimpleNamespace(
        status=(where, ""),
        said=LocationFix(
            lat=52.5725, lon=-0.2431, fixed_at_ms=1_795_342_502_000, source=FixSource.PHONE
        ),
        type="fix",
        fix=(where, ""),
        bad=(b'{"_type":"location","lat":91,"lon":0,"tst":1795342502}', ""),
        noise=(b"\x80\x81\xfe", ""),
    )
    yield ends
    await ends.close()
    far.cancel()
    await asyncio.gather(far, return_exceptions=True)


async def radio_ends(folder: Path) -> AsyncIterator[Ends]:
    """A TETRA radio at the gateway, and one handset behind it."""
    ends = Ends()
    radio = TetraRadio(name="line", line=PtyLine(folder / "radio"), clock=RealClock())
    radio.plug()
    ends.link = made(TetraSection(name="line", port=radio.line.path), ends, folder)

    def hear(sdu: Sdu) -> None:
        said = tetra_air.read(sdu)
        if isinstance(said, tetra_air.Locate):
            return
        assert isinstance(said, tetra_air.Text)
        ends.heard.append(said.text.encode())

    radio.attach(int(ISSI), hear)

    async def say(data: bytes, channel: str) -> None:
        del channel
        radio.says(data + b"\r\n")

    async def hang_up() -> None:
        radio.unplug()

    ends.say, ends.hang_up = say, hang_up
    header = f"+CTSDSR: 12,{ISSI},0,6000001,0,84".encode()
    ends.words = SimpleNamespace(
        status=(f"+CTSDSR: 13,{ISSI},0,6000001,0,16\r\n8004".encode(), ""),
        said=StatusReport(code=0x8004),
        fix=(header + b"\r\n0A1FFD3BEA562882FFE81", ""),
        bad=(header + b"\r\n0A1FFD3BEA5628", ""),
        noise=(b"\x80\x81\xfe", ""),
        notice=lambda text: text.encode(),
    )
    yield ends
    await ends.close()
    radio.close()


async def tracker_ends(folder: Path) -> AsyncIterator[Ends]:
    """A listener on loopback; whoever says something comes to it, and waits for the answer."""
    ends = Ends()
    ends.link = link = made(OsmandSection(name="line", port=0), ends, folder)
    assert isinstance(link, OsmandLink)

    async def say(data: bytes, channel: str) -> None:
        del channel
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        writer.write(b"GET /?%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % data)
        await reader.read()
        writer.close()

    fix = b"id=TRK1&lat=52.5725&lon=-0.2431"
    ends.say = say
    ends.words = SimpleNamespace(
        status=(fix, ""),
        said=LocationFix(lat=52.5725, lon=-0.2431, source=FixSource.PHONE),
        type="fix",
        fix=(fix, ""),
        bad=(fix.replace(b"52.5", b"91.5"), ""),
        noise=(fix.replace(b"52.5", b"5z.5"), ""),
    )
    yield ends
    await ends.close()


@pytest.fixture(params=["serial", "broker", "gpsd", "phones", "trackers", "tetra"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    """Whatever is heard."""
    match request.param:
        case "serial":
            made_of = serial_ends(tmp_path)
        case "gpsd":
            made_of = gpsd_ends(tmp_path)
        case "trackers":
            made_of = tracker_ends(tmp_path)
        case "phones":
            made_of = phone_ends(tmp_path, request.getfixturevalue("mosquitto"))
        case "tetra":
            made_of = radio_ends(tmp_path)
        case _:
            made_of = broker_ends(tmp_path, request.getfixturevalue("mosquitto"))
    async for each in made_of:
        yield each


async def fake_ends() -> AsyncIterator[Ends]:
    ends = Ends()
    link = FakeLink("line")
    link.up = False
    link.unreached = {"5001999"}

    def took(_terminal: str, message: object) -> None:
        assert isinstance(message, Notice)
        ends.heard.append(message.text.encode())

    async def hang_up() -> None:
        link.cut()

    link.took, ends.link, ends.hang_up = took, link, hang_up
    ends.words = SimpleNamespace(notice=lambda text: text.encode())
    yield ends
    await ends.close()


@pytest.fixture(params=["serial", "broker", "phones", "tetra", "fake"])
async def living(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    """Whatever begins and ends."""
    match request.param:
        case "serial":
            made_of = serial_ends(tmp_path)
        case "broker":
            made_of = broker_ends(tmp_path, request.getfixturevalue("mosquitto"))
        case "tetra":
            made_of = radio_ends(tmp_path)
        case "phones":
            made_of = phone_ends(tmp_path, request.getfixturevalue("mosquitto"))
        case _:
            made_of = fake_ends()
    async for each in made_of:
        yield each


@pytest.fixture(params=["serial", "broker", "tetra", "fake"])
async def sending(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    """Whatever sends."""
    match request.param:
        case "serial":
            made_of = serial_ends(tmp_path)
        case "tetra":
            made_of = radio_ends(tmp_path)
        case "broker":
            made_of = broker_ends(tmp_path, request.getfixturevalue("mosquitto"))
        case _:
            made_of = fake_ends()
    async for each in made_of:
        yield each


async def test_what_is_said_is_handed_over(ends: Ends) -> None:
    """With the line's or the topic's identity, the link's name, and its times."""
    await ends.opened()
    await ends.say(*ends.words.status)
    await ends.until(lambda: ends.envelopes)
    envelope = ends.envelopes[0]
    assert envelope.message == getattr(ends.words, "said", StatusReport(code=4))
    assert (envelope.terminal, envelope.link) == (ISSI, "line")
    assert envelope.bearer is ends.link.bearer
    assert envelope.reference_ms == envelope.received_at_ms > 0
    type_ = getattr(ends.words, "type", "status")
    assert ends.meter.total("frames_received_total", link="line", type=type_) == 1
    assert ends.meter.total("link_receive_bytes_total", link="line") >= 4


async def test_what_can_be_read_is_heard(ends: Ends) -> None:
    """`heard_at_s` is what silence is told from: none before the first word that can be read."""
    clock = SystemClock()

    def heard_at_s() -> float | None:
        return ends.link.heard_at_s

    await ends.opened()
    assert heard_at_s() is None
    await ends.say(*ends.words.noise)
    await ends.until(lambda: ends.meter.total("frames_rejected_total", link="line"))
    assert heard_at_s() is None, "noise"
    before_s = clock.monotonic_s()
    await ends.say(*ends.words.status)
    await ends.until(lambda: ends.envelopes)
    assert before_s <= (heard_at_s() or 0.0) <= clock.monotonic_s()


async def test_a_fix_and_a_bad_frame(ends: Ends) -> None:
    """The first is handed over; the second is counted by reason and costs nothing else."""
    await ends.opened()
    await ends.say(*ends.words.bad)
    await ends.say(*ends.words.fix)
    await ends.until(lambda: ends.envelopes)
    fix = ends.envelopes[0].message
    assert isinstance(fix, LocationFix)
    assert abs(fix.lat - 52.5725) < 1e-4
    assert abs(fix.lon + 0.2431) < 1e-4
    rejected = ends.meter.total("frames_rejected_total", link="line")
    assert rejected + ends.meter.total("fixes_rejected_total") == 1


async def test_a_tap_is_told_before_anything_is_judged(ends: Ends) -> None:
    """Of what is refused as of what is handed over, and of every byte."""
    await ends.opened()
    await ends.say(*ends.words.noise)
    await ends.until(lambda: ends.meter.total("frames_rejected_total", link="line"))
    assert ends.words.noise[0] in b"".join(data for _, data in ends.tapped)
    await ends.say(*ends.words.status)
    await ends.until(lambda: ends.envelopes)
    assert ends.tapped_before[0] >= 2, "tapped after it was handed over"
    assert ends.words.status[0] in b"".join(data for _, data in ends.tapped)
    assert ends.meter.total("link_receive_bytes_total", link="line") == sum(
        len(data) for _, data in ends.tapped
    )


def timeless(envelope: Envelope) -> object:
    """Some say how old a position is: then its time hangs on when it came."""
    message = envelope.message
    if isinstance(message, LocationFix) and message.reckoned:
        return msgspec.structs.replace(message, fixed_at_ms=None)
    return message


async def test_what_a_tap_was_told_is_played_again(ends: Ends) -> None:
    """gateway.ports.Plays: the same is made of it, with nothing opened."""
    await ends.opened()
    for each in (ends.words.noise, ends.words.bad, ends.words.fix, ends.words.status):
        await ends.say(*each)
    await ends.until(lambda: len(ends.envelopes) == 2)
    assert isinstance(ends.link, Plays)
    again: list[Envelope] = []
    tell = ends.link.played(again.append)
    for channel, data in list(ends.tapped):
        tell(channel, data)
    assert [timeless(each) for each in again] == [timeless(each) for each in ends.envelopes]
    assert [each.terminal for each in again] == [ISSI, ISSI]
    assert all(each.link == "line" and each.bearer is ends.link.bearer for each in again)


async def test_what_was_sent_is_counted(ends: Ends) -> None:
    """Or it is not taken: whoever has no screen shows nothing, and says so."""
    await ends.opened()
    notice = Notice(kind="echo", text="X")
    if not hasattr(ends.words, "notice"):
        assert not ends.link.reaches(ISSI)
        with pytest.raises(SendFailed):
            await ends.link.send(ISSI, notice, expires_in_s=60, deadline_s=5)
        assert ends.meter.total("frames_sent_total", link="line", type="notice") == 0
        return
    await ends.link.send(ISSI, notice, expires_in_s=60, deadline_s=5)
    assert ends.meter.total("frames_sent_total", link="line", type="notice") == 1
    assert ends.meter.total("link_send_bytes_total", link="line") >= 1


async def test_whoever_says_that_it_can_ask_where_a_radio_is_asks(ends: Ends) -> None:
    """And whoever has no word for it does not say so: the control room is told at once."""
    await ends.opened()
    can = isinstance(ends.link, Locates) and ends.link.locates(ISSI)
    with contextlib.suppress(SendFailed):
        await ends.link.send(ISSI, Locate(), expires_in_s=60, deadline_s=5)
    assert ends.meter.total("frames_sent_total", link="line", type="locate") == can
    assert can == (ends.link.bearer is Bearer.TETRA)


async def test_sending_and_reach(sending: Ends) -> None:
    """It reaches its terminal while it is up, and nobody else; `send` returns when it is out."""
    assert not sending.link.reaches(ISSI)
    with pytest.raises(SendFailed):
        await sending.link.send(
            ISSI, Notice(kind="echo", text="X"), expires_in_s=60, deadline_s=1
        )  # fmt: skip
    await sending.opened()
    assert sending.link.reaches(ISSI)
    assert not sending.link.reaches("5001999")
    await sending.link.send(ISSI, Notice(kind="echo", text="ECHO A"), expires_in_s=60, deadline_s=5)
    await sending.until(lambda: sending.heard)
    assert sending.heard == [sending.words.notice("ECHO A")]


async def test_many_messages_keep_their_order(sending: Ends) -> None:
    await sending.opened()
    for n in range(50):
        await sending.link.send(
            ISSI, Notice(kind="echo", text=f"ECHO {n}"), expires_in_s=60, deadline_s=5
        )  # fmt: skip
    await sending.until(lambda: len(sending.heard) == 50)
    assert sending.heard == [sending.words.notice(f"ECHO {n}") for n in range(50)]


async def test_a_hang_up_is_link_down_at_once(living: Ends) -> None:
    """Not silence, not a spin, not a traceback: LinkDown, with a short reason."""
    task = await living.opened()
    await living.hang_up()
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown) as caught:
            await task
    assert 0 < len(caught.value.reason) <= 60
    assert not living.link.reaches(ISSI)
    with pytest.raises(SendFailed):
        await living.link.send(
            ISSI, Notice(kind="echo", text="X"), expires_in_s=60, deadline_s=1
        )  # fmt: skip


async def test_cancelled_it_lets_go(living: Ends) -> None:
    """And leaves no task of its own behind."""
    before = asyncio.all_tasks()
    task = await living.opened()
    task.cancel()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(task, return_exceptions=True)
    await living.until(lambda: asyncio.all_tasks() <= before | {task})
    assert not living.link.reaches(ISSI)
