"""What stands behind a trigger that still answers: a plain record of its kind, or an odd one.

Pure. Built here and not taken from the records, so that the triggers work with any records.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from adapters.pnc import answers, identifiers, marks
from adapters.pnc.matching import STRONG
from adapters.pnc.rows import DriverRow, PersonRow, PropertyRow, SignalRow, VehicleRow
from gateway.messages import (
    DriverKey,
    Key,
    PersonKey,
    PncRecord,
    PropertyKey,
    VehicleKey,
    VehicleReport,
    kind_of,
)

UNKNOWN_CODE = "QZ"
"""A warning code that no table knows: it must be shown as UNKNOWN MARKER, never dropped."""
MISSING = {"vehicle": "INSURANCE", "person": "DRIVERS", "driver": "DVLA", "property": "PROPERTY"}
"""The source that does not reply when a question asks for a partial answer, by kind."""

_PERSON = PersonRow(
    tag="ERROR",
    pncid=identifiers.pncid(2099, 9999),
    surname="TESTER",
    forenames="CLEAN",
    dob="1980-02-02",
    sex="M",
)
_VEHICLE = VehicleRow(vrm="ER99AAA", vin="TSTZZZ00000000999", model="FOCUS", colour="GREY")
_ITEM = PropertyRow(type="PEDAL CYCLE", serial="TSTERROR")
_DRIVER = DriverRow(
    driver_no="TESTE802020C99ZZ", surname="TESTER", forenames="CLEAN", dob="1980-02-02", sex="M"
)


class Found(msgspec.Struct):
    """What a search of one kind came to."""

    records: tuple[PncRecord, ...] = ()
    too_many: bool = False
    not_checked: tuple[str, ...] = ()


def behind(key: Key, fault: str, *, since_ms: int, now_ms: int) -> Found | None:
    """What this trigger answers with; None when there is none.

    NFD: nothing. PAR: one source did not reply. UNK: a code that no table knows.
    """
    if not fault:
        return None
    missing = (MISSING[kind_of(key).value],) if fault == "PAR" else ()
    if fault == "NFD" or (missing and isinstance(key, PropertyKey)):
        # Property is the hard case: nothing found, and the one file that may have it was silent.
        return Found(not_checked=missing)
    return Found((_plain(key, fault, since_ms, now_ms),), not_checked=missing)


def _plain(key: Key, fault: str, since_ms: int, now_ms: int) -> PncRecord:
    odd = fault == "UNK"
    match key:
        case VehicleKey():
            row = msgspec.structs.replace(
                _VEHICLE,
                vrm=marks.normalise(key.vrm),
                not_checked=(MISSING["vehicle"],) if fault == "PAR" else (),
            )
            record = answers.vehicle(row, since_ms=since_ms, now_ms=now_ms, keeper=None)
            reports = (_odd_report(since_ms),) if odd else ()
            return msgspec.structs.replace(record, reports=reports)
        case PersonKey():
            signals = (SignalRow(code=UNKNOWN_CODE, age_days=100),) if odd else ()
            person = msgspec.structs.replace(_PERSON, warnings=signals)
            return answers.person(person, since_ms=since_ms, score=STRONG)
        case PropertyKey():
            return answers.property_item(
                msgspec.structs.replace(_ITEM, status=UNKNOWN_CODE if odd else "")
            )
        case DriverKey():
            return answers.driver(_DRIVER)


def _odd_report(since_ms: int) -> VehicleReport:
    at = datetime.fromtimestamp(since_ms / 1000, tz=UTC) - timedelta(days=1)
    return VehicleReport(
        kind="INTEREST",
        reported_at=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        owner="35NB",
        occupant_warnings=(UNKNOWN_CODE,),
    )
