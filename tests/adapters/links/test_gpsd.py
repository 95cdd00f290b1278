"""What the contract of links cannot say of gpsd: who is one, what is said to it, who left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.links.gpsd import ASK, WATCH
from gateway.errors import LinkDown, SendFailed
from gateway.messages import LocationFix, Notice
from gateway.settings import GpsdSection
from tests.contracts.test_links import ISSI, WITHIN_S, Ends, made
from tests.services.proxy import Mode, Proxy
from tests.services.scripted_gpsd import REFUSED, ScriptedGpsd

FIX = b'{"class":"TPV","mode":3,"lat":52.5725,"lon":-0.2431}'
SKY = b'{"class":"SKY","satellites":[]}'
SOON_S = 0.1
"""After which it asks where it is to end: nothing here is told from how long that took."""
QUIET_S = 0.4
"""Likewise where it is to stay, however long the loop was held up in between."""


@pytest.fixture
async def gpsd() -> AsyncIterator[ScriptedGpsd]:
    async with ScriptedGpsd() as each:
        yield each


@pytest.fixture
async def ends(gpsd: ScriptedGpsd, tmp_path: Path) -> AsyncIterator[Ends]:
    each = Ends()
    each.link = made(GpsdSection(name="line", port=gpsd.port, terminal=ISSI), each, tmp_path)
    yield each
    await each.close()


def asking(ends: Ends, port: int, after_s: float, folder: Path) -> None:
    """The same, but that it asks sooner."""
    section = GpsdSection(name="line", port=port, terminal=ISSI, ask_after_s=after_s)
    ends.link = made(section, ends, folder)


async def down(task: asyncio.Task[None]) -> LinkDown:
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LinkDown) as caught:
            await task
    return caught.value


async def test_nothing_is_said_but_watch(ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path) -> None:
    """No answer of ours, no setting of a receiver, whatever comes and whoever wants to send; and
    nothing before the first word: gpsd 3.22 drops what follows an empty line."""
    asking(ends, gpsd.port, QUIET_S, tmp_path)
    await ends.opened()
    gpsd.say(FIX)
    with pytest.raises(SendFailed):
        await ends.link.send(ISSI, Notice(kind="echo", text="X"), expires_in_s=60, deadline_s=5)
    await ends.until(lambda: bytes(gpsd.heard).count(ASK) >= 2)
    assert bytes(gpsd.heard).startswith(WATCH)
    assert bytes(gpsd.heard).replace(WATCH, b"", 1).replace(ASK, b"") == b""
    assert max(len(line) for line in (WATCH, ASK)) <= 80


async def test_a_quiet_gpsd_that_answers_is_up(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    """A car in a tunnel is no lost connection: asked again and again, it stays up, and silent."""
    asking(ends, gpsd.port, QUIET_S, tmp_path)
    task = await ends.opened()
    await ends.until(lambda: bytes(gpsd.heard).count(ASK) >= 3)
    assert not task.done()
    assert ends.link.heard_at_s is None, "gpsd's own words are not its receiver's"
    gpsd.say(SKY)
    await ends.until(lambda: ends.link.heard_at_s is not None)


async def test_a_void_report_is_heard_and_is_no_position(ends: Ends, gpsd: ScriptedGpsd) -> None:
    await ends.opened()
    gpsd.say(FIX.replace(b'"mode":3', b'"mode":1'))
    await ends.until(lambda: ends.meter.total("fixes_rejected_total", reason="void") == 1)
    assert ends.link.heard_at_s is not None
    assert ends.envelopes == []


async def test_one_that_answers_no_more_is_down(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    """Without an end of the connection: it was asked once, and had its time."""
    asking(ends, gpsd.port, QUIET_S, tmp_path)
    task = await ends.opened()
    gpsd.alive = False
    asked = bytes(gpsd.heard).count(ASK)
    await ends.until(lambda: task.done() or bytes(gpsd.heard).count(ASK) >= asked + 4)
    assert task.done(), "asked again and again"
    assert (await down(task)).reason == "does not answer"


async def test_a_half_open_connection_is_down(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    """M03: the far side went without a word, and what is sent is acknowledged by nobody."""
    proxy = Proxy(gpsd.port)
    await proxy.start()
    asking(ends, proxy.port, QUIET_S, tmp_path)
    task = await ends.opened()
    proxy.become(Mode.BLACK_HOLE)
    assert (await down(task)).reason == "does not answer"
    await proxy.close()


async def test_one_that_takes_the_connection_and_says_nothing(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    asking(ends, gpsd.port, SOON_S, tmp_path)
    gpsd.hello = gpsd.watched = b""
    assert (await down(ends.start())).reason == "does not answer"
    assert not ends.up.is_set()


async def test_one_that_refuses_is_tried_seldom(ends: Ends, gpsd: ScriptedGpsd) -> None:
    gpsd.watched = REFUSED
    ended = await down(ends.start())
    assert (ended.reason, ended.refused) == ("refuses to be watched", True)
    assert not ends.up.is_set()


async def test_whoever_is_no_gpsd_is_tried_seldom(ends: Ends, gpsd: ScriptedGpsd) -> None:
    """Another service on that port is told from one: nothing that it says is ever a position."""
    gpsd.hello = b"SSH-2.0-OpenSSH_9.2\r\n" + FIX + b"\r\n"
    ended = await down(ends.start())
    assert (ended.reason, ended.refused) == ("is no gpsd", True)
    assert not ends.up.is_set()
    assert ends.envelopes == []
    assert ends.meter.total("frames_rejected_total", reason="decode") == 1


async def test_a_place_before_we_are_its_watchers_is_of_nobody(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    """A void report is no stranger's word, either."""
    asking(ends, gpsd.port, SOON_S, tmp_path)
    void = FIX.replace(b'"mode":3', b'"mode":1')
    gpsd.hello += FIX + b"\r\n" + void + b"\r\n"
    gpsd.alive = False
    assert (await down(ends.start())).reason == "does not answer"
    assert ends.envelopes == []
    assert ends.link.heard_at_s is not None


async def test_another_receiver_of_that_gpsd_is_not_ours(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    """It moves nothing, and does not hide that ours is silent."""
    section = GpsdSection(name="line", port=gpsd.port, terminal=ISSI, device="/dev/ttyACM1")
    ends.link = made(section, ends, tmp_path)
    await ends.opened()
    other = FIX.replace(b'"mode"', b'"device":"/dev/ttyACM0","mode"')
    gpsd.say(other)
    gpsd.say(SKY.replace(b'"satellites"', b'"device":"/dev/ttyACM0","satellites"'))
    await ends.until(lambda: any(b"satellites" in data for _, data in ends.tapped))
    assert ends.link.heard_at_s is None
    gpsd.say(other.replace(b"ACM0", b"ACM1"))
    await ends.until(lambda: ends.envelopes)
    assert len(ends.envelopes) == 1


async def test_an_error_later_costs_nothing(ends: Ends, gpsd: ScriptedGpsd) -> None:
    task = await ends.opened()
    gpsd.say(REFUSED.strip())
    gpsd.say(FIX)
    await ends.until(lambda: ends.envelopes)
    assert not task.done()


async def test_a_new_connection_begins_anew(ends: Ends, gpsd: ScriptedGpsd) -> None:
    """Half a report of before is nobody's; it watches again."""
    task = await ends.opened()
    half = len(FIX) // 2
    for client in gpsd.clients:
        client.write(FIX[:half])
    await ends.until(lambda: any(FIX[:half] in data for _, data in ends.tapped))
    gpsd.cut()
    assert (await down(task)).reason == "hung up"
    ends.up.clear()
    await ends.opened()
    for client in gpsd.clients:
        client.write(FIX[half:] + b"\r\n" + FIX + b"\r\n")
    await ends.until(lambda: ends.envelopes)
    assert len(ends.envelopes) == 1
    assert isinstance(ends.envelopes[0].message, LocationFix)
    assert gpsd.connections == 2
    assert bytes(gpsd.heard).count(WATCH) == 2


async def test_a_terminal_that_is_not_in_the_fleet(
    ends: Ends, gpsd: ScriptedGpsd, tmp_path: Path
) -> None:
    section = GpsdSection(name="line", port=gpsd.port, terminal="5001999")
    ends.link = made(section, ends, tmp_path)
    await ends.opened()
    gpsd.say(FIX)
    await ends.until(
        lambda: ends.meter.total("frames_rejected_total", reason="unknown_terminal") >= 1
    )
    assert ends.envelopes == []


@pytest.mark.parametrize(("host", "reason"), [("127.0.0.1", "refused"), ("::1", "refused")])
async def test_nobody_listens(host: str, reason: str, tmp_path: Path) -> None:
    ends = Ends()
    ends.link = made(GpsdSection(name="line", host=host, port=1, terminal=ISSI), ends, tmp_path)
    assert (await down(ends.start())).reason == reason
