"""Asking the PNC or the vehicle register: who has a place, who waits, what comes of one attempt.

Each of the two has places, a queue and a circuit of its own. Some questions go to the PNC and ask
the register at the same time, under the one deadline; what the PNC says waits for the register
only a moment.

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

from gateway import sources
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
    RegisterAnswer,
    kind_of,
)
from gateway.ports import Also, Clock, Ids, Journal, Meter, Pnc, VehicleRegister, nothing_more
from gateway.settings import ChecksSection
from gateway.supervise import Crew
from gateway.timers import Timers

Feed = Callable[[Check, CheckEvent], None]
Beside = Callable[[PncQuery], Coroutine[Any, Any, RegisterAnswer | None]]


KEEP_S = 0.5
"""So long before the deadline what is there is answered: to be written and sent in time."""
STATUS_WAITS_S = 1.0
"""So long the PNC's answer waits for the register's: danger words wait for no tax disc."""


class AtRegister:
    """The vehicle register where a PNC is asked otherwise: the same question, less of an answer."""

    def __init__(self, register: VehicleRegister) -> None:
        self._register = register

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        del also  # a register's second reply is nobody's danger
        return sources.alone(query, await self.look_up(query))

    async def look_up(self, query: PncQuery) -> RegisterAnswer:
        status = await self._register.look_up(sources.register_query(query))
        if (status.check, status.attempt, status.key_text) != (
            query.check,
            query.attempt,
            query.key_text,
        ):
            raise PncGarbled("echo")
        return status

    async def sources(self) -> frozenset[str]:
        return await self._register.sources()

    async def close(self) -> None:
        await self._register.close()


class Asking:
    """The desk's way to the PNC, or to the register (`of`: as metrics and links name it).

    beside: what asks the register while the PNC is asked. feed: the one way on of a check. query:
    builds the question of an attempt. judge: what the rules of now make of an answer that belongs
    to its question. find: an open check by its id. unused: told of a reply that no outcome mentions
    and nobody is shown: attempt, reason and fingerprint.
    """

    def __init__(
        self,
        settings: ChecksSection,
        *,
        of: str = "pnc",
        beside: Beside | None = None,
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
        self._of = of
        self._beside = beside
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

    def take_place(self, check: Check) -> None:
        """A place for who has waited for one already, at the PNC."""
        self._placed += 1
        check.placed = True

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
            self._meter.gauge(
                "pnc_circuit_state" if self._at_pnc else "register_circuit_state",
                float(each is state),
                state=each.value,
            )
        link_state = LinkState.UP if state is Circuit.CLOSED else LinkState.DOWN
        if link_state is self._link_state:
            return
        self._link_state = link_state
        self._journal.note("link.up" if link_state is LinkState.UP else "link.down", link=self._of)
        self._publish(
            LinkChanged(
                id=self._of,
                kind=self._of,
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
                self._meter.count("pnc_retries_total" if self._at_pnc else "register_retries_total")
            self._feed(check, RetryDue())

        self._crew.start(wait(), fault=self._fault(check))

    async def _attempt(self, check: Check, attempt: int) -> None:
        """One attempt. It may outlive the deadline by a grace, only to learn that a reply came."""
        asked_at_s = self._clock.monotonic_s()
        query = self._query(check, attempt)
        event, verdict = await self._outcome_of(check, query)
        if isinstance(event, AttemptFailed):
            event = self._or_partial(check, query, event)
        took_s = self._clock.monotonic_s() - asked_at_s
        operation = kind_of(query.key).value
        self._count_request(operation, verdict, took_s)
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
            self._count_unusable("late")
            self._feed(check, LateAnswer())

    async def _outcome_of(self, check: Check, query: PncQuery) -> tuple[CheckEvent, str]:
        """What this attempt gave, and its word for the metrics."""
        try:
            limit_s = query.deadline_s + self._settings.late_grace_s
            also = partial(self._not_used, check, query.attempt)
            answer = await self._within(self._answer(check, query, also), limit_s)
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
                self._count_unusable(error.reason)
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
                self._journal.warn(
                    "security", reason=f"{self._of} credential refused", check=check.id
                )
            return AttemptFailed(Cause.PNC_ERROR, retryable=False), error.result
        if check.state.outcome is not None:
            return LateAnswer(), "ok"
        return self._judge(check, answer), "ok"

    # ----------------------------------------------------------------- two sources at once

    async def _answer(self, check: Check, query: PncQuery, also: Also) -> PncAnswer:
        """Of the PNC alone, or with the register's status in it."""
        if self._beside is None or not check.plan.both:
            return await self._pnc.query(query, also)
        police = asyncio.ensure_future(self._pnc.query(query, also))
        status = asyncio.ensure_future(self._status(check, query))
        until_s = self._clock.monotonic_s() + query.deadline_s - KEEP_S
        try:
            await self._either(police, until_s)
            if not police.done() and check.status is not None:
                self._tell_partial(check, query, check.status)
            await asyncio.wait({police})
            error = police.exception()
            if error is None:
                moment_s = self._clock.monotonic_s() + STATUS_WAITS_S
                await self._either(status, min(until_s, moment_s))
                check.combined = check.status is not None
                return sources.together(police.result(), check.status, now_ms=query.asked_at_ms)
            if not self._again(check, error):
                await self._either(status, until_s)
            raise error
        finally:
            for leg in (police, status):
                leg.cancel()
            await asyncio.gather(police, status, return_exceptions=True)

    def _tell_partial(self, check: Check, query: PncQuery, status: RegisterAnswer) -> None:
        """The deadline is near: the officer gets what there is. The PNC is listened for on, only to
        learn that it replied."""
        asked_at_s, now_s = check.pnc_since_s, self._clock.monotonic_s()
        if check.state.outcome is not None or asked_at_s is None:
            return
        self._breaker.failed(now_s, asked_at_s=asked_at_s)
        self.see_circuit()
        answer = sources.police_lost(sources.alone(query, status))
        self._feed(check, self._judge(check, answer))

    async def _status(self, check: Check, query: PncQuery) -> None:
        """What the register says, put into the check; asked once, however often the PNC is."""
        assert self._beside is not None
        if check.status is not None or not check.beside:
            return
        try:
            check.status = await self._beside(query)
        # A defect on the register's side must not cost what the PNC says.
        except Exception as error:  # noqa: BLE001
            self._meter.count("task_restarts_total", task="check")
            self._journal.warn("task.restarted", task="check", error=type(error).__name__)

    async def _either(self, leg: asyncio.Future[Any], until_s: float) -> None:
        """Until this leg is done, or until that moment."""
        left_s = until_s - self._clock.monotonic_s()
        if leg.done() or left_s <= 0:
            return
        limit = asyncio.ensure_future(self._clock.sleep(left_s))
        try:
            await asyncio.wait({leg, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()

    def _again(self, check: Check, error: BaseException) -> bool:
        """Whether the PNC will be asked once more."""
        retryable = isinstance(error, PncError) and error.retryable
        return retryable and check.state.attempts < check.state.attempts_max

    def _or_partial(self, check: Check, query: PncQuery, failed: AttemptFailed) -> CheckEvent:
        """What the register said, when it is all that will be said; else the failure."""
        status, again = check.status, check.state.attempts < check.state.attempts_max
        if (
            status is None
            or not check.plan.both
            or check.state.outcome is not None
            or failed.cause is Cause.PNC_INVALID
            or (failed.retryable and again)
        ):
            return failed
        return self._judge(check, sources.police_lost(sources.alone(query, status)))

    async def look_up(self, query: PncQuery) -> RegisterAnswer | None:
        """For a question that the PNC is asked, too; None when the register gave no answer."""
        assert isinstance(self._pnc, AtRegister)
        asked_at_s, result = self._clock.monotonic_s(), "timeout"
        status: RegisterAnswer | None = None
        try:
            status = await self._pnc.look_up(query)
            result = "ok"
        except PncError as error:
            result = error.result
            if isinstance(error, PncGarbled):
                self._count_unusable(error.reason)
        finally:
            now_s, op = self._clock.monotonic_s(), kind_of(query.key).value
            self._count_request(op, result, now_s - asked_at_s)
            if result in ("ok", "invalid"):
                self._breaker.succeeded()
            elif result != "timeout" or now_s - asked_at_s >= STATUS_WAITS_S:
                # Given up sooner, it says nothing: the PNC failed while it was on its way.
                self._breaker.failed(now_s, asked_at_s=asked_at_s)
            self.see_circuit()
        return status

    def _not_used(self, check: Check, attempt: int, reason: str, fingerprint: bytes) -> None:
        self._count_unusable(reason)
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
        self._meter.gauge("pnc_in_flight" if self._at_pnc else "register_in_flight", self._out)
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
            self._meter.gauge("pnc_in_flight" if self._at_pnc else "register_in_flight", self._out)
            limit.cancel()

    def _listen_late(self, check: Check) -> None:
        """Keep listening for what is overdue, for a bounded number of checks."""
        if check.asking is None or check.asking.done():
            return
        self._late[check.id] = check.asking
        while len(self._late) > 2 * self._settings.concurrency:
            _, oldest = self._late.popitem(last=False)
            oldest.cancel()

    # ----------------------------------------------------------------- figures

    @property
    def _at_pnc(self) -> bool:
        return self._of == "pnc"

    def _count_request(self, op: str, result: str, took_s: float) -> None:
        self._meter.count(
            "pnc_requests_total" if self._at_pnc else "register_requests_total",
            op=op,
            result=result,
        )
        self._meter.observe(
            "pnc_request_duration_seconds" if self._at_pnc else "register_request_duration_seconds",
            took_s,
            op=op,
        )

    def _count_unusable(self, reason: str) -> None:
        self._meter.count(
            "pnc_unusable_replies_total" if self._at_pnc else "register_unusable_replies_total",
            reason=reason,
        )

    def took(self, stage: str, since_s: float) -> None:
        self._meter.observe(
            "check_stage_duration_seconds",
            max(0.0, self._clock.monotonic_s() - since_s),
            stage=stage,
        )
