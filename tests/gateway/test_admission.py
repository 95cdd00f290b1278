"""Who is let in at all: booked, trained, by a rule; each by itself, and in the core."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from gateway import admission
from gateway.admission import Rules, decide
from gateway.messages import (
    AlarmChanged,
    Asker,
    DriverKey,
    Key,
    Level,
    Outcome,
    PersonKey,
    PropertyKey,
    UnitMeta,
    VehicleKey,
)
from gateway.rulebook import Policy, Reason
from tests.fake_pnc import Hang
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder, unbooked
from tests.gateway.strategies import (
    FLEET,
    PEOPLE,
    POLICY,
    WARNINGS,
    ask,
    asker,
    askers,
    held_by,
    roster,
)

NORA = PersonKey("TESTER", "NORA", "1970-01-01", sex="F")
NOON_MS = 1_795_348_800_000
"""2026-11-22 12:00 UTC, and in London."""
DAY_MS = 86_400_000


def rules(policy: Policy = POLICY) -> Rules:
    return Rules(
        policy=policy, warnings=WARNINGS, roster=roster(), budgets={}, zone="Europe/London"
    )


def changed(**more: object) -> Policy:
    made: Policy = msgspec.structs.replace(POLICY, **more)
    return made


def test_whoever_is_booked_and_trained_gets_what_the_policy_says() -> None:
    admitted = decide(rules(), asker("constable"), ask(NORA), now_ms=NOON_MS)
    assert (admitted.decision.allowed, admitted.decision.level) == (True, Level.L3)
    assert admitted.cause == ""
    denied = decide(rules(), asker("constable"), ask(NORA, reason="0"), now_ms=NOON_MS)
    assert denied.cause == denied.decision.why == "REASON NOT FOR YOU"


def test_a_radio_that_nobody_holds_is_admitted_by_no_rule() -> None:
    """Not even by one that names no role: nobody is not a role."""
    nobody = roster(people=held_by(PEOPLE, ISSI)).nobody(ISSI)
    assert nobody is not None
    open_to_all = tuple(msgspec.structs.replace(rule, role="") for rule in POLICY.rules)
    refused = decide(rules(changed(rules=open_to_all)), nobody, ask(NORA), now_ms=NOON_MS)
    assert not refused.decision.allowed
    assert (refused.cause, refused.decision.level) == (admission.NOT_BOOKED, Level.L0)
    assert refused.decision.fields == frozenset()


KEYS: tuple[Key, ...] = (
    NORA,
    VehicleKey(vrm="TE99ABC"),
    DriverKey(driver_no="TESTE802020C99AA"),
    PropertyKey(type="BIKE", serial="TSTBIKE001"),
)


def with_crew(lead: Asker, *others: Asker) -> Asker:
    return msgspec.structs.replace(lead, crew=tuple(each.officer for each in others))


def test_two_aboard_see_no_more_than_each_of_them() -> None:
    """Every two officers of the sample, whoever leads, each kind and reason."""
    both = set()
    for lead, second in itertools.permutations(askers(), 2):
        for key, reason in itertools.product(KEYS, POLICY.reasons):
            request = ask(key, reason=reason)
            found = decide(rules(), with_crew(lead, second), request, now_ms=NOON_MS)
            alone = [decide(rules(), who, request, now_ms=NOON_MS) for who in (lead, second)]
            assert found.decision.allowed == all(each.decision.allowed for each in alone)
            if not found.decision.allowed:
                assert found.cause == alone[0].cause or found.cause == admission.CREW_MAY_NOT
                continue
            assert found.decision.level == min(each.decision.level for each in alone)
            assert found.decision.fields == alone[0].decision.fields & alone[1].decision.fields
            assert found.decision.hold == any(each.decision.hold for each in alone)
            both.add((lead.role, second.role, alone[0].decision.level, found.decision.level))
    assert any(alone > least for _, _, alone, least in both), "nobody saw less for the other"


def test_who_left_the_people_or_whose_training_is_over_lowers_it_to_nothing() -> None:
    lead, second = asker("constable"), asker("sergeant")
    stranger = msgspec.structs.replace(second, officer="NOBODY")
    found = decide(rules(), with_crew(lead, stranger), ask(NORA), now_ms=NOON_MS)
    assert (found.decision.allowed, found.cause) == (False, admission.CREW_MAY_NOT)
    people = msgspec.structs.replace(
        PEOPLE,
        officers=tuple(
            msgspec.structs.replace(each, accredited_until="2020-01-01")
            if each.collar == second.officer
            else each
            for each in PEOPLE.officers
        ),
    )
    late = msgspec.structs.replace(rules(), roster=roster(people=people))
    found = decide(late, with_crew(lead, second), ask(NORA), now_ms=NOON_MS)
    assert found.cause == admission.CREW_MAY_NOT


def test_the_policy_may_let_the_lead_decide() -> None:
    lead, second = asker("constable"), asker("pcso")
    alone = decide(rules(), lead, ask(NORA), now_ms=NOON_MS)
    found = decide(rules(changed(crew="lead")), with_crew(lead, second), ask(NORA), now_ms=NOON_MS)
    assert found == alone


@pytest.mark.parametrize(
    ("until", "days", "allowed"),
    [
        ("", 4000, True),
        ("2026-11-22", 0, True),
        ("2026-11-22", 1, False),
        ("2026-11-23", 0, True),
        ("2025-12-31", 0, False),
    ],
)
def test_training_holds_to_the_end_of_its_last_day(until: str, days: int, allowed: bool) -> None:
    """In the time of the place; 23:59 of that day still counts, 00:00 of the next does not."""
    who = msgspec.structs.replace(asker("constable"), accredited_until=until)
    for at_ms in (NOON_MS, NOON_MS + DAY_MS // 2 - 1, NOON_MS - DAY_MS // 2):
        found = decide(rules(), who, ask(NORA), now_ms=at_ms + days * DAY_MS)
        assert found.decision.allowed is allowed
        assert found.cause == ("" if allowed else admission.TRAINING_EXPIRED)


def test_a_reason_that_is_no_more_on_the_active_list() -> None:
    """Its rules stand, nobody may give it."""
    reasons = {**POLICY.reasons, "1": Reason(label=POLICY.reasons["1"].label, active=False)}
    for reason, cause in (("1", "REASON NOT ON LIST"), ("2", ""), ("77", "REASON NOT ON LIST")):
        found = decide(
            rules(changed(reasons=reasons)),
            asker("constable"),
            ask(NORA, reason=reason),
            now_ms=NOON_MS,
        )
        assert found.cause == cause


def test_a_rule_on_request_counts_for_who_asks_for_everything() -> None:
    """Alone it admits nobody else; beside another it adds what that one does not show."""
    full = tuple(msgspec.structs.replace(r, on_request=r.level is Level.L4) for r in POLICY.rules)
    for wanted, level in ((False, Level.L3), (True, Level.L4)):
        found = decide(
            rules(changed(rules=full)),
            asker("constable"),
            ask(NORA, full=wanted),
            now_ms=NOON_MS,
        )
        assert (found.decision.allowed, found.decision.level) == (True, level)
    alone = tuple(rule for rule in full if rule.level is Level.L4)
    for wanted in (False, True):
        found = decide(
            rules(changed(rules=alone)), asker("sergeant"), ask(NORA, full=wanted), now_ms=NOON_MS
        )
        assert found.decision.allowed is wanted


# --------------------------------------------------------------------------- in the core


async def test_a_radio_without_a_holder_asks_nothing() -> None:
    """Refused, on record as nobody's, told; the PNC hears nothing, and not even what was asked is
    said back to whoever has the radio. With a holder it is served again."""
    async with House(unbooked(config())) as house:
        said = await house.ask("TE99ABC")
        assert (said.settled, house.pnc.asked) == (1, [])
        assert [(r.accepted, r.why) for r in house.receipts] == [(False, "NOT BOOKED")]
        (told,) = house.results
        assert (told.outcome, told.why, told.level) == (Outcome.REFUSED, "NOT BOOKED", "")
        assert "TE99ABC" not in str(told)
        (refused,) = house.on_record("denied")
        assert (refused.officer, refused.agency, refused.role) == ("", "police", "")
        await house.ask("TE99ABC", issi=OTHER)
        assert len(house.pnc.asked) == 1
        house.core.apply(config())
        await house.ask("TE99ABD")
        assert house.results[-1].outcome is Outcome.ANSWERED


async def test_a_radio_without_a_holder_still_calls_for_help() -> None:
    """Emergency, status and position are the radio's: they need no officer."""
    async with House(unbooked(config())) as house:
        await house.status(6)
        await house.status(0)
        raised = [e for e in house.events if isinstance(e, AlarmChanged) and e.terminal == ISSI]
        assert [alarm.rule for alarm in raised][:1] == ["EMG"]
        shown = [e for e in house.events if isinstance(e, UnitMeta) and e.terminal == ISSI]
        assert (shown[-1].status, shown[-1].booked) == ("BSY", False)


@pytest.mark.parametrize("how", ["unbooked", "revoked", "another"])
async def test_what_waits_is_never_delivered_once_its_holder_is_gone(how: str) -> None:
    """Its radio given away, its officer revoked: the answer goes stale undelivered."""
    async with House() as house:
        house.link.failing = True
        await house.ask("TE99ABC")
        check = house.newest()
        revoked = held_by(PEOPLE, ISSI, revoked=True)
        new = {
            "unbooked": unbooked(house.config),
            "revoked": msgspec.structs.replace(house.config, people=revoked),
            "another": other_holder(house.config),
        }[how]
        house.core.apply(new)
        await settle()
        house.link.failing = False
        await house.passes(30.0)
        assert house.results == []
        assert [record.event for record in house.on_record("stale", check)] == ["stale"]


async def test_training_that_ends_while_the_answer_is_under_way_loses_no_answer() -> None:
    """It counts when the question is asked: a midnight takes no danger word off a screen."""
    async with House() as house:
        day = admission._day(house.clock.wall_ms(), "Europe/London")
        ends = held_by(PEOPLE, ISSI, accredited_until=day)
        house.core.apply(msgspec.structs.replace(house.config, people=ends))
        hang = Hang()
        house.pnc.script.append(hang)
        await house.ask("TE99ABC")
        house.clock.step_wall(DAY_MS)
        hang.answer()
        await settle()
        assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
        await house.ask("TE99ABD")
        assert house.receipts[-1].why == admission.TRAINING_EXPIRED
    assert {each.issi for each in FLEET.terminals} > {ISSI}
