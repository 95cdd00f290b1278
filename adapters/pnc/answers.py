"""Rows as an answer has them: ages become dates, weeded reports are gone. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from adapters.pnc.rows import (
    BailRow,
    BanRow,
    DriverRow,
    NameRow,
    PersonRow,
    PropertyRow,
    VehicleRow,
)
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

UNCONFIRMED_DAYS = 42
"""A report of loss or theft that nobody confirmed is deleted on this day (pnc-domain, 7.1)."""


def person(
    row: PersonRow, *, since_ms: int, name: NameRow | None = None, score: int = 0
) -> PersonRecord:
    """The answer's form of a person, under the name that matched. Ages are counted from since."""
    today = datetime.fromtimestamp(since_ms / 1000, tz=UTC).date()
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
        bail=None if row.bail is None else _bail(row.bail, today),
        disqualification=None if ban is None else _ban(ban),
        offences=row.offences,
        deceased=row.deceased,
        restricted=row.restricted,
    )


def vehicle(
    row: VehicleRow, *, since_ms: int, now_ms: int, keeper: PersonRecord | None
) -> VehicleRecord:
    """The answer's form of a vehicle. Ages are counted from since; what is weeded by now is not
    in it, so that the vehicle merely looks recovered (pnc-domain, 7.1)."""
    since = datetime.fromtimestamp(since_ms / 1000, tz=UTC)
    run_h = (now_ms - since_ms) / 3_600_000
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
                reported_at=(since - timedelta(hours=report.reported_age_h)).strftime(
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
            if report.confirmed or report.reported_age_h + run_h < UNCONFIRMED_DAYS * 24
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


def _bail(row: BailRow, today: date) -> Bail:
    appears = "" if row.next_in_days is None else (today + timedelta(days=row.next_in_days))
    return Bail(status=row.status, conditions=row.conditions, next_date=str(appears))


def _ban(row: BanRow) -> Disqualification:
    return Disqualification(until=row.until, until_test=row.until_test, category=row.category)
