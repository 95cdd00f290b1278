"""The serial link on real PTYs: hang-ups, floods, peers that do not read, and reopening."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import re
import resource
import socket
import struct
import termios
import threading
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import pytest
import serial

from adapters import codecs
from adapters.links import line as lines
from adapters.links import port_opening
from adapters.links.serial_port import SerialLink
from gateway.app import SystemClock, SystemIds
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Envelope, LinkState, LocationFix, Notice, StatusReport, Suspicion
from gateway.ports import Returns
from gateway.settings import SerialSection
from gateway.supervise import keep
from tests.adapters.codecs.sentences import sentence
from tests.fakes import FakeJournal, FakeMeter

ISSI = "5001001"
WITHIN_S = 10.0
TIOCGEXCL = 0x80045440
"""Linux, asm-generic/ioctls.h: whether TIOCEXCL is set. The standard library has no name for it."""


class Rig:
    def __init__(self, port: str, **options: object) -> None:
        self.meter = FakeMeter()
        self.journal = FakeJournal()
        self.envelopes: list[Envelope] = []
        self.up = asyncio.Event()
        self.link = SerialLink(
            SerialSection(name="line", port=port, terminal=ISSI, **options),  # type: ignore[arg-type]
            instance="gwt",
            config_path=Path("/x"),
            clock=SystemClock(),
            meter=self.meter,
            journal=self.journal,
            known=lambda issi: issi == ISSI,
            codecs=codecs.create,
            suspect=lambda *what: self.suspected.append(what),
        )
        self.suspected: list[tuple[Suspicion, str, str]] = []
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> asyncio.Task[None]:
        self.up.clear()
        self.task = asyncio.ensure_future(self.link.run(self.envelopes.append, self.up.set))
        async with asyncio.timeout(WITHIN_S):
            waiting = asyncio.ensure_future(self.up.wait())
            await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        return self.task

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def say(self, text: str) -> str:
        """Send a notice; what came of it in words, empty when it was sent."""
        try:
            await self.link.send(
                ISSI, Notice(kind="operator", text=text), expires_in_s=60, deadline_s=5
            )
        except SendFailed as error:
            return str(error)
        return ""


async def until(ready: Callable[[], object], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not ready():  # noqa: ASYNC110 - bytes come from the kernel, without an event
            await asyncio.sleep(0.005)


async def down(task: asyncio.Future[None] | None) -> LinkDown:
    """How the link ended, which it must."""
    assert task is not None
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown) as caught:
            await task
    return caught.value


class Pty:
    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.name = os.ttyname(self.slave)

    def fill(self) -> None:
        """Until the line takes not one byte more, also a moment later: the kernel moves what it
        took from one buffer to the next by itself."""
        other = os.open(self.name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        refused = 0
        while refused < 40:
            try:
                os.write(other, b"." * 64 if not refused else b".")
                refused = 0
            except BlockingIOError:
                refused += 1
                time.sleep(0.01)
        os.close(other)

    def read(self) -> bytes:
        """What the radio has not read yet."""
        os.set_blocking(self.master, False)
        found = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.master, 65536):
                found += data
        return found

    async def heard(self, end: bytes) -> bytes:
        """Everything up to what is waited for."""
        found = b""
        async with asyncio.timeout(WITHIN_S):
            while end not in found:
                found += self.read()
                await asyncio.sleep(0.002)
        return found

    def close(self) -> None:
        for each in (self.master, self.slave):
            if each >= 0:
                os.close(each)
        self.master = self.slave = -1


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


@pytest.fixture
async def faults() -> AsyncIterator[list[str]]:
    """What the loop had to report: an error in a callback, a task that nobody looked at."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: found.append(str(context["message"])))
    yield found
    loop.set_exception_handler(None)


async def test_half_a_sentence_from_before_a_hang_up_is_nobodys(tmp_path: Path) -> None:
    """S01: the codec is fresh at each opening; the stable path is followed anew (S02)."""
    stable = tmp_path / "by-id"
    first = Pty()
    stable.symlink_to(first.name)
    rig = Rig(str(stable))
    task = await rig.open()
    os.write(first.master, b"#S 4\r\n#S 1")
    await until(lambda: rig.envelopes)
    first.close()
    await down(task)
    second = Pty()
    stable.unlink()
    stable.symlink_to(second.name)
    await rig.open()
    os.write(second.master, b"1\r\n#S 5\r\n")
    await until(lambda: [e for e in rig.envelopes if e.message == StatusReport(code=5)])
    assert StatusReport(code=11) not in [e.message for e in rig.envelopes]
    await rig.close()
    second.close()


async def test_a_hung_up_line_does_not_spin(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    """F12: a naive reader ran 138,893 callbacks in half a second. Ours looks once, and lets go."""
    reads: list[bytes] = []

    def counted(port: lines.Port, size: int) -> bytes:
        reads.append(read(port, size))
        return reads[-1]

    read = lines.Port.read
    monkeypatch.setattr(lines.Port, "read", counted)
    rig = Rig(pty.name)
    task = await rig.open()
    os.write(pty.master, b"$GPRMC,12")
    await until(lambda: reads)
    pty.close()
    assert "hung up" in (await down(task)).reason
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert reads == [b"$GPRMC,12", b""]
    assert used_s < 0.25, "half a second of waiting cost that much work"
    assert rig.envelopes == []


async def test_a_second_opener_is_told_so(pty: Pty) -> None:
    """S09: exclusive; bytes are never split between two readers."""
    rig, other = Rig(pty.name), Rig(pty.name)
    await rig.open()
    task = await other.open()
    assert "in use" in (await down(task)).reason
    await rig.close()


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ("/dev/no-such-port", "no such port"),
        ("/dev/null/x", "no such port"),
        ("/dev/null", "not a serial port"),
        ("/dev", "not a serial port"),
        ("socket://127.0.0.1:1", "refused"),
        ("socket://no-such-host.invalid:4001", "name not found"),
    ],
)
async def test_a_port_that_cannot_be_opened(port: str, reason: str, faults: list[str]) -> None:
    """A short reason that says what is wrong; the path is not in it; nothing else is said of it."""
    task = await Rig(port).open()
    ended = await down(task)
    assert (ended.reason, ended.refused) == (reason, False)
    assert faults == []


async def test_a_port_pulled_while_it_is_being_set_up(
    pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """termios.error is not an OSError: as a crash it would end the daemon at the third."""

    def gone(*_args: object) -> None:
        raise termios.error(errno.EIO, "Input/output error")

    monkeypatch.setattr(termios, "tcflush", gone)
    task = await Rig(pty.name).open()
    assert "hung up" in (await down(task)).reason


async def test_settings_that_a_port_does_not_know(pty: Pty) -> None:
    """Tried again seldom: it is the configuration that must change."""
    task = await Rig(pty.name, bits=9).open()
    ended = await down(task)
    assert "settings" in ended.reason
    assert ended.refused


async def test_a_port_that_does_not_open(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs its own link a deadline, the loop nothing; one that opens later is closed again."""
    release, opened = threading.Event(), threading.Event()
    late: list[Any] = []

    class Stuck(serial.Serial):  # type: ignore[misc]
        def open(self) -> None:
            release.wait(WITHIN_S)
            super().open()
            late.append(self)
            opened.set()

    monkeypatch.setattr(serial, "Serial", Stuck)
    monkeypatch.setattr(port_opening, "OPEN_WITHIN_S", 0.05)
    task = await Rig(pty.name).open()
    assert "does not open" in (await down(task)).reason
    assert not opened.is_set(), "the loop turned meanwhile"
    release.set()
    await until(lambda: late and not late[0].is_open)


@pytest.mark.parametrize("real", [True, False])
async def test_a_port_is_closed_to_programs_that_ask_for_no_lock(
    pty: Pty, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S09: TIOCEXCL while it is open, and not after; never on a PTY, whose maker keeps it open."""
    monkeypatch.setattr(port_opening, "PTYS", "/nowhere" if real else "/dev/pts/")

    def claimed() -> bool:
        return bool(struct.unpack("i", fcntl.ioctl(pty.slave, TIOCGEXCL, bytes(4)))[0])

    rig = Rig(pty.name)
    await rig.open()
    assert claimed() is real
    await rig.close()
    assert not claimed()


async def test_descriptors_beyond_what_select_knows(pty: Pty, faults: list[str]) -> None:
    """With a thousand consoles connected, a port that comes back gets a number above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= 1200
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1030)]
    try:
        rig = Rig(pty.name)
        await rig.open()
        os.write(pty.master, b"#S 4\r\n")
        await until(lambda: rig.envelopes)
        assert await rig.say("HELLO") == ""
        assert b"HELLO" in await pty.heard(b"HELLO\r\n")
        await rig.close()
    finally:
        for each in many:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert faults == []


async def test_a_peer_that_does_not_read(pty: Pty) -> None:
    """S06: bounded in bytes and in time; what it says is still heard; closing does not wait."""
    rig = Rig(pty.name, write_deadline_s=0.2, write_buffer=4096)
    await rig.open()
    pty.fill()
    said = await asyncio.gather(*(rig.say("X" * 900) for _ in range(6)))
    assert sorted(set(said)) == [
        "line does not take it in time",
        "line does not take it: buffer full",
    ]
    assert said.count("line does not take it: buffer full") == 2
    assert rig.meter.total("queue_dropped_total", queue="outbox", reason="full") == 2
    os.write(pty.master, b"#S 0\r\n")
    await until(lambda: [e.message for e in rig.envelopes] == [StatusReport(code=0)])
    pty.fill()
    sending = asyncio.ensure_future(rig.say("X" * 900))
    await asyncio.sleep(0)
    async with asyncio.timeout(3):
        await rig.close()
    assert await sending == "link down"
    again = Rig(pty.name)
    task = await again.open()
    assert not task.done(), "the port was not let go"
    await again.close()


async def test_a_line_that_takes_nothing_does_not_stop_the_loop(pty: Pty) -> None:
    """pyserial tries for ever to write to a line that is exactly full (pyserial#280)."""
    rig = Rig(pty.name, write_deadline_s=0.2)
    await rig.open()
    pty.fill()
    assert await rig.say("HELLO") == "line does not take it in time"
    await rig.close()


async def test_a_line_that_takes_bytes_again_costs_nothing(pty: Pty, faults: list[str]) -> None:
    """What was buffered goes out, in order, and then nobody asks to write any more
    (pyserial-asyncio-fast#36: 42,000 errors in half a second)."""
    rig = Rig(pty.name, write_buffer=65536)
    await rig.open()
    pty.fill()
    sending = asyncio.ensure_future(rig.say("A" * 30_000))
    await asyncio.sleep(0)
    found = await pty.heard(b"A\r\n")
    assert found.strip(b".") == b"\r\n" + b"A" * 30_000 + b"\r\n"
    assert await sending == ""
    for _ in range(20):
        await asyncio.sleep(0)
    assert faults == []
    assert await rig.say("B") == ""
    await pty.heard(b"B\r\n")
    await rig.close()


async def test_what_was_not_sent_in_time_is_never_sent(pty: Pty) -> None:
    """An answer that comes when the line moves again may come to another officer. And the half of
    it that is out ends there: the next answer is no continuation of it."""
    rig = Rig(pty.name, write_deadline_s=0.2, write_buffer=65536)
    await rig.open()
    # The kernel holds about a quarter of it, and may be told to forget that: more can only have
    # come from us.
    assert await rig.say("A" * 60_000) == "line does not take it in time"
    found = pty.read()
    await asyncio.sleep(0.05)
    found += pty.read()
    assert len(found) < 25_000
    assert await rig.say("SECOND") == ""
    found += await pty.heard(b"SECOND\r\n")
    assert found.count(b"A") < 25_000  # also not behind the next answer's back
    *_, half, second, rest = found.split(b"\r\n")
    assert (set(half), second, rest) in ((set(b"A"), b"SECOND", b""), (set(), b"SECOND", b""))
    await rig.close()


async def test_the_first_word_ends_what_was_cut_off_before(pty: Pty) -> None:
    """The radio may still hold half a line of a gateway that was killed."""
    os.write(pty.slave, b"C8A1 1/1 !!WEAP")
    rig = Rig(pty.name)
    await rig.open()
    assert await rig.say("C7F4 1/1 NO TRACE") == ""
    assert await rig.say("HELLO") == ""
    found = await pty.heard(b"HELLO\r\n")
    assert found == b"C8A1 1/1 !!WEAP\r\nC7F4 1/1 NO TRACE\r\nHELLO\r\n"
    await rig.close()


async def test_a_write_that_fails_is_not_sent(pty: Pty, faults: list[str]) -> None:
    """The hang-up is found by the write itself, before any read; and it ends the link."""
    rig = Rig(pty.name)
    task = await rig.open()
    pty.close()
    assert await rig.say("HELLO") == "link down"
    assert "hung up" in (await down(task)).reason
    assert await rig.say("HELLO") == "link down"
    assert faults == []
    assert rig.meter.total("frames_sent_total") == 0


async def test_a_hang_up_while_something_waits_to_be_written(pty: Pty, faults: list[str]) -> None:
    rig = Rig(pty.name)
    task = await rig.open()
    pty.fill()
    sending = asyncio.ensure_future(rig.say("HELLO"))
    await asyncio.sleep(0)
    pty.close()
    assert await sending == "link down"
    assert "hung up" in (await down(task)).reason
    assert faults == []


async def test_closing_waits_neither_for_a_deaf_radio_nor_cuts_the_last_word(
    pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UART that is held off keeps its bytes, and the kernel would wait 30 s for it."""
    flushed: list[int] = []
    waiting = [200, 100, 0]

    def ioctl(descriptor: int, request: int, data: Any = 0) -> Any:
        if request != termios.TIOCOUTQ:
            return real(descriptor, request, data)
        return struct.pack("i", waiting.pop(0) if len(waiting) > 1 else waiting[0])

    real = fcntl.ioctl
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(lines, "DRAIN_WITHIN_S", 0.05)
    rig = Rig(pty.name)
    await rig.open()
    monkeypatch.setattr(termios, "tcflush", lambda _fd, queue: flushed.append(queue))
    await rig.close()
    assert (flushed, waiting) == ([], [0]), "it was going out, and was waited for"
    monkeypatch.undo()
    await rig.open()
    waiting[:] = [200]
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(lines, "DRAIN_WITHIN_S", 0.05)
    monkeypatch.setattr(termios, "tcflush", lambda _fd, queue: flushed.append(queue))
    await rig.close()
    assert flushed == [termios.TCOFLUSH]


async def test_a_flood_of_bad_frames_does_not_stop_the_loop(pty: Pty) -> None:
    """S04: as fast as they go in; in between, the loop turns and another line has its turn. What
    is too much waits unread; the flood and its end are told once each."""
    other = Pty()
    rig, calm = Rig(pty.name), Rig(other.name)
    await rig.open()
    await calm.open()
    os.set_blocking(pty.master, False)
    bad = b"$GPGLL,5234.350,N,00014.586,W,101502,A*00\r\n"
    left = memoryview(bad * 2_000)
    start_s = asyncio.get_running_loop().time()
    turns = 0
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(pty.master, left[:4096]) :]
        turns += 1
        if turns == 100:
            os.write(other.master, b"#S 4\r\n")
        await asyncio.sleep(0)
    await until(lambda: rig.meter.total("frames_rejected_total", reason="crc") == 2_000)
    took_s = asyncio.get_running_loop().time() - start_s
    assert took_s > 0.5, "2,000 frames are more than five windows of 200"
    assert [e.message for e in calm.envelopes] == [StatusReport(code=4)]
    await until(lambda: len(rig.journal.lines) == 2)
    assert [fields["state"] for _, fields in rig.journal.lines] == ["flooding", "calm"]
    assert rig.suspected == [(Suspicion.FLOOD, "line", ISSI)]
    assert calm.suspected == []
    await rig.close()
    await calm.close()
    other.close()


async def test_a_line_without_an_end_is_bounded(pty: Pty) -> None:
    """S05: 200,000 bytes without a line end; then the line is found again."""
    rig = Rig(pty.name)
    await rig.open()
    os.set_blocking(pty.master, False)
    left = memoryview(b"A" * 200_000 + b"\r\n#S 4\r\n")
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(pty.master, left[:4096]) :]
        await asyncio.sleep(0)
    await until(lambda: rig.envelopes)
    assert [e.message for e in rig.envelopes] == [StatusReport(code=4)]
    assert rig.meter.total("frames_rejected_total", reason="length") == 1
    await rig.close()


async def test_a_codec_or_desk_that_raises_costs_its_slice_alone(pty: Pty) -> None:
    rig = Rig(pty.name)
    rig.envelopes = _Raising()
    await rig.open()
    os.write(pty.master, b"#S 3\r\n")
    await until(lambda: rig.meter.total("frames_rejected_total", reason="decode"))
    os.write(pty.master, b"#S 4\r\n")
    await until(lambda: rig.envelopes)
    assert [e.message for e in rig.envelopes] == [StatusReport(code=4)]
    await rig.close()


class _Raising(list[Envelope]):
    def append(self, envelope: Envelope) -> None:
        if envelope.message == StatusReport(code=3):
            raise RuntimeError
        super().append(envelope)


async def test_noise_is_not_heard(pty: Pty) -> None:
    """A device at another speed sends bytes, and says nothing: shown as silent. A receiver without
    a fix says something."""
    rig = Rig(pty.name)
    await rig.open()
    os.write(pty.master, b"$GPGLL,5234.350,N,00014.586,W,101502,A*00\r\n\x80\x81\r\n")
    await until(lambda: rig.meter.total("frames_rejected_total") == 2)
    assert rig.link.heard_at_s is None
    os.write(pty.master, b"$GPRMC,,V,,,,,,,,,,N*53\r\n")
    await until(lambda: rig.link.heard_at_s is not None)
    assert rig.meter.total("fixes_rejected_total", reason="void") == 1
    await rig.close()


async def test_out_of_a_noisy_line_comes_nothing_whose_checksum_is_wrong(pty: Pty) -> None:
    """S03: one bit in a thousand turned over, as many false as true; judged by a reader of our own.
    Whatever was left alone behind a line end that was left alone is found again."""
    chance = random.Random(20261127)
    clocks = [f"10{n // 60:02}{n % 60:02}" for n in range(1000)]
    sent = [
        sentence(f"GPGLL,5234.{n:04},N,00014.5860,W,{clock},A") for n, clock in enumerate(clocks)
    ]
    noisy = bytearray("".join(f"{each}\r\n" for each in sent).encode())
    turned = [n for n in range(8 * len(noisy)) if chance.random() < 1e-3]
    for bit in turned:
        noisy[bit // 8] ^= 1 << bit % 8
    true, whole, place = [], [], 0
    touched = {bit // 8 for bit in turned}
    for each in sent:
        end = place + len(each) + 2
        if not touched & set(range(max(0, place - 2), end)):
            whole.append(float(each[9:16]))
        place = end
    for found in re.findall(rb"\$([^$*\r\n]*)\*([0-9A-Fa-f]{2})", bytes(noisy)):
        body, said = found
        if reduce(xor, body, 0) == int(said, 16):
            true.append(body)
    rig = Rig(pty.name)
    await rig.open()
    os.set_blocking(pty.master, False)
    left = memoryview(bytes(noisy) + b"#S 4\r\n")
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(pty.master, left[:4096]) :]
        await asyncio.sleep(0)
    await until(lambda: [e for e in rig.envelopes if isinstance(e.message, StatusReport)])
    fixes = [e.message.lat for e in rig.envelopes if isinstance(e.message, LocationFix)]
    assert 300 < len(whole) < len(fixes) + 1 <= len(true) + 1 < 1000
    heard = {round((lat - 52) * 60, 4) for lat in fixes}
    assert set(whole) <= heard
    assert rig.meter.total("frames_rejected_total", reason="crc") > 100
    await rig.close()


async def test_a_receiver_has_no_screen(pty: Pty) -> None:
    """Otherwise a car's GPS, heard each second, would draw the answers of the handset away from
    it, and they would count as sent."""
    rig = Rig(pty.name, codec="nmea0183")
    await rig.open()
    assert not rig.link.reaches(ISSI)
    await rig.close()


async def test_what_a_tracker_calls_itself_does_not_decide_who_speaks(pty: Pty) -> None:
    """Neither the identity in front of a sentence nor one that is another terminal's."""
    rig = Rig(pty.name, codec="t55")
    await rig.open()
    assert not rig.link.reaches(ISSI)
    for front in (b"", b"5001002", b"IMEI 990000862471854 ", b"5001002\r\n"):
        os.write(pty.master, front + b"$TRCCR,20261122101502.000,A,52.572500,-0.243100,2.40,90.00,")
        os.write(pty.master, b"12.00,50,*2A\r\n")
    await until(lambda: len(rig.envelopes) == 4)
    assert {each.terminal for each in rig.envelopes} == {ISSI}
    assert all(isinstance(each.message, LocationFix) for each in rig.envelopes)
    await rig.close()


@pytest.mark.parametrize("clock", ["000001", "101502", "235959"])
async def test_an_old_log_is_judged_against_its_day(pty: Pty, clock: str) -> None:
    """reference_date, whatever the time is now: fixes without a date (GGA) are of that day, and
    what they are judged against is its end, so that none of them is in the future."""
    rig = Rig(pty.name, reference_date="2019-04-06")
    await rig.open()
    body = f"GPGGA,{clock},5234.350,N,00014.586,W,1,08,0.9,12.0,M,47.0,M,,".encode()
    check = 0
    for byte in body:
        check ^= byte
    os.write(pty.master, b"$%s*%02X\r\n" % (body, check))
    await until(lambda: rig.envelopes)
    envelope = rig.envelopes[0]
    assert isinstance(envelope.message, LocationFix)
    midnight_ms = 1_554_508_800_000
    seconds = int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:])
    assert envelope.message.fixed_at_ms == midnight_ms + seconds * 1000
    assert envelope.reference_ms == midnight_ms + 86_400_000 - 1
    assert envelope.reference_ms != envelope.received_at_ms
    await rig.close()


async def test_dead_reckoning_only_where_the_line_allows_it(pty: Pty) -> None:
    """Mode E (estimated) is rejected, unless accept_estimated; then it is flagged."""
    sentence = b"$GPRMC,101502,A,5234.350,N,00014.586,W,002.4,090.0,221126,,,E*62\r\n"
    for accept in (False, True):
        rig = Rig(pty.name, accept_estimated=accept, reference_date="2026-11-22")
        await rig.open()
        os.write(pty.master, sentence)
        await until(lambda: rig.envelopes or rig.meter.total("fixes_rejected_total"))  # noqa: B023
        fixes = [e.message for e in rig.envelopes]
        assert [isinstance(fix, LocationFix) and fix.estimated for fix in fixes] == [True] * accept
        await rig.close()


@contextlib.asynccontextmanager
async def device_server(**options: Any) -> AsyncIterator[tuple[Rig, socket.socket]]:
    """A link to `socket://host:port`, up, and the device server's side of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        # As small as the kernel lets it be, so that it is soon full.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        rig = Rig(f"socket://127.0.0.1:{server.getsockname()[1]}", **options)
        opening = asyncio.ensure_future(rig.open())
        taken, _ = await asyncio.to_thread(server.accept)
        taken.settimeout(5)
        await opening
        with taken:
            yield rig, taken
        await rig.close()


async def test_over_tcp(faults: list[str]) -> None:
    """socket://host:port: heard, answered, and down when the connection ends."""
    async with device_server() as (rig, far):
        far.sendall(b"#S 4\r\n")
        await until(lambda: rig.envelopes)
        assert await rig.say("HELLO") == ""
        assert await asyncio.to_thread(far.recv, 100) == b"\r\nHELLO\r\n"
        far.close()
        assert "hung up" in (await down(rig.task)).reason
    assert faults == []


async def test_a_device_server_that_does_not_read(faults: list[str]) -> None:
    """What a connection took cannot be taken back: it ends, and the far side does not read later
    what was meant for now."""
    async with device_server(write_deadline_s=0.2) as (rig, far):
        said = ""
        async with asyncio.timeout(WITHIN_S):
            while not said:
                said = await rig.say("X" * 900)
        assert said == "line does not take it in time"
        assert "does not take what is sent" in (await down(rig.task)).reason

        def read_all() -> None:
            while far.recv(65536):
                pass

        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(read_all)
    assert faults == []


async def test_a_device_server_that_ends_while_something_waits(faults: list[str]) -> None:
    """It closes its sending half and reads nothing: that is the end, whatever still waits."""
    async with device_server(write_deadline_s=5.0) as (rig, far):

        async def say_on() -> str:
            while not (said := await rig.say("X" * 900)):
                pass
            return said

        saying = asyncio.ensure_future(say_on())
        line = rig.link._line
        assert line is not None
        await until(lambda: line._transport.get_write_buffer_size())
        far.shutdown(socket.SHUT_WR)
        assert "hung up" in (await down(rig.task)).reason
        assert await saying == "link down"
    assert faults == []


async def test_a_path_that_is_there_again_is_seen(tmp_path: Path) -> None:
    """S01, S02: by the stable path alone, under whatever name the device came back; once."""
    stable = tmp_path / "by-id"
    stable.symlink_to(tmp_path / "gone")
    rig = Rig(str(stable))
    await down(await rig.open())
    assert [rig.link.returned() for _ in range(2)] == [False, False]
    pty = Pty()
    stable.unlink()
    stable.symlink_to(pty.name)
    assert [rig.link.returned() for _ in range(2)] == [True, False]
    assert isinstance(rig.link, Returns)
    assert not Rig("socket://127.0.0.1:1").link.returned()
    pty.close()


async def test_kept_by_the_supervisor_it_comes_back(tmp_path: Path) -> None:
    """Down and up again are told, with jittered back-off in between; the same link object."""
    stable = tmp_path / "by-id"
    first = Pty()
    stable.symlink_to(first.name)
    rig = Rig(str(stable))
    seen: list[tuple[LinkState, str]] = []

    async def run(up: Callable[[], None]) -> None:
        await rig.link.run(rig.envelopes.append, up)

    keeping = asyncio.ensure_future(
        keep(
            run,
            name="line",
            clock=SystemClock(),
            ids=SystemIds(),
            journal=FakeJournal(),
            meter=FakeMeter(),
            seen=lambda state, reason: seen.append((state, reason)),
        )
    )
    await until(lambda: seen)
    stable.unlink()
    first.close()
    await until(lambda: (LinkState.DOWN, "hung up") in seen)
    await until(lambda: (LinkState.DOWN, "no such port") in seen)
    second = Pty()
    stable.symlink_to(second.name)
    await until(lambda: seen[-1][0] is LinkState.UP)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    second.close()
