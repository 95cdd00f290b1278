"""The mock's records, indexed: a key in, what is on record out. Pure; the caller says the time.

Rule 1: what cannot be looked for (no surname, a date that is none) raises InvalidKey, because
"no trace" of what was never looked for would be a lie. Rule 2: more than fit is `too_many`, never
the first few. Rule 3: every source behind an answer is named with its own as-of time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from adapters.pnc import answers, identifiers, marks, matching, records
from adapters.pnc.faults import fault_of
from adapters.pnc.rows import DriverRow, PersonRow, VehicleRow
from adapters.pnc.stand_ins import Found, behind
from gateway.messages import (
    Block,
    DriverKey,
    Key,
    PersonKey,
    PncAnswer,
    PncRecord,
    PropertyKey,
    VehicleKey,
)

DVLA_AT = (4, 12)
"""The copy of the register is of the early morning, UTC (pnc-domain, 2.1)."""
VIN_END = 5
"""At least so many characters of a chassis number's end are needed (pnc-domain, 2.2)."""
AGE_MOST = 130


class InvalidKey(ValueError):
    """Not a question that can be looked for. Says what is missing, never what was asked."""


class Register:
    """The records. Ages in them are counted from the first question."""

    def __init__(self, folder: Path) -> None:
        """folder: config/pnc. Raises ConfigError with every finding."""
        self.records = records.load(folder)
        self._names = matching.Index(self.records.persons)
        self._persons = {row.pncid: row for row in self.records.persons}
        self._vehicles = {row.vrm: row for row in self.records.vehicles}
        self._vin_ends: defaultdict[str, list[VehicleRow]] = defaultdict(list)
        for vehicle in self.records.vehicles:
            self._vin_ends[vehicle.vin[-VIN_END:]].append(vehicle)
        self._since_ms = 0

    def answer(
        self,
        key: Key,
        *,
        check: str,
        attempt: int,
        key_text: str,
        now_ms: int,
        silent: Collection[str] = (),
    ) -> PncAnswer:
        """What is on record for this key; a trigger that only changes the content changes it.

        now_ms: wall clock, ms. silent: sources of a vehicle that do not reply now. Raises
        InvalidKey.
        """
        self._since_ms = self._since_ms or now_ms
        found = behind(key, fault_of(key), since_ms=self._since_ms, now_ms=now_ms)
        if found is None:
            found = self._found(key, now_ms)
        if silent and isinstance(key, VehicleKey):
            found = _without(found, silent)
        return PncAnswer(
            check=check,
            attempt=attempt,
            key_text=key_text,
            records=() if found.too_many else found.records,
            blocks=_blocks(key, now_ms, found.not_checked),
            as_of_ms=now_ms,
            too_many=found.too_many,
            not_checked=found.not_checked,
        )

    def by_id(self, text: str, check_name: str, *, this_year: int) -> PersonRow | None:
        """A person by PNCID with the surname as check name; None for either being wrong."""
        canonical = identifiers.canonical_pncid(text, this_year=this_year)
        row = self._persons.get(canonical) if canonical else None
        if row is None or matching.fold(row.surname) != matching.fold(check_name):
            return None
        return row

    # ----------------------------------------------------------------- by kind

    def _found(self, key: Key, now_ms: int) -> Found:
        match key:
            case VehicleKey():
                return self._vehicle(key, now_ms)
            case PersonKey():
                return self._person(key, now_ms)
            case PropertyKey():
                return self._property(key)
            case DriverKey():
                return self._driver(key)

    def _vehicle(self, key: VehicleKey, now_ms: int) -> Found:
        mark, vin = marks.normalise(key.vrm), marks.normalise(key.vin)
        if mark and not vin:
            if not re.fullmatch(r"[A-Z0-9]{1,10}", mark):
                raise InvalidKey("vrm: 1 to 10 of A-Z 0-9")
            rows = [self._vehicles[mark]] if mark in self._vehicles else []
        elif vin and not mark:
            if not re.fullmatch(r"[A-HJ-NPR-Z0-9]{17}|[A-HJ-NPR-Z0-9]{5,8}", vin):
                raise InvalidKey("vin: 17 characters, or the last 5 to 8")
            rows = [row for row in self._vin_ends.get(vin[-VIN_END:], ()) if row.vin.endswith(vin)]
        else:
            raise InvalidKey("a vehicle by vrm or by vin")
        return Found(
            tuple(self._vehicle_record(row, now_ms) for row in rows[: matching.CAP]),
            too_many=len(rows) > matching.CAP,
            not_checked=tuple(dict.fromkeys(each for row in rows for each in row.not_checked)),
        )

    def _vehicle_record(self, row: VehicleRow, now_ms: int) -> PncRecord:
        keeper = None
        if row.keeper_pncid:
            keeper = answers.person(self._persons[row.keeper_pncid], since_ms=self._since_ms)
        return answers.vehicle(row, since_ms=self._since_ms, now_ms=now_ms, keeper=keeper)

    def _person(self, key: PersonKey, now_ms: int) -> Found:
        if not matching.searchable(key.surname):
            raise InvalidKey("surname: without a letter that can be looked for")
        known = matching.searchable(key.forenames) or key.dob or key.sex in {"M", "F"}
        if not known and key.age_years is None:
            raise InvalidKey("surname alone: forename, date of birth, age or sex as well")
        _check_date(key.dob)
        if key.age_years is not None and not 0 <= key.age_years <= AGE_MOST:
            raise InvalidKey("age: 0 to 130")
        today = datetime.fromtimestamp(now_ms / 1000, tz=UTC).date()
        ranked, more = matching.candidates(key, self._names, today=today)
        return Found(
            tuple(
                answers.person(each.row, since_ms=self._since_ms, name=each.name, score=each.score)
                for each in ranked
            ),
            too_many=more,
        )

    def _property(self, key: PropertyKey) -> Found:
        kind, serial = " ".join(key.type.upper().split()), marks.normalise(key.serial)
        if not kind or not serial:
            raise InvalidKey("property by type and serial")
        rows = [row for row in self.records.items if row.serial == serial]
        if kind in self.records.types:
            rows = [row for row in rows if row.type == self.records.types[kind]]
        # A type that nobody knows bars no item: a misspelt type must not hide a stolen thing.
        return Found(
            tuple(answers.property_item(row) for row in rows[: matching.CAP]),
            too_many=len(rows) > matching.CAP,
        )

    def _driver(self, key: DriverKey) -> Found:
        number = marks.normalise(key.driver_no)
        if number:
            rows = [row for row in self.records.drivers if row.driver_no == number]
        else:
            if not matching.searchable(key.surname) or not key.dob:
                raise InvalidKey("a driver by number, or by surname and date of birth")
            _check_date(key.dob)
            rows = [row for row in self.records.drivers if _is_driver(row, key)]
        return Found(
            tuple(answers.driver(row) for row in rows[: matching.CAP]),
            too_many=len(rows) > matching.CAP,
        )


def _without(found: Found, silent: Collection[str]) -> Found:
    """What these sources would have said is unknown, and never N."""
    records: list[PncRecord] = []
    for record in found.records:
        changes: dict[str, object] = {}
        if "DVLA" in silent:
            changes |= {"tax": "", "tax_due": "", "mot": "", "mot_expiry": "", "sorn": False}
        if "INSURANCE" in silent:
            changes |= {"insured": "", "insurer": ""}
        records.append(msgspec.structs.replace(record, **changes))
    return Found(
        tuple(records), found.too_many, tuple(dict.fromkeys((*found.not_checked, *sorted(silent))))
    )


def _is_driver(row: DriverRow, key: DriverKey) -> bool:
    given = matching.fold(key.forenames).split()[:1]
    return (
        matching.fold(row.surname) == matching.fold(key.surname)
        and row.dob == key.dob
        and (not given or given == matching.fold(row.forenames).split()[:1])
    )


def _check_date(text: str) -> None:
    """ISO `YYYY-MM-DD` or empty."""
    try:
        right = not text or date.fromisoformat(text).isoformat() == text
    except ValueError:
        right = False
    if not right:
        raise InvalidKey("dob: a date as YYYY-MM-DD")


def _blocks(key: Key, now_ms: int, not_checked: tuple[str, ...]) -> tuple[Block, ...]:
    """The sources behind an answer, each with its own as-of time."""
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    morning = now.replace(hour=DVLA_AT[0], minute=DVLA_AT[1], second=0, microsecond=0)
    if morning > now:
        morning -= timedelta(days=1)
    copied_ms = round(morning.timestamp() * 1000)
    sources = {"PNC": now_ms}
    if isinstance(key, VehicleKey):
        sources |= {"DVLA": copied_ms, "INSURANCE": now_ms}
    if isinstance(key, DriverKey):
        sources |= {"DVLA": copied_ms}
    sources |= {name: now_ms for name in not_checked if name not in sources}
    return tuple(
        Block(source=name, as_of_ms=at, state="UNAVAILABLE" if name in not_checked else "OK")
        for name, at in sources.items()
    )
