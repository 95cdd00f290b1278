"""When a terminal below L3 may hear what became of its question: at fixed moments (pure).

The moments count from the question and never from the answer, so that when one comes does not
tell a trace from none. What is not ready in time waits for the next. Every outcome of a question
that was asked has them, failures too; what the gateway refuses by itself has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PAST_DEADLINE_S = 0.5
"""After the deadline: an outcome by it is written in less, and must be told within one second."""
STEP_S = 1.0
"""Between the moments after that."""


def answer_slot_s(slots_s: Sequence[float], *, deadline_s: float, age_s: float) -> float:
    """The first moment that is not over, in seconds from the question. age_s: of the question."""
    last_s = deadline_s + PAST_DEADLINE_S
    for slot_s in (*slots_s, last_s):
        if age_s <= slot_s <= last_s:
            return slot_s
    return last_s + math.ceil((age_s - last_s) / STEP_S) * STEP_S


def release_slot_s(every_s: float, *, age_s: float) -> float:
    """As `answer_slot_s`, of an answer that a person let go: every so many seconds."""
    return math.ceil(age_s / every_s) * every_s
