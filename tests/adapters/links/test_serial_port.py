"""The serial link on real PTYs: hang-ups, floods, peers that do not read, and reopening."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from adapters import codecs
from adapters.links.serial_port import SerialLink
from gateway.app import SystemClock, SystemIds
from gateway.errors import LinkDown, SendFailed
from gateway.messages import Envelope, LinkState, LocationFix, Notice, StatusReport
from gateway.settings import SerialSection
from gateway.supervise import keep
from tests.fakes import FakeJournal, FakeMeter

ISSI = "5001001"
WITHIN_S = 10.0


class Rig:
    def __init__(self, port: str, **options: object) -> None:
        self.meter = FakeMeter()
        self.envelopes: list[Envelope] = []
        self.up = asyncio.Event()
        self.link = SerialLink(
            SerialSection(name="line", port=port, terminal=ISSI, **options),  # type: ignore[arg-type]
            instance="gwt",
            config_path=Path("/x"),
            clock=SystemClock(),
            meter=self.meter,
            journal=FakeJournal(),
            known=lambda issi: issi == ISSI,
            codecs=codecs.create,
        )
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


async def until(ready: Callable[[], object], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not ready():  # noqa: ASYNC110 - bytes come from the kernel, without an event
            await asyncio.sleep(0.005)


class Pty:
    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.name = os.ttyname(self.slave)

    def close(self) -> None:
        for each in (self.master, self.slave):
            if each >= 0:
                os.close(each)
        self.master = self.slave = -1


@pytest.fixture
def pty() -> AsyncIterator[Pty]:
    pty = Pty()
    yield pty  # type: ignore[misc]
    pty.close()


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
    with pytest.raises(LinkDown):
        await task
    second = Pty()
    stable.unlink()
    stable.symlink_to(second.name)
    await rig.open()
    os.write(second.master, b"1\r\n#S 5\r\n")
    await until(lambda: [e for e in rig.envelopes if e.message == StatusReport(code=5)])
    assert StatusReport(code=11) not in [e.message for e in rig.envelopes]
    await rig.close()
    second.close()


async def test_a_hung_up_line_does_not_spin(pty: Pty) -> None:
    """F12: a naive reader ran 138,893 callbacks in half a second. Ours has ended by then."""
    rig = Rig(pty.name)
    task = await rig.open()
    os.write(pty.master, b"$GPRMC,12")
    pty.close()
    with pytest.raises(LinkDown):
        await task
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s < 0.25, "half a second of waiting cost that much work"


async def test_a_second_opener_is_told_so(pty: Pty) -> None:
    """S09: exclusive; bytes are never split between two readers."""
    rig, other = Rig(pty.name), Rig(pty.name)
    await rig.open()
    task = await other.open()
    with pytest.raises(LinkDown, match="in use"):
        await task
    await rig.close()


@pytest.mark.parametrize(
    ("port", "reason"), [("/dev/no-such-port", "no such port"), ("/dev/null", "")]
)
async def test_a_port_that_cannot_be_opened(port: str, reason: str) -> None:
    """A short reason that says what to do; the path is not in it."""
    task = await Rig(port).open()
    with pytest.raises(LinkDown) as caught:
        await task
    assert reason in caught.value.reason
    assert port not in caught.value.reason


async def test_a_peer_that_does_not_read(pty: Pty) -> None:
    """S06: bounded in bytes and in time; closing does not wait for it either."""
    rig = Rig(pty.name, write_deadline_s=0.2, write_buffer=4096)
    await rig.open()
    long = Notice(kind="operator", text="X" * 900)
    failures = []
    for _ in range(60):
        try:
            await rig.link.send(ISSI, long, expires_in_s=60, deadline_s=5)
        except SendFailed as error:
            failures.append(str(error))
    assert failures
    assert any("in time" in each for each in failures)
    assert any("buffer full" in each for each in failures)
    assert rig.meter.total("queue_dropped_total", queue="outbox", reason="full") >= 1
    async with asyncio.timeout(3):
        await rig.close()
    again = Rig(pty.name)
    task = await again.open()
    assert not task.done(), "the port was not let go"
    await again.close()


async def test_a_flood_of_bad_frames_does_not_stop_the_loop(pty: Pty) -> None:
    """S04: 10,000 bad lines; in between, the loop turns and another line has its turn."""
    other = Pty()
    rig, calm = Rig(pty.name), Rig(other.name)
    await rig.open()
    await calm.open()
    os.set_blocking(pty.master, False)
    bad = b"$GPGLL,5234.350,N,00014.586,W,101502,A*00\r\n"
    left = memoryview(bad * 10_000)
    turns = 0
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(pty.master, left[:4096]) :]
        turns += 1
        if turns == 100:
            os.write(other.master, b"#S 4\r\n")
        await asyncio.sleep(0)
    await until(lambda: rig.meter.total("frames_rejected_total", reason="crc") == 10_000)
    assert [e.message for e in calm.envelopes] == [StatusReport(code=4)]
    await rig.close()
    await calm.close()
    other.close()


async def test_a_line_without_an_end_is_bounded(pty: Pty) -> None:
    """S05: 2 MB without a line end; then the line is found again."""
    rig = Rig(pty.name)
    await rig.open()
    os.set_blocking(pty.master, False)
    left = memoryview(b"A" * 2_000_000 + b"\r\n#S 4\r\n")
    while left:
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(pty.master, left[:4096]) :]
        await asyncio.sleep(0)
    await until(lambda: rig.envelopes)
    assert [e.message for e in rig.envelopes] == [StatusReport(code=4)]
    assert rig.meter.total("frames_rejected_total", reason="length") >= 1
    await rig.close()


async def test_an_old_log_is_judged_against_its_day(pty: Pty) -> None:
    """reference_date: the same time of day on the day that is named."""
    rig = Rig(pty.name, reference_date="2019-04-06")
    await rig.open()
    os.write(pty.master, b"$GPRMC,101502,A,5234.350,N,00014.586,W,002.4,090.0,060419,,,A*68\r\n")
    await until(lambda: rig.envelopes)
    envelope = rig.envelopes[0]
    assert isinstance(envelope.message, LocationFix)
    assert envelope.message.fixed_at_ms == 1_554_545_702_000
    day = 86_400_000
    assert envelope.reference_ms // day * day == 1_554_508_800_000
    assert envelope.reference_ms % day == envelope.received_at_ms % day
    await rig.close()


async def test_over_tcp() -> None:
    """socket://host:port: a serial device server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        rig = Rig(f"socket://127.0.0.1:{server.getsockname()[1]}")
        opening = asyncio.ensure_future(rig.open())
        taken, _ = await asyncio.to_thread(server.accept)
        task = await opening
        taken.sendall(b"#S 4\r\n")
        await until(lambda: rig.envelopes)
        await rig.link.send(ISSI, Notice(kind="echo", text="ECHO"), expires_in_s=1, deadline_s=5)
        taken.settimeout(5)
        assert await asyncio.to_thread(taken.recv, 100) == b"ECHO\r\n"
        taken.close()
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown):
                await task


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
