"""Who holds a radio, over a real line and a real broker, and over a kill -9 in between."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.app import made_factor
from tests.services.mosquitto import Mosquitto
from tests.system.daemon import until
from tests.system.ledgers import audit
from tests.system.officers import LineOfficer, MqttOfficer, Officer, now_text
from tests.system.world import World

WITHIN_S = 20.0
PINS = {"1001": "4711", "1002": "0815"}
LINE, RADIO = "5001001", "5001006"


@pytest.fixture
async def world(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[World]:
    """Every radio of it is of the pool: nobody holds one; two officers have a factor."""
    people = (Path(__file__).parents[2] / "config" / "people.toml").read_text("utf-8")
    people = people[: people.index("[[standing]]")]
    for collar, pin in PINS.items():
        factor = made_factor(pin, 128)
        people = people.replace(f'collar = "{collar}"', f'collar = "{collar}"\nfactor = "{factor}"')
    (tmp_path / "people.toml").write_text(people, "utf-8")
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open()
        yield world
    finally:
        await world.close()


def links_up(world: World, link: str) -> list[object]:
    """Each time that this link came up, over all lives of the daemon."""
    assert world.daemon is not None
    lines = world.daemon.journal()
    return [each for each in lines if (each["event"], each.get("link")) == ("link.up", link)]


def said(officer: Officer, pattern: str) -> Callable[[], bool]:
    """Whether a notice like this was the last that the radio heard."""

    def heard() -> bool:
        notices = [each.body["text"] for each in officer.heard if each.channel == "notice"]
        return bool(notices) and re.fullmatch(pattern, notices[-1]) is not None

    return heard


@pytest.mark.slow
async def test_one_radio_after_the_other_over_a_line_and_a_kill(world: World) -> None:
    """Nobody, the constable, nobody, the sergeant; a kill leaves each as it was."""
    radio = world.lines[LINE]
    assert isinstance(radio, LineOfficer)
    assert world.daemon is not None
    number = radio.ask("V TE99AAA R1")
    await radio.until(lambda: refused(radio, number), WITHIN_S)
    assert world.queries() == []

    radio.say("B 1001 0000")
    await radio.until(said(radio, "XX NOT BOOKED. CALL CONTROL"), WITHIN_S)
    radio.say("B 1001 4711 E-77")
    await radio.until(said(radio, r"BOOKED E-77 UNTIL \d\d:\d\d"), WITHIN_S)
    number = radio.ask("V TE99STV R1")
    await radio.until(lambda: radio.parts(number), WITHIN_S)

    await world.daemon.kill()
    await world.daemon.start()
    number = radio.ask("V TE99AAA R1")
    await radio.until(lambda: radio.parts(number), WITHIN_S)
    radio.say("B OFF")
    await radio.until(said(radio, "BOOKED OFF"), WITHIN_S)

    await world.daemon.kill()
    await world.daemon.start()
    asked = len(world.queries())
    number = radio.ask("V TE99ABC R1")
    await radio.until(lambda: refused(radio, number), WITHIN_S)
    assert len(world.queries()) == asked
    radio.say("B 1002 0815")
    await radio.until(said(radio, r"BOOKED E-101 UNTIL \d\d:\d\d"), WITHIN_S)
    number = radio.ask("V TE99STV R1")
    await radio.until(lambda: radio.parts(number), WITHIN_S)

    booked = [leaf for leaf in audit(state(world)) if leaf["event"] in ("booked", "booked_off")]
    assert [(leaf["event"], leaf["officer"]) for leaf in booked] == [
        ("booked", "1001"),
        ("booked_off", "1001"),
        ("booked", "1002"),
    ]
    nowhere(world, *PINS.values())


@pytest.mark.slow
async def test_over_mqtt_with_json_and_a_second_aboard(world: World) -> None:
    """Booked, two aboard, left by status, booked again by status and PIN; over a kill."""
    radio = world.radios[RADIO]
    assert isinstance(radio, MqttOfficer)
    assert world.daemon is not None
    await book(radio, "1001")
    await radio.until(said(radio, r"BOOKED N-202 UNTIL \d\d:\d\d"), WITHIN_S)
    await book(radio, "1002", second=True)
    await radio.until(said(radio, r"BOOKED N-202 \+1 UNTIL \d\d:\d\d"), WITHIN_S)
    ref = await radio.ask(kind="vehicle", vrm="TE99STV", reason="1")
    await radio.until(lambda: radio.result(ref), WITHIN_S)
    await world.daemon.kill()
    await world.daemon.start()
    # What it hears while its broker's link still comes up is acted upon; the word back may be lost.
    await until(lambda: len(links_up(world, "mqtt")) == 2, WITHIN_S)
    await radio.say("status", {"code": 11})
    await radio.until(said(radio, "BOOKED OFF"), WITHIN_S)
    await radio.say("status", {"code": 17})
    await radio.until(said(radio, "NOW PIN AND YOUR NUMBER"), WITHIN_S)
    await radio.say("text", b"PIN 4711")
    await radio.until(said(radio, r"BOOKED N-202 UNTIL \d\d:\d\d"), WITHIN_S)
    ref = await radio.ask(kind="vehicle", vrm="TE99AAA", reason="1")
    answer = await radio.until(lambda: radio.result(ref), WITHIN_S)
    assert answer["outcome"] == "answered"
    nowhere(world, *PINS.values())


async def book(radio: MqttOfficer, collar: str, **more: object) -> None:
    word = {"book": "on", "officer": collar, "factor": PINS[collar], "t": now_text(), **more}
    await radio.say("status", word)


def refused(radio: LineOfficer, number: str) -> bool:
    """Whether this question was: by its one answer, whatever was said before it."""
    return any("NOT BOOKED" in part["text"] for part in radio.parts(number))


def state(world: World) -> Path:
    assert world.daemon is not None
    return world.daemon.state


def nowhere(world: World, *secrets: str) -> None:
    """No factor stands in the journal, nor in any text of the audit."""
    assert world.daemon is not None
    journal = world.daemon.output.read_text("utf-8")
    leaves = "\n".join(
        str({name: leaf[name] for name in ("detail", "operation", "reason", "operator", "booking")})
        for leaf in audit(state(world))
    )
    for secret in secrets:
        assert f'"{secret}"' not in journal
        assert secret not in leaves
