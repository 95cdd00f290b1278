"""The durable record of every check: one writer thread, group commit, a chain of hashes.

SQLAlchemy costs half a second of import, so it is loaded when a ledger is opened, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gateway.ports import Clock, Journal, Meter
from gateway.settings import LedgerSection

if TYPE_CHECKING:  # SQLAlchemy costs half a second: loaded where a store is opened
    from adapters.ledger.store import Store


async def open_ledger(
    section: LedgerSection,
    *,
    state_dir: Path,
    instance: str,
    meter: Meter,
    journal: Journal,
    clock: Clock,
    repair: bool = True,
) -> Store:
    """Open it for writing, off the loop. Raises LedgerUnavailable, which says what to do.

    repair: go on behind a chain that is broken or lacks records (docs/adr/0011), as the daemon
    must; whoever only wants to put an export on record leaves it as it is, and is refused.
    """
    from adapters.ledger.opening import open_store

    return await asyncio.to_thread(
        open_store,
        section,
        state_dir=state_dir,
        instance=instance,
        meter=meter,
        journal=_FromThread(journal),
        clock=clock,
        repair=repair,
    )


class _FromThread:
    """gateway.ports.Journal for the writer's thread: the journal itself belongs to the loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loop = asyncio.get_running_loop()

    def note(self, event: str, **fields: str | int | float | bool | None) -> None:
        self._say(partial(self._journal.note, event, **fields))

    def warn(self, event: str, **fields: str | int | float | bool | None) -> None:
        self._say(partial(self._journal.warn, event, **fields))

    def _say(self, line: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(line)
        except RuntimeError:
            # The loop is closed: at the very end nobody reads the journal any more.
            return


def moved_aside(section: LedgerSection, *, state_dir: Path, before_ms: int) -> int:
    """How many files of ledgers that were broken (docs/adr/0011) are older than this: they hold
    personal content, and no purge reaches them. Blocks, shortly."""
    url = url_of(section, state_dir)
    if not url.startswith("sqlite:///"):
        return 0
    path = Path(url.removeprefix("sqlite:///"))
    found = 0
    for each in path.parent.glob(f"{path.name}.broken-*"):
        with contextlib.suppress(FileNotFoundError):
            found += each.stat().st_mtime * 1000 < before_ms
    return found


def url_of(section: LedgerSection, state_dir: Path) -> str:
    """Where this ledger is, as SQLAlchemy has it."""
    return section.url or f"sqlite:///{state_dir / 'ledger.db'}"


def verify_chain(section: LedgerSection, *, state_dir: Path, heads: Path | None) -> Iterator[str]:
    """Prove every log, a line for each. Raises ChainBroken, LedgerUnavailable. Read-only."""
    from adapters.ledger.heads import read_heads
    from adapters.ledger.verify import verify

    known = read_heads(heads) if heads is not None else {}
    for log in verify(url_of(section, state_dir), known):
        purged = f", content of {log.purged} purged" if log.purged else ""
        against = " against the heads" if heads is not None else ""
        missing = ", ".join(f"{first}..{last}" for first, last in log.gaps)
        gaps = f"; NOT HERE, as is on record: {missing}" if missing else ""
        yield f"{log.log}: {log.records} records verify{against}{purged}; head {log.hash}{gaps}"


def export_records(
    section: LedgerSection,
    *,
    state_dir: Path,
    purpose: str,
    by: str,
    since_ms: int | None,
    until_ms: int | None,
    out: BinaryIO,
) -> str:
    """Write the records as JSON Lines to `out`; returns the manifest, one JSON line. Read-only."""
    import msgspec

    from adapters.ledger.export import Manifest, lines

    manifest = Manifest(purpose=purpose, by=by)
    url = url_of(section, state_dir)
    for line in lines(url, manifest, since_ms=since_ms, until_ms=until_ms):
        out.write(line)
    return msgspec.json.encode(manifest).decode()


def show_receipt(section: LedgerSection, *, state_dir: Path, receipt: str) -> Iterator[bytes]:
    """The records of the check that this receipt proves, as lines of an export. Read-only.

    Raises ChainBroken when one of them is not what was hashed.
    """
    from adapters.ledger.export import line_of
    from adapters.ledger.readers import of_receipt, reading
    from adapters.ledger.verify import verify_leaf

    with reading(url_of(section, state_dir)) as db:
        for leaf in of_receipt(db, receipt):
            verify_leaf(leaf)
            yield line_of(leaf)
