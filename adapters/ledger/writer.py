"""The one writer: a thread that owns the only read-write connection and commits in groups.

What waits while one transaction is being synced goes into the next one together, so a lone record
costs one sync and a burst costs few. A commit that returns has been synced (SQLite WAL with
`synchronous=FULL`; PostgreSQL `synchronous_commit=on`). The chain's head lives in this thread only;
it moves when a transaction is durable and at no other time.

Errors are told apart by remedy (remedy.py): what a fuller disk or a freed lock mends is
LedgerUnavailable; what may have broken the promise that written is durable (EIO, a file deleted
under us, a second writer) is LedgerFatal, and the process must end.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from adapters.ledger import canonical, remedy
from adapters.ledger.access import Access, LockHeld
from adapters.ledger.ballast import Ballast
from adapters.ledger.head_making import HeadMaker
from adapters.ledger.jobs import Job, Waiting, tell
from adapters.ledger.purging import sync_length
from adapters.ledger.remedy import Remedy
from adapters.ledger.rows import Changes
from adapters.ledger.schema import audit_content, audit_leaf, meta
from adapters.ledger.statements import Query, Statement
from gateway.errors import (
    DuplicateCheck,
    DuplicateReceipt,
    LedgerError,
    LedgerFatal,
    LedgerUnavailable,
)
from gateway.ports import Journal, Meter, Record

CHECKPOINT_ROWS = 1000
"""Rows after which the write-ahead log is folded in, under load; a pause does it as well."""
WAL_MOST_BYTES = 64 * 1024 * 1024
"""Somebody who reads keeps it from being folded in: said aloud."""
PAUSE_S = 1.0
RECONNECT_EVERY_S = 0.5
IN_DOUBT_S = 5.0
"""A connection lost in the middle of COMMIT is looked after for so long before we give up."""
SALT_BYTES = 16
SALTS_AT_ONCE = 32
NEW = frozenset({"opened"})
"""Records of something new: refused while the ballast is spent."""
FINISHING = frozenset(
    {"answered", "disclosed", "delivered", "read", "stale", "late_answer", "started", "stopped"}
)
"""Records that end something, also where no row changes with them; and the service's own life:
positions and emergencies are relayed on a full disk, too."""


class Writer:
    """Made by `opening`; `run` is the thread, and whatever is here belongs to it."""

    def __init__(
        self,
        access: Access,
        db: Connection,
        waiting: Waiting,
        *,
        log: str,
        fence: int,
        head: tuple[int, str],
        heads: HeadMaker,
        heads_every: int,
        heads_every_s: float,
        ballast: Ballast | None,
        group_rows: int,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self._access = access
        self._connection: Connection | None = db
        self._waiting = waiting
        self._log = log
        self._fence = fence
        self._changes = Changes(access.engine.dialect, fence)
        self._add_leaf = Statement(insert(audit_leaf), access.engine.dialect)
        self._add_content = Statement(insert(audit_content), access.engine.dialect)
        self.head = head
        self._path = access.path
        self._inode = access.path.stat().st_ino if access.path else 0
        self._heads = heads
        self._heads_every = heads_every
        self._heads_every_s = heads_every_s
        self._headed = head[0]
        self._headed_at_s = time.monotonic()
        self._head_failed = False
        self._ballast = ballast
        self._low = ballast is not None and not ballast.held
        self._group_rows = group_rows
        self._meter = meter
        self._journal = journal
        self._unfolded_rows = 0
        self._truncate_due = False
        self._wal_said = False
        self._retry_at_s = 0.0
        self._dead: LedgerFatal | None = None
        fence_query = select(meta.c.value).where(meta.c.key == bindparam("key"))
        if access.path is None:
            fence_query = fence_query.with_for_update(read=True)
        self._fence_query = Query(fence_query, access.engine.dialect)

    def append_now(self, record: Record) -> None:
        """One record before the thread begins. Raises DBAPIError."""
        db = self._db()
        with db.begin():
            leaf, _ = self._leaf(record, self.head[0] + 1, self.head[1], next(_salts()))
            self._append(db, [leaf], [])
        self.head = (leaf["seq"], leaf["hash"])
        self._heads.took([leaf["hash"]])

    def run(self) -> None:
        """Until the queue is closed and empty, or something fatal happened."""
        try:
            while (turn := self._waiting.take(self._group_rows, self._pause_s())) is not None:
                for job in turn.reads:
                    self._look(job)
                self._serve(turn.commits)
                self._tend(idle=not (turn.reads or turn.commits))
        # A defect of ours in the one thread that all wait for: whoever waits must hear of it.
        except Exception as error:  # noqa: BLE001
            self._die([], type(error).__name__)
        finally:
            self._let_go()

    # ----------------------------------------------------------------- reads

    def _look(self, job: Job) -> None:
        """A read in a transaction of its own: one left open would pin the write-ahead log."""
        assert job.read is not None
        try:
            self._check_file()
            db = self._db()
            job.result = job.read(db)
            if db.in_transaction():
                db.rollback()
        except DBAPIError as error:
            self._back_out(error)
            if remedy.of(error, self._path) is Remedy.FATAL:
                self._die([job], remedy.name_of(error))
                return
            job.error = LedgerUnavailable(remedy.name_of(error))
        except LedgerUnavailable as error:
            job.error = error
        except LedgerFatal as error:
            self._die([job], str(error))
            return
        # What one caller cannot read must not end the service of the others (H13).
        except Exception as error:  # noqa: BLE001
            self._back_out(error)
            job.error = LedgerUnavailable(f"unreadable: {type(error).__name__}")
        tell([job])

    # ----------------------------------------------------------------- commits

    def _serve(self, group: list[Job]) -> None:
        group = self._admitted(group)
        if not group:
            return
        if self._dead is not None:
            tell(group, self._dead)
            return
        try:
            self._commit(group)
        except LedgerUnavailable as error:
            self._back_out(error)
            tell(group, error)
        except LedgerFatal as error:
            self._die(group, str(error))
        except DBAPIError as error:
            self._back_out(error)
            self._judge(group, remedy.of(error, self._path), remedy.name_of(error))
        except UnicodeDecodeError:
            # Our own texts come back as they are: SQLite named something that is damaged.
            self._die(group, "unreadable")
        except (ValueError, OverflowError) as error:
            # A text or a number that no column takes (a lone surrogate, 2**63).
            self._back_out(error)
            self._judge(group, Remedy.CALLER, type(error).__name__)
        except OSError as error:
            self._die(group, f"{error.strerror}")
        # A writer that does not know what it did may write nothing more.
        except Exception as error:  # noqa: BLE001
            self._die(group, type(error).__name__)

    def _judge(self, group: list[Job], what: Remedy, name: str) -> None:
        if what is Remedy.FATAL:
            self._die(group, name)
        elif what is Remedy.CALLER and len(group) > 1:
            # One caller's row is refused by a constraint: it must not cost the others theirs.
            for job in group:
                self._serve([job])
        elif what is Remedy.CALLER:
            tell(group, self._refused(group[0], name))
        elif what is Remedy.ROOM and self._ballast is not None and self._ballast.spend():
            self._low = True
            self._journal.warn("ledger.unavailable", reason="disk full", error=name)
            self._serve(group)
        else:
            tell(group, LedgerUnavailable("disk full" if what is Remedy.ROOM else name))

    def _refused(self, job: Job, name: str) -> LedgerError:
        """Why a constraint refused what one caller writes. Receipts are looked for only now: that
        one is taken hardly ever happens, and each commit would pay for the question."""
        refused = LedgerUnavailable(f"refused: {name}")
        try:
            db = self._db()
            with db.begin():
                return DuplicateReceipt() if self._changes.taken(db, job.changes) else refused
        except (DBAPIError, ValueError, LedgerError) as error:
            # What is worse than that is found again by the next commit.
            self._back_out(error)
            return refused

    def _admitted(self, group: list[Job]) -> list[Job]:
        """While the ballast is spent: only what brings something under way to its end (D01)."""
        if not self._low:
            return group
        refused = [job for job in group if not _finishes(job)]
        tell(refused, LedgerUnavailable("disk full"))
        return [job for job in group if _finishes(job)]

    def _commit(self, group: list[Job]) -> None:
        self._check_file()
        db = self._db()
        seq, prev = self.head
        ends: list[Job] = []
        leaves: list[dict[str, Any]] = []
        contents: list[dict[str, Any]] = []
        salts = _salts()
        transaction = db.begin()
        self._changes.begin()
        self._check_fence(db)
        self._changes.look(db, [change for job in group for change in job.changes])
        for job in group:
            ends.append(job)
            twin = self._changes.twin(db, job.changes)
            if twin is not None:
                job.error = DuplicateCheck(twin)
                continue
            job.error = None
            records = job.records
            if job.work is not None:
                more, job.result = job.work(db)
                records = (*records, *more)
            for record in records:
                seq += 1
                leaf, content = self._leaf(record, seq, prev, next(salts))
                prev = leaf["hash"]
                leaves.append(leaf)
                if content is not None:
                    contents.append(content)
            for change in job.changes:
                self._changes.take(change)
        self._changes.flush(db)
        self._append(db, leaves, contents)
        self._end(transaction, (seq, prev))
        self._changes.made()
        self.head = (seq, prev)
        tell(ends)
        self._meter.gauge("audit_head_sequence", seq)
        self._unfolded_rows += sum(job.rows for job in group)
        self._heads.took(leaf["hash"] for leaf in leaves)

    def _leaf(
        self, record: Record, seq: int, prev: str, salt: bytes
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        content: dict[str, Any] | None = None
        commitment = ""
        if record.content is not None:
            commitment = canonical.commitment(salt, record.content)
            content = {
                "log": self._log,
                "seq": seq,
                "at_ms": record.at_ms,
                "salt": salt,
                "content": record.content,
            }
        body = canonical.encode(
            record,
            log=self._log,
            seq=seq,
            prev=prev,
            commitment_=commitment,
            verb=record.verb,
        )
        leaf = {
            "log": self._log,
            "seq": seq,
            "at_ms": record.at_ms,
            "event": record.event,
            "check_id": record.check,
            "receipt": record.receipt,
            "record": body,
            "hash": canonical.digest(body),
        }
        return leaf, content

    def _append(
        self, db: Connection, leaves: list[dict[str, Any]], contents: list[dict[str, Any]]
    ) -> None:
        try:
            if leaves:
                self._add_leaf.run(db, leaves)
            if contents:
                self._add_content.run(db, contents)
        except IntegrityError as error:
            raise LedgerFatal("the chain is not where this writer left it") from error

    def _end(self, transaction: Any, head: tuple[int, str]) -> None:
        """Commit. On PostgreSQL a connection lost now leaves us not knowing: look, do not guess.

        The lock is ours again only when the lost connection's commit has come to its end (D10).
        """
        try:
            transaction.commit()
        except DBAPIError as error:
            if self._path is not None or not error.connection_invalidated:
                raise
            self._back_out(error)
            if not self._stands(head):
                raise LedgerUnavailable("connection lost") from error

    def _stands(self, head: tuple[int, str]) -> bool:
        """Whether this head is the one on record. Raises LedgerFatal when that stays unknown."""
        until_s = time.monotonic() + IN_DOUBT_S
        while True:
            try:
                self._retry_at_s = 0.0
                found = self._reconnect(expect=(self.head, head))
            except (DBAPIError, LedgerUnavailable) as error:
                if time.monotonic() > until_s:
                    raise LedgerFatal("whether a commit was made cannot be known") from error
                time.sleep(RECONNECT_EVERY_S)
            else:
                return found == head

    # ----------------------------------------------------------------- what must hold

    def _db(self) -> Connection:
        if self._connection is None:
            self._reconnect(expect=(self.head,))
        assert self._connection is not None
        return self._connection

    def _reconnect(self, expect: tuple[tuple[int, str], ...]) -> tuple[int, str]:
        """Raises DBAPIError, LedgerUnavailable; LedgerFatal when somebody else wrote meanwhile."""
        now_s = time.monotonic()
        if now_s < self._retry_at_s:
            raise LedgerUnavailable("not connected")
        self._retry_at_s = now_s + RECONNECT_EVERY_S
        try:
            db = self._access.connect()
        except LockHeld:
            self._overtaken()
            raise
        try:
            with db.begin():
                self._check_fence(db)
                found = head_of(db, self._log)
            if found not in expect:
                raise LedgerFatal("the chain is not where this writer left it")
        except BaseException:
            db.close()
            raise
        self._connection = db
        return found

    def _overtaken(self) -> None:
        """The lock is held: by a lost connection of ours for a while, or by who came after us."""
        with self._access.engine.connect() as db, db.begin():
            self._check_fence(db)

    def _check_fence(self, db: Connection) -> None:
        """In each transaction: a writer that was overtaken while it slept writes nothing more."""
        if [*self._fence_query.rows(db, [fence_key(self._log)])] != [(str(self._fence),)]:
            raise LedgerFatal("another writer has taken over this log")

    def _check_file(self) -> None:
        """A file that was deleted or replaced under us takes what we write with it (D05). Before
        each commit: it costs two microseconds, and a commit later something would be lost."""
        if self._path is None:
            return
        try:
            same = self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            raise LedgerFatal("the ledger's file is not where it was")

    def _back_out(self, error: BaseException) -> None:
        """Roll back what an error interrupted; a connection that cannot is not used again."""
        db = self._connection
        if db is None:
            return
        lost = bool(getattr(error, "connection_invalidated", False))
        try:
            # Not only when in_transaction(): after a COMMIT that failed SQLAlchemy says no, and
            # still wants a rollback; and SQLite may still be in one.
            db.rollback()
            if not lost and self._path is not None:
                db.connection.rollback()
        except (SQLAlchemyError, sqlite3.Error):
            lost = True
        if lost:
            db.invalidate()
            db.close()
            self._connection = None

    def _die(self, group: list[Job], why: str) -> None:
        """Never write again, and never say that it may be tried again."""
        self._dead = LedgerFatal(why)
        tell(group, self._dead)
        self._waiting.fail(self._dead)

    # ----------------------------------------------------------------- between the groups

    def _pause_s(self) -> float | None:
        """How long to sleep when nothing waits; None: there is nothing to do by time alone."""
        if self._low or self._unfolded_rows or self._truncate_due:
            return PAUSE_S
        return self._heads_every_s if self.head[0] != self._headed else None

    def _tend(self, *, idle: bool) -> None:
        """Nothing here may cost what is durable already: a failure is said and tried again."""
        if self._dead is not None:
            return
        self._meter.gauge("queue_depth", len(self._waiting), queue="audit")
        if self._low and self._ballast is not None and self._ballast.keep():
            self._low = False
            self._journal.note("ledger.recovered", reason="disk has room")
        new = self.head[0] - self._headed
        waited_s = time.monotonic() - self._headed_at_s
        many = new >= self._heads_every and not self._head_failed
        if many or (new and waited_s >= self._heads_every_s):
            self.write_head()
        if idle or self._unfolded_rows >= CHECKPOINT_ROWS:
            self._fold_in()

    def _fold_in(self) -> None:
        """Checkpoint; truncating when a purge waits for that."""
        if self._path is None or self._connection is None:
            return
        if not (self._unfolded_rows or self._truncate_due):
            return
        self._unfolded_rows = 0
        try:
            if self._truncate_due:
                self._truncate_due = not self.checkpoint("TRUNCATE")
            else:
                self.checkpoint("PASSIVE")
        except DBAPIError as error:
            if remedy.of(error, self._path) is Remedy.FATAL:
                self._die([], remedy.name_of(error))
            return
        wal = self._path.with_name(self._path.name + "-wal")
        large = wal.exists() and wal.stat().st_size > WAL_MOST_BYTES
        if large and not self._wal_said:
            self._journal.warn("ledger.unavailable", stage="checkpoint", reason="reader stays")
        self._wal_said = large

    def checkpoint(self, how: str) -> bool:
        """SQLite: fold the write-ahead log into the file; whether all of it was. Raises DBAPIError,
        LedgerFatal.

        On the driver's own connection: SQLAlchemy would begin a transaction first, and a
        checkpoint inside one is refused ("database table is locked").
        """
        if self._path is None:
            return True
        db = self._db()
        cursor: Any = db.connection.cursor()
        try:
            # Nobody's check waits for a reader to go: what is not done now is tried again.
            cursor.execute("PRAGMA busy_timeout=20")
            busy, frames, folded = cursor.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            cursor.execute("PRAGMA busy_timeout=2000")
        except sqlite3.Error as error:
            raise DBAPIError("PRAGMA wal_checkpoint", None, error) from error
        finally:
            cursor.close()
        done = not busy and frames == folded
        if done and how == "TRUNCATE":
            sync_length(self._path.with_name(self._path.name + "-wal"))
        return bool(done)

    def truncate(self) -> bool:
        """After a purge: no copy of what was purged may stay in the write-ahead log (I17). False:
        a reader is in the way; it is done when that has gone."""
        self._truncate_due = not self.checkpoint("TRUNCATE")
        return not self._truncate_due

    def write_head(self) -> None:
        """What an anchor off this host is given: proves later that nothing was cut off."""
        seq, hash_ = self.head
        self._headed_at_s = time.monotonic()
        if seq == self._headed:
            return
        try:
            self._heads.append(seq, hash_)
        except OSError as error:
            self._head_failed = True
            self._journal.warn("ledger.unavailable", stage="heads", error=type(error).__name__)
            return
        self._headed, self._head_failed = seq, False

    def _let_go(self) -> None:
        try:
            # Also when we die: what was durable until now is what the next start must find.
            self.write_head()
            if self._dead is None:
                self.checkpoint("TRUNCATE")
            if self._connection is not None:
                self._connection.close()
        except (DBAPIError, LedgerUnavailable, LedgerFatal):
            self._journal.warn("ledger.unavailable", stage="close")
        finally:
            self._access.release()


def _salts() -> Iterator[bytes]:
    """For one turn: asking the system for each would give the interpreter's lock away each time."""
    while True:
        some = secrets.token_bytes(SALT_BYTES * SALTS_AT_ONCE)
        for first in range(0, len(some), SALT_BYTES):
            yield some[first : first + SALT_BYTES]


def _finishes(job: Job) -> bool:
    events = {record.event for record in job.records}
    if events & NEW or job.work is not None:
        return False
    return bool(job.changes) or bool(events & FINISHING)


def fence_key(log: str) -> str:
    return f"fence:{log}"


def head_of(db: Connection, log: str) -> tuple[int, str]:
    """Sequence and hash of a log's newest record; (0, genesis) for an empty one."""
    newest = db.execute(
        select(audit_leaf.c.seq, audit_leaf.c.hash)
        .where(audit_leaf.c.log == log)
        .order_by(audit_leaf.c.seq.desc())
        .limit(1)
    ).first()
    return (int(newest.seq), str(newest.hash)) if newest else (0, canonical.GENESIS)
