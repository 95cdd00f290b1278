"""Who may ask what, and what of an answer they may see (pure).

Rule 1: default deny. What no rule names is refused; a field that no group names is shown to nobody.
Rule 2: a lower level's view is made from that level's inputs alone: L1 sees the tier, L2 the flags.
Rule 3: safety beats silence. A danger word that may not be released becomes the tier, not nothing.
Source: pnc-domain reference, 14.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from gateway import results, sources
from gateway.messages import (
    Asker,
    CheckRequest,
    DriverKey,
    DriverRecord,
    Key,
    Kind,
    Level,
    Outcome,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PncRecord,
    PropertyKey,
    PropertyRecord,
    ResultClass,
    SourceSaid,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
    kind_of,
)
from gateway.results import Shown, Tier, Word
from gateway.rulebook import Policy, Rule, Warnings
from gateway.transliteration import transliterate

FIELD_GROUPS = frozenset(
    {
        "safety",
        "police_interest",
        "missing_flag",
        "stolen_flag",
        "disqualified_flag",
        "vehicle_status",
        "trace",
        "warnings",
        "qualifier",
        "wanted",
        "missing",
        "identity",
        "descriptors",
        "birth_year",
        "birth_date",
        "address",
        "place_of_birth",
        "markers",
        "bail",
        "orders",
        "disqualified",
        "licence",
        "aliases",
        "offences",
        "identifiers",
        "vehicle",
        "stolen",
        "reports",
        "keeper",
        "keeper_history",
        "property",
        "restricted",
    }
)
"""Every field group that a policy file may name. Covert and BLOCK have none, on purpose."""

NOT_YOUR_ROLE = "NOT YOUR ROLE"
REASON_UNKNOWN = "REASON NOT ON LIST"
REASON_NOT_ALLOWED = "REASON NOT FOR YOU"


class Decision(msgspec.Struct, frozen=True):
    """May this be asked, and what may be seen of the answer.

    fields: the field groups released. why: for the officer, at most 20, empty when allowed.
    """

    allowed: bool
    level: Level
    fields: frozenset[str] = frozenset()
    hold: bool = False
    prompt: bool = False
    why: str = ""
    status_from: str = "pnc"
    status_alone: bool = False
    """The question is of tax, MOT and insurance: nothing is known that a safety word could say."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one officer may see of one outcome, and nothing else.

    Texts are as the PNC wrote them (any Unicode); rendering makes them fit a screen.
    subject: what was asked, as its asker knows it. cautions: words below danger. others: words of
    weaker candidates. identity, match: who or what it is, how sure. headlines: what is not in order
    (NO INSURANCE, DISQUALIFIED). details: in the order (e)-(g).
    stale: (source, as-of ms). released: the field groups really used, for the disclosure record.
    """

    outcome: Outcome
    kind: Kind | None = None
    result_class: str = ""
    level: str = ""
    subject: str = ""
    tier: str = ""
    advice: tuple[str, ...] = ()
    dangers: tuple[Shown, ...] = ()
    cautions: tuple[Shown, ...] = ()
    others: tuple[Shown, ...] = ()
    candidates: int = 0
    ask: str = ""
    flags: dict[str, str] = {}
    identity: tuple[str, ...] = ()
    match: str = ""
    headlines: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    stale: tuple[tuple[str, int], ...] = ()
    as_of_ms: int = 0
    released: tuple[str, ...] = ()
    fields: dict[str, str] = {}
    why: str = ""
    sources: tuple[SourceSaid, ...] = ()
    """Where the register was asked: which sources were, and when each was so."""
    asked_at_ms: int = 0
    adds_to: str = ""
    """Short form of the check whose answer this one completes."""

    @property
    def danger(self) -> tuple[str, ...]:
        """The danger words in full, as the terminal's `danger` member has them."""
        return tuple(word.text for word in self.dangers)


# --------------------------------------------------------------------------- may they ask


def may_ask(policy: Policy, asker: Asker, request: CheckRequest) -> Decision:
    """Default deny. The first rule that fits decides; a full answer takes the highest level."""
    reason = policy.reasons.get(request.reason)
    if reason is None or not reason.active:
        return Decision(False, Level.L0, why=REASON_UNKNOWN)
    kind = kind_of(request.key)
    rules = [
        rule
        for rule in policy.rules
        if rule.agency == asker.agency
        and rule.role == asker.role
        and kind in rule.kinds
        and rule.level is not Level.L0
        and (request.full or not rule.on_request)
    ]
    if not rules:
        return Decision(False, Level.L0, why=NOT_YOUR_ROLE)
    rules = [rule for rule in rules if request.reason in rule.reasons]
    if not rules:
        return Decision(False, Level.L0, why=REASON_NOT_ALLOWED)
    rule = max(rules, key=lambda each: each.level.value) if request.full else rules[0]
    # Below L3 a prompt would tell of a record: there is none, whatever the rule says.
    prompt = rule.prompt and rule.level.value >= Level.L3.value
    decision = Decision(
        True,
        rule.level,
        fields=_groups(policy, rule),
        hold=rule.hold,
        prompt=prompt,
        status_from=rule.status_from,
    )
    return _status_alone(decision) if request.scope == sources.STATUS else decision


def _status_alone(decision: Decision) -> Decision:
    """For tax, MOT and insurance alone: what of the rule's groups a register knows, if anything."""
    groups = decision.fields & {sources.STATUS_GROUP, "vehicle"}
    # L1 is the safety word and nothing else, and nobody has been asked for that here.
    if sources.STATUS_GROUP not in groups or decision.level is Level.L1:
        return Decision(False, Level.L0, why=NOT_YOUR_ROLE)
    return msgspec.structs.replace(decision, fields=groups, prompt=False, status_alone=True)


def may_read(
    policy: Policy, roles: frozenset[str], agency: str, request: CheckRequest
) -> Decision | None:
    """What the control room may see of an answer to this question: the highest of what the rules
    grant these roles; of their own agency's rules when they are of one. None: nothing."""
    kind = kind_of(request.key)
    rules = [
        rule
        for rule in policy.rules
        if rule.role in roles
        and agency in ("", rule.agency)
        and kind in rule.kinds
        and rule.level is not Level.L0
    ]
    if not rules:
        return None
    rule = max(rules, key=lambda each: each.level.value)
    decision = Decision(True, rule.level, fields=_groups(policy, rule))
    if request.scope == sources.STATUS:
        decision = _status_alone(decision)
    return decision if decision.allowed else None


def _groups(policy: Policy, rule: Rule) -> frozenset[str]:
    named = rule.fields or policy.levels.get(rule.level.value, ())
    return frozenset(named) & FIELD_GROUPS


# --------------------------------------------------------------------------- what they see


def without_answer(
    outcome: Outcome,
    cls: ResultClass,
    cause: str,
    request: CheckRequest | None,
    level: Level | None = None,
    to_do: str = "",
) -> View:
    """The view of a refusal or of no answer. Not a word of it comes from the PNC.

    level: the asker's, when it is known; below L3 no class is sent (docs/interfaces.md).
    to_do: what the officer can do about it; empty: ask the control room.
    """
    return View(
        outcome=outcome,
        kind=kind_of(request.key) if request else None,
        result_class="" if level in {Level.L1, Level.L2} else cls.value,
        subject=subject_of(request.key) if request else "",
        advice=(to_do,) if to_do else (),
        why=cause,
    )


def project(
    policy: Policy,
    decision: Decision,
    request: CheckRequest,
    answer: PncAnswer,
    warnings: Warnings,
) -> View:
    """What this asker may see of this answer: an allow-list, level by level."""
    answer = results.without_covert(answer, policy).answer
    if not decision.allowed or decision.level is Level.L0:
        why = decision.why or NOT_YOUR_ROLE
        return without_answer(Outcome.REFUSED, ResultClass.DENIED, why, request)
    if request.scope == sources.STATUS:
        if sources.STATUS_GROUP not in decision.fields or decision.level is Level.L1:
            denied = ResultClass.DENIED
            return without_answer(Outcome.REFUSED, denied, NOT_YOUR_ROLE, request)
        return _status_view(decision, request, answer)
    tier = results.tier(answer, warnings)
    if decision.level is Level.L1:
        return _tier_view(request, answer, tier)
    if decision.level is Level.L2:
        return _flags_view(decision.fields, request, answer, warnings, tier)
    return _full_view(decision, request, answer, warnings, tier)


def _tier_view(request: CheckRequest, answer: PncAnswer, tier: Tier) -> View:
    """L1: of the answer, the tier and its advice variant, and nothing else."""
    return View(
        outcome=Outcome.ANSWERED,
        kind=kind_of(request.key),
        level=Level.L1.value,
        subject=subject_of(request.key),
        tier=tier.name,
        advice=tier.advice,
        dangers=_tier_words(tier),
        released=("safety",),
        fields={"safety": tier.name, "advice": ", ".join(tier.advice)},
    )


_TIER_SHORTS = {"WITHDRAW": "WDR", "CAUTION+": "CA+", "CAUTION": "CAU", "WELFARE": "WEL"}


def _tier_words(tier: Tier) -> tuple[Shown, ...]:
    short = _TIER_SHORTS.get(tier.name)
    return (Shown(tier.name, tier.name, short),) if short else ()


_FLAG_WORDS = {
    "stolen_flag": Shown("STOLEN", "STOLEN", "STL"),
    "police_interest": Shown("POLICE INTEREST", "INTEREST", "POL"),
    "missing_flag": Shown("MISSING", "MISSING", "MIS"),
}
_FLAG_NAMES = {
    "stolen_flag": "STOLEN",
    "police_interest": "INTEREST",
    "missing_flag": "MISSING",
    "disqualified_flag": "DISQ",
}
_FLAGS_OF = {
    Kind.VEHICLE: ("stolen_flag", "police_interest"),
    Kind.PERSON: ("police_interest", "missing_flag", "disqualified_flag"),
    Kind.DRIVER: ("disqualified_flag",),
    Kind.PROPERTY: ("stolen_flag",),
}


def _flags_view(
    groups: frozenset[str],
    request: CheckRequest,
    answer: PncAnswer,
    warnings: Warnings,
    tier: Tier,
) -> View:
    """L2: flags, and the tier. No flag tells a person on record from one who is not."""
    kind = kind_of(request.key)
    words = [w for record in answer.records for w in results.words_of(record, warnings)]
    unseen = set(results.missing(answer)) - results.SIDE_SOURCES
    unsure = answer.too_many or bool(unseen)
    facts = {
        "stolen_flag": any(word.hit is ResultClass.HIT_STOLEN for word in words),
        "police_interest": any(
            word.group == "wanted" or (word.group == "reports" and word.danger) for word in words
        ),
        "missing_flag": any(word.group == "missing" for word in words),
        "disqualified_flag": any(_disqualified(record) for record in answer.records)
        or any(word.group == "disqualified" for word in words),
    }
    flags: dict[str, str] = {}
    used: list[str] = ["safety"]
    for name in _FLAGS_OF[kind]:
        if name in groups:
            # Unknown is never "no".
            flags[_FLAG_NAMES[name]] = "Y" if facts[name] else "?" if unsure else "N"
            used.append(name)
    dangers = [*_tier_words(tier)]
    dangers += [w for name, w in _FLAG_WORDS.items() if flags.get(_FLAG_NAMES[name]) == "Y"]
    details: list[str] = []
    not_checked: tuple[str, ...] = ()
    if kind is Kind.VEHICLE and "vehicle_status" in groups:
        record = results.chosen(answer)
        vehicle = record if isinstance(record, VehicleRecord) else None
        flags |= _status_flags(vehicle)
        details = _status_dates(vehicle)
        told = results.SIDE_SOURCES | {sources.PNC}
        not_checked = tuple(s for s in results.missing(answer) if s in told)
        used.append("vehicle_status")
    return View(
        outcome=Outcome.ANSWERED,
        kind=kind,
        level=Level.L2.value,
        subject=subject_of(request.key),
        tier=tier.name,
        advice=tier.advice,
        dangers=tuple(dangers),
        flags=flags,
        details=tuple(details),
        not_checked=not_checked,
        released=tuple(used),
        fields={"safety": tier.name} | {name.lower(): value for name, value in flags.items()},
    )


def _status_view(decision: Decision, request: CheckRequest, answer: PncAnswer) -> View:
    """Tax, MOT and insurance alone: nothing is said of police records, not even a tier."""
    record = results.chosen(answer)
    vehicle = record if isinstance(record, VehicleRecord) else None
    flags = _status_flags(vehicle)
    release = _Release(decision.fields)
    release.used[sources.STATUS_GROUP] = None
    if vehicle is not None:
        looks = "  ".join(filter(None, (vehicle.make, vehicle.colour)))
        release.identify("vehicle", looks, make=vehicle.make, colour=vehicle.colour)
    else:
        release.details.append("NOT ON REGISTER")
    release.details += _status_dates(vehicle)
    below_l3 = decision.level in {Level.L1, Level.L2}
    return View(
        outcome=Outcome.ANSWERED,
        kind=Kind.VEHICLE,
        result_class="" if below_l3 else results.status_class(answer).value,
        level=decision.level.value,
        subject=subject_of(request.key),
        flags=flags,
        identity=tuple(release.identity),
        details=tuple(release.details),
        not_checked=results.missing(answer),
        as_of_ms=answer.as_of_ms,
        released=tuple(release.used),
        fields=release.fields | {name.lower(): value for name, value in flags.items()},
    )


def _status_flags(vehicle: VehicleRecord | None) -> dict[str, str]:
    if vehicle is None:
        return {"TAX": "?", "MOT": "?", "INS": "?"}
    flags = {
        "TAX": vehicle.tax or "?",
        "MOT": vehicle.mot or "?",
        "INS": vehicle.insured or "?",
    }
    return flags | ({"SORN": "Y"} if vehicle.sorn else {})


def _status_dates(vehicle: VehicleRecord | None) -> list[str]:
    if vehicle is None:
        return []
    dates = (("TAX DUE", vehicle.tax_due), ("MOT EXPIRES", vehicle.mot_expiry))
    return [f"{name} {day_text(value)}" for name, value in dates if value]


def _disqualified(record: PncRecord) -> bool:
    if isinstance(record, PersonRecord | DriverRecord):
        return record.disqualification is not None
    return False


# --------------------------------------------------------------------------- L3 and L4


class _Release:
    """Collects what is shown, under the group that allows it; without one there is no way in."""

    def __init__(self, groups: frozenset[str]) -> None:
        self.groups = groups
        self.used: dict[str, None] = {}
        self.identity: list[str] = []
        self.headlines: list[str] = []
        self.details: list[str] = []
        self.fields: dict[str, str] = {}

    def may(self, group: str) -> bool:
        return group in self.groups

    def show(self, group: str, line: str = "", **fields: str) -> None:
        """A detail line and machine-readable fields, if the group is released and there is any."""
        given = {name: value for name, value in fields.items() if value}
        if not self.may(group) or not (line or given):
            return
        self.used[group] = None
        if line:
            self.details.append(line)
        self.fields |= given

    def headline(self, group: str, text: str, *, when: object) -> None:
        """What is not in order, in at most 20 characters."""
        if when and self.may(group):
            self.headlines.append(text)
            self.used[group] = None

    def identify(self, group: str, line: str, **fields: str) -> None:
        if line and self.may(group):
            self.identity.append(line)
            self.show(group, **fields)
            self.used[group] = None


def _full_view(
    decision: Decision,
    request: CheckRequest,
    answer: PncAnswer,
    warnings: Warnings,
    tier: Tier,
) -> View:
    groups = decision.fields
    release = _Release(groups)
    cls = results.classify(answer, warnings, see_restricted=release.may("restricted"))
    one = results.chosen(answer)
    mine, rest = results.shown_words(answer, warnings)
    dangers = _shown(mine, groups, release, danger=True)
    cautions = _shown(mine, groups, release, danger=False)
    others = _shown(rest, groups, release, danger=None)
    if any(word.group not in groups and word.tier != results.CLEAR for word in (*mine, *rest)):
        # Safety beats silence: what may not be named is still there.
        dangers = (*_tier_words(tier), *dangers)
        release.used["safety"] = None
    advice = tuple(word.advice for word in mine if word.danger and word.group in groups)
    if release.may("trace"):
        release.used["trace"] = None
    match = ""
    if one is not None and release.may("trace"):
        _show_record(release, request.key, one, warnings, answer.as_of_ms)
        match = _match(request.key, one) if release.may("identity") else ""
    elif one is None and not answer.too_many and release.may("trace"):
        _show_candidates(release, answer.records)
    not_checked = results.missing(answer)
    return View(
        outcome=Outcome.ANSWERED,
        kind=kind_of(request.key),
        result_class=cls.value if release.may("trace") else "",
        level=decision.level.value,
        subject=subject_of(request.key),
        tier=tier.name,
        advice=tuple(dict.fromkeys(text for text in _worst_first(advice, mine) if text)),
        dangers=dangers,
        cautions=cautions,
        others=others,
        candidates=len(answer.records) if release.may("trace") else 0,
        ask=_ask(request.key),
        identity=tuple(release.identity),
        match=match,
        headlines=tuple(release.headlines),
        details=tuple(release.details),
        not_checked=not_checked,
        stale=results.stale(answer),
        as_of_ms=answer.as_of_ms,
        released=tuple(release.used),
        fields=release.fields | ({"match": match} if match else {}),
    )


def _shown(
    words: Iterable[Word], groups: frozenset[str], release: _Release, *, danger: bool | None
) -> tuple[Shown, ...]:
    found: dict[str, Shown] = {}
    for word in words:
        if word.group in groups and (danger is None or word.danger is danger):
            found.setdefault(word.text, Shown(word.text, word.base, word.short))
            release.used[word.group] = None
    return tuple(found.values())


def _worst_first(advice: tuple[str, ...], words: tuple[Word, ...]) -> list[str]:
    """Advice of what can hurt the officer goes before advice of what they must do."""
    order = {word.advice: (word.order, word.severity != "critical") for word in reversed(words)}
    return sorted(advice, key=lambda text: order.get(text, ("z", True)))


def _show_record(
    release: _Release, key: Key, record: PncRecord, warnings: Warnings, as_of_ms: int
) -> None:
    match record:
        case PersonRecord():
            _show_person(release, key, record, warnings)
        case VehicleRecord():
            _show_vehicle(release, record, warnings, as_of_ms)
        case PropertyRecord():
            _show_property(release, record)
        case DriverRecord():
            _show_driver(release, record)


def _show_person(release: _Release, key: Key, person: PersonRecord, warnings: Warnings) -> None:
    _show_circulations(release, person, warnings)
    if person.restricted and not release.may("restricted"):
        _show_signals(release, person, warnings)
        return
    if person.restricted:
        release.used["restricted"] = None
    name = _join(person.surname, person.forenames)
    asked = key if isinstance(key, PersonKey) else None
    if asked is None or _folded(name) != _folded(_join(asked.surname, asked.forenames)):
        release.identify("identity", name)
    release.show("identity", name=name, sex=person.sex)
    release.headline("identity", "DECEASED", when=person.deceased)
    release.headline("disqualified", "DISQUALIFIED", when=person.disqualification)
    release.headline("bail", "ON BAIL", when=person.bail)
    release.headline("orders", "COURT ORDER", when=person.orders)
    if person.deceased:
        release.show("identity", deceased="Y")
    # What the asker said rightly is in the echo already; only news takes a line.
    same = asked is not None and asked.dob == person.dob
    if person.dob and release.may("birth_date"):
        line = "" if same else f"BORN {day_text(person.dob)}"
        release.show("birth_date", line, born=person.dob)
    elif person.dob:
        year = person.dob[:4]
        release.show("birth_year", "" if same else f"BORN {year}", born=year)
    if person.dob and asked and asked.dob:
        told = "SAME" if same else "DIFFERS"
        release.show("birth_year", "" if same else "DOB DIFFERS", dob_match=told)
    if person.disqualification:
        until = person.disqualification
        limit = "UNTIL TEST" if until.until_test else day_text(until.until)
        release.show("disqualified", _join("DISQUALIFIED", limit), disqualified=limit or "Y")
    if person.bail:
        status = person.bail.status.replace("-", " ")
        release.show("bail", _join("BAIL:", status or "Y"), bail=status or "Y")
        for condition in person.bail.conditions:
            release.show("bail", condition)
        if person.bail.next_date:
            release.show("bail", f"NEXT DATE {day_text(person.bail.next_date)}")
    for order in person.orders:
        release.show("orders", f"ORDER: {order}", orders="; ".join(person.orders))
    height = f"{person.height_cm}CM" if person.height_cm else ""
    looks = [_join(height, person.build)]
    looks += [
        f"{person.hair} HAIR" if person.hair else "",
        f"{person.eyes} EYES" if person.eyes else "",
    ]
    looks += [*person.marks, person.ethnic_appearance]
    for look in filter(None, looks):
        release.show("descriptors", look, description=", ".join(filter(None, looks)))
    # The words themselves stand on page 1; what is left of a signal is its code and age.
    _show_signals(release, person, warnings)
    for marker in person.markers:
        release.show("markers", f"MARKER: {marker}", markers="; ".join(person.markers))
    if person.address:
        release.show("address", f"ADDRESS: {person.address}", address=person.address)
    if person.place_of_birth:
        place = person.place_of_birth
        release.show("place_of_birth", f"BORN AT {place}", place_of_birth=place)
    for alias in person.aliases:
        release.show("aliases", f"ALIAS: {alias}", aliases="; ".join(person.aliases))
    for offence in person.offences:
        release.show("offences", f"OFFENCE: {offence}", offences="; ".join(person.offences))
    release.show("identifiers", f"PNCID {person.pncid}", pncid=person.pncid)


def _show_signals(
    release: _Release, person: PersonRecord, warnings: Warnings, of: str = ""
) -> None:
    """Code, label and age at L3; force and text with `qualifier`. A signal is often years old."""
    for each in person.warnings:
        word = results.signal(each.code, warnings).word
        set_on = day_text(each.set_on) or "DATE NOT KNOWN"
        release.show("warnings", _join(of, each.code, word, set_on))
        if each.qualifier:
            release.show("qualifier", _join(word, each.force, each.qualifier))
    codes = ",".join(each.code for each in person.warnings)
    release.show("warnings", **{"keeper_warnings" if of else "warnings": codes})


def _show_circulations(
    release: _Release, person: PersonRecord, warnings: Warnings, of: str = ""
) -> None:
    for each in person.circulations:
        word = results.circulation_word(each, warnings)
        circulated = day_text(each.circulated)
        line = _join(
            of, f"{word.text}:", each.offence, each.owner, each.ref, each.power, circulated
        )
        release.show(word.group, line)
        release.show(word.group, each.instructions)
        name = f"keeper_{word.group}" if of else word.group
        if release.may(word.group):
            have = release.fields.get(name)
            release.fields[name] = f"{have}; {word.text}" if have else word.text


def _show_vehicle(
    release: _Release, vehicle: VehicleRecord, warnings: Warnings, as_of_ms: int
) -> None:
    looks = "  ".join(filter(None, (_join(vehicle.make, vehicle.model), vehicle.colour)))
    release.identify(
        "vehicle", looks, make=vehicle.make, model=vehicle.model, colour=vehicle.colour
    )
    release.show("vehicle", vrm=vehicle.vrm)
    for report in vehicle.reports:
        word = results.report_word(report, warnings)
        release.show(word.group, report_line(report, word.text, as_of_ms))
        release.show(word.group, report.text)
        for code in report.occupant_warnings:
            entry = results.signal(code, warnings)
            release.show("warnings", f"OCCUPANT: {code} {entry.word}")
        if release.may(word.group):
            have = release.fields.get("reports")
            release.fields["reports"] = f"{have}; {word.text}" if have else word.text
    for value, text in (
        (vehicle.insured, "NO INSURANCE"),
        (vehicle.mot, "NO MOT"),
        (vehicle.tax, "NO TAX"),
    ):
        release.headline("vehicle_status", text, when=value == "N")
    for said, text in (
        (vehicle.sorn, "SORN"),
        (vehicle.exported, "EXPORTED"),
        (vehicle.scrapped, "SCRAPPED"),
    ):
        release.headline("vehicle_status", text, when=said)
        release.show("vehicle_status", **{text.lower(): "Y" if said else ""})
    flags = _status_flags(vehicle)
    line = " ".join(f"{name} {value}" for name, value in flags.items())
    release.show("vehicle_status", line, **{name.lower(): value for name, value in flags.items()})
    for date in _status_dates(vehicle):
        release.show("vehicle_status", date)
    if vehicle.insurer:
        release.show("vehicle_status", f"INSURER: {vehicle.insurer}", insurer=vehicle.insurer)
    _show_keeper(release, vehicle, warnings)
    if vehicle.year:
        release.show("vehicle", f"YEAR {vehicle.year}", year=str(vehicle.year))
    if vehicle.vin:
        ends = "" if release.may("identifiers") else f"VIN ENDS {vehicle.vin[-5:]}"
        release.show("vehicle", ends, vin_last5=vehicle.vin[-5:])
        release.show("identifiers", f"VIN {vehicle.vin}", vin=vehicle.vin)


def _show_keeper(release: _Release, vehicle: VehicleRecord, warnings: Warnings) -> None:
    keeper = vehicle.keeper_record
    if keeper is not None:
        _show_circulations(release, keeper, warnings, of="KEEPER")
        _show_signals(release, keeper, warnings, of="KEEPER")
        if keeper.restricted and not release.may("restricted"):
            release.show("keeper", "KEEPER: REFER TO BUREAU")
            return
        if keeper.disqualification:
            release.headline("disqualified", "KEEPER DISQUALIFIED", when=True)
            release.show("disqualified", keeper_disqualified="Y")
    if vehicle.keeper:
        release.show("keeper", f"KEEPER: {vehicle.keeper}", keeper=vehicle.keeper)
    if vehicle.keeper_address:
        address = vehicle.keeper_address
        release.show("keeper", f"KEEPER AT {address}", keeper_address=address)
    if vehicle.keeper_since:
        since = vehicle.keeper_since
        release.show("keeper_history", f"KEEPER SINCE {day_text(since)}", keeper_since=since)
    if vehicle.previous_keepers is not None:
        count = str(vehicle.previous_keepers)
        release.show("keeper_history", f"PREVIOUS KEEPERS {count}", previous_keepers=count)


def _show_property(release: _Release, item: PropertyRecord) -> None:
    release.identify("property", _join(item.make, item.model), make=item.make, model=item.model)
    release.show("property", type=item.type, serial=item.serial)
    release.show("stolen", f"OWNER FORCE {item.owner}" if item.owner else "", status=item.status)


def _show_driver(release: _Release, driver: DriverRecord) -> None:
    name = _join(driver.surname, driver.forenames)
    release.identify("identity", name, name=name)
    release.headline("disqualified", "DISQUALIFIED", when=driver.disqualification)
    if driver.disqualification:
        until = driver.disqualification
        limit = "UNTIL TEST" if until.until_test else day_text(until.until)
        release.show("disqualified", _join("DISQUALIFIED", limit), disqualified=limit or "Y")
    if driver.dob and release.may("birth_date"):
        release.show("birth_date", f"BORN {day_text(driver.dob)}", born=driver.dob)
    elif driver.dob:
        release.show("birth_year", f"BORN {driver.dob[:4]}", born=driver.dob[:4])
    if driver.licence:
        release.show("licence", f"LICENCE {driver.licence}", licence=driver.licence)
    if driver.categories:
        release.show("licence", f"CATEGORIES {driver.categories}", categories=driver.categories)
    if driver.valid_to:
        release.show("licence", f"VALID TO {day_text(driver.valid_to)}", valid_to=driver.valid_to)
    if driver.endorsements is not None:
        count = str(driver.endorsements)
        release.show("licence", f"ENDORSEMENTS {count}", endorsements=count)
    release.show("identifiers", f"DRIVER NO {driver.driver_no}", driver_no=driver.driver_no)


def _show_candidates(release: _Release, records: tuple[PncRecord, ...]) -> None:
    """Enough of each candidate to tell them apart, best first."""
    for place, record in enumerate(records, 1):
        match record:
            case PersonRecord(restricted=True) if not release.may("restricted"):
                release.show("identity", f"{place}: REFER TO BUREAU")
            case PersonRecord() | DriverRecord():
                born = record.dob[:4] if release.may("birth_year") else ""
                height = ""
                if isinstance(record, PersonRecord) and release.may("descriptors"):
                    height = f"{record.height_cm}CM" if record.height_cm else ""
                    height = _join(height, record.build, record.hair)
                name = _join(record.surname, record.forenames)
                release.show("identity", _join(f"{place}:", name, record.sex, born, height))
            case VehicleRecord():
                looks = _join(record.make, record.model, record.colour)
                release.show("vehicle", _join(f"{place}:", record.vrm, looks))
            case PropertyRecord():
                looks = _join(record.type, record.serial, record.make, record.model)
                release.show("property", _join(f"{place}:", looks))


def _match(key: Key, record: PncRecord) -> str:
    """How sure the match is: FULL name and date of birth as filed, GOOD strong, WEAK the rest."""
    if not isinstance(record, PersonRecord) or not isinstance(key, PersonKey):
        return ""
    if record.score < results.STRONG:
        return "WEAK"
    given = _folded(_join(key.surname, key.forenames))
    filed = _folded(_join(record.surname, record.forenames))
    same_name = bool(key.forenames) and f"{filed} ".startswith(f"{given} ")
    return "FULL" if same_name and key.dob and key.dob == record.dob else "GOOD"


def _ask(key: Key) -> str:
    """What would tell several candidates apart."""
    match key:
        case PersonKey(dob=""):
            return "ASK DATE OF BIRTH"
        case PersonKey():
            return "ASK MIDDLE NAME"
        case DriverKey():
            return "GIVE DRIVER NUMBER"
        case VehicleKey():
            return "GIVE WHOLE VRM/VIN"
        case PropertyKey():
            return "GIVE WHOLE SERIAL"


# --------------------------------------------------------------------------- texts


def subject_of(key: Key) -> str:
    """What was asked, as it is echoed to whoever asked it: they may know it, they said it."""
    match key:
        case VehicleKey():
            return key.vrm or f"VIN {key.vin}"
        case PersonKey():
            age = f"ABOUT {key.age_years}" if key.age_years is not None else ""
            born = day_text(key.dob) or age
            return _join(key.surname, key.forenames, born or key.sex)
        case DriverKey():
            return key.driver_no or _join(key.surname, key.forenames, day_text(key.dob))
        case PropertyKey():
            return _join(key.type, key.serial)


def day_text(iso: str) -> str:
    """`YYYY-MM-DD...` as `dd/mm/yy`; anything else as it is."""
    day = iso[:10]
    if len(day) == 10 and day[4] == day[7] == "-" and (day[:4] + day[5:7] + day[8:]).isdigit():
        return f"{day[8:]}/{day[5:7]}/{day[2:4]}"
    return iso


def report_line(report: VehicleReport, word: str, as_of_ms: int) -> str:
    """Word, confirmed or not, owner, and how old: a report is not proof."""
    sure = "CONFIRMED" if report.confirmed else ""
    if not report.confirmed and "UNCONFIRMED" not in word:
        sure = "UNCONFIRMED"
    return _join(word, sure, report.owner, report.ref, _age(report.reported_at, as_of_ms))


def _age(reported_at: str, as_of_ms: int) -> str:
    if not reported_at:
        return "DATE NOT KNOWN"
    try:
        at = datetime.fromisoformat(reported_at)
    except ValueError:
        return day_text(reported_at)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    hours = int((as_of_ms / 1000 - at.timestamp()) // 3600)
    # Hours matter until the owner must have confirmed (48 h) and a day beyond (pnc-domain, 7.1).
    return f"{hours}H AGO" if 0 <= hours <= 72 else day_text(reported_at)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _folded(name: str) -> str:
    """Names are compared as a radio shows them: SEÁN and SEAN are one."""
    return transliterate(name)
