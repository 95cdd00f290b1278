"""The mock vehicle register in process: tax, MOT and insurance, and every fault on demand.

Its records are the status part of `config/pnc/vehicles.toml`: one truth for both. It reads no other
member of that file, so that it cannot tell a keeper or a report. Synthetic data only.
Simulators import this module and no other of this package.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from gateway.errors import (
    ConfigError,
    PncDown,
    PncGarbled,
    PncInvalid,
    PncUnauthorised,
)
from gateway.messages import Block, RegisterAnswer, RegisterQuery, StatusRecord
from gateway.ports import Clock

DVLA, MID = "DVLA", "MID"
SOURCES = (DVLA, MID)
"""Tax and MOT from the first, insurance from the second."""
DVLA_AT = (4, 12)
"""The DVLA's copy is of the early morning, UTC (pnc-domain, 2.1)."""
HANG_S = 30.0
SLOW_S = 5.0
FAULTS = (
    *("BAD", "NFD", "THR", "ERR", "MNT", "TMT", "SLW", "ECH", "GBG", "TRN", "VST", "AUT", "DRP"),
    *("DVL", "MID", "PAR"),
)
"""As the PNC has them (`ER99TMT`), and `DVL`, `MID` (also `PAR`): that source does not reply. Of
`ER19...`, the DVLA's own test marks, those that it has."""
_TRIGGER = re.compile(r"ER(?:99|19)([A-Z]{3})")
_MARK = re.compile(r"[A-Z0-9]{1,10}")
_RESERVED = re.compile(
    r"[A-Z]{2}(99|49)[A-Z]{3}|U[0-9]{1,3}TST|TST[0-9]{1,3}U|(ER|AA)19[A-Z]{3}|L2WPS"
)

YesNo = Literal["Y", "N"]


class InvalidMark(ValueError):
    """Not a mark that can be looked for. Never quotes it."""


class StatusRow(msgspec.Struct, frozen=True, kw_only=True):
    """Of a vehicle in the file, what this register holds; msgspec skips every other member."""

    vrm: str
    make: str = "FORD"
    colour: str = "BLUE"
    tax: YesNo = "Y"
    tax_due: str = ""
    mot: YesNo = "Y"
    mot_expiry: str = ""
    insured: YesNo = "Y"
    insurer: str = "SYNTHA MUTUAL"
    sorn: bool = False
    exported: bool = False
    not_checked: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True):
    vehicles: tuple[StatusRow, ...]


class StatusRecords:
    """The records, by mark. Pure; the caller says the time."""

    def __init__(self, folder: Path) -> None:
        """folder: config/pnc. Raises ConfigError with every finding."""
        name = "vehicles.toml"
        try:
            file = msgspec.toml.decode((folder / name).read_bytes(), type=_File)
        except OSError as error:
            raise ConfigError([f"{name}: cannot be read: {error.strerror}"]) from error
        except msgspec.DecodeError as error:
            raise ConfigError([f"{name}: {error}"]) from error
        found = [
            f"{name}: vehicles[{place}].vrm: not a reserved mark"
            for place, row in enumerate(file.vehicles)
            if not _RESERVED.fullmatch(row.vrm)
        ]
        if found:
            raise ConfigError(found)
        self._rows = {row.vrm: row for row in file.vehicles}

    def answer(
        self,
        vrm: str,
        *,
        check: str,
        attempt: int,
        key_text: str,
        now_ms: int,
        silent: Collection[str] = (),
    ) -> RegisterAnswer:
        """What is on record for this mark. silent: sources that do not reply.

        Raises InvalidMark.
        """
        if not _MARK.fullmatch(vrm):
            raise InvalidMark("vrm: 1 to 10 of A-Z 0-9")
        row = self._rows.get(vrm)
        # A mark of which the file says that its insurer did not reply, is so here, too.
        gone = {*silent, *((MID,) if row is not None and row.not_checked else ())}
        record = None if row is None else _record(row, gone)
        return RegisterAnswer(
            check=check,
            attempt=attempt,
            key_text=key_text,
            record=record,
            blocks=tuple(
                Block(
                    source=source,
                    as_of_ms=_copied_ms(now_ms) if source == DVLA else now_ms,
                    state="UNAVAILABLE" if source in gone else "OK",
                )
                for source in SOURCES
            ),
            as_of_ms=now_ms,
        )


def _record(row: StatusRow, silent: Collection[str]) -> StatusRecord:
    """A source that does not reply says nothing: its members are unknown, and never N."""
    dvla, mid = DVLA not in silent, MID not in silent
    return StatusRecord(
        vrm=row.vrm,
        tax=row.tax if dvla else "",
        tax_due=row.tax_due if dvla else "",
        mot=row.mot if dvla else "",
        mot_expiry=row.mot_expiry if dvla else "",
        insured=row.insured if mid else "",
        insurer=row.insurer if mid and row.insured == "Y" else "",
        sorn=row.sorn and dvla,
        make=row.make if dvla else "",
        colour=row.colour if dvla else "",
        exported=row.exported and dvla,
    )


def _copied_ms(now_ms: int) -> int:
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    morning = now.replace(hour=DVLA_AT[0], minute=DVLA_AT[1], second=0, microsecond=0)
    if morning > now:
        morning -= timedelta(days=1)
    return round(morning.timestamp() * 1000)


def fault_of(vrm: str) -> str:
    """The fault that this mark asks for; empty for none. An unknown trigger is none."""
    found = _TRIGGER.fullmatch(vrm)
    return found[1] if found and found[1] in FAULTS else ""


def silent_of(fault: str) -> frozenset[str]:
    """Which sources this fault keeps from replying."""
    return {"DVL": frozenset({DVLA}), "MID": frozenset({MID}), "PAR": frozenset({MID})}.get(
        fault, frozenset()
    )


class MockRegister:
    """gateway.ports.VehicleRegister in process."""

    def __init__(self, records: StatusRecords, *, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def look_up(self, query: RegisterQuery) -> RegisterAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline."""
        fault = fault_of(query.vrm)
        match fault:
            case "BAD":
                raise PncInvalid("I0001")
            case "THR" | "ERR" | "MNT" | "DRP":
                raise PncDown(fault)
            case "AUT":
                raise PncUnauthorised(fault)
            case "TMT":
                await self._clock.sleep(HANG_S)
                raise PncDown("hung up without a reply")
            case "SLW":
                await self._clock.sleep(SLOW_S)
            case "GBG":
                raise PncGarbled("malformed")
            case "TRN":
                raise PncGarbled("truncated")
            case "VST":
                raise PncGarbled("oversize")
            case "ECH":
                raise PncGarbled("echo")
            case _:
                pass
        try:
            return self._records.answer(
                query.vrm,
                check=query.check,
                attempt=query.attempt,
                key_text=query.key_text,
                now_ms=self._clock.wall_ms(),
                silent=silent_of(fault),
            )
        except InvalidMark as error:
            raise PncInvalid("I0001") from error

    async def sources(self) -> frozenset[str]:
        return frozenset(SOURCES)

    async def close(self) -> None:
        """Nothing is open."""
