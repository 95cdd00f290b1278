"""The mock PNC: canned records, matching, and every fault on demand. Synthetic data only.

`Register` answers a question from the records; `MockPnc` is the Pnc port over it, in process; the
simulators' server puts the same register behind HTTP. What is asked for with a trigger gets that
fault (pnc-domain reference, 15.5): `ER99TMT` as a mark, `ERROR/TMT` as a name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from adapters.pnc import identifiers, marks, matching, records
from gateway.errors import PncDown, PncGarbled, PncInvalid, PncTimeout, PncUnauthorised
from gateway.messages import (
    Block,
    DriverKey,
    Key,
    PersonKey,
    PncAnswer,
    PncQuery,
    PncRecord,
    PropertyKey,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
)
from gateway.ports import Clock

HANG_S = 30.0
SLOW_S = 5.0
LATE_S = 1.0
"""How long after the deadline the late answer comes."""
FAULTS = (
    *("BAD", "NFD", "THR", "ERR", "MNT", "TMT", "SLW", "LAT", "RST", "ECH", "UNK"),
    *("DRP", "GBG", "DUP", "ORD", "LCK", "AUT", "FRB", "PAR", "TRN", "VST"),
)
ANSWERING = frozenset({"", "NFD", "SLW", "LAT", "DUP", "PAR", "UNK"})
"""Triggers after which the register still answers (the server breaks the rest on the wire)."""
DVLA_FAULTS = {
    "ER19BAD": "BAD",
    "ER19NFD": "NFD",
    "ER19THR": "THR",
    "ER19ERR": "ERR",
    "ER19MNT": "MNT",
}
UNKNOWN_CODE = "QZ"
"""A warning code that no table knows: it must be shown as UNKNOWN MARKER, never dropped."""
DVLA_AT = (4, 12)
"""The copy of the register is of the early morning, UTC (pnc-domain, 2.1)."""
_TRIGGER = re.compile(r"ER99([A-Z]{3})")


def fault_of(key: Key) -> str:
    """The fault that this question asks for; empty for none. An unknown trigger is none."""
    match key:
        case VehicleKey(vrm=vrm):
            mark = marks.normalise(vrm)
            found = _TRIGGER.fullmatch(mark)
            code = found[1] if found else DVLA_FAULTS.get(mark, "")
        case PersonKey(surname=surname, forenames=forenames) if surname.upper() == "ERROR":
            code = forenames.upper()
        case PropertyKey(type=type_, serial=serial) if type_.upper() == "ERROR":
            code = serial.upper()
        case _:
            code = ""
    return code if code in FAULTS else ""


class Register:
    """The records, indexed. Pure: the caller says what time it is."""

    def __init__(self, folder: Path) -> None:
        """folder: config/pnc. Raises ConfigError with every finding."""
        self.records = records.load(folder)
        self._names = matching.index(self.records.persons)
        self._persons = {row.pncid: row for row in self.records.persons}
        self._vehicles = {row.vrm: row for row in self.records.vehicles}
        self._items = {(row.type, row.serial): row for row in self.records.items}

    def answer(
        self, key: Key, *, check: str, attempt: int, key_text: str, now_ms: int
    ) -> PncAnswer:
        """What is on record for this key, with the triggers that only change the content."""
        fault = fault_of(key)
        found: list[PncRecord] = []
        too_many = False
        not_checked: tuple[str, ...] = ()
        match key:
            case VehicleKey():
                found, not_checked = self._vehicle(key, fault, now_ms)
            case PersonKey():
                found, too_many = self._person(key, fault, now_ms)
                not_checked = ("PNC NAMES",) if fault == "PAR" else ()
            case PropertyKey():
                found = self._property(key)
            case DriverKey():
                found = self._driver(key)
        return PncAnswer(
            check=check,
            attempt=attempt,
            key_text=key_text,
            records=tuple(found),
            blocks=_blocks(key, now_ms, not_checked),
            as_of_ms=now_ms,
            too_many=too_many,
            not_checked=not_checked,
        )

    def _vehicle(
        self, key: VehicleKey, fault: str, now_ms: int
    ) -> tuple[list[PncRecord], tuple[str, ...]]:
        if fault and fault != "NFD":
            return [_faulty_vehicle(key, fault, now_ms)], ("INSURANCE",) if fault == "PAR" else ()
        if key.vrm:
            row = self._vehicles.get(marks.normalise(key.vrm))
        else:
            ends = [each for each in self.records.vehicles if each.vin.endswith(key.vin)]
            row = ends[0] if len(ends) == 1 else None
            if len(ends) > 1:
                vehicles = [records.vehicle(each, now_ms=now_ms, keeper=None) for each in ends]
                return list(vehicles[: matching.CAP]), ()
        if row is None:
            return [], ()
        keeper_row = self._persons.get(row.keeper_pncid)
        keeper = records.person(keeper_row, now_ms=now_ms) if keeper_row else None
        return [records.vehicle(row, now_ms=now_ms, keeper=keeper)], row.not_checked

    def _person(self, key: PersonKey, fault: str, now_ms: int) -> tuple[list[PncRecord], bool]:
        if fault == "UNK":
            row = next(each for each in self.records.persons if each.tag == "TP02")
            marked = msgspec.structs.replace(
                row, warnings=(records.SignalRow(code=UNKNOWN_CODE, age_days=100),)
            )
            return [records.person(marked, now_ms=now_ms, score=matching.STRONG)], False
        if fault:
            return [], False
        today = datetime.fromtimestamp(now_ms / 1000, tz=UTC).date()
        ranked, more = matching.candidates(key, self._names, today=today)
        if more:
            return [], True
        return [
            records.person(each.row, now_ms=now_ms, name=each.name, score=each.score)
            for each in ranked
        ], False

    def _property(self, key: PropertyKey) -> list[PncRecord]:
        kind = key.type.upper().strip()
        kind = self.records.types.get(kind, kind)
        row = self._items.get((kind, key.serial.upper()))
        return [records.property_item(row)] if row else []

    def _driver(self, key: DriverKey) -> list[PncRecord]:
        def meant(row: records.DriverRow) -> bool:
            if key.driver_no:
                return row.driver_no == key.driver_no.upper()
            same = matching.fold(row.surname) == matching.fold(key.surname)
            given = matching.fold(key.forenames).split()[:1]
            return (
                same
                and row.dob == key.dob
                and (not given or given == matching.fold(row.forenames).split()[:1])
            )

        found = [row for row in self.records.drivers if meant(row)][: matching.CAP]
        return [*map(records.driver, found)]

    def by_id(self, text: str, check_name: str, *, this_year: int) -> records.PersonRow | None:
        """A person by PNCID with the surname as check name; None for either being wrong."""
        canonical = identifiers.canonical_pncid(text, this_year=this_year)
        row = self._persons.get(canonical) if canonical else None
        if row is None or matching.fold(row.surname) != matching.fold(check_name):
            return None
        return row


def _faulty_vehicle(key: VehicleKey, fault: str, now_ms: int) -> VehicleRecord:
    """What stands behind a trigger that answers: a plain car; with UNK an unknown warning."""
    reports: tuple[VehicleReport, ...] = ()
    if fault == "UNK":
        at = datetime.fromtimestamp(now_ms / 1000, tz=UTC) - timedelta(days=1)
        reports = (
            VehicleReport(
                kind="INTEREST",
                reported_at=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                owner="35NB",
                occupant_warnings=(UNKNOWN_CODE,),
            ),
        )
    return VehicleRecord(
        vrm=marks.normalise(key.vrm),
        vin="TSTZZZ00000000999",
        make="FORD",
        model="FOCUS",
        colour="GREY",
        year=2019,
        tax="Y",
        mot="Y",
        insured="" if fault == "PAR" else "Y",
        keeper="TESTER CLEAN",
        reports=reports,
    )


def _blocks(key: Key, now_ms: int, not_checked: tuple[str, ...]) -> tuple[Block, ...]:
    """The sources behind an answer, each with its own as-of time."""
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    morning = now.replace(hour=DVLA_AT[0], minute=DVLA_AT[1], second=0, microsecond=0)
    if morning > now:
        morning -= timedelta(days=1)
    sources = {"PNC": now_ms}
    if isinstance(key, VehicleKey):
        sources |= {"DVLA": round(morning.timestamp() * 1000), "INSURANCE": now_ms}
    if isinstance(key, DriverKey):
        sources |= {"DVLA": round(morning.timestamp() * 1000)}
    return tuple(
        Block(source=name, as_of_ms=at, state="UNAVAILABLE" if name in not_checked else "OK")
        for name, at in sources.items()
    )


class MockPnc:
    """gateway.ports.Pnc in process. latency_s: what an undisturbed answer takes."""

    def __init__(self, register: Register, *, clock: Clock, latency_s: float = 0.0) -> None:
        self._register = register
        self._clock = clock
        self._latency_s = latency_s

    async def query(self, query: PncQuery) -> PncAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline."""
        fault = fault_of(query.key)
        if self._latency_s:
            await self._clock.sleep(self._latency_s)
        match fault:
            case "BAD":
                raise PncInvalid("I0001")
            case "THR" | "ERR" | "MNT" | "RST" | "DRP" | "LCK":
                raise PncDown(fault)
            case "AUT" | "FRB":
                raise PncUnauthorised(fault)
            case "TMT":
                await self._clock.sleep(HANG_S)
                raise PncTimeout("no reply")
            case "SLW":
                await self._clock.sleep(SLOW_S)
            case "LAT":
                await self._clock.sleep(query.deadline_s + LATE_S)
            case "GBG":
                raise PncGarbled("malformed")
            case "TRN":
                raise PncGarbled("truncated")
            case "VST":
                raise PncGarbled("oversize")
            case "ECH" | "ORD":
                raise PncGarbled("echo")
            case _:
                pass
        return self._register.answer(
            query.key,
            check=query.check,
            attempt=query.attempt,
            key_text=query.key_text,
            now_ms=self._clock.wall_ms(),
        )

    async def close(self) -> None:
        """Nothing is open."""
