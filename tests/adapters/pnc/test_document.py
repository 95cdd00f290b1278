"""docs/pnc-http.md is true: its examples are what the adapter sends and takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from adapters.pnc import http
from adapters.pnc.mock import FAULTS
from gateway import messages
from gateway.errors import PncGarbled
from gateway.messages import PersonRecord, VehicleKey, VehicleRecord
from tests.contracts.test_pnc import query

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "pnc-http.md").read_text("utf-8")
ASKED = query(VehicleKey(vrm="TE99AAA"))


def example(name: str) -> dict[str, Any]:
    found = re.search(rf"<!-- example: {name} -->\n```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found, name
    return dict(json.loads(found[1]))


def test_the_question_is_as_written() -> None:
    assert json.loads(http._request(ASKED)) == example("request")


def test_the_answers_are_taken_as_written() -> None:
    assert http.read(json.dumps(example("no_trace")).encode(), ASKED).records == ()
    record = http.read(json.dumps(example("trace")).encode(), ASKED).records[0]
    assert isinstance(record, VehicleRecord)
    assert record.reports[0].occupant_warnings == ("VI",)
    assert isinstance(record.keeper_record, PersonRecord)
    assert record.keeper_record.circulations[0].kind == "WANTED_ARREST"


@pytest.mark.parametrize("member", sorted(example("no_trace")))
def test_every_member_is_required_as_written(member: str) -> None:
    body = example("no_trace")
    del body[member]
    with pytest.raises(PncGarbled):
        http.read(json.dumps(body).encode(), ASKED)


def test_the_tables_name_every_member() -> None:
    """A member that is added to a record must be added to the page."""
    kinds = ("PersonRecord", "VehicleRecord", "DriverRecord", "PropertyRecord", "VehicleReport")
    parts = ("WarningSignal", "Circulation", "Bail", "Disqualification")
    for name in (*kinds, *parts):
        for field in getattr(messages, name).__struct_fields__:
            assert f"`{field}`" in DOCUMENT, f"{name}.{field}"


def test_the_triggers_named_there_exist() -> None:
    assert {word[4:] for word in re.findall(r"ER99[A-Z]{3}", DOCUMENT)} <= set(FAULTS)
