"""The invariants of the disclosure matrix (pnc-domain reference, 14), by their numbers.

One test each, through the whole core or the whole sample policy; what goes deeper stands beside:
test_policy.py (1, 2, 3, 8 for random answers), test_disclosure_pairs.py (2, 8 by the byte and the
moment), test_covert.py (5), test_assisted.py (6), test_releases.py (7).
"""

from __future__ import annotations

import msgspec
import pytest

from gateway import policy, results
from gateway.messages import (
    RIGHTS,
    Actor,
    CheckRequest,
    Circulation,
    Level,
    PersonKey,
    PersonRecord,
    PncAnswer,
    Result,
    Viewer,
)
from gateway.policy import Decision
from gateway.projection import HISTORY
from tests.gateway.house import ISSI, House, config
from tests.gateway.strategies import COVERT, POLICY, WARNINGS, answer, person, signals
from tests.gateway.test_assisted import ANN, asks
from tests.gateway.test_below_l3 import COUNCIL, in_slots
from tests.gateway.test_checks import with_rule

NORA = PersonKey(surname="TESTER", forenames="NORA", dob="1970-01-01")
WANTED = Circulation(kind="WANTED_ARREST", owner="35NB")
VIOLENT = person(warnings=signals("VI"))
ARREST = person(circulations=(WANTED,))
PLAIN = person()


def decided() -> list[Decision]:
    """What each rule of the sample policy that answers anything decides."""
    return [
        Decision(True, rule.level, fields=frozenset(rule.fields or POLICY.levels[rule.level.value]))
        for rule in POLICY.rules
        if rule.level is not Level.L0
    ]


async def read_by(house: House, said: PncAnswer, issi: str = COUNCIL) -> bytes:
    """What the terminal gets to read of this answer, without what names the one check."""
    house.pnc.always = lambda query: msgspec.structs.replace(
        said, check=query.check, attempt=query.attempt, key_text=query.key_text
    )
    question = house.question(reason="8" if issi == COUNCIL else "1")
    house.say(msgspec.structs.replace(question, key=NORA), issi=issi)
    await house.passes(30)
    (result,) = house.heard(Result, issi)[-1:]
    plain = msgspec.structs.replace(
        result,
        ref="",
        check="",
        short="",
        receipt="",
        pages=tuple(text.replace(result.short, "XXXX") for text in result.pages),
        texts=tuple(text.replace(result.short, "XXXX") for text in result.texts),
    )
    return msgspec.json.encode(plain)


def test_1_safety_beats_silence() -> None:
    """No role of the sample reads CLEAR of a critical signal or an arrest circulation."""
    request = CheckRequest(key=NORA, reason="1")
    for decision in decided():
        for grave in (person(warnings=signals("FI")), VIOLENT, ARREST):
            view = policy.project(POLICY, decision, request, answer(grave), WARNINGS)
            assert view.tier not in {"", results.CLEAR}
            assert view.dangers


async def test_2_a_lower_level_is_a_function_of_its_own_inputs() -> None:
    """Violent and wanted, both CAUTION+: the same bytes, pages and length, as of the question."""
    async with House(in_slots()) as house:
        violent = await read_by(house, answer(VIOLENT))
    async with House(in_slots()) as house:
        wanted = await read_by(house, answer(ARREST))
    assert violent == wanted
    assert b"CAUTION+" in violent


def test_3_a_field_that_the_host_adds_is_shown_to_nobody() -> None:
    """Nor in any view of any rule; but an unknown warning code is a danger, never dropped."""

    class Tomorrow(PersonRecord, frozen=True, tag="person"):
        informant: str = ""

    added = Tomorrow(**msgspec.structs.asdict(PLAIN), informant="THE NEIGHBOUR")
    request = CheckRequest(key=NORA, reason="1")
    for decision in decided():
        view = policy.project(POLICY, decision, request, answer(added), WARNINGS)
        assert "NEIGHBOUR" not in str(view)
        unknown = answer(person(warnings=signals("ZZ")))
        view = policy.project(POLICY, decision, request, unknown, WARNINGS)
        assert view.tier == "CAUTION"
        below = decision.level.value < "L3"
        assert below or WARNINGS.unknown.word in [word.text for word in view.dangers]


async def test_4_a_denial_is_itself_on_record() -> None:
    """And nothing was asked."""
    async with House() as house:
        await house.ask("TE99ABC", issi="5001014", reason="8")
        assert house.pnc.asked == []
        refused = [r for r in house.disk.records if r.outcome == "refused"]
        assert len(refused) == 1
        assert refused[0].officer


@pytest.mark.parametrize("issi", [COUNCIL, ISSI])
async def test_5_what_is_covert_reaches_nobody(issi: str) -> None:
    """Neither a radio nor the general feed, nor what is kept to look back: with it and without it
    all of them get the same, and only who has the right to covert something more."""
    shown: list[dict[str, object]] = []
    for said in (answer(PLAIN), answer(person(circulations=(COVERT,)))):
        async with House(in_slots()) as house:
            seen: dict[str, list[object]] = {name: [] for name in ("relay", "operator", "history")}
            for name in ("relay", "operator"):
                viewer = Viewer(name, "v", roles=frozenset({name}))
                house.core.bus.tap(seen[name].append, viewer)
            house.core.bus.tap(seen["history"].append, HISTORY)
            told: list[object] = []
            house.core.bus.tap(told.append, Viewer("s", "v", roles=frozenset({"supervisor"})))
            radio = await read_by(house, said, issi)
            picture = house.core.board.snapshot(Viewer("o", "v", frozenset(RIGHTS) - {"covert"}))
            shown.append(
                {"radio": radio, "journal": house.journal.lines, "picture": picture.checks, **seen}
            )
            assert ("COV" in str(told)) == (len(shown) == 2)
    assert shown[0] == shown[1]


async def test_6_two_roles_are_two_disclosures_and_one_consultation() -> None:
    """An operator asks for an officer: each reads at their own level."""
    async with House() as house:
        asked = await asks(house, COUNCIL)
        await house.core.assisted.read(asked.check, ANN)
        assert len(house.pnc.asked) == 1
        consulted = [record for record in house.on_record("asked") if record.source == "PNC"]
        assert len(consulted) == 1
        (told,), (shown,) = house.on_record("disclosed"), house.on_record("shown")
        assert (told.level, shown.level) == ("L2", "L4")


async def test_7_a_release_says_who_what_and_when() -> None:
    """Before anything is sent."""
    async with House(with_rule(config(), hold=True)) as house:
        await house.ask("TE99STV")
        assert house.results == []
        actor = Actor(id="ann", name="Ann", roles=frozenset({"operator"}))
        at_ms = house.clock.wall_ms()
        await house.core.releases.rule(house.newest(), actor, "release")
        await house.passes(0.1)
        (record,) = house.on_record("released")
        assert (record.operator, record.level) == ("ann", "L4")
        assert record.at_ms >= at_ms
        assert house.story.index("released+disclosed") < house.story.index("sent result")


async def test_8_nothing_below_l3_tells_that_somebody_is_on_record() -> None:
    """CLEAR is the same bytes for no trace, for a trace of nothing that matters, and for one who is
    on record with much that does not matter either."""
    much = person(markers=("DRUGS", "THEFT"), offences=("THEFT 2019",))
    read = []
    for records in ((), (PLAIN,), (much,)):
        async with House(in_slots()) as house:
            read.append(await read_by(house, answer(*records)))
    assert read[0] == read[1] == read[2]
    assert b"CLEAR" in read[0]
