"""The mock PNC in process: the register, and every fault on demand. Synthetic data only.

What is asked for with a trigger (adapters/pnc/faults.py) gets that fault by its remedy, as the
gateway would see it over a wire. Simulators import this module and no other of this package: what
their server needs of the register, the triggers and the latency is named here again.
"""

from __future__ import annotations

from adapters.pnc.faults import FAULTS, HANG_S, LATE_S, SLOW_S, fault_of
from adapters.pnc.fingerprint import fingerprint
from adapters.pnc.latency import Latency
from adapters.pnc.register import InvalidKey, Register
from adapters.pnc.stand_ins import UNKNOWN_CODE
from gateway.errors import PncDown, PncGarbled, PncInvalid, PncUnauthorised
from gateway.messages import PncAnswer, PncQuery
from gateway.ports import Also, Clock, nothing_more

__all__ = [
    "FAULTS",
    "HANG_S",
    "LATE_S",
    "SLOW_S",
    "UNKNOWN_CODE",
    "InvalidKey",
    "Latency",
    "MockPnc",
    "Register",
    "fault_of",
]


SOURCES = ("PNC", "DVLA", "INSURANCE")
"""Those that stand behind an answer of the mock."""


class MockPnc:
    """gateway.ports.Pnc in process. latency: what an undisturbed answer takes; None: nothing."""

    def __init__(self, register: Register, *, clock: Clock, latency: Latency | None = None) -> None:
        self._register = register
        self._clock = clock
        self._latency = latency

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline."""
        if self._latency is not None:
            await self._clock.sleep(self._latency.draw_s())
        match fault_of(query.key):
            case "BAD":
                raise PncInvalid("I0001")
            case "THR" | "ERR" | "MNT" | "RST" | "DRP" | "LCK" as fault:
                raise PncDown(fault)
            case "AUT" | "FRB" as fault:
                raise PncUnauthorised(fault)
            case "TMT":
                await self._clock.sleep(HANG_S)
                raise PncDown("hung up without a reply")
            case "SLW":
                await self._clock.sleep(SLOW_S)
            case "LAT":
                await self._clock.sleep(query.deadline_s + LATE_S)
            case "GBG":
                raise PncGarbled("malformed")
            case "TRN":
                raise PncGarbled("truncated")
            case "VST":
                raise PncGarbled("oversize")
            case "ECH" | "ORD":
                raise PncGarbled("echo")
            case "DUP":
                also("second", fingerprint("second", b""))
            case _:
                pass
        try:
            return self._register.answer(
                query.key,
                check=query.check,
                attempt=query.attempt,
                key_text=query.key_text,
                now_ms=self._clock.wall_ms(),
            )
        except InvalidKey as error:
            raise PncInvalid("I0001") from error

    async def sources(self) -> frozenset[str]:
        return frozenset(SOURCES)

    async def close(self) -> None:
        """Nothing is open."""
