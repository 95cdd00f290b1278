"""The API's description for machines, one entry per route; who may is taken from the routes."""

from __future__ import annotations

from typing import Any

from adapters.web.gate import COOKIE, CSRF
from adapters.web.routes import ANYBODY, BY_PLACE, HOST, NETWORK

PURPOSES = ("lawfulness", "self-monitoring", "integrity-security", "criminal-proceedings")
"""The four purposes for which logs may be used: Data Protection Act 2018, section 62(4)."""

_JSON = {"content": {"application/json": {"schema": {"type": "object"}}}}
_PROBLEM = {
    "description": "plain words in `title`",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["title", "status"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "instance": {"type": "string"},
                },
            }
        }
    },
}


def _read(summary: str, *parameters: dict[str, Any], content: str = "application/json") -> Any:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "as asked", "content": {content: {}}}},
    }
    if parameters:
        operation["parameters"] = list(parameters)
        operation["responses"]["default"] = _PROBLEM
    return {"get": operation}


def _in(where: str, name: str, says: str, required: bool = False) -> dict[str, Any]:
    return {
        "in": where,
        "name": name,
        "description": says,
        "required": required or where == "path",
        "schema": {"type": "string"},
    }


_SHELVE: dict[str, Any] = {
    "minutes": {"type": "integer", "description": "one of the snapshot's dict.shelve.minutes"},
    "why": {"type": "string", "description": "one of the snapshot's dict.shelve.reasons"},
}


_CHECK: dict[str, Any] = {
    "requester": {"type": "string", "description": "ISSI, call-sign or collar number"},
    "text": {"type": "string", "description": "the enquiry as an officer types it: V TE99ABC R1"},
    "to_radio": {"type": "boolean", "description": "answer their radio, too (left out: true)"},
}


def _without_id(entry: dict[str, Any]) -> dict[str, Any]:
    """An act on nothing that is there already."""
    post: dict[str, Any] = entry["post"]
    return {**post, "parameters": [each for each in post["parameters"] if each["in"] != "path"]}


_REVIEW: dict[str, Any] = {
    "enough": {"type": "boolean", "description": "whether it explains the check"},
    "note": {"type": "string", "minLength": 3, "maxLength": 200},
}
_RELEASE: dict[str, Any] = {
    "act": {"enum": ["release", "amend", "refuse"]},
    "level": {"type": "string", "description": "for amend: one below the proposed"},
    "why": {"type": "string", "minLength": 3, "maxLength": 200, "description": "for refuse"},
}


def _act(
    summary: str,
    more: dict[str, Any] | None = None,
    *,
    needs: tuple[str, ...] | None = None,
    of: str = "the alarm's id",
    answer: str = "the alarm's full record",
) -> Any:
    """more: members of the body. needs: those that must be there; left out, all."""
    more = more or {}
    return {
        "post": {
            "summary": summary,
            "parameters": [
                _in("path", "id", of),
                _in("header", "Idempotency-Key", "1-64 characters, fresh for each act", True),
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": [*(more if needs is None else needs)],
                            "additionalProperties": False,
                            "properties": more,
                        }
                    }
                },
            },
            "responses": {
                "200": {"description": answer, **_JSON},
                "404": _PROBLEM,
                "409": _PROBLEM,
                "503": _PROBLEM,
            },
        }
    }


def _change(summary: str, says: str, *parameters: Any, **members: Any) -> dict[str, Any]:
    """A change without an alarm. says: what comes back. members: of the body."""
    schema = {"type": "object", "required": list(members), "properties": members}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": says, **_JSON}, "default": _PROBLEM},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if members:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return {"post": operation}


def _export() -> dict[str, Any]:
    """Put an export of the audit on record (the command line asks for it)."""
    whose = "the instance whose log it is"
    purpose = {"enum": list(PURPOSES)}
    described = _change("put an export of the audit on record", whose, purpose=purpose)
    body = described["post"]["requestBody"]["content"]["application/json"]["schema"]
    body["properties"]["receipt"] = {
        "type": "string",
        "description": "when it is of one check alone",
    }
    return described


def _guarded(paths: dict[str, Any]) -> dict[str, Any]:
    """With who may, as the route table has it."""
    for path, verbs in paths.items():
        for verb, operation in verbs.items():
            route = BY_PLACE[verb.upper(), path]
            if route.roles == ANYBODY:
                operation["security"] = []
                continue
            if route.roles == NETWORK:
                operation["security"] = [{}, {"token": []}]
                continue
            session: dict[str, list[str]] = {
                "session": [],
                **({"csrf": []} if route.change else {}),
            }
            host: list[dict[str, list[str]]] = [{"token": []}] if HOST in route.roles else []
            operation["security"] = [session, *host]
            operation["x-roles"] = sorted(route.roles - {HOST})
    return paths


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of everything this server answers."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "radio gateway", "version": version},
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF},
                "token": {"type": "http", "scheme": "bearer"},
            }
        },
        "paths": _guarded(_paths()),
    }


def _paths() -> dict[str, Any]:
    return {
        "/": _read("the control-room page", content="text/html"),
        "/page.js": _read("its script", content="text/javascript"),
        "/page.css": _read("its style", content="text/css"),
        "/login": _read("the log-in", content="text/html"),
        "/desk.js": _read("its script, for what operators do", content="text/javascript"),
        "/login.js": _read("its script", content="text/javascript"),
        "/login/provider": _read("on to the identity provider", content="text/html"),
        "/login/callback": _read(
            "back from there",
            _in("query", "code", "the provider's"),
            _in("query", "state", "ours"),
            _in("query", "iss", "the provider"),
            content="text/html",
        ),
        "/api/v1/login": {
            **_read("how one logs in here: `mode` local or oidc"),
            **_change(
                "log in: a cookie, and the `csrf` that each change must bring",
                "who that is",
                id={"type": "string"},
                password={"type": "string"},
            ),
        },
        "/api/v1/logout": _change("end this session", "it is over"),
        "/api/v1/me": _read("who this session is, its roles and its `csrf`"),
        "/api/v1/me/active": _change("somebody is here: the idle time begins anew", "noted"),
        "/api/v1/sessions": _read("whose sessions are open"),
        "/api/v1/sessions/{name}/end": _change(
            "end somebody's session", "it is over", _in("path", "name", "of the list")
        ),
        "/api/v1/snapshot": _read("the whole picture, with the number the stream goes on after"),
        "/api/v1/units.geojson": _read(
            "the units that you may see, with the age of each position (RFC 7946)",
            content="application/geo+json",
        ),
        "/api/v1/stream": _read(
            "events as Server-Sent Events; `id` is `epoch:seq`, `prev` the number before it",
            _in("query", "epoch", "of the snapshot"),
            _in("query", "after", "the snapshot's seq"),
            _in("header", "Last-Event-ID", "`epoch:seq`; wins over the query"),
            content="text/event-stream",
        ),
        "/api/v1/checks/{ref}": _read(
            "one check by short form (the newest) or whole id", _in("path", "ref", "C7F3")
        ),
        "/api/v1/alarms/{id}/ack": _act("acknowledge"),
        "/api/v1/alarms/{id}/close": _act("close"),
        "/api/v1/alarms/{id}/shelve": _act("put aside for some minutes", _SHELVE),
        "/api/v1/alarms/{id}/unshelve": _act("take back before its time"),
        "/api/v1/alarms/{id}/mistake": _act("note that it was pressed by mistake"),
        "/api/v1/units/{id}/message": _act(
            "write to whoever holds this radio now",
            {"text": {"type": "string", "description": "what the officer reads"}},
            of="the unit's call-sign, if it alone has it, or its ISSI",
            answer="where the message stands",
        ),
        "/api/v1/units/{id}/locate": _act(
            "ask this unit's radio where it is; it answers by itself, with a position",
            of="the unit's call-sign, if it alone has it, or its ISSI",
            answer="it is on record and on its way",
        ),
        "/api/v1/checks": {
            "post": _without_id(
                _act(
                    "key a check for an officer who asked by voice",
                    _CHECK,
                    needs=("requester", "text"),
                    answer="it is on record: its reference, or why it was refused",
                )
            )
        },
        "/api/v1/checks/{ref}/answer": _read(
            "what came of it, for who asked; put on record first", _in("path", "ref", "C7F3")
        ),
        "/api/v1/releases": _read("the answers that wait for release, the oldest first"),
        "/api/v1/releases/{id}": {
            **_read(
                "what it says, at each level it can be released at; put on record first",
                _in("path", "id", "short form or whole id of the check"),
            ),
            **_act(
                "release, amend downwards, or refuse",
                _RELEASE,
                needs=("act",),
                of="short form or whole id of the check",
                answer="what became of it",
            ),
        },
        "/api/v1/challenges": _read(
            "the challenged checks that wait for a supervisor, with what their officers wrote"
        ),
        "/api/v1/challenges/{id}/review": _act(
            "look at what was said; off the list",
            _REVIEW,
            needs=("enough",),
            of="short form or whole id of the check",
            answer="what became of it",
        ),
        "/api/v1/export": _export(),
        "/api/v1/audit/receipts/{receipt}": _read(
            "what a receipt proves, for auditors; itself put on record first",
            _in("path", "receipt", "4F2A-91KQ"),
            _in("query", "purpose", f"one of {', '.join(PURPOSES)}", True),
        ),
        "/api/v1/time": _read("the gateway's clock, seconds since the epoch"),
        "/api/openapi.json": _read("this"),
        "/metrics": _read("figures for Prometheus", content="text/plain"),
        "/healthz": _read("whether the process turns"),
        "/readyz": _read("what is up and what is not; 503 when checks cannot be answered"),
    }
