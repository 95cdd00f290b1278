"""Files of a force of constables: as many radios as wanted, each with a holder of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

CONFIG = Path(__file__).parents[2] / "config"


def write(folder: Path, issis: Iterable[str], *, callsign: str, collar: int) -> None:
    """fleet.toml with the sample's head and these radios, and people.toml with their holders.

    callsign: in front of a running number. collar: the number of the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    sample = (CONFIG / "fleet.toml").read_text("utf-8")
    fleet, people = [sample[: sample.index("[[terminals]]")]], ['version = "made"\n']
    for place, issi in enumerate(issis):
        who = str(collar + place)
        fleet.append(radio(issi, f"{callsign}-{place + 1}"))
        people.append(holder(issi, who))
    (folder / "fleet.toml").write_text("".join(fleet), "utf-8")
    (folder / "people.toml").write_text("".join(people), "utf-8")


def radio(issi: str, callsign: str) -> str:
    """The table of a handheld of the police, East."""
    return _table(
        "terminals",
        issi=issi,
        callsign=callsign,
        agency="police",
        area="Eastern",
        device_class="handheld",
    )


def holder(issi: str, collar: str) -> str:
    """The tables of a constable who holds it."""
    officer = _table(
        "officers", collar=collar, surname="TESTER", rank="PC", agency="police", role="constable"
    )
    return officer + _table("standing", terminal=issi, officer=collar)


def _table(name: str, **values: str) -> str:
    pairs = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    return f"\n[[{name}]]\n{pairs}"
