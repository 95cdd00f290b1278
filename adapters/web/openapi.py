"""The API's description for machines, one entry per route."""

from __future__ import annotations

from typing import Any

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
    """more: members of the body besides `by`. needs: those that must be there; left out, all."""
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
                            "required": ["by", *(more if needs is None else needs)],
                            "additionalProperties": False,
                            "properties": {
                                "by": {
                                    "type": "string",
                                    "minLength": 1,
                                    "maxLength": 40,
                                    "description": "who acts, until log-in exists",
                                },
                                **more,
                            },
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


def _export() -> dict[str, Any]:
    """Put an export of the audit on record (the command line asks for it)."""
    members = {
        "by": {"type": "string"},
        "purpose": {"enum": list(PURPOSES)},
        "receipt": {"type": "string", "description": "when it is of one check alone"},
    }
    schema = {"type": "object", "required": ["by", "purpose"], "properties": members}
    return {
        "post": {
            "summary": "put an export of the audit on record",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema}},
            },
            "responses": {
                "200": {"description": "the instance whose log it is", **_JSON},
                "400": _PROBLEM,
                "503": _PROBLEM,
            },
        }
    }


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of everything this server answers."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "radio gateway", "version": version},
        "paths": {
            "/": _read("the control-room page", content="text/html"),
            "/page.js": _read("its script", content="text/javascript"),
            "/page.css": _read("its style", content="text/css"),
            "/api/v1/snapshot": _read(
                "the whole picture, with the number the stream goes on after"
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
                "what came of it, for who asked; put on record first",
                _in("path", "ref", "C7F3"),
                _in("query", "by", "who asked, until log-in exists", True),
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
        },
    }
