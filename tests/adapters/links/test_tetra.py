"""The link to a TETRA radio on a real PTY, before the simulated radio and its handsets.

The messages' own codec has its own tests; here a short one stands for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.links.tetra import TetraLink
from gateway.app import SystemClock
from gateway.errors import LinkDown, SendFailed
from gateway.messages import (
    Bearer,
    Decoded,
    Downlink,
    EchoTest,
    Envelope,
    Frame,
    HelpRequest,
    Message,
    Notice,
    Outcome,
    Receipt,
    Result,
    StatusReport,
    Suspicion,
)
from gateway.ports import Returns
from gateway.settings import TetraSection
from simulators.clock import RealClock
from simulators.lines import PtyLine
from simulators.tetra_air import STATUS, Sdu
from simulators.tetra_cell import Air
from simulators.tetra_pei import PLAIN, Habits
from simulators.tetra_radio import TetraRadio
from tests.fakes import FakeJournal, FakeMeter

NORA, OTTO, STRANGER = 5_001_001, 5_001_002, 5_009_999
WITHIN_S = 20.0


class Short:
    """One party's codec: statuses, and text as it is. Owes a report for what asks for one."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._owed: list[Frame] = []
        self.lapses_at_ms: int | None = None

    def lapse(self, now_ms: int) -> Sequence[Decoded]:
        del now_ms
        self.lapses_at_ms = None
        return [HelpRequest()]

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        if channel == "status":
            return [StatusReport(code=int.from_bytes(data, "big"))]
        if data[1] == 0xFF:
            raise ValueError
        if data[0] == 0x8A:
            self.lapses_at_ms = 0
            return []
        if data[0] == 0x82 and data[1] & 4:
            self._owed.append(Frame(data=bytes((0x82, 0x10, 0, data[2])), channel="sds4"))
        return [EchoTest(text=data[4:].decode())]

    def encode(self, message: Message) -> Sequence[Frame]:
        match message:
            case Notice():
                texts: Sequence[str] = message.texts or (message.text,)
            case Result():
                texts = message.texts
            case _:
                texts = (type(message).__name__,)
        return [Frame(data=b"\x82\x00\x01\x01" + text.encode(), channel="sds4") for text in texts]

    def replies(self) -> Sequence[Frame]:
        owed, self._owed = self._owed, []
        return owed


class Rig:
    def __init__(self, folder: Path, habits: Habits = PLAIN, **options: Any) -> None:
        self.radio = TetraRadio(
            name="t", line=PtyLine(folder / "radio"), clock=RealClock(), habits=habits
        )
        self.radio.plug()
        self.heard: dict[int, list[bytes]] = {NORA: [], OTTO: [], STRANGER: []}
        for ssi, list_ in self.heard.items():
            self.radio.attach(ssi, lambda sdu, to=list_: to.append(sdu.data))  # type: ignore[misc]
        self.meter, self.journal = FakeMeter(), FakeJournal()
        self.envelopes: list[Envelope] = []
        self.tapped: list[tuple[str, bytes]] = []
        self.suspected: list[tuple[Suspicion, str, str]] = []
        self.settles = True
        self.up = asyncio.Event()
        self.link = TetraLink(
            TetraSection(name="tetra", port=str(folder / "radio"), **options),
            instance="gwt",
            config_path=Path("/x"),
            clock=SystemClock(),
            meter=self.meter,
            journal=self.journal,
            known=lambda issi: issi in (str(NORA), str(OTTO)),
            codecs=lambda name, **options: Short(name=name, **options),
            suspect=lambda *what: self.suspected.append(what),
            tap=lambda *what: self.tapped.append(what),
        )
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.up.clear()
        self.task = asyncio.ensure_future(self.link.run(self.handle, self.up.set))
        await self.until(self.up.is_set)

    def handle(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        if self.settles:
            envelope.settle()

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.radio.close()

    async def until(self, ready: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not ready():
                assert self.task is not None
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)

    async def down(self) -> str:
        assert self.task is not None
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown) as caught:
                await self.task
        return caught.value.reason

    def say(
        self, message: Downlink, ssi: int = NORA, deadline_s: float = 10.0
    ) -> asyncio.Future[None]:
        return asyncio.ensure_future(
            self.link.send(str(ssi), message, expires_in_s=60, deadline_s=deadline_s)
        )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.open()
    yield rig
    await rig.close()


async def test_who_calls_is_who_the_network_says(rig: Rig) -> None:
    """Two handsets behind one port; a stranger is refused and told of."""
    rig.radio.transmit(NORA, Sdu(STATUS, b"\x80\x04", 16))
    rig.radio.transmit(OTTO, Sdu(12, b"\x02\x01\x00\x01I AM 5001001", 128))
    rig.radio.transmit(STRANGER, Sdu(STATUS, b"\x00\x00", 16))
    await rig.until(lambda: len(rig.envelopes) == 2 and rig.suspected)
    first, second = rig.envelopes
    assert (first.terminal, first.message) == (str(NORA), StatusReport(code=0x8004))
    assert (second.terminal, second.message) == (str(OTTO), EchoTest(text="I AM 5001001"))
    assert first.bearer is Bearer.TETRA
    assert rig.suspected == [(Suspicion.UNKNOWN_TERMINAL, "tetra", str(STRANGER))]
    assert rig.meter.total("frames_rejected_total", reason="unknown_terminal") == 1


async def test_sent_is_what_the_radio_sent(rig: Rig) -> None:
    assert rig.link.reaches(str(NORA))
    assert not rig.link.reaches(str(STRANGER))
    await rig.say(Notice(kind="echo", text="A", texts=("ONE", "TWO")))
    await rig.until(lambda: len(rig.heard[NORA]) == 2)
    assert [data[4:] for data in rig.heard[NORA]] == [b"ONE", b"TWO"]
    assert rig.meter.total("frames_sent_total", link="tetra", type="notice") == 2
    rig.radio.cell.cover(NORA, False)
    with pytest.raises(SendFailed):
        await rig.say(Notice(kind="echo", text="A"))
    with pytest.raises(SendFailed):
        await rig.say(Notice(kind="echo", text="A"), ssi=STRANGER)


def answer(*texts: str, danger: tuple[str, ...] = ()) -> Result:
    return Result(
        ref="",
        check="C1",
        short="C001",
        outcome=Outcome.ANSWERED,
        result_class="",
        danger=danger,
        pages=(),
        texts=texts,
        fields={},
        not_checked=(),
        as_of_ms=0,
        level="L3",
        receipt="",
    )


async def test_what_waits_for_the_air_goes_danger_first_then_who_was_not_told(rig: Rig) -> None:
    """A receipt never waits behind other officers' answers, however many there are; nor do danger
    words, or a receipt, behind what of another answer holds none."""
    rig.radio.cell.air = Air(delay_s=(0.2, 0.2))
    said = [rig.say(Notice(kind="late", text="FIRST"))]
    await rig.until(lambda: rig.radio.pei.on_air)
    said += [
        rig.say(Notice(kind="late", text="NOTICE")),
        rig.say(answer("ANSWER"), OTTO),
        rig.say(Receipt(ref="", check="C2", short="C002", accepted=True)),
        rig.say(answer("DANGER", "THE REST", danger=("WEAPONS",)), OTTO),
    ]
    order: list[str] = []
    for issi in (NORA, OTTO):
        rig.radio.attach(issi, lambda sdu: order.append(sdu.data[4:].decode()))
    await asyncio.gather(*said)
    await rig.until(lambda: len(order) == 6)
    assert order == ["FIRST", "DANGER", "Receipt", "ANSWER", "THE REST", "NOTICE"]


async def test_a_report_that_is_due_goes_to_whoever_asked(rig: Rig) -> None:
    rig.radio.transmit(NORA, Sdu(12, b"\x82\x04\x2a\x01X", 40))
    await rig.until(lambda: rig.heard[NORA])
    assert rig.heard[NORA] == [b"\x82\x10\x00\x2a"]


async def test_a_report_waits_until_what_it_reports_is_on_record(rig: Rig) -> None:
    rig.settles = False
    rig.radio.transmit(NORA, Sdu(12, b"\x82\x04\x2a\x01X", 40))
    await rig.until(lambda: rig.envelopes)
    rig.radio.transmit(NORA, Sdu(STATUS, b"\x80\x04", 16))
    await rig.until(lambda: len(rig.envelopes) == 2)
    await rig.say(Notice(kind="echo", text="AFTER"))
    assert [data[4:] for data in rig.heard[NORA]] == [b"AFTER"]
    rig.envelopes[0].settle()
    await rig.until(lambda: len(rig.heard[NORA]) == 2)
    assert rig.heard[NORA][1] == b"\x82\x10\x00\x2a"


async def test_what_a_codec_chokes_on_costs_itself_alone(rig: Rig) -> None:
    rig.radio.transmit(NORA, Sdu(12, b"\x02\xff", 16))
    rig.radio.transmit(NORA, Sdu(STATUS, b"\x00\x00", 16))
    await rig.until(lambda: rig.envelopes)
    assert rig.envelopes[0].message == StatusReport(code=0)
    assert rig.meter.total("frames_rejected_total", reason="decode") == 1


async def test_a_message_of_which_parts_never_came_is_told(rig: Rig) -> None:
    """Without another word of that handset."""
    rig.radio.transmit(NORA, Sdu(12, b"\x8a\x02\x01\x01", 32))
    await rig.until(lambda: rig.envelopes)
    assert (rig.envelopes[0].message, rig.envelopes[0].terminal) == (HelpRequest(), str(NORA))
    assert not rig.link._gathering


async def test_unplugged_it_is_down_and_what_waits_fails(rig: Rig) -> None:
    rig.radio.pei.inhibited = True
    waiting = rig.say(Notice(kind="echo", text="A"))
    await rig.until(lambda: rig.radio.pei.counts["cme 41"])
    assert not rig.link.reaches(str(NORA)), "transmit inhibit"
    rig.radio.unplug()
    assert "hung up" in await rig.down()
    with pytest.raises(SendFailed):
        await waiting
    assert not rig.link.reaches(str(NORA))
    assert isinstance(rig.link, Returns)
    rig.radio.pei.inhibited = False
    rig.radio.plug()
    await rig.open()
    await rig.say(Notice(kind="echo", text="A"))


async def test_cancelled_it_is_not_begun(rig: Rig) -> None:
    """What waits behind another goes when its sender goes."""
    first, second = rig.say(Notice(kind="echo", text="A")), rig.say(Notice(kind="echo", text="B"))
    await asyncio.sleep(0)
    second.cancel()
    await first
    await rig.say(Notice(kind="echo", text="C"))
    assert [data[4:] for data in rig.heard[NORA]] == [b"A", b"C"]


async def test_the_same_figure_in_another_network_is_a_stranger(tmp_path: Path) -> None:
    """Its SSI is that of one of ours; who says so is not. Nor is anybody who is not named."""
    rig = Rig(tmp_path, mcc="234", mnc="14")
    await rig.open()
    for calling in ("09990001405001001", "02340001505001001", "", "16777215"):
        rig.radio.says(f"\r\n+CTSDSR: 13,{calling},1,6000001,0,16\r\n0000\r\n".encode())
    rig.radio.says(b"\r\n+CTSDSR: 13,5001001,16\r\n0000\r\n")
    rig.radio.says(b"\r\n+CTSDSR: 13,02340001405001001,1,6000001,0,16\r\n8002\r\n")
    await rig.until(lambda: rig.envelopes)
    assert [(e.terminal, e.message) for e in rig.envelopes] == [
        (str(NORA), StatusReport(code=0x8002))
    ]
    assert rig.meter.total("frames_rejected_total", reason="identity") == 5
    assert {cause for cause, _, _ in rig.suspected} == {Suspicion.IDENTITY}
    await rig.close()


async def test_what_the_queue_gives_up_is_counted_waited_for_or_not(tmp_path: Path) -> None:
    """Reports, for which nobody waits; a notice that is pushed out; one whose time is over."""
    rig = Rig(tmp_path, queue=8)
    await rig.open()
    rig.radio.pei.inhibited = True
    notices = [rig.say(Notice(kind="echo", text="A"), deadline_s=1.0) for _ in range(2)]
    await rig.until(lambda: rig.radio.pei.counts["cme 41"])
    for n in range(9):
        rig.radio.transmit(NORA, Sdu(12, bytes((0x82, 4, n, 1)) + b"X", 40))
    await rig.until(lambda: rig.meter.total("queue_dropped_total", reason="full") == 3)
    for each in notices:
        with pytest.raises(SendFailed, match="full"):
            await each
    with pytest.raises(SendFailed, match="too late"):
        await rig.say(Notice(kind="echo", text="B", danger=("X",)), deadline_s=0.2)
    assert rig.meter.total("queue_dropped_total", reason="expired") == 1
    await rig.close()
