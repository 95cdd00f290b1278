"""The mock's records: read from `config/pnc`, refused when outside the reserved ranges.

Whatever might be somebody's is refused, and what would make an answer depend on the order of a
file. Findings name file and place and never quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from adapters.pnc import identifiers, marks, reserved
from adapters.pnc.rows import Drivers, Items, NameRow, PersonRow, Persons, Records, Row, Vehicles
from gateway.errors import ConfigError


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
    findings += outside_the_ranges(records) + in_conflict(records)
    if findings:
        raise ConfigError(findings)
    return records


def outside_the_ranges(records: Records) -> list[str]:
    """Every record that might be somebody's: named by file and place, never quoted."""
    found: list[str] = []
    for place, person in enumerate(records.persons):
        where = _person_at(place, person)
        if not reserved.pncid(person.pncid):
            found.append(f"{where}.pncid: not of the reserved year 2099, or a wrong letter")
        filed = NameRow(surname=person.surname, forenames=person.forenames)
        for name in (filed, *person.aliases):
            if not reserved.surname(name.surname):
                found.append(f"{where}.surname: not a reserved surname")
            if not reserved.given_names(name.forenames):
                found.append(f"{where}.forenames: not reserved given names")
        if person.address and not reserved.address(person.address):
            found.append(f"{where}.address: not the reserved street")
        found += _strays(person, where)
    for place, vehicle in enumerate(records.vehicles):
        where = f"vehicles.toml: vehicles[{place}]"
        if not reserved.mark(vehicle.vrm):
            found.append(f"{where}.vrm: not a reserved mark")
        if not reserved.vin(vehicle.vin):
            found.append(f"{where}.vin: not TSTZZZ and 11 digits")
        if vehicle.keeper and not reserved.keeper(vehicle.keeper):
            found.append(f"{where}.keeper: not a reserved surname and given name")
        if vehicle.keeper_address and not reserved.address(vehicle.keeper_address):
            found.append(f"{where}.keeper_address: not the reserved street")
        found += _strays(vehicle, where)
    for place, item in enumerate(records.items):
        where = f"property.toml: items[{place}]"
        if not reserved.serial(item.serial):
            found.append(f"{where}.serial: must be TST and up to 20 of A-Z 0-9")
        found += _strays(item, where)
    for place, driver in enumerate(records.drivers):
        where = f"drivers.toml: drivers[{place}]"
        if not reserved.surname(driver.surname):
            found.append(f"{where}.surname: not a reserved surname")
        if not reserved.given_names(driver.forenames):
            found.append(f"{where}.forenames: not reserved given names")
        found += _strays(driver, where)
    return found


def _person_at(place: int, person: PersonRow) -> str:
    """Where a person stands; with the tag if it is one, as what else stands there is not quoted."""
    tag = f" ({person.tag})" if re.fullmatch(r"TP[0-9]{2}[A-Z0-9-]{0,4}", person.tag) else ""
    return f"persons.toml: persons[{place}]{tag}"


_NAMED_ABOVE = frozenset({"pncid", "keeper_pncid", "vrm", "vin", "address", "keeper_address"})


def _strays(row: Row, where: str) -> Iterator[str]:
    """Whatever in the free texts of a record might be somebody's."""
    for path, text in _texts(msgspec.to_builtins(row), where):
        if path.rpartition(".")[2] not in _NAMED_ABOVE and (kind := reserved.stray(text)):
            yield f"{path}: looks like a {kind} outside the reserved ranges"


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _texts(member, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for place, member in enumerate(value):
            yield from _texts(member, f"{path}[{place}]")


def in_conflict(records: Records) -> list[str]:
    """What would make an answer depend on the order of a file, or fail when it is asked for.

    Two records of one identity: a clean one would hide the stolen one.
    """
    found: list[str] = []
    for what, ids in (
        ("persons.toml: pncid", [each.pncid for each in records.persons]),
        ("vehicles.toml: vrm", [each.vrm for each in records.vehicles]),
        ("vehicles.toml: vin", [each.vin for each in records.vehicles]),
        ("property.toml: type and serial", [f"{i.type}/{i.serial}" for i in records.items]),
        ("drivers.toml: driver_no", [each.driver_no for each in records.drivers]),
    ):
        seen: set[str] = set()
        for place, each in enumerate(ids):
            if each in seen:
                found.append(f"{what}: entry {place} stands there twice")
            seen.add(each)
    known = {person.pncid for person in records.persons}
    for place, person in enumerate(records.persons):
        where = _person_at(place, person)
        if not _is_date(person.dob) or not all(
            _is_date(a.dob or "2000-01-01") for a in person.aliases
        ):
            found.append(f"{where}.dob: a date as YYYY-MM-DD")
    for place, vehicle in enumerate(records.vehicles):
        where = f"vehicles.toml: vehicles[{place}]"
        if marks.normalise(vehicle.vrm) != vehicle.vrm:
            found.append(f"{where}.vrm: upper case, without blanks and hyphens")
        if vehicle.keeper_pncid and vehicle.keeper_pncid not in known:
            found.append(f"{where}.keeper_pncid: no such person in persons.toml")
    for place, driver in enumerate(records.drivers):
        where = f"drivers.toml: drivers[{place}]"
        if not _is_date(driver.dob):
            found.append(f"{where}.dob: a date as YYYY-MM-DD")
        elif not identifiers.driver_number_fits(
            driver.driver_no, surname=driver.surname, dob=driver.dob, sex=driver.sex
        ):
            found.append(f"{where}.driver_no: not of this surname, date of birth and sex")
    return found


def _is_date(text: str) -> bool:
    """`YYYY-MM-DD` and nothing else that ISO 8601 allows."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
