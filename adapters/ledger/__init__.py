"""The durable record of every check: one writer thread, group commit, a chain of hashes.

SQLAlchemy costs half a second of import, so it is loaded when a ledger is opened, not before.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.ports import Clock, Journal, Ledger, Meter
from gateway.settings import LedgerSection


async def open_ledger(
    section: LedgerSection,
    *,
    state_dir: Path,
    instance: str,
    meter: Meter,
    journal: Journal,
    clock: Clock,
) -> Ledger:
    """Open it for writing, off the loop. Raises LedgerUnavailable, which says what to do."""
    from adapters.ledger.opening import open_store

    return await asyncio.to_thread(
        open_store,
        section,
        state_dir=state_dir,
        instance=instance,
        meter=meter,
        journal=journal,
        clock=clock,
    )
