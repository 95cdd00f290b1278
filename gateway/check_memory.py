"""Which questions are the same one, and which checks are in memory.

A JSON check is the same when terminal, reference, sending time and content are the same
(docs/interfaces.md); the ledger's unique constraint decides in the end, memory only saves the
read. Typed text has no reference: it is the same check until a while after its outcome, and there
memory decides; `typed_may_be_on_record` says when memory alone cannot know.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from gateway.check_rows import Check
from gateway.check_states import BEFORE_OUTCOME, ENDED, Stage
from gateway.messages import CheckRequest, Issi, Kind, Outcome, search_key
from gateway.ports import Keyed

_WITH_COURIER = ENDED | {Stage.DELIVERING}


def dedupe_key(keyed: Keyed, terminal: Issi, request: CheckRequest, received_at_ms: int) -> str:
    """What the ledger's unique constraint holds. For typed text the moment of receipt stands in
    for the reference, since its repeats are known by the text."""
    moment = request.sent_at_ms if request.sent_at_ms is not None else -received_at_ms
    parts = msgspec.json.encode(
        [
            terminal,
            request.ref or request.typed,
            moment,
            search_key(request.key),
            request.reason,
            request.justification,
            request.location,
            request.full,
            *([request.scope] if request.scope else []),
        ]
    )
    return under_key(keyed, hashlib.sha256(parts).hexdigest())


def under_key(keyed: Keyed, digest: str) -> str:
    """A digest that nobody who has the ledger alone can try number plates against."""
    return f"k:{keyed('question', digest).hex()}"


class CheckMemory:
    """Every open check, and the newest `settled` ones that ended. Counts as it goes, O(1).

    since_s: when it began to remember; what was before that, only the ledger knows.
    """

    def __init__(self, *, settled: int, typed_repeat_s: float, since_s: float) -> None:
        self._settled = settled
        self._typed_repeat_s = typed_repeat_s
        self._open: dict[str, Check] = {}
        self._known: OrderedDict[str, Check] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        """Those of `_known` that are not open, the first to be forgotten first."""
        self._by_dedupe: dict[str, str] = {}
        self._by_typed: dict[tuple[Issi, str], str] = {}
        self._tallies: dict[str, tuple[str, ...]] = {}
        self._counts: dict[str, int] = {}
        self._typed_forgotten_at_s = since_s

    # ----------------------------------------------------------------- in and out

    def open(self, check: Check, now_s: float) -> None:
        """It needs work; until `close` it is not forgotten."""
        self._open[check.id] = check
        self.know(check, now_s)
        self._ended.pop(check.id, None)
        self.tally(check)

    def know(self, check: Check, now_s: float) -> None:
        """Keep it for repeats."""
        self._known[check.id] = check
        self._known.move_to_end(check.id)
        if check.id not in self._open:
            self._ended[check.id] = None
            self._ended.move_to_end(check.id)
        self._by_dedupe[check.dedupe] = check.id
        if check.typed:
            self._by_typed[check.terminal, check.typed] = check.id
        self._trim(now_s)

    def close(self, check: Check, now_s: float) -> bool:
        """It needs no more work; kept a while for repeats. False when it was closed before."""
        if self._open.pop(check.id, None) is None:
            return False
        self._ended[check.id] = None
        self.tally(check)
        self._trim(now_s)
        return True

    def drop(self, check: Check) -> None:
        """It never came on record: the same question may come again."""
        self._known.pop(check.id, None)
        self._ended.pop(check.id, None)
        self._unname(check)

    def _trim(self, now_s: float) -> None:
        while len(self._ended) > self._settled:
            oldest_id, _ = self._ended.popitem(last=False)
            oldest = self._known.pop(oldest_id)
            if oldest.typed:
                self._typed_forgotten_at_s = now_s
            self._unname(oldest)

    def _unname(self, check: Check) -> None:
        if self._by_dedupe.get(check.dedupe) == check.id:
            del self._by_dedupe[check.dedupe]
        if self._by_typed.get((check.terminal, check.typed)) == check.id:
            del self._by_typed[check.terminal, check.typed]

    # ----------------------------------------------------------------- counting

    def tally(self, check: Check) -> None:
        """Its state changed: keep the figures true."""
        now: tuple[str, ...] = ()
        stage = check.state.stage
        if check.id in self._open:
            if stage in BEFORE_OUTCOME:
                kind = check.kind.value if check.kind else ""
                now = ("waiting", f"kind:{kind}")
            if stage not in _WITH_COURIER or check.untold:
                now = (*now, f"at:{check.terminal}")
        before = self._tallies.get(check.id, ())
        if now == before:
            return
        counts = self._counts
        for name in now:
            counts[name] = counts.get(name, 0) + 1
        for name in before:
            counts[name] -= 1
            if not counts[name]:
                del counts[name]
        if now:
            self._tallies[check.id] = now
        else:
            self._tallies.pop(check.id, None)

    @property
    def waiting(self) -> int:
        """Checks without an outcome."""
        return self._counts.get("waiting", 0)

    def flying(self, kind: Kind) -> int:
        """Checks of this kind without an outcome."""
        return self._counts.get(f"kind:{kind.value}", 0)

    def unfinished_at(self, terminal: Issi) -> int:
        """Checks of this terminal that are not yet with the Courier: asked, held, prompted. One
        that has an outcome of which the terminal may not know yet counts as one without."""
        return self._counts.get(f"at:{terminal}", 0)

    # ----------------------------------------------------------------- finding

    def __iter__(self) -> Iterator[Check]:
        """Every open check, oldest first."""
        return iter(list(self._open.values()))

    def find_open(self, check_id: str) -> Check | None:
        return self._open.get(check_id)

    def find(self, check_id: str | None) -> Check | None:
        return self._known.get(check_id) if check_id is not None else None

    def same(self, dedupe: str) -> Check | None:
        return self.find(self._by_dedupe.get(dedupe))

    def same_typed(self, terminal: Issi, typed: str, now_s: float) -> Check | None:
        """The check that this text repeats: open, or settled not longer ago than the rule says."""
        check = self.find(self._by_typed.get((terminal, typed)))
        return check if check is not None and self.typed_repeats(check, now_s) else None

    def typed_repeats(self, check: Check, now_s: float) -> bool:
        if check.settled_at_s is None:
            return True
        # From when it could be heard: until then nothing may tell whether it is settled.
        heard_at_s = max(check.settled_at_s, check.slot_s or 0.0)
        return now_s - heard_at_s <= self._typed_repeat_s

    def typed_may_be_on_record(self, now_s: float) -> bool:
        """Whether a check of some text may have been settled lately, only not in memory. That an
        older one of the same text is in memory proves nothing: it may wait for its officer since
        before a restart, when the newer one has long been read."""
        return now_s - self._typed_forgotten_at_s <= self._typed_repeat_s

    def newest_of(self, terminal: Issi, ref: str) -> Check | None:
        """With `ref` (whole id or short form) the check of this terminal that it means; without,
        the newest that the Courier has done with."""
        for check in reversed(self._known.values()):
            meant = ref in (check.short, check.id) if ref else check.state.stage in ENDED
            if check.terminal == terminal and meant:
                return check
        return None

    def held(self, ref: str) -> Check | None:
        """The newest answer of this whole id or short form that is held, or was."""
        for check in reversed(self._known.values()):
            answered = check.state.outcome is Outcome.ANSWERED and check.state.hold
            if answered and ref in (check.short, check.id):
                return check
        return None

    def newest_open(
        self, terminal: Issi, ref: str, hushed: Callable[[Check], bool]
    ) -> Check | None:
        """The newest question of this terminal that has no outcome yet, as far as it may know."""
        for check in reversed(self._open.values()):
            mine = check.terminal == terminal and (not ref or is_called(check, ref))
            if mine and (check.state.stage in BEFORE_OUTCOME or hushed(check)):
                return check
        return None

    def came_since(self, terminal: Issi, ref: str, since_s: float) -> bool:
        """Whether a question of this name has come from this terminal since then."""
        return any(
            check.terminal == terminal
            and (check.accepted_at_s >= since_s or check.id in self._open)
            and is_called(check, ref)
            for check in self._known.values()
        )


def own_names(question: Check | CheckRequest) -> tuple[str, ...]:
    """What its terminal may call it before it knows ours: its reference, or the `Q` that was typed.
    In upper case, as a keypad writes it."""
    names = (question.ref.upper(), f"Q{question.client_ref}" if question.client_ref else "")
    return tuple(name for name in names if name)


def is_called(check: Check, ref: str) -> bool:
    return ref in (check.short, check.id) or ref.upper() in own_names(check)
