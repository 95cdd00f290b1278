"""Digests of questions that anybody could have made, as older versions wrote them, become keyed.

Number plates are few enough to be tried out against a plain SHA-256. A question younger than a day
gets the digest by which a copy of it is still known; an older one needs none. What marks a
question that ended the process goes: such a one is tried three times more, and no harm comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from adapters.ledger.jobs import Work
from adapters.ledger.rows import DEDUPE_MS
from adapters.ledger.schema import checks
from gateway.ports import Record

STEP = 500
"""Rows in one transaction: some ten milliseconds."""
_PLAIN = re.compile(r"(trial:)?[0-9a-f]{64}")


def batch(keyed: Callable[[str], str], now_ms: int) -> Work:
    """One step; its result is whether another one is due."""

    length = func.length(checks.c.dedupe)

    def work(db: Connection) -> tuple[Sequence[Record], bool]:
        # The column is indexed, and keyed ones begin with a letter behind all hex digits.
        plain = [
            and_(checks.c.dedupe.between(f"{of}0", f"{of}g"), length == len(of) + 64)
            for of in ("", "trial:")
        ]
        query = select(checks.c.id, checks.c.dedupe, checks.c.opened_at_ms)
        found = list(db.execute(query.where(or_(*plain)).limit(STEP)))
        for id_, old, opened_at_ms in found:
            this = checks.c.id == id_
            if not _PLAIN.fullmatch(old) or now_ms - opened_at_ms > DEDUPE_MS:
                db.execute(update(checks).where(this).values(dedupe=None))
            elif old.startswith("trial:"):
                db.execute(delete(checks).where(this))
            else:
                db.execute(update(checks).where(this).values(dedupe=keyed(old)))
        return (), len(found) == STEP

    return work
