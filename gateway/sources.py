"""Which sources a question goes to, and what their replies amount to together (pure).

Rule 1: who asks for tax, MOT and insurance alone is answered by the vehicle register. The PNC does
not hear of it, whatever else is up or down.
Rule 2: what a source did not say is unknown: never N, never "no reports". That it was silent is
said.
Rule 3: each source keeps its own as-of time.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.messages import (
    Block,
    CheckRequest,
    Level,
    PncAnswer,
    PncQuery,
    PncRecord,
    RegisterAnswer,
    RegisterQuery,
    SourceSaid,
    StatusRecord,
    VehicleKey,
    VehicleRecord,
)

PNC = "PNC"
DVLA, MID = "DVLA", "MID"
REGISTER_SOURCES = (DVLA, MID)
REGISTER = "DVLA/MID"
"""The source of a question to the register, as its record names it: it asks both at once."""
STATUS = "status"
"""The scope of who asks for tax, MOT and insurance alone."""
STATUS_GROUP = "vehicle_status"
STATUS_SOURCES = frozenset({"INSURANCE", "MID", "MOT", "TAX", "VED", "DVLA", "VES"})
"""Sources of the PNC's own copy, for which the register stands when it is asked."""

UNAVAILABLE = "UNAVAILABLE"
ASKED, SILENT, NOT_ASKED = "asked", "unavailable", "not_asked"
_BELOW_L3 = frozenset({Level.L1.value, Level.L2.value})


class Plan(msgspec.Struct, frozen=True):
    """Who is asked. lost: the PNC should be, but is known to be down."""

    pnc: bool = True
    register: bool = False
    lost: bool = False

    @property
    def both(self) -> bool:
        return self.pnc and self.register


def plan(request: CheckRequest, groups: Iterable[str], status_from: str, *, register: bool) -> Plan:
    """groups, status_from: of the rule that admitted it. register: whether there is one."""
    if request.scope == STATUS:
        return Plan(pnc=False, register=True)
    by_mark = isinstance(request.key, VehicleKey) and bool(request.key.vrm)
    wanted = status_from == "register" and STATUS_GROUP in groups
    return Plan(register=register and by_mark and wanted)


def without_pnc(planned: Plan) -> Plan:
    """The PNC is known to be down: the register answers for its part."""
    return Plan(pnc=False, register=planned.register, lost=True)


# --------------------------------------------------------------------------- questions and answers


def register_query(query: PncQuery) -> RegisterQuery:
    """The same attempt, as the register hears it: neither who asks nor why."""
    assert isinstance(query.key, VehicleKey)
    return RegisterQuery(
        check=query.check,
        attempt=query.attempt,
        vrm=query.key.vrm,
        key_text=query.key_text,
        asked_at_ms=query.asked_at_ms,
        deadline_s=query.deadline_s,
    )


def alone(query: PncQuery, status: RegisterAnswer) -> PncAnswer:
    """What the register said, in the form of an answer."""
    record = _vouched(status)
    return PncAnswer(
        check=query.check,
        attempt=query.attempt,
        key_text=query.key_text,
        records=() if record is None else (_with_status(VehicleRecord(vrm=record.vrm), record),),
        blocks=status.blocks,
        as_of_ms=status.as_of_ms,
    )


def police_lost(answer: PncAnswer) -> PncAnswer:
    """What the register said, where the PNC was to be asked, too, and did not reply."""
    silent = Block(PNC, answer.as_of_ms, UNAVAILABLE)
    return msgspec.structs.replace(answer, blocks=(silent, *answer.blocks))


def together(police: PncAnswer, status: RegisterAnswer | None, *, now_ms: int) -> PncAnswer:
    """The PNC's answer with the register's status in place of the PNC's own copy of it.

    status None: the register did not reply; then nobody vouches for a status.
    """
    record = None if status is None else _vouched(status)
    silent = tuple(Block(name, now_ms, UNAVAILABLE) for name in REGISTER_SOURCES)
    records: tuple[PncRecord, ...] = tuple(
        _with_status(each, record) if isinstance(each, VehicleRecord) else each
        for each in police.records
    )
    if not records and record is not None and not police.too_many:
        records = (_with_status(VehicleRecord(vrm=record.vrm), record),)
    return msgspec.structs.replace(
        police,
        records=records,
        blocks=(
            *(each for each in police.blocks if each.source.upper() not in STATUS_SOURCES),
            *(silent if status is None else status.blocks),
        ),
        not_checked=tuple(n for n in police.not_checked if n.upper() not in STATUS_SOURCES),
    )


def _vouched(status: RegisterAnswer) -> StatusRecord | None:
    """Of its record what sources said that replied: the rest is unknown, whatever stands there."""
    record = status.record
    if record is None:
        return None
    silent = {each.source.upper() for each in status.blocks if each.state.upper() == UNAVAILABLE}
    if DVLA in silent:
        record = StatusRecord(vrm=record.vrm, insured=record.insured, insurer=record.insurer)
    if MID in silent:
        record = msgspec.structs.replace(record, insured="", insurer="")
    return record


def _with_status(vehicle: VehicleRecord, status: StatusRecord | None) -> VehicleRecord:
    """status None: unknown to the register, or it did not reply."""
    known = status or StatusRecord(vrm=vehicle.vrm)
    return msgspec.structs.replace(
        vehicle,
        make=vehicle.make or known.make,
        colour=vehicle.colour or known.colour,
        tax=known.tax,
        tax_due=known.tax_due,
        mot=known.mot,
        mot_expiry=known.mot_expiry,
        insured=known.insured,
        insurer=known.insurer,
        sorn=known.sorn,
        exported=vehicle.exported or known.exported,
    )


# --------------------------------------------------------------------------- what is said of them


def said(
    answer: PncAnswer, *, vehicle: bool, level: str, groups: Iterable[str], opened_at_ms: int
) -> tuple[SourceSaid, ...]:
    """Which sources were asked and which were not, each with its as-of time (0: not asked).

    Below L3 as of the question at the latest: how long a source took would tell a trace from none.
    At L1 not even which of them was silent: it may be the reason behind the tier.
    """
    if level not in _BELOW_L3:
        blocks: Iterable[Block] = answer.blocks
    elif level == Level.L1.value:
        return (SourceSaid(PNC, ASKED, opened_at_ms),)
    else:
        status = STATUS_GROUP in groups
        blocks = [
            each
            for each in answer.blocks
            if each.source == PNC or (status and each.source.upper() in STATUS_SOURCES)
        ]
    found = [
        SourceSaid(
            each.source,
            SILENT if each.state.upper() == UNAVAILABLE else ASKED,
            min(each.as_of_ms, opened_at_ms) if level in _BELOW_L3 else each.as_of_ms,
        )
        for each in blocks
    ]
    names = {each.source.upper() for each in found}
    names |= {MID} if "INSURANCE" in names else set()
    wanted = (PNC, *REGISTER_SOURCES) if vehicle else (PNC,)
    found += [SourceSaid(name, NOT_ASKED, 0) for name in wanted if name not in names]
    return tuple(found)


def police_asked(sources: Iterable[SourceSaid]) -> bool:
    """Whether the PNC was, be it that it did not reply."""
    return not any(each.source == PNC and each.state == NOT_ASKED for each in sources)
