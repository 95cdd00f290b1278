"""Four independent records of what happened, and the questions that their join must answer.

T what the terminals said and heard (officers.py); Q what the PNC server was asked and answered; A
the audit records, read from the ledger's file by a reader of our own (tests/chain.py); C the
console's stream (console.py). The daemon's own counters are never evidence, and nothing here shares
code with it (test_ledgers.py holds that).

The invariants are those of the reliability-security reference, section 4. Where each is judged:

    I1 I2 I3 I5 I7 I18   on_record.py, in every join
    I6 I8 I16 I21 I22    asked.py, in every join
    I10 I11              shown.py, in every join, for terminals whose fixes were kept
    I9                   tests/chain.py, in every join, with contents and heads where given
    I4 I12 I13 I14 I17 I19  bounds.py, where the test says what the bound is
    I20                  shown.py `lives`, `faults_seen`: where the test says what it broke

Judged elsewhere, or not built:

    I13 tasks, queues    inside the process: tests/simulation, and the soak's slopes
    I15 fairness         a matter of other terminals' p99 while one misbehaves: the tests of links
    I16 a disk that fails   the join shows that nothing was asked without its record; that nothing
                         is asked while the disk is full, the tests of the ledger's faults
    I17 after a fault    test_retention.py has the daemon purge in peace; a purge that is killed is
                         P12 in test_kill_points.py, one before a power cut the ledger's tests
    I18 revocation       as built: a terminal struck from the fleet file, by a reload. Certificates
                         are revoked by the broker
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.chain import Leaf, audit, chain_faults, contents, heads_faults
from tests.system import asked, on_record, shown
from tests.system.bounds import canaries
from tests.system.console import Console
from tests.system.evidence import CONCLUDING, Evidence, short_of
from tests.system.officers import Officer

__all__ = [
    "CONCLUDING",
    "Console",
    "Evidence",
    "Leaf",
    "audit",
    "canaries",
    "chain_faults",
    "contents",
    "join",
    "judge",
    "promises",
    "short_of",
]


def join(
    officers: Iterable[Officer],
    queries: Sequence[Mapping[str, Any]],
    leaves: Sequence[Leaf],
    console: Console | None = None,
) -> list[str]:
    """Every violated invariant, one line each; [] when all hold. See Evidence for the arguments."""
    return judge(Evidence(officers, queries, leaves, console))


def judge(e: Evidence) -> list[str]:
    """`join`, with all the evidence that there is."""
    return [
        *chain_faults(e.leaves, contents=e.contents),
        *(heads_faults(e.leaves, e.heads) if e.heads is not None else ()),
        *on_record.faults(e),
        *asked.faults(e),
        *shown.faults(e),
    ]


def promises(e: Evidence) -> list[str]:
    """What must hold at every moment, also in the one in which the daemon was killed: nothing was
    said or asked before its record."""
    return [*on_record.promises(e), *asked.recorded(e)]
