"""The tables of the records files: what a person, a vehicle, an item, a driver may have.

Moments that matter for an outcome are written as ages (`reported_age_h`), counted back from the
first question: "31 h ago" is 31 hours ago whenever the mock is started, and grows older with it.
Shapes: pnc-domain reference, 15.2, as far as an answer carries them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

YesNo = Literal["Y", "N", ""]
"""Empty: unknown, which is neither."""


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
    next_in_days: int | None = None
    """Days until the next appearance."""


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
    sex: Literal["M", "F", "U"]
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
    tax: YesNo = "Y"
    mot: YesNo = "Y"
    insured: YesNo = "Y"
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
    sex: Literal["M", "F", "U", ""] = ""
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
