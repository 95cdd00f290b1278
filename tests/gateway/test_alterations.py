"""What a reload puts on record: each change by itself, nothing secret, before it holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.alterations import Alteration, alterations
from gateway.messages import Level
from gateway.rulebook import Operator, Reason
from gateway.settings import Config
from tests.gateway.house import CONFIG, House

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$SALTSALTSALTSALTSALTSA$HASHHASH"


def with_(config: Config = CONFIG, /, **files: dict[str, Any]) -> Config:
    """The sample with these members of these files."""
    made = {
        name: msgspec.structs.replace(getattr(config, name), **members)
        for name, members in files.items()
    }
    return msgspec.structs.replace(config, **made)


def first(entries: tuple[Any, ...], **changes: object) -> tuple[Any, ...]:
    return (msgspec.structs.replace(entries[0], **changes), *entries[1:])


OFFICERS, TERMINALS = CONFIG.people.officers, CONFIG.fleet.terminals
RULES, REASONS = CONFIG.policy.rules, CONFIG.policy.reasons
CODES = CONFIG.warnings.codes


@pytest.mark.parametrize(
    ("after", "operation", "subject", "detail"),
    [
        (with_(people={"officers": OFFICERS[1:]}), "officer.removed", "1001", ""),
        (
            with_(people={"officers": first(OFFICERS, revoked=True)}),
            "officer.revoked",
            "1001",
            "revoked False -> True",
        ),
        (
            with_(people={"officers": first(OFFICERS, role="sergeant", factor=SECRET)}),
            "officer.changed",
            "1001",
            "role constable -> sergeant; factor",
        ),
        (
            with_(people={"officers": first(OFFICERS, surname="SYNTHA")}),
            "officer.changed",
            "1001",
            "surname",
        ),
        (
            with_(people={"standing": CONFIG.people.standing[1:]}),
            "standing.removed",
            "5001001",
            "",
        ),
        (
            with_(people={"operators": (Operator(id="op1", name="TESTER", roles=("operator",)),)}),
            "operator.added",
            "op1",
            "roles operator",
        ),
        (
            with_(fleet={"terminals": first(TERMINALS, revoked=True)}),
            "terminal.revoked",
            "5001001",
            "revoked False -> True",
        ),
        (
            with_(fleet={"terminals": first(TERMINALS, area="Southern")}),
            "terminal.changed",
            "5001001",
            "area Eastern -> Southern",
        ),
        (
            with_(policy={"rules": first(RULES, level=Level.L0)}),
            "rule.changed",
            None,
            "level ",
        ),
        (with_(policy={"rules": RULES[1:]}), None, None, ""),
        (
            with_(policy={"reasons": {**REASONS, "77": Reason(label="NEW")}}),
            "reason.added",
            "77",
            "label NEW",
        ),
        (with_(policy={"crew": "lead"}), "policy.changed", "crew", "lowest -> lead"),
        (
            with_(
                warnings={
                    "codes": {**CODES, "FI": msgspec.structs.replace(CODES["FI"], tier="CAUTION")}
                }
            ),
            "warning.changed",
            "FI",
            "tier WITHDRAW -> CAUTION",
        ),
    ],
)
def test_each_change_is_one_line(
    after: Config, operation: str | None, subject: str | None, detail: str
) -> None:
    found = alterations(CONFIG, after)
    assert found
    if operation is None:
        return
    (line,) = found
    assert line.operation == operation
    assert subject in (None, line.subject)
    assert line.detail.startswith(detail), line.detail


def test_an_edition_alone_alters_nothing() -> None:
    assert alterations(CONFIG, CONFIG) == []
    assert alterations(CONFIG, with_(people={"version": "2", "changed_by": "X"})) == []


def test_who_made_it_and_which_edition_it_is_stand_with_each_change() -> None:
    after = with_(
        people={
            "version": "2",
            "changed_by": "PS 1002",
            "change_ref": "ORDER 7",
            "officers": OFFICERS[2:],
        }
    )
    assert alterations(CONFIG, after) == [
        Alteration("officer.removed", collar, f"[{CONFIG.people.version} -> 2, ORDER 7]", "PS 1002")
        for collar in ("1001", "1002")
    ]


def test_no_secret_and_no_name_stands_in_any_line() -> None:
    """Of every member of every entry, whatever it is changed to; and no line is long."""
    plant = "PLANTED-SECRET"
    officers = tuple(
        msgspec.structs.replace(each, surname=plant, factor=plant) for each in OFFICERS
    )
    operator = Operator(id="op1", name=plant, roles=("auditor",), password=plant, subject=plant)
    with_operator = with_(people={"operators": (Operator(id="op1", roles=("operator",)),)})
    after = with_(with_operator, people={"officers": officers, "operators": (operator,)})
    found = alterations(with_operator, after)
    assert len(found) == len(officers) + 1
    assert plant not in repr(found)
    long = with_(people={"officers": first(OFFICERS, agency="A" * 500, role="B" * 500)})
    assert all(len(each.detail) <= 240 for each in alterations(CONFIG, long))


def test_every_member_of_every_file_is_looked_at() -> None:
    """One that a file gains tomorrow is on record, too."""
    for name in ("people", "fleet", "areas", "policy", "warnings", "alarms"):
        file = getattr(CONFIG, name)
        for field in file.__struct_fields__:
            if field in ("version", "changed_by", "change_ref"):
                continue
            value = getattr(file, field)
            other: object = (
                type(value)(list(value)[1:])
                if isinstance(value, tuple) and value
                else {}
                if isinstance(value, dict) and value
                else "OTHER"
            )
            if other == "OTHER" and isinstance(value, tuple | dict):
                continue
            after = msgspec.structs.replace(
                CONFIG, **{name: msgspec.structs.replace(file, **{field: other})}
            )
            assert alterations(CONFIG, after), f"{name}.{field}"


async def test_the_records_of_a_reload_name_who_and_what() -> None:
    """One for the whole, so that it shows also where nothing changed, then one of each change."""
    async with House() as house:
        after = with_(
            house.config,
            people={"changed_by": "PS 1002", "officers": first(OFFICERS, revoked=True)},
            fleet={"changed_by": "PS 1003", "terminals": first(TERMINALS, area="Southern")},
        )
        whole, officer, terminal = house.core.alterations(after)
        assert (whole.event, whole.operation, whole.detail) == (
            "alteration",
            "configuration",
            "configuration: 2 changes",
        )
        assert (officer.operation, officer.operator) == ("officer.revoked", "PS 1002")
        assert officer.detail.startswith("1001: revoked")
        assert (terminal.operation, terminal.operator) == ("terminal.changed", "PS 1003")
        assert (terminal.terminal, terminal.verb) == ("5001001", "alteration")
        assert len(house.core.alterations(house.config)) == 1
