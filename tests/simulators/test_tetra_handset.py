"""Officers' handsets behind one radio on a real PTY, against a gateway played by hand."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators import tetra_air as air
from simulators.handset import Reading
from simulators.lines import PtyLine
from simulators.patrol import Patrol
from simulators.radio import BEAT_S
from simulators.terminal import terminal
from simulators.tetra_air import Report, Sdu, Status, Text
from simulators.tetra_cell import Air
from simulators.tetra_handset import TetraHandset
from simulators.tetra_mobile import Mobile
from simulators.tetra_pei import SEPURA_LIKE
from simulators.tetra_radio import BEAT_S as RADIO_BEAT_S
from simulators.tetra_radio import TetraRadio
from tests.fakes import FakeClock

WITHIN_S = 5.0


class FarEnd:
    """The gateway's side, by hand: echo off, registered, then messages both ways."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.text = ""

    def close(self) -> None:
        os.close(self._descriptor)

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def until(self, pattern: str) -> re.Match[str]:
        """The first match in what was read and not yet taken, within a deadline."""
        async with asyncio.timeout(WITHIN_S):
            while not (found := re.search(pattern, self.text)):
                with contextlib.suppress(BlockingIOError):
                    data = os.read(self._descriptor, 4096)
                    if not data:
                        raise OSError("hung up")
                    self.text += data.decode("latin-1")
                    continue
                await asyncio.sleep(0.001)
        self.text = self.text[found.end() :]
        return found

    async def begin(self) -> None:
        self.write("ATE0\r\n")
        await self.until("OK\r\n")
        for command in (
            "+CMEE=1",
            "+CTSP=1,3,130",
            "+CTSP=1,3,2",
            "+CTSP=1,3,137",
            "+CTSP=1,3,10",
            "+CTSP=1,2,20",
        ):
            self.write(f"AT{command}\r\n")
            await self.until("OK\r\n")
        await self.send_as(12)

    async def send_as(self, service: int) -> None:
        self.write(f"AT+CTSDS={service},0\r\n")
        await self.until("OK\r\n")

    async def send(self, issi: str, sdu: Sdu) -> str:
        """One message; what the air said of it: 4 or 5."""
        self.write(f"AT+CMGS={issi},{sdu.bits}\r\n{sdu.data.hex().upper()}\x1a")
        return (await self.until(r"\+CMGS: \d+,([45]),\d+\r\n"))[1]

    async def heard(self) -> tuple[str, air.Heard]:
        """The next message from the air: whose, and what."""
        found = await self.until(
            r"\+CTSDSR: ?(\d+),(\d+),0,6000001,0,(\d+)(?:,0)?\r\n([0-9A-F]+)\r\n"
        )
        digits = found[4] + "0" * (len(found[4]) % 2)
        return found[2], air.read(Sdu(int(found[1]), bytes.fromhex(digits), int(found[3])))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def base(tmp_path: Path, clock: FakeClock) -> AsyncIterator[TetraRadio]:
    base = TetraRadio(name="R-1", line=PtyLine(tmp_path / "R-1"), clock=clock)
    base.plug()
    yield base
    base.close()


@pytest.fixture
async def far(base: TetraRadio, tmp_path: Path) -> AsyncIterator[FarEnd]:
    far = FarEnd(tmp_path / "R-1")
    await far.begin()
    yield far
    far.close()


def handset(
    base: TetraRadio, clock: FakeClock, issi: str = "5001001", **more: object
) -> TetraHandset:
    return TetraHandset(issi=issi, callsign=issi, base=base, clock=clock, **more)  # type: ignore[arg-type]


async def test_question_sent_answer_read(base: TetraRadio, clock: FakeClock, far: FarEnd) -> None:
    """Typed with a `Q`, SENT, an answer with a danger word: reported as it came, then as read."""
    radio = handset(base, clock, think_s=2.0)
    living = asyncio.create_task(radio.run())
    exchange = radio.ask("v te99 abc r1")
    assert await far.heard() == ("5001001", Text(0x82, "V TE99 ABC R1 Q1", 1, 0))
    assert await far.send("5001001", air.text("Q1 SENT C7F3", 1)) == "4"
    assert exchange.receipt_at_s is not None
    first = air.text("Q1 C7F3 1/2 !!STOLEN TE99ABC CONFIRMED.", 2, pid=air.IMMEDIATE, request=3)
    await far.send("5001001", first)
    assert await far.heard() == ("5001001", Report(air.RECEIVED, 2, 0x89))
    await far.send("5001001", air.text("Q1 C7F3 2/2 FORD FIESTA BLUE", 3, request=1))
    assert await far.heard() == ("5001001", Report(air.RECEIVED, 3, 0x82))
    assert exchange.reading is Reading.ANSWERED
    assert exchange.text() == ["!!STOLEN TE99ABC CONFIRMED.", "FORD FIESTA BLUE"]
    await clock.advance(2.0 + 2 * BEAT_S)
    assert await far.heard() == ("5001001", Report(air.CONSUMED, 2, 0x89))
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)


async def test_several_officers_on_one_line(
    base: TetraRadio, clock: FakeClock, far: FarEnd
) -> None:
    """Who asks is who the network says; an answer reaches the one whom it is addressed to."""
    one, two = handset(base, clock), handset(base, clock, "5001005", mobile=Mobile(simple=True))
    first, second = one.ask("V TE99ABC R1"), two.ask("V TE99AAA R1")
    assert await far.heard() == ("5001001", Text(0x82, "V TE99ABC R1 Q1", 1, 0))
    assert await far.heard() == ("5001005", Text(0x02, "V TE99AAA R1 Q1"))
    await far.send("5001005", air.text("Q1 XX BUSY RETRY", 1))
    await far.send("5001001", air.text("Q1 C7F3 1/1 NO REPORTS", 1))
    assert (first.reading, second.reading) == (Reading.ANSWERED, Reading.REFUSED)
    assert not one.handset.unmatched + two.handset.unmatched


async def test_statuses_positions_and_the_orange_button(
    base: TetraRadio, clock: FakeClock, far: FarEnd
) -> None:
    radio = handset(base, clock, patrol=Patrol(1, "Eastern"), alarm="both", fix_every_s=1.0)
    living = asyncio.create_task(radio.run())
    await clock.advance(0.0)
    found = await far.until(r"\+CTSDSR: 12,5001001,0,6000001,0,84\r\n(0A[0-9A-F]{20})\r\n")
    assert bytes.fromhex(found[1])[-1] == air.BY_INTERVAL << 4 & 0xFF
    radio.status(15)
    assert await far.heard() == ("5001001", Status(0x800F))
    radio.emergency()
    assert await far.heard() == ("5001001", Status(0))
    found = await far.until(r"\+CTSDSR: 12,5001001,0,6000001,0,84\r\n(0A[0-9A-F]{20})\r\n")
    assert bytes.fromhex(found[1])[-1] == air.EMERGENCY_REASON << 4
    await far.send("5001001", air.whole(air.SDS_4, bytes.fromhex("0A4580")))
    found = await far.until(r"\+CTSDSR: 12,5001001,0,6000001,0,84\r\n(0A[0-9A-F]{20})\r\n")
    assert int(found[1], 16) >> 4 & 0xFF == air.ON_DEMAND
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)


async def test_out_of_reach_is_lost_and_known(
    base: TetraRadio, clock: FakeClock, far: FarEnd
) -> None:
    radio = handset(base, clock)
    radio.unplug()
    assert not radio.plugged
    radio.ask("V TE99ABC R1")
    assert radio.lost == 1
    assert await far.send("5001001", air.text("HELLO", 1)) == "5"
    radio.plug()
    assert await far.send("5001001", air.text("HELLO", 1)) == "4"
    assert [each.text for each in radio.screen] == ["HELLO"]


async def test_the_cable_is_pulled_and_put_back(
    base: TetraRadio, clock: FakeClock, far: FarEnd, tmp_path: Path
) -> None:
    """The far end sees a hang-up; what came meanwhile is lost; registrations are still there."""
    radio = handset(base, clock)
    base.unplug()
    with pytest.raises(OSError, match=r"hung up|Input/output"):
        await far.until("never")
    radio.ask("V TE99ABC R1")
    assert base.lost > 0
    base.plug()
    again = FarEnd(tmp_path / "R-1")
    radio.ask("V TE99AAA R1")
    assert await again.heard() == ("5001001", Text(0x82, "V TE99AAA R1 Q2", 2, 0))
    again.write("AT+CTSP=1,3,130\r\n")
    await again.until(r"\+CME ERROR: 38")
    again.close()


async def test_a_reboot_is_heard_on_the_line(clock: FakeClock, tmp_path: Path) -> None:
    base = TetraRadio(
        name="R-2",
        line=PtyLine(tmp_path / "R-2"),
        clock=clock,
        habits=SEPURA_LIKE,
        air=Air(delay_s=(1.0, 1.0)),
    )
    base.plug()
    far = FarEnd(tmp_path / "R-2")
    await far.until(r"CME ERROR: 35\r\n\r\n\+CME ERROR: 35\r\n")
    radio = handset(base, clock)
    base.reboot()
    radio.ask("V TE99ABC R1")
    await clock.advance(SEPURA_LIKE.boot_s + RADIO_BEAT_S)
    await far.until(r"CME ERROR: 35\r\n\r\n\+CME ERROR: 35\r\n\r\n\+CREG:1\r\n")
    assert base.pei.counts["deaf"] == 1
    assert not base.pei.registered
    far.close()
    base.close()


async def test_be_one_officer_on_a_handset(tmp_path: Path) -> None:
    """`terminal --bearer tetra`: the gateway finds a radio at the port, the officer behind it. What
    is typed before it has registered is lost, and said again."""
    path, out = tmp_path / "R-3", io.StringIO()
    being = asyncio.create_task(
        terminal(
            issi="5001001",
            bearer="tetra",
            port=str(path),
            air="still",
            script=script(tmp_path, "sleep 0.5", "V TE99AAA R1", "wait"),
            wait_s=WITHIN_S,
            out=out,
            err=io.StringIO(),
        )
    )
    async with asyncio.timeout(WITHIN_S):
        while not path.is_symlink():  # noqa: ASYNC110 - the radio has no event for it
            await asyncio.sleep(0.001)
    far = FarEnd(path)
    await far.begin()
    issi, asked = await far.heard()
    assert isinstance(asked, Text)
    assert (issi, asked.text) == ("5001001", "V TE99AAA R1 Q1")
    await far.send("5001001", air.text("Q1 C7F3 1/1 NO REPORTS TE99AAA", 1, request=1))
    assert await being == 0
    assert "NO REPORTS TE99AAA" in " ".join(out.getvalue().split())
    far.close()


def script(folder: Path, *lines: str) -> Path:
    path = folder / "script.txt"
    path.write_text("\n".join(lines), "utf-8")
    return path
