"""Links as the core sees them: up, silent, down; where a terminal is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.messages import LinkChanged, LinkState, StatusReport
from gateway.settings import BrokerSection, SerialSection, Settings
from tests.fakes import settle
from tests.gateway.desk import ISSI, OTHER, FakeLink, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.begin()
    yield rig
    await rig.end()


async def test_silence_is_shown_as_silence(rig: Rig) -> None:
    """Open, but nobody heard for silent_s: SILENT, then UP again with the first word."""
    section = rig.config.settings
    broker = BrokerSection(name="line", silent_s=120.0)
    settings = Settings(
        gateway=section.gateway, checks=section.checks, tracking=section.tracking, mqtt=(broker,)
    )
    rig.core.config = msgspec.structs.replace(rig.core.config, settings=settings)
    minding = asyncio.ensure_future(rig.core.mind())
    rig.core.link_seen("line", "mqtt", LinkState.UP, "")
    await rig.clock.advance(119)
    assert rig.core.states["line"] is LinkState.UP
    await rig.clock.advance(3)
    assert rig.core.states["line"] is LinkState.SILENT
    ready, reasons = rig.core.ready_now()
    assert ready
    assert {"what": "line", "state": "silent", "why": ""} in reasons
    rig.say(StatusReport(code=2))
    await rig.clock.advance(2)
    assert rig.core.states["line"] is LinkState.UP
    rig.core.link_seen("line", "mqtt", LinkState.DOWN, "hung up")
    await rig.clock.advance(300)
    assert rig.core.states["line"] is LinkState.DOWN, "what is down is not silent"
    seen = [each.state.value for each in rig.events if isinstance(each, LinkChanged)]
    assert seen == ["up", "silent", "up", "down"]
    minding.cancel()
    await asyncio.gather(minding, return_exceptions=True)


@pytest.mark.parametrize("kind", ["serial", "mqtt"])
async def test_a_receiver_without_a_fix_is_not_silent(rig: Rig, kind: str) -> None:
    """What the link itself heard counts, though no message came of it; noise it does not hear."""
    section: dict[str, object] = (
        {"serial": (SerialSection(name="line", port="/x", silent_s=60.0),)}
        if kind == "serial"
        else {"mqtt": (BrokerSection(name="line", silent_s=60.0),)}
    )
    settings = msgspec.structs.replace(rig.config.settings, **{"serial": (), "mqtt": (), **section})
    rig.core.config = msgspec.structs.replace(rig.core.config, settings=settings)
    minding = asyncio.ensure_future(rig.core.mind())
    rig.core.link_seen("line", kind, LinkState.UP, "")
    for _ in range(10):
        await rig.clock.advance(30)
        rig.link.heard_at_s = rig.clock.monotonic_s()
        assert rig.core.states["line"] is LinkState.UP
    await rig.clock.advance(58)
    assert rig.core.states["line"] is LinkState.UP
    await rig.clock.advance(4)
    assert rig.core.states["line"] is LinkState.SILENT
    minding.cancel()
    await asyncio.gather(minding, return_exceptions=True)


async def test_a_terminal_is_reached_where_it_was_heard_last(rig: Rig) -> None:
    """Else over its own line; one with a line of its own is not sent to a broker for nobody."""
    line, broker = FakeLink([]), FakeLink([])
    line.name, broker.name = "serial", "line"
    line.reaches = lambda terminal: terminal == ISSI  # type: ignore[method-assign]
    settings = msgspec.structs.replace(
        rig.core.config.settings, serial=(SerialSection(name="serial", port="x", terminal=ISSI),)
    )
    rig.core.config = msgspec.structs.replace(rig.core.config, settings=settings)
    rig.core.links.clear()
    rig.core.links.update({"serial": line, "line": broker})
    assert rig.core.link_for(ISSI) is line
    assert rig.core.link_for(OTHER) is broker
    line.reaches = lambda _terminal: False  # type: ignore[method-assign]
    assert rig.core.link_for(ISSI) is None
    rig.say(StatusReport(code=2), ISSI)
    await settle()
    assert rig.core.link_for(ISSI) is broker, "it was heard there"


async def test_answers_go_out_as_soon_as_their_link_is_back(rig: Rig) -> None:
    """After a long failure the back-off is long; an officer does not wait for that (M02)."""
    rig.link.up = False
    rig.core.link_seen("line", "mqtt", LinkState.DOWN, "broker silent")
    await rig.ask()
    await rig.clock.advance(75)
    assert rig.results() == []
    rig.link.up = True
    rig.core.link_seen("line", "mqtt", LinkState.UP, "")
    await rig.clock.advance(1)
    assert len(rig.results()) == 1
