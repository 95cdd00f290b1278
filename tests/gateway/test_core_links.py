"""Links as the core sees them: up, silent, down; where a terminal is reached."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.messages import LinkChanged, LinkState, LocationFix, StatusReport
from gateway.settings import BrokerSection, SerialSection, Settings
from tests.fake_link import FakeLink
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


async def test_silence_is_shown_as_silence(house: House) -> None:
    """Open, but nobody heard for silent_s: SILENT, then UP again with the first word."""
    section = house.config.settings
    broker = BrokerSection(name="air", silent_s=120.0)
    settings = Settings(
        gateway=section.gateway, checks=section.checks, tracking=section.tracking, mqtt=(broker,)
    )
    house.core.config = msgspec.structs.replace(house.core.config, settings=settings)
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    await house.clock.advance(119)
    assert house.core.states["air"] is LinkState.UP
    await house.clock.advance(3)
    assert house.core.states["air"] is LinkState.SILENT
    ready, reasons = house.core.ready_now()
    assert ready
    assert {"what": "air", "state": "silent", "why": ""} in reasons
    house.say(StatusReport(code=2))
    await house.clock.advance(2)
    assert house.core.states["air"] is LinkState.UP
    house.core.link_seen("air", "mqtt", LinkState.DOWN, "hung up")
    await house.clock.advance(300)
    assert house.core.states["air"] is LinkState.DOWN, "what is down is not silent"
    seen = [each.state.value for each in house.events if isinstance(each, LinkChanged)]
    assert seen == ["up", "silent", "up", "down"]


@pytest.mark.parametrize("kind", ["serial", "mqtt"])
async def test_a_receiver_without_a_fix_is_not_silent(house: House, kind: str) -> None:
    """What the link itself heard counts, though no message came of it; noise it does not hear."""
    section: dict[str, object] = (
        {"serial": (SerialSection(name="air", port="/x", silent_s=60.0),)}
        if kind == "serial"
        else {"mqtt": (BrokerSection(name="air", silent_s=60.0),)}
    )
    settings = msgspec.structs.replace(
        house.config.settings, **{"serial": (), "mqtt": (), **section}
    )
    house.core.config = msgspec.structs.replace(house.core.config, settings=settings)
    house.core.link_seen("air", kind, LinkState.UP, "")
    for _ in range(10):
        await house.clock.advance(30)
        house.link.heard_at_s = house.clock.monotonic_s()
        assert house.core.states["air"] is LinkState.UP
    await house.clock.advance(58)
    assert house.core.states["air"] is LinkState.UP
    await house.clock.advance(4)
    assert house.core.states["air"] is LinkState.SILENT


async def test_a_terminal_is_reached_where_it_was_heard_last(house: House) -> None:
    """Else over its own line; one with a line of its own is not sent to a broker for nobody."""
    line, broker = FakeLink("serial"), FakeLink("air")
    line.reaches = lambda terminal: terminal == ISSI  # type: ignore[method-assign]
    settings = msgspec.structs.replace(
        house.core.config.settings, serial=(SerialSection(name="serial", port="x", terminal=ISSI),)
    )
    house.core.config = msgspec.structs.replace(house.core.config, settings=settings)
    house.core.links.clear()
    house.core.links.update({"serial": line, "air": broker})
    assert house.core.link_for(ISSI) is line
    assert house.core.link_for(OTHER) is broker
    line.reaches = lambda _terminal: False  # type: ignore[method-assign]
    assert house.core.link_for(ISSI) is None
    house.say(StatusReport(code=2))
    await settle()
    assert house.core.link_for(ISSI) is broker, "it was heard there"


async def test_before_it_is_heard_a_handset_is_behind_the_link_that_the_fleet_says(
    house: House,
) -> None:
    """After a restart an answer waits for its own radio; a broker would take it for nobody."""
    broker, radio = FakeLink("air"), FakeLink("tetra-e")
    house.core.links.clear()
    house.core.links.update({"air": broker, "tetra-e": radio})
    fleet = house.core.roster.fleet
    behind = tuple(
        msgspec.structs.replace(each, link="tetra-e") if each.issi == ISSI else each
        for each in fleet.terminals
    )
    fleet = msgspec.structs.replace(fleet, terminals=behind)
    house.core.roster.replace(fleet, house.config.people, house.config.areas)
    assert house.core.link_for(ISSI) is radio
    assert house.core.link_for(OTHER) is broker
    radio.reaches = lambda _terminal: False  # type: ignore[method-assign]
    assert house.core.link_for(ISSI) is None
    house.core.roster.heard(ISSI, "air", house.clock.monotonic_s())
    assert house.core.link_for(ISSI) is broker, "it was heard there"


async def test_a_phone_is_not_sent_to_a_broker_for_nobody(house: House) -> None:
    """Known by a name, it is answered where it was heard, if that can show anything."""
    phones, broker = FakeLink("phones"), FakeLink("air")
    phones.reaches = lambda _terminal: False  # type: ignore[method-assign]
    house.core.links.clear()
    house.core.links.update({"phones": phones, "air": broker})
    fleet = house.core.roster.fleet
    named = tuple(
        msgspec.structs.replace(each, names={"owntracks": "a/b"}) if each.issi == ISSI else each
        for each in fleet.terminals
    )
    fleet = msgspec.structs.replace(fleet, terminals=named)
    house.core.roster.replace(fleet, house.config.people, house.config.areas)
    house.core.roster.heard(ISSI, "phones", house.clock.monotonic_s())
    assert house.core.link_for(ISSI) is None
    assert house.core.link_for(OTHER) is broker
    house.core.roster.heard(ISSI, "air", house.clock.monotonic_s())
    assert house.core.link_for(ISSI) is broker, "it was heard there"


async def test_answers_go_out_as_soon_as_their_link_is_back(house: House) -> None:
    """After a long failure the back-off is long; an officer does not wait for that (M02)."""
    house.link.up = False
    house.core.link_seen("air", "mqtt", LinkState.DOWN, "broker silent")
    await house.ask("TE99ABC")
    await house.clock.advance(75)
    assert house.results == []
    house.link.up = True
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    await house.clock.advance(1)
    assert len(house.results) == 1


async def test_a_receiver_that_is_heard_each_second_hurries_no_radio(house: House) -> None:
    """What failed over the radio is tried again when the radio is heard: not as often as the car's
    receiver says where it is, which would be once a second on the air, for as long as it waits."""
    radio, car = house.link, FakeLink("car")
    car.unreached = {ISSI}
    house.core.links["car"] = car
    tries: list[str] = []
    radio.took = lambda _terminal, message: tries.append(type(message).__name__)
    radio.failing = True
    await house.ask()
    await house.clock.advance(1)
    before = radio.tries
    assert before, "nothing waits"
    for n in range(9):
        house.link = car
        house.say(LocationFix(lat=52.5 + n / 1e4, lon=-0.25))
        house.link = radio
        await house.clock.advance(1)
    hurried = radio.tries - before
    radio.failing = False
    house.say(LocationFix(lat=52.51, lon=-0.25))
    await settle()
    assert hurried <= 2, "tried as often as the receiver spoke"
    assert "Result" in tries, "the radio itself was heard"
