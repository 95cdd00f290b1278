"""Who asks, and whether they may: the one place where a request becomes a person.

Default deny: a role that the route does not name is refused, and so is a change without the
session's own CSRF token. What a caller may see is asked anew with each request, and by each stream
with each turn: a session that is over, or whose operator's entry changed, shows nothing from then.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence

import msgspec
from aiohttp import web

from adapters.web import routes, sessions
from adapters.web.log_ins import LogIns
from adapters.web.requests import who
from adapters.web.routes import Route
from adapters.web.sessions import Session
from adapters.web.walls import Problem, from_this_site
from gateway.limits import Bucket
from gateway.messages import Actor, Secret, Viewer
from gateway.ports import Clock
from gateway.projection import viewer_of

COOKIE = "__Host-gw"
TICKET = "__Host-oidc"
CSRF = "X-CSRF-Token"
BY = "Gateway-By"
"""Who sits at the command line, as the command line says."""
BURST_S = 2.0
BUCKETS_MOST = 2000


class Caller(msgspec.Struct, frozen=True):
    """session: None for the host, and for whoever needs none."""

    actor: Actor
    session: Session | None = None
    csrf: str = ""


NOBODY = Caller(Actor(id=""))


class Gate:
    """host, metrics: tokens; None where there is none."""

    def __init__(
        self,
        log_ins: LogIns,
        *,
        clock: Clock,
        per_session_per_s: float,
        metrics_from: Sequence[str],
        host: Secret | None,
        metrics: Secret | None,
    ) -> None:
        self.log_ins = log_ins
        self._clock = clock
        self._per_s = per_session_per_s
        self._networks = [ipaddress.ip_network(each) for each in metrics_from]
        self._host = host
        self._metrics = metrics
        self._buckets: dict[str, Bucket] = {}

    def admit(self, request: web.Request, route: Route) -> Caller:
        """Raises Problem."""
        if route.roles == routes.ANYBODY:
            return NOBODY
        if route.roles == routes.NETWORK:
            return self._watcher(request)
        if routes.HOST in route.roles and self._is(self._host, _bearer(request)):
            return Caller(Actor(id=f"cli:{who(request.headers.get(BY, ''))}"))
        if not route.page:
            from_this_site(request)
        token = request.cookies.get(COOKIE, "")
        session = self.log_ins.of(token) if token else None
        actor = self.log_ins.actor(session) if session is not None else None
        if session is None or actor is None:
            raise Problem(401, "log in first")
        if not actor.roles & route.roles:
            raise Problem(403, "not for your role")
        csrf = sessions.csrf_of(token)
        if route.change:
            given = request.headers.get(CSRF, "").encode(errors="surrogatepass")
            if not hmac.compare_digest(given, csrf.encode()):
                raise Problem(403, "the token of this session is missing")
            self.log_ins.act(session)
        if not self._within_rate(session):
            raise Problem(429, "too many requests of this session")
        return Caller(actor, session, csrf)

    def viewer(self, caller: Caller) -> Viewer:
        """What they may see is what their roles may, at each moment (gateway.projection)."""
        return viewer_of(caller.actor)

    def still(self, caller: Caller) -> bool:
        """Whether this caller is who they were, in the roles that they had."""
        if caller.session is None:
            return False
        return self.log_ins.actor(caller.session) == caller.actor

    def _watcher(self, request: web.Request) -> Caller:
        address = ipaddress.ip_address((request.remote or "0.0.0.0").partition("%")[0])  # noqa: S104
        if not any(address in network for network in self._networks) and not self._is(
            self._metrics, _bearer(request)
        ):
            raise Problem(401, "not from here, and without the token")
        return NOBODY

    def _is(self, token: Secret | None, given: str) -> bool:
        return token is not None and given.isascii() and Secret(given) == token

    def _within_rate(self, session: Session) -> bool:
        now_s = self._clock.monotonic_s()
        bucket = self._buckets.get(session.key)
        if bucket is None:
            if len(self._buckets) >= BUCKETS_MOST:
                open_ = {each.key for each in self.log_ins.sessions.all()}
                self._buckets = {k: b for k, b in self._buckets.items() if k in open_}
            burst = max(1.0, self._per_s * BURST_S)
            bucket = self._buckets[session.key] = Bucket(self._per_s, burst, burst, now_s)
        return bucket.take(now_s)


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
