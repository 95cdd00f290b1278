"""The triggers: what must be asked for so that a certain fault happens. Pure.

Source: pnc-domain reference, 15.5. `ER99TMT` as a mark, `ERROR/TMT` as a name, a driver's name, or
a property's type and serial; the DVLA's own `ER19...` test marks for the five that it has.
"""

from __future__ import annotations

import re

from adapters.pnc import marks
from gateway.messages import DriverKey, Key, PersonKey, PropertyKey, VehicleKey

HANG_S = 30.0
SLOW_S = 5.0
LATE_S = 1.0
"""How long after the deadline the late answer comes."""
FAULTS = (
    *("BAD", "NFD", "THR", "ERR", "MNT", "TMT", "SLW", "LAT", "RST", "ECH", "UNK"),
    *("DRP", "GBG", "DUP", "ORD", "LCK", "AUT", "FRB", "PAR", "TRN", "VST"),
)
DVLA_FAULTS = {
    "ER19BAD": "BAD",
    "ER19NFD": "NFD",
    "ER19THR": "THR",
    "ER19ERR": "ERR",
    "ER19MNT": "MNT",
}
NAME = "ERROR"
_TRIGGER = re.compile(r"ER99([A-Z]{3})")


def fault_of(key: Key) -> str:
    """The fault that this question asks for; empty for none. An unknown trigger is none."""
    match key:
        case VehicleKey(vrm=vrm):
            mark = marks.normalise(vrm)
            found = _TRIGGER.fullmatch(mark)
            code = found[1] if found else DVLA_FAULTS.get(mark, "")
        case PersonKey(surname=name, forenames=code) | DriverKey(surname=name, forenames=code):
            code = code.upper() if name.upper() == NAME else ""
        case PropertyKey(type=type_, serial=serial):
            code = serial.upper() if type_.upper() == NAME else ""
    return code if code in FAULTS else ""
