"""Asking the PNC: who has a place, who waits, and what comes of one attempt.

A place is held from the record of the first attempt to the outcome. Whoever has none waits in
order of asking. A question that is overdue gives its place back and is still listened for, within
bounds, only to learn that a reply came.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from gateway.breaker import Breaker, Circuit
from gateway.check_rows import Check
from gateway.check_states import (
    AttemptFailed,
    Cause,
    CheckEvent,
    LateAnswer,
    PlaceGranted,
    RetryDue,
    Stage,
)
from gateway.errors import PncDown, PncError, PncGarbled, PncInvalid, PncUnauthorised
from gateway.messages import (
    Event,
    LinkChanged,
    LinkState,
    Outcome,
    PncAnswer,
    PncQuery,
    kind_of,
)
from gateway.ports import Clock, Ids, Journal, Meter, Pnc
from gateway.settings import ChecksSection
from gateway.supervise import Crew
from gateway.timers import Timers

Feed = Callable[[Check, CheckEvent], None]


class Asking:
    """The desk's way to the PNC.

    feed: the one way on of a check. query: builds the question of an attempt. judge: what the
    rules of now make of an answer that belongs to its question. find: an open check by its id.
    unused: told of a reply that no outcome mentions and nobody is shown: attempt, reason and
    fingerprint.
    """

    def __init__(
        self,
        settings: ChecksSection,
        *,
        clock: Clock,
        ids: Ids,
        meter: Meter,
        journal: Journal,
        pnc: Pnc,
        crew: Crew,
        timers: Timers,
        publish: Callable[[Event], None],
        feed: Feed,
        fault: Callable[[Check], Callable[[BaseException], None]],
        find: Callable[[str], Check | None],
        query: Callable[[Check, int], PncQuery],
        judge: Callable[[Check, PncAnswer], CheckEvent],
        unused: Callable[[Check, int, str, bytes], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._meter = meter
        self._journal = journal
        self._pnc = pnc
        self._crew = crew
        self._timers = timers
        self._publish = publish
        self._feed = feed
        self._fault = fault
        self._find = find
        self._query = query
        self._judge = judge
        self._unused = unused
        self._queue: deque[str] = deque()
        self._placed = 0
        self._out = 0
        self._granting = False
        self._late: OrderedDict[str, asyncio.Task[None]] = OrderedDict()
        self._breaker = Breaker(failures=settings.breaker_failures, open_s=settings.breaker_open_s)
        self._shown: Circuit | None = None
        self._link_state = LinkState.UP

    # ----------------------------------------------------------------- places

    def reserve(self, check: Check) -> bool:
        """A place at once, if one is free, nobody waits, and the PNC may be asked."""
        free = self._placed < self._settings.concurrency and not self._queue
        if not free or not self.allowed():
            return False
        self._placed += 1
        check.placed = True
        return True

    def enqueue(self, check: Check) -> None:
        """Wait for a place; `PlaceGranted` says that there is one, perhaps at once."""
        check.queued_at_s = self._clock.monotonic_s()
        self._queue.append(check.id)
        self._grant()

    def leave(self, check: Check) -> None:
        """Give the place back. A question that is still out is listened for."""
        if check.pnc_since_s is not None:
            now_s = self._clock.monotonic_s()
            if check.state.outcome is Outcome.EXPIRED:
                self._breaker.failed(now_s, asked_at_s=check.pnc_since_s)
                self.see_circuit()
            check.pnc_s += now_s - check.pnc_since_s
            check.pnc_since_s = None
            self._listen_late(check)
        if check.placed:
            check.placed = False
            self._placed -= 1
            self._grant()

    def _grant(self) -> None:
        """Places to those who wait, in order. Whoever gets one may give it back at once (circuit
        open), so this is a loop and never its own caller: a long queue must not be a deep stack."""
        if self._granting:
            return
        self._granting = True
        try:
            while self._queue and self._placed < self._settings.concurrency:
                check = self._find(self._queue.popleft())
                if check is None or check.state.stage is not Stage.QUEUED:
                    continue
                self._placed += 1
                check.placed = True
                self.took("queue", check.queued_at_s)
                self._feed(check, PlaceGranted())
        finally:
            self._granting = False
        self._meter.gauge("queue_depth", len(self._queue), queue="check")

    # ----------------------------------------------------------------- the circuit

    def allowed(self) -> bool:
        """Whether the circuit lets an attempt be made now (in half-open: takes the one probe)."""
        allowed = self._breaker.allow(self._clock.monotonic_s())
        self.see_circuit()
        return allowed

    @property
    def circuit(self) -> Circuit:
        return self._breaker.state(self._clock.monotonic_s())

    def see_circuit(self) -> None:
        """Show the circuit as it is now: metrics when it turned, the feed when up became down."""
        state = self.circuit
        if state is self._shown:
            return
        self._shown = state
        for each in Circuit:
            self._meter.gauge("pnc_circuit_state", float(each is state), state=each.value)
        link_state = LinkState.UP if state is Circuit.CLOSED else LinkState.DOWN
        if link_state is self._link_state:
            return
        self._link_state = link_state
        self._journal.note("link.up" if link_state is LinkState.UP else "link.down", link="pnc")
        self._publish(
            LinkChanged(
                id="pnc",
                kind="pnc",
                state=link_state,
                since_ms=self._clock.wall_ms(),
                detail="circuit " + state.value,
            )
        )

    # ----------------------------------------------------------------- attempts

    def ask(self, check: Check, attempt: int) -> None:
        """Make the attempt that is on record; what comes of it is fed to the check."""
        check.pnc_since_s = self._clock.monotonic_s()
        check.asking = self._crew.start(self._attempt(check, attempt), fault=self._fault(check))

    def pause(self, check: Check, attempts: int) -> None:
        """Wait before the next attempt: doubling, with jitter."""

        async def wait() -> None:
            ceiling_s = self._settings.retry_base_s * 2 ** (attempts - 1)
            await self._clock.sleep(ceiling_s / 2 + self._ids.uniform(0.0, ceiling_s / 2))
            if check.state.stage is Stage.PAUSING:
                self._meter.count("pnc_retries_total")
            self._feed(check, RetryDue())

        self._crew.start(wait(), fault=self._fault(check))

    async def _attempt(self, check: Check, attempt: int) -> None:
        """One attempt. It may outlive the deadline by a grace, only to learn that a reply came."""
        asked_at_s = self._clock.monotonic_s()
        query = self._query(check, attempt)
        event, verdict = await self._outcome_of(check, query)
        took_s = self._clock.monotonic_s() - asked_at_s
        operation = kind_of(query.key).value
        self._meter.count("pnc_requests_total", op=operation, result=verdict)
        self._meter.observe("pnc_request_duration_seconds", took_s, op=operation)
        self._late.pop(check.id, None)
        if check.state.outcome is None:
            # What comes after the deadline was counted as a failure then, and is no use to anybody.
            if verdict in ("ok", "invalid"):
                self._breaker.succeeded()
            else:
                self._breaker.failed(self._clock.monotonic_s(), asked_at_s=asked_at_s)
            self.see_circuit()
            check.pnc_s += took_s
            self._meter.observe("check_stage_duration_seconds", took_s, stage="pnc")
            check.pnc_since_s = None
            self._feed(check, event)
        elif verdict == "ok":
            self._meter.count("pnc_unusable_replies_total", reason="late")
            self._feed(check, LateAnswer())

    async def _outcome_of(self, check: Check, query: PncQuery) -> tuple[CheckEvent, str]:
        """What this attempt gave, and its word for the metrics."""
        try:
            limit_s = query.deadline_s + self._settings.late_grace_s
            also = partial(self._not_used, check, query.attempt)
            answer = await self._within(self._pnc.query(query, also), limit_s)
            echo = (answer.check, answer.attempt, answer.key_text)
            if echo != (query.check, query.attempt, query.key_text):
                raise PncGarbled("echo")
        except TimeoutError:
            return AttemptFailed(Cause.NO_REPLY, retryable=False), "timeout"
        except PncInvalid as error:
            return AttemptFailed(Cause.PNC_INVALID, retryable=False), error.result
        except PncDown as error:
            return AttemptFailed(Cause.LINK_DOWN, retryable=True), error.result
        except PncGarbled as error:
            if check.state.outcome is None:
                self._meter.count("pnc_unusable_replies_total", reason=error.reason)
                check.refused_reply = error.fingerprint
            else:
                self._not_used(check, query.attempt, error.reason, error.fingerprint)
            if error.reason == "echo":
                # Decision 10 and I3: another question's reply is shown to nobody (P05).
                check.misdirected = True
                self._journal.warn("security", reason="echo", check=check.id)
            return AttemptFailed(Cause.PNC_ERROR, retryable=False), error.result
        except PncError as error:
            if isinstance(error, PncUnauthorised):
                self._journal.warn("security", reason="pnc credential refused", check=check.id)
            return AttemptFailed(Cause.PNC_ERROR, retryable=False), error.result
        if check.state.outcome is not None:
            return LateAnswer(), "ok"
        return self._judge(check, answer), "ok"

    def _not_used(self, check: Check, attempt: int, reason: str, fingerprint: bytes) -> None:
        self._meter.count("pnc_unusable_replies_total", reason=reason)
        self._unused(check, attempt, reason, fingerprint)

    async def _within(self, question: Coroutine[Any, Any, PncAnswer], limit_s: float) -> PncAnswer:
        """Await with a limit on the injected clock, so that simulated time bounds it too. As
        asyncio.timeout does it: who else cancels us is obeyed."""
        task = asyncio.current_task()
        assert task is not None
        before, over = task.cancelling(), False

        def due() -> None:
            nonlocal over
            over = True
            task.cancel()

        limit = self._timers.at(self._clock.monotonic_s() + limit_s, due)
        self._out += 1
        self._meter.gauge("pnc_in_flight", self._out)
        try:
            answer = await question
        # However it takes the cancellation: what comes after the limit is no answer.
        except (asyncio.CancelledError, Exception):
            if over and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        else:
            if over and task.uncancel() <= before:
                raise TimeoutError
            return answer
        finally:
            self._out -= 1
            self._meter.gauge("pnc_in_flight", self._out)
            limit.cancel()

    def _listen_late(self, check: Check) -> None:
        """Keep listening for what is overdue, for a bounded number of checks."""
        if check.asking is None or check.asking.done():
            return
        self._late[check.id] = check.asking
        while len(self._late) > 2 * self._settings.concurrency:
            _, oldest = self._late.popitem(last=False)
            oldest.cancel()

    def took(self, stage: str, since_s: float) -> None:
        self._meter.observe(
            "check_stage_duration_seconds",
            max(0.0, self._clock.monotonic_s() - since_s),
            stage=stage,
        )
