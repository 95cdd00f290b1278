"""Checks that an operator keys for an officer who asked by voice.

Both persons stand on every record: the officer who wants to know, the operator who asked for them.
The PNC is asked once. Of its answer the operator reads what the policy lets their role see, on
record first; to the officer's radio goes, if they wish it, what any answer to that officer would
be. Without a booked radio the operator alone is answered.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway import policy, rendering
from gateway.admission import Rules
from gateway.check_rows import Check, role_of
from gateway.check_states import class_of
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    Actor,
    Asker,
    AssistedCheck,
    CheckDone,
    CheckRequest,
    ControlAnswer,
    Event,
    Outcome,
    PncAnswer,
)
from gateway.ports import Change, Clock, DropKept, Journal, KeptRow, Ledger, PutKept, Record
from gateway.results import without_covert

KIND = "assisted"
MOST = 1000
"""Answers that wait to be read by their operator; the oldest goes first."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator may be shown of one check. answer: without covert parts."""

    check: str
    receipt: str
    asker: Asker
    request: CheckRequest
    outcome: Outcome
    cause: str
    answer: PncAnswer | None
    at_ms: int


class Checks(Protocol):
    """The CheckDesk, as far as this goes."""

    def ask_for(
        self,
        asker: Asker,
        request: CheckRequest,
        settle: Callable[[], None],
        *,
        dedupe: str,
        quiet: bool,
    ) -> None: ...

    def asked(self, dedupe: str) -> Check | None: ...


class AssistedChecks:
    """Minded: what nobody read in time is dropped. stale_s: so long it is kept."""

    def __init__(
        self,
        *,
        checks: Checks,
        rules: Callable[[], Rules],
        clock: Clock,
        ledger: Ledger,
        journal: Journal,
        stale_s: float,
    ) -> None:
        self._checks = checks
        self._rules = rules
        self._clock = clock
        self._ledger = ledger
        self._journal = journal
        self._stale_s = stale_s
        self._under_way: OrderedDict[str, Copy | None] = OrderedDict()
        """Asked; what is being written of its answer."""
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._dropped: list[str] = []

    # ----------------------------------------------------------------- asking

    async def ask(
        self, actor: Actor, requester: str, request: CheckRequest, *, to_radio: bool, key: str
    ) -> AssistedCheck:
        """Ask for the officer who holds this radio (ISSI, call-sign) or has this collar number;
        returns once the question is on record. key: what tells a copy of this act. The caller owns
        the deadline. Raises KeyError (no such requester), ValueError (why not), LedgerUnavailable.
        """
        asker = self._requester(requester)
        if actor.agency not in ("", asker.agency):
            raise KeyError(requester)
        if actor.id in {asker.officer, *asker.crew}:
            raise ValueError("NOT FOR YOURSELF: ASK OVER YOUR RADIO")
        if policy.may_read(self._rules().policy, actor.roles, actor.agency, request) is None:
            raise ValueError("NOT YOUR ROLE")
        quiet = not (to_radio and asker.issi)
        dedupe = hashlib.sha256(f"{KIND}\0{actor.id}\0{key}".encode()).hexdigest()
        plain = msgspec.structs.replace(
            request, ref="", client_ref="", typed="", sent_at_ms=None, fix=None
        )
        recorded = asyncio.Event()
        found: list[Check | None] = []

        def settled() -> None:
            # Now: memory may let go of it before whoever asked is told.
            found.append(self._checks.asked(dedupe))
            recorded.set()

        self._checks.ask_for(
            msgspec.structs.replace(asker, operator=actor.id),
            plain,
            settled,
            dedupe=dedupe,
            quiet=quiet,
        )
        await recorded.wait()
        check = found[0]
        if check is None:
            raise LedgerUnavailable("the question could not be put on record")
        if check.id not in self._copies and check.state.outcome is None:
            self._under_way.setdefault(check.id, None)
        refused = check.state.outcome is Outcome.REFUSED
        return AssistedCheck(
            check=check.id,
            short=check.short,
            terminal=check.terminal,
            to_radio=not check.state.quiet,
            refused=check.state.cause if refused else "",
        )

    def _requester(self, requester: str) -> Asker:
        """Whoever holds that radio; or the officer of that number, at the radio that they hold."""
        roster = self._rules().roster
        try:
            issi = roster.named(requester)
        except KeyError:
            issi = ""
        if issi:
            held = roster.asker(issi)
            if held is None:
                raise ValueError("NOT BOOKED: GIVE THE COLLAR NUMBER")
            return held
        officer = roster.officer(requester)
        if officer is None:
            raise KeyError(requester)
        for terminal in roster.terminals():
            held = roster.asker(terminal.issi)
            if held is not None and officer.collar in (held.officer, *held.crew):
                return held
        return Asker(
            issi="",
            callsign="",
            officer=officer.collar,
            surname=officer.surname,
            rank=officer.rank,
            agency=officer.agency,
            role=officer.role,
            area="",
            accredited_until=officer.accredited_until,
        )

    # ----------------------------------------------------------------- the operator's copy

    def copy(self, check: Check) -> list[Change]:
        """What goes on record with the outcome, so that the operator can read it: made when that
        is written, shown once it is durable."""
        if not check.asker.operator or check.request is None or check.state.outcome is None:
            return []
        answer = check.answer
        if answer is not None:
            answer = without_covert(answer, self._rules().policy).answer
        made = Copy(
            check=check.id,
            receipt=check.receipt,
            asker=check.asker,
            request=check.request,
            outcome=check.state.outcome,
            cause=check.state.cause,
            answer=answer if check.state.outcome is Outcome.ANSWERED else None,
            at_ms=self._clock.wall_ms(),
        )
        self._under_way[check.id] = made
        row = KeptRow(
            kind=KIND,
            id=check.id,
            at_ms=made.at_ms,
            body=msgspec.json.encode(made),
            until_ms=made.at_ms + round(self._stale_s * 1000),
            personal=True,
        )
        return [PutKept(row)]

    def seen(self, event: Event) -> None:
        """A tap on the bus: an outcome is durable."""
        if isinstance(event, CheckDone) and event.operator:
            made = self._under_way.pop(event.check, None)
            if made is not None:
                self._copies[event.check] = made
                while len(self._copies) > MOST:
                    self._drop(next(iter(self._copies)))

    async def read(self, ref: str, actor: Actor) -> ControlAnswer:
        """What came of it, for the operator who asked alone; on record first. Raises KeyError (no
        such), ValueError (not answered yet), LedgerUnavailable."""
        copy = self._find(ref)
        if copy is None:
            if any(ref in (id_, id_[-4:]) for id_ in self._under_way):
                raise ValueError("NOT ANSWERED YET")
            raise KeyError(ref)
        if copy.asker.operator != actor.id:
            raise KeyError(ref)
        answer = self._shown(copy, actor)
        asker = copy.asker
        record = Record(
            event="shown",
            at_ms=self._clock.wall_ms(),
            check=copy.check,
            terminal=asker.issi,
            officer=asker.officer,
            agency=asker.agency,
            role=asker.role,
            operator=actor.id,
            operator_role=role_of(actor),
            booking=asker.booking,
            reason=copy.request.reason,
            outcome=copy.outcome.value,
            recipient=f"operator:{actor.id}",
            fields=answer.fields,
            level=answer.level,
            policy=self._rules().policy.version,
            receipt=copy.receipt,
            content=msgspec.json.encode(answer),
        )
        await self._ledger.commit([record])
        return answer

    def _shown(self, copy: Copy, actor: Actor) -> ControlAnswer:
        """By the rules of now for the roles that they act in now."""
        rules = self._rules()
        decision = policy.may_read(rules.policy, actor.roles, actor.agency, copy.request)
        if decision is None:
            raise ValueError("NOT YOUR ROLE")
        as_of_ms = copy.at_ms
        if copy.answer is not None:
            as_of_ms = copy.answer.as_of_ms
            view = policy.project(rules.policy, decision, copy.request, copy.answer, rules.warnings)
        else:
            cls = class_of(copy.outcome, copy.cause)
            view = policy.without_answer(copy.outcome, cls, copy.cause, copy.request)
        clock = rendering.clock_text(as_of_ms, rules.zone)
        return ControlAnswer(
            check=copy.check,
            short=copy.check[-4:],
            outcome=copy.outcome,
            result_class=view.result_class,
            danger=view.danger,
            pages=rendering.screens(view, short=copy.check[-4:], clock_text=clock),
            level=view.level,
            fields=view.released,
            why=copy.cause,
        )

    def _find(self, ref: str) -> Copy | None:
        for copy in reversed(self._copies.values()):
            if ref in (copy.check, copy.check[-4:]):
                return copy
        return None

    # ----------------------------------------------------------------- over time

    async def restore(self) -> None:
        for row in await self._ledger.kept(KIND):
            try:
                self._copies[row.id] = msgspec.json.decode(row.body, type=Copy)
            except msgspec.DecodeError:
                self._journal.warn("check.unreadable", check=row.id)
                self._dropped.append(row.id)

    def tick(self, _now_s: float, now_ms: int) -> None:
        while self._copies:
            oldest = next(iter(self._copies.values()))
            if now_ms - oldest.at_ms <= self._stale_s * 1000:
                break
            self._drop(oldest.check)

    def _drop(self, check: str) -> None:
        del self._copies[check]
        self._dropped.append(check)

    @property
    def unrecorded(self) -> int:
        return len(self._dropped)

    async def record(self) -> None:
        """What is dropped is dropped from the disk, too. Raises LedgerFatal."""
        dropping = list(self._dropped)
        try:
            await self._ledger.commit([], [DropKept(KIND, each) for each in dropping])
        except LedgerUnavailable:
            return
        del self._dropped[: len(dropping)]
