"""The rules as data, typed and frozen: radios, people, areas, policy, danger words.

settings.py reads them; what is wrong with one is told by its check here, key by key. No code holds
a warning code, a reason's label or an area.
"""

from __future__ import annotations

import datetime
import re

import msgspec

from gateway.messages import RIGHTS, Issi, Kind, Level, ResultClass


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. A misspelt key is an error, not a default."""


class DeviceClass(Section, frozen=True, kw_only=True):
    """What a kind of radio can show, and how soon its position is old."""

    budget: int = 140
    """Bytes a message: 140 (SDS), 79 / 73 (TETRA's default)."""
    aging_s: float = 30.0
    privacy_prompt: bool = False


class Terminal(Section, frozen=True, kw_only=True):
    """One radio, and whose pool it is of. Who holds it stands in People, never here."""

    issi: Issi
    callsign: str
    agency: str
    area: str
    device_class: str = "handheld"
    revoked: bool = False
    """Lost or stolen: as if it were not in the file, without losing its entry."""
    names: dict[str, str] = {}
    """What it is called where no ISSI is said: protocol -> name, unique in each protocol."""
    link: str = ""
    """The link behind which it is until it is heard, as after a restart; empty: the first that may
    reach it."""


class StatusWord(Section, frozen=True, kw_only=True):
    """What a pre-coded status shows and does."""

    shown: str = ""
    """For the control room: AVL, BSY, REF, RTE, OFF; empty: as before."""
    effect: str = ""
    """`received`: read what was sent last, or free to receive while an answer waits for that.
    `recall`: show the last answer again.
    `book_off`: everybody aboard leaves the radio. `book_on`: whoever held it last takes it again;
    their factor follows.
    `lone_on`, `lone_off`: alone from now on, or no longer. `welfare`: all is well."""


class Fleet(Section, frozen=True, kw_only=True):
    """The radios."""

    version: str
    changed_by: str = ""
    """Who made this edition; stands on record with each of its changes."""
    change_ref: str = ""
    """The ticket or order that asked for it."""
    agencies: tuple[str, ...]
    device_classes: dict[str, DeviceClass]
    terminals: tuple[Terminal, ...] = ()
    statuses: dict[str, StatusWord] = {}
    """By code; 0 is an emergency and stands in no file."""


class Officer(Section, frozen=True, kw_only=True):
    """One person who may carry a radio."""

    collar: str
    """Collar number: part of the originator line."""
    surname: str
    rank: str = ""
    agency: str
    role: str
    callsign: str = ""
    """What the radio that they book is called, unless they say otherwise; empty: as the radio."""
    factor: str = ""
    """Second factor as a PHC string (Argon2id); empty: can book no radio."""
    accredited_until: str = ""
    """ISO day, the last on which the officer may ask; empty when their role needs no training."""
    lone: bool = False
    """Works alone: a timer runs unless somebody is aboard with them (lone_worker.py)."""
    revoked: bool = False


class Standing(Section, frozen=True, kw_only=True):
    """Personal issue: booked from each start on. For training; production knows only booking.

    A terminal that the fleet file does not have is no fault: whoever strikes a lost radio off must
    not be held up by another file.
    """

    terminal: Issi
    officer: str
    """A collar number of officers."""


ROLES = ("operator", "supervisor", "auditor", "ops")
"""What an operator may be: a closed set. What each may see stands in Policy.console, what each may
do in the route table of adapters.web."""

RELAY = "relay"
"""The role of the feed: nobody logs in as it."""


class Operator(Section, frozen=True, kw_only=True):
    """One person who may log in to the control room."""

    id: str
    """What they log in with, and what stands on record for them."""
    name: str = ""
    roles: tuple[str, ...]
    """Of ROLES."""
    agency: str = ""
    """Whose units they see; empty: all."""
    areas: tuple[str, ...] = ()
    """Where; empty: everywhere."""
    subject: str = ""
    """Who they are to the identity provider (`sub`), with auth.mode = "oidc"."""
    password: str = ""
    """As `account add` stores it (Argon2id). Empty: no log-in by password."""
    revoked: bool = False


class People(Section, frozen=True, kw_only=True):
    version: str
    changed_by: str = ""
    """Who made this edition; stands on record with each of its changes."""
    change_ref: str = ""
    """The ticket or order that asked for it."""
    officers: tuple[Officer, ...] = ()
    standing: tuple[Standing, ...] = ()
    operators: tuple[Operator, ...] = ()


class Ward(Section, frozen=True, kw_only=True):
    name: str
    committee: str
    area: str
    variants: tuple[str, ...] = ()
    """Other names in published lists."""


class Areas(Section, frozen=True, kw_only=True):
    """The force's geography by name."""

    version: str
    areas: tuple[str, ...]
    """Posting areas: a terminal belongs to one, the map colours by them."""
    committees: tuple[str, ...] = ()
    wards: tuple[Ward, ...] = ()


class Reason(Section, frozen=True, kw_only=True):
    """One reason for asking."""

    label: str
    active: bool = True
    """An inactive one may not be given any more; what was asked with it stays explained."""
    text_min: int = 0
    """So many letters of justification at least; 0: none is asked for."""
    default_text: str = ""
    """The justification where none is asked for and none was given."""
    location: bool = False
    """Where the officer is belongs to it: if neither is known the control room is told."""


class Coach(Section, frozen=True, kw_only=True):
    """What a justification must have to say something."""

    least_words: int = 2
    """So many different words at least, besides the empty ones."""
    empty: tuple[str, ...] = ()
    """Words and phrases that say nothing."""


class Rule(Section, frozen=True, kw_only=True):
    """One permission; what no rule names is denied."""

    agency: str
    role: str
    kinds: tuple[Kind, ...]
    level: Level
    reasons: tuple[str, ...]
    fields: tuple[str, ...] = ()
    """Field groups; empty: those of the level."""
    hold: bool = False
    prompt: bool = False
    on_request: bool = False
    """Only for who asks for the full answer."""
    status_from: str = "pnc"
    """Where tax, MOT and insurance come from: pnc (its own copy) or register."""


REPEAT_SUBJECT = "repeat_subject"
"""What is asked about was asked about by the same officer on another day."""


class Challenges(Section, frozen=True, kw_only=True):
    """Which checks must be explained afterwards, and how."""

    rate: float = 0.1
    """The share of them, by chance that hangs on officer, day and what was asked about."""
    always: tuple[str, ...] = (REPEAT_SUBJECT,)
    """Which ones are challenged whatever the chance."""
    repeat_days: int = 30
    answer_min: int = 25
    """Letters of an explanation at least; the coach judges it."""
    within_h: float = 24.0
    """Hours until it is overdue."""


class ConsoleRule(Section, frozen=True, kw_only=True):
    """What the holders of a console role may see of events."""

    role: str
    rights: tuple[str, ...]
    """Of gateway.messages.RIGHTS."""
    other_areas: str = "none"
    """Of areas that are not theirs: full, dot, count or none."""
    own_agency: bool = False
    """What is of another agency is shown as what is of another area."""


class Policy(Section, frozen=True, kw_only=True):
    version: str
    changed_by: str = ""
    """Who made this edition; stands on record with each of its changes."""
    change_ref: str = ""
    """The ticket or order that asked for it."""
    reasons: dict[str, Reason]
    """By code."""
    levels: dict[str, tuple[str, ...]]
    """level -> field groups it releases (an allow-list)."""
    rules: tuple[Rule, ...]
    on_behalf_agencies: tuple[str, ...] = ()
    originator_max: int = 53
    approvers: dict[str, str] = {}
    """Who may approve the next edition: name -> Ed25519 public key, base64."""
    crew: str = "lowest"
    """What two aboard see: `lowest`, what both may; `lead`, what the one who leads may."""
    coach: Coach = Coach()
    challenge: Challenges = Challenges()
    console: tuple[ConsoleRule, ...] = ()
    covert_circulations: tuple[str, ...] = ()
    """Kinds that never reach a radio, besides those that the code knows: no file takes one back."""
    block_reports: tuple[str, ...] = ()
    """As covert_circulations, of vehicle reports."""


class WarningWord(Section, frozen=True, kw_only=True):
    """How a warning signal is shown. Two-letter codes are data, never code."""

    label: str
    word: str
    """On the screen, after `!!` when severity is critical or high: upper-case ASCII, <= 18."""
    severity: str
    """critical, high, medium, low."""
    advice: str
    tier: str
    """L1: WITHDRAW, CAUTION+, CAUTION, CAUTION/PPE, CAUTION/BWV, WELFARE, CLEAR."""
    base: str = ""
    """The word alone, <= 9, for `ONE IS VIOLENT`, `KEEPER WANTED`, `VIOLENT OCCUPANT`."""
    short: str = ""
    """Three letters, when all danger words must stand on one small page."""
    hit: str = ""
    """Result class that it makes; empty: HIT_CRITICAL when critical, else HIT_CAUTION."""
    order: str = "a"
    """Place on the screen: a can hurt you, b you must act, c can be hurt, d the rest."""


class Warnings(Section, frozen=True, kw_only=True):
    version: str
    changed_by: str = ""
    """Who made this edition; stands on record with each of its changes."""
    change_ref: str = ""
    """The ticket or order that asked for it."""
    owner: str
    """Who in the force answers for this table."""
    unknown: WarningWord
    codes: dict[str, WarningWord]
    circulations: dict[str, WarningWord] = {}
    """By kind (WANTED_ARREST ...). A kind that is not here is shown as `unknown`."""
    reports: dict[str, WarningWord] = {}
    """Vehicle and property reports by kind (LOS ...); `KIND_DETAIL` (ACTION_STOP) goes first."""


JUSTIFICATION = (3, 250)
"""Characters of a justification that is asked for (pnc-domain, 10)."""
_ISSI = re.compile(r"[0-9]{1,8}\Z")
_OPERATOR = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")
CALLSIGN = re.compile(r"[A-Z0-9][A-Z0-9/-]{0,11}")
_FACTOR = re.compile(
    r"\$argon2id\$v=19\$m=[1-9][0-9]{2,5},t=[1-9][0-9]?,p=[1-9]"
    r"\$[A-Za-z0-9+/]{22,86}\$[A-Za-z0-9+/]{43,86}"
)
"""At most 999,999 KiB a check: a typing error must not take the machine's memory."""


_NAME_ELSEWHERE = re.compile(r"[!-~]{1,64}")


def check_fleet(fleet: Fleet, areas: Areas | None) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    called: set[tuple[str, str]] = set()
    for place, terminal in enumerate(fleet.terminals):
        where = f"terminals[{place}]"
        if not _ISSI.match(terminal.issi):
            found.append(f"{where}.issi: 1 to 8 digits")
        if terminal.issi in seen:
            found.append(f"{where}.issi: stands twice")
        seen.add(terminal.issi)
        if areas is not None and terminal.area not in areas.areas:
            found.append(f"{where}.area: not one of areas in the areas file")
        if terminal.agency not in fleet.agencies:
            found.append(f"{where}.agency: not one of agencies")
        if terminal.device_class not in fleet.device_classes:
            found.append(f"{where}.device_class: not one of device_classes")
        for protocol, name in terminal.names.items():
            if not _NAME_ELSEWHERE.fullmatch(name):
                found.append(f"{where}.names.{protocol}: 1 to 64 printable characters, no blanks")
            if (protocol, name) in called:
                # One would be shown where the other is.
                found.append(f"{where}.names.{protocol}: another terminal is called so")
            called.add((protocol, name))
    for code, word in fleet.statuses.items():
        if not code.isdigit() or code == "0":
            found.append(f"statuses.{code}: a number; 0 is an emergency and cannot be shown away")
        if word.shown not in ("", *_STATUSES):
            found.append(f"statuses.{code}.shown: one of {', '.join(_STATUSES)}")
        if word.effect not in _EFFECTS:
            found.append(
                f"statuses.{code}.effect: {', '.join(filter(None, _EFFECTS))}, or left out"
            )
    if not any(word.effect == "received" for word in fleet.statuses.values()):
        found.append("statuses: none with effect received: nobody could say what they have read")
    for name, device in fleet.device_classes.items():
        if device.budget < 73 or device.aging_s <= 0:
            found.append(f"device_classes.{name}: budget at least 73, aging_s above 0")
    if len(fleet.agencies) > 8:
        found.append("agencies: at most 8")
    return found


def check_people(people: People, fleet: Fleet | None, *, production: bool) -> list[str]:
    found: list[str] = []
    collars: set[str] = set()
    for place, officer in enumerate(people.officers):
        where = f"officers[{place}]"
        if not officer.collar.strip() or not officer.surname.strip():
            found.append(f"{where}: collar and surname name who asks; neither may be empty")
        if len(f"{officer.rank}{officer.collar} {officer.surname}") > 50:
            found.append(f"{where}: rank, collar and surname: at most 50 characters together")
        if officer.collar in collars:
            found.append(f"{where}.collar: stands twice")
        collars.add(officer.collar)
        if fleet is not None and officer.agency not in fleet.agencies:
            found.append(f"{where}.agency: not one of agencies in the fleet file")
        if officer.callsign and not CALLSIGN.fullmatch(officer.callsign):
            found.append(f"{where}.callsign: 1 to 12 of A-Z 0-9 / -")
        if officer.factor and not _FACTOR.fullmatch(officer.factor):
            found.append(f"{where}.factor: what `radio-gateway factor` prints, not the PIN itself")
        if officer.accredited_until and not is_day(officer.accredited_until):
            found.append(f"{where}.accredited_until: a day, as 2027-04-30")
    if production and people.standing:
        found.append("standing[0]: not in profile production: an officer must book a radio on")
    issued: set[str] = set()
    for place, standing in enumerate(people.standing):
        where = f"standing[{place}]"
        if standing.officer not in collars:
            found.append(f"{where}.officer: not the collar of any of officers")
        if standing.terminal in issued:
            found.append(f"{where}.terminal: stands twice; one officer holds a radio")
        issued.add(standing.terminal)
    return found


def check_operators(people: People, fleet: Fleet | None, areas: Areas | None) -> list[str]:
    found: list[str] = []
    ids: set[str] = set()
    subjects: set[str] = set()
    for place, operator in enumerate(people.operators):
        where = f"operators[{place}]"
        if not _OPERATOR.match(operator.id):
            found.append(f"{where}.id: a-z, 0-9, `.`, `_`, `-`, at most 32")
        if operator.id in ids:
            found.append(f"{where}.id: stands twice")
        ids.add(operator.id)
        if operator.subject and operator.subject in subjects:
            found.append(f"{where}.subject: stands twice")
        subjects.add(operator.subject)
        if len(operator.name) > 40 or not operator.name.isprintable():
            found.append(f"{where}.name: at most 40 printable characters")
        if not operator.roles or not set(operator.roles) <= set(ROLES):
            found.append(f"{where}.roles: some of {', '.join(ROLES)}")
        if fleet is not None and operator.agency not in ("", *fleet.agencies):
            found.append(f"{where}.agency: not one of agencies in the fleet file")
        if areas is not None and not set(operator.areas) <= set(areas.areas):
            found.append(f"{where}.areas: not of areas in the areas file")
        if operator.password and not operator.password.startswith("$argon2id$"):
            found.append(f"{where}.password: as `account add` makes it, never a password itself")
    return found


def check_areas(areas: Areas) -> list[str]:
    found: list[str] = []
    if len(set(areas.areas)) != len(areas.areas):
        found.append("areas: one stands twice")
    names: set[str] = set()
    for place, ward in enumerate(areas.wards):
        where = f"wards[{place}]"
        if ward.area not in areas.areas:
            found.append(f"{where}.area: not one of areas")
        if ward.committee not in areas.committees:
            found.append(f"{where}.committee: not one of committees")
        for key, said in (("name", (ward.name,)), ("variants", ward.variants)):
            if not names.isdisjoint(said):
                found.append(f"{where}.{key}: means another ward, too")
            names.update(said)
    return found


def is_day(text: str) -> bool:
    """Whether this is a day as ISO 8601 writes it, 2027-04-30."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def check_policy(policy: Policy) -> list[str]:
    found = _check_reasons(policy)
    for name, key in policy.approvers.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", name):
            found.append(f"approvers.{name}: letters, digits and . _ - without a blank, at most 32")
        if not re.fullmatch(r"[A-Za-z0-9+/]{43}=", key):
            found.append(f"approvers.{name}: what `radio-gateway policy key` prints")
    if len(set(policy.approvers.values())) != len(policy.approvers):
        found.append("approvers: one key stands twice; it is one person")
    if policy.crew not in ("lowest", "lead"):
        found.append("crew: lowest or lead")
    for place, rule in enumerate(policy.rules):
        for reason in rule.reasons:
            if reason not in policy.reasons:
                found.append(f"rules[{place}].reasons: {reason} is not on the list of reasons")
        if rule.level.value not in policy.levels:
            found.append(f"rules[{place}].level: not among levels")
        if rule.status_from not in _STATUS_FROM:
            found.append(f"rules[{place}].status_from: one of {', '.join(_STATUS_FROM)}")
    for key, kinds in (
        ("covert_circulations", policy.covert_circulations),
        ("block_reports", policy.block_reports),
    ):
        for place, kind in enumerate(kinds):
            if not kind.strip():
                found.append(f"{key}[{place}]: the name of a kind, as the PNC sends it")
    roles: set[str] = set()
    for place, console in enumerate(policy.console):
        if console.role in roles:
            found.append(f"console[{place}].role: stands twice")
        roles.add(console.role)
        for right in console.rights:
            if right not in RIGHTS:
                found.append(f"console[{place}].rights: of {', '.join(RIGHTS)}")
        if console.role not in (*ROLES, RELAY):
            found.append(f"console[{place}].role: one of {', '.join((*ROLES, RELAY))}")
        if console.other_areas not in _OTHER_AREAS:
            found.append(f"console[{place}].other_areas: one of {', '.join(_OTHER_AREAS)}")
    return found


def _check_reasons(policy: Policy) -> list[str]:
    found: list[str] = []
    least, most = JUSTIFICATION
    for code, reason in policy.reasons.items():
        where = f"reasons.{code}"
        if reason.text_min and not least <= reason.text_min <= most:
            found.append(f"{where}.text_min: 0, or {least} to {most}")
        text = reason.default_text
        if text and not (least <= len(text) <= most and _PLAIN.match(text)):
            found.append(f"{where}.default_text: upper-case ASCII, {least} to {most}, or left out")
    coach = policy.coach
    if not 1 <= coach.least_words <= 5:
        found.append("coach.least_words: between 1 and 5")
    for place, phrase in enumerate(coach.empty):
        if not 1 <= len(phrase.split()) <= 5 or not _PLAIN.match(phrase):
            found.append(f"coach.empty[{place}]: 1 to 5 words of upper-case ASCII")
    if len(coach.empty) > 500:
        found.append("coach.empty: at most 500")
    terms = policy.challenge
    if not 0 <= terms.rate <= 1:
        found.append("challenge.rate: between 0 and 1")
    if not set(terms.always) <= {REPEAT_SUBJECT}:
        found.append(f"challenge.always: of {REPEAT_SUBJECT}")
    if not 1 <= terms.repeat_days <= 90:
        found.append("challenge.repeat_days: between 1 and 90")
    if not least <= terms.answer_min <= 60:
        found.append(f"challenge.answer_min: between {least} and 60, which fit into typed text")
    if not 1 <= terms.within_h <= 168:
        found.append("challenge.within_h: between 1 and 168")
    if not 50 <= policy.originator_max <= 250:
        found.append("originator_max: between 50 (rank, collar and surname fit) and 250")
    return found


_STATUSES = ("AVL", "BSY", "REF", "RTE", "OFF")
_EFFECTS = ("", "received", "recall", "book_on", "book_off", "lone_on", "lone_off", "welfare")
_STATUS_FROM = ("pnc", "register")
_OTHER_AREAS = ("full", "dot", "count", "none")
_SEVERITIES = ("critical", "high", "medium", "low")
_TIERS = ("WITHDRAW", "CAUTION+", "CAUTION", "CAUTION/PPE", "CAUTION/BWV", "WELFARE", "CLEAR")
_PLAIN = re.compile(r"[A-Z0-9 /.,&:-]*\Z")
_SHORT = re.compile(r"[A-Z]{3}\Z")
_MAX_SHORTS = 14
"""So many three-letter words stand on one 4 x 20 page and in 59 characters (pnc-domain, 13)."""


def check_warnings(warnings: Warnings) -> list[str]:
    """Every word can be shown, and all of them together still fit on a first page."""
    found: list[str] = []
    words = {"unknown": warnings.unknown}
    for table in ("codes", "circulations", "reports"):
        words |= {f"{table}.{key}": word for key, word in getattr(warnings, table).items()}
    shorts: dict[bool, set[str]] = {True: set(), False: set()}
    classes = {value.value for value in ResultClass}
    for where, word in words.items():
        for key, text, most in (
            ("word", word.word, 18),
            ("base", word.base, 9),
            ("advice", word.advice, 20),
        ):
            if len(text) > most or not _PLAIN.match(text):
                found.append(f"{where}.{key}: upper-case ASCII, at most {most}")
        if not word.word:
            found.append(f"{where}.word: missing")
        if not _SHORT.match(word.short):
            found.append(f"{where}.short: three letters A-Z")
        if not word.base:
            found.append(f"{where}.base: missing")
        if word.severity not in _SEVERITIES:
            found.append(f"{where}.severity: one of {', '.join(_SEVERITIES)}")
        if word.tier not in _TIERS:
            found.append(f"{where}.tier: one of {', '.join(_TIERS)}")
        if word.severity == "critical" and word.tier == "CLEAR":
            found.append(f"{where}.tier: a critical word is never CLEAR")
        if word.hit and word.hit not in classes:
            found.append(f"{where}.hit: not a result class")
        if word.order not in {"a", "b", "c", "d"}:
            found.append(f"{where}.order: a, b, c or d")
        shorts[word.severity in {"critical", "high"}].add(word.short)
    if warnings.unknown.severity not in {"critical", "high"} or warnings.unknown.tier == "CLEAR":
        found.append("unknown: must be a danger word (severity high or critical, tier not CLEAR)")
    for danger, kind in ((True, "critical and high"), (False, "medium and low")):
        if len(shorts[danger]) > _MAX_SHORTS:
            found.append(f"{kind}: more than {_MAX_SHORTS} different `short` words")
    return found
