"""What an answer amounts to: its class, its danger words and its safety tier (pure).

Rule 1: nothing is looked at before `without_covert` has taken the covert parts out.
Rule 2: "no answer" is never "no trace": a source that did not reply makes the rest PARTIAL.
Rule 3: a code or kind that the warnings table does not know is a danger word, never dropped.
Source: pnc-domain reference, 5-8; reliability reference, P08 and I22.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence

import msgspec

from gateway.messages import (
    Circulation,
    DriverRecord,
    PersonRecord,
    PncAnswer,
    PncRecord,
    PropertyRecord,
    ResultClass,
    VehicleRecord,
    VehicleReport,
)
from gateway.rulebook import Policy, Warnings, WarningWord
from gateway.sources import PNC

STRONG = 85
"""A candidate of this score or more is a strong match (pnc-domain, 8)."""

COVERT_CIRCULATIONS = frozenset({"OBSERVE_DO_NOT_ALERT"})
BLOCK_REPORTS = frozenset({"BLOCK"})
_BETWEEN = re.compile(r"[\s_-]+")

SIDE_SOURCES = frozenset({"INSURANCE", "MID", "MOT", "TAX", "VED", "KEEPER", "DVLA", "VES"})
"""Sources without which it can still be said whether police hold a report."""

_SEVERITY = {
    cls: place
    for place, cls in enumerate(
        (
            ResultClass.RESTRICTED,
            ResultClass.HIT_WANTED,
            ResultClass.HIT_CRITICAL,
            ResultClass.HIT_STOLEN,
            ResultClass.HIT_WELFARE,
            ResultClass.HIT_CAUTION,
            ResultClass.HIT_STATUS,
            ResultClass.TRACE_INFO,
            ResultClass.TRACE_CLEAR,
        )
    )
}
_SEVERITIES = ("critical", "high", "medium", "low")
_DANGER = frozenset({"critical", "high"})
_LEAST_HITS = frozenset({ResultClass.TRACE_INFO, ResultClass.TRACE_CLEAR, ResultClass.NO_TRACE})


class Cleared(msgspec.Struct, frozen=True):
    """An answer fit to be looked at. hidden: something was taken out; for the supervisor only."""

    answer: PncAnswer
    hidden: bool


class Word(msgspec.Struct, frozen=True):
    """One word that the table has for something on record.

    text: what the screen says. group: the field group of policy.toml that releases it.
    of: "" (the subject's own), OCCUPANT or KEEPER.
    """

    text: str
    base: str
    short: str
    severity: str
    advice: str
    tier: str
    hit: ResultClass
    order: str
    group: str
    of: str = ""

    @property
    def danger(self) -> bool:
        return self.severity in _DANGER


class Shown(msgspec.Struct, frozen=True):
    """A word as a view carries it: in full, alone, and in three letters."""

    text: str
    base: str
    short: str


# --------------------------------------------------------------------------- covert


class _Hidden(msgspec.Struct, frozen=True):
    """Kinds that never reach a radio, as `_folded` has them."""

    circulations: frozenset[str] = COVERT_CIRCULATIONS
    reports: frozenset[str] = BLOCK_REPORTS


_ALWAYS = _Hidden()


def without_covert(answer: PncAnswer, policy: Policy) -> Cleared:
    """The answer that a terminal would get if the covert parts were not on record.

    Takes out covert circulations and BLOCK reports, keepers' too, and the kinds that the policy
    adds. Idempotent.
    """
    if not policy.covert_circulations and not policy.block_reports:
        return _without(answer, _ALWAYS)
    return _without(
        answer,
        _Hidden(
            COVERT_CIRCULATIONS.union(map(_folded, policy.covert_circulations)),
            BLOCK_REPORTS.union(map(_folded, policy.block_reports)),
        ),
    )


def without_known(answer: PncAnswer) -> PncAnswer:
    """Without what no policy could show: for where none is at hand."""
    return _without(answer, _ALWAYS).answer


def _without(answer: PncAnswer, kinds: _Hidden) -> Cleared:
    records = tuple([_open_part(record, kinds) for record in answer.records])
    if all(map(operator.is_, records, answer.records)):
        return Cleared(answer, hidden=False)
    return Cleared(msgspec.structs.replace(answer, records=records), hidden=True)


def _open_part(record: PncRecord, kinds: _Hidden) -> PncRecord:
    """The record itself when nothing of it is covert."""
    if isinstance(record, PersonRecord):
        return _open_person(record, kinds)
    if isinstance(record, VehicleRecord):
        reports = tuple(
            report
            for report in record.reports
            if not report.block and _folded(report.kind) not in kinds.reports
        )
        keeper = _open_person(record.keeper_record, kinds) if record.keeper_record else None
        if len(reports) == len(record.reports) and keeper is record.keeper_record:
            return record
        return msgspec.structs.replace(record, reports=reports, keeper_record=keeper)
    return record


def _open_person(person: PersonRecord, kinds: _Hidden) -> PersonRecord:
    shown = tuple(
        each
        for each in person.circulations
        if not each.covert and _folded(each.kind) not in kinds.circulations
    )
    if len(shown) == len(person.circulations):
        return person
    return msgspec.structs.replace(person, circulations=shown)


def _folded(kind: str) -> str:
    """A kind is the same in small letters, with blanks around it, or written with hyphens."""
    return _BETWEEN.sub("_", kind.strip().upper())


# --------------------------------------------------------------------------- words


def words_of(record: PncRecord, warnings: Warnings) -> tuple[Word, ...]:
    """Every word for this record, most important first, each once.

    A vehicle's own words come before those of occupants and keeper (console design, 18.2).
    """
    words: list[Word] = []
    if isinstance(record, PersonRecord):
        words = _person_words(record, warnings)
    elif isinstance(record, VehicleRecord):
        words = [report_word(report, warnings) for report in record.reports]
        for report in record.reports:
            words += [
                _word(signal(code, warnings), "warnings", of="OCCUPANT")
                for code in report.occupant_warnings
            ]
        if record.keeper_record is not None:
            words += _person_words(record.keeper_record, warnings, of="KEEPER")
    elif isinstance(record, PropertyRecord) and record.status:
        kind = "LOS" if record.status.upper() == "STOLEN" else record.status.upper()
        words = [_word(warnings.reports.get(kind, warnings.unknown), "stolen")]
    return _in_order(words)


def signal(code: str, warnings: Warnings) -> WarningWord:
    """The table's entry for a warning signal's code; the unknown word if it has none."""
    return warnings.codes.get(code.strip().upper(), warnings.unknown)


def circulation_word(each: Circulation, warnings: Warnings) -> Word:
    kind = each.kind.strip().upper()
    return _word(warnings.circulations.get(kind, warnings.unknown), _circulation_group(kind))


def report_word(report: VehicleReport, warnings: Warnings) -> Word:
    kind, action = report.kind.strip().upper(), report.action.strip().upper()
    entry = None
    if not report.confirmed:
        entry = warnings.reports.get(f"{kind}_UNCONFIRMED")
    if entry is None and action:
        entry = warnings.reports.get(f"{kind}_{action}")
    entry = entry or warnings.reports.get(kind, warnings.unknown)
    return _word(entry, "stolen" if kind in {"LOS", "DECEPTION"} else "reports")


def _circulation_group(kind: str) -> str:
    match kind:
        case "MISSING":
            return "missing"
        case "DISQUALIFIED":
            return "disqualified"
        case "BAIL_CONDITIONS":
            return "bail"
        case "ORDER":
            return "orders"
        case _:
            return "wanted"


def _person_words(person: PersonRecord, warnings: Warnings, of: str = "") -> list[Word]:
    words = [_word(signal(each.code, warnings), "warnings", of=of) for each in person.warnings]
    for each in person.circulations:
        kind = each.kind.strip().upper()
        entry = warnings.circulations.get(kind, warnings.unknown)
        words.append(_word(entry, _circulation_group(kind), of=of))
    return words


def _word(entry: WarningWord, group: str, of: str = "") -> Word:
    base = entry.base or entry.word[:9].strip()
    text = {"": entry.word, "OCCUPANT": f"{base} OCCUPANT", "KEEPER": f"KEEPER {base}"}[of]
    hit = ResultClass(entry.hit) if entry.hit else None
    if hit is None:
        critical = entry.severity == "critical"
        hit = ResultClass.HIT_CRITICAL if critical else ResultClass.HIT_CAUTION
    return Word(
        text=text,
        base=base,
        short=entry.short or base[:3],
        severity=entry.severity,
        advice=entry.advice,
        tier=entry.tier,
        hit=hit,
        order=entry.order,
        group=group,
        of=of,
    )


def _in_order(words: Iterable[Word]) -> tuple[Word, ...]:
    ranked = sorted(
        words,
        key=lambda w: (w.of != "", w.order, _severity(w), _SEVERITY.get(w.hit, 0)),
    )
    seen: dict[tuple[str, str], Word] = {}
    for word in ranked:
        seen.setdefault((word.text, word.group), word)
    return tuple(seen.values())


def _severity(word: Word) -> int:
    return _SEVERITIES.index(word.severity) if word.severity in _SEVERITIES else 0


# --------------------------------------------------------------------------- candidates


def chosen(answer: PncAnswer) -> PncRecord | None:
    """The one record that the answer is about, or None when there is none or no single one.

    One candidate is the one; of several, the only strong one (>= 85). Two strong ones are MULTIPLE.
    """
    if answer.too_many or not answer.records:
        return None
    if len(answer.records) == 1:
        return answer.records[0]
    strong = [r for r in answer.records if isinstance(r, PersonRecord) and r.score >= STRONG]
    return strong[0] if len(strong) == 1 else None


def missing(answer: PncAnswer) -> tuple[str, ...]:
    """The sources that did not reply, each once, whichever way the PNC says it."""
    names = [*answer.not_checked]
    names += [block.source for block in answer.blocks if block.state.upper() == "UNAVAILABLE"]
    return tuple(dict.fromkeys(name.strip().upper() or "A SOURCE" for name in names))


def stale(answer: PncAnswer) -> tuple[tuple[str, int], ...]:
    """The sources whose data are older than they should be: (name, as-of in ms)."""
    return tuple(
        (block.source.strip().upper(), block.as_of_ms)
        for block in answer.blocks
        if block.state.upper() not in {"OK", "UNAVAILABLE"}
    )


def shown_words(answer: PncAnswer, warnings: Warnings) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """(words of what the answer is about, words of weaker candidates that those do not have).

    With several candidates and no single strong one, the first holds the words of all.
    """
    one = chosen(answer)
    if one is None:
        every = [word for record in answer.records for word in words_of(record, warnings)]
        return _in_order(every), ()
    mine = words_of(one, warnings)
    have = {(word.text, word.group) for word in mine}
    rest = [
        word
        for record in answer.records
        if record is not one
        for word in words_of(record, warnings)
        if (word.text, word.group) not in have
    ]
    return mine, _in_order(rest)


# --------------------------------------------------------------------------- verdicts


def classify(answer: PncAnswer, warnings: Warnings, *, see_restricted: bool = False) -> ResultClass:
    """The one class of this answer; the most severe wins (pnc-domain, 8).

    see_restricted: a restricted record counts as what it is (for roles that may see it).
    """
    answer = without_known(answer)
    if answer.too_many:
        return ResultClass.TOO_MANY
    one = chosen(answer)
    if one is None and answer.records:
        return ResultClass.MULTIPLE
    found = ResultClass.NO_TRACE if one is None else _class_of(one, warnings, see_restricted)
    unseen = missing(answer)
    if unseen and found in _LEAST_HITS:
        return ResultClass.PARTIAL
    if PNC in unseen and found is ResultClass.HIT_STATUS:
        # No tax is all that is known: whether it is stolen is not.
        return ResultClass.PARTIAL
    return found


def status_class(answer: PncAnswer) -> ResultClass:
    """Of tax, MOT and insurance alone: never a word that could be read of police records."""
    if missing(answer):
        return ResultClass.PARTIAL
    one = chosen(answer)
    lapsed = isinstance(one, VehicleRecord) and ("N" in {one.tax, one.mot, one.insured} or one.sorn)
    return ResultClass.HIT_STATUS if lapsed else ResultClass.TRACE_INFO


def danger_words(answer: PncAnswer, warnings: Warnings) -> tuple[str, ...]:
    """The danger words of the answer, in the order of the screen, each once."""
    mine, _ = shown_words(without_known(answer), warnings)
    return tuple(dict.fromkeys(word.text for word in mine if word.danger))


def _class_of(record: PncRecord, warnings: Warnings, see_restricted: bool) -> ResultClass:
    found = [word.hit for word in words_of(record, warnings)]
    if isinstance(record, PersonRecord):
        if record.restricted and not see_restricted:
            found.append(ResultClass.RESTRICTED)
        found.append(_person_status(record))
    elif isinstance(record, VehicleRecord):
        keeper = record.keeper_record
        if keeper and keeper.disqualification:
            found.append(ResultClass.HIT_STATUS)
        lapsed = "N" in {record.tax, record.mot, record.insured}
        if lapsed or record.sorn or record.exported or record.scrapped:
            found.append(ResultClass.HIT_STATUS)
    elif isinstance(record, DriverRecord):
        if record.disqualification:
            found.append(ResultClass.HIT_STATUS)
        elif record.endorsements:
            found.append(ResultClass.TRACE_INFO)
    return min([*found, ResultClass.TRACE_CLEAR], key=lambda cls: _SEVERITY.get(cls, 0))


def _person_status(person: PersonRecord) -> ResultClass:
    if person.disqualification or person.bail or person.orders:
        return ResultClass.HIT_STATUS
    if person.markers or person.offences or person.deceased:
        return ResultClass.TRACE_INFO
    return ResultClass.TRACE_CLEAR


# --------------------------------------------------------------------------- the safety tier

CLEAR = "CLEAR"
_TIER_ORDER = ("WITHDRAW", "CAUTION+", "WELFARE", "CAUTION", CLEAR)
"""As the classes go: wanted and critical, then welfare, then caution (pnc-domain, 8)."""

_CAUTION_ADVICE = {
    "CAUTION": "KEEP DISTANCE",
    "CAUTION/PPE": "USE PPE",
    "CAUTION/BWV": "BODY VIDEO ON",
}
_ADVICE = {
    "WITHDRAW": ("CALL CONTROL", "DO NOT APPROACH"),
    "CAUTION+": ("TWO OFFICERS", "CALL CONTROL"),
    CLEAR: ("USUAL CARE",),
}


class Tier(msgspec.Struct, frozen=True):
    """All that an L1 role learns: the tier and its advice variant, one or two lines <= 20."""

    name: str
    advice: tuple[str, ...]


def tiers() -> tuple[Tier, ...]:
    """Every tier with every advice variant that can occur: what one length is taken from."""
    cautions: list[Sequence[str]] = [
        ("CAUTION",),
        ("CAUTION/PPE",),
        ("CAUTION/BWV",),
        ("CAUTION", "CAUTION/PPE"),
        ("CAUTION", "CAUTION/BWV"),
        ("CAUTION/PPE", "CAUTION/BWV"),
    ]
    sets = [("WITHDRAW",), ("CAUTION+",), ("WELFARE",), ("WELFARE", "CAUTION"), (), *cautions]
    return tuple(_tier_of(set(names)) for names in sets)


def tier(answer: PncAnswer, warnings: Warnings) -> Tier:
    """The tier of everything in the answer, weaker candidates included (safety beats silence).

    Too many candidates, or a source that did not reply, is never CLEAR: what was not looked at
    cannot be said to be safe. Below L3 it reads as CAUTION, so that it tells of no record.
    """
    answer = without_known(answer)
    names = {word.tier for record in answer.records for word in words_of(record, warnings)}
    unseen = [name for name in missing(answer) if name not in SIDE_SOURCES]
    if answer.too_many or unseen:
        names.add("CAUTION")
    return _tier_of(names)


def _tier_of(names: set[str]) -> Tier:
    plain = {name.partition("/")[0] for name in names}
    # A tier that this code does not know is worth caution, not silence.
    plain = {name if name in _TIER_ORDER else "CAUTION" for name in plain}
    name = next((each for each in _TIER_ORDER if each in plain), CLEAR)
    if name == "WELFARE":
        advice: tuple[str, ...] = ("STAY WITH PERSON", "CALL CONTROL")
        if "CAUTION" in plain:
            advice = ("STAY, TAKE CARE", "CALL CONTROL")
    elif name == "CAUTION":
        variants = [text for key, text in _CAUTION_ADVICE.items() if key in names]
        advice = tuple(variants[:2]) or ("KEEP DISTANCE",)
    else:
        advice = _ADVICE[name]
    return Tier(name, advice)
