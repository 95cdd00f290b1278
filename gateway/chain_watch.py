"""The chain is proved by itself, soon after the start and each day, not only when an auditor comes.

A break is found while what caused it can still be looked into, and ops learn of it from a gauge.
The proof reads every record: it runs in a process of its own, so that no check waits for it.
"""

from __future__ import annotations

import asyncio
import enum
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.errors import EXIT_CHAIN
from gateway.ports import Clock, Journal, Meter

FIRST_S = 60.0
"""After the start, when what was left over from before has been dealt with."""
EVERY_S = 24 * 3600.0
"""Ops are told after 25 h without a proof (docs/metrics.md)."""
AGAIN_S = 600.0
"""When it could not be looked at: the database away, no memory for a process."""
DEADLINE_S = 3600.0


class Proof(enum.Enum):
    """What a look at the whole chain said."""

    VERIFIES = "verifies"
    BROKEN = "broken"
    UNKNOWN = "unknown"


Prove = Callable[[], Awaitable[Proof]]


def prover(config: Path) -> Prove:
    """`audit verify` with this configuration, in a process of its own; UNKNOWN when it could not
    be started, took longer than an hour, or ended with anything but a verdict."""

    async def prove() -> Proof:
        command = [sys.executable, "-m", "gateway", "audit", "verify", "--config", str(config)]
        try:
            # Its lines name records, not people, but the journal takes only fields it knows.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
            )
        except OSError:
            return Proof.UNKNOWN
        try:
            async with asyncio.timeout(DEADLINE_S):
                code = await process.wait()
        except TimeoutError:
            return Proof.UNKNOWN
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return {0: Proof.VERIFIES, EXIT_CHAIN: Proof.BROKEN}.get(code, Proof.UNKNOWN)

    return prove


class ChainWatch:
    """Proves on and on; told: each verdict, whether it verifies. A chain that does not verify stops
    nothing: checks go on being recorded behind the break (docs/adr/0011), and `audit_chain_ok` is 0
    until it verifies again."""

    def __init__(
        self,
        prove: Prove,
        *,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        told: Callable[[bool], None],
    ) -> None:
        self._prove = prove
        self._told = told
        self._clock = clock
        self._meter = meter
        self._journal = journal

    async def run(self) -> None:
        wait_s = FIRST_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = await self.look()

    async def look(self) -> float:
        """One proof; how long until the next, s. UNKNOWN moves no gauge: their age is the alarm."""
        began_s = self._clock.monotonic_s()
        proof = await self._prove()
        elapsed_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        if proof is Proof.UNKNOWN:
            self._journal.warn("ledger.proof", reason=proof.value, elapsed_ms=elapsed_ms)
            return AGAIN_S
        self._told(proof is Proof.VERIFIES)
        say = self._journal.note if proof is Proof.VERIFIES else self._journal.warn
        say("ledger.proof", reason=proof.value, elapsed_ms=elapsed_ms)
        self._meter.gauge("audit_chain_ok", float(proof is Proof.VERIFIES))
        self._meter.gauge("audit_last_verified_timestamp_seconds", self._clock.wall_ms() / 1000)
        return EVERY_S
