"""The durable record of every check: one writer thread, group commit, a chain of hashes.

SQLAlchemy costs half a second of import, so it is loaded when a ledger is opened, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Unpack

from gateway.errors import LedgerUnavailable
from gateway.log_words import LogEvent, LogFields
from gateway.ports import Clock, Journal, Meter
from gateway.settings import AuditSection, LedgerSection

if TYPE_CHECKING:  # SQLAlchemy costs half a second: loaded where a store is opened
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from adapters.ledger.head_proof import Source
    from adapters.ledger.receipts import Proof
    from adapters.ledger.store import Store

_AUDIT = AuditSection()


async def open_ledger(
    section: LedgerSection,
    *,
    state_dir: Path,
    instance: str,
    meter: Meter,
    journal: Journal,
    clock: Clock,
    repair: bool = True,
    audit: AuditSection = _AUDIT,
    anchored: Mapping[str, bytes] | None = None,
    headed: Callable[[bytes], None] | None = None,
    patient: bool = False,
) -> Store:
    """Open it for writing, off the loop. Raises LedgerUnavailable, which says what to do.

    repair: go on behind a chain that is broken or lacks records (docs/adr/0011), as the daemon
    must; whoever only wants to put an export on record leaves it as it is, and is refused.
    anchored: what anchors have, by their name. headed: told of each signed head, in the loop.
    patient: wait shortly for a writer that is ending.
    """
    from adapters.ledger.opening import open_store

    loop = asyncio.get_running_loop()

    return await asyncio.to_thread(
        open_store,
        section,
        state_dir=state_dir,
        instance=instance,
        meter=meter,
        journal=_FromThread(journal),
        clock=clock,
        repair=repair,
        audit=audit,
        anchored=anchored or {},
        headed=None if headed is None else partial(_in_loop, loop, headed),
        patient=patient,
    )


def _in_loop(loop: asyncio.AbstractEventLoop, headed: Callable[[bytes], None], head: bytes) -> None:
    # Closed at the very end: then nobody takes heads any more, and the next start offers it.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(headed, head)


class _FromThread:
    """gateway.ports.Journal for the writer's thread: the journal itself belongs to the loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loop = asyncio.get_running_loop()

    def note(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
        self._say(partial(self._journal.note, event, **fields))

    def warn(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
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


def in_use(section: LedgerSection, *, state_dir: Path) -> bool:
    """Whether a daemon of this machine writes it. Raises OSError when that cannot be seen."""
    from adapters.ledger.access import is_written

    return is_written(url_of(section, state_dir))


def verify_chain(
    section: LedgerSection,
    *,
    state_dir: Path,
    heads: Sequence[Path] = (),
    own: bool = False,
    anchored: Mapping[str, bytes] | None = None,
    keys: Sequence[Path] = (),
) -> Iterator[str]:
    """Prove every log, a line for each. Raises ChainBroken, LedgerUnavailable. Read-only.

    heads: files of heads from elsewhere; own: with those in the state folder, too; anchored: the
    newest head of anchors that can be asked. keys: public ones, or folders of them; else the state
    folder's.
    """
    from adapters.ledger.head_proof import Proven, prove
    from adapters.ledger.verify import verify

    # Before the records: a head that is written meanwhile is of records that are read.
    sources = _sources(state_dir, heads, own, anchored or {})
    public = _public(keys or (state_dir,))
    if not public and any(head.v for source in sources for head in source.heads):
        raise LedgerUnavailable("no public key (audit-*.pub) to verify the heads with: --keys")
    proven = prove(sources, public)
    for log in verify(url_of(section, state_dir), proven):
        purged = f", content of {log.purged} purged" if log.purged else ""
        against = " against the heads" if log.log in proven else ""
        lost = ", ".join(proven.get(log.log, Proven()).lost)
        gone = f"; KEY LOST, as is on record: {lost}" if lost else ""
        missing = ", ".join(f"{first}..{last}" for first, last in log.gaps)
        gaps = f"; NOT HERE, as is on record: {missing}" if missing else ""
        yield (
            f"{log.log}: {log.records} records verify{against}{purged}; head {log.hash}; "
            f"{log.signed} signed heads, up to {log.headed}{gone}{gaps}"
        )


def _sources(
    state_dir: Path, heads: Sequence[Path], own: bool, anchored: Mapping[str, bytes]
) -> list[Source]:
    from adapters.ledger.head_proof import Source
    from adapters.ledger.heads import all_heads, decode

    found = [Source(path.name, all_heads(path)) for path in heads]
    mine = state_dir / "heads.jsonl"
    if own and mine.exists():
        found.append(Source(mine.name, all_heads(mine), whole=True))
    for name, line in anchored.items():
        head = decode(line)
        if head is None:
            raise LedgerUnavailable(f"anchor {name}: not a head")
        found.append(Source(f"anchor {name}", [head]))
    return found


def _public(keys: Sequence[Path]) -> dict[str, Ed25519PublicKey]:
    from adapters.ledger.signing import read_public

    try:
        return read_public(list(keys))
    except OSError as error:
        raise LedgerUnavailable(f"keys cannot be read: {error}") from error


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


def show_receipt(section: LedgerSection, *, state_dir: Path, receipt: str) -> Iterator[Proof]:
    """What this receipt proves: nothing when no record has it. Read-only.

    Raises ChainBroken when a record is not what was hashed, or not in the tree that was signed;
    LedgerUnavailable.
    """
    from adapters.ledger.receipts import proofs_of

    url, heads = url_of(section, state_dir), state_dir / "heads.jsonl"
    yield from proofs_of(url, heads, [state_dir], receipt)


def prove_records(
    section: LedgerSection, *, state_dir: Path, log: str, what: str
) -> Iterator[bytes]:
    """A line for the record of that number, or for each of the check with that receipt, that proves
    it to be under the newest signed head. Raises LedgerUnavailable, ChainBroken. Read-only."""
    from adapters.ledger import proofs

    url, heads = url_of(section, state_dir), state_dir / "heads.jsonl"
    if what.isdigit():
        yield from proofs.of_record(url, heads, [state_dir], log, int(what))
    else:
        yield from proofs.of_check(url, heads, [state_dir], what)


def prove_consistency(
    section: LedgerSection, *, state_dir: Path, log: str, old: int, new: int
) -> bytes:
    """That the head `new` goes on from the head `old`. Raises as `prove_records`. Read-only."""
    from adapters.ledger.proofs import between

    return between(url_of(section, state_dir), state_dir / "heads.jsonl", log, old, new)


def new_key(state_dir: Path) -> str:
    """Make the key that takes over at the next start; its id. Raises LedgerUnavailable."""
    from adapters.ledger.signing import NEW, make_key

    try:
        if any(state_dir.glob(f"audit-*.key{NEW}")):
            raise LedgerUnavailable("a new key is there already: it takes over at the next start")
        return make_key(state_dir, NEW).id
    except OSError as error:
        raise LedgerUnavailable(f"the key cannot be made: {error.strerror}") from error


def keys_of(state_dir: Path) -> Iterator[str]:
    """A line for each public key: its id, and whether its private one is here."""
    for path in sorted(state_dir.glob("audit-*.pub")):
        name = path.name.removesuffix(".pub")
        if (state_dir / f"{name}.key").exists():
            how = "signs"
        elif (state_dir / f"{name}.key.new").exists():
            how = "takes over at the next start"
        else:
            how = "verifies only"
        yield f"{name.removeprefix('audit-')}: {how}"
