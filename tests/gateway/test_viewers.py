"""Who is shown what of whom: by role, area and agency, as the policy of the moment says.

One roster, one policy and one event at a time; what each right shows: test_projection.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.relays.mqtt_feed import Feed
from gateway.messages import (
    RIGHTS,
    Actor,
    AlarmChanged,
    CheckDone,
    Event,
    FixSource,
    Kind,
    LinkChanged,
    LinkState,
    LocationFix,
    Outcome,
    UnitEmergency,
    UnitFix,
    UnitMeta,
    Viewer,
)
from gateway.projection import EVENT_FIELDS, HISTORY, Projection, viewer_of, visible
from gateway.roster import Roster
from gateway.rulebook import ConsoleRule, Policy
from gateway.settings import BrokerSection
from tests.fakes import FakeJournal, FakeMeter
from tests.gateway.house import CONFIG, House, config

EAST, NORTH, COUNCIL = "5001001", "5001005", "5001008"
"""Police in Eastern and in Northern; the council in Northern."""


def policy(*rules: ConsoleRule) -> Policy:
    return msgspec.structs.replace(CONFIG.policy, console=rules)


def projection(*rules: ConsoleRule) -> Projection:
    one = policy(*rules)
    return Projection(Roster(CONFIG.fleet, CONFIG.people, CONFIG.areas), lambda: one)


def person(role: str, *areas: str, agency: str = "") -> Viewer:
    return viewer_of(Actor(id="p", roles=frozenset({role}), areas=frozenset(areas), agency=agency))


def fix(terminal: str) -> UnitFix:
    return UnitFix(
        terminal=terminal,
        lat=52.5725,
        lon=-0.2431,
        fixed_at_ms=1,
        received_at_ms=2,
        accuracy_m=8.0,
        course_deg=90.0,
        speed_mps=1.2,
        source=FixSource.GNSS,
    )


def meta(terminal: str) -> UnitMeta:
    return UnitMeta(terminal, "S-1", "police", "Eastern", "handheld", "BSY", 1, booked=True)


def done(terminal: str, **changes: Any) -> CheckDone:
    event = CheckDone(
        short="C7F3",
        check="01X",
        terminal=terminal,
        kind=Kind.VEHICLE,
        outcome=Outcome.ANSWERED,
        result_class="HIT_STOLEN",
        danger=("STOLEN",),
        parts=1,
        not_checked=(),
        level="L4",
        t_ms=1,
        elapsed_s=0.1,
        overhead_s=0.01,
    )
    return msgspec.structs.replace(event, **changes)


LOOKS = ("class", "callsign", "position", "identity", "emergency")


@pytest.mark.parametrize("other", ["full", "dot", "count", "none"])
def test_another_area_is_shown_as_the_rule_says(other: str) -> None:
    show = projection(ConsoleRule(role="operator", rights=LOOKS, other_areas=other))
    operator = person("operator", "Eastern")
    assert show(operator, fix(EAST)) == fix(EAST)
    assert show(operator, done(EAST)) == done(EAST)
    far, far_meta, far_done = (show(operator, each(NORTH)) for each in (fix, meta, done))
    counted = show.counts(operator, meta(NORTH))
    if other == "full":
        assert (far, far_meta, far_done) == (fix(NORTH), meta(NORTH), done(NORTH))
        return
    assert far_done is None
    assert counted == (other != "none")
    if other != "dot":
        assert (far, far_meta) == (None, None)
        return
    assert isinstance(far, UnitFix)
    assert (far.lat, far.lon, far.course_deg, far.speed_mps) == (52.5725, -0.2431, None, None)
    assert isinstance(far_meta, UnitMeta)
    assert (far_meta.callsign, far_meta.agency, far_meta.status, far_meta.booked) == (
        "",
        "",
        "",
        False,
    )


def test_who_has_no_areas_has_all_of_them() -> None:
    show = projection(ConsoleRule(role="operator", rights=LOOKS))
    assert show(person("operator"), done(NORTH)) == done(NORTH)


def test_another_agency_is_another_area_if_the_rule_says_so() -> None:
    """A partner's console is for its own officers; a force's for whoever carries its radios."""
    show = projection(
        ConsoleRule(role="partner", rights=LOOKS, own_agency=True),
        ConsoleRule(role="operator", rights=LOOKS),
    )
    partner, force = person("partner", agency="council"), person("operator", agency="police")
    assert show(partner, done(COUNCIL)) == done(COUNCIL)
    assert show(partner, done(NORTH)) is None
    assert show(force, done(COUNCIL)) == done(COUNCIL)


def test_a_call_for_help_knows_no_area() -> None:
    show = projection(
        ConsoleRule(role="operator", rights=LOOKS),
        ConsoleRule(role="partner", rights=LOOKS, own_agency=True),
    )
    call = UnitEmergency(terminal=NORTH, occurrence="O1", on=True, t_ms=1)
    alarm = AlarmChanged("A1", "EMG", 1, "unack-active", 1, 1, terminal=NORTH)
    undelivered = msgspec.structs.replace(alarm, rule="DNR")
    operator = person("operator", "Eastern")
    assert show(operator, call) == call
    assert show(operator, alarm) == alarm
    assert show(operator, undelivered) is None
    assert show(person("partner", agency="council"), call) is None


def test_a_role_that_stands_in_no_rule_is_shown_nothing_of_anybody() -> None:
    show = projection(ConsoleRule(role="operator", rights=LOOKS, other_areas="full"))
    for event in (fix(EAST), meta(EAST), done(EAST), UnitEmergency(EAST, "O1", True, 1)):
        assert show(person("cleaner"), event) is None
    assert not show.counts(person("cleaner"), meta(EAST))


def test_several_roles_see_what_each_may() -> None:
    show = projection(
        ConsoleRule(role="a", rights=("class", "identity")),
        ConsoleRule(role="b", rights=("position",)),
    )
    both = viewer_of(Actor(id="p", roles=frozenset({"a", "b"})))
    assert show(both, fix(EAST)) == fix(EAST)
    assert show(both, done(EAST)) == done(EAST)


def test_what_belongs_to_no_unit_is_everybodys() -> None:
    show = projection(ConsoleRule(role="operator", rights=()))
    link = LinkChanged("mqtt", "mqtt", LinkState.UP, 1)
    assert show(person("operator", "Eastern"), link) == link


def test_a_unit_that_left_is_told_to_whoever_saw_it() -> None:
    """It is in no roster by then, and the word is of nothing but that it left."""
    show = projection(ConsoleRule(role="operator", rights=("identity",)))
    gone = UnitMeta("7777777", "", "", "", "", "OFF", 1, gone=True)
    assert show(person("operator", "Eastern"), gone) == gone
    assert show(person("operator", "Eastern"), meta("7777777")) is None


EVENTS = st.sampled_from(
    [
        *(make(unit) for make in (fix, meta, done) for unit in (EAST, NORTH, COUNCIL)),
        UnitEmergency(EAST, "O1", True, 1, lat=52.5, lon=-0.2, fix_age_s=1.0),
        *(
            AlarmChanged("A1", rule, 1, "unack-active", 1, 1, terminal=NORTH, audience=audience)
            for rule in ("EMG", "DNR", "COV", "LNK")
            for audience in ("operator", "supervisor")
        ),
    ]
)
CONSOLE_RULES = st.lists(
    st.builds(
        ConsoleRule,
        role=st.sampled_from(["a", "b", "c"]),
        rights=st.lists(st.sampled_from(RIGHTS), unique=True).map(tuple),
        other_areas=st.sampled_from(["full", "dot", "count", "none"]),
        own_agency=st.booleans(),
    ),
    unique_by=lambda rule: rule.role,
    max_size=3,
)
SUBSETS = st.frozensets(st.sampled_from(["a", "b", "c"]))


@given(
    rules=CONSOLE_RULES,
    roles=SUBSETS,
    event=EVENTS,
    areas=st.frozensets(st.sampled_from(CONFIG.areas.areas)),
    agency=st.sampled_from(["", "police", "council"]),
)
def test_nobody_is_shown_more_than_their_rules_name(
    rules: list[ConsoleRule],
    roles: frozenset[str],
    event: Event,
    areas: frozenset[str],
    agency: str,
) -> None:
    """Never more than with all the rights of all their rules everywhere; and nothing of a field
    that none of those rights shows."""
    viewer = Viewer("v", "v", roles=roles, areas=areas, agency=agency)
    shown = projection(*rules)(viewer, event)
    rights = frozenset(r for rule in rules if rule.role in roles for r in rule.rights)
    most = visible(Viewer("v", "v", rights), event)
    if shown is None:
        return
    assert most is not None
    entry = EVENT_FIELDS[type(event)]
    allowed = entry.free.union(*(entry.by_right[r] for r in rights & entry.by_right.keys()))
    for field in event.__struct_fields__:
        value = getattr(shown, field)
        if field in allowed:
            assert value in (getattr(event, field), getattr(most, field)) or not value
        else:
            assert not value


# --------------------------------------------------------------------------- in the house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


async def test_the_policy_of_the_moment_decides(house: House) -> None:
    """A right that is taken from a role at this moment shows nothing any more at the next one, not
    even of what had come before; and the same subscription goes on."""
    operator = viewer_of(Actor(id="p", roles=frozenset({"operator"})))
    stream = house.core.bus.subscribe(operator)
    house.core.bus.publish(done(EAST))
    (_, before), *_ = (await stream.next(0)).events
    assert before == done(EAST)
    house.core.bus.publish(done(EAST))
    poorer = policy(ConsoleRule(role="operator", rights=("identity",)))
    house.core.apply(msgspec.structs.replace(house.config, policy=poorer))
    assert (await stream.next(0)).reset == "policy"
    house.core.bus.publish(done(EAST))
    told = [each for _, each in (await stream.next(0)).events if isinstance(each, CheckDone)]
    assert [(each.result_class, each.danger) for each in told] == [("", ())]
    assert house.core.board.snapshot(operator).units


async def test_the_picture_of_one_area_is_of_that_area(house: House) -> None:
    """Snapshot: others as grey dots, and without what a dot does not tell."""
    at = LocationFix(lat=52.5725, lon=-0.2431, fixed_at_ms=house.clock.wall_ms())
    for unit in (EAST, NORTH):
        house.say(at, issi=unit)
    await house.ask("TE99ABC", issi=NORTH)
    snapshot = house.core.board.snapshot(
        viewer_of(Actor(id="p", roles=frozenset({"operator"}), areas=frozenset({"Eastern"})))
    )
    rows = {unit.meta.terminal: unit for unit in snapshot.units}
    assert rows[EAST].meta.callsign
    assert rows[EAST].contact_ms is not None
    assert (rows[NORTH].meta.callsign, rows[NORTH].contact_ms) == ("", None)
    assert rows[NORTH].fix is not None
    assert snapshot.checks == ()
    # Figures of an area are no more than what its units show.
    assert snapshot.counts["on_duty"]["Northern"] > 0


def test_a_planted_field_goes_out_by_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream, snapshot, history and feed: a member that somebody adds to an event is on none."""
    secret = "TE99STV"

    class Planted(CheckDone, frozen=True):
        added: str = ""

    monkeypatch.setitem(EVENT_FIELDS, Planted, EVENT_FIELDS[CheckDone])
    planted = Planted(**msgspec.structs.asdict(done(EAST)), added=secret)

    async def doors() -> dict[str, str]:
        async with House(config()) as house:
            bus, kept = house.core.bus, []
            bus.tap(kept.append, HISTORY)
            everything = Viewer("v", "v", frozenset(RIGHTS))
            feed = Feed(
                BrokerSection(name="mqtt", port=1),
                instance="gwt",
                exercise=True,
                config_path=Path("/x"),
                bus=bus,
                present=house.core.present,
                clock=house.clock,
                meter=FakeMeter(),
                journal=FakeJournal(),
            )
            stream = bus.subscribe(everything, encode=lambda e, _s, _p: msgspec.json.encode(e))
            await house.ask("TE99ABC", issi=EAST)
            mine = msgspec.structs.replace(planted, check=house.newest())
            bus.publish(mine)
            batch = await stream.next(0)
            picture = house.core.board.snapshot(everything)
            return {
                "stream": str((batch.events, batch.wire)),
                "snapshot": str(picture),
                "history": str(kept),
                "feed": str(feed._message_of(mine)),
            }

    for door, said in asyncio.run(doors()).items():
        assert "C7F3" in said, door
        assert secret not in said, door
