"""Who is called what over the air: TETRA identities in the decimal forms of the PEI.

An SSI has 24 bits. In front of it may stand the network it belongs to: country (MCC, 10 bits) and
network (MNC, 14 bits), in 15, 16 or 17 digits. ISSI and GSSI share one number space: only the place
where an identity stands tells a radio from a group.
Source: reference radio-protocols, 1.4.
"""

from __future__ import annotations

import msgspec

SSI_DIGITS = 8
SSI_MOST = 16_777_214
"""All ones is "everybody", nothing is nobody."""
MCC_MOST = 1023
MNC_MOST = 16_383
_COUNTRY_DIGITS = {15: 3, 16: 3, 17: 4}
"""Digits in all -> those of the country; the network has what is left before the SSI."""


class Tsi(msgspec.Struct, frozen=True):
    """mcc, mnc: None where only the SSI was said."""

    mcc: int | None
    mnc: int | None
    ssi: int

    @property
    def issi(self) -> str:
        """As the fleet file has it: decimal, no zeros in front."""
        return str(self.ssi)

    def is_of(self, mcc: int | None, mnc: int | None) -> bool:
        """Whether it may belong to this network; what was not said on either side may."""
        return (mcc is None or self.mcc in (None, mcc)) and (mnc is None or self.mnc in (None, mnc))


def parse(text: str) -> Tsi | None:
    """None when it is no identity of a radio or a group."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()):
        return None
    if len(digits) <= SSI_DIGITS:
        mcc = mnc = None
    elif (country := _COUNTRY_DIGITS.get(len(digits))) is not None:
        mcc, mnc = int(digits[:country]), int(digits[country:-SSI_DIGITS])
        if mcc > MCC_MOST or mnc > MNC_MOST:
            return None
    else:
        return None
    ssi = int(digits[-SSI_DIGITS:])
    return Tsi(mcc, mnc, ssi) if 1 <= ssi <= SSI_MOST else None
