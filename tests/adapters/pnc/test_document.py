"""docs/pnc-http.md is true: its examples are what the adapter and the server send and take."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from adapters.http_asking import check_status
from adapters.pnc import records, wire
from adapters.pnc.faults import FAULTS, fault_of
from adapters.pnc.register import Register
from adapters.strict_json import NESTING_MAX
from gateway import messages
from gateway.errors import PncDown, PncError, PncGarbled, PncInvalid, PncUnauthorised
from gateway.messages import (
    DriverKey,
    DriverRecord,
    Key,
    PersonKey,
    PersonRecord,
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
)
from gateway.settings import PncSection
from simulators import pnc_wire
from tests.adapters.pnc.replies import ASKED, RECORDS, ROOT, encoded, question

DOCUMENT = (ROOT / "docs" / "pnc-http.md").read_text("utf-8")
KINDS = {
    "VehicleRecord": "A vehicle",
    "PersonRecord": "A person",
    "DriverRecord": "A driver",
    "PropertyRecord": "An item of property",
    "VehicleReport": "A vehicle",
    "WarningSignal": "A person",
    "Circulation": "A person",
    "Bail": "A person",
    "Disqualification": "A person",
}
"""Message -> the section that names its members."""


def example(name: str) -> Any:
    found = re.search(rf"<!-- example: {name} -->\n```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found, name
    return json.loads(found[1])


def section(title: str) -> str:
    found = re.search(rf"\n###? {title}\n(.*?)(?=\n##|\Z)", DOCUMENT, re.DOTALL)
    assert found, title
    return found[1]


# --------------------------------------------------------------------------- the question


def test_the_question_is_as_written() -> None:
    """Sent by the adapter to the letter, and understood by the server."""
    assert json.loads(wire.request(ASKED)) == example("request")
    read = pnc_wire.read_question(json.dumps(example("request")).encode())
    assert read.key == ASKED.key
    assert (read.check, read.attempt, read.key_text) == (ASKED.check, 1, ASKED.key_text)
    assert (read.originator, read.deadline_s) == (ASKED.originator, 15.0)


KEYS: list[Key] = [
    VehicleKey(vin="00000002"),
    PersonKey(surname="TESTER", forenames="WANDA", dob="1988-06-06", sex="F"),
    PersonKey(surname="O'TESTER", age_years=30),
    DriverKey(driver_no="TESTE802020C99AA"),
    DriverKey(surname="TESTER", dob="1980-02-02"),
    PropertyKey(type="PEDAL CYCLE", serial="TSTBIKE001"),
]


def test_the_keys_are_as_written() -> None:
    sent = [json.loads(wire.request(question(key))) for key in KEYS]
    assert [{name: each[name] for name in ("operation", "key")} for each in sent] == example("keys")
    for key, written in zip(KEYS, example("keys"), strict=True):
        body = json.dumps({**example("request"), **written}).encode()
        assert pnc_wire.read_question(body).key == key


def test_every_member_of_a_question_has_its_line() -> None:
    written = section("The question")
    for member in example("request"):
        assert f"`{member}`" in written
    for type_ in (VehicleKey, PersonKey, DriverKey, PropertyKey):
        for field in type_.__struct_fields__:
            assert f"`{field}`" in written, f"{type_.__name__}.{field}"


# --------------------------------------------------------------------------- the answer


def test_the_answers_are_taken_as_written() -> None:
    assert wire.read(json.dumps(example("no_trace")).encode(), ASKED).records == ()
    record = wire.read(json.dumps(example("trace")).encode(), ASKED).records[0]
    assert isinstance(record, VehicleRecord)
    assert record.reports[0].occupant_warnings == ("VI",)
    assert isinstance(record.keeper_record, PersonRecord)
    assert record.keeper_record.circulations[0].kind == "WANTED_ARREST"


def taken(name: str, key: Key) -> Any:
    """The example of a record, read in a reply to this key."""
    asked = question(key)
    return wire.read(encoded(asked, result="trace", records=[example(name)]), asked).records[0]


def test_the_records_are_taken_as_written() -> None:
    """Every member of an example arrives; none is ignored as unknown."""
    person = taken("person", PersonKey(surname="TESTER", sex="M"))
    driver = taken("driver", DriverKey(driver_no="TESTE802020C99AA"))
    item = taken("property", PropertyKey(type="BIKE", serial="TSTBIKE001"))
    assert isinstance(person, PersonRecord)
    assert isinstance(driver, DriverRecord)
    assert isinstance(item, PropertyRecord)
    assert [signal.code for signal in person.warnings] == ["WE", "VI"]
    assert person.disqualification is not None
    assert driver.endorsements == 0
    assert item.status == "STOLEN"
    for name, record in (("person", person), ("driver", driver), ("property", item)):
        assert contains(msgspec.to_builtins(record), example(name)), name
    (written,) = example("trace")["records"]
    read = wire.read(json.dumps(example("trace")).encode(), ASKED).records[0]
    assert contains(msgspec.to_builtins(read), written)


def contains(read: Any, written: Any) -> bool:
    """Whether everything that was written stands in what was read, at its place."""
    if isinstance(written, dict):
        return all(
            contains(read.get("@") if name == "record" else read.get(name), value)
            for name, value in written.items()
        )
    if isinstance(written, list):
        return len(read) == len(written) and all(map(contains, read, written))
    return bool(read == written)


@pytest.mark.parametrize("member", sorted(example("no_trace")))
def test_every_member_is_required_as_written(member: str) -> None:
    body = example("no_trace")
    del body[member]
    with pytest.raises(PncGarbled):
        wire.read(json.dumps(body).encode(), ASKED)


@pytest.mark.parametrize("name", KINDS)
def test_the_tables_name_every_member(name: str) -> None:
    """A member that is added to a record must be added to its section."""
    for field in getattr(messages, name).__struct_fields__:
        assert f"`{field}`" in section(KINDS[name]), f"{name}.{field}"


def names_in(value: Any) -> set[str]:
    """Every member name in a piece of JSON, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    return set()


def test_the_server_sends_what_is_written_and_nothing_else() -> None:
    """For everything that is on record; and never null, as the page promises."""
    register = Register(RECORDS)
    loaded = records.load(RECORDS)
    keys: list[Key] = [VehicleKey(vrm=row.vrm) for row in loaded.vehicles]
    keys += [PersonKey(surname=r.surname, forenames=r.forenames) for r in loaded.persons]
    keys += [PropertyKey(type=row.type, serial=row.serial) for row in loaded.items]
    keys += [DriverKey(driver_no=row.driver_no) for row in loaded.drivers]
    sent: set[str] = set()
    for key in keys:
        answer = register.answer(key, check="C", attempt=1, key_text="K", now_ms=1)
        body = pnc_wire.reply(answer)
        sent |= names_in(json.loads(body))
        assert b"null" not in body
    written = set(re.findall(r"`([a-z_]+)`", DOCUMENT))
    assert sent - {"synthetic"} <= written


# --------------------------------------------------------------------------- the rest


def test_the_statuses_mean_what_is_written() -> None:
    """Each row of the table, by what the adapter makes of it."""
    remedy: dict[str, type[PncError]] = {
        "not valid": PncInvalid,
        "credential": PncUnauthorised,
        "not reached": PncDown,
    }
    seen = 0
    for row in re.findall(r"^\| ([0-9][^|]*) \| ([^|]*) \|", section("What else may come"), re.M):
        wanted = next((error for words, error in remedy.items() if words in row[1]), None)
        for status in re.findall(r"\b[45][0-9]{2}\b", row[0]):
            assert wanted is not None, row
            with pytest.raises(wanted):
                check_status(int(status))
            seen += 1
    assert seen >= 7
    for status in (503, 599):
        with pytest.raises(PncDown):
            check_status(status)


def test_the_error_is_as_written() -> None:
    assert set(example("error")) == {"code", "message"}


def test_the_triggers_are_all_there() -> None:
    """Each fault has its line, and each line its fault."""
    assert set(re.findall(r"\| `([A-Z]{3})` \|", section("Try it"))) == set(FAULTS)
    assert fault_of(VehicleKey(vrm="ER99TMT")) == "TMT"


def test_the_bounds_are_those_of_the_code() -> None:
    answer = section("The answer")
    assert f"nested at most {NESTING_MAX} deep" in answer
    assert f"at most {wire.RECORDS_MAX} |" in answer
    assert "256 KiB" in answer
    assert PncSection().max_reply == 256 * 1024
