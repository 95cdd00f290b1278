"""A play for radios: who is there, and what happens when; read from TOML, then run.

A scenario file names its actors (call-sign, ISSI, bearer, area, pace) and its steps in time.
Unknown keys are refused. Subjects must come from the reserved ranges: a test reads every file.
"""

from __future__ import annotations

import asyncio
import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from simulators.clock import Clock
from simulators.handset import Exchange
from simulators.patrol import AREAS, Pace
from simulators.radio import BadEnquiry, Radio, enquiry
from simulators.tetra_cell import AIRS
from simulators.tetra_pei import MAKES

FOLDER = Path(__file__).parent / "scenarios"
PNC = "pnc"
"""The actor that is no radio."""

Action = Literal[
    "check", "status", "emergency", "unplug", "plug", "reboot", "fault", "say", "screen"
]
Fault = Literal["none", "hang", "down", "slow"]


class ScenarioError(Exception):
    """Mend the scenario file: says file, place and reason."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. A misspelt key is an error, not a default."""


class Base(_Table, frozen=True, kw_only=True):
    """A TETRA radio at a port of the gateway. make: how it speaks (tetra_pei); air: what its
    network is like (tetra_cell). ssi: its own."""

    name: str
    ssi: int
    make: str = "plain"
    air: str = "still"


class Actor(_Table, frozen=True, kw_only=True):
    """One radio. issi and callsign as in the fleet file of the gateway that is played against.
    base: of a TETRA handset, the gateway's radio that it is heard by. phone: `user/device`, of a
    phone with OwnTracks, which tells where it is and does nothing else."""

    callsign: str
    issi: str
    bearer: Literal["serial", "tetra", "mqtt", "gpsd", "owntracks"]
    area: str
    pace: Pace = Pace.FOOT
    base: str = ""
    phone: str = ""


class Step(_Table, frozen=True, kw_only=True):
    """One thing that happens, at_s seconds after the start (or after a repetition began).

    check: `text` is a KeySDS enquiry. status: `code`. unplug and plug: an actor, or a base, which
    can reboot, too. fault: actor `pnc`, `fault`. say: only the caption. screen: what stands on the
    actor's radio by then of the last question that a step made it ask. caption: said aloud when it
    happens; empty: nothing is said.
    """

    at_s: float
    actor: str = ""
    action: Action
    text: str = ""
    code: int = 0
    fault: Fault = "none"
    caption: str = ""


class Background(_Table, frozen=True, kw_only=True):
    """Everyday checks by whoever is at hand, every `every_s` seconds on average.

    texts: KeySDS enquiries by reason code of the asking agency: police ask `police`, the others
    (`others`) what their policy lets them ask. quiet: call-signs that stay out of it.
    """

    every_s: float
    from_s: float = 0.0
    police: tuple[str, ...] = ()
    others: dict[str, tuple[str, ...]] = {}
    """Call-sign -> the enquiries that fit its role."""
    quiet: tuple[str, ...] = ()


class Scenario(_Table, frozen=True, kw_only=True):
    """The whole file."""

    title: str
    actors: tuple[Actor, ...]
    bases: tuple[Base, ...] = ()
    steps: tuple[Step, ...] = ()
    background: Background | None = None
    fix_every_s: float = 1.0
    think_s: float = 2.0
    repeat_every_s: float | None = None
    """Play the steps again from the beginning; None: once."""


class Pluggable(Protocol):
    """What a scenario can do to a gateway's radio."""

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def reboot(self) -> None: ...


class PncFaults(Protocol):
    """What a scenario can do to the PNC server."""

    fault: Literal["hang", "down", "slow"] | None


def names() -> list[str]:
    """The scenarios that come with the house."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """By name (of the folder) or by path of a .toml file. Raises ScenarioError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(names())
        raise ScenarioError(f"{path}: {error.strerror}; there are: {known}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path.name}: not TOML: {error}") from error
    try:
        scenario = msgspec.convert(raw, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{path.name}: {error}") from error
    findings = _check(scenario)
    if findings:
        raise ScenarioError("\n".join(f"{path.name}: {finding}" for finding in findings))
    return scenario


def _check(scenario: Scenario) -> list[str]:
    found: list[str] = []
    callsigns = [actor.callsign for actor in scenario.actors]
    for name in {c for c in callsigns if callsigns.count(c) > 1}:
        found.append(f"actors: {name} stands twice")
    found += _check_bases(scenario)
    bases = {base.name for base in scenario.bases}
    for place, actor in enumerate(scenario.actors):
        if actor.area not in AREAS:
            found.append(f"actors[{place}].area: one of {', '.join(AREAS)}")
        if (actor.bearer == "tetra") != (actor.base in bases):
            found.append(f"actors[{place}].base: one of bases, for the bearer tetra alone")
        if (actor.bearer == "owntracks") != (actor.phone.count("/") == 1):
            found.append(f"actors[{place}].phone: user/device, for the bearer owntracks alone")
    mute = {actor.callsign for actor in scenario.actors if actor.bearer in ("gpsd", "owntracks")}
    for place, step in enumerate(scenario.steps):
        where = f"steps[{place}]"
        if step.at_s < 0:
            found.append(f"{where}.at_s: not before the start")
        if step.action == "fault":
            if step.actor != PNC:
                found.append(f"{where}.actor: only `{PNC}` can have a fault")
        elif step.action == "reboot" or step.actor in bases:
            if step.actor not in bases or step.action not in ("unplug", "plug", "reboot"):
                found.append(f"{where}.actor: a base is unplugged, plugged in or rebooted")
        elif step.action != "say" and step.actor not in callsigns:
            found.append(f"{where}.actor: not one of actors")
        if step.action == "check":
            found += _check_text(f"{where}.text", step.text)
        if step.actor in mute and step.action not in ("say", "unplug", "plug"):
            found.append(f"{where}.actor: nobody sits there who could do that")
    background = scenario.background
    if background is not None:
        if background.every_s <= 0:
            found.append("background.every_s: more than 0")
        if not background.police and not background.others:
            found.append("background: nothing to ask")
        for place, text in enumerate(background.police):
            found += _check_text(f"background.police[{place}]", text)
        for callsign, texts in background.others.items():
            if callsign not in callsigns:
                found.append(f"background.others.{callsign}: not one of actors")
            for place, text in enumerate(texts):
                found += _check_text(f"background.others.{callsign}[{place}]", text)
    return found


def _check_bases(scenario: Scenario) -> list[str]:
    found = []
    names = [base.name for base in scenario.bases]
    ssis = [base.ssi for base in scenario.bases]
    for place, base in enumerate(scenario.bases):
        if names.count(base.name) > 1 or ssis.count(base.ssi) > 1:
            found.append(f"bases[{place}]: name or ssi stands twice")
        if base.make not in MAKES:
            found.append(f"bases[{place}].make: one of {', '.join(MAKES)}")
        if base.air not in AIRS:
            found.append(f"bases[{place}].air: one of {', '.join(AIRS)}")
    return found


def _check_text(where: str, text: str) -> list[str]:
    try:
        enquiry(text)
    except BadEnquiry as error:
        return [f"{where}: {error}"]
    return []


async def play(
    scenario: Scenario,
    radios: Mapping[str, Radio],
    *,
    clock: Clock,
    seed: int,
    caption: Callable[[str], None],
    screen: Callable[[str, Sequence[str]], None] | None = None,
    pnc: PncFaults | None = None,
    bases: Mapping[str, Pluggable] | None = None,
) -> None:
    """Run the steps and the background, by the clock. Returns after the last step unless there
    is a background or a repetition; then never. screen: call-sign, the parts on its screen."""
    async with asyncio.TaskGroup() as group:
        group.create_task(
            _steps(scenario, radios, clock, caption, screen, pnc, bases or {}), name="scenario"
        )
        if scenario.background is not None:
            group.create_task(
                _background(scenario, scenario.background, radios, clock, seed), name="background"
            )


async def _steps(
    scenario: Scenario,
    radios: Mapping[str, Radio],
    clock: Clock,
    caption: Callable[[str], None],
    screen: Callable[[str, Sequence[str]], None] | None,
    pnc: PncFaults | None,
    bases: Mapping[str, Pluggable],
) -> None:
    start_s = clock.monotonic_s()
    asked: dict[str, Exchange] = {}
    steps = sorted(scenario.steps, key=lambda step: step.at_s)
    while True:
        for step in steps:
            await clock.sleep(max(0.0, start_s + step.at_s - clock.monotonic_s()))
            if step.caption:
                caption(step.caption)
            if step.action == "screen" and screen is not None:
                screen(step.actor, asked[step.actor].screen() if step.actor in asked else [])
            exchange = act(step, radios, pnc, bases)
            if exchange is not None:
                asked[step.actor] = exchange
        if scenario.repeat_every_s is None:
            return
        start_s += scenario.repeat_every_s


def act(
    step: Step,
    radios: Mapping[str, Radio],
    pnc: PncFaults | None,
    bases: Mapping[str, Pluggable],
) -> Exchange | None:
    """Do one step; returns the question, if it was one. A PNC that somebody else runs cannot be
    given a fault: then nothing happens."""
    if step.action in ("say", "screen"):
        return None
    if step.action == "fault":
        if pnc is not None:
            pnc.fault = None if step.fault == "none" else step.fault
        return None
    if step.actor in bases:
        base = bases[step.actor]
        {"unplug": base.unplug, "plug": base.plug, "reboot": base.reboot}[step.action]()
        return None
    radio = radios[step.actor]
    match step.action:
        case "check":
            return radio.ask(step.text)
        case "status":
            radio.status(step.code)
        case "emergency":
            radio.emergency()
        case "unplug":
            radio.unplug()
        case "plug":
            radio.plug()
    return None


async def _background(
    scenario: Scenario,
    background: Background,
    radios: Mapping[str, Radio],
    clock: Clock,
    seed: int,
) -> None:
    chance = random.Random(f"background/{seed}")  # noqa: S311  (a play, no secret)
    choices = {
        callsign: background.others.get(callsign, background.police)
        for callsign in radios
        if callsign not in background.quiet and radios[callsign].asks
    }
    choices = {callsign: texts for callsign, texts in choices.items() if texts}
    await clock.sleep(background.from_s)
    while choices:
        await clock.sleep(chance.uniform(0.5, 1.5) * background.every_s)
        callsign = chance.choice(sorted(choices))
        text = chance.choice(choices[callsign])
        if radios[callsign].plugged:
            radios[callsign].ask(text)
