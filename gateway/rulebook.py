"""The rules as data, typed and frozen: the fleet, the disclosure policy, the danger words.

settings.py reads them; what is wrong with one is told by its check here, key by key. No code holds
a warning code, a reason's label or an area.
"""

from __future__ import annotations

import re

import msgspec

from gateway.messages import Issi, Kind, Level, ResultClass


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. A misspelt key is an error, not a default."""


class DeviceClass(Section, frozen=True, kw_only=True):
    """What a kind of radio can show, and how soon its position is old."""

    budget: int = 140
    """Bytes a message: 140 (SDS), 79 / 73 (TETRA's default)."""
    aging_s: float = 30.0
    privacy_prompt: bool = False


class Terminal(Section, frozen=True, kw_only=True):
    """One radio and who holds it (booking comes later)."""

    issi: Issi
    callsign: str
    officer: str
    """Collar number: part of the originator line."""
    surname: str
    rank: str = ""
    agency: str
    role: str
    area: str
    device_class: str = "handheld"


class Fleet(Section, frozen=True, kw_only=True):
    version: str
    areas: tuple[str, ...]
    agencies: tuple[str, ...]
    device_classes: dict[str, DeviceClass]
    terminals: tuple[Terminal, ...] = ()
    statuses: dict[str, str] = msgspec.field(default_factory=dict)
    """Pre-coded status -> what the control room shows: AVL, BSY, REF, RTE, OFF."""


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


class Policy(Section, frozen=True, kw_only=True):
    version: str
    reasons: dict[str, str]
    """code -> label: the active list."""
    levels: dict[str, tuple[str, ...]]
    """level -> field groups it releases (an allow-list)."""
    rules: tuple[Rule, ...]
    on_behalf_agencies: tuple[str, ...] = ()
    originator_max: int = 53


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
    owner: str
    """Who in the force answers for this table."""
    unknown: WarningWord
    codes: dict[str, WarningWord]
    circulations: dict[str, WarningWord] = {}
    """By kind (WANTED_ARREST ...). A kind that is not here is shown as `unknown`."""
    reports: dict[str, WarningWord] = {}
    """Vehicle and property reports by kind (LOS ...); `KIND_DETAIL` (ACTION_STOP) goes first."""


_ISSI = re.compile(r"[0-9]{1,8}\Z")


def check_fleet(fleet: Fleet) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for place, terminal in enumerate(fleet.terminals):
        where = f"terminals[{place}]"
        if not _ISSI.match(terminal.issi):
            found.append(f"{where}.issi: 1 to 8 digits")
        if terminal.issi in seen:
            found.append(f"{where}.issi: stands twice")
        seen.add(terminal.issi)
        if terminal.area not in fleet.areas:
            found.append(f"{where}.area: not one of areas")
        if terminal.agency not in fleet.agencies:
            found.append(f"{where}.agency: not one of agencies")
        if not terminal.officer.strip() or not terminal.surname.strip():
            found.append(f"{where}: officer and surname name who asks; neither may be empty")
        if len(f"{terminal.rank}{terminal.officer} {terminal.surname}") > 50:
            found.append(f"{where}: rank, officer and surname: at most 50 characters together")
        if terminal.device_class not in fleet.device_classes:
            found.append(f"{where}.device_class: not one of device_classes")
    for code, shown in fleet.statuses.items():
        if not code.isdigit() or code == "0":
            found.append(f"statuses.{code}: a number; 0 is an emergency and cannot be shown away")
        if shown not in _STATUSES:
            found.append(f"statuses.{code}: one of {', '.join(_STATUSES)}")
    for name, device in fleet.device_classes.items():
        if device.budget < 73 or device.aging_s <= 0:
            found.append(f"device_classes.{name}: budget at least 73, aging_s above 0")
    if len(fleet.agencies) > 8:
        found.append("agencies: at most 8")
    return found


def check_policy(policy: Policy) -> list[str]:
    found: list[str] = []
    for place, rule in enumerate(policy.rules):
        for reason in rule.reasons:
            if reason not in policy.reasons:
                found.append(f"rules[{place}].reasons: {reason} is not on the list of reasons")
        if rule.level.value not in policy.levels:
            found.append(f"rules[{place}].level: not among levels")
    return found


_STATUSES = ("AVL", "BSY", "REF", "RTE", "OFF")
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
