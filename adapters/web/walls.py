"""What every request must pass and every answer must carry.

Only loopback names in Host (a page elsewhere cannot reach us by rebinding its name), only our own
page may change anything, every error is a plain `application/problem+json`, and the headers of the
reliability reference, 9, stand on every answer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from adapters.web import shapes
from adapters.web.doors import WAY_OUT_S, Doorway
from adapters.web.requests import Unclear
from gateway.errors import LedgerUnavailable
from gateway.settings import HttpSection

BODY_LIMIT = 64 * 1024
NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PROBLEM = "application/problem+json"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
    "Cache-Control": "no-store",
}

CONTINUE = "100-continue"

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("adapters.web")


class Problem(Exception):
    """An answer that says no: status and plain words that are shown as they are."""

    def __init__(self, status: int, title: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title


def answer(body: object, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=shapes.encode(body), status=status, content_type=content_type)


def problem(status: int, title: str) -> web.Response:
    """RFC 9457; `instance` is a fresh id that the log line of this error carries as well."""
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "instance": secrets.token_hex(6),
    }
    return answer(body, status, PROBLEM)


def gated(handle: Answering) -> Answering:
    """Before the routes: aiohttp answers an Expect by itself, outside these walls, quoting it, and
    fails on one that is no text. Nobody needs any but 100-continue."""

    async def gate(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", CONTINUE).lower() == CONTINUE:
            return await handle(request)
        refusal = problem(417, "send no Expect but 100-continue")
        await dress(request, refusal)
        return refusal

    return gate


async def dress(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """on_response_prepare: security headers on, version headers off."""
    response.headers.update(HEADERS)
    response.headers["Server"] = "gateway"


def build(settings: HttpSection) -> Middleware:
    """The one middleware."""
    request_s = settings.body_deadline_s + WAY_OUT_S

    @web.middleware
    async def walls(request: web.Request, handler: Handler) -> web.StreamResponse:
        doorway = request.protocol
        if isinstance(doorway, Doorway):
            doorway.within(request_s)
            if not request.body_exists:
                doorway.asked()
        try:
            _check_host(request)
            if request.method not in ("GET", "HEAD"):
                _check_origin(request)
            return await handler(request)
        except Problem as error:
            return problem(error.status, error.title)
        except Unclear as error:
            return problem(400, str(error))
        except web.HTTPException as error:
            return problem(error.status, HTTPStatus(error.status).phrase)
        except LedgerUnavailable:
            return problem(503, "cannot record this now: nothing was changed")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the last wall: say no more than that it failed
            refusal = problem(500, "internal error")
            _log.exception("request failed")
            return refusal
        finally:
            if isinstance(doorway, Doorway) and not request.task.cancelling():
                doorway.within(WAY_OUT_S + settings.header_deadline_s)
                doorway.answered()

    return walls


def _host(authority: str) -> str | None:
    if "@" in authority:
        return None
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:
        return None


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def _check_host(request: web.Request) -> None:
    if _host(request.headers.get("Host", "")) not in NAMES:
        raise Problem(421, "not the host you asked for")


def _check_origin(request: web.Request) -> None:
    """A change comes from our own page or from a program, never from another site's page."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "not from this site")
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) != request.headers.get("Host", ""):
        raise Problem(403, "not from this site")
