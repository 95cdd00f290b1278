"""Log-in, log-out, and the end of sessions, each of them on record.

Rules
1. Whoever may not be let in learns nothing from it: not whether the account exists, nor why.
2. A try counts as a failure before it is looked at, so that many at once are no way around the
   throttle.
3. With the ledger away one can log in, and the record is owed: who cannot log in sees no emergency.
   Acts are refused by whoever carries them out. What is owed is bounded; beyond that nobody can.
4. An end holds from the moment it is said, record or not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from adapters.web.sessions import Session, Sessions
from adapters.web.throttle import Throttle
from gateway.errors import FactorsBusy, LedgerUnavailable, LogInRefused, TooSoon
from gateway.messages import Actor, Secret
from gateway.operators import Operators, actor_of
from gateway.ports import (
    Change,
    Clock,
    DropKept,
    Factors,
    IdentityProvider,
    Journal,
    KeptRow,
    Keyed,
    Ledger,
    Meter,
    PutKept,
    Record,
)
from gateway.rulebook import Operator
from gateway.settings import AuthSection

KIND = "session"
OWED_MOST = 500
AT_ONCE = 64
KEPT_ANEW_S = 60.0
"""How much of the time without an act a crash may forget."""
FAILURES_A_MINUTE = 60
"""That many failures go on record one by one; more are counted in the figures."""
ACCOUNT_MOST = 64


class Opened(msgspec.Struct, frozen=True):
    """A log-in that passed. token: given away once, here."""

    token: str
    session: Session
    actor: Actor


class LogIns:
    """gateway.ports.Minded as well: the core minds its clock and its records."""

    def __init__(
        self,
        settings: AuthSection,
        *,
        operators: Callable[[], Operators],
        factors: Factors,
        keyed: Keyed,
        ledger: Ledger,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        provider: IdentityProvider | None = None,
    ) -> None:
        self.settings = settings
        self.operators = operators
        self.sessions = Sessions(
            idle_s=settings.idle_s, absolute_s=settings.absolute_s, each=settings.sessions_each
        )
        self._factors = factors
        self._keyed = keyed
        self._ledger = ledger
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._provider = provider
        self._throttle = Throttle()
        self._owed: deque[tuple[Record | None, Change | None]] = deque()
        self._writing = asyncio.Lock()
        self._kept_s: dict[str, float] = {}
        """Of each session, the last act that is kept."""
        self._failures_s: deque[float] = deque(maxlen=FAILURES_A_MINUTE)

    # ------------------------------------------------------------------ in

    async def by_password(self, account: str, password: Secret, address: str) -> Opened:
        """Raises LogInRefused, TooSoon, FactorsBusy, LedgerUnavailable."""
        if self._provider is not None:
            raise LogInRefused("provider")
        account = account[:ACCOUNT_MOST]
        operator = self.operators().known(account)
        supervisor = operator is not None and "supervisor" in operator.roles
        now_s = self._clock.monotonic_s()
        wait_s = self._throttle.wait_s(account, address, now_s, supervisor=supervisor)
        if wait_s > 0:
            self._count("throttled")
            raise TooSoon(wait_s)
        self._throttle.failed(account, address, now_s, supervisor=supervisor)
        try:
            right = await self._factors.matches(operator.password if operator else "", password)
        except FactorsBusy:
            self._count("busy")
            raise
        # Asked again: the people file may have changed meanwhile.
        operator = self.operators().known(account)
        if not right or operator is None:
            self._failed("password", account)
            raise LogInRefused("password")
        self._throttle.passed(account, address, supervisor=supervisor)
        return await self._open(operator, frozenset(operator.roles), "local")

    async def begin(self) -> tuple[str, str]:
        """IdentityProvider.begin. Raises LogInRefused, also where there is no provider."""
        if self._provider is None:
            raise LogInRefused("local")
        return await self._provider.begin()

    async def by_provider(self, ticket: str, query: Mapping[str, str]) -> Opened:
        """Whom the provider named, if the people file knows them. Raises as by_password."""
        if self._provider is None:
            raise LogInRefused("local")
        try:
            identity = await self._provider.finish(ticket, query)
        except LogInRefused as error:
            self._failed(error.reason, "")
            raise
        operator = self.operators().of_subject(identity.subject)
        if operator is None:
            self._failed("unknown", identity.subject)
            raise LogInRefused("unknown")
        roles = frozenset(operator.roles)
        if self.settings.roles:
            roles &= {
                role for value, role in self.settings.roles.items() if value in identity.values
            }
        if not roles:
            self._failed("no role", identity.subject)
            raise LogInRefused("no role")
        return await self._open(operator, roles, "oidc")

    async def _open(self, operator: Operator, roles: frozenset[str], how: str) -> Opened:
        if len(self._owed) >= OWED_MOST:
            self._count("busy")
            raise LedgerUnavailable("log-ins wait for the record")
        now_s = self._clock.monotonic_s()
        stand = self.operators().stand(operator.id)
        token, session, ended = self.sessions.open(operator.id, stand, roles, now_s, how)
        for each, why in ended:
            self._ended(each, why)
        actor = actor_of(operator, roles)
        self._owe("log-in " + how, session, self._kept(session, now_s))
        self._count("passed")
        self._figure()
        await self.record()
        return Opened(token, session, actor)

    # ------------------------------------------------------------------ who it is

    def actor(self, session: Session) -> Actor | None:
        """Who this session is now; None when it is over, or its operator's entry has changed."""
        operators = self.operators()
        operator = operators.known(session.operator)
        if operator is None or operators.stand(session.operator) != session.stand:
            return None
        if not self.sessions.holds(session, self._clock.monotonic_s()):
            return None
        return actor_of(operator, session.roles)

    def of(self, token: str) -> Session | None:
        return self.sessions.find(token, self._clock.monotonic_s())

    def act(self, session: Session) -> None:
        """They did something with their own hands."""
        self.sessions.act(session, self._clock.monotonic_s())

    # ------------------------------------------------------------------ out

    async def end(self, session: Session, why: str) -> None:
        """Over from now on; on record soon after."""
        if self.sessions.end(session.key) is not None:
            self._ended(session, why)
            self._figure()
            await self.record()

    # ------------------------------------------------------------------ gateway.ports.Minded

    def tick(self, now_s: float, now_ms: int, /) -> None:
        """What is over is taken out; how long the others did nothing is kept from time to time."""
        del now_ms
        for session, why in self.sessions.sweep(now_s):
            self._ended(session, why)
        operators = self.operators()
        for session in self.sessions.all():
            if operators.stand(session.operator) != session.stand:
                self.sessions.end(session.key)
                self._ended(session, "entry changed")
            elif (
                session.active_s - self._kept_s.get(session.key, now_s) >= KEPT_ANEW_S
                and len(self._owed) < OWED_MOST
            ):
                self._owed.append((None, self._kept(session, now_s)))
        self._figure()

    @property
    def unrecorded(self) -> int:
        return len(self._owed)

    async def record(self) -> None:
        """Write what is owed; what cannot be written now waits on. Raises LedgerFatal."""
        async with self._writing:
            while self._owed:
                batch = [self._owed[n] for n in range(min(AT_ONCE, len(self._owed)))]
                records = [record for record, _ in batch if record is not None]
                changes = [change for _, change in batch if change is not None]
                try:
                    await self._ledger.commit(records, changes)
                except LedgerUnavailable:
                    return
                for _ in batch:
                    self._owed.popleft()

    async def restore(self) -> None:
        """After a restart: nobody is logged out by it, and nobody in."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.wall_ms()
        for row in await self._ledger.kept(KIND):
            if self.sessions.restore(row.id, row.body, now_s, now_ms):
                self._kept_s[row.id] = self.sessions.active_s(row.id)
            else:
                self._owed.append((None, DropKept(KIND, row.id)))
        self._figure()

    # ------------------------------------------------------------------ on record

    def _kept(self, session: Session, now_s: float) -> PutKept:
        self._kept_s[session.key] = session.active_s
        now_ms = self._clock.wall_ms()
        body = self.sessions.kept(session, now_s, now_ms)
        return PutKept(KeptRow(kind=KIND, id=session.key, at_ms=now_ms, body=body))

    def _ended(self, session: Session, why: str) -> None:
        self._kept_s.pop(session.key, None)
        self._owe(f"ended: {why}", session, DropKept(KIND, session.key))

    def _owe(self, detail: str, session: Session, change: Change) -> None:
        record = Record(
            event="session",
            at_ms=self._clock.wall_ms(),
            operator=session.operator,
            operator_role=",".join(sorted(session.roles)),
            detail=f"{detail} ({session.name})",
        )
        self._owed.append((record, change))

    def _failed(self, reason: str, account: str) -> None:
        """The account only as a digest: people type their password into the wrong field."""
        self._count("failed")
        self._journal.warn("log_in", reason=reason)
        now_s = self._clock.monotonic_s()
        full = len(self._failures_s) == FAILURES_A_MINUTE and now_s - self._failures_s[0] < 60
        if full or len(self._owed) >= OWED_MOST:
            return
        self._failures_s.append(now_s)
        digest = self._keyed("account", account).hex()[:16] if account else "-"
        self._owed.append(
            (
                Record(
                    event="session",
                    at_ms=self._clock.wall_ms(),
                    detail=f"log-in failed: {reason}, account {digest}",
                ),
                None,
            )
        )

    def _count(self, outcome: str) -> None:
        self._meter.count("log_ins_total", outcome=outcome)

    def _figure(self) -> None:
        self._meter.gauge("sessions_open", len(self.sessions.all()))
