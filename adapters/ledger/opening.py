"""Opening a ledger: lock, look at what is there, migrate, take the fence, go on with the chain.

A chain that does not verify is not appended to (D04): SQLite's file is moved aside as it is and a
new one begun, linked to the newest head that is known; what must survive is carried over. A ledger
that lacks records which the heads know (D12: an old copy was put back) goes on behind them. Both
are put on record as a gap (docs/adr/0011).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from adapters.ledger import canonical, remedy, signing, url_of
from adapters.ledger.access import Access
from adapters.ledger.ballast import BALLAST_BYTES, Ballast
from adapters.ledger.broken import Broken, carry_over, set_aside, what_is_wrong
from adapters.ledger.head_making import Headed, HeadMaker
from adapters.ledger.heads import Head, decode
from adapters.ledger.jobs import Waiting
from adapters.ledger.schema import REVISION, meta
from adapters.ledger.store import Store
from adapters.ledger.writer import Writer, fence_key, head_of
from gateway.errors import LedgerUnavailable
from gateway.ports import Clock, Journal, Meter, Record
from gateway.settings import AuditSection, LedgerSection

_AUDIT = AuditSection()
_NONE: Mapping[str, bytes] = {}
WAL_RESET_FIXED = (3, 51, 3)
"""Older SQLite can corrupt a WAL database that two connections write at once; we have one."""


def open_store(
    section: LedgerSection,
    *,
    state_dir: Path,
    instance: str,
    meter: Meter,
    journal: Journal,
    clock: Clock,
    repair: bool = True,
    audit: AuditSection = _AUDIT,
    anchored: Mapping[str, bytes] = _NONE,
    headed: Headed | None = None,
    patient: bool = False,
) -> Store:
    """Blocking. Raises LedgerUnavailable with what to do when it cannot be opened for writing."""
    try:
        with contextlib.ExitStack() as undo:
            _own_folder(state_dir)
            url = url_of(section, state_dir)
            path = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None
            access = Access(url, path, patient=patient)
            undo.callback(access.release)
            heads = HeadMaker(
                state_dir,
                instance,
                clock=clock,
                key_file=Path(audit.key_file) if audit.key_file else None,
                headed=headed,
            )
            mine = heads.newest()
            known = _furthest(mine, anchored, state_dir, instance, journal)
            broken = None
            wrong = what_is_wrong(url, path, instance, known)
            if wrong:
                journal.warn("ledger.broken", log=instance, reason=wrong)
                if path is None or not repair:
                    raise LedgerUnavailable(f"{wrong}: not appended to (see `audit verify`)")
                broken = set_aside(path, instance, wrong, clock.wall_ms())
            _make_private(path)
            db = access.connect()
            undo.callback(db.close)
            _judge_engine(db, path, journal)
            migrate(access, db)
            with db.begin():
                fence = _next_fence(db, instance)
                head = head_of(db, instance)
            if broken is not None:
                _take_over(broken, db, fence, journal)
            after = _after_a_gap(head, known, broken, journal, instance)
            if after is not None and not repair:
                raise LedgerUnavailable(f"records after {head[0]} are missing: start the daemon")
            if after is None:
                heads.begin(db, head[0])
            else:
                heads.begin_anew(after[0] + 1)
            waiting = Waiting(section.queue)
            writer = Writer(
                access,
                db,
                waiting,
                log=instance,
                fence=fence,
                head=after or head,
                heads=heads,
                heads_every=audit.heads_every,
                heads_every_s=audit.heads_every_s,
                ballast=_ballast(path, journal),
                group_rows=section.group_rows,
                meter=meter,
                journal=journal,
            )
            if after is not None:
                segment = _segment(clock.wall_ms(), after[0] + 1, head[0], known, broken)
                writer.append_now(segment)
            if headed is not None and mine is not None and mine is known and mine.v:
                # An anchor that has a newer one must not be given an older one behind it; nor
                # behind the head of a new key, which is signed at once.
                headed(mine.line())
            if repair:
                _take_up_key(heads, writer, clock.wall_ms(), journal)
            undo.pop_all()
    except (DBAPIError, OSError) as error:
        why = remedy.said_of(error) if isinstance(error, DBAPIError) else f"{error.strerror}"
        raise LedgerUnavailable(f"cannot be opened: {why}") from error
    meter.gauge("queue_capacity", section.queue, queue="audit")
    return Store(
        writer,
        waiting,
        log=instance,
        fence=fence,
        meter=meter,
        journal=journal,
        clock=clock,
        gap=after is not None,
    )


def _furthest(
    mine: Head | None, anchored: Mapping[str, bytes], state_dir: Path, log: str, journal: Journal
) -> Head | None:
    """The newest head of all that are known of this log. One that an anchor has and none of our
    keys signed is said, and not gone by: an anchor must not make us leave numbers out."""
    known = mine
    keys = signing.read_public([state_dir]) if anchored else {}
    for name, line in anchored.items():
        head = decode(line)
        if head is None or head.log != log:
            journal.warn("ledger.anchor", link=name, state="unread", reason="no head of this log")
            continue
        if known is not None and head.seq <= known.seq:
            continue
        if not signing.signed(keys, head.key, head.message(), head.sig):
            journal.warn(
                "ledger.anchor", link=name, state="ahead", seq=head.seq, reason="key not known here"
            )
            continue
        journal.warn("ledger.anchor", link=name, state="ahead", seq=head.seq)
        known = head
    return known


def _take_up_key(heads: HeadMaker, writer: Writer, at_ms: int, journal: Journal) -> None:
    """Another key than the last head's is put on record, and signs at once. Without a key checks
    are recorded and answered all the same, and the journal says that no head is signed."""
    try:
        change = heads.change_of_key()
    except OSError as error:
        journal.warn("ledger.unavailable", stage="key", error=type(error).__name__)
        return
    if change:
        writer.append_now(
            Record(event="alteration", at_ms=at_ms, operation="audit.key", detail=change)
        )
        journal.warn("ledger.key", reason=change)
        writer.write_head()


# --------------------------------------------------------------------------- the file and its house


def _own_folder(state_dir: Path) -> None:
    """Mode 0700 when made. root does not write into another's folder: the daemon, which runs as
    that other, could not open the files that root made."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = state_dir.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise LedgerUnavailable(
            f"{state_dir.name} belongs to user {owner}: run this as that user (sudo -u '#{owner}')"
        )


def _make_private(path: Path | None) -> None:
    """Before SQLite opens it: its companions (-wal, -shm) take over the mode of the file."""
    if path is not None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)


def _ballast(path: Path | None, journal: Journal) -> Ballast | None:
    if path is None:
        return None
    ballast = Ballast(path.with_name(path.name + ".ballast"), BALLAST_BYTES)
    if not ballast.keep():
        journal.warn("ledger.unavailable", reason="disk full", stage="open")
    return ballast


def _judge_engine(db: Connection, path: Path | None, journal: Journal) -> None:
    if path is not None:
        if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
            journal.note("ledger.version", version=sqlite3.sqlite_version)
        return
    if db.execute(text("SHOW fsync")).scalar() == "off":
        raise LedgerUnavailable("PostgreSQL runs with fsync = off: what it takes is not durable")
    db.commit()


def migrate(access: Access, db: Connection) -> None:
    """Bring the schema to the newest revision. Raises LedgerUnavailable for one we do not know.

    Alembic is a third of what a start has to load, so it is loaded only where there is something
    to do: the restart after a crash finds the schema as it was.
    """
    with db.begin():
        there = inspect(db).has_table("alembic_version")
        found = list(db.execute(text("SELECT version_num FROM alembic_version"))) if there else []
    if [tuple(row) for row in found] == [(REVISION,)]:
        return
    from alembic import command
    from alembic.config import Config as AlembicConfig
    from alembic.util.exc import CommandError

    config = AlembicConfig()
    config.set_main_option("script_location", "adapters.ledger:migrations")
    config.attributes["connection"] = db
    try:
        with access.unhurried(db):
            command.upgrade(config, "head")
            if db.in_transaction():
                db.commit()
    except CommandError as error:
        raise LedgerUnavailable(
            "cannot be opened: this version does not know its schema; was it made by a newer one?"
        ) from error


def _next_fence(db: Connection, log: str) -> int:
    """The writer's epoch: one more than the last writer's, so that an old one can be told apart."""
    key = fence_key(log)
    found = db.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
    fence = int(found or 0) + 1
    if found is None:
        db.execute(insert(meta).values(key=key, value=str(fence)))
    else:
        db.execute(update(meta).where(meta.c.key == key).values(value=str(fence)))
    return fence


# --------------------------------------------------------------------------- going on after a gap


def _take_over(broken: Broken, db: Connection, fence: int, journal: Journal) -> None:
    with db.begin():
        for table in carry_over(broken, db, fence):
            journal.warn("ledger.broken", stage="carry over", reason=f"{table}: not all readable")


def _after_a_gap(
    head: tuple[int, str], known: Head | None, broken: Broken | None, journal: Journal, log: str
) -> tuple[int, str] | None:
    """Where the chain goes on when records are missing, else None. Their numbers are not used
    again: two records of one number would be two truths."""
    if broken is None and (known is None or known.seq <= head[0]):
        return None
    if known is not None and broken is None:
        journal.warn(
            "ledger.behind", log=log, seq=head[0], count=known.seq - head[0],
            reason=f"history missing {head[0] + 1}..{known.seq}",
        )  # fmt: skip
    last = broken.seq if broken is not None else 0
    if known is None:
        return last, canonical.GENESIS
    return max(last, known.seq), known.hash


def _segment(
    at_ms: int, seq: int, before: int, known: Head | None, broken: Broken | None
) -> Record:
    where = f"in {broken.path.name}: {broken.reason}" if broken is not None else "not there"
    link = f"after head {known.seq}" if known is not None else "no head known"
    missing = f"{before + 1}..{seq - 1}" if seq > before + 1 else "none"
    return Record(
        event="security",
        at_ms=at_ms,
        operation=canonical.SEGMENT,
        detail=f"{link}; records {missing} {where}",
    )
