"""A radio on a real PTY against a scripted far end: what is said, heard, lost and found again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.handset import SENT_WITHIN_S, Reading
from simulators.lines import DeviceLine, PtyLine
from simulators.patrol import Patrol
from simulators.pty_radio import OUT_MOST, PtyRadio
from simulators.radio import BEAT_S, BadEnquiry
from tests.fakes import FakeClock

WITHIN_S = 5.0


class FarEnd:
    """The gateway's side of the line, by hand: raw bytes over the slave's path."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._data = b""

    def close(self) -> None:
        os.close(self._descriptor)

    def say(self, line: str) -> None:
        os.write(self._descriptor, line.encode("ascii") + b"\r\n")

    async def line(self) -> str:
        """The next whole line, within a deadline. OSError: the line hung up."""
        async with asyncio.timeout(WITHIN_S):
            while b"\n" not in self._data:
                with contextlib.suppress(BlockingIOError):
                    data = os.read(self._descriptor, 4096)
                    if not data:
                        raise OSError("hung up")
                    self._data += data
                    continue
                await asyncio.sleep(0.001)
        line, _, self._data = self._data.partition(b"\n")
        return line.decode("ascii").rstrip("\r")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def radio(tmp_path: Path, clock: FakeClock) -> AsyncIterator[PtyRadio]:
    radio = PtyRadio(
        issi="5001001", callsign="E-101", line=PtyLine(tmp_path / "E-101"), clock=clock, think_s=2.0
    )
    task = asyncio.create_task(radio.run())
    async with asyncio.timeout(WITHIN_S):
        while not radio.plugged:  # noqa: ASYNC110 - the radio has no event for it
            await asyncio.sleep(0)
    yield radio
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_question_sent_answer_read(radio: PtyRadio, clock: FakeClock, tmp_path: Path) -> None:
    """A check over the line: asked with a `Q`, SENT, two parts, each delivered, then read."""
    far = FarEnd(tmp_path / "E-101")
    exchange = radio.ask("v te99 abc r1")
    assert await far.line() == "V TE99 ABC R1 Q1"
    far.say("Q1 SENT C7F3")
    assert await radio.until(lambda: exchange.receipt_at_s is not None, WITHIN_S)
    far.say("Q1 C7F3 1/2 !!STOLEN TE99ABC CONFIRMED.")
    assert await far.line() == "#A C7F3 1 D"
    far.say("Q1 C7F3 2/2 FORD FIESTA BLUE")
    assert await far.line() == "#A C7F3 2 D"
    assert exchange.reading is Reading.ANSWERED
    assert exchange.text() == ["!!STOLEN TE99ABC CONFIRMED.", "FORD FIESTA BLUE"]
    await clock.advance(2.0 + 2 * BEAT_S)
    assert [await far.line(), await far.line()] == ["#A C7F3 1 R", "#A C7F3 2 R"]
    far.close()


async def test_no_sent_within_the_deadline_is_voice(radio: PtyRadio, clock: FakeClock) -> None:
    """Five seconds without SENT: the officer uses voice; not a moment earlier, and asks no more."""
    exchange = radio.ask("V TE99ABC R1")
    await clock.advance(SENT_WITHIN_S - BEAT_S)
    assert not exchange.voice
    await clock.advance(2 * BEAT_S)
    assert exchange.voice
    assert exchange.resends == 0


async def test_two_questions_keep_their_answers(radio: PtyRadio, tmp_path: Path) -> None:
    """Answers in the other order are told apart by the client reference."""
    far = FarEnd(tmp_path / "E-101")
    first, second = radio.ask("V TE99ABC R1"), radio.ask("V TE99AAA R1")
    assert [await far.line(), await far.line()] == ["V TE99ABC R1 Q1", "V TE99AAA R1 Q2"]
    far.say("Q2 C7F4 1/1 NO TRACE TE99AAA")
    far.say("Q1 C7F3 1/1 ??NO ANSWER - PNC NO REPLY. TREAT AS UNKNOWN")
    assert await radio.until(lambda: not first.open and not second.open, WITHIN_S)
    assert (first.reading, second.reading) == (Reading.NO_ANSWER, Reading.ANSWERED)
    far.close()


async def test_emergency_and_status(radio: PtyRadio, tmp_path: Path) -> None:
    """The orange button is status 0 on the line."""
    far = FarEnd(tmp_path / "E-101")
    radio.emergency()
    radio.status(7)
    assert [await far.line(), await far.line()] == ["#S 0", "#S 7"]
    far.close()


async def test_unplug_hangs_up_and_plug_comes_back_at_the_same_path(
    radio: PtyRadio, tmp_path: Path
) -> None:
    """Pulled out: the far end sees a hang-up, the path is gone, what is said is counted as lost.
    Put back: another PTY, the same path, and the conversation goes on."""
    link = tmp_path / "E-101"
    far, before = FarEnd(link), os.readlink(link)
    radio.unplug()
    assert not link.is_symlink()
    with pytest.raises(OSError, match=r"hung up|Input/output"):
        await far.line()
    far.close()
    lost = radio.lost
    exchange = radio.ask("V TE99ABC R1")
    assert radio.lost == lost + 1
    there = os.path.exists(before)  # noqa: ASYNC240
    keep = os.open(before, os.O_RDWR | os.O_NOCTTY) if there else -1
    radio.plug()
    far = FarEnd(link)
    far.say("Q1 C7F3 1/1 NO TRACE")
    assert await far.line() == "#A C7F3 1 D"
    assert not exchange.open
    far.close()
    if keep >= 0:
        os.close(keep)


async def test_far_end_may_close_and_open_again(radio: PtyRadio, tmp_path: Path) -> None:
    """A gateway that restarts finds the same line; the radio notices nothing."""
    for _ in range(3):
        far = FarEnd(tmp_path / "E-101")
        radio.status(1)
        assert await far.line() == "#S 1"
        far.close()
    assert radio.plugged


async def test_nobody_reads_costs_messages_not_memory(radio: PtyRadio, tmp_path: Path) -> None:
    """With a full line the radio drops what it cannot say, counts it, and goes on when read."""
    for _ in range(20_000):
        radio.status(65535)
    assert radio.lost > 0
    assert radio._end.waiting <= OUT_MOST
    far = FarEnd(tmp_path / "E-101")
    for _ in range(2000):
        assert await far.line() == "#S 65535"
    far.close()


async def test_fixes_are_sentences_at_the_interval(tmp_path: Path, clock: FakeClock) -> None:
    """One RMC sentence a second, with a right checksum, from where the patrol is."""
    radio = PtyRadio(
        issi="5001001",
        callsign="E-101",
        line=PtyLine(tmp_path / "E-101"),
        clock=clock,
        patrol=Patrol(1, "Eastern"),
    )
    radio.plug()
    far = FarEnd(tmp_path / "E-101")
    task = asyncio.create_task(radio.run())
    await clock.advance(2.5)
    for _ in range(3):
        sentence = await far.line()
        found = re.fullmatch(r"\$(GPRMC,.*)\*([0-9A-F]{2})", sentence)
        assert found is not None
        total = 0
        for byte in found.group(1).encode("ascii"):
            total ^= byte
        assert f"{total:02X}" == found.group(2)
        assert found.group(1).split(",")[2] == "A"
    assert radio.fixes_sent == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    far.close()


async def test_end_leaves_no_pty_and_no_link(tmp_path: Path, clock: FakeClock) -> None:
    """A radio that ends closes both sides of its line and takes its path away."""
    before = set(os.listdir("/proc/self/fd"))
    radio = PtyRadio(
        issi="5001001", callsign="E-101", line=PtyLine(tmp_path / "E-101"), clock=clock
    )
    radio.plug()
    task = asyncio.create_task(radio.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_what_is_no_enquiry_is_not_sent(radio: PtyRadio) -> None:
    """The officer is told at once what is missing; the reason is mandatory."""
    with pytest.raises(BadEnquiry, match="GIVE REASON"):
        radio.ask("V TE99ABC")
    assert len(radio.handset.exchanges) == 0


def test_device_line_speaks_over_a_device(tmp_path: Path) -> None:
    """The other end of an existing line is opened raw, and let go."""
    master, slave = os.openpty()
    tty.setraw(master)
    line = DeviceLine(Path(os.ttyname(slave)), 115200)
    descriptor = line.open()
    os.write(descriptor, b"E\r\n")
    assert os.read(master, 10) == b"E\r\n"
    line.close()
    os.close(master)
    os.close(slave)
    with pytest.raises(ValueError, match="baud"):
        DeviceLine(tmp_path, 1)
    plain = tmp_path / "file"
    plain.touch()
    with pytest.raises(OSError, match="not a serial line"):
        DeviceLine(plain).open()
