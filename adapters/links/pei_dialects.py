"""How makes of TETRA radios want to be spoken to, as data: one row a make, no `if` anywhere.

Whatever is recalled and not measured stands here, so that it can be mended without a line of code.
Source: reference radio-protocols, 1.2 and 1.3.
"""

from __future__ import annotations

import msgspec

TEXT = ("1,3,130", "1,3,137", "1,3,138", "1,3,140", "1,3,2", "1,3,9")
"""Text, immediate text, with user-data header, concatenated, simple, simple immediate: to us alone
(profile 1). A question names somebody; it must not stay on the display of a radio in a rack."""
PLACES = ("1,3,10", "1,3,3", "1,3,131")
"""LIP, and the location systems that carry NMEA."""
STATUS = ("1,2,20",)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """setup: sent one by one after AT was answered; errors are borne. identify: asked once.
    services: what is registered (+CTSP). parameters: before a message of this service, when the one
    before was of another (+CTSDS). keep_alive: its answer says that the radio lives, and whether it
    is on the network. prompt_s: so long the payload waits for `>`; 0: it goes with the command.
    """

    setup: tuple[str, ...] = ("ATE0", "ATV1", "AT+CMEE=1")
    identify: tuple[str, ...] = (
        *("AT+GMI?", "AT+GMM?", "AT+GMR?"),
        *("AT+CNUMF?", "AT+CTOM?", "AT+CREG?", "AT+CMGS=?"),
    )
    services: tuple[str, ...] = (*TEXT, *PLACES, *STATUS)
    parameters: str = "AT+CTSDS={service},0"
    keep_alive: str = "AT+CREG?"
    prompt_s: float = 0.0


DIALECTS: dict[str, Dialect] = {
    "plain": Dialect(),
    "motorola": Dialect(
        setup=("ATE0", "ATV1", "AT+CMEE=1", "AT+CSCS=8859-1"),
        parameters="AT+CTSDS={service},0,0,0,0",
    ),
    # Gives out positions only when they go to both.
    "sepura": Dialect(services=(*TEXT, "2,3,10", "1,3,3", "1,3,131", *STATUS)),
    # Takes the payload only after it has asked for it.
    "prompting": Dialect(prompt_s=2.0),
}
