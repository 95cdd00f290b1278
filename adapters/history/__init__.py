"""What the feed said and where units were: for replay and reports; purgeable, never the audit.

SQLAlchemy is loaded when a history is opened, not before.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.messages import Event
from gateway.ports import History, Meter
from gateway.settings import HistorySection


class NoHistory:
    """gateway.ports.History where none is wanted."""

    def keep(self, event: Event) -> None:
        """Kept nowhere, on purpose: nothing is counted as lost."""

    async def close(self) -> None:
        """Nothing is open."""


async def open_history(section: HistorySection, *, state_dir: Path, meter: Meter) -> History:
    """Open it, off the loop. One that cannot be opened never keeps the gateway from its work:
    then every event is shed and counted."""
    if not section.enabled:
        return NoHistory()
    from adapters.history.store import open_store

    return await asyncio.to_thread(open_store, section, state_dir=state_dir, meter=meter)
