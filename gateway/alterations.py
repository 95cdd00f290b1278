"""What another configuration changes, one line each, as it goes on record before it holds (pure).

People, radios, areas, policy, danger words and alarms, entry by entry: what was added, removed,
revoked, restored or changed, and by whom, as the file that changed says. Values are shown but for
secrets and names of persons: of those it is said that they changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gateway.rulebook import Rule
from gateway.settings import Config

HUSHED = frozenset({"factor", "password", "subject", "surname", "name"})
VALUE_MOST = 48
DETAIL_MOST = 240
_STAMPS = frozenset({"version", "changed_by", "change_ref"})
"""Members that say which edition a file is; alone they alter nothing."""


class Alteration(msgspec.Struct, frozen=True):
    """operation: `officer.revoked`. subject: which one: collar, ISSI, code. by: who changed it."""

    operation: str
    subject: str
    detail: str
    by: str = ""


def alterations(before: Config, after: Config) -> list[Alteration]:
    """In the order of the files; empty when nothing differs but an edition."""
    found: list[Alteration] = []
    for name, tables in _TABLES.items():
        old, new = getattr(before, name), getattr(after, name)
        by = getattr(new, "changed_by", "")
        ref = getattr(new, "change_ref", "")
        mine: list[Alteration] = []
        for member, (kind, key) in tables.items():
            mine += _entries(kind, _by(key, getattr(old, member)), _by(key, getattr(new, member)))
        rest = [
            field for field in new.__struct_fields__ if field not in tables and field not in _STAMPS
        ]
        mine += [
            Alteration(f"{name}.changed", field, _values(getattr(old, field), getattr(new, field)))
            for field in rest
            if getattr(old, field) != getattr(new, field)
        ]
        edition = _edition(old.version, new.version, ref)
        found += [
            msgspec.structs.replace(
                each, by=by, detail=f"{each.detail} {edition}".strip()[:DETAIL_MOST]
            )
            for each in mine
        ]
    return found


def _edition(old: str, new: str, ref: str) -> str:
    moved = f"{_cut(old)} -> {_cut(new)}" if old != new else _cut(new)
    return f"[{moved}{f', {_cut(ref)}' if ref else ''}]"


def _by(key: str, entries: object) -> dict[str, object]:
    """Entries by what they are known by; of several alike, the later ones numbered."""
    if isinstance(entries, Mapping):
        return {str(name): entry for name, entry in entries.items()}
    found: dict[str, object] = {}
    assert isinstance(entries, Iterable)
    for entry in entries:
        name = _rule_name(entry) if isinstance(entry, Rule) else str(getattr(entry, key))
        taken = sum(1 for each in found if each.partition("#")[0] == name)
        found[f"{name}#{taken + 1}" if taken else name] = entry
    return found


def _rule_name(rule: Rule) -> str:
    return f"{rule.agency} {rule.role} {'+'.join(kind.value for kind in rule.kinds)}"


def _entries(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> list[Alteration]:
    found = [Alteration(f"{kind}.removed", name, "") for name in old if name not in new]
    for name, entry in new.items():
        was = old.get(name)
        if name not in old:
            found.append(Alteration(f"{kind}.added", name, _told(entry)))
        elif was != entry:
            found.append(_changed(kind, name, was, entry))
    return found


def _changed(kind: str, name: str, was: object, entry: object) -> Alteration:
    word = "changed"
    if getattr(was, "revoked", None) is not getattr(entry, "revoked", None):
        word = "revoked" if getattr(entry, "revoked", False) else "restored"
    if not isinstance(entry, msgspec.Struct):
        return Alteration(f"{kind}.{word}", name, _values(was, entry))
    said = [
        field
        if field in HUSHED
        else f"{field} {_values(getattr(was, field), getattr(entry, field))}"
        for field in entry.__struct_fields__
        if getattr(was, field) != getattr(entry, field)
    ]
    return Alteration(f"{kind}.{word}", name, "; ".join(said))


def _told(entry: object) -> str:
    if not isinstance(entry, msgspec.Struct):
        return _text(entry)
    fields = ("agency", "role", "area", "officer", "level", "label", "severity", "roles")
    told = {field: getattr(entry, field) for field in fields if hasattr(entry, field)}
    return " ".join(f"{field} {_text(value)}" for field, value in told.items() if value)


def _values(old: object, new: object) -> str:
    return f"{_text(old)} -> {_text(new)}"


def _text(value: object) -> str:
    if isinstance(value, msgspec.Struct | Mapping):
        return "(other)"
    if isinstance(value, list | tuple | set | frozenset):
        return _cut("+".join(_text(each) for each in value) or "none")
    return _cut(str(value) or "none")


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_MOST else f"{text[: VALUE_MOST - 3]}..."


_TABLES: dict[str, dict[str, tuple[str, str]]] = {
    "people": {
        "officers": ("officer", "collar"),
        "standing": ("standing", "terminal"),
        "operators": ("operator", "id"),
    },
    "fleet": {
        "terminals": ("terminal", "issi"),
        "device_classes": ("device_class", ""),
        "statuses": ("status", ""),
    },
    "areas": {"wards": ("ward", "name")},
    "policy": {
        "reasons": ("reason", ""),
        "levels": ("level", ""),
        "rules": ("rule", ""),
        "console": ("console", "role"),
    },
    "warnings": {
        "codes": ("warning", ""),
        "circulations": ("circulation", ""),
        "reports": ("report", ""),
    },
    "alarms": {"rules": ("alarm", "id")},
}
"""File -> its tables: what an entry is called, and the member by which it is known."""
