"""Who an operator is now, and what their roles let them see."""

from __future__ import annotations

import msgspec
import pytest

from gateway.messages import AlarmChanged
from gateway.operators import Operators, actor_of, stand
from gateway.projection import Projection, viewer_of
from gateway.roster import Roster
from gateway.rulebook import ConsoleRule, Operator
from tests.gateway.house import CONFIG
from tests.gateway.strategies import PEOPLE, POLICY

ANN = Operator(id="ann", name="Ann", roles=("operator", "auditor"), areas=("Eastern",))
BOB = Operator(id="bob", roles=("supervisor",), subject="sub-bob")
GONE = Operator(id="gone", roles=("supervisor",), subject="sub-gone", revoked=True)
PEOPLE_NOW = msgspec.structs.replace(PEOPLE, operators=(ANN, BOB, GONE))
POLICY_NOW = msgspec.structs.replace(
    POLICY,
    console=(
        ConsoleRule(role="operator", rights=("class",)),
        ConsoleRule(role="auditor", rights=("emergency",)),
    ),
)
NOW = Operators(PEOPLE_NOW)


def test_who_is_revoked_or_unknown_is_nobody() -> None:
    assert NOW.known("ann") is ANN
    assert NOW.of_subject("sub-bob") is BOB
    for id_ in ("gone", "eve", ""):
        assert NOW.known(id_) is None
    for subject in ("sub-gone", "sub-eve", ""):
        assert NOW.of_subject(subject) is None


def test_they_act_in_the_roles_they_logged_in_with_and_still_have() -> None:
    actor = actor_of(ANN, frozenset({"operator", "supervisor"}))
    assert (actor.id, actor.roles, actor.areas) == ("ann", {"operator"}, {"Eastern"})


@pytest.mark.parametrize(
    ("roles", "seen"),
    [
        ((), (False, False)),
        (("operator",), (True, False)),
        (("auditor",), (False, True)),
        (("operator", "auditor"), (True, True)),
        (("supervisor",), (False, False)),
    ],
)
def test_they_see_what_the_policy_says_and_else_nothing(
    roles: tuple[str, ...], seen: tuple[bool, ...]
) -> None:
    """A role that stands in no rule sees nothing: default deny."""
    viewer = viewer_of(actor_of(Operator(id="x", roles=roles, agency="fire"), frozenset(roles)))
    assert (viewer.rights, viewer.roles, viewer.agency) == (frozenset(), frozenset(roles), "fire")
    show = Projection(Roster(CONFIG.fleet, CONFIG.people, CONFIG.areas), lambda: POLICY_NOW)
    alarms = [AlarmChanged("A1", rule, 1, "unack-active", 1, 1) for rule in ("DNR", "EMG")]
    told = [show(viewer, alarm) is not None for alarm in alarms]
    assert told == [*seen]


@pytest.mark.parametrize(
    "changes", [{"roles": ("operator",)}, {"areas": ()}, {"password": "$argon2id$x"}, {"name": "A"}]
)
def test_any_change_of_an_entry_is_another_stand(changes: dict[str, object]) -> None:
    assert stand(msgspec.structs.replace(ANN, **changes)) != stand(ANN)
    assert stand(msgspec.structs.replace(ANN)) == stand(ANN)
