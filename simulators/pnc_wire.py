"""The wire of docs/pnc-http.md from the server's side: questions in, replies out.

Every member is written down here by its name on the wire, from the document, and not taken from
the gateway's types: a member that is renamed or misread on one side is then seen on the other.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.messages import (
    Circulation,
    Disqualification,
    DriverKey,
    DriverRecord,
    Key,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PncRecord,
    PropertyKey,
    PropertyRecord,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
)

PROTOCOL = 1
SOURCES = ("PNC", "DVLA", "INSURANCE")


class NotAsDocumented(ValueError):
    """The question is not one of the document's: 400."""


class Question(msgspec.Struct, frozen=True):
    """A question as it stood on the wire."""

    check: str
    attempt: int
    key_text: str
    key: Key
    originator: str
    deadline_s: float


def read_question(body: bytes) -> Question:
    """Raises NotAsDocumented."""
    try:
        asked = json.loads(body)
        if asked["protocol"] != PROTOCOL:
            raise NotAsDocumented
        for member in ("reason", "justification", "location", "on_behalf_of", "asked_at"):
            if not isinstance(asked[member], str):
                raise NotAsDocumented
        return Question(
            check=_text(asked["check"]),
            attempt=_attempt(asked["attempt"]),
            key_text=_text(asked["key_text"]),
            key=_key(_text(asked["operation"]), dict(asked["key"])),
            originator=_text(asked["originator"]),
            deadline_s=float(asked["deadline_s"]),
        )
    except NotAsDocumented:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotAsDocumented from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise NotAsDocumented
    return value


def _attempt(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise NotAsDocumented
    return value


def _key(operation: str, given: dict[str, Any]) -> Key:
    age = given.pop("age_years", None)
    if age is not None and (operation != "person" or type(age) is not int):
        raise NotAsDocumented
    if not all(isinstance(value, str) for value in given.values()):
        raise NotAsDocumented

    def take(name: str) -> str:
        return str(given.pop(name, ""))

    key: Key
    match operation:
        case "vehicle":
            key = VehicleKey(vrm=take("vrm"), vin=take("vin"))
        case "person":
            key = PersonKey(
                surname=take("surname"),
                forenames=take("forenames"),
                dob=take("dob"),
                age_years=age,
                sex=take("sex"),
            )
        case "driver":
            key = DriverKey(
                driver_no=take("driver_no"),
                surname=take("surname"),
                forenames=take("forenames"),
                dob=take("dob"),
            )
        case "property":
            key = PropertyKey(type=take("type"), serial=take("serial"))
        case _:
            raise NotAsDocumented
    if given:
        raise NotAsDocumented
    return key


# --------------------------------------------------------------------------- replies


def result_of(answer: PncAnswer) -> str:
    """The one word that says what was found."""
    if answer.too_many:
        return "too_many"
    return "trace" if answer.records else "no_trace"


def reply(answer: PncAnswer) -> bytes:
    """The whole reply, as JSON in UTF-8."""
    return json.dumps(
        {
            "protocol": PROTOCOL,
            "check": answer.check,
            "attempt": answer.attempt,
            "key_text": answer.key_text,
            "result": result_of(answer),
            "as_of": _moment(answer.as_of_ms),
            "records": [_record(record) for record in answer.records],
            "blocks": [
                {"source": each.source, "as_of": _moment(each.as_of_ms), "state": each.state}
                for each in answer.blocks
            ],
            "not_checked": list(answer.not_checked),
            "synthetic": True,
        },
        ensure_ascii=False,
    ).encode()


def sources(silent: frozenset[str]) -> bytes:
    """Which sources reply now."""
    return json.dumps(
        {
            "protocol": PROTOCOL,
            "sources": [
                {"source": name, "state": "UNAVAILABLE" if name in silent else "OK"}
                for name in SOURCES
            ],
        }
    ).encode()


def of_another_key(body: bytes) -> bytes:
    """The same reply as if it were to another question."""
    other = json.loads(body)
    other["key_text"] = "VRM:TE99ZZZ"
    return json.dumps(other).encode()


def warnings_of(answer: PncAnswer) -> list[str]:
    """Every warning code that this answer carries, for the log: none may be lost on the way."""
    codes: list[str] = []
    for record in answer.records:
        if isinstance(record, VehicleRecord):
            codes += [code for report in record.reports for code in report.occupant_warnings]
        person = record.keeper_record if isinstance(record, VehicleRecord) else record
        if isinstance(person, PersonRecord):
            codes += [signal.code for signal in person.warnings]
    return codes


def _record(record: PncRecord) -> dict[str, Any]:
    match record:
        case VehicleRecord():
            return _vehicle(record)
        case PersonRecord():
            return _person(record)
        case DriverRecord():
            return _driver(record)
        case PropertyRecord():
            return _property(record)


def _vehicle(record: VehicleRecord) -> dict[str, Any]:
    keeper = None if record.keeper_record is None else _person(record.keeper_record)
    return _known(
        record="vehicle",
        vrm=record.vrm,
        vin=record.vin,
        make=record.make,
        model=record.model,
        colour=record.colour,
        year=record.year,
        tax=record.tax,
        tax_due=record.tax_due,
        mot=record.mot,
        mot_expiry=record.mot_expiry,
        insured=record.insured,
        insurer=record.insurer,
        sorn=record.sorn,
        exported=record.exported,
        scrapped=record.scrapped,
        keeper=record.keeper,
        keeper_address=record.keeper_address,
        keeper_since=record.keeper_since,
        previous_keepers=record.previous_keepers,
        reports=[_report(each) for each in record.reports],
        keeper_record=keeper,
    )


def _report(report: VehicleReport) -> dict[str, Any]:
    return _known(
        kind=report.kind,
        confirmed=report.confirmed,
        reported_at=report.reported_at,
        owner=report.owner,
        ref=report.ref,
        text=report.text,
        action=report.action,
        occupant_warnings=list(report.occupant_warnings),
        block=report.block,
    )


def _person(record: PersonRecord) -> dict[str, Any]:
    bail = record.bail
    return _known(
        record="person",
        pncid=record.pncid,
        surname=record.surname,
        forenames=record.forenames,
        dob=record.dob,
        sex=record.sex,
        score=record.score,
        filed_name=record.filed_name,
        aliases=list(record.aliases),
        height_cm=record.height_cm,
        build=record.build,
        hair=record.hair,
        eyes=record.eyes,
        marks=list(record.marks),
        ethnic_appearance=record.ethnic_appearance,
        address=record.address,
        place_of_birth=record.place_of_birth,
        warnings=[
            _known(code=each.code, set_on=each.set_on, force=each.force, qualifier=each.qualifier)
            for each in record.warnings
        ],
        markers=list(record.markers),
        circulations=[_circulation(each) for each in record.circulations],
        orders=list(record.orders),
        bail=None
        if bail is None
        else _known(status=bail.status, conditions=list(bail.conditions), next_date=bail.next_date),
        disqualification=_ban(record.disqualification),
        offences=list(record.offences),
        deceased=record.deceased,
        restricted=record.restricted,
    )


def _circulation(each: Circulation) -> dict[str, Any]:
    return _known(
        kind=each.kind,
        owner=each.owner,
        ref=each.ref,
        power=each.power,
        offence=each.offence,
        instructions=each.instructions,
        circulated=each.circulated,
        covert=each.covert,
    )


def _driver(record: DriverRecord) -> dict[str, Any]:
    return _known(
        record="driver",
        driver_no=record.driver_no,
        surname=record.surname,
        forenames=record.forenames,
        dob=record.dob,
        sex=record.sex,
        licence=record.licence,
        categories=record.categories,
        valid_to=record.valid_to,
        endorsements=record.endorsements,
        disqualification=_ban(record.disqualification),
    )


def _property(record: PropertyRecord) -> dict[str, Any]:
    return _known(
        record="property",
        type=record.type,
        serial=record.serial,
        make=record.make,
        model=record.model,
        status=record.status,
        owner=record.owner,
    )


def _ban(ban: Disqualification | None) -> dict[str, Any] | None:
    if ban is None:
        return None
    return _known(until=ban.until, until_test=ban.until_test, category=ban.category)


def _known(**members: Any) -> dict[str, Any]:
    """Without what is not known: a member is left out, never null or empty."""
    return {name: value for name, value in members.items() if value not in (None, "", [])}


def _moment(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
