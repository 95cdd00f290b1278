"""Every way in: one table of methods, paths, who may, and whether it changes anything.

A route that is not here does not exist (the application is built from this table alone), and one
that names nobody is nobody's. Only what is needed to log in, and the bare sign of life, is open.
"""

from __future__ import annotations

import msgspec

OPERATOR, SUPERVISOR, AUDITOR, OPS = "operator", "supervisor", "auditor", "ops"
HOST = "host"
"""Whoever can read the host's token: the command line on this machine."""
ANYBODY = frozenset({"anybody"})
NETWORK = frozenset({"network"})
"""By address or by token, without a session: whoever watches the machine."""

EVERYBODY = frozenset({OPERATOR, SUPERVISOR, AUDITOR, OPS})
DESK = frozenset({OPERATOR, SUPERVISOR})


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """handler: of the server, without its underscore. change: it needs the session's CSRF token
    and counts as an act. page: for browsers, who are sent to the log-in instead of refused. head:
    HEAD is answered, too; not where reading has no end, or is itself on record."""

    method: str
    path: str
    handler: str
    roles: frozenset[str]
    change: bool = False
    page: bool = False
    head: bool = True


def _get(
    path: str, handler: str, roles: frozenset[str], *, page: bool = False, head: bool = True
) -> Route:
    return Route(method="GET", path=path, handler=handler, roles=roles, page=page, head=head)


def _post(path: str, handler: str, roles: frozenset[str]) -> Route:
    return Route(method="POST", path=path, handler=handler, roles=roles, change=True)


ROUTES = (
    _get("/", "file", EVERYBODY, page=True),
    _get("/page.js", "file", EVERYBODY),
    _get("/desk.js", "file", EVERYBODY),
    _get("/page.css", "file", ANYBODY),
    _get("/login", "file", ANYBODY),
    _get("/login.js", "file", ANYBODY),
    _get("/login/provider", "to_provider", ANYBODY),
    _get("/login/callback", "from_provider", ANYBODY),
    _get("/api/v1/login", "how_to_log_in", ANYBODY),
    _post("/api/v1/login", "log_in", ANYBODY),
    _post("/api/v1/logout", "log_out", EVERYBODY),
    _get("/api/v1/me", "me", EVERYBODY),
    _post("/api/v1/me/active", "active", EVERYBODY),
    _get("/api/v1/sessions", "sessions", frozenset({SUPERVISOR})),
    _post("/api/v1/sessions/{name}/end", "end_session", frozenset({SUPERVISOR})),
    _get("/api/v1/snapshot", "snapshot", EVERYBODY),
    _get("/api/v1/units.geojson", "units_geojson", EVERYBODY),
    _get("/api/v1/stream", "stream", EVERYBODY, head=False),
    _get("/api/v1/checks/{ref}", "check", DESK | {AUDITOR}),
    _post("/api/v1/checks", "ask_for", DESK),
    _get("/api/v1/checks/{ref}/answer", "answered", DESK, head=False),
    _get("/api/v1/time", "time", EVERYBODY),
    _post("/api/v1/alarms/{id}/ack", "acknowledge", DESK),
    _post("/api/v1/alarms/{id}/close", "close", DESK),
    _post("/api/v1/alarms/{id}/shelve", "shelve", DESK),
    _post("/api/v1/alarms/{id}/unshelve", "unshelve", DESK),
    _post("/api/v1/alarms/{id}/mistake", "mistake", DESK),
    _post("/api/v1/units/{id}/message", "message", DESK),
    _post("/api/v1/units/{id}/locate", "locate", DESK),
    _get("/api/v1/releases", "releases", DESK),
    _get("/api/v1/releases/{id}", "held", DESK, head=False),
    _post("/api/v1/releases/{id}", "release", DESK),
    _get("/api/v1/challenges", "challenges", frozenset({SUPERVISOR}), head=False),
    _post("/api/v1/challenges/{id}/review", "review", frozenset({SUPERVISOR})),
    _get("/api/v1/audit/receipts/{receipt}", "receipt", frozenset({AUDITOR}), head=False),
    _post("/api/v1/export", "export", frozenset({AUDITOR, HOST})),
    _get("/api/openapi.json", "describe", EVERYBODY),
    _get("/metrics", "metrics", NETWORK),
    _get("/healthz", "health", ANYBODY),
    _get("/readyz", "ready", NETWORK),
)
BY_PLACE = {(route.method, route.path): route for route in ROUTES}
