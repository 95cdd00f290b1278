"""The four records of one story side by side, for the judges that compare them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.chain import Leaf
from tests.system.console import Console
from tests.system.officers import Heard, Officer

CONCLUDING = {"answered", "refused", "denied", "cancelled"}
"""The events of the audit that carry a check's one outcome."""


class Evidence:
    """T, Q, A and C. Whatever a test did not record is empty, and is then not judged.

    queries: dicts with `check`, `attempt`, `key_text` and perhaps `at_ms`, in the order in which
    they reached the PNC; registered: the same of the vehicle register. replies: dicts with
    `check`, `attempt`, `kind`, `warnings`. contents: the
    audit's personal contents by sequence (tests/chain.py). heads: every hash that the file of heads
    ever said, by sequence. callsigns: by ISSI. seen_at_s: when T and C were looked at.
    """

    def __init__(
        self,
        officers: Iterable[Officer] = (),
        queries: Sequence[Mapping[str, Any]] = (),
        leaves: Sequence[Leaf] = (),
        console: Console | None = None,
        *,
        replies: Sequence[Mapping[str, Any]] = (),
        contents: Mapping[int, tuple[bytes, bytes]] | None = None,
        heads: Mapping[int, Sequence[str]] | None = None,
        callsigns: Mapping[str, str] | None = None,
        seen_at_s: float = 0.0,
        registered: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.officers = list(officers)
        self.queries = list(queries)
        self.registered = list(registered)
        self.replies = list(replies)
        self.leaves = list(leaves)
        self.console = console
        self.contents = contents
        self.heads = heads
        self.callsigns = callsigns or {}
        self.seen_at_s = seen_at_s
        self.by_check: dict[str, list[Leaf]] = defaultdict(list)
        for leaf in self.leaves:
            if leaf["check"]:
                self.by_check[leaf["check"]].append(leaf)
        self.by_short = {
            (leaves[0]["terminal"], short_of(check)): leaves
            for check, leaves in self.by_check.items()
        }

    def heard(self, channel: str) -> list[tuple[Officer, Heard]]:
        """Everything of one channel that reached anybody."""
        return [(o, h) for o in self.officers for h in o.heard if h.channel == channel]

    def end_of(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """The record that carries a check's outcome."""
        return next((leaf for leaf in leaves if leaf["event"] in CONCLUDING), None)


def short_of(check: str) -> str:
    return check[-4:]
