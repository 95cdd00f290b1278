"""The mock's records: typed, read from `config/pnc`, refused when outside the reserved ranges.

Moments that matter for an outcome are written as ages (`reported_age_h`), so that "31 h ago" is
still 31 hours ago whenever the mock is started.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from adapters.pnc import reserved
from gateway.errors import ConfigError
from gateway.messages import (
    Bail,
    Circulation,
    Disqualification,
    DriverRecord,
    PersonRecord,
    PropertyRecord,
    VehicleRecord,
    VehicleReport,
    WarningSignal,
)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a records file."""


class NameRow(Row, frozen=True, kw_only=True):
    surname: str
    forenames: str
    dob: str = ""


class SignalRow(Row, frozen=True, kw_only=True):
    code: str
    age_days: int = 400
    force: str = "35"
    qualifier: str = ""


class CirculationRow(Row, frozen=True, kw_only=True):
    kind: str
    owner: str
    ref: str = ""
    power: str = ""
    offence: str = ""
    instructions: str = ""
    age_days: int = 10
    covert: bool = False


class BailRow(Row, frozen=True, kw_only=True):
    status: str
    conditions: tuple[str, ...] = ()
    next_date: str = ""


class BanRow(Row, frozen=True, kw_only=True):
    until: str = ""
    until_test: bool = False
    category: str = ""


class PersonRow(Row, frozen=True, kw_only=True):
    tag: str
    pncid: str
    surname: str
    forenames: str
    dob: str
    sex: str
    aliases: tuple[NameRow, ...] = ()
    height_cm: int | None = None
    build: str = ""
    hair: str = ""
    eyes: str = ""
    marks: tuple[str, ...] = ()
    ethnic_appearance: str = ""
    address: str = ""
    place_of_birth: str = ""
    warnings: tuple[SignalRow, ...] = ()
    markers: tuple[str, ...] = ()
    circulations: tuple[CirculationRow, ...] = ()
    orders: tuple[str, ...] = ()
    bail: BailRow | None = None
    disqualification: BanRow | None = None
    offences: tuple[str, ...] = ()
    deceased: bool = False
    restricted: bool = False


class ReportRow(Row, frozen=True, kw_only=True):
    kind: str
    confirmed: bool = True
    reported_age_h: float = 24.0
    owner: str = "35NB"
    ref: str = ""
    text: str = ""
    action: str = ""
    occupant_warnings: tuple[str, ...] = ()
    block: bool = False


class VehicleRow(Row, frozen=True, kw_only=True):
    vrm: str
    vin: str
    make: str = "FORD"
    model: str = "FIESTA"
    colour: str = "BLUE"
    year: int = 2020
    tax: str = "Y"
    mot: str = "Y"
    insured: str = "Y"
    insurer: str = "SYNTHA MUTUAL"
    sorn: bool = False
    exported: bool = False
    scrapped: bool = False
    keeper: str = "TESTER CLEAN"
    keeper_address: str = "1 TEST STREET, PETERBOROUGH, ZZ99 9ZZ"
    keeper_since: str = "2024-01-15"
    previous_keepers: int | None = 1
    keeper_pncid: str = ""
    reports: tuple[ReportRow, ...] = ()
    not_checked: tuple[str, ...] = ()


class PropertyRow(Row, frozen=True, kw_only=True):
    type: str
    serial: str
    make: str = ""
    model: str = ""
    status: str = ""
    owner: str = ""


class DriverRow(Row, frozen=True, kw_only=True):
    driver_no: str
    surname: str
    forenames: str
    dob: str
    sex: str = ""
    licence: str = "FULL"
    categories: str = "B"
    valid_to: str = "2040-01-01"
    endorsements: int = 0
    disqualification: BanRow | None = None


class Persons(Row, frozen=True, kw_only=True):
    persons: tuple[PersonRow, ...]


class Vehicles(Row, frozen=True, kw_only=True):
    vehicles: tuple[VehicleRow, ...]


class Items(Row, frozen=True, kw_only=True):
    types: dict[str, str] = {}
    """What an officer may type for a type: BIKE -> PEDAL CYCLE."""
    items: tuple[PropertyRow, ...]


class Drivers(Row, frozen=True, kw_only=True):
    drivers: tuple[DriverRow, ...]


class Records(Row, frozen=True, kw_only=True):
    """Everything the mock knows."""

    persons: tuple[PersonRow, ...]
    vehicles: tuple[VehicleRow, ...]
    items: tuple[PropertyRow, ...]
    types: dict[str, str]
    drivers: tuple[DriverRow, ...]


def load(folder: Path) -> Records:
    """Read and check the four files of a records folder, or raise ConfigError with all findings."""
    findings: list[str] = []

    def read(name: str, type_: type[msgspec.Struct]) -> msgspec.Struct | None:
        try:
            return msgspec.toml.decode((folder / name).read_bytes(), type=type_)
        except OSError as error:
            findings.append(f"{name}: cannot be read: {error.strerror}")
        except msgspec.DecodeError as error:
            findings.append(f"{name}: {error}")
        return None

    persons = read("persons.toml", Persons)
    vehicles = read("vehicles.toml", Vehicles)
    items = read("property.toml", Items)
    drivers = read("drivers.toml", Drivers)
    if findings:
        raise ConfigError(findings)
    assert isinstance(persons, Persons)
    assert isinstance(vehicles, Vehicles)
    assert isinstance(items, Items)
    assert isinstance(drivers, Drivers)
    records = Records(
        persons=persons.persons,
        vehicles=vehicles.vehicles,
        items=items.items,
        types=items.types,
        drivers=drivers.drivers,
    )
    findings += outside_the_ranges(records)
    if findings:
        raise ConfigError(findings)
    return records


def outside_the_ranges(records: Records) -> list[str]:
    """Every record that might be somebody's: named by file and place, never quoted."""
    found: list[str] = []
    for place, person in enumerate(records.persons):
        where = f"persons.toml: persons[{place}] ({person.tag})"
        if not reserved.pncid(person.pncid):
            found.append(f"{where}.pncid: not of the reserved year 2099, or a wrong letter")
        for surname in (person.surname, *(alias.surname for alias in person.aliases)):
            if not reserved.surname(surname):
                found.append(f"{where}.surname: not a reserved surname")
        if person.address and not reserved.address(person.address):
            found.append(f"{where}.address: not the reserved street")
    for place, vehicle in enumerate(records.vehicles):
        where = f"vehicles.toml: vehicles[{place}]"
        if not reserved.mark(vehicle.vrm):
            found.append(f"{where}.vrm: not a reserved mark")
        if not reserved.vin(vehicle.vin):
            found.append(f"{where}.vin: not TSTZZZ and 11 digits")
        if vehicle.keeper and not reserved.surname(vehicle.keeper.rsplit(" ", 1)[0]):
            found.append(f"{where}.keeper: not a reserved surname")
        if vehicle.keeper_address and not reserved.address(vehicle.keeper_address):
            found.append(f"{where}.keeper_address: not the reserved street")
    for place, item in enumerate(records.items):
        if not item.serial.startswith("TST"):
            found.append(f"property.toml: items[{place}].serial: must begin with TST")
    for place, driver in enumerate(records.drivers):
        if not reserved.surname(driver.surname):
            found.append(f"drivers.toml: drivers[{place}].surname: not a reserved surname")
    return found


# --------------------------------------------------------------------------- as the PNC says it


def person(
    row: PersonRow, *, now_ms: int, name: NameRow | None = None, score: int = 0
) -> PersonRecord:
    """The answer's form of a person, under the name that matched."""
    today = datetime.fromtimestamp(now_ms / 1000, tz=UTC).date()
    shown = name or NameRow(surname=row.surname, forenames=row.forenames, dob=row.dob)
    ban = row.disqualification
    return PersonRecord(
        pncid=row.pncid,
        surname=shown.surname,
        forenames=shown.forenames,
        dob=shown.dob or row.dob,
        sex=row.sex,
        score=score,
        filed_name=f"{row.surname}/{row.forenames}",
        aliases=tuple(f"{a.surname}/{a.forenames}" for a in row.aliases),
        height_cm=row.height_cm,
        build=row.build,
        hair=row.hair,
        eyes=row.eyes,
        marks=row.marks,
        ethnic_appearance=row.ethnic_appearance,
        address=row.address,
        place_of_birth=row.place_of_birth,
        warnings=tuple(
            WarningSignal(
                code=signal.code,
                set_on=(today - timedelta(days=signal.age_days)).isoformat(),
                force=signal.force,
                qualifier=signal.qualifier,
            )
            for signal in row.warnings
        ),
        markers=row.markers,
        circulations=tuple(
            Circulation(
                kind=each.kind,
                owner=each.owner,
                ref=each.ref,
                power=each.power,
                offence=each.offence,
                instructions=each.instructions,
                circulated=(today - timedelta(days=each.age_days)).isoformat(),
                covert=each.covert,
            )
            for each in row.circulations
        ),
        orders=row.orders,
        bail=None
        if row.bail is None
        else Bail(
            status=row.bail.status,
            conditions=row.bail.conditions,
            next_date=row.bail.next_date,
        ),
        disqualification=None if ban is None else _ban(ban),
        offences=row.offences,
        deceased=row.deceased,
        restricted=row.restricted,
    )


def vehicle(row: VehicleRow, *, now_ms: int, keeper: PersonRecord | None) -> VehicleRecord:
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    return VehicleRecord(
        vrm=row.vrm,
        vin=row.vin,
        make=row.make,
        model=row.model,
        colour=row.colour,
        year=row.year,
        tax=row.tax,
        mot=row.mot,
        insured="" if "INSURANCE" in row.not_checked else row.insured,
        insurer=row.insurer if row.insured == "Y" else "",
        sorn=row.sorn,
        exported=row.exported,
        scrapped=row.scrapped,
        keeper=row.keeper,
        keeper_address=row.keeper_address,
        keeper_since=row.keeper_since,
        previous_keepers=row.previous_keepers,
        reports=tuple(
            VehicleReport(
                kind=report.kind,
                confirmed=report.confirmed,
                reported_at=(now - timedelta(hours=report.reported_age_h)).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                ),
                owner=report.owner,
                ref=report.ref,
                text=report.text,
                action=report.action,
                occupant_warnings=report.occupant_warnings,
                block=report.block,
            )
            for report in row.reports
        ),
        keeper_record=keeper,
    )


def property_item(row: PropertyRow) -> PropertyRecord:
    return PropertyRecord(
        type=row.type,
        serial=row.serial,
        make=row.make,
        model=row.model,
        status=row.status,
        owner=row.owner,
    )


def driver(row: DriverRow) -> DriverRecord:
    return DriverRecord(
        driver_no=row.driver_no,
        surname=row.surname,
        forenames=row.forenames,
        dob=row.dob,
        sex=row.sex,
        licence=row.licence,
        categories=row.categories,
        valid_to=row.valid_to,
        endorsements=row.endorsements,
        disqualification=None if row.disqualification is None else _ban(row.disqualification),
    )


def _ban(row: BanRow) -> Disqualification:
    return Disqualification(until=row.until, until_test=row.until_test, category=row.category)
