"""Scenario files are good as they stand, use reserved subjects only, and play by the clock."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import pytest

from gateway.messages import DriverKey, Key, PersonKey, PropertyKey, VehicleKey
from simulators import scenario as scenarios
from simulators.handset import Exchange
from simulators.patrol import Patrol
from simulators.radio import Radio, enquiry
from simulators.scenario import ScenarioError
from tests.fakes import FakeClock

CONFIG = Path(__file__).resolve().parents[2] / "config"
SURNAMES = {"TESTER", "SYNTHA", "O'TESTER", "AL-SAMPLE", "MC TESTER", "VAN DEMO", "ERROR"}


def reserved(key: Key) -> bool:
    """Whether a subject can be no real person's or vehicle's (PNC domain reference, 15.1)."""
    match key:
        case VehicleKey(vrm=vrm, vin=vin):
            return bool(
                re.fullmatch(r"(TE|ER)(99|49)[A-Z]{3}", vrm)
                or re.fullmatch(r"TSTZZZ[0-9]{11}", vin)
            )
        case PersonKey() | DriverKey():
            return key.surname in SURNAMES
        case PropertyKey(serial=serial):
            return serial.startswith("TST")


def texts(scenario: scenarios.Scenario) -> list[str]:
    found = [step.text for step in scenario.steps if step.action == "check"]
    if scenario.background is not None:
        found += scenario.background.police
        for more in scenario.background.others.values():
            found += more
    return found


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_is_good(name: str) -> None:
    """Each file loads, and each subject in it lies in the reserved ranges."""
    scenario = scenarios.load(name)
    assert texts(scenario)
    for text in texts(scenario):
        assert reserved(enquiry(text).key), f"{name}: a subject is not from the reserved ranges"


@pytest.mark.parametrize("name", scenarios.names())
def test_actors_are_in_the_fleet(name: str) -> None:
    """Every actor is a terminal of the sample fleet, under its call-sign and in its area."""
    rows = tomllib.loads((CONFIG / "fleet.toml").read_text("utf-8"))["terminals"]
    fleet = {row["issi"]: (row["callsign"], row["area"]) for row in rows}
    phones = {row["issi"]: row.get("names", {}).get("owntracks", "") for row in rows}
    for actor in scenarios.load(name).actors:
        if actor.bearer == "gpsd":  # a car that the play brings along
            assert actor.issi not in fleet
            continue
        assert fleet[actor.issi] == (actor.callsign, actor.area)
        assert actor.phone == phones[actor.issi]


def test_the_demo_has_its_cast_and_its_captions() -> None:
    """At least 4 TETRA handsets behind radios of three makes and 8 terminals over MQTT; within 5 s
    one check over each; the things that must be seen, all within half a minute."""
    scenario = scenarios.load("demo")
    bearers = [actor.bearer for actor in scenario.actors]
    assert bearers.count("tetra") >= 4
    assert bearers.count("mqtt") >= 8
    assert bearers.count("owntracks") >= 1
    assert {base.make for base in scenario.bases} == {"plain", "motorola", "sepura"}
    bearer = {actor.callsign: actor.bearer for actor in scenario.actors}
    checks = [step for step in scenario.steps if step.action == "check"]
    early = {bearer[step.actor] for step in checks if step.at_s <= 5}
    assert early == {"tetra", "mqtt"}
    shown = " ".join(step.text for step in checks)
    for subject in ("TE99ABC", "TE99STV", "TESTER/WANDA", "TESTER/NORA", "ER99SLW", "ER99TMT"):
        assert subject in shown
    moves = [step for step in scenario.steps if step.action in ("unplug", "plug")]
    assert [step.action for step in moves] == ["unplug", "plug"]
    (base,) = {step.actor for step in moves}
    assert base in {each.name for each in scenario.bases}
    behind = {actor.callsign for actor in scenario.actors if actor.base == base}
    assert scenario.background is not None
    assert behind <= set(scenario.background.quiet), "they would ask what nobody hears"
    assert max(step.at_s for step in scenario.steps) < 30
    assert sum(bool(step.caption) for step in scenario.steps) >= 7


GOOD = """
title = "t"
[[actors]]
callsign = "E-101"
issi = "5001001"
bearer = "serial"
area = "Eastern"
[[steps]]
at_s = 1.0
actor = "E-101"
action = "check"
text = "V TE99ABC R1"
caption = "one"
[[steps]]
at_s = 2.5
actor = "pnc"
action = "fault"
fault = "slow"
[[steps]]
at_s = 3.0
actor = "E-101"
action = "unplug"
[[steps]]
at_s = 4.0
actor = "E-101"
action = "plug"
[[steps]]
at_s = 5.0
actor = "E-101"
action = "emergency"
caption = "last"
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("at_s = 1.0", 'at_s = 1.0\ncolour = "red"'), "colour"),
        (('action = "unplug"', 'action = "explode"'), "explode"),
        (('area = "Eastern"', 'area = "Western"'), "area"),
        (('text = "V TE99ABC R1"', 'text = "V TE99ABC"'), "steps[0].text: R? GIVE REASON"),
        (('actor = "pnc"', 'actor = "E-101"'), "steps[1].actor"),
        (('actor = "E-101"\naction = "plug"', 'actor = "E-1"\naction = "plug"'), "steps[3].actor"),
        (("at_s = 4.0", "at_s = -4.0"), "steps[3].at_s"),
        (("title", "title ="), "not TOML"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """Each mistake is refused with file and place, before anything runs."""
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace(*change), "utf-8")
    with pytest.raises(ScenarioError) as caught:
        scenarios.load(str(path))
    assert "bad.toml" in str(caught.value)
    assert says in str(caught.value)


def test_unknown_name_says_what_there_is() -> None:
    """A misspelt scenario is told which ones exist."""
    with pytest.raises(ScenarioError, match="demo"):
        scenarios.load("demmo")


class Recorded(Radio):
    """A radio without a bearer: writes down what the play makes it do, and when."""

    def __init__(self, clock: FakeClock, callsign: str = "E-101") -> None:
        super().__init__(
            issi="5001001",
            callsign=callsign,
            clock=clock,
            patrol=Patrol(1, "Eastern"),
            resends=False,
        )
        self.done: list[tuple[float, str]] = []
        self._clock_ = clock
        self._in = True

    def _write(self, what: str) -> None:
        self.done.append((round(self._clock_.monotonic_s() - 1000.0, 3), what))

    def ask(self, text: str) -> Exchange:
        self._write(text)
        return self.handset.ask(enquiry(text), 0.0)

    def status(self, code: int) -> None:
        self._write(f"status {code}")

    def unplug(self) -> None:
        self._in = False
        self._write("unplug")

    def plug(self) -> None:
        self._in = True
        self._write("plug")

    @property
    def plugged(self) -> bool:
        return self._in

    def question(self, request):  # type: ignore[no-untyped-def]
        return request

    def say(self, message: object) -> bool:
        return True

    async def run(self) -> None:
        return


class Faults:
    fault = None


TETRA = GOOD.replace('bearer = "serial"', 'bearer = "tetra"\nbase = "R-1"').replace(
    'actor = "E-101"\naction = "unplug"', 'actor = "R-1"\naction = "reboot"'
)
BASE = '[[bases]]\nname = "R-1"\nssi = 6000001\nmake = "sepura"\nair = "rough"\n'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("", ""), ""),
        (('base = "R-1"\n', ""), "actors[0].base"),
        (('base = "R-1"\n', 'base = "R-2"\n'), "actors[0].base"),
        (('"tetra"', '"mqtt"'), "actors[0].base"),
        (('make = "sepura"', 'make = "simoco"'), "bases[0].make: one of plain, motorola, sepura"),
        (('air = "rough"', 'air = "fair"'), "bases[0].air: one of still, near, usual, slow, rough"),
        ((BASE, BASE + BASE), "bases[1]: name or ssi stands twice"),
        (('actor = "R-1"', 'actor = "E-101"'), "steps[2].actor"),
        (('action = "reboot"', 'action = "emergency"'), "steps[2].actor"),
    ],
)
def test_bases_and_who_is_heard_by_them(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "tetra.toml"
    path.write_text((TETRA + BASE).replace(*change), "utf-8")
    if not says:
        assert scenarios.load(str(path)).bases[0].ssi == 6_000_001
        return
    with pytest.raises(ScenarioError) as caught:
        scenarios.load(str(path))
    assert says in str(caught.value)


PHONE = """
title = "t"
[[actors]]
callsign = "E-105"
issi = "5001016"
bearer = "owntracks"
phone = "e105/phone"
area = "Eastern"
[[steps]]
at_s = 1.0
actor = "E-105"
action = "unplug"
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("", ""), ""),
        (('phone = "e105/phone"\n', ""), "actors[0].phone: user/device"),
        (('"e105/phone"', '"phone"'), "actors[0].phone: user/device"),
        (('"owntracks"', '"mqtt"'), "actors[0].phone: user/device"),
        (('action = "unplug"', 'action = "emergency"'), "steps[0].actor: nobody sits there"),
        (('action = "unplug"', 'action = "check"\ntext = "V TE99ABC R1"'), "steps[0].actor"),
    ],
)
def test_a_phone_is_lost_and_found_and_asks_nothing(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    path = tmp_path / "phone.toml"
    path.write_text(PHONE.replace(*change), "utf-8")
    if not says:
        assert scenarios.load(str(path)).actors[0].phone == "e105/phone"
        return
    with pytest.raises(ScenarioError) as caught:
        scenarios.load(str(path))
    assert says in str(caught.value)


async def test_what_happens_to_a_base_happens_to_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "tetra.toml"
    path.write_text(TETRA + BASE, "utf-8")
    done: list[str] = []

    class Base:
        def plug(self) -> None:
            done.append("plug")

        def unplug(self) -> None:
            done.append("unplug")

        def reboot(self) -> None:
            done.append("reboot")

    clock = FakeClock()
    radio = Recorded(clock)
    task = asyncio.create_task(
        scenarios.play(
            scenarios.load(str(path)),
            {"E-101": radio},
            clock=clock,
            seed=1,
            caption=lambda _text: None,
            bases={"R-1": Base()},
        )
    )
    await clock.advance(10.0)
    assert done == ["reboot"]
    assert [what for _, what in radio.done] == ["V TE99ABC R1", "plug", "status 0"]
    await task


async def test_steps_happen_at_their_times(tmp_path: Path) -> None:
    """The play follows the clock: each step at its second, captions with the steps."""
    path = tmp_path / "play.toml"
    path.write_text("repeat_every_s = 60.0\n" + GOOD, "utf-8")
    scenario, clock, pnc = scenarios.load(str(path)), FakeClock(), Faults()
    radio, captions = Recorded(clock), list[str]()
    task = asyncio.create_task(
        scenarios.play(
            scenario, {"E-101": radio}, clock=clock, seed=1, caption=captions.append, pnc=pnc
        )
    )
    await clock.advance(2.0)
    assert pnc.fault is None
    await clock.advance(60.0)
    assert pnc.fault == "slow"
    assert radio.done == [
        (1.0, "V TE99ABC R1"),
        (3.0, "unplug"),
        (4.0, "plug"),
        (5.0, "status 0"),
        (61.0, "V TE99ABC R1"),
    ]
    assert captions == ["one", "last", "one"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_screen_is_of_the_question_that_a_step_asked() -> None:
    """Everyday checks between the question and the look at the radio change nothing; an actor that
    no step made ask has nothing on its screen."""
    step = scenarios.Step
    play = scenarios.Scenario(
        title="t",
        actors=(),
        steps=(
            step(at_s=1.0, actor="E-101", action="check", text="V TE99ABC R1"),
            step(at_s=3.0, actor="E-101", action="screen"),
            step(at_s=3.0, actor="N-201", action="screen"),
        ),
    )
    clock, shown = FakeClock(), list[tuple[str, list[str]]]()
    radios = {name: Recorded(clock, name) for name in ("E-101", "N-201")}
    task = asyncio.create_task(
        scenarios.play(
            play,
            radios,
            clock=clock,
            seed=1,
            caption=lambda _text: None,
            screen=lambda name, parts: shown.append((name, list(parts))),
        )
    )
    await clock.advance(2.0)
    radios["E-101"].handset.exchanges[-1].pages = {1: "!!STOLEN", 2: "TAX Y"}
    radios["E-101"].ask("V TE99AAA R1")
    await clock.advance(2.0)
    assert shown == [("E-101", ["!!STOLEN", "TAX Y"]), ("N-201", [])]
    await task


async def test_background_is_seeded_and_spares_the_quiet() -> None:
    """Same seed, same everyday checks; who is quiet or unplugged asks nothing; each by its role."""
    scenario = scenarios.load("demo")
    runs = []
    for _ in range(2):
        clock = FakeClock()
        radios = {a.callsign: Recorded(clock, a.callsign) for a in scenario.actors}
        radios["E-101"].unplug()
        task = asyncio.create_task(
            scenarios._background(scenario, scenario.background, radios, clock, seed=7)  # type: ignore[arg-type]
        )
        await clock.advance(300.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        runs.append({name: radio.done for name, radio in radios.items()})
    assert runs[0] == runs[1]
    assert runs[0]["S-302"] == []
    assert runs[0]["E-101"] == [(0.0, "unplug")]
    assert sum(len(done) for done in runs[0].values()) > 60
    assert {text for _, text in runs[0]["S-305"]} <= set(
        scenario.background.others["S-305"] if scenario.background else ()
    )
